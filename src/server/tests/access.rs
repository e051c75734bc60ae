//! Who is let in, and what the others hear.

use super::*;
use crate::api::{Grant, Role, Tokens};
use std::sync::Arc;

use crate::cluster::{Nonce, Said, Secret};
use crate::limits::STRANGERS_MAX;

fn secret(byte: u8) -> Secret {
    Secret::new([byte; 32])
}

/// Polls, because counters ring no bell.
pub(super) fn wait_for(mut is_done: impl FnMut() -> bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waited = runtime.block_on(async {
        let done = async {
            while !is_done() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.is_ok()
    });
    assert!(waited, "waited in vain");
}

/// Two nodes that name each other, each with its own secret or none.
fn pair(folder: &Path, secrets: [Option<Secret>; 2]) -> [Node; 2] {
    let ports = free_ports(4);
    let mut index = 0;
    secrets.map(|secret| {
        let seed = format!("127.0.0.1:{}", ports[3 - index]);
        let config = Config {
            port: ports[index],
            cluster_port: Some(ports[2 + index]),
            ..config(&folder.join(format!("n{index}")), vec![seed])
        };
        index += 1;
        Node::start(config, NodeOptions { secret, ..NodeOptions::default() }).unwrap()
    })
}

#[test]
fn nodes_with_one_secret_become_one_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = pair(folder.path(), [1, 1].map(|byte| Some(secret(byte))));
    for node in &nodes {
        wait_until(node, "birth", |view| {
            is_ready(view) && view.layout.as_ref().is_some_and(|layout| layout.roles.len() == 2)
        });
    }
    assert_eq!(Talk::to(nodes[0].client_addr()).ask("SET k v"), "+OK");
    assert_eq!(Talk::to(nodes[1].client_addr()).ask("GET k"), "$1");
    assert_eq!(nodes[0].metrics().strangers.count(), 0);
}

#[test]
fn nodes_with_different_secrets_never_link() {
    for secrets in [[Some(secret(1)), Some(secret(2))], [Some(secret(1)), None]] {
        let folder = tempfile::tempdir().unwrap();
        let nodes = pair(folder.path(), secrets);
        let knocks = || nodes.iter().map(|node| node.metrics().strangers.count()).sum::<u64>();
        wait_for(|| knocks() >= 3);
        for node in &nodes {
            assert_eq!(node.metrics().links.count(), 0);
            assert!(matches!(node.view().phase, Phase::Unborn(_)));
        }
    }
}

/// Far more silent connections than there is room for: the oldest go, and a node gets in.
#[test]
fn silent_connections_to_the_port_for_nodes_are_bounded_and_keep_no_node_out() {
    const TOO_MANY: usize = 44;
    let folder = tempfile::tempdir().unwrap();
    let ports = free_ports(4);
    let start = |index: usize| {
        let config = Config {
            port: ports[index],
            cluster_port: Some(ports[2 + index]),
            ..config(
                &folder.path().join(format!("n{index}")),
                vec![format!("127.0.0.1:{}", ports[3 - index])],
            )
        };
        Node::start(config, NodeOptions { secret: Some(secret(1)), ..NodeOptions::default() })
    };
    let first = start(0).unwrap();
    let silent: Vec<TcpStream> = (0..STRANGERS_MAX + TOO_MANY)
        .map(|_| TcpStream::connect(first.cluster_addr()).unwrap())
        .collect();
    let pushed_out = || first.metrics().strangers_pushed_out.count();
    wait_for(|| pushed_out() >= u64::try_from(TOO_MANY).unwrap());
    // The oldest hears its end, though it is not late yet for the greeting.
    let mut oldest = &silent[0];
    oldest.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have been told a challenge.
    let _ = oldest.read_to_end(&mut Vec::new());
    let second = start(1).unwrap();
    for node in [&first, &second] {
        wait_until(node, "birth", |view| {
            is_ready(view) && view.layout.as_ref().is_some_and(|layout| layout.roles.len() == 2)
        });
    }
    assert_eq!(Talk::to(second.client_addr()).ask("SET k v"), "+OK");
}

/// What a node says to bytes that come to its port for nodes, up to its end.
fn told(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(node.cluster_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A node that closes with bytes unread resets the connection.
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn whoever_cannot_prove_the_secret_learns_nothing_of_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder.path().join("keeper"), vec![]);
    let node =
        Node::start(config, NodeOptions { secret: Some(secret(1)), ..NodeOptions::default() });
    let node = node.unwrap();
    wait_until(&node, "birth", is_ready);
    let refusal = told(&node, b"nothing that anybody says");
    let mut frame = BytesMut::from(&refusal[..]);
    let Ok(Some(peer::Entry::Refused(heard))) = peer::decode_entry(&mut frame) else {
        panic!("{refusal:?}");
    };
    assert_eq!(heard.code, "no_proof");
    // A greeting, and a wrong proof behind a challenge, hear the same sentence.
    let mut greeting = BytesMut::new();
    peer::encode(&Frame::Cluster(crate::cluster::Message::Leaving), &mut greeting).unwrap();
    assert_eq!(told(&node, &greeting), refusal);
    let mut challenge = BytesMut::new();
    peer::encode_entry(&Said::Challenge(Nonce([9; 32])), &mut challenge);
    let mut twice = challenge.clone();
    twice.extend_from_slice(&challenge);
    let answer = told(&node, &twice);
    assert_eq!(answer.len(), challenge.len() + refusal.len());
    assert!(answer.ends_with(&refusal));
    assert!(!String::from_utf8_lossy(&answer).contains("keeper"));
    assert_eq!(node.metrics().strangers.count(), 3);
    assert_eq!(node.metrics().links.count(), 0);
    assert_eq!(Talk::to(node.client_addr()).ask("SET k v"), "+OK");
}

