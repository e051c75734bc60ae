//! What one connection has chosen and what it was shown: the level, and the values of its last
//! plain reads, so that a read followed by a write supersedes just what the reader saw.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Access, Level, WriteContext};
use crate::causality::Dot;
use crate::hash::{Key, Token};
use crate::limits::{SESSION_SHOWN_KEYS_MAX, SESSION_SHOWN_MS};
use crate::time::Mono;

/// The memory of one connection.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// The level of requests that name none.
    pub level: Level,
    /// What it may do.
    pub access: Access,
    shown: Shown,
}

/// The values that were shown, the oldest first.
#[derive(Clone, Debug, Default)]
struct Shown {
    /// The tokens of the keys, by themselves: each read and each write searches them.
    tokens: VecDeque<Token>,
    values: VecDeque<(Key, Dot, Mono)>,
}

impl Session {
    /// A plain read of `key` showed the value of `dot`. A read that found nothing is not noted:
    /// clients that fill a cache would breed siblings.
    pub fn note_shown(&mut self, key: &Key, dot: Dot, now: Mono) {
        self.shown.take(key);
        if self.shown.values.len() == SESSION_SHOWN_KEYS_MAX {
            self.shown.remove(0);
        }
        // A copy: the key may be a slice of all that the connection sent with it.
        let bytes = Bytes::copy_from_slice(&key.bytes);
        self.shown.tokens.push_back(key.token);
        self.shown.values.push_back((Key { bytes, ..*key }, dot, now));
    }

    /// The context of a plain write of `key`: what was shown of it within the last minute, which
    /// this write uses up, or else everything that its leader holds.
    pub fn take_context(&mut self, key: &Key, now: Mono) -> WriteContext {
        match self.shown.take(key) {
            Some((dot, at)) if now.ms_since(at) <= SESSION_SHOWN_MS => WriteContext::Shown(dot),
            Some(_) | None => WriteContext::Known,
        }
    }

    /// A write of `key` that took its context from elsewhere. It uses up what was shown all the
    /// same: else the next plain write would become a sibling of this connection's own value.
    pub fn note_written(&mut self, key: &Key) {
        self.shown.take(key);
    }

    /// A connection with this standing, which was shown nothing yet.
    pub fn new(access: Access) -> Self {
        Self { access, ..Self::default() }
    }

    /// Forgets everything, as RESET does, the token of the client too.
    pub fn reset(&mut self) {
        let mut access = std::mem::take(&mut self.access);
        access.forget();
        *self = Self::new(access);
    }
}

impl Shown {
    /// Takes out what was shown of a key, and when.
    fn take(&mut self, key: &Key) -> Option<(Dot, Mono)> {
        let mut tokens = self.tokens.iter().zip(&self.values);
        let index = tokens.position(|(&token, (other, ..))| token == key.token && other == key)?;
        self.remove(index).map(|(_, dot, at)| (dot, at))
    }

    fn remove(&mut self, index: usize) -> Option<(Key, Dot, Mono)> {
        self.tokens.remove(index);
        self.values.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causality::Actor;

    #[test]
    fn a_write_uses_up_what_was_shown_and_old_memories_fade() {
        let (a, b) = (Key::plain("a"), Key::plain("b"));
        let dot = Dot { actor: Actor(1), seq: 2 };
        let mut session = Session::default();
        session.note_shown(&a, dot, Mono(0));
        session.note_shown(&b, dot, Mono(0));
        assert_eq!(session.take_context(&a, Mono(1)), WriteContext::Shown(dot));
        assert_eq!(session.take_context(&a, Mono(1)), WriteContext::Known);
        let late = Mono(0).plus_ms(SESSION_SHOWN_MS + 1);
        assert_eq!(session.take_context(&b, late), WriteContext::Known);
    }

    #[test]
    fn only_the_last_keys_are_remembered() {
        let mut session = Session::default();
        let dot = Dot { actor: Actor(1), seq: 2 };
        for index in 0..=SESSION_SHOWN_KEYS_MAX {
            session.note_shown(&Key::plain(index.to_string()), dot, Mono(0));
        }
        assert_eq!(session.take_context(&Key::plain("0"), Mono(0)), WriteContext::Known);
        assert_eq!(session.take_context(&Key::plain("1"), Mono(0)), WriteContext::Shown(dot));
    }
}
