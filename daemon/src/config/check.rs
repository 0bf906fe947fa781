//! From what was written to what it means: names are resolved, defaults filled in, files read, and everything that
//! contradicts something else is found. Collects every mistake; makes no plan when there was one.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::diagnostic::{At, Place, Problems};
use super::files::Folder;
use super::plan::{self, Address, Plan};
use super::raw::{Protocol, Raw};
use super::values::{self, ListenPlace, Scheme};
use super::{
    check_audit, check_dbus, check_directory, check_feed, check_limits, check_lockout, check_monitor, check_nss,
    check_proxy, check_rpc, check_service, check_tcp, check_tls, radius,
};

/// Where `usherd status` and the others find the daemon, unless `control` says something else.
pub const CONTROL_DEFAULT: &str = "/run/usherd/control.sock";

/// Makes the plan; none when something is wrong, which is then in `p`.
pub fn check(p: &mut Problems, raw: &Raw, folder: &Folder) -> Option<Plan> {
    let server = check_server(p, &raw.server, folder);
    let directories = check_directory::directories(p, &raw.directories, folder);
    let services = check_service::services(p, &raw.services, folder);
    let listeners = listeners(p, raw, folder, server.as_ref());
    radius::accounting::same_files(p, raw, &listeners);
    let buses = check_dbus::buses(p, raw);
    let names: Vec<&str> = raw.directories.iter().map(|(name, _)| name.value.as_str()).collect();
    let around = check_feed::Around {
        folder,
        state_dir: raw.server.state_dir.as_ref(),
        names: &names,
        directories: &directories,
        sinks: &raw.sinks,
    };
    let feeds = check_feed::feeds(p, &raw.feeds, &around);
    let audit = check_audit::audit(p, raw, folder);
    if p.has_errors() {
        return None;
    }
    unused(p, raw);
    let (server, _) = server?;
    Some(Plan {
        server,
        directories,
        services,
        feeds,
        listeners,
        buses,
        audit,
    })
}

/// Names of directories and services stand in metrics, messages and commands.
pub(super) fn check_name(p: &mut Problems, what: &str, name: &At<String>) {
    let right = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.value.is_empty() || name.value.len() > 64 || !name.value.chars().all(right) {
        p.error(&name.place, format!("`{}` cannot be the name of a {what}", name.value))
            .help("a name has 1 to 64 letters, digits, `-`, `_` or `.`");
    }
}

type Control = At<PathBuf>;

fn check_server(p: &mut Problems, raw: &super::raw::Server, folder: &Folder) -> Option<(plan::Server, Control)> {
    let written = raw
        .control
        .clone()
        .unwrap_or_else(|| super::files::nowhere(CONTROL_DEFAULT.to_owned()));
    let control = unix_path(p, folder, &written)?;
    let admin = match &raw.admin {
        Some(text) => Some(admin(p, text)?),
        None => None,
    };
    let server = plan::Server {
        workers: workers(p, raw.workers.as_ref()),
        control: control.value.clone(),
        admin,
        clients_max: raw.clients_max.as_ref().map(|at| at.value),
        outbox_bytes_total: raw.outbox_bytes_total.as_ref().map_or(24 << 20, |at| at.value),
        dns: super::check_srv::dns(p, raw),
        gssapi: raw.gssapi(),
        location: raw.location.as_ref().map(|at| at.value.clone()),
        drain_gentle: raw.drain_gentle.as_ref().map_or(Duration::from_secs(30), |at| at.value),
        drain_firm: raw.drain_firm.as_ref().map_or(Duration::from_secs(5), |at| at.value),
        upgrade_timeout: raw
            .upgrade_timeout
            .as_ref()
            .map_or(Duration::from_secs(30), |at| at.value),
        upgrade_linger: raw
            .upgrade_linger
            .as_ref()
            .map_or(Duration::from_secs(3600), |at| at.value),
    };
    Some((server, control))
}

