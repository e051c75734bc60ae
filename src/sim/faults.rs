//! What goes wrong in a run, as a list of events that is drawn before the run begins.
//!
//! The list is data: a run replays it, and a shorter list is a smaller story of the same bug.

mod catalogue;
mod client;
mod disk;
mod network;
mod process;

pub use catalogue::{Area, CATALOGUE, Kind, Part, Shape};
pub use client::ClientFault;
pub(super) use disk::Trouble;
pub use disk::{Astray, Death, DiskFault, Rotting};
pub use network::LinkFault;
pub use process::NodeFault;

use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::chance::Family;
use super::clock::WallClock;
use super::facts;
use super::network::Place;
use super::scenario::{Action, Step};
use super::world::{Happening, World};
use crate::store::FileName;

/// Something that goes wrong, or is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process is started where there is none.
    Start(Place),
    /// A process dies; its disk keeps what the operating system has.
    Crash(Place),
    /// Power goes: what was not synced is gone or not, sector by sector.
    PowerLoss(Vec<Place>),
    /// Only nodes of one group can talk; a node of several groups is a bridge.
    Partition(Vec<Vec<Place>>),
    /// Nothing passes from the first to the second.
    OneWay(Place, Place),
    /// All links are whole.
    Heal,
    /// A node stands still for so many microseconds.
    Pause(Place, u64),
    /// A wall clock jumps by so many milliseconds.
    Clock(Place, i64),
    /// Something is wrong with a disk.
    Disk(Place, DiskFault),
    /// Something is wrong on the way from the first to the second.
    Link(Place, Place, LinkFault),
    /// Something is wrong with a node, or done to it.
    Node(Place, NodeFault),
    /// A client of this index does something to its next request.
    Client(usize, ClientFault),
}

impl Fault {
    /// The nodes that it is about.
    pub fn places(&self) -> Vec<Place> {
        match self {
            Self::Node(place, NodeFault::Clone(of)) => vec![*place, *of],
            Self::Start(place)
            | Self::Crash(place)
            | Self::Pause(place, _)
            | Self::Clock(place, _)
            | Self::Disk(place, _)
            | Self::Node(place, _) => vec![*place],
            Self::PowerLoss(places) => places.clone(),
            Self::Partition(groups) => groups.concat(),
            Self::OneWay(from, to) | Self::Link(from, to, _) => vec![*from, *to],
            Self::Heal | Self::Client(..) => Vec::new(),
        }
    }
}

/// Draws the events of one fault, each with its delay in microseconds.
type Draw = fn(&mut World) -> Vec<(u64, Fault)>;

impl World {
    /// Draws the faults of the next `span_us` microseconds, in the order of their time.
    pub(super) fn draw_faults(&mut self, span_us: u64) -> Vec<Step> {
        let options = self.scenario.options.clone();
        let mut steps = Vec::new();
        let families: [(&str, u64, Draw); 14] = [
            ("crash", options.crash_every_us, Self::draw_crash),
            ("power", options.power_every_us, Self::draw_power_loss),
            ("partition", options.partition_every_us, Self::draw_partition),
            ("pause", options.pause_every_us, Self::draw_pause),
            ("clock", options.clock_every_us, Self::draw_clock),
            ("link", options.link_every_us, Self::draw_link_fault),
            ("slow node", options.slow_node_every_us, Self::draw_slow_node),
            ("settings", options.settings_every_us, Self::draw_settings),
            ("rot", options.rot_every_us, Self::draw_rot),
            ("disk error", options.disk_error_every_us, Self::draw_disk_error),
            ("astray", options.astray_every_us, Self::draw_astray),
            ("disk full", options.disk_full_every_us, Self::draw_disk_full),
            ("slow disk", options.slow_disk_every_us, Self::draw_slow_disk),
            ("client", options.client_every_us, Self::draw_client_fault),
        ];
        for (name, every_us, draw) in families.into_iter().filter(|family| family.1 > 0) {
            // Its own stream: leaving out one family leaves the others as they were.
            self.chance.draw_faults_of(name);
            let mut at_us = self.chance.fault.random_range(0..2 * every_us);
            while at_us < span_us {
                for (later_us, fault) in draw(self) {
                    steps.push(Step { at_us: at_us + later_us, action: Action::Fault(fault) });
                }
                at_us += self.chance.fault.random_range(1..2 * every_us);
            }
        }
        // What would be mended later than the end is mended by the end.
        steps.retain(|step| step.at_us <= span_us);
        steps.sort_by_key(|step| step.at_us);
        steps
    }

