//! Records: what they say, how they are laid out, and how they prove themselves.
//!
//! A record verifies only at the place that it was written to: its checksum is seeded with the
//! salt and number of its segment and with its offset, so neither stale bytes nor a write that
//! went astray can pass for it. Each also names its position in its *sync group*, the records
//! that one sync made durable together; the group ends with a Commit that names every record of
//! it. So recovery can tell an unfinished group from damage, and can name what is damaged.
//! Byte tables: docs/file-format.md. Source: ours; the torn-tail rule is that of Alagappan et al.,
//! "Protocol-Aware Recovery", FAST 2018.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{Reader, array_at, put_dot, put_varint, to_u64, to_usize};
use super::place::SEGMENT_BYTES_MAX;
use super::stamps::{put_stamp, read_stamp};
use crate::causality::{Dot, Entry, Object, PartitionClock, VersionVector};
use crate::hash::{BucketId, Key, PartitionId, Token};
use crate::planted::{Bug, planted};
use crate::shard::Record;
use crate::time::Hlc;

/// Bytes of a record header.
pub(super) const HEADER_BYTES: usize = 40;
/// Bytes of the checksum, which stands first.
const CRC_BYTES: usize = 4;
/// Flags of a record.
const AFTER_SYNC: u8 = 1;
const STARTS_GROUP: u8 = 2;
/// Bytes of one name in a Commit.
const NAME_BYTES: usize = 20;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A key and its whole object.
    Write,
    /// A key that need not be stored any more.
    Forget,
    /// Everything that the clock of a partition knew when it was written.
    ClockAdopt,
    /// A control record of one slot.
    Control,
    /// What became of a request, whose own record is gone.
    Stamp,
    /// The end of a sync group.
    Commit,
    /// Nothing; it keeps the last acknowledged group from being the last.
    Noop,
}

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Checksum of everything behind it.
    pub(super) crc: u32,
    /// Bytes of header, body and padding.
    pub(super) length: u32,
    /// Its number in the log; kept when a compaction copies it.
    pub(super) lsn: u64,
    /// Token of the key; 0 if it has none.
    pub(super) token: Token,
    /// Bucket of the key; 0 if it has none.
    pub(super) bucket: BucketId,
    /// Its position in its sync group, from 0, the Commit being the last. In a cold segment: its
    /// position in the file, counted over all groups.
    pub(super) index: u32,
    /// The partition in which its dots were minted.
    pub(super) partition: PartitionId,
    /// Bytes of the key.
    pub(super) key_bytes: u16,
    /// What it is.
    pub(super) kind: Kind,
    /// Everything before its group was on stable storage when it was written.
    pub(super) after_sync: bool,
    /// It is the first record of its group.
    pub(super) starts_group: bool,
    /// Slot of a control record.
    pub(super) slot: u8,
    /// Zeros at the end.
    pub(super) padding: u8,
}

/// The name of a record in the Commit of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Its number in the log.
    pub(super) lsn: u64,
    /// Token of the key.
    pub(super) token: Token,
    /// Its partition.
    pub(super) partition: PartitionId,
    /// What it is.
    pub(super) kind: Kind,
    /// Slot of a control record.
    pub(super) slot: u8,
}

/// The body of a Commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    /// Checksum of the checksums of the records of the group, in order.
    pub(super) crc_of_crcs: u32,
    /// The records of the group, in order.
    pub(super) names: Vec<Name>,
}

/// The seed of the checksums of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    /// The seed of a segment.
    pub(super) fn new(salt: u32, segment: u32) -> Self {
        Self(salt ^ segment)
    }

    fn at(self, offset: u64) -> u32 {
        let units = u32::try_from(offset / 8).expect("a segment is at most 2 GiB long");
        self.0 ^ units.rotate_left(4)
    }
}

impl Kind {
    /// Whether it says something of a key.
    pub(super) fn is_of_key(self) -> bool {
        matches!(self, Self::Write | Self::Forget)
    }

    /// Whether its bytes count as live where it was appended.
    pub(super) fn counts_as_live(self) -> bool {
        matches!(self, Self::Write | Self::Control)
    }

