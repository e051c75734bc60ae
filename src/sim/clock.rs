//! The wall clock of one computer: it may be wrong, run fast or slow, or stand still. What measures
//! spans of time is another clock, and right.

/// Unix time at which every simulation begins, in milliseconds: 2026-01-01T00:00:00Z.
pub(super) const UNIX_MS_START: u64 = 1_767_225_600_000;

/// A wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WallClock {
    /// By how much it is ahead, in milliseconds.
    pub(super) skew_ms: i64,
    /// Since when it gains how many parts in a million.
    drift: (u64, i64),
    /// From when until when it stands still.
    frozen: Option<(u64, u64)>,
}

impl WallClock {
    /// It gains so many parts in a million from now on.
    pub(super) fn drift(&mut self, now_us: u64, ppm: i64) {
        self.skew_ms += self.gained_ms(now_us);
        self.drift = (now_us, ppm);
    }

    /// It stands still for so long.
    pub(super) fn freeze(&mut self, now_us: u64, span_us: u64) {
        self.frozen = Some((now_us, now_us + span_us));
    }

    /// What it shows, in milliseconds since the Unix epoch.
    pub(super) fn unix_ms(&self, now_us: u64) -> u64 {
        let seen_us = match self.frozen {
            Some((from_us, until_us)) if now_us < until_us => from_us.min(now_us),
            Some(_) | None => now_us,
        };
        let right = UNIX_MS_START + seen_us / 1_000;
        right.saturating_add_signed(self.skew_ms + self.gained_ms(seen_us))
    }

    fn gained_ms(&self, now_us: u64) -> i64 {
        let (since_us, ppm) = self.drift;
        let span_ms = i64::try_from(now_us.saturating_sub(since_us) / 1_000).unwrap_or(i64::MAX);
        span_ms.saturating_mul(ppm) / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_drifts_stands_still_and_jumps_to_where_it_should_be() {
        let mut clock = WallClock::default();
        let second = 1_000_000;
        let shown = |clock: &WallClock, now_us| clock.unix_ms(now_us) - UNIX_MS_START;
        clock.drift(0, 50_000);
        assert_eq!(shown(&clock, 100 * second), 105_000);
        clock.drift(100 * second, 0);
        assert_eq!(shown(&clock, 200 * second), 205_000);
        clock.freeze(200 * second, 10 * second);
        assert_eq!(shown(&clock, 209 * second), 205_000);
        assert_eq!(shown(&clock, 211 * second), 216_000);
    }
}
