//! One client connection as its shard thread sees it: bytes in, calls in order, bytes out.
//!
//! Invariants: answers leave in the order of the calls; at most
//! [`CONNECTION_REQUESTS_MAX`] requests of a connection are at the shard; once
//! [`CONNECTION_REPLY_BYTES_MAX`] bytes wait to be read by the client, nothing more is taken from
//! it. A client that is silent, or has sent half a request, holds no buffer but those bytes.

use std::collections::VecDeque;
use std::io;

use bytes::BytesMut;

use crate::api::{Reply, Request};
use crate::limits::{CONNECTION_REPLY_BYTES_MAX, CONNECTION_REQUESTS_MAX};
use crate::time::Mono;
use crate::wire::{self, Call, Facts};

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
    /// A bound stopped the last [`Client::advance`].
    stalled: bool,
    /// The client will send nothing more.
    ended: bool,
    /// Nothing more is taken from the client, whatever it sent.
    closing: bool,
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
    pub(crate) fn new(value_bytes_max: usize, first_request: u32) -> Self {
        Self {
            codec: wire::Connection::new(value_bytes_max),
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            calls: VecDeque::new(),
            first_call: 0,
            asked: 0,
            requests: VecDeque::new(),
            first_request,
            held_bytes: 0,
            stalled: false,
            ended: false,
            closing: false,
        }
    }

    /// The number that the next request would have.
    pub(crate) fn next_request(&self) -> u32 {
        let waiting = u32::try_from(self.requests.len()).expect("requests in flight are bounded");
        self.first_request.wrapping_add(waiting)
    }

    /// Bytes that arrived.
    pub(crate) fn on_bytes(&mut self, bytes: &[u8]) {
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

    /// The reply to a request. Replies to unknown requests are those to the seat's last user.
    pub(crate) fn on_reply(&mut self, number: u32, reply: Reply) {
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
        waiting.call.on_reply(slot, reply);
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
            self.stalled = !self.ask(&mut submit) || !self.takes_calls();
            if self.stalled || self.closing {
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

    /// Whether [`Client::advance`] can go on where a bound stopped it.
    pub(crate) fn can_resume(&self) -> bool {
        self.stalled && self.takes_calls()
    }

    /// What it waits for now.
    pub(crate) fn interest(&self) -> Interest {
        let open = !self.ended && !self.closing;
        let idle = self.calls.is_empty() && self.outgoing.is_empty();
        Interest {
            read: open && !self.stalled,
            write: !self.outgoing.is_empty(),
            done: !open && idle && (self.closing || !self.stalled),
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
                Ok(written) => drop(self.outgoing.split_to(written)),
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

    fn takes_calls(&self) -> bool {
        self.calls.len() < CONNECTION_REQUESTS_MAX
            && self.outgoing.len() + self.held_bytes < CONNECTION_REPLY_BYTES_MAX
    }

    fn encode(&mut self, facts: &Facts<'_>) {
        while self.calls.front().is_some_and(|waiting| waiting.call.is_ready()) {
            let waiting = self.calls.pop_front().expect("the front is there");
            self.first_call += 1;
            self.asked = self.asked.saturating_sub(1);
            self.held_bytes -= waiting.held_bytes;
            self.codec.encode(waiting.call, facts, &mut self.outgoing);
        }
    }

    /// Pulls requests out of the calls in their order, so that a pipelined read comes after the
    /// write before it. Returns whether all is pulled that can be now.
    fn ask(&mut self, submit: &mut impl FnMut(u32, Request) -> bool) -> bool {
        while self.asked < self.calls.len() {
            // What the oldest call holds must not stop it: nothing else would ever free it.
            let held = if self.asked == 0 { 0 } else { self.held_bytes };
            if self.requests.len() >= CONNECTION_REQUESTS_MAX
                || self.outgoing.len() + held >= CONNECTION_REPLY_BYTES_MAX
            {
                return false;
            }
            let Some((slot, request)) = self.calls[self.asked].call.next_request() else {
                self.asked += 1;
                continue;
            };
            let number = self.next_request();
            let index = u64::try_from(self.asked).expect("calls that wait are bounded");
            self.requests.push_back(Some((self.first_call + index, slot)));
            if !submit(number, request) {
                return false;
            }
        }
        true
    }
}
