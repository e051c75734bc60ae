//! What ends, and when it is taken away for good.
//!
//! Readers hide what is over; some time later every replica takes it away, by its own clock and by
//! itself. That is no delete: no event is minted for it. The entry goes, its event stays covered by
//! the clock of the partition, and so whoever still holds it loses it when the two are merged. Only
//! the event that is over goes; a later write of the key is another event, and stays.
//!
//! Invariants: a key with something that ends is looked at no later than that needs, under the same
//! rules as any input for it, so never while a batch holds it. What waits here is made of what the
//! table holds, so a start finds it again. Source: ours, after the deletes of `DottedDB`.

use std::collections::{BTreeMap, BTreeSet};

use super::table::{Lookup, Record, Table};
use super::{Shard, Turn};
use crate::causality::Object;
use crate::hash::Token;
use crate::limits::{EXPIRED_KEPT_MS, EXPIRED_LOOK_MS, EXPIRED_RECORDS_MAX, UNDURABLE_BYTES_MAX};
use crate::marks::sometimes;
use crate::time::{Mono, Now};

/// Pause between two slices where more is due than one takes.
const SLICE_PAUSE_MS: u64 = 5;

/// The tokens of keys with something that ends.
#[derive(Debug, Default)]
pub(super) struct Expiring {
    /// When each token is to be looked at, in milliseconds since the Unix epoch, the first one
    /// first. Each stands here once.
    due: BTreeSet<(u64, Token)>,
    at: BTreeMap<Token, u64>,
    /// Those whose record has been asked for.
    cold: BTreeSet<Token>,
    /// When the clock is looked at next; `None` = as soon as there is anything.
    next_look: Option<Mono>,
}

impl Expiring {
    /// A record was put, or is there at the start.
    pub(super) fn note(&mut self, token: Token, object: &Object) {
        let ends = object.entries.iter().map(|entry| entry.expiry_ms).filter(|&ms| ms != 0).min();
        if let Some(expiry_ms) = ends {
            self.note_end(token, expiry_ms);
        }
    }

    /// Something of a token ends at `expiry_ms`.
    pub(super) fn note_end(&mut self, token: Token, expiry_ms: u64) {
        self.look_at(token, expiry_ms.saturating_add(EXPIRED_KEPT_MS));
    }

    fn look_at(&mut self, token: Token, unix_ms: u64) {
        let known = self.at.get(&token).copied();
        if known.is_some_and(|known| known <= unix_ms) {
            return;
        }
        if let Some(known) = known {
            self.due.remove(&(known, token));
        }
        self.at.insert(token, unix_ms);
        self.due.insert((unix_ms, token));
    }

    fn take_due(&mut self, unix_ms: u64) -> Option<Token> {
        let &(at_ms, token) = self.due.first().filter(|(at_ms, _)| *at_ms <= unix_ms)?;
        self.due.remove(&(at_ms, token));
        self.at.remove(&token);
        Some(token)
    }

    /// When a `Tick` is due for it.
    pub(super) fn deadline(&self) -> Option<Mono> {
        (!self.due.is_empty()).then(|| self.next_look.unwrap_or_default())
    }

    /// Plans the next look: a wall clock may jump, so it is looked at now and then.
    fn plan(&mut self, now: Now) {
        self.next_look = self.due.first().map(|&(at_ms, _)| {
            let left_ms = at_ms.saturating_sub(now.unix_ms);
            now.mono.plus_ms(left_ms.clamp(SLICE_PAUSE_MS, EXPIRED_LOOK_MS))
        });
    }
}

impl Shard {
    /// Takes away what is over, a slice at a time.
    pub(super) fn purge<T: Table>(&mut self, turn: &mut Turn<'_, T>) {
        if self.partitions.expiring.deadline().is_none_or(|deadline| deadline > turn.now.mono) {
            return;
        }
        for _ in 0..EXPIRED_RECORDS_MAX {
            let Some(token) = self.partitions.expiring.take_due(turn.now.unix_ms) else { break };
            self.purge_token(turn, token);
        }
        self.partitions.expiring.plan(turn.now);
    }

