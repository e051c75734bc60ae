//! The log of one node: takes what the shards and the control plane put, and makes it durable.
//!
//! This file holds the state and the border; the path of a write is in `append`, segments and
//! MANIFEST in `upkeep`, compaction in `compact`. Invariants: log sequence numbers grow by one per
//! record and are given in the order in which records lie in the files; nothing is announced as
//! durable before the operation that makes it so has returned; after the first failure nothing is
//! announced and nothing is done.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;

use super::append::Append;
use super::border::{Answer, Event, LogBatch, LogConfig, LogError, LogNote, LogStatus, Recovered};
use super::codec::to_u64;
use super::disk::{Disk, DiskDone, DiskError, DiskOp, FileName, IoId};
use super::filter::Filter;
use super::harvest::Control;
use super::place::Place;
use super::queue::{Put, Queue};
use super::record::{Seed, encode_control};
use super::recovery::{Outcome, Recovery};
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::stamps::Ages;
use super::upkeep::Upkeep;
use crate::cluster::ControlRecord;
use crate::hash::{PartitionId, Token};
use crate::marks::sometimes;
use crate::shard::{Seq, ShardId};
use crate::time::{Mono, Now};

/// The log of one node.
#[derive(Debug)]
pub struct Log {
    pub(super) config: LogConfig,
    pub(super) phase: Phase,
    pub(super) queue: Queue,
    pub(super) append: Append,
    pub(super) upkeep: Upkeep,
    /// Every segment file that holds records or is about to.
    pub(super) segments: BTreeMap<u32, Held>,
    /// The segment that is appended to.
    pub(super) active: Option<u32>,
    /// Tokens of the records of the active segment, and of every other in short.
    pub(super) active_tokens: Vec<Token>,
    pub(super) filters: BTreeMap<u32, Filter>,
    /// The highest number that a segment file ever had.
    pub(super) last_number: u32,
    /// The number of the next record.
    pub(super) next_lsn: u64,
    /// Everybody was told of every record below this.
    pub(super) announced_lsn: u64,
    /// Every record below this is on stable storage.
    pub(super) synced_lsn: u64,
    /// Nothing but Noops has this number or a higher one.
    pub(super) said_lsn: u64,
    /// A record on stable storage says that every record below this was there before it: damage to
    /// one of them can not pass for a torn tail.
    pub(super) proved_lsn: u64,
    /// The newest durable control record of each slot, and those on their way.
    pub(super) control: BTreeMap<u8, Control>,
    /// The newest clock record of each partition: every record up to that number is in it.
    pub(super) clock_records: BTreeMap<PartitionId, (u64, Place)>,
    pub(super) control_pending: Vec<(Seq, u8, Bytes)>,
    /// For each writer the newest put handed, and the newest one announced as durable.
    pub(super) handed: Vec<Seq>,
    pub(super) durable: Vec<Seq>,
    /// Which records are so old that their requests are forgotten.
    pub(super) ages: Ages,
    pub(super) full: bool,
    pub(super) rng: Xoshiro256PlusPlus,
    pub(super) events: Vec<Event>,
    pub(super) status: LogStatus,
    io: Vec<(IoId, Owner)>,
    next_io: u64,
}

/// Where a log stands.
#[derive(Debug)]
pub(super) enum Phase {
    Recovering(Box<Recovery>),
    Running,
    Failed,
}

/// Whose operation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Recovery,
    Append,
    Upkeep,
}

/// A segment file.
#[expect(clippy::struct_excessive_bools, reason = "each holds or not, whatever the others say")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Which one.
    pub(super) segment: Segment,
    /// Where its records end.
    pub(super) end: u64,
    /// Bytes of records that are the newest of their keys, as places count them.
    pub(super) live: u64,
    /// Something in it is damaged: it stays as it is.
    pub(super) damaged: bool,
    /// MANIFEST lists it durably.
    pub(super) listed: bool,
    /// It holds no record yet.
    pub(super) spare: bool,
    /// Its sidecar says what it says.
    pub(super) sidecar: bool,
}

impl Held {
    /// Its number.
    pub(super) fn number(&self) -> u32 {
        self.segment.number
    }

    /// Whether it can become the segment that is appended to.
    pub(super) fn is_ready(&self) -> bool {
        self.spare && self.listed && !self.damaged
    }

    /// Bytes of its records, and of them those that are not live.
    pub(super) fn used_and_dead(&self) -> (u64, u64) {
        let used = self.end.saturating_sub(to_u64(SEGMENT_HEADER_BYTES));
        (used, used.saturating_sub(self.live))
    }
}

