//! `[server]`, as written.

use std::time::Duration;

use super::diagnostic::{At, Problems};
use super::plan::UPGRADE_TIMEOUT_MAX;
use super::reader::Section;
use super::values::DURATION_MAX;
use crate::gssapi::Bounds;

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const GIB: usize = 1 << 30;

/// `[server]`.
#[derive(Debug, Default)]
pub struct Server {
    /// 0: one per CPU; negative: CPUs minus that many.
    pub workers: Option<At<i64>>,
    /// Where feeds keep their state.
    pub state_dir: Option<At<String>>,
    /// Path of the control socket.
    pub control: Option<At<String>>,
    /// Address of the HTTP side.
    pub admin: Option<At<String>>,
    /// See `plan::Server`.
    pub clients_max: Option<At<usize>>,
    /// See `plan::Server`.
    pub outbox_bytes_total: Option<At<usize>>,
    /// See `gssapi::Bounds`.
    pub gssapi_threads: Option<At<usize>>,
    /// See `gssapi::Bounds`.
    pub gssapi_waiting_max: Option<At<usize>>,
    /// See `gssapi::Bounds`.
    pub gssapi_token_bytes_max: Option<At<usize>>,
    /// Where the daemon is.
    pub location: Option<At<String>>,
    /// See `DnsPlan`.
    pub dns_servers: Option<At<Vec<At<String>>>>,
    /// See `DnsPlan`.
    pub dns_timeout: Option<At<Duration>>,
    /// See `plan::Server`.
    pub drain_gentle: Option<At<Duration>>,
    /// See `plan::Server`.
    pub drain_firm: Option<At<Duration>>,
    /// See `plan::Server`.
    pub upgrade_timeout: Option<At<Duration>>,
    /// See `plan::Server`.
    pub upgrade_linger: Option<At<Duration>>,
}

impl Server {
    /// How much is asked of Kerberos.
    pub(super) fn gssapi(&self) -> Bounds {
        let default = Bounds::default();
        let written = |setting: &Option<At<usize>>, default| setting.as_ref().map_or(default, |at| at.value);
        Bounds {
            threads_max: written(&self.gssapi_threads, default.threads_max),
            waiting_max: written(&self.gssapi_waiting_max, default.waiting_max),
            token_bytes_max: written(&self.gssapi_token_bytes_max, default.token_bytes_max),
        }
    }
}

/// Reads it.
pub(super) fn read(p: &mut Problems, mut section: Section<'_>) -> Server {
    let server = Server {
        workers: section.integer(p, "workers", -1024, 1024),
        state_dir: section.string(p, "state_dir"),
        control: section.string(p, "control"),
        admin: section.string(p, "admin"),
        clients_max: section.count(p, "clients_max", 1, 10_000_000),
        outbox_bytes_total: section.size(p, "outbox_bytes_total", 1 << 20, 64 * GIB),
        gssapi_threads: section.count(p, "gssapi_threads", 1, Bounds::MOST.threads_max),
        gssapi_waiting_max: section.count(p, "gssapi_waiting_max", 1, Bounds::MOST.waiting_max),
        gssapi_token_bytes_max: section.size(
            p,
            "gssapi_token_bytes_max",
            Bounds::TOKEN_BYTES_LEAST,
            Bounds::MOST.token_bytes_max,
        ),
        location: section.string(p, "location"),
        dns_servers: section.strings(p, "dns_servers"),
        dns_timeout: section.duration(p, "dns_timeout", 10 * MILLISECOND, MINUTE),
        drain_gentle: section.duration(p, "drain_gentle", Duration::ZERO, DURATION_MAX),
        drain_firm: section.duration(p, "drain_firm", Duration::ZERO, HOUR),
        upgrade_timeout: section.duration(p, "upgrade_timeout", Duration::from_secs(1), UPGRADE_TIMEOUT_MAX),
        upgrade_linger: section.duration(p, "upgrade_linger", Duration::ZERO, DURATION_MAX),
    };
    section.finish(p);
    server
}
