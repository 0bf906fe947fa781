//! What the pools of directories and services are told of their configuration: lanes, bounds, health.

use engine::core::time::Span;
use engine::core::{
    CancelRule, CheckConfig, CrashConfig, HealthConfig, LaneConfig, LaneLimits, PoolConfig, ServerConfig,
};

use super::directory::{Directory, Server};
use super::timers::span;
use crate::config::plan::{self, ServiceKind};

/// An idle bind connection beyond what is needed is closed after so long.
const BIND_IDLE_SECS: u64 = 60;
/// Longer than a request to a service can take.
const DAY_SECS: u64 = 2 * 24 * 60 * 60;
/// Feeds of one directory, beyond which there is none that could be meant.
const FEEDS_MAX: u32 = 1024;
/// Connections for one client at a time that wait for the next, per server and worker.
const APART_KEPT: u32 = 8;
/// Operations packed onto one connection before the next is used, so that their writes coalesce.
const PACK: u32 = 32;

/// What of `total` belongs to the worker at `place` of `count`.
fn portion(total: usize, (place, count): (usize, usize)) -> u32 {
    let count = count.max(1);
    u32::try_from(total / count + usize::from(place < total % count)).unwrap_or(u32::MAX)
}

/// Of a tier, servers at our own location are a tier of their own before the others.
pub(super) fn pool_config(directory: &Directory, share: (usize, usize), location: Option<&str>) -> PoolConfig {
    let plan = &directory.plan;
    let is_near = |server: &Server| location.is_some() && server.plan.location.as_deref() == location;
    let tiers = plan.tiers.iter().enumerate().flat_map(|(number, tier)| {
        let of_tier = move |found: &&Server| found.tier == number;
        let parts = [true, false].map(|near| {
            let servers = directory.servers.iter().filter(of_tier);
            let servers = servers.filter(|server| is_near(server) == near);
            let servers: Vec<_> = servers.map(|server| server_config(server, plan, share)).collect();
            (affine(plan.routing.affinity, tier.policy), servers)
        });
        parts.into_iter().filter(|(_, servers)| !servers.is_empty())
    });
    PoolConfig {
        lanes: lanes(),
        tiers: tiers.collect(),
        queue_max: u32::try_from(plan.limits.queue_max).unwrap_or(u32::MAX),
        health: health(&plan.limits),
    }
}

/// With affinity a server is chosen by hash, whatever the tier says.
fn affine(affinity: plan::Affinity, policy: engine::core::policy::Kind) -> engine::core::policy::Kind {
    match affinity {
        plan::Affinity::None => policy,
        plan::Affinity::Connection | plan::Affinity::Address | plan::Affinity::BindDn => {
            engine::core::policy::Kind::ByHash
        }
    }
}

/// In the order of [`engine::session::ldap::lane`].
fn lanes() -> Vec<LaneConfig> {
    let shared = LaneConfig {
        slots: 0,
        cancel: CancelRule::Abandon,
        owned: false,
        probes: true,
        idle_timeout: Some(Span::from_secs(BIND_IDLE_SECS)),
        spawn_rate_max: 0,
        opening_max: 0,
        lingers: None,
        pack: PACK,
    };
    let bind = LaneConfig {
        slots: 1,
        cancel: CancelRule::CloseReopen,
        probes: false,
        pack: 1,
        ..shared
    };
    let own = LaneConfig {
        owned: true,
        probes: false,
        idle_timeout: None,
        ..shared
    };
    // A feed's connection is asked by its feed whether it lives.
    // What is apart is closed by its client, or given back for the next.
    vec![shared, bind, own, own, own]
}