    fn code(self) -> u8 {
        match self {
            Self::Write => 1,
            Self::Forget => 2,
            Self::ClockAdopt => 3,
            Self::Control => 4,
            Self::Stamp => 5,
            Self::Commit => 13,
            Self::Noop => 14,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        const ALL: [Kind; 7] = [
            Kind::Write,
            Kind::Forget,
            Kind::ClockAdopt,
            Kind::Control,
            Kind::Stamp,
            Kind::Commit,
            Kind::Noop,
        ];
        ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl Header {
    /// The header of a record that is not in the log yet: checksum, number and index are 0.
    pub(super) fn new(kind: Kind, partition: PartitionId) -> Self {
        Self {
            crc: 0,
            length: 0,
            lsn: 0,
            token: Token(0),
            bucket: BucketId(0),
            index: 0,
            partition,
            key_bytes: 0,
            kind,
            after_sync: false,
            starts_group: false,
            slot: 0,
            padding: 0,
        }
    }

    /// Reads a header; `None` if these bytes are none. Proves nothing yet.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let length = u32::from_le_bytes(array_at(bytes, 4)?);
        let plausible = to_usize(u64::from(length)) >= HEADER_BYTES && length.is_multiple_of(8);
        if !plausible {
            return None;
        }
        let [kind, flags, slot, padding] = array_at(bytes, 36)?;
        if flags > (AFTER_SYNC | STARTS_GROUP) || padding > 7 {
            return None;
        }
        Some(Self {
            crc: u32::from_le_bytes(array_at(bytes, 0)?),
            length,
            lsn: u64::from_le_bytes(array_at(bytes, 8)?),
            token: Token(u64::from_le_bytes(array_at(bytes, 16)?)),
            bucket: BucketId(u32::from_le_bytes(array_at(bytes, 24)?)),
            index: u32::from_le_bytes(array_at(bytes, 28)?),
            partition: PartitionId(u16::from_le_bytes(array_at(bytes, 32)?)),
            key_bytes: u16::from_le_bytes(array_at(bytes, 34)?),
            kind: Kind::from_code(kind)?,
            after_sync: flags & AFTER_SYNC != 0,
            starts_group: flags & STARTS_GROUP != 0,
            slot,
            padding,
        })
    }

    /// The header as it stands in the file, its checksum included.
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let flags = if self.after_sync { AFTER_SYNC } else { 0 }
            | if self.starts_group { STARTS_GROUP } else { 0 };
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.put_u32_le(self.crc);
        bytes.put_u32_le(self.length);
        bytes.put_u64_le(self.lsn);
        bytes.put_u64_le(self.token.0);
        bytes.put_u32_le(self.bucket.0);
        bytes.put_u32_le(self.index);
        bytes.put_u16_le(self.partition.0);
        bytes.put_u16_le(self.key_bytes);
        bytes.put_slice(&[self.kind.code(), flags, self.slot, self.padding]);
        bytes.try_into().expect("the fields of a header are 40 bytes long")
    }

    /// Bytes of the record.
    pub(super) fn bytes(&self) -> usize {
        to_usize(u64::from(self.length))
    }

    /// How a Commit calls it.
    pub(super) fn name(&self) -> Name {
        Name {
            lsn: self.lsn,
            token: self.token,
            partition: self.partition,
            kind: self.kind,
            slot: self.slot,
        }
    }

    /// Number of the first record of its group; only in a segment that was appended to.
    pub(super) fn group(&self) -> u64 {
        self.lsn.wrapping_sub(u64::from(self.index))
    }
}

/// The header of the record that begins `bytes`, if all of it is there and its checksum holds for
/// this place.
pub(super) fn verify(bytes: &[u8], seed: Seed, offset: u64) -> Option<Header> {
    let header = Header::decode(bytes)?;
    let record = bytes.get(..header.bytes())?;
    let crc = checksum(record, seed, offset);
    (crc == header.crc).then_some(header)
}

/// The checksum of a record at this place: of all of it but the checksum itself.
fn checksum(record: &[u8], seed: Seed, offset: u64) -> u32 {
    let from = if planted(Bug::CrcNotOverLength) { HEADER_BYTES } else { CRC_BYTES };
    crc32c::crc32c_append(seed.at(offset), record.get(from..).unwrap_or_default())
}

/// Makes an encoded record part of the log at `offset`: writes its number and its position, and
/// seals it with its checksum.
pub(super) fn seal(record: &mut [u8], placing: Placing, seed: Seed, offset: u64) -> Header {
    let mut header = Header::decode(record).expect("the store sealed what it encoded");
    assert_eq!(header.bytes(), record.len(), "one record is sealed at a time");
    header.lsn = placing.lsn;
    header.index = placing.index;
    header.after_sync = placing.after_sync;
    header.starts_group = placing.starts_group;
    record[..HEADER_BYTES].copy_from_slice(&header.encode());
    header.crc = checksum(record, seed, offset);
    record[..4].copy_from_slice(&header.crc.to_le_bytes());
    header
}

/// What the log adds to a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placing {
    /// Its number.
    pub(super) lsn: u64,
    /// Its position in its group.
    pub(super) index: u32,
    /// Whether everything before its group is on stable storage.
    pub(super) after_sync: bool,
    /// Whether it is the first record of its group.
    pub(super) starts_group: bool,
}

