//! The logs of batches that the disk holds when a process starts: each partition that counts some
//! is read once, as a page is read for anybody else, and this shard then knows whom to finish.

use bytes::Bytes;

use super::super::batch_log::BATCH_LOG_BUCKET;
use super::super::message::Message;
use super::super::operations::OperationId;
use super::super::{Seq, Shard, Table, Turn};
use super::Machine;
use crate::api::Scan;
use crate::causality::Object;
use crate::hash::{Key, PartitionId, Token};
use crate::limits::{PAGE_KEYS_MAX, READ_TIMEOUT_MS};
use crate::time::Mono;

/// The pause before a partition that could not be read is read again, in milliseconds.
const AGAIN_MS: u64 = 10_000;

/// The reading of the logs of one partition.
#[derive(Debug)]
pub(in super::super) struct Recalling {
    id: OperationId,
    partition: PartitionId,
    from: Token,
    again: Mono,
}

impl Shard {
    /// A partition is owned from now on: reads the logs that it holds, if any.
    pub(in super::super) fn recall_batch_logs<T: Table>(
        &mut self,
        turn: &mut Turn<'_, T>,
        partition: PartitionId,
    ) {
        let Some(layout) = self.layout() else { return };
        let (from, _) = partition.tokens(layout.partitions);
        if turn.table.count(partition, BATCH_LOG_BUCKET) > 0 {
            let id = self.operations.open();
            let machine = Recalling { id, partition, from, again: turn.now.mono };
            machine.ask(self, turn);
        }
    }
}

impl Recalling {
    /// When it wants to be woken.
    pub(super) fn wake(&self) -> Mono {
        self.again
    }

    /// Some of the logs, or why there are none.
    pub(super) fn on_page<T: Table>(
        mut self,
        shard: &mut Shard,
        turn: &mut Turn<'_, T>,
        (items, next): (Vec<(Key, Object)>, Option<Token>),
        is_refused: bool,
    ) {
        if is_refused {
            // It cannot answer for the partition yet; the timer asks again.
            return shard.wait(self.id, Some(Machine::Recalling(self)));
        }
        let me = shard.me();
        for (log, object) in items {
            if let Some(entry) = object.winner() {
                let is_own = me.is_some_and(|me| entry.dot.actor.tag() == me.tag());
                shard.recall_batch_log(turn.now.mono, log, is_own);
            }
        }
        if let Some(next) = next {
            self.from = next;
            self.ask(shard, turn);
        }
    }

    /// Asks for the next page.
    pub(super) fn ask<T: Table>(mut self, shard: &mut Shard, turn: &mut Turn<'_, T>) {
        let scan = Scan {
            bucket: BATCH_LOG_BUCKET,
            cursor: self.from,
            limit: u32::try_from(PAGE_KEYS_MAX).expect("a page holds a thousand keys"),
            prefix: Bytes::new(),
            pattern: Bytes::new(),
            values: false,
        };
        let (partition, left_ms) = (self.partition, READ_TIMEOUT_MS);
        let call = shard.operations.call(self.id, 0);
        let message = Message::Page { call, partition, scan, conflicts_only: false, left_ms };
        shard.send_home(turn, Seq(0), message);
        self.again = turn.now.mono.plus_ms(AGAIN_MS);
        shard.wait(self.id, Some(Machine::Recalling(self)));
    }
}
