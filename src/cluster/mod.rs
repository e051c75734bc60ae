//! The control plane: who is in the cluster, who owns what, who can be reached.
//!
//! One [`View`] at a time is published to the shards; they never ask back. Like a shard it is one
//! struct with a `step` that never waits, never fails and reads neither clock nor chance.

mod layout;
pub mod message;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

pub use layout::{ClusterId, Layout, Role};
pub use message::{Hello, Message};
pub use view::{Member, Phase, View};

use crate::causality::NodeId;
use crate::shard::Seq;

/// What happens to the control plane.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline that it asked for is due.
    Tick,
    /// A node is connected and has said who it is. Several links to one node count as one.
    LinkUp {
        /// What it said.
        hello: Hello,
        /// The address that was dialled to reach it; `None` = it dialled us.
        dialed: Option<String>,
    },
    /// The last link to a node is gone.
    LinkDown {
        /// Which node.
        node: NodeId,
    },
    /// An address of `Output::dial` did not answer; the shell goes on trying by itself.
    DialFailed {
        /// Which address.
        addr: String,
        /// What the system said.
        reason: String,
    },
    /// A node speaks. Late, repeated, reordered, or from a past life of that node.
    Peer {
        /// Which node.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Every record at or below this is on stable storage.
    Durable {
        /// The newest such record.
        upto: Seq,
    },
    /// The process is about to stop: tell the others.
    Stop,
}

/// What the control plane does. The caller owns it and empties it after every step.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages, each with the record that it rests on.
    pub messages: Vec<(Seq, NodeId, Message)>,
    /// What must be remembered; numbered from 1 in the order of their making.
    pub records: Vec<(Seq, ControlRecord)>,
    /// A new view for everybody.
    pub view: Option<Arc<View>>,
    /// Set when it changed: every address to which the shell keeps a link, redialling with
    /// back-off.
    pub dial: Option<BTreeSet<String>>,
    /// Lines for the operator's log, with their severity.
    pub notices: Vec<(Severity, String)>,
}

/// How urgent a line for the operator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something that was expected happened.
    Info,
    /// Something to look at.
    Warning,
}

/// Something that the control plane must remember. The newest record of a slot replaces the older
/// ones; recovery returns the newest of each slot. The body is opaque to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRecord {
    /// What it is about.
    pub slot: u8,
    /// The encoded state.
    pub body: Bytes,
}
