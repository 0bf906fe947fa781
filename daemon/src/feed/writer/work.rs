//! The writer at work on an open store.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::feed::consumer::{Consumer, Over, Phase, Step};
use wire::frame;
use wire::ldap::result::{self, code};
use wire::ldap::{envelope, sync};

use super::lead::Taking;
use super::session;
use super::{Handover, Lasting, Parts};
use crate::config::plan::FeedMode;
use crate::drive::Job;
use crate::drive::feed::FeedAsk;
use crate::feed::mailbox::Letter;
use crate::feed::store::{File, Kept, StoreError};
use crate::feed::verify::{Look, What};

/// In a refresh a transaction is kept open for so long: nobody waits for its events one by one.
const REFRESH_COMMIT: Duration = Duration::from_millis(200);
/// Bytes and messages of one transaction, beyond which it is committed though more waits.
const BATCH_BYTES_MAX: usize = 8 << 20;
const BATCH_MESSAGES_MAX: usize = 16_384;
/// Acknowledgements wait so long for a transaction to go with.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_millis(200);
/// A commit that takes longer is worth a line in the log.
const COMMIT_SLOW: Duration = Duration::from_secs(5);

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ends {
    /// It was told to.
    Stopped,
}

/// The session, as the writer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// There is none; the next begins then, or when something is said.
    Closed(Option<Instant>),
    /// There is one.
    Open,
}

/// See the head of this file.
pub(super) struct Work<'w> {
    pub(super) parts: &'w Parts,
    pub(super) lasting: &'w mut Lasting,
    pub(super) kept: Kept<'w>,
    pub(super) consumer: Consumer,
    pub(super) link: Link,
    /// Since when a transaction has been open, and what came in it.
    open_since: Option<Instant>,
    bytes: usize,
    messages: usize,
    /// Since when an acknowledgement has waited.
    acknowledged_since: Option<Instant>,
    pub(super) paused: bool,
    pub(super) cookie: Arc<[u8]>,
    heard: bool,
    refresh_began: Instant,
    draining: bool,
    pub(super) taking: Option<Taking>,
    /// Since when the whole content has not been compared, and the cookie then.
    pub(super) audited: (Instant, Arc<[u8]>),
}

