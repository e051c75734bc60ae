//! Every byte of a small log is cut, flipped and swapped. What was acknowledged is recovered, or
//! the damage is reported and answered as Unknown; a batch is never half there; what is written
//! after that survives the next start.

use std::collections::BTreeMap;

use super::disk::MemoryDisk;
use super::node::{Node, config, partition_of};
use crate::hash::Key;
use crate::shard::Seq;
use crate::store::FileName;

const SEGMENT_BYTES: u64 = 4096;

type State = BTreeMap<&'static str, Option<&'static str>>;

fn key(name: &'static str) -> Key {
    Key::plain(name)
}

/// The batch: three keys of at least two partitions.
const BATCH: [&str; 3] = ["b1", "b2", "b3"];

/// A log that holds a bit of everything, all of it acknowledged, and what it says.
fn small_log() -> (MemoryDisk, State) {
    let mut node = Node::start(config(2, SEGMENT_BYTES), MemoryDisk::default(), 0);
    let mut state = State::new();
    let mut put = |node: &mut Node, name: &'static str, value: Option<&'static str>| {
        node.put(&key(name), value.map(str::as_bytes));
        node.settle();
        state.insert(name, value);
    };
    put(&mut node, "a", Some("one"));
    put(&mut node, "gone", Some("not for long"));
    put(&mut node, "a", Some("two"));
    for name in BATCH {
        put(&mut node, name, Some("old"));
    }
    node.put_control(Seq(1), 3, b"epoch 1");
    node.settle();
    put(&mut node, "gone", None);
    let items: Vec<_> = BATCH.iter().map(|name| (key(name), Some(b"new".to_vec()))).collect();
    node.put_all(1, &items);
    node.settle();
    state.extend(BATCH.map(|name| (name, Some("new"))));
    node.put(&key("last"), Some(b"word"));
    state.insert("last", Some("word"));
    node.settle();
    node.pass(11);
    let partitions: std::collections::BTreeSet<_> =
        BATCH.iter().map(|name| partition_of(&key(name))).collect();
    assert!(partitions.len() >= 2, "the batch spans partitions");
    (node.disk, state)
}

/// Whether a value of the batch that is known is old while another is new.
fn is_torn(node: &mut Node) -> bool {
    let values: Vec<_> = BATCH.iter().filter_map(|name| node.value(&key(name)).ok()).collect();
    let is = |value: &str| values.iter().any(|known| known.as_deref() == Some(value.as_bytes()));
    is("old") && is("new")
}

/// Recovers a damaged log and checks it. Returns whether damage was reported.
fn check(disk: MemoryDisk, expected: &State, what: &str) -> (bool, bool) {
    let mut node = Node::start(config(2, SEGMENT_BYTES), disk, 1);
    assert_eq!(node.fatal, None, "{what}");
    let damage = node.damage.clone();
    for (name, value) in expected {
        match node.value(&key(name)) {
            Ok(found) => {
                let same = found.as_deref() == value.map(str::as_bytes);
                assert!(same || damage.unnamed, "{what}: {name} is {found:?}");
            }
            Err(()) => assert!(!damage.is_none(), "{what}: {name} is unknown, nothing reported"),
        }
    }
    let control = node.control.get(&3).is_some_and(|body| *body == b"epoch 1"[..]);
    assert!(control || damage.slots == [3] || damage.unnamed, "{what}: a control record is lost");
    assert!(damage.unnamed || !is_torn(&mut node), "{what}: half a batch");

    node.put(&key("later"), Some(b"1"));
    node.put(&key("a"), Some(b"three"));
    node.settle();
    let mut node = node.restart();
    assert_eq!(node.fatal, None, "{what}");
    assert_eq!(node.value(&key("later")), Ok(Some(b"1".to_vec())), "{what}");
    assert_eq!(node.value(&key("a")), Ok(Some(b"three".to_vec())), "{what}");
    for name in ["gone", "last"] {
        let same = node
            .value(&key(name))
            .ok()
            .map(|found| found.as_deref() == expected[name].map(str::as_bytes));
        assert!(same != Some(false) || node.damage.unnamed, "{what}: {name} after a restart");
    }
    assert!(node.damage.unnamed || !is_torn(&mut node), "{what}: half a batch after a restart");
    assert!(node.damage.unnamed || !damage.unnamed, "{what}: damage is forgotten");
    (!damage.is_none(), damage.unnamed)
}

/// Every offset of every file; of the zeros that nothing was written to, some.
fn offsets(disk: &MemoryDisk) -> Vec<(FileName, usize)> {
    let mut offsets = Vec::new();
    for name in disk.file_names() {
        let bytes = disk.bytes(name);
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let near = bytes.len().min(used + 100);
        offsets.extend((0..near).chain((near..bytes.len()).step_by(61)).map(|at| (name, at)));
    }
    offsets
}

