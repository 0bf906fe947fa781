//! The local directory as an upstream: it answers in place, in the turn in which it is asked.
//!
//! Searches that follow the content (RFC 4533) stay open. They are fed at the end of a turn, as much as their client has
//! room for, when they begin, when the directory has changed, and when their client has read; what they were not told yet
//! is not kept anywhere for them.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::core::{Settlement, Ticket, UpstreamId, Verdict};
use engine::directory::{Bounds, Fed, Follow, LocalSession, Outcome};
use engine::session::ldap::lane;
use wire::frame::Step;
use wire::ldap::envelope::{self, tag};
use wire::ldap::result::{self, code};

use super::Drive;
use super::conn::ConnRef;
use super::pools::{Caller, Place, PoolState};
use crate::local_files::{Store, Told};

/// Largest answer to one search; beyond it the search ends with adminLimitExceeded.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One "connection" to a local directory.
#[derive(Debug)]
pub struct LocalUpstream {
    /// The directory's file.
    pub store: Arc<Store>,
    /// Who is bound on it.
    pub session: LocalSession,
    /// Its lane.
    pub lane: u8,
    /// Its server within the configured directory.
    pub server: usize,
}

/// A client with this much to read is told no more of a content that it follows.
const ROOM_BYTES: usize = 64 * 1024;

/// A search that follows a local directory's content.
#[derive(Debug)]
pub struct Follower {
    pool: usize,
    ticket: Ticket,
    upstream: UpstreamId,
    caller: Caller,
    store: Arc<Store>,
    follow: Follow,
    /// There may be something that it was not told.
    behind: bool,
}

/// A search that began to follow.
pub(super) type Following = (Arc<Store>, Follow);

/// Answers one whole request; the messages are appended to `out`.
pub(super) fn answer(
    state: &mut PoolState,
    upstream: UpstreamId,
    request: &[u8],
    out: &mut Vec<u8>,
) -> Option<Following> {
    // On shared connections the control is ours; on any other it is the client's own word.
    let ours = state.directory().is_some_and(|directory| directory.is_proxied());
    let Some(Place::Local(local)) = state.place(upstream) else {
        return None;
    };
    let bounds = Bounds {
        trusted_proxy: ours && matches!(local.lane, lane::SHARED | lane::APART),
        out_bytes_max: ANSWER_BYTES_MAX,
        ..Bounds::default()
    };
    let directory = local.store.read();
    match directory.answer(&mut local.session, request, out, &bounds) {
        Outcome::Answered { .. } | Outcome::NoAnswer => None,
        Outcome::Write => {
            local.store.write(&mut local.session, request, out, &bounds);
            None
        }
        Outcome::Follow => {
            let follow = Follow::begin(&directory, request, out)?;
            Some((Arc::clone(&local.store), follow))
        }
    }
}

impl Drive {
    /// Hands the messages of a local answer to its caller, as if they had come over a connection.
    pub(super) fn deliver_local(&mut self, index: usize, ticket: Ticket, upstream: UpstreamId, mut answer: &[u8]) {
        let now = self.now;
        while let Step::Frame { len } = envelope::split(answer, usize::MAX) {
            let Some((frame, rest)) = answer.split_at_checked(len) else {
                break;
            };
            answer = rest;
            let Ok(env) = envelope::peek(frame) else { break };
            let settlement = if envelope::is_final_response(env.tag) {
                Settlement::Done(Verdict::Well)
            } else {
                Settlement::Part
            };
            let Some(state) = self.pool(index) else { return };
            if let Some(caller) = state.pool.reply(ticket, upstream, settlement, now, &mut state.effects) {
                self.deliver(index, ticket, caller, &env, settlement);
            }
        }
    }

    /// A search has begun to follow; it is fed at the end of the turn.
    pub(super) fn followed(
        &mut self,
        pool: usize,
        ticket: Ticket,
        upstream: UpstreamId,
        caller: Caller,
        (store, follow): Following,
    ) {
        store.watch(self.number, &self.inbox);
        self.followers.push_back(Follower {
            pool,
            ticket,
            upstream,
            caller,
            store,
            follow,
            behind: true,
        });
        self.feeding = true;
    }

