//! What a run is made of: the world it happens in, what goes wrong when, who asks what, and what is
//! expected of it.
//!
//! A random run begins with empty lists and writes down whatever its clients asked and whatever
//! went wrong. What it wrote down is a scenario too, which replays the run; so a failing run can be
//! made smaller by leaving out steps, and kept as a file.

use std::fmt;

use bytes::Bytes;

use super::faults::Fault;
use super::network::Place;
use super::options::Options;
use crate::api::Level;
use crate::hash::Key;

/// One run, to the last draw: two runs of equal scenarios are equal, event by event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// What people call it.
    pub name: String,
    /// The world: nodes, links, disks, and what is drawn on top of the steps.
    pub options: Options,
    /// The clients that steps name by their index here.
    pub clients: Vec<String>,
    /// What happens, in the order of its time.
    pub steps: Vec<Step>,
    /// What must hold at the end, beside the promises that are always checked.
    pub expects: Vec<Expectation>,
}

/// Something that happens at its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Microseconds since the cluster was born.
    pub at_us: u64,
    /// What happens.
    pub action: Action,
}

/// What can happen in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something goes wrong, or is mended.
    Fault(Fault),
    /// A client asks something.
    Ask(Operation),
}

/// One question of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Index of the client in [`Scenario::clients`]. A client that still waits for an answer asks
    /// as soon as it has it.
    pub client: usize,
    /// The node it asks; `None` = the one that it is connected to, else the first.
    pub via: Option<Place>,
    /// What it asks.
    pub request: Request,
    /// Level of consistency.
    pub level: Level,
    /// What the answer must be; `None` = anything that keeps the promises.
    pub expect: Option<Answered>,
}

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Reads a key: the one value that a plain reader is shown, or all siblings with a context.
    Get {
        /// Of which key.
        key: Key,
        /// Whether all siblings are asked for.
        siblings: bool,
    },
    /// Writes a value that no other write of the key in the scenario has.
    Set {
        /// Of which key.
        key: Key,
        /// The value.
        value: Bytes,
        /// What the writer says it has seen.
        context: Context,
        /// How long the value lasts, in whole milliseconds as microseconds; 0 = for ever.
        ttl_us: u64,
    },
    /// Deletes what the context covers.
    Delete {
        /// Which key.
        key: Key,
        /// What the deleter says it has seen.
        context: Context,
    },
    /// Writes several keys, all or none.
    Bulk {
        /// Keys, each once, and their values.
        items: Vec<(Key, Bytes)>,
        /// Whether it is to be refused where no node owns all of its keys.
        isolated: bool,
        /// How long they last, as that of [`Request::Set`].
        ttl_us: u64,
    },
    /// Walks all keys, page by page; each page is asked of the next node.
    Scan {
        /// Most keys of a page.
        limit: u32,
    },
    /// Asks how many keys there are.
    Count,
    /// Asks what every replica holds of a key.
    Explain {
        /// Of which key.
        key: Key,
    },
}

/// What a writer says that it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Nothing is said: the rule for plain writers applies.
    Absent,
    /// An empty context: it has seen nothing.
    Empty,
    /// The context of the client's last read of the key with siblings, however old it is; as
    /// [`Context::Absent`] where there was none. It is stale where others have written since, and
    /// used again where the client itself has.
    LastRead,
    /// A token that no reply gave for this key.
    Forged(Forgery),
}

/// A token that a client made up, or took from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// A token of another cluster: it names events that never were here.
    OtherCluster,
    /// It names events of some member that are still to come. That member refuses it as a leader;
    /// through others the key may lose what it covers, and no other key does.
    Future,
    /// The token of the client's last read of another key.
    OtherKey,
    /// The token of the client's last read of the key, with one letter changed.
    Damaged,
}

impl Context {
    /// Every context by its word in scenario files, and what a writer says by it.
    pub const ALL: [(&'static str, Self, &'static str); 7] = [
        ("absent", Self::Absent, "says nothing: the rule for plain writers applies"),
        ("empty", Self::Empty, "says that it has seen nothing"),
        ("last_read", Self::LastRead, "uses the token of its last read, stale and more than once"),
        (
            "other_cluster",
            Self::Forged(Forgery::OtherCluster),
            "forges a token of events that never were here, as of another cluster",
        ),
        (
            "future",
            Self::Forged(Forgery::Future),
            "forges a token of events of some member that are still to come",
        ),
        (
            "other_key",
            Self::Forged(Forgery::OtherKey),
            "uses the token that it read of another key",
        ),
        ("damaged", Self::Forged(Forgery::Damaged), "changes a letter of the token that it read"),
    ];
}

/// What an answer must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It succeeds.
    Ok,
    /// It is refused: nothing was applied.
    Refused,
    /// Nobody can tell: no answer, or one that says so.
    Unknown,
    /// A read that shows exactly these values, in any order; none = the key is absent.
    Values(Vec<Bytes>),
}

/// What must hold once everything is mended and every client has its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// All replicas of every key answer alike within so many microseconds of the mending.
    Converged(u64),
    /// A key holds exactly these values, in any order; none = it is absent.
    Values(Key, Vec<Bytes>),
}

impl Scenario {
    /// The random run of a seed, with faults of every family in about half of all seeds.
    pub fn random(seed: u64) -> Self {
        Self::of(format!("random seed {seed}"), Options::swarm(seed))
    }

    /// A world in which nothing happens but what its options draw.
    pub fn of(name: impl Into<String>, options: Options) -> Self {
        let (clients, steps, expects) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.into(), options, clients, steps, expects }
    }

    /// Number of steps in which something goes wrong.
    pub fn faults(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.action, Action::Fault(_))).count()
    }

    /// Number of questions that clients ask in steps.
    pub fn operations(&self) -> usize {
        self.steps.len() - self.faults()
    }

    /// The same world, where everything that was drawn on top is written down instead.
    pub(super) fn written_down(&self, steps: Vec<Step>) -> Self {
        let mut clients = self.clients.clone();
        clients.extend((1..=self.options.clients).map(|number| format!("c{number}")));
        let options = self.options.clone().without_draws();
        Self { options, clients, steps, ..self.clone() }
    }
}

impl Request {
    /// Every key that it is about.
    pub fn keys(&self) -> Vec<&Key> {
        match self {
            Self::Get { key, .. }
            | Self::Set { key, .. }
            | Self::Delete { key, .. }
            | Self::Explain { key } => vec![key],
            Self::Bulk { items, .. } => items.iter().map(|(key, _)| key).collect(),
            Self::Scan { .. } | Self::Count => Vec::new(),
        }
    }

    /// Number of values that it writes, each of which tells its write from all others.
    pub(super) fn writes(&self) -> u64 {
        match self {
            Self::Set { .. } | Self::Delete { .. } => 1,
            Self::Bulk { items, .. } => items.len() as u64,
            Self::Get { .. } | Self::Scan { .. } | Self::Count | Self::Explain { .. } => 0,
        }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok"),
            Self::Refused => f.write_str("refused"),
            Self::Unknown => f.write_str("unknown"),
            Self::Values(values) if values.is_empty() => f.write_str("no such key"),
            Self::Values(values) => {
                let values: Vec<_> = values.iter().map(|v| v.escape_ascii().to_string()).collect();
                write!(f, "exactly {}", values.join(", "))
            }
        }
    }
}
