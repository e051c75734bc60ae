//! The command line as a person or a script uses it: every data command against a live cluster,
//! exit codes, output formats, and the prompt of `dev` through a pipe.

mod common;

use std::collections::BTreeSet;
use std::process::Output;

use common::{Node, Value, cli, cli_with_input, free_port, said};
use peerage::client::{Call, Client, Level};
use serde_json::{Value as JsonValue, json};

/// Runs a command against `node` that must succeed, and returns its standard output.
fn done(node: &Node, arguments: &[&str]) -> String {
    let output = run(node, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    String::from_utf8(output.stdout).expect("these outputs are text")
}

fn run(node: &Node, arguments: &[&str]) -> Output {
    let addr = node.addr();
    cli(&[arguments, &["--addr", &addr]].concat())
}

fn rows(text: &str) -> Vec<JsonValue> {
    text.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect()
}

#[test]
fn data_commands_do_what_their_names_say_through_any_node() {
    let nodes = Node::cluster(3, &[]);
    let (one, two, three) = (&nodes[0], &nodes[1], &nodes[2]);
    done(one, &["set", "user:1", "Ada"]);
    assert_eq!(done(two, &["get", "user:1"]), "Ada");
    done(two, &["set", "user:2", "Grace", "--level", "all"]);
    let found = rows(&done(three, &["mget", "user:1", "nobody", "user:2"]));
    assert_eq!(found[0]["value"], "Ada");
    assert_eq!(found[1]["value"], JsonValue::Null);
    assert_eq!(found[2]["value"], "Grace");
    let listed = rows(&done(one, &["scan", "--prefix", "user:", "--values"]));
    let mut keys: Vec<_> = listed.iter().map(|row| row["key"].to_string()).collect();
    keys.sort();
    assert_eq!(keys, ["\"user:1\"", "\"user:2\""]);
    done(three, &["del", "user:1"]);
    let absent = run(one, &["get", "user:1"]);
    assert_eq!(absent.status.code(), Some(1), "{}", said(&absent));
    assert!(said(&absent).contains("not found"), "{}", said(&absent));
}

#[test]
fn the_rust_client_serves_itself_from_whichever_node_lives() {
    let mut nodes = Node::cluster(3, &[]);
    let addrs: Vec<String> = nodes.iter().map(Node::addr).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system has an event queue").block_on(async {
        let mut client = Client::new(addrs);
        let written = client.set("k", b"\xff\0").level(Level::All).await.expect("all live");
        assert_eq!(written.acks, 3);
        nodes[0].kill();
        let expected = Ok(Some(b"\xff\0".to_vec()));
        assert_eq!(client.get("k").await, expected, "another node answers");

        client.set("k", "1").after(&written.context).await.expect("a majority lives");
        client.set("k", "2").after(&written.context).await.expect("a majority lives");
        let seen = client.siblings("k").await.expect("a majority lives");
        assert_eq!(seen.values.len(), 2, "both had seen the same");
        client.set("k", "3").after(&seen.context).await.expect("a majority lives");
        assert_eq!(client.get("k").await, Ok(Some(b"3".to_vec())));

        let keys: Vec<String> = (0..500).map(|n| format!("n:{n}")).collect();
        let calls: Vec<Call> = keys.iter().map(|key| Call::set(key.as_bytes(), b"")).collect();
        assert!(client.pipeline(&calls).await.iter().all(Result::is_ok));
        let mut found = BTreeSet::new();
        let mut walk = client.scan().prefix("n:").page_keys(100);
        while let Some(record) = walk.next().await.expect("a majority lives") {
            assert!(found.insert(record.key), "once each");
        }
        assert_eq!(found.len(), keys.len());
        assert_eq!(client.bulk_set(&[("{t}a", "1"), ("{t}b", "2")]).await, Ok(2));
        let values = client.mget(&["{t}a", "nobody"]).await;
        assert_eq!(values, Ok(vec![Some(b"1".to_vec()), None]));
        assert_eq!(client.count().await, Ok(503));
        assert!(client.delete("k").await.expect("a majority lives").existed);
    });
}

