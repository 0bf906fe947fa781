//! One request of an LDAP client: looked at, and submitted, answered or held back.

use std::sync::Arc;

use engine::core::time::Instant;
use engine::core::{Request, Route, Ticket};
use engine::session::ldap::{Next, Submit};
use wire::ldap::envelope::{self, Envelope, tag};

use super::Drive;
use super::audit::Audited;
use super::clients::Flow;
use super::conn::{ConnRef, Kind};
use super::effects::Current;
use super::limits::Judged;
use super::lockout;
use super::pools::{Caller, PoolState};
use crate::audit::record::Entry;
use crate::config::plan::Affinity;
use crate::limits::Permit;
use crate::lockouts::Lockout;

/// What goes along with a request that is submitted.
#[derive(Default)]
struct Along {
    /// What the audit log is told of it.
    entry: Option<Box<Entry>>,
    /// Its places among the operations that may be pending.
    permit: Option<Permit>,
}

impl Drive {
    /// One whole message.
    pub(super) fn ldap_message(&mut self, at: usize, frame: &[u8]) -> Flow {
        let env = match envelope::peek(frame) {
            Ok(env) => env,
            Err(fault) => {
                self.ldap_poisoned(at, fault);
                return Flow::Stop;
            }
        };
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else {
            return Flow::Stop;
        };
        conn.active_at = now;
        let Kind::Ldap(client) = &mut conn.kind else {
            return Flow::Stop;
        };
        let index = client.pool;
        let Some(listener) = self.listeners.get(&client.listener) else {
            return Flow::Stop;
        };
        if listener.audit.is_some() || listener.lockout.is_some() || client.limited.is_some() {
            let (audited, lockout) = (listener.audit.clone(), listener.lockout.clone());
            return self.ldap_watched(at, frame, &env, audited.as_deref(), lockout.as_ref());
        }
        let Some(Some(state)) = self.pools.get_mut(index) else {
            return Flow::Stop;
        };
        let is_sent = |ticket: Ticket| state.pool.is_sent(ticket) == Some(true);
        let next = client
            .session
            .receive(&env, &listener.settings, is_sent, conn.stream.outbox(&mut self.spares));
        self.ldap_next(at, index, next, frame, &env, Along::default())
    }

    /// Whether a request may go on, as far as limits and lockout have a say.
    fn judge(&mut self, at: usize, listener: u64, env: &Envelope<'_>, lockout: Option<&Arc<Lockout>>) -> Judged {
        let permit = match self.judge_limits(at, env) {
            Judged::Go(permit) => permit,
            other => return other,
        };
        if env.tag != tag::BIND_REQUEST {
            return Judged::Go(permit);
        }
        let timeout = self.listeners.get(&listener).map(|one| one.settings.operation_timeout);
        let judged = lockout
            .zip(timeout)
            .map(|(lockout, timeout)| self.judge_bind(at, lockout, env, timeout));
        match judged {
            None | Some(lockout::Judged::Go) => Judged::Go(permit),
            Some(lockout::Judged::Hold) => {
                self.keep_permit(at, permit);
                Judged::Hold
            }
            Some(lockout::Judged::Refused(code, why)) => Judged::Refused(code, why),
        }
    }

    /// As above, where the listener has an audit log or locks out, or the client has limits.
    fn ldap_watched(
        &mut self,
        at: usize,
        frame: &[u8],
        env: &Envelope<'_>,
        audited: Option<&Audited>,
        lockout: Option<&Arc<Lockout>>,
    ) -> Flow {
        let Some(client) = self.conns.get_mut(at).and_then(|conn| conn.ldap()) else {
            return Flow::Stop;
        };
        let index = client.pool;
        let listener = client.listener;
        self.secret_read |= env.tag == tag::BIND_REQUEST;
        let (permit, refusal) = match self.judge(at, listener, env, lockout) {
            Judged::Go(permit) => (permit, None),
            Judged::Hold => return self.ldap_next(at, index, Next::Later, frame, env, Along::default()),
            Judged::Refused(code, why) => (None, Some((code, why))),
        };
        let entry = audited.and_then(|audited| self.audit_begin(at, audited, env));
        let Some(Some(state)) = self.pools.get_mut(index) else {
            return Flow::Stop;
        };
        let Some(conn) = self.conns.get_mut(at) else {
            return Flow::Stop;
        };
        let Kind::Ldap(client) = &mut conn.kind else {
            return Flow::Stop;
        };
        let Some(settings) = self.listeners.get(&listener).map(|one| &one.settings) else {
            return Flow::Stop;
        };
        let is_sent = |ticket: Ticket| state.pool.is_sent(ticket) == Some(true);
        let out = conn.stream.outbox(&mut self.spares);
        let before = out.len();
        let next = match refusal {
            None => client.session.receive(env, settings, is_sent, out),
            Some((code, why)) => client.session.refuse(env, code, why, out),
        };
        if env.tag == tag::BIND_REQUEST && !matches!(next, Next::Submit(_) | Next::Step(_) | Next::Later) {
            // It was not passed on.
            self.bid_ended(at, None);
        }
        let entry = match next {
            Next::Submit(_) | Next::Monitor => entry,
            // It will come again, or its bind has an entry already.
            Next::Later | Next::Step(_) => None,
            _ => {
                self.audit_refused(at, entry, before);
                None
            }
        };
        self.ldap_next(at, index, next, frame, env, Along { entry, permit })
    }

