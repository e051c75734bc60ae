//! The life of a cluster: who is gone, who comes, who comes back elsewhere.

use super::super::Phase;
use super::world::{World, addr, settings};

/// Nodes that all name all, born together.
fn born(count: usize) -> World {
    let all: Vec<usize> = (0..count).collect();
    let named: &[usize] = if count == 1 { &[] } else { &all };
    let seeds: Vec<&[usize]> = vec![named; count];
    let mut world = World::new(count as u64, &seeds);
    for node in 0..count {
        world.start(node);
    }
    world.run_ms(3_000);
    world.assert_converged();
    assert_eq!(world.layout(0).unwrap().roles.len(), count);
    world
}

fn refusal(world: &World, node: usize) -> String {
    match &world.view(node).phase {
        Phase::Refused(text) => text.clone(),
        Phase::Unborn(_) | Phase::Member => panic!("{}", world.describe()),
    }
}

#[test]
fn a_killed_process_is_unreachable_at_once_and_a_dead_machine_within_a_second_and_a_half() {
    let mut world = born(3);
    world.kill(1);
    world.run_ms(5);
    assert!(!world.reaches(0, 1));
    world.vanish(2);
    world.run_ms(900);
    assert!(world.reaches(0, 2), "a second of silence has not passed");
    world.run_ms(400);
    assert!(!world.reaches(0, 2));
    let since = world.view(0).members[&world.id(2)].since_unix_ms;
    world.run_ms(5_000);
    assert_eq!(world.view(0).members[&world.id(2)].since_unix_ms, since);
    world.start(1);
    world.start(2);
    world.run_ms(1_000);
    assert!(world.reaches(0, 1));
    assert!(world.reaches(0, 2));
}

#[test]
fn a_cut_link_is_unreachable_for_the_two_only_and_heals() {
    let mut world = born(3);
    world.cut(0, 1);
    world.run_ms(1_400);
    assert!(!world.reaches(0, 1));
    assert!(!world.reaches(1, 0));
    assert!(world.reaches(0, 2));
    assert!(world.reaches(1, 2));
    world.heal();
    world.run_ms(4_000);
    assert!(world.reaches(0, 1));
    assert!(world.reaches(1, 0));
}

#[test]
fn who_says_that_it_leaves_is_asked_no_more() {
    let mut world = born(2);
    world.tell_to_stop(1);
    world.run_ms(5);
    assert!(!world.reaches(0, 1));
}

#[test]
fn newcomers_are_taken_in_together_while_a_voter_is_down() {
    let mut world = born(3);
    world.vanish(2);
    let four = world.add(settings(3, &[0]));
    let five = world.add(settings(4, &[1]));
    world.start(four);
    world.start_after(five, 500);
    world.run_ms(12_000);
    let layout = world.layout(0).unwrap().clone();
    assert_eq!(layout.roles.len(), 5, "{}", world.describe());
    for node in [1, four, five] {
        assert_eq!(world.layout(node), Some(&layout));
    }
    assert_eq!(world.owned(four), 0);
    // The one that was away learns it from the others.
    world.start(2);
    world.run_ms(3_000);
    world.assert_converged();
    for node in 0..3 {
        assert!(world.reaches(node, four), "{}", world.describe());
        assert!(world.reaches(four, node), "{}", world.describe());
    }
}

#[test]
fn without_a_majority_of_voters_nobody_is_taken_in_and_the_newcomer_says_why() {
    let mut world = born(3);
    world.kill(1);
    world.kill(2);
    let late = world.add(settings(3, &[0]));
    world.start(late);
    world.run_ms(20_000);
    let Phase::Unborn(text) = &world.view(late).phase else { panic!("{}", world.describe()) };
    assert!(text.contains("2 of the 3 voters"), "{text}");
    assert!(text.contains("waits for"), "{text}");
    world.start(1);
    world.run_ms(10_000);
    assert_eq!(world.layout(late).map(|layout| layout.epoch), Some(2), "{}", world.describe());
}

