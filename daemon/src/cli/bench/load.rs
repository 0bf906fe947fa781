//! One thread of load: an event loop over its share of the connections.
//!
//! The loop shares the machine with what it measures, so it does what the best client could do and no more: one wait,
//! one read per readiness, one write per connection and turn, nothing allocated per operation.
//!
//! Phases only move forward: Open -> (Warm ->) Measure -> Drain. In Open, connections are made and bound, and a failure
//! ends the run with its reason; from then on it is counted and tried again. In Drain nothing new is asked, and the
//! answers that are due are waited for. What a connection does is in `operation.rs`.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::ledger::Ledger;
use super::pace::{Random, Schedule};
use super::plan::{Mode, Plan};
use super::shared::{Event, Phase, Shared};
use super::stream::{Buffers, Stream};
use super::tally::{Tally, reason};

/// How far one connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Closed,
    Connecting,
    StartTls,
    /// The bind that makes it ready is under way.
    Binding,
    Ready,
    /// A bind within a mixed load is under way; nothing else may be sent (RFC 4511 section 4.2.1).
    Rebinding,
}

/// One connection and what it has under way.
pub(super) struct Connection {
    pub(super) stream: Option<Stream>,
    pub(super) stage: Stage,
    pub(super) ledger: Ledger,
    /// The beginning of a message whose end has not arrived.
    pub(super) partial: Vec<u8>,
    /// Requests to be written.
    pub(super) out: Vec<u8>,
    /// The n of the identity it is bound as; none while it is anonymous.
    pub(super) bound_as: Option<u32>,
    /// In mode connect: when the present operation was (meant to be) begun.
    pub(super) start_ns: u64,
    /// A bind that waits until nothing is pending, and its start.
    pub(super) wants_bind: Option<u64>,
    /// An operation to be abandoned before the next one is sent.
    pub(super) abandon_later: Option<i32>,
    /// Stands in `Load::free`.
    in_free: bool,
}

/// One thread's load.
pub(super) struct Load<'a> {
    pub(super) plan: &'a Plan,
    shared: &'a Shared,
    events: Sender<Event>,
    thread: u32,
    poll: Poll,
    epoch: Instant,
    pub(super) phase: Phase,
    pub(super) connections: Vec<Connection>,
    pub(super) tally: Tally,
    pub(super) random: Random,
    /// Connections to open, bounded at a time by OPENING_MAX so that no listen queue overflows.
    to_open: VecDeque<usize>,
    opening: usize,
    ready: usize,
    /// Connections to open again, and from when on; in order.
    retries: VecDeque<(u64, usize)>,
    /// Since when no connection has become ready for binds that were answered with busy.
    busy_since_ns: Option<u64>,
    /// Fixed rate: connections that can take an operation, each at most once.
    free: VecDeque<usize>,
    schedule: Option<Schedule>,
    dirty: Vec<usize>,
    /// Connections whose last read filled the buffer.
    again: Vec<usize>,
    quota: Option<u64>,
    pub(super) answered: u64,
    pub(super) failed: u64,
    drain_until_ns: u64,
}

const OPENING_MAX: usize = 128;
const RETRY_NS: u64 = 50_000_000;
/// Longer than a balancer is busy with the binds of all connections that are being opened.
const BUSY_NS_MAX: u64 = 5_000_000_000;
/// So that a connection which always has more to read does not keep the others waiting.
const READS_PER_TURN: usize = 16;
/// Nothing waits longer for a phase to be noticed, should a wake-up fail.
const WAIT_MAX: Duration = Duration::from_secs(1);
pub(super) const WAKE: Token = Token(usize::MAX);

