//! From a plan to a running daemon, and to its end.
//!
//! The story: sockets are bound and every file is read before anything starts, so that what cannot be built is a failed
//! start; then workers, acceptor and admin thread; then one loop that waits for signals and commands. A reload goes the same
//! way: everything that could fail is done first, then the difference is applied.

pub mod demo;
mod feeds;
mod files;
mod handle;
mod limits;
mod radius;
pub mod radius_test;
mod records;
mod snapshot;
mod sockets;
pub mod verify;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::core::Drain;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::admin::{self, Command};
use crate::config::plan::{Address, Behind, Face, Listener, Plan};
use crate::config::{self, render};
use crate::dbus;
use crate::drive::{Drive, Job, SERVICES_HOME, hosts, listener_id};
use crate::feed;
use crate::net::listen::Acceptor;
use crate::net::resolve::Resolver;
use crate::shared::Shared;
use crate::worker::{Kill, Signal, Worker};
use feeds::Followed;
use files::verify;
use handle::{handle, wake_bids};
use limits::{clients_max, raise_descriptor_limit};
use records::Records;
use sockets::{Giving, Opened, bind_all};

/// Jobs that wait for one worker: clients being handed over, mostly.
const INBOX_MAX: usize = 65_536;
/// How long a command waits for its reload.
const RELOAD_WAIT: Duration = Duration::from_secs(30);
/// Between two looks at how a drain goes.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Ends: clean, could not start, drain deadline passed.
const CLEAN: u8 = 0;
const NO_START: u8 = 1;
const DRAIN_LATE: u8 = 3;

/// What the main loop is told.
enum Event {
    Signal(i32),
    Command(Command, SyncSender<Result<(), String>>),
}

/// How far the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    Running,
    Draining(Drain),
    Drained,
}

/// What the admin thread and the main loop both look at.
pub(crate) struct State {
    pub(crate) plan: Arc<Plan>,
    pub(crate) lifecycle: Lifecycle,
    /// Where each listener really listens.
    pub(crate) bound: HashMap<u64, Address>,
    pub(crate) reloads: u64,
    pub(crate) reloads_failed: u64,
}

struct Daemon {
    workers: Vec<Worker>,
    acceptor: Acceptor,
    state: Arc<Mutex<State>>,
    shared: Arc<Shared>,
    source: Option<PathBuf>,
    /// Started when the configuration first asks for D-Bus.
    dbus: Option<dbus::Running>,
    feeds: Followed,
    records: Records,
    reporter: Arc<snapshot::Reporter>,
    drain_started: Option<Instant>,
    stopping: bool,
    late: bool,
}

/// Runs a plan until it is told to stop; `source` is the file that a reload reads again.
pub fn run(plan: Plan, source: Option<PathBuf>) -> ExitCode {
    run_with(plan, source, |_| {}, |_| None)
}

/// As `run`, without a file; `tell` is given the listeners' real addresses, as one writes them, once it listens.
pub fn run_and_tell(plan: Plan, tell: impl FnOnce(&[String])) -> ExitCode {
    run_with(plan, None, |daemon| tell(&daemon.addresses()), |_| None)
}

/// As `run`, without a file; `watch` is given the feeds, to tell how they come along.
pub fn run_feeds(plan: Plan, watch: impl FnOnce(Vec<feed::Line>)) -> ExitCode {
    run_with(plan, None, |daemon| watch(daemon.feeds.lines()), |_| None)
}

/// As `run`; `tell` as in `run_and_tell`; `between` is called whenever nothing else happens, and says after how long it
/// wants to be called again.
fn run_with(
    plan: Plan,
    source: Option<PathBuf>,
    tell: impl FnOnce(&Daemon),
    between: impl FnMut(&[Worker]) -> Option<Duration>,
) -> ExitCode {
    // Whoever linked another provider: ours is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    raise_descriptor_limit();
    let control = plan.server.control.clone();
    let result = start(plan, source).map(|(daemon, events, admin)| {
        tell(&daemon);
        let code = daemon.serve(&events, between);
        drop(admin);
        code
    });
    config::run_dir::remove(&control);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            for line in why {
                tracing::error!("{line}");
            }
            ExitCode::from(NO_START)
        }
    }
}

type Started = (Daemon, Receiver<Event>, admin::Running);

