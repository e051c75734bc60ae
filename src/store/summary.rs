//! What the records of one segment say, in short: enough for a start that does not read them.
//!
//! A full segment gets a *sidecar*, a file with its summary. It is derived data: whoever reads the
//! segment gets the same summary, so a sidecar may be missing at any time. It is believed only if
//! its checksum holds and it names exactly the segment that MANIFEST lists as full: node, number,
//! salt, length, first and last record. Its segment was full and on stable storage before it was
//! begun, so it never says more than its log. Byte table: docs/file-format.md. Source: ours, in
//! the manner of the hint files of Bitcask (Sheehy and Smith, 2010).

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::codec::{array_at, to_u64};
use super::harvest::Control;
use super::index::mark_of;
use super::place::{Place, SEGMENT_BYTES_MAX};
use super::record::{
    Clocks, HEADER_BYTES, Header, Kind, decode_clock, decode_control, decode_write, fold,
};
use super::segment::{FORMAT, SEGMENT_HEADER_BYTES, Segment};
use super::stamps::decode_stamp;
use crate::causality::{NodeId, PartitionClock};
use crate::hash::{BucketId, Key, PartitionId, Token};
use crate::planted::{Bug, planted};
use crate::shard::{REFUSED_BUCKET, Stamp};
use crate::time::Hlc;

const MAGIC: [u8; 8] = *b"PEERIDX1";
/// Bytes in front of the first entry.
const HEAD_BYTES: usize = 80;
/// Bytes of an entry.
const ENTRY_BYTES: usize = 40;
/// Bytes behind the rest: its length, and the checksum.
const TAIL_BYTES: usize = 8;

/// A record of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    /// Token of the key.
    pub(super) token: Token,
    /// Its number in the log.
    pub(super) lsn: u64,
    /// The mark of the key.
    pub(super) mark: u64,
    /// Where it lies.
    pub(super) place: Place,
    /// Its partition.
    pub(super) partition: PartitionId,
    /// Bucket of the key.
    pub(super) bucket: BucketId,
    /// What it says of its key.
    pub(super) state: State,
}

/// What a record says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has siblings.
    Live,
    /// It has none, and must be kept.
    Bare,
    /// It need not be kept.
    Forgotten,
    /// The record is lost.
    Lost,
}

/// What the records of a segment say.
#[derive(Debug, Default)]
pub(super) struct Summary {
    /// Records of keys, in the order of the file.
    pub(super) drafts: Vec<Draft>,
    /// What they say of clocks.
    pub(super) clocks: Clocks,
    /// The newest control record of each slot.
    pub(super) control: BTreeMap<u8, Control>,
    /// The newest clock record of each partition: when, and where.
    pub(super) clock_records: BTreeMap<PartitionId, (u64, Place)>,
    /// Keys with a value that ends, and when the first does.
    pub(super) expiring: Vec<(PartitionId, Token, u64)>,
    /// Requests that records carry out, with number and token of the record.
    pub(super) stamps: Vec<(PartitionId, u64, Token, Stamp)>,
    /// Notes of requests that are not led here any more, with the number of the record, and whether
    /// they stand or have ended.
    pub(super) refused: Vec<(PartitionId, Key, u64, bool)>,
    /// The lowest number of a record.
    pub(super) first_lsn: Option<u64>,
    /// Bytes of Commits and Forgets of a cold segment: another compaction would write them again.
    pub(super) overhead: u64,
    /// The highest timestamp of any value.
    pub(super) hlc: Hlc,
    /// Number of records, Commits and Noops not counted.
    pub(super) records: u64,
}

/// A sidecar being made: entries are encoded as they come, so that nothing takes long at once.
#[derive(Debug)]
pub(super) struct SidecarBuilder {
    segment: Segment,
    bytes: BytesMut,
    crc: u32,
    /// Bytes that are in the checksum.
    summed: usize,
    summary: Summary,
}