#[test]
fn many_changes_later_a_node_that_was_away_catches_up() {
    let mut world = born(3);
    world.kill(2);
    for number in 3..10 {
        let late = world.add(settings(number, &[0]));
        world.start(late);
        world.run_ms(5_000);
        assert!(world.layout(late).is_some(), "{}", world.describe());
    }
    assert_eq!(world.layout(0).unwrap().epoch, 8);
    world.start(2);
    world.run_ms(3_000);
    world.assert_converged();
    // It bridged the gap, and its disk says so after another restart.
    world.kill(2);
    world.start(2);
    world.run_ms(3_000);
    world.assert_converged();
}

#[test]
fn a_taken_name_is_refused_in_words() {
    let mut world = born(2);
    let mut twin = settings(2, &[0]);
    twin.name = String::from("n1");
    let late = world.add(twin);
    world.start(late);
    world.run_ms(5_000);
    let text = refusal(&world, late);
    assert!(text.starts_with("name_taken"), "{text}");
    assert!(text.contains("--node-id"), "{text}");
    world.nodes[late].settings.name = String::from("n2");
    world.start(late);
    world.run_ms(6_000);
    world.assert_converged();
}

#[test]
fn a_member_that_is_started_under_another_name_keeps_the_one_that_others_know() {
    let mut world = born(2);
    world.kill(1);
    world.nodes[1].settings.name = String::from("renamed");
    world.start(1);
    world.run_ms(1_000);
    assert_eq!(world.view(1).name, "n1");
    assert!(world.nodes[1].notices.iter().any(|text| text.contains("renamed")));
    assert_eq!(world.hello(1).name, "n1");
}

#[test]
fn a_restart_at_another_address_heals_without_seeds() {
    let mut world = born(3);
    world.kill(1);
    world.nodes[1].settings.cluster_addr = addr(77);
    world.nodes[1].settings.seeds.clear();
    world.start(1);
    world.run_ms(2_000);
    for node in [0, 2] {
        assert!(world.reaches(node, 1), "{}", world.describe());
        assert_eq!(world.view(node).members[&world.id(1)].cluster_addr, addr(77));
    }
    // And one that was away meanwhile hears of it from the third.
    world.kill(0);
    world.run_ms(1_000);
    world.start(0);
    world.run_ms(2_000);
    assert!(world.reaches(0, 1), "{}", world.describe());
}

#[test]
fn a_member_whose_log_was_cleared_stops_instead_of_voting_again() {
    let mut world = born(3);
    world.kill(2);
    world.forget(2);
    world.start(2);
    world.run_ms(3_000);
    let text = refusal(&world, 2);
    assert!(text.starts_with("memory_lost"), "{text}");
    world.wipe(2);
    world.nodes[2].settings.name = String::from("n2b");
    world.start(2);
    world.run_ms(6_000);
    assert_eq!(world.layout(2).map(|layout| layout.roles.len()), Some(4), "{}", world.describe());
}

#[test]
fn a_cloned_directory_stops_the_process_that_came_second() {
    let mut world = born(3);
    let mut clone = world.nodes[1].settings.clone();
    clone.cluster_addr = addr(50);
    clone.seeds = vec![addr(0)];
    let clone = world.add(clone);
    world.start(clone);
    world.run_ms(8_000);
    let text = refusal(&world, clone);
    assert!(text.starts_with("identity_cloned"), "{text}");
    assert!(world.is_up(1));
    assert!(world.reaches(0, 1));
}

#[test]
fn an_actor_is_published_when_its_epoch_is_durable_and_grows_with_every_start() {
    let mut world = born(1);
    let mut last = world.view(0).actor.unwrap();
    for _ in 0..5 {
        world.kill(0);
        world.sync_us_max = 1_000_000;
        world.start(0);
        world.run_ms(0);
        assert_eq!(world.view(0).actor, None);
        world.run_ms(1_100);
        let next = world.view(0).actor.unwrap();
        assert!(next > last);
        last = next;
    }
}
