//! Helpers: processes that stay, and take one call after the other over a socket (docs/helper-protocol.md, or with
//! `transport = "dbus"` docs/helper-dbus.md: [`Speech`]).
//!
//! A helper is *starting* from the moment the pool opens it to its `ready`, then *ready*; *leaving* once it was told goodbye,
//! which the pool does not know of any more; *dying* once it was killed. It is in the table until its process has been
//! reaped, so nothing that was started is ever lost sight of. What the pool knows as an upstream is named by
//! [`Helper::upstream`]; where that is none the pool has forgotten it, and hears no more of it.
//!
//! What a helper does wrong kills that helper. The callers that it had are told by the pool, when the process is gone and
//! its status known, and nobody else notices.
//!
//! Per call there is one write and one read of the helper's socket; a helper that owes nothing is not read. No call
//! allocates. What a face has read is in the flight, and goes from there into the kernel (or the shared memory); what the
//! helper says goes from the read datagram into the client's outbox, or if it is large at once to the client.

pub mod calls;
pub mod dbus;
mod ends;
pub mod figures;
mod log;
mod receive;
mod send;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;

use engine::core::time::Instant;
use engine::core::{Cause, UpstreamId};

use super::Drive;
use super::places::PlaceRef;
use super::pools::Place;
use super::timers::span;
use crate::config::plan::{Service, Transport};
use crate::spawner::{self, For, Spawner};
use calls::Calls;
use dbus::Dialog;
use figures::Exit;
use log::Lines;
use send::Outgoing;

/// See [`super::places::Places::new`].
pub const TOKEN_BIT: u32 = 2;

/// Names a helper for good.
pub type HelperRef = PlaceRef;

/// A helper was started, or could not be.
#[derive(Debug)]
pub struct Started {
    /// Which.
    pub helper: HelperRef,
    /// Its process, or why there is none.
    pub process: Result<Box<spawner::Helper>, String>,
}

/// Where a helper is in its life; see the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It has not said `ready`.
    Starting,
    /// It takes calls.
    Ready,
    /// It was told goodbye.
    Leaving,
    /// It was killed.
    Dying,
}

/// How a helper is spoken to. What both have in common, which is all that the pool sees, does not ask.
#[derive(Debug)]
enum Speech {
    /// Our protocol: datagrams, and shared memory.
    Ours,
    /// A stream of D-Bus.
    Dbus(Box<Dialog>),
}

/// One helper, from the moment it is asked for until it is reaped.
#[derive(Debug)]
pub struct Helper {
    /// Its service's pool.
    pub pool: usize,
    /// Its name there, while the pool knows it.
    pub upstream: Option<UpstreamId>,
    /// What it was started with.
    pub plan: Arc<Service>,
    /// None: it is being started.
    pub process: Option<Box<spawner::Helper>>,
    /// See [`Phase`].
    pub phase: Phase,
    /// When it was asked for.
    pub since: Instant,
    /// Killed then, if it is still starting or leaving.
    pub kill_at: Option<Instant>,
    /// What it has.
    pub calls: Calls,
    /// How many calls at once it declared.
    pub concurrency: u32,
    /// With a call that is interrupted it gets SIGINT, where it has no other.
    signals: bool,
    /// Calls that it has ended.
    pub requests: u64,
    /// After so many it is replaced.
    pub requests_max: Option<u64>,
    /// After this it is replaced.
    pub expires: Option<Instant>,
    /// Its resident memory when last seen, bytes.
    pub memory: u64,
    /// When that was.
    pub weighed_at: Instant,
    /// Why it goes, where we said so.
    pub why: Option<Exit>,
    /// What it did wrong, or why it cannot take calls.
    pub fault: Option<String>,
    /// It was ready once.
    pub was_ready: bool,
    /// Its name and version, as it says.
    pub software: String,
    speech: Speech,
    /// What could not be written yet.
    backlog: VecDeque<Outgoing>,
    /// It is not read until a client has read what waits for it.
    choked: bool,
    lines: Lines,
    /// It is in the list of those to be looked at again.
    again: bool,
}

/// Which of a helper's descriptors, in the order of their tokens.
const SOCKET: usize = 0;
const LOG: usize = 1;
const EXIT: usize = 2;

impl Helper {
    fn new(pool: usize, upstream: UpstreamId, plan: Arc<Service>, now: Instant) -> Self {
        let speech = match plan.transport() {
            Transport::Seqpacket => Speech::Ours,
            Transport::Dbus => Speech::Dbus(Box::default()),
        };
        Helper {
            pool,
            upstream: Some(upstream),
            // A helper that speaks D-Bus says whether.
            signals: matches!(speech, Speech::Ours),
            speech,
            kill_at: Some(now + span(plan.start_timeout)),
            plan,
            process: None,
            phase: Phase::Starting,
            since: now,
            calls: Calls::default(),
            concurrency: 1,
            requests: 0,
            requests_max: None,
            expires: None,
            memory: 0,
            weighed_at: now,
            why: None,
            fault: None,
            was_ready: false,
            software: String::new(),
            backlog: VecDeque::new(),
            choked: false,
            lines: Lines::default(),
            again: false,
        }
    }

