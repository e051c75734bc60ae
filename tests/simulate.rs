//! `peerage sim` as a person or a script uses it: verdicts, exit codes, files and hashes.

mod common;

use std::fs;

use common::{cli, folder, said};

/// A story whose end is as told, where `{value}` is what is expected.
const STORY: &str = r#"
name = "a quiet day"
duration = "2s"

[[step]]
at = "1s"
do = "set"
client = "ada"
key = "k"
value = "v"
expect = "ok"

[[expect]]
check = "siblings"
key = "k"
values = ["v"]

[[expect]]
check = "siblings"
key = "other"
values = []
"#;

/// Runs `sim` with these words, which must end with `code`, and gives what it said.
fn sim(code: i32, words: &[&str]) -> String {
    let output = cli(&[&["sim"], words].concat());
    assert_eq!(output.status.code(), Some(code), "{words:?}: {}", said(&output));
    said(&output)
}

/// The path of a new file with this text; the folder must outlive it.
fn file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, text).expect("a file can be written");
    path.to_str().expect("folders of tests are UTF-8").to_owned()
}

#[test]
fn a_story_is_run_and_its_exit_code_is_its_verdict() {
    let folder = folder();
    let held = file(&folder, "held.toml", STORY);
    let text = sim(0, &["run", &held]);
    assert!(text.contains("held: a quiet day, seed 1"), "{text}");
    let text = sim(0, &["run", &held, "--seeds", "3", "--jobs", "2", "-o", "json"]);
    let line = text.lines().find(|line| line.starts_with('{')).expect("there is a summary");
    let summary: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
    assert_eq!((&summary["held"], &summary["seeds"]), (&true.into(), &3.into()), "{text}");

    let wrong = file(&folder, "wrong.toml", &STORY.replace("values = []", "values = [\"w\"]"));
    let text = sim(2, &["run", &wrong]);
    assert!(text.contains(&format!("{wrong}:18: nobody writes")), "{text}");
    let broken =
        STORY.replace("value = \"v\"\nexpect = \"ok\"", "value = \"v\"\nexpect = \"refused\"");
    let broken = broken.replace("values = [\"v\"]", "values = []");
    let broken = file(&folder, "broken.toml", &broken);
    let text = sim(1, &["run", &broken, "--seed", "5"]);
    let again = format!("again:   peerage sim run {broken} --seed 5");
    assert!(text.contains("VIOLATED: a quiet day, seed 5") && text.contains(&again), "{text}");
    let text = sim(1, &["run", &broken, "--seeds", "2"]);
    assert!(text.contains("VIOLATED: 2 of 2 seeds, 1 to 2"), "{text}");
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_line() {
    let folder = folder();
    let text = STORY.replace("do = \"set\"", "do = \"sett\"").replace("2s", "-2s");
    let wrong = file(&folder, "wrong.toml", &text);
    let text = sim(2, &["run", &wrong]);
    assert!(text.contains(&format!("{wrong}:3: a time cannot be negative")), "{text}");
    let expected = format!("{wrong}:7: \"sett\" is no step; did you mean `set`?");
    assert!(text.contains(&expected) && text.contains("nothing was run"), "{text}");
    assert!(sim(2, &["run", "/nowhere.toml"]).contains("cannot read /nowhere.toml"));
    assert!(sim(2, &["run", "--seeds", "2", "--html", "f"]).contains("name its --seed"));
    let text = sim(2, &["replay", "--expect-hash", "xyz"]);
    assert!(text.contains("no hash"), "{text}");
    let text = sim(2, &["run", "--seed", "1", "--planted", "nonsense"]);
    assert!(text.contains("no mistake is called nonsense"), "{text}");
}

#[test]
fn a_run_has_one_hash_for_any_number_of_threads() {
    let folder = folder();
    let held = file(&folder, "held.toml", STORY);
    let hashes = |jobs: &str| {
        let output = cli(&["sim", "run", &held, "--seeds", "6", "--jobs", jobs, "--hashes"]);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("hashes are text")
    };
    let (one, three) = (hashes("1"), hashes("3"));
    assert_eq!(one, three);
    let (seed, hash) = one.lines().nth(3).and_then(|line| line.split_once(' ')).expect("a line");
    assert_eq!(seed, "4");
    let text = sim(0, &["replay", &held, "--seed", seed, "--expect-hash", hash]);
    assert!(text.contains(&format!("twice the same: {hash}")), "{text}");
    let text = sim(1, &["replay", &held, "--seed", "5", "--expect-hash", hash]);
    assert!(text.contains("the hash should be"), "{text}");
}

#[test]
fn a_failing_run_is_made_small_and_drawn() {
    let folder = folder();
    let text = STORY.replace("values = [\"v\"]", "values = []").replace(
        "[[expect]]",
        "
[[step]]
at = \"1.5s\"
do = \"pause\"
node = \"n2\"
for = \"10ms\"

[[expect]]",
    );
    let broken = file(&folder, "broken.toml", &text);
    let path = |name: &str| folder.path().join(name).to_str().map(String::from).expect("UTF-8");
    let (small, page) = (path("small.toml"), path("page.html"));
    let text = sim(1, &["shrink", &broken, "--to", &small]);
    assert!(text.contains("0 faults, 1 operations"), "{text}");
    assert!(fs::read_to_string(&small).expect("it was written").starts_with("# Made smaller from"));
    let text = sim(1, &["run", &small, "--html", &page]);
    assert!(text.contains("VIOLATED"), "{text}");
    let drawn = fs::read_to_string(&page).expect("it was written");
    assert!(drawn.contains("<html"), "{drawn}");
    let held = file(&folder, "held.toml", STORY);
    assert!(sim(0, &["shrink", &held]).contains("nothing to make smaller"));
}

#[test]
fn faults_and_mistakes_are_listed() {
    let text = sim(0, &["list-faults", "-o", "table"]);
    assert!(text.contains("power_loss") && text.contains("disk_full"), "{text}");
    assert!(sim(0, &["list-faults", "--planted"]).contains("ack-before-sync"));
}
