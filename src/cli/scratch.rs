//! Free ports, and directories that go away: what nodes on this machine need for a while.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::failure::Failure;

/// What is added to the port for clients to give the port for nodes.
const CLUSTER_PORT_OFFSET: u16 = 1_000;
/// Where the data lies, and whether it is removed at the end.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    is_scratch: bool,
}

impl Directory {
    /// The directory that was asked for, or a new one for `command` that can be removed.
    pub(crate) fn new(asked: Option<&Path>, command: &str) -> Result<Self, Failure> {
        let failed = |path: &Path, error: &io::Error| {
            Failure::Failed(format!("cannot create {}: {error}", path.display()))
        };
        if let Some(path) = asked {
            fs::create_dir_all(path).map_err(|error| failed(path, &error))?;
            return Ok(Self { path: path.to_path_buf(), is_scratch: false });
        }
        let process = std::process::id();
        let mut attempt = 0_u32;
        loop {
            let path = std::env::temp_dir().join(format!("peerage-{command}-{process}-{attempt}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path, is_scratch: true }),
                // Left behind by a process that had this number before.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => {
                    attempt += 1;
                }
                Err(error) => return Err(failed(&path, &error)),
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it will be removed.
    pub(crate) fn is_scratch(&self) -> bool {
        self.is_scratch
    }

    /// Removes it with all that it holds, unless it was asked for.
    pub(crate) fn remove(&mut self) {
        if std::mem::take(&mut self.is_scratch)
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            eprintln!("peerage: {} was not removed: {error}", self.path.display());
        }
    }
}

/// Ports for clients and for nodes: from `first` on, or free ones where that is 0.
pub(crate) fn ports(first: u16, count: usize) -> Result<Vec<(u16, u16)>, Failure> {
    if first != 0 {
        let pair = |index: usize| {
            let port = u16::try_from(index).ok().and_then(|index| first.checked_add(index))?;
            Some((port, port.checked_add(CLUSTER_PORT_OFFSET)?))
        };
        return (0..count).map(pair).collect::<Option<Vec<_>>>().ok_or_else(|| {
            Failure::Usage(format!("ports from {first} on do not fit; take a smaller --port"))
        });
    }
    // Held together until all are known, so that none is given twice.
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let free = || TcpListener::bind(any).and_then(|held| Ok((held.local_addr()?.port(), held)));
    let held = (0..count * 2).map(|_| free()).collect::<Result<Vec<_>, _>>();
    let held = held.map_err(|error| Failure::Failed(format!("no free port: {error}")))?;
    Ok(held.chunks(2).map(|pair| (pair[0].0, pair[1].0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_the_first_or_are_free_and_different() {
        assert_eq!(ports(7001, 2).unwrap(), [(7001, 8001), (7002, 8002)]);
        assert_eq!(ports(64_534, 3).unwrap_err().code(), 2);
        let mut free: Vec<u16> =
            ports(0, 5).unwrap().into_iter().flat_map(|(a, b)| [a, b]).collect();
        free.sort_unstable();
        free.dedup();
        assert_eq!(free.len(), 10);
    }

    #[test]
    fn a_scratch_directory_is_new_and_goes_away_and_a_given_one_stays() {
        let mut one = Directory::new(None, "test").unwrap();
        let two = Directory::new(None, "test").unwrap();
        assert_ne!(one.path, two.path);
        let mut given = Directory::new(Some(&two.path), "test").unwrap();
        given.remove();
        assert!(two.path.is_dir());
        one.remove();
        assert!(!one.path.exists());
        let mut two = two;
        two.remove();
        assert!(!two.path.exists());
    }
}
