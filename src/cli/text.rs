//! Bytes and times as people see them: escapes for tables, dates. How JSON sees bytes is the
//! client's business and told there.

use std::fmt::Write;

pub(crate) use crate::client::json::{base64, bytes_of, compact, from_base64, json_string};

/// `bytes` on one line: control characters and what is not UTF-8 appear as escapes.
pub(crate) fn printable(bytes: &[u8]) -> String {
    escaped(bytes, |character| character == '\\' || character.is_control())
}

/// As [`printable`], but line ends and tabs stay: nothing else in a value moves a terminal.
pub(crate) fn printable_lines(bytes: &[u8]) -> String {
    escaped(bytes, |character| character.is_control() && character != '\n' && character != '\t')
}

fn escaped(bytes: &[u8], is_escaped: impl Fn(char) -> bool) -> String {
    let mut line = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_escaped(character) {
                line.extend(character.escape_default());
            } else {
                line.push(character);
            }
        }
        for byte in chunk.invalid() {
            write!(line, "\\x{byte:02x}").expect("a string takes any text");
        }
    }
    line
}

/// [`printable`], cut to `columns` characters with the length of the whole behind it.
pub(crate) fn printable_cut(bytes: &[u8], columns: usize) -> String {
    // An escape only grows, so no more than this many bytes can be shown.
    let shown = bytes.get(..columns.saturating_mul(4)).unwrap_or(bytes);
    let line = printable(shown);
    if shown.len() == bytes.len() && line.chars().count() <= columns {
        return line;
    }
    let cut: String = line.chars().take(columns).collect();
    format!("{cut}... ({} bytes)", bytes.len())
}

/// A time in milliseconds since the Unix epoch as a date of the Gregorian calendar, in UTC.
pub(crate) fn utc(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    if days > DAYS_MAX {
        return format!("{unix_ms} ms");
    }
    let mut days_left = days;
    let mut year = 1970;
    while days_left >= days_of(year) {
        days_left -= days_of(year);
        year += 1;
    }
    let february = days_of(year) - 337;
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days_left < length {
            break;
        }
        days_left -= length;
        month += 1;
    }
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    let day = days_left + 1;
    let ms = ms % 1_000;
    format!("{year}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

const DAY_MS: u64 = 24 * 3_600_000;
/// The last day of a timestamp of 48 bits; what lies behind it is no time of a node.
const DAYS_MAX: u64 = (1 << 48) / DAY_MS;

fn days_of(year: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if is_leap { 366 } else { 365 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_broken_text_are_shown_as_escapes() {
        assert_eq!(printable("a\tb\0\\ \u{e9}".as_bytes()), "a\\tb\\u{0}\\\\ \u{e9}");
        assert_eq!(printable(b"\xff\xfeok\xc3"), "\\xff\\xfeok\\xc3");
    }

    #[test]
    fn a_long_value_is_cut_with_its_length_behind_it() {
        assert_eq!(printable_cut(b"12345", 5), "12345");
        assert_eq!(printable_cut(b"123456", 5), "12345... (6 bytes)");
        assert_eq!(printable_cut(&[b'x'; 1000], 3), "xxx... (1000 bytes)");
    }

    #[test]
    fn times_are_dates_also_around_leap_days() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000Z");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59.999Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000Z");
        assert_eq!(utc(951_868_800_000), "2000-03-01 00:00:00.000Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00.000Z");
        assert_eq!(utc(1_735_689_599_001), "2024-12-31 23:59:59.001Z");
        assert_eq!(utc((1 << 48) - 1), "10889-08-02 05:31:50.655Z");
        assert_eq!(utc(u64::MAX), "18446744073709551615 ms");
    }
}
