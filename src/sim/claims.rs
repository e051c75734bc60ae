//! What writers say that they have seen: the context of a write, honest or forged, and what it
//! entitles them to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::oracle::{Claim, Seen};
use super::scenario::{Context, Forgery};
use super::world::World;
use crate::causality::{Actor, NodeId, VersionVector, decode_context, encode_context};
use crate::hash::Key;

/// Farther than any node of a run ever counts.
const FUTURE: u64 = 1 << 40;

/// The context of a write.
#[derive(Debug)]
pub(super) struct Claimed {
    /// The field of the request; empty = it has none.
    pub(super) field: String,
    /// What it entitles the writer to.
    pub(super) claim: Claim,
    /// Whether it is no token of this key, so that the write must be refused.
    pub(super) is_foreign: bool,
}

impl Claimed {
    fn token(token: &str, claim: Claim) -> Self {
        Self { field: format!(",\"context\":\"{token}\""), claim, is_foreign: false }
    }

    /// A token that proves nothing, and is to be refused.
    fn foreign(token: &str) -> Self {
        Self { is_foreign: true, ..Self::token(token, Claim::Known) }
    }
}

impl World {
    /// The context of a write. `uses_shown`: without one, what was shown last on the connection
    /// stands for it.
    pub(super) fn claim(
        &mut self,
        client: usize,
        key: &Key,
        context: Context,
        uses_shown: bool,
    ) -> Claimed {
        let claimed = match context {
            Context::Absent => None,
            Context::Empty => Some(Claimed::token("", Claim::Seen(Seen::default()))),
            Context::LastRead => self.clients[client]
                .memory
                .get(key)
                .map(|memory| Claimed::token(&memory.token, Claim::Seen(memory.seen.clone()))),
            Context::Forged(forgery) => self.forge(client, key, forgery),
        };
        claimed.unwrap_or_else(|| {
            // A try through another node knows nothing of what this connection was shown.
            let is_once = self.id_of_write(client).is_none();
            let shown = self.clients[client].shown.remove(key).filter(|_| uses_shown && is_once);
            let claim = shown.map_or(Claim::Known, |value| {
                Claim::Shown(self.history.seen_by(self.partition(key), key, &[value]).at_most)
            });
            Claimed { field: String::new(), claim, is_foreign: false }
        })
    }

    /// A token that no reply gave for this key; `None` = the client has nothing to make it from.
    fn forge(&self, client: usize, key: &Key, forgery: Forgery) -> Option<Claimed> {
        let partition = self.partition(key);
        let made = |seen: VersionVector| {
            let token = URL_SAFE_NO_PAD.encode(encode_context(partition, &seen));
            Claimed::token(&token, Claim::Forged(seen))
        };
        let memory = &self.clients[client].memory;
        match forgery {
            Forgery::OtherCluster => {
                let stranger = Actor::new(NodeId([0xee; 16]).tag(), 3);
                Some(made([(stranger, 1 + self.writes)].into_iter().collect()))
            }
            Forgery::Future => {
                let place = usize::try_from(self.writes).unwrap_or(0) % self.machines.len();
                Some(made([(self.actor(place)?, FUTURE)].into_iter().collect()))
            }
            Forgery::OtherKey => {
                let (other, memory) = memory.iter().find(|(other, _)| *other != key)?;
                if self.partition(other) != partition {
                    return Some(Claimed::foreign(&memory.token));
                }
                let token = URL_SAFE_NO_PAD.decode(&memory.token).ok()?;
                let seen = decode_context(partition, &token).ok()?;
                Some(Claimed::token(&memory.token, Claim::Forged(seen)))
            }
            Forgery::Damaged => {
                let token = &memory.get(key)?.token;
                let (first, rest) = token.split_at_checked(1)?;
                let other = if first == "A" { "B" } else { "A" };
                Some(Claimed::foreign(&format!("{other}{rest}")))
            }
        }
    }
}
