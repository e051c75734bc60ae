//! Words for what a run was made of and came to.

use std::collections::BTreeSet;

use crate::sim::faults::{
    Astray, ClientFault, Death, DiskFault, Fault, LinkFault, NodeFault, Rotting,
};
use crate::sim::options::Options;
use crate::sim::run::Outcome;

/// Most pairs that are named one by one.
const PAIRS_MAX: usize = 4;

/// Which lanes cannot talk: `n1 n2 | n3` where the network falls into parts, else pair by pair.
pub(super) fn cut_in_words(
    pairs: &[(usize, usize)],
    nodes: &BTreeSet<usize>,
    name: impl Fn(usize) -> String,
) -> String {
    let is_cut = |one, other| pairs.contains(&(one, other)) && pairs.contains(&(other, one));
    let mut parts: Vec<Vec<usize>> = Vec::new();
    for node in nodes {
        match parts.iter_mut().find(|part| part.iter().all(|other| !is_cut(*node, *other))) {
            Some(part) => part.push(*node),
            None => parts.push(vec![*node]),
        }
    }
    let crossing: usize = parts.iter().map(|part| part.len() * (nodes.len() - part.len())).sum();
    if parts.len() > 1 && crossing == pairs.len() {
        let parts: Vec<String> = parts
            .into_iter()
            .map(|part| part.into_iter().map(&name).collect::<Vec<_>>().join(" "))
            .collect();
        return parts.join(" | ");
    }
    if pairs.len() > 2 * PAIRS_MAX {
        return format!("{} directions cut", pairs.len());
    }
    let named = pairs.iter().filter_map(|&(from, to)| match (is_cut(from, to), from < to) {
        (true, true) => Some(format!("{} x {}", name(from), name(to))),
        (true, false) => None,
        (false, _) => Some(format!("{} -x-> {}", name(from), name(to))),
    });
    named.collect::<Vec<_>>().join(", ")
}

/// What the world was made of; what was left out of it is not named.
pub(super) fn options_in_words(options: &Options) -> Vec<(&'static str, String)> {
    let (network, disk) = (&options.network, &options.disk);
    let mut words = vec![
        ("nodes", options.nodes.to_string()),
        ("copies", options.replicas.to_string()),
        ("shards", options.shards.to_string()),
        ("partitions", options.partitions.to_string()),
        ("time", span(options.duration_us)),
        ("delay", format!("{} to {}", span(network.delay_min_us), span(network.delay_max_us))),
    ];
    let chances = [
        ("loss", network.loss),
        ("doubled", network.duplicate),
        ("stragglers", network.straggler),
        ("corrupted", network.corrupt),
        ("failed writes", disk.write_error),
        ("failed syncs", disk.sync_error),
    ];
    for (name, chance) in chances.into_iter().filter(|(_, chance)| *chance > 0) {
        words.push((name, format!("{}.{:02} %", chance / 10_000, chance % 10_000 / 100)));
    }
    let rates = [
        ("crash every", options.crash_every_us),
        ("power loss every", options.power_every_us),
        ("partition every", options.partition_every_us),
        ("pause every", options.pause_every_us),
        ("clock jump every", options.clock_every_us),
        ("bit rot every", options.rot_every_us),
        ("disk error every", options.disk_error_every_us),
        ("write astray every", options.astray_every_us),
        ("full disk every", options.disk_full_every_us),
        ("slow disk every", options.slow_disk_every_us),
        ("half request every", options.client_every_us),
    ];
    for (name, every_us) in rates.into_iter().filter(|(_, every_us)| *every_us > 0) {
        words.push((name, span(every_us)));
    }
    if let Some(bug) = options.planted {
        words.push(("planted bug", bug.name().to_owned()));
    }
    words
}

/// A fault in words, without the nodes that it is about.
pub(super) fn fault_in_words(fault: &Fault) -> String {
    match fault {
        Fault::Pause(_, span_us) => format!("stands still for {}", span(*span_us)),
        Fault::Clock(_, jump_ms) if jump_ms.abs() < 1_000 => format!("wall clock {jump_ms:+} ms"),
        Fault::Clock(_, jump_ms) => format!("wall clock {:+} s", jump_ms / 1_000),
        Fault::Disk(_, fault) => disk_fault_in_words(fault),
        Fault::Link(_, _, LinkFault::Clog(span_us)) => format!("clogged for {}", span(*span_us)),
        Fault::Link(_, _, LinkFault::CutShort) => String::from("the next message is cut short"),
        Fault::Node(_, fault) => node_fault_in_words(*fault),
        Fault::Client(client, ClientFault::HalfRequest) => {
            format!("client {client} breaks off its next request")
        }
        Fault::Client(client, ClientFault::Silence) => {
            format!("client {client} falls silent in its next request")
        }
        Fault::Start(_)
        | Fault::Crash(_)
        | Fault::PowerLoss(_)
        | Fault::Partition(_)
        | Fault::OneWay(..)
        | Fault::Heal => format!("{fault:?}"),
    }
}

fn node_fault_in_words(fault: NodeFault) -> String {
    match fault {
        NodeFault::Slow { factor, span_us } => {
            format!("{factor} times as slow for {}", span(span_us))
        }
        NodeFault::Drift(ppm) => format!("wall clock gains {ppm:+} ms in 1,000 s"),
        NodeFault::Freeze(span_us) => format!("wall clock stands still for {}", span(span_us)),
        NodeFault::Reshard(shards) => format!("starts anew with {shards} shards"),
        NodeFault::Wipe => String::from("its directory is emptied"),
        NodeFault::Backup => String::from("its directory is copied"),
        NodeFault::Restore => String::from("its directory is that of the copy"),
        NodeFault::Clone(of) => format!("runs from a copy of the directory of n{}", of + 1),
    }
}

fn disk_fault_in_words(fault: &DiskFault) -> String {
    match fault {
        DiskFault::Rot(Rotting::Sector) => String::from("a sector is zeros"),
        DiskFault::Rot(
            Rotting::Anywhere
            | Rotting::Record
            | Rotting::Newest
            | Rotting::Header
            | Rotting::Sealed,
        ) => String::from("a bit rots"),
        DiskFault::Death(Death { after, has_no_power, .. }) => {
            let how = if *has_no_power { "loses power" } else { "dies" };
            format!("{how} once {after} names have changed")
        }
        DiskFault::Error(number) => format!("disk fails, in {number} operations"),
        DiskFault::Astray(Astray::Lost) => String::from("the next write is lost"),
        DiskFault::Astray(Astray::Misdirected) => String::from("the next write goes astray"),
        DiskFault::LoseFile => String::from("a segment is gone"),
        DiskFault::Full { span_us, .. } => format!("disk full for {}", span(*span_us)),
        DiskFault::Slow { span_us, .. } => format!("disk slow for {}", span(*span_us)),
        DiskFault::Stuck(span_us) => format!("disk stuck for {}", span(*span_us)),
    }
}

/// What happened, by numbers.
pub(super) fn tally_in_words(outcome: &Outcome) -> Vec<(&'static str, u64)> {
    let tally = &outcome.tally;
    vec![
        ("events", tally.events),
        ("operations", tally.operations),
        ("ok", tally.ok),
        ("refused", tally.refused),
        ("unknown", tally.unknown),
        ("messages", tally.messages),
        ("violations", outcome.violations.len() as u64),
    ]
}

/// A length of time in words.
pub(super) fn span(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        1_000_000.. => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}
