//! Real processes that find one another: birth in every order of starts, members that come late,
//! clusters that meet, and the death of a node, which may cost a request little and soon nothing.
//!
//! `PEERAGE_FULL=1` starts nodes 3 s apart in all orders. Source: ours.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Json, Node, cli, full, let_pass, now, said, wait_at_most, wait_for};
use serde_json::{Value, json};

/// A cluster must be born this long after its last node has started.
const BIRTH: Duration = Duration::from_secs(10);

#[test]
fn three_nodes_that_seed_each_other_in_a_ring_are_born_in_every_order_of_starts() {
    let orders = [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1]];
    let gap = if full() { Duration::from_secs(3) } else { Duration::from_millis(300) };
    for order in orders.iter().take(if full() { 6 } else { 2 }) {
        let took = born_in_a_ring(order, gap);
        println!("PASS three in a ring, order {order:?}: born {took:.1?} after the last start");
    }
}

#[test]
fn five_nodes_that_seed_each_other_in_a_ring_are_born_as_one() {
    let gap = if full() { Duration::from_secs(3) } else { Duration::from_millis(100) };
    let took = born_in_a_ring(&[3, 0, 4, 2, 1], gap);
    println!("PASS five in a ring: born {took:.1?} after the last start");
}

/// Starts nodes of which each names the next one, and returns how long the birth took.
fn born_in_a_ring(order: &[usize], gap: Duration) -> Duration {
    let mut nodes = Node::several(order.len());
    let ports: Vec<u16> = nodes.iter().map(|node| node.cluster_port).collect();
    for (index, node) in nodes.iter_mut().enumerate() {
        node.seed(ports[(index + 1) % ports.len()]);
    }
    for (position, &index) in order.iter().enumerate() {
        if position > 0 {
            let_pass(gap);
        }
        nodes[index].start();
    }
    let last_start = now();
    for node in &nodes {
        let left = BIRTH.saturating_sub(last_start.elapsed());
        node.wait_ready_at_most(left.max(Duration::from_secs(1)));
    }
    let took = last_start.elapsed();
    let statuses: Vec<Value> = nodes.iter().map(Node::status).collect();
    let clusters: BTreeSet<&str> = statuses.iter().map(cluster_of).collect();
    assert_eq!(clusters.len(), 1, "born as one: {statuses:#?}");
    for status in &statuses {
        assert_eq!(members(status).len(), order.len(), "{status:#}");
        for member in members(status) {
            assert!(partitions(member) > 0, "every node owns partitions: {status:#}");
        }
    }
    serves_everywhere(&nodes);
    took
}

#[test]
fn a_third_node_that_nobody_waited_for_joins_without_partitions_and_serves_every_key() {
    let mut nodes = Node::several(3);
    let ports: Vec<u16> = nodes.iter().map(|node| node.cluster_port).collect();
    nodes[0].seed(ports[1]);
    nodes[1].seed(ports[0]);
    nodes[2].seed(ports[0]);
    nodes[0].start();
    nodes[1].start();
    nodes[0].wait_ready();
    nodes[1].wait_ready();
    nodes[2].start();
    nodes[2].wait_ready();
    let status = wait_for("the third node to be a member everywhere", || {
        let statuses: Vec<Value> = nodes.iter().map(Node::status).collect();
        let all = statuses.iter().all(|status| members(status).len() == 3);
        all.then(|| statuses[2].clone())
    });
    let third =
        members(&status).iter().find(|member| member["me"] == true).expect("it knows itself");
    assert_eq!(partitions(third), 0, "{status:#}");
    let output = cli(&["status", "--addr", &nodes[2].addr(), "--output", "table"]);
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("owns no partitions"), "status says what that means: {said}");
    serves_everywhere(&nodes);
    nodes[2].kill();
    nodes[2].start();
    nodes[2].wait_ready();
    serves_everywhere(&nodes);
}

