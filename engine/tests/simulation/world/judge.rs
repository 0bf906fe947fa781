//! What the pool wants done is done here, and judged: each effect against what the model knows, the whole after each call.

use super::{Judgement, Line, World, nth};
use engine::core::pool::TICK;
use engine::core::time::Instant;
use engine::core::{CancelRule, Drain, Effect, Health, LaneConfig, Reason, Ticket, UpstreamId};
use std::collections::BTreeSet;

/// Told by the pool.
impl World {
    pub(super) fn carry_out(&mut self) -> Judgement {
        let effects = std::mem::take(&mut self.effects);
        for effect in &effects {
            self.note(|_| format!("    {effect:?}"));
            self.carry_out_one(effect)
                .map_err(|wrong| format!("{wrong}, by {effect:?}"))?;
        }
        self.effects = effects;
        self.effects.clear();
        self.judge()
    }

    fn carry_out_one(&mut self, effect: &Effect<usize>) -> Judgement {
        match *effect {
            Effect::Open { upstream, server, lane } => self.opened(upstream, server, lane),
            Effect::Send { ticket, upstream } => self.sent(ticket, upstream),
            Effect::Abandon { ticket, upstream } => self.let_go(ticket, upstream, false),
            Effect::Interrupt { ticket, upstream } => self.let_go(ticket, upstream, true),
            Effect::Kill { upstream } => self.killed(upstream),
            Effect::Close { upstream } => {
                self.see("close", 1);
                self.closed(upstream)
            }
            Effect::Probe { upstream } => {
                self.see("probe", 1);
                let line = self.lines.get_mut(&upstream).ok_or("there is no such upstream")?;
                line.probed = true;
                let may = line.up && self.lanes[line.lane as usize].probes;
                ensure(may, || format!("{upstream:?} cannot carry a probe"))
            }
            Effect::Check { server, number } => {
                self.see("check", 1);
                self.checks.push((server, number));
                Ok(())
            }
            Effect::Failed {
                ticket,
                user,
                reason,
                sent,
            } => self.failed(ticket, user, reason, sent),
        }
    }

    /// Where it lingers it stays, and counts, until it is gone.
    fn closed(&mut self, id: UpstreamId) -> Judgement {
        let line = self.lines.get_mut(&id).ok_or_else(|| format!("{id:?} is not there"))?;
        ensure(!line.killed && line.closing_at.is_none(), || {
            format!("{id:?} is told again")
        })?;
        if self.lanes[line.lane as usize].lingers.is_some() {
            line.closing_at = Some(self.now);
            line.probed = false;
            self.see("lingers", 1);
        } else {
            self.lines.remove(&id);
        }
        self.detach(id);
        Ok(())
    }

    fn opened(&mut self, id: UpstreamId, server: u64, lane: u8) -> Judgement {
        self.see("open", 1);
        ensure(self.drain.is_none_or(|level| level < Drain::Firm), || {
            "opened while draining".into()
        })?;
        let configured = self
            .config
            .tiers
            .iter()
            .flat_map(|tier| &tier.1)
            .find(|s| s.key == server);
        let max = configured.ok_or("the server is not configured")?.lanes[lane as usize].max;
        let line = Line {
            server,
            lane,
            up: false,
            leaving: false,
            may_leave: false,
            interrupted_at: None,
            interrupted: BTreeSet::new(),
            killed: false,
            closing_at: None,
            slots: u32::MAX,
            probed: false,
            retired: false,
            unowned: false,
            sent: Vec::new(),
        };
        ensure(self.lines.insert(id, line).is_none(), || format!("{id:?} opened twice"))?;
        let config = self.lanes[lane as usize];
        let same = self
            .lines
            .values()
            .filter(|l| l.server == server && l.lane == lane && !l.retired);
        // A connection that finishes what it has may have another in its stead; a process may not.
        let process = config.lingers.is_some() || matches!(config.cancel, CancelRule::InterruptThenKill { .. });
        let leaves = |l: &&Line| l.leaving || l.may_leave;
        let stand_ins = if process || config.owned {
            0
        } else {
            same.clone().filter(leaves).count().min(max as usize)
        };
        let same = same.count();
        ensure(same <= max as usize + stand_ins, || {
            format!("{same} upstreams to server {server} in lane {lane}, of {max} and {stand_ins}")
        })?;
        if same > max as usize {
            self.see("stand-in", 1);
        }
        let starts = |l: &&Line| l.server == server && l.lane == lane && !l.up && l.closing_at.is_none() && !l.killed;
        let starting = self.lines.values().filter(starts).count();
        let config = self.config.lanes[lane as usize];
        let most = if config.owned { 0 } else { config.opening_max } as usize;
        ensure(most == 0 || starting <= most, || {
            format!("{starting} are being opened to server {server} in lane {lane}, of {most}")
        })
    }

