//! What holds for both protocols of clients: order of answers, any cut of the stream, any bytes.

mod access;
mod expiry;

use bytes::BytesMut;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::testing::{VALUE_BYTES_MAX, World};
use super::*;
use crate::api::{Fault, Page, Read, Reply};
use crate::causality::VersionVector;
use crate::hash::Token;
use crate::limits::ANSWER_BYTES_MAX;

const JSON: &str = concat!(
    "{\"cmd\":\"SET\",\"key\":\"a\",\"value\":\"1\"}\n",
    "{\"cmd\":\"GET\",\"key\":\"a\"}\n",
    "not json\n",
    "\n",
    "{\"cmd\":\"BULK_SET\",\"items\":[{\"key\":1,\"value\":[1, 2]},",
    "{\"key\":\"\\u00e9\",\"value\":2}]}\n",
    "{\"cmd\":\"MGET\",\"keys\":[1,2,\"a\"]}\r\n",
    "{\"cmd\":\"KEYS\"}\n",
    "{\"cmd\":\"SCAN\",\"values\":true,\"cursor\":\"0\"}\n",
    "{\"cmd\":\"EXPLAIN\",\"key\":\"a\",\"level\":\"all\"}\n",
    "{\"cmd\":\"CONFLICTS\",\"limit\":5}\n",
    "{\"cmd\":\"SET\",\"key\":\"b\",\"value\":\"AA==\",\"encoding\":\"base64\",\"context\":\"\"}\n",
    "{\"cmd\":\"INFO\"}\n{\"cmd\":\"STATUS\"}\n{\"cmd\":\"RING\"}\n",
);

const RESP: &str = concat!(
    "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
    "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n",
    "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    "PING\r\n",
    "set x \"a b\\x00\"\r\n",
    "*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$0\r\n\r\n",
    "*3\r\n$4\r\nMGET\r\n$1\r\na\r\n$1\r\nz\r\n",
    "*0\r\n",
    "*1\r\n$4\r\nINFO\r\n",
    "*1\r\n$7\r\nCOMMAND\r\n",
    "*4\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nCOUNT\r\n$1\r\n2\r\n",
    "*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n",
    "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$1\r\nc\r\n",
    "*2\r\n$3\r\nDEL\r\n$1\r\na\r\n",
    "*1\r\n$4\r\nQUIT\r\n",
);

#[test]
fn bytes_one_by_one_are_answered_as_bytes_at_once() {
    for stream in [JSON, RESP] {
        let at_once = World::new().send(stream);
        assert_eq!(World::new().trickle(stream.as_bytes()), at_once);
        let mut generator = Xoshiro256PlusPlus::seed_from_u64(7);
        for _ in 0..200 {
            let mut world = World::new();
            let (mut rest, mut answers) = (stream.as_bytes(), Vec::new());
            while !rest.is_empty() {
                let (part, tail) = rest.split_at(generator.random_range(0..=rest.len().min(60)));
                answers.extend(world.send(part));
                rest = tail;
            }
            assert_eq!(answers, at_once);
        }
    }
}

#[test]
fn mutated_streams_never_panic_or_loop() {
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(8);
    let (mut closed, mut open) = (0_u32, 0_u32);
    for stream in [JSON, RESP] {
        for _ in 0..20_000 {
            let mut bytes = stream.as_bytes().to_vec();
            let start = generator.random_range(0..bytes.len());
            bytes.drain(..start);
            for _ in 0..generator.random_range(1..6) {
                let index = generator.random_range(0..=bytes.len());
                match generator.random_range(0..4) {
                    0 => bytes.insert(index, generator.random()),
                    1 => bytes.truncate(index),
                    2 => bytes.insert(index, *b"{}[]\"\\*$:\r\n-0 9".get(index % 15).unwrap()),
                    _ => {
                        if let Some(byte) = bytes.get_mut(index) {
                            *byte = generator.random();
                        }
                    }
                }
            }
            let mut world = World::with_value_bytes_max(1_000);
            let at_once = world.send(&bytes);
            if world.is_closed() {
                closed += 1;
            } else {
                open += 1;
            }
            if bytes.len() < 200 {
                let mut world = World::with_value_bytes_max(1_000);
                assert_eq!(world.trickle(&bytes), at_once, "{:?}", bytes.escape_ascii());
            }
        }
    }
    assert!(closed > 1_000, "{closed} closed");
    assert!(open > 1_000, "{open} open");
}

