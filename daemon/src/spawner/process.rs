//! One process that the daemon has started, and owns until it is reaped.
//!
//! It leads a process group, so that what it starts is reached by the same signal. A pidfd tells of its end. Until it is
//! reaped its number, and its group's, belong to nobody else: no signal hits a stranger.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Dropped before it was reaped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Pid,
    /// Readable once the process has ended.
    end: OwnedFd,
    reaped: bool,
}

impl Process {
    /// Starts what `command` says, at the head of a group of its own.
    ///
    /// # Errors
    /// The system's: no such program, no permission, out of processes or descriptors.
    pub fn start(command: &mut Command) -> io::Result<Process> {
        super::heed_signals();
        let mut child = command.process_group(0).spawn()?;
        match watched(&child) {
            Ok((group, end)) => Ok(Process {
                child,
                group,
                end,
                reaped: false,
            }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Its three pipes, where it was started with pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id, which is its group's too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its end into the poll.
    ///
    /// # Errors
    /// The system's.
    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.end.as_raw_fd()), token, Interest::READABLE)
    }

    /// Its end out of the poll.
    pub fn deregister(&self, registry: &Registry) {
        let _ = registry.deregister(&mut SourceFd(&self.end.as_raw_fd()));
    }

    /// SIGINT to it and what it has started.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// SIGTERM to it and what it has started.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGKILL to it and what it has started.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// How it ended, if it has; from then on its number may be somebody else's, and nothing is signalled any more.
    pub fn reap(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten();
        self.reaped |= status.is_some();
        status
    }

    fn signal(&self, signal: Signal) {
        if !self.reaped
            && let Err(error) = kill_process_group(self.group, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(pid = self.id(), ?signal, %error, "a program cannot be signalled");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

fn watched(child: &Child) -> io::Result<(Pid, OwnedFd)> {
    let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = raw.ok_or_else(|| io::Error::other("the process has no number"))?;
    Ok((pid, pidfd_open(pid, PidfdFlags::empty())?))
}
