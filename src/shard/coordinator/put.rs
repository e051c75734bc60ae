//! A PUT or DELETE: one Ready member of the row leads it, mints its dot, and sends it to all
//! others; it is acknowledged when enough of them have it on stable storage.
//!
//! The coordinator leads itself where it can, else it forwards, and to the next member when the
//! first is silent. From the moment at which a leader may have minted, no failure is a refusal any
//! more: the outcome is unknown, and its key must be read first.

use super::super::batch_log::{BATCH_LOG_BUCKET, check_replaced};
use super::super::message::{CallId, Message, Nack};
use super::super::parked::Waiting;
use super::super::partition::{Minted, Partition, Seen, Write};
use super::super::recent::{Named, Tried};
use super::super::{Late, Lookup, Origin, Seq, Shard, Stamp, Table, Ticket, Turn};
use super::{Machine, Place, byte, needed, overloaded, unavailable, words};
use crate::api::{Fault, Op, Reply, Request, RequestId, WriteContext, Written};
use crate::causality::{NodeId, Object, decode_context, encode_context};
use crate::hash::{Key, PartitionId, Token};
use crate::limits::UNDURABLE_BYTES_MAX;
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::Mono;

/// A write at its leader, waiting for acknowledgements.
#[derive(Debug)]
pub(in super::super) struct Leading {
    origin: Origin,
    request_id: RequestId,
    needed: usize,
    deadline: Mono,
    rests_on: Seq,
    written: Written,
    /// The other members, in the order of their questions.
    members: Vec<(NodeId, Ack)>,
}

/// What is known of a member that was sent a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    Waiting,
    Durable,
    Refused(Nack),
    /// It cannot be reached any more; an acknowledgement may still be under way.
    Lost,
}

/// What a leader owes to whoever asked.
#[derive(Clone, Copy, Debug)]
struct Goal {
    origin: Origin,
    place: Place,
    request_id: RequestId,
    needed: usize,
    left_ms: u32,
    /// Whether it wants to see what the write replaced.
    previous: bool,
}

/// What became of an attempt to lead.
enum Led {
    /// It is under way, or answered.
    Done,
    /// The key cannot be used yet; nothing was changed.
    Blocked,
}

