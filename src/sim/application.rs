//! Your own application against a simulated Peerage: is it right in every world that can be?
//!
//! A program that is right on one machine may lose data on a store of siblings: two clients read,
//! both write, and one of them forgets what the other wrote. A test on a laptop rarely meets that
//! instant. Here it is met in seconds of work: five simulated nodes run the code of production for
//! thirty virtual seconds, in which links lose and delay, power goes, disks fail and clocks jump,
//! while the clients of your application ask and are answered through the protocol of production.
//!
//! # How
//!
//! Implement [`Application`] for a value that holds the state of all clients, each at its number:
//!
//! * [`Application::next`] says what client 0, 1, ... does now: [`Next::Ask`] a [`Question`],
//!   [`Next::Wait`], or [`Next::Stop`]. It is called again when the answer has come. All chance
//!   must come from the [`Draws`] that it is given; then a seed is one history, on every machine.
//! * [`Application::answered`] hands over each [`Answer`]. Every question gets exactly one, be it
//!   [`Answer::Unknown`].
//! * [`Application::judge`] looks at what is there when the time is over, everything is mended and
//!   all replicas agree, and says in words what is wrong with it.
//!
//! Then let [`first_failure`] run it over some seeds. What it returns names the seed; [`try_once`]
//! with [`Options::swarm`] of that seed runs the same history again.
//!
//! ```
//! use peerage::sim::application::{Answer, Application, Draws, End, Next, Question, first_failure};
//!
//! /// Each client writes one key of its own, once, and remembers whether that was acknowledged.
//! struct Notes([Option<Answer>; 2]);
//!
//! impl Application for Notes {
//!     fn clients(&self) -> usize {
//!         self.0.len()
//!     }
//!
//!     fn next(&mut self, client: usize, _: &mut Draws<'_>) -> Next {
//!         match self.0[client] {
//!             None => Next::Ask(Question::set(format!("note-{client}"), "milk")),
//!             Some(_) => Next::Stop,
//!         }
//!     }
//!
//!     fn answered(&mut self, client: usize, answer: Answer) {
//!         self.0[client] = Some(answer);
//!     }
//!
//!     fn judge(&self, end: &End) -> Result<(), String> {
//!         let lost = |client: &usize| {
//!             let found = end.values(&format!("note-{client}"));
//!             self.0[*client] == Some(Answer::Done) && found.is_empty()
//!         };
//!         match (0..self.0.len()).find(lost) {
//!             Some(client) => Err(format!("the note of client {client} is gone")),
//!             None => Ok(()),
//!         }
//!     }
//! }
//!
//! assert!(first_failure(1..3, || Notes([None, None])).is_none());
//! ```
//!
//! `examples/lost_update.rs` is a whole one: a shopping cart that loses what was put into it, and
//! the line that mends it.
//!
//! # What to know
//!
//! * Times are virtual microseconds; waiting costs nothing. A seed takes about a tenth of a second.
//! * Keys and values are text. Two writes of one value stay two writes: the world marks each value
//!   on its way to the store and takes the mark off again.
//! * A client asks one thing at a time and is connected to one node. When that dies, or now and
//!   then anyway, it goes to another one, as a client behind a load balancer does.
//! * That an answer is [`Answer::Refused`] says that nothing was written, now or later. After
//!   [`Answer::Unknown`] the write may be there or not, and a judge must allow for both.
//! * The promises of Peerage itself are checked in the same runs; where one is broken the
//!   [`Trial`] says so, and that is our bug, not yours.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

use super::options::Options;
use super::run::{Outcome, run_with};
use super::scenario::{Context, Operation, Request, Scenario};
use super::world::{Happening, World};
use crate::api::Level;
use crate::hash::Key;

/// Between the value of an application and the number that makes it unique.
const MARK: char = '~';
/// Longest time that a client of an application needs to make up its mind, in microseconds.
const MIND_US: u64 = 2_000;

