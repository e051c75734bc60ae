//! The rules of CONTRIBUTING.md that a machine can check, read off the source tree as text.
//!
//! Every rule is one row of [`RULES`]: its name, the check, and an example that must fail it, so a
//! rule that cannot fail is itself a failure. Source: ours; the idea of a tidy test is that of
//! the Rust compiler's own tree.

mod rules;
mod scan;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rules::{
    ascii, columns, crates_in_place, finished, header, layering, lines, names, no_casts, no_escape,
    no_floats, no_ignored_tests, no_sleeping_tests, no_unsafe, no_unwrap, one_build, purity,
    short_documents,
};
use scan::{blank, has_word, paths_after};
use source::{File, read, root, tree};

const CRATES_MAX: usize = 150;

/// One rule: its name, the check, and a path and text that must fail it.
struct Rule {
    name: &'static str,
    check: fn(&File) -> Vec<String>,
    bad: (&'static str, &'static str),
}

const RULES: [Rule; 18] = [
    Rule {
        name: "a module imports only what its layer allows",
        check: layering,
        bad: ("src/shard/mod.rs", "use crate::{api::Reply, server::Worker};"),
    },
    Rule {
        name: "a path does not climb out of its module by super",
        check: no_escape,
        bad: ("src/shard/mod.rs", "use super::server::Worker;"),
    },
    Rule {
        name: "a crate is named only where the table allows it",
        check: crates_in_place,
        bad: ("src/shard/mod.rs", "fn f() { tokio::spawn(g()); }"),
    },
    Rule {
        name: "the core has no clock, chance, socket, file, thread or future",
        check: purity,
        bad: ("src/causality/dot.rs", "fn f() -> Instant { Instant::now() }"),
    },
    Rule {
        name: "the core is the same in every build, but for planted bugs",
        check: one_build,
        bad: ("src/shard/mod.rs", "#[cfg(feature = \"planted-bugs\")]\nfn f() {}"),
    },
    Rule {
        name: "the core decides without floating point",
        check: no_floats,
        bad: ("src/cluster/detector.rs", "fn f(a: f64) -> bool { a > 0.5 }"),
    },
    Rule {
        name: "bytes from outside are converted without `as`",
        check: no_casts,
        bad: ("src/wire/resp.rs", "fn f(a: u64) -> usize { a as usize }"),
    },
    Rule {
        name: "lines have at most 100 columns",
        check: columns,
        bad: (
            "src/lib.rs",
            "// 0123456789012345678901234567890123456789012345678901234567890123456789\
               0123456789012345678901234567890",
        ),
    },
    Rule {
        name: "files have at most 700 lines, or a reason",
        check: lines,
        bad: ("src/lib.rs", LONG_TEXT),
    },
    Rule { name: "sources and documents are ASCII", check: ascii, bad: ("docs/a.md", "caf\u{e9}") },
    Rule {
        name: "a source file opens with what it is for",
        check: header,
        bad: ("src/lib.rs", "use std::fmt;"),
    },
    Rule {
        name: "nothing is left unfinished",
        check: finished,
        bad: ("src/lib.rs", concat!("fn f() { to", "do!() }")),
    },
    Rule {
        name: "no test is switched off",
        check: no_ignored_tests,
        bad: ("tests/a.rs", concat!("#[igno", "re]\nfn f() {}")),
    },
    Rule {
        name: "tests wait in one place only",
        check: no_sleeping_tests,
        bad: ("tests/a.rs", "fn f() { std::thread::sleep(d); }"),
    },
    Rule {
        name: "unsafe code stands only where it is listed",
        check: no_unsafe,
        bad: ("src/lib.rs", "fn f() { unsafe { g() } }"),
    },
    Rule {
        name: "names say what a thing is",
        check: names,
        bad: ("src/lib.rs", "struct LinkManager;"),
    },
    Rule {
        name: "there is no unwrap outside tests",
        check: no_unwrap,
        bad: ("src/lib.rs", "fn f() { g().unwrap(); }"),
    },
    Rule {
        name: "the two front documents stay short",
        check: short_documents,
        bad: ("README.md", LONG_TEXT),
    },
];

/// A text of 701 lines.
const LONG_TEXT: &str = match std::str::from_utf8(&[b'\n'; 701]) {
    Ok(text) => text,
    Err(_) => "",
};

