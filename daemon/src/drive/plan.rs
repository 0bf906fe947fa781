//! A configuration becomes this worker's: what is new is made, what is gone is drained, what differs is changed in place,
//! and what is the same is not touched.
//!
//! A directory lives on as many workers as its servers have connections, if they are fewer than the workers; its
//! listeners' clients go to those workers only (see [`hosts`]), so that no request crosses a thread.

use std::sync::Arc;

use engine::session::ldap::Settings;
use rustls::ServerConfig as TlsConfig;
use wire::ldap::grammar::Limits;

use super::Drive;
use super::audit::Audited;
use super::directory::{Directory, Server};
use super::pool_config::{pool_config, service_config};
use super::pools::{PoolState, Target};
use super::preface::Complaints;
use super::service::Service;
use super::timers::span;
use crate::config::plan::{self, Behind, Face, Identity, Listener, Plan};
use crate::lockouts::Lockout;
use crate::net::tls;

/// A listener, as its clients need it.
#[derive(Debug)]
pub struct ListenerState {
    /// As configured.
    pub plan: Arc<Listener>,
    /// The sessions' settings.
    pub settings: Settings,
    /// TLS, where configured.
    pub tls: Option<Arc<TlsConfig>>,
    /// The directory's pool on this worker.
    pub pool: Option<usize>,
    /// Largest message from a client.
    pub request_bytes_max: usize,
    /// What was wrong with PROXY headers.
    pub complaints: Complaints,
    /// What the audit log is told of its operations.
    pub audit: Option<Arc<Audited>>,
    /// Lockout after failed binds.
    pub lockout: Option<Arc<Lockout>>,
    /// Limits of clients.
    pub limits: Option<Arc<crate::limits::Limits>>,
}

/// Which workers a directory lives on, of `workers`: all, or as many as its server with the fewest connections has.
pub fn hosts(directory: &plan::Directory, workers: usize) -> Vec<usize> {
    let servers = directory.tiers.iter().flat_map(|tier| &tier.servers);
    let remote = servers.filter(|server| !matches!(server.target, plan::Target::Local(_)));
    let fewest = remote.map(|server| server.connections.max(1));
    // Which servers DNS names does not decide where a directory lives.
    let fewest = fewest.chain(directory.service_connections).min().unwrap_or(workers);
    let count = fewest.clamp(1, workers.max(1));
    let first = directory
        .name
        .bytes()
        .fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    (0..count).map(|n| (first.wrapping_add(n)) % workers.max(1)).collect()
}

/// The worker on which all services live.
pub const SERVICES_HOME: usize = 0;

/// A name for a listener that is the same across reloads.
pub fn listener_id(listener: &Listener) -> u64 {
    use std::hash::BuildHasher;
    foldhash::fast::FixedState::with_seed(1).hash_one((&listener.address, listener.nth))
}

impl Drive {
    pub(super) fn apply(&mut self, plan: &Arc<Plan>) {
        for index in 0..self.pools.len() {
            let keep = match self
                .pools
                .get(index)
                .and_then(Option::as_ref)
                .map(|state| &state.target)
            {
                Some(Target::Directory(directory)) => plan.directories.get(&directory.plan.name).is_some_and(|new| {
                    self.share(new, plan.server.workers).is_some() && new.identity == directory.plan.identity
                }),
                Some(Target::Service(service)) => plan.services.contains_key(&service.plan.name),
                None => continue,
            };
            if !keep && let Some(state) = self.pool(index) {
                state.leaving = true;
            }
        }
        for directory in plan.directories.values() {
            if let Some(share) = self.share(directory, plan.server.workers) {
                self.apply_directory(directory, share, plan.server.location.as_deref());
            }
        }
        if self.number == SERVICES_HOME {
            for service in plan.services.values() {
                self.apply_service(service);
            }
        }
        self.plan = Some(Arc::clone(plan));
        self.apply_listeners(plan);
        self.apply_radius(plan);
        for index in 0..self.pools.len() {
            self.carry_out(index, None);
            self.forget_left(index);
        }
    }

