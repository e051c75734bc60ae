//! The exact causal history of every key: which write knew of which, what was promised of it, and
//! what must therefore still be there.
//!
//! Nodes reason with clocks and contexts; this oracle keeps the plain sets that those stand for.
//! It learns of a write when its leader mints it (dot, what it replaced) and when its client is
//! told the outcome. Invariants D1 (nothing acknowledged is lost), D2 (siblings are exact), D3 (a
//! dot names one write), T1 (nothing deleted returns) and the promise of REFUSED.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use crate::causality::Dot;
use crate::hash::{Key, PartitionId};

/// One operation of a client that writes: a retry has the id of what it retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet, or that the outcome is unknown.
    Open,
    /// It is durable on as many replicas as were asked for.
    Acknowledged,
    /// It was not applied and never will be.
    Refused,
}

/// What a writer said that it knew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Whatever its leader held.
    Known,
    /// Just these events: what it was shown, with all that they had replaced.
    Seen(BTreeSet<Dot>),
}

/// A broken promise, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// The key that it is about.
    pub key: Key,
    /// What happened.
    pub text: String,
}

/// All writes of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    writes: BTreeMap<WriteId, Write>,
    events: BTreeMap<Event, Minted>,
    keys: BTreeMap<Key, BTreeSet<Dot>>,
    violations: Vec<Violation>,
}

/// Dots are minted per partition.
type Event = (PartitionId, Dot);

#[derive(Clone, Debug)]
struct Write {
    key: Key,
    claim: Claim,
    fate: Fate,
    dots: BTreeSet<Dot>,
}

#[derive(Clone, Debug)]
struct Minted {
    key: Key,
    /// `None` = a delete.
    value: Option<Bytes>,
    /// Every event of this key that it knew of.
    past: BTreeSet<Dot>,
    write: Option<WriteId>,
    /// Whether some disk has stored it.
    stored: bool,
}

impl History {
    /// A client is about to send a write.
    pub fn begin(&mut self, id: WriteId, key: Key, claim: Claim) {
        let write = Write { key, claim, fate: Fate::Open, dots: BTreeSet::new() };
        self.writes.insert(id, write);
    }

    /// A leader minted an event: its value (`None` for a delete), the siblings that it replaced,
    /// and the write that it carries out, where the value tells.
    pub fn minted(
        &mut self,
        partition: PartitionId,
        dot: Dot,
        key: &Key,
        value: Option<Bytes>,
        replaced: &[Dot],
        write: Option<WriteId>,
    ) {
        if let Some(earlier) = self.events.get(&(partition, dot)) {
            let text = format!("{dot} was minted twice, first for {}", show(&earlier.key));
            self.violate("D3 a dot names one write", key, text);
            return;
        }
        let mut past: BTreeSet<Dot> = BTreeSet::new();
        for &other in replaced {
            past.insert(other);
            match self.events.get(&(partition, other)) {
                Some(event) => past.extend(&event.past),
                None => self.violate(
                    "D4 contexts are sound",
                    key,
                    format!("{dot} replaced {other}, which nobody minted"),
                ),
            }
        }
        if let Some(write) = write.and_then(|id| self.writes.get_mut(&id)) {
            write.dots.insert(dot);
            if let Claim::Seen(seen) = &write.claim
                && let Some(unseen) = replaced.iter().find(|other| !seen.contains(other))
            {
                let text = format!("{dot} replaced {unseen}, which its writer had not seen");
                self.violate("D2 no concurrent write is dropped", key, text);
            } else if let Claim::Seen(seen) = &write.claim {
                past.extend(seen);
            }
        }
        self.keys.entry(key.clone()).or_default().insert(dot);
        let minted = Minted { key: key.clone(), value, past, write, stored: false };
        self.events.insert((partition, dot), minted);
    }

    /// Some disk has stored this event.
    pub fn stored(&mut self, partition: PartitionId, dot: Dot) {
        if let Some(event) = self.events.get_mut(&(partition, dot)) {
            event.stored = true;
        }
    }

    /// The client was told.
    pub fn told(&mut self, id: WriteId, fate: Fate) {
        if let Some(write) = self.writes.get_mut(&id) {
            write.fate = fate;
        }
    }

    /// Everything that a reader knows who was shown these siblings.
    pub fn seen_by(&self, partition: PartitionId, siblings: &[Dot]) -> BTreeSet<Dot> {
        let mut seen = BTreeSet::new();
        for &dot in siblings {
            seen.insert(dot);
            if let Some(event) = self.events.get(&(partition, dot)) {
                seen.extend(&event.past);
            }
        }
        seen
    }

    /// A reader was shown these siblings of a key: each was minted for it with this value, and
    /// none of them knew of another.
    pub fn shown(&mut self, partition: PartitionId, key: &Key, siblings: &[(Dot, Bytes)]) {
        for (dot, value) in siblings {
            let right = self
                .events
                .get(&(partition, *dot))
                .is_some_and(|event| event.key == *key && event.value.as_ref() == Some(value));
            if !right {
                let text = format!("{dot} was shown with a value that it was not minted with");
                self.violate("W3 no wrong value is returned", key, text);
            }
        }
        for (dot, _) in siblings {
            let superseder = siblings.iter().find(|(other, _)| {
                self.events.get(&(partition, *other)).is_some_and(|event| event.past.contains(dot))
            });
            if let Some((other, _)) = superseder {
                let text = format!("{dot} is shown beside {other}, which had replaced it");
                self.violate("D2 siblings are exact", key, text);
            }
        }
    }

