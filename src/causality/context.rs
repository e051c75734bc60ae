//! The token by which a client says which versions it has seen. Opaque to clients.
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 1 | format, 1 |
//! | 2 | partition, little-endian |
//! | varint n | number of entries |
//! | n x (8 + varint) | actor, little-endian; number |
//! | 2 | CRC16/XMODEM of all before, little-endian |
//!
//! The empty token is valid too: "I have seen nothing".

use super::{Actor, VersionVector};
use crate::hash::{PartitionId, crc16};
use crate::limits::CONTEXT_BYTES_MAX;

const FORMAT: u8 = 1;

/// Why a token cannot be used. Nothing was changed; the client reads again and takes the new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// It is damaged, was cut, or was made by something else.
    #[error("the context token is damaged or was not made by Peerage")]
    Malformed,
    /// It is well-formed, but belongs to a key elsewhere on the ring.
    #[error("the context token belongs to another key")]
    OtherKey,
    /// It is longer than any that Peerage makes.
    #[error("the context token is longer than {CONTEXT_BYTES_MAX} bytes")]
    TooLong,
}

/// The token for `seen`, valid for keys of `partition`.
pub fn encode_context(partition: PartitionId, seen: &VersionVector) -> Vec<u8> {
    let count = u64::try_from(seen.len()).expect("a length fits 64 bits");
    let entries: usize = seen.iter().map(|(_, seq)| 8 + varint_bytes(seq)).sum();
    // To the byte: a vector without room to spare becomes shared bytes as it is, and every read and
    // write makes a token.
    let length = 1 + 2 + varint_bytes(count) + entries + 2;
    let mut token = Vec::with_capacity(length);
    token.push(FORMAT);
    token.extend_from_slice(&partition.0.to_le_bytes());
    push_varint(&mut token, count);
    for (actor, seq) in seen.iter() {
        token.extend_from_slice(&actor.0.to_le_bytes());
        push_varint(&mut token, seq);
    }
    let sum = crc16(&token);
    token.extend_from_slice(&sum.to_le_bytes());
    debug_assert_eq!(token.len(), length, "the length was counted");
    token
}

/// What the client has seen, if `token` was made for a key of `partition`.
///
/// # Errors
/// [`ContextError`]; nothing is trusted of a token that does not verify.
pub fn decode_context(partition: PartitionId, token: &[u8]) -> Result<VersionVector, ContextError> {
    if token.is_empty() {
        return Ok(VersionVector::new());
    }
    if token.len() > CONTEXT_BYTES_MAX {
        return Err(ContextError::TooLong);
    }
    let (body, sum) = token.split_last_chunk::<2>().ok_or(ContextError::Malformed)?;
    if crc16(body).to_le_bytes() != *sum {
        return Err(ContextError::Malformed);
    }
    let mut rest = body;
    let [format, low, high] = *take::<3>(&mut rest)?;
    if format != FORMAT {
        return Err(ContextError::Malformed);
    }
    if u16::from_le_bytes([low, high]) != partition.0 {
        return Err(ContextError::OtherKey);
    }
    let count = take_varint(&mut rest)?;
    let mut seen = VersionVector::new();
    for _ in 0..count {
        let actor = Actor(u64::from_le_bytes(*take::<8>(&mut rest)?));
        seen.raise(actor, take_varint(&mut rest)?);
    }
    if rest.is_empty() { Ok(seen) } else { Err(ContextError::Malformed) }
}

/// Bytes of a number: seven of its bits in each, at least one.
fn varint_bytes(value: u64) -> usize {
    let mut bytes = 1;
    let mut left = value >> 7;
    while left > 0 {
        bytes += 1;
        left >>= 7;
    }
    bytes
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], ContextError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(ContextError::Malformed)?;
    *rest = tail;
    Ok(head)
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, ContextError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let [byte] = *take::<1>(rest)?;
        let part = u64::from(byte & 0x7f);
        if part != 0 && part.leading_zeros() < shift {
            return Err(ContextError::Malformed);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ContextError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_just_the_room_that_it_needs() {
        for seq in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
            let seen: VersionVector = [(Actor(7), seq), (Actor(8), 1)].into_iter().collect();
            let token = encode_context(PartitionId(5), &seen);
            assert_eq!(token.capacity(), token.len(), "{seq}");
        }
    }

    #[test]
    fn a_token_comes_back_and_a_forged_one_is_refused() {
        let seen: VersionVector =
            [(Actor(7), 1), (Actor(u64::MAX), u64::MAX), (Actor(9), 300)].into_iter().collect();
        let token = encode_context(PartitionId(5), &seen);
        assert_eq!(decode_context(PartitionId(5), &token), Ok(seen));
        assert_eq!(decode_context(PartitionId(6), &token), Err(ContextError::OtherKey));
        assert_eq!(decode_context(PartitionId(5), b""), Ok(VersionVector::new()));
        for index in 0..token.len() {
            let mut forged = token.clone();
            forged[index] ^= 0x10;
            assert!(decode_context(PartitionId(5), &forged).is_err(), "byte {index}");
            assert!(index == 0 || decode_context(PartitionId(5), &token[..index]).is_err());
        }
        let long = vec![0; CONTEXT_BYTES_MAX + 1];
        assert_eq!(decode_context(PartitionId(5), &long), Err(ContextError::TooLong));
    }
}
