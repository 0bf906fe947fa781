//! How things stand, gathered from the workers for the admin side.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::core::{Health, Histogram, Score, Stats};

use super::{Lifecycle, State};
use crate::admin;
use crate::admin::snapshot::{
    Audit, Count, Counters, Directory, Feed, Gssapi, Helper, Limits, Listener, Local, Lockout, Lookups, Operations,
    Seconds, Server, Service, Snapshot,
};
use crate::config::plan::{self, Address, Behind, Face};
use crate::drive::helper::figures::{self, Exit};
use crate::drive::{DirectoryReport, HelperLine, Job, ServerLine, ServiceReport, WorkerReport, listener_id};
use crate::feed::Line;
use crate::metrics::{BUCKETS_MICROS, Class, Counts, Outcome};
use crate::shared::Shared;
use crate::worker::Inbox;

/// How long workers are waited for.
const WAIT: Duration = Duration::from_secs(2);

/// Asks the workers.
pub(super) struct Reporter {
    pub(super) inboxes: Vec<Arc<Inbox>>,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) shared: Arc<Shared>,
    /// Look-ups of names.
    pub(super) lookups: Arc<crate::net::dns::Counts>,
    pub(super) pauses: Arc<AtomicU64>,
    pub(super) accepted: Arc<AtomicUsize>,
    /// Workers that did not answer the last time.
    pub(super) silent: AtomicU64,
    /// The feeds.
    pub(super) feeds: Arc<Mutex<Vec<Line>>>,
    /// Where accounting records go.
    pub(super) records: super::records::Writers,
}

fn audit(figures: &crate::audit::Figures) -> Audit {
    Audit {
        written: figures.written,
        lost: figures.lost,
        queue: figures.queue as u64,
        last_error: figures.last_error.clone().unwrap_or_default(),
    }
}

fn lockouts(figures: Vec<crate::lockouts::Figures>) -> Vec<Lockout> {
    let one = |figures: crate::lockouts::Figures| Lockout {
        listener: figures.listener,
        locks: figures.locks,
        refused: figures.refused,
        entries: figures.entries as u64,
        locked: figures.locked as u64,
    };
    figures.into_iter().map(one).collect()
}

fn lookups(counts: &crate::net::dns::Counts) -> Lookups {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Lookups {
        services: of(&counts.services),
        services_failed: of(&counts.services_failed),
        addresses: of(&counts.addresses),
        addresses_failed: of(&counts.addresses_failed),
    }
}

fn gssapi(figures: crate::gssapi::Figures) -> Gssapi {
    Gssapi {
        answered: figures.answered,
        failed: figures.failed,
        refused: figures.refused,
        too_long: figures.too_long,
        late: figures.late,
        waiting: figures.waiting,
        running: figures.running,
    }
}

fn limits(figures: crate::limits::Figures) -> Limits {
    Limits {
        listener: figures.listener,
        refused_connections: vec![
            count("connections", figures.connections),
            count("rate", figures.connects),
            count("entries", figures.no_room),
        ],
        delayed: figures.delayed,
        refused: figures.refused,
        searches_too_large: figures.too_large,
        searches_too_long: figures.too_long,
        addresses: figures.addresses as u64,
        names: figures.names as u64,
    }
}

/// An address as it is written in configurations.
pub(super) fn show(address: &Address) -> String {
    match address {
        Address::Tcp(at) => at.to_string(),
        Address::Unix(path, _) => format!("unix:{}", path.display()),
        Address::Udp(at) => at.to_string(),
    }
}

/// A listener's protocol.
pub(super) fn protocol(listener: &plan::Listener) -> &'static str {
    match (&listener.face, listener.tls_first) {
        (Face::Ldap { .. }, false) => "ldap",
        (Face::Ldap { .. }, true) => "ldaps",
        (Face::Rpc { .. }, _) => "rpc",
        (Face::Dbus { .. }, _) => "dbus",
        (Face::Nslcd { .. }, _) => "nslcd",
        (Face::Saslauthd { .. }, _) => "saslauthd",
        (Face::Radius(_), _) => "radius",
    }
}

fn local(figures: crate::local_files::Figures) -> Local {
    Local {
        file: figures.file,
        entries: figures.entries,
        changes: figures.changes,
        unsaved: figures.unsaved,
        writes: figures.writes,
        failures: figures.failures,
    }
}

