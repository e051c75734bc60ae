//! The fields of a JSON request: which exist, each at most once, and what type each has.
//!
//! Unknown fields are ignored: clients send fields of their own, and an answer that lacks what a
//! newer field asks for is how they learn that this node does not know it. Known fields of later
//! versions are refused by name instead, because ignoring one (`ttl`) would do something else than
//! was asked for.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::text;
use crate::api::{Expiry, Fault, Level, RequestId, TTL_WORDS};
use crate::hash::Token;
use crate::limits::TIMEOUT_MS_MAX;
use crate::wire::check::{self, from_base64};

/// Every field that a request may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Cmd,
    Key,
    Value,
    Items,
    Keys,
    Debug,
    Context,
    Siblings,
    R,
    W,
    Level,
    Require,
    Encoding,
    RequestId,
    TimeoutMs,
    Limit,
    Cursor,
    Prefix,
    Pattern,
    Values,
    Bucket,
    Ttl,
    IfMatch,
    IfAbsent,
    Session,
    Token,
    User,
    Previous,
}

/// Fields in the order of their slots, with their names.
const FIELDS: [(Field, &str); 28] = [
    (Field::Cmd, "cmd"),
    (Field::Key, "key"),
    (Field::Value, "value"),
    (Field::Items, "items"),
    (Field::Keys, "keys"),
    (Field::Debug, "debug"),
    (Field::Context, "context"),
    (Field::Siblings, "siblings"),
    (Field::R, "r"),
    (Field::W, "w"),
    (Field::Level, "level"),
    (Field::Require, "require"),
    (Field::Encoding, "encoding"),
    (Field::RequestId, "request_id"),
    (Field::TimeoutMs, "timeout_ms"),
    (Field::Limit, "limit"),
    (Field::Cursor, "cursor"),
    (Field::Prefix, "prefix"),
    (Field::Pattern, "pattern"),
    (Field::Values, "values"),
    (Field::Bucket, "bucket"),
    (Field::Ttl, "ttl"),
    (Field::IfMatch, "if_match"),
    (Field::IfAbsent, "if_absent"),
    (Field::Session, "session"),
    (Field::Token, "token"),
    (Field::User, "user"),
    (Field::Previous, "previous"),
];

/// The fields of one object, not yet looked into.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>([Option<&'a RawValue>; FIELDS.len()]);

