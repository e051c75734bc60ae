//! What a file says that cannot be true together.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::fields::Desk;
use crate::hash::Key;
use crate::sim::scenario::{Action, Answered, Expectation, Request, Step};

/// A write of the file.
struct Write {
    at_us: u64,
    refused: bool,
}

/// Whether a question can have this answer at all.
pub(super) fn answer_fits(
    desk: &Desk<'_>,
    at: usize,
    word: &str,
    request: Option<&Request>,
    answer: &Answered,
) {
    let Answered::Values(values) = answer else { return };
    match request {
        Some(Request::Get { siblings: false, .. }) if values.len() > 1 => {
            desk.say(at, "a plain read shows one value; ask with `siblings = true`");
        }
        Some(Request::Get { .. }) | None => {}
        Some(
            Request::Set { .. }
            | Request::Delete { .. }
            | Request::Bulk { .. }
            | Request::Scan { .. }
            | Request::Count
            | Request::Explain { .. },
        ) => {
            desk.say(at, format!("`{word}` shows no values; it is ok, refused or unknown"));
        }
    }
}

/// Says what contradicts itself. `is_told`: nobody writes anything but in steps, so a value that no
/// step writes cannot be read.
pub(super) fn contradictions(
    desk: &Desk<'_>,
    is_told: bool,
    steps: &[(usize, Step)],
    expects: &[(usize, Expectation)],
) {
    let writes = writes(desk, steps);
    if is_told {
        for (at, step) in steps {
            let Action::Ask(operation) = &step.action else { continue };
            let (Request::Get { key, .. }, Some(Answered::Values(values))) =
                (&operation.request, &operation.expect)
            else {
                continue;
            };
            for value in values {
                let write = writes.get(&(key, value));
                if write.is_none_or(|write| write.at_us > step.at_us) {
                    desk.say(*at, format!("nobody has written {} until then", named(key, value)));
                }
            }
        }
    }
    ends(desk, is_told, &writes, expects);
}

/// Every write of a value, which must be the only one of its key.
fn writes<'s>(
    desk: &Desk<'_>,
    steps: &'s [(usize, Step)],
) -> BTreeMap<(&'s Key, &'s Bytes), Write> {
    let mut writes = BTreeMap::new();
    for (at, step) in steps {
        let Action::Ask(operation) = &step.action else { continue };
        let items: Vec<(&Key, &Bytes)> = match &operation.request {
            Request::Set { key, value, .. } => vec![(key, value)],
            Request::Bulk { items, .. } => items.iter().map(|(key, value)| (key, value)).collect(),
            Request::Get { .. }
            | Request::Delete { .. }
            | Request::Scan { .. }
            | Request::Count
            | Request::Explain { .. } => Vec::new(),
        };
        for item in items {
            let refused = operation.expect == Some(Answered::Refused);
            if writes.insert(item, Write { at_us: step.at_us, refused }).is_some() {
                let text = format!(
                    "{} is written twice; a value tells its write from all others",
                    named(item.0, item.1)
                );
                desk.say(*at, text);
            }
        }
    }
    writes
}

/// The expectations of the end, against one another and against the writes.
fn ends(
    desk: &Desk<'_>,
    is_told: bool,
    writes: &BTreeMap<(&Key, &Bytes), Write>,
    expects: &[(usize, Expectation)],
) {
    let mut converged = false;
    let mut expected: BTreeMap<&Key, Vec<&Bytes>> = BTreeMap::new();
    for (at, expectation) in expects {
        match expectation {
            Expectation::Converged(_) if converged => {
                desk.say(*at, "another `converged` is expected already");
            }
            Expectation::Converged(_) => converged = true,
            Expectation::Values(key, values) => {
                let mut sorted: Vec<&Bytes> = values.iter().collect();
                sorted.sort();
                match expected.insert(key, sorted.clone()) {
                    Some(before) if before == sorted => desk.say(*at, "this is expected already"),
                    Some(_) => {
                        let name = key.bytes.escape_ascii();
                        desk.say(*at, format!("other values of \"{name}\" are expected already"));
                    }
                    None => {}
                }
                for value in values {
                    match writes.get(&(key, value)) {
                        Some(write) if write.refused => {
                            let text = format!(
                                "the write of {} is to be refused, so it can never be read",
                                named(key, value)
                            );
                            desk.say(*at, text);
                        }
                        None if is_told => {
                            desk.say(*at, format!("nobody writes {}", named(key, value)));
                        }
                        Some(_) | None => {}
                    }
                }
            }
        }
    }
}

fn named(key: &Key, value: &Bytes) -> String {
    format!("\"{}\" to \"{}\"", value.escape_ascii(), key.bytes.escape_ascii())
}
