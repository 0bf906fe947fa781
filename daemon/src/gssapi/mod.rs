//! Kerberos for the daemon's own binds by GSSAPI (RFC 4752), on threads of their own: a KDC is asked over the network, and may not
//! answer for half a minute, in which nothing can hurry the library.
//!
//! What is asked goes into a queue, which is bounded ([`Bounds`]), and is answered by a call. Whoever asked may give up at any time: what is not
//! wanted any more is not begun, and what was begun is thrown away at its end. Those that bind as the same account have half the
//! threads at most, so that a KDC that is silent does not keep others from theirs.

#[cfg(not(feature = "gssapi"))]
mod absent;
#[cfg(feature = "gssapi")]
mod ffi;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use engine::upstream::sasl::gssapi::{Reply, Request};

#[cfg(not(feature = "gssapi"))]
pub use absent::Session;
#[cfg(feature = "gssapi")]
pub use ffi::Session;

use crate::config::plan::Target;
use crate::config::values::show_size;

/// Whether this build has it.
pub const IS_BUILT: bool = cfg!(feature = "gssapi");
/// What is said where it has not.
pub const NOT_BUILT: &str = "this build of usherd is without GSSAPI: it was made without the Cargo feature `gssapi`";
/// How much of it there may be: settings of `[server]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Threads on which Kerberos is asked.
    pub threads_max: usize,
    /// Questions that wait for one.
    pub waiting_max: usize,
    /// Octets of a server's token: those of Kerberos have some hundred, or some ten thousand with the groups of a user in them.
    pub token_bytes_max: usize,
}

impl Bounds {
    /// The largest that can be set.
    pub const MOST: Bounds = Bounds {
        threads_max: 64,
        waiting_max: 1_000_000,
        token_bytes_max: 16 << 20,
    };
    /// The shortest bound of tokens that can be set: Kerberos could not bind with less.
    pub const TOKEN_BYTES_LEAST: usize = 1024;
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            threads_max: 4,
            waiting_max: 1024,
            token_bytes_max: 64 << 10,
        }
    }
}

/// The service of a directory server's principal.
pub const SERVICE: &str = "ldap";

/// As whom the daemon binds by GSSAPI, and where its key or its tickets are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kerberos {
    /// A keytab with the daemon's own key: each bind gets tickets of its own by it.
    pub keytab: Option<PathBuf>,
    /// A cache of tickets, which somebody else renews. With neither: where the system says (`KRB5_CLIENT_KTNAME`, `KRB5CCNAME`).
    pub ccache: Option<PathBuf>,
    /// As whom; none: the first of the keytab, or whose the cache is.
    pub principal: Option<String>,
    /// The server's service and host; none: `ldap` and the host that is dialled.
    pub server: Option<Server>,
}

/// Whose ticket is shown to a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// As a rule [`SERVICE`].
    pub service: String,
    /// Its name, which is taken as it is: DNS is not asked for another one.
    pub host: String,
}

impl Kerberos {
    /// The server behind a target; none: it has no name, and the configuration says none.
    pub fn server(&self, target: &Target) -> Option<Server> {
        match (&self.server, target) {
            (Some(server), _) => Some(server.clone()),
            (None, Target::Tcp { host, .. }) => Some(Server {
                service: SERVICE.into(),
                host: host.clone(),
            }),
            (None, _) => None,
        }
    }
}

/// What came of a question; the session is for the next one.
pub type Outcome = Result<(Session, Reply), String>;

/// Called with it, on one of the threads.
pub type Then = Box<dyn FnOnce(Outcome) + Send>;

/// A question.
pub struct Question {
    /// As whom.
    pub kerberos: Arc<Kerberos>,
    /// At which server.
    pub server: Arc<Server>,
    /// That of the step before; none: it is the first.
    pub session: Option<Session>,
    /// What is asked.
    pub request: Request,
    /// Whoever asked holds this alive while the answer is wanted.
    pub wanted: Weak<()>,
}

impl Question {
    fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }

    /// Asks, which may block.
    fn answer(self) -> Outcome {
        let mut session = match self.session {
            Some(session) => session,
            None => Session::begin(&self.kerberos, &self.server)?,
        };
        let reply = match self.request {
            Request::Initiate(said) => {
                let (token, context) = session.initiate(said.as_deref())?;
                Reply::Initiated { token, context }
            }
            Request::Unwrap(sealed) => Reply::Unwrapped(session.unwrap(&sealed)?),
            Request::Wrap(message) => Reply::Wrapped(session.wrap(&message)?),
        };
        Ok((session, reply))
    }
}

/// How things stand.
#[derive(Clone, Copy, Default, Debug)]
pub struct Figures {
    /// Questions with an answer, since the start,
    pub answered: u64,
    /// with an error,
    pub failed: u64,
    /// for which there was no room,
    pub refused: u64,
    /// with a token that is too long,
    pub too_long: u64,
    /// and whose answer came too late, or was not looked for any more.
    pub late: u64,
    /// Those that wait now,
    pub waiting: u64,
    /// and those that are being answered.
    pub running: u64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Question, Then)>,
    /// Who is being served, each thread's.
    running: Vec<Arc<Kerberos>>,
    threads: usize,
    bounds: Bounds,
    ended: bool,
}

