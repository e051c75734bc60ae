//! Short names for dots: `n2.17` is event 17 of the second node, `n2b.3` one of its second life
//! that minted anything, and so on.

use std::collections::{BTreeMap, BTreeSet};

use crate::causality::{Actor, Dot};
use crate::sim::facts::Facts;
use crate::sim::network::Place;
use crate::sim::trace::{Lane, TraceEvent};

/// What actors are called.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    actors: BTreeMap<Actor, String>,
    /// Every dot that was minted, by its name in logs; the longest first.
    dots: Vec<(String, Dot)>,
}

impl Names {
    /// The names of everything that was minted in these events.
    pub(super) fn of(events: &[TraceEvent]) -> Self {
        let mut minted: BTreeMap<Place, Vec<Actor>> = BTreeMap::new();
        let mut dots = BTreeSet::new();
        for event in events {
            if let (Lane::Node(place), Facts::Put { minted: Some(dot), .. }) =
                (event.lane, &event.facts)
            {
                dots.insert(*dot);
                let actors = minted.entry(place).or_default();
                if !actors.contains(&dot.actor) {
                    actors.push(dot.actor);
                }
            }
        }
        let mut names = Self::default();
        for (place, actors) in minted {
            for (index, actor) in actors.into_iter().enumerate() {
                let letter = if index == 0 { String::new() } else { letters(index) };
                names.actors.insert(actor, format!("n{}{letter}", place + 1));
            }
        }
        names.dots = dots.into_iter().map(|dot| (dot.to_string(), dot)).collect();
        // Of two names of which one begins with the other, the longer is looked for first.
        names.dots.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names
    }

    /// What a dot is called.
    pub(super) fn dot(&self, dot: Dot) -> String {
        let known = self.actors.get(&dot.actor);
        known.map_or_else(|| dot.to_string(), |actor| format!("{actor}.{}", dot.seq))
    }

    /// A text in which dots have their short names.
    pub(super) fn rename(&self, text: &str) -> String {
        self.dots
            .iter()
            .filter(|(name, _)| text.contains(name.as_str()))
            .fold(text.to_owned(), |text, (name, dot)| text.replace(name, &self.dot(*dot)))
    }

    /// The dots that a text names.
    pub(super) fn named_in(&self, text: &str) -> BTreeSet<Dot> {
        let mut left = text.to_owned();
        let mut found = BTreeSet::new();
        for (name, dot) in &self.dots {
            if left.contains(name.as_str()) {
                left = left.replace(name, "");
                found.insert(*dot);
            }
        }
        found
    }
}

/// `b` for the second life, `z` for the 26th, then by number.
fn letters(index: usize) -> String {
    let letter = u8::try_from(index).ok().and_then(|index| b'a'.checked_add(index));
    match letter {
        Some(letter @ b'a'..=b'z') => char::from(letter).to_string(),
        Some(_) | None => format!("_{}", index + 1),
    }
}
