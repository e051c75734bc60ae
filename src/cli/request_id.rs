//! Ids of writes: `--request-id`, and those that commands make.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::failure::Failure;
use super::secret;
use crate::api::RequestId;
use crate::client::Call;

/// The id of a write.
#[derive(Args, Debug)]
pub(crate) struct IdFlag {
    /// Id of the write: the same at every try of it; each write has one of its own unless it is
    /// given
    #[arg(long, value_name = "ID", value_parser = parse)]
    request_id: Option<RequestId>,
}

/// An id as it is written.
pub(super) fn parse(text: &str) -> Result<RequestId, String> {
    RequestId::from_text(text)
        .ok_or_else(|| String::from("an id is 32 hexadecimal digits, not all zero, or a UUID"))
}

impl IdFlag {
    /// `call` under the id that was given, or a new one.
    pub(crate) fn apply(&self, call: Call) -> Result<Call, Failure> {
        let id = match self.request_id {
            Some(id) => id,
            None => new_id()?,
        };
        Ok(call.request_id(id))
    }
}

/// An id that nobody else has.
#[expect(clippy::disallowed_methods, reason = "an id says when its client made it")]
fn new_id() -> Result<RequestId, Failure> {
    let random = secret::random()?;
    let random = random.first_chunk().copied().expect("a secret is longer than an id");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(now.as_millis()).unwrap_or_default();
    Ok(RequestId::of_time(unix_ms, u128::from_le_bytes(random)))
}
