//! Each fault does what it says, seen in a small world without chance.

use super::{Astray, ClientFault, Death, DiskFault, Fault, LinkFault, NodeFault, Rotting};
use crate::api::Level;
use crate::hash::Key;
use crate::sim::chance::Family;
use crate::sim::network::Place;
use crate::sim::options::Options;
use crate::sim::scenario::{Context, Forgery, Operation, Request, Scenario};
use crate::sim::world::World;
use crate::store::{DiskOp, FileName};

/// A cluster of three in which clients have worked for a while.
fn world() -> World {
    let mut world = World::new(Scenario::of("faults", Options::calm(5)), false);
    world.run_until(4_000_000);
    world.begin_work();
    world.run_until(8_000_000);
    world
}

fn bytes_of(world: &World, place: Place) -> Vec<u8> {
    let disk = &world.machines[place].disk;
    let files = disk.list().into_iter().filter_map(|(file, _)| disk.stable(file));
    files.flat_map(<[u8]>::to_vec).collect()
}

fn shards(world: &World, place: Place) -> usize {
    world.machines[place].process.as_ref().map_or(0, crate::sim::process::Process::shards)
}

#[test]
fn a_bit_rots_in_a_record_that_others_hold_and_on_a_minority_of_disks_only() {
    let mut world = world();
    let before = bytes_of(&world, 0);
    let records = world.ledger.all(0).len();
    world.on_fault(Fault::Disk(0, DiskFault::Rot(Rotting::Record)));
    let after = bytes_of(&world, 0);
    assert_eq!((0..before.len()).filter(|&at| before[at] != after[at]).count(), 1);
    assert_eq!(world.ledger.all(0).len(), records - 1);
    let other = bytes_of(&world, 1);
    world.on_fault(Fault::Disk(1, DiskFault::Rot(Rotting::Record)));
    assert_eq!(other, bytes_of(&world, 1), "a second disk of three is spared");
    assert!(world.budget.spared > 0);
}

#[test]
fn rot_finds_the_newest_record_of_a_key_its_header_and_its_sector() {
    let changed = |rotting| {
        let mut world = world();
        let before = bytes_of(&world, 0);
        let newest = world.ledger.all_newest(0);
        world.on_fault(Fault::Disk(0, DiskFault::Rot(rotting)));
        let after = bytes_of(&world, 0);
        let left = world.ledger.all_newest(0);
        assert!(newest.iter().any(|lies| !left.contains(lies)), "{rotting:?}");
        (0..before.len()).filter(|&at| before[at] != after[at]).count()
    };
    assert_eq!(changed(Rotting::Newest), 1);
    assert_eq!(changed(Rotting::Header), 1);
    assert!((2..=512).contains(&changed(Rotting::Sector)));
}

#[test]
fn a_write_that_is_lost_is_in_no_memory_and_on_no_disk() {
    let mut world = world();
    world.on_fault(Fault::Disk(2, DiskFault::Astray(Astray::Lost)));
    world.run_until(10_000_000);
    assert_eq!(world.tally.writes_astray, 1);
    assert_eq!(world.budget.damaged, [2].into());
}

#[test]
fn a_lost_file_is_gone() {
    let mut world = world();
    let segments = |world: &World| {
        let files = world.machines[1].disk.list().into_iter();
        files.filter(|(file, _)| matches!(file, FileName::Segment(_))).count()
    };
    let before = segments(&world);
    world.on_fault(Fault::Disk(1, DiskFault::LoseFile));
    assert_eq!(segments(&world), before - 1);
}

#[test]
fn a_full_disk_has_room_again_by_itself() {
    let mut world = world();
    world.on_fault(Fault::Disk(0, DiskFault::Full { room: 0, span_us: 2_000_000 }));
    let full = |world: &World| world.machines[0].disk.faults.capacity < u64::MAX;
    world.run_until(9_900_000);
    assert!(full(&world));
    world.run_until(12_000_000);
    assert!(!full(&world));
    assert!(world.machines[0].process.is_some(), "it went on");
}

