//! Keys and values as they come from the command line, from files and from stdin.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::failure::Failure;
use super::text;
use crate::api::{Expiry, TTL_WORDS};
use crate::limits;

/// The bytes of an argument, decoded if the user says that it is base64.
pub(crate) fn bytes(argument: &OsStr, base64: bool) -> Result<Vec<u8>, Failure> {
    if !base64 {
        return Ok(argument.as_bytes().to_vec());
    }
    let text = argument.to_str().unwrap_or("\u{fffd}");
    text::from_base64(text)
        .map_err(|why| Failure::Usage(format!("{}: {why}", text::printable(argument.as_bytes()))))
}

/// A life in seconds, as the protocol takes it.
pub(crate) fn seconds(text: &str) -> Result<String, String> {
    match Expiry::after_seconds(text) {
        Some(_) => Ok(String::from(text)),
        None => Err(format!("it must be {TTL_WORDS}")),
    }
}

/// The value of a write: from the argument, from stdin where that is `-`, or from a file.
pub(crate) fn value(
    argument: Option<&OsString>,
    file: Option<&PathBuf>,
    base64: bool,
) -> Result<Vec<u8>, Failure> {
    match (argument, file) {
        (Some(argument), None) if argument == "-" => read_bounded(std::io::stdin().lock(), "stdin"),
        (Some(argument), None) => bytes(argument, base64),
        (None, Some(path)) => {
            let name = path.display().to_string();
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::Usage(format!("cannot open {name}: {error}")))?;
            read_bounded(file, &name)
        }
        (None, None) | (Some(_), Some(_)) => {
            Err(Failure::Usage(String::from("give the value, or - for stdin, or --value-file")))
        }
    }
}

/// All that `source` holds. Nothing above the highest limit of any node is kept in memory.
fn read_bounded(source: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let max = limits::VALUE_BYTES_CEILING;
    let bound = u64::try_from(max).expect("the bound fits 64 bits") + 1;
    let mut bytes = Vec::new();
    source
        .take(bound)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Failed(format!("cannot read {name}: {error}")))?;
    if bytes.len() > max {
        return Err(Failure::Usage(format!(
            "{name} holds more than {max} bytes, the most that a value can have"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_taken_byte_by_byte_or_decoded() {
        let raw = OsStr::from_bytes(b"\xff/w==");
        assert_eq!(bytes(raw, false).unwrap(), b"\xff/w==");
        assert_eq!(bytes(OsStr::new("/w=="), true).unwrap(), b"\xff");
        assert_eq!(bytes(raw, true).unwrap_err().code(), 2);
    }

    #[test]
    fn a_life_is_a_number_of_seconds() {
        assert_eq!(seconds("1.5"), Ok(String::from("1.5")));
        assert!(seconds("1.5s").unwrap_err().contains("seconds"));
        assert!(seconds("0").is_err());
    }

    #[test]
    fn a_value_has_one_source_and_a_bound() {
        assert_eq!(value(None, None, false).unwrap_err().code(), 2);
        let endless = std::io::repeat(7);
        assert_eq!(read_bounded(endless, "it").unwrap_err().code(), 2);
        assert_eq!(read_bounded(&b"abc"[..], "it").unwrap(), b"abc");
    }
}
