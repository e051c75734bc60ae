//! Bytes as newline-JSON carries them: strings, base64 where they are not UTF-8, and JSON text
//! without its white space. Nothing goes through a float, so numbers stay as they were written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

/// Base64 with padding (RFC 4648 section 4), as the protocol uses it.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of base64 text.
pub(crate) fn from_base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("not base64 ({error})"))
}

/// `text` as a JSON string, with its quotes.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is always valid JSON")
}

/// Valid JSON text without white space between its tokens; strings and numbers as they were.
pub(crate) fn compact(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut quoted = false;
    let mut escaped = false;
    for character in json.chars() {
        if quoted {
            quoted = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if character.is_ascii_whitespace() {
            continue;
        } else {
            quoted = character == '"';
        }
        text.push(character);
    }
    text
}

/// The bytes that a JSON value stands for as a key or value: a string is its text, anything else
/// its compact JSON text. `None` for `null`, which counts as missing.
pub(crate) fn bytes_of(value: &RawValue) -> Result<Option<Vec<u8>>, String> {
    let json = value.get().trim();
    if json == "null" {
        return Ok(None);
    }
    if !json.starts_with('"') {
        return Ok(Some(compact(json).into_bytes()));
    }
    serde_json::from_str::<String>(json)
        .map(|text| Some(text.into_bytes()))
        .map_err(|error| format!("a string that is not valid Unicode ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_compact(json: &str, expected: &str) {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        assert_eq!(compact(raw.get()), expected);
    }

    #[test]
    fn compact_text_keeps_numbers_and_strings_as_they_were_written() {
        check_compact(
            r#"{ "a" : [ 1.0 , -0e5, 12345678901234567890123 ] }"#,
            r#"{"a":[1.0,-0e5,12345678901234567890123]}"#,
        );
        check_compact(r#" "two  words \" \\" "#, r#""two  words \" \\""#);
        check_compact("[ \"a\\\\\" , \"b c\"\t,\r\n null ]", "[\"a\\\\\",\"b c\",null]");
    }

    #[test]
    fn a_value_that_is_no_string_is_its_compact_text_and_null_is_missing() {
        let of = |json: &str| bytes_of(&serde_json::from_str::<Box<RawValue>>(json).unwrap());
        assert_eq!(of(r#""\u0041b""#).unwrap().unwrap(), b"Ab");
        assert_eq!(of("{ \"a\": 1.50 }").unwrap().unwrap(), b"{\"a\":1.50}");
        assert_eq!(of("null"), Ok(None));
        assert!(of(r#""\ud800""#).is_err());
    }

    #[test]
    fn base64_comes_back_as_it_went_in() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_base64(&base64(&bytes)).unwrap(), bytes);
        assert!(from_base64("not base64!").is_err());
    }
}
