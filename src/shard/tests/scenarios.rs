//! Single situations, each by a name that says what must happen.

use bytes::Bytes;

use super::super::message::{CallId, Message};
use super::super::{Input, Lookup, Output, Shard, ShardConfig, Table, Ticket};
use super::table::MemoryTable;
use super::world::{Faults, World, delete, get, node_id, put};
use crate::api::{Fault, Level, Read, Reply, Request, RequestId, WriteContext, Written};
use crate::causality::{Actor, VersionVector, encode_context};
use crate::hash::{Key, PartitionId};
use crate::limits::{LOSER_AGE_MS_MAX, LOSERS_MAX, PARKED_INPUTS_MAX, UNDURABLE_BYTES_MAX};
use crate::time::{Mono, Now};

const CALM: Faults = Faults { lost: 0, doubled: 0, delay_us: 200, sync_us: 200, cold: 0 };

fn one_node() -> World {
    World::new(1, 1, 1, 1, 4, CALM)
}

/// Three nodes that own every key.
fn three_nodes() -> World {
    World::new(1, 3, 1, 3, 1, CALM)
}

fn written(reply: Reply) -> Written {
    let Reply::Written(written) = reply else { panic!("not written: {reply:?}") };
    written
}

fn read(reply: Reply) -> Read {
    let Reply::Read(read) = reply else { panic!("not read: {reply:?}") };
    read
}

fn fault(reply: Reply) -> Fault {
    let Reply::Fault(fault) = reply else { panic!("no fault: {reply:?}") };
    fault
}

fn values(read: &Read) -> Vec<&[u8]> {
    read.siblings.iter().map(|entry| entry.payload.as_ref()).collect()
}

fn nothing_seen() -> WriteContext {
    WriteContext::Token(Bytes::new())
}

#[test]
fn what_is_put_is_read_and_what_is_deleted_is_gone() {
    for mut world in [one_node(), three_nodes()] {
        let key = Key::plain("k");
        assert!(read(world.call(0, get(&key))).siblings.is_empty());
        assert!(!written(world.call(0, put(&key, "1", WriteContext::Known))).existed);
        assert!(written(world.call(0, put(&key, "2", WriteContext::Known))).existed);
        let last = world.nodes.len() - 1;
        assert_eq!(values(&read(world.call(last, get(&key)))), [b"2"]);
        assert!(written(world.call(last, delete(&key))).existed);
        assert!(!written(world.call(last, delete(&key))).existed);
        assert!(read(world.call(0, get(&key))).siblings.is_empty());
        world.run();
        // The metadata of a delete goes as soon as the clocks cover it.
        let partition = key.token.partition(world.layout.partitions);
        assert!(world.table(0, &key).holds(&key).is_void(), "{partition:?} keeps a tombstone");
    }
}

#[test]
fn a_get_sees_the_set_before_it_though_the_record_is_cold() {
    let mut world = one_node();
    let key = Key::plain("k");
    world.call(0, put(&key, "old", WriteContext::Known));
    world.run();
    world.table(0, &key).cold_percent = 100;
    let set = world.ask(0, 0, put(&key, "new", WriteContext::Known));
    let get = world.ask(0, 0, get(&key));
    assert_eq!(world.nodes[0].units[0].shard.waiting(), (1, 2), "both are parked");
    world.run();
    assert!(written(world.replies[&set].clone()).existed);
    assert_eq!(values(&read(world.replies[&get].clone())), [b"new"]);
}

#[test]
fn a_parked_input_dies_with_its_deadline_and_changes_nothing() {
    let mut world = one_node();
    let key = Key::plain("k");
    world.call(0, put(&key, "old", WriteContext::Known));
    world.run();
    world.table(0, &key).cold_percent = 100;
    world.faults.sync_us = 1 << 40;
    let late = world.ask(0, 0, put(&key, "new", WriteContext::Known));
    let reading = world.ask(0, 0, get(&key));
    let due = world.now.mono.plus_ms(5_000);
    world.run_until(due);
    assert_eq!(fault(world.replies[&late].clone()), Fault::TimedOut);
    assert_eq!(fault(world.replies[&reading].clone()).code(), "unavailable");
    assert_eq!(world.table(0, &key).holds(&key).entries[0].payload, "old");
}

