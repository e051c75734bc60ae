//! What a fault may destroy, so that the promises of the cluster still bind.
//!
//! A record is promised to outlive the loss of fewer copies than there are. So damage stays within
//! a minority of the nodes of every row, never takes the last copy of a record that verifies, and
//! spares what the control plane must remember: a node that forgot a promise to its cluster does
//! not start again (docs/operations.md). Rows of one or two replicas have no minority and are
//! spared. What a disk silently does not store cannot be weighed beforehand, for the other copies
//! come later: such an event is excused if nothing is left of it, and its key is counted.
//! Source of the rule: the fault atlas of Alagappan et al., "Protocol-Aware Recovery", FAST 2018.

use std::collections::BTreeSet;
use std::ops::Range;

use super::ledger::Ledger;
use super::network::Place;
use crate::store::FileName;
use crate::store::inspect::{Inspected, InspectedKind, InspectedSegment};

/// What was destroyed so far, and what may still be.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Nodes whose disks have lost something, or pretended to store it.
    pub(super) damaged: BTreeSet<Place>,
    /// Nodes with rot in a log that was not read since.
    unread: BTreeSet<Place>,
    /// Damage that was not done because the promises would not have survived it.
    pub(super) spared: u64,
}

impl Budget {
    /// Whether the disk of a node may be damaged at all, in rows of so many replicas.
    pub(super) fn may_damage(&self, place: Place, replicas: usize) -> bool {
        let minority = replicas.saturating_sub(1) / 2;
        self.damaged.contains(&place) && minority > 0 || self.damaged.len() < minority
    }

    /// A node has read its log from end to end: it knows of all rot that there was.
    pub(super) fn read(&mut self, place: Place) {
        self.unread.remove(&place);
    }

    /// Whether these bytes of a file may be damaged, and are then taken as damaged.
    pub(super) fn takes(
        &mut self,
        ledger: &Ledger,
        place: Place,
        places: usize,
        replicas: usize,
        (file, bytes): (FileName, &Range<u64>),
    ) -> bool {
        if matches!(file, FileName::Sidecar(_)) {
            // It is derived data: whatever becomes of it is no damage to the node.
            return true;
        }
        let may = self.may_damage(place, replicas)
            && match file {
                // Of a record and of what proves that it was durable, one must be left: the end of
                // a log that lost both is a torn tail for everybody.
                FileName::Segment(_) if self.unread.contains(&place) => false,
                FileName::Segment(_) => spares(ledger, place, places, (file, bytes)),
                // It is rebuilt from the headers of the segments.
                FileName::Manifest | FileName::ManifestNew => true,
                FileName::Prepared(_) | FileName::Sidecar(_) => false,
            };
        if may {
            self.damaged.insert(place);
            self.unread.insert(place);
        } else {
            self.spared += 1;
        }
        may
    }
}

/// Whether nothing would be lost for good.
fn spares(
    ledger: &Ledger,
    place: Place,
    places: usize,
    (file, bytes): (FileName, &Range<u64>),
) -> bool {
    // A damaged header makes every record of the file unreadable if MANIFEST is damaged too.
    if bytes.start < InspectedSegment::header_bytes() {
        return false;
    }
    let Some(touched) = ledger.touched(place, file, bytes.clone()) else { return false };
    touched.iter().all(|found: &&Inspected| match &found.contents {
        InspectedKind::Key(record) => {
            ledger.is_replaced(place, found.lsn, &record.key)
                || ledger.has_other_copy(place, places, record)
        }
        // A node that lost an id denies nothing any more.
        InspectedKind::Request(_)
        | InspectedKind::Clock(_)
        | InspectedKind::Commit
        | InspectedKind::Noop => true,
        InspectedKind::Control => false,
    })
}
