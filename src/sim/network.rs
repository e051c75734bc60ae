//! The network between simulated nodes: what is sent may be late, lost, doubled, reordered,
//! corrupted, or cut off, in one direction or both.
//!
//! A message is bytes; the codecs of production wrote them and will read them. The world asks
//! [`Network::send`] when the bytes arrive, and delivers them then.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

/// The place of a node in the world, from 0.
pub type Place = usize;

/// How the network behaves; chances in a million, times in microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkFaults {
    /// Shortest delay.
    pub delay_min_us: u64,
    /// Longest delay of most messages.
    pub delay_max_us: u64,
    /// Chance of a straggler.
    pub straggler: u32,
    /// A straggler's delay is up to this many times the longest.
    pub straggler_factor: u64,
    /// Chance that a message is lost.
    pub loss: u32,
    /// Chance that it arrives twice.
    pub duplicate: u32,
    /// Chance that one of its bits is flipped on the way.
    pub corrupt: u32,
    /// Chance that it arrives once more up to 5 seconds later, perhaps in another life of
    /// both its ends.
    pub stale: u32,
    /// Messages under way from one node to another; more are lost. 0 = any number.
    pub queue: u64,
}

/// The latest that a stale message arrives.
const STALE_US_MAX: u64 = 5_000_000;

impl Default for NetworkFaults {
    /// A good local network: 0.1 to 1 ms, nothing lost.
    fn default() -> Self {
        Self {
            delay_min_us: 100,
            delay_max_us: 1_000,
            straggler: 0,
            straggler_factor: 1,
            loss: 0,
            duplicate: 0,
            corrupt: 0,
            stale: 0,
            queue: 0,
        }
    }
}

/// One copy of a message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Microseconds until it arrives.
    pub delay_us: u64,
    /// The bit of it that is flipped on the way, counted from its beginning.
    pub flipped_bit: Option<u64>,
    /// Whether only a part of it arrives, and its connection breaks.
    pub cut_short: bool,
}

/// All links of the world.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// How links behave that are not cut.
    pub faults: NetworkFaults,
    /// Directions in which nothing passes.
    cut: BTreeSet<(Place, Place)>,
    /// Ways on which everything waits until a time, and how much does.
    clogs: BTreeMap<(Place, Place), (u64, u64)>,
    /// Ways on which the next message is cut short.
    cutting: BTreeSet<(Place, Place)>,
    /// When the messages arrive that are under way, where their number is bounded.
    under_way: BTreeMap<(Place, Place), Vec<u64>>,
}

impl Network {
    /// When, if ever, `bytes` bytes from one node reach another: once, several times, or not at
    /// all.
    pub fn send(
        &mut self,
        from: Place,
        to: Place,
        bytes: usize,
        now_us: u64,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Vec<Copy> {
        if !self.passes(from, to) || strikes(rng, self.faults.loss) {
            return Vec::new();
        }
        let copies = if strikes(rng, self.faults.duplicate) { 2 } else { 1 };
        let mut sent: Vec<Copy> = (0..copies)
            .map(|_| Copy {
                delay_us: self.delay_us(rng),
                flipped_bit: self.flip(bytes, rng),
                cut_short: false,
            })
            .collect();
        if let Some((until_us, waiting)) = self.clogs.get_mut(&(from, to)) {
            if *until_us > now_us {
                for copy in &mut sent {
                    *waiting += 1;
                    copy.delay_us = *until_us - now_us + *waiting;
                }
            } else {
                self.clogs.remove(&(from, to));
            }
        }
        if bytes > 1 && self.cutting.remove(&(from, to)) {
            sent[0].cut_short = true;
        }
        if self.faults.queue > 0 {
            self.drop_what_is_too_much((from, to), now_us, &mut sent);
        }
        if strikes(rng, self.faults.stale) {
            let delay_us = rng.random_range(1_000_000..STALE_US_MAX);
            sent.push(Copy { delay_us, flipped_bit: None, cut_short: false });
        }
        sent
    }

    fn drop_what_is_too_much(&mut self, way: (Place, Place), now_us: u64, sent: &mut Vec<Copy>) {
        let under_way = self.under_way.entry(way).or_default();
        under_way.retain(|arrives_us| *arrives_us > now_us);
        let room = self.faults.queue.saturating_sub(under_way.len() as u64);
        sent.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        under_way.extend(sent.iter().map(|copy| now_us + copy.delay_us));
    }

    /// Lets everything wait that goes this way, until a time.
    pub fn clog(&mut self, from: Place, to: Place, until_us: u64) {
        self.clogs.insert((from, to), (until_us, 0));
    }

    /// Lets only a part of the next message arrive that goes this way.
    pub fn cut_short(&mut self, from: Place, to: Place) {
        self.cutting.insert((from, to));
    }

    /// Whether anything passes in this direction.
    pub fn passes(&self, from: Place, to: Place) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Cuts one direction.
    pub fn cut_one_way(&mut self, from: Place, to: Place) {
        self.cut.insert((from, to));
    }

    /// Cuts both directions.
    pub fn cut(&mut self, one: Place, other: Place) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Cuts whatever crosses the borders of these groups. A node in none of them is alone; one in
    /// several is a bridge between them.
    pub fn partition(&mut self, groups: &[Vec<Place>], nodes: usize) {
        self.heal();
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from) {
                let together =
                    groups.iter().any(|group| group.contains(&from) && group.contains(&to));
                if !together {
                    self.cut_one_way(from, to);
                }
            }
        }
    }

    /// Joins everything again.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.clogs.clear();
        self.cutting.clear();
    }

    /// The directions that are cut, in order.
    pub fn cuts(&self) -> impl Iterator<Item = (Place, Place)> + '_ {
        self.cut.iter().copied()
    }

    fn delay_us(&self, rng: &mut Xoshiro256PlusPlus) -> u64 {
        let faults = &self.faults;
        let delay = rng.random_range(faults.delay_min_us..=faults.delay_max_us);
        if strikes(rng, faults.straggler) {
            delay * rng.random_range(1..=faults.straggler_factor.max(1))
        } else {
            delay
        }
    }

    fn flip(&self, bytes: usize, rng: &mut Xoshiro256PlusPlus) -> Option<u64> {
        let hit = bytes > 0 && strikes(rng, self.faults.corrupt);
        hit.then(|| rng.random_range(0..bytes as u64 * 8))
    }
}

