//! Names that DNS tells more of: services whose servers it names, and whom to ask.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::check_directory::{protection, writing_settings};
use super::diagnostic::{At, Place, Problems};
use super::files::Folder;
use super::plan::{Target, Tier};
use super::raw;
use super::raw_server;
use super::values::Scheme;
use crate::net::dns::DnsPlan;

/// Names of DNS are no longer.
const NAME_BYTES_MAX: usize = 253;
const PORT: u16 = 53;
const SERVERS_MAX: usize = 8;
/// Names are looked up no more often.
const SHORTEST: Duration = Duration::from_secs(1);
/// Where a service is looked up again, unless said otherwise.
const AGAIN: Duration = Duration::from_secs(60);

/// What a server with `srv` stands for.
pub(super) fn service(
    p: &mut Problems,
    directory: &raw::Directory,
    raw: &raw::Upstream,
    srv: &At<String>,
    folder: &Folder,
) -> Option<Target> {
    let by_dns = [
        ("name", raw.name.as_ref().map(|at| &at.place)),
        ("weight", raw.weight.as_ref().map(|at| &at.place)),
        ("priority", raw.priority.as_ref().map(|at| &at.place)),
    ];
    for (key, place) in by_dns {
        if let Some(place) = place {
            p.error(place, format!("`{key}` beside `srv`"))
                .label("DNS says it of each server")
                .help("remove it");
        }
    }
    let writable = raw.writing.writable.as_ref().map(|at| ("writable", Some(&at.place)));
    for (key, place) in writable.into_iter().chain(writing_settings(&raw.writing)) {
        if let Some(place) = place {
            p.error(place, format!("`{key}` is for a local directory"))
                .help("remove it");
        }
    }
    let service = srv.value.trim_end_matches('.').to_ascii_lowercase();
    let labels: Vec<&str> = service.split('.').collect();
    let sound = service.len() <= NAME_BYTES_MAX
        && labels.iter().all(|label| !label.is_empty() && label.len() <= 63)
        && matches!(labels.as_slice(), [first, "_tcp", _, ..] if first.len() > 1 && first.starts_with('_'));
    if !sound {
        p.error(&srv.place, "`srv` is not the name of a service")
            .label(format!("found \"{}\"", srv.value))
            .help("write srv = \"_ldap._tcp.example.com\", or \"_ldaps._tcp.…\" for TLS from the first byte");
        return None;
    }
    let scheme = if service.starts_with("_ldaps.") {
        Scheme::Ldaps
    } else {
        Scheme::Ldap
    };
    let tls = protection(p, directory, raw, scheme, &srv.place, None, folder)?;
    Some(Target::Srv { service, tls })
}

/// Services make tiers of their own: they are not part of one that is written.
pub(super) fn refuse_in_tiers(p: &mut Problems, tiers: &[raw::Tier]) {
    for srv in tiers
        .iter()
        .flat_map(|tier| &tier.servers)
        .filter_map(|server| server.srv.as_ref())
    {
        p.error(&srv.place, "`srv` has no meaning within a tier")
            .label("its servers' priorities are the tiers")
            .help("write all servers in one list, without tiers; `priority` of a server is the same number as in DNS");
    }
}

/// The fewest connections that servers found by DNS have.
pub(super) fn fewest_connections(tiers: &[Tier]) -> Option<usize> {
    let servers = tiers.iter().flat_map(|tier| &tier.servers);
    let services = servers.filter(|server| matches!(server.target, Target::Srv { .. }));
    services.map(|server| server.connections.max(1)).min()
}

/// How often names are looked up again; zero: never.
pub(super) fn interval(p: &mut Problems, raw: &raw::Directory, tiers: &[Tier]) -> Duration {
    let default = if fewest_connections(tiers).is_some() {
        AGAIN
    } else {
        Duration::ZERO
    };
    let Some(written) = &raw.resolve_interval else {
        return default;
    };
    if !written.value.is_zero() && written.value < SHORTEST {
        p.error(&written.place, "`resolve_interval` is too short")
            .label("DNS servers would be asked all the time")
            .help("write at least \"1s\"; 0: names are not looked up again");
    }
    written.value
}

/// Whom to ask.
pub(super) fn dns(p: &mut Problems, raw: &raw_server::Server) -> DnsPlan {
    let written = raw.dns_servers.as_ref();
    let mut servers = Vec::new();
    for text in written.map_or(&[][..], |at| &at.value) {
        match address(&text.value) {
            Some(address) => servers.push(address),
            None => {
                p.error(&text.place, "`dns_servers` is a list of addresses")
                    .label(format!("found \"{}\"", text.value))
                    .help("write dns_servers = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]");
            }
        }
    }
    if let Some(written) = written
        && !(1..=SERVERS_MAX).contains(&written.value.len())
    {
        p.error(
            &written.place,
            format!("`dns_servers` has {} addresses", written.value.len()),
        )
        .help(format!(
            "name 1 to {SERVERS_MAX} of them, or leave it out: then the system's are asked"
        ));
    }
    DnsPlan {
        servers,
        timeout: raw.dns_timeout.as_ref().map_or(Duration::from_secs(2), |at| at.value),
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    let with_port = text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0);
    with_port.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, PORT)))
}

/// The place of a server's name.
pub(super) fn place(raw: &raw::Upstream) -> Place {
    let at = raw
        .name
        .as_ref()
        .or(raw.srv.as_ref())
        .or(raw.url.as_ref())
        .or(raw.ldif.as_ref());
    at.map_or(Place::Nowhere, |at| at.place.clone())
}