#[test]
fn two_pairs_become_two_clusters_and_a_node_that_names_both_refuses_with_both_ids() {
    let mut nodes = Node::several(4);
    let ports: Vec<u16> = nodes.iter().map(|node| node.cluster_port).collect();
    for (index, node) in nodes.iter_mut().enumerate() {
        node.seed(ports[index ^ 1]);
        node.start();
    }
    for node in &nodes {
        node.wait_ready();
    }
    let statuses: Vec<Value> = nodes.iter().map(Node::status).collect();
    let clusters: Vec<&str> = statuses.iter().map(cluster_of).collect();
    assert_eq!(clusters[0], clusters[1]);
    assert_eq!(clusters[2], clusters[3]);
    assert_ne!(clusters[0], clusters[2]);
    let mut fifth = Node::new("n5");
    fifth.seed(ports[0]);
    fifth.seed(ports[2]);
    let said = fifth.start_and_fail();
    assert!(said.contains(clusters[0]) && said.contains(clusters[2]), "both ids: {said}");
    let statuses: Vec<Value> = nodes.iter().map(Node::status).collect();
    assert!(statuses.iter().all(|status| members(status).len() == 2), "nobody took it in");
    serves_everywhere(&nodes[..2]);
    serves_everywhere(&nodes[2..]);
}

#[test]
fn a_node_without_seeds_is_a_cluster_of_one_and_one_that_names_only_itself_is_refused() {
    let mut alone = Node::new("n1");
    alone.start();
    alone.wait_ready();
    assert_eq!(members(&alone.status()).len(), 1);
    let mut selfish = Node::new("n2");
    selfish.seed(selfish.cluster_port);
    let said = selfish.start_and_fail();
    assert!(said.contains("seed_is_self"), "{said}");
    // Beside another seed its own address is no mistake: lists of seeds may be equal everywhere.
    let mut pair = Node::several(2);
    let ports: Vec<u16> = pair.iter().map(|node| node.cluster_port).collect();
    for node in &mut pair {
        node.seed(ports[0]);
        node.seed(ports[1]);
        node.start();
    }
    for node in &pair {
        node.wait_ready();
        assert_eq!(members(&node.status()).len(), 2);
    }
}

#[test]
fn a_node_that_waits_for_its_seeds_says_for_whom() {
    let mut nodes = Node::several(2);
    let port = nodes[1].cluster_port;
    nodes[0].seed(port);
    nodes[0].start();
    let mut client = wait_for("the node to listen", || Json::try_open(nodes[0].port));
    let reply = client.call(&json!({"cmd": "SET", "key": "a", "value": "b"}));
    assert_eq!(reply["code"], "no_cluster", "{reply}");
    assert_eq!(reply["outcome"], "refused", "{reply}");
    let waits_for = format!("127.0.0.1:{port}");
    wait_for("the status to name the seed", || {
        nodes[0].status()["detail"].as_str().filter(|text| text.contains(&waits_for)).map(drop)
    });
    let named = reply["error"].as_str().is_some_and(|text| text.contains(&waits_for));
    let again = client.call(&json!({"cmd": "GET", "key": "a"}));
    let named_again = again["error"].as_str().is_some_and(|text| text.contains(&waits_for));
    assert!(named || named_again, "the refusal names the seed: {reply} {again}");
    let seed = nodes[0].cluster_port;
    nodes[1].seed(seed);
    nodes[1].start();
    nodes[0].wait_ready();
}

#[test]
fn a_cluster_that_was_killed_comes_back_as_the_same_one() {
    let mut nodes = Node::cluster(3, &[]);
    let before = nodes[0].status();
    let reply = nodes[0].json().call(&json!({"cmd": "SET", "key": "a", "value": "b"}));
    assert_eq!(reply["ok"], true, "{reply}");
    for node in &mut nodes {
        node.kill();
    }
    for node in nodes.iter_mut().rev() {
        node.start();
    }
    for node in &nodes {
        node.wait_ready();
        let status = node.status();
        assert_eq!(cluster_of(&status), cluster_of(&before));
        assert_eq!(status["epoch"], before["epoch"]);
        assert_eq!(node.json().call(&json!({"cmd": "GET", "key": "a"}))["value"], "b");
    }
}

#[test]
fn a_dead_node_costs_no_request_more_than_a_moment_and_soon_nothing() {
    death_costs_little(Node::kill);
}

/// A node that stands still looks as one whose machine lost its power: nothing closes its
/// connections, and only silence tells.
#[test]
fn a_node_that_falls_silent_costs_no_request_more_than_a_moment_and_soon_nothing() {
    death_costs_little(|node| node.signal("-STOP"));
}