    /// A directory that somebody here follows has changed.
    pub(super) fn directory_changed(&mut self, told: &Told) {
        told.store(false, std::sync::atomic::Ordering::Release);
        for follower in &mut self.followers {
            follower.behind = true;
        }
        self.feeding = !self.followers.is_empty();
    }

    /// Tells every search that follows what it was not told yet, as far as its client has room.
    pub(super) fn feed_followers(&mut self) {
        if !std::mem::take(&mut self.feeding) {
            return;
        }
        self.feed_soon = false;
        for _ in 0..self.followers.len() {
            let Some(mut follower) = self.followers.pop_front() else {
                return;
            };
            let at = follower.caller.conn.at as usize;
            self.contained(Some(at), |drive| {
                if !follower.behind || drive.feed_follower(&mut follower) {
                    drive.followers.push_back(follower);
                }
            });
        }
    }

    /// False: it is over.
    fn feed_follower(&mut self, follower: &mut Follower) -> bool {
        let (index, ticket, upstream) = (follower.pool, follower.ticket, follower.upstream);
        if self
            .pool(index)
            .is_none_or(|state| state.pool.upstream_of(ticket) != Some(upstream))
        {
            return false;
        }
        let at = follower.caller.conn.at as usize;
        let has_room = if follower.caller.conn == ConnRef::FEED {
            self.feeds.has_room(follower.caller)
        } else {
            self.conns.get(at).is_none_or(|conn| conn.stream.waiting() < ROOM_BYTES)
        };
        if !has_room {
            // It goes on when some of it was written.
            self.feeding = true;
            return true;
        }
        let mut out = self.spares.take();
        let fed = if follower.store.is_retired() {
            let why = "the directory was loaded anew";
            let id = follower.caller.id;
            result::write_result(&mut out, id, tag::SEARCH_DONE, code::SYNC_REFRESH_REQUIRED, b"", why);
            Fed::Ended
        } else {
            follower.follow.feed(&follower.store.read(), &mut out, ROOM_BYTES)
        };
        follower.behind = fed == Fed::Behind;
        self.feeding |= follower.behind;
        self.feed_soon |= follower.behind;
        self.deliver_local(index, ticket, upstream, &out);
        self.spares.give(out);
        self.carry_out(index, None);
        fed != Fed::Ended
    }

    /// Nobody waits for what these searches follow any more.
    pub(super) fn forget_followers(&mut self, is_gone: impl Fn(usize, Ticket, UpstreamId) -> bool) {
        self.followers.retain(|f| !is_gone(f.pool, f.ticket, f.upstream));
    }

    /// Ends the searches of a client that follow something: they would have no end.
    pub(super) fn end_followers_of(&mut self, at: usize) {
        let (over, rest) = std::mem::take(&mut self.followers)
            .into_iter()
            .partition(|follower| follower.caller.conn.at as usize == at);
        self.followers = rest;
        for follower in VecDeque::<Follower>::into_iter(over) {
            let (index, id) = (follower.pool, follower.caller.id);
            let mut out = Vec::new();
            result::write_result(&mut out, id, tag::SEARCH_DONE, code::UNAVAILABLE, b"", "shutting down");
            self.deliver_local(index, follower.ticket, follower.upstream, &out);
            self.carry_out(index, None);
        }
    }

    /// The demo takes a local server away, or gives it back.
    pub(super) fn set_alive(&mut self, directory: &str, server: &str, alive: bool) {
        let now = self.now;
        for index in 0..self.pools.len() {
            let Some(state) = self.pool(index) else { continue };
            let Some(found) = state.directory().filter(|found| found.plan.name == directory) else {
                continue;
            };
            let Some(number) = found.set_alive(server, alive) else {
                continue;
            };
            if alive {
                continue;
            }
            let gone: Vec<UpstreamId> = state
                .places
                .iter()
                .filter(|(_, place)| matches!(place, Place::Local(local) if local.server == number))
                .filter_map(|(id, _)| *id)
                .collect();
            for id in gone {
                self.forget_followers(|pool, _, upstream| pool == index && upstream == id);
                let Some(state) = self.pool(index) else { return };
                state.take_place(id);
                state
                    .pool
                    .upstream_down(id, engine::core::Cause::Lost, now, &mut state.effects);
            }
            self.carry_out(index, None);
        }
    }
}
