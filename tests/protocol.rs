//! Raw sockets against the real binary: every row and every error text of docs/protocols.md, and
//! what a node does with bytes that are no request.
//!
//! The transcripts lie in `tests/transcripts`; here is what reads them, and what is too long or
//! too odd to write down there. Source: ours.

mod common;

use std::collections::BTreeMap;

use common::json::mismatch;
use common::resp::encode;
use common::{Json, Node, Resp, Value, wait_for};
use serde_json::{Value as JsonValue, json};

#[test]
fn newline_json_answers_as_its_transcript_says() {
    let nodes = Node::cluster(1, &[]);
    let mut client = nodes[0].json();
    let mut kept = BTreeMap::new();
    for (at, mark, rest) in steps(include_str!("transcripts/json.txt")) {
        match mark {
            "---" => client = nodes[0].json(),
            "closed" => assert!(client.rest().is_empty(), "line {at}: nothing more may come"),
            ">" => client.send(format!("{}\n", with_kept(rest, &kept)).as_bytes()),
            "<" => {
                let mut expected = serde_json::from_str(rest)
                    .unwrap_or_else(|error| panic!("line {at}: {error}: {rest}"));
                let reply = client.try_reply();
                let reply = reply.unwrap_or_else(|| panic!("line {at}: the connection closed"));
                keep(&reply, &mut expected, &mut kept);
                if let Some(complaint) = mismatch(&reply, &expected) {
                    panic!("line {at}: {complaint}");
                }
            }
            other => panic!("line {at}: no step begins with {other}"),
        }
    }
}

#[test]
fn resp_answers_as_its_transcript_says() {
    let nodes = Node::cluster(1, &[]);
    let mut client = nodes[0].resp();
    for (at, mark, rest) in steps(include_str!("transcripts/resp.txt")) {
        match mark {
            "---" => client = nodes[0].resp(),
            "closed" => assert!(client.is_closed(), "line {at}: the node must close"),
            ">>" => client.send(&unescape(rest)),
            ">" => {
                let words: Vec<Vec<u8>> = rest.split(' ').map(unescape).collect();
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                client.send(&encode(&words));
            }
            "<" => {
                let line = client.raw_line();
                let fits = match rest.strip_suffix("...") {
                    Some(head) => line.starts_with(&unescape(head)),
                    None => line == unescape(rest),
                };
                assert!(fits, "line {at}: {:?} is not {rest}", String::from_utf8_lossy(&line));
            }
            other => panic!("line {at}: no step begins with {other}"),
        }
    }
}

/// Number, mark and rest of every line that is not blank and no remark.
fn steps(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(at, line)| {
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        (at, mark, rest)
    })
}

fn with_kept(request: &str, kept: &BTreeMap<String, String>) -> String {
    let mut request = request.to_owned();
    for (name, value) in kept {
        request = request.replace(&format!("{{{{{name}}}}}"), value);
    }
    request
}

/// Keeps the fields that are expected as `"$string=NAME"`.
fn keep(reply: &JsonValue, expected: &mut JsonValue, kept: &mut BTreeMap<String, String>) {
    for (field, wanted) in expected.as_object_mut().into_iter().flatten() {
        let Some(name) = wanted.as_str().and_then(|text| text.strip_prefix("$string=")) else {
            continue;
        };
        let found =
            reply[field.as_str()].as_str().unwrap_or_else(|| panic!("no {field} in {reply}"));
        kept.insert(name.to_owned(), found.to_owned());
        *wanted = json!("$string");
    }
}

/// The bytes that a line of a transcript stands for.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next().expect("an escape has a letter") {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b'x' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = std::str::from_utf8(&digits).expect("an escape is ASCII");
                bytes.push(u8::from_str_radix(digits, 16).expect("\\x has two digits"));
            }
            other => panic!("no escape is called {}", char::from(other)),
        }
    }
    bytes
}

