//! The world around a pool, which carries out its effects, and the model that judges them.
//!
//! The model knows of every ticket what its asker knows, and of every upstream what its other side knows. It reads nothing
//! of the pool's inside; that is checked by the pool's own `check_invariants` after each call.

mod judge;
mod keep;
mod rest;

use super::scenario::{Ask, Event, Scenario, config};
use engine::core::pool::TICK;
use engine::core::time::{Instant, Span};
use engine::core::{
    CancelRule, Cause, Class, Drain, Effect, LaneConfig, Pool, PoolConfig, Request, Settlement, Ticket, UpstreamId,
    Verdict,
};
use judge::ensure;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// More wake-ups than any pool of this size has a reason for in one wait.
const WAKE_UPS_MAX: u32 = 10_000;

/// What must not happen, in words.
pub type Judgement = Result<(), String>;

/// How often each thing happened, to prove that runs are not empty.
pub type Seen = BTreeMap<String, u64>;

/// A request as its asker knows it.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    request: Request,
    /// Which upstream has it.
    at: Option<UpstreamId>,
    sends: u32,
    delivered: bool,
    /// It has been answered, and its upstream waits for a last question.
    kept: bool,
    ended: bool,
    canceled: bool,
    /// Since when it has been with no upstream.
    waiting_since: Instant,
}

/// An upstream as its other side knows it.
#[derive(Debug)]
struct Line {
    server: u64,
    lane: u8,
    up: bool,
    leaving: bool,
    /// It is to be replaced, or there were more than there may be when the bound was lowered: the pool says when it leaves.
    may_leave: bool,
    interrupted_at: Option<Instant>,
    /// The calls it was interrupted for and has not answered.
    interrupted: BTreeSet<usize>,
    killed: bool,
    /// When it was told to close, where it is waited for.
    closing_at: Option<Instant>,
    /// What it said that it takes at once.
    slots: u32,
    probed: bool,
    /// Its server has been taken out of the configuration.
    retired: bool,
    /// Its client has given it back, and no other has it.
    unowned: bool,
    /// By number of the request; whether it has been answered in full.
    sent: Vec<(usize, bool)>,
}

pub struct World {
    pool: Pool<usize>,
    lanes: Vec<LaneConfig>,
    config: PoolConfig,
    now: Instant,
    effects: Vec<Effect<usize>>,
    asked: Vec<Asked>,
    by_ticket: HashMap<Ticket, usize>,
    live: BTreeSet<usize>,
    lines: BTreeMap<UpstreamId, Line>,
    stalled: BTreeSet<u64>,
    /// Checks that have not been answered.
    checks: Vec<(u64, u32)>,
    drain: Option<Drain>,
    pub seen: Seen,
    /// What happened, in words, if somebody wants to read it.
    pub log: Option<Vec<String>>,
}

impl World {
    /// Plays a whole run. The error is the first thing that must not happen.
    pub fn play(&mut self, events: &[Event]) -> Judgement {
        self.configure(self.config.clone())?;
        for event in events {
            self.note(|world| format!("{:?} {event:?}", world.now));
            self.happen(event).map_err(|wrong| format!("{wrong} (at {event:?})"))?;
        }
        self.end().map_err(|wrong| format!("{wrong} (at the end)"))
    }

    pub fn new(scenario: &Scenario) -> Self {
        Self {
            pool: Pool::new(scenario.seed),
            lanes: scenario.lanes.clone(),
            config: config(&scenario.lanes, scenario.first_config),
            now: Instant::from_secs(1_000_000_000),
            effects: Vec::new(),
            asked: Vec::new(),
            by_ticket: HashMap::new(),
            live: BTreeSet::new(),
            lines: BTreeMap::new(),
            stalled: BTreeSet::new(),
            checks: Vec::new(),
            drain: None,
            seen: Seen::new(),
            log: None,
        }
    }

