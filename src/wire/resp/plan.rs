//! One command to one call.

use bytes::Bytes;

use super::answer::{Answer, Body};
use super::arguments::Arguments;
use super::commands::{self, Command, Group, Verb, Verdict};
use super::expiry::{self, Moment};
use super::{Version, cluster, describe, node, own};
use crate::api::{
    Access, BatchKind, Expiry, Fault, Op, Request, RequestId, Role, Scan, Session, WriteContext,
};
use crate::hash::{BucketId, Key, Token};
use crate::limits::{KEYS_LIMIT_DEFAULT, PAGE_KEYS_MAX, WRITE_TIMEOUT_MS};
use crate::time::Mono;
use crate::wire::call::{self, Call, Walk};
use crate::wire::check;
use crate::wire::renew::{Change, Renewal};

/// Longest part of an argument that an error repeats, in bytes.
const SHOWN_BYTES_MAX: usize = 128;
/// Keys of a page of SCAN when the client says nothing.
const SCAN_COUNT_DEFAULT: u32 = 10;

/// Makes calls of commands, and remembers what a connection said about itself.
#[derive(Debug)]
pub(super) struct Planner {
    value_bytes_max: usize,
    client: Client,
}

/// What a connection said about itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) version: Version,
    pub(super) name: Bytes,
    pub(super) library: Bytes,
    pub(super) library_version: Bytes,
    /// The id of the next command, if that writes.
    pub(super) next_id: Option<RequestId>,
}

