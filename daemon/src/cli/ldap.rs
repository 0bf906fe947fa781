//! `usherd ldap run`: a balancer in one line.

use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::boot;
use crate::config::one_line;
use crate::config::raw::{IDENTITIES, POLICIES, STARTTLS};

const EXAMPLES: &str = "\
Examples:
  usherd ldap run --listen ldap://127.0.0.1:1389 --server ldap://ldap1 --server ldap://ldap2
  usherd ldap run --listen ldap://:389 --server ldaps://ldap1 --server ldaps://ldap2 \\
      --bind-dn cn=usherd,dc=example,dc=com --bind-password-file /etc/usherd/secret

Without --bind-dn, the connection that carried a client's bind stays with that client (identity pinned). With it,
operations share connections, each with a proxied authorization control (RFC 4370), which the servers must allow.";

/// The flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// Where to listen: ldap://127.0.0.1:1389, ldaps://:636, ldapi://%2Fpath; may be given again
    #[arg(long, value_name = "URL", required = true)]
    pub listen: Vec<String>,
    /// A server: ldap://HOST, ldaps://HOST, ldapi://%2Fpath; may be given again
    #[arg(long, value_name = "URL", required = true)]
    pub server: Vec<String>,
    /// The daemon's own bind to each server
    #[arg(long, value_name = "DN", requires = "bind_password_file")]
    pub bind_dn: Option<String>,
    /// The file of its password
    #[arg(long, value_name = "FILE", requires = "bind_dn")]
    pub bind_password_file: Option<String>,
    /// How the servers learn who asks [default: proxied with --bind-dn, else pinned]
    #[arg(long, value_name = "HOW", value_parser = words(&IDENTITIES))]
    pub identity: Option<String>,
    /// How a server is chosen [default: least-busy]
    #[arg(long, value_name = "POLICY", value_parser = words(&POLICIES))]
    pub policy: Option<String>,
    /// Threads: 0 is one per CPU, a negative number that many fewer
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1024..=1024))]
    pub workers: Option<i64>,
    /// StartTLS towards every ldap:// server: a refusal closes the connection (required) or goes on in plain text (tried)
    #[arg(long, value_name = "HOW", value_parser = words(&STARTTLS))]
    pub starttls: Option<String>,
    /// Authorities of the servers' certificates, PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// Certificate of the listeners, PEM: for ldaps://, and for StartTLS on ldap://
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<String>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<String>,
    /// Control socket [default: in a private folder]
    #[arg(long, value_name = "PATH")]
    pub control: Option<String>,
    /// Where /metrics, /healthz and /readyz are served [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
}

/// Makes the plan and runs it.
pub(super) fn run(args: &Run) -> ExitCode {
    let flags = one_line::Ldap {
        listen: args.listen.clone(),
        server: args.server.clone(),
        bind_dn: args.bind_dn.clone(),
        bind_password_file: args.bind_password_file.clone(),
        identity: meaning(&IDENTITIES, args.identity.as_deref()),
        workers: args.workers,
        policy: meaning(&POLICIES, args.policy.as_deref()),
        ca_file: args.ca_file.clone(),
        starttls: meaning(&STARTTLS, args.starttls.as_deref()),
        cert_file: args.cert_file.clone(),
        key_file: args.key_file.clone(),
        control: args.control.clone(),
        admin: args.admin.clone(),
    };
    match one_line::ldap(&flags) {
        Ok((plan, warnings)) => {
            super::show(&warnings);
            boot::run(plan, None, boot::early())
        }
        Err(found) => {
            super::show(&found);
            ExitCode::from(2)
        }
    }
}

/// The words of the configuration file are those of the flags.
pub(super) fn words<T>(pairs: &[(&'static str, T)]) -> PossibleValuesParser {
    PossibleValuesParser::new(pairs.iter().map(|(word, _)| *word))
}

pub(super) fn meaning<T: Copy>(pairs: &[(&'static str, T)], written: Option<&str>) -> Option<T> {
    let written = written?;
    pairs
        .iter()
        .find(|(word, _)| *word == written)
        .map(|(_, meaning)| *meaning)
}
