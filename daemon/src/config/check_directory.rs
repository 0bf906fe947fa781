//! Directories: tiers, servers, identity, binds.

use std::collections::HashMap;
use std::sync::Arc;

use engine::core::policy::Kind as Policy;
use engine::directory::Writing;

use super::check::{Named, check_name};
use super::diagnostic::{At, Place, Problems};
use super::files::{self, Folder};
use super::plan::{self, Identity, LocalFile, Target, UpstreamTls};
use super::plan_bind::is_loopback;
use super::raw::{self, StartTls};
use super::values::{self, Scheme, ServerPlace};
use super::{check_bind, check_health, check_srv, check_tls};

/// Connections for binds to one server at most: RADIUS lets as many users in at once, and a client's is kept for a moment after it.
const BINDS_MAX: usize = 256;

/// All directories.
pub(super) fn directories(
    p: &mut Problems,
    raw: &[(At<String>, raw::Directory)],
    folder: &Folder,
) -> Named<plan::Directory> {
    let mut plans = Named::new();
    for (name, directory) in raw {
        check_name(p, "directory", name);
        if let Some(plan) = check_directory(p, name, directory, folder) {
            plans.insert(name.value.clone(), Arc::new(plan));
        }
    }
    plans
}

fn check_directory(
    p: &mut Problems,
    name: &At<String>,
    raw: &raw::Directory,
    folder: &Folder,
) -> Option<plan::Directory> {
    if let Some(base) = &raw.base {
        check_dn(p, "base", base);
    }
    let bind = check_bind::check(p, &raw.place, &raw.bind, folder);
    let tiers = tiers(p, name, raw, folder);
    let tracking = raw.session_tracking.as_ref().is_some_and(|at| at.value);
    let identity = identity(p, raw);
    let policies = raw
        .policy
        .iter()
        .chain(raw.tiers.iter().filter_map(|tier| tier.policy.as_ref()));
    let policy = policies.map(|at| &at.place).next();
    let roles: Vec<u8> = tiers
        .iter()
        .flatten()
        .flat_map(|tier: &plan::Tier| tier.servers.iter().map(|server| server.marks))
        .collect();
    let routing = super::routing::check(p, &raw.routing, &name.place, identity, policy, &roles);
    let assertions = super::check_assertion::check(p, raw, identity, bind.as_ref()?.as_ref());
    Some(plan::Directory {
        name: name.value.clone(),
        base: raw.base.as_ref().map(|at| at.value.clone()),
        identity,
        bind: bind?,
        assertions,
        session_tracking: tracking.then(super::check_nss::hostname),
        routing,
        sasl: raw.sasl,
        limits: raw.limits.clone(),
        resolve_interval: check_srv::interval(p, raw, tiers.as_deref().unwrap_or_default()),
        service_connections: check_srv::fewest_connections(tiers.as_deref().unwrap_or_default()),
        tiers: tiers?,
    })
}

/// The tiers as written, or the one that stands directly in the directory.
fn tiers(p: &mut Problems, name: &At<String>, raw: &raw::Directory, folder: &Folder) -> Option<Vec<plan::Tier>> {
    let mut names: HashMap<String, Place> = HashMap::new();
    if raw.tiers.is_empty() {
        if raw.servers.is_empty() {
            if !p.absent(&raw.place, "server") || !p.absent(&raw.place, "tier") {
                return None;
            }
            p.error(&name.place, format!("the directory `{}` has no server", name.value))
                .help("add server = [{ url = \"ldap://HOST\" }] or [{ ldif = \"FILE\" }]");
            return None;
        }
        let tier = check_tier(p, raw, &raw.servers, raw.policy.as_ref(), &mut names, folder)?;
        return Some(by_priority(&raw.servers, &tier));
    }
    if let Some(place) = raw.servers.first().and_then(|server| server.place.as_ref()) {
        let problem = p.error(place, format!("[directory.{}] has both `server` and tiers", name.value));
        problem
            .label("outside of any tier")
            .help("move it into a [[directory.NAME.tier]]");
        if let Some(tier) = raw.tiers.first() {
            problem.also(&tier.place, "the first tier");
        }
    }
    if raw.tiers.len() > 16 {
        p.error(
            &name.place,
            format!("the directory `{}` has {} tiers", name.value, raw.tiers.len()),
        )
        .help("at most 16 make sense: a tier is used only while the ones before it are down");
    }
    let mut plans = Vec::with_capacity(raw.tiers.len());
    let mut sound = true;
    check_srv::refuse_in_tiers(p, &raw.tiers);
    for tier in &raw.tiers {
        if tier.servers.is_empty() && p.absent(&tier.place, "server") {
            p.error(
                &tier.place,
                format!("a tier of [directory.{}] has no server", name.value),
            )
            .help("add server = [{ url = \"ldap://HOST\" }]");
        }
        let policy = tier.policy.as_ref().or(raw.policy.as_ref());
        for priority in tier.servers.iter().filter_map(|server| server.priority.as_ref()) {
            p.error(&priority.place, "`priority` has no meaning within a tier")
                .label("tiers are tried in the order written")
                .help("remove it, or write all servers in one list, without tiers");
        }
        match check_tier(p, raw, &tier.servers, policy, &mut names, folder) {
            Some(tier) => plans.push(plan::Tier {
                priority: plans.len() + 1,
                ..tier
            }),
            None => sound = false,
        }
    }
    sound.then_some(plans)
}

