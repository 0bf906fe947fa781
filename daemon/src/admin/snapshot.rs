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
    /// Those that did answer.
    pub each_worker: Vec<Worker>,
    /// Clients now.
    pub clients: u64,
    /// Operations finished.
    pub operations: u64,
    /// Listeners in the order of the configuration.
    pub listeners: Vec<Listener>,
    /// Directories by name.
    pub directories: Vec<Directory>,
    /// LDIF files that are served.
    pub local: Vec<Local>,
    /// Services by name.
    pub services: Vec<Service>,
    /// Feeds by name.
    pub feeds: Vec<Feed>,
    /// RADIUS listeners in the order of the configuration.
    pub radius: Vec<Radius>,
    /// The audit log.
    pub audit: Audit,
    /// Lockout after failed binds, by listener.
    pub lockouts: Vec<Lockout>,
    /// Look-ups of names since the start.
    pub lookups: Lookups,
    /// What Kerberos was asked for binds by GSSAPI.
    pub gssapi: Gssapi,
    /// Limits of clients, by listener.
    pub limits: Vec<Limits>,
    /// Everything else that is counted.
    pub counters: Counters,
}

/// Lockout after failed binds, of a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lockout {
    /// The listener, as configured.
    pub listener: String,
    /// Locks since the start.
    pub locks: u64,
    /// Binds refused.
    pub refused: u64,
    /// Names and addresses that are remembered now.
    pub entries: u64,
    /// Of them, locked now.
    pub locked: u64,
}

/// Look-ups of names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lookups {
    /// Of services, with an answer.
    pub services: u64,
    /// Of services, without one.
    pub services_failed: u64,
    /// Of addresses, with an answer.
    pub addresses: u64,
    /// Of addresses, without one.
    pub addresses_failed: u64,
}

/// What Kerberos was asked for the daemon's own binds by GSSAPI: four questions for a bind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gssapi {
    /// With an answer.
    pub answered: u64,
    /// With an error.
    pub failed: u64,
    /// Not asked, because too many waited.
    pub refused: u64,
    /// Not asked, because the server's token was too long.
    pub too_long: u64,
    /// Whose answer came when nobody waited for it any more.
    pub late: u64,
    /// That wait now.
    pub waiting: u64,
    /// That are being answered now.
    pub running: u64,
}

/// Limits of clients, of a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The listener, as configured.
    pub listener: String,
    /// Connections refused since the start, by why.
    pub refused_connections: Vec<Count>,
    /// Operations held back.
    pub delayed: u64,
    /// Operations answered 51.
    pub refused: u64,
    /// Searches that brought more entries than they may.
    pub searches_too_large: u64,
    /// Searches that took longer than they may.
    pub searches_too_long: u64,
    /// Addresses that are remembered now.
    pub addresses: u64,
    /// Names.
    pub names: u64,
}

/// The audit log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Audit {
    /// Lines written.
    pub written: u64,
    /// Lines that found no room, or could not be written.
    pub lost: u64,
    /// Lines that wait now.
    pub queue: u64,
    /// Why it cannot be written now; empty where it can.
    pub last_error: String,
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

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Its number, from 0.
    pub worker: u64,
    /// Clients now.
    pub clients: u64,
    /// Panics contained.
    pub panics: u64,
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
    /// Binds after which a server was asked who that is (Who am I?).
    pub names_asked: u64,
    /// Binds whose client left, or bound again, before it mattered who it is.
    pub names_spared: u64,
    /// Clients now whose operations keep to something by a rule: `isolate` (a connection of their own), `connection`, `backend`.
    pub kept: Vec<Count>,
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
    /// `available`, `degraded` (used, but doubted, failing in part, slower than its peers, or not back at its whole share
    /// yet) or `down`.
    pub score: String,
    /// Checks that failed.
    pub checks_failed: u64,
    /// Why the last check failed; empty where it did not.
    pub check_error: String,
    /// Shared connections now.
    pub connections: u64,
    /// Connections for binds, now.
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
    /// Connections to it for one client at a time (rule `isolate`), in use or kept ready, now.
    pub isolated: u64,
    /// Why the last attempt at a connection failed; empty where none did.
    pub last_error: String,
}

