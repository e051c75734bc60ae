//! Pages: what this replica holds of a stretch of the ring, read record by record as a job.
//!
//! The index knows tokens only, so a page reads every record of its stretch, and the filters judge
//! what was read. A record that is cold is waited for, a few of them at a time; meanwhile other
//! inputs and other pages go on. A page ends after a whole token: when it is full, when it has
//! looked at so many records that somebody should hear of it, or at the end of the partition.
//!
//! The bases of the clock are taken before the first record is read. So what the page does not
//! name was absent at an instant at which this replica knew at least that much (as in rule R2).

use std::collections::{BTreeMap, VecDeque};

use super::glob::Glob;
use super::message::{CallId, Message, Nack};
use super::table::{IndexEntry, Lookup};
use super::{Seq, Shard, Table, Turn};
use crate::api::Scan;
use crate::causality::{NodeId, Object, VersionVector};
use crate::hash::{Key, PartitionId, Token};
use crate::limits::{PAGE_BYTES_MAX, PAGE_KEYS_MAX};
use crate::time::Mono;

/// Places that a page takes from the index at a time.
const LOOK_AHEAD: usize = 256;
/// Records that a page may read in the step in which it is asked for.
const FIRST_RECORDS: usize = 32;
/// Cold records of one page that are asked for at a time.
const READ_AHEAD: usize = 16;
/// Records that a page looks at before it ends, however few of them it could take.
const PAGE_RECORDS_MAX: usize = 8 * PAGE_KEYS_MAX;
/// Pages that are under way at a shard; more are refused.
const PAGES_MAX: usize = 1_024;
/// What a key costs besides its bytes and values: its dots and context.
const KEY_OVERHEAD_BYTES: usize = 64;

/// All pages that are under way.
#[derive(Debug, Default)]
pub(super) struct Pages {
    jobs: BTreeMap<u64, Page>,
    /// Those that can go on, the next one first.
    ready: VecDeque<u64>,
    /// Those that wait for a record of a token.
    cold: BTreeMap<Token, Vec<u64>>,
    next: u64,
}

/// One page.
#[derive(Debug)]
struct Page {
    from: NodeId,
    call: CallId,
    partition: PartitionId,
    filter: Filter,
    deadline: Mono,
    limit: usize,
    /// Where the index is looked at next.
    cursor: Token,
    /// The last token of the partition.
    last: Token,
    /// Read or to be read, in token order.
    ahead: VecDeque<(IndexEntry, Slot)>,
    known: VersionVector,
    rests_on: Seq,
    items: Vec<(Key, Object)>,
    bytes: usize,
    looked_at: usize,
}

/// What is known of a record ahead.
#[derive(Debug)]
enum Slot {
    Unread,
    Cold,
    /// `None` = the filter does not want it.
    Read(Option<(Key, Object)>),
}

/// Which keys a page takes.
#[derive(Debug)]
struct Filter {
    scan: Scan,
    glob: Option<Glob>,
    conflicts_only: bool,
}

/// How a slice of a page ended.
enum Slice {
    /// It can go on.
    More,
    /// It waits for the records that it has asked for.
    Cold,
    /// There is nothing more to read; `None` = the partition is at its end.
    Full(Option<Token>),
    /// A record is damaged, and other replicas may know what it said.
    Damaged,
}

