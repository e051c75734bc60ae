//! Who may do what: the tokens of a node, the roles that they give, and where one connection
//! stands.
//!
//! A token is 256 random bits as text. Nodes keep its SHA-256 only, so whoever reads their files
//! cannot use what he finds; a slow hash would protect nothing more, as nobody guesses 256 bits.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::hash::{digest, equal};
use crate::limits::{AUTH_FAILURES_MAX, AUTH_FAILURES_MS};

/// Bytes of randomness in a token.
pub const TOKEN_BYTES: usize = 32;
/// What a token may do, each role all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Read keys, and ask about the node and its cluster.
    Read,
    /// Write and delete keys too.
    Write,
    /// Everything; what changes the cluster will ask for it.
    Admin,
}

/// One token of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// SHA-256 of the token.
    pub digest: [u8; 32],
    /// What it may do.
    pub role: Role,
    /// What people call it; the user name of Redis clients.
    pub name: String,
}

/// The tokens that a node knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens(Vec<Arc<Grant>>);

/// A line of a tokens file that is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {what}; a line is SHA256 ROLE NAME, as `peerage token create` writes it")]
pub struct BadTokens {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Why a client may not. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum Denial {
    /// It has shown no token yet.
    #[error("Authentication required: send AUTH with a token of this cluster first")]
    NotAuthenticated,
    /// The token is none of those that the node knows, or is not that of the user named.
    #[error("the token is not one of this cluster, or not of that user")]
    WrongToken,
    /// Too many wrong tokens came from its address.
    #[error(
        "too many wrong tokens from this address; AUTH is refused for {retry_after_ms} ms, the \
         right token too"
    )]
    TooManyFailures {
        /// How long, in milliseconds.
        retry_after_ms: u64,
    },
    /// The role of its token does not reach that far.
    #[error("the token `{name}` may {role}, and this needs a token that may {needed}")]
    NotPermitted {
        /// The name of the token.
        name: String,
        /// Its role.
        role: Role,
        /// The least role that may.
        needed: Role,
    },
    /// The node asks nobody for a token.
    #[error("this node has no tokens (serve --tokens-file), so there is nothing to authenticate")]
    NoTokens,
}

/// Where one connection stands.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `None` = everybody may do everything.
    tokens: Option<Arc<Tokens>>,
    granted: Option<Arc<Grant>>,
    /// Wrong tokens since the shell last asked.
    failures: u32,
    /// How long its address must wait, if it must.
    denied_ms: Option<u64>,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// Its name in files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Denial {
    /// The stable code of this denial.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAuthenticated => "not_authenticated",
            Self::WrongToken => "wrong_token",
            Self::TooManyFailures { .. } => "too_many_failures",
            Self::NotPermitted { .. } => "not_permitted",
            Self::NoTokens => "no_tokens",
        }
    }
}

impl Grant {
    /// The grant of a token.
    pub fn of(token: &str, role: Role, name: &str) -> Self {
        Self { digest: digest(token.as_bytes()), role, name: name.to_owned() }
    }

    /// Its line in the file, without the line end.
    pub fn line(&self) -> String {
        let hex = self.digest.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        format!("{hex} {} {}", self.role, self.name)
    }

    fn parse(line: &str) -> Result<Self, &'static str> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[hex, role, name] = words.as_slice() else { return Err("it has not three words") };
        let digits = hex.as_bytes();
        let mut digest = [0; 32];
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err("its first word is not 64 hexadecimal digits");
        }
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).expect("digits are ASCII");
            *byte = u8::from_str_radix(pair, 16).expect("two digits fit a byte");
        }
        let role = Role::parse(role).ok_or("its second word is none of read, write and admin")?;
        if !is_name(name) {
            return Err("its name is not 1 to 64 visible ASCII characters");
        }
        Ok(Self { digest, role, name: name.to_owned() })
    }
}

/// Whether a token may have this name.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Tokens {
    /// The tokens of a file: a line for each; blank lines and those that begin with # are none.
    pub fn parse(text: &str) -> Result<Self, BadTokens> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let grants = lines.map(|(line, text)| {
            Grant::parse(text).map(Arc::new).map_err(|what| BadTokens { line, what })
        });
        grants.collect::<Result<_, _>>().map(Self)
    }

    /// Whether nobody could be let in.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The grants, in the order of the file.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter().map(AsRef::as_ref)
    }

    /// Looks at every token, in a time that does not tell how near the right one was.
    fn find(&self, token: &[u8]) -> Option<&Arc<Grant>> {
        let presented = digest(token);
        let mut found = None;
        for grant in &self.0 {
            if equal(&presented, &grant.digest) {
                found = Some(grant);
            }
        }
        found
    }
}

impl Access {
    /// A connection to a node with these tokens; `None` = it asks nobody for one.
    pub fn new(tokens: Option<Arc<Tokens>>) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// Whether the client has shown what it must: before that its limits are narrow.
    pub fn is_let_in(&self) -> bool {
        self.tokens.is_none() || self.granted.is_some()
    }

    /// Refuses what the client may not do.
    pub fn require(&self, needed: Role) -> Result<(), Denial> {
        if self.tokens.is_none() {
            return Ok(());
        }
        let grant = self.granted.as_ref().ok_or(Denial::NotAuthenticated)?;
        if grant.role < needed {
            let (name, role) = (grant.name.clone(), grant.role);
            return Err(Denial::NotPermitted { name, role, needed });
        }
        Ok(())
    }

