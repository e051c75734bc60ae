//! CLUSTER: the map by which cluster-aware clients go to an owner of a key in one hop.
//!
//! Rows of the layout become arcs of slots, neighbouring ones with one row merged. The first member
//! of a row that can be reached stands as master, the others behind it as replicas: whoever is sent
//! a request for one of its slots owns the key, and answers without a redirection. There are no
//! redirections at all, because every node answers for every key.
//!
//! Source: the Redis Cluster specification, and the replies of Redis 7.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::answer::Body;
use super::arguments::Arguments;
use super::commands::Command;
use super::describe;
use super::plan::{Refusal, not_an_integer};
use super::writer::Writer;
use crate::causality::NodeId;
use crate::cluster::{Layout, Phase};
use crate::hash::{SLOTS, slot};
use crate::wire::Facts;

/// What a CLUSTER command asks for.
pub(super) enum Asked {
    /// Something that this node knows by itself.
    Known(Body),
    /// The number of keys of a slot.
    CountKeys(u16),
    /// That many keys of a slot.
    Keys(u16, usize),
}

/// What CLUSTER shows of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    Slots,
    Shards,
    Nodes,
    Info,
    MyId,
}

/// Slots with one row, from the first to the last.
#[derive(Debug, PartialEq, Eq)]
struct Arc {
    first: u16,
    last: u16,
    /// Those that can be reached first, else in order of preference.
    row: Vec<NodeId>,
}

/// A member as clients see it.
struct Place {
    id: NodeId,
    host: String,
    port: u16,
    cluster_port: u16,
    is_me: bool,
    is_reachable: bool,
}

/// CLUSTER and its subcommands.
pub(super) fn ask(command: &'static Command, arguments: Arguments<'_>) -> Result<Asked, Refusal> {
    let body = match describe::subcommand(command, arguments)? {
        "slots" => Body::Map(Map::Slots),
        "shards" => Body::Map(Map::Shards),
        "nodes" => Body::Map(Map::Nodes),
        "info" => Body::Map(Map::Info),
        "myid" => Body::Map(Map::MyId),
        "keyslot" => Body::Number(i64::from(slot(arguments.at(2)))),
        "countkeysinslot" => return Ok(Asked::CountKeys(slot_of(arguments)?)),
        "getkeysinslot" => {
            let count = arguments.number(3).ok_or_else(not_an_integer)?;
            return Ok(Asked::Keys(slot_of(arguments)?, count));
        }
        _ => Body::Help(command),
    };
    Ok(Asked::Known(body))
}

fn slot_of(arguments: Arguments<'_>) -> Result<u16, Refusal> {
    let slot: u16 = arguments.number(2).ok_or_else(not_an_integer)?;
    if slot < SLOTS { Ok(slot) } else { Err(Refusal::Text(String::from("ERR Invalid slot"))) }
}

/// The reply that shows the layout.
pub(super) fn put(writer: &mut Writer<'_>, map: Map, facts: &Facts<'_>) {
    match map {
        Map::Slots => put_slots(writer, facts),
        Map::Shards => put_shards(writer, facts),
        Map::Nodes => writer.verbatim(&nodes(facts)),
        Map::Info => writer.verbatim(&info(facts)),
        Map::MyId => writer.bulk(name(facts.view.me).as_bytes()),
    }
}

/// Forty hexadecimal digits, as the names of nodes in Redis.
pub(super) fn name(node: NodeId) -> String {
    format!("{node}{:08x}", node.tag().0)
}

fn put_slots(writer: &mut Writer<'_>, facts: &Facts<'_>) {
    let places = places(facts);
    let arcs = arcs(facts);
    writer.array(arcs.len());
    for arc in &arcs {
        writer.array(2 + arc.row.len());
        writer.number(u64::from(arc.first));
        writer.number(u64::from(arc.last));
        for place in arc.row.iter().filter_map(|node| places.get(node)) {
            writer.array(3);
            writer.bulk(place.host.as_bytes());
            writer.number(u64::from(place.port));
            writer.bulk(name(place.id).as_bytes());
        }
    }
}

