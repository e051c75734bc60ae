//! How this node takes part in decisions: it proposes, votes, adopts what was decided, and passes
//! it on. The rules are those of `paxos`; here are messages, records and time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::RngExt;

use super::journal::AcceptorRecord;
use super::message::{Ballot, CODE_MEMORY_LOST, CODE_REMOVED};
use super::paxos::{Progress, Proposal, Vote};
use super::{Cluster, ClusterId, Layout, Message, Output, Refusal, Role, Severity, birth};
use crate::causality::NodeId;
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::shard::Seq;
use crate::time::Mono;

/// Time that the first attempt at a decision may take, in milliseconds: two round trips, each with
/// a sync of a slow disk. It doubles with every attempt.
const ATTEMPT_MS: u64 = 1_000;
/// Doublings of that time, at most.
const ATTEMPT_DOUBLINGS: u32 = 3;
/// Time after which a question is asked again of those who have not answered, in milliseconds. A
/// link that breaks takes with it what was on its way, and a birth needs every answer.
const REPEAT_MS: u64 = 250;
/// Least pause after an attempt that failed, in milliseconds; a random part comes on top of it.
const PAUSE_MS: u64 = 100;

/// What this node proposes now, and when it may try again.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    current: Option<(Proposal, Mono)>,
    /// Whether `current` is a birth that nobody has begun before.
    is_fresh_birth: bool,
    /// When those who have not answered are asked again.
    repeat_at: Mono,
    /// Nothing is proposed before this.
    not_before: Mono,
    failures: u32,
    /// The highest round heard of.
    round: u64,
}

impl Attempts {
    pub(super) fn is_idle(&self, now: Mono) -> bool {
        self.current.is_none() && now >= self.not_before
    }

    /// When the next attempt may begin; `None` = one is under way.
    pub(super) fn next(&self) -> Option<Mono> {
        self.current.is_none().then_some(self.not_before)
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.current.as_ref().map(|(_, until)| self.repeat_at.min(*until))
    }
}

impl Cluster {
    /// Proposes the birth of `members`, or (`fresh` = false) the completion of one that has begun.
    pub(super) fn propose_birth(
        &mut self,
        members: BTreeSet<NodeId>,
        fresh: bool,
        out: &mut Output,
    ) {
        let own = fresh.then(|| {
            let roles: BTreeMap<NodeId, Role> =
                members.iter().map(|&id| (id, self.role_of(id))).collect();
            let cluster = ClusterId(self.rng.random());
            let (partitions, replicas) = (self.settings.partitions, self.settings.replicas);
            Arc::new(Layout::born(cluster, partitions, replicas, roles))
        });
        let proposal = Proposal::birth(self.next_ballot(), members, own);
        self.begin(proposal, fresh, out);
    }

    /// Proposes `layout` as the next link of the chain.
    pub(super) fn propose_change(&mut self, layout: Layout, out: &mut Output) {
        let current =
            Arc::clone(&self.chain.newest().expect("only members change a layout").layout);
        let proposal = Proposal::change(self.next_ballot(), &current, Arc::new(layout));
        self.begin(proposal, false, out);
    }

    fn role_of(&self, node: NodeId) -> Role {
        if node == self.me {
            return self.settings.role();
        }
        let peer = self.links.peer(node).expect("who is born together is linked");
        peer.hello.role()
    }

    fn next_ballot(&mut self) -> Ballot {
        let round = self.attempts.round.max(self.acceptor.promised.round) + 1;
        self.attempts.round = round;
        Ballot { round, node: self.me, generation: self.generation }
    }

    fn begin(&mut self, proposal: Proposal, is_fresh_birth: bool, out: &mut Output) {
        let patience = ATTEMPT_MS << self.attempts.failures.min(ATTEMPT_DOUBLINGS);
        self.attempts.current = Some((proposal, self.now.mono.plus_ms(patience)));
        self.attempts.is_fresh_birth = is_fresh_birth;
        self.ask(out);
    }

