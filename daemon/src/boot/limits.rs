//! What the system grants, and how much of it clients may have.

use crate::config::plan::{Identity, Plan};

/// Takes all descriptors that the system grants.
pub(super) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// What clients may have of the descriptors: 90 % unless configured, and never what servers and the admin side need.
pub(super) fn clients_max(plan: &Plan) -> usize {
    use rustix::process::{Resource, getrlimit};
    let all = getrlimit(Resource::Nofile)
        .current
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(1 << 20);
    let servers = plan
        .directories
        .values()
        .flat_map(|directory| &directory.tiers)
        .flat_map(|tier| &tier.servers);
    let upstream: usize = servers
        .map(|server| server.connections_max + server.bind_connections_max)
        .sum();
    let programs: usize = plan.services.values().map(|service| service.max * 4).sum();
    let reserved = 32 + 8 * plan.server.workers + upstream + programs;
    let pinned = plan.directories.values().any(|d| d.identity == Identity::Pinned);
    let room = all.saturating_sub(reserved).min(all / 10 * 9).max(all / 4);
    // A pinned client has a connection to a server besides its own.
    let room = if pinned { room / 2 } else { room };
    plan.server.clients_max.unwrap_or(room).min(room)
}
