//! Which events of a run belong to a story.
//!
//! A question names its key and its answer does not, so the keys of answers are those of the
//! question that they belong to. What is left out where there are too many: the oldest events that
//! do not touch a version which the violation names.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use crate::causality::Dot;
use crate::hash::Key;
use crate::shard::message::CallId;
use crate::sim::facts::Facts;
use crate::sim::network::Place;
use crate::sim::run::Outcome;
use crate::sim::trace::{EventId, Lane, TraceEvent};

/// What a story is about.
#[derive(Clone, Debug)]
pub(super) struct Focus {
    /// The key.
    pub(super) key: Key,
    /// The event in which the oracle found it broken.
    pub(super) violation: Option<EventId>,
    /// The versions that the oracle names.
    pub(super) dots: BTreeSet<Dot>,
    /// For which keys they were minted.
    keys: BTreeSet<Key>,
    /// Their values, as questions write them.
    values: Vec<String>,
}

/// The events that are told, and how many are not.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    pub(super) ids: Vec<EventId>,
    pub(super) left_out: usize,
    /// The keys that are told of.
    pub(super) keys: BTreeSet<Key>,
}

impl Focus {
    /// The key of the first violation; of a run that held, the key that was put most often.
    pub(super) fn of(outcome: &Outcome, keys: &[Vec<Key>], names: &Names) -> Self {
        let events = outcome.trace.events();
        let found = (0..).zip(events).find(|(_, event)| event.kind == "violation");
        if let Some((index, event)) = found {
            let dots = names.named_in(&event.text);
            let named = event.keys.first().filter(|key| !key.bytes.is_empty()).cloned();
            let key = named
                .or_else(|| key_of_dots(events, &dots))
                .or_else(|| most_put(events, keys))
                .unwrap_or_else(|| Key::plain(""));
            let minted = minted_of(events, &dots);
            let keys = minted.iter().flat_map(|(event, _)| event.keys.clone()).collect();
            let values = minted.iter().filter_map(|(_, value)| value.clone()).collect();
            return Self { key, violation: Some(EventId(index)), dots, keys, values };
        }
        let key = most_put(events, keys).unwrap_or_else(|| Key::plain(""));
        let (dots, keys, values) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        Self { key, violation: None, dots, keys, values }
    }
}

fn key_of_dots(events: &[TraceEvent], dots: &BTreeSet<Dot>) -> Option<Key> {
    minted_of(events, dots).first().and_then(|(event, _)| event.keys.first().cloned())
}

/// Where these versions were minted, and with which values.
fn minted_of<'a>(
    events: &'a [TraceEvent],
    dots: &BTreeSet<Dot>,
) -> Vec<(&'a TraceEvent, Option<String>)> {
    let mut found = Vec::new();
    for event in events {
        if let Facts::Put { minted: Some(dot), held, .. } = &event.facts
            && dots.contains(dot)
        {
            let value = held.iter().find(|(held, _)| held == dot);
            found.push((event, value.map(|(_, value)| format!("={} ", value.escape_ascii()))));
        }
    }
    found
}

fn most_put(events: &[TraceEvent], keys: &[Vec<Key>]) -> Option<Key> {
    let mut puts: BTreeMap<&Key, usize> = BTreeMap::new();
    for (_, keys) in events.iter().zip(keys).filter(|(event, _)| event.kind == "put") {
        for key in keys {
            *puts.entry(key).or_default() += 1;
        }
    }
    puts.into_iter()
        .max_by_key(|(key, puts)| (*puts, std::cmp::Reverse(*key)))
        .map(|(key, _)| key)
        .cloned()
}

/// The keys that each event is about.
pub(super) fn keys_of(events: &[TraceEvent]) -> Vec<Vec<Key>> {
    let mut asked: BTreeMap<usize, Vec<Key>> = BTreeMap::new();
    let mut calls: BTreeMap<(Place, CallId), Vec<Key>> = BTreeMap::new();
    let mut found: Vec<Vec<Key>> = Vec::with_capacity(events.len());
    for event in events {
        let keys = match (&event.facts, event.lane) {
            (Facts::Asked { .. }, Lane::Client(client)) => {
                asked.insert(client, event.keys.clone());
                event.keys.clone()
            }
            (Facts::Answered { client, .. }, _) => asked.get(client).cloned().unwrap_or_default(),
            (Facts::Sent { to, parcel: Some(parcel), .. }, Lane::Node(place)) => {
                match parcel.call {
                    Some(call) if parcel.answers => {
                        calls.get(&(*to, call)).cloned().unwrap_or_default()
                    }
                    Some(call) => {
                        calls.insert((place, call), event.keys.clone());
                        event.keys.clone()
                    }
                    None => event.keys.clone(),
                }
            }
            (Facts::Arrived { .. }, _) => {
                event.cause.and_then(|sent| found.get(sent.0)).cloned().unwrap_or_default()
            }
            (Facts::Durable(puts), _) => {
                puts.iter().filter_map(|put| found.get(put.0)).flatten().cloned().collect()
            }
            _ => event.keys.clone(),
        };
        found.push(keys);
    }
    found
}

