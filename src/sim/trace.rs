//! What happened, as a rolling hash that two runs can compare and, on demand, as a list.
//!
//! The hash takes in every event of the world with its time, place, kind and payload, so two runs
//! that differ anywhere differ from there on. A mark every 1,024 events lets a comparison find the
//! block of the first difference without keeping the events.

use serde::Serialize;

/// Events between two marks.
pub const MARK_EVENTS: u64 = 1_024;

/// One event of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TraceEvent {
    /// Virtual microseconds since the beginning.
    pub at_us: u64,
    /// The node that it happens at; `None` = to the world or a client.
    pub node: Option<usize>,
    /// What kind of event it is, from a fixed list of words.
    pub kind: &'static str,
    /// The rest, for people.
    pub text: String,
}

/// The record of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u128,
    events: u64,
    marks: Vec<u128>,
    kept: Option<Vec<TraceEvent>>,
}

impl Trace {
    /// An empty record; `keep` = with the events themselves.
    pub fn new(keep: bool) -> Self {
        Self { hash: OFFSET, events: 0, marks: Vec::new(), kept: keep.then(Vec::new) }
    }

    /// Takes in one event. `text` is made only where events are kept.
    pub fn note(
        &mut self,
        at_us: u64,
        node: Option<usize>,
        kind: &'static str,
        payload: &[u8],
        text: impl FnOnce() -> String,
    ) {
        self.mix(at_us);
        self.mix(node.map_or(u64::MAX, |node| node as u64));
        self.mix_bytes(kind.as_bytes());
        self.mix_bytes(payload);
        self.events += 1;
        if self.events.is_multiple_of(MARK_EVENTS) {
            self.marks.push(self.hash);
        }
        if let Some(kept) = &mut self.kept {
            kept.push(TraceEvent { at_us, node, kind, text: text() });
        }
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
            trace.note(index, Some(1), "deliver", payload, || format!("{payload:?}"));
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
}
