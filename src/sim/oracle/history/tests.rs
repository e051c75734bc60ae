//! Each promise is found broken where it is, and nowhere else.

use super::*;
use crate::causality::Actor;

const HOME: PartitionId = PartitionId(0);

fn dot(actor: u64, seq: u64) -> Dot {
    Dot { actor: Actor(actor), seq }
}

fn value(id: u64) -> Bytes {
    Bytes::from(id.to_string())
}

/// Two writes of one key, `1` and `2`; the second replaced `replaced`. Both were stored, and
/// acknowledged firmly at time 10.
fn two_writes(replaced: &[Dot], claim: Claim) -> (History, Key) {
    let key = Key::plain("k");
    let mut history = History::default();
    for (id, dot, replaced, claim) in
        [(1, dot(1, 1), &[][..], Claim::Known), (2, dot(2, 1), replaced, claim)]
    {
        history.begin(WriteId(id), key.clone(), claim, false);
        history.minted(Mint {
            place: 0,
            partition: HOME,
            dot,
            key: &key,
            value: Some(&value(id)),
            expiry_ms: 0,
            replaced,
            at_the_cap: false,
            request: None,
            write: Some(WriteId(id)),
        });
        history.stored(0, HOME, dot);
        history.told(WriteId(id), Fate::Acknowledged, 10, true);
    }
    (history, key)
}

fn check(replaced: &[Dot], claim: Claim, live: &[u64], expected: &[&str]) {
    let (mut history, key) = two_writes(replaced, claim);
    let live: Vec<Bytes> = live.iter().copied().map(value).collect();
    history.settled(HOME, &key, &live);
    let found: Vec<&str> = history.violations().iter().map(|v| v.invariant).collect();
    assert_eq!(found, expected);
}

#[test]
fn concurrent_writes_must_both_be_there_and_replaced_ones_must_not() {
    let one = dot(1, 1);
    check(&[], Claim::Known, &[1, 2], &[]);
    check(&[one], Claim::Known, &[2], &[]);
    check(&[], Claim::Known, &[2], &["D1 nothing acknowledged is lost"]);
    check(&[one], Claim::Known, &[1, 2], &["T1 nothing replaced returns"]);
    let blind = Claim::Seen(Seen::default());
    check(&[one], blind, &[2], &["D2 no concurrent write is dropped"]);
}

#[test]
fn a_dot_that_is_minted_twice_is_found() {
    let (mut history, key) = two_writes(&[], Claim::Known);
    let again = Mint {
        place: 0,
        partition: HOME,
        dot: dot(2, 1),
        key: &key,
        value: None,
        expiry_ms: 0,
        replaced: &[],
        at_the_cap: false,
        request: None,
        write: None,
    };
    history.minted(again);
    assert_eq!(history.violations()[0].invariant, "D3 a dot names one write");
}

#[test]
fn a_refused_write_must_never_be_there() {
    let (mut history, key) = two_writes(&[], Claim::Known);
    history.told(WriteId(2), Fate::Refused, 11, false);
    history.settled(HOME, &key, &[value(1), value(2)]);
    assert_eq!(history.violations()[0].invariant, "V1 refused is never applied");
}

/// The one node that knew what the second write had replaced has lost that knowledge to rot. Who
/// writes on top of what is left of it does not know it either.
#[test]
fn what_a_rotten_log_forgot_is_not_known_to_those_who_write_on_top_of_it() {
    for rotten in [false, true] {
        let (mut history, key) = two_writes(&[dot(1, 1)], Claim::Known);
        if rotten {
            history.forgot(0);
        }
        history.stored(1, HOME, dot(2, 1));
        let seen = history.seen_by(HOME, &key, &[value(2)]);
        history.begin(WriteId(3), key.clone(), Claim::Seen(seen), false);
        history.minted(Mint {
            place: 0,
            partition: HOME,
            dot: dot(2, 2),
            key: &key,
            value: Some(&value(3)),
            expiry_ms: 0,
            replaced: &[dot(2, 1)],
            at_the_cap: false,
            request: None,
            write: Some(WriteId(3)),
        });
        history.stored(1, HOME, dot(2, 2));
        history.settled(HOME, &key, &[value(3)]);
        assert_eq!(found(&history), Vec::<&str>::new(), "what is gone may be gone");
        history.settled(HOME, &key, &[value(1), value(3)]);
        let expected = if rotten { vec![] } else { vec!["T1 nothing replaced returns"] };
        assert_eq!(found(&history), expected);
    }
}

