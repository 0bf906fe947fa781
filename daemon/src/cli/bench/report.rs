//! What a run found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use wire::ldap::result;

use super::LdapArgs;
use super::plan::Plan;
use super::process::Usage;
use super::run::Window;
use super::tally::Tally;

/// One process over the measured window.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ProcessReport {
    pid: u32,
    cpu_seconds: f64,
    cpu_seconds_per_1000: Option<f64>,
    context_switches_voluntary: u64,
    context_switches_involuntary: u64,
    rss_mib: f64,
}

impl ProcessReport {
    /// From the counters at both ends.
    pub(super) fn new(pid: u32, before: &Usage, after: &Usage) -> Self {
        ProcessReport {
            pid,
            cpu_seconds: after.cpu.saturating_sub(before.cpu).as_secs_f64(),
            cpu_seconds_per_1000: None,
            context_switches_voluntary: after.switches_voluntary.saturating_sub(before.switches_voluntary),
            context_switches_involuntary: after.switches_involuntary.saturating_sub(before.switches_involuntary),
            rss_mib: float(after.rss_kib) / 1024.0,
        }
    }

    /// With CPU time per 1,000 of so many operations.
    pub(super) fn per(mut self, operations: u64) -> Self {
        self.cpu_seconds_per_1000 = (operations > 0).then(|| self.cpu_seconds * 1000.0 / float(operations));
        self
    }

    /// One line for people, under this name.
    pub(super) fn write_line(&self, out: &mut String, name: &str) -> std::fmt::Result {
        write!(out, "  {name:<12} ")?;
        match self.cpu_seconds_per_1000 {
            Some(per) => write!(
                out,
                "{per:.4} CPU-s per 1,000 operations ({:.2} CPU-s)",
                self.cpu_seconds
            )?,
            None => write!(out, "{:.2} CPU-s", self.cpu_seconds)?,
        }
        writeln!(
            out,
            ", {} + {} context switches (voluntary + not), {:.1} MiB resident",
            self.context_switches_voluntary, self.context_switches_involuntary, self.rss_mib
        )
    }

    /// Which process.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }
}

#[derive(Debug, Serialize)]
struct Latency {
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

/// The whole result of a run; its fields, in JSON, are the machine-readable form.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    mode: &'static str,
    url: String,
    connections: u32,
    depth: u32,
    threads: u32,
    rate_intended: Option<u64>,
    seed: u64,
    interrupted: bool,
    seconds: f64,
    operations: u64,
    operations_per_second: f64,
    latency: Latency,
    results: BTreeMap<&'static str, u64>,
    unfulfilled: u64,
    entry_missing: u64,
    misdelivered: u64,
    duplicate: u64,
    late: u64,
    unanswered: u64,
    abandoned: u64,
    after_abandon: u64,
    not_sent: u64,
    notices: BTreeMap<&'static str, u64>,
    connections_ready: u64,
    connections_lost: BTreeMap<&'static str, u64>,
    operations_lost: u64,
    connections_refused: BTreeMap<&'static str, u64>,
    handshakes_full: u64,
    handshakes_resumed: u64,
    processes: Vec<ProcessReport>,
    own: ProcessReport,
}

impl Report {
    /// Puts together what was asked and what was found.
    pub(super) fn new(args: &LdapArgs, plan: &Plan, tally: &Tally, window: &Window) -> Self {
        let operations = tally.latency.len();
        let seconds = window.elapsed.as_secs_f64();
        let at = |per_mille| millis(tally.latency.quantile(per_mille));
        Report {
            mode: args.mode.name(),
            url: plan.url.clone(),
            connections: plan.connections,
            depth: plan.depth,
            threads: plan.threads,
            rate_intended: plan.rate,
            seed: plan.seed,
            interrupted: window.interrupted,
            seconds,
            operations,
            operations_per_second: if seconds > 0.0 {
                float(operations) / seconds
            } else {
                0.0
            },
            latency: Latency {
                p50_ms: at(500),
                p99_ms: at(990),
                p999_ms: at(999),
                max_ms: millis(tally.latency.max()),
            },
            results: named(&tally.codes),
            unfulfilled: tally.unfulfilled,
            entry_missing: tally.entry_missing,
            misdelivered: tally.misdelivered,
            duplicate: tally.duplicate,
            late: tally.late,
            unanswered: tally.unanswered,
            abandoned: tally.abandoned,
            after_abandon: tally.after_abandon,
            not_sent: tally.not_sent,
            notices: named(&tally.notices),
            connections_ready: window.ready,
            connections_lost: tally.lost.clone(),
            operations_lost: tally.lost_operations,
            connections_refused: tally.refused.clone(),
            handshakes_full: tally.handshakes_full,
            handshakes_resumed: tally.handshakes_resumed,
            processes: window
                .processes
                .iter()
                .map(|process| process.clone().per(operations))
                .collect(),
            own: window.own.clone().per(operations),
        }
    }

