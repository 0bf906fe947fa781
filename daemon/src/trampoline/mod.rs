//! `usherd helper-exec`: becomes a service's program, with the user, limits and sandbox of the service.
//!
//! What a process may be is set by the process itself, between its start and its program. Doing that in the daemon's own
//! image would need a fork of it; so the daemon starts itself anew, small, and this is what runs then: one thread, nothing
//! of the daemon's memory, and at the end `execve`. It is used only by services that ask for something that a plain start
//! cannot do.
//!
//! The order matters: limits while it may still raise them; then groups and user, and a look whether they hold; then what
//! an unprivileged process may do to itself, the file system last but one, because it must still find its folder; system
//! calls last. Any failure is told exactly ([`Report`]) and nothing is run.

mod identity;
mod sandbox;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Resource, Rlimit, Signal, getppid, setrlimit, umask};
use serde::{Deserialize, Serialize};

pub use identity::User;
pub use sandbox::Sandbox;

/// The name of the command.
pub const COMMAND: &str = "helper-exec";
/// Where this very program is, even after its file was replaced.
pub const OURSELVES: &str = "/proc/self/exe";

/// What is asked for. It travels as an argument, so there is nothing secret in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jail {
    /// Program and arguments.
    pub program: Vec<String>,
    /// The daemon: when it ends, the program is killed.
    pub parent: u32,
    /// Working directory.
    pub directory: PathBuf,
    /// Whom it runs as; none: as the daemon.
    pub user: Option<User>,
    /// Its supplementary groups, all of them; none: the daemon's.
    pub groups: Option<Vec<u32>>,
    /// Limits.
    pub limits: Limits,
    /// Whether set-user-id programs that it starts gain anything.
    pub no_new_privs: bool,
    /// What of the system it reaches; none: what its user does.
    pub sandbox: Option<Sandbox>,
    /// How a failure is told.
    pub report: Report,
}

/// Resource limits, hard and soft alike; none: as the daemon has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Descriptors.
    pub nofile: Option<u64>,
    /// Bytes of address space.
    pub address_space: Option<u64>,
    /// Seconds of CPU time.
    pub cpu: Option<u64>,
    /// Bytes of a core file.
    pub core: Option<u64>,
    /// Processes of the user.
    pub processes: Option<u64>,
    /// Bytes of a file that it writes.
    pub file_size: Option<u64>,
}

/// How a failure is told to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Standard input is the socket of a helper: `unable`.
    Socket,
    /// Standard input is a helper's stream of D-Bus: `ERROR` in place of a handshake.
    Dbus,
    /// On standard error, behind this word, which nobody else knows.
    Errors(String),
}

/// Does it. Returns only if that fails.
pub fn run(description: &str) -> ExitCode {
    let jail: Jail = match serde_json::from_str(description) {
        Ok(jail) => jail,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "usherd {COMMAND} is started by the daemon alone: {error}"
            );
            return ExitCode::from(2);
        }
    };
    let why = match become_program(&jail) {
        Ok(never) => match never {},
        Err(why) => why,
    };
    match &jail.report {
        Report::Errors(word) => {
            let _ = write!(std::io::stderr(), "{word}{why}");
        }
        Report::Socket => {
            let mut message = Vec::new();
            wire::helper::write_unable(&mut message, &why);
            let _ = rustix::net::send(std::io::stdin(), &message, rustix::net::SendFlags::NOSIGNAL);
        }
        Report::Dbus => {
            let line: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let message = format!("\0ERROR {line}\r\n");
            let _ = rustix::net::send(std::io::stdin(), message.as_bytes(), rustix::net::SendFlags::NOSIGNAL);
        }
    }
    ExitCode::from(127)
}

fn become_program(jail: &Jail) -> Result<std::convert::Infallible, String> {
    let Some((program, arguments)) = jail.program.split_first() else {
        return Err("there is no program".into());
    };
    for (resource, limit, what) in jail.limits.each() {
        if let Some(limit) = limit {
            let both = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            setrlimit(resource, both).map_err(|error| format!("the limit of {what} cannot be {limit}: {error}"))?;
        }
    }
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    if let Some(groups) = &jail.groups {
        identity::set_groups(groups)?;
    }
    if let Some(user) = &jail.user {
        identity::set_user(user)?;
    }
    die_with(jail.parent)?;
    if jail.no_new_privs {
        rustix::thread::set_no_new_privs(true).map_err(|error| format!("no_new_privs: {error}"))?;
    }
    std::env::set_current_dir(&jail.directory)
        .map_err(|error| format!("the working directory {}: {error}", jail.directory.display()))?;
    if let Some(sandbox) = &jail.sandbox {
        sandbox.enter(program.as_ref())?;
    }
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{program}: {error}"))
}

/// Killed when the daemon ends, however that ends.
fn die_with(parent: u32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("the end of the daemon cannot be followed: {error}"))?;
    let now = getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get().cast_unsigned());
    // It may have ended before that was asked for.
    if now == Some(parent) {
        Ok(())
    } else {
        Err("the daemon has ended".into())
    }
}

impl Limits {
    fn each(&self) -> [(Resource, Option<u64>, &'static str); 6] {
        [
            (Resource::Nofile, self.nofile, "descriptors"),
            (Resource::As, self.address_space, "address space"),
            (Resource::Cpu, self.cpu, "CPU time"),
            (Resource::Core, self.core, "core files"),
            (Resource::Nproc, self.processes, "processes"),
            (Resource::Fsize, self.file_size, "file sizes"),
        ]
    }
}