    /// This worker's place among the hosts of a directory, and how many they are.
    fn share(&self, directory: &plan::Directory, workers: usize) -> Option<(usize, usize)> {
        let hosts = hosts(directory, workers);
        let place = hosts.iter().position(|host| *host == self.number)?;
        Some((place, hosts.len()))
    }

    pub(super) fn find_directory(&self, name: &str) -> Option<usize> {
        self.pools.iter().position(|state| {
            state.as_ref().is_some_and(|state| {
                !state.leaving && matches!(&state.target, Target::Directory(directory) if directory.plan.name == name)
            })
        })
    }

    pub(super) fn find_service(&self, name: &str) -> Option<usize> {
        self.pools.iter().position(|state| {
            state.as_ref().is_some_and(|state| {
                !state.leaving && matches!(&state.target, Target::Service(service) if service.plan.name == name)
            })
        })
    }

    fn add_pool(&mut self, target: Target) -> usize {
        let seed = (self.now.as_micros() << 8) ^ (self.number as u64) ^ 0x9E37_79B9_7F4A_7C15;
        let state = Some(PoolState::new(seed, target));
        match self.pools.iter().position(Option::is_none) {
            Some(index) => {
                if let Some(place) = self.pools.get_mut(index) {
                    *place = state;
                }
                index
            }
            None => {
                self.pools.push(state);
                self.pools.len() - 1
            }
        }
    }

    fn apply_directory(&mut self, plan: &Arc<plan::Directory>, share: (usize, usize), location: Option<&str>) {
        let now = self.now;
        let index = match self.find_directory(&plan.name) {
            Some(index) => index,
            None => {
                let names = self.shared.names.of(&plan.name);
                self.add_pool(Target::Directory(Box::new(Directory::new(Arc::clone(plan), names))))
            }
        };
        let Some(state) = self.pool(index) else { return };
        let Some(directory) = state.directory() else { return };
        directory.take_plan(plan);
        let config = pool_config(directory, share, location);
        state.pool.configure(config, now, &mut state.effects);
    }

    fn apply_service(&mut self, plan: &Arc<plan::Service>) {
        let now = self.now;
        let index = match self.find_service(&plan.name) {
            Some(index) => index,
            None => self.add_pool(Target::Service(Box::new(Service::new(Arc::clone(plan))))),
        };
        let Some(state) = self.pool(index) else { return };
        let Some(service) = state.service() else { return };
        service.plan = Arc::clone(plan);
        state.pool.configure(service_config(plan), now, &mut state.effects);
        self.carry_out(index, None);
        self.replace_outdated(index);
    }

