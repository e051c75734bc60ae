//! How members take in a newcomer: the first one that it meets stages it, and commits all that are
//! staged two seconds after the last one came, as the next link of the chain.
//!
//! A newcomer owns no partitions: the table stays as it is. It is asked for its request again and
//! again, so who gave up meanwhile is not taken in.

use std::collections::BTreeMap;

use super::message::{CODE_CLUSTER_FULL, CODE_NAME_TAKEN};
use super::{Cluster, Layout, Message, Output, Refusal, Role};
use crate::causality::NodeId;
use crate::limits;
use crate::time::Mono;

/// Time without another newcomer after which those that wait are committed, in milliseconds.
const CALM_MS: u64 = 2_000;
/// Longest time that a newcomer waits for others, in milliseconds.
const WAIT_MS_MAX: u64 = 10_000;
/// Time after its last request at which a newcomer is forgotten, in milliseconds.
const FORGET_MS: u64 = 5_000;

/// Who wants to be taken in.
#[derive(Debug, Default)]
pub(super) struct Newcomers {
    staged: BTreeMap<NodeId, Newcomer>,
}

#[derive(Debug)]
struct Newcomer {
    role: Role,
    since: Mono,
    heard: Mono,
}

impl Newcomers {
    /// When those that wait are to be committed.
    fn due(&self) -> Option<Mono> {
        let first = self.staged.values().map(|newcomer| newcomer.since).min()?;
        let last = self.staged.values().map(|newcomer| newcomer.since).max()?;
        Some(last.plus_ms(CALM_MS).min(first.plus_ms(WAIT_MS_MAX)))
    }

    /// `next_attempt`: when this node may propose; `None` = not before something else happens.
    pub(super) fn deadline(&self, next_attempt: Option<Mono>) -> Option<Mono> {
        let forgotten = self.staged.values().map(|newcomer| newcomer.heard.plus_ms(FORGET_MS));
        let due = self.due().zip(next_attempt).map(|(due, next)| due.max(next));
        due.into_iter().chain(forgotten).min()
    }
}

impl Cluster {
    pub(super) fn on_join_request(&mut self, from: NodeId, out: &mut Output) {
        let Some(link) = self.chain.newest() else { return };
        let Some(role) = self.links.peer(from).map(|peer| peer.hello.role()) else { return };
        if link.layout.roles.contains_key(&from) {
            self.tell_standing(from, out);
            return;
        }
        if let Some(refusal) = self.objection(&link.layout, from, &role) {
            Self::tell_at_once(from, Message::JoinRefused { refusal }, out);
            return;
        }
        let now = self.now.mono;
        let since = self.newcomers.staged.get(&from).map_or(now, |newcomer| newcomer.since);
        self.newcomers.staged.insert(from, Newcomer { role, since, heard: now });
        let text = self.join_text();
        Self::tell_at_once(from, Message::JoinPending { text }, out);
    }

    /// Commits who has waited long enough.
    pub(super) fn newcomers_on_time(&mut self, out: &mut Output) {
        let now = self.now.mono;
        self.newcomers.staged.retain(|_, newcomer| now < newcomer.heard.plus_ms(FORGET_MS));
        let due = self.newcomers.due().is_some_and(|due| now >= due);
        if !due || !self.attempts.is_idle(now) {
            return;
        }
        let layout = &self.chain.newest().expect("only members stage newcomers").layout;
        let newcomers =
            self.newcomers.staged.iter().map(|(&id, newcomer)| (id, newcomer.role.clone()));
        let next = layout.with_newcomers(newcomers.collect());
        self.propose_change(next, out);
    }

    /// After a change: who is in it no longer waits, and who clashes with it never will be.
    pub(super) fn settle_newcomers(&mut self, out: &mut Output) {
        let Some(link) = self.chain.newest() else { return };
        let layout = std::sync::Arc::clone(&link.layout);
        self.newcomers.staged.retain(|id, _| !layout.roles.contains_key(id));
        let staged: Vec<(NodeId, Role)> =
            self.newcomers.staged.iter().map(|(&id, each)| (id, each.role.clone())).collect();
        for (id, role) in staged {
            if let Some(refusal) = self.objection(&layout, id, &role) {
                self.newcomers.staged.remove(&id);
                Self::tell_at_once(id, Message::JoinRefused { refusal }, out);
            }
        }
    }

    /// Why a node cannot become a member like this.
    fn objection(&self, layout: &Layout, id: NodeId, role: &Role) -> Option<Refusal> {
        let staged = self.newcomers.staged.iter().map(|(&id, newcomer)| (id, &newcomer.role));
        let mut others = layout
            .roles
            .iter()
            .map(|(&id, role)| (id, role))
            .chain(staged)
            .filter(|other| other.0 != id);
        let same =
            others.find(|(other, member)| member.name == role.name || other.tag() == id.tag());
        if let Some((_, member)) = same {
            let text = if member.name == role.name {
                format!(
                    "{} at {} is a member of cluster {} already; start this node with another \
                     --node-id",
                    member.name, member.cluster_addr, layout.cluster
                )
            } else {
                format!(
                    "the keys of this node and of {} begin alike; clear the data directory of \
                     this node and start it again",
                    member.name
                )
            };
            return Some(Refusal::new(CODE_NAME_TAKEN, text));
        }
        let members = layout.roles.len() + self.newcomers.staged.len();
        let full = members >= limits::NODES_MAX && !self.newcomers.staged.contains_key(&id);
        full.then(|| {
            let text = format!("cluster {} has {members} members, the most it can", layout.cluster);
            Refusal::new(CODE_CLUSTER_FULL, text)
        })
    }

    /// What a newcomer waits for.
    fn join_text(&self) -> String {
        let layout = &self.chain.newest().expect("only members stage newcomers").layout;
        let needed = layout.voters.len() / 2 + 1;
        let (up, down): (Vec<NodeId>, Vec<NodeId>) =
            layout.voters.iter().partition(|&&id| id == self.me || self.links.reaches(id));
        if up.len() >= needed {
            return format!(
                "{} takes it into cluster {} with the next change, two seconds after the last \
                 newcomer",
                self.settings.name, layout.cluster
            );
        }
        let names: Vec<&str> = down.iter().map(|id| layout.roles[id].name.as_str()).collect();
        format!(
            "{} of the {} voters of cluster {} must agree, {} can be reached; waits for {}",
            needed,
            layout.voters.len(),
            layout.cluster,
            up.len(),
            names.join(", ")
        )
    }
}
