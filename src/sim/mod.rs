//! The other shell: a world in which time, network, disks and crashes come from one seed.
//!
//! The code of production runs in it unchanged: control plane, shards, log and codecs. A
//! [`Scenario`] says what the world is like ([`Options`]), what goes wrong when and who asks what;
//! [`run()`] runs it from the birth of the cluster to the verdict and returns an [`Outcome`]. Equal
//! scenarios are equal runs, event by event.
//!
//! ```
//! use peerage::sim::{self, Options, Scenario};
//!
//! let calm = Options { duration_us: 2_000_000, ..Options::calm(7) };
//! let outcome = sim::run(Scenario::of("two calm seconds", calm), false);
//! assert!(outcome.violations.is_empty());
//! assert!(outcome.acknowledged > 0);
//! ```
//!
//! [`Scenario::random`] draws a run from a seed, with faults of every kind in about half of all
//! seeds; [`Scenario::from_toml`] reads a file (docs/simulations.md), and [`shrink()`] makes a
//! failing scenario smaller. To put a program of your own to the test, see [`application`].
//!
//! Times are virtual, in microseconds; nodes have places from 0, and people call them n1, n2 and so
//! on.

mod agenda;
pub mod application;
mod budget;
mod chance;
mod claims;
mod clients;
mod clock;
mod disk;
mod door;
mod facts;
mod faults;
mod file;
mod ledger;
mod links;
mod liveness;
mod looks;
mod machine;
mod network;
mod options;
pub mod oracle;
mod process;
mod questions;
pub mod report;
mod retries;
mod run;
mod scenario;
mod shrink;
mod storage;
pub mod strength;
mod trace;
mod watch;
mod workload;
mod world;

pub use disk::{Damage, DiskFaults, Instead, SECTOR_BYTES, SimDisk};
pub use facts::{Facts, Parcel, Told};
pub use faults::{
    Area, Astray, CATALOGUE, ClientFault, Death, DiskFault, Fault, Kind, LinkFault, NodeFault,
    Part, Rotting, Shape,
};
pub use file::Complaint;
pub use network::{Copy, Network, NetworkFaults, Place};
pub use options::Options;
pub use run::{Outcome, run};
pub use scenario::{
    Action, Answered, Context, Expectation, Forgery, Operation, Request, Scenario, Step,
};
pub use shrink::{Progress, Shrunk, shrink};
pub use trace::{EventId, Lane, MARK_EVENTS, Trace, TraceEvent};
pub use world::{Tally, World};