/// Servers of the same priority are a tier, the smallest number the first.
fn by_priority(servers: &[raw::Upstream], all: &plan::Tier) -> Vec<plan::Tier> {
    let mut tiers: std::collections::BTreeMap<usize, Vec<Arc<plan::Upstream>>> = std::collections::BTreeMap::new();
    for (raw, server) in servers.iter().zip(&all.servers) {
        let priority = raw.priority.as_ref().map_or(1, |at| at.value);
        tiers.entry(priority).or_default().push(Arc::clone(server));
    }
    let tier = |(priority, servers)| plan::Tier {
        priority,
        policy: all.policy,
        servers,
    };
    tiers.into_iter().map(tier).collect()
}

fn check_tier(
    p: &mut Problems,
    directory: &raw::Directory,
    servers: &[raw::Upstream],
    policy: Option<&At<Policy>>,
    names: &mut HashMap<String, Place>,
    folder: &Folder,
) -> Option<plan::Tier> {
    let kind = policy.map_or(Policy::LeastBusy, |at| at.value);
    weights(p, servers, kind);
    let mut plans = Vec::with_capacity(servers.len());
    for server in servers {
        let Some(plan) = check_upstream(p, directory, server, folder) else {
            continue;
        };
        let at = check_srv::place(server);
        if let Some(first) = names.get(&plan.name) {
            p.error(&at, format!("two servers of one directory are called `{}`", plan.name))
                .label("second here")
                .also(first, "first here")
                .help("give one of them another name = \"…\", or more `connections`, if one server is meant");
        } else {
            names.insert(plan.name.clone(), at);
        }
        plans.push(Arc::new(plan));
    }
    (plans.len() == servers.len()).then_some(plan::Tier {
        priority: 1,
        policy: kind,
        servers: plans,
    })
}

fn weights(p: &mut Problems, servers: &[raw::Upstream], policy: Policy) {
    let written: Vec<&At<i64>> = servers.iter().filter_map(|server| server.weight.as_ref()).collect();
    let Some(first) = written.first() else { return };
    if policy == Policy::RoundRobin {
        p.warning(&first.place, "`weight` has no effect under round-robin")
            .help("write policy = \"weighted\"");
    } else if written.len() == servers.len() && written.iter().all(|at| at.value == 0) {
        p.error(&first.place, "every weight of this tier is 0")
            .label("0 means: only when nothing else is up")
            .help("give at least one server a weight of 1 or more");
    }
}