    /// Asks everybody who has not answered, for the first time or again.
    fn ask(&mut self, out: &mut Output) {
        self.attempts.repeat_at = self.now.mono.plus_ms(REPEAT_MS);
        let Some((proposal, _)) = &self.attempts.current else { return };
        let (instance, ballot) = (proposal.instance, proposal.ballot);
        let (nodes, layout) = proposal.unanswered();
        let question = if let Some(layout) = layout.cloned() {
            Message::PaxAccept { ballot, layout }
        } else {
            let members = proposal.acceptors.clone();
            let fresh_birth = self.attempts.is_fresh_birth.then_some(members);
            Message::PaxPrepare { instance, ballot, fresh_birth }
        };
        for node in nodes {
            self.tell(node, question.clone(), out);
        }
    }

    /// Gives up an attempt whose time is over, and asks again where answers are late.
    pub(super) fn attempts_on_time(&mut self, out: &mut Output) {
        let Some((_, until)) = &self.attempts.current else { return };
        if self.now.mono >= *until {
            sometimes!("a ballot ran out of time");
            self.fail_attempt();
        } else if self.now.mono >= self.attempts.repeat_at {
            self.ask(out);
        }
    }

    fn fail_attempt(&mut self) {
        self.attempts.current = None;
        self.attempts.failures += 1;
        let spread = PAUSE_MS << self.attempts.failures.min(ATTEMPT_DOUBLINGS);
        let pause = PAUSE_MS + self.rng.random_range(0..spread);
        self.attempts.not_before = self.now.mono.plus_ms(pause);
    }

    pub(super) fn on_prepare(
        &mut self,
        from: NodeId,
        instance: u64,
        ballot: Ballot,
        fresh_birth: Option<&BTreeSet<NodeId>>,
        out: &mut Output,
    ) {
        if !self.may_vote(from, instance, out) {
            return;
        }
        self.attempts.round = self.attempts.round.max(ballot.round);
        let consents = self.acceptor.accepted.is_some()
            || fresh_birth.is_none_or(|members| birth::admits(&self.seeds(), members));
        let answer = if consents { self.acceptor.prepare(ballot) } else { Err(ballot) };
        match answer {
            Ok(accepted) => {
                if !planted(Bug::PromiseNotDurable) {
                    self.journal.remember_acceptor(&self.acceptor, out);
                }
                self.tell(from, Message::PaxPromise { instance, ballot, accepted }, out);
            }
            Err(promised) => {
                self.tell(from, Message::PaxReject { instance, ballot, promised }, out);
            }
        }
    }

    pub(super) fn on_accept(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        layout: Arc<Layout>,
        out: &mut Output,
    ) {
        let instance = layout.epoch;
        if !self.may_vote(from, instance, out) || !self.follows_mine(&layout) {
            return;
        }
        match self.acceptor.accept(ballot, layout) {
            Ok(()) => {
                self.journal.remember_acceptor(&self.acceptor, out);
                self.tell(from, Message::PaxAccepted { instance, ballot }, out);
            }
            Err(promised) => {
                self.tell(from, Message::PaxReject { instance, ballot, promised }, out);
            }
        }
    }

    /// Whether this node votes on that epoch now. If it is ahead or behind, it says or asks what
    /// was decided instead.
    fn may_vote(&mut self, from: NodeId, instance: u64, out: &mut Output) -> bool {
        let epoch = self.chain.epoch();
        if instance <= epoch {
            sometimes!("a proposal of an epoch that is over was refused");
            self.tell_standing(from, out);
            return false;
        }
        if instance > epoch + 1 {
            if epoch > 0 {
                self.tell(from, Message::LayoutPull { from_epoch: epoch + 1 }, out);
            }
            return false;
        }
        match self.chain.newest() {
            // Who has asked to join a cluster may be a member of it by now.
            None => self.unborn.asked.is_none(),
            Some(link) => {
                link.layout.voters.contains(&self.me) && link.layout.roles.contains_key(&from)
            }
        }
    }

    /// Whether `layout` can be the next one of this node's chain.
    fn follows_mine(&self, layout: &Layout) -> bool {
        match self.chain.newest() {
            None => layout.roles.contains_key(&self.me),
            Some(link) => layout.previous == link.hash && layout.cluster == link.layout.cluster,
        }
    }

