//! What a run found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::super::report::ProcessReport;
use super::tally::Tally;
use super::{Plan, RadiusArgs};

/// The whole result of a run; its fields, in JSON, are the machine-readable form. Times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    to: String,
    kind: &'static str,
    in_flight: usize,
    sockets: u16,
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
    lost: u64,
    late: u64,
    duplicate: u64,
    mismatched: u64,
    wrong: u64,
    unprotected: u64,
    not_sent: u64,
    refused: u64,
    processes: Vec<ProcessReport>,
    own: Option<ProcessReport>,
}

impl Report {
    pub(super) fn new(args: &RadiusArgs, plan: &Plan, tally: &Tally, processes: Vec<ProcessReport>) -> Report {
        let answered = tally.latency.len();
        let seconds = args.duration.as_secs_f64();
        let at = |per_mille| tally.latency.quantile(per_mille).as_secs_f64() * 1000.0;
        let mut processes = processes.into_iter().map(|process| process.per(answered));
        #[allow(clippy::cast_precision_loss)]
        let (answered_float, sum_ns) = (answered as f64, tally.latency_sum_ns as f64);
        Report {
            to: plan.address.to_string(),
            kind: if args.accounting {
                "accounting"
            } else {
                args.method.name()
            },
            in_flight: plan.in_flight,
            sockets: plan.sockets,
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
            lost: tally.lost,
            late: tally.late,
            duplicate: tally.duplicate,
            mismatched: tally.mismatched,
            wrong: tally.wrong,
            unprotected: tally.unprotected,
            not_sent: tally.not_sent,
            refused: tally.refused,
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
            (None, _) => format!("closed loop, {} in flight", self.in_flight),
            (Some(rate), false) => format!("{rate} requests/s intended"),
            (Some(rate), true) => format!("{rate} requests/s intended, at random"),
        };
        writeln!(
            out,
            "{}, {}: {pace}, {} socket(s), {:.1} s measured\n",
            self.to, self.kind, self.sockets, self.seconds
        )?;
        writeln!(
            out,
            "  rate         {:.0} answers/s ({} of {} requests)",
            self.answered_per_second, self.answered, self.sent
        )?;
        writeln!(
            out,
            "  latency      mean {:.3} ms, p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms",
            self.mean_ms, self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms
        )?;
        writeln!(
            out,
            "  answers      {} wrong, {} mismatched, {} duplicate, {} late, {} lost",
            self.wrong, self.mismatched, self.duplicate, self.late, self.lost
        )?;
        if self.unprotected > 0 {
            writeln!(
                out,
                "  unprotected  {} answers without Message-Authenticator",
                self.unprotected
            )?;
        }
        if self.not_sent + self.refused > 0 {
            writeln!(
                out,
                "  not sent     {} that were due, {} that the kernel did not take",
                self.not_sent, self.refused
            )?;
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
