//! Paxos under loss, repetition, reordering and crashes of everybody, with and without its rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::super::journal::AcceptorRecord;
use super::super::message::Ballot;
use super::super::paxos::{Progress, Proposal, Vote};
use super::super::{ClusterId, Layout, LayoutHash, Role};
use super::world::settings;
use crate::causality::NodeId;

/// A rule, broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// An acceptor answers before what it promised or accepted is durable.
    AnswersBeforeSync,
    /// A proposer goes on with its own value whatever others have accepted.
    ForgetsVotes,
    /// A birth takes over a value without asking the members that it lists.
    TakesOverAnySet,
}

enum Letter {
    Prepare(NodeId, Ballot),
    Promise(NodeId, Ballot, Vote),
    Accept(NodeId, Ballot, Arc<Layout>),
    Accepted(NodeId, Ballot),
}

struct Acceptor {
    memory: AcceptorRecord,
    disk: AcceptorRecord,
    /// Letters that wait for the disk.
    held: Vec<(NodeId, Letter)>,
}

struct Proposer {
    proposal: Option<Proposal>,
    generation: u32,
    round: u64,
}

struct Trial {
    rng: Xoshiro256PlusPlus,
    broken: Broken,
    current: Option<Layout>,
    roles: BTreeMap<NodeId, Role>,
    acceptors: BTreeMap<NodeId, Acceptor>,
    proposers: BTreeMap<NodeId, Proposer>,
    /// (to, letter): taken in any order.
    post: Vec<(NodeId, Letter)>,
    /// Who has accepted which value in which ballot, on disk.
    accepted: BTreeMap<(Ballot, ClusterId), BTreeSet<NodeId>>,
    chosen: Vec<Arc<Layout>>,
}