/// The events of a story of at most `rows_max` rows.
pub(super) fn select(
    events: &[TraceEvent],
    keys: &[Vec<Key>],
    focus: &Focus,
    born_us: u64,
    rows_max: usize,
) -> Selection {
    let end = focus.violation.map_or(events.len(), |violation| violation.0 + 1);
    let wanted = wanted(&events[..end], keys, focus, rows_max);
    let (mut must, mut may) = (Vec::new(), Vec::new());
    let mut vital = BTreeSet::new();
    // Clients that wait for what became of a version that the violation names.
    let mut writers = BTreeSet::new();
    for (index, event) in events.iter().enumerate().take(end) {
        let id = EventId(index);
        let is_told = match event.kind {
            "violation" => Some(id) == focus.violation,
            _ => keys[index].iter().any(|key| wanted.contains(key)) || befalls(event),
        };
        if !is_told {
            continue;
        }
        let writes = match (&event.facts, event.lane) {
            (Facts::Asked { .. }, Lane::Client(client)) => {
                let text = format!("{} ", event.text);
                let writes = focus.values.iter().any(|value| text.contains(value));
                writes && writers.insert(client)
            }
            (Facts::Answered { client, .. }, Lane::Client(_)) => writers.remove(client),
            _ => false,
        };
        let arrives = matches!(event.facts, Facts::Arrived { .. })
            && event.cause.is_some_and(|sent| vital.contains(&sent));
        if event.at_us < born_us {
            // How the cluster came to be is another story.
        } else if arrives || writes || befalls(event) || is_vital(&event.facts, focus) {
            vital.insert(id);
            must.push(id);
        } else {
            may.push(id);
        }
    }
    let told = must.len() + may.len();
    let newest_first = must.into_iter().rev().chain(may.into_iter().rev());
    let mut ids: Vec<EventId> = newest_first.take(rows_max).collect();
    ids.sort_unstable();
    let keys = wanted.into_iter().cloned().collect();
    Selection { left_out: told - ids.len(), ids, keys }
}

/// The key of the story, and others whose events fit beside it.
fn wanted<'a>(
    events: &[TraceEvent],
    keys: &'a [Vec<Key>],
    focus: &'a Focus,
    rows_max: usize,
) -> BTreeSet<&'a Key> {
    let mut counts: BTreeMap<&Key, usize> = BTreeMap::new();
    for key in keys.iter().take(events.len()).flatten() {
        *counts.entry(key).or_default() += 1;
    }
    let mut room = rows_max.saturating_sub(events.iter().filter(|event| befalls(event)).count());
    room = room.saturating_sub(counts.remove(&focus.key).unwrap_or_default());
    let mut wanted: BTreeSet<&Key> = focus.keys.iter().chain([&focus.key]).collect();
    for (key, count) in counts {
        if count <= room {
            room -= count;
            wanted.insert(key);
        }
    }
    wanted
}

/// Whether it befalls a node or the network, whatever the key.
fn befalls(event: &TraceEvent) -> bool {
    matches!(event.kind, "start" | "stop" | "fault" | "cuts" | "ended" | "damage" | "disk error")
}

/// Whether it touches a version that the violation names, or is the violation.
fn is_vital(facts: &Facts, focus: &Focus) -> bool {
    let touches =
        |mut dots: Box<dyn Iterator<Item = &Dot> + '_>| dots.any(|dot| focus.dots.contains(dot));
    match facts {
        Facts::Violation(_) => true,
        Facts::Sent { parcel: Some(parcel), .. } => {
            touches(Box::new(parcel.carries.iter().map(|(_, dot, _)| dot)))
        }
        Facts::Put { minted, learnt, replaced, held } => touches(Box::new(
            minted.iter().chain(learnt).chain(replaced).chain(held.iter().map(|(dot, _)| dot)),
        )),
        Facts::Nothing
        | Facts::Asked { .. }
        | Facts::Answered { .. }
        | Facts::Heard { .. }
        | Facts::Sent { parcel: None, .. }
        | Facts::Arrived { .. }
        | Facts::Durable(_)
        | Facts::Cuts(_)
        | Facts::Fault(_) => false,
    }
}