    /// Its process id; 0 while it is being started.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, |process| process.id())
    }

    /// It has something to say.
    fn owes(&self) -> bool {
        self.phase == Phase::Starting || self.calls.owes()
    }

    /// From now on it only has to end.
    fn kill(&mut self) {
        self.phase = Phase::Dying;
        self.kill_at = None;
        self.backlog.clear();
        if let Some(process) = &self.process {
            process.kill();
        }
    }
}

impl Drive {
    /// The pool wants a helper.
    pub(super) fn open_helper(&mut self, index: usize, upstream: UpstreamId) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let Some(service) = state.service() else { return };
        service.figures.starts += 1;
        let plan = Arc::clone(&service.plan);
        let due = now + span(plan.start_timeout);
        let helper = self
            .helpers
            .insert(Helper::new(index, upstream, Arc::clone(&plan), now));
        if let Some(state) = self.pool(index) {
            state.set_place(upstream, Place::Helper(helper));
        }
        self.look_after(due);
        if let Err(why) = self.ask_spawner(For::Helper(helper), plan) {
            self.helper_not_started(helper, why);
        }
    }

    /// The spawner has started a helper, or could not.
    pub(super) fn helper_started(&mut self, started: Started) {
        let Started { helper, process } = started;
        let tokens = [SOCKET, LOG, EXIT].map(|which| self.helpers.token(helper, which));
        let index = match process {
            Ok(mut process) => {
                let Some(found) = self.helpers.get_mut(helper) else {
                    return;
                };
                if let Err(error) = process.register(self.poll.registry(), tokens) {
                    process.kill();
                    process.deregister(self.poll.registry());
                    return self.helper_not_started(helper, &error.to_string());
                }
                if found.phase == Phase::Dying {
                    process.kill();
                }
                found.process = Some(process);
                let index = found.pool;
                // What it did before it was registered makes no edge.
                self.hear(helper, true);
                self.listen_to_log(helper);
                index
            }
            Err(why) => {
                let Some(index) = self.helpers.get(helper).map(|found| found.pool) else {
                    return;
                };
                self.helper_not_started(helper, &why);
                index
            }
        };
        self.carry_out(index, None);
        self.forget_left(index);
    }

    fn helper_not_started(&mut self, helper: HelperRef, why: &str) {
        let now = self.now;
        let Some(found) = self.helpers.remove(helper) else {
            return;
        };
        let program = found.plan.program.first().map_or("the program", String::as_str);
        tracing::warn!(service = found.plan.name, program, why, "a helper could not be started");
        let text = format!("{program} could not be started: {why}");
        self.count_exit(&found.plan.name, Exit::Crash);
        let Some(upstream) = found.upstream else { return };
        let Some(state) = self.pool(found.pool) else { return };
        state.take_place(upstream);
        if let Some(service) = state.service() {
            service.last_error = Some(text);
        }
        state
            .pool
            .upstream_down(upstream, Cause::OpenFailed, now, &mut state.effects);
    }

    /// Something can be done with one of a helper's descriptors, or it is looked at again.
    pub(super) fn helper_event(&mut self, token: usize, readable: bool, writable: bool, closed: bool) {
        let Some((helper, which)) = self.helpers.of_token(token) else {
            return;
        };
        match which {
            SOCKET => {
                if let Some(found) = self.helpers.get_mut(helper) {
                    found.again = false;
                }
                if writable {
                    self.flush_helper(helper);
                }
                if readable || closed {
                    self.hear(helper, closed);
                }
            }
            LOG => self.listen_to_log(helper),
            _ => self.helper_ended(helper),
        }
    }

    pub(super) fn look_at_helper_again(&mut self, helper: HelperRef) {
        let token = self.helpers.token(helper, SOCKET).0;
        if let Some(found) = self.helpers.get_mut(helper)
            && !found.again
        {
            found.again = true;
            self.again.push(token);
        }
    }

    /// Something about this helper has made us panic: it is killed.
    pub(super) fn helper_panicked(&mut self, token: usize) {
        if let Some((helper, _)) = self.helpers.of_token(token)
            && let Some(found) = self.helpers.get_mut(helper)
        {
            found.kill();
        }
    }

    /// Asks the thread that starts programs.
    pub(super) fn ask_spawner(&mut self, whom: For, plan: Arc<Service>) -> Result<(), &'static str> {
        let spawner = match &self.spawner {
            Some(spawner) => spawner,
            None => match Spawner::start(Arc::clone(&self.inbox)) {
                Ok(spawner) => self.spawner.insert(spawner),
                Err(error) => {
                    tracing::error!(%error, "no thread for starting programs");
                    return Err("there is no thread to start it");
                }
            },
        };
        spawner.ask(whom, plan)
    }
}
