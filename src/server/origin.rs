//! Where connections come from: how many each address holds, and how many wrong tokens it sent.
//!
//! An IPv6 host owns a whole /64, so its addresses count as one. Both tables forget who is gone, so
//! they hold no more entries than there are connections, or failures within a minute.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::limits::{AUTH_FAILURES_MAX, AUTH_FAILURES_MS};
use crate::time::Mono;

/// An address, or the network that stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin(pub(crate) IpAddr);

/// Most origins whose wrong tokens are remembered; beyond it the oldest is forgotten.
const ORIGINS_MAX: usize = 10_000;

/// Wrong tokens by where they came from.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    by_origin: Mutex<BTreeMap<Origin, Failed>>,
    /// How many there are, so that where nobody failed nobody waits for the lock.
    origins: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    count: u32,
    /// When the first of them came.
    since: Mono,
}

impl Origin {
    /// What an address counts as.
    pub(crate) fn of(addr: IpAddr) -> Self {
        Self(match addr.to_canonical() {
            IpAddr::V6(addr) => {
                let network = addr.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            addr @ IpAddr::V4(_) => addr,
        })
    }

    /// Whether it is this machine.
    pub(crate) fn is_loopback(self) -> bool {
        // All but the network of an IPv6 address is gone, and ::1 is alone in its own.
        self.0.is_loopback() || self.0 == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    }
}

impl Failures {
    /// For how long, in milliseconds, no token from there is looked at; `None` = it is.
    pub(crate) fn denied_ms(&self, origin: Origin, now: Mono) -> Option<u64> {
        if self.origins.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let by_origin = self.by_origin.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = by_origin.get(&origin)?;
        let passed_ms = now.ms_since(failed.since);
        (failed.count >= AUTH_FAILURES_MAX && passed_ms < AUTH_FAILURES_MS)
            .then(|| AUTH_FAILURES_MS - passed_ms)
    }

    /// So many wrong tokens came from there.
    pub(crate) fn add(&self, origin: Origin, count: u32, now: Mono) {
        let mut by_origin = self.by_origin.lock().unwrap_or_else(PoisonError::into_inner);
        by_origin.retain(|_, failed| now.ms_since(failed.since) < AUTH_FAILURES_MS);
        if by_origin.len() >= ORIGINS_MAX && !by_origin.contains_key(&origin) {
            let oldest = by_origin.iter().min_by_key(|(_, failed)| failed.since);
            let oldest = oldest.map(|(&oldest, _)| oldest);
            oldest.and_then(|oldest| by_origin.remove(&oldest));
        }
        let failed = by_origin.entry(origin).or_insert(Failed { count: 0, since: now });
        let before = failed.count;
        failed.count = failed.count.saturating_add(count);
        if before < AUTH_FAILURES_MAX && failed.count >= AUTH_FAILURES_MAX {
            tracing::warn!(addr = %origin.0, "too many wrong tokens; AUTH waits for a minute");
            // The minute begins with the last of them.
            failed.since = now;
        }
        self.origins.store(by_origin.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    fn at(ms: u64) -> Mono {
        Mono(0).plus_ms(ms)
    }

    #[test]
    fn the_addresses_of_one_host_count_as_one() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_eq!(origin("::ffff:10.0.0.1"), origin("10.0.0.1"));
        assert_ne!(origin("10.0.0.1"), origin("10.0.0.2"));
        for text in ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(origin(text).is_loopback(), "{text}");
        }
        assert!(!origin("2001:db8::1").is_loopback());
        assert!(!origin("10.0.0.1").is_loopback());
    }

    #[test]
    fn five_wrong_tokens_in_a_minute_make_an_address_wait_for_a_minute() {
        let failures = Failures::default();
        let (bad, good) = (origin("10.0.0.1"), origin("10.0.0.2"));
        assert_eq!(failures.denied_ms(bad, at(0)), None);
        for second in 0..4 {
            failures.add(bad, 1, at(second * 1_000));
        }
        assert_eq!(failures.denied_ms(bad, at(4_000)), None);
        failures.add(bad, 1, at(5_000));
        assert_eq!(failures.denied_ms(bad, at(6_000)), Some(AUTH_FAILURES_MS - 1_000));
        assert_eq!(failures.denied_ms(good, at(6_000)), None);
        assert_eq!(failures.denied_ms(bad, at(5_000 + AUTH_FAILURES_MS)), None);
        failures.add(bad, 1, at(5_000 + AUTH_FAILURES_MS));
        assert_eq!(failures.denied_ms(bad, at(6_000 + AUTH_FAILURES_MS)), None);
    }

    #[test]
    fn wrong_tokens_that_lie_far_apart_make_nobody_wait() {
        let failures = Failures::default();
        for minute in 0..20 {
            failures.add(origin("10.0.0.1"), 1, at(minute * AUTH_FAILURES_MS));
            assert_eq!(failures.denied_ms(origin("10.0.0.1"), at(minute * AUTH_FAILURES_MS)), None);
        }
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory() {
        let failures = Failures::default();
        for number in 0..u32::try_from(ORIGINS_MAX).unwrap() + 50 {
            let addr = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            failures.add(Origin::of(addr), 1, at(u64::from(number)));
        }
        assert_eq!(failures.origins.load(Ordering::Relaxed), ORIGINS_MAX);
    }
}
