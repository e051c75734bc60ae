//! From a scenario to the text of a file that says the same.

use std::fmt::Write as _;

use bytes::Bytes;

use super::settings;
use super::steps::PAGE_KEYS;
use super::words::{jump_text, quoted, time_text};
use crate::api::Level;
use crate::hash::Key;
use crate::sim::scenario::{
    Action, Answered, Context, Expectation, Operation, Request, Scenario, Step,
};
use crate::sim::{Fault, Kind, Part, Place};

/// The text of a scenario.
pub(super) fn scenario(scenario: &Scenario) -> String {
    let mut text = format!("name = {}\n", quoted(&scenario.name));
    let settings = settings::written(&scenario.options);
    for line in settings.get("").into_iter().flatten() {
        writeln!(text, "{line}").expect("a string takes any text");
    }
    if let Some(bug) = scenario.options.planted {
        writeln!(text, "planted = {}", quoted(bug.name())).expect("a string takes any text");
    }
    if !scenario.clients.is_empty() {
        let clients = list(scenario.clients.iter().map(|name| quoted(name)));
        writeln!(text, "clients = {clients}").expect("a string takes any text");
    }
    for section in settings::SECTIONS {
        if let Some(lines) = settings.get(section) {
            write!(text, "\n[{section}]\n{}\n", lines.join("\n")).expect("a string takes any text");
        }
    }
    for step in &scenario.steps {
        write!(text, "\n[[step]]\n{}", step_lines(step, &scenario.clients))
            .expect("a string takes any text");
    }
    for expectation in &scenario.expects {
        let lines = match expectation {
            Expectation::Converged(us) => {
                format!("check = \"converged\"\nwithin = {}\n", quoted(&time_text(*us)))
            }
            Expectation::Values(key, values) => {
                let values = list(values.iter().map(bytes));
                format!("check = \"siblings\"\nkey = {}\nvalues = {values}\n", bytes(&key.bytes))
            }
        };
        write!(text, "\n[[expect]]\nat = \"end\"\n{lines}").expect("a string takes any text");
    }
    text
}

fn step_lines(step: &Step, clients: &[String]) -> String {
    let mut lines = format!("at = {}\n", quoted(&time_text(step.at_us)));
    let (word, fields) = match &step.action {
        Action::Fault(fault) => fault_fields(fault, clients),
        Action::Ask(operation) => operation_fields(operation, clients),
    };
    writeln!(lines, "do = {}", quoted(word)).expect("a string takes any text");
    for (name, value) in fields {
        writeln!(lines, "{name} = {value}").expect("a string takes any text");
    }
    lines
}

/// The word of a fault and its fields.
fn fault_fields(fault: &Fault, clients: &[String]) -> (&'static str, Vec<(&'static str, String)>) {
    let (word, parts) = fault.parts();
    let kind = Kind::of(word).expect("every fault is in the catalogue");
    let texts = parts.into_iter().map(|part| match part {
        Part::Node(place) => node(place),
        Part::Client(client) => quoted(clients.get(client).map_or("", String::as_str)),
        Part::Nodes(places) => nodes(&places),
        Part::Groups(groups) => list(groups.iter().map(|group| nodes(group))),
        Part::Time(us) => quoted(&time_text(us)),
        Part::Jump(ms) => quoted(&jump_text(ms)),
        Part::Number(number) => number.to_string(),
        Part::Word(word) => quoted(word),
    });
    (word, kind.fields.iter().map(|(name, _)| *name).zip(texts).collect())
}

/// The word of a question and its fields.
fn operation_fields(
    operation: &Operation,
    clients: &[String],
) -> (&'static str, Vec<(&'static str, String)>) {
    let client = clients.get(operation.client).map_or("", String::as_str);
    let mut fields = vec![("client", quoted(client))];
    fields.extend(operation.via.map(|place| ("via", node(place))));
    let (word, rest) = match &operation.request {
        Request::Get { key, siblings } => {
            let flag = siblings.then(|| ("siblings", siblings.to_string()));
            ("get", [named(key)].into_iter().chain(flag).collect::<Vec<_>>())
        }
        Request::Set { key, value, context, ttl_us } => {
            let written = [named(key), ("value", bytes(value))];
            let rest = context_field(*context).into_iter().chain(ttl_field(*ttl_us));
            ("set", written.into_iter().chain(rest).collect())
        }
        Request::Delete { key, context } => {
            ("delete", [named(key)].into_iter().chain(context_field(*context)).collect())
        }
        Request::Bulk { items, isolated, ttl_us } => {
            let pairs = items.iter().map(|(key, value)| list([bytes(&key.bytes), bytes(value)]));
            let flag = isolated.then(|| ("isolated", isolated.to_string()));
            let rest = flag.into_iter().chain(ttl_field(*ttl_us));
            ("bulk", [("items", list(pairs))].into_iter().chain(rest).collect())
        }
        Request::Scan { limit } => {
            let field = (*limit != PAGE_KEYS).then(|| ("limit", limit.to_string()));
            ("scan", field.into_iter().collect())
        }
        Request::Count => ("count", Vec::new()),
        Request::Explain { key } => ("explain", vec![named(key)]),
    };
    fields.extend(rest);
    if operation.level != Level::default() {
        fields.push(("level", quoted(operation.level.name())));
    }
    fields.extend(operation.expect.as_ref().map(|answer| {
        let text = match answer {
            Answered::Ok => quoted("ok"),
            Answered::Refused => quoted("refused"),
            Answered::Unknown => quoted("unknown"),
            Answered::Values(values) => list(values.iter().map(bytes)),
        };
        ("expect", text)
    }));
    (word, fields)
}

fn ttl_field(ttl_us: u64) -> Option<(&'static str, String)> {
    (ttl_us != 0).then(|| ("ttl", quoted(&time_text(ttl_us))))
}

fn context_field(context: Context) -> Option<(&'static str, String)> {
    let (word, ..) = Context::ALL.into_iter().find(|(_, other, _)| *other == context)?;
    (context != Context::Absent).then(|| ("context", quoted(word)))
}

fn named(key: &Key) -> (&'static str, String) {
    ("key", bytes(&key.bytes))
}

fn bytes(bytes: &Bytes) -> String {
    quoted(&String::from_utf8_lossy(bytes))
}

fn node(place: Place) -> String {
    quoted(&format!("n{}", place + 1))
}

fn nodes(places: &[Place]) -> String {
    list(places.iter().map(|place| node(*place)))
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(", "))
}