#[test]
fn inputs_beyond_the_bound_of_parked_ones_are_refused_as_overloaded() {
    let mut world = one_node();
    let key = Key::plain("k");
    world.call(0, put(&key, "v", WriteContext::Known));
    world.run();
    world.table(0, &key).cold_percent = 100;
    for _ in 0..PARKED_INPUTS_MAX {
        world.ask(0, 0, put(&key, "w", WriteContext::Known));
    }
    for request in [put(&key, "x", WriteContext::Known), get(&key), delete(&key)] {
        let ticket = world.ask(0, 0, request);
        assert_eq!(fault(world.replies[&ticket].clone()).code(), "overloaded");
    }
    world.run();
    assert!(world.open.is_empty());
}

#[test]
fn too_many_undurable_bytes_refuse_writes_and_not_reads() {
    let mut world = one_node();
    let key = Key::plain("k");
    world.table(0, &key).undurable_extra = UNDURABLE_BYTES_MAX + 1;
    let reply = world.call(0, put(&key, "v", WriteContext::Known));
    assert_eq!(fault(reply).code(), "overloaded");
    assert!(read(world.call(0, get(&key))).siblings.is_empty());
}

#[test]
fn a_full_disk_refuses_values_and_takes_deletes() {
    let mut world = one_node();
    let key = Key::plain("k");
    world.call(0, put(&key, "v", WriteContext::Known));
    world.table(0, &key).full = true;
    assert_eq!(fault(world.call(0, put(&key, "w", WriteContext::Known))), Fault::DiskFull);
    assert!(written(world.call(0, delete(&key))).existed);
}

#[test]
fn a_used_up_memory_budget_refuses_values_and_takes_deletes() {
    let mut world = one_node();
    let key = Key::plain("k");
    world.call(0, put(&key, "v", WriteContext::Known));
    world.table(0, &key).out_of_memory = true;
    assert_eq!(fault(world.call(0, put(&key, "w", WriteContext::Known))), Fault::OutOfMemory);
    assert_eq!(read(world.call(0, get(&key))).siblings.len(), 1);
    assert!(written(world.call(0, delete(&key))).existed);
}

#[test]
fn another_member_leads_where_the_disk_of_the_coordinator_is_full() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.table(0, &key).full = true;
    let written = written(world.call(0, put(&key, "v", WriteContext::Known)));
    assert_eq!(written.dot.actor.tag(), node_id(1).tag());
    assert_eq!(written.acks_home, 2);
}

#[test]
fn a_damaged_record_is_never_an_absence_and_a_quorum_read_heals_it() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.call(0, put(&key, "v", WriteContext::Known));
    world.run();
    world.table(0, &key).damage(&key);
    assert_eq!(values(&read(world.call(0, get(&key)))), [b"v"]);
    world.run();
    // Healed: it counts again, and even alone.
    world.nodes[1].is_up = false;
    world.nodes[2].is_up = false;
    let alone = Request { level: Level::One, ..get(&key) };
    assert_eq!(values(&read(world.call(0, alone))), [b"v"]);
}

#[test]
fn a_read_that_cannot_do_without_a_damaged_record_heals_it_first() {
    for (nodes, level) in [(2, Level::Quorum), (3, Level::All), (5, Level::All)] {
        for bytes in [10, 100_000] {
            let mut world = World::new(1, nodes, 1, nodes, 1, CALM);
            let key = Key::plain("k");
            world.call(0, put(&key, vec![b'v'; bytes], WriteContext::Known));
            world.run();
            for reader in [0, 1] {
                world.table(0, &key).damage(&key);
                let shown = read(world.call(reader, Request { level, ..get(&key) }));
                assert_eq!(shown.siblings[0].payload.len(), bytes, "{nodes} nodes");
                let dot = shown.siblings[0].dot;
                assert!(world.is_durable_at(0, &key, dot));
                let (lookup, _) = world.table(0, &key).get(&key);
                assert!(matches!(lookup, Lookup::Found(_)), "it is healed when it is shown");
            }
        }
    }
}

