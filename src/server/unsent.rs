//! How much of what a client does not read the kernel keeps beside us.
//!
//! By default that is up to 4 MiB a connection, which no budget of a node sees: a thousand clients
//! that never read make the kernel run short of memory for all connections, and then it drops what
//! honest clients send. Bytes that were sent and are not acknowledged yet do not count, so a long
//! fast line is as fast as before. Source: tcp(7), `TCP_NOTSENT_LOWAT`.

use std::io;
use std::net::TcpStream;

use crate::limits::UNSENT_BYTES_MAX;

/// Bounds what the kernel takes from us and cannot send yet.
#[cfg(target_os = "linux")]
pub(super) fn bound(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

/// Other systems have no such bound for a socket, or none that is as good.
#[cfg(not(target_os = "linux"))]
pub(super) fn bound(_: &TcpStream) -> io::Result<()> {
    const _: u32 = UNSENT_BYTES_MAX;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Bytes that a socket takes for a client that reads nothing and offers the smallest window.
    fn taken(is_bounded: bool) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let deaf =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        deaf.set_recv_buffer_size(4_096).unwrap();
        deaf.connect(&listener.local_addr().unwrap().into()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        if is_bounded {
            bound(&stream).unwrap();
        }
        stream.set_nonblocking(true).unwrap();
        let zeros = [0; 4_096];
        let mut taken = 0;
        while let Ok(written) = stream.write(&zeros) {
            taken += written;
        }
        // What was taken arrives all the same.
        drop(stream);
        let mut arrived = 0;
        let mut part = [0; 4_096];
        loop {
            match (&deaf).read(&mut part).unwrap() {
                0 => break,
                bytes => arrived += bytes,
            }
        }
        assert_eq!(arrived, taken);
        taken
    }

    #[test]
    #[cfg_attr(not(target_os = "linux"), ignore = "only Linux has the bound")]
    fn what_a_client_does_not_read_stays_with_us_and_not_in_the_kernel() {
        let bound = usize::try_from(UNSENT_BYTES_MAX).unwrap();
        let taken_bounded = taken(true);
        assert!(taken_bounded < 2 * bound, "{taken_bounded}");
        assert!(taken(false) > 4 * bound);
    }
}
