//! The sessions of feeds: one search that goes on and on, on a connection of its own (`lane::FEED`).
//!
//! A feed lives on the first worker of its directory. What the search brings is put together, message by message as it was
//! split, and handed to the feed's writer once per turn: one buffer for each read. When the writer has enough, this one
//! connection is not read, or the local directory not asked on, until it says so. Servers are chosen, dialled, bound to and
//! watched by the directory's pool; only whether *this* connection still lives is asked here, by a question of our own on
//! it, because a search at rest owes nothing.
//!
//! Invariant: every [`Job::FeedAsk`] that was taken is followed by one `Ended` in the feed's mailbox, behind all its messages.

use std::sync::Arc;

use engine::core::time::{Instant, Span};
use engine::core::{Class, Reason, Request, Route, Ticket, UpstreamId};
use engine::session::ldap::lane;
use wire::ldap::envelope::{self, Envelope};
use wire::ldap::result;

use super::Drive;
use super::conn::{ConnRef, Kind};
use super::pools::{Caller, Place};
use super::timers::span;
use crate::feed::mailbox::{Letter, Mailbox};

/// A feed's question to its directory.
#[derive(Debug)]
pub struct FeedAsk {
    /// The feed's number.
    pub feed: u32,
    /// The session's, which no other of the feed has.
    pub session: u64,
    /// The directory.
    pub directory: String,
    /// The whole request; its message id is of no meaning.
    pub request: Vec<u8>,
    /// Where what comes of it goes.
    pub mailbox: Arc<Mailbox>,
}

/// One session.
#[derive(Debug)]
pub struct Source {
    /// Its own among all of this worker: by it the pool names who asks. A session that is over and the next one of the same
    /// feed may be here in the same turn.
    number: u32,
    feed: u32,
    session: u64,
    pool: usize,
    ticket: Option<Ticket>,
    /// The connection that was opened for it.
    own: Option<UpstreamId>,
    /// Its writer has enough: a local directory, which has no connection to be left unread, tells it nothing meanwhile.
    choked: bool,
    mailbox: Arc<Mailbox>,
    chunk: Vec<u8>,
    /// Why it is over, once it is.
    over: Option<String>,
}

/// The sessions of a worker's feeds.
#[derive(Debug, Default)]
pub struct Sources {
    all: Vec<Source>,
    /// The number of the last one.
    last: u32,
    /// Some of them have something for their writer.
    touched: bool,
}

impl Sources {
    fn find(&mut self, number: u32) -> Option<&mut Source> {
        self.all.iter_mut().find(|source| source.number == number)
    }

    /// The one of a feed's session.
    fn of(&mut self, feed: u32, session: u64) -> Option<&mut Source> {
        let mut all = self.all.iter_mut();
        all.find(|source| source.feed == feed && source.session == session)
    }

    /// The numbers of a feed's sessions that are not over.
    fn open(&self, feed: u32) -> Vec<u32> {
        let open = self
            .all
            .iter()
            .filter(|source| source.feed == feed && source.over.is_none());
        open.map(|source| source.number).collect()
    }

    /// A number for one more; it is a message id, too.
    fn number(&mut self) -> u32 {
        self.last = (self.last + 1) & i32::MAX.cast_unsigned();
        self.last
    }

    /// Whether the writer of this caller's feed takes more.
    pub(super) fn has_room(&self, caller: Caller) -> bool {
        let number = caller.id.cast_unsigned();
        self.all.iter().any(|source| source.number == number && !source.choked)
    }
}

