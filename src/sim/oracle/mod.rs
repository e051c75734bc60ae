//! What must hold in every run, checked by what the world can see and no node can.

mod history;

pub use history::{Claim, Fate, History, Mint, Seen, Violation, WriteId};
