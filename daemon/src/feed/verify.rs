//! Compares what a feed keeps with what its directory has: the passes of `engine::feed::verify`, each a search of its own.
//!
//! Whoever asks for it waits on its own thread. The search runs beside the feed's session, on a connection of its own, into a
//! mailbox of its own; what came is handed to the writer one read at a time (`Letter::Look`), so that the writer is held
//! up by one read at most, and the server is not read on while the writer has more to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use engine::feed::consumer::{Consumer, Phase};
use engine::feed::json;
use engine::feed::store::Content;
use engine::feed::verify::{Found, Kind, Pass, Report, Verify};
use serde_json::{Value, json};
use wire::frame;
use wire::ldap::sync::{self, Mode, SyncRequest, cookie};
use wire::ldap::{envelope, result};

use super::mailbox::{Letter, Mailbox};
use super::store::{Kept, Lock, StoreError};
use super::writer::session;
use crate::config::plan::{self, FeedMode};
use crate::drive::Job;
use crate::drive::feed::FeedAsk;
use crate::worker::Inbox;

/// Differences that are named where nothing else is said, and at most.
pub const SHOWN_DEFAULT: usize = 20;
/// See above.
pub const SHOWN_MAX: usize = 10_000;
/// How long a comparison may take where nothing else is said, and at most.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(600);
/// See above.
pub const PATIENCE_MAX: Duration = Duration::from_secs(86_400);
/// Passes, after which what still changes is left unsettled.
const PASSES_MAX: u32 = 8;
/// A feed that follows, and has nothing to do, has caught up after so long, whatever its cookie says: changes elsewhere in
/// the directory move the server's and are not told to it.
const QUIET: Duration = Duration::from_secs(3);
/// Between two looks at how far the feed is.
const LOOK: Duration = Duration::from_millis(25);
/// This bit is set in the numbers of searches that compare: no feed has them.
const NUMBER: u32 = 1 << 30;

/// How a comparison is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Differences that are named, at most.
    pub shown_max: usize,
    /// How long all of it may take.
    pub patience: Duration,
}

/// What the writer is to do for a comparison.
#[derive(Debug)]
pub enum What {
    /// Compare what came of a pass: whole messages.
    Messages(Vec<u8>),
    /// A page of what did not come.
    Sweep,
    /// A page of suspects.
    Suspects,
    /// Nothing but to say how it stands; with `hurry` a feed that polls polls now.
    Standing {
        /// See above.
        hurry: bool,
    },
}

/// A comparison that is handed to the writer, and where it goes back to.
#[derive(Debug)]
pub struct Look {
    /// How far it is.
    pub verify: Box<Verify>,
    /// What is to be done.
    pub what: What,
    /// Where it goes.
    pub answer: SyncSender<Looked>,
}

/// What the writer gives back: how far the comparison is, and what was seen.
pub type Looked = (Box<Verify>, Seen);

/// What came of one look.
#[derive(Debug)]
pub struct Seen {
    /// How the pass stands, after messages.
    pub pass: Pass,
    /// Whether there is another page.
    pub more: bool,
    /// The buffer of the messages.
    pub bytes: Vec<u8>,
    /// How the feed stands.
    pub standing: Standing,
}

/// How a feed stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The kept cookie.
    pub cookie: Vec<u8>,
    /// Where its consumer is.
    pub phase: Phase,
    /// Refreshes that were completed.
    pub refreshes: u64,
    /// Whether nothing waits to be done.
    pub is_quiet: bool,
}

impl Look {
    /// Does it, and gives it back.
    ///
    /// # Errors
    /// The store's.
    pub fn carry_out(self, consumer: &mut Consumer, kept: &mut Kept<'_>, is_quiet: bool) -> Result<(), StoreError> {
        let (mut verify, mut bytes, mut pass, mut more) = (self.verify, Vec::new(), Pass::Continue, false);
        match self.what {
            What::Messages(came) => {
                pass = compare(&mut verify, &came, consumer, kept)?;
                bytes = came;
            }
            What::Sweep => more = verify.sweep(consumer, kept)?,
            What::Suspects => more = verify.look(consumer, kept)?,
            What::Standing { .. } => {}
        }
        let facts = consumer.facts();
        let standing = Standing {
            cookie: facts.cookie.clone(),
            phase: consumer.phase(),
            refreshes: facts.refreshes,
            is_quiet,
        };
        // Who asked may have gone.
        let seen = Seen {
            pass,
            more,
            bytes,
            standing,
        };
        let _ = self.answer.send((verify, seen));
        Ok(())
    }
}