    fn sent(&mut self, ticket: Ticket, id: UpstreamId) -> Judgement {
        let number = self.number(ticket)?;
        let asked = &self.asked[number];
        let (request, again) = (asked.request, asked.sends > 0);
        let line = self.lines.get(&id).ok_or("there is no such upstream")?;
        let lane = self.lanes[line.lane as usize];
        let pinned = request.pin.is_some();
        ensure(!asked.ended, || format!("request {number} has ended"))?;
        let free = asked
            .at
            .is_none_or(|at| need_not_be_told(&self.lanes, self.lines.get(&at)));
        ensure(free, || format!("request {number} is with {:?}", asked.at))?;
        ensure(!again || request.class.retry, || {
            format!("request {number}, a write, is sent again")
        })?;
        ensure(!again || !asked.delivered, || {
            format!("request {number} is sent again after a part")
        })?;
        ensure(asked.sends < 2, || {
            format!("request {number} is sent for the third time")
        })?;
        let takes = line.up && !line.killed && line.interrupted_at.is_none() && line.closing_at.is_none();
        ensure(takes, || format!("{id:?} cannot take it: {line:?}"))?;
        ensure(!line.leaving || pinned, || format!("{id:?} is leaving"))?;
        ensure(request.pin.is_none_or(|pin| pin == id), || {
            format!("request {number} is pinned elsewhere")
        })?;
        ensure(line.lane == request.class.lane, || {
            format!("{id:?} is of lane {}", line.lane)
        })?;
        ensure(!lane.owned || pinned || line.sent.is_empty() || line.unowned, || {
            format!("{id:?} belongs to another client")
        })?;
        ensure(!line.unowned || !pinned, || format!("{id:?} is no client's any more"))?;
        let seen = self.check_route(number, line)?;
        if lane.owned {
            let others = self.live.iter().filter(|n| **n != number);
            let has = others.filter(|n| self.with(**n) == Some(id)).count();
            let slots = lane.slots as usize;
            ensure(slots == 0 || has < slots, || {
                format!("{id:?} has {has} of {slots} already")
            })?;
        }
        if !pinned && !lane.owned {
            self.check_bounds(number, id, line, lane)?;
        }
        let wait = self.now.since(asked.waiting_since);
        self.see(seen, 1);
        self.see(if again { "sent again" } else { "sent" }, 1);
        self.see("sent after waiting", u64::from(!wait.is_zero()));
        let asked = &mut self.asked[number];
        asked.at = Some(id);
        asked.kept = false;
        asked.sends += 1;
        if let Some(line) = self.lines.get_mut(&id) {
            line.sent.push((number, false));
            line.unowned = false;
        }
        Ok(())
    }