    fn happen(&mut self, event: &Event) -> Judgement {
        match *event {
            Event::Submit(ask) => self.submit(ask),
            Event::Cancel(n) => match nth(self.live.iter(), n) {
                Some(&number) => self.cancel(number),
                None => Ok(()),
            },
            Event::CancelAny(n) if !self.asked.is_empty() => self.cancel(n % self.asked.len()),
            Event::CancelAny(_) => Ok(()),
            Event::Up(n) => self.up(n, None),
            Event::UpWith(n, slots) => self.up(n, Some(slots)),
            Event::Gone(n) => match self.nth_line(n, |line| line.killed || line.closing_at.is_some()) {
                Some(id) => self.down(id, Cause::Ended),
                None => Ok(()),
            },
            Event::Recycle(n) => self.recycle(n),
            Event::RecycleAll => (0..self.lines.len()).try_for_each(|n| self.recycle(n)),
            Event::OpenFails(n) => match self.nth_line(n, |line| !line.up && line.closing_at.is_none()) {
                Some(id) => self.down(id, Cause::OpenFailed),
                None => Ok(()),
            },
            Event::Dies(n, orderly) => self.dies(n, orderly),
            Event::Part(n) => self.answer(n, Settlement::Part),
            Event::Answer(n) => self.answer(n, Settlement::Done(Verdict::Well)),
            Event::Keep(n) => self.keep(n),
            Event::AskOn(n, span) => self.ask_on(n, span),
            Event::Finish(n) => self.finish(n),
            Event::Unwell(n) => self.answer(n, Settlement::Done(Verdict::Unwell)),
            Event::Stray(n, m, done) => self.stray(n, m, done),
            Event::ProbeAnswered(n) => self.probe_answered(n),
            Event::Heard(n) => {
                if let Some(id) = self.nth_line(n, |line| line.up) {
                    self.pool.heard(id, self.now);
                }
                self.judge()
            }
            Event::Leaves(n) => self.leaves(n),
            Event::SetAside(n) => self.set_aside(n),
            Event::Release(n) => self.release(n),
            Event::GiveBack(n) => self.give_back(n),
            Event::Stall(n) => {
                self.stalled.insert(n as u64 % 4);
                Ok(())
            }
            Event::Revive => {
                self.stalled.clear();
                Ok(())
            }
            Event::Wait(span) => self.wait(span),
            Event::JumpForward(span) => self.jump(self.now + span),
            Event::JumpBack(span) => self.jump(self.now - span),
            Event::Turn => {
                self.pool.turn();
                Ok(())
            }
            Event::Configure(number) => self.configure(config(&self.lanes, number)),
            Event::Drain(level) => self.drain(level),
        }
    }

    /// No run ends before every ticket has, and nothing is left after a drain.
    fn end(&mut self) -> Judgement {
        self.wait(Span::from_secs(61))?;
        if self.drain.is_none() && self.asked.len().is_multiple_of(2) {
            self.come_to_rest()?;
        }
        // After a clock that jumped back, some deadlines are further away than anybody can wait.
        let deadlines = self.live.iter().map(|&number| self.asked[number].request.deadline);
        if let Some(last) = deadlines.filter(|at| *at != Instant::MAX).max() {
            self.jump(self.now.max(last + TICK))?;
        }
        let endless = self
            .live
            .iter()
            .all(|&number| self.asked[number].request.deadline == Instant::MAX);
        ensure(endless, || format!("{:?} live past their deadlines", self.live))?;
        self.drain(Drain::Firm)?;
        ensure(self.live.is_empty(), || {
            format!("{:?} live after a firm drain", self.live)
        })?;
        self.wait(Span::from_secs(3))?;
        self.drain(Drain::Now)?;
        let left: Vec<_> = self.lines.iter().map(|(id, line)| (*id, line.killed)).collect();
        for (id, killed) in left {
            ensure(killed, || format!("{id:?} neither closed nor killed by a drain now"))?;
            self.down(id, Cause::Ended)?;
        }
        ensure(self.pool.is_gone(), || "not gone after a drain now".into())?;
        let stats = self.pool.stats();
        self.see("ejection", stats.ejections);
        self.see("crash", stats.crashes);
        self.see("rest", stats.rests);
        self.see("saturation", stats.saturations);
        Ok(())
    }
}

