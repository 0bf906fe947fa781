//! The settings that are about the daemon as a whole.

use super::lex::{Line, Word};
use super::model::{Model, Verify};
use super::told::Told;
use super::{bindconf, servers};
use crate::config::values::{show_duration, show_size};
use engine::session::ldap::rules::{self, Action, Rules};
use std::time::Duration;
use wire::ldap::control::oid as controls;
use wire::ldap::message::oid as operations;

/// Settings without a counterpart, and why nobody misses them.
const LEFT_OUT: [(&str, &str); 20] = [
    ("argsfile", "a service manager knows how it was started"),
    ("backend", "usherd is a daemon of its own, no module of slapd"),
    ("moduleload", "usherd is a daemon of its own, no module of slapd"),
    ("modulepath", "usherd is a daemon of its own, no module of slapd"),
    ("concurrency", "workers share nothing, there is nothing to hint at"),
    (
        "gentlehup",
        "`usherd stop` always lets clients finish (drain_gentle); SIGHUP reads the file again",
    ),
    ("logfile", "logs go to standard error: the service manager keeps them"),
    ("logfile-format", "logs are lines for a person, or JSON with --log json"),
    ("logfile-only", "logs go to standard error only"),
    ("logfile-rotate", "the service manager rotates its logs"),
    ("loglevel", "say it when you start it: usherd run --log-level info"),
    (
        "pidfile",
        "a service manager knows the process; `usherd status` shows it",
    ),
    ("tcp-buffer", "the system sizes its buffers itself"),
    (
        "threads",
        "one thread for each CPU does all the work of its clients ([server] workers)",
    ),
    ("threadqueues", "every worker has its own queue"),
    ("tlsciphersuite", "rustls offers only strong suites"),
    ("tlsdhparamfile", "TLS here uses elliptic curves only"),
    ("tlsecname", "rustls chooses among its own curves"),
    ("tlsrandfile", "the system's random numbers are used"),
    ("tlsshareslapdctx", "there is no slapd to share with"),
];

/// Settings without a counterpart that somebody relies on.
const MISSING: [(&str, &str); 6] = [
    (
        "restrict",
        "operations cannot be refused here: let the servers' access rules do it",
    ),
    ("tlscacertificate", "name a file with TLSCACertificateFile"),
    ("tlscertificate", "name a file with TLSCertificateFile"),
    ("tlscertificatekey", "name a file with TLSCertificateKeyFile"),
    (
        "tlscacertificatepath",
        "put the certificates of that folder into one file and name it with TLSCACertificateFile",
    ),
    (
        "tlscrlfile",
        "lists of revoked certificates are not looked at: clients with one would be let in",
    ),
];

/// Translates one line.
pub fn take(model: &mut Model, line: &Line, told: &mut Told) {
    let name = line.name.to_ascii_lowercase();
    let find = |list: &[(&str, &'static str)]| list.iter().find(|(one, _)| *one == name).map(|(_, why)| *why);
    if let Some(why) = find(&LEFT_OUT) {
        told.notice(&line.at(), &format!("{} is left out", line.name), why);
    } else if let Some(right) = find(&MISSING) {
        told.fault(&line.at(), &format!("{} has no counterpart", line.name), right);
    } else {
        match name.as_str() {
            "tier" => servers::tier(model, line, told),
            "backend-server" => servers::server(model, line, told),
            "bindconf" => bindconf::take(model, line, told),
            "listen" => model.urls = one(line, told).map(|word| (word.text.to_string(), line.at_word(word))),
            "feature" | "enable" => line
                .words
                .iter()
                .for_each(|word| feature(model, line, word, true, told)),
            "disable" => line
                .words
                .iter()
                .for_each(|word| feature(model, line, word, false, told)),
            "restrict_control" | "restrict_exop" => restrict(model, line, told),
            "write_coherence" => coherence(model, line, told),
            _ if name.starts_with("tls") => tls(model, line, &name, told),
            _ => limit(model, line, &name, told),
        }
    }
}

/// The one argument of a setting.
pub fn one<'l>(line: &'l Line, told: &mut Told) -> Option<&'l Word> {
    if let [word] = line.words.as_slice() {
        return Some(word);
    }
    let found = format!("{} with {} arguments", line.name, line.words.len());
    told.fault(&line.at(), &found, "it takes one");
    None
}