/// What is put to the test: the clients of a program that uses Peerage.
pub trait Application {
    /// How many clients there are, 1 to 64. They are numbered from 0.
    fn clients(&self) -> usize {
        4
    }

    /// What a client does now. It waits for no answer.
    fn next(&mut self, client: usize, draws: &mut Draws<'_>) -> Next;

    /// The answer to the last question of a client.
    fn answered(&mut self, client: usize, answer: Answer);

    /// Whether what is there at the end is right; else what is wrong, in words.
    ///
    /// # Errors
    /// The text of the verdict.
    fn judge(&self, end: &End) -> Result<(), String>;
}

/// What a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It asks, and is called again when it has the answer.
    Ask(Question),
    /// It is called again after so many virtual microseconds.
    Wait(u64),
    /// It is not called any more.
    Stop,
}

/// One question to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    request: Request,
    level: Level,
}

/// What the store answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What a key holds: the value that plain readers are shown first, then its siblings. Empty =
    /// there is no such key.
    Values(Vec<String>),
    /// The write is durable on as many replicas as its level asks for.
    Done,
    /// Nothing was done, for the reason that this code names (see docs/protocols.md).
    Refused(String),
    /// Nobody can tell: the write may be there or not. A read that ends so has done no harm.
    Unknown,
}

/// What every key holds at the end, as all replicas say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct End {
    values: BTreeMap<Key, Vec<String>>,
}

/// The only chance that an application may use; it comes from the seed.
#[derive(Debug)]
pub struct Draws<'a>(&'a mut Xoshiro256PlusPlus);

/// One run of an application.
#[derive(Debug)]
pub struct Trial {
    /// Where all chance came from.
    pub seed: u64,
    /// What the application says of the end.
    pub verdict: Result<(), String>,
    /// The run, with the promises of Peerage that it broke, if any.
    pub outcome: Outcome,
}

/// Runs an application over the random worlds of these seeds, one after the other, and returns the
/// first run that was not right. `None` = all were.
pub fn first_failure<A>(seeds: Range<u64>, application: impl Fn() -> A) -> Option<Trial>
where
    A: Application + 'static,
{
    seeds.map(|seed| try_once(Options::swarm(seed), application())).find(|trial| !trial.is_right())
}

/// Runs an application once in the world of these options. Their clients are the application's.
///
/// # Panics
/// When the application has no clients, or more than 64.
pub fn try_once(options: Options, application: impl Application + 'static) -> Trial {
    let clients = application.clients();
    assert!((1..=64).contains(&clients), "an application has 1 to 64 clients, not {clients}");
    let seed = options.seed;
    let options = Options { clients, think_us: MIND_US, ..options };
    let scenario = Scenario::of(format!("application, seed {seed}"), options);
    let (outcome, driver, values) = run_with(scenario, Driver(Box::new(application)));
    let plain = |values: Vec<Bytes>| values.iter().map(unmarked).collect();
    let values = values.into_iter().map(|(key, values)| (key, plain(values))).collect();
    Trial { seed, verdict: driver.0.judge(&End { values }), outcome }
}

impl Question {
    /// Reads a key with all its siblings. The context of the answer is kept for the client's next
    /// write of the key.
    pub fn get(key: impl Into<String>) -> Self {
        Self::of(Request::Get { key: named(key), siblings: true })
    }

    /// Reads the one value that plain readers are shown, as a client that knows of no siblings.
    pub fn plain_get(key: impl Into<String>) -> Self {
        Self::of(Request::Get { key: named(key), siblings: false })
    }

    /// Writes a key, in place of what the client's last [`Question::get`] of it has shown; without
    /// one, as a plain writer: in place of what was shown last on the connection, or of whatever
    /// the leader of the write holds.
    pub fn set(key: impl Into<String>, value: impl Into<String>) -> Self {
        let value = Bytes::from(value.into());
        let context = Context::LastRead;
        Self::of(Request::Set { key: named(key), value, context, ttl_us: 0 })
    }

