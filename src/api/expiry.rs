//! When a value ends: what a client asks for, and what its leader makes of it.
//!
//! An expiry is absolute and stored in the version, so that all replicas agree on it. What a client
//! gives relatively, the leader of the write turns into a time by its own clock. A value is over at
//! its expiry, not only after it; by whose clock, docs/consistency.md says.

use serde::{Deserialize, Serialize};

use crate::causality::Entry;

/// The last instant that an expiry can name, in milliseconds since the Unix epoch: what Redis
/// clients can write.
pub const EXPIRY_MS_MAX: u64 = u64::MAX / 2;

/// Longest life that can be said in seconds, in milliseconds: a thousand years.
const TTL_MS_MAX: u64 = 1_000 * 365 * 86_400_000;

/// What a life in seconds may be, for messages.
pub const TTL_WORDS: &str =
    "a number of seconds from 0.001 to a thousand years, with at most three decimals";

/// When a new value is to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expiry {
    /// Never.
    #[default]
    Never,
    /// When the value ends that its leader shows of the key; never where there is none.
    Kept,
    /// So many milliseconds after its leader writes it, at least 1.
    After(u64),
    /// At this instant, in milliseconds since the Unix epoch. One that lies in the past makes the
    /// write a delete.
    At(u64),
}

impl Expiry {
    /// After a decimal number of seconds; `None` = it is not as [`TTL_WORDS`] says.
    pub fn after_seconds(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) {
            return None;
        }
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > 3 {
            return None;
        }
        let parts: u64 = format!("{decimals:0<3}").parse().ok()?;
        let ms = whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(parts)?;
        (1..=TTL_MS_MAX).contains(&ms).then_some(Self::After(ms))
    }

    /// What the entry of a write keeps: milliseconds since the Unix epoch; 0 = never. `shown` is
    /// what the leader shows of the key, by the clock that says `unix_ms`.
    pub fn at_leader(self, unix_ms: u64, shown: Option<&Entry>) -> u64 {
        match self {
            Self::Never => 0,
            Self::Kept => shown.map_or(0, |entry| entry.expiry_ms),
            Self::After(ms) => unix_ms.saturating_add(ms).clamp(1, EXPIRY_MS_MAX),
            Self::At(at_ms) => at_ms.clamp(1, EXPIRY_MS_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::causality::{Actor, Dot};
    use crate::time::Hlc;

    #[test]
    fn seconds_are_exact_and_nothing_else_is_taken() {
        let after = |text| Expiry::after_seconds(text);
        assert_eq!(after("5"), Some(Expiry::After(5_000)));
        assert_eq!(after("0.5"), Some(Expiry::After(500)));
        assert_eq!(after("1.2340"), Some(Expiry::After(1_234)));
        assert_eq!(after("31536000000"), Some(Expiry::After(TTL_MS_MAX)));
        for text in ["", "0", "0.0001", "-1", "+1", "1.", ".5", "1e3", "1.2345", "31536000001"] {
            assert_eq!(after(text), None, "{text}");
        }
    }

    #[test]
    fn a_leader_makes_an_instant_of_what_a_client_asks_for() {
        let dot = Dot { actor: Actor(1), seq: 1 };
        let shown = Entry { expiry_ms: 7, ..Entry::register(dot, Hlc(1), Bytes::new()) };
        assert_eq!(Expiry::Never.at_leader(100, Some(&shown)), 0);
        assert_eq!(Expiry::Kept.at_leader(100, Some(&shown)), 7);
        assert_eq!(Expiry::Kept.at_leader(100, None), 0);
        assert_eq!(Expiry::After(5).at_leader(100, None), 105);
        assert_eq!(Expiry::After(u64::MAX).at_leader(100, None), EXPIRY_MS_MAX);
        assert_eq!(Expiry::At(0).at_leader(100, None), 1, "0 stands for never");
    }
}
