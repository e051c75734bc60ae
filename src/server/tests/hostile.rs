//! Clients that are slow, silent or greedy, and what the others notice of them.

use super::access::wait_for;
use super::*;
use crate::api::{Grant, Role, Tokens};
use crate::limits::{CLIENT_BYTES_MIN, CONNECTIONS_RESERVED};
use std::sync::Arc;

/// Long enough for a node to notice, and short for a test.
const SOON_MS: u64 = 300;

/// A node with these settings, ready.
fn node(folder: &Path, change: impl FnOnce(Config) -> Config) -> Node {
    let config = change(config(&folder.join("n1"), vec![]));
    let node = Node::start(config, NodeOptions::default()).unwrap();
    wait_until(&node, "birth", is_ready);
    node
}

/// What a client hears up to the end of its connection, after it sent these bytes.
fn last_words(node: &Node, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(node.client_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    heard
}

#[test]
fn a_connection_without_a_first_request_ends_and_one_between_requests_stays() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |base| Config { first_request_ms: SOON_MS, ..base });
    let mut known = Talk::to(node.client_addr());
    assert_eq!(known.ask("PING"), "+PONG");
    assert!(last_words(&node, b"").starts_with("-ERR no request came"));
    assert_eq!(node.metrics().connections_overdue.count(), 1);
    assert_eq!(known.ask("PING"), "+PONG");
}

#[test]
fn half_a_request_ends_its_connection_with_a_word_in_its_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |base| Config { request_ms: SOON_MS, ..base });
    let halves: [&[u8]; 5] = [
        b"PING\r\n*2\r\n$3\r\nGET\r\n$5\r\nab",
        b"PING\r\n*2\r\n",
        b"PING\r\nGET ab",
        b"PI",
        // A length is only announced, so nothing is kept for it.
        b"PING\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nv",
    ];
    for half in halves {
        let heard = last_words(&node, half);
        assert!(heard.contains("-ERR the rest of the request did not come"), "{heard}");
    }
    let heard = last_words(&node, br#"{"cmd":"SET","#);
    assert!(heard.contains(r#""ok":false"#) && heard.contains("nothing of it"), "{heard}");
}

#[test]
fn whoever_shows_no_token_in_time_must_go_whatever_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let grant = Grant::of("right", Role::Write, "app").line();
    let tokens = Some(Arc::new(Tokens::parse(&grant).unwrap()));
    let config = Config { auth_ms: SOON_MS, ..config(&folder.path().join("n1"), vec![]) };
    let node = Node::start(config, NodeOptions { tokens, ..NodeOptions::default() }).unwrap();
    wait_until(&node, "birth", is_ready);
    let mut known = Talk::to(node.client_addr());
    assert_eq!(known.ask("AUTH right"), "+OK");
    let heard = last_words(&node, b"GET k\r\nGET k\r\n");
    assert!(heard.starts_with("-NOAUTH"), "{heard}");
    assert!(heard.contains("-ERR no token was shown"), "{heard}");
    assert_eq!(known.ask("SET k v"), "+OK");
}

#[test]
fn answers_that_nobody_reads_end_their_connection() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |base| Config { unread_ms: SOON_MS, ..base });
    let mut honest = Talk::to(node.client_addr());
    assert_eq!(honest.ask(&format!("SET k {}", "v".repeat(60_000))), "+OK");
    let mut deaf = TcpStream::connect(node.client_addr()).unwrap();
    deaf.write_all("GET k\r\n".repeat(1_000).as_bytes()).unwrap();
    wait_for(|| node.metrics().connections_overdue.count() == 1);
    assert_eq!(honest.ask("PING"), "+PONG");
}

#[test]
fn one_address_holds_so_many_connections_and_the_reserve_lets_this_machine_in() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |base| Config { connections_per_address_max: Some(2), ..base });
    let talks: Vec<Talk> = (0..2 + CONNECTIONS_RESERVED)
        .map(|_| {
            let mut talk = Talk::to(node.client_addr());
            assert_eq!(talk.ask("PING"), "+PONG");
            talk
        })
        .collect();
    let heard = Talk::to(node.client_addr()).ask("PING");
    assert_eq!(heard, "-ERR max number of clients reached for this address");
    let heard = Talk::to(node.client_addr()).ask(r#"{"cmd":"PING"}"#);
    assert!(heard.contains(r#""code":"overloaded""#), "{heard}");
    drop(talks);
    wait_for(|| Talk::to(node.client_addr()).ask("PING") == "+PONG");
}

#[test]
fn what_clients_keep_is_bounded_and_the_greediest_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), |base| Config { client_bytes_max: CLIENT_BYTES_MIN, ..base });
    let mut honest = Talk::to(node.client_addr());
    assert_eq!(honest.ask(&format!("SET k {}", "v".repeat(20_000))), "+OK");
    // Each sends half a value, 40 MiB in all, or as much as it gets rid of.
    let mut head = b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1000000\r\n".to_vec();
    head.resize(512 * 1024, b'x');
    let greedy: Vec<TcpStream> = (0..80)
        .map(|_| {
            let mut stream = TcpStream::connect(node.client_addr()).unwrap();
            stream.set_nonblocking(true).unwrap();
            // Its buffer in the kernel takes a part; the test needs no more.
            let _ = stream.write(&head).unwrap();
            stream
        })
        .collect();
    let mut rest = vec![0; greedy.len()];
    wait_for(|| {
        for (mut stream, sent) in greedy.iter().zip(&mut rest) {
            let part = head.get(*sent..).unwrap_or_default();
            *sent += stream.write(part).unwrap_or(0);
        }
        node.metrics().connections_pressed_out.count() > 0
    });
    // Small ones are served throughout, large ones when the greedy are gone.
    assert_eq!(honest.ask("SET s v"), "+OK");
    assert_eq!(honest.ask("STRLEN s"), ":1");
    wait_for(|| honest.ask("STRLEN k") == ":20000");
}
