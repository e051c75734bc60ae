//! Expiry, as both protocols say it. Every answer of this world is given at 61,000 ms.

use super::super::testing::{UNIX_MS, World};
use crate::api::{EXPIRY_MS_MAX, Expiry, Op, WriteContext};

const SECOND: u64 = 1_000;

/// Lines of RESP and their answers, on one connection.
fn check(lines: &[(&str, &str)]) -> World {
    let mut world = World::new();
    for (line, expected) in lines {
        assert_eq!(world.say(&format!("{line}\r\n")), *expected, "{line}");
    }
    world
}

fn json(world: &mut World, line: &str) -> String {
    world.say(&format!("{line}\n"))
}

/// What the last write of these lines asked for.
fn expiry_of(lines: &[(&str, &str)]) -> Expiry {
    check(lines).node().requests.pop().expect("it asked").op.expiry()
}

#[test]
fn every_way_to_say_when_a_value_ends_is_understood() {
    for (line, expiry) in [
        ("SET k v EX 5", Expiry::After(5 * SECOND)),
        ("set k v px 5", Expiry::After(5)),
        ("SET k v EXAT 70", Expiry::At(70 * SECOND)),
        ("SET k v PXAT 70001", Expiry::At(70_001)),
        ("SET k v KEEPTTL", Expiry::Kept),
        ("SET k v", Expiry::Never),
        ("SETEX k 5 v", Expiry::After(5 * SECOND)),
        ("PSETEX k 5 v", Expiry::After(5)),
    ] {
        assert_eq!(expiry_of(&[(line, "+OK\r\n")]), expiry, "{line}");
    }
    let last_instant = format!("SET k v PXAT {EXPIRY_MS_MAX}");
    assert_eq!(expiry_of(&[(&last_instant, "+OK\r\n")]), Expiry::At(EXPIRY_MS_MAX));
}

#[test]
fn times_that_cannot_be_are_refused_in_the_words_of_redis_and_nothing_is_asked() {
    let integer = "-ERR value is not an integer or out of range\r\n";
    let invalid = |name: &str| format!("-ERR invalid expire time in '{name}' command\r\n");
    let syntax = "-ERR syntax error\r\n";
    for (line, expected) in [
        ("SET k v EX 0", invalid("set").as_str()),
        ("SET k v PX -5", &invalid("set")),
        ("SET k v EXAT -1", &invalid("set")),
        ("SET k v EX 9223372036854775807", &invalid("set")),
        ("SET k v PX 9223372036854775807", &invalid("set")),
        ("SET k v EX 9223372036854775808", integer),
        ("SET k v EX 1.5", integer),
        ("SET k v EX", syntax),
        ("SET k v EX 5 PX 5", syntax),
        ("SET k v KEEPTTL EX 5", syntax),
        ("SETEX k 0 v", &invalid("setex")),
        ("PSETEX k -1 v", &invalid("psetex")),
        ("EXPIRE k 9223372036854775807", &invalid("expire")),
        ("PEXPIRE k 9223372036854775807", &invalid("pexpire")),
        ("EXPIREAT k 9223372036854775807", &invalid("expireat")),
        ("EXPIRE k soon", integer),
        ("EXPIRE k 5 SOON", "-ERR Unsupported option SOON\r\n"),
        ("GETEX k EX 0", &invalid("getex")),
        ("GETEX k EX", syntax),
        ("GETEX k KEEPTTL", syntax),
    ] {
        assert_eq!(check(&[(line, expected)]).node().requests, [], "{line}");
    }
    for word in ["NX", "XX", "GT", "LT"] {
        let mut world = World::new();
        let answer = world.say(&format!("EXPIRE k 5 {word}\r\n"));
        let start = format!("-ERR EXPIRE with {word} is not supported: ");
        assert!(answer.starts_with(&start), "{answer}");
        assert_eq!(world.node().requests, []);
    }
}

#[test]
fn what_is_left_is_told_in_every_unit_and_rounded_as_in_redis() {
    check(&[
        ("TTL k", ":-2\r\n"),
        ("PEXPIRETIME k", ":-2\r\n"),
        ("SET k v", "+OK\r\n"),
        ("TTL k", ":-1\r\n"),
        ("EXPIRETIME k", ":-1\r\n"),
        ("PEXPIRE k 1500", ":1\r\n"),
        ("TTL k", ":2\r\n"),
        ("PTTL k", ":1500\r\n"),
        ("EXPIRETIME k", ":63\r\n"),
        ("PEXPIRETIME k", ":62500\r\n"),
        ("PERSIST k", ":1\r\n"),
        ("PERSIST k", ":0\r\n"),
        ("TTL k", ":-1\r\n"),
        ("EXPIREAT k 71", ":1\r\n"),
        ("PTTL k", ":10000\r\n"),
        ("SET k w KEEPTTL", "+OK\r\n"),
        ("PTTL k", ":10000\r\n"),
        ("SET k w", "+OK\r\n"),
        ("PTTL k", ":-1\r\n"),
        ("GETEX k PX 5", "$1\r\nw\r\n"),
        ("PTTL k", ":5\r\n"),
        ("GETEX k", "$1\r\nw\r\n"),
        ("PTTL k", ":5\r\n"),
        ("GETEX k PERSIST", "$1\r\nw\r\n"),
        ("PTTL k", ":-1\r\n"),
        ("EXPIRE nothing 5", ":0\r\n"),
        ("PERSIST nothing", ":0\r\n"),
        ("GETEX nothing EX 5", "$-1\r\n"),
    ]);
}

