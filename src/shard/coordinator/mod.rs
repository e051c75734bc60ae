//! The machines that carry out a client's request: what they ask whom, and what they do with the
//! answers.
//!
//! A machine is a value that waits in [`super::operations::Operations`] for an answer or for its
//! timer. Handed one of them, it returns itself to wait on, or nothing once it has answered its
//! client: so each request is answered once.

mod batch;
mod count;
mod explain;
mod forward;
mod logged;
mod outcome;
mod put;
mod read;
mod recall;
mod scan;

use super::message::{CallId, Message, Nack};
use super::operations::OperationId;
use super::parked::Waiting;
use super::{Origin, Row, Seq, Shard, Table, Ticket, Turn};
use crate::api::{Fault, Level, Op, Reply, Request, RequestId};
use crate::causality::NodeId;
use crate::cluster::Phase;
use crate::hash::{Key, PartitionId};
use crate::limits::TIMEOUT_MS_MAX;
use crate::marks::sometimes;
use crate::time::Mono;
use batch::Batching;
use count::Counting;
use explain::Explaining;
use forward::Forwarding;
use logged::Logged;
use outcome::Inquiring;
pub(super) use outcome::Inquiry;
use put::Leading;
use rand::RngExt;
use read::Reading;
use recall::Recalling;
use scan::Scanning;

/// An operation that waits for answers.
#[derive(Debug)]
pub(super) enum Machine {
    /// A batch that this node leads, or merges.
    Batching(Box<Batching>),
    /// A batch that is logged first.
    Logged(Box<Logged>),
    /// The logs that were held at the start.
    Recalling(Recalling),
    /// A write that another member leads.
    Forwarding(Box<Forwarding>),
    /// A write that this replica leads.
    Leading(Leading),
    /// A read of one key.
    Reading(Box<Reading>),
    /// A page of the ring.
    Scanning(Box<Scanning>),
    /// A count of all keys.
    Counting(Box<Counting>),
    /// An explanation of a key.
    Explaining(Box<Explaining>),
    /// A question about the outcome of a write.
    Inquiring(Box<Inquiring>),
}

/// Where a key lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: PartitionId,
    row: Row,
}

