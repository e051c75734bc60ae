//! What a kept event says beside its time and place: its words for people, and the facts from which
//! reports draw.
//!
//! All of it is made from the bytes that crossed a hop and only where events are kept, so a run
//! that keeps nothing pays nothing.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::faults::Fault;
use super::network::Place;
use super::trace::EventId;
use crate::api::Op;
use crate::causality::{Dot, Object};
use crate::hash::Key;
use crate::shard::Record;
use crate::shard::message::{CallId, HoldWork, Message, ReadAnswer};
use crate::wire::peer::{self, Frame};

/// Longest text of a value that reports show in full.
const TEXT_BYTES_MAX: usize = 60;

/// What a kept event is given to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// For people.
    pub(super) text: String,
    /// The keys that it is about.
    pub(super) keys: Vec<Key>,
    /// For programs.
    pub(super) facts: Facts,
}

impl Said {
    /// Words alone.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// The facts of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Facts {
    /// There is no more to it than its text.
    #[default]
    Nothing,
    /// A client asks a node.
    Asked {
        /// Which node.
        place: Place,
        /// Whether its answer is part of the verdict over the run.
        verdict: bool,
    },
    /// A question of a client is there.
    Heard {
        /// Whose.
        client: usize,
    },
    /// An answer leaves a node, arrives at its client, or never will.
    Answered {
        /// Whose question it answers.
        client: usize,
        /// What it says of the outcome.
        outcome: Told,
        /// The values that it shows.
        values: Vec<String>,
    },
    /// A message between nodes leaves.
    Sent {
        /// For whom.
        to: Place,
        /// Number of copies that will arrive, if they find somebody.
        copies: usize,
        /// Whether the network is cut there.
        cut: bool,
        /// What is in it; `None` = talk of the control plane.
        parcel: Option<Parcel>,
    },
    /// A message between nodes arrives.
    Arrived {
        /// From whom.
        from: Place,
        /// Whether a process is there that takes it.
        heard: bool,
    },
    /// A node puts an object into its table, and hands it to its log.
    Put {
        /// The new event, where this node leads the write.
        minted: Option<Dot>,
        /// Events of the key that were not known here before.
        learnt: Vec<Dot>,
        /// Siblings that are not kept any more.
        replaced: Vec<Dot>,
        /// Siblings that are kept, with their values.
        held: Vec<(Dot, Bytes)>,
    },
    /// These puts are durable.
    Durable(Vec<EventId>),
    /// From here on nothing passes from the first to the second of each.
    Cuts(Vec<(Place, Place)>),
    /// Something goes wrong, or is mended.
    Fault(Fault),
    /// A promise is broken: which of the outcome's violations it is.
    Violation(usize),
}

/// What a client is told of the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It succeeded.
    Ok,
    /// Nothing was applied.
    Refused,
    /// Nobody can tell.
    Unknown,
}

/// What a message between shards says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its name, as people say it.
    pub name: &'static str,
    /// Matches an answer to its question.
    pub call: Option<CallId>,
    /// Whether it answers.
    pub answers: bool,
    /// Values that it carries.
    pub carries: Vec<(Key, Dot, Bytes)>,
}

/// What a client asks, from the line that it sends.
pub(super) fn asked(line: &[u8], place: Place, verdict: bool) -> Said {
    let question: Value = serde_json::from_slice(line).unwrap_or_default();
    let text_of = |value: &Value, field: &str| value[field].as_str().map(str::to_owned);
    let mut text = text_of(&question, "cmd").unwrap_or_default();
    let mut keys = Vec::new();
    let items = question["items"].as_array().map_or([].as_slice(), Vec::as_slice);
    for item in std::iter::once(&question).chain(items) {
        if let Some(key) = text_of(item, "key") {
            write!(text, " {key}").expect("a string takes any text");
            keys.push(Key::plain(key));
        }
        if let Some(value) = text_of(item, "value") {
            write!(text, "={}", short(&value)).expect("a string takes any text");
        }
    }
    if let Some(level) = text_of(&question, "level") {
        write!(text, " {level}").expect("a string takes any text");
    }
    match question["context"].as_str() {
        Some("") => text.push_str(", has seen nothing"),
        Some(_) => text.push_str(", with a context"),
        None => {}
    }
    Said { text, keys, facts: Facts::Asked { place, verdict } }
}