impl Trial {
    /// `current`: the layout whose voters decide; `None` = a birth.
    fn new(seed: u64, nodes: usize, is_birth: bool, broken: Broken) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let role = |index| (settings(index, &[]).node(), settings(index, &[]).role());
        let roles: BTreeMap<NodeId, Role> = (0..nodes).map(role).collect();
        let ids: BTreeSet<NodeId> = roles.keys().copied().collect();
        let current = (!is_birth).then(|| layout(0, &ids, &roles));
        let instance = if is_birth { 1 } else { 2 };
        let acceptor = |&id: &NodeId| {
            let memory = AcceptorRecord::of(instance);
            (id, Acceptor { disk: memory.clone(), memory, held: Vec::new() })
        };
        let proposer = |&id: &NodeId| (id, Proposer { proposal: None, generation: 1, round: 0 });
        Self {
            rng,
            broken,
            current,
            roles,
            acceptors: ids.iter().map(acceptor).collect(),
            proposers: ids.iter().map(proposer).collect(),
            post: Vec::new(),
            accepted: BTreeMap::new(),
            chosen: Vec::new(),
        }
    }

    /// A thousand things happen. Returns whether two values were chosen that exclude each other.
    fn run(mut self) -> bool {
        for _ in 0..1_000 {
            match self.rng.random_range(0..100) {
                0..=3 => self.propose(None),
                4 | 5 => self.crash(),
                6..=30 => self.sync(),
                _ => self.deliver(),
            }
        }
        self.chosen.iter().any(|one| {
            self.chosen.iter().any(|other| {
                one != other && one.roles.keys().any(|id| other.roles.contains_key(id))
            })
        })
    }

    fn some_node(&mut self) -> NodeId {
        let index = self.rng.random_range(0..self.acceptors.len());
        *self.acceptors.keys().nth(index).unwrap()
    }

    fn propose(&mut self, takeover: Option<(NodeId, BTreeSet<NodeId>)>) {
        let own_value = self.rng.random();
        let (me, members) = takeover.unwrap_or_else(|| {
            let me = self.some_node();
            let fellows: Vec<NodeId> = (0..2).map(|_| self.some_node()).collect();
            (me, fellows.into_iter().chain([me]).collect())
        });
        let proposer = self.proposers.get_mut(&me).unwrap();
        proposer.round += 1;
        let ballot = Ballot { round: proposer.round, node: me, generation: proposer.generation };
        let proposal = match &self.current {
            None => {
                let own = layout(own_value, &members, &self.roles);
                Proposal::birth(ballot, members.clone(), Some(own.into()))
            }
            Some(current) => {
                let next = Layout { cluster: ClusterId([own_value; 16]), ..following(current) };
                Proposal::change(ballot, current, next.into())
            }
        };
        for &to in &proposal.acceptors {
            self.post.push((to, Letter::Prepare(me, ballot)));
        }
        proposer.proposal = Some(proposal);
    }

    /// A node stops and starts: what was not on disk is gone, and the proposal with it.
    fn crash(&mut self) {
        let node = self.some_node();
        let acceptor = self.acceptors.get_mut(&node).unwrap();
        acceptor.memory = acceptor.disk.clone();
        acceptor.held.clear();
        let proposer = self.proposers.get_mut(&node).unwrap();
        proposer.proposal = None;
        proposer.round = acceptor.memory.promised.round;
        proposer.generation += 1;
    }

    fn sync(&mut self) {
        let node = self.some_node();
        let acceptor = self.acceptors.get_mut(&node).unwrap();
        acceptor.disk = acceptor.memory.clone();
        self.post.append(&mut acceptor.held);
        let Some((ballot, layout)) = acceptor.disk.accepted.clone() else { return };
        let accepted = self.accepted.entry((ballot, layout.cluster)).or_default();
        accepted.insert(node);
        let needed = match &self.current {
            None => layout.roles.len(),
            Some(current) => current.voters.len() / 2 + 1,
        };
        if accepted.len() >= needed {
            self.chosen.push(layout);
        }
    }

    fn answer(&mut self, from: NodeId, to: NodeId, letter: Letter) {
        if self.broken == Broken::AnswersBeforeSync {
            self.post.push((to, letter));
        } else {
            self.acceptors.get_mut(&from).unwrap().held.push((to, letter));
        }
    }

    fn deliver(&mut self) {
        if self.post.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.post.len());
        let (to, letter) = self.post.swap_remove(index);
        if self.rng.random_range(0..20) == 0 {
            return;
        }
        match letter {
            Letter::Prepare(from, ballot) => {
                if let Ok(vote) = self.acceptors.get_mut(&to).unwrap().memory.prepare(ballot) {
                    self.answer(to, from, Letter::Promise(to, ballot, vote));
                }
            }
            Letter::Accept(from, ballot, layout) => {
                let acceptor = self.acceptors.get_mut(&to).unwrap();
                if acceptor.memory.accept(ballot, layout).is_ok() {
                    self.answer(to, from, Letter::Accepted(to, ballot));
                }
            }
            Letter::Promise(from, ballot, vote) => {
                let vote = vote.filter(|_| self.broken != Broken::ForgetsVotes);
                self.with_proposal(to, ballot, |it, at| it.on_promise(from, at, ballot, vote));
            }
            Letter::Accepted(from, ballot) => {
                self.with_proposal(to, ballot, |it, at| it.on_accepted(from, at, ballot));
            }
        }
    }

    fn with_proposal(
        &mut self,
        node: NodeId,
        ballot: Ballot,
        vote: impl FnOnce(&mut Proposal, u64) -> Progress,
    ) {
        let instance = if self.current.is_none() { 1 } else { 2 };
        let Some(proposal) = &mut self.proposers.get_mut(&node).unwrap().proposal else { return };
        match vote(proposal, instance) {
            Progress::Waiting | Progress::Nothing => {}
            Progress::Propose => {
                let (nodes, layout) = proposal.unanswered();
                let layout = layout.expect("it proposes a value");
                let letter = |to| (to, Letter::Accept(node, ballot, Arc::clone(layout)));
                self.post.extend(nodes.into_iter().map(letter));
            }
            Progress::Elsewhere(members) => {
                if self.broken == Broken::TakesOverAnySet {
                    // It takes the fresh set instead of the members of the value.
                    let asked = proposal.acceptors.clone();
                    let own = Arc::new(layout(self.rng.random(), &asked, &self.roles));
                    for &to in &asked {
                        self.post.push((to, Letter::Accept(node, ballot, Arc::clone(&own))));
                    }
                    let mut forced = Proposal::birth(ballot, asked.clone(), Some(own));
                    for &each in &asked {
                        forced.on_promise(each, 1, ballot, None);
                    }
                    self.proposers.get_mut(&node).unwrap().proposal = Some(forced);
                } else {
                    self.propose(Some((node, members)));
                }
            }
            Progress::Chosen(layout) => self.chosen.push(layout),
        }
    }
}

