//! Whoever holds the secret is let in, and nobody else, whatever they have overheard.

use super::*;

const MARY: Claim = Claim { node: NodeId([1; 16]), cluster: Some(ClusterId([9; 16])) };
const JOHN: Claim = Claim { node: NodeId([2; 16]), cluster: None };

fn secret(byte: u8) -> Secret {
    Secret::new([byte; SECRET_BYTES])
}

fn nonce(byte: u8) -> Nonce {
    Nonce([byte; SECRET_BYTES])
}

fn dial(byte: u8, me: Claim, number: u8) -> (Exchange, Said) {
    Exchange::dial(secret(byte), me, nonce(number))
}

fn answer(byte: u8, me: Claim, number: u8) -> Exchange {
    Exchange::answer(secret(byte), me, nonce(number))
}

/// What the other side says, which proves nobody yet.
fn say(exchange: &mut Exchange, said: Said) -> Said {
    let next = exchange.hear(said).unwrap();
    assert_eq!(next.proven, None);
    next.say.unwrap()
}

/// A whole exchange: everything that was said, in order.
fn overheard(number: u8) -> [Said; 5] {
    let (mut mary, first) = dial(7, MARY, number);
    let mut john = answer(7, JOHN, number + 1);
    let second = say(&mut john, first);
    let opening = say(&mut mary, second);
    let answered = say(&mut john, opening);
    let last = mary.hear(answered).unwrap();
    assert_eq!(last.proven, Some(JOHN));
    let confirmation = last.say.unwrap();
    let end = john.hear(confirmation).unwrap();
    assert_eq!(end, Next { say: None, proven: Some(MARY) });
    [first, second, opening, answered, confirmation]
}

fn with(said: Said, change: impl FnOnce(&mut Proof)) -> Said {
    let Said::Proof(mut proof) = said else { panic!("{said:?} is no proof") };
    change(&mut proof);
    Said::Proof(proof)
}

#[test]
fn two_nodes_with_one_secret_prove_it_to_each_other() {
    let said = overheard(1);
    let tags: Vec<_> = said[2..]
        .iter()
        .map(|said| match said {
            Said::Proof(proof) => proof.tag,
            Said::Challenge(_) => panic!("these are proofs"),
        })
        .collect();
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2]);
}

#[test]
fn another_secret_is_refused_by_the_side_that_hears_its_proof() {
    let (mut stranger, first) = dial(8, MARY, 1);
    let mut john = answer(7, JOHN, 2);
    let opening = {
        let challenge = say(&mut john, first);
        say(&mut stranger, challenge)
    };
    // It has seen a nonce, and nothing else of this node.
    assert_eq!(john.hear(opening), Err(NotProven::WrongProof));
    let (mut mary, first) = dial(7, MARY, 1);
    let challenge = say(&mut answer(8, JOHN, 2), first);
    let opening = say(&mut mary, challenge);
    let claim = with(opening, |proof| proof.claim = JOHN);
    assert_eq!(mary.hear(claim), Err(NotProven::WrongProof));
}

#[test]
fn what_is_sent_back_to_its_sender_proves_nothing() {
    let (mut mary, first) = dial(7, MARY, 1);
    assert_eq!(mary.hear(first), Err(NotProven::Reflected));
    let (mut mary, _) = dial(7, MARY, 1);
    let opening = say(&mut mary, Said::Challenge(nonce(2)));
    assert_eq!(mary.hear(opening), Err(NotProven::WrongProof));
    // An answer is no confirmation either.
    let (mut mary, first) = dial(7, MARY, 1);
    let mut john = answer(7, JOHN, 2);
    let challenge = say(&mut john, first);
    let opening = say(&mut mary, challenge);
    let answered = say(&mut john, opening);
    let reflected = with(answered, |proof| proof.claim = MARY);
    assert_eq!(john.hear(reflected), Err(NotProven::WrongProof));
}