impl<'a> Fields<'a> {
    /// The raw text of a field; `null` counts as missing.
    pub(super) fn raw(&self, field: Field) -> Option<&'a str> {
        let slot = FIELDS.iter().position(|(known, _)| *known == field)?;
        let text = self.0.get(slot)?.as_ref()?.get();
        (text != "null").then_some(text)
    }

    /// The characters of a string field.
    pub(super) fn text(&self, field: Field) -> Result<Option<Cow<'a, str>>, Fault> {
        self.typed::<Text<'a>>(field, "a string").map(|text| text.map(|text| text.0))
    }

    /// A flag; missing = false.
    pub(super) fn flag(&self, field: Field) -> Result<bool, Fault> {
        self.typed(field, "true or false").map(Option::unwrap_or_default)
    }

    /// A number from 0 to 255.
    pub(super) fn small(&self, field: Field) -> Result<Option<u8>, Fault> {
        self.typed(field, "a number from 0 to 255")
    }

    /// A number of things.
    pub(super) fn count(&self, field: Field) -> Result<Option<u32>, Fault> {
        self.typed(field, "a number from 0 to 4294967295")
    }

    /// A list whose elements are not yet looked into; `None`: missing or not a list.
    pub(super) fn list(&self, field: Field) -> Option<Vec<&'a RawValue>> {
        self.raw(field).and_then(|raw| serde_json::from_str(raw).ok())
    }

    /// The level of this request, if it names one.
    pub(super) fn level(&self) -> Result<Option<Level>, Fault> {
        let Some(name) = self.text(Field::Level)? else { return Ok(None) };
        check::level(&name).map(Some)
    }

    /// Milliseconds that the request may take, if it says.
    pub(super) fn timeout_ms(&self) -> Result<Option<u32>, Fault> {
        let Some(ms) = self.count(Field::TimeoutMs)? else { return Ok(None) };
        if ms == 0 || ms > TIMEOUT_MS_MAX {
            return Err(bad(format!("timeout_ms must lie between 1 and {TIMEOUT_MS_MAX}")));
        }
        Ok(Some(ms))
    }

    /// When a new value ends, if the request says: `ttl`, seconds with at most three decimals.
    pub(super) fn expiry(&self) -> Result<Expiry, Fault> {
        let Some(raw) = self.raw(Field::Ttl) else { return Ok(Expiry::Never) };
        Expiry::after_seconds(raw).ok_or_else(|| bad(format!("ttl must be {TTL_WORDS}")))
    }

    /// The id of this request, if the client gave one.
    pub(super) fn request_id(&self) -> Result<Option<RequestId>, Fault> {
        let Some(text) = self.text(Field::RequestId)? else { return Ok(None) };
        let id = RequestId::from_text(&text).ok_or_else(|| {
            bad("request_id must be 32 hexadecimal digits, not all zero".to_string())
        })?;
        Ok(Some(id))
    }

    /// The context token, if there is one. The empty one says "I have seen nothing".
    pub(super) fn context(&self) -> Result<Option<Bytes>, Fault> {
        let Some(text) = self.text(Field::Context)? else { return Ok(None) };
        check::context(text.as_bytes()).map(Some)
    }

    /// Whether keys and values are base64 in the request and its reply.
    pub(super) fn is_base64(&self) -> Result<bool, Fault> {
        let Some(name) = self.text(Field::Encoding)? else { return Ok(false) };
        match name.as_ref() {
            "base64" => Ok(true),
            "utf8" | "utf-8" => Ok(false),
            _ => Err(bad(format!("{name:?} is no encoding; base64 and utf8 are"))),
        }
    }

    /// Where a scan goes on: a number, or its digits as a string, as replies carry it.
    pub(super) fn cursor(&self) -> Result<Token, Fault> {
        let Some(raw) = self.raw(Field::Cursor) else { return Ok(Token(0)) };
        raw.trim_matches('"').parse().map(Token).map_err(|_not_a_number| Fault::BadCursor {
            text: "a cursor is the number that the page before it returned, or 0".to_string(),
        })
    }

    fn typed<T: Deserialize<'a>>(&self, field: Field, what: &str) -> Result<Option<T>, Fault> {
        let Some(raw) = self.raw(field) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|_other_type| {
            let name = FIELDS.iter().find(|(known, _)| *known == field).map_or("", |known| known.1);
            bad(format!("{name} must be {what}"))
        })
    }
}

/// The bytes of a key or value: base64 decoded, or as [`text::bytes_of`] says.
pub(super) fn bytes_of(line: &Bytes, raw: &str, base64: bool) -> Result<Bytes, Fault> {
    let bytes = text::bytes_of(line, raw).ok_or_else(super::request::invalid_json)?;
    if !base64 {
        return Ok(bytes);
    }
    if !raw.starts_with('"') {
        return Err(bad("with encoding base64, keys and values are strings".to_string()));
    }
    from_base64(&bytes).ok_or_else(|| bad("a key or value is not base64 as it says".to_string()))
}

pub(super) fn bad(text: String) -> Fault {
    Fault::BadRequest { text }
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_string())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// What [`Fields`] says about a field that is there twice; the parser looks for it.
pub(super) const TWICE: &str = "one field is there twice";

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                let mut unknown = BTreeSet::new();
                while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
                    let value: &RawValue = map.next_value()?;
                    let slot = FIELDS.iter().position(|(_, known)| *known == name);
                    let fresh = match slot.and_then(|slot| fields.0.get_mut(slot)) {
                        Some(place) => place.replace(value).is_none(),
                        None => unknown.insert(name),
                    };
                    if !fresh {
                        return Err(A::Error::custom(TWICE));
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}
