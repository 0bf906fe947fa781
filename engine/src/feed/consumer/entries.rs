//! An entry came in full: is it new, another, elsewhere, or as it was?

use std::mem;

use wire::ldap::dn;
use wire::ldap::message::Entry;

use super::{Consumer, Phase};
use crate::feed::emitter::names;
use crate::feed::event::{Attributes, Event, Op, Uuid};
use crate::feed::shape::Asides;
use crate::feed::store::{Content, Row};
use crate::feed::tree::{Spot, Who};

/// What a message says about an entry.
#[derive(Clone, Copy)]
struct Told<'a> {
    uuid: &'a Uuid,
    dn: &'a [u8],
    attributes: &'a [u8],
    asides: Asides<'a>,
    time_ms: i64,
}

impl Consumer {
    pub(super) fn is_so<C: Content>(
        &mut self,
        content: &mut C,
        uuid: &Uuid,
        entry: &Entry<'_>,
        time_ms: i64,
    ) -> Result<(), C::Error> {
        let (mut row, mut fresh) = (mem::take(&mut self.row), mem::take(&mut self.fresh));
        fresh.clear();
        let asides = self.settings.shape.apply(uuid, entry.attributes, &mut fresh);
        let told = Told {
            uuid,
            dn: entry.dn,
            attributes: &fresh,
            asides,
            time_ms,
        };
        let is_known = content.by_uuid(uuid, &mut row)?;
        let done = if is_known {
            self.known(content, &told, &row)
        } else {
            self.new_entry(content, &told)
        };
        (self.row, self.fresh) = (row, fresh);
        done
    }

    fn new_entry<C: Content>(&mut self, content: &mut C, told: &Told<'_>) -> Result<(), C::Error> {
        self.comes_in(&told.asides);
        let who = Who {
            not: None,
            named: &self.named,
            doomed: &self.doomed,
        };
        let spot = self.tree.resolve(content, told.dn, &who)?;
        let id = self.tree.enter(content, told.uuid, spot, told.attributes)?;
        self.mark(id);
        self.facts.entries += 1;
        self.unsaved = true;
        let dn = String::from_utf8_lossy(told.dn);
        let event = Event {
            attributes: Attributes::of_whole(told.attributes),
            csn: told.asides.csn,
            is_new: self.phase == Phase::Persist,
            ..Event::new(Op::Add, *told.uuid, &dn, told.time_ms)
        };
        self.out.emit(content, &event)
    }

    /// An entry comes into the content, perhaps with others below it.
    fn comes_in(&mut self, asides: &Asides<'_>) {
        self.unsure |= asides.has_below && !self.all_below_is_told(asides);
    }

    /// Whether all that is below an entry which was not known is told too: in a full content; and where it was made after
    /// all that is known, for what is below is younger still. Else it may have moved here, and what is below came along
    /// silently. That it was made and changed last in one second tells nothing: in that second it may have been filled, and
    /// moved.
    fn all_below_is_told(&self, asides: &Asides<'_>) -> bool {
        let created = second(asides.created);
        match self.phase {
            Phase::Refresh => !self.resumed || created.is_some_and(|created| *created > *self.cookie_second),
            Phase::Persist | Phase::Held | Phase::Idle => false,
        }
    }

    fn known<C: Content>(&mut self, content: &mut C, told: &Told<'_>, row: &Row) -> Result<(), C::Error> {
        if self.phase == Phase::Held && !self.seen.has(row.id) {
            // It was gone, its delete waits for an operator, and it is back.
            self.comes_in(&told.asides);
        }
        let spot = self.spot(content, told.dn, row)?;
        let differs = self.diff.compare(&row.attributes, told.attributes);
        if differs {
            content.set_attributes(row.id, told.attributes)?;
        }
        if spot.parent != row.parent || spot.rdn != row.rdn {
            self.relocate(content, told, row, spot, differs)?;
        } else {
            self.tell(content, told, None, differs)?;
        }
        self.mark(row.id);
        Ok(())
    }

