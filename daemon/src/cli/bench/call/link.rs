//! One connection of the load: what is sent on it, and how answers are cut out of what comes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use wire::frame::Step;
use wire::rpc::{self, ErrorCode, Kind};

use super::CallArgs;
use crate::net::stream::widen_send_buffer;

/// Asked of the kernel for what is sent.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Where to connect, resolved once.
#[derive(Clone, Debug)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// A connected socket.
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Address {
    pub(super) fn resolve(text: &str) -> Result<Address, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Address::Unix(path.into()));
        }
        let mut found = text.to_socket_addrs().map_err(|error| format!("{text}: {error}"))?;
        found
            .next()
            .map(Address::Tcp)
            .ok_or_else(|| format!("{text} has no address"))
    }

    pub(super) fn connect(&self) -> Result<Socket, String> {
        match self {
            Address::Unix(path) => UnixStream::connect(path)
                .map(|stream| {
                    // As large as the floor's: see bench/floor.c.
                    widen_send_buffer(&stream, SEND_BUFFER_BYTES);
                    Socket::Unix(stream)
                })
                .map_err(|error| format!("unix:{}: {error}", path.display())),
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).map_err(|error| format!("{address}: {error}"))?;
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                Ok(Socket::Tcp(stream))
            }
        }
    }
}

