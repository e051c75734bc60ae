//! One node: how it starts, what can be asked of it from outside, and how it ends.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;
use thiserror::Error;
use tokio::net::TcpSocket;
use tokio::sync::watch;

use super::bug;
use super::clock::Clock;
use super::control::{self, Sockets};
use super::directory::{Directory, DirectoryError};
use super::exposure::{Exposure, advertised_host};
use super::files::Files;
use super::guests::{Bounds, Guests};
use super::injection::Injection;
use super::link_control::LinkControl;
use super::links::Peers;
use super::log_thread::{self, LogQueue, OpenLog};
use super::mailbox::Mailbox;
use super::memory::{Budget, Memory};
use super::metrics::Metrics;
use super::origin::Failures;
use super::readers::{self, READERS, Readers};
use super::shard_thread;
use super::shared::{Shared, Stage};
use crate::api::Tokens;
use crate::causality::NodeId;
use crate::cluster::{Cluster, Phase, Secret, Settings, View};
use crate::config::Config;
use crate::limits;
use crate::shard::{self, Shard, ShardConfig, ShardId};
use crate::store::{LogConfig, LogError, LogStatus, Recovered, RecoveredShard};
use crate::turn::Worker;
use crate::wire::{Facts, Gauges};

/// What a node shares with others of its process.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// Which nodes of the process it can talk to.
    pub links: LinkControl,
    /// What every node of the cluster must prove that it holds; `None`: nothing.
    pub secret: Option<Secret>,
    /// What clients must show one of; `None`: nothing.
    pub tokens: Option<Arc<Tokens>>,
}

/// A running node. Dropping it is [`Node::kill`].
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Says once that the others were told of the end.
    told: Option<Receiver<()>>,
    /// Held until every thread has ended.
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
    /// Others than this machine could reach it, and it could not tell whom to trust.
    #[error(
        "{host} can be reached from other machines, and it has {missing}. Give both \
         --cluster-secret-file (`peerage secret FILE` makes one) and --tokens-file (`peerage \
         token create`), or use a loopback address such as 127.0.0.1, or, in a lab that nobody \
         else can reach, add --insecure-i-know"
    )]
    Exposed {
        /// The address asked for.
        host: IpAddr,
        /// What is not there.
        missing: &'static str,
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
    /// The log cannot be used.
    #[error("{path}: {source}")]
    Log {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong with it.
        source: LogError,
    },
    /// What the node promised others is lost or damaged.
    #[error("{text}")]
    Refused {
        /// Why, and what to do.
        text: String,
    },
    /// The operating system gives no thread, or no randomness.
    #[error("the operating system gives no {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

impl StartError {
    /// What the process returns to its caller: 2 for bad usage, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exposed { .. } | Self::BadConfig { .. } => 2,
            Self::Listen { .. }
            | Self::Directory(_)
            | Self::Log { .. }
            | Self::Refused { .. }
            | Self::System { .. } => 1,
        }
    }
}

impl Node {
    /// Starts every thread of a node and returns once it listens. Blocks while the log is read.
    pub fn start(config: Config, options: NodeOptions) -> Result<Self, StartError> {
        check(&config)?;
        exposure(&config, &options).check(&config)?;
        let clock = Clock::start();
        let addresses = Addresses::bind(&config)?;
        let directory = Directory::open(
            &config.data_dir,
            config.node_id.as_deref(),
            &addresses.advertised(addresses.clients),
        )?;
        let name = directory.identity.name.clone();
        let shards = config.shards.unwrap_or_else(shards_default);
        let mut log = open_log(&config, &directory, shards, clock)?;
        let recovered = log.take_recovered();
        let cluster = control_plane(&config, &name, &directory, &addresses, &recovered, clock)?;
        let shared = share(config, options, name, &directory, &addresses, shards, clock);
        let mut node = Self {
            shared: Arc::new(shared),
            threads: Vec::new(),
            told: None,
            _directory: directory,
        };
        node.start_log(log)?;
        node.start_shards(recovered)?;
        node.start_control(cluster, addresses.sockets)?;
        Ok(node)
    }

    /// Where clients reach it (newline-JSON and RESP).
    pub fn client_addr(&self) -> SocketAddr {
        self.shared.client_addr
    }

    /// Where other nodes reach it.
    pub fn cluster_addr(&self) -> SocketAddr {
        self.shared.cluster_addr
    }

