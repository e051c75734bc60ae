//! One client connection as its shard thread sees it: bytes in, calls in order, bytes out.
//!
//! Invariants: answers leave in the order of the calls; at most
//! [`CONNECTION_REQUESTS_MAX`] requests of a connection are at the shard; once
//! [`CONNECTION_REPLY_BYTES_MAX`] bytes wait to be read by the client, nothing more is taken from
//! it. A client that is silent, or has sent half a request, holds no buffer but those bytes.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::BytesMut;

use super::patience::Sight;
use crate::api::{Reply, Request, Tokens};
use crate::limits::{
    CONNECTION_REPLY_BYTES_MAX, CONNECTION_REQUESTS_MAX, PRESSED_READ_BYTES,
    STRANGER_REPLY_BYTES_MAX,
};
use crate::time::Mono;
use crate::wire::{self, Call, Facts};

/// Requests of a connection that may be in flight however large the replies were.
const REQUESTS_MIN: usize = 8;
/// Requests of a new connection that may be in flight: how large its replies are is not known.
const REQUESTS_FIRST: usize = 32;
/// A buffer that holds nothing is given back when it is larger than this.
const IDLE_BUFFER_BYTES: usize = 1_024;

/// The state of one connection, without its socket.
#[derive(Debug)]
pub(crate) struct Client {
    codec: wire::Connection,
    incoming: BytesMut,
    outgoing: BytesMut,
    calls: VecDeque<Waiting>,
    /// Number of the oldest call that waits.
    first_call: u64,
    /// Calls at the front that have nothing to ask now.
    asked: usize,
    /// Requests at the shard: call and slot of each; `None` = answered already.
    requests: VecDeque<Option<(u64, u32)>>,
    /// Number of the first of `requests`. It goes on from one user of a seat to the next, so that
    /// a late reply to the last one matches nothing.
    first_request: u32,
    /// Bytes of the replies that waiting calls hold.
    held_bytes: usize,
    /// Bytes of the largest replies of late, which says how many requests may be in flight: the
    /// replies to all of them may come at once.
    reply_bytes: usize,
    /// The same, without the guess that a connection begins with.
    known_reply_bytes: usize,
    /// What stopped the last [`Client::advance`] before everything was asked.
    stall: Option<Stall>,
    /// Memory for its answers.
    memory: Memory,
    /// Bytes that came and that went, ever.
    heard_bytes: u64,
    told_bytes: u64,
    /// The client will send nothing more.
    ended: bool,
    /// Nothing more is taken from the client, whatever it sent.
    closing: bool,
}

/// Which bound stops a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stall {
    /// Requests or calls that wait for replies; the next reply moves it on.
    Requests,
    /// Bytes that the client has not read.
    Unread,
    /// The inbox of the shard.
    Inbox,
    /// Memory for the answers of all connections.
    Memory,
}

/// How much memory there is for the answers of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// As much as its own bounds allow.
    Plenty,
    /// It does one request after the other, and none while an answer is unread.
    Short,
    /// An answer to it found none, or would find none: it asks for nothing until memory is not
    /// short any more.
    Gone,
}

#[derive(Debug)]
struct Waiting {
    call: Call,
    held_bytes: usize,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    /// Bytes from the client are welcome.
    pub(crate) read: bool,
    /// There are bytes for the client.
    pub(crate) write: bool,
    /// It is over.
    pub(crate) done: bool,
}

impl Client {
    /// A new connection whose requests are numbered from `first_request`.
    pub(crate) fn new(
        value_bytes_max: usize,
        tokens: Option<Arc<Tokens>>,
        first_request: u32,
    ) -> Self {
        Self {
            codec: wire::Connection::new(value_bytes_max).with_tokens(tokens),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            calls: VecDeque::new(),
            first_call: 0,
            asked: 0,
            requests: VecDeque::new(),
            first_request,
            held_bytes: 0,
            reply_bytes: CONNECTION_REPLY_BYTES_MAX / REQUESTS_FIRST,
            known_reply_bytes: 0,
            stall: None,
            memory: Memory::Plenty,
            heard_bytes: 0,
            told_bytes: 0,
            ended: false,
            closing: false,
        }
    }

