//! One connection to one node, speaking newline-JSON: a line for a request, a line for a reply, in
//! the order of the requests.
//!
//! Invariant: a connection that is kept has answered everything that it was asked. Whoever gives
//! up in the middle drops it, because the next reply would be that of another request.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::answer::Answer;
use super::json;
use crate::limits;

/// Longest wait for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest reply that is read, in bytes: a key at its limit of siblings, every byte of each escaped
/// as six, and room for the rest. A longer one is not from a node of this version.
const REPLY_BYTES_MAX: usize = 8 * limits::VALUE_BYTES_CEILING;
/// Bytes read from the socket at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of a line that are shown where it is no reply.
const SHOWN_BYTES: usize = 60;

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    node: String,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Connection {
    /// Connects to `node` (HOST:PORT), and shows it the token, if there is one.
    pub(super) async fn open(node: &str, token: Option<&str>) -> io::Result<Self> {
        let stream = within(CONNECT_TIMEOUT, TcpStream::connect(node)).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let reader = BufReader::with_capacity(READ_BYTES, reader);
        let mut connection = Self { node: node.to_owned(), reader, writer };
        if let Some(token) = token {
            connection.authenticate(token).await?;
        }
        Ok(connection)
    }

    async fn authenticate(&mut self, token: &str) -> io::Result<()> {
        let line = format!("{{\"cmd\":\"AUTH\",\"token\":{}}}\n", json::json_string(token));
        let mut answers = Vec::with_capacity(1);
        self.exchange(line.as_bytes(), 1, CONNECT_TIMEOUT, &mut answers).await?;
        let answer = answers.pop().expect("an exchange that succeeds has its answer");
        // A node that asks for no token is one that takes everybody.
        if answer.is_ok() || answer.text("code").as_deref() == Some("no_tokens") {
            return Ok(());
        }
        let text = answer.text("error").unwrap_or_default();
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("not let in: {text}")))
    }

    /// The node at the other end.
    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Sends requests and reads as many replies into `answers`, while it sends, as a node stops
    /// reading from those who do not read. Each of them is waited for as long as `patience`.
    pub(super) async fn exchange(
        &mut self,
        lines: &[u8],
        count: usize,
        patience: Duration,
        answers: &mut Vec<Answer>,
    ) -> io::Result<()> {
        let Self { reader, writer, .. } = self;
        let sent = within(patience, writer.write_all(lines));
        let received = async {
            for _ in 0..count {
                answers.push(within(patience, receive(reader)).await?);
            }
            Ok(())
        };
        tokio::try_join!(sent, received).map(|((), ())| ())
    }
}

async fn within<T>(time: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "it took too long");
    timeout(time, work).await.map_err(late)?
}

async fn receive(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Answer> {
    let mut line = Vec::new();
    let bound = u64::try_from(REPLY_BYTES_MAX).expect("the bound fits 64 bits");
    reader.take(bound).read_until(b'\n', &mut line).await?;
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let cut = |text: &str| io::Error::new(io::ErrorKind::UnexpectedEof, text);
    match line.last() {
        None => Err(cut("the node closed it")),
        Some(b'\n') => serde_json::from_slice(&line).map_err(|error| {
            invalid(format!("that is not a reply of a Peerage node ({error}): {}", start_of(&line)))
        }),
        Some(_) if line.len() == REPLY_BYTES_MAX => {
            Err(invalid(format!("the reply is longer than {REPLY_BYTES_MAX} bytes")))
        }
        Some(_) => Err(cut("the node closed it in the middle of a reply")),
    }
}

/// What a line begins with, for people.
fn start_of(line: &[u8]) -> String {
    let line = line.trim_ascii_end();
    let shown = line.get(..SHOWN_BYTES).unwrap_or(line);
    shown.escape_ascii().to_string()
}
