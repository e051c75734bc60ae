//! The name of one operation of a client: the same at every try of it, at whatever node.
//!
//! An id that begins with the time at which it was made (version 7 of the UUIDs, RFC 9562) lets a
//! node tell whether it would still remember it. Ids that nodes make in the place of clients have a
//! form of their own: nobody can have sent one before, so nodes do not remember them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Expiry, Op};
use crate::hash::{Fingerprint, Key};

/// The name that a client, or the coordinator in its place, gives to one operation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RequestId(pub u128);

/// How ids that a node made begin.
const OF_NODE: u128 = 0xffff << 112;
/// Where the version of a UUID stands, and its variant.
const VERSION_SHIFT: u32 = 76;
const VARIANT_SHIFT: u32 = 62;
/// Versions: made of a time, and of the owner's own making.
const OF_TIME: u128 = 7;
const OF_OWNER: u128 = 8;
const VARIANT: u128 = 0b10;

impl RequestId {
    /// An id that a node makes for a request whose client gave none.
    pub fn of_node(random: u128) -> Self {
        Self(with_version(random, OF_OWNER) | OF_NODE)
    }

    /// An id made at this time; the low 74 bits of `random` make it unique.
    pub fn of_time(unix_ms: u64, random: u128) -> Self {
        let time = u128::from(unix_ms) << 80;
        Self(with_version(time | random & (u128::MAX >> 48), OF_TIME))
    }

    /// Whether a client gave it, so that the same may come again.
    pub fn is_given(self) -> bool {
        self.0 != 0 && !(self.0 & OF_NODE == OF_NODE && self.is_version(OF_OWNER))
    }

    /// When it was made by the clock of its client, if it says.
    pub fn unix_ms(self) -> Option<u64> {
        let time = u64::try_from(self.0 >> 80).expect("48 bits of 128 fit 64");
        self.is_version(OF_TIME).then_some(time)
    }

    /// The id that clients write so: 32 hexadecimal digits, not all zero, with or without the
    /// hyphens of a UUID.
    pub fn from_text(text: &str) -> Option<Self> {
        let is_uuid = text.len() == 36
            && text.bytes().enumerate().all(|(at, byte)| (byte == b'-') == HYPHENS.contains(&at));
        let digits = if is_uuid { text.replace('-', "") } else { String::from(text) };
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let id = u128::from_str_radix(&digits, 16).ok()?;
        (id != 0).then_some(Self(id))
    }

    /// What a sibling keeps of it: both halves, folded; 0 only for no id.
    pub fn mark(self) -> u64 {
        if self.0 == 0 {
            return 0;
        }
        let [high, low] = [self.0 >> 64, self.0 & u128::from(u64::MAX)];
        u64::try_from(high ^ low).expect("half of 128 bits is 64 bits").max(1)
    }

    fn is_version(self, version: u128) -> bool {
        self.0 >> VERSION_SHIFT & 0xf == version && self.0 >> VARIANT_SHIFT & 0b11 == VARIANT
    }
}

/// Where the hyphens of a UUID stand.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

