//! The cluster secret, and how two nodes prove to each other that they hold it.
//!
//! ```text
//! dialler  -> Challenge                nonce D
//! answerer -> Challenge                nonce A
//! dialler  -> Proof (opening)          who dials
//! answerer -> Proof (answer)           who answers
//! dialler  -> Proof (confirmation)     who dials
//! ```
//!
//! A proof is HMAC-SHA256 under the secret of: which of the three it is, both nonces, and the node
//! and cluster of the dialler and, but for the opening, of the answerer. So none can be used in the
//! other direction, in another exchange, or for another node or cluster; and whoever holds no
//! secret has seen one nonce when the door closes. Greetings follow, and must be of the nodes that
//! were proven.
//!
//! Source: three-pass mutual authentication with a keyed check value, ISO/IEC 9798-4; ours is that
//! the dialler proves first, so that who only scans learns nothing.

use std::fmt;

use ring::hmac::{self, HMAC_SHA256};
use thiserror::Error;

use super::{ClusterId, Hello};
use crate::causality::NodeId;
use crate::hash::equal;

/// Bytes of a secret, of a nonce, and of a proof.
pub const SECRET_BYTES: usize = 32;
/// What every proof begins with; another layout of what it covers would have another text.
const DOMAIN: &[u8] = b"peerage cluster secret, proof 1";

/// What every node of a cluster knows and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

/// Random bytes that are used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; SECRET_BYTES]);

/// Who a node says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The node.
    pub node: NodeId,
    /// Its cluster; `None` = it is unborn.
    pub cluster: Option<ClusterId>,
}

/// That a node holds the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Who it is.
    pub claim: Claim,
    /// HMAC-SHA256 under the secret.
    pub tag: [u8; SECRET_BYTES],
}

/// What is said before a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Prove it to me with this nonce.
    Challenge(Nonce),
    /// Here it is.
    Proof(Proof),
}

/// Why the other side is not let in. It is told nothing of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotProven {
    /// It sent back what it was sent.
    #[error("it returned the nonce that it was given")]
    Reflected,
    /// Its proof is not one of this exchange under this secret.
    #[error("its proof is not one under this secret")]
    WrongProof,
    /// It said something else than what comes next.
    #[error("it spoke out of turn")]
    OutOfTurn,
    /// It is not the node that it opened as.
    #[error("it changed its name between two proofs")]
    OtherNode,
}

/// What one side does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// What it says.
    pub say: Option<Said>,
    /// Who the other side is, once that is proven.
    pub proven: Option<Claim>,
}

/// One side of one exchange.
#[derive(Debug)]
pub struct Exchange {
    secret: Secret,
    me: Claim,
    nonce: Nonce,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The dialler has sent its nonce.
    Dialled,
    /// The dialler has proven itself to whoever has this nonce.
    Opened(Nonce),
    /// The answerer has heard nothing.
    Waiting,
    /// The answerer has sent its nonce.
    Asked(Nonce),
    /// The answerer has proven itself.
    Answered(Nonce, Claim),
    Over,
}

/// The three proofs.
#[derive(Clone, Copy)]
enum Turn {
    Opening,
    Answer,
    Confirmation,
}

/// What a proof covers.
struct Covered {
    turn: Turn,
    dialler: (Nonce, Claim),
    answerer: (Nonce, Option<Claim>),
}

impl Secret {
    /// The secret of these bytes, which must be random.
    pub fn new(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// The secret of 64 hexadecimal digits; blanks around them do not count.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.trim().as_bytes();
        let mut bytes = [0; SECRET_BYTES];
        if digits.len() != 2 * SECRET_BYTES || !digits.is_ascii() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |index: usize| char::from(pair[index]).to_digit(16);
            *byte = u8::try_from(digit(0)? * 16 + digit(1)?).expect("two digits fit a byte");
        }
        Some(Self(bytes))
    }

    /// Its 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        self.0.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }

    fn context(&self, covered: &Covered) -> hmac::Context {
        let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, &self.0));
        context.update(DOMAIN);
        context.update(&[match covered.turn {
            Turn::Opening => 1,
            Turn::Answer => 2,
            Turn::Confirmation => 3,
        }]);
        context.update(&covered.dialler.0.0);
        context.update(&covered.answerer.0.0);
        for claim in [Some(covered.dialler.1), covered.answerer.1] {
            let cluster = claim.and_then(|claim| claim.cluster);
            context.update(&[u8::from(claim.is_some()), u8::from(cluster.is_some())]);
            context.update(&claim.map_or([0; 16], |claim| claim.node.0));
            context.update(&cluster.map_or([0; 16], |cluster| cluster.0));
        }
        context
    }

    fn prove(&self, claim: Claim, covered: &Covered) -> Said {
        let tag = self.context(covered).sign();
        let tag = tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes");
        Said::Proof(Proof { claim, tag })
    }

    /// Compares in constant time.
    fn holds(&self, proof: &Proof, covered: &Covered) -> Result<(), NotProven> {
        let tag = self.context(covered).sign();
        if equal(tag.as_ref(), &proof.tag) { Ok(()) } else { Err(NotProven::WrongProof) }
    }
}