    /// Its name, unique in the cluster.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its id, the same for ever.
    pub fn id(&self) -> NodeId {
        self.shared.identity.node
    }

    /// The world as it sees it now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.shared.view.borrow())
    }

    /// The same as it changes, for callers that wait for something.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.shared.view.subscribe()
    }

    /// Why it ended by itself; `None` while it runs.
    pub fn failed(&self) -> Option<Failure> {
        self.shared.failure.borrow().clone()
    }

    /// The same as it changes, for callers that wait for it.
    pub fn failures(&self) -> watch::Receiver<Option<Failure>> {
        self.shared.failure.subscribe()
    }

    /// What it has done since its start.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// What its log has done and holds.
    pub fn log_status(&self) -> LogStatus {
        *self.shared.log_status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops in order: no new connections, what is in flight is finished (10 s at most), the other
    /// nodes are told, the log is synced. Blocks until every thread has ended.
    pub fn shutdown(mut self) {
        self.shared.advance(Stage::Draining);
        if !self.shared.has_ended() {
            self.shared.guests.wait_until_none(DRAIN_PATIENCE);
            if let Some(told) = self.told.take() {
                // Without an answer the others find out by themselves.
                let _ = told.recv_timeout(TELL_PATIENCE);
            }
            // Fails only when the node ended by itself meanwhile, which has been reported.
            let _ = self.shared.log.finish().recv_timeout(SYNC_PATIENCE);
        }
        drop(self);
    }

    /// Stops at once, as the death of the process would: nothing is finished, told or flushed.
    /// Blocks until every thread has ended.
    pub fn kill(self) {
        drop(self);
    }

    fn start_log(&mut self, log: OpenLog) -> Result<(), StartError> {
        self.shared.readers.open(log.files());
        for index in 0..READERS {
            let files = log.files();
            self.spawn(&format!("reader-{index}"), move |shared| readers::run(shared, &files))?;
        }
        let (elsewhere, work) = mpsc::channel();
        let files = log.files();
        let injection = Injection::new(random()?);
        self.spawn("log-files", move |shared| {
            log_thread::run_elsewhere(shared, &files, &work, injection);
        })?;
        self.spawn("log", move |shared| log_thread::run(shared, log, elsewhere))
    }

    fn start_shards(&mut self, found: Recovered) -> Result<(), StartError> {
        let shards = self.shared.shard_count();
        let rebuilding = found.damage.unnamed || !found.damage.partitions.is_empty();
        for (index, shard) in (0..).zip(found.shards) {
            let RecoveredShard { store, clocks, stamps, expiring, refused, is_complete } = shard;
            let hlc = found.hlc;
            let recovered = shard::Recovered {
                clocks,
                rebuilding,
                hlc,
                stamps,
                expiring,
                refused,
                is_complete,
            };
            let shard = ShardId(index);
            let config = ShardConfig { shard, shards, seed: random()?, recovered };
            let worker = Worker::new(Shard::new(config), store);
            self.spawn(&format!("shard-{index}"), move |shared| {
                if let Err(error) = shard_thread::run(shared, shard, worker) {
                    shared.fail(Failure::no_runtime(&error));
                }
            })?;
        }
        Ok(())
    }

    fn start_control(&mut self, cluster: Cluster, sockets: Sockets) -> Result<(), StartError> {
        let (started, starting) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let plane = control::Plane { cluster, sockets, seed: random()?, started, told: tell };
        self.spawn("control", move |shared| {
            if let Err(error) = control::run(shared, plane) {
                shared.fail(Failure::no_runtime(&error));
            }
        })?;
        self.told = Some(told);
        // The thread says something unless it could not even make its runtime.
        starting.recv().unwrap_or_else(|mpsc::RecvError| {
            let source = io::Error::other("the control thread ended");
            Err(StartError::System { what: "runtime", source })
        })
    }

    fn spawn(
        &mut self,
        what: &str,
        body: impl FnOnce(&Arc<Shared>) + Send + 'static,
    ) -> Result<(), StartError> {
        let shared = Arc::clone(&self.shared);
        let name = format!("the thread {what}");
        let thread = std::thread::Builder::new()
            .name(what.to_owned())
            .spawn(move || bug::guard(&shared, &name, body))
            .map_err(|source| StartError::System { what: "thread", source })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.advance(Stage::Ended);
        for thread in self.threads.drain(..) {
            // One that panicked has been reported by its guard.
            let _ = thread.join();
        }
    }
}

