//! One socket of the load, and what is open under each of its identifiers.

use std::net::SocketAddr;
use std::ops::Range;

use engine::radius::Path;
use wire::radius::{Code, MessageAuthenticator, Packet};

use super::Plan;
use super::tally::Tally;
use super::users::User;
use crate::net::datagram::{self, Batch, Settings, Socket};

/// Requests that can be open on one socket: an identifier is an octet.
pub(super) const IDENTIFIERS: u16 = 256;
/// Asked of the kernel for what has come: some hundred answers of the usual size for each identifier.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// Batches taken from one socket before the others have their turn.
const BATCHES_MAX: usize = 8;

/// A request that waits for its answer.
struct Open<'p> {
    user: &'p User,
    /// When it was sent, or should have been, in nanoseconds since the start.
    begun_ns: u64,
}

/// An identifier.
#[derive(Default)]
struct Slot<'p> {
    open: Option<Open<'p>>,
    /// Of the last request.
    authenticator: [u8; 16],
    /// Of the one before it, if it was lost: its answer may still come.
    lost: Option<[u8; 16]>,
    /// How many requests there were: a name for each of them.
    turn: u32,
}

/// See the module.
pub(super) struct Lane<'p> {
    pub(super) socket: Socket,
    to: Path,
    slots: Box<[Slot<'p>]>,
    out: Vec<u8>,
    parts: Vec<(Path, Range<usize>)>,
}

impl<'p> Lane<'p> {
    pub(super) fn new(address: SocketAddr) -> Result<Lane<'p>, String> {
        let any = match address {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0; 16], 0).into(),
        };
        let settings = Settings {
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
            together: false,
        };
        let socket = datagram::bind(any, 1, settings).map_err(|error| format!("a socket for {address}: {error}"))?;
        Ok(Lane {
            socket: socket.into_iter().next().ok_or("there is no socket")?,
            to: Path {
                from: address,
                to: None,
            },
            slots: (0..IDENTIFIERS).map(|_| Slot::default()).collect(),
            out: Vec::new(),
            parts: Vec::new(),
        })
    }

    /// Opens a request under a free identifier; `write` appends it and says about whom it is, and its Authenticator. The
    /// answer is the request's turn; none: it was not written.
    pub(super) fn begin(
        &mut self,
        identifier: u8,
        begun_ns: u64,
        write: impl FnOnce(&mut Vec<u8>) -> Option<(&'p User, [u8; 16])>,
    ) -> Option<u32> {
        let start = self.out.len();
        let (user, authenticator) = write(&mut self.out)?;
        let slot = self.slots.get_mut(usize::from(identifier))?;
        slot.open = Some(Open { user, begun_ns });
        slot.authenticator = authenticator;
        slot.turn = slot.turn.wrapping_add(1);
        self.parts.push((self.to, start..self.out.len()));
        Some(slot.turn)
    }

    /// Sends what was begun.
    pub(super) fn flush(&mut self, tally: &mut Tally) {
        if self.parts.is_empty() {
            return;
        }
        let sent = self.socket.send(&self.parts, &self.out);
        tally.refused += (sent.would_block + sent.failed) as u64;
        self.parts.clear();
        self.out.clear();
    }

    /// Takes what has come. `ended` is told the identifiers that are free again.
    pub(super) fn receive(
        &mut self,
        plan: &Plan,
        batch: &mut Batch,
        now_ns: u64,
        measured_from_ns: u64,
        tally: &mut Tally,
        mut ended: impl FnMut(u8),
    ) -> Result<(), String> {
        for _ in 0..BATCHES_MAX {
            let told = |error: std::io::Error| format!("{}: {error}", plan.address);
            let count = self.socket.receive(batch, true).map_err(told)?;
            for datagram in batch.iter() {
                match Packet::parse(datagram.bytes) {
                    Ok(packet) if datagram.path.from == plan.address => {
                        if self.judge(plan, &packet, now_ns, measured_from_ns, tally) {
                            ended(packet.identifier());
                        }
                    }
                    _ => tally.mismatched += 1,
                }
            }
            if count < super::generator::BATCH {
                break;
            }
        }
        Ok(())
    }

    /// Counts one packet; whether it ends the request of its identifier.
    fn judge(
        &mut self,
        plan: &Plan,
        packet: &Packet<'_>,
        now_ns: u64,
        measured_from_ns: u64,
        tally: &mut Tally,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(usize::from(packet.identifier())) else {
            return false;
        };
        if !packet.check_response(&plan.secret, &slot.authenticator) {
            let late = slot.lost.is_some_and(|lost| packet.check_response(&plan.secret, &lost));
            *(if late { &mut tally.late } else { &mut tally.mismatched }) += 1;
            return false;
        }
        let Some(open) = &slot.open else {
            let late = slot.lost == Some(slot.authenticator);
            *(if late { &mut tally.late } else { &mut tally.duplicate }) += 1;
            return false;
        };
        match packet.check_message_authenticator(&plan.secret, Some(&slot.authenticator)) {
            MessageAuthenticator::Invalid => {
                tally.mismatched += 1;
                return false;
            }
            MessageAuthenticator::Absent if !plan.accounting => tally.unprotected += 1,
            _ => {}
        }
        let proved = packet.code() != Code::ACCESS_ACCEPT
            || open.user.proof.as_ref().is_none_or(|proof| proof.is_mutual(packet));
        if packet.code() == open.user.right && proved {
            let measured = open.begun_ns >= measured_from_ns;
            tally.answered(measured, now_ns.saturating_sub(open.begun_ns));
        } else {
            tally.wrong += 1;
        }
        slot.open = None;
        slot.lost = None;
        true
    }

    /// Gives up the request of this turn; whether it was open still.
    pub(super) fn give_up(&mut self, identifier: u8, turn: u32) -> bool {
        match self.slots.get_mut(usize::from(identifier)) {
            Some(slot) if slot.turn == turn && slot.open.is_some() => {
                slot.open = None;
                slot.lost = Some(slot.authenticator);
                true
            }
            _ => false,
        }
    }

    /// Whether the request of this turn is open.
    pub(super) fn is_open(&self, identifier: u8, turn: u32) -> bool {
        let slot = self.slots.get(usize::from(identifier));
        slot.is_some_and(|slot| slot.turn == turn && slot.open.is_some())
    }
}