/// 0: one per CPU that this process may use; negative: that many fewer; never less than one.
pub(super) fn workers(p: &mut Problems, written: Option<&At<i64>>) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let Some(written) = written else { return cpus };
    match usize::try_from(written.value) {
        Ok(0) => cpus,
        Ok(workers) => {
            if workers > cpus * 4 {
                p.warning(&written.place, format!("{workers} workers on {cpus} CPUs"))
                    .label("more workers than CPUs only cost memory and wake-ups")
                    .help("workers = 0 is one per CPU");
            }
            workers
        }
        Err(_) => {
            let spared = usize::try_from(written.value.unsigned_abs()).unwrap_or(usize::MAX);
            if spared >= cpus {
                p.warning(&written.place, format!("`workers` leaves none of {cpus} CPUs"))
                    .label("one worker is used");
            }
            cpus.saturating_sub(spared).max(1)
        }
    }
}

fn admin(p: &mut Problems, text: &At<String>) -> Option<SocketAddr> {
    match values::listen_address(&text.value) {
        Ok(values::ListenAddress {
            scheme: None,
            place: ListenPlace::Tcp(address),
        }) => {
            if !address.ip().is_loopback() {
                p.warning(&text.place, "the admin side listens beyond this machine")
                    .label("everyone who reaches this address may read /metrics")
                    .help("write \"127.0.0.1:9389\" unless a firewall guards it");
            }
            Some(address)
        }
        Ok(_) => {
            p.error(&text.place, "`admin` in [server] is an address for HTTP")
                .label(format!("found \"{}\"", text.value))
                .help("write \"127.0.0.1:9389\"");
            None
        }
        Err(right) => {
            p.error(&text.place, "`admin` in [server] is not an address")
                .label(format!("found \"{}\"", text.value))
                .help(right);
            None
        }
    }
}

/// The path of a unix socket: absolute, and short enough for the kernel.
fn unix_path(p: &mut Problems, folder: &Folder, written: &At<String>) -> Option<At<PathBuf>> {
    let path = folder.path(&written.value);
    let bytes = path.as_os_str().len();
    if bytes > values::UNIX_PATH_MAX {
        p.error(&written.place, "the path of the unix socket is too long")
            .label(format!("{} has {bytes} bytes", path.display()))
            .help(format!(
                "a unix socket's path has at most {} bytes",
                values::UNIX_PATH_MAX
            ));
        return None;
    }
    Some(At::new(path, written.place.clone()))
}

fn listeners(
    p: &mut Problems,
    raw: &Raw,
    folder: &Folder,
    server: Option<&(plan::Server, Control)>,
) -> Vec<Arc<plan::Listener>> {
    if raw.listeners.is_empty() && raw.feeds.is_empty() && p.absent(&Place::Nowhere, "listen") {
        p.error(&Place::Nowhere, "nothing listens")
            .help("add a listener:\n[[listen]]\nprotocol = \"ldap\"\naddress = \"[::]:389\"\ndirectory = \"NAME\"");
    }
    let mut taken: HashMap<String, (Place, &str)> = HashMap::new();
    if let Some((server, control)) = server {
        taken.insert(
            control.value.display().to_string(),
            (control.place.clone(), "the control socket"),
        );
        if let (Some(admin), Some(written)) = (server.admin, &raw.server.admin) {
            taken.insert(admin.to_string(), (written.place.clone(), "the admin side"));
        }
    }
    let mut plans = Vec::with_capacity(raw.listeners.len());
    for listen in raw.listeners.iter().filter(|listen| !check_dbus::is_bus(listen)) {
        let Some(mut listener) = listener(p, raw, listen, folder) else {
            continue;
        };
        listener.nth = plans
            .iter()
            .filter(|other: &&Arc<plan::Listener>| other.address == listener.address)
            .count();
        let at = listen
            .address
            .as_ref()
            .map_or_else(|| listen.place.clone(), |address| address.place.clone());
        let (key, free) = match &listener.address {
            Address::Tcp(address) => (address.to_string(), address.port() == 0),
            Address::Unix(path, _) => (path.display().to_string(), false),
            Address::Udp(address) => (format!("{address}/udp"), address.port() == 0),
        };
        match taken.get(&key) {
            Some((first, whose)) if !free => {
                p.error(&at, format!("{key} is listened on twice"))
                    .label("second here")
                    .also(first, format!("taken by {whose}"));
            }
            _ => {
                taken.insert(key, (at, "this listener"));
            }
        }
        plans.push(Arc::new(listener));
    }
    plans
}

