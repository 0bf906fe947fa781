//! What a person wrote about a service: every setting with its place, nothing resolved, no default filled in.

use std::time::Duration;

use super::diagnostic::{At, Place, Problems};
use super::helper_dbus::{self, Dbus};
use super::identity_helpers::{self, Pam, Winbind};
use super::keys::Kind;
use super::plan::{ProcessLimits, SandboxProfile, Transport};
use super::reader::Section;
use super::sql::{self, Sql};

/// `[service.NAME]`.
#[derive(Debug)]
pub struct Service {
    /// The section.
    pub place: Place,
    /// `helper`; none: a program that speaks the helper protocol.
    pub helper: Option<At<Helper>>,
    /// Program and arguments.
    pub program: Option<At<Vec<At<String>>>>,
    /// Settings of helpers that stay.
    pub stay: HelperBounds,
    /// See `plan::Service`.
    pub max: Option<At<usize>>,
    /// See `plan::Service`.
    pub queue_max: Option<At<usize>>,
    /// See `plan::Service`.
    pub queue_timeout: Option<At<Duration>>,
    /// See `plan::Service`.
    pub request_timeout: Option<At<Duration>>,
    /// See `plan::Service`.
    pub grace: Option<At<Duration>>,
    /// See `plan::Service`.
    pub reply_bytes_max: Option<At<usize>>,
    /// See `plan::Service`.
    pub slow_log: Option<At<Duration>>,
    /// Name or number of a user.
    pub user: Option<At<String>>,
    /// Names or numbers of groups.
    pub groups: Option<At<Vec<At<String>>>>,
    /// `limits`.
    pub limits: ProcessLimits,
    /// `sandbox`.
    pub sandbox: Option<Sandbox>,
    /// Working directory.
    pub directory: Option<At<String>>,
    /// Environment.
    pub environment: Vec<(At<String>, At<String>)>,
    /// Names of the daemon's own variables that are handed on.
    pub environment_pass: Option<At<Vec<At<String>>>>,
    /// `[service.NAME.dbus]`.
    pub dbus: Option<Dbus>,
    /// `[service.NAME.winbind]`.
    pub winbind: Option<Winbind>,
    /// `[service.NAME.pam]`.
    pub pam: Option<Pam>,
    /// `[service.NAME.sql]`.
    pub sql: Option<Sql>,
}

/// What runs a service, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    /// A program run for each request.
    Exec,
    /// Built in.
    Winbind,
    /// Built in.
    Pam,
    /// Built in.
    Sql,
}

impl Helper {
    /// The word in the file, and of `usherd helper`.
    pub fn word(self) -> &'static str {
        HELPERS
            .iter()
            .find(|(_, helper)| *helper == self)
            .map_or("", |(word, _)| word)
    }
}

/// The words of `helper`.
pub const HELPERS: [(&str, Helper); 4] = [
    ("exec", Helper::Exec),
    ("winbind", Helper::Winbind),
    ("pam", Helper::Pam),
    ("sql", Helper::Sql),
];

/// The words of `transport`.
pub const TRANSPORTS: [(&str, Transport); 2] = [("seqpacket", Transport::Seqpacket), ("dbus", Transport::Dbus)];

/// The words of a sandbox's `profile`.
pub const PROFILES: [(&str, SandboxProfile); 3] = [
    ("none", SandboxProfile::None),
    ("standard", SandboxProfile::Standard),
    ("strict", SandboxProfile::Strict),
];

