//! What goes wrong with a disk.

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

use super::Fault;
use crate::sim::chance::Family;
use crate::sim::network::Place;
use crate::sim::world::World;
use crate::store::FileName;

/// Draws until a bit is found that may rot.
const DRAWS_MAX: u32 = 20;

/// Something that goes wrong with a disk. Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// A bit flips at rest.
    Rot(Rotting),
    /// The operation of this number from now on fails, 1 being the next.
    Error(u64),
    /// The next write is acknowledged, and lost or gone elsewhere.
    Astray(Astray),
    /// A log segment is gone.
    LoseFile,
    /// Only so many more bytes fit, for so long.
    Full {
        /// Bytes that still fit.
        room: u64,
        /// For how long.
        span_us: u64,
    },
    /// Every operation takes up to so long, for so long.
    Slow {
        /// Longest time of an operation.
        longest_us: u64,
        /// For how long.
        span_us: u64,
    },
    /// No operation completes for so long.
    Stuck(u64),
}

/// A write of which the disk says that it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Astray {
    /// It never reaches the disk.
    Lost,
    /// It goes to another sector of its file.
    Misdirected,
}

/// Where a bit rots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotting {
    /// Anywhere in any file of the log.
    Anywhere,
    /// In some record.
    Record,
    /// In a record of a segment that is not appended to any more.
    Sealed,
}

/// What is wrong with a disk for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::sim) struct Trouble {
    pub(in crate::sim) full_until_us: u64,
    slow_until_us: u64,
    slow_us: u64,
    pub(in crate::sim) stuck_until_us: u64,
    /// What becomes of the next write that the budget allows.
    pub(in crate::sim) astray: Option<Astray>,
}

impl Trouble {
    /// When the last operation is done that was begun while the disk was slow or stuck.
    pub(in crate::sim) fn settled_us(&self, now_us: u64) -> u64 {
        let slowest_us = self.slow_until_us.min(now_us) + self.slow_us;
        self.stuck_until_us.max(slowest_us)
    }

    /// Longest time of an operation, if the disk is slow now.
    pub(in crate::sim) fn slow_us(&self, now_us: u64) -> Option<u64> {
        (self.slow_until_us > now_us).then_some(self.slow_us)
    }
}

impl World {
    pub(super) fn on_disk_fault(&mut self, place: Place, fault: DiskFault) {
        let now_us = self.now_us;
        let machine = &mut self.machines[place];
        match fault {
            DiskFault::Rot(rotting) => self.rot(place, rotting),
            DiskFault::Error(nth) => {
                self.tally.disk_errors += 1;
                machine.disk.fail_call(nth);
            }
            DiskFault::Astray(astray) => machine.trouble.astray = Some(astray),
            DiskFault::LoseFile => self.lose_file(place),
            DiskFault::Full { room, span_us } => {
                self.tally.disks_full += 1;
                machine.trouble.full_until_us = now_us + span_us;
                machine.disk.faults.capacity = machine.disk.used() + room;
            }
            DiskFault::Slow { longest_us, span_us } => {
                self.tally.disks_slow += 1;
                machine.trouble.slow_us = longest_us;
                machine.trouble.slow_until_us = now_us + span_us;
            }
            DiskFault::Stuck(span_us) => {
                self.tally.disks_slow += 1;
                machine.trouble.stuck_until_us = now_us + span_us;
            }
        }
    }

    fn rot(&mut self, place: Place, rotting: Rotting) {
        let mut chance = self.chance.at(Family::Damage, place, self.now_us, 0);
        for _ in 0..DRAWS_MAX {
            let Some((file, offset)) = self.draw_byte(place, rotting, &mut chance) else { return };
            let bytes = offset..offset + 1;
            if self.ledger.is_settled(place, file, offset) && self.may_damage(place, file, &bytes) {
                let bit = chance.random();
                self.machines[place].disk.rot(file, offset, bit);
                self.ledger.spoil(place, file, &bytes);
                self.tally.rotten_bits += 1;
                self.trace.note(self.now_us, Some(place), "rot", &offset.to_le_bytes(), || {
                    format!("a bit of {file} at {offset}")
                });
                return;
            }
        }
    }

    fn draw_byte(
        &self,
        place: Place,
        rotting: Rotting,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Option<(FileName, u64)> {
        if rotting == Rotting::Anywhere {
            let drawn = self.machines[place].disk.draw_byte(rng, |_| true)?;
            return Some((drawn.file, drawn.offset));
        }
        let mut records = self.ledger.all(place);
        if rotting == Rotting::Sealed {
            let newest = records.iter().map(|record| record.0).max();
            records.retain(|record| Some(record.0) != newest);
        }
        if records.is_empty() {
            return None;
        }
        let (file, offset, length) = records[rng.random_range(0..records.len())];
        Some((file, rng.random_range(offset..offset + length)))
    }

    fn lose_file(&mut self, place: Place) {
        let files: Vec<FileName> = self.machines[place]
            .disk
            .list()
            .into_iter()
            .map(|(file, _)| file)
            .filter(|file| matches!(file, FileName::Segment(_)))
            .collect();
        if !files.is_empty() {
            let mut chance = self.chance.at(Family::Damage, place, self.now_us, 1);
            let file = files[chance.random_range(0..files.len())];
            self.budget.damaged.insert(place);
            self.machines[place].disk.lose_file(file);
            self.ledger.on_remove(place, file);
        }
    }

    /// Whether these bytes may be damaged; if so, the budget takes them as damaged.
    pub(in crate::sim) fn may_damage(
        &mut self,
        place: Place,
        file: FileName,
        bytes: &std::ops::Range<u64>,
    ) -> bool {
        let replicas = usize::from(self.scenario.options.replicas).min(self.machines.len());
        let places = self.machines.len();
        self.budget.takes(&self.ledger, place, places, replicas, (file, bytes))
    }

    pub(super) fn draw_rot(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let rotting = match self.chance.fault.random_range(0..4_u8) {
            0 => Rotting::Anywhere,
            1 | 2 => Rotting::Record,
            _ => Rotting::Sealed,
        };
        vec![(0, Fault::Disk(place, DiskFault::Rot(rotting)))]
    }

    pub(super) fn draw_disk_error(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let nth = self.chance.fault.random_range(1..100);
        vec![(0, Fault::Disk(place, DiskFault::Error(nth)))]
    }

    pub(super) fn draw_astray(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let lost = self.chance.fault.random();
        let astray = if lost { Astray::Lost } else { Astray::Misdirected };
        vec![(0, Fault::Disk(place, DiskFault::Astray(astray)))]
    }

    pub(super) fn draw_disk_full(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let room = self.chance.fault.random_range(0..4 * self.scenario.options.segment_bytes);
        let span_us = self.chance.fault.random_range(500_000..8_000_000);
        vec![(0, Fault::Disk(place, DiskFault::Full { room, span_us }))]
    }

    pub(super) fn draw_slow_disk(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let span_us = self.chance.fault.random_range(500_000..8_000_000);
        let fault = match self.chance.fault.random_range(0..4_u8) {
            0 => DiskFault::Stuck(span_us),
            drawn => {
                let longest = [1_000_000, 10_000_000, 100_000][usize::from(drawn) - 1];
                let longest_us = self.chance.fault.random_range(1_000..=longest);
                DiskFault::Slow { longest_us, span_us }
            }
        };
        vec![(0, Fault::Disk(place, fault))]
    }
}
