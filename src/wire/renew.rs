//! EXPIRE and its like: a read of a key, and then a write of the value that was read, which ends at
//! another time.
//!
//! Invariants: what was over when it was read is not written again; the write carries the context
//! of the read, so it replaces what was read and nothing else, and whatever was written meanwhile
//! stays as its sibling; it is not begun any more once the value that it renews is over.

use crate::api::{Expiry, Fault, Op, Read, Reply, Request, WriteContext, Written};
use crate::causality::Entry;
use crate::hash::Key;

/// A call that changes when a value ends.
#[derive(Debug)]
pub(super) struct Renewal {
    key: Key,
    change: Change,
    /// What the read and the write are made of, but for their operations.
    template: Request,
    write_left_ms: u32,
    step: Step,
    shown: Option<Entry>,
}

/// What happens to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It ends at another time, or never.
    To(Expiry),
    /// It ends now.
    End,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Renewed {
    /// The value that was read; `None` = there is none.
    pub(super) shown: Option<Entry>,
    /// The write; `None` = there was nothing to change.
    pub(super) result: Result<Option<Written>, Fault>,
}

#[derive(Debug)]
enum Step {
    Read,
    Reading,
    Write(Request),
    Writing,
    Done(Result<Option<Written>, Fault>),
}

impl Renewal {
    /// A change of `key`, of which the read has the level and the limits of `template`, and the
    /// write may take `write_left_ms`.
    pub(super) fn new(key: Key, change: Change, template: Request, write_left_ms: u32) -> Self {
        Self { key, change, template, write_left_ms, step: Step::Read, shown: None }
    }

    /// The next request, if it is time for one.
    pub(super) fn next_request(&mut self) -> Option<Request> {
        match std::mem::replace(&mut self.step, Step::Reading) {
            Step::Read => {
                Some(Request { op: Op::Get { key: self.key.clone() }, ..self.template.clone() })
            }
            Step::Write(request) => {
                self.step = Step::Writing;
                Some(request)
            }
            waiting @ (Step::Reading | Step::Writing | Step::Done(_)) => {
                self.step = waiting;
                None
            }
        }
    }

    /// The reply to the request that was handed out.
    ///
    /// # Panics
    /// When it is no reply to that request.
    pub(super) fn on_reply(&mut self, reply: Reply, unix_ms: u64) {
        self.step = match (&self.step, reply) {
            (Step::Reading | Step::Writing, Reply::Fault(fault)) => Step::Done(Err(fault)),
            (Step::Reading, Reply::Read(read)) => self.after_read(read, unix_ms),
            (Step::Writing, Reply::Written(written)) => Step::Done(Ok(Some(written))),
            (step, reply) => panic!("{step:?} is not answered by {reply:?}"),
        };
    }

    fn after_read(&mut self, read: Read, unix_ms: u64) -> Step {
        let Read { siblings, context, .. } = read;
        self.shown = siblings.into_iter().find(|entry| !entry.is_over(unix_ms));
        let Some(shown) = &self.shown else { return Step::Done(Ok(None)) };
        let context = WriteContext::Token(context);
        let key = self.key.clone();
        let op = match self.change {
            Change::To(Expiry::Never) if shown.expiry_ms == 0 => return Step::Done(Ok(None)),
            Change::To(expiry) => Op::Put { key, value: shown.payload.clone(), context, expiry },
            Change::End => Op::Delete { key, context },
        };
        let left_ms = match shown.expiry_ms.checked_sub(unix_ms).map(u32::try_from) {
            Some(Ok(left_ms)) => self.write_left_ms.min(left_ms),
            Some(Err(_)) | None => self.write_left_ms,
        };
        Step::Write(Request { op, left_ms, ..self.template.clone() })
    }

    /// Whether it is over.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.step, Step::Done(_))
    }

    /// How it ended.
    ///
    /// # Panics
    /// When it is not over.
    pub(super) fn into_renewed(self) -> Renewed {
        let Step::Done(result) = self.step else { panic!("a ready renewal is done") };
        Renewed { shown: self.shown, result }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::causality::{Actor, Dot, VersionVector};
    use crate::hash::BucketId;
    use crate::time::Hlc;

    /// The write that follows when a value that ends at `expiry_ms` is read at 100.
    fn write_after(change: Change, expiry_ms: u64) -> Option<Request> {
        let template = Request::new(Op::Count { bucket: BucketId::default() });
        let mut renewal = Renewal::new(Key::plain("k"), change, template, 2_000);
        let read = renewal.next_request().expect("it begins with a read");
        assert_eq!(read.op, Op::Get { key: Key::plain("k") });
        assert!(renewal.next_request().is_none());
        let dot = Dot { actor: Actor(1), seq: 1 };
        let entry =
            Entry { expiry_ms, ..Entry::register(dot, Hlc(1), Bytes::from_static(b"value")) };
        let (context, vector_clock) = (Bytes::from_static(b"token"), VersionVector::new());
        let read = Read { siblings: vec![entry], context, vector_clock };
        renewal.on_reply(Reply::Read(read), 100);
        let write = renewal.next_request();
        assert_eq!(write.is_none(), renewal.is_done());
        write
    }

    #[test]
    fn a_value_that_is_over_is_not_brought_back() {
        let change = Change::To(Expiry::After(5_000));
        assert!(write_after(change, 100).is_none());
        let write = write_after(change, 101).expect("it still lives");
        assert_eq!(write.left_ms, 1, "it may be written as long as it lives");
        let context = WriteContext::Token(Bytes::from_static(b"token"));
        let (key, value) = (Key::plain("k"), Bytes::from_static(b"value"));
        assert_eq!(write.op, Op::Put { key, value, context, expiry: Expiry::After(5_000) });
    }

    #[test]
    fn what_never_ends_need_not_be_written_to_never_end() {
        assert!(write_after(Change::To(Expiry::Never), 0).is_none());
        assert!(write_after(Change::To(Expiry::Never), 500).is_some());
        let write = write_after(Change::End, 0).expect("it is there");
        assert_eq!(write.left_ms, 2_000);
        assert!(matches!(write.op, Op::Delete { .. }));
    }
}