    /// Nothing is sent outside its requirement. What it only prefers is counted.
    fn check_route(&self, number: usize, line: &Line) -> Result<&'static str, String> {
        let request = self.asked[number].request;
        let route = request.route;
        let marks = u8::try_from(line.server % 4).unwrap();
        if request.pin.is_none() {
            ensure(marks & route.needs == route.needs, || {
                format!(
                    "request {number} needs {:#b}, server {} has {marks:#b}",
                    route.needs, line.server
                )
            })?;
        }
        Ok(match route {
            _ if route.is_open() => "may go anywhere",
            _ if route.stays == Some(line.server) => "stays with its server",
            _ if route.prefers != 0 && marks & route.prefers == route.prefers => "goes where it prefers",
            _ => "goes where it may",
        })
    }

    /// Slots and limits, before one more is sent.
    fn check_bounds(&self, number: usize, id: UpstreamId, line: &Line, lane: LaneConfig) -> Judgement {
        ensure(!line.retired, || format!("{id:?} is of a server that was removed"))?;
        let server = self
            .config
            .tiers
            .iter()
            .flat_map(|tier| &tier.1)
            .find(|s| s.key == line.server);
        let server = server.ok_or("the server is not configured")?;
        // It may have been taken back from here without a word.
        let others = self.live.iter().filter(|n| **n != number);
        let has = others.clone().filter(|n| self.with(**n) == Some(id)).count();
        let own = server.lanes[line.lane as usize].upstream_pending_max as usize;
        ensure(own == 0 || has < own, || format!("{id:?} has {has} of {own} already"))?;
        // What a helper was not told to drop, or has not dropped yet, occupies it.
        let works_on = match lane.cancel {
            CancelRule::InterruptThenKill { .. } => line.sent.iter().filter(|(_, answered)| !answered).count(),
            _ => has,
        };
        let slots = match lane.slots {
            0 => line.slots,
            slots => slots.min(line.slots),
        } as usize;
        ensure(works_on < slots, || {
            format!("{id:?} works on {works_on} of {slots} already")
        })?;
        let lines = self
            .lines
            .iter()
            .filter(|(_, l)| l.server == line.server && !l.retired)
            .map(|(id, _)| *id);
        let lines: BTreeSet<_> = lines.collect();
        let pending = others
            .filter(|n| !self.asked[**n].kept)
            .filter(|n| self.with(**n).is_some_and(|at| lines.contains(&at)))
            .count();
        let max = server.pending_max as usize;
        ensure(max == 0 || pending < max, || {
            format!("server {} has {pending} of {max} already", server.key)
        })
    }

    fn let_go(&mut self, ticket: Ticket, id: UpstreamId, interrupt: bool) -> Judgement {
        self.see(if interrupt { "interrupt" } else { "abandon" }, 1);
        let number = self.number(ticket)?;
        let line = self.lines.get_mut(&id).ok_or("there is no such upstream")?;
        let rule = self.lanes[line.lane as usize].cancel;
        let fits = match rule {
            CancelRule::Abandon => !interrupt,
            CancelRule::InterruptThenKill { .. } => interrupt,
            CancelRule::CloseReopen | CancelRule::Immediate => false,
        };
        ensure(fits, || format!("the lane's rule is {rule:?}"))?;
        ensure(line.sent.contains(&(number, false)), || {
            format!("{id:?} does not work on request {number}")
        })?;
        if interrupt {
            // Of several interrupts, the grace of the first counts.
            line.interrupted_at.get_or_insert(self.now);
            line.interrupted.insert(number);
        }
        let asked = &mut self.asked[number];
        if !asked.ended {
            asked.at = None;
            asked.kept = false;
            asked.waiting_since = self.now;
        }
        Ok(())
    }

    fn killed(&mut self, id: UpstreamId) -> Judgement {
        self.see("kill", 1);
        let line = self.lines.get_mut(&id).ok_or("there is no such upstream")?;
        ensure(!line.killed, || format!("{id:?} killed twice"))?;
        line.killed = true;
        let CancelRule::InterruptThenKill { grace } = self.lanes[line.lane as usize].cancel else {
            return Err(format!("{id:?} is no helper"));
        };
        let now = self.drain == Some(Drain::Now);
        let since = line.closing_at.or(line.interrupted_at).or(now.then_some(self.now));
        let since = since.ok_or_else(|| format!("{id:?} was neither interrupted nor told to close"))?;
        let in_time = now || self.now >= since + grace;
        ensure(in_time, || {
            format!("{id:?} killed {:?} after it was told", self.now.since(since))
        })
    }

    fn failed(&mut self, ticket: Ticket, user: usize, reason: Reason, sent: bool) -> Judgement {
        let number = self.number(ticket)?;
        ensure(number == user, || format!("the note of request {number} is {user}"))?;
        let asked = &self.asked[number];
        ensure(!asked.ended, || format!("request {number} ended before"))?;
        let was_sent = asked.sends > 0;
        ensure(sent == was_sent, || {
            format!("request {number}: told as sent {sent}, {asked:?}")
        })?;
        let waits = asked
            .at
            .is_none_or(|at| need_not_be_told(&self.lanes, self.lines.get(&at)));
        let fits = match reason {
            Reason::Canceled => asked.canceled,
            Reason::Deadline => was_sent && self.now >= asked.request.deadline,
            Reason::QueueTimeout => waits && self.now >= self.due(number),
            Reason::QueueFull => waits,
            Reason::Unavailable => waits && !self.is_about_to_be_served(number),
            Reason::UpstreamLost { delivered } => asked.delivered == delivered,
            Reason::ShuttingDown => self.drain.is_some(),
        };
        ensure(fits, || format!("{reason:?} does not fit {asked:?}"))?;
        self.see(&format!("{reason:?}"), 1);
        let asked = &mut self.asked[number];
        asked.ended = true;
        asked.at = None;
        self.live.remove(&number);
        Ok(())
    }

    /// A connection that leaves is being replaced: who could use the next one waits for it.
    fn is_about_to_be_served(&self, number: usize) -> bool {
        let request = self.asked[number].request;
        let lane = request.class.lane as usize;
        if request.pin.is_some() || self.lanes[lane].owned || self.drain.is_some() {
            return false;
        }
        let comes = |key: u64| {
            self.lines
                .values()
                .any(|line| line.server == key && !line.up && !line.retired && line.closing_at.is_none())
        };
        self.pool.report(self.now).iter().any(|server| {
            let marks = u8::try_from(server.key % 4).unwrap();
            let well = matches!(server.health, Health::Up | Health::Suspect);
            well && marks & request.route.needs == request.route.needs && comes(server.key)
        })
    }

    /// What was with an upstream that is gone waits again, or is about to be ended.
    pub(super) fn detach(&mut self, id: UpstreamId) {
        for &number in &self.live {
            let asked = &mut self.asked[number];
            if asked.at == Some(id) {
                asked.at = None;
                asked.kept = false;
                asked.waiting_since = self.now;
            }
        }
    }
}

