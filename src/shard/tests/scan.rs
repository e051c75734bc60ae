//! Scans, counts, conflicts and explanations against a `BTreeMap` of what was written.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::RngExt;

use super::world::{Faults, World, delete, get, put};
use crate::api::{Fault, Holding, Level, Op, Page, Reply, Request, Scan, WriteContext};
use crate::hash::{BucketId, Key, Token};
use crate::limits::{MEMBER_PATIENCE_MS, PAGE_BYTES_MAX};
use crate::time::Mono;

fn scan(cursor: Token, limit: u32) -> Scan {
    let (prefix, pattern) = (Bytes::new(), Bytes::new());
    Scan { bucket: BucketId::default(), cursor, limit, prefix, pattern, values: true }
}

fn page(world: &mut World, node: usize, level: Level, scan: Scan) -> Page {
    let request = Request { level, left_ms: 5_000, ..Request::new(Op::Scan(scan)) };
    match world.call(node, request) {
        Reply::Page(page) => page,
        other => panic!("{other:?} does not answer a scan"),
    }
}

/// Every page of the ring, each through another node.
fn walk(world: &mut World, level: Level, first: &Scan) -> (Vec<(Key, Option<Bytes>)>, usize) {
    let nodes = world.nodes.len();
    let (mut items, mut pages, mut cursor) = (Vec::new(), 0, Token(0));
    loop {
        let found = page(world, pages % nodes, level, Scan { cursor, ..first.clone() });
        items.extend(found.items);
        pages += 1;
        assert!(pages < 5_000, "the scan does not end");
        if found.next == Token(0) {
            return (items, pages);
        }
        assert!(found.next > cursor, "the cursor grows");
        cursor = found.next;
    }
}

/// Writes `count` keys and returns what they hold.
fn fill(world: &mut World, count: usize) -> BTreeMap<Key, Bytes> {
    let mut held = BTreeMap::new();
    for index in 0..count {
        let (key, value) =
            (Key::plain(format!("key{index}")), Bytes::from(format!("value{index}")));
        let request = put(&key, value.clone(), WriteContext::Known);
        let node = index % world.nodes.len();
        assert!(matches!(world.call(node, request), Reply::Written(_)));
        held.insert(key, value);
    }
    world.run();
    held
}

fn faults(cold: u32) -> Faults {
    Faults { delay_us: 200, sync_us: 300, cold, ..Faults::default() }
}

#[test]
fn a_walk_through_all_nodes_finds_every_key_once_in_token_order() {
    for (nodes, shards, partitions, cold) in
        [(1, 1, 1, 0), (1, 3, 8, 60), (3, 2, 16, 60), (5, 1, 64, 20)]
    {
        let mut world = World::new(1, nodes, shards, 3, partitions, faults(cold));
        let held = fill(&mut world, 150);
        for (level, limit) in [(Level::One, 7), (Level::Quorum, 7), (Level::All, 1_000)] {
            let (items, pages) = walk(&mut world, level, &scan(Token(0), limit));
            let expected: Vec<(Key, Option<Bytes>)> =
                held.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
            assert_eq!(items, expected, "{nodes} nodes, {level:?}, {limit}");
            assert!(limit > 100 || pages >= 150 / 7, "a page has at most its limit");
        }
        let (names, _) =
            walk(&mut world, Level::One, &Scan { values: false, ..scan(Token(0), 50) });
        assert!(names.iter().all(|(_, value)| value.is_none()));
        assert_eq!(names.len(), 150);
        assert_eq!(
            world.call(0, Request::new(Op::Count { bucket: BucketId(0) })),
            Reply::Count(150)
        );
        assert_eq!(world.call(0, Request::new(Op::Count { bucket: BucketId(7) })), Reply::Count(0));
        world.heal();
    }
}

#[test]
fn prefixes_and_patterns_filter_what_was_read() {
    let mut world = World::new(2, 3, 2, 3, 16, faults(30));
    let held = fill(&mut world, 120);
    let wanted = |keep: &dyn Fn(&str) -> bool| -> Vec<Key> {
        let text = |key: &Key| String::from_utf8(key.bytes.to_vec()).expect("keys are text");
        held.keys().filter(|key| keep(&text(key))).cloned().collect()
    };
    let cases: [(&'static str, &'static str, Vec<Key>); 3] = [
        ("key1", "", wanted(&|text| text.starts_with("key1"))),
        ("", "key?", wanted(&|text| text.len() == 4)),
        ("key", "*[05]", wanted(&|text| text.ends_with(['0', '5']))),
    ];
    for (prefix, pattern, expected) in cases {
        let prefix = Bytes::from_static(prefix.as_bytes());
        let pattern = Bytes::from_static(pattern.as_bytes());
        let (items, _) =
            walk(&mut world, Level::Quorum, &Scan { prefix, pattern, ..scan(Token(0), 10) });
        let found: Vec<Key> = items.into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, expected);
    }
    world.heal();
}

