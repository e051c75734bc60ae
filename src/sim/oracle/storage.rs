//! W1 to W6: what a node makes of its disk.
//!
//! A start finds everything that its disk held (W1). What a crash or a loss of power leaves is no
//! damage (W2, W6): only a disk that lost something of what it had stored, or that was misread, may
//! be found damaged. A failed write or sync ends the process (W4), and a full disk does not (W5).

use std::collections::BTreeMap;

use crate::causality::PartitionClock;
use crate::hash::PartitionId;
use crate::sim::network::Place;
use crate::sim::world::World;
use crate::store::{Damage, DiskError};

impl World {
    /// A process found its log.
    pub(in crate::sim) fn check_recovery(
        &mut self,
        place: Place,
        damage: &Damage,
        clocks: &BTreeMap<PartitionId, PartitionClock>,
    ) {
        let machine = &self.machines[place];
        if self.budget.damaged.contains(&place) || machine.disk.misreads > 0 {
            return;
        }
        let missing = self.ledger.held(place).find(|(partition, dot)| {
            clocks.get(partition).is_none_or(|clock| !clock.contains(*dot))
        });
        if let Some((_, dot)) = missing.copied() {
            let text = format!("n{} did not find {dot}, which its disk held", place + 1);
            self.complain("W1 a start finds all that was durable", text);
        }
        if !damage.is_none() {
            let text = format!("n{} found {damage:?}", place + 1);
            self.complain("W2 what a crash leaves is no damage", text);
        }
    }

    /// An operation that was to store something has failed, and its process had its say.
    pub(in crate::sim) fn check_failure(&mut self, (place, life): (Place, u64), what: &str) {
        if self.is_alive(place, life) {
            let text = format!("n{} goes on after {what} failed", place + 1);
            self.complain("W4 a failed write or sync ends the process", text);
        }
    }

    /// A process ended by itself.
    pub(in crate::sim) fn check_end(&mut self, place: Place, why: &str) {
        if why.contains(&DiskError::Full.to_string()) {
            let text = format!("n{} ended: {why}", place + 1);
            self.complain("W5 a full disk ends no process", text);
        }
    }
}
