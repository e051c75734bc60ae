//! A newline-JSON client that hides nothing.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Longest wait for one reply: longer than any deadline of the server.
const REPLY_PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Json {
    reader: BufReader<TcpStream>,
}

impl Json {
    /// Connects to a node that must accept.
    pub(crate) fn open(port: u16) -> Self {
        Self::try_open(port).unwrap_or_else(|| panic!("nothing accepts on port {port}"))
    }

    /// Connects to a node that may be down.
    pub(crate) fn try_open(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(REPLY_PATIENCE)).expect("a socket takes a timeout");
        stream.set_nodelay(true).expect("a socket takes nodelay");
        Some(Self { reader: BufReader::new(stream) })
    }

    /// Sends one request and returns its reply.
    pub(crate) fn call(&mut self, request: &Value) -> Value {
        self.try_call(request).unwrap_or_else(|| panic!("the connection closed at {request}"))
    }

    /// Sends one request; `None` when the connection is gone.
    pub(crate) fn try_call(&mut self, request: &Value) -> Option<Value> {
        self.try_send(format!("{request}\n").as_bytes())?;
        self.try_reply()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the connection takes bytes");
    }

    /// Sends bytes as they are; `None` when the connection is gone.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> Option<()> {
        self.reader.get_mut().write_all(bytes).ok()
    }

    /// The next reply.
    pub(crate) fn reply(&mut self) -> Value {
        self.try_reply().expect("the connection is open")
    }

    /// The next reply; `None` when the connection is gone.
    pub(crate) fn try_reply(&mut self) -> Option<Value> {
        let line = self.line()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next line as it came; `None` when the connection is gone.
    pub(crate) fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line),
            Err(error) if is_timeout(&error) => panic!("no reply within {REPLY_PATIENCE:?}"),
            Err(_) => None,
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&mut self) {
        let done = self.reader.get_ref().shutdown(std::net::Shutdown::Write);
        done.expect("an open socket can be shut down");
    }

    /// Everything until the other side closes; it must close.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Err(error) if is_timeout(&error) => panic!("the connection stays open"),
            Ok(_) | Err(_) => rest,
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Complains where `reply` does not hold what `expected` says. An object must hold the named
/// fields and may hold more, a list must hold just the named elements; `"$int"`, `"$string"`,
/// `"$list"`, `"$object"` stand for anything of that kind, `"$absent"` for a field that must not be
/// there.
pub(crate) fn mismatch(reply: &Value, expected: &Value) -> Option<String> {
    let fits = match expected {
        Value::String(kind) if kind == "$int" => reply.is_u64(),
        Value::String(kind) if kind == "$string" => reply.is_string(),
        Value::String(kind) if kind == "$list" => reply.is_array(),
        Value::String(kind) if kind == "$object" => reply.is_object(),
        Value::Array(wanted) => {
            let found = reply.as_array().filter(|found| found.len() == wanted.len());
            let Some(found) = found else { return Some(format!("{reply} is not {expected}")) };
            return found.iter().zip(wanted).find_map(|(found, wanted)| mismatch(found, wanted));
        }
        Value::Object(fields) => {
            for (name, wanted) in fields {
                let found = reply.get(name);
                let complaint = match found {
                    None if wanted == "$absent" => None,
                    None => Some(format!("{name} is missing")),
                    Some(_) if wanted == "$absent" => Some(format!("{name} must be absent")),
                    Some(found) => mismatch(found, wanted),
                };
                if let Some(complaint) = complaint {
                    return Some(format!("{complaint}, in {reply}"));
                }
            }
            reply.is_object()
        }
        other => reply == other,
    };
    (!fits).then(|| format!("{reply} is not {expected}"))
}
