//! What the poll has told: whose socket can be read or written.

use mio::Events;
use mio::event::Event;

use super::Drive;
use super::conn::Kind;
use crate::worker::INBOX;

impl Drive {
    /// Clients first: what they ask goes out before the answers of the same servers are read. So a request acknowledges the
    /// answers; where there is nothing to send, the kernel sends a segment of its own for most reads (8 % of a search).
    pub(super) fn take_events(&mut self, events: &Events) {
        let mut answers = false;
        for event in events.iter().filter(|event| event.token() != INBOX) {
            if self.is_ldap_server(event.token().0) {
                answers = true;
            } else {
                self.take_event(event);
            }
        }
        if !answers {
            return;
        }
        self.flush_servers();
        for event in events.iter().filter(|event| event.token() != INBOX) {
            if self.is_ldap_server(event.token().0) {
                self.take_event(event);
            }
        }
    }

    fn take_event(&mut self, event: &Event) {
        let (at, readable, writable) = (event.token().0, event.is_readable(), event.is_writable());
        let broken = event.is_read_closed() || event.is_error();
        self.contained(Some(at), |drive| drive.event(at, readable, writable, broken));
    }

    pub(super) fn is_ldap_server(&self, at: usize) -> bool {
        self.conns
            .get(at)
            .is_some_and(|conn| matches!(conn.kind, Kind::Upstream(_)))
    }

    fn event(&mut self, at: usize, readable: bool, writable: bool, broken: bool) {
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
            self.readable(at);
        }
    }

    /// Connections that were left with something to read in the last turn.
    pub(super) fn look_again(&mut self) {
        let mut again = std::mem::take(&mut self.again);
        for at in again.drain(..) {
            if let Some(conn) = self.conns.get_mut(at) {
                conn.again = false;
                self.contained(Some(at), |drive| drive.readable(at));
            } else {
                self.contained(Some(at), |drive| drive.event(at, true, true, false));
            }
        }
        // What was added meanwhile is for the next turn.
        if self.again.is_empty() {
            self.again = again;
        }
    }
}
