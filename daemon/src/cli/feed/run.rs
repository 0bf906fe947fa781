//! `usherd feed run`: a feed in one line.

use std::process::ExitCode;

use clap::Args;

use super::progress;
use crate::boot;
use crate::cli::ldap::{meaning, words};
use crate::config::one_line;
use crate::config::raw::STARTTLS;
use crate::config::raw_feed::{PROFILES, SCOPES};

const EXAMPLES: &str = "\
Examples:
  usherd feed run ldap://ldap1 --state people --base dc=example,dc=com
  usherd feed run ldaps://ldap1 ldaps://ldap2 --state people --base dc=example,dc=com \\
      --bind-dn cn=usherd,dc=example,dc=com --bind-password-file secret --filter '(objectClass=person)' | jq .

What it has told is kept in the state folder: started again, it goes on where it was. Each line is one change; the line
{\"op\":\"refresh-done\"} says that the content is complete. How it comes along is on standard error.";

/// The flags.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// A server that offers RFC 4533: ldap://HOST, ldaps://HOST, ldapi://%2Fpath; further ones hold the same data
    #[arg(value_name = "URL", required = true)]
    pub server: Vec<String>,
    /// Where it keeps what it knows; made where there is none
    #[arg(long, value_name = "DIR")]
    pub state: String,
    /// The feed's name in its events
    #[arg(long, value_name = "NAME", default_value = "feed")]
    pub name: String,
    /// What is asked.
    #[command(flatten)]
    pub of: Of,
    /// Events carry old values, too
    #[arg(long)]
    pub before: bool,
    /// The first content is not told entry by entry
    #[arg(long)]
    pub no_initial: bool,
    /// A refresh that would delete more is held until `usherd feed confirm`
    #[arg(long, value_name = "N")]
    pub max_deletes: Option<u32>,
    /// Into how many shards entries are divided, for good [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub partitions: Option<u32>,
    /// Where events go: ndjson, file:PATH, command:PROGRAM, python:ADDRESS, unix:PATH, tcp:HOST:PORT, https://…, nats://…
    #[arg(long, value_name = "SINK")]
    pub sink: Option<String>,
    /// The key of a Python listener
    #[arg(long, value_name = "FILE")]
    pub authkey_file: Option<String>,
    /// Control socket [default: control.sock in the state folder]
    #[arg(long, value_name = "PATH")]
    pub control: Option<String>,
    /// Where /metrics, /healthz and /readyz are served [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
}

/// What is asked of which servers, and as whom.
#[derive(Args, Clone, Debug)]
pub struct Of {
    /// As whom the server is asked
    #[arg(long, value_name = "DN", requires = "bind_password_file")]
    pub bind_dn: Option<String>,
    /// The file of its password
    #[arg(long, value_name = "FILE", requires = "bind_dn")]
    pub bind_password_file: Option<String>,
    /// Below which entry
    #[arg(long, value_name = "DN")]
    pub base: Option<String>,
    /// How far below [default: sub]
    #[arg(long, value_name = "SCOPE", value_parser = words(&SCOPES))]
    pub scope: Option<String>,
    /// Which entries [default: all]
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Which attributes, separated by commas [default: all of the user's]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub attributes: Vec<String>,
    /// How the server is taken [default: openldap]
    #[arg(long, value_name = "PROFILE", value_parser = words(&PROFILES))]
    pub profile: Option<String>,
    /// StartTLS towards every ldap:// server: a refusal closes the connection (required) or goes on in plain text (tried)
    #[arg(long, value_name = "HOW", value_parser = words(&STARTTLS))]
    pub starttls: Option<String>,
    /// Authorities of the servers' certificates, PEM [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
}

impl Of {
    /// Whether anything is said.
    pub fn is_given(&self) -> bool {
        let words = [
            &self.bind_dn,
            &self.base,
            &self.scope,
            &self.filter,
            &self.profile,
            &self.starttls,
            &self.ca_file,
        ];
        words.iter().any(|word| word.is_some()) || !self.attributes.is_empty()
    }

    /// A feed of that, with its state there.
    pub fn feed(&self, server: &[String], state: &str) -> one_line::Feed {
        one_line::Feed {
            server: server.to_vec(),
            state: state.to_owned(),
            bind_dn: self.bind_dn.clone(),
            bind_password_file: self.bind_password_file.clone(),
            base: self.base.clone(),
            scope: meaning(&SCOPES, self.scope.as_deref()),
            filter: self.filter.clone(),
            attributes: self.attributes.clone(),
            profile: meaning(&PROFILES, self.profile.as_deref()),
            ca_file: self.ca_file.clone(),
            starttls: meaning(&STARTTLS, self.starttls.as_deref()),
            ..one_line::Feed::default()
        }
    }
}

/// Makes the plan and runs it.
pub fn run(args: &Run) -> ExitCode {
    let count = |n: Option<u32>| n.and_then(|n| usize::try_from(n).ok());
    let flags = one_line::Feed {
        name: args.name.clone(),
        before: args.before,
        no_initial: args.no_initial,
        max_deletes: count(args.max_deletes),
        partitions: count(args.partitions),
        sink: args.sink.clone(),
        authkey_file: args.authkey_file.clone(),
        control: args.control.clone(),
        admin: args.admin.clone(),
        ..args.of.feed(&args.server, &args.state)
    };
    match one_line::feed(&flags) {
        Ok((plan, warnings)) => {
            crate::cli::show(&warnings);
            boot::run_feeds(plan, progress::watch)
        }
        Err(found) => {
            crate::cli::show(&found);
            ExitCode::from(2)
        }
    }
}
