//! A call: what one command of a client needs from the shards, and what came back.
//!
//! The shell pulls requests as fast as its bounds allow and gives the replies back under the slot
//! that came with each request. An MGET pulls one request a key; KEYS pulls the next page when the
//! last one has arrived.

use std::vec;

use bytes::Bytes;

use super::renew::{Renewal, Renewed};
use super::{json, resp};
use crate::api::{Fault, Op, Page, Reply, Request, RequestId, Scan};
use crate::causality::Entry;
use crate::hash::{Key, Token};
use crate::limits::{ANSWER_BYTES_MAX, PAGE_KEYS_MAX};
use crate::marks::sometimes;
use crate::planted::{Bug, planted};

/// One command of a client, from its bytes to its answer.
#[derive(Debug)]
pub struct Call {
    work: Work,
    answer: Answer,
    closes: bool,
}

/// How the answer is written.
#[derive(Debug)]
pub(super) enum Answer {
    /// Not at all.
    Silence,
    Json(Box<json::Answer>),
    Resp(resp::Answer),
}

/// What the shards said.
#[derive(Debug)]
pub(super) enum Replies {
    /// They were not asked.
    None,
    One(Reply),
    /// In the order of the requests.
    Many(Vec<Reply>),
    Walked(Walked),
    Renewed(Box<Renewed>),
}

/// The keys of a walk through the ring.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) items: Vec<Key>,
    /// Keys that were found, also where they are not kept.
    pub(super) count: u64,
    /// Where to go on; `Token(0)` = the ring is done.
    pub(super) next: Token,
    pub(super) fault: Option<Fault>,
}

#[derive(Debug)]
enum Work {
    None,
    One { request: Option<Request>, reply: Option<Reply> },
    Many(Many),
    Walk(Walk),
    Renew(Box<Renewal>),
}

#[derive(Debug)]
struct Many {
    requests: vec::IntoIter<Request>,
    sent: u32,
    replies: Vec<Option<Reply>>,
    missing: usize,
    bytes: usize,
}

/// Page after page until the ring is done or enough is found.
#[derive(Debug)]
pub(super) struct Walk {
    /// The request for the first page; its cursor and limit are set anew for each page.
    template: Request,
    scan: Scan,
    wanted: Option<usize>,
    /// The last token that counts.
    last: Token,
    in_flight: bool,
    done: bool,
    bytes: usize,
    walked: Walked,
}

impl Call {
    /// A call whose answer is known already.
    pub(super) fn immediate(answer: Answer) -> Self {
        Self { work: Work::None, answer, closes: false }
    }

    /// A call that needs one reply.
    pub(super) fn one(request: Request, answer: Answer) -> Self {
        Self { work: Work::One { request: Some(request), reply: None }, answer, closes: false }
    }

    /// A call that needs a reply to each of `requests`.
    pub(super) fn many(requests: Vec<Request>, answer: Answer) -> Self {
        let missing = requests.len();
        let replies = requests.iter().map(|_| None).collect();
        let requests = requests.into_iter();
        let work = Work::Many(Many { requests, sent: 0, replies, missing, bytes: 0 });
        Self { work, answer, closes: false }
    }

    /// A call that walks the ring.
    pub(super) fn walk(walk: Walk, answer: Answer) -> Self {
        Self { work: Work::Walk(walk), answer, closes: false }
    }

    /// A call that changes when a value ends.
    pub(super) fn renew(renewal: Renewal, answer: Answer) -> Self {
        Self { work: Work::Renew(Box::new(renewal)), answer, closes: false }
    }

    /// The same call, whose writes have this id.
    #[must_use]
    pub(super) fn named(mut self, id: Option<RequestId>) -> Self {
        let requests = match &mut self.work {
            Work::One { request, .. } => request.as_mut_slice(),
            Work::Many(many) => many.requests.as_mut_slice(),
            Work::None | Work::Walk(_) | Work::Renew(_) => &mut [],
        };
        for request in requests.iter_mut().filter(|request| id.is_some() && request.op.is_write()) {
            request.request_id = id;
        }
        self
    }

    /// The connection is closed without a word.
    pub(super) fn close_silently() -> Self {
        Self::immediate(Answer::Silence).closing()
    }