/// What stands behind the entries.
#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    end: u64,
    entries: u64,
    overhead: u64,
    hlc: u64,
    records: u64,
    clocks: Vec<(u16, PartitionClock)>,
    clock_records: Vec<(u16, u64, u64)>,
    control: Vec<(u8, u64, u64, Vec<u8>)>,
    expiring: Vec<(u16, u64, u64)>,
    stamps: Vec<(u16, u64, u64, Stamp)>,
    refused: Vec<(u16, u64, Vec<u8>, u64, bool)>,
    first_lsn: Option<u64>,
}

impl Summary {
    /// Takes in a record that verifies; `None` = it says nothing that makes sense.
    pub(super) fn add(
        &mut self,
        segment: &Segment,
        header: &Header,
        bytes: &Bytes,
        offset: u64,
    ) -> Option<()> {
        let place = Place::new(segment.number, offset, u64::from(header.length));
        match header.kind {
            Kind::Write | Kind::Forget => self.add_key(segment, header, bytes, place)?,
            Kind::ClockAdopt => {
                let clock = decode_clock(header, bytes)?;
                self.clocks.entry(header.partition).or_default().join(&clock);
                let newest = self.clock_records.entry(header.partition).or_insert((0, place));
                *newest = (*newest).max((header.lsn, place));
            }
            Kind::Control => {
                let body = Bytes::copy_from_slice(&decode_control(header, bytes)?);
                let newer = self.control.get(&header.slot).is_none_or(|old| old.lsn <= header.lsn);
                if newer {
                    self.control.insert(header.slot, Control { lsn: header.lsn, place, body });
                }
            }
            Kind::Stamp => {
                let stamp = decode_stamp(header, bytes)?;
                self.stamps.push((header.partition, header.lsn, header.token, stamp));
            }
            Kind::Commit | Kind::Noop => {
                if segment.cold {
                    self.overhead += u64::from(header.length);
                }
                return Some(());
            }
        }
        self.records += 1;
        self.first_lsn = self.first_lsn.into_iter().chain([header.lsn]).min();
        Some(())
    }

    fn add_key(
        &mut self,
        segment: &Segment,
        header: &Header,
        bytes: &Bytes,
        place: Place,
    ) -> Option<()> {
        let record = decode_write(header, bytes)?;
        let entries = &record.object.entries;
        self.hlc = entries.iter().map(|entry| entry.hlc).fold(self.hlc, Hlc::max);
        let state = match (header.kind == Kind::Forget, entries.is_empty()) {
            (true, _) => State::Forgotten,
            (false, true) => State::Bare,
            (false, false) => State::Live,
        };
        if segment.cold && state == State::Forgotten {
            self.overhead += place.read_bytes();
        }
        let ends = entries.iter().map(|entry| entry.expiry_ms).filter(|&ms| ms != 0);
        if let Some(expiry_ms) = ends.min() {
            self.expiring.push((record.partition, header.token, expiry_ms));
        }
        if let Some(stamp) = record.stamp {
            self.stamps.push((record.partition, header.lsn, header.token, stamp));
        }
        if header.bucket == REFUSED_BUCKET {
            let holds = state == State::Bare;
            self.refused.push((record.partition, record.key.clone(), header.lsn, holds));
        }
        fold(&mut self.clocks, record.partition, &record.dots);
        // What it took away had been here. Where the record of that is damaged, nothing else says
        // so, and what a delete took away would be news from others.
        fold(&mut self.clocks, record.partition, &record.removed);
        self.drafts.push(Draft {
            token: header.token,
            lsn: header.lsn,
            mark: mark_of(&record.key),
            place,
            partition: header.partition,
            bucket: header.bucket,
            state,
        });
        Some(())
    }