/// Appends the record of a change, not sealed yet. Returns its length.
pub(super) fn encode_write(out: &mut BytesMut, record: &Record) -> usize {
    let kind = if record.object.is_void() { Kind::Forget } else { Kind::Write };
    let mut header = Header::new(kind, record.partition);
    header.token = record.key.token;
    header.bucket = record.key.bucket;
    header.key_bytes =
        u16::try_from(record.key.bytes.len()).expect("keys are shorter than KEY_BYTES_MAX");
    encode(out, header, |out| {
        out.extend_from_slice(&record.key.bytes);
        put_vector(out, &record.object.ctx);
        let added = |dot: Dot| record.dots.contains(&dot);
        let listed: Vec<Dot> = record
            .dots
            .iter()
            .copied()
            .filter(|&dot| record.object.entries.iter().all(|entry| entry.dot != dot))
            .collect();
        put_dots(out, &listed);
        put_dots(out, &record.removed);
        put_varint(out, to_u64(record.object.entries.len()));
        for entry in &record.object.entries {
            put_entry(out, entry, added(entry.dot));
        }
        if let Some(stamp) = &record.stamp {
            put_stamp(out, stamp);
        }
    })
}

/// Appends the record of a partition's clock, not sealed yet. Returns its length.
pub(super) fn encode_clock(
    out: &mut BytesMut,
    partition: PartitionId,
    clock: &PartitionClock,
) -> usize {
    let body = postcard::to_stdvec(clock).expect("a clock in memory can be encoded");
    encode(out, Header::new(Kind::ClockAdopt, partition), |out| out.extend_from_slice(&body))
}

/// Appends a control record, not sealed yet. Returns its length.
pub(super) fn encode_control(out: &mut BytesMut, slot: u8, body: &[u8]) -> usize {
    let mut header = Header::new(Kind::Control, PartitionId(0));
    header.slot = slot;
    encode(out, header, |out| out.extend_from_slice(body))
}

/// Appends a Noop, not sealed yet. Returns its length.
pub(super) fn encode_noop(out: &mut BytesMut) -> usize {
    encode(out, Header::new(Kind::Noop, PartitionId(0)), |_| {})
}

/// Appends a Commit, not sealed yet. Returns its length.
pub(super) fn encode_commit(out: &mut BytesMut, headers: &[Header]) -> usize {
    encode(out, Header::new(Kind::Commit, PartitionId(0)), |out| {
        out.put_u32_le(crc_of_crcs(headers.iter().map(|header| header.crc)));
        for header in headers {
            out.put_u64_le(header.lsn);
            out.put_u64_le(header.token.0);
            out.put_u16_le(header.partition.0);
            out.put_u8(header.kind.code());
            out.put_u8(header.slot);
        }
    })
}

/// Bytes of a Commit of `records` records.
pub(super) fn commit_bytes(records: usize) -> usize {
    (HEADER_BYTES + 4 + records * NAME_BYTES).next_multiple_of(8)
}

/// The checksum of checksums.
pub(super) fn crc_of_crcs(crcs: impl Iterator<Item = u32>) -> u32 {
    crcs.fold(0, |sum, crc| crc32c::crc32c_append(sum, &crc.to_le_bytes()))
}

