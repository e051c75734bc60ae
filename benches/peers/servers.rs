//! The systems that are compared, as processes on free ports of this machine with data in a
//! directory that goes away.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use peerage::load::{self, Json, Resp};
use peerage::load::{Count, Mix, Plan, Tally};
use tokio::time::{Instant, interval};

use crate::etcd::Gateway;

/// Longest wait for a system to take writes.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How a system is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Json,
    Resp,
    Gateway,
}

/// A system, and how it was told to keep what it acknowledges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    /// When it acknowledges, in the words of its own setting.
    pub(crate) durability: &'static str,
    pub(crate) protocol: Protocol,
    program: Program,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Peerage,
    Redis,
    Etcd,
}

/// The nodes of a system.
pub(crate) struct Running {
    pub(crate) system: System,
    pub(crate) addrs: Vec<String>,
    children: Vec<Child>,
    directory: PathBuf,
}

/// All that can be compared.
pub(crate) const SYSTEMS: [System; 7] = [
    System::new("peerage", "fdatasync", Protocol::Resp, Program::Peerage),
    System::new("peerage (JSON)", "fdatasync", Protocol::Json, Program::Peerage),
    System::new("redis", "appendfsync always", Protocol::Resp, Program::Redis),
    System::new("etcd", "fdatasync", Protocol::Gateway, Program::Etcd),
    System::new("peerage", "interval, 50 ms", Protocol::Resp, Program::Peerage),
    System::new("redis", "appendfsync everysec", Protocol::Resp, Program::Redis),
    System::new("redis", "none", Protocol::Resp, Program::Redis),
];

impl System {
    const fn new(
        name: &'static str,
        durability: &'static str,
        protocol: Protocol,
        program: Program,
    ) -> Self {
        Self { name, durability, protocol, program }
    }

    /// Whether it forms a cluster of several nodes that hold the same keys.
    pub(crate) fn is_cluster(self) -> bool {
        self.program != Program::Redis
    }

    /// The program, where this machine has it.
    pub(crate) fn program(self) -> Option<PathBuf> {
        let name = match self.program {
            Program::Peerage => return Some(PathBuf::from(env!("CARGO_BIN_EXE_peerage"))),
            Program::Redis => "redis-server",
            Program::Etcd => "etcd",
        };
        let paths = std::env::var_os("PATH")?;
        std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file())
    }

    /// Starts it and waits until it takes writes.
    pub(crate) async fn start(self, nodes: usize) -> Result<Running, String> {
        let program = self.program().ok_or("it is not installed")?;
        let ports = free_ports(nodes)?;
        let name = format!("peers-{}-{}", std::process::id(), ports[0].0);
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let addrs = ports.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect();
        let mut running = Running { system: self, addrs, children: Vec::new(), directory };
        for index in 0..nodes {
            let data = running.directory.join(format!("n{index}"));
            fs::create_dir_all(&data).map_err(|error| error.to_string())?;
            let mut command = Command::new(&program);
            command.args(self.arguments(&ports, index, &data));
            command.current_dir(&data);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            running.children.push(command.spawn().map_err(|error| error.to_string())?);
        }
        running.wait_ready().await?;
        Ok(running)
    }

    fn arguments(self, ports: &[(u16, u16)], index: usize, data: &Path) -> Vec<String> {
        let (port, peer_port) = ports[index];
        let data = data.display();
        match self.program {
            Program::Peerage => {
                let mode = if self.durability == "fdatasync" { "always" } else { "interval" };
                let seed = ports[(index + 1) % ports.len()].1;
                let mut words = format!(
                    "serve --port {port} --cluster-port {peer_port} --data-dir {data} \
                     --durability {mode}"
                );
                if ports.len() > 1 {
                    words.extend([" --seed 127.0.0.1:", &seed.to_string()]);
                }
                words.split(' ').map(String::from).collect()
            }
            Program::Redis => {
                let mut words = vec!["--port".into(), port.to_string(), "--save".into()];
                words.push(String::new());
                match self.durability.strip_prefix("appendfsync ") {
                    None => words.extend(["--appendonly", "no"].map(String::from)),
                    Some(mode) => words
                        .extend(["--appendonly", "yes", "--appendfsync", mode].map(String::from)),
                }
                words
            }
            Program::Etcd => {
                let member = |index: usize| format!("n{index}=http://127.0.0.1:{}", ports[index].1);
                let members: Vec<String> = (0..ports.len()).map(member).collect();
                let (clients, peers) =
                    (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
                let words = format!(
                    "--name n{index} --data-dir {data} --listen-client-urls {clients} \
                     --advertise-client-urls {clients} --listen-peer-urls {peers} \
                     --initial-advertise-peer-urls {peers} --initial-cluster {} \
                     --quota-backend-bytes 8589934592 --log-level error",
                    members.join(",")
                );
                words.split(' ').map(String::from).collect()
            }
        }
    }
}

impl Running {
    /// Does what the plan says, at all nodes.
    pub(crate) async fn run(&self, plan: &Plan) -> Result<Tally, String> {
        self.run_at(&Plan { addrs: self.addrs.clone(), ..plan.clone() }).await
    }

    async fn run_at(&self, plan: &Plan) -> Result<Tally, String> {
        let count = Count::default();
        match self.system.protocol {
            Protocol::Json => load::run(plan, || Json, &count).await,
            Protocol::Resp => load::run(plan, || Resp, &count).await,
            Protocol::Gateway => load::run(plan, || Gateway, &count).await,
        }
    }

    /// Time that all nodes have been on a processor.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.children.iter().map(|child| load::cpu_time(child.id())).sum()
    }

    /// Returns when every node takes a write.
    async fn wait_ready(&self) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut ticks = interval(Duration::from_millis(200));
        for addr in &self.addrs {
            let plan = Plan {
                addrs: vec![addr.clone()],
                clients: 1,
                pipeline: 1,
                time: READY_WITHIN,
                mix: Mix::Fill,
                keys: 1,
                value_bytes: 1,
                seed: 0,
            };
            while self.run_at(&plan).await.map_or(0, |tally| tally.done) == 0 {
                if Instant::now() >= deadline {
                    return Err(format!("{} takes no writes", self.system.name));
                }
                ticks.tick().await;
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended by itself needs neither.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{} was not removed: {error}", self.directory.display());
        }
    }
}

/// Ports for clients and for nodes, held together until all are known, so that none comes twice.
fn free_ports(nodes: usize) -> Result<Vec<(u16, u16)>, String> {
    let free = || {
        let held = TcpListener::bind("127.0.0.1:0")?;
        Ok((held.local_addr()?.port(), held))
    };
    let held: Result<Vec<_>, std::io::Error> = (0..nodes * 2).map(|_| free()).collect();
    let held = held.map_err(|error| error.to_string())?;
    Ok(held.chunks(2).map(|pair| (pair[0].0, pair[1].0)).collect())
}
