//! The only place that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time::{Mono, Now};

/// The clocks of one process. Cheap to copy; all copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// Clocks whose monotonic time starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the shell reads the clock, here and nowhere else"
    )]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both kinds of time, now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the shell reads the clock, here and nowhere else"
    )]
    pub(crate) fn now(self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono: self.mono(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }

    /// Monotonic time, now.
    pub(crate) fn mono(self) -> Mono {
        Mono(u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// When `at` is, as the timers of the runtime count.
    pub(crate) fn instant(self, at: Mono) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + Duration::from_micros(at.0))
    }
}
