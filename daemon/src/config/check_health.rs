//! `check` of a directory, and what a server says otherwise: read, resolved, doubts said.

use std::sync::Arc;
use std::time::Duration;

use wire::ldap::filter;
use wire::ldap::grammar::Scope;

use super::check_bind::{self, Bind};
use super::check_directory;
use super::diagnostic::{At, Place, Problems};
use super::files::Folder;
use super::keys::Kind;
use super::plan::{Check, Expect};
use super::raw_nss::SCOPES;
use super::reader::Section;
use super::values::show_duration;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const FILTER_DEFAULT: &str = "(objectClass=*)";

/// The settings of `check`.
pub(super) const KEYS: &[&str] = &[
    "interval",
    "timeout",
    "rise",
    "fall",
    "bind_dn",
    "bind_password_file",
    "bind_mechanism",
    "bind_authcid",
    "bind_authzid",
    "bind_in_clear",
    "bind_iterations_max",
    "bind_principal",
    "bind_keytab",
    "bind_ccache",
    "bind_service",
    "base",
    "scope",
    "filter",
    "expect",
];

/// `check` as written.
#[derive(Debug)]
pub struct Written {
    /// The table.
    pub place: Place,
    /// See `plan::Check`; zero: the server is not checked.
    pub interval: Option<At<Duration>>,
    /// See `plan::Check`.
    pub timeout: Option<At<Duration>>,
    /// See `plan::Check`.
    pub rise: Option<At<usize>>,
    /// See `plan::Check`.
    pub fall: Option<At<usize>>,
    /// As whom it asks, where that is not the daemon's own bind.
    pub bind: Bind,
    /// See `plan::Check`.
    pub base: Option<At<String>>,
    /// See `plan::Check`.
    pub scope: Option<At<Scope>>,
    /// See `plan::Check`.
    pub filter: Option<At<String>>,
    /// `entry`, or an attribute and its value.
    pub expect: Option<At<String>>,
}

/// Reads `check` of a directory or server.
pub(super) fn read(p: &mut Problems, section: &mut Section<'_>) -> Option<Written> {
    let mut section = section.section(p, "check", Kind::Check)?;
    let written = Written {
        place: section.place.clone(),
        interval: section.duration(p, "interval", Duration::ZERO, 24 * HOUR),
        timeout: section.duration(p, "timeout", 10 * MILLISECOND, HOUR),
        rise: section.count(p, "rise", 1, 1000),
        fall: section.count(p, "fall", 1, 1000),
        bind: check_bind::read(p, &mut section),
        base: section.string(p, "base"),
        scope: section.choice(p, "scope", &SCOPES, &[]),
        filter: section.string(p, "filter"),
        expect: section.string(p, "expect"),
    };
    section.finish(p);
    Some(written)
}

/// The check of a server: its own settings, then the directory's, then defaults. The outer none: something is wrong.
#[allow(clippy::option_option)]
pub(super) fn server(
    p: &mut Problems,
    directory: Option<&Written>,
    own: Option<&Written>,
    folder: &Folder,
) -> Option<Option<Arc<Check>>> {
    let all: Vec<&Written> = own.into_iter().chain(directory).collect();
    let Some(first) = all.first() else { return Some(None) };
    let length = |of: fn(&Written) -> Option<&At<Duration>>, default: Duration| {
        all.iter()
            .find_map(|written| of(written))
            .map_or(default, |at| at.value)
    };
    let count = |of: fn(&Written) -> Option<&At<usize>>, default: u32| {
        let found = all.iter().find_map(|written| of(written));
        found.map_or(default, |at| u32::try_from(at.value).unwrap_or(default))
    };
    let interval = length(|written| written.interval.as_ref(), Duration::from_secs(10));
    let timeout = length(|written| written.timeout.as_ref(), Duration::from_secs(2));
    if interval.is_zero() {
        return Some(None);
    }
    if timeout > interval {
        p.error(&first.place, "`timeout` of a check is longer than its `interval`")
            .label(format!(
                "timeout is {}, interval is {}",
                show_duration(timeout),
                show_duration(interval)
            ))
            .help("make `timeout` at most `interval`");
        return None;
    }
    let named = |written: &&&Written| written.bind.is_written();
    let bind = match all.iter().find(named) {
        Some(written) => check_bind::check(p, &written.place, &written.bind, folder)?,
        None => None,
    };
    let base = all.iter().find_map(|written| written.base.as_ref());
    // The root DSE has no name.
    let named = base.filter(|at| !at.value.is_empty());
    if named.is_some_and(|base| !check_directory::check_dn(p, "base", base)) {
        return None;
    }
    let scope = all.iter().find_map(|written| written.scope.as_ref());
    Some(Some(Arc::new(Check {
        interval,
        timeout,
        rise: count(|written| written.rise.as_ref(), 2),
        fall: count(|written| written.fall.as_ref(), 3),
        bind,
        base: base.map_or_else(String::new, |at| at.value.clone()),
        scope: scope.map_or(Scope::Base, |at| at.value),
        filter: filter(p, all.iter().find_map(|written| written.filter.as_ref()))?,
        expect: expect(p, all.iter().find_map(|written| written.expect.as_ref()))?,
    })))
}

fn filter(p: &mut Problems, written: Option<&At<String>>) -> Option<Vec<u8>> {
    match filter::parse(written.map_or(FILTER_DEFAULT, |at| at.value.as_str())) {
        Ok(encoded) => Some(encoded),
        Err(error) => {
            if let Some(at) = written {
                p.error(&at.place, "`filter` is not a filter (RFC 4515)")
                    .label(error.to_string());
            }
            None
        }
    }
}

fn expect(p: &mut Problems, written: Option<&At<String>>) -> Option<Expect> {
    let Some(at) = written.filter(|at| at.value != "entry") else {
        return Some(Expect::Entry);
    };
    let is_name = |name: &str| {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b';' | b'.');
        !name.is_empty() && name.bytes().all(sound)
    };
    match at.value.split_once('=') {
        Some((attribute, value)) if is_name(attribute) && !value.is_empty() => Some(Expect::Value {
            attribute: attribute.to_owned(),
            value: value.to_owned(),
        }),
        _ => {
            p.error(&at.place, "`expect` says what must come")
                .label(format!("found \"{}\"", at.value))
                .help("write expect = \"entry\", or an attribute and its value: expect = \"isSynchronized=TRUE\"");
            None
        }
    }
}
