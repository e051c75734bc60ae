//! The data directory: everything that a node must remember, used by one process at a time.
//!
//! | entry | content |
//! | --- | --- |
//! | `LOCK` | locked while a process uses the directory; its text says which |
//! | `identity` | who this node is |
//! | `log/` | the log engine's files |

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::identity::{Identity, IdentityError};

/// Only the user that runs the node may look into its directory: the private key lies there.
const MODE: u32 = 0o700;

/// A data directory that this process holds until the value is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Who lives in it.
    pub(crate) identity: Identity,
    /// Where the log engine keeps its files.
    pub(crate) log: PathBuf,
    /// Locked; the lock goes with the file.
    _lock: File,
}

/// Why a directory cannot be used. Nothing that it holds was changed.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// A file or folder cannot be used.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds it.
    #[error(
        "the data directory {path} is in use by {holder}; stop that process, or give this one \
         another --data-dir"
    )]
    InUse {
        /// Which directory.
        path: PathBuf,
        /// Name and process id, as the holder wrote them down.
        holder: String,
    },
    /// It holds something else.
    #[error(
        "{path} is not empty and not the data directory of a node; give --data-dir a new folder"
    )]
    Foreign {
        /// Which directory.
        path: PathBuf,
    },
    /// It holds a log, but not the identity that wrote it.
    #[error("{path} is missing, but there is a log beside it; restore the file from a copy")]
    NoIdentity {
        /// Where the identity should be.
        path: PathBuf,
    },
    /// It belongs to a node of another name.
    #[error(
        "{path} is the data directory of node {holds}, not of {asked}; give this node its own \
         --data-dir, or leave --node-id away to go on as {holds}"
    )]
    Other {
        /// Which directory.
        path: PathBuf,
        /// Whose it is.
        holds: String,
        /// Who asked for it.
        asked: String,
    },
    /// The identity cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Directory {
    /// Makes or opens the directory and locks it: for the node of this name, or else for the one
    /// that lives there, which if it is new is called `otherwise`.
    pub(crate) fn open(
        path: &Path,
        name: Option<&str>,
        otherwise: &str,
    ) -> Result<Self, DirectoryError> {
        make(path)?;
        let identity_path = path.join("identity");
        if !path.join("LOCK").exists() && !identity_path.exists() && !is_empty(path)? {
            return Err(DirectoryError::Foreign { path: path.to_owned() });
        }
        std::fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(at(path))?;
        let lock = lock(path, name.unwrap_or(otherwise))?;
        let log = path.join("log");
        let identity = if let Some(identity) = Identity::read(&identity_path)? {
            if let Some(asked) = name.filter(|asked| *asked != identity.name) {
                let (path, asked) = (path.to_owned(), asked.to_owned());
                return Err(DirectoryError::Other { path, holds: identity.name, asked });
            }
            identity
        } else {
            if log.exists() && !is_empty(&log)? {
                return Err(DirectoryError::NoIdentity { path: identity_path });
            }
            Identity::create(&identity_path, name.unwrap_or(otherwise))?
        };
        make(&log)?;
        sync(path)?;
        // The name of the directory itself must outlive the loss of power too. A parent that this
        // user may not read was made, and synced, by somebody else.
        if let Some(parent) = path.canonicalize().map_err(at(path))?.parent() {
            let _ = sync(parent);
        }
        Ok(Self { identity, log, _lock: lock })
    }
}

fn lock(path: &Path, name: &str) -> Result<File, DirectoryError> {
    let lock_path = path.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(at(&lock_path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DirectoryError::InUse { path: path.to_owned(), holder: holder(&mut file) });
        }
        Err(TryLockError::Error(source)) => {
            return Err(DirectoryError::File { path: lock_path, source });
        }
    }
    let text = format!("node {name}, process {}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(at(&lock_path))?;
    Ok(file)
}

/// What the holder of the lock wrote about itself. Best effort: it is for people.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(512).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        Ok(_) | Err(_) => String::from("another process"),
    }
}

fn make(path: &Path) -> Result<(), DirectoryError> {
    DirBuilder::new().recursive(true).mode(MODE).create(path).map_err(at(path))
}

fn sync(path: &Path) -> Result<(), DirectoryError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

fn is_empty(path: &Path) -> Result<bool, DirectoryError> {
    Ok(std::fs::read_dir(path).map_err(at(path))?.next().is_none())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::File { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user_at_a_time_and_keeps_its_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/node");
        let first = Directory::open(&path, Some("n1"), "").unwrap();
        let identity = first.identity.clone();
        let refused = Directory::open(&path, Some("n2"), "").unwrap_err().to_string();
        let process = format!("node n1, process {}", std::process::id());
        assert!(refused.contains(&process), "{refused}");
        drop(first);
        let second = Directory::open(&path, None, "127.0.0.1:6379").unwrap();
        assert_eq!(second.identity, identity);
        assert_eq!(second.identity.name, "n1");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn the_directory_of_another_node_is_refused_with_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        drop(Directory::open(&path, None, "n1").unwrap());
        let refused = Directory::open(&path, Some("n2"), "").unwrap_err().to_string();
        assert!(refused.contains("node n1, not of n2"), "{refused}");
        assert!(Directory::open(&path, Some("n1"), "").is_ok());
    }

    #[test]
    fn a_folder_of_something_else_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "text").unwrap();
        let error = Directory::open(folder.path(), Some("n1"), "").unwrap_err();
        assert!(matches!(error, DirectoryError::Foreign { .. }), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_log_without_its_identity_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(Directory::open(folder.path(), Some("n1"), "").unwrap());
        std::fs::write(folder.path().join("log/00000001.seg"), "bytes").unwrap();
        std::fs::remove_file(folder.path().join("identity")).unwrap();
        let error = Directory::open(folder.path(), Some("n1"), "").unwrap_err();
        assert!(matches!(error, DirectoryError::NoIdentity { .. }), "{error}");
        assert!(!folder.path().join("identity").exists());
    }
}