/// An LDIF file that is served.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Local {
    /// The file.
    pub file: String,
    /// Entries now.
    pub entries: u64,
    /// Changes since it was loaded.
    pub changes: u64,
    /// Changes that are to be in the file and are not yet, now.
    pub unsaved: u64,
    /// How often changes were written to the file.
    pub writes: u64,
    /// How often that failed.
    pub failures: u64,
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
    /// Processes now, whatever they do.
    pub running: u64,
    /// Helpers that are being started now.
    pub starting: u64,
    /// Helpers ready and idle now.
    pub idle: u64,
    /// Helpers, or programs, with a call now.
    pub busy: u64,
    /// Helpers that were told to end and have not, now.
    pub stopping: u64,
    /// At once, at most.
    pub max: u64,
    /// Calls waiting now.
    pub queued: u64,
    /// How many may.
    pub queue_max: u64,
    /// How long the oldest of them has waited now, milliseconds.
    pub oldest_ms: u64,
    /// Calls taken.
    pub calls: u64,
    /// Calls that ended without an answer.
    pub failed: u64,
    /// Calls by outcome: `answered`, `error`, `crashed`, `deadline`, `canceled`, `too-large`, and the refusals.
    pub outcomes: Vec<Count>,
    /// Calls that no helper had, by reason: `queue-full`, `queue-timeout`, `unavailable`, `shutting-down`.
    pub refusals: Vec<Count>,
    /// Helpers, or programs, started.
    pub starts: u64,
    /// Helpers that have ended, by reason: `idle`, `recycled`, `timeout`, `crash`, `memory`, `reload`.
    pub exits: Vec<Count>,
    /// Times that one more was wanted and `max` was reached.
    pub max_reached: u64,
    /// Calls interrupted.
    pub interrupted: u64,
    /// Helpers, or programs, killed because they did not heed an interrupt.
    pub killed: u64,
    /// From a call's coming to its being given to a helper.
    pub queue_wait: Seconds,
    /// From there to its end.
    pub service_time: Seconds,
    /// Why the last attempt at a helper failed; empty where it did not.
    pub last_error: String,
    /// Its helpers.
    pub helpers: Vec<Helper>,
}

/// A helper process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Helper {
    /// Its process id.
    pub pid: u32,
    /// `starting`, `idle`, `busy` or `stopping`.
    pub state: String,
    /// How long it has been there, milliseconds.
    pub age_ms: u64,
    /// Calls that it has ended.
    pub requests: u64,
    /// Its resident memory, bytes.
    pub memory: u64,
    /// The oldest call that it has; 0: none.
    pub call: u32,
    /// Since how many milliseconds it has that call.
    pub call_ms: u64,
    /// Whose call that is.
    pub caller: String,
    /// Its name and version, as it says.
    pub software: String,
}

/// A feed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Feed {
    /// Its name.
    pub name: String,
    /// The directory it follows.
    pub directory: String,
    /// What kind of sink it has.
    pub sink: String,
    /// `starting`, `connecting`, `refresh`, `persist`, `held` (too many deletes: an operator decides), `idle` (between two
    /// polls), `waiting` (no session; it is tried again), `full` (the outbox is), `failed` (the state cannot be written).
    pub phase: String,
    /// Whether this daemon delivers it: `alone` (nobody else may), `leader`, `follower`, `taking-over` (it has the lease, and
    /// reads what was said), `cut-off` (it cannot read the stream).
    pub role: String,
    /// Whether an operator has stopped its delivery.
    pub paused: bool,
    /// Whether source and sinks are as they should be.
    pub ready: bool,
    /// Entries in the content now.
    pub entries: u64,
    /// Whether the content was complete once.
    pub complete: bool,
    /// Entries that the refresh under way has mentioned so far.
    pub refresh_entries: u64,
    /// Up to where the content is the directory's.
    pub cookie: String,
    /// Events that wait now.
    pub outbox_events: u64,
    /// Their bytes.
    pub outbox_bytes: u64,
    /// Deletes that a replay can tell again.
    #[serde(default)]
    pub deletes_kept: u64,
    /// The number of the last event.
    pub last_seq: u64,
    /// From usherd's learning of the last delivered change to its acknowledgement, milliseconds.
    pub lag_ms: u64,
    /// When the state was last written, milliseconds since 1970.
    pub committed_ms: i64,
    /// Deletes that wait for an operator now.
    pub held: u64,
    /// Refreshes completed.
    pub refreshes: u64,
    /// Refreshes held because they would delete too much.
    pub refreshes_held: u64,
    /// Events delivered, by what they say.
    pub delivered: Vec<Count>,
    /// Failed connections to, and deliveries of, sinks.
    pub sink_failures: u64,
    /// Events that became dead letters.
    pub dead_letters: u64,
    /// Times that the state could not be written.
    pub store_failures: u64,
    /// Why there is no session, or the state cannot be written; empty while all is well.
    pub last_error: String,
    /// Its shards.
    pub shards: Vec<FeedShard>,
}

