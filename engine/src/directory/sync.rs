//! Content synchronisation (RFC 4533), the provider's side: a search that is told what became of its content since a
//! cookie, and where it asks for that, every change from then on.
//!
//! A [`Follow`] is such a search. It is *fed*: each call of [`Follow::feed`] appends what there is to say, up to a bound, and
//! says whether there is more. So neither a large content nor a burst of changes is ever held for a slow consumer: what it
//! has not been told is in the directory and in its [`super::log`], and nowhere else.
//!
//! ```text
//!   cookie ─┬─ of a change after which all are kept ─→ Replay: those changes, in their order ─┐
//!           ├─ older, but of this content ──→ Walk: what changed since, and the UUIDs of the rest ─┼─→ Persist, or the end
//!           └─ none, garbage, or of what was lost ─→ Walk: everything ────────────────────┘
//! ```
//!
//! Replaying rather than comparing is what makes renames safe: a consumer that takes the messages in their order never
//! meets two entries with one name.

use std::sync::Arc;

use wire::ldap::dn;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::grammar::{self, Scope, SearchRequest};
use wire::ldap::result::{self, code};
use wire::ldap::sync::{
    Mode, PhaseEnd, State, SyncDone, SyncIdSet, SyncInfo, SyncRequest, SyncState, Uuids, write_uuids,
};

use super::Directory;
use super::csn::Csn;
use super::entry::{Entry, EntryId};
use super::evaluate::{self, Room};
use super::log::Change;
use super::program::{Program, Truth};
use super::search::{End, Form, Place, Wanted, write_found};

/// UUIDs in one message, as slapd has it.
const UUIDS_MAX: usize = 256;
/// Steps (see [`super::Bounds::steps_max`]) in one call of [`Follow::feed`]: some 20 ms.
const STEPS_MAX: u64 = 100_000;

/// How a call of [`Follow::feed`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fed {
    /// There is more to say.
    Behind,
    /// There is nothing to say until something changes.
    Waiting,
    /// The final response is written.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub struct Follow {
    id: i32,
    base: Vec<u8>,
    scope: Scope,
    program: Program,
    wanted: Wanted,
    types_only: bool,
    persists: bool,
    /// The consumer's number for itself, which its cookies show.
    rid: String,
    entries_left: u64,
    phase: Phase,
    /// The next change to be told.
    next: u64,
    room: Room,
}

#[derive(Debug)]
enum Phase {
    /// The content as it was when this began.
    Walk {
        content: Arc<Directory>,
        stack: Vec<EntryId>,
        /// What has not changed since then is only named.
        since: Option<Csn>,
        present: Vec<[u8; 16]>,
    },
    /// Changes before this one are what became of the content since the cookie.
    Replay {
        until: u64,
        csn: Csn,
    },
    Persist,
}

impl Follow {
    /// Begins a search that [`Directory::answer`] has called [`super::Outcome::Follow`]. `None`: it has been answered, in
    /// `out`.
    pub fn begin(directory: &Arc<Directory>, frame: &[u8], out: &mut Vec<u8>) -> Option<Follow> {
        let envelope = envelope::peek(frame).ok()?;
        match Self::try_begin(directory, &envelope) {
            Ok(follow) => Some(follow),
            Err(end) => {
                result::write_result(
                    out,
                    envelope.id,
                    tag::SEARCH_DONE,
                    end.code,
                    end.matched_dn,
                    end.diagnostic,
                );
                None
            }
        }
    }

    fn try_begin<'a>(directory: &'a Arc<Directory>, envelope: &Envelope<'_>) -> Result<Follow, End<'a>> {
        const MALFORMED: End<'static> = End::new(code::PROTOCOL_ERROR, "the request is malformed");
        let request = grammar::search(envelope.op).map_err(|_| MALFORMED)?;
        let value = super::answer::sync_request(envelope.controls).ok_or(MALFORMED)?;
        let sync = SyncRequest::read(value).map_err(|_| MALFORMED)?;
        let mut base = Vec::new();
        let id = match directory.place(request.base, &mut base)? {
            Place::Tree(id, _) => id,
            Place::Alone(_) => {
                let why = "only what is below the naming context can be followed";
                return Err(End::new(code::UNWILLING_TO_PERFORM, why));
            }
        };
        let (next, phase) = begin_phase(directory, id, sync.cookie, request.scope);
        let mut follow = Follow {
            id: envelope.id,
            base,
            scope: request.scope,
            program: Program::default(),
            wanted: Wanted::default(),
            types_only: request.types_only,
            persists: sync.mode == Mode::RefreshAndPersist,
            rid: rid(sync.cookie.unwrap_or_default()),
            entries_left: entries_max(&request),
            phase,
            next,
            room: Room::default(),
        };
        follow
            .program
            .compile(&directory.schema, request.filter)
            .map_err(|_| MALFORMED)?;
        follow.wanted.read(&directory.schema, request.attributes);
        Ok(follow)
    }

