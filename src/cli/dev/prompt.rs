//! The prompt of `dev`: commands from a terminal with editing and history, or from the lines of
//! stdin.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};
use std::sync::Mutex;
use std::time::Duration;

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use super::cluster::Cluster;
use crate::cli::failure::Failure;
use crate::cli::serve;
use crate::cli::text;
use crate::client::Call;

/// What stands before each command.
const PROMPT: &str = "dev> ";

const HELP: &str = "\
  get KEY..             read keys
  set KEY VALUE         write a key; VALUE goes to the end of the line
  del KEY..             delete keys
  @N COMMAND            the same through node N; else through the first that answers
  status                the nodes as they see themselves
  kill N                end node N as kill -9 would
  restart N             start it again, on the data it had
  partition 1,2 | 3,4   cut the links between groups; nodes not named form one more
  heal                  let every node talk to every other again
  wait [SECONDS]        wait until every running node answers, or for a time
  quit                  stop the cluster
";

/// Why the prompt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The user said so.
    Quit,
    /// There are no more lines.
    EndOfInput,
}

/// One line of the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Command {
    Nothing,
    Help,
    Status,
    Kill(usize),
    Restart(usize),
    Partition(Vec<Vec<usize>>),
    Heal,
    Wait(Option<Duration>),
    Data { node: Option<usize>, verb: Verb },
    Quit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Verb {
    Get(Vec<String>),
    Set(String, String),
    Del(Vec<String>),
}

/// Reads and runs commands until there are no more.
pub(crate) fn run(cluster: &Mutex<Cluster>) -> Result<Ended, Failure> {
    if io::stdin().is_terminal() { run_terminal(cluster) } else { run_lines(cluster) }
}

fn run_terminal(cluster: &Mutex<Cluster>) -> Result<Ended, Failure> {
    let failed = |error: ReadlineError| Failure::Failed(format!("the terminal: {error}"));
    let mut editor = DefaultEditor::new().map_err(failed)?;
    loop {
        match editor.readline(PROMPT) {
            Ok(line) => {
                // A line that cannot be kept in the history still runs.
                let _ = editor.add_history_entry(&line);
                if execute(cluster, &line)? {
                    return Ok(Ended::Quit);
                }
            }
            Err(ReadlineError::Interrupted) => print("(quit stops the cluster)\n")?,
            Err(ReadlineError::Eof) => return Ok(Ended::Quit),
            Err(error) => return Err(failed(error)),
        }
    }
}

fn run_lines(cluster: &Mutex<Cluster>) -> Result<Ended, Failure> {
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::Failed(format!("cannot read stdin: {error}")))?;
        if !line.trim().is_empty() {
            print(&format!("{PROMPT}{line}\n"))?;
        }
        if execute(cluster, &line)? {
            return Ok(Ended::Quit);
        }
    }
    Ok(Ended::EndOfInput)
}

/// Runs one line and prints what came of it. `true`: the user wants to stop.
fn execute(cluster: &Mutex<Cluster>, line: &str) -> Result<bool, Failure> {
    let command = match parse(line) {
        Ok(Command::Quit) => return Ok(true),
        Ok(command) => command,
        Err(why) => {
            print(&format!("{why}\n"))?;
            return Ok(false);
        }
    };
    let mut cluster = cluster.lock().expect("no command panics");
    let result = perform(&mut cluster, command);
    drop(cluster);
    match result {
        Ok(words) => print(&words)?,
        Err(failure) => print(&format!("{failure}\n"))?,
    }
    Ok(false)
}