fn start(plan: Plan, source: Option<PathBuf>) -> Result<Started, Vec<String>> {
    let plan = Arc::new(plan);
    verify(&plan)?;
    let locks = feed::lock(&plan)?;
    let admin = admin::Bound::bind(&plan.server.control, plan.server.admin).map_err(|why| vec![why])?;
    let sockets = bind_all(&plan.listeners, plan.server.workers)?;
    let shared = Arc::new(Shared::new(plan.server.workers, plan.server.outbox_bytes_total));
    let workers = create_workers(plan.server.workers, &shared)?;
    let inboxes: Vec<_> = workers.iter().map(Worker::inbox).collect();
    guard(&shared, &plan)?;
    shared.introduce(inboxes.clone());
    for inbox in &inboxes {
        inbox.push_always(Job::Plan(Arc::clone(&plan)));
    }
    let acceptor = Acceptor::start(inboxes.clone(), Arc::clone(&shared), clients_max(&plan))
        .map_err(|error| vec![format!("clients cannot be accepted: {error}")])?;
    let bound: HashMap<u64, Address> = sockets.iter().map(|(id, bound)| (*id, bound.address())).collect();
    let records = Records::begin(&plan, inboxes.clone())?;
    let giving = Giving {
        plan: &plan,
        acceptor: &acceptor,
        shared: &shared,
        inboxes: &inboxes,
        records: &records,
    };
    for (listener, (id, socket)) in plan.listeners.iter().zip(sockets) {
        giving.give(listener, id, socket);
    }
    let wanted = Arc::clone(&plan);
    let state = State {
        plan,
        lifecycle: Lifecycle::Running,
        bound,
        reloads: 0,
        reloads_failed: 0,
    };
    let state = Arc::new(Mutex::new(state));
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (to_main, events) = channel();
    watch_signals(to_main.clone()).map_err(|error| vec![format!("signals cannot be watched: {error}")])?;
    let reporter = Arc::new(snapshot::Reporter {
        inboxes,
        state: Arc::clone(&state),
        shared: Arc::clone(&shared),
        pauses: Arc::clone(&acceptor.pauses),
        accepted: Arc::clone(&acceptor.accepted),
        silent: AtomicU64::new(0),
        feeds: Arc::clone(&lines),
        records: records.writers(),
    });
    let ended = feeds::when_ended(&to_main, source.is_none() && wanted.listeners.is_empty());
    let feeds = Followed::begin(&wanted, locks, reporter.inboxes.clone(), ended, &lines)?;
    let handle = handle(&reporter, to_main, &lines);
    let admin = admin
        .start(handle)
        .map_err(|error| vec![format!("the admin thread cannot start: {error}")])?;
    if let Some(address) = admin.http_address {
        tracing::info!(%address, "admin");
    }
    tracing::info!(control = %admin.control.display(), workers = workers.len(), "started");
    let mut daemon = Daemon {
        workers,
        acceptor,
        state,
        shared,
        source,
        dbus: None,
        feeds,
        records,
        reporter,
        drain_started: None,
        stopping: false,
        late: false,
    };
    daemon.offer_dbus(&wanted);
    Ok((daemon, events, admin))
}

/// What all workers share to watch over clients.
fn guard(shared: &Shared, plan: &Plan) -> Result<(), Vec<String>> {
    // Nobody waits yet.
    let _ = shared.lockouts.apply(plan);
    let begun = shared.audit.apply(plan.audit.as_ref());
    begun.map_err(|error| vec![format!("no thread for the audit log: {error}")])
}

/// The workers' threads, without anything to do yet.
fn create_workers(count: usize, shared: &Arc<Shared>) -> Result<Vec<Worker>, Vec<String>> {
    let resolver = Resolver::start().map_err(|error| vec![format!("no thread for look-ups: {error}")])?;
    let mut workers = Vec::with_capacity(count);
    for number in 0..count {
        let (shared, resolver) = (Arc::clone(shared), resolver.clone());
        let build = move |poll, inbox| Drive::new(number, poll, inbox, shared, resolver);
        let worker = Worker::create(number, INBOX_MAX, build);
        workers.push(worker.map_err(|error| vec![format!("worker {number} cannot start: {error}")])?);
    }
    Ok(workers)
}

fn tell_main(to_main: &Sender<Event>, command: Command) -> Result<(), String> {
    let (answer, answered) = sync_channel(1);
    to_main
        .send(Event::Command(command, answer))
        .map_err(|_| "the daemon is ending".to_owned())?;
    answered
        .recv_timeout(RELOAD_WAIT)
        .unwrap_or_else(|_| Err("the daemon did not answer".to_owned()))
}