/// The change that a verified Write or Forget says.
pub(super) fn decode_write(header: &Header, bytes: &Bytes) -> Option<Record> {
    let mut reader = Reader::new(bytes, HEADER_BYTES);
    let key = reader.slice(usize::from(header.key_bytes))?;
    let ctx = read_dots(&mut reader)?.into_iter().collect();
    let mut dots = read_dots(&mut reader)?;
    let removed = read_dots(&mut reader)?;
    let mut entries = Vec::new();
    for _ in 0..reader.count()? {
        let (entry, added) = read_entry(&mut reader)?;
        if added {
            dots.push(entry.dot);
        }
        entries.push(entry);
    }
    let end = body_end(header);
    let stamp = if reader.ends_at(end) { None } else { Some(read_stamp(&mut reader)?) };
    if !reader.ends_at(end) {
        return None;
    }
    let key = Key { token: header.token, bucket: header.bucket, bytes: key };
    let object = Object { entries, ctx };
    Some(Record { key, partition: header.partition, object, dots, removed, stamp })
}

/// The clock that a verified clock record says.
pub(super) fn decode_clock(header: &Header, bytes: &Bytes) -> Option<PartitionClock> {
    postcard::from_bytes(bytes.get(HEADER_BYTES..body_end(header))?).ok()
}

/// The body of a verified control record.
pub(super) fn decode_control(header: &Header, bytes: &Bytes) -> Option<Bytes> {
    (body_end(header) <= bytes.len()).then(|| bytes.slice(HEADER_BYTES..body_end(header)))
}

/// What a verified Commit says.
pub(super) fn decode_commit(header: &Header, bytes: &Bytes) -> Option<Commit> {
    let body = bytes.get(HEADER_BYTES..body_end(header))?;
    let (sum, names) = body.split_first_chunk::<4>()?;
    let (names, []) = names.as_chunks::<NAME_BYTES>() else { return None };
    let names: Vec<Name> = names.iter().map(decode_name).collect::<Option<_>>()?;
    Some(Commit { crc_of_crcs: u32::from_le_bytes(*sum), names })
}

fn decode_name(bytes: &[u8; NAME_BYTES]) -> Option<Name> {
    let [kind, slot] = array_at(bytes, 18)?;
    Some(Name {
        lsn: u64::from_le_bytes(array_at(bytes, 0)?),
        token: Token(u64::from_le_bytes(array_at(bytes, 8)?)),
        partition: PartitionId(u16::from_le_bytes(array_at(bytes, 16)?)),
        kind: Kind::from_code(kind)?,
        slot,
    })
}

/// Clocks of all partitions, as a fold over records.
pub(super) type Clocks = BTreeMap<PartitionId, PartitionClock>;

/// Adds to the clock of its partition what a change says it gains.
pub(super) fn fold(clocks: &mut Clocks, partition: PartitionId, dots: &[Dot]) {
    let clock = clocks.entry(partition).or_default();
    for &dot in dots {
        clock.add(dot);
    }
}

/// Where the body of a record ends.
pub(super) fn body_end(header: &Header) -> usize {
    header.bytes() - usize::from(header.padding)
}

/// Appends header, body and padding; length and padding are filled in.
pub(super) fn encode(
    out: &mut BytesMut,
    mut header: Header,
    body: impl FnOnce(&mut BytesMut),
) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    body(out);
    let length = (out.len() - start).next_multiple_of(8);
    let padding = length - (out.len() - start);
    out.put_bytes(0, padding);
    assert!(to_u64(length) < SEGMENT_BYTES_MAX, "an object fits a segment");
    header.padding = u8::try_from(padding).expect("padding is shorter than eight bytes");
    header.length = u32::try_from(length).expect("a record is shorter than 2 GiB");
    out[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
    length
}

fn put_vector(out: &mut BytesMut, vector: &VersionVector) {
    put_varint(out, to_u64(vector.len()));
    vector.iter().for_each(|(actor, seq)| put_dot(out, Dot { actor, seq }));
}

