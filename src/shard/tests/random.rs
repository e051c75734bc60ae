//! Random histories: whatever happens, no acknowledged write is lost, siblings are exact, nothing
//! comes back, and every request is answered once and in time.

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::RngExt;

use super::super::Ticket;
use super::world::{Faults, World, delete, get, put};
use crate::api::{Level, Op, Reply, Request, WriteContext};
use crate::causality::{Dot, decode_context};
use crate::hash::{Key, PartitionId};
use crate::time::Mono;

/// What a client knows of one key: its token, the events that it stands for, and what was shown.
#[derive(Clone, Debug, Default)]
struct Known {
    token: Bytes,
    events: BTreeSet<Dot>,
    shown: Option<Dot>,
}

/// A request that the client waits for.
struct Waiting {
    ticket: Ticket,
    index: usize,
    events: Option<BTreeSet<Dot>>,
}

fn history(seed: u64) -> World {
    let mut world = draw(seed);
    let keys: Vec<Key> = (0..4).map(|index| Key::plain(format!("k{index}"))).collect();
    let mut known = vec![Known::default(); keys.len()];
    let mut waiting: Vec<Waiting> = Vec::new();
    for operation in 0..60 {
        let up: Vec<usize> =
            (0..world.nodes.len()).filter(|&node| world.nodes[node].is_up).collect();
        if !up.is_empty() {
            let node = up[world.random.random_range(0..up.len())];
            let shard = world.random.random_range(0..world.nodes[node].units.len());
            let index = world.random.random_range(0..keys.len());
            let request = request(&mut world, &known[index], &keys[index], operation);
            let events = match &request.op {
                Op::Put { context: WriteContext::Token(token), .. } if token.is_empty() => {
                    Some(BTreeSet::new())
                }
                Op::Put { context: WriteContext::Token(_), .. } => {
                    Some(known[index].events.clone())
                }
                _ => None,
            };
            let ticket = world.ask_having_seen(node, shard, request, events.clone());
            waiting.push(Waiting { ticket, index, events });
        }
        if world.random.random_range(0..3) > 0 {
            let pause = world.random.random_range(0..30_000);
            let until = Mono(world.now.mono.0 + pause);
            world.run_until(until);
        }
        waiting.retain(|waiting| {
            let Some(reply) = world.replies.get(&waiting.ticket) else { return true };
            learn(&mut known[waiting.index], waiting, reply, world.place(&keys[waiting.index]).0);
            false
        });
        mishap(&mut world);
    }
    world.heal();
    world.check_converged(&keys);
    world
}

fn learn(known: &mut Known, waiting: &Waiting, reply: &Reply, partition: PartitionId) {
    match reply {
        Reply::Read(read) => {
            known.token = read.context.clone();
            known.events = read.siblings.iter().map(|entry| entry.dot).collect();
            known.shown = read.siblings.first().map(|entry| entry.dot);
        }
        Reply::Written(written) => {
            let seen = decode_context(partition, &written.context).expect("a token is well-formed");
            known.events = waiting.events.clone().unwrap_or_default();
            if seen.covers(written.dot) {
                known.events.insert(written.dot);
            }
            known.token = written.context.clone();
        }
        _ => {}
    }
}

fn draw(seed: u64) -> World {
    let shape = (seed % 5, seed / 5 % 3);
    let nodes = usize::try_from(shape.0).expect("small") + 1;
    let shards = u16::try_from(shape.1).expect("small") + 1;
    let replicas = [1, 2, 3, 3, 5][usize::try_from(seed / 15 % 5).expect("small")];
    let faults = Faults {
        lost: [0, 0, 5, 20][usize::try_from(seed % 4).expect("small")],
        doubled: [0, 10, 30][usize::try_from(seed % 3).expect("small")],
        delay_us: [100, 3_000, 60_000][usize::try_from(seed / 3 % 3).expect("small")],
        sync_us: [0, 500, 20_000][usize::try_from(seed / 7 % 3).expect("small")],
        cold: [0, 30, 80][usize::try_from(seed / 2 % 3).expect("small")],
    };
    World::new(seed, nodes, shards, replicas, 4, faults)
}

fn request(world: &mut World, known: &Known, key: &Key, operation: usize) -> Request {
    let value = format!("v{operation}");
    let mut request = match world.random.random_range(0..10) {
        0..4 => get(key),
        4..6 => put(key, value, WriteContext::Known),
        6 => put(key, value, WriteContext::Token(Bytes::new())),
        7 => put(key, value, WriteContext::Token(known.token.clone())),
        8 => match known.shown {
            Some(dot) => put(key, value, WriteContext::Shown(dot)),
            None => delete(key),
        },
        _ => delete(key),
    };
    let level = Level::ALL[world.random.random_range(0..Level::ALL.len())];
    if world.random.random_range(0..3) == 0 {
        request.level = level;
    }
    request.left_ms = [30, 200, 1_000][world.random.random_range(0..3)];
    request
}

/// Damages one copy of a key of which all others are whole and equal: less than what a promise
/// outlives.
fn damage(world: &mut World) {
    let key = Key::plain(format!("k{}", world.random.random_range(0..4)));
    let (_, row) = world.place(&key);
    let victim = row[world.random.random_range(0..row.len())];
    let is_whole = |world: &mut World, node: usize| {
        let table = world.table(node, &key);
        table.durable == table.newest() && !table.is_damaged(&key)
    };
    let held: Vec<Vec<Dot>> =
        row.iter().map(|&node| world.table(node, &key).holds(&key).dots().collect()).collect();
    let is_equal = held.windows(2).all(|pair| pair[0] == pair[1]) && !held[0].is_empty();
    let is_up = row.iter().all(|&node| world.nodes[node].is_up);
    if row.len() > 1 && is_up && is_equal && row.iter().all(|&node| is_whole(world, node)) {
        world.table(victim, &key).damage(&key);
        world.damages += 1;
    }
}

fn mishap(world: &mut World) {
    let node = world.random.random_range(0..world.nodes.len());
    match world.random.random_range(0..40) {
        0 if world.nodes[node].is_up => {
            world.crash(node);
            // Others notice now, or only when something else changes.
            if world.random.random_range(0..2) == 0 {
                world.publish();
            }
        }
        1..4 if !world.nodes[node].is_up => world.restart(node),
        4 => {
            let other = world.random.random_range(0..world.nodes.len());
            if node != other {
                world.cut.insert((node.min(other), node.max(other)));
            }
        }
        5 => world.cut.clear(),
        6 => world.publish(),
        7..10 => damage(world),
        _ => {}
    }
}

#[test]
fn random_histories_keep_every_promise() {
    let mut sent = std::collections::BTreeMap::new();
    let mut damages = 0;
    for seed in 0..300 {
        let result = std::panic::catch_unwind(|| history(seed));
        match result {
            Ok(world) => {
                damages += world.damages;
                for (kind, count) in world.sent {
                    *sent.entry(kind).or_insert(0_u64) += count;
                }
            }
            Err(error) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(error);
            }
        }
    }
    assert!(damages > 50, "only {damages} records were damaged");
    for kind in ["forward", "replicate", "read"] {
        assert!(
            sent.get(kind).is_some_and(|&count| count > 500),
            "{kind} is hardly used: {sent:?}"
        );
    }
}