fn watch_signals(to_main: Sender<Event>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if to_main.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

impl Daemon {
    /// Where it really listens, in the plan's order.
    fn addresses(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = state.plan.listeners.iter().filter_map(|listener| {
            let address = state.bound.get(&listener_id(listener))?;
            Some(snapshot::show(address))
        });
        bound.collect()
    }

    /// What the plan asks of D-Bus; its thread starts when it is first needed. Its clients are taken by the acceptor.
    fn offer_dbus(&mut self, plan: &Plan) {
        let listens = plan
            .listeners
            .iter()
            .any(|listener| matches!(listener.face, Face::Dbus { .. }));
        if self.dbus.is_none() && (listens || !plan.buses.is_empty()) {
            let Some(home) = self.workers.get(SERVICES_HOME) else {
                return;
            };
            let reporter = Arc::clone(&self.reporter);
            let parts = dbus::Parts {
                shared: Arc::clone(&self.shared),
                home: home.inbox(),
                snapshot: Box::new(move || reporter.snapshot()),
            };
            match dbus::Running::start(parts) {
                Ok(running) => self.dbus = Some(running),
                Err(error) => tracing::error!(%error, "no thread for D-Bus"),
            }
        }
        if let Some(dbus) = &self.dbus {
            dbus.offer(plan.buses.clone());
        }
    }

    /// Until the end; the exit code.
    fn serve(mut self, events: &Receiver<Event>, mut between: impl FnMut(&[Worker]) -> Option<Duration>) -> u8 {
        let mut again = between(&self.workers);
        let mut called = Instant::now();
        while !self.is_over() {
            let timeout = if self.drain_started.is_some() {
                Some(DRAIN_LOOK)
            } else {
                again
            };
            let event = match timeout {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(timeout) => events.recv_timeout(timeout),
            };
            match event {
                Ok(Event::Signal(SIGHUP)) => {
                    let _ = self.reload();
                }
                Ok(Event::Signal(_)) => self.stop(),
                Ok(Event::Command(command, answer)) => {
                    let _ = answer.send(self.command(command));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_at_drain();
            if again.is_some_and(|wait| called.elapsed() >= wait) {
                called = Instant::now();
                again = between(&self.workers);
            }
        }
        self.acceptor.stop();
        self.feeds.stop();
        self.records.stop();
        self.dbus = None;
        for worker in &mut self.workers {
            worker.kill(if self.late { Kill::Now } else { Kill::Graceful });
        }
        self.shared.audit.stop();
        crate::local_files::finish();
        tracing::info!("ended");
        if self.late { DRAIN_LATE } else { CLEAN }
    }

    fn command(&mut self, command: Command) -> Result<(), String> {
        match command {
            Command::Reload => self.reload(),
            Command::Drain(level) => {
                self.drain(level);
                Ok(())
            }
            Command::Stop => {
                self.stop();
                Ok(())
            }
        }
    }

    /// Drains gently, then ends; told again, harder.
    fn stop(&mut self) {
        let level = match (self.lifecycle(), self.stopping) {
            (Lifecycle::Running | Lifecycle::Drained, _) | (_, false) => Drain::Gentle,
            (Lifecycle::Draining(Drain::Gentle), true) => Drain::Firm,
            (Lifecycle::Draining(_), true) => Drain::Now,
        };
        self.stopping = true;
        self.drain(level);
    }

    fn lifecycle(&self) -> Lifecycle {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lifecycle
    }

    fn set_lifecycle(&self, lifecycle: Lifecycle) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lifecycle = lifecycle;
    }

    fn drain(&mut self, level: Drain) {
        let level = match self.lifecycle() {
            Lifecycle::Draining(before) if before >= level => return,
            Lifecycle::Drained => return,
            _ => level,
        };
        tracing::info!(?level, clients = self.shared.clients_total(), "draining");
        if self.drain_started.is_none() {
            let plan = Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).plan);
            for listener in &plan.listeners {
                self.acceptor.remove(listener_id(listener));
            }
        }
        if let Some(dbus) = &self.dbus {
            dbus.drain();
        }
        self.drain_started = Some(Instant::now());
        self.set_lifecycle(Lifecycle::Draining(level));
        for worker in &self.workers {
            worker.signal(Signal::Drain(level));
        }
    }

    /// Raises the level of a drain that takes too long; notes one that is done.
    fn look_at_drain(&mut self) {
        let (Some(started), Lifecycle::Draining(level)) = (self.drain_started, self.lifecycle()) else {
            return;
        };
        if self.shared.clients_total() == 0 && self.shared.sockets() == 0 {
            tracing::info!("drained");
            self.drain_started = None;
            return self.set_lifecycle(Lifecycle::Drained);
        }
        let server = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .plan
            .server
            .clone();
        match level {
            Drain::Gentle if started.elapsed() >= server.drain_gentle => {
                self.late = self.stopping;
                self.drain(Drain::Firm);
            }
            Drain::Firm if started.elapsed() >= server.drain_firm => {
                self.late = self.stopping;
                self.drain(Drain::Now);
            }
            _ => {}
        }
    }

    fn is_over(&self) -> bool {
        self.stopping && self.lifecycle() == Lifecycle::Drained
    }

    fn reload(&mut self) -> Result<(), String> {
        let result = self.try_reload();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(Ok(())) => {
                state.reloads += 1;
                tracing::info!("reloaded");
                Ok(())
            }
            Ok(Err(why)) => {
                state.reloads += 1;
                tracing::error!("reloaded, but {why}");
                Err(format!("reloaded, but {why}"))
            }
            Err(why) => {
                state.reloads_failed += 1;
                tracing::error!("not reloaded, nothing has changed: {why}");
                Err(why)
            }
        }
    }

    /// Everything that can fail comes first; then the difference is applied. What fails even so, is in the second result.
    fn try_reload(&mut self) -> Result<Result<(), String>, String> {
        if self.lifecycle() != Lifecycle::Running {
            return Err("the daemon is draining".to_owned());
        }
        let source = self.source.clone().ok_or("this daemon was not started from a file")?;
        let (new, warnings) = config::load(&source).map_err(|found| render(&found, false))?;
        for warning in render(&warnings, false).lines() {
            tracing::warn!("{warning}");
        }
        let old = Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).plan);
        let mut new = new;
        for (what, differs) in [
            ("workers", new.server.workers != old.server.workers),
            ("control", new.server.control != old.server.control),
            ("admin", new.server.admin != old.server.admin),
        ] {
            if differs {
                tracing::warn!("[server] {what} changes with the next start only");
            }
        }
        new.server.workers = old.server.workers;
        new.server.control.clone_from(&old.server.control);
        new.server.admin = old.server.admin;
        let new = Arc::new(new);
        verify(&new).map_err(|why| why.join("; "))?;
        let known = |listener: &&Arc<Listener>| {
            old.listeners
                .iter()
                .any(|other| listener_id(other) == listener_id(listener))
        };
        let fresh: Vec<Arc<Listener>> = new
            .listeners
            .iter()
            .filter(|listener| !known(listener))
            .cloned()
            .collect();
        let sockets = bind_all(&fresh, new.server.workers).map_err(|why| why.join("; "))?;
        let locks = self.feeds.prepare(&new)?;
        let writers = self.records.prepare(&new).map_err(|why| why.join("; "))?;
        self.records.apply(&new, &writers);
        self.apply(&old, &new, &fresh, sockets);
        self.offer_dbus(&new);
        Ok(self.feeds.apply(&new, locks))
    }

    fn apply(&mut self, old: &Arc<Plan>, new: &Arc<Plan>, fresh: &[Arc<Listener>], sockets: Vec<(u64, Opened)>) {
        let gone = |listener: &&Arc<Listener>| {
            !new.listeners
                .iter()
                .any(|other| listener_id(other) == listener_id(listener))
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in old.listeners.iter().filter(gone) {
            let id = listener_id(listener);
            self.acceptor.remove(id);
            state.bound.remove(&id);
        }
        radius::inherit(old, new, self.shared.clock.now());
        if let Err(error) = self.shared.audit.apply(new.audit.as_ref()) {
            tracing::error!(%error, "no thread for the audit log");
        }
        let woken = self.shared.lockouts.apply(new);
        // The workers know a listener before its first client comes.
        for worker in &self.workers {
            worker.inbox().push_always(Job::Plan(Arc::clone(new)));
        }
        wake_bids(&self.shared, &woken);
        for listener in &new.listeners {
            let id = listener_id(listener);
            self.acceptor
                .change(id, Arc::clone(listener), workers_of(new, listener));
        }
        let giving = Giving {
            plan: new,
            acceptor: &self.acceptor,
            shared: &self.shared,
            inboxes: &self.reporter.inboxes,
            records: &self.records,
        };
        for (listener, (id, socket)) in fresh.iter().zip(sockets) {
            state.bound.insert(id, socket.address());
            giving.give(listener, id, socket);
        }
        self.acceptor.set_clients_max(clients_max(new));
        self.shared
            .waiting_bytes_max
            .store(new.server.outbox_bytes_total, Ordering::Relaxed);
        state.plan = Arc::clone(new);
    }
}

/// The workers on which a listener's clients live.
fn workers_of(plan: &Plan, listener: &Listener) -> Vec<usize> {
    match &listener.face {
        Face::Ldap { directory } => match plan.directories.get(directory) {
            Some(directory) => hosts(directory, plan.server.workers),
            None => Vec::new(),
        },
        Face::Nslcd {
            behind: Behind::Directory(directory),
            ..
        }
        | Face::Saslauthd {
            behind: Behind::Directory(directory),
            ..
        } => match plan.directories.get(directory) {
            Some(directory) => hosts(directory, plan.server.workers),
            None => Vec::new(),
        },
        // Every worker has a socket of its own.
        Face::Radius(_) => Vec::new(),
        Face::Rpc { .. } | Face::Dbus { .. } | Face::Nslcd { .. } | Face::Saslauthd { .. } => vec![SERVICES_HOME],
    }
}