/// Told to the pool.
impl World {
    fn submit(&mut self, ask: Ask) -> Judgement {
        let lane = ask.lane % self.lanes.len();
        let pin = ask
            .pin
            .and_then(|n| self.nth_line(n, |line| self.lanes[line.lane as usize].owned && !line.unowned));
        let lane = pin.map_or(lane, |pin| self.lines[&pin].lane as usize);
        let request = Request {
            class: Class {
                lane: u8::try_from(lane).unwrap(),
                retry: ask.retry,
            },
            deadline: ask.deadline.map_or(Instant::MAX, |span| self.now + span),
            queue_wait_max: ask.queue_wait_max,
            affinity: ask.affinity,
            pin,
            route: ask.route,
        };
        let number = self.asked.len();
        let ticket = self
            .pool
            .submit(request, number, self.now, &mut self.effects)
            .ok_or("no ticket")?;
        let before = self.by_ticket.insert(ticket, number);
        ensure(before.is_none(), || format!("{ticket:?} given out twice"))?;
        self.asked.push(Asked {
            ticket,
            request,
            at: None,
            sends: 0,
            delivered: false,
            kept: false,
            ended: false,
            canceled: false,
            waiting_since: self.now,
        });
        self.live.insert(number);
        self.note(|_| format!("    request {number}: lane {lane}, pin {pin:?}"));
        self.carry_out()?;
        let queued = |n: &&usize| {
            let asked = &self.asked[**n];
            asked.request.class.lane as usize == lane && self.pool.upstream_of(asked.ticket).is_none()
        };
        let waiting = if queued(&&number) && self.live.contains(&number) {
            self.live.iter().filter(queued).count()
        } else {
            0
        };
        let max = self.config.queue_max as usize;
        ensure(waiting <= max, || format!("{waiting} wait in lane {lane}, of {max}"))
    }

    fn cancel(&mut self, number: usize) -> Judgement {
        self.asked[number].canceled = true;
        self.pool.cancel(self.asked[number].ticket, self.now, &mut self.effects);
        self.carry_out()?;
        ensure(self.asked[number].ended, || {
            format!("request {number} lives after it was canceled")
        })
    }

    /// It may have been told to close meanwhile.
    fn up(&mut self, n: usize, slots: Option<u32>) -> Judgement {
        let Some(id) = self.nth_line(n, |line| !line.up) else {
            return Ok(());
        };
        if let Some(line) = self.lines.get_mut(&id) {
            line.up = true;
            line.slots = slots.map_or(u32::MAX, |slots| slots.max(1));
        }
        match slots {
            None => self.pool.upstream_up(id, self.now, &mut self.effects),
            Some(slots) => self.pool.upstream_up_with(id, slots, self.now, &mut self.effects),
        }
        self.carry_out()
    }

    /// Nobody is refused for it.
    fn recycle(&mut self, n: usize) -> Judgement {
        let Some(id) = self.nth_line(n, |line| line.closing_at.is_none() && !line.killed) else {
            return Ok(());
        };
        let live = self.live.len();
        if let Some(line) = self.lines.get_mut(&id) {
            line.may_leave = true;
        }
        self.pool.recycle(id, self.now, &mut self.effects);
        self.see("recycle", 1);
        self.carry_out()?;
        ensure(self.live.len() == live, || {
            format!("{id:?} is recycled at the cost of a request")
        })
    }

    fn dies(&mut self, n: usize, orderly: bool) -> Judgement {
        let killed = self.nth_line(n, |line| line.killed || line.closing_at.is_some());
        match killed.or_else(|| self.nth_line(n, |line| line.up)) {
            Some(id) => self.down(id, if orderly { Cause::Ended } else { Cause::Lost }),
            None => Ok(()),
        }
    }

    fn down(&mut self, id: UpstreamId, cause: Cause) -> Judgement {
        self.lines.remove(&id);
        self.detach(id);
        self.pool.upstream_down(id, cause, self.now, &mut self.effects);
        self.carry_out()
    }

    fn leaves(&mut self, n: usize) -> Judgement {
        let Some(id) = self.nth_line(n, |line| line.up && !line.killed && line.closing_at.is_none()) else {
            return Ok(());
        };
        if let Some(line) = self.lines.get_mut(&id) {
            line.leaving = true;
        }
        self.pool.upstream_draining(id, self.now, &mut self.effects);
        self.carry_out()
    }

