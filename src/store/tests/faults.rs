//! What the store does when the disk fails, fills up, or holds something that is not its own.

use std::collections::BTreeMap;

use super::disk::MemoryDisk;
use super::node::{Node, config};
use crate::causality::{Dot, NodeId};
use crate::hash::Key;
use crate::shard::{Lookup, Seq, Table as _};
use crate::store::{DiskDone, DiskError, FileName, LogError};

const SEGMENT_BYTES: u64 = 4096;

fn key(number: usize) -> Key {
    Key::plain(format!("key {number}"))
}

/// Puts until one is not acknowledged or `count` are. Returns for each key the value that it must
/// have, and the one that it may have instead.
fn write(node: &mut Node, count: usize) -> BTreeMap<Key, [Option<Vec<u8>>; 2]> {
    let mut written: BTreeMap<Key, [Option<Vec<u8>>; 2]> = BTreeMap::new();
    for number in 0..count {
        let key = key(number % 20);
        let value = format!("value {number}").repeat(10).into_bytes();
        let shard = node.shard_of(&key);
        let seq = node.put(&key, Some(&value));
        node.settle();
        let values = written.entry(key).or_default();
        if node.durable[shard] < seq {
            values[1] = Some(value);
            break;
        }
        *values = [Some(value.clone()), Some(value)];
    }
    written
}

#[test]
fn after_any_failed_operation_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let mut failures = 0;
    for nth in 0..400 {
        let disk = MemoryDisk::failing(nth, DiskError::Failed("input/output error".to_owned()));
        let mut node = Node::start(config(2, SEGMENT_BYTES), disk, 0);
        let written = if node.fatal.is_none() { write(&mut node, 90) } else { BTreeMap::new() };
        if node.fatal.is_some() {
            failures += 1;
            // The process goes on for a while all the same: nothing more may come of it.
            let durable = node.durable.clone();
            if !node.stores.is_empty() {
                write(&mut node, 3);
            }
            assert_eq!(node.durable, durable, "operation {nth}");
            assert!(node.log.is_idle());
        }
        node.disk.mend();
        let mut node = node.crash(true);
        assert_eq!(node.fatal, None, "operation {nth}");
        assert!(node.damage.is_none(), "operation {nth}: {:?}", node.damage);
        for (key, values) in written {
            let found = node.value(&key).unwrap();
            assert!(values.contains(&found), "operation {nth}: {key:?} is {found:?}");
        }
    }
    assert!(failures > 300, "{failures} operations failed");
}

#[test]
fn no_room_for_a_new_file_stops_nothing() {
    for nth in 1..40 {
        let disk = MemoryDisk::failing(nth, DiskError::Full);
        let mut node = Node::start(config(1, SEGMENT_BYTES), disk, 0);
        let mut acknowledged = BTreeMap::new();
        for round in 0..60 {
            let key = key(round % 7);
            let value = vec![u8::try_from(round).unwrap(); 300];
            let seq = node.put(&key, Some(&value));
            node.settle();
            if node.durable[0] < seq {
                // Without a segment it waits; another try comes by itself.
                node.pass(1_001);
            }
            assert_eq!(node.durable[0], seq, "create {nth}, round {round}");
            acknowledged.insert(key, value);
        }
        assert_eq!(node.fatal, None, "create {nth}");
        let mut node = node.restart();
        for (key, value) in acknowledged {
            assert_eq!(node.value(&key), Ok(Some(value)), "create {nth}");
        }
    }
}

