//! What must hold in every run, checked by what the world can see and no node can.

mod history;
mod promises;

pub use history::{Claim, Fate, History, Mint, Seen, Violation, WriteId};
pub(super) use promises::Promises;