impl Drive {
    /// A feed asks for its session.
    pub(super) fn feed_ask(&mut self, ask: FeedAsk) {
        for number in self.feeds.open(ask.feed) {
            self.feed_over(number, "another session began");
        }
        let refuse = |why: &str| {
            ask.mailbox.say(Letter::Ended {
                session: ask.session,
                why: why.to_owned(),
            });
        };
        let Some(index) = self.find_directory(&ask.directory) else {
            return refuse("its directory is not configured");
        };
        let now = self.now;
        let number = self.feeds.number();
        let caller = Caller {
            conn: ConnRef::FEED,
            id: number.cast_signed(),
            tag: envelope::tag::SEARCH_REQUEST,
        };
        let Some(state) = self.pool(index) else {
            return refuse("its directory is gone");
        };
        let Some(patience) = state
            .directory()
            .map(|directory| span(directory.plan.limits.operation_timeout))
        else {
            return refuse("its directory is gone");
        };
        let request = Request {
            class: Class {
                lane: lane::FEED,
                retry: false,
            },
            deadline: Instant::MAX,
            queue_wait_max: Some(patience),
            affinity: None,
            pin: None,
            route: Route::default(),
        };
        let Some(ticket) = state.pool.submit(request, caller, now, &mut state.effects) else {
            return refuse("too much is asked at once");
        };
        state.take_off(ticket, caller, now);
        if let Some(flight) = state.flight(ticket) {
            flight.bytes.clear();
            flight.bytes.extend_from_slice(&ask.request);
        }
        self.feeds.all.push(Source {
            number,
            feed: ask.feed,
            session: ask.session,
            pool: index,
            ticket: Some(ticket),
            own: None,
            choked: false,
            mailbox: ask.mailbox,
            chunk: Vec::new(),
            over: None,
        });
        self.carry_out(index, None);
    }

    /// The writer has taken enough: its connection is read again.
    pub(super) fn feed_on(&mut self, feed: u32, session: u64) {
        let Some(source) = self.feeds.of(feed, session) else {
            return;
        };
        source.choked = false;
        let (index, own) = (source.pool, source.own);
        match self.feed_conn(index, own) {
            Some(to) => self.release_choked(&[to]),
            None => self.feeding = !self.followers.is_empty(),
        }
    }

    /// The feed ends its session.
    pub(super) fn feed_end(&mut self, feed: u32, session: u64) {
        if let Some(number) = self.feeds.of(feed, session).map(|source| source.number) {
            self.feed_over(number, "it was closed");
        }
        self.flush_feeds();
    }

    /// The server's name has lost the address of this feed's connection.
    pub(super) fn feed_leaves(&mut self, index: usize, id: UpstreamId) {
        let mut all = self.feeds.all.iter();
        let found = all.find(|source| source.pool == index && source.own == Some(id));
        if let Some(number) = found.map(|source| source.number) {
            self.feed_over(number, "its server's name has lost this address");
        }
    }

    /// A connection was opened for a feed's session.
    pub(super) fn feed_pinned(&mut self, caller: Caller, upstream: UpstreamId) {
        let Some(source) = self.feeds.find(caller.id.cast_unsigned()) else {
            return;
        };
        source.own = Some(upstream);
        let index = source.pool;
        if let Some(to) = self.feed_conn(index, Some(upstream)) {
            self.watch_feed(to.at as usize);
        }
    }

    /// A message of a feed's session.
    pub(super) fn feed_message(&mut self, caller: Caller, env: &Envelope<'_>, last: bool) {
        let number = caller.id.cast_unsigned();
        let Some(source) = self.feeds.find(number) else { return };
        if source.chunk.capacity() == 0 {
            source.chunk = source.mailbox.spare();
        }
        envelope::write(&mut source.chunk, 1, env.op, env.controls, &[]);
        self.feeds.touched = true;
        if last {
            let why = result::read_result(env.op).map_or_else(
                |_| "the server ended it".to_owned(),
                |result| {
                    let name = result::name(result.code);
                    let said = String::from_utf8_lossy(result.diagnostic);
                    format!("the server ended it: {name} ({}) {said}", result.code)
                },
            );
            if let Some(source) = self.feeds.find(number) {
                source.ticket = None;
            }
            self.feed_over(number, why.trim_end());
        }
    }

