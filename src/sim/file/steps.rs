//! From the tables of a file to the steps, questions and expectations of a scenario.

use std::collections::BTreeSet;

use bytes::Bytes;
use toml::de::{DeTable, DeValue};

use super::check;
use super::fields::{Desk, Fields, Value};
use super::settings;
use super::words::{self, TIME_US_MAX};
use crate::api::Level;
use crate::hash::Key;
use crate::planted::Bug;
use crate::sim::scenario::{
    Action, Answered, Context, Expectation, Operation, Request, Scenario, Step,
};
use crate::sim::{CATALOGUE, Fault, Kind, Options, Part, Place, Shape};

/// What a client can ask.
const QUESTIONS: [&str; 7] = ["get", "set", "delete", "bulk", "scan", "count", "explain"];
/// Keys of a page of a walk, where a step does not say.
pub(super) const PAGE_KEYS: u32 = 10;
/// What an answer may be, but for the values of a read.
const ANSWERS: [&str; 3] = ["ok", "refused", "unknown"];
/// What a file may ask of the end.
const CHECKS: [&str; 2] = ["converged", "siblings"];

/// What a step may do.
pub(super) fn words() -> Vec<&'static str> {
    CATALOGUE.iter().map(|kind| kind.name).chain(QUESTIONS).collect()
}

/// What the steps of a file are read against.
struct Reader {
    nodes: usize,
    duration_us: u64,
    level: Level,
    clients: Vec<String>,
    /// Whether the file lists its clients, so that no step may name another.
    listed: bool,
}

/// The scenario of a file; what is wrong is said to the desk.
pub(super) fn scenario<'t>(table: &'t DeTable<'t>, desk: &Desk<'t>) -> Scenario {
    let mut top = Fields::new("the file", 0, table);
    let name = top.need(desk, "name").and_then(|value| desk.name(value)).unwrap_or_default();
    let mut options = settings::silent();
    settings::read(desk, "", &mut top, &mut options);
    if let Some(value) = top.take("planted") {
        let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        options.planted = desk.word(value, "mistake", &names).and_then(Bug::from_name);
    }
    let level = sections(desk, &mut top, &mut options);
    let (nodes, duration_us) = (options.nodes, options.duration_us);
    let mut reader = Reader { nodes, duration_us, level, clients: Vec::new(), listed: false };
    reader.list_clients(desk, top.take("clients"));
    let steps: Vec<(usize, Step)> =
        tables(desk, top.take("step")).filter_map(|value| reader.step(desk, value)).collect();
    let expects: Vec<(usize, Expectation)> =
        tables(desk, top.take("expect")).filter_map(|value| expectation(desk, value)).collect();
    top.end(desk);
    check::contradictions(desk, options.clients == 0, &steps, &expects);
    let mut steps: Vec<Step> = steps.into_iter().map(|(_, step)| step).collect();
    steps.sort_by_key(|step| step.at_us);
    let expects = expects.into_iter().map(|(_, expectation)| expectation).collect();
    Scenario { name: String::from(name), options, clients: reader.clients, steps, expects }
}

/// Reads the tables of settings, and gives the level of questions that name none.
fn sections<'t>(desk: &Desk<'t>, top: &mut Fields<'t>, options: &mut Options) -> Level {
    let mut usual = Level::default();
    for section in settings::SECTIONS {
        let value = top.take(section);
        let fields = value.and_then(|value| Fields::of(desk, format!("[{section}]"), value));
        let Some(mut fields) = fields else { continue };
        settings::read(desk, section, &mut fields, options);
        if section == "cluster" {
            usual = level(desk, fields.take("level")).unwrap_or_default();
            if !options.partitions.is_power_of_two() {
                let text = "`partitions` must be a power of two, as 16";
                desk.say(fields.at, text);
            }
        }
        fields.end(desk);
    }
    usual
}

/// The tables of a list that may be missing.
fn tables<'t>(
    desk: &Desk<'t>,
    list: Option<&'t Value<'t>>,
) -> impl Iterator<Item = &'t Value<'t>> + use<'t> {
    list.and_then(|list| desk.list(list)).unwrap_or_default().iter()
}

