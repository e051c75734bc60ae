//! Batches: all or nothing through a crash at any step, isolated on a node, and never in a circle.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::RngExt;

use super::super::message::{CallId, HoldWork};
use super::super::{Input, Message, ShardId, Ticket};
use super::world::{Faults, World, get, node_id, put};
use crate::api::{BatchKind, Expiry, Fault, Level, Op, Reply, Request, WriteContext};
use crate::hash::Key;
use crate::limits::{BATCH_BYTES_MAX, BATCHES_BYTES_MAX};
use crate::time::Mono;

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|index| Key::plain(format!("key{index}"))).collect()
}

/// Every key gets a value of its own that names the version.
fn batch(keys: &[Key], version: usize) -> Request {
    let value = |key: &Key| Bytes::from(format!("{version}:{}", key.bytes.escape_ascii()));
    let items = keys.iter().map(|key| (key.clone(), value(key))).collect();
    Request::new(Op::Batch { items, expiry: Expiry::Never, kind: BatchKind::Any })
}

fn version(value: &[u8]) -> usize {
    let text = std::str::from_utf8(value).expect("values of these tests are text");
    text.split(':').next().and_then(|number| number.parse().ok()).expect("they name a version")
}

/// The version that a node's disk holds of each key.
fn versions(world: &mut World, node: usize, keys: &[Key]) -> BTreeSet<Option<usize>> {
    let mut found = BTreeSet::new();
    for key in keys {
        let object = world.table(node, key).holds_durably(key);
        found.insert(object.winner().map(|entry| version(&entry.payload)));
    }
    found
}

fn written(reply: &Reply, count: u32) -> bool {
    *reply == Reply::BatchWritten { count, isolated: true }
}

fn slow(cold: u32) -> Faults {
    Faults { delay_us: 300, sync_us: 2_000, cold, ..Faults::default() }
}

#[test]
fn a_batch_is_read_back_through_every_node() {
    for (nodes, shards, replicas) in [(1, 1, 3), (1, 3, 3), (2, 2, 3), (3, 2, 3), (3, 3, 2)] {
        let mut world = World::new(1, nodes, shards, replicas, 8, slow(50));
        // With rows of two among three nodes only keys of one partition have a leader in common.
        let keys = if replicas < nodes { keys(1) } else { keys(20) };
        for version in 0..3 {
            let reply = world.call(version % nodes, batch(&keys, version));
            assert!(written(&reply, u32::try_from(keys.len()).unwrap()), "{reply:?}");
        }
        for node in 0..nodes {
            for key in &keys {
                let reply = world.call(node, get(key));
                let Reply::Read(read) = reply else { panic!("{reply:?}") };
                assert_eq!(read.siblings.len(), 1);
                assert_eq!(version(&read.siblings[0].payload), 2);
            }
        }
        world.heal();
        world.check_converged(&keys);
    }
}

#[test]
fn rows_without_a_common_node_are_refused_and_a_node_outside_forwards() {
    // Row p is nodes p and p + 1 of five.
    let mut world = World::new(2, 5, 2, 2, 8, slow(0));
    let mut by_partition: BTreeMap<u16, Vec<Key>> = BTreeMap::new();
    for key in keys(200) {
        by_partition.entry(world.place(&key).0.0).or_default().push(key);
    }
    let of = |partition: u16| by_partition[&partition][..2].to_vec();
    let apart = [of(0), of(2)].concat();
    let Op::Batch { items, .. } = batch(&apart, 1).op else { unreachable!() };
    let isolated =
        Request::new(Op::Batch { items, expiry: Expiry::Never, kind: BatchKind::Isolated });
    let reply = world.call(0, isolated);
    assert_eq!(reply, Reply::Fault(Fault::NotOneGroup));
    // Partitions 0, 1 and 5 share node 1; node 3 owns none of them.
    let together = [of(0), of(1), of(5)].concat();
    let reply = world.call(3, batch(&together, 1));
    assert!(written(&reply, 6), "{reply:?}");
    world.heal();
    world.check_converged(&together);
}

#[test]
fn what_is_not_a_batch_is_refused() {
    let mut world = World::new(3, 1, 2, 1, 8, slow(0));
    let key = Key::plain("twice");
    let reply = world.call(0, batch(&[key.clone(), Key::plain("once"), key], 1));
    assert_eq!(reply, Reply::Fault(Fault::DuplicateKey { key: String::from("twice") }));
    let reply = world.call(0, batch(&[], 1));
    assert!(matches!(reply, Reply::Fault(Fault::BadRequest { .. })), "{reply:?}");
    let request = Request { w: Some(2), ..batch(&keys(3), 1) };
    let reply = world.call(0, request);
    assert!(matches!(reply, Reply::Fault(Fault::BadLevel { number: 2, row: 1, .. })), "{reply:?}");
    world.heal();
}