#[test]
fn a_second_connection_to_a_node_makes_no_proof_for_the_first() {
    // Mary dials somebody who holds no secret, and who dials John to let him do the work.
    let (mut mary, first) = dial(7, MARY, 1);
    let mut john = answer(7, JOHN, 2);
    let challenge = say(&mut john, first);
    let opening = say(&mut mary, challenge);
    let answered = say(&mut john, opening);
    let claimed = Claim { node: NodeId([3; 16]), cluster: None };
    let posing = with(answered, |proof| proof.claim = claimed);
    assert_eq!(mary.hear(posing), Err(NotProven::WrongProof));
}

#[test]
fn what_was_overheard_opens_no_later_exchange() {
    let old = overheard(1);
    let mut john = answer(7, JOHN, 9);
    say(&mut john, old[0]);
    assert_eq!(john.hear(old[2]), Err(NotProven::WrongProof));
    let (mut mary, _) = dial(7, MARY, 8);
    say(&mut mary, old[1]);
    assert_eq!(mary.hear(old[3]), Err(NotProven::WrongProof));
    // The same nonces would make the same proofs, so that nonces are drawn anew is all there is.
    assert_eq!(overheard(1), old);
}

#[test]
fn a_proof_is_of_one_node_and_one_cluster() {
    let changes: [fn(&mut Proof); 4] = [
        |proof| proof.claim.node = NodeId([4; 16]),
        |proof| proof.claim.cluster = Some(ClusterId([4; 16])),
        |proof| proof.claim.cluster = None,
        |proof| proof.tag[31] ^= 1,
    ];
    for change in changes {
        let (mut mary, first) = dial(7, MARY, 1);
        let mut john = answer(7, JOHN, 2);
        let challenge = say(&mut john, first);
        let opening = say(&mut mary, challenge);
        assert_eq!(john.hear(with(opening, change)), Err(NotProven::WrongProof));
        let mut john = answer(7, JOHN, 2);
        say(&mut john, first);
        let answered = say(&mut john, opening);
        let confirmation = mary.hear(answered).unwrap().say.unwrap();
        assert!(john.hear(with(confirmation, change)).is_err());
    }
    // The cluster of no node and the node of no cluster are different things.
    let zeros = Claim { node: NodeId([0; 16]), cluster: Some(ClusterId([0; 16])) };
    let (_, first) = dial(7, zeros, 1);
    let (mut same, _) = dial(7, Claim { cluster: None, ..zeros }, 1);
    let mut john = answer(7, JOHN, 2);
    let challenge = say(&mut john, first);
    let opening = with(say(&mut same, challenge), |proof| proof.claim = zeros);
    assert_eq!(john.hear(opening), Err(NotProven::WrongProof));
}

#[test]
fn whoever_speaks_out_of_turn_is_not_heard_again() {
    let [challenge, _, opening, ..] = overheard(1);
    let mut john = answer(7, JOHN, 2);
    assert_eq!(john.hear(opening), Err(NotProven::OutOfTurn));
    assert_eq!(john.hear(challenge), Err(NotProven::OutOfTurn));
    let mut john = answer(7, JOHN, 2);
    say(&mut john, challenge);
    assert_eq!(john.hear(challenge), Err(NotProven::OutOfTurn));
    assert_eq!(john.hear(opening), Err(NotProven::OutOfTurn));
}

#[test]
fn a_secret_is_64_hexadecimal_digits_and_is_never_printed() {
    let text = "00ff".repeat(16);
    let secret = Secret::parse(&format!(" {}\n", text.to_uppercase())).unwrap();
    assert_eq!(secret.to_hex(), text);
    assert_eq!(format!("{secret:?}"), "Secret(..)");
    for wrong in
        ["", "00ff", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"\u{e9}".repeat(32)]
    {
        assert_eq!(Secret::parse(wrong), None, "{wrong}");
    }
}
