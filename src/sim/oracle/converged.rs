//! C1: once every key was read from all replicas, all of them hold the same of it.
//!
//! Replicas do not compare themselves in the background yet, so only keys that were read are
//! promised to be equal (docs/consistency.md). What they hold is read from their disks. So that a
//! damaged disk is not hidden by a process which remembers what it had written there, the world
//! starts such nodes anew before the keys are read.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::causality::Dot;
use crate::hash::Key;
use crate::sim::network::Place;
use crate::sim::process::Process;
use crate::sim::world::World;

impl World {
    /// What only replicas hold that are being rebuilt, nobody can be shown until they are: a write
    /// of level `one` may be among it.
    pub(in crate::sim) fn excuse_what_is_being_rebuilt(&mut self) {
        let places = 0..self.machines.len();
        let (rebuilding, ready): (Vec<Place>, Vec<Place>) =
            places.partition(|&place| self.machines[place].is_rebuilding);
        for place in rebuilding {
            let held = self.ledger.held(place).copied();
            let alone = held
                .filter(|&event| ready.iter().all(|&other| !self.ledger.has_held(other, event)));
            let alone = alone.collect();
            self.history.were_not_stored(alone);
        }
    }

    /// Compares what lies on the disks of the row of each key.
    pub(in crate::sim) fn check_converged(&mut self) {
        let process = self.machines[0].process.as_ref();
        let layout = process.and_then(Process::view).and_then(|view| view.layout.clone());
        let Some(layout) = layout else { return };
        let disks: Vec<BTreeMap<Key, BTreeMap<Dot, Bytes>>> =
            (0..self.machines.len()).map(|place| self.ledger.siblings(place)).collect();
        self.note_time();
        let mut found = Vec::new();
        for key in self.history.keys() {
            let row = layout.row(self.partition(key)).iter();
            // One that is being rebuilt holds what it is sent, and answers for nothing.
            let places: Vec<Place> = row
                .filter_map(|node| self.places.get(node).copied())
                .filter(|place| !self.machines[*place].is_rebuilding)
                .collect();
            // What is over goes from each replica at its own time.
            let held = |place: &Place| {
                let mut held = disks[*place].get(key).cloned().unwrap_or_default();
                held.retain(|dot, _| !self.history.is_over(key, *dot));
                held
            };
            let Some(first) = places.first().map(held) else { continue };
            if let Some(other) = places.iter().find(|place| held(place) != first) {
                let (one, other) = (places[0], *other);
                let text = format!(
                    "n{} holds {first:?} and n{} holds {:?}",
                    one + 1,
                    other + 1,
                    held(&other)
                );
                found.push((key.clone(), text));
            }
        }
        for (key, text) in found {
            self.history.violate("C1 replicas that were read are equal", &key, text);
        }
    }
}
