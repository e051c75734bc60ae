//! What the commands say of themselves: COMMAND with its subcommands, and HELP. All of it is made
//! of the table.

use bytes::Bytes;

use super::answer::Body;
use super::arguments::Arguments;
use super::commands::{self, Command, Subcommand, TABLE};
use super::node::put_pair;
use super::plan::{Refusal, wrong_number};
use super::writer::Writer;

/// Longest part of a word that an error repeats, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The name of the subcommand that the second word asks for, if it has as many words as it takes.
pub(super) fn subcommand(
    command: &Command,
    arguments: Arguments<'_>,
) -> Result<&'static str, Refusal> {
    let Some(sub) = command.subcommand(arguments.at(1)) else {
        return Err(unknown_subcommand(command, arguments));
    };
    if sub.takes(arguments.len()) {
        Ok(sub.name)
    } else {
        Err(wrong_number(&format!("{}|{}", command.name, sub.name)))
    }
}

/// The words of Redis, by which clients know that an older server does not have something.
pub(super) fn unknown_subcommand(command: &Command, arguments: Arguments<'_>) -> Refusal {
    let name = command.name.to_ascii_uppercase();
    Refusal::Text(format!(
        "ERR unknown subcommand '{}' of {name}: this version does not have it. Try {name} HELP.",
        arguments.shown(1, NAME_BYTES_MAX)
    ))
}

/// COMMAND and its subcommands.
pub(super) fn command(
    command: &'static Command,
    arguments: Arguments<'_>,
) -> Result<Body, Refusal> {
    let named = |arguments: Arguments<'_>| -> Vec<Option<&'static Command>> {
        if arguments.len() < 3 {
            return served().map(Some).collect();
        }
        let found = arguments.bytes_from(2).map(|name| commands::find(&name));
        found.map(|command| command.filter(|command| command.is_served())).collect()
    };
    if arguments.len() == 1 {
        return Ok(Body::Commands(named(arguments)));
    }
    let body = match subcommand(command, arguments)? {
        "info" => Body::Commands(named(arguments)),
        "docs" => Body::Manual(named(arguments).into_iter().flatten().collect()),
        "count" => Body::Number(count(served().count())),
        "list" => {
            Body::Bulks(served().map(|each| Bytes::from_static(each.name.as_bytes())).collect())
        }
        "getkeys" => return keys_of(arguments),
        _ => Body::Help(command),
    };
    Ok(body)
}

fn served() -> impl Iterator<Item = &'static Command> {
    TABLE.iter().filter(|command| command.is_served())
}

fn count(served: usize) -> i64 {
    i64::try_from(served).expect("there are a few hundred commands")
}

/// COMMAND GETKEYS: the keys of the command that follows.
fn keys_of(arguments: Arguments<'_>) -> Result<Body, Refusal> {
    let refuse = |text: &str| Err(Refusal::Text(format!("ERR {text}")));
    let words = arguments.len() - 2;
    let command = commands::find(arguments.at(2)).filter(|command| command.is_served());
    let Some(command) = command else { return refuse("Invalid command specified") };
    if !command.takes(words) {
        return refuse("Invalid number of arguments specified for command");
    }
    let (first, last, step) = command.keys;
    if step == 0 {
        return refuse("The command has no key arguments");
    }
    let first = usize::from(first.unsigned_abs());
    let end = if last < 0 { words } else { usize::from(last.unsigned_abs()) + 1 };
    let step = usize::from(step.unsigned_abs());
    Ok(Body::Bulks((first..end).step_by(step).map(|index| arguments.bytes(index + 2)).collect()))
}

/// The reply to COMMAND and COMMAND INFO.
pub(super) fn put_commands(writer: &mut Writer<'_>, commands: &[Option<&'static Command>]) {
    writer.array(commands.len());
    for command in commands {
        let Some(command) = command else {
            writer.null();
            continue;
        };
        put_entry(writer, command, command.name, command.arity);
        writer.array(command.subcommands.len());
        for sub in command.subcommands {
            put_entry(writer, command, &full_name(command, sub), sub.arity);
            writer.array(0);
        }
    }
}

