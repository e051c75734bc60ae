//! The story as plain text: time runs down, each lane is a column, and what happened stands beside.

use std::fmt::Write as _;

use super::story::{Lane, LaneKind, Row, RowKind, Story};
use super::words::span;

/// Columns of a line; what is longer is cut off.
const COLUMNS_MAX: usize = 160;
/// Columns of the time.
const TIME_COLUMNS: usize = 13;
/// From this time on in which nothing happened, a line says so.
const PAUSE_US: i64 = 500_000;

/// What each mark stands for.
const LEGEND: &str = "o asks or is answered, * hears or sends, # holds a version, = is durable, \
                      x is lost, X dies, ^ starts, ! goes wrong, a gap: no process";

/// The timeline of a story.
pub(super) fn text(story: &Story) -> String {
    let mut lines = Lines::new(story);
    let mut text = format!("{}: {}\n{}\n", story.name, story.replay, story.verdict);
    writeln!(text, "key {}; times in milliseconds since the cluster was there", story.key)
        .expect("a string takes any text");
    writeln!(text, "{LEGEND}\n").expect("a string takes any text");
    if story.left_out > 0 {
        writeln!(text, "{} earlier events are left out", story.left_out)
            .expect("a string takes any text");
    }
    text.push_str(&lines.names());
    let mut last_us = story.rows.first().map_or(0, |row| row.at_us);
    for row in &story.rows {
        let pause_us = row.at_us - last_us;
        if pause_us >= PAUSE_US {
            text.push_str(&lines.pause(pause_us));
        }
        last_us = row.at_us;
        text.push_str(&lines.row(row));
    }
    text
}

/// Where the lanes stand, and which of them have a process now.
struct Lines<'a> {
    story: &'a Story,
    /// The column of each lane.
    columns: Vec<usize>,
    /// The first column behind the lanes.
    width: usize,
    alive: Vec<bool>,
}

impl<'a> Lines<'a> {
    fn new(story: &'a Story) -> Self {
        let mut columns = Vec::new();
        let mut width = TIME_COLUMNS + 2;
        for lane in &story.lanes {
            columns.push(width);
            width += match lane.kind {
                LaneKind::World => 0,
                LaneKind::Client | LaneKind::Judge | LaneKind::Node => label(lane).len().max(3) + 1,
            };
        }
        Self { story, columns, width, alive: vec![true; story.lanes.len()] }
    }

    /// The heads of the columns.
    fn names(&self) -> String {
        let mut line = blank(self.width);
        for (lane, column) in self.story.lanes.iter().zip(&self.columns) {
            if lane.kind != LaneKind::World {
                place(&mut line, *column, &label(lane));
            }
        }
        finish(line, "")
    }

    fn pause(&self, pause_us: i64) -> String {
        let mut line = self.lanes();
        let us = u64::try_from(pause_us).unwrap_or_default();
        place(&mut line, 0, "...");
        finish(line, &format!("{} later", span(us)))
    }

    fn row(&mut self, row: &Row) -> String {
        let mut line = self.lanes();
        let at_us = row.at_us.unsigned_abs();
        let sign = if row.at_us < 0 { "-" } else { "" };
        let time = format!("{sign}{}.{:03}", at_us / 1_000, at_us % 1_000);
        place(&mut line, 0, &format!("{time:>TIME_COLUMNS$}"));
        let column = self.columns[row.lane];
        if self.story.lanes[row.lane].kind == LaneKind::World {
            let mark = if row.kind == RowKind::Violation { "!" } else { "~" };
            place(&mut line, column, &mark.repeat(self.width - column - 1));
        } else {
            if let Some(from) = row.from {
                arrow(&mut line, self.columns[self.story.rows[from].lane], column, ">", "<");
            }
            if let Some(to) = row.to.filter(|_| row.lost) {
                arrow(&mut line, column, self.columns[to], "x", "x");
            }
            place(&mut line, column, mark(row.kind));
        }
        match row.kind {
            RowKind::Start => self.alive[row.lane] = true,
            RowKind::Stop => self.alive[row.lane] = false,
            RowKind::Ask
            | RowKind::Question
            | RowKind::Reply
            | RowKind::Answer
            | RowKind::Send
            | RowKind::Arrive
            | RowKind::Unheard
            | RowKind::Put
            | RowKind::Durable
            | RowKind::Fault
            | RowKind::Violation => {}
        }
        finish(line, &self.words(row))
    }

