//! The D-Bus face: `org.usherd.Service1` on private sockets and on buses (`docs/dbus.md`).
//!
//! One thread of its own with a small runtime, started when the configuration first asks for D-Bus. It never touches a pool:
//! a call goes into the inbox of the services' home and its answer comes back through a channel. Private sockets are
//! listeners as all others are; the worker that gets a client hands it on through the [`Door`], and the client counts as
//! one until it has left. A bus that cannot be reached is tried again, with growing pauses.
//!
//! Bounds: [`GUESTS_MAX`] connections, [`CALLS_MAX`] open calls of all callers together, [`HANDSHAKE`] for a handshake;
//! the size of a message by the library (128 MiB), of a payload by `payload_bytes_max`.

mod service;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use zbus::connection::Builder;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, Guid, MessageStream};

use crate::admin::Snapshot;
use crate::config::plan::{Bus, BusAddress};
use crate::net::listen::Admission;
use crate::shared::Shared;
use crate::worker::Inbox;
use service::Calls;

/// The object that is served.
const PATH: &str = "/org/usherd";
/// The name that is taken on a bus.
const NAME: &str = "org.usherd";
/// Private connections at once.
const GUESTS_MAX: usize = 64;
/// Clients that wait to be taken from the door.
const WAITING_MAX: usize = 64;
/// Open calls of all callers together.
const CALLS_MAX: usize = 256;
/// Messages that wait within one connection.
const QUEUED_MAX: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the last answers may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Between attempts at a bus: first and longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// News of pools that are kept for a connection that is slow to take them.
const NEWS_MAX: usize = 64;

/// A client of a private socket, handed on by its worker.
#[derive(Debug)]
pub struct Guest {
    /// Its socket.
    pub stream: UnixStream,
    /// The largest payload of a call.
    pub payload_bytes_max: usize,
    /// Counts it among the daemon's.
    pub seat: Seat,
    /// And among its listener's, while the guest is here.
    pub admission: Admission,
}

/// While it lives, a client is counted; so a drain waits for it.
#[derive(Debug)]
pub struct Seat {
    shared: Arc<Shared>,
    worker: usize,
}

impl Seat {
    /// Of a client that was counted when it was accepted.
    pub fn new(shared: Arc<Shared>, worker: usize) -> Seat {
        Seat { shared, worker }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.client_gone(self.worker);
    }
}

/// Where workers leave what is for D-Bus.
#[derive(Debug)]
pub struct Door {
    guests: mpsc::Sender<Guest>,
    waiting: Mutex<Option<mpsc::Receiver<Guest>>>,
    news: broadcast::Sender<(String, bool)>,
}

impl Door {
    /// Nobody listens behind it yet.
    pub fn new() -> Door {
        let (guests, waiting) = mpsc::channel(WAITING_MAX);
        let (news, _) = broadcast::channel(NEWS_MAX);
        Door {
            guests,
            waiting: Mutex::new(Some(waiting)),
            news,
        }
    }

    /// Hands a client on; one too many is closed.
    pub fn admit(&self, guest: Guest) {
        if self.guests.try_send(guest).is_err() {
            tracing::warn!("too many D-Bus clients at once; one is closed");
        }
    }

    /// Whether anybody wants to hear of pools.
    pub fn is_watched(&self) -> bool {
        self.news.receiver_count() > 0
    }

    /// A pool has reached its maximum with calls that wait, or no longer has.
    pub fn tell(&self, service: &str, saturated: bool) {
        let _ = self.news.send((service.to_owned(), saturated));
    }
}

/// What the thread needs of the daemon.
pub struct Parts {
    /// The door.
    pub shared: Arc<Shared>,
    /// The inbox of the worker on which services live.
    pub home: Arc<Inbox>,
    /// The figures of now; may block.
    pub snapshot: Box<dyn Fn() -> Snapshot + Send + Sync>,
}

/// What is wanted of the thread.
#[derive(Clone, Debug, Default)]
struct Wanted {
    buses: Vec<Arc<Bus>>,
    draining: bool,
    over: bool,
}