    /// What a key holds once everything that is left has met: must be exactly the stored events
    /// that no other stored event knew of.
    pub fn settled(&mut self, partition: PartitionId, key: &Key, live: &BTreeSet<Dot>) {
        let dots = self.keys.get(key).cloned().unwrap_or_default();
        let mut found = Vec::new();
        for &dot in &dots {
            let Some(event) = self.events.get(&(partition, dot)) else { continue };
            let write = event.write.and_then(|id| self.writes.get(&id));
            let superseder = dots.iter().find(|other| {
                self.events
                    .get(&(partition, **other))
                    .is_some_and(|event| event.stored && event.past.contains(&dot))
            });
            let fate = write.map_or(Fate::Open, |write| write.fate);
            // A retry made its write twice; the copies are one write, and one of them suffices.
            let survives_as_copy = write.is_some_and(|w| w.dots.iter().any(|d| live.contains(d)));
            match (live.contains(&dot), superseder) {
                (true, Some(other)) => {
                    found.push((
                        "T1 nothing replaced returns",
                        format!("{dot}, replaced by {other}, is back"),
                    ));
                }
                (true, None) if fate == Fate::Refused => {
                    found.push((
                        "V1 refused is never applied",
                        format!("{dot} was refused and is there"),
                    ));
                }
                (false, None)
                    if fate == Fate::Acknowledged && event.value.is_some() && !survives_as_copy =>
                {
                    found.push(("D1 nothing acknowledged is lost", format!("{dot} was acknowledged; nothing that is stored descends from it, and it is gone")));
                }
                _ => {}
            }
        }
        for (invariant, text) in found {
            self.violate(invariant, key, text);
        }
    }

    /// Every key that was written to.
    pub fn keys(&self) -> impl Iterator<Item = &Key> + '_ {
        self.keys.keys()
    }

    /// Number of writes whose clients were told OK.
    pub fn acknowledged(&self) -> usize {
        self.writes.values().filter(|write| write.fate == Fate::Acknowledged).count()
    }

    /// The key of a write.
    pub fn key_of(&self, id: WriteId) -> Option<&Key> {
        self.writes.get(&id).map(|write| &write.key)
    }

    /// What was found to be broken, in the order of its finding.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    fn violate(&mut self, invariant: &'static str, key: &Key, text: String) {
        self.violations.push(Violation { invariant, key: key.clone(), text });
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: key {}: {}", self.invariant, show(&self.key), self.text)
    }
}

fn show(key: &Key) -> String {
    key.bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::Actor;

    const HOME: PartitionId = PartitionId(0);

    fn dot(actor: u64, seq: u64) -> Dot {
        Dot { actor: Actor(actor), seq }
    }

    /// Two writes of one key; the second replaced `replaced`. Both stored and acknowledged.
    fn two_writes(replaced: &[Dot], claim: Claim) -> (History, Key) {
        let key = Key::plain("k");
        let mut history = History::default();
        for (id, dot, replaced, claim) in
            [(1, dot(1, 1), &[][..], Claim::Known), (2, dot(2, 1), replaced, claim)]
        {
            history.begin(WriteId(id), key.clone(), claim);
            let value = Some(Bytes::from(id.to_string()));
            history.minted(HOME, dot, &key, value, replaced, Some(WriteId(id)));
            history.stored(HOME, dot);
            history.told(WriteId(id), Fate::Acknowledged);
        }
        (history, key)
    }

    fn check(replaced: &[Dot], claim: Claim, live: &[Dot], expected: &[&str]) {
        let (mut history, key) = two_writes(replaced, claim);
        history.settled(HOME, &key, &live.iter().copied().collect());
        let found: Vec<&str> = history.violations().iter().map(|v| v.invariant).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn concurrent_writes_must_both_be_there_and_replaced_ones_must_not() {
        let (one, two) = (dot(1, 1), dot(2, 1));
        check(&[], Claim::Known, &[one, two], &[]);
        check(&[one], Claim::Known, &[two], &[]);
        check(&[], Claim::Known, &[two], &["D1 nothing acknowledged is lost"]);
        check(&[one], Claim::Known, &[one, two], &["T1 nothing replaced returns"]);
        let blind = Claim::Seen(BTreeSet::new());
        check(&[one], blind, &[two], &["D2 no concurrent write is dropped"]);
    }

    #[test]
    fn a_dot_that_is_minted_twice_is_found() {
        let (mut history, key) = two_writes(&[], Claim::Known);
        history.minted(HOME, dot(2, 1), &key, None, &[], None);
        assert_eq!(history.violations().len(), 1);
    }

    #[test]
    fn a_refused_write_must_never_be_there() {
        let (mut history, key) = two_writes(&[], Claim::Known);
        history.told(WriteId(2), Fate::Refused);
        history.settled(HOME, &key, &[dot(1, 1), dot(2, 1)].into());
        assert_eq!(history.violations()[0].invariant, "V1 refused is never applied");
    }

    #[test]
    fn siblings_of_which_one_knew_the_other_are_found() {
        let (mut history, key) = two_writes(&[dot(1, 1)], Claim::Known);
        history.shown(HOME, &key, &[(dot(1, 1), Bytes::from("1")), (dot(2, 1), Bytes::from("2"))]);
        assert_eq!(history.violations()[0].invariant, "D2 siblings are exact");
        history.shown(HOME, &key, &[(dot(2, 1), Bytes::from("forged"))]);
        assert_eq!(history.violations()[1].invariant, "W3 no wrong value is returned");
    }
}
