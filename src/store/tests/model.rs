//! Tables and log against a map: random puts, deletes and batches, reads at any moment,
//! compactions, crashes of the process and of the machine, restarts with other numbers of shards.
//!
//! After each start every shard holds a prefix of what was put there, with everything that was
//! acknowledged; a batch that spans shards is in all of them or in none; and the clocks hold
//! exactly the dots of what is there.

use std::collections::BTreeMap;

use super::disk::MemoryDisk;
use super::node::{Node, config, partition_of};
use crate::causality::Dot;
use crate::config::Durability;
use crate::hash::{BucketId, Key, PartitionId};
use crate::shard::{Lookup, Record, Seq, Table as _};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Value(Vec<u8>),
    /// No sibling, but a context.
    Bare,
}

type State = BTreeMap<Key, Held>;

/// A put of one shard.
#[derive(Clone, Debug)]
struct Change {
    seq: Seq,
    group: Option<u64>,
    items: Vec<(Key, Option<Held>, Dot)>,
}

/// The node, and what it must say.
struct Model {
    node: Node,
    keys: Vec<Key>,
    base: State,
    /// Since the last start, for each shard.
    issued: Vec<Vec<Change>>,
    control: BTreeMap<u8, Vec<u8>>,
    control_issued: Vec<(Seq, u8, Vec<u8>)>,
    /// Dots that are in the log for certain, by partition.
    dots: Vec<(PartitionId, Dot)>,
    counter: u64,
    compactions: u64,
    cold_reads: u64,
}

fn apply(state: &mut State, change: &Change) {
    for (key, held, _) in &change.items {
        match held {
            Some(held) => state.insert(key.clone(), held.clone()),
            None => state.remove(key),
        };
    }
}

impl Model {
    fn new(seed: u64, durability: Durability) -> Self {
        let shards = u16::try_from(seed % 3 + 1).unwrap();
        let mut settings = config(shards, 4096 << (seed % 3));
        settings.seed = seed;
        settings.durability = durability;
        settings.cache_bytes = 8 * 1024;
        let mut keys: Vec<Key> =
            (0..40).map(|number| Key::plain(format!("key {number}"))).collect();
        // Two keys with one token.
        let twin = Key { bytes: "twin".into(), ..keys[0].clone() };
        keys.push(twin);
        let node = Node::start(settings, MemoryDisk::default(), 0);
        let issued = vec![Vec::new(); usize::from(shards)];
        Self {
            node,
            keys,
            base: State::new(),
            issued,
            control: BTreeMap::new(),
            control_issued: Vec::new(),
            dots: Vec::new(),
            counter: 0,
            compactions: 0,
            cold_reads: 0,
        }
    }

    fn current(&self) -> State {
        let mut state = self.base.clone();
        self.issued.iter().flatten().for_each(|change| apply(&mut state, change));
        state
    }

    fn step(&mut self) {
        match self.node.draw(100) {
            0..45 => self.put(),
            45..55 => self.put_batch(),
            55..58 => self.put_control(),
            58..66 => {
                let key = self.draw_key();
                self.cold_reads += u64::from(self.node.glance(&key) == Lookup::Cold);
            }
            66..76 => self.check_one(),
            76..90 => {
                let turns = self.node.draw(8);
                (0..turns).for_each(|_| {
                    self.node.turn();
                });
            }
            90..96 => {
                let ms = self.node.draw(60) as u64;
                self.node.pass(ms);
            }
            96..98 => self.check_all(),
            _ => self.crash(),
        }
        assert_eq!(self.node.fatal, None);
    }

    fn draw_key(&mut self) -> Key {
        let index = self.node.draw(self.keys.len());
        self.keys[index].clone()
    }

    fn draw_change(&mut self, key: &Key) -> (Record, Option<Held>) {
        self.counter += 1;
        match self.node.draw(10) {
            0 | 1 => (self.node.record(key, None), None),
            2 => (self.node.bare_record(key), Some(Held::Bare)),
            kind => {
                let length = if kind == 3 { self.node.draw(9_000) } else { self.node.draw(200) };
                let mut value = self.counter.to_le_bytes().to_vec();
                value.resize(8 + length, 7);
                (self.node.record(key, Some(&value)), Some(Held::Value(value)))
            }
        }
    }

    fn put(&mut self) {
        let key = self.draw_key();
        let (record, held) = self.draw_change(&key);
        let dot = record.dots[0];
        let shard = self.node.shard_of(&key);
        let seq = self.node.put_records(vec![record]);
        self.issued[shard].push(Change { seq, group: None, items: vec![(key, held, dot)] });
    }

    fn put_batch(&mut self) {
        let count = 1 + self.node.draw(5);
        let mut items = BTreeMap::new();
        for _ in 0..count {
            let key = self.draw_key();
            let change = self.draw_change(&key);
            items.insert(key, change);
        }
        let mut parts: BTreeMap<usize, Vec<(Key, Record, Option<Held>)>> = BTreeMap::new();
        for (key, (record, held)) in items {
            parts.entry(self.node.shard_of(&key)).or_default().push((key, record, held));
        }
        self.counter += 1;
        let group = (parts.len() > 1).then_some(self.counter);
        let count = u16::try_from(parts.len()).unwrap();
        for (shard, part) in parts {
            let records = part.iter().map(|item| item.1.clone()).collect();
            let seq = self.node.put_part(shard, records, group.map(|id| (id, count)));
            let items =
                part.into_iter().map(|(key, record, held)| (key, held, record.dots[0])).collect();
            self.issued[shard].push(Change { seq, group, items });
        }
    }