fn listener(p: &mut Problems, raw: &Raw, listen: &super::raw::Listen, folder: &Folder) -> Option<plan::Listener> {
    let address = listen_address(p, listen);
    let Some(protocol) = protocol(p, listen, address.as_ref().and_then(|address| address.value.scheme)) else {
        // What it speaks is unknown, but a directory that is named must exist all the same.
        if let Some(directory) = &listen.directory {
            named_directory(p, raw, directory);
        }
        return None;
    };
    let face = face(p, raw, listen, protocol, folder);
    let tls = listener_tls(p, listen, protocol, folder);
    let address = address.and_then(|found| {
        let at = found.place.clone();
        place(p, listen, protocol, found, folder).map(|address| At::new(address, at))
    });
    let proxy = check_proxy::listener(p, listen, protocol, address.as_ref().map(|at| &at.value));
    if let (Protocol::Rpc, Some(address), Some(tls)) = (protocol, &address, &tls) {
        check_rpc::reach(p, listen, address, tls.as_ref())?;
    }
    let tls_first = protocol == Protocol::Ldaps || (protocol == Protocol::Rpc && matches!(tls, Some(Some(_))));
    let seconds = |at: &Option<At<Duration>>, default| at.as_ref().map_or(Duration::from_secs(default), |at| at.value);
    Some(plan::Listener {
        address: address?.value,
        nth: 0,
        face: face?,
        tls: tls?,
        tls_first,
        proxy: proxy?,
        partial_timeout: seconds(&listen.partial_timeout, 10),
        write_timeout: seconds(&listen.write_timeout, 10),
        idle_timeout: listen
            .idle_timeout
            .as_ref()
            .map(|at| at.value)
            .filter(|length| !length.is_zero()),
        outbox_bytes_max: listen.outbox_bytes_max.as_ref().map_or(1 << 20, |at| at.value),
        turn_messages_max: listen.turn_messages_max.as_ref().map_or(32, |at| at.value),
        clients_max: listen.clients_max.as_ref().map(|at| at.value),
        audit: check_audit::listener(p, raw, listen, protocol),
        lockout: check_lockout::listener(p, listen, protocol),
        monitor: check_monitor::listener(p, listen, protocol),
        limits: check_limits::listener(p, listen, protocol),
        tcp: check_tcp::listener(listen, protocol),
    })
}

fn listen_address(p: &mut Problems, listen: &super::raw::Listen) -> Option<At<values::ListenAddress>> {
    let Some(text) = &listen.address else {
        if !p.absent(&listen.place, "address") {
            return None;
        }
        p.error(&listen.place, "[[listen]] without an address")
            .help("add address = \"[::]:389\", \"127.0.0.1:1389\" or \"unix:/run/usherd/ldapi\"");
        return None;
    };
    match values::listen_address(&text.value) {
        Ok(address) => Some(At::new(address, text.place.clone())),
        Err(right) => {
            p.error(&text.place, "`address` in [[listen]] is not an address")
                .label(format!("found \"{}\"", text.value))
                .help(right);
            None
        }
    }
}

/// What is spoken: `protocol`, or what the scheme of the address says; both when they agree.
fn protocol(p: &mut Problems, listen: &super::raw::Listen, scheme: Option<Scheme>) -> Option<Protocol> {
    let said = scheme.map(|scheme| {
        if scheme == Scheme::Ldaps {
            Protocol::Ldaps
        } else {
            Protocol::Ldap
        }
    });
    match (&listen.protocol, said) {
        (Some(written), None) => Some(written.value),
        (None, Some(said)) => Some(said),
        (Some(written), Some(said)) if written.value == said => Some(said),
        (Some(written), Some(_)) => {
            let problem = p.error(&written.place, "`protocol` and `address` contradict each other");
            problem
                .label("says one protocol")
                .help("leave `protocol` out when the address is a URL");
            if let Some(address) = &listen.address {
                problem.also(&address.place, "says another");
            }
            None
        }
        // A scheme cannot be asked of an address that has been refused.
        (None, None) => {
            let said = listen
                .address
                .as_ref()
                .is_some_and(|address| address.value.contains("://"));
            if !p.absent(&listen.place, "protocol") || said {
                return None;
            }
            p.error(&listen.place, "[[listen]] without a protocol")
                .help("add protocol = \"ldap\", \"ldaps\", \"rpc\", \"dbus\", \"nslcd\", \"saslauthd\" or \"radius\"");
            None
        }
    }
}

