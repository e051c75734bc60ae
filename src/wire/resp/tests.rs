//! Every command that is served, what clients say when they connect, and what is refused.

use std::fmt::Write as _;

use bytes::Bytes;

use super::commands::{TABLE, Verdict};
use crate::api::{Fault, Op, RequestId, WriteContext};
use crate::hash::Key;
use crate::limits::{
    BATCH_BYTES_MAX, INLINE_BYTES_MAX, KEY_BYTES_MAX, KEYS_LIMIT_DEFAULT, RESP_ARRAY_MAX,
};
use crate::wire::testing::{VALUE_BYTES_MAX, World};

/// A command as clients write it: an array of bulk strings.
fn command(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        write!(text, "${}\r\n{word}\r\n", word.len()).unwrap();
    }
    text
}

/// Words of a command parted by blanks, and its answer in RESP2, on one connection.
fn check(rows: &[(&str, &str)]) {
    check_on(&mut World::new(), rows);
}

fn check_on(world: &mut World, rows: &[(&str, &str)]) {
    for (line, answer) in rows {
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(world.say(&command(&words)), *answer, "{line}");
    }
    assert!(!world.is_closed());
}

#[test]
fn keys_and_values_behave_as_in_redis() {
    check(&[
        ("SET k v", "+OK\r\n"),
        ("GET k", "$1\r\nv\r\n"),
        ("get absent", "$-1\r\n"),
        ("MSET a 1 b 22", "+OK\r\n"),
        ("MGET a absent b", "*3\r\n$1\r\n1\r\n$-1\r\n$2\r\n22\r\n"),
        ("EXISTS a a absent", ":2\r\n"),
        ("STRLEN b", ":2\r\n"),
        ("STRLEN absent", ":0\r\n"),
        ("TYPE a", "+string\r\n"),
        ("TYPE absent", "+none\r\n"),
        ("DBSIZE", ":3\r\n"),
        ("KEYS *", "*3\r\n$1\r\nb\r\n$1\r\nk\r\n$1\r\na\r\n"),
        ("SCAN 0", "*2\r\n$1\r\n0\r\n*3\r\n$1\r\nb\r\n$1\r\nk\r\n$1\r\na\r\n"),
        (
            "SCAN 0 TYPE string MATCH * COUNT 100000",
            "*2\r\n$1\r\n0\r\n*3\r\n$1\r\nb\r\n$1\r\nk\r\n$1\r\na\r\n",
        ),
        ("SCAN 0 TYPE hash", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("DEL a absent", ":1\r\n"),
        ("UNLINK b", ":1\r\n"),
        ("DBSIZE", ":1\r\n"),
    ]);
}

#[test]
fn a_delete_can_show_what_it_removes_and_removes_nothing_else() {
    let mut world = World::new();
    check_on(
        &mut world,
        &[("SET k v", "+OK\r\n"), ("GETDEL k", "$1\r\nv\r\n"), ("GETDEL k", "$-1\r\n")],
    );
    let requests = std::mem::take(&mut world.node().requests);
    let mut deletes = requests.iter().filter_map(|request| {
        if let Op::Delete { context, .. } = &request.op { Some(context) } else { None }
    });
    assert!(matches!(deletes.next(), Some(WriteContext::Token(_))), "by what was read");
    assert_eq!(deletes.next(), None, "what is absent is not deleted");
}

#[test]
fn a_write_can_show_what_it_replaced() {
    let mut world = World::new();
    check_on(
        &mut world,
        &[
            ("SET k 1 GET", "$-1\r\n"),
            ("SET k 2 get EX 5", "$1\r\n1\r\n"),
            ("SET k 3 KEEPTTL GET", "$1\r\n2\r\n"),
            ("TTL k", ":5\r\n"),
        ],
    );
    assert!(world.node().requests.iter().take(3).all(|request| request.previous));
    // What it shows is what it replaces, whatever this connection was shown before.
    world.node().add_sibling("k", "v");
    check_on(&mut world, &[("GET k", "$1\r\nv\r\n"), ("SET k w GET", "$1\r\nv\r\n")]);
    let last = world.node().requests.pop().unwrap();
    assert!(matches!(last.op, Op::Put { context: WriteContext::Known, .. }), "{last:?}");
}

#[test]
fn a_scan_goes_on_at_its_cursor() {
    let mut world = World::new();
    check_on(&mut world, &[("MSET a 1 b 2 k 3", "+OK\r\n")]);
    let next = Key::plain("k").token.0.to_string();
    let expected = format!("*2\r\n${}\r\n{next}\r\n*1\r\n$1\r\nb\r\n", next.len());
    let rest = "*2\r\n$1\r\n0\r\n*2\r\n$1\r\nk\r\n$1\r\na\r\n";
    check_on(&mut world, &[("SCAN 0 COUNT 1", &expected), (&format!("SCAN {next}"), rest)]);
}

#[test]
fn the_connection_is_answered() {
    check(&[
        ("PING", "+PONG\r\n"),
        ("PING hello", "$5\r\nhello\r\n"),
        ("ECHO hello", "$5\r\nhello\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("CLIENT ID", ":9\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME me", "+OK\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("CLIENT NO-EVICT ON", "+OK\r\n"),
        ("CLIENT TRACKING OFF", "+OK\r\n"),
        ("CLIENT SETINFO LIB-NAME x", "+OK\r\n"),
        ("CLIENT SETINFO LIB-VER 1.0", "+OK\r\n"),
        ("RESET", "+RESET\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("COMMAND DOCS nope", "*0\r\n"),
        ("COMMAND INFO nope", "*1\r\n$-1\r\n"),
        ("COMMAND GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS DEL a b", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND GETKEYS GET a", "*1\r\n$1\r\na\r\n"),
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("CONFIG GET nothing", "*0\r\n"),
    ]);
    let mut world = World::new();
    assert_eq!(world.say(&command(&["QUIT"])), "+OK\r\n");
    assert!(world.is_closed());
}

#[test]
fn commands_are_told_with_their_real_key_positions() {
    let answer = World::new().say(&command(&["COMMAND", "INFO", "mset", "get"]));
    let mset = "*10\r\n$4\r\nmset\r\n:-3\r\n*2\r\n+write\r\n+denyoom\r\n:1\r\n:-1\r\n:2\r\n";
    let get = "*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n";
    assert!(answer.starts_with(&format!("*2\r\n{mset}")), "{answer}");
    assert!(answer.contains(get), "{answer}");
    let all = World::new().say(&command(&["COMMAND"]));
    let served = TABLE.iter().filter(|command| command.is_served()).count();
    assert!(all.starts_with(&format!("*{served}\r\n*10\r\n")), "{all}");
    let count = World::new().say(&command(&["COMMAND", "COUNT"]));
    assert_eq!(count, format!(":{served}\r\n"));
    for name in ["set", "get", "mset"] {
        assert!(all.contains(&format!("\r\n{name}\r\n")));
    }
}

#[test]
fn commands_say_what_they_do() {
    let mut world = World::new();
    let docs = world.say(&command(&["COMMAND", "DOCS", "echo"]));
    let summary = "$7\r\nsummary\r\n$19\r\nanswers the message\r\n";
    assert!(docs.starts_with(&format!("*2\r\n$4\r\necho\r\n*8\r\n{summary}")), "{docs}");
    let docs = world.say(&command(&["COMMAND", "DOCS", "config"]));
    assert!(docs.contains("$11\r\nsubcommands\r\n*4\r\n$10\r\nconfig|get\r\n"), "{docs}");
    for name in ["CLIENT", "COMMAND", "CONFIG"] {
        let help = world.say(&command(&[name, "HELP"]));
        assert!(help.contains(&format!("+{name} HELP: this list\r\n")), "{help}");
    }
}

#[test]
fn resp3_has_maps_sets_and_a_null() {
    let mut world = World::new();
    let hello = world.say(&command(&["HELLO", "3", "SETNAME", "me"]));
    assert!(hello.starts_with("%8\r\n$6\r\nserver\r\n$5\r\nredis\r\n"), "{hello}");
    assert!(hello.contains("$7\r\nversion\r\n$5\r\n7.4.0\r\n$5\r\nproto\r\n:3\r\n"), "{hello}");
    check_on(
        &mut world,
        &[
            ("GET absent", "_\r\n"),
            ("CLIENT GETNAME", "$2\r\nme\r\n"),
            ("MGET absent", "*1\r\n_\r\n"),
            ("CONFIG GET save", "%1\r\n$4\r\nsave\r\n$0\r\n\r\n"),
            ("COMMAND DOCS nope", "%0\r\n"),
        ],
    );
    assert!(world.say(&command(&["INFO", "server"])).starts_with('='));
    assert!(world.say(&command(&["COMMAND", "INFO", "get"])).contains("~2\r\n+readonly\r\n"));
    // Without a version the agreed one stays; RESET goes back to the first.
    assert!(world.say(&command(&["HELLO"])).starts_with("%8\r\n"));
    check_on(&mut world, &[("RESET", "+RESET\r\n"), ("GET absent", "$-1\r\n")]);
    assert!(world.say(&command(&["HELLO"])).starts_with("*16\r\n"));
}

#[test]
fn an_answer_is_written_in_the_version_of_its_command() {
    let pipeline = [
        command(&["GET", "x"]),
        command(&["HELLO", "3"]),
        command(&["GET", "x"]),
        command(&["HELLO", "2"]),
        command(&["GET", "x"]),
    ];
    let answer = World::new().say(&pipeline.concat());
    assert!(answer.starts_with("$-1\r\n%8\r\n"), "{answer}");
    assert!(answer.contains("_\r\n*16\r\n"), "{answer}");
    assert!(answer.ends_with("$-1\r\n"), "{answer}");
}

#[test]
fn a_hello_that_is_refused_changes_nothing() {
    let mut world = World::new();
    for words in [
        &["HELLO", "4"][..],
        &["HELLO", "x"],
        &["HELLO", "3", "AUTH", "default", "secret"],
        &["HELLO", "3", "SETNAME", "a b"],
        &["HELLO", "3", "SETNAME"],
    ] {
        let answer = world.say(&command(words));
        assert!(answer.starts_with('-'), "{answer}");
    }
    assert!(world.say(&command(&["HELLO", "9"])).starts_with("-NOPROTO "));
    check_on(&mut world, &[("GET x", "$-1\r\n"), ("CLIENT GETNAME", "$-1\r\n")]);
}

#[test]
fn info_has_what_clients_look_for() {
    let mut world = World::new();
    let all = world.say(&command(&["INFO"]));
    for line in ["redis_version:7.4.0", "loading:0", "role:master", "tcp_port:6379", "# Keyspace"] {
        assert!(all.contains(&format!("{line}\r\n")), "{line} in {all}");
    }
    let replication = world.say(&command(&["info", "replication"]));
    assert!(replication.contains("role:master"), "{replication}");
    assert!(!replication.contains("redis_version"), "{replication}");
    world.node().unborn = true;
    assert!(world.say(&command(&["INFO"])).contains("loading:1\r\n"));
}

#[test]
fn options_of_set_are_refused_by_name() {
    for option in ["NX", "xx"] {
        let mut world = World::new();
        let answer = world.say(&command(&["SET", "k", "v", option, "5"]));
        let name = option.to_ascii_uppercase();
        let start = format!("-ERR SET with {name} is not supported: ");
        assert!(answer.starts_with(&start), "{answer}");
        assert_eq!(world.node().requests, []);
    }
    check(&[
        ("SET k v NOPE", "-ERR syntax error\r\n"),
        ("SET k v GET GET", "-ERR syntax error\r\n"),
    ]);
}

#[test]
fn every_other_command_says_what_it_will_be_or_why_it_never_will() {
    let mut world = World::new();
    for entry in TABLE {
        let (Verdict::Later(why) | Verdict::Never(why)) = entry.verdict else { continue };
        let answer = world.say(&command(&[entry.name, "k"]));
        let name = entry.name.to_ascii_uppercase();
        assert_eq!(answer, format!("-ERR {name} is not supported: {why}\r\n"));
    }
    let unknown = world.say(&command(&["nonsense\r\n", "k"]));
    assert!(unknown.starts_with("-ERR unknown command 'nonsense\\r\\n'"), "{unknown}");
    assert_eq!(unknown.matches('\n').count(), 1);
    assert!(!world.is_closed());
}

#[test]
fn words_that_do_not_fit_are_errors_and_the_connection_stays() {
    check(&[
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("GET a b", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("DEL", "-ERR wrong number of arguments for 'del' command\r\n"),
        (
            "SCAN x",
            "-ERR the cursor is not valid here: a cursor is the number that the page \
            before it returned, or 0\r\n",
        ),
        ("SCAN 0 COUNT", "-ERR syntax error\r\n"),
        ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
        ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range\r\n"),
        ("SCAN 0 LIMIT 5", "-ERR syntax error\r\n"),
        ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command\r\n"),
        ("COMMAND GETKEYS PING", "-ERR The command has no key arguments\r\n"),
    ]);
    for words in [
        &["SELECT", "1"][..],
        &["CONFIG", "SET", "a", "b"],
        &["CLIENT", "KILL", "ID", "1"],
        &["CLIENT", "MAINT_NOTIFICATIONS", "ON"],
        &["CLIENT", "TRACKING", "ON"],
        &["COMMAND", "NOPE"],
        &["CLIENT", "REPLY", "OFF"],
    ] {
        let mut world = World::new();
        assert!(world.say(&command(words)).starts_with("-ERR "), "{words:?}");
        check_on(&mut world, &[("PING", "+PONG\r\n")]);
    }
}

#[test]
fn an_id_names_the_next_write_and_no_other() {
    let mut world = World::new();
    let id = "01977a53-4b7c-7def-8123-456789abcdef";
    assert_eq!(world.say(&command(&["KV.ID", id])), "+OK\r\n");
    assert_eq!(world.say(&command(&["SET", "a", "1"])), "+OK\r\n");
    assert_eq!(world.node().requests.last().unwrap().request_id, RequestId::from_text(id));
    assert_eq!(world.say(&command(&["SET", "a", "1"])), "+OK\r\n");
    assert_eq!(world.node().requests.last().unwrap().request_id, None);
    world.say(&command(&["KV.ID", id]));
    world.say(&command(&["GET", "a"]));
    world.say(&command(&["DEL", "a"]));
    assert_eq!(world.node().requests.last().unwrap().request_id, None);
    let refusal = world.say(&command(&["KV.ID", "seven"]));
    assert!(refusal.starts_with("-ERR the request id must be 32 hex"), "{refusal}");
}

#[test]
fn faults_have_their_first_word() {
    let unavailable =
        Fault::Unavailable { needed: 2, answered: 1, detail: "n3\r\nis away".to_string() };
    let unknown = Fault::OutcomeUnknown { request_id: RequestId(1), detail: "late".to_string() };
    for (fault, start) in [
        (Fault::Overloaded { what: "inbox".to_string(), retry_after_ms: 5 }, "-OVERLOADED "),
        (unavailable, "-UNAVAILABLE 1 of the 2 replicas needed answered; n3  is away\r\n"),
        (Fault::OutOfMemory, "-OOM "),
        (Fault::TimedOut, "-ERR "),
        (unknown, "-UNKNOWN request id 00000000000000000000000000000001: "),
    ] {
        let mut world = World::new();
        world.node().fault = Some(fault);
        for words in [
            &["GET", "k"][..],
            &["SET", "k", "v"],
            &["MGET", "a", "b"],
            &["DEL", "a"],
            &["MSET", "a", "1"],
            &["KEYS", "*"],
            &["DBSIZE"],
        ] {
            let answer = world.say(&command(words));
            assert!(answer.starts_with(start), "{answer}");
        }
        let answer = world.say(&command(&["DEL", "a", "b"]));
        assert!(answer.contains("; 0 of the 2 keys were deleted\r\n"), "{answer}");
    }
}

#[test]
fn a_read_and_a_write_on_one_connection_belong_together() {
    let mut world = World::new();
    world.node().add_sibling("k", "v");
    let contexts = |world: &mut World| -> Vec<WriteContext> {
        let requests = std::mem::take(&mut world.node().requests);
        let contexts = requests.into_iter().filter_map(|request| match request.op {
            Op::Put { context, .. } | Op::Delete { context, .. } => Some(context),
            Op::Get { .. }
            | Op::Batch { .. }
            | Op::Scan(_)
            | Op::Count { .. }
            | Op::Explain { .. }
            | Op::Outcome { .. }
            | Op::Conflicts { .. } => None,
        });
        contexts.collect()
    };
    world.say(&command(&["GET", "k"]));
    world.say(&command(&["SET", "k", "w"]));
    assert!(matches!(contexts(&mut world)[..], [WriteContext::Shown(_)]));
    world.say(&command(&["SET", "k", "w"]));
    world.say(&command(&["GET", "k"]));
    world.say(&command(&["DEL", "k"]));
    assert_eq!(contexts(&mut world), [WriteContext::Known, WriteContext::Known]);
    // A batch writes too.
    world.node().add_sibling("k", "v");
    world.say(&command(&["GET", "k"]));
    world.say(&command(&["MSET", "k", "w"]));
    world.say(&command(&["SET", "k", "x"]));
    assert_eq!(contexts(&mut world), [WriteContext::Known]);
    // STRLEN shows a length, no value.
    world.node().add_sibling("k", "v");
    world.say(&command(&["STRLEN", "k"]));
    world.say(&command(&["SET", "k", "w"]));
    assert_eq!(contexts(&mut world), [WriteContext::Known]);
}

#[test]
fn a_batch_takes_the_last_of_several_values_for_one_key() {
    let mut world = World::new();
    check_on(&mut world, &[("MSET a 1 a 2", "+OK\r\n"), ("GET a", "$1\r\n2\r\n")]);
}

#[test]
fn keys_tells_when_there_are_more_than_it_shows() {
    let mut world = World::new();
    for part in 0..11 {
        let words: Vec<String> = (0..1_000)
            .flat_map(|index| [format!("{}", part * 1_000 + index), "v".to_string()])
            .collect();
        let mut all = vec!["MSET"];
        all.extend(words.iter().map(String::as_str));
        assert_eq!(world.say(&command(&all)), "+OK\r\n");
    }
    let answer = world.say(&command(&["KEYS", "*"]));
    let start = format!("-ERR KEYS found more than {KEYS_LIMIT_DEFAULT} keys; SCAN");
    assert!(answer.starts_with(&start), "{answer}");
}

#[test]
fn inline_commands_are_for_people() {
    let mut world = World::new();
    assert_eq!(world.say("set k \"a b\"\r\n"), "+OK\r\n");
    assert_eq!(world.say("\r\n\n  \r\nget k\n"), "$3\r\na b\r\n");
    assert_eq!(world.say("*0\r\n*-1\r\nPING\r\n"), "+PONG\r\n");
    let answer = world.say("set k \"a\r\n");
    assert_eq!(answer, "-ERR Protocol error: a quote is not closed\r\n");
    assert!(world.is_closed());
}

#[test]
fn what_is_no_protocol_is_told_so_and_closed() {
    let long = "x".repeat(INLINE_BYTES_MAX);
    let many = format!("*{}\r\n", RESP_ARRAY_MAX + 1);
    for (bytes, text) in [
        ("*x\r\n", "the multibulk length is no number from 0 to 20001"),
        (&many, "the multibulk length is no number from 0 to 20001"),
        ("*1\rx", "the multibulk length is no number from 0 to 20001"),
        ("*1\r\n:1\r\n", "an argument must begin with $"),
        ("*1\r\n$x\r\n", "the bulk length is no number from 0 to 536870912"),
        ("*1\r\n$-1\r\n", "the bulk length is no number from 0 to 536870912"),
        ("*1\r\n$536870913\r\n", "the bulk length is no number from 0 to 536870912"),
        ("*1\r\n$1\r\nab\r\n", "an argument does not end where its length says"),
        (&format!("*{}", "1".repeat(100)), "the multibulk length is no number from 0 to 20001"),
        (&long, "the inline command is too long"),
        ("\x16\x03\x01", "this port does not speak TLS"),
    ] {
        let mut world = World::new();
        let answer = world.say(bytes);
        assert_eq!(answer, format!("-ERR Protocol error: {text}\r\n"), "{bytes:.20}");
        assert!(world.is_closed());
    }
}

#[test]
fn a_browser_is_shown_the_door_even_later() {
    for bytes in ["POST / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut world = World::new();
        assert_eq!(world.say(bytes), "");
        assert!(world.is_closed());
        let mut world = World::new();
        assert_eq!(world.say(&format!("PING\r\n{bytes}")), "+PONG\r\n");
        assert!(world.is_closed());
    }
}

#[test]
fn a_value_above_the_limit_is_dropped_as_it_comes_and_the_connection_stays() {
    let mut world = World::new();
    let length = VALUE_BYTES_MAX + 1;
    assert_eq!(world.say(&format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${length}\r\n")), "");
    let mut left = length;
    while left > 0 {
        let part = left.min(100_000);
        assert_eq!(world.send(vec![b'x'; part]), b"");
        assert_eq!(world.pending_bytes(), 0);
        left -= part;
    }
    let answer = world.say("\r\n*1\r\n$4\r\nPING\r\n");
    let text = "the value has 1048577 bytes, the limit is 1048576 (serve --value-bytes-max)";
    assert_eq!(answer, format!("-ERR {text}\r\n+PONG\r\n"));
    assert_eq!(world.node().requests, []);
    let exact = "v".repeat(VALUE_BYTES_MAX);
    assert_eq!(world.say(&command(&["SET", "k", &exact])), "+OK\r\n");
    let key = "k".repeat(KEY_BYTES_MAX + 1);
    let answer = world.say(&command(&["GET", &key]));
    assert_eq!(answer, "-ERR the key has 4097 bytes, the limit is 4096\r\n");
}

#[test]
fn a_batch_above_the_limit_is_dropped_as_it_comes_and_the_connection_stays() {
    let mut world = World::new();
    let value = "v".repeat(VALUE_BYTES_MAX);
    let pairs = BATCH_BYTES_MAX / VALUE_BYTES_MAX + 2;
    assert_eq!(world.say(&format!("*{}\r\n$4\r\nMSET\r\n", 1 + 2 * pairs)), "");
    let mut answer = String::new();
    for _ in 0..pairs {
        answer.push_str(&world.say(&format!("$1\r\nk\r\n${}\r\n{value}\r\n", value.len())));
        assert!(world.pending_bytes() <= BATCH_BYTES_MAX + VALUE_BYTES_MAX);
    }
    assert!(answer.starts_with("-ERR the batch has "), "{answer}");
    assert_eq!(world.pending_bytes(), 0);
    check_on(&mut world, &[("PING", "+PONG\r\n")]);
}

#[test]
fn binary_keys_and_values_come_back() {
    let mut world = World::new();
    let bytes: Vec<u8> = (0..=255).collect();
    let mut set = b"*3\r\n$3\r\nSET\r\n$256\r\n".to_vec();
    set.extend_from_slice(&bytes);
    set.extend_from_slice(b"\r\n$256\r\n");
    set.extend_from_slice(&bytes);
    set.extend_from_slice(b"\r\n");
    assert_eq!(world.send(&set), b"+OK\r\n");
    let mut get = b"*2\r\n$3\r\nGET\r\n$256\r\n".to_vec();
    get.extend_from_slice(&bytes);
    get.extend_from_slice(b"\r\n");
    let expected = [b"$256\r\n", &bytes[..], b"\r\n"].concat();
    assert_eq!(world.send(&get), expected);
    let stored = world.node().entries.keys().next().unwrap();
    assert_eq!(stored.bytes, Bytes::from(bytes));
}

/// Words of each command, and how its answer begins.
type Opening<'a> = &'a [(&'a [&'a str], &'a str)];

/// What clients send when they connect, as captured from them, and the first bytes of each answer
/// that they accept. None of it may close the connection.
#[test]
fn clients_connect() {
    let transcripts: [(&str, Opening<'_>); 6] = [
        (
            "redis-py 8.1",
            &[
                (&["HELLO", "3"], "%8\r\n"),
                (
                    &["CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type", "none"],
                    "-ERR unknown subcommand",
                ),
                (&["CLIENT", "SETINFO", "LIB-NAME", "redis-py"], "+OK"),
                (&["CLIENT", "SETINFO", "LIB-VER", "8.1.0"], "+OK"),
                (&["COMMAND"], "*"),
                (&["CLUSTER", "SLOTS"], "*0\r\n"),
            ],
        ),
        (
            "ioredis 6.0",
            &[
                (&["hello", "3"], "%8\r\n"),
                (&["client", "SETINFO", "LIB-VER", "6.0.0"], "+OK"),
                (&["client", "SETINFO", "LIB-NAME", "ioredis"], "+OK"),
                (&["info"], "="),
            ],
        ),
        (
            "node-redis 6.3",
            &[
                (&["HELLO", "3"], "%8\r\n"),
                (&["CLIENT", "SETINFO", "LIB-NAME", "node-redis"], "+OK"),
                (&["CLIENT", "SETINFO", "LIB-VER", "6.3.0"], "+OK"),
                (&["CLIENT", "MAINT_NOTIFICATIONS", "ON"], "-ERR unknown subcommand"),
            ],
        ),
        (
            "valkey-glide 2.6",
            &[
                (&["HELLO", "3"], "%8\r\n"),
                (&["CLIENT", "SETINFO", "LIB-NAME", "GlidePy"], "+OK"),
                (&["CLIENT", "SETINFO", "LIB-VER", "2.6.0"], "+OK"),
                (&["INFO", "REPLICATION"], "="),
            ],
        ),
        (
            "redis-benchmark 7.0",
            &[
                (&["CONFIG", "GET", "save"], "*2\r\n$4\r\nsave\r\n"),
                (&["CONFIG", "GET", "appendonly"], "*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n"),
            ],
        ),
        ("redis-cli 7.0", &[(&["COMMAND", "DOCS"], "*"), (&["PING"], "+PONG\r\n")]),
    ];
    for (client, opening) in transcripts {
        let mut world = World::new();
        for (words, start) in opening {
            let answer = world.say(&command(words));
            assert!(answer.starts_with(start), "{client}: {words:?}: {answer}");
        }
        assert!(!world.is_closed(), "{client}");
        assert_eq!(world.say(&command(&["SET", "k", "v"])), "+OK\r\n", "{client}");
    }
}