/// Settings that have no meaning where a program is run for each request. See `plan::Service` for each.
#[derive(Debug, Default)]
pub struct HelperBounds {
    /// `transport`.
    pub transport: Option<At<Transport>>,
    /// `min`.
    pub min: Option<At<usize>>,
    /// `min_spare`.
    pub min_spare: Option<At<usize>>,
    /// `idle_timeout`.
    pub idle_timeout: Option<At<Duration>>,
    /// `spawn_rate`.
    pub spawn_rate: Option<At<usize>>,
    /// `starting_max`.
    pub starting_max: Option<At<usize>>,
    /// `start_timeout`.
    pub start_timeout: Option<At<Duration>>,
    /// `requests_max`.
    pub requests_max: Option<At<usize>>,
    /// `lifetime`.
    pub lifetime: Option<At<Duration>>,
    /// `memory_max`.
    pub memory_max: Option<At<usize>>,
    /// `crash_max`.
    pub crash_max: Option<At<usize>>,
    /// `crash_window`.
    pub crash_window: Option<At<Duration>>,
    /// `retry_min`.
    pub retry_min: Option<At<Duration>>,
    /// `retry_max`.
    pub retry_max: Option<At<Duration>>,
    /// `concurrency`.
    pub concurrency: Option<At<usize>>,
    /// `shared_memory`.
    pub shared_memory: Option<At<usize>>,
}

impl HelperBounds {
    /// Those that are written, with their places.
    pub fn written(&self) -> Vec<(&'static str, &Place)> {
        fn at<'a, T>(key: &'static str, value: &'a Option<At<T>>) -> Option<(&'static str, &'a Place)> {
            value.as_ref().map(|at| (key, &at.place))
        }
        let all = [
            at("transport", &self.transport),
            at("min", &self.min),
            at("min_spare", &self.min_spare),
            at("idle_timeout", &self.idle_timeout),
            at("spawn_rate", &self.spawn_rate),
            at("starting_max", &self.starting_max),
            at("start_timeout", &self.start_timeout),
            at("requests_max", &self.requests_max),
            at("lifetime", &self.lifetime),
            at("memory_max", &self.memory_max),
            at("crash_max", &self.crash_max),
            at("crash_window", &self.crash_window),
            at("retry_min", &self.retry_min),
            at("retry_max", &self.retry_max),
            at("concurrency", &self.concurrency),
            at("shared_memory", &self.shared_memory),
        ];
        all.into_iter().flatten().collect()
    }
}

/// `sandbox = { … }`.
#[derive(Debug)]
pub struct Sandbox {
    /// The table.
    pub place: Place,
    /// `profile`.
    pub profile: Option<At<SandboxProfile>>,
    /// Paths that may be read beyond the profile's.
    pub read: Option<At<Vec<At<String>>>>,
    /// Paths that may be written.
    pub write: Option<At<Vec<At<String>>>>,
    /// Whether it may use the network.
    pub network: Option<At<bool>>,
}

