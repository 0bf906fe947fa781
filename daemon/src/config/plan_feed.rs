//! `[feed.NAME]`, as it is run.

use std::path::PathBuf;
use std::time::Duration;

use engine::feed::settings::{MaxDeletes, Profile};
use engine::feed::shape::Shape;
use wire::ldap::grammar::Scope;

use crate::feed::sink::SinkPlan;

/// A subscription to a directory's changes, and where they go.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Its name in the file, in events and in its state folder.
    pub name: String,
    /// Key into `Plan::directories`.
    pub directory: String,
    /// Below which entry.
    pub base: String,
    /// How far below.
    pub scope: Scope,
    /// Which entries, as written.
    pub filter: String,
    /// The same, as the server gets it.
    pub filter_encoded: Vec<u8>,
    /// Which attributes, and what becomes of them.
    pub shape: Shape,
    /// Whether events carry old values.
    pub before: bool,
    /// Whether the first content is told entry by entry.
    pub initial: bool,
    /// A sign of life after so long without an event; zero: none.
    pub heartbeat: Duration,
    /// Shards that deliver at once, resolved as `Server::workers` is.
    pub workers: usize,
    /// Into how many shards entries are divided, for good.
    pub partitions: u16,
    /// The guard against a refresh that deletes too much.
    pub max_deletes: MaxDeletes,
    /// Events that may wait, beyond which the session is closed, 1,000,000.
    pub outbox_events_max: u64,
    /// Their bytes, 1 GiB.
    pub outbox_bytes_max: u64,
    /// Deletes that a replay can tell again, 100,000.
    pub deletes_kept_max: u64,
    /// Between attempts at the directory or a sink: first wait, 0.5 s,
    pub retry_min: Duration,
    /// and longest, 30 s.
    pub retry_max: Duration,
    /// After so many refusals an event becomes a dead letter, 3; 0: never.
    pub dead_letter_after: u32,
    /// How the provider is taken.
    pub profile: Profile,
    /// How changes are learnt of.
    pub mode: FeedMode,
    /// Where events go.
    pub sink: SinkPlan,
    /// The folder of its state.
    pub state: PathBuf,
}

/// How changes are learnt of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedMode {
    /// As they happen.
    Persist,
    /// By asking, each time after so long.
    Poll(Duration),
}

impl PartialEq for Feed {
    fn eq(&self, other: &Feed) -> bool {
        // A shape is what it describes.
        let settings = |feed: &Feed| {
            (
                (feed.name.clone(), feed.directory.clone(), feed.base.clone()),
                (
                    feed.scope,
                    feed.filter.clone(),
                    feed.shape.describe(),
                    feed.before,
                    feed.initial,
                ),
                (
                    feed.heartbeat,
                    feed.workers,
                    feed.partitions,
                    feed.max_deletes,
                    feed.deletes_kept_max,
                ),
                (
                    feed.outbox_events_max,
                    feed.outbox_bytes_max,
                    feed.retry_min,
                    feed.retry_max,
                ),
                (feed.dead_letter_after, feed.profile, feed.mode, feed.state.clone()),
            )
        };
        settings(self) == settings(other) && self.sink == other.sink
    }
}
