//! Frames between nodes: length, checksum, a fixed header, a payload.
//!
//! All numbers little-endian:
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 4 | length of everything behind the checksum |
//! | 4 | CRC32C of everything behind it |
//! | 1 | kind of frame |
//! | 1 | version of the protocol that the payload is written in |
//! | 2 | flags, 0 in version 1 |
//! | 8 | call id: a question and its answer carry the same; 0 where nothing is answered |
//! | 4 | reserved for the layout epoch, 0 in version 1 |
//! | 4 | milliseconds within which an answer is of use; 0 where that has no meaning |
//! | n | payload |
//!
//! The value path ([`shard::Message`]s that carry keys and values) is laid out by hand, and its
//! payloads come out as slices of the received bytes; everything else is postcard. The first frame
//! in each direction is a greeting with the range of versions that a node speaks; greeting and
//! refusal have the same layout in every version, so that nodes without a common version can still
//! tell each other.
//!
//! A frame that does not parse is an error, never a panic: the shell closes the link and counts.

mod entry;
mod greeting;
mod reader;
mod value;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

pub use crate::cluster::Refusal;
pub use entry::{Entry, decode_entry, encode_entry};
pub use greeting::{Greeting, Link, PROTOCOL_MAX, PROTOCOL_MIN, agree};

use crate::limits::FRAME_BYTES_MAX;
use crate::marks::sometimes;
use crate::{cluster, shard};
use reader::Reader;

/// Bytes before the payload.
const HEADER_BYTES: usize = 28;
/// Bytes before the part that length and checksum speak of.
const PREFIX_BYTES: usize = 8;

/// Longest frame before a link is up: a refusal. A greeting is shorter.
const GREETING_BYTES_MAX: usize = HEADER_BYTES + 1 + 255 + greeting::REFUSAL_BYTES_MAX;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The first frame of the node that dialled.
    Hello(Greeting),
    /// The first frame of the node that was dialled.
    HelloAck(Greeting),
    /// Instead of a greeting, or at the end of a link: why this node closes it.
    Refusal(Refusal),
    /// Between control planes.
    Cluster(cluster::Message),
    /// Between shards.
    Shard(shard::Message),
}

/// Why bytes are not a frame. The link is closed; nothing of the frame was used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The frame is longer than [`FRAME_BYTES_MAX`], or than any that may come here.
    #[error("a frame of {bytes} bytes is longer than it may be at this point of a link")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// The length cannot hold a header.
    #[error("a frame announces {bytes} bytes, fewer than its header has")]
    TooShort {
        /// The length announced.
        bytes: u64,
    },
    /// The bytes changed on their way.
    #[error("the checksum of a frame does not match its bytes")]
    Checksum,
    /// A kind that this version does not have.
    #[error("a frame is of the unknown kind {kind}")]
    UnknownKind {
        /// The kind.
        kind: u8,
    },
    /// A version that was not agreed on.
    #[error(
        "a frame is written in version {version} of the peer protocol, which is not spoken here"
    )]
    UnknownVersion {
        /// The version.
        version: u8,
    },
    /// The two nodes have no version in common.
    #[error(
        "no common version: this node speaks {PROTOCOL_MIN} to {PROTOCOL_MAX} of the peer \
         protocol, the other {min} to {max}; upgrade the older one"
    )]
    NoCommonVersion {
        /// The oldest version that the other node speaks.
        min: u8,
        /// The newest.
        max: u8,
    },
    /// A challenge or a proof where none may come.
    #[error("a frame asks for a proof of the cluster secret, which is not expected here")]
    SecretAsked,
    /// The payload is not what its kind says.
    #[error("the payload of a frame of kind {kind} does not parse")]
    Malformed {
        /// The kind.
        kind: u8,
    },
}

/// The fixed part of a frame behind its checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Header {
    kind: u8,
    version: u8,
    flags: u16,
    call: u64,
    epoch: u32,
    left_ms: u32,
}

/// Kinds of frames. Numbers are never used again for something else.
mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const HELLO_ACK: u8 = 2;
    pub(super) const CLUSTER: u8 = 3;
    pub(super) const CHALLENGE: u8 = 4;
    pub(super) const PROOF: u8 = 5;
    pub(super) const SHARD: u8 = 19;
    pub(super) const FORWARD: u8 = 20;
    pub(super) const FORWARD_REPLY: u8 = 21;
    pub(super) const REPLICATE: u8 = 22;
    pub(super) const REPLICATE_ACK: u8 = 23;
    pub(super) const READ: u8 = 24;
    pub(super) const READ_REPLY: u8 = 25;
    pub(super) const REPLICATE_BATCH: u8 = 43;
    pub(super) const REFUSAL: u8 = 62;
}

/// Appends a frame.
///
/// # Errors
/// [`FrameError::TooLong`]: nothing was appended.
pub fn encode(frame: &Frame, out: &mut BytesMut) -> Result<(), FrameError> {
    let start = out.len();
    out.put_bytes(0, PREFIX_BYTES);
    match frame {
        Frame::Hello(greeting) => put_greeting(kind::HELLO, greeting, out),
        Frame::HelloAck(greeting) => put_greeting(kind::HELLO_ACK, greeting, out),
        Frame::Refusal(refusal) => {
            put_header(Header { kind: kind::REFUSAL, ..Header::default() }, out);
            greeting::put_refusal(refusal, out);
        }
        Frame::Cluster(message) => {
            put_header(plain_header(kind::CLUSTER), out);
            put_postcard(message, out);
        }
        Frame::Shard(message) => {
            if !value::put(message, out) {
                put_header(plain_header(kind::SHARD), out);
                put_postcard(message, out);
            }
        }
    }
    seal(start, out)
}

