//! What the configuration of a service means.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// `[service.NAME]`: a pool of helpers, or a program run for each request.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name in the file and in calls.
    pub name: String,
    /// What runs it.
    pub kind: ServiceKind,
    /// Program (absolute, or found on PATH at load) and arguments; never a shell. For built-in helpers the daemon's own
    /// executable, `helper`, and the name.
    pub program: Vec<String>,
    /// Helpers kept running, 1; 0: started on demand. At most `max`. Without meaning for `exec`.
    pub min: usize,
    /// Helpers, or programs, at once, 16.
    pub max: usize,
    /// Idle helpers kept beside the busy ones while `max` allows it, 0.
    pub min_spare: usize,
    /// A helper beyond `min` and `min_spare` that was not needed for so long ends, 60 s; zero: it stays.
    pub idle_timeout: Duration,
    /// Helpers started in one second at most, 32; up to `min` at this rate, beyond it at one that doubles while demand lasts.
    pub spawn_rate: usize,
    /// Helpers that are starting at the same time, at most, 8.
    pub starting_max: usize,
    /// From its start to its `ready`, 10 s; then it is killed and counts as crashed.
    pub start_timeout: Duration,
    /// Requests that wait, 1,000.
    pub queue_max: usize,
    /// Longest wait in the queue, 10 s.
    pub queue_timeout: Duration,
    /// Deadline of a request, 30 s; a caller may ask for less.
    pub request_timeout: Duration,
    /// Between the interrupt and the kill, and between the goodbye and the kill, 1 s.
    pub grace: Duration,
    /// A helper is replaced after about so many calls (10 % more or fewer, by chance); 0: never.
    pub requests_max: usize,
    /// A helper is replaced after about so long (10 % more or less, by chance); zero: never.
    pub lifetime: Duration,
    /// A helper whose resident memory is larger is replaced, bytes; 0: never.
    pub memory_max: usize,
    /// So many crashes within `crash_window`, 10, and helpers are started only after a back-off.
    pub crash_max: usize,
    /// See `crash_max`, 60 s.
    pub crash_window: Duration,
    /// The first back-off, 500 ms; it doubles.
    pub retry_min: Duration,
    /// The longest back-off, 30 s.
    pub retry_max: Duration,
    /// Calls that one helper is given at once, where it declares as many, 1.
    pub concurrency: usize,
    /// As whom it runs; none: as the daemon's user.
    pub user: Option<User>,
    /// Its supplementary groups, where they are not the daemon's: those written, else those of `user`. Only with `user`
    /// or where they are written.
    pub groups: Option<Vec<u32>>,
    /// Its limits, see setrlimit(2).
    pub limits: ProcessLimits,
    /// What it may reach.
    pub sandbox: Sandbox,
    /// Working directory; none: `/`.
    pub directory: Option<PathBuf>,
    /// The program's whole environment, what is handed on of the daemon's own included.
    pub environment: BTreeMap<String, String>,
    /// With `transport = "dbus"`: which method is called; none: that of our own interface.
    pub dbus: Option<DbusMethod>,
    /// Memory shared with each helper, bytes, half of it for requests and half for answers, 128 KiB; 0: none, always so
    /// with `transport = "dbus"` and with more calls at once than one.
    pub shared_memory: usize,
    /// Largest answer, 16 MiB.
    pub reply_bytes_max: usize,
    /// A call that takes longer is logged, 1 s; zero: none is.
    pub slow_log: Duration,
}

/// What runs a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// A program for each request: request on its standard input, answer on its standard output.
    Exec,
    /// Processes that stay and take one request after the other.
    Helper {
        /// How they are spoken to.
        transport: Transport,
        /// Which of ours; none: the user's own program.
        builtin: Option<Builtin>,
    },
}

/// Helpers that come with the daemon: `usherd helper NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// Users, groups and authentication of a Windows domain, by libwbclient.
    Winbind,
    /// Authentication by libpam.
    Pam,
    /// Statements of a database.
    Sql,
}

/// How a helper is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// docs/helper-protocol.md.
    Seqpacket,
    /// docs/helper-dbus.md.
    Dbus,
}

/// A method of a program's own, called instead of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbusMethod {
    /// The object.
    pub path: String,
    /// Its interface.
    pub interface: String,
    /// The method.
    pub method: String,
    /// What it takes and answers is text (`s`); else bytes (`ay`).
    pub text: bool,
}

/// A user of this machine, looked up at load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
}

/// Limits of a process; what is none is as the daemon's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Descriptors (RLIMIT_NOFILE).
    pub nofile: Option<u64>,
    /// Bytes of address space (RLIMIT_AS).
    pub address_space: Option<u64>,
    /// Processor time of its whole life, whole seconds (RLIMIT_CPU).
    pub cpu: Option<Duration>,
    /// Bytes of a core file (RLIMIT_CORE).
    pub core: Option<u64>,
    /// Processes of its user (RLIMIT_NPROC).
    pub processes: Option<u64>,
    /// Bytes of a file that it writes (RLIMIT_FSIZE).
    pub file_size: Option<u64>,
}

/// What a helper may reach; enforced by Landlock and seccomp, see docs/services.md.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// How much is forbidden.
    pub profile: SandboxProfile,
    /// Absolute paths that may be read beyond the profile's.
    pub read: Vec<PathBuf>,
    /// Absolute paths that may be read and written.
    pub write: Vec<PathBuf>,
    /// Whether it may use internet sockets; unix sockets it may.
    pub network: bool,
}

/// How much a sandbox forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SandboxProfile {
    /// Nothing.
    #[default]
    None,
    /// Files outside the system's folders, the program's own and the paths given; system calls of administration.
    Standard,
    /// The same, and the start of other programs.
    Strict,
}

impl Service {
    /// How its helpers are spoken to.
    pub fn transport(&self) -> Transport {
        match self.kind {
            ServiceKind::Helper { transport, .. } => transport,
            ServiceKind::Exec => Transport::Seqpacket,
        }
    }
}

#[cfg(test)]
impl Service {
    /// A service with every default, for tests.
    pub fn sample(kind: ServiceKind, program: &[&str]) -> Service {
        Service {
            name: "test".into(),
            kind,
            program: program.iter().map(|word| (*word).to_owned()).collect(),
            min: 1,
            max: 16,
            min_spare: 0,
            idle_timeout: Duration::from_secs(60),
            spawn_rate: 32,
            starting_max: 8,
            start_timeout: Duration::from_secs(10),
            queue_max: 1000,
            queue_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(1),
            requests_max: 0,
            lifetime: Duration::ZERO,
            memory_max: 0,
            crash_max: 10,
            crash_window: Duration::from_secs(60),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            concurrency: 1,
            user: None,
            groups: None,
            limits: ProcessLimits::default(),
            sandbox: Sandbox {
                network: true,
                ..Sandbox::default()
            },
            directory: None,
            environment: BTreeMap::new(),
            dbus: None,
            shared_memory: 128 << 10,
            reply_bytes_max: 16 << 20,
            slow_log: Duration::from_secs(1),
        }
    }
}
