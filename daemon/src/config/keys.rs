//! Every setting there is, section by section.
//!
//! The readers may ask only for what stands here (asserted in debug builds), and what stands here must be described in
//! `docs/configuration.md` (a test), so that no setting exists that a person cannot find.

use super::radius_keys;

/// A kind of section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The file itself.
    Root,
    /// `[server]`.
    Server,
    /// `[directory.NAME]`.
    Directory,
    /// `[[directory.NAME.tier]]`.
    Tier,
    /// `[directory.NAME.restrict]`.
    Restrict,
    /// One entry of `server = […]`.
    Upstream,
    /// `check` of a directory or server.
    Check,
    /// `keepalive` of a listener, directory or server.
    Keepalive,
    /// `tls = { … }` towards a server.
    TlsClient,
    /// `[[listen]]`.
    Listen,
    /// `tls = { … }` of a listener.
    TlsServer,
    /// An entry of `authenticate` of a RADIUS listener.
    Authenticate,
    /// `groups` of an entry of `authenticate`.
    AuthenticateGroups,
    /// `[listen.chain.NAME]`.
    Chain,
    /// `mac` of a RADIUS listener.
    Mac,
    /// `map` of a listener.
    Map,
    /// `attributes` of a `map`.
    MapAttributes,
    /// `passwd`, `group` and the others of a `map`.
    MapPlace,
    /// `[service.NAME]`.
    Service,
    /// `limits` of a service.
    Limits,
    /// `sandbox` of a service.
    Sandbox,
    /// `[service.NAME.dbus]`.
    HelperDbus,
    /// `[service.NAME.winbind]`.
    Winbind,
    /// `[service.NAME.pam]`.
    Pam,
    /// `[service.NAME.sql]`.
    Sql,
    /// `[service.NAME.sql.statement.NAME]`.
    SqlStatement,
    /// `[service.NAME.sql.transaction.NAME]`.
    SqlTransaction,
    /// `[feed.NAME]`.
    Feed,
    /// `sink` of a feed.
    Sink,
    /// A clients file of RADIUS.
    RadiusClients,
    /// `[client.NAME]` of it.
    RadiusClient,
    /// A users file of RADIUS.
    RadiusUsers,
    /// `[user.NAME]` of it.
    RadiusUser,
    /// `[[entry]]` of it.
    RadiusEntry,
    /// `[[listen.rule]]`.
    RadiusRule,
    /// `accounting` of a listener.
    Accounting,
    /// `[audit]`.
    Audit,
    /// `[listen.lockout]`.
    Lockout,
    /// `[listen.limits]`.
    ClientLimits,
    /// `[[listen.limits.override]]`.
    LimitsOverride,
}

impl Kind {
    /// All of them, in the order of the documentation.
    pub const ALL: [Kind; 40] = [
        Kind::Root,
        Kind::Server,
        Kind::Directory,
        Kind::Tier,
        Kind::Restrict,
        Kind::Upstream,
        Kind::Check,
        Kind::Keepalive,
        Kind::TlsClient,
        Kind::Listen,
        Kind::TlsServer,
        Kind::Authenticate,
        Kind::AuthenticateGroups,
        Kind::Chain,
        Kind::Mac,
        Kind::Map,
        Kind::MapAttributes,
        Kind::MapPlace,
        Kind::Service,
        Kind::Limits,
        Kind::Sandbox,
        Kind::HelperDbus,
        Kind::Winbind,
        Kind::Pam,
        Kind::Sql,
        Kind::SqlStatement,
        Kind::SqlTransaction,
        Kind::Feed,
        Kind::Sink,
        Kind::RadiusClients,
        Kind::RadiusClient,
        Kind::RadiusUsers,
        Kind::RadiusUser,
        Kind::RadiusEntry,
        Kind::RadiusRule,
        Kind::Accounting,
        Kind::Audit,
        Kind::Lockout,
        Kind::ClientLimits,
        Kind::LimitsOverride,
    ];