#[test]
fn keys_and_values_are_taken_up_to_their_limits_and_refused_beyond() {
    let nodes = Node::cluster(1, &[]);
    let (mut json, mut resp) = (nodes[0].json(), nodes[0].resp());
    let (long, longer) = ("k".repeat(4_096), "k".repeat(4_097));
    let (large, larger) = ("v".repeat(1 << 20), "v".repeat((1 << 20) + 1));
    let reply = json.call(&json!({"cmd": "SET", "key": long, "value": large}));
    assert_eq!(reply["ok"], true, "{reply}");
    assert_eq!(resp.call(&[b"GET", long.as_bytes()]), Value::text(&large));
    for (key, value, code) in
        [(&longer, &large, "key_too_large"), (&long, &larger, "value_too_large")]
    {
        let reply = json.call(&json!({"cmd": "SET", "key": key, "value": value}));
        assert_eq!(reply["code"], code, "{reply}");
        assert_eq!(reply["outcome"], "refused", "{reply}");
        let reply = resp.call(&[b"SET", key.as_bytes(), value.as_bytes()]);
        assert!(matches!(&reply, Value::Error(text) if text.starts_with("ERR ")), "{reply:?}");
        assert_eq!(resp.say("PING"), Value::Simple("PONG".into()), "the connection stays");
    }
    let reply = json.call(&json!({"cmd": "GET", "key": longer}));
    assert_eq!(reply["code"], "key_too_large", "{reply}");
    assert_eq!(resp.call(&[b"GET", long.as_bytes()]), Value::text(&large), "nothing was applied");
}

#[test]
fn values_up_to_sixteen_mebibytes_are_taken_where_the_setting_allows() {
    let options = ["--value-bytes-max", "16777216", "--segment-bytes", "67108864"];
    let nodes = Node::cluster(1, &options);
    let value = vec![7; 16 << 20];
    let mut resp = nodes[0].resp();
    assert_eq!(resp.call(&[b"SET", b"large", &value]), Value::Simple("OK".into()));
    assert!(resp.call(&[b"GET", b"large"]) == Value::Bulk(value));
    let value = vec![7; (16 << 20) + 1];
    assert!(matches!(resp.call(&[b"SET", b"large", &value]), Value::Error(_)));
    assert_eq!(resp.say("STRLEN large"), Value::Int(16 << 20));
}

#[test]
fn batches_are_taken_up_to_their_limits_and_refused_beyond() {
    let nodes = Node::cluster(1, &[]);
    let mut client = nodes[0].json();
    let items = |count: usize, bytes: usize| -> Vec<JsonValue> {
        let value = "v".repeat(bytes);
        (0..count).map(|number| json!({"key": format!("k{number}"), "value": value})).collect()
    };
    let reply = client.call(&json!({"cmd": "BULK_SET", "items": items(10_001, 1)}));
    assert_eq!(reply["code"], "batch_too_large", "{reply}");
    let reply = client.call(&json!({"cmd": "BULK_SET", "items": items(17, 1 << 20)}));
    assert!(reply["code"] == "batch_too_large" || reply["code"] == "bad_request", "{reply}");
    assert_eq!(client.call(&json!({"cmd": "COUNT"}))["count"], 0, "nothing was applied");
    let reply = client.call(&json!({"cmd": "BULK_SET", "items": items(10_000, 1)}));
    assert_eq!(reply["count"], 10_000, "{reply}");
    assert_eq!(client.call(&json!({"cmd": "COUNT"}))["count"], 10_000);
    let keys = client.call(&json!({"cmd": "KEYS", "limit": 100}));
    assert_eq!(keys["keys"].as_array().map(Vec::len), Some(100), "KEYS is bounded");
    assert_ne!(keys["cursor"], JsonValue::Null, "{keys}");
}

#[test]
fn nesting_beyond_the_limit_is_refused_and_the_connection_stays() {
    let nodes = Node::cluster(1, &[]);
    let mut client = nodes[0].json();
    for depth in [31, 33, 5_000] {
        let value = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        client.send(format!("{{\"cmd\":\"SET\",\"key\":\"deep\",\"value\":{value}}}\n").as_bytes());
        let reply = client.reply();
        assert_eq!(reply["ok"] == true, depth < 32, "{depth} levels: {reply}");
    }
    assert_eq!(client.call(&json!({"cmd": "PING"}))["pong"], true);
}

#[test]
fn bytes_that_are_not_utf8_are_invalid_json_and_harm_nobody() {
    let nodes = Node::cluster(1, &[]);
    let mut client = nodes[0].json();
    client.send(b"{\"cmd\":\"SET\",\"key\":\"\xff\",\"value\":\"1\"}\n");
    assert_eq!(client.reply()["error"], "Invalid JSON");
    assert_eq!(client.call(&json!({"cmd": "PING"}))["pong"], true);
}

