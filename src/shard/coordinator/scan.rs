//! A page of the whole ring: SCAN, KEYS and CONFLICTS.
//!
//! Token order is the same on all nodes and through all layouts, so the cursor is a token, any node
//! continues any cursor, and a key that is there throughout appears exactly once. Partitions are
//! asked in that order, several at a time: a window that grows while partitions turn out to be
//! sparse, so that a ring of 1,024 almost empty ones takes a few rounds.
//!
//! Of each partition as many members answer as the level asks for; their pages are merged key by
//! key up to the token that all of them have reached. What a page does not name is absent there,
//! and the bases of its clock say what of it is known to be gone.
//!
//! When a partition cannot be answered for, or the time is up, the page ends in front of it; only
//! a page without any progress is refused.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::message::{Message, Nack};
use super::super::operations::OperationId;
use super::super::{Origin, Row, Seq, Shard, Table, Ticket, Turn};
use super::{Machine, left_ms, required, unavailable, words};
use crate::api::{Conflicts, Fault, Level, Op, Page, Reply, Request, Scan};
use crate::causality::{Entry, NodeId, Object, VersionVector, merge};
use crate::hash::{Key, PartitionId, Token};
use crate::limits::{MEMBER_PATIENCE_MS, PAGE_BYTES_MAX, PAGE_KEYS_MAX, PARTITIONS_MAX};
use crate::time::Mono;

/// Partitions that are asked at once to begin with.
const WINDOW_MIN: usize = 4;
/// Partitions that are asked at once at most.
const WINDOW_MAX: usize = 256;

/// A page that waits for members.
#[derive(Debug)]
pub(in super::super) struct Scanning {
    id: OperationId,
    origin: Origin,
    scan: Scan,
    conflicts: bool,
    level: Level,
    r: Option<u8>,
    limit: usize,
    deadline: Mono,
    /// Members that did not answer in time, so that each costs its patience once.
    silent: Vec<NodeId>,
    /// Partitions that are being asked, in ring order.
    arcs: VecDeque<Arc>,
    /// The next partition to ask; beyond the last one = all are.
    next: u32,
    partitions: u16,
    window: usize,
    /// Partitions that were read to their ends.
    ended: usize,
    items: Vec<(Key, Object)>,
    bytes: usize,
    /// Everything before this is in the page.
    reached: Token,
}

/// The part of a partition that was not taken yet.
#[derive(Debug)]
struct Arc {
    partition: PartitionId,
    row: Row,
    needed: usize,
    from: Token,
    last: Token,
    /// Which of the questions about this partition is open: later ones are of a later stretch.
    round: usize,
    /// Members that were not asked yet, the next one last.
    left: Vec<NodeId>,
    asked: Vec<Asked>,
    /// When one more member is asked.
    next_ask: Mono,
}

#[derive(Debug)]
struct Asked {
    node: NodeId,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Waiting,
    Lost,
    Refused(Nack),
    Page { items: Vec<(Key, Object)>, known: VersionVector, next: Option<Token> },
}

impl Shard {
    /// A client wants a page.
    pub(super) fn begin_scan<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        ticket: Ticket,
        request: Request,
    ) -> Result<(), Fault> {
        let partitions = self.layout().ok_or_else(|| self.no_cluster())?.partitions;
        let (scan, conflicts) = match request.op {
            Op::Scan(scan) => (scan, false),
            Op::Conflicts { bucket, cursor, limit } => {
                let (prefix, pattern) = (Bytes::new(), Bytes::new());
                (Scan { bucket, cursor, limit, prefix, pattern, values: true }, true)
            }
            Op::Put { .. }
            | Op::Delete { .. }
            | Op::Get { .. }
            | Op::Batch { .. }
            | Op::Count { .. }
            | Op::Outcome { .. }
            | Op::Explain { .. } => unreachable!("the caller matched a scan"),
        };
        // A key has conflicts at a replica; what other replicas make of them a read will show.
        let (level, r) = if conflicts { (Level::One, None) } else { (request.level, request.r) };
        let limit = usize::try_from(scan.limit).unwrap_or(usize::MAX).clamp(1, PAGE_KEYS_MAX);
        let machine = Scanning {
            id: self.operations.open(),
            origin: Origin::Client(ticket),
            conflicts,
            level,
            r,
            limit,
            deadline: turn.now.mono.plus_ms(u64::from(request.left_ms)),
            silent: Vec::new(),
            arcs: VecDeque::new(),
            next: u32::from(scan.cursor.partition(partitions).0),
            partitions,
            window: WINDOW_MIN,
            ended: 0,
            items: Vec::new(),
            bytes: 0,
            reached: scan.cursor,
            scan,
        };
        let id = machine.id;
        let machine = Box::new(machine).advance(self, turn);
        self.wait(id, machine.map(Machine::Scanning));
        Ok(())
    }
}

