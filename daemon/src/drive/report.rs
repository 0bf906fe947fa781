//! How things stand on a worker, for whoever asks.

use std::collections::BTreeMap;

use engine::core::{Health, Histogram, Pool, Score, Stats};
use engine::session::ldap::lane;
use engine::session::ldap::rules::Action;

use super::Drive;
use super::conn::Kind;
use super::helper::figures::Figures;
use super::helper::{Helper, Phase};
use super::pools::{Caller, Target};
use super::radius::RadiusReport;
use super::service::Service;
use crate::metrics::Counts;

/// One server as one worker sees it.
#[derive(Clone, Debug)]
pub struct ServerLine {
    /// Its name in the configuration.
    pub name: String,
    /// Its tier, from 0.
    pub tier: usize,
    /// Its share.
    pub weight: u32,
    /// How it does.
    pub health: Health,
    /// Shared connections that are ready.
    pub connections: u32,
    /// Bind connections that are ready.
    pub bind_connections: u32,
    /// Clients' own connections.
    pub pinned: u32,
    /// Connections for one client at a time, in use or kept ready.
    pub isolated: u32,
    /// Operations in flight.
    pub pending: u32,
    /// Operations it has answered.
    pub operations: u64,
    /// Connections lost or refused, probes unanswered.
    pub failures: u64,
    /// Moving estimate of its service time in microseconds.
    pub latency_us: u64,
    /// The same in one word.
    pub score: Score,
    /// Checks that failed.
    pub checks_failed: u64,
    /// Why the last check failed; none: it did not.
    pub check_error: Option<String>,
    /// Why the last attempt at a connection failed.
    pub last_error: Option<String>,
}

/// A directory on one worker.
#[derive(Clone, Debug)]
pub struct DirectoryReport {
    /// Its name.
    pub name: String,
    /// Some server is usable.
    pub ready: bool,
    /// Requests that wait.
    pub queued: usize,
    /// The pool's counters.
    pub stats: Stats,
    /// Operations.
    pub counts: Counts,
    /// Its servers.
    pub servers: Vec<ServerLine>,
    /// Clients whose operations keep to something by a rule.
    pub kept: Kept,
}

/// Clients by what a rule has their operations keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// A connection that nobody else uses.
    pub isolate: u64,
    /// A connection that others use too.
    pub connection: u64,
    /// A server.
    pub backend: u64,
}

impl Kept {
    fn count(&mut self, action: Action) {
        match action {
            Action::Isolate => self.isolate += 1,
            Action::Connection => self.connection += 1,
            Action::Backend => self.backend += 1,
            Action::Ignore | Action::Write | Action::Reject => {}
        }
    }
}

/// A service on its home.
#[derive(Clone, Debug)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// Helpers that are being started.
    pub starting: usize,
    /// Helpers that are ready and have nothing to do.
    pub idle: usize,
    /// Helpers that have a call; of the kind `exec`: programs that run.
    pub busy: usize,
    /// Helpers that were told to end.
    pub stopping: usize,
    /// At once, at most.
    pub max: usize,
    /// Calls that wait.
    pub queued: usize,
    /// How many may.
    pub queue_max: usize,
    /// How long the oldest of them has waited, in microseconds.
    pub oldest_us: u64,
    /// The pool's counters.
    pub stats: Stats,
    /// Whether it has, or had, its minimum.
    pub populated: bool,
    /// From a call's coming to its being given to a helper.
    pub queue_wait: Histogram,
    /// From there to its answer.
    pub service_time: Histogram,
    /// What was counted.
    pub figures: Figures,
    /// Calls interrupted.
    pub interrupted: u64,
    /// Helpers, or programs, killed.
    pub killed: u64,
    /// Why the last attempt at a helper failed.
    pub last_error: Option<String>,
    /// Its helpers.
    pub helpers: Vec<HelperLine>,
}