impl Shard {
    /// A client writes a key.
    pub(super) fn begin_write<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        ticket: Ticket,
        request: Request,
    ) -> Result<(), Fault> {
        let (key, _, context) = parts(&request.op);
        let place = self.place(key)?;
        let needed = needed("w", request.w, &request, &place.row)?;
        if let WriteContext::Token(token) = context {
            decode(place.partition, token)?;
        }
        self.check_reach(&place.row, needed)?;
        let origin = Origin::Client(ticket);
        let mut refusal = None;
        if self.partitions.owned(place.partition).is_some() {
            match self.lead(turn, origin, place, &request) {
                Ok(Led::Done) => return Ok(()),
                Ok(Led::Blocked) => {
                    let key = key.clone();
                    self.park_client(turn, &key, ticket, request);
                    return Ok(());
                }
                Err(fault) if !may_succeed_elsewhere(&fault) => return Err(fault),
                Err(fault) => refusal = Some(fault),
            }
        }
        let tried = if refusal.is_some() { self.me() } else { None };
        let mut left: Vec<NodeId> =
            self.members(&place.row).filter(|&node| Some(node) != tried).collect();
        left.reverse();
        match refusal {
            Some(fault) if left.is_empty() => Err(fault),
            Some(_) | None => {
                sometimes!("a leader that could not lead passed the write on", tried.is_some());
                self.forward(turn, origin, place, request, needed, left);
                Ok(())
            }
        }
    }

    /// Another shard's client writes a key, and this replica is to lead it.
    pub(in super::super) fn on_forward<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        call: CallId,
        partition: PartitionId,
        request: Box<Request>,
    ) {
        let origin = Origin::Peer { node: from, call };
        let led = match &request.op {
            Op::Put { key, .. } | Op::Delete { key, .. } => match self.place(key) {
                Ok(place) if place.partition == partition => {
                    self.lead(turn, origin, place, &request)
                }
                Ok(_) => Err(self.fault_of(Nack::NotOwner)),
                Err(fault) => Err(fault),
            },
            Op::Batch { .. } => {
                self.on_forwarded_batch(turn, origin, (*request).clone()).map(|()| Led::Done)
            }
            Op::Get { .. }
            | Op::Scan(_)
            | Op::Count { .. }
            | Op::Explain { .. }
            | Op::Outcome { .. }
            | Op::Conflicts { .. } => {
                Err(Fault::BadRequest { text: String::from("only writes are forwarded") })
            }
        };
        match led {
            Ok(Led::Done) => {}
            Ok(Led::Blocked) => {
                let token = parts(&request.op).0.token;
                let message = Message::Forward { call, partition, request };
                self.park(turn, token, Waiting::Peer { from, message });
            }
            Err(fault) => self.fail(turn, origin, fault),
        }
    }

    /// Leads a write. An error says that nothing was changed.
    fn lead<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        origin: Origin,
        place: Place,
        request: &Request,
    ) -> Result<Led, Fault> {
        let (key, value, context) = parts(&request.op);
        let needed = needed("w", request.w, request, &place.row)?;
        let owned = self.partitions.owned(place.partition);
        let owned = owned.ok_or_else(|| self.fault_of(Nack::NotOwner))?;
        if let Some(why) = owned.why_not_minting() {
            let is_new = owned.is_ready();
            sometimes!("a write came before the epoch of its leader was durable", is_new);
            return Err(self.unavailable_here(why));
        }
        let seen = seen(place.partition, owned, context)?;
        check_room(turn.table, value.is_some())?;
        if matches!(origin, Origin::Peer { .. }) {
            // The coordinator could reach enough of the row; whether this node can is news.
            self.check_reach(&place.row, needed)?;
        }
        if self.parked.blocks(key.token) {
            return Ok(Led::Blocked);
        }
        let named = named(request);
        self.check_named(key.token, named)?;
        let log = value.filter(|_| key.bucket == BATCH_LOG_BUCKET);
        self.check_log(log)?;
        let (lookup, held_since) = turn.table.get(key);
        let stored = match lookup {
            Lookup::Found(object) => object,
            Lookup::Absent => Object::default(),
            // The last copy has nobody to learn from; a new value is better than none.
            Lookup::Unknown if place.row.len() == 1 => Object::default(),
            Lookup::Unknown if planted(Bug::DamageTakenForAbsent) => Object::default(),
            Lookup::Unknown => {
                sometimes!("a write was refused because its record is damaged");
                return Err(Fault::Damaged { damaged: 1 });
            }
            Lookup::Cold => {
                self.parked.await_record(key.token);
                return Ok(Led::Blocked);
            }
        };
        check_replaced(&stored, log)?;
        let request_id = match request.request_id {
            Some(id) => id,
            // Where the leader alone decides, no retry can come to a second one.
            None if needed == 1 => RequestId(0),
            None => self.new_request_id(),
        };
        let hlc = self.clock.tick(turn.now);
        let write = Write {
            key: key.clone(),
            value: value.cloned(),
            expiry: request.op.expiry(),
            seen,
            hlc,
            rid: request_id.mark(),
            named,
            done: self.done(key.token, named),
        };
        let owned = self.partitions.owned_mut(place.partition).expect("it is owned, see above");
        let minted = owned.mint(stored, write, turn.now.unix_ms);
        if let Some(stamp) = minted.stamp {
            self.recent.note(key.token, stamp, turn.now.mono);
        }
        let (left_ms, previous) = (request.left_ms, request.previous);
        let goal = Goal { origin, place, request_id, needed, left_ms, previous };
        self.spread(turn, goal, minted, held_since);
        Ok(Led::Done)
    }

    /// Stores a minted write, sends it to the other members, and answers when enough have it.
    fn spread<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        goal: Goal,
        minted: Minted,
        held_since: Seq,
    ) {
        let Goal { origin, place, request_id, needed, left_ms, previous } = goal;
        if previous && minted.record.is_none() {
            let detail = String::from(
                "an earlier try of it was applied, and what that replaced is not known any more",
            );
            return self.fail(turn, origin, Fault::OutcomeUnknown { request_id, detail });
        }
        self.counters.conflicts_dropped += u64::try_from(minted.dropped).unwrap_or(u64::MAX);
        let written = Written {
            dot: minted.dot,
            existed: minted.existed,
            context: encode_context(place.partition, &minted.seen).into(),
            acks_home: 1,
            acks_fallback: 0,
            siblings: u32::try_from(minted.siblings).unwrap_or(u32::MAX),
            previous: minted.previous.filter(|_| previous),
        };
        let rests_on = match minted.record {
            Some(record) => self.partitions.store(turn.table, vec![record], None),
            None => held_since,
        };
        let me = self.me();
        let others = place.row.iter().copied().filter(|&node| Some(node) != me);
        let id = self.operations.open();
        for (question, node) in others.clone().enumerate() {
            let message = Message::Replicate {
                call: self.operations.call(id, question),
                partition: place.partition,
                left_ms,
                items: vec![minted.item.clone()],
                repair: false,
            };
            // It leaves once the write is durable here, so every acknowledgement implies ours.
            self.send(turn, rests_on, node, message);
        }
        let deadline = turn.now.mono.plus_ms(u64::from(left_ms));
        if needed == 1 {
            let reply = (rests_on, Reply::Written(written));
            return self.answer_by(turn, origin, reply, (deadline, Late::Unknown(request_id)));
        }
        let members = others.map(|node| (node, Ack::Waiting)).collect();
        let machine = Leading { origin, request_id, needed, deadline, rests_on, written, members };
        self.wait(id, Some(Machine::Leading(machine)));
    }

    /// Refuses a write whose id belongs to another request.
    pub(in super::super) fn check_named(
        &self,
        token: Token,
        named: Option<Named>,
    ) -> Result<(), Fault> {
        let Some(named) = named else { return Ok(()) };
        match self.recent.tried(token, named) {
            Tried::Never | Tried::Done(_) => Ok(()),
            Tried::Other => {
                sometimes!("an id came a second time for another request");
                Err(Fault::RequestIdReused { request_id: named.id })
            }
            Tried::Refused => {
                sometimes!("a write came after its outcome had been asked for");
                Err(Fault::RequestIdRefused { request_id: named.id })
            }
        }
    }

    /// What an earlier try of a write became.
    pub(in super::super) fn done(&self, token: Token, named: Option<Named>) -> Option<Stamp> {
        if planted(Bug::RetryMakesASibling) {
            return None;
        }
        match self.recent.tried(token, named?) {
            Tried::Done(stamp) => Some(stamp),
            Tried::Never | Tried::Other | Tried::Refused => None,
        }
    }
}

