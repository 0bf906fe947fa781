//! What the configuration means: every default filled in, every name resolved, every value within its bounds.
//!
//! `raw` is what a person wrote; this is what the daemon does. Nothing else in the daemon reads configuration text.
//! Two plans can be compared, part by part: a reload applies only what differs (`PartialEq` on every part).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::core::policy::Kind as Policy;
use engine::directory::Writing;
use engine::radius::clients::Network;
use wire::proxy_header::{Accepted, Version};
use zeroize::Zeroizing;

use super::files::Stamp;
pub use super::plan_bind::{Bind, Sasl, Simple};
pub use super::plan_check::{Check, Expect};
pub use super::plan_feed::{Feed, FeedMode};
pub use super::plan_service::{
    Builtin, DbusMethod, ProcessLimits, Sandbox, SandboxProfile, Service, ServiceKind, Transport, User,
};
use crate::net::crl::Crl;
use crate::net::tcp::TcpOptions;

/// A whole configuration, ready to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The daemon's own settings.
    pub server: Server,
    /// Directories by name.
    pub directories: BTreeMap<String, Arc<Directory>>,
    /// Services (pools of helper processes) by name.
    pub services: BTreeMap<String, Arc<Service>>,
    /// Feeds by name.
    pub feeds: BTreeMap<String, Arc<Feed>>,
    /// Listeners, in the order written.
    pub listeners: Vec<Arc<Listener>>,
    /// Buses on which the services are offered.
    pub buses: Vec<Arc<Bus>>,
    /// The audit log; none: there is none.
    pub audit: Option<crate::audit::plan::Settings>,
}

/// `[server]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Worker threads, resolved: 0 in the file is one per CPU of the affinity mask, a negative number is CPUs minus
    /// that many (seed 001). Never 0 here.
    pub workers: usize,
    /// Unix socket of the control commands (`usherd status`, …); its folder is made with mode 0700 when absent.
    pub control: PathBuf,
    /// HTTP address of `/metrics`, `/healthz`, `/readyz`; none: no HTTP.
    pub admin: Option<SocketAddr>,
    /// Clients at once, all listeners together; none: 90 % of the descriptors.
    pub clients_max: Option<usize>,
    /// Bytes that wait for slow readers, all clients together; above half of it each client's bound shrinks.
    pub outbox_bytes_total: usize,
    /// Whom names are asked of.
    pub dns: crate::net::dns::DnsPlan,
    /// How much is asked of Kerberos.
    pub gssapi: crate::gssapi::Bounds,
    /// Where the daemon is: of a tier, servers of the same location come first.
    pub location: Option<String>,
    /// How long each level of draining lasts before the next.
    pub drain_gentle: Duration,
    /// See `drain_gentle`.
    pub drain_firm: Duration,
    /// How long the new process of an upgrade may take until it is ready.
    pub upgrade_timeout: Duration,
    /// How long the old process serves the clients it has, before it drains.
    pub upgrade_linger: Duration,
}

/// The longest `upgrade_timeout`.
pub const UPGRADE_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// `[directory.NAME]`: servers that hold the same data, in tiers.
#[derive(Clone, Debug, PartialEq)]
pub struct Directory {
    /// Its name in the file.
    pub name: String,
    /// What its entries' names end with: the naming context of a local directory, and what `check --probe` looks for.
    pub base: Option<String>,
    /// As whom operations reach the servers.
    pub identity: Identity,
    /// The daemon's own bind to each server: proxied operations and probes run under it.
    pub bind: Option<Bind>,
    /// As whom `bind` is bound, where a client bound as the same may assert another identity; none: nobody may.
    pub assertions: Option<Arc<engine::session::ldap::identities::Identities>>,
    /// Our name in the session tracking control that each operation of a client carries; none: there is no such control.
    pub session_tracking: Option<String>,
    /// Where its clients' operations may go.
    pub routing: Routing,
    /// What clients may use of SASL.
    pub sasl: super::sasl::Sasl,
    /// How the shared connections grow and queue, and how long things may take.
    pub limits: DirectoryLimits,
    /// Between two look-ups of its servers' names; zero: only for new connections.
    pub resolve_interval: Duration,
    /// Connections of servers that DNS names, whichever they are; the fewest.
    pub service_connections: Option<usize>,
    /// Tried in order: a tier is used while one of its servers is up.
    pub tiers: Vec<Tier>,
}