    /// The summary in a sidecar, and where the records of its segment end; `None` if it is
    /// damaged, or not the sidecar of this very segment.
    pub(super) fn decode(bytes: &Bytes, node: NodeId, segment: &Segment) -> Option<(Self, u64)> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let head = body.get(..HEAD_BYTES)?;
        let newer = planted(Bug::CheckpointNewerThanLog) && segment.next == 0;
        if head != encode_head(node, segment).as_slice() && !newer {
            return None;
        }
        let (body, length) = body.split_last_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (entries, rest) = body
            .get(HEAD_BYTES..)?
            .split_at_checked(body.len().checked_sub(HEAD_BYTES + length)?)?;
        let rest: Rest = postcard::from_bytes(rest).ok()?;
        let (entries, []) = entries.as_chunks::<ENTRY_BYTES>() else { return None };
        if to_u64(entries.len()) != rest.entries {
            return None;
        }
        let drafts = entries.iter().map(|entry| decode_entry(entry, segment));
        let mut summary = Self { drafts: drafts.collect::<Option<_>>()?, ..Self::default() };
        summary.overhead = rest.overhead;
        summary.hlc = Hlc(rest.hlc);
        summary.records = rest.records;
        summary.clocks =
            rest.clocks.into_iter().map(|(p, clock)| (PartitionId(p), clock)).collect();
        let clock_records = rest.clock_records.into_iter();
        summary.clock_records =
            clock_records.map(|(p, lsn, place)| (PartitionId(p), (lsn, Place(place)))).collect();
        let control = rest.control.into_iter().map(|(slot, lsn, place, body)| {
            (slot, Control { lsn, place: Place(place), body: body.into() })
        });
        summary.control = control.collect();
        let expiring = rest.expiring.into_iter();
        summary.expiring =
            expiring.map(|(p, token, ms)| (PartitionId(p), Token(token), ms)).collect();
        let stamps = rest.stamps.into_iter();
        summary.stamps = stamps
            .map(|(p, lsn, token, stamp)| (PartitionId(p), lsn, Token(token), stamp))
            .collect();
        let refused = rest.refused.into_iter().map(|(p, token, bytes, lsn, holds)| {
            let key = Key { token: Token(token), bucket: REFUSED_BUCKET, bytes: bytes.into() };
            (PartitionId(p), key, lsn, holds)
        });
        summary.refused = refused.collect();
        summary.first_lsn = rest.first_lsn;
        Some((summary, rest.end))
    }
}

impl SidecarBuilder {
    /// The sidecar of a full segment.
    pub(super) fn new(node: NodeId, segment: Segment) -> Self {
        let bytes = BytesMut::from(encode_head(node, &segment).as_slice());
        Self { segment, bytes, crc: 0, summed: 0, summary: Summary::default() }
    }

    /// Takes in the next record; `None` = it says nothing that makes sense.
    pub(super) fn add(&mut self, header: &Header, bytes: &Bytes, offset: u64) -> Option<()> {
        self.summary.add(&self.segment, header, bytes, offset)?;
        for draft in self.summary.drafts.drain(..) {
            encode_entry(&mut self.bytes, &draft);
        }
        Some(())
    }

    /// Brings the checksum up to date; called now and then, so that the end does not take long.
    pub(super) fn sum(&mut self) {
        self.crc = crc32c::crc32c_append(self.crc, &self.bytes[self.summed..]);
        self.summed = self.bytes.len();
    }

