//! Writes that clients send several times: under one id, through one node after the other, whatever
//! was answered; and at the end they ask what became of it, or take the id for another write. Where
//! they are told that it was not applied, and never will be, they send it once more.
//!
//! A write is refused only where every try was, for a refusal speaks of its own try. Invariants: A1
//! (a leader carries a request out once, and no reader is shown it twice) and O2 (an outcome is
//! true, now and later).

use bytes::Bytes;

use super::clients::{Kind, Late, quoted};
use super::clock::UNIX_MS_START;
use super::oracle::{Claim, Fate, WriteId};
use super::workload::key_of_write;
use super::world::World;
use crate::api::RequestId;
use crate::hash::Key;

/// What is broken where an outcome is not true.
const TRUE: &str = "O2 an outcome is true";

/// A write that is sent more than once.
#[derive(Clone, Debug)]
pub(super) struct Tries {
    id: RequestId,
    /// What is sent, and what it is.
    question: String,
    kind: Kind,
    /// Tries that are left.
    left: u8,
    /// The node of the last one.
    place: usize,
    fates: Vec<Fate>,
}

impl World {
    /// The id that the next write of a client has, if it is to be sent more than once.
    pub(super) fn id_of_write(&self, client: usize) -> Option<RequestId> {
        let is_once = self.scenario.options.tries < 2 || self.is_driven(client);
        let unix_ms = UNIX_MS_START + self.now_us / 1_000;
        let number = u128::from(self.writes) << 8 | client as u128;
        (!is_once).then(|| RequestId::of_time(unix_ms, number))
    }

    /// A client sends a write for the first time.
    pub(super) fn begin_tries(
        &mut self,
        client: usize,
        id: RequestId,
        question: &str,
        kind: &Kind,
    ) {
        self.history.named(&kind.writes(), id);
        let place = self.clients[client].connected.map_or(0, |(place, _)| place);
        let left = self.scenario.options.tries.saturating_sub(1);
        let (question, kind) = (String::from(question), kind.clone());
        self.clients[client].tries = Some(Tries { id, question, kind, left, place, fates: vec![] });
    }

    /// One try has ended. `true` = the client goes on with the same write.
    pub(super) fn on_try(&mut self, client: usize, fate: Fate) -> bool {
        let Some(mut tries) = self.clients[client].tries.take() else { return false };
        tries.fates.push(fate);
        let mut goes_on = false;
        while tries.left > 0 && !goes_on {
            tries.left -= 1;
            tries.place = (tries.place + 1) % self.machines.len();
            goes_on = self.connect(client, Some(tries.place));
        }
        let (kind, question) = (tries.kind.clone(), tries.question.clone());
        self.clients[client].tries = Some(tries);
        if goes_on {
            self.ask(client, kind, None, question);
        }
        goes_on
    }

    /// What became of a write, from what its tries were answered.
    pub(super) fn fate_of_tries(fates: &[Fate]) -> Fate {
        if fates.contains(&Fate::Acknowledged) {
            Fate::Acknowledged
        } else if fates.contains(&Fate::Open) {
            Fate::Open
        } else {
            Fate::Refused
        }
    }

    /// All tries have ended: the client asks for the outcome. `true` = it waits for that.
    pub(super) fn end_tries(&mut self, client: usize, tries: Tries) -> bool {
        let Tries { id, question, kind, place, fates, .. } = tries;
        let fate = Self::fate_of_tries(&fates);
        if fate != Fate::Acknowledged {
            for id in kind.writes() {
                self.history.told(id, fate, self.now_us, false);
            }
        }
        // What became of a batch is open as long as its log is held, so its id is taken more often.
        let is_logged = matches!(kind, Kind::Bulk { .. }) && fate != Fate::Acknowledged;
        let share = if is_logged { 2 } else { 5 };
        if let Some(&first) = kind.writes().first().filter(|first| first.0.is_multiple_of(share)) {
            return self.reuse(client, id, first, &kind, place);
        }
        let place = (place + 1) % self.machines.len();
        if !self.connect(client, Some(place)) {
            return false;
        }
        let key = kind.key();
        let name = quoted(&key.bytes);
        let line = format!("{{\"cmd\":\"OUTCOME\",\"key\":{name},\"request_id\":\"{id}\"}}\n");
        let late = Late { key, ids: kind.writes(), question };
        self.ask(client, Kind::Outcome { late, fate }, None, line);
        true
    }

