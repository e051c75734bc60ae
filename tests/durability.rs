//! What was acknowledged stays, whatever dies: kill -9 under load, directories that must not be
//! touched, a full disk; and bulks that are whole at every moment.
//!
//! `PEERAGE_FULL=1` runs the loops at full length. Source: ours.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::disk::{PoweredDisk, SmallDisk};
use common::load::{self, Ledger, Load, check, lock};
use common::{Json, Node, generator, rounds, wait_for};
use rand::RngExt;
use serde_json::json;

#[test]
fn a_node_killed_again_and_again_loses_nothing_that_it_acknowledged() {
    kill_loop(1, rounds(4, 50));
}

#[test]
fn three_nodes_killed_one_by_one_and_all_at_once_lose_nothing_acknowledged() {
    kill_loop(3, rounds(4, 50));
}

#[test]
fn five_nodes_killed_one_by_one_and_all_at_once_leave_no_half_of_a_bulk() {
    kill_loop(5, rounds(3, 50));
}

/// The coordinator of a bulk over several groups dies a moment after it was asked, a little later
/// each time, and stays away: the others finish what it began, or it never was.
#[test]
fn others_finish_the_bulk_of_a_coordinator_that_stays_away() {
    let mut nodes = Node::cluster(5, &["--shards", "2"]);
    let rounds = rounds(1, 12);
    let mut whole = 0;
    for round in 0..rounds {
        let keys = load::bulk_keys(&format!("away-{round}"));
        let items: Vec<_> = keys.iter().map(|key| json!({"key": key, "value": "1"})).collect();
        let mut client = nodes[0].json();
        client.send(format!("{}\n", json!({"cmd": "BULK_SET", "items": items})).as_bytes());
        common::let_pass(Duration::from_millis(u64::try_from(round).unwrap()));
        nodes[0].kill();
        let since = common::now();
        let mut other = nodes[1].json();
        let mut read =
            || keys.iter().filter(|key| load::read_number(&mut other, key, "quorum") > 0).count();
        common::let_pass(Duration::from_millis(1_500));
        let mut found = read();
        while found % keys.len() != 0 && common::now() < since + load::FINISHED_WITHIN {
            common::let_pass(Duration::from_millis(100));
            found = read();
        }
        assert!(found == 0 || found == keys.len(), "round {round}: {found} keys are there");
        whole += usize::from(found > 0);
        nodes[0].start();
        nodes[0].wait_ready();
    }
    println!("PASS {rounds} coordinators killed: {whole} bulks whole, the others never were");
}

/// Kills under load, every second time all nodes at once, and reads everything back each time.
fn kill_loop(size: usize, kills: usize) {
    let mut random = generator();
    // Two shards, so that a bulk spans them.
    let mut nodes = Node::cluster(size, &["--shards", "2"]);
    let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut wrong = Vec::new();
    for kill in 0..kills {
        let load = Load::start(&ledger, &ports, 6, 2);
        load.wait_acked(200 + random.random_range(0..100), 5);
        let victims = if kill % 2 == 1 { 0..size } else { kill / 2 % size..kill / 2 % size + 1 };
        for victim in victims.clone() {
            nodes[victim].kill();
        }
        let since = common::now();
        load.stop();
        for victim in victims {
            nodes[victim].start();
        }
        for node in &nodes {
            node.wait_ready();
        }
        wrong.extend(check(&ledger, &nodes[random.random_range(0..size)], since));
        if common::full() {
            let ledger = lock(&ledger);
            eprintln!(
                "kill {} of {kills} on {size} node(s): {} writes and {} bulks acknowledged, \
                 {} unknown, {} wrong",
                kill + 1,
                ledger.acked_writes,
                ledger.acked_bulks,
                ledger.unknown,
                wrong.len()
            );
        }
        assert!(wrong.is_empty(), "after kill {}: {wrong:#?}", kill + 1);
    }
    let ledger = lock(&ledger);
    println!(
        "PASS {kills} kills on {size} node(s): {} acknowledged writes, {} acknowledged bulks, \
         {} of unknown outcome; 0 lost, 0 half; refusals {:?}",
        ledger.acked_writes, ledger.acked_bulks, ledger.unknown, ledger.refusals
    );
    assert!(ledger.acked_writes >= 200 * kills);
}

#[test]
fn a_loss_of_power_takes_nothing_that_was_acknowledged() {
    if !common::full() {
        println!("skipped: PEERAGE_FULL=1 cuts the power of a real disk, which needs root");
        return;
    }
    for size in [1, 3] {
        power_loss_loop(size, 10);
    }
}

