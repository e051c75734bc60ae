//! The network between simulated nodes: what is sent may be late, lost, doubled, reordered,
//! corrupted, or cut off, in one direction or both.
//!
//! A message is bytes; the codecs of production wrote them and will read them. The world asks
//! [`Network::send`] when the bytes arrive, and delivers them then.

use std::collections::BTreeSet;

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
}

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
}

/// All links of the world.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// How links behave that are not cut.
    pub faults: NetworkFaults,
    /// Directions in which nothing passes.
    cut: BTreeSet<(Place, Place)>,
}

impl Network {
    /// When, if ever, `bytes` bytes from one node reach another: once, twice, or not at all.
    pub fn send(
        &self,
        from: Place,
        to: Place,
        bytes: usize,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Vec<Copy> {
        if !self.passes(from, to) || strikes(rng, self.faults.loss) {
            return Vec::new();
        }
        let copies = if strikes(rng, self.faults.duplicate) { 2 } else { 1 };
        (0..copies)
            .map(|_| Copy { delay_us: self.delay_us(rng), flipped_bit: self.flip(bytes, rng) })
            .collect()
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
        assert!(network.send(0, 1, 10, &mut rng).is_empty());
        assert_eq!(network.send(1, 0, 10, &mut rng).len(), 1);
    }

    #[test]
    fn chances_are_what_they_say() {
        let mut network = Network::default();
        network.faults.loss = 100_000;
        network.faults.duplicate = 500_000;
        network.faults.corrupt = 250_000;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
        let sent: Vec<Vec<Copy>> = (0..10_000).map(|_| network.send(0, 1, 8, &mut rng)).collect();
        let lost = sent.iter().filter(|copies| copies.is_empty()).count();
        let doubled = sent.iter().filter(|copies| copies.len() == 2).count();
        let flipped = sent.iter().flatten().filter(|copy| copy.flipped_bit.is_some()).count();
        assert!((900..1_100).contains(&lost), "{lost}");
        assert!((4_300..4_700).contains(&doubled), "{doubled}");
        assert!((3_100..3_650).contains(&flipped), "{flipped}");
    }
}
