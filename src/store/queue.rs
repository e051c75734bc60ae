//! What waits to be written: per writer in order, and batches that span writers as one.
//!
//! A sync group takes a run from the front of each writer's queue, such that no part of a batch is
//! in without the others. Two batches may wait in opposite orders in two queues; both are then
//! taken at once. Keys of such batches are held by their shards until they are durable, so the
//! order per key is the order per queue.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;

use crate::marks::sometimes;
use crate::planted::{Bug, planted};
use crate::shard::{Group, Seq};

/// Records that stand in the log as one, or with the other parts of their group.
#[derive(Debug)]
pub(super) struct Put {
    /// Its number at its writer.
    pub(super) seq: Seq,
    /// Set where it is a part of a batch that spans writers.
    pub(super) group: Option<Group>,
    /// Its encoded records.
    pub(super) bytes: BytesMut,
}

/// What waits. Writers are the shards and, as the last one, the control plane.
#[derive(Debug)]
pub(super) struct Queue {
    writers: Vec<VecDeque<Put>>,
    /// Parts that are here, of groups that wait.
    arrived: BTreeMap<u64, u16>,
    /// The writer that is asked first next time.
    turn: usize,
}

impl Queue {
    /// An empty queue of this many writers.
    pub(super) fn new(writers: usize) -> Self {
        let writers = (0..writers).map(|_| VecDeque::new()).collect();
        Self { writers, arrived: BTreeMap::new(), turn: 0 }
    }

    /// Puts something at the end of a writer's queue.
    pub(super) fn push(&mut self, writer: usize, mut put: Put) {
        if planted(Bug::BulkHalfApplied) {
            put.group = None;
        }
        if let Some(group) = put.group {
            *self.arrived.entry(group.id).or_default() += 1;
        }
        self.writers[writer].push_back(put);
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.writers.iter().all(VecDeque::is_empty)
    }

    /// Takes what goes into the next group: at most `bytes_max` bytes, but at least one put with
    /// all that must go with it, if there is one whose parts are all here. The puts of one writer
    /// are in their order.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<(usize, Put)> {
        let mut taken = vec![0; self.writers.len()];
        let mut bytes = 0;
        let mut stuck = 0;
        let mut writer = self.turn;
        while stuck < self.writers.len() {
            let next = self.writers[writer].get(taken[writer]);
            let fits = |more: usize| bytes == 0 || bytes + more <= bytes_max;
            stuck += 1;
            match next.map(|put| (put.group, put.bytes.len())) {
                Some((None, more)) if fits(more) => {
                    taken[writer] += 1;
                    bytes += more;
                    stuck = 0;
                }
                Some((Some(_), _)) => {
                    let closure = self.closure(&taken, writer).filter(|(_, more)| fits(*more));
                    if let Some((wider, more)) = closure {
                        taken = wider;
                        bytes += more;
                        stuck = 0;
                    }
                }
                Some((None, _)) | None => {}
            }
            writer = (writer + 1) % self.writers.len();
        }
        self.turn = (self.turn + 1) % self.writers.len();
        self.drain(&taken)
    }

    /// The runs `taken` made longer by the next put of `writer` and all that must go with it, and
    /// the bytes by which they grow; `None` if a part has not come yet.
    fn closure(&self, taken: &[usize], writer: usize) -> Option<(Vec<usize>, usize)> {
        let mut wider = taken.to_vec();
        let mut bytes = 0;
        let mut wanted = vec![(writer, taken[writer] + 1)];
        while let Some((writer, upto)) = wanted.pop() {
            for index in wider[writer]..upto {
                let put = self.writers[writer].get(index).expect("it was found in this queue");
                bytes += put.bytes.len();
                let Some(group) = put.group else { continue };
                if self.arrived.get(&group.id) != Some(&group.parts) {
                    sometimes!("a part of a group waited for the others");
                    return None;
                }
                wanted.extend(self.parts(group).filter(|part| part.0 != writer));
            }
            wider[writer] = wider[writer].max(upto);
        }
        Some((wider, bytes))
    }

    /// For each part of a group its writer, and the length of the run that includes it.
    fn parts(&self, group: Group) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.writers.iter().enumerate().filter_map(move |(writer, queue)| {
            let is_part = |put: &Put| put.group.is_some_and(|other| other.id == group.id);
            Some((writer, queue.iter().position(is_part)? + 1))
        })
    }

    fn drain(&mut self, taken: &[usize]) -> Vec<(usize, Put)> {
        let mut puts = Vec::new();
        for (writer, (queue, &count)) in self.writers.iter_mut().zip(taken).enumerate() {
            for put in queue.drain(..count) {
                if let Some(group) = put.group {
                    self.arrived.remove(&group.id);
                }
                puts.push((writer, put));
            }
        }
        puts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(seq: u64, group: Option<(u64, u16)>, bytes: usize) -> Put {
        let group = group.map(|(id, parts)| Group { id, parts });
        Put { seq: Seq(seq), group, bytes: BytesMut::zeroed(bytes) }
    }

    fn check(queue: &mut Queue, bytes_max: usize, expected: &[(usize, u64)]) {
        let mut taken: Vec<_> =
            queue.take(bytes_max).iter().map(|(writer, put)| (*writer, put.seq.0)).collect();
        taken.sort_unstable();
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_group_waits_for_its_parts_and_holds_up_what_is_behind_it() {
        let mut queue = Queue::new(2);
        queue.push(0, put(1, None, 8));
        queue.push(0, put(2, Some((9, 2)), 8));
        queue.push(0, put(3, None, 8));
        queue.push(1, put(1, None, 8));
        check(&mut queue, 100, &[(0, 1), (1, 1)]);
        check(&mut queue, 100, &[]);
        queue.push(1, put(2, Some((9, 2)), 8));
        check(&mut queue, 100, &[(0, 2), (0, 3), (1, 2)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn groups_in_opposite_orders_go_together() {
        let mut queue = Queue::new(2);
        queue.push(0, put(1, Some((1, 2)), 8));
        queue.push(0, put(2, Some((2, 2)), 8));
        queue.push(1, put(1, Some((2, 2)), 8));
        queue.push(1, put(2, Some((1, 2)), 8));
        queue.push(1, put(3, None, 8));
        check(&mut queue, 8, &[(0, 1), (0, 2), (1, 1), (1, 2)]);
        check(&mut queue, 8, &[(1, 3)]);
    }

    #[test]
    fn a_put_longer_than_the_bound_goes_alone_and_the_others_get_their_turn() {
        let mut queue = Queue::new(2);
        queue.push(0, put(1, None, 1_000));
        queue.push(0, put(2, None, 10));
        queue.push(1, put(1, None, 10));
        check(&mut queue, 100, &[(0, 1)]);
        check(&mut queue, 15, &[(1, 1)]);
        check(&mut queue, 15, &[(0, 2)]);
    }
}