#[test]
fn random_bytes_never_panic_or_loop() {
    const ALPHABET: &[u8] = b"{}[]\":,\\*$+-:_\r\n 0123456789gGeEtTsS\"'xX\x00\xff\x16";
    let mut generator = Xoshiro256PlusPlus::seed_from_u64(9);
    for _ in 0..200_000 {
        let length = generator.random_range(0..40);
        let bytes: Vec<u8> =
            (0..length).map(|_| ALPHABET[generator.random_range(0..ALPHABET.len())]).collect();
        let mut world = World::with_value_bytes_max(100);
        world.send(&bytes);
        world.send(b"\r\n\n");
    }
}

#[test]
fn a_first_line_of_no_protocol_leaves_the_choice_open() {
    let refusal = |text| {
        format!(
            "{{\"ok\":false,\"error\":\"{text}\",\"code\":\"bad_request\",\
             \"outcome\":\"refused\"}}\n"
        )
    };
    let invalid = refusal("Invalid JSON");
    let mut world = World::new();
    assert_eq!(world.say("hello there\n"), "-NOPROTO only versions 2 and 3 are spoken here\r\n");
    let mut world = World::new();
    assert_eq!(world.say("good day\n[1]\n"), invalid.repeat(2));
    assert_eq!(world.say("PING\r\n"), "+PONG\r\n");
    let mut world = World::new();
    let answer = world.say("good day\n{\"cmd\":\"GET\"}\n");
    assert_eq!(answer, format!("{invalid}{}", refusal("Missing key")));
    // From here on it is JSON for ever.
    assert_eq!(world.say("PING\r\n"), invalid);
}

fn only_call(world_bytes: &str) -> (Connection, Call) {
    let mut connection = Connection::new(VALUE_BYTES_MAX);
    let mut buffer = BytesMut::from(world_bytes);
    let call = connection.decode(Mono(0), &mut buffer).expect("one command");
    (connection, call)
}

#[test]
fn requests_of_one_call_may_be_answered_in_any_order() {
    let (_, mut call) = only_call("MGET a b c\r\n");
    let slots: Vec<u32> =
        std::iter::from_fn(|| call.next_request()).map(|(slot, _)| slot).collect();
    assert_eq!(slots, [0, 1, 2]);
    for slot in [2, 0, 1] {
        assert!(!call.is_ready());
        call.on_reply(slot, Reply::Fault(Fault::TimedOut), 0);
    }
    assert!(call.is_ready());
}

#[test]
fn a_page_that_leads_nowhere_ends_a_walk() {
    let (mut connection, mut call) = only_call("KEYS *\r\n");
    for next in [5, 9, 9] {
        assert!(call.next_request().is_some());
        assert!(call.next_request().is_none(), "one page at a time");
        call.on_reply(0, Reply::Page(Page { items: Vec::new(), next: Token(next) }), 0);
    }
    assert!(call.is_ready());
    let mut out = BytesMut::new();
    World::new().encode_on(&mut connection, call, &mut out);
    assert!(out.starts_with(b"-UNAVAILABLE "), "{out:?}");
}

#[test]
#[should_panic(expected = "a request has one reply")]
fn a_second_reply_is_a_bug() {
    let (_, mut call) = only_call("MGET a b\r\n");
    let _ = (call.next_request(), call.next_request());
    call.on_reply(0, Reply::Fault(Fault::TimedOut), 0);
    call.on_reply(0, Reply::Fault(Fault::TimedOut), 0);
}

#[test]
fn an_answer_that_would_be_too_long_is_refused_and_its_values_let_go() {
    let keys = "k ".repeat(70);
    let (mut connection, mut call) = only_call(&format!("MGET {keys}\r\n"));
    let value = bytes::Bytes::from(vec![0; ANSWER_BYTES_MAX / 64]);
    while let Some((slot, _)) = call.next_request() {
        let dot = crate::causality::Dot::default();
        let entry = crate::causality::Entry::register(dot, crate::time::Hlc(0), value.clone());
        let context = bytes::Bytes::new();
        let vector_clock = VersionVector::new();
        call.on_reply(slot, Reply::Read(Read { siblings: vec![entry], context, vector_clock }), 0);
    }
    assert!(call.is_ready());
    let mut world = World::new();
    let mut out = BytesMut::new();
    world.encode_on(&mut connection, call, &mut out);
    assert!(out.starts_with(b"-ERR the answer would be longer than "), "{}", out.len());
}
