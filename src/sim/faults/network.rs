//! What goes wrong between nodes, beside what befalls single messages by chance.

use rand::RngExt as _;
use rand::seq::SliceRandom as _;

use super::Fault;
use crate::sim::network::Place;
use crate::sim::world::World;

/// Something that goes wrong on the way from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// For so many microseconds nothing arrives; then all of it does, in the order of its sending.
    Clog(u64),
    /// The next message arrives in part, and its connection breaks.
    CutShort,
}

impl World {
    pub(super) fn on_link_fault(&mut self, from: Place, to: Place, fault: LinkFault) {
        match fault {
            LinkFault::Clog(span_us) => {
                self.tally.clogs += 1;
                self.network.clog(from, to, self.now_us + span_us);
            }
            LinkFault::CutShort => {
                self.tally.cut_short += 1;
                self.network.cut_short(from, to);
            }
        }
    }

    pub(super) fn draw_partition(&mut self) -> Vec<(u64, Fault)> {
        let nodes = self.machines.len();
        let mut places: Vec<Place> = (0..nodes).collect();
        places.shuffle(&mut self.chance.fault);
        let heals_us = self.chance.fault.random_range(300_000..6_000_000);
        let border = self.chance.fault.random_range(1..nodes.max(2));
        let (one, other) = places.split_at(border.min(nodes));
        let halves = || Fault::Partition(vec![one.to_vec(), other.to_vec()]);
        let fault = match self.chance.fault.random_range(0..8_u8) {
            0 if nodes > 1 => Fault::OneWay(places[0], places[1]),
            1 if !other.is_empty() => {
                let bridge = other[0];
                let mut left = one.to_vec();
                left.push(bridge);
                Fault::Partition(vec![left, other.to_vec()])
            }
            // Each sees itself and two neighbours: a majority of five, and each another one.
            2 if nodes > 2 => Fault::Partition(
                (0..nodes).map(|index| vec![places[index], places[(index + 1) % nodes]]).collect(),
            ),
            3 => Fault::Partition(vec![vec![places[0]], places[1..].to_vec()]),
            4 => return self.flapping(&halves()),
            5 => return self.alone_twice(places[0], &places[1..]),
            _ => halves(),
        };
        vec![(0, fault), (heals_us, Fault::Heal)]
    }

    /// The same borders come and go.
    fn flapping(&mut self, fault: &Fault) -> Vec<(u64, Fault)> {
        let mut at_us = 0;
        let mut faults = Vec::new();
        for _ in 0..self.chance.fault.random_range(2..8_u8) {
            faults.push((at_us, fault.clone()));
            at_us += self.chance.fault.random_range(20_000..800_000);
            faults.push((at_us, Fault::Heal));
            at_us += self.chance.fault.random_range(20_000..800_000);
        }
        faults
    }

    /// A node is cut off, dies there, comes back to the others, and is cut off again before it has
    /// told them all that it did alone.
    fn alone_twice(&mut self, place: Place, others: &[Place]) -> Vec<(u64, Fault)> {
        let alone = Fault::Partition(vec![vec![place], others.to_vec()]);
        let ends = [Fault::Crash(place), Fault::Heal, Fault::Start(place), alone.clone()];
        let mut faults = vec![(0, alone)];
        let mut at_us = 0;
        for fault in ends {
            at_us += self.chance.fault.random_range(1_000..2_500_000);
            faults.push((at_us, fault));
        }
        faults.push((at_us + self.chance.fault.random_range(300_000..3_000_000), Fault::Heal));
        faults
    }

    pub(super) fn draw_link_fault(&mut self) -> Vec<(u64, Fault)> {
        let nodes = self.machines.len();
        let from = self.draw_place();
        let to = (from + self.chance.fault.random_range(1..nodes.max(2))) % nodes;
        if from == to {
            return Vec::new();
        }
        let fault = if self.chance.fault.random() {
            LinkFault::Clog(self.chance.fault.random_range(10_000..5_000_000))
        } else {
            LinkFault::CutShort
        };
        vec![(0, Fault::Link(from, to, fault))]
    }
}
