//! What programs ask most: keys, values, siblings and batches, typed on both ends.
//!
//! Each method of [`Client`] here gives a [`Request`]: it may be told more, and is sent when it is
//! awaited.

use std::fmt;
use std::pin::Pin;

use serde_json::value::RawValue;

use super::{Answer, Call, Client, Error, Kind, Level, Reason, Refused, Scan, Unknown};

/// A request that is sent when it is awaited.
#[must_use = "a request is sent when it is awaited"]
pub struct Request<'a, T> {
    client: &'a mut Client,
    call: Call,
    read: fn(&Answer) -> Result<T, String>,
}

/// What a read has seen of a key. A write that carries it supersedes just that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context(String);

/// Every concurrent value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Siblings {
    /// The one that plain readers are shown comes first; none where the key is absent.
    pub values: Vec<Vec<u8>>,
    /// What a write that supersedes all of them carries.
    pub context: Context,
}

/// An acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Nodes on which it was durable when it was acknowledged.
    pub acks: u64,
    /// What a further write that supersedes just this one carries.
    pub context: Context,
}

/// An acknowledged delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Whether there was anything to delete.
    pub existed: bool,
    /// Nodes on which it was durable when it was acknowledged.
    pub acks: u64,
}

impl Client {
    /// Whether a node answers.
    pub fn ping(&mut self) -> Request<'_, ()> {
        Request::new(self, Call::read("PING"), |_| Ok(()))
    }

    /// The value that plain readers are shown; `None` where the key is absent. A plain
    /// [`Client::set`] of the key that follows on the same connection within a minute supersedes
    /// what this read showed. Where that matters, use [`Client::siblings`] and its context.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Request<'_, Option<Vec<u8>>> {
        Request::new(self, Call::get(key.as_ref()), Answer::value)
    }

    /// The values of many keys, in their order. Each is read by itself: there is no common moment
    /// at which all of them held.
    pub fn mget<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Request<'_, Vec<Option<Vec<u8>>>> {
        Request::new(self, Call::mget(keys), Answer::optional_values)
    }

    /// Every concurrent value of a key, and the context for the write that brings them together.
    pub fn siblings(&mut self, key: impl AsRef<[u8]>) -> Request<'_, Siblings> {
        Request::new(self, Call::siblings(key.as_ref()), |answer| {
            Ok(Siblings { values: answer.values()?, context: Context::of(answer)? })
        })
    }

    /// Writes a value. Without a context it supersedes what the last plain read of this key on this
    /// connection showed, or else everything that the leader of the key holds.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Request<'_, Written> {
        Request::new(self, Call::set(key.as_ref(), value.as_ref()), |answer| {
            Ok(Written { acks: acks(answer)?, context: Context::of(answer)? })
        })
    }

    /// Deletes a key. Without a context everything that its leader holds goes.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Request<'_, Deleted> {
        Request::new(self, Call::delete(key.as_ref()), |answer| {
            Ok(Deleted { existed: answer.claim("deleted"), acks: acks(answer)? })
        })
    }

    /// Writes all of the keys, or none; gives their number.
    pub fn bulk_set<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        items: &[(K, V)],
    ) -> Request<'_, u64> {
        Request::new(self, Call::bulk_set(items), count)
    }

    /// The number of keys in the whole cluster.
    pub fn count(&mut self) -> Request<'_, u64> {
        Request::new(self, Call::read("COUNT"), count)
    }

    /// A walk over the keys of the whole cluster, page after page.
    pub fn scan(&mut self) -> Scan<'_> {
        Scan::new(self)
    }
}

impl<'a, T> Request<'a, T> {
    fn new(client: &'a mut Client, call: Call, read: fn(&Answer) -> Result<T, String>) -> Self {
        Self { client, call, read }
    }

    /// How many replicas must take part: [`Level::Sloppy`] where nothing is said.
    pub fn level(mut self, level: Level) -> Self {
        self.call = self.call.level(level);
        self
    }

    /// The number of replicas that must take part, in place of that of the level.
    pub fn replicas(mut self, number: u8) -> Self {
        self.call = self.call.replicas(number);
        self
    }
}

impl Request<'_, Written> {
    /// Supersedes just what the read with this context has seen. Whatever came meanwhile stays
    /// beside it as a sibling.
    pub fn after(mut self, context: &Context) -> Self {
        self.call = self.call.text("context", context.token());
        self
    }
}

impl Request<'_, Deleted> {
    /// Removes just what the read with this context has seen.
    pub fn after(mut self, context: &Context) -> Self {
        self.call = self.call.text("context", context.token());
        self
    }
}

impl<'a, T: 'a> IntoFuture for Request<'a, T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let answer = self.client.call(&self.call).await?;
            let node = &self.client.nodes[self.client.first];
            (self.read)(&answer).map_err(|why| unreadable(self.call.kind(), node, &why))
        })
    }
}

impl<T> fmt::Debug for Request<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("call", &self.call).finish_non_exhaustive()
    }
}

impl Context {
    /// "I have seen nothing": a write with it supersedes nothing.
    pub fn nothing_seen() -> Self {
        Self(String::new())
    }

    /// A context from its token.
    pub fn from_token(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token, as it may be stored and sent elsewhere; it belongs to one key.
    pub fn token(&self) -> &str {
        &self.0
    }

    fn of(answer: &Answer) -> Result<Self, String> {
        answer.text("context").map(Self).ok_or_else(|| String::from("it has no context"))
    }
}

impl Answer {
    /// The value of a reply to GET; `None` where the key is absent.
    pub fn value(&self) -> Result<Option<Vec<u8>>, String> {
        if self.is_not_found() {
            return Ok(None);
        }
        self.bytes("value")?.map(Some).ok_or_else(|| String::from("it has no value"))
    }

    /// The values of a reply that lists siblings, the winner first.
    pub fn values(&self) -> Result<Vec<Vec<u8>>, String> {
        let list = self.list("values").ok_or_else(|| String::from("it has no values"))?;
        list.iter().map(|raw| self.decoded(raw)).collect()
    }

    /// The values of a reply to MGET, in the order of the keys.
    pub fn optional_values(&self) -> Result<Vec<Option<Vec<u8>>>, String> {
        let list = self.list("values").ok_or_else(|| String::from("it has no values"))?;
        let is_null = |raw: &RawValue| raw.get() == "null";
        list.iter()
            .map(|raw| if is_null(raw) { Ok(None) } else { self.decoded(raw).map(Some) })
            .collect()
    }

    /// Nodes on which a write was durable when it was acknowledged.
    pub fn acks(&self) -> Option<u64> {
        let acks: Self = serde_json::from_str(self.raw("acks")?.get()).ok()?;
        Some(acks.number("home")? + acks.number("fallback").unwrap_or(0))
    }
}

fn acks(answer: &Answer) -> Result<u64, String> {
    answer.acks().ok_or_else(|| String::from("it has no acks"))
}

fn count(answer: &Answer) -> Result<u64, String> {
    answer.number("count").ok_or_else(|| String::from("it has no count"))
}

/// A reply that says ok and not what it must say besides: a write was applied or not, a read was
/// not done.
pub(super) fn unreadable(kind: Kind, node: &str, why: &str) -> Error {
    let text = format!("the node sent a reply that cannot be read: {why}");
    match kind {
        Kind::Read => Error::Refused(Refused::from(Reason::silent(node, &text))),
        Kind::Write => Error::Unknown(Unknown { node: node.to_owned(), text }),
    }
}