fn perform(cluster: &mut Cluster, command: Command) -> Result<String, Failure> {
    match command {
        Command::Nothing | Command::Quit => Ok(String::new()),
        Command::Help => Ok(String::from(HELP)),
        Command::Status => Ok(cluster.status()),
        Command::Kill(number) => {
            cluster.kill(number)?;
            Ok(format!("n{number} is dead\n"))
        }
        Command::Restart(number) => {
            cluster.restart(number)?;
            cluster.wait_until_ready(&serve::runtime()?, Some(number))?;
            Ok(format!("n{number} serves again\n"))
        }
        Command::Partition(groups) => {
            cluster.partition(&groups)?;
            Ok(String::from("the links are cut\n"))
        }
        Command::Heal => {
            cluster.heal();
            Ok(String::from("every link is whole\n"))
        }
        Command::Wait(None) => {
            cluster.wait_until_ready(&serve::runtime()?, None)?;
            Ok(String::from("every running node answers\n"))
        }
        Command::Wait(Some(time)) => {
            serve::runtime()?.block_on(async {
                // Nothing is to happen: only the time is to pass.
                let _ = tokio::time::timeout(time, std::future::pending::<()>()).await;
            });
            Ok(String::new())
        }
        Command::Data { node, verb } => access(cluster, node, verb),
    }
}

fn access(cluster: &mut Cluster, node: Option<usize>, verb: Verb) -> Result<String, Failure> {
    let mut client = cluster.client(node)?;
    let mut lines = String::new();
    match verb {
        Verb::Set(key, value) => {
            client.call(&Call::set(key.as_bytes(), value.as_bytes()))?;
            lines.push_str("ok\n");
        }
        Verb::Get(keys) => {
            for key in keys {
                let answer = client.call(&Call::get(key.as_bytes()))?;
                if answer.is_not_found() {
                    lines.push_str("(not found)\n");
                    continue;
                }
                let value = answer.bytes("value").map_err(Failure::unreadable)?;
                lines.push_str(&text::printable(&value.unwrap_or_default()));
                if let Some(siblings) = answer.number("siblings") {
                    write!(lines, "   (one of {siblings} concurrent values)")
                        .expect("a string takes any text");
                }
                lines.push('\n');
            }
        }
        Verb::Del(keys) => {
            for key in keys {
                let answer = client.call(&Call::delete(key.as_bytes()))?;
                let there = answer.claim("deleted");
                lines.push_str(if there { "deleted\n" } else { "(was not there)\n" });
            }
        }
    }
    Ok(lines)
}

fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix('@') {
        let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let node = Some(node_number(number)?);
        return match parse(rest)? {
            Command::Data { node: None, verb } => Ok(Command::Data { node, verb }),
            Command::Data { node: Some(_), .. }
            | Command::Nothing
            | Command::Help
            | Command::Status
            | Command::Kill(_)
            | Command::Restart(_)
            | Command::Partition(_)
            | Command::Heal
            | Command::Wait(_)
            | Command::Quit => Err(String::from("after @N comes get, set or del")),
        };
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let words = || rest.split_whitespace().map(String::from).collect::<Vec<_>>();
    let some_words = || match words() {
        words if words.is_empty() => Err(format!("{name} needs a key")),
        words => Ok(words),
    };
    let data = |verb| Ok(Command::Data { node: None, verb });
    match (name.to_ascii_lowercase().as_str(), rest) {
        ("", _) => Ok(Command::Nothing),
        (comment, _) if comment.starts_with('#') => Ok(Command::Nothing),
        ("help" | "?", _) => Ok(Command::Help),
        ("status", "") => Ok(Command::Status),
        ("heal", "") => Ok(Command::Heal),
        ("quit" | "exit", "") => Ok(Command::Quit),
        ("wait", "") => Ok(Command::Wait(None)),
        ("wait", seconds) => wait_time(seconds),
        ("kill", number) => node_number(number).map(Command::Kill),
        ("restart", number) => node_number(number).map(Command::Restart),
        ("partition", groups) => partition(groups),
        ("get", _) => data(Verb::Get(some_words()?)),
        ("del", _) => data(Verb::Del(some_words()?)),
        ("set", rest) => match rest.split_once(char::is_whitespace) {
            Some((key, value)) => data(Verb::Set(key.into(), value.trim_start().into())),
            None => Err(String::from("set needs a key and a value")),
        },
        _ => Err(format!("{line:?} is no command; help lists them")),
    }
}

