//! The new segment of a compaction: groups of records that were copied, and clocks.
//!
//! It is written in slices and synced in between, so that no sync of the log waits for a whole
//! segment. Nothing points into it before it is whole, synced and named.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::border::Move;
use super::codec::to_u64;
use super::filter::Filter;
use super::place::Place;
use super::record::{Header, Kind, Placing, commit_bytes, encode_commit, seal};
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::upkeep::SLICE_BYTES;
use crate::hash::{PartitionId, Token};

/// Records of one group of a cold segment, and of what a shard is told at once.
pub(super) const GROUP_RECORDS: usize = 1_024;
/// Bytes of a cold segment that are written between two syncs of it, ...
const UNSYNCED_BYTES_MAX: u64 = 1024 * 1024;
/// ... but not more than one part in this many of a full one.
const UNSYNCED_SHARE: u64 = 16;

/// A record to be copied.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) partition: PartitionId,
    pub(super) token: Token,
    pub(super) lsn: u64,
    pub(super) kind: Kind,
    /// `None` = it is new.
    pub(super) from: Option<Place>,
    pub(super) bytes: Bytes,
}

/// The new segment.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) segment: Segment,
    pub(super) groups: Vec<Range<usize>>,
    /// Tokens of the keys.
    pub(super) filter: Filter,
    /// Groups written.
    pub(super) written: usize,
    /// Records written, Commits included.
    pub(super) count: u32,
    pub(super) at: u64,
    /// The end of what was synced last.
    pub(super) synced: u64,
    /// What was copied, by shard.
    pub(super) moves: BTreeMap<u16, Vec<Move>>,
    /// Control records that were copied.
    pub(super) control_moves: Vec<Move>,
    /// Clock records: partition, what they hold, and where they are.
    pub(super) clocks: Vec<(PartitionId, u64, Place)>,
}

impl Kept {
    /// The same with bytes of its own: a few live records must not hold all that was read of a
    /// dead segment.
    pub(super) fn detached(self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self }
    }
}

impl Output {
    /// A new segment for these records, in groups.
    pub(super) fn new(number: u32, salt: u32, kept: &[Kept], next_lsn: u64) -> Self {
        let mut groups = Vec::new();
        let mut total = SEGMENT_HEADER_BYTES;
        let mut start = 0;
        let mut bytes = 0;
        for (index, record) in kept.iter().enumerate() {
            bytes += record.bytes.len();
            let full = bytes >= SLICE_BYTES || index + 1 - start >= GROUP_RECORDS;
            if full || index + 1 == kept.len() {
                groups.push(start..index + 1);
                total += bytes + commit_bytes(index + 1 - start);
                (start, bytes) = (index + 1, 0);
            }
        }
        let keys = kept.iter().filter(|kept| kept.kind.is_of_key());
        let tokens: Vec<Token> = keys.clone().map(|kept| kept.token).collect();
        let filter = Filter::of(&tokens);
        let segment = Segment {
            number,
            salt,
            cold: true,
            bytes: to_u64(total),
            first: 0,
            next: to_u64(kept.len() + groups.len()),
            least_lsn: keys.map(|kept| kept.lsn).min().unwrap_or(next_lsn),
        };
        let at = to_u64(SEGMENT_HEADER_BYTES);
        let (moves, control_moves, clocks) = (BTreeMap::new(), Vec::new(), Vec::new());
        let (written, count, synced) = (0, 0, at);
        Self { segment, groups, filter, written, count, at, synced, moves, control_moves, clocks }
    }

    /// Whether every group was handed to the disk.
    pub(super) fn is_written(&self) -> bool {
        self.written == self.groups.len()
    }

    /// Whether what was written is to be synced before more is: a sync of the log waits for what
    /// lies before it in the device.
    pub(super) fn is_sync_due(&mut self, segment_bytes: u64) -> bool {
        let unsynced_max = UNSYNCED_BYTES_MAX.min(segment_bytes / UNSYNCED_SHARE);
        let due = self.is_written() || self.at - self.synced >= unsynced_max;
        if due {
            self.synced = self.at;
        }
        due
    }

    /// The bytes of the next group.
    pub(super) fn write_group(&mut self, kept: &[Kept], shards: u16) -> Bytes {
        let group = self.groups[self.written].clone();
        let mut out = BytesMut::new();
        let mut headers = Vec::new();
        for kept in &kept[group] {
            let to = Place::new(self.segment.number, self.at, to_u64(kept.bytes.len()));
            match (kept.kind, kept.from) {
                (Kind::ClockAdopt, _) => self.clocks.push((kept.partition, kept.lsn, to)),
                (Kind::Control, Some(from)) => {
                    self.control_moves.push(Move { token: kept.token, from, to });
                }
                (Kind::Write, Some(from)) => {
                    let moved = Move { token: kept.token, from, to };
                    self.moves.entry(kept.partition.0 % shards).or_default().push(moved);
                }
                // No index points to a Forget: a shard would call its copy dead.
                (Kind::Write | Kind::Control, None)
                | (Kind::Forget | Kind::Stamp | Kind::Commit | Kind::Noop, _) => {}
            }
            let start = out.len();
            out.extend_from_slice(&kept.bytes);
            headers.push(self.seal(&mut out[start..], kept.lsn, headers.is_empty()));
        }
        let start = out.len();
        encode_commit(&mut out, &headers);
        self.seal(&mut out[start..], 0, false);
        self.written += 1;
        out.freeze()
    }

    fn seal(&mut self, record: &mut [u8], lsn: u64, starts_group: bool) -> Header {
        let placing = Placing { lsn, index: self.count, after_sync: false, starts_group };
        let header = seal(record, placing, self.segment.seed(), self.at);
        self.count += 1;
        self.at += u64::from(header.length);
        header
    }
}
