//! The shards of a feed: each hands its events to its sink in order, one batch at a time, and says what was acknowledged.
//!
//! ```text
//! connect → (skip what the sink has) → want → deliver → acknowledge → want …
//!              ↑ wait, growing                  ↓ failure: the same batch again, what was acknowledged cut off
//! ```
//!
//! All run on one thread with a small runtime; at most `workers` of them deliver at once. A shard that fails tries again
//! alone, the others flow. An event that the sink refuses `dead_letter_after` times becomes a dead letter and the next
//! follows.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::core::backoff::Backoff;
use engine::core::rng::Rng;
use engine::core::time::Span;
use engine::feed::event::Event;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

use super::lead::{Gate, Leader, Told};
use super::mailbox::{Letter, Mailbox};
use super::sink::{self, Failure, Sink, SinkError, Sinks};
use super::status::Status;
use super::writer::Handover;
use crate::config::plan;

/// Files and standard output are written on so many threads beside this one.
const BLOCKING_THREADS: usize = 4;

/// What the shards share.
struct Common {
    plan: Arc<plan::Feed>,
    sinks: Sinks,
    mailbox: Arc<Mailbox>,
    status: Arc<Status>,
    /// Where the shards wait while another daemon delivers; none: nobody else may.
    gate: Option<Rc<Gate>>,
    /// How many may deliver at once.
    permits: Semaphore,
    /// Nobody takes anything any more: the feed has no reason to go on.
    ended: Box<dyn Fn() + Send + Sync>,
}

/// The running thread.
pub struct Delivery {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What a delivery is made of.
pub struct Parts {
    /// The feed's settings.
    pub plan: Arc<plan::Feed>,
    /// The writer's letters.
    pub mailbox: Arc<Mailbox>,
    /// How it stands.
    pub status: Arc<Status>,
    /// How far the writer is, where several daemons share the feed.
    pub told: watch::Receiver<Told>,
    /// Up to where each shard's sink had them when the feed began; as many as there are shards.
    pub acknowledged: Vec<u64>,
    /// Called when a sink has ended for good.
    pub ended: Box<dyn Fn() + Send + Sync>,
}

impl Delivery {
    /// Starts it; the ways to its shards.
    ///
    /// # Errors
    /// The thread or its runtime cannot be made.
    pub fn start(parts: Parts) -> io::Result<(Delivery, Vec<UnboundedSender<Handover>>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("feed-write")
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let (mut ways, mut ends) = (Vec::new(), Vec::new());
        for acknowledged in &parts.acknowledged {
            let (way, end) = unbounded_channel();
            ways.push(way);
            ends.push((*acknowledged, end));
        }
        let grace = parts.plan.sink.timeouts.grace + parts.plan.sink.timeouts.connect;
        let name = format!("feed-{}", parts.plan.name);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            runtime.block_on(all(parts, ends, stopped, grace));
            // A reader of standard output that does not read must not hold us.
            runtime.shutdown_background();
        })?;
        Ok((
            Delivery {
                stop,
                thread: Some(thread),
            },
            ways,
        ))
    }

    /// Batches in flight are ended, sinks closed, each within its grace.
    pub fn stop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn all(
    parts: Parts,
    ends: Vec<(u64, UnboundedReceiver<Handover>)>,
    mut stopped: watch::Receiver<bool>,
    grace: Duration,
) {
    let lease = parts.plan.sink.kind.lease().cloned();
    let common = Rc::new(Common {
        gate: lease.is_some().then(|| Rc::new(Gate::new())),
        sinks: Sinks::new(parts.plan.sink.clone(), &parts.plan.name),
        permits: Semaphore::new(parts.plan.workers.max(1)),
        plan: parts.plan,
        mailbox: parts.mailbox,
        status: parts.status,
        ended: parts.ended,
    });
    let shards = LocalSet::new();
    if let (Some(lease), Some(gate)) = (lease, &common.gate) {
        let leader = Leader {
            sinks: common.sinks.clone(),
            lease,
            shards: u16::try_from(ends.len()).unwrap_or(u16::MAX),
            mailbox: Arc::clone(&common.mailbox),
            status: Arc::clone(&common.status),
            gate: Rc::clone(gate),
            told: parts.told,
            stopped: stopped.clone(),
        };
        shards.spawn_local(leader.run());
    }
    for ((acknowledged, letters), number) in ends.into_iter().zip(0_u16..) {
        let backoff = Backoff::new(span(common.plan.retry_min), span(common.plan.retry_max));
        let shard = Shard {
            common: Rc::clone(&common),
            number,
            after: acknowledged,
            letters,
            backoff,
            rng: Rng::new(u64::from(std::process::id()) << 16 | u64::from(number)),
            refused: None,
            stopped: stopped.clone(),
        };
        shards.spawn_local(shard.run());
    }
    let limit = async {
        let _ = stopped.wait_for(|stopped| *stopped).await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = shards => {}
        () = limit => {}
    }
}