#[test]
fn an_address_that_sends_five_wrong_tokens_must_wait_on_every_connection() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder.path().join("n1"), vec![]);
    let grant = Grant::of("right", Role::Write, "app").line();
    let tokens = Some(Arc::new(Tokens::parse(&grant).unwrap()));
    let node = Node::start(config, NodeOptions { tokens, ..NodeOptions::default() }).unwrap();
    wait_until(&node, "birth", is_ready);
    let mut known = Talk::to(node.client_addr());
    assert_eq!(known.ask("AUTH right"), "+OK");
    for _ in 0..5 {
        let answer = Talk::to(node.client_addr()).ask("AUTH wrong");
        assert!(answer.starts_with("-WRONGPASS"), "{answer}");
    }
    let mut late = Talk::to(node.client_addr());
    let answer = late.ask("AUTH right");
    assert!(answer.starts_with("-ERR too many wrong tokens from this address"), "{answer}");
    assert!(late.ask("GET k").starts_with("-NOAUTH"));
    // Who was let in before stays so.
    assert_eq!(known.ask("SET k v"), "+OK");
}

#[test]
fn beyond_loopback_a_node_starts_with_both_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let host = "0.0.0.0".parse().unwrap();
    let unknown = Config { host, ..config(&folder.path().join("n1"), vec![]) };
    let config = Config { advertise_host: Some(String::from("127.0.0.1")), ..unknown.clone() };
    let tokens = Some(Arc::new(Tokens::parse(&Grant::of("t", Role::Read, "t").line()).unwrap()));
    let both = NodeOptions { secret: Some(secret(1)), tokens, ..NodeOptions::default() };
    let half = NodeOptions { secret: None, ..both.clone() };
    let error = Node::start(config.clone(), half.clone()).unwrap_err();
    assert!(error.to_string().contains("it has no cluster secret"), "{error}");
    let error = Node::start(unknown, both.clone()).unwrap_err();
    assert!(error.to_string().contains("--advertise-host"), "{error}");
    Node::start(config.clone(), both).unwrap().kill();
    Node::start(Config { insecure_i_know: true, ..config }, half).unwrap().kill();
}

#[test]
fn what_a_node_advertises_is_what_clients_and_nodes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [1, 2].map(|number| {
        let host = "0.0.0.0".parse().unwrap();
        let name = Some(format!("n{number}"));
        let base = config(&folder.path().join(format!("n{number}")), vec![]);
        let advertise_host = Some(String::from("localhost"));
        Config { host, advertise_host, node_id: name, insecure_i_know: true, ..base }
    });
    let first = Node::start(first, NodeOptions::default()).unwrap();
    wait_until(&first, "birth", is_ready);
    let seeds = vec![format!("localhost:{}", first.cluster_addr().port())];
    let second = Node::start(Config { seeds, ..second }, NodeOptions::default()).unwrap();
    wait_until(&second, "the other", |view| view.members.values().any(|other| other.reachable));
    let port = first.client_addr().port();
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    let mut talk = Talk::to(here);
    talk.ask("CLUSTER SLOTS");
    let mut slots = String::new();
    for _ in 0..7 {
        slots.push_str(&talk.hear());
        slots.push(' ');
    }
    assert!(slots.contains(&format!("localhost :{port}")), "{slots}");
    let first_addr = format!("localhost:{port}");
    let told = second.view().members.values().any(|member| member.client_addr == first_addr);
    assert!(told, "{:?}", second.view().members);
}

#[test]
fn debug_asks_for_faults_only_where_a_node_lets_it() {
    let folder = tempfile::tempdir().unwrap();
    for (name, allow_fault_injection) in [("n1", true), ("n2", false)] {
        let base = config(&folder.path().join(name), vec![]);
        let config = Config { allow_fault_injection, ..base };
        let node = Node::start(config, NodeOptions::default()).unwrap();
        wait_until(&node, "birth", is_ready);
        let mut talk = Talk::to(node.client_addr());
        for number in 0..200 {
            let answer =
                talk.ask(&format!(r#"{{"cmd":"SET","key":"k{number}","value":"v","debug":true}}"#));
            assert!(answer.starts_with(r#"{"ok":true"#), "{answer}");
            assert_eq!(answer.contains(r#""debug":"ignored""#), !allow_fault_injection, "{answer}");
        }
        // Whatever fault came of it, nothing is lost.
        for number in 0..200 {
            let got = talk.ask(&format!(r#"{{"cmd":"GET","key":"k{number}"}}"#));
            assert!(got.contains(r#""value":"v""#), "{got}");
        }
    }
}
