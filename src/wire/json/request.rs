//! One line of JSON to one call.

use std::borrow::Cow;

use bytes::Bytes;

use super::fields::{self, Field, Fields, bad};
use super::reply::{Answer, Body};
use super::text;
use crate::api::{BatchKind, Expiry, Fault, Op, Request, Role, Scan, Session, WriteContext};
use crate::hash::{BucketId, Key};
use crate::limits::{
    BATCH_KEYS_MAX, JSON_DEPTH_MAX, KEYS_LIMIT_DEFAULT, PAGE_KEYS_MAX, WRITE_TIMEOUT_MS,
};
use crate::time::Mono;
use crate::wire::call::{self, Call, Walk};
use crate::wire::check;
use crate::wire::renew::{Change, Renewal};

/// Commands that exist in a later version, and what to do until then.
const LATER: [(&str, &str); 9] = [
    ("BUCKET", "this version has the bucket `default` only"),
    ("INCR", "counters come in a later version; read, add and write with the context of the read"),
    ("SEARCH", "search comes in a later version; GET, MGET and SCAN read by key"),
    ("SEARCH_PREFIX", "search comes in a later version; SCAN finds keys by `prefix`"),
    ("SEARCH_PHRASE", "search comes in a later version; GET, MGET and SCAN read by key"),
    ("SEARCH_SEMANTIC", "search comes in a later version; GET, MGET and SCAN read by key"),
    ("FIND_SIMILAR", "search comes in a later version; GET, MGET and SCAN read by key"),
    ("TERM_FREQUENCY", "search comes in a later version; GET, MGET and SCAN read by key"),
    ("SUBSCRIBE", "events come in a later version; poll with GET until then"),
];

/// Commands for which a token that may read is enough; every other one needs one that may write.
const READS: [&str; 13] = [
    "GET",
    "TTL",
    "MGET",
    "KEYS",
    "SCAN",
    "COUNT",
    "EXPLAIN",
    "CONFLICTS",
    "CONSISTENCY",
    "PING",
    "INFO",
    "STATUS",
    "RING",
];

/// Longest part of an unknown command that its answer repeats, in characters.
const NAME_SHOWN_MAX: usize = 128;

/// What `line` asks for, or the refusal of it.
pub(super) fn parse(
    line: &Bytes,
    value_bytes_max: usize,
    session: &mut Session,
    now: Mono,
) -> Call {
    let fields = match fields_of(line) {
        Ok(fields) => fields,
        Err(fault) => return super::refuse(fault),
    };
    let mut parser = Parser { line, fields: &fields, base64: false, value_bytes_max, session, now };
    match parser.call() {
        Ok(call) => call,
        Err(fault) => super::refuse(fault),
    }
}

pub(super) fn invalid_json() -> Fault {
    bad("Invalid JSON".to_string())
}

fn fields_of(line: &Bytes) -> Result<Fields<'_>, Fault> {
    let text = std::str::from_utf8(line).map_err(|_not_utf8| invalid_json())?;
    let fields = serde_json::from_str(text).map_err(|error| {
        if error.to_string().contains(fields::TWICE) {
            bad(fields::TWICE.to_string())
        } else {
            invalid_json()
        }
    })?;
    if text::depth(text) > JSON_DEPTH_MAX {
        return Err(bad(format!("the request is nested deeper than {JSON_DEPTH_MAX} levels")));
    }
    Ok(fields)
}

struct Parser<'a> {
    line: &'a Bytes,
    fields: &'a Fields<'a>,
    base64: bool,
    value_bytes_max: usize,
    session: &'a mut Session,
    now: Mono,
}

impl<'a> Parser<'a> {
    fn call(&mut self) -> Result<Call, Fault> {
        let name = self.name()?;
        let command = name.to_ascii_uppercase();
        if command == "AUTH" {
            return self.auth();
        }
        let needed = if READS.contains(&command.as_str()) { Role::Read } else { Role::Write };
        self.session.access.require(needed)?;
        if let Some((known, instead)) = LATER.iter().find(|(later, _)| *later == command) {
            return Err(not_supported(known, instead));
        }
        self.refuse_later_fields()?;
        self.base64 = self.fields.is_base64()?;
        match command.as_str() {
            "SET" => self.set(),
            "GET" => self.get(),
            "DELETE" => self.delete(),
            "EXPIRE" => self.expire(),
            "PERSIST" => self.renew(Change::To(Expiry::Never)),
            "TTL" => self.ttl(),
            "BULK_SET" => self.bulk_set(),
            "MGET" => self.mget(),
            "KEYS" => self.keys(),
            "SCAN" => self.scan(),
            "COUNT" => self.count(),
            "EXPLAIN" => self.explain(),
            "CONFLICTS" => self.conflicts(),
            "OUTCOME" => self.outcome(),
            "CONSISTENCY" => self.consistency(),
            "PING" => Ok(self.immediate(Body::Ping)),
            "INFO" => Ok(self.immediate(Body::Info)),
            "STATUS" => Ok(self.immediate(Body::Status)),
            "RING" => Ok(self.immediate(Body::Ring)),
            _ => {
                let shown: String = name.chars().take(NAME_SHOWN_MAX).collect();
                Err(bad(format!("Unknown command: {shown}")))
            }
        }
    }

