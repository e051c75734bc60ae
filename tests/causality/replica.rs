//! One replica of one partition around the real causality code, with every rule breakable.
//!
//! What the shard does to a partition is repeated here in its smallest form: no disk, no quorum,
//! names of one byte. So a history of a hundred steps costs microseconds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use peerage::causality::{
    Actor, Dot, Entry, NodeTag, Object, PartitionClock, VersionVector, fill, merge, put, strip,
};
use peerage::time::Hlc;

/// A key.
pub(crate) type Name = u8;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// R1: a message carries the clock of the instant at which it is sent.
    TornFill,
    /// R2: a sync takes its clock after it has read the objects.
    LateClock,
    /// R3: objects are filled with the events above the base too.
    FillAboveBase,
    /// R4: a replica that lost its memory goes on under its old actor.
    AmnesiacKeepsActor,
    /// R4: every stint of a fallback mints under one actor.
    StintsShareActor,
    /// R5: a sync adopts the clock and leaves out the objects.
    ClockWithoutData,
    /// R5: a replica that is being rebuilt leads, syncs others and counts for reads.
    RebuildingCounts,
    /// R5: one source is enough for a rebuilt replica.
    OneSourceSuffices,
    /// R5b: a replica that was rebuilt from nothing never fills.
    RebuiltNeverFills,
    /// A full sync does not say what the source lacks.
    AbsenceUnsaid,
    /// R6: a fallback fills with its own clock.
    FallbackFills,
    /// R6: a fallback adopts the clock of an owner.
    FallbackJoins,
    /// R7, an optimisation: the dots that a write replaced do not travel with it.
    GoneUnsaid,
}

/// How far a replica can be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It owns the partition.
    Ready,
    /// It lost everything; these sources have given it all that they have.
    Rebuilding(BTreeSet<usize>),
    /// It keeps hints for the owners.
    Fallback,
}

/// A replica of the one partition.
pub(crate) struct Replica {
    pub(crate) standing: Standing,
    tag: NodeTag,
    epoch: u32,
    seq: u64,
    clock: PartitionClock,
    objects: BTreeMap<Name, Object>,
    dots: BTreeMap<Dot, Name>,
    lost_once: bool,
    mutant: Option<Mutant>,
}

/// A write on its way to one replica.
#[derive(Clone)]
pub(crate) struct Delivery {
    pub(crate) to: usize,
    pub(crate) leader: Option<usize>,
    pub(crate) name: Name,
    pub(crate) object: Object,
    pub(crate) dots: Vec<Dot>,
}

/// A client's write: `None` deletes.
pub(crate) struct Write {
    pub(crate) name: Name,
    pub(crate) known: VersionVector,
    pub(crate) request: Option<u64>,
}

/// One replica pulls what it lacks from another, in small steps.
pub(crate) struct Sync {
    pub(crate) source: usize,
    pub(crate) target: usize,
    clock: Option<PartitionClock>,
    full: bool,
    unread: Vec<Name>,
    sent: VecDeque<(Name, Object, Vec<Dot>)>,
    named: BTreeSet<Name>,
}