    /// As it is called in messages and as a heading of the documentation.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Root => "the file",
            Kind::Server => "[server]",
            Kind::Directory => "[directory.NAME]",
            Kind::Tier => "[[directory.NAME.tier]]",
            Kind::Restrict => "[directory.NAME.restrict]",
            Kind::Upstream => "an entry of `server`",
            Kind::Check => "`check` of a directory",
            Kind::Keepalive => "`keepalive`",
            Kind::TlsClient => "`tls` of a server",
            Kind::Listen => "[[listen]]",
            Kind::TlsServer => "`tls` of a listener",
            Kind::Authenticate => "an entry of `authenticate`",
            Kind::AuthenticateGroups => "`groups` of an entry of `authenticate`",
            Kind::Chain => "[listen.chain.NAME]",
            Kind::Mac => "`mac` of a listener",
            Kind::Map => "`map` of a listener",
            Kind::MapAttributes => "`attributes` of a `map`",
            Kind::MapPlace => "a place in a `map`",
            Kind::Service => "[service.NAME]",
            Kind::Limits => "`limits` of a service",
            Kind::Sandbox => "`sandbox` of a service",
            Kind::HelperDbus => "[service.NAME.dbus]",
            Kind::Winbind => "[service.NAME.winbind]",
            Kind::Pam => "[service.NAME.pam]",
            Kind::Sql => "[service.NAME.sql]",
            Kind::SqlStatement => "[service.NAME.sql.statement.NAME]",
            Kind::SqlTransaction => "[service.NAME.sql.transaction.NAME]",
            Kind::Feed => "[feed.NAME]",
            Kind::Sink => "`sink` of a feed",
            Kind::RadiusClients => "a clients file",
            Kind::RadiusClient => "[client.NAME]",
            Kind::RadiusUsers => "a users file",
            Kind::RadiusUser => "[user.NAME]",
            Kind::RadiusEntry => "[[entry]]",
            Kind::RadiusRule => "[[listen.rule]]",
            Kind::Accounting => "`accounting` of a listener",
            Kind::Audit => "[audit]",
            Kind::Lockout => "[listen.lockout]",
            Kind::ClientLimits => "[listen.limits]",
            Kind::LimitsOverride => "[[listen.limits.override]]",
        }
    }

    /// The settings it knows.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Root => ROOT,
            Kind::Server => SERVER,
            Kind::Directory => DIRECTORY,
            Kind::Tier => TIER,
            Kind::Restrict => &["control", "extended"],
            Kind::Upstream => UPSTREAM,
            Kind::Check => super::check_health::KEYS,
            Kind::Keepalive => super::check_tcp::KEYS,
            Kind::TlsClient => super::check_tls::CLIENT_KEYS,
            Kind::Listen => LISTEN,
            Kind::TlsServer => super::check_tls::SERVER_KEYS,
            Kind::Authenticate => radius_keys::AUTHENTICATE,
            Kind::AuthenticateGroups => &["attribute", "base", "filter", "name", "nested", "groups_max"],
            Kind::Chain => &["authenticate", "ask"],
            Kind::Mac => &["chain", "format"],
            Kind::Map => MAP,
            Kind::MapAttributes => &super::raw_nss::ATTRIBUTES,
            Kind::MapPlace => &["base", "scope", "filter"],
            Kind::Service => SERVICE,
            Kind::Limits => LIMITS,
            Kind::Sandbox => SANDBOX,
            Kind::HelperDbus => HELPER_DBUS,
            Kind::Winbind => WINBIND,
            Kind::Pam => PAM,
            Kind::Sql => SQL,
            Kind::SqlStatement => SQL_STATEMENT,
            Kind::SqlTransaction => SQL_TRANSACTION,
            Kind::Feed => FEED,
            Kind::Sink => SINK,
            Kind::RadiusClients => &["client"],
            Kind::RadiusClient => radius_keys::RADIUS_CLIENT,
            Kind::RadiusUsers => &["user", "entry"],
            Kind::RadiusUser => radius_keys::RADIUS_USER,
            Kind::RadiusEntry => radius_keys::RADIUS_ENTRY,
            Kind::RadiusRule => radius_keys::RADIUS_RULE,
            Kind::Accounting => radius_keys::ACCOUNTING,
            Kind::Audit => &super::check_audit::KEYS,
            Kind::Lockout => &super::check_lockout::KEYS,
            Kind::ClientLimits => &super::check_limits::KEYS,
            Kind::LimitsOverride => &super::check_limits::OVERRIDE_KEYS,
        }
    }

    /// Whether it is a whole file.
    pub fn is_file(self) -> bool {
        matches!(self, Kind::Root | Kind::RadiusClients | Kind::RadiusUsers)
    }

    /// Whether it is of a file that may hold secrets.
    pub fn holds_secrets(self) -> bool {
        matches!(self, Kind::RadiusClient | Kind::RadiusUser | Kind::RadiusEntry)
    }

    /// Settings of the design that this version does not have: refused by name, with what to do instead.
    pub fn not_yet(self, key: &str) -> Option<&'static str> {
        let instead = match (self, key) {
            (Kind::Upstream, "bind_connections") => {
                "connections for binds are opened on demand; bound them with `bind_connections_max`"
            }
            (Kind::Directory | Kind::Upstream | Kind::Check, "bind_realm") => {
                "none of the mechanisms that the daemon binds with has a realm; remove it"
            }
            (Kind::Service, "offer") => "services are not offered to other machines yet; remove it",
            (Kind::Service, "direct_reply") => {
                "nothing need be set: whoever calls with a descriptor is answered there, where the helper takes it"
            }
            _ => return None,
        };
        Some(instead)
    }

    /// Another section that does know this setting, for settings written in the wrong place.
    pub fn elsewhere(self, key: &str) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| *kind != self && *kind != Kind::Root && kind.keys().contains(&key))
    }
}

