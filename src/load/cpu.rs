//! What a process costs the processor, and which process listens where, as Linux tells it.
//!
//! Elsewhere, and for processes of other users, nothing is known, and nothing is shown.

use std::fs;
use std::time::Duration;

/// Time that the threads of a process have been on a processor so far; those that have ended are
/// not counted.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let mut total = Duration::ZERO;
    for thread in threads {
        // A thread may end between the two reads.
        let Ok(text) = fs::read_to_string(thread.ok()?.path().join("schedstat")) else { continue };
        total += Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?);
    }
    Some(total)
}

/// The process of this machine that listens on a port of IPv4.
pub fn listener(port: u16) -> Option<u32> {
    let sockets = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = listening_inode(&sockets, port)?;
    let link = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let files = fs::read_dir(entry.path().join("fd")).ok()?;
        let mut links = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|target| target.as_os_str() == link.as_str()).then_some(pid)
    })
}

/// The inode of the listening socket, from the text of `/proc/net/tcp` (proc(5)): the second
/// column is the local address in hexadecimal digits, the fourth the state, the tenth the inode.
fn listening_inode(sockets: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    sockets.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = columns.get(1)?.split_once(':')?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && *columns.get(3)? == LISTEN;
        if is_it { columns.get(9)?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listening_socket_is_found_among_those_of_its_port() {
        let sockets = "sl local remote st queues tr:tm retransmits uid timeout inode\n\
            0: 0100007F:18EB 0100007F:C001 01 00:00 00:00 00 0 0 11 1\n\
            1: 0100007F:18EB 00000000:0000 0A 00:00 00:00 00 0 0 22 1\n";
        assert_eq!(listening_inode(sockets, 6379), Some(22));
        assert_eq!(listening_inode(sockets, 6380), None);
    }

    #[test]
    fn a_process_that_is_not_there_costs_nothing_that_is_known() {
        assert_eq!(cpu_time(u32::MAX), None);
    }
}
