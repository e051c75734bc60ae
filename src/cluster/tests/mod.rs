//! Stories of whole clusters, in a world of virtual time.

mod birth;
mod life;
mod world;