    /// A record is in memory in this very step, perhaps one that was to be looked at.
    pub(super) fn purge_fetched<T: Table>(&mut self, turn: &mut Turn<'_, T>, token: Token) {
        if self.partitions.expiring.cold.remove(&token) {
            sometimes!("what is over had to be read from the disk to be taken away");
            self.purge_token(turn, token);
        }
    }

    fn purge_token<T: Table>(&mut self, turn: &mut Turn<'_, T>, token: Token) {
        let Some(layout) = self.layout() else { return self.purge_later(turn, token) };
        let partition = token.partition(layout.partitions);
        let Some(owned) = self.partitions.owned(partition) else { return };
        let is_full = turn.table.undurable_bytes() > UNDURABLE_BYTES_MAX;
        // One that is being rebuilt does not know what it may say to be gone.
        if !owned.is_ready() || self.parked.blocks(token) || is_full {
            sometimes!("what is over stayed because its key was in use", owned.is_ready());
            return self.purge_later(turn, token);
        }
        let mut found = Vec::new();
        turn.table.page(token, token, 1, &mut found);
        let mut records = Vec::new();
        for entry in found {
            let (key, object) = match turn.table.read(&entry).0 {
                Some((key, Lookup::Found(object))) => (key, object),
                Some((_, Lookup::Cold)) => {
                    self.partitions.expiring.cold.insert(token);
                    continue;
                }
                Some((_, Lookup::Absent | Lookup::Unknown)) | None => continue,
            };
            let owned = self.partitions.owned(partition).expect("it is owned, see above");
            match owned.purged(key, &object, turn.now.unix_ms.saturating_sub(EXPIRED_KEPT_MS)) {
                Some(record) => records.push(record),
                None => self.partitions.expiring.note(token, &object),
            }
        }
        if !records.is_empty() {
            self.counters.expired += count(&records);
            self.partitions.store(turn.table, records, None);
        }
    }

    fn purge_later<T: Table>(&mut self, turn: &Turn<'_, T>, token: Token) {
        let at_ms = turn.now.unix_ms.saturating_add(EXPIRED_LOOK_MS);
        self.partitions.expiring.look_at(token, at_ms);
    }
}

fn count(records: &[Record]) -> u64 {
    let removed: usize = records.iter().map(|record| record.removed.len()).sum();
    u64::try_from(removed).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_looked_at_once_at_the_earliest_of_its_times() {
        let mut expiring = Expiring::default();
        let (one, other) = (Token(1), Token(2));
        for (token, expiry_ms) in [(one, 900), (one, 500), (one, 700), (other, 600)] {
            expiring.note_end(token, expiry_ms);
        }
        let due = |expiry_ms| expiry_ms + EXPIRED_KEPT_MS;
        assert_eq!(expiring.take_due(due(499)), None);
        assert_eq!(expiring.take_due(due(500)), Some(one));
        assert_eq!(expiring.take_due(due(599)), None, "later ones are noted when it is looked at");
        assert_eq!(expiring.take_due(due(600)), Some(other));
        assert!(expiring.due.is_empty());
        assert!(expiring.at.is_empty());
    }

    #[test]
    fn the_clock_is_looked_at_now_and_then_because_it_may_jump() {
        let mut expiring = Expiring::default();
        assert_eq!(expiring.deadline(), None);
        expiring.note_end(Token(1), 3_600_000);
        assert_eq!(expiring.deadline(), Some(Mono(0)), "nothing is planned yet");
        let now = Now { mono: Mono(1_000_000), unix_ms: 0 };
        expiring.plan(now);
        assert_eq!(expiring.deadline(), Some(now.mono.plus_ms(EXPIRED_LOOK_MS)));
    }
}
