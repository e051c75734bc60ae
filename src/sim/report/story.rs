//! The story of a run: what mattered to one key, from the kept events to its violation.
//!
//! A story is data that every form of report draws from. Its rows are the events of the key, and
//! what befell nodes and network; talk of the control plane carries no values and is left out. Each
//! row names the rows right before it, so its causal past is a walk. Invariants: parents have
//! smaller ids than their row; the rows of one lane follow one another, those of the world too.

use serde::Serialize;

/// Name of the format.
pub const FORMAT: &str = "peerage-trace";
/// Grows when a reader of an older version would misread a story.
pub const VERSION: u32 = 1;

/// What there is to tell of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Story {
    /// [`FORMAT`].
    pub format: &'static str,
    /// [`VERSION`].
    pub version: u32,
    /// What people call the run.
    pub name: String,
    /// The seed of every draw.
    pub seed: u64,
    /// The command that runs it again.
    pub replay: String,
    /// The hash of all events, those that are left out here among them.
    pub hash: String,
    /// Whether every promise was kept.
    pub held: bool,
    /// The verdict in words.
    pub verdict: String,
    /// What the world was made of, by name and in words.
    pub options: Vec<(&'static str, String)>,
    /// What happened, by numbers.
    pub tally: Vec<(&'static str, u64)>,
    /// The key that the story is about.
    pub key: String,
    /// Every key that its rows are about.
    pub keys: Vec<String>,
    /// Nodes and clients, in the order in which they are drawn; the world is the first.
    pub lanes: Vec<Lane>,
    /// What happened, in its order.
    pub rows: Vec<Row>,
    /// Events that are left out, because there were too many.
    pub left_out: usize,
    /// When which directions of the network were cut.
    pub cuts: Vec<Cut>,
    /// When which node did not run.
    pub gaps: Vec<Gap>,
    /// The versions of the key, in the order in which they were minted.
    pub versions: Vec<Version>,
    /// The row of the violation, and its causal past.
    pub violation: Option<Past>,
}

/// A column of the picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: LaneKind,
}

/// What a lane is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LaneKind {
    /// Network and verdict.
    World,
    /// A client of the scenario.
    Client,
    /// A client that only asks at the end how a key stands.
    Judge,
    /// A node.
    Node,
}

/// What sort of event a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowKind {
    /// A client asks.
    Ask,
    /// A node has the question.
    Question,
    /// A node answers.
    Reply,
    /// A client has its answer, or learns that none will come.
    Answer,
    /// A message leaves a node.
    Send,
    /// It arrives.
    Arrive,
    /// It arrives where nobody takes it.
    Unheard,
    /// A node holds a version, or holds it no more.
    Put,
    /// What it holds is durable.
    Durable,
    /// A process starts.
    Start,
    /// A process is gone.
    Stop,
    /// Something else goes wrong, or is mended.
    Fault,
    /// A promise is broken.
    Violation,
}

/// How a row is coloured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// As any other.
    #[default]
    Plain,
    /// It succeeded.
    Ok,
    /// Nothing was applied.
    Refused,
    /// Nobody can tell.
    Unknown,
    /// A version is born.
    Born,
    /// Versions stand side by side.
    Siblings,
    /// Something is wrong.
    Bad,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its place in [`Story::rows`].
    pub id: usize,
    /// Microseconds since the birth of the cluster.
    pub at_us: i64,
    /// Its place in [`Story::lanes`].
    pub lane: usize,
    /// What sort of event it is.
    pub kind: RowKind,
    /// How it is coloured.
    pub tone: Tone,
    /// A few words.
    pub title: String,
    /// More, line by line.
    pub notes: Vec<String>,
    /// Places in [`Story::keys`].
    pub keys: Vec<usize>,
    /// The rows right before it: of its lane, and what came from elsewhere.
    pub parents: Vec<usize>,
    /// The row whose message arrives here.
    pub from: Option<usize>,
    /// The lane that a message is for.
    pub to: Option<usize>,
    /// Whether it never reached it.
    pub lost: bool,
    /// For a question the row of its answer.
    pub until: Option<usize>,
}

/// A time in which directions of the network were cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// When it began.
    pub from_us: i64,
    /// When it was over.
    pub to_us: i64,
    /// From lane to lane, what did not pass.
    pub pairs: Vec<(usize, usize)>,
    /// In words.
    pub title: String,
}

/// A time in which a node did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Which lane.
    pub lane: usize,
    /// When it began.
    pub from_us: i64,
    /// When it was over.
    pub to_us: i64,
    /// Whether the process was there and stood still.
    pub paused: bool,
}

/// One version of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// What it is called here.
    pub name: String,
    /// What it is called in logs.
    pub dot: String,
    /// Its value; `None` = a delete.
    pub value: Option<String>,
    /// The row that minted it.
    pub row: usize,
    /// The versions that it took the place of.
    pub replaces: Vec<String>,
    /// What became of it.
    pub state: VersionState,
}

/// What became of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// It was shown by the last read of the story.
    Live,
    /// Another one took its place.
    Replaced,
    /// The violation names it.
    Wronged,
    /// None of these.
    Unseen,
}

/// A row and everything that happened before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Past {
    /// Which row.
    pub row: usize,
    /// Its causal past, itself last.
    pub past: Vec<usize>,
}

impl Story {
    /// For each row how many rows of each lane it may know of: vector clocks (Mattern, "Virtual
    /// Time and Global States of Distributed Systems", 1988).
    pub fn clocks(&self) -> Vec<Vec<usize>> {
        let mut clocks: Vec<Vec<usize>> = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let mut clock = vec![0; self.lanes.len()];
            for parent in &row.parents {
                for (mine, theirs) in clock.iter_mut().zip(&clocks[*parent]) {
                    *mine = (*mine).max(*theirs);
                }
            }
            clock[row.lane] += 1;
            clocks.push(clock);
        }
        clocks
    }

    /// Every row that may have brought `row` about, and `row` itself, by their clocks.
    pub fn past(&self, row: usize) -> Vec<usize> {
        let clocks = self.clocks();
        let known = &clocks[row];
        let before = |other: &Row| clocks[other.id][other.lane] <= known[other.lane];
        self.rows.iter().filter(|other| before(other)).map(|other| other.id).collect()
    }
}
