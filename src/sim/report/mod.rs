//! What a run leaves for people and tools: a text timeline, one page with the space-time diagram,
//! JSON, and a log for `ShiViz`.
//!
//! Each is a function from the outcome of a run that kept its trace to text, so the same seed
//! gives the same bytes. All four tell one [`Story`]: what mattered to the key of the first
//! violation, or, where everything held, to the key that was put most often.

mod build;
mod names;
mod page;
mod select;
mod shiviz;
mod story;
#[cfg(test)]
mod tests;
mod timeline;
mod words;

use super::run::Outcome;

pub use story::{
    Cut, FORMAT, Gap, Lane, LaneKind, Past, Row, RowKind, Story, Tone, VERSION, Version,
    VersionState,
};

/// Most rows of the page and of JSON: more are no picture any more, and a page stays below 1 MB.
const ROWS_MAX: usize = 1_200;
/// Most rows of a timeline.
const TIMELINE_ROWS_MAX: usize = 400;

/// The story of a run, as data. `replay` is the command that runs it again.
pub fn story(outcome: &Outcome, replay: &str) -> Story {
    build::build(outcome, replay, ROWS_MAX)
}

/// The story as plain text, one row an event, one column a lane.
pub fn timeline(outcome: &Outcome, replay: &str) -> String {
    timeline::text(&build::build(outcome, replay, TIMELINE_ROWS_MAX))
}

/// The story as one page that needs no network.
pub fn html(outcome: &Outcome, replay: &str) -> String {
    page::text(&story(outcome, replay))
}

/// The story as JSON, pretty-printed: [`FORMAT`] and [`VERSION`] say how to read it.
pub fn json(outcome: &Outcome, replay: &str) -> String {
    let story = story(outcome, replay);
    let mut text = serde_json::to_string_pretty(&story).expect("a story is plain data");
    text.push('\n');
    text
}

/// The story as a log with vector clocks that `ShiViz` reads. Its first line is the expression
/// that parses it.
pub fn shiviz(outcome: &Outcome, replay: &str) -> String {
    shiviz::text(&story(outcome, replay))
}
