//! A client that asks one node after another until one answers, and says what became of a request.
//!
//! Invariant: a write is sent to a second node only if the first one certainly did not apply it:
//! the connection failed before anything was sent, or the node refused it. Otherwise the outcome is
//! unknown, and only the user can say whether writing it twice does harm.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::connection::{Answer, Call, Connection};
use super::failure::Failure;
use super::output::Format;
use crate::api;
use crate::config::Config;
use crate::limits;

/// What is waited for a reply beyond the time that the request itself may take.
const PATIENCE_MS: u32 = 2_000;
/// The error of a read that found nothing; it carries no code.
const KEY_NOT_FOUND: &str = "Key not found";

/// Where to send requests and how to show what comes back.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClientFlags {
    /// Node to ask; several (repeated or with commas) are tried in turn
    #[arg(long, value_name = "HOST:PORT", env = "PEERAGE_ADDR", value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:6379", hide_env_values = true, value_parser = parse_addr)]
    pub(crate) addr: Vec<String>,
    /// Time that a request may take, 1 to 60000 [default: 1000 for reads, 2000 for writes]
    #[arg(long, value_name = "MS", env = "PEERAGE_TIMEOUT_MS", hide_env_values = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::TIMEOUT_MS_MAX)))]
    pub(crate) timeout_ms: Option<u32>,
    /// How results are written [default: table on a terminal, jsonl elsewhere]
    #[arg(long, short, value_name = "FORMAT", env = "PEERAGE_OUTPUT", hide_env_values = true)]
    pub(crate) output: Option<Format>,
}

/// How many replicas a read needs.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ReadLevel {
    /// Replicas that must answer [default: sloppy]
    #[arg(long, value_name = "LEVEL", env = "PEERAGE_LEVEL", hide_env_values = true)]
    level: Option<Level>,
    /// Number of replicas that must answer, in place of that of the level
    #[arg(short, value_name = "N")]
    r: Option<u8>,
}

/// How many replicas a write needs.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WriteLevel {
    /// Replicas on whose disks it must be [default: sloppy]
    #[arg(long, value_name = "LEVEL", env = "PEERAGE_LEVEL", hide_env_values = true)]
    level: Option<Level>,
    /// Number of replicas on whose disks it must be, in place of that of the level
    #[arg(short, value_name = "N")]
    w: Option<u8>,
}

/// The levels as words of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Level {
    /// One replica
    One,
    /// A majority; the same as quorum until there are fallback nodes
    Sloppy,
    /// A majority
    Quorum,
    /// A majority, and what a read shows is durable on one
    Strict,
    /// Every replica
    All,
}

/// Whether a request may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It may be repeated at will.
    Read,
    /// It is sent once, unless it was refused.
    Write,
}

/// Asks nodes in turn. The node that answered last is asked first.
#[derive(Debug)]
pub(crate) struct Client {
    addrs: Vec<String>,
    first: usize,
    timeout_ms: Option<u32>,
    connection: Option<Connection>,
}

/// What one node made of a request.
enum Attempt {
    Done(Answer),
    /// Not applied; another node may do it.
    Elsewhere(String),
    Over(Failure),
}

/// HOST:PORT, or HOST with the default port.
fn parse_addr(text: &str) -> Result<String, String> {
    let port = Config::default().port;
    match text.rsplit_once(':') {
        None if !text.is_empty() => Ok(format!("{text}:{port}")),
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.into()),
        None | Some(_) => Err(format!("give HOST:PORT, such as 127.0.0.1:{port} or [::1]:{port}")),
    }
}

impl ClientFlags {
    /// The client that these flags describe.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.addr.clone(), self.timeout_ms)
    }

    /// The format asked for, or the one for where the output goes.
    pub(crate) fn format(&self) -> Format {
        self.output.unwrap_or_else(Format::default_for_stdout)
    }
}

impl ReadLevel {
    /// `call` with the level, if one was given.
    pub(crate) fn apply(&self, call: Call) -> Call {
        with_level(call, self.level, ("r", self.r))
    }
}

impl WriteLevel {
    /// `call` with the level, if one was given.
    pub(crate) fn apply(&self, call: Call) -> Call {
        with_level(call, self.level, ("w", self.w))
    }
}

fn with_level(call: Call, level: Option<Level>, (name, number): (&str, Option<u8>)) -> Call {
    let call = match level {
        Some(level) => call.text("level", level.on_the_wire().name()),
        None => call,
    };
    match number {
        Some(number) => call.number(name, u64::from(number)),
        None => call,
    }
}

