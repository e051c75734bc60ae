//! What is to happen, in the order of its time; what is due at one instant, in the order in which
//! it was planned.
//!
//! Only times and numbers are moved about when something is added or taken: the events, which are
//! large, lie still beside them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of events.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    /// When, how many were planned before, and in which slot it lies.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
    planned: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), planned: 0 }
    }
}

impl<T> Agenda<T> {
    /// Plans an event.
    pub(super) fn plan(&mut self, at_us: u64, event: T) {
        self.planned += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(event);
        self.order.push(Reverse((at_us, self.planned, slot)));
    }

    /// Takes the next event if it is due at `until_us` or before, with its time.
    pub(super) fn take_due(&mut self, until_us: u64) -> Option<(u64, T)> {
        let Reverse((at_us, _, slot)) = *self.order.peek()?;
        if at_us > until_us {
            return None;
        }
        self.order.pop();
        self.free.push(slot);
        Some((at_us, self.slots[slot].take().expect("a planned event lies in its slot")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_their_time_and_then_in_the_order_of_their_planning() {
        let mut agenda = Agenda::default();
        for (at_us, name) in [(7, "c"), (3, "a"), (7, "d"), (3, "b"), (9, "late")] {
            agenda.plan(at_us, name);
        }
        let first = agenda.take_due(8);
        agenda.plan(7, "e");
        let mut taken: Vec<_> = first.into_iter().collect();
        taken.extend(std::iter::from_fn(|| agenda.take_due(8)));
        assert_eq!(taken, [(3, "a"), (3, "b"), (7, "c"), (7, "d"), (7, "e")]);
        assert_eq!(agenda.take_due(9), Some((9, "late")));
        assert_eq!(agenda.take_due(u64::MAX), None);
    }
}
