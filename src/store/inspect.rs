//! Tells what lies where in the bytes of a segment file, for observers that must not trust the log:
//! the simulator compares what is on a disk with what was promised. Pure; production never asks.

use bytes::{Bytes, BytesMut};

use super::codec::to_u64;
use super::record::{HEADER_BYTES, Header, Kind, Seed, decode_write, encode_write, verify};
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::stamps::decode_stamp;
use crate::causality::NodeId;
use crate::hash::PartitionId;
use crate::shard::{Record, Stamp};

/// Most of a segment is zeros: they are passed by the block.
const ZEROS: [u8; 1_024] = [0; 1_024];

/// A record that verifies at its place.
#[derive(Clone, Debug)]
pub struct Inspected {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
    /// Its number in the log.
    pub lsn: u64,
    /// Number of the first record of its group; only in a segment that was appended to.
    pub group: u64,
    /// Whether it proves that every group before its own was synced.
    pub after_sync: bool,
    /// What it is.
    pub contents: InspectedKind,
}

impl Inspected {
    /// Bytes of a record in front of what it says of a key.
    pub fn header_bytes() -> u64 {
        to_u64(HEADER_BYTES)
    }
}

/// What a record is to an observer.
#[derive(Clone, Debug)]
pub enum InspectedKind {
    /// What was put of a key.
    Key(Box<Record>),
    /// The clock of a partition.
    Clock(PartitionId),
    /// What the control plane must remember.
    Control,
    /// What became of a request, whose own record is gone.
    Request(Stamp),
    /// The end of a group: everything before it counts.
    Commit,
    /// Nothing.
    Noop,
}

/// What makes the checksums of a segment file, if `head` begins with its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectedSegment {
    seed: Seed,
    is_cold: bool,
}

impl InspectedSegment {
    /// Bytes in front of the first record.
    pub fn header_bytes() -> u64 {
        to_u64(SEGMENT_HEADER_BYTES)
    }

    /// Of the file of this number; `None` = its header is damaged, or of another node.
    pub fn of(head: &[u8], number: u32, node: NodeId) -> Option<Self> {
        let segment = Segment::decode_header(head, number, to_u64(head.len()), node).ok()??;
        Some(Self { seed: segment.seed(), is_cold: segment.cold })
    }

    /// Whether a compaction wrote it: nothing is appended to it.
    pub fn is_cold(self) -> bool {
        self.is_cold
    }

    /// Every record that verifies from `offset` of the file on, `bytes` being what stands there.
    /// What does not verify is passed over.
    pub fn records(self, bytes: &[u8], offset: u64) -> Vec<Inspected> {
        let mut records = Vec::new();
        let mut at = 0;
        while at + HEADER_BYTES <= bytes.len() {
            let place = offset + to_u64(at);
            if let Some(header) = verify(&bytes[at..], self.seed, place) {
                let length = header.bytes();
                if let Some(contents) = contents(&header, &bytes[at..at + length]) {
                    records.push(Inspected {
                        offset: place,
                        length: to_u64(length),
                        lsn: header.lsn,
                        group: header.group(),
                        after_sync: header.after_sync,
                        contents,
                    });
                }
                at += length;
            } else if bytes[at..].starts_with(&ZEROS) {
                at += ZEROS.len();
            } else {
                at += 8;
            }
        }
        records
    }
}

fn contents(header: &Header, bytes: &[u8]) -> Option<InspectedKind> {
    Some(match header.kind {
        Kind::Write | Kind::Forget => {
            let record = decode_write(header, &Bytes::copy_from_slice(bytes))?;
            InspectedKind::Key(Box::new(record))
        }
        Kind::ClockAdopt => InspectedKind::Clock(header.partition),
        Kind::Control => InspectedKind::Control,
        Kind::Stamp => {
            InspectedKind::Request(decode_stamp(header, &Bytes::copy_from_slice(bytes))?)
        }
        Kind::Commit => InspectedKind::Commit,
        Kind::Noop => InspectedKind::Noop,
    })
}

/// What the bytes of one record say, whether or not its checksum holds: for tests of the codec,
/// which must take any bytes. The log never reads a record that does not verify.
pub fn decode_unproven(bytes: &[u8]) -> Option<InspectedKind> {
    let header = Header::decode(bytes)?;
    contents(&header, bytes.get(..header.bytes())?)
}

/// The bytes of a record, without its place in the log and its checksum.
pub fn encode_record(record: &Record) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode_write(&mut bytes, record);
    bytes.to_vec()
}
