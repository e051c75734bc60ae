//! What every protocol checks before a request exists: the limits of keys, values and batches, the
//! words for levels, the text of context tokens.

use std::collections::BTreeSet;

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use crate::api::{BatchKind, Expiry, Fault, Level, Op, Session};
use crate::hash::{BucketId, Key};
use crate::limits::{BATCH_BYTES_MAX, BATCH_KEYS_MAX, CONTEXT_BYTES_MAX, KEY_BYTES_MAX};

/// The key of these bytes in the default bucket, if it is not too long.
pub(super) fn key(bytes: Bytes) -> Result<Key, Fault> {
    if bytes.len() > KEY_BYTES_MAX {
        return Err(Fault::KeyTooLarge { bytes: length(bytes.len()) });
    }
    Ok(Key::new(BucketId::default(), bytes))
}

/// The value, if it is not too long.
pub(super) fn value(bytes: Bytes, bytes_max: usize) -> Result<Bytes, Fault> {
    if bytes.len() > bytes_max {
        return Err(Fault::ValueTooLarge { bytes: length(bytes.len()), max: length(bytes_max) });
    }
    Ok(bytes)
}

/// The batch of these items, if they are not too many. Of several values for one key the last one
/// counts, as if they had been set one after the other.
pub(super) fn batch(
    mut items: Vec<(Key, Bytes)>,
    expiry: Expiry,
    kind: BatchKind,
) -> Result<Op, Fault> {
    let bytes = items.iter().map(|(key, value)| key.bytes.len() + value.len()).sum();
    if items.len() > BATCH_KEYS_MAX || bytes > BATCH_BYTES_MAX {
        return Err(batch_too_large(items.len(), bytes));
    }
    let mut seen = BTreeSet::new();
    let mut last: Vec<bool> = items.iter().rev().map(|(key, _)| seen.insert(key)).collect();
    let distinct = seen.len();
    drop(seen);
    if distinct < items.len() {
        items.retain(|_| last.pop().expect("there is one mark for each item"));
    }
    Ok(Op::Batch { items, expiry, kind })
}

/// The level of this name.
pub(super) fn level(name: &str) -> Result<Level, Fault> {
    Level::from_name(name).ok_or_else(|| Fault::BadRequest {
        text: format!("{name:?} is no level; the levels are one, sloppy, quorum, strict, all"),
    })
}

/// The context token of this text. The empty one says "I have seen nothing".
pub(super) fn context(text: &[u8]) -> Result<Bytes, Fault> {
    if text.len() > CONTEXT_BYTES_MAX * 2 {
        let text = format!("the context token is longer than {CONTEXT_BYTES_MAX} bytes");
        return Err(Fault::BadContext { text });
    }
    from_base64(text).ok_or_else(|| Fault::BadContext {
        text: "the context token is not base64url, as reads return it".to_string(),
    })
}

/// Base64 in either alphabet, with or without padding.
pub(super) fn from_base64(text: &[u8]) -> Option<Bytes> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(false);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let decoded = if url_safe { URL_SAFE.decode(text) } else { STANDARD.decode(text) };
    decoded.ok().map(Bytes::from)
}

/// Tells the session which keys an operation writes.
pub(super) fn note_written(session: &mut Session, op: &Op) {
    match op {
        Op::Put { key, .. } | Op::Delete { key, .. } => session.note_written(key),
        Op::Batch { items, .. } => {
            for (key, _) in items {
                session.note_written(key);
            }
        }
        Op::Get { .. }
        | Op::Scan(_)
        | Op::Count { .. }
        | Op::Explain { .. }
        | Op::Outcome { .. }
        | Op::Conflicts { .. } => {}
    }
}

pub(super) fn batch_too_large(keys: usize, bytes: usize) -> Fault {
    Fault::BatchTooLarge { keys: length(keys), bytes: length(bytes) }
}

pub(super) fn length(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_values_for_one_key_the_last_one_counts() {
        let item = |key: &'static str, value: &'static str| {
            (Key::plain(key), Bytes::from_static(value.as_bytes()))
        };
        let items = vec![item("a", "1"), item("b", "2"), item("a", "3"), item("c", "4")];
        let expected = vec![item("b", "2"), item("a", "3"), item("c", "4")];
        let (expiry, kind) = (Expiry::After(5), BatchKind::Isolated);
        assert_eq!(batch(items, expiry, kind), Ok(Op::Batch { items: expected, expiry, kind }));
    }

    #[test]
    fn keys_values_and_batches_are_taken_up_to_their_limits() {
        assert!(key(vec![0; KEY_BYTES_MAX].into()).is_ok());
        assert!(matches!(key(vec![0; KEY_BYTES_MAX + 1].into()), Err(Fault::KeyTooLarge { .. })));
        assert!(value(vec![0; 10].into(), 10).is_ok());
        assert!(matches!(value(vec![0; 11].into(), 10), Err(Fault::ValueTooLarge { .. })));
        let many = |count: usize| {
            (0..count).map(|index| (Key::plain(index.to_string()), Bytes::new())).collect()
        };
        let batch = |items| batch(items, Expiry::Never, BatchKind::Any);
        assert!(batch(many(BATCH_KEYS_MAX)).is_ok());
        assert!(matches!(batch(many(BATCH_KEYS_MAX + 1)), Err(Fault::BatchTooLarge { .. })));
        let long = vec![(Key::plain("k"), Bytes::from(vec![0; BATCH_BYTES_MAX]))];
        assert!(matches!(batch(long), Err(Fault::BatchTooLarge { .. })));
    }
}