    /// The pool has ended a feed's session.
    pub(super) fn feed_failed(&mut self, caller: Caller, reason: Reason) {
        let number = caller.id.cast_unsigned();
        if let Some(source) = self.feeds.find(number) {
            source.ticket = None;
        }
        let why = match reason {
            Reason::Unavailable | Reason::QueueTimeout => "no server of the directory can be reached",
            Reason::UpstreamLost { .. } => "the connection was lost",
            Reason::ShuttingDown => "the daemon is shutting down",
            Reason::Canceled => "it was closed",
            Reason::QueueFull => "too much waits for the directory",
            Reason::Deadline => "it took too long",
        };
        self.feed_over(number, why);
    }

    /// A session is over: its connection is let go.
    fn feed_over(&mut self, number: u32, why: &str) {
        let now = self.now;
        let Some(source) = self.feeds.find(number) else { return };
        if source.over.is_some() {
            return;
        }
        source.over = Some(why.to_owned());
        let (index, ticket, own) = (source.pool, source.ticket.take(), source.own.take());
        self.feeds.touched = true;
        let Some(state) = self.pool(index) else { return };
        if let Some(ticket) = ticket {
            state.pool.cancel(ticket, now, &mut state.effects);
        }
        if let Some(own) = own {
            state.pool.release(own, now, &mut state.effects);
        }
        self.carry_out(index, None);
    }

    /// At the end of a turn: what has come goes to the writers.
    pub(super) fn flush_feeds(&mut self) {
        if !std::mem::take(&mut self.feeds.touched) {
            return;
        }
        let mut choke = Vec::new();
        self.feeds.all.retain_mut(|source| {
            if !source.chunk.is_empty() {
                let chunk = std::mem::take(&mut source.chunk);
                if !source.mailbox.put(source.session, chunk) && source.over.is_none() {
                    source.choked = true;
                    choke.push((source.pool, source.own));
                }
            }
            let Some(why) = source.over.take() else { return true };
            let session = source.session;
            source.mailbox.say(Letter::Ended { session, why });
            false
        });
        for (index, own) in choke {
            if let Some(to) = self.feed_conn(index, own)
                && let Some(conn) = self.conn(to)
            {
                conn.choked = true;
            }
        }
    }

    fn feed_conn(&mut self, index: usize, own: Option<UpstreamId>) -> Option<ConnRef> {
        match self.pool(index)?.place(own?)? {
            Place::Conn(to) => Some(*to),
            _ => None,
        }
    }

    /// Asks a feed's connection whether it lives, once it has said nothing for as long as servers are probed at rest.
    fn watch_feed(&mut self, at: usize) {
        if let Some((interval, _)) = self.feed_patience(at) {
            self.arm(at, interval);
        }
    }

    /// The time has come to look at a feed's connection.
    pub(super) fn feed_due(&mut self, at: usize) {
        let Some((interval, timeout)) = self.feed_patience(at) else {
            return;
        };
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        let silent = now.since(conn.active_at);
        // What is not read cannot answer.
        if conn.choked {
            conn.active_at = now;
            return self.arm(at, interval);
        }
        if silent >= interval + timeout {
            return self.upstream_lost(at, "it answers nothing any more");
        }
        if silent < interval {
            return self.arm(at, Span::from_micros(interval.as_micros() - silent.as_micros()));
        }
        if let Kind::Upstream(server) = &mut conn.kind {
            server.machine.probe(conn.stream.outbox(&mut self.spares));
            self.mark_dirty(at);
            self.arm(at, timeout);
        }
    }

    /// How long the connection of a feed may be silent, and how long it has to answer then.
    fn feed_patience(&mut self, at: usize) -> Option<(Span, Span)> {
        let Kind::Upstream(upstream) = &self.conns.get(at)?.kind else {
            return None;
        };
        let (index, is_feed) = (
            upstream.pool,
            upstream.lane == lane::FEED && upstream.machine.is_ready(),
        );
        let limits = &self.pool(index)?.directory()?.plan.limits;
        let interval = span(limits.probe_interval);
        (is_feed && !interval.is_zero()).then(|| (interval, span(limits.probe_timeout)))
    }
}
