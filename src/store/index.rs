//! Which key lies where: an index in token order that holds no key bytes.
//!
//! Entries of 24 bytes lie sorted in buckets of at most 64, found by the lowest token that each
//! may hold; that makes about 28 bytes a key, and a scan in ring order costs nothing extra. Two
//! keys with one token coexist: each entry carries a *mark*, 62 bits of a digest of bucket and key,
//! that tells them apart. Bytes of the key itself are compared where a record is read.
//! Entries of one token never lie in two buckets. Source: ours, after Bitcask's keydir.

use std::collections::BTreeMap;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::place::Place;
use crate::hash::{Key, Token};
use crate::shard::IndexEntry;

/// Most entries of a bucket; more only where all have one token.
const BUCKET_ENTRIES_MAX: usize = 64;
/// Entries that a bucket is filled with when the index is built as a whole.
const BUCKET_ENTRIES_BUILT: usize = 56;
/// A bucket below this is joined with the next one where both fit one.
const BUCKET_ENTRIES_MIN: usize = 16;
/// Entries by which a bucket grows.
const BUCKET_GROWTH: usize = 8;

/// Bytes of memory that an entry takes, buckets and their spare room included.
const ABOUT_BYTES: usize = 28;

/// Most entries that a search walks from where it guesses, before it halves.
const WALK_MAX: usize = 12;

/// Flags in the two low bits of a mark.
const LIVE: u64 = 1;
const DAMAGED: u64 = 2;
const FLAGS: u64 = 3;

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where the key lies on the ring.
    pub(super) token: Token,
    /// Where its record is.
    pub(super) place: Place,
    /// The mark of the key, and flags.
    mark: u64,
}

const _: () = assert!(size_of::<Entry>() == 24);

/// The keys of one shard.
#[derive(Debug)]
pub(super) struct Index {
    /// Sorted entries, by the lowest token that their bucket may hold; one bucket begins at 0.
    buckets: BTreeMap<u64, Vec<Entry>>,
    entries: usize,
}

/// The mark of a key: it tells keys of one token apart.
pub(super) fn mark_of(key: &Key) -> u64 {
    let digest =
        Sha256::new().chain_update(key.bucket.0.to_le_bytes()).chain_update(&key.bytes).finalize();
    // The first 50 bits are in the token already.
    let part: [u8; 8] = digest[8..16].try_into().expect("a SHA-256 digest has 32 bytes");
    u64::from_le_bytes(part) & !FLAGS
}

impl Entry {
    /// An entry of a key with siblings (`live`) or without.
    pub(super) fn new(token: Token, mark: u64, place: Place, live: bool) -> Self {
        let flags = if live { LIVE } else { 0 };
        Self { token, place, mark: mark & !FLAGS | flags }
    }

    /// An entry of a key of which nothing is known but its token.
    pub(super) fn lost(token: Token) -> Self {
        Self { token, place: Place::lost(), mark: DAMAGED }
    }

    /// The mark of its key.
    pub(super) fn mark(self) -> u64 {
        self.mark & !FLAGS
    }

    /// Whether the key has siblings.
    pub(super) fn is_live(self) -> bool {
        self.mark & LIVE != 0
    }

    /// Whether its record is known to be damaged.
    pub(super) fn is_damaged(self) -> bool {
        self.mark & DAMAGED != 0
    }

    /// Notes that its record is damaged.
    pub(super) fn mark_damaged(&mut self) {
        self.mark |= DAMAGED;
    }

    /// Whether it stands for a key of which nothing is known but its token.
    pub(super) fn is_lost(self) -> bool {
        self.place == Place::lost()
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { buckets: BTreeMap::from([(0, Vec::new())]), entries: 0 }
    }
}

