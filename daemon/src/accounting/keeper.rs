//! The thread that has the spool: it takes what the sink does not, and hands it back in order when the sink is well again.

use std::io;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use engine::core::backoff::Backoff;
use engine::core::rng::Rng;

use super::plan::SpoolPlan;
use super::spool::{Spool, Trouble};
use super::state::{Complaint, Settled, Shared, Spooled, State};
use super::{Item, Outcome};

/// After the disk has refused a flight that is late, it is tried again then.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Keeper {
    spool: Spool,
    /// What waits for longer is spooled.
    after: Duration,
    backoff: Backoff,
    rng: Rng,
    /// The sink failed, and is tried again then.
    retry_at: Option<Instant>,
    /// The spool failed for a flight, and is tried again then.
    pause_until: Option<Instant>,
    /// Records of the spool that the sink has at the moment.
    replaying: u64,
    complaint: Complaint,
}

impl Keeper {
    pub(super) fn open(plan: &SpoolPlan, seed: u64) -> io::Result<Keeper> {
        Ok(Keeper {
            spool: Spool::open(plan)?,
            after: plan.after,
            backoff: Backoff::default(),
            rng: Rng::new(seed),
            retry_at: None,
            pause_until: None,
            replaying: 0,
            complaint: Complaint::default(),
        })
    }

    /// The number of the next record, and how many wait from before.
    pub(super) fn begun(&self) -> (u64, u64) {
        self.spool.begun()
    }

    pub(super) fn run(mut self, shared: &Shared) {
        let mut rested = false;
        let mut state = shared.lock();
        self.note(&mut state);
        while !state.given_up {
            if let Some((bytes_max, after)) = state.spool_change.take() {
                (self.spool.bytes_max, self.after) = (bytes_max, after);
            }
            if !state.settled.is_empty() {
                let settled = std::mem::take(&mut state.settled);
                drop(state);
                self.settle(&settled, shared);
                state = shared.lock();
                continue;
            }
            let now = Instant::now();
            if self.has_to_spool(&mut state, now) {
                state = self.spool(state, shared);
                continue;
            }
            if state.spooling && state.flight.is_none() && state.replay.is_none() && !state.stopping {
                if self.spool.rows() == 0 {
                    state.spooling = false;
                    shared.wake_sink();
                } else if self.retry_at.is_none_or(|at| at <= now) {
                    state = self.replay(state, shared);
                }
            }
            if state.stopping && is_over(&state) {
                break;
            }
            let wait = match self.wait(&state, now) {
                // Whoever works now and then does not wake it each time.
                None if rested => Some(self.after),
                wait => wait,
            };
            rested = wait.is_none();
            state = shared.keeper_waits(state, wait);
        }
        drop(state);
        // Whoever waits for the end may have the folder.
        drop(self);
        shared.end();
    }

    /// Whether something is to be spooled now.
    fn has_to_spool(&self, state: &mut State, now: Instant) -> bool {
        let late = |since: Instant| now.saturating_duration_since(since) >= self.after;
        let flight = state
            .flight
            .as_ref()
            .is_some_and(|flight| flight.spooled == Spooled::No && late(flight.since));
        let flight = flight && self.pause_until.is_none_or(|until| until <= now);
        let queue = state.queue.front().is_some_and(|first| late(first.at)) || state.is_half_full();
        state.spooling |= flight || queue;
        if !state.spooling {
            return false;
        }
        // While the sink has all that the spool has, it will soon be empty, if nothing comes to it.
        let soon = self.replaying > 0 && self.replaying == self.spool.rows() && !queue && !state.stopping;
        flight || !state.failed.is_empty() || !state.queue.is_empty() && !soon
    }

