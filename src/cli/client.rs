//! The client of the command line: flags for where to ask and for levels, and the library's client
//! with its outcomes told in the words of this program, with the exit codes that they have.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::runtime::Runtime;

use super::failure::Failure;
use super::output::Format;
use super::serve;
use crate::api;
use crate::client::{self, Answer, Call, Error, Kind, Reason, Refused};
use crate::config::Config;
use crate::limits;

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
    /// File with the token to show; without it, the variable `PEERAGE_TOKEN`
    #[arg(long, value_name = "FILE", env = "PEERAGE_TOKEN_FILE", hide_env_values = true)]
    pub(crate) token_file: Option<PathBuf>,
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

/// A client that is waited for.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    client: client::Client,
}

/// HOST:PORT, or HOST with the default port.
pub(crate) fn parse_addr(text: &str) -> Result<String, String> {
    let port = Config::default().port;
    match text.rsplit_once(':') {
        None if !text.is_empty() => Ok(format!("{text}:{port}")),
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.into()),
        None | Some(_) => Err(format!("give HOST:PORT, such as 127.0.0.1:{port} or [::1]:{port}")),
    }
}

impl ClientFlags {
    /// The client that these flags describe.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let token = super::token::to_show(self.token_file.as_deref())?;
        let client = Client::new(&self.addr, self.timeout_ms)?;
        Ok(match token {
            Some(token) => Client { client: client.client.with_token(token), ..client },
            None => client,
        })
    }

    /// The format asked for, or the one for where the output goes.
    pub(crate) fn format(&self) -> Format {
        self.output.unwrap_or_else(Format::default_for_stdout)
    }
}

impl ReadLevel {
    /// `call` with the level, if one was given.
    pub(crate) fn apply(&self, call: Call) -> Call {
        with_level(call, self.level, self.r)
    }
}

impl WriteLevel {
    /// `call` with the level, if one was given.
    pub(crate) fn apply(&self, call: Call) -> Call {
        with_level(call, self.level, self.w)
    }
}

fn with_level(call: Call, level: Option<Level>, replicas: Option<u8>) -> Call {
    let call = match level {
        Some(level) => call.level(level.on_the_wire()),
        None => call,
    };
    match replicas {
        Some(number) => call.replicas(number),
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
    pub(crate) fn new(addrs: &[String], timeout_ms: Option<u32>) -> Result<Self, Failure> {
        let client = client::Client::new(addrs);
        let client = match timeout_ms {
            Some(ms) => client.with_timeout(Duration::from_millis(u64::from(ms))),
            None => client,
        };
        Ok(Self { runtime: serve::runtime()?, client })
    }

    /// A client that begins with the node at this place, counted round.
    pub(crate) fn starting_at(self, place: usize) -> Self {
        Self { client: self.client.starting_at(place), ..self }
    }

    /// The reply to `call`, from the first node that does it. A read that found no such key is a
    /// reply, told by [`Answer::is_not_found`].
    pub(crate) fn call(&mut self, call: &Call) -> Result<Answer, Failure> {
        let answer = self.runtime.block_on(self.client.call(call));
        answer.map_err(|error| match (&error, call.id()) {
            (Error::Unknown(unknown), Some(id)) => Failure::Unknown(format!(
                "{unknown}.\n  \
                 The same command with --request-id {id} goes on with it for ten minutes."
            )),
            (Error::Unknown(_) | Error::Refused(_), _) => failure(&error, call.kind()),
        })
    }

    /// The outcomes of all calls, sent over one connection without waiting in between.
    pub(crate) fn pipeline(&mut self, calls: &[Call]) -> Vec<Result<Answer, Error>> {
        self.runtime.block_on(self.client.pipeline(calls))
    }
}

fn failure(error: &Error, kind: Kind) -> Failure {
    match error {
        Error::Unknown(unknown) => Failure::Unknown(format!("{unknown}.")),
        Error::Refused(refused) if refused.is_final => {
            let reasons = &refused.reasons;
            let text = reasons.last().map(with_next_step).unwrap_or_default();
            Failure::Failed(format!("{text}.{}", applied(kind, &text)))
        }
        Error::Refused(refused) => Failure::Failed(no_node_did_it(refused, kind)),
    }
}

fn with_next_step(reason: &Reason) -> String {
    let next_step = reason.code.as_deref().map_or("", next_step);
    format!("{reason}{next_step}")
}

/// What a user of the command line can do about a refusal, where its text does not say so.
fn next_step(code: &str) -> &'static str {
    match code {
        "unavailable" => "; retry, or ask for fewer replicas with --level one",
        "timed_out" => "; retry, or allow more time with --timeout-ms",
        "no_cluster" => "; `peerage status` shows what it waits for",
        "bad_level" => "; use a smaller number, or --level all",
        "not_authenticated" => "; set PEERAGE_TOKEN, or give --token-file",
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

fn no_node_did_it(refused: &Refused, kind: Kind) -> String {
    let reasons: Vec<String> = refused.reasons.iter().map(with_next_step).collect();
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

    fn client(addrs: &[String], timeout_ms: Option<u32>) -> Client {
        Client::new(addrs, timeout_ms).unwrap()
    }

    /// An address where nobody can listen.
    fn nobody() -> String {
        String::from("127.0.0.1:0")
    }

    #[test]
    fn the_next_node_is_asked_when_one_cannot_be_reached() {
        let (addr, asked) = node(&[Some(r#"{"ok":true,"pong":true}"#)]);
        let mut client = client(&[nobody(), addr], Some(500));
        let answer = client.call(&Call::write("PING")).unwrap();
        assert!(answer.claim("pong"));
        assert_eq!(asked.join().unwrap(), ["{\"cmd\":\"PING\",\"timeout_ms\":500}\n"]);
    }

    #[test]
    fn a_write_whose_reply_was_lost_is_sent_to_nobody_else() {
        let (addr, asked) = node(&[None]);
        let mut client = client(&[addr, nobody()], None);
        let failure = client.call(&Call::write("SET")).unwrap_err();
        assert_eq!(failure.code(), 3, "{failure}");
        assert_eq!(asked.join().unwrap().len(), 1);
    }

    #[test]
    fn a_read_whose_reply_was_lost_is_asked_again_elsewhere() {
        let (first, _) = node(&[None]);
        let (second, _) = node(&[Some(r#"{"ok":true,"value":"v"}"#)]);
        let mut client = client(&[first, second], None);
        let answer = client.call(&Call::read("GET")).unwrap();
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
        let mut client = client(&[first, second.clone(), nobody()], None);
        let failure = client.call(&Call::write("SET")).unwrap_err();
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
        let failure = client(&[addr], None).call(&Call::write("SET")).unwrap_err();
        assert_eq!(failure.code(), 3);
    }

    #[test]
    fn without_any_node_the_user_is_told_how_to_start_one() {
        let mut client = client(&[nobody()], None);
        let failure = client.call(&Call::write("SET")).unwrap_err();
        assert_eq!(failure.code(), 1);
        let text = failure.to_string();
        assert!(text.contains("Nothing was applied.\n  Start a node"), "{text}");
    }
}
