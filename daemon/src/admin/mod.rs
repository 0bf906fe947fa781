//! The side doors: the control socket (`usherd status`, `reload`, `drain`, `upgrade`, `stop`) and HTTP (`/metrics`, `/healthz`,
//! `/readyz`), on one thread of their own, so that nothing asked here ever waits behind a client, nor a client behind it.
//!
//! It knows the daemon only by a [`Handle`]. It has no timer while nobody is connected, and both doors bound what they
//! hold: connections, line length, and the time a peer may take.

mod control;
mod http;
mod metrics;
pub mod snapshot;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

pub use engine::core::Drain;
pub use metrics::directory as figures;
pub use snapshot::Snapshot;

use crate::feed::command::Verb;
use crate::traces;
use crate::upgrade::taking::Taken;

/// What can be told to the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the configuration again and apply what differs.
    Reload,
    /// Stop taking work, at this level; nothing ends before its clients are served or the level's time is over.
    Drain(Drain),
    /// Drain gently, then end.
    Stop,
    /// Hand over to a new process, of this program or of the one at this process's own path. Done once that one serves.
    Upgrade(Option<PathBuf>),
}

/// What this thread knows of the daemon. Both may block for up to two seconds (they ask the workers).
pub struct Handle {
    /// The figures of now.
    pub snapshot: Box<dyn Fn() -> Snapshot + Send + Sync>,
    /// Does it, or says why not; returns when it is accepted, not when it is finished.
    pub command: Box<dyn Fn(Command) -> Result<(), String> + Send + Sync>,
    /// Says something to a feed, by name or the only one; its answer. May take as long as the feed does.
    pub feed: FeedCommand,
    /// Begins, ends or reads traces of RADIUS requests.
    pub trace: TraceCommand,
    /// What is locked out after failed binds, or what of it is forgotten.
    pub lockout: LockoutCommand,
}

/// See [`Handle::lockout`].
pub type LockoutCommand = Box<dyn Fn(Option<&str>) -> serde_json::Value + Send + Sync>;

/// See [`Handle::feed`].
pub type FeedCommand = Box<dyn Fn(Option<&str>, Verb) -> Result<serde_json::Value, String> + Send + Sync>;

/// See [`Handle::trace`].
pub type TraceCommand = Box<dyn Fn(traces::Verb) -> Result<serde_json::Value, String> + Send + Sync>;

/// Both doors, listening but not answering yet: a busy address is found before anything else starts.
pub struct Bound {
    control: control::Socket,
    http: Option<TcpListener>,
}

/// The running thread; dropping it stops it and removes the control socket.
pub struct Running {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    /// Address of HTTP, the port chosen by the kernel where 0 was asked for.
    pub http_address: Option<SocketAddr>,
    /// Path of the control socket.
    pub control: PathBuf,
    http: Option<OwnedFd>,
    /// No HTTP any more.
    left: watch::Sender<bool>,
    file: control::Path,
}

impl Bound {
    /// Takes the control socket (mode 0600; its folder is made with mode 0700 when absent; a dead daemon's socket is
    /// replaced) and the HTTP address.
    ///
    /// # Errors
    /// What is in the way and what to do.
    pub fn bind(control: &Path, http: Option<SocketAddr>) -> Result<Bound, String> {
        let control = control::Socket::bind(control)?;
        let http = match http {
            None => None,
            Some(address) => Some(bind_http(address)?),
        };
        Ok(Bound { control, http })
    }

    /// As [`Bound::bind`], beside a process whose place this one is going to take.
    ///
    /// # Errors
    /// What is in the way and what to do.
    pub fn beside(control: &Path, http: Option<SocketAddr>, taken: &mut Taken) -> Result<Bound, String> {
        let control = if taken.control() == control {
            control::Socket::bind_beside(control)?
        } else {
            control::Socket::bind(control)?
        };
        let handed = http.map(|address| taken.http(address)).transpose()?.flatten();
        let http = match (http, handed) {
            (None, _) => None,
            (Some(_), Some(socket)) => Some(TcpListener::from(socket)),
            (Some(address), None) => Some(bind_http(address)?),
        };
        Ok(Bound { control, http })
    }

