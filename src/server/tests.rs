//! Whole nodes in one process, over real sockets and real files.

mod access;
mod hostile;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;

use super::*;
use crate::cluster::{Hello, LayoutHash, Phase, View};
use crate::config::Config;
use crate::wire::peer::{self, Frame, Greeting};

/// Time within which everything here must happen; reached only by a failure.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(folder: &Path, seeds: Vec<String>) -> Config {
    Config {
        node_id: Some(folder.file_name().unwrap().to_str().unwrap().to_owned()),
        data_dir: folder.to_owned(),
        port: 0,
        cluster_port: Some(0),
        seeds,
        shards: Some(2),
        partitions: 16,
        segment_bytes: 4 * 1024 * 1024,
        ..Config::default()
    }
}

fn options(links: &LinkControl) -> NodeOptions {
    NodeOptions { links: links.clone(), ..NodeOptions::default() }
}

fn start(folder: &Path, seeds: Vec<String>, links: &LinkControl) -> Node {
    Node::start(config(folder, seeds), options(links)).unwrap()
}

/// Blocks until the view of a node is as wanted.
fn wait_until(node: &Node, what: &str, wanted: impl Fn(&View) -> bool) {
    let mut views = node.views();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waited = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, views.wait_for(|view| wanted(view))).await.is_ok()
    });
    assert!(waited, "{} never saw: {what}; it sees {:#?}", node.name(), node.view());
}

fn is_ready(view: &View) -> bool {
    view.phase == Phase::Member && view.actor.is_some()
}

/// A connection that asks line by line.
struct Talk {
    reader: BufReader<TcpStream>,
}

