//! Is what is kept what the provider has? A comparison beside a running feed, which changes nothing and tells nobody.
//!
//! The provider sends its whole content in *passes*. In the first, each entry is compared as it comes, and whatever differs
//! is a *suspect*: most of what is found so is a change on its way, seen in the one place before the other. A suspect that
//! is the same in both places in a later pass is none. One that stays different is a difference only when nothing else
//! can be true:
//!
//! * the provider said the same of it (its state, and the number of its last change) in three passes one after the other,
//! * and between them, whenever the feed had caught up with the pass before, the kept entry was one and the same.
//!
//! Then the entry was not changed between the first and the third pass, the feed had seen everything up to the second, and
//! it had something else. Who changes more often than passes come is *unsettled* in the end: nothing is said of it.
//!
//! Bounded: a bit for each kept row, and [`SUSPECTS_MAX`] suspects; what is beyond is only counted.
//!
//! ```text
//! Verify::following()
//!   verify.message(&mut consumer, &mut content, &message) -> Pass     each message of a pass; a search without a cookie
//!   verify.sweep(&mut consumer, &mut content) -> bool                 at its end, page by page, until false
//!   verify.is_settled()                                               then: is there nothing left to ask?
//!     (the feed catches up with the pass's cookie)
//!   verify.look(&mut consumer, &mut content) -> bool                  page by page, until false; then the next pass
//! verify.report(..)
//! ```

use std::collections::BTreeMap;
use std::ops::Bound;

use wire::ldap::result::code;
use wire::ldap::sync::cookie::{Csn, OpenLdap};
use wire::ldap::sync::{self, SyncMessage};

use super::consumer::Consumer;
use super::consumer::compare::Difference;
use super::event::Uuid;
use super::marks::Marks;
use super::standby::State;
use super::store::{Content, Row};

/// Entries that are followed from pass to pass.
pub const SUSPECTS_MAX: usize = 10_000;
/// Passes in which the provider has to say the same.
const STEADY: u8 = 3;
/// Rows that are looked at in one step.
const PAGE: usize = 256;
/// Bytes of a name, and attributes, that are remembered of one difference.
const SHOWN_BYTES_MAX: usize = 1024;
const SHOWN_NAMES_MAX: usize = 64;

/// What a message of a pass came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pass {
    /// Read on.
    Continue,
    /// Everything was sent; the provider's cookie.
    Complete(Vec<u8>),
    /// The provider refused.
    Refused(u32),
}

/// What kind of difference.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// The provider has it, and it is not kept.
    MissingHere,
    /// It is kept, and the provider does not have it.
    MissingThere,
    /// It has another name; perhaps other attributes, too.
    Name,
    /// It has other attributes.
    Attributes,
}

/// One entry that differs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Which entry.
    pub uuid: Uuid,
    /// How.
    pub kind: Kind,
    /// Its name here, or where it is not here, there.
    pub dn: String,
    /// Its name there, where that is another.
    pub there: Option<String>,
    /// The attributes that differ.
    pub attributes: Vec<String>,
}

/// What it came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Entries that the provider has.
    pub entries: u64,
    /// Whole contents that were asked for.
    pub passes: u32,
    /// Differences of each kind, in the order of [`Kind`].
    pub counts: [u64; 4],
    /// The first of them, by uuid.
    pub found: Vec<Found>,
    /// Suspects that changed all the time.
    pub unsettled: u64,
    /// Suspects beyond [`SUSPECTS_MAX`].
    pub unchecked: u64,
    /// Entries that the provider changed after what the kept cookie tells of.
    pub newer: u64,
}