fn check_upstream(
    p: &mut Problems,
    directory: &raw::Directory,
    raw: &raw::Upstream,
    folder: &Folder,
) -> Option<plan::Upstream> {
    let place = raw.place.clone().unwrap_or(Place::Nowhere);
    let (target, written) = match (&raw.srv, &raw.url, &raw.ldif) {
        (Some(srv), None, None) => (check_srv::service(p, directory, raw, srv, folder), srv),
        (Some(_), ..) => {
            p.error(
                &check_srv::place(raw),
                "a server has a `srv`, a `url` or an `ldif`, not more than one",
            )
            .help("make two servers of them");
            return None;
        }
        (None, Some(url), None) => (remote(p, directory, raw, url, folder), url),
        (None, None, Some(ldif)) => {
            let base = directory.base.as_ref().map(|at| at.value.as_str());
            (local(p, raw, ldif, base, folder), ldif)
        }
        (None, Some(_), Some(ldif)) => {
            p.error(&ldif.place, "a server has a `url` or an `ldif`, not both")
                .help("make two servers of them");
            return None;
        }
        (None, None, None) if ["url", "ldif", "srv"].iter().any(|key| !p.absent(&place, key)) => return None,
        (None, None, None) => {
            p.error(&place, "a server without an address")
                .help("add url = \"ldap://HOST\", srv = \"_ldap._tcp.DOMAIN\" or ldif = \"FILE\"");
            return None;
        }
    };
    let bind = check_bind::check(p, &place, &raw.bind, folder);
    if let Some(target) = &target {
        for bind in binds(directory, raw).filter(|_| raw.ldif.is_none()) {
            check_bind::fits(p, bind, &written.place, target);
        }
    }
    let check = check_health::server(
        p,
        directory.check.as_ref().filter(|_| raw.ldif.is_none()),
        raw.check.as_ref(),
        folder,
    );
    let count = |at: &Option<At<usize>>, default| at.as_ref().map_or(default, |at| at.value);
    let connections_max = count(&raw.connections_max, 16.max(count(&raw.connections, 4)));
    // With a maximum below the default, the maximum is what was meant.
    let connections = count(&raw.connections, 4.min(connections_max));
    if let (Some(few), Some(most)) = (&raw.connections, &raw.connections_max)
        && few.value > most.value
    {
        p.error(&few.place, "`connections` is more than `connections_max`")
            .label(format!("{} are kept open", few.value))
            .also(&most.place, format!("{} at most", most.value));
    }
    Some(plan::Upstream {
        name: raw.name.as_ref().unwrap_or(written).value.clone(),
        target: target?,
        weight: raw.weight.as_ref().map_or(1, |at| u32::try_from(at.value).unwrap_or(1)),
        marks: raw.role.as_ref().map_or(0, |at| at.value),
        connections,
        connections_max,
        bind_connections_max: count(&raw.bind_connections_max, BINDS_MAX),
        pending_max: count(&raw.pending_max, 0),
        connection_pending_max: count(&raw.connection_pending_max, 0),
        proxy_protocol: raw.proxy_protocol.as_ref().map(|at| at.value),
        bind: bind?,
        check: check?,
        slow_start: raw
            .slow_start
            .as_ref()
            .map_or(directory.limits.slow_start, |at| at.value),
        tcp: raw.tcp.options(Some(&directory.tcp)),
        location: raw.location.as_ref().map(|at| at.value.clone()),
    })
}

fn local(
    p: &mut Problems,
    raw: &raw::Upstream,
    ldif: &At<String>,
    base: Option<&str>,
    folder: &Folder,
) -> Option<Target> {
    let connection_settings = [
        ("tls", raw.tls.as_ref().map(|tls| &tls.place)),
        ("starttls", raw.starttls.as_ref().map(|at| &at.place)),
        ("connections", raw.connections.as_ref().map(|at| &at.place)),
        ("connections_max", raw.connections_max.as_ref().map(|at| &at.place)),
        (
            "bind_connections_max",
            raw.bind_connections_max.as_ref().map(|at| &at.place),
        ),
        (
            "connection_pending_max",
            raw.connection_pending_max.as_ref().map(|at| &at.place),
        ),
        ("proxy_protocol", raw.proxy_protocol.as_ref().map(|at| &at.place)),
        ("check", raw.check.as_ref().map(|check| &check.place)),
    ];
    let binds = raw.bind.places().map(|(key, place)| (key, Some(place)));
    for (key, place) in connection_settings.into_iter().chain(raw.tcp.places()).chain(binds) {
        if let Some(place) = place {
            p.error(place, format!("`{key}` has no meaning for an LDIF file"))
                .label("a local directory is not connected to")
                .help("remove it");
        }
    }
    let writing = writing(p, &raw.writing);
    let stamp = files::version(p, folder, ldif, "the LDIF file")?;
    files::ldif(p, folder, ldif, base)?;
    let file = folder.path(&ldif.value);
    Some(Target::Local(LocalFile {
        stamp: crate::local_files::identity(&file, stamp),
        file,
        base: base.map(ToOwned::to_owned),
        text: None,
        write_back: writing.is_some() && raw.writing.write_back.as_ref().is_some_and(|at| at.value),
        writing,
    }))
}

