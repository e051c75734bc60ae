//! What the command line does before and beside its requests: settings and their precedence,
//! refusals by name, bytes that are not text, and a local cluster that is cut in two.

mod common;

use std::fs;
use std::process::{Command, Output, Stdio};

use common::{Node, binary, cli, cli_with_input, folder, free_port, said};

/// Runs a command that must end with `code`, and gives what it said.
fn ends(code: i32, arguments: &[&str]) -> String {
    let output = cli(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// The bytes that a command wrote, which must succeed.
fn written(output: &Output) -> &[u8] {
    assert!(output.status.success(), "{}", said(output));
    &output.stdout
}

#[test]
fn flags_win_over_variables_which_win_over_the_file_which_wins_over_defaults() {
    let folder = folder();
    let file = folder.path().join("node.toml");
    fs::write(&file, "host = \"10.0.0.1\"\n").expect("a file can be written");
    // A host that is refused is named in the message, before anything is started.
    let check = |flag: Option<&str>, variable: Option<&str>, expected: &str| {
        let mut command = Command::new(binary());
        command.arg("serve").arg("--config").arg(&file).args(flag.map(|h| format!("--host={h}")));
        command.env_remove("PEERAGE_HOST").envs(variable.map(|host| ("PEERAGE_HOST", host)));
        let output = command.stdin(Stdio::null()).output().expect("the binary can be started");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let named = format!("{expected} can be reached from other machines");
        assert!(said(&output).contains(&named), "{expected}: {}", said(&output));
    };
    check(None, None, "10.0.0.1");
    check(None, Some("10.0.0.2"), "10.0.0.2");
    check(Some("10.0.0.3"), Some("10.0.0.2"), "10.0.0.3");
    check(Some("10.0.0.3"), None, "10.0.0.3");
}

#[test]
fn a_misspelt_setting_is_refused_in_the_file_and_told_as_a_variable() {
    let folder = folder();
    let file = folder.path().join("node.toml");
    fs::write(&file, "prot = 6379\n").expect("a file can be written");
    let file = file.to_str().expect("folders of tests are UTF-8");
    let text = ends(2, &["serve", "--config", file]);
    assert!(text.contains("unknown field `prot`"), "{text}");
    let text = ends(2, &["serve", "--config", "/nowhere/node.toml"]);
    assert!(text.contains("cannot read /nowhere/node.toml"), "{text}");
    let mut command = Command::new(binary());
    command.args(["serve", "--host", "10.0.0.1"]).env("PEERAGE_PROT", "6379");
    let text = said(&command.output().expect("the binary can be started"));
    assert!(text.contains("the variable PEERAGE_PROT means nothing here"), "{text}");
}

#[test]
fn what_comes_later_is_refused_by_name_and_help_is_no_failure() {
    let text = ends(2, &["serve", "--mode", "primary-secondary"]);
    assert!(text.contains("--mode is not in this version"), "{text}");
    let text = ends(2, &["serve", "--segment-bytes", "4294967296"]);
    assert!(text.contains("segment-bytes must be 1048576 to 1073741824"), "{text}");
    let text = ends(0, &["help", "import"]);
    assert!(text.contains("zcat dump.jsonl.gz | peerage import -"), "{text}");
    assert!(ends(0, &["--version"]).starts_with("peerage "));
    let nowhere = format!("127.0.0.1:{}", free_port());
    let text = ends(1, &["set", "k", "v", "--addr", &nowhere]);
    assert!(text.contains("Nothing was applied.\n  Start a node with"), "{text}");
}

#[test]
fn keys_and_values_of_any_bytes_pass_through_commands_and_files() {
    let nodes = Node::cluster(3, &[]);
    let addrs: Vec<String> = nodes.iter().map(Node::addr).collect();
    let value: Vec<u8> = (0..=255).collect();
    // The key is the bytes FF 00.
    let set = ["set", "/wA=", "-", "--base64", "--addr", &addrs[0]];
    let said_of_it = cli_with_input(&set, &value);
    assert!(written(&said_of_it).starts_with(b"\\xff\\u{0} stored, durable on "));
    let get = ["get", "/wA=", "--base64", "--addr", &addrs[2]];
    assert_eq!(written(&cli(&get)), value);

    // What is exported imports to the same bytes: also a text that looks like JSON.
    written(&cli(&["set", "json", "{\"not\": \"touched\" }", "--addr", &addrs[1]]));
    let export = ["export", "--addr", &addrs[1]];
    let before = written(&cli(&export)).to_vec();
    assert_eq!(String::from_utf8_lossy(&before).lines().count(), 2);
    written(&cli(&["del", "json", "--addr", &addrs[0]]));
    written(&cli(&["del", "/wA=", "--base64", "--addr", &addrs[0]]));
    assert_eq!(written(&cli(&export)), b"");
    let all = addrs.join(",");
    let import = ["import", "-", "--addr", &all, "-o", "jsonl"];
    let summary = cli_with_input(&import, &before);
    assert_eq!(written(&summary), b"{\"stored\":2,\"failed\":0,\"retried\":0}\n");
    assert_eq!(written(&cli(&export)), before);

    // A bad line is listed with its number, and stops none of the others.
    let input = [b"{\"key\":\"k\"}\n\n[]\n".as_slice(), &before].concat();
    let output = cli_with_input(&import[..4], &input);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("line 1: it has no value"), "{}", said(&output));
    assert!(said(&output).contains("line 3: it is not a JSON object"), "{}", said(&output));
}

#[test]
fn a_node_that_is_cut_off_refuses_while_the_others_go_on() {
    let script = "set k v\npartition 1 | 2,3\n@1 set k lost\n@2 set k kept\nheal\nwait\n@1 get k\n";
    let output = cli_with_input(&["dev", "--nodes", "3", "--port", "0"], script.as_bytes());
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("dev> @2 set k kept\nok\n"), "{text}");
    assert!(!text.contains("dev> @1 set k lost\nok\n"), "{text}");
    // The other write may have reached one disk; then it is kept beside the one that is shown.
    assert!(text.contains("dev> @1 get k\nkept"), "{text}");
}
