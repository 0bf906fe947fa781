//! Starts programs, on a thread of its own: starting one takes about 0.6 ms, for which no client should wait.
//!
//! Nothing about a program goes through a shell: it is the configured list of words, with the configured environment and
//! nothing else of ours. It leads a process group, so that what it starts is reached by the same signal. Of our
//! descriptors it has its three pipes alone (close-on-exec); what the daemon itself was started with and did not open is
//! inherited by its programs too. `std` starts it by posix_spawn, which copies nothing of the daemon's memory and gives it
//! an empty signal mask.
//!
//! Whoever gets a [`Program`] owns the process: dropped before it was reaped, it is killed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use mio::unix::SourceFd;
use mio::unix::pipe;
use mio::{Interest, Registry, Token};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::config::plan::Service;
use crate::drive::Job;
use crate::drive::exec::{RunRef, Spawned};
use crate::worker::{Inbox, scheduling};

/// Programs that wait to be started; as many as a service can have at once, and more.
const ASKED_MAX: usize = 16_384;

/// A program that was started and has not been reaped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    group: Pid,
    /// Its standard input, until everything is written.
    pub stdin: Option<pipe::Sender>,
    /// Its standard output, until its end.
    pub stdout: Option<pipe::Receiver>,
    /// Its standard error, until its end.
    pub stderr: Option<pipe::Receiver>,
    /// Readable once the process has ended.
    end: OwnedFd,
    reaped: bool,
}

struct Ask {
    run: RunRef,
    service: Arc<Service>,
}

/// The way to the thread; it ends when the last of these is dropped.
#[derive(Debug)]
pub struct Spawner {
    asked: SyncSender<Ask>,
}

impl Spawner {
    /// Starts the thread; what it has started is told to `inbox`.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(inbox: Arc<Inbox>) -> io::Result<Spawner> {
        let (asked, asks) = sync_channel(ASKED_MAX);
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || serve(&asks, &inbox))?;
        Ok(Spawner { asked })
    }

    /// Asks for a program; the answer comes as [`Job::Spawned`].
    ///
    /// # Errors
    /// In words: too many are asked for already, or the thread is gone.
    pub fn ask(&self, run: RunRef, service: Arc<Service>) -> Result<(), &'static str> {
        self.asked.try_send(Ask { run, service }).map_err(|error| match error {
            TrySendError::Full(_) => "too many programs are being started",
            TrySendError::Disconnected(_) => "the thread that starts programs is gone",
        })
    }
}

fn serve(asks: &Receiver<Ask>, inbox: &Inbox) {
    // Programs are no workers.
    let _ = scheduling::set(scheduling::Policy::Normal);
    while let Ok(Ask { run, service }) = asks.recv() {
        let program = spawn(&service).map(Box::new).map_err(|error| error.to_string());
        // Bounded by what was asked for, and the worker waits for each.
        inbox.push_always(Job::Spawned(Spawned { run, program }));
    }
}

