//! Sidecars and the scrub: a start that reads less finds the same, and rot is found unread.

use super::disk::MemoryDisk;
use super::node::{Node, config};
use crate::hash::Key;
use crate::marks;
use crate::shard::Lookup;
use crate::store::FileName;
use crate::time::Now;

const SEGMENT_BYTES: u64 = 4096;
const BY_SIDECAR: &str = "a start went by a sidecar";
const NOT_BELIEVED: &str = "a sidecar was not believed";

fn key(number: usize) -> Key {
    Key::plain(format!("key {number}"))
}

/// A node with some full segments, each with its sidecar, that hold records of every kind.
fn filled() -> Node {
    let mut settings = config(2, SEGMENT_BYTES);
    settings.cache_bytes = 0;
    let mut node = Node::start(settings, MemoryDisk::default(), 0);
    node.put_control(crate::shard::Seq(1), 3, b"a promise");
    for number in 0..120 {
        node.put(&key(number), Some(format!("value {number}").as_bytes()));
        if number % 4 == 3 {
            node.put(&key(number - 1), None);
            let bare = node.bare_record(&key(number - 2));
            node.put_records(vec![bare]);
        }
        node.settle();
    }
    let status = node.log.status();
    assert!(status.segments > 3 && status.sidecars > 2, "{status:?}");
    assert_eq!(status.sidecars_due, 0);
    node
}

fn sidecars(node: &Node) -> Vec<FileName> {
    let names = node.disk.file_names().into_iter();
    names.filter(|name| matches!(name, FileName::Sidecar(_))).collect()
}

/// Everything that two nodes know is the same.
fn check_equal(one: &mut Node, other: &mut Node) {
    assert!(other.damage.is_none(), "{:?}", other.damage);
    assert_eq!(one.scan(), other.scan());
    assert_eq!(one.clocks, other.clocks);
    assert_eq!(one.control, other.control);
    assert_eq!(one.recovered_lsn, other.recovered_lsn);
    for (one, other) in one.log.segments.values().zip(other.log.segments.values()) {
        let figures = |held: &crate::store::log::Held| (held.number(), held.end, held.live);
        assert_eq!(figures(one), figures(other));
    }
}

#[test]
fn a_start_by_sidecars_finds_what_a_start_by_segments_finds() {
    let node = filled();
    let mut bare = node.disk.clone();
    for name in sidecars(&node) {
        bare.lose_file(name);
    }
    marks::take();
    let mut scanned = Node::start(node.config.clone(), bare, 1);
    assert!(marks::take().hit().all(|mark| mark != BY_SIDECAR));
    let mut recalled = Node::start(node.config.clone(), node.disk.clone(), 1);
    assert!(marks::take().hit().any(|mark| mark == BY_SIDECAR));
    check_equal(&mut scanned, &mut recalled);
    assert_eq!(sidecars(&scanned), sidecars(&recalled), "missing ones are made again");
}

#[test]
fn no_bit_of_a_sidecar_is_believed_when_it_is_wrong() {
    let node = filled();
    let name = sidecars(&node)[0];
    let length = node.disk.bytes(name).len();
    let mut whole = Node::start(node.config.clone(), node.disk.clone(), 1);
    for offset in (0..length).step_by(7) {
        let mut disk = node.disk.clone();
        disk.damage(name, |bytes| bytes[offset] ^= 1 << (offset % 8));
        marks::take();
        let mut other = Node::start(node.config.clone(), disk, 1);
        assert!(marks::take().hit().any(|mark| mark == NOT_BELIEVED), "byte {offset}");
        check_equal(&mut whole, &mut other);
    }
    for length in [0, 1, 4, 79, 80, 90, length - 1] {
        let mut disk = node.disk.clone();
        disk.damage(name, |bytes| bytes.truncate(length));
        let mut other = Node::start(node.config.clone(), disk, 1);
        check_equal(&mut whole, &mut other);
    }
}

