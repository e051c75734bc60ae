//! E1: nothing is shown after its time, by the clock of the node that answers; E2: what a replica
//! has taken away because it was over does not come back to it.
//!
//! What is over by any clock may be gone, for replicas take it away by their own clocks
//! (docs/consistency.md, "Values that end"). Then it counts as deleted, together with what it had
//! replaced: from the first instant at which any clock says so, and only if it was written by then.

use super::{Event, History};
use crate::api::RequestId;
use crate::causality::Dot;
use crate::hash::{Key, PartitionId};

const E1: &str = "E1 nothing is shown after its time";

impl History {
    /// The latest that any clock shows now.
    pub fn note_time(&mut self, unix_ms: u64) {
        while let Some(entry) = self.ends.first_entry().filter(|entry| *entry.key() <= unix_ms) {
            for event in entry.remove() {
                self.end(event);
            }
        }
    }

    /// Whether some value was written that ends.
    pub(in crate::sim) fn has_ends(&self) -> bool {
        !self.ends.is_empty() || self.keys.values().any(|facts| !facts.over.is_empty())
    }

    /// A write that a retry made twice has two ends, each by the clock of its leader, and may be
    /// over at either of them (docs/consistency.md): of two tries a reader is shown the last.
    fn end(&mut self, (partition, dot): Event) {
        let write = self.events.get(&(partition, dot)).and_then(|minted| minted.write);
        let tries = write.and_then(|id| self.writes.get(&id)).map(|write| write.dots.clone());
        for dot in tries.unwrap_or_default().into_iter().chain([dot]) {
            let Some(minted) = self.events.get(&(partition, dot)) else { continue };
            let facts = self.keys.entry(minted.key.clone()).or_default();
            facts.over.insert(dot);
            facts.deleted.insert(dot);
            facts.deleted.extend(minted.past.iter().chain(&minted.copies).chain(&minted.perhaps));
        }
    }

    /// A write was made once more: where it was over before, it still is.
    pub(super) fn end_again(&mut self, event: Event) {
        let Some(minted) = self.events.get(&event) else { return };
        let tries = minted.write.and_then(|id| self.writes.get(&id)).map(|write| &write.dots);
        let facts = self.keys.get(&minted.key);
        let is_over = |dot: &Dot| facts.is_some_and(|facts| facts.over.contains(dot));
        if tries.is_some_and(|tries| tries.iter().any(is_over)) {
            self.end(event);
        }
    }

    /// The leader of another try found that its value was over before it was written: all that is
    /// left of that try is a delete.
    pub(super) fn end_at_once(&mut self, key: &Key, dot: Dot, request: RequestId) {
        let Some(facts) = self.keys.get_mut(key) else { return };
        for id in &facts.writes {
            let Some(write) = self.writes.get_mut(id) else { continue };
            if self.named.get(id) == Some(&request) && !write.dots.is_empty() {
                facts.deleted.extend(&write.dots);
                write.dots.insert(dot);
                facts.over.insert(dot);
            }
        }
    }

    /// Whether an event is over by any clock.
    pub(in crate::sim) fn is_over(&self, key: &Key, dot: Dot) -> bool {
        self.keys.get(key).is_some_and(|facts| facts.over.contains(&dot))
    }

    /// A node whose clock said `unix_ms` showed these values of a key: each was made by some event
    /// that was not over for it.
    pub fn check_living(
        &mut self,
        partition: PartitionId,
        key: &Key,
        values: &[bytes::Bytes],
        unix_ms: u64,
    ) {
        let Some(facts) = self.keys.get(key) else { return };
        let is_over = |dot: &Dot| {
            let event = self.events.get(&(partition, *dot));
            event.is_some_and(|event| event.expiry_ms != 0 && event.expiry_ms <= unix_ms)
        };
        let over = values.iter().find(|value| {
            let dots = facts.by_value.get(*value);
            dots.is_some_and(|dots| !dots.is_empty() && dots.iter().all(is_over))
        });
        if let Some(value) = over {
            let text = format!("{} was shown at {unix_ms} ms and was over", value.escape_ascii());
            self.violate(E1, key, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::*;
    use super::E1;
    use crate::causality::Actor;

    const HOME: PartitionId = PartitionId(0);

    /// A value without an end, and one that ends at 100 and took its place; both acknowledged.
    fn history() -> (History, Key, [Bytes; 2]) {
        let key = Key::plain("k");
        let mut history = History::default();
        let dots = [1, 2].map(|seq| Dot { actor: Actor(1), seq });
        let values = [Bytes::from_static(b"first"), Bytes::from_static(b"second")];
        for (index, (dot, value)) in dots.into_iter().zip(&values).enumerate() {
            let id = WriteId(dot.seq);
            history.begin(id, key.clone(), Claim::Known, false);
            history.minted(Mint {
                place: 0,
                partition: HOME,
                dot,
                key: &key,
                value: Some(value),
                expiry_ms: if index == 0 { 0 } else { 100 },
                replaced: &dots[..index],
                at_the_cap: false,
                request: None,
                write: Some(id),
            });
            history.stored(0, HOME, dot);
            history.told(id, Fate::Acknowledged, 10, true);
        }
        (history, key, values)
    }

    fn found(history: &History) -> Vec<&'static str> {
        history.violations().iter().map(|violation| violation.invariant).collect()
    }

    #[test]
    fn what_is_over_by_a_clock_may_be_gone_with_what_it_had_replaced() {
        let (mut history, key, _) = history();
        history.note_time(99);
        history.settled(HOME, &key, &[]);
        assert_eq!(found(&history), ["D1 nothing acknowledged is lost"; 2]);
        let (mut history, key, values) = self::history();
        history.note_time(100);
        history.settled(HOME, &key, &[]);
        history.shown(HOME, &key, &[], Some(Reader { began_us: 11, majority: true }));
        assert_eq!(found(&history), [""; 0]);
        history.settled(HOME, &key, &values[..1]);
        assert_eq!(found(&history), ["T1 nothing replaced returns"]);
    }

    #[test]
    fn a_write_that_was_made_twice_may_be_over_at_either_of_its_ends() {
        let (mut history, key, values) = history();
        history.note_time(100);
        let dot = Dot { actor: Actor(2), seq: 1 };
        history.minted(Mint {
            place: 0,
            partition: HOME,
            dot,
            key: &key,
            value: Some(&values[1]),
            expiry_ms: 900,
            replaced: &[],
            at_the_cap: false,
            request: None,
            write: Some(WriteId(2)),
        });
        history.stored(0, HOME, dot);
        assert!(history.is_over(&key, dot));
        history.check_living(HOME, &key, &values[1..], 100);
        assert_eq!(found(&history), [""; 0], "one of its tries lives on");
        history.check_living(HOME, &key, &values[1..], 900);
        assert_eq!(found(&history), [E1]);
    }

    #[test]
    fn what_is_shown_after_its_time_is_found() {
        let (mut history, key, values) = history();
        history.check_living(HOME, &key, &values, 99);
        history.check_living(HOME, &key, &values[..1], 100);
        assert_eq!(found(&history), [""; 0]);
        history.check_living(HOME, &key, &values, 100);
        assert_eq!(found(&history), [E1]);
    }
}
