//! What was written reads as what it was, and what is wrong is told with its line.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::settings;
use super::words::TIME_US_MAX;
use crate::api::Level;
use crate::hash::Key;
use crate::planted::Bug;
use crate::sim::scenario::{Action, Answered, Context, Expectation, Operation, Request, Step};
use crate::sim::{ClientFault, Fault, NodeFault, Options, Place, Scenario, run};

const NODES: usize = 5;
const CLIENTS: usize = 3;

fn place() -> impl Strategy<Value = Place> {
    0..NODES
}

/// A few nodes, each once.
fn places() -> impl Strategy<Value = Vec<Place>> {
    proptest::sample::subsequence((0..NODES).collect::<Vec<_>>(), 1..=NODES).prop_shuffle()
}

fn fault() -> impl Strategy<Value = Fault> {
    let jump_ms = 10 * 365 * 24 * 3_600_000_i64;
    prop_oneof![
        place().prop_map(Fault::Start),
        place().prop_map(Fault::Crash),
        places().prop_map(Fault::PowerLoss),
        vec(places(), 1..4).prop_map(Fault::Partition),
        (place(), 1..NODES).prop_map(|(from, on)| Fault::OneWay(from, (from + on) % NODES)),
        Just(Fault::Heal),
        (place(), 0..=TIME_US_MAX).prop_map(|(place, us)| Fault::Pause(place, us)),
        (place(), -jump_ms..=jump_ms).prop_map(|(place, ms)| Fault::Clock(place, ms)),
        (0..CLIENTS, any::<bool>()).prop_map(|(client, silent)| {
            let fault = if silent { ClientFault::Silence } else { ClientFault::HalfRequest };
            Fault::Client(client, fault)
        }),
        (place(), 1..NODES)
            .prop_map(|(place, on)| { Fault::Node(place, NodeFault::Clone((place + on) % NODES)) }),
    ]
}

/// Text with all that needs an escape.
fn text() -> impl Strategy<Value = Bytes> {
    "[a-z\"\\\\\u{0}-\u{20}\u{7f}\u{e9}{}']{1,8}".prop_map(Bytes::from)
}