    /// The file, when the records end at `end`.
    pub(super) fn finish(mut self, end: u64) -> Bytes {
        let entries = (self.bytes.len() - HEAD_BYTES) / ENTRY_BYTES;
        let summary = self.summary;
        let rest = Rest {
            end,
            entries: to_u64(entries),
            overhead: summary.overhead,
            hlc: summary.hlc.0,
            records: summary.records,
            clocks: summary.clocks.into_iter().map(|(p, clock)| (p.0, clock)).collect(),
            clock_records: summary
                .clock_records
                .into_iter()
                .map(|(p, (lsn, place))| (p.0, lsn, place.0))
                .collect(),
            control: summary
                .control
                .into_iter()
                .map(|(slot, found)| (slot, found.lsn, found.place.0, found.body.to_vec()))
                .collect(),
            expiring: summary
                .expiring
                .into_iter()
                .map(|(p, token, ms)| (p.0, token.0, ms))
                .collect(),
            stamps: summary
                .stamps
                .into_iter()
                .map(|(p, lsn, token, stamp)| (p.0, lsn, token.0, stamp))
                .collect(),
            refused: summary
                .refused
                .into_iter()
                .map(|(p, key, lsn, holds)| (p.0, key.token.0, key.bytes.to_vec(), lsn, holds))
                .collect(),
            first_lsn: summary.first_lsn,
        };
        let rest = postcard::to_stdvec(&rest).expect("a summary in memory can be encoded");
        self.bytes.reserve(rest.len() + TAIL_BYTES);
        self.bytes.put_slice(&rest);
        let length = u32::try_from(rest.len()).expect("a summary is shorter than its segment");
        self.bytes.put_u32_le(length);
        let crc = crc32c::crc32c_append(self.crc, &self.bytes[self.summed..]);
        self.bytes.put_u32_le(crc);
        self.bytes.freeze()
    }
}

/// Which segment it is of.
fn encode_head(node: NodeId, segment: &Segment) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    bytes.put_slice(&MAGIC);
    bytes.put_u16_le(FORMAT);
    bytes.put_u16_le(u16::from(segment.cold));
    bytes.put_u32_le(segment.number);
    bytes.put_slice(&node.0);
    bytes.put_u32_le(segment.salt);
    bytes.put_u32_le(0);
    bytes.put_u64_le(segment.bytes);
    bytes.put_u64_le(segment.first);
    bytes.put_u64_le(segment.next);
    bytes.put_u64_le(segment.least_lsn);
    bytes.put_u64_le(0);
    bytes
}