    /// The client takes the id of a write for another one, at the node of the last try. `true` = it
    /// waits for the answer: a refusal, if its leader remembers the id.
    fn reuse(
        &mut self,
        client: usize,
        id: RequestId,
        first: WriteId,
        kind: &Kind,
        place: usize,
    ) -> bool {
        if !self.connect(client, Some(place)) {
            return false;
        }
        let fields = format!("\"level\":\"quorum\",\"request_id\":\"{id}\"");
        let (kind, question) = if let Kind::Bulk { .. } = kind {
            // On other keys, whose leaders need not know the id. Nothing is drawn: a scenario that
            // was recorded draws nothing either.
            let keys = self.scenario.options.keys;
            let [one, other] = [first.0, first.0 + 1].map(|n| key_of_write(n, keys));
            let [value, another] = again(first);
            let items = [(one, value), (other, another)];
            let (kind, question) = self.bulk(client, &items, &fields, true);
            self.batches.push(kind.writes());
            (kind, question)
        } else {
            let key = kind.key();
            let [value, _] = again(first);
            let write = self.begin_write(&key, Some(&value), Claim::Known);
            let (name, value) = (quoted(&key.bytes), quoted(&value));
            let question =
                format!("{{\"cmd\":\"SET\",\"key\":{name},\"value\":{value},{fields}}}\n");
            (Kind::Write { key, id: write, firm: true, is_foreign: false }, question)
        };
        self.history.named(&kind.writes(), id);
        self.ask(client, kind, None, question);
        true
    }

    /// What a node says became of a write. `true` = the client sends it once more, and waits.
    pub(super) fn on_outcome(
        &mut self,
        client: usize,
        late: Late,
        fate: Fate,
        known: &str,
    ) -> bool {
        let Late { key, ids, .. } = &late;
        let is_excused = ids.iter().any(|&id| self.history.was_not_stored_of(id));
        if known == "not_applied" && !is_excused {
            self.tally.not_applied += 1;
            if fate == Fate::Acknowledged {
                let text = String::from("an acknowledged write is said never to have been applied");
                self.history.violate(TRUE, key, text);
            }
            for &id in ids {
                self.history.told(id, Fate::Refused, self.now_us, false);
            }
            return self.insist(client, late);
        }
        if known == "applied" && fate == Fate::Refused {
            let text = String::from("every try was refused, and the write was applied");
            self.history.violate(TRUE, key, text);
        }
        false
    }

    /// A client sends a write although it was told that it never will be applied.
    fn insist(&mut self, client: usize, late: Late) -> bool {
        let here = self.clients[client].connected.map_or(0, |(place, _)| place);
        let next = (here + 1) % self.machines.len();
        if !self.connect(client, Some(next)) {
            return false;
        }
        let question = late.question.clone();
        self.ask(client, Kind::Late(late), None, question);
        true
    }

    /// A write that never will be applied was sent once more. That it does not show is for the
    /// history to say, which was told that it is refused.
    pub(super) fn on_late(&mut self, late: &Late, fate: Fate) {
        let is_excused = late.ids.iter().any(|&id| self.history.was_not_stored_of(id));
        if fate == Fate::Acknowledged && !is_excused {
            let text = String::from("a write was said never to be applied, and then it was");
            self.history.violate(TRUE, &late.key, text);
        }
    }

    /// A reader is shown each value once: every write has its own.
    pub(super) fn check_doubles(&mut self, key: &Key, values: &[Bytes]) {
        let twice = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value));
        if let Some((_, value)) = twice {
            let text = format!("{} was shown twice", value.escape_ascii());
            self.history.violate("A1 a request shows once", key, text);
        }
    }
}

/// The values of the writes that take the id of this one.
fn again(first: WriteId) -> [Bytes; 2] {
    ["again", "anew"].map(|word| Bytes::from(format!("{word}{}", first.0)))
}
