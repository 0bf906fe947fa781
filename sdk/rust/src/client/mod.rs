//! The calling side: any number of calls at once over one connection, from any number of threads.
//!
//! ```no_run
//! use usherd_sdk::client::Client;
//!
//! let client = Client::connect("unix:/run/usherd/rpc.sock")?;
//! let answer = client.call("upper", b"hello")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! One thread per connection reads it. A call is open from when its frame is written until its last frame has come; who
//! leaves a [`Reply`] before cancels the call, whose id stays taken until usherd has ended it. The connection is closed when
//! the last `Client` and `Reply` of it are gone.

mod error;
mod stream;
mod table;
#[cfg(feature = "tls")]
mod tls;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use wire::rpc;

pub use error::{CallError, ConnectError};
pub use wire::rpc::ErrorCode;

use stream::Stream;
use table::Table;

/// usherd ends a call at its deadline; if it does not, the caller does so this much later.
const DEADLINE_GRACE: Duration = Duration::from_secs(1);
/// The largest answer that is put together, unless it is told otherwise.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How to connect; begin with [`Client::builder`].
pub struct Builder {
    token: Option<Vec<u8>>,
    timeout: Duration,
    answer_bytes_max: usize,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Builder {
    /// What the listener asks for: its `token_file`'s content, 1,024 bytes at most.
    #[must_use]
    pub fn token(mut self, token: &[u8]) -> Self {
        self.token = Some(token.to_vec());
        self
    }

    /// How long connecting may take, everything included; 10 seconds unless told otherwise.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The largest answer that [`Reply::wait`] puts together; 64 MiB unless told otherwise.
    #[must_use]
    pub fn answer_bytes_max(mut self, bytes: usize) -> Self {
        self.answer_bytes_max = bytes;
        self
    }

    /// Over TLS, which `HOST:PORT` then needs, and with the name of the host checked.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Connects to `unix:PATH` or `HOST:PORT`.
    ///
    /// # Errors
    /// The address is none, nobody listens there, or the listener refuses us.
    pub fn connect(self, address: &str) -> Result<Client, ConnectError> {
        let ends = Instant::now() + self.timeout;
        #[cfg(feature = "tls")]
        let (stream, reader) = Stream::connect(address, ends, self.tls.clone())?;
        #[cfg(not(feature = "tls"))]
        let (stream, reader) = Stream::connect(address, ends)?;
        let mut hello = Vec::new();
        let frame_bytes_max = u32::try_from(rpc::FRAME_BYTES_MAX).unwrap_or(u32::MAX);
        let software = concat!("usherd-sdk/", env!("CARGO_PKG_VERSION"));
        match &self.token {
            Some(token) => rpc::write_hello_token(&mut hello, frame_bytes_max, software, token)
                .map_err(|_| ConnectError::Address("a token has 1,024 bytes at most".to_string()))?,
            None => rpc::write_hello(&mut hello, frame_bytes_max, software),
        }
        let connection = Arc::new(Connection {
            table: Arc::new(Table::new()),
            stream,
            answer_bytes_max: self.answer_bytes_max,
        });
        let table = Arc::clone(&connection.table);
        thread::Builder::new()
            .name("usherd-client".to_string())
            .spawn(move || reader.run(&table))?;
        connection.stream.write(&hello, None)?;
        connection.table.greeted(ends)?;
        Ok(Client { connection })
    }
}

/// A connection to usherd. Cloned, it is the same connection.
#[derive(Clone)]
pub struct Client {
    connection: Arc<Connection>,
}

/// What lives as long as any `Client` or `Reply` does.
struct Connection {
    table: Arc<Table>,
    stream: Stream,
    answer_bytes_max: usize,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.table
            .end(&CallError::Lost("the connection was closed".to_string()));
        self.stream.close();
    }
}

impl Client {
    /// Connects to `unix:PATH` or `HOST:PORT`, without a token and without TLS.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    pub fn connect(address: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(address)
    }

    /// For more than an address.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            token: None,
            timeout: Duration::from_secs(10),
            answer_bytes_max: ANSWER_BYTES_MAX,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Calls a service and waits for its whole answer, for as long as the service allows.
    ///
    /// # Errors
    /// There is no answer; [`CallError::retry_is_safe`] says whether the call can be tried again.
    pub fn call(&self, service: &str, payload: &[u8]) -> Result<Vec<u8>, CallError> {
        self.request(service).send(payload)?.wait()
    }

    /// A call with a deadline or a descriptor, or one that is not waited for at once.
    #[must_use]
    pub fn request<'a>(&'a self, service: &'a str) -> Request<'a> {
        Request {
            client: self,
            service,
            deadline: None,
            reply_to: None,
        }
    }
}

/// A call that is not sent yet.
pub struct Request<'a> {
    client: &'a Client,
    service: &'a str,
    deadline: Option<Duration>,
    reply_to: Option<OwnedFd>,
}

