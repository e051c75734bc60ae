//! The connections of clients: how many there are, how many each address holds, and the last few
//! places, which are kept for this machine.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::descriptors;
use super::origin::Origin;
use crate::config::Config;
use crate::limits::{CONNECTIONS_PER_ADDRESS_MAX, CONNECTIONS_RESERVED};

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// In all, without the reserve.
    pub(crate) connections_max: usize,
    /// From one address; `None` = a number that leaves loopback alone.
    pub(crate) per_address_max: Option<usize>,
}

/// The place of one connection. It must be given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Where its client is.
    pub(crate) origin: Origin,
    /// It is one of those that are kept for this machine.
    is_reserved: bool,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    Full,
    /// The address holds as many as it may.
    Address,
}

/// The client connections of a node; shutdown waits until there are none.
#[derive(Debug)]
pub(crate) struct Guests {
    bounds: Bounds,
    taken: Mutex<Taken>,
    empty: Condvar,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// Of `count`, those in the reserve.
    reserved: usize,
    by_origin: BTreeMap<Origin, usize>,
}

impl Bounds {
    /// Those of a node with these settings, as far as the system has files for them.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            connections_max: descriptors::connections_max(config.connections_max),
            per_address_max: config.connections_per_address_max,
        }
    }

    fn of_address(&self, origin: Origin) -> usize {
        match self.per_address_max {
            Some(max) => max,
            None if origin.is_loopback() => usize::MAX,
            None => CONNECTIONS_PER_ADDRESS_MAX,
        }
    }
}

impl Guests {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, taken: Mutex::default(), empty: Condvar::new() }
    }

    /// A place for one more connection, if there is one.
    pub(crate) fn enter(&self, origin: Origin) -> Result<Place, NoPlace> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let held = taken.by_origin.get(&origin).copied().unwrap_or(0);
        let refused = if taken.count - taken.reserved >= self.bounds.connections_max {
            Some(NoPlace::Full)
        } else if held >= self.bounds.of_address(origin) {
            Some(NoPlace::Address)
        } else {
            None
        };
        let may_use_reserve = origin.is_loopback() && taken.reserved < CONNECTIONS_RESERVED;
        if let Some(reason) = refused
            && !may_use_reserve
        {
            return Err(reason);
        }
        let is_reserved = refused.is_some();
        taken.count += 1;
        taken.reserved += usize::from(is_reserved);
        *taken.by_origin.entry(origin).or_default() += 1;
        Ok(Place { origin, is_reserved })
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, place: Place) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.count -= 1;
        taken.reserved -= usize::from(place.is_reserved);
        if let Some(held) = taken.by_origin.get_mut(&place.origin) {
            *held -= 1;
            if *held == 0 {
                taken.by_origin.remove(&place.origin);
            }
        }
        if taken.count == 0 {
            self.empty.notify_all();
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        u64::try_from(taken.count).expect("connections are bounded")
    }

    /// Blocks until there are none, or the time is up.
    pub(crate) fn wait_until_none(&self, patience: Duration) {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.empty.wait_timeout_while(taken, patience, |taken| taken.count > 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    fn guests(connections_max: usize, per_address_max: Option<usize>) -> Guests {
        Guests::new(Bounds { connections_max, per_address_max })
    }

    #[test]
    fn connections_are_bounded_and_the_last_one_ends_the_wait() {
        let guests = guests(2, None);
        let there = origin("10.0.0.1");
        let first = guests.enter(there).unwrap();
        let second = guests.enter(there).unwrap();
        assert_eq!(guests.enter(there).unwrap_err(), NoPlace::Full);
        guests.leave(first);
        assert_eq!(guests.count(), 1);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| guests.wait_until_none(Duration::from_mins(1)));
            guests.leave(second);
            waiter.join().unwrap();
        });
        assert_eq!(guests.count(), 0);
    }

    #[test]
    fn one_address_cannot_take_all_places() {
        let guests = guests(10, Some(3));
        let (greedy, other) = (origin("2001:db8::1"), origin("10.0.0.2"));
        let places: Vec<Place> = (0..3).map(|_| guests.enter(greedy).unwrap()).collect();
        // Of IPv6 a whole network is one address.
        assert_eq!(guests.enter(origin("2001:db8::2")).unwrap_err(), NoPlace::Address);
        guests.enter(other).unwrap();
        for place in places {
            guests.leave(place);
        }
        guests.enter(greedy).unwrap();
        assert_eq!(guests.taken.lock().unwrap().by_origin.len(), 2);
    }

    #[test]
    fn the_number_of_an_address_leaves_this_machine_alone_unless_it_is_set() {
        let guests = guests(2 * CONNECTIONS_PER_ADDRESS_MAX, None);
        let (here, there) = (origin("127.0.0.1"), origin("10.0.0.1"));
        for _ in 0..CONNECTIONS_PER_ADDRESS_MAX {
            guests.enter(there).unwrap();
            guests.enter(here).unwrap();
        }
        assert_eq!(guests.enter(there).unwrap_err(), NoPlace::Full);
        let guests = self::guests(2 * CONNECTIONS_PER_ADDRESS_MAX, None);
        for _ in 0..CONNECTIONS_PER_ADDRESS_MAX {
            guests.enter(there).unwrap();
        }
        assert_eq!(guests.enter(there).unwrap_err(), NoPlace::Address);
        for _ in 0..CONNECTIONS_PER_ADDRESS_MAX {
            assert!(!guests.enter(here).unwrap().is_reserved);
        }
    }

    #[test]
    fn the_last_places_are_for_this_machine() {
        let guests = guests(1, None);
        let (here, there) = (origin("127.0.0.1"), origin("10.0.0.1"));
        let first = guests.enter(there).unwrap();
        let places: Vec<Place> =
            (0..CONNECTIONS_RESERVED).map(|_| guests.enter(here).unwrap()).collect();
        assert_eq!(guests.enter(here).unwrap_err(), NoPlace::Full);
        assert_eq!(guests.enter(there).unwrap_err(), NoPlace::Full);
        // A reserved place that comes free is no place for others.
        guests.leave(places[0]);
        assert_eq!(guests.enter(there).unwrap_err(), NoPlace::Full);
        guests.leave(first);
        guests.enter(there).unwrap();
    }
}
