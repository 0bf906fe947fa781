//! What a person wrote: every setting with its place, nothing resolved, no default filled in.
//!
//! A file becomes this by [`read`]; the one-line commands make it from their flags. [`super::check`] makes the plan of it.

use std::time::Duration;

use engine::core::policy::Kind as Policy;
use toml::de::DeTable;
use wire::proxy_header::{Accepted, Version};

use super::check_bind;
pub use super::check_bind::Bind;
use super::check_health;
use super::check_tcp;
use super::diagnostic::{At, Place, Problems};
use super::keys::Kind;
use super::limits;
use super::plan::{ClientCert, DirectoryLimits, Identity};
use super::radius::raw::{self as raw_radius, Radius};
use super::raw_feed;
pub use super::raw_server::Server;
use super::raw_server::read as read_server;
use super::raw_service;
pub use super::raw_service::{Helper, Service};
use super::reader::Section;
use super::values::DURATION_MAX;
use crate::net::crl::CrlCheck;

/// A whole configuration as written.
#[derive(Debug, Default)]
pub struct Raw {
    /// `[server]`.
    pub server: Server,
    /// `[directory.NAME]`.
    pub directories: Vec<(At<String>, Directory)>,
    /// `[service.NAME]`.
    pub services: Vec<(At<String>, Service)>,
    /// `[feed.NAME]`.
    pub feeds: Vec<(At<String>, raw_feed::Feed)>,
    /// Sinks of feeds that were given on a command line, by feed.
    pub sinks: std::collections::BTreeMap<String, crate::feed::sink::SinkPlan>,
    /// `[[listen]]`.
    pub listeners: Vec<Listen>,
    /// `[audit]`.
    pub audit: Option<super::check_audit::Audit>,
}

/// `[directory.NAME]`.
#[derive(Debug)]
pub struct Directory {
    /// The section.
    pub place: Place,
    /// What its entries end with.
    pub base: Option<At<String>>,
    /// `proxied` or `pinned`.
    pub identity: Option<At<Identity>>,
    /// The daemon's own bind.
    pub bind: Bind,
    /// TLS for every server that says nothing else.
    pub tls: Option<TlsClient>,
    /// `policy` written directly in the directory.
    pub policy: Option<At<Policy>>,
    /// `server` written directly in the directory: its only tier.
    pub servers: Vec<Upstream>,
    /// `[[directory.NAME.tier]]`.
    pub tiers: Vec<Tier>,
    /// Between two look-ups of names.
    pub resolve_interval: Option<At<Duration>>,
    /// Whether a client that is bound as the daemon is may assert another identity.
    pub allow_own_assertion: Option<At<bool>>,
    /// Whether servers are told of clients by a control.
    pub session_tracking: Option<At<bool>>,
    /// Where operations may go.
    pub routing: super::routing::Raw,
    /// `check`.
    pub check: Option<check_health::Written>,
    /// Of connections to servers.
    pub tcp: check_tcp::Written,
    /// What clients may use of SASL.
    pub sasl: super::sasl::Sasl,
    /// Defaults where nothing is written.
    pub limits: DirectoryLimits,
}

/// `[[directory.NAME.tier]]`.
#[derive(Debug)]
pub struct Tier {
    /// Its header.
    pub place: Place,
    /// `policy`.
    pub policy: Option<At<Policy>>,
    /// `server`.
    pub servers: Vec<Upstream>,
}

/// How StartTLS is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// A refusal closes the connection.
    Required,
    /// A refusal goes on in plain text.
    Tried,
}

/// How an LDIF file may be written to.
#[derive(Debug, Default)]
pub struct Writing {
    /// Whether at all.
    pub writable: Option<At<bool>>,
    /// Who may.
    pub admins: Option<At<Vec<At<String>>>>,
    /// Whether changes go to the file.
    pub write_back: Option<At<bool>>,
    /// See `engine::directory::Writing`.
    pub entries_max: Option<At<usize>>,
    /// See `engine::directory::Writing`.
    pub bytes_max: Option<At<usize>>,
    /// See `engine::directory::Writing`.
    pub sync_log_max: Option<At<usize>>,
}