impl Log {
    /// A log that recovers what its disk holds as soon as it is pumped.
    pub fn new(config: LogConfig) -> Self {
        assert!(config.shards > 0, "a node has at least one shard");
        let writers = usize::from(config.shards) + 1;
        Self {
            phase: Phase::Recovering(Box::new(Recovery::new(config.clone()))),
            queue: Queue::new(writers),
            append: Append::default(),
            upkeep: Upkeep::default(),
            segments: BTreeMap::new(),
            active: None,
            active_tokens: Vec::new(),
            filters: BTreeMap::new(),
            last_number: 0,
            next_lsn: 1,
            announced_lsn: 1,
            synced_lsn: 1,
            said_lsn: 1,
            proved_lsn: 1,
            control: BTreeMap::new(),
            clock_records: BTreeMap::new(),
            control_pending: Vec::new(),
            handed: vec![Seq(0); writers],
            durable: vec![Seq(0); writers],
            ages: Ages::default(),
            full: false,
            rng: Xoshiro256PlusPlus::seed_from_u64(config.seed),
            events: Vec::new(),
            status: LogStatus::default(),
            io: Vec::new(),
            next_io: 0,
            config,
        }
    }

    /// Takes what a shard has for the log after a turn. Only after `Event::Recovered`.
    pub fn hand(&mut self, shard: ShardId, batch: LogBatch) {
        let writer = usize::from(shard.0);
        let LogBatch { mut bytes, puts, freed, answers } = batch;
        for put in puts {
            let bytes = bytes.split_to(put.bytes);
            self.handed[writer] = put.seq;
            self.queue.push(writer, Put { seq: put.seq, group: put.group, bytes });
        }
        for place in freed {
            self.free(place);
        }
        for answer in answers {
            match answer {
                Answer::Live { records, clocks } => self.on_live(writer, &records, clocks),
                Answer::Released { segment } => self.on_released(segment),
            }
        }
    }

    /// Takes a record of the control plane; numbers grow. Only after `Event::Recovered`.
    pub fn hand_control(&mut self, seq: Seq, record: ControlRecord) {
        let writer = self.control_writer();
        let mut bytes = BytesMut::new();
        encode_control(&mut bytes, record.slot, &record.body);
        self.handed[writer] = seq;
        self.control_pending.push((seq, record.slot, record.body));
        self.queue.push(writer, Put { seq, group: None, bytes });
    }

    /// Submits every operation that can begin now.
    pub fn pump(&mut self, now: Now, disk: &mut impl Disk) {
        if matches!(self.phase, Phase::Running) {
            self.note_age(now);
        }
        while let Some((owner, op)) = self.next_operation(now) {
            let id = IoId(self.next_io);
            self.next_io += 1;
            self.io.push((id, owner));
            disk.submit(id, op);
        }
    }