    /// The same call, after whose answer the connection is closed.
    #[must_use]
    pub(super) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The next request for a shard, and the slot under which its reply is to be handed in.
    /// `None`: nothing now; ask again after each reply.
    pub fn next_request(&mut self) -> Option<(u32, Request)> {
        match &mut self.work {
            Work::None => None,
            Work::One { request, .. } => request.take().map(|request| (0, request)),
            Work::Many(many) => {
                let request = many.requests.next()?;
                let slot = many.sent;
                many.sent = many.sent.saturating_add(1);
                Some((slot, request))
            }
            Work::Walk(walk) => walk.next_request().map(|request| (0, request)),
            Work::Renew(renewal) => renewal.next_request().map(|request| (0, request)),
        }
    }

    /// The reply to the request that was handed out with `slot`, at the time of `unix_ms`.
    ///
    /// # Panics
    /// When that request was not handed out or is answered already.
    pub fn on_reply(&mut self, slot: u32, given: Reply, unix_ms: u64) {
        match &mut self.work {
            Work::None => panic!("a call without requests gets no reply"),
            Work::One { request, reply } => {
                assert!(request.is_none(), "a reply comes after its request");
                assert!(reply.is_none(), "a request has one reply");
                *reply = Some(given);
            }
            Work::Many(many) => many.on_reply(slot, given),
            Work::Walk(walk) => walk.on_reply(given),
            Work::Renew(renewal) => renewal.on_reply(given, unix_ms),
        }
    }

    /// Whether the answer can be written.
    pub fn is_ready(&self) -> bool {
        match &self.work {
            Work::None => true,
            Work::One { reply, .. } => reply.is_some(),
            Work::Many(many) => many.missing == 0,
            Work::Walk(walk) => walk.done,
            Work::Renew(renewal) => renewal.is_done(),
        }
    }

    /// Whether the connection is closed after the answer.
    pub fn closes(&self) -> bool {
        self.closes
    }

    pub(super) fn into_parts(self) -> (Replies, Answer) {
        let replies = match self.work {
            Work::None => Replies::None,
            Work::One { reply, .. } => Replies::One(reply.expect("a ready call has its reply")),
            Work::Many(many) => Replies::Many(many.into_replies()),
            Work::Walk(walk) => {
                assert!(walk.done, "a ready walk is done");
                Replies::Walked(walk.walked)
            }
            Work::Renew(renewal) => Replies::Renewed(Box::new(renewal.into_renewed())),
        };
        (replies, self.answer)
    }
}

impl Replies {
    /// Takes away what is over by a clock that says `unix_ms`. It is the last thing that happens to
    /// what clients are shown: a reply may have waited for the disk, or for others, after its value
    /// was read.
    pub(super) fn hide_expired(&mut self, unix_ms: u64) {
        if planted(Bug::ExpiredShown) {
            return;
        }
        match self {
            Self::One(reply) => hide_expired(reply, unix_ms),
            Self::Many(replies) => {
                for reply in replies {
                    hide_expired(reply, unix_ms);
                }
            }
            // Of a walk there are keys only, and a renewal has looked at the clock itself.
            Self::None | Self::Walked(_) | Self::Renewed(_) => {}
        }
    }
}

fn hide_expired(reply: &mut Reply, unix_ms: u64) {
    let is_live = |entry: &Entry| !entry.is_over(unix_ms);
    match reply {
        Reply::Read(read) => {
            sometimes!("a value was over when it was shown", !read.siblings.iter().all(is_live));
            read.siblings.retain(is_live);
        }
        Reply::Conflicts(conflicts) => {
            for (_, siblings) in &mut conflicts.items {
                siblings.retain(is_live);
            }
            conflicts.items.retain(|(_, siblings)| siblings.len() > 1);
        }
        // The keys of a page were looked at when it was put together.
        Reply::Page(_)
        | Reply::Written(_)
        | Reply::BatchWritten { .. }
        | Reply::Count(_)
        | Reply::Explained(_)
        | Reply::Outcome(_)
        | Reply::Fault(_) => {}
    }
}

impl Many {
    fn on_reply(&mut self, slot: u32, reply: Reply) {
        let place = usize::try_from(slot).ok().and_then(|slot| self.replies.get_mut(slot));
        let place = place.expect("a slot is one that was handed out");
        assert!(place.is_none(), "a request has one reply");
        self.bytes = self.bytes.saturating_add(reply_bytes(&reply));
        *place = Some(if self.bytes > ANSWER_BYTES_MAX { answer_too_long() } else { reply });
        self.missing = self.missing.checked_sub(1).expect("each missing reply comes once");
    }

