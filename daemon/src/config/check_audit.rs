//! `[audit]`: what was written of it, and what it means.

use std::time::Duration;

use super::diagnostic::{At, Place, Problems};
use super::files::Folder;
use super::raw::{Listen, Protocol, Raw};
use super::reader::Section;
use super::values::DURATION_MAX;
use crate::accounting::plan::{FilePlan, Format, PathTemplate};
use crate::audit::plan::{Operations, Settings, WORDS, WhenFull};

/// The settings that it has.
pub const KEYS: [&str; 12] = [
    "file",
    "operations",
    "sample",
    "directories",
    "results",
    "queue_max",
    "when_full",
    "sync",
    "rotate_bytes",
    "rotate_every",
    "keep",
    "mode",
];

/// A file that is put away has room for a few lines at least.
const ROTATE_BYTES_MIN: usize = 64 << 10;
const TIB: usize = 1 << 40;

/// `[audit]`, as written; see `audit::plan::Settings`.
#[derive(Debug)]
pub struct Audit {
    place: Place,
    file: Option<At<String>>,
    operations: Option<At<Vec<At<String>>>>,
    /// `"1"`, `"0.01"` or `"1%"`.
    sample: Option<At<String>>,
    directories: Option<At<Vec<At<String>>>>,
    failures_only: Option<At<bool>>,
    queue_max: Option<At<usize>>,
    when_full: Option<At<WhenFull>>,
    sync: Option<At<bool>>,
    rotate_bytes: Option<At<usize>>,
    rotate_every: Option<At<Duration>>,
    keep: Option<At<usize>>,
    mode: Option<At<u32>>,
}

/// Reads the section.
pub fn read(p: &mut Problems, mut section: Section<'_>) -> Audit {
    const RESULTS: [(&str, bool); 2] = [("all", false), ("failures", true)];
    const WHEN_FULL: [(&str, WhenFull); 2] = [("drop", WhenFull::Drop), ("wait", WhenFull::Wait)];
    let audit = Audit {
        place: section.place.clone(),
        file: section.string(p, "file"),
        operations: section.strings(p, "operations"),
        sample: section.string(p, "sample"),
        directories: section.strings(p, "directories"),
        failures_only: section.choice(p, "results", &RESULTS, &[]),
        queue_max: section.count(p, "queue_max", 16, 10_000_000),
        when_full: section.choice(p, "when_full", &WHEN_FULL, &[]),
        sync: section.boolean(p, "sync"),
        rotate_bytes: section.size(p, "rotate_bytes", 0, TIB),
        rotate_every: section.duration(p, "rotate_every", Duration::ZERO, DURATION_MAX),
        keep: section.count(p, "keep", 1, 1000),
        mode: section.mode(p, "mode"),
    };
    let small = |at: &&At<usize>| (1..ROTATE_BYTES_MIN).contains(&at.value);
    if let Some(size) = audit.rotate_bytes.as_ref().filter(small) {
        p.error(&size.place, "`rotate_bytes` is too small to be of use")
            .label(format!("found {} bytes", size.value))
            .help("it may be 64KiB or more, or 0 for no bound");
    }
    section.finish(p);
    audit
}

/// What it means; none: there is none, or something is wrong.
pub(super) fn audit(p: &mut Problems, raw: &Raw, folder: &Folder) -> Option<Settings> {
    let audit = raw.audit.as_ref()?;
    let file = file(p, audit, folder);
    let operations = operations(p, audit);
    let sample_millionths = match &audit.sample {
        Some(text) => sample(p, text),
        None => Some(1_000_000),
    };
    let names: Vec<&str> = raw.directories.iter().map(|(name, _)| name.value.as_str()).collect();
    let written = audit.directories.as_ref().map_or(&[][..], |at| &at.value);
    let known = written
        .iter()
        .filter(|name| super::check::named(p, "directory", &names, name));
    let directories: Vec<String> = known.map(|name| name.value.clone()).collect();
    Some(Settings {
        file: file?,
        queue_max: audit.queue_max.as_ref().map_or(10_000, |at| at.value),
        when_full: audit.when_full.as_ref().map_or(WhenFull::Drop, |at| at.value),
        operations: operations?,
        sample_millionths: sample_millionths?,
        directories,
        failures_only: audit.failures_only.as_ref().is_some_and(|at| at.value),
    })
}