#[test]
fn a_sparse_ring_takes_few_rounds() {
    let lag = 1_000;
    let faults = Faults { delay_us: lag, sync_us: 100, ..Faults::default() };
    let mut world = World::new(3, 3, 2, 3, 1_024, faults);
    let held = fill(&mut world, 5);
    let before = world.now.mono;
    let found = page(&mut world, 0, Level::Quorum, scan(Token(0), 1_000));
    assert_eq!(found.items.len(), held.len());
    assert_eq!(found.next, Token(0));
    // A round is there and back; asked one by one, 1,024 partitions would take 1,024 of them.
    let took = world.now.mono.0 - before.0;
    assert!(took < 24 * lag, "a page took {took} us at a delay of up to {lag} us");
}

#[test]
fn a_dense_ring_is_not_asked_for_more_than_a_page_needs() {
    let mut world = World::new(4, 2, 1, 2, 64, faults(0));
    fill(&mut world, 300);
    let before = world.sent.get("other").copied().unwrap_or_default();
    let found = page(&mut world, 0, Level::One, scan(Token(0), 10));
    assert_eq!(found.items.len(), 10);
    let asked = world.sent.get("other").copied().unwrap_or_default() - before;
    assert!(asked <= 12, "{asked} messages for ten keys");
}

#[test]
fn a_page_ends_at_its_bytes() {
    let mut world = World::new(5, 1, 2, 1, 4, faults(40));
    for index in 0..12 {
        let value = Bytes::from(vec![b'a' + index; PAGE_BYTES_MAX / 3]);
        let request = put(&Key::plain(vec![index]), value, WriteContext::Known);
        assert!(matches!(world.call(0, request), Reply::Written(_)));
    }
    world.run();
    let (items, pages) = walk(&mut world, Level::One, &scan(Token(0), 1_000));
    assert_eq!(items.len(), 12);
    assert!(pages >= 3, "four mebibytes came in {pages} pages");
}

#[test]
fn the_copy_of_a_member_that_missed_a_delete_is_not_shown_by_a_majority() {
    let mut world = World::new(6, 3, 2, 3, 8, faults(0));
    let held = fill(&mut world, 40);
    // Node 2 misses the deletes of half of the keys; the others forget them.
    world.cut.extend([(0, 2), (1, 2)]);
    world.publish();
    let (gone, kept): (Vec<_>, Vec<_>) =
        held.keys().enumerate().partition(|(index, _)| index % 2 == 0);
    for (_, key) in &gone {
        assert!(matches!(world.call(0, delete(key)), Reply::Written(_)));
    }
    world.run();
    world.cut.clear();
    world.publish();
    let kept: Vec<Key> = kept.into_iter().map(|(_, key)| key.clone()).collect();
    for node in 0..3 {
        for level in [Level::Quorum, Level::All] {
            let found = page(&mut world, node, level, scan(Token(0), 1_000));
            let keys: Vec<Key> = found.items.into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, kept, "through node {node} at {level:?}");
        }
        let count = world.call(node, Request::new(Op::Count { bucket: BucketId(0) }));
        assert_eq!(count, Reply::Count(u64::try_from(kept.len()).unwrap()));
    }
    let stale = page(&mut world, 2, Level::One, scan(Token(0), 1_000));
    assert_eq!(stale.items.len(), held.len(), "one member alone shows what it holds");
}

