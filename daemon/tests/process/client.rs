//! An LDAP client (RFC 4511) made for tests: it sends what it is told, ids and all, and hides nothing that comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::ber::{elements, int, seq, take, tlv, value};
use crate::ops;

/// Long enough for a busy test machine, short enough to notice what never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where a client connects, and how the connection is protected.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    Plain(SocketAddr),
    Ldaps(SocketAddr, PathBuf),
    StartTls(SocketAddr, PathBuf),
    Unix(PathBuf),
}

impl Target {
    pub(crate) fn plain(port: u16) -> Self {
        Self::Plain(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Why no message came.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) enum Gone {
    Closed,
    Timeout,
}

/// One LDAPMessage.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: i64,
    /// The protocolOp's tag.
    pub(crate) tag: u8,
    /// The protocolOp's content.
    pub(crate) content: Vec<u8>,
    /// protocolOp and controls exactly as sent: what must be equal, ids aside.
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} tag {:#04x} {}]", self.id, self.tag, self.body.escape_ascii())
    }
}

impl Message {
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (tag, content, used) = take(bytes)?;
        assert_eq!(tag, 0x30, "a server sent no LDAPMessage: {}", bytes.escape_ascii());
        let (tag, id, skip) = take(content).expect("a message id");
        assert_eq!(tag, 0x02, "a server sent no message id: {}", content.escape_ascii());
        let body = content[skip..].to_vec();
        let (tag, inner, _) = take(&body).expect("a protocolOp");
        Some((
            Self {
                id: value(id),
                tag,
                content: inner.to_vec(),
                body,
            },
            used,
        ))
    }

    /// Whether it ends its operation.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self.tag, ops::SEARCH_ENTRY | ops::SEARCH_REFERENCE | ops::INTERMEDIATE)
    }

    /// The result code, of a final message.
    pub(crate) fn code(&self) -> i64 {
        assert!(self.is_final(), "no result: {self:?}");
        value(elements(&self.content)[0].1)
    }

    pub(crate) fn matched_dn(&self) -> String {
        String::from_utf8_lossy(elements(&self.content)[1].1).into_owned()
    }

    pub(crate) fn diagnostic(&self) -> String {
        String::from_utf8_lossy(elements(&self.content)[2].1).into_owned()
    }

    /// responseName of an extended response.
    pub(crate) fn response_name(&self) -> Option<String> {
        self.tagged(0x8A)
            .map(|name| String::from_utf8_lossy(&name).into_owned())
    }

    /// responseValue of an extended response.
    pub(crate) fn response_value(&self) -> Option<Vec<u8>> {
        self.tagged(0x8B)
    }

    fn tagged(&self, wanted: u8) -> Option<Vec<u8>> {
        elements(&self.content)
            .into_iter()
            .find(|(tag, _)| *tag == wanted)
            .map(|(_, content)| content.to_vec())
    }

    /// The values of an attribute of a search entry.
    pub(crate) fn values(&self, attribute: &str) -> Vec<String> {
        assert_eq!(self.tag, ops::SEARCH_ENTRY, "no entry: {self:?}");
        let attributes = elements(elements(&self.content)[1].1);
        let pairs = attributes.into_iter().map(|(_, pair)| elements(pair));
        let found = pairs
            .into_iter()
            .find(|pair| pair[0].1.eq_ignore_ascii_case(attribute.as_bytes()));
        let values = found.map_or_else(Vec::new, |pair| elements(pair[1].1));
        values
            .into_iter()
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// Whether it is a notice of disconnection (RFC 4511 4.4.1).
    pub(crate) fn is_disconnection(&self) -> bool {
        self.id == 0
            && self.tag == ops::EXTENDED_RESPONSE
            && self.response_name().as_deref() == Some(ops::OID_DISCONNECTION)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// One connection.
pub(crate) struct Client {
    stream: Option<Stream>,
    inbox: Vec<u8>,
    taken: usize,
    next_id: i64,
}

impl Client {
    /// Connects; panics when that fails.
    pub(crate) fn connect(target: &Target) -> Self {
        Self::try_connect(target).unwrap_or_else(|error| panic!("{target:?}: {error}"))
    }

    /// Connects, with TLS where the target says so.
    pub(crate) fn try_connect(target: &Target) -> std::io::Result<Self> {
        let tcp = |address: &SocketAddr| -> std::io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = match target {
            Target::Plain(address) => Stream::Tcp(tcp(address)?),
            Target::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Target::Ldaps(address, ca) => tls(tcp(address)?, ca)?,
            Target::StartTls(address, _) => Stream::Tcp(tcp(address)?),
        };
        let mut client = Self::on(stream);
        if let Target::StartTls(_, ca) = target {
            client.start_tls(ca)?;
        }
        Ok(client)
    }

    /// The same over a stream that is there.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an open stream");
        Self::on(Stream::Tcp(stream))
    }

    /// A client that comes from this address of this machine.
    pub(crate) fn from(address: [u8; 4], port: u16) -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&socket, &SocketAddr::from((address, 0))).expect("an address of this machine");
        connect(&socket, &SocketAddr::from(([127, 0, 0, 1], port))).expect("the daemon listens");
        Self::over(TcpStream::from(socket))
    }

    fn on(stream: Stream) -> Self {
        Self {
            stream: Some(stream),
            inbox: Vec::new(),
            taken: 0,
            next_id: 1,
        }
    }

    /// StartTLS, then the handshake.
    pub(crate) fn start_tls(&mut self, ca: &std::path::Path) -> std::io::Result<()> {
        let answer = self.call(&ops::start_tls());
        if answer[0].code() != 0 {
            return Err(std::io::Error::other(format!("StartTLS was answered {answer:?}")));
        }
        self.protect(ca)
    }

    /// The TLS handshake alone, on a connection whose server has already agreed.
    pub(crate) fn protect(&mut self, ca: &std::path::Path) -> std::io::Result<()> {
        let Some(Stream::Tcp(stream)) = self.stream.take() else {
            panic!("StartTLS needs plain TCP")
        };
        self.stream = Some(tls(stream, ca)?);
        Ok(())
    }

    /// The certificate that the server showed.
    pub(crate) fn peer_certificate(&self) -> Vec<u8> {
        let Some(Stream::Tls(stream)) = &self.stream else {
            panic!("no TLS here")
        };
        stream
            .conn
            .peer_certificates()
            .and_then(<[_]>::first)
            .expect("a certificate")
            .to_vec()
    }

    /// A connection bound as `dn`.
    pub(crate) fn bound(target: &Target, dn: &str, password: &str) -> Self {
        let mut client = Self::connect(target);
        client.bind(dn, password);
        client
    }

    /// A simple bind that must succeed.
    pub(crate) fn bind(&mut self, dn: &str, password: &str) {
        let answer = self.one(&ops::bind(dn, password));
        assert_eq!(answer.code(), 0, "bind as {dn}: {answer:?}");
    }

    /// A fresh message id.
    pub(crate) fn id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Sends bytes as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self.stream.as_mut().expect("an open stream") {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Sends a request under a fresh id, which it gives.
    pub(crate) fn send(&mut self, op: &[u8]) -> i64 {
        let id = self.id();
        self.send_raw(&message(id, op)).expect("the server takes requests");
        id
    }

    /// The next message, whatever it belongs to.
    pub(crate) fn receive(&mut self, limit: Duration) -> Result<Message, Gone> {
        let end = Instant::now() + limit;
        loop {
            if let Some((message, used)) = Message::parse(&self.inbox[self.taken..]) {
                self.taken += used;
                if self.taken == self.inbox.len() || self.taken > 1 << 20 {
                    self.inbox.drain(..self.taken);
                    self.taken = 0;
                }
                return Ok(message);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Gone::Timeout);
            }
            self.read_some(left)?;
        }
    }

    /// Whether a whole message waits in the buffer already.
    pub(crate) fn has_message(&self) -> bool {
        Message::parse(&self.inbox[self.taken..]).is_some()
    }

    fn read_some(&mut self, limit: Duration) -> Result<(), Gone> {
        let mut buffer = [0; 16 * 1024];
        let read = match self.stream.as_mut().expect("an open stream") {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(limit)).expect("a timeout above zero");
                stream.read(&mut buffer)
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(limit)).expect("a timeout above zero");
                stream.read(&mut buffer)
            }
            Stream::Tls(stream) => {
                stream.sock.set_read_timeout(Some(limit)).expect("a timeout above zero");
                stream.read(&mut buffer)
            }
        };
        match read {
            Ok(0) => Err(Gone::Closed),
            Ok(read) => {
                self.inbox.extend_from_slice(&buffer[..read]);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(Gone::Timeout),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(Gone::Closed),
        }
    }

    /// A request and all its messages, the final one last. Messages with another id fail the test.
    pub(crate) fn call(&mut self, op: &[u8]) -> Vec<Message> {
        self.try_call(op)
            .unwrap_or_else(|gone| panic!("no answer to {}: {gone:?}", op.escape_ascii()))
    }

    /// As [`Client::call`], for connections that may be closed.
    pub(crate) fn try_call(&mut self, op: &[u8]) -> Result<Vec<Message>, Gone> {
        let id = self.id();
        self.send_raw(&message(id, op)).map_err(|_| Gone::Closed)?;
        self.collect(id, PATIENCE)
    }

    /// The messages of operation `id` up to its final one.
    pub(crate) fn collect(&mut self, id: i64, limit: Duration) -> Result<Vec<Message>, Gone> {
        let end = Instant::now() + limit;
        let mut messages = Vec::new();
        loop {
            let message = self.receive(end.saturating_duration_since(Instant::now()))?;
            if message.is_disconnection() {
                return Err(Gone::Closed);
            }
            assert_eq!(message.id, id, "a message of another operation: {message:?}");
            let last = message.is_final();
            messages.push(message);
            if last {
                return Ok(messages);
            }
        }
    }

    /// A request that has one answer.
    pub(crate) fn one(&mut self, op: &[u8]) -> Message {
        let mut answer = self.call(op);
        assert_eq!(answer.len(), 1, "one message: {answer:?}");
        answer.remove(0)
    }

    /// Who the server says we are: `""` or `"dn:…"`.
    pub(crate) fn whoami(&mut self) -> String {
        let answer = self.one(&ops::whoami());
        assert_eq!(answer.code(), 0, "who am I? {answer:?}");
        String::from_utf8(answer.response_value().unwrap_or_default()).expect("an authorization identity")
    }

    /// Passes when nothing comes for `span`.
    pub(crate) fn expect_silence(&mut self, span: Duration) {
        assert_eq!(self.receive(span).err(), Some(Gone::Timeout), "nothing should come");
    }

    /// What comes until the server closes; panics when it does not within `limit`.
    pub(crate) fn until_closed(&mut self, limit: Duration) -> Vec<Message> {
        let end = Instant::now() + limit;
        let mut messages = Vec::new();
        loop {
            match self.receive(end.saturating_duration_since(Instant::now())) {
                Ok(message) => messages.push(message),
                Err(Gone::Closed) => return messages,
                Err(Gone::Timeout) => panic!("the connection is still open after {limit:?}; it said {messages:?}"),
            }
        }
    }
}

/// An LDAPMessage around `op` (which may have its controls behind it).
pub(crate) fn message(id: i64, op: &[u8]) -> Vec<u8> {
    seq(0x30, &[int(0x02, id), op.to_vec()])
}

/// `op` with controls behind it: OID, criticality, value.
pub(crate) fn with_controls(op: &[u8], controls: &[(&str, bool, Option<Vec<u8>>)]) -> Vec<u8> {
    let one = |(oid, critical, value): &(&str, bool, Option<Vec<u8>>)| {
        let mut parts = vec![tlv(0x04, oid.as_bytes())];
        if *critical {
            parts.push(crate::ber::boolean(true));
        }
        parts.extend(value.as_ref().map(|value| tlv(0x04, value)));
        seq(0x30, &parts)
    };
    let controls: Vec<Vec<u8>> = controls.iter().map(one).collect();
    [op.to_vec(), seq(0xA0, &controls)].concat()
}

fn tls(stream: TcpStream, ca: &std::path::Path) -> std::io::Result<Stream> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("a PEM file") {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder
        .expect("TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Stream::Tls(Box::new(stream)))
}