fn span(duration: Duration) -> Span {
    Span::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// Whether a shard goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// With the same sink.
    Go,
    /// With another.
    Connect,
    /// Not at all.
    End,
}

struct Shard {
    common: Rc<Common>,
    number: u16,
    /// The last number that the sink has.
    after: u64,
    letters: UnboundedReceiver<Handover>,
    backoff: Backoff,
    rng: Rng,
    /// The event that was refused last, and how often.
    refused: Option<(u64, u32)>,
    stopped: watch::Receiver<bool>,
}

impl Shard {
    async fn run(mut self) {
        let Some(gate) = self.common.gate.clone() else {
            return self.term().await;
        };
        let mut stopped = self.stopped.clone();
        while !*stopped.borrow() {
            self.say("standby");
            tokio::select! {
                () = gate.until(true) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let _inside = gate.enter();
            // What was handed over in another term has another number by now, or is said.
            while self.letters.try_recv().is_ok() {}
            tokio::select! {
                () = self.term() => {}
                () = gate.until(false) => {}
            }
        }
    }

    /// Delivers until the feed stops.
    async fn term(&mut self) {
        let mut held = None;
        while let Some(mut sink) = self.connect().await {
            let next = self.attend(&mut sink, &mut held).await;
            match next {
                Next::End => {
                    self.say("closed");
                    return sink.close().await;
                }
                Next::Go | Next::Connect => {}
            }
        }
    }

    fn say(&self, state: &str) {
        self.common.status.shard(self.number, |shard| {
            state.clone_into(&mut shard.state);
        });
    }

    /// A connected sink; none when the feed stops.
    async fn connect(&mut self) -> Option<Sink> {
        loop {
            self.say("connecting");
            let common = Rc::clone(&self.common);
            let connected = tokio::select! {
                connected = common.sinks.connect(self.number) => connected,
                _ = self.stopped.wait_for(|stopped| *stopped) => return None,
            };
            match connected {
                Ok(sink) if common.gate.as_ref().is_some_and(|gate| !gate.may(sink.position())) => {
                    let text = "somebody else has written to the stream since it was read";
                    self.failed(&SinkError::new(Failure::Fenced, text)).await;
                    return None;
                }
                Ok(sink) => {
                    if let Some(last) = sink.last().filter(|last| *last > self.after) {
                        self.after = last;
                        self.common.mailbox.say(Letter::Known {
                            shard: self.number,
                            last,
                        });
                    }
                    self.say("ready");
                    return Some(sink);
                }
                Err(error) => {
                    if self.failed(&error).await == Next::End {
                        return None;
                    }
                }
            }
        }
    }

    fn acknowledge(&mut self, upto: u64, position: u64) {
        if upto > self.after {
            self.after = upto;
            self.common.mailbox.say(Letter::Acknowledged {
                shard: self.number,
                upto,
                position,
            });
        }
    }

    /// Delivers until the sink fails or the feed stops. `held` is a batch that is not acknowledged.
    async fn attend(&mut self, sink: &mut Sink, held: &mut Option<Handover>) -> Next {
        loop {
            if *self.stopped.borrow() {
                return Next::End;
            }
            let handover = match held.take() {
                Some(handover) => handover,
                None => match self.want(sink).await {
                    Ok(handover) => handover,
                    Err(next) => return next,
                },
            };
            match self.deliver(sink, &handover).await {
                Next::Go if handover.batch.last().is_some_and(|last| last > self.after) => *held = Some(handover),
                Next::Go => {}
                next => {
                    *held = Some(handover).filter(|handover| handover.batch.last() > Some(self.after));
                    return next;
                }
            }
        }
    }

    /// Waits for the next batch; says that the feed lives while there is none.
    async fn want(&mut self, sink: &mut Sink) -> Result<Handover, Next> {
        self.common.mailbox.say(Letter::Wanted {
            shard: self.number,
            after: self.after,
        });
        loop {
            let heartbeat = self.common.plan.heartbeat;
            let quiet = async {
                if heartbeat.is_zero() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(heartbeat).await;
            };
            tokio::select! {
                handover = self.letters.recv() => return handover.ok_or(Next::End),
                _ = self.stopped.wait_for(|stopped| *stopped) => return Err(Next::End),
                () = quiet => {}
            }
            if self.number == 0 {
                let beat = [Event::heartbeat(self.after, now_ms())];
                let batch = sink::Batch {
                    events: &beat,
                    cookie: &[],
                };
                if let Err(error) = sink.deliver(&batch).await {
                    // The batch that was asked for comes all the same: the next one to connect takes it.
                    let next = self.failed(&error).await;
                    if next != Next::Go {
                        return Err(next);
                    }
                }
            }
        }
    }

    async fn deliver(&mut self, sink: &mut Sink, handover: &Handover) -> Next {
        let mut events = Vec::with_capacity(handover.batch.len());
        for (seq, bytes) in handover.batch.iter().filter(|(seq, _)| *seq > self.after) {
            match Event::decode(seq, bytes) {
                Ok(event) => events.push(event),
                Err(damaged) => {
                    // It cannot be told to anybody; it is put where a person can see it.
                    tracing::error!(feed = self.common.plan.name, seq, %damaged, "an event cannot be read");
                    if events.is_empty() {
                        self.bury(seq, &damaged.to_string());
                        return Next::Go;
                    }
                    break;
                }
            }
        }
        let Some(last) = events.last().map(|event| event.seq) else {
            return Next::Go;
        };
        let batch = sink::Batch {
            events: &events,
            cookie: &handover.cookie,
        };
        let common = Rc::clone(&self.common);
        let Ok(_permit) = common.permits.acquire().await else {
            return Next::End;
        };
        if common.gate.as_ref().is_some_and(|gate| !gate.holds()) {
            let error = SinkError::new(Failure::Fenced, "the lease has run out");
            return self.failed(&error).await;
        }
        match sink.deliver(&batch).await {
            Ok(delivered) => {
                self.count(&events, delivered.upto);
                self.acknowledge(delivered.upto.min(last), sink.position());
                self.backoff.reset();
                Next::Go
            }
            Err(error) => {
                if let Some(upto) = error.upto {
                    self.count(&events, upto);
                    self.acknowledge(upto.min(last), sink.position());
                }
                self.failed(&error).await
            }
        }
    }

    fn count(&self, events: &[Event<'_>], upto: u64) {
        let mut status = self.common.status.lock();
        for event in events.iter().filter(|event| event.seq <= upto) {
            let name = event.op.name();
            match status.delivered.iter_mut().find(|count| count.label == name) {
                Some(count) => count.count += 1,
                None => status.delivered.push(crate::admin::snapshot::Count {
                    label: name.to_owned(),
                    count: 1,
                }),
            }
        }
        if let Some(event) = events.iter().rev().find(|event| event.seq <= upto) {
            status.lag_ms = u64::try_from(now_ms() - event.time_ms).unwrap_or(0);
        }
        if let Some(shard) = status.shards.get_mut(usize::from(self.number)) {
            "ready".clone_into(&mut shard.state);
            shard.last_error.clear();
        }
    }

    fn bury(&mut self, seq: u64, why: &str) {
        self.common.mailbox.say(Letter::Dead {
            shard: self.number,
            seq,
            why: why.to_owned(),
        });
        self.after = self.after.max(seq);
        self.refused = None;
    }

    /// After a failure: waits as long as is to be waited.
    async fn failed(&mut self, error: &SinkError) -> Next {
        let common = Rc::clone(&self.common);
        {
            let mut status = common.status.lock();
            status.sink_failures += 1;
            if let Some(shard) = status.shards.get_mut(usize::from(self.number)) {
                if shard.last_error != error.text {
                    tracing::warn!(
                        feed = common.plan.name,
                        shard = self.number,
                        why = error.text,
                        "a sink has failed"
                    );
                }
                shard.last_error.clone_from(&error.text);
                "retrying".clone_into(&mut shard.state);
            }
        }
        if let Some(gate) = common
            .gate
            .as_ref()
            .filter(|_| !matches!(error.failure, Failure::Refused { .. }))
        {
            // What the stream has is read from it before anything more is said.
            gate.fail(error.failure == Failure::Fenced);
            let _ = self.stopped.wait_for(|stopped| *stopped).await;
            return Next::End;
        }
        let mut wait = Duration::from_micros(self.backoff.next(&mut self.rng).as_micros());
        let next = match &error.failure {
            Failure::Retry { after } => {
                wait = after.unwrap_or(wait).min(common.plan.retry_max.max(wait));
                Next::Connect
            }
            Failure::Refused { seq } => {
                let times = self
                    .refused
                    .filter(|(of, _)| of == seq)
                    .map_or(1, |(_, times)| times + 1);
                self.refused = Some((*seq, times));
                if common.plan.dead_letter_after > 0 && times >= common.plan.dead_letter_after {
                    tracing::warn!(feed = common.plan.name, seq, why = error.text, "a dead letter");
                    self.bury(*seq, &error.text);
                    return Next::Go;
                }
                Next::Go
            }
            Failure::Ended => {
                tracing::info!(feed = common.plan.name, why = error.text, "the sink has ended");
                self.say("ended");
                (common.ended)();
                let _ = self.stopped.wait_for(|stopped| *stopped).await;
                return Next::End;
            }
            Failure::Fenced => {
                self.say("fenced");
                wait = common.plan.retry_max;
                Next::Connect
            }
            Failure::Setting => {
                self.say("setting");
                wait = common.plan.retry_max;
                Next::Connect
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => next,
            _ = self.stopped.wait_for(|stopped| *stopped) => Next::End,
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
