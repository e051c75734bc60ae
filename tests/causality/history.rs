//! A random history of three owners and a fallback, and the oracle that knows every event.
//!
//! The oracle keeps, for each event, the set of events that its writer had seen. From these sets
//! alone follows which siblings must be there in the end: those that no later writer had seen.

use std::collections::{BTreeMap, BTreeSet};

use peerage::causality::{Dot, Object, VersionVector, merge};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::replica::{Delivery, Mutant, Name, Replica, Standing, Sync, Write};

const OWNERS: usize = 3;
const NAMES: Name = 3;
const CLIENTS: usize = 3;
const FALLBACK_TAG: u32 = 9;

/// What the oracle knows of one event.
struct Event {
    name: Name,
    seen: BTreeSet<Dot>,
    live: bool,
    /// Owners that made it durable and did not lose it since.
    holders: BTreeSet<usize>,
    acknowledged: bool,
}

/// What a client knows of a name.
#[derive(Clone, Default)]
struct Knowledge {
    context: VersionVector,
    seen: BTreeSet<Dot>,
}

/// One run.
pub(crate) struct History {
    rng: Xoshiro256PlusPlus,
    mutant: Option<Mutant>,
    owners: Vec<Replica>,
    fallback: Option<Replica>,
    stints: u32,
    clients: Vec<BTreeMap<Name, Knowledge>>,
    flight: Vec<Delivery>,
    syncs: Vec<Sync>,
    events: BTreeMap<Dot, Event>,
    retries: Vec<(Name, Knowledge, u64)>,
    requests: u64,
    now: u64,
}

/// What a history shows to be wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A read, or the end, is not what the events say.
    Wrong(String),
    /// The end is right, but something was left that never goes: tombstones, contexts, gaps.
    Residue((usize, usize, u64)),
}

/// Runs the history of a seed to its end and judges it.
pub(crate) fn run(seed: u64, mutant: Option<Mutant>) -> Result<(), Violation> {
    let mut history = History::new(seed, mutant);
    for _ in 0..history.rng.random_range(30..160) {
        history.now += 1;
        history.step().map_err(Violation::Wrong)?;
    }
    history.settle();
    history.judge().map_err(Violation::Wrong)?;
    history.residue()
}

