//! Stopping a statement that nobody waits for any more.
//!
//! The thread that serves calls is inside the driver, which does not return on EINTR. usherd's SIGINT therefore wakes a
//! thread of its own, which looks (without taking it) at the message that came with the signal; if that is an interrupt,
//! it is of the call that runs, because messages are in order and older ones were taken before the call was. Then the
//! statement is killed by a second connection, and the driver returns.
//!
//! A kill holds [`Running`] while it is under way, so that it cannot hit a later call.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{RecvFlags, recv};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;
use wire::helper::{self, FromUsherd};

/// What the serving thread does now.
#[derive(Debug, Default)]
pub struct Running(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The connection on which a statement runs.
    connection: Option<u32>,
    /// It was killed.
    killed: bool,
}

impl Running {
    /// A call begins on this connection.
    pub fn begin(&self, connection: u32) {
        *self.lock() = State {
            connection: Some(connection),
            killed: false,
        };
    }

    /// The call is over; whether it was killed. Waits for a kill that is under way.
    pub fn end(&self) -> bool {
        std::mem::take(&mut *self.lock()).killed
    }

    /// Whether the call that runs was killed.
    pub fn killed(&self) -> bool {
        self.lock().killed
    }

    /// Kills what runs, if something does and `wanted` says so, and tells whether that was done.
    pub fn kill(
        &self,
        wanted: impl FnOnce() -> bool,
        kill: impl FnOnce(u32) -> Result<(), String>,
    ) -> Result<bool, String> {
        let mut state = self.lock();
        let Some(connection) = state.connection.filter(|_| !state.killed && wanted()) else {
            return Ok(false);
        };
        state.killed = true;
        kill(connection).map(|()| true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a thread wait for SIGINT and kill what it is about. To be called while the socket to usherd is still the standard
/// input, as [`usherd_sdk::helper::Helper::connect`] finds it: it takes it away from there.
///
/// # Errors
/// The handler cannot be installed, or the thread not be started.
pub fn watch(running: Arc<Running>, kill: impl Fn(u32) -> Result<(), String> + Send + 'static) -> std::io::Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut signals = Signals::new([SIGINT])?;
    std::thread::Builder::new().name("interrupts".into()).spawn(move || {
        for _ in signals.forever() {
            if let Err(why) = running.kill(|| interrupt_waits(&socket), &kill) {
                eprintln!("a statement could not be stopped: {why}");
            }
        }
    })?;
    Ok(())
}

/// Whether the first message that was not taken yet is an interrupt, or the goodbye behind which one may wait.
fn interrupt_waits(socket: &OwnedFd) -> bool {
    // One byte more than these messages have: a longer one is not mistaken for them.
    let mut message = [0; helper::HEADER_BYTES + 1];
    let Ok((taken, _)) = recv(socket, &mut message, RecvFlags::PEEK | RecvFlags::DONTWAIT) else {
        return false;
    };
    let found = message.get(..taken).map(|message| helper::from_usherd(message, 0));
    matches!(found, Some(Ok(FromUsherd::Interrupt { .. } | FromUsherd::Goodbye)))
}