#[test]
fn a_request_that_trickles_in_byte_by_byte_is_answered() {
    let nodes = Node::cluster(1, &[]);
    let mut json = nodes[0].json();
    for byte in b"{\"cmd\":\"SET\",\"key\":\"a\",\"value\":\"1\"}\n" {
        json.send(&[*byte]);
    }
    assert_eq!(json.reply()["ok"], true);
    let mut resp = nodes[0].resp();
    for byte in encode(&[b"GET", b"a"]) {
        resp.send(&[byte]);
    }
    assert_eq!(resp.reply(), Value::text("1"));
}

#[test]
fn half_a_request_and_silence_is_not_applied() {
    let nodes = Node::cluster(1, &[]);
    let mut json = nodes[0].json();
    json.send(b"{\"cmd\":\"SET\",\"key\":\"half\",\"value\":\"1\"}");
    json.finish_sending();
    json.rest();
    let mut resp = nodes[0].resp();
    resp.send(b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1\r\n1");
    drop(resp);
    let mut other = nodes[0].resp();
    assert_eq!(other.say("GET half"), Value::Null);
}

#[test]
fn a_web_browser_is_turned_away_before_it_can_say_a_command() {
    let nodes = Node::cluster(1, &[]);
    for head in ["GET / HTTP/1.1", "POST / HTTP/1.1", "Host: localhost"] {
        let mut client = nodes[0].json();
        client.send(format!("{head}\r\nSET a b\r\n\r\n").as_bytes());
        assert_eq!(client.rest(), b"", "{head}");
    }
    assert_eq!(nodes[0].resp().say("GET a"), Value::Null, "no command got through");
}

#[test]
fn noise_on_every_port_is_answered_or_closed_and_the_node_goes_on() {
    use rand::RngExt;
    let mut random = common::generator();
    let mut nodes = Node::cluster(2, &[]);
    for round in 0..200 {
        let node = &nodes[round % 2];
        let port = if round % 4 < 2 { node.port } else { node.cluster_port };
        let mut noise = vec![0; random.random_range(1..5_000)];
        random.fill(noise.as_mut_slice());
        if round % 3 == 0 {
            // A length that promises much and a body that never comes.
            noise.splice(0..0, [0xff, 0xff, 0xff, 0x7f]);
        }
        let Some(mut client) = Json::try_open(port) else { panic!("nothing accepts on {port}") };
        let _ = client.try_send(&noise);
    }
    for node in &mut nodes {
        assert!(node.runs(), "{} lives", node.name);
        assert_eq!(node.resp().say("PING"), Value::Simple("PONG".into()));
        let reply = node.json().call(&json!({"cmd": "SET", "key": "a", "value": "b"}));
        assert_eq!(reply["ok"], true, "{reply}");
    }
}

#[test]
fn declared_lengths_allocate_nothing() {
    let mut nodes = Node::cluster(1, &[]);
    let before = resident_kib(nodes[0].pid());
    let mut clients: Vec<Resp> = (0..100).map(|_| nodes[0].resp()).collect();
    for client in &mut clients {
        client.send(b"*2\r\n$3\r\nGET\r\n$536870912\r\nx");
    }
    assert_eq!(nodes[0].resp().say("PING"), Value::Simple("PONG".into()));
    let after = resident_kib(nodes[0].pid());
    assert!(after < before + 200 * 1024, "grew from {before} KiB to {after} KiB");
    assert!(nodes[0].runs());
}

fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the node runs");
    let line =
        status.lines().find(|line| line.starts_with("VmRSS:")).expect("a process has memory");
    let number = line.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    number.expect("the kernel counts in KiB")
}