    pub(super) fn on_promise(
        &mut self,
        from: NodeId,
        instance: u64,
        ballot: Ballot,
        vote: Vote,
        out: &mut Output,
    ) {
        let Some((proposal, _)) = &mut self.attempts.current else { return };
        let progress = proposal.on_promise(from, instance, ballot, vote);
        self.on_progress(progress, out);
    }

    pub(super) fn on_accepted(
        &mut self,
        from: NodeId,
        instance: u64,
        ballot: Ballot,
        out: &mut Output,
    ) {
        let Some((proposal, _)) = &mut self.attempts.current else { return };
        let progress = proposal.on_accepted(from, instance, ballot);
        self.on_progress(progress, out);
    }

    pub(super) fn on_reject(&mut self, instance: u64, ballot: Ballot, promised: Ballot) {
        self.attempts.round = self.attempts.round.max(promised.round);
        let current = self.attempts.current.as_ref().map(|(proposal, _)| proposal);
        if current.is_some_and(|mine| mine.instance == instance && mine.ballot == ballot) {
            self.fail_attempt();
        }
    }

    fn on_progress(&mut self, progress: Progress, out: &mut Output) {
        match progress {
            Progress::Waiting => {}
            Progress::Nothing => self.fail_attempt(),
            Progress::Elsewhere(members) => {
                let proposal = Proposal::birth(self.next_ballot(), members, None);
                self.begin(proposal, false, out);
            }
            Progress::Propose => self.ask(out),
            Progress::Chosen(layout) => {
                self.attempts.current = None;
                self.on_chosen(&layout, out);
            }
        }
    }

    /// This node is the first to know that `layout` was decided: everybody hears it from here, and
    /// later from each other.
    fn on_chosen(&mut self, layout: &Arc<Layout>, out: &mut Output) {
        let linked: Vec<NodeId> = self
            .links
            .iter()
            .map(|(node, _)| node)
            .filter(|node| layout.roles.contains_key(node))
            .collect();
        for node in linked {
            let chain = vec![Arc::clone(layout)];
            self.tell(node, Message::LayoutPush { asked_from: None, chain }, out);
        }
        // The completer of a birth need not be one of its members.
        if layout.roles.contains_key(&self.me) && layout.epoch == self.chain.epoch() + 1 {
            self.adopt(layout, out);
        }
    }

    /// Takes over decided layouts that another node sent.
    pub(super) fn on_chain(
        &mut self,
        from: NodeId,
        asked_from: Option<u64>,
        chain: &[Arc<Layout>],
        out: &mut Output,
    ) {
        let Some(newest) = chain.last() else { return };
        if !is_chain(chain) {
            let text = format!("node {from:?} sent layouts that are no chain; they were ignored");
            out.notices.push((Severity::Warning, text));
            return;
        }
        if let Some(peer) = self.links.peer_mut(from) {
            peer.cluster = Some(newest.cluster);
        }
        let Some(mine) = self.chain.newest() else { return self.on_first_chain(chain, out) };
        if mine.layout.cluster != newest.cluster {
            return;
        }
        let trusted = mine.layout.roles.contains_key(&from);
        let next = mine.layout.epoch + 1;
        let begins = chain.first().map_or(next, |layout| layout.epoch);
        if begins > next && !(trusted && asked_from == Some(next)) {
            self.tell(from, Message::LayoutPull { from_epoch: next }, out);
            return;
        }
        if begins > next {
            let text = format!("layouts {next} to {} are no longer kept anywhere", begins - 1);
            out.notices.push((Severity::Info, text));
            self.chain.forget();
        }
        for layout in chain {
            self.adopt_next(layout, out);
        }
    }

    fn adopt_next(&mut self, layout: &Arc<Layout>, out: &mut Output) {
        let follows = match self.chain.newest() {
            None => true,
            Some(mine) if mine.layout.epoch + 1 == layout.epoch => mine.hash == layout.previous,
            Some(_) => false,
        };
        if follows {
            return self.adopt(layout, out);
        }
        let kept = self.chain.hash_of(layout.epoch);
        if layout.epoch > self.chain.epoch() || kept.is_some_and(|hash| hash != layout.hash()) {
            let text = format!(
                "another node follows a different layout of epoch {}; this should be impossible: \
                 compare `status` of all nodes",
                layout.epoch
            );
            out.notices.push((Severity::Warning, text));
        }
    }

