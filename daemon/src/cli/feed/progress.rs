//! How a feed comes along, on standard error, for a person who waits.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::admin::snapshot::Feed;
use crate::feed::Line;

/// Between two lines on a terminal, and elsewhere.
const EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Tells until the process ends; silent while nothing changes.
pub fn watch(lines: Vec<Line>) {
    let every = if std::io::stderr().is_terminal() {
        EVERY.0
    } else {
        EVERY.1
    };
    // It has nothing to end for: the process takes it along.
    let _ = std::thread::Builder::new().name("progress".into()).spawn(move || {
        let mut before: Vec<(Instant, Feed)> = lines.iter().map(|line| (Instant::now(), line.snapshot())).collect();
        loop {
            std::thread::sleep(every);
            for (line, (at, old)) in lines.iter().zip(&mut before) {
                let new = line.snapshot();
                if let Some(text) = text(old, &new, at.elapsed()) {
                    crate::cli::say(&text);
                }
                (*at, *old) = (Instant::now(), new);
            }
        }
    });
}

/// What there is to say; none where it was said.
fn text(old: &Feed, new: &Feed, passed: Duration) -> Option<String> {
    let same = (
        &old.phase,
        old.last_seq,
        old.entries,
        old.outbox_events,
        &old.last_error,
    ) == (
        &new.phase,
        new.last_seq,
        new.entries,
        new.outbox_events,
        &new.last_error,
    );
    if same && old.refresh_entries == new.refresh_entries {
        return None;
    }
    let mut text = format!("{}: {}", new.name, new.phase);
    if new.phase == "refresh" {
        let _ = write!(text, ", {} entries", new.refresh_entries);
        if new.complete && new.entries > 0 {
            let percent = (new.refresh_entries * 100 / new.entries).min(100);
            let _ = write!(text, " ({percent} %)");
        }
        let gained = new.refresh_entries.saturating_sub(old.refresh_entries);
        let rate = u128::from(gained) * 1000 / passed.as_millis().max(1);
        let _ = write!(text, ", {rate}/s");
    } else {
        let _ = write!(text, ", {} entries, event {}", new.entries, new.last_seq);
    }
    if new.outbox_events > 0 {
        let _ = write!(text, ", {} events wait", new.outbox_events);
    }
    if !new.last_error.is_empty() {
        let _ = write!(text, ": {}", new.last_error);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_is_told_in_entries_rate_and_per_cent_once_there_is_something_to_compare_with() {
        let old = Feed {
            name: "people".into(),
            phase: "refresh".into(),
            ..Feed::default()
        };
        let mut new = Feed {
            refresh_entries: 500,
            ..old.clone()
        };
        let said = |new: &Feed| text(&old, new, Duration::from_secs(2));
        assert_eq!(said(&new).as_deref(), Some("people: refresh, 500 entries, 250/s"));
        (new.complete, new.entries) = (true, 2000);
        assert_eq!(
            said(&new).as_deref(),
            Some("people: refresh, 500 entries (25 %), 250/s")
        );
        assert_eq!(said(&old), None, "nothing has changed");
    }
}
