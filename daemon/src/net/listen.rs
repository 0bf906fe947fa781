//! The acceptor: one thread that lets clients in and hands each to a worker.
//!
//! Descriptors for servers and for the admin side are reserved by a bound on clients. At the bound, or when descriptors run
//! out all the same, accepting pauses (the kernel's backlog holds who comes) and resumes by itself: while it pauses, and only
//! then, the acceptor looks every 20 ms whether there is room again.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use wire::ldap::result;

use super::bound::{Bound, Sock};
use super::stream::Raw;
use super::tcp::INHERITED;
use crate::config::plan::Listener;
use crate::drive::Job;
use crate::limits::{Guest, Limits, Turned};
use crate::net::placing;
use crate::shared::Shared;
use crate::worker::Inbox;

const COMMANDS: Token = Token(usize::MAX);
const PAUSE: Duration = Duration::from_millis(20);
/// Clients taken from one listener before the others are looked at.
const AT_ONCE: usize = 64;
/// How long the thread may take to do as it was told.
const ANSWER: Duration = Duration::from_secs(5);
/// Sockets that wait to be lent.
const LENT_AT_ONCE: usize = 64;

/// A client that has been let in.
#[derive(Debug)]
pub struct Accepted {
    /// Its socket.
    pub raw: Raw,
    /// Through which listener.
    pub listener: u64,
    /// Where from; none over a unix socket.
    pub peer: Option<SocketAddr>,
    /// Its limits, where it has some and they are known already.
    pub guest: Option<Guest>,
    /// Counts it.
    pub admission: Admission,
}

/// While it lives, one more client of its listener is counted.
#[derive(Debug)]
pub struct Admission(Arc<AtomicUsize>);

impl Admission {
    fn new(clients: &Arc<AtomicUsize>) -> Admission {
        clients.fetch_add(1, Ordering::Relaxed);
        Admission(Arc::clone(clients))
    }
}

impl Default for Admission {
    /// Of no listener.
    fn default() -> Self {
        Admission::new(&Arc::default())
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the acceptor is told.
#[derive(Debug)]
enum Command {
    Add {
        id: u64,
        bound: Box<Bound>,
        plan: Arc<Listener>,
        workers: Vec<usize>,
    },
    Change {
        id: u64,
        plan: Arc<Listener>,
        workers: Vec<usize>,
    },
    Remove {
        id: u64,
    },
    Lend {
        to: SyncSender<(u64, OwnedFd)>,
    },
    Leave {
        files: Vec<PathBuf>,
        to: SyncSender<()>,
    },
    Stop,
}

/// The handle of the acceptor.
#[derive(Debug)]
pub struct Acceptor {
    commands: Arc<Mutex<VecDeque<Command>>>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
    /// How often accepting has paused.
    pub pauses: Arc<AtomicU64>,
    /// Clients let in since the start.
    pub accepted: Arc<AtomicUsize>,
    clients_max: Arc<AtomicUsize>,
}

impl Acceptor {
    /// Starts the thread; `clients_max`: all listeners together.
    pub fn start(inboxes: Vec<Arc<Inbox>>, shared: Arc<Shared>, clients_max: usize) -> io::Result<Acceptor> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), COMMANDS)?);
        let commands = Arc::new(Mutex::new(VecDeque::new()));
        let pauses = Arc::new(AtomicU64::new(0));
        let clients_max = Arc::new(AtomicUsize::new(clients_max));
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut own = Accepting {
            poll,
            commands: Arc::clone(&commands),
            inboxes,
            shared,
            listeners: HashMap::new(),
            tokens: 0,
            pauses: Arc::clone(&pauses),
            accepted: Arc::clone(&accepted),
            clients_max: Arc::clone(&clients_max),
        };
        let thread = std::thread::Builder::new()
            .name("acceptor".into())
            .spawn(move || own.run())?;
        Ok(Acceptor {
            commands,
            waker,
            thread: Some(thread),
            pauses,
            accepted,
            clients_max,
        })
    }

    /// Changes the bound on clients.
    pub fn set_clients_max(&self, clients_max: usize) {
        self.clients_max.store(clients_max, Ordering::Relaxed);
    }

    /// Lets clients in.
    pub fn add(&self, id: u64, bound: Bound, plan: Arc<Listener>, workers: Vec<usize>) {
        self.tell(Command::Add {
            id,
            bound: Box::new(bound),
            plan,
            workers,
        });
    }

    /// A listener's settings have changed; or another process has had its socket, and may have set others of TCP.
    pub fn change(&self, id: u64, plan: Arc<Listener>, workers: Vec<usize>) {
        self.tell(Command::Change { id, plan, workers });
    }

    /// Closes a listener's socket.
    pub fn remove(&self, id: u64) {
        self.tell(Command::Remove { id });
    }

    /// The listeners' sockets once more, for another process; this one goes on accepting.
    pub fn lend(&self) -> Vec<(u64, OwnedFd)> {
        let (to, from) = sync_channel(LENT_AT_ONCE);
        self.tell(Command::Lend { to });
        let mut lent = Vec::new();
        while let Ok(one) = from.recv_timeout(ANSWER) {
            lent.push(one);
        }
        lent
    }

    /// Accepts no more: another process does, which has the files of these unix sockets. Whoever was accepted by then has been
    /// given to a worker.
    pub fn leave(&self, files: Vec<PathBuf>) {
        let (to, from) = sync_channel(1);
        self.tell(Command::Leave { files, to });
        if from.recv_timeout(ANSWER).is_err() {
            tracing::error!("the acceptor does not answer");
        }
    }

    /// Closes all sockets and ends the thread.
    pub fn stop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn tell(&self, command: Command) {
        self.commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(command);
        let _ = self.waker.wake();
    }
}