impl Service {
    /// A service of which nothing is written.
    pub fn empty(place: Place) -> Service {
        Service {
            place,
            helper: None,
            program: None,
            stay: HelperBounds::default(),
            max: None,
            queue_max: None,
            queue_timeout: None,
            request_timeout: None,
            grace: None,
            reply_bytes_max: None,
            slow_log: None,
            user: None,
            groups: None,
            limits: ProcessLimits::default(),
            sandbox: None,
            directory: None,
            environment: Vec::new(),
            environment_pass: None,
            dbus: None,
            winbind: None,
            pam: None,
            sql: None,
        }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const GIB: usize = 1 << 30;
/// Helpers of one service, at most.
const HELPERS_MAX: usize = 10_000;

/// Reads one service.
pub(super) fn read(p: &mut Problems, mut section: Section<'_>) -> Service {
    let limits = section.section(p, "limits", Kind::Limits);
    let sandbox = section.section(p, "sandbox", Kind::Sandbox);
    let dbus = section.section(p, "dbus", Kind::HelperDbus);
    let winbind = section.section(p, "winbind", Kind::Winbind);
    let pam = section.section(p, "pam", Kind::Pam);
    let sql = section.section(p, "sql", Kind::Sql);
    let service = Service {
        place: section.place.clone(),
        helper: section.choice(p, "helper", &HELPERS, &[]),
        program: section.strings(p, "program"),
        stay: read_stay(p, &mut section),
        max: section.count(p, "max", 1, HELPERS_MAX),
        queue_max: section.count(p, "queue_max", 0, 1_000_000),
        queue_timeout: section.duration(p, "queue_timeout", MILLISECOND, HOUR),
        request_timeout: section.duration(p, "request_timeout", MILLISECOND, 24 * HOUR),
        grace: section.duration(p, "grace", Duration::ZERO, HOUR),
        reply_bytes_max: section.size(p, "reply_bytes_max", 1, GIB),
        slow_log: section.duration(p, "slow_log", Duration::ZERO, 24 * HOUR),
        user: section.string(p, "user"),
        groups: section.strings(p, "groups"),
        limits: limits.map(|section| read_limits(p, section)).unwrap_or_default(),
        sandbox: sandbox.map(|section| read_sandbox(p, section)),
        directory: section.string(p, "directory"),
        environment: section.string_table(p, "environment").unwrap_or_default(),
        environment_pass: section.strings(p, "environment_pass"),
        dbus: dbus.map(|section| helper_dbus::read(p, section)),
        winbind: winbind.map(|section| identity_helpers::read_winbind(p, section)),
        pam: pam.map(|section| identity_helpers::read_pam(p, section)),
        sql: sql.map(|section| sql::read(p, section)),
    };
    section.finish(p);
    service
}

fn read_stay(p: &mut Problems, section: &mut Section<'_>) -> HelperBounds {
    HelperBounds {
        transport: section.choice(p, "transport", &TRANSPORTS, &[]),
        min: section.count(p, "min", 0, HELPERS_MAX),
        min_spare: section.count(p, "min_spare", 0, HELPERS_MAX),
        idle_timeout: section.duration(p, "idle_timeout", Duration::ZERO, 24 * HOUR),
        spawn_rate: section.count(p, "spawn_rate", 1, 10_000),
        starting_max: section.count(p, "starting_max", 1, HELPERS_MAX),
        start_timeout: section.duration(p, "start_timeout", 10 * MILLISECOND, HOUR),
        requests_max: section.count(p, "requests_max", 0, 1_000_000_000),
        lifetime: section.duration(p, "lifetime", Duration::ZERO, super::values::DURATION_MAX),
        memory_max: section.size(p, "memory_max", 0, 1024 * GIB),
        crash_max: section.count(p, "crash_max", 1, 10_000),
        crash_window: section.duration(p, "crash_window", SECOND, 24 * HOUR),
        retry_min: section.duration(p, "retry_min", 10 * MILLISECOND, HOUR),
        retry_max: section.duration(p, "retry_max", 10 * MILLISECOND, 24 * HOUR),
        concurrency: section.count(p, "concurrency", 1, 10_000),
        shared_memory: section.size(p, "shared_memory", 0, GIB),
    }
}

fn read_limits(p: &mut Problems, mut section: Section<'_>) -> ProcessLimits {
    let number = |n: Option<At<usize>>| n.map(|at| at.value as u64);
    let limits = ProcessLimits {
        nofile: number(section.count(p, "nofile", 8, 10_000_000)),
        address_space: number(section.size(p, "address_space", 1 << 20, 1024 * GIB)),
        cpu: section
            .duration(p, "cpu", SECOND, super::values::DURATION_MAX)
            .map(|at| at.value),
        core: number(section.size(p, "core", 0, 1024 * GIB)),
        processes: number(section.count(p, "processes", 1, 10_000_000)),
        file_size: number(section.size(p, "file_size", 0, 1024 * GIB)),
    };
    section.finish(p);
    limits
}

fn read_sandbox(p: &mut Problems, mut section: Section<'_>) -> Sandbox {
    let sandbox = Sandbox {
        place: section.place.clone(),
        profile: section.choice(p, "profile", &PROFILES, &[]),
        read: section.strings(p, "read"),
        write: section.strings(p, "write"),
        network: section.boolean(p, "network"),
    };
    section.finish(p);
    sandbox
}
