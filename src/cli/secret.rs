//! The cluster secret: `peerage secret` makes one, `serve` reads it. It comes from a file or from a
//! variable and never stands on a command line, where every user of the machine could read it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use rand::TryRng;
use rand::rngs::SysRng;

use super::failure::Failure;
use crate::cluster::{SECRET_BYTES, Secret};
use crate::config::Config;

/// The variable that may hold the secret itself.
pub(super) const VARIABLE: &str = "PEERAGE_CLUSTER_SECRET";
/// Longest file that is read as a secret, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// Arguments of `secret`.
#[derive(Args, Debug)]
#[command(after_long_help = "\
The nodes of a cluster prove to each other that they hold one secret; whoever does not is not let
in. Copy the file to every node over a channel that you trust, and keep it from other users.

Examples:
  peerage secret cluster.secret              a new file that only its owner can read
  peerage serve --cluster-secret-file cluster.secret
  PEERAGE_CLUSTER_SECRET=$(peerage secret)   for a shell that starts all nodes")]
pub(crate) struct SecretCommand {
    /// File to write, which must not exist; without it the secret is printed
    file: Option<PathBuf>,
}

impl SecretCommand {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let secret = Secret::new(random()?);
        let line = format!("{}\n", secret.to_hex());
        let Some(path) = &self.file else {
            return print(&line);
        };
        create_private(path, &line)?;
        eprintln!("a new cluster secret is in {}; give each node a copy", path.display());
        Ok(())
    }
}

/// The secret that the settings name, if they do.
pub(super) fn load(config: &Config) -> Result<Option<Secret>, Failure> {
    let given = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    choose(given, config.cluster_secret_file.as_deref())
}

fn choose(given: Option<String>, file: Option<&Path>) -> Result<Option<Secret>, Failure> {
    let (text, place) = match (given, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(file)) => {
            return Err(Failure::Usage(format!(
                "both {VARIABLE} and the file {} give a cluster secret; give one of them",
                file.display()
            )));
        }
        (Some(text), None) => (text, String::from(VARIABLE)),
        (None, Some(path)) => (read_private(path)?, path.display().to_string()),
    };
    Secret::parse(&text).map(Some).ok_or_else(|| {
        Failure::Usage(format!(
            "{place} holds no cluster secret, which has {} hexadecimal digits; `peerage secret` \
             makes one",
            2 * SECRET_BYTES
        ))
    })
}

/// Writes a line to standard output.
pub(super) fn print(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::Failed(format!("cannot write to standard output: {error}")))
}

/// Bytes from the operating system that nobody can guess.
pub(super) fn random() -> Result<[u8; SECRET_BYTES], Failure> {
    let mut bytes = [0; SECRET_BYTES];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Failure::Failed(format!("the system gives no randomness: {error}")))?;
    Ok(bytes)
}

/// Makes a file that only its owner can read.
fn create_private(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(|error| Failure::Failed(format!("cannot make {}: {error}", path.display())))
}

/// The text of a small file, with a warning where other users of the machine can read it too.
pub(super) fn read_private(path: &Path) -> Result<String, Failure> {
    let cannot =
        |error: std::io::Error| Failure::Usage(format!("cannot read {}: {error}", path.display()));
    let about = std::fs::metadata(path).map_err(cannot)?;
    if about.len() > FILE_BYTES_MAX {
        let bytes = about.len();
        let text = format!("{} has {bytes} bytes and is no secret", path.display());
        return Err(Failure::Usage(text));
    }
    if about.permissions().mode() & 0o007 != 0 {
        eprintln!("peerage: every user can read {}; `chmod o= FILE` stops it", path.display());
    }
    std::fs::read_to_string(path).map_err(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_one_place_and_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.secret");
        let command = SecretCommand { file: Some(path.clone()) };
        command.run().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = choose(None, Some(&path)).unwrap().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(choose(Some(text.clone()), None).unwrap().unwrap(), read);
        assert_eq!(choose(None, None).unwrap(), None);
        let both = choose(Some(text.clone()), Some(&path)).unwrap_err();
        assert!(both.to_string().contains("give one of them"), "{both}");
        // An old secret is never written over.
        assert!(command.run().is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        let short = choose(Some(String::from("00ff")), None).unwrap_err();
        assert_eq!(short.code(), 2);
        assert!(short.to_string().contains("64 hexadecimal digits"), "{short}");
        assert!(!short.to_string().contains("00ff"), "{short}");
    }
}