impl Failure {
    fn no_runtime(error: &io::Error) -> Self {
        Self { text: format!("the operating system gives no runtime: {error}"), exit_code: 1 }
    }
}

/// Time that clients have to be answered when the node stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// Time that telling the other nodes may take when the node stops.
const TELL_PATIENCE: Duration = Duration::from_secs(1);
/// Time that the last sync may take when the node stops.
const SYNC_PATIENCE: Duration = Duration::from_secs(30);
/// Longest name of a node: it stands in tables and in every greeting.
const NAME_BYTES_MAX: usize = 64;
/// What is added to the port for clients where no port for other nodes is given.
const CLUSTER_PORT_OFFSET: u16 = 1_000;

fn check(config: &Config) -> Result<(), StartError> {
    let bad = |text: String| Err(StartError::BadConfig { text });
    if config.shards.is_some_and(|shards| shards == 0 || shards > limits::SHARDS_MAX) {
        return bad(format!("shards must be 1 to {}", limits::SHARDS_MAX));
    }
    if config.node_id.as_ref().is_some_and(|name| !is_name(name)) {
        return bad(format!(
            "node-id must have 1 to {NAME_BYTES_MAX} bytes, all of them printable"
        ));
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
    let segments = limits::SEGMENT_BYTES_MIN..=limits::SEGMENT_BYTES_CEILING;
    if !segments.contains(&config.segment_bytes) {
        let (min, max) = segments.into_inner();
        return bad(format!("segment-bytes must be {min} to {max}"));
    }
    check_clients(config)?;
    if config.memory_bytes.is_some_and(|bytes| bytes < limits::MEMORY_BYTES_MIN) {
        return bad(format!("memory-bytes must be {} or more", limits::MEMORY_BYTES_MIN));
    }
    if config.cluster_port.is_none() && config.port.checked_add(CLUSTER_PORT_OFFSET).is_none() {
        let max = u16::MAX - CLUSTER_PORT_OFFSET;
        return bad(format!("give --cluster-port where the port is above {max}"));
    }
    Ok(())
}

/// The settings that keep clients in bounds.
fn check_clients(config: &Config) -> Result<(), StartError> {
    let connections = 1..=limits::CONNECTIONS_CEILING;
    let times = 1..=limits::PATIENCE_MS_CEILING;
    let per_address = config.connections_per_address_max;
    let wrong = if !connections.contains(&config.connections_max) {
        format!("connections-max must be 1 to {}", limits::CONNECTIONS_CEILING)
    } else if per_address.is_some_and(|number| !connections.contains(&number)) {
        format!("connections-per-address-max must be 1 to {}", limits::CONNECTIONS_CEILING)
    } else if config.client_bytes_max < limits::CLIENT_BYTES_MIN {
        format!("client-bytes-max must be {} at least", limits::CLIENT_BYTES_MIN)
    } else {
        let patience = [
            ("first-request-ms", config.first_request_ms),
            ("auth-ms", config.auth_ms),
            ("request-ms", config.request_ms),
            ("unread-ms", config.unread_ms),
        ];
        match patience.into_iter().find(|(_, ms)| !times.contains(ms)) {
            Some((name, _)) => format!("{name} must be 1 to {}", limits::PATIENCE_MS_CEILING),
            None => return Ok(()),
        }
    };
    Err(StartError::BadConfig { text: wrong })
}

fn exposure(config: &Config, options: &NodeOptions) -> Exposure {
    Exposure::of(config, options.secret.is_some(), options.tokens.is_some())
}

/// Whether people can read it and it fits one line.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Cores - 1, at least 1: the last core is for the log, the control thread and the kernel.
fn shards_default() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let shards = u16::try_from(cores - 1).unwrap_or(limits::SHARDS_MAX);
    shards.clamp(1, limits::SHARDS_MAX)
}

fn random() -> Result<u64, StartError> {
    SysRng
        .try_next_u64()
        .map_err(|error| StartError::System { what: "randomness", source: io::Error::other(error) })
}