    fn set_aside(&mut self, n: usize) -> Judgement {
        let shared = |line: &Line| {
            let lane = self.lanes[line.lane as usize];
            lane.cancel == CancelRule::Abandon && !lane.owned
        };
        let with = |number: &usize| {
            self.asked[*number]
                .at
                .filter(|at| shared(&self.lines[at]))
                .map(|at| (*number, at))
        };
        let Some((number, id)) = nth(self.live.iter().filter_map(with), n) else {
            return Ok(());
        };
        let ticket = self.asked[number].ticket;
        let aside = self.pool.set_aside(id, ticket, self.now, &mut self.effects);
        if let Some(line) = self.lines.get_mut(&id) {
            line.leaving |= aside;
        }
        self.see("set aside", u64::from(aside));
        self.carry_out()?;
        ensure(self.asked[number].at == Some(id), || {
            format!("request {number} was not kept")
        })
    }

    fn release(&mut self, n: usize) -> Judgement {
        let Some(id) = self.nth_line(n, |line| self.lanes[line.lane as usize].owned) else {
            return Ok(());
        };
        let line = &self.lines[&id];
        for &number in &self.live {
            let asked = &mut self.asked[number];
            asked.canceled |= asked.request.pin == Some(id)
                || asked.at == Some(id)
                || (!line.up && self.pool.upstream_of(asked.ticket) == Some(id));
        }
        self.pool.release(id, self.now, &mut self.effects);
        self.carry_out()?;
        ensure(!self.lines.contains_key(&id), || {
            format!("{id:?} not closed when its client left")
        })
    }

    /// Of a client that has nothing on it.
    fn give_back(&mut self, n: usize) -> Judgement {
        let idle = |id: &UpstreamId| !self.live.iter().any(|number| self.asked[*number].at == Some(*id));
        let owned: Vec<UpstreamId> = self
            .lines
            .iter()
            .filter(|(id, line)| line.up && !line.unowned && self.lanes[line.lane as usize].owned && idle(id))
            .map(|(id, _)| *id)
            .collect();
        let Some(&id) = nth(owned.iter(), n) else {
            return Ok(());
        };
        if let Some(line) = self.lines.get_mut(&id) {
            line.unowned = true;
        }
        self.pool.give_back(id, self.now, &mut self.effects);
        self.see("given back", 1);
        self.carry_out()
    }

    fn answer(&mut self, n: usize, settlement: Settlement) -> Judgement {
        match self.nth_open(n) {
            Some((id, number)) => self.reply(number, id, settlement),
            None => Ok(()),
        }
    }

    /// A request that an upstream works on.
    fn nth_open(&self, n: usize) -> Option<(UpstreamId, usize)> {
        let working = self
            .lines
            .iter()
            .filter(|(_, line)| line.up && line.closing_at.is_none() && !self.stalled.contains(&line.server));
        let open = working.flat_map(|(id, line)| {
            line.sent
                .iter()
                .filter(|(_, answered)| !answered)
                .map(|(number, _)| (*id, *number))
        });
        nth(open, n)
    }

    fn stray(&mut self, n: usize, m: usize, done: bool) -> Judgement {
        let Some(id) = self.nth_line(m, |line| line.up) else {
            return Ok(());
        };
        // As often as not something that this upstream did have once.
        let line = &self.lines[&id];
        let number = if n.is_multiple_of(2) && !line.sent.is_empty() {
            line.sent[n / 2 % line.sent.len()].0
        } else if self.asked.is_empty() {
            return Ok(());
        } else {
            n % self.asked.len()
        };
        let settlement = if done {
            Settlement::Done(Verdict::Well)
        } else {
            Settlement::Part
        };
        self.reply(number, id, settlement)
    }

