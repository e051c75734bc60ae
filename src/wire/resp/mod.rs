//! RESP2 and RESP3: bytes to commands, commands to calls, replies to bytes (docs/protocols.md).
//!
//! Source: the Redis serialization protocol specification, versions 2 and 3.

mod answer;
mod arguments;
mod cluster;
pub mod commands;
mod decoder;
mod describe;
mod expiry;
mod inline;
mod node;
mod own;
mod plan;
mod writer;

pub(super) use answer::{Answer, encode};
pub(super) use decoder::Decoder;

use super::call::{self, Call};
use answer::Body;

/// Which version of the protocol a connection has agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    #[default]
    Two,
    Three,
}

/// The answer to somebody who speaks TLS to this port. The connection is closed.
pub(super) fn refuse_tls() -> Call {
    protocol_error(Version::Two, "this port does not speak TLS")
}

/// The stream cannot be followed any more: says why, then the connection is closed.
fn protocol_error(version: Version, text: &str) -> Call {
    let body = Body::Error(format!("ERR Protocol error: {text}"));
    Call::immediate(call::Answer::Resp(Answer { version, body })).closing()
}

#[cfg(test)]
mod tests;