/// One entry for each different row, with all of its arcs.
fn put_shards(writer: &mut Writer<'_>, facts: &Facts<'_>) {
    let places = places(facts);
    let mut shards: BTreeMap<Vec<NodeId>, Vec<(u16, u16)>> = BTreeMap::new();
    for arc in arcs(facts) {
        shards.entry(arc.row).or_default().push((arc.first, arc.last));
    }
    writer.array(shards.len());
    for (row, arcs) in &shards {
        writer.map(2);
        writer.bulk(b"slots");
        writer.array(arcs.len() * 2);
        for &(first, last) in arcs {
            writer.number(u64::from(first));
            writer.number(u64::from(last));
        }
        writer.bulk(b"nodes");
        writer.array(row.len());
        for (index, place) in row.iter().filter_map(|node| places.get(node)).enumerate() {
            writer.map(7);
            put_text(writer, "id", &name(place.id));
            writer.bulk(b"port");
            writer.number(u64::from(place.port));
            put_text(writer, "ip", &place.host);
            put_text(writer, "endpoint", &place.host);
            put_text(writer, "role", if index == 0 { "master" } else { "replica" });
            writer.bulk(b"replication-offset");
            writer.number(0);
            put_text(writer, "health", if place.is_reachable { "online" } else { "fail" });
        }
    }
}

fn put_text(writer: &mut Writer<'_>, name: &str, text: &str) {
    writer.bulk(name.as_bytes());
    writer.bulk(text.as_bytes());
}

/// A line for each member. All are masters: who replicates whom differs from slot to slot, which
/// this form cannot say, so a slot stands with the first of its row.
fn nodes(facts: &Facts<'_>) -> String {
    let mut slots: BTreeMap<NodeId, String> = BTreeMap::new();
    // Neighbours may differ behind the first and have one line here.
    let arcs = arcs(facts);
    for run in arcs.chunk_by(|left, right| left.row.first() == right.row.first()) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let Some(&master) = first.row.first() else { continue };
        let text = slots.entry(master).or_default();
        let range = if first.first == last.last {
            format!(" {}", first.first)
        } else {
            format!(" {}-{}", first.first, last.last)
        };
        text.push_str(&range);
    }
    let epoch = facts.view.layout.as_deref().map_or(0, |layout| layout.epoch);
    let mut text = String::new();
    for place in places(facts).values() {
        let Place { host, port, cluster_port, .. } = place;
        let (flags, link) = match (place.is_me, place.is_reachable) {
            (true, _) => ("myself,master", "connected"),
            (false, true) => ("master", "connected"),
            (false, false) => ("master,fail", "disconnected"),
        };
        let slots = slots.get(&place.id).map_or("", String::as_str);
        let name = name(place.id);
        writeln!(text, "{name} {host}:{port}@{cluster_port} {flags} - 0 0 {epoch} {link}{slots}")
            .expect("a string takes any text");
    }
    text
}

/// `cluster_state` is `ok` while this node can serve a part of the slots: clients leave a node that
/// says otherwise, and the others may reach more than it does.
fn info(facts: &Facts<'_>) -> String {
    let layout = facts.view.layout.as_deref().filter(|_| facts.view.phase == Phase::Member);
    let rows = layout.map_or(&[][..], |layout| &layout.table);
    let slots_each = layout.map_or(0, slots_each);
    let served = rows
        .iter()
        .filter(|row| row.iter().filter(|&&node| facts.view.reaches(node)).count() > row.len() / 2);
    let served = served.count() * usize::from(slots_each);
    let assigned = rows.len() * usize::from(slots_each);
    let state = if served > 0 { "ok" } else { "fail" };
    let members = layout.map_or(1, |layout| layout.roles.len());
    let size = layout
        .map_or(0, |layout| layout.roles.keys().filter(|&&node| layout.owned_by(node) > 0).count());
    let epoch = layout.map_or(0, |layout| layout.epoch);
    format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
        cluster_slots_ok:{served}\r\ncluster_slots_pfail:0\r\n\
        cluster_slots_fail:{}\r\ncluster_known_nodes:{members}\r\ncluster_size:{size}\r\n\
        cluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\n",
        assigned - served
    )
}

fn arcs(facts: &Facts<'_>) -> Vec<Arc> {
    let Some(layout) = facts.view.layout.as_deref() else { return Vec::new() };
    let each = slots_each(layout);
    let mut arcs: Vec<Arc> = Vec::new();
    let mut first = 0;
    for row in &layout.table {
        let mut row = row.clone();
        // The sort is stable: those that can be reached keep their order.
        row.sort_by_key(|&node| !facts.view.reaches(node));
        let last = first + (each - 1);
        match arcs.last_mut() {
            Some(arc) if arc.row == row => arc.last = last,
            Some(_) | None => arcs.push(Arc { first, last, row }),
        }
        first = last + 1;
    }
    arcs
}

