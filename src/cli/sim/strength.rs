//! `sim strength`: in how many random seeds each planted bug is found, and by what.
//!
//! Each bug runs its seeds in order, a few at a time; several bugs run side by side. What is done
//! is in the state file, so a measurement that was interrupted goes on where it stood.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::cli::failure::Failure;
use crate::cli::output::{Cell, Format, Printer};
use crate::planted::{AVAILABLE, Bug};
use crate::sim::strength::{self, Measured};

/// Seeds of a bug that are run before what they showed is saved.
const SEEDS_AT_ONCE: u64 = 5;
/// How to get a build that can do it.
const HOW_TO_BUILD: &str = "\
this build has no planted bugs, so it has nothing to measure; nothing was run. Build one that has:
  cargo run --release --features planted-bugs -- sim strength";

/// Arguments of `sim strength`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  peerage sim strength
  peerage sim strength --bug torn-fill --bug ack-before-sync --seeds 200
  peerage sim strength --state strength.json -o json    goes on where it was interrupted

Needs a build with planted bugs: cargo run --release --features planted-bugs -- sim strength
Exit codes: 0 every bug was found, 1 some were not, 2 this build or the command line is wrong.")]
pub(crate) struct Strength {
    /// Random seeds for each bug, from 1 on
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Leave a bug alone once it was found in so many seeds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    enough: u64,
    /// Only this bug; may be repeated
    #[arg(long = "bug", value_name = "NAME", value_parser = bug)]
    bugs: Vec<Bug>,
    /// Threads; the number of cores if not given
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// File that keeps what is done
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How the result is written
    #[arg(short, long, value_enum)]
    output: Option<Format>,
}

/// What a state file holds.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// What the seeds draw; a file of another mix would add up what does not belong together.
    mix: String,
    bugs: BTreeMap<String, Measured>,
}

/// What the threads share.
#[derive(Debug)]
struct Work<'a> {
    command: &'a Strength,
    state: State,
    busy: BTreeSet<Bug>,
    /// Why the state could not be saved.
    failed: Option<io::Error>,
}

impl Strength {
    pub(crate) fn run(self) -> Result<(), Failure> {
        if !AVAILABLE {
            return Err(Failure::Usage(String::from(HOW_TO_BUILD)));
        }
        let state = match &self.state {
            Some(path) => load(path)?,
            None => State::new(),
        };
        let work = Work { command: &self, state, busy: BTreeSet::new(), failed: None };
        let work = Mutex::new(work);
        // A planted bug may run into an assertion, which is one way of being found.
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        std::thread::scope(|scope| {
            for _ in 0..self.threads() {
                scope.spawn(|| measure(&work));
            }
        });
        std::panic::set_hook(usual);
        let work = work.into_inner().expect("no thread panics while it shares its work");
        if let Some(error) = work.failed {
            return Err(Failure::Failed(format!(
                "cannot save what was measured: {error}; what the state file held is unharmed"
            )));
        }
        self.print(&work.state)
    }

    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.jobs.map_or_else(cores, usize::from)
    }

    fn bugs(&self) -> &[Bug] {
        if self.bugs.is_empty() { Bug::ALL } else { &self.bugs }
    }

    fn print(&self, state: &State) -> Result<(), Failure> {
        let format = self.output.unwrap_or_else(Format::default_for_stdout);
        let columns = &["bug", "first_seed", "found", "of", "finder"];
        let mut printer = Printer::new(format, columns, io::stdout().lock());
        let mut missed = Vec::new();
        for &bug in self.bugs() {
            let measured = state.of(bug);
            printer
                .row(&[
                    Cell::Text(String::from(bug.name())),
                    measured.first.map_or(Cell::Nothing, Cell::Number),
                    Cell::Number(measured.found),
                    Cell::Number(measured.tried),
                    measured.finder().map_or(Cell::Nothing, |name| Cell::Text(name.into())),
                ])
                .map_err(Failure::output)?;
            if measured.found == 0 {
                missed.push(bug.name());
            }
        }
        printer.end().map_err(Failure::output)?;
        if missed.is_empty() {
            return Ok(());
        }
        let text = format!("not found in {} seeds: {}", self.seeds, missed.join(", "));
        Err(Failure::Failed(text))
    }
}

/// One thread: takes a bug that nobody works on, runs a few of its seeds, and puts it back.
fn measure(work: &Mutex<Work<'_>>) {
    let lock = || work.lock().expect("no thread panics while it shares its work");
    loop {
        let Some((bug, so_far, end, enough)) = lock().take() else { return };
        let seeds = so_far.tried + 1..end;
        let more = strength::measure(bug, seeds, enough - so_far.found);
        lock().put_back(bug, &more);
    }
}

