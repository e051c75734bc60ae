//! An async client: any node of several addresses, and each request with one of three outcomes.
//!
//! ```no_run
//! use peerage::client::{Client, Error, Level};
//!
//! # async fn example() -> Result<(), Error> {
//! let mut client = Client::new(["127.0.0.1:6379", "127.0.0.1:6380"]);
//! client.set("user:1", "Ada").await?;
//! assert_eq!(client.get("user:1").level(Level::All).await?.as_deref(), Some(&b"Ada"[..]));
//!
//! // Two people fill one cart. What both of them wrote stays, and the next one sees it all.
//! let seen = client.siblings("cart").await?;
//! client.set("cart", "milk").after(&seen.context).await?;
//!
//! match client.delete("user:1").await {
//!     Ok(deleted) => println!("it was there: {}", deleted.existed),
//!     Err(Error::Refused(refused)) => println!("nothing was applied: {refused}"),
//!     Err(Error::Unknown(unknown)) => println!("read the key to see: {unknown}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: a write is sent to a second node only if the first one certainly did not apply it:
//! it could not be reached, or it refused. Otherwise the outcome is [`Error::Unknown`], and only
//! the caller can say whether writing it twice does harm. A read goes on to the next node whenever
//! one does not answer, and so does a write that has an id ([`Call::request_id`]), because nodes
//! carry such a write out once. Nothing is sent behind the back of the caller, and no time is slept
//! away: when all nodes refuse for a moment, [`Error::retry_after_ms`] says how long.
//!
//! A client has one connection at a time and one request under way, or one [`Client::pipeline`].
//! Clone it for each task that works by itself: clones share nothing but what they were told.
//! Dropping a future in the middle drops the connection too, and the next request opens another.

mod answer;
mod call;
mod connection;
mod error;
pub(crate) mod json;
mod request;
mod scan;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use crate::api::{Level, RequestId};
pub use answer::Answer;
pub use call::{Call, Kind};
pub use error::{Error, Reason, Refused, Unknown};
pub use request::{Context, Deleted, Request, Siblings, Written};
pub use scan::{Page, Record, Scan};

use crate::limits;
use connection::Connection;

/// What a reply is waited for beyond the time that the request itself may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks nodes in turn. The node that answered last is asked first.
#[derive(Debug)]
pub struct Client {
    nodes: Vec<String>,
    /// Which of them is asked first.
    first: usize,
    timeout: Option<Duration>,
    /// Shown first on every connection.
    token: Option<String>,
    /// Kept only while it has answered everything.
    connection: Option<Connection>,
}

/// What one node made of a request.
enum Attempt {
    Done(Answer),
    /// Not applied; another node may do it.
    Elsewhere(Reason),
    Over(Error),
}

impl Client {
    /// A client of the nodes at these addresses (HOST:PORT). Nothing is connected to before the
    /// first request.
    ///
    /// # Panics
    ///
    /// Without any address.
    pub fn new<N: Into<String>>(nodes: impl IntoIterator<Item = N>) -> Self {
        let nodes: Vec<String> = nodes.into_iter().map(Into::into).collect();
        assert!(!nodes.is_empty(), "a client has at least one address");
        Self { nodes, first: 0, timeout: None, token: None, connection: None }
    }