impl History {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let owner = |tag| Replica::new(tag, 1, Standing::Ready, mutant);
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            mutant,
            owners: (0..3).map(owner).collect(),
            fallback: None,
            stints: 0,
            clients: vec![BTreeMap::new(); CLIENTS],
            flight: Vec::new(),
            syncs: Vec::new(),
            events: BTreeMap::new(),
            retries: Vec::new(),
            requests: 0,
            now: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent, 100)
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn step(&mut self) -> Result<(), String> {
        match self.rng.random_range(0..100) {
            0..20 => self.read()?,
            20..50 => self.write(),
            50..70 => self.deliver(),
            70..72 => self.double(),
            72..74 => self.drop_one(),
            74..91 => self.sync(),
            91..93 => self.hand_over(),
            93..95 => self.end_stint(),
            95..97 => self.forget(),
            97..98 => self.restart(),
            _ => self.retry(),
        }
        Ok(())
    }

    /// Owners that may answer, in random order.
    fn authorities(&mut self) -> Vec<usize> {
        let mut found: Vec<usize> =
            (0..OWNERS).filter(|&owner| self.owners[owner].has_authority()).collect();
        for index in (1..found.len()).rev() {
            let other = self.below(index + 1);
            found.swap(index, other);
        }
        found
    }

    /// A client reads a name at one owner or at a majority and remembers what it saw.
    fn read(&mut self) -> Result<(), String> {
        let name = self.rng.random_range(0..NAMES);
        let mut asked = self.authorities();
        asked.truncate(if self.chance(50) { 1 } else { 2 });
        let merged = asked
            .iter()
            .map(|&owner| self.owners[owner].read(name))
            .reduce(|left, right| merge(&left, &right))
            .expect("two owners are always ready");
        self.check_read(name, &merged, asked.len())?;
        let mut seen: BTreeSet<Dot> = merged.dots().collect();
        for dot in merged.dots() {
            seen.extend(&self.events[&dot].seen);
        }
        let context = if self.chance(50) { merged.cover() } else { merged.ctx };
        let client = self.below(CLIENTS);
        self.clients[client].insert(name, Knowledge { context, seen });
        Ok(())
    }

    /// Siblings are writes of this name, and a majority knows everything that was acknowledged.
    ///
    /// That a sibling and its successor are both shown for a while is allowed: a compact context
    /// names what was read, not what that had replaced.
    fn check_read(&self, name: Name, merged: &Object, asked: usize) -> Result<(), String> {
        for dot in merged.dots() {
            let event = self.events.get(&dot).ok_or(format!("{dot} was never written"))?;
            if event.name != name {
                return Err(format!("{dot} was written to {}, not {name}", event.name));
            }
        }
        let lacks = |dot: Dot| !merged.ctx.covers(dot) && !merged.dots().any(|held| held == dot);
        self.events
            .iter()
            .find(|(dot, event)| {
                asked >= 2 && event.acknowledged && event.name == name && lacks(**dot)
            })
            .map_or(Ok(()), |(dot, _)| Err(format!("a majority does not know of {dot}")))
    }

    fn write(&mut self) {
        let name = self.rng.random_range(0..NAMES);
        let client = self.below(CLIENTS);
        let blind = self.chance(20);
        let knowledge = self.clients[client].get(&name).filter(|_| !blind).cloned();
        let knowledge = knowledge.unwrap_or_default();
        let delete = self.chance(35) && !knowledge.seen.is_empty();
        self.requests += 1;
        let request = (!delete).then_some(self.requests);
        if self.chance(15) {
            self.begin_stint();
        }
        self.lead(name, &knowledge, request);
        if let Some(request) = request
            && self.chance(15)
        {
            self.retries.push((name, knowledge, request));
        }
    }

    /// A client that was not answered tries again, with what it knew at first.
    fn retry(&mut self) {
        if self.retries.is_empty() {
            return;
        }
        let index = self.below(self.retries.len());
        let (name, knowledge, request) = self.retries.swap_remove(index);
        self.lead(name, &knowledge, Some(request));
    }

    fn lead(&mut self, name: Name, knowledge: &Knowledge, request: Option<u64>) {
        let use_fallback = self.fallback.is_some() && self.chance(30);
        let at = self.authorities()[0];
        let leader = if use_fallback { None } else { Some(at) };
        let now = self.now;
        let replica = match (leader, self.fallback.as_mut()) {
            (None, Some(fallback)) => fallback,
            (None, None) | (Some(_), _) => &mut self.owners[at],
        };
        // A leader that holds the first try of this request knows it, whatever the client knew.
        let mut seen = knowledge.seen.clone();
        for entry in &replica.read(name).entries {
            if Some(entry.rid) == request {
                seen.insert(entry.dot);
                seen.extend(&self.events[&entry.dot].seen);
            }
        }
        let write = Write { name, known: knowledge.context.clone(), request };
        let (dot, object, dots) = replica.lead(&write, now);
        let holders = leader.into_iter().collect();
        let event = Event { name, seen, live: request.is_some(), holders, acknowledged: false };
        self.events.insert(dot, event);
        for to in (0..OWNERS).filter(|&owner| Some(owner) != leader) {
            let (object, dots) = (object.clone(), dots.clone());
            if self.chance(60) {
                self.flight.push(Delivery { to, leader, name, object, dots });
            } else if leader.is_some()
                && self.chance(50)
                && let Some(fallback) = &mut self.fallback
            {
                fallback.receive(name, &object, &dots);
            }
        }
    }

    fn begin_stint(&mut self) {
        if self.fallback.is_some() {
            return;
        }
        self.stints += 1;
        let epoch = if self.mutant == Some(Mutant::StintsShareActor) { 1 } else { self.stints };
        let mut fallback = Replica::new(FALLBACK_TAG, epoch, Standing::Fallback, self.mutant);
        let owner = self.below(OWNERS);
        fallback.begin_stint(&self.owners[owner]);
        self.fallback = Some(fallback);
    }

    fn deliver(&mut self) {
        if !self.flight.is_empty() {
            let index = self.below(self.flight.len());
            let delivery = self.flight.swap_remove(index);
            self.take_in(delivery);
        }
    }

    fn take_in(&mut self, mut delivery: Delivery) {
        if let (Some(Mutant::TornFill), Some(leader)) = (self.mutant, delivery.leader) {
            delivery.object.ctx.join(&self.owners[leader].bases());
        }
        let Delivery { to, name, object, dots, .. } = delivery;
        self.owners[to].receive(name, &object, &dots);
        let Some(event) = dots.first().and_then(|dot| self.events.get_mut(dot)) else { return };
        event.holders.insert(to);
        event.acknowledged |= event.holders.len() >= 2;
    }

    fn double(&mut self) {
        if !self.flight.is_empty() {
            let index = self.below(self.flight.len());
            self.flight.push(self.flight[index].clone());
        }
    }

    fn drop_one(&mut self) {
        if !self.flight.is_empty() {
            let index = self.below(self.flight.len());
            self.flight.swap_remove(index);
        }
    }

    /// One step of a sync that is under way, or the first of a new one, or all of it.
    fn sync(&mut self) {
        let source = self.authorities()[0];
        let target = (source + 1 + self.below(OWNERS - 1)) % OWNERS;
        if self.syncs.len() < 4 && self.chance(40) {
            self.syncs.push(Sync::begin(source, target, &self.owners));
        }
        if self.syncs.is_empty() {
            return;
        }
        let index = self.below(self.syncs.len());
        for _ in 0..self.rng.random_range(1..8) {
            let eager = self.rng.random();
            if self.syncs[index].step(&mut self.owners, eager) {
                self.syncs.swap_remove(index);
                return;
            }
        }
        if self.chance(5) {
            self.syncs.swap_remove(index);
        }
    }

    fn sync_whole(&mut self, source: usize, target: usize) {
        let mut sync = Sync::begin(source, target, &self.owners);
        while !sync.step(&mut self.owners, false) {}
    }

    /// A hint without own dots goes to every owner and is forgotten; the stint goes on.
    fn hand_over(&mut self) {
        let Some(fallback) = &mut self.fallback else { return };
        if let Some(&name) = fallback.hints(false).first() {
            let (object, dots) = fallback.hint(name);
            self.owners.iter_mut().for_each(|owner| owner.receive(name, &object, &dots));
            fallback.forget_hint(name);
        }
    }

    /// Every hint goes to every owner, and the actor of the stint is sealed.
    fn end_stint(&mut self) {
        let Some(fallback) = self.fallback.take() else { return };
        for name in fallback.hints(true) {
            let (object, dots) = fallback.hint(name);
            self.owners.iter_mut().for_each(|owner| owner.receive(name, &object, &dots));
        }
    }

    /// An owner loses its disk while the others are well. What only it knew would be lost for
    /// good, so the others have it first; that is less than every one of them having everything.
    fn forget(&mut self) {
        if self.owners.iter().any(|owner| owner.standing != Standing::Ready) {
            return;
        }
        let victim = self.below(OWNERS);
        let (left, right) = ((victim + 1) % OWNERS, (victim + 2) % OWNERS);
        let others = [&self.owners[left], &self.owners[right]];
        if !self.owners[victim].is_expendable(others) {
            self.sync_whole(victim, left);
        }
        self.syncs.retain(|sync| sync.source != victim && sync.target != victim);
        self.owners[victim].lose_everything();
        for event in self.events.values_mut() {
            event.holders.remove(&victim);
        }
    }

    fn restart(&mut self) {
        let owner = self.below(OWNERS);
        self.owners[owner].restart();
        self.syncs.retain(|sync| sync.source != owner && sync.target != owner);
    }

    /// Everything that is under way arrives, at last also what is very late.
    fn settle(&mut self) {
        self.syncs.clear();
        self.end_stint();
        self.sync_all();
        while let Some(delivery) = self.flight.pop() {
            self.take_in(delivery);
        }
        self.sync_all();
    }

    fn sync_all(&mut self) {
        for _ in 0..2 {
            for target in 0..OWNERS {
                for source in (0..OWNERS).filter(|&source| source != target) {
                    if self.owners[source].has_authority() {
                        self.sync_whole(source, target);
                    }
                }
            }
        }
    }

    /// Every owner holds exactly the events that no later writer had seen.
    fn judge(&self) -> Result<(), String> {
        for name in 0..NAMES {
            let of_name = || self.events.iter().filter(|(_, event)| event.name == name);
            let seen: BTreeSet<Dot> =
                of_name().flat_map(|(_, event)| event.seen.iter().copied()).collect();
            let expected: BTreeSet<Dot> = of_name()
                .filter(|(dot, event)| event.live && !seen.contains(dot))
                .map(|(dot, _)| *dot)
                .collect();
            for owner in &self.owners {
                let held: BTreeSet<Dot> = owner.read(name).dots().collect();
                if held != expected {
                    return Err(format!("{name} is {held:?}, should be {expected:?}"));
                }
            }
        }
        Ok(())
    }

    fn residue(&self) -> Result<(), Violation> {
        let residues = self.owners.iter().map(Replica::residue);
        let worst = residues.max().expect("there are owners");
        if worst == (0, 0, 0) { Ok(()) } else { Err(Violation::Residue(worst)) }
    }
}