/// One server.
#[derive(Debug, Default)]
pub struct Upstream {
    /// The entry; none for a default.
    pub place: Option<Place>,
    /// `ldap://…`.
    pub url: Option<At<String>>,
    /// A service that DNS knows, instead of a URL.
    pub srv: Option<At<String>>,
    /// A file instead of a URL.
    pub ldif: Option<At<String>>,
    /// Shown instead of the URL.
    pub name: Option<At<String>>,
    /// `writable` and what goes with it, for `ldif`.
    pub writing: Writing,
    /// See `plan::Upstream`.
    pub weight: Option<At<i64>>,
    /// Its marks, by its role.
    pub role: Option<At<u8>>,
    /// See `plan::Upstream`.
    pub connections: Option<At<usize>>,
    /// See `plan::Upstream`.
    pub connections_max: Option<At<usize>>,
    /// See `plan::Upstream`.
    pub bind_connections_max: Option<At<usize>>,
    /// See `plan::Upstream`.
    pub pending_max: Option<At<usize>>,
    /// See `plan::Upstream`.
    pub connection_pending_max: Option<At<usize>>,
    /// `starttls`.
    pub starttls: Option<At<StartTls>>,
    /// `tls`.
    pub tls: Option<TlsClient>,
    /// See `plan::Upstream`.
    pub proxy_protocol: Option<At<Version>>,
    /// The daemon's own bind to this server.
    pub bind: Bind,
    /// `check`, where it differs.
    pub check: Option<check_health::Written>,
    /// See `plan::Upstream`.
    pub slow_start: Option<At<Duration>>,
    /// Where it is.
    pub location: Option<At<String>>,
    /// Which tier it is of, where tiers are not written.
    pub priority: Option<At<usize>>,
    /// Of connections to it.
    pub tcp: check_tcp::Written,
}

/// `tls` towards a server.
#[derive(Clone, Debug)]
pub struct TlsClient {
    /// The table.
    pub place: Place,
    /// Authorities.
    pub ca_file: Option<At<String>>,
    /// Our certificate.
    pub cert_file: Option<At<String>>,
    /// Its key.
    pub key_file: Option<At<String>>,
    /// The name to verify.
    pub server_name: Option<At<String>>,
    /// Whether to verify at all.
    pub verify: Option<At<bool>>,
    /// Lists of revoked certificates.
    pub crl_file: Option<At<String>>,
    /// What is looked for in them.
    pub crl_check: Option<At<CrlCheck>>,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain LDAP, perhaps with StartTLS.
    Ldap,
    /// LDAP in TLS from the first byte.
    Ldaps,
    /// Our RPC.
    Rpc,
    /// D-Bus.
    Dbus,
    /// The NSS and PAM modules'.
    Nslcd,
    /// Cyrus SASL's.
    Saslauthd,
    /// RADIUS over UDP.
    Radius,
}

/// `[[listen]]`.
#[derive(Debug)]
pub struct Listen {
    /// Its header.
    pub place: Place,
    /// `protocol`.
    pub protocol: Option<At<Protocol>>,
    /// `address`.
    pub address: Option<At<String>>,
    /// `directory`.
    pub directory: Option<At<String>>,
    /// `tls`.
    pub tls: Option<TlsServer>,
    /// Whether StartTLS is offered.
    pub starttls: Option<At<bool>>,
    /// See `plan::ProxyHeaders`.
    pub proxy_protocol: Option<At<Accepted>>,
    /// See `plan::ProxyHeaders`.
    pub proxy_from: Option<At<Vec<At<String>>>>,
    /// Mode of a unix socket.
    pub mode: Option<At<u32>>,
    /// See `plan::Listener`.
    pub partial_timeout: Option<At<Duration>>,
    /// See `plan::Listener`.
    pub write_timeout: Option<At<Duration>>,
    /// See `plan::Listener`; zero: never.
    pub idle_timeout: Option<At<Duration>>,
    /// See `plan::Listener`.
    pub outbox_bytes_max: Option<At<usize>>,
    /// `tcp_unsent_bytes_max`.
    pub unsent_bytes_max: Option<At<usize>>,
    /// See `plan::Listener`.
    pub turn_messages_max: Option<At<usize>>,
    /// See `plan::Listener`.
    pub clients_max: Option<At<usize>>,
    /// See `plan::Face::Rpc`.
    pub payload_bytes_max: Option<At<usize>>,
    /// See `plan::Face::Rpc`.
    pub token_file: Option<At<String>>,
    /// See `plan::Bus`.
    pub bus: Option<At<String>>,
    /// `service`: who answers instead of a directory.
    pub service: Option<At<String>>,
    /// Below which entries is searched.
    pub base: Option<At<Vec<At<String>>>>,
    /// What finds the one entry that a name means.
    pub filter: Option<At<String>>,
    /// How a directory is read.
    pub map: Option<super::raw_nss::Map>,
    /// See `nss_pam::Settings`.
    pub answer_bytes_max: Option<At<usize>>,
    /// See `nss_pam::Settings`.
    pub password_prohibited: Option<At<String>>,
    /// See `plan::Listener`.
    pub audit: Option<At<bool>>,
    /// See `plan::Listener`.
    pub monitor: Option<At<Vec<At<String>>>>,
    /// `[listen.lockout]` and `[listen.limits]`.
    pub guard: super::check_limits::Guard,
    /// Of its connections.
    pub tcp: check_tcp::Written,
    /// What only RADIUS has.
    pub radius: Box<Radius>,
}

