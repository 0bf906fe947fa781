//! Where a client's operations have to go because of what went before: to one server, or over one connection.
//!
//! A *hold* is a connection that a client's operations keep to. It is *sought* until the request that asked for it has been
//! sent, then it is somewhere. It ends when nothing is left on the connection (no page to come, no transaction open, none of
//! its operations in flight), or with the next bind; one of a rule that has no known end lasts until then, or until the
//! worker has seen it rest for too long. Of a hold that ends in order nothing is left on the server, so another client may
//! have its connection.

use super::{Next, Session, Settings, Submit, lane};
use crate::core::time::Instant;
use crate::core::{Route, UpstreamId};
use crate::session::ldap::rules::Action;
use wire::ldap::control;
use wire::ldap::control::oid;
use wire::ldap::envelope::Envelope;
use wire::ldap::message::oid as extended;
use wire::ldap::result::{self, code};

/// What a request's controls, or its name, ask of the balancer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) action: Action,
    pub(super) purpose: Purpose,
}

/// Why a request needs a connection of its own, and so when that need ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// It needs none, or one whose end is not known.
    Other,
    /// A page of a search.
    Page,
    /// A transaction begins.
    Start,
    /// Part of a transaction.
    Part,
    /// A transaction ends.
    End,
}

impl Asked {
    pub(super) const NOTHING: Asked = Asked {
        action: Action::Ignore,
        purpose: Purpose::Other,
    };

    pub(super) fn write() -> Asked {
        Asked {
            action: Action::Write,
            purpose: Purpose::Other,
        }
    }

    /// Both on one request.
    pub(super) fn and(self, other: Asked) -> Asked {
        Asked {
            action: self.action.max(other.action),
            purpose: if self.purpose == Purpose::Other {
                other.purpose
            } else {
                self.purpose
            },
        }
    }

    fn changes(self) -> bool {
        self.action == Action::Write || matches!(self.purpose, Purpose::Start | Purpose::Part | Purpose::End)
    }

    fn holds(self) -> bool {
        matches!(self.action, Action::Connection | Action::Isolate)
    }
}

/// A request in flight that matters here.
#[derive(Clone, Copy, Debug)]
struct Op {
    id: i32,
    asked: Asked,
    held: bool,
}

#[derive(Clone, Copy, Debug)]
struct Hold {
    lane: u8,
    /// The connection, and the marks of its server.
    at: Option<(UpstreamId, u8)>,
    /// Its end is not known.
    endless: bool,
    paging: bool,
    transaction: bool,
    /// Everything on it was answered.
    in_order: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stay {
    ops: Vec<Op>,
    hold: Option<Hold>,
    /// The server, by its key in the pool, and until when.
    server: Option<(u64, Instant)>,
}

impl Stay {
    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.hold.is_none()
    }

    /// It ended without an answer: nobody knows what is left of it on its connection.
    pub(super) fn lost(&mut self, id: i32) {
        if self.is_empty() {
            return;
        }
        if let Some(op) = self.take(id)
            && let Some(hold) = &mut self.hold
            && op.held
        {
            hold.in_order = false;
            if op.asked.purpose != Purpose::Other {
                hold.paging = false;
                hold.transaction = false;
            }
            if hold.at.is_none() {
                self.hold = None;
            }
        }
    }

    /// All but this one are forgotten.
    pub(super) fn keep_only(&mut self, id: i32) {
        self.ops.retain(|op| op.id == id);
    }

    fn take(&mut self, id: i32) -> Option<Op> {
        let at = self.ops.iter().position(|op| op.id == id)?;
        Some(self.ops.swap_remove(at))
    }

    fn is_over(&self) -> bool {
        self.hold
            .is_some_and(|hold| !hold.endless && !hold.paging && !hold.transaction)
            && !self.ops.iter().any(|op| op.held)
    }
}

/// A connection that a client keeps no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LetGo {
    /// Which.
    pub upstream: UpstreamId,
    /// Nothing is left on it: it may be another client's.
    pub in_order: bool,
}

impl Session {
    /// How a request goes to the pool, by what it asks for and what went before.
    pub(super) fn route(&mut self, env: &Envelope<'_>, mut submit: Submit, asked: Asked, settings: &Settings) -> Next {
        let changes = asked.changes();
        submit.route = if changes {
            Route {
                needs: settings.writes,
                ..Route::default()
            }
        } else {
            Route {
                prefers: settings.reads,
                ..Route::default()
            }
        };
        let asks = asked.holds() || asked.action == Action::Backend || (changes && settings.coheres);
        if self.pin.is_some() || (!asks && self.stay.hold.is_none()) {
            return Next::Submit(submit);
        }
        let mut held = false;
        match self.stay.hold {
            Some(Hold { at: None, .. }) if asked.holds() => return Next::Later,
            Some(Hold {
                at: Some((upstream, marks)),
                lane,
                ..
            }) if asked.holds() || marks & submit.route.needs == submit.route.needs => {
                submit.pin = Some(upstream);
                submit.class.lane = lane;
                held = true;
            }
            Some(_) => {}
            None if asked.holds() => {
                submit.class.lane = match asked.action {
                    Action::Isolate => lane::APART,
                    _ => lane::SHARED,
                };
                self.stay.hold = Some(Hold {
                    lane: submit.class.lane,
                    at: None,
                    endless: false,
                    paging: false,
                    transaction: false,
                    in_order: true,
                });
                held = true;
            }
            None => {}
        }
        if held
            && asked.holds()
            && let Some(hold) = &mut self.stay.hold
        {
            hold.endless |= asked.purpose == Purpose::Other || asked.action == Action::Connection;
        }
        if held || asks {
            self.stay.ops.push(Op {
                id: env.id,
                asked,
                held,
            });
        }
        Next::Submit(submit)
    }

