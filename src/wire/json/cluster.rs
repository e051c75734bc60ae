//! What INFO, STATUS and RING show in JSON: this node, its cluster, the ring.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use crate::causality::NodeId;
use crate::cluster::{ClusterId, Layout, Phase};
use crate::wire::Facts;

/// What a member without partitions should know about itself.
const OWNS_NOTHING: &str = "this member owns no partitions: it joined after the birth of the \
    cluster, answers for every key through the owners, and stores none itself until partitions \
    can move";

/// INFO: this node in one flat object.
pub(super) fn put_info(out: &mut BytesMut, facts: &Facts<'_>) {
    let view = facts.view;
    let layout = view.layout.as_deref();
    let uptime_ms = facts.now.unix_ms.saturating_sub(facts.started_unix_ms);
    put(
        out,
        &json!({
            "ok": true,
            "node_id": view.name,
            "role": "peer",
            "term": layout.map_or(0, |layout| layout.epoch),
            "primary": null,
            "host": facts.host,
            "port": facts.port,
            "cluster_port": facts.cluster_port,
            "version": env!("CARGO_PKG_VERSION"),
            "id": view.me.to_string(),
            "cluster": layout.map(|layout| cluster_name(layout.cluster)),
            "members": layout.map_or(0, |layout| layout.roles.len()),
            "partitions_owned": layout.map_or(0, |layout| layout.owned_by(view.me)),
            "shards": facts.shards,
            "connections": facts.connections,
            "value_bytes_max": facts.config.value_bytes_max,
            "durability": facts.config.durability,
            "uptime_seconds": uptime_ms / 1_000,
            "memory": gauges(facts, "memory_"),
            "storage": gauges(facts, "storage_"),
        }),
    );
}

/// The figures whose names begin with `of`, without it; INFO over RESP has the same.
fn gauges(facts: &Facts<'_>, of: &str) -> Value {
    let named = facts.gauges.figures().filter_map(|(name, figure)| {
        Some((name.strip_prefix(of)?.to_owned(), Value::from(figure)))
    });
    Value::Object(named.collect())
}

/// What an operator should know of the store of this node.
fn storage_notes(facts: &Facts<'_>) -> Vec<String> {
    let figures: BTreeMap<&str, u64> = facts.gauges.figures().collect();
    let figure = |name: &str| figures.get(name).copied().unwrap_or(0);
    let mut notes = Vec::new();
    if figure("storage_full") > 0 {
        notes.push("the disk is full: new values are refused until there is room".to_owned());
    }
    let damaged = figure("storage_damaged_places");
    if damaged > 0 {
        notes.push(format!(
            "the scrub found {damaged} damaged places since the start; the keys \
            there answer from other nodes"
        ));
    }
    if figure("storage_compacting") > 0 {
        let (files, live) = (figure("storage_file_bytes"), figure("storage_live_bytes"));
        notes.push(format!("a compaction is under way: {files} bytes in files, {live} live"));
    }
    notes
}

/// STATUS: the cluster as this node sees it.
pub(super) fn put_status(out: &mut BytesMut, facts: &Facts<'_>) {
    let view = facts.view;
    let (phase, detail) = match &view.phase {
        Phase::Unborn(detail) => ("unborn", Some(detail.as_str())),
        Phase::Member => ("member", None),
        Phase::Refused(detail) => ("refused", Some(detail.as_str())),
    };
    let layout = view.layout.as_deref();
    let owned = layout.map(|layout| layout.owned_by(view.me));
    let mut notes = storage_notes(facts);
    if owned == Some(0) {
        notes.insert(0, OWNS_NOTHING.to_owned());
    }
    notes.push("level sloppy behaves as quorum until fallback nodes exist".to_owned());
    put(
        out,
        &json!({
            "ok": true,
            "node": view.name,
            "id": view.me.to_string(),
            "phase": phase,
            "detail": detail,
            "cluster": layout.map(|layout| cluster_name(layout.cluster)),
            "epoch": layout.map_or(0, |layout| layout.epoch),
            "partitions": layout.map(|layout| layout.partitions),
            "replicas": layout.map(|layout| layout.replicas),
            "mints": view.actor.map(|actor| actor.to_string()),
            "memory": gauges(facts, "memory_"),
            "storage": gauges(facts, "storage_"),
            "members": members(facts),
            "notes": notes,
        }),
    );
}

fn members(facts: &Facts<'_>) -> Vec<Value> {
    let view = facts.view;
    let owned = |node: NodeId| view.layout.as_deref().map_or(0, |layout| layout.owned_by(node));
    let myself = json!({
        "name": view.name,
        "id": view.me.to_string(),
        "client_addr": format!("{}:{}", facts.host, facts.port),
        "cluster_addr": format!("{}:{}", facts.host, facts.cluster_port),
        "reachable": true,
        "since_ms": facts.started_unix_ms,
        "partitions": owned(view.me),
        "me": true,
    });
    let others = view.members.iter().map(|(id, member)| {
        json!({
            "name": member.name,
            "id": id.to_string(),
            "client_addr": member.client_addr,
            "cluster_addr": member.cluster_addr,
            "reachable": member.reachable,
            "since_ms": member.since_unix_ms,
            "partitions": owned(*id),
            "me": false,
        })
    });
    std::iter::once(myself).chain(others).collect()
}

/// RING: who owns what, neighbouring partitions of one row merged.
pub(super) fn put_ring(out: &mut BytesMut, facts: &Facts<'_>) {
    let Some(layout) = facts.view.layout.as_deref() else {
        return put(out, &json!({ "ok": true, "epoch": 0, "partitions": 0, "arcs": [] }));
    };
    let owners: Map<String, Value> = layout
        .roles
        .iter()
        .map(|(id, role)| {
            let share = json!({ "id": id.to_string(), "partitions": layout.owned_by(*id) });
            (role.name.clone(), share)
        })
        .collect();
    put(
        out,
        &json!({
            "ok": true,
            "epoch": layout.epoch,
            "partitions": layout.partitions,
            "replicas": layout.replicas,
            "owners": owners,
            "arcs": arcs(layout),
        }),
    );
}

fn arcs(layout: &Layout) -> Vec<Value> {
    let slots_each = usize::from(crate::hash::SLOTS) / layout.table.len().max(1);
    let mut arcs = Vec::new();
    let mut first = 0;
    for row in layout.table.chunk_by(|left, right| left == right) {
        let last = first + row.len() - 1;
        let names: Vec<&str> = row.first().map_or_else(Vec::new, |owners| {
            owners.iter().map(|owner| name_of(layout, *owner)).collect()
        });
        arcs.push(json!({
            "partitions": [first, last],
            "slots": [first * slots_each, (last + 1) * slots_each - 1],
            "owners": names,
        }));
        first = last + 1;
    }
    arcs
}

fn name_of(layout: &Layout, node: NodeId) -> &str {
    layout.roles.get(&node).map_or("?", |role| role.name.as_str())
}

fn cluster_name(cluster: ClusterId) -> String {
    cluster.0.iter().fold(String::new(), |mut name, byte| {
        write!(name, "{byte:02x}").expect("a string takes any text");
        name
    })
}

fn put(out: &mut BytesMut, object: &Value) {
    out.extend_from_slice(object.to_string().as_bytes());
}
