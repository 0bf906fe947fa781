//! Searches that bring more entries than they may, or take longer.
//!
//! Time is a deadline of the search's own. Entries are counted as they pass: the one after the last that may is not passed on, the
//! search is ended (sizeLimitExceeded), and its server's operation abandoned. Pages of one search are counted together: the
//! cookie that asks for the next page (RFC 2696) says how many there were before. A cookie that was not given out on this connection,
//! or too long ago, begins where nothing more may come, else whoever connects anew for each page would have all of it.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;

use engine::core::Ticket;
use engine::core::time::Span;
use wire::ldap::control::{self, oid};
use wire::ldap::envelope::{Envelope, tag};
use wire::ldap::result::code;

use super::Drive;
use super::conn::Kind;
use super::pools::{Caller, PoolState};
use super::timers::span;
use crate::audit::record::End;
use crate::limits::SearchCaps;

/// Paged searches of one client that may be under way at once.
const PAGED_MAX: usize = 16;

/// What of a search's caps is used. 0 entries at most: any number.
#[derive(Debug)]
pub struct Capped {
    entries_max: u32,
    entries: u32,
    /// Its deadline is that of its cap.
    timed: bool,
}

/// The caps of a client's searches, and what of them its paged ones have used.
#[derive(Debug, Default)]
pub struct Searches {
    /// Of whom they are known.
    caps: Option<(Box<[u8]>, SearchCaps)>,
    /// By their cookie: how many entries there were before it.
    pages: VecDeque<(u64, u32)>,
}

impl Searches {
    /// They may be others by now.
    pub fn forget_caps(&mut self) {
        self.caps = None;
    }

    fn before(&mut self, cookie: &[u8]) -> u32 {
        let cookie = hash(cookie);
        let at = self.pages.iter().position(|(known, _)| *known == cookie);
        at.and_then(|at| self.pages.remove(at))
            .map_or(u32::MAX, |(_, entries)| entries)
    }

    fn remember(&mut self, cookie: &[u8], entries: u32) {
        if self.pages.len() == PAGED_MAX {
            self.pages.pop_front();
        }
        self.pages.push_back((hash(cookie), entries));
    }
}

fn hash(cookie: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    cookie.hash(&mut hasher);
    hasher.finish()
}

/// The cookie of a paged search or of its result, where there is one.
fn cookie(controls: &[u8]) -> Option<&[u8]> {
    let mut all = control::controls(controls).flatten();
    let paged = all.find(|control| control.oid == oid::PAGED_RESULTS.as_bytes())?;
    let (_, cookie) = control::paged_results(paged.value?)?;
    Some(cookie).filter(|cookie| !cookie.is_empty())
}

impl Drive {
    /// What is to be kept of a search's caps, and how long it may take; none: it has none.
    pub(super) fn cap_search(
        &mut self,
        at: usize,
        env: &Envelope<'_>,
        timeout: Option<Span>,
    ) -> Option<(Box<Capped>, Option<Span>)> {
        let conn = self.conns.get_mut(at).filter(|_| env.tag == tag::SEARCH_REQUEST)?;
        let peer = conn.peer;
        let client = conn.ldap()?;
        let limited = client.limited.as_mut()?;
        let authzid = client.session.authzid();
        let known = limited.searches.caps.as_ref().filter(|(who, _)| **who == *authzid);
        let caps = match known {
            Some((_, caps)) => *caps,
            None => {
                let caps = limited.limits().search_caps(peer, authzid);
                limited.searches.caps = Some((authzid.into(), caps));
                caps
            }
        };
        if caps == SearchCaps::default() {
            return None;
        }
        let cookie = cookie(env.controls).filter(|_| caps.entries_max > 0);
        // What goes on for ever by its nature has no timeout, and gets none.
        let time_max = span(caps.time_max);
        let timed = !caps.time_max.is_zero() && timeout.is_some_and(|timeout| time_max < timeout);
        let capped = Capped {
            entries_max: caps.entries_max,
            entries: cookie.map_or(0, |cookie| limited.searches.before(cookie)),
            timed,
        };
        Some((Box::new(capped), if timed { Some(time_max) } else { timeout }))
    }

    /// One more entry of a search. True: it is one too many, and the search is ended.
    pub(super) fn is_too_large(&mut self, index: usize, ticket: Ticket, caller: Caller) -> bool {
        let flight = self.pool(index).and_then(|state| state.flight(ticket));
        let Some(capped) = flight.and_then(|flight| flight.capped.as_mut()) else {
            return false;
        };
        if capped.entries_max == 0 || capped.entries < capped.entries_max {
            capped.entries = capped.entries.saturating_add(1);
            return false;
        }
        self.end_large(index, ticket, caller);
        true
    }

    fn end_large(&mut self, index: usize, ticket: Ticket, caller: Caller) {
        let now = self.now;
        let at = caller.conn.at as usize;
        if let Some(conn) = self.conns.get_mut(at)
            && let Kind::Ldap(client) = &mut conn.kind
        {
            let out = conn.stream.outbox(&mut self.spares);
            client.session.too_large(caller.id, out);
            if let Some(limited) = &client.limited {
                limited.limits().counts.too_large.fetch_add(1, Ordering::Relaxed);
            }
        }
        let entry = self.pool(index).and_then(|state| state.flight(ticket)?.audit.take());
        self.audit_end(at, entry, End::Failed(code::SIZE_LIMIT_EXCEEDED));
        let Some(state) = self.pool(index) else { return };
        state.pool.cancel(ticket, now, &mut state.effects);
        self.carry_out(index, None);
        self.mark_dirty(at);
        self.let_go(at);
    }

    /// A search has its result: how much it has brought is remembered for its next page.
    pub(super) fn note_page(&mut self, index: usize, ticket: Ticket, caller: Caller, env: &Envelope<'_>) {
        let flight = self.pool(index).and_then(|state| state.flight(ticket));
        let Some(entries) = flight
            .and_then(|flight| flight.capped.as_ref())
            .filter(|capped| capped.entries_max > 0)
            .map(|capped| capped.entries)
        else {
            return;
        };
        if let Some(cookie) = cookie(env.controls)
            && let Some(client) = self.conn(caller.conn).and_then(|conn| conn.ldap())
            && let Some(limited) = &mut client.limited
        {
            limited.searches.remember(cookie, entries);
        }
    }

    /// A search of this client was ended by its deadline, which may be that of its cap.
    pub(super) fn note_too_long(&mut self, index: usize, ticket: Ticket, caller: Caller) {
        let timed = self
            .pool(index)
            .and_then(|state: &mut PoolState| state.flight(ticket)?.capped.as_ref())
            .is_some_and(|capped| capped.timed);
        if timed
            && let Some(client) = self.conn(caller.conn).and_then(|conn| conn.ldap())
            && let Some(limited) = &client.limited
        {
            limited.limits().counts.too_long.fetch_add(1, Ordering::Relaxed);
        }
    }
}