    /// Whether it matters where this client's requests go, and how they end.
    #[inline]
    pub fn minds(&self) -> bool {
        !self.stay.is_empty()
    }

    /// What its operations keep to by a rule: a connection that nobody else uses ([`Action::Isolate`]), one that others use too
    /// ([`Action::Connection`]), or a server ([`Action::Backend`]).
    pub fn keeps(&self) -> Option<Action> {
        match (self.stay.hold, self.stay.server) {
            (Some(hold), _) if hold.lane == lane::APART => Some(Action::Isolate),
            (Some(_), _) => Some(Action::Connection),
            (None, Some((_, Instant::MAX))) => Some(Action::Backend),
            (None, _) => None,
        }
    }

    /// The server (by its key in the pool) that this client's operations keep to.
    #[inline]
    pub fn stays(&self, now: Instant) -> Option<u64> {
        let (server, until) = self.stay.server?;
        (now < until).then_some(server)
    }

    /// Its operations keep to this server until then.
    pub fn stay(&mut self, server: u64, until: Instant) {
        self.stay.server = Some((server, until));
    }

    /// A request was sent over this connection to this server, which has these marks. `coheres_until`: how long a write sent
    /// now is to be seen by what follows.
    pub fn sent_to(&mut self, id: i32, upstream: UpstreamId, server: u64, marks: u8, coheres_until: Instant) {
        let Some(op) = self.stay.ops.iter().find(|op| op.id == id) else {
            return;
        };
        if op.held
            && let Some(hold) = &mut self.stay.hold
        {
            hold.at = Some((upstream, marks));
        }
        if op.asked.action == Action::Backend {
            self.stay.server = Some((server, Instant::MAX));
        } else if op.asked.changes() && self.stay.server.is_none_or(|(_, until)| until != Instant::MAX) {
            self.stay.server = Some((server, coheres_until));
        }
    }

    /// The final answer of a request, before `answered`. True: it was a write, whose effect is to be seen until then.
    pub fn answer_seen(&mut self, id: i32, env: &Envelope<'_>, coheres_until: Instant) -> bool {
        let Some(op) = self.stay.take(id) else { return false };
        let succeeded = result::result_code(env.op) == Some(code::SUCCESS);
        if op.held
            && let Some(hold) = &mut self.stay.hold
        {
            match op.asked.purpose {
                Purpose::Page => hold.paging = succeeded && has_cookie(env.controls),
                Purpose::Start => hold.transaction = succeeded,
                Purpose::End => hold.transaction = false,
                Purpose::Part | Purpose::Other => {}
            }
        }
        let wrote = op.asked.changes();
        if wrote && let Some((_, until)) = &mut self.stay.server {
            *until = (*until).max(coheres_until);
        }
        wrote
    }

    /// After something has ended: the connection that is needed no more. Those that others use too are not handed out.
    pub fn let_go(&mut self) -> Option<LetGo> {
        if !self.stay.is_over() {
            return None;
        }
        let hold = self.stay.hold.take()?;
        let (upstream, _) = hold.at.filter(|_| hold.lane == lane::APART)?;
        Some(LetGo {
            upstream,
            in_order: hold.in_order,
        })
    }

    /// The connection that is kept while none of its operations are in flight; it may be taken back when that lasts.
    pub fn rests_on(&self) -> Option<UpstreamId> {
        let (upstream, _) = self.stay.hold?.at?;
        let rests = !self.stay.ops.iter().any(|op| op.held);
        rests.then_some(upstream)
    }

    /// The client binds, leaves, or has rested too long: its connection, if nobody else uses it.
    pub fn drop_hold(&mut self) -> Option<UpstreamId> {
        if matches!(self.stay.server, Some((_, Instant::MAX))) {
            self.stay.server = None;
        }
        let hold = self.stay.hold.take()?;
        self.stay.ops.retain(|op| !op.held);
        hold.at
            .filter(|_| hold.lane == lane::APART)
            .map(|(upstream, _)| upstream)
    }
}

/// Whether more pages are to come (RFC 2696): the cookie of the response is not empty.
fn has_cookie(controls: &[u8]) -> bool {
    control::controls(controls)
        .flatten()
        .find(|control| control.oid == oid::PAGED_RESULTS.as_bytes())
        .and_then(|control| control::paged_results(control.value?))
        .is_some_and(|(_, cookie)| !cookie.is_empty())
}

/// What a control with this identifier is for.
pub(super) fn purpose(oid: &[u8]) -> Purpose {
    if oid == oid::PAGED_RESULTS.as_bytes() {
        Purpose::Page
    } else if oid == oid::TRANSACTION_SPECIFICATION.as_bytes() {
        Purpose::Part
    } else {
        Purpose::Other
    }
}

/// What an extended operation of this name is for.
pub(super) fn purpose_of_extended(oid: &[u8]) -> Purpose {
    if oid == extended::TRANSACTION_START.as_bytes() {
        Purpose::Start
    } else if oid == extended::TRANSACTION_END.as_bytes() {
        Purpose::End
    } else {
        Purpose::Other
    }
}
