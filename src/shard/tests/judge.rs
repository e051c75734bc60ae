//! What the test world checks: of every message and reply that leaves, and when all is quiet.

use bytes::Bytes;

use super::super::message::{CallId, ReadAnswer, ReplicaItem};
use super::super::{Message, Ticket};
use super::oracle::Fate;
use super::world::World;
use crate::api::{Level, Op, Outcome, Reply, Request};
use crate::causality::{Actor, Dot, NodeId, Object};
use crate::hash::{Key, PartitionId};

impl World {
    /// An acknowledgement leaves when what it acknowledges is durable.
    pub(super) fn check_ack(&self, from: usize, to: NodeId, call: CallId) {
        for (key, dots) in &self.replicates[&(to, call)] {
            for &dot in dots {
                assert!(self.is_durable_at(from, key, dot), "{dot} was acknowledged too early");
            }
        }
    }

    pub(in super::super) fn is_durable_at(&self, node: usize, key: &Key, dot: Dot) -> bool {
        let (partition, _) = self.place(key);
        let units = &self.nodes[node].units;
        units[usize::from(partition.0) % units.len()].table.is_durable(partition, dot)
    }

    /// A write is acknowledged when it is durable on as many members as were asked for.
    pub(super) fn check_durable(&self, key: &Key, request: &Request, dot: Dot) {
        let (_, row) = self.place(key);
        let needed = request.w.map_or(request.level.required(row.len()), usize::from);
        let durable = row.iter().filter(|&&node| self.is_durable_at(node, key, dot)).count();
        assert!(durable >= needed, "{dot} is durable on {durable} of {needed} members");
    }

