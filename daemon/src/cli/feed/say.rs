//! Commands to a feed of a running daemon.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Replay, Status, Which};
use crate::admin::Snapshot;
use crate::cli::client;

/// Says one word; shows the answer.
pub fn ask(which: &Which, word: &str, more: &Value) -> Result<ExitCode, String> {
    let mut request = json!({ "command": "feed", "verb": word });
    if let (Some(request), Some(more)) = (request.as_object_mut(), more.as_object()) {
        request.extend(more.clone());
        if let Some(name) = &which.name {
            request.insert("name".to_owned(), json!(name));
        }
    }
    let (_, answer) = client::ask(&which.target(), &request)?;
    let answer = answer.get("answer").cloned().unwrap_or(Value::Null);
    let text = match (answer.get("done").and_then(Value::as_str), answer.get("dead")) {
        (Some(done), _) => format!("{done}\n"),
        (None, Some(Value::Array(dead))) if dead.is_empty() => "no dead letters\n".to_owned(),
        (None, Some(Value::Array(dead))) => dead.iter().map(|one| format!("{one}\n")).collect(),
        _ => format!("{answer}\n"),
    };
    crate::cli::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

impl Replay {
    /// Says it.
    pub fn run(&self) -> Result<ExitCode, String> {
        match (self.from, self.dead) {
            (Some(from), _) => ask(&self.which, "replay", &json!({ "from": from })),
            (None, seq) => ask(&self.which, "replay-dead", &json!({ "seq": seq })),
        }
    }
}

/// How feeds stand.
pub fn status(args: &Status) -> Result<ExitCode, String> {
    let (_, answer) = client::ask(&args.which.target(), &json!({ "command": "status" }))?;
    let snapshot: Snapshot = serde_json::from_value(answer).map_err(|error| format!("the answer: {error}"))?;
    let wanted = |name: &str| args.which.name.as_ref().is_none_or(|wanted| wanted == name);
    let feeds: Vec<_> = snapshot.feeds.iter().filter(|feed| wanted(&feed.name)).collect();
    if feeds.is_empty() {
        return Err("this daemon has no such feed".to_owned());
    }
    let mut text = String::new();
    for feed in feeds {
        if args.json {
            let line = serde_json::to_string(feed).map_err(|error| error.to_string())?;
            let _ = writeln!(text, "{line}");
            continue;
        }
        let ready = if feed.ready { "ready" } else { "not ready" };
        let paused = if feed.paused { ", paused" } else { "" };
        let _ = writeln!(
            text,
            "{}: {} ({ready}, {}{paused}), of {} to {}\n  entries {}, last number {}, lag {} ms\n  outbox {} events, {} bytes\n  \
             cookie {}",
            feed.name,
            feed.phase,
            feed.role,
            feed.directory,
            feed.sink,
            feed.entries,
            feed.last_seq,
            feed.lag_ms,
            feed.outbox_events,
            feed.outbox_bytes,
            if feed.cookie.is_empty() { "none" } else { &feed.cookie },
        );
        if feed.held > 0 {
            let _ = writeln!(
                text,
                "  held: a refresh would delete {} entries; `usherd feed confirm` or `usherd feed reject`",
                feed.held
            );
        }
        if feed.dead_letters > 0 {
            let _ = writeln!(
                text,
                "  dead letters {}; `usherd feed dead` shows them",
                feed.dead_letters
            );
        }
        if !feed.last_error.is_empty() {
            let _ = writeln!(text, "  {}", feed.last_error);
        }
        for shard in &feed.shards {
            let why = if shard.last_error.is_empty() {
                String::new()
            } else {
                format!(": {}", shard.last_error)
            };
            let _ = writeln!(
                text,
                "  shard {} {}, acknowledged {}{why}",
                shard.shard, shard.state, shard.acknowledged
            );
        }
    }
    crate::cli::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
