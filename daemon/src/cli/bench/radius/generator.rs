//! The loop of the load: take what has come, send what is due, sleep until either.
//!
//! A request is open from when it is begun until it is answered or lost, and has its identifier for itself meanwhile.
//! Identifiers are used in turn, so that none is used again before all the others were.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::pace::{Random, gap};
use super::Plan;
use super::lane::{IDENTIFIERS, Lane};
use super::request::Requests;
use super::tally::Tally;
use crate::cli::radius::random;
use crate::net::datagram::Batch;

/// Datagrams taken with one system call.
pub(super) const BATCH: usize = 64;
/// The longest packet (RFC 2865 section 3).
const DATAGRAM_BYTES_MAX: usize = 4096;
/// The longest sleep.
const LOOK: Duration = Duration::from_millis(100);

/// A request that is lost at some time, unless it has been answered by then.
struct Waiting {
    lost_ns: u64,
    lane: usize,
    identifier: u8,
    turn: u32,
}

/// See the module.
pub(super) struct Generator<'p> {
    plan: &'p Plan,
    lanes: Vec<Lane<'p>>,
    requests: Requests,
    batch: Batch,
    /// Lane and identifier, in the order in which they became free.
    free: VecDeque<(usize, u8)>,
    /// In the order in which they were sent, which is that in which they are lost.
    waiting: VecDeque<Waiting>,
    open: usize,
    times: Random,
    start: Instant,
    /// When the next is due, at a fixed rate.
    due_ns: u64,
    measured_from_ns: u64,
    end_ns: u64,
    tally: Tally,
}

impl<'p> Generator<'p> {
    pub(super) fn new(plan: &'p Plan) -> Result<Generator<'p>, String> {
        let start = Instant::now();
        let lanes: Vec<Lane<'p>> = (0..plan.sockets)
            .map(|_| Lane::new(plan.address))
            .collect::<Result<_, _>>()?;
        let identifiers = (0..IDENTIFIERS).filter_map(|identifier| u8::try_from(identifier).ok());
        let free = identifiers.flat_map(|identifier| (0..lanes.len()).map(move |lane| (lane, identifier)));
        Ok(Generator {
            plan,
            free: free.collect(),
            lanes,
            requests: Requests::new(plan.seed, random()?),
            batch: Batch::new(BATCH, DATAGRAM_BYTES_MAX),
            waiting: VecDeque::new(),
            open: 0,
            times: Random::new(plan.seed, 1),
            start,
            due_ns: 0,
            measured_from_ns: nanos(plan.measured_from.saturating_duration_since(start)),
            end_ns: nanos(plan.end.saturating_duration_since(start)),
            tally: Tally::new(),
        })
    }

    /// Makes the load until its end, and waits for what is open then.
    pub(super) fn run(&mut self) -> Result<Tally, String> {
        // Timers of this thread are exact to the nanosecond instead of 50 µs; where that is refused it is a little late.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        loop {
            let now = nanos(self.start.elapsed());
            self.expire(now);
            if now < self.end_ns {
                self.begin_due(now);
            } else if self.open == 0 {
                return Ok(self.tally.clone());
            }
            for lane in &mut self.lanes {
                lane.flush(&mut self.tally);
            }
            for at in self.ready() {
                self.receive(at)?;
            }
        }
    }

    fn begin_due(&mut self, now: u64) {
        let Some(apart) = self.plan.apart else {
            while self.open < self.plan.in_flight && self.begin(now, now) {}
            return;
        };
        while self.due_ns <= now && self.due_ns < self.end_ns {
            if self.open >= self.plan.in_flight || !self.begin(self.due_ns, now) {
                self.tally.not_sent += u64::from(self.due_ns >= self.measured_from_ns);
            }
            self.due_ns += nanos(gap(&mut self.times, apart, self.plan.poisson));
        }
    }

    /// Begins a request; false: there is no identifier for it.
    fn begin(&mut self, begun_ns: u64, now: u64) -> bool {
        let Some((at, identifier)) = self.free.pop_front() else {
            return false;
        };
        let (plan, requests) = (self.plan, &mut self.requests);
        let write = |out: &mut Vec<u8>| requests.write(plan, identifier, out).ok();
        let lane = self.lanes.get_mut(at);
        let Some(turn) = lane.and_then(|lane| lane.begin(identifier, begun_ns, write)) else {
            return false;
        };
        self.open += 1;
        self.tally.sent += u64::from(begun_ns >= self.measured_from_ns);
        self.waiting.push_back(Waiting {
            lost_ns: now.saturating_add(nanos(self.plan.timeout)),
            lane: at,
            identifier,
            turn,
        });
        true
    }

    /// Takes what has come on one socket.
    fn receive(&mut self, at: usize) -> Result<(), String> {
        let now = nanos(self.start.elapsed());
        let Some(lane) = self.lanes.get_mut(at) else {
            return Ok(());
        };
        let (free, open) = (&mut self.free, &mut self.open);
        let ended = |identifier| {
            *open = open.saturating_sub(1);
            free.push_back((at, identifier));
        };
        let (plan, tally) = (self.plan, &mut self.tally);
        lane.receive(plan, &mut self.batch, now, self.measured_from_ns, tally, ended)
    }

    /// Forgets what was answered, and gives up what was not in time.
    fn expire(&mut self, now: u64) {
        while let Some(first) = self.waiting.front() {
            let Some(lane) = self.lanes.get_mut(first.lane) else {
                return;
            };
            if first.lost_ns > now && lane.is_open(first.identifier, first.turn) {
                return;
            }
            if lane.give_up(first.identifier, first.turn) {
                self.tally.lost += 1;
                self.open = self.open.saturating_sub(1);
                self.free.push_back((first.lane, first.identifier));
            }
            self.waiting.pop_front();
        }
    }

    /// Sleeps until something has come or is due; the sockets on which something has come.
    fn ready(&self) -> Vec<usize> {
        let mut until = self.waiting.front().map_or(u64::MAX, |first| first.lost_ns);
        let now = nanos(self.start.elapsed());
        if self.plan.apart.is_some() && now < self.end_ns {
            until = until.min(self.due_ns);
        }
        let left = Duration::from_nanos(until.saturating_sub(now)).min(LOOK);
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: left.subsec_nanos().into(),
        };
        let lanes = self
            .lanes
            .iter()
            .map(|lane| PollFd::from_borrowed_fd(lane.socket.as_fd(), PollFlags::IN));
        let mut sockets: Vec<PollFd<'_>> = lanes.collect();
        // A failure shows in the read that follows; an interruption is a short sleep.
        let _ = poll(&mut sockets, Some(&limit));
        let ready = sockets
            .iter()
            .enumerate()
            .filter(|(_, socket)| !socket.revents().is_empty());
        ready.map(|(at, _)| at).collect()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
