//! The nodes of a local cluster: started, killed, cut off and started again by their number.

use std::fmt::Write;

use std::time::Duration;

use tokio::runtime::Runtime;

use super::Dev;
use crate::cli::client::Client;
use crate::cli::failure::Failure;
use crate::cli::scratch::{Directory, ports};
use crate::cli::serve::{standing, start_failure};
use crate::client;
use crate::config::Config;
use crate::server::{LinkControl, Node, NodeOptions};

/// Bytes of a log segment here: small, as several nodes share the disk of a laptop.
const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// Longest wait for nodes to answer.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Time after which a node that did not answer is asked again.
const STEP: Duration = Duration::from_millis(100);
/// A key that is read, and never written, to see whether a node answers.
const PROBE_KEY: &str = "peerage:dev:probe";

/// The nodes, and the network between them.
pub(crate) struct Cluster {
    slots: Vec<Slot>,
    links: LinkControl,
    /// The cut that holds, as it was asked for.
    cut: Option<String>,
    directory: Directory,
}

/// A place for a node: its settings, and the node while it runs.
struct Slot {
    config: Config,
    node: Option<Node>,
}

impl Cluster {
    /// A cluster as the arguments say, not yet started.
    pub(crate) fn new(dev: &Dev) -> Result<Self, Failure> {
        let ports = ports(dev.port, usize::from(dev.nodes))?;
        let directory = Directory::new(dev.data_dir.as_deref(), "dev")?;
        let count = ports.len();
        let slots = (0..count)
            .map(|index| {
                let (port, cluster_port) = ports[index];
                let (_, seed) = ports[(index + 1) % count];
                let name = name(index + 1);
                let seeds = if count == 1 { Vec::new() } else { vec![format!("127.0.0.1:{seed}")] };
                let config = Config {
                    data_dir: directory.path().join(&name),
                    node_id: Some(name),
                    port,
                    cluster_port: Some(cluster_port),
                    seeds,
                    shards: Some(dev.shards),
                    segment_bytes: SEGMENT_BYTES,
                    allow_fault_injection: true,
                    ..Config::default()
                };
                Slot { config, node: None }
            })
            .collect();
        Ok(Self { slots, links: LinkControl::default(), cut: None, directory })
    }

    /// Starts every node.
    pub(crate) fn start(&mut self) -> Result<(), Failure> {
        (1..=self.slots.len()).try_for_each(|number| self.restart(number))
    }

    /// Starts the node `number` (from 1), which does not run.
    pub(crate) fn restart(&mut self, number: usize) -> Result<(), Failure> {
        let links = self.links.clone();
        let slot = self.slot(number)?;
        if slot.node.as_ref().is_some_and(|node| node.failed().is_none()) {
            return Err(Failure::Failed(format!("n{number} runs already; kill it first")));
        }
        // A node that failed by itself still holds its directory until it is let go.
        slot.node = None;
        let node =
            Node::start(slot.config.clone(), NodeOptions { links, ..NodeOptions::default() })
                .map_err(|error| with_number(number, &start_failure(&error)))?;
        slot.node = Some(node);
        Ok(())
    }

    /// Ends the node `number` as the death of its process would.
    pub(crate) fn kill(&mut self, number: usize) -> Result<(), Failure> {
        match self.slot(number)?.node.take() {
            Some(node) => {
                node.kill();
                Ok(())
            }
            None => Err(Failure::Failed(format!("n{number} does not run"))),
        }
    }

    /// Cuts the links between these groups of nodes.
    pub(crate) fn partition(&mut self, groups: &[Vec<usize>]) -> Result<(), Failure> {
        for number in groups.iter().flatten() {
            self.slot(*number)?;
        }
        let names: Vec<Vec<String>> =
            groups.iter().map(|group| group.iter().map(|number| name(*number)).collect()).collect();
        self.links.partition(&names);
        let shown: Vec<String> = names.iter().map(|group| group.join(",")).collect();
        self.cut = Some(shown.join(" | "));
        Ok(())
    }

    /// Lets every node talk to every other again.
    pub(crate) fn heal(&mut self) {
        self.links.heal();
        self.cut = None;
    }

    /// A client of the node `number`, or of all running nodes in turn.
    pub(crate) fn client(&mut self, number: Option<usize>) -> Result<Client, Failure> {
        let addrs: Vec<String> = match number {
            Some(number) => match &self.slot(number)?.node {
                Some(node) => vec![node.client_addr().to_string()],
                None => {
                    return Err(Failure::Failed(format!("n{number} does not run; restart it")));
                }
            },
            None => self.running().map(|node| node.client_addr().to_string()).collect(),
        };
        if addrs.is_empty() {
            return Err(Failure::Failed(String::from("no node runs; `restart 1` starts one")));
        }
        Client::new(&addrs, None)
    }

