//! What goes wrong with a disk.

use std::collections::VecDeque;

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

use super::Fault;
use crate::sim::chance::Family;
use crate::sim::disk::SECTOR_BYTES;
use crate::sim::network::Place;
use crate::sim::world::{Happening, World};
use crate::store::FileName;
use crate::store::inspect::Inspected;

/// Draws until a bit is found that may rot.
const DRAWS_MAX: u32 = 20;

/// Something that goes wrong with a disk. Times in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// A bit flips at rest.
    Rot(Rotting),
    /// The operation of this number from now on fails, 1 being the next.
    Error(u64),
    /// Its node goes down once so many names of files have changed.
    Death(Death),
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

/// How a node goes down in the middle of a change of names, which no time that is drawn would meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// Files made, renamed or removed until then, at least 1. They are counted from the death
    /// before, where one is due already.
    pub after: u64,
    /// Whether its power goes, and not its process alone.
    pub has_no_power: bool,
    /// How long it stays down, in microseconds.
    pub back_us: u64,
}

/// Where a bit rots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotting {
    /// Anywhere in any file of the log.
    Anywhere,
    /// In some record.
    Record,
    /// In the newest record of some key: most others are replaced already.
    Newest,
    /// Likewise, in what stands in front of it: its length, its number, what it is about.
    Header,
    /// The whole sector in which such a record begins is zeros.
    Sector,
    /// In a record of a segment that is not appended to any more.
    Sealed,
}

/// What is wrong with a disk for a while.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Trouble {
    pub(in crate::sim) full_until_us: u64,
    slow_until_us: u64,
    slow_us: u64,
    pub(in crate::sim) stuck_until_us: u64,
    /// What becomes of the next write that the budget allows.
    pub(in crate::sim) astray: Option<Astray>,
    /// How its node goes down, one time after the other.
    deaths: VecDeque<Death>,
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
            DiskFault::Death(death) => machine.trouble.deaths.push_back(death),
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

    /// A name has changed in the directory of a node, which may be the end of it.
    pub(in crate::sim) fn on_name(&mut self, place: Place) {
        let deaths = &mut self.machines[place].trouble.deaths;
        let Some(death) = deaths.front_mut() else { return };
        death.after = death.after.saturating_sub(1);
        if death.after > 0 {
            return;
        }
        let Death { has_no_power, back_us, .. } = *death;
        deaths.pop_front();
        let dies = if has_no_power { Fault::PowerLoss(vec![place]) } else { Fault::Crash(place) };
        self.schedule(0, Happening::Fault(dies));
        self.schedule(back_us, Happening::Fault(Fault::Start(place)));
    }

    fn rot(&mut self, place: Place, rotting: Rotting) {
        let mut chance = self.chance.at(Family::Damage, place, self.now_us, 0);
        for _ in 0..DRAWS_MAX {
            let Some((file, offset)) = self.draw_byte(place, rotting, &mut chance) else { return };
            let bytes = match rotting {
                Rotting::Sector => {
                    let start = offset / SECTOR_BYTES as u64 * SECTOR_BYTES as u64;
                    start..start + SECTOR_BYTES as u64
                }
                Rotting::Anywhere
                | Rotting::Record
                | Rotting::Newest
                | Rotting::Header
                | Rotting::Sealed => offset..offset + 1,
            };
            let last = bytes.end - 1;
            let Some(torn) = self.ledger.torn_by(place, file, &bytes) else { continue };
            if self.ledger.is_settled(place, file, last) && self.may_damage(place, file, &bytes) {
                if rotting == Rotting::Sector {
                    self.machines[place].disk.blank(file, &bytes);
                } else {
                    self.machines[place].disk.rot(file, offset, chance.random());
                }
                // What looks torn is gone, and no node can know that it ever was there.
                self.ledger.was_told_a_lie(place, &torn);
                self.history.were_not_stored(torn);
                self.ledger.spoil(place, file, &bytes);
                self.tally.rotten_bits += 1;
                self.trace.note(self.now_us, Some(place), "rot", &offset.to_le_bytes(), || {
                    format!("{rotting:?}, {file} at {bytes:?}")
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
        let records = match rotting {
            Rotting::Anywhere | Rotting::Record => self.ledger.all(place),
            Rotting::Newest | Rotting::Header | Rotting::Sector => self.ledger.all_newest(place),
            Rotting::Sealed => {
                let mut records = self.ledger.all(place);
                let newest = records.iter().map(|record| record.0).max();
                records.retain(|record| Some(record.0) != newest);
                records
            }
        };
        if records.is_empty() {
            return None;
        }
        let (file, offset, length) = records[rng.random_range(0..records.len())];
        let length = match rotting {
            Rotting::Header => Inspected::header_bytes(),
            Rotting::Sector => 1,
            Rotting::Anywhere | Rotting::Record | Rotting::Newest | Rotting::Sealed => length,
        };
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
            self.machines[place].disk.lose_files(|other| other == file);
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

    /// One of the few disks of a run that forget: the budget would spare all others anyway.
    fn draw_bad_disk(&mut self) -> Place {
        let nodes = self.machines.len();
        let minority = usize::from(self.scenario.options.replicas).saturating_sub(1) / 2;
        let first = self.chance.at(Family::Damage, 0, 0, 0).random_range(0..nodes);
        (first + self.chance.fault.random_range(0..minority.max(1))) % nodes
    }

    /// What rots on the disks of a run: most often one sort of things, so that a node which lost it
    /// does not know what does not hide what becomes of smaller losses.
    fn draw_rotting(&mut self) -> Rotting {
        let sort = self.chance.at(Family::Damage, 1, 0, 0).random_range(0..4_u8);
        let drawn = match sort {
            0 => self.chance.fault.random_range(0..6_u8),
            sort => sort,
        };
        match drawn {
            1 => Rotting::Newest,
            2 => Rotting::Header,
            3 => Rotting::Sector,
            4 => Rotting::Sealed,
            5 => Rotting::Anywhere,
            _ => Rotting::Record,
        }
    }

    /// Damage is found by who reads: some nodes are started anew soon after it. What rots while no
    /// process is there may be the end of a log, which then looks torn.
    pub(super) fn draw_rot(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_bad_disk();
        let rotting = self.draw_rotting();
        let rot = Fault::Disk(place, DiskFault::Rot(rotting));
        let dies_us = self.chance.fault.random_range(1_000..500_000);
        let back_us = dies_us + self.chance.fault.random_range(1_000..1_000_000);
        let (dies, starts) = ((dies_us, Fault::Crash(place)), (back_us, Fault::Start(place)));
        match self.chance.fault.random_range(0..4_u8) {
            0 | 1 => vec![(0, rot)],
            2 => vec![(0, rot), dies, starts],
            _ => vec![dies, (dies_us, rot), starts],
        }
    }

    /// Two deaths follow each other: the first life leaves names that are on no disk yet, and the
    /// next one may lose them while it puts its directory in order.
    pub(super) fn draw_deaths(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let deaths = [(8, 1), (3, 3)].map(|(most, powers)| {
            let after = self.chance.fault.random_range(1..=most);
            let has_no_power = self.chance.fault.random_range(0..4) < powers;
            let back_us = self.chance.fault.random_range(1_000..1_000_000);
            DiskFault::Death(Death { after, has_no_power, back_us })
        });
        deaths.map(|death| (0, Fault::Disk(place, death))).to_vec()
    }

    pub(super) fn draw_disk_error(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let nth = self.chance.fault.random_range(1..100);
        vec![(0, Fault::Disk(place, DiskFault::Error(nth)))]
    }

    pub(super) fn draw_astray(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_bad_disk();
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
