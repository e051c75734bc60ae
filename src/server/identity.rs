//! Who this node is, for ever: an Ed25519 key pair and a name in the file `identity`.
//!
//! | line | content |
//! | --- | --- |
//! | 1 | `peerage-identity FORMAT` |
//! | 2 | `ed25519-pkcs8 BASE64` |
//! | 3 | `name NAME` |
//!
//! The file is written once, under another name first, so it is whole or absent. The node id is the
//! first 16 bytes of SHA-256 of the public key, so nobody can claim it without the private one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::causality::NodeId;

/// Format of the file that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;
const MAGIC: &str = "peerage-identity";
const KEY_KIND: &str = "ed25519-pkcs8";
const NAME: &str = "name ";

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The digest of the public key.
    pub(crate) node: NodeId,
    /// The Ed25519 public key.
    pub(crate) public_key: [u8; 32],
    /// What people call it.
    pub(crate) name: String,
}

/// Why there is no identity. Nothing was changed on the disk.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file was written by a newer version.
    #[error(
        "{path} has format {format}, this version reads up to {FORMAT}; \
         run the version that wrote it"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The file is not an identity.
    #[error("{path} is damaged ({what}); restore it from a copy, or begin with an empty directory")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The system has no randomness to give.
    #[error("the operating system gives no randomness for a new key pair")]
    NoRandomness,
}

impl Identity {
    /// The identity in `path`, or `None` if there is no such file.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::File { path: path.to_owned(), source }),
        };
        let damaged = |what| IdentityError::Damaged { path: path.to_owned(), what };
        let mut lines = text.lines();
        let format = lines
            .next()
            .and_then(|line| line.strip_prefix(MAGIC))
            .and_then(|rest| rest.trim().parse().ok())
            .ok_or_else(|| damaged("the first line is not that of an identity"))?;
        if format > FORMAT {
            return Err(IdentityError::Newer { path: path.to_owned(), format });
        }
        let key = lines
            .next()
            .and_then(|line| line.strip_prefix(KEY_KIND))
            .and_then(|rest| STANDARD.decode(rest.trim()).ok())
            .ok_or_else(|| damaged("the key is not base64"))?;
        let name = lines
            .next()
            .and_then(|line| line.strip_prefix(NAME))
            .ok_or_else(|| damaged("it names no node"))?;
        Self::of(&key, name).map(Some).ok_or_else(|| damaged("the key is not an Ed25519 key pair"))
    }

    /// A new identity, durable in `path` when this returns (but for the file's name in its
    /// directory). `name` fits one line.
    pub(crate) fn create(path: &Path, name: &str) -> Result<Self, IdentityError> {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|ring::error::Unspecified| IdentityError::NoRandomness)?;
        let encoded = STANDARD.encode(key.as_ref());
        let text = format!("{MAGIC} {FORMAT}\n{KEY_KIND} {encoded}\n{NAME}{name}\n");
        let temporary = path.with_extension("new");
        write_synced(&temporary, text.as_bytes())
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(|source| IdentityError::File { path: path.to_owned(), source })?;
        Ok(Self::of(key.as_ref(), name).expect("a generated key pair is a key pair"))
    }

    fn of(pkcs8: &[u8], name: &str) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
        let public_key: [u8; 32] = pair.public_key().as_ref().try_into().ok()?;
        Some(Self { node: node_id(&public_key), public_key, name: name.to_owned() })
    }
}

/// The node that a public key belongs to.
pub(crate) fn node_id(public_key: &[u8; 32]) -> NodeId {
    let digest = Sha256::digest(public_key);
    NodeId(digest[..16].try_into().expect("a SHA-256 digest has 32 bytes"))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_outlives_the_process_and_no_two_are_equal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        assert!(Identity::read(&path).unwrap().is_none());
        let made = Identity::create(&path, "n1").unwrap();
        assert_eq!(Identity::read(&path).unwrap().unwrap(), made);
        assert_eq!(made.node, node_id(&made.public_key));
        assert_ne!(Identity::create(&folder.path().join("other"), "n1").unwrap(), made);
    }

    /// W6: the rename comes after the sync of what is renamed, so a crash leaves a part of it under
    /// the other name only.
    #[test]
    fn whatever_a_crash_leaves_of_a_first_start_another_one_makes_a_whole_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        Identity::create(&path, "n1").unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(path.with_extension("new"), &whole[..length]).unwrap();
            assert!(Identity::read(&path).unwrap().is_none(), "{length} bytes");
            let made = Identity::create(&path, "n1").unwrap();
            assert_eq!(Identity::read(&path).unwrap().unwrap(), made, "{length} bytes");
        }
    }

    #[test]
    fn a_damaged_or_newer_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        Identity::create(&path, "n1").unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        let check = |text: &str, expected: &str| {
            std::fs::write(&path, text).unwrap();
            let error = Identity::read(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("identity"), "{error}");
        };
        check(&whole.replace("identity 1", "identity 2"), "format 2, this version reads up to 1");
        check(&whole.replace("name n1\n", ""), "names no node");
        check("", "first line");
        check("peerage-identity 1\ned25519-pkcs8 ???\n", "not base64");
        check("peerage-identity 1\ned25519-pkcs8 AAAA\nname n1\n", "not an Ed25519 key pair");
    }
}