#[test]
fn a_stuck_disk_completes_nothing_until_it_is_free() {
    let mut world = world();
    world.on_fault(Fault::Disk(1, DiskFault::Stuck(3_000_000)));
    world.run_until(8_500_000);
    let before = bytes_of(&world, 1);
    world.run_until(10_900_000);
    assert_eq!(before, bytes_of(&world, 1));
    world.run_until(13_000_000);
    assert_ne!(before, bytes_of(&world, 1));
}

#[test]
fn a_slow_disk_takes_its_time_and_an_error_ends_the_process() {
    let mut world = world();
    let slow = DiskFault::Slow { longest_us: 900_000, span_us: 1_000_000 };
    world.on_fault(Fault::Disk(0, slow));
    let trouble = &world.machines[0].trouble;
    assert_eq!(trouble.slow_us(world.now_us), Some(900_000));
    assert_eq!(trouble.slow_us(world.now_us + 1_000_000), None);
    world.on_fault(Fault::Disk(1, DiskFault::Error(1)));
    world.run_until(9_000_000);
    assert_eq!(world.tally.ended, 1);
}

#[test]
fn a_node_goes_down_at_the_name_that_was_told_and_comes_back() {
    let mut world = world();
    let name_changes = |world: &mut World| {
        let mut chance = world.chance.at(Family::Disk, 1, world.now_us, 0);
        world.perform(1, DiskOp::Create { file: FileName::ManifestNew, bytes: 0 }, &mut chance)
    };
    let death = Death { after: 2, has_no_power: false, back_us: 500_000 };
    world.on_fault(Fault::Disk(1, DiskFault::Death(death)));
    let life = world.machines[1].life;
    name_changes(&mut world).unwrap();
    world.run_until(world.now_us + 1);
    assert!(world.machines[1].process.is_some(), "it was the first name");
    name_changes(&mut world).unwrap();
    world.run_until(world.now_us + 1);
    assert!(world.machines[1].process.is_none());
    world.run_until(world.now_us + 1_000_000);
    assert!(world.machines[1].life > life, "it is back");
}

#[test]
fn a_slow_node_takes_fewer_turns() {
    let events = |factor| {
        let mut world = world();
        let before = world.tally.events;
        for place in 0..3 {
            let slow = NodeFault::Slow { factor, span_us: 10_000_000 };
            world.on_fault(Fault::Node(place, slow));
        }
        world.run_until(10_000_000);
        world.tally.events - before
    };
    assert!(events(10_000) < events(1) / 2);
}

#[test]
fn a_node_comes_back_with_other_shards_with_nothing_or_with_its_old_memory() {
    let mut world = world();
    world.on_fault(Fault::Node(0, NodeFault::Backup));
    world.on_fault(Fault::Node(0, NodeFault::Reshard(3)));
    world.run_until(10_000_000);
    assert_eq!(shards(&world, 0), 3);
    let copy = world.machines[0].backup.as_ref().map(crate::sim::SimDisk::list);
    world.on_fault(Fault::Node(0, NodeFault::Wipe));
    assert!(world.machines[0].disk.list().is_empty());
    world.on_fault(Fault::Node(0, NodeFault::Restore));
    assert_eq!(Some(world.machines[0].disk.list()), copy);
}

#[test]
fn a_clogged_way_and_a_message_cut_short_break_no_promise() {
    let mut world = world();
    world.on_fault(Fault::Link(0, 1, LinkFault::Clog(3_000_000)));
    world.on_fault(Fault::Link(1, 2, LinkFault::CutShort));
    world.run_until(20_000_000);
    assert_eq!((world.tally.clogs, world.tally.cut_short), (1, 1));
    assert!(world.history.violations().is_empty(), "{:?}", world.history.violations());
}

/// The oracle of convergence leaves out no node for its damage: a process that has nothing but its
/// disk must have found it, and reads must have healed it.
#[test]
fn a_damaged_node_starts_anew_when_things_are_mended_and_must_be_equal_too() {
    let mut world = world();
    world.on_fault(Fault::Disk(0, DiskFault::Rot(Rotting::Record)));
    world.end_work();
    world.run_until(15_000_000);
    let lives = [0, 1].map(|place| world.machines[place].life);
    world.mend();
    let lives_then = [0, 1].map(|place| world.machines[place].life);
    assert_eq!(lives_then, [lives[0] + 1, lives[1]], "only the damaged one starts anew");
    world.run_until(25_000_000);
    for (file, offset, length) in world.ledger.all(0) {
        world.ledger.spoil(0, file, &(offset..offset + length));
    }
    world.check_converged();
    let found = world.history.violations();
    assert!(found.iter().any(|found| found.invariant.starts_with("C1")), "{found:?}");
}

