//! The rules about one file at a time, and the tables that they read.
//!
//! Each returns what is wrong, in words that follow the path of the file. Source: ours.

use crate::scan::{has_word, is_ident, paths_after};
use crate::source::File;

/// Modules whose behaviour is a function of their inputs: no clock, chance, socket, file or thread.
pub(crate) const PURE: [&str; 13] = [
    "planted",
    "limits",
    "marks",
    "hash",
    "time",
    "causality",
    "api",
    "cluster",
    "shard",
    "search",
    "store",
    "turn",
    "wire",
];

/// Which module may import which (path prefixes). Whatever is absent here is forbidden.
const LAYERS: [(&str, &[&str]); 20] = [
    ("limits", &[]),
    ("planted", &[]),
    ("marks", &[]),
    ("hash", &["limits"]),
    ("time", &["limits"]),
    ("causality", &["limits", "planted", "hash", "time"]),
    ("api", &["limits", "hash", "time", "causality"]),
    ("config", VALUES),
    // The number of a put is the one word that the control plane shares with the data plane.
    (
        "cluster",
        &["limits", "planted", SOMETIMES, "hash", "time", "causality", "api", "shard::Seq"],
    ),
    ("shard", &["limits", "planted", SOMETIMES, "hash", "time", "causality", "api", "cluster"]),
    ("search", &["limits", "hash", "time", "causality", "api"]),
    (
        "store",
        &[
            "limits",
            "planted",
            "hash",
            "time",
            "causality",
            "api",
            "shard",
            "search",
            "cluster",
            "config::Durability",
            SOMETIMES,
        ],
    ),
    (
        "turn",
        &[
            "limits",
            "planted",
            SOMETIMES,
            "hash",
            "time",
            "causality",
            "api",
            "cluster",
            "shard",
            "store",
        ],
    ),
    (
        "wire",
        &[
            "limits",
            "planted",
            SOMETIMES,
            "hash",
            "time",
            "causality",
            "api",
            "cluster",
            "shard",
            "config",
        ],
    ),
    ("server", &[ANY_BELOW_SHELL, "turn", "store", "shard", "cluster", "wire", "config"]),
    (
        "sim",
        &[
            ANY_BELOW_SHELL,
            "planted",
            "marks",
            "turn",
            "store",
            "shard",
            "cluster",
            "wire",
            "config",
        ],
    ),
    ("client", &[ANY_BELOW_SHELL, "wire"]),
    ("load", &["client"]),
    (
        "cli",
        &[
            ANY_BELOW_SHELL,
            "planted",
            "marks",
            "wire",
            "cluster",
            "client",
            "load",
            "server",
            "sim",
            "config",
        ],
    ),
    ("lib", &[]),
];
const VALUES: &[&str] = &["limits", "hash", "time", "causality", "api"];
const ANY_BELOW_SHELL: &str = "values";
/// The core hits marks; only the simulator reads them, so no decision can rest on one.
const SOMETIMES: &str = "marks::sometimes";

/// Which modules may name which crate; a crate that is absent here may be named nowhere.
const CRATES: [(&str, &[&str]); 22] = [
    ("base64", &["wire", SHELLS]),
    ("bytes", &["hash", "causality", "api", "cluster", "shard", "store", "turn", "wire", SHELLS]),
    ("clap", &["cli", "config"]),
    ("comfy-table", &["cli"]),
    ("crc32c", &["store", "wire"]),
    ("hdrhistogram", &["load", "cli"]),
    ("indicatif", &["cli"]),
    ("postcard", &["cluster", "shard", "store", "wire"]),
    ("proptest", &[]),
    ("rand", &["cluster", "shard", "store", "turn", SHELLS]),
    ("ring", &["cluster", "server", "cli"]),
    ("rustix", &["server"]),
    ("rustyline", &["cli"]),
    (
        "serde",
        &[
            "hash",
            "time",
            "causality",
            "api",
            "config",
            "cluster",
            "shard",
            "store",
            "wire",
            SHELLS,
        ],
    ),
    ("serde_json", &["wire", SHELLS]),
    ("sha2", &["hash", "causality", "cluster", "shard", "store", "wire", SHELLS]),
    ("tempfile", &[]),
    (
        "thiserror",
        &["hash", "causality", "api", "config", "cluster", "shard", "store", "wire", SHELLS],
    ),
    ("tokio", &[SHELLS]),
    ("toml", &["config", "cli", "server", "sim"]),
    ("tracing", &[SHELLS]),
    ("tracing-subscriber", &["cli", "server"]),
];
const SHELLS: &str = "shells";

