//! Where chance comes from.
//!
//! What clients do, what goes wrong and what the judges ask is drawn from a stream each, in
//! advance or one after the other. Whatever befalls a single message, disk operation or turn is a
//! function of the seed and of when and where it happens. So a run from which something is left
//! out goes on as it was wherever that makes no difference, which is what makes small failing
//! scenarios findable.

use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use sha2::{Digest as _, Sha256};

/// All chance of a run.
#[derive(Debug)]
pub(super) struct Chance {
    seed: u64,
    keys: [u64; 5],
    /// What clients that draw their work do.
    pub(super) client: Xoshiro256PlusPlus,
    /// What goes wrong when.
    pub(super) fault: Xoshiro256PlusPlus,
    /// Whom the judges ask.
    pub(super) judge: Xoshiro256PlusPlus,
}

/// A family of things that befall what happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    /// A message between nodes: its delay, its loss.
    Network,
    /// An operation of a disk: how long it takes, whether it fails.
    Disk,
    /// A process: its seed, when its turns come up.
    Process,
    /// Bytes between a client and a node.
    Wire,
    /// Where damage strikes.
    Damage,
}

impl Chance {
    /// The chance of a seed.
    pub(super) fn new(seed: u64) -> Self {
        let key = |name| {
            let first = digest(seed, name).first_chunk().copied();
            u64::from_le_bytes(first.expect("a digest has 32 bytes"))
        };
        let stream = |name| Xoshiro256PlusPlus::from_seed(digest(seed, name));
        Self {
            seed,
            keys: [key("network"), key("disk"), key("process"), key("wire"), key("damage")],
            client: stream("client"),
            fault: stream("fault"),
            judge: stream("judge"),
        }
    }

    /// What goes wrong next is drawn from the stream of this kind of fault alone, so that leaving
    /// out one kind leaves the others as they were.
    pub(super) fn draw_faults_of(&mut self, kind: &str) {
        self.fault = Xoshiro256PlusPlus::from_seed(digest(self.seed, kind));
    }

    /// What befalls something of a family, by its place (of a node or client), its time and what
    /// else tells it from others.
    pub(super) fn at(
        &self,
        family: Family,
        place: usize,
        now_us: u64,
        what: u64,
    ) -> Xoshiro256PlusPlus {
        let mut seed = self.keys[family as usize];
        for word in [place as u64, now_us, what] {
            // The multiplier of splitmix64: odd, with its bits well spread.
            seed = (seed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            seed ^= seed >> 32;
        }
        Xoshiro256PlusPlus::seed_from_u64(seed)
    }
}

fn digest(seed: u64, name: &str) -> [u8; 32] {
    Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize().into()
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;

    #[test]
    fn chance_depends_on_the_seed_and_on_what_when_and_where() {
        let drawn = |seed, family, place, now_us, what| -> u64 {
            Chance::new(seed).at(family, place, now_us, what).random()
        };
        let one = drawn(1, Family::Network, 2, 3, 4);
        assert_eq!(one, drawn(1, Family::Network, 2, 3, 4));
        let others = [
            drawn(2, Family::Network, 2, 3, 4),
            drawn(1, Family::Disk, 2, 3, 4),
            drawn(1, Family::Network, 3, 3, 4),
            drawn(1, Family::Network, 2, 4, 4),
            drawn(1, Family::Network, 2, 3, 5),
        ];
        assert!(others.iter().all(|other| *other != one), "{one} {others:?}");
    }

    #[test]
    fn neighbouring_instants_have_nothing_in_common() {
        let chance = Chance::new(7);
        let hits = (0..10_000)
            .filter(|&now_us| chance.at(Family::Disk, 0, now_us, 0).random_range(0..10_u8) == 0)
            .count();
        assert!((850..1_150).contains(&hits), "{hits}");
    }
}
