//! Writes whose reply shows what they replaced.

use bytes::Bytes;

use super::super::Input;
use super::super::message::{CallId, Message};
use super::world::{Faults, World, delete, get, node_id, put};
use crate::api::{Reply, Request, RequestId, WriteContext};
use crate::hash::Key;
use crate::time::Mono;

const CALM: Faults = Faults { lost: 0, doubled: 0, delay_us: 200, sync_us: 200, cold: 0 };

fn showing(request: Request) -> Request {
    Request { previous: true, ..request }
}

/// What a write says that it replaced.
fn replaced(reply: &Reply) -> Option<Bytes> {
    let Reply::Written(written) = reply else { panic!("not written: {reply:?}") };
    written.previous.clone()
}

fn values(reply: &Reply) -> Vec<Bytes> {
    let Reply::Read(read) = reply else { panic!("not read: {reply:?}") };
    read.siblings.iter().map(|entry| entry.payload.clone()).collect()
}

#[test]
fn a_write_shows_what_it_replaced_and_nothing_where_there_was_nothing() {
    // At the last of four nodes every write of a key of the first three is forwarded.
    for (mut world, node) in [
        (World::new(1, 1, 1, 1, 4, CALM), 0),
        (World::new(1, 3, 1, 3, 1, CALM), 2),
        (World::new(1, 4, 1, 3, 1, CALM), 3),
    ] {
        let key = Key::plain("k");
        let first = world.call(node, showing(put(&key, "1", WriteContext::Known)));
        assert_eq!(replaced(&first), None);
        let second = world.call(node, showing(put(&key, "2", WriteContext::Known)));
        assert_eq!(replaced(&second), Some(Bytes::from("1")));
        assert_eq!(replaced(&world.call(node, put(&key, "3", WriteContext::Known))), None);
        let third = world.call(node, showing(delete(&key)));
        assert_eq!(replaced(&third), Some(Bytes::from("3")));
        assert_eq!(replaced(&world.call(node, showing(delete(&key)))), None);
        assert!(values(&world.call(node, get(&key))).is_empty());
    }
}

#[test]
fn of_siblings_the_winner_among_those_that_go_is_shown() {
    let mut world = World::new(1, 1, 1, 1, 4, CALM);
    let key = Key::plain("k");
    for value in ["a", "b"] {
        world.call(0, put(&key, value, WriteContext::Token(Bytes::new())));
    }
    let Reply::Read(read) = world.call(0, get(&key)) else { panic!("it is read") };
    let loser = WriteContext::Shown(read.siblings[1].dot);
    let reply = world.call(0, showing(put(&key, "c", loser)));
    assert_eq!(replaced(&reply), Some(Bytes::from("a")), "the winner stays, the loser goes");
    let reply = world.call(0, showing(put(&key, "d", WriteContext::Token(Bytes::new()))));
    assert_eq!(replaced(&reply), None, "who has seen nothing replaces nothing");
    assert_eq!(replaced(&world.call(0, showing(delete(&key)))), Some(Bytes::from("d")));
    assert!(values(&world.call(0, get(&key))).is_empty());
}

#[test]
fn no_second_leader_is_asked_to_show_what_the_first_may_have_replaced() {
    let mut world = World::new(1, 4, 1, 3, 1, CALM);
    let key = Key::plain("k");
    world.call(3, put(&key, "v", WriteContext::Known));
    world.run();
    world.nodes[0].is_up = false;
    let ticket = world.ask(3, 0, showing(delete(&key)));
    world.publish();
    let soon = Mono(world.now.mono.0 + 10_000);
    world.run_until(soon);
    let Some(Reply::Fault(fault)) = world.replies.get(&ticket) else { panic!("it is over") };
    assert_eq!(fault.code(), "outcome_unknown");
    world.run();
    assert_eq!(values(&world.call(3, get(&key))), ["v"], "nobody else led the delete");
}

#[test]
fn a_repeated_write_does_not_say_that_it_replaced_nothing() {
    let mut world = World::new(1, 3, 1, 3, 1, CALM);
    let key = Key::plain("k");
    world.call(0, put(&key, "1", WriteContext::Known));
    world.run();
    let again =
        Request { request_id: Some(RequestId(9 << 64)), ..put(&key, "2", WriteContext::Known) };
    assert_eq!(replaced(&world.call(0, showing(again.clone()))), Some(Bytes::from("1")));
    world.run();
    let Reply::Fault(fault) = world.call(1, showing(again.clone())) else { panic!("it is known") };
    assert_eq!(fault.code(), "outcome_unknown");
    // So it is when the network repeats the message of a coordinator.
    let (partition, _) = world.place(&key);
    let request = Box::new(showing(again));
    let forward = Message::Forward { call: CallId(5), partition, request };
    world.step(0, 0, Input::Peer { from: node_id(2), message: forward });
    world.run();
    assert_eq!(values(&world.call(2, get(&key))), ["2"]);
}
