//! One run from birth to verdict, in two phases.
//!
//! Safety: clients work while things go wrong. Then a core is healed, and liveness is demanded of
//! it; then everybody, and what all replicas together answer is compared with the exact history.
//! Source of the two phases: "VOPR", the simulator of `TigerBeetle`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::application::Driver;
use super::clients::Client;
use super::machine::Machine;
use super::network::Place;
use super::oracle::Violation;
use super::process::Process;
use super::scenario::{Action, Answered, Expectation, Scenario, Step};
use super::trace::Trace;
use super::world::{Tally, World};
use crate::hash::Key;
use crate::marks::{self, Marks};
use crate::planted;

/// Longest time until a cluster is born, and until one that was mended answers again.
const SETTLING_US: u64 = 20_000_000;
/// Longest time until others have finished the batches of those who are gone.
const FINISHING_US: u64 = 60_000_000;
/// Longer than any request may take.
const STRAGGLERS_US: u64 = 5_000_000;
/// Time between two looks at a condition that is waited for.
const LOOK_US: u64 = 100_000;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// What it was made of.
    pub scenario: Scenario,
    /// What was asked and what went wrong, drawn or not, in the order of its time.
    pub recorded: Vec<Step>,
    /// What was found to be broken; empty = everything held.
    pub violations: Vec<Violation>,
    /// What happened, by numbers.
    pub tally: Tally,
    /// Writes whose clients were told OK.
    pub acknowledged: usize,
    /// Keys that more than one write competed for.
    pub contended: usize,
    /// The coverage marks that it hit.
    pub marks: Marks,
    /// What happened.
    pub trace: Trace,
    /// When the cluster was born, in virtual microseconds: steps count from there.
    pub born_us: u64,
    /// Virtual time at the end, in microseconds.
    pub ended_us: u64,
}

/// Runs a scenario from the birth of its cluster to the verdict.
///
/// # Panics
/// When its options name a bug in a build that has none.
pub fn run(scenario: Scenario, keep_trace: bool) -> Outcome {
    planted::with(scenario.options.planted, || carry_out(World::new(scenario, keep_trace)))
}

/// Runs a scenario of which an application drives the clients. Gives the application back, and what
/// each key holds in the end.
pub(super) fn run_with(
    scenario: Scenario,
    driver: Driver,
) -> (Outcome, Driver, BTreeMap<Key, Vec<Bytes>>) {
    let mut world = World::new(scenario, false);
    world.driver = Some(driver);
    live(&mut world);
    let driver = world.driver.take().expect("the world keeps its driver");
    let values = std::mem::take(&mut world.verdicts);
    (come_to(world), driver, values)
}

/// How a scenario breaks a promise, if it does; the run ends there.
pub(super) fn break_promise(scenario: Scenario, promise: &'static str) -> Option<Violation> {
    let violations = planted::with(scenario.options.planted, || {
        let mut world = World::new(scenario, false);
        world.wanted = Some(promise);
        carry_out(world).violations
    });
    violations.into_iter().find(|violation| violation.invariant == promise)
}

fn carry_out(mut world: World) -> Outcome {
    live(&mut world);
    come_to(world)
}

/// Everything that happens in a world.
fn live(world: &mut World) {
    // What this thread did before is not of this run.
    marks::take();
    world.disturb_birth();
    if world.wait(World::is_founded) {
        world.work();
        world.end_work();
        world.demand_liveness();
        world.mend();
        world.judge();
    } else {
        let text = world.states();
        world.complain("V1 a cluster is born", text);
    }
    world.check_batches();
    world.note_violations();
}

/// What has become of a world.
fn come_to(mut world: World) -> Outcome {
    world.tally.spared = world.budget.spared;
    world.tally.excused_keys = world.history.excused() as u64;
    Outcome {
        violations: world.history.violations().to_vec(),
        tally: world.tally,
        acknowledged: world.history.acknowledged(),
        contended: world.history.contended(),
        marks: marks::take(),
        born_us: world.born_us,
        ended_us: world.now_us,
        scenario: world.scenario,
        recorded: world.recorded,
        trace: world.trace,
    }
}

impl Outcome {
    /// The scenario that does all of this again, with every draw written down.
    pub fn written_down(&self) -> Scenario {
        self.scenario.written_down(self.recorded.clone())
    }
}

impl World {
    /// The time of the scenario, with what goes wrong and what clients do.
    fn work(&mut self) {
        self.born_us = self.now_us;
        let until_us = self.now_us + self.scenario.options.duration_us;
        let mut faults = self.draw_faults(self.scenario.options.duration_us);
        self.recorded.clone_from(&faults);
        let steps = std::mem::take(&mut self.scenario.steps);
        self.recorded
            .extend(steps.iter().filter(|s| matches!(s.action, Action::Fault(_))).cloned());
        faults.extend(steps.iter().cloned());
        self.scenario.steps = steps;
        self.plan(faults);
        self.start_newcomers();
        self.begin_work();
        self.run_until(until_us);
        self.recorded.sort_by_key(|step| step.at_us);
    }

    /// Lets time pass until `holds`; `false` = it did not within [`SETTLING_US`].
    pub(super) fn wait(&mut self, holds: impl Fn(&Self) -> bool) -> bool {
        self.wait_long(SETTLING_US, holds)
    }

