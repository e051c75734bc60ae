//! The laws of the pure values, each against the plainest model that could be true.

use std::collections::BTreeSet;

use bytes::Bytes;
use peerage::causality::{
    Actor, Dot, Entry, Object, PartitionClock, VersionVector, decode_context, encode_context, fill,
    merge, put, strip,
};
use peerage::hash::{PartitionId, crc16};
use peerage::time::Hlc;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const ACTORS: u64 = 4;

fn dot() -> impl Strategy<Value = Dot> {
    // Around word borders of the bitmap, and at the end of the numbers.
    let seq = prop_oneof![
        6 => 1..9_u64,
        2 => 60..70_u64,
        1 => 120..200_u64,
        1 => u64::MAX - 70..=u64::MAX,
    ];
    (0..ACTORS, seq).prop_map(|(actor, seq)| Dot { actor: Actor(actor), seq })
}

fn vector() -> impl Strategy<Value = VersionVector> {
    btree_map(0..ACTORS, 0..9_u64, 0..4)
        .prop_map(|map| map.into_iter().map(|(actor, seq)| (Actor(actor), seq)).collect())
}

/// The one write that a dot names.
fn entry(dot: Dot) -> Entry {
    let rid = dot.seq % 3;
    Entry { rid, ..Entry::register(dot, Hlc(dot.seq), Bytes::from(vec![7; 2])) }
}

fn object() -> impl Strategy<Value = Object> {
    (btree_set(dot(), 0..5), vector()).prop_map(|(dots, mut ctx)| {
        for &dot in &dots {
            ctx.raise_to(dot);
        }
        Object { entries: dots.into_iter().map(entry).collect(), ctx }
    })
}

fn clock(dots: &[Dot]) -> PartitionClock {
    let mut clock = PartitionClock::new();
    for &dot in dots {
        clock.add(dot);
    }
    clock
}

/// What a set of dots says without gaps of an actor.
fn base(dots: &BTreeSet<Dot>, actor: Actor) -> u64 {
    (1..u64::MAX).take_while(|&seq| dots.contains(&Dot { actor, seq })).last().unwrap_or(0)
}

fn check_clock(clock: &PartitionClock, dots: &BTreeSet<Dot>) {
    let bases = clock.bases();
    let mut scattered = 0_u64;
    for actor in (0..ACTORS).map(Actor) {
        let base = base(dots, actor);
        assert_eq!(clock.base_of(actor), base);
        assert_eq!(bases.get(actor), base);
        for dot in dots {
            scattered += u64::from(dot.actor == actor && dot.seq > base);
        }
        for seq in (1..220).chain(u64::MAX - 80..=u64::MAX) {
            let dot = Dot { actor, seq };
            assert_eq!(clock.contains(dot), dots.contains(&dot), "{dot}");
        }
    }
    assert_eq!(clock.scattered(), scattered);
}

/// The same cases in every run.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::with_cases(512)
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_clock_is_a_set_of_dots(dots in vec(dot(), 0..200), others in vec(dot(), 0..200)) {
        let (mut left, right) = (clock(&dots), clock(&others));
        let (mut set, other): (BTreeSet<_>, BTreeSet<_>) =
            (dots.into_iter().collect(), others.into_iter().collect());
        check_clock(&left, &set);
        let mut mirrored = right.clone();
        mirrored.join(&left);
        left.join(&right);
        set.extend(other);
        check_clock(&left, &set);
        prop_assert_eq!(left, mirrored);
    }

    #[test]
    fn a_vector_joins_to_the_pointwise_maximum(left in vector(), right in vector()) {
        let mut joined = left.clone();
        joined.join(&right);
        for actor in (0..ACTORS).map(Actor) {
            prop_assert_eq!(joined.get(actor), left.get(actor).max(right.get(actor)));
        }
        prop_assert!(joined.dominates(&left));
        prop_assert!(joined.dominates(&right));
        prop_assert!(joined.iter().is_sorted());
    }

    #[test]
    fn merge_has_the_laws_of_a_join(a in object(), b in object(), c in object()) {
        let ab = merge(&a, &b);
        prop_assert_eq!(&ab, &merge(&b, &a));
        prop_assert_eq!(merge(&ab, &c), merge(&a, &merge(&b, &c)));
        prop_assert_eq!(merge(&a, &a), a.clone());
        prop_assert_eq!(merge(&ab, &a), ab.clone());
        prop_assert!(ab.ctx.dominates(&a.ctx));
        prop_assert!(ab.ctx.dominates(&b.ctx));
        prop_assert!(ab.entries.iter().map(|entry| entry.dot).is_sorted());
    }

    #[test]
    fn merge_keeps_what_no_side_knows_to_be_gone(a in object(), b in object()) {
        let (left, right): (BTreeSet<_>, BTreeSet<_>) = (a.dots().collect(), b.dots().collect());
        let kept: BTreeSet<_> = left
            .union(&right)
            .copied()
            .filter(|dot| left.contains(dot) || !a.ctx.covers(*dot))
            .filter(|dot| right.contains(dot) || !b.ctx.covers(*dot))
            .collect();
        prop_assert_eq!(merge(&a, &b).dots().collect::<BTreeSet<_>>(), kept);
    }

    #[test]
    fn what_is_stripped_is_filled_again(stored in object(), dots in vec(dot(), 0..50)) {
        let clock = clock(&dots);
        let filled = fill(stored, &clock);
        let stripped = strip(filled.clone(), &clock);
        prop_assert!(stripped.ctx.iter().all(|(actor, seq)| seq > clock.base_of(actor)));
        prop_assert_eq!(fill(stripped, &clock), filled);
    }

    #[test]
    fn a_put_replaces_what_was_known(stored in object(), known in vector(), delete: bool) {
        let dot = Dot { actor: Actor(ACTORS), seq: 1 };
        let before: BTreeSet<Dot> = stored.dots().collect();
        let written = (!delete).then(|| Entry { rid: 0, ..entry(dot) });
        let done = put(stored.clone(), dot, &known, written);
        let gone: BTreeSet<Dot> = before.iter().copied().filter(|&old| known.covers(old)).collect();
        let mut left: BTreeSet<Dot> = before.difference(&gone).copied().collect();
        left.extend((!delete).then_some(dot));
        prop_assert_eq!(done.gone, gone.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(done.object.dots().collect::<BTreeSet<_>>(), left);
        prop_assert!(done.object.ctx.covers(dot));
        prop_assert!(done.object.ctx.dominates(&known));
        prop_assert_eq!(merge(&done.object, &stored), done.object);
    }

    #[test]
    fn any_vector_comes_back_from_its_token(seen in vector(), partition: u16) {
        let token = encode_context(PartitionId(partition), &seen);
        prop_assert_eq!(decode_context(PartitionId(partition), &token), Ok(seen));
    }

    #[test]
    fn no_bytes_make_a_token_panic(mut bytes in vec(any::<u8>(), 0..80), signed: bool) {
        if signed {
            // As a forger would: the right format, partition and sum around anything.
            bytes.splice(0..0, [1, 5, 0]);
            let sum = crc16(&bytes);
            bytes.extend(sum.to_le_bytes());
        }
        if let Ok(seen) = decode_context(PartitionId(5), &bytes) {
            let token = encode_context(PartitionId(5), &seen);
            prop_assert_eq!(decode_context(PartitionId(5), &token), Ok(seen));
        }
    }
}
