//! From a plan to a running daemon, and to its end.
//!
//! The story: sockets are bound and every file is read before anything starts, so that what cannot be built is a failed
//! start; then workers, acceptor and admin thread; then one loop that waits for signals and commands. A reload goes the same
//! way: everything that could fail is done first, then the difference is applied.

pub mod demo;
mod draining;
mod feeds;
mod files;
mod handle;
mod limits;
mod names;
mod radius;
pub mod radius_test;
mod records;
mod signals;
mod snapshot;
mod sockets;
mod successor;
mod upgrade;
pub mod verify;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::core::Drain;
use signal_hook::consts::{SIGHUP, SIGUSR2};

use crate::admin::{self, Command};
use crate::config::plan::{Address, Behind, Face, Listener, Plan};
use crate::config::{self, render};
use crate::dbus;
use crate::drive::{Drive, Job, SERVICES_HOME, hosts, listener_id};
use crate::feed;
use crate::net::dns::Counts;
use crate::net::listen::Acceptor;
use crate::net::resolve::Resolver;
use crate::pages;
use crate::shared::Shared;
use crate::upgrade::giving::Step;
use crate::upgrade::notify;
use crate::upgrade::taking::Taken;
use crate::worker::{Inbox, Kill, Worker};
use feeds::Followed;
use files::verify;
use handle::{handle, wake_bids};
use limits::{clients_max, raise_descriptor_limit};
use names::Names;
use records::Records;
pub use signals::{Early, early};
use sockets::{Giving, Opened, bind_all};
use successor::Place;
use upgrade::Underway;

/// Jobs that wait for one worker: clients being handed over, mostly.
const INBOX_MAX: usize = 65_536;
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
    Upgrade(Step),
    /// A service was looked up again.
    Service(String, names::Answer),
}

/// How far the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    Running,
    /// Another process serves; this one, whom it has.
    HandedOver,
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
    pub(crate) upgrades: upgrade::Figures,
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
    names: Names,
    records: Records,
    reporter: Arc<snapshot::Reporter>,
    drain_started: Option<Instant>,
    stopping: bool,
    late: bool,
    admin: admin::Running,
    to_main: Sender<Event>,
    /// Where this program lay when it was started: another may lie there now.
    program: Option<PathBuf>,
    upgrade: Option<Underway>,
    /// When another process took this one's place.
    handed_over: Option<Instant>,
}

/// Runs a plan until it is told to stop; `source` is the file that a reload reads again, `early` the watch kept until here.
pub fn run(plan: Plan, source: Option<PathBuf>, early: Early) -> ExitCode {
    run_with(plan, source, Some(early), |_| {}, |_| None)
}

/// As `run`, without a file; `tell` is given the listeners' real addresses, as one writes them, once it listens.
pub fn run_and_tell(plan: Plan, tell: impl FnOnce(&[String])) -> ExitCode {
    run_with(plan, None, None, |daemon| tell(&daemon.addresses()), |_| None)
}

/// As `run`, without a file; `watch` is given the feeds, to tell how they come along.
pub fn run_feeds(plan: Plan, watch: impl FnOnce(Vec<feed::Line>)) -> ExitCode {
    run_with(plan, None, None, |daemon| watch(daemon.feeds.lines()), |_| None)
}