/// Why a command is answered with an error.
pub(super) enum Refusal {
    Fault(Fault),
    /// The whole error line, its first word being the kind of error.
    Text(String),
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Planner {
    pub(super) fn new(value_bytes_max: usize) -> Self {
        Self { value_bytes_max, client: Client::default() }
    }

    pub(super) fn version(&self) -> Version {
        self.client.version
    }

    pub(super) fn refuse(&self, fault: Fault) -> Call {
        self.immediate(Body::Refusal(fault))
    }

    pub(super) fn plan(
        &mut self,
        arguments: Arguments<'_>,
        session: &mut Session,
        now: Mono,
    ) -> Call {
        let id = self.client.next_id.take();
        match self.try_plan(arguments, session, now) {
            Ok(call) => call.named(id),
            Err(Refusal::Fault(fault)) => self.refuse(fault),
            Err(Refusal::Text(text)) => self.immediate(Body::Error(text)),
        }
    }

    fn try_plan(
        &mut self,
        arguments: Arguments<'_>,
        session: &mut Session,
        now: Mono,
    ) -> Result<Call, Refusal> {
        let found = commands::find(arguments.at(0));
        guard(found, &session.access)?;
        let Some(command) = found else {
            let name = arguments.shown(0, SHOWN_BYTES_MAX);
            return Err(Refusal::Text(format!(
                "ERR unknown command '{name}': neither Redis nor Peerage has it"
            )));
        };
        let verb = match command.verdict {
            Verdict::Served(verb) => verb,
            Verdict::Later(why) | Verdict::Never(why) => {
                return Err(not_supported(&command.name.to_ascii_uppercase(), why).into());
            }
        };
        match verb {
            _ if !command.takes(arguments.len()) => Err(wrong_number(command.name)),
            Verb::Get => self.get(arguments, session),
            Verb::Getdel => self.renew(arguments, Change::End, Body::Renewed, session),
            Verb::Set => self.set(arguments, session, now),
            Verb::Setex
            | Verb::Psetex
            | Verb::Getex
            | Verb::Expire
            | Verb::Pexpire
            | Verb::Expireat
            | Verb::Pexpireat
            | Verb::Persist
            | Verb::Ttl
            | Verb::Pttl
            | Verb::Expiretime
            | Verb::Pexpiretime => self.about_expiry(verb, arguments, session, now),
            Verb::Del => {
                let delete = |key| Op::Delete { key, context: WriteContext::Known };
                self.each(arguments, session, Body::Deleted, delete)
            }
            Verb::Exists => self.each(arguments, session, Body::Existing, |key| Op::Get { key }),
            Verb::Mget => self.mget(arguments, session),
            Verb::Mset => self.mset(command, arguments, session),
            Verb::Strlen => self.read(arguments, session, Body::Length),
            Verb::Type => self.read(arguments, session, Body::Kind),
            Verb::Dbsize => {
                let op = Op::Count { bucket: BucketId::default() };
                Ok(self.one(request(op, session), Body::Size))
            }
            Verb::Scan => self.scan(arguments, session),
            Verb::Keys => self.keys(arguments, session),
            Verb::Cluster => self.cluster(command, arguments, session),
            Verb::KvGet => self.asking(own::get(arguments, session)?),
            Verb::KvPut => self.asking(own::put(arguments, self.value_bytes_max, session, now)?),
            Verb::KvDel => self.asking(own::delete(arguments, session)?),
            Verb::KvExplain => self.asking(own::explain(arguments, session)?),
            Verb::KvConflicts => self.asking(own::conflicts(arguments, session)?),
            Verb::KvOutcome => self.asking(own::outcome(arguments, session)?),
            Verb::KvConsistency => Ok(self.immediate(own::consistency(arguments, session)?)),
            Verb::Time
            | Verb::NoRedirect
            | Verb::Ping
            | Verb::Echo
            | Verb::Quit
            | Verb::Select
            | Verb::Reset
            | Verb::Hello
            | Verb::Auth
            | Verb::Client
            | Verb::Command
            | Verb::Info
            | Verb::Config
            | Verb::KvId => self.about_connection(command, verb, arguments, session),
        }
    }

    fn get(&self, arguments: Arguments<'_>, session: &Session) -> Result<Call, Refusal> {
        let key = check::key(arguments.bytes(1))?;
        Ok(self.one(request(Op::Get { key: key.clone() }, session), Body::Value { key }))
    }

    fn set(
        &self,
        arguments: Arguments<'_>,
        session: &mut Session,
        now: Mono,
    ) -> Result<Call, Refusal> {
        let (mut expiry, mut previous) = (Expiry::Never, false);
        let mut index = 3;
        while index < arguments.len() {
            if arguments.is(index, "get") && !previous {
                previous = true;
                index += 1;
                continue;
            }
            let Some((said, words)) = expiry::of_set(arguments, index)? else {
                return Err(refuse_set_option(arguments, index));
            };
            if std::mem::replace(&mut expiry, said) != Expiry::Never {
                return Err(syntax_error());
            }
            index += words;
        }
        if previous {
            let key = check::key(arguments.bytes(1))?;
            let value = check::value(arguments.bytes(2), self.value_bytes_max)?;
            // It is shown what it replaces, so it may replace all that is there.
            let context = WriteContext::Known;
            return Ok(self.replacing(Op::Put { key, value, context, expiry }, session));
        }
        self.put(arguments, 2, expiry, session, now)
    }

    /// Writes the value that stands at `index`.
    fn put(
        &self,
        arguments: Arguments<'_>,
        index: usize,
        expiry: Expiry,
        session: &mut Session,
        now: Mono,
    ) -> Result<Call, Refusal> {
        let key = check::key(arguments.bytes(1))?;
        let value = check::value(arguments.bytes(index), self.value_bytes_max)?;
        let context = session.take_context(&key, now);
        Ok(self.one(request(Op::Put { key, value, context, expiry }, session), Body::Done))
    }

    fn about_expiry(
        &self,
        verb: Verb,
        arguments: Arguments<'_>,
        session: &mut Session,
        now: Mono,
    ) -> Result<Call, Refusal> {
        if let Some(moment) = Moment::of(verb) {
            return self.read(arguments, session, Body::Moment(moment));
        }
        if matches!(verb, Verb::Setex | Verb::Psetex) {
            let expiry = expiry::of_setex(verb, arguments)?;
            return self.put(arguments, 3, expiry, session, now);
        }
        if verb == Verb::Getex {
            return match expiry::of_getex(arguments)? {
                None => self.get(arguments, session),
                Some(change) => self.renew(arguments, change, Body::Renewed, session),
            };
        }
        let change = expiry::of_expire(verb, arguments)?;
        self.renew(arguments, change, Body::Changed, session)
    }

    fn renew(
        &self,
        arguments: Arguments<'_>,
        change: Change,
        body: Body,
        session: &mut Session,
    ) -> Result<Call, Refusal> {
        let key = check::key(arguments.bytes(1))?;
        session.note_written(&key);
        let template = request(Op::Get { key: key.clone() }, session);
        let renewal = Renewal::new(key, change, template, WRITE_TIMEOUT_MS);
        Ok(Call::renew(renewal, self.answer(body)))
    }

    /// A write that is answered with what it replaced.
    fn replacing(&self, op: Op, session: &mut Session) -> Call {
        check::note_written(session, &op);
        let request = Request { previous: true, ..request(op, session) };
        self.one(request, Body::Previous)
    }

    /// One request for each key.
    fn each(
        &self,
        arguments: Arguments<'_>,
        session: &mut Session,
        body: Body,
        op: impl Fn(Key) -> Op,
    ) -> Result<Call, Refusal> {
        let mut requests = Vec::with_capacity(arguments.len());
        for bytes in arguments.bytes_from(1) {
            requests.push(request(op(check::key(bytes)?), session));
        }
        for request in &requests {
            check::note_written(session, &request.op);
        }
        Ok(Call::many(requests, self.answer(body)))
    }

    fn mget(&self, arguments: Arguments<'_>, session: &Session) -> Result<Call, Refusal> {
        let mut keys = Vec::with_capacity(arguments.len());
        for bytes in arguments.bytes_from(1) {
            keys.push(check::key(bytes)?);
        }
        let get = |key: &Key| request(Op::Get { key: key.clone() }, session);
        let requests = keys.iter().map(get).collect();
        Ok(Call::many(requests, self.answer(Body::Values { keys })))
    }

    fn mset(
        &self,
        command: &Command,
        arguments: Arguments<'_>,
        session: &mut Session,
    ) -> Result<Call, Refusal> {
        if arguments.len().is_multiple_of(2) {
            return Err(wrong_number(command.name));
        }
        let mut items = Vec::with_capacity(arguments.len() / 2);
        let mut words = arguments.bytes_from(1);
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            items.push((check::key(key)?, check::value(value, self.value_bytes_max)?));
        }
        let op = check::batch(items, Expiry::Never, BatchKind::Any)?;
        check::note_written(session, &op);
        Ok(self.one(request(op, session), Body::Done))
    }