fn level<'t>(desk: &Desk<'t>, value: Option<&'t Value<'t>>) -> Option<Level> {
    let names = Level::ALL.map(Level::name);
    value.and_then(|value| desk.word(value, "level", &names)).and_then(Level::from_name)
}

fn key<'t>(desk: &Desk<'t>, value: Option<&'t Value<'t>>) -> Option<Key> {
    value
        .and_then(|value| desk.name(value))
        .map(|name| Key::plain(Bytes::copy_from_slice(name.as_bytes())))
}

fn bytes<'t>(desk: &Desk<'t>, value: &'t Value<'t>) -> Option<Bytes> {
    desk.text(value).map(|text| Bytes::copy_from_slice(text.as_bytes()))
}

/// A list of values, each once.
fn values<'t>(desk: &Desk<'t>, value: &'t Value<'t>) -> Option<Vec<Bytes>> {
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    for item in desk.list(value)? {
        let text = bytes(desk, item)?;
        if !seen.insert(text.clone()) {
            desk.say(item.span().start, format!("\"{}\" stands here twice", text.escape_ascii()));
        }
        values.push(text);
    }
    Some(values)
}

/// One `[[expect]]`, with its place in the text.
fn expectation<'t>(desk: &Desk<'t>, value: &'t Value<'t>) -> Option<(usize, Expectation)> {
    let mut fields = Fields::of(desk, "the expectation", value)?;
    if let Some(at) = fields.take("at") {
        desk.word(at, "time of an expectation", &["end"]);
    }
    let check = fields.need(desk, "check").and_then(|v| desk.word(v, "check", &CHECKS))?;
    fields.what = format!("`{check}`");
    let expectation = if check == "converged" {
        let within = fields.need(desk, "within");
        within.and_then(|v| desk.time(v, TIME_US_MAX)).map(Expectation::Converged)
    } else {
        let key = key(desk, fields.need(desk, "key"));
        let values = fields.need(desk, "values").and_then(|v| values(desk, v));
        key.zip(values).map(|(key, values)| Expectation::Values(key, values))
    };
    let at = fields.at;
    fields.end(desk);
    expectation.map(|expectation| (at, expectation))
}

