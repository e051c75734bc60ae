//! Makes a failing scenario smaller, until nothing can be left out.
//!
//! Every candidate is a scenario like any other, and counts if it breaks the same promise. Leaving
//! something out shifts the draws of what is left, so a small candidate is tried under a few seeds
//! before it is given up. The order is that of the largest cuts: what happens after the violation,
//! other keys, whole kinds of faults, whole clients, all but the last steps, families of chance,
//! single steps, nodes, idle time, and then the world itself. Source of the search over steps:
//! Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002.

use std::collections::BTreeSet;

use super::disk::DiskFaults;
use super::faults::Fault;
use super::network::{NetworkFaults, Place};
use super::options::Options;
use super::oracle::Violation;
use super::run::{break_promise, run};
use super::scenario::{Action, Context, Operation, Request, Scenario, Step};
use crate::api::Level;
use crate::hash::Key;

/// Time that is left after the last step, in microseconds.
const TAIL_US: u64 = 1_000_000;
/// Most seeds under which a candidate is tried.
const SEEDS_MAX: usize = 8;
/// Steps that a scenario may have to be looked at one by one.
const FEW: usize = 40;
/// Steps of candidates that are tried, over all their seeds, per candidate.
const STEPS_PER_CANDIDATE: usize = 1_000;

/// How far the search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs so far.
    pub runs: u64,
    /// Faults that are left.
    pub faults: usize,
    /// Operations that are left.
    pub operations: usize,
    /// Nodes that are left.
    pub nodes: usize,
}

/// The smallest scenario found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// It breaks the same promise.
    pub scenario: Scenario,
    /// How it breaks it.
    pub violation: Violation,
    /// What it took, and what is left.
    pub progress: Progress,
}

/// Makes a scenario smaller that breaks a promise; `None` = it breaks none.
///
/// `report` is told of each improvement and after every run; the search ends when it returns
/// `false`, with what was found until then. Each run takes as long as the scenario at most.
pub fn shrink(scenario: Scenario, report: &mut dyn FnMut(Progress) -> bool) -> Option<Shrunk> {
    let outcome = run(scenario, false);
    let violation = outcome.violations.first()?.clone();
    let (best, born_us) = (outcome.written_down(), outcome.born_us);
    let mut search = Search { best, violation, born_us, runs: 1, is_over: false, report };
    search.everything();
    let progress = search.progress();
    let Search { mut best, violation, .. } = search;
    best.name = format!("{}, shrunk", best.name);
    Some(Shrunk { scenario: best, violation, progress })
}

struct Search<'a> {
    best: Scenario,
    violation: Violation,
    born_us: u64,
    runs: u64,
    is_over: bool,
    report: &'a mut dyn FnMut(Progress) -> bool,
}

