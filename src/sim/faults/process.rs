//! What goes wrong with processes and clocks, and what operators do to nodes.

use rand::RngExt as _;

use super::Fault;
use crate::sim::disk::SimDisk;
use crate::sim::network::Place;
use crate::sim::world::World;

/// Something that goes wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeFault {
    /// Every turn takes so many times as long, for so many microseconds.
    Slow {
        /// How many times.
        factor: u64,
        /// For how long.
        span_us: u64,
    },
    /// The wall clock gains so many parts in a million of the time from now on, or loses them.
    Drift(i64),
    /// The wall clock stands still for so many microseconds, and jumps to where it should be.
    Freeze(u64),
    /// The process is started anew with so many shards.
    Reshard(u64),
    /// The data directory is emptied.
    Wipe,
    /// A copy is made of the data directory.
    Backup,
    /// The data directory is replaced by the copy, if there is one.
    Restore,
    /// Until things are mended, a process with a copy of the data directory of this node runs in
    /// its place, at its address.
    Clone(Place),
}

impl World {
    pub(super) fn on_node_fault(&mut self, place: Place, fault: NodeFault) {
        let now_us = self.now_us;
        match fault {
            NodeFault::Slow { factor, span_us } => {
                self.tally.slow_nodes += 1;
                let machine = &mut self.machines[place];
                machine.slow = (now_us + span_us, factor.max(1));
            }
            NodeFault::Drift(ppm) => {
                self.tally.clock_jumps += 1;
                self.machines[place].clock.drift(now_us, ppm);
            }
            NodeFault::Freeze(span_us) => {
                self.tally.clock_jumps += 1;
                self.note_time();
                self.machines[place].clock.freeze(now_us, span_us);
            }
            NodeFault::Reshard(shards) => {
                self.stop(place);
                let shards = u16::try_from(shards.clamp(1, 3)).expect("it is 1 to 3");
                self.machines[place].shards = shards;
                self.start(place);
            }
            NodeFault::Wipe => {
                self.stop(place);
                self.replace_disk(place, SimDisk::default());
                self.start(place);
            }
            NodeFault::Backup => {
                let copy = self.machines[place].disk.clone();
                self.machines[place].backup = Some(copy);
            }
            NodeFault::Restore => {
                if let Some(copy) = self.machines[place].backup.clone() {
                    self.stop(place);
                    self.replace_disk(place, copy);
                    self.start(place);
                }
            }
            NodeFault::Clone(of) => self.clone_directory(place, of),
        }
    }

    /// Starts a node from a copy of the directory of another one, which holds its identity too.
    fn clone_directory(&mut self, place: Place, of: Place) {
        if place == of || self.machines[place].own.is_some() {
            return;
        }
        self.stop(place);
        let copy = self.machines[of].disk.clone();
        let key = self.machines[of].settings.public_key;
        let machine = &mut self.machines[place];
        let own_key = std::mem::replace(&mut machine.settings.public_key, key);
        let own_disk = std::mem::replace(&mut machine.disk, copy);
        machine.own = Some((own_key, own_disk));
        machine.node = machine.settings.node();
        self.ledger.read_anew(place, machine.node, &machine.disk);
        self.start(place);
    }

    /// Gives every node that was started from the directory of another one its own again.
    pub(super) fn end_clones(&mut self) {
        for place in 0..self.machines.len() {
            if self.machines[place].own.is_some() {
                self.stop(place);
            }
            let machine = &mut self.machines[place];
            if let Some((key, disk)) = machine.own.take() {
                machine.settings.public_key = key;
                machine.disk = disk;
                machine.node = machine.settings.node();
                self.ledger.read_anew(place, machine.node, &machine.disk);
            }
        }
    }

    fn replace_disk(&mut self, place: Place, mut disk: SimDisk) {
        self.budget.damaged.insert(place);
        disk.faults = self.machines[place].disk.faults.clone();
        let machine = &mut self.machines[place];
        machine.disk = disk;
        self.ledger.read_anew(place, machine.node, &machine.disk);
    }

    pub(super) fn draw_crash(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let back_us = self.chance.fault.random_range(10_000..4_000_000);
        if self.chance.fault.random_range(0..6_u8) == 0 {
            return self.draw_deaths();
        }
        let mut faults = vec![(0, Fault::Crash(place))];
        let mut at_us = back_us;
        // Now and then it dies again while it reads its log, or soon after, several times; or its
        // power goes, and what the life before had not synced goes too.
        let again = self.chance.fault.random_range(0..12_u64).saturating_sub(8);
        for _ in 0..again {
            faults.push((at_us, Fault::Start(place)));
            let lives_us = [2_000, 50_000, 1_000_000][self.chance.fault.random_range(0..3)];
            at_us += self.chance.fault.random_range(500..lives_us);
            let has_power: bool = self.chance.fault.random();
            let dies = if has_power { Fault::Crash(place) } else { Fault::PowerLoss(vec![place]) };
            faults.push((at_us, dies));
            at_us += self.chance.fault.random_range(10_000..700_000);
        }
        faults.push((at_us, Fault::Start(place)));
        faults
    }

    pub(super) fn draw_slow_node(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let factor = [10, 100, 1_000][self.chance.fault.random_range(0..3)];
        let span_us = self.chance.fault.random_range(500_000..8_000_000);
        vec![(0, Fault::Node(place, NodeFault::Slow { factor, span_us }))]
    }

    pub(super) fn draw_clock(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let most = self.scenario.options.clock_jump_ms;
        let fault = match self.chance.fault.random_range(0..4_u8) {
            0 => Fault::Node(
                place,
                NodeFault::Drift(self.chance.fault.random_range(-50_000..=50_000)),
            ),
            1 => Fault::Node(
                place,
                NodeFault::Freeze(self.chance.fault.random_range(10_000..10_000_000)),
            ),
            _ => Fault::Clock(place, self.chance.fault.random_range(-most..=most)),
        };
        vec![(0, fault)]
    }

    pub(super) fn draw_settings(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let shards = self.chance.fault.random_range(1..=3);
        vec![(0, Fault::Node(place, NodeFault::Reshard(shards)))]
    }
}