    fn apply_listeners(&mut self, plan: &Plan) {
        let mut listeners = std::mem::take(&mut self.listeners);
        self.audit = self.shared.audit.handle();
        for new in &plan.listeners {
            let id = listener_id(new);
            let pool = match &new.face {
                Face::Ldap { directory } => self.find_directory(directory),
                Face::Nslcd { behind, .. } | Face::Saslauthd { behind, .. } => match behind {
                    Behind::Directory(directory) => self.find_directory(directory),
                    Behind::Service(service) => self.find_service(service),
                },
                Face::Rpc { .. } | Face::Dbus { .. } | Face::Radius(_) => None,
            };
            let old = listeners.remove(&id);
            let tls = match old.filter(|old| old.plan.tls == new.tls).and_then(|old| old.tls) {
                Some(tls) => Some(tls),
                // The plan was checked before it came here, so this fails only if a file changed since.
                None => new.tls.as_ref().and_then(|tls| {
                    tls::server(tls, self.shared.tickets.of(id, tls))
                        .inspect_err(|why| tracing::error!(why, "a listener has no TLS"))
                        .ok()
                }),
            };
            let directory = pool.and_then(|pool| self.pool(pool)?.directory().map(|found| Arc::clone(&found.plan)));
            let request_bytes_max = directory
                .as_ref()
                .map_or(usize::MAX, |found| found.limits.request_bytes_max);
            let mut settings = settings(directory.as_deref(), tls.is_some() && !new.tls_first);
            settings.monitor.clone_from(&new.monitor);
            let state = ListenerState {
                plan: Arc::clone(new),
                settings,
                tls,
                pool,
                request_bytes_max,
                complaints: Complaints::default(),
                audit: Audited::of(plan, new),
                lockout: self.shared.lockouts.get(id),
                limits: self.shared.limits.get(id),
            };
            self.listeners.insert(id, state);
        }
        // Clients of listeners that are gone, or that lead elsewhere now, finish what they have. Their listener's settings
        // stay while they do.
        for (id, old) in listeners {
            self.listeners.entry(id).or_insert(old);
        }
        self.limit_again();
        let ids: Vec<u64> = plan.listeners.iter().map(|listener| listener_id(listener)).collect();
        let leaving: Vec<usize> = self
            .conns
            .iter()
            .filter(|(_, conn)| match &conn.kind {
                super::conn::Kind::Ldap(client) => {
                    !ids.contains(&client.listener)
                        || self.listeners.get(&client.listener).and_then(|listener| listener.pool) != Some(client.pool)
                }
                super::conn::Kind::Rpc(client) => !ids.contains(&client.listener),
                super::conn::Kind::Ask(client) => !ids.contains(&client.listener),
                _ => false,
            })
            .map(|(at, _)| at)
            .collect();
        for at in leaving {
            self.drain_client(at, engine::core::Drain::Gentle);
        }
    }

    /// A pool that was removed goes once nobody needs it.
    pub(super) fn forget_left(&mut self, index: usize) {
        let now = self.now;
        if self.pool(index).is_none_or(|state| !state.leaving) {
            return;
        }
        let used = self.conns.iter().any(|(_, conn)| match &conn.kind {
            super::conn::Kind::Ldap(client) => client.pool == index,
            super::conn::Kind::Ask(client) => client.pool == index,
            _ => false,
        });
        let Some(state) = self.pool(index) else { return };
        if used || state.pool.pending() > 0 {
            return;
        }
        state.pool.drain(engine::core::Drain::Firm, now, &mut state.effects);
        self.carry_out(index, None);
        if self.pool(index).is_some_and(|state| state.pool.is_gone())
            && let Some(place) = self.pools.get_mut(index)
        {
            *place = None;
        }
    }

    /// A panic has left a pool in an impossible state: everybody who waits is told, and it begins anew.
    pub(super) fn restart_pool(&mut self, index: usize) {
        let Some(mut old) = self.pools.get_mut(index).and_then(Option::take) else {
            return;
        };
        tracing::error!(pool = index, "a pool is begun anew");
        self.forget_followers(|pool, _, _| pool == index);
        let waiting: Vec<_> = old
            .flights
            .iter()
            .filter_map(|flight| Some((flight.ticket?, flight.caller?, flight.told)))
            .collect();
        let places: Vec<_> = old.places.drain(..).map(|(_, place)| place).collect();
        let fresh = match old.target {
            Target::Directory(directory) => {
                let plan = Arc::clone(&directory.plan);
                let names = self.shared.names.of(&plan.name);
                Target::Directory(Box::new(Directory::new(plan, names)))
            }
            Target::Service(service) => Target::Service(Box::new(Service::new(Arc::clone(&service.plan)))),
        };
        if let Some(place) = self.pools.get_mut(index) {
            *place = Some(PoolState::new(self.now.as_micros(), fresh));
        }
        for place in places {
            match place {
                super::pools::Place::Conn(conn) => self.unbind(conn),
                super::pools::Place::Runner(Some(run)) => self.kill_program(run),
                super::pools::Place::Helper(helper) => self.forget_helper(helper),
                _ => {}
            }
        }
        for (ticket, caller, told) in waiting {
            if told {
                self.name_lost(caller, ticket);
                continue;
            }
            let lost = engine::core::Reason::UpstreamLost { delivered: true };
            self.failed(index, ticket, caller, lost, true);
        }
        if let Some(plan) = self.plan.clone() {
            self.apply(&plan);
        }
    }
}

