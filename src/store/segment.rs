//! Segment files and the list of those that are in use.
//!
//! A segment is prepared under another name: zeros, then a header, all synced, then renamed. Only
//! when MANIFEST lists it durably is a record written to it, and only when MANIFEST has ceased to
//! list it is it removed. So at any crash the listed segments are whole files, and a file that is
//! not listed holds nothing that counts. MANIFEST is replaced as a whole, by a rename.
//! Byte tables: docs/file-format.md.

use bytes::BufMut;

use super::border::LogError;
use super::codec::{array_at, to_usize};
use super::disk::FileName;
use super::record::Seed;
use crate::causality::NodeId;

/// Bytes in front of the first record.
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
/// The newest format of segments and manifests that this version reads, and the one it writes.
pub(super) const FORMAT: u16 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"PEERSEG1";
const MANIFEST_MAGIC: [u8; 8] = *b"PEERMAN1";
const MANIFEST_HEAD_BYTES: usize = 32;
const MANIFEST_ENTRY_BYTES: usize = 48;
/// Flag of segments that a compaction wrote.
const COLD: u16 = 1;

/// A segment as MANIFEST lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its number, never used again.
    pub(super) number: u32,
    /// Makes its checksums different from those of every other segment.
    pub(super) salt: u32,
    /// Whether a compaction wrote it: its records then are counted by their position in the file
    /// and keep the numbers that they had.
    pub(super) cold: bool,
    /// Length of the file.
    pub(super) bytes: u64,
    /// Number of its first record; 0 = it was not in use yet when MANIFEST was written.
    pub(super) first: u64,
    /// Number after its last record; 0 = it was not full yet when MANIFEST was written.
    pub(super) next: u64,
    /// No record in it has a lower log sequence number.
    pub(super) least_lsn: u64,
}

impl Segment {
    /// A segment of which only the number is known.
    pub(super) fn unknown(number: u32) -> Self {
        Self { number, salt: 0, cold: false, bytes: 0, first: 0, next: 0, least_lsn: 0 }
    }

    /// The number of its first record, if it was in use when MANIFEST was written.
    pub(super) fn in_use(&self) -> Option<u64> {
        (self.first != 0).then_some(self.first)
    }

    /// No record of a key in it has a lower log sequence number.
    pub(super) fn lowest(&self) -> u64 {
        if self.cold { self.least_lsn } else { self.least_lsn.max(self.first) }
    }

    /// What makes its checksums.
    pub(super) fn seed(&self) -> Seed {
        Seed::new(self.salt, self.number)
    }

    /// The header of its file.
    pub(super) fn encode_header(&self, node: NodeId, unix_ms: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.put_slice(&SEGMENT_MAGIC);
        bytes.put_u16_le(FORMAT);
        bytes.put_u16_le(if self.cold { COLD } else { 0 });
        bytes.put_u32_le(self.number);
        bytes.put_u64_le(unix_ms);
        bytes.put_u64_le(self.least_lsn);
        bytes.put_slice(&node.0);
        bytes.put_u32_le(self.salt);
        bytes.put_bytes(0, 8);
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        bytes
    }

    /// The segment whose file of `length` bytes begins with `bytes`; `None` if that is damaged.
    ///
    /// # Errors
    /// When it is whole, but of another node or of a newer format.
    pub(super) fn decode_header(
        bytes: &[u8],
        number: u32,
        length: u64,
        node: NodeId,
    ) -> Result<Option<Self>, LogError> {
        let Some(head) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else { return Ok(None) };
        let Some((body, crc)) = head.split_last_chunk::<4>() else { return Ok(None) };
        if !body.starts_with(&SEGMENT_MAGIC) || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Ok(None);
        }
        let file = FileName::Segment(number);
        check_origin(file, body, node)?;
        let segment = (|| {
            let flags = u16::from_le_bytes(array_at(body, 10)?);
            let stated = u32::from_le_bytes(array_at(body, 12)?);
            let least_lsn = u64::from_le_bytes(array_at(body, 24)?);
            let salt = u32::from_le_bytes(array_at(body, 48)?);
            let cold = flags & COLD != 0;
            let segment = Self { number, salt, cold, bytes: length, first: 0, next: 0, least_lsn };
            // A file under the name of another is as good as damaged.
            (stated == number).then_some(segment)
        })();
        Ok(segment)
    }
}

/// The contents of MANIFEST.
pub(super) fn encode_manifest(node: NodeId, segments: &[&Segment]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.put_slice(&MANIFEST_MAGIC);
    bytes.put_u16_le(FORMAT);
    bytes.put_u16_le(0);
    let count = u32::try_from(segments.len()).expect("segment numbers are 24 bits long");
    bytes.put_u32_le(count);
    bytes.put_slice(&node.0);
    for segment in segments {
        bytes.put_u32_le(segment.number);
        bytes.put_u32_le(segment.salt);
        bytes.put_u64_le(u64::from(segment.cold));
        bytes.put_u64_le(segment.bytes);
        bytes.put_u64_le(segment.first);
        bytes.put_u64_le(segment.next);
        bytes.put_u64_le(segment.least_lsn);
    }
    bytes.put_u32_le(crc32c::crc32c(&bytes));
    bytes
}

/// The segments that a MANIFEST lists; `None` if it is damaged.
///
/// # Errors
/// When it is whole, but of another node or of a newer format.
pub(super) fn decode_manifest(
    bytes: &[u8],
    node: NodeId,
) -> Result<Option<Vec<Segment>>, LogError> {
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else { return Ok(None) };
    if !body.starts_with(&MANIFEST_MAGIC) || crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Ok(None);
    }
    check_origin(FileName::Manifest, body, node)?;
    let Some((head, entries)) = body.split_at_checked(MANIFEST_HEAD_BYTES) else { return Ok(None) };
    let (entries, rest) = entries.as_chunks::<MANIFEST_ENTRY_BYTES>();
    let count = array_at(head, 12).map(u32::from_le_bytes);
    if !rest.is_empty() || count.map(|count| to_usize(u64::from(count))) != Some(entries.len()) {
        return Ok(None);
    }
    Ok(entries.iter().map(decode_entry).collect())
}

fn decode_entry(bytes: &[u8; MANIFEST_ENTRY_BYTES]) -> Option<Segment> {
    let u64_at = |at| array_at(bytes, at).map(u64::from_le_bytes);
    Some(Segment {
        number: u32::from_le_bytes(array_at(bytes, 0)?),
        salt: u32::from_le_bytes(array_at(bytes, 4)?),
        cold: u64_at(8)? != 0,
        bytes: u64_at(16)?,
        first: u64_at(24)?,
        next: u64_at(32)?,
        least_lsn: u64_at(40)?,
    })
}

/// Format and node stand at fixed places in every version of both files.
fn check_origin(file: FileName, head: &[u8], node: NodeId) -> Result<(), LogError> {
    let found = array_at(head, 8).map_or(0, u16::from_le_bytes);
    if found > FORMAT {
        return Err(LogError::NewerFormat { file, found, known: FORMAT });
    }
    let at = if file == FileName::Manifest { 16 } else { 32 };
    if array_at(head, at) != Some(node.0) {
        return Err(LogError::OtherNode { file });
    }
    Ok(())
}
