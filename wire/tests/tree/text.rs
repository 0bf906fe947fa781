//! The rules of every text: no notes to oneself, no paths of a machine, documents that point only to what is there.

use crate::rules::{Finding, Source, report, tree};
use std::collections::BTreeSet;

/// What belongs into an issue, not into the tree. (Put together, so that this file does not find itself.)
const NOTES: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// What git leaves where it could not merge.
const CONFLICTS: &[&str] = &[concat!("<<<<", "<<< "), concat!(">>>>", ">>> ")];

/// Folders of one machine.
const MACHINES: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

fn notes(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for note in NOTES {
            if has_word(line, note) {
                findings.push(source.finding(
                    number + 1,
                    *note,
                    "do it, or write an issue and say here what the limit is",
                ));
            }
        }
        for mark in CONFLICTS {
            if line.starts_with(mark) {
                findings.push(source.finding(number + 1, "a merge conflict", "resolve it before you commit"));
            }
        }
        for path in MACHINES {
            if starts_word(line, path) {
                let right = "a path of one machine: let it be given, or take one that every installation has";
                findings.push(source.finding(number + 1, *path, right));
            }
        }
    }
    findings
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Not in the middle of a longer path or address.
fn starts_word(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| is_word(c) || matches!(c, '.' | '-' | '/' | '}' | '~'))
    })
}

/// Links between documents lead somewhere: to a file or folder that is there, and to a heading that it has.
fn links(source: &Source, sources: &[Source], paths: &BTreeSet<String>) -> Vec<Finding> {
    if !source.path.ends_with(".md") {
        return Vec::new();
    }
    let folder = source.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains(':') {
                continue;
            }
            let (target, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match target {
                "" => source.path.clone(),
                target => join(folder, target),
            };
            let mut dead = |what: String| findings.push(source.finding(number + 1, what, "mend or remove it"));
            if !paths.contains(&target) {
                dead(format!("the link leads to {target}, which is not there"));
            } else if !heading.is_empty() && !has_heading(sources, &target, heading) {
                dead(format!(
                    "the link leads to a heading #{heading}, which {target} has not"
                ));
            }
        }
    }
    findings
}

fn has_heading(sources: &[Source], path: &str, heading: &str) -> bool {
    let text = sources.iter().find(|source| source.path == path);
    text.is_some_and(|source| {
        let mut headings = source.text.lines().filter(|line| line.starts_with('#'));
        headings.any(|line| anchor(line.trim_start_matches('#')) == heading)
    })
}

/// The name by which a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| is_word(*c) || matches!(c, '-' | ' '));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

/// The map names only what exists: in ARCHITECTURE.md each `name.rs` and `folder/` in backticks, from the root of the tree.
fn map(source: &Source, paths: &BTreeSet<String>) -> Vec<Finding> {
    if source.path != "ARCHITECTURE.md" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2) {
            let is_path = name.contains('/') && (name.ends_with(".rs") || name.ends_with('/'));
            if is_path && !name.contains(char::is_whitespace) && !paths.contains(name.trim_end_matches('/')) {
                let what = format!("`{name}` is not there");
                findings.push(source.finding(
                    number + 1,
                    what,
                    "the map tells what is built: write its path from the root",
                ));
            }
        }
    }
    findings
}

fn join(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Every file and every folder.
fn paths(sources: &[Source]) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for source in sources {
        let mut path = source.path.as_str();
        while paths.insert(path.to_string()) {
            path = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        }
    }
    paths
}

mod tests {
    use super::*;

    #[test]
    fn no_notes_to_oneself_and_no_paths_of_a_machine() {
        report(&tree().iter().flat_map(notes).collect::<Vec<_>>());
    }

    #[test]
    fn documents_point_to_what_is_there() {
        let tree = tree();
        let paths = paths(tree);
        report(
            &tree
                .iter()
                .flat_map(|source| links(source, tree, &paths))
                .collect::<Vec<_>>(),
        );
        report(&tree.iter().flat_map(|source| map(source, &paths)).collect::<Vec<_>>());
    }

    #[test]
    fn notes_and_paths_are_found() {
        let text = format!(
            "// {}: later\nlet AUTODOX = 1;\ncd {}x\nhttps://a.example{}x\n{}main\n",
            NOTES[0], MACHINES[0], MACHINES[1], CONFLICTS[0]
        );
        let found: Vec<usize> = notes(&Source::new("a.rs", &text))
            .iter()
            .map(|finding| finding.line)
            .collect();
        assert_eq!(found, [1, 3, 5]);
    }

    #[test]
    fn dead_links_and_wrong_maps_are_found() {
        let text = "[a](../b.md#in-x-and-y) [c](c.md) [d](https://d.example) [e](../b.md#z)\n`e/f.rs` `b.md` `wire/`\n";
        let sources = [
            Source::new("docs/a.md", text),
            Source::new("b.md", "# Z, no\n## In `x` and y\n"),
            Source::new("wire/x", ""),
        ];
        let known = paths(&sources);
        let found: Vec<String> = links(&sources[0], &sources, &known)
            .iter()
            .map(ToString::to_string)
            .collect();
        let expected = [
            "docs/a.md:1: the link leads to docs/c.md, which is not there; mend or remove it",
            "docs/a.md:1: the link leads to a heading #z, which b.md has not; mend or remove it",
        ];
        assert_eq!(found, expected);
        let found = map(&Source::new("ARCHITECTURE.md", text), &known);
        assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2]);
        assert_eq!(found[0].what, "`e/f.rs` is not there");
    }
}