impl Search<'_> {
    fn everything(&mut self) {
        self.shorter();
        self.only_the_key();
        self.fewer_kinds();
        self.fewer_clients_and_keys();
        self.only_the_last();
        self.calmer();
        // Fewer nodes allow fewer steps, and the other way round.
        loop {
            let before = self.size();
            self.fewer_steps(|step| matches!(step.action, Action::Ask(_)));
            self.fewer_steps(|step| matches!(step.action, Action::Fault(_)));
            self.sooner();
            self.fewer_nodes();
            self.calmer();
            self.plainer();
            if self.size() >= before || self.is_over {
                break;
            }
        }
        self.tighter();
    }

    /// Drops all faults, and then each kind of them in turn.
    fn fewer_kinds(&mut self) {
        let mut candidate = self.best.clone();
        candidate.steps.retain(|step| matches!(step.action, Action::Ask(_)));
        if self.attempt_under(SEEDS_MAX, candidate) {
            return;
        }
        let kinds = |step: &Step| match &step.action {
            // What ends another fault has no sense without it, and goes with it.
            Action::Fault(Fault::Start(_)) => Some("crash"),
            Action::Fault(Fault::Heal | Fault::OneWay(..)) => Some("partition"),
            Action::Fault(fault) => Some(fault.word()),
            Action::Ask(_) => None,
        };
        let found: BTreeSet<&str> = self.best.steps.iter().filter_map(kinds).collect();
        for kind in found {
            let mut candidate = self.best.clone();
            candidate.steps.retain(|step| kinds(step) != Some(kind));
            self.attempt_other(candidate);
        }
    }

    /// Silences clients, and drops the questions about keys beside that of the violation.
    fn fewer_clients_and_keys(&mut self) {
        let clients: Vec<usize> = (0..self.best.clients.len()).collect();
        self.fewer_of(&clients, |operation, gone| gone.contains(&operation.client));
        let asked = self.best.steps.iter().filter_map(question);
        let keys: BTreeSet<Key> =
            asked.flat_map(|operation| operation.request.keys()).cloned().collect();
        let keys: Vec<Key> = keys.into_iter().filter(|key| *key != self.violation.key).collect();
        self.fewer_of(&keys, |operation, gone| {
            operation.request.keys().into_iter().all(|key| gone.contains(key))
        });
    }

    /// Leaves out all questions of some clients or keys, half of them at first.
    fn fewer_of<T: Clone>(&mut self, all: &[T], belongs: impl Fn(&Operation, &[T]) -> bool) {
        let mut left = all.to_vec();
        let mut chunk = left.len().div_ceil(2);
        while chunk > 0 && !self.is_over {
            let mut start = 0;
            while start < left.len() && !self.is_over {
                let gone = start..left.len().min(start + chunk);
                let mut candidate = self.best.clone();
                candidate.steps.retain(|step| {
                    question(step).is_none_or(|asked| !belongs(asked, &left[gone.clone()]))
                });
                if self.attempt_other(candidate) {
                    left.drain(gone);
                } else {
                    start += chunk;
                }
            }
            chunk /= 2;
        }
    }

    /// Keeps the last few steps only, of both sorts or of one; as few as possible.
    fn only_the_last(&mut self) {
        let sorts: [fn(&Step) -> bool; 3] = [
            |_| true,
            |step| matches!(step.action, Action::Ask(_)),
            |step| matches!(step.action, Action::Fault(_)),
        ];
        for sort in sorts {
            let count = self.best.steps.iter().filter(|step| sort(step)).count();
            let mut kept = 4;
            while kept < count && !self.is_over {
                let mut candidate = self.best.clone();
                let mut left = count;
                candidate.steps.retain(|step| {
                    left -= usize::from(sort(step));
                    !sort(step) || left < kept
                });
                if self.attempt(candidate) {
                    break;
                }
                kept *= 2;
            }
        }
    }

    /// Drops time in which nothing happens.
    fn sooner(&mut self) {
        for longest_us in [20_000, 100_000, 500_000, 2_000_000] {
            let mut candidate = self.best.clone();
            let (mut before_us, mut at_us) = (0, 0);
            for step in &mut candidate.steps {
                at_us += (step.at_us - before_us).min(longest_us);
                before_us = step.at_us;
                step.at_us = at_us;
            }
            if self.attempt_other(candidate) {
                return;
            }
        }
    }

    /// Drops every question that is not about the key of the violation.
    fn only_the_key(&mut self) {
        let key = self.violation.key.clone();
        let keeps = |step: &Step| match &step.action {
            Action::Fault(_) => true,
            // A walk may be what missed the key.
            Action::Ask(operation) => {
                let is_walk = matches!(operation.request, Request::Scan { .. });
                is_walk || operation.request.keys().contains(&&key)
            }
        };
        if !key.bytes.is_empty() {
            let mut candidate = self.best.clone();
            candidate.steps.retain(keeps);
            // The largest cut of all is worth many more tries.
            self.attempt_under(4 * SEEDS_MAX, candidate);
        }
    }

    /// Drops what comes after the violation, and then what comes last, as much as possible.
    fn shorter(&mut self) {
        let born_us = self.born_us;
        let at_us = self.violation.at_us;
        let mut candidate = self.best.clone();
        candidate.steps.retain(|step| born_us + step.at_us <= at_us);
        self.attempt(candidate);
        let mut cut = self.best.steps.len() / 2;
        while cut > 0 && !self.is_over {
            let count = self.best.steps.len();
            let mut candidate = self.best.clone();
            candidate.steps.truncate(count.saturating_sub(cut));
            if !self.attempt(candidate) {
                cut /= 2;
            }
            cut = cut.min(self.best.steps.len() / 2);
        }
    }

    /// Turns off whole families of chance, and everything at once first.
    fn calmer(&mut self) {
        let calm = Options::calm(self.best.options.seed);
        let all = |options: &mut Options| {
            options.network = NetworkFaults::default();
            options.disk = DiskFaults::default();
        };
        let cuts: [&dyn Fn(&mut Options); 23] = [
            &all,
            &|options| options.network = NetworkFaults::default(),
            &|options| options.disk = DiskFaults::default(),
            &|options| options.network.loss = 0,
            &|options| options.network.duplicate = 0,
            &|options| options.network.corrupt = 0,
            &|options| options.network.straggler = 0,
            &|options| options.network.stale = 0,
            &|options| options.network.queue = 0,
            &|options| options.disk.write_error = 0,
            &|options| options.disk.sync_error = 0,
            &|options| options.disk.open_error = 0,
            &|options| options.disk.read_error = 0,
            &|options| options.disk.read_flip = 0,
            &|options| options.disk.names_reorder = false,
            &|options| options.disk_us = calm.disk_us,
            &|options| options.shards = 1,
            &|options| options.segment_bytes = calm.segment_bytes,
            &|options| options.birth_trouble_us = 0,
            &|options| options.birth_crashes = 0,
            &|options| options.birth_crashes = options.birth_crashes.min(1),
            &|options| options.birth_crashes = options.birth_crashes.saturating_sub(1),
            &|options| options.core_first = false,
        ];
        for cut in cuts {
            let mut candidate = self.best.clone();
            cut(&mut candidate.options);
            self.attempt_other(candidate);
        }
    }

    /// Leaves out steps of one sort, in chunks that become smaller.
    fn fewer_steps(&mut self, of: impl Fn(&Step) -> bool) {
        let count = |scenario: &Scenario| scenario.steps.iter().filter(|step| of(step)).count();
        let mut chunk = count(&self.best).div_ceil(2);
        while chunk > 0 && !self.is_over {
            let mut start = 0;
            let mut found = false;
            while start < count(&self.best) && !self.is_over {
                let mut candidate = self.best.clone();
                let mut number = 0;
                candidate.steps.retain(|step| {
                    let is_one = of(step);
                    let keeps = !is_one || !(start..start + chunk).contains(&number);
                    number += usize::from(is_one);
                    keeps
                });
                if self.attempt(candidate) {
                    found = true;
                } else {
                    start += chunk;
                }
            }
            chunk = if chunk == 1 && found { 1 } else { chunk / 2 };
        }
    }

    fn fewer_nodes(&mut self) {
        for nodes in 1..self.best.options.nodes {
            let mut candidate = self.best.clone();
            candidate.options.nodes = nodes;
            let replicas = usize::from(candidate.options.replicas);
            candidate.options.replicas =
                u8::try_from(replicas.min(nodes)).expect("not more than there were");
            candidate.steps =
                candidate.steps.into_iter().filter_map(|s| within(s, nodes)).collect();
            if self.attempt_other(candidate) {
                return;
            }
        }
    }

    /// Asks plainly where that is enough.
    fn plainer(&mut self) {
        if self.best.steps.len() > FEW {
            return;
        }
        for index in 0..self.best.steps.len() {
            let Action::Ask(operation) = &self.best.steps[index].action else { continue };
            let mut plain = vec![operation.clone(); 2];
            plain[0].level = Level::Quorum;
            match &mut plain[1].request {
                Request::Set { context, .. } | Request::Delete { context, .. } => {
                    *context = Context::Absent;
                }
                Request::Bulk { items, .. } => {
                    let key = items.iter().find(|(key, _)| *key == self.violation.key);
                    *items = key.or(items.first()).cloned().into_iter().collect();
                }
                Request::Get { .. }
                | Request::Scan { .. }
                | Request::Count
                | Request::Explain { .. } => {}
            }
            for operation in plain {
                let mut candidate = self.best.clone();
                candidate.steps[index].action = Action::Ask(operation);
                self.attempt_other(candidate);
            }
        }
    }

    /// Drops clients that ask nothing.
    fn tighter(&mut self) {
        let mut candidate = self.best.clone();
        let mut clients = Vec::new();
        for step in &mut candidate.steps {
            let (Action::Ask(Operation { client, .. }) | Action::Fault(Fault::Client(client, _))) =
                &mut step.action
            else {
                continue;
            };
            let name = &self.best.clients[*client];
            *client = clients.iter().position(|other| other == name).unwrap_or_else(|| {
                clients.push(name.clone());
                clients.len() - 1
            });
        }
        candidate.clients = clients;
        self.attempt_other(candidate);
        let mut candidate = self.best.clone();
        candidate.options.keys = 1;
        candidate.options.think_us = Options::calm(0).think_us;
        self.attempt_other(candidate);
    }

    /// Tries a candidate that may have as many steps as the best; equal ones are not tried.
    fn attempt_other(&mut self, candidate: Scenario) -> bool {
        candidate != self.best && self.attempt(candidate)
    }

    /// Runs a candidate; a small one, which takes little time, under a few seeds.
    fn attempt(&mut self, candidate: Scenario) -> bool {
        let seeds = STEPS_PER_CANDIDATE / candidate.steps.len().max(1);
        self.attempt_under(seeds.clamp(1, SEEDS_MAX), candidate)
    }

    /// Runs a candidate under so many seeds; one that breaks the promise is the best from now on.
    fn attempt_under(&mut self, seeds: usize, mut candidate: Scenario) -> bool {
        let last_us = candidate.steps.last().map_or(0, |step| step.at_us);
        candidate.options.duration_us = candidate.options.duration_us.min(last_us + TAIL_US);
        let first = candidate.options.seed;
        for ahead in 0..seeds as u64 {
            if self.is_over {
                return false;
            }
            candidate.options.seed = first.wrapping_add(ahead);
            let broken = break_promise(candidate.clone(), self.violation.invariant);
            self.runs += 1;
            let is_broken = broken.is_some();
            if let Some(violation) = broken {
                self.violation = violation;
                self.best = candidate.clone();
            }
            let progress = self.progress();
            self.is_over |= !(self.report)(progress);
            if is_broken {
                return true;
            }
        }
        false
    }

    fn progress(&self) -> Progress {
        Progress {
            runs: self.runs,
            faults: self.best.faults(),
            operations: self.best.operations(),
            nodes: self.best.options.nodes,
        }
    }

    fn size(&self) -> (usize, usize) {
        (self.best.steps.len(), self.best.options.nodes)
    }
}

