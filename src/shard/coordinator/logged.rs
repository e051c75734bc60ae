//! A batch whose keys lie on several groups of nodes: all of them or none, but not isolated.
//!
//! Its coordinator first writes the whole batch as one key by quorum, the *log* (`batch_log.rs`);
//! then every group its own part, as a batch of its own; then it deletes the log, and only then it
//! acknowledges. Until the log is written a failure is a refusal; from then on the batch will be
//! applied: by its coordinator, or by a member of the row of the log when the coordinator stays
//! away. All tries carry the id of the request, so a part that was done is done once.
//!
//! Invariants: one member leads a log, whatever happens: a second copy under a dot of its own could
//! outlive the delete of the first. No log outlives the acknowledgement of its batch, so what is
//! finished late was never acknowledged. Who finishes a batch late replaces only what is older
//! than its log; newer values stay beside it, and plain reads show them.

use bytes::Bytes;

use super::super::batch_log::BatchLog;
use super::super::operations::OperationId;
use super::super::{Origin, Row, Seq, Shard, Table, Turn};
use super::batch::check_for_doubles;
use super::{Machine, Place, left_ms};
use crate::api::{
    BatchKind, Expiry, Fault, Level, Op, Outcome, Read, Reply, Request, RequestId, WriteContext,
};
use crate::causality::NodeId;
use crate::hash::Key;
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::Mono;

/// How long a coordinator waits before it writes a part again, in milliseconds.
const AGAIN_MS: u64 = 100;
/// The same for a batch that nobody waits for.
const FINISH_AGAIN_MS: u64 = 1_000;
/// How long finishing may take before it begins anew, in milliseconds.
const FINISH_MS: u32 = 10_000;
/// The pause before it does.
const FINISH_PAUSE_MS: u64 = 5_000;
/// The question about the log; those about the parts follow.
const LOG_QUESTION: usize = 0;
/// The question about the first part.
const FIRST_PART: usize = 1;

/// A logged batch that this shard carries out.
#[derive(Debug)]
pub(in super::super) struct Logged {
    id: OperationId,
    /// Who waits; `None` = the batch is finished in place of its coordinator.
    client: Option<Client>,
    log: Key,
    /// What deletes the log: the token of its write, or of the read that found it.
    context: Bytes,
    parts: Vec<Part>,
    stage: Stage,
    deadline: Mono,
}

/// Whose batch it is.
#[derive(Debug)]
struct Client {
    origin: Origin,
    request_id: RequestId,
    count: u32,
}

/// The keys of one group of nodes.
#[derive(Debug)]
struct Part {
    place: Place,
    /// The batch of these keys, with the level and the id of the whole.
    request: Request,
    step: Step,
}

/// How far a question has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Asked,
    Again(Mono),
    Done,
}

/// How far the whole has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The log is being written.
    Logging,
    /// Whether the log is still there is being read.
    Reading,
    /// The parts are being written.
    Writing,
    /// The log is being deleted.
    Closing(Step),
}

