//! Writes that clients send several times under one id.
//!
//! Invariant A1: a leader that remembers an id, also from before its last start, carries out one
//! request under it, once; but a batch that is logged is carried out whatever else its id was used
//! for meanwhile. Two leaders may carry out one request each, and readers are shown one of the two
//! (docs/protocols.md, "Request ids").

use super::{History, Mint, WriteId};
use crate::api::RequestId;
use crate::causality::Dot;

const ONCE: &str = "A1 a leader carries a request out once";

impl History {
    /// These writes are one request with an id.
    pub(in crate::sim) fn named(&mut self, ids: &[WriteId], request: RequestId) {
        self.named.extend(ids.iter().map(|id| (*id, request)));
        if ids.len() > 1 {
            self.owed.extend(ids);
        }
    }

    /// A leader is about to carry out a write.
    pub(super) fn check_once(&mut self, mint: &Mint<'_>) {
        let Some(id) = mint.write.filter(|id| self.named.contains_key(id)) else { return };
        let is_same = |dot: &Dot| *dot != mint.dot && self.remembers(mint, *dot);
        let earlier = self.dots_of(id).find(is_same);
        if let Some(earlier) = earlier {
            let text = format!("{} carries out again what {earlier} did", mint.dot);
            return self.violate(ONCE, mint.key, text);
        }
        if self.owed.contains(&id) {
            // Its log was written before the other request came here with the id.
            return;
        }
        let others = self.keys.get(mint.key).into_iter().flat_map(|facts| &facts.writes);
        let others = others.filter(|other| self.named.get(other) == self.named.get(&id));
        let earlier = others.flat_map(|other| self.dots_of(*other)).find(is_same);
        if let Some(earlier) = earlier {
            let text = format!("{} has the id of {earlier}, which is another write", mint.dot);
            self.violate(ONCE, mint.key, text);
        }
    }

    /// Whether the leader of a write must know of an event that it made earlier: it made it since
    /// it started, or it has it on its disk and nothing there was ever lost.
    fn remembers(&self, mint: &Mint<'_>, earlier: Dot) -> bool {
        let event = (mint.partition, earlier);
        let is_kept = self.events.get(&event).is_some_and(|event| {
            event.holders.contains(&mint.place) && !self.forgetful.contains(&mint.place)
        });
        let is_own = earlier.actor.tag() == mint.dot.actor.tag();
        earlier.actor == mint.dot.actor || is_own && is_kept && !self.unstored.contains(&event)
    }

    /// Whether a disk said that it had stored an event of this write, and had not.
    pub(in crate::sim) fn was_not_stored_of(&self, id: WriteId) -> bool {
        self.dots_of(id).any(|dot| self.unstored.iter().any(|(_, other)| *other == dot))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::causality::{Actor, NodeTag};
    use crate::hash::{Key, PartitionId};
    use crate::sim::oracle::{Claim, Violation};

    /// What is found of a write that its leader carries out again after its restart, where it had
    /// `stored` the first try, and may have lost something.
    fn again_after_restart(stored: bool, forgot: bool) -> Vec<Violation> {
        let (key, value, partition) = (Key::plain("k"), Bytes::from("v"), PartitionId(0));
        let mut history = History::default();
        history.begin(WriteId(1), key.clone(), Claim::Known, false);
        history.named(&[WriteId(1)], RequestId(9));
        for epoch in [1, 2] {
            let dot = Dot { actor: Actor::new(NodeTag(7), epoch), seq: 1 };
            history.minted(Mint {
                place: 0,
                partition,
                dot,
                key: &key,
                value: Some(&value),
                expiry_ms: 0,
                replaced: &[],
                at_the_cap: false,
                request: Some(RequestId(9)),
                write: Some(WriteId(1)),
            });
            if stored {
                history.stored(0, partition, dot);
            }
            if forgot {
                history.forgot(0);
            }
        }
        history.violations().to_vec()
    }

    #[test]
    fn what_a_leader_has_on_its_disk_it_must_remember_after_a_restart() {
        let found = again_after_restart(true, false);
        assert_eq!(found.iter().map(|one| one.invariant).collect::<Vec<_>>(), [ONCE]);
        assert!(again_after_restart(false, false).is_empty());
        assert!(again_after_restart(true, true).is_empty());
    }
}
