//! Every row and every error text of the newline-JSON protocol (docs/protocols.md).

use crate::api::{Fault, Level, Op, RequestId, WriteContext};
use crate::hash::Key;
use crate::limits::{BATCH_KEYS_MAX, JSON_DEPTH_MAX, KEY_BYTES_MAX};
use crate::wire::testing::{VALUE_BYTES_MAX, World};

/// Pairs of a line and its answer, on one connection.
fn check(rows: &[(&str, &str)]) {
    let mut world = World::new();
    for (line, answer) in rows {
        assert_eq!(world.say(&format!("{line}\n")), format!("{answer}\n"), "{line}");
    }
    assert!(!world.is_closed());
}

fn refusal(text: &str, code: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(r#"{{"ok":false,"error":{text},"code":"{code}","outcome":"refused"}}"#)
}

fn check_refused(line: &str, text: &str, code: &str) {
    check(&[(line, &refusal(text, code)), (r#"{"cmd":"PING"}"#, PONG)]);
}

const PONG: &str = r#"{"ok":true,"pong":true,"role":"peer"}"#;
const NOT_FOUND: &str = r#"{"ok":false,"error":"Key not found","code":"not_found"}"#;
const SET_1: &str = r#"{"ok":true,"seq":4096001,"context":"Af8","acks":{"home":2,"fallback":0}}"#;

#[test]
fn existing_clients_get_what_they_expect() {
    check(&[
        (r#"{"cmd":"SET","key":"k","value":"v","debug":false}"#, SET_1),
        (r#"{"cmd":"GET","key":"k"}"#, r#"{"ok":true,"value":"v"}"#),
        (r#"{"cmd":"GET","key":"absent"}"#, NOT_FOUND),
        (
            r#"{"cmd":"DELETE","key":"k"}"#,
            r#"{"ok":true,"deleted":true,"context":"Af8","acks":{"home":2,"fallback":0}}"#,
        ),
        (
            r#"{"cmd":"DELETE","key":"k"}"#,
            r#"{"ok":true,"deleted":false,"context":"Af8","acks":{"home":2,"fallback":0}}"#,
        ),
        (
            r#"{"cmd":"BULK_SET","items":[{"key":"a","value":1},{"key":"b","value":2}]}"#,
            r#"{"ok":true,"seq":4096004,"count":2}"#,
        ),
        (r#"{"cmd":"KEYS"}"#, r#"{"ok":true,"keys":["b","a"]}"#),
        (r#"{"cmd":"COUNT"}"#, r#"{"ok":true,"count":2}"#),
        (r#"{"cmd":"PING"}"#, PONG),
        (r#"  {"cmd":"ping"}  "#, PONG),
        (r#"{"cmd":"get","key":"a"}"#, r#"{"ok":true,"value":"1"}"#),
    ]);
}

#[test]
fn a_write_can_show_what_it_replaced() {
    let acks = r#""context":"Af8","acks":{"home":2,"fallback":0}"#;
    let row = |head: &str| format!("{{{head},{acks}}}");
    check(&[
        (
            r#"{"cmd":"SET","key":"k","value":"a","previous":true}"#,
            &row(r#""ok":true,"seq":4096001,"previous":null"#),
        ),
        (
            r#"{"cmd":"SET","key":"k","value":"b","previous":true}"#,
            &row(r#""ok":true,"seq":4096002,"previous":"a""#),
        ),
        (
            r#"{"cmd":"DELETE","key":"k","previous":true}"#,
            &row(r#""ok":true,"deleted":true,"previous":"b""#),
        ),
        (
            r#"{"cmd":"SET","key":"aw==","value":"/w==","encoding":"base64"}"#,
            &row(r#""ok":true,"seq":4096004"#).replace("}}", r#"},"encoding":"base64"}"#),
        ),
        (
            r#"{"cmd":"DELETE","key":"k","previous":true}"#,
            &row(r#""ok":true,"deleted":true,"previous":"/w==""#)
                .replace("}}", r#"},"encoding":"base64"}"#),
        ),
    ]);
    check_refused(
        r#"{"cmd":"DELETE","key":"k","previous":1}"#,
        "previous must be true or false",
        "bad_request",
    );
}

#[test]
fn errors_have_their_texts_and_leave_the_connection_open() {
    check_refused(r#"{"cmd":"NOPE"}"#, "Unknown command: NOPE", "bad_request");
    check_refused(r#"{"cmd":7}"#, "Unknown command: 7", "bad_request");
    check_refused(r"{}", "Unknown command: ", "bad_request");
    for line in [r#"{"cmd":"#, "nonsense", "[1]", "5", "null", r#""text""#, r#"{"cmd":"GET"} x"#] {
        check_refused(line, "Invalid JSON", "bad_request");
    }
    check_refused(r#"{"cmd":"GET"}"#, "Missing key", "bad_request");
    check_refused(r#"{"cmd":"GET","key":null}"#, "Missing key", "bad_request");
    check_refused(r#"{"cmd":"DELETE"}"#, "Missing key", "bad_request");
    check_refused(r#"{"cmd":"EXPLAIN"}"#, "Missing key", "bad_request");
    for line in [
        r#"{"cmd":"SET"}"#,
        r#"{"cmd":"SET","key":"k"}"#,
        r#"{"cmd":"SET","value":"v"}"#,
        r#"{"cmd":"SET","key":"k","value":null}"#,
        r#"{"cmd":"BULK_SET","items":[{"key":"k","value":"v"},{"key":"k"}]}"#,
        r#"{"cmd":"BULK_SET","items":[{"value":"v"}]}"#,
        r#"{"cmd":"BULK_SET","items":[5]}"#,
    ] {
        check_refused(line, "Missing key or value", "bad_request");
    }
    for line in [
        r#"{"cmd":"BULK_SET"}"#,
        r#"{"cmd":"BULK_SET","items":[]}"#,
        r#"{"cmd":"BULK_SET","items":null}"#,
        r#"{"cmd":"BULK_SET","items":{"key":"k","value":"v"}}"#,
    ] {
        check_refused(line, "No items provided", "bad_request");
    }
    check_refused(r#"{"cmd":"MGET"}"#, "No keys provided", "bad_request");
    check_refused(r#"{"cmd":"MGET","keys":["a",null]}"#, "Missing key", "bad_request");
}

#[test]
fn a_bulk_with_a_bad_item_applies_nothing() {
    let mut world = World::new();
    world.say("{\"cmd\":\"BULK_SET\",\"items\":[{\"key\":\"a\",\"value\":1},{\"key\":\"b\"}]}\n");
    assert_eq!(world.node().requests, []);
}

#[test]
fn what_is_not_a_string_is_its_json_text() {
    check(&[
        (r#"{"cmd":"SET","key":5,"value":1.50e+3}"#, SET_1),
        (r#"{"cmd":"GET","key":"5"}"#, r#"{"ok":true,"value":"1.50e+3"}"#),
        (r#"{"cmd":"GET","key":5}"#, r#"{"ok":true,"value":"1.50e+3"}"#),
        (
            r#"{"cmd":"SET","key":{"a": [1, true]},"value":{"b" : "c d"}}"#,
            &SET_1.replace("01,", "02,"),
        ),
        (r#"{"cmd":"GET","key":"{\"a\":[1,true]}"}"#, r#"{"ok":true,"value":"{\"b\":\"c d\"}"}"#),
        (r#"{"cmd":"SET","key":"","value":""}"#, &SET_1.replace("01,", "03,")),
        (r#"{"cmd":"GET","key":""}"#, r#"{"ok":true,"value":""}"#),
        (r#"{"cmd":"SET","key":"nul\u0000","value":"\ud83d\ude00"}"#, &SET_1.replace("01,", "04,")),
        (r#"{"cmd":"GET","key":"nul\u0000"}"#, "{\"ok\":true,\"value\":\"\u{1f600}\"}"),
    ]);
}

#[test]
fn base64_is_taken_when_asked_for_and_given_where_needed() {
    check(&[
        (r#"{"cmd":"SET","key":"aw==","value":"/wA=","encoding":"base64"}"#, &base64_set()),
        (r#"{"cmd":"GET","key":"k"}"#, r#"{"ok":true,"value":"/wA=","encoding":"base64"}"#),
        (r#"{"cmd":"GET","key":"aw","encoding":"base64"}"#, &b64(r#""value":"/wA=""#)),
        (r#"{"cmd":"MGET","keys":["k","x"]}"#, &b64(r#""values":["/wA=",null]"#)),
        (r#"{"cmd":"KEYS"}"#, r#"{"ok":true,"keys":["k"]}"#),
        (r#"{"cmd":"KEYS","encoding":"base64"}"#, &b64(r#""keys":["aw=="]"#)),
        (
            r#"{"cmd":"SCAN","values":true}"#,
            &b64(r#""items":[{"key":"aw==","value":"/wA="}],"cursor":"0""#),
        ),
        (
            r#"{"cmd":"GET","key":"k","siblings":true}"#,
            &b64(r#""values":["/wA="],"context":"Af4","vclock":{"00000001.7":2}"#),
        ),
    ]);
    let not = "a key or value is not base64 as it says";
    check_refused(r#"{"cmd":"GET","key":"*","encoding":"base64"}"#, not, "bad_request");
    let not = "with encoding base64, keys and values are strings";
    check_refused(r#"{"cmd":"GET","key":5,"encoding":"base64"}"#, not, "bad_request");
    let not = "\"hex\" is no encoding; base64 and utf8 are";
    check_refused(r#"{"cmd":"GET","key":"k","encoding":"hex"}"#, not, "bad_request");
}

fn b64(fields: &str) -> String {
    format!(r#"{{"ok":true,{fields},"encoding":"base64"}}"#)
}

fn base64_set() -> String {
    SET_1.replace("}}", r#"},"encoding":"base64"}"#)
}

#[test]
fn options_reach_the_request() {
    let mut world = World::new();
    let id = "000102030405060708090a0b0c0d0e0f";
    world.say(&format!(
        "{{\"cmd\":\"SET\",\"key\":\"k\",\"value\":\"v\",\"level\":\"ALL\",\"r\":1,\"w\":2,\
         \"timeout_ms\":50,\"request_id\":\"{id}\",\"context\":\"Af8\",\"bucket\":\"default\"}}\n"
    ));
    let request = world.node().requests.pop().unwrap();
    assert_eq!(request.level, Level::All);
    assert_eq!((request.r, request.w, request.left_ms), (Some(1), Some(2), 50));
    assert_eq!(request.request_id, Some(RequestId(u128::from_str_radix(id, 16).unwrap())));
    let Op::Put { key, context, .. } = request.op else { panic!("it is a put") };
    assert_eq!(key, Key::plain("k"));
    assert_eq!(context, WriteContext::Token(vec![1, 0xff].into()));
    world.say("{\"cmd\":\"DELETE\",\"key\":\"k\",\"context\":\"\"}\n");
    let Op::Delete { context, .. } = world.node().requests.pop().unwrap().op else {
        panic!("it is a delete")
    };
    assert_eq!(context, WriteContext::Token(bytes::Bytes::new()));
}

#[test]
fn options_of_the_wrong_kind_are_refused_by_name() {
    for (field, text) in [
        (r#""r":256"#, "r must be a number from 0 to 255"),
        (r#""w":"2""#, "w must be a number from 0 to 255"),
        (
            r#""level":"most""#,
            "\"most\" is no level; the levels are one, sloppy, quorum, strict, all",
        ),
        (r#""level":1"#, "level must be a string"),
        (r#""timeout_ms":0"#, "timeout_ms must lie between 1 and 60000"),
        (r#""timeout_ms":60001"#, "timeout_ms must lie between 1 and 60000"),
        (r#""timeout_ms":-1"#, "timeout_ms must be a number from 0 to 4294967295"),
        (
            r#""request_id":"+0102030405060708090a0b0c0d0e0f0""#,
            "request_id must be 32 hexadecimal digits, not all zero",
        ),
        (
            r#""request_id":"00000000000000000000000000000000""#,
            "request_id must be 32 hexadecimal digits, not all zero",
        ),
        (r#""siblings":1"#, "siblings must be true or false"),
        (r#""debug":"yes""#, "debug must be true or false"),
    ] {
        check_refused(&format!(r#"{{"cmd":"GET","key":"k",{field}}}"#), text, "bad_request");
    }
    let text = "the context token is not base64url, as reads return it; \
                read the key again and send the token of that reply";
    check_refused(r#"{"cmd":"SET","key":"k","value":1,"context":"?"}"#, text, "bad_context");
    let text = "require knows `isolated`, not \"luck\"";
    let line = r#"{"cmd":"BULK_SET","items":[{"key":1,"value":1}],"require":"luck"}"#;
    check_refused(line, text, "bad_request");
    let text = "the cursor is not valid here: \
                a cursor is the number that the page before it returned, or 0";
    check_refused(r#"{"cmd":"SCAN","cursor":"x"}"#, text, "bad_cursor");
    check_refused(r#"{"cmd":"SCAN","limit":0}"#, "limit must be at least 1", "bad_request");
}

#[test]
fn unknown_fields_are_ignored_and_doubled_ones_refused() {
    check(&[(r#"{"cmd":"PING","client":"x","trace":{"id":1}}"#, PONG)]);
    let twice = "one field is there twice";
    check_refused(r#"{"cmd":"PING","cmd":"GET"}"#, twice, "bad_request");
    check_refused(r#"{"cmd":"PING","x":1,"x":2}"#, twice, "bad_request");
    check_refused(r#"{"cmd":"PING","key":1,"k\u0065y":2}"#, twice, "bad_request");
    let line = r#"{"cmd":"BULK_SET","items":[{"key":"a","value":1,"value":2}]}"#;
    check_refused(line, twice, "bad_request");
}

#[test]
fn what_comes_later_is_refused_by_name() {
    for command in ["INCR", "SEARCH", "search_phrase", "FIND_SIMILAR"] {
        let answer = World::new().say(&format!("{{\"cmd\":\"{command}\",\"key\":\"k\"}}\n"));
        assert!(answer.contains(r#""code":"not_supported""#), "{answer}");
        assert!(answer.contains(&command.to_uppercase()), "{answer}");
    }
    for field in [r#""bucket":"b""#, r#""if_match":"x""#, r#""if_absent":true"#] {
        let mut world = World::new();
        let answer = world.say(&format!("{{\"cmd\":\"SET\",\"key\":\"k\",\"value\":1,{field}}}\n"));
        assert!(answer.contains(r#""code":"not_supported""#), "{answer}");
        assert_eq!(world.node().requests, []);
    }
}

#[test]
fn siblings_are_counted_listed_and_told_as_conflicts() {
    let mut world = World::new();
    world.node().add_sibling("k", "old");
    world.node().add_sibling("k", "new");
    let answer = world.say("{\"cmd\":\"GET\",\"key\":\"k\"}\n");
    assert_eq!(answer, "{\"ok\":true,\"value\":\"new\",\"siblings\":2}\n");
    let answer = world.say("{\"cmd\":\"GET\",\"key\":\"k\",\"siblings\":true}\n");
    let values = r#"{"ok":true,"values":["new","old"],"context":"Af4","vclock":{"00000001.7":1}}"#;
    assert_eq!(answer, format!("{values}\n"));
    let answer = world.say("{\"cmd\":\"GET\",\"key\":\"x\",\"siblings\":true}\n");
    assert_eq!(answer, "{\"ok\":true,\"values\":[],\"context\":\"Af4\",\"vclock\":{}}\n");
    let answer = world.say("{\"cmd\":\"CONFLICTS\"}\n");
    let sibling =
        |value| format!(r#"{{"value":"{value}","dot":"00000001.7:1","written_ms":5000}}"#);
    let expected = format!(
        r#"{{"ok":true,"conflicts":[{{"key":"k","siblings":[{},{}]}}],"cursor":"0"}}"#,
        sibling("new"),
        sibling("old")
    );
    assert_eq!(answer, format!("{expected}\n"));
}

#[test]
fn explain_tells_what_every_replica_holds() {
    let mut world = World::new();
    world.node().add_sibling("k", "v");
    let answer = world.say("{\"cmd\":\"EXPLAIN\",\"key\":\"k\"}\n");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["slot"], 7629);
    assert_eq!(answer["token"], Key::plain("k").token.0.to_string());
    let states: Vec<&str> = answer["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|replica| replica["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["present", "absent", "unknown", "no_answer"]);
    assert_eq!(answer["replicas"][0]["versions"][0]["dot"], "00000001.7:1");
}

#[test]
fn a_plain_write_supersedes_what_the_connection_was_shown() {
    let mut world = World::new();
    world.node().add_sibling("k", "v");
    world.say("{\"cmd\":\"GET\",\"key\":\"k\"}\n{\"cmd\":\"SET\",\"key\":\"k\",\"value\":\"w\"}\n");
    let Op::Put { context, .. } = world.node().requests.pop().unwrap().op else {
        panic!("it is a put")
    };
    assert!(matches!(context, WriteContext::Shown(_)));
    // Used up by the write; a refused line uses nothing up.
    world.say("{\"cmd\":\"GET\",\"key\":\"k\"}\n");
    world.say("{\"cmd\":\"SET\",\"key\":\"k\",\"value\":\"w\",\"r\":\"x\"}\n");
    world.say("{\"cmd\":\"SET\",\"key\":\"k\",\"value\":\"w\"}\n");
    let Op::Put { context, .. } = world.node().requests.pop().unwrap().op else {
        panic!("it is a put")
    };
    assert!(matches!(context, WriteContext::Shown(_)));
    world.say("{\"cmd\":\"SET\",\"key\":\"k\",\"value\":\"w\"}\n");
    let Op::Put { context, .. } = world.node().requests.pop().unwrap().op else {
        panic!("it is a put")
    };
    assert_eq!(context, WriteContext::Known);
}

/// A SET with a token, a DELETE or a bulk left the memory of an earlier GET in place, and the
/// next plain SET became a sibling of the value that this connection had just written itself.
#[test]
fn any_write_uses_up_what_was_shown() {
    for write in [
        r#"{"cmd":"SET","key":"k","value":"w","context":"Af8"}"#,
        r#"{"cmd":"DELETE","key":"k"}"#,
        r#"{"cmd":"BULK_SET","items":[{"key":"k","value":"w"}]}"#,
    ] {
        let mut world = World::new();
        world.node().add_sibling("k", "v");
        world.say("{\"cmd\":\"GET\",\"key\":\"k\"}\n");
        world.say(&format!("{write}\n"));
        world.say("{\"cmd\":\"SET\",\"key\":\"k\",\"value\":\"x\"}\n");
        let Op::Put { context, .. } = world.node().requests.pop().unwrap().op else {
            panic!("it is a put")
        };
        assert_eq!(context, WriteContext::Known, "{write}");
    }
}

#[test]
fn a_level_for_the_connection_holds_for_what_follows() {
    let mut world = World::new();
    let answer = world.say("{\"cmd\":\"CONSISTENCY\"}\n");
    assert_eq!(answer, "{\"ok\":true,\"level\":\"sloppy\",\"behaves_as\":\"quorum\"}\n");
    let answer = world.say("{\"cmd\":\"CONSISTENCY\",\"level\":\"strict\"}\n");
    assert_eq!(answer, "{\"ok\":true,\"level\":\"strict\"}\n");
    world.say(
        "{\"cmd\":\"GET\",\"key\":\"k\"}\n{\"cmd\":\"GET\",\"key\":\"k\",\"level\":\"one\"}\n",
    );
    let levels: Vec<Level> = world.node().requests.iter().map(|request| request.level).collect();
    assert_eq!(levels, [Level::Strict, Level::One]);
}

#[test]
fn debug_is_ignored_unless_faults_may_be_injected() {
    let line = "{\"cmd\":\"SET\",\"key\":\"k\",\"value\":\"v\",\"debug\":true}\n";
    let mut world = World::new();
    assert!(world.say(line).ends_with(",\"debug\":\"ignored\"}\n"));
    world.node().allow_fault_injection = true;
    assert!(!world.say(line).contains("debug"));
}

#[test]
fn faults_carry_code_outcome_and_what_a_retry_needs() {
    let mut world = World::new();
    world.node().fault = Some(Fault::Overloaded { what: "inbox".to_string(), retry_after_ms: 20 });
    let answer = world.say("{\"cmd\":\"GET\",\"key\":\"k\"}\n");
    assert!(answer.contains(r#""code":"overloaded","outcome":"refused","retry_after_ms":20}"#));
    let (request_id, detail) = (RequestId(0xab), "1 of 2 answered".to_string());
    world.node().fault = Some(Fault::OutcomeUnknown { request_id, detail });
    let answer = world.say("{\"cmd\":\"SET\",\"key\":\"k\",\"value\":1}\n");
    let end = concat!(
        r#""code":"outcome_unknown","outcome":"unknown","#,
        r#""request_id":"000000000000000000000000000000ab"}"#
    );
    assert!(answer.ends_with(&format!("{end}\n")), "{answer}");
    for line in [r#"{"cmd":"KEYS"}"#, r#"{"cmd":"MGET","keys":[1,2]}"#] {
        let answer = world.say(&format!("{line}\n"));
        assert!(answer.contains("outcome_unknown"), "{answer}");
    }
}

#[test]
fn keys_and_count_walk_page_after_page() {
    let mut world = World::new();
    let items: Vec<String> =
        (0..2_500).map(|index| format!(r#"{{"key":"p{index}","value":1}}"#)).collect();
    world.say(&format!("{{\"cmd\":\"BULK_SET\",\"items\":[{}]}}\n", items.join(",")));
    let answer = world.say("{\"cmd\":\"KEYS\"}\n");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["keys"].as_array().unwrap().len(), 2_500);
    assert_eq!(answer.get("truncated"), None);
    let answer = world.say("{\"cmd\":\"KEYS\",\"limit\":1200}\n");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["keys"].as_array().unwrap().len(), 1_200);
    assert_eq!(answer["truncated"], true);
    let cursor = answer["cursor"].as_str().unwrap();
    let answer = world.say(&format!("{{\"cmd\":\"KEYS\",\"cursor\":{cursor}}}\n"));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["keys"].as_array().unwrap().len(), 1_300);
    let answer = world.say("{\"cmd\":\"COUNT\",\"prefix\":\"p2\"}\n");
    assert_eq!(answer, "{\"ok\":true,\"count\":611}\n");
    let answer = world.say("{\"cmd\":\"SCAN\",\"limit\":5000}\n");
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["keys"].as_array().unwrap().len(), 1_000);
}

#[test]
fn limits_are_answered_and_the_connection_goes_on() {
    let key = "k".repeat(KEY_BYTES_MAX + 1);
    let text = "the key has 4097 bytes, the limit is 4096";
    check_refused(&format!(r#"{{"cmd":"GET","key":"{key}"}}"#), text, "key_too_large");
    let value = "v".repeat(VALUE_BYTES_MAX + 1);
    let text = "the value has 1048577 bytes, the limit is 1048576 (serve --value-bytes-max)";
    check_refused(
        &format!(r#"{{"cmd":"SET","key":1,"value":"{value}"}}"#),
        text,
        "value_too_large",
    );
    let deep = format!("{}{}", "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
    let text = "the request is nested deeper than 32 levels";
    check_refused(&format!(r#"{{"cmd":"SET","key":1,"value":{deep}}}"#), text, "bad_request");
    let deepest = format!("{}{}", "[".repeat(JSON_DEPTH_MAX - 1), "]".repeat(JSON_DEPTH_MAX - 1));
    check(&[(&format!(r#"{{"cmd":"SET","key":1,"value":{deepest}}}"#), SET_1)]);
    let bottomless = "[".repeat(100_000);
    check_refused(&format!(r#"{{"cmd":"SET","key":{bottomless}}}"#), "Invalid JSON", "bad_request");
    let items = vec![r#"{"key":1,"value":1}"#; BATCH_KEYS_MAX + 1].join(",");
    let answer = World::new().say(&format!("{{\"cmd\":\"BULK_SET\",\"items\":[{items}]}}\n"));
    assert!(answer.contains("batch_too_large"), "{answer}");
}

#[test]
fn a_line_above_the_limit_is_dropped_as_it_comes() {
    let mut world = World::with_value_bytes_max(1_000);
    let line_bytes_max = 8 * 1_000 + 64 * 1024;
    world.say("{\"cmd\":");
    for _ in 0..100 {
        assert_eq!(world.say(&"x".repeat(1_000)), "");
        assert!(world.pending_bytes() <= line_bytes_max + 1_000);
    }
    let answer = world.say("\n{\"cmd\":\"PING\"}\n");
    let text = format!(
        "the line has more than {line_bytes_max} bytes, the limit here; nothing of it was read"
    );
    assert_eq!(answer, format!("{}\n{PONG}\n", refusal(&text, "bad_request")));
}

#[test]
fn info_status_and_ring_are_answered_before_there_is_a_cluster() {
    let mut world = World::new();
    world.node().unborn = true;
    let info: serde_json::Value = serde_json::from_str(&world.say("{\"cmd\":\"INFO\"}\n")).unwrap();
    for (field, value) in [
        ("ok", serde_json::json!(true)),
        ("node_id", "n1".into()),
        ("role", "peer".into()),
        ("term", 0.into()),
        ("primary", serde_json::Value::Null),
        ("host", "127.0.0.1".into()),
        ("port", 6379.into()),
        ("cluster_port", 7379.into()),
    ] {
        assert_eq!(info[field], value, "{field}");
    }
    let status = world.say("{\"cmd\":\"STATUS\"}\n");
    assert!(status.contains(r#""phase":"unborn""#), "{status}");
    let ring = world.say("{\"cmd\":\"RING\"}\n");
    assert_eq!(ring, "{\"ok\":true,\"epoch\":0,\"partitions\":0,\"arcs\":[]}\n");
}
