//! What the control plane tells everybody else. Immutable; a change publishes a new one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Layout;
use crate::causality::{Actor, NodeId};
use crate::hash::Key;

/// The world as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// This node.
    pub me: NodeId,
    /// Its name.
    pub name: String,
    /// The actor of this start; `None` until its epoch is durable, and until then nothing is
    /// minted.
    pub actor: Option<Actor>,
    /// Where this node stands in its life.
    pub phase: Phase,
    /// The newest layout adopted; `None` before birth.
    pub layout: Option<Arc<Layout>>,
    /// Every other member of the layout, and before birth every node met.
    pub members: BTreeMap<NodeId, Member>,
}

/// Where a node stands in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It belongs to no cluster yet; the text says what it waits for.
    Unborn(String),
    /// It belongs to the cluster of the layout.
    Member,
    /// It cannot go on; the text says why and what to do. The process ends.
    Refused(String),
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where other nodes reach it.
    pub cluster_addr: String,
    /// Where clients reach it.
    pub client_addr: String,
    /// Whether this node can reach it now: the only thing that routing asks for.
    pub reachable: bool,
    /// Milliseconds of Unix time since when it is (un)reachable, for display.
    pub since_unix_ms: u64,
}

impl View {
    /// Whether requests may be sent to `node` now. This node can always reach itself.
    pub fn reaches(&self, node: NodeId) -> bool {
        node == self.me || self.members.get(&node).is_some_and(|member| member.reachable)
    }

    /// Whether this node owns a key. Before birth nobody does, and nobody else would be better.
    pub fn holds(&self, key: &Key) -> bool {
        self.layout.as_ref().is_none_or(|layout| {
            layout.row(key.token.partition(layout.partitions)).contains(&self.me)
        })
    }

    /// Where this node stands, in one line for people. O(partitions).
    pub fn standing(&self) -> String {
        let layout = match (&self.phase, &self.layout) {
            (Phase::Unborn(text) | Phase::Refused(text), _) => return text.clone(),
            (Phase::Member, None) => return String::from("member of a cluster"),
            (Phase::Member, Some(layout)) => layout,
        };
        let owned = layout.owned_by(self.me);
        if owned == 0 {
            return String::from(
                "member without partitions: coordinates every key; owns data after the next \
                 planned change",
            );
        }
        format!("member: owns {owned} of {} partitions", layout.partitions)
    }
}