    /// Takes in what an operation returned.
    pub fn on_io(&mut self, now: Now, id: IoId, result: Result<DiskDone, DiskError>) {
        let position = self.io.iter().position(|(other, _)| *other == id);
        let Some((_, owner)) = position.map(|position| self.io.swap_remove(position)) else {
            return;
        };
        let outcome = match (&mut self.phase, owner) {
            (Phase::Recovering(recovery), _) => recovery.on_done(result),
            (Phase::Running, Owner::Append) => self.on_appended(now, result),
            (Phase::Running, Owner::Upkeep) => self.on_upkeep(now, result),
            (Phase::Running, Owner::Recovery) | (Phase::Failed, _) => Ok(()),
        };
        if let Err(error) = outcome {
            self.fail(error);
        }
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// When to pump again even if nothing happens.
    pub fn deadline(&self) -> Option<Mono> {
        match self.phase {
            Phase::Running => {
                // Where an operation is under way nothing can be done before it is done: a
                // deadline that has passed by then would wake the log again and again.
                let append = self.append_deadline().filter(|_| self.append.is_idle());
                let upkeep = self.upkeep_deadline().filter(|_| self.upkeep.is_idle());
                append.into_iter().chain(upkeep).min()
            }
            Phase::Recovering(_) | Phase::Failed => None,
        }
    }

    /// The file that is appended to.
    pub(super) fn appends_to(&self) -> Option<FileName> {
        self.active.map(FileName::Segment)
    }

    /// Whether everything handed is durable and no operation is under way.
    pub fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Running => {
                self.queue.is_empty() && self.io.is_empty() && self.handed == self.durable
            }
            Phase::Recovering(_) => false,
            Phase::Failed => true,
        }
    }

    /// What it has done and holds.
    pub fn status(&self) -> LogStatus {
        let segments = self.segments.values();
        let sealed = segments.clone().filter(|held| self.is_sealed(held));
        LogStatus {
            sidecars_due: to_u64(sealed.filter(|held| !held.sidecar).count()),
            is_compacting: self.upkeep.compaction.is_some(),
            segments: to_u64(self.segments.len()),
            file_bytes: segments.clone().map(|held| held.segment.bytes).sum(),
            live_bytes: segments.map(|held| held.live).sum(),
            full: self.full,
            ..self.status
        }
    }

    fn next_operation(&mut self, now: Now) -> Option<(Owner, DiskOp)> {
        let is_free = |owner| self.io.iter().all(|(_, other)| *other != owner);
        let (append_free, upkeep_free) = (is_free(Owner::Append), is_free(Owner::Upkeep));
        match &self.phase {
            Phase::Recovering(recovery) if self.io.is_empty() => {
                if let Some(op) = recovery.operation() {
                    return Some((Owner::Recovery, op));
                }
                self.finish_recovery();
                self.next_operation(now)
            }
            Phase::Running => {
                // It may ask for a sync, and for a new MANIFEST.
                self.settle_compaction();
                let append = if append_free { self.begin_append(now) } else { None };
                append.map(|op| (Owner::Append, op)).or_else(|| {
                    let upkeep = if upkeep_free { self.begin_upkeep(now) } else { None };
                    upkeep.map(|op| (Owner::Upkeep, op))
                })
            }
            Phase::Recovering(_) | Phase::Failed => None,
        }
    }

    fn finish_recovery(&mut self) {
        let Phase::Recovering(recovery) = std::mem::replace(&mut self.phase, Phase::Running) else {
            unreachable!("only a recovery is finished");
        };
        let Outcome { segments, harvest, next_lsn, last_number, torn_bytes } =
            recovery.into_outcome();
        self.next_lsn = next_lsn;
        self.announced_lsn = next_lsn;
        self.synced_lsn = next_lsn;
        self.said_lsn = next_lsn;
        self.last_number = last_number;
        let seeds: BTreeMap<u32, Seed> = segments
            .iter()
            .map(|recalled| (recalled.segment.number, recalled.segment.seed()))
            .collect();
        let (hlc, records) = (harvest.hlc, harvest.records);
        let found = harvest.finish(&seeds, &self.config);
        let (is_whole, unnamed) = (found.damage.is_none(), found.damage.unnamed);
        sometimes!("recovery found damage of unknown keys", unnamed);
        sometimes!("recovery found damage and named every key of it", !is_whole && !unnamed);
        for recalled in segments {
            let mut segment = recalled.segment;
            let spare = !segment.cold && segment.first == 0;
            if recalled.appendable && !spare {
                self.active = Some(segment.number);
            } else if !spare && segment.next == 0 && !recalled.open_ended {
                // It cannot be appended to: it is full.
                segment.next = next_lsn;
            }
            self.segments.insert(
                segment.number,
                Held {
                    segment,
                    end: recalled.end,
                    live: found.live.get(&segment.number).copied().unwrap_or(0),
                    damaged: recalled.damaged || (spare && !recalled.appendable),
                    listed: true,
                    spare,
                    sidecar: recalled.has_sidecar,
                },
            );
        }
        self.filters = found.tokens.iter().map(|(n, tokens)| (*n, Filter::of(tokens))).collect();
        self.active_tokens =
            self.active.and_then(|number| found.tokens.get(&number)).cloned().unwrap_or_default();
        self.control = found.control;
        self.clock_records = found.clock_records;
        self.upkeep.dirty = !self.segments.is_empty();
        self.note_recovered_tail();
        let control = self.control.iter().map(|(slot, found)| (*slot, found.body.clone()));
        self.events.push(Event::Recovered(Box::new(Recovered {
            control: control.collect(),
            shards: found.shards,
            hlc,
            lsn: next_lsn - 1,
            records,
            torn_bytes,
            damage: found.damage,
        })));
    }

    pub(super) fn fail(&mut self, error: LogError) {
        self.phase = Phase::Failed;
        self.events.push(Event::Fatal(error));
    }

    /// Nothing points to the record at a place any more.
    pub(super) fn free(&mut self, place: Place) {
        // A segment that is gone has no live bytes to lose.
        if let Some(held) = place.segment().and_then(|number| self.segments.get_mut(&number)) {
            held.live = held.live.saturating_sub(place.read_bytes());
        }
    }

    /// Whether a segment is full, for good, and MANIFEST lists it.
    pub(super) fn is_sealed(&self, held: &Held) -> bool {
        let is_full = !held.spare && held.segment.next != 0;
        held.listed && is_full && Some(held.number()) != self.active
    }

    pub(super) fn control_writer(&self) -> usize {
        usize::from(self.config.shards)
    }

    /// Tells the table of every shard.
    pub(super) fn notify_all(&mut self, note: &LogNote) {
        for shard in 0..self.config.shards {
            self.events.push(Event::Note { shard: ShardId(shard), note: note.clone() });
        }
    }
}