fn face(
    p: &mut Problems,
    raw: &Raw,
    listen: &super::raw::Listen,
    protocol: Protocol,
    folder: &Folder,
) -> Option<plan::Face> {
    if protocol == Protocol::Radius {
        check_rpc::refuse_settings(p, listen);
        check_nss::refuse(p, listen);
        return radius::face(p, raw, listen, folder);
    }
    radius::refuse(p, listen);
    if matches!(protocol, Protocol::Nslcd | Protocol::Saslauthd) {
        check_rpc::refuse_settings(p, listen);
        return check_nss::face(p, raw, listen, protocol);
    }
    check_nss::refuse(p, listen);
    if protocol == Protocol::Rpc {
        return check_rpc::face(p, listen, folder);
    }
    if protocol == Protocol::Dbus {
        return Some(check_dbus::face(p, listen));
    }
    check_rpc::refuse_settings(p, listen);
    let Some(directory) = &listen.directory else {
        let mut names = raw.directories.iter().map(|(name, _)| name.value.as_str());
        if let (Some(only), None) = (names.next(), names.next()) {
            return Some(plan::Face::Ldap {
                directory: only.to_owned(),
            });
        }
        if p.absent(&listen.place, "directory") {
            p.error(&listen.place, "[[listen]] without a directory")
                .help("add directory = \"NAME\"");
        }
        return None;
    };
    named_directory(p, raw, directory).then(|| plan::Face::Ldap {
        directory: directory.value.clone(),
    })
}

/// Whether the directory that a listener names exists.
fn named_directory(p: &mut Problems, raw: &Raw, directory: &At<String>) -> bool {
    let names: Vec<&str> = raw.directories.iter().map(|(name, _)| name.value.as_str()).collect();
    named(p, "directory", &names, directory)
}

/// Whether what a listener names is one of these.
pub(super) fn named(p: &mut Problems, what: &str, names: &[&str], written: &At<String>) -> bool {
    if names.contains(&written.value.as_str()) {
        return true;
    }
    let problem = p.error(&written.place, format!("there is no {what} `{}`", written.value));
    problem.label(format!("no [{what}.…] has this name"));
    match super::suggest::nearest(&written.value, names.iter().copied()) {
        Some(near) => problem.help(format!("did you mean \"{near}\"?")),
        None if names.is_empty() => problem.help(format!("add a section [{what}.{}]", written.value)),
        None => problem.help(format!("there are: {}", names.join(", "))),
    };
    false
}

/// TLS of a listener; the outer none: something is wrong.
#[allow(clippy::option_option)]
fn listener_tls(
    p: &mut Problems,
    listen: &super::raw::Listen,
    protocol: Protocol,
    folder: &Folder,
) -> Option<Option<plan::TlsServer>> {
    if protocol == Protocol::Radius {
        return Some(None);
    }
    let starttls = listen.starttls.as_ref().filter(|at| at.value);
    if let Some(starttls) = starttls
        && protocol != Protocol::Ldap
    {
        let why = if protocol == Protocol::Ldaps {
            "ldaps is TLS from the first byte"
        } else {
            "with `tls`, rpc is TLS from the first byte; elsewhere there is none"
        };
        p.error(&starttls.place, "`starttls` is for protocol \"ldap\"")
            .label(why)
            .help("remove `starttls`");
        return None;
    }
    match (&listen.tls, protocol) {
        (None, _) if !p.absent(&listen.place, "tls") => None,
        (None, Protocol::Ldaps) => {
            p.error(&listen.place, "an ldaps listener without a certificate")
                .help("add tls = { cert_file = \"…\", key_file = \"…\" }");
            None
        }
        (None, _) => match starttls {
            Some(starttls) => {
                p.error(&starttls.place, "StartTLS without a certificate")
                    .help("add tls = { cert_file = \"…\", key_file = \"…\" }");
                None
            }
            None => Some(None),
        },
        (Some(tls), Protocol::Nslcd | Protocol::Saslauthd) => {
            p.error(
                &tls.place,
                "nslcd and saslauthd are spoken over unix sockets, without TLS",
            )
            .help("remove `tls`");
            None
        }
        (Some(tls), Protocol::Ldap) if starttls.is_none() => {
            p.error(&tls.place, "`tls` on a plain ldap listener is never used")
                .help("add starttls = true, or write protocol = \"ldaps\"");
            None
        }
        (Some(tls), _) => check_tls::server(p, tls, folder).map(Some),
    }
}