impl Reporter {
    pub(super) fn snapshot(&self) -> Snapshot {
        let reports = self.reports();
        let lines = self.feeds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let feeds: Vec<Feed> = lines.iter().map(Line::snapshot).collect();
        let silent = self.inboxes.len().saturating_sub(reports.len());
        self.silent.store(silent as u64, Ordering::Relaxed);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let directories: Vec<Directory> = state
            .plan
            .directories
            .values()
            .map(|plan| directory(plan, &reports))
            .collect();
        let services: Vec<Service> = reports
            .iter()
            .flat_map(|report| &report.services)
            .map(service)
            .collect();
        let stats = reports.iter().flat_map(|report| {
            report
                .directories
                .iter()
                .map(|d| d.stats)
                .chain(report.services.iter().map(|s| s.stats))
        });
        let stats = stats.fold(Stats::default(), add);
        let ready = can_answer(&reports) && feeds.iter().all(|feed| feed.ready);
        let lifecycle = match state.lifecycle {
            Lifecycle::Running if ready && silent == 0 => "ready",
            Lifecycle::Running => "starting",
            Lifecycle::HandedOver => "handed over",
            Lifecycle::Draining(_) => "draining",
            Lifecycle::Drained => "drained",
        };
        Snapshot {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.shared.clock.now().as_micros() / 1_000_000,
            lifecycle: lifecycle.to_owned(),
            workers: self.inboxes.len(),
            workers_silent: silent,
            each_worker: reports.iter().map(worker).collect(),
            clients: self.shared.clients_total() as u64,
            operations: directories.iter().flat_map(|d| &d.operations).map(|o| o.count).sum(),
            listeners: state
                .plan
                .listeners
                .iter()
                .map(|plan| listener(plan, &state, &reports))
                .collect(),
            audit: audit(&self.shared.audit.figures()),
            lockouts: lockouts(self.shared.lockouts.figures(self.shared.clock.now())),
            lookups: lookups(&self.lookups),
            gssapi: gssapi(self.shared.gss.figures()),
            limits: self.shared.limits.figures().into_iter().map(limits).collect(),
            counters: Counters {
                accepted: self.accepted.load(Ordering::Relaxed) as u64,
                refusals: Vec::new(),
                retries: stats.retried,
                late_replies: stats.late,
                accept_pauses: self.pauses.load(Ordering::Relaxed),
                outbox_bytes: self.shared.waiting_bytes.load(Ordering::Relaxed) as u64,
                stuck_closed: self.shared.stuck_closed.load(Ordering::Relaxed),
                panics: reports.iter().map(|report| report.panics).sum(),
                reloads: vec![count("applied", state.reloads), count("refused", state.reloads_failed)],
                upgrades: state.upgrades.counts(),
                took_over: u64::from(state.upgrades.took_over),
            },
            directories,
            local: crate::local_files::figures().into_iter().map(local).collect(),
            services,
            feeds,
            radius: super::radius::snapshot(&state, &reports, &self.records),
        }
    }

    /// Whether every worker has what it answers with.
    pub(super) fn can_answer(&self) -> bool {
        let reports = self.reports();
        reports.len() == self.inboxes.len() && can_answer(&reports)
    }

    fn reports(&self) -> Vec<WorkerReport> {
        let (to, from) = sync_channel(self.inboxes.len().max(1));
        for inbox in &self.inboxes {
            let _ = inbox.push(Job::Report(to.clone()));
        }
        drop(to);
        let until = Instant::now() + WAIT;
        let mut reports = Vec::new();
        while reports.len() < self.inboxes.len()
            && let Ok(report) = from.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            reports.push(report);
        }
        reports.sort_by_key(|report| report.worker);
        reports
    }
}

fn worker(report: &WorkerReport) -> admin::snapshot::Worker {
    admin::snapshot::Worker {
        worker: report.worker as u64,
        clients: report.clients.iter().map(|(_, count)| *count as u64).sum(),
        panics: report.panics,
    }
}

/// Each directory has a server, each service its helpers.
fn can_answer(reports: &[WorkerReport]) -> bool {
    let mut directories = reports.iter().flat_map(|report| &report.directories);
    let mut services = reports.iter().flat_map(|report| &report.services);
    directories.all(|directory| directory.ready) && services.all(|service| service.populated)
}

pub(super) fn count(label: &str, count: u64) -> Count {
    Count {
        label: label.to_owned(),
        count,
    }
}

