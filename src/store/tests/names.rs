//! W6: whatever a loss of power leaves of the names that were not synced, the next start finds
//! everything that was acknowledged, and no damage.
//!
//! Enumerated, not drawn: at every instant of a life that makes, fills, compacts and removes
//! segments, and of the start after it, every subset of the changes of names that are open then
//! (every prefix is one of them). Source of the idea: Pillai et al., "All File Systems Are Not
//! Created Equal", OSDI 2014.

use std::collections::BTreeMap;

use super::disk::MemoryDisk;
use super::node::{Node, config};
use crate::hash::Key;
use crate::store::LogConfig;

const SEGMENT_BYTES: u64 = 4096;
const PUTS: usize = 60;
const KEYS: usize = 7;

/// For each key the value that it must have, and the one that it may have instead.
type Written = BTreeMap<Key, [Option<Vec<u8>>; 2]>;

fn shape() -> LogConfig {
    config(2, SEGMENT_BYTES)
}

/// Two lives on one disk; `look` sees the disk after each operation of it.
fn live(disk: MemoryDisk, look: &mut dyn FnMut(&MemoryDisk, &Written)) {
    let mut written = Written::new();
    let mut disk = disk;
    for epoch in 0..2 {
        let mut node = Node::begin(shape(), disk, epoch);
        while node.turn() {
            look(&node.disk, &written);
        }
        for number in 0..PUTS {
            let key = Key::plain(format!("key {}", number % KEYS));
            let value = format!("value {epoch} {number} ").repeat(20).into_bytes();
            let shard = node.shard_of(&key);
            let seq = node.put(&key, Some(&value));
            written.entry(key.clone()).or_default()[1] = Some(value.clone());
            node.now.mono = node.now.mono.plus_ms(20);
            while node.turn() {
                if node.durable[shard] >= seq {
                    written.insert(key.clone(), [Some(value.clone()), Some(value.clone())]);
                }
                look(&node.disk, &written);
            }
        }
        assert_eq!(node.fatal, None);
        disk = node.disk;
    }
}

/// What is wrong with a start on this disk.
fn wrong(disk: MemoryDisk, written: &Written) -> Option<String> {
    let names = disk.file_names();
    let mut node = Node::start(shape(), disk, 9);
    if node.fatal.is_some() || !node.damage.is_none() {
        return Some(format!("{names:?}: {:?} {:?}", node.fatal, node.damage));
    }
    written.iter().find_map(|(key, values)| {
        let found = node.value(key);
        let is_right = found.as_ref().is_ok_and(|found| values.contains(found));
        (!is_right).then(|| format!("{names:?}: {key:?} is {found:?}"))
    })
}

/// Number of disks that a loss of power can leave, and what is wrong with the first bad one.
fn enumerate(disk: MemoryDisk) -> (usize, Option<String>) {
    let (mut count, mut first) = (0, None);
    live(disk, &mut |disk, written| {
        if disk.has_unsynced_names() && first.is_none() {
            for left in disk.after_every_loss_of_power() {
                count += 1;
                first = first.take().or_else(|| wrong(left, written));
            }
        }
    });
    (count, first)
}

#[test]
fn every_subset_of_unsynced_names_is_a_start_without_loss() {
    let (count, wrong) = enumerate(MemoryDisk::default());
    assert_eq!(wrong, None);
    assert!(count > 1_000, "{count} disks");
}

/// The process dies at any instant, the next one puts the directory right, and then the power goes:
/// the names that the first one had not synced may be taken back together with what the second did.
#[test]
fn a_start_among_unsynced_names_may_lose_power_at_any_step() {
    let (mut count, mut first) = (0, None);
    live(MemoryDisk::default(), &mut |disk, written| {
        if !disk.has_unsynced_names() || first.is_some() {
            return;
        }
        let mut killed = disk.clone();
        killed.forget_submitted();
        let mut node = Node::begin(shape(), killed, 8);
        let mut names = node.disk.file_names();
        while node.turn() && node.stores.is_empty() {
            let before = std::mem::replace(&mut names, node.disk.file_names());
            if before == names {
                continue;
            }
            for left in node.disk.after_every_loss_of_power().into_iter().step_by(3) {
                count += 1;
                first = first.take().or_else(|| wrong(left, written));
            }
        }
    });
    assert_eq!(first, None);
    assert!(count > 1_000, "{count} disks");
}

/// The enumeration sees what a missing sync of the directory does.
#[test]
fn a_disk_that_forgets_synced_names_is_found() {
    let mut disk = MemoryDisk::default();
    disk.lies_of_names = true;
    let (_, wrong) = enumerate(disk);
    assert!(wrong.is_some());
}