struct Open {
    id: u64,
    bound: Box<Bound>,
    plan: Arc<Listener>,
    workers: Vec<usize>,
    /// Limits of its clients, where their addresses are known at once.
    limits: Option<Arc<Limits>>,
    /// The kernel has clients that were not taken yet.
    waiting: bool,
    /// There was no room for them when they were last looked at.
    paused: bool,
    /// Some of them may have come before the socket had its options, and have others: each is given its own.
    strange: bool,
    /// Clients that came through it and have not left.
    clients: Arc<AtomicUsize>,
}

impl Open {
    /// It has as many as it may.
    fn is_full(&self) -> bool {
        let clients = self.clients.load(Ordering::Relaxed);
        self.plan.clients_max.is_some_and(|max| clients >= max)
    }

    /// Connections have the listening socket's options, so that accepting one costs no calls for them.
    fn set_options(&mut self) {
        if let Sock::Tcp(listener) = &self.bound.socket {
            self.plan.tcp.renew(listener);
        }
        self.strange = true;
    }
}

struct Accepting {
    poll: Poll,
    commands: Arc<Mutex<VecDeque<Command>>>,
    inboxes: Vec<Arc<Inbox>>,
    shared: Arc<Shared>,
    listeners: HashMap<usize, Open>,
    tokens: usize,
    pauses: Arc<AtomicU64>,
    accepted: Arc<AtomicUsize>,
    clients_max: Arc<AtomicUsize>,
}

/// What an accept led to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Took {
    One,
    Nobody,
    /// No room: try again later.
    Pause,
}