impl Listen {
    /// A listener of which nothing is written.
    pub fn empty(place: Place) -> Listen {
        Listen {
            place,
            protocol: None,
            address: None,
            directory: None,
            tls: None,
            starttls: None,
            proxy_protocol: None,
            proxy_from: None,
            mode: None,
            partial_timeout: None,
            write_timeout: None,
            idle_timeout: None,
            outbox_bytes_max: None,
            unsent_bytes_max: None,
            turn_messages_max: None,
            clients_max: None,
            payload_bytes_max: None,
            token_file: None,
            bus: None,
            service: None,
            base: None,
            filter: None,
            map: None,
            answer_bytes_max: None,
            password_prohibited: None,
            audit: None,
            monitor: None,
            guard: Default::default(),
            tcp: check_tcp::Written::default(),
            radius: Box::default(),
        }
    }
}

/// `tls` of a listener.
#[derive(Debug)]
pub struct TlsServer {
    /// The table.
    pub place: Place,
    /// Chain.
    pub cert_file: Option<At<String>>,
    /// Key.
    pub key_file: Option<At<String>>,
    /// Authorities of client certificates.
    pub client_ca_file: Option<At<String>>,
    /// `never`, `request`, `require`.
    pub client_cert: Option<At<ClientCert>>,
    /// Lists of revoked certificates.
    pub client_crl_file: Option<At<String>>,
    /// What is looked for in them.
    pub client_crl_check: Option<At<CrlCheck>>,
}

/// The words of `policy`.
pub const POLICIES: [(&str, Policy); 5] = [
    ("round-robin", Policy::RoundRobin),
    ("weighted", Policy::Weighted),
    ("best-of-two", Policy::BestOfTwo),
    ("least-busy", Policy::LeastBusy),
    ("by-hash", Policy::ByHash),
];

/// The words of `identity`.
pub const IDENTITIES: [(&str, Identity); 2] = [("proxied", Identity::Proxied), ("pinned", Identity::Pinned)];

/// The words of `starttls` towards a server.
pub const STARTTLS: [(&str, StartTls); 2] = [("required", StartTls::Required), ("tried", StartTls::Tried)];

/// The words of `proxy_protocol` towards a server.
const PROXY_VERSIONS: [(&str, Version); 2] = [("v1", Version::V1), ("v2", Version::V2)];

/// The words of `proxy_protocol` of a listener.
const PROXY_ACCEPTED: [(&str, Accepted); 3] = [
    ("v1", Accepted::Only(Version::V1)),
    ("v2", Accepted::Only(Version::V2)),
    ("any", Accepted::Any),
];

/// The words of `crl_check`.
const CRL_CHECKS: [(&str, CrlCheck); 2] = [("peer", CrlCheck::Peer), ("all", CrlCheck::All)];

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const GIB: usize = 1 << 30;