/// Refuses a write that there is no room for: what only removes needs next to none.
fn check_room<T: Table>(table: &T, adds: bool) -> Result<(), Fault> {
    if table.undurable_bytes() > UNDURABLE_BYTES_MAX {
        return Err(overloaded("too many writes wait for the disk"));
    }
    if adds && table.is_full() {
        sometimes!("a full disk refused a write");
        return Err(Fault::DiskFull);
    }
    if adds && table.is_out_of_memory() {
        return Err(Fault::OutOfMemory);
    }
    Ok(())
}

impl Leading {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        self.deadline
    }

    /// A member has the write on stable storage, or says why not.
    pub(super) fn on_ack<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        question: usize,
        from: NodeId,
        refusal: Option<Nack>,
    ) -> Option<Self> {
        let member = self.members.get_mut(question).filter(|member| member.0 == from);
        let Some((_, ack)) = member else { return Some(self) };
        match *ack {
            Ack::Waiting | Ack::Lost => *ack = refusal.map_or(Ack::Durable, Ack::Refused),
            // A repeated acknowledgement counts once.
            Ack::Durable | Ack::Refused(_) => {
                sometimes!("a repeated acknowledgement counted once");
                return Some(self);
            }
        }
        self.advance(shard, turn)
    }

    /// The time is up: what was minted may yet spread.
    pub(super) fn on_timer<T: Table>(
        self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Self> {
        sometimes!("a write was unknown at its deadline");
        self.give_up(shard, turn)
    }

    /// Other nodes can be reached now than before.
    pub(super) fn on_reach<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
    ) -> Option<Self> {
        for (node, ack) in &mut self.members {
            if *ack == Ack::Waiting && !shard.reaches(*node) {
                *ack = Ack::Lost;
            }
        }
        self.advance(shard, turn)
    }

    fn advance<T: Table>(mut self, shard: &mut Shard, turn: &mut Turn<'_, T>) -> Option<Self> {
        let count = |wanted: Ack| self.members.iter().filter(|(_, ack)| *ack == wanted).count();
        let durable = 1 + count(Ack::Durable);
        let counted = if planted(Bug::QuorumOneShort) { durable + 1 } else { durable };
        if counted >= self.needed {
            self.written.acks_home = byte(durable);
            let reply = (self.rests_on, Reply::Written(self.written));
            let late = (self.deadline, Late::Unknown(self.request_id));
            shard.answer_by(turn, self.origin, reply, late);
            return None;
        }
        if durable + count(Ack::Waiting) < self.needed {
            sometimes!("a write was unknown when too few members were left");
            return self.give_up(shard, turn);
        }
        Some(self)
    }

    fn give_up<T: Table>(self, shard: &mut Shard, turn: &mut Turn<'_, T>) -> Option<Self> {
        let durable = self.members.iter().filter(|(_, ack)| *ack == Ack::Durable).count();
        let troubles: Vec<String> = self
            .members
            .iter()
            .filter_map(|&(node, ack)| match ack {
                Ack::Durable => None,
                Ack::Waiting => Some(format!("{} did not answer", shard.name(node))),
                Ack::Lost => Some(format!("{} cannot be reached", shard.name(node))),
                Ack::Refused(why) => Some(format!("{} {}", shard.name(node), words(why))),
            })
            .collect();
        let detail = format!(
            "its leader wrote it, and {durable} of the {} other replicas needed acknowledged: {}",
            self.needed - 1,
            troubles.join(", ")
        );
        let fault = if planted(Bug::RefusedButApplied) {
            unavailable(self.needed, durable, &troubles)
        } else {
            Fault::OutcomeUnknown { request_id: self.request_id, detail }
        };
        shard.fail(turn, self.origin, fault);
        None
    }
}

