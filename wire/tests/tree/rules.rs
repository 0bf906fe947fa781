//! The rules of Rust files: lengths, directions between the rooms, what must not be written.

use crate::scan::{self, Path};
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Longest file and longest function, in lines, everything counted: what is longer holds two things.
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 80;

/// What a folder must not reach for (tests aside, which may take the time): `(folder, forbidden path prefixes, what would be right)`.
const FENCES: &[(&str, &[&str], &str)] = &[
    (
        "wire/src/",
        &["engine"],
        "wire knows bytes only; the engine stands on it",
    ),
    (
        "wire/src/",
        OUTSIDE,
        "a format asks nobody for time, chance or input: take it as an argument",
    ),
    (
        "engine/src/",
        OUTSIDE,
        "the engine is told the time and emits effects; the daemon performs them",
    ),
    (
        "engine/src/core/",
        &["crate::session", "crate::directory", "wire"],
        "the core names no protocol; what it must know comes in its own words (Request, Settlement)",
    ),
    (
        "engine/src/directory/",
        &["crate::session"],
        "a directory answers messages, it does not know who keeps the session",
    ),
    (
        "engine/src/session/",
        &["crate::directory"],
        "a session knows pools only; the local directory is one upstream of many",
    ),
    (
        "helpers/src/",
        &["engine", "usherd"],
        "a helper is told what to do by its calls and arguments; the daemon knows it, not the other way round",
    ),
    ("helpers/src/winbind/", &["crate::pam", "crate::sql"], ONE_HELPER),
    ("helpers/src/pam/", &["crate::winbind", "crate::sql"], ONE_HELPER),
    ("helpers/src/sql/", &["crate::winbind", "crate::pam"], ONE_HELPER),
];

const ONE_HELPER: &str = "a helper never imports another: move what both need beside them";

/// Clocks, sockets, threads, files and runtimes: what only the daemon touches.
const OUTSIDE: &[&str] = &[
    "std::net",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread",
    "std::process",
    "std::fs",
    "std::env",
    "std::os",
    "tokio",
    "mio",
    "rustls",
    "socket2",
    "rustix",
    "nix",
    "libc",
];

/// Addresses are values; nobody connects by having one.
const VALUES: &[&str] = &[
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "std::net::SocketAddr",
];

/// Modules of `wire` that every format stands on; each other one is a protocol and imports no other.
const WIRE_COMMON: &[&str] = &["lib", "frame", "ber", "wipe"];
/// LDIF (RFC 2849) is the file format of LDAP and speaks its names and filters; what the NSS and PAM modules say is named
/// after the daemon they were written for.
const WIRE_RELATED: &[(&str, &str)] = &[("ldif", "ldap"), ("nss_pam", "nslcd")];

/// The small modules that need `unsafe`; each block in them says why it is sound, which clippy sees to.
const UNSAFE: &[&str] = &[
    "sdk/rust/src/system.rs",
    "helpers/src/winbind/ffi/",
    "helpers/src/pam/ffi/",
    "daemon/src/net/datagram/ffi.rs",
    "daemon/src/gssapi/ffi/",
    "daemon/src/pages.rs",
];

/// Something that is not as it should be.
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) what: String,
    pub(crate) right: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.right)
    }
}

/// A file of the tree.
pub(crate) struct Source {
    /// Relative to the root of the tree, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Blanked (see `scan`); empty where the file is not Rust.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") {
            scan::blank(text)
        } else {
            String::new()
        };
        Source {
            path: path.to_string(),
            text: text.to_string(),
            code,
        }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn finding(&self, line: usize, what: impl Into<String>, right: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            what: what.into(),
            right: right.into(),
        }
    }
}

/// Every text file below the root of the workspace, build output and fuzz corpora aside.
pub(crate) fn tree() -> &'static [Source] {
    static TREE: OnceLock<Vec<Source>> = OnceLock::new();
    TREE.get_or_init(read_tree)
}

