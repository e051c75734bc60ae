//! O1: nothing leaves a node before the put that it rests on is durable; W3: nothing wrong is
//! shipped; and what clients are told is on as many disks as they were told.
//!
//! What is durable is read from the disks of the world. The numbers by which nodes hold things back
//! are not looked at: they are what is judged.

use super::WriteId;
use crate::causality::{Dot, Object};
use crate::hash::{Key, PartitionId};
use crate::sim::network::Place;
use crate::sim::world::World;

/// What a message that leaves a node says of its sender.
#[derive(Clone, Debug)]
pub(in crate::sim) enum Statement {
    /// It knows these events of a key, and this object of it.
    Knows {
        /// Where.
        partition: PartitionId,
        /// Of which key.
        key: Key,
        /// Events beside those of the object.
        dots: Vec<Dot>,
        /// What it knows.
        object: Object,
        /// Whether it says that it holds all of this itself; else it may have it from another node,
        /// which answers for it, and only its own events must be on its disk.
        holds: bool,
    },
    /// These events are durable there.
    Durable(Vec<(PartitionId, Dot)>),
}

const O1: &str = "O1 nothing leaves before it is durable";

impl World {
    /// A message is about to leave a node.
    pub(in crate::sim) fn check_leaving(&mut self, place: Place, statement: &Statement) {
        match statement {
            Statement::Knows { partition, key, dots, object, holds } => {
                let actor = if *holds { None } else { self.actor(place) };
                let is_judged = |dot: Dot| *holds || Some(dot.actor) == actor;
                let dots = dots.iter().copied().chain(object.dots());
                let told: Vec<Dot> = dots.filter(|&dot| is_judged(dot)).collect();
                self.check_known((place, *partition, key), &told);
                self.check_values(place, *partition, key, object);
            }
            Statement::Durable(events) => {
                let missing = events.iter().find(|&&event| !self.is_on_disk(place, event)).copied();
                if let Some((_, dot)) = missing {
                    let text = format!(
                        "n{} says that {dot} is durable there, and its disk never held it",
                        place + 1
                    );
                    self.complain(O1, text);
                }
            }
        }
    }

    /// Contexts are not judged: one that is on disk may cover an event whose late arrival is not.
    fn check_known(&mut self, (place, partition, key): (Place, PartitionId, &Key), told: &[Dot]) {
        let early =
            told.iter().find(|dot| self.ledger.in_memory(place, (partition, **dot)).is_some());
        if let Some(dot) = early.copied() {
            let text = format!("n{} tells of {dot}, which is in its memory only", place + 1);
            self.history.violate(O1, key, text);
        }
    }

    fn check_values(&mut self, place: Place, partition: PartitionId, key: &Key, object: &Object) {
        let wrong = object
            .entries
            .iter()
            .find(|entry| self.history.is_other_value(partition, entry.dot, &entry.payload));
        if let Some(entry) = wrong {
            let value = entry.payload.escape_ascii();
            let text = format!("n{} ships {value} as {}", place + 1, entry.dot);
            self.history.violate("W3 no wrong value is shipped", key, text);
        }
    }

    /// A client is told that a write is durable on one member of the row, or on a majority.
    pub(in crate::sim) fn check_acknowledged(&mut self, key: &Key, id: WriteId, majority: bool) {
        let row = usize::from(self.scenario.options.replicas).min(self.machines.len());
        let needed = if majority { row / 2 + 1 } else { 1 };
        let partition = self.partition(key);
        let copies: Vec<usize> = self
            .history
            .dots_of(id)
            .map(|dot| {
                let places = 0..self.machines.len();
                places.filter(|&place| self.is_on_disk(place, (partition, dot))).count()
            })
            .collect();
        let most = copies.into_iter().max();
        if most.is_some_and(|most| most < needed) {
            let text = format!(
                "write {} was acknowledged by {needed} and is on {} disks",
                id.0,
                most.unwrap_or_default()
            );
            self.history.violate("O1 acknowledged is durable", key, text);
        }
    }

    /// Whether the disk of a node has held an event, or said that it did.
    fn is_on_disk(&self, place: Place, event: (PartitionId, Dot)) -> bool {
        self.ledger.has_held(place, event) || self.history.was_not_stored(event)
    }
}
