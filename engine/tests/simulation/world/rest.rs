//! What is left of a pool when nobody asks any more and every server answers: of each server as many upstreams as are to be
//! kept, and no wake-up but for probes.

use super::judge::ensure;
use super::{Judgement, World};
use engine::core::time::Span;
use engine::core::{Cause, Health};

/// Longer than any back-off or time-out lasts, after all jumps of the clock that a run makes.
const LONG: Span = Span::from_secs(40_000 * 86_400);
/// Longer than two idle time-outs.
const WHILE: Span = Span::from_secs(60);
/// More things to settle than a pool of this size has at once.
const SETTLED_MAX: u32 = 1_000;

impl World {
    pub(super) fn come_to_rest(&mut self) -> Judgement {
        self.stalled.clear();
        for number in self.live.clone() {
            self.cancel(number)?;
        }
        self.settle()?;
        self.jump(self.now + LONG)?;
        self.settle()?;
        self.wake_ups(WHILE)?;
        let left = self.nth_line(0, |line| line.retired);
        ensure(left.is_none(), || {
            format!("{left:?} is left of a server that was removed")
        })?;
        let aside = |health| health == Health::Ejected;
        if self.pool.report(self.now).iter().any(|server| aside(server.health)) {
            // Nothing that it has can carry a probe, so it is looked at again and again.
            return Ok(());
        }
        self.check_sizes()?;
        let marked = self.lines.keys().find(|id| self.pool.is_recycled(**id));
        ensure(marked.is_none(), || {
            format!("{marked:?} was to be replaced and is still there")
        })?;
        ensure(self.pool.is_populated() && !self.pool.is_saturated(), || {
            "at rest, but short of something".into()
        })?;
        let wake_ups = self.wake_ups(WHILE)?;
        let servers = self.pool.report(self.now).len() as u64;
        let most = match self.config.health.probe_interval {
            None => 0,
            Some(interval) => servers * (WHILE.as_micros() / interval.as_micros() + 1),
        };
        let servers = self.config.tiers.iter().flat_map(|tier| &tier.1);
        let checks = servers
            .filter_map(|server| server.check)
            .map(|check| WHILE.as_micros() / check.interval.as_micros() + 1);
        let most = most + checks.sum::<u64>();
        self.see("at rest", 1);
        ensure(wake_ups <= most, || {
            format!("a pool at rest is woken {wake_ups} times in {WHILE:?}, of {most}")
        })
    }

    /// Each server has what is to be kept.
    fn check_sizes(&self) -> Judgement {
        for report in self.pool.report(self.now) {
            let mut servers = self.config.tiers.iter().flat_map(|tier| &tier.1);
            let server = servers
                .find(|server| server.key == report.key)
                .ok_or("it is not configured")?;
            for (lane, (limits, ready)) in server.lanes.iter().zip(&report.ready).enumerate() {
                let config = self.config.lanes[lane];
                if config.owned {
                    continue;
                }
                let kept = limits.min.max(limits.min_spare).min(limits.max);
                let surplus = *ready > kept && config.idle_timeout.is_some();
                ensure(*ready >= kept && !surplus, || {
                    format!("server {} has {ready} at rest, of {kept}, in lane {lane}", server.key)
                })?;
            }
        }
        Ok(())
    }

    /// Keeps every wake-up within `span`, with every server well. How many there were.
    fn wake_ups(&mut self, span: Span) -> Result<u64, String> {
        let (until, mut count) = (self.now + span, 0);
        while let Some(at) = self.pool.wake_at().filter(|at| *at <= until) {
            self.jump(self.now.max(at))?;
            self.settle()?;
            count += 1;
            ensure(count < 10_000, || format!("{count} wake-ups within {span:?}"))?;
        }
        self.now = until;
        Ok(count)
    }

    /// Whatever the other sides owe, they do.
    fn settle(&mut self) -> Judgement {
        for _ in 0..SETTLED_MAX {
            let unwell = |line: &super::Line| line.killed || line.interrupted_at.is_some() || line.closing_at.is_some();
            if let Some(id) = self.nth_line(0, unwell) {
                self.down(id, Cause::Ended)?;
            } else if self.nth_line(0, |line| !line.up).is_some() {
                self.up(0, None)?;
            } else if let Some((server, number)) = self.checks.pop() {
                self.pool.check_ended(server, number, true, self.now, &mut self.effects);
                self.carry_out()?;
            } else if self.nth_line(0, |line| line.probed).is_some() {
                self.probe_answered(0)?;
            } else if self.nth_line(0, |line| self.lanes[line.lane as usize].owned).is_some() {
                self.release(0)?;
            } else {
                return Ok(());
            }
        }
        Err(format!("not settled after {SETTLED_MAX} answers"))
    }
}
