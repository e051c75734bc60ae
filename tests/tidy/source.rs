//! The files of the repository, as the rules see them.
//!
//! Invariant: the walk is in the order of paths, so complaints come in the same order everywhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::rules::PURE;
use crate::scan::blank;

/// One file of the repository.
pub(crate) struct File {
    /// Relative to the root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments and the contents of literals blanked.
    pub(crate) code: String,
    /// `code` without the modules that are compiled for tests only.
    pub(crate) shipped: String,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = if has_extension(path, "rs") { blank(text) } else { String::new() };
        let shipped = if is_test_path(path) { String::new() } else { without_tests(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    pub(crate) fn is_document(&self) -> bool {
        has_extension(&self.path, "md")
    }

    pub(crate) fn is_source(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    /// The first name below `src`: the module that a layer is made of. Empty outside of `src`.
    pub(crate) fn module(&self) -> String {
        let Some(rest) = self.path.strip_prefix("src/") else { return String::new() };
        rest.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
    }

    pub(crate) fn is_pure(&self) -> bool {
        PURE.contains(&self.module().as_str())
    }
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn has_extension(path: &str, wanted: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == wanted)
}

/// Every source and document of the repository, in the order of their paths.
pub(crate) fn tree() -> Vec<File> {
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches", "simulations", "docs"] {
        walk(&root().join(folder), &mut paths);
    }
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        paths.push(root().join(document));
    }
    let root = root();
    let relative = |path: &PathBuf| {
        let path = path.strip_prefix(&root).expect("the walk stays below the root");
        path.to_str().expect("names of the repository are UTF-8").to_owned()
    };
    let mut paths: Vec<_> = paths.iter().map(relative).collect();
    paths.sort();
    let mut files: Vec<_> = paths.iter().map(|path| File::new(path, &read(path))).collect();
    drop_test_modules(&mut files);
    files
}

pub(crate) fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a folder of the repository can be read").path();
        if path.is_dir() {
            walk(&path, paths);
        } else if path.extension().is_some_and(|end| end == "rs" || end == "md") {
            paths.push(path);
        }
    }
}

/// Modules that their parent declares below `#[cfg(test)]` ship nothing.
pub(crate) fn drop_test_modules(files: &mut [File]) {
    let mut folders = BTreeSet::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/")) {
        let stem = file.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        for rest in file.code.split("#[cfg(test)]").skip(1) {
            let declaration = rest.trim_start().split(';').next().unwrap_or_default();
            if let Some(name) =
                declaration.rsplit("mod ").next().filter(|_| !declaration.contains('{'))
            {
                folders.insert(format!("{stem}/{name}"));
            }
        }
    }
    for file in files {
        let path = file.path.trim_end_matches(".rs");
        if folders.iter().any(|at| path == at || path.starts_with(&format!("{at}/"))) {
            file.shipped.clear();
        }
    }
}

pub(crate) fn is_test_path(path: &str) -> bool {
    path.starts_with("tests/") || path.starts_with("benches/")
}

/// The code up to its first inline module of tests, which stands last in every file.
pub(crate) fn without_tests(code: &str) -> String {
    let inline = code.match_indices("#[cfg(test)]").find(|(at, _)| {
        let rest = code[*at..].trim_start_matches("#[cfg(test)]").trim_start();
        rest.starts_with("mod ")
            && rest.split(['{', ';']).next().is_some_and(|name| rest[name.len()..].starts_with('{'))
    });
    inline.map_or(code, |(at, _)| &code[..at]).to_owned()
}