impl Report {
    /// All differences.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[derive(Debug)]
struct Suspect {
    theirs: State,
    csn: Option<String>,
    ours: State,
    /// In how many passes both have been so.
    steady: u8,
    /// The pass in which the provider spoke of it last.
    said: u32,
    found: Found,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Verify {
    pass: u32,
    entries: u64,
    /// In the first pass: rows of entries that the provider has.
    seen: Marks,
    suspects: BTreeMap<Uuid, Suspect>,
    unchecked: u64,
    /// Where the last page ended.
    after: Option<Uuid>,
    /// Where the feed stands still: the cookie that is kept.
    still: Option<Vec<u8>>,
    newer: u64,
}

impl Verify {
    /// A comparison with a feed that goes on meanwhile.
    #[must_use]
    pub fn following() -> Self {
        Self {
            pass: 1,
            entries: 0,
            seen: Marks::default(),
            suspects: BTreeMap::new(),
            unchecked: 0,
            after: None,
            still: None,
            newer: 0,
        }
    }

    /// A comparison with a feed that does not run, and has this cookie: what the provider changed later is counted for
    /// itself, where its numbers say so. One pass tells all.
    #[must_use]
    pub fn standing_still(cookie: &[u8]) -> Self {
        Self {
            still: Some(cookie.to_vec()),
            ..Self::following()
        }
    }

    /// Whether it is one with a feed that does not run.
    #[must_use]
    pub fn is_standing_still(&self) -> bool {
        self.still.is_some()
    }

    /// Takes one message of a pass.
    ///
    /// # Errors
    /// The store's.
    pub fn message<C: Content>(
        &mut self,
        consumer: &mut Consumer,
        content: &mut C,
        message: &SyncMessage<'_>,
    ) -> Result<Pass, C::Error> {
        match message {
            SyncMessage::Entry { state, entry } if matches!(state.state, sync::State::Add | sync::State::Modify) => {
                if self.pass > 1 && !self.suspects.contains_key(&state.uuid) {
                    return Ok(Pass::Continue);
                }
                let compared = consumer.compare(content, &state.uuid, entry)?;
                if self.pass == 1 {
                    self.entries += 1;
                    if let Some(id) = compared.id {
                        self.seen.set(id);
                    }
                }
                match compared.difference {
                    Some(difference) => self.differs(&state.uuid, entry.dn, difference),
                    None => _ = self.suspects.remove(&state.uuid),
                }
            }
            SyncMessage::Done { result, done } => {
                let cookie = done.as_ref().and_then(|done| done.cookie).unwrap_or_default();
                return Ok(match result.code {
                    code::SUCCESS => Pass::Complete(cookie.to_vec()),
                    code => Pass::Refused(code),
                });
            }
            _ => {}
        }
        Ok(Pass::Continue)
    }

    fn differs(&mut self, uuid: &Uuid, dn: &[u8], difference: Difference) {
        if self.is_newer(difference.csn.as_deref()) {
            self.newer += 1;
            return;
        }
        let theirs = String::from_utf8_lossy(dn).into_owned();
        let kind = match (&difference.name, difference.is_renamed) {
            (None, _) => Kind::MissingHere,
            (Some(_), true) => Kind::Name,
            (Some(_), false) => Kind::Attributes,
        };
        let found = Found {
            uuid: *uuid,
            kind,
            there: difference.is_renamed.then(|| shown(theirs.clone())),
            dn: shown(difference.name.unwrap_or(theirs)),
            attributes: difference
                .changed
                .into_iter()
                .take(SHOWN_NAMES_MAX)
                .map(shown)
                .collect(),
        };
        self.suspect(difference.theirs, difference.csn, difference.ours, found);
    }

    /// Whether a feed that stands still cannot know of this change yet.
    fn is_newer(&self, csn: Option<&str>) -> bool {
        let Some((cookie, csn)) = self.still.as_ref().zip(csn.and_then(Csn::parse)) else {
            return false;
        };
        let Some(mut known) = OpenLdap::parse(cookie) else {
            return false;
        };
        let before = known.csns().to_vec();
        known.add(csn);
        known.csns() != before
    }