impl Reader {
    fn list_clients<'t>(&mut self, desk: &Desk<'t>, value: Option<&'t Value<'t>>) {
        let Some(list) = value.and_then(|value| desk.list(value)) else { return };
        self.listed = true;
        for value in list {
            let Some(name) = desk.name(value) else { continue };
            if self.clients.iter().any(|known| known == name) {
                desk.say(value.span().start, format!("client {name:?} is listed twice"));
            } else {
                self.clients.push(String::from(name));
            }
        }
    }

    /// One `[[step]]`, with its place in the text.
    fn step<'t>(&mut self, desk: &Desk<'t>, value: &'t Value<'t>) -> Option<(usize, Step)> {
        let mut fields = Fields::of(desk, "the step", value)?;
        let at_us = fields.need(desk, "at").and_then(|value| self.moment(desk, value));
        let word = fields.need(desk, "do").and_then(|value| desk.word(value, "step", &words()))?;
        fields.what = format!("`{word}`");
        let action = match word {
            word if QUESTIONS.contains(&word) => {
                self.operation(desk, word, &mut fields).map(Action::Ask)
            }
            _ => self.fault(desk, word, &mut fields).map(Action::Fault),
        };
        let at = fields.at;
        fields.end(desk);
        let (at_us, action) = at_us.zip(action)?;
        Some((at, Step { at_us, action }))
    }

    /// A time within the run.
    fn moment<'t>(&self, desk: &Desk<'t>, value: &'t Value<'t>) -> Option<u64> {
        let at_us = desk.time(value, TIME_US_MAX)?;
        if at_us > self.duration_us {
            let (at, end) = (words::time_text(at_us), words::time_text(self.duration_us));
            let text = format!("{at} is after the end: the run lasts {end} (`duration`)");
            desk.say(value.span().start, text);
        }
        Some(at_us)
    }

    fn fault<'t>(&mut self, desk: &Desk<'t>, word: &str, fields: &mut Fields<'t>) -> Option<Fault> {
        let kind = Kind::of(word)?;
        // All are read before any is missed, so that every mistake is told at once.
        let mut parts = Vec::new();
        for (name, shape) in kind.fields {
            let value = fields.need(desk, name);
            parts.push(value.and_then(|value| self.part(desk, *shape, value)));
        }
        let parts: Vec<Part> = parts.into_iter().collect::<Option<_>>()?;
        if let [Part::Node(from), Part::Node(to)] = parts.as_slice()
            && from == to
        {
            let (name, _) = kind.fields[1];
            let at = fields.take(name).map_or(fields.at, |value| value.span().start);
            desk.say(at, "a node always reaches itself, and is its own copy");
        }
        Fault::of_parts(word, &parts)
    }

    fn part<'t>(&mut self, desk: &Desk<'t>, shape: Shape, value: &'t Value<'t>) -> Option<Part> {
        match shape {
            Shape::Node => self.node(desk, Some(value)).map(Part::Node),
            Shape::Nodes => self.nodes(desk, value).map(Part::Nodes),
            Shape::Groups => self.groups(desk, value).map(Part::Groups),
            Shape::Time => desk.time(value, TIME_US_MAX).map(Part::Time),
            Shape::Jump => {
                let text = desk.text(value)?;
                desk.read(value.span().start, words::jump_ms(text)).map(Part::Jump)
            }
            Shape::Client => self.client(desk, value).map(Part::Client),
            Shape::Number => desk.number(value, 0, u64::MAX).map(Part::Number),
            Shape::Word(words) => {
                let word = desk.word(value, "word", words)?;
                words.iter().find(|known| **known == word).copied().map(Part::Word)
            }
        }
    }

    fn operation<'t>(
        &mut self,
        desk: &Desk<'t>,
        word: &str,
        fields: &mut Fields<'t>,
    ) -> Option<Operation> {
        let client = fields.need(desk, "client").and_then(|value| self.client(desk, value));
        let via = fields.take("via");
        let place = self.node(desk, via);
        let level = level(desk, fields.take("level")).unwrap_or(self.level);
        let request = match word {
            "get" => {
                let key = key(desk, fields.need(desk, "key"));
                let siblings = fields.take("siblings").and_then(|value| desk.flag(value));
                key.map(|key| Request::Get { key, siblings: siblings.unwrap_or(false) })
            }
            "set" => {
                let key = key(desk, fields.need(desk, "key"));
                let value = fields.need(desk, "value").and_then(|value| bytes(desk, value));
                let context = context(desk, fields.take("context"));
                let ttl_us = ttl(desk, fields.take("ttl"));
                key.zip(value).map(|(key, value)| Request::Set { key, value, context, ttl_us })
            }
            "delete" => {
                let key = key(desk, fields.need(desk, "key"));
                let context = context(desk, fields.take("context"));
                key.map(|key| Request::Delete { key, context })
            }
            "scan" => {
                let limit = fields.take("limit").and_then(|value| desk.number(value, 1, 1_000));
                let limit = limit.and_then(|limit| u32::try_from(limit).ok());
                Some(Request::Scan { limit: limit.unwrap_or(PAGE_KEYS) })
            }
            "count" => Some(Request::Count),
            "explain" => key(desk, fields.need(desk, "key")).map(|key| Request::Explain { key }),
            _ => {
                let isolated = fields.take("isolated").and_then(|value| desk.flag(value));
                let isolated = isolated.unwrap_or(false);
                let ttl_us = ttl(desk, fields.take("ttl"));
                let items = fields.need(desk, "items").and_then(|value| bulk(desk, value));
                items.map(|items| Request::Bulk { items, isolated, ttl_us })
            }
        };
        let expect = fields.take("expect").and_then(|value| {
            let answer = answer(desk, value)?;
            check::answer_fits(desk, value.span().start, word, request.as_ref(), &answer);
            Some(answer)
        });
        let (client, request) = client.zip(request)?;
        Some(Operation { client, via: place, request, level, expect })
    }

    fn client<'t>(&mut self, desk: &Desk<'t>, value: &'t Value<'t>) -> Option<usize> {
        let name = desk.name(value)?;
        let known = self.clients.iter().position(|known| known == name);
        if known.is_none() && self.listed {
            let names: Vec<&str> = self.clients.iter().map(String::as_str).collect();
            let hint = words::hint(name, &names);
            desk.say(value.span().start, format!("`clients` lists no {name:?}{hint}"));
        }
        known.or_else(|| {
            self.clients.push(String::from(name));
            Some(self.clients.len() - 1)
        })
    }

    /// The place of a node such as `n1`.
    fn node<'t>(&self, desk: &Desk<'t>, value: Option<&'t Value<'t>>) -> Option<Place> {
        let value = value?;
        let name = desk.text(value)?;
        let place = (0..self.nodes).find(|place| name == format!("n{}", place + 1));
        if place.is_none() {
            let all = if self.nodes == 1 {
                String::from("the only node is n1")
            } else {
                format!("the nodes are n1 to n{}", self.nodes)
            };
            desk.say(value.span().start, format!("there is no node {name:?}; {all}"));
        }
        place
    }

    /// A list of nodes, each once.
    fn nodes<'t>(&self, desk: &Desk<'t>, value: &'t Value<'t>) -> Option<Vec<Place>> {
        let list = desk.list(value)?;
        if list.is_empty() {
            desk.say(value.span().start, "no node is named here");
        }
        let mut places = Vec::new();
        for item in list {
            let Some(place) = self.node(desk, Some(item)) else { continue };
            if places.contains(&place) {
                desk.say(item.span().start, format!("n{} stands here twice", place + 1));
            }
            places.push(place);
        }
        Some(places)
    }

    /// The groups of a partition; a node may stand in several, as a bridge.
    fn groups<'t>(&self, desk: &Desk<'t>, value: &'t Value<'t>) -> Option<Vec<Vec<Place>>> {
        let list = desk.list(value)?;
        if list.is_empty() {
            desk.say(value.span().start, "no group is named here");
        }
        Some(list.iter().filter_map(|group| self.nodes(desk, group)).collect())
    }
}

