//! Newline-JSON for the loops: requests as the client writes them, replies known by how they begin.

use super::{Operation, Outcome, Wire};
use crate::client::Call;

/// One connection of newline-JSON.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Wire for Json {
    fn put(&mut self, operation: &Operation<'_>, out: &mut Vec<u8>) {
        let call = match operation {
            Operation::Get { key } => Call::get(key.as_bytes()),
            Operation::Set { key, value } => Call::set(key.as_bytes(), value.as_bytes()),
            Operation::Bulk { keys, value } => {
                let items: Vec<(&str, &str)> = keys.iter().map(|key| (&key[..], *value)).collect();
                Call::bulk_set(&items)
            }
        };
        out.extend_from_slice(call.line().as_bytes());
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Option<(usize, Outcome)>, String> {
        let Some(length) = bytes.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
        let line = bytes[..length].trim_ascii();
        let outcome = if line.starts_with(br#"{"ok":true"#) {
            Outcome::Done
        } else if line.starts_with(br#"{"ok":false,"error":"Key not found""#) {
            Outcome::Absent
        } else if line.starts_with(b"{") {
            Outcome::Failed(String::from_utf8_lossy(line).into_owned())
        } else {
            return Err(format!("no reply in JSON: {}", line.escape_ascii()));
        };
        Ok(Some((length + 1, outcome)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_apart_and_waited_for_to_their_end() {
        let take = |text: &str| Json.take(text.as_bytes()).unwrap();
        assert_eq!(take("{\"ok\":true,\"value\":\"v\"}"), None);
        assert_eq!(take("{\"ok\":true}\n{\"ok\""), Some((12, Outcome::Done)));
        let absent = "{\"ok\":false,\"error\":\"Key not found\",\"code\":\"not_found\"}\n";
        assert_eq!(take(absent), Some((absent.len(), Outcome::Absent)));
        let busy = "{\"ok\":false,\"error\":\"busy\"}\n";
        let failed = Outcome::Failed(String::from(busy.trim()));
        assert_eq!(take(busy), Some((busy.len(), failed)));
        assert!(Json.take(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
