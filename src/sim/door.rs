//! The door between simulated nodes: where a dial arrives, both ends prove the cluster secret to
//! each other, as production does and through its codec, before a greeting is looked at.
//!
//! The whole exchange happens at that instant: a connection that breaks in the middle of it is one
//! that was never made, and the network decides about that before.

use bytes::BytesMut;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::cluster::{Claim, Exchange, Hello, Next, Nonce, Said, Secret};
use crate::wire::peer::{self, Entry};

/// Lets the dialler prove itself to the answerer, and the answerer to the dialler.
///
/// # Panics
/// When nodes of one cluster do not let each other in, or as somebody else.
pub(super) fn pass(
    secret: &Secret,
    dialler: &Hello,
    answerer: &Hello,
    chance: &mut Xoshiro256PlusPlus,
) {
    let [dialler, answerer] = [dialler, answerer].map(claim);
    let mut nonce = || Nonce(chance.random());
    let (mut dialling, first) = Exchange::dial(secret.clone(), dialler, nonce());
    let mut answering = Exchange::answer(secret.clone(), answerer, nonce());
    let [mut met, mut meets] = [None, None];
    let mut said = Some(first);
    while let Some(question) = said {
        let reply = hear(&mut answering, question);
        met = met.or(reply.proven);
        said = reply.say.and_then(|reply| {
            let next = hear(&mut dialling, reply);
            meets = meets.or(next.proven);
            next.say
        });
    }
    assert_eq!(met, Some(dialler), "the answerer knows who dialled");
    assert_eq!(meets, Some(answerer), "the dialler knows who answered");
}

fn claim(hello: &Hello) -> Claim {
    Claim { node: hello.node, cluster: hello.cluster }
}

/// What one end makes of what the other said, through the bytes of production.
fn hear(exchange: &mut Exchange, said: Said) -> Next {
    let mut bytes = BytesMut::new();
    peer::encode_entry(&said, &mut bytes);
    let Ok(Some(Entry::Said(heard))) = peer::decode_entry(&mut bytes) else {
        panic!("{said:?} does not survive its codec");
    };
    exchange.hear(heard).expect("both ends hold the secret")
}
