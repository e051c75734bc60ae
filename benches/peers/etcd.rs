//! etcd for the loops: its JSON gateway over HTTP/1.1 (`/v3/kv/put` and `/v3/kv/range`).
//!
//! The gateway is a part of the process of etcd and passes each request on to its own gRPC port, so
//! etcd costs more here than with a client that speaks gRPC. It is the one way in that needs no
//! generated code, and the table says so.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use peerage::load::{Operation, Outcome, Wire};

/// One connection to the gateway.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gateway;

impl Wire for Gateway {
    fn put(&mut self, operation: &Operation<'_>, out: &mut Vec<u8>) {
        let (path, body) = match operation {
            Operation::Get { key } => {
                ("range", format!("{{\"key\":\"{}\"}}", STANDARD.encode(key)))
            }
            Operation::Set { key, value } => {
                let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
                ("put", format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}"))
            }
            Operation::Bulk { .. } => unreachable!("batches are not compared"),
        };
        let length = body.len();
        let request = format!(
            "POST /v3/kv/{path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        out.extend_from_slice(request.as_bytes());
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Option<(usize, Outcome)>, String> {
        let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes[..head]);
        let mut lines = text.lines();
        let status = lines.next().unwrap_or_default();
        let length: usize = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.trim().parse().ok())
            .ok_or_else(|| format!("a reply without a length: {status}"))?;
        let whole = head + 4 + length;
        if bytes.len() < whole {
            return Ok(None);
        }
        let ok = status.split(' ').nth(1) == Some("200");
        let outcome = if ok { Outcome::Done } else { Outcome::Failed(status.to_owned()) };
        Ok(Some((whole, outcome)))
    }
}
