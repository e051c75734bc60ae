//! What is said before a greeting where nodes share a secret: challenges and proofs.
//!
//! Until the other side is proven nothing else is parsed, and nothing longer than a refusal is
//! kept. Like the greeting, these frames have one layout in every version.
//!
//! | bytes | challenge |
//! | --- | --- |
//! | 32 | nonce |
//!
//! | bytes | proof |
//! | --- | --- |
//! | 16 | node id |
//! | 1, 16 | 1 and the id of its cluster, or 0 and zeros |
//! | 32 | HMAC-SHA256 |

use bytes::{BufMut, Bytes, BytesMut};

use super::reader::Reader;
use super::{
    FrameError, GREETING_BYTES_MAX, Header, PREFIX_BYTES, greeting, kind, put_header, seal,
    take_body,
};
use crate::causality::NodeId;
use crate::cluster::{Claim, ClusterId, Nonce, Proof, Refusal, Said};

/// One frame of those that may come before a greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A step of the proof.
    Said(Said),
    /// The other side does not go on.
    Refused(Refusal),
}

/// Appends a frame.
pub fn encode_entry(said: &Said, out: &mut BytesMut) {
    let start = out.len();
    out.put_bytes(0, PREFIX_BYTES);
    match said {
        Said::Challenge(nonce) => {
            put_header(Header { kind: kind::CHALLENGE, ..Header::default() }, out);
            out.put_slice(&nonce.0);
        }
        Said::Proof(Proof { claim, tag }) => {
            put_header(Header { kind: kind::PROOF, ..Header::default() }, out);
            out.put_slice(&claim.node.0);
            out.put_u8(u8::from(claim.cluster.is_some()));
            out.put_slice(&claim.cluster.unwrap_or_default().0);
            out.put_slice(tag);
        }
    }
    seal(start, out).expect("these frames are short");
}

/// Takes one frame out of `buffer`; `None` when more bytes are needed.
///
/// # Errors
/// [`FrameError`], also for every frame that may come only after the other side is proven: the
/// connection must be closed.
pub fn decode_entry(buffer: &mut BytesMut) -> Result<Option<Entry>, FrameError> {
    let Some((header, payload)) = take_body(buffer, GREETING_BYTES_MAX)? else { return Ok(None) };
    let entry = match header.kind {
        kind::CHALLENGE | kind::PROOF => parse(header.kind, payload).map(Entry::Said),
        kind::REFUSAL => greeting::parse_refusal(&payload).map(Entry::Refused),
        unknown => return Err(FrameError::UnknownKind { kind: unknown }),
    };
    entry.map(Some).ok_or(FrameError::Malformed { kind: header.kind })
}

fn parse(kind: u8, payload: Bytes) -> Option<Said> {
    let mut reader = Reader::new(payload);
    let said = if kind == kind::CHALLENGE {
        Said::Challenge(Nonce(reader.fixed()?))
    } else {
        let node = NodeId(reader.fixed()?);
        let (is_born, cluster) = (reader.flag()?, ClusterId(reader.fixed()?));
        if !is_born && cluster != ClusterId::default() {
            return None;
        }
        let claim = Claim { node, cluster: is_born.then_some(cluster) };
        Said::Proof(Proof { claim, tag: reader.fixed()? })
    };
    (reader.left() == 0).then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::peer::{Frame, HEADER_BYTES, decode, decode_greeting, encode};

    fn proof(cluster: Option<ClusterId>) -> Said {
        let claim = Claim { node: NodeId([3; 16]), cluster };
        Said::Proof(Proof { claim, tag: [5; 32] })
    }

    fn encoded(said: Said) -> BytesMut {
        let mut out = BytesMut::new();
        encode_entry(&said, &mut out);
        out
    }

    fn all() -> [Said; 3] {
        [Said::Challenge(Nonce([1; 32])), proof(None), proof(Some(ClusterId([4; 16])))]
    }

    #[test]
    fn challenges_and_proofs_come_back_as_they_were_byte_by_byte() {
        for said in all() {
            let (bytes, mut buffer) = (encoded(said), BytesMut::new());
            for (index, byte) in bytes.iter().enumerate() {
                buffer.put_u8(*byte);
                let expected = (index + 1 == bytes.len()).then_some(Entry::Said(said));
                assert_eq!(decode_entry(&mut buffer), Ok(expected));
            }
        }
    }

    #[test]
    fn their_bytes_are_the_same_in_every_version() {
        let hex =
            |said| encoded(said).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let header = "00".repeat(19);
        let challenge = format!("3400000005784fee04{header}{}", "01".repeat(32));
        assert_eq!(hex(all()[0]), challenge);
        let tail = format!("{}01{}{}", "03".repeat(16), "04".repeat(16), "05".repeat(32));
        assert_eq!(hex(all()[2]), format!("5500000067e6563105{header}{tail}"));
    }

    #[test]
    fn nothing_else_is_parsed_before_the_other_side_is_proven() {
        let refusal = Refusal { code: "c".repeat(300), text: "t".repeat(9_000) };
        let mut out = BytesMut::new();
        encode(&Frame::Refusal(refusal), &mut out).unwrap();
        assert!(matches!(decode_entry(&mut out), Ok(Some(Entry::Refused(_)))));
        let ping = Frame::Cluster(crate::cluster::Message::Ping { seq: 1 });
        encode(&ping, &mut out).unwrap();
        assert_eq!(decode_entry(&mut out), Err(FrameError::UnknownKind { kind: kind::CLUSTER }));
        let long = u32::try_from(GREETING_BYTES_MAX).unwrap();
        let mut bytes = BytesMut::from(&long.to_le_bytes()[..]);
        bytes.put_u32_le(0);
        let expected = FrameError::TooLong { bytes: u64::from(long) };
        assert_eq!(decode_entry(&mut bytes.clone()), Err(expected.clone()));
        assert_eq!(decode_greeting(&mut bytes), Err(expected));
        // Nor are these frames taken once links speak.
        let mut bytes = encoded(all()[0]);
        assert_eq!(decode(&mut bytes), Err(FrameError::SecretAsked));
    }

    #[test]
    fn a_proof_of_an_unborn_node_names_no_cluster() {
        let mut bytes = encoded(proof(Some(ClusterId([4; 16]))));
        bytes[HEADER_BYTES + 16] = 0;
        seal(0, &mut bytes).unwrap();
        assert_eq!(decode_entry(&mut bytes), Err(FrameError::Malformed { kind: kind::PROOF }));
        let mut bytes = encoded(proof(None));
        bytes.put_u8(0);
        seal(0, &mut bytes).unwrap();
        assert_eq!(decode_entry(&mut bytes), Err(FrameError::Malformed { kind: kind::PROOF }));
    }
}