    fn read(
        &self,
        arguments: Arguments<'_>,
        session: &Session,
        body: Body,
    ) -> Result<Call, Refusal> {
        let key = check::key(arguments.bytes(1))?;
        Ok(self.one(request(Op::Get { key }, session), body))
    }

    fn scan(&self, arguments: Arguments<'_>, session: &Session) -> Result<Call, Refusal> {
        let cursor = Token(arguments.number(1).ok_or_else(bad_cursor)?);
        let mut scan = Scan {
            bucket: BucketId::default(),
            cursor,
            limit: SCAN_COUNT_DEFAULT,
            prefix: Bytes::new(),
            pattern: Bytes::new(),
            values: false,
        };
        let mut only_strings = true;
        for index in (2..arguments.len()).step_by(2) {
            if index + 1 == arguments.len() {
                return Err(syntax_error());
            }
            if arguments.is(index, "match") {
                scan.pattern = check::key(arguments.bytes(index + 1))?.bytes;
            } else if arguments.is(index, "count") {
                let count: u32 = arguments.number(index + 1).ok_or_else(not_an_integer)?;
                if count == 0 {
                    return Err(syntax_error());
                }
                scan.limit = count.min(u32::try_from(PAGE_KEYS_MAX).unwrap_or(count));
            } else if arguments.is(index, "type") {
                only_strings &= arguments.is(index + 1, "string");
            } else {
                return Err(syntax_error());
            }
        }
        if !only_strings {
            // Every value is a string, so a scan for another type is done before it begins.
            return Ok(self.immediate(Body::EmptyPage));
        }
        Ok(self.one(request(Op::Scan(scan), session), Body::Page))
    }

