//! SASL binds (RFC 4513 section 5.2): an exchange of several steps on one connection to a server, and EXTERNAL, which is answered
//! here.
//!
//! Where operations are proxied, the ticket of the first step stays that of the whole exchange: it lives from the first request to
//! the last answer, the bind connection that it was sent on has room for nothing else meanwhile, and its deadline is that of the
//! whole. Between two steps it is *held*. When it ends then, the exchange is *lost*: its next step is told so. Where a client has a
//! connection of its own, each step is a bind like any other on that connection, and the server keeps count.

use super::{Ended, Next, Session, Settings, State, Submit, lane};
use crate::core::Route;
use crate::core::{Class, Ticket};
use wire::ldap::envelope::{Envelope, tag};
use wire::ldap::result::{self, code};
use wire::ldap::sasl::{self, Mechanisms};

/// What a session knows of SASL.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Of the exchange in flight, or between two steps of it; none while there is no exchange.
    mechanism: Mechanisms,
    /// The ticket of an exchange that waits for its client's next step.
    held: Option<Ticket>,
    /// Who the connection itself says that the client is.
    external: Option<Box<[u8]>>,
}

impl Exchange {
    /// The exchange has ended, or is given up. A ticket that is held stays so until it is handed out.
    pub(super) fn over(&mut self) {
        self.mechanism = Mechanisms::NONE;
    }

    /// Whether there is a ticket that nobody but this names.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The ticket of an exchange that is given up.
    pub(super) fn hand_out(&mut self) -> Option<Ticket> {
        self.held.take()
    }

    /// Whether an exchange is under way.
    pub(super) fn is_going(&self) -> bool {
        !self.mechanism.is_empty()
    }
}

impl Session {
    /// Whether the bind in flight is by SASL.
    pub fn is_sasl(&self) -> bool {
        self.exchange.is_going()
    }

    /// Who the connection itself says that the client is, as an authorization identity (`dn:…`): by its certificate, or by
    /// its user where it came over a unix socket. What was known before is forgotten.
    pub fn known_externally(&mut self, authzid: Option<&[u8]>) {
        self.exchange.external = authzid.map(Into::into);
    }

    /// Whether EXTERNAL would be a success.
    pub fn offers_external(&self, settings: &Settings) -> bool {
        settings.proxied && settings.sasl.contains(sasl::EXTERNAL.as_bytes()) && self.exchange.external.is_some()
    }

    /// The server asks for another step (saslBindInProgress): its answer goes to the client, and the ticket is held.
    pub fn stepped(&mut self, id: i32, ticket: Ticket) -> Ended {
        if self.pending.remove(id).is_none() {
            return Ended::Drop;
        }
        self.exchange.held = Some(ticket);
        if self.state == (State::Binding { id }) {
            self.state = State::Open;
        }
        Ended::Deliver
    }

    /// The pool has ended a ticket that is held, or one that was when it was given up: nobody waits for its answer. False:
    /// it is none of these.
    pub fn held_failed(&mut self, id: i32, ticket: Ticket) -> bool {
        if self.exchange.held == Some(ticket) {
            self.exchange.held = None;
            return true;
        }
        // Its last id may name another request by now.
        self.pending.get(id).is_some_and(|pending| pending.ticket != ticket)
    }

    /// Whether the client is who its connection says: whom servers take that for is theirs to say.
    pub(super) fn is_external(&self) -> bool {
        !self.authzid.is_empty() && self.exchange.external.as_deref() == Some(&*self.authzid)
    }

    pub(super) fn sasl_bind(
        &mut self,
        env: &Envelope<'_>,
        (mechanism, credentials): (&[u8], Option<&[u8]>),
        settings: &Settings,
        out: &mut Vec<u8>,
    ) -> Next {
        let named = Mechanisms::of(mechanism).unwrap_or(Mechanisms::NONE);
        if settings.proxied && self.exchange.is_going() && self.exchange.mechanism == named {
            return self.next_step(env.id, out);
        }
        self.exchange.over();
        if !settings.sasl.contains(mechanism) {
            let why = "this SASL mechanism is not offered here";
            result::write_bind(out, env.id, code::AUTH_METHOD_NOT_SUPPORTED, why, None);
            return self.bind_refused();
        }
        if mechanism.eq_ignore_ascii_case(sasl::EXTERNAL.as_bytes()) {
            return self.external(env.id, credentials, settings, out);
        }
        self.state = State::Binding { id: env.id };
        self.exchange.mechanism = if settings.proxied { named } else { Mechanisms::NONE };
        let lane = if settings.proxied { lane::BIND } else { lane::PINNED };
        Next::Submit(Submit {
            class: Class {
                lane,
                retry: self.pin.is_none(),
            },
            timeout: Some(settings.sasl_timeout),
            queue_wait_max: settings.sasl_timeout,
            pin: self.pin,
            bind: true,
            route: Route {
                prefers: settings.reads,
                ..Route::default()
            },
        })
    }

    fn next_step(&mut self, id: i32, out: &mut Vec<u8>) -> Next {
        if let Some(ticket) = self.exchange.hand_out() {
            self.state = State::Binding { id };
            return Next::Step(ticket);
        }
        self.exchange.over();
        let why = "the connection to the server was lost in the middle of the bind, or the bind took too long";
        result::write_bind(out, id, code::OTHER, why, None);
        self.bind_refused()
    }

    /// RFC 4513 section 5.2.3, RFC 4422 appendix A.
    fn external(&mut self, id: i32, credentials: Option<&[u8]>, settings: &Settings, out: &mut Vec<u8>) -> Next {
        let authzid = credentials.unwrap_or_default();
        let own = self.exchange.external.take();
        let (code, why) = match &own {
            _ if !settings.proxied => (
                code::AUTH_METHOD_NOT_SUPPORTED,
                "EXTERNAL cannot be carried on to a server: who you are is known here only",
            ),
            None => (
                code::INVALID_CREDENTIALS,
                "neither a client certificate nor a unix socket says who you are",
            ),
            Some(own) if !authzid.is_empty() && authzid != &**own => (
                code::UNWILLING_TO_PERFORM,
                "nobody is allowed to act for somebody else here",
            ),
            Some(_) => (code::SUCCESS, ""),
        };
        result::write_bind(out, id, code, why, None);
        let next = self.bind_refused();
        if let Some(own) = own.as_deref().filter(|_| code == code::SUCCESS) {
            self.named(b"", own);
        }
        self.exchange.external = own;
        next
    }

    /// Between two steps of a bind nothing but its next step, or another bind, can be done.
    pub(super) fn is_out_of_step(&self, request_tag: u8) -> bool {
        self.exchange.is_going() && request_tag != tag::BIND_REQUEST
    }
}