#[test]
fn a_full_disk_refuses_values_keeps_reads_and_deletes_and_recovers_by_itself() {
    let disk = MemoryDisk::of_bytes(20 * SEGMENT_BYTES);
    let mut node = Node::start(config(1, SEGMENT_BYTES), disk, 0);
    let value = vec![1; 500];
    let mut stored = Vec::new();
    while !node.stores[0].is_full() {
        let key = key(stored.len());
        node.put(&key, Some(&value));
        node.pass(20);
        stored.push(key);
        assert!(stored.len() < 1_000, "a disk of 20 segments fills up");
    }
    assert!(stored.len() > 80, "{} values fit", stored.len());
    assert_eq!(node.value(&stored[0]), Ok(Some(value.clone())));
    let (gone, kept) = stored.split_at(stored.len() * 2 / 3);
    for key in gone {
        let seq = node.put(key, None);
        node.pass(20);
        // It may have to wait until a compaction has made room for the next segment.
        for _ in 0..3 {
            if node.durable[0] < seq {
                node.pass(1_001);
            }
        }
        assert_eq!(node.durable[0], seq, "deletes go on: {:?}", node.log.status());
    }
    for _ in 0..100 {
        node.pass(1_001);
    }
    assert!(!node.stores[0].is_full(), "compaction made room: {:?}", node.log.status());
    let seq = node.put(&gone[0], Some(&value));
    node.settle();
    assert_eq!(node.durable[0], seq);
    let mut node = node.restart();
    assert_eq!(node.fatal, None);
    assert_eq!(node.value(&gone[0]), Ok(Some(value.clone())));
    assert_eq!(node.value(&gone[1]), Ok(None));
    for key in kept {
        assert_eq!(node.value(key), Ok(Some(value.clone())));
    }
}

#[test]
fn a_disk_too_small_for_one_segment_is_refused() {
    let disk = MemoryDisk::of_bytes(SEGMENT_BYTES - 1);
    let node = Node::start(config(1, SEGMENT_BYTES), disk, 0);
    assert_eq!(node.fatal, Some(LogError::NoRoom { bytes: SEGMENT_BYTES }));
}

#[test]
fn files_of_another_node_and_of_a_newer_format_are_refused_by_name() {
    let mut node = Node::start(config(1, SEGMENT_BYTES), MemoryDisk::default(), 0);
    write(&mut node, 3);
    let disk = node.disk;
    let mut other = config(1, SEGMENT_BYTES);
    other.node = NodeId([8; 16]);
    let refused = Node::start(other.clone(), disk.clone(), 1);
    assert_eq!(refused.fatal, Some(LogError::OtherNode { file: FileName::Manifest }));
    let mut without = disk.clone();
    without.lose_file(FileName::Manifest);
    let refused = Node::start(other, without, 1);
    assert_eq!(refused.fatal, Some(LogError::OtherNode { file: FileName::Segment(1) }));

    for (file, head) in [(FileName::Manifest, None), (FileName::Segment(1), Some(60))] {
        let mut newer = disk.clone();
        newer.damage(file, |bytes| {
            bytes[8] = 2;
            let end = head.unwrap_or(bytes.len() - 4);
            let crc = crc32c::crc32c(&bytes[..end]).to_le_bytes();
            bytes[end..end + 4].copy_from_slice(&crc);
        });
        let refused = Node::start(config(1, SEGMENT_BYTES), newer, 1);
        let expected = LogError::NewerFormat { file, found: 2, known: 1 };
        assert!(expected.to_string().contains(&file.to_string()));
        assert_eq!(refused.fatal, Some(expected));
    }
}

#[test]
fn lost_files_are_reported() {
    let mut node = Node::start(config(1, SEGMENT_BYTES), MemoryDisk::default(), 0);
    let written = write(&mut node, 15);
    node.settle();
    let disk = node.disk;

    let mut without = disk.clone();
    without.lose_file(FileName::Manifest);
    let mut node = Node::start(config(1, SEGMENT_BYTES), without, 1);
    assert_eq!(node.damage.regions.len(), 1);
    assert!(!node.damage.unnamed, "every segment is there");
    for (key, [value, _]) in &written {
        assert_eq!(node.value(key), Ok(value.clone()));
    }

    let mut without = disk;
    without.lose_file(FileName::Segment(1));
    let node = Node::start(config(1, SEGMENT_BYTES), without, 1);
    assert!(node.damage.unnamed);
}

