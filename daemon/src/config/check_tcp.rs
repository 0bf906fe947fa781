//! `keepalive` and `tcp_user_timeout` of listeners, directories and servers, and `tcp_unsent_bytes_max` of listeners.

use std::time::Duration;

use super::diagnostic::{At, Problems};
use super::keys::Kind;
use super::raw::{Listen, Protocol};
use super::reader::Section;
use crate::net::tcp::{Keepalive, TcpOptions};

const SECOND: Duration = Duration::from_secs(1);
/// What the system takes (seconds and milliseconds in 31 bits, and less).
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
const HOUR: Duration = Duration::from_secs(3600);

/// The settings of `keepalive`.
pub(super) const KEYS: &[&str] = &["idle", "interval", "count"];

/// As written.
#[derive(Debug, Default)]
pub struct Written {
    /// `keepalive`, with its defaults.
    pub keepalive: Option<At<Keepalive>>,
    /// `tcp_user_timeout`; zero: the system's.
    pub user_timeout: Option<At<Duration>>,
}

/// Reads both.
pub(super) fn read(p: &mut Problems, section: &mut Section<'_>) -> Written {
    let keepalive = section.section(p, "keepalive", Kind::Keepalive).map(|mut table| {
        let place = table.place.clone();
        let mut length = |key, default| {
            let written = table.duration(p, key, SECOND, KEEPALIVE_MAX);
            written.map_or(default, |at| at.value)
        };
        let (idle, interval) = (length("idle", 60 * SECOND), length("interval", 10 * SECOND));
        let count = table.count(p, "count", 1, 127).map_or(3, |at| at.value);
        table.finish(p);
        let keepalive = Keepalive {
            idle,
            interval,
            count: u32::try_from(count).unwrap_or(3),
        };
        At::new(keepalive, place)
    });
    Written {
        keepalive,
        user_timeout: section.duration(p, "tcp_user_timeout", Duration::ZERO, HOUR),
    }
}

/// Of an LDAP client's connection, where nothing is said. Other listeners' answers are few and large: the system's is theirs.
const UNSENT_BYTES_MAX: u32 = 128 * 1024;

/// Those of a listener's connections.
pub(super) fn listener(listen: &Listen, protocol: Protocol) -> TcpOptions {
    let written = listen.unsent_bytes_max.as_ref();
    let default = matches!(protocol, Protocol::Ldap | Protocol::Ldaps).then_some(UNSENT_BYTES_MAX);
    TcpOptions {
        unsent_bytes_max: written
            .map(|at| u32::try_from(at.value).unwrap_or(u32::MAX))
            .or(default),
        ..listen.tcp.options(None)
    }
}

impl Written {
    /// What it means, where `general` says what is not written here.
    pub(super) fn options(&self, general: Option<&Written>) -> TcpOptions {
        let keepalive = self
            .keepalive
            .as_ref()
            .or(general.and_then(|all| all.keepalive.as_ref()));
        let user_timeout = self
            .user_timeout
            .as_ref()
            .or(general.and_then(|all| all.user_timeout.as_ref()));
        TcpOptions {
            keepalive: keepalive.map(|at| at.value),
            user_timeout: user_timeout.map(|at| at.value).filter(|timeout| !timeout.is_zero()),
            unsent_bytes_max: None,
        }
    }

    /// What is written, with its place.
    pub(super) fn places(&self) -> [(&'static str, Option<&super::diagnostic::Place>); 2] {
        [
            ("keepalive", self.keepalive.as_ref().map(|at| &at.place)),
            ("tcp_user_timeout", self.user_timeout.as_ref().map(|at| &at.place)),
        ]
    }
}
