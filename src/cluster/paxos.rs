//! Single-decree Paxos over layouts: one instance per epoch, pure, without messages or time.
//!
//! Epoch e + 1 is decided by a majority of the voters of epoch e. Epoch 1, the birth, is decided by
//! *all* nodes that it lists: a value is chosen when every one of its members has accepted it in
//! one ballot, and a proposer that learns of an accepted value takes over that value and its
//! members.
//!
//! Why no node is born twice: let v be chosen in ballot b by its members M. Every later proposal w
//! whose members meet M in x has the promise of x, so it heard of an accepted value of ballot >= b.
//! It may go on only when the value of the highest ballot that it heard of has exactly the members
//! that it asked. By induction on ballots everything x accepts from b on is v, and so is the value
//! of the highest ballot among members that meet M. So w = v.
//!
//! Invariants: a ballot belongs to one proposer in one of its lives and to one value; what an
//! acceptor answers leaves its node only when the state behind it is durable.
//! Source: Lamport, "Paxos Made Simple", 2001; the rule of births is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Layout;
use super::journal::AcceptorRecord;
use super::message::Ballot;
use crate::causality::NodeId;

/// What an acceptor accepted last, and in which ballot.
pub(super) type Vote = Option<(Ballot, Arc<Layout>)>;

impl AcceptorRecord {
    /// An acceptor of this epoch that has promised nothing.
    pub(super) fn of(instance: u64) -> Self {
        Self { instance, ..Self::default() }
    }

    /// Promises to follow no ballot below `ballot`, unless it follows a higher one already (`Err`).
    pub(super) fn prepare(&mut self, ballot: Ballot) -> Result<Vote, Ballot> {
        if ballot < self.promised {
            return Err(self.promised);
        }
        self.promised = ballot;
        Ok(self.accepted.clone())
    }

    /// Accepts the value of `ballot`, unless it follows a higher one (`Err`).
    pub(super) fn accept(&mut self, ballot: Ballot, layout: Arc<Layout>) -> Result<(), Ballot> {
        assert_eq!(layout.epoch, self.instance, "a value belongs to the instance of its epoch");
        if ballot < self.promised {
            return Err(self.promised);
        }
        self.promised = ballot;
        self.accepted = Some((ballot, layout));
        Ok(())
    }
}

/// One ballot of one proposer.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) instance: u64,
    pub(super) ballot: Ballot,
    /// Whose votes count.
    pub(super) acceptors: BTreeSet<NodeId>,
    needed: usize,
    /// What it proposes when no acceptor has accepted anything; `None` = then it gives up.
    own: Option<Arc<Layout>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Preparing(BTreeMap<NodeId, Vote>),
    Accepting { layout: Arc<Layout>, accepted: BTreeSet<NodeId> },
    Over,
}

/// What a vote changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing yet.
    Waiting,
    /// Ask the acceptors to accept the value that the promises leave.
    Propose,
    /// It is decided.
    Chosen(Arc<Layout>),
    /// A birth of these members may have happened: take that one over, in a higher ballot.
    Elsewhere(BTreeSet<NodeId>),
    /// There is nothing to propose.
    Nothing,
}

impl Proposal {
    /// The ballot of a birth of `members`, or the completion of one (`own` = `None`).
    pub(super) fn birth(
        ballot: Ballot,
        members: BTreeSet<NodeId>,
        own: Option<Arc<Layout>>,
    ) -> Self {
        let needed = members.len();
        Self::new(1, ballot, members, needed, own)
    }

    /// The ballot of a change after `current`.
    pub(super) fn change(ballot: Ballot, current: &Layout, own: Arc<Layout>) -> Self {
        let voters: BTreeSet<NodeId> = current.voters.iter().copied().collect();
        let needed = voters.len() / 2 + 1;
        Self::new(current.epoch + 1, ballot, voters, needed, Some(own))
    }

    fn new(
        instance: u64,
        ballot: Ballot,
        acceptors: BTreeSet<NodeId>,
        needed: usize,
        own: Option<Arc<Layout>>,
    ) -> Self {
        assert!(own.as_ref().is_none_or(|own| own.epoch == instance));
        let stage = Stage::Preparing(BTreeMap::new());
        Self { instance, ballot, acceptors, needed, own, stage }
    }

    /// The acceptors that have not answered the question of now, and the value where the question
    /// is whether they accept it.
    pub(super) fn unanswered(&self) -> (Vec<NodeId>, Option<&Arc<Layout>>) {
        let without = |answered: &dyn Fn(&NodeId) -> bool| {
            self.acceptors.iter().filter(|node| !answered(node)).copied().collect()
        };
        match &self.stage {
            Stage::Preparing(promises) => (without(&|node| promises.contains_key(node)), None),
            Stage::Accepting { layout, accepted } => {
                (without(&|node| accepted.contains(node)), Some(layout))
            }
            Stage::Over => (Vec::new(), None),
        }
    }

    /// Whether this is the ballot that an answer belongs to, and the answer counts.
    fn counts(&self, from: NodeId, instance: u64, ballot: Ballot) -> bool {
        instance == self.instance && ballot == self.ballot && self.acceptors.contains(&from)
    }

    pub(super) fn on_promise(
        &mut self,
        from: NodeId,
        instance: u64,
        ballot: Ballot,
        vote: Vote,
    ) -> Progress {
        let fits = vote.as_ref().is_none_or(|(_, layout)| layout.epoch == instance);
        if !self.counts(from, instance, ballot) || !fits {
            return Progress::Waiting;
        }
        let Stage::Preparing(promises) = &mut self.stage else { return Progress::Waiting };
        promises.insert(from, vote);
        if promises.len() < self.needed {
            return Progress::Waiting;
        }
        let highest = promises.values().flatten().max_by_key(|(ballot, _)| *ballot);
        let Some(layout) = highest.map(|(_, layout)| layout).or(self.own.as_ref()).cloned() else {
            self.stage = Stage::Over;
            return Progress::Nothing;
        };
        if self.instance == 1 && !layout.roles.keys().eq(self.acceptors.iter()) {
            self.stage = Stage::Over;
            return Progress::Elsewhere(layout.roles.keys().copied().collect());
        }
        self.stage = Stage::Accepting { layout, accepted: BTreeSet::new() };
        Progress::Propose
    }

    pub(super) fn on_accepted(&mut self, from: NodeId, instance: u64, ballot: Ballot) -> Progress {
        if !self.counts(from, instance, ballot) {
            return Progress::Waiting;
        }
        let Stage::Accepting { layout, accepted } = &mut self.stage else {
            return Progress::Waiting;
        };
        accepted.insert(from);
        if accepted.len() < self.needed {
            return Progress::Waiting;
        }
        let layout = Arc::clone(layout);
        self.stage = Stage::Over;
        Progress::Chosen(layout)
    }
}
