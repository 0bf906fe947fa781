//! The feed, where it meets sockets, files and processes.
//!
//! ```text
//! worker (drive/feed.rs)  ──messages──→ mailbox ──→ writer: consumer, store ──batches──→ shards ──→ sinks
//!         ↑  ask, read on, end                         ↑ wanted, acknowledged, dead letters   │
//!         └────────────────────────────────────────────┴──────────────────────────────────────┘
//! ```
//!
//! A feed is two threads: its writer, which alone has the store, and its delivery, a small runtime on which its shards
//! run. Nothing of it ever makes a worker wait. It stops in the order source, shards, sinks; the writer goes last, so that
//! what the sinks acknowledged meanwhile is kept.

pub mod command;
mod delivery;
mod lead;
pub mod mailbox;
pub mod sink;
mod status;
mod store;
pub mod verify;
mod writer;

use std::collections::BTreeMap;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use crate::admin::snapshot;
use crate::config::plan::{self, Plan};
use crate::drive::hosts;
use crate::worker::Inbox;
use command::{Command, Verb};
use delivery::Delivery;
use mailbox::{Letter, Mailbox};
use status::Status;
pub use store::Lock;

/// How long an operator's command may take.
const COMMAND_WAIT: Duration = Duration::from_secs(600);

/// Takes the state folders of all feeds of a plan, before anything else is started.
///
/// # Errors
/// What is in the way of each.
pub fn lock(plan: &Plan) -> Result<BTreeMap<String, Lock>, Vec<String>> {
    let (mut locks, mut wrong) = (BTreeMap::new(), Vec::new());
    for feed in plan.feeds.values() {
        match Lock::take(&feed.state) {
            Ok(lock) => _ = locks.insert(feed.name.clone(), lock),
            Err(why) => wrong.push(format!("the feed {} cannot begin: {why}", feed.name)),
        }
    }
    if wrong.is_empty() { Ok(locks) } else { Err(wrong) }
}

/// Says something to a feed: the one of this name, or the only one there is.
///
/// # Errors
/// There is none, or it cannot be done.
pub fn tell(lines: &Mutex<Vec<Line>>, name: Option<&str>, verb: Verb) -> Result<Value, String> {
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let found = match (name, lines.as_slice()) {
        (Some(name), lines) => lines.iter().find(|line| line.name == name),
        (None, [only]) => Some(only),
        (None, []) => return Err("this daemon has no feed".to_owned()),
        (None, _) => return Err("this daemon has several feeds: name one".to_owned()),
    };
    found
        .ok_or_else(|| format!("there is no feed {:?}", name.unwrap_or_default()))?
        .command(verb)
}

/// All feeds of the daemon.
pub struct Feeds {
    running: Vec<Running>,
    next: u32,
    workers: Vec<Arc<Inbox>>,
    ended: Arc<dyn Fn() + Send + Sync>,
}

/// What of a feed others may hold: how it stands, and the way to its writer.
#[derive(Clone)]
pub struct Line {
    name: String,
    status: Arc<Status>,
    mailbox: Arc<Mailbox>,
    source: Arc<verify::Source>,
}

struct Running {
    plan: Arc<plan::Feed>,
    identity: String,
    line: Line,
    delivery: Delivery,
    writer: Option<JoinHandle<()>>,
}

impl Line {
    /// How it stands.
    pub fn snapshot(&self) -> snapshot::Feed {
        let mut feed = self.status.lock().clone();
        let source = matches!(feed.phase.as_str(), "refresh" | "persist" | "held" | "idle");
        let follows = feed.role == "follower";
        feed.ready = source && (follows || feed.shards.iter().all(|shard| shard.state == "ready"));
        feed
    }

    /// Says something to it, and waits for the answer.
    ///
    /// # Errors
    /// It cannot be done, or the feed does not answer.
    pub fn command(&self, verb: Verb) -> Result<Value, String> {
        if let Verb::Verify(options) = verb {
            let report = self.source.running(&self.mailbox, options)?;
            return Ok(verify::told(&report));
        }
        let (answer, answered) = sync_channel(1);
        self.mailbox.say(Letter::Command(Command { verb, answer }));
        answered
            .recv_timeout(COMMAND_WAIT)
            .unwrap_or_else(|_| Err("the feed does not answer".to_owned()))
    }
}

impl Feeds {
    /// None yet. `ended` is called when a sink has ended for good.
    pub fn new(workers: Vec<Arc<Inbox>>, ended: Arc<dyn Fn() + Send + Sync>) -> Feeds {
        Feeds {
            running: Vec::new(),
            next: 0,
            workers,
            ended,
        }
    }

    /// What is to be asked how the feeds stand.
    pub fn lines(&self) -> Vec<Line> {
        self.running.iter().map(|running| running.line.clone()).collect()
    }

