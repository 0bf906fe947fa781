//! The daemon's figures at one moment: what `usherd status --json` prints and what `/metrics` is made of.
//!
//! Counts grow from the start of the daemon and never shrink, except where a field says "now".

use serde::{Deserialize, Serialize};

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// `starting`, `ready`, `draining` or `gone`.
    pub lifecycle: String,
    /// Worker threads.
    pub workers: usize,
    /// Workers that did not answer in time; their figures are missing here. `/healthz` is false while there are any.
    pub workers_silent: usize,
    /// Clients now.
    pub clients: u64,
    /// Operations finished.
    pub operations: u64,
    /// Listeners in the order of the configuration.
    pub listeners: Vec<Listener>,
    /// Directories by name.
    pub directories: Vec<Directory>,
    /// Services by name.
    pub services: Vec<Service>,
    /// Everything else that is counted.
    pub counters: Counters,
}

/// A listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listener {
    /// Where, the port chosen by the kernel where 0 was asked for.
    pub address: String,
    /// `ldap`, `ldaps`, `rpc`.
    pub protocol: String,
    /// What answers; empty for rpc.
    pub directory: String,
    /// Clients now.
    pub clients: u64,
    /// `ready`, `waiting` (bound, its directory not ready), `paused` (no descriptors), `draining`.
    pub state: String,
}

/// A directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Directory {
    /// Its name.
    pub name: String,
    /// `proxied` or `pinned`.
    pub identity: String,
    /// Requests waiting for a connection now.
    pub queue: u64,
    /// Its servers, tier by tier.
    pub servers: Vec<Server>,
    /// Operations finished, by class and result class.
    pub operations: Vec<Operations>,
    /// How long operations took.
    pub seconds: Seconds,
    /// Requests that break the grammar.
    pub malformed: u64,
    /// Clients that did not read what waited for them, so that operations of theirs were given up.
    pub slow_readers: u64,
}

/// A server of a directory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its tier, from 1.
    pub tier: usize,
    /// `up`, `suspect`, `ejected` or `down`.
    pub state: String,
    /// Shared connections now.
    pub connections: u64,
    /// Connections for binds, and pinned ones, now.
    pub bind_connections: u64,
    /// Operations in flight now.
    pub pending: u64,
    /// Operations sent.
    pub operations: u64,
    /// Connections lost or refused, failed probes.
    pub failures: u64,
    /// Estimate of the time it takes for an operation now, microseconds.
    pub latency_us: u64,
    /// Its configured weight.
    pub weight: u32,
    /// Clients' own connections to it (identity pinned), now.
    pub pinned: u64,
    /// Why the last attempt at a connection failed; empty where none did.
    pub last_error: String,
}

/// Operations of one class that ended alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operations {
    /// `bind`, `search`, `compare`, `write`, `extended`.
    pub class: String,
    /// `success`, `refused` (the server said no), `unwell` (it said busy or unavailable), `canceled`, `deadline`,
    /// `unsent` (queue full, queue timeout, no server up, shutting down: no server has seen it), `lost` (it was sent, and its
    /// connection was lost, or it was given up at a shutdown).
    pub result: String,
    /// How many.
    pub count: u64,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seconds {
    /// Upper bounds of the buckets, microseconds, rising.
    pub bounds_us: Vec<u64>,
    /// Counts per bucket, not cumulative, and one more for what is slower than all.
    pub buckets: Vec<u64>,
    /// Sum, microseconds.
    pub sum_us: u64,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Helpers running now.
    pub running: u64,
    /// Helpers ready and idle now.
    pub idle: u64,
    /// Calls waiting now.
    pub queued: u64,
    /// Calls finished, well or not.
    pub calls: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls by outcome: `answered`, `crashed`, `deadline`, `queue-full`, `queue-timeout`, `too-large`, `canceled`, …
    pub outcomes: Vec<Count>,
}

/// A count with a label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// What is counted.
    pub label: String,
    /// How many.
    pub count: u64,
}

/// What belongs to no directory and no service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Clients accepted.
    pub accepted: u64,
    /// Requests that we refused, by reason: `empty-password`, `proxied-authorization`, `pending`, `queue-full`, …
    pub refusals: Vec<Count>,
    /// Reads sent a second time, elsewhere.
    pub retries: u64,
    /// Replies that came after their operation had ended, dropped.
    pub late_replies: u64,
    /// Times that accepting paused for want of descriptors.
    pub accept_pauses: u64,
    /// Bytes waiting for clients now.
    pub outbox_bytes: u64,
    /// Panics contained.
    pub panics: u64,
    /// Reloads, by outcome: `applied`, `refused`.
    pub reloads: Vec<Count>,
}