impl Shard {
    /// A client writes several keys, and no node that can be reached owns all of them.
    pub(super) fn begin_logged_batch<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        origin: Origin,
        request: Request,
        rows: &[(Row, usize)],
    ) -> Result<(), Fault> {
        for (row, needed) in rows {
            self.check_reach(row, *needed)?;
        }
        let request_id = request.request_id.unwrap_or_else(|| self.new_request_id());
        let deadline = turn.now.mono.plus_ms(u64::from(request.left_ms));
        let mut request = Request { request_id: Some(request_id), ..request };
        let Op::Batch { items, expiry, .. } = &mut request.op else {
            unreachable!("the caller matched a batch")
        };
        if let Expiry::After(ms) = *expiry {
            *expiry = Expiry::At(turn.now.unix_ms.saturating_add(ms));
        }
        check_for_doubles(items)?;
        let bytes = items.iter().map(|(key, value)| key.bytes.len() + value.len()).sum();
        self.has_room_for(bytes)?;
        let log = BatchLog::key(request_id);
        let place = self.place(&log)?;
        self.check_reach(&place.row, Level::Quorum.required(place.row.len()))?;
        let client =
            Client { origin, request_id, count: u32::try_from(items.len()).unwrap_or(u32::MAX) };
        let value = BatchLog::new(request_id, items.clone(), *expiry).encode();
        let parts = self.parts_of(&request, BatchKind::Part)?;
        sometimes!("a batch was logged because no node owns all of it");
        let id = self.operations.open();
        let (stage, context) = (Stage::Logging, Bytes::new());
        let client = Some(client);
        let machine = Logged { id, client, log: log.clone(), context, parts, stage, deadline };
        let context = WriteContext::Known;
        let put = Request {
            request_id: Some(request_id),
            ..machine.about_log(turn, Op::Put { key: log, value, context, expiry: Expiry::Never })
        };
        machine.ask(self, turn, LOG_QUESTION, place, put);
        self.wait(id, Some(Machine::Logged(Box::new(machine))));
        Ok(())
    }

    /// Finishes a batch whose log is held here, unless it turns out to be done.
    pub(in super::super) fn finish_batch<T: Table>(&mut self, turn: &mut Turn<'_, T>, log: Key) {
        let id = self.operations.open();
        let deadline = turn.now.mono.plus_ms(u64::from(FINISH_MS));
        // Should this come to nothing, it begins anew; where it succeeds, the log goes away.
        self.batch_logs.set(log.clone(), deadline.plus_ms(FINISH_PAUSE_MS));
        let (stage, context, parts) = (Stage::Reading, Bytes::new(), Vec::new());
        let machine =
            Logged { id, client: None, log: log.clone(), context, parts, stage, deadline };
        // Strict: the log may have come to this node alone. Before a part is written a majority
        // holds it, so that who looks after this one cannot take the batch for done.
        let request = machine.about_log(turn, Op::Get { key: log });
        let level = if planted(Bug::BatchLogOfOne) { request.level } else { Level::Strict };
        let request = Request { level, ..request };
        let call = self.operations.call(id, LOG_QUESTION);
        let node = self.me().expect("a shard that holds a log knows its node");
        if self.begin_read(turn, Origin::Peer { node, call }, request).is_ok() {
            self.wait(id, Some(Machine::Logged(Box::new(machine))));
        }
    }

    /// The parts of a batch, one for each set of nodes that owns some of its keys.
    fn parts_of(&self, request: &Request, kind: BatchKind) -> Result<Vec<Part>, Fault> {
        let Op::Batch { items, expiry, .. } = &request.op else {
            unreachable!("the caller has a batch")
        };
        let mut groups = std::collections::BTreeMap::<Vec<NodeId>, (Place, Vec<_>)>::new();
        for item in items {
            let place = self.place(&item.0)?;
            let mut members = place.row.to_vec();
            members.sort_unstable();
            groups.entry(members).or_insert((place, Vec::new())).1.push(item.clone());
        }
        let Request { level, r, w, left_ms, request_id, .. } = *request;
        let part = |(place, items)| {
            let op = Op::Batch { items, expiry: *expiry, kind };
            let request = Request { op, level, r, w, left_ms, request_id, previous: false };
            Part { place, request, step: Step::Asked }
        };
        Ok(groups.into_values().map(part).collect())
    }
}

