//! RADIUS listeners: on each worker a socket and a front (`engine/src/session/radius/`) of their own.
//!
//! Datagrams are received in batches, each is told to the front, and what the front wants done is done at once; answers are
//! gathered, and sent in batches at the end of the turn. The kernel gives a packet and its duplicates to the same worker.
//! Who is asked may live on other workers: see `asking`.
//!
//! A listener that goes (drain, reload) is not read any more, answers what it has, and is closed then.

mod asking;
mod drops;
mod report;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine::core::Drain;
use engine::core::time::{Instant, Span};
use engine::password::{Check, Verdict};
use engine::radius::Path;
use engine::radius::policy::Moment;
use engine::session::radius::{Effect, Front, RequestId};
use mio::Token;

use super::timers::span;
use super::{Drive, Job};
use crate::accounting::{Handle, Record, Ticket};
use crate::config::plan::{self, Face};
use crate::net::datagram::{Batch, Socket};
use asking::Asking;
pub use asking::{CanceledRequest, RadiusAsk, RadiusTold};
use drops::Drops;
pub use report::RadiusReport;

/// What all tokens of these sockets have in common, and nobody else's have.
const TOKEN_BASE: usize = 1 << (usize::BITS - 1 - 3);
/// Datagrams received at once, and the longest: no RADIUS packet is longer.
const BATCH_DATAGRAMS: usize = 64;
const BATCH_BYTES: usize = wire::radius::PACKET_BYTES_MAX;
/// Batches taken from one socket before the others are looked at.
const TURN_BATCHES: usize = 4;
/// A batch of so many shows that more are on their way: the next is taken after a pause, so that it is larger. Each wake costs
/// more than a datagram does. Giving up the CPU instead of pausing (sched_yield) halved what was answered where others want it too.
const BUSY_DATAGRAMS: usize = 8;

/// What came since a socket was last found empty is no older than that: below this nobody asks the kernel how old it is. Clients
/// wait for seconds.
const FRESH: Span = Span::from_millis(2);

/// A listener on this worker.
#[derive(Debug)]
struct Listener {
    id: u64,
    face: Arc<plan::Radius>,
    socket: Socket,
    front: Front,
    /// Where accounting records are left.
    records: Option<Handle>,
    /// Answers that are to be sent at the end of the turn, and their octets.
    answers: Vec<(Path, Range<usize>)>,
    out: Vec<u8>,
    drops: Drops,
    unsent: u64,
    /// When the front was told the local time.
    timed_at: Instant,
    /// There may be more to read.
    readable: bool,
    /// There soon will be.
    busy: bool,
    /// Nothing was left to read then.
    emptied_at: Instant,
    /// Events are awaited.
    watched: bool,
    /// One request was all that was received last.
    lone: bool,
    leaving: bool,
    /// What waits is not read for now.
    held: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Radius {
    listeners: Vec<Option<Listener>>,
    /// Made when first something is read, and after a panic that has taken it along.
    batch: Option<Batch>,
    asking: Asking,
    /// Some listener has something to send, to read, or to end.
    touched: bool,
    /// How long there is nothing to do before the next turn, since a listener is busy.
    pause: Duration,
}

impl Radius {
    fn of(&mut self, id: u64) -> Option<&mut Listener> {
        self.listeners.iter_mut().flatten().find(|listener| listener.id == id)
    }

    fn at(&mut self, index: usize) -> Option<&mut Listener> {
        self.listeners.get_mut(index)?.as_mut()
    }

    fn position(&self, id: u64) -> Option<usize> {
        let is = |listener: &Option<Listener>| listener.as_ref().is_some_and(|listener| listener.id == id);
        self.listeners.iter().position(is)
    }

    /// When a front has something to do.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.listeners
            .iter()
            .flatten()
            .filter_map(|one| one.front.wake_at())
            .min()
    }

    /// Whether a turn is to follow at once.
    pub(super) fn is_restless(&self) -> bool {
        self.touched
    }

    /// Before a new turn, when all is sent: lets more requests come where there are many (`moderation`).
    pub(super) fn pause(&mut self) {
        let pause = std::mem::take(&mut self.pause);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }

    /// What a panic in the middle of a turn takes along.
    #[cfg(test)]
    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        self.batch.take()
    }

    /// A new turn.
    pub(super) fn turn(&mut self) {
        self.asking.turn();
    }
}