    fn auth(&mut self) -> Result<Call, Fault> {
        let missing = || bad("Missing token".to_string());
        let token = self.fields.text(Field::Token)?.ok_or_else(missing)?;
        let user = self.fields.text(Field::User)?;
        let user = user.as_deref().map(str::as_bytes);
        let role = self.session.access.authenticate(user, token.as_bytes())?;
        Ok(self.immediate(Body::Granted(role)))
    }

    fn name(&self) -> Result<Cow<'a, str>, Fault> {
        let Some(raw) = self.fields.raw(Field::Cmd) else { return Ok(Cow::Borrowed("")) };
        if raw.starts_with('"') {
            return Ok(self.fields.text(Field::Cmd)?.unwrap_or_default());
        }
        Ok(Cow::Borrowed(raw))
    }

    /// Fields that would change what is done, and that this version cannot honour.
    fn refuse_later_fields(&self) -> Result<(), Fault> {
        const FIELDS: [(Field, &str, &str); 3] = [
            (
                Field::IfMatch,
                "if_match",
                "send `context` instead: a write that did not know of \
              another becomes its sibling",
            ),
            (
                Field::IfAbsent,
                "if_absent",
                "without a master nothing is the only one to see a key \
              absent; an empty `context` keeps what is there as a sibling",
            ),
            (Field::Session, "session", "use level quorum: it reads what was acknowledged before"),
        ];
        for (field, name, instead) in FIELDS {
            if self.fields.raw(field).is_some() {
                return Err(not_supported(name, instead));
            }
        }
        match self.fields.text(Field::Bucket)? {
            Some(name) if name != "default" => {
                Err(not_supported("bucket", "this version has the bucket `default` only"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn set(&mut self) -> Result<Call, Fault> {
        let missing = || bad("Missing key or value".to_string());
        let key = self.key()?.ok_or_else(missing)?;
        let raw = self.fields.raw(Field::Value).ok_or_else(missing)?;
        let value = check::value(self.bytes_of(raw)?, self.value_bytes_max)?;
        let context = match self.fields.context()? {
            Some(token) => WriteContext::Token(token),
            None => WriteContext::Known,
        };
        let expiry = self.fields.expiry()?;
        let mut request = self.request(Op::Put { key, value, context, expiry })?;
        request.previous = self.fields.flag(Field::Previous)?;
        let answer = self.answer(Body::Set { previous: request.previous })?;
        // Last of all, because it uses up the memory: a refused line must not.
        if let Op::Put { key, context, .. } = &mut request.op {
            if *context == WriteContext::Known {
                *context = self.session.take_context(key, self.now);
            } else {
                self.session.note_written(key);
            }
        }
        Ok(Call::one(request, answer))
    }

    fn get(&self) -> Result<Call, Fault> {
        let key = self.required_key()?;
        let siblings = self.fields.flag(Field::Siblings)?;
        let request = self.request(Op::Get { key: key.clone() })?;
        let body = if siblings { Body::Siblings } else { Body::Get { key } };
        Ok(Call::one(request, self.answer(body)?))
    }

    fn expire(&mut self) -> Result<Call, Fault> {
        match self.fields.expiry()? {
            Expiry::Never => Err(bad("Missing ttl".to_string())),
            expiry @ (Expiry::Kept | Expiry::After(_) | Expiry::At(_)) => {
                self.renew(Change::To(expiry))
            }
        }
    }

    fn renew(&mut self, change: Change) -> Result<Call, Fault> {
        let key = self.required_key()?;
        let template = self.request(Op::Get { key: key.clone() })?;
        let write_left_ms = self.fields.timeout_ms()?.unwrap_or(WRITE_TIMEOUT_MS);
        let answer = self.answer(Body::Renewed)?;
        self.session.note_written(&key);
        Ok(Call::renew(Renewal::new(key, change, template, write_left_ms), answer))
    }

    fn ttl(&self) -> Result<Call, Fault> {
        let request = self.request(Op::Get { key: self.required_key()? })?;
        Ok(Call::one(request, self.answer(Body::Ttl)?))
    }

    fn delete(&mut self) -> Result<Call, Fault> {
        let key = self.required_key()?;
        let context = match self.fields.context()? {
            Some(token) => WriteContext::Token(token),
            None => WriteContext::Known,
        };
        let mut request = self.request(Op::Delete { key, context })?;
        request.previous = self.fields.flag(Field::Previous)?;
        let answer = self.answer(Body::Delete { previous: request.previous })?;
        check::note_written(self.session, &request.op);
        Ok(Call::one(request, answer))
    }

    fn bulk_set(&mut self) -> Result<Call, Fault> {
        let raw_items = self.fields.list(Field::Items).unwrap_or_default();
        if raw_items.is_empty() {
            return Err(bad("No items provided".to_string()));
        }
        if raw_items.len() > BATCH_KEYS_MAX {
            return Err(check::batch_too_large(raw_items.len(), self.line.len()));
        }
        let kind = match self.fields.text(Field::Require)?.as_deref() {
            None => BatchKind::Any,
            Some("isolated") => BatchKind::Isolated,
            Some(other) => return Err(bad(format!("require knows `isolated`, not {other:?}"))),
        };
        let mut items = Vec::with_capacity(raw_items.len());
        for raw in raw_items {
            items.push(self.item(raw.get())?);
        }
        let count = check::length(items.len());
        let request = self.request(check::batch(items, self.fields.expiry()?, kind)?)?;
        let answer = self.answer(Body::Bulk { count })?;
        check::note_written(self.session, &request.op);
        Ok(Call::one(request, answer))
    }

    fn item(&self, raw: &str) -> Result<(Key, Bytes), Fault> {
        let missing = || bad("Missing key or value".to_string());
        let item: Fields<'_> = serde_json::from_str(raw).map_err(|error| {
            if error.to_string().contains(fields::TWICE) {
                bad(fields::TWICE.to_string())
            } else {
                missing()
            }
        })?;
        if item.raw(Field::Ttl).is_some() {
            let instead = "give it once, beside `items`: it holds for all of them";
            return Err(not_supported("ttl of one item", instead));
        }
        let key = item.raw(Field::Key).ok_or_else(missing)?;
        let value = item.raw(Field::Value).ok_or_else(missing)?;
        let value = check::value(self.bytes_of(value)?, self.value_bytes_max)?;
        Ok((check::key(self.bytes_of(key)?)?, value))
    }

    fn mget(&self) -> Result<Call, Fault> {
        let raw_keys = self.fields.list(Field::Keys).unwrap_or_default();
        if raw_keys.is_empty() {
            return Err(bad("No keys provided".to_string()));
        }
        if raw_keys.len() > BATCH_KEYS_MAX {
            return Err(check::batch_too_large(raw_keys.len(), self.line.len()));
        }
        let mut requests = Vec::with_capacity(raw_keys.len());
        let mut keys = Vec::with_capacity(raw_keys.len());
        let template = self.request(Op::Count { bucket: BucketId::default() })?;
        for raw in raw_keys {
            if raw.get() == "null" {
                return Err(bad("Missing key".to_string()));
            }
            let key = check::key(self.bytes_of(raw.get())?)?;
            requests.push(Request { op: Op::Get { key: key.clone() }, ..template.clone() });
            keys.push(key);
        }
        Ok(Call::many(requests, self.answer(Body::Values { keys })?))
    }

    fn keys(&self) -> Result<Call, Fault> {
        let limit = self.fields.count(Field::Limit)?;
        let wanted = limit.map_or(Ok(KEYS_LIMIT_DEFAULT), usize::try_from);
        let wanted = wanted.map_err(|_too_many| bad("limit is too large".to_string()))?;
        if wanted == 0 {
            return Err(bad("limit must be at least 1".to_string()));
        }
        self.walk(Some(wanted), Body::Keys)
    }

    fn count(&self) -> Result<Call, Fault> {
        let scan = self.scan_of(1, false)?;
        if scan.prefix.is_empty() && scan.pattern.is_empty() {
            let request = self.request(Op::Count { bucket: scan.bucket })?;
            return Ok(Call::one(request, self.answer(Body::Count)?));
        }
        self.walk(None, Body::Count)
    }

    fn walk(&self, wanted: Option<usize>, body: Body) -> Result<Call, Fault> {
        let scan = self.scan_of(1, false)?;
        let template = self.request(Op::Count { bucket: scan.bucket })?;
        Ok(Call::walk(Walk::new(template, scan, wanted), self.answer(body)?))
    }

    fn scan(&self) -> Result<Call, Fault> {
        let values = self.fields.flag(Field::Values)?;
        let request = self.request(Op::Scan(self.scan_of(self.page_limit()?, values)?))?;
        Ok(Call::one(request, self.answer(Body::Page { values })?))
    }

    fn scan_of(&self, limit: u32, values: bool) -> Result<Scan, Fault> {
        let filter = |field| match self.fields.raw(field) {
            Some(raw) => self.bytes_of(raw),
            None => Ok(Bytes::new()),
        };
        let prefix = check::key(filter(Field::Prefix)?)?.bytes;
        let pattern = check::key(filter(Field::Pattern)?)?.bytes;
        let cursor = self.fields.cursor()?;
        Ok(Scan { bucket: BucketId::default(), cursor, limit, prefix, pattern, values })
    }

    fn explain(&self) -> Result<Call, Fault> {
        let request = self.request(Op::Explain { key: self.required_key()? })?;
        Ok(Call::one(request, self.answer(Body::Explain)?))
    }

    fn outcome(&self) -> Result<Call, Fault> {
        let key = self.required_key()?;
        let id = self.fields.request_id()?;
        let id = id.ok_or_else(|| bad("Missing request_id".to_string()))?;
        let request = self.request(Op::Outcome { id, key })?;
        Ok(Call::one(request, self.answer(Body::Outcome)?))
    }

    fn conflicts(&self) -> Result<Call, Fault> {
        let (bucket, cursor) = (BucketId::default(), self.fields.cursor()?);
        let limit = self.page_limit()?;
        let request = self.request(Op::Conflicts { bucket, cursor, limit })?;
        Ok(Call::one(request, self.answer(Body::Conflicts)?))
    }

    fn consistency(&mut self) -> Result<Call, Fault> {
        let answer = self.fields.level()?;
        if let Some(level) = answer {
            self.session.level = level;
        }
        Ok(self.immediate(Body::Consistency(self.session.level)))
    }

    /// Keys of one page: what the request says, within the bound of a page.
    fn page_limit(&self) -> Result<u32, Fault> {
        let most = u32::try_from(PAGE_KEYS_MAX).expect("a page is bounded");
        let limit = self.fields.count(Field::Limit)?.unwrap_or(most);
        if limit == 0 {
            return Err(bad("limit must be at least 1".to_string()));
        }
        Ok(limit.min(most))
    }

    fn required_key(&self) -> Result<Key, Fault> {
        self.key()?.ok_or_else(|| bad("Missing key".to_string()))
    }

    fn key(&self) -> Result<Option<Key>, Fault> {
        let Some(raw) = self.fields.raw(Field::Key) else { return Ok(None) };
        check::key(self.bytes_of(raw)?).map(Some)
    }

    fn bytes_of(&self, raw: &str) -> Result<Bytes, Fault> {
        fields::bytes_of(self.line, raw, self.base64)
    }

    /// The request for `op` with what the line or the connection says about it.
    fn request(&self, op: Op) -> Result<Request, Fault> {
        let mut request = Request::new(op);
        request.level = self.fields.level()?.unwrap_or(self.session.level);
        request.r = self.fields.small(Field::R)?;
        request.w = self.fields.small(Field::W)?;
        request.left_ms = self.fields.timeout_ms()?.unwrap_or(request.left_ms);
        request.request_id = self.fields.request_id()?;
        Ok(request)
    }

    fn immediate(&self, body: Body) -> Call {
        Call::immediate(call::Answer::Json(Box::new(Answer::new(body, self.base64, false))))
    }

    fn answer(&self, body: Body) -> Result<call::Answer, Fault> {
        let debug = self.fields.flag(Field::Debug)?;
        Ok(call::Answer::Json(Box::new(Answer::new(body, self.base64, debug))))
    }
}

fn not_supported(what: &str, instead: &str) -> Fault {
    Fault::NotSupported { what: what.to_string(), instead: instead.to_string() }
}
