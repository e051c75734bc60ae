//! The other shell: a world in which time, network, disks and crashes come from one seed.

mod budget;
mod chance;
mod clients;
mod disk;
mod facts;
mod faults;
mod file;
mod ledger;
mod links;
mod liveness;
mod machine;
mod network;
mod options;
pub mod oracle;
mod process;
pub mod report;
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
pub use faults::{Area, Astray, CATALOGUE, DiskFault, Fault, Kind, Part, Rotting, Shape};
pub use file::Complaint;
pub use network::{Copy, Network, NetworkFaults, Place};
pub use options::Options;
pub use run::{Outcome, run};
pub use scenario::{Action, Answered, Context, Expectation, Operation, Request, Scenario, Step};
pub use shrink::{Progress, Shrunk, shrink};
pub use trace::{EventId, Lane, MARK_EVENTS, Trace, TraceEvent};
pub use world::{Tally, World};