#[test]
fn the_tree_is_tidy() {
    let files = tree();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the walk found no sources");
    let mut complaints = Vec::new();
    for rule in &RULES {
        for file in &files {
            for what in (rule.check)(file) {
                complaints.push(format!("{}: {what} ({})", file.path, rule.name));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_rule_can_fail() {
    for rule in &RULES {
        let (path, text) = rule.bad;
        let complaints = (rule.check)(&File::new(path, text));
        assert!(!complaints.is_empty(), "nothing breaks the rule: {}", rule.name);
    }
}

#[test]
fn every_rule_passes_a_good_file() {
    let text = "//! A good file.\n\nuse crate::hash::Key;\nuse bytes::Bytes;\n\n\
                /// Its `unsafe` and \"todo\" stand in comments.\n\
                pub fn f(key: &Key) -> u64 {\n    let text = \"tokio::spawn(a as usize)\";\n    \
                u64::try_from(text.len()).expect(\"a length fits\")\n}\n";
    for path in ["src/causality/a.rs", "src/shard/a.rs", "src/store/a.rs", "src/wire/a.rs"] {
        for rule in &RULES {
            let complaints = (rule.check)(&File::new(path, text));
            assert!(complaints.is_empty(), "{path}: {}: {complaints:?}", rule.name);
        }
    }
}

#[test]
fn the_scanner_sees_code_and_not_comments_strings_or_lifetimes() {
    let code = blank(
        "let a = \"x // y\"; // unsafe\nlet b = 'c'; fn f<'a>() {} /* a /* b */ c */ r#\"q\"# z",
    );
    assert!(!code.contains("unsafe"), "{code}");
    assert!(!code.contains('q'), "{code}");
    assert!(code.contains("fn f<'a>()"), "{code}");
    assert!(code.ends_with(" z"), "{code}");
    assert_eq!(code.lines().count(), 2);
}

#[test]
fn paths_are_read_out_of_nested_imports() {
    let code = "use crate::{a::{b, c::D}, e}; pub(crate) fn f() { crate::g::h::<T>(); }";
    assert_eq!(paths_after(code, "crate"), ["a::b", "a::c::D", "e", "g::h"]);
}

#[test]
fn every_dependency_has_its_reason_and_the_tree_stays_small() {
    let (manifest, lock) = (read("Cargo.toml"), read("Cargo.lock"));
    let document = read("docs/dependencies.md");
    let direct: BTreeSet<String> = ["dependencies", "dev-dependencies"]
        .iter()
        .flat_map(|at| table_names(&manifest, at))
        .collect();
    let missing: Vec<_> =
        direct.iter().filter(|name| !document.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "docs/dependencies.md gives no reason for {missing:?}");
    let documented = document.lines().filter_map(|line| line.strip_prefix("| `"));
    for name in documented.filter_map(|line| line.split('`').next()) {
        assert!(direct.contains(name), "docs/dependencies.md lists {name}, which is not used");
    }
    let count = reachable(&lock, &table_names(&manifest, "dependencies")).len();
    assert!((20..CRATES_MAX).contains(&count), "{count} crates in the normal tree");
}

#[test]
fn a_manifest_and_a_lock_file_are_read_as_cargo_reads_them() {
    let manifest =
        "[dependencies]\na = \"1\"\n# b = \"1\"\nc-d = { version = \"1\" }\n\n[lints]\ne = 1\n";
    assert_eq!(table_names(manifest, "dependencies"), ["a", "c-d"]);
    let lock = "[[package]]\nname = \"a\"\ndependencies = [\n \"x\",\n \"y 2.0\",\n]\n\n\
                [[package]]\nname = \"x\"\n\n[[package]]\nname = \"y\"\n\n\
                [[package]]\nname = \"z\"\n";
    assert_eq!(reachable(lock, &["a".into()]).into_iter().collect::<Vec<_>>(), ["a", "x", "y"]);
}

#[test]
fn every_limit_is_used_and_explained() {
    let limits = constants(&read("src/limits.rs"));
    assert!(limits.len() > 30, "the scan found {} limits", limits.len());
    let operations = read("docs/operations.md");
    let files = tree();
    let code: String = files
        .iter()
        .filter(|file| file.module() != "limits" && file.path.starts_with("src/"))
        .map(|file| file.shipped.as_str())
        .collect();
    let unused: Vec<_> = limits.iter().filter(|name| !has_word(&code, name)).collect();
    assert!(unused.is_empty(), "no code reaches for {unused:?}");
    let unexplained: Vec<_> = limits.iter().filter(|name| !has_word(&operations, name)).collect();
    assert!(
        unexplained.is_empty(),
        "docs/operations.md does not say what happens at {unexplained:?}"
    );
}

#[test]
fn every_setting_and_every_module_is_documented() {
    let operations = read("docs/operations.md");
    let config = read("src/config.rs");
    let fields =
        config.split("pub struct Config {").nth(1).and_then(|rest| rest.split("\n}").next());
    let settings = fields.expect("config.rs declares Config").lines().filter_map(field_name);
    let missing: Vec<_> = settings.filter(|name| !has_word(&operations, name)).collect();
    assert!(missing.is_empty(), "docs/operations.md does not explain the settings {missing:?}");
    let architecture = read("ARCHITECTURE.md");
    for module in tree().iter().map(File::module).collect::<BTreeSet<_>>() {
        assert!(has_word(&architecture, &module), "ARCHITECTURE.md does not place {module}");
    }
}

#[test]
fn every_mark_of_the_table_stands_at_one_line() {
    let marks = read("src/marks.rs");
    let table = marks.split("NAMES: &[&str] = &[").nth(1).and_then(|rest| rest.split("];").next());
    let names = table.expect("marks.rs has a table of names").lines();
    let names: BTreeSet<&str> = names.filter_map(|line| line.split('"').nth(1)).collect();
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for file in tree().iter().filter(|file| file.module() != "marks") {
        for (at, call) in file.shipped.match_indices("sometimes!(") {
            let name = file.text[at + call.len()..].split('"').nth(1).unwrap_or_default();
            *uses.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert!(names.len() >= 36, "the scan found {} marks", names.len());
    for name in &names {
        let count = uses.remove(*name).unwrap_or(0);
        assert!(count == 1, "the mark {name:?} stands at {count} lines; it must be exactly one");
    }
    assert!(uses.is_empty(), "marks.rs does not list {uses:?}");
}

#[test]
fn every_fault_code_is_documented() {
    let faults = read("src/api/fault.rs");
    let codes: Vec<_> = faults
        .lines()
        .filter(|line| line.trim_start().starts_with("Self::") && line.contains("=> \""))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(codes.len() >= 20, "the scan found {} codes", codes.len());
    let document = read("docs/protocols.md");
    let missing: Vec<_> = codes.iter().filter(|code| !has_word(&document, code)).collect();
    assert!(missing.is_empty(), "docs/protocols.md does not explain the codes {missing:?}");
}

#[test]
fn every_planted_bug_stands_in_the_core_and_none_in_the_default_build() {
    let text = read("src/planted.rs");
    let never = "#[cfg(not(feature = \"planted-bugs\"))]\n#[inline]\n\
                 pub(crate) const fn planted(_bug: Bug) -> bool {\n    false\n}";
    assert!(text.contains(never), "without the feature planted() is a constant false");
    let features = table_names(&read("Cargo.toml"), "features");
    assert_eq!(features, ["planted-bugs"], "it is the only feature, and no default one");
    let list = text.split("\nbugs! {").nth(1).and_then(|rest| rest.split("\n}").next());
    let rows = list.expect("planted.rs lists the bugs").lines();
    let bugs: Vec<&str> =
        rows.filter_map(|row| row.trim().split_once(" = \"")).map(|r| r.0).collect();
    assert!(bugs.len() >= 14, "the scan found {bugs:?}");
    let core: Vec<File> = tree().into_iter().filter(File::is_pure).collect();
    for bug in bugs {
        let site = format!("planted(Bug::{bug})");
        assert!(core.iter().any(|file| file.shipped.contains(&site)), "{bug} is planted nowhere");
    }
    let elsewhere = tree().into_iter().filter(|file| !file.is_pure());
    let outside: Vec<_> =
        elsewhere.filter(|f| f.shipped.contains("planted(Bug::")).map(|f| f.path).collect();
    assert!(outside.is_empty(), "bugs are planted in the core only, not in {outside:?}");
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    for file in tree().iter().filter(|file| file.is_document()) {
        let folder = Path::new(&file.path).parent().expect("a file lies in a folder");
        for target in file.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next())
        {
            if !target.is_empty() && !target.contains("://") {
                assert!(root().join(folder).join(target).exists(), "{}: {target}", file.path);
            }
        }
    }
}

/// Names of the keys of one table of a manifest.
fn table_names(manifest: &str, table: &str) -> Vec<String> {
    let head = format!("[{table}]");
    let body = manifest.lines().skip_while(|line| *line != head).skip(1);
    let rows = body.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with('#'));
    rows.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.to_owned()).collect()
}

/// Every package that `roots` lead to in a lock file, build dependencies and other systems too.
fn reachable(lock: &str, roots: &[String]) -> BTreeSet<String> {
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.split('"').nth(1).expect("a package has a name");
        let list = package.split("dependencies = [").nth(1).and_then(|rest| rest.split(']').next());
        let names = list.unwrap_or_default().split('"').skip(1).step_by(2);
        needs.entry(name).or_default().extend(names.filter_map(|entry| entry.split(' ').next()));
    }
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = roots.to_vec();
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            let next = needs.get(name.as_str()).into_iter().flatten();
            open.extend(next.map(|&next| next.to_owned()));
        }
    }
    found
}

fn constants(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("pub const "));
    lines.filter_map(|rest| rest.split(':').next()).map(str::to_owned).collect()
}

fn field_name(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    rest.split(':').next().map(str::to_owned)
}