impl Directory {
    /// Takes a (new) plan: servers that are the same keep their key, and with it their connections.
    fn take_plan(&mut self, plan: &Arc<plan::Directory>) {
        let mut before = std::mem::take(&mut self.servers);
        let mut next_key = before
            .iter()
            .map(|server| server.key + 1)
            .max()
            .unwrap_or(0)
            .max(self.next_key);
        let same_bind = self.plan.bind == plan.bind;
        for (tier, servers) in plan.tiers.iter().enumerate() {
            for new in &servers.servers {
                let same = before.iter().position(|old| same_bind && old.is_the_same(new));
                let server = match same.map(|at| before.swap_remove(at)) {
                    Some(old) => Server {
                        plan: Arc::clone(new),
                        tier,
                        ..old
                    },
                    None => {
                        next_key += 1;
                        Server::new(next_key, Arc::clone(new), tier)
                    }
                };
                self.servers.push(server);
            }
        }
        self.next_key = next_key;
        self.plan = Arc::clone(plan);
    }
}

impl Server {
    /// Whether its connections are what the new plan wants.
    fn is_the_same(&self, new: &plan::Upstream) -> bool {
        let old = &self.plan;
        old.name == new.name
            && old.target == new.target
            && old.bind == new.bind
            && old.marks == new.marks
            && old.proxy_protocol == new.proxy_protocol
    }

    fn new(key: u64, plan: Arc<plan::Upstream>, tier: usize) -> Self {
        let mut server = Server {
            key,
            plan,
            tier,
            tls: None,
            local: None,
            alive: true,
            next_address: 0,
            last_error: None,
            check_error: None,
            checks_failed: 0,
        };
        if let Err(why) = server.load() {
            tracing::error!(server = server.plan.name, why, "a server cannot be used");
            server.alive = false;
        }
        server
    }

    /// What the plan was checked for, made.
    fn load(&mut self) -> Result<(), String> {
        match &self.plan.target {
            plan::Target::Tcp { host, tls, .. } => {
                let client = match tls {
                    plan::UpstreamTls::None => return Ok(()),
                    plan::UpstreamTls::Ldaps(client)
                    | plan::UpstreamTls::StartTlsRequired(client)
                    | plan::UpstreamTls::StartTlsTried(client) => client,
                };
                self.tls = Some((tls::client(client)?, tls::server_name(client, host)?));
            }
            plan::Target::Unix(_) | plan::Target::Srv { .. } => {}
            plan::Target::Local(_) => self.local = Some(crate::local_files::load(&self.plan.target)?),
        }
        Ok(())
    }
}

fn settings(directory: Option<&plan::Directory>, starttls: bool) -> Settings {
    let Some(plan) = directory else {
        return Settings::default();
    };
    let limits = &plan.limits;
    Settings {
        proxied: plan.identity == Identity::Proxied,
        allow_unauthenticated_bind: limits.allow_unauthenticated_bind,
        sasl: plan.sasl.mechanisms,
        sasl_timeout: span(plan.sasl.timeout),
        starttls,
        pending_max: limits.client_pending_max,
        search_timeout: span(limits.search_timeout),
        operation_timeout: span(limits.operation_timeout),
        limits: Limits {
            filter_depth_max: limits.filter_depth_max,
            ..Limits::default()
        },
        rules: Arc::clone(&plan.routing.rules),
        reads: plan.routing.reads,
        writes: plan.routing.writes,
        coheres: !plan.routing.write_coherence.is_zero(),
        assertions: plan.assertions.clone(),
        monitor: None,
    }
}
