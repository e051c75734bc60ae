//! Requests with ids: however often and through whichever node one comes, it is done once.

use super::world::{Faults, World, delete, get, put};
use crate::api::{
    BatchKind, Expiry, Fault, Known, Op, Read, Reply, Request, RequestId, WriteContext, Written,
};
use crate::hash::Key;
use crate::time::Mono;

const CALM: Faults = Faults { lost: 0, doubled: 0, delay_us: 200, sync_us: 200, cold: 0 };

/// Three nodes that hold every key.
fn three_nodes() -> World {
    World::new(1, 3, 1, 3, 1, CALM)
}

fn with_id(id: u128, request: Request) -> Request {
    Request { request_id: Some(RequestId(id)), ..request }
}

fn written(reply: Reply) -> Written {
    let Reply::Written(written) = reply else { panic!("{reply:?}") };
    written
}

fn values(reply: Reply) -> Vec<Vec<u8>> {
    let Reply::Read(Read { siblings, .. }) = reply else { panic!("{reply:?}") };
    siblings.into_iter().map(|entry| entry.payload.to_vec()).collect()
}

fn code(reply: Reply) -> &'static str {
    let Reply::Fault(fault) = reply else { panic!("{reply:?}") };
    assert_ne!(fault, Fault::TimedOut);
    fault.code()
}

/// A put of "1" under an id, then another one of "2" by somebody else.
fn overwritten() -> (World, Key, Request, Written) {
    let mut world = three_nodes();
    let key = Key::plain("k");
    let request = with_id(9, put(&key, "1", WriteContext::Known));
    let first = written(world.call(0, request.clone()));
    world.run();
    world.call(1, put(&key, "2", WriteContext::Known));
    world.run();
    (world, key, request, first)
}

#[test]
fn a_retry_gets_the_first_answer_though_its_value_was_overwritten() {
    let (mut world, key, request, first) = overwritten();
    for node in 0..3 {
        let again = written(world.call(node, request.clone()));
        assert_eq!((again.dot, again.existed), (first.dot, first.existed));
    }
    world.run();
    assert_eq!(values(world.call(2, get(&key))), [b"2"]);
}

#[test]
fn a_request_is_remembered_through_the_restart_of_its_leader() {
    let (mut world, key, request, first) = overwritten();
    world.crash(0);
    world.restart(0);
    world.run();
    assert_eq!(written(world.call(0, request)).dot, first.dot);
    assert_eq!(values(world.call(0, get(&key))), [b"2"]);
}

#[test]
fn a_deletion_that_is_sent_again_deletes_nothing_new() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.call(0, put(&key, "1", WriteContext::Known));
    let request = with_id(9, delete(&key));
    assert!(written(world.call(0, request.clone())).existed);
    world.run();
    world.call(1, put(&key, "2", WriteContext::Known));
    world.run();
    for node in 0..3 {
        assert!(written(world.call(node, request.clone())).existed, "node {node}");
    }
    world.run();
    assert_eq!(values(world.call(2, get(&key))), [b"2"]);
}

#[test]
fn an_id_of_another_request_is_refused_and_nothing_is_applied() {
    let (mut world, key, _, _) = overwritten();
    let other = Key::plain("{k}other");
    let batch = Op::Batch {
        items: vec![(key.clone(), "3".into())],
        expiry: Expiry::Never,
        kind: BatchKind::Any,
    };
    for request in [
        put(&key, "3", WriteContext::Known),
        put(&other, "1", WriteContext::Known),
        delete(&key),
        Request::new(batch),
    ] {
        for node in 0..3 {
            let refusal = code(world.call(node, with_id(9, request.clone())));
            assert_eq!(refusal, "request_id_reused", "{request:?}");
        }
    }
    world.run();
    assert_eq!(values(world.call(2, get(&key))), [b"2"]);
    assert!(values(world.call(2, get(&other))).is_empty());
}

#[test]
fn a_batch_that_is_sent_again_writes_nothing_new() {
    let mut world = World::new(1, 3, 2, 3, 8, CALM);
    let keys: Vec<Key> = (0..8).map(|number| Key::plain(format!("k{number}"))).collect();
    let items = keys.iter().map(|key| (key.clone(), "1".into())).collect();
    let request =
        with_id(9, Request::new(Op::Batch { items, expiry: Expiry::Never, kind: BatchKind::Any }));
    assert!(matches!(world.call(0, request.clone()), Reply::BatchWritten { count: 8, .. }));
    world.run();
    world.call(1, put(&keys[3], "2", WriteContext::Known));
    world.run();
    for node in 0..3 {
        let again = world.call(node, request.clone());
        assert!(matches!(again, Reply::BatchWritten { count: 8, .. }), "{again:?}");
    }
    world.run();
    assert_eq!(values(world.call(2, get(&keys[3]))), [b"2"]);
    assert_eq!(values(world.call(2, get(&keys[4]))), [b"1"]);
}

