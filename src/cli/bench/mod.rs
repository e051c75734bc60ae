//! `bench`: how fast, and how durable, on the machine that it is run on.
//!
//! Figures are told with what they rest on: the machine, the durability mode, how many nodes and
//! shards. Where the generator shares the processors with the nodes, as on one machine it does, the
//! figure to compare is what an operation costs the nodes, not how many there were in a second.

mod durability;
mod fate;
mod machine;
mod nodes;
mod throughput;

use clap::{Args, Subcommand};
use tokio::time::Duration;

use super::failure::Failure;
use super::serve::{self, StopSignals};

/// Arguments of `bench`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage bench throughput                            a node of its own, five sizes, all operations
  peerage bench throughput --nodes 3 --sizes 100000 --operations set --clients 16
  peerage bench throughput --addr 127.0.0.1:6379      nodes that run already
  peerage bench durability                            three nodes, five rounds of kill -9 under load
  peerage bench durability --rounds 50 --output json

docs/benchmarks.md says how it is measured.")]
pub(crate) struct Bench {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand, Debug)]
enum BenchCommand {
    /// Measure operations a second, latencies, and what an operation costs the nodes
    Throughput(throughput::Throughput),
    /// Kill nodes under load, and look for every write that was acknowledged
    Durability(durability::Durability),
}

/// How often progress is shown and states are looked at.
const TICK: Duration = Duration::from_millis(200);

impl Bench {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let runtime = serve::runtime()?;
        runtime.block_on(async {
            // Nodes and directories are given back also when the user stops it all.
            let mut signals = StopSignals::new()?;
            let bench = async {
                match &self.command {
                    BenchCommand::Throughput(command) => command.run().await,
                    BenchCommand::Durability(command) => command.run().await,
                }
            };
            tokio::select! {
                done = bench => done,
                () = signals.next() => Err(Failure::Failed(String::from("stopped as asked for"))),
            }
        })
    }
}