/// The running thread; dropping it ends it.
pub struct Running {
    wanted: watch::Sender<Wanted>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(parts: Parts) -> io::Result<Running> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(2)
            .thread_keep_alive(Duration::from_secs(1))
            .thread_name("dbus-ask")
            .build()?;
        let (wanted, told) = watch::channel(Wanted::default());
        let thread = std::thread::Builder::new()
            .name("dbus".into())
            .spawn(move || runtime.block_on(run(parts, told)))?;
        Ok(Running {
            wanted,
            thread: Some(thread),
        })
    }

    /// The buses on which the service is offered.
    pub fn offer(&self, buses: Vec<Arc<Bus>>) {
        self.wanted.send_modify(|wanted| wanted.buses = buses);
    }

    /// No new calls; connections are closed once theirs have ended.
    pub fn drain(&self) {
        self.wanted.send_modify(|wanted| wanted.draining = true);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.wanted.send_modify(|wanted| wanted.over = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What all connections share.
struct State {
    shared: Arc<Shared>,
    home: Arc<Inbox>,
    snapshot: Box<dyn Fn() -> Snapshot + Send + Sync>,
    open: Arc<Semaphore>,
    keys: AtomicU32,
    guid: Guid<'static>,
}

async fn run(parts: Parts, mut wanted: watch::Receiver<Wanted>) {
    let waiting = parts
        .shared
        .door
        .waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(mut waiting) = waiting else { return };
    let state = Arc::new(State {
        shared: parts.shared,
        home: parts.home,
        snapshot: parts.snapshot,
        open: Arc::new(Semaphore::new(CALLS_MAX)),
        keys: AtomicU32::new(1),
        guid: Guid::generate(),
    });
    let seats = Arc::new(Semaphore::new(GUESTS_MAX));
    let mut guests = JoinSet::new();
    let mut buses: Vec<(Arc<Bus>, tokio::task::JoinHandle<()>)> = Vec::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        if now.over {
            break;
        }
        let before = std::mem::take(&mut buses);
        for (bus, task) in before {
            if now.buses.contains(&bus) {
                buses.push((bus, task));
            } else {
                task.abort();
            }
        }
        for bus in &now.buses {
            if !now.draining && !buses.iter().any(|(other, _)| other == bus) {
                let task = tokio::spawn(stay_on_bus(Arc::clone(&state), Arc::clone(bus), wanted.clone()));
                buses.push((Arc::clone(bus), task));
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { break },
            Some(guest) = waiting.recv() => match Arc::clone(&seats).try_acquire_owned() {
                Ok(seat) => {
                    let (state, wanted) = (Arc::clone(&state), wanted.clone());
                    guests.spawn(async move {
                        if let Err(error) = receive(&state, guest, wanted).await {
                            tracing::debug!(%error, "a D-Bus client");
                        }
                        drop(seat);
                    });
                }
                Err(_) => tracing::warn!("too many D-Bus clients at once; one is closed"),
            },
            Some(_) = guests.join_next() => {}
        }
    }
}

/// One client of a private socket, until it leaves.
async fn receive(state: &Arc<State>, guest: Guest, wanted: watch::Receiver<Wanted>) -> zbus::Result<()> {
    let _counted = (guest.seat, guest.admission);
    guest.stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(guest.stream)?;
    let (left, gone) = watch::channel(false);
    let (calls, open) = Calls::new(state, guest.payload_bytes_max, gone, wanted.clone());
    let building = Builder::unix_stream(stream)
        .server(state.guid.clone())?
        .p2p()
        .max_queued(QUEUED_MAX)
        .serve_at(PATH, calls)?
        .build();
    let connection = tokio::time::timeout(HANDSHAKE, building)
        .await
        .map_err(|_| zbus::Error::Failure("the handshake took too long".to_owned()))??;
    attend(state, &connection, open, wanted).await;
    let _ = left.send(true);
    let _ = tokio::time::timeout(LAST_WORDS, connection.graceful_shutdown()).await;
    Ok(())
}

/// Offers the service on a bus, for as long as it is wanted.
async fn stay_on_bus(state: Arc<State>, bus: Arc<Bus>, wanted: watch::Receiver<Wanted>) {
    let mut pause = RETRY.0;
    while !wanted.borrow().draining {
        match join_bus(&state, &bus, &wanted).await {
            Ok(()) => pause = RETRY.0,
            Err(error) if pause == RETRY.0 => {
                tracing::warn!(bus = %bus.address, %error, "the bus cannot be used; it is tried again");
            }
            Err(error) => tracing::debug!(bus = %bus.address, %error, "the bus still cannot be used"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY.1);
    }
}

async fn join_bus(state: &Arc<State>, bus: &Bus, wanted: &watch::Receiver<Wanted>) -> zbus::Result<()> {
    let (left, gone) = watch::channel(false);
    let (calls, open) = Calls::new(state, bus.payload_bytes_max, gone, wanted.clone());
    let builder = match &bus.address {
        BusAddress::System => Builder::system()?,
        BusAddress::Session => Builder::session()?,
        BusAddress::At(address) => Builder::address(address.as_str())?,
    };
    let building = builder
        .max_queued(QUEUED_MAX)
        .serve_at(PATH, calls)?
        .name(NAME)?
        // By the process of an upgrade, and by nobody who may not have the name.
        .allow_name_replacements(true)
        .build();
    let connection = tokio::time::timeout(HANDSHAKE, building)
        .await
        .map_err(|_| zbus::Error::Failure("connecting took too long".to_owned()))??;
    tracing::info!(bus = %bus.address, name = NAME, "offered on a bus");
    attend(state, &connection, open, wanted.clone()).await;
    let _ = left.send(true);
    if wanted.borrow().draining {
        let _ = connection.release_name(NAME).await;
        let _ = tokio::time::timeout(LAST_WORDS, connection.graceful_shutdown()).await;
        return Ok(());
    }
    Err(zbus::Error::Failure("the bus closed the connection".to_owned()))
}

/// Until the other side leaves, or the daemon drains and no call is open: tells of pools that are saturated.
async fn attend(
    state: &State,
    connection: &Connection,
    mut open: watch::Receiver<usize>,
    mut wanted: watch::Receiver<Wanted>,
) {
    let mut messages = MessageStream::from(connection);
    let mut news = state.shared.door.news.subscribe();
    let Ok(emitter) = SignalEmitter::new(connection, PATH) else {
        return;
    };
    loop {
        tokio::select! {
            message = messages.next() => if !matches!(message, Some(Ok(_))) { return },
            told = news.recv() => {
                let said = match &told {
                    Ok((service, true)) => Calls::saturated(&emitter, service).await,
                    Ok((service, false)) => Calls::relieved(&emitter, service).await,
                    // Some were missed; the next ones are told.
                    Err(_) => Ok(()),
                };
                if said.is_err() {
                    return;
                }
            }
            () = drained(&mut wanted) => {
                let _ = open.wait_for(|open| *open == 0).await;
                return;
            }
        }
    }
}

/// Once the daemon drains, or the thread is to end.
async fn drained(wanted: &mut watch::Receiver<Wanted>) {
    let _ = wanted.wait_for(|wanted| wanted.draining || wanted.over).await;
}
