//! The interface `org.usherd.Service1`: its methods, signals and errors.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_bytes::ByteBuf;
use tokio::sync::{oneshot, watch};
use wire::rpc::ErrorCode;
use zbus::object_server::SignalEmitter;

use super::{State, Wanted};
use crate::drive::{Job, RemoteCall};
use crate::worker::Inbox;

/// What one connection calls.
pub(super) struct Calls {
    state: Arc<State>,
    payload_bytes_max: usize,
    /// The caller has left.
    gone: watch::Receiver<bool>,
    wanted: watch::Receiver<Wanted>,
    /// Its open calls.
    open: watch::Sender<usize>,
}

/// Why a call has no answer: the errors of the RPC protocol by their names.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.usherd.Error")]
pub(super) enum Error {
    #[zbus(error)]
    ZBus(zbus::Error),
    UnknownService(String),
    QueueFull(String),
    QueueTimeout(String),
    Deadline(String),
    Crashed(String),
    Unavailable(String),
    ShuttingDown(String),
    Canceled(String),
    TooLarge(String),
    Protocol(String),
    Failed(String),
    Denied(String),
    Other(String),
}

impl Calls {
    /// For one connection; how many calls it has open.
    pub(super) fn new(
        state: &Arc<State>,
        payload_bytes_max: usize,
        gone: watch::Receiver<bool>,
        wanted: watch::Receiver<Wanted>,
    ) -> (Calls, watch::Receiver<usize>) {
        let (open, count) = watch::channel(0);
        let calls = Calls {
            state: Arc::clone(state),
            payload_bytes_max,
            gone,
            wanted,
            open,
        };
        (calls, count)
    }
}

#[zbus::interface(name = "org.usherd.Service1")]
impl Calls {
    /// Calls a service. The timeout is in milliseconds; 0 leaves it to the service.
    #[zbus(out_args("answer"))]
    async fn call(&self, service: String, payload: ByteBuf, timeout_ms: u32) -> Result<ByteBuf, Error> {
        if self.wanted.borrow().draining {
            return Err(error(ErrorCode::ShuttingDown, "the daemon is stopping".to_owned()));
        }
        if payload.len() > self.payload_bytes_max {
            return Err(error(
                ErrorCode::TooLarge,
                "the request is larger than allowed".to_owned(),
            ));
        }
        let Ok(_permit) = self.state.open.try_acquire() else {
            return Err(error(
                ErrorCode::QueueFull,
                "too many calls are open over D-Bus".to_owned(),
            ));
        };
        let _counted = Counted::new(&self.open);
        // Keys with the highest bit are those of accounting.
        let key = self.state.keys.fetch_add(1, Ordering::Relaxed) & (u32::MAX >> 1);
        let (answer, answered) = oneshot::channel();
        let call = RemoteCall {
            key,
            service,
            payload: payload.into_vec(),
            timeout: (timeout_ms != 0).then(|| Duration::from_millis(timeout_ms.into())),
            answer,
        };
        if self.state.home.push(Job::Call(Box::new(call))).is_err() {
            return Err(error(ErrorCode::QueueFull, "the daemon has too much to do".to_owned()));
        }
        let mut pending = Pending {
            home: &self.state.home,
            key: Some(key),
        };
        let mut gone = self.gone.clone();
        tokio::select! {
            answer = answered => {
                pending.key = None;
                match answer {
                    Ok(Ok(bytes)) => Ok(ByteBuf::from(bytes)),
                    Ok(Err((code, text))) => Err(error(code, text)),
                    Err(_) => Err(error(ErrorCode::Unavailable, "the call was lost".to_owned())),
                }
            }
            _ = gone.wait_for(|gone| *gone) => {
                Err(error(ErrorCode::Canceled, "the caller has left".to_owned()))
            }
        }
    }

    /// The services and how each is: `ready`, or `saturated` where calls wait.
    #[zbus(out_args("services"))]
    async fn list(&self) -> Result<Vec<(String, String)>, Error> {
        let state = Arc::clone(&self.state);
        let snapshot = tokio::task::spawn_blocking(move || (state.snapshot)()).await;
        let snapshot = snapshot.map_err(|_| error(ErrorCode::Unavailable, "the daemon gives no figures".to_owned()))?;
        let services = snapshot.services.into_iter().map(|service| {
            let how = if service.queued > 0 { "saturated" } else { "ready" };
            (service.name, how.to_owned())
        });
        Ok(services.collect())
    }

    /// A service has as many helpers as it may, and calls wait.
    #[zbus(signal)]
    pub(super) async fn saturated(emitter: &SignalEmitter<'_>, service: &str) -> zbus::Result<()>;

    /// No call of it waits any more.
    #[zbus(signal)]
    pub(super) async fn relieved(emitter: &SignalEmitter<'_>, service: &str) -> zbus::Result<()>;
}

/// Counts an open call of a connection.
struct Counted<'a>(&'a watch::Sender<usize>);

impl<'a> Counted<'a> {
    fn new(open: &'a watch::Sender<usize>) -> Self {
        open.send_modify(|open| *open += 1);
        Counted(open)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// A call whose answer nobody waits for any more is canceled.
struct Pending<'a> {
    home: &'a Inbox,
    key: Option<u32>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.home.push_always(Job::CancelCall(key));
        }
    }
}

fn error(code: ErrorCode, text: String) -> Error {
    match code {
        ErrorCode::UnknownService => Error::UnknownService(text),
        ErrorCode::QueueFull => Error::QueueFull(text),
        ErrorCode::QueueTimeout => Error::QueueTimeout(text),
        ErrorCode::Deadline => Error::Deadline(text),
        ErrorCode::Crashed { status } if status >= 0 => Error::Crashed(format!("{text} (status {status})")),
        ErrorCode::Crashed { status } => Error::Crashed(format!("{text} (signal {})", -status)),
        ErrorCode::Unavailable => Error::Unavailable(text),
        ErrorCode::ShuttingDown => Error::ShuttingDown(text),
        ErrorCode::Canceled => Error::Canceled(text),
        ErrorCode::TooLarge => Error::TooLarge(text),
        ErrorCode::Protocol => Error::Protocol(text),
        ErrorCode::Failed { code } => Error::Failed(format!("{text} (code {code})")),
        ErrorCode::Denied => Error::Denied(text),
        ErrorCode::Other(number) => Error::Other(format!("{text} ({number})")),
    }
}