impl Logged {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        let closing = match self.stage {
            Stage::Closing(step) => Some(step),
            Stage::Logging | Stage::Reading | Stage::Writing => None,
        };
        let steps = self.parts.iter().map(|part| part.step).chain(closing);
        let again = steps.filter_map(|step| match step {
            Step::Again(at) => Some(at),
            Step::Asked | Step::Done => None,
        });
        again.min().unwrap_or(self.deadline).min(self.deadline)
    }

    /// Bytes of the keys and values that are still to be written.
    pub(super) fn bytes(&self) -> usize {
        let items = self.parts.iter().flat_map(|part| super::batch::items(&part.request.op));
        items.map(|(key, value)| key.bytes.len() + value.len()).sum()
    }

    /// What became of the log, or of a part.
    pub(super) fn on_reply<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        reply: Reply,
    ) -> Option<Box<Self>> {
        match (self.stage, reply) {
            (Stage::Logging, Reply::Written(written)) => {
                self.context = written.context;
                Some(self.write_parts(shard, turn))
            }
            (Stage::Logging, Reply::Fault(fault)) => {
                let fault = match fault.outcome() {
                    Outcome::Refused => fault,
                    Outcome::Unknown => self.unknown("its log may have been written"),
                };
                self.fail(shard, turn, fault)
            }
            (Stage::Reading, Reply::Read(read)) => self.on_log(shard, turn, read),
            (Stage::Reading, Reply::Fault(_)) => None,
            (Stage::Writing, reply) => {
                let is_done = matches!(reply, Reply::BatchWritten { .. });
                let step = if is_done { Step::Done } else { Step::Again(self.again_at(turn)) };
                self.parts[question - FIRST_PART].step = step;
                let is_left = self.parts.iter().any(|part| part.step != Step::Done);
                Some(if is_left { self } else { self.close(shard, turn) })
            }
            (Stage::Closing(_), Reply::Written(_)) => {
                if let Some(Client { origin, count, .. }) = self.client {
                    let reply = Reply::BatchWritten { count, isolated: false };
                    shard.answer(turn, origin, Seq(0), reply);
                }
                sometimes!(
                    "a batch was finished in place of its coordinator",
                    self.client.is_none()
                );
                None
            }
            (Stage::Closing(_), _) => {
                self.stage = Stage::Closing(Step::Again(self.again_at(turn)));
                Some(self)
            }
            (Stage::Logging | Stage::Reading, _) => Some(self),
        }
    }

    /// It is time to ask again, or to give up.
    pub(super) fn on_timer<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Box<Self>> {
        let now = turn.now.mono;
        if now >= self.deadline {
            sometimes!("a logged batch was unknown at its deadline", self.client.is_some());
            let fault = self.unknown("it is logged and will be applied, but was not in time");
            return self.fail(shard, turn, fault);
        }
        let is_due = |step: Step| matches!(step, Step::Again(at) if at <= now);
        for index in 0..self.parts.len() {
            if is_due(self.parts[index].step) {
                sometimes!("a part of a logged batch was written again");
                self.write_part(shard, turn, index);
            }
        }
        Some(match self.stage {
            Stage::Closing(step) if is_due(step) => self.close(shard, turn),
            Stage::Closing(_) | Stage::Logging | Stage::Reading | Stage::Writing => self,
        })
    }

    /// The log was read: the batch is done, or is to be written.
    fn on_log<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        read: Read,
    ) -> Option<Box<Self>> {
        if read.siblings.is_empty() {
            sometimes!("who was to finish a batch found it done");
            // A replica that is being rebuilt may hold the log of a batch for ever.
            shard.batch_logs.forget(&self.log);
            return None;
        }
        self.context = read.context;
        for entry in read.siblings {
            // A log that this version cannot read is left to those who can.
            let log = BatchLog::decode(&entry.payload)?;
            let BatchLog { request_id, items, expiry, .. } = log;
            let kind = BatchKind::Finish(entry.hlc);
            let op = Op::Batch { items, expiry, kind };
            let request = Request { request_id: Some(request_id), ..self.about_log(turn, op) };
            self.parts.extend(shard.parts_of(&request, kind).ok()?);
        }
        Some(self.write_parts(shard, turn))
    }

    fn write_parts<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Box<Self> {
        self.stage = Stage::Writing;
        for index in 0..self.parts.len() {
            self.write_part(shard, turn, index);
        }
        if planted(Bug::BatchLogForgotten) {
            return self.close(shard, turn);
        }
        self
    }

    fn write_part<T: Table>(&mut self, shard: &mut Shard, turn: &mut Turn<'_, T>, index: usize) {
        let part = &mut self.parts[index];
        part.step = Step::Asked;
        let (place, mut request) = (part.place, part.request.clone());
        request.left_ms = left_ms(turn.now.mono, self.deadline);
        self.ask(shard, turn, FIRST_PART + index, place, request);
    }

    /// Everything is written: deletes the log.
    fn close<T: Table>(
        mut self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Box<Self> {
        self.stage = Stage::Closing(Step::Asked);
        let context = WriteContext::Token(self.context.clone());
        let request = self.about_log(turn, Op::Delete { key: self.log.clone(), context });
        match shard.place(&self.log) {
            Ok(place) => self.ask(shard, turn, LOG_QUESTION, place, request),
            Err(_no_cluster) => self.stage = Stage::Closing(Step::Again(self.again_at(turn))),
        }
        self
    }

    /// Lets a member of a row do it, and tell this machine.
    fn ask<T: Table>(
        &self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        place: Place,
        request: Request,
    ) {
        let node = shard.me().expect("a shard that carries out a batch knows its node");
        let origin = Origin::Peer { node, call: shard.operations.call(self.id, question) };
        let needed = request.w.map_or(request.level.required(place.row.len()), usize::from);
        let left = shard.members_to_ask(&place.row, &[]);
        shard.forward(turn, origin, place, request, needed, left);
    }

    /// A request about the log: by quorum, with the time that is left.
    fn about_log<T>(&self, turn: &Turn<'_, T>, op: Op) -> Request {
        let left_ms = left_ms(turn.now.mono, self.deadline);
        Request { level: Level::Quorum, left_ms, ..Request::new(op) }
    }

    fn again_at<T>(&self, turn: &Turn<'_, T>) -> Mono {
        let pause = if self.client.is_some() { AGAIN_MS } else { FINISH_AGAIN_MS };
        turn.now.mono.plus_ms(pause)
    }

    fn unknown(&self, detail: &str) -> Fault {
        let request_id = self.client.as_ref().map_or(RequestId(0), |client| client.request_id);
        Fault::OutcomeUnknown { request_id, detail: String::from(detail) }
    }

    /// Tells the client, if one waits.
    fn fail<T: Table>(
        self: Box<Self>,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        fault: Fault,
    ) -> Option<Box<Self>> {
        if let Some(Client { origin, .. }) = self.client {
            shard.fail(turn, origin, fault);
        }
        None
    }
}