fn read_tree() -> Vec<Source> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(root.join(&folder)).expect("the tree is readable");
        for entry in entries {
            let entry = entry.expect("the tree is readable");
            let name = entry.file_name().into_string().expect("names are UTF-8");
            let path = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            let kind = entry.file_type().expect("the tree is readable");
            if kind.is_dir() {
                let skipped = [".git", "target", "corpus", "artifacts", "coverage", "__pycache__"];
                if !skipped.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if kind.is_file()
                && name != ".git"
                && let Ok(text) = std::fs::read_to_string(entry.path())
            {
                sources.push(Source::new(&path, &text));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        sources.iter().any(|source| source.path == "Cargo.toml"),
        "not the root of the workspace"
    );
    sources
}

/// Fails with everything found.
pub(crate) fn report(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

fn lengths(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if source.is_rust() && lines > FILE_LINES_MAX {
        let what = format!("{lines} lines");
        findings.push(source.finding(
            lines,
            what,
            format!("a file has at most {FILE_LINES_MAX}: split it by what it holds"),
        ));
    }
    for function in scan::functions(&source.code) {
        if function.lines > FUNCTION_LINES_MAX {
            let what = format!("fn {} has {} lines", function.name, function.lines);
            let right = format!("a function has at most {FUNCTION_LINES_MAX}: give its parts names");
            findings.push(source.finding(function.line, what, right));
        }
    }
    findings
}

/// The modules a file's own path stands for: `engine/src/core/pool/mod.rs` is `core`, `pool`.
fn module_of(path: &str) -> Vec<String> {
    let Some((_, inner)) = path.split_once("src/") else {
        return Vec::new();
    };
    let mut modules: Vec<String> = inner.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    if matches!(modules.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        modules.pop();
    }
    modules
}

/// A module of tests, or one below it.
fn holds_tests(path: &str) -> bool {
    module_of(path).iter().any(|name| name.ends_with("tests"))
}

/// The path as seen from the crate: `self` and `super` replaced.
fn resolve(file: &str, path: &Path) -> String {
    let relative = matches!(path.segments[0].as_str(), "self" | "super");
    if !relative {
        return path.segments.join("::");
    }
    let mut at = module_of(file);
    at.extend(path.within.iter().cloned());
    let mut segments = path.segments.as_slice();
    while let Some((first, rest)) = segments.split_first() {
        match first.as_str() {
            "self" => {}
            "super" => drop(at.pop()),
            _ => break,
        }
        segments = rest;
    }
    let mut all = vec!["crate".to_string()];
    all.extend(at);
    all.extend(segments.iter().cloned());
    all.join("::")
}

fn begins_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn directions(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if holds_tests(&source.path) {
        return findings;
    }
    for path in scan::paths(&source.code) {
        if path.within.iter().any(|name| name == "tests") {
            continue;
        }
        let full = resolve(&source.path, &path);
        if VALUES.iter().any(|value| begins_with(&full, value)) {
            continue;
        }
        for (folder, forbidden, right) in FENCES {
            if source.path.starts_with(folder) && forbidden.iter().any(|prefix| begins_with(&full, prefix)) {
                findings.push(source.finding(path.line, format!("{full} in {folder}"), *right));
            }
        }
    }
    findings
}

/// The protocol a file of `folder` belongs to: the first name below it.
fn protocol<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let name = path.strip_prefix(folder)?.split('/').next()?;
    Some(name.trim_end_matches(".rs"))
}

/// A protocol never imports another: neither in `wire`, nor its session in the engine.
fn protocols(sources: &[Source]) -> Vec<Finding> {
    let names = |folder: &'static str, common: &'static [&'static str]| -> BTreeSet<&str> {
        let all = sources.iter().filter_map(move |source| protocol(&source.path, folder));
        all.filter(|name| !common.contains(name)).collect()
    };
    let formats = names("wire/src/", WIRE_COMMON);
    let sessions = names("engine/src/session/", &["mod"]);
    let right = "a protocol never imports another: move what both need to frame or ber, or to the core";
    let mut findings = Vec::new();
    for source in sources {
        let format = protocol(&source.path, "wire/src/").filter(|name| formats.contains(name));
        let session = protocol(&source.path, "engine/src/session/").filter(|name| sessions.contains(name));
        if format.or(session).is_none() {
            continue;
        }
        for path in scan::paths(&source.code) {
            let full = resolve(&source.path, &path);
            let segments: Vec<&str> = full.split("::").collect();
            let other = match (segments.as_slice(), format, session) {
                (["crate", other, ..], Some(own), _) => formats.contains(other) && !related(own, other),
                (["wire", other, ..], _, Some(own)) => formats.contains(other) && !related(own, other),
                (["crate", "session", other, ..], _, Some(own)) => sessions.contains(other) && *other != own,
                _ => false,
            };
            if other {
                findings.push(source.finding(path.line, full, right));
            }
        }
    }
    findings
}

fn related(own: &str, other: &str) -> bool {
    own == other || WIRE_RELATED.contains(&(own, other))
}

/// `unsafe` is allowed in few files; the pure crates forbid it to the compiler too.
fn unsafety(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let root = matches!(source.path.as_str(), "wire/src/lib.rs" | "engine/src/lib.rs");
    if root && !source.code.contains("#![forbid(unsafe_code)]") {
        findings.push(source.finding(
            1,
            "no #![forbid(unsafe_code)]",
            "the pure crates forbid it, each in its lib.rs",
        ));
    }
    if UNSAFE.iter().any(|allowed| source.path.starts_with(allowed)) {
        return findings;
    }
    let words = scan::tokens(&source.code)
        .into_iter()
        .filter(|token| token.text == "unsafe");
    let right = "rustix, socket2 and mio offer what the daemon needs of the system without it";
    findings.extend(words.map(|word| source.finding(word.line, "unsafe", right)));
    findings
}

/// Every module opens with its why; a file of tests is told by its module.
fn openings(source: &Source) -> Vec<Finding> {
    let inside = source.path.contains("src/") || source.path.contains("tests/");
    if !source.is_rust() || !inside || holds_tests(&source.path) || source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![source.finding(
        1,
        "no `//!` at its head",
        "a module opens with what it is for and what is never true in it",
    )]
}

/// Tests that do not run, and code that nobody calls.
fn silent(source: &Source) -> Vec<Finding> {
    let rules = [
        (
            ["[", "ignore"],
            "#[ignore]",
            "a test runs or is not there: bound its size, or let a variable raise it",
        ),
        (["(", "dead_code"], "allow(dead_code)", "what nobody calls is removed"),
    ];
    let tokens = scan::tokens(&source.code);
    let mut findings = Vec::new();
    for pair in tokens.windows(2) {
        for (words, what, right) in rules {
            if [pair[0].text, pair[1].text] == words {
                findings.push(source.finding(pair[0].line, what, right));
            }
        }
    }
    findings
}

mod tests {
    use super::*;

    fn each(rule: fn(&Source) -> Vec<Finding>) {
        report(&tree().iter().flat_map(rule).collect::<Vec<_>>());
    }

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn files_and_functions_are_short() {
        each(lengths);
    }

    #[test]
    fn the_rooms_keep_their_directions() {
        each(directions);
        report(&protocols(tree()));
    }

    #[test]
    fn nothing_is_unsafe() {
        each(unsafety);
    }

    #[test]
    fn modules_open_with_their_why() {
        each(openings);
    }

    #[test]
    fn no_test_is_skipped_and_no_code_is_dead() {
        each(silent);
    }

    #[test]
    fn a_long_file_and_a_long_function_are_found() {
        let text = format!(
            "fn short() {{}}\nfn long() {{\n{}}}\n",
            "    x();\n".repeat(FUNCTION_LINES_MAX - 1)
        );
        let found = lengths(&Source::new("wire/src/a.rs", &text));
        assert_eq!(lines(&found), [2]);
        assert_eq!(
            found[0].to_string(),
            "wire/src/a.rs:2: fn long has 81 lines; a function has at most 80: give its parts names"
        );
        let found = lengths(&Source::new("wire/src/a.rs", &"//\n".repeat(FILE_LINES_MAX + 1)));
        assert_eq!(lines(&found), [601]);
        assert!(lengths(&Source::new("docs/a.md", &"\n".repeat(FILE_LINES_MAX + 1))).is_empty());
    }

    #[test]
    fn forbidden_paths_are_found_however_they_are_written() {
        let text = "//! std::net\nuse std::{time::{Duration, Instant}, fmt};\nuse super::super::session::ldap;\nfn f(wire: &str) {\n  wire::frame::split();\n}\nuse ::tokio::net; use std::net::IpAddr;\nuse std::time::Duration;\nmod inner { use super::super::session; }\nmod tests { use std::time::Instant; }\n";
        let found = directions(&Source::new("engine/src/core/pool.rs", text));
        // Line 9: seen from a module written in place, one `super` more leads only to the core itself.
        assert_eq!(lines(&found), [2, 3, 5, 7]);
        assert!(directions(&Source::new("daemon/src/worker.rs", text)).is_empty());
        assert!(directions(&Source::new("engine/src/core/pool_tests.rs", text)).is_empty());
        assert!(directions(&Source::new("engine/src/core/tests/pool.rs", text)).is_empty());
    }

    #[test]
    fn protocols_that_import_each_other_are_found() {
        let sources = [
            Source::new("wire/src/ber.rs", ""),
            Source::new("wire/src/rpc.rs", "use crate::ber;\nuse crate::ldap::control;"),
            Source::new("wire/src/ldap/mod.rs", "use super::ldif;\nuse crate::ldap::dn;"),
            Source::new("wire/src/ldif.rs", "use crate::ldap::dn;"),
            Source::new("engine/src/session/mod.rs", "use wire::ldap;"),
            Source::new(
                "engine/src/session/rpc.rs",
                "use wire::rpc;\nuse wire::ldap;\nuse super::ldap::Session;",
            ),
            Source::new("engine/src/session/ldap/mod.rs", "use crate::session::Effect;"),
        ];
        let found: Vec<String> = protocols(&sources)
            .iter()
            .map(|finding| format!("{}:{}", finding.path, finding.line))
            .collect();
        let expected = [
            "wire/src/rpc.rs:2",
            "wire/src/ldap/mod.rs:1",
            "engine/src/session/rpc.rs:2",
            "engine/src/session/rpc.rs:3",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn unsafe_code_skipped_tests_and_missing_openings_are_found() {
        let source = Source::new(
            "wire/src/lib.rs",
            "// unsafe\n#[ignore = \"slow\"]\nfn f() { unsafe {} }\n",
        );
        assert_eq!(lines(&unsafety(&source)), [1, 3]);
        let foreign = format!("{}mod.rs", UNSAFE[2]);
        assert!(unsafety(&Source::new(&foreign, "unsafe {}")).is_empty());
        assert_eq!(lines(&silent(&source)), [2]);
        assert_eq!(lines(&openings(&source)), [1]);
        let source = Source::new(
            "daemon/src/a.rs",
            "//! Why.\n#![allow(dead_code)]\nlet ignore = [ignored];\n",
        );
        assert_eq!(lines(&silent(&source)), [2]);
        assert!(openings(&source).is_empty() && unsafety(&source).is_empty());
    }
}
