//! What is known of a key under load, and whether what is read later can be.
//!
//! A key has one writer and its values are growing numbers. So what may be read after a crash is an
//! interval: from the last number that was acknowledged to the last one tried, without those that
//! were refused. After a write whose outcome is unknown its key rests until it was read, as such a
//! write may still arrive.

use std::collections::BTreeSet;

/// A key, or the keys of one batch, which are written together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// The last number that was acknowledged or read; 0: none.
    acked: u64,
    /// The last number that was sent.
    tried: u64,
    /// Numbers that were refused since: they must never be seen.
    refused: BTreeSet<u64>,
    /// Whether a write with an unknown outcome is about.
    rests: bool,
}

/// What reading it has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What had to be there was.
    Kept,
    /// Something acknowledged is gone.
    Lost,
    /// Something is there that was refused, or never written.
    Wrong,
    /// The keys of one batch differ.
    Half,
}

impl Fate {
    /// The number to write next; `None` while the key rests.
    pub(crate) fn begin(&mut self) -> Option<u64> {
        if self.rests {
            return None;
        }
        self.tried += 1;
        Some(self.tried)
    }

    /// The last number begun was acknowledged.
    pub(crate) fn on_acked(&mut self) {
        self.acked = self.tried;
        self.refused.clear();
    }

    /// The last number begun was refused.
    pub(crate) fn on_refused(&mut self) {
        self.refused.insert(self.tried);
    }

    /// Nobody says what became of the last number begun.
    pub(crate) fn on_unknown(&mut self) {
        self.rests = true;
    }

    /// Judges what was read of each of its keys, 0 where a key is absent. What was read is the new
    /// floor: it may not go again.
    pub(crate) fn judge(&mut self, found: &[u64]) -> Verdict {
        let first = found.first().copied().unwrap_or(0);
        let verdict = if found.iter().any(|&number| number != first) {
            Verdict::Half
        } else if first < self.acked {
            Verdict::Lost
        } else if first > self.tried || self.refused.contains(&first) {
            Verdict::Wrong
        } else {
            Verdict::Kept
        };
        self.acked = first.max(self.acked);
        self.refused.clear();
        self.rests = false;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fate after numbers with these outcomes: acked, refused, unknown.
    fn after(outcomes: &str) -> Fate {
        let mut fate = Fate::default();
        for outcome in outcomes.chars() {
            fate.begin().unwrap();
            match outcome {
                'a' => fate.on_acked(),
                'r' => fate.on_refused(),
                'u' => fate.on_unknown(),
                other => panic!("{other} is no outcome"),
            }
        }
        fate
    }

    fn check(outcomes: &str, found: &[u64], expected: Verdict) {
        assert_eq!(after(outcomes).judge(found), expected, "{outcomes} and then {found:?}");
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        check("aa", &[2], Verdict::Kept);
        check("aa", &[1], Verdict::Lost);
        check("aa", &[0], Verdict::Lost);
        check("", &[0], Verdict::Kept);
    }

    #[test]
    fn an_unknown_write_may_be_there_and_a_refused_one_may_not() {
        check("au", &[1], Verdict::Kept);
        check("au", &[2], Verdict::Kept);
        check("ar", &[2], Verdict::Wrong);
        check("arar", &[2], Verdict::Lost);
        check("a", &[2], Verdict::Wrong);
    }

    #[test]
    fn a_batch_is_there_whole_or_not_at_all_whatever_became_of_it() {
        check("au", &[2, 2], Verdict::Kept);
        check("au", &[1, 2], Verdict::Half);
    }

    #[test]
    fn a_key_rests_until_it_was_read_and_then_keeps_what_was_seen() {
        let mut fate = after("u");
        assert_eq!(fate.begin(), None);
        assert_eq!(fate.judge(&[1]), Verdict::Kept);
        assert_eq!(fate.clone().judge(&[0]), Verdict::Lost);
        assert_eq!(fate.begin(), Some(2));
    }
}
