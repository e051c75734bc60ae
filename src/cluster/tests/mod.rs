//! Stories of whole clusters, in a world of virtual time.

mod birth;
mod layout;
mod life;
mod paxos;
mod placement;
mod world;

use std::collections::BTreeMap;

use super::{Cluster, Hello};
use crate::time::{Mono, Now};

/// What the `index`-th node of a world says first, before it is born.
pub(super) fn hello_of(index: usize) -> Hello {
    let now = Now { mono: Mono(0), unix_ms: 1_790_000_000_000 };
    let settings = world::settings(index, &[0]);
    Cluster::new(settings, &BTreeMap::new(), now).expect("an empty disk is sound").hello()
}