impl Queue {
    /// The first one whose account has a thread left.
    fn next(&mut self) -> Option<(Question, Then)> {
        let share = (self.bounds.threads_max / 2).max(1);
        let at = self.waiting.iter().position(|(question, _)| {
            let same = self.running.iter().filter(|one| **one == question.kerberos);
            same.count() < share
        })?;
        let next = self.waiting.remove(at)?;
        self.running.push(Arc::clone(&next.0.kerberos));
        Some(next)
    }
}

#[derive(Default)]
struct Room {
    queue: Mutex<Queue>,
    come: Condvar,
    answered: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    too_long: AtomicU64,
    late: AtomicU64,
}

/// See the module.
pub struct Gss {
    room: Arc<Room>,
}

impl std::fmt::Debug for Gss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gss")
    }
}

impl Gss {
    /// Within these bounds; threads are made when they are needed.
    pub fn new(bounds: Bounds) -> Gss {
        let gss = Gss { room: Arc::default() };
        gss.bound(bounds);
        gss
    }

    /// From now on these bounds. What waits already goes on waiting.
    pub fn bound(&self, bounds: Bounds) {
        self.room.lock().bounds = bounds;
        self.room.come.notify_all();
    }

    /// Asks. `then` is called in any case but that nobody wants the answer any more.
    pub fn ask(&self, question: Question, then: Then) {
        let mut queue = self.room.lock();
        let token_bytes_max = queue.bounds.token_bytes_max;
        if question.request.said().len() > token_bytes_max {
            drop(queue);
            self.room.too_long.fetch_add(1, Ordering::Relaxed);
            let most = show_size(token_bytes_max);
            return then(Err(format!(
                "the server's GSSAPI token is longer than gssapi_token_bytes_max ({most})"
            )));
        }
        queue.waiting.retain(|(question, _)| {
            let wanted = question.is_wanted();
            self.room.late.fetch_add(u64::from(!wanted), Ordering::Relaxed);
            wanted
        });
        if queue.waiting.len() >= queue.bounds.waiting_max {
            drop(queue);
            self.room.refused.fetch_add(1, Ordering::Relaxed);
            return then(Err(
                "as many questions to Kerberos are waiting as may be (gssapi_waiting_max)".into(),
            ));
        }
        queue.waiting.push_back((question, then));
        if queue.threads < queue.bounds.threads_max && queue.threads < queue.running.len() + queue.waiting.len() {
            let room = Arc::clone(&self.room);
            match std::thread::Builder::new()
                .name("gssapi".into())
                .spawn(move || room.work())
            {
                Ok(_) => queue.threads += 1,
                Err(error) => {
                    tracing::error!(%error, "no thread for Kerberos");
                    if queue.threads == 0
                        && let Some((_, then)) = queue.waiting.pop_back()
                    {
                        drop(queue);
                        return then(Err(format!("no thread for Kerberos: {error}")));
                    }
                }
            }
        }
        self.room.come.notify_one();
    }

    /// How things stand.
    pub fn figures(&self) -> Figures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let queue = self.room.lock();
        Figures {
            answered: of(&self.room.answered),
            failed: of(&self.room.failed),
            refused: of(&self.room.refused),
            too_long: of(&self.room.too_long),
            late: of(&self.room.late),
            waiting: queue.waiting.len() as u64,
            running: queue.running.len() as u64,
        }
    }
}

impl Drop for Gss {
    fn drop(&mut self) {
        let mut queue = self.room.lock();
        queue.ended = true;
        queue.waiting.clear();
        self.room.come.notify_all();
    }
}

impl Room {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some((question, then)) = self.next() {
            let kerberos = Arc::clone(&question.kerberos);
            let wanted = question.wanted.clone();
            let outcome = question.is_wanted().then(|| question.answer());
            let count = match &outcome {
                Some(_) if wanted.strong_count() == 0 => &self.late,
                None => &self.late,
                Some(Ok(_)) => &self.answered,
                Some(Err(_)) => &self.failed,
            };
            count.fetch_add(1, Ordering::Relaxed);
            let mut queue = self.lock();
            if let Some(at) = queue.running.iter().position(|one| Arc::ptr_eq(one, &kerberos)) {
                queue.running.swap_remove(at);
            }
            drop(queue);
            // Others of this account may have waited for it.
            self.come.notify_all();
            if let Some(outcome) = outcome {
                then(outcome);
            }
        }
    }

    /// Waits for the next question; none: this thread is not needed any more.
    fn next(&self) -> Option<(Question, Then)> {
        let mut queue = self.lock();
        loop {
            if queue.ended || queue.threads > queue.bounds.threads_max {
                queue.threads -= 1;
                return None;
            }
            if let Some(next) = queue.next() {
                return Some(next);
            }
            queue = self.come.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests;