    fn keys(&self, arguments: Arguments<'_>, session: &Session) -> Result<Call, Refusal> {
        let pattern = check::key(arguments.bytes(1))?.bytes;
        let scan = Scan {
            bucket: BucketId::default(),
            cursor: Token(0),
            limit: 1,
            prefix: Bytes::new(),
            pattern,
            values: false,
        };
        let template = request(Op::Count { bucket: scan.bucket }, session);
        let walk = Walk::new(template, scan, Some(KEYS_LIMIT_DEFAULT));
        Ok(Call::walk(walk, self.answer(Body::Keys)))
    }

    fn cluster(
        &self,
        command: &'static Command,
        arguments: Arguments<'_>,
        session: &Session,
    ) -> Result<Call, Refusal> {
        let (slot, wanted) = match cluster::ask(command, arguments)? {
            cluster::Asked::Known(body) => return Ok(self.immediate(body)),
            cluster::Asked::CountKeys(slot) => (slot, None),
            cluster::Asked::Keys(_, 0) => return Ok(self.immediate(Body::Bulks(Vec::new()))),
            cluster::Asked::Keys(slot, count) => (slot, Some(count.min(KEYS_LIMIT_DEFAULT))),
        };
        let (first, last) = Token::of_slot(slot);
        let scan = Scan {
            bucket: BucketId::default(),
            cursor: first,
            limit: 1,
            prefix: Bytes::new(),
            pattern: Bytes::new(),
            values: false,
        };
        let template = request(Op::Count { bucket: scan.bucket }, session);
        let walk = Walk::new(template, scan, wanted).up_to(last);
        let body = wanted.map_or(Body::Counted, |count| Body::Some { count });
        Ok(Call::walk(walk, self.answer(body)))
    }

    fn about_connection(
        &mut self,
        command: &'static Command,
        verb: Verb,
        arguments: Arguments<'_>,
        session: &mut Session,
    ) -> Result<Call, Refusal> {
        let body = match verb {
            Verb::Time => Body::Time,
            Verb::NoRedirect => Body::Done,
            Verb::Ping => Body::Pong((arguments.len() > 1).then(|| arguments.bytes(1))),
            Verb::Echo => Body::Bulk(arguments.bytes(1)),
            Verb::Quit => return Ok(self.immediate(Body::Done).closing()),
            Verb::Select if arguments.number::<u32>(1) == Some(0) => Body::Done,
            Verb::Select => {
                let why = "there is one database, 0; prefixes keep sets of keys apart";
                return Err(not_supported("SELECT of another database", why).into());
            }
            Verb::Reset => {
                self.client = Client::default();
                session.reset();
                Body::Simple("RESET")
            }
            Verb::Hello => node::hello(&mut self.client, &mut session.access, arguments)?,
            Verb::Auth => node::auth(&mut session.access, arguments)?,
            Verb::Client => node::client(&mut self.client, command, arguments)?,
            Verb::Command => describe::command(command, arguments)?,
            Verb::Info => Body::Info(arguments.bytes_from(1).collect()),
            Verb::Config => node::config(command, arguments)?,
            Verb::KvId => {
                self.client.next_id = Some(request_id(arguments, 1)?);
                Body::Done
            }
            Verb::Get
            | Verb::Getdel
            | Verb::Set
            | Verb::Del
            | Verb::Exists
            | Verb::Mget
            | Verb::Mset
            | Verb::Strlen
            | Verb::Type
            | Verb::Dbsize
            | Verb::Scan
            | Verb::Keys
            | Verb::Cluster
            | Verb::KvGet
            | Verb::KvPut
            | Verb::KvDel
            | Verb::KvConsistency
            | Verb::KvExplain
            | Verb::KvConflicts
            | Verb::KvOutcome
            | Verb::Expire
            | Verb::Pexpire
            | Verb::Expireat
            | Verb::Pexpireat
            | Verb::Persist
            | Verb::Ttl
            | Verb::Pttl
            | Verb::Expiretime
            | Verb::Pexpiretime
            | Verb::Getex
            | Verb::Setex
            | Verb::Psetex => {
                unreachable!("commands about keys are planned elsewhere")
            }
        };
        Ok(self.immediate(body))
    }

