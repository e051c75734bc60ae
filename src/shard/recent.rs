//! The memory of requests that came with an id: which event each became, so that a retry gets the
//! answer of the first try instead of a second event.
//!
//! Filled by this replica's own writes and by what others send it, and after a start by the newest
//! records of the log. Nothing is kept of ids that nodes made: nobody can send one a second time.
//! What is pushed out, by its age or because there are too many, is forgotten for good.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::mem;

use bytes::BytesMut;

use super::Recovered;
use super::table::{Record, Stamp};
use crate::api::{self, RequestId};
use crate::causality::{Actor, Dot, Object};
use crate::hash::{BucketId, Key, PartitionId, Token};
use crate::limits::{DENIALS_MAX, REQUEST_MEMORY_MS};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::time::{Mono, Now};

/// A write and the id that its client gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Its id.
    pub id: RequestId,
    /// What tells it from another request under the same id.
    pub print: u64,
}

/// Requests of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// By id, key and print: a batch has one id and several keys, and a batch that is owed may have
    /// the id of another request.
    known: BTreeMap<Known, Became>,
    /// When each is to be forgotten, the first one first.
    order: VecDeque<(Mono, Known)>,
    max: usize,
    /// Requests that are not led here any more.
    refused: BTreeMap<Name, Refusal>,
    /// When each of them may be forgotten, the first one first.
    refused_order: VecDeque<(Mono, Name)>,
    /// Requests that were made up to this time may have been forgotten; in milliseconds since the
    /// Unix epoch, by the clocks of clients.
    forgotten_ms: u64,
    /// What the log told, until the first view says what time it is.
    recovered: Recovered,
}

/// What the memory says of a write that is to be led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// Nothing is known of it.
    Never,
    /// It was done.
    Done(Stamp),
    /// Its id belongs to another request.
    Other,
    /// Its outcome was asked for, and this replica has said that it does not lead it.
    Refused,
}

/// The bucket of notes of requests that are not led here. No client can name it, and nothing of it
/// leaves its node.
pub const REFUSED_BUCKET: BucketId = BucketId(u32::MAX - 1);

/// A note that a request is not led here any more: a key that says so by being there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(Key);

/// Id and token, as bytes: in a map, alignment would cost eight bytes a name.
type Name = [u8; 24];

/// Id and token of a request, and what tells it from others under the same id.
type Known = (Name, u64);

/// What became of a request.
#[derive(Clone, Copy, Debug)]
struct Became {
    dot: Dot,
    /// Milliseconds since the Unix epoch, and in the lowest bit whether there was a value before.
    at_ms_and_existed: u64,
}

impl Named {
    /// One key of a batch. All keys of a batch have its id.
    pub(super) fn of_part(id: RequestId, key: &Key, value: &[u8]) -> Self {
        Self { id, print: api::print_of_part(key, value) }
    }
}

impl Recent {
    /// A memory of `max` requests that begins with what the log told of them.
    pub(super) fn new(max: usize, recovered: &mut Recovered) -> Self {
        let stamps = mem::take(&mut recovered.stamps);
        let refused = mem::take(&mut recovered.refused);
        let (is_complete, hlc) = (recovered.is_complete, recovered.hlc);
        let recovered = Recovered { hlc, stamps, refused, is_complete, ..Recovered::default() };
        Self { max: max.max(1), forgotten_ms: u64::MAX, recovered, ..Self::default() }
    }

    /// Takes in what the log told, once.
    pub(super) fn recover(&mut self, now: Now) {
        if self.forgotten_ms != u64::MAX {
            return;
        }
        let Recovered { stamps, refused, is_complete, hlc, .. } = mem::take(&mut self.recovered);
        if is_complete {
            self.forgotten_ms = 0;
        } else {
            // What is lost was made before the start. The clock of this node may be behind the
            // others, and those of clients a little ahead.
            let made = stamps.iter().filter_map(|(_, stamp)| stamp.id.unix_ms()).max();
            let latest = now.unix_ms.max(hlc.unix_ms()).max(made.unwrap_or(0));
            self.forgotten_ms = latest.saturating_add(CLOCK_MS);
        }
        for (token, stamp) in stamps {
            sometimes!("a request was remembered through a restart");
            self.note(token, stamp, now.mono);
        }
        for key in refused {
            self.refuse(Refusal(key), now.mono);
        }
    }

