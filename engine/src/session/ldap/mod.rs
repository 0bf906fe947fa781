//! One LDAP client (RFC 4511), balanced operation by operation (seed 003).
//!
//! Invariants: a message id is in `pending` from its submission to its end and never twice; while a bind is in flight
//! nothing else is taken; from the moment a bind request is taken until its success the client is anonymous (RFC 4511
//! 4.2.1, RFC 4513 4), and nothing that it asked before goes on, also where the bind is refused here; every request that
//! has a response gets exactly one final one, here or from an upstream.

mod assertion;
pub mod identities;
pub mod monitor;
mod naming;
mod pending;
mod receive;
pub mod rules;
mod sasl;
mod settle;
mod stay;
#[cfg(test)]
mod tests;

use crate::core::time::Span;
use std::sync::Arc;

use crate::core::{Class, Drain, Route, Ticket, UpstreamId};
use wire::ldap::control;
use wire::ldap::grammar::Limits;
use wire::ldap::sasl::Mechanisms;

use pending::{Pending, PendingList};
use rules::Rules;
pub use settle::{Bound, Ended};
pub use stay::LetGo;
use stay::Stay;

/// Lanes of a directory's pool, in the order in which its pool is configured.
pub mod lane {
    /// Shared connections: many clients' operations.
    pub const SHARED: u8 = 0;
    /// Bind connections: one client's bind at a time.
    pub const BIND: u8 = 1;
    /// Connections that belong to one client each.
    pub const PINNED: u8 = 2;
    /// Connections that belong to one feed each, under the daemon's own identity: each carries one search that goes on and on.
    pub const FEED: u8 = 3;
    /// Connections for clients whose operations leave something behind on theirs (pages, transactions): as shared ones, but one
    /// client's at a time.
    pub const APART: u8 = 4;
}

/// What a server of a directory may be, as marks of the pool's servers ([`crate::core::ServerConfig::marks`]).
pub mod mark {
    /// It takes writes.
    pub const PRIMARY: u8 = 1;
    /// It has a copy.
    pub const REPLICA: u8 = 2;
}

/// What a directory's settings mean for its clients' sessions.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// True: each operation carries the client's identity (RFC 4370); false: a client keeps its own connection from its
    /// first bind on.
    pub proxied: bool,
    /// Whether a DN with an empty password is passed on (RFC 4513 5.1.2).
    pub allow_unauthenticated_bind: bool,
    /// SASL mechanisms that clients may use.
    pub sasl: Mechanisms,
    /// Deadline of a SASL bind, all of its steps together.
    pub sasl_timeout: Span,
    /// Whether StartTLS is offered here.
    pub starttls: bool,
    /// Operations pending per client, beyond which nothing is taken from it that would add another; 0: no limit.
    pub pending_max: usize,
    /// Deadline of a search.
    pub search_timeout: Span,
    /// Deadline of everything else.
    pub operation_timeout: Span,
    /// Bounds of the poison guard.
    pub limits: Limits,
    /// What is done with certain controls and extended operations.
    pub rules: Arc<Rules>,
    /// Marks of the servers to which reads go while one is up; 0: to any.
    pub reads: u8,
    /// Marks of the servers to which writes go; 0: to any.
    pub writes: u8,
    /// Whether a client's operations follow its writes for a while.
    pub coheres: bool,
    /// As whom the daemon's own connections to every server are bound, where a client that is bound as the same may assert another
    /// identity (RFC 4370); none: nobody may.
    pub assertions: Option<Arc<identities::Identities>>,
    /// Who may read the daemon's figures; none: nobody, and there are none to be seen.
    pub monitor: Option<Arc<identities::Identities>>,
}

impl Default for Settings {
    /// Proxied, nothing lax, and the times of the design.
    fn default() -> Self {
        Settings {
            proxied: true,
            allow_unauthenticated_bind: false,
            sasl: Mechanisms::USUAL,
            sasl_timeout: Span::from_secs(10),
            starttls: false,
            pending_max: 100,
            search_timeout: Span::from_secs(60),
            operation_timeout: Span::from_secs(30),
            limits: Limits::default(),
            rules: Arc::default(),
            reads: 0,
            writes: 0,
            coheres: false,
            assertions: None,
            monitor: None,
        }
    }
}