/// Files above [`FILE_LINES_MAX`]; the header of each says why it is one thing.
const LONG_FILES: [&str; 0] = [];
/// Files that may contain `unsafe`: a counting allocator for tests, and nothing that ships.
const UNSAFE_FILES: [&str; 1] = ["tests/codecs.rs"];

const FILE_LINES_MAX: usize = 700;
const LINE_COLUMNS_MAX: usize = 100;
const README_LINES_MAX: usize = 150;
const ARCHITECTURE_LINES_MAX: usize = 200;

pub(crate) fn layering(file: &File) -> Vec<String> {
    let module = file.module();
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        let known = module.is_empty() || module == "main";
        return if known { vec![] } else { vec![format!("{module} stands in no layer")] };
    };
    let values = if allowed.contains(&ANY_BELOW_SHELL) { VALUES } else { &[] };
    let fits = |path: &str| {
        let mut prefixes = allowed
            .iter()
            .chain(values)
            .chain(std::iter::once(&module.as_str()))
            .map(|&prefix| prefix.to_owned())
            .collect::<Vec<_>>();
        prefixes.dedup();
        prefixes.iter().any(|prefix| path == prefix || path.starts_with(&format!("{prefix}::")))
    };
    let paths = paths_after(&file.shipped, "crate");
    paths.into_iter().filter(|path| !fits(path)).map(|path| format!("imports {path}")).collect()
}

pub(crate) fn no_escape(file: &File) -> Vec<String> {
    let Some(rest) = file.path.strip_prefix("src/") else { return vec![] };
    let depth = rest.trim_end_matches("/mod.rs").split('/').count();
    let climb = "super::".repeat(depth);
    let climbs =
        depth > 0 && file.shipped.contains(&climb) && !matches!(rest, "lib.rs" | "main.rs");
    if climbs { vec![format!("climbs to the root by {climb}")] } else { vec![] }
}

pub(crate) fn crates_in_place(file: &File) -> Vec<String> {
    let module = file.module();
    if module.is_empty() || module == "main" {
        return vec![];
    }
    let shell = ["server", "sim", "client", "load", "cli"].contains(&module.as_str());
    let mut complaints = Vec::new();
    for (name, places) in CRATES {
        let ident = name.replace('-', "_");
        let used = !paths_after(&file.shipped, &ident).is_empty();
        let allowed = places.contains(&module.as_str()) || (shell && places.contains(&SHELLS));
        if used && !allowed {
            complaints.push(format!("uses {name}"));
        }
    }
    complaints
}

pub(crate) fn purity(file: &File) -> Vec<String> {
    if !file.is_pure() {
        return vec![];
    }
    let words =
        ["Instant", "SystemTime", "RandomState", "async", "await", "Mutex", "RwLock", "dyn Error"];
    let paths =
        ["std::net", "std::fs", "std::thread", "std::env", "std::process", "std::io", "rand::rng"];
    let mut found: Vec<_> =
        words.iter().chain(&paths).filter(|word| has_word(&file.shipped, word)).collect();
    let hashed = ["HashMap", "HashSet"].iter().find(|word| has_word(&file.shipped, word));
    found.extend(hashed.filter(|_| !file.shipped.contains("Hasher")));
    found.into_iter().map(|word| format!("names {word}")).collect()
}

/// What a file of the core is compiled to must not depend on how it is built: tests may be smaller,
/// and one file knows the feature that plants bugs. The shell may know its system.
pub(crate) fn one_build(file: &File) -> Vec<String> {
    if !file.path.starts_with("src/") {
        return vec![];
    }
    let conditions = ["cfg(", "cfg!(", "cfg_attr("];
    let mut complaints = Vec::new();
    for (at, word) in conditions.iter().flat_map(|word| file.code.match_indices(word)) {
        let rest = file.text.get(at + word.len()..).unwrap_or_default();
        let condition = rest.split([')', ',']).next().unwrap_or_default().trim();
        let planted = ["feature = \"planted-bugs\"", "not(feature = \"planted-bugs\""];
        let system = condition.trim_start_matches("not(").starts_with("target_os = ");
        let allowed = condition == "test"
            || file.path == "src/planted.rs" && planted.contains(&condition)
            || file.path.starts_with("src/server/") && system;
        if !allowed {
            complaints.push(format!("is compiled otherwise under {condition}"));
        }
    }
    complaints
}

pub(crate) fn no_floats(file: &File) -> Vec<String> {
    let decides = file.is_pure() && file.module() != "wire";
    let floats = ["f32", "f64"].iter().filter(|word| decides && has_word(&file.shipped, word));
    floats.map(|word| format!("uses {word}")).collect()
}