    /// Puts into the spool what failed, what is late and what waits, in one transaction.
    fn spool<'s>(&mut self, mut state: MutexGuard<'s, State>, shared: &'s Shared) -> MutexGuard<'s, State> {
        let now = Instant::now();
        let mut items = std::mem::take(&mut state.failed);
        if !items.is_empty() && self.retry_at.is_none() {
            self.retry_at = Some(now + self.pause());
        }
        items.extend(state.queue.drain(..));
        let mut late: Option<Arc<Vec<Item>>> = None;
        if let Some(flight) = &mut state.flight
            && flight.spooled == Spooled::No
            && now.saturating_duration_since(flight.since) >= self.after
        {
            flight.spooled = Spooled::Perhaps;
            late = Some(Arc::clone(&flight.items));
        }
        drop(state);
        let own = items.len();
        if let Some(late) = &late {
            items.extend(late.iter().cloned());
        }
        let kept = self.spool.append(&items);
        let (own, _) = items.split_at(own.min(items.len()));
        let mut state = shared.lock();
        // The flight may have ended meanwhile; then its end was told already.
        let still = late.filter(|late| {
            let flight = state.flight.as_mut().filter(|flight| Arc::ptr_eq(&flight.items, late));
            flight.is_some_and(|flight| {
                flight.spooled = if kept.is_ok() { Spooled::Yes } else { Spooled::No };
                kept.is_ok()
            })
        });
        match &kept {
            Ok(()) => {
                self.pause_until = None;
                state.figures.spooled += (own.len() + still.as_ref().map_or(0, |late| late.len())) as u64;
            }
            Err(trouble) => {
                self.pause_until = Some(now + PAUSE);
                state.figures.refused += own.len() as u64;
                if self.complaint.may_be_said() {
                    tracing::error!(%trouble, "accounting records cannot be kept");
                }
            }
        }
        state.figures.spool_error = kept.as_ref().err().map(Trouble::to_string);
        self.note(&mut state);
        drop(state);
        shared.tell(own, |_| Some(kept.is_ok()));
        if let Some(late) = still {
            shared.tell(&late, |_| Some(true));
        }
        shared.lock()
    }

    /// Flights have ended.
    fn settle(&mut self, settled: &[Settled], shared: &Shared) {
        if settled.iter().any(|one| one.replayed) {
            self.replaying = 0;
        }
        let refused = self.spool.settle(settled);
        let later = |one: &Settled| one.outcomes.contains(&Outcome::Later);
        if refused.is_err() || settled.iter().any(later) {
            self.retry_at = Some(Instant::now() + self.pause());
        } else {
            self.backoff.reset();
            self.retry_at = None;
        }
        let mut state = shared.lock();
        match refused {
            Ok(refused) => state.figures.set_aside += refused,
            Err(trouble) => state.figures.spool_error = Some(trouble.to_string()),
        }
        self.note(&mut state);
    }

    /// Gives the sink the oldest records of the spool.
    fn replay<'s>(&mut self, state: MutexGuard<'s, State>, shared: &'s Shared) -> MutexGuard<'s, State> {
        let most = state.batch_max;
        drop(state);
        let oldest = self.spool.oldest(most);
        let mut state = shared.lock();
        match oldest {
            Ok(items) => {
                self.replaying = items.len() as u64;
                state.replay = Some(Arc::new(items));
                shared.wake_sink();
            }
            Err(trouble) => {
                self.retry_at = Some(Instant::now() + self.pause());
                state.figures.spool_error = Some(trouble.to_string());
            }
        }
        state
    }

    fn pause(&mut self) -> Duration {
        Duration::from_micros(self.backoff.next(&mut self.rng).as_micros())
    }

    fn note(&self, state: &mut State) {
        state.figures.spool_records = self.spool.rows();
        if let Ok(bytes) = self.spool.bytes() {
            state.figures.spool_bytes = bytes;
        }
    }

    /// How long nothing need be done if nothing comes.
    fn wait(&self, state: &State, now: Instant) -> Option<Duration> {
        let flight = state.flight.as_ref().filter(|flight| flight.spooled == Spooled::No);
        let late = flight.map(|flight| flight.since + self.after);
        let late = late.map(|late| self.pause_until.map_or(late, |until| late.max(until)));
        let queue = state.queue.front().map(|first| first.at + self.after);
        let retry = self.retry_at.filter(|_| state.spooling && state.flight.is_none());
        let first = [late, queue, retry].into_iter().flatten().min()?;
        Some(first.saturating_duration_since(now).max(Duration::from_millis(1)))
    }
}

/// Whether nothing is on its way any more, but for what the spool has.
fn is_over(state: &State) -> bool {
    let flight = state
        .flight
        .as_ref()
        .is_none_or(|flight| flight.spooled == Spooled::Yes);
    state.queue.is_empty() && state.failed.is_empty() && state.settled.is_empty() && flight && state.replay.is_none()
}
