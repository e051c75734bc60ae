//! Every command that Redis has, and what becomes of it here: served, in a later version, or never,
//! with the reason and the way out. One table: COMMAND and its subcommands, HELP, refusals, the
//! sniffer and the documentation are made of it or held to it.
//!
//! Arities and key positions are those of Redis 7.4 (its COMMAND reply), so that cluster-aware
//! clients find the keys of a command.

mod subcommands;
mod table;

pub(in crate::wire::resp) use table::CONDITIONAL;
pub use table::TABLE;

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Its name in lower case.
    pub name: &'static str,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Number of words, its name included; below zero: at least that many. 0: not served.
    pub arity: i8,
    /// Index of the first key, of the last (from the end where below zero), and the step between
    /// them; zeros where it names no keys.
    pub keys: (i8, i8, i8),
    /// What it is for.
    pub group: Group,
    /// What stands behind its name, optional parts in brackets.
    pub usage: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What it can be asked for by its second word.
    pub subcommands: &'static [Subcommand],
}

/// A second word that makes a command of its own.
#[derive(Debug)]
pub struct Subcommand {
    /// Its name in lower case, without that of the command.
    pub name: &'static str,
    /// Number of words, both names included; below zero: at least that many.
    pub arity: i8,
    /// What stands behind its name.
    pub usage: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Served(Verb),
    /// It will, in a later version or in another mode; the text says which, and the way out.
    Later(&'static str),
    /// It will not; the text says why, and the way out.
    Never(&'static str),
}

/// What a command is for. Its flags and categories follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// It reads keys.
    Read,
    /// It writes keys, and may be refused for want of room.
    Write,
    /// It removes keys, which needs no room.
    Removal,
    /// It is about the connection.
    Connection,
    /// It is about the node, its cluster, or the commands.
    Node,
    /// It is not served.
    Refused,
}

/// Commands that are served; several names may share one.
#[expect(missing_docs, reason = "each is the command of its name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Getdel,
    Set,
    Del,
    Exists,
    Mget,
    Mset,
    Strlen,
    Type,
    Dbsize,
    Scan,
    Keys,
    Expire,
    Pexpire,
    Expireat,
    Pexpireat,
    Persist,
    Ttl,
    Pttl,
    Expiretime,
    Pexpiretime,
    Getex,
    Setex,
    Psetex,
    Ping,
    Echo,
    Quit,
    Select,
    Reset,
    Hello,
    Auth,
    Client,
    Command,
    Info,
    Config,
    Time,
    Cluster,
    NoRedirect,
    KvGet,
    KvPut,
    KvDel,
    KvConsistency,
    KvExplain,
    KvConflicts,
    KvId,
    KvOutcome,
}

impl Command {
    /// Whether it is served.
    pub fn is_served(&self) -> bool {
        match self.verdict {
            Verdict::Served(_) => true,
            Verdict::Later(_) | Verdict::Never(_) => false,
        }
    }

    /// Whether it may have this number of words, its name included.
    pub(super) fn takes(&self, words: usize) -> bool {
        fits(self.arity, words)
    }

    /// The subcommand of this name, in any case.
    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Subcommand> {
        self.subcommands.iter().find(|sub| name.eq_ignore_ascii_case(sub.name.as_bytes()))
    }

    const fn keys(self, first: i8, last: i8, step: i8) -> Self {
        Self { keys: (first, last, step), ..self }
    }

    const fn with(self, subcommands: &'static [Subcommand]) -> Self {
        Self { subcommands, ..self }
    }

    const fn says(self, usage: &'static str, summary: &'static str) -> Self {
        Self { usage, summary, ..self }
    }
}

impl Subcommand {
    /// Whether it may have this number of words, both names included.
    pub(super) fn takes(&self, words: usize) -> bool {
        fits(self.arity, words)
    }
}

impl Group {
    /// The flags by which clients choose where to send a command, as Redis names them.
    pub(super) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["readonly", "fast"],
            Self::Write => &["write", "denyoom"],
            Self::Removal => &["write"],
            Self::Connection | Self::Node | Self::Refused => &["loading", "stale", "fast"],
        }
    }

    /// The categories of access, as Redis names them.
    pub(super) fn categories(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["@read"],
            Self::Write | Self::Removal => &["@write"],
            Self::Connection => &["@connection"],
            Self::Node | Self::Refused => &["@admin"],
        }
    }

    /// The heading under which people look for it, as Redis names it.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Read | Self::Write => "string",
            Self::Removal => "generic",
            Self::Connection => "connection",
            Self::Node | Self::Refused => "server",
        }
    }
}

