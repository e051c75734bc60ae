//! How a command ends when it does not end well: what happened, and the exit code that says so.

use std::io;
use std::process::ExitCode;

use thiserror::Error;

/// Why a command did not succeed. The text says what happened, whether anything was applied, and
/// what to do next.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The operation failed and nothing of it was applied, or the text says what was. Exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The command line, a variable or the settings file is wrong; nothing was done. Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It is not known whether the write was applied. Exit code 3.
    #[error("{0}")]
    Unknown(String),
    /// The reader of the output has gone away, as `head` does: nobody is left to be told.
    #[error("the output was closed")]
    OutputClosed,
}

impl Failure {
    /// The exit code of the process, 0 to 3.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unknown(_) => 3,
        }
    }

    /// A failure to write the output of a command.
    #[expect(clippy::needless_pass_by_value, reason = "it takes the place of the error")]
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Failed(format!("cannot write the output: {error}"))
        }
    }

    /// A reply that cannot be understood.
    #[expect(clippy::needless_pass_by_value, reason = "it takes the place of the reason")]
    pub(crate) fn unreadable(why: String) -> Self {
        Self::Failed(format!("the node sent a reply that cannot be read: {why}"))
    }

    /// Tells the user on stderr, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::OutputClosed => {}
            Self::Failed(_) | Self::Usage(_) | Self::Unknown(_) => eprintln!("peerage: {self}"),
        }
        ExitCode::from(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let closed = Failure::output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(closed.code(), 0);
        let full = Failure::output(io::ErrorKind::StorageFull.into());
        assert_eq!(full.code(), 1);
    }

    #[test]
    fn the_exit_code_tells_the_outcomes_apart() {
        assert_eq!(Failure::Failed(String::new()).code(), 1);
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(Failure::Unknown(String::new()).code(), 3);
    }
}