    /// What was found in this pass of an entry that differs.
    fn suspect(&mut self, theirs: State, csn: Option<String>, ours: State, found: Found) {
        let (uuid, said) = (found.uuid, self.pass);
        if let Some(suspect) = self.suspects.get_mut(&uuid) {
            let is_steady = suspect.theirs == theirs && suspect.csn == csn && suspect.ours == ours;
            let steady = if is_steady { suspect.steady.saturating_add(1) } else { 1 };
            *suspect = Suspect {
                theirs,
                csn,
                ours,
                steady,
                said,
                found,
            };
        } else if self.suspects.len() < SUSPECTS_MAX {
            let steady = 1;
            self.suspects.insert(
                uuid,
                Suspect {
                    theirs,
                    csn,
                    ours,
                    steady,
                    said,
                    found,
                },
            );
        } else {
            self.unchecked += 1;
        }
    }

    /// At the end of a pass: what the provider did not speak of. Whether there is more.
    ///
    /// # Errors
    /// The store's.
    pub fn sweep<C: Content>(&mut self, consumer: &mut Consumer, content: &mut C) -> Result<bool, C::Error> {
        let page = if self.pass == 1 {
            let mut page = Vec::new();
            content.entries(self.after, PAGE, &mut page)?;
            page
        } else {
            let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
            let page = self.suspects.range((from, Bound::Unbounded)).take(PAGE);
            page.map(|(uuid, _)| (*uuid, super::store::Id::ROOT)).collect()
        };
        self.after = page.last().map(|(uuid, _)| *uuid);
        for (uuid, id) in &page {
            let is_said = match self.suspects.get(uuid) {
                Some(suspect) => suspect.said == self.pass,
                None => self.seen.has(*id),
            };
            if is_said {
                continue;
            }
            match consumer.kept(content, uuid)? {
                Some((dn, ours)) => {
                    let found = Found {
                        uuid: *uuid,
                        kind: Kind::MissingThere,
                        dn: shown(dn),
                        there: None,
                        attributes: Vec::new(),
                    };
                    self.suspect(State::Gone, None, ours, found);
                }
                None => _ = self.suspects.remove(uuid),
            }
        }
        Ok(self.after.is_some())
    }

    /// Whether nothing more need be asked: there is no suspect, or each has been so long enough.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.still.is_some() || self.suspects.values().all(|suspect| suspect.steady >= STEADY)
    }

    /// Once the feed has caught up with the last pass: how suspects are kept now. Whether there is more; else the next
    /// pass begins.
    ///
    /// # Errors
    /// The store's.
    pub fn look<C: Content>(&mut self, consumer: &mut Consumer, content: &mut C) -> Result<bool, C::Error> {
        let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = self.suspects.range_mut((from, Bound::Unbounded)).take(PAGE);
        self.after = None;
        let mut row = Row::default();
        for (uuid, suspect) in page {
            self.after = Some(*uuid);
            let ours = if content.by_uuid(uuid, &mut row)? {
                consumer.state_of(content, uuid)?
            } else {
                State::Gone
            };
            if ours != suspect.ours {
                suspect.ours = ours;
                suspect.steady = 0;
            }
        }
        if self.after.is_none() {
            self.pass += 1;
            self.seen.reset();
        }
        Ok(self.after.is_some())
    }

    /// What it came to; at most so many differences are named.
    #[must_use]
    pub fn report(&self, shown_max: usize) -> Report {
        let mut report = Report {
            entries: self.entries,
            passes: self.pass,
            unchecked: self.unchecked,
            newer: self.newer,
            ..Report::default()
        };
        for suspect in self.suspects.values() {
            if self.still.is_none() && suspect.steady < STEADY {
                report.unsettled += 1;
                continue;
            }
            if let Some(count) = report.counts.get_mut(suspect.found.kind as usize) {
                *count += 1;
            }
            if report.found.len() < shown_max {
                report.found.push(suspect.found.clone());
            }
        }
        report
    }
}

/// As much of it as is remembered.
fn shown(mut text: String) -> String {
    if text.len() > SHOWN_BYTES_MAX {
        let end = text.floor_char_boundary(SHOWN_BYTES_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}