fn context<'t>(desk: &Desk<'t>, value: Option<&'t Value<'t>>) -> Context {
    let words = Context::ALL.map(|(word, _, _)| word);
    let word = value.and_then(|value| desk.word(value, "context", &words));
    let known = Context::ALL.into_iter().find(|(known, _, _)| Some(*known) == word);
    known.map_or(Context::Absent, |(_, context, _)| context)
}

/// How long a value lasts; 0 = for ever.
fn ttl<'t>(desk: &Desk<'t>, value: Option<&'t Value<'t>>) -> u64 {
    let Some(value) = value else { return 0 };
    let us = desk.time(value, TIME_US_MAX).unwrap_or_default();
    if us == 0 || !us.is_multiple_of(1_000) {
        desk.say(value.span().start, "`ttl` is a time of whole milliseconds, as \"1.5s\"");
    }
    us
}

/// The items of a bulk: pairs of a key and a value, each key once.
fn bulk<'t>(desk: &Desk<'t>, value: &'t Value<'t>) -> Option<Vec<(Key, Bytes)>> {
    let list = desk.list(value)?;
    let mut items: Vec<(Key, Bytes)> = Vec::new();
    for pair in list {
        let [name, value] = desk.list(pair)? else {
            desk.say(pair.span().start, "an item is [\"KEY\", \"VALUE\"]");
            continue;
        };
        let Some((key, bytes)) = key(desk, Some(name)).zip(bytes(desk, value)) else { continue };
        if items.iter().any(|(known, _)| *known == key) {
            let text = format!("key \"{}\" stands here twice", key.bytes.escape_ascii());
            desk.say(name.span().start, text);
        }
        items.push((key, bytes));
    }
    if list.is_empty() {
        desk.say(value.span().start, "a bulk has at least one item, [\"KEY\", \"VALUE\"]");
    }
    Some(items)
}

/// What an answer must be: a word, or the values that a read shows.
fn answer<'t>(desk: &Desk<'t>, value: &'t Value<'t>) -> Option<Answered> {
    if matches!(value.get_ref(), DeValue::Array(_)) {
        return values(desk, value).map(Answered::Values);
    }
    Some(match desk.word(value, "answer", &ANSWERS)? {
        "ok" => Answered::Ok,
        "refused" => Answered::Refused,
        _ => Answered::Unknown,
    })
}
