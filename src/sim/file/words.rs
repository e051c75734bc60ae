//! The small words of a file: times, chances and names, to and from text, without a float.

/// The longest time that a file may name: a day.
pub(super) const TIME_US_MAX: u64 = 24 * 3_600_000_000;
/// The farthest that a wall clock may jump, in milliseconds: ten years.
pub(super) const JUMP_MS_MAX: u64 = 10 * 365 * 24 * 3_600_000;

/// Units of time and their microseconds; the first that fits is written.
const UNITS: [(&str, u64); 5] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("min", 60_000_000), ("h", 3_600_000_000)];
/// A chance of one.
const CERTAIN: u32 = 1_000_000;

/// The microseconds of a time such as `5s`, `1.5ms` or `2min`, up to `max`.
pub(super) fn time_us(text: &str, max: u64) -> Result<u64, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = (text[..split].trim(), &text[split..]);
    if number.starts_with('-') {
        return Err(format!("a time cannot be negative, as {text} is"));
    }
    let Some((_, unit_us)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("{text:?} is no time; write a number and us, ms, s, min or h"));
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(format!("{text:?} is no time; write it as \"5s\" or \"1.5ms\""));
    }
    let too_long = || format!("{text} is longer than {}", time_text(max));
    let whole: u64 = whole.parse().map_err(|_overflow| too_long())?;
    let fraction = fraction.trim_end_matches('0');
    let too_fine = || format!("{text} is finer than a microsecond");
    let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).unwrap_or(u32::MAX));
    let scale = scale.filter(|_| fraction.len() < 11).ok_or_else(too_fine)?;
    let parts: u64 = if fraction.is_empty() { Ok(0) } else { fraction.parse() }
        .map_err(|_overflow| too_fine())?;
    let parts_us = u128::from(parts) * u128::from(*unit_us);
    if !parts_us.is_multiple_of(u128::from(scale)) {
        return Err(too_fine());
    }
    let us = u128::from(whole) * u128::from(*unit_us) + parts_us / u128::from(scale);
    u64::try_from(us).ok().filter(|us| *us <= max).ok_or_else(too_long)
}

/// The milliseconds of a jump such as `10min` or `-1h`.
pub(super) fn jump_ms(text: &str) -> Result<i64, String> {
    let size = text.strip_prefix('-').unwrap_or(text);
    let us = time_us(size, JUMP_MS_MAX * 1_000)?;
    if us % 1_000 != 0 {
        return Err(format!("{text} is finer than a millisecond"));
    }
    let ms = i64::try_from(us / 1_000).expect("the longest jump fits");
    Ok(if size == text { ms } else { -ms })
}

/// A time as people write it: exact, with the largest unit that leaves no fraction, or seconds.
pub(super) fn time_text(us: u64) -> String {
    match us {
        us if us.is_multiple_of(1_000_000) => format!("{}s", us / 1_000_000),
        us if us.is_multiple_of(1_000) && us < 1_000_000 => format!("{}ms", us / 1_000),
        us if us < 1_000 => format!("{us}us"),
        us => {
            let parts = format!("{:06}", us % 1_000_000);
            format!("{}.{}s", us / 1_000_000, parts.trim_end_matches('0'))
        }
    }
}

/// A jump as people write it.
pub(super) fn jump_text(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}", time_text(ms.unsigned_abs().saturating_mul(1_000)))
}

/// Chances in a million of a number from 0 to 1, such as `0.01`.
pub(super) fn chance(text: &str) -> Result<u32, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fraction = fraction.trim_end_matches('0');
    let wrong = || format!("{text} is no chance; write 0 to 1 with at most six digits, as 0.01");
    if fraction.len() > 6 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let parts: u32 = format!("{fraction:0<6}").parse().map_err(|_broken| wrong())?;
    match whole {
        "0" => Ok(parts),
        "1" if parts == 0 => Ok(CERTAIN),
        _ => Err(wrong()),
    }
}

/// A chance as a number from 0 to 1.
pub(super) fn chance_text(per_million: u32) -> String {
    let text = format!("{}.{:06}", per_million / CERTAIN, per_million % CERTAIN);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { String::from(short) }
}

/// `; did you mean ...?` with the nearest of the words, else all of them.
pub(super) fn hint(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|candidate| distance(word, candidate));
    match nearest {
        Some(nearest) if distance(word, nearest) <= word.len().max(3) / 3 => {
            format!("; did you mean `{nearest}`?")
        }
        Some(_) => format!("; known are {}", known.join(", ")),
        None => String::new(),
    }
}

/// Letters to add, drop or change until one word is the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, wanted) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Text as a TOML string. The escapes of JSON are escapes of TOML, which asks for one more.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact_and_impossible_ones_say_why() {
        let time = |text| time_us(text, TIME_US_MAX);
        assert_eq!(time("5s"), Ok(5_000_000));
        assert_eq!(time("1.5ms"), Ok(1_500));
        assert_eq!(time("2min"), Ok(120_000_000));
        assert_eq!(time("24h"), Ok(TIME_US_MAX));
        assert_eq!(time("0.000001s"), Ok(1));
        assert_eq!(time("3.50 s"), Ok(3_500_000));
        for (text, expected) in [
            ("-5s", "negative"),
            ("0.0000001s", "finer than a microsecond"),
            ("0.5us", "finer than a microsecond"),
            ("25h", "longer than 86400s"),
            ("99999999999999999999h", "longer than"),
            ("5", "no time"),
            ("5 parsec", "no time"),
            ("s", "no time"),
            ("1e3s", "no time"),
            ("1.s", "no time"),
            ("", "no time"),
        ] {
            let told = time(text).expect_err(text);
            assert!(told.contains(expected), "{text}: {told}");
        }
    }

    #[test]
    fn times_and_chances_are_read_as_they_were_written() {
        for us in [0, 1, 999, 1_000, 20_000, 999_999, 1_000_000, 1_500_000, 5_234_567, TIME_US_MAX]
        {
            assert_eq!(time_us(&time_text(us), TIME_US_MAX), Ok(us), "{}", time_text(us));
        }
        for ms in [0, 1, -1, 600_000, -3_600_000] {
            assert_eq!(jump_ms(&jump_text(ms)), Ok(ms), "{}", jump_text(ms));
        }
        for per_million in [0, 1, 10, 10_000, 300_000, 999_999, CERTAIN] {
            let text = chance_text(per_million);
            assert_eq!(chance(&text), Ok(per_million), "{text}");
        }
    }

    #[test]
    fn a_chance_is_0_to_1() {
        for text in ["1.1", "2", "-0.1", "0.0000001", "1e-3", "nan", "", ".5"] {
            assert!(chance(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_nearest_word_is_guessed_where_one_is_near() {
        let known = ["partition", "pause", "power_loss"];
        assert_eq!(hint("partion", &known), "; did you mean `partition`?");
        assert_eq!(hint("powerloss", &known), "; did you mean `power_loss`?");
        assert_eq!(hint("kill", &known), "; known are partition, pause, power_loss");
    }
}