    /// Where an entry that has a row belongs now.
    fn spot<'d, C: Content>(&mut self, content: &mut C, dn: &'d [u8], row: &Row) -> Result<Spot<'d>, C::Error> {
        let who = Who {
            not: None,
            named: &self.named,
            doomed: &self.doomed,
        };
        let spot = self.tree.resolve(content, dn, &who)?;
        if spot.parent == row.parent || !self.tree.is_above(content, row.id, spot.parent)? {
            return Ok(spot);
        }
        // It would be its own ancestor: on the way to its new place its old name was met. That name will be another's,
        // who has not come yet.
        self.tree.forget_names();
        let not_itself = Who {
            not: Some(row.id),
            ..who
        };
        let other = self.tree.resolve(content, dn, &not_itself)?;
        self.tree.prune(content, spot.parent)?;
        Ok(other)
    }

    /// The row's place is another, and mostly the name too.
    fn relocate<C: Content>(
        &mut self,
        content: &mut C,
        told: &Told<'_>,
        row: &Row,
        spot: Spot<'_>,
        differs: bool,
    ) -> Result<(), C::Error> {
        let mut old_dn = Vec::new();
        self.tree.name(content, row.parent, &row.rdn, &mut old_dn)?;
        let is_renamed = !self.tree.is_same(&old_dn, told.dn) || first_rdn(&old_dn) != first_rdn(told.dn);
        self.tree.put(content, row, spot)?;
        self.tell(content, told, is_renamed.then_some(&old_dn), differs)?;
        if is_renamed {
            self.follow(content, row, &old_dn, told.dn, told.time_ms)?;
        } else {
            self.tree.absorb(content, row.id, spot)?;
        }
        if spot.parent != row.parent {
            self.tree.prune(content, row.parent)?;
        }
        Ok(())
    }

    /// Emits what became of an entry; `self.diff` has how it differs.
    fn tell<C: Content>(
        &mut self,
        content: &mut C,
        told: &Told<'_>,
        old_dn: Option<&Vec<u8>>,
        differs: bool,
    ) -> Result<(), C::Error> {
        let op = match (old_dn, differs) {
            (Some(_), _) => Op::Move,
            (None, true) => Op::Modify,
            (None, false) => {
                self.out.counts.unchanged += u64::from(self.phase == Phase::Refresh);
                return Ok(());
            }
        };
        let dn = String::from_utf8_lossy(told.dn);
        let old_dn = old_dn.map(|dn| String::from_utf8_lossy(dn));
        let event = Event {
            old_dn: old_dn.as_deref(),
            attributes: Attributes::of_whole(told.attributes),
            changed: names(&self.diff.changed),
            before: self.out.before(&self.diff.before),
            csn: told.asides.csn,
            ..Event::new(op, *told.uuid, &dn, told.time_ms)
        };
        self.out.emit(content, &event)
    }

    /// An entry that left the content has moved within it: what is below it is still there, and moved along.
    pub(super) fn carry<C: Content>(
        &mut self,
        content: &mut C,
        row: &Row,
        dn: &[u8],
        time_ms: i64,
    ) -> Result<(), C::Error> {
        let spot = self.spot(content, dn, row)?;
        let mut old_dn = Vec::new();
        self.tree.name(content, row.parent, &row.rdn, &mut old_dn)?;
        self.tree.put(content, row, spot)?;
        self.follow(content, row, &old_dn, dn, time_ms)?;
        self.tree.prune(content, row.parent)
    }
}

/// The second of a GeneralizedTime or a CSN.
fn second(time: Option<&str>) -> Option<&str> {
    time?.get(..14)
}

/// The first RDN as written: names that differ in its case alone are told as a move, for whoever shows names.
pub(super) fn first_rdn(name: &[u8]) -> &[u8] {
    let above = dn::parent(name).map_or(0, <[u8]>::len);
    name.get(..name.len() - above).unwrap_or_default()
}
