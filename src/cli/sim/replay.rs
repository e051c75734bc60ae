//! `sim replay`: a run is a history that happens again, and here is the proof or the difference.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::failure::Failure;
use super::run::print;
use super::source::{self, SourceFlags};
use super::verdict;
use crate::sim::{Lane, Outcome, TraceEvent};

/// Arguments of `sim replay`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Runs a scenario twice and compares the runs event by event. The hash stands for all events of a run:
it is the same in every process, build and machine that runs the same code.

Examples:
  peerage sim replay --seed 17
  peerage sim replay simulations/bridge_partition.toml
  peerage sim replay --seed 17 --expect-hash 0f3a...   as it was elsewhere
  peerage sim replay --seed 17 --events here.txt       every event, to compare with elsewhere")]
pub(super) struct Replay {
    #[command(flatten)]
    source: SourceFlags,
    /// Run with this seed [default: that of the file, else 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The hash that the run had before, in hexadecimal
    #[arg(long, value_name = "HASH")]
    expect_hash: Option<String>,
    /// Write every event of the run, one a line
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
}

impl Replay {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let expected = self.expect_hash.as_deref().map(parse_hash).transpose()?;
        let source = self.source.read()?;
        let scenario = source.scenario(self.seed);
        let run = || {
            source::attempt(scenario.clone(), true)
                .map_err(|panic| Failure::Failed(format!("the core panicked: {panic}")))
        };
        let (one, other) = (run()?, run()?);
        if let Some(at) = one.trace.first_difference(&other.trace) {
            return Err(Failure::Failed(difference(&one, &other, at)));
        }
        if let Some(path) = &self.events {
            write_events(path, &one)?;
        }
        let hash = one.trace.hash();
        print(&format!("{}twice the same: {hash:032x}\n", verdict::text(&source, &one)))?;
        match expected {
            Some(expected) if expected != hash => Err(Failure::Failed(format!(
                "the hash should be {expected:032x}: the code or the scenario has changed since"
            ))),
            Some(_) | None if one.violations.is_empty() => Ok(()),
            Some(_) | None => Err(verdict::broken()),
        }
    }
}

fn parse_hash(text: &str) -> Result<u128, Failure> {
    u128::from_str_radix(text, 16).map_err(|error| {
        Failure::Usage(format!("{text} is no hash of up to 32 hexadecimal digits: {error}"))
    })
}

fn write_events(path: &Path, outcome: &Outcome) -> Result<(), Failure> {
    let lines = outcome.trace.events().iter().flat_map(|event| [line(event), String::from("\n")]);
    std::fs::write(path, lines.collect::<String>())
        .map_err(|error| Failure::Usage(format!("{} cannot be written: {error}", path.display())))
}

/// An event, in one line.
fn line(event: &TraceEvent) -> String {
    let lane = match event.lane {
        Lane::Node(place) => format!(" n{}", place + 1),
        Lane::Client(index) => format!(" client {index}"),
        Lane::World => String::new(),
    };
    format!("{} us{lane} {}: {}", event.at_us, event.kind, event.text.escape_debug())
}

/// Where two runs part, with what happened there in each.
fn difference(one: &Outcome, other: &Outcome, at: u64) -> String {
    let event = |outcome: &Outcome| {
        let index = usize::try_from(at).expect("a trace fits memory");
        outcome.trace.events().get(index).map_or_else(|| String::from("its end"), line)
    };
    format!(
        "two runs of one scenario differ, first in event {at}: a bug of the simulator or of the \
         core\n  first run   {}\n  second run  {}",
        event(one),
        event(other)
    )
}