    /// One JSON object.
    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Some lines.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let _ = self.write_text(&mut text);
        text.truncate(text.trim_end().len());
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let pace = self
            .rate_intended
            .map_or("closed loop".to_owned(), |rate| format!("{rate} op/s intended"));
        let cut = if self.interrupted { ", interrupted" } else { "" };
        writeln!(
            out,
            "{} at {}: {} connections, depth {}, {} thread(s), {pace}, {:.1} s measured (seed {}){cut}\n",
            self.mode, self.url, self.connections, self.depth, self.threads, self.seconds, self.seed
        )?;
        if self.mode != "idle" {
            self.write_operations(out)?;
        }
        let lost: u64 = self.connections_lost.values().sum();
        let refused: u64 = self.connections_refused.values().sum();
        write!(
            out,
            "  connections  {} ready, {lost} lost{}",
            self.connections_ready,
            listed(&self.connections_lost)
        )?;
        writeln!(
            out,
            " with {} operations, {refused} not made{}",
            self.operations_lost,
            listed(&self.connections_refused)
        )?;
        if self.handshakes_full + self.handshakes_resumed > 0 {
            writeln!(
                out,
                "  handshakes   {} whole, {} resumed",
                self.handshakes_full, self.handshakes_resumed
            )?;
        }
        if !self.notices.is_empty() {
            let notices = listed(&self.notices);
            writeln!(out, "  notices      {}", notices.trim_matches([' ', '(', ')']))?;
        }
        for (name, process) in self
            .processes
            .iter()
            .map(|process| (format!("pid {}", process.pid), process))
            .chain([("this program".to_owned(), &self.own)])
        {
            process.write_line(out, &name)?;
        }
        Ok(())
    }

    fn write_operations(&self, out: &mut String) -> std::fmt::Result {
        let latency = &self.latency;
        writeln!(
            out,
            "  rate         {:.0} op/s ({} operations)",
            self.operations_per_second, self.operations
        )?;
        writeln!(
            out,
            "  latency      p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
            latency.p50_ms, latency.p99_ms, latency.p999_ms, latency.max_ms
        )?;
        let results = listed(&self.results);
        writeln!(out, "  results      {}", results.trim_matches([' ', '(', ')']))?;
        writeln!(
            out,
            "  answers      {} misdelivered, {} duplicate, {} late, {} unanswered, {} without the entry",
            self.misdelivered, self.duplicate, self.late, self.unanswered, self.entry_missing
        )?;
        if self.abandoned > 0 {
            writeln!(
                out,
                "  abandoned    {} ({} messages for them under way)",
                self.abandoned, self.after_abandon
            )?;
        }
        if self.rate_intended.is_some() {
            writeln!(out, "  not sent     {} that were due", self.not_sent)?;
        }
        Ok(())
    }
}

/// ` (name 12, other 3)`, the most frequent first; nothing for nothing.
fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!(" ({})", parts.join(", "))
    }
}

fn named(codes: &BTreeMap<u32, u64>) -> BTreeMap<&'static str, u64> {
    let mut named = BTreeMap::new();
    for (code, count) in codes {
        *named.entry(result::name(*code)).or_default() += count;
    }
    named
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Counts are far below 2^53, where this begins to lose digits.
#[allow(clippy::cast_precision_loss)]
fn float(count: u64) -> f64 {
    count as f64
}
