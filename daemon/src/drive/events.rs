//! What the poll has told: whose socket can be read or written.

use mio::Events;
use mio::event::Event;

use super::Drive;
use super::ahead::{BATCH, Brought};
use super::conn::Kind;
use crate::worker::INBOX;

/// What the poll says of one socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) at: usize,
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) broken: bool,
}

impl Told {
    fn new(event: &Event) -> Self {
        Told {
            at: event.token().0,
            readable: event.is_readable(),
            writable: event.is_writable(),
            broken: event.is_read_closed() || event.is_error(),
        }
    }
}

/// What the poll has told in one turn. Kept for its memory.
#[derive(Debug, Default)]
pub(super) struct Tellings {
    clients: Vec<Told>,
    servers: Vec<Told>,
}

impl Drive {
    /// Clients first: what they ask goes out before the answers of the same servers are read. So a request acknowledges the
    /// answers; where there is nothing to send, the kernel sends a segment of its own for most reads (8 % of a search).
    pub(super) fn take_events(&mut self, events: &Events) {
        let mut told = std::mem::take(&mut self.told);
        for event in events.iter().filter(|event| event.token() != INBOX) {
            let list = if self.is_ldap_server(event.token().0) {
                &mut told.servers
            } else {
                &mut told.clients
            };
            list.push(Told::new(event));
        }
        self.take_batches(&told.clients);
        if !told.servers.is_empty() {
            self.flush_servers();
            self.take_batches(&told.servers);
        }
        told.clients.clear();
        told.servers.clear();
        self.told = told;
    }

    fn take_batches(&mut self, told: &[Told]) {
        for batch in told.chunks(BATCH) {
            self.take_batch(batch);
        }
    }

    pub(super) fn is_ldap_server(&self, at: usize) -> bool {
        self.conns
            .get(at)
            .is_some_and(|conn| matches!(conn.kind, Kind::Upstream(_)))
    }

    /// `brought`: what was read already.
    pub(super) fn event(&mut self, told: &Told, brought: Option<Brought<'_>>) {
        let Told {
            at,
            readable,
            writable,
            broken,
        } = *told;
        let Some(conn) = self.conns.get_mut(at) else {
            if self.radius_event(at) {
                return;
            }
            self.program_event(at);
            return self.helper_event(at, readable, writable, broken);
        };
        if writable {
            conn.blocked = false;
            if conn.stream.waiting() > 0 || conn.stream.is_handshaking() || conn.is_connecting() {
                self.writable(at);
            }
        }
        if (readable || broken)
            && let Some(conn) = self.conns.get_mut(at)
        {
            conn.readable = true;
            conn.hung_up |= broken;
            self.readable(at, brought);
        }
    }

    /// Connections that were left with something to read in the last turn.
    pub(super) fn look_again(&mut self) {
        let mut again = std::mem::take(&mut self.again);
        for at in again.drain(..) {
            if let Some(conn) = self.conns.get_mut(at) {
                conn.again = false;
                self.contained(Some(at), |drive| drive.readable(at, None));
            } else {
                let told = Told {
                    at,
                    readable: true,
                    writable: true,
                    broken: false,
                };
                self.contained(Some(at), |drive| drive.event(&told, None));
            }
        }
        // What was added meanwhile is for the next turn.
        if self.again.is_empty() {
            self.again = again;
        }
    }
}