    /// Does what the session wants.
    fn ldap_next(
        &mut self,
        at: usize,
        index: usize,
        next: Next,
        frame: &[u8],
        env: &Envelope<'_>,
        along: Along,
    ) -> Flow {
        let now = self.now;
        match next {
            Next::Done => {
                self.mark_dirty(at);
                Flow::Go
            }
            Next::Submit(submit) => {
                self.submit(at, index, submit, frame, env, along);
                self.secret_read |= submit.bind;
                if self.conns.get(at).is_some() {
                    Flow::Go
                } else {
                    Flow::Stop
                }
            }
            Next::Monitor => {
                self.ask_monitor(at, frame, env, along.entry);
                Flow::Go
            }
            Next::Step(ticket) => {
                self.sasl_step(at, index, ticket, env, along.permit);
                self.secret_read = true;
                Flow::Go
            }
            Next::Abandon(ticket) => {
                if let Some(state) = self.pool(index) {
                    state.pool.cancel(ticket, now, &mut state.effects);
                }
                self.mark_dirty(at);
                self.carry_out(index, None);
                self.let_go(at);
                Flow::Go
            }
            Next::StartOver(own) => {
                self.mark_dirty(at);
                self.abandon_all(at, own);
                Flow::Go
            }
            Next::Unbind => {
                self.close(at);
                Flow::Stop
            }
            Next::StartTls => {
                if let Some(conn) = self.conns.get_mut(at) {
                    conn.upgrade = true;
                }
                self.drop_hold(at);
                self.mark_dirty(at);
                Flow::Stop
            }
            Next::Close => {
                if let Some(directory) = self.pool(index).and_then(PoolState::directory) {
                    directory.counts.malformed += 1;
                }
                self.close_when_written(at);
                Flow::Stop
            }
            Next::Later => {
                if let Some(conn) = self.conns.get_mut(at) {
                    conn.held = true;
                }
                self.ask_for(at, index, env.tag);
                Flow::Held
            }
        }
    }

    fn submit(&mut self, at: usize, index: usize, submit: Submit, frame: &[u8], env: &Envelope<'_>, along: Along) {
        let now = self.now;
        if submit.bind {
            self.give_up_name(at);
        }
        let (capped, timeout) = match self.cap_search(at, env, submit.timeout) {
            Some((capped, timeout)) => (Some(capped), timeout),
            None => (None, submit.timeout),
        };
        let Some(conn) = self.conns.get_mut(at) else { return };
        let conn_ref = ConnRef {
            at: u32::try_from(at).unwrap_or(u32::MAX),
            generation: conn.generation,
        };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        let Some(Some(state)) = self.pools.get_mut(index) else {
            return;
        };
        if submit.bind {
            client.session.forget_others(env.id, &mut self.tickets);
            for ticket in self.tickets.drain(..) {
                state.pool.cancel(ticket, now, &mut state.effects);
            }
            if let Some(held) = client.session.drop_hold() {
                state.pool.release(held, now, &mut state.effects);
            }
        }
        let caller = Caller {
            conn: conn_ref,
            id: env.id,
            tag: env.tag,
        };
        let by = state
            .directory()
            .map_or(Affinity::None, |found| found.plan.routing.affinity);
        let affinity = client.affinity_by(by, conn_ref, submit.bind);
        let request = Request {
            class: submit.class,
            deadline: timeout.map_or(Instant::MAX, |timeout| now + timeout),
            queue_wait_max: Some(submit.queue_wait_max),
            affinity: Some(affinity),
            pin: submit.pin,
            route: Route {
                stays: client.session.stays(now),
                ..submit.route
            },
        };
        let Some(ticket) = state.pool.submit(request, caller, now, &mut state.effects) else {
            return;
        };
        client.session.submitted(env.id, env.tag, ticket);
        state.take_off(ticket, caller, now);
        if (along.entry.is_some() || along.permit.is_some() || capped.is_some())
            && let Some(flight) = state.flight(ticket)
        {
            flight.audit = along.entry;
            flight.permit = along.permit;
            flight.capped = capped;
        }
        self.carry_out(index, Some(Current { ticket, env: *env }));
        let Some(state) = self.pool(index) else { return };
        let keep = match state.pool.is_sent(ticket) {
            None => false,
            Some(sent) => !sent || submit.class.retry,
        };
        if keep && let Some(flight) = state.flight(ticket) {
            flight.bytes.clear();
            flight.bytes.extend_from_slice(frame);
            flight.sensitive = env.tag == tag::BIND_REQUEST;
        }
        if submit.bind {
            self.make_way(index);
        }
    }
}