impl Drive {
    /// A listener's socket has come.
    pub(super) fn radius_opened(&mut self, id: u64, mut socket: Socket, records: Option<Handle>) {
        let found = self.plan.as_ref().and_then(|plan| {
            let mut listeners = plan.listeners.iter();
            listeners.find(|listener| super::listener_id(listener) == id).cloned()
        });
        let Some(Face::Radius(face)) = found.as_deref().map(|listener| &listener.face) else {
            return self.shared.socket_gone();
        };
        let free = self.radius.listeners.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.radius.listeners.push(None);
            self.radius.listeners.len() - 1
        });
        let Some(seed) = chance() else {
            tracing::error!("the system gives no random numbers: a radius listener cannot be served");
            return self.shared.socket_gone();
        };
        if let Err(error) = socket.register(self.poll.registry(), Token(TOKEN_BASE | index)) {
            tracing::error!(%error, "a radius socket cannot be waited for");
            return self.shared.socket_gone();
        }
        let listener = Listener {
            id,
            front: Front::new(Arc::clone(&face.plan), seed),
            face: Arc::clone(face),
            socket,
            records,
            answers: Vec::new(),
            out: Vec::new(),
            drops: Drops::default(),
            unsent: 0,
            timed_at: Instant::ZERO,
            readable: true,
            busy: false,
            emptied_at: Instant::ZERO,
            watched: true,
            lone: false,
            leaving: self.draining.is_some(),
            held: false,
        };
        if let Some(place) = self.radius.listeners.get_mut(index) {
            *place = Some(listener);
        }
        self.radius.touched = true;
        // What another process has left in it lay there while this worker slept.
        self.slept_from = None;
        self.watch_radius();
    }

    /// The listeners of a (new) plan.
    pub(super) fn apply_radius(&mut self, plan: &plan::Plan) {
        for listener in self.radius.listeners.iter_mut().flatten() {
            let mut all = plan.listeners.iter();
            let new = all.find(|new| super::listener_id(new) == listener.id);
            match new.map(|new| &new.face) {
                Some(Face::Radius(face)) if !Arc::ptr_eq(face, &listener.face) => {
                    listener.front.configure(Arc::clone(&face.plan));
                    listener.face = Arc::clone(face);
                    listener.drops.clients_changed();
                }
                Some(Face::Radius(_)) => {}
                _ => {
                    listener.leaving = true;
                    self.radius.touched = true;
                }
            }
        }
        self.watch_radius();
    }

    /// Waits for requests wherever they are to be read, and nowhere else: a socket tells of what is in it for as long as it is.
    fn watch_radius(&mut self) {
        let registry = self.poll.registry();
        let listeners = self.radius.listeners.iter_mut().enumerate();
        for (index, listener) in listeners.filter_map(|(index, listener)| Some((index, listener.as_mut()?))) {
            let wanted = !listener.leaving && !listener.held;
            if wanted == listener.watched {
                continue;
            }
            let done = if wanted {
                listener.socket.register(registry, Token(TOKEN_BASE | index))
            } else {
                listener.socket.deregister(registry)
            };
            match done {
                Ok(()) => listener.watched = wanted,
                Err(error) => tracing::error!(%error, "a radius socket cannot be waited for"),
            }
        }
    }

    /// An event of a socket; whether it is one of these.
    pub(super) fn radius_event(&mut self, token: usize) -> bool {
        let index = token ^ TOKEN_BASE;
        let Some(listener) = self.radius.at(index) else {
            return index < TOKEN_BASE && token & TOKEN_BASE != 0;
        };
        listener.readable = true;
        self.radius_readable(index);
        true
    }

    fn radius_readable(&mut self, index: usize) {
        let batch = self.radius.batch.take();
        let mut batch = batch.unwrap_or_else(|| Batch::new(BATCH_DATAGRAMS, BATCH_BYTES));
        self.radius.touched = true;
        let (now, slept_from) = (self.now, self.slept_from);
        for _ in 0..TURN_BATCHES {
            let Some(listener) = self.radius.at(index) else { break };
            if listener.leaving || listener.held || !listener.readable {
                break;
            }
            if let Some(from) = slept_from {
                listener.emptied_at = from;
            }
            let fresh = now.since(listener.emptied_at) < FRESH;
            // Where another has come too, the worker does not sleep before the next turn, which takes all.
            let alone = slept_from.is_some() && listener.lone;
            let received = if alone {
                listener.socket.receive_one(&mut batch, fresh)
            } else {
                listener.socket.receive(&mut batch, fresh)
            };
            if !alone && received.as_ref().is_ok_and(|received| *received < BATCH_DATAGRAMS) {
                listener.emptied_at = now;
            }
            match received {
                Ok(0) => listener.readable = false,
                Ok(received) => {
                    listener.readable = received == BATCH_DATAGRAMS;
                    listener.lone = received == 1;
                    listener.busy = (BUSY_DATAGRAMS..BATCH_DATAGRAMS).contains(&received);
                    self.radius_batch(index, &batch);
                    batch.wipe();
                }
                Err(error) => {
                    listener.readable = false;
                    tracing::warn!(%error, "a radius socket cannot be read");
                }
            }
        }
        self.radius.batch = Some(batch);
    }

    fn radius_batch(&mut self, index: usize, batch: &Batch) {
        let now = self.now;
        self.radius_time(index);
        for datagram in batch.iter() {
            let Some(listener) = self.radius.at(index) else { return };
            let received_at = datagram.age.map_or(now, |age| before(now, age));
            if datagram.truncated {
                // RFC 2865 section 3: what is behind the packet is padding.
                tracing::debug!(from = %datagram.path.from, "a datagram is longer than any RADIUS packet");
            }
            let out = &mut listener.out;
            listener
                .front
                .received(datagram.bytes, &datagram.path, received_at, now, out);
            self.radius_effects(index);
        }
    }

    /// Does what a front wants done.
    fn radius_effects(&mut self, index: usize) {
        self.radius.touched = true;
        while let Some(listener) = self.radius.at(index)
            && let Some(effect) = listener.front.effect()
        {
            let id = listener.id;
            match effect {
                Effect::Send { path, bytes } => listener.answers.push((path, bytes)),
                Effect::Dropped { client, path, why } => {
                    let plan = &listener.face.plan;
                    let name = client
                        .and_then(|id| plan.clients.get(id))
                        .map(|client| client.name.as_str());
                    listener.drops.dropped(client, name, path, why, self.now);
                }
                Effect::Ask {
                    request,
                    pool,
                    deadline,
                    question,
                } => self.radius_ask(id, request, pool, deadline, question),
                Effect::Compare { request, check } => self.radius_compare(id, request, check),
                Effect::Trace { trace, line } => {
                    tracing::info!(trace, listener = %listener.socket.local_addr(), "{line}");
                    self.shared.traces.say(format!("{trace:>4}  {line}"));
                }
                Effect::Cancel { request } => self.radius_cancel(id, request),
                Effect::Record { request } => self.radius_record(index, request),
            }
        }
    }

    /// An accounting record is to be written.
    fn radius_record(&mut self, index: usize, request: RequestId) {
        let (now, worker) = (self.now, self.number as u64);
        let Some(listener) = self.radius.at(index) else { return };
        let Some(record) = listener.front.record(request) else {
            return;
        };
        let record = Record {
            ticket: Ticket {
                worker,
                listener: listener.id,
                request: request.to_bits(),
            },
            packet: record.packet.as_bytes().to_vec(),
            client: record.client.to_owned(),
            from: record.path.from,
            to: record.path.to,
            received: SystemTime::now(),
        };
        let taken = listener
            .records
            .as_ref()
            .is_some_and(|records| records.push(record).is_ok());
        if !taken {
            listener.front.written(request, false, now, &mut listener.out);
        }
    }

    /// Records go elsewhere.
    pub(super) fn radius_records(&mut self, id: u64, records: Option<Handle>) {
        if let Some(listener) = self.radius.of(id) {
            listener.records = records;
        }
    }

    /// What became of records.
    pub(super) fn radius_written(&mut self, id: u64, written: &[(RequestId, bool)]) {
        let now = self.now;
        let Some(index) = self.radius.position(id) else { return };
        for (request, done) in written {
            if let Some(listener) = self.radius.at(index) {
                listener.front.written(*request, *done, now, &mut listener.out);
                self.radius_effects(index);
            }
        }
    }

    /// A password that takes its time is compared elsewhere.
    fn radius_compare(&mut self, id: u64, request: RequestId, check: Check) {
        let Some(inbox) = self.shared.inbox(self.number).cloned() else {
            return;
        };
        let until = self
            .radius
            .of(id)
            .map_or(self.now, |one| self.now + one.face.plan.settings.request_timeout);
        let shared = Arc::clone(&self.shared);
        let wanted = move || shared.clock.now() < until;
        let then = move |verdict: Option<Verdict>| match verdict {
            // A worker that has no room for this has none for anything.
            Some(verdict) => inbox.push_always(Job::RadiusCompared {
                listener: id,
                request,
                verdict,
            }),
            None => tracing::warn!("too many passwords wait to be compared: a RADIUS request gets no answer"),
        };
        self.shared.passwords.compare(check, wanted, Box::new(then));
    }

    /// A password was compared.
    pub(super) fn radius_compared(&mut self, id: u64, request: RequestId, verdict: Verdict) {
        let now = self.now;
        let Some(index) = self.radius.position(id) else { return };
        if let Some(listener) = self.radius.at(index) {
            listener.front.compared(request, verdict, now, &mut listener.out);
            self.radius_effects(index);
        }
    }

    /// Tells the local time where rules ask for it, once a second at most.
    fn radius_time(&mut self, index: usize) {
        let now = self.now;
        let Some(listener) = self.radius.at(index) else { return };
        if !listener.face.plan.policy.needs_time() || now.since(listener.timed_at) < Span::from_secs(1) {
            return;
        }
        listener.timed_at = now;
        let local = jiff::Zoned::now();
        let weekday = local.weekday().to_monday_zero_offset().unsigned_abs();
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        if let Some(moment) = Moment::new(weekday, minute) {
            listener.front.local_time(moment);
        }
    }

    /// What is due.
    pub(super) fn tick_radius(&mut self) {
        let now = self.now;
        for index in 0..self.radius.listeners.len() {
            if let Some(listener) = self.radius.at(index)
                && listener.front.wake_at().is_some_and(|at| at <= now)
            {
                listener.front.tick(now, &mut listener.out);
                self.radius_effects(index);
            }
        }
    }

    /// The end of a turn: answers are sent, sockets with more to read are read on, what is done with is closed.
    pub(super) fn flush_radius(&mut self) {
        if !std::mem::take(&mut self.radius.touched) {
            return;
        }
        for index in 0..self.radius.listeners.len() {
            let Some(listener) = self.radius.at(index) else {
                continue;
            };
            if !listener.answers.is_empty() {
                let sent = listener.socket.send(&listener.answers, &listener.out);
                listener.unsent += (listener.answers.len() - sent.sent) as u64;
                listener.answers.clear();
                listener.out.clear();
            }
            let moderation = listener.face.moderation;
            let pauses = std::mem::take(&mut listener.busy) && !moderation.is_zero();
            listener.readable |= pauses;
            let restless = listener.readable && !listener.leaving && !listener.held;
            if listener.leaving && (listener.front.waiting() == 0 || self.draining >= Some(Drain::Firm)) {
                self.radius_close(index);
            }
            self.radius.touched |= restless;
            if restless && pauses {
                self.radius.pause = self.radius.pause.max(moderation);
            }
        }
    }

    /// Sockets that were left with something to read.
    pub(super) fn look_at_radius_again(&mut self) {
        if !self.radius.touched {
            return;
        }
        for index in 0..self.radius.listeners.len() {
            if self.radius.at(index).is_some_and(|listener| listener.readable) {
                self.radius_readable(index);
            }
        }
    }

    /// Takes no new requests, ends what there is.
    pub(super) fn drain_radius(&mut self) {
        for listener in self.radius.listeners.iter_mut().flatten() {
            listener.leaving = true;
            self.radius.touched = true;
        }
        self.watch_radius();
    }

    /// The sockets once more, for another process.
    pub(super) fn lend_radius(&self) -> impl Iterator<Item = (u64, io::Result<OwnedFd>)> {
        let all = self.radius.listeners.iter().flatten();
        all.map(|listener| (listener.id, listener.socket.as_fd().try_clone_to_owned()))
    }

    /// Requests whose accounting is kept are left where they wait, or read again.
    pub(super) fn hold_radius(&mut self, hold: bool) {
        for listener in self.radius.listeners.iter_mut().flatten() {
            listener.held = hold && listener.records.is_some();
            listener.readable |= !hold;
            self.radius.touched = true;
        }
        // What was held lay there while this worker slept.
        self.slept_from = None;
        self.watch_radius();
    }

    fn radius_close(&mut self, index: usize) {
        let Some(mut listener) = self.radius.listeners.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.radius_cancel_all(listener.id);
        // Closing it does the same.
        let _ = listener.socket.deregister(self.poll.registry());
        self.shared.socket_gone();
    }
}

/// So long ago.
fn before(now: Instant, age: Duration) -> Instant {
    Instant::from_micros(now.as_micros().saturating_sub(span(age).as_micros()))
}

/// Chance of the operating system's.
pub fn chance() -> Option<u64> {
    let mut random = [0; 8];
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.secure_random.fill(&mut random).ok()?;
    Some(u64::from_le_bytes(random))
}