/// A shard of a feed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeedShard {
    /// Its number.
    pub shard: u64,
    /// `starting`, `connecting`, `ready`, `retrying`, `setting` (a person is needed), `fenced` (another daemon delivers),
    /// `ended`, `standby` (this daemon follows), `closed`.
    pub state: String,
    /// Its sink has everything up to this number.
    pub acknowledged: u64,
    /// Why its sink failed last; empty while all is well.
    pub last_error: String,
}

/// A RADIUS listener, all workers together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Radius {
    /// Where, the port chosen by the kernel where 0 was asked for.
    pub address: String,
    /// Requests taken, each once however often it came.
    pub begun: u64,
    /// Requests that are being answered now.
    pub waiting: u64,
    /// Accepts and rejects by method; methods that nobody used are left out.
    pub methods: Vec<RadiusVerdicts>,
    /// Access-Challenges.
    pub challenges: u64,
    /// Accounting requests acknowledged.
    pub recorded: u64,
    /// Status-Server requests answered.
    pub statuses: u64,
    /// Accepts that became rejects because their attributes did not fit a packet.
    pub unwritable: u64,
    /// Answers sent again.
    pub resent: u64,
    /// Requests given up because their identifier was used for another one.
    pub replaced: u64,
    /// Answers and peers forgotten before their time for want of room.
    pub evicted: u64,
    /// Packets that got no answer, by reason.
    pub dropped: Vec<Count>,
    /// The same by client.
    pub clients_dropped: Vec<Count>,
    /// Datagrams that the kernel dropped because they were not read in time.
    pub kernel_drops: u64,
    /// Answers that the kernel did not take.
    pub unsent: u64,
    /// What an answer takes now, microseconds, by the slowest worker.
    pub service_time_us: u64,
    /// From the receipt of a request to its answer.
    pub took: Seconds,
    /// Who is asked.
    pub backends: Vec<RadiusBackend>,
    /// Where accounting records go; none: they are thrown away.
    pub records: Option<RadiusRecords>,
}

/// Accounting records of a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RadiusRecords {
    /// Records that the sink has taken when they came.
    pub written: u64,
    /// Records that went to the spool.
    pub spooled: u64,
    /// Records that the sink has taken from the spool.
    pub replayed: u64,
    /// Records that were not acknowledged.
    pub refused: u64,
    /// Records that the service will not have, set aside.
    pub set_aside: u64,
    /// Records that wait to be written, now.
    pub queue: u64,
    /// Records in the spool, now.
    pub spool_records: u64,
    /// Bytes of the spool, now.
    pub spool_bytes: u64,
    /// What is wrong with sink or spool; empty while all is well.
    pub last_error: String,
}

/// Verdicts by one method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RadiusVerdicts {
    /// `pap`, `chap`, `ms-chap`, …
    pub method: String,
    /// Accepts.
    pub accepts: u64,
    /// Rejects.
    pub rejects: u64,
}

/// Who is asked by a RADIUS listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RadiusBackend {
    /// Its name.
    pub name: String,
    /// Users that it let in.
    pub yes: u64,
    /// Users that it did not let in.
    pub no: u64,
    /// Users that it did not know, or could not judge.
    pub not_found: u64,
    /// Times that it could not be asked.
    pub unavailable: u64,
    /// Users that it is being asked about now.
    pub pending: u64,
    /// What its answer takes now, or how long it has been silent, microseconds; by the slowest worker.
    pub service_time_us: u64,
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
    /// Clients that were closed because they read nothing while others needed the memory.
    #[serde(default)]
    pub stuck_closed: u64,
    /// Panics contained.
    pub panics: u64,
    /// Reloads, by outcome: `applied`, `refused`.
    pub reloads: Vec<Count>,
    /// Upgrades, by what became of them: `begun` (all of them), `failed` (this process went on), `handed-over` (another has its place).
    pub upgrades: Vec<Count>,
    /// 1: this process has taken another's place by an upgrade; 0: it was started by itself.
    pub took_over: u64,
}
