//! `sim`: deterministic simulations of a whole cluster, on this machine and in no time.
//!
//! Threads, files and terminals are here; what is run is [`crate::sim`], which is pure.

mod strength;

use clap::{Args, Subcommand};

use super::failure::Failure;

/// Arguments of `sim`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage sim strength             in how many random seeds each planted bug is found")]
pub(crate) struct Sim {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Measure in how many random seeds planted bugs are found
    Strength(strength::Strength),
}

impl Sim {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Strength(command) => command.run(),
        }
    }
}