    /// Deletes a key, as far as the client's last [`Question::get`] of it has shown it.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::of(Request::Delete { key: named(key), context: Context::LastRead })
    }

    /// The same write with another idea of what its writer has seen.
    #[must_use]
    pub fn with_context(mut self, seen: Context) -> Self {
        if let Request::Set { context, .. } | Request::Delete { context, .. } = &mut self.request {
            *context = seen;
        }
        self
    }

    /// The same write of a value that ends after so many virtual microseconds, at least 1,000.
    #[must_use]
    pub fn ending_after(mut self, us: u64) -> Self {
        if let Request::Set { ttl_us, .. } = &mut self.request {
            *ttl_us = us.max(1_000) / 1_000 * 1_000;
        }
        self
    }

    /// The same question at another level; without this, at `quorum`.
    #[must_use]
    pub fn at(mut self, level: Level) -> Self {
        self.level = level;
        self
    }

    fn of(request: Request) -> Self {
        Self { request, level: Level::Quorum }
    }
}

impl End {
    /// What a key holds, the value that plain readers are shown first; empty = there is no such
    /// key.
    pub fn values(&self, key: &str) -> &[String] {
        self.values.get(&named(key)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every key that was written to or asked for, whether it still holds something or not.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.values.keys().map(|key| key.bytes.as_ref())
    }
}

impl Draws<'_> {
    /// A number from 0 up to, and without, `end`; all are equally likely.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }
}

impl Trial {
    /// Whether the application found the end right, and Peerage kept its promises. A run in which
    /// disks lost every copy of something is no proof against either.
    pub fn is_right(&self) -> bool {
        let is_fair = self.outcome.tally.excused_keys == 0;
        self.outcome.violations.is_empty() && (self.verdict.is_ok() || !is_fair)
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: ", self.seed)?;
        match &self.verdict {
            Ok(()) => f.write_str("the application is right")?,
            Err(text) => write!(f, "the application is wrong: {text}")?,
        }
        let violations = self.outcome.violations.iter();
        violations.take(5).try_for_each(|violation| write!(f, "\n  Peerage broke {violation}"))
    }
}

/// An application in a world.
pub(super) struct Driver(Box<dyn Application>);

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an application")
    }
}

impl World {
    /// Whether a client is one of an application.
    pub(super) fn is_driven(&self, client: usize) -> bool {
        self.driver.is_some() && client < self.scenario.options.clients
    }

    /// Lets the application say what a client does now.
    pub(super) fn drive(&mut self, client: usize) {
        let Some(driver) = &mut self.driver else { return };
        match driver.0.next(client, &mut Draws(&mut self.chance.client)) {
            Next::Ask(Question { mut request, level }) => {
                if let Request::Set { value, .. } = &mut request {
                    *value = self.marked(value);
                }
                let via = self.draw_via(client);
                self.on_operation(Operation { client, via, request, level, expect: None });
            }
            Next::Wait(us) => self.schedule(us.max(1), Happening::Client { client }),
            Next::Stop => self.clients[client].draws = false,
        }
    }

    /// Hands the application what one of its clients was answered.
    pub(super) fn tell_driver(&mut self, client: usize, answer: impl FnOnce() -> Answer) {
        if self.is_driven(client)
            && let Some(driver) = &mut self.driver
        {
            driver.0.answered(client, answer());
        }
    }

    /// A value that no other write has.
    fn marked(&self, value: &Bytes) -> Bytes {
        let text = String::from_utf8_lossy(value);
        Bytes::from(format!("{text}{MARK}{}", self.writes + 1))
    }
}

/// A value as the application wrote it.
pub(super) fn unmarked(value: impl AsRef<[u8]>) -> String {
    let text = String::from_utf8_lossy(value.as_ref());
    text.rsplit_once(MARK).map_or_else(|| text.to_string(), |(plain, _)| String::from(plain))
}

fn named(key: impl Into<String>) -> Key {
    Key::plain(key.into())
}
