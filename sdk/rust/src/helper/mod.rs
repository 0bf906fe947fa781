//! The helper side: a program that usherd starts, keeps, and hands calls to, one at a time or as many as it has threads.
//!
//! [`serve`] is all that most helpers need. The handler gets a [`Call`] and returns the answer, or a [`Failure`] that the
//! caller is told; any error that `?` meets becomes one. What a helper prints goes to usherd's log.
//!
//! **Interrupts.** When nobody wants an answer any more, usherd says so, and SIGINT makes the blocking system call in which
//! the handler may be return with EINTR. Look at [`Call::interrupted`] then (or [`Call::check`], with `?`), and return;
//! if it says no, the signal was about a call that is over: go on waiting. A handler that does not come back within the
//! service's `grace` is killed with its process, and another takes its place.
//!
//! The protocol is `docs/helper-protocol.md`. States of a call: open from when all of it has come until its last message
//! is sent, exactly one of which there is; an interrupt of it is acknowledged after that, an interrupt of anything else
//! at once.

mod call;
mod inbox;
mod link;
mod one;
mod threads;

use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::{fmt, io};

use rustix::net::SocketType;
use wire::helper as codec;

pub use call::Call;
use inbox::Inbox;
use link::{Broken, Link};

/// The code of failures that were not given another.
pub const CODE_FAILED: u16 = 1;
/// The code of an answer that was larger than usherd takes.
pub const CODE_ANSWER_TOO_LARGE: u16 = 2;

/// Serves calls one after the other until usherd says goodbye or has gone. `software` is the helper's name and version
/// for people.
///
/// # Errors
/// The program was not started by usherd, or the socket to it failed.
pub fn serve<R: AsRef<[u8]>>(
    software: &str,
    handler: impl FnMut(&mut Call<'_>) -> Result<R, Failure>,
) -> Result<(), Error> {
    Helper::connect()?.serve(software, handler)
}

/// A helper that usherd has welcomed and that is not yet ready: what takes long, or may fail, is done now.
pub struct Helper {
    link: Link,
    inbox: Inbox,
}

impl Helper {
    /// Takes up the socket that is this program's standard input, which is empty from then on, and waits for usherd's
    /// welcome.
    ///
    /// # Errors
    /// The program was not started by usherd, or usherd speaks another protocol.
    pub fn connect() -> Result<Self, Error> {
        // Its own descriptor, so that nothing in the program closes it by closing its standard input.
        let socket = rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3).map_err(io::Error::from)?;
        if !matches!(rustix::net::sockopt::socket_type(&socket), Ok(SocketType::SEQPACKET)) {
            return Err(Error::NotStartedByUsherd);
        }
        // What the helper starts must not find the socket.
        let nothing = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing).map_err(io::Error::from)?;
        Self::over(socket)
    }

    /// As [`connect`](Self::connect), over another connected socket of type `SOCK_SEQPACKET`: for tests that play usherd.
    ///
    /// # Errors
    /// The peer does not speak the protocol.
    pub fn over(socket: OwnedFd) -> Result<Self, Error> {
        crate::system::interrupt_blocking_calls()?;
        let (link, inbox) = Link::welcomed(socket)?;
        Ok(Self { link, inbox })
    }

    /// The name of the service that this helper is for.
    #[must_use]
    pub fn service(&self) -> &str {
        self.link.service()
    }

    /// Says that the helper cannot take calls, and why, for people: callers that wait are told. What is returned is for
    /// `main` to return, so that the helper ends.
    #[must_use]
    pub fn unable(self, why: &str) -> Error {
        unable(&self.link, why);
        Error::Unable(why.to_string())
    }

    /// Says that the helper is ready, and serves calls one after the other until usherd says goodbye or has gone.
    ///
    /// # Errors
    /// The socket failed, or usherd broke the protocol.
    pub fn serve<R: AsRef<[u8]>>(
        self,
        software: &str,
        handler: impl FnMut(&mut Call<'_>) -> Result<R, Failure>,
    ) -> Result<(), Error> {
        self.serve_ahead(software, NonZeroU32::MIN, handler)
    }

    /// As [`serve`](Self::serve), still one call after the other, but with up to `calls` of them sent by usherd before the first
    /// is answered: the next is at hand when one is done, which for a handler that takes some microseconds and never waits is most of
    /// what a call costs. Not for others: a call that lies here waits for this helper though another is idle, is not
    /// seen to be interrupted while a handler is at work, and dies with it. The service needs `concurrency` to allow it.
    ///
    /// # Errors
    /// As of [`serve`](Self::serve).
    pub fn serve_ahead<R: AsRef<[u8]>>(
        self,
        software: &str,
        calls: NonZeroU32,
        handler: impl FnMut(&mut Call<'_>) -> Result<R, Failure>,
    ) -> Result<(), Error> {
        ready(&self.link, calls.get(), software)?;
        let calls = usize::try_from(calls.get()).unwrap_or(usize::MAX);
        ended(one::run(self.link, self.inbox, calls, handler))
    }

    /// As [`serve`](Self::serve), with as many calls at once as there are `threads`. Each thread has a handler of its own
    /// from `make`, which is given the number of the thread; the helper is ready when all are made. The first that
    /// cannot be made ends it.
    ///
    /// # Errors
    /// A handler could not be made, the socket failed, or usherd broke the protocol.
    pub fn serve_threads<R: AsRef<[u8]>, H: FnMut(&mut Call<'_>) -> Result<R, Failure>>(
        self,
        software: &str,
        threads: NonZeroU32,
        make: impl Fn(u32) -> Result<H, Failure> + Sync,
    ) -> Result<(), Error> {
        let ready = || ready(&self.link, threads.get(), software);
        let result = threads::run(&self.link, self.inbox, threads, make, ready);
        if let Err(Broken::Failed(Error::Unable(why))) = &result {
            unable(&self.link, why);
        }
        ended(result)
    }
}

fn ready(link: &Link, concurrency: u32, software: &str) -> Result<(), Broken> {
    let mut ready = Vec::new();
    codec::write_ready(&mut ready, concurrency, software)?;
    link.send(&ready, &[])
}

/// That usherd is not told is no matter: it sees that the helper ends.
fn unable(link: &Link, why: &str) {
    let mut message = Vec::new();
    codec::write_unable(&mut message, why);
    let _ = link.send(&message, &[]);
}

/// That usherd has gone ends a helper as rightly as its goodbye does.
fn ended(result: Result<(), Broken>) -> Result<(), Error> {
    match result {
        Ok(()) | Err(Broken::Gone) => Ok(()),
        Err(Broken::Failed(error)) => Err(error),
    }
}

/// What a caller is told instead of an answer. Any error becomes one, with [`CODE_FAILED`] and its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// A number of the helper's own, for the caller's program.
    pub code: u16,
    /// For people; cut at 1,024 bytes.
    pub text: String,
}

