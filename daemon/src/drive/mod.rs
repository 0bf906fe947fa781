//! The one place that couples sessions, pools and sockets, for every protocol.
//!
//! A turn of the loop: take what has come (jobs, readable sockets), let sessions and pools decide, carry out what they
//! want, and at the end write once per connection that has something to say; to servers before their answers are read
//! ([`events`]). What decisions cause in the same turn is coalesced into that write. The code is synchronous: a request's
//! path is followed by reading downwards.
//!
//! Who owns what: a [`conn::Conn`] owns its socket, buffers and protocol machine; a [`pools::PoolState`] owns a pool, the
//! bytes of its requests ([`pools::Flight`]) and the table of its upstreams. A connection is named by place and
//! generation ([`conn::ConnRef`]), a caller in a pool by connection and message id ([`pools::Caller`]): what has gone is
//! not found. Effects are carried out by [`effects`] and nowhere else.

mod accept;
mod ahead;
#[cfg(test)]
mod ahead_tests;
mod alarm;
pub mod ask;
mod audit;
mod calls;
mod check;
mod clients;
pub mod conn;
#[cfg(test)]
mod contained_tests;
mod dial;
mod directory;
mod effects;
mod events;
pub mod exec;
pub mod feed;
mod gss;
mod handover;
pub mod helper;
mod limits;
mod local;
mod lockout;
mod monitor;
pub mod names;
mod naming;
pub mod places;
mod plan;
mod pool_config;
pub mod pools;
mod preface;
mod radius;
mod remote;
mod report;
mod requests;
mod rpc;
mod sasl;
mod search_caps;
pub mod service;
mod slow;
mod stay;
mod timers;
mod upstreams;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use engine::core::rng::Rng;
use engine::core::time::{Instant, Span};
use engine::core::wheel::Wheel;
use engine::core::{Drain, UpstreamId};
use engine::session::radius::RequestId;
use mio::{Events, Poll};

use crate::accounting::Handle;
use crate::config::plan::Plan;
use crate::net::datagram::Socket;
use crate::net::listen::Accepted;
use crate::net::resolve::Resolver;
use crate::net::spares::Spares;
use crate::shared::{Rest, Shared};
use crate::spawner::Spawner;
use crate::worker::{Inbox, Kill};
use conn::Conns;
pub use monitor::Asked;
use plan::ListenerState;
pub use plan::{SERVICES_HOME, hosts, listener_id};
use pools::PoolState;
pub use radius::{RadiusReport, chance};
pub use remote::{RemoteAnswer, RemoteCall};
pub use report::{DirectoryReport, HelperLine, ServerLine, ServiceReport, WorkerReport};
pub use timers::span;

