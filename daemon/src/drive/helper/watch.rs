//! What comes with time: helpers that do not get ready or do not end, that have served long enough or grown too large; calls
//! that take long.
//!
//! One moment is kept for all helpers of the worker, the earliest at which something may be due. When it comes all of them
//! are looked at, and the next one is found. A call moves it by comparing two numbers.

use std::sync::Arc;

use engine::core::rng::Rng;
use engine::core::time::{Instant, Span};
use rustix::net::sockopt::socket_peercred;

use super::calls::OpenCall;
use super::figures::Exit;
use super::{Helper, HelperRef, Phase};
use crate::config::plan::Service;
use crate::drive::Drive;
use crate::drive::pools::Caller;
use crate::drive::timers::span;
use crate::net::stream::Raw;

/// The memory of helpers that are at work is looked at so often.
pub(super) const WEIGH_EVERY: Span = Span::from_secs(3);
/// After a call it is looked at if that was not done for so long.
const WEIGH_AGAIN: Span = Span::from_millis(100);
/// A helper that has not acknowledged an interrupt is signalled again: a signal that comes between two system calls is lost.
pub(super) const INTERRUPT_AGAIN: Span = Span::from_millis(50);
/// How much sooner or later than configured helpers are replaced, so that it is not all of them at once.
const JITTER_PERCENT: u64 = 10;

impl Drive {
    /// Something may be due then.
    pub(super) fn look_after(&mut self, due: Instant) {
        self.helpers_due = Some(self.helpers_due.map_or(due, |before| before.min(due)));
    }

    /// Looks at all helpers, if the time has come.
    pub(in crate::drive) fn watch_helpers(&mut self) {
        let now = self.now;
        if self.helpers_due.is_none_or(|due| due > now) {
            return;
        }
        self.helpers_due = None;
        let all: Vec<HelperRef> = self.helpers.named().map(|(helper, _)| helper).collect();
        for helper in all {
            self.watch_helper(helper);
            if let Some(due) = self.helpers.get(helper).and_then(|found| found.due(now)) {
                self.look_after(due);
            }
        }
    }

    fn watch_helper(&mut self, helper: HelperRef) {
        let now = self.now;
        let Some(found) = self.helpers.get_mut(helper) else {
            return;
        };
        if found.kill_at.is_some_and(|at| at <= now) {
            if found.phase == Phase::Starting {
                found.why = Some(Exit::Timeout);
                let timeout = found.plan.start_timeout;
                found.fault = Some(format!("it was not ready within {timeout:?}"));
                tracing::warn!(
                    service = found.plan.name,
                    pid = found.pid(),
                    ?timeout,
                    "a helper is not ready in time"
                );
            }
            return found.kill();
        }
        if found.phase != Phase::Ready {
            return;
        }
        if found.is_deaf()
            && let Some(process) = &found.process
        {
            process.interrupt();
        }
        let worn = found.expires.is_some_and(|at| at <= now);
        let slow_log = span(found.plan.slow_log);
        let slow =
            |call: &&mut OpenCall| !call.slow && !call.over && slow_log != Span::ZERO && call.since + slow_log <= now;
        let mut slow: Vec<OpenCall> = found
            .calls
            .iter_mut()
            .filter(slow)
            .map(|call| {
                call.slow = true;
                *call
            })
            .collect();
        for call in slow.drain(..) {
            self.log_slow(helper, &call, false);
        }
        if worn {
            self.recycle_helper(helper, Exit::Recycled);
        } else {
            self.weigh_helper(helper);
        }
    }

    /// Looks at its memory, where that is bounded and was not done just before.
    pub(super) fn weigh_helper(&mut self, helper: HelperRef) {
        let now = self.now;
        let Some(found) = self.helpers.get_mut(helper) else {
            return;
        };
        let most = found.plan.memory_max as u64;
        if most == 0 || now.since(found.weighed_at) < WEIGH_AGAIN {
            return;
        }
        found.weighed_at = now;
        let Some(bytes) = found.process.as_ref().and_then(|process| process.resident_bytes()) else {
            return;
        };
        found.memory = bytes;
        if bytes > most {
            tracing::info!(
                service = found.plan.name,
                pid = found.pid(),
                bytes,
                most,
                "a helper has grown too large"
            );
            self.recycle_helper(helper, Exit::Memory);
        }
    }

    /// It finishes what it has, and is replaced.
    pub(super) fn recycle_helper(&mut self, helper: HelperRef, why: Exit) {
        let now = self.now;
        let Some(found) = self.helpers.get_mut(helper) else {
            return;
        };
        let (index, Some(upstream)) = (found.pool, found.upstream) else {
            return;
        };
        if found.phase != Phase::Ready || found.why.is_some() {
            return;
        }
        found.why = Some(why);
        if let Some(state) = self.pool(index) {
            state.pool.recycle(upstream, now, &mut state.effects);
        }
        self.carry_out(index, None);
    }