fn compare(
    verify: &mut Verify,
    mut bytes: &[u8],
    consumer: &mut Consumer,
    kept: &mut Kept<'_>,
) -> Result<Pass, StoreError> {
    while let frame::Step::Frame { len } = envelope::split(bytes, usize::MAX) {
        let Some((whole, rest)) = bytes.split_at_checked(len) else {
            break;
        };
        bytes = rest;
        let message = match envelope::peek(whole) {
            Ok(env) => sync::read_message(&env),
            Err(fault) => Err(fault),
        };
        let pass = match message {
            Ok(message) => verify.message(consumer, kept, &message)?,
            Err(_) => Pass::Refused(result::code::PROTOCOL_ERROR),
        };
        if pass != Pass::Continue {
            return Ok(pass);
        }
    }
    Ok(Pass::Continue)
}

/// What a comparison needs of a feed.
#[derive(Debug)]
pub struct Source {
    /// Its settings.
    pub plan: Arc<plan::Feed>,
    /// Its number.
    pub number: u32,
    /// The worker that has its directory.
    pub worker: Arc<Inbox>,
    is_under_way: AtomicBool,
}

impl Source {
    /// Of this feed.
    pub fn new(plan: Arc<plan::Feed>, number: u32, worker: Arc<Inbox>) -> Source {
        Source {
            plan,
            number: number | NUMBER,
            worker,
            is_under_way: AtomicBool::new(false),
        }
    }

    /// Compares with a feed that runs, whose writer has this mailbox.
    ///
    /// # Errors
    /// It could not be told, and why.
    pub fn running(&self, writer: &Mailbox, options: Options) -> Result<Report, String> {
        if self.is_under_way.swap(true, Ordering::AcqRel) {
            return Err("a comparison of this feed is under way".to_owned());
        }
        let keeper = |verify, what, left| {
            let (answer, answered) = sync_channel(1);
            writer.say(Letter::Look(Look { verify, what, answer }));
            answered
                .recv_timeout(left)
                .map_err(|_| "the feed does not answer; `usherd feed status` tells how it stands".to_owned())
        };
        let done = self.compare(keeper, Verify::following(), options);
        self.is_under_way.store(false, Ordering::Release);
        done
    }

    /// Compares with what is kept in the folder of a feed that does not run. `identity`: as whom the directory is asked.
    ///
    /// # Errors
    /// It could not be told, and why.
    pub fn stopped(&self, lock: &Lock, identity: &str, options: Options) -> Result<Report, String> {
        let why = |error: StoreError| error.to_string();
        let file = lock.open_kept().map_err(why)?;
        let mut kept = Kept::new(&file.connection, file.partitions).map_err(why)?;
        let settings = session::settings(&self.plan, identity, file.partitions);
        let fingerprint = settings.fingerprint;
        let before = kept.facts().map_err(why)?;
        if before.refreshes == 0 {
            return Err("the first content was never complete: there is nothing to compare".to_owned());
        }
        if before.fingerprint != fingerprint {
            return Err(
                "base, scope, filter, attributes or bind DN are not those that the content was fetched with: give \
                 the flags that `usherd feed run` had"
                    .to_owned(),
            );
        }
        let mut consumer = Consumer::new(settings, &mut kept).map_err(why)?;
        let keeper = |verify, what, _| {
            let (answer, answered) = sync_channel(1);
            let look = Look { verify, what, answer };
            look.carry_out(&mut consumer, &mut kept, true).map_err(why)?;
            answered.recv().map_err(|error| error.to_string())
        };
        self.compare(keeper, Verify::standing_still(&before.cookie), options)
    }

    fn compare(
        &self,
        keeper: impl FnMut(Box<Verify>, What, Duration) -> Result<Looked, String>,
        verify: Verify,
        options: Options,
    ) -> Result<Report, String> {
        let mut comparison = Comparison {
            source: self,
            keeper,
            verify: Some(Box::new(verify)),
            mailbox: Arc::new(Mailbox::default()),
            session: 0,
            until: Instant::now() + options.patience,
            patience: options.patience,
        };
        let done = comparison.run();
        comparison.end_session();
        done?;
        let verify = comparison.verify.ok_or("the comparison was lost")?;
        Ok(verify.report(options.shown_max))
    }
}

struct Comparison<'s, K> {
    source: &'s Source,
    keeper: K,
    /// None while the writer has it.
    verify: Option<Box<Verify>>,
    mailbox: Arc<Mailbox>,
    session: u64,
    until: Instant,
    patience: Duration,
}