fn encode_entry(bytes: &mut BytesMut, draft: &Draft) {
    bytes.put_u64_le(draft.token.0);
    bytes.put_u64_le(draft.lsn);
    bytes.put_u64_le(draft.mark);
    bytes.put_u64_le(draft.place.0);
    bytes.put_u32_le(draft.bucket.0);
    bytes.put_u16_le(draft.partition.0);
    bytes.put_u16_le(match draft.state {
        State::Live => 1,
        State::Bare => 2,
        State::Forgotten => 3,
        State::Lost => unreachable!("a record that was read is not lost"),
    });
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES], segment: &Segment) -> Option<Draft> {
    let u64_at = |at| array_at(bytes, at).map(u64::from_le_bytes);
    let u16_at = |at| array_at(bytes, at).map(u16::from_le_bytes);
    let place = Place(u64_at(24)?);
    let lies_inside = place.segment() == Some(segment.number)
        && place.offset() >= to_u64(SEGMENT_HEADER_BYTES)
        && place.read_bytes() >= to_u64(HEADER_BYTES)
        && place.offset() < segment.bytes.min(SEGMENT_BYTES_MAX);
    Some(Draft {
        token: Token(u64_at(0)?),
        lsn: u64_at(8)?,
        mark: u64_at(16)?,
        place: lies_inside.then_some(place)?,
        bucket: BucketId(u32::from_le_bytes(array_at(bytes, 32)?)),
        partition: PartitionId(u16_at(36)?),
        state: match u16_at(38)? {
            1 => State::Live,
            2 => State::Bare,
            3 => State::Forgotten,
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::{Actor, Dot, Entry, Object};
    use crate::shard::Record;
    use crate::store::record::{Placing, encode_write, seal, verify};

    const NODE: NodeId = NodeId([7; 16]);

    fn segment() -> Segment {
        let (number, salt, bytes) = (0x0101, 0x2222_2222, 4096);
        Segment { number, salt, cold: false, bytes, first: 5, next: 6, least_lsn: 5 }
    }

    /// One Write as it lies at the beginning of the segment.
    fn written() -> (Header, Bytes) {
        let dot = Dot { actor: Actor(9), seq: 3 };
        let entries = vec![Entry::register(dot, Hlc(77), Bytes::from_static(b"value"))];
        let object = Object { entries, ..Object::default() };
        let (key, partition) = (Key::plain("key"), PartitionId(2));
        let (dots, removed) = (vec![dot], Vec::new());
        let record = Record { key, partition, object, dots, removed, stamp: None };
        let mut bytes = BytesMut::new();
        encode_write(&mut bytes, &record);
        let placing = Placing { lsn: 5, index: 0, after_sync: true, starts_group: true };
        seal(&mut bytes, placing, segment().seed(), 64);
        let bytes = bytes.freeze();
        (verify(&bytes, segment().seed(), 64).unwrap(), bytes)
    }

    fn sidecar() -> Bytes {
        let (header, bytes) = written();
        let mut builder = SidecarBuilder::new(NODE, segment());
        builder.add(&header, &bytes, 64).unwrap();
        builder.sum();
        builder.finish(64 + u64::from(header.length))
    }

    #[test]
    fn the_bytes_of_a_sidecar_are_those_of_the_document() {
        let (header, _) = written();
        let bytes = sidecar();
        let u64_at = |at| u64::from_le_bytes(array_at(&bytes, at).unwrap());
        assert_eq!(&bytes[..16], b"PEERIDX1\x01\0\0\0\x01\x01\0\0");
        assert_eq!(bytes[16..32], NODE.0);
        assert_eq!(bytes[32..40], [0x22, 0x22, 0x22, 0x22, 0, 0, 0, 0]);
        assert_eq!([40, 48, 56, 64, 72].map(u64_at), [4096, 5, 6, 5, 0]);
        let place = Place::new(0x0101, 64, u64::from(header.length));
        assert_eq!([80, 88, 104].map(u64_at), [header.token.0, 5, place.0]);
        assert_eq!(u64_at(96), mark_of(&Key::plain("key")));
        assert_eq!(bytes[112..120], [0, 0, 0, 0, 2, 0, 1, 0]);
        let end = bytes.len();
        let rest = usize::try_from(u32::from_le_bytes(array_at(&bytes, end - 8).unwrap())).unwrap();
        assert_eq!(120 + rest + 8, end);
        let crc = crc32c::crc32c(&bytes[..end - 4]);
        assert_eq!(array_at(&bytes, end - 4), Some(crc.to_le_bytes()));
    }

    #[test]
    fn a_sidecar_comes_back_for_its_own_segment_only() {
        let bytes = sidecar();
        let (header, _) = written();
        let (summary, end) = Summary::decode(&bytes, NODE, &segment()).unwrap();
        assert_eq!(end, 64 + u64::from(header.length));
        assert_eq!((summary.records, summary.hlc, summary.overhead), (1, Hlc(77), 0));
        assert_eq!(summary.drafts[0].state, State::Live);
        assert!(summary.clocks[&PartitionId(2)].contains(Dot { actor: Actor(9), seq: 3 }));
        let changes: [fn(&mut Segment); 6] = [
            |segment| segment.number += 1,
            |segment| segment.salt += 1,
            |segment| segment.cold = true,
            |segment| segment.bytes += 4096,
            |segment| segment.next += 1,
            |segment| segment.first += 1,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut other = segment();
            change(&mut other);
            assert!(Summary::decode(&bytes, NODE, &other).is_none(), "change {index}");
        }
        assert!(Summary::decode(&bytes, NodeId([8; 16]), &segment()).is_none());
        for length in 0..bytes.len() {
            assert!(Summary::decode(&bytes.slice(..length), NODE, &segment()).is_none());
        }
    }
}