/// All nodes lie on one disk, which loses its power under load again and again.
fn power_loss_loop(size: usize, losses: usize) {
    let disk = PoweredDisk::mount().unwrap_or_else(|why| panic!("no disk to cut: {why}"));
    let mut nodes = Node::several(size);
    let ports: Vec<u16> = nodes.iter().map(|node| node.port).collect();
    let seeds: Vec<u16> = nodes.iter().map(|node| node.cluster_port).collect();
    for (index, node) in nodes.iter_mut().enumerate() {
        node.data = disk.path().join(&node.name);
        node.options(&["--segment-bytes", "8388608", "--shards", "2"]);
        if size > 1 {
            node.seed(seeds[(index + 1) % size]);
        }
        node.start();
    }
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    for loss in 1..=losses {
        for node in &nodes {
            node.wait_ready();
        }
        let load = Load::start(&ledger, &ports, 6, 2);
        load.wait_acked(200, 5);
        disk.cut_power();
        for node in &mut nodes {
            let status = node.wait_end();
            assert!(!status.success(), "{} must stop when a sync fails", node.name);
        }
        load.stop();
        disk.restore_power();
        for node in &mut nodes {
            node.start();
        }
        for node in &nodes {
            node.wait_ready();
        }
        let wrong = check(&ledger, &nodes[loss % size], common::now());
        assert!(wrong.is_empty(), "after loss {loss}: {wrong:#?}");
    }
    drop(nodes);
    let ledger = lock(&ledger);
    println!(
        "PASS {losses} losses of power on {size} node(s): {} acknowledged writes, {} acknowledged \
         bulks, {} of unknown outcome; 0 lost, 0 half",
        ledger.acked_writes, ledger.acked_bulks, ledger.unknown
    );
}

#[test]
fn no_reader_sees_an_old_value_of_a_bulk_after_a_new_one() {
    const GROUPS: usize = 4;
    const READERS: usize = 10;
    let bulks = rounds(400, 10_000);
    let nodes = Node::cluster(1, &["--shards", "2"]);
    let port = nodes[0].port;
    let (done, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let (done, reads) = (Arc::clone(&done), Arc::clone(&reads));
            std::thread::spawn(move || {
                read_in_turn(port, &format!("group-{}", reader % GROUPS), &done, &reads)
            })
        })
        .collect();
    let writers: Vec<_> = (0..GROUPS)
        .map(|group| {
            std::thread::spawn(move || write_bulks(port, &format!("group-{group}"), bulks / GROUPS))
        })
        .collect();
    for writer in writers {
        writer.join().expect("a writer does not panic");
    }
    done.store(true, Ordering::Relaxed);
    let wrong: Vec<String> =
        readers.into_iter().flat_map(|reader| reader.join().expect("a reader ends")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let reads = reads.load(Ordering::Relaxed);
    println!(
        "PASS {bulks} bulks, {READERS} readers, {reads} reads: never an old value after a new"
    );
    assert!(reads > bulks, "the readers read {reads} times");
}

fn write_bulks(port: u16, group: &str, count: usize) {
    let mut client = Json::open(port);
    for number in 1..=count {
        let items: Vec<_> = load::bulk_keys(group)
            .iter()
            .map(|key| json!({"key": key, "value": number.to_string()}))
            .collect();
        let reply = client.call(&json!({"cmd": "BULK_SET", "items": items}));
        assert_eq!(reply["ok"], true, "{reply}");
        assert_ne!(reply["isolated"], false, "{reply}");
    }
}

/// Reads the keys of a bulk again and again, in an order that changes, and returns every read
/// that shows an older bulk than a read before it.
fn read_in_turn(port: u16, group: &str, done: &AtomicBool, reads: &AtomicUsize) -> Vec<String> {
    let mut client = Json::open(port);
    let keys = load::bulk_keys(group);
    let (mut newest, mut wrong, mut turn) = (0, Vec::new(), 0);
    while !done.load(Ordering::Relaxed) {
        turn += 1;
        let key = &keys[(turn * 3 + turn / keys.len()) % keys.len()];
        let reply = client.call(&json!({"cmd": "GET", "key": key}));
        let found = reply["value"].as_str().map_or(0, |text| text.parse().expect("a number"));
        if found < newest {
            wrong.push(format!("{key} shows {found} after {newest} was seen"));
        }
        newest = newest.max(found);
        reads.fetch_add(1, Ordering::Relaxed);
    }
    wrong
}

