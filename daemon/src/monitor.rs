//! The daemon's figures for LDAP clients that may read them (`monitor` of a listener), as entries below `cn=usherd,cn=monitor`.
//!
//! Gathering figures asks all workers and waits for them, so no worker does it: who asks leaves the request here and goes on. One
//! thread, made when the first request comes, answers all that wait out of one snapshot, and leaves the answers in the workers'
//! inboxes. At rest it sleeps.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use engine::directory::{Bounds, LocalSession, Outcome};
use wire::ldap::envelope;
use wire::ldap::result::{self, code};

use crate::admin::{Snapshot, figures};
use crate::drive::{Asked, Job};
use crate::worker::Inbox;

/// Requests that wait, at most.
const WAITING_MAX: usize = 64;
/// Of one answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Of one search, for there is a bound to what a thread is kept from others: some hundred entries of some ten figures take fewer.
const STEPS_MAX: u64 = 1_000_000;

/// Gives the figures of now; none: the daemon ends.
pub type Source = Box<dyn Fn() -> Option<Snapshot> + Send + Sync>;

/// A request.
pub struct Question {
    /// Whose.
    pub asked: Asked,
    /// The whole message.
    pub frame: Vec<u8>,
    /// Who hears the answer.
    pub inbox: Arc<Inbox>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Question>,
    begun: bool,
    ended: bool,
}

#[derive(Default)]
struct Room {
    queue: Mutex<Queue>,
    come: Condvar,
    source: OnceLock<Source>,
}

/// See the module.
#[derive(Default)]
pub struct Monitor {
    room: Arc<Room>,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Monitor")
    }
}

impl Monitor {
    /// Where figures come from; once.
    pub fn introduce(&self, source: Source) {
        let _ = self.room.source.set(source);
    }

    /// Leaves a request to be answered. It is handed back where too many wait.
    pub fn ask(&self, question: Question) -> Result<(), Question> {
        let mut queue = self.room.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.waiting.len() >= WAITING_MAX {
            return Err(question);
        }
        if !queue.begun {
            let room = Arc::clone(&self.room);
            if let Err(error) = std::thread::Builder::new()
                .name("monitor".into())
                .spawn(move || room.work())
            {
                tracing::error!(%error, "no thread for answering about figures");
                return Err(question);
            }
            queue.begun = true;
        }
        queue.waiting.push(question);
        self.room.come.notify_one();
        Ok(())
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let mut queue = self.room.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.ended = true;
        queue.waiting.clear();
        self.room.come.notify_all();
    }
}

impl Room {
    fn work(&self) {
        loop {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            while queue.waiting.is_empty() && !queue.ended {
                queue = self.come.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.ended {
                return;
            }
            let waiting = std::mem::take(&mut queue.waiting);
            drop(queue);
            // Whatever goes wrong, everybody is answered.
            let answers = catch_unwind(AssertUnwindSafe(|| self.answers(&waiting))).unwrap_or_default();
            let mut answers = answers.into_iter();
            for question in waiting {
                let bytes = answers.next().unwrap_or_else(|| unwell(&question.frame));
                let asked = question.asked;
                question.inbox.push_always(Job::Monitored { asked, bytes });
            }
        }
    }

    /// In the order of the questions.
    fn answers(&self, questions: &[Question]) -> Vec<Vec<u8>> {
        let Some(snapshot) = self.source.get().and_then(|source| source()) else {
            return Vec::new();
        };
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let directory = match figures(&snapshot, u64::try_from(now.as_micros()).unwrap_or_default()) {
            Ok(directory) => directory,
            Err(why) => {
                tracing::error!(why, "the figures are no directory");
                return Vec::new();
            }
        };
        let bounds = Bounds {
            steps_max: STEPS_MAX,
            out_bytes_max: ANSWER_BYTES_MAX,
            ..Bounds::default()
        };
        let answer = |question: &Question| {
            let mut out = Vec::new();
            match directory.answer(&mut LocalSession::default(), &question.frame, &mut out, &bounds) {
                Outcome::Answered { .. } => out,
                Outcome::NoAnswer | Outcome::Write | Outcome::Follow => refusal(
                    &question.frame,
                    code::UNWILLING_TO_PERFORM,
                    "the figures can be read only",
                ),
            }
        };
        questions.iter().map(answer).collect()
    }
}

fn unwell(frame: &[u8]) -> Vec<u8> {
    refusal(frame, code::OTHER, "the figures cannot be told")
}

/// A result with this code for this request.
pub fn refusal(frame: &[u8], code: u32, why: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if let Ok(env) = envelope::peek(frame)
        && let Some(response) = envelope::response_tag(env.tag)
    {
        result::write_result(&mut out, env.id, response, code, b"", why);
    }
    out
}
