//! What a person wrote about a sink of a feed: `sink = { type = "…", … }`, or `--sink` of a command line.

use std::time::Duration;

use super::diagnostic::{At, Place, Problems};
use super::keys::{self, Kind};
use super::raw::{self, TlsClient};
use super::reader::Section;
use super::values::DURATION_MAX;
use crate::feed::sink::{Storage, WebhookFormat};

/// The words of `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `ndjson`.
    Ndjson,
    /// `file`.
    File,
    /// `command`.
    Command,
    /// `python`.
    Python,
    /// `socket`.
    Socket,
    /// `webhook`.
    Webhook,
    /// `nats`.
    Nats,
}

/// The words of `type`.
pub const TYPES: [(&str, Type); 7] = [
    ("ndjson", Type::Ndjson),
    ("file", Type::File),
    ("command", Type::Command),
    ("python", Type::Python),
    ("socket", Type::Socket),
    ("webhook", Type::Webhook),
    ("nats", Type::Nats),
];

/// Sinks of the design that this version does not have.
pub const TYPES_LATER: [&str; 2] = ["redis", "postgresql"];

/// Families of Python's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    Inet,
    /// `AF_UNIX`.
    Unix,
    /// `AF_PIPE`, which only Windows has.
    Pipe,
}

/// `sink` of a feed, as written. See `feed::sink::SinkPlan` and its parts for each.
#[derive(Debug)]
pub struct Sink {
    /// The table.
    pub place: Place,
    /// `type`.
    pub kind: Option<At<Type>>,
    /// Every setting that is written, and where.
    pub written: Vec<(&'static str, Place)>,
    /// `path`.
    pub path: Option<At<String>>,
    /// `fsync`.
    pub fsync: Option<At<bool>>,
    /// `rotate_size`.
    pub rotate_size: Option<At<usize>>,
    /// `rotate_age`.
    pub rotate_age: Option<At<Duration>>,
    /// `rotate_keep`.
    pub rotate_keep: Option<At<usize>>,
    /// `program`.
    pub program: Option<At<Vec<At<String>>>>,
    /// `directory`.
    pub directory: Option<At<String>>,
    /// `environment`.
    pub environment: Vec<(At<String>, At<String>)>,
    /// `ack`.
    pub ack: Option<At<bool>>,
    /// `address`.
    pub address: Option<At<String>>,
    /// `family`.
    pub family: Option<At<Family>>,
    /// `authkey_file`.
    pub authkey_file: Option<At<String>>,
    /// `tls`.
    pub tls: Option<TlsClient>,
    /// `url`.
    pub url: Option<At<String>>,
    /// `format`.
    pub format: Option<At<WebhookFormat>>,
    /// `signature_file`.
    pub signature_file: Option<At<String>>,
    /// `token_file`.
    pub token_file: Option<At<String>>,
    /// `stream`.
    pub stream: Option<At<String>>,
    /// `subject`.
    pub subject: Option<At<String>>,
    /// `create`.
    pub create: Option<At<bool>>,
    /// `replicas`.
    pub replicas: Option<At<usize>>,
    /// `storage`.
    pub storage: Option<At<Storage>>,
    /// `stream_bytes_max`.
    pub stream_bytes_max: Option<At<usize>>,
    /// `stream_age_max`.
    pub stream_age_max: Option<At<Duration>>,
    /// `lease`.
    pub lease: Option<At<String>>,
    /// `lease_ttl`.
    pub lease_ttl: Option<At<Duration>>,
    /// `credentials_file`.
    pub credentials_file: Option<At<String>>,
    /// `user`.
    pub user: Option<At<String>>,
    /// `password_file`.
    pub password_file: Option<At<String>>,
    /// `connect_timeout`.
    pub connect_timeout: Option<At<Duration>>,
    /// `handshake_timeout`.
    pub handshake_timeout: Option<At<Duration>>,
    /// `deliver_timeout`.
    pub deliver_timeout: Option<At<Duration>>,
    /// `grace`.
    pub grace: Option<At<Duration>>,
}

const MILLISECOND: Duration = Duration::from_millis(1);
/// A server forgets with a delay of up to a second, so a shorter lease would be a lie.
const LEASE_TTL_MIN: Duration = Duration::from_secs(2);
const LEASE_TTL_MAX: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
const FILES_MAX: usize = 1000;
const REPLICAS_MAX: usize = 5;
/// A file that is put away has room for a few events at least.
const ROTATE_BYTES_MIN: usize = 4096;
const TIB: usize = 1 << 40;

/// Reads the table.
pub fn read(p: &mut Problems, mut section: Section<'_>) -> Sink {
    const FORMATS: [(&str, WebhookFormat); 2] = [("ndjson", WebhookFormat::Ndjson), ("array", WebhookFormat::Array)];
    const STORAGES: [(&str, Storage); 2] = [("file", Storage::File), ("memory", Storage::Memory)];
    const FAMILIES: [(&str, Family); 3] = [
        ("AF_INET", Family::Inet),
        ("AF_UNIX", Family::Unix),
        ("AF_PIPE", Family::Pipe),
    ];
    let written = keys::SINK.iter().filter(|key| section.has(key));
    let written = written.map(|key| (*key, section.place_of(key))).collect();
    let tls = section.section(p, "tls", Kind::TlsClient);
    let sink = Sink {
        place: section.place.clone(),
        written,
        kind: section.choice(p, "type", &TYPES, &TYPES_LATER),
        path: section.string(p, "path"),
        fsync: section.boolean(p, "fsync"),
        rotate_size: section.size(p, "rotate_size", 0, TIB),
        rotate_age: section.duration(p, "rotate_age", Duration::ZERO, DURATION_MAX),
        rotate_keep: section.count(p, "rotate_keep", 0, FILES_MAX),
        program: section.strings(p, "program"),
        directory: section.string(p, "directory"),
        environment: section.string_table(p, "environment").unwrap_or_default(),
        ack: section.boolean(p, "ack"),
        address: section.string(p, "address"),
        family: section.choice(p, "family", &FAMILIES, &[]),
        authkey_file: section.string(p, "authkey_file"),
        tls: tls.map(|section| raw::read_tls_client(p, section)),
        url: section.string(p, "url"),
        format: section.choice(p, "format", &FORMATS, &[]),
        signature_file: section.string(p, "signature_file"),
        token_file: section.string(p, "token_file"),
        stream: section.string(p, "stream"),
        subject: section.string(p, "subject"),
        create: section.boolean(p, "create"),
        replicas: section.count(p, "replicas", 1, REPLICAS_MAX),
        storage: section.choice(p, "storage", &STORAGES, &[]),
        stream_bytes_max: section.size(p, "stream_bytes_max", 0, 1024 * TIB),
        stream_age_max: section.duration(p, "stream_age_max", Duration::ZERO, DURATION_MAX),
        lease: section.string(p, "lease"),
        lease_ttl: section.duration(p, "lease_ttl", LEASE_TTL_MIN, LEASE_TTL_MAX),
        credentials_file: section.string(p, "credentials_file"),
        user: section.string(p, "user"),
        password_file: section.string(p, "password_file"),
        connect_timeout: section.duration(p, "connect_timeout", 10 * MILLISECOND, HOUR),
        handshake_timeout: section.duration(p, "handshake_timeout", 10 * MILLISECOND, HOUR),
        deliver_timeout: section.duration(p, "deliver_timeout", 10 * MILLISECOND, HOUR),
        grace: section.duration(p, "grace", Duration::ZERO, HOUR),
    };
    if let Some(size) = sink
        .rotate_size
        .as_ref()
        .filter(|at| (1..ROTATE_BYTES_MIN).contains(&at.value))
    {
        p.error(&size.place, "`rotate_size` is too small to be of use")
            .label(format!("found {} bytes", size.value))
            .help("it may be 4KiB or more, or 0 for no bound");
    }
    section.finish(p);
    sink
}

impl Sink {
    /// A sink of which nothing is written but where.
    pub fn nothing(place: Place) -> Sink {
        Sink {
            place,
            kind: None,
            written: Vec::new(),
            path: None,
            fsync: None,
            rotate_size: None,
            rotate_age: None,
            rotate_keep: None,
            program: None,
            directory: None,
            environment: Vec::new(),
            ack: None,
            address: None,
            family: None,
            authkey_file: None,
            tls: None,
            url: None,
            format: None,
            signature_file: None,
            token_file: None,
            stream: None,
            subject: None,
            create: None,
            replicas: None,
            storage: None,
            stream_bytes_max: None,
            stream_age_max: None,
            lease: None,
            lease_ttl: None,
            credentials_file: None,
            user: None,
            password_file: None,
            connect_timeout: None,
            handshake_timeout: None,
            deliver_timeout: None,
            grace: None,
        }
    }
}
