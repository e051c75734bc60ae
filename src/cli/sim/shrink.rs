//! `sim shrink`: from a run that fails to the smallest story that fails alike, as a file.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;
use indicatif::HumanCount;

use super::super::failure::Failure;
use super::super::progress::Progress;
use super::many;
use super::run::print;
use super::source::{self, SourceFlags};
use crate::sim::{self, Scenario, Shrunk};

/// Where scenarios are kept that were found by chance.
const REGRESSIONS: &str = "simulations/regressions";

/// Arguments of `sim shrink`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Writes down everything that a failing run drew, and leaves out faults, operations, clients, keys and
nodes as long as the same promise is broken. What is left is a scenario in TOML, to be read, run and
kept.

Examples:
  peerage sim shrink --seed 17                    into simulations/regressions/
  peerage sim shrink --seed 17 --to small.toml
  peerage sim shrink cable.toml --seed 4 --to small.toml

Ctrl-C ends with the smallest that was found until then. Exit codes: 0 everything held, so there is
nothing to make smaller; 1 a promise is broken, and the file was written; 2 nothing could be run.")]
pub(super) struct Shrink {
    #[command(flatten)]
    source: SourceFlags,
    /// Run with this seed [default: that of the file, else 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the small scenario goes [default: simulations/regressions/NAME.toml]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Shrink {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let source = self.source.read()?;
        let scenario = source.scenario(self.seed);
        let seed = scenario.options.seed;
        let Some(shrunk) = smaller(scenario.clone())? else {
            return print(&format!(
                "held: {}, seed {seed}: there is nothing to make smaller\n",
                scenario.name
            ));
        };
        let path = self.to.clone().unwrap_or_else(|| default_path(&scenario.name));
        write(&path, &heading(&source.command("run", seed), &shrunk))?;
        let (left, file) = (shrunk.progress, path.display());
        print(&format!(
            "VIOLATED: {}\n  {} faults, {} operations and {} nodes are left, after {} runs\n  \
             written to {file}\n  again: peerage sim run {file}\n",
            shrunk.violation,
            left.faults,
            left.operations,
            left.nodes,
            HumanCount(left.runs),
        ))?;
        Err(Failure::Failed(String::from("a promise was broken; the file shows how")))
    }
}

/// The smallest scenario that fails alike. `None` = it does not fail.
fn smaller(scenario: Scenario) -> Result<Option<Shrunk>, Failure> {
    let stop = many::stop_flag("peerage: stopping with what was found until now")?;
    let progress = Progress::of("sim", "runs", None);
    let mut runs = 0;
    let search = || {
        sim::shrink(scenario, &mut |now| {
            let left = format!(
                "{} faults, {} operations, {} nodes",
                now.faults, now.operations, now.nodes
            );
            progress.stand(left);
            progress.advance(now.runs - runs, now.runs - runs);
            runs = now.runs;
            !stop.load(Ordering::Relaxed)
        })
    };
    let shrunk = catch_unwind(AssertUnwindSafe(search)).map_err(|panic| {
        Failure::Failed(format!(
            "the core panicked, and such runs are not made smaller: {}",
            source::panic_text(panic.as_ref())
        ))
    });
    progress.finish();
    shrunk
}

/// The file: where it comes from and what it breaks, then the scenario.
fn heading(command: &str, shrunk: &Shrunk) -> String {
    let mut text = format!("# Made smaller from: {command}\n# Broke: ");
    let mut columns = 9;
    for word in shrunk.violation.to_string().split_whitespace() {
        if columns + word.chars().count() >= 100 {
            text.push_str("\n#  ");
            columns = 3;
        }
        columns += word.chars().count() + 1;
        write!(text, "{word} ").expect("a string takes any text");
    }
    format!("{}\n{}", text.trim_end(), shrunk.scenario.to_toml())
}

/// A name for a file: the letters and digits of the scenario's.
fn default_path(name: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = name.chars().map(plain).collect();
    PathBuf::from(REGRESSIONS).join(format!("{}.toml", name.trim_matches('_')))
}

fn write(path: &PathBuf, text: &str) -> Result<(), Failure> {
    let cannot = |error| Failure::Usage(format!("cannot write {}: {error}", path.display()));
    if let Some(folder) = path.parent().filter(|folder| folder.starts_with(REGRESSIONS)) {
        std::fs::create_dir_all(folder).map_err(cannot)?;
    }
    std::fs::write(path, text).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_its_scenario() {
        let path = default_path("Random seed 17 (n1's disk)");
        assert_eq!(path.to_str(), Some("simulations/regressions/random_seed_17__n1_s_disk.toml"));
    }
}
