//! What must hold in every run, checked by what the world can see and no node can.
//!
//! One file for each oracle. It looks at the world when something happens or at the end, and says
//! `history.violate` or `complain` with the number and the words of the promise that is broken.

mod converged;
mod history;
mod leaving;
mod promises;
mod storage;

pub use history::{Claim, Fate, History, Mint, Reader, Seen, Violation, Walk, WriteId};
pub(super) use leaving::Statement;
pub(super) use promises::Promises;