/// One crash of the leader's node at each instant at which something happens.
fn crash_at_every_step(nodes: usize, shards: u16, victim: usize) {
    let keys = keys(9);
    let mut crashes = 0;
    let mut outcomes = BTreeSet::new();
    for seed in 0..3 {
        for step in 0.. {
            let mut world = World::new(seed, nodes, shards, 3, 8, slow(30));
            assert!(written(&world.call(0, batch(&keys, 1)), 9));
            world.run();
            let ticket = world.ask(0, 0, batch(&keys, 2));
            let mut steps = 0;
            while steps < step && world.step_once() {
                steps += 1;
            }
            if steps < step {
                break;
            }
            let reply = world.replies.get(&ticket).cloned();
            world.crash(victim);
            crashes += 1;
            world.heal();
            for node in 0..nodes {
                let found = versions(&mut world, node, &keys);
                assert_eq!(found.len(), 1, "seed {seed}, step {step}: half a batch: {found:?}");
                if node == victim && reply.as_ref().is_some_and(|reply| written(reply, 9)) {
                    assert!(nodes > 1 || found.contains(&Some(2)), "seed {seed}, step {step}");
                }
                outcomes.extend(found);
            }
            world.check_converged(&keys);
        }
    }
    assert!(crashes > 30, "{crashes} crashes prove little");
    assert_eq!(outcomes, BTreeSet::from([Some(1), Some(2)]), "both ends were met");
}

#[test]
fn a_crash_at_any_step_leaves_all_of_a_batch_or_nothing_on_one_node() {
    crash_at_every_step(1, 3, 0);
}

#[test]
fn a_crash_of_the_leader_at_any_step_leaves_all_or_nothing_on_every_node() {
    crash_at_every_step(3, 2, 0);
}

#[test]
fn a_crash_of_a_member_at_any_step_leaves_all_or_nothing_on_every_node() {
    crash_at_every_step(3, 2, 1);
}

/// Readers that ask for one key after the other, while batches write all of them.
fn readers_never_go_back(seed: u64, shards: u16) -> usize {
    let faults = Faults { sync_us: 1_500, cold: 40, ..Faults::default() };
    let mut world = World::new(seed, 1, shards, 1, 8, faults);
    let keys = keys(6);
    world.call(0, batch(&keys, 0));
    let mut readers: Vec<(Ticket, usize)> = Vec::new();
    let mut writers: Vec<Ticket> = Vec::new();
    let mut moves = 0;
    let mut next = 1;
    for _ in 0..300 {
        writers.retain(|ticket| !world.replies.contains_key(ticket));
        if writers.is_empty() {
            let shard = world.random.random_range(0..usize::from(shards));
            writers.push(world.ask(0, shard, batch(&keys, next)));
            next += 1;
        }
        // A reader asks again only when it has its answer: then it may not see less than before.
        for reader in 0..5 {
            let shown = match readers.get(reader) {
                None => Some(0),
                Some((ticket, shown)) => world.replies.get(ticket).map(|reply| {
                    let Reply::Read(read) = reply else { panic!("{reply:?}") };
                    let found = version(&read.siblings[0].payload);
                    assert!(found >= *shown, "seed {seed}: {found} was read after {shown}");
                    moves += usize::from(found > *shown);
                    found
                }),
            };
            if let Some(shown) = shown {
                let key = &keys[world.random.random_range(0..keys.len())];
                let shard = world.random.random_range(0..usize::from(shards));
                let asked = (world.ask(0, shard, get(key)), shown);
                if reader < readers.len() {
                    readers[reader] = asked;
                } else {
                    readers.push(asked);
                }
            }
        }
        let until = Mono(world.now.mono.0 + world.random.random_range(0..400));
        world.run_until(until);
    }
    world.heal();
    moves
}

#[test]
fn a_reader_that_saw_one_new_value_of_a_batch_never_sees_an_older_one() {
    let mut moves = 0;
    for seed in 0..12 {
        moves += readers_never_go_back(seed, u16::try_from(seed % 3 + 1).unwrap());
    }
    assert!(moves > 300, "the readers saw only {moves} changes");
}

#[test]
fn batches_over_the_same_keys_end_one_after_the_other_through_any_shard() {
    for seed in 0..30 {
        let mut world = World::new(seed, 1, 3, 1, 8, slow(60));
        let keys = keys(12);
        for version in 0..6 {
            let mut order = keys.clone();
            let turn = world.random.random_range(0..order.len());
            order.rotate_left(turn);
            let some = world.random.random_range(6..=order.len());
            order.truncate(some);
            let shard = world.random.random_range(0..3);
            world.ask(0, shard, batch(&order, version));
        }
        world.run();
        for (ticket, reply) in &world.replies {
            assert!(matches!(reply, Reply::BatchWritten { .. }), "{ticket:?}: {reply:?}");
        }
        world.heal();
        world.check_converged(&keys);
    }
}