#[test]
fn where_damage_leaves_too_few_answers_the_reply_says_so() {
    for nodes in [1, 3] {
        let mut world = World::new(1, nodes, 1, nodes, 1, CALM);
        let key = Key::plain("k");
        world.call(0, put(&key, "v", WriteContext::Known));
        world.run();
        for node in 0..nodes {
            world.table(node, &key).damage(&key);
        }
        assert_eq!(fault(world.call(0, get(&key))).code(), "damaged");
    }
}

#[test]
fn a_new_write_does_not_pass_for_what_a_damaged_record_said() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.call(0, put(&key, "v", WriteContext::Known));
    world.run();
    world.table(2, &key).damage(&key);
    let blind = Request { level: Level::All, ..put(&key, "w", nothing_seen()) };
    assert_eq!(fault(world.call(0, blind)).code(), "outcome_unknown");
    // Member 3 still does not know about v, so it must not answer alone.
    world.nodes[0].is_up = false;
    world.nodes[1].is_up = false;
    world.publish();
    let reply = world.call(2, Request { level: Level::One, ..get(&key) });
    assert_eq!(fault(reply).code(), "damaged");
}

#[test]
fn the_last_copy_takes_a_new_value_over_a_damaged_record() {
    let mut world = one_node();
    let key = Key::plain("k");
    world.call(0, put(&key, "v", WriteContext::Known));
    world.run();
    world.table(0, &key).damage(&key);
    world.oracle.excuse(&key);
    written(world.call(0, put(&key, "w", WriteContext::Known)));
    assert_eq!(values(&read(world.call(0, get(&key)))), [b"w"]);
}

#[test]
fn a_replica_that_is_being_rebuilt_stores_and_answers_for_nothing() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.call(0, put(&key, "v", WriteContext::Known));
    world.run();
    world.restart_rebuilding(0);
    let led = written(world.call(0, put(&key, "w", WriteContext::Known)));
    assert_eq!(led.dot.actor.tag(), node_id(1).tag(), "it does not lead");
    world.run();
    assert!(world.is_durable_at(0, &key, led.dot), "it stores");
    let records = world.table(0, &key).log_len();
    let other = Key::plain("other");
    for round in 0..3 {
        assert_eq!(values(&read(world.call(0, get(&key)))), [b"w"]);
        world.run();
        assert_eq!(world.table(0, &key).log_len(), records + round, "reads write nothing new");
        // What happens to other keys is no news about this one.
        world.call(1, put(&other, "x", WriteContext::Known));
        world.run();
    }
    world.nodes[1].is_up = false;
    world.publish();
    let reply = fault(world.call(0, get(&key)));
    assert_eq!(reply.code(), "damaged", "it may not learn from one member what two know");
}

/// Written at level one, so on one node only, which then loses something else: what it still has is
/// no answer that counts, but nobody else has it. Found by seed 546 of the random simulations.
#[test]
fn what_a_replica_still_has_is_shown_while_it_is_being_rebuilt() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.call(1, put(&key, "everywhere", WriteContext::Known));
    world.run();
    world.cut.extend([(0, 1), (0, 2)]);
    world.publish();
    let context = WriteContext::Token(Bytes::new());
    written(world.call(0, Request { level: Level::One, ..put(&key, "here", context) }));
    world.run();
    world.restart_rebuilding(0);
    world.heal();
    for _ in 0..2 {
        let reply = world.call(1, Request { level: Level::All, ..get(&key) });
        assert_eq!(values(&read(reply)), [&b"here"[..], b"everywhere"]);
        world.run();
    }
}

