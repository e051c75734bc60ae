//! The ids of requests outlive the records that carried them out.
//!
//! A record whose key was written again is dead, and a compaction drops it; but a retry of its
//! request may still come, also after a restart, and must find what the first try became. So a
//! compaction keeps the stamps of dead records in records of their own, as long as shards remember
//! ids: counted from when this log took the record in, or found it at its start, by no clock but
//! the monotonic one.

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::codec::{Reader, put_dot, to_u64};
use super::cold::Kept;
use super::log::Log;
use super::record::{HEADER_BYTES, Header, Kind, body_end, encode};
use crate::api::RequestId;
use crate::hash::{PartitionId, Token};
use crate::limits::{REQUEST_MEMORY_MS, REQUESTS_REMEMBERED};
use crate::marks::sometimes;
use crate::shard::Stamp;
use crate::time::{Mono, Now};

/// How often the log notes how far it has come, in milliseconds.
const NOTED_MS: u64 = 10_000;

/// Which records are so old that nobody remembers their requests.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// How far the log had come at some times, the oldest first.
    noted: VecDeque<(Mono, u64)>,
    /// The requests of the records below this are forgotten.
    forgotten_lsn: u64,
    /// Of each cold segment the bytes of its stamps, and the highest number among them.
    stamps: BTreeMap<u32, (u64, u64)>,
}

/// The stamp of a record that is dropped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamped {
    /// The number of the record.
    pub(super) lsn: u64,
    /// The partition of its key.
    pub(super) partition: PartitionId,
    /// The token of its key.
    pub(super) token: Token,
    /// What became of its request.
    pub(super) stamp: Stamp,
}

impl Ages {
    /// Whether the requests of a record with this number are still remembered.
    pub(super) fn remember(&self, lsn: u64) -> bool {
        lsn >= self.forgotten_lsn
    }

    /// The log has come so far at this time. Returns the segments whose stamps need not be kept any
    /// more, with the bytes of those.
    fn note(&mut self, now: Mono, next_lsn: u64) -> Vec<(u32, u64)> {
        let is_due = self.noted.back().is_none_or(|(noted, _)| noted.plus_ms(NOTED_MS) <= now);
        if !is_due {
            return Vec::new();
        }
        self.noted.push_back((now, next_lsn));
        let is_over = |noted: Mono| noted.plus_ms(REQUEST_MEMORY_MS) <= now;
        while let Some((_, lsn)) = self.noted.pop_front_if(|(noted, _)| is_over(*noted)) {
            self.forgotten_lsn = lsn;
        }
        let forgotten = self.forgotten_lsn;
        let over = self.stamps.extract_if(.., |_, (_, highest)| *highest < forgotten);
        over.map(|(segment, (bytes, _))| (segment, bytes)).collect()
    }
}

impl Log {
    /// Notes how far the log has come; stamps that need not be kept any more are dead from then on.
    pub(super) fn note_age(&mut self, now: Now) {
        for (segment, bytes) in self.ages.note(now.mono, self.next_lsn) {
            if let Some(held) = self.segments.get_mut(&segment) {
                held.live = held.live.saturating_sub(bytes);
            }
        }
    }

    /// The stamp of a record with its place in the log, unless its request is forgotten.
    pub(super) fn stamped(&self, header: &Header, stamp: Stamp) -> Option<Stamped> {
        let Header { lsn, partition, token, .. } = *header;
        self.ages.remember(lsn).then_some(Stamped { lsn, partition, token, stamp })
    }

    /// A new cold segment holds these records.
    pub(super) fn note_stamps(&mut self, segment: u32, kept: &[Kept]) {
        let stamps = kept.iter().filter(|kept| kept.kind == Kind::Stamp);
        for kept in stamps {
            let (bytes, highest) = self.ages.stamps.entry(segment).or_default();
            *bytes += to_u64(kept.bytes.len());
            *highest = (*highest).max(kept.lsn);
        }
    }
}

/// Keeps a stamp for the new segment, and the newest ones where they are more than all shards
/// remember.
pub(super) fn keep(stamps: &mut Vec<Stamped>, stamped: Stamped) {
    sometimes!("a compaction kept the id of a request");
    stamps.push(stamped);
    if stamps.len() >= 2 * REQUESTS_REMEMBERED {
        stamps.sort_unstable_by_key(|stamped| (stamped.lsn, stamped.token));
        stamps.drain(..stamps.len() - REQUESTS_REMEMBERED);
    }
}

impl From<Stamped> for Kept {
    fn from(stamped: Stamped) -> Self {
        let Stamped { lsn, partition, token, stamp } = stamped;
        let mut bytes = BytesMut::new();
        let mut header = Header::new(Kind::Stamp, partition);
        header.token = token;
        encode(&mut bytes, header, |out| put_stamp(out, &stamp));
        let bytes = bytes.freeze();
        Self { partition, token, lsn, kind: Kind::Stamp, from: None, bytes }
    }
}

/// What a verified record of this kind says.
pub(super) fn decode_stamp(header: &Header, bytes: &Bytes) -> Option<Stamp> {
    let mut reader = Reader::new(bytes, HEADER_BYTES);
    let stamp = read_stamp(&mut reader)?;
    reader.ends_at(body_end(header)).then_some(stamp)
}

/// Appends a stamp, as it stands in a record.
pub(super) fn put_stamp(out: &mut BytesMut, stamp: &Stamp) {
    out.put_u128_le(stamp.id.0);
    out.put_u64_le(stamp.at_ms);
    put_dot(out, stamp.dot);
    out.put_u64_le(stamp.print);
    out.put_u8(u8::from(stamp.existed));
}

/// Reads a stamp.
pub(super) fn read_stamp(reader: &mut Reader<'_>) -> Option<Stamp> {
    let id = RequestId(reader.u128()?);
    let (at_ms, dot, print) = (reader.u64()?, reader.dot()?, reader.u64()?);
    let existed = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(Stamp { id, at_ms, dot, print, existed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_old_when_all_of_it_is_older_than_the_memory_of_requests() {
        let mut ages = Ages::default();
        let at = |ms: u64| Mono(0).plus_ms(ms);
        ages.note(at(0), 100);
        ages.note(at(NOTED_MS), 200);
        ages.stamps.insert(7, (64, 150));
        assert!(ages.note(at(REQUEST_MEMORY_MS - 1), 300).is_empty());
        assert!(ages.remember(0), "a start takes everything for new");
        assert!(ages.note(at(REQUEST_MEMORY_MS + NOTED_MS - 1), 400).is_empty());
        assert_eq!([99, 100].map(|lsn| ages.remember(lsn)), [false, true]);
        assert_eq!(ages.note(at(REQUEST_MEMORY_MS + 2 * NOTED_MS), 500), [(7, 64)]);
        assert_eq!([199, 200].map(|lsn| ages.remember(lsn)), [false, true]);
    }
}
