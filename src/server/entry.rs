//! The door between nodes: where they share a secret, nothing is said of this node, and nothing is
//! read of another, before each has proven to the other that it holds it.
//!
//! Whoever fails hears one fixed sentence, the same whatever went wrong. A connection that is not
//! through the door holds no more than a few kilobytes, and not for longer than a greeting may
//! take.

use std::fmt;

use bytes::BytesMut;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::control::Control;
use crate::cluster::{Claim, Exchange, Nonce, NotProven, Refusal, SECRET_BYTES, Said};
use crate::wire::peer::{self, Entry, Frame};

/// The other side has not proven that it holds the secret.
const CODE_NO_PROOF: &str = "no_proof";
/// This node was started without a secret, the other one with one.
const CODE_NO_SECRET: &str = "no_secret";

/// A connection that is not through the door.
pub(super) struct Door<'a> {
    pub(super) control: &'a Control,
    pub(super) stream: &'a mut TcpStream,
    pub(super) received: &'a mut BytesMut,
}

/// Why a connection does not get through.
#[derive(Debug)]
pub(super) struct Closed {
    reason: String,
    /// What the operator of this node is to read once.
    pub(super) refusal: Option<Refusal>,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// The dialler's way through: who answered, where there is a secret.
pub(super) async fn prove_dialled(door: &mut Door<'_>) -> Result<Option<Claim>, Closed> {
    let Some(secret) = door.control.shared.secret.clone() else { return Ok(None) };
    let nonce = nonce().map_err(Closed::unheard)?;
    let (exchange, first) = Exchange::dial(secret, door.control.claim(), nonce);
    door.say(&first).await?;
    door.prove(exchange).await.map(Some)
}

/// The way through of the node that was dialled: who dialled, where there is a secret.
pub(super) async fn prove_answering(door: &mut Door<'_>) -> Result<Option<Claim>, Closed> {
    let Some(secret) = door.control.shared.secret.clone() else { return Ok(None) };
    let nonce = nonce().map_err(Closed::unheard)?;
    let exchange = Exchange::answer(secret, door.control.claim(), nonce);
    let proven = door.prove(exchange).await;
    if let Err(closed) = &proven
        && closed.refusal.is_some()
    {
        door.control.shared.metrics.strangers.increment();
        let refusal = Frame::Refusal(no_proof());
        let mut out = BytesMut::new();
        peer::encode(&refusal, &mut out).expect("a refusal is short");
        // Courtesy: this side closes in any case.
        let _ = door.stream.write_all(&out).await;
    }
    proven.map(Some)
}

/// What everybody hears who is not let in.
fn no_proof() -> Refusal {
    let text = "the cluster secret was not proven; start both nodes with the same secret";
    Refusal { code: String::from(CODE_NO_PROOF), text: String::from(text) }
}

/// What a node with a secret hears from one without.
pub(super) fn no_secret() -> Refusal {
    let text = "this node was started without a cluster secret; give it that of the other nodes";
    Refusal { code: String::from(CODE_NO_SECRET), text: String::from(text) }
}

impl Door<'_> {
    async fn prove(&mut self, mut exchange: Exchange) -> Result<Claim, Closed> {
        loop {
            let said = self.hear().await?;
            let next = exchange.hear(said).map_err(Closed::not_proven)?;
            if let Some(say) = &next.say {
                self.say(say).await?;
            }
            if let Some(claim) = next.proven {
                return Ok(claim);
            }
        }
    }

    async fn say(&mut self, said: &Said) -> Result<(), Closed> {
        let mut out = BytesMut::new();
        peer::encode_entry(said, &mut out);
        self.stream.write_all(&out).await.map_err(|error| Closed::unheard(error.to_string()))
    }

    async fn hear(&mut self) -> Result<Said, Closed> {
        loop {
            match peer::decode_entry(self.received) {
                Ok(Some(Entry::Said(said))) => return Ok(said),
                Ok(Some(Entry::Refused(refusal))) => return Err(Closed::refused(refusal)),
                Ok(None) => {}
                Err(error) => {
                    let reason = format!("no proof of the cluster secret: {error}");
                    return Err(Closed { reason, refusal: Some(no_proof()) });
                }
            }
            let read = self.stream.read_buf(self.received).await;
            if read.map_err(|error| Closed::unheard(error.to_string()))? == 0 {
                let reason = "closed before the cluster secret was proven";
                return Err(Closed::unheard(String::from(reason)));
            }
        }
    }
}

impl Closed {
    /// The connection broke.
    fn unheard(reason: String) -> Self {
        Self { reason, refusal: None }
    }

    fn not_proven(why: NotProven) -> Self {
        Self { reason: format!("not let in: {why}"), refusal: Some(no_proof()) }
    }

    fn refused(refusal: Refusal) -> Self {
        Self { reason: refusal.to_string(), refusal: Some(refusal) }
    }
}

fn nonce() -> Result<Nonce, String> {
    let mut bytes = [0; SECRET_BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    Ok(Nonce(bytes))
}
