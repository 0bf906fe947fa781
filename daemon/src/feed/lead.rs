//! Who delivers a feed that several daemons share: see docs/feed-high-availability.md.
//!
//! ```text
//! Following ──lease──→ Reading ──read to the end──→ Asked ──the writer has taken over──→ Leading
//!     ↑                   │                           │                                     │
//!     └── the lease is lost, a delivery has failed, the writer began anew: the gate closes ─┘
//! ```
//!
//! This task has the lease and reads the stream; the writer decides what it means, and says how far it is ([`Told`]). The
//! shards stand at a gate: only while this daemon leads do they connect and deliver. Every failure of a delivery ends the
//! term: what the stream has is then read from the stream, and not guessed.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::mailbox::{Letter, Mailbox};
use super::sink::takeover::{End, Follow, Leadership, Published};
use super::sink::{LeasePlan, SinkError, Sinks};
use super::status::Status;

/// Messages that are told to the writer at once; it answers before it is told more.
const MESSAGES_MAX: usize = 512;
/// After a failure, so long until the next attempt.
const REST: Duration = Duration::from_millis(500);
/// A reader of the stream is asked again after so long, however quiet it is.
const QUIET: Duration = Duration::from_secs(3600);
/// How often it is looked whether the shards have left the gate.
const LEAVE_POLL: Duration = Duration::from_millis(2);

/// What the writer is told.
#[derive(Debug)]
pub enum Lead {
    /// Another daemon has published these.
    Seen {
        /// The writer's generation that this is for.
        of: u64,
        /// In the stream's order.
        messages: Vec<Published>,
    },
    /// The lease is here, and the stream is read to its end.
    TakeOver {
        /// The writer's generation that this is for.
        of: u64,
        /// The highest number in the stream.
        seq: u64,
    },
    /// This daemon delivers no more.
    Follow {
        /// Somebody else has written to the stream.
        is_fenced: bool,
    },
}

/// How far the writer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// It began to follow so often; 0: not yet.
    pub generation: u64,
    /// Up to here it has taken what the stream says.
    pub read: u64,
    /// It has taken over.
    pub leads: bool,
    /// It may be told more of the stream.
    pub has_room: bool,
}

/// Where the shards wait while another daemon delivers.
pub struct Gate {
    open: watch::Sender<bool>,
    /// The stream's end at the take-over.
    end: Cell<u64>,
    /// The lease holds until then.
    until: Cell<Option<Instant>>,
    inside: Cell<usize>,
    failed: Cell<Option<bool>>,
    news: Notify,
}

impl Gate {
    /// Closed.
    pub fn new() -> Gate {
        Gate {
            open: watch::Sender::new(false),
            end: Cell::new(0),
            until: Cell::new(None),
            inside: Cell::new(0),
            failed: Cell::new(None),
            news: Notify::new(),
        }
    }

    /// Waits until it is open, or closed.
    pub async fn until(&self, open: bool) {
        // The sender is ours, so that it cannot end.
        let _ = self.open.subscribe().wait_for(|is| *is == open).await;
    }

    /// A shard goes through, for as long as the answer lives.
    pub fn enter(self: &Rc<Self>) -> Inside {
        self.inside.set(self.inside.get() + 1);
        Inside(Rc::clone(self))
    }

    /// Whether a subject that ends at this position was read to its end, and the lease holds.
    pub fn may(&self, position: u64) -> bool {
        position <= self.end.get() && self.holds()
    }

    /// Whether the lease holds.
    pub fn holds(&self) -> bool {
        self.until.get().is_some_and(|until| Instant::now() < until)
    }

    /// A delivery has failed: the term is over.
    pub fn fail(&self, is_fenced: bool) {
        self.failed.set(Some(is_fenced || self.failed.get() == Some(true)));
        self.news.notify_one();
    }
}

/// A shard that has gone through the gate.
pub struct Inside(Rc<Gate>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.set(self.0.inside.get().saturating_sub(1));
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Following,
    Reading(End),
    Asked,
    Leading,
}