/// What a client asks in a step, if it is one of a client.
fn question(step: &Step) -> Option<&Operation> {
    match &step.action {
        Action::Ask(operation) => Some(operation),
        Action::Fault(_) => None,
    }
}

/// A step of a world with fewer nodes; `None` = it is about a node that is not there.
fn within(step: Step, nodes: usize) -> Option<Step> {
    let is_there = |place: &Place| *place < nodes;
    let Step { at_us, action } = step;
    let action = match action {
        Action::Fault(Fault::Partition(groups)) => {
            let groups =
                groups.into_iter().map(|group| group.into_iter().filter(is_there).collect());
            Action::Fault(Fault::Partition(
                groups.filter(|group: &Vec<_>| !group.is_empty()).collect(),
            ))
        }
        Action::Fault(Fault::PowerLoss(places)) => {
            let places: Vec<Place> = places.into_iter().filter(is_there).collect();
            (!places.is_empty()).then_some(Action::Fault(Fault::PowerLoss(places)))?
        }
        Action::Fault(fault) => {
            fault.places().iter().all(is_there).then_some(Action::Fault(fault))?
        }
        Action::Ask(mut operation) => {
            operation.via = operation.via.map(|place| place % nodes);
            Action::Ask(operation)
        }
    };
    Some(Step { at_us, action })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::scenario::Expectation;
    use super::*;

    fn set(at_us: u64, name: &str, number: usize) -> Step {
        let key = Key::plain(name.to_owned());
        let value = Bytes::from(format!("{name} {number}"));
        let request = Request::Set { key, value, context: Context::Absent, ttl_us: 0 };
        let operation = Operation {
            client: number % 2,
            via: None,
            request,
            level: Level::Quorum,
            expect: None,
        };
        Step { at_us, action: Action::Ask(operation) }
    }

    /// Twenty writes, of which the last one is the reason that a key is not absent.
    fn failing() -> Scenario {
        let mut scenario = Scenario::of("shrinks", Options::calm(5));
        scenario.options.clients = 0;
        scenario.options.duration_us = 3_000_000;
        scenario.clients = vec![String::from("a"), String::from("b")];
        let others = (0..20_u64).zip(0..).map(|(at, number)| set(at * 100_000, "other", number));
        scenario.steps.extend(others);
        let fault = |at_us, fault| Step { at_us, action: Action::Fault(fault) };
        scenario.steps.push(fault(2_100_000, Fault::Crash(2)));
        scenario.steps.push(set(2_200_000, "k", 1));
        scenario.steps.push(fault(2_300_000, Fault::Start(2)));
        scenario.expects.push(Expectation::Values(Key::plain("k"), Vec::new()));
        scenario
    }

    #[test]
    fn what_has_no_part_in_a_failure_is_left_out() {
        let shrunk = shrink(failing(), &mut |_| true).expect("it fails");
        assert_eq!((shrunk.scenario.faults(), shrunk.scenario.operations()), (0, 1));
        assert_eq!(shrunk.scenario.clients.len(), 1);
        assert_eq!(shrunk.scenario.options.nodes, 1);
        assert_eq!(run(shrunk.scenario, false).violations, [shrunk.violation]);
    }

    #[test]
    fn a_search_ends_when_it_is_told_to() {
        let mut runs = 0;
        let shrunk = shrink(failing(), &mut |progress| {
            runs = progress.runs;
            progress.runs < 5
        });
        assert!(shrunk.is_some());
        assert_eq!(runs, 5);
    }

    #[test]
    fn a_scenario_that_holds_is_not_shrunk() {
        let mut scenario = failing();
        scenario.expects.clear();
        assert!(shrink(scenario, &mut |_| true).is_none());
    }
}
