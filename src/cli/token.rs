//! Tokens of clients: `peerage token` makes and lists them, `serve` reads their digests, and the
//! data commands show one. A token is printed once, where it is made; nodes keep its SHA-256 only.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand, ValueEnum};

use super::failure::Failure;
use super::secret::{print, random};
use crate::api::{Grant, Role, Tokens, is_name};
use crate::config::Config;

/// The variable that may hold the token of the data commands.
pub(super) const VARIABLE: &str = "PEERAGE_TOKEN";
/// Longest tokens file, in bytes; a thousand tokens have a tenth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Arguments of `token`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Clients of a node that was started with --tokens-file must show a token first: AUTH TOKEN or HELLO 3
AUTH NAME TOKEN over RESP, {\"cmd\":\"AUTH\",\"token\":TOKEN} over newline-JSON, PEERAGE_TOKEN or
--token-file with the commands of this program. Nodes read the file when they start; give each the
same one. To take a token back, delete its line and restart the nodes.

Examples:
  peerage token create app --tokens-file tokens                a token that may read and write
  peerage token create report --role read --tokens-file tokens
  peerage token list --tokens-file tokens
  peerage serve --tokens-file tokens")]
pub(crate) struct TokenCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Make a token, print it, and add its digest to the file
    Create {
        /// What people call it: up to 64 visible characters, not used by another token of the file
        name: String,
        /// What it may do
        #[arg(long, default_value = "write")]
        role: RoleWord,
        /// File to add it to; made where there is none
        #[arg(long, value_name = "FILE", env = "PEERAGE_TOKENS_FILE", hide_env_values = true)]
        tokens_file: PathBuf,
    },
    /// List names and roles of the tokens of a file
    List {
        /// File to read
        #[arg(long, value_name = "FILE", env = "PEERAGE_TOKENS_FILE", hide_env_values = true)]
        tokens_file: PathBuf,
    },
}

/// The roles as words of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoleWord {
    /// Read keys, and ask about the cluster
    Read,
    /// Write and delete too
    Write,
    /// Everything, also what later versions add
    Admin,
}

impl TokenCommand {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        match &self.what {
            What::Create { name, role, tokens_file } => {
                let role = match role {
                    RoleWord::Read => Role::Read,
                    RoleWord::Write => Role::Write,
                    RoleWord::Admin => Role::Admin,
                };
                let token = create(name, role, tokens_file)?;
                print(&format!("{token}\n"))?;
                eprintln!(
                    "this is the only time that the token is shown; {} holds its digest",
                    tokens_file.display()
                );
                Ok(())
            }
            What::List { tokens_file } => {
                let tokens = read(tokens_file)?;
                let lines = tokens.grants().map(|grant| format!("{} {}\n", grant.role, grant.name));
                print(&lines.collect::<String>())
            }
        }
    }
}

/// The tokens that the settings name, if they do.
pub(super) fn load(config: &Config) -> Result<Option<Tokens>, Failure> {
    let Some(path) = &config.tokens_file else { return Ok(None) };
    let tokens = read(path)?;
    if tokens.is_empty() {
        let text = format!(
            "{} holds no token, so nobody could be let in; `peerage token create NAME \
             --tokens-file {0}` adds one",
            path.display()
        );
        return Err(Failure::Usage(text));
    }
    Ok(Some(tokens))
}

/// The token that the data commands show: of a file, or of the variable.
pub(super) fn to_show(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let text = match file {
        Some(path) => Some(super::secret::read_private(path)?),
        None => std::env::var(VARIABLE).ok(),
    };
    Ok(text.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty()))
}

fn create(name: &str, role: Role, path: &Path) -> Result<String, Failure> {
    if !is_name(name) {
        let text = "a token has a name of 1 to 64 visible ASCII characters without blanks";
        return Err(Failure::Usage(String::from(text)));
    }
    let known = if path.exists() { read(path)? } else { Tokens::default() };
    if known.grants().any(|grant| grant.name == name) {
        let text = format!("{} has a token named {name} already", path.display());
        return Err(Failure::Usage(text));
    }
    let token = URL_SAFE_NO_PAD.encode(random()?);
    let line = format!("{}\n", Grant::of(&token, role, name).line());
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", path.display())))?;
    Ok(token)
}

fn read(path: &Path) -> Result<Tokens, Failure> {
    let cannot =
        |error: std::io::Error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    if std::fs::metadata(path).map_err(cannot)?.len() > FILE_BYTES_MAX {
        let text = format!("{} has more than {FILE_BYTES_MAX} bytes", path.display());
        return Err(Failure::Usage(text));
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    Tokens::parse(&text)
        .map_err(|bad| Failure::Usage(format!("{} is no tokens file: {bad}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_added_under_its_name_and_only_its_digest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let token = create("app", Role::Write, &path).unwrap();
        let other = create("report", Role::Read, &path).unwrap();
        assert_ne!(token, other);
        assert_eq!(token.len(), 43);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&token));
        let grants: Vec<Grant> = read(&path).unwrap().grants().cloned().collect();
        assert_eq!(grants[0], Grant::of(&token, Role::Write, "app"));
        assert_eq!(grants[1], Grant::of(&other, Role::Read, "report"));
        for name in ["app", "", "a b"] {
            assert_eq!(create(name, Role::Read, &path).unwrap_err().code(), 2, "{name}");
        }
    }

    #[test]
    fn a_file_without_tokens_or_with_a_wrong_line_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let config = Config { tokens_file: Some(path.clone()), ..Config::default() };
        assert!(load(&config).unwrap_err().to_string().contains("cannot read"));
        std::fs::write(&path, "# none yet\n").unwrap();
        assert!(load(&config).unwrap_err().to_string().contains("holds no token"));
        std::fs::write(&path, "\nnonsense\n").unwrap();
        let failure = load(&config).unwrap_err();
        assert_eq!(failure.code(), 2);
        assert!(failure.to_string().contains("line 2"), "{failure}");
        assert_eq!(load(&Config::default()).unwrap(), None);
    }
}