const ROOT: &[&str] = &["server", "directory", "service", "feed", "listen", "audit"];
const SERVER: &[&str] = &[
    "workers",
    "state_dir",
    "control",
    "admin",
    "clients_max",
    "outbox_bytes_total",
    "location",
    "dns_servers",
    "dns_timeout",
    "gssapi_threads",
    "gssapi_waiting_max",
    "gssapi_token_bytes_max",
    "drain_gentle",
    "drain_firm",
    "upgrade_timeout",
    "upgrade_linger",
];
const DIRECTORY: &[&str] = &[
    "base",
    "identity",
    "bind_dn",
    "bind_password_file",
    "bind_mechanism",
    "bind_authcid",
    "bind_authzid",
    "bind_in_clear",
    "bind_iterations_max",
    "bind_principal",
    "bind_keytab",
    "bind_ccache",
    "bind_service",
    "policy",
    "server",
    "tier",
    "tls",
    "resolve_interval",
    "search_timeout",
    "operation_timeout",
    "connect_timeout",
    "retry_min",
    "retry_max",
    "probe_interval",
    "probe_suspect_interval",
    "probe_timeout",
    "eject_after",
    "check",
    "slow_start",
    "degraded_factor",
    "queue_max",
    "client_pending_max",
    "request_bytes_max",
    "response_bytes_max",
    "filter_depth_max",
    "whoami_cache",
    "whoami_wait",
    "allow_unauthenticated_bind",
    "allow_own_assertion",
    "session_tracking",
    "sasl",
    "sasl_timeout",
    "root_dse",
    "pinned_max",
    "restrict",
    "write_coherence",
    "affinity",
    "reads",
    "writes",
    "isolated_max",
    "isolated_idle_timeout",
    "keepalive",
    "tcp_user_timeout",
];
const TIER: &[&str] = &["policy", "server"];
const UPSTREAM: &[&str] = &[
    "url",
    "srv",
    "ldif",
    "writable",
    "admins",
    "write_back",
    "entries_max",
    "bytes_max",
    "sync_log_max",
    "name",
    "weight",
    "role",
    "connections",
    "connections_max",
    "bind_connections_max",
    "pending_max",
    "connection_pending_max",
    "starttls",
    "tls",
    "proxy_protocol",
    "bind_dn",
    "bind_password_file",
    "bind_mechanism",
    "bind_authcid",
    "bind_authzid",
    "bind_in_clear",
    "bind_iterations_max",
    "bind_principal",
    "bind_keytab",
    "bind_ccache",
    "bind_service",
    "check",
    "slow_start",
    "location",
    "priority",
    "keepalive",
    "tcp_user_timeout",
];
const LISTEN: &[&str] = &[
    "protocol",
    "address",
    "directory",
    "tls",
    "starttls",
    "proxy_protocol",
    "proxy_from",
    "mode",
    "partial_timeout",
    "write_timeout",
    "idle_timeout",
    "outbox_bytes_max",
    "turn_messages_max",
    "clients_max",
    "payload_bytes_max",
    "token_file",
    "bus",
    "service",
    "base",
    "filter",
    "map",
    "answer_bytes_max",
    "password_prohibited",
    "answer",
    "clients_file",
    "dictionary_files",
    "authenticate",
    "ask",
    "chain",
    "mac",
    "rule",
    "request_timeout",
    "patience",
    "reject_delay",
    "rejects_delayed_max",
    "cleanup_delay",
    "requests_max",
    "duplicates_bytes_max",
    "receive_buffer_bytes",
    "moderation",
    "accounting",
    "audit",
    "lockout",
    "monitor",
    "limits",
    "keepalive",
    "tcp_user_timeout",
    "tcp_unsent_bytes_max",
];
const MAP: &[&str] = &[
    "schema",
    "nested",
    "ignore_case",
    "uid_min",
    "gid_min",
    "home",
    "shell",
    "enumerate",
    "authorize",
    "root_changes_passwords",
    "domain_sid",
    "id_offset",
    "attributes",
    "alias",
    "ether",
    "group",
    "host",
    "netgroup",
    "network",
    "passwd",
    "protocol",
    "rpc",
    "service",
    "shadow",
];
const SERVICE: &[&str] = &[
    "helper",
    "program",
    "transport",
    "min",
    "max",
    "min_spare",
    "idle_timeout",
    "spawn_rate",
    "starting_max",
    "start_timeout",
    "queue_max",
    "queue_timeout",
    "request_timeout",
    "grace",
    "requests_max",
    "lifetime",
    "memory_max",
    "crash_max",
    "crash_window",
    "retry_min",
    "retry_max",
    "concurrency",
    "shared_memory",
    "reply_bytes_max",
    "slow_log",
    "user",
    "groups",
    "limits",
    "sandbox",
    "directory",
    "environment",
    "environment_pass",
    "dbus",
    "winbind",
    "pam",
    "sql",
];
const LIMITS: &[&str] = &["nofile", "address_space", "cpu", "core", "processes", "file_size"];
const SANDBOX: &[&str] = &["profile", "read", "write", "network"];
const HELPER_DBUS: &[&str] = &["path", "interface", "method", "payload"];
const WINBIND: &[&str] = &[
    "domain",
    "use_default_domain",
    "require_membership",
    "page_entries",
    "password_warning",
];
const PAM: &[&str] = &["service", "services"];
const SQL: &[&str] = &[
    "url",
    "password_file",
    "connect_timeout",
    "idle_check",
    "init",
    "statement",
    "transaction",
];
const SQL_STATEMENT: &[&str] = &["sql", "parameters", "result", "rows_max", "rows_min", "read_only"];
const SQL_TRANSACTION: &[&str] = &["statements"];
const FEED: &[&str] = &[
    "directory",
    "base",
    "scope",
    "filter",
    "attributes",
    "rename",
    "redact",
    "before",
    "initial",
    "heartbeat",
    "workers",
    "partitions",
    "max_deletes",
    "max_deletes_percent",
    "outbox_events_max",
    "outbox_bytes_max",
    "audit_interval",
    "deletes_kept_max",
    "retry_min",
    "retry_max",
    "dead_letter_after",
    "profile",
    "mode",
    "interval",
    "state",
    "sink",
];
/// `sink` of a feed, of whatever type.
pub(super) const SINK: &[&str] = &[
    "type",
    "path",
    "fsync",
    "rotate_size",
    "rotate_age",
    "rotate_keep",
    "program",
    "directory",
    "environment",
    "ack",
    "address",
    "family",
    "authkey_file",
    "tls",
    "url",
    "format",
    "signature_file",
    "token_file",
    "stream",
    "subject",
    "create",
    "replicas",
    "storage",
    "stream_bytes_max",
    "stream_age_max",
    "lease",
    "lease_ttl",
    "credentials_file",
    "user",
    "password_file",
    "connect_timeout",
    "handshake_timeout",
    "deliver_timeout",
    "grace",
];