/// What a worker can be given to do.
#[derive(Debug)]
pub enum Job {
    /// A client that has been accepted.
    Accept(Accepted),
    /// A (new) configuration: only what differs from the one in force is done.
    Plan(Arc<Plan>),
    /// Say how things stand.
    Report(SyncSender<WorkerReport>),
    /// A name was looked up.
    Resolved {
        /// Which pool.
        pool: usize,
        /// Which of its upstreams.
        upstream: UpstreamId,
        /// What was found.
        found: Result<Vec<SocketAddr>, String>,
    },
    /// The name of a server that is to be checked was looked up.
    CheckResolved {
        /// Which pool.
        pool: usize,
        /// Which of its servers.
        key: u64,
        /// Which check.
        number: u32,
        /// What was found.
        found: Result<Vec<SocketAddr>, String>,
    },
    /// A name of a server has lost addresses.
    Addresses {
        /// Its directory.
        directory: String,
        /// The server.
        server: String,
        /// Those that it has.
        addresses: Arc<BTreeSet<IpAddr>>,
    },
    /// A program was started, or could not be.
    Spawned(exec::Spawned),
    /// A helper was started, or could not be.
    Started(helper::Started),
    /// A local directory's server is to be taken away or given back (the demo).
    Alive {
        /// Directory's name.
        directory: String,
        /// Server's name.
        server: String,
        /// Whether it answers.
        alive: bool,
    },
    /// A request about the daemon's figures is answered.
    Monitored {
        /// Whose.
        asked: Asked,
        /// The answer, whole messages.
        bytes: Vec<u8>,
    },
    /// A local directory whose content is followed here has changed.
    Changed(crate::local_files::Told),
    /// A call from another thread.
    Call(Box<RemoteCall>),
    /// The caller of this one no longer waits.
    CancelCall(u32),
    /// A feed begins a session.
    FeedAsk(Box<feed::FeedAsk>),
    /// A feed's writer has room again.
    FeedOn {
        /// The feed's number.
        feed: u32,
        /// Its session.
        session: u64,
    },
    /// A feed ends its session.
    FeedEnd {
        /// The feed's number.
        feed: u32,
        /// Its session.
        session: u64,
    },
    /// A radius listener's socket for this worker.
    RadiusOpened {
        /// The listener.
        listener: u64,
        /// The socket.
        socket: Box<Socket>,
        /// Where its accounting records are left.
        records: Option<Handle>,
    },
    /// A radius listener's accounting records go elsewhere from now on.
    RadiusRecords {
        /// The listener.
        listener: u64,
        /// Where they are left; none: nowhere.
        records: Option<Handle>,
    },
    /// Accounting records were written, or were not.
    RadiusWritten {
        /// The listener.
        listener: u64,
        /// Whose, and whether.
        written: Vec<(RequestId, bool)>,
    },
    /// Another worker's RADIUS request asks a pool of this one.
    RadiusAsk(Box<radius::RadiusAsk>),
    /// What came of such a question.
    RadiusTold(Box<radius::RadiusTold>),
    /// A password of a RADIUS request was compared.
    RadiusCompared {
        /// Through which listener the request came.
        listener: u64,
        /// The request.
        request: RequestId,
        /// What came of it.
        verdict: engine::password::Verdict,
    },
    /// Nobody waits for a request's questions any more.
    RadiusCancel(radius::CanceledRequest),
    /// What came of a question to Kerberos, and which connection asked it.
    GssAnswered(conn::ConnRef, Box<crate::gssapi::Outcome>),
    /// A bind that was held back by a lockout may try again.
    BidWoken(conn::ConnRef),
    /// An operation that waited until others of its client's address or name had ended may go on: whose, and which.
    LimitGranted(conn::ConnRef, u32),
    /// Another process is to have the RADIUS sockets, too.
    Lend(SyncSender<handover::Lent>),
    /// RADIUS requests whose accounting is kept are left where they wait, or read again; says when it is so.
    Hold {
        /// Which of the two.
        hold: bool,
        /// Whom it is said.
        to: SyncSender<()>,
    },
    /// Another process serves from now on, this one only whom it has.
    Leave,
    /// Drain at this level.
    Drain(Drain),
    /// End the thread.
    Exit(Kill),
}

/// Bytes read at once.
const SCRATCH_BYTES: usize = 128 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// How coarse a connection's own deadlines are.
const CONN_TICK: Span = Span::from_millis(100);
/// A wait that takes less found something to do.
const SLEEP_MIN: Span = Span::from_micros(2);

/// A worker's whole state.
#[derive(Debug)]
pub struct Drive {
    number: usize,
    poll: Poll,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    resolver: Resolver,
    now: Instant,
    plan: Option<Arc<Plan>>,
    conns: Conns,
    generation: u32,
    listeners: HashMap<u64, ListenerState, foldhash::fast::FixedState>,
    pools: Vec<Option<PoolState>>,
    /// Programs of the services; only their home has some.
    programs: exec::Programs,
    /// Helpers of the services, likewise.
    helpers: places::Places<helper::Helper>,
    /// When something of a helper may be due.
    helpers_due: Option<Instant>,
    spawner: Option<Spawner>,
    /// Calls that came from other threads.
    remote: remote::Remote,
    /// Searches that follow a local directory's content.
    followers: VecDeque<local::Follower>,
    /// Some of them are to be looked at,
    feeding: bool,
    /// and without waiting for an event.
    feed_soon: bool,
    /// Sessions of feeds.
    feeds: feed::Sources,
    /// RADIUS.
    radius: radius::Radius,
    /// Connections with something to write at the end of the turn.
    dirty: Vec<usize>,
    /// Connections to be looked at in the next turn without an event.
    again: Vec<usize>,
    wheel: Wheel,
    /// Operations that are held back by limits.
    turns: Wheel,
    expired: Vec<u64>,
    scratch: Vec<u8>,
    /// Where several connections are read before they are looked at.
    ahead: ahead::Ahead,
    /// What the poll has said in this turn.
    told: events::Tellings,
    /// What a helper says is read into this,
    datagram: Vec<u8>,
    /// and what lies in the memory shared with it into this.
    copied: Vec<u8>,
    rng: Rng,
    control: Vec<u8>,
    /// The control of an anonymous client.
    anonymous: Vec<u8>,
    spares: Spares,
    tickets: Vec<engine::core::Ticket>,
    wake_at: Option<Instant>,
    alarm: alarm::Alarm,
    /// The wait before this turn was a sleep, which began then: nothing was there to be read.
    slept_from: Option<Instant>,
    rest: Rest,
    /// Not before then are clients looked for again whose memory others need.
    reclaim_at: Instant,
    draining: Option<Drain>,
    exiting: Option<Kill>,
    panics: u64,
    /// A password is in the read buffer.
    secret_read: bool,
    /// Where lines for the audit log are left, while there is one.
    audit: Option<crate::audit::Handle>,
}