/// What is to be done after a frame. Whatever the session had to say itself is in the outbox already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing.
    Done,
    /// Submit the frame to the pool, then say `submitted` before the effects are carried out.
    Submit(Submit),
    /// Cancel this ticket; its client hears nothing more of it.
    Abandon(Ticket),
    /// It is about the daemon's figures, by somebody who may read them. It is pending; its answer is told as a pool's is.
    Monitor,
    /// The next step of a SASL bind: send the frame on the connection that has this ticket, then say `submitted`.
    Step(Ticket),
    /// A bind was refused here, or was EXTERNAL, and the answer is in the outbox: the client is anonymous and nothing that it asked before goes
    /// on. Cancel everything it has (`forget_others`) and release the upstream that was its own.
    StartOver(Option<UpstreamId>),
    /// The client leaves: cancel everything it has and close.
    Unbind,
    /// The answer is in the outbox: write it in clear, then TLS begins. Bytes behind the request must be refused.
    StartTls,
    /// The notice of disconnection is in the outbox: write it and close.
    Close,
    /// Not taken: give the frame again when something has ended for this client.
    Later,
}

/// How a request goes to the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Submit {
    /// Lane and retry rule.
    pub class: Class,
    /// Time it may take; none: no deadline (persistent searches), though the wait for an upstream is bounded.
    pub timeout: Option<Span>,
    /// Longest wait for an upstream where there is no deadline.
    pub queue_wait_max: Span,
    /// The connection that must carry it.
    pub pin: Option<UpstreamId>,
    /// A bind: everything else the client has is abandoned first.
    pub bind: bool,
    /// Which servers may carry it, apart from the one that this client keeps to.
    pub route: Route,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    Binding { id: i32 },
    Closing,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    state: State,
    draining: Option<Drain>,
    tls: bool,
    pending: PendingList,
    /// The name of the bind in flight, as typed; of one that has succeeded as long as `unnamed`.
    bind_name: Vec<u8>,
    /// The client is bound, and the server that can say as whom has not said it: it knows that by this ticket.
    unnamed: Option<Ticket>,
    /// Authorization identity, `dn:…` or empty for anonymous.
    authzid: Vec<u8>,
    /// The control that carries it, encoded; empty while anonymous.
    control: Vec<u8>,
    pin: Option<UpstreamId>,
    /// The client's own upstream is gone, or bound as nobody knows whom.
    pin_gone: bool,
    stay: Stay,
    exchange: sasl::Exchange,
}

/// The encoded control of an anonymous client, the same for all.
pub fn anonymous_control() -> Vec<u8> {
    let mut out = Vec::new();
    control::proxied_authorization(&mut out, b"");
    out
}

impl Session {
    /// A client that has just connected; `tls`: over TLS.
    pub fn new(tls: bool) -> Self {
        Session {
            state: State::Open,
            draining: None,
            tls,
            pending: PendingList::default(),
            bind_name: Vec::new(),
            unnamed: None,
            authzid: Vec::new(),
            control: Vec::new(),
            pin: None,
            pin_gone: false,
            stay: Stay::default(),
            exchange: sasl::Exchange::default(),
        }
    }

    /// Requests that have not ended.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Their tickets, for a client that leaves.
    pub fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.pending.iter().map(|pending| pending.ticket)
    }

    /// The client's own upstream.
    pub fn pin(&self) -> Option<UpstreamId> {
        self.pin
    }

    /// The encoded proxied authorization control of a client that is bound; none while it is anonymous.
    #[inline]
    pub fn control(&self) -> Option<&[u8]> {
        (!self.control.is_empty()).then_some(&*self.control)
    }

    /// Authorization identity (RFC 4513 5.2.1.8); empty for anonymous.
    pub fn authzid(&self) -> &[u8] {
        &self.authzid
    }

    /// The name of the bind in flight, as typed, or of the one whose client is not named yet.
    pub fn bind_name(&self) -> &[u8] {
        &self.bind_name
    }

    /// Whether any frame would be taken now.
    #[inline]
    pub fn takes(&self, settings: &Settings) -> bool {
        self.state == State::Open && (settings.pending_max == 0 || self.pending.len() < settings.pending_max)
    }

    /// Whether a bind would be looked at now.
    pub fn may_bind(&self) -> bool {
        self.state == State::Open && self.draining.is_none()
    }

    /// Whether the client came over TLS, or has begun it.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// TLS is up.
    pub fn tls_started(&mut self) {
        self.tls = true;
    }

    /// Its request was given to the pool, which named it. To be called before the effects are looked at.
    pub fn submitted(&mut self, id: i32, tag: u8, ticket: Ticket) {
        self.pending.insert(Pending { id, ticket, tag });
    }

    /// A request of this client was sent on a lane whose upstreams belong to one client.
    pub fn pinned(&mut self, upstream: UpstreamId) {
        self.pin = Some(upstream);
    }

    fn anonymous(&mut self) {
        self.authzid.clear();
        self.control.clear();
    }

    /// The buffers are kept, so that a client that binds again and again allocates nothing.
    fn named(&mut self, prefix: &[u8], name: &[u8]) {
        self.anonymous();
        if !name.is_empty() {
            self.authzid.extend_from_slice(prefix);
            self.authzid.extend_from_slice(name);
            control::proxied_authorization(&mut self.control, &self.authzid);
        }
    }
}
