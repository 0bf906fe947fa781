//! Servers that DNS names: a plan with services in it becomes one with the servers that were found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::core::policy::Kind as Policy;

use super::plan::{Directory, Plan, Target, Tier, Upstream, UpstreamTls};
use crate::net::dns::Found;

/// Servers of each service, as they were found last.
pub type Answers = BTreeMap<String, Vec<Found>>;

/// Tiers of a directory at most.
const TIERS_MAX: usize = 16;

/// The services that a directory's servers come from.
pub fn services(directory: &Directory) -> BTreeSet<&str> {
    let servers = directory.tiers.iter().flat_map(|tier| &tier.servers);
    servers.filter_map(|server| service_of(server)).collect()
}

fn service_of(server: &Upstream) -> Option<&str> {
    match &server.target {
        Target::Srv { service, .. } => Some(service),
        _ => None,
    }
}

/// The plan with the servers that were found in place of their services.
pub fn expand(plan: &Plan, answers: &Answers) -> Plan {
    let mut plan = plan.clone();
    for directory in plan.directories.values_mut() {
        if !services(directory).is_empty() {
            let tiers = tiers(directory, answers);
            Arc::make_mut(directory).tiers = tiers;
        }
    }
    plan
}

/// A priority of DNS and `priority` of a server are the same number.
fn tiers(directory: &Directory, answers: &Answers) -> Vec<Tier> {
    let mut tiers: BTreeMap<usize, (Policy, Vec<Arc<Upstream>>)> = BTreeMap::new();
    let mut names = BTreeSet::new();
    for tier in &directory.tiers {
        for server in &tier.servers {
            if service_of(server).is_none() && names.insert(server.name.clone()) {
                let (_, servers) = tiers.entry(tier.priority).or_insert((tier.policy, Vec::new()));
                servers.push(Arc::clone(server));
            }
        }
    }
    for tier in &directory.tiers {
        for server in &tier.servers {
            let found = service_of(server).and_then(|service| answers.get(service));
            for one in found.into_iter().flatten() {
                let server = named(server, one);
                if names.insert(server.name.clone()) {
                    let (_, servers) = tiers.entry(one.priority.into()).or_insert((tier.policy, Vec::new()));
                    servers.push(Arc::new(server));
                }
            }
        }
    }
    let tier = |(priority, (policy, servers))| Tier {
        priority,
        policy,
        servers,
    };
    tiers.into_iter().map(tier).take(TIERS_MAX).collect()
}

/// A server that was found, otherwise as is written of its service.
fn named(service: &Upstream, found: &Found) -> Upstream {
    let Target::Srv { tls, .. } = &service.target else {
        return service.clone();
    };
    let (scheme, usual) = match tls {
        UpstreamTls::Ldaps(_) => ("ldaps", 636),
        _ => ("ldap", 389),
    };
    let port = if found.port == usual {
        String::new()
    } else {
        format!(":{}", found.port)
    };
    Upstream {
        name: format!("{scheme}://{}{port}", found.host),
        target: Target::Tcp {
            host: found.host.clone(),
            port: found.port,
            tls: tls.clone(),
        },
        // What DNS gives the weight 0 is to be chosen seldom, not never (RFC 2782): here 0 would mean never.
        weight: u32::from(found.weight).max(1),
        ..service.clone()
    }
}
