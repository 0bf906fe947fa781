//! Reading ahead: of several connections that have something to say, a batch is read before any of it is looked at.
//!
//! A read and what becomes of a message lead through different code, the kernel's and ours, and each pushes the other out of the
//! CPU's nearest cache: done by turns both begin cold each time (3 % of a bind). What was read lies in one buffer, close together,
//! and is taken from there: it is copied no more often than what a single read brings.

use wire::wipe;

use super::Drive;
use super::conn::{Conn, Conns, Kind};
use super::events::Told;
use crate::net::stream::Got;

/// Connections of one batch.
pub(super) const BATCH: usize = 32;
/// What is read ahead of one connection. Who has more to say is read as ever.
pub(super) const READ_BYTES_MAX: usize = 4096;
/// What is read ahead in all.
const BYTES: usize = 32 * 1024;

/// See the module. Kept for its memory.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    bytes: Vec<u8>,
    /// As many as the batch has.
    reads: Vec<Option<Read>>,
}

/// What one connection brought, and where it begins.
#[derive(Debug)]
struct Read {
    from: usize,
    got: Got,
}

/// What was read ahead of a connection. Wiped when it has been looked at: it may hold a password.
#[derive(Debug)]
pub(super) struct Brought<'a> {
    pub(super) bytes: &'a mut [u8],
    pub(super) got: Got,
}

impl Drop for Brought<'_> {
    fn drop(&mut self) {
        wipe::wipe(self.bytes);
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

impl Ahead {
    /// Reads those of a batch that may be.
    pub(super) fn read(&mut self, batch: &[Told], conns: &mut Conns) {
        self.bytes.resize(BYTES, 0);
        let mut from = 0;
        for told in batch {
            let conn = conns.get_mut(told.at).filter(|_| told.readable);
            let into = self.bytes.get_mut(from..from + READ_BYTES_MAX);
            let read = match (conn.filter(|conn| conn.may_be_read_ahead()), into) {
                (Some(conn), Some(into)) => {
                    let got = conn.stream.read(into);
                    Some(Read { from, got })
                }
                _ => None,
            };
            if let Some(Got::Bytes { n, .. }) = read.as_ref().map(|read| read.got) {
                from += n;
            }
            self.reads.push(read);
        }
    }

    /// What was read of the batch's `index`th.
    pub(super) fn brought(&mut self, index: usize) -> Option<Brought<'_>> {
        let Read { from, got } = self.reads.get_mut(index)?.take()?;
        let n = if let Got::Bytes { n, .. } = got { n } else { 0 };
        let bytes = self.bytes.get_mut(from..from + n)?;
        Some(Brought { bytes, got })
    }

    #[cfg(test)]
    pub(super) fn is_wiped(&self) -> bool {
        self.bytes.iter().all(|byte| *byte == 0)
    }
}

impl Drive {
    pub(super) fn take_batch(&mut self, batch: &[Told]) {
        // Here and not with the worker while it is looked at: a panic of one connection's loses nobody else's.
        let mut ahead = std::mem::take(&mut self.ahead);
        if batch.len() > 1 {
            ahead.read(batch, &mut self.conns);
        }
        for (index, one) in batch.iter().enumerate() {
            let brought = ahead.brought(index);
            self.contained(Some(one.at), |drive| drive.event(one, brought));
        }
        ahead.reads.clear();
        self.ahead = ahead;
    }

    /// It is not to be looked at now, because of what others of the batch did: it waits with its connection. That of one that is
    /// closing is thrown away.
    pub(super) fn leave_for_later(&mut self, at: usize, brought: Option<Brought<'_>>) {
        let (Some(brought), Some(conn)) = (brought, self.conns.get_mut(at)) else {
            return;
        };
        // An end is there to be read once more.
        if let Got::Bytes { drained, .. } = brought.got
            && !conn.closing
        {
            conn.inbox.extend_from_slice(brought.bytes);
            conn.readable = !drained;
        }
    }
}
