//! What many seeds came to, added up.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{HumanCount, HumanDuration};
use serde_json::json;

use super::super::failure::Failure;
use super::source::{Ending, Source};
use crate::marks::Marks;
use crate::sim::{Action, Tally};

/// What is kept of one seed.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) seed: u64,
    hash: Option<u128>,
    /// What was broken, in words.
    pub(super) broken: Vec<String>,
    tally: Tally,
    acknowledged: u64,
    contended: u64,
    virtual_us: u64,
    faults: BTreeMap<&'static str, u64>,
    marks: Marks,
}

/// The sum of many seeds.
#[derive(Debug)]
pub(super) struct Summary {
    from: u64,
    jobs: usize,
    seeds: u64,
    broken: Vec<(u64, String)>,
    events: u64,
    operations: u64,
    unknown: u64,
    refused: u64,
    acknowledged: u64,
    contended: u64,
    excused: u64,
    ended: u64,
    messages: u64,
    virtual_us: u64,
    faults: BTreeMap<&'static str, u64>,
    marks: Marks,
    /// Real time.
    pub(super) took: Duration,
}

impl Ran {
    /// What is kept of a run.
    pub(super) fn new(seed: u64, ending: Ending) -> Self {
        let outcome = match ending {
            Ok(outcome) => outcome,
            Err(panic) => {
                return Self {
                    seed,
                    hash: None,
                    broken: vec![format!("the core panicked: {panic}")],
                    tally: Tally::default(),
                    acknowledged: 0,
                    contended: 0,
                    virtual_us: 0,
                    faults: BTreeMap::new(),
                    marks: Marks::default(),
                };
            }
        };
        let mut faults = BTreeMap::new();
        for step in &outcome.recorded {
            if let Action::Fault(fault) = &step.action {
                *faults.entry(fault.word()).or_default() += 1;
            }
        }
        Self {
            seed,
            hash: Some(outcome.trace.hash()),
            broken: outcome.violations.iter().map(ToString::to_string).collect(),
            tally: outcome.tally,
            acknowledged: outcome.acknowledged as u64,
            contended: outcome.contended as u64,
            virtual_us: outcome.ended_us,
            faults,
            marks: outcome.marks,
        }
    }

    /// The hash of its events; a run that panicked has none.
    pub(super) fn hash_text(&self) -> String {
        self.hash.map_or_else(|| String::from("panicked"), |hash| format!("{hash:032x}"))
    }

    /// What is told of a seed that broke a promise.
    pub(super) fn told(&self, again: &str) -> String {
        let mut text = format!("VIOLATED: seed {}\n", self.seed);
        for broken in self.broken.iter().take(3) {
            writeln!(text, "  {broken}").expect("a string takes any text");
        }
        if self.broken.len() > 3 {
            writeln!(text, "  and {} more", self.broken.len() - 3)
                .expect("a string takes any text");
        }
        text + again
    }
}

impl Summary {
    pub(super) fn new(from: u64, jobs: usize) -> Self {
        Self {
            from,
            jobs,
            seeds: 0,
            broken: Vec::new(),
            events: 0,
            operations: 0,
            unknown: 0,
            refused: 0,
            acknowledged: 0,
            contended: 0,
            excused: 0,
            ended: 0,
            messages: 0,
            virtual_us: 0,
            faults: BTreeMap::new(),
            marks: Marks::default(),
            took: Duration::ZERO,
        }
    }

    /// Adds one seed.
    pub(super) fn add(&mut self, ran: Ran) {
        self.seeds += 1;
        self.events += ran.tally.events;
        self.operations += ran.tally.operations;
        self.unknown += ran.tally.unknown;
        self.refused += ran.tally.refused;
        self.acknowledged += ran.acknowledged;
        self.contended += ran.contended;
        self.excused += ran.tally.excused_keys;
        self.ended += ran.tally.ended;
        self.messages += ran.tally.messages;
        self.virtual_us += ran.virtual_us;
        self.marks |= ran.marks;
        for (word, count) in ran.faults {
            *self.faults.entry(word).or_default() += count;
        }
        if let Some(first) = ran.broken.into_iter().next() {
            self.broken.push((ran.seed, first));
        }
    }

    /// Seeds that broke a promise.
    pub(super) fn broken(&self) -> usize {
        self.broken.len()
    }