impl Scanning {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        let asks = self.arcs.iter().filter(|arc| !arc.left.is_empty()).map(|arc| arc.next_ask);
        asks.min().map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// A member answers for a partition.
    pub(super) fn on_page<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        from: NodeId,
        message: Message,
    ) -> Option<Box<Self>> {
        let Message::PageReply { items, known, next, refusal, .. } = message else {
            unreachable!("the caller matched a PageReply");
        };
        let (partition, round) = (question % QUESTION_STRIDE, question / QUESTION_STRIDE);
        let arc = self.arcs.iter_mut().find(|arc| usize::from(arc.partition.0) == partition);
        let Some(arc) = arc.filter(|arc| arc.round % STRETCHES == round) else { return Some(self) };
        let asked = arc.asked.iter_mut().find(|asked| asked.node == from);
        let Some(asked) = asked else { return Some(self) };
        match &asked.answer {
            Answer::Waiting | Answer::Lost => {}
            Answer::Refused(_) | Answer::Page { .. } => return Some(self),
        }
        asked.answer = match refusal {
            Some(why) => Answer::Refused(why),
            None => Answer::Page { items, known, next },
        };
        self.advance(shard, turn)
    }

    /// A member was silent for too long, or the time is up.
    pub(super) fn on_timer<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        let now = turn.now.mono;
        if now >= self.deadline {
            self.end(shard, turn, Some(Fault::TimedOut));
            return None;
        }
        for arc in self.arcs.iter().filter(|arc| arc.next_ask <= now) {
            let known = &mut self.silent;
            for node in arc.waiting() {
                if !known.contains(&node) {
                    known.push(node);
                }
            }
        }
        for index in 0..self.arcs.len() {
            let arc = &self.arcs[index];
            let is_late =
                arc.next_ask <= now || arc.waiting().any(|node| self.silent.contains(&node));
            if is_late && !arc.left.is_empty() {
                self.ask_one(shard, turn, index);
            }
        }
        self.advance(shard, turn)
    }

    /// Other nodes can be reached now than before.
    pub(super) fn on_reach<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        for asked in self.arcs.iter_mut().flat_map(|arc| &mut arc.asked) {
            if matches!(asked.answer, Answer::Waiting) && !shard.reaches(asked.node) {
                asked.answer = Answer::Lost;
            }
        }
        self.advance(shard, turn)
    }

    /// Asks what can be asked, takes what has come, and answers when the page is full, the ring is
    /// done, or the next partition has nobody to answer for it.
    fn advance<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        loop {
            if let Err(fault) = self.open_arcs(shard, turn) {
                self.end(shard, turn, Some(fault));
                return None;
            }
            for index in 0..self.arcs.len() {
                while self.arcs[index].lacks() > 0 && !self.arcs[index].left.is_empty() {
                    self.ask_one(shard, turn, index);
                }
            }
            let Some(arc) = self.arcs.front() else {
                self.end(shard, turn, None);
                return None;
            };
            if arc.answers() < arc.needed {
                if arc.lacks() == 0 {
                    return Some(self);
                }
                let fault = arc.fault(shard);
                self.end(shard, turn, Some(fault));
                return None;
            }
            if self.take(shard) {
                self.end(shard, turn, None);
                return None;
            }
        }
    }

    /// Begins with as many partitions as the window has room for.
    fn open_arcs<T: Table>(
        &mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Result<(), Fault> {
        while self.arcs.len() < self.window && self.next < u32::from(self.partitions) {
            let number = u16::try_from(self.next).expect("the ring has at most 16,384 partitions");
            let partition = PartitionId(number);
            let (first, last) = partition.tokens(self.partitions);
            let row = shard.row(partition).ok_or_else(|| shard.no_cluster())?;
            let needed = required("r", self.r, self.level, &row)?;
            self.arcs.push_back(Arc {
                partition,
                row,
                needed,
                from: first.max(self.reached),
                last,
                round: 0,
                left: shard.members_to_ask(&row, &self.silent),
                asked: Vec::with_capacity(needed),
                next_ask: turn.now.mono.plus_ms(MEMBER_PATIENCE_MS),
            });
            self.next += 1;
        }
        Ok(())
    }

    /// Asks one more member for a partition.
    fn ask_one<T: Table>(&mut self, shard: &mut Shard, turn: &mut Turn<'_, T>, index: usize) {
        let wanted = self.limit - self.items.len();
        // What stands behind the first partition may never be needed.
        let limit = if index == 0 { wanted } else { (wanted / 8).max(16) };
        let arc = &mut self.arcs[index];
        let Some(node) = arc.left.pop() else { return };
        let question = arc.round % STRETCHES * QUESTION_STRIDE + usize::from(arc.partition.0);
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let message = Message::Page {
            call: shard.operations.call(self.id, question),
            partition: arc.partition,
            scan: Scan { cursor: arc.from, limit, ..self.scan.clone() },
            conflicts_only: self.conflicts,
            left_ms: left_ms(turn.now.mono, self.deadline),
        };
        arc.asked.push(Asked { node, answer: Answer::Waiting });
        arc.next_ask = turn.now.mono.plus_ms(MEMBER_PATIENCE_MS);
        shard.send(turn, Seq(0), node, message);
    }

    /// Takes the merged stretch of the first partition. `true` = the page is full.
    fn take(&mut self, shard: &Shard) -> bool {
        let arc = self.arcs.front_mut().expect("the caller looked at it");
        let (merged, next) = arc.merged();
        for (key, object) in merged {
            let begins = self.items.last().is_none_or(|(last, _)| last.token != key.token);
            if begins && (self.items.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX) {
                self.reached = key.token;
                return true;
            }
            if object.entries.is_empty() {
                continue;
            }
            let value = object.winner().map_or(0, |entry| entry.payload.len());
            self.bytes += key.bytes.len() + value;
            self.items.push((key, object));
        }
        let is_full = self.items.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX;
        if let Some(next) = next {
            self.reached = next;
            arc.go_on(next, shard.members_to_ask(&arc.row, &self.silent));
            return is_full;
        }
        self.reached = arc.last.0.checked_add(1).map_or(DONE, Token);
        self.arcs.pop_front();
        self.ended += 1;
        self.grow();
        is_full
    }

    /// Opens the window for as many partitions as it seems to take, and at most twice as far.
    fn grow(&mut self) {
        let guess = |most: usize, so_far: usize| {
            let wanted = most.saturating_sub(so_far).saturating_mul(self.ended);
            wanted.checked_div(so_far).unwrap_or(WINDOW_MAX)
        };
        let keys = guess(self.limit, self.items.len());
        let bytes = guess(PAGE_BYTES_MAX, self.bytes);
        self.window = (2 * self.window).min(keys.min(bytes) + 1).clamp(1, WINDOW_MAX);
    }

    /// Answers with what there is, or with the fault where there is nothing.
    fn end<T: Table>(&mut self, shard: &mut Shard, turn: &mut Turn<'_, T>, fault: Option<Fault>) {
        let next = self.reached;
        let reply = match fault {
            Some(fault) if next == self.scan.cursor => Reply::Fault(fault),
            Some(_) | None => {
                let mut items = std::mem::take(&mut self.items);
                // Here and not when they came: the page took its time.
                for (_, object) in &mut items {
                    object.hide_expired(turn.now.unix_ms);
                }
                items.retain(|(_, object)| !object.entries.is_empty());
                if self.conflicts { conflicts(items, next) } else { self.page(items, next) }
            }
        };
        // Pages leave their shards, this one too, when what they rest on is durable.
        shard.answer(turn, self.origin, Seq(0), reply);
    }

    fn page(&self, items: Vec<(Key, Object)>, next: Token) -> Reply {
        let values = self.scan.values;
        let item = |(key, object): (Key, Object)| {
            let winner = object.winner().filter(|_| values).map(|entry| entry.payload.clone());
            (key, winner)
        };
        Reply::Page(Page { items: items.into_iter().map(item).collect(), next })
    }
}

