//! Looks at more than one key or replica: walks over all keys, counts and explanations; while
//! clients work, and once more when everything is at rest.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::clients::{Answer, Client, Kind, quoted};
use super::network::Place;
use super::oracle::Walk;
use super::scenario::Answered;
use super::world::World;
use crate::api::Level;
use crate::hash::Key;

/// Keys that are explained once everything is at rest.
const EXPLAINED: usize = 3;
/// Time that looks at a cluster at rest may take, and time between two glances at them.
const REST_US: u64 = 10_000_000;
const GLANCE_US: u64 = 20_000;
/// What is broken where something else is counted than there is.
const COUNTED: &str = "C1 at rest all is counted and listed";

/// A look.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// A walk over all keys; each page is asked of the next node.
    Walk {
        /// Most keys of a page.
        limit: u32,
        /// How many members of each row are asked.
        level: Level,
        /// Where the next page begins.
        cursor: String,
        /// What it has come by.
        walk: Walk,
        /// What it must list, where everything is at rest.
        exactly: Option<BTreeSet<Key>>,
    },
    /// A count of all keys.
    Count {
        /// How many members of each row are asked.
        level: Level,
        /// What it must be, where everything is at rest.
        exactly: Option<u64>,
    },
    /// What every replica holds of a key.
    Explain {
        /// Of which key.
        key: Key,
        /// Whether nothing is in flight, so that it must be what lies on the disks.
        at_rest: bool,
    },
}

/// What is said of a replica in an explanation.
#[derive(Debug, Deserialize)]
pub(super) struct Replica {
    name: String,
    state: String,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
struct Version {
    dot: String,
}

impl Look {
    /// A walk that begins now.
    pub(super) fn walk(limit: u32, level: Level, now_us: u64) -> Self {
        let (cursor, walk) = (String::from("0"), Walk::new(now_us, level != Level::One));
        Self::Walk { limit, level, cursor, walk, exactly: None }
    }

    /// The line that asks for it, or for its next page.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Walk { limit, level, cursor, .. } => format!(
                "{{\"cmd\":\"SCAN\",\"cursor\":\"{cursor}\",\"limit\":{limit},\"level\":\"{}\"}}\n",
                level.name()
            ),
            Self::Count { level, .. } => {
                format!("{{\"cmd\":\"COUNT\",\"level\":\"{}\"}}\n", level.name())
            }
            Self::Explain { key, .. } => {
                format!("{{\"cmd\":\"EXPLAIN\",\"key\":{}}}\n", quoted(&key.bytes))
            }
        }
    }
}

impl World {
    /// A look, or a page of it, was answered. Returns what is still to be asked.
    pub(super) fn on_look(&mut self, look: Look, answer: &Answer) -> Option<Look> {
        if !answer.ok {
            return None;
        }
        match look {
            Look::Walk { limit, level, mut walk, exactly, .. } => {
                answer.keys.iter().for_each(|key| walk.comes_by(Key::plain(key.clone())));
                let cursor = answer.cursor.clone().unwrap_or_default();
                if cursor != "0" {
                    return Some(Look::Walk { limit, level, cursor, walk, exactly });
                }
                self.tally.walks += 1;
                if let Some(expected) = exactly
                    && walk.keys() != expected
                {
                    let text = format!("a walk lists {:?}, not {expected:?}", walk.keys());
                    self.complain(COUNTED, text);
                }
                let partitions = self.scenario.options.partitions;
                // What is over by now may be missing, with what it had replaced.
                self.note_time();
                self.history.walked(&walk, |key| key.token.partition(partitions));
            }
            Look::Count { exactly, .. } => {
                let counted = answer.count.unwrap_or(u64::MAX);
                let most = self.history.keys().count() as u64;
                if counted > most || exactly.is_some_and(|expected| counted != expected) {
                    let there = exactly.unwrap_or(most);
                    let text = format!("{counted} keys are counted, and there are {there}");
                    self.complain(COUNTED, text);
                }
            }
            Look::Explain { key, at_rest } => self.check_explained(&key, at_rest, &answer.replicas),
        }
        None
    }