impl Replica {
    pub(crate) fn new(tag: u32, epoch: u32, standing: Standing, mutant: Option<Mutant>) -> Self {
        Self {
            standing,
            tag: NodeTag(tag),
            epoch,
            seq: 0,
            clock: PartitionClock::new(),
            objects: BTreeMap::new(),
            dots: BTreeMap::new(),
            lost_once: false,
            mutant,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn actor(&self) -> Actor {
        Actor::new(self.tag, self.epoch)
    }

    /// Whether it may lead, be read and be a source.
    pub(crate) fn has_authority(&self) -> bool {
        self.standing == Standing::Ready
            || self.is(Mutant::RebuildingCounts) && self.standing != Standing::Fallback
    }

    fn strips(&self) -> bool {
        match &self.standing {
            Standing::Ready => true,
            Standing::Rebuilding(sources) => !sources.is_empty(),
            Standing::Fallback => self.is(Mutant::FallbackFills) || self.is(Mutant::FallbackJoins),
        }
    }

    fn fills(&self) -> bool {
        self.strips() && !(self.lost_once && self.is(Mutant::RebuiltNeverFills))
    }

    /// The object of a name with all that this replica knows of it.
    pub(crate) fn read(&self, name: Name) -> Object {
        let stored = self.objects.get(&name).cloned().unwrap_or_default();
        if !self.fills() {
            return stored;
        }
        let mut filled = fill(stored, &self.clock);
        if self.is(Mutant::FillAboveBase) {
            self.dots.keys().filter(|&&dot| self.clock.contains(dot)).for_each(|&dot| {
                filled.ctx.raise_to(dot);
            });
        }
        filled
    }

    fn save(&mut self, name: Name, object: Object) {
        let stored = if self.strips() { strip(object, &self.clock) } else { object };
        if stored.is_void() {
            self.objects.remove(&name);
        } else {
            self.objects.insert(name, stored);
        }
    }

    fn note(&mut self, name: Name, dots: impl IntoIterator<Item = Dot>) {
        for dot in dots {
            self.clock.add(dot);
            self.dots.insert(dot, name);
        }
    }

    /// Leads a write. Returns its dot, the object to send and the dots that go with it.
    pub(crate) fn lead(&mut self, write: &Write, at: u64) -> (Dot, Object, Vec<Dot>) {
        self.seq += 1;
        let dot = Dot { actor: self.actor(), seq: self.seq };
        let entry = write.request.map(|request| {
            let payload = Bytes::copy_from_slice(&request.to_le_bytes());
            Entry { rid: request, ..Entry::register(dot, Hlc(at), payload) }
        });
        let done = put(self.read(write.name), dot, &write.known, entry);
        self.note(write.name, [dot]);
        self.save(write.name, done.object.clone());
        let gone = if self.is(Mutant::GoneUnsaid) { Vec::new() } else { done.gone };
        (dot, done.object, [dot].into_iter().chain(gone).collect())
    }

    /// Merges what another replica knows of a name.
    pub(crate) fn receive(&mut self, name: Name, object: &Object, dots: &[Dot]) {
        let merged = merge(&self.read(name), object);
        self.note(name, dots.iter().copied().chain(object.dots()));
        self.save(name, merged);
    }

    /// Goes on under a new actor, as after every start.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        self.seq = 0;
    }

    /// Everything is gone; the owners must help.
    pub(crate) fn lose_everything(&mut self) {
        self.objects.clear();
        self.dots.clear();
        self.clock = PartitionClock::new();
        self.standing = Standing::Rebuilding(BTreeSet::new());
        self.lost_once = true;
        self.seq = 0;
        if !self.is(Mutant::AmnesiacKeepsActor) {
            self.restart();
        }
    }

    /// What a fallback knows of the owners when its stint begins: nothing, by rule R6.
    pub(crate) fn begin_stint(&mut self, owner: &Self) {
        if self.is(Mutant::FallbackJoins) {
            self.clock.join(&owner.clock);
        }
    }

    /// The names of the hints of a fallback. `own` = with those that hold its own dots.
    pub(crate) fn hints(&self, own: bool) -> Vec<Name> {
        let minted =
            |name: Name| self.dots.iter().any(|(dot, of)| *of == name && dot.actor == self.actor());
        self.objects.keys().copied().filter(|&name| own || !minted(name)).collect()
    }

    /// A hint with all its dots.
    pub(crate) fn hint(&self, name: Name) -> (Object, Vec<Dot>) {
        (self.read(name), self.dots_of(name))
    }

    /// A hint that every owner has acknowledged goes.
    pub(crate) fn forget_hint(&mut self, name: Name) {
        self.objects.remove(&name);
        self.dots.retain(|_, of| *of != name);
    }

    /// The bases of its clock, now.
    pub(crate) fn bases(&self) -> VersionVector {
        self.clock.bases()
    }

    /// Whether every event known here is known at one of the others too.
    pub(crate) fn is_expendable(&self, others: [&Self; 2]) -> bool {
        self.dots.keys().all(|&dot| others.iter().any(|other| other.clock.contains(dot)))
    }

    /// Keys without siblings, keys with residual contexts, events above the bases: all 0 at rest.
    pub(crate) fn residue(&self) -> (usize, usize, u64) {
        let tombstones = self.objects.values().filter(|object| object.entries.is_empty()).count();
        let contexts = self.objects.values().filter(|object| !object.ctx.is_empty()).count();
        (tombstones, contexts, self.clock.scattered())
    }

    fn dots_of(&self, name: Name) -> Vec<Dot> {
        self.dots.iter().filter(|(_, of)| **of == name).map(|(dot, _)| *dot).collect()
    }
}

impl Sync {
    /// The target says what it knows; the source looks up what that lacks.
    pub(crate) fn begin(source: usize, target: usize, replicas: &[Replica]) -> Self {
        let (from, to) = (&replicas[source], &replicas[target]);
        let full = matches!(to.standing, Standing::Rebuilding(_));
        let lacking = from
            .dots
            .iter()
            .filter(|(dot, _)| from.clock.contains(**dot) && !to.clock.contains(**dot))
            .map(|(_, name)| *name);
        let unread: BTreeSet<Name> =
            if full { from.objects.keys().copied().collect() } else { lacking.collect() };
        let skip = from.is(Mutant::ClockWithoutData);
        Self {
            source,
            target,
            clock: (!from.is(Mutant::LateClock)).then(|| from.clock.clone()),
            full,
            unread: if skip { Vec::new() } else { unread.into_iter().collect() },
            sent: VecDeque::new(),
            named: BTreeSet::new(),
        }
    }