impl<'a> Load<'a> {
    /// Prepares the load of one thread; nothing is connected yet. The waker makes it look at the phase.
    ///
    /// # Errors
    /// When the kernel gives no epoll instance.
    pub(super) fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        events: Sender<Event>,
        thread: u32,
    ) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let share = plan.share(thread);
        let connection = || Connection {
            stream: None,
            stage: Stage::Closed,
            ledger: Ledger::new(plan.depth),
            partial: Vec::new(),
            out: Vec::new(),
            bound_as: None,
            start_ns: 0,
            wants_bind: None,
            abandon_later: None,
            in_free: false,
        };
        let load = Load {
            plan,
            shared,
            events,
            thread,
            poll,
            epoch: Instant::now(),
            phase: Phase::Open,
            connections: (0..share.connections).map(|_| connection()).collect(),
            tally: Tally::new(),
            random: Random::new(plan.seed, thread),
            to_open: VecDeque::new(),
            opening: 0,
            ready: 0,
            retries: VecDeque::new(),
            busy_since_ns: None,
            free: VecDeque::new(),
            schedule: None,
            dirty: Vec::new(),
            again: Vec::new(),
            quota: share.operations,
            answered: 0,
            failed: 0,
            drain_until_ns: u64::MAX,
        };
        Ok((load, waker))
    }

    /// Runs until the run is drained, and gives what was counted.
    pub(super) fn run(mut self) -> Tally {
        let mut buffers = Buffers::new();
        let mut events = Events::with_capacity(1024);
        if self.plan.mode == Mode::Connect {
            self.tell(Event::Ready);
        } else {
            self.to_open.extend(0..self.connections.len());
        }
        loop {
            let phase = self.shared.phase();
            if phase != self.phase {
                self.enter(phase);
            }
            if phase == Phase::Drain && self.is_drained() {
                break;
            }
            self.open_more();
            self.dispatch();
            self.publish();
            if let Err(error) = self.wait(&mut events) {
                self.tell(Event::Failed(format!("waiting for the network: {error}")));
                break;
            }
            for event in &events {
                if event.token() != WAKE {
                    self.ready_for(event.token().0, event, &mut buffers);
                }
            }
            for at in std::mem::take(&mut self.again) {
                self.receive(at, false, &mut buffers);
            }
        }
        self.close_all();
        self.publish();
        self.tally
    }

    /// Nanoseconds since the thread began.
    pub(super) fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether operations are to be sent now.
    pub(super) fn is_loading(&self) -> bool {
        matches!(self.phase, Phase::Warm | Phase::Measure) && self.plan.mode != Mode::Idle && !self.is_quota_spent()
    }

    pub(super) fn is_paced(&self) -> bool {
        self.plan.rate.is_some()
    }

    /// Whether as many operations were measured as were asked for.
    pub(super) fn is_quota_spent(&self) -> bool {
        self.quota == Some(0)
    }

    /// Counts one measured operation against the quota.
    pub(super) fn measured(&mut self) {
        if let Some(left @ 1..) = &mut self.quota {
            *left -= 1;
            if *left == 0 {
                self.tell(Event::QuotaReached);
            }
        }
    }

    fn tell(&self, event: Event) {
        // The director has gone only when the run is over.
        let _ = self.events.send(event);
    }

    fn enter(&mut self, phase: Phase) {
        let begins = self.phase == Phase::Open && phase != Phase::Drain;
        self.phase = phase;
        let now = self.now_ns();
        if begins {
            if let Some(rate) = self.plan.rate {
                self.schedule = Some(Schedule::new(now, rate, self.plan.threads, self.thread));
            }
            for at in 0..self.connections.len() {
                self.offer(at, now);
            }
        }
        if phase == Phase::Drain {
            let grace = u64::try_from(self.plan.grace.as_nanos()).unwrap_or(u64::MAX);
            self.drain_until_ns = now.saturating_add(grace);
            self.tally.not_sent += self
                .schedule
                .as_ref()
                .map_or(0, |schedule| schedule.due_and_not_taken(now));
        }
    }

    /// A connection may have become able to take operations: lets it.
    pub(super) fn offer(&mut self, at: usize, now: u64) {
        if !self.is_loading() {
            return;
        }
        if !self.is_paced() {
            while self.can_take(at) && self.issue(at, now) {}
            self.flush(at);
            return;
        }
        if !self.can_take(at) {
            return;
        }
        if let Some(connection) = self.connections.get_mut(at)
            && !std::mem::replace(&mut connection.in_free, true)
        {
            self.free.push_back(at);
        }
    }

    fn can_take(&self, at: usize) -> bool {
        let Some(connection) = self.connections.get(at) else {
            return false;
        };
        match (self.plan.mode, connection.stage) {
            (Mode::Connect, Stage::Closed) => true,
            (Mode::Connect, _) => false,
            (_, Stage::Ready) => connection.wants_bind.is_none() && connection.ledger.pending() < self.plan.depth,
            _ => false,
        }
    }

    /// At a fixed rate: sends what is due, as far as connections are free.
    fn dispatch(&mut self) {
        if !self.is_loading() {
            return;
        }
        let now = self.now_ns();
        while let Some(due) = self.schedule.as_ref().map(Schedule::next_ns).filter(|due| *due <= now) {
            let Some(at) = self.free.pop_front() else { break };
            if let Some(connection) = self.connections.get_mut(at) {
                connection.in_free = false;
            }
            if !self.can_take(at) {
                continue;
            }
            self.issue(at, due);
            self.dirty.push(at);
            if let Some(schedule) = &mut self.schedule {
                schedule.taken += 1;
            }
            self.offer(at, now);
        }
        for at in std::mem::take(&mut self.dirty) {
            self.flush(at);
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now = self.now_ns();
        let mut until = now.saturating_add(u64::try_from(WAIT_MAX.as_nanos()).unwrap_or(u64::MAX));
        if let Some((retry, _)) = self.retries.front() {
            until = until.min(*retry);
        }
        if self.phase == Phase::Drain {
            until = until.min(self.drain_until_ns);
        }
        let due = self
            .schedule
            .as_ref()
            .filter(|_| self.is_loading() && !self.free.is_empty())
            .map(Schedule::next_ns);
        if let Some(due) = due {
            until = until.min(due);
        }
        let mut timeout = Duration::from_nanos(until.saturating_sub(now));
        if !self.again.is_empty() {
            timeout = Duration::ZERO;
        }
        if due.is_some() && !timeout.is_zero() {
            // mio rounds up to milliseconds, which would make a paced load wrong by half of one; poll(2) does not.
            let timespec = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
            let mut epoll = [PollFd::new(self.poll.registry(), PollFlags::IN)];
            if let Err(error) = rustix::event::poll(&mut epoll, Some(&timespec))
                && error != rustix::io::Errno::INTR
            {
                return Err(error.into());
            }
            timeout = Duration::ZERO;
        }
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            result => result,
        }
    }

    fn open_more(&mut self) {
        if self.phase == Phase::Drain {
            return;
        }
        let now = self.now_ns();
        while let Some((_, at)) = self.retries.pop_front_if(|(from, _)| *from <= now) {
            if self.plan.mode == Mode::Connect {
                self.offer(at, now);
            } else {
                self.to_open.push_back(at);
            }
        }
        while self.opening < OPENING_MAX {
            let Some(at) = self.to_open.pop_front() else { break };
            self.opening += 1;
            self.open(at, now);
        }
    }

    /// Begins to connect.
    pub(super) fn open(&mut self, at: usize, start_ns: u64) {
        let result = Stream::connect(&self.plan.address, self.poll.registry(), Token(at));
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        connection.start_ns = start_ns;
        connection.stage = Stage::Connecting;
        match result {
            Ok(stream) => connection.stream = Some(stream),
            Err(error) => self.lose(at, &error),
        }
    }

    /// A connection has been made ready for operations.
    pub(super) fn made_ready(&mut self, at: usize, now: u64) {
        if let Some(connection) = self.connections.get_mut(at) {
            connection.stage = Stage::Ready;
        }
        self.opening = self.opening.saturating_sub(1);
        self.busy_since_ns = None;
        self.ready += 1;
        if self.phase == Phase::Open && self.ready == self.connections.len() {
            self.tell(Event::Ready);
        }
        self.offer(at, now);
    }

    /// Ends a connection that failed.
    pub(super) fn lose(&mut self, at: usize, error: &io::Error) {
        self.lose_for(
            at,
            reason(error),
            format!("no connection to {}: {error}", self.plan.url),
        );
    }

    /// Ends a connection that is of no use: counted by `reason`, or, in phase Open, the end of the run by `why`.
    pub(super) fn lose_for(&mut self, at: usize, reason: &'static str, why: String) {
        if !self.end(at, reason) {
            return;
        }
        if self.phase == Phase::Open {
            self.tell(Event::Failed(why));
        } else {
            self.open_again(at);
        }
    }

    /// Ends a connection whose first bind was answered with busy, to be opened again in a while, in any phase: some balancers
    /// take fewer binds at a time than there are clients. When none has become ready for `BUSY_NS_MAX` it is as any other refusal.
    pub(super) fn lose_busy(&mut self, at: usize, now: u64, why: String) {
        let since = *self.busy_since_ns.get_or_insert(now);
        if now.saturating_sub(since) > BUSY_NS_MAX {
            self.lose_for(at, "bind refused", why);
        } else if self.end(at, "busy") {
            self.open_again(at);
        }
    }

    fn open_again(&mut self, at: usize) {
        self.retries.push_back((self.now_ns().saturating_add(RETRY_NS), at));
    }

    /// Shuts a connection and counts why; false if it was already.
    fn end(&mut self, at: usize, reason: &'static str) -> bool {
        let Some(connection) = self.connections.get_mut(at) else {
            return false;
        };
        let stage = connection.stage;
        let pending = u64::from(connection.shut());
        match stage {
            Stage::Closed => return false,
            Stage::Ready | Stage::Rebinding => {
                self.ready = self.ready.saturating_sub(1);
                self.tally.lost_operations += pending;
                *self.tally.lost.entry(reason).or_default() += 1;
            }
            Stage::Connecting | Stage::StartTls | Stage::Binding => {
                self.opening = self.opening.saturating_sub(1);
                *self.tally.refused.entry(reason).or_default() += 1;
            }
        }
        true
    }

    fn ready_for(&mut self, at: usize, event: &mio::event::Event, buffers: &mut Buffers) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        let Some(stream) = &connection.stream else { return };
        if connection.stage == Stage::Connecting {
            match stream.is_connected() {
                Ok(true) => self.connected(at),
                Ok(false) => return,
                Err(error) => return self.lose(at, &error),
            }
        } else if event.is_writable() {
            self.flush(at);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.receive(at, event.is_read_closed() || event.is_error(), buffers);
        }
    }

    /// Reads what is there; to its end, if the server is known to have closed.
    fn receive(&mut self, at: usize, to_end: bool, buffers: &mut Buffers) {
        for _ in 0..READS_PER_TURN {
            let Some(stream) = self
                .connections
                .get_mut(at)
                .and_then(|connection| connection.stream.as_mut())
            else {
                return;
            };
            let received = match stream.receive(buffers) {
                Ok(received) => received,
                Err(error) => return self.lose(at, &error),
            };
            let (more, ended, idle) = (received.more, received.ended, received.bytes.is_empty());
            if let (Phase::Measure, Some(kind)) = (self.phase, received.shaken) {
                self.tally.shaken(kind);
            }
            let now = self.now_ns();
            if !idle {
                match self.take(at, received.bytes, now) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => return self.lose(at, &error),
                }
            }
            if ended {
                return self.lose(at, &io::ErrorKind::UnexpectedEof.into());
            }
            self.offer(at, now);
            if !more && (!to_end || idle) {
                return;
            }
        }
        self.again.push(at);
    }

    /// Writes what a connection has to say.
    pub(super) fn flush(&mut self, at: usize) {
        let Some(connection) = self.connections.get_mut(at) else {
            return;
        };
        let Some(stream) = connection
            .stream
            .as_mut()
            .filter(|_| connection.stage != Stage::Connecting)
        else {
            return;
        };
        if connection.out.is_empty() && !stream.is_tls() {
            return;
        }
        if let Err(error) = stream.send(&mut connection.out) {
            self.lose(at, &error);
        }
    }

    fn is_drained(&mut self) -> bool {
        let pending: u64 = self
            .connections
            .iter()
            .map(|connection| u64::from(connection.ledger.pending()))
            .sum();
        if pending == 0 {
            return true;
        }
        let over = self.now_ns() >= self.drain_until_ns;
        if over {
            self.tally.unanswered += pending;
        }
        over
    }

    /// Says goodbye (RFC 4511 section 4.3) and closes, so that nothing of this run is left on the server.
    fn close_all(&mut self) {
        for at in 0..self.connections.len() {
            self.farewell(at);
            if let Some(connection) = self.connections.get_mut(at) {
                connection.shut();
            }
        }
    }

    fn publish(&self) {
        let Some(counters) = usize::try_from(self.thread)
            .ok()
            .and_then(|at| self.shared.counters().get(at))
        else {
            return;
        };
        counters.answered.store(self.answered, Ordering::Relaxed);
        counters.failed.store(self.failed, Ordering::Relaxed);
        let lost: u64 = self.tally.lost.values().chain(self.tally.refused.values()).sum();
        counters.lost.store(lost, Ordering::Relaxed);
        counters.ready.store(self.ready as u64, Ordering::Relaxed);
    }
}

impl Connection {
    /// Closes the socket and forgets what was under way; gives the number of pending operations.
    pub(super) fn shut(&mut self) -> u32 {
        self.stream = None;
        self.stage = Stage::Closed;
        self.partial.clear();
        self.out.clear();
        self.bound_as = None;
        self.wants_bind = None;
        self.abandon_later = None;
        self.ledger.clear()
    }
}