impl Drive {
    /// A worker without a configuration; [`Job::Plan`] gives it one.
    pub fn new(number: usize, poll: Poll, inbox: Arc<Inbox>, shared: Arc<Shared>, resolver: Resolver) -> Self {
        let now = shared.clock.now();
        let alarm = alarm::Alarm::new(poll.registry());
        Drive {
            number,
            poll,
            inbox,
            shared,
            resolver,
            now,
            plan: None,
            conns: Conns::default(),
            generation: 0,
            listeners: HashMap::default(),
            pools: Vec::new(),
            programs: exec::Programs::default(),
            helpers: places::Places::new(helper::TOKEN_BIT),
            helpers_due: None,
            spawner: None,
            remote: remote::Remote::default(),
            followers: VecDeque::new(),
            feeding: false,
            feed_soon: false,
            feeds: feed::Sources::default(),
            radius: radius::Radius::default(),
            dirty: Vec::new(),
            again: Vec::new(),
            wheel: Wheel::new(CONN_TICK, 512),
            turns: Wheel::new(limits::TICK, 1024),
            expired: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            ahead: ahead::Ahead::default(),
            told: events::Tellings::default(),
            datagram: Vec::new(),
            copied: Vec::new(),
            rng: Rng::new(now.as_micros() ^ std::process::id() as u64),
            control: Vec::new(),
            anonymous: engine::session::ldap::anonymous_control(),
            spares: Spares::default(),
            tickets: Vec::new(),
            wake_at: None,
            alarm,
            slept_from: None,
            rest: Rest::default(),
            reclaim_at: Instant::ZERO,
            draining: None,
            exiting: None,
            panics: 0,
            secret_read: false,
            audit: None,
        }
    }

