//! Who a bound client is, where only the server knows that on whose connection it has bound (Who am I?, RFC 4532).
//!
//! A client that binds to have a password checked, and then binds again or leaves, never needs to be named. So the server is asked
//! when the client does something for which it matters, or after a while; until then the bind's ticket and its connection are kept
//! for it. As long as it is `unnamed` its authorization identity is empty, and nothing of it is taken that would act under one.

use super::{Bound, Next, Session};
use crate::core::Ticket;
use wire::ldap::envelope::tag;
use wire::ldap::result::code;

impl Session {
    /// The bind whose success was just passed on makes the client somebody; who, the server can be asked by this ticket.
    pub fn bound_unnamed(&mut self, ticket: Ticket) {
        self.unnamed = Some(ticket);
    }

    /// The ticket by which the server can be asked who the client is; none where that is known.
    pub fn unnamed(&self) -> Option<Ticket> {
        self.unnamed
    }

    /// The same, where a request with this tag cannot be looked at before.
    #[inline]
    pub fn waits_for_name(&self, tag: u8) -> Option<Ticket> {
        let indifferent = matches!(tag, tag::BIND_REQUEST | tag::UNBIND_REQUEST | tag::ABANDON_REQUEST);
        self.unnamed.filter(|_| !indifferent)
    }

    /// The server has said who it is whose bind had this ticket. False: the client is somebody else by now.
    pub fn named_as(&mut self, ticket: Ticket, who: Bound<'_>) -> bool {
        let waits = self.unnamed == Some(ticket);
        if waits {
            self.unnamed = None;
            self.bound(who);
        }
        waits
    }

    /// Nobody will ask any more who the client is; the ticket is to be ended.
    pub fn give_up_name(&mut self) -> Option<Ticket> {
        self.unnamed.take()
    }

    /// The server will not say it any more, and nobody else knows. `Next::Done`: the client is somebody else by now.
    pub fn name_lost(&mut self, ticket: Ticket, out: &mut Vec<u8>) -> Next {
        if self.unnamed != Some(ticket) {
            return Next::Done;
        }
        self.unnamed = None;
        self.disconnect(code::UNAVAILABLE, "the server that knows who you are was lost", out)
    }
}