#[test]
fn tokens_that_no_reply_gave_are_refused() {
    let mut world = one_node();
    let key = Key::plain("k");
    let token = written(world.call(0, put(&key, "v", WriteContext::Known))).context;
    let (partition, _) = world.place(&key);
    let forged = |seen: &[(Actor, u64)]| {
        let seen: VersionVector = seen.iter().copied().collect();
        Bytes::from(encode_context(partition, &seen))
    };
    let me = Actor::new(node_id(0).tag(), 1);
    let mut cut = token.to_vec();
    cut.pop();
    let elsewhere = encode_context(PartitionId(partition.0 ^ 1), &VersionVector::new());
    let bad = [
        Bytes::from(cut),
        Bytes::from(elsewhere),
        Bytes::from_static(b"x"),
        forged(&[(me, 1 << 40)]),
        forged(&[(Actor::new(node_id(0).tag(), 2), 1)]),
    ];
    for token in bad {
        let reply = world.call(0, put(&key, "w", WriteContext::Token(token.clone())));
        assert_eq!(fault(reply).code(), "bad_context", "{token:?}");
    }
    let stranger = forged(&[(me, 1), (Actor(7), 9)]);
    written(world.call(0, put(&key, "w", WriteContext::Token(stranger))));
    assert_eq!(values(&read(world.call(0, get(&key)))), [b"w"]);
}

#[test]
fn two_clients_that_were_shown_the_same_value_both_keep_theirs() {
    let mut world = one_node();
    let key = Key::plain("k");
    let first = written(world.call(0, put(&key, "0", WriteContext::Known))).dot;
    world.call(0, put(&key, "1", WriteContext::Shown(first)));
    world.call(0, put(&key, "2", WriteContext::Shown(first)));
    let both = read(world.call(0, get(&key)));
    assert_eq!(values(&both), [b"2", b"1"], "the winner first");
    // Who was shown the winner only replaces the winner only, though one actor minted both.
    world.call(0, put(&key, "3", WriteContext::Shown(both.siblings[0].dot)));
    let read_again = read(world.call(0, get(&key)));
    assert_eq!(values(&read_again), [b"3", b"1"]);
    let all = WriteContext::Token(read_again.context);
    assert_eq!(written(world.call(0, put(&key, "4", all))).siblings, 1);
}

#[test]
fn the_token_of_a_write_covers_nothing_that_its_writer_was_not_shown() {
    let mut world = one_node();
    let key = Key::plain("k");
    world.call(0, put(&key, "a", nothing_seen()));
    let blind = written(world.call(0, put(&key, "b", nothing_seen())));
    assert_eq!(blind.siblings, 2);
    world.call(0, put(&key, "c", WriteContext::Token(blind.context)));
    let shown = read(world.call(0, get(&key)));
    assert!(values(&shown).contains(&b"a".as_slice()), "a was never shown: {shown:?}");
}

#[test]
fn losers_are_kept_within_their_bounds_and_counted_when_they_go() {
    let mut world = one_node();
    let key = Key::plain("k");
    for index in 0..LOSERS_MAX + 4 {
        world.call(0, put(&key, format!("v{index}"), nothing_seen()));
    }
    let shown = read(world.call(0, get(&key)));
    assert_eq!(shown.siblings.len(), LOSERS_MAX + 1);
    assert_eq!(shown.siblings[0].payload, "v11");
    assert_eq!(shown.siblings[LOSERS_MAX].payload, "v3", "the oldest went");
    assert_eq!(world.nodes[0].units[0].shard.counters().conflicts_dropped, 3);
    // Large ones are bounded by their bytes.
    let large = Key::plain("large");
    for _ in 0..4 {
        world.call(0, put(&large, vec![0; 30_000], nothing_seen()));
    }
    assert_eq!(read(world.call(0, get(&large))).siblings.len(), 3);
    // Old ones go with the next write.
    let later = world.now.mono.plus_ms(LOSER_AGE_MS_MAX + 1_000);
    world.run_until(later);
    world.call(0, put(&key, "new", nothing_seen()));
    assert_eq!(values(&read(world.call(0, get(&key)))), [b"new"]);
}

