//! `bindconf`: the daemon's own bind, and TLS towards the servers.

use std::time::Duration;

use super::lex::{Line, Word};
use super::model::{Method, Model};
use super::told::{At, Told};
use crate::config::values::show_duration;

/// Takes a line of it.
pub fn take(model: &mut Model, line: &Line, told: &mut Told) {
    model.bind.at = Some(line.at());
    for word in &line.words {
        // What is no pair may be a part of a password with a blank in it: it is not shown.
        let Some((key, value)) = word.text.split_once('=') else {
            told.fault(
                &line.at_word(word),
                "an argument of bindconf without a =",
                "KEY=VALUE, in quotes where there is a blank in it",
            );
            continue;
        };
        pair(model, line, word, &key.to_ascii_lowercase(), value, told);
    }
}

fn pair(model: &mut Model, line: &Line, word: &Word, key: &str, value: &str, told: &mut Told) {
    let at = line.at_word(word);
    let bind = &mut model.bind;
    match key {
        "bindmethod" => match value.to_ascii_lowercase().as_str() {
            "none" => bind.method = Method::None,
            "simple" => bind.method = Method::Simple,
            "sasl" => bind.method = Method::Sasl,
            _ => told.fault(&at, &format!("bindmethod={value}"), "simple or sasl"),
        },
        "binddn" => bind.dn = Some((value.to_owned(), at)),
        "credentials" => bind.password = Some(value.to_owned().into()),
        "saslmech" => bind.mechanism = Some((value.to_owned(), at)),
        "secprops" => bind.secprops = Some((value.to_owned(), at)),
        "realm" => bind.realm = Some((value.to_owned(), at)),
        "authcid" => bind.authcid = Some((value.to_owned(), at)),
        "authzid" => bind.authzid = Some((value.to_owned(), at)),
        "timeout" => timeout(model, &at, value, told),
        "network-timeout" => {
            let Some(seconds) = seconds(&at, key, value, told) else {
                return;
            };
            if seconds > 0 {
                let length = show_duration(Duration::from_secs(seconds.min(3600)));
                model
                    .directory
                    .text("connect_timeout", &length, format!("{at} network-timeout"));
            }
        }
        "keepalive" => keepalive(model, &at, value, told),
        "tcp-user-timeout" => match value.parse::<u64>() {
            Ok(0) => {}
            Ok(length) => {
                let length = show_duration(Duration::from_millis(length.min(3_600_000)));
                model
                    .directory
                    .text("tcp_user_timeout", &length, format!("{at} tcp-user-timeout"));
            }
            Err(_) => told.fault(&at, &format!("{key}={value}"), "a number of milliseconds"),
        },
        key if key.starts_with("tls_") => tls(model, &at, key, value, told),
        // It may be a part of a password with a blank in it: it is not shown.
        _ => told.fault(&at, "an argument that bindconf does not have", "it is left out"),
    }
}

/// `IDLE:PROBES:INTERVAL`, in seconds; 0 is the system's default.
fn keepalive(model: &mut Model, at: &At, value: &str, told: &mut Told) {
    let parts: Vec<Option<u64>> = value.split(':').map(|part| part.parse().ok()).collect();
    let [Some(idle), Some(count), Some(interval)] = parts[..] else {
        return told.fault(at, &format!("keepalive={value}"), "IDLE:PROBES:INTERVAL, as in 60:3:10");
    };
    // What Linux has where nothing is set.
    let or = |part: u64, system: u64, most: u64| if part == 0 { system } else { part.min(most) };
    let (idle, interval) = (or(idle, 7200, 32_767), or(interval, 75, 32_767));
    let table = format!(
        "{{ idle = \"{idle}s\", interval = \"{interval}s\", count = {} }}",
        or(count, 9, 127)
    );
    model.directory.plain("keepalive", table, format!("{at} keepalive"));
}

fn seconds(at: &At, key: &str, value: &str, told: &mut Told) -> Option<u64> {
    let read = value.parse().ok();
    if read.is_none() {
        told.fault(at, &format!("{key}={value}"), "a number of seconds");
    }
    read
}

fn timeout(model: &mut Model, at: &At, value: &str, told: &mut Told) {
    let Some(seconds) = seconds(at, "timeout", value, told).filter(|seconds| *seconds > 0) else {
        return;
    };
    let length = show_duration(Duration::from_secs(seconds.min(86_400)));
    for key in ["search_timeout", "operation_timeout"] {
        model.directory.text(key, &length, format!("{at} timeout"));
    }
    model.has_timeout = true;
}

fn tls(model: &mut Model, at: &At, key: &str, value: &str, told: &mut Told) {
    let tls = &mut model.bind.tls;
    let named = || Some((value.to_owned(), at.clone()));
    match key {
        "tls_cacert" => tls.ca = named(),
        "tls_cert" => tls.cert = named(),
        "tls_key" => tls.key = named(),
        "tls_cacertdir" => told.fault(
            at,
            "tls_cacertdir has no counterpart",
            "put the certificates of that folder into one file and name it with tls_cacert; without, the system's \
             authorities are believed",
        ),
        "tls_reqcert" => match value.to_ascii_lowercase().as_str() {
            "never" | "allow" => tls.unverified = Some(at.clone()),
            "try" | "demand" | "hard" | "true" => tls.unverified = None,
            _ => told.fault(at, &format!("tls_reqcert={value}"), "never, allow, try or demand"),
        },
        "tls_reqsan" => {
            if matches!(value.to_ascii_lowercase().as_str(), "never" | "allow") {
                told.notice(
                    at,
                    &format!("tls_reqsan={value} is left out"),
                    "a certificate always carries the host's name here as a subject alternative name; server_name \
                     names another one",
                );
            }
        }
        "tls_cipher_suite" => told.notice(at, "tls_cipher_suite is left out", "rustls offers only strong suites"),
        "tls_ecname" => told.notice(at, "tls_ecname is left out", "rustls chooses among its own curves"),
        "tls_protocol_min" => protocol_min(at, key, value, told),
        "tls_crlcheck" => revoked(at, key, value, told),
        _ => told.fault(at, &format!("bindconf has no {key}="), "it is left out"),
    }
}

/// Versions of TLS are written as SSL's: 3.3 is TLS 1.2. Here nothing older is spoken, and nothing newer can be demanded.
pub fn protocol_min(at: &At, key: &str, value: &str, told: &mut Told) {
    let (major, minor) = value.split_once('.').unwrap_or((value, "0"));
    let version = major.parse::<u32>().ok().zip(minor.parse::<u32>().ok());
    match version {
        None => told.fault(at, &format!("{key} {value}"), "a version such as 3.3"),
        Some(version) if version <= (3, 3) => {
            told.notice(
                at,
                &format!("{key} {value} is left out"),
                "nothing below TLS 1.2 is spoken",
            );
        }
        Some(_) => told.fault(
            at,
            &format!("{key} {value} has no counterpart"),
            "TLS 1.2 is spoken, too, with those who know nothing newer",
        ),
    }
}

/// Lists of revoked certificates.
pub fn revoked(at: &At, key: &str, value: &str, told: &mut Told) {
    match value.to_ascii_lowercase().as_str() {
        "none" => {}
        "peer" | "all" => told.fault(
            at,
            &format!("{key} {value} has no counterpart"),
            "the lists are in files that must be named: crl_file in `tls` of servers, client_crl_file in that of listeners",
        ),
        _ => told.fault(at, &format!("{key} {value}"), "none, peer or all"),
    }
}
