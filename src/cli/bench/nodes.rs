//! Nodes of a benchmark: processes of this program, with data in a directory that goes away.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;
use tokio::time::{interval, timeout};

use super::TICK;
use crate::cli::failure::Failure;
use crate::cli::scratch::{Directory, ports};
use crate::client::{Client, Level};

/// Longest wait for nodes to answer.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// A key that is read, and never written, to see whether a node answers.
const PROBE_KEY: &str = "peerage:bench:probe";

/// How nodes are set up.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeFlags {
    /// Shard threads of each node [default: that of serve]
    #[arg(long, value_name = "S")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: Option<u16>,
    /// When a write is acknowledged: always, interval or os
    #[arg(long, value_name = "MODE", default_value = "always")]
    #[arg(value_parser = ["always", "interval", "os"])]
    durability: String,
    /// Where the nodes keep their data [default: a new directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl NodeFlags {
    /// When a write is acknowledged.
    pub(crate) fn durability(&self) -> &str {
        &self.durability
    }
}

/// Nodes that form one cluster. They are killed and their data is removed when this goes.
pub(crate) struct Nodes {
    directory: Directory,
    nodes: Vec<Process>,
}

struct Process {
    addr: String,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Nodes {
    /// Starts so many nodes, and waits until all of them answer.
    pub(crate) async fn start(count: usize, flags: &NodeFlags) -> Result<Self, Failure> {
        let ports = ports(0, count)?;
        let directory = Directory::new(flags.data_dir.as_deref(), "bench")?;
        let nodes = (0..count).map(|index| Process::new(index, &ports, flags, &directory));
        let mut nodes = Self { nodes: nodes.collect(), directory };
        for index in 0..count {
            nodes.restart(index)?;
        }
        nodes.wait_ready().await?;
        Ok(nodes)
    }

    /// Where clients reach them.
    pub(crate) fn addrs(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.addr.clone()).collect()
    }

    /// Their process ids.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(|node| node.child.as_ref()).map(Child::id).collect()
    }

    /// Where their data lies.
    pub(crate) fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Ends a node by `kill -9`.
    pub(crate) fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
    }

    /// Starts a node that does not run, on the data that it has.
    pub(crate) fn restart(&mut self, index: usize) -> Result<(), Failure> {
        let node = &mut self.nodes[index];
        let failed = |error| Failure::Failed(format!("cannot start a node: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(&node.arguments);
        // What is set for the nodes of the user is not meant for these.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PEERAGE_") {
                command.env_remove(name);
            }
        }
        let log = File::options().create(true).append(true).open(&node.log).map_err(failed)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        node.child = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    /// Returns when every node answers for all replicas of a key.
    pub(crate) async fn wait_ready(&mut self) -> Result<(), Failure> {
        let all = async {
            for node in &mut self.nodes {
                let mut client = Client::new([node.addr.clone()]);
                let mut ticks = interval(TICK);
                while client.get(PROBE_KEY).level(Level::All).await.is_err() {
                    if let Some(ended) = node.ended() {
                        return Err(ended);
                    }
                    ticks.tick().await;
                }
            }
            Ok(())
        };
        let late = || Failure::Failed(format!("the nodes do not answer after {READY_WITHIN:?}"));
        timeout(READY_WITHIN, all).await.map_err(|_elapsed| late())?
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(Process::kill);
        self.directory.remove();
    }
}

impl Process {
    fn new(index: usize, ports: &[(u16, u16)], flags: &NodeFlags, directory: &Directory) -> Self {
        let (port, cluster_port) = ports[index];
        let (_, seed) = ports[(index + 1) % ports.len()];
        let name = format!("n{}", index + 1);
        let path = directory.path().join(&name);
        let mut arguments = vec![
            String::from("serve"),
            format!("--port={port}"),
            format!("--cluster-port={cluster_port}"),
            format!("--node-id={name}"),
            format!("--data-dir={}", path.display()),
            format!("--durability={}", flags.durability),
        ];
        if ports.len() > 1 {
            arguments.push(format!("--seed=127.0.0.1:{seed}"));
        }
        arguments.extend(flags.shards.map(|shards| format!("--shards={shards}")));
        let log = directory.path().join(format!("{name}.log"));
        Self { addr: format!("127.0.0.1:{port}"), arguments, log, child: None }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to kill, only to be waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Why the node has ended, if it has.
    fn ended(&mut self) -> Option<Failure> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let said = log.lines().last().unwrap_or("it said nothing");
        Some(Failure::Failed(format!("a node has ended ({status}): {said}")))
    }
}
