//! Primitives of the hand layout: little-endian numbers, LEB128 lengths, slices of the frame.

use bytes::{BufMut, Bytes, BytesMut};

/// Reads a payload from its start. `None` everywhere: it ends too early or is not canonical.
pub(super) struct Reader {
    whole: Bytes,
    at: usize,
}

impl Reader {
    pub(super) fn new(whole: Bytes) -> Self {
        Self { whole, at: 0 }
    }

    pub(super) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.whole.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*bytes)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.fixed().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A LEB128 number in its shortest form.
    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if part.leading_zeros() < shift && part != 0 {
                return None;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return (shift == 0 || part != 0).then_some(value);
            }
        }
        None
    }

    /// Bytes behind their length, as a slice of the frame.
    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length)?;
        self.whole.get(self.at..end)?;
        let bytes = self.whole.slice(self.at..end);
        self.at = end;
        Some(bytes)
    }

    /// Elements behind their number. Memory grows with what is there, not with the number.
    pub(super) fn list<T>(&mut self, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.varint()?).ok()?;
        // No element is shorter than a byte.
        let mut items = Vec::with_capacity(count.min(self.left()).min(64));
        for _ in 0..count {
            items.push(item(self)?);
        }
        Some(items)
    }

    /// What is left, as a slice of the frame.
    pub(super) fn rest(&mut self) -> Bytes {
        let rest = self.whole.slice(self.at..);
        self.at = self.whole.len();
        rest
    }

    pub(super) fn left(&self) -> usize {
        self.whole.len() - self.at
    }
}

/// Appends a LEB128 number.
pub(super) fn put_varint(out: &mut BytesMut, mut number: u64) {
    loop {
        let part = u8::try_from(number & 0x7f).expect("seven bits fit a byte");
        number >>= 7;
        if number == 0 {
            return out.put_u8(part);
        }
        out.put_u8(part | 0x80);
    }
}

/// Appends a length.
pub(super) fn put_length(out: &mut BytesMut, length: usize) {
    put_varint(out, u64::try_from(length).expect("a length fits 64 bits"));
}

/// Appends bytes behind their length.
pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

/// Appends elements behind their number.
pub(super) fn put_list<T>(out: &mut BytesMut, items: &[T], put: impl Fn(&mut BytesMut, &T)) {
    put_length(out, items.len());
    for item in items {
        put(out, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_only_the_shortest_form_is_read() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = BytesMut::new();
            put_varint(&mut out, number);
            let mut reader = Reader::new(out.freeze());
            assert_eq!(reader.varint(), Some(number));
            assert_eq!(reader.left(), 0);
        }
        for bad in [&[0x80, 0][..], &[0xff; 10], &[0x80], &[]] {
            assert_eq!(Reader::new(Bytes::copy_from_slice(bad)).varint(), None, "{bad:?}");
        }
    }

    #[test]
    fn a_length_beyond_the_frame_is_refused() {
        let mut out = BytesMut::new();
        put_varint(&mut out, u64::MAX);
        assert_eq!(Reader::new(out.clone().freeze()).bytes(), None);
        assert_eq!(Reader::new(out.freeze()).list(Reader::u64), None);
    }
}