#[test]
fn a_batch_that_runs_out_of_time_lets_its_keys_go() {
    let mut refused = 0;
    for left_ms in 1..20 {
        // Every record is cold, and the disk is slow.
        let faults = Faults { sync_us: 9_000, cold: 100, ..Faults::default() };
        let mut world = World::new(u64::from(left_ms), 1, 3, 1, 8, faults);
        let keys = keys(8);
        world.call(0, batch(&keys, 1));
        world.run();
        let reply = world.call(0, Request { left_ms, ..batch(&keys, 2) });
        refused += u32::from(reply == Reply::Fault(Fault::TimedOut));
        for key in &keys {
            let reply =
                world.call(0, put(key, format!("3:{left_ms}:{key:?}"), WriteContext::Known));
            assert!(matches!(reply, Reply::Written(_)), "{reply:?}");
        }
        world.heal();
        assert_eq!(versions(&mut world, 0, &keys), BTreeSet::from([Some(3)]));
    }
    assert!(refused > 5, "only {refused} batches ran out of time");
}

#[test]
fn a_damaged_key_refuses_the_whole_batch_or_sends_it_to_a_member_that_can() {
    let keys = keys(8);
    let mut world = World::new(5, 3, 2, 3, 8, slow(0));
    world.call(0, batch(&keys, 1));
    world.run();
    world.table(0, &keys[3]).damage(&keys[3]);
    let reply = world.call(0, batch(&keys, 2));
    assert!(written(&reply, 8), "{reply:?}");
    let mut world = World::new(6, 3, 2, 3, 8, slow(0));
    world.call(0, batch(&keys, 1));
    world.run();
    for node in 0..3 {
        world.table(node, &keys[3]).damage(&keys[3]);
    }
    let reply = world.call(0, batch(&keys, 2));
    assert!(matches!(reply, Reply::Fault(Fault::Damaged { .. })), "{reply:?}");
    for key in keys.iter().filter(|key| **key != keys[3]) {
        let reply = world.call(1, get(key));
        let Reply::Read(read) = reply else { panic!("{reply:?}") };
        assert_eq!(version(&read.siblings[0].payload), 1);
    }
    world.heal();
}

#[test]
fn a_full_disk_refuses_a_batch_and_leaves_nothing_of_it() {
    let keys = keys(8);
    let mut world = World::new(7, 1, 3, 1, 8, slow(0));
    world.call(0, batch(&keys, 1));
    world.run();
    // The last shard refuses when the others hold already.
    world.nodes[0].units[2].table.full = true;
    let reply = world.call(0, batch(&keys, 2));
    assert_eq!(reply, Reply::Fault(Fault::DiskFull));
    world.nodes[0].units[2].table.full = false;
    world.heal();
    assert_eq!(versions(&mut world, 0, &keys), BTreeSet::from([Some(1)]));
    let reply = world.call(0, batch(&keys, 3));
    assert!(written(&reply, 8), "{reply:?}");
}

#[test]
fn a_batch_that_too_few_members_acknowledge_is_unknown_and_not_refused() {
    let keys = keys(4);
    let mut world = World::new(8, 3, 2, 3, 8, slow(0));
    world.call(0, batch(&keys, 1));
    world.run();
    // Nobody has noticed yet that the others are gone.
    world.crash(1);
    world.crash(2);
    let reply = world.call(0, batch(&keys, 2));
    let Reply::Fault(Fault::OutcomeUnknown { .. }) = reply else { panic!("{reply:?}") };
    world.publish();
    let reply = world.call(0, batch(&keys, 3));
    assert!(matches!(reply, Reply::Fault(Fault::Unavailable { .. })), "{reply:?}");
    let one = Request { level: Level::One, ..batch(&keys, 4) };
    assert!(written(&world.call(0, one), 4));
    world.heal();
    world.check_converged(&keys);
}

fn hold(world: &World, key: &Key) -> Message {
    let call = CallId::new(ShardId(1), 77 << 16);
    let partition = world.place(key).0;
    let items = vec![(partition, key.clone(), Bytes::from_static(b"never"))];
    Message::Hold {
        call,
        partition,
        batch: call.0,
        work: HoldWork::Put {
            rid: 1,
            given: None,
            expiry: Expiry::Never,
            kind: BatchKind::Any,
            items,
        },
    }
}

fn key_of_shard(world: &World, shard: u16) -> Key {
    let is_there = |key: &Key| world.place(key).0.0 % 2 == shard;
    keys(20).into_iter().find(is_there).expect("each of two shards has some of twenty keys")
}