impl Shard {
    /// A client asks; every path from here ends in one reply.
    pub(super) fn on_client<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        ticket: Ticket,
        mut request: Request,
    ) {
        request.left_ms = request.left_ms.min(TIMEOUT_MS_MAX);
        if request.left_ms == 0 {
            return self.fail(turn, Origin::Client(ticket), Fault::TimedOut);
        }
        let done = match &request.op {
            Op::Put { .. } | Op::Delete { .. } => self.begin_write(turn, ticket, request),
            Op::Get { .. } => self.begin_read(turn, Origin::Client(ticket), request),
            Op::Batch { .. } => self.begin_batch(turn, Origin::Client(ticket), request),
            Op::Scan(_) | Op::Conflicts { .. } => self.begin_scan(turn, ticket, request),
            Op::Count { .. } => self.begin_count(turn, ticket, &request),
            Op::Explain { .. } => self.begin_explain(turn, ticket, request),
            Op::Outcome { .. } => self.begin_outcome(turn, ticket, request),
        };
        if let Err(fault) = done {
            self.fail(turn, Origin::Client(ticket), fault);
        }
    }

    /// Hands an answer to the machine that asked. One that nobody waits for is dropped.
    pub(super) fn on_answer<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        call: CallId,
        message: Message,
    ) {
        let (id, question) = OperationId::of_call(call);
        let Some(machine) = self.operations.take(id) else {
            sometimes!("an answer came for a question that was over");
            return self.answer_stray(turn, from, id, &message);
        };
        let question = usize::from(question);
        let machine = match (machine, message) {
            (Machine::Forwarding(machine), Message::ForwardReply { reply, .. }) => {
                machine.on_reply(self, turn, question, from, *reply).map(Machine::Forwarding)
            }
            (Machine::Logged(machine), Message::ForwardReply { reply, .. })
                if Some(from) == self.me() =>
            {
                machine.on_reply(self, turn, question, *reply).map(Machine::Logged)
            }
            (Machine::Recalling(machine), Message::PageReply { items, next, refusal, .. })
                if Some(from) == self.me() =>
            {
                return machine.on_page(self, turn, (items, next), refusal.is_some());
            }
            (Machine::Batching(machine), Message::Held { refusal, .. })
                if Some(from) == self.me() =>
            {
                machine.on_held(self, turn, question, refusal).map(Machine::Batching)
            }
            (Machine::Batching(machine), Message::Applied { items, .. })
                if Some(from) == self.me() =>
            {
                machine.on_applied(self, turn, items).map(Machine::Batching)
            }
            (Machine::Batching(machine), Message::ReplicateAck { refusal, .. }) => {
                machine.on_ack(self, turn, question, from, refusal).map(Machine::Batching)
            }
            (Machine::Leading(machine), Message::ReplicateAck { refusal, .. }) => {
                machine.on_ack(self, turn, question, from, refusal).map(Machine::Leading)
            }
            (Machine::Reading(machine), Message::ReadReply { answer, .. }) => {
                machine.on_answer(self, turn, question, from, answer).map(Machine::Reading)
            }
            (Machine::Reading(machine), Message::ReplicateAck { refusal, .. }) => {
                machine.on_ack(self, turn, question, from, refusal).map(Machine::Reading)
            }
            (Machine::Scanning(machine), message @ Message::PageReply { .. }) => {
                machine.on_page(self, turn, question, from, message).map(Machine::Scanning)
            }
            (Machine::Counting(machine), Message::CountReply { count, events, .. }) => {
                let answer = (count, events);
                machine.on_count(self, turn, question, from, answer).map(Machine::Counting)
            }
            (Machine::Explaining(machine), Message::ExplainReply { holding, .. }) => {
                machine.on_holding(self, turn, question, from, holding).map(explaining)
            }
            (Machine::Inquiring(machine), Message::OutcomeReply { answer, .. }) => {
                machine.on_recollection(self, turn, question, from, answer).map(inquiring)
            }
            // An answer of another kind than was asked for: a forgery or a bug of that node.
            (machine, _) => Some(machine),
        };
        self.wait(id, machine);
    }

    /// An answer to a machine that is gone. Only keys that a shard of this node still holds for it
    /// must be let go: its Release overtook the Hold.
    fn answer_stray<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        id: OperationId,
        message: &Message,
    ) {
        if let Message::Held { partition, refusal: None, .. } = *message
            && Some(from) == self.me()
        {
            let batch = self.operations.call(id, 0).0;
            self.send_home(turn, Seq(0), Message::Release { partition, batch });
        }
    }

    /// Wakes a machine whose time has come.
    pub(super) fn on_timer<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        id: OperationId,
        machine: Machine,
    ) {
        let machine = match machine {
            Machine::Batching(machine) => machine.on_timer(self, turn).map(Machine::Batching),
            Machine::Logged(machine) => machine.on_timer(self, turn).map(Machine::Logged),
            Machine::Recalling(machine) => return machine.ask(self, turn),
            Machine::Forwarding(machine) => machine.on_timer(self, turn).map(Machine::Forwarding),
            Machine::Leading(machine) => machine.on_timer(self, turn).map(Machine::Leading),
            Machine::Reading(machine) => machine.on_timer(self, turn).map(Machine::Reading),
            Machine::Scanning(machine) => machine.on_timer(self, turn).map(Machine::Scanning),
            Machine::Counting(machine) => machine.on_timer(self, turn).map(Machine::Counting),
            Machine::Explaining(machine) => machine.on_timer(self, turn).map(explaining),
            Machine::Inquiring(machine) => machine.on_timer(self, turn).map(inquiring),
        };
        self.wait(id, machine);
    }

    /// Tells a machine that other nodes can be reached now than before.
    pub(super) fn on_reach<T: Table>(&mut self, turn: &mut Turn<'_, T>, id: OperationId) {
        let Some(machine) = self.operations.take(id) else { return };
        let machine = match machine {
            Machine::Batching(machine) => machine.on_reach(self, turn).map(Machine::Batching),
            // The writes and reads that they wait for hear of it.
            machine @ (Machine::Logged(_) | Machine::Recalling(_)) => Some(machine),
            Machine::Forwarding(machine) => machine.on_reach(self, turn).map(Machine::Forwarding),
            Machine::Leading(machine) => machine.on_reach(self, turn).map(Machine::Leading),
            Machine::Reading(machine) => machine.on_reach(self, turn).map(Machine::Reading),
            Machine::Scanning(machine) => machine.on_reach(self, turn).map(Machine::Scanning),
            Machine::Counting(machine) => machine.on_reach(self, turn).map(Machine::Counting),
            Machine::Explaining(machine) => machine.on_reach(self, turn).map(explaining),
            Machine::Inquiring(machine) => machine.on_reach(self, turn).map(inquiring),
        };
        self.wait(id, machine);
    }

    fn wait(&mut self, id: OperationId, machine: Option<Machine>) {
        if let Some(machine) = machine {
            let wake = match &machine {
                Machine::Batching(machine) => machine.wake(),
                Machine::Logged(machine) => machine.wake(),
                Machine::Recalling(machine) => machine.wake(),
                Machine::Forwarding(machine) => machine.wake(),
                Machine::Leading(machine) => machine.wake(),
                Machine::Reading(machine) => machine.wake(),
                Machine::Scanning(machine) => machine.wake(),
                Machine::Counting(machine) => machine.wake(),
                Machine::Explaining(machine) => machine.wake(),
                Machine::Inquiring(machine) => machine.wake(),
            };
            self.operations.wait(id, wake, machine);
        }
    }

    /// Answers that nothing was done, or that it is not known.
    fn fail<T: Table>(&mut self, turn: &mut Turn<'_, T>, origin: Origin, fault: Fault) {
        self.answer(turn, origin, Seq(0), Reply::Fault(fault));
    }

    /// Where a key lies.
    fn place(&self, key: &Key) -> Result<Place, Fault> {
        let layout = self.layout().ok_or_else(|| self.no_cluster())?;
        let partition = key.token.partition(layout.partitions);
        let row = Row::new(layout.row(partition));
        Ok(Place { partition, row })
    }

    /// Why there is no layout.
    fn no_cluster(&self) -> Fault {
        let detail = match self.view.as_ref().map(|view| &view.phase) {
            None => String::from("it is starting"),
            Some(Phase::Unborn(detail) | Phase::Refused(detail)) => detail.clone(),
            Some(Phase::Member) => String::from("it is about to adopt the layout"),
        };
        Fault::NoCluster { detail }
    }

    /// The members of a row in the order in which they are asked: this node first, for it is the
    /// nearest, then the others as the row has them. Only those that can be reached.
    fn members(&self, row: &Row) -> impl Iterator<Item = NodeId> {
        let me = self.me();
        let own = row.iter().copied().filter(move |&node| Some(node) == me);
        let others = row.iter().copied().filter(move |&node| Some(node) != me);
        own.chain(others).filter(|&node| self.reaches(node))
    }

    /// The members of a row that are to be asked, the first one last; those that were silent before
    /// come first, to be asked when all others were.
    fn members_to_ask(&self, row: &Row, silent: &[NodeId]) -> Vec<NodeId> {
        let mut left: Vec<NodeId> = self.members(row).collect();
        left.reverse();
        left.sort_by_key(|node| !silent.contains(node));
        left
    }

    /// Refuses what needs more members of a row than can be reached now.
    fn check_reach(&self, row: &Row, needed: usize) -> Result<(), Fault> {
        let reachable = row.iter().filter(|&&node| self.reaches(node)).count();
        if reachable >= needed {
            return Ok(());
        }
        let missing: Vec<String> = row
            .iter()
            .filter(|&&node| !self.reaches(node))
            .map(|&node| format!("{} cannot be reached", self.name(node)))
            .collect();
        Err(unavailable(needed, reachable, &missing))
    }

    /// A name for a request that its client gave none.
    fn new_request_id(&mut self) -> RequestId {
        RequestId::of_node(self.random.random())
    }

    /// Lets a client's request wait for a key that is blocked.
    fn park_client<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        key: &Key,
        ticket: Ticket,
        request: Request,
    ) {
        self.park(turn, key.token, Waiting::Client { ticket, request: Box::new(request) });
    }
}