impl Socket {
    pub(super) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Socket::Unix(stream) => stream.set_nonblocking(true),
            Socket::Tcp(stream) => stream.set_nonblocking(true),
        }
    }

    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Socket::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Socket::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }

    pub(super) fn try_clone(&self) -> io::Result<Socket> {
        match self {
            Socket::Unix(stream) => stream.try_clone().map(Socket::Unix),
            Socket::Tcp(stream) => stream.try_clone().map(Socket::Tcp),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(stream) => stream.as_fd(),
            Socket::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => stream.read(buf),
            Socket::Tcp(stream) => stream.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => stream.write(buf),
            Socket::Tcp(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A call, encoded once; its id is written into it each time.
#[derive(Clone, Debug)]
pub(super) struct Template {
    frame: Vec<u8>,
    /// Where the payload begins, in which the id stands too where an echo is expected.
    payload: usize,
    expected: Expected,
}

/// What an answer must be.
#[derive(Clone, Debug)]
enum Expected {
    /// The call's own bytes.
    Echo,
    /// Something with this in it; empty: anything.
    Contains(Vec<u8>),
}

/// Where the id stands in a frame.
const ID: std::ops::Range<usize> = 4..8;
/// Of a large echo both ends are compared: comparing all of it would be measured too.
const COMPARED: usize = 64;

impl Template {
    pub(super) fn new(args: &CallArgs) -> Result<Template, String> {
        let payload = match (args.bytes, &args.payload) {
            (Some(bytes), _) => (0..bytes).map(|n| u8::try_from(n % 251).unwrap_or(0)).collect(),
            (None, Some(text)) => text.clone().into_bytes(),
            (None, None) => return Err("say what to send: --bytes N for an echo, or --payload TEXT".to_owned()),
        };
        let mut frame = Vec::new();
        let timeout = u32::try_from(args.timeout.as_millis()).unwrap_or(u32::MAX);
        rpc::write_call(&mut frame, 1, timeout, &args.service, &payload).map_err(|error| error.to_string())?;
        let expected = match &args.expect {
            _ if args.bytes.is_some() => Expected::Echo,
            text => Expected::Contains(text.clone().unwrap_or_default().into_bytes()),
        };
        Ok(Template {
            payload: frame.len() - payload.len(),
            frame,
            expected,
        })
    }

    /// The frame of a call.
    pub(super) fn frame(&mut self, call: u32) -> &[u8] {
        let id = call.to_be_bytes();
        if let Some(place) = self.frame.get_mut(ID) {
            place.copy_from_slice(&id);
        }
        if matches!(self.expected, Expected::Echo)
            && let Some(place) = self.frame.get_mut(self.payload..self.payload + id.len())
        {
            place.copy_from_slice(&id);
        }
        &self.frame
    }

    /// Whether this answers `call`.
    pub(super) fn is_right(&self, call: u32, answer: &Reply<'_>) -> bool {
        match &self.expected {
            Expected::Contains(part) if part.is_empty() => true,
            Expected::Contains(part) => answer.kept.windows(part.len()).any(|window| window == part),
            Expected::Echo => {
                let sent = self.frame.get(self.payload..).unwrap_or_default();
                let (kept, id) = (answer.kept, call.to_be_bytes());
                let tail = |bytes: &[u8]| bytes.len().saturating_sub(COMPARED).max(id.len());
                answer.bytes == sent.len()
                    && kept.starts_with(&id)
                    && kept.get(4..COMPARED.min(kept.len())) == sent.get(4..COMPARED.min(sent.len()))
                    && kept.get(tail(kept)..) == sent.get(tail(sent)..)
            }
        }
    }

    /// Whether all bytes of an answer are looked at.
    pub(super) fn needs_all(&self) -> bool {
        matches!(&self.expected, Expected::Contains(part) if !part.is_empty())
    }
}

/// An answer, as far as it is kept.
#[derive(Clone, Copy)]
pub(super) struct Reply<'a> {
    /// Bytes it had.
    pub(super) bytes: usize,
    /// All of them, or of one that came in parts its first and last [`COMPARED`].
    pub(super) kept: &'a [u8],
}

/// One final answer.
#[derive(Clone, Copy)]
pub(super) enum Answer<'a> {
    /// It is whole.
    Done(Reply<'a>),
    /// Instead of it.
    Error(ErrorCode),
}

/// What has come and is not yet a whole answer.
pub(super) struct Inbox {
    buffer: Vec<u8>,
    from: usize,
    filled: usize,
    /// Parts of an answer that goes on. One: the load does not tell several apart, since no service here mixes them.
    parts: Vec<u8>,
    /// Bytes that they had, and
    parts_bytes: usize,
    /// whether all are kept.
    keeps_all: bool,
}

const READ_BYTES: usize = 256 << 10;

impl Inbox {
    /// `keeps_all`: answers in parts are put together whole; else only their ends are kept.
    pub(super) fn new(keeps_all: bool) -> Inbox {
        Inbox {
            buffer: vec![0; READ_BYTES],
            from: 0,
            filled: 0,
            parts: Vec::new(),
            parts_bytes: 0,
            keeps_all,
        }
    }

    /// Reads once; false: there was nothing to read in time.
    pub(super) fn read(&mut self, socket: &mut Socket) -> Result<bool, String> {
        if self.from > 0 {
            self.buffer.copy_within(self.from..self.filled, 0);
            self.filled -= self.from;
            self.from = 0;
        }
        if self.filled == self.buffer.len() {
            let bytes = self.buffer.len();
            self.buffer.resize(bytes * 2, 0);
        }
        match socket.read(self.buffer.get_mut(self.filled..).unwrap_or_default()) {
            Ok(0) => Err("the daemon closed the connection".to_owned()),
            Ok(bytes) => {
                self.filled += bytes;
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(format!("the connection broke: {error}")),
        }
    }

    /// Hands every whole answer to `take`, with its call.
    pub(super) fn answers(&mut self, mut take: impl FnMut(u32, Answer<'_>)) -> Result<(), String> {
        let odd = |error: wire::frame::Malformed| format!("the answer is not our RPC: {error}");
        loop {
            let waiting = self.buffer.get(self.from..self.filled).unwrap_or_default();
            let len = match rpc::split(waiting, rpc::FRAME_BYTES_MAX) {
                Step::Frame { len } => len,
                Step::NeedMore { .. } => return Ok(()),
                Step::Malformed(error) => return Err(odd(error)),
            };
            let frame = rpc::peek(waiting.get(..len).unwrap_or_default()).map_err(odd)?;
            match frame.kind {
                Kind::ReplyPart => keep(&mut self.parts, &mut self.parts_bytes, frame.payload, self.keeps_all),
                Kind::ReplyDone if self.parts_bytes == 0 => {
                    let (kept, bytes) = (frame.payload, frame.payload.len());
                    take(frame.call, Answer::Done(Reply { bytes, kept }));
                }
                Kind::ReplyDone => {
                    keep(&mut self.parts, &mut self.parts_bytes, frame.payload, self.keeps_all);
                    let (kept, bytes) = (self.parts.as_slice(), self.parts_bytes);
                    take(frame.call, Answer::Done(Reply { bytes, kept }));
                    self.parts.clear();
                    self.parts_bytes = 0;
                }
                Kind::Error => {
                    let (code, text) = rpc::read_error(frame.payload).map_err(odd)?;
                    if frame.call == 0 {
                        return Err(format!("{}: {text}", code.name()));
                    }
                    self.parts.clear();
                    self.parts_bytes = 0;
                    take(frame.call, Answer::Error(code));
                }
                _ => {}
            }
            self.from += len;
        }
    }
}

/// The load is to cost little beside what it measures: of an answer in parts only both ends are kept where that will do.
fn keep(parts: &mut Vec<u8>, bytes: &mut usize, part: &[u8], all: bool) {
    *bytes += part.len();
    if all {
        return parts.extend_from_slice(part);
    }
    let first = COMPARED.saturating_sub(parts.len()).min(part.len());
    let (first, rest) = part.split_at_checked(first).unwrap_or((part, &[]));
    parts.extend_from_slice(first);
    let last = rest.get(rest.len().saturating_sub(COMPARED)..).unwrap_or_default();
    parts.extend_from_slice(last);
    if parts.len() > 2 * COMPARED {
        parts.drain(COMPARED..parts.len() - COMPARED);
    }
}

/// One call before the load: what is wrong from the beginning is told as it is.
pub(super) fn probe(address: &Address, template: &Template, args: &CallArgs) -> Result<(), String> {
    let (mut socket, mut template, mut inbox) = (address.connect()?, template.clone(), Inbox::new(true));
    socket
        .set_read_timeout(args.grace.max(Duration::from_millis(1)))
        .and_then(|()| socket.write_all(template.frame(1)))
        .map_err(|error| error.to_string())?;
    let mut said = None;
    while said.is_none() {
        if !inbox.read(&mut socket)? {
            return Err(format!("no answer within {:?}", args.grace));
        }
        inbox.answers(|call, answer| {
            said = Some(match answer {
                Answer::Done(reply) if call == 1 && template.is_right(call, &reply) => Ok(()),
                Answer::Done(Reply { kept, .. }) => {
                    let begin =
                        String::from_utf8_lossy(kept.get(..kept.len().min(200)).unwrap_or_default()).into_owned();
                    Err(format!("the service answers something else: {begin}"))
                }
                Answer::Error(code) => Err(format!("the service {}: {}", args.service, code.name())),
            });
        })?;
    }
    said.unwrap_or(Ok(()))
}
