//! Stories of short runs: whole, the same for the same seed, and safe to show.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::api::Level;
use crate::hash::Key;
use crate::sim::{
    Action, Context, Expectation, Fault, Operation, Options, Request, Scenario, Step, run,
};

/// Two clients write one key on both sides of a cut; a node dies and comes back. With `expects`,
/// the run ends in a violation.
fn scenario(key: &str, expects: Option<&str>) -> Scenario {
    let options = Options { clients: 0, duration_us: 1_500_000, ..Options::calm(7) };
    let mut scenario = Scenario::of("two sides", options);
    scenario.clients = vec![String::from("ann"), String::from("bob")];
    let set = |client, via, value: &str, level| {
        let key = Key::plain(key.to_owned());
        let value = Bytes::from(value.to_owned());
        let request = Request::Set { key, value, context: Context::Absent, ttl_us: 0 };
        Action::Ask(Operation { client, via: Some(via), request, level, expect: None })
    };
    let steps = [
        (100_000, Action::Fault(Fault::Partition(vec![vec![0, 1], vec![2]]))),
        (200_000, set(0, 0, "milk", Level::Quorum)),
        (210_000, set(1, 2, "bread", Level::One)),
        (300_000, Action::Fault(Fault::Crash(1))),
        (400_000, Action::Fault(Fault::Start(1))),
        (500_000, Action::Fault(Fault::Heal)),
        (600_000, Action::Fault(Fault::Pause(2, 20_000))),
        (1_200_000, set(1, 2, "cheese", Level::Sloppy)),
    ];
    scenario.steps = steps.into_iter().map(|(at_us, action)| Step { at_us, action }).collect();
    scenario.expects = expects
        .map(|value| {
            Expectation::Values(Key::plain(key.to_owned()), vec![Bytes::from(value.to_owned())])
        })
        .into_iter()
        .collect();
    scenario
}

fn broken() -> Outcome {
    let outcome = run(scenario("basket", Some("nothing of the kind")), true);
    assert_eq!(outcome.violations.len(), 1, "{:?}", outcome.violations);
    outcome
}

/// What stands in the page as data.
fn data_of(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"data\">").expect("the page has its data");
    let (data, _) = rest.split_once("</script>").expect("the data ends");
    serde_json::from_str(data).expect("the data is JSON")
}

#[test]
fn every_report_of_a_seed_is_the_same_byte_for_byte() {
    let (one, other) = (broken(), broken());
    for report in [html, json, timeline, shiviz] {
        assert_eq!(report(&one, "again"), report(&other, "again"));
    }
}

#[test]
fn the_page_holds_the_story_that_json_holds() {
    let outcome = broken();
    let page = html(&outcome, "again");
    let data = data_of(&page);
    assert_eq!(data, serde_json::from_str::<Value>(&json(&outcome, "again")).expect("JSON"));
    assert!(page.len() < 1_000_000);
    for mark in ["http:", "https:", "{{", "src=", "href="] {
        let found = page.replace("http://www.w3.org/2000/svg", "").contains(mark);
        assert!(!found, "the page has {mark}");
    }
}

#[test]
fn rows_name_only_rows_before_them_and_lanes_that_are_there() {
    let story = story(&broken(), "again");
    assert!(story.rows.len() > 20, "{}", story.rows.len());
    for (place, row) in story.rows.iter().enumerate() {
        assert_eq!(row.id, place);
        assert!(row.lane < story.lanes.len());
        assert!(row.parents.iter().chain(&row.from).all(|before| *before < row.id), "{row:?}");
        assert!(row.until.is_none_or(|until| until > row.id && until < story.rows.len()));
        assert!(row.to.is_none_or(|to| to < story.lanes.len()));
        assert!(row.keys.iter().all(|key| *key < story.keys.len()));
        let before = story.rows[..place].iter().rev().find(|other| other.lane == row.lane);
        assert!(before.is_none_or(|before| row.parents.contains(&before.id)), "{row:?}");
    }
    for version in &story.versions {
        assert_eq!(story.rows[version.row].kind, RowKind::Put);
    }
    assert!(story.cuts.iter().all(|cut| cut.from_us < cut.to_us));
    assert_eq!(story.cuts[0].title, "n1 n2 | n3");
    assert_eq!(story.gaps.iter().filter(|gap| gap.paused).count(), 1);
    assert_eq!(story.gaps.iter().filter(|gap| !gap.paused).count(), 1);
}