/// What lost the blank before it may be an argument of bindconf, with a password behind the `=`.
fn unknown(line: &Line, told: &mut Told) {
    let name = line.name.split('=').next().unwrap_or_default();
    let found = format!("lloadd has no setting {name}");
    told.fault(&line.at(), &found, "the line is left out");
}

/// A number that lloadd takes.
fn number(line: &Line, told: &mut Told) -> Option<i64> {
    let word = one(line, told)?;
    let read = word.text.parse().ok();
    if read.is_none() {
        let found = format!("{} {} is no number", line.name, word.text.as_str());
        told.fault(&line.at_word(word), &found, "the line is left out");
    }
    read
}

/// Within bounds that are ours.
pub fn bounded(line: &Line, value: i64, (min, max): (u64, u64), told: &mut Told) -> u64 {
    let wanted = u64::try_from(value).unwrap_or(0);
    let taken = wanted.clamp(min, max);
    if taken != wanted || value < 0 {
        told.notice(
            &line.at(),
            &format!("{} {value}", line.name),
            &format!("{taken} is taken"),
        );
    }
    taken
}

fn limit(model: &mut Model, line: &Line, name: &str, told: &mut Told) {
    let size = (1024, 1 << 30);
    let known = [
        "client_max_pending",
        "idletimeout",
        "io-threads",
        "iotimeout",
        "max_pdus_per_cycle",
        "sockbuf_max_incoming_client",
        "sockbuf_max_incoming_upstream",
        "sockbuf_max_pending_client",
    ];
    if !known.contains(&name) {
        unknown(line, told);
        return;
    }
    let Some(value) = number(line, told) else { return };
    let from = format!("{} {name}", line.at());
    let bytes = |value: u64| format!("\"{}\"", show_size(usize::try_from(value).unwrap_or(usize::MAX)));
    match name {
        "client_max_pending" => {
            let value = bounded(line, value, (0, 1_000_000), told);
            model.directory.plain("client_pending_max", value, from);
        }
        "idletimeout" => {
            let length = Duration::from_secs(bounded(line, value, (0, 31_536_000), told));
            model.listen.text("idle_timeout", &show_duration(length), from);
        }
        "io-threads" => model
            .server
            .plain("workers", bounded(line, value, (1, 1024), told), from),
        "iotimeout" if value == 0 => {
            told.notice(
                &line.at(),
                "iotimeout 0",
                "a client that takes nothing for an hour is closed",
            );
            model.listen.text("write_timeout", "1h", from);
        }
        "iotimeout" => {
            let length = Duration::from_millis(bounded(line, value, (10, 3_600_000), told));
            model.listen.text("write_timeout", &show_duration(length), from);
        }
        "max_pdus_per_cycle" if value == 0 => {
            let right = "it is about lloadd's threads; turn_messages_max is 32";
            told.notice(&line.at(), "max_pdus_per_cycle 0 is left out", right);
        }
        "max_pdus_per_cycle" => {
            let value = bounded(line, value, (1, 10_000), told);
            model.listen.plain("turn_messages_max", value, from);
        }
        "sockbuf_max_pending_client" if value == 0 => {
            let right = "here always something is: outbox_bytes_max, 1 MiB; what is beyond waits at the server";
            told.notice(&line.at(), "sockbuf_max_pending_client 0, without a bound", right);
        }
        "sockbuf_max_pending_client" => {
            let value = bounded(line, value, (4096, 1 << 30), told);
            model.listen.plain("outbox_bytes_max", bytes(value), from);
        }
        "sockbuf_max_incoming_client" => {
            // 0 is without a bound there.
            let value = if value == 0 { 1 << 30 } else { value };
            let value = bounded(line, value, size, told);
            model.directory.plain("request_bytes_max", bytes(value), from);
        }
        _ => {
            let value = if value == 0 { 1 << 30 } else { value };
            let value = bounded(line, value, size, told);
            model.directory.plain("response_bytes_max", bytes(value), from);
        }
    }
}

fn feature(model: &mut Model, line: &Line, word: &Word, is_on: bool, told: &mut Told) {
    let at = line.at_word(word);
    match word.text.to_ascii_lowercase().as_str() {
        "proxyauthz" => model.proxies = Some((is_on, at)),
        "vc" if is_on => told.notice(
            &at,
            "binds as Verify Credentials operations",
            "they are sent as binds, on connections of their own, and waited for; who may bind is the same",
        ),
        "read_pause" if !is_on => told.notice(
            &at,
            "read_pause is off",
            "here it is always on: a slow reader's answers wait at the server, in no memory of ours",
        ),
        "vc" | "read_pause" => {}
        other => told.fault(&at, &format!("lloadd has no feature {other}"), "it is left out"),
    }
}

