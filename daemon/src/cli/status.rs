//! `usherd status`: the daemon's figures as tables, or as JSON.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::client;
use crate::admin::Snapshot;
use crate::admin::snapshot::{Count, Seconds, Service};

/// The flags.
#[derive(Args, Debug)]
pub struct Status {
    /// Print the daemon's answer as JSON, one object on one line
    #[arg(long)]
    pub json: bool,
    /// The daemon.
    #[command(flatten)]
    pub target: client::Target,
}

/// Asks and prints.
pub(super) fn run(args: &Status) -> Result<ExitCode, String> {
    let (line, answer) = client::ask(&args.target, &json!({ "command": "status" }))?;
    if args.json {
        super::print(line.as_bytes())?;
    } else {
        let snapshot = serde_json::from_value(answer).map_err(|error| format!("the daemon's answer: {error}"))?;
        super::print(text(&snapshot).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The tables.
fn text(s: &Snapshot) -> String {
    let mut text = format!(
        "usherd {}, pid {}, up {}, {}: {} workers, {} clients, {} operations\n",
        s.version,
        s.pid,
        span(s.uptime_s),
        s.lifecycle,
        s.workers,
        s.clients,
        s.operations
    );
    if s.workers_silent > 0 {
        text.push_str(&format!(
            "{} workers do not answer; their figures are missing below\n",
            s.workers_silent
        ));
    }
    let listeners = s.listeners.iter().map(|one| {
        [
            one.address.clone(),
            one.protocol.clone(),
            one.directory.clone(),
            one.state.clone(),
            one.clients.to_string(),
        ]
    });
    table(
        &mut text,
        ["LISTENER", "PROTOCOL", "DIRECTORY", "STATE", "CLIENTS>"],
        listeners,
    );
    limits(&mut text, s);
    for directory in &s.directories {
        let summary = format!("{} waiting", directory.queue);
        text.push_str(&format!(
            "\ndirectory {}, {}, {summary}\n",
            directory.name, directory.identity
        ));
        let servers = directory.servers.iter().map(|one| {
            [
                format!("  {}", one.name),
                one.tier.to_string(),
                if one.score == "degraded" && one.state == "up" {
                    "up, degraded".to_owned()
                } else {
                    one.state.clone()
                },
                format!("{}+{}", one.connections, one.bind_connections),
                one.pending.to_string(),
                one.operations.to_string(),
                one.failures.to_string(),
                milliseconds(one.latency_us),
                one.weight.to_string(),
            ]
        });
        let heads = [
            "  SERVER",
            "TIER>",
            "STATE",
            "CONNECTIONS>",
            "PENDING>",
            "OPERATIONS>",
            "FAILURES>",
            "LATENCY>",
            "WEIGHT>",
        ];
        table_tight(&mut text, heads, servers);
        for one in directory.servers.iter().filter(|one| !one.check_error.is_empty()) {
            text.push_str(&format!("  {}: the last check failed: {}\n", one.name, one.check_error));
        }
    }
    services(&mut text, s);
    radius(&mut text, s);
    text
}

/// Of limits only those that were reached.
fn limits(text: &mut String, s: &Snapshot) {
    for one in &s.limits {
        let connections: u64 = one.refused_connections.iter().map(|count| count.count).sum();
        let searches = one.searches_too_large + one.searches_too_long;
        if connections + one.delayed + one.refused + searches > 0 {
            text.push_str(&format!(
                "  limits of {}: {connections} connections refused, {} operations held back, {} answered busy, \
                 {} searches too large, {} too long\n",
                one.listener, one.delayed, one.refused, one.searches_too_large, one.searches_too_long
            ));
        }
    }
}

fn radius(text: &mut String, s: &Snapshot) {
    for one in &s.radius {
        let accepts: u64 = one.methods.iter().map(|method| method.accepts).sum();
        let rejects: u64 = one.methods.iter().map(|method| method.rejects).sum();
        let mut line = format!(
            "\nradius {}: {} requests, {} waiting; {accepts} accepts, {rejects} rejects",
            one.address, one.begun, one.waiting
        );
        for (count, what) in [
            (one.recorded, "recorded"),
            (one.statuses, "statuses"),
            (one.resent, "sent again"),
            (one.kernel_drops, "dropped by the kernel"),
        ] {
            if count > 0 {
                line.push_str(&format!(", {count} {what}"));
            }
        }
        let mut dropped = one.dropped.iter().filter(|one| one.count > 0).peekable();
        if dropped.peek().is_some() {
            let list: Vec<String> = dropped.map(|one| format!("{} {}", one.count, one.label)).collect();
            line.push_str(&format!("; dropped: {}", list.join(", ")));
        }
        if one.service_time_us > 0 {
            line.push_str(&format!("; an answer takes {}", milliseconds(one.service_time_us)));
        }
        text.push_str(&line);
        text.push('\n');
        if let Some(records) = &one.records {
            let wrong = match records.last_error.as_str() {
                "" => String::new(),
                error => format!(": {error}"),
            };
            text.push_str(&format!(
                "  accounting: {} written, {} waiting, {} in the spool{wrong}\n",
                records.written + records.replayed,
                records.queue,
                records.spool_records
            ));
        }
        let backends = one.backends.iter().map(|one| {
            [
                format!("  {}", one.name),
                one.yes.to_string(),
                one.no.to_string(),
                one.not_found.to_string(),
                one.unavailable.to_string(),
                one.pending.to_string(),
                milliseconds(one.service_time_us),
            ]
        });
        let heads = [
            "  ASKED",
            "YES>",
            "NO>",
            "UNKNOWN>",
            "UNAVAILABLE>",
            "PENDING>",
            "LATENCY>",
        ];
        table_tight(text, heads, backends);
    }
}

fn services(text: &mut String, s: &Snapshot) {
    let lines = s.services.iter().map(|one| {
        [
            one.name.clone(),
            format!("{}/{}", one.running, one.max),
            one.idle.to_string(),
            one.busy.to_string(),
            one.queued.to_string(),
            one.calls.to_string(),
            one.failed.to_string(),
            one.starts.to_string(),
            milliseconds(mean_us(&one.queue_wait)),
            milliseconds(mean_us(&one.service_time)),
        ]
    });
    let heads = [
        "SERVICE", "RUNNING>", "IDLE>", "BUSY>", "WAITING>", "CALLS>", "FAILED>", "STARTS>", "WAIT>", "TIME>",
    ];
    table(text, heads, lines);
    for one in &s.services {
        let facts = facts(one);
        if !facts.is_empty() {
            text.push_str(&format!("  {}: {}\n", one.name, facts.join("; ")));
        }
        if !one.last_error.is_empty() {
            text.push_str(&format!("  {}: {}\n", one.name, one.last_error));
        }
    }
    let helpers = s.services.iter().flat_map(|service| {
        service.helpers.iter().map(|one| {
            [
                service.name.clone(),
                one.pid.to_string(),
                one.state.clone(),
                span(one.age_ms / 1000),
                one.requests.to_string(),
                format!("{:.1} MiB", mebibytes(one.memory)),
                match one.call {
                    0 => String::new(),
                    call => format!("{call} for {} ms, {}", one.call_ms, one.caller),
                },
            ]
        })
    });
    table(
        text,
        ["HELPER OF", "PID>", "STATE", "AGE>", "CALLS>", "MEMORY>", "CALL"],
        helpers,
    );
}

/// What is worth a word of a service only where it has happened.
fn facts(one: &Service) -> Vec<String> {
    let of = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let list = |what: &str, counts: &[Count]| {
        let some: Vec<String> = counts.iter().filter_map(|one| of(one.count, &one.label)).collect();
        (!some.is_empty()).then(|| format!("{what}: {}", some.join(", ")))
    };
    let oldest = || {
        format!(
            "the oldest of {} waits {} ms, room for {}",
            one.queued, one.oldest_ms, one.queue_max
        )
    };
    [
        of(one.starting, "starting"),
        of(one.stopping, "stopping"),
        (one.queued > 0).then(oldest),
        of(one.max_reached, "times at the maximum"),
        list("refused", &one.refusals),
        of(one.interrupted, "interrupted"),
        of(one.killed, "killed"),
        list("exits", &one.exits),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn mean_us(seconds: &Seconds) -> u64 {
    seconds.sum_us / seconds.buckets.iter().sum::<u64>().max(1)
}

fn mebibytes(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a size for people")]
    let kibibytes = (bytes / 1024) as f64;
    kibibytes / 1024.0
}

/// A table with an empty line before it; nothing at all without rows.
fn table<const N: usize>(text: &mut String, heads: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let mut body = String::new();
    table_tight(&mut body, heads, rows);
    if !body.is_empty() {
        text.push('\n');
        text.push_str(&body);
    }
}

/// Columns as wide as their widest cell; a head that ends with `>` aligns its column to the right.
fn table_tight<const N: usize>(text: &mut String, heads: [&str; N], rows: impl Iterator<Item = [String; N]>) {
    let rows: Vec<[String; N]> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let right = heads.map(|head| head.ends_with('>'));
    let heads = heads.map(|head| head.trim_end_matches('>').to_owned());
    let mut widths = [0; N];
    for row in std::iter::once(&heads).chain(&rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in std::iter::once(&heads).chain(&rows) {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(right) {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if right {
                (padding.as_str(), "")
            } else {
                ("", padding.as_str())
            };
            line.push_str(&format!("{before}{cell}{after}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn milliseconds(us: u64) -> String {
    if us == 0 {
        "-".into()
    } else {
        format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
    }
}

fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::snapshot::{Directory, Helper, Listener, Server};

    fn snapshot() -> Snapshot {
        let count = |label: &str, count| Count {
            label: label.into(),
            count,
        };
        let server = |name: &str, operations| Server {
            name: name.into(),
            tier: 1,
            state: "up".into(),
            connections: 4,
            operations,
            latency_us: 1234,
            weight: 1,
            ..Server::default()
        };
        Snapshot {
            version: "0.1.0".into(),
            pid: 4711,
            uptime_s: 3700,
            lifecycle: "ready".into(),
            workers: 2,
            clients: 12,
            operations: 1_000_000,
            listeners: vec![Listener {
                address: "[::]:389".into(),
                protocol: "ldap".into(),
                directory: "corp".into(),
                clients: 12,
                state: "ready".into(),
            }],
            directories: vec![Directory {
                name: "corp".into(),
                identity: "proxied".into(),
                servers: vec![server("ldap://one", 999_999), server("ldap://number-two", 1)],
                ..Directory::default()
            }],
            services: vec![Service {
                name: "upper".into(),
                running: 1,
                busy: 1,
                max: 4,
                starting: 1,
                queued: 3,
                queue_max: 100,
                oldest_ms: 250,
                max_reached: 2,
                refusals: vec![count("queue-full", 7), count("queue-timeout", 0)],
                exits: vec![count("idle", 1), count("crash", 2)],
                interrupted: 5,
                killed: 4,
                helpers: vec![Helper {
                    pid: 4712,
                    state: "busy".into(),
                    age_ms: 65_000,
                    requests: 10,
                    memory: 3 << 19,
                    call: 7,
                    call_ms: 2000,
                    caller: "pid 1, uid 0".into(),
                    ..Helper::default()
                }],
                ..Service::default()
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn the_tables_are_aligned() {
        let expected = "\
usherd 0.1.0, pid 4711, up 1 h 1 min, ready: 2 workers, 12 clients, 1000000 operations

LISTENER  PROTOCOL  DIRECTORY  STATE  CLIENTS
[::]:389  ldap      corp       ready       12

directory corp, proxied, 0 waiting
  SERVER             TIER  STATE  CONNECTIONS  PENDING  OPERATIONS  FAILURES  LATENCY  WEIGHT
  ldap://one            1  up             4+0        0      999999         0  1.23 ms       1
  ldap://number-two     1  up             4+0        0           1         0  1.23 ms       1

SERVICE  RUNNING  IDLE  BUSY  WAITING  CALLS  FAILED  STARTS  WAIT  TIME
upper        1/4     0     1        3      0       0       0     -     -
  upper: 1 starting; the oldest of 3 waits 250 ms, room for 100; 2 times at the maximum; refused: 7 queue-full; 5 interrupted; \
4 killed; exits: 1 idle, 2 crash

HELPER OF   PID  STATE        AGE  CALLS   MEMORY  CALL
upper      4712  busy   1 min 5 s     10  1.5 MiB  7 for 2000 ms, pid 1, uid 0
";
        assert_eq!(text(&snapshot()), expected);
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([span(5), span(65), span(90_061)], ["5 s", "1 min 5 s", "1 d 1 h"]);
    }
}
