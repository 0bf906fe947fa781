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

mod command;
mod error;
mod file;
mod lines;
mod nats;
mod ndjson;
mod plan;
mod python;
mod socket;
pub mod takeover;
#[cfg(test)]
pub(in crate::feed) mod tests;
mod webhook;

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
    shared: Shared,
}

#[derive(Clone)]
enum Shared {
    Nothing,
    File(file::SharedFile),
    Nats(nats::Shared),
}

impl Sinks {
    /// For the feed of this name. Opens and connects nothing yet.
    pub fn new(plan: SinkPlan, feed: &str) -> Sinks {
        let feed = Arc::from(feed);
        let shared = match &plan.kind {
            SinkKind::File(file) => Shared::File(file::SharedFile::new(file, &feed)),
            SinkKind::Nats(nats) => Shared::Nats(nats::Shared::new(nats, &plan.timeouts, &feed)),
            _ => Shared::Nothing,
        };
        Sinks {
            plan: Arc::new(plan),
            feed,
            shared,
        }
    }

    /// Connects the sink of one shard, within the plan's time-outs.
    ///
    /// # Errors
    /// It cannot be reached, or does not take us.
    pub async fn connect(&self, shard: u16) -> Result<Sink, SinkError> {
        let (times, feed) = (&self.plan.timeouts, &self.feed);
        Ok(match (&self.plan.kind, &self.shared) {
            (SinkKind::File(_), Shared::File(shared)) => Sink::File(shared.connect(feed, shard).await?),
            (SinkKind::Nats(_), Shared::Nats(shared)) => Sink::Nats(Box::new(shared.connect(shard).await?)),
            (SinkKind::Command(plan), _) => Sink::Command(Box::new(command::Command::start(plan, times, feed, shard)?)),
            (SinkKind::Python(plan), _) => Sink::Python(Box::new(python::Python::connect(plan, times, feed).await?)),
            (SinkKind::Socket(plan), _) => Sink::Socket(Box::new(socket::Socket::connect(plan, times, feed).await?)),
            (SinkKind::Webhook(plan), _) => {
                Sink::Webhook(Box::new(webhook::Webhook::connect(plan, times, feed, shard).await?))
            }
            (SinkKind::Ndjson | SinkKind::File(_) | SinkKind::Nats(_), _) => Sink::Ndjson(ndjson::Ndjson::new(feed)),
        })
    }
}

/// The sink of one shard, connected.
pub enum Sink {
    /// Standard output.
    Ndjson(ndjson::Ndjson),
    /// A file.
    File(file::Lines),
    /// A program.
    Command(Box<command::Command>),
    /// A Python Listener.
    Python(Box<python::Python>),
    /// A socket.
    Socket(Box<socket::Socket>),
    /// An HTTP receiver.
    Webhook(Box<webhook::Webhook>),
    /// A NATS stream.
    Nats(Box<nats::Nats>),
}

impl Sink {
    /// The number of the last event that the sink itself knows of this shard, where it can tell (`file`, `nats`): what is
    /// not newer need not be delivered again. None: it cannot tell, or has none yet. It may be higher than any number the
    /// feed has given, where the feed's state was reset: then the feed must go on above it.
    pub fn last(&self) -> Option<u64> {
        match self {
            Sink::File(sink) => sink.last(),
            Sink::Nats(sink) => sink.last(),
            Sink::Ndjson(_) | Sink::Command(_) | Sink::Python(_) | Sink::Socket(_) | Sink::Webhook(_) => None,
        }
    }

    /// The position of the last message that is known to be in the stream; 0: none, or there is no stream.
    pub fn position(&self) -> u64 {
        match self {
            Sink::Nats(sink) => sink.position(),
            _ => 0,
        }
    }

    /// Delivers a batch.
    ///
    /// # Errors
    /// Not all of it is acknowledged; the error says how far it came and what is to be done.
    pub async fn deliver(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        match self {
            Sink::Ndjson(sink) => sink.deliver(batch).await,
            Sink::File(sink) => sink.deliver(batch).await,
            Sink::Command(sink) => sink.deliver(batch).await,
            Sink::Python(sink) => sink.deliver(batch).await,
            Sink::Socket(sink) => sink.deliver(batch).await,
            Sink::Webhook(sink) => sink.deliver(batch).await,
            Sink::Nats(sink) => sink.deliver(batch).await,
        }
    }

    /// Ends it in peace, within the grace: a program is given its time, a connection is shut down.
    pub async fn close(self) {
        match self {
            Sink::Command(sink) => sink.close().await,
            Sink::Python(sink) => sink.close().await,
            Sink::Socket(sink) => sink.close().await,
            Sink::Ndjson(_) | Sink::File(_) | Sink::Webhook(_) | Sink::Nats(_) => {}
        }
    }
}