impl Request<'_> {
    /// How long the caller waits; without it, as long as the service allows.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// A descriptor that the helper may write its answer to, over a unix socket. It need not: read both.
    #[must_use]
    pub fn reply_to(mut self, file: File) -> Self {
        self.reply_to = Some(file.into());
        self
    }

    /// Sends the call and does not wait for its answer.
    ///
    /// # Errors
    /// The call cannot be said, is larger than the listener takes, or the connection has ended.
    pub fn send(self, payload: &[u8]) -> Result<Reply, CallError> {
        let connection = &self.client.connection;
        let deadline_ms = self.deadline.map_or(0, |deadline| {
            // 0 would leave it to the service.
            u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX).max(1)
        });
        let ends = self.deadline.map(|deadline| Instant::now() + deadline + DEADLINE_GRACE);
        let call = connection.table.open(self.service, payload)?;
        let reply = Reply {
            connection: Arc::clone(connection),
            call,
            ends,
            over: false,
        };
        let mut frame = Vec::new();
        let written = match &self.reply_to {
            None => rpc::write_call(&mut frame, call, deadline_ms, self.service, payload),
            Some(_) => rpc::write_call_direct(&mut frame, call, deadline_ms, self.service, payload),
        };
        let sent = match written {
            Ok(()) => connection.stream.write(&frame, self.reply_to.as_ref()),
            Err(malformed) => Err(io::Error::new(io::ErrorKind::InvalidInput, malformed)),
        };
        match sent {
            Ok(()) => Ok(reply),
            Err(error) => {
                // Nothing of it was taken: there is nobody to cancel it with.
                connection.table.forget(call);
                Err(CallError::NotSent(error.to_string()))
            }
        }
    }
}

/// What comes for a call.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A part of the answer; more follows.
    Part(Vec<u8>),
    /// The last of the answer. The answer is the parts joined.
    Done(Vec<u8>),
    /// The service asks for something: say it with [`Reply::input`], or leave.
    Ask(Vec<u8>),
}

/// A call on its way. Dropped before its end, it cancels the call.
pub struct Reply {
    connection: Arc<Connection>,
    call: u32,
    ends: Option<Instant>,
    over: bool,
}

impl Reply {
    /// Waits for the whole answer. A service that asks for something gets the call canceled.
    ///
    /// # Errors
    /// There is no answer.
    pub fn wait(self) -> Result<Vec<u8>, CallError> {
        self.wait_answering(|_| None)
    }

    /// Waits for the whole answer, and answers what the service asks; `None` cancels the call.
    ///
    /// # Errors
    /// There is no answer.
    pub fn wait_answering(mut self, mut answer: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> Result<Vec<u8>, CallError> {
        let mut whole = Vec::new();
        loop {
            let (bytes, done) = match self.next()? {
                Said::Part(part) => (part, false),
                Said::Done(last) => (last, true),
                Said::Ask(question) => {
                    self.input(&answer(&question).ok_or(CallError::NeedsInput)?)?;
                    continue;
                }
            };
            if bytes.len() > self.connection.answer_bytes_max.saturating_sub(whole.len()) {
                return Err(CallError::TooLarge(self.connection.answer_bytes_max));
            }
            if whole.is_empty() {
                whole = bytes;
            } else {
                whole.extend_from_slice(&bytes);
            }
            if done {
                return Ok(whole);
            }
        }
    }

    /// Waits for what comes next. After an error or [`Said::Done`] there is nothing more.
    ///
    /// # Errors
    /// There is no answer: throw the parts away.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would hide that a call ends with an error or an answer"
    )]
    pub fn next(&mut self) -> Result<Said, CallError> {
        let said = self.connection.table.next(self.call, self.ends);
        // A deadline that only the caller saw leaves the call open: the drop cancels it.
        self.over = !matches!(said, Ok(Said::Part(_) | Said::Ask(_)) | Err(CallError::Unanswered));
        said
    }

    /// Says what the service has asked for.
    ///
    /// # Errors
    /// The connection has ended, or it is too much for one frame.
    pub fn input(&mut self, input: &[u8]) -> Result<(), CallError> {
        let mut frame = Vec::new();
        rpc::write_input(&mut frame, self.call, input).map_err(|_| CallError::TooLarge(rpc::PAYLOAD_BYTES_MAX))?;
        let sent = self.connection.stream.write(&frame, None);
        sent.map_err(|error| CallError::Lost(error.to_string()))
    }

    /// Asks to stop. The call still ends by itself, with [`ErrorCode::Canceled`] or with its answer if that was sooner.
    pub fn cancel(&self) {
        self.connection.cancel(self.call);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.over && self.connection.table.leave(self.call) {
            self.connection.cancel(self.call);
        }
    }
}

impl Connection {
    /// That it cannot be said is no matter: the connection has ended, and so has the call.
    fn cancel(&self, call: u32) {
        let mut frame = Vec::new();
        if rpc::write_cancel(&mut frame, call).is_ok() {
            let _ = self.stream.write(&frame, None);
        }
    }
}