    fn immediate(&self, body: Body) -> Call {
        Call::immediate(self.answer(body))
    }

    fn one(&self, request: Request, body: Body) -> Call {
        Call::one(request, self.answer(body))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it ends the arms of a match over commands")]
    fn asking(&self, (request, body): (Request, Body)) -> Result<Call, Refusal> {
        Ok(self.one(request, body))
    }

    fn answer(&self, body: Body) -> call::Answer {
        call::Answer::Resp(Answer { version: self.client.version, body })
    }
}

/// An argument as the id of a request.
pub(super) fn request_id(arguments: Arguments<'_>, index: usize) -> Result<RequestId, Refusal> {
    let text = std::str::from_utf8(arguments.at(index)).unwrap_or_default();
    RequestId::from_text(text).ok_or_else(|| {
        let text = "the request id must be 32 hexadecimal digits, not all zero".to_string();
        Refusal::Fault(Fault::BadRequest { text })
    })
}

/// Refuses what the token of the client does not reach. Four commands are for those without one.
fn guard(command: Option<&Command>, access: &Access) -> Result<(), Refusal> {
    let needed = match command.map(|command| (command.verdict, command.group)) {
        Some((Verdict::Served(Verb::Auth | Verb::Hello | Verb::Quit | Verb::Reset), _)) => {
            return Ok(());
        }
        Some((_, Group::Write | Group::Removal)) => Role::Write,
        Some((_, Group::Read | Group::Connection | Group::Node | Group::Refused)) | None => {
            Role::Read
        }
    };
    access.require(needed).map_err(|denial| Fault::from(denial).into())
}

pub(super) fn request(op: Op, session: &Session) -> Request {
    Request { level: session.level, ..Request::new(op) }
}

/// Options of SET, each of which would need something that this version does not have.
fn refuse_set_option(arguments: Arguments<'_>, index: usize) -> Refusal {
    const OPTIONS: [(&str, &str); 2] =
        [("NX", commands::CONDITIONAL), ("XX", commands::CONDITIONAL)];
    let option = OPTIONS.iter().find(|(name, _)| arguments.is(index, name));
    match option {
        Some((name, why)) => not_supported(&format!("SET with {name}"), why).into(),
        None => syntax_error(),
    }
}

pub(super) fn not_supported(what: &str, instead: &str) -> Fault {
    Fault::NotSupported { what: what.to_string(), instead: instead.to_string() }
}

pub(super) fn wrong_number(name: &str) -> Refusal {
    Refusal::Text(format!("ERR wrong number of arguments for '{name}' command"))
}

pub(super) fn syntax_error() -> Refusal {
    Refusal::Text("ERR syntax error".to_string())
}

pub(super) fn bad_cursor() -> Refusal {
    let text = "a cursor is the number that the page before it returned, or 0".to_string();
    Fault::BadCursor { text }.into()
}

pub(super) fn not_an_integer() -> Refusal {
    Refusal::Text("ERR value is not an integer or out of range".to_string())
}
