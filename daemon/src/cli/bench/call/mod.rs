//! `usherd bench call`: one service under load, over our RPC.
//!
//! Each connection has a thread of its own that waits in read(2): with one call pending at a time nothing stands between
//! an answer and its reader, as in the floor that `bench/call` compares with. With more, the socket does not block, so
//! that large calls and large answers cannot wait for each other. At a fixed rate a second thread sends.

mod closed;
mod link;
mod open;
mod report;
mod tally;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::duration;
use super::process::usage;
use super::report::ProcessReport;
use link::{Address, Template};
use report::Report;
use tally::Tally;

/// The flags of `usherd bench call`.
#[derive(Debug, Args)]
pub(super) struct CallArgs {
    /// The service
    service: String,
    /// The daemon's rpc listener: unix:/path or HOST:PORT
    #[arg(long, default_value = "unix:/run/usherd/rpc.sock")]
    connect: String,
    /// Connections, each with a thread of its own
    #[arg(long, short = 'c', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Calls pending on a connection at a time, at most (at a fixed rate: what is due beyond is not sent)
    #[arg(long, short = 'd', value_parser = clap::value_parser!(u32).range(1..=65_536))]
    depth: Option<u32>,
    /// Send so many bytes, different in each call, and expect the same back (4 at least)
    #[arg(long, value_parser = clap::value_parser!(u32).range(4..=16_777_216), conflicts_with = "payload")]
    bytes: Option<u32>,
    /// Send this text in each call
    #[arg(long)]
    payload: Option<String>,
    /// An answer must contain this text
    #[arg(long, conflicts_with = "bytes")]
    expect: Option<String>,
    /// Calls a second, all connections together; without it each answer is followed by a call
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// At a fixed rate: calls at random (a Poisson process), not evenly
    #[arg(long, requires = "rate")]
    poisson: bool,
    /// How long is measured: 500ms, 10s, 2m
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Load before measuring begins
    #[arg(long, default_value = "1s", value_parser = duration)]
    warmup: Duration,
    /// How long outstanding answers are waited for at the end; one that has not come by then is lost
    #[arg(long, default_value = "10s", value_parser = duration)]
    grace: Duration,
    /// How long a call waits for its answer; 0: as long as the service allows
    #[arg(long, default_value = "0ms", value_parser = duration)]
    timeout: Duration,
    /// Report CPU time, context switches and memory of this process over the measured time (repeatable)
    #[arg(long)]
    pid: Vec<u32>,
    /// Of the random times
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What every connection does.
#[derive(Debug)]
struct Plan {
    address: Address,
    template: Template,
    /// Calls pending on one connection, at most.
    depth: u32,
    /// Calls a second on each connection.
    rate: Option<f64>,
    poisson: bool,
    seed: u64,
    grace: Duration,
    /// Nothing counts that was sent (or due) before.
    measured_from: Instant,
    /// Nothing is sent from here on.
    end: Instant,
}

/// Makes the load and prints what it found.
///
/// # Errors
/// A sentence: a daemon that cannot be reached, a service that is not there, a process that does not exist.
pub(super) fn run(args: &CallArgs) -> Result<ExitCode, String> {
    for pid in &args.pid {
        usage(*pid)?;
    }
    let address = Address::resolve(&args.connect)?;
    let template = Template::new(args)?;
    link::probe(&address, &template, args)?;
    let measured_from = Instant::now() + args.warmup;
    let plan = Plan {
        address,
        template,
        depth: args.depth.unwrap_or(if args.rate.is_some() { 65_536 } else { 1 }),
        rate: args.rate.map(|rate| f64::from(rate) / f64::from(args.connections)),
        poisson: args.poisson,
        seed: args.seed,
        grace: args.grace,
        measured_from,
        end: measured_from + args.duration,
    };
    let (tally, processes) = measure(args, &plan)?;
    let report = Report::new(args, &tally, processes);
    let text = if args.json { report.json() } else { report.text() };
    writeln!(io::stdout().lock(), "{text}").map_err(|error| format!("standard output: {error}"))?;
    Ok(if tally.is_faultless() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// This process first, then those named.
fn measure(args: &CallArgs, plan: &Plan) -> Result<(Tally, Vec<ProcessReport>), String> {
    let usages = || -> Result<Vec<_>, String> {
        std::iter::once(std::process::id())
            .chain(args.pid.iter().copied())
            .map(|pid| Ok((pid, usage(pid)?)))
            .collect()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.connections)
            .map(|number| {
                scope.spawn(move || match plan.rate {
                    Some(rate) => open::run(plan, rate, number),
                    None => closed::run(plan, number),
                })
            })
            .collect();
        std::thread::sleep(plan.measured_from.saturating_duration_since(Instant::now()));
        let before = usages()?;
        std::thread::sleep(plan.end.saturating_duration_since(Instant::now()));
        let after = usages()?;
        let mut tally = Tally::new();
        for thread in threads {
            tally.add(&thread.join().map_err(|_| "a thread of the load has failed")??);
        }
        let both = before.iter().zip(&after);
        let reports = both.map(|((pid, before), (_, after))| ProcessReport::new(*pid, before, after));
        Ok((tally, reports.collect()))
    })
}