#[test]
fn the_past_by_clocks_is_the_past_by_parents() {
    let story = story(&broken(), "again");
    for row in &story.rows {
        let (mut walked, mut open) = (BTreeSet::new(), vec![row.id]);
        while let Some(id) = open.pop() {
            if walked.insert(id) {
                open.extend(&story.rows[id].parents);
            }
        }
        assert_eq!(story.past(row.id), walked.into_iter().collect::<Vec<_>>());
    }
    let violation = story.violation.as_ref().expect("the run is broken");
    assert_eq!(violation.past.last(), Some(&violation.row));
    let rows = violation.past.len();
    assert!(rows > 20 && rows < story.rows.len(), "{rows} of {}", story.rows.len());
}

#[test]
fn the_last_answer_comes_of_what_was_asked_before() {
    let outcome = broken();
    let trace = &outcome.trace;
    let found = trace.events().iter().rposition(|event| event.kind == "answer");
    let past = trace.causal_past(crate::sim::EventId(found.expect("clients were answered")));
    let asked = past.iter().filter(|id| trace.events()[id.0].kind == "ask").count();
    assert!(asked >= 3, "the last answer has what was asked before in its past: {asked}");
}

#[test]
fn no_key_or_value_ends_the_script_or_begins_a_tag() {
    let key = "</script><script>alert(1)</script><!--{{data}}";
    let outcome = run(scenario(key, Some("</SCRIPT >")), true);
    let page = html(&outcome, "peerage sim run '</script>'");
    assert_eq!(page.matches("</script>").count(), 2);
    assert_eq!(page.matches("<script").count(), 2);
    assert!(!page.contains("<!--"));
    let data = data_of(&page);
    assert_eq!(data["key"], key);
    assert_eq!(data["replay"], "peerage sim run '</script>'");
}

#[test]
fn a_timeline_fits_its_columns_and_tells_the_whole_story() {
    let text = timeline(&broken(), "peerage sim run basket.toml");
    assert!(text.lines().all(|line| line.chars().count() <= 160 && line.is_ascii()));
    for words in [
        "peerage sim run basket.toml",
        "ann asks n1: SET basket=milk quorum",
        "network: n1 n2 | n3",
        "n2 crashes",
        "n2 starts",
        "n3: stands still for 20.0 ms",
        "n1 puts n1.1 = milk",
        "the network is cut here",
        "ann is told: ok",
        "VIOLATION",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
}

#[test]
fn clocks_of_the_log_grow_by_one_on_their_own_host() {
    let log = shiviz(&broken(), "again");
    let mut lines = log.lines();
    assert_eq!(lines.next(), Some(r"(?<event>.*)\n(?<host>\S*) (?<clock>{.*})"));
    assert_eq!(lines.next(), Some(""));
    let mut counts: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() > 40);
    for event in lines.chunks(2) {
        let (host, clock) = event[1].split_once(' ').expect("a host and its clock");
        let clock: Value = serde_json::from_str(clock).expect("a clock is JSON");
        let count = counts.entry(host.to_owned()).or_default();
        *count += 1;
        assert_eq!(clock[host], *count, "{event:?}");
        for (other, known) in clock.as_object().expect("a clock is an object") {
            let most = counts.get(other).copied().unwrap_or_default();
            assert!(known.as_u64().is_some_and(|known| known <= most), "{event:?}");
        }
    }
}

#[test]
fn a_run_that_held_has_a_story_too() {
    let outcome = run(scenario("basket", None), true);
    let story = story(&outcome, "again");
    assert!(story.held && story.violation.is_none());
    assert_eq!(story.key, "basket");
    assert!(story.versions.iter().any(|version| version.state == VersionState::Live));
    assert_eq!(story.verdict, "Every promise was kept.");
}

#[test]
fn a_long_story_leaves_out_its_beginning_and_says_so() {
    let outcome = broken();
    let whole = build::build(&outcome, "again", 1_000);
    let short = build::build(&outcome, "again", 30);
    assert!(short.rows.len() <= 30 && short.left_out > 0);
    assert_eq!(whole.left_out, 0);
    assert_eq!(short.rows.last().map(|row| row.at_us), whole.rows.last().map(|row| row.at_us));
    assert!(short.violation.is_some());
    let text = timeline::text(&short);
    assert!(text.contains(&format!("{} earlier events are left out", short.left_out)));
}
