//! A request as one line of newline-JSON, and whether it may be repeated.
//!
//! Keys and values are bytes: they travel as strings where all of them are UTF-8, else in base64.

use std::fmt::Write as _;

use super::json;
use crate::api::{Level, RequestId};

/// A request: the name of its command, and its fields as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    text: String,
    kind: Kind,
    id: Option<RequestId>,
}

/// Whether a request may change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It changes nothing, so it may be repeated at will.
    Read,
    /// It is sent again only where it was certainly not applied, or where it has an id.
    Write,
}

impl Call {
    /// A request that changes nothing.
    pub fn read(command: &str) -> Self {
        Self::new(command, Kind::Read)
    }

    /// A request that may change something.
    pub fn write(command: &str) -> Self {
        Self::new(command, Kind::Write)
    }

    /// GET: the value that plain readers are shown.
    pub fn get(key: &[u8]) -> Self {
        Self::read("GET").bytes(&[("key", key)])
    }

    /// GET of every concurrent value, with the context that a write needs to supersede them.
    pub fn siblings(key: &[u8]) -> Self {
        Self::get(key).json("siblings", "true")
    }

    /// MGET: each key is read by itself.
    pub fn mget<K: AsRef<[u8]>>(keys: &[K]) -> Self {
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let plain = keys.iter().all(|key| is_text(key));
        let names: Vec<String> = keys.iter().map(|key| string(key, plain)).collect();
        Self::read("MGET").encoded(plain).json("keys", &format!("[{}]", names.join(",")))
    }

    /// SET.
    pub fn set(key: &[u8], value: &[u8]) -> Self {
        Self::write("SET").bytes(&[("key", key), ("value", value)])
    }

    /// DELETE.
    pub fn delete(key: &[u8]) -> Self {
        Self::write("DELETE").bytes(&[("key", key)])
    }

    /// `BULK_SET`: all of the keys and values, or none.
    pub fn bulk_set<K: AsRef<[u8]>, V: AsRef<[u8]>>(items: &[(K, V)]) -> Self {
        let plain =
            items.iter().all(|(key, value)| is_text(key.as_ref()) && is_text(value.as_ref()));
        let mut list = String::from("[");
        for (index, (key, value)) in items.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let (key, value) = (string(key.as_ref(), plain), string(value.as_ref(), plain));
            write!(list, "{comma}{{\"key\":{key},\"value\":{value}}}").expect(TAKES_TEXT);
        }
        list.push(']');
        Self::write("BULK_SET").encoded(plain).json("items", &list)
    }

    /// SCAN: a page of about `limit` keys from `cursor` on, in the order of the ring.
    pub fn scan(cursor: u64, limit: u64) -> Self {
        Self::read("SCAN").text("cursor", &cursor.to_string()).number("limit", limit)
    }

    fn new(command: &str, kind: Kind) -> Self {
        Self { text: format!("{{\"cmd\":\"{command}\""), kind, id: None }
    }

    /// Whether it may be repeated at will.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Under this id, which must be that of no other write: nodes carry it out once, however often
    /// it is sent.
    #[must_use]
    pub fn request_id(self, id: RequestId) -> Self {
        Self { id: Some(id), ..self.text("request_id", &id.to_string()) }
    }

    /// Its id, if it has one.
    pub fn id(&self) -> Option<RequestId> {
        self.id
    }

    /// With a field whose value is this text.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        self.json(name, &json::json_string(value))
    }

    /// With a field whose value is this number.
    #[must_use]
    pub fn number(self, name: &str, value: u64) -> Self {
        self.json(name, &value.to_string())
    }

    /// With a field whose value is this JSON text, which must be one line.
    #[must_use]
    pub fn json(mut self, name: &str, value: &str) -> Self {
        debug_assert!(!value.contains('\n'), "a request is one line");
        write!(self.text, ",\"{name}\":{value}").expect(TAKES_TEXT);
        self
    }

    /// With all the fields that are keys or values: in base64 if one of them is not text. A request
    /// takes them once, as one encoding holds for all of it.
    #[must_use]
    pub fn bytes(self, fields: &[(&str, &[u8])]) -> Self {
        let plain = fields.iter().all(|(_, bytes)| is_text(bytes));
        let call = self.encoded(plain);
        fields.iter().fold(call, |call, (name, bytes)| call.json(name, &string(bytes, plain)))
    }

    /// With the number of replicas that must take part, by its name.
    #[must_use]
    pub fn level(self, level: Level) -> Self {
        self.text("level", level.name())
    }

    /// With the number of replicas that must take part, in place of that of the level.
    #[must_use]
    pub fn replicas(self, number: u8) -> Self {
        let name = match self.kind {
            Kind::Read => "r",
            Kind::Write => "w",
        };
        self.number(name, u64::from(number))
    }

    /// The request as it is sent, with its newline.
    pub fn line(&self) -> String {
        format!("{}}}\n", self.text)
    }

    fn encoded(self, plain: bool) -> Self {
        if plain { self } else { self.text("encoding", "base64") }
    }
}

const TAKES_TEXT: &str = "a string takes any text";

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

fn string(bytes: &[u8], plain: bool) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if plain => json::json_string(text),
        Ok(_) | Err(_) => json::json_string(&json::base64(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_one_line_of_json_whatever_its_bytes() {
        let call =
            Call::write("SET").text("key", "a\n\"b\"").number("w", 2).json("siblings", "true");
        let line = "{\"cmd\":\"SET\",\"key\":\"a\\n\\\"b\\\"\",\"w\":2,\"siblings\":true}\n";
        assert_eq!(call.line(), line);
    }

    #[test]
    fn bytes_that_are_not_text_travel_in_base64() {
        assert_eq!(Call::get(b"k").line(), "{\"cmd\":\"GET\",\"key\":\"k\"}\n");
        let nul = "{\"cmd\":\"SET\",\"key\":\"k\",\"value\":\"a\\u0000\"}\n";
        assert_eq!(Call::set(b"k", b"a\0").line(), nul);
        let binary =
            "{\"cmd\":\"SET\",\"encoding\":\"base64\",\"key\":\"aw==\",\"value\":\"/w==\"}\n";
        assert_eq!(Call::set(b"k", b"\xff").line(), binary);
    }

    #[test]
    fn one_binary_item_puts_the_whole_batch_in_base64() {
        assert_eq!(
            Call::bulk_set(&[("a", "{\"n\":1}"), ("b", "")]).line(),
            concat!(
                r#"{"cmd":"BULK_SET","items":[{"key":"a","value":"{\"n\":1}"},"#,
                r#"{"key":"b","value":""}]}"#,
                "\n"
            )
        );
        assert_eq!(
            Call::bulk_set(&[("a", &b"b"[..]), ("b", b"\xff")]).line(),
            concat!(
                r#"{"cmd":"BULK_SET","encoding":"base64","items":[{"key":"YQ==","value":"Yg=="},"#,
                r#"{"key":"Yg==","value":"/w=="}]}"#,
                "\n"
            )
        );
    }

    #[test]
    fn replicas_have_the_name_that_fits_the_request() {
        let read = Call::get(b"k").level(Level::All).replicas(2).line();
        assert_eq!(read, "{\"cmd\":\"GET\",\"key\":\"k\",\"level\":\"all\",\"r\":2}\n");
        assert!(Call::delete(b"k").replicas(1).line().ends_with(",\"w\":1}\n"));
    }
}