/// This worker's share of a server's bounds.
fn server_config(server: &Server, directory: &plan::Directory, share: (usize, usize)) -> ServerConfig {
    let plan = &server.plan;
    let local = matches!(plan.target, plan::Target::Local(_));
    let (minimum, maximum) = if local {
        (1, 1)
    } else {
        let minimum = portion(plan.connections, share).max(1);
        (minimum, portion(plan.connections_max, share).max(minimum))
    };
    let binds = portion(plan.bind_connections_max, share).max(1);
    let own = portion(directory.limits.pinned_max, share).max(1);
    let apart = portion(directory.routing.isolated_max, share).max(1);
    let lane = |min, max, pending_max| LaneLimits {
        min,
        max,
        min_spare: 0,
        upstream_pending_max: pending_max,
    };
    let per_connection = u32::try_from(plan.connection_pending_max).unwrap_or(u32::MAX);
    ServerConfig {
        key: server.key,
        weight: plan.weight,
        pending_max: u32::try_from(plan.pending_max).unwrap_or(u32::MAX),
        marks: plan.marks,
        lanes: vec![
            lane(minimum, maximum, per_connection),
            lane(0, binds, 0),
            lane(0, own, 0),
            lane(0, FEEDS_MAX, 0),
            LaneLimits {
                min_spare: apart.min(APART_KEPT),
                ..lane(0, apart, 0)
            },
        ],
        check: plan.check.as_deref().map(|check| CheckConfig {
            interval: span(check.interval),
            timeout: span(check.timeout),
            rise: check.rise,
            fall: check.fall,
        }),
        slow_start: span(plan.slow_start),
    }
}

fn health(limits: &plan::DirectoryLimits) -> HealthConfig {
    HealthConfig {
        suspect_after: span(limits.probe_suspect_interval),
        probe_interval: (!limits.probe_interval.is_zero()).then(|| span(limits.probe_interval)),
        probe_suspect_interval: span(limits.probe_suspect_interval),
        probe_timeout: span(limits.probe_timeout),
        eject_after: limits.eject_after,
        dead_after: span(limits.operation_timeout),
        retry_min: span(limits.retry_min),
        retry_max: span(limits.retry_max),
        crash: None,
        slow_factor: limits.degraded_factor,
    }
}

/// Programs that are run for each request have places, all there from the beginning; helpers come and go.
pub(super) fn service_config(plan: &plan::Service) -> PoolConfig {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let max = number(plan.max);
    let place = LaneConfig {
        slots: 1,
        cancel: CancelRule::InterruptThenKill {
            grace: span(plan.grace),
        },
        owned: false,
        probes: false,
        idle_timeout: None,
        spawn_rate_max: 0,
        opening_max: 0,
        lingers: None,
        pack: 1,
    };
    let (lane, min, min_spare) = match plan.kind {
        ServiceKind::Exec => (place, max, 0),
        ServiceKind::Helper { .. } => {
            let helper = LaneConfig {
                slots: number(plan.concurrency),
                idle_timeout: (!plan.idle_timeout.is_zero()).then(|| span(plan.idle_timeout)),
                spawn_rate_max: number(plan.spawn_rate),
                opening_max: number(plan.starting_max),
                lingers: Some(span(plan.grace)),
                ..place
            };
            (helper, number(plan.min), number(plan.min_spare))
        }
    };
    let limits = LaneLimits {
        min,
        max,
        min_spare,
        upstream_pending_max: 0,
    };
    let server = ServerConfig {
        key: 0,
        weight: 1,
        pending_max: 0,
        marks: 0,
        lanes: vec![limits],
        check: None,
        slow_start: Span::ZERO,
    };
    let helpers = matches!(plan.kind, ServiceKind::Helper { .. });
    // A program that works for long owes nothing meanwhile: deadlines end it, not doubts.
    let health = HealthConfig {
        suspect_after: Span::from_secs(DAY_SECS),
        probe_interval: None,
        eject_after: u32::MAX,
        crash: helpers.then(|| CrashConfig {
            max: number(plan.crash_max),
            window: span(plan.crash_window),
            rest_min: span(plan.retry_min),
            rest_max: span(plan.retry_max),
        }),
        ..HealthConfig::default()
    };
    PoolConfig {
        lanes: vec![lane],
        tiers: vec![(engine::core::policy::Kind::LeastBusy, vec![server])],
        queue_max: u32::try_from(plan.queue_max).unwrap_or(u32::MAX),
        health,
    }
}
