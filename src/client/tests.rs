//! The client against nodes that say what a test tells them to.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use super::*;

/// A node that serves one connection for each list of replies: it reads a line for each of them and
/// answers with it, and closes the connection behind the last. Gives what it was asked.
fn node(connections: &'static [&'static [&'static str]]) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let asked = thread::spawn(move || {
        let mut asked = Vec::new();
        for replies in connections {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut lines = || {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                line
            };
            asked.push(lines());
            for (index, reply) in replies.iter().enumerate() {
                if index > 0 {
                    asked.push(lines());
                }
                writeln!(stream, "{reply}").unwrap();
            }
        }
        asked
    });
    (addr, asked)
}

/// An address where nobody can listen.
fn nobody() -> String {
    String::from("127.0.0.1:0")
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

const WRITTEN: &str = r#"{"ok":true,"seq":1,"context":"c1","acks":{"home":2,"fallback":1}}"#;
const STOPPING: &str =
    r#"{"ok":false,"error":"stopping","code":"shutting_down","outcome":"refused"}"#;
const TOO_LONG: &str =
    r#"{"ok":false,"error":"the key is long","code":"key_too_large","outcome":"refused"}"#;

#[test]
fn the_next_node_is_asked_when_one_cannot_be_reached_and_then_remembered() {
    let (addr, asked) = node(&[&[r#"{"ok":true,"pong":true}"#, r#"{"ok":true,"count":7}"#]]);
    let mut client = Client::new([nobody(), addr.clone()]).with_timeout(Duration::from_millis(500));
    run(async {
        client.ping().await.unwrap();
        assert_eq!(client.count().await, Ok(7));
    });
    assert_eq!(client.first, 1);
    let expected =
        ["PING", "COUNT"].map(|cmd| format!("{{\"cmd\":\"{cmd}\",\"timeout_ms\":500}}\n"));
    assert_eq!(asked.join().unwrap(), expected);
}

#[test]
fn a_write_whose_reply_was_lost_is_sent_to_nobody_else() {
    let (first, asked) = node(&[&[]]);
    let error = run(async { Client::new([first, nobody()]).set("k", "v").await }).unwrap_err();
    assert!(error.is_unknown(), "{error}");
    assert_eq!(asked.join().unwrap().len(), 1);
}

#[test]
fn a_write_that_has_an_id_goes_to_the_next_node_when_its_reply_is_lost() {
    let (first, lost) = node(&[&[]]);
    let (second, asked) = node(&[&[WRITTEN]]);
    let call = Call::set(b"k", b"v").request_id(RequestId(0x1234));
    let answer = run(async { Client::new([first, second]).call(&call).await });
    assert!(answer.unwrap().is_ok());
    let asked = asked.join().unwrap();
    assert_eq!(lost.join().unwrap(), asked);
    assert!(asked[0].contains("\"request_id\":\"00000000000000000000000000001234\""));
}

#[test]
fn what_a_later_try_is_refused_says_nothing_of_the_first() {
    let (first, _) = node(&[&[]]);
    let (second, _) = node(&[&[TOO_LONG]]);
    let call = Call::set(b"k", b"v").request_id(RequestId(0x1234));
    let error = run(async { Client::new([first, second]).call(&call).await }).unwrap_err();
    assert!(error.is_unknown(), "{error}");
}

#[test]
fn a_read_whose_reply_was_lost_is_asked_again_elsewhere() {
    let (first, _) = node(&[&[]]);
    let (second, _) = node(&[&[r#"{"ok":true,"value":"v"}"#]]);
    let value = run(async { Client::new([first, second]).get("k").await }).unwrap();
    assert_eq!(value.unwrap(), b"v");
}

#[test]
fn a_refused_write_goes_to_the_next_node_and_a_wrong_one_does_not() {
    let (first, _) = node(&[&[STOPPING]]);
    let (second, _) = node(&[&[TOO_LONG]]);
    let nodes = [first, second.clone(), nobody()];
    let error = run(async { Client::new(nodes).set("k", "v").await }).unwrap_err();
    assert_eq!(error.code(), Some("key_too_large"));
    assert_eq!(error.to_string(), format!("{second}: the key is long"));
}

#[test]
fn a_refusal_by_all_nodes_tells_what_each_said() {
    let (first, _) = node(&[&[STOPPING]]);
    let Err(Error::Refused(refused)) =
        run(async { Client::new([first, nobody()]).delete("k").await })
    else {
        panic!("nobody can have deleted anything");
    };
    assert!(!refused.is_final);
    let codes: Vec<_> = refused.reasons.iter().map(|reason| reason.code.as_deref()).collect();
    assert_eq!(codes, [Some("shutting_down"), None]);
}

#[test]
fn levels_contexts_and_replicas_are_sent_as_fields() {
    let (addr, asked) = node(&[&[WRITTEN, r#"{"ok":true,"deleted":true,"acks":{"home":1}}"#]]);
    let mut client = Client::new([addr]);
    run(async {
        let written = client.set("k", b"\xff").level(Level::All).await.unwrap();
        assert_eq!((written.acks, written.context.token()), (3, "c1"));
        let deleted = client.delete("k").replicas(1).after(&written.context).await.unwrap();
        assert!(deleted.existed);
    });
    let asked = asked.join().unwrap();
    assert!(asked[0].contains(r#""value":"/w==","level":"all""#), "{}", asked[0]);
    assert!(asked[1].contains(r#""key":"k","w":1,"context":"c1""#), "{}", asked[1]);
}

#[test]
fn absent_keys_are_no_failures() {
    let (addr, _) = node(&[&[
        r#"{"ok":false,"error":"Key not found","code":"not_found"}"#,
        r#"{"ok":true,"values":["YQ==",null],"encoding":"base64"}"#,
        r#"{"ok":true,"values":[],"context":"c"}"#,
    ]]);
    let mut client = Client::new([addr]);
    run(async {
        assert_eq!(client.get("k").await, Ok(None));
        assert_eq!(client.mget(&["a", "b"]).await, Ok(vec![Some(b"a".to_vec()), None]));
        assert_eq!(client.siblings("k").await.unwrap().values, Vec::<Vec<u8>>::new());
    });
}

#[test]
fn a_pipeline_that_breaks_keeps_what_was_answered_and_knows_no_more() {
    let (first, asked) = node(&[&[WRITTEN, TOO_LONG]]);
    let (second, _) = node(&[&[r#"{"ok":true,"count":1}"#]]);
    let mut client = Client::new([first, second]);
    let calls = [Call::set(b"a", b"1"), Call::set(b"b", b"2"), Call::set(b"c", b"3")];
    run(async {
        let outcomes = client.pipeline(&calls).await;
        assert!(outcomes[0].as_ref().unwrap().is_ok());
        assert_eq!(outcomes[1].as_ref().unwrap_err().code(), Some("key_too_large"));
        assert!(outcomes[2].as_ref().unwrap_err().is_unknown());
        assert_eq!(client.count().await, Ok(1), "the next node serves what follows");
    });
    assert_eq!(asked.join().unwrap().len(), 2);
}

#[test]
fn a_pipeline_without_a_node_has_applied_nothing() {
    let outcomes = run(async { Client::new([nobody()]).pipeline(&[Call::set(b"a", b"1")]).await });
    assert!(matches!(&outcomes[..], [Err(Error::Refused(refused))] if !refused.is_final));
}

#[test]
fn a_walk_reads_page_after_page_to_the_end() {
    let (addr, asked) = node(&[&[
        r#"{"ok":true,"keys":["a","b"],"cursor":"12"}"#,
        r#"{"ok":true,"keys":[],"cursor":"13"}"#,
        r#"{"ok":true,"keys":["c"],"cursor":"0"}"#,
    ]]);
    let mut client = Client::new([addr]);
    let keys = run(async {
        let mut keys = Vec::new();
        let mut walk = client.scan().prefix("p").page_keys(2);
        while let Some(record) = walk.next().await.unwrap() {
            keys.push(String::from_utf8(record.key).unwrap());
        }
        keys
    });
    assert_eq!(keys, ["a", "b", "c"]);
    let second = "{\"cmd\":\"SCAN\",\"cursor\":\"12\",\"limit\":2,\"prefix\":\"p\"}\n";
    assert_eq!(asked.join().unwrap()[1], second);
}

#[test]
fn an_outcome_that_the_node_does_not_know_is_unknown() {
    let (addr, _) = node(&[&[
        r#"{"ok":false,"error":"not known","code":"outcome_unknown","outcome":"unknown"}"#,
    ]]);
    let error = run(async { Client::new([addr, nobody()]).set("k", "v").await }).unwrap_err();
    assert!(error.is_unknown());
}

#[test]
fn what_is_no_reply_of_a_node_is_shown_and_trusted_for_nothing() {
    let (addr, _) = node(&[&["HTTP/1.1 400 Bad Request\u{7}"]]);
    let error = run(async { Client::new([addr]).get("k").await }).unwrap_err();
    assert!(error.to_string().contains(r"HTTP/1.1 400 Bad Request\x07"), "{error}");
}