    /// The one judgement on what an upstream says: it is delivered if and only if the ticket lives and is there.
    fn reply(&mut self, number: usize, id: UpstreamId, settlement: Settlement) -> Judgement {
        let asked = &mut self.asked[number];
        let due = !asked.ended && asked.at == Some(id);
        let done = settlement != Settlement::Part;
        let delivered = self
            .pool
            .reply(asked.ticket, id, settlement, self.now, &mut self.effects);
        ensure(delivered == due.then_some(number), || {
            format!("{settlement:?} of {id:?} for request {number} gave {delivered:?}, due: {due}")
        })?;
        if due {
            asked.delivered = true;
            asked.ended |= done;
        }
        if due && done {
            asked.at = None;
            self.live.remove(&number);
        }
        let line = self
            .lines
            .get_mut(&id)
            .ok_or("an upstream that is not there answered")?;
        if let Some(sent) = line.sent.iter_mut().rev().find(|sent| sent.0 == number && done) {
            sent.1 = true;
        }
        if done && line.interrupted.remove(&number) && line.interrupted.is_empty() && !line.killed {
            line.interrupted_at = None;
        }
        let what = match (due, done) {
            (true, true) => "answered",
            (true, false) => "part",
            (false, _) => "stray reply dropped",
        };
        self.see(what, 1);
        self.carry_out()
    }

    fn probe_answered(&mut self, n: usize) -> Judgement {
        if let Some((server, number)) = self.checks.pop() {
            self.pool
                .check_ended(server, number, n.is_multiple_of(2), self.now, &mut self.effects);
            self.carry_out()?;
        }
        let Some(id) = self.nth_line(n, |line| line.probed && !self.stalled.contains(&line.server)) else {
            return Ok(());
        };
        if let Some(line) = self.lines.get_mut(&id) {
            line.probed = false;
        }
        self.pool.probe_answered(id, self.now, &mut self.effects);
        self.carry_out()
    }

    fn configure(&mut self, config: PoolConfig) -> Judgement {
        let keys: BTreeSet<u64> = config
            .tiers
            .iter()
            .flat_map(|tier| &tier.1)
            .map(|server| server.key)
            .collect();
        for line in self.lines.values_mut() {
            line.retired |= !keys.contains(&line.server);
        }
        for server in config.tiers.iter().flat_map(|tier| &tier.1) {
            for (lane, limits) in server.lanes.iter().enumerate() {
                let of = |line: &Line| line.server == server.key && line.lane as usize == lane;
                let more = self.lines.values().filter(|line| of(line)).count() > limits.max as usize;
                let same = self.lines.values_mut().filter(|line| of(line));
                same.for_each(|line| line.may_leave |= more);
            }
        }
        self.config = config.clone();
        self.pool.configure(config, self.now, &mut self.effects);
        self.carry_out()
    }

    fn drain(&mut self, level: Drain) -> Judgement {
        self.drain = Some(self.drain.map_or(level, |before| before.max(level)));
        self.pool.drain(level, self.now, &mut self.effects);
        self.carry_out()?;
        let pending = level > Drain::Gentle && !self.live.is_empty();
        ensure(!pending, || format!("{:?} live after a drain {level:?}", self.live))
    }

    /// Keeps every wake-up until `span` has passed.
    fn wait(&mut self, span: Span) -> Judgement {
        let until = self.now + span;
        for _ in 0..WAKE_UPS_MAX {
            let Some(at) = self.pool.wake_at().filter(|at| *at <= until) else {
                self.now = until;
                return self.judge();
            };
            self.jump(self.now.max(at))?;
        }
        Err(format!("{WAKE_UPS_MAX} wake-ups in {span:?}"))
    }

    fn tick(&mut self) -> Judgement {
        self.note(|world| format!("  tick at {:?}", world.now));
        self.pool.turn();
        self.pool.tick(self.now, &mut self.effects);
        self.carry_out()
    }

    fn jump(&mut self, to: Instant) -> Judgement {
        self.now = to;
        self.tick()?;
        // The wheel may ask too early by whole rounds once, where the clock has jumped.
        if self.pool.wake_at().is_some_and(|at| at <= self.now) {
            self.tick()?;
        }
        let wake_at = self.pool.wake_at();
        ensure(wake_at.is_none_or(|at| at > self.now), || {
            format!("after ticks at {:?}: wake at {wake_at:?}", self.now)
        })?;
        for &number in &self.live {
            let due = self.due(number);
            ensure(self.now < due + TICK, || {
                format!("request {number} was due at {due:?}, lives at {:?}", self.now)
            })?;
        }
        Ok(())
    }
}

/// The element at `n` modulo their number.
fn nth<T>(mut things: impl Iterator<Item = T> + Clone, n: usize) -> Option<T> {
    let count = things.clone().count();
    things.nth(n.checked_rem(count)?)
}
