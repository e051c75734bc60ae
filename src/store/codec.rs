//! Little-endian numbers, varints and slices: how bytes of this store are read and written.
//!
//! Reading trusts nothing: every step may return `None`, and then the whole record is refused.

use bytes::Bytes;

use crate::causality::{Actor, Dot};

/// Reads a record from its first byte to its last.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begins at byte `at`.
    pub(super) fn new(bytes: &'a Bytes, at: usize) -> Self {
        Self { bytes, at }
    }

    /// The next `length` bytes, not copied.
    pub(super) fn slice(&mut self, length: usize) -> Option<Bytes> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len())?;
        let slice = self.bytes.slice(self.at..end);
        self.at = end;
        Some(slice)
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next eight bytes.
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next sixteen bytes.
    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }

    /// The next varint, in its only form.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if part.leading_zeros() < shift {
                return None;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    /// The next varint as a number of things that are at least one byte long each.
    pub(super) fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count <= self.bytes.len() - self.at).then_some(count)
    }

    /// An actor and a number.
    pub(super) fn dot(&mut self) -> Option<Dot> {
        Some(Dot { actor: Actor(self.u64()?), seq: self.varint()? })
    }

    /// Whether everything up to byte `end` was read, and nothing more.
    pub(super) fn ends_at(&self, end: usize) -> bool {
        self.at == end
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let array = self.bytes.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(array)
    }
}

/// Appends a varint: seven bits a byte, the lowest first.
pub(super) fn put_varint(out: &mut impl Extend<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.extend([low | 0x80]);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.extend([low]);
}

/// Appends an actor and a number.
pub(super) fn put_dot(out: &mut impl Extend<u8>, dot: Dot) {
    out.extend(dot.actor.0.to_le_bytes());
    put_varint(out, dot.seq);
}

/// Bytes `at..at + N` as an array.
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A length as the number that is stored.
pub(super) fn to_u64(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits 64 bits")
}

/// A stored length as one of this machine.
pub(super) fn to_usize(length: u64) -> usize {
    usize::try_from(length).expect("what is in memory fits the address space")
}