/// Reads a whole file.
pub fn read(p: &mut Problems, table: &DeTable<'_>) -> Raw {
    let mut root = Section::new(Kind::Root, Kind::Root.title(), Place::Nowhere, table);
    let server = root
        .section(p, "server", Kind::Server)
        .map(|section| read_server(p, section))
        .unwrap_or_default();
    let directories = root.named(p, "directory", Kind::Directory);
    let services = root.named(p, "service", Kind::Service);
    let feeds = root.named(p, "feed", Kind::Feed);
    let listeners = root.sections(p, "listen", Kind::Listen);
    let audit = root.section(p, "audit", Kind::Audit);
    let raw = Raw {
        server,
        directories: directories
            .into_iter()
            .map(|(name, section)| (name, read_directory(p, section)))
            .collect(),
        services: services
            .into_iter()
            .map(|(name, section)| (name, raw_service::read(p, section)))
            .collect(),
        feeds: feeds
            .into_iter()
            .map(|(name, section)| (name, raw_feed::read(p, section)))
            .collect(),
        sinks: std::collections::BTreeMap::new(),
        listeners: listeners.into_iter().map(|section| read_listen(p, section)).collect(),
        audit: audit.map(|section| super::check_audit::read(p, section)),
    };
    root.finish(p);
    raw
}

fn read_directory(p: &mut Problems, mut section: Section<'_>) -> Directory {
    let servers = section.sections(p, "server", Kind::Upstream);
    let tiers = section.sections(p, "tier", Kind::Tier);
    let tls = section.section(p, "tls", Kind::TlsClient);
    let directory = Directory {
        place: section.place.clone(),
        base: section.string(p, "base"),
        identity: section.choice(p, "identity", &IDENTITIES, &[]),
        bind: check_bind::read(p, &mut section),
        policy: section.choice(p, "policy", &POLICIES, &[]),
        servers: servers.into_iter().map(|section| read_upstream(p, section)).collect(),
        tiers: tiers.into_iter().map(|section| read_tier(p, section)).collect(),
        tls: tls.map(|section| read_tls_client(p, section)),
        resolve_interval: section.duration(p, "resolve_interval", Duration::ZERO, DURATION_MAX),
        allow_own_assertion: section.boolean(p, "allow_own_assertion"),
        session_tracking: section.boolean(p, "session_tracking"),
        routing: super::routing::read(p, &mut section),
        check: check_health::read(p, &mut section),
        tcp: check_tcp::read(p, &mut section),
        sasl: super::sasl::read(p, &mut section),
        limits: limits::read(p, &mut section),
    };
    section.finish(p);
    directory
}

fn read_tier(p: &mut Problems, mut section: Section<'_>) -> Tier {
    let servers = section.sections(p, "server", Kind::Upstream);
    let tier = Tier {
        place: section.place.clone(),
        policy: section.choice(p, "policy", &POLICIES, &[]),
        servers: servers.into_iter().map(|section| read_upstream(p, section)).collect(),
    };
    section.finish(p);
    tier
}

fn read_upstream(p: &mut Problems, mut section: Section<'_>) -> Upstream {
    let tls = section.section(p, "tls", Kind::TlsClient);
    let upstream = Upstream {
        place: Some(section.place.clone()),
        url: section.string(p, "url"),
        srv: section.string(p, "srv"),
        ldif: section.string(p, "ldif"),
        name: section.string(p, "name"),
        writing: Writing {
            writable: section.boolean(p, "writable"),
            admins: section.strings(p, "admins"),
            write_back: section.boolean(p, "write_back"),
            entries_max: section.count(p, "entries_max", 1, 100_000_000),
            bytes_max: section.size(p, "bytes_max", 4096, 64 * GIB),
            sync_log_max: section.count(p, "sync_log_max", 1, 10_000_000),
        },
        weight: section.integer(p, "weight", 0, 1_000_000),
        role: section.choice(p, "role", &super::routing::ROLES, &[]),
        connections: section.count(p, "connections", 1, 10_000),
        connections_max: section.count(p, "connections_max", 1, 10_000),
        bind_connections_max: section.count(p, "bind_connections_max", 1, 10_000),
        pending_max: section.count(p, "pending_max", 0, 10_000_000),
        connection_pending_max: section.count(p, "connection_pending_max", 0, 1_000_000),
        starttls: section.choice(p, "starttls", &STARTTLS, &[]),
        tls: tls.map(|section| read_tls_client(p, section)),
        proxy_protocol: section.choice(p, "proxy_protocol", &PROXY_VERSIONS, &[]),
        bind: check_bind::read(p, &mut section),
        check: check_health::read(p, &mut section),
        slow_start: section.duration(p, "slow_start", Duration::ZERO, HOUR),
        location: section.string(p, "location"),
        priority: section.count(p, "priority", 1, 65_535),
        tcp: check_tcp::read(p, &mut section),
    };
    section.finish(p);
    upstream
}