/// Where the operations of a directory's clients may go.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// By control and extended operation.
    pub rules: Arc<engine::session::ldap::rules::Rules>,
    /// How long a client's operations go to the server that took its last write; zero: they go anywhere.
    pub write_coherence: Duration,
    /// By what a server is chosen, so that the same clients reach the same server.
    pub affinity: Affinity,
    /// Marks of the servers that reads and binds go to while one is up (`engine::session::ldap::mark`); 0: to any.
    pub reads: u8,
    /// Marks of the servers that writes go to; 0: to any.
    pub writes: u8,
    /// Connections to one server, per daemon, that are one client's at a time (paged results, transactions); 64.
    pub isolated_max: usize,
    /// A client that keeps one and does not use it for so long loses it; 60 s.
    pub isolated_idle_timeout: Duration,
}

/// What decides to which server a client's operations go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// The policy.
    None,
    /// Its connection.
    Connection,
    /// Its address.
    Address,
    /// Who it is; its address while it is nobody.
    BindDn,
}

/// How the servers learn who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Shared connections, each operation with a proxied authorization control (RFC 4370).
    Proxied,
    /// The connection that carried a client's bind stays with that client.
    Pinned,
}

/// Limits of one directory; durations and counts have their defaults in design's table.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectoryLimits {
    /// Deadline of a search, 60 s by default; answered with timeLimitExceeded (3).
    pub search_timeout: Duration,
    /// Deadline of every other operation, 30 s by default; answered with adminLimitExceeded (11).
    pub operation_timeout: Duration,
    /// Connect, TLS and bind to a server together, 5 s.
    pub connect_timeout: Duration,
    /// Back-off of a server that cannot be reached: first wait (0.5 s) and longest (30 s).
    pub retry_min: Duration,
    /// See `retry_min`.
    pub retry_max: Duration,
    /// Between probes of a healthy server, 10 s; zero: no probes at rest.
    pub probe_interval: Duration,
    /// Between probes of a suspect or ejected server, 0.5 s.
    pub probe_suspect_interval: Duration,
    /// A probe unanswered for so long fails, 1 s.
    pub probe_timeout: Duration,
    /// Consecutive failures (lost connections, failed probes) that eject a server, 3; a probe timeout ejects at once.
    pub eject_after: u32,
    /// Requests that wait for a connection, per worker, 10,000.
    pub queue_max: usize,
    /// Pending operations per client (100); 0: no limit.
    pub client_pending_max: usize,
    /// Request size from clients, 4 MiB.
    pub request_bytes_max: usize,
    /// Message size from servers, 16 MiB.
    pub response_bytes_max: usize,
    /// Nesting of a search filter, 1,000.
    pub filter_depth_max: usize,
    /// How long a learned `who am I?` answer for a bind DN is used before it is asked again, 5 min; zero: ask each time.
    pub whoami_cache: Duration,
    /// How long a server is not asked who a client is that has bound and does nothing, 100 ms; zero: it is asked before the client
    /// has its answer.
    pub whoami_wait: Duration,
    /// Whether a bind with a DN and an empty password is passed on (RFC 4513 5.1.2); false: refused with 53.
    pub allow_unauthenticated_bind: bool,
    /// Pinned client connections at once, per daemon, 10,000.
    pub pinned_max: usize,
    /// How long the share of a server that came back takes to grow to the whole; zero: it has it at once.
    pub slow_start: Duration,
    /// A server that is so many times as slow as the fastest of its tier is shown as degraded, 3; 0: none is.
    pub degraded_factor: u32,
}

/// `[[directory.NAME.tier]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// `priority` of its servers, or its place among tiers that are written.
    pub priority: usize,
    /// How a server is chosen among those that are up.
    pub policy: Policy,
    /// The servers.
    pub servers: Vec<Arc<Upstream>>,
}

/// One server of a tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Unique within the directory: `name` in the file, else the URL as written.
    pub name: String,
    /// Where and how.
    pub target: Target,
    /// Share under `weighted`, 1 by default; 0: only when nothing else is up.
    pub weight: u32,
    /// Its role (`engine::session::ldap::mark`); 0: none is written.
    pub marks: u8,
    /// Shared connections kept open, per daemon, 4.
    pub connections: usize,
    /// Shared connections at most, per daemon, 16.
    pub connections_max: usize,
    /// Connections for client binds at most, opened on demand, per daemon, 16.
    pub bind_connections_max: usize,
    /// Pending operations on this server, per worker; 0: no limit.
    pub pending_max: usize,
    /// Pending operations on one connection; 0: no limit.
    pub connection_pending_max: usize,
    /// Which PROXY header a connection to it begins with; none: no header.
    pub proxy_protocol: Option<Version>,
    /// The daemon's own bind to this server, where it differs from the directory's.
    pub bind: Option<Bind>,
    /// Whether it is checked, and how.
    pub check: Option<Arc<Check>>,
    /// See `DirectoryLimits::slow_start`.
    pub slow_start: Duration,
    /// Where it is.
    pub location: Option<String>,
    /// Of connections to it, from the next one on.
    pub tcp: TcpOptions,
}