    /// The control socket takes its path from the process that has it, whose own is then found under the path that is given.
    ///
    /// # Errors
    /// The path cannot be taken.
    pub fn take_over(&self) -> Result<Option<PathBuf>, String> {
        self.control.take_over()
    }

    /// Address of HTTP, the port chosen by the kernel where 0 was asked for.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Starts answering.
    ///
    /// # Errors
    /// When the thread or its event loop cannot be made.
    pub fn start(self, handle: Handle) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(4)
            .thread_keep_alive(std::time::Duration::from_secs(1))
            .thread_name("admin-ask")
            .build()?;
        let http_address = self.http_address();
        let file = self.control.path();
        let control = file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let http = self
            .http
            .as_ref()
            .map(|http| http.as_fd().try_clone_to_owned())
            .transpose()?;
        let (stop, stopped) = watch::channel(false);
        let (left, leaving) = watch::channel(false);
        let handle = Arc::new(handle);
        let thread = std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || runtime.block_on(serve(self, handle, stopped, leaving)))?;
        Ok(Running {
            stop,
            thread: Some(thread),
            http_address,
            control,
            http,
            left,
            file,
        })
    }
}

impl Running {
    /// HTTP's socket once more, for another process.
    pub fn lend(&self) -> Option<OwnedFd> {
        self.http.as_ref().and_then(|http| http.try_clone().ok())
    }

    /// Another process had been about to take the control socket's path, and is gone.
    pub fn stay(&self) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = control::kept(&file, std::process::id());
        // There is none unless it came so far.
        let _ = std::fs::rename(kept, &*file);
    }

    /// Another process answers HTTP, and has taken the path of the control socket if this one's is found under another now.
    pub fn leave(&mut self, control: Option<PathBuf>) {
        if let Some(control) = control {
            *self.file.lock().unwrap_or_else(PoisonError::into_inner) = control;
        }
        self.http = None;
        let _ = self.left.send(true);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.left.send(true);
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the admin thread has been printed by then; there is nothing left to do about it here.
            let _ = thread.join();
        }
    }
}

fn bind_http(address: SocketAddr) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("the admin address {address} is in use; name another (`admin` in [server], or --admin ADDRESS)")
        }
        _ => format!("the admin address {address} cannot be used: {error}"),
    })
}

async fn serve(bound: Bound, handle: Arc<Handle>, stopped: watch::Receiver<bool>, left: watch::Receiver<bool>) {
    let http = async {
        match bound.http.map(tokio::net::TcpListener::from_std) {
            Some(Ok(listener)) => http::serve(listener, handle.clone(), left).await,
            Some(Err(error)) => tracing::error!(%error, "HTTP cannot be served"),
            None => {}
        }
    };
    let control = control::serve(bound.control, handle.clone(), stopped.clone());
    tokio::join!(http, control);
}

/// Asks for a snapshot away from the event loop: it may block.
async fn snapshot(handle: &Arc<Handle>) -> Option<Snapshot> {
    let handle = handle.clone();
    tokio::task::spawn_blocking(move || (handle.snapshot)()).await.ok()
}

/// Gives a command away from the event loop.
async fn command(handle: &Arc<Handle>, command: Command) -> Result<(), String> {
    let handle = handle.clone();
    let done = tokio::task::spawn_blocking(move || (handle.command)(command)).await;
    done.unwrap_or_else(|_| Err("the command failed inside the daemon; its log says why".into()))
}

/// Says something to a feed away from the event loop.
async fn feed(handle: &Arc<Handle>, name: Option<String>, verb: Verb) -> Result<serde_json::Value, String> {
    let handle = handle.clone();
    let done = tokio::task::spawn_blocking(move || (handle.feed)(name.as_deref(), verb)).await;
    done.unwrap_or_else(|_| Err("the command failed inside the daemon; its log says why".into()))
}

/// Resolves when the thread is to end.
async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which ends it as well.
    let _ = stopped.wait_for(|stop| *stop).await;
}