    /// A line on which nothing happens.
    fn lanes(&self) -> Vec<u8> {
        let mut line = blank(self.width);
        let drawn = self.story.lanes.iter().zip(&self.columns).zip(&self.alive);
        for ((lane, column), alive) in drawn {
            if lane.kind != LaneKind::World && *alive {
                place(&mut line, *column, "|");
            }
        }
        line
    }

    fn words(&self, row: &Row) -> String {
        let name = &self.story.lanes[row.lane].name;
        let from = |id: usize| &self.story.lanes[self.story.rows[id].lane].name;
        let what = match row.kind {
            RowKind::Ask => {
                format!("{name} {}: {}", row.notes.first().map_or("", |n| n), row.title)
            }
            RowKind::Question => format!("{name} is asked: {}", row.title),
            RowKind::Reply => format!("{name} answers: {}", row.title),
            RowKind::Answer => format!("{name} is told: {}", row.title),
            RowKind::Send => {
                let to = row.to.map_or("", |to| self.story.lanes[to].name.as_str());
                format!("{name} sends {} to {to}", row.title)
            }
            RowKind::Arrive | RowKind::Unheard => match row.from {
                Some(sent) => format!("{name} hears {} of {}", row.title, from(sent)),
                None => format!("{name} hears {}", row.title),
            },
            RowKind::Put => format!("{name} puts {}", row.title),
            RowKind::Durable => format!("{name}: durable"),
            RowKind::Start | RowKind::Stop => format!("{name} {}", row.title),
            RowKind::Fault if self.story.lanes[row.lane].kind == LaneKind::World => {
                format!("network: {}", row.title)
            }
            RowKind::Fault => format!("{name}: {}", row.title),
            RowKind::Violation => format!("VIOLATION {}", row.title),
        };
        let notes = match row.kind {
            RowKind::Send | RowKind::Put | RowKind::Unheard => row.notes.join("; "),
            RowKind::Ask
            | RowKind::Question
            | RowKind::Reply
            | RowKind::Answer
            | RowKind::Arrive
            | RowKind::Durable
            | RowKind::Start
            | RowKind::Stop
            | RowKind::Fault
            | RowKind::Violation => String::new(),
        };
        if notes.is_empty() { what } else { format!("{what}; {notes}") }
    }
}

fn label(lane: &Lane) -> String {
    lane.name.chars().filter(char::is_ascii_graphic).take(8).collect()
}

fn mark(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Ask | RowKind::Answer => "o",
        RowKind::Question | RowKind::Reply | RowKind::Send | RowKind::Arrive => "*",
        RowKind::Unheard => "x",
        RowKind::Put => "#",
        RowKind::Durable => "=",
        RowKind::Start => "^",
        RowKind::Stop => "X",
        RowKind::Fault | RowKind::Violation => "!",
    }
}

fn blank(width: usize) -> Vec<u8> {
    vec![b' '; width]
}

/// Writes ASCII text over a line.
fn place(line: &mut [u8], column: usize, text: &str) {
    for (cell, byte) in line.iter_mut().skip(column).zip(text.bytes()) {
        *cell = byte;
    }
}

/// Draws from one column to another, with a head beside the latter.
fn arrow(line: &mut [u8], from: usize, to: usize, right: &str, left: &str) {
    let (low, high) = (from.min(to), from.max(to));
    if high <= low + 1 {
        return;
    }
    place(line, low + 1, &"-".repeat(high - low - 1));
    if from < to {
        place(line, to - 1, right);
    } else {
        place(line, to + 1, left);
    }
}

fn finish(line: Vec<u8>, words: &str) -> String {
    let line = String::from_utf8(line).expect("lines are made of ASCII");
    let words = words.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
    let text: String = format!("{line} {words}").chars().take(COLUMNS_MAX).collect();
    format!("{}\n", text.trim_end())
}