    /// An unborn node hears that it is a member. It must have agreed to that: in the birth that it
    /// accepted, or by asking to join. One that remembers neither has lost its memory, and its
    /// votes and its data with it.
    fn on_first_chain(&mut self, chain: &[Arc<Layout>], out: &mut Output) {
        let newest = chain.last().expect("a chain has links");
        let lists_me = newest.roles.get(&self.me);
        if lists_me.is_none_or(|role| role.public_key != self.settings.public_key) {
            return;
        }
        let accepted = self.acceptor.accepted.as_ref().map(|(_, layout)| layout.cluster);
        if accepted.or(self.unborn.asked) != Some(newest.cluster) {
            let text = format!(
                "cluster {} counts this node as a member, but its data directory remembers \
                 nothing of it; restore the directory, or clear it with the identity file and \
                 join as a new node",
                newest.cluster
            );
            self.refuse(Refusal::new(CODE_MEMORY_LOST, text));
            return;
        }
        for layout in chain {
            self.adopt(layout, out);
        }
    }

    pub(super) fn adopt(&mut self, layout: &Arc<Layout>, out: &mut Output) {
        let text = format!(
            "layout {} of cluster {}: {} members",
            layout.epoch,
            layout.cluster,
            layout.roles.len()
        );
        out.notices.push((Severity::Info, text));
        let seq = self.journal.remember_layout(layout, out);
        self.acceptor = AcceptorRecord::of(layout.epoch + 1);
        self.attempts = Attempts { round: self.attempts.round, ..Attempts::default() };
        self.chain.append(Arc::clone(layout), seq);
        self.facts.retain(|node| layout.roles.contains_key(&node));
        for hello in self.links.iter().map(|(_, peer)| &peer.hello) {
            if layout.roles.contains_key(&hello.node) {
                self.facts.learn(hello.fact());
            }
        }
        if !layout.roles.contains_key(&self.me) {
            let text = format!(
                "layout {} of cluster {} no longer lists this node; its data is with the others. \
                 To join again, start it with an empty data directory",
                layout.epoch, layout.cluster
            );
            self.refuse(Refusal::new(CODE_REMOVED, text));
        }
        self.settle_newcomers(out);
        let unborn: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(node, peer)| peer.cluster.is_none() && layout.roles.contains_key(node))
            .map(|(node, _)| node)
            .collect();
        for node in unborn {
            let chain = vec![Arc::clone(layout)];
            self.tell(node, Message::LayoutPush { asked_from: None, chain }, out);
        }
        self.changed = true;
    }

    /// Tells a node that asked about the past where this one stands.
    pub(super) fn tell_standing(&mut self, to: NodeId, out: &mut Output) {
        let Some(link) = self.chain.newest() else { return };
        let message = if link.layout.roles.contains_key(&to) {
            Message::LayoutPush { asked_from: None, chain: vec![Arc::clone(&link.layout)] }
        } else {
            Message::Belongs { cluster: link.layout.cluster }
        };
        self.tell(to, message, out);
    }

    /// Sends what rests on everything that this node has to remember.
    pub(super) fn tell(&mut self, to: NodeId, message: Message, out: &mut Output) {
        let seq = self.journal.newest();
        if to == self.me {
            self.mail.push_back((seq, message));
        } else {
            out.messages.push((seq, to, message));
        }
    }

    /// Sends what rests on nothing.
    pub(super) fn tell_at_once(to: NodeId, message: Message, out: &mut Output) {
        out.messages.push((Seq(0), to, message));
    }
}

fn is_chain(chain: &[Arc<Layout>]) -> bool {
    chain.windows(2).all(|pair| {
        pair[0].epoch + 1 == pair[1].epoch
            && pair[0].cluster == pair[1].cluster
            && pair[0].hash() == pair[1].previous
    })
}
