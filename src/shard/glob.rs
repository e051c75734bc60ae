//! The glob patterns of Redis (`*`, `?`, `[a-z]`, `[^a]`, `\` before a literal), run as a set of
//! states with one bit each: no recursion, no backtracking.
//!
//! A key costs O(bytes of the key x bytes of the pattern / 64), whatever the pattern is; the usual
//! recursive matcher takes exponential time for `*a*a*a*b`. Source: Baeza-Yates and Gonnet, "A New
//! Approach to Text Searching", CACM 1992, with self-loops for the stars.

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// For each byte the states that it leads on from, one bit per state, lowest word first.
    steps: Vec<Vec<u64>>,
    /// States that every byte may stay in.
    stars: Vec<u64>,
    /// Number of elements that consume one byte; the state of this number accepts.
    elements: usize,
}

/// The bytes that one element of a pattern consumes.
type Class = [bool; 256];

impl Glob {
    /// Compiles a pattern. Every sequence of bytes is one: an unclosed `[` closes at the end, and
    /// a `\` at the end stands for itself.
    pub(super) fn new(pattern: &[u8]) -> Self {
        let mut classes: Vec<Class> = Vec::new();
        let mut starred: Vec<usize> = Vec::new();
        let mut rest = pattern;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            match byte {
                b'*' => starred.push(classes.len()),
                b'?' => classes.push([true; 256]),
                b'[' => classes.push(take_class(&mut rest)),
                b'\\' => classes.push(only(take_literal(&mut rest))),
                literal => classes.push(only(literal)),
            }
        }
        let words = classes.len() / 64 + 1;
        let mut steps = vec![vec![0; words]; 256];
        for (state, class) in classes.iter().enumerate() {
            for (step, _) in steps.iter_mut().zip(class).filter(|(_, accepted)| **accepted) {
                step[state / 64] |= 1 << (state % 64);
            }
        }
        let mut stars = vec![0; words];
        for state in starred {
            stars[state / 64] |= 1 << (state % 64);
        }
        Self { steps, stars, elements: classes.len() }
    }

    /// Whether the whole of `text` is of this pattern.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let mut states = vec![0_u64; self.stars.len()];
        states[0] = 1;
        for &byte in text {
            let step = &self.steps[usize::from(byte)];
            let mut carry = 0;
            let mut alive = 0;
            for ((state, step), stars) in states.iter_mut().zip(step).zip(&self.stars) {
                let led_on = *state & step;
                *state = led_on << 1 | carry | *state & stars;
                carry = led_on >> 63;
                alive |= *state;
            }
            if alive == 0 {
                return false;
            }
        }
        states[self.elements / 64] >> (self.elements % 64) & 1 == 1
    }
}

fn only(byte: u8) -> Class {
    let mut class = [false; 256];
    class[usize::from(byte)] = true;
    class
}

/// The byte after a backslash, or the backslash itself at the end of the pattern.
fn take_literal(rest: &mut &[u8]) -> u8 {
    let Some((&byte, tail)) = rest.split_first() else { return b'\\' };
    *rest = tail;
    byte
}

/// What stands behind a `[`, up to and including its `]`.
fn take_class(rest: &mut &[u8]) -> Class {
    let mut class = [false; 256];
    let negated = rest.first() == Some(&b'^');
    if negated {
        *rest = &rest[1..];
    }
    while let Some((&byte, tail)) = rest.split_first() {
        *rest = tail;
        match (byte, tail) {
            (b']', _) => break,
            (b'\\', [_, ..]) => class[usize::from(take_literal(rest))] = true,
            (from, [b'-', to, tail @ ..]) => {
                *rest = tail;
                class[usize::from(from.min(*to))..=usize::from(from.max(*to))].fill(true);
            }
            (literal, _) => class[usize::from(literal)] = true,
        }
    }
    class.map(|accepted| accepted != negated)
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    #[test]
    fn patterns_match_what_redis_matches() {
        let cases: [(&[u8], &[u8], bool); 31] = [
            (b"", b"", true),
            (b"", b"a", false),
            (b"*", b"", true),
            (b"*", b"anything", true),
            (b"a*", b"abc", true),
            (b"a*", b"ba", false),
            (b"*c", b"abc", true),
            (b"a**c", b"abbc", true),
            (b"a*b*c", b"axxbyyc", true),
            (b"a*b*c", b"axxcyyb", false),
            (b"h?llo", b"hello", true),
            (b"h?llo", b"hllo", false),
            (b"h[ae]llo", b"hallo", true),
            (b"h[ae]llo", b"hillo", false),
            (b"h[^e]llo", b"hallo", true),
            (b"h[^e]llo", b"hello", false),
            (b"h[a-c]llo", b"hbllo", true),
            (b"h[c-a]llo", b"hbllo", true),
            (b"h[a-c]llo", b"hdllo", false),
            (b"\\*", b"*", true),
            (b"\\*", b"a", false),
            (b"\\?x", b"?x", true),
            (b"[\\]]", b"]", true),
            (b"[]", b"]", false),
            (b"[", b"", false),
            (b"[ab", b"b", true),
            (b"[a-", b"-", true),
            (b"a\\", b"a\\", true),
            (b"[^]", b"x", true),
            (b"\xff*\x00", b"\xff12\x00", true),
            (b"user:*:name", b"user:1:2:name", true),
        ];
        for (pattern, text, expected) in cases {
            let found = Glob::new(pattern).matches(text);
            assert_eq!(found, expected, "{} {}", pattern.escape_ascii(), text.escape_ascii());
        }
    }

    /// The plainest matcher, which tries everything.
    fn tries_all(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', rest @ ..], [_, tail @ ..]) => {
                tries_all(rest, text) || tries_all(pattern, tail)
            }
            ([b'*', rest @ ..], []) => tries_all(rest, text),
            ([b'?', rest @ ..], [_, tail @ ..]) => tries_all(rest, tail),
            ([byte, rest @ ..], [other, tail @ ..]) => byte == other && tries_all(rest, tail),
            ([], []) => true,
            ([], [_, ..]) | ([_, ..], []) => false,
        }
    }

    #[test]
    fn random_patterns_match_as_one_that_tries_everything() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut draw = |letters: &[u8], most: usize| -> Vec<u8> {
            let length = rng.random_range(0..=most);
            (0..length).map(|_| letters[rng.random_range(0..letters.len())]).collect()
        };
        let mut matched = 0;
        for _ in 0..20_000 {
            let (pattern, text) = (draw(b"ab*?", 8), draw(b"ab", 10));
            let expected = tries_all(&pattern, &text);
            matched += u32::from(expected);
            assert_eq!(Glob::new(&pattern).matches(&text), expected, "{pattern:?} {text:?}");
        }
        assert!(matched > 2_000, "the draw is not one-sided: {matched}");
    }

    #[test]
    fn long_patterns_carry_from_word_to_word() {
        for length in [63, 64, 65, 127, 128, 129, 4_096] {
            let text = vec![b'x'; length];
            assert!(Glob::new(&text).matches(&text), "{length}");
            assert!(!Glob::new(&text).matches(&text[1..]), "{length}");
            let starred = [b"*".as_slice(), &text, b"*"].concat();
            assert!(Glob::new(&starred).matches(&text), "{length}");
            assert!(!Glob::new(&starred).matches(&text[1..]), "{length}");
        }
        let evil = Glob::new(&[b"*a".repeat(1_000), b"b".to_vec()].concat());
        assert!(!evil.matches(&[b'a'; 4_096]));
    }
}
