//! `usherd bench`: load that measures, and that checks what it is given.
//!
//! The figures are only worth something beside those of a peer under the same load; `bench/ldap` makes such
//! comparisons with this command.

mod call;
mod histogram;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod load;
#[cfg(test)]
mod load_tests;
mod operation;
mod pace;
mod plan;
mod process;
mod radius;
mod report;
mod run;
mod shared;
mod stream;
mod tally;
mod template;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use wire::ldap::grammar::Scope;

/// Make load, and report rate, latencies, faults and the CPU time of a process
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(subcommand)]
    protocol: Protocol,
}

#[derive(Debug, Subcommand)]
enum Protocol {
    /// Load an LDAP server or a balancer in front of some, and check its answers
    ///
    /// Texts with the mark (an n in braces) are used with a number drawn from --range for each operation. Latency counts from when an
    /// operation was sent; at a fixed --rate from when it should have been sent, so that a server which stalls is
    /// charged for what it kept waiting. Ends with 1 when an answer was misdelivered, duplicate, late or missing, or
    /// when nothing was answered. Ctrl-C ends the run with the figures so far.
    Ldap(Box<LdapArgs>),
    /// Load a service over our RPC, and check its answers
    ///
    /// Latency counts from when a call was sent; at a fixed --rate from when it should have been sent. Ends with 1 when
    /// a call had no answer, more than one, or a wrong one, or when nothing was answered.
    Call(Box<call::CallArgs>),
    /// Load a RADIUS server, and check its answers
    ///
    /// Latency counts from when a request was sent; at a fixed --rate from when it should have been sent. Every request has a socket
    /// and identifier of its own while it is open, and is never sent again: it is lost if its answer has not come within --timeout.
    /// Ends with 1 when one was lost or answered wrongly, or when nothing was answered.
    Radius(Box<radius::RadiusArgs>),
}

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeName {
    /// A search for one entry.
    Search,
    /// A simple bind.
    Bind,
    /// Connect, bind (anonymously without --bind-dn), unbind, close.
    Connect,
    /// Searches, comparisons, binds, Who Am I? and abandons side by side, each answer checked.
    Mixed,
    /// Nothing: connections are made, bound and held.
    Idle,
}

impl ModeName {
    fn name(self) -> &'static str {
        match self {
            ModeName::Search => "search",
            ModeName::Bind => "bind",
            ModeName::Connect => "connect",
            ModeName::Mixed => "mixed",
            ModeName::Idle => "idle",
        }
    }
}

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeName {
    /// The base alone.
    Base,
    /// One level below it.
    One,
    /// The base and all below it.
    Sub,
}

impl ScopeName {
    fn scope(self) -> Scope {
        match self {
            ScopeName::Base => Scope::Base,
            ScopeName::One => Scope::One,
            ScopeName::Sub => Scope::Subtree,
        }
    }
}

/// The flags of `usherd bench ldap`.
#[derive(Debug, ClapArgs)]
pub(crate) struct LdapArgs {
    /// ldap://HOST:PORT, ldaps://HOST:PORT or ldapi://%2Fpath%2Fto%2Fsocket
    url: String,
    /// What is done over and over
    #[arg(long, value_enum, default_value = "search")]
    mode: ModeName,
    /// Connections in all
    #[arg(long, short = 'c', default_value = "16", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    /// Operations pending on a connection at a time, at most
    #[arg(long, short = 'd', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    depth: u32,
    /// Threads that make the load
    #[arg(long, short = 't', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// How long is measured: 500ms, 10s, 2m
    #[arg(long, default_value = "10s", value_parser = duration, conflicts_with = "operations")]
    duration: Duration,
    /// Measure so many operations instead
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    operations: Option<u64>,
    /// Load before measuring begins
    #[arg(long, default_value = "1s", value_parser = duration)]
    warmup: Duration,
    /// How long outstanding answers are waited for at the end; one that has not come by then is unanswered
    #[arg(long, default_value = "10s", value_parser = duration)]
    grace: Duration,
    /// Operations a second, sent when they are due (an open loop); without it each answer is followed by a request
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: Option<u64>,
    /// Where searches begin; may hold the mark
    #[arg(long)]
    base: Option<String>,
    /// How far searches go
    #[arg(long, value_enum, default_value = "sub")]
    scope: ScopeName,
    /// What is searched; may hold the mark. A plain equality with the mark also says which entry must come back
    #[arg(long, default_value = "(uid=user{n})")]
    filter: String,
    /// The attributes asked for (repeatable)
    #[arg(long, default_value = "uid")]
    attribute: Vec<String>,
    /// From where the mark is drawn, both ends included
    #[arg(long, default_value = "1..10000", value_parser = range)]
    range: (u32, u32),
    /// Whom to bind as; may hold the mark. Mixed loads compare the first RDN of it
    #[arg(long)]
    bind_dn: Option<String>,
    /// The file that holds the password; the mark in it is replaced as in --bind-dn
    #[arg(long)]
    password_file: Option<PathBuf>,
    /// Of 100 operations of a mixed load; the rest are searches [default: bind=5,compare=15,whoami=5,abandon=5]
    #[arg(long)]
    mix: Option<String>,
    /// Secure an ldap:// connection before anything else
    #[arg(long)]
    starttls: bool,
    /// The certificates that sign the server's, in PEM; without it those of the machine
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Offer this cipher suite only, as in TLS13_AES_128_GCM_SHA256
    #[arg(long)]
    tls_suite: Option<String>,
    /// Make a whole TLS handshake for each connection; without it sessions are resumed where the server allows it
    #[arg(long)]
    no_resumption: bool,
    /// Report CPU time, context switches and memory of this process over the measured time (repeatable)
    #[arg(long)]
    pid: Vec<u32>,
    /// Of the draws: the same seed draws the same numbers
    #[arg(long, default_value = "1")]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// No progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
///
/// # Errors
/// A sentence for the user: a wrong flag, a server that cannot be reached or refuses to bind.
pub(crate) fn run(args: &Args) -> Result<ExitCode, String> {
    match &args.protocol {
        Protocol::Ldap(args) => run::run(args),
        Protocol::Call(args) => call::run(args),
        Protocol::Radius(args) => radius::run(args),
    }
}

/// A whole number and a unit.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis_per = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("not a whole number and a unit, as in 500ms, 10s, 2m, 1h".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "not a whole number and a unit, as in 500ms, 10s, 2m, 1h".to_owned())?;
    let millis = number.checked_mul(millis_per).filter(|millis| *millis <= 86_400_000);
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "longer than a day".to_owned())
}

/// `A..B`, both included.
fn range(text: &str) -> Result<(u32, u32), String> {
    let wrong = || "not FIRST..LAST, as in 1..10000".to_owned();
    let (first, last) = text.split_once("..").ok_or_else(wrong)?;
    let first: u32 = first.parse().map_err(|_| wrong())?;
    let last: u32 = last.parse().map_err(|_| wrong())?;
    if first > last || last == u32::MAX {
        return Err(format!("FIRST must not be above LAST, nor LAST above {}", u32::MAX - 1));
    }
    Ok((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["10", "s", "1.5s", "-1s", "10 s", "", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration("25h"), Err("longer than a day".to_owned()));
    }

    #[test]
    fn ranges_have_two_ends_in_order() {
        assert_eq!(range("1..10000"), Ok((1, 10_000)));
        assert_eq!(range("7..7"), Ok((7, 7)));
        for wrong in ["1", "2..1", "..", "1..4294967295", "a..b"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
