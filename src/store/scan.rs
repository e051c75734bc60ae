//! What a segment file still says: which records verify, which are missing, and whether what is
//! missing was ever acknowledged.
//!
//! Records are counted: in a segment that was appended to by their log sequence number, in a cold
//! one by their position. So a hole in the count is a lost record even where its bytes are zeros.
//! A hole is a *torn tail* if nothing proves that a sync came after its group: then the group, and
//! all that follows, was never acknowledged and goes. Else it is *damage*: it stays, is reported,
//! and every record that a Commit names is known by name. The Commit itself is the last of its
//! group, so a single hole in front of a group start has lost nothing but a Commit.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;

use super::codec::{to_u64, to_usize};
use super::record::{HEADER_BYTES, Header, Kind, Name, Seed, decode_commit, verify};
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::planted::{Bug, planted};

/// Most of the newest segment is zeros, and every start reads it: they are passed by the block.
const ZEROS: [u8; 4_096] = [0; 4_096];

/// A record that verifies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Where it begins.
    pub(super) offset: u64,
    /// What it is.
    pub(super) header: Header,
}

/// What is known from elsewhere of the records that a segment must hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// The count of the first one; `None` = whatever comes first.
    pub(super) first: Option<u64>,
    /// The count after the last one; `None` = whatever comes last.
    pub(super) next: Option<u64>,
    /// Whether it may end in an unfinished group: the newest segment that was appended to.
    pub(super) newest: bool,
}

/// What a segment holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Its records, in order, Commits and Noops included.
    pub(super) records: Vec<Found>,
    /// Records that it lost, by name.
    pub(super) lost: Vec<Name>,
    /// Whether it lost records that nothing names.
    pub(super) unnamed: bool,
    /// Damaged bytes.
    pub(super) regions: Vec<Range<u64>>,
    /// Where its records end.
    pub(super) end: u64,
    /// The count after its last record.
    pub(super) next: Option<u64>,
    /// Bytes behind its end that say nothing: an unfinished group, or a part of one.
    pub(super) torn: Option<Range<u64>>,
    /// Whether records can be appended at its end.
    pub(super) appendable: bool,
}

impl Contents {
    /// Where the last group begins: one sync is under way at a time, so everything before it is on
    /// stable storage.
    pub(super) fn last_group(&self) -> u64 {
        let mut commits =
            self.records.iter().rev().filter(|found| found.header.kind == Kind::Commit);
        let before = commits.nth(1).map(Found::end);
        before.unwrap_or_else(|| to_u64(SEGMENT_HEADER_BYTES))
    }
}

/// Every record of a segment file that verifies at its place, in order.
pub(super) fn find(bytes: &[u8], seed: Seed) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = SEGMENT_HEADER_BYTES;
    while at + HEADER_BYTES <= bytes.len() {
        let offset = to_u64(at);
        if let Some(header) = verify(&bytes[at..], seed, offset) {
            at += header.bytes();
            found.push(Found { offset, header });
        } else if bytes[at..].starts_with(&ZEROS) {
            // No record begins with eight zeros: its length stands there.
            at += ZEROS.len();
        } else {
            at += 8;
        }
    }
    found
}

/// Whether a second look at the file may find more: there is a hole, or a tail that says nothing.
pub(super) fn is_suspicious(bytes: &[u8], found: &[Found]) -> bool {
    let mut end = to_u64(SEGMENT_HEADER_BYTES);
    for record in found {
        if record.offset != end {
            return true;
        }
        end = record.end();
    }
    tail(bytes, end).is_some()
}

impl Found {
    /// Where the next record begins.
    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.header.length)
    }

    /// By what the records of its segment are counted.
    fn count(&self, cold: bool) -> u64 {
        if cold { u64::from(self.header.index) } else { self.header.lsn }
    }
}

/// Tells what a segment holds and what it lost.
pub(super) fn resolve(
    segment: &Segment,
    bytes: &Bytes,
    found: Vec<Found>,
    expected: Expected,
) -> Contents {
    let cold = segment.cold;
    let mut records = in_order(found, cold);
    let first = expected.first.or_else(|| records.first().map(|record| record.count(cold)));
    let cut = if expected.newest { torn_from(&records, first) } else { expected.next };
    if let Some(cut) = cut {
        records.retain(|record| record.count(cold) < cut);
    }
    let last = records.last().map(|record| record.count(cold) + 1);
    let next = cut.or(last).or(first);
    let mut contents = Contents { next, ..Contents::default() };
    if let (Some(first), Some(next)) = (first, next) {
        let missing = missing(&records, cold, first..next);
        name_missing(&mut contents, &records, cold, bytes, &missing, next);
    }
    contents.end = records.last().map_or(to_u64(SEGMENT_HEADER_BYTES), Found::end);
    contents.regions = holes(&records);
    // What is missing at the end lies somewhere behind the last record.
    let lost_end = last.or(first) < next;
    if lost_end {
        contents.regions.push(contents.end..to_u64(bytes.len()));
    }
    contents.appendable = expected.newest && !lost_end;
    // An unfinished group right behind damage is the proof that the damage is none of its kind: it
    // stays, and nothing is appended here.
    contents.torn = if contents.appendable { tail(bytes, contents.end) } else { None };
    contents.records = records;
    contents
}