#[test]
fn the_bench_measures_nodes_of_its_own_and_those_that_run() {
    let measured = cli(&[
        "bench",
        "throughput",
        "--seconds",
        "1",
        "--sizes",
        "1000",
        "--operations",
        "set,bulk",
        "--protocols",
        "resp",
        "--clients",
        "4",
        "--pipeline",
        "4",
        "--output",
        "json",
    ]);
    assert!(measured.status.success(), "{}", said(&measured));
    let told: JsonValue = serde_json::from_slice(&measured.stdout).expect("it is JSON");
    assert_eq!(told["set_up"]["durability"], "always");
    assert!(told["machine"]["cores"].is_string(), "{told}");
    let results = told["results"].as_array().expect("there are results");
    assert_eq!(results.len(), 2);
    for result in results {
        assert!(result["ops_per_s"].as_u64().expect("a number") > 0, "{result}");
        assert!(result["p50_us"].as_u64() <= result["max_us"].as_u64(), "{result}");
        assert!(result["server_cpu_us"].as_f64().expect("Linux tells it") > 0.0, "{result}");
        assert_eq!(result["failed"], 0, "{result}");
    }

    let nodes = Node::cluster(1, &[]);
    let node = &nodes[0];
    let one = ["bench", "throughput", "--seconds", "1", "--sizes", "100", "--operations", "get"];
    let rows = rows(&done(node, &[&one[..], &["--clients", "2"]].concat()));
    assert_eq!(rows.len(), 2, "newline-JSON and RESP");
    assert!(rows.iter().all(|row| row["absent"] == 0 && row["failed"] == 0), "{rows:?}");
    assert_eq!(done(node, &["get", "key:000000000099"]).len(), 100, "it was filled");
}

#[test]
fn the_bench_of_durability_loses_nothing() {
    let output = cli(&[
        "bench",
        "durability",
        "--seconds",
        "1",
        "--rounds",
        "1",
        "--clients",
        "8",
        "--output",
        "jsonl",
    ]);
    assert!(output.status.success(), "{}", said(&output));
    let row: JsonValue = serde_json::from_slice(&output.stdout).expect("it is one row");
    assert!(row["acked_writes"].as_u64().expect("a number") > 0, "{row}");
    assert!(row["acked_bulks"].as_u64().expect("a number") > 0, "{row}");
    for bad in ["lost", "half_bulks", "refused_but_applied"] {
        assert_eq!(row[bad], 0, "{row}");
    }
}

#[test]
fn concurrent_values_are_listed_shown_and_resolved() {
    let nodes = Node::cluster(1, &[]);
    let node = &nodes[0];
    done(node, &["set", "cart", "milk", "--context", ""]);
    done(node, &["set", "cart", "bread", "--context", ""]);
    let conflicts = rows(&done(node, &["conflicts"]));
    let values: Vec<_> = conflicts.iter().map(|row| row["value"].clone()).collect();
    assert_eq!(values, ["bread", "milk"], "{conflicts:?}");
    let siblings = rows(&done(node, &["get", "cart", "--siblings", "--output", "jsonl"]));
    assert_eq!(siblings.len(), 2, "{siblings:?}");
    let context = siblings[0]["context"].as_str().expect("a read returns a context");
    done(node, &["set", "cart", "both", "--context", context]);
    assert_eq!(done(node, &["conflicts"]), "");
    assert_eq!(done(node, &["get", "cart"]), "both");
}

#[test]
fn a_bulk_is_written_whole_or_refused_with_nothing_applied() {
    let nodes = Node::cluster(5, &[]);
    let addr = nodes[0].addr();
    let line = |key: &str| format!("{{\"key\":\"{key}\",\"value\":1}}\n");
    let tagged = line("{eve}a") + &line("{eve}b");
    let output = cli_with_input(&["bulk", "-", "--addr", &addr], tagged.as_bytes());
    assert!(output.status.success(), "{}", said(&output));
    let wide: String = (0..50).map(|number| line(&format!("wide{number}"))).collect();
    let bulk = ["bulk", "-", "--addr", &addr];
    let output = cli_with_input(&[&bulk[..], &["--isolated"]].concat(), wide.as_bytes());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("tag"), "it says what to do: {}", said(&output));
    assert_eq!(nodes[1].json().call(&json!({"cmd": "COUNT"}))["count"], 2);
    let output = cli_with_input(&bulk, wide.as_bytes());
    assert!(said(&output).contains("old and new together"), "{}", said(&output));
    assert_eq!(nodes[1].json().call(&json!({"cmd": "COUNT"}))["count"], 52);
}