fn explaining(machine: Explaining) -> Machine {
    Machine::Explaining(Box::new(machine))
}

fn inquiring(machine: Inquiring) -> Machine {
    Machine::Inquiring(Box::new(machine))
}

/// How many of a row must take part: the number where there is one, else that of the level.
fn needed(which: &str, number: Option<u8>, request: &Request, row: &Row) -> Result<usize, Fault> {
    required(which, number, request.level, row)
}

/// The same, where only the level of the request is left.
fn required(which: &str, number: Option<u8>, level: Level, row: &Row) -> Result<usize, Fault> {
    let Some(number) = number else { return Ok(level.required(row.len())) };
    let needed = usize::from(number);
    if (1..=row.len()).contains(&needed) {
        return Ok(needed);
    }
    let row = byte(row.len());
    Err(Fault::BadLevel { which: String::from(which), number, row })
}

/// Milliseconds from now to a deadline, rounded up, so that nothing ends early.
fn left_ms(now: Mono, deadline: Mono) -> u32 {
    let us = deadline.0.saturating_sub(now.0);
    u32::try_from(us.div_ceil(1_000)).unwrap_or(u32::MAX)
}

/// A count of members of a row, which has at most 7.
fn byte(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

/// Too few members: how many there were, and in words what is the matter with the others.
fn unavailable(needed: usize, answered: usize, troubles: &[String]) -> Fault {
    let mut detail = troubles.join(", ");
    if !detail.is_empty() {
        detail.push_str("; ");
    }
    detail.push_str("nothing was applied; retry, or ask for a lower level");
    Fault::Unavailable { needed: byte(needed), answered: byte(answered), detail }
}

/// Too much is in flight.
pub(super) fn overloaded(what: &str) -> Fault {
    Fault::Overloaded { what: String::from(what), retry_after_ms: RETRY_AFTER_MS }
}

/// What a refusal means, to follow the name of a node.
pub(super) fn words(why: Nack) -> &'static str {
    match why {
        Nack::Overloaded => "has too much in flight",
        Nack::DiskFull => "has a full disk",
        Nack::Rebuilding => "is being rebuilt after damage",
        Nack::NotOwner => "does not own the key by its layout",
        Nack::Expired => "got the question too late",
        Nack::Stopping => "is stopping",
    }
}

/// A few syncs of the log: by then some of what is in flight has gone.
const RETRY_AFTER_MS: u32 = 50;
