//! What happened, as a rolling hash that two runs can compare and, on demand, as a list in which
//! each event names what brought it about.
//!
//! The hash takes in every event of the world with its time, place, kind and payload, so two runs
//! that differ anywhere differ from there on. A mark every 1,024 events lets a comparison find the
//! block of the first difference without keeping the events.
//!
//! What happened before what (Lamport, "Time, Clocks, and the Ordering of Events in a Distributed
//! System", CACM 1978): the events of one lane follow one another, over all lives of a node, for
//! its disk outlives its processes; and each event follows its cause on another lane, which the
//! world carries in its queue beside the bytes, never in them. The world itself is no lane: two
//! faults do not bring one another about. Invariant: a cause has a smaller id than its effect.

use std::collections::BTreeSet;
use std::fmt;

use super::facts::{Facts, Said};
use super::network::Place;
use crate::hash::Key;

/// Events between two marks.
pub const MARK_EVENTS: u64 = 1_024;

/// The number of a kept event, in the order in which they happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub usize);

/// Where an event happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// At a node.
    Node(Place),
    /// At a client.
    Client(usize),
    /// To the network or to all; and what the oracles find.
    World,
}

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// Virtual microseconds since the beginning.
    pub at_us: u64,
    /// Where.
    pub lane: Lane,
    /// What kind of event it is, from a fixed list of words.
    pub kind: &'static str,
    /// The rest, for people.
    pub text: String,
    /// The keys that it is about.
    pub keys: Vec<Key>,
    /// What brought it about, where that is not merely what its lane did before.
    pub cause: Option<EventId>,
    /// The rest, for programs.
    pub facts: Facts,
}

/// The record of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u128,
    events: u64,
    marks: Vec<u128>,
    kept: Option<Vec<TraceEvent>>,
    /// What is happening now came of this.
    cause: Option<EventId>,
}

impl Trace {
    /// An empty record; `keep` = with the events themselves.
    pub fn new(keep: bool) -> Self {
        let kept = keep.then(Vec::new);
        Self { hash: OFFSET, events: 0, marks: Vec::new(), kept, cause: None }
    }

    /// Takes in one event. `text` is made only where events are kept.
    pub fn note(
        &mut self,
        at_us: u64,
        lane: impl Into<Lane>,
        kind: &'static str,
        payload: &[u8],
        text: impl FnOnce() -> String,
    ) {
        let lane = lane.into();
        self.mix(at_us);
        self.mix(lane.word());
        self.mix_bytes(kind.as_bytes());
        self.mix_bytes(payload);
        self.events += 1;
        if self.events.is_multiple_of(MARK_EVENTS) {
            self.marks.push(self.hash);
        }
        self.keep(at_us, lane, kind, || Said::text(text()));
    }

    /// Keeps, where events are kept, one that follows from those which the hash takes in.
    pub(super) fn keep(
        &mut self,
        at_us: u64,
        lane: Lane,
        kind: &'static str,
        said: impl FnOnce() -> Said,
    ) {
        let Some(kept) = &mut self.kept else { return };
        let id = EventId(kept.len());
        let Said { text, keys, facts } = said();
        kept.push(TraceEvent { at_us, lane, kind, text, keys, cause: self.cause, facts });
        self.cause = Some(id);
    }

    /// Says more of the event that was kept last.
    pub(super) fn explain(&mut self, said: impl FnOnce() -> Said) {
        let Some(last) = self.kept.as_mut().and_then(|kept| kept.last_mut()) else { return };
        let Said { text, keys, facts } = said();
        *last = TraceEvent { text, keys, facts, ..last.clone() };
    }

    /// What brought about whatever happens next.
    pub(super) fn cause(&self) -> Option<EventId> {
        self.cause
    }

    /// Something begins to happen that came of `cause`.
    pub(super) fn resume(&mut self, cause: Option<EventId>) {
        self.cause = cause;
    }

    /// The events that `event` may have been brought about by, and itself.
    pub fn causal_past(&self, event: EventId) -> BTreeSet<EventId> {
        let before = self.before_on_lane();
        let mut past = BTreeSet::new();
        let mut open = vec![event];
        while let Some(id) = open.pop() {
            let Some(found) = self.events().get(id.0) else { continue };
            if past.insert(id) {
                open.extend(found.cause);
                open.extend(before[id.0]);
            }
        }
        past
    }