fn wait_time(seconds: &str) -> Result<Command, String> {
    match seconds.parse::<u64>() {
        Ok(seconds) if seconds <= 3_600 => Ok(Command::Wait(Some(Duration::from_secs(seconds)))),
        Ok(_) | Err(_) => Err(String::from("wait takes a number of seconds up to 3600")),
    }
}

/// A node by its number, as 2 or n2.
fn node_number(word: &str) -> Result<usize, String> {
    let digits = word.trim().trim_start_matches('n');
    digits.parse().map_err(|_not_a_number| {
        if word.is_empty() {
            String::from("which node? Give its number")
        } else {
            format!("{word:?} is no number of a node")
        }
    })
}

fn partition(groups: &str) -> Result<Command, String> {
    let mut seen = Vec::new();
    let mut parsed = Vec::new();
    for group in groups.split('|') {
        let separator = |character: char| character == ',' || character.is_whitespace();
        let words = group.split(separator).filter(|word| !word.is_empty());
        let numbers = words.map(node_number).collect::<Result<Vec<usize>, _>>()?;
        if numbers.is_empty() {
            return Err(String::from("give groups of nodes, as in: partition 1,2 | 3,4,5"));
        }
        for number in &numbers {
            if seen.contains(number) {
                return Err(format!("node {number} is in two groups"));
            }
            seen.push(*number);
        }
        parsed.push(numbers);
    }
    Ok(Command::Partition(parsed))
}

/// Writes to stdout at once.
pub(crate) fn print(words: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(words.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_data(line: &str, node: Option<usize>, verb: Verb) {
        assert_eq!(parse(line), Ok(Command::Data { node, verb }), "{line}");
    }

    #[test]
    fn commands_are_read_as_people_write_them() {
        assert_eq!(parse("  kill 2 "), Ok(Command::Kill(2)));
        assert_eq!(parse("RESTART n3"), Ok(Command::Restart(3)));
        assert_eq!(parse("heal"), Ok(Command::Heal));
        assert_eq!(parse("exit"), Ok(Command::Quit));
        assert_eq!(parse(""), Ok(Command::Nothing));
        assert_eq!(parse("# a word to the reader"), Ok(Command::Nothing));
        assert_eq!(parse("wait"), Ok(Command::Wait(None)));
        assert_eq!(parse("wait 2"), Ok(Command::Wait(Some(Duration::from_secs(2)))));
        let cut = Command::Partition(vec![vec![1, 2], vec![3, 4, 5]]);
        assert_eq!(parse("partition 1,2 | 3,4,5"), Ok(cut.clone()));
        assert_eq!(parse("partition 1 2|n3, 4 5"), Ok(cut));
    }

    #[test]
    fn data_goes_through_any_node_or_the_one_that_is_named() {
        check_data("get a b", None, Verb::Get(vec!["a".into(), "b".into()]));
        let set = Verb::Set("k".into(), "two  words".into());
        check_data("@3 set k  two  words", Some(3), set);
        check_data("@2 del k", Some(2), Verb::Del(vec!["k".into()]));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let check = |line: &str, expected: &str| {
            assert_eq!(parse(line).unwrap_err(), expected, "{line}");
        };
        check("kil 2", "\"kil 2\" is no command; help lists them");
        check("kill", "which node? Give its number");
        check("kill two", "\"two\" is no number of a node");
        check("get", "get needs a key");
        check("set k", "set needs a key and a value");
        check("@2 kill 3", "after @N comes get, set or del");
        check("wait long", "wait takes a number of seconds up to 3600");
        check("partition 1,2 | 2,3", "node 2 is in two groups");
        check("partition", "give groups of nodes, as in: partition 1,2 | 3,4,5");
        check("partition 1 |", "give groups of nodes, as in: partition 1,2 | 3,4,5");
    }
}