pub(crate) fn no_casts(file: &File) -> Vec<String> {
    if !["wire", "store", "causality"].contains(&file.module().as_str()) {
        return vec![];
    }
    let numbers =
        ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize"];
    let casts = numbers.iter().filter(|number| has_word(&file.shipped, &format!("as {number}")));
    casts.map(|number| format!("casts by as {number}")).collect()
}

pub(crate) fn columns(file: &File) -> Vec<String> {
    let long =
        file.text.lines().enumerate().filter(|(_, line)| line.chars().count() > LINE_COLUMNS_MAX);
    let rows = long
        .filter(|(_, line)| file.is_source() || !(line.contains("://") || line.starts_with('|')));
    rows.map(|(index, line)| format!("line {} has {} columns", index + 1, line.chars().count()))
        .collect()
}

pub(crate) fn lines(file: &File) -> Vec<String> {
    let count = file.text.lines().count();
    let listed = LONG_FILES.contains(&file.path.as_str());
    if !file.is_source() || count <= FILE_LINES_MAX {
        return if listed { vec!["is listed as long and is not".to_owned()] } else { vec![] };
    }
    let header: String = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
    let excused = listed && header.contains("One file");
    if excused { vec![] } else { vec![format!("has {count} lines")] }
}

pub(crate) fn ascii(file: &File) -> Vec<String> {
    let bad = file.text.lines().enumerate().filter(|(_, line)| !line.is_ascii());
    bad.map(|(index, _)| format!("line {} is not ASCII", index + 1)).collect()
}

pub(crate) fn header(file: &File) -> Vec<String> {
    let missing = file.is_source() && !file.text.starts_with("//! ");
    if missing { vec!["has no //! header".to_owned()] } else { vec![] }
}

pub(crate) fn finished(file: &File) -> Vec<String> {
    let macros = [concat!("to", "do!"), concat!("unimpl", "emented!"), concat!("db", "g!")];
    let marks = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];
    let found = macros.iter().filter(|word| file.code.contains(*word));
    let marked = marks.iter().filter(|word| has_word(&file.text, word));
    found.chain(marked).map(|word| format!("contains {word}")).collect()
}

pub(crate) fn no_ignored_tests(file: &File) -> Vec<String> {
    let ignored = file.code.contains(concat!("#[igno", "re"));
    if ignored { vec!["switches a test off".to_owned()] } else { vec![] }
}

pub(crate) fn no_sleeping_tests(file: &File) -> Vec<String> {
    let here = file.is_source()
        && !file.path.starts_with("tests/common/")
        && !file.path.starts_with("src/server/");
    let sleeps = here && has_word(&file.code, "sleep(");
    if sleeps { vec!["sleeps; poll with a deadline instead".to_owned()] } else { vec![] }
}

pub(crate) fn no_unsafe(file: &File) -> Vec<String> {
    let listed = UNSAFE_FILES.contains(&file.path.as_str());
    let found = has_word(&file.code, "unsafe");
    if found && !listed { vec!["contains unsafe code".to_owned()] } else { vec![] }
}

pub(crate) fn names(file: &File) -> Vec<String> {
    let vague = ["Manager", "Helper", "Util", "Utils", "Inner"];
    let mut complaints = Vec::new();
    for line in file.code.lines() {
        let name = ["struct ", "enum ", "trait ", "mod ", "type "].iter().find_map(|word| {
            let rest =
                line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
            rest.strip_prefix(word)
        });
        let name =
            name.and_then(|rest| rest.split(|c: char| !is_ident(c)).next()).unwrap_or_default();
        if vague.iter().any(|word| name.ends_with(word)) || name == "core" {
            complaints.push(format!("calls something {name}"));
        }
        if line.contains("fn get_") {
            complaints.push("calls a method get_...".to_owned());
        }
    }
    complaints
}

pub(crate) fn no_unwrap(file: &File) -> Vec<String> {
    let bad = file.path.starts_with("src/") && file.shipped.contains(".unwrap()");
    if bad { vec!["unwraps; say the invariant with expect".to_owned()] } else { vec![] }
}

pub(crate) fn short_documents(file: &File) -> Vec<String> {
    let max = match file.path.as_str() {
        "README.md" => README_LINES_MAX,
        "ARCHITECTURE.md" => ARCHITECTURE_LINES_MAX,
        _ => usize::MAX,
    };
    let count = file.text.lines().count();
    if count > max { vec![format!("has {count} lines, {max} are allowed")] } else { vec![] }
}
