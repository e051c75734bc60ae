//! Batches whose keys lie on several groups of nodes: all or nothing through a crash of anybody at
//! any step, finished by others, and nothing left of their logs.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::super::Table;
use super::super::batch_log::{BATCH_LOG_BUCKET, BatchLog};
use super::world::{Faults, World, delete, get, put};
use crate::api::{BatchKind, Expiry, Fault, Op, Reply, Request, RequestId, WriteContext};
use crate::hash::{Key, PartitionId};
use crate::time::Mono;

const NODES: usize = 5;
const PARTITIONS: u16 = 8;
const KEYS: usize = 12;

fn world(seed: u64, shards: u16) -> World {
    let faults = Faults { delay_us: 300, sync_us: 2_000, cold: 30, ..Faults::default() };
    World::new(seed, NODES, shards, 3, PARTITIONS, faults)
}

fn keys() -> Vec<Key> {
    (0..KEYS).map(|index| Key::plain(format!("key{index}"))).collect()
}

fn batch(version: usize) -> Request {
    let value = |key: &Key| Bytes::from(format!("{version}:{}", key.bytes.escape_ascii()));
    let items = keys().into_iter().map(|key| (key.clone(), value(&key))).collect();
    Request::new(Op::Batch { items, expiry: Expiry::Never, kind: BatchKind::Any })
}

fn written() -> Reply {
    Reply::BatchWritten { count: u32::try_from(KEYS).unwrap(), isolated: false }
}

/// The version that each key shows through this node.
fn versions(world: &mut World, node: usize) -> BTreeSet<String> {
    let version = |key: &Key| match world.call(node, get(key)) {
        Reply::Read(read) => {
            let shown = read.siblings.first().map(|entry| entry.payload.escape_ascii().to_string());
            shown.map_or_else(String::new, |value| value.split(':').next().unwrap().to_owned())
        }
        other => panic!("{other:?}"),
    };
    keys().iter().map(version).collect()
}

/// Logs that are held anywhere.
fn logs(world: &World) -> u64 {
    let units = world.nodes.iter().flat_map(|node| &node.units);
    let of = |table: &super::table::MemoryTable| -> u64 {
        (0..PARTITIONS).map(|id| table.count(PartitionId(id), BATCH_LOG_BUCKET)).sum()
    };
    units.map(|unit| of(&unit.table)).sum()
}

fn wait_s(world: &mut World, seconds: u64) {
    let until = Mono(world.now.mono.0).plus_ms(seconds * 1_000);
    world.run_until(until);
}

#[test]
fn a_batch_over_several_groups_is_written_and_its_log_goes_away() {
    for shards in [1, 3] {
        let mut world = world(1, shards);
        for version in 1..4 {
            assert_eq!(world.call(version, batch(version)), written());
        }
        world.run();
        assert_eq!(logs(&world), 0);
        assert_eq!(versions(&mut world, 0), BTreeSet::from([String::from("3")]));
        world.heal();
        world.check_converged(&keys());
    }
}

#[test]
fn a_batch_that_must_be_isolated_is_refused() {
    let mut world = world(2, 1);
    let Op::Batch { items, expiry, .. } = batch(1).op else { unreachable!() };
    let request = Request::new(Op::Batch { items, expiry, kind: BatchKind::Isolated });
    assert_eq!(world.call(0, request), Reply::Fault(Fault::NotOneGroup));
    assert_eq!(versions(&mut world, 0), BTreeSet::from([String::new()]));
}

#[test]
fn a_batch_is_refused_before_its_log_where_one_group_cannot_take_its_part() {
    let mut world = world(3, 1);
    world.crash(2);
    world.crash(3);
    world.publish();
    let reply = world.call(0, batch(1));
    assert!(matches!(reply, Reply::Fault(Fault::Unavailable { .. })), "{reply:?}");
    wait_s(&mut world, 30);
    assert_eq!(logs(&world), 0);
    world.heal();
    assert_eq!(versions(&mut world, 0), BTreeSet::from([String::new()]));
}