impl Level {
    fn on_the_wire(self) -> api::Level {
        match self {
            Self::One => api::Level::One,
            Self::Sloppy => api::Level::Sloppy,
            Self::Quorum => api::Level::Quorum,
            Self::Strict => api::Level::Strict,
            Self::All => api::Level::All,
        }
    }
}

impl Client {
    /// A client of these nodes (HOST:PORT), of which there is at least one.
    pub(crate) fn new(addrs: Vec<String>, timeout_ms: Option<u32>) -> Self {
        assert!(!addrs.is_empty(), "the flag for addresses has a default");
        Self { addrs, first: 0, timeout_ms, connection: None }
    }

    /// `call` with the time that it may take, if the user gave one.
    pub(crate) fn with_timeout(&self, call: Call) -> Call {
        match self.timeout_ms {
            Some(timeout_ms) => call.number("timeout_ms", u64::from(timeout_ms)),
            None => call,
        }
    }

    /// How long a reply is waited for.
    pub(crate) fn patience(&self) -> Duration {
        let timeout_ms = self.timeout_ms.unwrap_or(limits::WRITE_TIMEOUT_MS);
        Duration::from_millis(u64::from(timeout_ms + PATIENCE_MS))
    }

    /// The reply to `call`, from the first node that does it. A read that found no such key is a
    /// reply, told by [`Answer::is_ok`].
    pub(crate) fn call(&mut self, call: Call, kind: Kind) -> Result<Answer, Failure> {
        let line = self.with_timeout(call).line();
        let mut reasons = Vec::new();
        for step in 0..self.addrs.len() {
            let index = (self.first + step) % self.addrs.len();
            match self.attempt(index, &line, kind) {
                Attempt::Done(answer) => {
                    self.first = index;
                    return Ok(answer);
                }
                Attempt::Over(failure) => return Err(failure),
                Attempt::Elsewhere(reason) => reasons.push(reason),
            }
        }
        Err(Failure::Failed(no_node_did_it(&reasons, kind)))
    }

    fn attempt(&mut self, index: usize, line: &str, kind: Kind) -> Attempt {
        let addr = self.addrs[index].clone();
        let open = self.connection.take().filter(|connection| connection.addr() == addr);
        let mut connection = match open {
            Some(connection) => connection,
            None => match Connection::open(&addr, self.patience()) {
                Ok(connection) => connection,
                Err(error) => return Attempt::Elsewhere(format!("{addr}: {error}")),
            },
        };
        let replied = connection.send(line.as_bytes()).and_then(|()| connection.receive());
        match replied {
            Ok(answer) => {
                self.connection = Some(connection);
                judge(answer, &addr, kind)
            }
            Err(error) if kind == Kind::Read => Attempt::Elsewhere(format!("{addr}: {error}")),
            Err(error) => Attempt::Over(Failure::Unknown(format!(
                "{addr} was sent the write and did not say what became of it ({error}).\n  It may \
                 or may not have been applied. Read the key to see; write it again if that does no \
                 harm."
            ))),
        }
    }
}

fn judge(answer: Answer, addr: &str, kind: Kind) -> Attempt {
    if answer.is_ok() || is_not_found(&answer) {
        return Attempt::Done(answer);
    }
    let error = answer.text("error").unwrap_or_else(|| String::from("an error without text"));
    let code = answer.text("code").unwrap_or_default();
    if answer.text("outcome").as_deref() == Some("unknown") {
        return Attempt::Over(Failure::Unknown(format!("{addr}: {error}.")));
    }
    match code.as_str() {
        "no_cluster" | "shutting_down" | "overloaded" | "unavailable" => {
            Attempt::Elsewhere(format!("{addr}: {error}{}", next_step(&code)))
        }
        _ => {
            let text = format!("{addr}: {error}{}", next_step(&code));
            Attempt::Over(Failure::Failed(format!("{text}.{}", applied(kind, &text))))
        }
    }
}

/// Whether the reply is that of a read which found nothing.
pub(crate) fn is_not_found(answer: &Answer) -> bool {
    answer.text("error").as_deref() == Some(KEY_NOT_FOUND)
}

/// What a user of the command line can do about a refusal, where its text does not say so.
fn next_step(code: &str) -> &'static str {
    match code {
        "unavailable" => "; retry, or ask for fewer replicas with --level one",
        "timed_out" => "; retry, or allow more time with --timeout-ms",
        "no_cluster" => "; `peerage status` shows what it waits for",
        "bad_level" => "; use a smaller number, or --level all",
        "damaged" => "; `peerage explain KEY` shows what each replica holds",
        _ => "",
    }
}

