//! One `peerage serve` process that can be started, killed and asked.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::{Value as JsonValue, json};
use tempfile::TempDir;

use super::{Json, PATIENCE, Resp, binary, folder, free_port, wait_at_most};

const SEGMENT_BYTES: &str = "16777216";

/// A node of a test: its folder and its ports stay, its process comes and goes.
pub(crate) struct Node {
    /// Name of the node.
    pub(crate) name: String,
    /// Port for clients.
    pub(crate) port: u16,
    /// Port for other nodes.
    pub(crate) cluster_port: u16,
    /// Where its data lies.
    pub(crate) data: PathBuf,
    folder: Option<TempDir>,
    log: PathBuf,
    seeds: Vec<String>,
    options: Vec<String>,
    process: Option<Child>,
}

impl Node {
    /// A node with a fresh folder and free ports; not started.
    pub(crate) fn new(name: &str) -> Self {
        let folder = folder();
        let (data, log) = (folder.path().join("data"), folder.path().join("log"));
        Self {
            name: name.to_owned(),
            port: free_port(),
            cluster_port: free_port(),
            data,
            folder: Some(folder),
            log,
            seeds: Vec::new(),
            options: Vec::new(),
            process: None,
        }
    }

    /// `count` nodes named n1, n2, ... that know nothing of one another.
    pub(crate) fn several(count: usize) -> Vec<Self> {
        (1..=count).map(|number| Self::new(&format!("n{number}"))).collect()
    }

    /// A running cluster of `count` nodes, every one ready, each naming the next one as its seed.
    pub(crate) fn cluster(count: usize, options: &[&str]) -> Vec<Self> {
        let mut nodes = Self::several(count);
        let ports: Vec<u16> = nodes.iter().map(|node| node.cluster_port).collect();
        for (index, node) in nodes.iter_mut().enumerate() {
            node.options(options);
            if count > 1 {
                node.seed(ports[(index + 1) % count]);
            }
            node.start();
        }
        for node in &nodes {
            node.wait_ready();
        }
        nodes
    }

    /// Adds a seed by its cluster port.
    pub(crate) fn seed(&mut self, cluster_port: u16) {
        self.seeds.push(format!("127.0.0.1:{cluster_port}"));
    }

    /// Adds flags of `serve`.
    pub(crate) fn options(&mut self, options: &[&str]) {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
    }

    /// Starts the process; it has not begun to serve when this returns.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.expect("the log of a node can be written");
        let twin = log.try_clone().expect("a file has two names");
        let child = self.command().stdin(Stdio::null()).stdout(log).stderr(twin).spawn();
        self.process = Some(child.expect("the binary under test can be started"));
    }

    /// The command that `start` runs.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("serve").arg("--data-dir").arg(&self.data);
        command.args(["--node-id", &self.name, "--host", "127.0.0.1"]);
        command.args(["--port", &self.port.to_string()]);
        command.args(["--cluster-port", &self.cluster_port.to_string()]);
        // Small segments: a test that writes little should not allocate much.
        command.env("PEERAGE_SEGMENT_BYTES", SEGMENT_BYTES);
        for seed in &self.seeds {
            command.args(["--seed", seed]);
        }
        command.args(&self.options).env("NO_COLOR", "1");
        command
    }

    /// Runs the process to its end, which must come by itself: for starts that must be refused.
    pub(crate) fn start_and_fail(&self) -> String {
        let log = self.log.with_extension("refused");
        let file = File::create(&log).expect("the log of a node can be written");
        let twin = file.try_clone().expect("a file has two names");
        let child = self.command().stdin(Stdio::null()).stdout(file).stderr(twin).spawn();
        let mut child = child.expect("the binary under test can be started");
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let status = wait_exit(&mut child, || format!("{} to refuse: {}", self.name, said()));
        let said = said();
        assert!(!status.success(), "{} must refuse to start: {said}", self.name);
        said
    }

    /// Ends the process at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let mut child = self.process.take().expect("only a running node is killed");
        child.kill().expect("a running child can be killed");
        child.wait().expect("a killed child can be waited for");
    }

    /// Asks the process to stop and waits for its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut child = self.process.take().expect("only a running node is stopped");
        signal(&child, "-TERM");
        wait_exit(&mut child, || format!("{} to stop", self.name))
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.as_ref().expect("only a running node gets signals"), name);
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let mut child = self.process.take().expect("only a running node ends");
        wait_exit(&mut child, || format!("{} to end", self.name))
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("the node runs").id()
    }

    /// Whether the process runs still.
    pub(crate) fn runs(&mut self) -> bool {
        let status =
            self.process.as_mut().map(|child| child.try_wait().expect("a child has a state"));
        matches!(status, Some(None))
    }

    /// Waits until the node answers reads, so that it is a member and its row can be reached.
    pub(crate) fn wait_ready(&self) {
        self.wait_ready_at_most(PATIENCE);
    }

    /// As [`Node::wait_ready`], with an own deadline.
    pub(crate) fn wait_ready_at_most(&self, patience: Duration) {
        let what = format!("{} to serve; it said: {}", self.name, self.said());
        wait_at_most(patience, &what, || {
            let mut client = Json::try_open(self.port)?;
            let reply = client.try_call(&json!({"cmd": "GET", "key": "is the node ready"}))?;
            let answered = reply["ok"] == true || reply["error"] == "Key not found";
            answered.then_some(())
        });
    }

    /// A newline-JSON connection.
    pub(crate) fn json(&self) -> Json {
        Json::open(self.port)
    }

    /// A RESP connection.
    pub(crate) fn resp(&self) -> Resp {
        Resp::open(self.port)
    }

    /// The answer to STATUS.
    pub(crate) fn status(&self) -> JsonValue {
        self.json().call(&json!({"cmd": "STATUS"}))
    }

    /// Everything that the process has printed in all its lives.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// HOST:PORT for the command line.
    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            // It may have ended by itself; either way it is gone after this.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- {} said:\n{}", self.name, self.said());
            if std::env::var_os("PEERAGE_KEEP").is_some() {
                let kept = self.folder.take().map(TempDir::keep);
                eprintln!("---- kept {kept:?}");
            }
        }
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(name).arg(child.id().to_string()).status();
    assert!(status.expect("kill can be run").success(), "kill {name} {}", child.id());
}

fn wait_exit(child: &mut Child, what: impl FnOnce() -> String) -> ExitStatus {
    let deadline = super::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child has a state") {
            return status;
        }
        if super::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("waited {PATIENCE:?} in vain for {}", what());
        }
        super::let_pass(Duration::from_millis(20));
    }
}
