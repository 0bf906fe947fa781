//! The consumer's side of content synchronisation (RFC 4533): from the messages of a session to rows, events and a cookie.
//!
//! **A refresh is staged.** What comes in full is compared and kept at once, and its events are emitted; what is *gone* is
//! decided only when the provider has said that the refresh is done, in one transaction with the cookie. A refresh that
//! breaks off deletes nothing and keeps the old cookie, and the next one begins where it began.
//!
//! **Deletes are computed, never guessed.** With a cookie, a provider either lists what is there (present phase: the rest
//! is gone) or what is gone (delete phase: the rest is there). Without one it sends all, and what is kept and was not sent
//! is gone: nothing is ever wiped to get a full content. Nothing else deletes: no error, no lost connection, no empty answer.
//!
//! **The guard.** A refresh that would delete more than `max_deletes` is *held*: nothing is deleted and the cookie stays,
//! while later changes are applied; an operator confirms or rejects.
//!
//! **Cookies.** Kept is what the content is worth. During a refresh cookies are gathered and count when it is done;
//! afterwards each counts with its message. A cookie that the provider refuses is dropped, which makes the next session a
//! full comparison; it can not be refused twice.
//!
//! States: `Idle` → [`Consumer::begin`] → `Refresh` → done → `Persist`, or `Held` → confirmed → `Persist`. Any of them
//! ends in `Idle`, by [`Consumer::lost`] or by a [`Step::Over`].
//!
//! An error of the store leaves the consumer behind what the store has: it must be made anew.

use wire::ldap::message::Entry;
use wire::ldap::result::{LdapResult, code};
use wire::ldap::sync::cookie::{self, OpenLdap};
use wire::ldap::sync::{Mode, State, SyncDone, SyncInfo, SyncMessage, SyncRequest, SyncState};

use super::diff::Diff;
use super::emitter::Emitter;
use super::event::{Counts, Uuid};
use super::marks::Marks;
use super::settings::{Profile, Settings};
use super::store::{Content, Facts, Held, Id, Row};
use super::tree::Tree;

pub(crate) mod compare;
mod entries;
mod finish;
mod follow;
mod leave;
mod replay;

/// What is to be done after a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Read on.
    Continue,
    /// The refresh is done; read on, changes follow as they happen.
    Refreshed,
    /// The refresh would delete too much and is held ([`Consumer::held`]); read on.
    Held,
    /// The search is over.
    Over(Over),
}

/// How a search ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// The content is complete, and the next refresh is due when it is due (refreshOnly).
    Refreshed,
    /// The refresh is complete but for what is held (refreshOnly).
    Held,
    /// The provider ended it; begin another session.
    Ended,
    /// Begin another session at once. Never twice without a refresh in between.
    Again(Again),
    /// The provider refused or failed; nothing was changed. Try later.
    Failed {
        /// The result code; 0 where the provider said success without saying that the content is complete.
        code: u32,
    },
}

/// Why another session is to begin at once. It sends no cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// e-syncRefreshRequired (4096): the cookie is too old.
    RefreshRequired,
    /// unwillingToPerform (53): the provider is behind the cookie, as after a restored backup.
    CookieRefused,
    /// The provider's answer cannot be brought into line with what is kept: it mentioned an entry that is not, or a container
    /// left a filtered content and it cannot be known whether what was below left with it.
    Unsure,
}

/// What became of an operator's confirmation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confirmed {
    /// Nothing was held.
    NothingHeld,
    /// It was carried out; go on as after a message.
    Now(Step),
    /// The session that was held is gone: the next refresh may delete as many. Begin one.
    NextRefresh,
}

