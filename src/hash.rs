//! Where a key lies: hash slot, token, partition; and the small checksums that need no crate.
//!
//! The slot is exactly that of Redis Cluster (CRC16/XMODEM of the hash tag or the key, modulo
//! 16,384), so cluster-aware clients find an owner by themselves. The token puts the slot first:
//! a partition is a run of neighbouring slots, and ring order is token order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Number of hash slots, as in Redis Cluster.
pub const SLOTS: u16 = 16_384;

/// A named set of keys with one policy; 0 is `default`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct BucketId(pub u32);

/// A point on the ring: 14 bits of slot, then 50 bits of hash.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Token(pub u64);

/// One of the Q arcs of the ring, numbered in token order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PartitionId(pub u16);

/// The first 8 bytes of SHA-256 over some parts, each behind its length.
#[derive(Clone, Debug, Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// Adds a part.
    pub fn add(&mut self, part: &[u8]) {
        self.0.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(part);
    }

    /// The sum of all parts, in order.
    pub fn finish(self) -> u64 {
        let whole = self.0.finalize();
        u64::from_le_bytes(*whole.first_chunk().expect("a SHA-256 digest has 32 bytes"))
    }
}

impl Token {
    /// The largest token.
    pub const MAX: Self = Self(u64::MAX);

    /// The partition that holds this token, where the ring has `partitions` of them.
    ///
    /// # Panics
    /// When `partitions` is not a power of two, which no layout holds.
    pub fn partition(self, partitions: u16) -> PartitionId {
        assert!(partitions.is_power_of_two(), "a ring has a power of two of partitions");
        let bits = partitions.trailing_zeros();
        let index = if bits == 0 { 0 } else { self.0 >> (64 - bits) };
        PartitionId(u16::try_from(index).expect("a partition number has at most 14 bits"))
    }

    /// First and last token of a hash slot.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn of_slot(slot: u16) -> (Self, Self) {
        assert!(slot < SLOTS, "a slot is one of the ring");
        let first = u64::from(slot) << 50;
        (Self(first), Self(first | (u64::MAX >> 14)))
    }

    /// The hash slot in front of this token.
    pub fn slot(self) -> u16 {
        u16::try_from(self.0 >> 50).expect("the first 14 bits of a token are its slot")
    }
}

impl PartitionId {
    /// First and last token of this partition, where the ring has `partitions` of them.
    pub fn tokens(self, partitions: u16) -> (Token, Token) {
        let bits = partitions.trailing_zeros();
        if bits == 0 {
            return (Token(0), Token::MAX);
        }
        let first = u64::from(self.0) << (64 - bits);
        (Token(first), Token(first | (u64::MAX >> bits)))
    }
}

/// A key with its place on the ring.
///
/// Ordered and compared by token first, so ordered collections of keys walk the ring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Where it lies.
    pub token: Token,
    /// The bucket that it belongs to.
    pub bucket: BucketId,
    /// The bytes that the client calls it by; may be empty.
    pub bytes: Bytes,
}

impl Key {
    /// The key `bytes` of `bucket`, placed on the ring.
    pub fn new(bucket: BucketId, bytes: Bytes) -> Self {
        Self { token: token(bucket, &bytes), bucket, bytes }
    }

    /// A key of the default bucket.
    pub fn plain(bytes: impl Into<Bytes>) -> Self {
        Self::new(BucketId::default(), bytes.into())
    }
}

/// The hash slot of a key: CRC16/XMODEM of the part in the first `{...}`, if that is not empty,
/// else of the whole key (Redis Cluster specification, "Hash tags").
pub fn slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOTS
}

/// The token of a key: slot (14 bits), then the first 50 bits of SHA-256(bucket as LE u32, key).
pub fn token(bucket: BucketId, key: &[u8]) -> Token {
    let digest = Sha256::new().chain_update(bucket.0.to_le_bytes()).chain_update(key).finalize();
    let head: [u8; 8] = digest[..8].try_into().expect("a SHA-256 digest has 32 bytes");
    Token(u64::from(slot(key)) << 50 | u64::from_be_bytes(head) >> 14)
}

/// A second, independent tag of a key: it tells keys of one token apart without reading them.
pub fn key_tag(key: &[u8]) -> u32 {
    let digest = Sha256::digest(key);
    let part: [u8; 4] = digest[8..12].try_into().expect("a SHA-256 digest has 32 bytes");
    u32::from_le_bytes(part)
}

/// CRC16/XMODEM: polynomial 0x1021, initial value 0, nothing reflected.
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        let index = usize::from((crc >> 8) as u8 ^ byte);
        (crc << 8) ^ CRC16_TABLE[index]
    })
}

/// SHA-256.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Whether two byte strings are equal, in a time that does not tell where they differ.
pub fn equal(left: &[u8], right: &[u8]) -> bool {
    let differing = left.iter().zip(right).fold(0, |bits, (left, right)| bits | (left ^ right));
    // Hidden from the optimiser, which could otherwise leave the loop at the first difference.
    left.len() == right.len() && std::hint::black_box(differing) == 0
}

fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|&byte| byte == b'{')?;
    let rest = &key[open + 1..];
    let length = rest.iter().position(|&byte| byte == b'}')?;
    (length > 0).then(|| &rest[..length])
}

const CRC16_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        let cases: [(&[u8], u16); 6] = [
            (b"", 0),
            (b"123456789", 12739),
            (b"foo", 12182),
            (b"{user1000}.following", slot(b"user1000")),
            (b"foo{}{bar}", crc16(b"foo{}{bar}") % SLOTS),
            (b"foo{{bar}}zap", slot(b"{bar")),
        ];
        for (key, expected) in cases {
            assert_eq!(slot(key), expected, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_token_begins_with_its_slot_and_partitions_tile_the_ring() {
        for name in ["a", "b", "user:1", ""] {
            let token = token(BucketId(0), name.as_bytes());
            assert_eq!(token.slot(), slot(name.as_bytes()));
            let (first, last) = Token::of_slot(token.slot());
            assert!(first <= token && token <= last);
            for partitions in [1, 2, 16, 1024, 16384] {
                let (first, last) = token.partition(partitions).tokens(partitions);
                assert!(first <= token);
                assert!(token <= last);
            }
        }
        assert_eq!(PartitionId(0).tokens(1), (Token(0), Token::MAX));
        assert_eq!(PartitionId(15).tokens(16).1, Token::MAX);
    }

    #[test]
    fn byte_strings_are_equal_when_every_byte_is() {
        assert!(equal(b"", b""));
        assert!(equal(b"ab", b"ab"));
        assert!(!equal(b"ab", b"aB"));
        assert!(!equal(b"ab", b"a"));
        assert!(!equal(b"", b"a"));
    }
}