#[test]
fn keys_that_are_there_throughout_appear_once_while_others_come_and_go() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3, 2, 3, 16, faults(30));
        let held = fill(&mut world, 60);
        let (mut found, mut cursor, mut pages) = (Vec::new(), Token(0), 0);
        loop {
            // Some keys are rewritten, others come and go, while the page is read.
            for _ in 0..world.random.random_range(0..6) {
                let node = world.random.random_range(0..3);
                let number = world.random.random_range(0..60);
                let key = Key::plain(format!("key{number}"));
                let passing = Key::plain(format!("passing{number}"));
                let value = format!("value{number}");
                let request = match world.random.random_range(0..3) {
                    0 => put(&key, value, WriteContext::Known),
                    1 => put(&passing, value, WriteContext::Known),
                    _ => delete(&passing),
                };
                world.ask(node, 0, request);
            }
            let node = world.random.random_range(0..3);
            let page = page(&mut world, node, Level::Quorum, scan(cursor, 9));
            found.extend(page.items);
            cursor = page.next;
            pages += 1;
            assert!(pages < 200, "seed {seed}: the scan does not end");
            if cursor == Token(0) {
                break;
            }
        }
        let is_held = |item: &&(Key, Option<Bytes>)| held.contains_key(&item.0);
        let seen: Vec<&(Key, Option<Bytes>)> = found.iter().filter(is_held).collect();
        let expected: Vec<(Key, Option<Bytes>)> =
            held.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        assert!(seen.into_iter().eq(expected.iter()), "seed {seed}");
        let keys: BTreeSet<&Key> = found.iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), found.len(), "seed {seed}: a key appeared twice");
        world.heal();
    }
}

#[test]
fn a_scan_goes_on_without_a_member_and_says_when_too_few_are_left() {
    let mut world = World::new(8, 3, 2, 3, 16, faults(0));
    let held = fill(&mut world, 60);
    world.crash(1);
    // Before anybody notices, a silent member costs some patience and nothing else.
    let found = page(&mut world, 0, Level::Quorum, scan(Token(0), 1_000));
    assert_eq!(found.items.len(), held.len());
    world.crash(2);
    world.publish();
    let request = Request::new(Op::Scan(scan(Token(0), 10)));
    let reply = world.call(0, request);
    assert!(matches!(reply, Reply::Fault(Fault::Unavailable { needed: 2, .. })), "{reply:?}");
    let found = page(&mut world, 0, Level::One, scan(Token(0), 1_000));
    assert_eq!(found.items.len(), held.len());
    world.heal();
}

#[test]
fn a_member_that_falls_silent_costs_its_patience_once() {
    let mut world = World::new(13, 3, 2, 3, 1_024, faults(0));
    let held = fill(&mut world, 20);
    // Nobody has noticed yet.
    world.crash(1);
    let before = world.now.mono;
    let found = page(&mut world, 0, Level::Quorum, scan(Token(0), 1_000));
    assert_eq!((found.items.len(), found.next), (held.len(), Token(0)));
    let took = world.now.mono.ms_since(before);
    assert!(took < 2 * MEMBER_PATIENCE_MS, "the scan took {took} ms");
    let before = world.now.mono;
    let count = world.call(0, Request::new(Op::Count { bucket: BucketId(0) }));
    assert_eq!(count, Reply::Count(20));
    let took = world.now.mono.ms_since(before);
    assert!(took < 2 * MEMBER_PATIENCE_MS, "the count took {took} ms");
}

#[test]
fn a_damaged_record_is_answered_for_by_another_member() {
    let mut world = World::new(9, 3, 2, 3, 4, faults(0));
    let held = fill(&mut world, 30);
    let key = held.keys().next().unwrap();
    world.table(0, key).damage(key);
    for level in [Level::One, Level::Quorum] {
        let found = page(&mut world, 0, level, scan(Token(0), 1_000));
        assert_eq!(found.items.len(), held.len(), "{level:?}");
    }
    let all = Request { level: Level::All, ..Request::new(Op::Scan(scan(Token(0), 1_000))) };
    let reply = world.call(0, all);
    let next = match &reply {
        Reply::Page(page) => page.next,
        Reply::Fault(_) => Token(0),
        other => panic!("{other:?}"),
    };
    assert!(next == Token(0) || next <= key.token, "the page ends in front of the damage");
}

#[test]
fn a_scan_that_runs_out_of_time_shows_how_far_it_came() {
    let slow = Faults { delay_us: 40_000, sync_us: 100, ..Faults::default() };
    let mut world = World::new(10, 3, 1, 3, 64, slow);
    fill(&mut world, 20);
    let (mut none, mut some) = (0, 0);
    for left_ms in (10..200).step_by(10) {
        let request = Request { left_ms, ..Request::new(Op::Scan(scan(Token(0), 1_000))) };
        match world.call(0, request) {
            Reply::Page(page) => some += usize::from(page.next > Token(0)),
            Reply::Fault(fault) => {
                assert_eq!(fault, Fault::TimedOut);
                none += 1;
            }
            other => panic!("{other:?}"),
        }
        world.run();
    }
    assert!(none > 0 && some > 0, "{none} came to nothing, {some} to something");
    world.heal();
}