#[test]
fn a_value_that_nobody_wrote_is_found() {
    let (mut history, key) = two_writes(&[], Claim::Known);
    history.shown(HOME, &key, &[value(3)], None);
    assert_eq!(history.violations()[0].invariant, "W3 no wrong value is returned");
}

#[test]
fn a_read_of_a_majority_must_see_what_was_acknowledged_before_it_began() {
    let (mut history, key) = two_writes(&[], Claim::Known);
    let since = |began_us| Some(Reader { began_us, majority: true });
    history.shown(HOME, &key, &[value(1), value(2)], since(11));
    history.shown(HOME, &key, &[value(1)], since(9));
    assert!(history.violations().is_empty());
    history.shown(HOME, &key, &[value(1)], since(11));
    assert_eq!(history.violations()[0].invariant, "Q1 reads see what was acknowledged");
}

fn found(history: &History) -> Vec<&'static str> {
    history.violations().iter().map(|violation| violation.invariant).collect()
}

/// What a forged token covers is unprotected in its key, and nothing else is.
#[test]
fn a_forged_token_excuses_the_loss_of_what_it_covers_and_of_nothing_else() {
    let [one, two] = [dot(1, 1), dot(2, 1)];
    let covers = |dot: Dot| Claim::Forged([(dot.actor, dot.seq)].into_iter().collect());
    check(&[one], covers(one), &[2], &[]);
    check(&[one], covers(two), &[2], &["D2 no concurrent write is dropped"]);
    check(&[], covers(one), &[2], &[]);
    check(&[], covers(dot(3, 9)), &[2], &["D1 nothing acknowledged is lost"]);
}

/// Two writes of two keys, made by one batch that is not answered yet.
fn batch() -> (History, [Key; 2]) {
    let keys = ["a", "b"].map(Key::plain);
    let mut history = History::default();
    for (id, key) in (1..).zip(&keys) {
        history.begin(WriteId(id), key.clone(), Claim::Known, false);
    }
    history.batch(&[WriteId(1), WriteId(2)]);
    for (id, key) in (1..).zip(&keys) {
        history.minted(Mint {
            place: 0,
            partition: HOME,
            dot: dot(1, id),
            key,
            value: Some(&value(id)),
            expiry_ms: 0,
            replaced: &[],
            at_the_cap: false,
            request: None,
            write: Some(WriteId(id)),
        });
    }
    (history, keys)
}

#[test]
fn who_saw_a_part_of_a_batch_in_a_row_of_one_must_see_all_of_it() {
    for (rows_are_single, began_us, expected) in
        [(true, 6, &["B1 batches are isolated"][..]), (true, 5, &[]), (false, 6, &[])]
    {
        let (mut history, [a, b]) = batch();
        history.rows_are_single = rows_are_single;
        let reader = |began_us| Some(Reader { began_us, majority: false });
        history.now_us = 4;
        history.shown(HOME, &b, &[], reader(3));
        history.now_us = 5;
        history.shown(HOME, &a, &[value(1)], None);
        history.now_us = 7;
        history.shown(HOME, &b, &[], reader(began_us));
        assert_eq!(found(&history), expected, "{rows_are_single} {began_us}");
    }
}

#[test]
fn a_majority_sees_all_of_a_batch_that_was_acknowledged() {
    let (mut history, [a, b]) = batch();
    for id in [1, 2] {
        history.told(WriteId(id), Fate::Acknowledged, 10, true);
    }
    history.shown(HOME, &a, &[], Some(Reader { began_us: 9, majority: true }));
    history.shown(HOME, &b, &[], Some(Reader { began_us: 11, majority: false }));
    assert!(history.violations().is_empty());
    history.shown(HOME, &b, &[], Some(Reader { began_us: 11, majority: true }));
    assert_eq!(found(&history), ["B1 batches are isolated"]);
}

#[test]
fn a_walk_that_misses_doubles_or_invents_a_key_is_found() {
    let walked = |began_us, majority, listed: &[&'static str]| {
        let (mut history, _) = two_writes(&[], Claim::Known);
        let mut walk = Walk::new(began_us, majority);
        for key in listed {
            walk.comes_by(Key::plain(*key));
        }
        history.walked(&walk, |_| HOME);
        found(&history)
    };
    let wrong = ["Q1 a walk lists each key once"];
    assert!(walked(11, true, &["k"]).is_empty());
    assert!(walked(9, true, &[]).is_empty(), "it was acknowledged later");
    assert!(walked(11, false, &[]).is_empty(), "one member may not know yet");
    assert_eq!(walked(11, true, &[]), wrong);
    assert_eq!(walked(11, true, &["k", "k"]), wrong);
    assert_eq!(walked(11, true, &["k", "x"]), wrong);
}