    /// The number that the next request would have.
    pub(crate) fn next_request(&self) -> u32 {
        let waiting = u32::try_from(self.requests.len()).expect("requests in flight are bounded");
        self.first_request.wrapping_add(waiting)
    }

    /// Wrong tokens that it has shown since the last call.
    pub(crate) fn take_failures(&mut self) -> u32 {
        self.codec.take_failures()
    }

    /// For how long no token of it is looked at, if at all.
    pub(crate) fn deny_for(&mut self, denied_ms: Option<u64>) {
        self.codec.deny_for(denied_ms);
    }

    /// Bytes that arrived.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) {
        self.heard_bytes += bytes.len() as u64;
        self.incoming.extend_from_slice(bytes);
    }

    /// The client will send nothing more: what it asked is still answered.
    pub(crate) fn on_end(&mut self) {
        self.ended = true;
    }

    /// Takes nothing more from the client, and ends once what it asked is answered.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// How much memory there is for answers: whether it is short, and whether all of it is taken.
    pub(crate) fn press(&mut self, is_pressed: bool, is_full: bool) {
        let is_large = self.known_reply_bytes > PRESSED_READ_BYTES;
        self.memory = match (is_pressed, self.memory) {
            (false, _) => Memory::Plenty,
            (true, Memory::Gone) => Memory::Gone,
            (true, Memory::Plenty | Memory::Short) if is_full && is_large => Memory::Gone,
            (true, Memory::Plenty | Memory::Short) => Memory::Short,
        };
    }

    /// Whether it asks for nothing until memory is not short any more.
    pub(crate) fn waits_for_memory(&self) -> bool {
        self.memory == Memory::Gone
    }

    /// An answer of so many bytes found no memory.
    pub(crate) fn on_out_of_memory(&mut self, bytes: usize) {
        self.memory = Memory::Gone;
        self.known_reply_bytes = self.known_reply_bytes.max(bytes);
    }

    /// Bytes that one more reply is expected to have; 0 = nothing is known yet.
    pub(crate) fn expected_bytes(&self) -> usize {
        self.known_reply_bytes
    }

    /// Takes nothing more from the client, and tells it why, where no answer is before that.
    /// Returns whether it could be told.
    pub(crate) fn dismiss(&mut self, text: &str) -> bool {
        self.closing = true;
        let is_free = self.calls.is_empty() && self.outgoing.is_empty();
        if is_free {
            self.codec.put_farewell(text, &mut self.outgoing);
        }
        is_free
    }

    /// How far it is, for who decides whether it takes too long.
    pub(crate) fn sight(&self) -> Sight {
        let waits = u64::try_from(self.calls.len()).expect("calls that wait are bounded");
        Sight {
            is_let_in: self.codec.is_let_in(),
            calls: self.first_call + waits,
            is_partial: self.stall.is_none()
                && !self.closing
                && (!self.incoming.is_empty() || self.codec.is_inside()),
            heard_bytes: self.heard_bytes,
            is_unread: !self.outgoing.is_empty(),
            told_bytes: self.told_bytes,
        }
    }

    /// Bytes of memory that it keeps: parts of requests, answers that nobody has read, and those
    /// that are expected.
    pub(crate) fn kept_bytes(&self) -> usize {
        let expected = self.requests.len() * self.known_reply_bytes;
        self.incoming.capacity() + self.outgoing.capacity() + self.held_bytes + expected
    }

    /// The reply to a request, at the time of `unix_ms`. Replies to unknown requests are those to
    /// the seat's last user.
    pub(crate) fn on_reply(&mut self, number: u32, reply: Reply, unix_ms: u64) {
        let index = usize::try_from(number.wrapping_sub(self.first_request)).unwrap_or(usize::MAX);
        let Some((call, slot)) = self.requests.get_mut(index).and_then(Option::take) else {
            return;
        };
        while self.requests.front() == Some(&None) {
            self.requests.pop_front();
            self.first_request = self.first_request.wrapping_add(1);
        }
        let index = usize::try_from(call - self.first_call).expect("calls that wait are bounded");
        let waiting = self.calls.get_mut(index).expect("a call waits for all of its replies");
        let bytes = wire::reply_bytes(&reply);
        waiting.held_bytes += bytes;
        self.held_bytes += bytes;
        self.reply_bytes = bytes.max(self.reply_bytes - self.reply_bytes / 8);
        self.known_reply_bytes = bytes.max(self.known_reply_bytes - self.known_reply_bytes / 8);
        waiting.call.on_reply(slot, reply, unix_ms);
        // A walk asks on when a page is there.
        if !waiting.call.is_ready() {
            self.asked = self.asked.min(index);
        }
    }

    /// Moves everything on as far as it goes: complete calls become bytes, bytes become calls,
    /// calls become requests for `submit`, which says whether it takes more after this one.
    pub(crate) fn advance(
        &mut self,
        now: Mono,
        facts: &Facts<'_>,
        mut submit: impl FnMut(u32, Request) -> bool,
    ) {
        loop {
            self.encode(facts);
            self.stall = self.ask(&mut submit).or_else(|| self.bound());
            if self.stall.is_some() || self.closing {
                break;
            }
            let Some(call) = self.codec.decode(now, &mut self.incoming) else { break };
            self.closing = call.closes();
            self.calls.push_back(Waiting { call, held_bytes: 0 });
        }
        if self.incoming.is_empty() && self.incoming.capacity() > IDLE_BUFFER_BYTES {
            self.incoming = BytesMut::new();
        }
    }

    /// Whether [`Client::advance`] can go on where a bound stopped it, without another reply.
    pub(crate) fn can_resume(&self) -> bool {
        match self.stall {
            None | Some(Stall::Requests) => false,
            // Whoever has a request in flight, or something to read, is moved on by that.
            Some(Stall::Memory) => {
                self.memory != Memory::Gone && self.requests.is_empty() && self.outgoing.is_empty()
            }
            Some(Stall::Unread) => {
                let ready = self.calls.front().is_some_and(|waiting| waiting.call.is_ready());
                self.bound().is_none() || ready && !self.is_unread()
            }
            Some(Stall::Inbox) => true,
        }
    }

    /// What it waits for now.
    pub(crate) fn interest(&self) -> Interest {
        let open = !self.ended && !self.closing;
        let idle = self.calls.is_empty() && self.outgoing.is_empty();
        Interest {
            read: open && self.stall.is_none(),
            write: !self.outgoing.is_empty(),
            done: !open && idle && (self.closing || self.stall.is_none()),
        }
    }

    /// Hands what is there to `write`, which returns how many bytes it took.
    pub(crate) fn flush(
        &mut self,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match write(&self.outgoing) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.told_bytes += written as u64;
                    drop(self.outgoing.split_to(written));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.outgoing.capacity() > IDLE_BUFFER_BYTES {
            self.outgoing = BytesMut::new();
        }
        Ok(())
    }

    /// Why no further call is taken, if none is.
    fn bound(&self) -> Option<Stall> {
        if self.calls.len() >= CONNECTION_REQUESTS_MAX {
            Some(Stall::Requests)
        } else if self.outgoing.len() + self.held_bytes >= self.unread_bytes_max() {
            Some(Stall::Unread)
        } else {
            None
        }
    }

    /// Whether so much waits to be read by the client that no answer is added.
    fn is_unread(&self) -> bool {
        self.outgoing.len() >= self.unread_bytes_max()
    }

    /// Unread bytes at which nothing more is taken from the client.
    fn unread_bytes_max(&self) -> usize {
        if self.codec.is_let_in() { CONNECTION_REPLY_BYTES_MAX } else { STRANGER_REPLY_BYTES_MAX }
    }

    fn encode(&mut self, facts: &Facts<'_>) {
        while !self.is_unread() && self.calls.front().is_some_and(|front| front.call.is_ready()) {
            let waiting = self.calls.pop_front().expect("the front is there");
            self.first_call += 1;
            self.asked = self.asked.saturating_sub(1);
            self.held_bytes -= waiting.held_bytes;
            self.codec.encode(waiting.call, facts, &mut self.outgoing);
        }
    }

    /// Requests that may be in flight: so many that their replies, should they be as large as the
    /// last ones, stay near the bound.
    fn requests_max(&self) -> usize {
        let fitting = CONNECTION_REPLY_BYTES_MAX / self.reply_bytes.max(1);
        fitting.clamp(REQUESTS_MIN, CONNECTION_REQUESTS_MAX)
    }

    /// Pulls requests out of the calls in their order, so that a pipelined read comes after the
    /// write before it. Returns what stopped it before all was pulled that can be now.
    fn ask(&mut self, submit: &mut impl FnMut(u32, Request) -> bool) -> Option<Stall> {
        while self.asked < self.calls.len() {
            if self.requests.len() >= self.requests_max() {
                return Some(Stall::Requests);
            }
            // What the oldest call holds must not stop it: nothing else would ever free it.
            let held = if self.asked == 0 { 0 } else { self.held_bytes };
            if self.outgoing.len() + held >= CONNECTION_REPLY_BYTES_MAX {
                return Some(Stall::Unread);
            }
            let is_busy = !(self.requests.is_empty() && self.outgoing.is_empty());
            let is_held_back = match self.memory {
                Memory::Plenty => false,
                Memory::Short => is_busy,
                Memory::Gone => true,
            };
            if is_held_back {
                return Some(Stall::Memory);
            }
            let Some((slot, request)) = self.calls[self.asked].call.next_request() else {
                self.asked += 1;
                continue;
            };
            let number = self.next_request();
            let index = u64::try_from(self.asked).expect("calls that wait are bounded");
            self.requests.push_back(Some((self.first_call + index, slot)));
            if !submit(number, request) {
                return Some(Stall::Inbox);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::api::{Op, Read};
    use crate::causality::{Actor, Dot, Entry, NodeId, VersionVector};
    use crate::cluster::{Phase, View};
    use crate::config::Config;
    use crate::time::{Hlc, Now};

    /// A client of a shell that takes `room` requests.
    struct Desk {
        client: Client,
        config: Config,
        view: View,
        write_seq: AtomicU64,
        room: usize,
        asked: Vec<(u32, Op)>,
    }

    impl Desk {
        fn new(first_request: u32) -> Self {
            let view = View {
                me: NodeId::default(),
                name: String::from("n1"),
                actor: None,
                phase: Phase::Member,
                layout: None,
                members: std::collections::BTreeMap::new(),
            };
            let config = Config::default();
            let client = Client::new(config.value_bytes_max, None, first_request);
            let write_seq = AtomicU64::new(0);
            Self { client, config, view, write_seq, room: usize::MAX, asked: Vec::new() }
        }

        fn advance(&mut self) {
            let facts = Facts {
                now: Now::default(),
                view: &self.view,
                config: &self.config,
                host: "127.0.0.1",
                port: 1,
                cluster_port: 2,
                started_unix_ms: 0,
                connection: 1,
                connections: 1,
                shards: 1,
                detours: 0,
                debug_writes: &AtomicU64::new(0),
                write_seq: &self.write_seq,
                gauges: &wire::Gauges::default(),
            };
            let (asked, room) = (&mut self.asked, self.room);
            self.client.advance(Mono(0), &facts, |number, request| {
                asked.push((number, request.op));
                asked.len() < room
            });
        }

        fn say(&mut self, text: &str) {
            self.client.on_bytes(text.as_bytes());
            self.advance();
        }

        /// What the client reads, of at most `bytes` bytes.
        fn hear(&mut self, bytes: usize) -> String {
            let mut heard = Vec::new();
            self.client
                .flush(|part| {
                    let taken = part.len().min(bytes - heard.len());
                    heard.extend_from_slice(&part[..taken]);
                    if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
                })
                .unwrap();
            String::from_utf8(heard).unwrap()
        }
    }

    fn value(bytes: usize) -> Reply {
        let dot = Dot { actor: Actor(1), seq: 1 };
        let payload = vec![b'v'; bytes].into();
        let siblings = vec![Entry::register(dot, Hlc(1), payload)];
        let context = bytes::Bytes::new();
        Reply::Read(Read { siblings, context, vector_clock: VersionVector::new() })
    }

    fn key_of(op: &Op) -> &[u8] {
        let Op::Get { key } = op else { panic!("{op:?}") };
        &key.bytes
    }

    #[test]
    fn answers_leave_in_the_order_of_the_calls_whatever_the_order_of_the_replies() {
        let mut desk = Desk::new(u32::MAX);
        desk.say("GET a\r\nGET b\r\nPING\r\nGET c");
        assert_eq!(desk.asked.iter().map(|(_, op)| key_of(op)).collect::<Vec<_>>(), [b"a", b"b"]);
        let (a, b) = (desk.asked[0].0, desk.asked[1].0);
        assert_eq!((a, b), (u32::MAX, 0));
        desk.client.on_reply(b, value(1), 0);
        desk.advance();
        assert_eq!(desk.hear(99), "");
        desk.client.on_reply(a, value(2), 0);
        desk.advance();
        assert_eq!(desk.hear(99), "$2\r\nvv\r\n$1\r\nv\r\n+PONG\r\n");
    }

    #[test]
    fn a_reply_to_the_last_user_of_a_seat_is_nothing() {
        let mut desk = Desk::new(7);
        desk.say("GET a\r\n");
        desk.client.on_reply(6, value(1), 0);
        desk.client.on_reply(8, value(1), 0);
        desk.client.on_reply(7, value(3), 0);
        desk.client.on_reply(7, value(1), 0);
        desk.advance();
        assert_eq!(desk.hear(99), "$3\r\nvvv\r\n");
        assert_eq!(desk.client.next_request(), 8);
    }

    #[test]
    fn a_connection_has_a_bounded_number_of_requests_and_calls() {
        let mut desk = Desk::new(0);
        desk.client.reply_bytes = 0;
        desk.say(&"GET a\r\n".repeat(CONNECTION_REQUESTS_MAX + 10));
        assert_eq!(desk.asked.len(), CONNECTION_REQUESTS_MAX);
        assert!(!desk.client.interest().read);
        // One that is answered out of order makes no room: the answers of the others wait for it.
        desk.client.on_reply(5, value(1), 0);
        desk.advance();
        assert_eq!(desk.asked.len(), CONNECTION_REQUESTS_MAX);
        desk.client.on_reply(0, value(1), 0);
        desk.advance();
        assert_eq!(desk.asked.len(), CONNECTION_REQUESTS_MAX + 1);
        assert!(!desk.client.interest().read);
        // Only a reply moves it on: whoever tried again at once would try for ever.
        assert!(!desk.client.can_resume());
    }

    #[test]
    fn a_client_that_does_not_read_is_not_read_from() {
        let mut desk = Desk::new(0);
        desk.say("GET a\r\nGET b\r\n");
        desk.client.on_reply(0, value(CONNECTION_REPLY_BYTES_MAX), 0);
        desk.advance();
        desk.say("GET c\r\n");
        assert_eq!(desk.asked.len(), 2);
        let interest = desk.client.interest();
        assert_eq!(interest, Interest { read: false, write: true, done: false });
        assert!(!desk.client.can_resume());
        desk.hear(100);
        assert!(desk.client.can_resume());
        desk.advance();
        assert_eq!(desk.asked.len(), 3);
        assert!(desk.client.interest().read);
    }

    #[test]
    fn a_call_larger_than_the_bound_of_unread_bytes_is_still_answered() {
        let mut desk = Desk::new(0);
        let keys: Vec<String> =
            (0..CONNECTION_REQUESTS_MAX + 100).map(|index| format!("k{index}")).collect();
        desk.say(&format!("MGET {}\r\n", keys.join(" ")));
        let mut answered = 0;
        while answered < desk.asked.len() {
            desk.client.on_reply(u32::try_from(answered).unwrap(), value(2_000), 0);
            answered += 1;
            desk.advance();
        }
        assert_eq!(answered, keys.len());
        assert!(desk.hear(usize::MAX).starts_with(&format!("*{}\r\n", keys.len())));
    }

    #[test]
    fn answers_wait_in_their_replies_while_the_client_reads_nothing() {
        let mut desk = Desk::new(0);
        desk.say(&"GET a\r\n".repeat(10));
        for number in 0..10 {
            desk.client.on_reply(number, value(CONNECTION_REPLY_BYTES_MAX), 0);
        }
        for _ in 0..10 {
            desk.advance();
            assert!(desk.client.outgoing.len() < 2 * CONNECTION_REPLY_BYTES_MAX);
            assert!(!desk.client.can_resume());
            desk.hear(CONNECTION_REPLY_BYTES_MAX / 2);
        }
        let mut heard = 10 * (CONNECTION_REPLY_BYTES_MAX / 2);
        while desk.client.interest().write {
            heard += desk.hear(usize::MAX).len();
            desk.advance();
        }
        assert_eq!(heard, 10 * (CONNECTION_REPLY_BYTES_MAX + "$1048576\r\n\r\n".len()));
    }

    #[test]
    fn large_replies_leave_room_for_fewer_requests() {
        let mut desk = Desk::new(0);
        desk.say("GET a\r\n");
        desk.client.on_reply(0, value(CONNECTION_REPLY_BYTES_MAX / 2), 0);
        desk.advance();
        desk.hear(usize::MAX);
        desk.say(&"GET a\r\n".repeat(100));
        assert_eq!(desk.asked.len(), 1 + REQUESTS_MIN);
        assert!(!desk.client.can_resume());
    }

    #[test]
    fn where_memory_is_short_a_connection_asks_for_one_thing_after_the_other() {
        let mut desk = Desk::new(0);
        desk.client.press(true, false);
        desk.say(&"GET a\r\n".repeat(3));
        assert_eq!(desk.asked.len(), 1);
        assert!(!desk.client.can_resume());
        desk.client.on_reply(0, value(1), 0);
        desk.advance();
        assert_eq!(desk.asked.len(), 1, "one is unread");
        assert!(!desk.client.can_resume());
        desk.hear(99);
        assert!(desk.client.can_resume());
        desk.advance();
        assert_eq!(desk.asked.len(), 2);
        // Its answer found no memory, so the next request would not either.
        desk.client.on_out_of_memory(CONNECTION_REPLY_BYTES_MAX);
        desk.client.on_reply(1, value(1), 0);
        desk.hear(99);
        desk.advance();
        assert_eq!(desk.asked.len(), 2);
        assert!(!desk.client.can_resume());
        desk.client.press(true, true);
        assert!(desk.client.waits_for_memory());
        desk.client.press(false, false);
        desk.advance();
        assert_eq!(desk.asked.len(), 3);
        // What is expected counts, and whoever expects much waits where all is taken.
        assert!(desk.client.kept_bytes() > CONNECTION_REPLY_BYTES_MAX / 2);
        desk.client.press(true, true);
        assert!(desk.client.waits_for_memory());
    }

    #[test]
    fn half_a_connection_is_answered_before_it_ends() {
        let mut desk = Desk::new(0);
        desk.say("GET a\r\nPING\r\n");
        desk.client.on_end();
        assert!(!desk.client.interest().done);
        desk.client.on_reply(0, value(1), 0);
        desk.advance();
        assert!(!desk.client.interest().done);
        assert_eq!(desk.hear(99), "$1\r\nv\r\n+PONG\r\n");
        assert!(desk.client.interest().done);
    }

    #[test]
    fn nothing_after_quit_is_done() {
        let mut desk = Desk::new(0);
        desk.say("QUIT\r\nGET a\r\n");
        assert!(desk.asked.is_empty());
        assert_eq!(desk.hear(99), "+OK\r\n");
        assert!(desk.client.interest().done);
    }

    #[test]
    fn a_full_inbox_stops_a_connection_until_it_is_resumed() {
        let mut desk = Desk::new(0);
        desk.room = 2;
        desk.say("GET a\r\nGET b\r\nGET c\r\n");
        assert_eq!(desk.asked.len(), 2);
        assert!(desk.client.can_resume());
        assert!(!desk.client.interest().read);
        desk.room = 99;
        desk.advance();
        assert_eq!(desk.asked.len(), 3);
        assert!(desk.client.interest().read);
    }
}