impl Work<'_> {
    /// A bug to go on with: what is known of it, where its next seeds end, and how often it must
    /// be found.
    fn take(&mut self) -> Option<(Bug, Measured, u64, u64)> {
        let Strength { seeds, enough, .. } = *self.command;
        let open = |bug: &&Bug| {
            let measured = self.state.of(**bug);
            measured.tried < seeds && measured.found < enough && !self.busy.contains(bug)
        };
        let next = self.command.bugs().iter().filter(open);
        let bug = *next.min_by_key(|bug| self.state.of(**bug).tried)?;
        if self.failed.is_some() {
            return None;
        }
        self.busy.insert(bug);
        let measured = self.state.of(bug);
        let end = (measured.tried + SEEDS_AT_ONCE).min(seeds) + 1;
        Some((bug, measured, end, enough))
    }

    fn put_back(&mut self, bug: Bug, more: &Measured) {
        self.busy.remove(&bug);
        let measured = self.state.bugs.entry(String::from(bug.name())).or_default();
        measured.join(more);
        eprintln!("{}: found in {} of {}", bug.name(), measured.found, measured.tried);
        if let Some(path) = &self.command.state
            && let Err(error) = save(path, &self.state)
        {
            self.failed = Some(error);
        }
    }
}

impl State {
    fn new() -> Self {
        Self { mix: strength::mix(), bugs: BTreeMap::new() }
    }

    fn of(&self, bug: Bug) -> Measured {
        self.bugs.get(bug.name()).cloned().unwrap_or_default()
    }
}

/// What a state file holds; nothing if there is none.
fn load(path: &Path) -> Result<State, Failure> {
    let wrong = |why: String| {
        let text = format!("{}: {why}; name another file, or remove it", path.display());
        Failure::Usage(text)
    };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::new()),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let state: State = serde_json::from_slice(&bytes)
        .map_err(|error| wrong(format!("is no state of this command: {error}")))?;
    if state.mix == strength::mix() {
        Ok(state)
    } else {
        Err(wrong(String::from("was measured with another mix of faults")))
    }
}

/// Writes the state beside the file and puts it in its place, so that no crash leaves half of it.
fn save(path: &Path, state: &State) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, serde_json::to_vec_pretty(state)?)?;
    fs::rename(&beside, path)
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("no such bug; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(path: &Path) -> Strength {
        Strength {
            seeds: 12,
            enough: 3,
            bugs: vec![Bug::TornFill, Bug::AckBeforeSync],
            jobs: Some(1),
            state: Some(path.to_owned()),
            output: None,
        }
    }

    fn measured(tried: u64, found: u64) -> Measured {
        Measured { tried, found, first: None, broken: BTreeMap::new() }
    }

    #[test]
    fn what_was_interrupted_goes_on_where_it_stood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let command = command(&path);
        let begin = |state| Work { command: &command, state, busy: BTreeSet::new(), failed: None };
        let mut work = begin(load(&path).unwrap());
        let (bug, _, end, _) = work.take().unwrap();
        assert_eq!((bug, end), (Bug::TornFill, 6));
        work.put_back(bug, &measured(5, 1));
        let mut work = begin(load(&path).unwrap());
        // The one with the fewest seeds comes first, and nobody else gets it meanwhile.
        assert_eq!(work.take().unwrap().0, Bug::AckBeforeSync);
        let (bug, so_far, end, enough) = work.take().unwrap();
        assert_eq!((bug, so_far.tried, end, enough), (Bug::TornFill, 5, 11, 3));
        assert!(work.take().is_none());
        work.put_back(Bug::TornFill, &measured(4, 2));
        work.put_back(Bug::AckBeforeSync, &measured(12, 0));
        assert!(work.take().is_none(), "one was found often enough, the other has had its seeds");
    }

    #[test]
    fn a_state_of_another_mix_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        save(&path, &State { mix: String::from("old"), bugs: BTreeMap::new() }).unwrap();
        let Err(Failure::Usage(text)) = load(&path) else { panic!("it does not belong here") };
        assert!(text.contains("another mix"), "{text}");
        fs::write(&path, b"{").unwrap();
        assert!(matches!(load(&path), Err(Failure::Usage(_))));
    }

    #[test]
    fn an_unknown_bug_is_refused_with_the_names_of_all() {
        assert_eq!(bug("torn-fill"), Ok(Bug::TornFill));
        assert!(bug("torn").unwrap_err().contains("torn-fill"));
    }
}
