//! `serve`: one node, from its settings to its end.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::failure::Failure;
use super::settings::Settings;
use crate::cluster::{Phase, View};
use crate::config::{Config, Durability};
use crate::server::{self, Node, NodeOptions, StartError};

/// Arguments of `serve`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Without seeds and with an empty directory the node is a new cluster of one. With seeds it joins
their cluster, or, where they are new too, is born with them as one cluster: in any order, and with
each node naming any other. On a restart all it needs is its directory.

Examples:
  peerage serve
  peerage serve --port 6379 --data-dir d1 --seed 127.0.0.1:7380
  peerage serve --port 6380 --data-dir d2 --seed 127.0.0.1:7381
  peerage serve --port 6381 --data-dir d3 --seed 127.0.0.1:7379   three that name one another
  peerage serve --config node.toml --port 6400                    flags win over the file

Flags win over PEERAGE_* variables, which win over the file, which wins over the defaults.
SIGTERM or Ctrl-C stops in order: what is in flight is finished, the log is synced. A second one
stops at once, which is as safe as the loss of power.
Exit code 1: it could not start or could not go on. 2: the settings are wrong.")]
pub(crate) struct Serve {
    #[command(flatten)]
    settings: Settings,
}

/// The two signals that ask a process to end.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Serve {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let config = self.settings.load()?;
        let options = NodeOptions {
            secret: super::secret::load(&config)?,
            tokens: super::token::load(&config)?.map(Arc::new),
            ..NodeOptions::default()
        };
        let runtime = runtime()?;
        runtime.block_on(async {
            // Before the node starts: a signal while the log is read must not be lost.
            let mut signals = StopSignals::new()?;
            let node = start(config.clone(), options).await?;
            say(&format!("{}\n", start_line(&node, &config)));
            let ended = watch_node(&node, &mut signals).await;
            if ended.is_ok() {
                say("stopping: what is in flight is finished; once more stops at once\n");
            }
            stop(node, &mut signals).await?;
            ended.inspect(|()| say("stopped\n"))
        })
    }
}

/// The runtime of the main thread: it waits for signals and changes, and nothing else.
pub(crate) fn runtime() -> Result<runtime::Runtime, Failure> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("the system gives no event queue: {error}")))
}

impl StopSignals {
    /// From now on these signals do not end the process by themselves.
    pub(crate) fn new() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind).map_err(|error| Failure::Failed(format!("cannot catch signals: {error}")))
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    /// The next of them.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Why a node did not start, with the exit code that it asks for.
pub(crate) fn start_failure(error: &StartError) -> Failure {
    let text = format!("the node did not start: {error}");
    if error.exit_code() == 2 { Failure::Usage(text) } else { Failure::Failed(text) }
}

async fn start(config: Config, options: NodeOptions) -> Result<Node, Failure> {
    let started = tokio::task::spawn_blocking(|| Node::start(config, options)).await;
    started.expect("starting a node does not panic").map_err(|error| start_failure(&error))
}

/// Tells what the node waits for and becomes, until it is to stop or has failed.
async fn watch_node(node: &Node, signals: &mut StopSignals) -> Result<(), Failure> {
    let (mut views, mut failures) = (node.views(), node.failures());
    let mut said = String::new();
    loop {
        let now = standing(&views.borrow_and_update());
        if now != said {
            say(&format!("{now}\n"));
            said = now;
        }
        if let Some(failure) = node.failed() {
            return Err(ended_by_itself(&failure));
        }
        tokio::select! {
            () = signals.next() => return Ok(()),
            // A node that has ended changes nothing any more; its failure says why.
            () = changed(&mut views) => {}
            () = changed(&mut failures) => {}
        }
    }
}

/// Returns when the value changes; never, once nobody can change it.
async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn stop(node: Node, signals: &mut StopSignals) -> Result<(), Failure> {
    let stopping = tokio::task::spawn_blocking(|| node.shutdown());
    tokio::select! {
        _ = stopping => Ok(()),
        () = signals.next() => {
            say("stopped at once, as asked for\n");
            std::process::exit(1)
        }
    }
}

fn ended_by_itself(failure: &server::Failure) -> Failure {
    if failure.exit_code == 2 {
        Failure::Usage(failure.text.clone())
    } else {
        Failure::Failed(failure.text.clone())
    }
}

fn start_line(node: &Node, config: &Config) -> String {
    let durability = match config.durability {
        Durability::Always => "always",
        Durability::Interval => "interval",
        Durability::Os => "os",
    };
    format!(
        "peerage {}: {} listens on {} for clients and on {} for nodes; data in {}; durability \
         {durability}",
        env!("CARGO_PKG_VERSION"),
        node.name(),
        node.client_addr(),
        node.cluster_addr(),
        config.data_dir.display(),
    )
}

/// Where a node stands in its life, in one line.
pub(crate) fn standing(view: &Arc<View>) -> String {
    match (&view.phase, &view.layout) {
        (Phase::Unborn(waits), _) => format!("waiting: {waits}"),
        (Phase::Refused(why), _) => format!("refused: {why}"),
        (Phase::Member, None) => String::from("member, without a layout yet"),
        (Phase::Member, Some(layout)) => {
            let owned = layout.table.iter().filter(|row| row.contains(&view.me)).count();
            let note = if owned == 0 {
                "; it joined after the birth and owns no partitions, but answers for every key"
            } else {
                ""
            };
            format!(
                "ready: member of a cluster of {}, layout {}, {owned} of {} partitions{note}",
                layout.roles.len(),
                layout.epoch,
                layout.table.len()
            )
        }
    }
}

/// One line for whoever started the process. Nobody may be listening any more, which is fine.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}