/// What stands behind an upstream.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// An LDAP server over TCP.
    Tcp {
        /// Name or address literal (no brackets).
        host: String,
        /// 389 or 636 unless given.
        port: u16,
        /// Protection of the connection.
        tls: UpstreamTls,
    },
    /// Servers that DNS names: they stand in its place in the plan that is in force.
    Srv {
        /// `_ldap._tcp.example.com`.
        service: String,
        /// Protection of their connections.
        tls: UpstreamTls,
    },
    /// An LDAP server over a unix socket (`ldapi`).
    Unix(PathBuf),
    /// The local directory: an LDIF file (absolute path) held in memory, loaded at start and on reload when the file changed.
    Local(LocalFile),
}

/// An LDIF file that is served.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalFile {
    /// The file.
    pub file: PathBuf,
    /// Its content's identity, so that a reload notices a changed file.
    pub stamp: Stamp,
    /// Its naming context, where the directory names one; else the file's first entry.
    pub base: Option<String>,
    /// The demo's content, in place of the file's.
    pub text: Option<Arc<str>>,
    /// Who may write to it; nobody where none.
    pub writing: Option<Writing>,
    /// Changes go back to the file.
    pub write_back: bool,
}

/// TLS towards a server.
#[derive(Clone, Debug, PartialEq)]
pub enum UpstreamTls {
    /// Plain.
    None,
    /// TLS from the first byte.
    Ldaps(TlsClient),
    /// StartTLS; a refusal closes the connection.
    StartTlsRequired(TlsClient),
    /// StartTLS; a refusal goes on in plain text.
    StartTlsTried(TlsClient),
}

/// How a server's certificate is verified, and what we show.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsClient {
    /// PEM bundle of authorities; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate chain and key shown to the server.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name to verify, where it is not the host of the URL.
    pub server_name: Option<String>,
    /// False only when the user wrote `verify = false` (warned about).
    pub verify: bool,
    /// Lists of revoked certificates, in none of which the server's may be.
    pub crl: Option<Crl>,
    /// Content hashes of the files, so that a reload notices changed files.
    pub stamp: u64,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsServer {
    /// PEM chain.
    pub cert_file: PathBuf,
    /// PEM key.
    pub key_file: PathBuf,
    /// Authorities of client certificates.
    pub client_ca_file: Option<PathBuf>,
    /// What is asked of clients.
    pub client_cert: ClientCert,
    /// Lists of revoked certificates, in none of which a client's may be.
    pub client_crl: Option<Crl>,
    /// Content hash of the files.
    pub stamp: u64,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCert {
    /// Not asked.
    Never,
    /// Asked; verified when shown.
    Request,
    /// No session without one.
    Require,
}

/// `[[listen]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where.
    pub address: Address,
    /// How many before it have the same address (port 0 may be written more than once).
    pub nth: usize,
    /// What is spoken.
    pub face: Face,
    /// TLS material, for `ldaps` and StartTLS.
    pub tls: Option<TlsServer>,
    /// TLS from the first byte (`ldaps`).
    pub tls_first: bool,
    /// PROXY headers of its connections, each of which begins with one; none: no connection does.
    pub proxy: Option<Arc<ProxyHeaders>>,
    /// A partial request, a missing header or an unfinished handshake held for so long closes the client, 10 s.
    pub partial_timeout: Duration,
    /// A write that makes no progress for so long closes the client, 10 s.
    pub write_timeout: Duration,
    /// A client without operations for so long is closed; none: never.
    pub idle_timeout: Option<Duration>,
    /// Bytes waiting for one client, 1 MiB.
    pub outbox_bytes_max: usize,
    /// Messages taken from one connection per turn of the loop, 32.
    pub turn_messages_max: usize,
    /// Clients of this listener at once; none: only the daemon's limit.
    pub clients_max: Option<usize>,
    /// Whether its operations are told to the audit log, where there is one.
    pub audit: bool,
    /// Lockout after failed binds; none: there is none.
    pub lockout: Option<crate::lockouts::LockoutPlan>,
    /// Who may read the daemon's figures here; none: nobody.
    pub monitor: Option<Arc<engine::session::ldap::identities::Identities>>,
    /// Limits of clients; none: there are none.
    pub limits: Option<Arc<crate::limits::LimitsPlan>>,
    /// Of its connections, from the next one on.
    pub tcp: TcpOptions,
}

