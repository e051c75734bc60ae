//! Invariant P1: what an acceptor has promised to others binds it in every later life.
//!
//! Two layouts of one epoch can be decided only where an acceptor forgets a promise. That takes two
//! proposers at the wrong instant; this oracle needs but the forgetting.

use std::collections::BTreeMap;

use crate::cluster::message::Ballot;
use crate::sim::network::Place;

/// The highest promise that each node has told another one: in which decision, to which ballot.
#[derive(Debug, Default)]
pub(in crate::sim) struct Promises(BTreeMap<Place, (u64, Ballot)>);

impl Promises {
    /// A node tells another one what it promises.
    pub(in crate::sim) fn told(&mut self, place: Place, decision: u64, ballot: Ballot) {
        let highest = self.0.entry(place).or_default();
        *highest = (*highest).max((decision, ballot));
    }

    /// What is wrong with a node that starts and remembers this promise, if anything is.
    pub(in crate::sim) fn broken(
        &self,
        place: Place,
        decision: u64,
        ballot: Ballot,
    ) -> Option<String> {
        let told = self.0.get(&place).copied().unwrap_or_default();
        (told > (decision, ballot)).then(|| {
            format!(
                "n{} promised ballot {} of epoch {} before it stopped, and remembers ballot {} of \
                 epoch {decision}",
                place + 1,
                told.1.round,
                told.0,
                ballot.round
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_may_grow_and_is_never_forgotten() {
        let ballot = |round| Ballot { round, ..Ballot::default() };
        let mut promises = Promises::default();
        assert_eq!(promises.broken(0, 1, ballot(0)), None);
        promises.told(0, 1, ballot(3));
        promises.told(0, 1, ballot(2));
        assert_eq!(promises.broken(0, 1, ballot(3)), None);
        assert_eq!(promises.broken(0, 2, ballot(0)), None, "the decision was made");
        assert!(promises.broken(0, 1, ballot(2)).is_some());
        assert_eq!(promises.broken(1, 1, ballot(0)), None, "another node promised nothing");
    }
}