/// What a node is asked.
pub(super) fn heard(line: &[u8], client: usize) -> Said {
    Said { facts: Facts::Heard { client }, ..asked(line, 0, false) }
}

/// What a node answers. The question knows the keys.
pub(super) fn answered(bytes: &[u8], client: usize) -> Said {
    let answer: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let outcome = match (answer["ok"].as_bool(), answer["outcome"].as_str()) {
        (Some(true), _) => Told::Ok,
        (Some(false), Some("unknown")) => Told::Unknown,
        (Some(false) | None, _) => Told::Refused,
    };
    let values: Vec<String> = match answer["values"].as_array() {
        Some(values) => values.iter().filter_map(Value::as_str).map(short).collect(),
        None => answer["value"].as_str().map(short).into_iter().collect(),
    };
    let code = answer["code"].as_str().unwrap_or("refused");
    let text = match outcome {
        Told::Ok if answer["values"].is_array() && values.is_empty() => String::from("no value"),
        Told::Ok if values.is_empty() => String::from("ok"),
        Told::Ok => values.join(", "),
        Told::Refused => code.replace('_', " "),
        Told::Unknown => format!("unknown: {}", code.replace('_', " ")),
    };
    Said { text, keys: Vec::new(), facts: Facts::Answered { client, outcome, values } }
}

/// No answer will come to a client.
pub(super) fn silence(client: usize) -> Said {
    let facts = Facts::Answered { client, outcome: Told::Unknown, values: Vec::new() };
    Said { facts, ..Said::text("no answer") }
}

/// What a frame says that leaves.
pub(super) fn sent(bytes: &[u8], to: Place, copies: usize, cut: bool) -> Said {
    let parcel = match peer::decode(&mut BytesMut::from(bytes)) {
        Ok(Some(Frame::Shard(message))) => Some(message),
        Ok(
            Some(Frame::Cluster(_) | Frame::Hello(_) | Frame::HelloAck(_) | Frame::Refusal(_))
            | None,
        )
        | Err(_) => None,
    };
    let (keys, parcel) = parcel.map(|message| open(&message)).unzip();
    let text = format!("{} to n{}", parcel.as_ref().map_or("control", |p: &Parcel| p.name), to + 1);
    let keys = keys.unwrap_or_default();
    Said { text, keys, facts: Facts::Sent { to, copies, cut, parcel } }
}

/// What a node puts.
pub(super) fn put(record: &Record, minted: Option<Dot>) -> Said {
    let held: Vec<(Dot, Bytes)> = entries(&record.object).collect();
    let values: Vec<String> =
        held.iter().map(|(dot, value)| format!("{dot}={}", value.escape_ascii())).collect();
    let text = format!(
        "{} {values:?} ctx {:?} dots {:?} removed {:?}",
        record.key.bytes.escape_ascii(),
        record.object.ctx,
        record.dots,
        record.removed
    );
    let facts =
        Facts::Put { minted, learnt: record.dots.clone(), replaced: record.removed.clone(), held };
    Said { text, keys: vec![record.key.clone()], facts }
}

fn entries(object: &Object) -> impl Iterator<Item = (Dot, Bytes)> + '_ {
    object.entries.iter().map(|entry| {
        let value = match entry.payload.len() {
            0..=TEXT_BYTES_MAX => entry.payload.clone(),
            _ => short(&String::from_utf8_lossy(&entry.payload)).into(),
        };
        (entry.dot, value)
    })
}

/// A value as people are shown it: how a long one begins tells it from all others.
fn short(value: &str) -> String {
    match value.split_at_checked(TEXT_BYTES_MAX) {
        Some((start, rest)) if !rest.is_empty() => {
            format!("{}.. ({} bytes)", start.trim_end_matches('.'), value.len())
        }
        Some(_) | None => String::from(value),
    }
}

/// What goes wrong, or is mended.
pub(super) fn fault(fault: &Fault) -> Said {
    Said { facts: Facts::Fault(fault.clone()), ..Said::text(format!("{fault:?}")) }
}

