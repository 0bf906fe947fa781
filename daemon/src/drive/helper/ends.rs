//! How helpers become ready, and how they end.

use std::os::unix::process::ExitStatusExt;

use engine::core::Cause;

use super::figures::Exit;
use super::{Helper, HelperRef, Phase};
use crate::drive::Drive;
use crate::drive::exec::code_of;
use crate::drive::service::LastWords;

impl Drive {
    pub(super) fn helper_ready(&mut self, from: HelperRef, concurrency: u32, software: &str) {
        let now = self.now;
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        let most = u32::try_from(found.plan.concurrency).unwrap_or(u32::MAX);
        found.phase = Phase::Ready;
        found.was_ready = true;
        found.kill_at = None;
        found.concurrency = concurrency.min(most).max(1);
        found.requests_max = super::watch::requests_max(&found.plan, &mut self.rng);
        found.expires = super::watch::expires(&found.plan, now, &mut self.rng);
        software.clone_into(&mut found.software);
        let (index, expires, slots) = (found.pool, found.expires, found.concurrency);
        tracing::debug!(
            service = found.plan.name,
            pid = found.pid(),
            software,
            concurrency,
            "a helper is ready"
        );
        if let Some(expires) = expires {
            self.look_after(expires);
        }
        let Some(upstream) = self.helpers.get(from).and_then(|found| found.upstream) else {
            return;
        };
        let Some(state) = self.pool(index) else { return };
        if let Some(service) = state.service() {
            service.last_error = None;
        }
        state.pool.upstream_up_with(upstream, slots, now, &mut state.effects);
        self.carry_out(index, None);
        self.replace_if_outdated(from);
    }

    /// It has said why it cannot take calls.
    pub(super) fn helper_unable(&mut self, from: HelperRef, text: String) {
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        tracing::warn!(
            service = found.plan.name,
            pid = found.pid(),
            why = text,
            "a helper cannot take calls"
        );
        found.fault = Some(text);
        found.kill();
    }

    /// It has broken a rule of the protocol: it is killed, and its calls end when it is gone.
    pub(super) fn helper_broke(&mut self, from: HelperRef, what: &str) {
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        if found.phase == Phase::Dying {
            return;
        }
        tracing::warn!(
            service = found.plan.name,
            pid = found.pid(),
            what,
            "a helper has broken the protocol and is killed"
        );
        found.fault.get_or_insert_with(|| what.to_owned());
        found.why.get_or_insert(Exit::Crash);
        self.no_more_calls(from);
    }

    /// It has closed its socket: it has ended, or is as good as that.
    pub(super) fn helper_hung_up(&mut self, from: HelperRef) {
        let Some(found) = self.helpers.get(from) else { return };
        if found.phase != Phase::Leaving {
            self.no_more_calls(from);
        }
    }

    /// Killed, and set aside so that it gets nothing more until it is gone.
    fn no_more_calls(&mut self, from: HelperRef) {
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        let several = found.concurrency > 1 && found.phase == Phase::Ready;
        let idle = !found.calls.owes() && found.phase == Phase::Ready;
        found.kill();
        if idle {
            self.tell_pool_of_end(from, &LastWords::default());
        } else if several {
            self.set_aside_helper(from);
        }
    }

    /// The pool has killed a helper that did not come back from an interrupt.
    pub(in crate::drive) fn kill_helper(&mut self, helper: HelperRef) {
        if let Some(found) = self.helpers.get_mut(helper) {
            let leaving = found.phase == Phase::Leaving;
            found.why.get_or_insert(Exit::Timeout);
            found.kill();
            let index = found.pool;
            if !leaving && let Some(service) = self.pool(index).and_then(|state| state.service()) {
                service.killed += 1;
            }
        }
    }

    /// The pool has been begun anew: it knows nothing of this one.
    pub(in crate::drive) fn forget_helper(&mut self, helper: HelperRef) {
        if let Some(found) = self.helpers.get_mut(helper) {
            found.upstream = None;
            found.kill();
        }
    }

    /// The process has ended. What it still said counts.
    pub(super) fn helper_ended(&mut self, helper: HelperRef) {
        self.hear(helper, true);
        self.listen_to_log(helper);
        let Some(found) = self.helpers.get_mut(helper) else {
            return;
        };
        let orderly = found.phase == Phase::Leaving;
        let Some(process) = found.process.as_deref_mut() else {
            return;
        };
        if !orderly {
            // Before it is reaped: afterwards its group's number may be somebody else's.
            process.kill();
        }
        let Some(status) = process.reap() else { return };
        process.deregister(self.poll.registry());
        let exit = found.exit(orderly && status.success());
        let (index, name) = (found.pool, found.plan.name.clone());
        let words = LastWords {
            status: code_of(status),
            text: found.fault.clone(),
        };
        found.say_end(exit, status.code(), status.signal());
        self.count_exit(&name, exit);
        self.tell_pool_of_end(helper, &words);
        self.helpers.remove(helper);
        self.forget_left(index);
    }

    /// The upstream is no more; the calls that it had end with its last words.
    fn tell_pool_of_end(&mut self, helper: HelperRef, words: &LastWords) {
        let now = self.now;
        let Some(found) = self.helpers.get_mut(helper) else {
            return;
        };
        let Some(upstream) = found.upstream.take() else { return };
        let (index, exit) = (found.pool, found.why);
        let starting = !found.was_ready;
        let cause = match exit {
            _ if starting => Cause::OpenFailed,
            None | Some(Exit::Crash) => Cause::Lost,
            Some(_) => Cause::Ended,
        };
        let plan = std::sync::Arc::clone(&found.plan);
        let Some(state) = self.pool(index) else { return };
        state.take_place(upstream);
        if let Some(service) = state.service() {
            if starting {
                let program = plan.program.first().map_or("the helper", String::as_str);
                let why = words
                    .text
                    .clone()
                    .unwrap_or_else(|| format!("it ended with {} before it was ready", words.status));
                service.last_error = Some(format!("{program} could not be started: {why}"));
            }
            service.last_words = Some(words.clone());
        }
        state.pool.upstream_down(upstream, cause, now, &mut state.effects);
        self.carry_out(index, None);
        if let Some(service) = self.pool(index).and_then(|state| state.service()) {
            service.last_words = None;
        }
    }

    /// One more helper of this service has ended.
    pub(super) fn count_exit(&mut self, service: &str, exit: Exit) {
        if let Some(index) = self.find_service(service)
            && let Some(service) = self.pool(index).and_then(|state| state.service())
        {
            service.figures.exited(exit);
        }
    }
}

impl Helper {
    fn exit(&mut self, orderly: bool) -> Exit {
        let crash = if orderly { Exit::Idle } else { Exit::Crash };
        *self.why.get_or_insert(crash)
    }

    fn say_end(&self, exit: Exit, code: Option<i32>, signal: Option<i32>) {
        let (service, pid) = (&self.plan.name, self.pid());
        let (requests, fault) = (self.requests, self.fault.as_deref());
        match exit {
            Exit::Crash => tracing::warn!(service, pid, code, signal, requests, fault, "a helper has crashed"),
            Exit::Timeout => tracing::warn!(
                service,
                pid,
                requests,
                "a helper that could not be interrupted was killed"
            ),
            _ => tracing::debug!(service, pid, requests, why = exit.name(), "a helper has ended"),
        }
    }
}