fn add(mut sum: Stats, other: Stats) -> Stats {
    sum.submitted += other.submitted;
    sum.answered += other.answered;
    sum.failed += other.failed;
    sum.retried += other.retried;
    sum.late += other.late;
    sum.queued += other.queued;
    sum.ejections += other.ejections;
    sum.opened += other.opened;
    sum.lost += other.lost;
    sum
}

fn listener(plan: &plan::Listener, state: &State, reports: &[WorkerReport]) -> Listener {
    let id = listener_id(plan);
    let clients = reports
        .iter()
        .flat_map(|report| &report.clients)
        .filter(|(other, _)| *other == id);
    let directory = match &plan.face {
        Face::Ldap { directory } => directory.clone(),
        Face::Nslcd {
            behind: Behind::Directory(directory),
            ..
        }
        | Face::Saslauthd {
            behind: Behind::Directory(directory),
            ..
        } => directory.clone(),
        Face::Radius(radius) => radius.directory().unwrap_or_default().to_owned(),
        Face::Rpc { .. } | Face::Dbus { .. } | Face::Nslcd { .. } | Face::Saslauthd { .. } => String::new(),
    };
    let ready = reports
        .iter()
        .flat_map(|report| &report.directories)
        .any(|d| d.name == directory && d.ready);
    let word = match state.lifecycle {
        Lifecycle::Running if ready || directory.is_empty() => "ready",
        Lifecycle::Running => "starting",
        Lifecycle::HandedOver => "handed over",
        Lifecycle::Draining(_) => "draining",
        Lifecycle::Drained => "closed",
    };
    Listener {
        address: show(state.bound.get(&id).unwrap_or(&plan.address)),
        protocol: protocol(plan).to_owned(),
        directory,
        clients: clients.map(|(_, count)| *count as u64).sum(),
        state: word.to_owned(),
    }
}

fn directory(plan: &plan::Directory, reports: &[WorkerReport]) -> Directory {
    let mine: Vec<&DirectoryReport> = reports
        .iter()
        .flat_map(|report| &report.directories)
        .filter(|report| report.name == plan.name)
        .collect();
    let mut counts = Counts::default();
    let mut servers: Vec<(Server, Health)> = Vec::new();
    for report in &mine {
        counts.add(&report.counts);
        for line in &report.servers {
            match servers
                .iter_mut()
                .find(|(server, _)| server.name == line.name && server.tier == line.tier + 1)
            {
                Some((server, health)) => {
                    merge(server, line);
                    *health = worse(*health, line.health);
                    server.state = state_word(*health).to_owned();
                }
                None => servers.push((server(line), line.health)),
            }
        }
    }
    let operations = Class::ALL.iter().zip(&counts.operations).flat_map(|(class, row)| {
        Outcome::ALL.iter().zip(row).map(|(outcome, count)| Operations {
            class: class.name().to_owned(),
            result: outcome.name().to_owned(),
            count: *count,
        })
    });
    Directory {
        name: plan.name.clone(),
        identity: if plan.identity == plan::Identity::Proxied {
            "proxied"
        } else {
            "pinned"
        }
        .to_owned(),
        queue: mine.iter().map(|report| report.queued as u64).sum(),
        servers: servers.into_iter().map(|(server, _)| server).collect(),
        operations: operations.collect(),
        seconds: Seconds {
            bounds_us: BUCKETS_MICROS.to_vec(),
            buckets: counts.seconds.to_vec(),
            sum_us: counts.micros_total,
        },
        malformed: counts.malformed,
        slow_readers: counts.slow_readers,
        names_asked: counts.names_asked,
        names_spared: counts.names_spared,
        kept: vec![
            count("isolate", mine.iter().map(|report| report.kept.isolate).sum()),
            count("connection", mine.iter().map(|report| report.kept.connection).sum()),
            count("backend", mine.iter().map(|report| report.kept.backend).sum()),
        ],
    }
}

/// A server as one worker sees it.
fn server(line: &ServerLine) -> Server {
    Server {
        name: line.name.clone(),
        tier: line.tier + 1,
        state: state_word(line.health).to_owned(),
        score: score_word(line.score).to_owned(),
        checks_failed: line.checks_failed,
        check_error: line.check_error.clone().unwrap_or_default(),
        connections: u64::from(line.connections),
        bind_connections: u64::from(line.bind_connections),
        pending: u64::from(line.pending),
        operations: line.operations,
        failures: line.failures,
        latency_us: line.latency_us,
        weight: line.weight,
        pinned: u64::from(line.pinned),
        isolated: u64::from(line.isolated),
        last_error: line.last_error.clone().unwrap_or_default(),
    }
}