#[test]
fn a_client_that_reads_then_writes_keeps_what_another_wrote_meanwhile() {
    let nodes = Node::cluster(3, &[]);
    let (mut one, mut other) = (nodes[0].json(), nodes[1].resp());
    assert_eq!(one.call(&json!({"cmd": "SET", "key": "k", "value": "0"}))["ok"], true);
    assert_eq!(one.call(&json!({"cmd": "GET", "key": "k"}))["value"], "0");
    assert_eq!(other.say("GET k"), Value::text("0"));
    assert_eq!(one.call(&json!({"cmd": "SET", "key": "k", "value": "1"}))["ok"], true);
    assert_eq!(other.say("SET k 2"), Value::Simple("OK".into()));
    let reply = nodes[2].json().call(&json!({"cmd": "GET", "key": "k", "siblings": true}));
    let mut values: Vec<_> = reply["values"].as_array().expect("values").clone();
    values.sort_by_key(ToString::to_string);
    assert_eq!(values, ["1", "2"], "both writers keep their value: {reply}");
    let shown: Vec<JsonValue> = nodes
        .iter()
        .map(|node| node.json().call(&json!({"cmd": "GET", "key": "k"}))["value"].clone())
        .collect();
    assert!(shown.iter().all(|value| *value == shown[0]), "one winner everywhere: {shown:?}");
    // A writer that has read nothing overwrites all that its leader holds, as in Redis.
    assert_eq!(nodes[2].resp().say("SET k 3"), Value::Simple("OK".into()));
    let reply = nodes[0].json().call(&json!({"cmd": "GET", "key": "k", "siblings": true}));
    assert_eq!(reply["values"], json!(["3"]));
}

#[test]
fn a_batch_over_several_groups_is_whole_but_not_isolated_and_one_tag_makes_it_one_group() {
    let nodes = Node::cluster(5, &[]);
    let mut client = nodes[0].json();
    let items = |prefix: &str| -> Vec<JsonValue> {
        (0..50).map(|number| json!({"key": format!("{prefix}{number}"), "value": "v"})).collect()
    };
    let wide = items("wide");
    let strict = json!({"cmd": "BULK_SET", "items": wide, "require": "isolated"});
    let reply = client.call(&strict);
    assert_eq!(reply["code"], "not_one_group", "{reply}");
    assert_eq!(reply["outcome"], "refused", "{reply}");
    assert_eq!(client.call(&json!({"cmd": "COUNT"}))["count"], 0, "nothing was applied");
    let reply = client.call(&json!({"cmd": "BULK_SET", "items": wide}));
    assert_eq!(reply["count"], 50, "{reply}");
    assert_eq!(reply["isolated"], false, "{reply}");
    for node in &nodes {
        let name = format!("{{{}}}:", node.name);
        let reply = node.json().call(&json!({"cmd": "BULK_SET", "items": items(&name)}));
        assert_eq!(reply["count"], 50, "{reply}");
        assert_eq!(reply.get("isolated"), None, "{reply}");
    }
    assert_eq!(client.call(&json!({"cmd": "COUNT"}))["count"], 300, "logs do not count");
}

#[test]
fn without_a_majority_reads_are_refused_and_writes_are_refused_or_unknown() {
    let mut nodes = Node::cluster(3, &[]);
    assert_eq!(nodes[0].resp().say("SET a 1"), Value::Simple("OK".into()));
    nodes[1].kill();
    nodes[2].kill();
    let mut client = nodes[0].json();
    let reply = client.call(&json!({"cmd": "SET", "key": "a", "value": "2"}));
    let outcome = reply["outcome"].as_str().unwrap_or_else(|| panic!("{reply}"));
    if outcome == "unknown" {
        assert_eq!(reply["code"], "outcome_unknown", "{reply}");
        assert!(reply["request_id"].is_string(), "{reply}");
    }
    let refused = wait_for("the deaths to be known", || {
        let reply = client.call(&json!({"cmd": "SET", "key": "a", "value": "3"}));
        (reply["outcome"] == "refused").then_some(reply)
    });
    assert_eq!(refused["code"], "unavailable", "{refused}");
    for key in ["a", "nothing here"] {
        let reply = client.call(&json!({"cmd": "GET", "key": key}));
        assert_eq!(reply["code"], "unavailable", "absence must be proven: {reply}");
    }
    let reply = client.call(&json!({"cmd": "GET", "key": "a", "level": "one"}));
    assert_eq!(reply["ok"], true, "one replica is here: {reply}");
    let error = nodes[0].resp().say("GET a");
    assert!(matches!(&error, Value::Error(text) if text.starts_with("UNAVAILABLE ")), "{error:?}");
    nodes[1].start();
    nodes[0].wait_ready();
    let value = client.call(&json!({"cmd": "GET", "key": "a"}))["value"].clone();
    assert!(value != "3", "what was refused is never seen");
}

