//! The second phase of a run: some nodes are healed, and they must answer for what they hold a
//! majority of, while the others stay away. A safe store that answers nobody is no store.

use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::clients::Client;
use super::network::Place;
use super::scenario::{Answered, Context, Operation, Request};
use super::world::World;
use crate::api::Level;
use crate::hash::Key;

/// Time in which failure detection finds out what is broken, and links are made anew.
const DETECTION_US: u64 = 3_000_000;
/// Longest time until a healed core has answered everything it is asked.
const CORE_ANSWERS_US: u64 = 20_000_000;
/// Time between two looks at who waits for an answer.
const LOOK_US: u64 = 100_000;
/// Keys that nobody else writes, to see that the core takes writes.
const PROBES: usize = 8;
/// What is broken when the core does not answer.
const PROMISE: &str = "V1 a healed core answers";

impl World {
    /// Heals a majority of the nodes, stops the rest, and demands answers for every key of which
    /// the core holds a majority. In a part of the runs the core is everybody.
    pub(super) fn demand_liveness(&mut self) {
        let nodes = self.machines.len();
        // A node that has not joined yet may know only nodes that would stay away.
        let has_a_core = self.scenario.options.core_first && self.scenario.options.newcomers == 0;
        let smallest = if has_a_core { nodes / 2 + 1 } else { nodes };
        let mut core: Vec<Place> = (0..nodes).collect();
        core.shuffle(&mut self.chance.judge);
        let absent = core.split_off(self.chance.judge.random_range(smallest..=nodes));
        for place in absent {
            self.stop(place);
            self.machines[place].is_kept_down = true;
        }
        self.mend();
        self.run_until(self.now_us + DETECTION_US);
        if self.wait(|world| world.is_one_cluster(&core)) {
            self.question_core(&core);
        } else {
            let text = format!("{:?} do not find one another: {}", named(&core), self.states());
            self.complain(PROMISE, text);
        }
        for machine in &mut self.machines {
            machine.is_kept_down = false;
        }
    }

    fn question_core(&mut self, core: &[Place]) {
        let mut questions = self.questions(core);
        let end_us = self.now_us + CORE_ANSWERS_US;
        let judges = self.judges();
        while self.now_us < end_us {
            for client in judges.clone() {
                if self.clients[client].is_idle()
                    && let Some(request) = questions.pop()
                {
                    let via = Some(core[self.chance.judge.random_range(0..core.len())]);
                    let (level, expect) = (Level::Quorum, Some(Answered::Ok));
                    self.begin(Operation { client, via, request, level, expect }, PROMISE);
                }
            }
            if questions.is_empty() && self.clients[judges.clone()].iter().all(Client::is_idle) {
                return;
            }
            self.run_until(self.now_us + LOOK_US);
        }
        let text = format!("{} questions are not answered within 20 s", questions.len());
        self.complain(PROMISE, text);
    }

    /// A read of every key, and a write of some new ones, where the core holds a majority of the
    /// replicas that count.
    fn questions(&self, core: &[Place]) -> Vec<Request> {
        let reads = self.history.keys().cloned();
        let reads = reads.map(|key| Request::Get { key, siblings: true });
        let writes = (0..PROBES).map(|number| Request::Set {
            key: Key::plain(format!("probe{number}")),
            value: format!("probe{number} w{}", self.writes).into(),
            context: Context::Absent,
            ttl_us: 0,
        });
        let is_held = |request: &Request| {
            request.keys().into_iter().all(|key| self.holds_majority(core, key))
        };
        reads.chain(writes).filter(is_held).collect()
    }

    /// Whether a majority of the row of a key lies in the core, without counting replicas that have
    /// lost something.
    fn holds_majority(&self, core: &[Place], key: &Key) -> bool {
        let process = self.machines[core[0]].process.as_ref();
        let layout = process.and_then(|process| process.view()?.layout.clone());
        let Some(layout) = layout else { return false };
        let row = layout.row(self.partition(key));
        let counts = |place: &&Place| {
            let machine = &self.machines[**place];
            let is_whole = !machine.is_rebuilding && !self.budget.damaged.contains(*place);
            row.contains(&machine.node) && is_whole
        };
        core.iter().filter(counts).count() > row.len() / 2
    }
}

/// The names of nodes.
fn named(places: &[Place]) -> Vec<String> {
    places.iter().map(|place| format!("n{}", place + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::options::Options;
    use crate::sim::scenario::Scenario;

    #[test]
    fn a_core_that_does_not_find_itself_is_one_violation_and_leaves_nobody_down() {
        let options = Options { core_first: true, ..Options::calm(3) };
        let mut world = World::new(Scenario::of("no core", options), false);
        world.run_until(4_000_000);
        for place in [0, 1] {
            world.stop(place);
            world.machines[place].is_kept_down = true;
        }
        world.demand_liveness();
        let broken: Vec<&str> =
            world.history.violations().iter().map(|violation| violation.invariant).collect();
        assert_eq!(broken, [PROMISE]);
        assert!(world.machines.iter().all(|machine| !machine.is_kept_down));
    }
}