#[test]
fn a_stopped_node_ends_well_and_keeps_everything() {
    let mut nodes = Node::cluster(1, &[]);
    let mut client = nodes[0].json();
    for number in 0..100 {
        let request = json!({"cmd": "SET", "key": format!("k{number}"), "value": "v"});
        assert_eq!(client.call(&request)["ok"], true);
    }
    assert!(nodes[0].stop().success(), "SIGTERM ends the process with 0");
    nodes[0].start();
    nodes[0].wait_ready();
    assert_eq!(nodes[0].json().call(&json!({"cmd": "COUNT"}))["count"], 100);
}

/// Sidecars are derived: a start that finds some empty, cut short or gone reads the log instead.
#[test]
fn a_start_without_sidecars_or_with_empty_ones_finds_everything() {
    const KEYS: usize = 7_000;
    // All of them lie in the first segment, whose sidecar then is as good as sure of the fault.
    const DEBUGGED: usize = 3_000;
    let mut node = Node::new("n1");
    node.options(&["--segment-bytes", "1048576", "--allow-fault-injection"]);
    node.start();
    node.wait_ready();
    let mut client = node.json();
    let value = |key: usize| {
        let length = if key < DEBUGGED { 100 } else { 1_200 };
        format!("{key} {}", "x".repeat(length))
    };
    for first in (0..KEYS).step_by(100) {
        let debug = first < DEBUGGED;
        let lines: Vec<String> = (first..first + 100)
            .map(|key| {
                let request = json!({
                    "cmd": "SET", "key": format!("k{key}"), "value": value(key), "debug": debug
                });
                format!("{request}\n")
            })
            .collect();
        client.send(lines.concat().as_bytes());
        for _ in 0..100 {
            let reply = client.reply();
            assert_eq!(reply["ok"], true, "{reply}");
        }
    }
    let gone = client.call(&json!({"cmd": "DELETE", "key": "k0"}));
    assert_eq!(gone["deleted"], true, "{gone}");
    wait_for_sidecars(&node);
    node.kill();
    let sidecars = sidecars(&node);
    let (empty, whole): (Vec<_>, Vec<_>) =
        sidecars.iter().partition(|path| std::fs::metadata(path).expect("it is there").len() == 0);
    assert_eq!(empty, [&sidecars[0]], "of {sidecars:?}");
    let [cut, lost, kept, ..] = &whole[..] else { panic!("too few are whole: {whole:?}") };
    let bytes = std::fs::read(cut).expect("it can be read");
    std::fs::write(cut, &bytes[..bytes.len() / 2]).expect("it can be written");
    std::fs::remove_file(lost).expect("it can be removed");
    let untouched = std::fs::read(kept).expect("it can be read");
    // Every time the same: first with these, then with all empty, then with none at all.
    for round in 0..3 {
        node.start();
        node.wait_ready();
        let mut client = node.json();
        assert_eq!(client.call(&json!({"cmd": "COUNT"}))["count"], KEYS - 1, "round {round}");
        let reply = client.call(&json!({"cmd": "GET", "key": "k0"}));
        assert_eq!(reply["error"], "Key not found", "round {round}: {reply}");
        for key in (1..KEYS).step_by(7) {
            let reply = client.call(&json!({"cmd": "GET", "key": format!("k{key}")}));
            assert_eq!(reply["value"], value(key).as_str(), "round {round}: k{key}");
        }
        // What was missing is made again, and what was whole is not.
        wait_for_sidecars(&node);
        node.kill();
        assert_eq!(std::fs::read(kept).expect("it is there"), untouched, "round {round}");
        for path in self::sidecars(&node) {
            assert!(std::fs::metadata(&path).is_ok_and(|found| found.len() > 0), "{path:?}");
            if round == 0 {
                std::fs::write(&path, b"").expect("it can be written");
            } else {
                std::fs::remove_file(&path).expect("it can be removed");
            }
        }
    }
}

/// The sidecars of a node, oldest first.
fn sidecars(node: &Node) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(node.data.join("log")).expect("the log can be listed");
    let mut found: Vec<_> = folder
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension().is_some_and(|end| end == "idx"))
        .collect();
    found.sort();
    found
}

fn wait_for_sidecars(node: &Node) {
    let mut client = node.resp();
    wait_for("the sidecars of all full segments", || {
        let info = client.say("INFO storage");
        let text = String::from_utf8_lossy(info.bytes()).into_owned();
        text.contains("storage_sidecars_due:0\r\n").then_some(())
    });
}

