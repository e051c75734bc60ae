//! `sim`: whole clusters in virtual time, from files that tell a story or from seeds.
//!
//! Everything that a run decides is decided in [`crate::sim`]; here are the files, the threads and
//! the words. Exit codes: 0 every promise held, 1 one was broken, 2 nothing could be run.

mod faults;
mod many;
mod replay;
mod run;
mod shrink;
mod source;
mod strength;
mod summary;
mod verdict;

use clap::{Args, Subcommand};

use super::failure::Failure;

/// Arguments of `sim`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
A simulation runs the code of production in a world where time, network, disks and crashes come from
one seed. A run that fails fails again, event by event, wherever and however often it is run.

Examples:
  peerage sim run --seeds 200                         two hundred random runs
  peerage sim run --seed 17                           one of them, with its verdict in words
  peerage sim run simulations/power_loss_of_all.toml  a scenario that somebody wrote
  peerage sim shrink --seed 17                        the smallest story that fails alike
  peerage sim replay --seed 17                        twice, compared event by event
  peerage sim list-faults                             what can go wrong
  peerage sim strength                                in how many seeds planted bugs are found

docs/simulations.md describes the files. Exit codes: 0 every promise held, 1 one was broken, 2
nothing could be run.")]
pub(crate) struct Sim {
    #[command(subcommand)]
    command: SimCommand,
}

#[derive(Subcommand, Debug)]
enum SimCommand {
    /// Run a scenario, or random ones, and say whether every promise held
    Run(Box<run::Run>),
    /// Run a scenario twice and compare the runs event by event
    Replay(replay::Replay),
    /// Make a failing run as small as it can be, and write it to a file
    Shrink(shrink::Shrink),
    /// List what can go wrong in a scenario
    ListFaults(faults::ListFaults),
    /// Measure in how many random seeds planted bugs are found
    Strength(strength::Strength),
}

impl Sim {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            SimCommand::Run(command) => command.run(),
            SimCommand::Replay(command) => command.run(),
            SimCommand::Shrink(command) => command.run(),
            SimCommand::ListFaults(command) => command.run(),
            SimCommand::Strength(command) => command.run(),
        }
    }
}
