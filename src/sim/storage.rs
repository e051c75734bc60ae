//! What happens at a disk of the world: the operation, and what an observer learns from it.

use std::ops::Range;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

use super::chance::Family;
use super::disk::{Instead, SECTOR_BYTES};
use super::faults::Astray;
use super::network::Place;
use super::world::World;
use crate::store::{DiskDone, DiskError, DiskOp, FileName};

/// What an operation does to the files of a disk, for who watches them.
enum Change {
    Gone(FileName),
    Written(FileName, Range<u64>),
    Synced(FileName),
    Renamed(FileName, FileName),
    Nothing,
}

impl Change {
    fn of(op: &DiskOp) -> Self {
        match op {
            DiskOp::Create { file, .. } | DiskOp::Remove { file } => Self::Gone(*file),
            DiskOp::Write { file, offset, parts } => {
                let length: usize = parts.iter().map(Bytes::len).sum();
                Self::Written(*file, *offset..*offset + length as u64)
            }
            DiskOp::Sync { file } => Self::Synced(*file),
            DiskOp::Rename { from, to } => Self::Renamed(*from, *to),
            DiskOp::List | DiskOp::Read { .. } | DiskOp::SyncDir | DiskOp::Space => Self::Nothing,
        }
    }
}

impl World {
    /// Lets a disk carry out an operation, and notes what lies on it then.
    pub(super) fn perform(
        &mut self,
        place: Place,
        op: DiskOp,
        chance: &mut Xoshiro256PlusPlus,
    ) -> Result<DiskDone, DiskError> {
        let machine = &mut self.machines[place];
        if machine.trouble.full_until_us <= self.now_us {
            machine.disk.faults.capacity = u64::MAX;
        }
        let node = machine.node;
        if let DiskOp::Write { file, offset, parts } = &op {
            self.lead_astray(place, *file, *offset, parts);
        }
        let change = Change::of(&op);
        let result = self.machines[place].disk.perform(op, chance);
        let disk = &self.machines[place].disk;
        match change {
            Change::Gone(file) => {
                self.ledger.on_remove(place, file);
                self.on_name(place);
            }
            Change::Written(file, bytes) => self.ledger.on_write(place, file, &bytes),
            Change::Synced(file) if result.is_ok() => {
                for (partition, dot) in self.ledger.on_sync(place, node, disk, file) {
                    self.history.stored(place, partition, dot);
                }
            }
            Change::Renamed(from, to) if result.is_ok() => {
                self.ledger.on_rename(place, from, to);
                self.on_name(place);
            }
            Change::Synced(_) | Change::Renamed(..) | Change::Nothing => {}
        }
        result
    }

    /// Lets a write go where it should not, if one is to and the budget allows it for this one.
    fn lead_astray(&mut self, place: Place, file: FileName, offset: u64, parts: &[Bytes]) {
        let Some(astray) = self.machines[place].trouble.astray else { return };
        let bytes = parts.concat();
        let events = self.ledger.events_of(place, file, offset, &bytes);
        let Some(events) = events.filter(|events| !events.is_empty()) else { return };
        let length = bytes.len() as u64;
        let mut chance = self.chance.at(Family::Damage, place, self.now_us, offset);
        let (instead, damaged) = match astray {
            Astray::Lost => (Instead::Nowhere, offset..offset + length),
            Astray::Misdirected => {
                let disk = &self.machines[place].disk;
                let room = disk.stable(file).map_or(0, <[u8]>::len).saturating_sub(bytes.len());
                let sector = chance.random_range(0..=room / SECTOR_BYTES);
                let start = (sector * SECTOR_BYTES) as u64;
                (Instead::At(start), start..start + length)
            }
        };
        if damaged.start != offset && damaged.contains(&offset)
            || !self.may_damage(place, file, &damaged)
        {
            return;
        }
        self.machines[place].trouble.astray = None;
        self.machines[place].disk.lead_astray(instead);
        self.ledger.spoil(place, file, &damaged);
        self.ledger.was_told_a_lie(place, &events);
        self.history.were_not_stored(events);
        self.tally.writes_astray += 1;
        self.trace.note(self.now_us, Some(place), "astray", &offset.to_le_bytes(), || {
            format!("a write of {length} bytes to {file} at {offset}: {instead:?}")
        });
    }
}