    /// What became of a write of this key.
    pub(super) fn tried(&self, token: Token, named: Named) -> Tried {
        let own = name(named.id, token);
        if let Some(became) = self.known.get(&(own, named.print)) {
            return Tried::Done(became.stamp(named.id, named.print));
        }
        if self.is_done(token, named.id) {
            return Tried::Other;
        }
        if self.refused.contains_key(&own) {
            return Tried::Refused;
        }
        let is_single = |print: u64| !api::may_have_more_keys(print);
        let mut others = self.of_keys(named.id, Token(0), Token::MAX);
        let is_other = others.any(|print| is_single(print) || is_single(named.print));
        if is_other { Tried::Other } else { Tried::Never }
    }

    /// Whether a request is known to have been done.
    pub(super) fn is_done(&self, token: Token, id: RequestId) -> bool {
        self.of_keys(id, token, token).next().is_some()
    }

    /// The prints of the requests of an id that are known of these keys.
    fn of_keys(&self, id: RequestId, from: Token, to: Token) -> impl Iterator<Item = u64> {
        let range = (name(id, from), u64::MIN)..=(name(id, to), u64::MAX);
        self.known.range(range).map(|((_, print), _)| *print)
    }

    /// Whether this replica has said that it does not lead a request.
    pub(super) fn is_refused(&self, token: Token, id: RequestId) -> bool {
        self.refused.contains_key(&name(id, token))
    }

    /// Whether it is certain that a request which is not known was never known.
    pub(super) fn can_deny(&self, id: RequestId) -> bool {
        let is_new = id.unix_ms().is_some_and(|unix_ms| unix_ms > self.forgotten_ms);
        is_new && self.refused.len() < DENIALS_MAX
    }

    /// This request is not led here any more. Returns those that may be forgotten instead.
    pub(super) fn refuse(&mut self, refusal: Refusal, now: Mono) -> Vec<Refusal> {
        let mut ended = Vec::new();
        while let Some((_, name)) = self.refused_order.pop_front_if(|(until, _)| *until <= now) {
            ended.extend(self.refused.remove(&name));
        }
        if let Some(name) = refusal.name() {
            self.refused_order.push_back((now.plus_ms(REQUEST_MEMORY_MS), name));
            self.refused.insert(name, refusal);
        }
        ended
    }

    /// Whether this says something that is not known yet.
    pub(super) fn is_news(&self, token: Token, stamp: &Stamp) -> bool {
        !self.known.contains_key(&(name(stamp.id, token), stamp.print))
    }

    /// Remembers what became of a request. Of two events of one request the first stays.
    pub(super) fn note(&mut self, token: Token, stamp: Stamp, now: Mono) {
        self.forget(now);
        let known = (name(stamp.id, token), stamp.print);
        if planted(Bug::OwedPartForgotten) && self.is_done(token, stamp.id) {
            return;
        }
        if let Entry::Vacant(vacant) = self.known.entry(known) {
            vacant.insert(Became::of(&stamp));
            self.order.push_back((now.plus_ms(REQUEST_MEMORY_MS), known));
        }
    }

    /// Makes room: what is too old goes, and the oldest where there are too many.
    fn forget(&mut self, now: Mono) {
        while let Some((until, known)) = self.order.front().copied() {
            if until > now && self.known.len() < self.max {
                return;
            }
            self.order.pop_front();
            self.known.remove(&known);
            let id = id_of(known.0);
            self.forgotten_ms = self.forgotten_ms.max(id.unix_ms().unwrap_or(0));
        }
    }
}

impl Became {
    fn of(stamp: &Stamp) -> Self {
        let at_ms_and_existed = stamp.at_ms << 1 | u64::from(stamp.existed);
        Self { dot: stamp.dot, at_ms_and_existed }
    }

    fn stamp(&self, id: RequestId, print: u64) -> Stamp {
        let existed = self.at_ms_and_existed & 1 == 1;
        let at_ms = self.at_ms_and_existed >> 1;
        Stamp { id, at_ms, dot: self.dot, print, existed }
    }
}

/// A client's clock may be so much ahead, in milliseconds, of one that was set right.
const CLOCK_MS: u64 = 60_000;

impl Refusal {
    /// That of a key that was to be written.
    pub(super) fn new(key: &Key, id: RequestId) -> Self {
        let mut bytes = BytesMut::with_capacity(16 + key.bytes.len());
        bytes.extend_from_slice(&id.0.to_be_bytes());
        bytes.extend_from_slice(&key.bytes);
        Self(Key { token: key.token, bucket: REFUSED_BUCKET, bytes: bytes.freeze() })
    }

    /// The token of the key that was to be written.
    pub(super) fn token(&self) -> Token {
        self.0.token
    }