/// Starts a service's program.
///
/// # Errors
/// The system's: no such program, no permission, out of processes or descriptors.
pub fn spawn(service: &Service) -> io::Result<Program> {
    let Some((program, arguments)) = service.program.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is configured"));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&service.environment)
        .current_dir(service.directory.as_deref().unwrap_or("/".as_ref()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    match watched(&mut child) {
        Ok((group, end)) => Program::new(child, group, end),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn watched(child: &mut Child) -> io::Result<(Pid, OwnedFd)> {
    let raw = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = raw.ok_or_else(|| io::Error::other("the process has no number"))?;
    Ok((pid, pidfd_open(pid, PidfdFlags::empty())?))
}

impl Program {
    fn new(mut child: Child, group: Pid, end: OwnedFd) -> io::Result<Program> {
        let stdin = child.stdin.take().map(pipe::Sender::from);
        let stdout = child.stdout.take().map(pipe::Receiver::from);
        let stderr = child.stderr.take().map(pipe::Receiver::from);
        let program = Program {
            child,
            group,
            stdin,
            stdout,
            stderr,
            end,
            reaped: false,
        };
        for receiver in [&program.stdout, &program.stderr].into_iter().flatten() {
            receiver.set_nonblocking(true)?;
        }
        if let Some(sender) = &program.stdin {
            sender.set_nonblocking(true)?;
        }
        Ok(program)
    }

    /// Its process id, which is its group's too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Puts its four descriptors into the poll, under the tokens for standard input, output, error, and its end.
    ///
    /// # Errors
    /// The system's.
    pub fn register(&mut self, registry: &Registry, tokens: [Token; 4]) -> io::Result<()> {
        let [to_stdin, to_stdout, to_stderr, to_end] = tokens;
        if let Some(sender) = &mut self.stdin {
            registry.register(sender, to_stdin, Interest::WRITABLE)?;
        }
        if let Some(receiver) = &mut self.stdout {
            registry.register(receiver, to_stdout, Interest::READABLE)?;
        }
        if let Some(receiver) = &mut self.stderr {
            registry.register(receiver, to_stderr, Interest::READABLE)?;
        }
        registry.register(&mut SourceFd(&self.end.as_raw_fd()), to_end, Interest::READABLE)
    }

    /// Out of the poll; the descriptors close when it is dropped.
    pub fn deregister(&mut self, registry: &Registry) {
        for mut receiver in [self.stdout.take(), self.stderr.take()].into_iter().flatten() {
            let _ = registry.deregister(&mut receiver);
        }
        self.close_stdin(registry);
        let _ = registry.deregister(&mut SourceFd(&self.end.as_raw_fd()));
    }

    /// Its standard input is at its end.
    pub fn close_stdin(&mut self, registry: &Registry) {
        if let Some(mut sender) = self.stdin.take() {
            let _ = registry.deregister(&mut sender);
        }
    }

    /// SIGINT to it and what it has started.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
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

impl Drop for Program {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
            self.reap();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::plan::ServiceKind;

    fn service(program: &[&str]) -> Service {
        Service {
            max: 1,
            environment: BTreeMap::from([("WORD".into(), "value of ours".into())]),
            ..Service::sample(ServiceKind::Exec, program)
        }
    }

    fn ended(program: &mut Program) -> ExitStatus {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = program.reap() {
                return status;
            }
            assert!(Instant::now() < until, "the program did not end");
            std::thread::yield_now();
        }
    }

    fn output(pipe: Option<pipe::Receiver>) -> String {
        let mut pipe = pipe.unwrap();
        pipe.set_nonblocking(false).unwrap();
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_program_has_our_words_our_environment_and_nothing_else() {
        // One of our descriptors, which no program may find.
        let name = format!("usherd-spawner-test-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let ours = std::fs::File::create(&path).unwrap();
        let script =
            "pwd; env | grep -v ^PWD= | grep -v ^_= | grep -v ^SHLVL=; ls -l /proc/self/fd/ >&2; echo \"$1\"; cat";
        let mut program = spawn(&service(&["/bin/sh", "-c", script, "sh", "$(false) `x` ; *"])).unwrap();
        program.stdin.take().unwrap().write_all(b"the request").unwrap();
        assert_eq!(
            output(program.stdout.take()),
            "/\nWORD=value of ours\n$(false) `x` ; *\nthe request"
        );
        let descriptors = output(program.stderr.take());
        assert!(
            descriptors.contains("pipe:") && !descriptors.contains(&name),
            "{descriptors}"
        );
        drop(ours);
        std::fs::remove_file(path).unwrap();
        assert_eq!(ended(&mut program).code(), Some(0));
    }

    #[test]
    fn what_cannot_be_started_says_why() {
        let absent = spawn(&service(&["/nonexistent/program"])).unwrap_err();
        assert_eq!(absent.kind(), io::ErrorKind::NotFound);
        let no_program = spawn(&service(&["/etc/passwd"])).unwrap_err();
        assert_eq!(no_program.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn an_interrupt_reaches_what_the_program_started() {
        let mut program = spawn(&service(&[
            "/bin/sh",
            "-c",
            "trap 'exit 7' INT; /bin/sh -c 'echo ready; exec sleep 60'; exit 1",
        ]))
        .unwrap();
        let mut ready = [0; 6];
        let stdout = program.stdout.as_mut().unwrap();
        stdout.set_nonblocking(false).unwrap();
        stdout.read_exact(&mut ready).unwrap();
        program.interrupt();
        // The shell goes on only because the other one was interrupted too.
        assert_eq!(ended(&mut program).code(), Some(7));
    }

    #[test]
    fn a_dropped_program_is_killed() {
        let mut program = spawn(&service(&["/bin/sleep", "60"])).unwrap();
        let mut stdout = program.stdout.take().unwrap();
        stdout.set_nonblocking(false).unwrap();
        let begun = Instant::now();
        drop(program);
        // Its end of the pipe closes with it.
        assert_eq!(stdout.read(&mut [0; 1]).unwrap(), 0);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
