//! Stories of compaction that random runs hardly ever tell.

use super::disk::MemoryDisk;
use super::node::{Node, config, partition_of};
use crate::hash::Key;
use crate::shard::{Lookup, Table as _};
use crate::store::{DiskOp, FileName};

const SEGMENT_BYTES: u64 = 4096;

fn filler(number: usize) -> Key {
    Key::plain(format!("filler {}", number % 3))
}

/// Writes until so many segments were compacted.
fn churn(node: &mut Node, compactions: u64) {
    for number in 0..1_000 {
        if node.log.status().compactions >= compactions {
            return;
        }
        node.put(&filler(number), Some(&[7; 150]));
        node.settle();
    }
    panic!("nothing is compacted: {:?}", node.log.status());
}

/// A record may go only when what replaced it is durable. Here the new one waits behind a batch
/// whose other part never comes, the compaction goes by, and then the process dies.
#[test]
fn a_record_stays_until_what_replaced_it_is_durable() {
    let mut node = Node::start(config(2, SEGMENT_BYTES), MemoryDisk::default(), 0);
    let of_shard = |shard: u16| {
        let mut keys = (0..).map(|number| Key::plain(format!("key {number}")));
        keys.find(|key| partition_of(key).0 % 2 == shard).unwrap()
    };
    let (kept, other) = (of_shard(0), of_shard(1));
    node.put(&kept, Some(b"acknowledged"));
    // The rest of the first segment dies, so that it is worth a compaction.
    for number in 0..40 {
        node.put(&other, Some(&[number; 150]));
        node.settle();
        if node.log.status().segments > 2 {
            break;
        }
    }
    let waiting = node.record(&filler(0), Some(b"half a batch"));
    node.put_part(0, vec![waiting], Some((1, 2)));
    let replacement = node.record(&kept, Some(b"never acknowledged"));
    node.put_part(0, vec![replacement], None);
    for number in 0..200 {
        node.put(&other, Some(&[number; 150]));
        node.settle();
    }
    assert_eq!(node.value(&kept), Ok(Some(b"never acknowledged".to_vec())));
    let mut node = node.crash(true);
    assert!(node.damage.is_none());
    assert_eq!(node.value(&kept), Ok(Some(b"acknowledged".to_vec())));
}

#[test]
fn a_segment_stays_while_a_read_is_under_way_in_it() {
    let mut settings = config(1, SEGMENT_BYTES);
    settings.cache_bytes = 0;
    let mut node = Node::start(settings, MemoryDisk::default(), 0);
    let key = Key::plain("read slowly");
    node.put(&key, Some(b"a value"));
    node.settle();
    for _ in 0..2 {
        // Records that were just written are not held for long.
        node.stores[0].take_batch();
    }
    assert_eq!(node.stores[0].get(&key).0, Lookup::Cold);
    let read = node.stores[0].take_reads()[0];
    let compacted = |node: &Node| node.log.status().compactions;
    for number in 0..100 {
        node.put(&filler(number), Some(&[7; 150]));
        node.settle();
    }
    assert_eq!(compacted(&node), 0, "the first segment is waited for");
    assert!(node.disk.file_names().contains(&read.file));
    let op = DiskOp::Read { file: read.file, offset: read.offset, length: read.length };
    let result = node.disk.perform(op);
    assert_eq!(node.stores[0].on_read(read.id, result), Some(key.token));
    node.settle();
    assert!(compacted(&node) > 0);
    assert!(!node.disk.file_names().contains(&read.file), "it is gone now");
    assert_eq!(node.value(&key), Ok(Some(b"a value".to_vec())));
}

/// A sync of the log waits for what lies before it in the device: a segment that was written as a
/// whole and synced at its end would hold up every writer.
#[test]
fn a_new_segment_is_synced_while_it_is_written() {
    const LONG_SEGMENT_BYTES: u64 = 2 * 1024 * 1024;
    let mut node = Node::start(config(1, LONG_SEGMENT_BYTES), MemoryDisk::default(), 0);
    let mut most = 0;
    for number in 0..5_000 {
        let key = Key::plain(format!("key {}", if number % 2 == 0 { number } else { 1 }));
        node.put(&key, Some(&[7; 1_000]));
        if number % 100 == 0 {
            while node.turn() {
                let is_new = |file| matches!(file, FileName::Prepared(_));
                most = most.max(node.disk.unsynced_bytes(is_new));
            }
        }
    }
    let status = node.log.status();
    assert!(status.moved_bytes > 1024 * 1024, "{status:?}");
    assert!((128 * 1024..320 * 1024).contains(&most), "{most}");
}