impl Accepting {
    fn run(&mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            let waiting = self.listeners.values().filter(|open| open.waiting);
            // Nobody waits; all who do wait for room; or somebody can come in.
            let timeout = waiting
                .map(|open| if open.paused { PAUSE } else { Duration::ZERO })
                .min();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "accept");
            }
            for event in &events {
                if let Some(open) = self.listeners.get_mut(&event.token().0) {
                    open.waiting = true;
                }
            }
            if !self.obey() {
                return;
            }
            self.take_clients();
        }
    }

    /// False: stop.
    fn obey(&mut self) -> bool {
        loop {
            let command = self.commands.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match command {
                None => return true,
                Some(Command::Stop) => return false,
                Some(Command::Remove { id }) => self.close(|open| open.id == id),
                Some(Command::Lend { to }) => self.lend(&to),
                Some(Command::Leave { files, to }) => {
                    for open in self.listeners.values() {
                        open.bound.socket.leave(&files);
                    }
                    self.close(|_| true);
                    let _ = to.try_send(());
                }
                Some(Command::Change { id, plan, workers }) => {
                    if let Some(open) = self.listeners.values_mut().find(|open| open.id == id) {
                        open.limits = limits(&self.shared, id, &plan);
                        open.plan = plan;
                        open.workers = workers;
                        open.set_options();
                    }
                }
                Some(Command::Add {
                    id,
                    mut bound,
                    plan,
                    workers,
                }) => {
                    self.tokens += 1;
                    let token = Token(self.tokens);
                    let source = bound.socket.source();
                    match self.poll.registry().register(source, token, Interest::READABLE) {
                        Ok(()) => {
                            let mut open = Open {
                                id,
                                bound,
                                limits: limits(&self.shared, id, &plan),
                                plan,
                                workers,
                                waiting: true,
                                paused: false,
                                strange: true,
                                clients: Arc::default(),
                            };
                            open.set_options();
                            self.listeners.insert(token.0, open);
                        }
                        Err(error) => tracing::error!(%error, "a listener cannot accept"),
                    }
                }
            }
        }
    }

    /// Closes sockets. Said to the poll, which otherwise goes on to watch those that another process has, too.
    fn close(&mut self, which: impl Fn(&Open) -> bool) {
        let registry = self.poll.registry();
        self.listeners.retain(|_, open| {
            let goes = which(open);
            if goes {
                let _ = registry.deregister(open.bound.socket.source());
            }
            !goes
        });
    }

    fn lend(&self, to: &SyncSender<(u64, OwnedFd)>) {
        for open in self.listeners.values() {
            match open.bound.socket.again() {
                // Whoever asked may have gone.
                Ok(socket) => _ = to.send((open.id, socket)),
                Err(error) => tracing::error!(%error, address = ?open.bound.address, "a socket cannot be handed over"),
            }
        }
    }

    fn take_clients(&mut self) {
        let tokens: Vec<usize> = self
            .listeners
            .iter()
            .filter(|(_, open)| open.waiting)
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            let last = (0..AT_ONCE)
                .map(|_| self.take_one(token))
                .find(|took| *took != Took::One);
            let Some(open) = self.listeners.get_mut(&token) else {
                continue;
            };
            open.waiting = last != Some(Took::Nobody);
            open.strange &= open.waiting || !INHERITED;
            let paused = last == Some(Took::Pause);
            if paused && !std::mem::replace(&mut open.paused, paused) {
                self.pauses.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    clients = self.shared.clients_total(),
                    of_this_listener = open.clients.load(Ordering::Relaxed),
                    address = ?open.bound.address,
                    "no room for more clients; accepting pauses"
                );
            }
            open.paused = paused;
        }
    }

    fn take_one(&mut self, token: usize) -> Took {
        let Some(open) = self.listeners.get(&token) else {
            return Took::Nobody;
        };
        if open.is_full() || self.shared.clients_total() >= self.clients_max.load(Ordering::Relaxed) {
            return Took::Pause;
        }
        let accepted = match &open.bound.socket {
            Sock::Tcp(listener) => listener.accept().map(|(stream, peer)| {
                if open.strange {
                    open.plan.tcp.renew(&stream);
                }
                (Raw::Tcp(stream), Some(peer))
            }),
            Sock::Unix { listener, .. } => listener.accept().map(|(stream, _)| (Raw::Unix(stream), None)),
        };
        match accepted {
            Ok((raw, peer)) => {
                let admitted = open
                    .limits
                    .as_ref()
                    .map(|limits| limits.admit(peer, self.shared.clock.now()));
                let guest = match admitted.transpose() {
                    Ok(guest) => guest.flatten(),
                    Err(why) => {
                        turn_away(raw, why, open.plan.tls_first);
                        return Took::One;
                    }
                };
                self.hand_over(
                    open,
                    Accepted {
                        raw,
                        listener: open.id,
                        peer,
                        guest,
                        admission: Admission::new(&open.clients),
                    },
                );
                Took::One
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Took::Nobody,
            // Out of descriptors or memory: who waits is not lost.
            Err(error) if matches!(error.raw_os_error(), Some(23 | 24 | 105 | 12)) => Took::Pause,
            // This client has gone already.
            Err(_) => Took::One,
        }
    }

    /// To one of the workers that may have it ([`placing`]).
    fn hand_over(&self, open: &Open, accepted: Accepted) {
        let now = self.shared.clock.now();
        let candidates = open.workers.iter().map(|worker| self.shared.candidate(*worker, now));
        let Some(worker) = placing::place(candidates) else {
            return;
        };
        let (Some(inbox), Some(count)) = (self.inboxes.get(worker), self.shared.clients.get(worker)) else {
            return;
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if inbox.push(Job::Accept(accepted)).is_err() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A listener's limits; behind PROXY headers they are looked at once the address is known.
fn limits(shared: &Shared, id: u64, plan: &Listener) -> Option<Arc<Limits>> {
    shared.limits.get(id).filter(|_| plan.proxy.is_none())
}

/// Says why, where it can be said in clear, and closes. Nobody waits for this client: what it has sent is thrown away, and the
/// notice may be lost with it.
fn turn_away(raw: Raw, why: Turned, tls_first: bool) {
    if tls_first {
        return;
    }
    let mut notice = Vec::new();
    result::write_notice_of_disconnection(&mut notice, result::code::BUSY, why.words());
    let mut thrown = [0; 4096];
    match raw {
        Raw::Tcp(mut stream) => {
            let _ = stream.write(&notice);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut thrown);
        }
        Raw::Unix(mut stream) => {
            let _ = stream.write(&notice);
        }
    }
}