#[test]
fn a_sidecar_of_another_segment_or_of_a_past_one_is_not_believed() {
    let node = filled();
    let names = sidecars(&node);
    let mut whole = Node::start(node.config.clone(), node.disk.clone(), 1);
    let other = node.disk.bytes(names[1]).to_vec();
    let mut disk = node.disk.clone();
    disk.damage(names[0], |bytes| *bytes = other);
    let mut swapped = Node::start(node.config.clone(), disk, 1);
    check_equal(&mut whole, &mut swapped);
    // The same number, but of a file that was there before: only the salt tells.
    let mut disk = node.disk.clone();
    disk.damage(names[0], |bytes| {
        bytes[32] ^= 1;
        let body = bytes.len() - 4;
        let crc = crc32c::crc32c(&bytes[..body]).to_le_bytes();
        bytes[body..].copy_from_slice(&crc);
    });
    let mut past = Node::start(node.config.clone(), disk, 1);
    check_equal(&mut whole, &mut past);
}

/// A segment that is shorter than its sidecar says is read, and what is missing is damage.
#[test]
fn a_sidecar_does_not_stand_for_a_segment_that_was_cut_short() {
    let node = filled();
    let FileName::Sidecar(number) = sidecars(&node)[0] else { unreachable!("it is a sidecar") };
    let mut disk = node.disk.clone();
    disk.damage(FileName::Segment(number), |bytes| bytes.truncate(1_000));
    let cut = Node::start(node.config.clone(), disk, 1);
    assert!(!cut.damage.is_none());
}

#[test]
fn a_sidecar_goes_with_its_segment() {
    let mut node = Node::start(config(1, SEGMENT_BYTES), MemoryDisk::default(), 0);
    for number in 0..300 {
        node.put(&key(number % 3), Some(&[7; 150]));
        node.settle();
    }
    assert!(node.log.status().compactions > 3);
    let held = |number| node.log.segments.contains_key(&number);
    for name in sidecars(&node) {
        assert!(matches!(name, FileName::Sidecar(number) if held(number)), "{name}");
    }
}

fn wait_for_scrubs(node: &mut Node, scrubs: u64) {
    for _ in 0..10_000 {
        if node.log.status().scrubs >= scrubs {
            return;
        }
        node.pass(if node.log.deadline().is_some_and(|at| at < node.now.mono) { 1 } else { 500 });
    }
    panic!("no scrub in {:?}: {:?}", node.now, node.log.status());
}

#[test]
fn rot_is_found_without_a_read_and_its_key_answers_unknown() {
    let mut node = filled();
    wait_for_scrubs(&mut node, 1);
    assert_eq!(node.log.status().damaged_regions, 0);
    let FileName::Sidecar(number) = sidecars(&node)[0] else { unreachable!("it is a sidecar") };
    let file = FileName::Segment(number);
    let place = node.disk.bytes(file).windows(7).position(|bytes| bytes == b"value 0");
    let place = place.expect("the first value is in the first segment");
    node.disk.damage(file, |bytes| bytes[place] ^= 0x10);
    let before = node.scan().len();
    wait_for_scrubs(&mut node, 3);
    let status = node.log.status();
    assert_eq!(status.damaged_regions, 1, "it is reported once");
    assert!(node.notices.iter().any(|line| line.contains("damage")), "{:?}", node.notices);
    assert_eq!(node.glance(&key(0)), Lookup::Unknown, "nothing was read for it");
    assert_eq!(node.value(&key(4)), Ok(Some(b"value 4".to_vec())));
    assert_eq!(node.scan().len(), before);
    node.put(&key(0), Some(b"healed"));
    node.settle();
    assert_eq!(node.value(&key(0)), Ok(Some(b"healed".to_vec())));
}

#[test]
fn a_bit_that_is_misread_once_is_no_damage() {
    let mut node = filled();
    let FileName::Sidecar(number) = sidecars(&node)[0] else { unreachable!("it is a sidecar") };
    let now = Now { mono: node.now.mono.plus_ms(61_000), ..node.now };
    node.now = now;
    node.disk.damage(FileName::Segment(number), |bytes| bytes[200] ^= 1);
    node.log.pump(node.now, &mut node.disk);
    let (id, result) = node.disk.complete(&mut node.rng).expect("the scrub reads");
    node.disk.damage(FileName::Segment(number), |bytes| bytes[200] ^= 1);
    node.log.on_io(node.now, id, result);
    wait_for_scrubs(&mut node, 1);
    assert_eq!(node.log.status().damaged_regions, 0);
}
