//! The chain of layouts that this node has adopted: each link names the hash of the one before.
//!
//! Invariant: epochs in the chain are consecutive, and each link's `previous` is the hash of its
//! predecessor, except that a gap longer than what others keep is bridged (and said).

use std::collections::VecDeque;
use std::sync::Arc;

use super::Layout;
use super::journal::{CHAIN_LINKS_MAX, Journal};
use super::layout::LayoutHash;
use crate::shard::Seq;

/// One adopted layout.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) layout: Arc<Layout>,
    pub(super) hash: LayoutHash,
    pub(super) seq: Seq,
}

/// The newest links; empty before birth.
#[derive(Debug, Default)]
pub(super) struct Chain {
    links: VecDeque<Link>,
}

impl Chain {
    pub(super) fn recovered(layouts: Vec<Arc<Layout>>) -> Self {
        let link = |layout: Arc<Layout>| Link { hash: layout.hash(), layout, seq: Seq(0) };
        Self { links: layouts.into_iter().map(link).collect() }
    }

    /// The newest layout, durable or not: what the next epoch is decided upon.
    pub(super) fn newest(&self) -> Option<&Link> {
        self.links.back()
    }

    /// The newest layout on stable storage: what others may hear of.
    pub(super) fn durable(&self, journal: &Journal) -> Option<&Link> {
        self.links.iter().rev().find(|link| journal.is_durable(link.seq))
    }

    pub(super) fn epoch(&self) -> u64 {
        self.newest().map_or(0, |link| link.layout.epoch)
    }

    pub(super) fn append(&mut self, layout: Arc<Layout>, seq: Seq) {
        let hash = layout.hash();
        self.links.push_back(Link { layout, hash, seq });
        while u64::try_from(self.links.len()).is_ok_and(|length| length > CHAIN_LINKS_MAX) {
            self.links.pop_front();
        }
    }

    /// Drops every link: what comes next does not follow from what is known.
    pub(super) fn forget(&mut self) {
        self.links.clear();
    }

    /// The links from `epoch` on, as far as they are kept.
    pub(super) fn since(&self, epoch: u64) -> Vec<Arc<Layout>> {
        self.links
            .iter()
            .filter(|link| link.layout.epoch >= epoch)
            .map(|link| Arc::clone(&link.layout))
            .collect()
    }

    pub(super) fn hash_of(&self, epoch: u64) -> Option<LayoutHash> {
        self.links.iter().find(|link| link.layout.epoch == epoch).map(|link| link.hash)
    }
}