fn fits(arity: i8, words: usize) -> bool {
    let bound = usize::from(arity.unsigned_abs());
    if arity < 0 { words >= bound } else { words == bound }
}

/// The command of this name, in any case.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let lower: &[u8] = lower;
    let index = TABLE.binary_search_by(|command| command.name.as_bytes().cmp(lower)).ok()?;
    TABLE.get(index)
}

/// Length of the longest name.
const NAME_BYTES_MAX: usize = 20;

const fn served(name: &'static str, verb: Verb, arity: i8, group: Group) -> Command {
    let verdict = Verdict::Served(verb);
    let (keys, usage, summary) = ((0, 0, 0), "", "");
    Command { name, verdict, arity, keys, group, usage, summary, subcommands: &[] }
}

const fn later(name: &'static str, why: &'static str) -> Command {
    refused(name, Verdict::Later(why))
}

const fn never(name: &'static str, why: &'static str) -> Command {
    refused(name, Verdict::Never(why))
}

const fn refused(name: &'static str, verdict: Verdict) -> Command {
    let (keys, usage, summary) = ((0, 0, 0), "", "");
    let (arity, group) = (0, Group::Refused);
    Command { name, verdict, arity, keys, group, usage, summary, subcommands: &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_name_is_found_in_any_case() {
        assert!(TABLE.is_sorted_by(|left, right| left.name < right.name));
        let longest = TABLE.iter().map(|command| command.name.len()).max();
        assert_eq!(longest, Some(NAME_BYTES_MAX));
        for command in TABLE {
            let found = find(command.name.to_ascii_uppercase().as_bytes()).unwrap();
            assert_eq!(found.name, command.name);
        }
        assert!(find(b"nonsense").is_none());
        assert!(find(b"").is_none());
        assert!(find(&[b'a'; 1_000]).is_none());
    }

    #[test]
    fn the_documentation_names_every_command_and_every_reason() {
        let document = include_str!("../../../../docs/protocols.md");
        for command in TABLE {
            let name = format!("`{}`", command.name.to_ascii_uppercase());
            assert!(document.contains(&name), "{name}");
            if let Verdict::Later(why) | Verdict::Never(why) = command.verdict {
                let row = document.lines().find(|line| {
                    line.starts_with('|') && line.contains(&name) && line.contains(why)
                });
                assert!(row.is_some(), "{name}: {why}");
            }
        }
    }

    #[test]
    fn every_refusal_says_why_and_every_served_command_what_it_does() {
        for command in TABLE {
            match command.verdict {
                Verdict::Served(_) => {
                    assert_ne!(command.arity, 0, "{}", command.name);
                    assert_ne!(command.group, Group::Refused, "{}", command.name);
                    assert!(!command.summary.is_empty(), "{}", command.name);
                    let writes = matches!(command.group, Group::Write | Group::Removal);
                    assert!(command.keys.2 > 0 || !writes, "{}", command.name);
                }
                Verdict::Later(why) | Verdict::Never(why) => {
                    assert!(why.len() > 15, "{}", command.name);
                }
            }
        }
    }

    #[test]
    fn usage_and_arity_say_the_same() {
        let check = |name: &str, names: i8, arity: i8, usage: &str| {
            let needed = usage.split(' ').filter(|word| !word.is_empty());
            let mut depth = 0_usize;
            let mut least = names;
            for word in needed {
                least += i8::from(depth == 0 && !word.starts_with('['));
                depth += word.matches('[').count();
                depth -= word.matches(']').count();
            }
            assert_eq!(depth, 0, "{name}: {usage}");
            let open = usage.contains('[');
            assert_eq!(arity, if open { -least } else { least }, "{name}: {usage}");
        };
        for command in TABLE.iter().filter(|command| command.is_served()) {
            check(command.name, 1, command.arity, command.usage);
            for sub in command.subcommands {
                check(&format!("{} {}", command.name, sub.name), 2, sub.arity, sub.usage);
            }
        }
    }
}
