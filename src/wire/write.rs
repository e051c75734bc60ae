//! Small pieces that every protocol writes: numbers in decimal, without allocating.

use bytes::{BufMut, BytesMut};

/// Appends a number in decimal.
pub(super) fn put_decimal(out: &mut BytesMut, mut number: u64) {
    const DIGITS: usize = 20;
    let mut digits = [b'0'; DIGITS];
    let mut start = DIGITS;
    for place in digits.iter_mut().rev() {
        let digit = u8::try_from(number % 10).expect("a digit is below 10");
        *place = b'0' + digit;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    out.put_slice(digits.get(start..).expect("a number has at most 20 digits"));
}

/// Appends a length in decimal.
pub(super) fn put_length(out: &mut BytesMut, length: usize) {
    put_decimal(out, u64::try_from(length).expect("a length fits 64 bits"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX - 1, u64::MAX] {
            let mut out = BytesMut::new();
            put_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
