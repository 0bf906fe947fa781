//! The refresh is done: what is gone is decided, and either done at once or held for an operator.

use std::mem;

use super::leave::Leaves;
use super::{Again, Consumer, Over, Phase, Step};
use crate::feed::event::{Counts, Event, Op};
use crate::feed::store::{Content, Held, Id};
use crate::feed::tree::Children;

/// Entries in a page of the sweep.
const PAGE_ENTRIES: usize = 256;

impl Consumer {
    /// The provider said that the refresh is done.
    pub(super) fn finish<C: Content>(&mut self, content: &mut C, time_ms: i64) -> Result<Step, C::Error> {
        let guard = self.settings.max_deletes;
        if guard.count.is_some() || guard.percent.is_some() {
            let deletes = self.count_deletes(content)?;
            if guard.is_passed(deletes, self.entries_before) && deletes > self.facts.may_delete {
                self.facts.held = Some(Held {
                    deletes,
                    entries: self.entries_before,
                    since_ms: time_ms,
                });
                self.unsaved = true;
                self.phase = Phase::Held;
                self.named.reset();
                return Ok(Step::Held);
            }
        }
        self.complete(content, time_ms)
    }

    /// Carries the refresh out: the deletes, the cookie, the word that all is told.
    pub(super) fn complete<C: Content>(&mut self, content: &mut C, time_ms: i64) -> Result<Step, C::Error> {
        if self.sweeps() {
            self.sweep(content, time_ms)?;
        } else {
            let mut after = Id::ROOT;
            while let Some(id) = self.doomed.next(after) {
                after = id;
                self.leave(content, id, None, Leaves::Doomed, time_ms)?;
            }
        }
        self.unsure |= self.is_cookie_unknown();
        // Where every entry is in the content, a name that nobody bears is the sign of a container that was renamed while
        // its neighbours were sent; or it is hidden from us, which the next refresh will show again.
        let glue = self.tree.glue();
        self.unsure |= self.settings.whole && glue > self.facts.glue;
        self.facts.glue = glue;
        let unsure = self.unsure;
        self.facts.cookie = mem::take(&mut self.gathered);
        if unsure {
            self.facts.cookie.clear();
        }
        self.facts.refreshes += 1;
        self.facts.held = None;
        self.facts.may_delete = 0;
        self.unsaved = true;
        if !unsure {
            self.tell_done(content, time_ms)?;
        }
        self.lost();
        if unsure {
            return Ok(Step::Over(Over::Again(Again::Unsure)));
        }
        self.out.silent = false;
        self.phase = Phase::Persist;
        Ok(Step::Refreshed)
    }

    /// Whether the provider seems not to have known our cookie, and began from the start without saying so: entries were sent as
    /// if they had changed, but there is no other cookie for that, or at least half of all that is kept was sent as it is kept.
    /// Nor did it say what is there, by which what is gone would be known.
    fn is_cookie_unknown(&self) -> bool {
        let counts = &self.out.counts;
        let changed = counts.added + counts.modified + counts.moved;
        let was_sent = changed + counts.unchanged > 0;
        let as_kept = counts.unchanged > 0 && counts.unchanged >= self.entries_before.div_ceil(2);
        self.resumed && !self.present && ((was_sent && self.gathered == self.facts.cookie) || as_kept)
    }

    fn tell_done<C: Content>(&mut self, content: &mut C, time_ms: i64) -> Result<(), C::Error> {
        let counts = Counts {
            entries: self.facts.entries,
            ..self.out.counts
        };
        self.facts.last = counts;
        let event = Event {
            counts: Some(counts),
            ..Event::new(Op::RefreshDone, [0; 16], "", time_ms)
        };
        self.out.emit(content, &event)
    }

    /// Whether what was not seen is gone: where everything was sent, or everything that is there was said.
    fn sweeps(&self) -> bool {
        !self.resumed || self.present
    }

    /// How many entries are gone.
    fn count_deletes<C: Content>(&mut self, content: &mut C) -> Result<u64, C::Error> {
        if self.sweeps() {
            return Ok(self.facts.entries.saturating_sub(self.seen.len()));
        }
        let mut deletes = self.doomed.len();
        let mut after = Id::ROOT;
        while let Some(id) = self.doomed.next(after) {
            after = id;
            if self.cascades(id) {
                deletes += self.count_silent(content, id)?;
            }
        }
        Ok(deletes)
    }

    /// Entries below one that is gone, of which nothing was said. What was said to be gone is counted for itself.
    fn count_silent<C: Content>(&mut self, content: &mut C, top: Id) -> Result<u64, C::Error> {
        let mut count = 0;
        let mut levels = vec![Children::new(top)];
        while let Some(level) = levels.last_mut() {
            let Some(id) = level.next(content)? else {
                levels.pop();
                continue;
            };
            if self.doomed.has(id) || self.seen.has(id) {
                continue;
            }
            let is_entry = content.place(id, &mut self.row)? && self.row.uuid.is_some();
            count += u64::from(is_entry);
            levels.push(Children::new(id));
        }
        Ok(count)
    }

    /// Everything that was not seen leaves.
    fn sweep<C: Content>(&mut self, content: &mut C, time_ms: i64) -> Result<(), C::Error> {
        let (mut page, mut after) = (Vec::new(), None);
        while self.facts.entries > self.seen.len() {
            content.entries(after, PAGE_ENTRIES, &mut page)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (uuid, id) in page.drain(..) {
                // One that left with another of this page may have given its id away.
                if !self.seen.has(id) && content.find(&uuid)? == Some(id) {
                    self.leave(content, id, None, Leaves::Unseen, time_ms)?;
                }
            }
        }
        Ok(())
    }
}