impl Arc {
    /// Members that must still be asked.
    fn lacks(&self) -> usize {
        self.needed.saturating_sub(self.answers() + self.waiting().count())
    }

    /// Members that have not answered yet.
    fn waiting(&self) -> impl Iterator<Item = NodeId> {
        let waits = |asked: &&Asked| matches!(asked.answer, Answer::Waiting);
        self.asked.iter().filter(waits).map(|asked| asked.node)
    }

    fn answers(&self) -> usize {
        let is_page = |asked: &&Asked| matches!(asked.answer, Answer::Page { .. });
        self.asked.iter().filter(is_page).count()
    }

    /// What the members hold together, up to the token that all of them have reached.
    fn merged(&mut self) -> (BTreeMap<Key, Object>, Option<Token>) {
        let mut pages: Vec<(BTreeMap<Key, Object>, Object)> = Vec::new();
        let mut reached = None;
        for asked in self.asked.drain(..) {
            let Answer::Page { items, known, next } = asked.answer else { continue };
            reached = reached.into_iter().chain(next).min();
            let absent = Object { entries: Vec::new(), ctx: known };
            pages.push((items.into_iter().collect(), absent));
        }
        let is_within = |key: &Key| reached.is_none_or(|reached| key.token < reached);
        let (mut merged, mut gone) = pages.pop().expect("enough members answered");
        for (mut page, absent) in pages {
            for (key, held) in &mut merged {
                *held = merge(held, &page.remove(key).unwrap_or_else(|| absent.clone()));
            }
            merged.extend(page.into_iter().map(|(key, object)| (key, merge(&gone, &object))));
            gone = merge(&gone, &absent);
        }
        merged.retain(|key, _| is_within(key));
        (merged, reached)
    }