/// One crash of `victim` at each instant at which something happens; the batch is led by node 0.
fn crash_at_every_step(victim: usize, shards: u16, comes_back: bool) {
    let mut ends = BTreeSet::new();
    let mut finished = 0;
    for step in 0.. {
        let mut world = world(7, shards);
        assert_eq!(world.call(1, batch(1)), written());
        world.run();
        let ticket = world.ask(0, 0, batch(2));
        let mut steps = 0;
        while steps < step && world.step_once() {
            steps += 1;
        }
        if steps < step {
            break;
        }
        let reply = world.replies.get(&ticket).cloned();
        finished += usize::from(reply.is_none() && logs(&world) > 0);
        world.crash(victim);
        world.publish();
        if comes_back {
            wait_s(&mut world, 1);
            world.restart(victim);
        }
        wait_s(&mut world, 15);
        let found = versions(&mut world, (victim + 1) % NODES);
        assert_eq!(found.len(), 1, "step {step}: half a batch 15 s later: {found:?}");
        if reply == Some(written()) {
            assert_eq!(found, BTreeSet::from([String::from("2")]), "step {step}: it is lost");
        }
        ends.extend(found);
        world.heal();
        assert_eq!(logs(&world), 0, "step {step}: a log is left");
        world.check_converged(&keys());
    }
    assert!(finished > 5, "only {finished} crashes left a log behind");
    assert!(ends.contains("2"), "{ends:?}");
}

#[test]
fn others_finish_a_batch_whose_coordinator_stays_away() {
    crash_at_every_step(0, 1, false);
}

#[test]
fn a_batch_is_finished_though_its_coordinator_comes_back() {
    crash_at_every_step(0, 2, true);
}

#[test]
fn a_batch_outlives_the_loss_of_a_member() {
    crash_at_every_step(2, 1, true);
    crash_at_every_step(3, 1, false);
}

/// The coordinator died between the parts and the end of the log: what was deleted since must not
/// come back when the batch is finished.
#[test]
fn what_was_deleted_meanwhile_stays_deleted_when_a_batch_is_finished() {
    let mut world = world(5, 1);
    world.ask(0, 0, batch(1));
    let is_written = |world: &mut World| {
        keys().iter().all(|key| {
            let row = world.place(key).1;
            let mut others = row.iter().filter(|&&node| node != 0);
            others.any(|&node| !world.table(node, key).holds_durably(key).entries.is_empty())
        })
    };
    while !is_written(&mut world) {
        assert!(world.step_once());
    }
    world.crash(0);
    world.publish();
    wait_s(&mut world, 1);
    assert!(logs(&world) > 0, "the log outlives its coordinator");
    assert_eq!(versions(&mut world, 1), BTreeSet::from([String::from("1")]));
    for key in keys() {
        assert!(matches!(world.call(1, delete(&key)), Reply::Written(_)));
    }
    wait_s(&mut world, 15);
    assert_eq!(versions(&mut world, 1), BTreeSet::from([String::new()]));
    world.heal();
    assert_eq!(logs(&world), 0);
    assert_eq!(versions(&mut world, 0), BTreeSet::from([String::new()]));
}

/// A holder of the log was cut off while the batch was finished: when it comes back it looks before
/// it writes, and what has been written since stays.
#[test]
fn who_missed_the_end_of_a_batch_does_not_write_it_again() {
    let mut world = world(4, 1);
    let request_id = RequestId(77 << 64);
    let holders = world.place(&BatchLog::key(request_id)).1;
    let (cut_off, outside) = (holders[0], (0..NODES).find(|node| !holders.contains(node)).unwrap());
    let request = Request { request_id: Some(request_id), ..batch(1) };
    let ticket = world.ask(outside, 0, request);
    while logs(&world) < 3 && world.step_once() {}
    assert_eq!(logs(&world), 3);
    for other in (0..NODES).filter(|&other| other != cut_off) {
        world.cut.insert((cut_off.min(other), cut_off.max(other)));
    }
    world.publish();
    wait_s(&mut world, 30);
    assert!(world.replies.contains_key(&ticket));
    assert_eq!(logs(&world), 1, "only who was cut off still has the log");
    let newer = put(&keys()[0], "newer:", WriteContext::Known);
    assert!(matches!(world.call(outside, newer), Reply::Written(_)));
    world.heal();
    assert_eq!(logs(&world), 0);
    let shown = versions(&mut world, outside);
    assert_eq!(shown, BTreeSet::from([String::from("1"), String::from("newer")]));
    world.check_converged(&keys());
}

