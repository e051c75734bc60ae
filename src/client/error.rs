//! The two ways in which a request does not come out well. Together with `Ok` they are the three
//! outcomes that every protocol of a node knows, as types: a program that matches on them cannot
//! take "I do not know" for "it failed".

use std::fmt;

use super::answer::Answer;

/// Why a request did not return OK.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was applied and nothing will be. [`Refused::reasons`] says what to do next.
    #[error("{0}")]
    Refused(Refused),
    /// The write may have been applied, or may still be. Read the key to see; write it again where
    /// that does no harm.
    #[error("{0}")]
    Unknown(Unknown),
}

/// Nothing was applied: by any of the nodes that were asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What each node said, in the order in which they were asked; at least one.
    pub reasons: Vec<Reason>,
    /// Whether the last of them decided, as it would say the same again or others would. Else every
    /// node was asked, and the request may be sent again.
    pub is_final: bool,
}

/// What one node said, or why it said nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// HOST:PORT.
    pub node: String,
    /// The stable code of the refusal; `None` where the node could not be reached, or did not
    /// answer a read.
    pub code: Option<String>,
    /// What happened.
    pub text: String,
    /// Milliseconds that the node wants to be left alone; 0 where it does not say so.
    pub retry_after_ms: u64,
}

/// Nobody says what became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The node that it was sent to.
    pub node: String,
    /// What happened.
    pub text: String,
}

impl Error {
    /// The code of the refusal that decided, `outcome_unknown`, or `None` where no node answered.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refused) => refused.reasons.last().and_then(|last| last.code.as_deref()),
            Self::Unknown(_) => Some("outcome_unknown"),
        }
    }

    /// What happened, without the address of the node.
    pub fn text(&self) -> &str {
        match self {
            Self::Refused(refused) => refused.reasons.last().map_or("", |last| &last.text),
            Self::Unknown(unknown) => &unknown.text,
        }
    }

    /// The longest time, in milliseconds, that a node wants to be left alone; 0 where none says so.
    pub fn retry_after_ms(&self) -> u64 {
        let reasons = match self {
            Self::Refused(refused) => refused.reasons.as_slice(),
            Self::Unknown(_) => &[],
        };
        reasons.iter().map(|reason| reason.retry_after_ms).max().unwrap_or(0)
    }

    /// Whether the write may have been applied.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

impl Reason {
    /// The refusal that `answer` of `node` is.
    pub(super) fn of(node: &str, answer: &Answer) -> Self {
        let text = answer.text("error").unwrap_or_else(|| String::from("an error without text"));
        let retry_after_ms = answer.number("retry_after_ms").unwrap_or(0);
        Self { node: node.to_owned(), code: answer.text("code"), text, retry_after_ms }
    }

    /// No answer of `node`.
    pub(super) fn silent(node: &str, error: &impl fmt::Display) -> Self {
        let text = error.to_string();
        Self { node: node.to_owned(), code: None, text, retry_after_ms: 0 }
    }

    /// Whether another node may do what this one did not.
    pub(super) fn is_of_this_node(&self) -> bool {
        matches!(
            self.code.as_deref(),
            None | Some("no_cluster" | "shutting_down" | "overloaded" | "unavailable")
        )
    }
}

impl From<Reason> for Refused {
    fn from(reason: Reason) -> Self {
        let is_final = !reason.is_of_this_node();
        Self { reasons: vec![reason], is_final }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.text)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decisive = if self.is_final { self.reasons.len().saturating_sub(1) } else { 0 };
        for (index, reason) in self.reasons.iter().skip(decisive).enumerate() {
            let space = if index == 0 { "" } else { "; " };
            write!(f, "{space}{reason}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.text)
    }
}

impl Unknown {
    /// The write was sent to `node`, which did not answer.
    pub(super) fn silent(node: &str, error: &impl fmt::Display) -> Self {
        let text = format!(
            "the node was sent the write and did not say what became of it ({error}). It may or \
             may not have been applied. Read the key to see; write it again if that does no harm"
        );
        Self { node: node.to_owned(), text }
    }
}