impl<K: FnMut(Box<Verify>, What, Duration) -> Result<Looked, String>> Comparison<'_, K> {
    fn run(&mut self) -> Result<(), String> {
        if !self.is_standing_still() {
            self.content()?;
        }
        for pass in 1..=PASSES_MAX {
            let cookie = self.pass()?;
            while self.ask(What::Sweep)?.more {}
            let is_settled = self.verify.as_ref().is_none_or(|verify| verify.is_settled());
            if is_settled || pass == PASSES_MAX {
                break;
            }
            self.catch_up(&cookie)?;
            while self.ask(What::Suspects)?.more {}
        }
        Ok(())
    }

    fn is_standing_still(&self) -> bool {
        self.verify.as_ref().is_some_and(|verify| verify.is_standing_still())
    }

    fn ask(&mut self, what: What) -> Result<Seen, String> {
        let left = self.left()?;
        let verify = self.verify.take().ok_or("the comparison was lost")?;
        let (verify, seen) = (self.keeper)(verify, what, left)?;
        self.verify = Some(verify);
        Ok(seen)
    }

    fn left(&self) -> Result<Duration, String> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("it was not told within {} s", self.patience.as_secs()));
        }
        Ok(left)
    }

    /// Waits for a content that is complete.
    fn content(&mut self) -> Result<(), String> {
        loop {
            let standing = self.ask(What::Standing { hurry: false })?.standing;
            if standing.refreshes > 0 && standing.phase != Phase::Refresh {
                return Ok(());
            }
            self.left()
                .map_err(|late| format!("{late}: the feed's own content is not complete"))?;
            sleep(LOOK);
        }
    }

    /// The whole content, once; the provider's cookie.
    fn pass(&mut self) -> Result<Vec<u8>, String> {
        self.session += 1;
        let source = self.source;
        let ask = SyncRequest {
            mode: Mode::RefreshOnly,
            cookie: None,
            reload_hint: false,
        };
        let ask = FeedAsk {
            feed: source.number,
            session: self.session,
            directory: source.plan.directory.clone(),
            request: session::request(&source.plan, &ask),
            mailbox: Arc::clone(&self.mailbox),
        };
        source.worker.push_always(Job::FeedAsk(Box::new(ask)));
        loop {
            self.left()?;
            let letter = self.mailbox.next(Some(self.until), source.number, &source.worker);
            match letter {
                Some(Letter::Messages { session, bytes }) if session == self.session => {
                    let seen = self.ask(What::Messages(bytes))?;
                    self.mailbox.give(seen.bytes);
                    match seen.pass {
                        Pass::Continue => {}
                        Pass::Complete(cookie) => return Ok(cookie),
                        Pass::Refused(code) => return Err(super::writer::refusal(code)),
                    }
                }
                Some(Letter::Ended { session, why }) if session == self.session => return Err(why),
                _ => {}
            }
        }
    }

    /// Waits until the feed has seen what the provider had at this cookie.
    fn catch_up(&mut self, told: &[u8]) -> Result<(), String> {
        let since = Instant::now();
        let hurry = matches!(self.source.plan.mode, FeedMode::Poll(_));
        let first = self.ask(What::Standing { hurry })?.standing;
        let enough = first.refreshes + 1 + u64::from(first.phase == Phase::Refresh);
        let mut standing = first;
        loop {
            let follows = matches!(standing.phase, Phase::Persist | Phase::Held);
            let is_covered =
                standing.phase != Phase::Refresh && !told.is_empty() && cookie::merge(&standing.cookie, told).is_none();
            let is_quiet = follows && standing.is_quiet && since.elapsed() >= QUIET;
            if is_covered || is_quiet || standing.refreshes >= enough {
                return Ok(());
            }
            self.left()
                .map_err(|late| format!("{late}: the feed does not catch up with its directory"))?;
            sleep(LOOK);
            standing = self.ask(What::Standing { hurry: false })?.standing;
        }
    }

    fn end_session(&self) {
        self.source.worker.push_always(Job::FeedEnd {
            feed: self.source.number,
            session: self.session,
        });
        self.mailbox.close();
    }
}

/// As it is told to whoever asked.
pub fn told(report: &Report) -> Value {
    let [missing_here, missing_there, name, attributes] = report.counts;
    let found: Vec<Value> = report.found.iter().map(shown).collect();
    json!({
        "same": report.differences() == 0 && report.unchecked == 0 && report.unsettled == 0,
        "entries": report.entries,
        "passes": report.passes,
        "differences": report.differences(),
        "missing_here": missing_here,
        "missing_there": missing_there,
        "name": name,
        "attributes": attributes,
        "unsettled": report.unsettled,
        "unchecked": report.unchecked,
        "newer": report.newer,
        "shown": found,
    })
}

fn shown(found: &Found) -> Value {
    let kind = match found.kind {
        Kind::MissingHere => "missing-here",
        Kind::MissingThere => "missing-there",
        Kind::Name => "name",
        Kind::Attributes => "attributes",
    };
    let mut uuid = Vec::new();
    json::write_uuid(&mut uuid, &found.uuid);
    let mut value = json!({ "kind": kind, "uuid": String::from_utf8_lossy(&uuid), "dn": found.dn });
    if let Some(object) = value.as_object_mut() {
        if let Some(there) = &found.there {
            object.insert("there".to_owned(), json!(there));
        }
        if !found.attributes.is_empty() {
            object.insert("attributes".to_owned(), json!(found.attributes));
        }
    }
    value
}