/// A delete whose writer is there and what it deleted is damaged: nothing else says that this is
/// gone, and another replica that has it would bring it back. Found by seed 566 of the random
/// simulations.
#[test]
fn a_delete_is_remembered_with_what_it_took_away() {
    let mut node = Node::start(config(1, SEGMENT_BYTES), MemoryDisk::default(), 0);
    node.put(&key(1), Some(b"deleted, and then damaged"));
    node.settle();
    let mut delete = node.record(&key(1), None);
    let partition = delete.partition;
    let [deleting] = delete.dots[..] else { panic!("a record has one dot") };
    let deleted = Dot { seq: deleting.seq - 1, ..deleting };
    delete.removed = vec![deleted];
    node.put_records(vec![delete]);
    node.settle();
    let mut disk = node.disk;
    disk.damage(FileName::Segment(1), |bytes| {
        let value = b"deleted, and then damaged";
        let at = bytes.windows(value.len()).position(|found| found == value).unwrap();
        bytes[at] ^= 1;
    });
    let node = Node::start(config(1, SEGMENT_BYTES), disk, 1);
    assert_eq!(node.damage.regions.len(), 1);
    assert!(node.clocks[&partition].contains(deleting));
    assert!(node.clocks[&partition].contains(deleted), "{:?}", node.clocks);
}

#[test]
fn a_record_that_goes_bad_while_the_node_runs_is_unknown_until_it_is_put_again() {
    let mut settings = config(1, SEGMENT_BYTES);
    settings.cache_bytes = 0;
    let mut node = Node::start(settings, MemoryDisk::default(), 0);
    node.put(&key(1), Some(b"a value that will rot"));
    node.put(&key(2), Some(b"another"));
    node.settle();
    node.stores[0].take_batch();
    let bytes = node.disk.bytes(FileName::Segment(1));
    let at = bytes.windows(8).position(|window| window == b"will rot").unwrap();
    node.disk.damage(FileName::Segment(1), |bytes| bytes[at] ^= 4);
    assert_eq!(node.value(&key(1)), Err(()));
    assert_eq!(node.value(&key(2)), Ok(Some(b"another".to_vec())));
    assert_eq!(node.stores[0].damaged_reads(), 1);
    node.put(&key(1), Some(b"fresh"));
    assert_eq!(node.value(&key(1)), Ok(Some(b"fresh".to_vec())));
    node.pass(11);
    let mut node = node.restart();
    assert_eq!(node.damage.regions.len(), 1, "the old record is damaged, and replaced");
    assert!(node.damage.keys.is_empty());
    assert_eq!(node.value(&key(1)), Ok(Some(b"fresh".to_vec())));
}

/// Seed 2548: a reading failed, the next one had a wrong bit, and what the disk held whole was
/// replaced by what another node had.
#[test]
fn a_record_that_was_misread_several_times_in_a_row_is_not_damaged() {
    let mut settings = config(1, SEGMENT_BYTES);
    settings.cache_bytes = 0;
    let mut node = Node::start(settings, MemoryDisk::default(), 0);
    node.put(&key(1), Some(b"whole on the disk"));
    node.settle();
    for _ in 0..2 {
        node.stores[0].take_batch();
    }
    assert_eq!(node.stores[0].get(&key(1)).0, Lookup::Cold);
    let failed = || Err(DiskError::Failed("input/output error".to_owned()));
    let flipped = || Ok(DiskDone::Bytes(vec![7; 120].into()));
    for misread in [failed(), flipped(), failed()] {
        let reads = node.stores[0].take_reads();
        assert_eq!(reads.len(), 1);
        assert_eq!(node.stores[0].on_read(reads[0].id, misread), None, "it is read again");
    }
    node.fetch(0);
    assert_eq!(node.value(&key(1)), Ok(Some(b"whole on the disk".to_vec())));
    assert_eq!(node.stores[0].damaged_reads(), 0);
}

#[test]
fn a_batch_longer_than_a_segment_gets_one_of_its_own() {
    let mut node = Node::start(config(2, SEGMENT_BYTES), MemoryDisk::default(), 0);
    node.put(&key(0), Some(b"small"));
    node.settle();
    let items: Vec<_> = (1..6).map(|number| (key(number), Some(vec![9; 5_000]))).collect();
    let parts = node.put_all(1, &items);
    node.settle();
    for (shard, seq) in parts {
        assert_eq!(node.durable[shard], seq);
    }
    node.put(&key(6), Some(b"small too"));
    node.settle();
    let mut node = node.restart();
    assert!(node.damage.is_none());
    for (key, value) in items {
        assert_eq!(node.value(&key), Ok(value));
    }
    assert_eq!(node.value(&key(6)), Ok(Some(b"small too".to_vec())));
}

