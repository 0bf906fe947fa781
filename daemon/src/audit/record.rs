//! One line of the audit log: what was asked is written when the request comes, how it ended when it has.
//!
//! No value of an attribute is ever written, and no password. Octets that are no UTF-8 are written as RFC 4514 escapes them
//! (`\ff`), and what is longer than [`TEXT_BYTES_MAX`] is cut, with `…` behind it.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use engine::core::time::Instant;
use wire::ldap::control;
use wire::ldap::envelope::{Envelope, tag};
use wire::ldap::filter;
use wire::ldap::grammar::{self, Auth, Scope};
use wire::ldap::result;

use super::plan;
use crate::accounting::moment::{Moment, micros};
use crate::config::plan::Upstream;

/// Longest name or filter.
const TEXT_BYTES_MAX: usize = 1024;
/// Names of attributes, and controls, in one line.
const NAMES_MAX: usize = 64;
/// A filter that mentions one of these is not written: what it compares may be a secret.
const SECRETS: [&str; 8] = [
    "password",
    "unicodepwd",
    "2.5.4.35",
    "dbcspwd",
    "pwdhistory",
    "sambapassword",
    "krbprincipalkey",
    "1.2.840.113556.1.4.90",
];

/// A line that is not finished.
#[derive(Debug)]
pub struct Entry {
    text: Vec<u8>,
    /// The request's.
    pub tag: u8,
    /// Entries found.
    pub entries: u64,
    /// It is told only where it did not go well.
    pub failures_only: bool,
    /// Who was asked last.
    pub server: Option<Arc<Upstream>>,
    /// When.
    pub sent: Option<Instant>,
    /// When the request came.
    since: Instant,
}

/// Who asks, and by which way.
#[derive(Debug)]
pub struct From<'a> {
    /// Where the client connected to.
    pub listener: &'a str,
    /// Its address.
    pub client: Option<SocketAddr>,
    /// The worker and the connection there.
    pub connection: (usize, u32),
    /// Whether over TLS.
    pub tls: bool,
    /// Who it is.
    pub identity: &'a [u8],
    /// Of which directory.
    pub directory: &'a str,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A server answered.
    Answered(u32),
    /// The daemon refused it itself.
    Refused(u32),
    /// It was given up: by the daemon, which answered so.
    Failed(u32),
    /// By its client, or with it.
    Canceled,
    /// It has no answer.
    Nothing,
}

impl End {
    fn code(self) -> Option<u32> {
        match self {
            End::Answered(code) | End::Refused(code) | End::Failed(code) => Some(code),
            End::Canceled | End::Nothing => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            End::Answered(_) => "answered",
            End::Refused(_) => "refused",
            End::Failed(_) => "failed",
            End::Canceled => "canceled",
            End::Nothing => "done",
        }
    }

    /// Whether it is what was wished for: success, compareFalse, compareTrue, referral, saslBindInProgress.
    pub fn is_well(self) -> bool {
        match self {
            End::Nothing => true,
            End::Canceled => false,
            _ => matches!(self.code(), Some(0 | 5 | 6 | 10 | 14)),
        }
    }
}

impl Entry {
    /// A request has come.
    pub fn begin(from: &From<'_>, env: &Envelope<'_>, now: Instant) -> Entry {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"{\"time\":\"");
        Moment::new(micros(SystemTime::now())).write(&mut out);
        out.extend_from_slice(b"Z\"");
        field(&mut out, "listener", from.listener.as_bytes());
        if let Some(client) = from.client {
            // A Vec takes whatever is written.
            let _ = write!(out, ",\"client\":\"{client}\"");
        }
        let (worker, connection) = from.connection;
        let _ = write!(out, ",\"connection\":\"{worker}-{connection}\",\"id\":{}", env.id);
        let _ = write!(out, ",\"tls\":{}", from.tls);
        field(&mut out, "directory", from.directory.as_bytes());
        if env.tag != tag::BIND_REQUEST {
            field(&mut out, "identity", from.identity);
        }
        field(&mut out, "operation", plan::name(env.tag).as_bytes());
        request(&mut out, env);
        controls(&mut out, env.controls);
        Entry {
            text: out,
            tag: env.tag,
            entries: 0,
            failures_only: false,
            server: None,
            sent: None,
            since: now,
        }
    }

    /// It has ended: the whole line. `identity`: who the client is after it.
    pub fn end(mut self, end: End, identity: &[u8], now: Instant) -> Vec<u8> {
        let out = &mut self.text;
        if self.tag == tag::BIND_REQUEST {
            field(out, "identity", identity);
        }
        if let Some(server) = &self.server {
            field(out, "server", server.name.as_bytes());
        }
        field(out, "outcome", end.word().as_bytes());
        if let Some(code) = end.code() {
            let _ = write!(out, ",\"result\":{code},\"result_name\":\"{}\"", result::name(code));
        }
        if self.tag == tag::SEARCH_REQUEST {
            let _ = write!(out, ",\"entries\":{}", self.entries);
        }
        let total = now.since(self.since).as_micros();
        let queue = self.sent.map_or(total, |sent| sent.since(self.since).as_micros());
        let millis = |micros: u64| (micros / 1000, micros % 1000);
        let ((queue, queue_micros), (total, total_micros)) = (millis(queue), millis(total));
        let _ = write!(
            out,
            ",\"queue_ms\":{queue}.{queue_micros:03},\"total_ms\":{total}.{total_micros:03}}}"
        );
        out.push(b'\n');
        self.text
    }
}

