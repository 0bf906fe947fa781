//! Files that no crate includes, and modules without a file: neither is compiled, and nobody notices.

use crate::rules::{Finding, Source, report, tree};
use crate::scan;
use std::collections::{BTreeMap, BTreeSet};

fn orphans(sources: &[Source]) -> Vec<Finding> {
    let rust: BTreeMap<&str, &Source> = sources
        .iter()
        .filter(|source| source.is_rust())
        .map(|source| (source.path.as_str(), source))
        .collect();
    let mut open: Vec<String> = roots(sources);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut findings = Vec::new();
    while let Some(path) = open.pop() {
        let Some(source) = rust.get(path.as_str()) else {
            continue;
        };
        if !seen.insert(path.clone()) {
            continue;
        }
        for module in scan::declared(&source.text, &source.code) {
            let candidates = places(&path, &module);
            match candidates
                .iter()
                .find(|candidate| rust.contains_key(candidate.as_str()))
            {
                Some(file) => open.push(file.clone()),
                None => findings.push(source.finding(
                    module.line,
                    format!("mod {} has no file", module.name),
                    format!("one of {} would be right", candidates.join(", ")),
                )),
            }
        }
    }
    let lost = rust.values().filter(|source| !seen.contains(&source.path));
    findings.extend(
        lost.map(|source| source.finding(1, "no crate includes this file", "add its `mod` line, or remove it")),
    );
    findings
}

/// The files from which cargo starts: by its own conventions, or named in a manifest.
fn roots(sources: &[Source]) -> Vec<String> {
    let mut roots = Vec::new();
    for manifest in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let folder = manifest.path.trim_end_matches("Cargo.toml");
        for source in sources.iter().filter(|source| source.is_rust()) {
            let Some(inner) = source.path.strip_prefix(folder) else {
                continue;
            };
            let parts: Vec<&str> = inner.split('/').collect();
            let conventional = matches!(
                parts.as_slice(),
                ["build.rs"]
                    | ["src", "lib.rs" | "main.rs"]
                    | ["src", "bin", _]
                    | ["src", "bin", _, "main.rs"]
                    | ["tests" | "benches" | "examples", _]
                    | ["tests" | "benches" | "examples", _, "main.rs"]
            );
            let named = manifest.text.contains(&format!("path = \"{inner}\""));
            if conventional || named {
                roots.push(source.path.clone());
            }
        }
    }
    roots
}

/// Where the compiler looks for a module.
fn places(file: &str, module: &scan::Declared) -> Vec<String> {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    if let Some(path) = &module.path {
        return vec![normal(&format!("{folder}/{path}"))];
    }
    let stem = name.trim_end_matches(".rs");
    let is_root = roots_a_folder(file);
    let mut base = if is_root {
        folder.to_string()
    } else {
        format!("{folder}/{stem}")
    };
    for inner in &module.within {
        base = format!("{base}/{inner}");
    }
    vec![
        normal(&format!("{base}/{}.rs", module.name)),
        normal(&format!("{base}/{}/mod.rs", module.name)),
    ]
}

/// Whether a file's modules lie beside it rather than in a folder of its name: `mod.rs` and every crate root.
fn roots_a_folder(file: &str) -> bool {
    let parts: Vec<&str> = file.split('/').collect();
    matches!(
        parts.as_slice(),
        [.., "mod.rs" | "lib.rs" | "main.rs" | "build.rs"]
            | [.., "tests" | "benches" | "examples" | "bin" | "fuzz_targets", _]
    ) && !parts.windows(2).any(|two| two == ["src", "tests"])
}

/// `a/../b` is `b`.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

mod tests {
    use super::*;

    #[test]
    fn every_file_is_included() {
        report(&orphans(tree()));
    }

    #[test]
    fn orphans_and_modules_without_a_file_are_found() {
        let sources = [
            Source::new("a/Cargo.toml", "[[bin]]\npath = \"odd/x.rs\""),
            Source::new("a/src/lib.rs", "mod b;\nmod gone;"),
            Source::new("a/src/b.rs", "mod c; mod inner { mod d; }"),
            Source::new("a/src/b/c.rs", ""),
            Source::new("a/src/b/inner/d.rs", ""),
            Source::new("a/src/lost.rs", ""),
            Source::new("a/odd/x.rs", ""),
            Source::new("a/tests/one.rs", "#[path = \"../bodies/y.rs\"] mod y;"),
            Source::new("a/tests/two/main.rs", "mod help;"),
            Source::new("a/tests/two/help.rs", ""),
            Source::new("a/bodies/y.rs", ""),
        ];
        let found: Vec<String> = orphans(&sources).iter().map(ToString::to_string).collect();
        let expected = [
            "a/src/lib.rs:2: mod gone has no file; one of a/src/gone.rs, a/src/gone/mod.rs would be right",
            "a/src/lost.rs:1: no crate includes this file; add its `mod` line, or remove it",
        ];
        assert_eq!(found, expected);
    }
}