#[test]
fn a_retry_with_the_same_request_id_shows_once() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    let request =
        Request { request_id: Some(RequestId(7 << 64)), ..put(&key, "v", nothing_seen()) };
    let dots: Vec<_> = (0..3).map(|node| written(world.call(node, request.clone())).dot).collect();
    world.run();
    assert_eq!(values(&read(world.call(2, get(&key)))), [b"v"], "{dots:?}");
    assert_eq!(written(world.call(0, request)).siblings, 1);
}

#[test]
fn a_repeated_forward_does_not_write_again() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    let (partition, _) = world.place(&key);
    let request = Request { request_id: Some(RequestId(9)), ..put(&key, "1", WriteContext::Known) };
    let forward = Message::Forward { call: CallId(5), partition, request: Box::new(request) };
    world.step(0, 0, Input::Peer { from: node_id(2), message: forward.clone() });
    world.run();
    world.call(1, put(&key, "2", WriteContext::Known));
    world.run();
    world.step(0, 0, Input::Peer { from: node_id(2), message: forward });
    world.run();
    assert_eq!(values(&read(world.call(0, get(&key)))), [b"2"]);
}

/// Member 1 alone has the value b, the others have a.
fn stale(bytes: usize) -> (World, Key) {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.call(0, put(&key, vec![b'a'; bytes], WriteContext::Known));
    world.run();
    world.cut.extend([(0, 1), (0, 2)]);
    let lonely = Request { left_ms: 50, ..put(&key, vec![b'b'; bytes], WriteContext::Known) };
    assert_eq!(fault(world.call(0, lonely)).code(), "outcome_unknown");
    world.cut.clear();
    (world, key)
}

#[test]
fn a_stale_member_is_repaired_by_a_read_whatever_the_length_of_the_value() {
    for bytes in [10, 100_000] {
        for reader in 0..3 {
            let (mut world, key) = stale(bytes);
            let fresh = vec![b'b'; bytes];
            let all = Request { level: Level::All, ..get(&key) };
            assert_eq!(read(world.call(reader, all)).siblings[0].payload, fresh);
            world.run();
            for node in 0..3 {
                let held = world.table(node, &key).holds(&key);
                assert_eq!(held.entries.len(), 1, "{node} was not repaired");
                assert_eq!(held.entries[0].payload, fresh, "{node} was not repaired");
            }
        }
    }
}

#[test]
fn a_strict_read_shows_only_what_is_durable_on_a_majority() {
    let (mut world, key) = stale(10);
    let dot = world.table(0, &key).holds(&key).entries[0].dot;
    let strict = Request { level: Level::Strict, ..get(&key) };
    let shown = read(world.call(0, strict.clone()));
    assert_eq!(shown.siblings[0].dot, dot);
    let durable = (0..3).filter(|&node| world.is_durable_at(node, &key, dot)).count();
    assert_eq!(durable, 2, "it was repaired before it was shown");
    // Where no majority can be made to store it, it is not shown.
    let (mut world, key) = stale(10);
    world.table(1, &key).full = true;
    assert_eq!(fault(world.call(0, strict)).code(), "unavailable");
}

#[test]
fn nothing_is_done_before_there_is_a_cluster_and_an_actor() {
    let config = ShardConfig { shards: 1, ..ShardConfig::default() };
    let mut shard = Shard::new(config);
    let mut table = MemoryTable::new(1);
    let key = Key::plain("k");
    let mut ask = |shard: &mut Shard, request: Request| {
        let mut out = Output::default();
        let now = Now { mono: Mono(1), unix_ms: 1 };
        let input = Input::Client { ticket: Ticket(1), request };
        shard.step(now, input, &mut table, &mut out);
        out.replies.pop().expect("it is answered at once").2
    };
    for request in [get(&key), put(&key, "v", WriteContext::Known)] {
        assert_eq!(fault(ask(&mut shard, request)).code(), "no_cluster");
    }
    let mut view = one_node().view(0);
    view.actor = None;
    let mut other = MemoryTable::new(2);
    let view = Input::View(std::sync::Arc::new(view));
    shard.step(Now::default(), view, &mut other, &mut Output::default());
    assert!(read(ask(&mut shard, get(&key))).siblings.is_empty());
    let reply = fault(ask(&mut shard, put(&key, "v", WriteContext::Known)));
    assert_eq!(reply.code(), "unavailable");
}