/// Without records whose count does not grow: they cannot be where they are.
fn in_order(mut found: Vec<Found>, cold: bool) -> Vec<Found> {
    let mut last = None;
    found.retain(|record| {
        let count = record.count(cold);
        let grows = last.is_none_or(|last| count > last);
        if grows {
            last = Some(count);
        }
        grows
    });
    found
}

/// The count of the first record of the unfinished group at the end, if there is one.
fn torn_from(records: &[Found], first: Option<u64>) -> Option<u64> {
    let synced_before = records
        .iter()
        .filter(|record| record.header.after_sync)
        .map(|record| record.header.group())
        .max()
        .unwrap_or(0);
    let mut expected = first?;
    let mut group = expected;
    for record in records {
        let lsn = record.header.lsn;
        if lsn != expected && (group >= synced_before || planted(Bug::DamageTakenForTornTail)) {
            return Some(group);
        }
        expected = lsn + 1;
        group = match record.header.kind {
            Kind::Commit => expected,
            Kind::Write
            | Kind::Forget
            | Kind::ClockAdopt
            | Kind::Control
            | Kind::Stamp
            | Kind::Noop => record.header.group(),
        };
    }
    (group != expected).then_some(group)
}

/// Counts that no record has, as runs.
fn missing(records: &[Found], cold: bool, all: Range<u64>) -> Vec<Range<u64>> {
    let mut missing = Vec::new();
    let mut expected = all.start;
    for count in records.iter().map(|record| record.count(cold)) {
        if count > expected {
            missing.push(expected..count);
        }
        expected = count + 1;
    }
    if expected < all.end {
        missing.push(expected..all.end);
    }
    missing
}

/// Names what is missing, as far as Commits do.
fn name_missing(
    contents: &mut Contents,
    records: &[Found],
    cold: bool,
    bytes: &Bytes,
    missing: &[Range<u64>],
    next: u64,
) {
    if missing.is_empty() {
        return;
    }
    let mut starts = BTreeSet::from([next]);
    let mut names = BTreeMap::new();
    for record in records {
        let count = record.count(cold);
        if record.header.starts_group {
            starts.insert(count);
        }
        if record.header.kind == Kind::Commit {
            let whole = bytes.slice(to_usize(record.offset)..to_usize(record.end()));
            let Some(commit) = decode_commit(&record.header, &whole) else { continue };
            let start = count.saturating_sub(to_u64(commit.names.len()));
            starts.insert(start);
            let touched = missing.iter().any(|run| run.start < count && start < run.end);
            if touched {
                names.extend((start..).zip(commit.names));
            }
        }
    }
    for run in missing {
        for count in run.clone() {
            if let Some(name) = names.get(&count) {
                contents.lost.push(*name);
            } else if !starts.contains(&(count + 1)) {
                contents.unnamed = true;
                // A run that no Commit names is not walked through: it may be long.
                if names.range(count..run.end).next().is_none() {
                    break;
                }
            }
        }
    }
}

/// Bytes between records.
fn holes(records: &[Found]) -> Vec<Range<u64>> {
    let mut end = to_u64(SEGMENT_HEADER_BYTES);
    let mut holes = Vec::new();
    for record in records {
        if record.offset > end {
            holes.push(end..record.offset);
        }
        end = record.end();
    }
    holes
}

/// Bytes from `end` to the last one that is not zero.
fn tail(bytes: &[u8], end: u64) -> Option<Range<u64>> {
    let rest = bytes.get(to_usize(end)..)?;
    let blank = |block: &&[u8]| ZEROS.starts_with(block);
    let zeros: usize = rest.rchunks(ZEROS.len()).take_while(blank).map(<[u8]>::len).sum();
    let last = rest[..rest.len() - zeros].iter().rposition(|&byte| byte != 0)?;
    Some(end..end + to_u64(last) + 1)
}
