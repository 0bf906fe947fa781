//! Requests that have been answered and keep their upstream for a last question.

use super::{Judgement, World, ensure, nth};
use engine::core::UpstreamId;
use engine::core::time::Span;

impl World {
    /// It is kept if and only if it lives, is there, and is not kept already.
    pub(super) fn keep(&mut self, n: usize) -> Judgement {
        let Some((id, number)) = self.nth_open(n) else {
            return Ok(());
        };
        let until = self.now + Span::from_millis(100 * (n as u64 % 64));
        let asked = &mut self.asked[number];
        let due = !asked.ended && asked.at == Some(id) && !asked.kept;
        let delivered = self.pool.keep(asked.ticket, id, until, self.now, &mut self.effects);
        ensure(delivered == due.then_some(number), || {
            format!("keeping {id:?} for request {number} gave {delivered:?}, due: {due}")
        })?;
        asked.kept |= due;
        if due {
            asked.request.deadline = asked.request.deadline.max(until);
        }
        ensure(self.pool.is_kept(asked.ticket) == (asked.kept && !asked.ended), || {
            format!("request {number} is not kept")
        })?;
        self.see("kept", u64::from(due));
        self.carry_out()
    }

    fn nth_kept(&self, n: usize) -> Option<(usize, UpstreamId)> {
        let kept = self.live.iter().filter(|number| self.asked[**number].kept);
        let number = *nth(kept, n)?;
        Some((number, self.asked[number].at?))
    }

    /// It is where it was, and has so much time from now on.
    pub(super) fn ask_on(&mut self, n: usize, span: Span) -> Judgement {
        let Some((number, id)) = self.nth_kept(n) else {
            return Ok(());
        };
        let deadline = self.now + span;
        let asked = &mut self.asked[number];
        let to = self.pool.ask_on(asked.ticket, deadline, self.now);
        ensure(to == Some(id), || {
            format!("request {number} is asked on at {to:?}, and is with {id:?}")
        })?;
        asked.kept = false;
        asked.request.deadline = deadline;
        ensure(self.pool.ask_on(asked.ticket, deadline, self.now).is_none(), || {
            format!("request {number} is asked on twice")
        })?;
        self.see("asked on", 1);
        self.carry_out()
    }

    /// It ends, and makes room.
    pub(super) fn finish(&mut self, n: usize) -> Judgement {
        let Some((number, id)) = self.nth_kept(n) else {
            return Ok(());
        };
        let asked = &mut self.asked[number];
        asked.ended = true;
        asked.kept = false;
        asked.at = None;
        let ticket = asked.ticket;
        self.live.remove(&number);
        let line = self.lines.get_mut(&id).ok_or("kept where nothing is")?;
        if let Some(sent) = line.sent.iter_mut().rev().find(|sent| sent.0 == number) {
            sent.1 = true;
        }
        ensure(self.pool.finish(ticket, self.now, &mut self.effects), || {
            format!("request {number} was not kept")
        })?;
        self.see("finished", 1);
        self.carry_out()?;
        ensure(!self.pool.finish(ticket, self.now, &mut self.effects), || {
            format!("request {number} is finished twice")
        })
    }
}