fn death_costs_little(die: impl FnOnce(&mut Node)) {
    let mut nodes = Node::cluster(3, &[]);
    let stop = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            let port = nodes[writer % 2].port;
            std::thread::spawn(move || ask_until(&stop, &calls, port, writer))
        })
        .collect();
    let enough = |since: Instant, count: usize| {
        let calls = calls.lock().expect("no writer panics while it holds the calls");
        (calls.iter().filter(|call: &&Call| call.begun >= since).count() >= count).then_some(())
    };
    let start = now();
    wait_for("requests before the death", || enough(start, 300));
    die(&mut nodes[2]);
    let death = now();
    let after = death + Duration::from_secs(2);
    wait_for("requests two seconds after the death", || enough(after, 600));
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("a writer does not panic");
    }
    let calls = calls.lock().expect("every writer has ended");
    let failed: Vec<_> = calls.iter().filter(|call| !call.ok).collect();
    assert!(failed.is_empty(), "the others go on without it: {:#?}", failed.first());
    let slowest = calls.iter().map(|call| call.took).max().expect("there were calls");
    assert!(slowest < Duration::from_millis(1_500), "one request took {slowest:?}");
    let slow = Duration::from_millis(150);
    let late: Vec<_> = calls.iter().filter(|call| call.begun >= after).collect();
    let slow_late = late.iter().filter(|call| call.took > slow).count();
    println!(
        "PASS {} requests, the slowest took {slowest:.0?}; of {} begun two seconds after the \
         death {slow_late} took more than {slow:?}",
        calls.len(),
        late.len()
    );
    // Were the dead node still asked, every third key would wait for it. A busy machine may slow
    // a few.
    assert!(slow_late * 20 <= late.len(), "{slow_late} of {} were slow", late.len());
}

#[derive(Debug)]
struct Call {
    begun: Instant,
    took: Duration,
    ok: bool,
    #[expect(dead_code, reason = "shown when the test fails")]
    reply: String,
}

fn ask_until(stop: &AtomicBool, calls: &Mutex<Vec<Call>>, port: u16, writer: usize) {
    let mut client = Json::open(port);
    let mut turn = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let key = format!("{writer}-{}", turn / 2 % 64);
        let request = if turn.is_multiple_of(2) {
            json!({"cmd": "SET", "key": key, "value": turn.to_string()})
        } else {
            json!({"cmd": "GET", "key": key})
        };
        let begun = now();
        let reply = client.call(&request);
        let call = Call {
            begun,
            took: begun.elapsed(),
            ok: reply["ok"] == true || reply["error"] == "Key not found",
            reply: reply.to_string(),
        };
        calls.lock().expect("no writer panics while it holds the calls").push(call);
    }
}

#[test]
fn addresses_that_others_could_reach_are_refused_with_the_reason() {
    for host in ["0.0.0.0", "192.0.2.1"] {
        let mut node = Node::new("n1");
        node.options(&["--host", host]);
        let mut command = std::process::Command::new(common::binary());
        command.arg("serve").arg("--data-dir").arg(&node.data);
        command.args(["--host", host, "--port", &node.port.to_string()]);
        let output = command.output().expect("the binary under test can be started");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("loopback"), "{}", said(&output));
    }
}

/// Every node takes a write, and every node reads every write.
fn serves_everywhere(nodes: &[Node]) {
    for (writer, node) in nodes.iter().enumerate() {
        let mut client = node.json();
        for number in 0..20 {
            let key = format!("{writer}:{number}");
            let reply = client.call(&json!({"cmd": "SET", "key": key, "value": key}));
            assert_eq!(reply["ok"], true, "{} writes {key}: {reply}", node.name);
        }
    }
    for node in nodes {
        let mut client = node.json();
        for writer in 0..nodes.len() {
            for number in 0..20 {
                let key = format!("{writer}:{number}");
                let reply = client.call(&json!({"cmd": "GET", "key": key}));
                assert_eq!(reply["value"], key.as_str(), "{} reads {key}: {reply}", node.name);
            }
        }
    }
    wait_at_most(BIRTH, "every node to reach every other", || {
        let reached =
            |status: &Value| members(status).iter().all(|member| member["reachable"] == true);
        nodes.iter().all(|node| reached(&node.status())).then_some(())
    });
}

fn members(status: &Value) -> &Vec<Value> {
    status["members"].as_array().unwrap_or_else(|| panic!("no members in {status}"))
}

fn cluster_of(status: &Value) -> &str {
    status["cluster"].as_str().unwrap_or_else(|| panic!("no cluster in {status}"))
}

fn partitions(member: &Value) -> u64 {
    member["partitions"].as_u64().unwrap_or_else(|| panic!("no partitions in {member}"))
}
