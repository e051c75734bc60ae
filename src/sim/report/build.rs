//! Makes the story of a run from the events that it kept.

use std::collections::{BTreeMap, BTreeSet};

use super::names::Names;
use super::select::{Focus, keys_of, select};
use super::story::{
    Cut, FORMAT, Gap, Lane, LaneKind, Past, Row, RowKind, Story, Tone, VERSION, Version,
    VersionState,
};
use super::words::{cut_in_words, fault_in_words, options_in_words, tally_in_words};
use crate::causality::Dot;
use crate::hash::Key;
use crate::sim::facts::{Facts, Parcel, Told};
use crate::sim::faults::Fault;
use crate::sim::run::Outcome;
use crate::sim::trace::{self, EventId, TraceEvent};

/// The lane of network and verdict.
const WORLD: usize = 0;

/// What a story is built from, and what is known of it so far.
struct Builder<'a> {
    outcome: &'a Outcome,
    events: &'a [TraceEvent],
    keys: Vec<Vec<Key>>,
    focus: Focus,
    names: Names,
    lanes: BTreeMap<trace::Lane, usize>,
    /// The row that each told event became.
    row_of: BTreeMap<EventId, usize>,
    rows: Vec<Row>,
    /// The newest event and row of each lane.
    newest: BTreeMap<usize, usize>,
    /// The question that each client waits for.
    asks: BTreeMap<usize, usize>,
    /// The keys that are told of, and those that came up so far.
    wanted: BTreeSet<Key>,
    told_keys: Vec<Key>,
    /// What the last read of the key showed.
    shown_last: Vec<String>,
    cut_now: Option<Cut>,
    cuts: Vec<Cut>,
    gaps: Vec<Gap>,
}

/// The story of a run that kept its trace, of at most `rows_max` rows.
pub(super) fn build(outcome: &Outcome, replay: &str, rows_max: usize) -> Story {
    let events = outcome.trace.events();
    let names = Names::of(events);
    let keys = keys_of(events);
    let focus = Focus::of(outcome, &keys, &names);
    let selection = select(events, &keys, &focus, outcome.born_us, rows_max);
    let mut builder = Builder {
        lanes: BTreeMap::new(),
        row_of: BTreeMap::new(),
        rows: Vec::new(),
        newest: BTreeMap::new(),
        asks: BTreeMap::new(),
        wanted: selection.keys,
        told_keys: vec![focus.key.clone()],
        shown_last: Vec::new(),
        cut_now: None,
        cuts: Vec::new(),
        gaps: Vec::new(),
        outcome,
        events,
        keys,
        focus,
        names,
    };
    let lanes = builder.draw_lanes(&selection.ids);
    for id in selection.ids {
        builder.tell(id);
    }
    builder.end();
    builder.story(replay, lanes, selection.left_out)
}

