//! The log that `ShiViz` draws: for each event a line of text and a line with host and clock.
//!
//! The first line is the regular expression to paste as its parser, the second is empty: there is
//! one execution. Source of the format: the wiki of `ShiViz`, "Log format".

use std::fmt::Write as _;

use super::story::Story;

const PARSER: &str = r"(?<event>.*)\n(?<host>\S*) (?<clock>{.*})";

/// The log of a story.
pub(super) fn text(story: &Story) -> String {
    let mut log = format!("{PARSER}\n\n");
    let hosts: Vec<String> = story.lanes.iter().map(|lane| lane.name.replace(' ', "-")).collect();
    for (row, clock) in story.rows.iter().zip(story.clocks()) {
        let known: Vec<String> = hosts
            .iter()
            .zip(&clock)
            .filter(|(_, count)| **count > 0)
            .map(|(host, count)| format!("\"{host}\":{count}"))
            .collect();
        let title: String = row
            .title
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        let (at_us, host, clock) = (row.at_us, &hosts[row.lane], known.join(","));
        writeln!(log, "{at_us} us {:?} {title}\n{host} {{{clock}}}", row.kind)
            .expect("a string takes any text");
    }
    log
}