#[test]
fn a_time_in_the_past_deletes() {
    for line in ["EXPIRE k 0", "PEXPIRE k -1", "EXPIREAT k -5", "PEXPIREAT k 0"] {
        let mut world = check(&[("SET k v", "+OK\r\n"), (line, ":1\r\n"), ("GET k", "$-1\r\n")]);
        let deletes = |op: &Op| matches!(op, Op::Delete { .. });
        assert!(world.node().requests.iter().any(|request| deletes(&request.op)), "{line}");
    }
}

#[test]
fn what_is_over_is_neither_shown_nor_counted_nor_renewed() {
    let past = format!("SET k v PXAT {UNIX_MS}");
    let mut world = check(&[
        (&past, "+OK\r\n"),
        ("GET k", "$-1\r\n"),
        ("EXISTS k", ":0\r\n"),
        ("MGET k k", "*2\r\n$-1\r\n$-1\r\n"),
        ("STRLEN k", ":0\r\n"),
        ("TYPE k", "+none\r\n"),
        ("PTTL k", ":-2\r\n"),
        ("EXPIRE k 5", ":0\r\n"),
        ("GETEX k EX 5", "$-1\r\n"),
    ]);
    let writes = world.node().requests.iter().filter(|request| request.op.is_write()).count();
    assert_eq!(writes, 1, "what is over is not written again");
    let mut other = World::new();
    other.node().entries.clone_from(&world.node().entries);
    let absent = r#"{"ok":false,"error":"Key not found","code":"not_found"}"#;
    assert_eq!(json(&mut other, r#"{"cmd":"GET","key":"k"}"#).trim_end(), absent);
    assert_eq!(json(&mut other, r#"{"cmd":"TTL","key":"k"}"#).trim_end(), absent);
    assert_eq!(json(&mut other, r#"{"cmd":"EXPIRE","key":"k","ttl":5}"#).trim_end(), absent);
    let answer = json(&mut other, r#"{"cmd":"GET","key":"k","siblings":true}"#);
    assert!(answer.starts_with(r#"{"ok":true,"values":[],"context":"#), "{answer}");
}

#[test]
fn json_says_seconds_and_is_told_milliseconds() {
    let mut world = World::new();
    for (ttl, ms) in [("5", 5_000), ("0.5", 500), ("1.001", 1_001), ("2.500000", 2_500)] {
        let line = format!(r#"{{"cmd":"SET","key":"k","value":"v","ttl":{ttl}}}"#);
        assert!(json(&mut world, &line).starts_with(r#"{"ok":true,"#));
        let asked = world.node().requests.pop().expect("it asked").op.expiry();
        assert_eq!(asked, Expiry::After(ms));
        let left = json(&mut world, r#"{"cmd":"TTL","key":"k"}"#);
        let expected = format!("{{\"ok\":true,\"ttl_ms\":{ms},\"expires_ms\":{}}}\n", UNIX_MS + ms);
        assert_eq!(left, expected);
    }
    let value = json(&mut world, r#"{"cmd":"GET","key":"k"}"#);
    assert_eq!(value, "{\"ok\":true,\"value\":\"v\",\"expires_ms\":63500}\n");
    let values = json(&mut world, r#"{"cmd":"GET","key":"k","siblings":true}"#);
    assert!(values.contains(r#""values":["v"],"expires_ms":[63500],"context""#), "{values}");
    let changed = json(&mut world, r#"{"cmd":"PERSIST","key":"k"}"#);
    assert!(changed.starts_with(r#"{"ok":true,"changed":true,"seq":"#), "{changed}");
    let put = world.node().requests.pop().expect("it asked").op;
    let Op::Put { context: WriteContext::Token(token), .. } = put else { panic!("{put:?}") };
    assert!(!token.is_empty(), "it replaces just what it read");
    let unchanged = json(&mut world, r#"{"cmd":"PERSIST","key":"k"}"#);
    assert_eq!(unchanged, "{\"ok\":true,\"changed\":false}\n");
    let never = json(&mut world, r#"{"cmd":"TTL","key":"k"}"#);
    assert_eq!(never, "{\"ok\":true,\"ttl_ms\":null}\n");
    let batch =
        r#"{"cmd":"BULK_SET","items":[{"key":"a","value":1},{"key":"b","value":2}],"ttl":9}"#;
    assert!(json(&mut world, batch).starts_with(r#"{"ok":true,"#));
    assert_eq!(world.node().requests.pop().expect("it asked").op.expiry(), Expiry::After(9_000));
}

#[test]
fn json_refuses_times_that_cannot_be() {
    for ttl in ["0", "-1", "0.0001", "1e3", "\"5\"", "true", "99999999999999999999", "32000000000"]
    {
        for line in [
            format!(r#"{{"cmd":"SET","key":"k","value":"v","ttl":{ttl}}}"#),
            format!(r#"{{"cmd":"EXPIRE","key":"k","ttl":{ttl}}}"#),
        ] {
            let mut world = World::new();
            let answer = json(&mut world, &line);
            assert!(answer.contains("ttl must be a number of seconds"), "{line}: {answer}");
            assert!(answer.contains(r#""outcome":"refused""#), "{line}: {answer}");
            assert_eq!(world.node().requests, []);
        }
    }
    let mut world = World::new();
    let answer = json(&mut world, r#"{"cmd":"EXPIRE","key":"k"}"#);
    assert!(answer.contains("Missing ttl"), "{answer}");
    let line = r#"{"cmd":"BULK_SET","items":[{"key":"a","value":1,"ttl":5}]}"#;
    assert!(json(&mut world, line).contains("not_supported"));
    assert_eq!(world.node().requests, []);
}
