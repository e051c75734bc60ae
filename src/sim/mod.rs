//! The other shell: a world in which time, network, disks and crashes come from one seed.

mod disk;
mod network;
pub mod oracle;
mod trace;

pub use disk::{Damage, DiskFaults, SECTOR_BYTES, SimDisk};
pub use network::{Copy, Network, NetworkFaults, Place};
pub use trace::{MARK_EVENTS, Trace, TraceEvent};