/// Takes one frame out of `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// [`FrameError`]: the link must be closed, the stream cannot be followed any more.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some((header, payload)) = take_body(buffer, FRAME_BYTES_MAX)? else { return Ok(None) };
    parse(header, payload).map(Some)
}

/// As [`decode`], before a greeting is over: nothing longer than a greeting or a refusal is kept.
///
/// # Errors
/// As [`decode`], and for frames that are too long to come now.
pub fn decode_greeting(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let Some((header, payload)) = take_body(buffer, GREETING_BYTES_MAX)? else { return Ok(None) };
    parse(header, payload).map(Some)
}

/// Takes the header and the payload of one frame of at most `bytes_max` bytes out of `buffer`.
fn take_body(
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> Result<Option<(Header, Bytes)>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let (mut prefix, bytes) = (prefix.as_slice(), buffer.len());
    let (announced, checksum) = (prefix.get_u32_le(), prefix.get_u32_le());
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    if length > bytes_max - PREFIX_BYTES {
        return Err(FrameError::TooLong { bytes: u64::from(announced) });
    }
    if length < HEADER_BYTES - PREFIX_BYTES {
        return Err(FrameError::TooShort { bytes: u64::from(announced) });
    }
    if bytes - PREFIX_BYTES < length {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    let mut body = buffer.split_to(length).freeze();
    if crc32c::crc32c(&body) != checksum {
        sometimes!("a frame was refused by its checksum");
        return Err(FrameError::Checksum);
    }
    let header = Header {
        kind: body.get_u8(),
        version: body.get_u8(),
        flags: body.get_u16_le(),
        call: body.get_u64_le(),
        epoch: body.get_u32_le(),
        left_ms: body.get_u32_le(),
    };
    Ok(Some((header, body)))
}

fn parse(header: Header, payload: Bytes) -> Result<Frame, FrameError> {
    let malformed = FrameError::Malformed { kind: header.kind };
    if matches!(header.kind, kind::HELLO | kind::HELLO_ACK | kind::REFUSAL) {
        return parse_handshake(header, &payload);
    }
    if matches!(header.kind, kind::CHALLENGE | kind::PROOF) {
        return Err(FrameError::SecretAsked);
    }
    if header.version != PROTOCOL_MAX {
        return Err(FrameError::UnknownVersion { version: header.version });
    }
    if header.flags != 0 || header.epoch != 0 {
        return Err(malformed);
    }
    let frame = match header.kind {
        kind::CLUSTER => take_postcard(&payload).map(Frame::Cluster),
        kind::SHARD => take_postcard(&payload).map(Frame::Shard),
        kind::FORWARD
        | kind::FORWARD_REPLY
        | kind::REPLICATE
        | kind::REPLICATE_ACK
        | kind::REPLICATE_BATCH
        | kind::READ
        | kind::READ_REPLY => value::take(header, &mut Reader::new(payload)).map(Frame::Shard),
        unknown => return Err(FrameError::UnknownKind { kind: unknown }),
    };
    frame.ok_or(malformed)
}

/// What two nodes say before they have agreed on a version.
fn parse_handshake(header: Header, payload: &[u8]) -> Result<Frame, FrameError> {
    let malformed = FrameError::Malformed { kind: header.kind };
    match header.kind {
        kind::HELLO => greeting::parse(payload, malformed).map(Frame::Hello),
        kind::HELLO_ACK => greeting::parse(payload, malformed).map(Frame::HelloAck),
        _ => greeting::parse_refusal(payload).map(Frame::Refusal).ok_or(malformed),
    }
}

fn put_greeting(kind: u8, greeting: &Greeting, out: &mut BytesMut) {
    put_header(Header { kind, ..Header::default() }, out);
    greeting::put(greeting, out);
}

/// The header of a message that carries all of itself in its payload.
fn plain_header(kind: u8) -> Header {
    Header { kind, version: PROTOCOL_MAX, ..Header::default() }
}

fn put_postcard(message: &impl serde::Serialize, out: &mut BytesMut) {
    postcard::to_io(message, out.writer()).expect("a growing buffer takes any message");
}

/// A value that fills its bytes exactly.
fn take_postcard<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        Ok(_) | Err(_) => None,
    }
}

fn put_header(header: Header, out: &mut BytesMut) {
    out.put_u8(header.kind);
    out.put_u8(header.version);
    out.put_u16_le(header.flags);
    out.put_u64_le(header.call);
    out.put_u32_le(header.epoch);
    out.put_u32_le(header.left_ms);
}

/// Fills in length and checksum of the frame that began at `start`.
fn seal(start: usize, out: &mut BytesMut) -> Result<(), FrameError> {
    let bytes = out.len() - start;
    if bytes > FRAME_BYTES_MAX {
        out.truncate(start);
        let bytes = u64::try_from(bytes).expect("a length fits 64 bits");
        return Err(FrameError::TooLong { bytes });
    }
    let frame = out.get_mut(start..).expect("the frame begins within the buffer");
    let (prefix, body) = frame.split_at_mut(PREFIX_BYTES);
    let length = u32::try_from(body.len()).expect("a frame length fits 32 bits");
    let (length_place, checksum_place) = prefix.split_at_mut(4);
    length_place.copy_from_slice(&length.to_le_bytes());
    checksum_place.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests;
