//! A reply of a node: the fields of a JSON object, each kept as the text it came as, so that no
//! value and no number is changed by reading it.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::json;

/// The code of a read that found nothing.
const NOT_FOUND: &str = "not_found";

/// The fields of a reply, or of an object in one.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub struct Answer(BTreeMap<String, Box<RawValue>>);

impl Answer {
    /// The object as compact JSON, every value as it came, its fields in the order of their names.
    pub fn to_json(&self) -> String {
        let fields = self
            .0
            .iter()
            .map(|(name, raw)| format!("{}:{}", json::json_string(name), json::compact(raw.get())));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    }

    /// Whether the request was done.
    pub fn is_ok(&self) -> bool {
        self.claim("ok")
    }

    /// Whether it is the reply of a read that found no such key; it is no refusal.
    pub fn is_not_found(&self) -> bool {
        self.text("code").as_deref() == Some(NOT_FOUND)
    }

    /// Whether the field is `true`.
    pub fn claim(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|raw| raw.get() == "true")
    }

    /// The field as it came; `null` counts as missing.
    pub fn raw(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(AsRef::as_ref).filter(|raw| raw.get() != "null")
    }

    /// The field, where it is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The field, where it is a whole number of 64 bits, also one written as a string.
    pub fn number(&self, name: &str) -> Option<u64> {
        let raw = self.raw(name)?.get();
        raw.trim_matches('"').parse().ok()
    }

    /// The elements of the field, where it is an array.
    pub fn list(&self, name: &str) -> Option<Vec<Box<RawValue>>> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The objects in the field, where it is an array of objects.
    pub fn objects(&self, name: &str) -> Option<Vec<Self>> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    /// The key or value in the field, decoded if this object says that it is in base64.
    pub fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        self.raw(name).map(|raw| self.decoded(raw)).transpose()
    }

    /// A key or value of this object, decoded if the object says that it is in base64.
    pub fn decoded(&self, raw: &RawValue) -> Result<Vec<u8>, String> {
        let bytes = json::bytes_of(raw)?.unwrap_or_default();
        if self.text("encoding").as_deref() != Some("base64") {
            return Ok(bytes);
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
        json::from_base64(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn numbers_are_read_beyond_the_reach_of_floats() {
        let answer =
            answer(r#"{"ok":true,"next":18446744073709551615,"cursor":"9007199254740993"}"#);
        assert!(answer.is_ok());
        assert_eq!(answer.number("next"), Some(u64::MAX));
        assert_eq!(answer.number("cursor"), Some(9_007_199_254_740_993));
        assert_eq!(answer.number("ok"), None);
    }

    #[test]
    fn values_are_decoded_as_their_object_says() {
        let plain = answer(r#"{"key":"YQ==","value":{"n": 1.0},"none":null}"#);
        assert_eq!(plain.bytes("key").unwrap().unwrap(), b"YQ==");
        assert_eq!(plain.bytes("value").unwrap().unwrap(), b"{\"n\":1.0}");
        assert_eq!(plain.bytes("none"), Ok(None));
        let binary = answer(r#"{"key":"YQ==","value":"/w==","encoding":"base64"}"#);
        assert_eq!(binary.bytes("key").unwrap().unwrap(), b"a");
        assert_eq!(binary.bytes("value").unwrap().unwrap(), b"\xff");
        assert!(answer(r#"{"value":"?","encoding":"base64"}"#).bytes("value").is_err());
    }
}