/// Which PROXY headers a listener takes, and whose.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxyHeaders {
    /// Which versions.
    pub accepted: Accepted,
    /// Who is believed; never empty. Everybody else is refused.
    pub from: Vec<Network>,
}

impl ProxyHeaders {
    /// Whether who connects from there is believed. A peer without an address is not.
    pub fn trust(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_some_and(|peer| {
            self.from
                .iter()
                .any(|network| network.contains(peer.ip().to_canonical()))
        })
    }
}

/// A listener's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// TCP; port 0 lets the kernel choose (the choice is logged and shown by `status`).
    Tcp(SocketAddr),
    /// A unix socket, made with the given mode (0o666 for ldapi unless set).
    Unix(PathBuf, u32),
    /// UDP; port 0 as for TCP.
    Udp(SocketAddr),
}

/// Who answers a listener that can have either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Key into `Plan::directories`.
    Directory(String),
    /// Key into `Plan::services`.
    Service(String),
}

/// A listener's protocol and what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Face {
    /// LDAP for a directory, by name.
    Ldap {
        /// Key into `Plan::directories`.
        directory: String,
    },
    /// Our own RPC for all services.
    Rpc {
        /// Largest payload, 16 MiB.
        payload_bytes_max: usize,
        /// What clients have to show first; none: nothing.
        token: Option<Secret>,
    },
    /// D-Bus for all services, on a private socket.
    Dbus {
        /// Largest payload, 16 MiB.
        payload_bytes_max: usize,
    },
    /// The nslcd protocol, for the NSS and PAM modules.
    Nslcd {
        /// Who answers.
        behind: Behind,
        /// How.
        settings: Arc<engine::session::nss_pam::Settings>,
    },
    /// The saslauthd protocol, for Cyrus SASL.
    Saslauthd {
        /// Who answers.
        behind: Behind,
        /// How.
        answers: Arc<engine::session::saslauthd::Answers>,
    },
    /// RADIUS over UDP.
    Radius(Arc<Radius>),
}

/// A RADIUS listener: what its requests are decided by, and who is asked.
#[derive(Debug)]
pub struct Radius {
    /// Read once, for all workers.
    pub plan: Arc<engine::session::radius::plan::Plan>,
    /// What its back ends call a pool, by index.
    pub targets: Vec<Behind>,
    /// Where accounting records go; none: they are acknowledged and thrown away.
    pub accounting: Option<crate::accounting::plan::Settings>,
    /// Of each socket, as far as the system allows.
    pub receive_buffer_bytes: usize,
    /// How long a worker that has much to do lets more requests come before it reads again; 0: not at all.
    pub moderation: Duration,
}

impl Radius {
    /// The first directory that is asked.
    pub fn directory(&self) -> Option<&str> {
        self.targets.iter().find_map(|target| match target {
            Behind::Directory(name) => Some(name.as_str()),
            Behind::Service(_) => None,
        })
    }
}

impl PartialEq for Radius {
    /// What was read anew is another: its files may differ.
    fn eq(&self, other: &Radius) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Radius {}

/// A bus on which the services are offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// Which.
    pub address: BusAddress,
    /// Largest payload, 16 MiB.
    pub payload_bytes_max: usize,
}

/// How a bus is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusAddress {
    /// Of the machine.
    System,
    /// Of the session that the daemon was started in.
    Session,
    /// By a D-Bus address.
    At(String),
}

impl std::fmt::Display for BusAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BusAddress::System => "system",
            BusAddress::Session => "session",
            BusAddress::At(address) => address,
        })
    }
}

/// Read from a file (one trailing newline removed), wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// What was read.
    pub fn new(content: Zeroizing<Vec<u8>>) -> Secret {
        Secret(Arc::new(content))
    }

    /// The same, for who compares it.
    pub fn share(&self) -> Arc<Zeroizing<Vec<u8>>> {
        Arc::clone(&self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