fn broken(world: &World) -> Vec<&'static str> {
    world.history.violations().iter().map(|violation| violation.invariant).collect()
}

#[test]
fn half_a_request_is_never_carried_out_and_its_client_goes_on() {
    let mut world = world();
    for client in 0..6 {
        let silent = client % 2 == 0;
        let fault = if silent { ClientFault::Silence } else { ClientFault::HalfRequest };
        world.on_fault(Fault::Client(client, fault));
    }
    world.run_until(25_000_000);
    assert_eq!(world.tally.half_requests, 6);
    assert!(world.tally.unknown >= 6);
    world.end_work();
    world.run_until(35_000_000);
    assert_eq!(broken(&world), [""; 0]);
    assert!(world.clients.iter().all(crate::sim::clients::Client::is_idle));
}

/// A write of a judge, who has nothing else to do.
fn write(world: &World, context: Context) -> Operation {
    let client = world.judges().start;
    let request = Request::Set { key: Key::plain("forged"), value: "1".into(), context, ttl_us: 0 };
    Operation { client, via: Some(0), request, level: Level::Quorum, expect: None }
}

#[test]
fn an_answer_to_half_a_request_is_found() {
    let mut world = world();
    let operation = write(&world, Context::Absent);
    let client = operation.client;
    world.on_fault(Fault::Client(client, ClientFault::Silence));
    world.begin(operation, "");
    let life = world.machines[0].life;
    world.on_answer(client, 0, life, b"{\"ok\":true}");
    assert!(broken(&world).contains(&"V1 half a request is no request"));
}

#[test]
fn a_token_of_another_key_that_is_taken_is_found() {
    let mut world = world();
    let client = world.judges().start;
    // Most keys lie in other partitions than this one.
    let donor = (0..6).find_map(|client| {
        let memory = &world.clients[client].memory;
        let home = world.partition(&Key::plain("forged"));
        memory.iter().find(|(key, _)| world.partition(key) != home)
    });
    let (key, memory) = donor.map(|(key, memory)| (key.clone(), memory.clone())).unwrap();
    world.clients[client].memory.insert(key, memory);
    let operation = write(&world, Context::Forged(Forgery::OtherKey));
    world.begin(operation.clone(), "");
    world.run_until(9_000_000);
    assert_eq!(broken(&world), [""; 0], "the node refuses it");
    world.begin(operation, "");
    let life = world.machines[0].life;
    world.on_answer(client, 0, life, b"{\"ok\":true}");
    assert!(broken(&world).contains(&"V1 a foreign token is refused"));
}

#[test]
fn a_node_that_runs_from_the_directory_of_another_one_is_stopped_and_gets_its_own_back() {
    let mut world = world();
    let identity = world.machines[2].settings.node();
    world.on_fault(Fault::Node(2, NodeFault::Clone(0)));
    assert_eq!(world.machines[2].settings.node(), world.machines[0].settings.node());
    world.run_until(20_000_000);
    let why = world.machines[2].ended.clone().unwrap_or_default();
    assert!(why.contains("run with one identity"), "{why}");
    world.end_work();
    world.mend();
    assert_eq!(world.machines[2].settings.node(), identity);
    // What both wrote under one name breaks promises until nodes tell copies apart by more than
    // meeting them, so clones are not drawn (docs/simulations.md).
    assert!(world.wait(|world| world.is_one_cluster(&[0, 1, 2])));
}

#[test]
fn a_node_that_comes_later_joins() {
    let options = Options { nodes: 4, newcomers: 1, ..Options::calm(5) };
    let mut world = World::new(Scenario::of("newcomer", options), false);
    world.run_until(4_000_000);
    assert!(world.is_one_cluster(&[0, 1, 2]));
    assert!(world.machines[3].process.is_none());
    world.start_newcomers();
    world.run_until(30_000_000);
    assert!(world.is_one_cluster(&[0, 1, 2, 3]));
}