/// `audit` of a listener.
pub(super) fn listener(p: &mut Problems, raw: &Raw, listen: &Listen, protocol: Protocol) -> bool {
    let Some(written) = &listen.audit else {
        return matches!(protocol, Protocol::Ldap | Protocol::Ldaps);
    };
    if !matches!(protocol, Protocol::Ldap | Protocol::Ldaps) {
        p.error(&written.place, "`audit` is for ldap and ldaps listeners")
            .help("remove it");
    } else if written.value && raw.audit.is_none() {
        p.error(&written.place, "`audit` without an audit log")
            .help("add [audit] file = \"/var/log/usherd/audit.jsonl\"");
    }
    written.value
}

fn operations(p: &mut Problems, audit: &Audit) -> Option<Operations> {
    let Some(written) = &audit.operations else {
        return Some(Operations::DEFAULT);
    };
    let mut operations = Operations::default();
    let mut right = true;
    for text in &written.value {
        match WORDS.iter().find(|(word, _)| *word == text.value) {
            Some((_, one)) => operations = operations.with(*one),
            None => {
                right = false;
                let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
                p.error(&text.place, "`operations` in [audit] is a list of operations")
                    .label(format!("found \"{}\"", text.value))
                    .help(format!("there are: {}", words.join(", ")));
            }
        }
    }
    if written.value.is_empty() {
        p.error(&written.place, "`operations` in [audit] is empty")
            .help("write operations = [\"bind\", \"write\", \"extended\"], or remove [audit]");
        right = false;
    }
    right.then_some(operations)
}

/// A share, in millionths.
fn sample(p: &mut Problems, text: &At<String>) -> Option<u32> {
    let (digits, whole) = match text.value.strip_suffix('%') {
        Some(percent) => (percent, 10_000.0),
        None => (text.value.as_str(), 1_000_000.0),
    };
    let share: Option<f64> = digits.trim().parse().ok();
    let millionths = share.map(|share| (share * whole).round());
    match millionths.filter(|millionths| (1.0..=1_000_000.0).contains(millionths)) {
        // Bounded just above.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(millionths) => Some(millionths as u32),
        None => {
            p.error(
                &text.place,
                "`sample` in [audit] is a share of all searches and compares",
            )
            .label(format!("found \"{}\"", text.value))
            .help("write \"100%\", \"1%\" or \"0.01\"; without searches in `operations` none is told");
            None
        }
    }
}

fn file(p: &mut Problems, audit: &Audit, folder: &Folder) -> Option<FilePlan> {
    let Some(written) = &audit.file else {
        if p.absent(&audit.place, "file") {
            p.error(&audit.place, "[audit] without a file")
                .help("add file = \"/var/log/usherd/audit.jsonl\"");
        }
        return None;
    };
    let path = folder.path(&written.value);
    if written.value.is_empty() || written.value.ends_with('/') || path.is_dir() {
        p.error(&written.place, "`file` names a folder and not a file")
            .label(format!("found \"{}\"", written.value));
        return None;
    }
    let above = path.parent().unwrap_or(&path);
    if !above.is_dir() {
        p.error(&written.place, format!("there is no folder {}", above.display()))
            .help("make it first, with the right owner");
        return None;
    }
    Some(FilePlan {
        path: PathTemplate::plain(&path),
        format: Format::Json,
        sync: audit.sync.as_ref().is_some_and(|at| at.value),
        rotate_bytes: audit.rotate_bytes.as_ref().map_or(0, |at| at.value as u64),
        rotate_every: audit.rotate_every.as_ref().map_or(Duration::ZERO, |at| at.value),
        keep: audit.keep.as_ref().map_or(30, |at| at.value),
        mode: audit.mode.as_ref().map_or(0o600, |at| at.value),
    })
}