#[test]
fn a_hold_that_its_release_overtook_is_let_go_again() {
    let mut world = World::new(10, 1, 2, 1, 8, slow(0));
    let (key, from) = (key_of_shard(&world, 0), node_id(0));
    let hold = hold(&world, &key);
    let Message::Hold { partition, batch, .. } = hold else { unreachable!() };
    let release = Message::Release { partition, batch };
    world.step(0, 0, Input::Peer { from, message: release });
    world.step(0, 0, Input::Peer { from, message: hold });
    let ticket = world.ask(0, 0, get(&key));
    assert!(!world.replies.contains_key(&ticket), "the key is held");
    world.run();
    let reply = &world.replies[&ticket];
    assert!(matches!(reply, Reply::Read(read) if read.siblings.is_empty()), "{reply:?}");
    world.heal();
}

#[test]
fn another_node_cannot_hold_keys_here() {
    let mut world = World::new(11, 2, 2, 2, 8, slow(0));
    let key = key_of_shard(&world, 0);
    let message = hold(&world, &key);
    world.step(0, 0, Input::Peer { from: node_id(1), message });
    assert_eq!(world.nodes[0].units[0].shard.waiting(), (0, 0));
}

#[test]
fn batches_beyond_the_bound_of_a_shard_are_refused_and_one_always_fits() {
    // The disk is asleep, so nothing that begins comes to its end.
    let faults = Faults { sync_us: 60_000_000, ..Faults::default() };
    let mut world = World::new(9, 1, 1, 1, 8, faults);
    let large = |name: usize| {
        let value = Bytes::from(vec![b'v'; BATCH_BYTES_MAX / 8 + name]);
        let items = (0..8).map(|index| (Key::plain(format!("{name}.{index}")), value.clone()));
        let (items, expiry, kind) = (items.collect(), Expiry::Never, BatchKind::Any);
        Request { left_ms: 500, ..Request::new(Op::Batch { items, expiry, kind }) }
    };
    let tickets: Vec<Ticket> = (0..5).map(|name| world.ask(0, 0, large(name))).collect();
    let refused = |world: &World, ticket: &Ticket| {
        matches!(world.replies.get(ticket), Some(Reply::Fault(Fault::Overloaded { .. })))
    };
    let count = tickets.iter().filter(|ticket| refused(&world, ticket)).count();
    assert_eq!(count, 2, "three of sixteen mebibytes and a little fit into {BATCHES_BYTES_MAX}");
    world.run();
    assert!(!refused(&world, &tickets[0]));
    world.heal();
}

#[test]
fn random_batches_and_single_writes_keep_every_promise() {
    for seed in 0..96 {
        let faults = Faults {
            lost: [0, 10][usize::try_from(seed % 2).unwrap()],
            doubled: [0, 20][usize::try_from(seed / 2 % 2).unwrap()],
            delay_us: [200, 20_000][usize::try_from(seed / 4 % 2).unwrap()],
            sync_us: [0, 5_000][usize::try_from(seed / 8 % 2).unwrap()],
            cold: [0, 50][usize::try_from(seed / 16 % 2).unwrap()],
        };
        let nodes = usize::try_from(seed % 3).unwrap() + 1;
        let shards = u16::try_from(seed / 3 % 3).unwrap() + 1;
        let mut world = World::new(seed, nodes, shards, 3, 8, faults);
        let keys = keys(8);
        for operation in 0..40 {
            let up: Vec<usize> = (0..nodes).filter(|&node| world.nodes[node].is_up).collect();
            if up.is_empty() {
                world.restart(0);
                continue;
            }
            let node = up[world.random.random_range(0..up.len())];
            let mut some = keys.clone();
            let turn = world.random.random_range(0..8);
            some.rotate_left(turn);
            let key = some[0].clone();
            let count = world.random.random_range(1..=8);
            some.truncate(count);
            let mut request = match world.random.random_range(0..6) {
                0..3 => batch(&some, operation),
                3 => put(&key, format!("{operation}:p"), WriteContext::Known),
                4 => put(&key, format!("{operation}:p"), WriteContext::Token(Bytes::new())),
                _ => get(&key),
            };
            request.left_ms = [20, 200, 2_000][world.random.random_range(0..3)];
            let shard = world.random.random_range(0..usize::from(shards));
            world.ask(node, shard, request);
            if world.random.random_range(0..3) > 0 {
                let until = Mono(world.now.mono.0 + world.random.random_range(0..20_000));
                world.run_until(until);
            }
            match world.random.random_range(0..30) {
                0 => world.crash(node),
                1 => world.publish(),
                2..5 => {
                    let down = (0..nodes).find(|&node| !world.nodes[node].is_up);
                    if let Some(node) = down {
                        world.restart(node);
                    }
                }
                _ => {}
            }
        }
        world.heal();
        world.check_converged(&keys);
    }
}