    /// Appends what there is to say to `out`, until `out` has `bytes_max` octets or somewhat more.
    pub fn feed(&mut self, directory: &Directory, out: &mut Vec<u8>, bytes_max: usize) -> Fed {
        let mut steps = STEPS_MAX;
        loop {
            let done = match &mut self.phase {
                Phase::Walk { .. } => self.walk(out, bytes_max, &mut steps),
                Phase::Replay { until, .. } => {
                    let until = *until;
                    self.replay(directory, until, out, bytes_max, &mut steps)
                }
                Phase::Persist => {
                    let until = directory.log.next();
                    let fed = self.replay(directory, until, out, bytes_max, &mut steps);
                    return fed.unwrap_or(Fed::Waiting);
                }
            };
            match done {
                Some(fed) => return fed,
                None => {
                    if let Some(fed) = self.refreshed(out) {
                        return fed;
                    }
                }
            }
        }
    }

    /// `None`: the whole content has been told.
    fn walk(&mut self, out: &mut Vec<u8>, bytes_max: usize, steps: &mut u64) -> Option<Fed> {
        let Phase::Walk { content, .. } = &self.phase else {
            return None;
        };
        let content = Arc::clone(content);
        loop {
            if out.len() >= bytes_max || *steps == 0 {
                return Some(Fed::Behind);
            }
            let Phase::Walk { stack, since, .. } = &mut self.phase else {
                return None;
            };
            let since = *since;
            let Some(id) = stack.pop() else { break };
            let Some(node) = content.node(id) else { continue };
            let is_base = *node.entry.normal_dn == *self.base;
            if self.scope != Scope::Base && (self.scope != Scope::One || is_base) {
                stack.extend(node.children.iter().rev());
            }
            if !self.is_content(&content, &node.entry, steps) {
                continue;
            }
            if since.is_some_and(|since| node.entry.csn <= since) {
                self.name_present(node.entry.uuid, out);
                continue;
            }
            let Some(left) = self.entries_left.checked_sub(1) else {
                result::write_result(out, self.id, tag::SEARCH_DONE, code::SIZE_LIMIT_EXCEEDED, b"", "");
                return Some(Fed::Ended);
            };
            self.entries_left = left;
            self.tell(&content, &node.entry, State::Add, None, out);
        }
        self.flush_present(out);
        None
    }

    /// Tells the changes before `until`. `None`: all have been.
    fn replay(
        &mut self,
        directory: &Directory,
        until: u64,
        out: &mut Vec<u8>,
        bytes_max: usize,
        steps: &mut u64,
    ) -> Option<Fed> {
        let refresh = matches!(self.phase, Phase::Replay { .. });
        let mut untold = None;
        let fed = loop {
            if self.next >= until {
                break None;
            }
            if out.len() >= bytes_max || *steps == 0 {
                break Some(Fed::Behind);
            }
            let Some(change) = directory.log.get(self.next) else {
                // It has been away for longer than changes are kept, or is too slow.
                let why = "changes that were not sent yet are not kept any more";
                result::write_result(out, self.id, tag::SEARCH_DONE, code::SYNC_REFRESH_REQUIRED, b"", why);
                return Some(Fed::Ended);
            };
            let change = Arc::clone(change);
            self.next += 1;
            let told = self.tell_change(directory, &change, refresh, out, steps);
            untold = (!told).then_some(change.csn);
        };
        // What was none of its concern moves its cookie on all the same.
        if let Some(csn) = untold.filter(|_| !refresh) {
            SyncInfo::NewCookie(csn.cookie(&self.rid).as_bytes()).write_message(out, self.id);
        }
        fed
    }

    /// False: it does not concern this content.
    fn tell_change(
        &mut self,
        directory: &Directory,
        change: &Change,
        refresh: bool,
        out: &mut Vec<u8>,
        steps: &mut u64,
    ) -> bool {
        let old = change
            .old
            .as_ref()
            .filter(|entry| self.is_content(directory, entry, steps));
        let new = change
            .new
            .as_ref()
            .filter(|entry| self.is_content(directory, entry, steps));
        let (entry, state) = match (old, new) {
            (None, None) => return false,
            (Some(entry), None) => (entry, State::Delete),
            (Some(_), Some(entry)) if !refresh => (entry, State::Modify),
            (_, Some(entry)) => (entry, State::Add),
        };
        let cookie = (!refresh).then(|| change.csn.cookie(&self.rid));
        self.tell(directory, entry, state, cookie.as_deref(), out);
        true
    }

    fn is_content(&mut self, directory: &Directory, entry: &Entry, steps: &mut u64) -> bool {
        let in_scope = match self.scope {
            Scope::Base => *entry.normal_dn == *self.base,
            Scope::One => dn::normal_parent(&entry.normal_dn) == Some(self.base.as_slice()),
            Scope::Subtree => dn::is_within(&entry.normal_dn, &self.base),
            Scope::Subordinate => *entry.normal_dn != *self.base && dn::is_within(&entry.normal_dn, &self.base),
        };
        *steps = steps.saturating_sub(1);
        if !in_scope {
            return false;
        }
        let (truth, taken) = evaluate::test(&self.program, &directory.schema, entry, &mut self.room);
        *steps = steps.saturating_sub(taken);
        truth == Truth::True
    }