/// Where a consumer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// No session.
    Idle,
    /// In a refresh.
    Refresh,
    /// The content is complete, and follows.
    Persist,
    /// As [`Phase::Persist`], but for deletes that wait for an operator.
    Held,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Consumer {
    settings: Settings,
    facts: Facts,
    /// Whether `facts` differ from those in the store.
    unsaved: bool,
    phase: Phase,
    /// Whether this session began with a cookie.
    resumed: bool,
    /// Whether the provider said what is there rather than what is gone.
    present: bool,
    /// Whether single entries were said to be present.
    listed: bool,
    /// Whether only a full comparison can tell the truth.
    unsure: bool,
    /// The second of the youngest change that the cookie tells of (`YYYYMMDDhhmmss`).
    cookie_second: String,
    /// What the cookie will be when the refresh counts.
    gathered: Vec<u8>,
    /// Entries there were when it began.
    entries_before: u64,
    /// Rows that are there.
    seen: Marks,
    /// Rows whose names were said.
    named: Marks,
    /// Rows that were said to be gone.
    doomed: Marks,
    /// Of those, the ones that were said to be outside of the base now.
    outside: Marks,
    tree: Tree,
    out: Emitter,
    diff: Diff,
    row: Row,
    fresh: Vec<u8>,
}

impl Consumer {
    /// A consumer of this content. Where the settings differ from those that the content was made with, the cookie is
    /// dropped: the next refresh compares everything.
    ///
    /// # Errors
    /// The store's.
    pub fn new<C: Content>(settings: Settings, content: &mut C) -> Result<Self, C::Error> {
        let mut facts = content.facts()?;
        let differs = facts.fingerprint != settings.fingerprint;
        if differs {
            facts.fingerprint = settings.fingerprint;
            facts.cookie.clear();
        }
        Ok(Self {
            tree: Tree::new(&settings.base, content)?,
            out: Emitter {
                shards: settings.shards,
                before: settings.before,
                silent: false,
                counts: Counts::default(),
            },
            settings,
            facts,
            unsaved: differs,
            phase: Phase::Idle,
            resumed: false,
            present: false,
            listed: false,
            unsure: false,
            cookie_second: String::new(),
            gathered: Vec::new(),
            entries_before: 0,
            seen: Marks::default(),
            named: Marks::default(),
            doomed: Marks::default(),
            outside: Marks::default(),
            diff: Diff::default(),
            row: Row::default(),
            fresh: Vec::new(),
        })
    }