fn put_dots(out: &mut BytesMut, dots: &[Dot]) {
    put_varint(out, to_u64(dots.len()));
    for &dot in dots {
        put_dot(out, dot);
    }
}

fn read_dots(reader: &mut Reader<'_>) -> Option<Vec<Dot>> {
    (0..reader.count()?).map(|_| reader.dot()).collect()
}

/// Flags of an entry: the parts that follow, and whether the record added it.
const ADDED: u8 = 1;
const EXPIRES: u8 = 2;
const HAS_RID: u8 = 4;
const HAS_PATH: u8 = 8;

fn put_entry(out: &mut BytesMut, entry: &Entry, added: bool) {
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    let flags = flag(added, ADDED)
        | flag(entry.expiry_ms != 0, EXPIRES)
        | flag(entry.rid != 0, HAS_RID)
        | flag(!entry.path.is_empty(), HAS_PATH);
    put_dot(out, entry.dot);
    out.put_slice(&[entry.tag, flags]);
    out.put_u64_le(entry.hlc.0);
    if entry.expiry_ms != 0 {
        out.put_u64_le(entry.expiry_ms);
    }
    if entry.rid != 0 {
        out.put_u64_le(entry.rid);
    }
    if !entry.path.is_empty() {
        put_varint(out, to_u64(entry.path.len()));
        out.extend_from_slice(&entry.path);
    }
    put_varint(out, to_u64(entry.payload.len()));
    out.extend_from_slice(&entry.payload);
}

