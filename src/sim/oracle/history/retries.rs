//! Writes that clients send several times under one id.
//!
//! Invariant A1: a leader that remembers an id carries out one request under it, once; but a batch
//! that is logged is carried out whatever else its id was used for meanwhile. Two leaders
//! may carry out one request each, and readers are shown one of the two
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
        let is_same = |dot: &Dot| dot.actor == mint.dot.actor && *dot != mint.dot;
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

    /// Whether a disk said that it had stored an event of this write, and had not.
    pub(in crate::sim) fn was_not_stored_of(&self, id: WriteId) -> bool {
        self.dots_of(id).any(|dot| self.unstored.iter().any(|(_, other)| *other == dot))
    }
}