impl Shard {
    /// Begins to read a page.
    pub(super) fn on_page<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        message: Message,
    ) {
        let Message::Page { call, partition, scan, conflicts_only, left_ms } = message else {
            unreachable!("the caller matched a Page");
        };
        if let Err(why) =
            self.begin_page(turn, from, call, partition, scan, conflicts_only, left_ms)
        {
            self.answer_page(turn, from, call, Err(why));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of the question")]
    fn begin_page<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        from: NodeId,
        call: CallId,
        partition: PartitionId,
        scan: Scan,
        conflicts_only: bool,
        left_ms: u32,
    ) -> Result<(), Nack> {
        let layout = self.layout().ok_or(Nack::NotOwner)?;
        let (first, last) = partition.tokens(layout.partitions);
        let owned = self.partitions.owned(partition).ok_or(Nack::NotOwner)?;
        if !owned.is_ready() {
            return Err(Nack::Rebuilding);
        }
        if self.pages.jobs.len() >= PAGES_MAX {
            return Err(Nack::Overloaded);
        }
        let limit = usize::try_from(scan.limit).unwrap_or(usize::MAX).clamp(1, PAGE_KEYS_MAX);
        let glob = (!scan.pattern.is_empty()).then(|| Glob::new(&scan.pattern));
        let page = Page {
            from,
            call,
            partition,
            deadline: turn.now.mono.plus_ms(u64::from(left_ms)),
            limit,
            cursor: scan.cursor.max(first),
            last,
            filter: Filter { scan, glob, conflicts_only },
            ahead: VecDeque::new(),
            known: owned.clock().bases(),
            rests_on: owned.newest(),
            items: Vec::new(),
            bytes: 0,
            looked_at: 0,
        };
        self.pages.next += 1;
        let id = self.pages.next;
        self.pages.jobs.insert(id, page);
        self.pages.ready.push_back(id);
        // Most pages of a large ring are short: they are answered at once.
        let mut left = FIRST_RECORDS;
        self.work_on_page(turn, &mut left);
        Ok(())
    }

    /// Does a slice of the pages that are under way.
    pub(super) fn work_on_pages<T: Table>(&mut self, turn: &mut Turn<'_, T>, records: u32) {
        let mut left = usize::try_from(records).unwrap_or(usize::MAX);
        while left > 0 && !self.pages.ready.is_empty() {
            self.work_on_page(turn, &mut left);
        }
    }

    /// Whether a page can go on.
    pub(super) fn has_pages(&self) -> bool {
        !self.pages.ready.is_empty()
    }

    /// A record is in memory in this very step: the pages that wait for it read it.
    pub(super) fn read_fetched<T: Table>(&mut self, turn: &mut Turn<'_, T>, token: Token) {
        for id in self.pages.cold.remove(&token).unwrap_or_default() {
            let Some(mut page) = self.pages.jobs.remove(&id) else { continue };
            let was_waiting = page.is_waiting();
            for slot in &mut page.ahead {
                if slot.0.token == token && matches!(slot.1, Slot::Cold) {
                    slot.1 = Slot::Unread;
                }
            }
            // In the order of the ring: nothing else is read in this step.
            let read = self.read_ahead(turn, &mut page, id, Some(token));
            let goes_on = was_waiting && !page.is_waiting();
            self.pages.jobs.insert(id, page);
            if read.is_err() {
                self.end_page(turn, id, Err(Nack::Rebuilding));
            } else if goes_on {
                self.pages.ready.push_back(id);
            }
        }
    }

    /// Goes on with the page whose turn it is.
    fn work_on_page<T: Table>(&mut self, turn: &mut Turn<'_, T>, left: &mut usize) {
        let Some(id) = self.pages.ready.pop_front() else { return };
        let Some(mut page) = self.pages.jobs.remove(&id) else { return };
        *left = left.saturating_sub(1);
        if page.deadline <= turn.now.mono {
            return;
        }
        let slice = self.slice(turn, &mut page, id, left);
        self.pages.jobs.insert(id, page);
        match slice {
            Slice::More => self.pages.ready.push_back(id),
            Slice::Cold => {}
            Slice::Full(next) => self.end_page(turn, id, Ok(next)),
            Slice::Damaged => self.end_page(turn, id, Err(Nack::Rebuilding)),
        }
    }

    fn slice<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        page: &mut Page,
        id: u64,
        left: &mut usize,
    ) -> Slice {
        while *left > 0 {
            if page.ahead.is_empty() {
                if page.is_full() {
                    return Slice::Full(Some(page.cursor));
                }
                if !page.look_ahead(turn.table) {
                    return Slice::Full(None);
                }
            }
            if self.read_ahead(turn, page, id, None).is_err() {
                return Slice::Damaged;
            }
            let before = page.looked_at;
            if let Some(next) = page.take() {
                return Slice::Full(Some(next));
            }
            let taken = page.looked_at - before;
            if taken == 0 && page.is_waiting() {
                return Slice::Cold;
            }
            *left = left.saturating_sub(taken.max(1));
        }
        Slice::More
    }

    /// Reads the first few records ahead, or only those of a token.
    fn read_ahead<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        page: &mut Page,
        id: u64,
        only: Option<Token>,
    ) -> Result<(), Damaged> {
        let mut index = 0;
        let mut again = None;
        while index < page.ahead.len().min(READ_AHEAD) {
            let (entry, slot) = &page.ahead[index];
            let token = entry.token;
            if !matches!(slot, Slot::Unread) || only.is_some_and(|only| only != token) {
                index += 1;
                continue;
            }
            let (read, rests_on) = turn.table.read(entry);
            page.rests_on = page.rests_on.max(rests_on);
            let slot = match read {
                Some((_, Lookup::Cold)) => {
                    let waiting = self.pages.cold.entry(token).or_default();
                    if waiting.last() != Some(&id) {
                        waiting.push(id);
                    }
                    Slot::Cold
                }
                Some((key, Lookup::Found(stored))) => {
                    let owned = self.partitions.owned(page.partition).expect("it stays owned");
                    let wanted = page.filter.takes(&key, &stored);
                    Slot::Read(wanted.then(|| (key, page.filter.cut(owned.filled(stored)))))
                }
                Some((_, Lookup::Absent)) => Slot::Read(None),
                Some((_, Lookup::Unknown)) => self.damaged(page.partition)?,
                None if again == Some(token) => self.damaged(page.partition)?,
                None => {
                    // It was replaced since the index was looked at.
                    again = Some(token);
                    page.look_again(turn.table, token);
                    index = 0;
                    continue;
                }
            };
            page.ahead[index].1 = slot;
            index += 1;
        }
        Ok(())
    }

    /// What to do with a damaged record: the last copy has nobody who knows better, so it is left
    /// out; else another member must answer, for it may hold what this one lost.
    fn damaged(&self, partition: PartitionId) -> Result<Slot, Damaged> {
        let is_alone = self.row(partition).is_some_and(|row| row.len() == 1);
        if is_alone { Ok(Slot::Read(None)) } else { Err(Damaged) }
    }

    fn end_page<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        id: u64,
        end: Result<Option<Token>, Nack>,
    ) {
        let page = self.pages.jobs.remove(&id).expect("a page that ends is under way");
        let (from, call) = (page.from, page.call);
        self.answer_page(turn, from, call, end.map(|next| (page, next)));
    }

    fn answer_page<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        to: NodeId,
        call: CallId,
        answer: Result<(Page, Option<Token>), Nack>,
    ) {
        let (items, known, next, refusal, rests_on) = match answer {
            Ok((page, next)) => (page.items, page.known, next, None, page.rests_on),
            Err(why) => (Vec::new(), VersionVector::new(), None, Some(why), Seq(0)),
        };
        self.send(turn, rests_on, to, Message::PageReply { call, items, known, next, refusal });
    }
}