    /// A client whose requests may take this long, 1 ms to one minute. Without it reads may take
    /// one second and writes two.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// A client that shows this token to every node, which must have been started with it.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self.connection = None;
        self
    }

    /// A client that begins with another of its nodes: the one at this place, counted round.
    #[must_use]
    pub fn starting_at(mut self, place: usize) -> Self {
        self.first = place % self.nodes.len();
        self.connection = None;
        self
    }

    /// The answer to `call`, from the first node that does it. A read that found no such key is an
    /// answer, told by [`Answer::is_not_found`].
    pub async fn call(&mut self, call: &Call) -> Result<Answer, Error> {
        let line = self.line(call);
        let mut reasons = Vec::new();
        let mut unknown = None;
        for step in 0..self.nodes.len() {
            let index = (self.first + step) % self.nodes.len();
            match self.attempt(index, &line, call.kind()).await {
                Attempt::Done(answer) => {
                    self.first = index;
                    return Ok(answer);
                }
                Attempt::Elsewhere(reason) => reasons.push(reason),
                // What a later try is refused says nothing of the one before it.
                Attempt::Over(Error::Refused(refused)) if unknown.is_none() => {
                    return Err(Error::Refused(refused));
                }
                Attempt::Over(Error::Refused(_)) => break,
                Attempt::Over(Error::Unknown(lost)) if call.id().is_some() => unknown = Some(lost),
                Attempt::Over(Error::Unknown(lost)) => return Err(Error::Unknown(lost)),
            }
        }
        if let Some(unknown) = unknown {
            return Err(Error::Unknown(unknown));
        }
        Err(Error::Refused(Refused { reasons, is_final: false }))
    }

    /// Sends all calls over one connection without waiting in between, and gives their outcomes in
    /// the same order. The node is the first that can be reached; none of the calls is sent to
    /// another. A connection that breaks leaves the rest of them unknown, or unread.
    pub async fn pipeline(&mut self, calls: &[Call]) -> Vec<Result<Answer, Error>> {
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(refused) => {
                return calls.iter().map(|_| Err(Error::Refused(refused.clone()))).collect();
            }
        };
        let lines: String = calls.iter().map(|call| self.line(call)).collect();
        let mut answers = Vec::with_capacity(calls.len());
        let patience = self.patience();
        let done = connection.exchange(lines.as_bytes(), calls.len(), patience, &mut answers).await;
        let node = connection.node().to_owned();
        let mut outcomes: Vec<_> = answers.into_iter().map(|answer| judge(answer, &node)).collect();
        match done {
            Ok(()) => self.connection = Some(connection),
            Err(error) => {
                // Whoever comes next is served by another node, if there is one.
                self.first = (self.first + 1) % self.nodes.len();
                let lost = calls.iter().skip(outcomes.len());
                outcomes.extend(lost.map(|call| Err(unanswered(call.kind(), &node, &error))));
            }
        }
        outcomes
    }

    /// `call` as it is sent, with the time that it may take.
    fn line(&self, call: &Call) -> String {
        match self.timeout {
            Some(timeout) => {
                let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                call.clone().number("timeout_ms", ms).line()
            }
            None => call.line(),
        }
    }

    /// How long a reply is waited for.
    fn patience(&self) -> Duration {
        let default = Duration::from_millis(u64::from(limits::WRITE_TIMEOUT_MS));
        self.timeout.unwrap_or(default) + PATIENCE
    }

    async fn attempt(&mut self, index: usize, line: &str, kind: Kind) -> Attempt {
        let node = self.nodes[index].clone();
        let open = self.connection.take().filter(|connection| connection.node() == node);
        let mut connection = match open {
            Some(connection) => connection,
            None => match Connection::open(&node, self.token.as_deref()).await {
                Ok(connection) => connection,
                Err(error) => return Attempt::Elsewhere(Reason::silent(&node, &error)),
            },
        };
        let mut answers = Vec::with_capacity(1);
        let patience = self.patience();
        let done = connection.exchange(line.as_bytes(), 1, patience, &mut answers).await;
        match (done, answers.pop()) {
            (Ok(()), Some(answer)) => {
                self.connection = Some(connection);
                match judge(answer, &node) {
                    Ok(answer) => Attempt::Done(answer),
                    Err(Error::Refused(refused)) if !refused.is_final => {
                        Attempt::Elsewhere(last_reason(refused))
                    }
                    Err(error) => Attempt::Over(error),
                }
            }
            (Err(error), _) => match unanswered(kind, &node, &error) {
                Error::Refused(refused) => Attempt::Elsewhere(last_reason(refused)),
                error @ Error::Unknown(_) => Attempt::Over(error),
            },
            (Ok(()), None) => unreachable!("an exchange that succeeds has its answer"),
        }
    }

    /// The open connection, or a new one to the next node that can be reached.
    async fn connect(&mut self) -> Result<Connection, Refused> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let mut reasons = Vec::new();
        for _ in 0..self.nodes.len() {
            let node = &self.nodes[self.first];
            match Connection::open(node, self.token.as_deref()).await {
                Ok(connection) => return Ok(connection),
                Err(error) => reasons.push(Reason::silent(node, &error)),
            }
            self.first = (self.first + 1) % self.nodes.len();
        }
        Err(Refused { reasons, is_final: false })
    }
}

/// A client of the same nodes and with the same settings, with a connection of its own.
impl Clone for Client {
    fn clone(&self) -> Self {
        let (nodes, token) = (self.nodes.clone(), self.token.clone());
        Self { nodes, first: self.first, timeout: self.timeout, token, connection: None }
    }
}

fn judge(answer: Answer, node: &str) -> Result<Answer, Error> {
    if answer.is_ok() || answer.is_not_found() {
        return Ok(answer);
    }
    let reason = Reason::of(node, &answer);
    if answer.text("outcome").as_deref() == Some("unknown") {
        return Err(Error::Unknown(Unknown { node: reason.node, text: reason.text }));
    }
    Err(Error::Refused(Refused::from(reason)))
}

/// What is known of a request that was sent and not answered.
fn unanswered(kind: Kind, node: &str, error: &std::io::Error) -> Error {
    match kind {
        Kind::Read => Error::Refused(Refused::from(Reason::silent(node, error))),
        Kind::Write => Error::Unknown(Unknown::silent(node, error)),
    }
}

fn last_reason(mut refused: Refused) -> Reason {
    refused.reasons.pop().expect("a refusal has a reason")
}
