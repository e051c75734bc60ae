//! Whole nodes in one process, over real sockets and real files.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::cluster::{Phase, View};
use crate::config::Config;

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

fn start(folder: &Path, seeds: Vec<String>, links: &LinkControl) -> Node {
    Node::start(config(folder, seeds), NodeOptions { links: links.clone() }).unwrap()
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