    /// Goes on from a token within the partition.
    fn go_on(&mut self, next: Token, members: Vec<NodeId>) {
        self.from = next;
        self.round += 1;
        self.asked.clear();
        self.left = members;
    }

    /// Why this partition cannot be answered for.
    fn fault(&self, shard: &Shard) -> Fault {
        let troubles: Vec<String> = self
            .row
            .iter()
            .filter_map(|&node| {
                let asked = self.asked.iter().find(|asked| asked.node == node);
                match asked.map(|asked| &asked.answer) {
                    None | Some(Answer::Lost) => {
                        Some(format!("{} cannot be reached", shard.name(node)))
                    }
                    Some(Answer::Refused(why)) => {
                        Some(format!("{} {}", shard.name(node), words(*why)))
                    }
                    Some(Answer::Waiting | Answer::Page { .. }) => None,
                }
            })
            .collect();
        unavailable(self.needed, self.answers(), &troubles)
    }
}

/// The cursor after the end of the ring.
const DONE: Token = Token(0);

/// A question names the partition and the stretch of it; a ring has at most 16,384 partitions, so
/// sixteen bits of question hold four stretches before they repeat.
const QUESTION_STRIDE: usize = PARTITIONS_MAX as usize;
const STRETCHES: usize = 4;

fn conflicts(items: Vec<(Key, Object)>, next: Token) -> Reply {
    let item = |(key, object): (Key, Object)| {
        let siblings: Vec<Entry> = object.shown().into_iter().cloned().collect();
        (key, siblings)
    };
    Reply::Conflicts(Conflicts { items: items.into_iter().map(item).collect(), next })
}