fn layout(value: u8, members: &BTreeSet<NodeId>, roles: &BTreeMap<NodeId, Role>) -> Layout {
    let roles = members.iter().map(|&id| (id, roles[&id].clone())).collect();
    Layout {
        epoch: 1,
        previous: LayoutHash::default(),
        cluster: ClusterId([value; 16]),
        feature_level: 1,
        partitions: 1,
        replicas: 3,
        roles,
        voters: members.iter().copied().collect(),
        table: Vec::new(),
    }
}

fn following(current: &Layout) -> Layout {
    Layout { epoch: current.epoch + 1, ..current.clone() }
}

/// Runs trials until one goes wrong; the number of the first such.
fn first_failure(trials: u64, is_birth: bool, broken: Broken) -> Option<u64> {
    let nodes = |seed: u64| usize::try_from(3 + seed % 3).unwrap();
    (0..trials).find(|&seed| Trial::new(seed, nodes(seed), is_birth, broken).run())
}

#[test]
fn no_two_values_are_chosen_for_one_epoch() {
    assert_eq!(first_failure(700, false, Broken::Nothing), None);
}

#[test]
fn no_node_is_born_twice() {
    assert_eq!(first_failure(700, true, Broken::Nothing), None);
}

#[test]
fn every_broken_rule_is_caught() {
    for is_birth in [false, true] {
        for broken in [Broken::AnswersBeforeSync, Broken::ForgetsVotes] {
            assert!(first_failure(500, is_birth, broken).is_some(), "{broken:?}");
        }
    }
    assert!(first_failure(500, true, Broken::TakesOverAnySet).is_some(), "sets");
}

/// A proposer asks, stops, and asks for another value in its next life, whose generation is this.
/// Returns whether it then believes in the other value while a majority holds the first one.
fn believes_wrongly(next_generation: u32) -> bool {
    let role = |index| (settings(index, &[]).node(), settings(index, &[]).role());
    let roles: BTreeMap<NodeId, Role> = (0..3).map(role).collect();
    let ids: Vec<NodeId> = roles.keys().copied().collect();
    let current = layout(0, &ids.iter().copied().collect(), &roles);
    let value = |value| Arc::new(Layout { cluster: ClusterId([value; 16]), ..following(&current) });
    let mut acceptors: Vec<AcceptorRecord> = ids.iter().map(|_| AcceptorRecord::of(2)).collect();
    let node = NodeId([9; 16]);
    let ask = |generation, own, asked: [usize; 2], acceptors: &mut Vec<AcceptorRecord>| {
        let ballot = Ballot { round: 1, node, generation };
        let mut proposal = Proposal::change(ballot, &current, own);
        for index in asked {
            if let Ok(vote) = acceptors[index].prepare(ballot) {
                proposal.on_promise(ids[index], 2, ballot, vote);
            }
        }
        (ballot, proposal)
    };
    let (first, _) = ask(1, value(1), [0, 1], &mut acceptors);
    let (second, mut proposal) = ask(next_generation, value(2), [1, 2], &mut acceptors);
    // What the first life asked to accept arrives only now.
    let mut believes = false;
    for index in [0, 1] {
        if acceptors[index].accept(first, value(1)).is_ok() {
            let progress = proposal.on_accepted(ids[index], 2, first);
            believes |= matches!(progress, Progress::Chosen(chosen) if chosen == value(2));
        }
    }
    assert!(second >= first);
    believes
}

#[test]
fn a_ballot_belongs_to_one_life_of_its_proposer() {
    assert!(believes_wrongly(1), "without generations it would go wrong");
    assert!(!believes_wrongly(2));
}
