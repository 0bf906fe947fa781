//! What the threads of a writer share.
//!
//! A record is in exactly one of: the queue; the flight (what the sink's thread has); `failed` (what the keeper is to spool);
//! or it has ended. What is in the spool beside that is the keeper's alone. A flight that takes long is spooled and told done while
//! the sink still has it; when it ends, what the sink has taken is deleted from the spool.
//!
//! `spooling` is set when the sink fails or is late, and cleared by the keeper when the spool is empty: while it is set, the
//! sink's thread takes nothing from the queue, only what the keeper reads from the spool.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wire::radius::Dictionary;

use super::plan::{Settings, SinkPlan};
use super::{Figures, Full, Item, Outcome, Record, Tell, Ticket};

/// Records of one write, at most.
pub(super) const BATCH_MAX: usize = 4096;

/// See the module.
pub(super) struct Shared {
    state: Mutex<State>,
    tell: Mutex<Tell>,
    /// There may be something for the sink's thread.
    sink: Condvar,
    /// There may be something for the keeper.
    keeper: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

pub(super) struct State {
    pub queue: VecDeque<Item>,
    queue_max: usize,
    next: u64,
    /// Records of one write of the sink.
    pub batch_max: usize,
    pub flight: Option<Flight>,
    /// What the keeper wants to have written.
    pub replay: Option<Arc<Vec<Item>>>,
    pub failed: Vec<Item>,
    /// Flights that have ended, for the keeper.
    pub settled: Vec<Settled>,
    pub has_keeper: bool,
    pub spooling: bool,
    /// The keeper sleeps until it is woken.
    pub keeper_rests: bool,
    change: Option<(SinkPlan, Arc<Dictionary>)>,
    pub spool_change: Option<(u64, Duration)>,
    reopen: bool,
    pub stopping: bool,
    /// What waits is given up.
    pub given_up: bool,
    threads: usize,
    complaint: Complaint,
    pub figures: Figures,
}

/// What the sink's thread has.
pub(super) struct Flight {
    pub items: Arc<Vec<Item>>,
    pub since: Instant,
    pub spooled: Spooled,
}

/// Whether a flight is in the spool, too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Spooled {
    No,
    /// The keeper is about to commit it.
    Perhaps,
    Yes,
}

/// What became of a flight.
pub(super) struct Settled {
    pub items: Arc<Vec<Item>>,
    pub outcomes: Vec<Outcome>,
    /// It had been read from the spool.
    pub replayed: bool,
}

/// What the sink's thread does next.
pub(super) enum Work {
    Configure(SinkPlan, Arc<Dictionary>),
    Reopen,
    /// And whether it was read from the spool.
    Write(Arc<Vec<Item>>, bool),
    End,
}

impl Shared {
    /// `spool`: the next number, and how many records the spool has.
    pub(super) fn new(settings: &Settings, spool: Option<(u64, u64)>, tell: Tell) -> Shared {
        let (next, kept) = spool.unwrap_or_default();
        let state = State {
            queue: VecDeque::new(),
            queue_max: settings.queue_max,
            next,
            batch_max: BATCH_MAX,
            flight: None,
            replay: None,
            failed: Vec::new(),
            settled: Vec::new(),
            has_keeper: spool.is_some(),
            spooling: kept > 0,
            keeper_rests: false,
            change: None,
            spool_change: None,
            reopen: false,
            stopping: false,
            given_up: false,
            threads: 1 + usize::from(spool.is_some()),
            complaint: Complaint::default(),
            figures: Figures {
                spool_records: kept,
                ..Figures::default()
            },
        };
        Shared {
            state: Mutex::new(state),
            tell: Mutex::new(tell),
            sink: Condvar::new(),
            keeper: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done in it: it is changed in one go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, record: Record) -> Result<(), Full> {
        let mut state = self.lock();
        if state.stopping || state.queue.len() >= state.queue_max {
            state.figures.refused += 1;
            return Err(Full);
        }
        let (seq, at) = (state.next, Instant::now());
        state.next += 1;
        state.queue.push_back(Item { seq, at, record });
        let pressed = state.is_half_full();
        let keeper = state.has_keeper && (state.keeper_rests || state.spooling || pressed);
        let sink = state.flight.is_none() && !state.spooling;
        drop(state);
        if sink {
            self.sink.notify_one();
        }
        if keeper {
            self.keeper.notify_one();
        }
        Ok(())
    }

    pub(super) fn configure(&self, settings: Settings, dictionary: Arc<Dictionary>) {
        let mut state = self.lock();
        state.queue_max = settings.queue_max;
        state.spool_change = settings.spool.map(|spool| (spool.bytes_max, spool.after));
        state.change = Some((settings.sink, dictionary));
        self.wake(state);
    }

    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        state.reopen = true;
        self.wake(state);
    }

    fn wake(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.sink.notify_one();
        self.keeper.notify_one();
    }

    pub(super) fn figures(&self) -> Figures {
        let state = self.lock();
        let flight = state.flight.as_ref().map_or(0, |flight| flight.items.len());
        Figures {
            queue: state.queue.len() + state.failed.len() + flight,
            ..state.figures.clone()
        }
    }

    pub(super) fn stop(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        let mut state = self.lock();
        state.stopping = true;
        self.sink.notify_one();
        self.keeper.notify_one();
        while state.threads > 0 {
            let left = until.saturating_duration_since(Instant::now());
            let stuck = state.is_safe() && state.flight.is_some() && state.threads == 1;
            if left.is_zero() || stuck {
                break;
            }
            (state, _) = self
                .ended
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let whole = state.is_safe();
        state.given_up = true;
        let mut left: Vec<Item> = state.queue.drain(..).collect();
        left.append(&mut state.failed);
        state.figures.refused += left.len() as u64;
        self.wake(state);
        self.tell(&left, |_| Some(false));
        whole
    }

    /// A thread of the writer has ended.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.threads = state.threads.saturating_sub(1);
        drop(state);
        self.ended.notify_all();
        self.sink.notify_one();
        self.keeper.notify_one();
    }