    /// Waits until the node `number`, or every running node, answers a read, and reaches the others
    /// that run unless links are cut.
    pub(crate) fn wait_until_ready(
        &self,
        runtime: &Runtime,
        number: Option<usize>,
    ) -> Result<(), Failure> {
        let wanted = number.map(name);
        let is_wanted = |node: &&Node| wanted.as_ref().is_none_or(|name| node.name() == name);
        let mut waiting: Vec<&Node> = self.running().filter(is_wanted).collect();
        // Links that are whole again are found to be so a moment later.
        let is_running = |name: &str| self.running().any(|node| node.name() == name);
        let reaches_all = |node: &Node| {
            let view = node.view();
            let mut members = view.members.values();
            self.cut.is_some() || members.all(|other| other.reachable || !is_running(&other.name))
        };
        let all_answer = async {
            loop {
                if let Some(failure) = waiting.iter().find_map(|node| node.failed()) {
                    return Err(Failure::Failed(failure.text));
                }
                let Some(node) = waiting.first() else { return Ok(()) };
                if reaches_all(node) && answers(node).await {
                    waiting.remove(0);
                    continue;
                }
                let mut views = node.views();
                // A new view is a reason to ask again; the time of a step is the longest wait.
                let _ = tokio::time::timeout(STEP, views.changed()).await;
            }
        };
        let in_time = async { tokio::time::timeout(READY_WITHIN, all_answer).await };
        runtime.block_on(in_time).unwrap_or_else(|_elapsed| {
            let reasons: Vec<String> = waiting
                .iter()
                .map(|node| format!("{}: {}", node.name(), standing(&node.view())))
                .collect();
            let reasons = reasons.join("\n  ");
            Err(Failure::Failed(format!("running, but not answering yet:\n  {reasons}")))
        })
    }

    /// What is said when the cluster is up.
    pub(crate) fn greeting(&self) -> String {
        let mut text = format!("a cluster of {} is ready:\n", self.slots.len());
        for node in self.running() {
            let (clients, nodes) = (node.client_addr(), node.cluster_addr());
            writeln!(text, "  {}  clients {clients}  nodes {nodes}", node.name())
                .expect("a string takes any text");
        }
        let port = self.slots[0].config.port;
        let path = self.directory.path().display();
        let removed = if self.directory.is_scratch() { ", removed at the end" } else { "" };
        writeln!(text, "data in {path}{removed}\ntry: redis-cli -p {port} set k v      or: help")
            .expect("a string takes any text");
        text
    }

    /// The nodes as they see themselves, one a line, and the cut that holds.
    pub(crate) fn status(&self) -> String {
        let mut text = String::new();
        for slot in &self.slots {
            let name = slot.config.node_id.as_deref().unwrap_or_default();
            let state = slot.node.as_ref().map_or_else(|| String::from("killed"), node_status);
            writeln!(text, "{name}  {}:{}  {state}", slot.config.host, slot.config.port)
                .expect("a string takes any text");
        }
        if let Some(cut) = &self.cut {
            writeln!(text, "links are cut between {cut}").expect("a string takes any text");
        }
        text
    }

    /// Stops every node in order; all of them at once, as each may wait for others.
    pub(crate) fn shutdown(&mut self) {
        std::thread::scope(|scope| {
            for node in self.slots.iter_mut().filter_map(|slot| slot.node.take()) {
                scope.spawn(|| node.shutdown());
            }
        });
        self.directory.remove();
    }

    fn running(&self) -> impl Iterator<Item = &Node> {
        self.slots.iter().filter_map(|slot| slot.node.as_ref())
    }

    fn slot(&mut self, number: usize) -> Result<&mut Slot, Failure> {
        let count = self.slots.len();
        number.checked_sub(1).and_then(|index| self.slots.get_mut(index)).ok_or_else(|| {
            Failure::Failed(format!("there is no node {number}; the nodes are 1 to {count}"))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Whatever ended it, a scratch directory is removed after the nodes that use it.
        self.slots.clear();
        self.directory.remove();
    }
}

fn name(number: usize) -> String {
    format!("n{number}")
}

fn with_number(number: usize, failure: &Failure) -> Failure {
    let hint = "; --port takes other ports, --port 0 free ones";
    let hint = if failure.to_string().contains("cannot listen") { hint } else { "" };
    Failure::Failed(format!("n{number}: {failure}{hint}"))
}

async fn answers(node: &Node) -> bool {
    client::Client::new([node.client_addr().to_string()]).get(PROBE_KEY).await.is_ok()
}

fn node_status(node: &Node) -> String {
    if let Some(failure) = node.failed() {
        return format!("failed: {}", failure.text);
    }
    let view = node.view();
    let mut lost: Vec<&str> = view
        .members
        .values()
        .filter(|member| !member.reachable)
        .map(|member| member.name.as_str())
        .collect();
    lost.sort_unstable();
    let reaches = if lost.is_empty() {
        String::from("reaches all")
    } else {
        format!("does not reach {}", lost.join(", "))
    };
    format!("{}; {reaches}", standing(&view))
}