/// Whether something with this chance in a million happens. Draws nothing where it cannot.
pub(super) fn strikes(rng: &mut Xoshiro256PlusPlus, per_million: u32) -> bool {
    per_million > 0 && rng.random_range(0..1_000_000_u32) < per_million
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_partition_cuts_its_borders_and_a_bridge_spans_them() {
        let mut network = Network::default();
        network.partition(&[vec![0, 1], vec![1, 2]], 4);
        let passing: Vec<(Place, Place)> = (0..4)
            .flat_map(|from| (0..4).map(move |to| (from, to)))
            .filter(|&(from, to)| from != to && network.passes(from, to))
            .collect();
        assert_eq!(passing, [(0, 1), (1, 0), (1, 2), (2, 1)]);
        network.heal();
        assert!(network.passes(0, 3));
    }

    #[test]
    fn a_one_way_cut_lets_the_other_way_pass() {
        let mut network = Network::default();
        network.cut_one_way(0, 1);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        assert!(network.send(0, 1, 10, 0, &mut rng).is_empty());
        assert_eq!(network.send(1, 0, 10, 0, &mut rng).len(), 1);
    }

    #[test]
    fn chances_are_what_they_say() {
        let mut network = Network::default();
        network.faults.loss = 100_000;
        network.faults.duplicate = 500_000;
        network.faults.corrupt = 250_000;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let sent: Vec<Vec<Copy>> =
            (0..10_000).map(|_| network.send(0, 1, 8, 0, &mut rng)).collect();
        let lost = sent.iter().filter(|copies| copies.is_empty()).count();
        let doubled = sent.iter().filter(|copies| copies.len() == 2).count();
        let flipped = sent.iter().flatten().filter(|copy| copy.flipped_bit.is_some()).count();
        assert!((900..1_100).contains(&lost), "{lost}");
        assert!((4_300..4_700).contains(&doubled), "{doubled}");
        assert!((3_100..3_650).contains(&flipped), "{flipped}");
    }

    #[test]
    fn a_clogged_way_delivers_late_and_in_order() {
        let mut network = Network::default();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        network.clog(0, 1, 5_000_000);
        let arrives: Vec<u64> = (0..20)
            .map(|step| {
                let now_us = step * 1_000;
                now_us + network.send(0, 1, 8, now_us, &mut rng)[0].delay_us
            })
            .collect();
        assert!(arrives.is_sorted(), "{arrives:?}");
        assert!(arrives[0] >= 5_000_000);
        assert!(network.send(0, 1, 8, 6_000_000, &mut rng)[0].delay_us <= 1_000);
    }

    #[test]
    fn one_message_is_cut_short_and_no_other() {
        let mut network = Network::default();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        network.cut_short(0, 1);
        let cut: Vec<bool> =
            (0..3).map(|_| network.send(0, 1, 8, 0, &mut rng)[0].cut_short).collect();
        assert_eq!(cut, [true, false, false]);
    }

    #[test]
    fn a_bounded_queue_loses_what_is_too_much_and_a_stale_copy_comes_late() {
        let mut network = Network::default();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
        network.faults.queue = 2;
        let sent = |network: &mut Network, rng: &mut Xoshiro256PlusPlus, now_us| {
            network.send(0, 1, 8, now_us, rng).len()
        };
        let counts: Vec<usize> = (0..4).map(|_| sent(&mut network, &mut rng, 0)).collect();
        assert_eq!(counts, [1, 1, 0, 0]);
        assert_eq!(sent(&mut network, &mut rng, 10_000), 1);
        network.faults = NetworkFaults { stale: 1_000_000, ..NetworkFaults::default() };
        let copies = network.send(0, 1, 8, 20_000, &mut rng);
        assert!(copies[0].delay_us <= 1_000 && copies[1].delay_us >= 1_000_000);
    }
}