    /// Waits for something to do; what is to be written is the flight from then on.
    pub(super) fn work(&self, batch_max: usize) -> Work {
        let mut state = self.lock();
        state.batch_max = batch_max;
        loop {
            if let Some((plan, dictionary)) = state.change.take() {
                return Work::Configure(plan, dictionary);
            }
            if std::mem::take(&mut state.reopen) {
                return Work::Reopen;
            }
            let items = match state.replay.take() {
                Some(items) => Some((items, Spooled::Yes)),
                None if state.spooling || state.queue.is_empty() => None,
                None => {
                    let many = state.queue.len().min(batch_max);
                    Some((Arc::new(state.queue.drain(..many).collect()), Spooled::No))
                }
            };
            if let Some((items, spooled)) = items {
                state.flight = Some(Flight {
                    items: Arc::clone(&items),
                    since: Instant::now(),
                    spooled,
                });
                return Work::Write(items, spooled == Spooled::Yes);
            }
            // While there is a keeper, it may have something yet; it ends first.
            if state.given_up || state.stopping && (!state.has_keeper || state.threads == 1) {
                return Work::End;
            }
            state = self.sink.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What the sink says of its flight, and what went wrong.
    pub(super) fn settle(&self, items: &Arc<Vec<Item>>, outcomes: Vec<Outcome>, wrong: Option<String>, replayed: bool) {
        let mut state = self.lock();
        let flight = state.flight.take();
        let spooled = flight.map_or(Spooled::No, |flight| flight.spooled);
        let done = outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count();
        let count = done as u64;
        if replayed {
            state.figures.replayed += count;
        } else {
            state.figures.written += count;
        }
        note(&mut state, wrong, done == items.len());
        let mut told = Vec::new();
        if spooled != Spooled::Yes {
            let keep = state.has_keeper && !state.given_up;
            for (item, outcome) in items.iter().zip(&outcomes) {
                match outcome {
                    Outcome::Done => told.push((item.record.ticket, true)),
                    // What is refused is kept by the keeper, too, and set aside when it is refused again.
                    _ if keep => state.failed.push(item.clone()),
                    _ => {
                        state.figures.refused += 1;
                        told.push((item.record.ticket, false));
                    }
                }
            }
            state.spooling |= !state.failed.is_empty();
        }
        if spooled != Spooled::No {
            let items = Arc::clone(items);
            state.settled.push(Settled {
                items,
                outcomes,
                replayed,
            });
        }
        let keeper = state.has_keeper && (state.spooling || spooled != Spooled::No || state.stopping);
        drop(state);
        if keeper {
            self.keeper.notify_one();
        }
        self.say(told);
    }

    /// Waits until the keeper is woken, or for so long.
    pub(super) fn keeper_waits<'s>(
        &self,
        mut state: MutexGuard<'s, State>,
        wait: Option<Duration>,
    ) -> MutexGuard<'s, State> {
        match wait {
            Some(wait) => {
                let waited = self.keeper.wait_timeout(state, wait);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                state.keeper_rests = true;
                let mut state = self.keeper.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.keeper_rests = false;
                state
            }
        }
    }

    /// There is something for the sink's thread.
    pub(super) fn wake_sink(&self) {
        self.sink.notify_one();
    }

    /// Tells the ends of records that a flight or the spool has; `how` says of which, and how.
    pub(super) fn tell(&self, items: &[Item], how: impl Fn(&Item) -> Option<bool>) {
        let told = items.iter().filter_map(|item| Some((item.record.ticket, how(item)?)));
        self.say(told.collect());
    }

    fn say(&self, told: Vec<(Ticket, bool)>) {
        if !told.is_empty() {
            let tell = self.tell.lock().unwrap_or_else(PoisonError::into_inner);
            (*tell)(told);
        }
    }
}

impl State {
    /// Whether so many wait that the sink is too slow.
    pub(super) fn is_half_full(&self) -> bool {
        self.queue.len() > self.queue_max / 2
    }

    /// Whether all is written or in the spool.
    fn is_safe(&self) -> bool {
        let flight = self.flight.as_ref().is_none_or(|flight| flight.spooled == Spooled::Yes);
        self.queue.is_empty() && self.failed.is_empty() && flight
    }
}

/// What goes wrong is worth a line, and that it is over; but not all the time.
fn note(state: &mut State, wrong: Option<String>, all: bool) {
    match (wrong, &state.figures.last_error) {
        (Some(why), before) => {
            if before.is_none() && state.complaint.may_be_said() {
                tracing::warn!(why, "accounting records cannot be written");
            }
            state.figures.last_error = Some(why);
        }
        (None, Some(_)) if all => {
            state.figures.last_error = None;
            if state.complaint.is_over() {
                tracing::info!("accounting records are written again");
            }
        }
        (None, _) => {}
    }
}

/// Between two lines about the same thing.
const QUIET: Duration = Duration::from_secs(60);

/// What was said in the log of one thing that comes and goes.
#[derive(Default)]
pub(super) struct Complaint {
    said: Option<Instant>,
    stands: bool,
}

impl Complaint {
    /// Whether it is to be said now; then it was.
    pub(super) fn may_be_said(&mut self) -> bool {
        let may = self.said.is_none_or(|said| said.elapsed() >= QUIET);
        if may {
            self.said = Some(Instant::now());
            self.stands = true;
        }
        may
    }

    /// Whether it was said, and not yet that it is over.
    fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.stands)
    }
}
