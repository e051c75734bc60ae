//! The other shell: a world in which time, network, disks and crashes come from one seed.

mod disk;

pub use disk::{Damage, DiskFaults, SECTOR_BYTES, SimDisk};