/// An entry up to its subcommands.
fn put_entry(writer: &mut Writer<'_>, command: &Command, name: &str, arity: i8) {
    let (first, last, step) = command.keys;
    writer.array(10);
    writer.bulk(name.as_bytes());
    writer.signed(i64::from(arity));
    put_words(writer, command.group.flags());
    writer.signed(i64::from(first));
    writer.signed(i64::from(last));
    writer.signed(i64::from(step));
    put_words(writer, command.group.categories());
    // Tips and key specifications: the positions above say all there is.
    writer.array(0);
    writer.array(0);
}

fn put_words(writer: &mut Writer<'_>, words: &[&str]) {
    writer.set(words.len());
    for word in words {
        writer.simple(word);
    }
}

/// The reply to COMMAND DOCS, from which redis-cli makes its hints.
pub(super) fn put_manual(writer: &mut Writer<'_>, commands: &[&'static Command]) {
    writer.map(commands.len());
    for command in commands {
        let has_more = !command.subcommands.is_empty();
        writer.bulk(command.name.as_bytes());
        put_page(writer, command, command.summary, command.usage, usize::from(has_more));
        if has_more {
            writer.bulk(b"subcommands");
            writer.map(command.subcommands.len());
            for sub in command.subcommands {
                writer.bulk(full_name(command, sub).as_bytes());
                put_page(writer, command, sub.summary, sub.usage, 0);
            }
        }
    }
}

/// What there is to say of a command or subcommand, in a map that takes `more` further pairs.
fn put_page(writer: &mut Writer<'_>, command: &Command, summary: &str, usage: &str, more: usize) {
    let arguments = top_level(usage);
    writer.map(3 + usize::from(!arguments.is_empty()) + more);
    put_pair(writer, "summary", summary);
    put_pair(writer, "since", env!("CARGO_PKG_VERSION"));
    put_pair(writer, "group", command.group.title());
    if arguments.is_empty() {
        return;
    }
    writer.bulk(b"arguments");
    writer.array(arguments.len());
    for argument in arguments {
        let inner = argument.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        writer.map(3 + usize::from(inner.is_some()));
        let name = inner.unwrap_or(argument);
        put_pair(writer, "name", name);
        put_pair(writer, "type", "string");
        put_pair(writer, "display_text", name);
        if inner.is_some() {
            writer.bulk(b"flags");
            put_words(writer, &["optional"]);
        }
    }
}

/// The parts of a usage that stand beside one another: words, and whole brackets.
fn top_level(usage: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (index, letter) in usage.char_indices() {
        match letter {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => {
                parts.push(usage.get(start..index).unwrap_or_default());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(usage.get(start..).unwrap_or_default());
    parts.retain(|part| !part.is_empty());
    parts
}

/// The reply to HELP behind a command that has subcommands.
pub(super) fn put_help(writer: &mut Writer<'_>, command: &Command) {
    writer.array(command.subcommands.len());
    for sub in command.subcommands {
        let name = format!("{} {}", command.name, sub.name).to_ascii_uppercase();
        let blank = if sub.usage.is_empty() { "" } else { " " };
        writer.simple(&format!("{name}{blank}{}: {}", sub.usage, sub.summary));
    }
}

fn full_name(command: &Command, sub: &Subcommand) -> String {
    format!("{}|{}", command.name, sub.name)
}

#[cfg(test)]
mod tests {
    use super::top_level;

    #[test]
    fn a_usage_falls_into_words_and_whole_brackets() {
        assert_eq!(top_level("key [key ...] [A b [c]]"), ["key", "[key ...]", "[A b [c]]"]);
        assert!(top_level("").is_empty());
    }
}