impl Failure {
    /// A failure with a code of the helper's own.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(CODE_FAILED, error.to_string())
    }
}

/// Why a handler should stop, or what it wanted to say was not said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Nobody wants the answer any more.
    Interrupted,
    /// usherd has gone.
    Gone,
    /// The answer is larger than usherd takes, or the question larger than one message.
    TooLarge,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupted => "interrupted: nobody wants the answer any more",
            Self::Gone => "usherd has gone",
            Self::TooLarge => "larger than usherd takes",
        })
    }
}

impl std::error::Error for Stop {}

/// Why a helper ends, other than by usherd's will. `Debug` is for people too, so that `main` may return it.
pub enum Error {
    /// The standard input is no sequenced-packet socket.
    NotStartedByUsherd,
    /// The socket failed, or the shared memory could not be mapped.
    Io(io::Error),
    /// usherd broke the protocol; the text says what was expected.
    Protocol(String),
    /// The helper cannot take calls; usherd was told the same.
    Unable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStartedByUsherd => f.write_str(
                "this program is a helper: usherd starts it, with a socket as its standard input. \
                 Name it in a service's `program`, and call the service with `usherd call`",
            ),
            Self::Io(error) => write!(f, "the socket to usherd: {error}"),
            Self::Protocol(what) => write!(f, "usherd broke the helper protocol: {what}"),
            Self::Unable(why) => write!(f, "cannot take calls: {why}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Gone => Self::Io(io::ErrorKind::UnexpectedEof.into()),
            Broken::Failed(error) => error,
        }
    }
}