    fn put_control(&mut self) {
        self.counter += 1;
        let seq = Seq(self.control_issued.len() as u64 + 1);
        let slot = u8::try_from(self.node.draw(3)).unwrap();
        let body = self.counter.to_le_bytes().to_vec();
        self.node.put_control(seq, slot, &body);
        self.control_issued.push((seq, slot, body));
    }

    fn check_one(&mut self) {
        let key = self.draw_key();
        let expected = self.current().get(&key).cloned();
        let found = held(self.node.get(&key));
        assert_eq!(found, expected, "{key:?}");
    }

    fn check_all(&mut self) {
        let current = self.current();
        let scanned: State = self
            .node
            .scan()
            .into_iter()
            .filter_map(|(key, lookup)| Some((key, held(lookup)?)))
            .collect();
        assert_eq!(scanned, current);
        for partition in 0..super::node::PARTITIONS {
            let partition = PartitionId(partition);
            let live = |(key, held): &(&Key, &Held)| {
                partition_of(key) == partition && **held != Held::Bare
            };
            let expected = current.iter().filter(live).count() as u64;
            let shard = usize::from(partition.0) % self.node.stores.len();
            assert_eq!(self.node.stores[shard].count(partition, BucketId(0)), expected);
        }
    }

    fn crash(&mut self) {
        let power = self.node.draw(2) == 0;
        let always = self.node.config.durability == Durability::Always;
        let shards = u16::try_from(1 + self.node.draw(3)).unwrap();
        let durable = self.node.durable.clone();
        self.compactions += self.node.log.status().compactions;
        let empty = Node::start(self.node.config.clone(), MemoryDisk::default(), 0);
        self.node = std::mem::replace(&mut self.node, empty).crash_into(power, shards);
        assert!(self.node.damage.is_none(), "{:?}", self.node.damage);
        // Without a sync before the acknowledgement, power may take what was acknowledged.
        let acknowledged = |upto: Seq| if always || !power { upto } else { Seq(0) };
        self.resolve(&durable.iter().map(|&upto| acknowledged(upto)).collect::<Vec<_>>());
        self.resolve_control(acknowledged(*durable.last().unwrap()));
        self.issued = vec![Vec::new(); usize::from(shards)];
        self.check_all();
    }

    /// Finds out which prefix of each shard has survived.
    fn resolve(&mut self, durable: &[Seq]) {
        let mut groups: BTreeMap<u64, bool> = BTreeMap::new();
        for (shard, changes) in std::mem::take(&mut self.issued).into_iter().enumerate() {
            let survived = |change: &Change| {
                change.items.iter().all(|(key, _, dot)| {
                    let clock = self.node.clocks.get(&partition_of(key));
                    clock.is_some_and(|clock| clock.contains(*dot))
                })
            };
            let cut = changes.iter().take_while(|change| survived(change)).count();
            for (index, change) in changes.iter().enumerate() {
                let is_there = index < cut;
                assert!(is_there || change.seq > durable[shard], "an acknowledged put is lost");
                for (key, _, dot) in &change.items {
                    let clock = self.node.clocks.get(&partition_of(key));
                    let known = clock.is_some_and(|clock| clock.contains(*dot));
                    assert_eq!(known, is_there, "the clock holds what is there and nothing else");
                    if is_there {
                        self.dots.push((partition_of(key), *dot));
                    }
                }
                if let Some(group) = change.group {
                    let other = *groups.entry(group).or_insert(is_there);
                    assert_eq!(other, is_there, "half a batch");
                }
                if is_there {
                    apply(&mut self.base, change);
                }
            }
        }
        for (partition, dot) in &self.dots {
            assert!(self.node.clocks[partition].contains(*dot), "{dot} is forgotten");
        }
    }

    fn resolve_control(&mut self, durable: Seq) {
        let issued = std::mem::take(&mut self.control_issued);
        let known = usize::try_from(durable.0).unwrap();
        let state_at = |cut: usize| {
            let mut state = self.control.clone();
            state.extend(issued[..cut].iter().map(|(_, slot, body)| (*slot, body.clone())));
            state
        };
        let found: BTreeMap<u8, Vec<u8>> =
            self.node.control.iter().map(|(slot, body)| (*slot, body.to_vec())).collect();
        let cut = (known..=issued.len()).find(|cut| state_at(*cut) == found);
        assert!(cut.is_some(), "control records are a prefix with everything acknowledged");
        self.control = found;
    }
}

fn held(lookup: Lookup) -> Option<Held> {
    match lookup {
        Lookup::Found(object) => {
            Some(object.winner().map_or(Held::Bare, |entry| Held::Value(entry.payload.to_vec())))
        }
        Lookup::Absent => None,
        Lookup::Unknown | Lookup::Cold => panic!("nothing is damaged and everything was fetched"),
    }
}

fn run(seeds: std::ops::Range<u64>, durability: Durability) -> (u64, u64) {
    let (mut compactions, mut cold_reads) = (0, 0);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed, durability);
            (0..1_500).for_each(|_| model.step());
            (model.compactions, model.cold_reads)
        });
        let (more, reads) = outcome.unwrap_or_else(|cause| {
            eprintln!("seed {seed}, {durability:?}");
            std::panic::resume_unwind(cause)
        });
        compactions += more;
        cold_reads += reads;
    }
    (compactions, cold_reads)
}

#[test]
fn a_store_behaves_like_a_map_through_crashes_and_compactions() {
    let (compactions, cold_reads) = run(0..40, Durability::Always);
    assert!(compactions > 200, "{compactions} compactions");
    assert!(cold_reads > 200, "{cold_reads} cold reads");
}

#[test]
fn without_a_sync_per_group_what_is_lost_is_a_tail_and_never_called_damage() {
    run(100..120, Durability::Interval);
    run(200..220, Durability::Os);
}
