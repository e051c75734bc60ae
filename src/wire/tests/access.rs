//! Clients must show a token where a node asks for one, and are kept short until they have.

use std::fmt::Write as _;
use std::sync::Arc;

use super::*;
use crate::api::{Grant, Role, Tokens};
use crate::limits::{STRANGER_ARGUMENTS_MAX, STRANGER_BYTES_MAX};

fn world() -> World {
    let lines = [("t-read", Role::Read, "reader"), ("t-write", Role::Write, "app")];
    let lines = lines.map(|(token, role, name)| Grant::of(token, role, name).line());
    World::new().with_tokens(Arc::new(Tokens::parse(&lines.join("\n")).unwrap()))
}

fn check(world: &mut World, steps: &[(&str, &str)]) {
    for (line, expected) in steps {
        let answer = world.say(&format!("{line}\r\n"));
        assert!(answer.starts_with(expected), "{line}: {answer}");
    }
}

#[test]
fn redis_clients_authenticate_in_each_of_their_ways() {
    let noauth = "-NOAUTH Authentication required";
    for way in ["AUTH t-write", "AUTH default t-write", "auth app t-write"] {
        let mut world = world();
        check(
            &mut world,
            &[
                ("PING", noauth),
                ("SET k v", noauth),
                ("CONFIG GET save", noauth),
                ("NONSENSE", noauth),
            ],
        );
        check(&mut world, &[(way, "+OK"), ("SET k v", "+OK"), ("GET k", "$1\r\nv")]);
        check(&mut world, &[("RESET", "+RESET"), ("GET k", noauth)]);
        check(&mut world, &[("HELLO 3", noauth), ("HELLO 3 AUTH app t-write", "%8\r\n")]);
        check(&mut world, &[("GET k", "$1\r\nv"), ("QUIT", "+OK")]);
        assert_eq!(world.node().requests.len(), 3);
    }
    let mut other = World::new();
    check(&mut other, &[("AUTH x", "-ERR this node has no tokens"), ("PING", "+PONG")]);
}

#[test]
fn a_json_client_authenticates_with_a_command() {
    let mut world = world();
    let denied = r#"{"ok":false,"error":"Authentication required: send AUTH with a token"#;
    let auth = r#"{"cmd":"AUTH","token":"t-read"}"#;
    check(
        &mut world,
        &[
            (r#"{"cmd":"PING"}"#, denied),
            (r#"{"cmd":"nonsense"}"#, denied),
            (r#"{"cmd":"AUTH"}"#, r#"{"ok":false,"error":"Missing token""#),
            (auth, r#"{"ok":true,"role":"read"}"#),
            (r#"{"cmd":"GET","key":"k"}"#, r#"{"ok":false,"error":"Key not found""#),
            (
                r#"{"cmd":"SET","key":"k","value":"v"}"#,
                r#"{"ok":false,"error":"the token `reader`"#,
            ),
        ],
    );
    assert_eq!(world.node().requests.len(), 1);
    let answer = world.say("{\"cmd\":\"DELETE\",\"key\":\"k\"}\n");
    assert!(answer.contains(r#""code":"not_permitted","outcome":"refused""#), "{answer}");
}

#[test]
fn a_role_reaches_as_far_as_it_says() {
    let mut world = world();
    check(
        &mut world,
        &[
            ("AUTH reader t-read", "+OK"),
            ("GET k", "$-1"),
            ("DBSIZE", ":0"),
            ("INFO server", "$"),
            (
                "SET k v",
                "-NOPERM the token `reader` may read, and this needs a token that may write",
            ),
            ("DEL k", "-NOPERM"),
            ("MSET a 1", "-NOPERM"),
            ("AUTH t-write", "+OK"),
            ("SET k v", "+OK"),
        ],
    );
}

#[test]
fn the_fifth_wrong_token_is_told_apart_from_those_that_follow() {
    let mut world = world();
    for _ in 0..5 {
        check(&mut world, &[("AUTH t-wrong", "-WRONGPASS invalid username-password pair")]);
    }
    let late = "-ERR too many wrong tokens from this address; AUTH is refused for 60000 ms";
    check(&mut world, &[("AUTH t-write", late), ("HELLO 3 AUTH default t-write", late)]);
    check(&mut world, &[("GET k", "-NOAUTH")]);
    assert_eq!(world.node().requests, []);
}

#[test]
fn until_then_commands_are_short() {
    let words = STRANGER_ARGUMENTS_MAX + 1;
    let broken = "-ERR Protocol error: unauthenticated";
    for bytes in [format!("*{words}\r\n"), format!("*2\r\n$4\r\nAUTH\r\n${}\r\n", 16 * 1024 + 1)] {
        let mut world = world();
        let answer = world.say(&bytes);
        assert!(answer.starts_with(broken), "{answer}");
        assert!(world.is_closed());
        assert!(world.pending_bytes() < 100);
    }
    let mut inline = world();
    let answer = inline.say(&"x".repeat(STRANGER_BYTES_MAX));
    assert!(answer.starts_with("-ERR Protocol error"), "{answer}");
    assert!(inline.is_closed());
    let mut json = world();
    let answer = json.say(&format!("{{\"cmd\":\"{}\"}}\n", "x".repeat(STRANGER_BYTES_MAX)));
    assert!(answer.contains("more than 16384 bytes"), "{answer}");
    assert_eq!(json.say(&"{".repeat(STRANGER_BYTES_MAX + 1)), "");
    assert_eq!(json.pending_bytes(), 0);
    // With the token they may be long.
    let mut known = world();
    let mut mset = String::from("AUTH t-write\r\n*21\r\n$4\r\nMSET\r\n");
    for number in 10..20 {
        let value = "v".repeat(STRANGER_BYTES_MAX + 1);
        write!(mset, "$2\r\n{number}\r\n${}\r\n{value}\r\n", value.len()).unwrap();
    }
    assert_eq!(known.say(&mset), "+OK\r\n+OK\r\n");
}
