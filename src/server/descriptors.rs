//! The open files of the process: clients must leave enough of them for the log.
//!
//! A node that cannot open a segment cannot go on, and a connection costs one descriptor. So the
//! limit of the process is raised as far as it goes, and the number of clients is bounded below it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::files::OPEN_MAX;
use crate::limits::{CONNECTIONS_RESERVED, STRANGERS_MAX};

/// Descriptors that are not for clients: segments, links to other nodes and those who may become
/// such, listeners, runtimes.
const RESERVE: usize = OPEN_MAX + 256 + STRANGERS_MAX + CONNECTIONS_RESERVED;

/// Raises the limit of open files, and returns how many of `wanted` clients fit below it.
pub(super) fn connections_max(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            limit.current
        }
    };
    fitting(current, wanted)
}

/// How many of `wanted` clients fit below a limit of open files; `None` = there is no limit.
fn fitting(limit: Option<u64>, wanted: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // Where the limit is small, half of it goes to clients.
    limit.saturating_sub(RESERVE).max(limit / 2).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: usize = 10_000;

    #[test]
    fn clients_leave_descriptors_for_the_log() {
        let cases = [
            (None, WANTED),
            (Some(u64::MAX), WANTED),
            (Some(20_000), WANTED),
            (Some(4_096), 4_096 - RESERVE),
            (Some(1_024), 512),
            (Some(256), 128),
        ];
        for (limit, expected) in cases {
            assert_eq!(fitting(limit, WANTED), expected, "{limit:?}");
        }
    }
}