#[test]
fn a_second_process_on_a_directory_is_refused_and_the_first_goes_on() {
    let nodes = Node::cluster(1, &[]);
    let mut second = Node::new(&nodes[0].name);
    second.data.clone_from(&nodes[0].data);
    let said = second.start_and_fail();
    assert!(said.contains("another process") || said.contains("in use"), "{said}");
    let reply = nodes[0].json().call(&json!({"cmd": "SET", "key": "a", "value": "b"}));
    assert_eq!(reply["ok"], true);
}

#[test]
fn the_directory_of_another_node_is_refused_with_both_names() {
    let mut nodes = Node::cluster(1, &[]);
    assert!(nodes[0].stop().success());
    let mut other = Node::new("somebody-else");
    other.data.clone_from(&nodes[0].data);
    let said = other.start_and_fail();
    assert!(said.contains("n1") && said.contains("somebody-else"), "{said}");
    nodes[0].start();
    nodes[0].wait_ready();
}

#[test]
fn a_newer_format_is_refused_by_name_and_left_alone() {
    let mut nodes = Node::cluster(1, &[]);
    let reply = nodes[0].json().call(&json!({"cmd": "SET", "key": "a", "value": "b"}));
    assert_eq!(reply["ok"], true);
    assert!(nodes[0].stop().success());
    let identity = find_file(&nodes[0], b"peerage-identity 1");
    let ours = std::fs::read(&identity).expect("the identity can be read");
    let mut newer = ours.clone();
    newer["peerage-identity ".len()] = b'9';
    std::fs::write(&identity, &newer).expect("the identity can be written");
    let said = nodes[0].start_and_fail();
    assert!(said.contains("format 9"), "{said}");
    assert_eq!(std::fs::read(&identity).expect("it is there still"), newer, "it was rewritten");
    std::fs::write(&identity, &ours).expect("the identity can be written");
    nodes[0].start();
    nodes[0].wait_ready();
    assert_eq!(nodes[0].json().call(&json!({"cmd": "GET", "key": "a"}))["value"], "b");
}

/// The file of a data directory that begins with `head`.
fn find_file(node: &Node, head: &[u8]) -> std::path::PathBuf {
    let mut folders = vec![node.data.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the data directory can be listed") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).is_ok_and(|bytes| bytes.starts_with(head)) {
                return path;
            }
        }
    }
    panic!("no file begins with {}", String::from_utf8_lossy(head));
}

#[test]
fn a_full_disk_refuses_values_takes_deletes_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(96) else {
        println!("skipped: mounting a small disk needs root");
        return;
    };
    let mut node = Node::new("n1");
    node.data = disk.path().join("data");
    node.options(&["--segment-bytes", "4194304"]);
    node.start();
    node.wait_ready();
    let mut client = node.json();
    let value = "x".repeat(500_000);
    let mut kept = 0;
    let refusal = wait_for("the disk to be full", || {
        let request = json!({"cmd": "SET", "key": format!("k{kept}"), "value": value});
        let reply = client.call(&request);
        if reply["ok"] == true {
            kept += 1;
            return None;
        }
        (reply["code"] != "overloaded").then_some(reply)
    });
    assert_eq!(refusal["code"], "disk_full", "{refusal}");
    assert_eq!(refusal["outcome"], "refused", "{refusal}");
    assert!(kept > 50, "only {kept} values fit");
    let gone = client.call(&json!({"cmd": "DELETE", "key": "k0"}));
    assert_eq!(gone["deleted"], true, "deletes go on: {gone}");
    let read = client.call(&json!({"cmd": "GET", "key": "k1"}));
    assert_eq!(read["value"], value.as_str(), "reads go on");
    let refused = client.call(&json!({"cmd": "GET", "key": format!("k{kept}")}));
    assert_eq!(refused["error"], "Key not found", "what was refused is not there");
    node.kill();
    node.start();
    node.wait_ready();
    let mut client = node.json();
    assert_eq!(client.call(&json!({"cmd": "COUNT"}))["count"], kept - 1);
    for number in 1..kept {
        let reply = client.call(&json!({"cmd": "GET", "key": format!("k{number}")}));
        assert_eq!(reply["value"], value.as_str(), "k{number} is lost");
    }
    for number in 1..kept / 2 {
        let reply = client.call(&json!({"cmd": "DELETE", "key": format!("k{number}")}));
        assert_eq!(reply["deleted"], true, "k{number}: {reply}");
    }
    wait_for("a write once deletes have made room", || {
        let reply = client.call(&json!({"cmd": "SET", "key": "after", "value": value}));
        (reply["ok"] == true).then_some(())
    });
    drop(node);
}