    fn tell(&self, directory: &Directory, entry: &Entry, state: State, cookie: Option<&str>, out: &mut Vec<u8>) {
        let mut control = Vec::with_capacity(128);
        SyncState {
            state,
            uuid: entry.uuid,
            cookie: cookie.map(str::as_bytes),
        }
        .write_control(&mut control);
        let form = Form {
            id: self.id,
            wanted: &self.wanted,
            types_only: self.types_only,
            // Who is told that it is gone is told its name and nothing more.
            name_only: state == State::Delete,
            controls: &control,
        };
        write_found(&directory.schema, entry, &form, &mut Vec::new(), out);
    }

    fn name_present(&mut self, uuid: [u8; 16], out: &mut Vec<u8>) {
        let Phase::Walk { present, .. } = &mut self.phase else {
            return;
        };
        present.push(uuid);
        if present.len() == UUIDS_MAX {
            self.flush_present(out);
        }
    }

    fn flush_present(&mut self, out: &mut Vec<u8>) {
        let Phase::Walk { present, .. } = &mut self.phase else {
            return;
        };
        let mut content = Vec::new();
        write_uuids(&mut content, present.drain(..));
        if let Some(uuids) = Uuids::new(&content).ok().filter(|_| !content.is_empty()) {
            let set = SyncIdSet {
                cookie: None,
                refresh_deletes: false,
                uuids,
            };
            SyncInfo::SyncIdSet(set).write_message(out, self.id);
        }
    }

    /// The refresh is over. `None`: there is more to come.
    fn refreshed(&mut self, out: &mut Vec<u8>) -> Option<Fed> {
        let (csn, deletes) = match std::mem::replace(&mut self.phase, Phase::Persist) {
            Phase::Walk { content, .. } => (content.log.newest(), false),
            Phase::Replay { csn, .. } => (csn, true),
            Phase::Persist => return None,
        };
        let cookie = csn.cookie(&self.rid);
        let cookie = Some(cookie.as_bytes());
        if self.persists {
            let end = PhaseEnd {
                cookie,
                refresh_done: true,
            };
            let info = if deletes {
                SyncInfo::RefreshDelete(end)
            } else {
                SyncInfo::RefreshPresent(end)
            };
            info.write_message(out, self.id);
            return None;
        }
        let mut control = Vec::new();
        SyncDone {
            cookie,
            refresh_deletes: deletes,
        }
        .write_control(&mut control);
        let mut done = Vec::new();
        result::write_result(&mut done, self.id, tag::SEARCH_DONE, code::SUCCESS, b"", "");
        if let Ok(done) = envelope::peek(&done) {
            envelope::write(out, done.id, done.op, &control, b"");
        }
        Some(Fed::Ended)
    }
}

/// How a search begins, and which change it is told next after that.
///
/// A cookie that is of no use is answered with everything and not with e-syncRefreshRequired, also where the request's
/// reloadHint asks for that: slapd as a consumer always sets it, and comes back with the same cookie for ever.
fn begin_phase(directory: &Arc<Directory>, base: EntryId, cookie: Option<&[u8]>, scope: Scope) -> (u64, Phase) {
    let log = &directory.log;
    let known = cookie.and_then(Csn::of_cookie);
    let believed = known.filter(|csn| directory.trust.believes(*csn, log.newest()));
    if let Some(next) = believed.and_then(|csn| log.after(csn)) {
        let (until, csn) = (log.next(), log.newest());
        return (next, Phase::Replay { until, csn });
    }
    let mut stack = vec![base];
    if scope == Scope::Subordinate {
        // The base is no part of it, and is not asked for what is below it either.
        stack = directory
            .node(base)
            .map(|node| node.children.iter().rev().copied().collect())
            .unwrap_or_default();
    }
    let walk = Phase::Walk {
        content: Arc::clone(directory),
        stack,
        since: believed,
        present: Vec::new(),
    };
    (log.next(), walk)
}

fn entries_max(request: &SearchRequest<'_>) -> u64 {
    match u64::try_from(request.size_limit) {
        Ok(0) | Err(_) => u64::MAX,
        Ok(wanted) => wanted,
    }
}

/// Three digits, as slapd has them.
fn rid(cookie: &[u8]) -> String {
    let field = cookie.split(|byte| *byte == b',').find_map(|f| f.strip_prefix(b"rid="));
    let digits = field.filter(|rid| rid.len() == 3 && rid.iter().all(u8::is_ascii_digit));
    String::from_utf8_lossy(digits.unwrap_or(b"000")).into_owned()
}
