//! Layouts and records as they arrive from outside: what is not sound is refused, never believed.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::super::{Cluster, ClusterId, Layout, Role};
use super::world::settings;
use crate::causality::NodeId;
use crate::time::{Mono, Now};

fn layout(nodes: usize, partitions: u16) -> Layout {
    let roles: BTreeMap<NodeId, Role> = (0..nodes)
        .map(|index| (settings(index, &[]).node(), settings(index, &[]).role()))
        .collect();
    Layout::born(ClusterId([7; 16]), partitions, 3, roles)
}

fn decoded(layout: &Layout) -> Result<Layout, postcard::Error> {
    postcard::from_bytes(&postcard::to_stdvec(layout).unwrap())
}

/// A change that makes a layout unsound, and its name.
type Damage = (&'static str, fn(&mut Layout));

#[test]
fn a_layout_travels_in_a_compact_form() {
    let sound = layout(5, 1_024);
    assert_eq!(decoded(&sound).unwrap(), sound);
    let bytes = postcard::to_stdvec(&sound).unwrap();
    assert!(bytes.len() < 5_000, "{} bytes", bytes.len());
}

#[test]
fn an_unsound_layout_is_not_decoded() {
    let damages: [Damage; 9] = [
        ("epoch 0", |layout| layout.epoch = 0),
        ("a ring of three", |layout| {
            layout.partitions = 3;
            layout.table.truncate(3);
        }),
        ("no replicas", |layout| layout.replicas = 0),
        ("rows are missing", |layout| layout.table.truncate(1)),
        ("a row is empty", |layout| layout.table[0].clear()),
        ("a row names a node twice", |layout| {
            let first = layout.table[0][0];
            layout.table[0][1] = first;
        }),
        ("nobody votes", |layout| layout.voters.clear()),
        ("two nodes share a name", |layout| {
            for role in layout.roles.values_mut() {
                role.name = String::from("n");
            }
        }),
        ("an id is not that of its key", |layout| {
            for role in layout.roles.values_mut() {
                role.public_key[31] ^= 1;
            }
        }),
    ];
    for (name, damage) in damages {
        let mut layout = layout(3, 16);
        damage(&mut layout);
        assert!(decoded(&layout).is_err(), "{name}");
    }
}

#[test]
fn cut_and_flipped_layouts_never_panic() {
    let bytes = postcard::to_stdvec(&layout(3, 16)).unwrap();
    for length in 0..bytes.len() {
        let _ = postcard::from_bytes::<Layout>(&bytes[..length]);
    }
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 0x55;
        let _ = postcard::from_bytes::<Layout>(&flipped);
    }
}

#[test]
fn voters_come_from_as_many_zones_as_there_are() {
    let layout = layout(30, 16);
    assert_eq!(layout.voters.len(), 7);
    for zone in ["z0", "z1", "z2"] {
        let of_zone = layout.voters.iter().filter(|id| layout.roles[id].zone == zone).count();
        assert!((2..=3).contains(&of_zone), "{of_zone} voters in {zone}");
    }
}

fn refusal(slot: u8, body: &'static [u8]) -> String {
    let now = Now { mono: Mono(0), unix_ms: 0 };
    let records = BTreeMap::from([(slot, Bytes::from_static(body))]);
    Cluster::new(settings(0, &[]), &records, now).unwrap_err().to_string()
}

#[test]
fn records_that_cannot_be_read_are_refused_in_words() {
    assert!(refusal(0, &[2, 1]).starts_with("newer_format"));
    assert!(refusal(9, &[1, 1]).starts_with("newer_format"));
    assert!(refusal(16, &[1, 1, 2, 3]).starts_with("control_record_damaged"));
    assert!(refusal(0, &[]).starts_with("newer_format"));
}
