//! What a start cannot know to be missing, it does not claim to have seen, and what the missing had
//! replaced is still there.
//!
//! Two things take the end of a log away without a trace: rot in the last group, which looks like
//! an unfinished write, and a loss of power where acknowledged does not mean synced. Enumerated:
//! after each operation of a life that fills, compacts and removes segments.

use super::disk::MemoryDisk;
use super::node::{Node, config, partition_of};
use crate::causality::Dot;
use crate::config::Durability;
use crate::hash::Key;

const PUTS: usize = 120;
const KEYS: usize = 5;

/// What was put, in order: key, dot, value, and whether it was acknowledged.
type History = Vec<(Key, Dot, Vec<u8>, bool)>;

/// A life of which each put has so many `turns` until the next comes; `look` sees the node after
/// each of them, until it returns something.
fn live(
    durability: Durability,
    turns: usize,
    mut look: impl FnMut(&Node, &History) -> Option<String>,
) -> Option<String> {
    let mut settings = config(2, 4096);
    settings.durability = durability;
    settings.cache_bytes = 0;
    let mut node = Node::start(settings, MemoryDisk::default(), 0);
    let mut history = History::new();
    let mut open = Vec::new();
    for number in 0..PUTS {
        let key = key(number * number);
        // A read under way holds a compaction up while the log goes on.
        node.glance(&key);
        let value = format!("value {number} ").repeat(20).into_bytes();
        let record = node.record(&key, Some(&value));
        let (shard, dot) = (node.shard_of(&key), record.dots[0]);
        open.push((shard, node.put_records(vec![record]), history.len()));
        history.push((key, dot, value, false));
        for _ in 0..turns {
            if !node.turn() {
                break;
            }
            open.retain(|&(shard, seq, index)| {
                history[index].3 = node.durable[shard] >= seq;
                !history[index].3
            });
            if let Some(wrong) = look(&node, &history) {
                return Some(format!("{durability:?}, put {number}: {wrong}"));
            }
        }
        node.now.mono = node.now.mono.plus_ms(2);
    }
    assert!(node.log.status().compactions > 5, "{:?}", node.log.status());
    None
}

/// What is wrong with a start on this disk, on which the newest puts from `kept` on may be missing.
fn wrong(node: &Node, disk: MemoryDisk, history: &History, kept: usize) -> Option<String> {
    let mut node = Node::start(node.config.clone(), disk, 9);
    if !node.damage.is_none() {
        return None;
    }
    (0..KEYS).find_map(|number| {
        let key = key(number);
        let found = node.value(&key).expect("nothing is damaged");
        let clock = node.clocks.get(&partition_of(&key)).cloned().unwrap_or_default();
        let of_key = history.iter().enumerate().rev().filter(|(_, put)| put.0 == key);
        let mut missing = of_key.take_while(|(_, put)| found.as_ref() != Some(&put.2));
        let bad = missing.find(|&(index, put)| clock.contains(put.1) || (put.3 && index < kept))?;
        Some(format!("{key:?} is {found:?}, and {:?} is known or gone", bad.1.1))
    })
}

fn key(number: usize) -> Key {
    Key::plain(format!("key {}", number % KEYS))
}

#[test]
fn what_a_rotten_last_group_took_along_is_not_claimed() {
    let found = live(Durability::Always, usize::MAX, |node, history| {
        let newest = node.log.appends_to()?;
        let last = node.disk.bytes(newest).iter().rposition(|&byte| byte != 0)?;
        let mut disk = node.disk.clone();
        disk.damage(newest, |bytes| bytes[last] ^= 0x10);
        wrong(node, disk, history, history.len() - 1)
    });
    assert_eq!(found, None);
}

#[test]
fn what_was_never_synced_is_not_claimed_after_a_loss_of_power() {
    for durability in [Durability::Interval, Durability::Os] {
        let found = live(durability, 12, |node, history| {
            let mut disk = node.disk.clone();
            disk.lose_everything_unsynced();
            wrong(node, disk, history, 0)
        });
        assert_eq!(found, None);
    }
}