#[test]
fn conflicts_lists_keys_with_siblings_winner_first() {
    let mut world = World::new(11, 3, 2, 3, 16, faults(20));
    fill(&mut world, 30);
    let torn = [Key::plain("key3"), Key::plain("key17")];
    for key in &torn {
        let request = put(key, format!("other {key:?}"), WriteContext::Token(Bytes::new()));
        assert!(matches!(world.call(1, request), Reply::Written(_)));
    }
    world.run();
    let request = Op::Conflicts { bucket: BucketId(0), cursor: Token(0), limit: 10 };
    let Reply::Conflicts(found) = world.call(2, Request::new(request)) else {
        panic!("conflicts are answered")
    };
    let mut expected = torn.to_vec();
    expected.sort_unstable();
    assert_eq!(found.next, Token(0));
    assert_eq!(found.items.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), expected);
    for (key, siblings) in &found.items {
        let Reply::Read(read) = world.call(0, get(key)) else { panic!("a read is answered") };
        assert_eq!(*siblings, read.siblings);
        assert_eq!(siblings.len(), 2);
    }
}

#[test]
fn explain_says_what_each_member_holds_and_who_is_silent() {
    let mut world = World::new(12, 5, 2, 3, 16, faults(50));
    fill(&mut world, 10);
    let key = Key::plain("key4");
    let (partition, row) = world.place(&key);
    world.crash(row[1]);
    world.publish();
    world.table(row[2], &key).damage(&key);
    let asker = (0..5).find(|node| !row.contains(node)).unwrap();
    let explain = |key: &Key| Request::new(Op::Explain { key: key.clone() });
    let Reply::Explained(told) = world.call(asker, explain(&key)) else { panic!("it is answered") };
    assert_eq!((told.partition, told.slot, told.epoch), (partition, key.token.slot(), 1));
    let nodes: Vec<usize> =
        told.replicas.iter().map(|replica| usize::from(replica.node.0[0]) - 1).collect();
    assert_eq!(nodes, row);
    let Some(Holding::Versions { siblings, .. }) = &told.replicas[0].holds else {
        panic!("{:?}", told.replicas[0])
    };
    assert_eq!((siblings.len(), siblings[0].2), (1, 6));
    assert_eq!(told.replicas[1].holds, None);
    assert_eq!(told.replicas[2].holds, Some(Holding::Unknown));
    let Reply::Explained(told) = world.call(asker, explain(&Key::plain("nobody"))) else {
        panic!("it is answered")
    };
    assert!(told.replicas.iter().any(|replica| replica.holds == Some(Holding::Absent)));
    world.heal();
}

#[test]
fn random_scans_among_writes_and_crashes_are_answered_in_time() {
    for seed in 0..48 {
        let faults = Faults {
            lost: [0, 15][usize::try_from(seed % 2).unwrap()],
            doubled: [0, 30][usize::try_from(seed / 2 % 2).unwrap()],
            delay_us: [200, 20_000][usize::try_from(seed / 4 % 2).unwrap()],
            sync_us: [0, 5_000][usize::try_from(seed / 8 % 2).unwrap()],
            cold: [0, 60][usize::try_from(seed / 16 % 2).unwrap()],
        };
        let nodes = usize::try_from(seed % 3).unwrap() + 1;
        let shards = u16::try_from(seed / 3 % 3).unwrap() + 1;
        let mut world = World::new(seed, nodes, shards, 3, 16, faults);
        for operation in 0..60 {
            let up: Vec<usize> = (0..nodes).filter(|&node| world.nodes[node].is_up).collect();
            if up.is_empty() {
                world.restart(0);
                continue;
            }
            let node = up[world.random.random_range(0..up.len())];
            let key = Key::plain(format!("key{}", world.random.random_range(0..12)));
            let cursor = Token(world.random.random());
            let limit = world.random.random_range(1..10);
            let mut request = match world.random.random_range(0..8) {
                0 => Request::new(Op::Scan(scan(cursor, limit))),
                1 => Request::new(Op::Conflicts { bucket: BucketId(0), cursor, limit }),
                2 => Request::new(Op::Count { bucket: BucketId(0) }),
                3 => Request::new(Op::Explain { key }),
                4 => delete(&key),
                _ => put(&key, format!("{operation}"), WriteContext::Known),
            };
            request.left_ms = [5, 100, 1_000][world.random.random_range(0..3)];
            request.level = Level::ALL[world.random.random_range(0..Level::ALL.len())];
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
    }
}
