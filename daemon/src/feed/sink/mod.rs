//! Where a feed's changes go.
//!
//! A [`Sinks`] is what the shards of one feed share: a plan, and what one daemon has once (the HTTP client, the NATS
//! connection, the open file). Each shard connects a [`Sink`] of its own and hands it one batch at a time:
//!
//! ```text
//! connect ──→ last()? ──→ deliver(batch) ──→ deliver(batch) … ──→ close
//!    ↑                        │ SinkError
//!    └── wait, by `Failure` ──┘
//! ```
//!
//! A batch is the events of one shard in order. What `deliver` answers says up to which number the sink has them; a
//! failure says the same in `SinkError::upto`, and what is to be done next in `SinkError::failure`. After every failure
//! but [`Failure::Refused`] the sink is spent: it is dropped and another is connected. Dropping a sink, or the future of
//! a call, at any moment loses nothing that was acknowledged.
//!
//! Everything runs on one thread. What blocks (files, standard output) is done on tokio's threads for that; a runtime
//! that ends while a reader does not read must therefore be ended with `shutdown_background`.

mod error;
mod ndjson;
mod plan;

use std::sync::Arc;

use engine::feed::event::Event;

pub use error::{Delivered, Failure, SinkError};
pub use plan::{
    Acknowledge, CommandPlan, FilePlan, LeasePlan, NatsAuthentication, NatsPlan, PythonAddress, PythonPlan, SinkKind,
    SinkPlan, SocketPlace, SocketPlan, Storage, Timeouts, WebhookFormat, WebhookPlan,
};

/// What is delivered at once.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Events of one shard, in order, each with its sequence number; at least one.
    pub events: &'a [Event<'a>],
    /// The source's cookie as it was kept with the last of these events, or later; empty where there is none. Only the
    /// sink `nats` hands it on: who takes a feed over must have come as far.
    pub cookie: &'a [u8],
}

impl Batch<'_> {
    /// The numbers of the first and the last event.
    fn range(&self) -> (u64, u64) {
        let at = |event: Option<&Event<'_>>| event.map_or(0, |event| event.seq);
        (at(self.events.first()), at(self.events.last()))
    }
}

/// What the shards of one feed share.
#[derive(Clone)]
pub struct Sinks {
    plan: Arc<SinkPlan>,
    feed: Arc<str>,
}

impl Sinks {
    /// For the feed of this name. Opens and connects nothing yet.
    pub fn new(plan: SinkPlan, feed: &str) -> Sinks {
        Sinks {
            plan: Arc::new(plan),
            feed: Arc::from(feed),
        }
    }

    /// Connects the sink of one shard, within the plan's time-outs.
    ///
    /// # Errors
    /// It cannot be reached, or does not take us.
    pub async fn connect(&self, shard: u16) -> Result<Sink, SinkError> {
        let _ = shard;
        Ok(match &self.plan.kind {
            SinkKind::Ndjson => Sink::Ndjson(ndjson::Ndjson::new(&self.feed)),
            _ => return Err(SinkError::setting("this sink is not in this version")),
        })
    }
}

/// The sink of one shard, connected.
pub enum Sink {
    /// Standard output.
    Ndjson(ndjson::Ndjson),
}

impl Sink {
    /// The number of the last event that the sink itself knows of this shard, where it can tell: what is not newer need not
    /// be delivered again. None: it cannot tell, or has none yet.
    pub fn last(&self) -> Option<u64> {
        match self {
            Sink::Ndjson(_) => None,
        }
    }

    /// Delivers a batch.
    ///
    /// # Errors
    /// Not all of it is acknowledged; the error says how far it came and what is to be done.
    pub async fn deliver(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        match self {
            Sink::Ndjson(sink) => sink.deliver(batch).await,
        }
    }

    /// Ends it in peace: what was accepted is flushed, a program is given its grace.
    pub async fn close(self) {
        match self {
            Sink::Ndjson(_) => {}
        }
    }
}