    /// O1: nothing leaves a node before the put that it rests on is durable.
    pub(super) fn check_departure(&self, from: usize, message: &Message) {
        let of_node = |key: &Key, object: &Object| {
            let (partition, _) = self.place(key);
            let units = &self.nodes[from].units;
            let table = &units[usize::from(partition.0) % units.len()].table;
            let mine = Actor::new(self.nodes[from].id.tag(), self.nodes[from].epoch);
            for dot in object.dots().filter(|dot| dot.actor == mine) {
                assert!(table.is_durable(partition, dot), "{dot} left before it was durable");
            }
            for dot in table.holds_durably(key).dots() {
                let claims_gone = object.ctx.covers(dot) && object.dots().all(|own| own != dot);
                assert!(!claims_gone, "the end of {dot} was told before it was durable");
            }
        };
        match message {
            // What a read merged rests on other disks too, and names no new dots.
            Message::Replicate { items, .. } => {
                let led = items.iter().filter(|item| !item.dots.is_empty());
                led.for_each(|item| of_node(&item.key, &item.object));
            }
            Message::ReplicateBatch { items, .. } => {
                let led = items.iter().filter(|(_, item)| !item.dots.is_empty());
                led.for_each(|(_, item)| of_node(&item.key, &item.object));
            }
            // The key is not in the answer; the reader has it.
            Message::ReadReply { call, answer: ReadAnswer::Object(object) } => {
                let mine = Actor::new(self.nodes[from].id.tag(), self.nodes[from].epoch);
                let tables = self.nodes[from].units.iter().map(|unit| &unit.table);
                for dot in object.dots().filter(|dot| dot.actor == mine) {
                    let partitions = (0..self.layout.partitions).map(PartitionId);
                    let mut places = partitions.flat_map(|id| tables.clone().map(move |t| (id, t)));
                    let durable = places.any(|(id, table)| table.is_durable(id, dot));
                    assert!(durable, "{dot} left in {call:?} before it was durable");
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_reply(&mut self, ticket: Ticket, reply: Reply) {
        let open = self.open.remove(&ticket).expect("a ticket is answered once");
        if let (Op::Put { key, .. } | Op::Delete { key, .. }, Reply::Written(written)) =
            (&open.request.op, &reply)
        {
            self.check_durable(key, &open.request, written.dot);
        }
        match (&open.request.op, &reply) {
            (Op::Get { key }, Reply::Read(read)) => {
                let (partition, row) = self.place(key);
                let whole = format!("{open:?} over {row:?}{}", self.oracle.tale(key));
                let level = open.request.level.required(row.len());
                let of_all = open.request.r.map_or(level, usize::from) == row.len();
                let siblings = &read.siblings;
                self.oracle.check_read(partition, siblings, &open.visible, of_all, &whole);
            }
            (Op::Put { key, value, .. }, reply) => {
                let (fate, dot) = fate(reply);
                self.oracle.tell(key, Some(value), fate, dot);
            }
            (Op::Delete { key, .. }, reply) => {
                let (fate, dot) = fate(reply);
                self.oracle.tell(key, None, fate, dot);
            }
            (Op::Batch { items, .. }, reply) => self.on_batch_reply(items, reply, &open.request),
            (Op::Scan(_), Reply::Page(_))
            | (Op::Count { .. }, Reply::Count(_))
            | (Op::Explain { .. }, Reply::Explained(_))
            | (Op::Outcome { .. }, Reply::Outcome(_))
            | (Op::Conflicts { .. }, Reply::Conflicts(_)) => {}
            (
                Op::Get { .. }
                | Op::Scan(_)
                | Op::Count { .. }
                | Op::Explain { .. }
                | Op::Outcome { .. }
                | Op::Conflicts { .. },
                Reply::Fault(fault),
            ) => {
                assert_eq!(fault.outcome(), Outcome::Refused, "a read changes nothing");
            }
            (op, reply) => panic!("{reply:?} does not answer {op:?}"),
        }
        self.replies.insert(ticket, reply);
    }

    fn on_batch_reply(&mut self, items: &[(Key, Bytes)], reply: &Reply, request: &Request) {
        for (key, value) in items {
            let row = self.place(key).1.len();
            let members = request.w.map_or(request.level.required(row), usize::from);
            let fate = match reply {
                Reply::BatchWritten { .. } => Fate::Acknowledged { members },
                Reply::Fault(fault) if fault.outcome() == Outcome::Refused => Fate::Refused,
                Reply::Fault(_) => Fate::Unknown,
                other => panic!("{other:?} does not answer a batch"),
            };
            let dot = self.oracle.dot_of(value);
            if let (Fate::Acknowledged { .. }, Some(dot)) = (fate, dot) {
                self.check_durable(key, request, dot);
            }
            self.oracle.tell(key, Some(value), fate, dot);
        }
    }

    /// Reads everything from everybody until nobody is stale, then compares with the oracle.
    pub(in super::super) fn check_converged(&mut self, keys: &[Key]) {
        for round in 0..2 {
            for key in keys {
                for node in 0..self.nodes.len() {
                    let get =
                        Request { level: Level::All, ..Request::new(Op::Get { key: key.clone() }) };
                    let reply = self.call(node, get);
                    let Reply::Read(read) = reply else { panic!("{reply:?} after healing") };
                    if round == 1 {
                        let (partition, _) = self.place(key);
                        self.oracle.check_converged(key, partition, &read.siblings);
                    }
                    self.run();
                }
            }
        }
        for key in keys {
            let (_, row) = self.place(key);
            let held: Vec<Vec<Dot>> =
                row.iter().map(|&node| self.table(node, key).holds(key).dots().collect()).collect();
            assert!(held.windows(2).all(|pair| pair[0] == pair[1]), "{key:?}: {held:?}");
        }
        self.oracle.check_refusals();
    }
}

/// The dots that are durable where this item was acknowledged.
pub(super) fn merged(item: &ReplicaItem) -> (Key, Vec<Dot>) {
    let dots = item.dots.iter().copied().chain(item.object.dots());
    (item.key.clone(), dots.collect())
}

fn fate(reply: &Reply) -> (Fate, Option<Dot>) {
    match reply {
        Reply::Written(written) => {
            let members = usize::from(written.acks_home);
            (Fate::Acknowledged { members }, Some(written.dot))
        }
        Reply::Fault(fault) if fault.outcome() == Outcome::Refused => (Fate::Refused, None),
        Reply::Fault(_) => (Fate::Unknown, None),
        other => panic!("{other:?} does not answer a write"),
    }
}