    /// Takes and tries the state folders of a plan that no running feed has.
    ///
    /// # Errors
    /// What is in the way of each.
    pub fn prepare(&self, plan: &Plan) -> Result<BTreeMap<String, Lock>, Vec<String>> {
        let (mut locks, mut wrong) = (BTreeMap::new(), Vec::new());
        for feed in plan.feeds.values() {
            if self.running.iter().any(|running| running.plan.state == feed.state) {
                continue;
            }
            let tried = Lock::take(&feed.state).and_then(|lock| match lock.open(feed.partitions) {
                Ok(_) => Ok(lock),
                Err(error) => Err(error.to_string()),
            });
            match tried {
                Ok(lock) => _ = locks.insert(feed.name.clone(), lock),
                Err(why) => wrong.push(format!("the feed {} cannot begin: {why}", feed.name)),
            }
        }
        if wrong.is_empty() { Ok(locks) } else { Err(wrong) }
    }

    /// Feeds that are new or changed are begun, those that are gone or changed are stopped, the others are not touched.
    /// `locks`: state folders that were taken before.
    ///
    /// # Errors
    /// What cannot be begun, and why; everything else is done.
    pub fn apply(&mut self, plan: &Plan, mut locks: BTreeMap<String, Lock>) -> Result<(), Vec<String>> {
        let same = |running: &Running| {
            plan.feeds
                .get(&running.plan.name)
                .is_some_and(|new| *new == running.plan && identity(plan, new) == running.identity)
        };
        let (keep, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.running).into_iter().partition(same);
        self.running = keep;
        stop_all(gone);
        let mut wrong = Vec::new();
        for feed in plan.feeds.values() {
            if self.running.iter().any(|running| running.plan.name == feed.name) {
                continue;
            }
            match self.begin(plan, feed, locks.remove(&feed.name)) {
                Ok(running) => self.running.push(running),
                Err(why) => wrong.push(format!("the feed {} cannot begin: {why}", feed.name)),
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn begin(&mut self, plan: &Plan, feed: &Arc<plan::Feed>, lock: Option<Lock>) -> Result<Running, String> {
        let lock = lock.map_or_else(|| Lock::take(&feed.state), Ok)?;
        let file = lock.open(feed.partitions).map_err(|error| error.to_string())?;
        if file.partitions != feed.partitions {
            tracing::warn!(
                feed = feed.name,
                kept = file.partitions,
                asked = feed.partitions,
                "the number of partitions is kept for good; `usherd feed reset` does not change it, another state folder does"
            );
        }
        let home = plan
            .directories
            .get(&feed.directory)
            .and_then(|directory| hosts(directory, plan.server.workers).first().copied())
            .unwrap_or(0);
        let worker = self.workers.get(home).cloned().ok_or("there is no worker for it")?;
        self.next += 1;
        let mailbox = Arc::new(Mailbox::default());
        let status = Arc::new(Status::new(
            &feed.name,
            &feed.directory,
            feed.sink.kind.name(),
            file.partitions,
        ));
        let ended = Arc::clone(&self.ended);
        let acknowledged = store::acknowledged(&file).map_err(|error| error.to_string())?;
        let told = watch::Sender::new(lead::Told::default());
        let is_shared = feed.sink.kind.lease().is_some();
        if is_shared {
            "follower".clone_into(&mut status.lock().role);
        }
        let (delivery, shards) = Delivery::start(delivery::Parts {
            told: told.subscribe(),
            plan: Arc::clone(feed),
            mailbox: Arc::clone(&mailbox),
            status: Arc::clone(&status),
            acknowledged,
            ended: Box::new(move || ended()),
        })
        .map_err(|error| format!("no thread: {error}"))?;
        let identity = identity(plan, feed);
        let source = verify::Source::new(Arc::clone(feed), self.next, Arc::clone(&worker));
        let parts = writer::Parts {
            plan: Arc::clone(feed),
            identity: identity.clone(),
            number: self.next,
            mailbox: Arc::clone(&mailbox),
            worker,
            shards,
            status: Arc::clone(&status),
            told: is_shared.then_some(told),
            lock,
        };
        let thread = std::thread::Builder::new()
            .name(format!("store-{}", feed.name))
            .spawn(move || parts.run(file))
            .map_err(|error| format!("no thread: {error}"))?;
        Ok(Running {
            plan: Arc::clone(feed),
            identity,
            line: Line {
                name: feed.name.clone(),
                status,
                mailbox,
                source: Arc::new(source),
            },
            delivery,
            writer: Some(thread),
        })
    }

    /// All feeds stop: sources first, then shards and sinks, then the writers.
    pub fn stop(&mut self) {
        stop_all(std::mem::take(&mut self.running));
    }
}

fn stop_all(mut feeds: Vec<Running>) {
    for feed in &feeds {
        feed.line.mailbox.say(Letter::Drain);
    }
    for feed in &mut feeds {
        feed.delivery.stop();
        feed.line.mailbox.say(Letter::Stop);
        if let Some(writer) = feed.writer.take() {
            let _ = writer.join();
        }
    }
}

/// As whom a feed's directory is asked.
pub(crate) fn identity(plan: &Plan, feed: &plan::Feed) -> String {
    plan.directories
        .get(&feed.directory)
        .and_then(|directory| directory.bind.as_ref())
        .map(plan::Bind::identity)
        .unwrap_or_default()
}