    /// The service's plan is another than the one that this helper was started with.
    pub(super) fn replace_if_outdated(&mut self, helper: HelperRef) {
        let Some(found) = self.helpers.get(helper) else { return };
        let (index, before) = (found.pool, Arc::clone(&found.plan));
        let Some(plan) = self
            .pool(index)
            .and_then(|state| Some(Arc::clone(&state.service()?.plan)))
        else {
            return;
        };
        if same_process(&plan, &before) {
            if let Some(found) = self.helpers.get_mut(helper) {
                found.plan = plan;
            }
        } else {
            self.recycle_helper(helper, Exit::Reload);
        }
    }

    /// A service has a new plan.
    pub(in crate::drive) fn replace_outdated(&mut self, index: usize) {
        let mine =
            |(helper, found): (HelperRef, &Helper)| (found.pool == index && found.upstream.is_some()).then_some(helper);
        let all: Vec<HelperRef> = self.helpers.named().filter_map(mine).collect();
        for helper in all {
            self.replace_if_outdated(helper);
        }
        if let Some(due) = self.helpers.iter().filter_map(|found| found.due(self.now)).min() {
            self.look_after(due);
        }
    }

    /// Names a call that holds a helper: never what is in it.
    pub(super) fn log_slow(&self, helper: HelperRef, call: &OpenCall, ended: bool) {
        let Some(found) = self.helpers.get(helper) else { return };
        let (service, pid, id) = (&found.plan.name, found.pid(), call.id);
        let caller = self.who_is(call.caller);
        let seconds = seconds(self.now.since(call.since));
        if ended {
            tracing::warn!(service, pid, call = id, caller, seconds, "a slow call has ended");
        } else {
            tracing::warn!(service, pid, call = id, caller, seconds, "a call holds a helper");
        }
    }

    /// A caller, for the log.
    pub(in crate::drive) fn who_is(&self, caller: Caller) -> String {
        let found = self.conns.get(caller.conn.at as usize);
        let Some(conn) = found.filter(|conn| conn.generation == caller.conn.generation) else {
            return "gone".into();
        };
        if let Some(peer) = conn.peer {
            return peer.to_string();
        }
        match conn.stream.raw() {
            Raw::Tcp(_) => "gone".into(),
            Raw::Unix(stream) => socket_peercred(stream).map_or_else(
                |_| "unix".into(),
                |peer| format!("pid {}, uid {}", peer.pid.as_raw_nonzero(), peer.uid.as_raw()),
            ),
        }
    }
}

impl Helper {
    /// It has not acknowledged the interrupt of the one call that it has.
    fn is_deaf(&self) -> bool {
        self.signals && self.concurrency == 1 && self.calls.iter().any(|call| call.interrupted)
    }

    /// When something of it is due next.
    fn due(&self, now: Instant) -> Option<Instant> {
        let ready = self.phase == Phase::Ready;
        let slow_log = span(self.plan.slow_log);
        let slow = self
            .calls
            .iter()
            .filter(|call| !call.slow && !call.over && slow_log != Span::ZERO)
            .map(|call| call.since + slow_log);
        let weigh = (ready && self.plan.memory_max > 0 && self.calls.owes()).then(|| now + WEIGH_EVERY);
        let expires = self.expires.filter(|_| ready && self.why.is_none());
        let deaf = (ready && self.is_deaf()).then(|| now + INTERRUPT_AGAIN);
        slow.chain(self.kill_at).chain(expires).chain(weigh).chain(deaf).min()
    }
}

/// After how many calls a helper is replaced.
pub(super) fn requests_max(plan: &Service, rng: &mut Rng) -> Option<u64> {
    let most = plan.requests_max as u64;
    // Finer than whole calls, so that few of them are jittered too.
    let jittered = rng.jitter(Span::from_millis(most), JITTER_PERCENT);
    (most > 0).then(|| (jittered.as_micros() / 1000).max(1))
}

/// When a helper is replaced.
pub(super) fn expires(plan: &Service, now: Instant, rng: &mut Rng) -> Option<Instant> {
    let lifetime = span(plan.lifetime);
    (lifetime != Span::ZERO).then(|| now + rng.jitter(lifetime, JITTER_PERCENT))
}

/// Seconds with milliseconds.
fn seconds(span: Span) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a duration for people")]
    let millis = (span.as_micros() / 1000) as f64;
    millis / 1000.0
}

/// Whether a process that was started by one plan would be the same by the other.
fn same_process(one: &Service, other: &Service) -> bool {
    let parts = |plan: &Service| {
        (
            (
                plan.kind,
                plan.program.clone(),
                plan.environment.clone(),
                plan.directory.clone(),
            ),
            (
                plan.user.clone(),
                plan.groups.clone(),
                plan.limits.clone(),
                plan.sandbox.clone(),
            ),
            (
                plan.shared_memory,
                plan.reply_bytes_max,
                plan.concurrency,
                plan.dbus.clone(),
            ),
        )
    };
    parts(one) == parts(other)
}