impl Talk {
    fn to(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    fn ask(&mut self, line: &str) -> String {
        self.reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.hear()
    }

    fn hear(&mut self) -> String {
        let mut answer = String::new();
        self.reader.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

#[test]
fn a_lone_node_answers_both_protocols() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder.path().join("n1"), vec![], &LinkControl::default());
    wait_until(&node, "birth", is_ready);
    let mut json = Talk::to(node.client_addr());
    let set = json.ask(r#"{"cmd":"SET","key":"k","value":"v"}"#);
    assert!(set.contains(r#""ok":true"#), "{set}");
    let mut resp = Talk::to(node.client_addr());
    assert_eq!(resp.ask("GET k"), "$1");
    assert_eq!(resp.hear(), "v");
    assert_eq!(resp.ask("SET k2 v2"), "+OK");
    let got = json.ask(r#"{"cmd":"GET","key":"k2"}"#);
    assert!(got.contains(r#""value":"v2""#), "{got}");
    node.shutdown();
}

/// Free ports, for nodes that must know one another before they start. Another process could take
/// one in between; the kernel hands them out in turn, so it does not happen in practice.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> =
        (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Nodes that seed each other in a ring.
struct Ring {
    folder: tempfile::TempDir,
    ports: Vec<u16>,
    links: LinkControl,
    nodes: Vec<Option<Node>>,
}

impl Ring {
    fn born(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(2 * count);
        let links = LinkControl::default();
        let mut ring = Self { folder, ports, links, nodes: Vec::new() };
        ring.nodes.resize_with(count, || None);
        for index in 0..count {
            ring.start(index);
        }
        ring.wait_until_whole();
        ring
    }

    fn start(&mut self, index: usize) {
        let count = self.nodes.len();
        let path = self.folder.path().join(format!("n{index}"));
        let next = self.ports[count + (index + 1) % count];
        let mut config = config(&path, vec![format!("127.0.0.1:{next}")]);
        config.port = self.ports[index];
        config.cluster_port = Some(self.ports[count + index]);
        let node = Node::start(config, options(&self.links)).unwrap();
        self.nodes[index] = Some(node);
    }

    fn node(&self, index: usize) -> &Node {
        self.nodes[index].as_ref().unwrap()
    }

    fn wait_until_whole(&self) {
        for node in self.nodes.iter().flatten() {
            wait_until(node, "everybody reachable", |view| {
                is_ready(view)
                    && view.members.len() == self.nodes.len() - 1
                    && view.members.values().all(|member| member.reachable)
            });
        }
    }

    fn talk(&self, index: usize) -> Talk {
        Talk::to(self.node(index).client_addr())
    }
}

#[test]
fn three_nodes_are_born_as_one_and_any_of_them_serves_any_key() {
    let ring = Ring::born(3);
    let layout = ring.node(0).view().layout.clone().unwrap();
    for index in 0..3 {
        assert_eq!(ring.node(index).view().layout.as_ref(), Some(&layout));
        assert_eq!(layout.owned_by(ring.node(index).id()), 16);
    }
    let mut talks: Vec<Talk> = (0..3).map(|index| ring.talk(index)).collect();
    for key in 0..30 {
        assert_eq!(talks[key % 3].ask(&format!("SET key{key} value{key}")), "+OK");
    }
    for key in 0..30 {
        for talk in &mut talks {
            assert_eq!(
                talk.ask(&format!("GET key{key}")),
                format!("${}", 5 + key.to_string().len())
            );
            assert_eq!(talk.hear(), format!("value{key}"));
        }
    }
}

#[test]
fn what_was_acknowledged_survives_the_death_of_one_node_and_of_all() {
    let mut ring = Ring::born(3);
    let mut talk = ring.talk(0);
    for key in 0..50 {
        assert_eq!(talk.ask(&format!("SET key{key} before")), "+OK");
    }
    ring.nodes[1].take().unwrap().kill();
    wait_until(ring.node(0), "a death", |view| view.members.values().any(|m| !m.reachable));
    for key in 25..50 {
        assert_eq!(talk.ask(&format!("SET key{key} after")), "+OK");
    }
    ring.start(1);
    ring.wait_until_whole();
    let check = |ring: &Ring| {
        let mut talk = ring.talk(1);
        for key in 0..50 {
            let expected = if key < 25 { "before" } else { "after" };
            assert_eq!(talk.ask(&format!("GET key{key}")), format!("${}", expected.len()));
            assert_eq!(talk.hear(), expected);
        }
    };
    check(&ring);
    for node in &mut ring.nodes {
        node.take().unwrap().kill();
    }
    for index in 0..3 {
        ring.start(index);
    }
    ring.wait_until_whole();
    check(&ring);
}

#[test]
fn a_node_that_is_cut_off_refuses_a_quorum_until_it_is_healed() {
    let ring = Ring::born(3);
    let name = |index: usize| ring.node(index).name().to_owned();
    ring.links.partition(&[vec![name(0), name(1)], vec![name(2)]]);
    for (index, lost) in [(0, 1), (1, 1), (2, 2)] {
        wait_until(ring.node(index), "the cut", |view| {
            view.members.values().filter(|member| !member.reachable).count() == lost
        });
    }
    assert_eq!(ring.talk(0).ask("SET k 1"), "+OK");
    let refused = ring.talk(2).ask("SET k 2");
    assert!(refused.starts_with("-UNAVAILABLE"), "{refused}");
    ring.links.heal();
    ring.wait_until_whole();
    let mut talk = ring.talk(2);
    assert_eq!(talk.ask("GET k"), "$1");
    assert_eq!(talk.hear(), "1");
}

#[test]
fn a_stopping_node_answers_what_it_was_asked() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder.path().join("n1"), vec![], &LinkControl::default());
    wait_until(&node, "birth", is_ready);
    let mut talk = Talk::to(node.client_addr());
    let requests =
        (0..100).fold(String::new(), |requests, key| requests + &format!("SET key{key} v\r\n"));
    talk.reader.get_mut().write_all(requests.as_bytes()).unwrap();
    assert_eq!(talk.hear(), "+OK");
    node.shutdown();
    let mut rest = String::new();
    talk.reader.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "+OK\r\n".repeat(99));
}

#[test]
fn a_directory_or_port_in_use_and_a_public_address_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n1");
    let node = start(&path, vec![], &LinkControl::default());
    let check = |config: Config, expected: &str| {
        let error = Node::start(config, NodeOptions::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(config(&path, vec![]), "in use by node n1, process");
    let taken = config(&folder.path().join("n2"), vec![]);
    check(Config { port: node.client_addr().port(), ..taken.clone() }, "for clients");
    let cluster_port = Some(node.cluster_addr().port());
    check(Config { cluster_port, ..taken.clone() }, "for other nodes");
    check(Config { host: "0.0.0.0".parse().unwrap(), ..taken }, "or use a loopback address");
    node.kill();
    let again = start(&path, vec![], &LinkControl::default());
    assert_eq!(again.failed(), None);
}

#[test]
fn what_is_no_greeting_closes_a_link_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder.path().join("n1"), vec![], &LinkControl::default());
    wait_until(&node, "birth", is_ready);
    let mut frame = BytesMut::new();
    peer::encode(&Frame::Cluster(crate::cluster::Message::Leaving), &mut frame).unwrap();
    let mut damaged = frame.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\nfill the header"[..], &frame, &damaged] {
        let mut stream = TcpStream::connect(node.cluster_addr()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // Closed with or without bytes that were never read; either way nothing is said.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{answer:?}");
    }
    assert_eq!(Talk::to(node.client_addr()).ask("SET k v"), "+OK");
    assert_eq!(node.failed(), None);
}

#[test]
fn a_node_of_a_future_without_a_common_version_is_told_both_ranges() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(&folder.path().join("n1"), vec![], &LinkControl::default());
    let hello = Hello {
        node: node.id(),
        public_key: [0; 32],
        name: String::from("future"),
        zone: String::new(),
        generation: 1,
        cluster_addr: String::new(),
        client_addr: String::new(),
        cluster: None,
        layout_epoch: 0,
        layout_hash: LayoutHash::default(),
        partitions: 16,
        replicas: 3,
    };
    let greeting =
        Greeting { protocol_min: 98, protocol_max: 99, link: peer::Link::Control, hello };
    let mut frame = BytesMut::new();
    peer::encode(&Frame::Hello(greeting), &mut frame).unwrap();
    let mut stream = TcpStream::connect(node.cluster_addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&frame).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let mut answer = BytesMut::from(&answer[..]);
    let Ok(Some(Frame::Refusal(refusal))) = peer::decode(&mut answer) else { panic!("{answer:?}") };
    assert!(refusal.text.contains("98 to 99"), "{refusal}");
}
