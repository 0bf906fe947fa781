//! `usherd bench radius`: one RADIUS server under load.
//!
//! One thread makes the load: it takes what has come on all sockets, many datagrams in one system call, sends what is then due
//! in the same way, and sleeps in between, so that it costs a small part of what the server does. Whatever comes is
//! checked: it must answer the very request that is open under its identifier, and with the verdict that is expected.

mod generator;
mod lane;
mod report;
mod request;
mod tally;
mod users;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use wire::radius::Secret;

use super::process::usage;
use super::report::ProcessReport;
use super::{duration, range};
use crate::cli::radius::credentials::Method;
use crate::cli::radius::exchange::{resolve, some_time};
use crate::cli::radius::secret;
use generator::Generator;
use lane::IDENTIFIERS;
use report::Report;
use tally::Tally;
use users::Users;

/// Where servers listen (RFC 2865 section 3, RFC 2866 section 3).
const PORT: u16 = 1812;
const ACCOUNTING_PORT: u16 = 1813;

/// The flags of `usherd bench radius`.
#[derive(Debug, Args)]
pub(super) struct RadiusArgs {
    /// The server: HOST or HOST:PORT
    #[arg(long, value_name = "HOST[:PORT]")]
    to: String,
    /// The file with the secret that is shared with it
    #[arg(long, value_name = "FILE")]
    secret_file: PathBuf,
    /// Who asks; may hold the mark {n}, a number of --range drawn for each request
    #[arg(long, value_name = "NAME", required_unless_present = "users_file")]
    user: Option<String>,
    /// The file that holds the password; the mark in it is replaced as in --user
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// From where the mark is drawn, both ends included
    #[arg(long, default_value = "1..10000", value_parser = range)]
    range: (u32, u32),
    /// Who asks, drawn for each request: lines of NAME,PASSWORD or NAME,PASSWORD,accept|reject
    #[arg(long, value_name = "CSV", conflicts_with_all = ["user", "password_file"])]
    users_file: Option<PathBuf>,
    /// How passwords are shown
    #[arg(long, value_enum, default_value = "pap")]
    method: Method,
    /// What is right for those whose line does not say it
    #[arg(long, value_enum, default_value = "accept")]
    expect: Verdict,
    /// Tell about sessions (Accounting-Request) in place of asking who somebody is
    #[arg(long, conflicts_with_all = ["password_file", "method", "expect"])]
    accounting: bool,
    /// Requests open at a time, at most [default: 1; at a fixed --rate all that the sockets have]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    in_flight: Option<u32>,
    /// Sockets, each with 256 identifiers [default: as many as --in-flight needs; at a fixed --rate 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    sockets: Option<u16>,
    /// Requests a second, sent when they are due; without it each answer is followed by a request
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// At a fixed rate: at random times (a Poisson process), not evenly
    #[arg(long, requires = "rate")]
    poisson: bool,
    /// How long an answer is waited for; then its request is lost
    #[arg(long, default_value = "2s", value_parser = some_time)]
    timeout: Duration,
    /// How long is measured: 500ms, 10s, 2m
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Load before measuring begins
    #[arg(long, default_value = "1s", value_parser = duration)]
    warmup: Duration,
    /// Report CPU time, context switches and memory of this process over the measured time (repeatable)
    #[arg(long)]
    pid: Vec<u32>,
    /// Of the draws and random times
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How an Access-Request must be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Verdict {
    /// Access-Accept
    Accept,
    /// Access-Reject
    Reject,
}

/// What the load is.
struct Plan {
    address: SocketAddr,
    secret: Secret,
    users: Users,
    accounting: bool,
    sockets: u16,
    in_flight: usize,
    /// Between two requests on average, where they are sent at a fixed rate.
    apart: Option<Duration>,
    poisson: bool,
    timeout: Duration,
    seed: u64,
    measured_from: Instant,
    end: Instant,
}

impl Plan {
    fn new(args: &RadiusArgs) -> Result<Plan, String> {
        let port = if args.accounting { ACCOUNTING_PORT } else { PORT };
        let (address, secret) = (resolve(&args.to, port)?, secret(&args.secret_file)?);
        let users = Users::read(args)?;
        let open = args.in_flight.unwrap_or(1);
        let wanted = match (args.in_flight, args.rate) {
            (None, Some(_)) => 16,
            _ => u16::try_from(open.div_ceil(u32::from(IDENTIFIERS))).unwrap_or(256),
        };
        let sockets = args.sockets.unwrap_or(wanted);
        let room = u32::from(sockets) * u32::from(IDENTIFIERS);
        if open > room {
            return Err(format!(
                "--in-flight {open}: {sockets} socket(s) have {room} identifiers; --sockets {wanted} would be right"
            ));
        }
        let open = match (args.in_flight, args.rate) {
            (None, Some(_)) => room,
            _ => open,
        };
        let measured_from = Instant::now() + args.warmup;
        Ok(Plan {
            address,
            secret,
            users,
            accounting: args.accounting,
            sockets,
            in_flight: usize::try_from(open).unwrap_or(1),
            apart: args.rate.map(|rate| Duration::from_secs_f64(1.0 / f64::from(rate))),
            poisson: args.poisson,
            timeout: args.timeout,
            seed: args.seed,
            measured_from,
            end: measured_from + args.duration,
        })
    }
}

/// Runs the load.
///
/// # Errors
/// A sentence for the user: a wrong flag or file, a process that does not exist, a socket that cannot be used.
pub(super) fn run(args: &RadiusArgs) -> Result<ExitCode, String> {
    for pid in &args.pid {
        usage(*pid)?;
    }
    let plan = Plan::new(args)?;
    let (tally, processes) = measure(args, &plan)?;
    let report = Report::new(args, &plan, &tally, processes);
    let text = if args.json { report.json() } else { report.text() };
    writeln!(io::stdout().lock(), "{text}").map_err(|error| format!("standard output: {error}"))?;
    Ok(if tally.is_faultless() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// This process first, then those named.
fn measure(args: &RadiusArgs, plan: &Plan) -> Result<(Tally, Vec<ProcessReport>), String> {
    let usages = || -> Result<Vec<_>, String> {
        std::iter::once(std::process::id())
            .chain(args.pid.iter().copied())
            .map(|pid| Ok((pid, usage(pid)?)))
            .collect()
    };
    let mut generator = Generator::new(plan)?;
    std::thread::scope(|scope| {
        let load = scope.spawn(move || generator.run());
        std::thread::sleep(plan.measured_from.saturating_duration_since(Instant::now()));
        let before = usages()?;
        std::thread::sleep(plan.end.saturating_duration_since(Instant::now()));
        let after = usages()?;
        let tally = load.join().map_err(|_| "the load has failed")??;
        let both = before.iter().zip(&after);
        let reports = both.map(|((pid, before), (_, after))| ProcessReport::new(*pid, before, after));
        Ok((tally, reports.collect()))
    })
}
