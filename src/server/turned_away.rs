//! Clients above the bound: each is told so in the protocol that it speaks, then closed.
//!
//! A connection that is closed with unread bytes is reset, and the reset takes the refusal away
//! from a client that has not read it yet. So what the client sends is read, for a short time and
//! by a few tasks at most.

use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::guests::NoPlace;
use crate::limits::{REFUSAL_MS, REFUSALS_MAX};
use crate::wire;

/// Bytes that are read at a time; the first of them tell the protocol.
const PART_BYTES: usize = 512;
/// Parts that are read after the refusal, so that nobody keeps a task busy.
const PARTS_MAX: usize = 64;

/// Counts who is being told.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk(Rc<()>);

impl Desk {
    /// The refusal of one more client; `None`: too many are being told already.
    pub(super) fn refusal(
        &self,
        stream: TcpStream,
        reason: NoPlace,
    ) -> Option<impl Future<Output = ()> + 'static> {
        // One of them is the desk itself.
        let place = (Rc::strong_count(&self.0) <= REFUSALS_MAX).then(|| Rc::clone(&self.0))?;
        Some(async move {
            tell(stream, reason).await;
            drop(place);
        })
    }
}

async fn tell(mut stream: TcpStream, reason: NoPlace) {
    let patience = Duration::from_millis(REFUSAL_MS);
    let mut part = [0; PART_BYTES];
    // Who waits for the server to speak first has said nothing, and hears the words of RESP.
    let first = match timeout(patience, stream.read(&mut part)).await {
        Ok(Ok(bytes)) => part.get(..bytes).unwrap_or_default(),
        Ok(Err(_)) => return,
        Err(_) => &[],
    };
    let words = match reason {
        NoPlace::Full => wire::too_many_clients(first),
        NoPlace::Address => wire::too_many_of_address(first),
    };
    // It may be gone, or read nothing: there is nobody else to tell.
    let told = async {
        stream.write_all(&words).await?;
        stream.shutdown().await?;
        for _ in 0..PARTS_MAX {
            if stream.read(&mut part).await? == 0 {
                break;
            }
        }
        Ok::<(), std::io::Error>(())
    };
    let _ = timeout(patience, told).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net;

    use tokio::net::TcpListener;

    use super::*;

    /// What a client hears who sends these bytes and is one too many.
    fn heard(words: &'static [u8]) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let client = std::thread::spawn(move || {
                let mut stream = net::TcpStream::connect(addr).unwrap();
                stream.write_all(words).unwrap();
                let mut heard = String::new();
                stream.read_to_string(&mut heard).unwrap();
                heard
            });
            let (stream, _) = listener.accept().await.unwrap();
            Desk::default().refusal(stream, NoPlace::Full).unwrap().await;
            client.join().unwrap()
        })
    }

    #[test]
    fn each_protocol_is_told_in_its_own_words_that_there_are_too_many() {
        let refused = "-ERR max number of clients reached\r\n";
        assert_eq!(heard(b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"), refused);
        assert_eq!(heard(b"PING\r\n"), refused);
        assert_eq!(heard(b""), refused);
        let json = heard(b" {\"cmd\":\"PING\"}\n{\"cmd\":\"PING\"}\n");
        assert!(json.starts_with("{\"ok\":false,\"error\":\""), "{json}");
        assert!(json.contains("\"code\":\"overloaded\",\"outcome\":\"refused\""), "{json}");
        assert_eq!(json.lines().count(), 1, "{json}");
    }

    #[test]
    fn only_so_many_are_told_at_one_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let desk = Desk::default();
            let mut told = Vec::new();
            for index in 0..=REFUSALS_MAX {
                let client = TcpStream::connect(addr).await.unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let refusal = desk.refusal(stream, NoPlace::Full);
                assert_eq!(refusal.is_some(), index < REFUSALS_MAX, "{index}");
                told.push((client, refusal));
            }
            told.pop();
            told.pop();
            let client = TcpStream::connect(addr).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            assert!(desk.refusal(stream, NoPlace::Full).is_some(), "who has been told makes room");
            drop(client);
        });
    }
}
