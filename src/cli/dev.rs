//! `dev`: a whole cluster in one process, and a prompt to break and heal it.

mod cluster;
mod prompt;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use clap::Args;

use super::failure::Failure;
use super::serve::{self, StopSignals};
use cluster::Cluster;

/// Arguments of `dev`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Starts the nodes with seeds in a ring, waits until every one of them answers, prints their addresses
and reads commands; `help` lists them. Where stdin is not a terminal its lines are run as commands,
and at their end the cluster is stopped, unless --keep is given.

Examples:
  peerage dev
  peerage dev --nodes 3 --port 7001 --data-dir here     the data stays for the next time
  printf 'set k v\\nkill 2\\n@3 get k\\n' | peerage dev   a script; the exit code is 0 at its end
  peerage dev --keep < /dev/null                         without a prompt, until SIGTERM

Any client can use the cluster meanwhile: redis-cli -p 6379 set k v")]
pub(crate) struct Dev {
    /// Number of nodes
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Port for clients of the first node, the others follow; 1000 more are the ports for nodes. 0
    /// takes free ones
    #[arg(long, default_value_t = 6379)]
    port: u16,
    /// Where the nodes keep their data [default: a new directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Shard threads of each node
    #[arg(long, value_name = "S", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// Keep the cluster running when stdin ends
    #[arg(long)]
    keep: bool,
}

impl Dev {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let runtime = serve::runtime()?;
        // Caught from here on, so that the directory is removed and the nodes stop in order.
        let mut signals = runtime.block_on(async { StopSignals::new() })?;
        let mut cluster = Cluster::new(self)?;
        cluster.start()?;
        cluster.wait_until_ready(&runtime, None)?;
        prompt::print(&cluster.greeting())?;
        let cluster = Arc::new(Mutex::new(cluster));
        let (ended, mut end) = tokio::sync::oneshot::channel();
        let reader = Arc::clone(&cluster);
        let keep = self.keep && !io::stdin().is_terminal();
        std::thread::spawn(move || {
            let result = prompt::run(&reader);
            // The main thread may be stopping already.
            let _ = ended.send(result);
        });
        let result = runtime.block_on(async {
            tokio::select! {
                () = signals.next() => return Ok(()),
                result = &mut end => match result {
                    Ok(Ok(prompt::Ended::Quit)) => return Ok(()),
                    Ok(Ok(prompt::Ended::EndOfInput)) if !keep => return Ok(()),
                    Ok(Ok(prompt::Ended::EndOfInput)) => {}
                    Ok(Err(failure)) => return Err(failure),
                    Err(_closed) => return Err(Failure::Failed("the prompt panicked".into())),
                },
            }
            signals.next().await;
            Ok(())
        });
        cluster.lock().expect("no command panics").shutdown();
        result
    }
}
