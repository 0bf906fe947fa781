//! Entries leave the content, some with what is below them.
//!
//! Entries are told children first: whoever keeps a directory of its own cannot delete what is not empty. Everything is
//! gone through in pages. An entry that leaves while something below it stays becomes glue.

use std::mem;

use super::{Consumer, Phase, Profile};
use crate::feed::emitter::attributes;
use crate::feed::event::{Event, Op, Uuid};
use crate::feed::store::{Content, Id, Place, Row};
use crate::feed::tree::{Children, Who};

/// Who leaves, of what is below an entry that leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leaves {
    /// Everybody.
    All,
    /// Nobody.
    None,
    /// Who was not seen.
    Unseen,
    /// Who was said to be gone.
    Doomed,
}

/// A row on the way down.
struct Level {
    row: Row,
    dn: Vec<u8>,
    children: Children,
    /// Whether something below stays.
    stays: bool,
}

impl Consumer {
    /// It was said that an entry is gone; `dn` is a name that was said with it.
    pub(super) fn is_gone<C: Content>(
        &mut self,
        content: &mut C,
        uuid: &Uuid,
        dn: Option<&[u8]>,
        time_ms: i64,
    ) -> Result<(), C::Error> {
        let Some(id) = content.find(uuid)? else { return Ok(()) };
        let dn = dn.filter(|dn| !dn.is_empty());
        let is_outside = dn.is_some_and(|dn| !self.tree.is_within(dn));
        if self.phase != Phase::Refresh {
            return self.leave_now(content, id, dn, is_outside, time_ms);
        }
        self.doomed.set(id);
        self.seen.clear(id);
        if is_outside {
            self.outside.set(id);
        }
        Ok(())
    }

    fn leave_now<C: Content>(
        &mut self,
        content: &mut C,
        id: Id,
        dn: Option<&[u8]>,
        is_outside: bool,
        time_ms: i64,
    ) -> Result<(), C::Error> {
        let mut row = mem::take(&mut self.row);
        if content.place(id, &mut row)? {
            let mut told_dn = Vec::new();
            self.tree.name(content, row.parent, &row.rdn, &mut told_dn)?;
            let leaves = self.below(content, &row, &told_dn, dn, is_outside, time_ms)?;
            self.leave(content, id, Some(told_dn), leaves, time_ms)?;
        }
        self.row = row;
        Ok(())
    }

    /// Who leaves with an entry that leaves now.
    fn below<C: Content>(
        &mut self,
        content: &mut C,
        row: &Row,
        told_dn: &[u8],
        dn: Option<&[u8]>,
        is_outside: bool,
        time_ms: i64,
    ) -> Result<Leaves, C::Error> {
        if is_outside {
            return Ok(Leaves::All);
        }
        let mut child = Vec::new();
        content.children(row.id, Place::default(), 1, &mut child)?;
        if child.is_empty() {
            return Ok(Leaves::None);
        }
        let Some(dn) = dn else {
            // Where every entry is in the content, one that has others below it can leave only with them.
            self.unsure |= !self.settings.whole;
            return Ok(if self.settings.whole { Leaves::All } else { Leaves::None });
        };
        if !self.tree.is_same(told_dn, dn) {
            // It was renamed within the base, and by that or at once left the filter: what is below moved along.
            self.carry(content, row, dn, time_ms)?;
            return Ok(Leaves::None);
        }
        let is_silent = self.settings.profile == Profile::Ds389 && self.settings.whole;
        Ok(if is_silent { Leaves::All } else { Leaves::None })
    }

    /// An entry leaves, and of what is below it who is meant to. `told_dn` is the name it was last told with, where the row
    /// has another by now.
    pub(super) fn leave<C: Content>(
        &mut self,
        content: &mut C,
        id: Id,
        told_dn: Option<Vec<u8>>,
        leaves: Leaves,
        time_ms: i64,
    ) -> Result<(), C::Error> {
        let mut row = Row::default();
        if !content.by_id(id, &mut row)? {
            return Ok(());
        }
        let (parent, mut dn) = (row.parent, Vec::new());
        self.tree.name(content, parent, &row.rdn, &mut dn)?;
        let mut levels = vec![Level {
            children: Children::new(id),
            row,
            dn: told_dn.unwrap_or(dn),
            stays: false,
        }];
        let cascades = self.cascades(id);
        while let Some(level) = levels.last_mut() {
            if let Some(child) = level.children.next(content)? {
                let mut row = Row::default();
                if !content.by_id(child, &mut row)? {
                    continue;
                }
                if row.uuid.is_some() && !self.leaves(leaves, cascades, child) {
                    level.stays = true;
                    continue;
                }
                let dn = [&row.rdn[..], b",", &level.dn].concat();
                levels.push(Level {
                    children: Children::new(child),
                    row,
                    dn,
                    stays: false,
                });
            } else if let Some(level) = levels.pop() {
                let stays = level.stays;
                self.take_leave(content, &level, time_ms)?;
                if let Some(above) = levels.last_mut() {
                    above.stays |= stays;
                }
            }
        }
        self.tree.prune(content, parent)
    }

    /// Whether a row below one that leaves does so too.
    fn leaves(&mut self, leaves: Leaves, cascades: bool, id: Id) -> bool {
        match leaves {
            Leaves::All => true,
            Leaves::None => false,
            Leaves::Unseen => !self.seen.has(id),
            Leaves::Doomed => {
                let is_silent = !self.seen.has(id);
                let leaves = self.doomed.has(id) || is_silent && cascades;
                self.unsure |= is_silent && !leaves;
                leaves
            }
        }
    }

    /// Whether an entry that was said to be gone, without more, took along what was below it.
    pub(super) fn cascades(&self, id: Id) -> bool {
        self.settings.whole || self.outside.has(id)
    }

    /// Everything below that leaves has left.
    fn take_leave<C: Content>(&mut self, content: &mut C, level: &Level, time_ms: i64) -> Result<(), C::Error> {
        let row = &level.row;
        if let Some(uuid) = row.uuid {
            let dn = String::from_utf8_lossy(&level.dn);
            let event = Event {
                before: self.out.before.then(|| attributes(&row.attributes)),
                ..Event::new(Op::Delete, uuid, &dn, time_ms)
            };
            self.out.emit(content, &event)?;
            self.facts.entries = self.facts.entries.saturating_sub(1);
            self.unsaved = true;
            for marks in [&mut self.seen, &mut self.named, &mut self.doomed, &mut self.outside] {
                marks.clear(row.id);
            }
        }
        match (level.stays, row.uuid) {
            (false, _) => self.tree.remove(content, row),
            (true, None) => Ok(()),
            (true, Some(_)) => {
                let who = Who {
                    not: None,
                    named: &self.named,
                    doomed: &self.doomed,
                };
                self.tree.demote(content, row, &who)
            }
        }
    }
}