/// One helper.
#[derive(Clone, Debug)]
pub struct HelperLine {
    /// Its process.
    pub pid: u32,
    /// `starting`, `idle`, `busy` or `stopping`.
    pub state: &'static str,
    /// How long it has been there, in microseconds.
    pub age_us: u64,
    /// Calls that it has ended.
    pub requests: u64,
    /// Its resident memory, bytes.
    pub memory: u64,
    /// Its oldest call: number, since how many microseconds, and whose.
    pub call: Option<(u32, u64, String)>,
    /// Its name and version, as it says.
    pub software: String,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub struct WorkerReport {
    /// Which worker.
    pub worker: usize,
    /// Clients by listener.
    pub clients: Vec<(u64, usize)>,
    /// Its directories.
    pub directories: Vec<DirectoryReport>,
    /// Its services.
    pub services: Vec<ServiceReport>,
    /// Its RADIUS listeners.
    pub radius: Vec<RadiusReport>,
    /// Panics contained.
    pub panics: u64,
}

impl Drive {
    fn service_report(&self, index: usize, service: &Service, pool: &Pool<Caller>) -> ServiceReport {
        let mut mine: Vec<HelperLine> = self
            .helpers
            .iter()
            .filter(|helper| helper.plan.name == service.plan.name)
            .map(|helper| self.helper_line(helper))
            .collect();
        mine.sort_by_key(|line| line.pid);
        let count = |state: &str| mine.iter().filter(|line| line.state == state).count();
        ServiceReport {
            name: service.plan.name.clone(),
            starting: count("starting"),
            idle: count("idle"),
            busy: count("busy") + self.running(index),
            stopping: count("stopping"),
            max: service.plan.max,
            queued: pool.queued(),
            queue_max: service.plan.queue_max,
            oldest_us: pool.oldest_wait(self.now).unwrap_or_default().as_micros(),
            populated: pool.is_populated(),
            queue_wait: *pool.queue_wait(),
            service_time: *pool.service_time(),
            stats: pool.stats(),
            figures: service.figures.clone(),
            interrupted: service.interrupted,
            killed: service.killed,
            last_error: service.last_error.clone(),
            helpers: mine,
        }
    }

    fn helper_line(&self, helper: &Helper) -> HelperLine {
        let oldest = helper
            .calls
            .iter()
            .filter(|call| !call.over)
            .min_by_key(|call| call.since);
        let state = match helper.phase {
            Phase::Starting => "starting",
            Phase::Ready if helper.calls.owes() => "busy",
            Phase::Ready => "idle",
            Phase::Leaving | Phase::Dying => "stopping",
        };
        HelperLine {
            pid: helper.pid(),
            state,
            age_us: self.now.since(helper.since).as_micros(),
            requests: helper.requests,
            memory: helper
                .process
                .as_ref()
                .and_then(|process| process.resident_bytes())
                .unwrap_or(0),
            call: oldest.map(|call| {
                (
                    call.id,
                    self.now.since(call.since).as_micros(),
                    self.who_is(call.caller),
                )
            }),
            software: helper.software.clone(),
        }
    }

    /// Clients by listener; gives those of each pool whose operations keep to something.
    fn clients_report(&self, report: &mut WorkerReport) -> BTreeMap<usize, Kept> {
        let mut kept: BTreeMap<usize, Kept> = BTreeMap::new();
        for (_, conn) in self.conns.iter() {
            if let Kind::Ldap(client) = &conn.kind
                && let Some(action) = client.session.keeps()
            {
                kept.entry(client.pool).or_default().count(action);
            }
            let listener = match &conn.kind {
                Kind::Ldap(client) => client.listener,
                Kind::Rpc(client) => client.listener,
                Kind::Ask(client) => client.listener,
                _ => continue,
            };
            match report.clients.iter_mut().find(|(id, _)| *id == listener) {
                Some((_, count)) => *count += 1,
                None => report.clients.push((listener, 1)),
            }
        }
        kept
    }

    pub(super) fn report(&self) -> WorkerReport {
        let mut report = WorkerReport {
            worker: self.number,
            panics: self.panics,
            radius: self.radius_reports(),
            ..WorkerReport::default()
        };
        let kept = self.clients_report(&mut report);
        for (index, state) in self.pools.iter().enumerate() {
            let Some(state) = state.as_ref().filter(|state| !state.leaving) else {
                continue;
            };
            match &state.target {
                Target::Directory(directory) => {
                    let lines = state.pool.report(self.now);
                    // In the order of the file, which may not be that in which they are tried.
                    let servers = directory.servers.iter().filter_map(|server| {
                        let line = lines.iter().find(|line| line.key == server.key)?;
                        let ready = |lane: usize| line.ready.get(lane).copied().unwrap_or(0);
                        Some(ServerLine {
                            name: server.plan.name.clone(),
                            tier: server.tier,
                            weight: server.plan.weight,
                            health: line.health,
                            score: line.score,
                            checks_failed: server.checks_failed,
                            check_error: server.check_error.clone(),
                            connections: ready(0),
                            bind_connections: ready(1),
                            pinned: ready(usize::from(lane::PINNED)),
                            isolated: ready(usize::from(lane::APART)),
                            pending: line.in_flight,
                            operations: line.answered,
                            failures: line.failures,
                            latency_us: line.latency.as_micros(),
                            last_error: server.last_error.clone(),
                        })
                    });
                    report.directories.push(DirectoryReport {
                        name: directory.plan.name.clone(),
                        ready: state.pool.is_ready(),
                        queued: state.pool.queued(),
                        stats: state.pool.stats(),
                        counts: directory.counts.clone(),
                        servers: servers.collect(),
                        kept: kept.get(&index).copied().unwrap_or_default(),
                    });
                }
                Target::Service(service) => report.services.push(self.service_report(index, service, &state.pool)),
            }
        }
        report
    }
}
