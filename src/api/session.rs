//! What one connection has chosen and what it was shown: the level, and the values of its last
//! plain reads, so that a read followed by a write supersedes just what the reader saw.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Access, Level, WriteContext};
use crate::causality::Dot;
use crate::hash::Key;
use crate::limits::{SESSION_SHOWN_KEYS_MAX, SESSION_SHOWN_MS};
use crate::time::Mono;

/// The memory of one connection.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// The level of requests that name none.
    pub level: Level,
    /// What it may do.
    pub access: Access,
    shown: VecDeque<(Key, Dot, Mono)>,
}

impl Session {
    /// A plain read of `key` showed the value of `dot`. A read that found nothing is not noted:
    /// clients that fill a cache would breed siblings.
    pub fn note_shown(&mut self, key: &Key, dot: Dot, now: Mono) {
        self.shown.retain(|(other, ..)| other != key);
        if self.shown.len() == SESSION_SHOWN_KEYS_MAX {
            self.shown.pop_front();
        }
        // A copy: the key may be a slice of all that the connection sent with it.
        let bytes = Bytes::copy_from_slice(&key.bytes);
        self.shown.push_back((Key { bytes, ..*key }, dot, now));
    }

    /// The context of a plain write of `key`: what was shown of it within the last minute, which
    /// this write uses up, or else everything that its leader holds.
    pub fn take_context(&mut self, key: &Key, now: Mono) -> WriteContext {
        let Some(index) = self.shown.iter().position(|(other, ..)| other == key) else {
            return WriteContext::Known;
        };
        let (_, dot, at) = self.shown.remove(index).expect("the search found this index");
        if now.ms_since(at) <= SESSION_SHOWN_MS {
            WriteContext::Shown(dot)
        } else {
            WriteContext::Known
        }
    }

    /// A write of `key` that took its context from elsewhere. It uses up what was shown all the
    /// same: else the next plain write would become a sibling of this connection's own value.
    pub fn note_written(&mut self, key: &Key) {
        self.shown.retain(|(other, ..)| other != key);
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
