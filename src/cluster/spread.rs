//! What spreads without being decided: facts by gossip, layouts to whoever lags, the view to the
//! shards, and the addresses to dial to the shell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::seq::IndexedRandom;

use super::gossip::{GOSSIP_INTERVAL_MS, GOSSIP_PEERS};
use super::message::{Digest, Fact};
use super::{Cluster, Hello, LayoutHash, Member, Message, Output, Phase, Severity, View};
use crate::causality::{Actor, NodeId};
use crate::planted::{Bug, planted};

impl Cluster {
    pub(super) fn gossip_on_time(&mut self, out: &mut Output) {
        if self.now.mono < self.next_gossip {
            return;
        }
        self.next_gossip = self.now.mono.plus_ms(GOSSIP_INTERVAL_MS);
        let Some(link) = self.chain.durable(&self.journal) else { return };
        let (epoch, hash) = (link.layout.epoch, link.hash);
        let peers: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(node, peer)| peer.is_reachable() && link.layout.roles.contains_key(node))
            .map(|(node, _)| node)
            .collect();
        self.renew_own_fact(epoch, hash);
        let chosen: Vec<NodeId> = peers.sample(&mut self.rng, GOSSIP_PEERS).copied().collect();
        for node in chosen {
            let digest = self.facts.digest();
            Self::tell_at_once(node, Message::GossipSyn { epoch, hash, digest }, out);
        }
    }

    fn renew_own_fact(&mut self, layout_epoch: u64, layout_hash: LayoutHash) {
        if self.facts.about(self.me).is_some_and(|fact| fact.layout_hash == layout_hash) {
            return;
        }
        self.version += 1;
        let hello = self.hello();
        let version = self.version;
        self.facts.learn(Fact { version, layout_epoch, layout_hash, ..hello.fact() });
    }

    pub(super) fn on_gossip_syn(
        &mut self,
        from: NodeId,
        epoch: u64,
        hash: LayoutHash,
        digest: &[Digest],
        out: &mut Output,
    ) {
        let mine = self.chain.epoch();
        if mine == 0 {
            return;
        }
        if epoch > mine {
            self.tell(from, Message::LayoutPull { from_epoch: mine + 1 }, out);
        } else if epoch < mine {
            self.on_pull(from, epoch + 1, out);
        } else if self.chain.hash_of(epoch).is_some_and(|known| known != hash) {
            let text = format!("node {from:?} follows a different layout of epoch {epoch}");
            out.notices.push((Severity::Warning, text));
        }
        let answer =
            Message::GossipSynAck { delta: self.facts.delta(digest), digest: self.facts.digest() };
        Self::tell_at_once(from, answer, out);
    }

    pub(super) fn answer_digest(&self, from: NodeId, digest: &[Digest], out: &mut Output) {
        let delta = self.facts.delta(digest);
        if !delta.is_empty() {
            Self::tell_at_once(from, Message::GossipAck { delta }, out);
        }
    }

    pub(super) fn learn(&mut self, delta: Vec<Fact>) {
        let Some(link) = self.chain.newest() else { return };
        for fact in delta {
            if fact.node != self.me && link.layout.roles.contains_key(&fact.node) {
                self.changed |= self.facts.learn(fact);
            }
        }
    }

    pub(super) fn on_pull(&mut self, from: NodeId, from_epoch: u64, out: &mut Output) {
        let chain = self.chain.since(from_epoch);
        if !chain.is_empty() {
            let asked_from = Some(from_epoch);
            self.tell(from, Message::LayoutPush { asked_from, chain }, out);
        }
    }

    /// Publishes a view if it differs from the last one.
    pub(super) fn publish(&mut self, out: &mut Output) {
        let link = self.chain.durable(&self.journal);
        let phase = match (&self.refused, link) {
            (Some(refusal), _) => Phase::Refused(refusal.to_string()),
            (None, Some(_)) => Phase::Member,
            (None, None) => Phase::Unborn(self.unborn_text()),
        };
        let durable = self.generation_seq.is_some_and(|seq| self.journal.is_durable(seq))
            || planted(Bug::EpochNotDurable);
        let is_kept = planted(Bug::CounterResumed) || planted(Bug::ActorKept);
        let epoch = if is_kept { 1 } else { self.generation };
        let view = View {
            me: self.me,
            name: self.name().to_owned(),
            actor: durable.then(|| Actor::new(self.me.tag(), epoch)),
            phase,
            layout: link.map(|link| Arc::clone(&link.layout)),
            members: self.members(),
        };
        if self.published.as_deref() != Some(&view) {
            self.note_reachability(&view, out);
            let view = Arc::new(view);
            self.published = Some(Arc::clone(&view));
            out.view = Some(view);
        }
    }

    fn unborn_text(&self) -> String {
        if self.unborn.text.is_empty() {
            if self.settings.seeds.is_empty() {
                return String::from("is being born alone");
            }
            let seeds = self.settings.seeds.join(", ");
            return format!("waits for {seeds}, named as seed by {}", self.settings.name);
        }
        self.unborn.text.clone()
    }

    fn members(&self) -> BTreeMap<NodeId, Member> {
        let known = |node: NodeId, name: &str, cluster_addr: &str, client_addr: &str| {
            let reachable = self.links.reaches(node);
            let before = self.published.as_ref().and_then(|view| view.members.get(&node));
            let since = before.filter(|before| before.reachable == reachable);
            let fact = self.facts.about(node);
            let member = Member {
                name: name.to_owned(),
                cluster_addr: fact.map_or(cluster_addr, |fact| &fact.cluster_addr).to_owned(),
                client_addr: fact.map_or(client_addr, |fact| &fact.client_addr).to_owned(),
                reachable,
                since_unix_ms: since.map_or(self.now.unix_ms, |before| before.since_unix_ms),
            };
            (node, member)
        };
        if let Some(link) = self.chain.durable(&self.journal) {
            let others = link.layout.roles.iter().filter(|&(&node, _)| node != self.me);
            return others
                .map(|(&node, role)| known(node, &role.name, &role.cluster_addr, &role.client_addr))
                .collect();
        }
        let met = self.links.iter().map(|(_, peer)| &peer.hello);
        met.map(|hello: &Hello| {
            known(hello.node, &hello.name, &hello.cluster_addr, &hello.client_addr)
        })
        .collect()
    }

    fn note_reachability(&self, view: &View, out: &mut Output) {
        let Some(before) = &self.published else { return };
        for (node, member) in &view.members {
            let was = before.members.get(node).is_some_and(|before| before.reachable);
            if was && !member.reachable {
                let text = format!("{} at {} cannot be reached", member.name, member.cluster_addr);
                out.notices.push((Severity::Warning, text));
            } else if member.reachable && !was {
                let text = format!("{} at {} can be reached", member.name, member.cluster_addr);
                out.notices.push((Severity::Info, text));
            }
        }
    }

    /// Says which addresses to keep links to: the seeds, and every node known. Nobody is dialled
    /// before the epoch of this start is durable.
    pub(super) fn dial(&mut self, out: &mut Output) {
        if !self.generation_seq.is_some_and(|seq| self.journal.is_durable(seq)) {
            return;
        }
        let mut addrs: BTreeSet<String> = self
            .seeds()
            .into_iter()
            .filter(|seed| seed.node != Some(self.me))
            .map(|seed| seed.addr)
            .collect();
        if let Some(link) = self.chain.newest() {
            for (&node, role) in &link.layout.roles {
                let fact = self.facts.about(node).map(|fact| &fact.cluster_addr);
                if node != self.me {
                    addrs.insert(fact.unwrap_or(&role.cluster_addr).clone());
                }
            }
        } else {
            for (node, addr) in self.unborn.neighbor_addrs() {
                if node != self.me {
                    addrs.insert(addr.to_owned());
                }
            }
        }
        addrs.remove(&self.settings.cluster_addr);
        if self.stopping {
            addrs.clear();
        }
        if addrs != self.dialed {
            self.dialed.clone_from(&addrs);
            out.dial = Some(addrs);
        }
    }
}
