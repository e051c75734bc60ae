//! What is run: a file or a random scenario, with which seed, and with which mistake planted.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::failure::Failure;
use crate::planted::{self, Bug};
use crate::sim::{self, Outcome, Scenario};

/// Flags that say what is run.
#[derive(Args, Debug)]
pub(super) struct SourceFlags {
    /// A scenario in TOML [default: a random one, from its seed]
    file: Option<PathBuf>,
    /// Plant this mistake in the code, to see whether it is found; `sim list-faults` names them
    #[arg(long, value_name = "NAME")]
    planted: Option<String>,
}

/// What is run, once it was read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The words of the command line that name it, with a leading blank.
    words: String,
    scenario: Option<Scenario>,
    planted: Option<Bug>,
}

/// A run that came to its end, or the panic that ended it.
pub(super) type Ending = Result<Box<Outcome>, String>;

impl SourceFlags {
    /// Reads the file, where there is one.
    pub(super) fn read(&self) -> Result<Source, Failure> {
        let planted = self.planted.as_deref().map(planted_bug).transpose()?;
        let scenario = self.file.as_deref().map(load).transpose()?;
        let mut words = String::new();
        if let Some(file) = &self.file {
            words = format!(" {}", file.display());
        }
        if let Some(bug) = planted {
            words = format!("{words} --planted {}", bug.name());
        }
        Ok(Source { words, scenario, planted })
    }

    /// Whether a file is named.
    pub(super) fn has_file(&self) -> bool {
        self.file.is_some()
    }
}

impl Source {
    /// The scenario with this seed; without one, with the seed of the file.
    pub(super) fn scenario(&self, seed: Option<u64>) -> Scenario {
        let mut scenario = match (&self.scenario, seed) {
            (Some(scenario), None) => scenario.clone(),
            (Some(scenario), Some(seed)) => {
                let mut scenario = scenario.clone();
                scenario.options.seed = seed;
                scenario
            }
            (None, seed) => Scenario::random(seed.unwrap_or(1)),
        };
        if self.planted.is_some() {
            scenario.options.planted = self.planted;
        }
        scenario
    }

    /// The command that does it again with this seed.
    pub(super) fn command(&self, name: &str, seed: u64) -> String {
        format!("peerage sim {name}{} --seed {seed}", self.words)
    }
}

/// Runs a scenario. A panic of the core is an assertion that did not hold, and ends one run only.
pub(super) fn attempt(scenario: Scenario, keep_trace: bool) -> Ending {
    let run = AssertUnwindSafe(|| sim::run(scenario, keep_trace));
    catch_unwind(run).map(Box::new).map_err(|panic| panic_text(panic.as_ref()))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    String::from(text.unwrap_or("it panicked without a text"))
}

/// Reads a scenario, or tells everything that is wrong with the file.
pub(super) fn load(path: &Path) -> Result<Scenario, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
    let scenario = Scenario::from_toml(&text).map_err(|complaints| {
        let lines: Vec<String> =
            complaints.iter().map(|complaint| format!("{name}:{complaint}")).collect();
        Failure::Usage(format!("{}\n  nothing was run", lines.join("\n")))
    })?;
    if let Some(bug) = scenario.options.planted {
        available(bug)?;
    }
    Ok(scenario)
}

fn planted_bug(name: &str) -> Result<Bug, Failure> {
    let bug = Bug::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        Failure::Usage(format!("no mistake is called {name}; there are {}", names.join(", ")))
    })?;
    available(bug)
}

/// Only a build of its own can plant anything: the one that serves has no such lines.
fn available(bug: Bug) -> Result<Bug, Failure> {
    if planted::AVAILABLE {
        return Ok(bug);
    }
    Err(Failure::Usage(format!(
        "this build cannot plant {}; build one that can with\n  \
         cargo build --release --features planted-bugs",
        bug.name()
    )))
}