/// The key, value and context of a write.
fn parts(op: &Op) -> (&Key, Option<&bytes::Bytes>, &WriteContext) {
    match op {
        Op::Put { key, value, context, .. } => (key, Some(value), context),
        Op::Delete { key, context } => (key, None, context),
        Op::Get { .. }
        | Op::Batch { .. }
        | Op::Scan(_)
        | Op::Count { .. }
        | Op::Explain { .. }
        | Op::Outcome { .. }
        | Op::Conflicts { .. } => unreachable!("only writes of one key come here"),
    }
}

/// What the writer has seen, as far as its leader can check it.
fn seen(id: PartitionId, owned: &Partition, context: &WriteContext) -> Result<Seen, Fault> {
    match context {
        _ if planted(Bug::ContextIgnored) => Ok(Seen::All),
        WriteContext::Known => Ok(Seen::All),
        WriteContext::Shown(dot) => Ok(Seen::Only(*dot)),
        WriteContext::Token(token) => {
            let known = decode(id, token)?;
            // Such an entry would cover events that are still to come, and they would be lost.
            if owned.claims_the_future(&known) {
                let text = String::from("the context token names a write that never was");
                return Err(Fault::BadContext { text });
            }
            Ok(Seen::Upto(known))
        }
    }
}

fn decode(id: PartitionId, token: &[u8]) -> Result<crate::causality::VersionVector, Fault> {
    decode_context(id, token).map_err(|error| Fault::BadContext { text: error.to_string() })
}

/// The name of a write whose client gave it one.
fn named(request: &Request) -> Option<Named> {
    let id = request.request_id.filter(|id| id.is_given())?;
    // The log of a batch has the id of the batch, whose keys are what it names.
    if parts(&request.op).0.bucket == BATCH_LOG_BUCKET {
        return None;
    }
    Some(Named { id, print: request.op.print() })
}

/// Whether another member may do what one has refused.
pub(super) fn may_succeed_elsewhere(fault: &Fault) -> bool {
    match fault {
        Fault::Unavailable { .. }
        | Fault::NoCluster { .. }
        | Fault::DiskFull
        | Fault::OutOfMemory
        | Fault::Damaged { .. }
        // Another member may have done it, and know its answer.
        | Fault::RequestIdRefused { .. }
        | Fault::ShuttingDown => true,
        Fault::BadRequest { .. }
        | Fault::Denied(_)
        | Fault::NotSupported { .. }
        | Fault::KeyTooLarge { .. }
        | Fault::ValueTooLarge { .. }
        | Fault::BatchTooLarge { .. }
        | Fault::DuplicateKey { .. }
        | Fault::NotOneGroup
        | Fault::BadContext { .. }
        | Fault::BadLevel { .. }
        | Fault::BadCursor { .. }
        | Fault::RequestIdReused { .. }
        // To pass it on would overload the next one.
        | Fault::Overloaded { .. }
        | Fault::TooManySiblings { .. }
        | Fault::TimedOut
        | Fault::OutcomeUnknown { .. } => false,
    }
}