    /// A session begins: what to ask with. One that was open counts as lost.
    pub fn begin(&mut self) -> SyncRequest<'_> {
        self.lost();
        self.phase = Phase::Refresh;
        self.resumed = !self.facts.cookie.is_empty();
        self.gathered.clone_from(&self.facts.cookie);
        self.cookie_second = youngest_second(&self.facts.cookie);
        self.entries_before = self.facts.entries;
        self.out.silent = !self.settings.initial && self.facts.refreshes == 0;
        self.out.counts = Counts::default();
        SyncRequest {
            mode: self.settings.mode,
            cookie: self.resumed.then_some(self.facts.cookie.as_slice()),
            reload_hint: self.resumed,
        }
    }

    /// The session ended without a word. What was staged is forgotten.
    pub fn lost(&mut self) {
        self.phase = Phase::Idle;
        self.present = false;
        self.listed = false;
        self.unsure = false;
        self.seen.reset();
        self.named.reset();
        self.doomed.reset();
        self.outside.reset();
    }

    /// Takes one whole message of the session that began. `time_ms`: milliseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// The store's.
    pub fn message<C: Content>(
        &mut self,
        content: &mut C,
        message: &SyncMessage<'_>,
        time_ms: i64,
    ) -> Result<Step, C::Error> {
        match message {
            _ if self.phase == Phase::Idle => return Ok(Step::Continue),
            SyncMessage::Entry { state, entry } => self.entry(content, state, entry, time_ms)?,
            SyncMessage::Reference { state, .. } => {
                if let Some(state) = state {
                    self.reference(content, state, time_ms)?;
                }
            }
            SyncMessage::Info(info) => return self.info(content, info, time_ms),
            SyncMessage::Done { result, done } => return self.done(content, result, done.as_ref(), time_ms),
            SyncMessage::Other => {}
        }
        Ok(self.go_on())
    }

    /// To be called before each commit: keeps the cookie, and what else is known beside the rows.
    ///
    /// # Errors
    /// The store's.
    pub fn save<C: Content>(&mut self, content: &mut C) -> Result<(), C::Error> {
        if std::mem::take(&mut self.unsaved) {
            content.set_facts(&self.facts)?;
        }
        Ok(())
    }

    /// An operator lets the held refresh delete.
    ///
    /// # Errors
    /// The store's.
    pub fn confirm<C: Content>(&mut self, content: &mut C, time_ms: i64) -> Result<Confirmed, C::Error> {
        let Some(held) = self.facts.held else {
            return Ok(Confirmed::NothingHeld);
        };
        if self.phase == Phase::Held {
            let step = self.complete(content, time_ms)?;
            return Ok(Confirmed::Now(match (step, self.settings.mode) {
                (Step::Refreshed, Mode::RefreshOnly) => {
                    self.lost();
                    Step::Over(Over::Refreshed)
                }
                _ => step,
            }));
        }
        self.facts.may_delete = held.deletes;
        self.unsaved = true;
        Ok(Confirmed::NextRefresh)
    }

    /// An operator does not: what was held is forgotten, and the session to be closed. The next refresh begins at the
    /// kept cookie. Whether anything was held.
    pub fn reject(&mut self) -> bool {
        let held = self.facts.held.take().is_some();
        if held {
            self.unsaved = true;
            self.lost();
        }
        held
    }

    /// Makes the next session a full comparison: for names that change silently below a filter, or when in doubt.
    pub fn reload(&mut self) {
        self.facts.cookie.clear();
        self.unsaved = true;
    }

    /// The refresh that waits for an operator.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.facts.held
    }

    /// Where it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What is known beside the rows.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What has happened since the session began; `entries` is 0.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.out.counts
    }

    fn go_on(&mut self) -> Step {
        if self.unsure {
            // At once, also within a refresh: were it to break off later, what made us unsure would be known by then and
            // not be noticed again.
            self.drop_cookie();
            self.lost();
            return Step::Over(Over::Again(Again::Unsure));
        }
        Step::Continue
    }

    fn entry<C: Content>(
        &mut self,
        content: &mut C,
        state: &SyncState<'_>,
        entry: &Entry<'_>,
        time_ms: i64,
    ) -> Result<(), C::Error> {
        match state.state {
            State::Present => self.is_present(content, &state.uuid)?,
            State::Add | State::Modify => self.is_so(content, &state.uuid, entry, time_ms)?,
            State::Delete => self.is_gone(content, &state.uuid, Some(entry.dn), time_ms)?,
        }
        self.learn(state.cookie);
        Ok(())
    }

    /// An entry that is elsewhere: where it is known it stays, but nothing can be said of its attributes. With Manage DSA IT
    /// (RFC 3296), which a session should be asked with, referral objects come as entries.
    fn reference<C: Content>(&mut self, content: &mut C, state: &SyncState<'_>, time_ms: i64) -> Result<(), C::Error> {
        match (state.state, content.find(&state.uuid)?) {
            (State::Delete, _) => self.is_gone(content, &state.uuid, None, time_ms)?,
            (_, Some(_)) => self.is_present(content, &state.uuid)?,
            (_, None) => {}
        }
        self.learn(state.cookie);
        Ok(())
    }

    fn info<C: Content>(&mut self, content: &mut C, info: &SyncInfo<'_>, time_ms: i64) -> Result<Step, C::Error> {
        match info {
            SyncInfo::NewCookie(cookie) => self.learn(Some(cookie)),
            SyncInfo::RefreshPresent(end) | SyncInfo::RefreshDelete(end) => {
                self.learn(end.cookie);
                if self.phase == Phase::Refresh {
                    self.present |= matches!(info, SyncInfo::RefreshPresent(_));
                    if end.refresh_done {
                        return self.finish(content, time_ms);
                    }
                }
            }
            SyncInfo::SyncIdSet(set) => {
                for uuid in set.uuids {
                    if set.refresh_deletes {
                        self.is_gone(content, &uuid, None, time_ms)?;
                    } else {
                        self.is_present(content, &uuid)?;
                    }
                }
                self.learn(set.cookie);
            }
        }
        Ok(self.go_on())
    }

    fn done<C: Content>(
        &mut self,
        content: &mut C,
        result: &LdapResult<'_>,
        done: Option<&SyncDone<'_>>,
        time_ms: i64,
    ) -> Result<Step, C::Error> {
        let over = match (self.phase, result.code) {
            (Phase::Refresh, code::SUCCESS) => match done {
                Some(done) => return self.refreshed(content, done, time_ms),
                None => Over::Failed { code: code::SUCCESS },
            },
            (Phase::Refresh, code::SYNC_REFRESH_REQUIRED) if self.resumed => {
                self.drop_cookie();
                Over::Again(Again::RefreshRequired)
            }
            (Phase::Refresh, code::UNWILLING_TO_PERFORM) if self.resumed && is_about_cookie(result.diagnostic) => {
                self.drop_cookie();
                Over::Again(Again::CookieRefused)
            }
            (Phase::Persist | Phase::Held, code::SUCCESS | code::SYNC_REFRESH_REQUIRED) => {
                self.learn(done.and_then(|done| done.cookie));
                Over::Ended
            }
            (_, code) => Over::Failed { code },
        };
        self.lost();
        Ok(Step::Over(over))
    }

    /// A search for the content alone is over and went well.
    fn refreshed<C: Content>(&mut self, content: &mut C, done: &SyncDone<'_>, time_ms: i64) -> Result<Step, C::Error> {
        self.learn(done.cookie);
        self.present |= match self.settings.profile {
            Profile::Standard => !done.refresh_deletes,
            Profile::Ds389 => self.listed,
        };
        let step = self.finish(content, time_ms)?;
        let over = match step {
            Step::Held => Over::Held,
            Step::Over(over) => over,
            Step::Continue | Step::Refreshed => match self.settings.mode {
                Mode::RefreshOnly => Over::Refreshed,
                Mode::RefreshAndPersist => Over::Ended,
            },
        };
        if over != Over::Held {
            self.lost();
        }
        Ok(Step::Over(over))
    }

    /// A cookie was said.
    fn learn(&mut self, said: Option<&[u8]>) {
        let kept = match self.phase {
            Phase::Persist => &mut self.facts.cookie,
            _ => &mut self.gathered,
        };
        if let Some(merged) = said.and_then(|said| cookie::merge(kept, said)) {
            *kept = merged;
            self.unsaved |= self.phase == Phase::Persist;
        }
    }

    fn drop_cookie(&mut self) {
        self.facts.cookie.clear();
        self.unsaved = true;
    }

    /// The entry is there, as it was.
    fn is_present<C: Content>(&mut self, content: &mut C, uuid: &Uuid) -> Result<(), C::Error> {
        if self.phase != Phase::Refresh {
            return Ok(());
        }
        self.listed = true;
        match content.find(uuid)? {
            Some(id) => {
                self.doomed.clear(id);
                self.outside.clear(id);
                self.out.counts.unchanged += u64::from(self.seen.set(id));
            }
            // A full comparison brings whatever there is, so there only a cookie can have promised too much.
            None => self.unsure |= self.resumed,
        }
        Ok(())
    }

    /// What came in full is there, and bears the name it came with.
    fn mark(&mut self, id: Id) {
        match self.phase {
            Phase::Refresh => {
                self.seen.set(id);
                self.named.set(id);
            }
            Phase::Held => {
                self.seen.set(id);
            }
            Phase::Idle | Phase::Persist => return,
        }
        self.doomed.clear(id);
        self.outside.clear(id);
    }
}

/// A cookie that cannot be read is younger than everything: then nothing is believed to be told that need not be.
fn youngest_second(cookie: &[u8]) -> String {
    let parsed = OpenLdap::parse(cookie);
    let youngest = parsed.as_ref().and_then(|cookie| {
        let seconds = cookie.csns().iter().filter_map(|csn| csn.text.get(..14));
        seconds.max()
    });
    youngest.unwrap_or("~").to_string()
}

/// OpenLDAP: "consumer state is newer than provider!". A provider that says nothing is believed to mean it too: the next
/// session sends no cookie, so that it cannot be refused twice.
fn is_about_cookie(diagnostic: &[u8]) -> bool {
    let text = String::from_utf8_lossy(diagnostic);
    text.is_empty() || text.contains("newer") || text.contains("cookie")
}
