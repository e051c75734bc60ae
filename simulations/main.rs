//! Runs every story of this directory, then random scenarios from fixed seeds, over the very code
//! that serves in production.
//!
//! `PEERAGE_SEEDS=random` draws new seeds and prints them; `PEERAGE_SEEDS=17` or `5..90` runs
//! those. A failing seed is printed first and last, with the command that runs it again.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use peerage::marks::Marks;
use peerage::sim::{self, Expectation, Options, Outcome, Scenario};

/// Seeds of a usual run: less than a minute, with optimisation or without.
const SEEDS: std::ops::Range<u64> = if cfg!(debug_assertions) { 1..7 } else { 1..101 };

#[test]
fn every_story_ends_as_it_is_told_and_not_otherwise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations");
    let told = files(&root);
    assert!(told.len() >= 12, "{told:?}");
    for path in told {
        // A story that would hold with another end too would prove nothing.
        let mut scenario = read(&path);
        let others: Vec<Expectation> = scenario.expects.iter().filter_map(another_end).collect();
        let expected = others.len();
        assert!(expected > 0, "{} expects nothing of a key", path.display());
        scenario.expects.extend(others);
        let mut outcome = run(scenario);
        print_trace(&outcome);
        let found = outcome.violations.len();
        outcome.violations.retain(|violation| !violation.text.contains(NO_VALUE));
        assert!(outcome.violations.is_empty(), "{}: {}", path.display(), story(&outcome));
        assert_eq!(found, expected, "{}", path.display());
    }
}

#[test]
fn what_chance_has_found_is_found_no_more() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations/regressions");
    for path in files(&root) {
        let outcome = run(read(&path));
        print_trace(&outcome);
        assert!(outcome.violations.is_empty(), "{}: {}", path.display(), story(&outcome));
    }
}

/// What no step writes.
const NO_VALUE: &str = "what nobody has written";

/// What cannot be so where `expectation` is.
fn another_end(expectation: &Expectation) -> Option<Expectation> {
    match expectation {
        Expectation::Converged(_) => None,
        Expectation::Values(key, values) => {
            let mut values = values.clone();
            values.push(NO_VALUE.into());
            Some(Expectation::Values(key.clone(), values))
        }
    }
}

/// The scenarios of a folder, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("the folder can be read").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> Scenario {
    let text = fs::read_to_string(path).expect("the file can be read");
    assert!(text.starts_with("# "), "{} does not tell its story", path.display());
    Scenario::from_toml(&text).unwrap_or_else(|wrong| panic!("{}: {wrong:?}", path.display()))
}

#[test]
fn random_scenarios_keep_every_promise() {
    let seeds = seeds();
    println!("seeds {seeds:?}");
    let mut failures = String::new();
    let (mut acknowledged, mut events, mut contended) = (0, 0, 0);
    let mut marks = Marks::default();
    for seed in seeds {
        let outcome = run(Scenario::random(seed));
        print_trace(&outcome);
        acknowledged += outcome.acknowledged;
        events += outcome.tally.events;
        contended += outcome.contended;
        marks |= outcome.marks;
        if !outcome.violations.is_empty() {
            println!("seed {seed} failed");
            write!(failures, "{}", story(&outcome)).expect("a string takes any text");
        }
    }
    println!("{acknowledged} acknowledged writes, {contended} contended keys, {events} events");
    println!("marks not hit: {:#?}", marks.missed().collect::<Vec<_>>());
    assert!(failures.is_empty(), "{failures}");
    assert!(acknowledged > 0, "clients did nothing");
}

#[test]
fn calm_scenarios_refuse_nothing() {
    for seed in seeds().take(4) {
        let outcome = run(Scenario::of("calm", Options::calm(seed)));
        print_trace(&outcome);
        assert!(outcome.violations.is_empty(), "{}", story(&outcome));
        assert!(outcome.acknowledged > 100, "{:?}", outcome.tally);
        assert_eq!(outcome.tally.unknown, 0, "{:?}", outcome.tally);
    }
}

#[test]
fn one_seed_is_one_history() {
    for seed in [3, 14] {
        let (one, other) =
            (sim::run(Scenario::random(seed), false), sim::run(Scenario::random(seed), false));
        assert_same(&one, &other);
    }
}

/// Two processes have different addresses and different seeds of whatever is random in them.
#[test]
fn one_seed_is_one_history_in_every_process() {
    let process = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_peerage"));
        command.args(["sim", "run", "--seeds", "2", "--from", "3", "--jobs", "1", "--hashes"]);
        command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        command.spawn().expect("the binary starts")
    };
    let processes = [process(), process()];
    let here =
        [3, 4].map(|seed| format!("{seed} {:032x}\n", run(Scenario::random(seed)).trace.hash()));
    for process in processes {
        let output = process.wait_with_output().expect("the run ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), here.concat());
    }
}

#[test]
fn a_run_that_was_written_down_happens_again() {
    for seed in [3, 14] {
        let drawn = run(Scenario::random(seed));
        let again = run(drawn.written_down());
        assert_same(&drawn, &again);
        assert_eq!(again.recorded, drawn.recorded, "seed {seed}");
    }
}

/// Says where two runs part.
fn assert_same(one: &Outcome, other: &Outcome) {
    if let Some(index) = one.trace.first_difference(&other.trace) {
        let at = usize::try_from(index).expect("a trace fits memory");
        let event = |outcome: &Outcome| outcome.trace.events().get(at).cloned();
        panic!("event {index} differs: {:?} and {:?}", event(one), event(other));
    }
}

fn run(scenario: Scenario) -> Outcome {
    sim::run(scenario, std::env::var_os("PEERAGE_TRACE").is_some())
}

/// Every event of a run, where `PEERAGE_TRACE` asks for it.
fn print_trace(outcome: &Outcome) {
    for event in outcome.trace.events() {
        println!("{:>12} {:>3} {:10} {}", event.at_us, event.lane, event.kind, event.text);
    }
}

/// What went wrong, in words, with the command that shows it again.
fn story(outcome: &Outcome) -> String {
    let seed = outcome.scenario.options.seed;
    let mut text = format!("\nseed {seed}: {:?}\n", outcome.tally);
    for violation in outcome.violations.iter().take(5) {
        writeln!(text, "  {violation}").expect("a string takes any text");
    }
    writeln!(text, "  again: PEERAGE_SEEDS={seed} cargo test --test simulations")
        .expect("a string takes any text");
    text
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("PEERAGE_SEEDS").as_deref() {
        Ok("random") => {
            let first = u64::from(std::process::id()) * 1_000_003;
            first..first + (SEEDS.end - SEEDS.start)
        }
        Ok(text) => match text.split_once("..") {
            Some((first, end)) => number(first)..number(end),
            None => number(text)..number(text) + 1,
        },
        Err(_) => SEEDS,
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("PEERAGE_SEEDS is `random`, a number, or FIRST..END")
}

#[path = "../examples/lost_update.rs"]
#[allow(dead_code, reason = "the main function of the example is for people")]
mod lost_update;

#[test]
fn an_application_that_forgets_siblings_is_caught_and_its_mended_version_holds() {
    let trial = lost_update::failure(false, 1..100).expect("an update is lost in some world");
    println!("{trial}");
    assert!(trial.outcome.violations.is_empty(), "{trial}");
    let verdict = trial.verdict.expect_err("the application finds it itself");
    assert!(verdict.contains("these are gone"), "{verdict}");
    let careful = lost_update::failure(true, 1..if cfg!(debug_assertions) { 9 } else { 101 });
    assert!(careful.is_none(), "{}", careful.expect("there is one"));
}
