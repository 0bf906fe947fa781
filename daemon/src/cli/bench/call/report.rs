//! What a run found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::super::report::ProcessReport;
use super::CallArgs;
use super::tally::Tally;

/// The whole result of a run; its fields, in JSON, are the machine-readable form. Times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    service: String,
    connections: u32,
    depth: Option<u32>,
    rate_intended: Option<u32>,
    poisson: bool,
    seconds: f64,
    sent: u64,
    answered: u64,
    answered_before: u64,
    answered_per_second: f64,
    mean_ms: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    errors: BTreeMap<&'static str, u64>,
    wrong: u64,
    unasked: u64,
    lost: u64,
    not_sent: u64,
    processes: Vec<ProcessReport>,
    own: Option<ProcessReport>,
}

impl Report {
    pub(super) fn new(args: &CallArgs, tally: &Tally, processes: Vec<ProcessReport>) -> Report {
        let answered = tally.latency.len();
        let seconds = args.duration.as_secs_f64();
        let at = |per_mille| tally.latency.quantile(per_mille).as_secs_f64() * 1000.0;
        let mut processes = processes.into_iter().map(|process| process.per(answered));
        #[allow(clippy::cast_precision_loss)]
        let (answered_float, sum_ns) = (answered as f64, tally.latency_sum_ns as f64);
        Report {
            service: args.service.clone(),
            connections: args.connections,
            depth: args.depth,
            rate_intended: args.rate,
            poisson: args.poisson,
            seconds,
            sent: tally.sent,
            answered,
            answered_before: tally.answered_before,
            answered_per_second: answered_float / seconds.max(f64::MIN_POSITIVE),
            mean_ms: sum_ns / 1e6 / answered_float.max(1.0),
            p50_ms: at(500),
            p90_ms: at(900),
            p99_ms: at(990),
            p999_ms: at(999),
            max_ms: tally.latency.max().as_secs_f64() * 1000.0,
            errors: tally.errors.clone(),
            wrong: tally.wrong,
            unasked: tally.unasked,
            lost: tally.lost,
            not_sent: tally.not_sent,
            own: processes.next(),
            processes: processes.collect(),
        }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let _ = self.write_text(&mut text);
        text.truncate(text.trim_end().len());
        text
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let pace = match (self.rate_intended, self.poisson) {
            (None, _) => format!("closed loop, {} pending on each", self.depth.unwrap_or(1)),
            (Some(rate), false) => format!("{rate} calls/s intended"),
            (Some(rate), true) => format!("{rate} calls/s intended, at random"),
        };
        writeln!(
            out,
            "{}: {} connection(s), {pace}, {:.1} s measured\n",
            self.service, self.connections, self.seconds
        )?;
        writeln!(
            out,
            "  rate         {:.0} answers/s ({} of {} calls)",
            self.answered_per_second, self.answered, self.sent
        )?;
        writeln!(
            out,
            "  latency      mean {:.3} ms, p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
            self.mean_ms, self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms
        )?;
        let errors: Vec<String> = self
            .errors
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        let errors = if errors.is_empty() {
            "no errors".to_owned()
        } else {
            errors.join(", ")
        };
        writeln!(
            out,
            "  answers      {} wrong, {} unasked, {} lost, {errors}",
            self.wrong, self.unasked, self.lost
        )?;
        if self.rate_intended.is_some() {
            writeln!(out, "  not sent     {} that were due", self.not_sent)?;
        }
        for process in &self.processes {
            process.write_line(out, &format!("pid {}", process.pid()))?;
        }
        match &self.own {
            Some(own) => own.write_line(out, "this program"),
            None => Ok(()),
        }
    }
}