impl Pages {
    /// Number of pages that are under way.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }
}

/// A record cannot be read.
struct Damaged;

impl Page {
    fn is_full(&self) -> bool {
        self.items.len() >= self.limit
            || self.bytes >= PAGE_BYTES_MAX
            || self.looked_at >= PAGE_RECORDS_MAX
    }

    fn is_waiting(&self) -> bool {
        self.ahead.front().is_some_and(|(_, slot)| matches!(slot, Slot::Cold))
    }

    /// Looks at the index from the cursor on. `false` = there is nothing more.
    fn look_ahead(&mut self, table: &mut impl Table) -> bool {
        if self.cursor > self.last {
            return false;
        }
        let mut found = Vec::new();
        table.page(self.cursor, self.last, LOOK_AHEAD, &mut found);
        let Some(last) = found.last() else { return false };
        // Past the last token there is nothing: the end of the partition is the end of the ring.
        let next = last.token.0.checked_add(1).map(Token);
        self.ahead.extend(found.into_iter().map(|entry| (entry, Slot::Unread)));
        match next {
            Some(next) => self.cursor = next,
            None => self.last = Token(0),
        }
        true
    }

    /// Looks at a token anew whose records were replaced.
    fn look_again(&mut self, table: &mut impl Table, token: Token) {
        let mut found = Vec::new();
        table.page(token, token, 1, &mut found);
        let start = self.ahead.partition_point(|(entry, _)| entry.token < token);
        let end = self.ahead.partition_point(|(entry, _)| entry.token <= token);
        let fresh = found.into_iter().map(|entry| (entry, Slot::Unread));
        let rest = self.ahead.split_off(end);
        self.ahead.truncate(start);
        self.ahead.extend(fresh);
        self.ahead.extend(rest);
        // Keys of this token may have been taken already; they are read again.
        let kept = self.items.partition_point(|(key, _)| key.token < token);
        self.items.truncate(kept);
    }

    /// Takes what was read, in order. `Some` = the page is full, and this token is not in it.
    fn take(&mut self) -> Option<Token> {
        while let Some((entry, Slot::Read(_))) = self.ahead.front() {
            let token = entry.token;
            let begins = self.items.last().is_none_or(|(key, _)| key.token != token);
            if begins && self.is_full() {
                return Some(token);
            }
            self.looked_at += 1;
            let (_, slot) = self.ahead.pop_front().expect("it was there just now");
            if let Slot::Read(Some((key, object))) = slot {
                let payloads: usize = object.entries.iter().map(|entry| entry.payload.len()).sum();
                self.bytes += KEY_OVERHEAD_BYTES + key.bytes.len() + payloads;
                self.items.push((key, object));
            }
        }
        None
    }
}

impl Filter {
    /// Keys without siblings are taken too: what they know is of use where pages are merged.
    fn takes(&self, key: &Key, object: &Object) -> bool {
        key.bucket == self.scan.bucket
            && key.bytes.starts_with(&self.scan.prefix)
            && self.glob.as_ref().is_none_or(|glob| glob.matches(&key.bytes))
            && (!self.conflicts_only || object.shown().len() > 1)
    }

    /// The object as it travels.
    fn cut(&self, mut object: Object) -> Object {
        if !self.scan.values {
            object.entries.iter_mut().for_each(|entry| entry.payload.clear());
        }
        object
    }
}