/// The judgement after each call.
impl World {
    pub(super) fn judge(&mut self) -> Judgement {
        self.pool.check_invariants()?;
        let pending = self.pool.pending();
        ensure(pending == self.live.len(), || {
            format!("{pending} pending, {:?} live", self.live)
        })?;
        let stats = self.pool.stats();
        let sum = stats.answered + stats.failed + pending as u64;
        ensure(stats.submitted == sum, || {
            format!("{stats:?} do not add up with {pending} pending")
        })?;
        let wake_at = self.pool.wake_at();
        for &number in &self.live {
            let asked = &mut self.asked[number];
            let is_sent = self.pool.is_sent(asked.ticket);
            let silently = asked
                .at
                .is_some_and(|at| need_not_be_told(&self.lanes, self.lines.get(&at)));
            if silently && is_sent == Some(false) {
                asked.at = None;
                asked.waiting_since = self.now;
            }
            let asked = &self.asked[number];
            ensure(is_sent == Some(asked.at.is_some()), || {
                format!("request {number}: sent {is_sent:?}, {asked:?}")
            })?;
            let stuck = asked.sends > 0 && asked.at.is_none() && (!asked.request.class.retry || asked.delivered);
            ensure(!stuck, || {
                format!("request {number} waits to be sent again, but may not: {asked:?}")
            })?;
            let due = self.due(number);
            ensure(
                due == Instant::MAX || wake_at.is_some_and(|at| at <= due + TICK),
                || format!("request {number} is due at {due:?}, wake at {wake_at:?}"),
            )?;
        }
        Ok(())
    }

    /// Which upstream has a live request, where it may have been taken back without a word.
    pub(super) fn with(&self, number: usize) -> Option<UpstreamId> {
        let asked = &self.asked[number];
        let at = asked.at?;
        let still =
            !need_not_be_told(&self.lanes, self.lines.get(&at)) || self.pool.upstream_of(asked.ticket) == Some(at);
        still.then_some(at)
    }

    /// When a live request must have ended.
    pub(super) fn due(&self, number: usize) -> Instant {
        let asked = &self.asked[number];
        let patience = asked.request.queue_wait_max.filter(|_| asked.at.is_none());
        patience
            .map_or(Instant::MAX, |wait| asked.waiting_since + wait)
            .min(asked.request.deadline)
    }

    pub(super) fn number(&self, ticket: Ticket) -> Result<usize, String> {
        self.by_ticket
            .get(&ticket)
            .copied()
            .ok_or_else(|| format!("{ticket:?} was never given out"))
    }

    pub(super) fn nth_line(&self, n: usize, fits: impl Fn(&Line) -> bool) -> Option<UpstreamId> {
        nth(self.lines.iter().filter(|(_, line)| fits(line)).map(|(id, _)| *id), n)
    }

    pub(super) fn see(&mut self, what: &str, times: u64) {
        if times == 0 {
            return;
        }
        match self.seen.get_mut(what) {
            Some(count) => *count += times,
            None => drop(self.seen.insert(what.to_owned(), times)),
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.log.is_some() {
            let line = line(self);
            self.log.get_or_insert_default().push(line);
        }
    }
}

/// Whether a request is taken back from this upstream without a word: where nothing need be done about a cancel, and from one
/// that has been killed.
fn need_not_be_told(lanes: &[LaneConfig], line: Option<&Line>) -> bool {
    line.is_some_and(|line| line.killed || lanes[line.lane as usize].cancel == CancelRule::Immediate)
}

pub(super) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Judgement {
    if holds { Ok(()) } else { Err(otherwise()) }
}