    /// Exit code 1 where a promise was broken, 2 where nothing ran.
    pub(super) fn failure(&self) -> Result<(), Failure> {
        match (self.seeds, self.broken.len()) {
            (0, _) => Err(Failure::Usage(String::from("stopped before any seed came to its end"))),
            (_, 0) => Ok(()),
            (seeds, broken) => {
                Err(Failure::Failed(format!("{broken} of {seeds} seeds broke a promise")))
            }
        }
    }

    /// The sum for people.
    pub(super) fn text(&self, source: &Source) -> String {
        let mut text = self.headline(source);
        let mut row = |name: &str, value: String| {
            writeln!(text, "  {name:20} {value}").expect("a string takes any text");
        };
        row("virtual time", HumanDuration(Duration::from_micros(self.virtual_us)).to_string());
        row("events", self.of_all(self.events));
        row("operations", self.of_all(self.operations));
        row("acknowledged writes", self.of_all(self.acknowledged));
        row("refused", self.of_all(self.refused));
        row("outcome unknown", self.of_all(self.unknown));
        row("contended keys", self.of_all(self.contended));
        row("excused keys", self.excused_share());
        row("messages", self.of_all(self.messages));
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(word, count)| format!("{word} {}", HumanCount(*count)))
            .collect();
        row("faults", if faults.is_empty() { String::from("none") } else { faults.join(", ") });
        row("ended by themselves", self.of_all(self.ended));
        let (hit, missed) = (self.marks.hit().count(), self.marks.missed().count());
        row("marks", format!("{hit} of {} hit", hit + missed));
        for mark in self.marks.missed() {
            row("", format!("never: {mark}"));
        }
        row(
            "speed",
            format!(
                "{} seeds a minute, {} events a second, with {} job{}",
                HumanCount(self.rate(self.seeds * 60)),
                HumanCount(self.rate(self.events)),
                self.jobs,
                if self.jobs == 1 { "" } else { "s" }
            ),
        );
        text
    }

    fn headline(&self, source: &Source) -> String {
        if self.seeds == 0 {
            return String::from("nothing ran\n");
        }
        let (first, last) = (self.from, self.from + (self.seeds - 1));
        let seeds = format!("{} seeds, {first} to {last}", HumanCount(self.seeds));
        match self.broken.as_slice() {
            [] => format!("held: {seeds}\n"),
            [(seed, _), rest @ ..] => {
                let count = rest.len() + 1;
                let first = source.command("run", *seed);
                format!("VIOLATED: {count} of {seeds}; the first one: {first}\n")
            }
        }
    }

    /// The sum for programs.
    pub(super) fn json(&self) -> String {
        let violations: Vec<_> =
            self.broken.iter().map(|(seed, text)| json!({ "seed": seed, "text": text })).collect();
        let object = json!({
            "held": self.seeds > 0 && violations.is_empty(),
            "from": self.from,
            "seeds": self.seeds,
            "violations": violations,
            "virtual_us": self.virtual_us,
            "events": self.events,
            "operations": self.operations,
            "acknowledged_writes": self.acknowledged,
            "refused": self.refused,
            "outcome_unknown": self.unknown,
            "contended_keys": self.contended,
            "excused_keys": self.excused,
            "messages": self.messages,
            "processes_ended": self.ended,
            "faults": self.faults,
            "marks_hit": self.marks.hit().collect::<Vec<_>>(),
            "marks_missed": self.marks.missed().collect::<Vec<_>>(),
            "jobs": self.jobs,
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        });
        format!("{object}\n")
    }

    /// Keys of which no node could know that a promise was broken, among those that matter.
    fn excused_share(&self) -> String {
        let parts = self.excused.saturating_mul(10_000) / self.contended.max(1);
        format!("{} ({}.{:02} % of those)", HumanCount(self.excused), parts / 100, parts % 100)
    }

    /// A number and what it is for each seed.
    fn of_all(&self, count: u64) -> String {
        let each = count / self.seeds.max(1);
        format!("{} ({} a seed)", HumanCount(count), HumanCount(each))
    }

    fn rate(&self, count: u64) -> u64 {
        let ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX).max(1);
        count.saturating_mul(1_000) / ms
    }
}
