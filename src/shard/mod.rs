//! The data plane: one struct per core that owns partitions and answers for them.
//!
//! `step` is the whole interface: it never waits, never fails, and reads neither
//! clock nor chance. What it sends rests on puts that may not be durable yet; each reply and each
//! message names the newest put that it rests on, and the shell lets it go once that is durable.

pub mod message;
mod table;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use message::Message;
pub use table::{Batch, Group, IndexEntry, Lookup, Record, Seq, Table};

use crate::api::{Reply, Request};
use crate::causality::NodeId;
use crate::cluster::View;
use crate::hash::Token;

/// Names one client request between shell and shard; each gets exactly one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One of the shards of a node, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ShardId(pub u16);

/// What happens to a shard.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline that it asked for is due, or a job has work.
    Tick,
    /// A client asks.
    Client {
        /// Names the reply.
        ticket: Ticket,
        /// What it asks.
        request: Request,
    },
    /// A shard speaks: of another node, or another shard of this one. Late, repeated, reordered,
    /// or from a past life of that node.
    Peer {
        /// Which node.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// A record of this token that was `Cold` is in memory now, or is known to be damaged.
    Fetched {
        /// Its token.
        token: Token,
    },
    /// Every put at or below this is on stable storage.
    Durable {
        /// The newest such put.
        upto: Seq,
    },
    /// The control plane published a new view.
    View(Arc<View>),
}

/// What a shard does. The caller owns it and empties it after every turn.
#[derive(Debug, Default)]
pub struct Output {
    /// Replies to clients, each with the put that it rests on.
    pub replies: Vec<(Seq, Ticket, Reply)>,
    /// Messages, each with the put that it rests on. One to this node itself goes to another of
    /// its shards; a shard never sends to itself.
    pub messages: Vec<(Seq, NodeId, Message)>,
}