    fn wait_long(&mut self, longest_us: u64, holds: impl Fn(&Self) -> bool) -> bool {
        let end_us = self.now_us + longest_us;
        while self.now_us < end_us {
            if holds(self) {
                return true;
            }
            self.run_until(self.now_us + LOOK_US);
        }
        holds(self)
    }

    /// Logs of batches that are held anywhere.
    fn logged_batches(&self) -> usize {
        let processes = self.machines.iter().filter_map(|machine| machine.process.as_ref());
        processes.map(Process::logged_batches).sum()
    }

    /// How every node stands, for people.
    pub(super) fn states(&self) -> String {
        self.machines.iter().map(Machine::state).collect::<Vec<_>>().join("; ")
    }

    /// Whether those that start first are one cluster.
    fn is_founded(&self) -> bool {
        self.is_one_cluster(&(0..self.founders()).collect::<Vec<_>>())
    }

    /// Whether every node is a member of one cluster that lists all.
    fn is_born(&self) -> bool {
        self.is_one_cluster(&(0..self.machines.len()).collect::<Vec<_>>())
    }

    /// Whether these nodes are members of one cluster that lists all, and reach one another.
    pub(super) fn is_one_cluster(&self, places: &[Place]) -> bool {
        places.iter().all(|&place| {
            let process = self.machines[place].process.as_ref();
            let Some(view) = process.and_then(Process::view) else { return false };
            let layout = view.layout.as_ref();
            let reaches = |place: &Place| view.reaches(self.machines[*place].node);
            layout.is_some_and(|layout| layout.roles.len() >= places.len())
                && view.actor.is_some()
                && places.iter().all(reaches)
        })
    }

    /// Compares every key, as all replicas know it, with its history.
    fn judge(&mut self) {
        let mended_us = self.now_us;
        if !self.wait(|world| world.is_born() && world.clients.iter().all(Client::is_idle)) {
            let text = self.states();
            return self.complain("V1 a mended cluster works", text);
        }
        // Requests whose clients have given up may still be carried out, until their time is up.
        self.run_until(self.now_us + STRAGGLERS_US);
        if !self.wait_long(FINISHING_US, |world| world.logged_batches() == 0) {
            let text = format!("{} logs are left: {}", self.logged_batches(), self.states());
            self.complain("B1 a logged batch is finished", text);
        }
        self.excuse_what_is_being_rebuilt();
        // Twice: the first reading repairs, the second must find what the first one showed.
        for round in 0..2 {
            self.verdicts.clear();
            let end_us = self.now_us + SETTLING_US;
            while !self.undecided().is_empty() && self.now_us < end_us {
                let keys = self.undecided();
                let idle: Vec<usize> =
                    (0..self.clients.len()).filter(|&c| self.clients[c].is_idle()).collect();
                for (client, key) in idle.into_iter().zip(keys) {
                    self.ask_verdict(client, key);
                }
                self.run_until(self.now_us + LOOK_US);
            }
            if let Some(key) = self.undecided().first().cloned() {
                let text = format!("no replica-wide answer in round {round} within 20 s");
                self.history.violate("V1 a mended cluster answers", &key, text);
                return;
            }
        }
        // What the second reading repaired is on its way to the disks.
        self.run_until(self.now_us + STRAGGLERS_US);
        self.check_converged();
        self.check_expectations(mended_us);
        self.look_at_rest();
    }

    /// Compares what the scenario expects of the end with what is there.
    fn check_expectations(&mut self, mended_us: u64) {
        let took_us = self.now_us - mended_us;
        for expectation in self.scenario.expects.clone() {
            match expectation {
                Expectation::Converged(within_us) if took_us > within_us => {
                    let text = format!("replicas agreed after {took_us} us, not {within_us} us");
                    self.complain("the scenario expects", text);
                }
                Expectation::Converged(_) => {}
                Expectation::Values(key, values) => {
                    let mut found = self.verdicts.get(&key).cloned().unwrap_or_default();
                    found.sort();
                    let mut expected = values;
                    expected.sort();
                    if found != expected {
                        let (found, expected) =
                            (Answered::Values(found), Answered::Values(expected));
                        let text = format!("at the end {expected}, and there is {found}");
                        self.history.violate("the scenario expects", &key, text);
                    }
                }
            }
        }
    }

    /// The keys that no verdict was given on yet.
    fn undecided(&self) -> Vec<Key> {
        let expected = self.scenario.expects.iter().filter_map(|expectation| match expectation {
            Expectation::Values(key, _) => Some(key),
            Expectation::Converged(_) => None,
        });
        let keys: BTreeSet<&Key> = self.history.keys().chain(expected).collect();
        keys.into_iter().filter(|key| !self.verdicts.contains_key(*key)).cloned().collect()
    }

    /// All of a batch or nothing of it was ever minted and kept.
    fn check_batches(&mut self) {
        for batch in std::mem::take(&mut self.batches) {
            if let Some(text) = self.history.half_done(&batch) {
                self.complain("B1 batches are all or nothing", text);
            }
        }
    }

    pub(super) fn complain(&mut self, invariant: &'static str, text: String) {
        self.history.violate(invariant, &Key::plain(""), text);
    }
}