#[test]
fn what_was_imported_is_exported_byte_for_byte() {
    let nodes = Node::cluster(3, &[]);
    let folder = common::folder();
    let lines: Vec<String> = (0..3_000)
        .map(|number| {
            let text = "line\\n\\\"quoted\\\"".repeat(number % 7);
            format!(r#"{{"key":"package-{number}","value":{{"n":{number}.50,"text":"{text}"}}}}"#)
        })
        .collect();
    let (input, output) = (folder.path().join("in.jsonl"), folder.path().join("out.jsonl"));
    std::fs::write(&input, lines.join("\n") + "\n").expect("a file can be written");
    let input = input.to_str().expect("folders of tests are UTF-8");
    let output = output.to_str().expect("folders of tests are UTF-8");
    done(&nodes[0], &["import", input, "--json-values"]);
    done(&nodes[1], &["export", output, "--json-values"]);
    let exported = std::fs::read_to_string(output).expect("the export is there");
    let (mut found, mut expected): (Vec<&str>, Vec<&str>) =
        (exported.lines().collect(), lines.iter().map(String::as_str).collect());
    found.sort_unstable();
    expected.sort_unstable();
    assert!(found == expected, "{} lines came back of {}", found.len(), expected.len());
}

#[test]
fn status_ring_and_explain_speak_to_people_and_to_programs() {
    let nodes = Node::cluster(3, &[]);
    let node = &nodes[0];
    done(node, &["set", "a", "1", "--level", "all"]);
    for name in ["n1", "n2", "n3"] {
        assert!(done(node, &["status", "--output", "table"]).contains(name));
        assert!(done(node, &["ring", "--output", "table"]).contains(name));
        assert!(done(node, &["explain", "a", "--output", "table"]).contains(name));
    }
    let status: JsonValue =
        serde_json::from_str(&done(node, &["status", "--output", "json"])).expect("it is JSON");
    assert_eq!(status["members"].as_array().map(Vec::len), Some(3), "{status}");
    let explained: JsonValue =
        serde_json::from_str(&done(node, &["explain", "a", "-o", "json"])).expect("it is JSON");
    let replicas = explained["replicas"].as_array().expect("a key has replicas");
    assert_eq!(replicas.len(), 3, "{explained}");
    let versions: Vec<_> = replicas.iter().map(|replica| &replica["versions"]).collect();
    assert!(versions.iter().all(|version| *version == versions[0]), "{explained}");
}

#[test]
fn exit_codes_tell_what_became_of_a_request() {
    let nowhere = format!("127.0.0.1:{}", free_port());
    let output = cli(&["set", "a", "1", "--addr", &nowhere]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let output = cli(&["set", "a"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let output = cli(&["verify", "k"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("not in this version"), "{}", said(&output));
    let nodes = Node::cluster(1, &[]);
    let output = run(&nodes[0], &["get", "a", "-r", "2"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("replicas"), "{}", said(&output));
}

#[test]
fn the_dev_prompt_kills_restarts_cuts_and_heals_what_a_pipe_says() {
    let script = "status\nset k v\n@5 get k\nkill 2\n@1 set k w\n@3 get k\n@2 get k\nrestart 2\n\
                  @2 get k\npartition 1,2 | 3,4,5\nwait 3\n@4 set split yes\nheal\nwait\n\
                  @1 set k x\n@5 get k\nfrob\nquit\n";
    let output = cli_with_input(&["dev", "--port", "0"], script.as_bytes());
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let after = |command: &str| {
        let prompt = format!("dev> {command}\n");
        let rest = text.split(&prompt).nth(1).unwrap_or_else(|| panic!("no {command}: {text}"));
        rest.split("dev> ").next().unwrap_or_default().trim().to_owned()
    };
    assert_eq!(after("@5 get k"), "v", "{text}");
    assert_eq!(after("@3 get k"), "w", "the others go on: {text}");
    assert!(after("kill 2").contains("dead"), "{text}");
    assert!(after("restart 2").contains("serves again"), "{text}");
    assert!(after("frob").contains("help"), "{text}");
    for name in ["n1", "n2", "n3", "n4", "n5"] {
        assert!(after("status").contains(name), "{text}");
    }
    // The last value: whatever the partition left, one write after it wins everywhere.
    let last = text.rsplit("dev> @5 get k\n").next().and_then(|rest| rest.lines().next());
    assert_eq!(last, Some("x"), "{text}");
}

#[test]
fn a_dev_cluster_serves_redis_clients_until_it_is_told_to_stop() {
    use std::io::Write;
    let mut child = std::process::Command::new(common::binary())
        .args(["dev", "--nodes", "3", "--port", "0"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary under test can be started");
    let stdout = child.stdout.take().expect("standard output is piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
    let mut ports: Vec<u16> = Vec::new();
    while ports.len() < 3 {
        let line = lines.next().expect("dev greets").expect("its output can be read");
        let addr = line.split("clients 127.0.0.1:").nth(1);
        let port = addr.and_then(|rest| rest.split_whitespace().next());
        ports.extend(port.map(|port| port.parse::<u16>().expect("a port is a number")));
    }
    let mut first = common::Resp::open(ports[0]);
    assert_eq!(first.say("SET k v"), Value::Simple("OK".into()));
    assert_eq!(common::Resp::open(ports[2]).say("GET k"), Value::text("v"));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(b"quit\n").expect("dev reads its input");
    let status = child.wait().expect("a child can be waited for");
    assert!(status.success(), "quit ends it with 0");
}