/// Where a node is reached, and its sockets, which do not listen yet.
struct Addresses {
    clients: SocketAddr,
    peers: SocketAddr,
    /// Where others reach it, without a port.
    host: String,
    sockets: Sockets,
}

impl Addresses {
    fn bind(config: &Config) -> Result<Self, StartError> {
        let host = advertised_host(config)?;
        let cluster_port = match (config.cluster_port, config.port) {
            (Some(port), _) => port,
            (None, 0) => 0,
            (None, port) => port + CLUSTER_PORT_OFFSET,
        };
        let (client_socket, clients) = bind("clients", config.host, config.port)?;
        let (peer_socket, peers) = bind("other nodes", config.host, cluster_port)?;
        let sockets = Sockets { clients: client_socket, peers: peer_socket };
        Ok(Self { clients, peers, host, sockets })
    }

    /// HOST:PORT by which others reach a socket.
    fn advertised(&self, bound: SocketAddr) -> String {
        let port = bound.port();
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

fn open_log(
    config: &Config,
    directory: &Directory,
    shards: u16,
    clock: Clock,
) -> Result<OpenLog, StartError> {
    let store_bytes = Budget::of(config).stores;
    let settings = LogConfig {
        node: directory.identity.node,
        shards,
        segment_bytes: config.segment_bytes,
        durability: config.durability,
        cache_bytes: limits::CACHE_BYTES.min(store_bytes / 4),
        memory_bytes: store_bytes,
        scrub_ms: Some(limits::SCRUB_MS),
        seed: random()?,
    };
    let files = Files::new(directory.log.clone());
    OpenLog::open(settings, files, clock)
        .map_err(|source| StartError::Log { path: directory.log.clone(), source })
}

fn control_plane(
    config: &Config,
    name: &str,
    directory: &Directory,
    addresses: &Addresses,
    recovered: &Recovered,
    clock: Clock,
) -> Result<Cluster, StartError> {
    for region in &recovered.damage.regions {
        tracing::warn!(node = name, "damage in the log: {region}");
    }
    if !recovered.damage.slots.is_empty() {
        let text = format!(
            "what this node promised its cluster is damaged in {}; restore the folder from a copy, \
             or begin with an empty directory as a new node",
            directory.log.display()
        );
        return Err(StartError::Refused { text });
    }
    let settings = Settings {
        public_key: directory.identity.public_key,
        name: name.to_owned(),
        zone: config.zone.clone(),
        cluster_addr: addresses.advertised(addresses.peers),
        client_addr: addresses.advertised(addresses.clients),
        seeds: config.seeds.clone(),
        partitions: config.partitions,
        replicas: config.replicas,
        seed: random()?,
    };
    Cluster::new(settings, &recovered.control, clock.now())
        .map_err(|refusal| StartError::Refused { text: refusal.to_string() })
}

fn share(
    config: Config,
    options: NodeOptions,
    name: String,
    directory: &Directory,
    addresses: &Addresses,
    shards: u16,
    clock: Clock,
) -> Shared {
    let started_unix_ms = clock.now().unix_ms;
    let view = View {
        me: directory.identity.node,
        name: name.clone(),
        actor: None,
        phase: Phase::Unborn(String::from("it is starting")),
        layout: None,
        members: BTreeMap::new(),
    };
    let exposure = exposure(&config, &options);
    let guests = Guests::new(Bounds::of(&config));
    let memory = Memory::new(Budget::of(&config), shards);
    Shared {
        host: addresses.host.clone(),
        config,
        name,
        identity: directory.identity.clone(),
        client_addr: addresses.clients,
        cluster_addr: addresses.peers,
        clock,
        started_unix_ms,
        links: options.links,
        secret: options.secret,
        tokens: options.tokens,
        exposure,
        failures: Failures::default(),
        stage: watch::Sender::new(Stage::Running),
        failure: watch::Sender::new(None),
        view: watch::Sender::new(Arc::new(view)),
        metrics: Metrics::default(),
        guests,
        debug_writes: AtomicU64::new(0),
        write_seq: Facts::first_write_seq(started_unix_ms),
        shards: (0..shards).map(|_| Mailbox::default()).collect(),
        loads: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
        log: LogQueue::default(),
        log_status: Mutex::default(),
        gauges: Gauges::default(),
        memory,
        control: Mailbox::default(),
        readers: Readers::default(),
        peers: Peers::default(),
    }
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