impl Builder<'_> {
    /// The lanes that are told of: the world, clients, those who judge, and all nodes.
    fn draw_lanes(&mut self, ids: &[EventId]) -> Vec<Lane> {
        let scenario = &self.outcome.scenario;
        let mut lanes = vec![Lane { name: String::from("network"), kind: LaneKind::World }];
        self.lanes.insert(trace::Lane::World, WORLD);
        let mut clients: Vec<usize> = ids
            .iter()
            .filter_map(|id| match self.events[id.0].lane {
                trace::Lane::Client(client) => Some(client),
                trace::Lane::Node(_) | trace::Lane::World => None,
            })
            .collect();
        clients.sort_unstable();
        clients.dedup();
        let asking = scenario.clients.len() + scenario.options.clients;
        for client in clients {
            self.lanes.insert(trace::Lane::Client(client), lanes.len());
            let named = scenario.clients.get(client).cloned();
            lanes.push(if client < asking {
                let name = named.unwrap_or_else(|| format!("c{}", client + 1));
                Lane { name, kind: LaneKind::Client }
            } else {
                let name = format!("j{}", client - asking + 1);
                Lane { name, kind: LaneKind::Judge }
            });
        }
        for place in 0..scenario.options.nodes {
            self.lanes.insert(trace::Lane::Node(place), lanes.len());
            lanes.push(Lane { name: format!("n{}", place + 1), kind: LaneKind::Node });
        }
        lanes
    }

    fn at_us(&self, event: &TraceEvent) -> i64 {
        signed(event.at_us) - signed(self.outcome.born_us)
    }

    fn node(&self, place: usize) -> usize {
        self.lanes.get(&trace::Lane::Node(place)).copied().unwrap_or(WORLD)
    }

    /// Adds the row of an event, if it makes one.
    fn tell(&mut self, id: EventId) {
        let event = &self.events[id.0];
        let Some(lane) = self.lanes.get(&event.lane).copied() else { return };
        let row = Row {
            id: self.rows.len(),
            at_us: self.at_us(event),
            lane,
            kind: RowKind::Fault,
            tone: Tone::Plain,
            title: String::new(),
            notes: Vec::new(),
            keys: Vec::new(),
            parents: Vec::new(),
            from: None,
            to: None,
            lost: false,
            until: None,
        };
        let told = match &event.facts {
            Facts::Asked { place, verdict } => Some(self.ask(row, event, *place, *verdict)),
            Facts::Heard { .. } => {
                Some(Row { kind: RowKind::Question, title: event.text.clone(), ..row })
            }
            Facts::Answered { outcome, values, .. } => {
                if self.keys[id.0] == [self.focus.key.clone()] && !values.is_empty() {
                    self.shown_last.clone_from(values);
                }
                Some(self.answer(row, event, *outcome))
            }
            Facts::Sent { to, copies, cut, parcel: Some(parcel) } => {
                let row = Row { to: Some(self.node(*to)), lost: *copies == 0, ..row };
                Some(self.send(row, parcel, *copies, *cut))
            }
            Facts::Sent { parcel: None, .. } => None,
            Facts::Arrived { heard, .. } => self.arrive(row, event, *heard),
            Facts::Put { minted, learnt, replaced, held } => {
                Some(self.put(row, *minted, learnt, replaced, held))
            }
            Facts::Durable(_) => {
                let title = String::from("durable");
                Some(Row { kind: RowKind::Durable, title, ..row })
            }
            Facts::Cuts(pairs) => self.cut(row, pairs),
            Facts::Fault(fault) => self.fault(row, fault),
            Facts::Violation(_) => {
                let title = self.names.rename(&event.text);
                Some(Row { kind: RowKind::Violation, tone: Tone::Bad, title, ..row })
            }
            Facts::Nothing => Some(self.befall(row, event)),
        };
        if let Some(row) = told {
            self.add(id, row);
        }
    }

    fn add(&mut self, id: EventId, mut row: Row) {
        let event = &self.events[id.0];
        row.parents.extend(self.newest.get(&row.lane).copied());
        row.parents.extend(event.cause.and_then(|cause| self.row_before(cause)));
        let arrives = matches!(
            row.kind,
            RowKind::Question | RowKind::Answer | RowKind::Arrive | RowKind::Unheard
        );
        if arrives && event.kind != "silence" {
            row.from = event.cause.and_then(|cause| self.row_of.get(&cause)).copied();
        }
        if row.kind == RowKind::Violation {
            row.parents.extend(self.rows_of_named_versions());
            if event.cause.is_none() {
                // It was found when all was over, in what the last reads had shown.
                let is_answer = |row: &&Row| row.kind == RowKind::Answer && row.tone == Tone::Ok;
                row.parents.extend(self.rows.iter().rev().find(is_answer).map(|row| row.id));
            }
        }
        row.parents.sort_unstable();
        row.parents.dedup();
        row.keys = self.keys_told(id);
        self.newest.insert(row.lane, row.id);
        self.row_of.insert(id, row.id);
        self.rows.push(row);
    }

    /// The row of an event, or of the last one before it on its lane that has a row. What the
    /// network does brings about nothing by itself.
    fn row_before(&self, cause: EventId) -> Option<usize> {
        let lane = self.events[cause.0].lane;
        match lane {
            trace::Lane::World => self.row_of.get(&cause).copied(),
            trace::Lane::Node(_) | trace::Lane::Client(_) => self
                .row_of
                .range(..=cause)
                .rev()
                .find(|(id, _)| self.events[id.0].lane == lane)
                .map(|(_, row)| *row),
        }
    }

    /// Where the versions that the violation names were minted, and where their writers were
    /// told: the oracle compares these with what it found.
    fn rows_of_named_versions(&self) -> Vec<usize> {
        let mut rows = Vec::new();
        for (id, row) in &self.row_of {
            let Facts::Put { minted: Some(dot), held, .. } = &self.events[id.0].facts else {
                continue;
            };
            if !self.focus.dots.contains(dot) {
                continue;
            }
            rows.push(*row);
            let value = held.iter().find(|(held, _)| held == dot).map(|(_, value)| value);
            let Some(value) = value else { continue };
            let written = format!("={} ", value.escape_ascii());
            let ask = self.rows.iter().find(|row| {
                row.kind == RowKind::Ask && format!("{} ", row.title).contains(&written)
            });
            rows.extend(ask.and_then(|row| row.until));
        }
        rows
    }

    /// The places of the keys of an event among those of the story.
    fn keys_told(&mut self, id: EventId) -> Vec<usize> {
        let mut places = Vec::new();
        for key in self.keys[id.0].iter().filter(|key| self.wanted.contains(key)) {
            let place = self.told_keys.iter().position(|told| told == key);
            places.push(place.unwrap_or_else(|| {
                self.told_keys.push(key.clone());
                self.told_keys.len() - 1
            }));
        }
        places.sort_unstable();
        places.dedup();
        places
    }

    fn ask(&mut self, row: Row, event: &TraceEvent, place: usize, verdict: bool) -> Row {
        self.asks.insert(row.lane, row.id);
        let mut notes = vec![format!("asks n{}", place + 1)];
        if verdict {
            notes.push(String::from("what this shows is judged by the exact history of the key"));
        }
        Row { kind: RowKind::Ask, title: event.text.clone(), notes, ..row }
    }

    fn answer(&mut self, row: Row, event: &TraceEvent, outcome: Told) -> Row {
        let tone = match outcome {
            Told::Ok => Tone::Ok,
            Told::Refused => Tone::Refused,
            Told::Unknown => Tone::Unknown,
        };
        let row = Row { tone, title: event.text.clone(), ..row };
        if event.kind == "reply" {
            return Row { kind: RowKind::Reply, ..row };
        }
        if let Some(ask) = self.asks.remove(&row.lane) {
            self.rows[ask].until = Some(row.id);
            self.rows[ask].tone = tone;
        }
        Row { kind: RowKind::Answer, ..row }
    }

    fn send(&self, row: Row, parcel: &Parcel, copies: usize, cut: bool) -> Row {
        let mut notes = self.contents(parcel);
        let mut tone = Tone::Plain;
        if row.lost {
            tone = Tone::Bad;
            notes.push(String::from(if cut {
                "the network is cut here"
            } else {
                "the network loses it"
            }));
        } else if copies > 1 {
            notes.push(format!("the network makes {copies} of it"));
        }
        Row { kind: RowKind::Send, tone, title: parcel.name.to_owned(), notes, ..row }
    }

    fn contents(&self, parcel: &Parcel) -> Vec<String> {
        let carried = parcel.carries.iter().map(|(_, dot, value)| {
            format!("carries {} = {}", self.names.dot(*dot), value.escape_ascii())
        });
        carried.collect()
    }

    fn arrive(&self, row: Row, event: &TraceEvent, heard: bool) -> Option<Row> {
        let sent = &self.rows[*self.row_of.get(&event.cause?)?];
        let row = Row { title: sent.title.clone(), notes: sent.notes.clone(), ..row };
        Some(if heard {
            Row { kind: RowKind::Arrive, ..row }
        } else {
            let mut notes = row.notes;
            notes.push(String::from("nobody is there who knows this connection"));
            Row { kind: RowKind::Unheard, tone: Tone::Bad, notes, ..row }
        })
    }

    fn put(
        &self,
        row: Row,
        minted: Option<Dot>,
        learnt: &[Dot],
        replaced: &[Dot],
        held: &[(Dot, bytes::Bytes)],
    ) -> Row {
        let value_of = |dot| held.iter().find(|(held, _)| *held == dot).map(|(_, value)| value);
        let named = |dots: &[Dot]| {
            dots.iter().map(|dot| self.names.dot(*dot)).collect::<Vec<_>>().join(", ")
        };
        let title = match (minted, minted.and_then(value_of)) {
            (Some(dot), Some(value)) => {
                format!("{} = {}", self.names.dot(dot), value.escape_ascii())
            }
            (Some(dot), None) => format!("{} deletes", self.names.dot(dot)),
            (None, _) if learnt.is_empty() => String::from("rewrites"),
            (None, _) if replaced.is_empty() => format!("+ {}", named(learnt)),
            (None, _) => format!("+ {} - {}", named(learnt), named(replaced)),
        };
        // A lone new version is already in the title.
        let mut notes: Vec<String> = held
            .iter()
            .filter(|(dot, _)| held.len() > 1 || minted != Some(*dot))
            .map(|(dot, value)| {
                format!("holds {} = {}", self.names.dot(*dot), value.escape_ascii())
            })
            .collect();
        if held.is_empty() {
            notes.push(String::from("holds no value"));
        }
        if !replaced.is_empty() {
            notes.push(format!("in the place of {}", named(replaced)));
        }
        let tone = match (held.len() > 1, minted) {
            (true, _) => Tone::Siblings,
            (false, Some(_)) => Tone::Born,
            (false, None) => Tone::Plain,
        };
        let title =
            if held.len() > 1 { format!("{title} ({} siblings)", held.len()) } else { title };
        Row { kind: RowKind::Put, tone, title, notes, ..row }
    }

    /// The network is cut otherwise than before.
    fn cut(&mut self, row: Row, pairs: &[(usize, usize)]) -> Option<Row> {
        let pairs: Vec<(usize, usize)> =
            pairs.iter().map(|(from, to)| (self.node(*from), self.node(*to))).collect();
        let known = self.cut_now.as_ref().map_or([].as_slice(), |cut| cut.pairs.as_slice());
        if known == pairs {
            return None;
        }
        self.cuts.extend(self.cut_now.take().map(|cut| Cut { to_us: row.at_us, ..cut }));
        if pairs.is_empty() {
            return Some(Row { tone: Tone::Ok, title: String::from("healed"), ..row });
        }
        let nodes =
            (0..self.outcome.scenario.options.nodes).map(|place| self.node(place)).collect();
        let title = cut_in_words(&pairs, &nodes, |lane| format!("n{}", lane + 1 - self.node(0)));
        let (from_us, to_us) = (row.at_us, row.at_us);
        self.cut_now = Some(Cut { from_us, to_us, pairs, title: title.clone() });
        Some(Row { tone: Tone::Bad, title, ..row })
    }

    /// A fault that no other row tells of.
    fn fault(&mut self, row: Row, fault: &Fault) -> Option<Row> {
        let is_told = matches!(
            fault,
            Fault::Start(_)
                | Fault::Crash(_)
                | Fault::PowerLoss(_)
                | Fault::Partition(_)
                | Fault::OneWay(..)
                | Fault::Heal
        );
        if is_told {
            return None;
        }
        let lane = match fault.places().as_slice() {
            [place] => self.node(*place),
            [] | [_, _, ..] => row.lane,
        };
        if let Fault::Pause(_, span_us) = fault {
            let to_us = row.at_us + signed(*span_us);
            self.gaps.push(Gap { lane, from_us: row.at_us, to_us, paused: true });
        }
        Some(Row { lane, tone: Tone::Bad, title: fault_in_words(fault), ..row })
    }

    /// What befalls a node.
    fn befall(&mut self, row: Row, event: &TraceEvent) -> Row {
        let caused_by = event.cause.map(|cause| &self.events[cause.0]);
        let open = self.gaps.iter_mut().find(|gap| gap.lane == row.lane && gap.to_us == i64::MAX);
        match event.kind {
            "start" => {
                if let Some(gap) = open {
                    gap.to_us = row.at_us;
                }
                Row { kind: RowKind::Start, title: String::from("starts"), ..row }
            }
            "stop" => {
                let title = match caused_by.map(|cause| &cause.facts) {
                    Some(Facts::Fault(Fault::PowerLoss(_))) => "loses power",
                    Some(Facts::Fault(Fault::Crash(_))) => "crashes",
                    Some(_) | None => "ends",
                };
                let (lane, from_us) = (row.lane, row.at_us);
                self.gaps.push(Gap { lane, from_us, to_us: i64::MAX, paused: false });
                Row { kind: RowKind::Stop, tone: Tone::Bad, title: title.to_owned(), ..row }
            }
            kind => {
                let title = format!("{kind}: {}", event.text);
                Row { kind: RowKind::Fault, tone: Tone::Bad, title, ..row }
            }
        }
    }

    /// What is still open ends with the story.
    fn end(&mut self) {
        let end_us = self.rows.last().map_or(0, |row| row.at_us);
        self.cuts.extend(self.cut_now.take().map(|cut| Cut { to_us: end_us, ..cut }));
        for gap in &mut self.gaps {
            gap.to_us = gap.to_us.min(end_us);
        }
    }

    /// The versions of the key of the story.
    fn versions(&self) -> Vec<Version> {
        let mut versions: Vec<Version> = Vec::new();
        let mut replaced_by_any = Vec::new();
        for (id, row) in &self.row_of {
            let Facts::Put { minted: Some(dot), replaced, held, .. } = &self.events[id.0].facts
            else {
                continue;
            };
            if !self.keys[id.0].contains(&self.focus.key) {
                continue;
            }
            let replaces: Vec<String> = replaced.iter().map(|dot| self.names.dot(*dot)).collect();
            replaced_by_any.extend(replaces.clone());
            let value = held.iter().find(|(held, _)| held == dot);
            let value = value.map(|(_, value)| value.escape_ascii().to_string());
            let state = if self.focus.dots.contains(dot) {
                VersionState::Wronged
            } else if value.as_ref().is_some_and(|value| self.shown_last.contains(value)) {
                VersionState::Live
            } else {
                VersionState::Unseen
            };
            let (name, dot) = (self.names.dot(*dot), dot.to_string());
            versions.push(Version { name, dot, value, row: *row, replaces, state });
        }
        for version in &mut versions {
            if version.state == VersionState::Unseen && replaced_by_any.contains(&version.name) {
                version.state = VersionState::Replaced;
            }
        }
        versions
    }

    fn story(self, replay: &str, lanes: Vec<Lane>, left_out: usize) -> Story {
        let outcome = self.outcome;
        let violation = self.focus.violation.and_then(|id| self.row_of.get(&id)).copied();
        let broken = outcome.violations.first();
        let verdict = match broken {
            None => String::from("Every promise was kept."),
            Some(violation) => self.names.rename(&violation.to_string()),
        };
        let mut story = Story {
            format: FORMAT,
            version: VERSION,
            name: outcome.scenario.name.clone(),
            seed: outcome.scenario.options.seed,
            replay: replay.to_owned(),
            hash: format!("{:032x}", outcome.trace.hash()),
            held: broken.is_none(),
            verdict,
            options: options_in_words(&outcome.scenario.options),
            tally: tally_in_words(outcome),
            key: text(&self.focus.key),
            keys: self.told_keys.iter().map(text).collect(),
            versions: self.versions(),
            lanes,
            rows: self.rows,
            left_out,
            cuts: self.cuts,
            gaps: self.gaps,
            violation: None,
        };
        story.violation = violation.map(|row| Past { row, past: story.past(row) });
        story
    }
}

fn text(key: &Key) -> String {
    String::from_utf8_lossy(&key.bytes).into_owned()
}

fn signed(us: u64) -> i64 {
    i64::try_from(us).unwrap_or(i64::MAX)
}
