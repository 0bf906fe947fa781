//! The figures of feeds.

use super::Page;
use crate::admin::snapshot::{Feed, Snapshot};

type Figure = (&'static str, &'static str, &'static str, fn(&Feed) -> u64);

const FIGURES: [Figure; 14] = [
    (
        "usherd_feed_ready",
        "gauge",
        "1 while source and every sink are as they should be.",
        |one| u64::from(one.ready),
    ),
    (
        "usherd_feed_leader",
        "gauge",
        "1 while this daemon delivers the feed; 0 while it follows another.",
        |one| u64::from(matches!(one.role.as_str(), "alone" | "leader")),
    ),
    ("usherd_feed_entries", "gauge", "Entries in the kept content.", |one| {
        one.entries
    }),
    (
        "usherd_feed_lag_milliseconds",
        "gauge",
        "From learning of the last delivered change to its acknowledgement.",
        |one| one.lag_ms,
    ),
    (
        "usherd_feed_outbox_events",
        "gauge",
        "Events that wait for their sink.",
        |one| one.outbox_events,
    ),
    ("usherd_feed_outbox_bytes", "gauge", "Their bytes.", |one| {
        one.outbox_bytes
    }),
    (
        "usherd_feed_deletes_kept",
        "gauge",
        "Deletes that a replay can tell again.",
        |one| one.deletes_kept,
    ),
    (
        "usherd_feed_last_seq",
        "gauge",
        "The number of the last event.",
        |one| one.last_seq,
    ),
    (
        "usherd_feed_held_deletes",
        "gauge",
        "Deletes of a refresh that waits for an operator.",
        |one| one.held,
    ),
    (
        "usherd_feed_refreshes_total",
        "counter",
        "Refreshes completed.",
        |one| one.refreshes,
    ),
    (
        "usherd_feed_refreshes_held_total",
        "counter",
        "Refreshes held because they would delete too much.",
        |one| one.refreshes_held,
    ),
    (
        "usherd_feed_sink_failures_total",
        "counter",
        "Failed connections to sinks, and failed deliveries.",
        |one| one.sink_failures,
    ),
    (
        "usherd_feed_dead_letters_total",
        "counter",
        "Events that their sink has refused for good.",
        |one| one.dead_letters,
    ),
    (
        "usherd_feed_store_failures_total",
        "counter",
        "Times that the state could not be written.",
        |one| one.store_failures,
    ),
];

pub(super) fn write(page: &mut Page, s: &Snapshot) {
    for (name, kind, help, value) in FIGURES {
        page.family(name, kind, help);
        for one in &s.feeds {
            page.line(name, &[("feed", &one.name)], value(one));
        }
    }
    page.family(
        "usherd_feed_events_total",
        "counter",
        "Events delivered and acknowledged, by what they say.",
    );
    for one in &s.feeds {
        page.counts(
            "usherd_feed_events_total",
            Some(("feed", &one.name)),
            "op",
            &one.delivered,
        );
    }
    page.family(
        "usherd_feed_shard_acknowledged",
        "gauge",
        "The last number that a shard's sink has.",
    );
    for one in &s.feeds {
        for shard in &one.shards {
            let number = shard.shard.to_string();
            let labels = [("feed", one.name.as_str()), ("shard", &number)];
            page.line("usherd_feed_shard_acknowledged", &labels, shard.acknowledged);
        }
    }
}