impl<'w> Work<'w> {
    pub(super) fn new(parts: &'w Parts, file: &'w File, lasting: &'w mut Lasting) -> Result<Work<'w>, StoreError> {
        let mut kept = Kept::new(&file.connection, file.partitions)?;
        kept.history.bound(parts.plan.deletes_kept_max);
        let settings = session::settings(&parts.plan, &parts.identity, file.partitions);
        let consumer = begin(&mut kept, settings)?;
        let paused = kept.flag("paused")?;
        let cookie = Arc::from(consumer.facts().cookie.as_slice());
        let begin = lasting.not_before.unwrap_or_else(Instant::now);
        let mut work = Work {
            parts,
            lasting,
            kept,
            consumer,
            link: Link::Closed(Some(begin)),
            open_since: None,
            bytes: 0,
            messages: 0,
            acknowledged_since: None,
            paused,
            cookie,
            heard: false,
            refresh_began: Instant::now(),
            draining: false,
            taking: None,
            audited: (Instant::now(), Arc::from([])),
        };
        if work.is_shared() {
            work.follow(u64::MAX)?;
        }
        work.tell();
        Ok(work)
    }

    pub(super) fn run(&mut self) -> Result<Ends, StoreError> {
        loop {
            self.begin_session();
            let letter = if self.has_room() {
                self.parts
                    .mailbox
                    .next(self.due(), self.parts.number, &self.parts.worker)
            } else {
                None
            };
            let is_asked = matches!(letter, Some(Letter::Wanted { .. }));
            let stop = match letter {
                Some(letter) => self.letter(letter)?,
                None => false,
            };
            if stop {
                self.close_session("the feed stops");
                self.commit()?;
                return Ok(Ends::Stopped);
            }
            if self.is_commit_due() {
                self.commit()?;
            }
            if self.open_since.is_none() {
                self.take_over()?;
                self.audit()?;
                self.serve()?;
            } else if is_asked {
                // Whatever changes numbers is committed before another letter is read.
                self.serve()?;
            }
        }
    }

    /// Whether the transaction may take more.
    fn has_room(&self) -> bool {
        self.bytes < BATCH_BYTES_MAX && self.messages < BATCH_MESSAGES_MAX
    }

    fn may_go_on(&self) -> bool {
        self.open_since.is_none_or(|since| since.elapsed() < REFRESH_COMMIT)
    }

    /// When something is to be done though nothing comes.
    fn due(&self) -> Option<Instant> {
        let session = match self.link {
            Link::Closed(at) => at,
            Link::Open => None,
        };
        let commit = self.open_since.map(|since| since + REFRESH_COMMIT);
        let acknowledged = self.acknowledged_since.map(|since| since + ACKNOWLEDGE_WAIT);
        [session, commit, acknowledged, self.taking_due(), self.audit_due()]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_commit_due(&self) -> bool {
        let acknowledged = self
            .acknowledged_since
            .is_some_and(|since| since.elapsed() >= ACKNOWLEDGE_WAIT);
        match self.open_since {
            None => acknowledged,
            Some(_) if !self.has_room() || !self.may_go_on() => true,
            Some(_) => self.consumer.phase() != Phase::Refresh && self.parts.mailbox.is_empty(),
        }
    }

    fn letter(&mut self, letter: Letter) -> Result<bool, StoreError> {
        match letter {
            Letter::Messages { session, bytes } => {
                if session == self.lasting.session && self.link == Link::Open {
                    self.take(&bytes)?;
                }
                self.parts.mailbox.give(bytes);
            }
            Letter::Ended { session, why } => {
                if session == self.lasting.session && self.link == Link::Open {
                    self.lost(&why);
                }
            }
            Letter::Wanted { shard, after } => {
                self.acknowledge(shard, after);
                if let Some(want) = self.lasting.wants.get_mut(usize::from(shard)) {
                    *want = Some(after);
                }
            }
            Letter::Acknowledged { shard, upto, position } => {
                self.kept.published = self.kept.published.max(position);
                self.acknowledge(shard, upto);
            }
            Letter::Lead(lead) => self.lead(lead)?,
            Letter::Known { shard, last } => {
                if last >= self.kept.outbox.head().next {
                    self.transaction()?;
                    self.kept.outbox.raise(last)?;
                    self.commit()?;
                    tracing::warn!(
                        feed = self.parts.plan.name,
                        last,
                        "the sink knows a higher number: ours go on above it"
                    );
                }
                self.acknowledge(shard, last);
            }
            Letter::Dead { shard, seq, why } => {
                self.transaction()?;
                self.kept.outbox.bury(shard, seq, &why, now_ms())?;
                self.acknowledge(shard, seq);
                self.parts.status.lock().dead_letters += 1;
            }
            Letter::Command(command) => {
                let done = self.command(&command.verb);
                let (answer, failed) = match done {
                    Ok(answer) => (answer, None),
                    Err(error) => (Err(error.to_string()), Some(error)),
                };
                let _ = command.answer.send(answer);
                if let Some(error) = failed {
                    return Err(error);
                }
            }
            Letter::Look(look) => self.look(look)?,
            Letter::Drain => {
                self.draining = true;
                self.close_session("the feed stops");
                self.commit()?;
            }
            Letter::Stop => return Ok(true),
        }
        Ok(false)
    }

    /// A comparison looks at what is kept.
    fn look(&mut self, look: Look) -> Result<(), StoreError> {
        if matches!(look.what, What::Standing { hurry: true })
            && let Link::Closed(Some(at)) = &mut self.link
            && self.consumer.facts().refreshes > 0
        {
            *at = Instant::now();
        }
        let is_quiet = self.open_since.is_none() && self.parts.mailbox.is_empty();
        look.carry_out(&mut self.consumer, &mut self.kept, is_quiet)
    }

    fn acknowledge(&mut self, shard: u16, upto: u64) {
        self.kept.outbox.acknowledge(shard, upto);
        if self.acknowledged_since.is_none() && self.kept.outbox.has_acknowledged() {
            self.acknowledged_since = Some(Instant::now());
        }
    }

    /// Begins a session when its time has come and there is room for what it brings.
    fn begin_session(&mut self) {
        let Link::Closed(Some(at)) = self.link else { return };
        if at > Instant::now() || self.is_full() || self.draining {
            return;
        }
        self.lasting.session += 1;
        self.lasting.not_before = None;
        let ask = self.consumer.begin();
        let request = session::request(&self.parts.plan, &ask);
        let ask = FeedAsk {
            feed: self.parts.number,
            session: self.lasting.session,
            directory: self.parts.plan.directory.clone(),
            request,
            mailbox: Arc::clone(&self.parts.mailbox),
        };
        self.parts.worker.push_always(Job::FeedAsk(Box::new(ask)));
        self.link = Link::Open;
        self.heard = false;
        self.refresh_began = Instant::now();
        self.tell();
    }

    /// Whole messages of the session.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        self.transaction()?;
        self.heard = true;
        self.bytes += bytes.len();
        let time_ms = now_ms();
        while let frame::Step::Frame { len } = envelope::split(bytes, usize::MAX) {
            let Some((whole, rest)) = bytes.split_at_checked(len) else {
                break;
            };
            bytes = rest;
            self.messages += 1;
            let message = match envelope::peek(whole) {
                Ok(env) => sync::read_message(&env),
                Err(fault) => Err(fault),
            };
            let step = match message {
                Ok(message) => self.consumer.message(&mut self.kept, &message, time_ms)?,
                Err(fault) => {
                    self.close_session("");
                    self.fail_session(&format!("the provider broke the protocol: {fault}"));
                    return Ok(());
                }
            };
            if step != Step::Continue {
                self.step(step);
                if self.link != Link::Open {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) fn step(&mut self, step: Step) {
        let name = &self.parts.plan.name;
        match step {
            Step::Continue => {}
            Step::Refreshed => self.refreshed(),
            Step::Held => {
                let held = self.consumer.held();
                tracing::warn!(feed = name, ?held, "too many deletes: held for an operator");
                self.parts.status.lock().refreshes_held += 1;
            }
            Step::Over(over) => self.over(over),
        }
    }

    fn refreshed(&mut self) {
        let last = self.consumer.facts().last;
        let took_ms = self.refresh_began.elapsed().as_millis();
        tracing::info!(
            feed = self.parts.plan.name,
            entries = last.entries,
            added = last.added,
            modified = last.modified,
            moved = last.moved,
            deleted = last.deleted,
            took_ms,
            "the content is complete"
        );
        self.lasting.backoff.reset();
        let mut status = self.parts.status.lock();
        status.refreshes += 1;
        status.last_error.clear();
    }

    fn over(&mut self, over: Over) {
        // The session is closed on its worker, too, if it is not already.
        self.end_on_worker();
        let name = &self.parts.plan.name;
        let now = Instant::now();
        match over {
            Over::Refreshed | Over::Held => {
                if over == Over::Refreshed {
                    self.refreshed();
                }
                let interval = match self.parts.plan.mode {
                    FeedMode::Poll(interval) => interval,
                    FeedMode::Persist => Duration::ZERO,
                };
                self.link = Link::Closed(Some(now + interval));
            }
            Over::Ended => {
                let wait = self.lasting.wait();
                self.link = Link::Closed(Some(now + wait));
            }
            Over::Again(why) => {
                let wait = self.lasting.compared_anew(now);
                let again_ms = wait.as_millis();
                tracing::warn!(feed = name, ?why, again_ms, "the content is compared anew");
                self.link = Link::Closed(Some(now + wait));
            }
            Over::Failed { code } => {
                self.fail_session(&refusal(code));
            }
        }
    }

    /// The connection went, or there was none.
    fn lost(&mut self, why: &str) {
        self.consumer.lost();
        if self.heard {
            self.lasting.backoff.reset();
        }
        self.fail_session(why);
    }

    fn fail_session(&mut self, why: &str) {
        self.consumer.lost();
        let wait = self.lasting.wait();
        self.link = Link::Closed(Some(Instant::now() + wait));
        let mut status = self.parts.status.lock();
        if status.last_error != why {
            tracing::warn!(
                feed = self.parts.plan.name,
                why,
                again_ms = wait.as_millis(),
                "the session ended"
            );
            status.last_error = why.to_owned();
        }
        drop(status);
        self.tell();
    }

    fn end_on_worker(&self) {
        self.parts.worker.push_always(Job::FeedEnd {
            feed: self.parts.number,
            session: self.lasting.session,
        });
    }

    /// Closes the session; what was taken of it is kept.
    pub(super) fn close_session(&mut self, why: &str) {
        if self.link == Link::Open {
            self.end_on_worker();
            self.consumer.lost();
            self.link = Link::Closed(None);
            if !why.is_empty() {
                tracing::info!(feed = self.parts.plan.name, why, "the session is closed");
            }
        }
    }

    /// Another session is to begin at once, after the open one is closed.
    pub(super) fn again(&mut self) {
        self.close_session("");
        self.link = Link::Closed(Some(Instant::now()));
    }

    /// A transaction is open from now on.
    pub(super) fn transaction(&mut self) -> Result<(), StoreError> {
        if self.open_since.is_none() {
            self.kept.begin()?;
            self.open_since = Some(Instant::now());
        }
        Ok(())
    }

    /// Everything so far is kept.
    pub(super) fn commit(&mut self) -> Result<(), StoreError> {
        if self.open_since.is_none() && self.acknowledged_since.is_none() {
            return Ok(());
        }
        self.transaction()?;
        self.kept.outbox.clear()?;
        self.consumer.save(&mut self.kept)?;
        let began = Instant::now();
        self.kept.commit()?;
        if began.elapsed() >= COMMIT_SLOW {
            let took_ms = began.elapsed().as_millis();
            tracing::warn!(feed = self.parts.plan.name, took_ms, "the disk is slow");
        }
        self.open_since = None;
        self.acknowledged_since = None;
        (self.bytes, self.messages) = (0, 0);
        if *self.cookie != *self.consumer.facts().cookie {
            self.cookie = Arc::from(self.consumer.facts().cookie.as_slice());
        }
        if self.is_full() && self.link == Link::Open {
            self.close_session("the outbox is full");
            self.link = Link::Closed(Some(Instant::now()));
        }
        self.tell();
        Ok(())
    }

    /// Whether the outbox has reached its bound; after that, until half of it is gone.
    fn is_full(&self) -> bool {
        let (head, plan) = (self.kept.outbox.head(), &self.parts.plan);
        let part = if self.link == Link::Open { 1 } else { 2 };
        head.rows > plan.outbox_events_max / part || head.bytes > plan.outbox_bytes_max / part
    }

    /// Shards that wait get what there is.
    fn serve(&mut self) -> Result<(), StoreError> {
        if self.paused || self.draining || self.kept.following.is_some() {
            return Ok(());
        }
        for (number, want) in (0_u16..).zip(self.lasting.wants.iter_mut()) {
            let Some(after) = *want else { continue };
            let batch = self.kept.outbox.next(number, after)?;
            if batch.is_empty() {
                continue;
            }
            *want = None;
            let handover = Handover {
                batch,
                cookie: Arc::clone(&self.cookie),
            };
            if let Some(shard) = self.parts.shards.get(usize::from(number)) {
                // A shard that has gone takes nothing more: the feed ends.
                let _ = shard.send(handover);
            }
        }
        Ok(())
    }

    /// The store has failed.
    pub(super) fn fail(&mut self) {
        self.kept.rollback();
        self.end_on_worker();
        self.lasting.not_before = None;
    }

    /// How it stands now.
    pub(super) fn tell(&mut self) {
        let deletes_kept = self.kept.history.deletes().unwrap_or(0);
        let (facts, head) = (self.consumer.facts(), self.kept.outbox.head());
        let mut status = self.parts.status.lock();
        let phase = match (self.link, self.consumer.phase()) {
            (Link::Closed(_), _) if self.is_full() => "full",
            (Link::Closed(_), _) if matches!(self.parts.plan.mode, FeedMode::Poll(_)) && facts.refreshes > 0 => "idle",
            (Link::Closed(_), _) => "waiting",
            (Link::Open, _) if !self.heard => "connecting",
            (Link::Open, Phase::Refresh) => "refresh",
            (Link::Open, Phase::Persist) => "persist",
            (Link::Open, Phase::Held) => "held",
            (Link::Open, Phase::Idle) => "waiting",
        };
        status.phase.clear();
        status.phase.push_str(phase);
        status.paused = self.paused;
        status.entries = facts.entries;
        status.complete = facts.refreshes > 0;
        status.cookie = String::from_utf8_lossy(&facts.cookie).into_owned();
        status.outbox_events = head.rows;
        status.outbox_bytes = head.bytes;
        status.deletes_kept = deletes_kept;
        status.last_seq = head.next.saturating_sub(1);
        status.held = facts.held.map_or(0, |held| held.deletes);
        let counts = self.consumer.counts();
        status.refresh_entries = counts.added + counts.modified + counts.moved + counts.unchanged;
        status.committed_ms = now_ms();
        for (shard, acked) in status.shards.iter_mut().zip(self.kept.outbox.acked()) {
            shard.acknowledged = acked;
        }
    }
}

fn begin(kept: &mut Kept<'_>, settings: engine::feed::settings::Settings) -> Result<Consumer, StoreError> {
    kept.begin()?;
    let made = Consumer::new(settings, kept).and_then(|mut consumer| {
        consumer.save(kept)?;
        kept.commit()?;
        Ok(consumer)
    });
    if made.is_err() {
        kept.rollback();
    }
    made
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What a provider's refusal says, and what would help.
pub(in crate::feed) fn refusal(code: u32) -> String {
    let help = match code {
        code::SIZE_LIMIT_EXCEEDED | code::ADMIN_LIMIT_EXCEEDED => {
            ": it gives this identity no more entries; raise its limit there (OpenLDAP: `limits`) or bind as one without"
        }
        code::UNAVAILABLE_CRITICAL_EXTENSION => {
            ": it does not offer content synchronisation (RFC 4533; OpenLDAP: the overlay syncprov)"
        }
        code::INSUFFICIENT_ACCESS_RIGHTS => ": this identity may not read there",
        code::NO_SUCH_OBJECT => ": the base is not there, or this identity may not see it",
        _ => "",
    };
    format!("the provider refused: {} ({code}){help}", result::name(code))
}
