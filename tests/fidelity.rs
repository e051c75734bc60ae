//! Bytes are bytes: what comes out of a store is what went in, whichever protocol carried it.
//!
//! 10,000 random keys and values, half of them written in newline-JSON and half in RESP, each read
//! back in both, through another node than the one that took the write.

mod common;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::resp::encode;
use common::{Node, Resp, Value, generator};
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use serde_json::{Value as JsonValue, json};

const PAIRS: usize = 10_000;
const MEBIBYTE: usize = 1024 * 1024;
const LARGE: usize = 20;
const PIPELINE: usize = 32;

/// Keys and values that have broken other stores.
const AWKWARD: [&[u8]; 20] = [
    b"",
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"__TOMBSTONE__",
    b"\0\0\0\0\0\0\0\0",
    b"a\0b",
    b"\r\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"{\"cmd\":\"GET\"}",
    b"null",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x92\xa9",
    b"\xe2\x80\xa8",
    b"{tag}rest",
    b"$-1",
];

#[test]
fn fidelity_of_ten_thousand_random_keys_and_values_in_both_protocols() {
    let mut random = generator();
    let pairs = pairs(&mut random);
    assert_eq!(pairs.len(), PAIRS);
    let large = pairs.values().filter(|value| value.len() == MEBIBYTE).count();
    assert!(large >= LARGE, "only {large} large values");
    let nodes = Node::cluster(3, &[]);
    write_all(&nodes[0], &nodes[1], &pairs);
    let (mut json, mut resp) = (nodes[2].json(), nodes[0].resp());
    for chunk in chunks(&pairs) {
        for (key, _) in &chunk {
            json.send(&line(&read_request(key)));
            resp.send(&encode(&[b"GET", key]));
        }
        for (key, value) in chunk {
            assert!(value_of(&json.reply(), key) == *value, "JSON changed {}", show(key));
            assert!(resp.reply() == Value::Bulk(value.clone()), "RESP changed {}", show(key));
        }
    }
    let count = json.call(&json!({"cmd": "COUNT"}));
    assert_eq!(count["count"], PAIRS, "{count}");
    println!("PASS {PAIRS} keys and values, {large} of 1 MiB, byte-identical in both protocols");
}

#[test]
fn fidelity_of_every_awkward_key_through_scans_batches_and_deletes() {
    let nodes = Node::cluster(1, &[]);
    let (mut json, mut resp) = (nodes[0].json(), nodes[0].resp());
    let mut words: Vec<&[u8]> = vec![b"MSET"];
    for key in AWKWARD {
        words.extend([key, key]);
    }
    assert_eq!(resp.call(&words), Value::Simple("OK".into()));
    let mut wanted: Vec<&[u8]> = vec![b"MGET"];
    wanted.extend(AWKWARD);
    let found = resp.call(&wanted);
    let expected: Vec<Value> = AWKWARD.iter().map(|key| Value::Bulk(key.to_vec())).collect();
    assert_eq!(found, Value::Array(expected));
    let mut listed = scan(&mut resp);
    listed.sort();
    let mut keys: Vec<Vec<u8>> = AWKWARD.iter().map(|key| key.to_vec()).collect();
    keys.sort();
    assert_eq!(listed, keys, "SCAN returns each key once");
    for key in AWKWARD {
        let request = json!({"cmd": "DELETE", "key": STANDARD.encode(key), "encoding": "base64"});
        let reply = json.call(&request);
        assert_eq!(reply["deleted"], true, "{}: {reply}", show(key));
        assert_eq!(resp.call(&[b"GET", key]), Value::Null, "{}", show(key));
    }
    assert_eq!(resp.say("DBSIZE"), Value::Int(0));
}

#[test]
fn fidelity_of_text_and_of_values_that_are_not_strings_in_plain_json() {
    let nodes = Node::cluster(1, &[]);
    let (mut json, mut resp) = (nodes[0].json(), nodes[0].resp());
    let cases: [(&str, &[u8]); 9] = [
        (r#""text""#, b"text"),
        (r#""\u00e9\ud83d\ude00\n\"\\\/\u0000""#, b"\xc3\xa9\xf0\x9f\x98\x80\n\"\\/\0"),
        ("1.50", b"1.50"),
        ("12345678901234567890123", b"12345678901234567890123"),
        ("-0", b"-0"),
        ("1e400", b"1e400"),
        ("true", b"true"),
        (r#"{ "a" : [ 1 , 2.0 , "x y" ] }"#, br#"{"a":[1,2.0,"x y"]}"#),
        ("[]", b"[]"),
    ];
    for (text, bytes) in cases {
        json.send(format!("{{\"cmd\":\"SET\",\"key\":{text},\"value\":{text}}}\n").as_bytes());
        let reply = json.reply();
        assert_eq!(reply["ok"], true, "{text}: {reply}");
        assert_eq!(resp.call(&[b"GET", bytes]), Value::Bulk(bytes.to_vec()), "{text}");
        json.send(format!("{{\"cmd\":\"GET\",\"key\":{text}}}\n").as_bytes());
        let reply = json.reply();
        let expected = std::str::from_utf8(bytes).expect("these cases are text");
        assert_eq!(reply["value"], expected, "{text}: {reply}");
        assert!(reply.get("encoding").is_none(), "text needs no base64: {reply}");
    }
}

fn pairs(random: &mut Xoshiro256PlusPlus) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut pairs = BTreeMap::new();
    for key in AWKWARD {
        pairs.insert(key.to_vec(), key.iter().rev().copied().collect());
    }
    while pairs.len() < PAIRS {
        let value = if pairs.len() < AWKWARD.len() + LARGE {
            bytes(random, MEBIBYTE)
        } else {
            let length = random.random_range(0..2_000);
            any(random, length)
        };
        let length = random.random_range(1..200);
        pairs.insert(any(random, length), value);
    }
    pairs
}

/// Bytes of some kind: an awkward string, text of several scripts, or anything.
fn any(random: &mut Xoshiro256PlusPlus, length: usize) -> Vec<u8> {
    match random.random_range(0..4) {
        0 => {
            let mut bytes = AWKWARD[random.random_range(0..AWKWARD.len())].to_vec();
            bytes.extend(self::bytes(random, length % 8));
            bytes
        }
        1 => text(random, length).into_bytes(),
        _ => bytes(random, length),
    }
}

fn bytes(random: &mut Xoshiro256PlusPlus, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill(bytes.as_mut_slice());
    bytes
}

fn text(random: &mut Xoshiro256PlusPlus, length: usize) -> String {
    let scripts = ['a'..='z', '\u{0}'..='\u{1f}', '\u{e0}'..='\u{ff}', '\u{4e00}'..='\u{4eff}'];
    let mut text = String::new();
    while text.len() < length {
        let script = &scripts[random.random_range(0..scripts.len())];
        text.push(random.random_range(script.clone()));
    }
    text
}

/// Writes every second pair in JSON through one node, the others in RESP through another.
fn write_all(one: &Node, other: &Node, pairs: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let (mut json, mut resp) = (one.json(), other.resp());
    for chunk in chunks(pairs) {
        for (index, (key, value)) in chunk.iter().enumerate() {
            if index.is_multiple_of(2) {
                json.send(&line(&set_request(key, value)));
            } else {
                resp.send(&encode(&[b"SET", key, value]));
            }
        }
        for (index, (key, _)) in chunk.iter().enumerate() {
            if index.is_multiple_of(2) {
                let reply = json.reply();
                assert_eq!(reply["ok"], true, "{}: {reply}", show(key));
            } else {
                assert_eq!(resp.reply(), Value::Simple("OK".into()), "{}", show(key));
            }
        }
    }
}

/// Pairs that are sent before any reply is read.
fn chunks(pairs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Vec<(&Vec<u8>, &Vec<u8>)>> {
    let pairs: Vec<_> = pairs.iter().collect();
    pairs.chunks(PIPELINE).map(<[_]>::to_vec).collect()
}

fn line(request: &JsonValue) -> Vec<u8> {
    format!("{request}\n").into_bytes()
}

fn set_request(key: &[u8], value: &[u8]) -> JsonValue {
    if let (Ok(key), Ok(value)) = (std::str::from_utf8(key), std::str::from_utf8(value)) {
        return json!({"cmd": "SET", "key": key, "value": value});
    }
    let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
    json!({"cmd": "SET", "key": key, "value": value, "encoding": "base64"})
}

fn read_request(key: &[u8]) -> JsonValue {
    match std::str::from_utf8(key) {
        Ok(key) => json!({"cmd": "GET", "key": key}),
        Err(_) => json!({"cmd": "GET", "key": STANDARD.encode(key), "encoding": "base64"}),
    }
}

fn value_of(reply: &JsonValue, key: &[u8]) -> Vec<u8> {
    let value = reply["value"].as_str().unwrap_or_else(|| panic!("{}: {reply}", show(key)));
    if reply["encoding"] == "base64" {
        STANDARD.decode(value).expect("a reply in base64 is base64")
    } else {
        value.as_bytes().to_vec()
    }
}

fn scan(client: &mut Resp) -> Vec<Vec<u8>> {
    let (mut cursor, mut keys) = (b"0".to_vec(), Vec::new());
    for _ in 0..1_000 {
        let reply = client.call(&[b"SCAN", &cursor, b"COUNT", b"7"]);
        let [next, page] = reply.array() else { panic!("SCAN answered {reply:?}") };
        keys.extend(page.array().iter().map(|key| key.bytes().to_vec()));
        cursor = next.bytes().to_vec();
        if cursor == b"0" {
            return keys;
        }
    }
    panic!("SCAN does not end");
}

fn show(bytes: &[u8]) -> String {
    bytes.iter().take(60).flat_map(|byte| byte.escape_ascii()).map(char::from).collect()
}