#[test]
fn wal_every_offset_flipped() {
    let (disk, state) = small_log();
    assert_eq!(check(disk.clone(), &state, "untouched"), (false, false));
    let mut reported = 0;
    for (name, offset) in offsets(&disk) {
        for bits in [0x01, 0x80] {
            let mut disk = disk.clone();
            disk.damage(name, |bytes| bytes[offset] ^= bits);
            let what = format!("{name}, byte {offset} ^ {bits:#x}");
            let (found, unnamed) = check(disk, &state, &what);
            assert!(!unnamed, "{what}: one record is always named by its Commit");
            reported += usize::from(found);
        }
    }
    assert!(reported > 1_000, "damage was reported {reported} times");
}

#[test]
fn wal_every_offset_swapped() {
    let (disk, state) = small_log();
    for (name, offset) in offsets(&disk) {
        let mut disk = disk.clone();
        disk.damage(name, |bytes| {
            let other = (offset + 1) % bytes.len();
            bytes.swap(offset, other);
        });
        check(disk, &state, &format!("{name}, byte {offset} and the next"));
    }
}

#[test]
fn wal_every_offset_cut() {
    let (disk, state) = small_log();
    for (name, offset) in offsets(&disk) {
        let mut disk = disk.clone();
        disk.damage(name, |bytes| bytes.truncate(offset));
        let what = format!("{name}, cut at {offset}");
        let (reported, _) = check(disk, &state, &what);
        assert!(reported, "{what}");
    }
}

/// A log whose first segments a compaction has rewritten, and what it says.
fn compacted_log() -> (MemoryDisk, BTreeMap<Key, Option<Vec<u8>>>) {
    let mut node = Node::start(config(2, SEGMENT_BYTES), MemoryDisk::default(), 0);
    let mut state = BTreeMap::new();
    node.put_control(Seq(1), 3, b"epoch 1");
    for round in 0..60_u8 {
        let key = Key::plain(format!("key {}", if round < 12 { round } else { round % 5 }));
        let value = if round % 13 == 12 { None } else { Some(vec![round; 90]) };
        node.put(&key, value.as_deref());
        node.settle();
        state.insert(key, value);
    }
    node.pass(11);
    assert!(node.log.status().compactions > 0);
    (node.disk, state)
}

#[test]
fn wal_every_offset_flipped_after_compaction() {
    let (disk, state) = compacted_log();
    let mut unknown = 0;
    for (name, offset) in offsets(&disk) {
        let mut disk = disk.clone();
        disk.damage(name, |bytes| bytes[offset] ^= 0x10);
        let what = format!("{name}, byte {offset}");
        let mut node = Node::start(config(2, SEGMENT_BYTES), disk, 1);
        assert_eq!(node.fatal, None, "{what}");
        assert!(!node.damage.unnamed, "{what}: a Commit names it");
        for (key, value) in &state {
            match node.value(key) {
                Ok(found) => assert_eq!(found, *value, "{what}"),
                Err(()) => unknown += 1,
            }
        }
        let control = node.control.get(&3).is_some_and(|body| *body == b"epoch 1"[..]);
        assert!(control || node.damage.slots == [3], "{what}: a control record is lost");
    }
    assert!(unknown > 500, "{unknown} damaged records were live");
}

/// A loss of power in the middle of a write leaves any part of the last group, and nothing of it
/// was acknowledged: it is there as a whole, or not at all, and nothing is called damaged.
#[test]
fn wal_every_offset_torn() {
    let (disk, state) = small_log();
    let segment = FileName::Segment(1);
    let mut node = Node::start(config(2, SEGMENT_BYTES), disk.clone(), 1);
    let before = node.disk.bytes(segment).to_vec();
    let items: Vec<_> = BATCH.iter().map(|name| (key(name), Some(b"newest".to_vec()))).collect();
    node.put_all(2, &items);
    node.settle();
    let after = node.disk.bytes(segment).to_vec();
    let changed: Vec<usize> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
    let (first, last) = (changed[0], changed[changed.len() - 1]);
    let check_torn = |bytes: Vec<u8>, what: &str| {
        let mut disk = disk.clone();
        disk.damage(segment, |all| *all = bytes);
        let mut node = Node::start(config(2, SEGMENT_BYTES), disk.clone(), 2);
        assert!(node.damage.is_none(), "{what}: {:?}", node.damage);
        let values = BATCH.map(|name| node.value(&key(name)).unwrap().unwrap());
        assert!(values.iter().all(|value| *value == values[0]), "{what}: half a batch");
        if values[0] == b"new" {
            check(disk, &state, what);
        }
    };
    for cut in first..=last {
        let head: Vec<u8> = after[..cut].iter().chain(&before[cut..]).copied().collect();
        check_torn(head, &format!("only the head up to {cut}"));
        let tail: Vec<u8> = before[..cut].iter().chain(&after[cut..]).copied().collect();
        check_torn(tail, &format!("only the tail from {cut}"));
        let mut hole = after.clone();
        hole[cut] ^= 0x40;
        check_torn(hole, &format!("a hole at {cut}"));
    }
}