/// Never its bytes: settings are printed.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Exchange {
    /// The side of the node that dials, and what it says first. `nonce` is never used again.
    pub fn dial(secret: Secret, me: Claim, nonce: Nonce) -> (Self, Said) {
        (Self { secret, me, nonce, stage: Stage::Dialled }, Said::Challenge(nonce))
    }

    /// The side of the node that was dialled.
    pub fn answer(secret: Secret, me: Claim, nonce: Nonce) -> Self {
        Self { secret, me, nonce, stage: Stage::Waiting }
    }

    /// The other side spoke.
    ///
    /// # Errors
    /// [`NotProven`]: the connection must be closed.
    pub fn hear(&mut self, said: Said) -> Result<Next, NotProven> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        match (stage, said) {
            (Stage::Dialled, Said::Challenge(theirs)) => self.open(theirs),
            (Stage::Opened(theirs), Said::Proof(proof)) => self.confirm(theirs, &proof),
            (Stage::Waiting, Said::Challenge(theirs)) => {
                self.check_fresh(theirs)?;
                self.stage = Stage::Asked(theirs);
                Ok(Next { say: Some(Said::Challenge(self.nonce)), proven: None })
            }
            (Stage::Asked(theirs), Said::Proof(proof)) => self.prove_back(theirs, &proof),
            (Stage::Answered(theirs, peer), Said::Proof(proof)) => {
                if proof.claim != peer {
                    return Err(NotProven::OtherNode);
                }
                let covered = Covered {
                    turn: Turn::Confirmation,
                    dialler: (theirs, peer),
                    answerer: (self.nonce, Some(self.me)),
                };
                self.secret.holds(&proof, &covered)?;
                Ok(Next { say: None, proven: Some(peer) })
            }
            (
                Stage::Dialled
                | Stage::Opened(_)
                | Stage::Waiting
                | Stage::Asked(_)
                | Stage::Answered(..)
                | Stage::Over,
                Said::Challenge(_) | Said::Proof(_),
            ) => Err(NotProven::OutOfTurn),
        }
    }

    /// The dialler proves itself.
    fn open(&mut self, theirs: Nonce) -> Result<Next, NotProven> {
        self.check_fresh(theirs)?;
        self.stage = Stage::Opened(theirs);
        let covered = Covered {
            turn: Turn::Opening,
            dialler: (self.nonce, self.me),
            answerer: (theirs, None),
        };
        Ok(Next { say: Some(self.secret.prove(self.me, &covered)), proven: None })
    }

    /// The answerer looks at the opening, and proves itself.
    fn prove_back(&mut self, theirs: Nonce, proof: &Proof) -> Result<Next, NotProven> {
        let mut covered = Covered {
            turn: Turn::Opening,
            dialler: (theirs, proof.claim),
            answerer: (self.nonce, None),
        };
        self.secret.holds(proof, &covered)?;
        covered.turn = Turn::Answer;
        covered.answerer.1 = Some(self.me);
        self.stage = Stage::Answered(theirs, proof.claim);
        Ok(Next { say: Some(self.secret.prove(self.me, &covered)), proven: None })
    }

    /// The dialler looks at the answer, and confirms whom it talks to.
    fn confirm(&self, theirs: Nonce, proof: &Proof) -> Result<Next, NotProven> {
        let mut covered = Covered {
            turn: Turn::Answer,
            dialler: (self.nonce, self.me),
            answerer: (theirs, Some(proof.claim)),
        };
        self.secret.holds(proof, &covered)?;
        covered.turn = Turn::Confirmation;
        let say = Some(self.secret.prove(self.me, &covered));
        Ok(Next { say, proven: Some(proof.claim) })
    }

    fn check_fresh(&self, theirs: Nonce) -> Result<(), NotProven> {
        if theirs == self.nonce { Err(NotProven::Reflected) } else { Ok(()) }
    }
}

impl Claim {
    /// Whether a greeting is of this node. One that was unborn may have been born meanwhile.
    pub fn is_of(&self, hello: &Hello) -> bool {
        hello.node == self.node && (self.cluster.is_none() || self.cluster == hello.cluster)
    }
}

#[cfg(test)]
#[path = "tests/secret.rs"]
mod tests;