/// A line that says how many are missing.
pub fn lost(out: &mut Vec<u8>, count: u64) {
    out.extend_from_slice(b"{\"time\":\"");
    Moment::new(micros(SystemTime::now())).write(out);
    let _ = writeln!(out, "Z\",\"operation\":\"lost\",\"lost\":{count}}}");
}

/// What is asked, by kind.
fn request(out: &mut Vec<u8>, env: &Envelope<'_>) {
    if let Some(target) = grammar::target(env) {
        field(out, "dn", target);
    }
    match env.tag {
        tag::BIND_REQUEST => {
            if let Ok(bind) = grammar::bind(env.op) {
                field(out, "bind_dn", bind.name);
                match bind.auth {
                    Auth::Simple(_) => field(out, "method", b"simple"),
                    Auth::Sasl { mechanism, .. } => {
                        field(out, "method", b"sasl");
                        field(out, "mechanism", mechanism);
                    }
                    Auth::Other(_) => field(out, "method", b"other"),
                }
            }
        }
        tag::SEARCH_REQUEST => {
            if let Ok(search) = grammar::search(env.op) {
                field(out, "scope", scope(search.scope).as_bytes());
                field(out, "filter", shown(search.filter).as_bytes());
                names(out, "attributes", search.attributes);
            }
        }
        tag::COMPARE_REQUEST => {
            if let Ok(compare) = grammar::compare(env.op) {
                names(out, "attributes", [compare.attribute]);
            }
        }
        tag::ADD_REQUEST => {
            if let Ok(add) = grammar::add(env.op) {
                names(out, "attributes", add.attributes.map(|attribute| attribute.name));
            }
        }
        tag::MODIFY_REQUEST => {
            if let Ok(modify) = grammar::modify(env.op) {
                names(out, "attributes", modify.changes.map(|change| change.name));
            }
        }
        tag::MODIFY_DN_REQUEST => {
            if let Ok(rename) = grammar::modify_dn(env.op) {
                field(out, "new_rdn", rename.new_rdn);
                if let Some(superior) = rename.new_superior {
                    field(out, "new_superior", superior);
                }
            }
        }
        tag::EXTENDED_REQUEST => {
            if let Ok(extended) = grammar::extended(env.op) {
                field(out, "oid", extended.oid);
            }
        }
        tag::ABANDON_REQUEST => {
            if let Some(id) = grammar::abandon_id(env) {
                let _ = write!(out, ",\"abandons\":{id}");
            }
        }
        _ => {}
    }
}

fn scope(scope: Scope) -> &'static str {
    match scope {
        Scope::Base => "base",
        Scope::One => "one",
        Scope::Subtree => "sub",
        Scope::Subordinate => "children",
    }
}

fn shown(encoded: &[u8]) -> String {
    let text = filter::to_string(encoded).unwrap_or_else(|_| "(too deep)".to_owned());
    let lower = text.to_ascii_lowercase();
    if SECRETS.iter().any(|secret| lower.contains(secret)) {
        return "(hidden)".to_owned();
    }
    text
}

fn controls(out: &mut Vec<u8>, content: &[u8]) {
    if !content.is_empty() {
        names(out, "controls", control::controls(content).flatten().map(|one| one.oid));
    }
}

fn names<'a>(out: &mut Vec<u8>, name: &str, all: impl IntoIterator<Item = &'a [u8]>) {
    let _ = write!(out, ",\"{name}\":[");
    for (at, one) in all.into_iter().take(NAMES_MAX).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        text(out, one);
    }
    out.push(b']');
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    let _ = write!(out, ",\"{name}\":");
    text(out, value);
}

fn text(out: &mut Vec<u8>, octets: &[u8]) {
    let shown = octets.get(..TEXT_BYTES_MAX).unwrap_or(octets);
    out.push(b'"');
    for chunk in shown.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                c if c.is_control() => drop(write!(out, "\\u{:04x}", u32::from(c))),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for octet in chunk.invalid() {
            let _ = write!(out, "\\\\{octet:02x}");
        }
    }
    if shown.len() < octets.len() {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}
