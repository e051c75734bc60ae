//! The arguments of one command: slices of the bytes that it came in.

use std::ops::Range;

use bytes::Bytes;

/// A command name and its arguments. Argument 0 is the name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<'a> {
    /// The whole command.
    pub(super) frame: &'a Bytes,
    /// Where in it each argument lies.
    pub(super) marks: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    pub(super) fn len(self) -> usize {
        self.marks.len()
    }

    /// The bytes of an argument; empty where there is none.
    pub(super) fn at(self, index: usize) -> &'a [u8] {
        let mark = self.marks.get(index).cloned().unwrap_or_default();
        self.frame.get(mark).unwrap_or_default()
    }

    /// The same, shared instead of borrowed.
    pub(super) fn bytes(self, index: usize) -> Bytes {
        self.frame.slice_ref(self.at(index))
    }

    /// The arguments from `index` on, shared.
    pub(super) fn bytes_from(self, index: usize) -> impl ExactSizeIterator<Item = Bytes> + 'a {
        (index..self.len().max(index)).map(move |index| self.bytes(index))
    }

    /// Whether an argument is this word, in any case.
    pub(super) fn is(self, index: usize, word: &str) -> bool {
        self.at(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// An argument as a number.
    pub(super) fn number<T: std::str::FromStr>(self, index: usize) -> Option<T> {
        std::str::from_utf8(self.at(index)).ok()?.parse().ok()
    }

    /// An argument as people may read it, at most `max` bytes of it.
    pub(super) fn shown(self, index: usize, max: usize) -> String {
        let bytes = self.at(index);
        bytes.get(..max).unwrap_or(bytes).escape_ascii().to_string()
    }
}
