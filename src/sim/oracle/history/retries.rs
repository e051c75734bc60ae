//! Writes that clients send several times under one id.
//!
//! Invariant A1: a leader that remembers a request carries it out once. Two leaders may carry out
//! one request each, and readers are shown one of the two (docs/consistency.md).

use super::{History, Mint, WriteId};

impl History {
    /// A write has an id.
    pub(in crate::sim) fn named(&mut self, id: WriteId) {
        self.named.insert(id);
    }

    /// A leader is about to carry out a write.
    pub(super) fn check_once(&mut self, mint: &Mint<'_>) {
        let Some(id) = mint.write.filter(|id| self.named.contains(id)) else { return };
        let actor = mint.dot.actor;
        let earlier = self.dots_of(id).find(|dot| dot.actor == actor && *dot != mint.dot);
        if let Some(earlier) = earlier {
            let text = format!("{} carries out again what {earlier} did", mint.dot);
            self.violate("A1 a leader carries a request out once", mint.key, text);
        }
    }

    /// Whether a disk said that it had stored an event of this write, and had not.
    pub(in crate::sim) fn was_not_stored_of(&self, id: WriteId) -> bool {
        self.dots_of(id).any(|dot| self.unstored.iter().any(|(_, other)| *other == dot))
    }
}
