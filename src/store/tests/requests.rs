//! What a start finds of requests, through compactions and sidecars.

use super::disk::MemoryDisk;
use super::node::{Node, config};
use crate::api::RequestId;
use crate::hash::Key;
use crate::limits::REQUEST_MEMORY_MS;
use crate::marks;
use crate::shard::{REFUSED_BUCKET, Stamp};
use crate::store::FileName;

const SEGMENT_BYTES: u64 = 4096;

/// Puts a key as the request of this number.
fn put_named(node: &mut Node, key: &Key, id: u128) -> Stamp {
    let mut record = node.record(key, Some(b"a value"));
    let dot = record.dots[0];
    let stamp = Stamp { id: RequestId(id), at_ms: 5, dot, print: 77, existed: true };
    record.stamp = Some(stamp);
    node.put_records(vec![record]);
    node.settle();
    stamp
}

/// Writes until so many more segments were compacted.
fn churn(node: &mut Node, compactions: u64) {
    let wanted = node.log.status().compactions + compactions;
    for number in 0..1_000 {
        if node.log.status().compactions >= wanted {
            return;
        }
        node.put(&Key::plain(format!("filler {}", number % 3)), Some(&[7; 150]));
        // A scrub, once it is due, rests for some time after each slice.
        node.pass(20);
    }
    panic!("nothing is compacted: {:?}", node.log.status());
}

/// A named write that was overwritten, and the first segments with it compacted away.
fn compacted() -> (Node, Key, Stamp) {
    let mut node = Node::start(config(1, SEGMENT_BYTES), MemoryDisk::default(), 0);
    let key = Key::plain("named");
    let stamp = put_named(&mut node, &key, 9);
    node.put(&key, Some(b"another value"));
    churn(&mut node, 3);
    assert!(!node.disk.file_names().contains(&FileName::Segment(1)), "it is compacted");
    (node, key, stamp)
}

#[test]
fn a_request_is_known_after_a_restart_though_its_record_was_compacted_away() {
    let (mut node, key, stamp) = compacted();
    for _ in 0..3 {
        node = node.restart();
        assert!(node.damage.is_none());
        assert_eq!(node.stamps, [(key.token, stamp)]);
        assert_eq!(node.value(&key), Ok(Some(b"another value".to_vec())));
        // The stamp is moved on by the next compactions, and found by sidecars too.
        churn(&mut node, 3);
    }
}

#[test]
fn a_request_whose_memory_is_over_is_kept_no_longer() {
    let (mut node, ..) = compacted();
    for _ in 0..3 {
        node.pass(REQUEST_MEMORY_MS);
        churn(&mut node, 2);
    }
    // Nothing that is compacted now can be as old as the request, so it was let go of before.
    let cold = node.log.segments.values().filter(|held| held.segment.cold).count();
    node.pass(20);
    let mut node = node.restart();
    assert_eq!(node.stamps, [], "{cold} cold segments");
    assert_eq!(node.value(&Key::plain("named")), Ok(Some(b"another value".to_vec())));
}

#[test]
fn a_note_that_a_request_is_not_led_goes_through_a_sidecar_and_a_restart() {
    let mut settings = config(2, SEGMENT_BYTES);
    settings.cache_bytes = 0;
    let mut node = Node::start(settings, MemoryDisk::default(), 0);
    let note = |name: &str| {
        let key = Key::plain(String::from(name));
        let bytes = [&9_u128.to_be_bytes()[..], &key.bytes].concat().into();
        Key { token: key.token, bucket: REFUSED_BUCKET, bytes }
    };
    let (stays, ended) = (note("refused"), note("refused before"));
    for key in [&stays, &ended] {
        let record = node.bare_record(key);
        node.put_records(vec![record]);
    }
    node.put(&ended, None);
    for number in 0..60 {
        node.put(&Key::plain(format!("key {number}")), Some(&[7; 150]));
        node.settle();
    }
    assert!(node.disk.file_names().contains(&FileName::Sidecar(1)));
    marks::take();
    let mut node = node.restart();
    assert!(marks::take().hit().any(|mark| mark == "a start went by a sidecar"));
    assert_eq!(node.refused, std::slice::from_ref(&stays));
    churn(&mut node, 3);
    let node = node.restart();
    assert_eq!(node.refused, [stays]);
}