/// See the head of this file.
pub struct Leader {
    /// The sinks of the feed.
    pub sinks: Sinks,
    /// By what it is shared.
    pub lease: LeasePlan,
    /// How many shards it has.
    pub shards: u16,
    /// The writer's letters.
    pub mailbox: Arc<Mailbox>,
    /// How it stands.
    pub status: Arc<Status>,
    /// Where the shards wait.
    pub gate: Rc<Gate>,
    /// How far the writer is.
    pub told: watch::Receiver<Told>,
    /// The feed stops.
    pub stopped: watch::Receiver<bool>,
}

/// What is had of the servers.
struct Term {
    leadership: Leadership,
    follow: Option<Follow>,
    phase: Phase,
    generation: u64,
    /// What the writer was told of last.
    sent: u64,
    ask_at: Instant,
    /// Who led when this daemon asked last.
    leader: String,
}

impl Leader {
    /// Runs until the feed stops; then gives the lease up, when the shards have ended.
    pub async fn run(mut self) {
        let mut stopped = self.stopped.clone();
        let leadership = tokio::select! {
            leadership = self.open() => leadership,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        let mut term = Term {
            leadership,
            follow: None,
            phase: Phase::Following,
            generation: 0,
            sent: 0,
            ask_at: Instant::now(),
            leader: String::new(),
        };
        tokio::select! {
            () = self.attend(&mut term) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        self.emptied().await;
        let _ = timeout(self.lease.ttl, term.leadership.resign()).await;
    }

    async fn open(&self) -> Leadership {
        loop {
            match self.sinks.leadership(&self.lease).await {
                Ok(leadership) => return leadership,
                Err(error) => self.failed(&error).await,
            }
        }
    }

    async fn failed(&self, error: &SinkError) {
        {
            let mut status = self.status.lock();
            "cut-off".clone_into(&mut status.role);
            let is_new = status
                .shards
                .first()
                .is_some_and(|shard| shard.last_error != error.text);
            if is_new {
                tracing::warn!(feed = status.name, why = error.text, "the stream cannot be read");
            }
            if let Some(shard) = status.shards.first_mut() {
                shard.last_error.clone_from(&error.text);
            }
            status.sink_failures += 1;
        }
        sleep(REST).await;
    }

    fn say(&self, role: &str) {
        let mut status = self.status.lock();
        if status.role != role {
            tracing::info!(feed = status.name, role, "the part of this daemon in the feed");
            role.clone_into(&mut status.role);
            for shard in &mut status.shards {
                shard.last_error.clear();
            }
        }
    }

    async fn emptied(&self) {
        while self.gate.inside.get() > 0 {
            sleep(LEAVE_POLL).await;
        }
    }

    async fn attend(&mut self, term: &mut Term) {
        loop {
            if let Err(error) = self.advance(term).await {
                term.follow = None;
                self.failed(&error).await;
                continue;
            }
            let told = *self.told.borrow_and_update();
            let may_read = term.phase != Phase::Leading && told.has_room && told.read >= term.sent;
            let news = self.gate.news.notified();
            let read = async {
                match &mut term.follow {
                    Some(follow) if may_read => follow.next(QUIET).await,
                    _ => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                _ = self.told.changed() => None,
                () = news => None,
                () = sleep_until(term.ask_at) => None,
                read = read => Some(read),
            };
            match read {
                None | Some(Ok(None)) => {}
                Some(Ok(Some(first))) => self.tell(term, first).await,
                Some(Err(error)) => {
                    term.follow = None;
                    self.failed(&error).await;
                }
            }
        }
    }

    /// Hands on what was read, and what else is there already.
    async fn tell(&self, term: &mut Term, first: Published) {
        let mut messages = vec![first];
        while let Some(follow) = &mut term.follow
            && messages.len() < MESSAGES_MAX
        {
            match follow.next(Duration::ZERO).await {
                Ok(Some(message)) => messages.push(message),
                // A failure is met again by the next reading.
                Ok(None) | Err(_) => break,
            }
        }
        term.sent = messages.last().map_or(term.sent, |last| last.position);
        let of = term.generation;
        self.mailbox.say(Letter::Lead(Lead::Seen { of, messages }));
    }

    /// What is due now.
    async fn advance(&self, term: &mut Term) -> Result<(), SinkError> {
        if Instant::now() >= term.ask_at {
            self.hold(term).await?;
        }
        let told = *self.told.borrow();
        if told.generation != term.generation {
            // The writer began anew: so does the reading.
            self.close().await;
            (term.generation, term.sent, term.follow) = (told.generation, told.read, None);
            term.phase = Phase::Following;
        }
        if let Some(is_fenced) = self.gate.failed.take() {
            self.stand_down(term, is_fenced).await;
            if !is_fenced {
                sleep(REST).await;
            }
            return Ok(());
        }
        if !term.leadership.is_leader() && term.phase != Phase::Following {
            self.stand_down(term, false).await;
            return Ok(());
        }
        if term.phase != Phase::Leading && term.follow.is_none() && term.generation > 0 {
            term.follow = Some(self.sinks.follow(told.read).await?);
            term.sent = told.read;
        }
        self.step(term, &told).await
    }

    async fn step(&self, term: &mut Term, told: &Told) -> Result<(), SinkError> {
        match term.phase {
            Phase::Following if term.generation > 0 && term.leadership.is_leader() => {
                self.say("taking-over");
                let end = self.sinks.end(self.shards).await?;
                term.phase = Phase::Reading(end);
                Box::pin(self.step(term, told)).await?;
            }
            Phase::Following => self.say("follower"),
            Phase::Reading(end) if told.read >= end.position => {
                let (of, seq) = (term.generation, end.seq);
                self.mailbox.say(Letter::Lead(Lead::TakeOver { of, seq }));
                term.phase = Phase::Asked;
            }
            Phase::Asked if told.leads => {
                self.gate.end.set(told.read);
                term.follow = None;
                term.phase = Phase::Leading;
                self.say("leader");
                self.gate.open.send_replace(true);
            }
            Phase::Reading(_) | Phase::Asked | Phase::Leading => {}
        }
        Ok(())
    }

    /// Whether its directory answers: who cannot see it could not finish a take-over, and leaves the lease to another.
    fn has_source(&self) -> bool {
        !matches!(
            self.status.lock().phase.as_str(),
            "starting" | "connecting" | "waiting" | "failed"
        )
    }

    /// Takes the lease, or renews it.
    async fn hold(&self, term: &mut Term) -> Result<(), SinkError> {
        if !term.leadership.is_leader() && !self.has_source() {
            term.ask_at = Instant::now() + self.lease.ttl / 4;
            return Ok(());
        }
        let held = timeout(self.lease.ttl / 2, term.leadership.hold()).await;
        self.gate.until.set(term.leadership.until().map(Instant::from_std));
        term.ask_at = match held {
            Ok(Ok(_)) => term.leadership.ask_at().into(),
            Ok(Err(_)) | Err(_) => Instant::now() + self.lease.ttl / 8,
        };
        if let Ok(Ok(false)) = held
            && let Ok(Ok(Some(leader))) = timeout(self.lease.ttl / 2, term.leadership.leader()).await
            && leader != term.leader
        {
            tracing::info!(feed = self.status.lock().name, leader, "another daemon delivers");
            term.leader = leader;
        }
        match held {
            Ok(Err(error)) if !term.leadership.is_leader() => Err(error),
            _ => Ok(()),
        }
    }

    async fn close(&self) {
        self.gate.open.send_replace(false);
        self.emptied().await;
        self.gate.failed.take();
    }

    /// The term is over. The writer answers with a new generation, from which everything begins again.
    async fn stand_down(&self, term: &mut Term, is_fenced: bool) {
        self.close().await;
        self.say("follower");
        let mut told = self.told.clone();
        let before = told.borrow().generation;
        self.mailbox.say(Letter::Lead(Lead::Follow { is_fenced }));
        (term.phase, term.follow, term.generation) = (Phase::Following, None, 0);
        let _ = told.wait_for(|told| told.generation > before).await;
    }
}