    /// Asks for the next page of a walk: the next node, if it takes requests.
    pub(super) fn go_on(
        &mut self,
        client: usize,
        look: Look,
        expect: Option<(Answered, &'static str)>,
    ) {
        let here = self.clients[client].connected.map_or(0, |(place, _)| place);
        let next = (here + 1) % self.machines.len();
        if self.connect(client, Some(next)) || self.connect(client, Some(here)) {
            let (kind, line) = Kind::look(look);
            self.ask(client, kind, expect, line);
        } else {
            self.rest(client);
        }
    }

    /// What is said of a replica was written for this key, and is on its disk; at rest it is all
    /// that lies there.
    fn check_explained(&mut self, key: &Key, at_rest: bool, replicas: &[Replica]) {
        let partition = self.partition(key);
        let names: BTreeMap<String, Place> = self
            .machines
            .iter()
            .zip(0..)
            .map(|(m, place)| (m.settings.name.clone(), place))
            .collect();
        let mut found = Vec::new();
        for Replica { name, state, versions } in replicas {
            let Some(&place) = names.get(name) else {
                found.push(format!("there is no node {name}"));
                continue;
            };
            let told: BTreeSet<&str> =
                versions.iter().map(|version| version.dot.as_str()).collect();
            let known = self.history.events_of(key);
            let is_there = |text: &&str| {
                known.iter().any(|&dot| {
                    let event = (partition, dot);
                    let is_on_disk =
                        self.ledger.has_held(place, event) || self.history.was_not_stored(event);
                    is_on_disk && dot.to_string() == **text
                })
            };
            if let Some(dot) = told.iter().find(|dot| !is_there(dot)) {
                found.push(format!("{name} is said to hold {dot}, which its disk never held"));
            }
            if at_rest && !self.machines[place].is_rebuilding {
                let held = self.ledger.siblings(place).remove(key).unwrap_or_default();
                let held: Vec<String> = held.keys().map(ToString::to_string).collect();
                if told != held.iter().map(String::as_str).collect() {
                    found.push(format!("{name} is said to be {state} {told:?} and holds {held:?}"));
                }
            }
        }
        for text in found {
            self.history.violate("O1 explanations tell what replicas hold", key, text);
        }
    }

    /// Counts, walks and explains once everything is at rest and every key was read: each replica
    /// that counts knows all there is.
    pub(super) fn look_at_rest(&mut self) {
        let is_rebuilding = self.machines.iter().any(|machine| machine.is_rebuilding);
        // What ends while it is looked at is there for the one and gone for the other.
        if is_rebuilding || self.history.has_ends() {
            return;
        }
        let there = self.verdicts.iter().filter(|(_, values)| !values.is_empty());
        let keys: BTreeSet<Key> = there.map(|(key, _)| key.clone()).collect();
        let level = Level::All;
        let mut looks = vec![Look::Count { level, exactly: Some(keys.len() as u64) }];
        let explained = self.verdicts.keys().take(EXPLAINED).cloned();
        looks.extend(explained.map(|key| Look::Explain { key, at_rest: true }));
        let mut walk = Look::walk(100, Level::Quorum, self.now_us);
        if let Look::Walk { exactly, .. } = &mut walk {
            *exactly = Some(keys);
        }
        looks.push(walk);
        let end_us = self.now_us + REST_US;
        for (client, look) in self.judges().cycle().zip(looks) {
            while self.now_us < end_us && !self.clients[client].is_idle() {
                self.run_until(self.now_us + GLANCE_US);
            }
            let place = client % self.machines.len();
            if self.clients[client].is_idle() && self.connect(client, Some(place)) {
                let (kind, line) = Kind::look(look);
                self.ask(client, kind, Some((Answered::Ok, COUNTED)), line);
            }
        }
        while self.now_us < end_us && !self.clients.iter().all(Client::is_idle) {
            self.run_until(self.now_us + GLANCE_US);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::options::Options;
    use crate::sim::scenario::Scenario;

    /// What is broken once a look at a cluster in which clients have worked was answered so.
    fn broken(look: impl FnOnce(&World) -> (Look, String)) -> Vec<&'static str> {
        let mut world = World::new(Scenario::of("looks", Options::calm(5)), false);
        world.run_until(4_000_000);
        world.begin_work();
        world.run_until(8_000_000);
        let (look, line) = look(&world);
        let answer: Answer = serde_json::from_str(&line).unwrap();
        assert!(world.on_look(look, &answer).is_none());
        world.history.violations().iter().map(|violation| violation.invariant).collect()
    }

    #[test]
    fn a_count_that_is_wrong_at_rest_is_found() {
        let count = |exactly, count: u64| {
            broken(|_| {
                let look = Look::Count { level: Level::All, exactly };
                (look, format!("{{\"ok\":true,\"count\":{count}}}"))
            })
        };
        assert!(count(Some(3), 3).is_empty());
        assert!(count(None, 1).is_empty());
        assert_eq!(count(Some(3), 2), [COUNTED]);
        assert_eq!(count(None, 1_000_000), [COUNTED]);
    }

    #[test]
    fn an_explanation_of_what_a_replica_does_not_hold_is_found() {
        let explain = |dot: Option<&'static str>| {
            broken(|world| {
                let siblings = world.ledger.siblings(1);
                let (key, held) = siblings.into_iter().find(|(_, held)| !held.is_empty()).unwrap();
                let versions: Vec<String> = match dot {
                    Some(dot) => vec![format!("{{\"dot\":\"{dot}\"}}")],
                    None => held.keys().map(|dot| format!("{{\"dot\":\"{dot}\"}}")).collect(),
                };
                let replica = "\"name\":\"n2\",\"state\":\"present\"";
                let line = format!(
                    "{{\"ok\":true,\"replicas\":[{{{replica},\"versions\":[{}]}}]}}",
                    versions.join(",")
                );
                (Look::Explain { key, at_rest: true }, line)
            })
        };
        assert!(explain(None).is_empty());
        assert!(explain(Some("00000001.7:3")).contains(&"O1 explanations tell what replicas hold"));
    }
}
