//! Inputs that wait until a key can be used: its record is on its way from the disk, or a batch
//! holds it.
//!
//! Keys are told apart by their token only. Inputs wait in the order in which they came, and later
//! ones that name the same token queue behind them, so a GET sees the SET that was sent before it.
//! A parked input has changed nothing yet: it runs again from the start, or dies with its deadline.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Ticket;
use super::message::Message;
use crate::api::Request;
use crate::causality::NodeId;
use crate::hash::Token;
use crate::limits::PARKED_INPUTS_MAX;
use crate::time::Mono;

/// An input that can be run again.
#[derive(Clone, Debug)]
pub(super) enum Waiting {
    /// A client's request.
    Client {
        /// Names the reply.
        ticket: Ticket,
        /// What it asks.
        request: Box<Request>,
    },
    /// Another shard's, or this shard's own, message.
    Peer {
        /// Which node.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// This shard's part of a batch, which holds some of its keys already.
    Part {
        /// Which batch.
        batch: u64,
    },
}

/// Everything that waits.
#[derive(Debug, Default)]
pub(super) struct Parked {
    queues: BTreeMap<Token, Queue>,
    deadlines: BTreeSet<(Mono, Token, u64)>,
    next: u64,
}

/// What waits for one token.
#[derive(Debug, Default)]
struct Queue {
    /// The record is on its way.
    cold: bool,
    /// A batch holds a key of this token.
    held: bool,
    inputs: VecDeque<(u64, Mono, Waiting)>,
}

impl Parked {
    /// Whether inputs that name this token must queue.
    pub(super) fn blocks(&self, token: Token) -> bool {
        !self.queues.is_empty() && self.queues.contains_key(&token)
    }

    /// The record of this token is on its way from the disk.
    pub(super) fn await_record(&mut self, token: Token) {
        self.queues.entry(token).or_default().cold = true;
    }

    /// A batch holds a key of this token until [`Parked::release`].
    pub(super) fn hold(&mut self, token: Token) {
        let queue = self.queues.entry(token).or_default();
        assert!(!queue.held, "a key is held by one batch at a time");
        queue.held = true;
    }

    /// Parks an input under a blocked token. Given back when too many wait already.
    pub(super) fn park(
        &mut self,
        token: Token,
        deadline: Mono,
        input: Waiting,
    ) -> Result<(), Box<Waiting>> {
        if self.deadlines.len() >= PARKED_INPUTS_MAX {
            return Err(Box::new(input));
        }
        self.next += 1;
        let queue = self.queues.get_mut(&token).expect("inputs wait only for blocked tokens");
        queue.inputs.push_back((self.next, deadline, input));
        self.deadlines.insert((deadline, token, self.next));
        Ok(())
    }

    /// The record is in memory. `true` = the token is free, and its inputs are to be run.
    pub(super) fn fetched(&mut self, token: Token) -> bool {
        self.queues.get_mut(&token).is_some_and(|queue| {
            queue.cold = false;
            !queue.held
        })
    }

    /// The batch lets go. `true` = the token is free, and its inputs are to be run.
    pub(super) fn release(&mut self, token: Token) -> bool {
        self.queues.get_mut(&token).is_some_and(|queue| {
            queue.held = false;
            !queue.cold
        })
    }

    /// Takes out everything that waits for a token, and frees it.
    pub(super) fn take(&mut self, token: Token) -> VecDeque<(u64, Mono, Waiting)> {
        let inputs = self.queues.remove(&token).unwrap_or_default().inputs;
        for &(number, deadline, _) in &inputs {
            self.deadlines.remove(&(deadline, token, number));
        }
        inputs
    }

    /// Puts back what [`Parked::take`] gave and what was blocked again meanwhile: in its old order,
    /// before everything that came later.
    pub(super) fn put_back(&mut self, token: Token, inputs: VecDeque<(u64, Mono, Waiting)>) {
        let queue = self.queues.get_mut(&token).expect("inputs wait only for blocked tokens");
        queue.inputs.extend(inputs);
        queue.inputs.make_contiguous().sort_by_key(|&(number, ..)| number);
        for &(number, deadline, _) in &queue.inputs {
            self.deadlines.insert((deadline, token, number));
        }
    }

    /// Takes out an input whose time is up.
    pub(super) fn take_due(&mut self, now: Mono) -> Option<Waiting> {
        let &(deadline, token, number) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.deadlines.pop_first();
        let queue = self.queues.get_mut(&token).expect("every deadline has its queue");
        let index = queue.inputs.iter().position(|&(other, ..)| other == number);
        let index = index.expect("every deadline has its input");
        queue.inputs.remove(index).map(|(_, _, input)| input)
    }

    /// When the next input dies.
    pub(super) fn deadline(&self) -> Option<Mono> {
        self.deadlines.first().map(|&(deadline, ..)| deadline)
    }

    /// Number of inputs that wait.
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }
}