#[test]
fn a_batch_that_spans_shards_waits_for_all_its_parts() {
    let mut node = Node::start(config(2, SEGMENT_BYTES), MemoryDisk::default(), 0);
    let shard_keys = |shard: usize| {
        let keys = (0..).map(key);
        keys.filter(move |key| usize::from(super::node::partition_of(key).0 % 2) == shard)
    };
    let (one, other) = (shard_keys(0).next().unwrap(), shard_keys(1).next().unwrap());
    let record = node.record(&one, Some(b"1"));
    let first = node.put_part(0, vec![record], Some((5, 2)));
    node.settle();
    assert_eq!(node.durable[0], Seq(0), "a part alone is not written");
    let record = node.record(&other, Some(b"2"));
    let second = node.put_part(1, vec![record], Some((5, 2)));
    node.settle();
    assert_eq!((node.durable[0], node.durable[1]), (first, second));
    let groups = node.log.status().groups;
    assert_eq!(groups, 1, "both parts went in one group");
}

#[test]
fn keys_that_come_and_go_leave_nothing_behind() {
    let mut node = Node::start(config(1, SEGMENT_BYTES), MemoryDisk::default(), 0);
    // Old records that stay: they must not keep the Forgets of others.
    for number in 0..30 {
        node.put(&Key::plain(format!("old {number}")), Some(&[1; 80]));
    }
    node.settle();
    for number in 0..2_000 {
        let key = Key::plain(format!("visitor {number}"));
        node.put(&key, Some(&[2; 80]));
        node.settle();
        node.put(&key, None);
        node.settle();
    }
    node.pass(100);
    let status = node.log.status();
    assert!(status.file_bytes < 16 * SEGMENT_BYTES, "{status:?}");
    assert_eq!(node.stores[0].keys(), 30);
    let node = node.restart();
    assert_eq!(node.stores[0].keys(), 30);
}

#[test]
fn segments_of_nothing_but_deletes_are_compacted_too() {
    let mut node = Node::start(config(1, SEGMENT_BYTES), MemoryDisk::default(), 0);
    for number in 0..200 {
        node.put(&key(number), Some(&[1; 80]));
        node.settle();
    }
    for number in 0..200 {
        node.put(&key(number), None);
        node.settle();
    }
    for number in 0..60 {
        node.put(&key(1_000 + number % 2), Some(&[2; 80]));
        node.settle();
    }
    let status = node.log.status();
    assert!(status.file_bytes < 8 * SEGMENT_BYTES, "{status:?}");
    assert_eq!(node.restart().stores[0].keys(), 2);
}

#[test]
fn a_failure_while_recovering_ends_the_start_or_costs_nothing() {
    let mut node = Node::start(config(2, SEGMENT_BYTES), MemoryDisk::default(), 0);
    let written = write(&mut node, 60);
    let items: Vec<_> = (30..33).map(|number| (key(number), Some(vec![5; 700]))).collect();
    node.put_all(1, &items);
    node.turn();
    node.disk.lose_power(&mut node.rng);
    let disk = node.disk;
    let (mut refused, mut recovered) = (0, 0);
    for nth in 0..12 {
        let mut disk = disk.clone();
        disk.fail(nth, DiskError::Failed("input/output error".to_owned()));
        let mut node = Node::start(config(2, SEGMENT_BYTES), disk, 1);
        if node.fatal.is_some() {
            refused += 1;
            node.disk.mend();
            node = Node::start(config(2, SEGMENT_BYTES), node.disk, 2);
        } else {
            recovered += 1;
        }
        assert_eq!(node.fatal, None, "operation {nth}");
        assert!(node.damage.is_none(), "operation {nth}: {:?}", node.damage);
        for (key, [value, _]) in &written {
            assert_eq!(node.value(key), Ok(value.clone()), "operation {nth}");
        }
    }
    assert!(refused > 0, "without a list of files nothing can be recovered");
    assert!(recovered > 0, "a segment is read again");
}
