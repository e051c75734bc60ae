//! Tables of a file, field by field: what is there is taken, what is missing or left over is told.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Complaint;
use super::words;

/// A value with its place in the text.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// Where complaints are collected.
#[derive(Debug)]
pub(super) struct Desk<'t> {
    text: &'t str,
    complaints: RefCell<Vec<(usize, String)>>,
}

/// One table, of which each field is taken once.
#[derive(Debug)]
pub(super) struct Fields<'t> {
    /// What it is, for complaints: `the step`.
    pub(super) what: String,
    /// Where it begins.
    pub(super) at: usize,
    table: &'t DeTable<'t>,
    known: Vec<&'static str>,
}

impl<'t> Desk<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, complaints: RefCell::default() }
    }

    /// Something is wrong at this byte of the text.
    pub(super) fn say(&self, at: usize, text: impl Into<String>) {
        self.complaints.borrow_mut().push((at, text.into()));
    }

    /// Everything that was said, in the order of the text.
    pub(super) fn into_complaints(self) -> Vec<Complaint> {
        let mut complaints = self.complaints.into_inner();
        complaints.sort();
        complaints.dedup();
        let line = |at: usize| 1 + self.text.get(..at).unwrap_or_default().matches('\n').count();
        let placed = |(at, text)| Complaint { line: line(at), text };
        complaints.into_iter().map(placed).collect()
    }

    /// The value of `reading`, or its error at this place.
    pub(super) fn read<T>(&self, at: usize, reading: Result<T, String>) -> Option<T> {
        reading.map_err(|text| self.say(at, text)).ok()
    }

    /// A value that must be text.
    pub(super) fn text(&self, value: &'t Value<'t>) -> Option<&'t str> {
        let DeValue::String(text) = value.get_ref() else {
            return self.wrong(value, "a text in quotes");
        };
        Some(text)
    }

    /// A value that must be text with at least one letter.
    pub(super) fn name(&self, value: &'t Value<'t>) -> Option<&'t str> {
        let text = self.text(value)?;
        if text.is_empty() {
            self.say(value.span().start, "it is empty");
        }
        (!text.is_empty()).then_some(text)
    }

    /// A value that must be a whole number within bounds.
    pub(super) fn number(&self, value: &'t Value<'t>, min: u64, max: u64) -> Option<u64> {
        let DeValue::Integer(digits) = value.get_ref() else {
            return self.wrong(value, "a whole number");
        };
        let number = u64::from_str_radix(digits.as_str(), digits.radix()).ok();
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            let bounds = if max == u64::MAX {
                format!("at least {min} and of 64 bits")
            } else {
                format!("{min} to {max}")
            };
            self.say(value.span().start, format!("{digits} must be {bounds}"));
        }
        number
    }

    /// A value that must be a chance: a number from 0 to 1.
    pub(super) fn chance(&self, value: &'t Value<'t>) -> Option<u32> {
        let digits = match value.get_ref() {
            DeValue::Float(digits) => Some(digits.as_str()),
            DeValue::Integer(digits) => Some(digits.as_str()),
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => self.wrong(value, "a number from 0 to 1"),
        };
        self.read(value.span().start, words::chance(digits?))
    }

    /// A value that must be true or false.
    pub(super) fn flag(&self, value: &'t Value<'t>) -> Option<bool> {
        let DeValue::Boolean(flag) = value.get_ref() else {
            return self.wrong(value, "true or false");
        };
        Some(*flag)
    }

    /// A value that must be a time.
    pub(super) fn time(&self, value: &'t Value<'t>, max: u64) -> Option<u64> {
        let DeValue::String(text) = value.get_ref() else {
            return self.wrong(value, "a time with its unit, as \"5s\"");
        };
        self.read(value.span().start, words::time_us(text, max))
    }

    /// A value that must be a list.
    pub(super) fn list(&self, value: &'t Value<'t>) -> Option<&'t [Value<'t>]> {
        let DeValue::Array(items) = value.get_ref() else {
            return self.wrong(value, "a list in []");
        };
        Some(&items[..])
    }

    /// A value that must be one of these words.
    pub(super) fn word(
        &self,
        value: &'t Value<'t>,
        what: &str,
        known: &[&'static str],
    ) -> Option<&'static str> {
        let text = self.text(value)?;
        let word = known.iter().find(|word| **word == text).copied();
        if word.is_none() {
            let hint = words::hint(text, known);
            self.say(value.span().start, format!("{text:?} is no {what}{hint}"));
        }
        word
    }

    fn wrong<T>(&self, value: &Value<'_>, wanted: &str) -> Option<T> {
        let found = match value.get_ref() {
            DeValue::String(text) => format!("the text {text:?}"),
            DeValue::Integer(digits) => format!("the number {digits}"),
            DeValue::Float(digits) => format!("the number {digits}"),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(_) => String::from("a date"),
            DeValue::Array(_) => String::from("a list"),
            DeValue::Table(_) => String::from("a table"),
        };
        self.say(value.span().start, format!("{wanted} is wanted here, and there is {found}"));
        None
    }
}

impl<'t> Fields<'t> {
    pub(super) fn new(what: impl Into<String>, at: usize, table: &'t DeTable<'t>) -> Self {
        Self { what: what.into(), at, table, known: Vec::new() }
    }

    /// The fields of a value that must be a table.
    pub(super) fn of(
        desk: &Desk<'t>,
        what: impl Into<String>,
        value: &'t Value<'t>,
    ) -> Option<Self> {
        let DeValue::Table(table) = value.get_ref() else {
            return desk.wrong(value, "a table");
        };
        Some(Self::new(what, value.span().start, table))
    }

    /// A field that may be missing.
    pub(super) fn take(&mut self, name: &'static str) -> Option<&'t Value<'t>> {
        self.known.push(name);
        self.table.get(name)
    }

    /// A field that must be there.
    pub(super) fn need(&mut self, desk: &Desk<'t>, name: &'static str) -> Option<&'t Value<'t>> {
        let value = self.take(name);
        if value.is_none() {
            desk.say(self.at, format!("{} has no `{name}`", self.what));
        }
        value
    }

    /// Names whatever was not taken.
    pub(super) fn end(self, desk: &Desk<'t>) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let hint = words::hint(name, &self.known);
                desk.say(key.span().start, format!("{} takes no `{name}`{hint}", self.what));
            }
        }
    }
}