/// An id of now, as clients make them: a UUID of version 7.
#[expect(clippy::disallowed_methods, reason = "clients have clocks of their own")]
fn fresh_id(number: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let unix_ms = u64::try_from(now.expect("it is after 1970").as_millis()).expect("it fits");
    format!("{unix_ms:012x}70008{number:015x}")
}

#[test]
fn an_id_is_for_one_operation_through_every_node() {
    let nodes = Node::cluster(3, &[]);
    let id = fresh_id(1);
    let first = json!({"cmd": "SET", "key": "k", "value": "1", "request_id": id});
    assert_eq!(nodes[0].json().call(&first)["ok"], true);
    assert_eq!(nodes[1].resp().say("SET k 2"), Value::Simple("OK".into()));
    let others = [
        json!({"cmd": "SET", "key": "k", "value": "3", "request_id": id}),
        json!({"cmd": "SET", "key": "other", "value": "1", "request_id": id}),
        json!({"cmd": "DELETE", "key": "k", "request_id": id}),
        json!({"cmd": "BULK_SET", "items": [{"key": "k", "value": "1"}], "request_id": id}),
    ];
    for node in &nodes {
        let mut client = node.json();
        assert_eq!(client.call(&first)["ok"], true, "the same operation may come again");
        for other in &others {
            let reply = client.call(other);
            assert_eq!(reply["code"], "request_id_reused", "{other}: {reply}");
            assert_eq!(reply["outcome"], "refused", "{other}: {reply}");
        }
        let mut resp = node.resp();
        assert_eq!(resp.say(&format!("KV.ID {id}")), Value::Simple("OK".into()));
        let error = resp.say("SET k 4");
        assert!(matches!(&error, Value::Error(text) if text.contains("id")), "{error:?}");
        assert_eq!(resp.say("GET k"), Value::Bulk(b"2".to_vec()), "nothing of it was applied");
        assert_eq!(client.call(&json!({"cmd": "COUNT"}))["count"], 1);
    }
}

#[test]
fn an_outcome_is_told_by_every_node_and_ends_what_was_not_applied() {
    let nodes = Node::cluster(3, &[]);
    let (done, never) = (fresh_id(1), fresh_id(2));
    let set = json!({"cmd": "SET", "key": "k", "value": "1", "request_id": done});
    assert_eq!(nodes[0].json().call(&set)["ok"], true);
    for node in &nodes {
        let mut client = node.json();
        let ask = |id: &str| json!({"cmd": "OUTCOME", "key": "k", "request_id": id});
        assert_eq!(client.call(&ask(&done))["outcome"], "applied");
        assert_eq!(client.call(&ask(&never))["outcome"], "not_applied");
        let late = json!({"cmd": "SET", "key": "k", "value": "2", "request_id": never});
        let reply = client.call(&late);
        assert_eq!(reply["code"], "request_id_refused", "{reply}");
        assert_eq!(client.call(&json!({"cmd": "GET", "key": "k"}))["value"], "1");
    }
    let address = nodes[1].addr();
    for (id, code) in [(&done, 0), (&never, 1)] {
        let output = common::cli(&["outcome", id, "k", "--addr", &address]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[test]
fn of_two_values_of_one_key_in_a_batch_the_last_counts() {
    let nodes = Node::cluster(3, &[]);
    let items = [("a", "1"), ("b", "2"), ("a", "3")];
    let items = items.map(|(key, value)| json!({"key": key, "value": value}));
    let reply = nodes[0].json().call(&json!({"cmd": "BULK_SET", "items": items}));
    assert_eq!(reply["ok"], true, "{reply}");
    assert_eq!(nodes[1].resp().say("MSET b 4 b 5"), Value::Simple("OK".into()));
    let mut client = nodes[2].json();
    for (key, value) in [("a", "3"), ("b", "5")] {
        let reply = client.call(&json!({"cmd": "GET", "key": key, "siblings": true}));
        assert_eq!(reply["values"], json!([value]), "{reply}");
    }
    assert_eq!(client.call(&json!({"cmd": "COUNT"}))["count"], 2);
}
