//! Births: in any order, through crashes and cuts, and what is refused.

use rand::RngExt;
use rand::seq::SliceRandom;

use super::super::Phase;
use super::world::{ALIAS, World, addr, settings};

/// Every order of 0..n.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1);
    let insert = |order: &Vec<usize>| {
        let order = order.clone();
        (0..n).map(move |place| {
            let mut longer = order.clone();
            longer.insert(place, n - 1);
            longer
        })
    };
    shorter.iter().flat_map(insert).collect()
}

fn ring(n: usize) -> Vec<Vec<usize>> {
    (0..n).map(|node| vec![(node + 1) % n]).collect()
}

fn world(seed: u64, seeds: &[Vec<usize>]) -> World {
    let seeds: Vec<&[usize]> = seeds.iter().map(Vec::as_slice).collect();
    World::new(seed, &seeds)
}

/// Starts the nodes in this order, `gap_ms` apart, and expects one cluster in which all own a part.
fn check_born_as_one(seeds: &[Vec<usize>], order: &[usize], gap_ms: u64) {
    let mut world = world(order.iter().fold(7, |sum, &node| sum * 10 + node as u64), seeds);
    for (turn, &node) in order.iter().enumerate() {
        world.start_after(node, turn as u64 * gap_ms);
    }
    world.run_ms((order.len() as u64 - 1) * gap_ms + 5_000);
    world.assert_converged();
    assert_eq!(world.clusters(), 1);
    for node in 0..order.len() {
        assert_eq!(world.layout(node).unwrap().epoch, 1, "{}", world.describe());
        assert!(world.owned(node) > 0, "{}", world.describe());
    }
}

#[test]
fn three_in_a_ring_are_born_as_one_in_every_order() {
    for order in orders(3) {
        for gap_ms in [0, 100, 3_000] {
            check_born_as_one(&ring(3), &order, gap_ms);
        }
    }
}

#[test]
fn five_in_a_ring_are_born_as_one_in_every_order() {
    for order in orders(5) {
        check_born_as_one(&ring(5), &order, 3_000);
    }
}

#[test]
fn a_star_whose_centre_names_the_last_is_born_as_one_in_every_order() {
    let star: Vec<Vec<usize>> = vec![vec![1, 2, 3], vec![0], vec![0], vec![0]];
    for order in orders(4) {
        check_born_as_one(&star, &order, 1_500);
    }
}

#[test]
fn two_disjoint_pairs_become_two_clusters_in_every_order() {
    let pairs: Vec<Vec<usize>> = vec![vec![1], vec![0], vec![3], vec![2]];
    for order in orders(4) {
        let mut world = world(3, &pairs);
        for (turn, &node) in order.iter().enumerate() {
            world.start_after(node, turn as u64 * 700);
        }
        world.run_ms(8_000);
        assert_eq!(world.clusters(), 2, "{}", world.describe());
        assert_eq!(world.layout(0), world.layout(1));
        assert_eq!(world.layout(2), world.layout(3));
        assert_ne!(world.layout(0).unwrap().cluster, world.layout(2).unwrap().cluster);
        let late = world.add(settings(4, &[0, 2]));
        world.start(late);
        world.run_ms(5_000);
        let (one, other) = (world.layout(0).unwrap(), world.layout(2).unwrap());
        let Phase::Refused(text) = &world.view(late).phase else {
            panic!("{}", world.describe());
        };
        assert!(text.contains(&one.cluster.to_string()), "{text}");
        assert!(text.contains(&other.cluster.to_string()), "{text}");
        assert_eq!((one.epoch, other.epoch), (1, 1), "a ghost was taken in");
    }
}

#[test]
fn who_names_a_born_pair_joins_without_partitions_and_says_what_that_means() {
    let mut world = world(1, &[vec![1], vec![0], vec![0]]);
    world.start(0);
    world.start_after(1, 3_000);
    world.start_after(2, 6_000);
    world.run_ms(12_000);
    world.assert_converged();
    assert_eq!(world.layout(2).unwrap().epoch, 2);
    assert_eq!((world.owned(0), world.owned(1), world.owned(2)), (16, 16, 0));
    let standing = world.view(2).standing();
    assert!(standing.starts_with("member without partitions"), "{standing}");
}

#[test]
fn who_names_an_unborn_pair_in_time_is_born_with_it() {
    let mut world = world(1, &[vec![1], vec![0], vec![0]]);
    world.start(2);
    world.start_after(0, 3_000);
    world.start_after(1, 6_000);
    world.run_ms(10_000);
    world.assert_converged();
    assert_eq!(world.layout(2).unwrap().epoch, 1);
    assert!(world.owned(2) > 0);
}

#[test]
fn nobody_is_born_while_a_named_seed_is_missing_and_status_says_so() {
    let mut world = world(1, &ring(3));
    world.start(0);
    world.start(1);
    world.run_ms(60_000);
    let expected = format!("waits for {}, named as seed by n1", addr(2));
    for node in [0, 1] {
        assert_eq!(world.view(node).phase, Phase::Unborn(expected.clone()));
    }
    world.start(2);
    world.run_ms(4_000);
    world.assert_converged();
    assert!(world.owned(2) > 0);
}

