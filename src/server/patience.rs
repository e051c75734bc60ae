//! When a client has kept its connection waiting for too long.
//!
//! Nothing here is a clock of its own: a shard looks at each of its connections a few times a
//! second, and tells what has happened since the last look. What makes progress has more time, so
//! that a large value over a slow line arrives, and a byte now and then does not hold a place.
//! A connection that is silent between two requests may stay for ever.

use crate::config::Config;
use crate::limits::{PRESSED_MS, SLOW_BYTES_PER_MS};
use crate::time::Mono;

/// How long a client may keep a connection waiting, in milliseconds each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until its first request is whole.
    first_request: u64,
    /// Until it has shown its token, where one is needed.
    auth: u64,
    /// From the first byte of a request to its last.
    request: u64,
    /// Until it has read what waits for it.
    unread: u64,
}

/// What a look at a connection shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// It has shown the token that it must.
    pub(super) is_let_in: bool,
    /// Whole requests that it has sent.
    pub(super) calls: u64,
    /// It has sent a part of a request, and the rest is awaited.
    pub(super) is_partial: bool,
    /// Bytes that it has sent.
    pub(super) heard_bytes: u64,
    /// Answers wait to be read.
    pub(super) is_unread: bool,
    /// Bytes that it has read, as far as the kernel knows.
    pub(super) told_bytes: u64,
}

/// What a connection took too long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// To send a first request.
    FirstRequest,
    /// To show its token.
    Token,
    /// To send the rest of a request.
    Request,
    /// To read its answers.
    Answers,
}

/// What is remembered of a connection from look to look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    opened: Mono,
    calls: u64,
    /// Since when a request is partial.
    partial: Option<Since>,
    /// Since when answers wait.
    unread: Option<Since>,
}

#[derive(Clone, Copy, Debug)]
struct Since {
    at: Mono,
    /// Bytes that had gone the same way before.
    bytes: u64,
}

impl Patience {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            first_request: config.first_request_ms,
            auth: config.auth_ms,
            request: config.request_ms,
            unread: config.unread_ms,
        }
    }
}

impl Overdue {
    /// What the client is told, if anything can be told to it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::FirstRequest => "no request came in the time for the first one; connect again",
            Self::Token => "no token was shown in the time for it; connect again and AUTH first",
            Self::Request => {
                "the rest of the request did not come in time; nothing of it was applied"
            }
            Self::Answers => "answers were not read in time",
        }
    }
}

impl Watch {
    /// Of a connection that opens now.
    pub(super) fn new(now: Mono) -> Self {
        Self { opened: now, calls: 0, partial: None, unread: None }
    }

    /// Looks at the connection. What it took too long for, if it did.
    pub(super) fn look(&mut self, now: Mono, sight: Sight, patience: Patience) -> Option<Overdue> {
        let is_same = self.calls == sight.calls;
        self.calls = sight.calls;
        let kept = self.partial.filter(|_| is_same);
        self.partial =
            sight.is_partial.then(|| kept.unwrap_or(Since { at: now, bytes: sight.heard_bytes }));
        self.unread = sight
            .is_unread
            .then(|| self.unread.unwrap_or(Since { at: now, bytes: sight.told_bytes }));
        let age_ms = now.ms_since(self.opened);
        let is_over = |since: Option<Since>, bytes: u64, allowed_ms: u64| {
            since.is_some_and(|since| {
                let moved = bytes.saturating_sub(since.bytes);
                let more_ms = moved / SLOW_BYTES_PER_MS;
                now.ms_since(since.at) > allowed_ms.saturating_add(more_ms)
            })
        };
        if !sight.is_let_in && age_ms > patience.auth {
            Some(Overdue::Token)
        } else if sight.calls == 0 && !sight.is_partial && age_ms > patience.first_request {
            Some(Overdue::FirstRequest)
        } else if is_over(self.partial, sight.heard_bytes, patience.request) {
            Some(Overdue::Request)
        } else if is_over(self.unread, sight.told_bytes, patience.unread) {
            Some(Overdue::Answers)
        } else {
            None
        }
    }

