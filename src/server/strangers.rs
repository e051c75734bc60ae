//! Who came to the port for nodes and has not said yet, or not proven, which node it is.
//!
//! Each has a few seconds for its greeting, and there is room for so many at a time. One more
//! pushes out the oldest of the address that holds most places: whoever opens connections and is
//! silent loses them first, and a node, whose greeting takes some milliseconds, gets in.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

use super::origin::Origin;
use crate::limits::STRANGERS_MAX;

/// Those who are here, by number: the smaller, the older.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    places: RefCell<BTreeMap<u64, Place>>,
    next: Cell<u64>,
}

#[derive(Debug)]
struct Place {
    origin: Origin,
    pushed_out: Rc<Notify>,
}

/// A place, which is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Stranger {
    strangers: Rc<Strangers>,
    number: u64,
    pushed_out: Rc<Notify>,
}

impl Strangers {
    /// A place for one more. Returns too whether another one lost its place for that.
    pub(super) fn enter(self: &Rc<Self>, origin: Origin) -> (Stranger, bool) {
        let mut places = self.places.borrow_mut();
        let is_full = places.len() >= STRANGERS_MAX;
        if is_full {
            let oldest = oldest_of_most(&places).expect("there are as many as there may be");
            if let Some(place) = places.remove(&oldest) {
                place.pushed_out.notify_one();
            }
        }
        let number = self.next.get();
        self.next.set(number + 1);
        let pushed_out = Rc::new(Notify::new());
        places.insert(number, Place { origin, pushed_out: Rc::clone(&pushed_out) });
        (Stranger { strangers: Rc::clone(self), number, pushed_out }, is_full)
    }
}

impl Stranger {
    /// Waits until another one needs the place.
    pub(super) async fn pushed_out(&self) {
        self.pushed_out.notified().await;
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.places.borrow_mut().remove(&self.number);
    }
}

/// The oldest of those whose address holds most places.
fn oldest_of_most(places: &BTreeMap<u64, Place>) -> Option<u64> {
    let mut held: BTreeMap<Origin, usize> = BTreeMap::new();
    for place in places.values() {
        *held.entry(place.origin).or_default() += 1;
    }
    let most = held.values().max()?;
    places
        .iter()
        .find(|(_, place)| held.get(&place.origin) == Some(most))
        .map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    #[test]
    fn one_more_pushes_out_the_oldest_of_the_address_that_holds_most() {
        let strangers = Rc::new(Strangers::default());
        let (node, _) = strangers.enter(origin("10.0.0.1"));
        let flood: Vec<Stranger> = (1..STRANGERS_MAX)
            .map(|_| strangers.enter(origin("10.0.0.2")))
            .map(|(stranger, pushed)| {
                assert!(!pushed);
                stranger
            })
            .collect();
        let (_other, pushed) = strangers.enter(origin("10.0.0.3"));
        assert!(pushed);
        let places = strangers.places.borrow();
        assert_eq!(places.len(), STRANGERS_MAX);
        assert!(places.contains_key(&node.number), "the node is older, and alone at its address");
        assert!(!places.contains_key(&flood[0].number));
        assert!(places.contains_key(&flood[1].number));
    }

    #[test]
    fn a_place_is_given_back_once() {
        let strangers = Rc::new(Strangers::default());
        for _ in 0..2 * STRANGERS_MAX {
            let (_, pushed) = strangers.enter(origin("10.0.0.1"));
            assert!(!pushed);
        }
        let mut here: Vec<Stranger> =
            (0..STRANGERS_MAX).map(|_| strangers.enter(origin("10.0.0.1")).0).collect();
        here.push(strangers.enter(origin("10.0.0.1")).0);
        // The first has lost its place already.
        drop(here.remove(0));
        assert_eq!(strangers.places.borrow().len(), STRANGERS_MAX);
        drop(here);
        assert!(strangers.places.borrow().is_empty());
    }
}
