//! How things stand on a worker, for whoever asks.

use engine::core::{Health, Stats};

use super::Drive;
use super::conn::Kind;
use super::pools::Target;
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
    /// Operations in flight.
    pub pending: u32,
    /// Operations it has answered.
    pub operations: u64,
    /// Connections lost or refused, probes unanswered.
    pub failures: u64,
    /// Moving estimate of its service time in microseconds.
    pub latency_us: u64,
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
}

/// A service on its home.
#[derive(Clone, Debug)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// Programs that run now.
    pub running: usize,
    /// Programs at once, at most.
    pub max: usize,
    /// Calls that wait.
    pub queued: usize,
    /// The pool's counters.
    pub stats: Stats,
    /// Calls answered with a program's output.
    pub answered: u64,
    /// Calls that ended otherwise.
    pub failed: u64,
    /// Programs interrupted.
    pub interrupted: u64,
    /// Programs killed.
    pub killed: u64,
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
    /// Panics contained.
    pub panics: u64,
}

impl Drive {
    pub(super) fn report(&self) -> WorkerReport {
        let mut report = WorkerReport {
            worker: self.number,
            panics: self.panics,
            ..WorkerReport::default()
        };
        for (_, conn) in self.conns.iter() {
            let listener = match &conn.kind {
                Kind::Ldap(client) => client.listener,
                Kind::Rpc(client) => client.listener,
                _ => continue,
            };
            match report.clients.iter_mut().find(|(id, _)| *id == listener) {
                Some((_, count)) => *count += 1,
                None => report.clients.push((listener, 1)),
            }
        }
        for (index, state) in self.pools.iter().enumerate() {
            let Some(state) = state.as_ref().filter(|state| !state.leaving) else {
                continue;
            };
            match &state.target {
                Target::Directory(directory) => {
                    let servers = state.pool.report().into_iter().filter_map(|line| {
                        let server = directory.servers.iter().find(|server| server.key == line.key)?;
                        let ready = |lane: usize| line.ready.get(lane).copied().unwrap_or(0);
                        Some(ServerLine {
                            name: server.plan.name.clone(),
                            tier: line.tier,
                            weight: server.plan.weight,
                            health: line.health,
                            connections: ready(0),
                            bind_connections: ready(1),
                            pinned: ready(2),
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
                    });
                }
                Target::Service(service) => report.services.push(service.report(&state.pool, self.running(index))),
            }
        }
        report
    }
}
