//! How long the answers of each node take: what patience with it is worth.
//!
//! A running estimate of the 99th percentile per node, in integers: it climbs fast when an answer
//! is slower than it, and sinks slowly, in proportion 99 to 1, when one is faster. Hence about one
//! answer in a hundred lies above it. Source: ours, after the stochastic approximation of quantiles
//! of Robbins and Monro, 1951.

use std::collections::BTreeMap;

use crate::causality::NodeId;
use crate::limits::{HEDGE_MS_MAX, MEMBER_PATIENCE_MS};
use crate::time::Mono;

/// What the estimate of a read begins with, in microseconds: slow for one machine room.
const READ_START_US: u64 = 10_000;
/// What that of a write begins with, in microseconds: it waits for two disks, one after the
/// other, and a write that is led twice costs more than one that is late.
const WRITE_START_US: u64 = 50_000;
/// Below this an estimate says more about the scheduler than about the node, in microseconds.
const FLOOR_US: u64 = 200;
/// Shortest wait for a member before another one is asked in its place, in milliseconds.
const PATIENCE_MS_MIN: u64 = 20;
/// Reads that earn one hedge: hedges may make up 5 % of all reads.
const READS_PER_HEDGE: u32 = 20;
/// Hedges that may be saved up.
const HEDGES_SAVED_MAX: u32 = 10;

/// What was measured of every node that was asked.
#[derive(Debug, Default)]
pub(super) struct Latency {
    reads: BTreeMap<NodeId, u64>,
    writes: BTreeMap<NodeId, u64>,
    /// Earned reads; [`READS_PER_HEDGE`] of them pay for one hedge.
    credit: u32,
}

impl Latency {
    /// A node answered a read.
    pub(super) fn note_read(&mut self, node: NodeId, sent: Mono, now: Mono) {
        note(self.reads.entry(node).or_insert(READ_START_US), now.0.saturating_sub(sent.0));
    }

    /// A node answered a write that it led.
    pub(super) fn note_write(&mut self, node: NodeId, sent: Mono, now: Mono) {
        note(self.writes.entry(node).or_insert(WRITE_START_US), now.0.saturating_sub(sent.0));
    }

    /// When a read that was just sent to `node` is worth a hedge: min(p99, 50 ms).
    pub(super) fn hedge_at(&self, node: NodeId, now: Mono) -> Mono {
        let p99 = self.reads.get(&node).copied().unwrap_or(READ_START_US);
        Mono(now.0 + p99.clamp(FLOOR_US, HEDGE_MS_MAX * 1_000))
    }

    /// Until when a read at `node` is waited for before another member is asked.
    pub(super) fn read_patience(&self, node: NodeId, now: Mono) -> Mono {
        let p99 = self.reads.get(&node).copied().unwrap_or(READ_START_US);
        patience(p99, now)
    }

    /// Until when a write led by `node` is waited for before another member is asked.
    pub(super) fn write_patience(&self, node: NodeId, now: Mono) -> Mono {
        let p99 = self.writes.get(&node).copied().unwrap_or(WRITE_START_US);
        patience(p99, now)
    }

    /// A read begins.
    pub(super) fn earn_hedge(&mut self) {
        self.credit = (self.credit + 1).min(READS_PER_HEDGE * HEDGES_SAVED_MAX);
    }

    /// Whether a hedge may be sent now; it is paid for.
    pub(super) fn spend_hedge(&mut self) -> bool {
        let rest = self.credit.checked_sub(READS_PER_HEDGE);
        self.credit = rest.unwrap_or(self.credit);
        rest.is_some()
    }
}

/// max(2 x p99, 20 ms), at most 200 ms.
fn patience(p99: u64, now: Mono) -> Mono {
    Mono(now.0 + (p99 * 2).clamp(PATIENCE_MS_MIN * 1_000, MEMBER_PATIENCE_MS * 1_000))
}

fn note(estimate: &mut u64, sample: u64) {
    let step = (*estimate / 512).max(1);
    if sample > *estimate {
        *estimate = estimate.saturating_add(step * 99).min(sample);
    } else {
        *estimate = estimate.saturating_sub(step).max(FLOOR_US.min(sample));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_one_answer_in_a_hundred_is_slower_than_the_estimate() {
        let mut estimate = READ_START_US;
        let mut slower = 0;
        for round in 0_u64..200_000 {
            // 1,000 us mostly, spread evenly, with a tail of 3 %.
            let draw = round.wrapping_mul(2_654_435_761) % 10_000;
            let sample = if draw < 300 { 4_000 + draw * 10 } else { 500 + draw / 10 };
            slower += u64::from(sample > estimate);
            note(&mut estimate, sample);
        }
        assert!((1_000..=4_000).contains(&slower), "{slower} of 200,000 were slower");
    }

    #[test]
    fn patience_and_hedges_stay_within_their_bounds() {
        let (node, start) = (NodeId([1; 16]), Mono(5));
        let mut latency = Latency::default();
        for _ in 0..10_000 {
            latency.note_read(node, start, Mono(6));
        }
        assert_eq!(latency.read_patience(node, start), start.plus_ms(PATIENCE_MS_MIN));
        for _ in 0..10_000 {
            latency.note_read(node, start, start.plus_ms(5_000));
        }
        assert_eq!(latency.read_patience(node, start), start.plus_ms(MEMBER_PATIENCE_MS));
        assert_eq!(latency.hedge_at(node, start), start.plus_ms(HEDGE_MS_MAX));
    }

    #[test]
    fn hedges_are_at_most_one_read_in_twenty() {
        let mut latency = Latency::default();
        let mut hedges = 0;
        for _ in 0..1_000 {
            latency.earn_hedge();
            hedges += u32::from(latency.spend_hedge());
        }
        assert_eq!(hedges, 1_000 / READS_PER_HEDGE);
    }
}