fn place(
    p: &mut Problems,
    listen: &super::raw::Listen,
    protocol: Protocol,
    found: At<values::ListenAddress>,
    folder: &Folder,
) -> Option<Address> {
    let path = match found.value.place {
        ListenPlace::Tcp(address) => {
            if let Some(mode) = &listen.mode {
                p.error(&mode.place, "`mode` is for unix sockets")
                    .label(format!("{address} is a TCP address"));
                return None;
            }
            if protocol == Protocol::Dbus {
                p.error(&found.place, "a dbus listener listens on a unix socket")
                    .label(format!("{address} is a TCP address"))
                    .help("write address = \"unix:/run/usherd/dbus\", or bus = \"system\"");
            } else if matches!(protocol, Protocol::Nslcd | Protocol::Saslauthd) {
                p.error(&found.place, "nslcd and saslauthd are spoken over unix sockets only")
                    .label(format!("{address} is a TCP address"))
                    .help("write \"unix:/run/nslcd/socket\" or \"unix:/run/saslauthd/mux\"");
                return None;
            }
            return Some(if protocol == Protocol::Radius {
                Address::Udp(address)
            } else {
                Address::Tcp(address)
            });
        }
        ListenPlace::Unix(path) if protocol == Protocol::Radius => {
            p.error(&found.place, "radius is spoken over UDP")
                .label(format!("{} is a unix socket", path.display()))
                .help("write address = \"[::]:1812\"");
            return None;
        }
        ListenPlace::Unix(path) => path,
    };
    let path = unix_path(p, folder, &At::new(path.display().to_string(), found.place.clone()))?;
    // Binding by ldapi is LDAP's usual open door (clients still bind); services run programs, so theirs is for its owner.
    let default = match protocol {
        Protocol::Rpc | Protocol::Dbus => 0o600,
        Protocol::Ldap | Protocol::Ldaps | Protocol::Nslcd | Protocol::Saslauthd | Protocol::Radius => 0o666,
    };
    Some(Address::Unix(
        path.value,
        listen.mode.as_ref().map_or(default, |at| at.value),
    ))
}

/// Whether clients of this protocol call services.
fn calls(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Rpc | Protocol::Dbus)
}

fn unused(p: &mut Problems, raw: &Raw) {
    let only = raw.directories.len() == 1;
    for (name, _) in &raw.directories {
        let named = |listen: &super::raw::Listen| {
            let directory = |at: &At<String>| at.value == name.value;
            listen.directory.as_ref().is_some_and(directory)
                || listen
                    .radius
                    .backends()
                    .any(|one| one.directory.as_ref().is_some_and(directory))
        };
        let implied = |listen: &super::raw::Listen| {
            let ldap = |at: &At<Protocol>| matches!(at.value, Protocol::Ldap | Protocol::Ldaps);
            only && listen.directory.is_none() && listen.protocol.as_ref().is_none_or(ldap)
        };
        let is_followed = raw
            .feeds
            .iter()
            .any(|(_, feed)| feed.directory.as_ref().is_some_and(|at| at.value == name.value));
        if !raw.listeners.is_empty()
            && !is_followed
            && !raw.listeners.iter().any(|listen| named(listen) || implied(listen))
        {
            p.warning(
                &name.place,
                format!("no listener serves the directory `{}`", name.value),
            )
            .help(format!("add directory = \"{}\" to a [[listen]]", name.value));
        }
    }
    let rpc = raw.listeners.iter().any(|listen| {
        listen.service.is_some()
            || listen.protocol.as_ref().is_some_and(|at| calls(at.value))
            || listen.radius.backends().any(|one| one.service.is_some())
    });
    if let (false, false, Some((name, _))) = (rpc, raw.listeners.is_empty(), raw.services.first()) {
        p.warning(&name.place, "no listener serves the services")
            .help("add [[listen]] protocol = \"rpc\" address = \"unix:/run/usherd/rpc.sock\"");
    }
}

/// Plans keyed by name.
pub(super) type Named<T> = BTreeMap<String, Arc<T>>;