    /// For each event the one before it on its lane.
    fn before_on_lane(&self) -> Vec<Option<EventId>> {
        let mut last = std::collections::BTreeMap::new();
        let before = (0..).zip(self.events()).map(|(index, event)| match event.lane {
            Lane::Node(_) | Lane::Client(_) => last.insert(event.lane, EventId(index)),
            Lane::World => None,
        });
        before.collect()
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// Number of events so far.
    pub fn len(&self) -> u64 {
        self.events
    }

    /// Whether nothing has happened.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// The events, where they are kept.
    pub fn events(&self) -> &[TraceEvent] {
        self.kept.as_deref().unwrap_or_default()
    }

    /// The number of the first event by which two kept records differ, or of the first block of
    /// [`MARK_EVENTS`] where only their marks can tell. `None` = they are equal.
    pub fn first_difference(&self, other: &Self) -> Option<u64> {
        if self.hash == other.hash && self.events == other.events {
            return None;
        }
        if let (Some(ours), Some(theirs)) = (&self.kept, &other.kept) {
            let equal = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
            return Some(equal as u64);
        }
        let equal = self.marks.iter().zip(&other.marks).take_while(|(a, b)| a == b).count();
        Some(equal as u64 * MARK_EVENTS)
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ u128::from(word)).wrapping_mul(PRIME);
        // Multiplication only carries upwards: bring the high half back down.
        self.hash ^= self.hash >> 71;
    }

    fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }
}

impl Lane {
    fn word(self) -> u64 {
        match self {
            Self::Node(place) => place as u64,
            Self::Client(client) => u64::MAX - 1 - client as u64,
            Self::World => u64::MAX,
        }
    }
}

impl From<Option<Place>> for Lane {
    fn from(place: Option<Place>) -> Self {
        place.map_or(Self::World, Self::Node)
    }
}

/// Lanes as people number them, from 1; the world has no name.
impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(place) => f.pad(&format!("n{}", place + 1)),
            Self::Client(client) => f.pad(&format!("c{}", client + 1)),
            Self::World => f.pad(""),
        }
    }
}

/// Offset and prime of the 128-bit FNV hash; mixing words instead of bytes is ours.
const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keep: bool, odd_one: Option<u64>) -> Trace {
        let mut trace = Trace::new(keep);
        for index in 0..5_000 {
            let payload = if odd_one == Some(index) { b"other".as_slice() } else { b"same" };
            trace.note(index, Lane::Node(1), "deliver", payload, || format!("{payload:?}"));
        }
        trace
    }

    #[test]
    fn equal_runs_are_equal_and_the_first_difference_is_named() {
        assert_eq!(run(true, None).first_difference(&run(true, None)), None);
        assert_eq!(run(false, None).hash(), run(true, None).hash());
        assert_eq!(run(true, Some(2_500)).first_difference(&run(true, None)), Some(2_500));
        assert_eq!(run(false, Some(2_500)).first_difference(&run(false, None)), Some(2_048));
    }

    #[test]
    fn the_past_of_an_event_is_its_lane_before_it_and_what_was_sent_to_it() {
        let mut trace = Trace::new(true);
        let mut happen = |lane, cause: Option<usize>| {
            trace.resume(cause.map(EventId));
            trace.keep(0, lane, "event", Said::default);
            trace.cause().expect("it was kept").0
        };
        let (one, two) = (Lane::Node(0), Lane::Node(1));
        let sent = happen(one, None);
        let unheard = happen(Lane::Node(2), None);
        let fault = happen(Lane::World, None);
        let earlier = happen(two, None);
        let arrived = happen(two, Some(sent));
        let later_at_sender = happen(one, None);
        let stopped = happen(one, Some(fault));
        let other_fault = happen(Lane::World, None);
        let past = |event| -> Vec<usize> {
            trace.causal_past(EventId(event)).into_iter().map(|id| id.0).collect()
        };
        assert_eq!(past(arrived), [sent, earlier, arrived]);
        assert_eq!(past(stopped), [sent, fault, later_at_sender, stopped]);
        assert_eq!(past(other_fault), [other_fault]);
        assert_eq!(past(unheard), [unheard]);
    }
}