    /// Runs until it is told to exit.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut jobs = VecDeque::new();
        while !self.is_done() {
            self.turn(&mut events, &mut jobs);
        }
        self.leave();
    }

    /// One turn of the loop, as the module says.
    fn turn(&mut self, events: &mut Events, jobs: &mut VecDeque<Job>) {
        self.wait(events);
        self.conns.turn();
        self.programs.turn();
        self.helpers.turn();
        self.radius.turn();
        for pool in self.pools.iter_mut().flatten() {
            pool.pool.turn();
        }
        self.inbox.take(jobs);
        for job in jobs.drain(..) {
            self.contained(None, |drive| drive.job(job));
        }
        self.take_events(events);
        self.look_again();
        self.look_at_radius_again();
        self.say_goodbye_to_helpers();
        if self.wake_at.is_some_and(|at| at <= self.now) {
            self.contained(None, Drive::tick);
        }
        self.feed_followers();
        self.flush_feeds();
        self.flush_radius();
        self.flush_dirty();
        #[cfg(debug_assertions)]
        self.check_invariants();
    }

    fn wait(&mut self, events: &mut Events) {
        self.wake_at = self.next_wake();
        let now = self.shared.clock.now();
        self.rest.worked(self.now, now, self.number, &self.shared);
        self.radius.pause();
        let restless = !self.again.is_empty() || self.feed_soon || self.radius.is_restless() || !self.inbox.sleep();
        let timeout = match self.wake_at {
            _ if restless => Some(Duration::ZERO),
            Some(at) => self.alarm.timeout(at, now),
            None => None,
        };
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "poll");
        }
        self.inbox.awake();
        self.now = self.shared.clock.now();
        self.slept_from = Some(now).filter(|now| !restless && self.now.since(*now) >= SLEEP_MIN);
    }

    fn job(&mut self, job: Job) {
        match job {
            Job::Accept(accepted) => self.accepted(accepted),
            Job::Plan(plan) => self.apply(&plan),
            Job::Report(to) => {
                let _ = to.try_send(self.report());
            }
            Job::Resolved { pool, upstream, found } => self.resolved(pool, upstream, found),
            Job::CheckResolved {
                pool,
                key,
                number,
                found,
            } => self.check_resolved(pool, key, number, found),
            Job::Addresses {
                directory,
                server,
                addresses,
            } => self.leave_addresses(&directory, &server, &addresses),
            Job::Spawned(spawned) => self.spawned(spawned),
            Job::Started(started) => self.helper_started(started),
            Job::Alive {
                directory,
                server,
                alive,
            } => self.set_alive(&directory, &server, alive),
            Job::Monitored { asked, bytes } => self.monitored(asked, &bytes),
            Job::Changed(told) => self.directory_changed(&told),
            Job::Call(call) => self.remote_call(*call),
            Job::CancelCall(key) => self.cancel_remote(key),
            Job::FeedAsk(ask) => self.feed_ask(*ask),
            Job::FeedOn { feed, session } => self.feed_on(feed, session),
            Job::FeedEnd { feed, session } => self.feed_end(feed, session),
            Job::RadiusOpened {
                listener,
                socket,
                records,
            } => self.radius_opened(listener, *socket, records),
            Job::RadiusRecords { listener, records } => self.radius_records(listener, records),
            Job::RadiusWritten { listener, written } => self.radius_written(listener, &written),
            Job::RadiusAsk(ask) => self.radius_asked(&ask),
            Job::RadiusTold(told) => self.radius_hears(&told),
            Job::RadiusCompared {
                listener,
                request,
                verdict,
            } => self.radius_compared(listener, request, verdict),
            Job::RadiusCancel(canceled) => self.radius_hears_cancel(canceled),
            Job::GssAnswered(who, outcome) => self.gss_answered(who, *outcome),
            Job::BidWoken(who) => self.bid_woken(who),
            Job::LimitGranted(who, number) => self.limit_granted(who, number),
            Job::Lend(to) => self.lend(&to),
            Job::Hold { hold, to } => self.hold(hold, &to),
            Job::Leave => self.leave_to_another(),
            Job::Drain(level) => self.drain(level),
            Job::Exit(how) => self.exiting = Some(how),
        }
    }

    /// What one connection makes panic closes that connection; where a pool was left broken, it is begun anew.
    fn contained(&mut self, at: Option<usize>, what: impl FnOnce(&mut Drive)) {
        if catch_unwind(AssertUnwindSafe(|| what(self))).is_ok() {
            return;
        }
        self.panics += 1;
        tracing::error!(worker = self.number, connection = at, "a panic was contained");
        self.scratch.resize(SCRATCH_BYTES, 0);
        let closed = catch_unwind(AssertUnwindSafe(|| {
            if let Some(at) = at {
                self.close(at);
            }
        }));
        for index in 0..self.pools.len() {
            let broken = self
                .pools
                .get(index)
                .and_then(Option::as_ref)
                .is_some_and(PoolState::is_broken);
            if broken || closed.is_err() {
                self.restart_pool(index);
            }
        }
    }

    /// Debug builds, and with them all process tests, end loudly where something is that never is.
    #[cfg(debug_assertions)]
    fn check_invariants(&self) {
        for state in self.pools.iter().flatten() {
            if let Err(what) = state.pool.check_invariants() {
                tracing::error!(what, "an invariant of a pool does not hold");
                std::process::abort();
            }
        }
    }

    fn is_done(&self) -> bool {
        match self.exiting {
            None => false,
            Some(Kill::Now) => true,
            Some(Kill::Graceful) => self.is_without_clients() && self.helpers.iter().next().is_none(),
        }
    }

    fn is_without_clients(&self) -> bool {
        self.conns.iter().all(|(_, conn)| !conn.is_client())
    }

    /// The last client has gone, and the worker goes too.
    fn say_goodbye_to_helpers(&mut self) {
        if self.exiting == Some(Kill::Graceful) && self.is_without_clients() {
            let all: Vec<helper::HelperRef> = self.helpers.named().map(|(helper, _)| helper).collect();
            for helper in all {
                self.dismiss_helper(helper);
                // The pool is not to replace it.
                if let Some(found) = self.helpers.get_mut(helper) {
                    found.upstream = None;
                }
            }
        }
    }

    /// Says goodbye to the servers.
    fn leave(&mut self) {
        for index in 0..self.pools.len() {
            self.drain_pool(index, Drain::Now);
        }
        self.flush_dirty();
    }
}