/// A member that was cut off has missed the first try, and what overwrote it at the others.
#[test]
fn a_retry_that_another_leader_cannot_know_shows_once() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.cut.extend([(0, 2), (1, 2)]);
    let nothing_seen = WriteContext::Token(bytes::Bytes::new());
    let request = with_id(9, put(&key, "1", nothing_seen));
    let first = written(world.call(0, request.clone()));
    world.run();
    world.cut.clear();
    world.publish();
    let again = written(world.call(2, request.clone()));
    assert_ne!(first.dot, again.dot, "node 2 cannot know of the first try");
    world.run();
    assert_eq!(values(world.call(1, get(&key))), [b"1"]);
    assert_eq!(written(world.call(1, request)).siblings, 1);
}

#[test]
fn ids_of_nodes_are_not_remembered() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    let request = put(&key, "1", WriteContext::Known);
    let id = RequestId::of_node(5);
    let request = Request { request_id: Some(id), ..request };
    let first = written(world.call(0, request.clone()));
    world.call(0, put(&key, "2", WriteContext::Known));
    assert_ne!(written(world.call(0, request)).dot, first.dot);
    assert!(world.now.mono > Mono(0));
}

/// What had replaced a batch was sent to the other replicas without its payload when the batch came
/// again, because a batch lets go of what it is about to replace.
#[test]
fn a_batch_that_is_sent_again_leaves_whole_what_has_replaced_it() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    let items = vec![(key.clone(), "1".into())];
    let batch = Op::Batch { items, expiry: Expiry::Never, kind: BatchKind::Any };
    let request = with_id(9, Request::new(batch));
    world.call(0, request.clone());
    world.run();
    world.call(1, put(&key, "2", WriteContext::Known));
    world.run();
    for node in 0..3 {
        world.call(node, request.clone());
        world.run();
        assert_eq!(values(world.call(node, get(&key))), [b"2"], "node {node}");
    }
}

/// The second try had looked for the first one before it began to wait for its keys, and wrote them
/// once more when it had them.
#[test]
fn two_tries_of_a_batch_at_one_time_are_one() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    let items = vec![(key.clone(), "1".into())];
    let batch = Op::Batch { items, expiry: Expiry::Never, kind: BatchKind::Any };
    let request = with_id(9, Request::new(batch));
    let tries = [world.ask(0, 0, request.clone()), world.ask(0, 0, request)];
    world.run();
    for ticket in tries {
        let done = Reply::BatchWritten { count: 1, isolated: true };
        assert_eq!(world.replies.get(&ticket), Some(&done));
    }
    for node in 0..3 {
        assert_eq!(world.table(node, &key).events_of(&key), 1, "node {node}");
    }
}

/// An id that says when it was made.
fn timed(random: u128) -> RequestId {
    RequestId::of_time(1_700_000_000_000, random)
}

fn outcome(world: &mut World, node: usize, id: RequestId, key: &Key) -> Known {
    let reply = world.call(node, Request::new(Op::Outcome { id, key: key.clone() }));
    let Reply::Outcome(settled) = reply else { panic!("{reply:?}") };
    settled.known
}

#[test]
fn an_outcome_is_applied_where_a_replica_knows_of_the_write() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    let request = Request { request_id: Some(timed(1)), ..put(&key, "1", WriteContext::Known) };
    world.cut.extend([(0, 1), (0, 2)]);
    world.call(0, Request { left_ms: 50, ..request.clone() });
    world.cut.clear();
    world.publish();
    for node in 0..3 {
        assert_eq!(outcome(&mut world, node, timed(1), &key), Known::Applied);
    }
    world.call(0, delete(&key));
    world.run();
    assert_eq!(outcome(&mut world, 1, timed(1), &key), Known::Applied);
}

#[test]
fn what_was_not_applied_never_will_be() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    assert_eq!(outcome(&mut world, 1, timed(1), &key), Known::NotApplied);
    assert_eq!(outcome(&mut world, 2, timed(1), &key), Known::NotApplied);
    let request = Request { request_id: Some(timed(1)), ..put(&key, "1", WriteContext::Known) };
    for node in 0..3 {
        assert_eq!(code(world.call(node, request.clone())), "request_id_refused");
    }
    for node in 0..3 {
        world.crash(node);
        world.restart(node);
    }
    world.run();
    for node in 0..3 {
        assert_eq!(code(world.call(node, request.clone())), "request_id_refused");
    }
    let items = vec![(key.clone(), "1".into())];
    let batch = Op::Batch { items, expiry: Expiry::Never, kind: BatchKind::Any };
    let batch = Request { request_id: Some(timed(1)), ..Request::new(batch) };
    assert_eq!(code(world.call(0, batch)), "request_id_refused");
    assert!(values(world.call(0, get(&key))).is_empty());
    assert_eq!(outcome(&mut world, 0, timed(1), &key), Known::NotApplied);
}

#[test]
fn an_outcome_is_unknown_where_a_member_is_silent_or_may_have_forgotten() {
    let mut world = three_nodes();
    let key = Key::plain("k");
    world.cut.extend([(0, 1), (0, 2)]);
    world.publish();
    assert_eq!(outcome(&mut world, 0, timed(1), &key), Known::Unknown);
    world.cut.clear();
    world.publish();
    assert_eq!(outcome(&mut world, 0, RequestId(7), &key), Known::Unknown, "it has no time");
    let mut world = World::new(1, 4, 1, 3, 1, CALM);
    assert_eq!(outcome(&mut world, 0, timed(1), &key), Known::Unknown, "others may know");
}