#[test]
fn a_request_without_time_is_refused_before_it_costs_anything() {
    let mut world = one_node();
    let key = Key::plain("k");
    for request in [get(&key), put(&key, "v", WriteContext::Known)] {
        let reply = world.call(0, Request { left_ms: 0, ..request });
        assert_eq!(fault(reply), Fault::TimedOut);
    }
    assert_eq!(world.table(0, &key).log_len(), 0);
}

#[test]
fn a_restart_mints_under_a_new_actor_and_keeps_what_was_durable() {
    let mut world = one_node();
    let key = Key::plain("k");
    let before = written(world.call(0, put(&key, "1", WriteContext::Known)));
    world.faults.sync_us = 1 << 40;
    world.ask(0, 0, put(&key, "lost", WriteContext::Known));
    world.crash(0);
    world.faults.sync_us = 200;
    world.restart(0);
    assert_eq!(values(&read(world.call(0, get(&key)))), [b"1"]);
    let after = written(world.call(0, put(&key, "2", WriteContext::Known)));
    assert_ne!(after.dot.actor, before.dot.actor);
    assert_eq!(after.dot.seq, 1);
    assert_eq!(values(&read(world.call(0, get(&key)))), [b"2"]);
}

#[test]
fn a_shard_takes_its_own_clocks_from_the_log_and_no_others() {
    let mut world = World::new(1, 1, 3, 1, 8, CALM);
    let keys: Vec<Key> = (0..20).map(|index| Key::plain(format!("k{index}"))).collect();
    for key in &keys {
        written(world.call(0, put(key, "v", WriteContext::Known)));
    }
    world.crash(0);
    world.restart(0);
    for key in &keys {
        assert_eq!(values(&read(world.call(0, get(key)))), [b"v"]);
        assert!(written(world.call(0, delete(key))).existed);
        world.run();
        assert!(world.table(0, key).holds(key).is_void());
    }
}

#[test]
fn a_late_member_is_hedged_once_reads_have_paid_for_it() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.call(0, put(&key, "v", WriteContext::Known));
    for _ in 0..20 {
        world.call(0, get(&key));
    }
    world.nodes[1].is_up = false;
    let before = world.now.mono;
    assert_eq!(values(&read(world.call(0, get(&key)))), [b"v"]);
    assert_eq!(world.nodes[0].units[0].shard.counters().hedges, 1);
    assert!(world.now.mono.ms_since(before) <= 20, "a hedge does not wait for patience");
}

#[test]
fn a_write_goes_to_the_next_member_as_soon_as_the_first_is_known_to_be_gone() {
    let mut world = World::new(1, 4, 1, 3, 1, CALM);
    let key = Key::plain("k");
    world.nodes[0].is_up = false;
    let ticket = world.ask(3, 0, put(&key, "v", WriteContext::Known));
    let before = world.now.mono;
    world.publish();
    while !world.replies.contains_key(&ticket) {
        let soon = Mono(world.now.mono.0 + 100);
        world.run_until(soon);
    }
    assert_eq!(written(world.replies[&ticket].clone()).dot.actor.tag(), node_id(1).tag());
    assert!(world.now.mono.ms_since(before) < 10);
}

#[test]
fn a_write_that_enough_members_cannot_store_any_more_ends_at_once_as_unknown() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    let ticket = world.ask(0, 0, put(&key, "v", WriteContext::Known));
    for node in [1, 2] {
        world.nodes[node].is_up = false;
    }
    world.publish();
    assert_eq!(fault(world.replies[&ticket].clone()).code(), "outcome_unknown");
    // And a new one is refused before anything is done.
    let dots = world.table(0, &key).log_len();
    let refused = world.call(0, put(&key, "w", WriteContext::Known));
    assert_eq!(fault(refused).code(), "unavailable");
    assert_eq!(world.table(0, &key).log_len(), dots);
}
