//! `sim run`: one scenario with its verdict, or many seeds with a summary.

use std::io::{self, Write};
use std::ops::Range;

use clap::{Args, ValueEnum};

use super::super::failure::Failure;
use super::source::{self, Source, SourceFlags};
use super::{many, verdict};

/// Seeds of a run that names none.
const SEEDS_DEFAULT: u64 = 100;

/// Arguments of `sim run`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Without a file the scenarios are random: five nodes for 30 virtual seconds, clients that compete for
a few keys, and whichever faults the seed draws. A file tells a story of its own
(docs/simulations.md). The promises of the store are checked in every run.

Examples:
  peerage sim run --seeds 2000 --jobs 2     seeds 1 to 2,000 with a summary
  peerage sim run --seeds 50 --from 1000    seeds 1,000 to 1,049
  peerage sim run --seed 17                 one seed, with its verdict in words
  peerage sim run cable.toml                the story of a file
  peerage sim run cable.toml --seeds 100    the same story with a hundred chances
  peerage sim run --seeds 200 --hashes      `SEED HASH` lines, to compare builds and machines
  peerage sim run --seeds 200 -o json       the summary as JSON

Ctrl-C ends after the seeds that are under way, with the summary of what ran.")]
pub(super) struct Run {
    #[command(flatten)]
    source: SourceFlags,
    /// Run this seed only
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Run so many seeds [default: 100, or once where a file is given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first of the seeds
    #[arg(long, value_name = "N", default_value_t = 1, requires = "seeds")]
    from: u64,
    /// Threads that run seeds; the results are the same for any number [default: one a core]
    #[arg(long, value_name = "J", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Print `SEED HASH` of each run on stdout, and everything else on stderr
    #[arg(long)]
    hashes: bool,
    /// How the result is written
    #[arg(long, short, value_enum, default_value_t = Shape::Text)]
    output: Shape,
    #[command(flatten)]
    reports: verdict::Reports,
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// Words for people
    Text,
    /// One JSON object
    Json,
}

impl Run {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let source = self.source.read()?;
        let is_one = self.seed.is_some() || (self.source.has_file() && self.seeds.is_none());
        if is_one {
            return self.run_one(&source);
        }
        if self.reports.are_wanted() {
            let text = "a report shows one run: name its --seed instead of --seeds";
            return Err(Failure::Usage(String::from(text)));
        }
        let jobs = self.jobs.map_or_else(many::cores, usize::from);
        let summary = many::run(&source, self.range()?, jobs, self.hashes)?;
        let text = match self.output {
            Shape::Text => summary.text(&source),
            Shape::Json => summary.json(),
        };
        if self.hashes {
            eprint!("{text}");
        } else {
            print(&text)?;
        }
        summary.failure()
    }

    fn range(&self) -> Result<Range<u64>, Failure> {
        let count = self.seeds.unwrap_or(SEEDS_DEFAULT);
        let end = self.from.checked_add(count);
        let end =
            end.ok_or_else(|| Failure::Usage(String::from("seeds are numbers of 64 bits")))?;
        Ok(self.from..end)
    }

    fn run_one(&self, source: &Source) -> Result<(), Failure> {
        let scenario = source.scenario(self.seed);
        let (name, seed) = (scenario.name.clone(), scenario.options.seed);
        let outcome = match source::attempt(scenario.clone(), self.reports.are_wanted()) {
            Ok(outcome) => outcome,
            Err(panic) => {
                print(&verdict::panicked(source, &name, seed, &panic))?;
                return Err(verdict::broken());
            }
        };
        // The same run once more, for the one who asks why.
        let keeps = self.reports.are_wanted() || outcome.violations.is_empty();
        let outcome = if keeps { Ok(outcome) } else { source::attempt(scenario, true) };
        let outcome = outcome.map_err(|panic| {
            Failure::Failed(format!("a run that ended before panicked when it was kept: {panic}"))
        })?;
        self.reports.write(&outcome, &source.command("run", seed))?;
        if self.hashes {
            print(&format!("{seed} {:032x}\n", outcome.trace.hash()))?;
            eprint!("{}", verdict::text(source, &outcome));
        } else {
            print(&match self.output {
                Shape::Text => verdict::text(source, &outcome),
                Shape::Json => verdict::json(&outcome),
            })?;
        }
        if outcome.violations.is_empty() { Ok(()) } else { Err(verdict::broken()) }
    }
}

/// Writes to stdout.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(Failure::output)
}
