//! The open files of the process: clients must leave enough of them for the log.
//!
//! A node that cannot open a segment cannot go on, and a connection costs one descriptor. So the
//! limit of the process is raised as far as it goes, and the number of clients is bounded below it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::files::OPEN_MAX;
use crate::limits::CONNECTIONS_MAX;

/// Descriptors that are not for clients: segments, links to other nodes, listeners, runtimes.
const RESERVE: usize = OPEN_MAX + 256;

/// Raises the limit of open files, and returns how many clients fit below it.
pub(super) fn connections_max() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            limit.current
        }
    };
    fitting(current)
}

/// Clients that fit below a limit of open files; `None` = there is no limit.
fn fitting(limit: Option<u64>) -> usize {
    let Some(limit) = limit else { return CONNECTIONS_MAX };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // Where the limit is small, half of it goes to clients.
    limit.saturating_sub(RESERVE).max(limit / 2).min(CONNECTIONS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_for_the_log() {
        let cases = [
            (None, CONNECTIONS_MAX),
            (Some(u64::MAX), CONNECTIONS_MAX),
            (Some(20_000), CONNECTIONS_MAX),
            (Some(4_096), 4_096 - RESERVE),
            (Some(1_024), 512),
            (Some(256), 128),
        ];
        for (limit, expected) in cases {
            assert_eq!(fitting(limit), expected, "{limit:?}");
        }
    }
}