/// The keys of a message, as far as it names them, and what it carries.
fn open(message: &Message) -> (Vec<Key>, Parcel) {
    let (name, call, answers) = name_of(message);
    let mut keys = Vec::new();
    let mut carries = Vec::new();
    let mut load = |key: &Key, object: &Object| {
        keys.push(key.clone());
        carries.extend(entries(object).map(|(dot, value)| (key.clone(), dot, value)));
    };
    match message {
        Message::Replicate { items, .. } => {
            for item in items {
                load(&item.key, &item.object);
            }
        }
        Message::ReplicateBatch { items, .. }
        | Message::Hold { work: HoldWork::Merge(items), .. }
        | Message::Applied { items, .. } => {
            for (_, item) in items {
                load(&item.key, &item.object);
            }
        }
        Message::PageReply { items, .. } => {
            for (key, object) in items {
                load(key, object);
            }
        }
        Message::Forward { request, .. } => keys.extend(keys_of(&request.op)),
        Message::Hold { work: HoldWork::Put { items, .. }, .. } => {
            keys.extend(items.iter().map(|(_, key, _)| key.clone()));
        }
        Message::Read { key, .. } | Message::Explain { key, .. } | Message::Outcome { key, .. } => {
            keys.push(key.clone());
        }
        Message::ReadReply { answer: ReadAnswer::Object(object), .. } => {
            // The question knows the key.
            let key = Key::plain("");
            carries.extend(entries(object).map(|(dot, value)| (key.clone(), dot, value)));
        }
        Message::ReadReply { .. }
        | Message::ForwardReply { .. }
        | Message::ReplicateAck { .. }
        | Message::Page { .. }
        | Message::Count { .. }
        | Message::CountReply { .. }
        | Message::ExplainReply { .. }
        | Message::OutcomeReply { .. }
        | Message::Held { .. }
        | Message::Apply { .. }
        | Message::Release { .. } => {}
    }
    (keys, Parcel { name, call, answers, carries })
}

/// What people call a message, which call it belongs to, and whether it answers.
fn name_of(message: &Message) -> (&'static str, Option<CallId>, bool) {
    match message {
        Message::Forward { call, .. } => ("forward", Some(*call), false),
        Message::ForwardReply { call, .. } | Message::OutcomeReply { call, .. } => {
            ("outcome", Some(*call), true)
        }
        Message::Replicate { call, repair, .. } => {
            (if *repair { "repair" } else { "replicate" }, Some(*call), false)
        }
        Message::ReplicateBatch { call, .. } => ("replicate batch", Some(*call), false),
        Message::ReplicateAck { call, refusal } => {
            (if refusal.is_none() { "ack" } else { "refusal" }, Some(*call), true)
        }
        Message::Read { call, .. } => ("read", Some(*call), false),
        Message::ReadReply { call, answer } => {
            let name = match answer {
                ReadAnswer::Object(_) => "object",
                ReadAnswer::Digest(_) => "digest",
                ReadAnswer::Unknown(_) => "damaged",
                ReadAnswer::Refused(_) => "refusal",
            };
            (name, Some(*call), true)
        }
        Message::Page { call, .. } => ("page", Some(*call), false),
        Message::PageReply { call, .. } => ("page", Some(*call), true),
        Message::Count { call, .. } => ("count", Some(*call), false),
        Message::CountReply { call, .. } => ("count", Some(*call), true),
        Message::Explain { call, .. } => ("explain", Some(*call), false),
        Message::ExplainReply { call, .. } => ("explanation", Some(*call), true),
        Message::Outcome { call, .. } => ("inquiry", Some(*call), false),
        Message::Hold { call, .. } => ("hold", Some(*call), false),
        Message::Held { call, .. } => ("held", Some(*call), true),
        Message::Apply { call, .. } => ("apply", Some(*call), false),
        Message::Applied { call, .. } => ("applied", Some(*call), true),
        Message::Release { .. } => ("release", None, false),
    }
}

fn keys_of(op: &Op) -> Vec<Key> {
    match op {
        Op::Get { key }
        | Op::Put { key, .. }
        | Op::Delete { key, .. }
        | Op::Outcome { key, .. }
        | Op::Explain { key } => vec![key.clone()],
        Op::Batch { items, .. } => items.iter().map(|(key, _)| key.clone()).collect(),
        Op::Scan(_) | Op::Count { .. } | Op::Conflicts { .. } => Vec::new(),
    }
}
