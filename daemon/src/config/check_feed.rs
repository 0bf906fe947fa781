//! Feeds: what was written, checked against the directories there are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::feed::settings::MaxDeletes;
use engine::feed::shape::Shape;
use wire::ldap::filter;
use wire::ldap::grammar::Scope;

use super::check::{self, check_name, workers};
use super::diagnostic::{At, Problems};
use super::files::Folder;
use super::plan::{self, Directory, FeedMode};
use super::raw_feed::{Feed, Mode};
use super::{check_directory, check_sink};
use crate::feed::sink::SinkPlan;

/// Where the state of feeds is, unless `state_dir` says something else.
const STATE_DEFAULT: &str = "/var/lib/usherd";
const FILTER_DEFAULT: &str = "(objectClass=*)";

/// What feeds need of the rest.
pub(super) struct Around<'a> {
    pub(super) folder: &'a Folder,
    /// `state_dir` of `[server]`.
    pub(super) state_dir: Option<&'a At<String>>,
    /// Directories as they are written, whether they are right or not.
    pub(super) names: &'a [&'a str],
    pub(super) directories: &'a BTreeMap<String, Arc<Directory>>,
    /// Sinks that were made otherwise than by a table.
    pub(super) sinks: &'a BTreeMap<String, SinkPlan>,
}

/// The plans of all feeds.
pub(super) fn feeds(
    p: &mut Problems,
    raw: &[(At<String>, Feed)],
    around: &Around<'_>,
) -> BTreeMap<String, Arc<plan::Feed>> {
    let mut feeds: BTreeMap<String, Arc<plan::Feed>> = BTreeMap::new();
    for (name, feed) in raw {
        check_name(p, "feed", name);
        let Some(made) = check(p, name, feed, around) else {
            continue;
        };
        if let Some(other) = feeds.values().find(|other| other.state == made.state) {
            let text = format!("the feeds {} and {} have the same state folder", other.name, made.name);
            p.error(&feed.place, text)
                .help("each feed keeps its own state: give them different `state`s, or none");
        }
        feeds.insert(name.value.clone(), Arc::new(made));
    }
    feeds
}

fn check(p: &mut Problems, name: &At<String>, raw: &Feed, around: &Around<'_>) -> Option<plan::Feed> {
    let directory = directory(p, raw, around);
    let base = base(p, raw, directory);
    let filter = filter(p, raw);
    let shape = shape(p, raw);
    let sink = sink(p, name, raw, around);
    let value = |at: &Option<At<usize>>, default: u64| at.as_ref().map_or(default, |at| at.value as u64);
    let length = |at: &Option<At<Duration>>, default: Duration| at.as_ref().map_or(default, |at| at.value);
    let (retry_min, retry_max) = (
        length(&raw.retry_min, Duration::from_millis(500)),
        length(&raw.retry_max, Duration::from_secs(30)),
    );
    if let (Some(at), true) = (raw.retry_max.as_ref().or(raw.retry_min.as_ref()), retry_max < retry_min) {
        p.error(&at.place, "`retry_max` is below `retry_min`");
    }
    let (filter, filter_encoded) = filter?;
    // Where every entry is told, so is every container that is renamed.
    let audit = if filter.eq_ignore_ascii_case("(objectClass=*)") {
        Duration::ZERO
    } else {
        Duration::from_secs(3600)
    };
    Some(plan::Feed {
        name: name.value.clone(),
        directory: directory?.name.clone(),
        base: base?,
        scope: raw.scope.as_ref().map_or(Scope::Subtree, |at| at.value),
        filter,
        filter_encoded,
        shape: shape?,
        before: raw.before.as_ref().is_some_and(|at| at.value),
        initial: raw.initial.as_ref().is_none_or(|at| at.value),
        heartbeat: length(&raw.heartbeat, Duration::ZERO),
        workers: workers(p, raw.workers.as_ref()),
        partitions: u16::try_from(value(&raw.partitions, 16)).unwrap_or(1),
        max_deletes: MaxDeletes {
            count: raw.max_deletes.as_ref().map(|at| at.value as u64),
            percent: raw
                .max_deletes_percent
                .as_ref()
                .and_then(|at| u8::try_from(at.value).ok()),
        },
        outbox_events_max: value(&raw.outbox_events_max, 1_000_000),
        outbox_bytes_max: value(&raw.outbox_bytes_max, 1 << 30),
        deletes_kept_max: value(&raw.deletes_kept_max, 100_000),
        audit_interval: length(&raw.audit_interval, audit),
        retry_min,
        retry_max,
        dead_letter_after: u32::try_from(value(&raw.dead_letter_after, 3)).unwrap_or(u32::MAX),
        profile: raw.profile.as_ref().map(|at| at.value).unwrap_or_default(),
        mode: mode(p, raw)?,
        sink: sink?,
        state: state(name, raw, around),
    })
}

