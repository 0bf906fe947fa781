//! What a sink is to be, every default filled in. Made by `config::sink` from what a person wrote.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::config::plan::TlsClient;

/// One sink.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkPlan {
    /// How long things may take.
    pub timeouts: Timeouts,
    /// Which sink.
    pub kind: SinkKind,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    /// To be connected (TCP, unix), or to have started.
    pub connect: Duration,
    /// TLS, authentication, and what else comes before the first event.
    pub handshake: Duration,
    /// One batch, to its acknowledgement.
    pub deliver: Duration,
    /// To end by itself when the feed stops; after it, it is ended.
    pub grace: Duration,
}

/// Which sink, and its own settings.
#[derive(Clone, Debug, PartialEq)]
pub enum SinkKind {
    /// Lines on standard output.
    Ndjson,
    /// Lines in a file.
    File(FilePlan),
    /// Lines to the standard input of a program.
    Command(CommandPlan),
    /// Pickled dictionaries to a `multiprocessing.connection.Listener`.
    Python(PythonPlan),
    /// Lines to a socket.
    Socket(SocketPlan),
    /// HTTP POST.
    Webhook(WebhookPlan),
    /// NATS JetStream.
    Nats(NatsPlan),
}

impl SinkKind {
    /// By what several daemons share the feed, where they do.
    pub fn lease(&self) -> Option<&LeasePlan> {
        match self {
            SinkKind::Nats(nats) => nats.lease.as_ref(),
            _ => None,
        }
    }

    /// Its word in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            SinkKind::Ndjson => "ndjson",
            SinkKind::File(_) => "file",
            SinkKind::Command(_) => "command",
            SinkKind::Python(_) => "python",
            SinkKind::Socket(_) => "socket",
            SinkKind::Webhook(_) => "webhook",
            SinkKind::Nats(_) => "nats",
        }
    }
}

/// A file of lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePlan {
    /// The file that is written; older ones are `PATH.1`, `PATH.2`, …
    pub path: PathBuf,
    /// Whether a batch is on the disk before it counts as delivered.
    pub fsync: bool,
    /// A file of so many bytes is put away; 0: never by size.
    pub rotate_bytes: u64,
    /// A file so old is put away; zero: never by age.
    pub rotate_age: Duration,
    /// So many older files are kept, 0 to 1,000.
    pub keep: usize,
}

/// Whether a peer says what it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// What is written counts as done.
    No,
    /// The peer answers with numbers.
    Yes,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandPlan {
    /// The program and its arguments; no shell reads them.
    pub program: Vec<String>,
    /// Whether its standard output acknowledges.
    pub ack: Acknowledge,
    /// Where it stands; none: where the daemon does.
    pub directory: Option<PathBuf>,
    /// Variables beside the daemon's own.
    pub environment: Vec<(String, String)>,
}

/// A Python `Listener`.
#[derive(Clone, PartialEq, Eq)]
pub struct PythonPlan {
    /// Where it listens.
    pub address: PythonAddress,
    /// The key, verbatim as the file has it; none: a Listener without one.
    pub authkey: Option<Zeroizing<Vec<u8>>>,
    /// Whether it acknowledges with `send_bytes`.
    pub ack: Acknowledge,
}

impl fmt::Debug for PythonPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PythonPlan {{ address: {:?}, ack: {:?}, .. }}",
            self.address, self.ack
        )
    }
}

/// The address of a Python `Listener`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PythonAddress {
    /// `AF_INET`: a name or an address, and a port.
    Tcp(String, u16),
    /// `AF_UNIX`: a path.
    Unix(PathBuf),
    /// `AF_UNIX` in the abstract name space; without the zero byte it begins with.
    Abstract(Vec<u8>),
}

/// A socket.
#[derive(Clone, Debug, PartialEq)]
pub struct SocketPlan {
    /// Where.
    pub place: SocketPlace,
    /// TLS, for TCP.
    pub tls: Option<TlsClient>,
    /// Whether the peer acknowledges.
    pub ack: Acknowledge,
}

/// See [`SocketPlan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketPlace {
    /// A name or an address, and a port.
    Tcp(String, u16),
    /// A path.
    Unix(PathBuf),
}

/// What the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// One event a line: `application/x-ndjson`.
    Ndjson,
    /// `application/json`, a list of events.
    Array,
}

/// An HTTP receiver.
#[derive(Clone, PartialEq)]
pub struct WebhookPlan {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// `https`.
    pub tls: Option<TlsClient>,
    /// Signs each request; none: unsigned.
    pub secret: Option<Zeroizing<Vec<u8>>>,
    /// Said as `Authorization: Bearer`.
    pub token: Option<Zeroizing<Vec<u8>>>,
    /// What is sent.
    pub format: WebhookFormat,
}

impl fmt::Debug for WebhookPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls.is_some() { "https" } else { "http" };
        write!(
            f,
            "WebhookPlan {{ {tls}://{}:{}{}, {:?}, .. }}",
            self.host, self.port, self.path, self.format
        )
    }
}

/// Where JetStream keeps a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory: gone with the server.
    Memory,
}

/// Who we are to a NATS server.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsAuthentication {
    /// Nobody.
    None,
    /// The content of a credentials file (`.creds`).
    Credentials(Zeroizing<String>),
    /// A token.
    Token(Zeroizing<String>),
    /// A user and a password.
    Password(String, Zeroizing<String>),
}

impl fmt::Debug for NatsAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NatsAuthentication::None => "None",
            NatsAuthentication::Credentials(_) => "Credentials",
            NatsAuthentication::Token(_) => "Token",
            NatsAuthentication::Password(..) => "Password",
        })
    }
}

/// Which of several daemons delivers a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasePlan {
    /// The key-value bucket.
    pub bucket: String,
    /// How long a leader that has fallen silent keeps its place, 2 s to 10 s.
    pub ttl: Duration,
}

/// A JetStream stream.
#[derive(Clone, Debug, PartialEq)]
pub struct NatsPlan {
    /// Servers, as `nats://HOST:PORT` or `tls://HOST:PORT`.
    pub servers: Vec<String>,
    /// Who we are.
    pub authentication: NatsAuthentication,
    /// TLS towards the servers.
    pub tls: Option<TlsClient>,
    /// The stream; none: the feed's name.
    pub stream: Option<String>,
    /// Before the shard's number in a subject (`PREFIX.SHARD`); none: `usherd.FEED`.
    pub subject: Option<String>,
    /// Whether the stream is made where there is none.
    pub create: bool,
    /// Copies of the stream, 1 to 5, where it is made here.
    pub replicas: usize,
    /// Where it is kept, where it is made here.
    pub storage: Storage,
    /// Bytes kept at most, where it is made here; 0: no bound.
    pub stream_bytes_max: u64,
    /// How long messages are kept, where it is made here; zero: for ever.
    pub stream_age_max: Duration,
    /// Several daemons share the feed by this; none: this one has it alone.
    pub lease: Option<LeasePlan>,
}
