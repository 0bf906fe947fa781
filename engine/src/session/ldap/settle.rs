//! How a client's requests end.

use super::{Next, Session, State};
use crate::core::Reason;
use wire::ldap::envelope::{response_tag, tag};
use wire::ldap::result::{self, code};

/// What a bind's success makes of the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound<'a> {
    /// This authorization identity, learned from the server.
    As(&'a [u8]),
    /// The server does not say: the name as typed.
    AsTyped,
}

/// How an answered request leaves the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It was pending: its answer goes to the client.
    Deliver,
    /// The client gave it up: nothing goes out.
    Drop,
}

impl Session {
    /// The final answer of a request came from an upstream. `Drop`: the client waits no more.
    #[inline]
    pub fn answered(&mut self, id: i32, request_tag: u8) -> Ended {
        if self.pending.remove(id).is_none() {
            return Ended::Drop;
        }
        if request_tag == tag::BIND_REQUEST {
            self.bind_ended(id);
        }
        Ended::Deliver
    }

    /// The answered bind was a success.
    pub fn bound(&mut self, who: Bound<'_>) {
        let name = std::mem::take(&mut self.bind_name);
        match who {
            Bound::As(authzid) => self.named(b"", authzid),
            Bound::AsTyped => self.named(b"dn:", &name),
        }
        self.bind_name = name;
        self.bind_name.clear();
    }

    /// The pool ended a request: the client is told why, unless it gave it up itself.
    pub fn failed(&mut self, id: i32, request_tag: u8, reason: Reason, out: &mut Vec<u8>) {
        self.stay.lost(id);
        if self.pending.remove(id).is_none() {
            return;
        }
        // Part of a SASL bind had been said.
        let half_way = self.is_sasl() && reason == Reason::UpstreamLost { delivered: true };
        if request_tag == tag::BIND_REQUEST {
            self.bind_ended(id);
        }
        self.pin_gone |= self.pin.is_some() && matches!(reason, Reason::UpstreamLost { .. });
        let Some((code, why)) = words(reason, request_tag) else {
            return;
        };
        let code = if half_way { code::OTHER } else { code };
        if let Some(response) = response_tag(request_tag) {
            result::write_result(out, id, response, code, b"", why);
        }
    }

    /// The client reads so slowly that its operation is given up.
    pub fn too_slow(&mut self, id: i32, request_tag: u8, out: &mut Vec<u8>) {
        self.stay.lost(id);
        if self.pending.remove(id).is_none() {
            return;
        }
        if request_tag == tag::BIND_REQUEST {
            self.bind_ended(id);
            self.pin_gone |= self.pin.is_some();
        }
        if let Some(response) = response_tag(request_tag) {
            result::write_result(
                out,
                id,
                response,
                code::ADMIN_LIMIT_EXCEEDED,
                b"",
                "answers are read too slowly",
            );
        }
    }

    /// A search has brought as many entries as it may, and there is another.
    pub fn too_large(&mut self, id: i32, out: &mut Vec<u8>) {
        self.stay.lost(id);
        if self.pending.remove(id).is_none() {
            return;
        }
        result::write_result(
            out,
            id,
            tag::SEARCH_DONE,
            code::SIZE_LIMIT_EXCEEDED,
            b"",
            "more entries than a search may bring here",
        );
    }

    /// After something has ended: whether a client that drains, or one whose own upstream is gone, is done.
    pub fn after_end(&mut self, out: &mut Vec<u8>) -> Next {
        if self.pin_gone && self.pending.is_empty() {
            return self.pin_lost(out);
        }
        if self.draining.is_some() && self.pending.is_empty() && self.state == State::Open {
            return self.disconnect(code::UNAVAILABLE, "shutting down", out);
        }
        Next::Done
    }

    /// The client's own upstream is gone, or nobody knows as whom it is bound by now; with it goes who the client is. It is
    /// still the client's, to be released when the client is closed.
    ///
    /// Where it was lost under the client's first bind, that bind is under way elsewhere and nothing else is lost.
    pub fn pin_lost(&mut self, out: &mut Vec<u8>) -> Next {
        if matches!(self.state, State::Binding { id } if self.pending.contains(id)) {
            self.pin = None;
            return Next::Done;
        }
        self.disconnect(code::UNAVAILABLE, "the server's connection was lost", out)
    }

    /// Forgets a pending request without a word (everything before a bind; a client that leaves).
    pub fn forget(&mut self, id: i32) {
        self.stay.lost(id);
        self.pending.remove(id);
    }

    /// Forgets all that is pending but this id; hands back the tickets.
    pub fn forget_others(&mut self, id: i32, tickets: &mut Vec<crate::core::Ticket>) {
        self.stay.keep_only(id);
        tickets.extend(self.exchange.hand_out());
        self.pending.keep_only(id, tickets);
    }

    fn bind_ended(&mut self, id: i32) {
        if self.state == (State::Binding { id }) {
            self.state = State::Open;
            self.exchange.over();
        }
    }
}

/// The result code and diagnostic message of a request that the pool ended; none where the client is not to be told.
fn words(reason: Reason, request_tag: u8) -> Option<(u32, &'static str)> {
    let search = request_tag == tag::SEARCH_REQUEST;
    let reads = matches!(
        request_tag,
        tag::SEARCH_REQUEST | tag::COMPARE_REQUEST | tag::BIND_REQUEST
    );
    Some(match reason {
        Reason::Canceled => return None,
        Reason::Deadline if search => (code::TIME_LIMIT_EXCEEDED, "the server took too long"),
        Reason::Deadline => (code::ADMIN_LIMIT_EXCEEDED, "the server took too long"),
        Reason::QueueTimeout => (code::BUSY, "no connection to a server became free in time"),
        Reason::QueueFull => (code::BUSY, "too many requests are waiting"),
        Reason::Unavailable => (code::UNAVAILABLE, "no server is available"),
        Reason::UpstreamLost { .. } if reads => (code::UNAVAILABLE, "the connection to the server was lost"),
        Reason::UpstreamLost { .. } => (
            code::OTHER,
            "the connection to the server was lost; the outcome is unknown",
        ),
        Reason::ShuttingDown => (code::UNAVAILABLE, "shutting down"),
    })
}