fn directory<'a>(p: &mut Problems, raw: &Feed, around: &Around<'a>) -> Option<&'a Directory> {
    let Some(named) = &raw.directory else {
        if p.absent(&raw.place, "directory") {
            p.error(&raw.place, "the feed has no `directory`")
                .help("write directory = \"NAME\", the name of a [directory.NAME]");
        }
        return None;
    };
    if !check::named(p, "directory", around.names, named) {
        return None;
    }
    // One that is there and wrong has been told of.
    around.directories.get(&named.value).map(AsRef::as_ref)
}

fn base(p: &mut Problems, raw: &Feed, directory: Option<&Directory>) -> Option<String> {
    if let Some(base) = &raw.base {
        return check_directory::check_dn(p, "base", base).then(|| base.value.clone());
    }
    let of_directory = directory?.base.clone();
    if of_directory.is_none() && p.absent(&raw.place, "base") {
        p.error(&raw.place, "the feed has no `base`, and its directory has none")
            .help("write base = \"dc=example,dc=com\" in one of them");
    }
    of_directory
}

fn filter(p: &mut Problems, raw: &Feed) -> Option<(String, Vec<u8>)> {
    let written = raw.filter.as_ref().map_or(FILTER_DEFAULT, |at| at.value.as_str());
    match filter::parse(written) {
        Ok(encoded) => Some((written.to_owned(), encoded)),
        Err(error) => {
            if let Some(at) = &raw.filter {
                p.error(&at.place, "`filter` is not a filter (RFC 4515)")
                    .label(error.to_string());
            }
            None
        }
    }
}

fn shape(p: &mut Problems, raw: &Feed) -> Option<Shape> {
    let words = |list: &Option<At<Vec<At<String>>>>| -> Vec<String> {
        let all = list.iter().flat_map(|at| &at.value);
        all.map(|at| at.value.clone()).collect()
    };
    let rename: Vec<(String, String)> = raw
        .rename
        .iter()
        .map(|(old, new)| (old.value.clone(), new.value.clone()))
        .collect();
    match Shape::new(&words(&raw.attributes), &rename, &words(&raw.redact)) {
        Ok(shape) => Some(shape),
        Err(why) => {
            let place = raw.rename.first().map_or(&raw.place, |(old, _)| &old.place);
            p.error(place, why);
            None
        }
    }
}

fn sink(p: &mut Problems, name: &At<String>, raw: &Feed, around: &Around<'_>) -> Option<SinkPlan> {
    match (&raw.sink, around.sinks.get(&name.value)) {
        (Some(sink), _) => check_sink::check(p, sink, around.folder),
        (None, Some(made)) => Some(made.clone()),
        (None, None) => {
            if p.absent(&raw.place, "sink") {
                p.error(&raw.place, "the feed has no `sink`")
                    .help("write sink = { type = \"file\", path = \"/var/log/usherd/people.ndjson\" }");
            }
            None
        }
    }
}

fn mode(p: &mut Problems, raw: &Feed) -> Option<FeedMode> {
    match (raw.mode.as_ref().map(|at| at.value), &raw.interval) {
        (Some(Mode::Poll), interval) => Some(FeedMode::Poll(
            interval.as_ref().map_or(Duration::from_secs(300), |at| at.value),
        )),
        (Some(Mode::Persist) | None, Some(interval)) => {
            p.error(&interval.place, "`interval` without mode = \"poll\"")
                .help("add mode = \"poll\", or leave `interval` out: changes are told as they happen");
            None
        }
        (Some(Mode::Persist) | None, None) => Some(FeedMode::Persist),
    }
}

fn state(name: &At<String>, raw: &Feed, around: &Around<'_>) -> PathBuf {
    match &raw.state {
        Some(at) => around.folder.path(&at.value),
        None => {
            let root = around
                .state_dir
                .map_or_else(|| PathBuf::from(STATE_DEFAULT), |at| around.folder.path(&at.value));
            root.join("feed").join(&name.value)
        }
    }
}