/// Reads `tls` towards a server.
pub(super) fn read_tls_client(p: &mut Problems, mut section: Section<'_>) -> TlsClient {
    let tls = TlsClient {
        place: section.place.clone(),
        ca_file: section.string(p, "ca_file"),
        cert_file: section.string(p, "cert_file"),
        key_file: section.string(p, "key_file"),
        server_name: section.string(p, "server_name"),
        verify: section.boolean(p, "verify"),
        crl_file: section.string(p, "crl_file"),
        crl_check: section.choice(p, "crl_check", &CRL_CHECKS, &[]),
    };
    section.finish(p);
    tls
}

fn read_listen(p: &mut Problems, mut section: Section<'_>) -> Listen {
    const PROTOCOLS: [(&str, Protocol); 7] = [
        ("ldap", Protocol::Ldap),
        ("ldaps", Protocol::Ldaps),
        ("rpc", Protocol::Rpc),
        ("dbus", Protocol::Dbus),
        ("nslcd", Protocol::Nslcd),
        ("saslauthd", Protocol::Saslauthd),
        ("radius", Protocol::Radius),
    ];
    const LATER: [&str; 3] = ["radsec", "nss-pam", "http"];
    let tls = section.section(p, "tls", Kind::TlsServer);
    let map = section.section(p, "map", Kind::Map);
    let listen = Listen {
        place: section.place.clone(),
        protocol: section.choice(p, "protocol", &PROTOCOLS, &LATER),
        address: section.string(p, "address"),
        directory: section.string(p, "directory"),
        tls: tls.map(|section| read_tls_server(p, section)),
        starttls: section.boolean(p, "starttls"),
        proxy_protocol: section.choice(p, "proxy_protocol", &PROXY_ACCEPTED, &[]),
        proxy_from: section.strings(p, "proxy_from"),
        mode: section.mode(p, "mode"),
        partial_timeout: section.duration(p, "partial_timeout", 10 * MILLISECOND, HOUR),
        write_timeout: section.duration(p, "write_timeout", 10 * MILLISECOND, HOUR),
        idle_timeout: section.duration(p, "idle_timeout", Duration::ZERO, DURATION_MAX),
        outbox_bytes_max: section.size(p, "outbox_bytes_max", 4096, GIB),
        unsent_bytes_max: section.size(p, "tcp_unsent_bytes_max", 4096, GIB),
        turn_messages_max: section.count(p, "turn_messages_max", 1, 10_000),
        clients_max: section.count(p, "clients_max", 1, 10_000_000),
        payload_bytes_max: section.size(p, "payload_bytes_max", 1024, GIB),
        token_file: section.string(p, "token_file"),
        bus: section.string(p, "bus"),
        service: section.string(p, "service"),
        base: section.strings(p, "base"),
        filter: section.string(p, "filter"),
        map: map.map(|section| super::raw_nss::read(p, section)),
        answer_bytes_max: section.size(p, "answer_bytes_max", 4096, GIB),
        password_prohibited: section.string(p, "password_prohibited"),
        audit: section.boolean(p, "audit"),
        monitor: section.strings(p, "monitor"),
        guard: super::check_limits::read(p, &mut section),
        tcp: check_tcp::read(p, &mut section),
        radius: Box::new(raw_radius::read(p, &mut section)),
    };
    section.finish(p);
    listen
}

fn read_tls_server(p: &mut Problems, mut section: Section<'_>) -> TlsServer {
    const WORDS: [(&str, ClientCert); 3] = [
        ("never", ClientCert::Never),
        ("request", ClientCert::Request),
        ("require", ClientCert::Require),
    ];
    let tls = TlsServer {
        place: section.place.clone(),
        cert_file: section.string(p, "cert_file"),
        key_file: section.string(p, "key_file"),
        client_ca_file: section.string(p, "client_ca_file"),
        client_cert: section.choice(p, "client_cert", &WORDS, &[]),
        client_crl_file: section.string(p, "client_crl_file"),
        client_crl_check: section.choice(p, "client_crl_check", &CRL_CHECKS, &[]),
    };
    section.finish(p);
    tls
}