/// Entries that a local directory may have, unless said otherwise.
const ENTRIES_MAX: usize = 1_000_000;
/// Octets that they may take.
const BYTES_MAX: usize = 1 << 30;
/// Changes that are kept for consumers.
const CHANGES_MAX: usize = 10_000;

/// The settings that say how an LDIF file may be written to.
pub(super) fn writing_settings(raw: &raw::Writing) -> [(&'static str, Option<&Place>); 5] {
    [
        ("admins", raw.admins.as_ref().map(|at| &at.place)),
        ("write_back", raw.write_back.as_ref().map(|at| &at.place)),
        ("entries_max", raw.entries_max.as_ref().map(|at| &at.place)),
        ("bytes_max", raw.bytes_max.as_ref().map(|at| &at.place)),
        ("sync_log_max", raw.sync_log_max.as_ref().map(|at| &at.place)),
    ]
}

fn writing(p: &mut Problems, raw: &raw::Writing) -> Option<Writing> {
    if raw.writable.as_ref().is_none_or(|at| !at.value) {
        for (key, place) in writing_settings(raw) {
            if let Some(place) = place {
                p.error(place, format!("`{key}` is for a local directory that is written to"))
                    .help("add writable = true, or remove it");
            }
        }
        return None;
    }
    let admins = raw.admins.iter().flat_map(|at| &at.value);
    for admin in admins.clone() {
        if wire::ldap::dn::avas(admin.value.as_bytes()).any(|ava| ava.is_err()) || admin.value.is_empty() {
            p.error(&admin.place, "`admins` is a list of distinguished names")
                .label(format!("found \"{}\"", admin.value))
                .help("as in admins = [\"cn=admin,dc=example,dc=com\"]");
        }
    }
    let count = |at: &Option<At<usize>>, default| at.as_ref().map_or(default, |at| at.value);
    Some(Writing {
        admins: admins.map(|admin| admin.value.clone()).collect(),
        entries_max: count(&raw.entries_max, ENTRIES_MAX),
        bytes_max: count(&raw.bytes_max, BYTES_MAX),
        changes_max: count(&raw.sync_log_max, CHANGES_MAX),
    })
}

fn remote(
    p: &mut Problems,
    directory: &raw::Directory,
    raw: &raw::Upstream,
    url: &At<String>,
    folder: &Folder,
) -> Option<Target> {
    let parsed = match values::server_url(&url.value) {
        Ok(parsed) => parsed,
        Err(right) => {
            p.error(&url.place, "`url` of a server is not an LDAP URL")
                .label(format!("found \"{}\"", url.value))
                .help(right);
            return None;
        }
    };
    starttls_fits(p, raw, parsed.scheme)?;
    let written_to = raw.writing.writable.as_ref().map(|at| ("writable", Some(&at.place)));
    for (key, place) in written_to.into_iter().chain(writing_settings(&raw.writing)) {
        if let Some(place) = place {
            p.error(place, format!("`{key}` is for a local directory"))
                .label("an LDAP server decides itself who may write")
                .help("remove it");
        }
    }
    let (host, port) = match parsed.place {
        ServerPlace::Unix(path) => {
            if let Some(tls) = &raw.tls {
                p.error(&tls.place, "`tls` has no meaning on a unix socket")
                    .help("remove it");
            }
            if let Some(written) = &raw.proxy_protocol {
                p.error(&written.place, "`proxy_protocol` has no meaning on a unix socket")
                    .label("a header is written to servers over TCP only")
                    .help("remove it");
            }
            for (key, place) in raw.tcp.places() {
                if let Some(place) = place {
                    p.error(place, format!("`{key}` has no meaning on a unix socket"))
                        .help("remove it");
                }
            }
            return Some(Target::Unix(folder.path(&path.display().to_string())));
        }
        ServerPlace::Tcp(host, port) => (host, port),
    };
    let tls = protection(p, directory, raw, parsed.scheme, &url.place, Some(&host), folder)?;
    Some(Target::Tcp { host, port, tls })
}

fn starttls_fits(p: &mut Problems, raw: &raw::Upstream, scheme: Scheme) -> Option<()> {
    if let (Some(starttls), Scheme::Ldaps | Scheme::Ldapi) = (&raw.starttls, scheme) {
        let why = if scheme == Scheme::Ldaps {
            "ldaps:// is TLS from the first byte"
        } else {
            "a unix socket does not leave this machine"
        };
        p.error(&starttls.place, "`starttls` is for ldap://")
            .label(why)
            .help("remove `starttls`");
        return None;
    }
    Some(())
}

/// How connections over TCP are protected. `written`: what of them is in the file; `host`: where they go, if that is known.
pub(super) fn protection(
    p: &mut Problems,
    directory: &raw::Directory,
    raw: &raw::Upstream,
    scheme: Scheme,
    written: &Place,
    host: Option<&str>,
    folder: &Folder,
) -> Option<UpstreamTls> {
    starttls_fits(p, raw, scheme)?;
    let material = raw.tls.as_ref().or(directory.tls.as_ref());
    let tls = match (scheme, raw.starttls.as_ref().map(|at| at.value)) {
        (Scheme::Ldaps, _) => UpstreamTls::Ldaps(check_tls::client(p, material, folder)?),
        (_, Some(StartTls::Required)) => UpstreamTls::StartTlsRequired(check_tls::client(p, material, folder)?),
        (_, Some(StartTls::Tried)) => UpstreamTls::StartTlsTried(check_tls::client(p, material, folder)?),
        (_, None) => {
            if let Some(tls) = &raw.tls {
                p.error(&tls.place, "`tls` on a plain ldap:// server is never used")
                    .help("add starttls = \"required\", or write ldaps://");
                return None;
            }
            UpstreamTls::None
        }
    };
    if matches!(tls, UpstreamTls::None) && has_a_bind(directory, raw) && !host.is_some_and(is_loopback) {
        p.warning(written, "the password of `bind_dn` travels in plain text")
            .help("write ldaps://, or add starttls = \"required\"");
    }
    Some(tls)
}

/// The binds that are made to a server: the daemon's own, and that of its check.
fn binds<'r>(directory: &'r raw::Directory, raw: &'r raw::Upstream) -> impl Iterator<Item = &'r raw::Bind> {
    let own = [&raw.bind, &directory.bind].into_iter().find(|bind| bind.is_written());
    let checks = [&raw.check, &directory.check].into_iter().flatten();
    let of_check = checks.map(|check| &check.bind).find(|bind| bind.is_written());
    own.into_iter().chain(of_check)
}

/// Whether a password of ours travels to the server.
fn has_a_bind(directory: &raw::Directory, raw: &raw::Upstream) -> bool {
    binds(directory, raw).any(|bind| bind.dn.is_some())
}

/// As written; else `proxied` where the daemon can bind (or needs not), `pinned` where it cannot.
fn identity(p: &mut Problems, raw: &raw::Directory) -> Identity {
    let servers = || {
        raw.servers
            .iter()
            .chain(raw.tiers.iter().flat_map(|tier| &tier.servers))
    };
    let cannot_bind =
        |server: &&raw::Upstream| server.url.is_some() && !raw.bind.is_written() && !server.bind.is_written();
    let Some(written) = &raw.identity else {
        return if servers().any(|server| cannot_bind(&server)) {
            Identity::Pinned
        } else {
            Identity::Proxied
        };
    };
    if written.value == Identity::Proxied
        && let Some(server) = servers().find(cannot_bind)
    {
        let problem = p.error(&written.place, "identity \"proxied\" needs a bind of the daemon's own");
        problem
            .label("operations are sent under it, with a proxied authorization control (RFC 4370)")
            .help("add bind_dn = \"cn=…\" and bind_password_file = \"…\" (or `bind_mechanism`), or write identity = \"pinned\"");
        if let Some(url) = &server.url {
            problem.also(&url.place, "this server would be used without a bind");
        }
    }
    written.value
}

/// The form of a DN only: servers know their schema better.
pub(super) fn check_dn(p: &mut Problems, key: &str, dn: &At<String>) -> bool {
    let mut normal = Vec::new();
    let why = match wire::ldap::dn::normalize(dn.value.as_bytes(), &wire::ldap::dn::CaseIgnore, &mut normal) {
        Ok(()) if !normal.is_empty() => return true,
        Ok(()) => "it is empty".to_owned(),
        Err(error) => error.to_string(),
    };
    p.error(&dn.place, format!("`{key}` is not a distinguished name"))
        .label(why)
        .help("write it like \"cn=usherd,dc=example,dc=com\" (RFC 4514)");
    false
}