impl Index {
    /// The index of these entries, sorted by token.
    pub(super) fn from_sorted(entries: &[Entry]) -> Self {
        let mut index = Self { buckets: BTreeMap::new(), entries: entries.len() };
        let mut rest = entries;
        let mut lowest = 0;
        while !rest.is_empty() {
            let cut = token_boundary(rest, BUCKET_ENTRIES_BUILT.min(rest.len()));
            let (bucket, others) = rest.split_at(cut);
            index.buckets.insert(lowest, bucket.to_vec());
            lowest = others.first().map_or(0, |entry| entry.token.0);
            rest = others;
        }
        if index.buckets.is_empty() {
            index.buckets.insert(0, Vec::new());
        }
        index
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// All entries of a token.
    pub(super) fn find(&self, token: Token) -> &[Entry] {
        let (_, bucket) = self
            .buckets
            .range(..=token.0)
            .next_back()
            .expect("one bucket begins at the lowest token");
        &bucket[run_of(bucket, token)]
    }

    /// Puts an entry in place of the one of the same key, or of a lost one of that token. Returns
    /// what it replaced. O(log n).
    pub(super) fn put(&mut self, entry: Entry) -> Option<Entry> {
        let (&lowest, bucket) = self
            .buckets
            .range_mut(..=entry.token.0)
            .next_back()
            .expect("one bucket begins at the lowest token");
        let run = run_of(bucket, entry.token);
        let same = |old: &Entry| old.mark() == entry.mark() && !old.is_lost();
        let found = bucket[run.clone()]
            .iter()
            .position(same)
            .or_else(|| bucket[run.clone()].iter().position(|old| old.is_lost()));
        if let Some(position) = found {
            return Some(std::mem::replace(&mut bucket[run.start + position], entry));
        }
        if bucket.len() == bucket.capacity() {
            bucket.reserve_exact(BUCKET_GROWTH);
        }
        bucket.insert(run.end, entry);
        self.entries += 1;
        if bucket.len() > BUCKET_ENTRIES_MAX {
            self.split(lowest);
        }
        None
    }

    /// Changes the entry of `token` at `place`, if there still is one. Returns whether there was.
    pub(super) fn change(
        &mut self,
        token: Token,
        place: Place,
        change: impl FnOnce(&mut Entry),
    ) -> bool {
        let (_, bucket) = self
            .buckets
            .range_mut(..=token.0)
            .next_back()
            .expect("one bucket begins at the lowest token");
        let run = run_of(bucket, token);
        let found = bucket[run].iter_mut().find(|entry| entry.place == place);
        found.map(change).is_some()
    }

    /// Changes entries, wherever they are; `change` says of each whether it did. Returns how many
    /// it changed.
    pub(super) fn change_all(&mut self, mut change: impl FnMut(&mut Entry) -> bool) -> usize {
        self.buckets.values_mut().flatten().filter_map(|entry| change(entry).then_some(())).count()
    }

    /// Removes the entry of `token` at `place`, if there still is one.
    pub(super) fn remove(&mut self, token: Token, place: Place) -> Option<Entry> {
        let (&lowest, bucket) = self
            .buckets
            .range_mut(..=token.0)
            .next_back()
            .expect("one bucket begins at the lowest token");
        let run = run_of(bucket, token);
        let position = bucket[run.clone()].iter().position(|entry| entry.place == place)?;
        let removed = bucket.remove(run.start + position);
        if bucket.capacity() >= bucket.len() + 2 * BUCKET_GROWTH {
            bucket.shrink_to(bucket.len() + BUCKET_GROWTH);
        }
        self.entries -= 1;
        if bucket.len() < BUCKET_ENTRIES_MIN {
            self.join(lowest);
        }
        Some(removed)
    }

    /// Appends entries of `from..=to` in token order: at most `max`, but never a part of those
    /// of one token.
    pub(super) fn page(&self, from: Token, to: Token, max: usize, out: &mut Vec<IndexEntry>) {
        let first = self.buckets.range(..=from.0).next_back().map_or(0, |(&lowest, _)| lowest);
        let end = out.len() + max;
        let entries = self
            .buckets
            .range(first..)
            .flat_map(|(_, bucket)| bucket)
            .skip_while(|entry| entry.token < from)
            .take_while(|entry| entry.token <= to);
        for entry in entries {
            let starts_token = out.last().is_none_or(|last| last.token != entry.token);
            if out.len() >= end && starts_token {
                return;
            }
            out.push(IndexEntry { token: entry.token, place: entry.place.0 });
        }
    }

    /// Bytes of memory, by the number of entries alone.
    pub(super) fn about_bytes(&self) -> usize {
        self.entries * ABOUT_BYTES
    }

    /// Bytes of memory that the entries and their buckets take.
    #[cfg(test)]
    fn memory_bytes(&self) -> usize {
        // Lowest token and vector of a bucket; a B-tree node is at least half full, 2/3 on average.
        let slot = (size_of::<u64>() + size_of::<Vec<Entry>>()) * 3 / 2;
        self.buckets.values().map(|bucket| slot + bucket.capacity() * size_of::<Entry>()).sum()
    }

    fn split(&mut self, lowest: u64) {
        let bucket = self.buckets.get_mut(&lowest).expect("the caller found this bucket");
        let cut = token_boundary(bucket, bucket.len() / 2);
        if cut == bucket.len() {
            return;
        }
        let mut upper = Vec::with_capacity((bucket.len() - cut).next_multiple_of(BUCKET_GROWTH));
        upper.extend(bucket.drain(cut..));
        bucket.shrink_to(bucket.len().next_multiple_of(BUCKET_GROWTH));
        let upper_lowest = upper.first().expect("the cut lies within the bucket").token.0;
        self.buckets.insert(upper_lowest, upper);
    }

    /// Joins a bucket with the next one if both fit one with room to grow.
    fn join(&mut self, lowest: u64) {
        let Some(bucket) = self.buckets.get(&lowest) else { return };
        let next = self.buckets.range(lowest + 1..).next();
        let Some((&next_lowest, next)) = next else { return };
        if bucket.len() + next.len() > BUCKET_ENTRIES_BUILT {
            return;
        }
        let next = self.buckets.remove(&next_lowest).expect("it was found just now");
        let bucket = self.buckets.get_mut(&lowest).expect("it was found just now");
        bucket.reserve_exact(next.len().next_multiple_of(BUCKET_GROWTH));
        bucket.extend(next);
    }
}

/// Where the entries of a token lie in a bucket; an empty range where they would.
fn run_of(bucket: &[Entry], token: Token) -> Range<usize> {
    let start = start_of(bucket, token);
    let length = bucket[start..].iter().take_while(|entry| entry.token == token).count();
    start..start + length
}

/// The first position whose token is not below `token`.
///
/// Tokens are spread evenly, so a guess between the first and the last one is at most a few places
/// off, and the walk from there stays within a cache line or two; halving would touch five.
fn start_of(bucket: &[Entry], token: Token) -> usize {
    let (Some(first), Some(last)) = (bucket.first(), bucket.last()) else { return 0 };
    if token <= first.token {
        return 0;
    }
    if token > last.token {
        return bucket.len();
    }
    let mut at = guess(token.0 - first.token.0, last.token.0 - first.token.0, bucket.len() - 1);
    let mut steps = 0;
    while bucket[at].token >= token {
        at -= 1;
        steps += 1;
        if steps == WALK_MAX {
            return bucket[..=at].partition_point(|entry| entry.token < token);
        }
    }
    while bucket[at].token < token {
        at += 1;
        steps += 1;
        if steps == WALK_MAX {
            return at + bucket[at..].partition_point(|entry| entry.token < token);
        }
    }
    at
}

/// `count * part / whole` for `0 < part <= whole`, about: less than `count` places off.
fn guess(part: u64, whole: u64, count: usize) -> usize {
    // Divided by a power of two, so that the product fits.
    let shift = 32_u32.saturating_sub(whole.leading_zeros());
    let places = u64::try_from(count).unwrap_or(u64::from(u32::MAX)).min(u64::from(u32::MAX));
    let place = (part >> shift) * places / (whole >> shift).max(1);
    usize::try_from(place).map_or(count, |place| place.min(count))
}

/// The first position at or after `wanted` at which a token begins; or else the last one before
/// it; or else the length.
fn token_boundary(entries: &[Entry], wanted: usize) -> usize {
    let begins = |&at: &usize| at == entries.len() || entries[at - 1].token != entries[at].token;
    let after = (wanted.max(1)..=entries.len()).find(begins).unwrap_or(entries.len());
    if after < entries.len() || wanted == entries.len() {
        return after;
    }
    (1..wanted).rev().find(begins).unwrap_or(entries.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(token: u64, mark: u64) -> Entry {
        Entry::new(Token(token), mark << 2, Place::pending(token ^ mark), true)
    }

    /// Numbers that are spread and the same in every run.
    fn spread(number: u64) -> u64 {
        number
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(31)
            .wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn check(index: &Index) {
        let mut total = 0;
        let mut bounds = index.buckets.keys().skip(1).copied().chain([u64::MAX]);
        for (&lowest, bucket) in &index.buckets {
            let bound = bounds.next().expect("a bound per bucket");
            assert!(bucket.is_sorted_by_key(|entry| entry.token));
            assert!(bucket.iter().all(|entry| entry.token.0 >= lowest));
            assert!(bucket.iter().all(|entry| entry.token.0 < bound || bound == u64::MAX));
            total += bucket.len();
        }
        assert_eq!(total, index.len());
    }

    #[test]
    fn an_index_behaves_like_a_sorted_map() {
        let mut index = Index::default();
        let mut model = BTreeMap::new();
        for step in 0..20_000_u64 {
            let token = spread(step) % 700;
            let mark = spread(step) / 700 % 3;
            let key = (token, mark << 2);
            let place = Place::pending(step);
            if spread(step ^ 0xff).is_multiple_of(3) {
                let expected = model.remove(&key);
                let old = expected.unwrap_or(Place::pending(u64::MAX));
                assert_eq!(index.remove(Token(token), old).map(|entry| entry.place), expected);
            } else {
                let old = index.put(Entry::new(Token(token), mark << 2, place, true));
                assert_eq!(old.map(|entry| entry.place), model.insert(key, place));
            }
        }
        check(&index);
        let mut found = Vec::new();
        index.page(Token(0), Token::MAX, usize::MAX / 2, &mut found);
        let mut expected: Vec<_> = model.iter().map(|(key, place)| (key.0, place.0)).collect();
        let mut found: Vec<_> = found.iter().map(|entry| (entry.token.0, entry.place)).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_search_finds_where_a_token_begins_however_tokens_are_spread() {
        let even = |index: u64| index * (u64::MAX / 64);
        let close = |index: u64| u64::MAX / 2 + index / 3;
        let skewed = |index: u64| 1_u64.rotate_left(u32::try_from(index).unwrap()) - 1;
        for tokens in [even as fn(u64) -> u64, close, skewed] {
            for count in [0, 1, 2, 3, 17, 64] {
                let bucket: Vec<Entry> = (0..count).map(|index| entry(tokens(index), 1)).collect();
                let near =
                    |entry: &Entry| [-1, 0, 1].map(|by| entry.token.0.wrapping_add_signed(by));
                for token in bucket.iter().flat_map(near).chain([0, 1, u64::MAX / 3, u64::MAX]) {
                    let expected = bucket.partition_point(|entry| entry.token.0 < token);
                    assert_eq!(start_of(&bucket, Token(token)), expected, "{token} of {count}");
                }
            }
        }
    }

    #[test]
    fn a_key_takes_about_28_bytes() {
        let mut index = Index::default();
        for number in 0..200_000 {
            index.put(entry(spread(number), number));
        }
        check(&index);
        let per_key = index.memory_bytes() / index.len();
        assert!(per_key <= 28, "{per_key} bytes a key");
        let mut entries: Vec<Entry> = index.buckets.values().flatten().copied().collect();
        entries.sort_unstable_by_key(|entry| entry.token);
        let built = Index::from_sorted(&entries);
        check(&built);
        assert!(built.memory_bytes() / built.len() <= 28);
    }

    #[test]
    fn keys_of_one_token_stay_together_even_when_there_are_many() {
        let mut index = Index::default();
        for mark in 0..200 {
            index.put(entry(7, mark));
            index.put(entry(mark * 1_000, mark));
        }
        check(&index);
        assert_eq!(index.find(Token(7)).len(), 200);
        let mut page = Vec::new();
        index.page(Token(1), Token::MAX, 5, &mut page);
        assert_eq!(page.len(), 200);
        page.clear();
        index.page(Token(8), Token(3_000), 2, &mut page);
        let tokens: Vec<u64> = page.iter().map(|entry| entry.token.0).collect();
        assert_eq!(tokens, [1_000, 2_000]);
    }

    #[test]
    fn a_put_replaces_a_lost_entry_of_its_token() {
        let mut index = Index::default();
        index.put(Entry::lost(Token(5)));
        assert!(index.find(Token(5))[0].is_damaged());
        assert!(index.put(entry(5, 1)).is_some_and(Entry::is_lost));
        assert_eq!(index.len(), 1);
    }
}