    fn into_replies(self) -> Vec<Reply> {
        self.replies
            .into_iter()
            .map(|reply| reply.expect("a ready call has all of its replies"))
            .collect()
    }
}

impl Walk {
    /// A walk of `scan`, which ends after `wanted` keys; `None` only counts them.
    pub(super) fn new(template: Request, scan: Scan, wanted: Option<usize>) -> Self {
        let walked = Walked { next: scan.cursor, ..Walked::default() };
        let last = Token::MAX;
        Self { template, scan, wanted, last, in_flight: false, done: false, bytes: 0, walked }
    }

    /// The same walk, ending behind the keys of this token.
    #[must_use]
    pub(super) fn up_to(self, last: Token) -> Self {
        Self { last, ..self }
    }

    fn next_request(&mut self) -> Option<Request> {
        if self.in_flight || self.done {
            return None;
        }
        let missing = self.wanted.map_or(PAGE_KEYS_MAX, |wanted| wanted - self.walked.items.len());
        let limit = u32::try_from(missing.min(PAGE_KEYS_MAX)).expect("a page is bounded");
        let scan = Scan { cursor: self.walked.next, limit, ..self.scan.clone() };
        self.in_flight = true;
        Some(Request { op: Op::Scan(scan), ..self.template.clone() })
    }

    fn on_reply(&mut self, reply: Reply) {
        assert!(self.in_flight, "a page was asked for");
        self.in_flight = false;
        match reply {
            Reply::Page(page) => self.on_page(page),
            Reply::Fault(fault) => {
                self.walked.fault = Some(fault);
                self.done = true;
            }
            Reply::Read(_)
            | Reply::Written(_)
            | Reply::BatchWritten { .. }
            | Reply::Count(_)
            | Reply::Explained(_)
            | Reply::Outcome(_)
            | Reply::Conflicts(_) => panic!("a scan is answered by a page or a fault"),
        }
    }

    fn on_page(&mut self, mut page: Page) {
        if page.next != Token(0) && page.next <= self.walked.next {
            // Pages come from other nodes; one that leads nowhere must not be followed for ever.
            let detail = "a page of keys did not move on; report it".to_string();
            self.walked.fault = Some(Fault::Unavailable { needed: 1, answered: 0, detail });
            self.done = true;
            return;
        }
        page.items.retain(|(key, _)| key.token <= self.last);
        if page.next > self.last {
            page.next = Token(0);
        }
        let found = u64::try_from(page.items.len()).unwrap_or(u64::MAX);
        self.walked.count = self.walked.count.saturating_add(found);
        self.walked.next = page.next;
        let mut enough = false;
        if let Some(wanted) = self.wanted {
            for (key, _) in page.items {
                self.bytes = self.bytes.saturating_add(key.bytes.len() + size_of::<Key>());
                self.walked.items.push(key);
            }
            enough = self.walked.items.len() >= wanted || self.bytes >= ANSWER_BYTES_MAX / 2;
        }
        self.done = enough || page.next == Token(0);
    }
}

/// Bytes of memory that a reply keeps for its keys and values, roughly.
pub fn reply_bytes(reply: &Reply) -> usize {
    match reply {
        Reply::Read(read) => {
            let payloads: usize = read.siblings.iter().map(|entry| entry.payload.len()).sum();
            payloads + read.context.len()
        }
        Reply::Page(page) => page
            .items
            .iter()
            .map(|(key, value)| key.bytes.len() + value.as_ref().map_or(0, Bytes::len))
            .sum(),
        Reply::Conflicts(conflicts) => conflicts
            .items
            .iter()
            .flat_map(|(_, siblings)| siblings)
            .map(|entry| entry.payload.len())
            .sum(),
        Reply::Written(written) => written.previous.as_ref().map_or(0, Bytes::len),
        Reply::BatchWritten { .. }
        | Reply::Count(_)
        | Reply::Explained(_)
        | Reply::Outcome(_)
        | Reply::Fault(_) => 0,
    }
}

fn answer_too_long() -> Reply {
    Reply::Fault(Fault::BadRequest {
        text: format!(
            "the answer would be longer than {ANSWER_BYTES_MAX} bytes; ask for fewer keys at once"
        ),
    })
}
