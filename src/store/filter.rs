//! Which tokens a segment may hold: a Bloom filter of ten bits a record (Bloom, 1970).
//!
//! A Forget must stay as long as an older record of its key may lie in another segment. Without
//! this, one old segment that nobody touches would keep every Forget for ever. A wrong "may hold"
//! costs a record that stays a little longer; a wrong "does not" cannot happen.

use super::codec::{to_u64, to_usize};
use crate::hash::Token;

/// Bits for each record; with seven probes one answer in a hundred is a false "may".
const BITS_PER_RECORD: usize = 10;
const PROBES: u64 = 7;

/// The tokens of a segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// The filter of these tokens.
    pub(super) fn of(tokens: &[Token]) -> Self {
        let bits = (tokens.len() * BITS_PER_RECORD).max(1);
        let mut filter = Self { words: vec![0; bits.div_ceil(64)] };
        for &token in tokens {
            for bit in filter.bits(token) {
                filter.words[to_usize(bit / 64)] |= 1 << (bit % 64);
            }
        }
        filter
    }

    /// Whether the segment may hold a record of this token.
    pub(super) fn may_hold(&self, token: Token) -> bool {
        self.bits(token).all(|bit| self.words[to_usize(bit / 64)] & (1 << (bit % 64)) != 0)
    }

    /// The bits of a token. Keys with one `{tag}` have one slot, so the first bits of their tokens
    /// are equal; the multiplication spreads the others.
    fn bits(&self, token: Token) -> impl Iterator<Item = u64> + use<> {
        let count = to_u64(self.words.len() * 64);
        let one = token.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        let other = one.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(29) | 1;
        (0..PROBES).map(move |probe| one.wrapping_add(probe.wrapping_mul(other)) % count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_never_denied_and_what_is_not_hardly_ever_claimed() {
        let token = |number: u64| Token(number.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 14);
        let held: Vec<Token> = (0..10_000).map(token).collect();
        let filter = Filter::of(&held);
        assert!(held.iter().all(|&token| filter.may_hold(token)));
        let claimed = (10_000..110_000).filter(|&number| filter.may_hold(token(number))).count();
        assert!(claimed < 2_000, "{claimed} of 100,000");
        assert!(!Filter::of(&[]).may_hold(Token(1)));
    }
}
