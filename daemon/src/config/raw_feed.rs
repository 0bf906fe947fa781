//! What a person wrote about a feed: `[feed.NAME]`, or the flags of `usherd feed run`.

use std::time::Duration;

use engine::feed::settings::Profile;
use wire::ldap::grammar::Scope;

use super::diagnostic::{At, Place, Problems};
use super::keys::Kind;
use super::raw_sink::{self, Sink};
use super::reader::Section;
use super::values::DURATION_MAX;

/// How changes are learnt of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `persist`.
    Persist,
    /// `poll`.
    Poll,
}

/// The words of `scope`.
pub const SCOPES: [(&str, Scope); 4] = [
    ("sub", Scope::Subtree),
    ("one", Scope::One),
    ("base", Scope::Base),
    ("children", Scope::Subordinate),
];
const MODES: [(&str, Mode); 2] = [("persist", Mode::Persist), ("poll", Mode::Poll)];
/// The words of `profile`.
pub const PROFILES: [(&str, Profile); 2] = [("openldap", Profile::Standard), ("389ds", Profile::Ds389)];

/// `[feed.NAME]`.
#[derive(Debug)]
pub struct Feed {
    /// The section.
    pub place: Place,
    /// `directory`.
    pub directory: Option<At<String>>,
    /// `base`.
    pub base: Option<At<String>>,
    /// `scope`.
    pub scope: Option<At<Scope>>,
    /// `filter`.
    pub filter: Option<At<String>>,
    /// `attributes`.
    pub attributes: Option<At<Vec<At<String>>>>,
    /// `rename`.
    pub rename: Vec<(At<String>, At<String>)>,
    /// `redact`.
    pub redact: Option<At<Vec<At<String>>>>,
    /// `before`.
    pub before: Option<At<bool>>,
    /// `initial`.
    pub initial: Option<At<bool>>,
    /// `heartbeat`.
    pub heartbeat: Option<At<Duration>>,
    /// `workers`.
    pub workers: Option<At<i64>>,
    /// `partitions`.
    pub partitions: Option<At<usize>>,
    /// `max_deletes`.
    pub max_deletes: Option<At<usize>>,
    /// `max_deletes_percent`.
    pub max_deletes_percent: Option<At<usize>>,
    /// `outbox_events_max`.
    pub outbox_events_max: Option<At<usize>>,
    /// `outbox_bytes_max`.
    pub outbox_bytes_max: Option<At<usize>>,
    /// `deletes_kept_max`.
    pub deletes_kept_max: Option<At<usize>>,
    /// `retry_min`.
    pub retry_min: Option<At<Duration>>,
    /// `retry_max`.
    pub retry_max: Option<At<Duration>>,
    /// `dead_letter_after`.
    pub dead_letter_after: Option<At<usize>>,
    /// `profile`.
    pub profile: Option<At<Profile>>,
    /// `mode`.
    pub mode: Option<At<Mode>>,
    /// `interval`.
    pub interval: Option<At<Duration>>,
    /// `state`.
    pub state: Option<At<String>>,
    /// `sink`.
    pub sink: Option<Sink>,
}

const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);
const EVENTS_MAX: usize = 1_000_000_000;
const TIB: usize = 1 << 40;
/// As many as anybody can have use of; each is a part of the state, and a task.
const PARTITIONS_MAX: usize = 1024;

/// Reads the section.
pub fn read(p: &mut Problems, mut section: Section<'_>) -> Feed {
    let sink = section.section(p, "sink", Kind::Sink);
    let feed = Feed {
        place: section.place.clone(),
        directory: section.string(p, "directory"),
        base: section.string(p, "base"),
        scope: section.choice(p, "scope", &SCOPES, &[]),
        filter: section.string(p, "filter"),
        attributes: section.strings(p, "attributes"),
        rename: section.string_table(p, "rename").unwrap_or_default(),
        redact: section.strings(p, "redact"),
        before: section.boolean(p, "before"),
        initial: section.boolean(p, "initial"),
        heartbeat: section.duration(p, "heartbeat", Duration::ZERO, DURATION_MAX),
        workers: section.integer(p, "workers", -1024, 1024),
        partitions: section.count(p, "partitions", 1, PARTITIONS_MAX),
        max_deletes: section.count(p, "max_deletes", 0, EVENTS_MAX),
        max_deletes_percent: section.count(p, "max_deletes_percent", 0, 100),
        outbox_events_max: section.count(p, "outbox_events_max", 1000, EVENTS_MAX),
        outbox_bytes_max: section.size(p, "outbox_bytes_max", 1 << 20, TIB),
        deletes_kept_max: section.count(p, "deletes_kept_max", 0, EVENTS_MAX),
        retry_min: section.duration(p, "retry_min", 10 * MILLISECOND, HOUR),
        retry_max: section.duration(p, "retry_max", 10 * MILLISECOND, HOUR),
        dead_letter_after: section.count(p, "dead_letter_after", 0, 1_000_000),
        profile: section.choice(p, "profile", &PROFILES, &[]),
        mode: section.choice(p, "mode", &MODES, &[]),
        interval: section.duration(p, "interval", Duration::from_secs(1), DURATION_MAX),
        state: section.string(p, "state"),
        sink: sink.map(|section| raw_sink::read(p, section)),
    };
    section.finish(p);
    feed
}

impl Feed {
    /// A feed of which nothing is written but where.
    pub fn nothing(place: Place) -> Feed {
        Feed {
            place,
            directory: None,
            base: None,
            scope: None,
            filter: None,
            attributes: None,
            rename: Vec::new(),
            redact: None,
            before: None,
            initial: None,
            heartbeat: None,
            workers: None,
            partitions: None,
            max_deletes: None,
            max_deletes_percent: None,
            outbox_events_max: None,
            outbox_bytes_max: None,
            deletes_kept_max: None,
            retry_min: None,
            retry_max: None,
            dead_letter_after: None,
            profile: None,
            mode: None,
            interval: None,
            state: None,
            sink: None,
        }
    }
}
