//! The two kinds of time, and the hybrid logical clock that orders what is shown.
//!
//! Monotonic time never goes back and is used for every deadline and timer; wall time may jump and
//! is used for nothing but display, expiry and the hybrid clock. Both are inputs: only the shell
//! reads a clock.

use serde::{Deserialize, Serialize};

/// Monotonic time of one process, in microseconds since an arbitrary start.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Mono(pub u64);

impl Mono {
    /// This instant and `ms` milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000)))
    }

    /// Milliseconds from `earlier` to this instant, rounded down; 0 if it lies before.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }
}

/// What the shell tells the core about time at each step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Never goes back.
    pub mono: Mono,
    /// Milliseconds since the Unix epoch; may jump in both directions.
    pub unix_ms: u64,
}

/// A hybrid logical timestamp: 48 bits of milliseconds since the Unix epoch, 16 bits of counter.
///
/// It orders versions for display and dates expiry. It never decides causality.
/// Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The wall-clock half, in milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> u64 {
        self.0 >> 16
    }

    /// The first timestamp of a millisecond.
    pub fn from_unix_ms(unix_ms: u64) -> Self {
        Self(unix_ms << 16)
    }
}

/// Largest lead of a received timestamp over the own wall clock that is adopted, in milliseconds.
pub const SKEW_MS_MAX: u64 = 500;

/// The hybrid clock of one shard or control plane.
#[derive(Clone, Debug, Default)]
pub struct HlcClock {
    latest: Hlc,
}

impl HlcClock {
    /// A clock that issues nothing at or below `floor`.
    pub fn starting_after(floor: Hlc) -> Self {
        Self { latest: floor }
    }

    /// A new timestamp, larger than every one issued or adopted before.
    pub fn tick(&mut self, now: Now) -> Hlc {
        let next = Hlc(self.latest.0 + 1);
        self.latest = next.max(Hlc::from_unix_ms(now.unix_ms));
        self.latest
    }

    /// Takes note of a timestamp from elsewhere. One that leads the wall clock by more than
    /// [`SKEW_MS_MAX`] is not adopted, and `false` is returned: somebody's clock is wrong.
    pub fn observe(&mut self, seen: Hlc, now: Now) -> bool {
        if seen.unix_ms() > now.unix_ms.saturating_add(SKEW_MS_MAX) {
            return false;
        }
        self.latest = self.latest.max(seen);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_grows_while_the_wall_clock_stands_or_leaps_back() {
        let mut clock = HlcClock::default();
        let mut last = Hlc::default();
        for unix_ms in [1_000, 1_000, 1_001, 500, 500, 2_000] {
            let next = clock.tick(Now { mono: Mono(0), unix_ms });
            assert!(next > last);
            last = next;
        }
        assert_eq!(last.unix_ms(), 2_000);
    }

    #[test]
    fn a_timestamp_far_ahead_is_not_adopted() {
        let mut clock = HlcClock::default();
        let now = Now { mono: Mono(0), unix_ms: 1_000 };
        assert!(!clock.observe(Hlc::from_unix_ms(1_000 + SKEW_MS_MAX + 1), now));
        assert!(clock.observe(Hlc::from_unix_ms(1_000 + SKEW_MS_MAX), now));
        assert!(clock.tick(now) > Hlc::from_unix_ms(1_000 + SKEW_MS_MAX));
    }
}