/// A question; the number makes its values differ from all others.
fn request() -> impl Strategy<Value = Request> {
    let key = || text().prop_map(Key::plain);
    let context = || select(Context::ALL.map(|(_, context, _)| context).to_vec());
    prop_oneof![
        (key(), any::<bool>()).prop_map(|(key, siblings)| Request::Get { key, siblings }),
        (key(), text(), context(), 0..99_000_u64).prop_map(|(key, value, context, ms)| {
            Request::Set { key, value, context, ttl_us: ms * 1_000 }
        }),
        (key(), context()).prop_map(|(key, context)| Request::Delete { key, context }),
        (proptest::collection::btree_map(key(), text(), 1..4), any::<bool>(), 0..3_u64).prop_map(
            |(items, isolated, ms)| Request::Bulk {
                items: items.into_iter().collect(),
                isolated,
                ttl_us: ms * 1_000,
            }
        ),
        (1..=1_000_u32).prop_map(|limit| Request::Scan { limit }),
        Just(Request::Count),
        key().prop_map(|key| Request::Explain { key }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let answer = select(vec![None, Some(Answered::Ok), Some(Answered::Unknown)]);
    (0..CLIENTS, proptest::option::of(place()), request(), select(Level::ALL.to_vec()), answer)
        .prop_map(|(client, via, request, level, expect)| Operation {
            client,
            via,
            request,
            level,
            expect,
        })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let action = prop_oneof![fault().prop_map(Action::Fault), operation().prop_map(Action::Ask),];
    let steps = vec((0..=30_000_000_u64, action), 0..12);
    let end = (0..TIME_US_MAX).prop_map(Expectation::Converged);
    let options = (any::<u64>(), any::<bool>(), 0..9_usize);
    (text(), options, steps, proptest::option::of(end)).prop_map(
        |(name, (seed, swarms, clients), steps, end)| {
            let mut options = if swarms { Options::swarm(seed) } else { Options::calm(seed) };
            options.clients = clients;
            options.planted = Bug::ALL.get(clients).copied();
            options.nodes = NODES;
            let mut steps: Vec<Step> =
                steps.into_iter().map(|(at_us, action)| Step { at_us, action }).collect();
            steps.sort_by_key(|step| step.at_us);
            let mut scenario =
                Scenario { expects: end.into_iter().collect(), ..Scenario::of("", options) };
            scenario.name = String::from_utf8_lossy(&name).into_owned();
            scenario.clients = ["a", "b", "c"].map(String::from).to_vec();
            scenario.steps = with_values_of_their_own(steps);
            scenario
        },
    )
}

/// The same steps without those that write a value which another one has written.
fn with_values_of_their_own(steps: Vec<Step>) -> Vec<Step> {
    let mut seen = BTreeSet::new();
    let is_new = |step: &Step| match &step.action {
        Action::Fault(_) => true,
        Action::Ask(operation) => match &operation.request {
            Request::Get { .. }
            | Request::Delete { .. }
            | Request::Scan { .. }
            | Request::Count
            | Request::Explain { .. } => true,
            Request::Set { key, value, .. } => seen.insert((key.clone(), value.clone())),
            Request::Bulk { items, .. } => items.iter().all(|item| seen.insert(item.clone())),
        },
    };
    steps.into_iter().filter(is_new).collect()
}

#[track_caller]
fn check_round_trip(scenario: &Scenario) {
    let text = scenario.to_toml();
    match Scenario::from_toml(&text) {
        Ok(read) => assert_eq!(read, *scenario, "{text}"),
        Err(complaints) => panic!("{complaints:?}\n{text}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_was_written_reads_as_what_it_was(scenario in scenario()) {
        check_round_trip(&scenario);
    }

    #[test]
    fn the_world_of_every_seed_can_be_written(seed in any::<u64>()) {
        check_round_trip(&Scenario::random(seed));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-z0-9\"=.\\[\\]{},# -]{0,12}\n){0,8}") {
        let _ = Scenario::from_toml(&text);
    }
}

#[test]
fn a_run_that_was_written_to_a_file_is_the_same_run() {
    for seed in [3, 14, 2_026] {
        let mut drawn = Scenario::random(seed);
        drawn.options.duration_us = 2_000_000;
        let drawn = run(drawn, false);
        let written = drawn.written_down();
        check_round_trip(&written);
        let read = Scenario::from_toml(&written.to_toml()).expect("it was written just now");
        assert_eq!(run(read, false).trace.hash(), drawn.trace.hash(), "seed {seed}");
    }
}

/// A file in which something is wrong, and all that is told of it: each line and some words.
#[track_caller]
fn check_refused(text: &str, expected: &[(usize, &str)]) {
    let complaints = Scenario::from_toml(text).expect_err("something is wrong with it");
    let told: Vec<String> = complaints.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, (line, words)) in told.iter().zip(expected) {
        let place = format!("{line}: ");
        assert!(told.starts_with(&place) && told.contains(words), "{line}: {words}\n{told}");
    }
}

/// A file of one step with these fields, from its line 3.
#[track_caller]
fn check_step(fields: &str, expected: &[(usize, &str)]) {
    check_refused(&format!("name = \"x\"\n[[step]]\n{fields}"), expected);
}

#[test]
fn unknown_words_are_refused_with_the_nearest_one() {
    check_step("at = \"1s\"\ndo = \"partion\"", &[(4, "did you mean `partition`?")]);
    check_step("at = \"1s\"\ndo = \"explode\"", &[(4, "known are start, crash, power_loss")]);
    check_step("at = \"1s\"\ndo = \"heal\"\nnod = \"n1\"", &[(5, "`heal` takes no `nod`")]);
    check_step(
        "at = \"1s\"\ndo = \"crash\"\nnode = \"n1\"\nnodes = []",
        &[(6, "did you mean `node`?")],
    );
    check_refused(
        "name = \"x\"\nnoddes = 5\n[netwerk]\nloss = 0.1\n[disk]\nread_eror = 1\n",
        &[
            (2, "did you mean `nodes`?"),
            (3, "did you mean `network`?"),
            (6, "did you mean `read_error`?"),
        ],
    );
    let set = "do = \"set\"\nat = \"1s\"\nclient = \"a\"\nkey = \"k\"\nvalue = \"v\"\n";
    check_step(&format!("{set}level = \"qorum\""), &[(8, "did you mean `quorum`?")]);
    check_step(&format!("{set}context = \"last-read\""), &[(8, "did you mean `last_read`?")]);
    check_step(&format!("{set}expect = \"okay\""), &[(8, "is no answer")]);
    let expect = "name = \"x\"\n[[expect]]\ncheck = \"sibling\"\n";
    check_refused(expect, &[(3, "did you mean `siblings`?")]);
}

#[test]
fn impossible_times_are_refused() {
    check_step("at = \"31s\"\ndo = \"heal\"", &[(3, "after the end: the run lasts 30s")]);
    check_step("at = \"-1s\"\ndo = \"heal\"", &[(3, "negative")]);
    check_step("at = 5\ndo = \"heal\"", &[(3, "a time with its unit")]);
    check_step("at = \"99999999999999999999s\"\ndo = \"heal\"", &[(3, "longer than 86400s")]);
    check_step(
        "at = \"1s\"\ndo = \"clock\"\nnode = \"n1\"\nby = \"99999999h\"",
        &[(6, "longer than")],
    );
    check_refused("name = \"x\"\nduration = \"0s\"", &[(2, "at least 1ms")]);
    check_refused("name = \"x\"\nduration = \"25h\"", &[(2, "longer than 86400s")]);
    let delay = "name = \"x\"\n[network]\ndelay = \"20ms..1ms\"";
    check_refused(delay, &[(3, "begins with the longer time")]);
}

#[test]
fn nodes_clients_and_keys_that_are_not_there_are_refused() {
    check_step(
        "at = \"1s\"\ndo = \"partition\"\ngroups = [[\"n1\", \"n1\"], [\"n4\"]]",
        &[(5, "n1 stands here twice"), (5, "there is no node \"n4\"; the nodes are n1 to n3")],
    );
    check_step("at = \"1s\"\ndo = \"partition\"\ngroups = []", &[(5, "no group")]);
    check_step("at = \"1s\"\ndo = \"power_loss\"\nnodes = []", &[(5, "no node")]);
    check_step(
        "at = \"1s\"\ndo = \"one_way\"\nfrom = \"n2\"\nto = \"n2\"",
        &[(6, "always reaches itself, and is its own copy")],
    );
    check_step(
        "at = \"1s\"\ndo = \"get\"\nclient = \"\"\nkey = \"\"",
        &[(5, "empty"), (6, "empty")],
    );
    check_refused("name = \"x\"\nnodes = 17", &[(2, "1 to 16")]);
    let listed = "name = \"x\"\nclients = [\"alice\"]\n[[step]]\nat = \"1s\"\ndo = \"get\"\n\
                  key = \"k\"\nclient = \"alise\"\n";
    check_refused(listed, &[(7, "did you mean `alice`?")]);
}

#[test]
fn what_cannot_be_true_together_is_refused() {
    let set = |value: &str, more: &str| {
        let head = "[[step]]\nat = \"1s\"\ndo = \"set\"\nclient = \"a\"\nkey = \"k\"\n";
        format!("{head}value = \"{value}\"\n{more}\n")
    };
    let end = |values: &str| {
        format!("[[expect]]\ncheck = \"siblings\"\nkey = \"k\"\nvalues = {values}\n")
    };
    let file = |parts: &[String]| format!("name = \"x\"\n{}", parts.concat());
    let twice = file(&[set("v", ""), set("v", "")]);
    check_refused(&twice, &[(9, "\"v\" to \"k\" is written twice")]);
    let differs = file(&[set("v", ""), end("[\"v\"]"), end("[]")]);
    check_refused(&differs, &[(13, "other values of \"k\"")]);
    let again = file(&[set("v", ""), end("[\"v\"]"), end("[\"v\"]")]);
    check_refused(&again, &[(13, "expected already")]);
    let refused = file(&[set("v", "expect = \"refused\""), end("[\"v\"]")]);
    check_refused(&refused, &[(9, "can never be read")]);
    check_refused(&file(&[end("[\"v\"]")]), &[(2, "nobody writes \"v\"")]);
    let converged = "[[expect]]\ncheck = \"converged\"\nwithin = \"1s\"\n".repeat(2);
    check_refused(&file(&[converged]), &[(5, "another `converged`")]);
}

#[test]
fn answers_that_no_question_has_are_refused() {
    let get = "at = \"1s\"\ndo = \"get\"\nclient = \"a\"\nkey = \"k\"\n";
    check_step(
        &format!("{get}expect = [\"v\"]"),
        &[(2, "nobody has written \"v\" to \"k\" until")],
    );
    let plain = format!("{get}expect = [\"v\", \"w\"]\n");
    let complaints = Scenario::from_toml(&format!("name = \"x\"\n[[step]]\n{plain}"));
    let complaints = complaints.expect_err("a plain read shows one value");
    assert!(complaints.iter().any(|told| told.line == 7 && told.text.contains("siblings = true")));
    let set = "at = \"1s\"\ndo = \"set\"\nclient = \"a\"\nkey = \"k\"\nvalue = \"v\"\n";
    check_step(&format!("{set}expect = [\"v\"]"), &[(8, "`set` shows no values")]);
}

#[test]
fn a_random_client_may_have_written_what_no_step_writes() {
    let text = "name = \"x\"\n[random]\nclients = 2\n[[step]]\nat = \"9s\"\ndo = \"get\"\n\
                client = \"a\"\nkey = \"k1\"\nexpect = [\"w5\"]\n";
    assert!(Scenario::from_toml(text).is_ok());
}

#[test]
fn all_that_is_wrong_is_told_at_once_also_of_text_that_is_no_toml() {
    let broken = "name = \nnodes = = 3\n";
    let complaints = Scenario::from_toml(broken).expect_err("it is no TOML");
    let lines: BTreeSet<usize> = complaints.iter().map(|told| told.line).collect();
    assert_eq!(lines, BTreeSet::from([1, 2]), "{complaints:?}");
    check_refused("", &[(1, "has no `name`")]);
    check_refused("step = 5", &[(1, "has no `name`"), (1, "a list in [] is wanted")]);
}

#[test]
fn the_reference_names_every_setting_and_every_step() {
    let reference = include_str!("../../../docs/simulations.md");
    for (section, name) in settings::names() {
        let known = reference.contains(&format!("`{name}`"));
        assert!(known, "[{section}] {name} is not in docs/simulations.md");
    }
    for word in super::steps::words() {
        assert!(reference.contains(&format!("`{word}`")), "{word} is not in docs/simulations.md");
    }
}
