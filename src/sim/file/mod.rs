//! Scenarios as files: TOML to be read, written and kept by people.
//!
//! Reading is a function of the text: a scenario comes out, or everything that is wrong with the
//! text, each with its line. Writing is its inverse: what was written reads as what it was.
//! docs/simulations.md describes the format.

mod check;
mod fields;
mod settings;
mod steps;
#[cfg(test)]
mod tests;
mod words;
mod write;

use std::fmt;

use toml::de::DeTable;

use super::scenario::Scenario;
use fields::Desk;

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// In which line, from 1.
    pub line: usize,
    /// What it is and, where that can be guessed, what was meant.
    pub text: String,
}

impl Scenario {
    /// The scenario of a text, or everything that is wrong with the text, in the order of its
    /// lines.
    pub fn from_toml(text: &str) -> Result<Self, Vec<Complaint>> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let desk = Desk::new(text);
        for error in &errors {
            let at = error.span().map_or(0, |span| span.start);
            desk.say(at, error.message().replace('\n', ", "));
        }
        // What was understood of a broken text would be a guess.
        let scenario = errors.is_empty().then(|| steps::scenario(table.get_ref(), &desk));
        let complaints = desk.into_complaints();
        match scenario {
            Some(scenario) if complaints.is_empty() => Ok(scenario),
            Some(_) | None => Err(complaints),
        }
    }

    /// The text of the scenario. Keys and values must be text, as all that clients draw is.
    pub fn to_toml(&self) -> String {
        write::scenario(self)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.text)
    }
}
