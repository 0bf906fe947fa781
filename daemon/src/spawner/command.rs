//! The command line of a service's process: its program itself, or the trampoline where the service asks for what only a
//! process can do to itself.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::config::plan::{Builtin, ProcessLimits, SandboxProfile, Service, ServiceKind, Transport};
use crate::trampoline::{self, Jail, Limits, Report, Sandbox, User};

/// What is to be started.
pub(super) struct Prepared {
    /// Program, arguments, environment and working directory.
    pub(super) command: Command,
    /// What standard error begins with where the trampoline cannot do what was asked.
    pub(super) refusal: Option<String>,
}

/// How a service's process is started.
///
/// # Errors
/// No program is configured.
pub(super) fn prepare(service: &Service) -> io::Result<Prepared> {
    let Some((program, arguments)) = service.program.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is configured"));
    };
    let directory = service.directory.as_deref().unwrap_or(Path::new("/"));
    let plain = service.user.is_none()
        && service.groups.is_none()
        && service.limits == ProcessLimits::default()
        && service.sandbox.profile == SandboxProfile::None;
    if plain {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(&service.environment)
            .current_dir(directory);
        return Ok(Prepared { command, refusal: None });
    }
    let refusal = (service.kind == ServiceKind::Exec).then(nonce);
    let jail = jail(service, directory, refusal.as_deref());
    let description = serde_json::to_string(&jail)?;
    let mut command = Command::new(trampoline::OURSELVES);
    command
        .args([trampoline::COMMAND, &description])
        .env_clear()
        .envs(&service.environment)
        .current_dir("/");
    Ok(Prepared { command, refusal })
}

fn jail(service: &Service, directory: &Path, refusal: Option<&str>) -> Jail {
    let limits = &service.limits;
    let sandbox = &service.sandbox;
    let pam = matches!(
        service.kind,
        ServiceKind::Helper {
            builtin: Some(Builtin::Pam),
            ..
        }
    );
    Jail {
        program: service.program.clone(),
        parent: std::process::id(),
        directory: directory.to_owned(),
        user: service.user.as_ref().map(|user| User {
            uid: user.uid,
            gid: user.gid,
        }),
        groups: service.groups.clone(),
        limits: Limits {
            nofile: limits.nofile,
            address_space: limits.address_space,
            cpu: limits.cpu.map(|time| time.as_secs()),
            core: limits.core,
            processes: limits.processes,
            file_size: limits.file_size,
        },
        // PAM's unix_chkpwd is set-user-id.
        no_new_privs: !pam || sandbox.profile != SandboxProfile::None,
        sandbox: (sandbox.profile != SandboxProfile::None).then(|| Sandbox {
            strict: sandbox.profile == SandboxProfile::Strict,
            read: sandbox.read.clone(),
            write: sandbox.write.clone(),
            network: sandbox.network,
        }),
        report: match (refusal, service.transport()) {
            (Some(word), _) => Report::Errors(word.to_owned()),
            (None, Transport::Seqpacket) => Report::Socket,
            (None, Transport::Dbus) => Report::Dbus,
        },
    }
}

/// A word that the program cannot know, because it is gone from the command line when the program runs.
fn nonce() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = || RandomState::new().hash_one(std::process::id());
    format!("usherd-{:016x}{:016x}: ", random(), random())
}
