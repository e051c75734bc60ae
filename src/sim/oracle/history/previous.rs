//! What an acknowledged write says that it replaced.

use bytes::Bytes;

use super::{History, WriteId};
use crate::hash::{Key, PartitionId};

impl History {
    /// An acknowledged write says that it replaced `value`: it must have known of it. A record does
    /// not tell which delete it carries out, so of a delete some one must have. (That a write shows
    /// nothing is not judged: what it replaced may have ended before.)
    pub fn replaced(&mut self, partition: PartitionId, key: &Key, id: WriteId, value: &Bytes) {
        let (Some(facts), Some(write)) = (self.keys.get(key), self.writes.get(&id)) else { return };
        let events = write.dots.iter().filter_map(|dot| self.events.get(&(partition, *dot)));
        let is_delete = facts.deletes.contains(&id);
        let mut copies = facts.by_value.get(value).into_iter().flatten();
        let is_known = copies.any(|dot| {
            is_delete && facts.deleted.contains(dot)
                || events.clone().any(|event| event.past.contains(dot))
        });
        if !is_known {
            let value = value.escape_ascii();
            let text = format!("write {} shows {value}, which it did not replace", id.0);
            self.violate("W4 a write shows what it replaced", key, text);
        }
    }
}
