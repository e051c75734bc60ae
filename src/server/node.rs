//! One node: how it starts, what can be asked of it from outside, and how it ends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;
use tokio::net::TcpSocket;
use tokio::sync::watch;

use super::clock::Clock;
use super::directory::{Directory, DirectoryError};
use super::link_control::LinkControl;
use crate::causality::NodeId;
use crate::cluster::{Phase, View};
use crate::config::Config;
use crate::limits;

/// What a node shares with others of its process.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Which nodes of the process it can talk to.
    pub links: LinkControl,
}

/// A running node. Dropping it is [`Node::kill`].
#[derive(Debug)]
pub struct Node {
    name: String,
    id: NodeId,
    client_addr: SocketAddr,
    cluster_addr: SocketAddr,
    view: watch::Receiver<Arc<View>>,
    failure: watch::Receiver<Option<Failure>>,
    _directory: Directory,
}

/// Why a node ended without being asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened and what to do, for people.
    pub text: String,
    /// What the process returns to its caller.
    pub exit_code: u8,
}

/// Why a node did not start. Nothing was written but, perhaps, a new identity.
#[derive(Debug, Error)]
pub enum StartError {
    /// Others than this machine could reach it.
    #[error(
        "{host} can be reached from other machines, and this version has neither passwords nor \
         encryption; use a loopback address such as 127.0.0.1"
    )]
    NotLoopback {
        /// The address asked for.
        host: IpAddr,
    },
    /// A setting is out of its range.
    #[error("{text}")]
    BadConfig {
        /// Which one, and its range.
        text: String,
    },
    /// A port cannot be had.
    #[error("cannot listen on {addr} for {whom}: {source}")]
    Listen {
        /// Clients or other nodes.
        whom: &'static str,
        /// Where.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl StartError {
    /// What the process returns to its caller: 2 for bad usage, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotLoopback { .. } | Self::BadConfig { .. } => 2,
            Self::Listen { .. } | Self::Directory(_) => 1,
        }
    }
}

impl Node {
    /// Starts every thread of a node and returns once it listens. Blocks while the log is read.
    pub fn start(config: Config, options: NodeOptions) -> Result<Self, StartError> {
        check(&config)?;
        let _clock = Clock::start();
        let clients = bind("clients", config.host, config.port)?;
        let cluster_port = match (config.cluster_port, config.port) {
            (Some(port), _) => port,
            (None, 0) => 0,
            (None, port) => port + CLUSTER_PORT_OFFSET,
        };
        let peers = bind("other nodes", config.host, cluster_port)?;
        let name = config.node_id.clone().unwrap_or_else(|| clients.1.to_string());
        let directory = Directory::open(&config.data_dir, &name)?;
        let view = View {
            me: directory.identity.node,
            name: name.clone(),
            actor: None,
            phase: Phase::Unborn(String::from("it is starting")),
            layout: None,
            members: std::collections::BTreeMap::new(),
        };
        let _ = options;
        Ok(Self {
            id: directory.identity.node,
            name,
            client_addr: clients.1,
            cluster_addr: peers.1,
            view: watch::channel(Arc::new(view)).1,
            failure: watch::channel(None).1,
            _directory: directory,
        })
    }

    /// Where clients reach it (newline-JSON and RESP).
    pub fn client_addr(&self) -> SocketAddr {
        self.client_addr
    }

    /// Where other nodes reach it.
    pub fn cluster_addr(&self) -> SocketAddr {
        self.cluster_addr
    }

    /// Its name, unique in the cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id, the same for ever.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The world as it sees it now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The same as it changes, for callers that wait for something.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Why it ended by itself; `None` while it runs.
    pub fn failed(&self) -> Option<Failure> {
        self.failure.borrow().clone()
    }

    /// The same as it changes, for callers that wait for it.
    pub fn failures(&self) -> watch::Receiver<Option<Failure>> {
        self.failure.clone()
    }

    /// Stops in order: no new connections, what is in flight is finished (10 s at most), the other
    /// nodes are told, the log is synced. Blocks until every thread has ended.
    pub fn shutdown(self) {}

    /// Stops at once, as the death of the process would: nothing is finished, told or flushed.
    /// Blocks until every thread has ended.
    pub fn kill(self) {}
}

/// What is added to the port for clients where no port for other nodes is given.
const CLUSTER_PORT_OFFSET: u16 = 1_000;

fn check(config: &Config) -> Result<(), StartError> {
    let bad = |text: String| Err(StartError::BadConfig { text });
    if !config.host.is_loopback() {
        return Err(StartError::NotLoopback { host: config.host });
    }
    if config.shards.is_some_and(|shards| shards == 0 || shards > limits::SHARDS_MAX) {
        return bad(format!("shards must be 1 to {}", limits::SHARDS_MAX));
    }
    if config.replicas == 0 || config.replicas > limits::REPLICAS_MAX {
        return bad(format!("replicas must be 1 to {}", limits::REPLICAS_MAX));
    }
    if !config.partitions.is_power_of_two() || config.partitions > limits::PARTITIONS_MAX {
        let max = limits::PARTITIONS_MAX;
        return bad(format!("partitions must be a power of two, {max} at most"));
    }
    if config.value_bytes_max == 0 || config.value_bytes_max > limits::VALUE_BYTES_CEILING {
        let max = limits::VALUE_BYTES_CEILING;
        return bad(format!("value-bytes-max must be 1 to {max}"));
    }
    if config.cluster_port.is_none() && config.port.checked_add(CLUSTER_PORT_OFFSET).is_none() {
        let max = u16::MAX - CLUSTER_PORT_OFFSET;
        return bad(format!("give --cluster-port where the port is above {max}"));
    }
    Ok(())
}

/// A socket that has its address but does not listen yet, so that nobody connects before the log
/// is read.
fn bind(
    whom: &'static str,
    host: IpAddr,
    port: u16,
) -> Result<(TcpSocket, SocketAddr), StartError> {
    let addr = SocketAddr::new(host, port);
    let attempt = || -> io::Result<(TcpSocket, SocketAddr)> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let bound = socket.local_addr()?;
        Ok((socket, bound))
    };
    attempt().map_err(|source| StartError::Listen { whom, addr, source })
}
