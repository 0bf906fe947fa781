//! Reading ahead: of several connections that have something to say, a batch is read before any of it is looked at.
//!
//! A read and what becomes of a message lead through different code, the kernel's and ours, and each pushes the other out of the
//! CPU's nearest cache: done by turns both begin cold each time (3 % of a bind). What was read lies in one buffer, close together.

use wire::wipe;

use super::Drive;
use super::conn::{Conn, Kind};
use super::events::Told;
use crate::net::stream::Got;

/// Connections of one batch.
pub(super) const BATCH: usize = 32;
/// What is read ahead of one connection. Who has more to say is read as ever.
pub(super) const READ_BYTES_MAX: usize = 4096;
/// What is read ahead in all.
const BYTES: usize = 32 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    bytes: Vec<u8>,
    filled: usize,
    reads: Vec<Read>,
    /// A password was among it.
    pub(super) secret: bool,
}

/// One connection's. Its end is its own: the bytes lie before the next one's.
#[derive(Debug)]
struct Read {
    at: usize,
    generation: u32,
    from: usize,
    /// None once it was taken.
    got: Option<Got>,
}

impl Ahead {
    fn bytes_of(&self, from: usize, n: usize) -> &[u8] {
        self.bytes.get(from..from + n).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn is_wiped(&self) -> bool {
        self.reads.is_empty() && self.bytes.iter().all(|byte| *byte == 0)
    }
}

impl Conn {
    /// Whether reading it leads to messages and nothing else: no handshake, nothing that is held, nobody who is not to be read.
    fn may_be_read_ahead(&self) -> bool {
        let speaks = match &self.kind {
            Kind::Ldap(_) => self.preface.is_none() && !self.held && !self.closing && !self.lingering && !self.upgrade,
            Kind::Upstream(upstream) => !upstream.connecting && upstream.machine.is_ready(),
            Kind::Rpc(_) | Kind::Ask(_) | Kind::Check(_) => false,
        };
        speaks && self.says_little && !self.choked && self.inbox.is_empty() && self.stream.is_plain()
    }
}

impl Drive {
    /// Reads those of a batch that may be.
    pub(super) fn read_ahead(&mut self, batch: &[Told]) {
        let ahead = &mut self.ahead;
        ahead.bytes.resize(BYTES, 0);
        for told in batch.iter().filter(|told| told.readable) {
            let at = told.at;
            let Some(conn) = self.conns.get_mut(at).filter(|conn| conn.may_be_read_ahead()) else {
                continue;
            };
            let from = ahead.filled;
            let Some(into) = ahead.bytes.get_mut(from..from + READ_BYTES_MAX) else {
                break;
            };
            let got = conn.stream.read(into);
            if let Got::Bytes { n, .. } = got {
                ahead.filled += n;
            }
            conn.ahead = u8::try_from(ahead.reads.len()).ok();
            ahead.reads.push(Read {
                at,
                generation: conn.generation,
                from,
                got: Some(got),
            });
        }
    }

    /// What was read ahead of a connection, in `scratch`.
    pub(super) fn take_ahead(&mut self, index: u8, scratch: &mut [u8]) -> Got {
        let read = self.ahead.reads.get_mut(usize::from(index));
        let Some((from, got)) = read.and_then(|read| Some((read.from, read.got.take()?))) else {
            return Got::Nothing;
        };
        if let Got::Bytes { n, .. } = got
            && let Some(to) = scratch.get_mut(..n)
        {
            to.copy_from_slice(self.ahead.bytes_of(from, n));
        }
        got
    }

    /// The batch has been looked at. What was not taken, because of what others of the batch did, waits
    /// with its connection; that of one that is closing is thrown away.
    pub(super) fn end_ahead(&mut self) {
        let mut ahead = std::mem::take(&mut self.ahead);
        let mut reads = std::mem::take(&mut ahead.reads);
        for read in reads.drain(..) {
            let Some(got) = read.got else { continue };
            ahead.secret = true;
            let conn = self.conns.get_mut(read.at);
            let Some(conn) = conn.filter(|conn| conn.generation == read.generation) else {
                continue;
            };
            conn.ahead = None;
            match got {
                Got::Bytes { n, drained } if !conn.closing => {
                    conn.inbox.extend_from_slice(ahead.bytes_of(read.from, n));
                    conn.readable = !drained;
                }
                // It is there to be read once more.
                Got::End => conn.readable = true,
                Got::Bytes { .. } | Got::Nothing => {}
            }
        }
        ahead.reads = reads;
        if std::mem::take(&mut ahead.secret) {
            wipe::wipe(ahead.bytes.get_mut(..ahead.filled).unwrap_or_default());
        }
        ahead.filled = 0;
        self.ahead = ahead;
    }
}
