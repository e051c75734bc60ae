//! What one run came to, in words and as JSON, with the command that does it again.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use indicatif::HumanCount;
use serde_json::json;

use super::super::failure::Failure;
use super::source::Source;
use crate::sim::{Outcome, Scenario, report};

/// Violations that are shown; the first ones tell, the others follow from them.
const SHOWN_MAX: usize = 5;

/// What writes a run, given the command that runs it again.
type Report = fn(&Outcome, &str) -> String;

/// Files that show one run.
#[derive(Args, Debug)]
pub(super) struct Reports {
    /// Write the run as one self-contained HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every event of the run as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the messages of the run for the `ShiViz` viewer
    #[arg(long, value_name = "FILE")]
    shiviz: Option<PathBuf>,
}

impl Reports {
    /// Whether any is wanted, so that the run must keep its events.
    pub(super) fn are_wanted(&self) -> bool {
        self.html.is_some() || self.json.is_some() || self.shiviz.is_some()
    }

    /// Writes what is wanted of a run that kept its trace.
    pub(super) fn write(&self, outcome: &Outcome, replay: &str) -> Result<(), Failure> {
        let reports: [(&Option<PathBuf>, Report); 3] = [
            (&self.html, report::html),
            (&self.json, report::json),
            (&self.shiviz, report::shiviz),
        ];
        for (path, report) in reports {
            let Some(path) = path else { continue };
            std::fs::write(path, report(outcome, replay)).map_err(|error| {
                Failure::Usage(format!("cannot write {}: {error}", path.display()))
            })?;
        }
        Ok(())
    }
}

/// The verdict for people; of a run that broke a promise and kept its trace, with the timeline.
pub(super) fn text(source: &Source, outcome: &Outcome) -> String {
    let seed = outcome.scenario.options.seed;
    let mut text = headline(&outcome.scenario, outcome.violations.is_empty());
    let recorded = Scenario { steps: outcome.recorded.clone(), ..outcome.scenario.clone() };
    writeln!(
        text,
        "  {} nodes, {} virtual s, {} events; {} faults, {} operations, {} writes acknowledged",
        outcome.scenario.options.nodes,
        outcome.ended_us / 1_000_000,
        HumanCount(outcome.tally.events),
        HumanCount(recorded.faults() as u64),
        HumanCount(recorded.operations() as u64),
        HumanCount(outcome.acknowledged as u64),
    )
    .expect("a string takes any text");
    for violation in outcome.violations.iter().take(SHOWN_MAX) {
        writeln!(text, "  {violation}").expect("a string takes any text");
    }
    if outcome.violations.len() > SHOWN_MAX {
        writeln!(text, "  and {} more", outcome.violations.len() - SHOWN_MAX)
            .expect("a string takes any text");
    }
    if !outcome.violations.is_empty() {
        let timeline = report::timeline(outcome, &source.command("run", seed));
        write!(text, "{}\n{timeline}", again(source, seed)).expect("a string takes any text");
    }
    text
}

/// The verdict for programs.
pub(super) fn json(outcome: &Outcome) -> String {
    let violations: Vec<_> = outcome
        .violations
        .iter()
        .map(|violation| {
            let key = String::from_utf8_lossy(&violation.key.bytes);
            json!({ "invariant": violation.invariant, "key": key, "text": violation.text })
        })
        .collect();
    let object = json!({
        "name": outcome.scenario.name,
        "seed": outcome.scenario.options.seed,
        "held": violations.is_empty(),
        "violations": violations,
        "hash": format!("{:032x}", outcome.trace.hash()),
        "events": outcome.tally.events,
        "virtual_us": outcome.ended_us,
        "operations": outcome.tally.operations,
        "acknowledged_writes": outcome.acknowledged,
        "contended_keys": outcome.contended,
    });
    format!("{object}\n")
}

/// What is said of a run whose core panicked.
pub(super) fn panicked(source: &Source, name: &str, seed: u64, panic: &str) -> String {
    format!("VIOLATED: {name}, seed {seed}\n  the core panicked: {panic}\n{}", again(source, seed))
}

/// How a command ends that found something.
pub(super) fn broken() -> Failure {
    Failure::Failed(String::from("a promise was broken; the run above shows how"))
}

/// The commands for the one who wants to know more.
pub(super) fn again(source: &Source, seed: u64) -> String {
    let (run, shrink) = (source.command("run", seed), source.command("shrink", seed));
    format!("  again:   {run}\n  smaller: {shrink}\n")
}

fn headline(scenario: &Scenario, held: bool) -> String {
    let word = if held { "held" } else { "VIOLATED" };
    let seed = scenario.options.seed;
    // The name of a random scenario is that of its seed.
    if scenario.name.ends_with(&format!("seed {seed}")) {
        format!("{word}: {}\n", scenario.name)
    } else {
        format!("{word}: {}, seed {seed}\n", scenario.name)
    }
}