#[test]
fn a_node_without_seeds_is_a_cluster_of_one_at_once_and_again_after_a_restart() {
    let mut world = world(1, &[vec![]]);
    world.start(0);
    world.run_ms(20);
    let layout = world.layout(0).unwrap().clone();
    assert_eq!(world.owned(0), 16);
    world.kill(0);
    world.start(0);
    world.run_ms(20);
    assert_eq!(world.layout(0), Some(&layout));
}

#[test]
fn a_seed_that_is_the_node_itself_is_refused_by_text_and_by_handshake() {
    let mut alone = world(1, &[vec![0]]);
    alone.start(0);
    alone.run_ms(100);
    let Phase::Refused(text) = &alone.view(0).phase else { panic!("{}", alone.describe()) };
    assert!(text.starts_with("seed_is_self"), "{text}");
    // Under another name it is found out by dialling it.
    let mut alone = world(1, &[vec![]]);
    alone.nodes[0].settings.seeds = vec![format!("{ALIAS}{}", addr(0))];
    alone.start(0);
    alone.run_ms(1_000);
    let Phase::Refused(text) = &alone.view(0).phase else { panic!("{}", alone.describe()) };
    assert!(text.starts_with("seed_is_self"), "{text}");
    // Beside others it counts as itself.
    check_born_as_one(&[vec![0, 1], vec![1, 0]], &[0, 1], 0);
}

#[test]
fn seeds_may_name_a_node_by_another_name_than_its_own() {
    let mut world = world(1, &ring(3));
    for node in 0..3 {
        world.nodes[node].settings.seeds = vec![format!("{ALIAS}{}", addr((node + 1) % 3))];
        world.start_after(node, node as u64 * 1_000);
    }
    world.run_ms(7_000);
    world.assert_converged();
    assert!((0..3).all(|node| world.owned(node) > 0), "{}", world.describe());
}

#[test]
fn different_rings_are_not_born_together_until_one_is_restarted() {
    let mut world = world(1, &ring(2));
    world.nodes[1].settings.partitions = 32;
    world.start(0);
    world.start(1);
    world.run_ms(5_000);
    let Phase::Unborn(text) = &world.view(0).phase else { panic!("{}", world.describe()) };
    assert!(text.contains("partitions=16") && text.contains("partitions=32"), "{text}");
    world.kill(1);
    world.nodes[1].settings.partitions = 16;
    world.start(1);
    world.run_ms(5_000);
    world.assert_converged();
}

#[test]
fn a_node_that_cannot_reach_all_joins_the_others_later() {
    let mut world = world(1, &[vec![1], vec![0], vec![0]]);
    world.cut(1, 2);
    for node in 0..3 {
        world.start(node);
    }
    world.run_ms(20_000);
    world.assert_converged();
    assert_eq!(world.clusters(), 1);
    assert_eq!((world.owned(0), world.owned(1), world.owned(2)), (16, 16, 0));
}

/// Random starts, crashes, cuts and wiped directories during birth, then peace.
fn check_turbulent_birth(seed: u64) {
    let shapes: [Vec<Vec<usize>>; 4] = [
        ring(3),
        ring(5),
        vec![vec![1], vec![0], vec![0], vec![0]],
        vec![vec![1, 2], vec![2, 0], vec![0, 1]],
    ];
    let shape = &shapes[usize::try_from(seed % 4).unwrap()];
    let mut world = world(seed, shape);
    let nodes = shape.len();
    world.delay_us_max = world.rng.random_range(500..400_000);
    world.sync_us_max = world.rng.random_range(500..200_000);
    let mut order: Vec<usize> = (0..nodes).collect();
    order.shuffle(&mut world.rng);
    for node in order {
        let delay_ms = world.rng.random_range(0..2_000);
        world.start_after(node, delay_ms);
    }
    world.run_ms(2_000);
    for _ in 0..world.rng.random_range(3..25) {
        let pause_ms = world.rng.random_range(10..900);
        world.run_ms(pause_ms);
        let node = world.rng.random_range(0..nodes);
        match world.rng.random_range(0..10) {
            0..=3 if world.is_up(node) => {
                world.kill(node);
                let away_ms = world.rng.random_range(1..1_500);
                world.run_ms(away_ms);
                world.start(node);
            }
            4 | 5 => world.break_some_link(),
            6 => world.cut(node, (node + 1) % nodes),
            7 if world.is_up(node) => {
                world.vanish(node);
                world.run_ms(200);
                world.start(node);
            }
            _ => world.heal(),
        }
        world.run_ms(1);
    }
    world.heal();
    world.delay_us_max = 5_000;
    world.sync_us_max = 5_000;
    for _ in 0..60 {
        if !world.has_converged() {
            world.run_ms(1_000);
        }
    }
    world.assert_converged();
    assert_eq!(world.clusters(), 1, "{}", world.describe());
    for node in 0..nodes {
        assert!(world.is_up(node), "{}", world.describe());
        assert!(world.layout(node).unwrap().roles.contains_key(&world.id(node)));
    }
}

#[test]
fn through_crashes_and_cuts_one_cluster_is_born() {
    for seed in 0..500 {
        let result = std::panic::catch_unwind(|| check_turbulent_birth(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}
