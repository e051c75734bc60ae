//! A RESP2 and RESP3 client that hides nothing.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const REPLY_PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Resp {
    reader: BufReader<TcpStream>,
}

/// A reply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// `+`
    Simple(String),
    /// `-`
    Error(String),
    /// `:`
    Int(i64),
    /// `$`
    Bulk(Vec<u8>),
    /// `$-1`, `*-1`, `_`
    Null,
    /// `*`, `~` and `>`
    Array(Vec<Self>),
    /// `%`
    Map(Vec<(Self, Self)>),
    /// `#`, `,`, `(`, `=`: as they stand
    Other(String),
}

impl Value {
    /// The bytes of a bulk or simple string.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bulk(bytes) => bytes,
            Self::Simple(text) => text.as_bytes(),
            other => panic!("{other:?} is not a string"),
        }
    }

    /// The elements of an array.
    pub(crate) fn array(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            other => panic!("{other:?} is not an array"),
        }
    }

    /// The number.
    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("{other:?} is not a number"),
        }
    }

    /// A bulk string.
    pub(crate) fn text(text: &str) -> Self {
        Self::Bulk(text.as_bytes().to_vec())
    }
}

impl Resp {
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

    /// Sends a command and returns its reply.
    pub(crate) fn call(&mut self, words: &[&[u8]]) -> Value {
        self.try_call(words).expect("the connection stays open")
    }

    /// Sends a command of plain words.
    pub(crate) fn say(&mut self, line: &str) -> Value {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.call(&words)
    }

    /// Sends a command; `None` when the connection is gone.
    pub(crate) fn try_call(&mut self, words: &[&[u8]]) -> Option<Value> {
        self.try_send(&encode(words))?;
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
        let (kind, rest) = line.split_at(1);
        let value = match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Int(number(rest)),
            "_" => Value::Null,
            "$" | "*" if rest == "-1" => Value::Null,
            "$" => Value::Bulk(self.bulk(rest)?),
            "*" | "~" | ">" => {
                let items: Option<_> = (0..number(rest)).map(|_| self.try_reply()).collect();
                Value::Array(items?)
            }
            "%" => {
                let pair = |client: &mut Self| Some((client.try_reply()?, client.try_reply()?));
                let pairs: Option<_> = (0..number(rest)).map(|_| pair(self)).collect();
                Value::Map(pairs?)
            }
            "=" => Value::Other(String::from_utf8_lossy(&self.bulk(rest)?).into_owned()),
            "#" | "," | "(" => Value::Other(line.clone()),
            other => panic!("no RESP type begins with {other:?}: {line:?}"),
        };
        Some(value)
    }

    /// The next line as it came, without its end.
    pub(crate) fn raw_line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).expect("the reply comes in time");
        assert!(line.ends_with(b"\r\n"), "the reply ends early: {:?}", line.escape_ascii());
        line.truncate(line.len() - 2);
        line
    }

    /// Bytes that must come next, exactly.
    pub(crate) fn expect(&mut self, expected: &[u8]) {
        let mut found = vec![0; expected.len()];
        let read = self.reader.read_exact(&mut found);
        assert!(read.is_ok(), "the reply ends before {:?}", String::from_utf8_lossy(expected));
        assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(expected));
    }

    /// Whether the other side has closed: nothing more may come.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                false
            }
            Ok(_) | Err(_) => rest.is_empty(),
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = self.reader.read_until(b'\n', &mut line);
        match read {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no reply within {REPLY_PATIENCE:?}")
            }
            Ok(0) | Err(_) => None,
            Ok(_) => {
                let line = String::from_utf8(line).expect("a RESP head is ASCII");
                let line = line.strip_suffix("\r\n").expect("a RESP line ends in CR LF");
                assert!(!line.is_empty(), "a RESP line names its type");
                Some(line.to_owned())
            }
        }
    }

    fn bulk(&mut self, length: &str) -> Option<Vec<u8>> {
        let length = usize::try_from(number(length)).expect("a length is not negative");
        let mut bytes = vec![0; length + 2];
        self.reader.read_exact(&mut bytes).ok()?;
        assert!(bytes.ends_with(b"\r\n"), "a bulk ends in CR LF");
        bytes.truncate(length);
        Some(bytes)
    }
}

/// A command as an array of bulk strings.
pub(crate) fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|error| panic!("{error}: {text:?}"))
}