    /// Lets things go wrong while the cluster is being born, and mends them: then birth is due.
    pub(super) fn disturb_birth(&mut self) {
        let span_us = self.scenario.options.birth_trouble_us;
        if span_us == 0 {
            return;
        }
        self.chance.draw_faults_of("birth");
        for _ in 0..self.chance.fault.random_range(1..6_u8) {
            let at_us = self.chance.fault.random_range(0..span_us);
            let faults = match self.chance.fault.random_range(0..4_u8) {
                0 | 1 => self.draw_crash(),
                2 => self.draw_power_loss(),
                _ => self.draw_partition(),
            };
            for (later_us, fault) in faults {
                if at_us + later_us < span_us {
                    self.schedule(at_us + later_us, Happening::Fault(fault));
                }
            }
        }
        self.run_until(self.now_us + span_us);
        self.network.heal();
        self.keep_cuts();
        for place in 0..self.founders() {
            self.start(place);
        }
    }

    /// Mends everything that can be mended, and waits for those that stand still. Who has a damaged
    /// disk is started anew: it forgets what it only remembers, and must find out what is wrong.
    pub(super) fn mend(&mut self) {
        for place in self.budget.damaged.clone() {
            self.stop(place);
        }
        self.end_clones();
        self.network.heal();
        self.keep_cuts();
        self.network.faults.loss = 0;
        self.network.faults.corrupt = 0;
        self.network.faults.straggler = 0;
        self.network.faults.stale = 0;
        self.network.faults.queue = 0;
        let mut settled_us = self.now_us;
        for place in 0..self.machines.len() {
            let machine = &self.machines[place];
            let disk_us = machine.trouble.settled_us(self.now_us);
            settled_us = settled_us.max(machine.paused_until_us).max(disk_us);
            self.machines[place].clock = WallClock::default();
            self.machines[place].slow = (0, 1);
            self.machines[place].disk.mend();
            self.machines[place].trouble = Trouble::default();
            if self.budget.damaged.contains(&place) {
                // They would spare it the reading of what is damaged.
                self.machines[place].disk.lose_files(|file| matches!(file, FileName::Sidecar(_)));
            }
            self.start(place);
        }
        // What waited for them was put off until then, and would come late to a node that works.
        self.run_until(settled_us);
    }

    pub(super) fn on_fault(&mut self, fault: Fault) {
        self.trace.note(self.now_us, None, "fault", format!("{fault:?}").as_bytes(), || {
            format!("{fault:?}")
        });
        self.trace.explain(|| facts::fault(&fault));
        match fault {
            Fault::Start(place) => self.start(place),
            Fault::Crash(place) => {
                self.tally.crashes += 1;
                self.stop(place);
            }
            Fault::PowerLoss(places) => {
                for place in places {
                    self.tally.power_losses += 1;
                    self.stop(place);
                    let mut chance = self.chance.at(Family::Disk, place, self.now_us, 0);
                    self.machines[place].disk.lose_power(&mut chance);
                    let machine = &self.machines[place];
                    self.ledger.read_anew(place, machine.node, &machine.disk);
                }
            }
            Fault::Partition(groups) => {
                self.tally.partitions += 1;
                self.network.partition(&groups, self.machines.len());
            }
            Fault::OneWay(from, to) => {
                self.tally.partitions += 1;
                self.network.cut_one_way(from, to);
            }
            Fault::Heal => self.network.heal(),
            Fault::Pause(place, span_us) => {
                self.tally.pauses += 1;
                self.machines[place].paused_until_us = self.now_us + span_us;
            }
            Fault::Clock(place, jump_ms) => {
                self.tally.clock_jumps += 1;
                self.note_time();
                self.machines[place].clock.skew_ms = jump_ms;
            }
            Fault::Link(from, to, fault) => self.on_link_fault(from, to, fault),
            Fault::Node(place, fault) => self.on_node_fault(place, fault),
            Fault::Disk(place, fault) => self.on_disk_fault(place, fault),
            Fault::Client(client, fault) => self.on_client_fault(client, fault),
        }
        self.keep_cuts();
    }

    fn draw_place(&mut self) -> Place {
        self.chance.fault.random_range(0..self.machines.len())
    }

    fn draw_power_loss(&mut self) -> Vec<(u64, Fault)> {
        let mut places: Vec<Place> = (0..self.machines.len()).collect();
        places.shuffle(&mut self.chance.fault);
        let count = match self.chance.fault.random_range(0..3_u8) {
            0 => 1,
            1 => self.chance.fault.random_range(1..=places.len()),
            _ => places.len(),
        };
        places.truncate(count);
        let mut faults = vec![(0, Fault::PowerLoss(places.clone()))];
        for place in places {
            faults.push((self.chance.fault.random_range(10_000..4_000_000), Fault::Start(place)));
        }
        faults
    }

    fn draw_pause(&mut self) -> Vec<(u64, Fault)> {
        let place = self.draw_place();
        let span_us = self.chance.fault.random_range(10_000..5_000_000);
        vec![(0, Fault::Pause(place, span_us))]
    }
}

#[cfg(test)]
mod tests;
