//! A process ended because a sync failed. The kernel kept the pages and marked them clean, so the
//! next process read a whole group that no disk had, answered from it, and lost it with the power.
//! Found by seed 169 of the random simulations.

use super::disk::MemoryDisk;
use super::node::{Node, config};
use crate::hash::Key;
use crate::store::DiskError;

#[test]
fn what_a_restart_finds_after_a_failed_sync_survives_the_loss_of_power() {
    let (mut failures, mut found_undurable) = (0, 0);
    for nth in 0..200 {
        let disk = MemoryDisk::failing(nth, DiskError::Failed("input/output error".to_owned()));
        let mut node = Node::start(config(1, 64 * 1024), disk, 0);
        let mut durable = 0;
        for number in 0_u8..60 {
            if node.fatal.is_some() {
                break;
            }
            let seq = node.put(&Key::plain(vec![number]), Some(&[number; 1_500]));
            node.settle();
            durable += usize::from(node.durable[0] >= seq);
        }
        failures += usize::from(node.fatal.is_some());
        node.disk.mend();
        let mut node = node.crash(false);
        assert_eq!(node.fatal, None, "operation {nth}");
        node.settle();
        let keys = (0_u8..60).map(|number| Key::plain(vec![number]));
        let found: Vec<Key> = keys.filter(|key| node.value(key) != Ok(None)).collect();
        found_undurable += usize::from(found.len() > durable);
        let mut node = node.crash(true);
        for key in found {
            let value = vec![key.bytes[0]; 1_500];
            assert_eq!(node.value(&key), Ok(Some(value)), "operation {nth}");
        }
    }
    assert!(failures > 50, "{failures} operations failed");
    assert!(found_undurable > 30, "{found_undurable} restarts found more than was acknowledged");
}