/// What is left to be said about the effect of a refusal: nothing of a read, and nothing twice.
fn applied(kind: Kind, said: &str) -> &'static str {
    match kind {
        Kind::Write if !said.contains("nothing was applied") => " Nothing was applied.",
        Kind::Write | Kind::Read => "",
    }
}

fn no_node_did_it(reasons: &[String], kind: Kind) -> String {
    let text = reasons.join("\n  ");
    let applied = applied(kind, &text);
    let refused_to_connect = reasons.iter().all(|reason| reason.contains("efused (os error"));
    let next = if refused_to_connect {
        "Start a node with `peerage serve` or `peerage dev`, or name another with --addr."
    } else {
        "Retry, or name more nodes with --addr."
    };
    let head = if reasons.len() > 1 { "no node did it.\n  " } else { "" };
    format!("{head}{text}.{applied}\n  {next}")
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// A node that reads one line from each of `replies.len()` connections and answers with the
    /// text, or closes the connection where there is none. Gives what it was asked.
    fn node(replies: &'static [Option<&'static str>]) -> (String, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let asked = thread::spawn(move || {
            let mut asked = Vec::new();
            for reply in replies {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
                asked.push(line);
                if let Some(reply) = reply {
                    writeln!(stream, "{reply}").unwrap();
                }
            }
            asked
        });
        (addr, asked)
    }

    /// An address where nobody can listen.
    fn nobody() -> String {
        String::from("127.0.0.1:0")
    }

    #[test]
    fn the_next_node_is_asked_when_one_cannot_be_reached() {
        let (addr, asked) = node(&[Some(r#"{"ok":true,"pong":true}"#)]);
        let mut client = Client::new(vec![nobody(), addr], Some(500));
        let answer = client.call(Call::new("PING"), Kind::Write).unwrap();
        assert!(answer.claim("pong"));
        assert_eq!(asked.join().unwrap(), ["{\"cmd\":\"PING\",\"timeout_ms\":500}\n"]);
    }

    #[test]
    fn a_write_whose_reply_was_lost_is_sent_to_nobody_else() {
        let (addr, asked) = node(&[None]);
        let mut client = Client::new(vec![addr, nobody()], None);
        let failure = client.call(Call::new("SET"), Kind::Write).unwrap_err();
        assert_eq!(failure.code(), 3, "{failure}");
        assert_eq!(asked.join().unwrap().len(), 1);
    }

    #[test]
    fn a_read_whose_reply_was_lost_is_asked_again_elsewhere() {
        let (first, _) = node(&[None]);
        let (second, _) = node(&[Some(r#"{"ok":true,"value":"v"}"#)]);
        let mut client = Client::new(vec![first, second], None);
        let answer = client.call(Call::new("GET"), Kind::Read).unwrap();
        assert_eq!(answer.bytes("value").unwrap().unwrap(), b"v");
    }

    #[test]
    fn a_refused_write_goes_to_the_next_node_and_a_wrong_one_does_not() {
        let (first, _) = node(&[Some(
            r#"{"ok":false,"error":"stopping","code":"shutting_down","outcome":"refused"}"#,
        )]);
        let (second, _) = node(&[Some(
            r#"{"ok":false,"error":"the key is long","code":"key_too_large","outcome":"refused"}"#,
        )]);
        let mut client = Client::new(vec![first, second.clone(), nobody()], None);
        let failure = client.call(Call::new("SET"), Kind::Write).unwrap_err();
        assert_eq!(failure.code(), 1);
        let expected = format!("{second}: the key is long. Nothing was applied.");
        assert_eq!(failure.to_string(), expected);
    }

    #[test]
    fn an_address_has_a_host_and_may_have_a_port() {
        assert_eq!(parse_addr("localhost").unwrap(), "localhost:6379");
        assert_eq!(parse_addr("[::1]:7000").unwrap(), "[::1]:7000");
        for wrong in ["", ":7000", "localhost:", "localhost:70000"] {
            assert!(parse_addr(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_outcome_has_its_own_exit_code() {
        let (addr, _) = node(&[Some(
            r#"{"ok":false,"error":"not known","code":"outcome_unknown","outcome":"unknown"}"#,
        )]);
        let failure =
            Client::new(vec![addr], None).call(Call::new("SET"), Kind::Write).unwrap_err();
        assert_eq!(failure.code(), 3);
    }

    #[test]
    fn without_any_node_the_user_is_told_how_to_start_one() {
        let mut client = Client::new(vec![nobody()], None);
        let failure = client.call(Call::new("SET"), Kind::Write).unwrap_err();
        assert_eq!(failure.code(), 1);
        let text = failure.to_string();
        assert!(text.contains("Nothing was applied.\n  Start a node"), "{text}");
    }
}