    /// Whether it has kept its bytes for so long that they may be taken where memory is short.
    pub(super) fn is_idling(&self, now: Mono) -> bool {
        [self.partial, self.unread]
            .into_iter()
            .flatten()
            .any(|since| now.ms_since(since.at) >= PRESSED_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { first_request: 500, auth: 300, request: 1_000, unread: 2_000 };
    const QUIET: Sight = Sight {
        is_let_in: true,
        calls: 1,
        is_partial: false,
        heard_bytes: 10,
        is_unread: false,
        told_bytes: 10,
    };

    /// When a connection is found overdue that is looked at each 100 ms for a minute.
    fn overdue_at(sight: impl Fn(u64) -> Sight) -> Option<(u64, Overdue)> {
        let mut watch = Watch::new(Mono(0));
        (0..600).map(|look| look * 100).find_map(|ms| {
            watch.look(Mono(0).plus_ms(ms), sight(ms), PATIENCE).map(|overdue| (ms, overdue))
        })
    }

    #[test]
    fn who_is_silent_between_requests_stays() {
        assert_eq!(overdue_at(|_| QUIET), None);
    }

    #[test]
    fn a_first_request_and_a_token_are_awaited_for_so_long() {
        let silent = Sight { calls: 0, heard_bytes: 0, told_bytes: 0, ..QUIET };
        assert_eq!(overdue_at(|_| silent), Some((600, Overdue::FirstRequest)));
        // Whatever it sends, without a token it must go.
        let stranger = |ms| Sight { is_let_in: false, calls: ms, ..QUIET };
        assert_eq!(overdue_at(stranger), Some((400, Overdue::Token)));
    }

    #[test]
    fn a_request_that_trickles_is_given_up_and_one_that_flows_is_awaited() {
        let partial = |rate: u64| {
            move |ms: u64| Sight { is_partial: true, heard_bytes: ms * rate, calls: 0, ..QUIET }
        };
        assert_eq!(overdue_at(partial(0)), Some((1_100, Overdue::Request)));
        let (at, overdue) = overdue_at(partial(SLOW_BYTES_PER_MS / 2)).unwrap();
        assert_eq!(overdue, Overdue::Request);
        assert!((2_000..2_300).contains(&at), "{at}");
        assert_eq!(overdue_at(partial(SLOW_BYTES_PER_MS)), None);
        // One request after the other, each seen when a part of it is there.
        let busy = |ms| Sight { is_partial: true, calls: ms / 900, ..QUIET };
        assert_eq!(overdue_at(busy), None);
    }

    #[test]
    fn answers_that_stay_unread_end_the_connection() {
        let unread = |rate: u64| {
            move |ms: u64| Sight { is_unread: true, told_bytes: ms * rate, calls: ms, ..QUIET }
        };
        assert_eq!(overdue_at(unread(0)), Some((2_100, Overdue::Answers)));
        assert!(overdue_at(unread(1)).is_some_and(|(at, _)| at < 3_000));
        assert_eq!(overdue_at(unread(SLOW_BYTES_PER_MS)), None);
        // Read to the end now and then: each time is counted afresh.
        let slow = |ms| Sight { is_unread: ms % 1_500 != 0, calls: ms, ..QUIET };
        assert_eq!(overdue_at(slow), None);
    }

    #[test]
    fn where_memory_is_short_a_second_is_long() {
        let mut watch = Watch::new(Mono(0));
        let partial = Sight { is_partial: true, ..QUIET };
        watch.look(Mono(0), partial, PATIENCE);
        assert!(!watch.is_idling(Mono(0).plus_ms(PRESSED_MS - 1)));
        assert!(watch.is_idling(Mono(0).plus_ms(PRESSED_MS)));
        watch.look(Mono(0).plus_ms(PRESSED_MS), Sight { calls: 2, ..partial }, PATIENCE);
        assert!(!watch.is_idling(Mono(0).plus_ms(PRESSED_MS)));
    }
}
