//! A program that is run for one request: its three pipes beside the process.

use std::io;
use std::process::{ExitStatus, Stdio};

use mio::unix::pipe;
use mio::{Interest, Registry, Token};

use super::command::{self, Prepared};
use super::process::Process;
use crate::config::plan::Service;

/// A program that was started and has not been reaped.
#[derive(Debug)]
pub struct Program {
    process: Process,
    /// Its standard input, until everything is written.
    pub stdin: Option<pipe::Sender>,
    /// Its standard output, until its end.
    pub stdout: Option<pipe::Receiver>,
    /// Its standard error, until its end.
    pub stderr: Option<pipe::Receiver>,
    /// What its standard error begins with where it could not be made what its service asks for.
    refusal: Option<String>,
}

impl Program {
    /// Starts a service's program.
    ///
    /// # Errors
    /// The system's: no such program, no permission, out of processes or descriptors.
    pub fn start(service: &Service) -> io::Result<Program> {
        let Prepared { mut command, refusal } = command::prepare(service)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let child = process.child();
        let stdin = child.stdin.take().map(pipe::Sender::from);
        let stdout = child.stdout.take().map(pipe::Receiver::from);
        let stderr = child.stderr.take().map(pipe::Receiver::from);
        let program = Program {
            process,
            stdin,
            stdout,
            stderr,
            refusal,
        };
        for receiver in [&program.stdout, &program.stderr].into_iter().flatten() {
            receiver.set_nonblocking(true)?;
        }
        if let Some(sender) = &program.stdin {
            sender.set_nonblocking(true)?;
        }
        Ok(program)
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
        self.process.register(registry, to_end)
    }

    /// Out of the poll; the descriptors close when it is dropped.
    pub fn deregister(&mut self, registry: &Registry) {
        for mut receiver in [self.stdout.take(), self.stderr.take()].into_iter().flatten() {
            let _ = registry.deregister(&mut receiver);
        }
        self.close_stdin(registry);
        self.process.deregister(registry);
    }

    /// Its standard input is at its end.
    pub fn close_stdin(&mut self, registry: &Registry) {
        if let Some(mut sender) = self.stdin.take() {
            let _ = registry.deregister(&mut sender);
        }
    }

    /// Why it was never run, where what it has written to its standard error was written before it was.
    pub fn never_run<'a>(&self, errors: &'a str) -> Option<&'a str> {
        errors.strip_prefix(self.refusal.as_deref()?)
    }

    /// SIGINT to it and what it has started.
    pub fn interrupt(&self) {
        self.process.interrupt();
    }

    /// SIGKILL to it and what it has started.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// See [`Process::reap`].
    pub fn reap(&mut self) -> Option<ExitStatus> {
        self.process.reap()
    }
}
