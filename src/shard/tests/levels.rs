//! Levels x reachable members x row lengths, against an oracle that only counts.

use super::world::{Faults, World, delete, get, node_id, put};
use crate::api::{Expiry, Fault, Level, Op, Outcome, Reply, Request, WriteContext};
use crate::hash::Key;

const FAULTS: Faults = Faults { lost: 0, doubled: 0, delay_us: 300, sync_us: 300, cold: 0 };
/// Five members at most, and one node that owns nothing.
const NODES: usize = 6;
const OUTSIDER: usize = 5;

#[derive(Clone, Copy, Debug)]
struct Case {
    row: usize,
    /// Bit i is set where member i is down.
    down: usize,
    coordinator: usize,
    /// Whether everybody knows who is down.
    known: bool,
    level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcomes {
    Fine,
    Refused,
    Unknown,
}

impl Case {
    fn up(self) -> usize {
        (0..self.row).filter(|member| self.down & (1 << member) == 0).count()
    }

    fn needed(self) -> usize {
        match self.level {
            Level::One => 1,
            Level::Sloppy | Level::Quorum | Level::Strict => self.row / 2 + 1,
            Level::All => self.row,
        }
    }

    fn write(self) -> Outcomes {
        if self.up() >= self.needed() {
            Outcomes::Fine
        } else if self.known {
            Outcomes::Refused
        } else {
            Outcomes::Unknown
        }
    }

    fn read(self) -> Outcomes {
        if self.up() >= self.needed() { Outcomes::Fine } else { Outcomes::Refused }
    }

    fn world(self, key: &Key) -> World {
        let mut world = World::new(1, NODES, 1, self.row, 1, FAULTS);
        let before = world.call(0, put(key, "before", WriteContext::Known));
        assert!(matches!(before, Reply::Written(_)), "{before:?}");
        world.run();
        for member in (0..self.row).filter(|member| self.down & (1 << member) != 0) {
            world.nodes[member].is_up = false;
        }
        if self.known {
            world.publish();
        }
        world
    }
}

fn cases() -> impl Iterator<Item = Case> {
    (1..=5_usize).flat_map(|row| {
        (0..1_usize << row).flat_map(move |down| {
            [0, OUTSIDER].into_iter().filter(move |node| down & (1 << node) == 0).flat_map(
                move |coordinator| {
                    [true, false].into_iter().flat_map(move |known| {
                        Level::ALL
                            .map(|level| Case { row, down, coordinator, known, level })
                            .into_iter()
                    })
                },
            )
        })
    })
}

fn outcome(reply: &Reply) -> Outcomes {
    match reply {
        Reply::Fault(fault) if fault.outcome() == Outcome::Unknown => Outcomes::Unknown,
        Reply::Fault(Fault::Unavailable { detail, .. }) => {
            assert!(detail.contains('n'), "a refusal names who is missing: {detail}");
            Outcomes::Refused
        }
        Reply::Fault(fault) => panic!("not a matter of levels: {fault}"),
        _ => Outcomes::Fine,
    }
}

#[test]
fn every_level_is_met_exactly_when_enough_members_can_be_reached() {
    let key = Key::plain("k");
    for case in cases() {
        let writes = [put(&key, "after", WriteContext::Known), delete(&key)];
        for request in writes {
            let mut world = case.world(&key);
            let reply = world.call(case.coordinator, Request { level: case.level, ..request });
            assert_eq!(outcome(&reply), case.write(), "{case:?}: {reply:?}");
            world.run();
            if case.write() == Outcomes::Refused {
                for member in 0..case.row {
                    let held = world.table(member, &key).holds(&key);
                    let value = held.winner().map(|entry| entry.payload.clone());
                    assert_eq!(value.as_deref(), Some(&b"before"[..]), "{case:?} changed {member}");
                }
            }
        }
        let mut world = case.world(&key);
        let reply = world.call(case.coordinator, Request { level: case.level, ..get(&key) });
        assert_eq!(outcome(&reply), case.read(), "{case:?}: {reply:?}");
        if let Reply::Read(read) = &reply {
            assert_eq!(read.siblings.len(), 1, "{case:?}");
        }
    }
}

#[test]
fn numbers_replace_the_level_and_those_beyond_the_row_are_refused() {
    let key = Key::plain("k");
    for row in 1..=5_u8 {
        for number in 0..=row + 1 {
            let mut world = World::new(2, NODES, 1, usize::from(row), 1, FAULTS);
            let w = Some(number);
            let written = world.call(0, Request { w, ..put(&key, "v", WriteContext::Known) });
            let read = world.call(0, Request { r: w, ..get(&key) });
            if (1..=row).contains(&number) {
                let Reply::Written(written) = written else { panic!("w={number}: {written:?}") };
                assert!(written.acks_home >= number, "{written:?}");
                assert!(matches!(read, Reply::Read(_)), "r={number}: {read:?}");
            } else {
                for (which, reply) in [("w", written), ("r", read)] {
                    let which = String::from(which);
                    assert_eq!(reply, Reply::Fault(Fault::BadLevel { which, number, row }));
                }
            }
        }
    }
}

#[test]
fn the_first_reachable_member_leads_where_the_coordinator_owns_nothing() {
    let key = Key::plain("k");
    let mut world = World::new(3, NODES, 1, 3, 1, FAULTS);
    world.nodes[0].is_up = false;
    let (value, context, expiry) = ("v".into(), WriteContext::Known, Expiry::Never);
    let op = Op::Put { key: key.clone(), value, context, expiry };
    let reply = world.call(OUTSIDER, Request::new(op));
    let Reply::Written(written) = reply else { panic!("{reply:?}") };
    assert_eq!(written.dot.actor.tag(), node_id(1).tag());
}