/// As `run`; `tell` as in `run_and_tell`; `between` is called whenever nothing else happens, and says after how long it
/// wants to be called again.
fn run_with(
    plan: Plan,
    source: Option<PathBuf>,
    early: Option<Early>,
    tell: impl FnOnce(&Daemon),
    between: impl FnMut(&[Worker]) -> Option<Duration>,
) -> ExitCode {
    // Whoever linked another provider: ours is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    raise_descriptor_limit();
    let control = plan.server.control.clone();
    let (to_main, events) = channel();
    let result = signals::watch_signals(to_main.clone())
        .map_err(|error| vec![format!("signals cannot be watched: {error}")])
        .and_then(|()| {
            drop(early);
            start(plan, source, to_main)
        })
        .map(|daemon| {
            tell(&daemon);
            daemon.serve(events, between)
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

fn start(plan: Plan, source: Option<PathBuf>, to_main: Sender<Event>) -> Result<Daemon, Vec<String>> {
    let before = Taken::receive().map_err(|why| vec![why])?;
    let Some(taken) = before else {
        return build(plan, source, to_main, &mut Place::Free);
    };
    let mut place = Place::Taken(taken);
    let built = build(plan, source, to_main, &mut place);
    if let (Err(why), Place::Taken(taken)) = (&built, &place) {
        taken.failed(&why.join("; "));
    }
    built
}

/// All parts, in their order: what can fail first, then what only one process can have, then the clients.
fn build(
    mut plan: Plan,
    source: Option<PathBuf>,
    to_main: Sender<Event>,
    place: &mut Place,
) -> Result<Daemon, Vec<String>> {
    place.fit(&mut plan);
    verify(&plan)?;
    let mut locks = place.is_free().then(|| feed::lock(&plan)).transpose()?;
    let admin = place.admin(&plan).map_err(|why| vec![why])?;
    let sockets = bind_all(&plan.listeners, plan.server.workers, place.taken())?;
    let shared = Arc::new(Shared::new(plan.server.workers, plan.server.outbox_bytes_total));
    shared.gss.bound(plan.server.gssapi);
    let resolver = Resolver::start().map_err(|error| vec![format!("no thread for look-ups: {error}")])?;
    let workers = create_workers(plan.server.workers, &shared, &resolver)?;
    let inboxes: Vec<_> = workers.iter().map(Worker::inbox).collect();
    let mut names = Names::new(resolver, inboxes.clone(), to_main.clone());
    let mut plan = names.begin(plan).map_err(|why| vec![why])?;
    guard(&shared, &plan)?;
    shared.introduce(inboxes.clone());
    let acceptor = Acceptor::start(inboxes.clone(), Arc::clone(&shared), clients_max(&plan))
        .map_err(|error| vec![format!("clients cannot be accepted: {error}")])?;
    let mut records = Records::none(inboxes.clone());
    let bound = sockets.iter().map(|(id, bound)| (*id, bound.address())).collect();
    let counts = names.counts();
    let reporter = Arc::new(reporter(
        &plan,
        bound,
        inboxes,
        (&shared, counts),
        &acceptor,
        &records,
        !place.is_free(),
    ));
    introduce(&shared, &reporter);
    place.take(&mut plan, source.as_deref(), &reporter, &mut names)?;
    if locks.is_none() {
        locks = Some(successor::patiently(|| feed::lock(&plan))?);
    }
    successor::patiently(|| records.begin(&plan))?;
    let ended = feeds::when_ended(&to_main, source.is_none() && plan.listeners.is_empty());
    let inboxes = reporter.inboxes.clone();
    let feeds = Followed::begin(&plan, locks.unwrap_or_default(), inboxes, ended, &reporter.feeds)?;
    let giving = Giving {
        plan: &plan,
        acceptor: &acceptor,
        shared: &shared,
        inboxes: &reporter.inboxes,
        records: &records,
    };
    giving.give_all(sockets);
    let control = admin.take_over().map_err(|why| vec![why])?;
    let admin = admin
        .start(handle(&reporter, to_main.clone(), &reporter.feeds))
        .map_err(|error| vec![format!("the admin thread cannot start: {error}")])?;
    place.ready(control).map_err(|why| vec![why])?;
    started(&admin, workers.len());
    let mut daemon = Daemon {
        workers,
        acceptor,
        state: Arc::clone(&reporter.state),
        shared,
        source,
        dbus: None,
        feeds,
        names,
        records,
        reporter,
        drain_started: None,
        stopping: false,
        late: false,
        admin,
        to_main,
        program: upgrade::own_path(),
        upgrade: None,
        handed_over: None,
    };
    daemon.offer_dbus(&plan);
    Ok(daemon)
}

/// Clients may ask for the figures, too. Nobody holds the other for good.
fn introduce(shared: &Shared, reporter: &Arc<snapshot::Reporter>) {
    let reporter = Arc::downgrade(reporter);
    shared
        .monitor
        .introduce(Box::new(move || reporter.upgrade().map(|reporter| reporter.snapshot())));
}

/// Tells whoever wants to know.
fn started(admin: &admin::Running, workers: usize) {
    if let Some(address) = admin.http_address {
        tracing::info!(%address, "admin");
    }
    tracing::info!(control = %admin.control.display(), workers, "started");
    pages::give_back();
    notify::ready();
}

/// Who is asked how things stand, with the state of a daemon that begins.
fn reporter(
    plan: &Arc<Plan>,
    bound: HashMap<u64, Address>,
    inboxes: Vec<Arc<Inbox>>,
    (shared, lookups): (&Arc<Shared>, Arc<Counts>),
    acceptor: &Acceptor,
    records: &Records,
    took_over: bool,
) -> snapshot::Reporter {
    let state = State {
        plan: Arc::clone(plan),
        lifecycle: Lifecycle::Running,
        bound,
        reloads: 0,
        reloads_failed: 0,
        upgrades: upgrade::Figures::new(took_over),
    };
    snapshot::Reporter {
        inboxes,
        state: Arc::new(Mutex::new(state)),
        shared: Arc::clone(shared),
        lookups,
        pauses: Arc::clone(&acceptor.pauses),
        accepted: Arc::clone(&acceptor.accepted),
        silent: AtomicU64::new(0),
        feeds: Arc::default(),
        records: records.writers(),
    }
}

/// What all workers share to watch over clients.
fn guard(shared: &Shared, plan: &Plan) -> Result<(), Vec<String>> {
    // Nobody waits yet.
    let _ = shared.lockouts.apply(plan);
    shared.limits.apply(plan);
    let begun = shared.audit.apply(plan.audit.as_ref());
    begun.map_err(|error| vec![format!("no thread for the audit log: {error}")])
}

/// The workers' threads, without anything to do yet.
fn create_workers(count: usize, shared: &Arc<Shared>, resolver: &Resolver) -> Result<Vec<Worker>, Vec<String>> {
    let mut workers = Vec::with_capacity(count);
    for number in 0..count {
        let (shared, resolver) = (Arc::clone(shared), resolver.clone());
        let build = move |poll, inbox| Drive::new(number, poll, inbox, shared, resolver);
        let worker = Worker::create(number, INBOX_MAX, build);
        workers.push(worker.map_err(|error| vec![format!("worker {number} cannot start: {error}")])?);
    }
    Ok(workers)
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
    fn serve(mut self, events: Receiver<Event>, mut between: impl FnMut(&[Worker]) -> Option<Duration>) -> u8 {
        let mut again = between(&self.workers);
        let mut called = Instant::now();
        while !self.is_over() {
            let timeout = if self.drain_started.is_some() || self.handed_over.is_some() {
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
                Ok(Event::Signal(SIGUSR2)) => self.begin_upgrade(None, None),
                Ok(Event::Signal(_)) => self.stop(),
                Ok(Event::Command(Command::Upgrade(program), answer)) => self.begin_upgrade(program, Some(answer)),
                Ok(Event::Command(command, answer)) => {
                    let _ = answer.send(self.command(&command));
                }
                Ok(Event::Upgrade(step)) => self.go_on_upgrading(step),
                Ok(Event::Service(service, found)) => self.service_found(&service, found),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.look_at_those_left();
            self.look_at_drain();
            if again.is_some_and(|wait| called.elapsed() >= wait) {
                called = Instant::now();
                again = between(&self.workers);
            }
        }
        // Who still waits for an answer is not to be waited for.
        drop(events);
        self.names.stop();
        self.acceptor.stop();
        self.feeds.stop();
        self.records.stop();
        self.dbus = None;
        for worker in &mut self.workers {
            worker.kill(if self.late { Kill::Now } else { Kill::Graceful });
        }
        self.shared.audit.stop();
        if self.handed_over.is_none() {
            crate::local_files::finish();
        }
        tracing::info!("ended");
        if self.late { DRAIN_LATE } else { CLEAN }
    }

    fn command(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::Reload => self.reload(),
            Command::Drain(level) => {
                self.drain(*level);
                Ok(())
            }
            Command::Stop => {
                self.stop();
                Ok(())
            }
            // Answered when it is done.
            Command::Upgrade(_) => Ok(()),
        }
    }

    fn lifecycle(&self) -> Lifecycle {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lifecycle
    }

    fn set_lifecycle(&self, lifecycle: Lifecycle) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).lifecycle = lifecycle;
    }

    fn is_over(&self) -> bool {
        self.stopping && self.lifecycle() == Lifecycle::Drained
    }

    fn reload(&mut self) -> Result<(), String> {
        notify::reloading();
        let result = self.try_reload();
        pages::give_back();
        notify::ready();
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
        self.is_changeable()?;
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
        verify(&new).map_err(|why| why.join("; "))?;
        let next = self.names.prepare(new)?;
        let new = Arc::clone(&next.plan);
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
        let sockets = bind_all(&fresh, new.server.workers, None).map_err(|why| why.join("; "))?;
        let locks = self.feeds.prepare(&new)?;
        let writers = self.records.prepare(&new).map_err(|why| why.join("; "))?;
        self.records.apply(&new, &writers);
        self.names.take(next);
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
        self.shared.limits.apply(new);
        // The workers know a listener before its first client comes.
        for worker in &self.workers {
            worker.inbox().push_always(Job::Plan(Arc::clone(new)));
        }
        wake_bids(&self.shared, &woken);
        self.tell_acceptor(new);
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
        self.shared.gss.bound(new.server.gssapi);
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