    /// Reads one object at the source, or else takes one in at the target, or else ends.
    /// `eager` prefers the target. Returns whether the sync is over.
    pub(crate) fn step(&mut self, replicas: &mut [Replica], eager: bool) -> bool {
        if (!eager || self.sent.is_empty())
            && let Some(name) = self.unread.pop()
        {
            let source = &replicas[self.source];
            self.sent.push_back((name, source.read(name), source.dots_of(name)));
            return false;
        }
        if let Some((name, object, dots)) = self.sent.pop_front() {
            replicas[self.target].receive(name, &object, &dots);
            self.named.insert(name);
            return false;
        }
        let source = &replicas[self.source];
        let clock = self.clock.take().unwrap_or_else(|| source.clock.clone());
        let dots: Vec<_> = source
            .dots
            .iter()
            .filter(|(dot, _)| clock.contains(**dot))
            .map(|(dot, name)| (*dot, *name))
            .collect();
        self.adopt(&mut replicas[self.target], &clock, dots);
        true
    }

    /// Everything that the clock speaks of has arrived.
    fn adopt(&self, target: &mut Replica, clock: &PartitionClock, dots: Vec<(Dot, Name)>) {
        let names: Vec<Name> = target.objects.keys().copied().collect();
        if self.full && !target.is(Mutant::AbsenceUnsaid) {
            // What the source did not name it does not hold, and it knew its clock when it looked.
            // So an object that came late and by another way is judged by that clock.
            let absent = Object { entries: Vec::new(), ctx: clock.bases() };
            for &name in names.iter().filter(|&name| !self.named.contains(name)) {
                let merged = merge(&target.read(name), &absent);
                target.save(name, merged);
            }
        }
        target.dots.extend(dots);
        target.clock.join(clock);
        let enough = if target.is(Mutant::OneSourceSuffices) { 1 } else { 2 };
        if let Standing::Rebuilding(sources) = &mut target.standing {
            sources.insert(self.source);
            if sources.len() >= enough {
                target.standing = Standing::Ready;
            }
        }
        for name in names {
            if let Some(object) = target.objects.get(&name).cloned() {
                target.save(name, object);
            }
        }
    }
}