fn restrict(model: &mut Model, line: &Line, told: &mut Told) {
    let [oid, action] = line.words.as_slice() else {
        let found = format!("{} with {} arguments", line.name, line.words.len());
        told.fault(&line.at(), &found, "it takes an OID and an action");
        return;
    };
    let what = format!("{} {} {}", line.name, oid.text.as_str(), action.text.as_str());
    let at = line.at();
    let extended = line.name.eq_ignore_ascii_case("restrict_exop");
    // Cancel: lloadd's own example refuses it because lloadd forwards a wrong message id.
    let is_cancel = oid.text.as_str() == "1.3.6.1.1.8";
    match action.text.to_ascii_lowercase().as_str() {
        "ignore" if oid.text.as_str() == rules::OTHERS => {
            told.notice(
                &at,
                &format!("{what} is left out"),
                "what has no rule is not restricted",
            );
        }
        "reject" if is_cancel => {
            told.notice(
                &at,
                &format!("{what} is left out"),
                "usherd answers Cancel itself, as RFC 3909 wants",
            );
        }
        // Pages and transactions of two clients on one connection get in each other's way, and slapd begins no transaction under a
        // proxied authorization control.
        action
            if (action == "connection" && is_kept_apart(extended, oid.text.as_str()))
                || (matches!(action, "write" | "backend") && is_of_transactions(oid.text.as_str())) =>
        {
            let right = "such a client has a connection to itself here (\"isolate\")";
            told.notice(&at, &format!("{what} is more"), right);
            model.rules.put(extended, oid.text.as_str(), "isolate");
        }
        action @ ("ignore" | "reject" | "write" | "backend" | "connection" | "isolate") => {
            model.rules.put(extended, oid.text.as_str(), action);
        }
        _ => told.fault(&at, &format!("{what}: no such action"), "the line is left out"),
    }
}

fn is_of_transactions(oid: &str) -> bool {
    let all = [
        operations::TRANSACTION_START,
        operations::TRANSACTION_END,
        controls::TRANSACTION_SPECIFICATION,
    ];
    all.contains(&oid)
}

/// Whether clients that use this are kept apart without a word.
fn is_kept_apart(extended: bool, oid: &str) -> bool {
    let rules = Rules::default();
    let action = if extended {
        rules.extended(oid.as_bytes())
    } else {
        rules.control(oid.as_bytes())
    };
    action == Action::Isolate
}

fn coherence(model: &mut Model, line: &Line, told: &mut Told) {
    let Some(seconds) = number(line, told).filter(|seconds| *seconds != 0) else {
        return;
    };
    if !(1..=86_400).contains(&seconds) {
        let found = format!("write_coherence {seconds} has no counterpart");
        told.fault(&line.at(), &found, "one day at most; a rule \"backend\" has no end");
    } else {
        let from = format!("{} write_coherence", line.at());
        model.directory.text("write_coherence", &format!("{seconds}s"), from);
    }
}

fn tls(model: &mut Model, line: &Line, name: &str, told: &mut Told) {
    let Some(word) = one(line, told) else { return };
    let (text, at) = (word.text.to_string(), line.at_word(word));
    match name {
        "tlscacertificatefile" => model.tls.ca = Some((text, at)),
        "tlscertificatefile" => model.tls.cert = Some((text, at)),
        "tlscertificatekeyfile" => model.tls.key = Some((text, at)),
        "tlsverifyclient" => match text.to_ascii_lowercase().as_str() {
            "never" => model.tls.verify = Some((Verify::Never, at)),
            "try" => model.tls.verify = Some((Verify::Request, at)),
            "demand" | "hard" | "true" => model.tls.verify = Some((Verify::Require, at)),
            "allow" => {
                let right = "client_cert = \"request\": a client that shows a wrong one is refused";
                told.notice(&at, "TLSVerifyClient allow", right);
                model.tls.verify = Some((Verify::Request, at));
            }
            _ => told.fault(&at, &format!("TLSVerifyClient {text}"), "no such level"),
        },
        "tlscrlcheck" => bindconf::revoked(&at, "TLSCRLCheck", &text, told),
        "tlsprotocolmin" => bindconf::protocol_min(&at, "TLSProtocolMin", &text, told),
        _ => unknown(line, told),
    }
}
