//! `[listen.lockout]`: what was written of it, and what it means.

use std::time::Duration;

use super::diagnostic::{At, Place, Problems};
use super::raw::{Listen, Protocol};
use super::reader::Section;
use super::values::DURATION_MAX;
use crate::lockouts::{By, LockoutPlan};

/// The settings that it has.
pub const KEYS: [&str; 7] = [
    "failures",
    "window",
    "duration",
    "by",
    "entries_max",
    "prefix_v4",
    "prefix_v6",
];

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const WORDS: [(&str, By); 3] = [
    ("dn", By::Dn),
    ("address", By::Address),
    ("dn+address", By::DnAndAddress),
];

/// `[listen.lockout]`, as written; see `LockoutPlan`.
#[derive(Debug)]
pub struct Lockout {
    place: Place,
    failures: Option<At<usize>>,
    window: Option<At<Duration>>,
    duration: Option<At<Duration>>,
    by: Option<At<Vec<At<String>>>>,
    entries_max: Option<At<usize>>,
    prefix_v4: Option<At<usize>>,
    prefix_v6: Option<At<usize>>,
}

/// Reads the section.
pub fn read(p: &mut Problems, mut section: Section<'_>) -> Lockout {
    let lockout = Lockout {
        place: section.place.clone(),
        failures: section.count(p, "failures", 1, 1000),
        window: section.duration(p, "window", SECOND, DURATION_MAX),
        duration: section.duration(p, "duration", SECOND, DURATION_MAX),
        by: section.strings(p, "by"),
        entries_max: section.count(p, "entries_max", 16, 10_000_000),
        prefix_v4: section.count(p, "prefix_v4", 8, 32),
        prefix_v6: section.count(p, "prefix_v6", 16, 128),
    };
    section.finish(p);
    lockout
}

/// What it means.
pub(super) fn listener(p: &mut Problems, listen: &Listen, protocol: Protocol) -> Option<LockoutPlan> {
    let lockout = listen.guard.lockout.as_ref()?;
    if !matches!(protocol, Protocol::Ldap | Protocol::Ldaps) {
        p.error(&lockout.place, "`lockout` is for ldap and ldaps listeners")
            .help("remove it");
        return None;
    }
    let by = match &lockout.by {
        Some(written) => by(p, written)?,
        None => vec![By::DnAndAddress],
    };
    let prefix = |at: &Option<At<usize>>, default| {
        at.as_ref()
            .map_or(default, |at| u8::try_from(at.value).unwrap_or(default))
    };
    Some(LockoutPlan {
        failures: lockout.failures.as_ref().map_or(5, |at| at.value),
        window: lockout.window.as_ref().map_or(15 * MINUTE, |at| at.value),
        duration: lockout.duration.as_ref().map_or(15 * MINUTE, |at| at.value),
        by,
        entries_max: lockout.entries_max.as_ref().map_or(100_000, |at| at.value),
        prefix_v4: prefix(&lockout.prefix_v4, 32),
        prefix_v6: prefix(&lockout.prefix_v6, 64),
    })
}

fn by(p: &mut Problems, written: &At<Vec<At<String>>>) -> Option<Vec<By>> {
    const RIGHT: &str =
        "write by = [\"dn+address\"], or what failures are counted by of \"dn\", \"address\" and \"dn+address\"";
    if written.value.is_empty() {
        p.error(&written.place, "`by` in [listen.lockout] is empty").help(RIGHT);
        return None;
    }
    let mut by = Vec::with_capacity(written.value.len());
    for text in &written.value {
        match WORDS.iter().find(|(word, _)| *word == text.value) {
            Some((_, one)) if !by.contains(one) => by.push(*one),
            Some(_) => {}
            None => {
                p.error(
                    &text.place,
                    "`by` in [listen.lockout] is a list of what failures are counted by",
                )
                .label(format!("found \"{}\"", text.value))
                .help(RIGHT);
            }
        }
    }
    (!by.is_empty()).then_some(by)
}