    /// The client shows a token, perhaps as a user: `default`, as Redis clients say when they know
    /// none, or the name of the token. A wrong one takes away what it was granted before.
    pub fn authenticate(&mut self, user: Option<&[u8]>, token: &[u8]) -> Result<Role, Denial> {
        let tokens = self.tokens.as_ref().ok_or(Denial::NoTokens)?;
        // The shell counts for the address, but only when it has its turn.
        let many = (self.failures >= AUTH_FAILURES_MAX).then_some(AUTH_FAILURES_MS);
        if let Some(retry_after_ms) = self.denied_ms.or(many) {
            return Err(Denial::TooManyFailures { retry_after_ms });
        }
        let is_user = |grant: &&Arc<Grant>| {
            user.is_none_or(|user| user == b"default" || user == grant.name.as_bytes())
        };
        self.granted = tokens.find(token).filter(is_user).cloned();
        let Some(grant) = &self.granted else {
            self.failures = self.failures.saturating_add(1);
            return Err(Denial::WrongToken);
        };
        Ok(grant.role)
    }

    /// Forgets the token, as RESET does.
    pub fn forget(&mut self) {
        self.granted = None;
    }

    /// Wrong tokens since the last call.
    pub fn take_failures(&mut self) -> u32 {
        std::mem::take(&mut self.failures)
    }

    /// Whether tokens from its address are looked at; `Some` = not for so many milliseconds.
    pub fn deny_for(&mut self, denied_ms: Option<u64>) {
        self.denied_ms = denied_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a token that nobody guesses";

    fn tokens() -> Tokens {
        let reader = Grant::of("another", Role::Read, "reader").line();
        let writer = Grant::of(TOKEN, Role::Write, "app").line();
        Tokens::parse(&format!("# tokens\n\n{reader}\n  {writer}\n")).unwrap()
    }

    fn access() -> Access {
        Access::new(Some(Arc::new(tokens())))
    }

    #[test]
    fn a_file_gives_back_what_was_written_and_names_the_line_that_is_wrong() {
        let grants: Vec<Grant> = tokens().grants().cloned().collect();
        assert_eq!(grants[1], Grant::of(TOKEN, Role::Write, "app"));
        let hex = "0".repeat(64);
        for (text, what) in [
            (format!("{hex} write"), "three words"),
            (format!("\n{} write a", &hex[1..]), "64 hexadecimal"),
            (format!("{} write a", "g".repeat(64)), "64 hexadecimal"),
            (format!("{hex} owner a"), "read, write and admin"),
            (format!("{hex} read {}", "n".repeat(65)), "64 visible"),
        ] {
            let error = Tokens::parse(&text).unwrap_err();
            assert!(error.what.contains(what), "{text}: {error}");
            assert_eq!(error.line, if text.starts_with('\n') { 2 } else { 1 });
        }
    }

    #[test]
    fn without_tokens_everybody_may_do_everything() {
        let mut access = Access::default();
        assert!(access.is_let_in());
        assert_eq!(access.require(Role::Admin), Ok(()));
        assert_eq!(access.authenticate(None, b"x"), Err(Denial::NoTokens));
        assert_eq!(access.take_failures(), 0);
    }

    #[test]
    fn a_token_lets_in_as_far_as_its_role_and_a_wrong_one_out_again() {
        let mut access = access();
        assert!(!access.is_let_in());
        assert_eq!(access.require(Role::Read), Err(Denial::NotAuthenticated));
        assert_eq!(access.authenticate(None, b"another"), Ok(Role::Read));
        assert_eq!(access.require(Role::Read), Ok(()));
        let denial = access.require(Role::Write).unwrap_err();
        assert!(denial.to_string().contains("`reader` may read"), "{denial}");
        assert_eq!(access.authenticate(None, TOKEN.as_bytes()), Ok(Role::Write));
        assert_eq!(access.require(Role::Write), Ok(()));
        assert_eq!(access.authenticate(None, b"wrong"), Err(Denial::WrongToken));
        assert!(!access.is_let_in());
        assert_eq!((access.take_failures(), access.take_failures()), (1, 0));
        assert_eq!(access.authenticate(None, TOKEN.as_bytes()), Ok(Role::Write));
        access.forget();
        assert_eq!(access.require(Role::Read), Err(Denial::NotAuthenticated));
    }

    #[test]
    fn a_user_is_the_name_of_the_token_or_default() {
        let mut access = access();
        let token = TOKEN.as_bytes();
        assert_eq!(access.authenticate(Some(b"default"), token), Ok(Role::Write));
        assert_eq!(access.authenticate(Some(b"app"), token), Ok(Role::Write));
        assert_eq!(access.authenticate(Some(b"reader"), token), Err(Denial::WrongToken));
    }

    #[test]
    fn the_sixth_wrong_token_in_one_breath_is_not_looked_at() {
        let mut access = access();
        for _ in 0..AUTH_FAILURES_MAX {
            assert_eq!(access.authenticate(None, b"wrong"), Err(Denial::WrongToken));
        }
        let denial = access.authenticate(None, TOKEN.as_bytes()).unwrap_err();
        assert_eq!(denial.code(), "too_many_failures");
        assert_eq!(access.take_failures(), AUTH_FAILURES_MAX);
    }

    #[test]
    fn whoever_must_wait_is_refused_with_the_right_token_too() {
        let mut access = access();
        access.deny_for(Some(7));
        let denial = Denial::TooManyFailures { retry_after_ms: 7 };
        assert_eq!(access.authenticate(None, TOKEN.as_bytes()), Err(denial));
        assert_eq!(access.take_failures(), 0);
        access.deny_for(None);
        assert_eq!(access.authenticate(None, TOKEN.as_bytes()), Ok(Role::Write));
    }
}
