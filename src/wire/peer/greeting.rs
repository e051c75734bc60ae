//! The first frame in each direction, and the refusal that may come in its place.
//!
//! Their first bytes mean the same in every version: a greeting begins with the oldest and the
//! newest version that its sender speaks (one byte each), a refusal with the length of its code
//! (one byte), the code, and then its text.

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use super::{FrameError, take_postcard};
use crate::cluster::{Hello, Refusal};

/// The oldest version of the peer protocol that this node speaks.
pub const PROTOCOL_MIN: u8 = 1;
/// The newest version of the peer protocol that this node speaks.
pub const PROTOCOL_MAX: u8 = 1;

/// Longest text of a refusal, in bytes.
pub(super) const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// Who speaks, in which versions, and what the link is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The oldest version that the sender speaks.
    pub protocol_min: u8,
    /// The newest version that the sender speaks.
    pub protocol_max: u8,
    /// What the link carries.
    pub link: Link,
    /// The sender.
    pub hello: Hello,
}

/// What a link carries. Each pair of nodes keeps one control link and a few data links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// Messages of the control planes: small, and never behind data.
    Control,
    /// Messages of the shards; data links are numbered from 0.
    Data(u8),
}

impl Greeting {
    /// The greeting of this build.
    pub fn new(link: Link, hello: Hello) -> Self {
        Self { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, link, hello }
    }
}

/// The version that two nodes use: the highest that both speak.
///
/// # Errors
/// [`FrameError::NoCommonVersion`], whose text names both ranges.
pub fn agree(min: u8, max: u8) -> Result<u8, FrameError> {
    let newest = max.min(PROTOCOL_MAX);
    if min > max || newest < min || newest < PROTOCOL_MIN {
        return Err(FrameError::NoCommonVersion { min, max });
    }
    Ok(newest)
}

pub(super) fn put(greeting: &Greeting, out: &mut BytesMut) {
    out.put_u8(greeting.protocol_min);
    out.put_u8(greeting.protocol_max);
    let rest = (greeting.link, &greeting.hello);
    postcard::to_io(&rest, out.writer()).expect("a growing buffer takes any message");
}

/// The versions are looked at first: the rest of a stranger's greeting need not parse here.
pub(super) fn parse(payload: &[u8], malformed: FrameError) -> Result<Greeting, FrameError> {
    let Some((&[protocol_min, protocol_max], rest)) = payload.split_first_chunk::<2>() else {
        return Err(malformed);
    };
    agree(protocol_min, protocol_max)?;
    let (link, hello) = take_postcard(rest).ok_or(malformed)?;
    Ok(Greeting { protocol_min, protocol_max, link, hello })
}

pub(super) fn put_refusal(refusal: &Refusal, out: &mut BytesMut) {
    let code = head(&refusal.code, usize::from(u8::MAX));
    out.put_u8(u8::try_from(code.len()).expect("the code was cut to fit"));
    out.put_slice(code.as_bytes());
    out.put_slice(head(&refusal.text, REFUSAL_BYTES_MAX).as_bytes());
}

pub(super) fn parse_refusal(payload: &[u8]) -> Option<Refusal> {
    let (&length, rest) = payload.split_first()?;
    let (code, text) = rest.split_at_checked(usize::from(length))?;
    if text.len() > REFUSAL_BYTES_MAX {
        return None;
    }
    let code = String::from_utf8(code.to_vec()).ok()?;
    let text = String::from_utf8(text.to_vec()).ok()?;
    Some(Refusal { code, text })
}

/// At most `max` bytes of a text, whole characters.
fn head(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}