/// Slots of one partition.
fn slots_each(layout: &Layout) -> u16 {
    (SLOTS / layout.partitions.max(1)).max(1)
}

/// Every member of the layout.
fn places(facts: &Facts<'_>) -> BTreeMap<NodeId, Place> {
    let view = facts.view;
    let me = Place {
        id: view.me,
        host: facts.host.to_string(),
        port: facts.port,
        cluster_port: facts.cluster_port,
        is_me: true,
        is_reachable: true,
    };
    let mut places: BTreeMap<NodeId, Place> = view
        .members
        .iter()
        .map(|(&id, member)| {
            let (host, port) = parts(&member.client_addr);
            let (_, cluster_port) = parts(&member.cluster_addr);
            let host = host.to_string();
            let is_reachable = member.reachable;
            (id, Place { id, host, port, cluster_port, is_me: false, is_reachable })
        })
        .collect();
    places.insert(view.me, me);
    places
}

/// Host and port of HOST:PORT, an address of IPv6 without its brackets.
fn parts(addr: &str) -> (&str, u16) {
    let (host, port) = addr.rsplit_once(':').unwrap_or((addr, ""));
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    (bare.unwrap_or(host), port.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync;

    use super::*;
    use crate::cluster::{ClusterId, Member, Role};
    use crate::wire::testing::{ME, World};

    const MEMBERS: u8 = 5;

    /// A node of a cluster of five, each client's port ending with its number; the other nodes of
    /// `down` cannot be reached.
    fn world(partitions: u16, down: &[u8]) -> World {
        let id = |number: u8| if number == 1 { ME } else { NodeId([number; 16]) };
        let client_addr = |number: u8| format!("127.0.0.1:{}", 6_378 + u16::from(number));
        let cluster_addr = |number: u8| format!("127.0.0.1:{}", 7_378 + u16::from(number));
        let role = |number: u8| Role {
            name: format!("n{number}"),
            public_key: [number; 32],
            zone: format!("z{number}"),
            capacity: 100,
            cluster_addr: cluster_addr(number),
            client_addr: client_addr(number),
        };
        let roles = (1..=MEMBERS).map(|number| (id(number), role(number))).collect();
        let layout = Layout::born(ClusterId([7; 16]), partitions, 3, roles);
        let member = |number: u8| Member {
            name: format!("n{number}"),
            cluster_addr: cluster_addr(number),
            client_addr: client_addr(number),
            reachable: !down.contains(&number),
            since_unix_ms: 0,
        };
        let mut world = World::new();
        world.node().layout = Some(sync::Arc::new(layout));
        world.node().members = (2..=MEMBERS).map(|number| (id(number), member(number))).collect();
        world
    }

    /// What CLUSTER SLOTS says: for each arc its first and last slot and the ports of its row.
    fn slots(world: &mut World) -> Vec<(u16, u16, Vec<u16>)> {
        let answer = world.say("CLUSTER SLOTS\r\n");
        let mut lines = answer.split("\r\n").filter(|line| line.starts_with(['*', ':']));
        let mut number = |kind: char| -> usize {
            lines.next().and_then(|line| line.strip_prefix(kind)).unwrap().parse().unwrap()
        };
        let arcs = number('*');
        (0..arcs)
            .map(|_| {
                let nodes = number('*') - 2;
                let (first, last) = (number(':'), number(':'));
                let ports = (0..nodes).map(|_| {
                    assert_eq!(number('*'), 3);
                    number(':')
                });
                let ports = ports.map(|port| u16::try_from(port).unwrap()).collect();
                (u16::try_from(first).unwrap(), u16::try_from(last).unwrap(), ports)
            })
            .collect()
    }

    #[test]
    fn every_slot_is_shown_with_its_preference_list() {
        for partitions in [1, 64, 256] {
            let mut world = world(partitions, &[]);
            let layout = world.node().layout.clone().unwrap();
            let arcs = slots(&mut world);
            let port = |node: &NodeId| -> u16 {
                layout.roles[node].client_addr.rsplit_once(':').unwrap().1.parse().unwrap()
            };
            let mut next = 0;
            for (first, last, ports) in &arcs {
                assert_eq!(*first, next, "arcs follow one another");
                for slot in *first..=*last {
                    let (token, _) = crate::hash::Token::of_slot(slot);
                    let row = layout.row(token.partition(partitions));
                    assert_eq!(*ports, row.iter().map(port).collect::<Vec<_>>(), "slot {slot}");
                }
                next = last + 1;
            }
            assert_eq!(next, SLOTS);
            let merged = arcs.windows(2).all(|pair| pair[0].2 != pair[1].2);
            assert!(merged, "neighbouring arcs with one row are one");
        }
    }

    #[test]
    fn a_member_that_cannot_be_reached_stands_last() {
        let all = slots(&mut world(64, &[]));
        let arcs = slots(&mut world(64, &[2]));
        for (first, last, ports) in arcs {
            assert_ne!(ports[0], 6_380, "slots {first} to {last} are served by another owner");
            let row = all.iter().find(|arc| arc.0 <= first && last <= arc.1);
            let Some((_, _, row)) = row else { continue };
            let mut expected = row.clone();
            expected.sort_by_key(|&port| port == 6_380);
            assert_eq!(ports, expected);
        }
    }

    #[test]
    fn nodes_and_shards_cover_every_slot_once() {
        let mut world = world(64, &[3]);
        let text = world.say("CLUSTER NODES\r\n");
        let lines: Vec<&str> = text.lines().skip(1).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), usize::from(MEMBERS), "{text}");
        let mut covered = 0;
        for line in &lines {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(words[0].len(), 40, "{line}");
            for range in &words[8..] {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                covered += last.parse::<u32>().unwrap() - first.parse::<u32>().unwrap() + 1;
            }
        }
        assert_eq!(covered, u32::from(SLOTS));
        assert!(text.contains(" 127.0.0.1:6379@7379 myself,master - 0 0 1 connected "), "{text}");
        assert!(text.contains(" 127.0.0.1:6381@7381 master,fail - 0 0 1 disconnected\n"), "{text}");
        let shards = world.say("CLUSTER SHARDS\r\n");
        assert!(shards.contains("$4\r\nrole\r\n$6\r\nmaster\r\n"), "{shards}");
        assert!(shards.contains("$6\r\nhealth\r\n$4\r\nfail\r\n"), "{shards}");
    }

    #[test]
    fn a_node_says_whether_it_can_serve() {
        let whole = world(64, &[]).say("CLUSTER INFO\r\n");
        for line in ["state:ok", "slots_ok:16384", "slots_fail:0", "known_nodes:5", "size:5"] {
            assert!(whole.contains(&format!("cluster_{line}\r\n")), "{line} in {whole}");
        }
        let cut = world(64, &[2, 3, 4, 5]).say("CLUSTER INFO\r\n");
        assert!(cut.contains("cluster_state:fail\r\n"), "{cut}");
        let unborn = World::new().say("CLUSTER INFO\r\n");
        assert!(unborn.contains("cluster_state:fail\r\n"), "{unborn}");
        assert_eq!(World::new().say("CLUSTER SLOTS\r\n"), "*0\r\n");
        let me = world(64, &[]).say("CLUSTER MYID\r\n");
        assert_eq!(me, format!("$40\r\n{}\r\n", name(ME)));
    }

    #[test]
    fn the_keys_of_a_slot_are_counted_and_listed() {
        let mut world = World::new();
        world.say("MSET {t}a 1 {t}b 2 {t}c 3 other 4\r\n");
        let slot = slot(b"t");
        assert_eq!(world.say("CLUSTER KEYSLOT {t}a\r\n"), format!(":{slot}\r\n"));
        assert_eq!(world.say(&format!("CLUSTER COUNTKEYSINSLOT {slot}\r\n")), ":3\r\n");
        assert_eq!(world.say(&format!("CLUSTER COUNTKEYSINSLOT {}\r\n", slot + 1)), ":0\r\n");
        let two = world.say(&format!("CLUSTER GETKEYSINSLOT {slot} 2\r\n"));
        assert!(two.starts_with("*2\r\n$4\r\n{t}"), "{two}");
        assert_eq!(world.say(&format!("CLUSTER GETKEYSINSLOT {slot} 0\r\n")), "*0\r\n");
        for line in ["COUNTKEYSINSLOT 16384", "COUNTKEYSINSLOT x", "GETKEYSINSLOT 1", "MEET a 1"] {
            let answer = world.say(&format!("CLUSTER {line}\r\n"));
            assert!(answer.starts_with("-ERR "), "{line}: {answer}");
        }
    }

    #[test]
    fn an_address_falls_into_host_and_port() {
        assert_eq!(parts("127.0.0.1:6379"), ("127.0.0.1", 6_379));
        assert_eq!(parts("[::1]:6379"), ("::1", 6_379));
        assert_eq!(parts("node-1.example:1"), ("node-1.example", 1));
        assert_eq!(parts("odd"), ("odd", 0));
    }
}