fn read_entry(reader: &mut Reader<'_>) -> Option<(Entry, bool)> {
    let dot = reader.dot()?;
    let (tag, flags) = (reader.u8()?, reader.u8()?);
    let hlc = Hlc(reader.u64()?);
    let expiry_ms = if flags & EXPIRES == 0 { 0 } else { reader.u64()? };
    let rid = if flags & HAS_RID == 0 { 0 } else { reader.u64()? };
    let path = if flags & HAS_PATH == 0 {
        Bytes::new()
    } else {
        let length = reader.count()?;
        reader.slice(length)?
    };
    let length = reader.count()?;
    let payload = reader.slice(length)?;
    Some((Entry { dot, hlc, expiry_ms, rid, tag, path, payload }, flags & ADDED != 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RequestId;
    use crate::causality::Actor;
    use crate::shard::Stamp;

    fn dot(actor: u64, seq: u64) -> Dot {
        Dot { actor: Actor(actor), seq }
    }

    fn record() -> Record {
        let mut entry = Entry::register(dot(3, 300), Hlc(77), Bytes::from_static(b"value"));
        let mut other = Entry::register(dot(2, 1), Hlc(78), Bytes::new());
        entry.expiry_ms = 5;
        entry.rid = u64::MAX;
        other.tag = 4;
        other.path = Bytes::from_static(b"path");
        Record {
            key: Key::new(BucketId(6), Bytes::from_static(b"key")),
            partition: PartitionId(9),
            object: Object {
                entries: vec![other, entry],
                ctx: [dot(1, u64::MAX), dot(2, 127)].into_iter().collect(),
            },
            dots: vec![dot(3, 298), dot(3, 300)],
            removed: vec![dot(2, 128)],
            stamp: None,
        }
    }

    fn stamp() -> Stamp {
        let (id, dot) = (RequestId(0x0102_0304 << 96 | 5), dot(3, 300));
        Stamp { id, at_ms: 9, dot, print: 0x0a0b, existed: true }
    }

    fn sealed(bytes: &mut BytesMut, seed: Seed, offset: u64) -> (Header, Bytes) {
        let placing = Placing { lsn: 11, index: 1, after_sync: true, starts_group: false };
        let header = seal(bytes, placing, seed, offset);
        (header, bytes.clone().freeze())
    }

    #[test]
    fn a_record_comes_back_at_its_place_and_nowhere_else() {
        let seed = Seed::new(0xdead_beef, 3);
        let stamped = Record { stamp: Some(stamp()), ..record() };
        for record in [record(), stamped, Record { object: Object::default(), ..record() }] {
            let mut bytes = BytesMut::new();
            let length = encode_write(&mut bytes, &record);
            assert_eq!(length, bytes.len());
            let (header, bytes) = sealed(&mut bytes, seed, 64);
            assert_eq!(verify(&bytes, seed, 64), Some(header));
            assert_eq!(header.group(), 10);
            assert_eq!(decode_write(&header, &bytes), Some(record));
            assert_eq!(verify(&bytes, seed, 72), None);
            assert_eq!(verify(&bytes, Seed::new(0xdead_beef, 4), 64), None);
            assert_eq!(verify(&bytes[..bytes.len() - 1], seed, 64), None);
        }
    }

    #[test]
    fn a_commit_names_every_record_of_its_group() {
        let seed = Seed::new(1, 1);
        let mut bytes = BytesMut::new();
        encode_write(&mut bytes, &record());
        let (one, _) = sealed(&mut bytes, seed, 64);
        let mut bytes = BytesMut::new();
        encode_control(&mut bytes, 5, b"state");
        let (two, control) = sealed(&mut bytes, seed, 264);
        assert_eq!(decode_control(&two, &control).unwrap(), b"state"[..]);
        let mut bytes = BytesMut::new();
        assert_eq!(encode_commit(&mut bytes, &[one, two]), commit_bytes(2));
        let (header, bytes) = sealed(&mut bytes, seed, 400);
        let commit = decode_commit(&header, &bytes).unwrap();
        assert_eq!(commit.names, [one.name(), two.name()]);
        assert_eq!(commit.names[1].slot, 5);
        assert_eq!(commit.crc_of_crcs, crc_of_crcs([one.crc, two.crc].into_iter()));
    }

    /// The layout of docs/file-format.md, byte by byte. A change of these bytes is a new format.
    #[test]
    fn the_bytes_of_a_record_are_those_of_the_document() {
        let mut bytes = BytesMut::new();
        let key = Key { token: Token(0x0102_0304_0506_0708), ..record().key };
        encode_write(&mut bytes, &Record { key, ..record() });
        let (_, bytes) = sealed(&mut bytes, Seed::new(0, 1), 64);
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let expected = concat!(
            "9f6d5c7c",
            "a8000000",
            "0b00000000000000",
            "0807060504030201",
            "06000000",
            "01000000",
            "0900",
            "0300",
            "01",
            "01",
            "00",
            "07",     // header
            "6b6579", // key
            "02",
            "0100000000000000ffffffffffffffffff01",
            "02000000000000007f", // context
            "01",
            "0300000000000000aa02", // dots
            "01",
            "02000000000000008001", // removed
            "02",                   // entries
            "020000000000000001",
            "04",
            "08",
            "4e00000000000000",
            "0470617468",
            "00",
            "0300000000000000ac02",
            "00",
            "07",
            "4d00000000000000",
            "0500000000000000",
            "ffffffffffffffff",
            "0576616c7565",   // the last of them
            "00000000000000", // padding
        );
        assert_eq!(hex, expected);
    }

    #[test]
    fn the_stamp_of_a_request_stands_behind_the_entries() {
        let mut plain = BytesMut::new();
        encode_write(&mut plain, &record());
        let padding = usize::from(Header::decode(&plain).unwrap().padding);
        let mut stamped = BytesMut::new();
        encode_write(&mut stamped, &Record { stamp: Some(stamp()), ..record() });
        let end = stamped.len() - usize::from(Header::decode(&stamped).unwrap().padding);
        let bytes = &stamped[plain.len() - padding..end];
        let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let expected = concat!(
            "05000000000000000000000004030201", // id
            "0900000000000000",                 // milliseconds
            "0300000000000000ac02",             // dot
            "0b0a000000000000",                 // print
            "01",
        );
        assert_eq!(hex, expected);
    }

    #[test]
    fn forged_bodies_are_refused_and_never_read_past_their_end() {
        let mut bytes = BytesMut::new();
        encode_write(&mut bytes, &record());
        let (header, bytes) = sealed(&mut bytes, Seed::new(0, 1), 64);
        for at in HEADER_BYTES..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut forged = BytesMut::from(&bytes[..]);
                forged[at] = value;
                // Whatever it says, it says it within its bounds.
                let record = decode_write(&header, &forged.freeze());
                assert!(record.is_none_or(|record| record.key.bytes.len() == 3));
            }
        }
    }
}