/// Only the coordinator has the log when it finishes what it began, and it is cut off from the
/// others of the row at any instant meanwhile: no part is written before a majority has the log.
/// Else they would call the batch done, and the rest of it would never be written.
#[test]
fn no_part_is_written_while_the_log_may_be_overlooked() {
    let request_id = RequestId(78 << 64);
    let (mut with_parts, mut without) = (0, 0);
    for step in 0..80 {
        let mut world = world(6, 1);
        let row = world.place(&BatchLog::key(request_id)).1;
        let coordinator = row[0];
        let cut_off =
            || row[1..].iter().map(|&other| (other.min(coordinator), other.max(coordinator)));
        world.cut.extend(cut_off());
        world.ask(coordinator, 0, Request { request_id: Some(request_id), ..batch(1) });
        wait_s(&mut world, 5);
        assert_eq!(logs(&world), 1);
        world.crash(coordinator);
        world.cut.clear();
        world.restart(coordinator);
        world.publish();
        wait_s(&mut world, 1);
        let due = world.now.mono.plus_ms(990);
        world.run_until(due);
        for _ in 0..step {
            world.step_once();
        }
        world.cut.extend(cut_off());
        wait_s(&mut world, 3);
        let is_held = |world: &mut World, key: &Key| {
            let row = world.place(key).1;
            row.iter().any(|&node| !world.table(node, key).holds_durably(key).entries.is_empty())
        };
        let held = keys().iter().filter(|key| is_held(&mut world, key)).count();
        if held > 0 {
            let is_safe = held == KEYS || logs(&world) > 1;
            assert!(is_safe, "step {step}: {held} keys are written, and one node has the log");
            with_parts += 1;
        } else {
            without += 1;
        }
    }
    assert!(with_parts > 0 && without > 0, "{with_parts} and {without}");
}

/// A batch is refused by who is to lead its log, if that node remembers the id; from then on its
/// parts are owed, also by those who remember it. Such a part was refused for ever, and the batch
/// stayed half.
#[test]
fn a_batch_under_a_used_id_is_refused_whole_or_written_whole() {
    let mut ends = BTreeSet::new();
    for number in 1..9 {
        let id = RequestId(number << 64);
        let mut world = world(9, 1);
        let used = Request { request_id: Some(id), ..put(&keys()[0], "used", WriteContext::Known) };
        assert!(matches!(world.call(1, used), Reply::Written(_)));
        world.run();
        let reply = world.call(0, Request { request_id: Some(id), ..batch(1) });
        wait_s(&mut world, 20);
        let found = versions(&mut world, 2);
        if reply == written() {
            assert_eq!(found, BTreeSet::from([String::from("1")]));
        } else {
            assert_eq!(reply, Reply::Fault(Fault::RequestIdReused { request_id: id }));
            assert_eq!(found, BTreeSet::from([String::new(), String::from("used")]));
        }
        assert_eq!(logs(&world), 0);
        ends.insert(reply == written());
    }
    assert_eq!(ends.len(), 2, "{ends:?}");
}

/// The log of a batch is its id: a second batch of that id took its place, and the first one stayed
/// half where its coordinator was gone.
#[test]
fn a_batch_does_not_take_the_place_of_another_one_in_the_log() {
    let mut world = world(6, 1);
    let request_id = Some(RequestId(77 << 64));
    world.ask(0, 0, Request { request_id, ..batch(1) });
    while logs(&world) < 3 && world.step_once() {}
    world.crash(0);
    world.publish();
    let reply = world.call(1, Request { request_id, ..batch(2) });
    let fault = Fault::RequestIdReused { request_id: RequestId(77 << 64) };
    assert_eq!(reply, Reply::Fault(fault));
    wait_s(&mut world, 20);
    assert_eq!(versions(&mut world, 1), BTreeSet::from([String::from("1")]));
    world.heal();
    assert_eq!(logs(&world), 0);
}