/// And as another one does.
fn merge(server: &mut Server, line: &ServerLine) {
    server.connections += u64::from(line.connections);
    server.bind_connections += u64::from(line.bind_connections);
    server.pending += u64::from(line.pending);
    server.pinned += u64::from(line.pinned);
    server.isolated += u64::from(line.isolated);
    server.operations += line.operations;
    server.failures += line.failures;
    server.latency_us = server.latency_us.max(line.latency_us);
    server.score = worse_score(&server.score, line.score).to_owned();
    server.checks_failed += line.checks_failed;
    if server.check_error.is_empty() {
        server.check_error = line.check_error.clone().unwrap_or_default();
    }
}

/// What one worker sees wrong counts.
fn worse(a: Health, b: Health) -> Health {
    let rank = |health: &Health| match health {
        Health::Up => 0,
        Health::Suspect => 1,
        Health::Starting => 2,
        Health::Ejected => 3,
        Health::Down => 4,
    };
    if rank(&b) > rank(&a) { b } else { a }
}

/// What one worker sees wrong counts.
fn worse_score(a: &str, b: Score) -> &'static str {
    let words = [Score::Down, Score::Degraded, Score::Available];
    let found = words.into_iter().find(|one| score_word(*one) == a || *one == b);
    score_word(found.unwrap_or(b))
}

fn score_word(score: Score) -> &'static str {
    match score {
        Score::Available => "available",
        Score::Degraded => "degraded",
        Score::Down => "down",
    }
}

fn state_word(health: Health) -> &'static str {
    match health {
        Health::Starting => "starting",
        Health::Up => "up",
        Health::Suspect => "suspect",
        Health::Ejected => "ejected",
        Health::Down => "down",
    }
}

fn service(report: &ServiceReport) -> Service {
    let counts = &report.figures;
    let label = |outcome: &figures::Outcome, calls: &u64| count(outcome.name(), *calls);
    let outcomes = || figures::Outcome::ALL.iter().zip(&counts.outcomes);
    let ended: u64 = counts.outcomes.iter().sum();
    let answered: u64 = outcomes()
        .filter_map(|(outcome, calls)| (*outcome == figures::Outcome::Answered).then_some(*calls))
        .sum();
    Service {
        name: report.name.clone(),
        running: (report.starting + report.idle + report.busy + report.stopping) as u64,
        starting: report.starting as u64,
        idle: report.idle as u64,
        busy: report.busy as u64,
        stopping: report.stopping as u64,
        max: report.max as u64,
        queued: report.queued as u64,
        queue_max: report.queue_max as u64,
        oldest_ms: report.oldest_us / 1000,
        calls: report.stats.submitted,
        failed: ended - answered,
        outcomes: outcomes().map(|(outcome, calls)| label(outcome, calls)).collect(),
        refusals: outcomes()
            .filter(|(outcome, _)| outcome.is_refusal())
            .map(|(outcome, calls)| label(outcome, calls))
            .collect(),
        starts: counts.starts,
        exits: Exit::ALL
            .iter()
            .zip(&counts.exits)
            .map(|(exit, helpers)| count(exit.name(), *helpers))
            .collect(),
        max_reached: report.stats.saturations,
        interrupted: report.interrupted,
        killed: report.killed,
        queue_wait: seconds(&report.queue_wait),
        service_time: seconds(&report.service_time),
        last_error: report.last_error.clone().unwrap_or_default(),
        helpers: report.helpers.iter().map(helper).collect(),
    }
}

fn helper(line: &HelperLine) -> Helper {
    let (call, call_us, caller) = line.call.clone().unwrap_or_default();
    Helper {
        pid: line.pid,
        state: line.state.to_owned(),
        age_ms: line.age_us / 1000,
        requests: line.requests,
        memory: line.memory,
        call,
        call_ms: call_us / 1000,
        caller,
        software: line.software.clone(),
    }
}

pub(super) fn seconds(histogram: &Histogram) -> Seconds {
    let mut seconds = Seconds {
        sum_us: histogram.sum_us,
        ..Seconds::default()
    };
    let mut below = 0;
    for (bound_us, so_far) in histogram.buckets() {
        seconds.bounds_us.push(bound_us);
        seconds.buckets.push(so_far - below);
        below = so_far;
    }
    seconds.buckets.push(histogram.count - below);
    seconds
}