#[test]
fn small_cold_segments_are_merged() {
    let mut node = Node::start(config(1, SEGMENT_BYTES), MemoryDisk::default(), 0);
    let mut rare = Vec::new();
    for number in 0..60 {
        let key = Key::plain(format!("rare {number}"));
        node.put(&key, Some(&[1; 20]));
        rare.push(key);
        let compactions = node.log.status().compactions;
        churn(&mut node, compactions + 1);
    }
    node.pass(20);
    let status = node.log.status();
    assert!(status.segments < 14, "{status:?}");
    let mut node = node.restart();
    for key in rare {
        assert_eq!(node.value(&key), Ok(Some(vec![1; 20])));
    }
}

/// Records longer than what a compaction reads at once, and others that lie across its borders.
#[test]
fn long_records_are_moved_too() {
    let mut settings = config(2, 4 * 1024 * 1024);
    settings.cache_bytes = 0;
    let mut node = Node::start(settings, MemoryDisk::default(), 0);
    let mut kept = Vec::new();
    for number in 0..24_u8 {
        let length = if number % 7 == 0 { 2_500_000 } else { 300_001 };
        let key = Key::plain(format!("kept {number}"));
        node.put(&key, Some(&vec![number; length]));
        kept.push((key, vec![number; length]));
        node.put(&filler(0), Some(&vec![0; 700_000]));
        node.settle();
    }
    for number in 0..20 {
        node.put(&filler(number), Some(&vec![0; 700_000]));
        node.settle();
    }
    assert!(node.log.status().compactions > 0, "{:?}", node.log.status());
    let mut node = node.restart();
    assert!(node.damage.is_none());
    for (key, value) in kept {
        assert!(node.value(&key) == Ok(Some(value)), "{key:?}");
    }
}

#[test]
fn whatever_of_a_record_is_damaged_its_segment_is_left_alone() {
    for offset in 0..120 {
        let mut node = Node::start(config(1, SEGMENT_BYTES), MemoryDisk::default(), 0);
        node.put(&Key::plain("damaged"), Some(b"some value"));
        node.settle();
        node.disk.damage(FileName::Segment(1), |bytes| bytes[64 + offset] ^= 0x41);
        churn(&mut node, 2);
        assert!(node.disk.file_names().contains(&FileName::Segment(1)), "byte {offset}");
        assert_eq!(node.fatal, None);
    }
}

#[test]
fn a_damaged_segment_is_left_alone_and_everything_else_goes_on() {
    let mut settings = config(1, SEGMENT_BYTES);
    settings.cache_bytes = 0;
    let mut node = Node::start(settings, MemoryDisk::default(), 0);
    node.put(&Key::plain("lost"), Some(b"this will be damaged"));
    node.put(&Key::plain("fine"), Some(b"this will not"));
    node.settle();
    let first = FileName::Segment(1);
    let at = node.disk.bytes(first).windows(4).position(|bytes| bytes == b"this").unwrap();
    node.disk.damage(first, |bytes| bytes[at] = b'T');
    churn(&mut node, 3);
    assert!(node.disk.file_names().contains(&first));
    assert_eq!(node.notices.len(), 1, "{:?}", node.notices);
    assert!(node.notices[0].contains("00000001.seg"));
    assert_eq!(node.value(&Key::plain("lost")), Err(()));
    assert_eq!(node.value(&Key::plain("fine")), Ok(Some(b"this will not".to_vec())));
    let mut node = node.restart();
    assert_eq!(node.value(&Key::plain("lost")), Err(()));
    assert_eq!(node.value(&Key::plain("fine")), Ok(Some(b"this will not".to_vec())));
}

#[test]
fn a_table_says_when_its_memory_budget_is_used_up_and_when_it_is_not_any_more() {
    let mut settings = config(1, SEGMENT_BYTES);
    settings.cache_bytes = 0;
    settings.memory_bytes = 28 * 100;
    let mut node = Node::start(settings, MemoryDisk::default(), 0);
    let key = |number: usize| Key::plain(format!("key {number}"));
    for number in 0..101 {
        assert!(!node.stores[0].is_out_of_memory(), "{number} keys");
        node.put(&key(number), Some(b"value"));
        node.settle();
    }
    assert!(node.stores[0].is_out_of_memory());
    assert_eq!(node.value(&key(0)), Ok(Some(b"value".to_vec())));
    node.put(&key(0), None);
    node.settle();
    assert!(!node.stores[0].is_out_of_memory());
}
