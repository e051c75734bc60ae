//! What the control plane must not forget: its slots of the log, and how far they are durable.
//!
//! Every record is a whole state that replaces the older one of its slot. Each body begins with the
//! number of its format. Invariant: a message that rests on a record leaves with its [`Seq`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::message::{Ballot, Refusal};
use super::{ClusterId, ControlRecord, Layout, Output};
use crate::shard::Seq;

/// Layouts of the chain that a node keeps: who was away for more changes than that is bridged.
/// Fewer in tests, so that they reach the bound.
pub(super) const CHAIN_LINKS_MAX: u64 = if cfg!(test) { 4 } else { 32 };

const FORMAT: u8 = 1;
const SLOT_EPOCH: u8 = 0;
const SLOT_ACCEPTOR: u8 = 1;
const SLOT_ASKED: u8 = 2;
/// The layout of epoch e lies in slot `SLOT_CHAIN + e % CHAIN_LINKS_MAX`.
const SLOT_CHAIN: u8 = 16;

/// What an acceptor has promised and accepted for one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AcceptorRecord {
    pub(super) instance: u64,
    pub(super) promised: Ballot,
    pub(super) accepted: Option<(Ballot, Arc<Layout>)>,
}

/// What the log returns at the start.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) epoch: Option<u32>,
    pub(super) acceptor: Option<AcceptorRecord>,
    pub(super) asked: Option<ClusterId>,
    /// Ascending by epoch, without gaps, the newest last.
    pub(super) chain: Vec<Arc<Layout>>,
}

/// Numbers records and knows which are durable.
#[derive(Debug, Default)]
pub(super) struct Journal {
    newest: Seq,
    durable: Seq,
}

impl Journal {
    pub(super) fn newest(&self) -> Seq {
        self.newest
    }

    pub(super) fn is_durable(&self, seq: Seq) -> bool {
        seq <= self.durable
    }

    pub(super) fn on_durable(&mut self, upto: Seq) {
        self.durable = self.durable.max(upto.min(self.newest));
    }

    pub(super) fn remember_epoch(&mut self, epoch: u32, out: &mut Output) -> Seq {
        self.write(SLOT_EPOCH, &epoch, out)
    }

    pub(super) fn remember_acceptor(&mut self, state: &AcceptorRecord, out: &mut Output) -> Seq {
        self.write(SLOT_ACCEPTOR, state, out)
    }

    pub(super) fn remember_asked(&mut self, cluster: ClusterId, out: &mut Output) -> Seq {
        self.write(SLOT_ASKED, &cluster, out)
    }

    pub(super) fn remember_layout(&mut self, layout: &Layout, out: &mut Output) -> Seq {
        let place = u8::try_from(layout.epoch % CHAIN_LINKS_MAX).expect("a remainder of 32");
        self.write(SLOT_CHAIN + place, layout, out)
    }

    fn write<T: Serialize>(&mut self, slot: u8, state: &T, out: &mut Output) -> Seq {
        let body = postcard::to_extend(state, vec![FORMAT]).expect("memory takes every record");
        self.newest = Seq(self.newest.0 + 1);
        out.records.push((self.newest, ControlRecord { slot, body: Bytes::from(body) }));
        self.newest
    }
}

impl Recovered {
    /// Reads the newest record of each slot.
    pub(super) fn read(slots: &BTreeMap<u8, Bytes>) -> Result<Self, Refusal> {
        let mut recovered = Self::default();
        for (&slot, body) in slots {
            match slot {
                SLOT_EPOCH => recovered.epoch = Some(decode(slot, body)?),
                SLOT_ACCEPTOR => recovered.acceptor = Some(decode(slot, body)?),
                SLOT_ASKED => recovered.asked = Some(decode(slot, body)?),
                SLOT_CHAIN.. => recovered.chain.push(Arc::new(decode(slot, body)?)),
                _ => return Err(newer(slot)),
            }
        }
        recovered.chain.sort_by_key(|layout| layout.epoch);
        // After a bridged gap older links lie below it; only the run up to the newest counts.
        let run = recovered.chain.windows(2).rposition(|pair| pair[0].epoch + 1 != pair[1].epoch);
        if let Some(gap) = run {
            recovered.chain.drain(..=gap);
        }
        Ok(recovered)
    }
}

fn decode<T: DeserializeOwned>(slot: u8, body: &[u8]) -> Result<T, Refusal> {
    match body {
        [FORMAT, rest @ ..] => postcard::from_bytes(rest).map_err(|error| {
            Refusal::new(
                "control_record_damaged",
                format!(
                    "what the log holds of the cluster (slot {slot}) cannot be read: {error}; \
                     restore the directory from a copy, or begin with an empty one"
                ),
            )
        }),
        _ => Err(newer(slot)),
    }
}

fn newer(slot: u8) -> Refusal {
    Refusal::new(
        "newer_format",
        format!(
            "the log holds a record of the cluster (slot {slot}) that this version cannot read; \
             run the version that wrote it"
        ),
    )
}