fn with_version(bits: u128, version: u128) -> u128 {
    let rest = bits & !(0xf << VERSION_SHIFT | 0b11 << VARIANT_SHIFT);
    rest | version << VERSION_SHIFT | VARIANT << VARIANT_SHIFT
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Op {
    /// What tells this write of one key from another one under the same id; 0 for anything else.
    /// What the writer has seen does not count: a retry on another connection may know more. Nor
    /// does the key of a delete, because one command deletes several keys under one id.
    pub fn print(&self) -> u64 {
        match self {
            Self::Put { key, value, context: _, expiry } => {
                let mut print = Fingerprint::default();
                add(&mut print, key, value);
                add_expiry(&mut print, *expiry);
                print.finish() & !SEVERAL_KEYS
            }
            Self::Delete { .. } => SEVERAL_KEYS,
            Self::Get { .. }
            | Self::Batch { .. }
            | Self::Scan(_)
            | Self::Count { .. }
            | Self::Explain { .. }
            | Self::Outcome { .. }
            | Self::Conflicts { .. } => 0,
        }
    }
}

/// Set in the print of a request that may have more keys than one.
const SEVERAL_KEYS: u64 = 1;

/// What tells one key of a batch from another one under the same id. When it ends does not count:
/// who writes a batch in parts says that in another way than its client.
pub fn print_of_part(key: &Key, value: &[u8]) -> u64 {
    let mut print = Fingerprint::default();
    add(&mut print, key, value);
    print.finish() | SEVERAL_KEYS
}

/// Whether the request of this print may have more keys, under the same id.
pub fn may_have_more_keys(print: u64) -> bool {
    print & SEVERAL_KEYS != 0
}

fn add(print: &mut Fingerprint, key: &Key, value: &[u8]) {
    print.add(&key.bucket.0.to_le_bytes());
    print.add(&key.bytes);
    print.add(value);
}

fn add_expiry(print: &mut Fingerprint, expiry: Expiry) {
    let (kind, ms) = match expiry {
        Expiry::Never => return,
        Expiry::Kept => (1, 0),
        Expiry::After(ms) => (2, ms),
        Expiry::At(ms) => (3, ms),
    };
    print.add(&[kind]);
    print.add(&ms.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::api::WriteContext;

    #[test]
    fn an_id_is_written_as_hexadecimal_digits_or_as_a_uuid() {
        let id = RequestId(0x0197_7a53_4b7c_7def_8123_4567_89ab_cdef);
        let text = "01977a53-4b7c-7def-8123-456789abcdef";
        assert_eq!(RequestId::from_text(text), Some(id));
        assert_eq!(RequestId::from_text(&id.to_string()), Some(id));
        assert_eq!(RequestId::from_text(&text.to_uppercase()), Some(id));
        let zero = "0".repeat(32);
        for wrong in ["", "short", &zero, "01977a53-4b7c7-def-8123-456789abcdef", &"+".repeat(32)] {
            assert_eq!(RequestId::from_text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_id_tells_when_it_was_made_and_who_made_it() {
        let unix_ms = 1_750_000_000_123;
        for random in [0, 1, u128::MAX] {
            let timed = RequestId::of_time(unix_ms, random);
            assert_eq!(timed.unix_ms(), Some(unix_ms));
            assert!(timed.is_given());
            let made = RequestId::of_node(random);
            assert!(!made.is_given());
            assert_eq!(made.unix_ms(), None);
        }
        assert!(RequestId(u128::MAX).is_given());
        assert!(!RequestId(0).is_given());
        assert_eq!(RequestId(7 << 64).unix_ms(), None);
        assert_eq!(RequestId(0).mark(), 0);
        assert_eq!(RequestId(5 << 64 | 5).mark(), 1);
    }

    #[test]
    fn another_key_value_or_command_leaves_another_print() {
        let context = || WriteContext::Token(Bytes::from_static(b"seen"));
        let put = |key: &'static str, value: &'static str| Op::Put {
            key: Key::plain(key),
            value: Bytes::from(value),
            context: context(),
            expiry: Expiry::Never,
        };
        let delete = Op::Delete { key: Key::plain("k"), context: context() };
        let prints = [
            put("k", "v").print(),
            put("k", "w").print(),
            put("l", "v").print(),
            put("kv", "").print(),
            put("", "kv").print(),
            delete.print(),
            print_of_part(&Key::plain("k"), b"v"),
        ];
        for (index, print) in prints.iter().enumerate() {
            assert!(!prints[..index].contains(print), "{index}");
        }
        let (key, value) = (Key::plain("k"), Bytes::from_static(b"v"));
        let (context, expiry) = (WriteContext::Known, Expiry::Never);
        let again = Op::Put { key, value, context, expiry };
        assert_eq!(again.print(), put("k", "v").print());
        let Op::Put { key, value, context, .. } = again else { unreachable!() };
        let ends = Op::Put { key, value, context, expiry: Expiry::After(5) };
        assert_ne!(ends.print(), put("k", "v").print());
    }
}