    /// The record that stores it.
    pub(super) fn record(&self, partition: PartitionId) -> Record {
        // An object without siblings is kept as long as it has a context. Nobody has this actor.
        let ctx = [Dot { actor: Actor(0), seq: 1 }].into_iter().collect();
        self.with(partition, Object { entries: Vec::new(), ctx })
    }

    /// The record that takes it away.
    pub(super) fn end(&self, partition: PartitionId) -> Record {
        self.with(partition, Object::default())
    }

    fn with(&self, partition: PartitionId, object: Object) -> Record {
        let (dots, removed) = (Vec::new(), Vec::new());
        Record { key: self.0.clone(), partition, object, dots, removed, stamp: None }
    }

    fn name(&self) -> Option<Name> {
        let id: &[u8; 16] = self.0.bytes.first_chunk()?;
        Some(name(RequestId(u128::from_be_bytes(*id)), self.0.token))
    }
}

fn id_of(name: Name) -> RequestId {
    let id: [u8; 16] = *name.first_chunk().expect("a name has 24 bytes");
    RequestId(u128::from_be_bytes(id))
}

/// Ids in order, and of one id the keys.
fn name(id: RequestId, token: Token) -> Name {
    let mut name = [0; 24];
    name[..16].copy_from_slice(&id.0.to_be_bytes());
    name[16..].copy_from_slice(&token.0.to_be_bytes());
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::Actor;

    fn stamp(id: u128, seq: u64) -> Stamp {
        let dot = Dot { actor: Actor(1), seq };
        Stamp { id: RequestId(id), at_ms: 77, dot, print: 5, existed: seq.is_multiple_of(2) }
    }

    fn named(id: u128, print: u64) -> Named {
        Named { id: RequestId(id), print }
    }

    #[test]
    fn a_request_is_known_by_its_id_and_key_and_the_first_event_stays() {
        let mut recent = Recent::new(10, &mut Recovered::default());
        let (key, other) = (Token(1), Token(2));
        recent.note(key, stamp(9, 1), Mono(0));
        recent.note(key, stamp(9, 2), Mono(0));
        assert_eq!(recent.tried(key, named(9, 5)), Tried::Done(stamp(9, 1)));
        assert_eq!(recent.tried(key, named(9, 6)), Tried::Other);
        assert_eq!(recent.tried(other, named(9, 7)), Tried::Never, "another key of a batch");
        assert_eq!(recent.tried(other, named(9, 6)), Tried::Other, "not of several keys");
        assert_eq!(recent.tried(key, named(8, 5)), Tried::Never);
        recent.note(other, stamp(9, 4), Mono(0));
        assert_eq!(recent.tried(other, named(9, 5)), Tried::Done(stamp(9, 4)));
    }

    #[test]
    fn a_batch_that_is_owed_is_known_beside_the_request_whose_id_it_has() {
        let mut recent = Recent::new(10, &mut Recovered::default());
        let owed = Stamp { print: 6, ..stamp(9, 3) };
        recent.note(Token(1), stamp(9, 1), Mono(0));
        assert!(recent.is_news(Token(1), &owed));
        recent.note(Token(1), owed, Mono(0));
        assert!(!recent.is_news(Token(1), &owed));
        assert_eq!(recent.tried(Token(1), named(9, 6)), Tried::Done(owed));
        assert_eq!(recent.tried(Token(1), named(9, 5)), Tried::Done(stamp(9, 1)));
        assert_eq!(recent.tried(Token(1), named(9, 7)), Tried::Other);
    }

    #[test]
    fn old_requests_are_forgotten_and_the_oldest_where_there_are_too_many() {
        let stamps = vec![(Token(1), stamp(1, 1))];
        let mut recovered = Recovered { stamps, ..Recovered::default() };
        let mut recent = Recent::new(2, &mut recovered);
        recent.recover(Now::default());
        recent.note(Token(1), stamp(2, 2), Mono(0).plus_ms(1));
        recent.note(Token(1), stamp(3, 3), Mono(0).plus_ms(2));
        assert_eq!(recent.tried(Token(1), named(1, 5)), Tried::Never);
        assert_eq!(recent.tried(Token(1), named(2, 5)), Tried::Done(stamp(2, 2)));
        let later = Mono(0).plus_ms(2 + REQUEST_MEMORY_MS);
        recent.note(Token(1), stamp(4, 4), later);
        assert_eq!(recent.known.len(), 1);
        assert_eq!(recent.order.len(), 1);
    }
}
