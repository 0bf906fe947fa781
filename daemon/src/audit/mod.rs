//! The audit log: one line of JSON for each operation of LDAP clients that is asked for, by a thread of its own.
//!
//! ```text
//! workers ──say──→ queue (bounded) ──all that waits, one write──→ the file
//! ```
//!
//! A worker makes the line ([`record`]) and leaves it; it never waits for the disk, unless `when_full` says so. What found no room,
//! or could not be written, is counted, and the next line that is written says how many are missing.

pub mod plan;
pub mod record;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::accounting::append::Appender;
use plan::{Settings, WhenFull};

/// Lines in one write.
const BATCH_MAX: usize = 1024;
/// After a failed write the next is tried so much later at the earliest.
const PAUSE: Duration = Duration::from_secs(1);
/// How long what waits at the end may take.
const END_MAX: Duration = Duration::from_secs(5);

/// What is counted, from the start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Lines written.
    pub written: u64,
    /// Lines that found no room, or could not be written.
    pub lost: u64,
    /// Lines that wait now.
    pub queue: usize,
    /// What went wrong last, while it is so.
    pub last_error: Option<String>,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    figures: Figures,
    /// Of those lost, how many no line has told of.
    untold: u64,
    queue_max: usize,
    waits: bool,
    /// Other settings, from the next write on.
    change: Option<Settings>,
    reopen: bool,
    stopping: bool,
    ended: bool,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// There is something to do.
    work: Condvar,
    /// There is room, or it has ended.
    room: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where workers leave lines.
#[derive(Clone)]
pub struct Handle(Arc<Queue>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    /// One line, with its end. Where there is no room it is lost and counted, or room is waited for, as configured.
    pub fn say(&self, line: Vec<u8>) {
        let mut state = self.0.lock();
        while state.lines.len() >= state.queue_max && state.waits && !state.stopping {
            state = self.0.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.lines.len() >= state.queue_max || state.ended {
            state.figures.lost += 1;
            state.untold += 1;
            return;
        }
        state.lines.push_back(line);
        if state.lines.len() == 1 {
            self.0.work.notify_one();
        }
    }
}

/// The log, while there is one; the daemon has one place for it.
#[derive(Default)]
pub struct Place(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    writer: Option<Writer>,
    /// Of logs that were ended by a reload.
    before: Figures,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where lines are left; none: there is no log.
    pub fn handle(&self) -> Option<Handle> {
        let kept = self.lock();
        kept.writer.as_ref().map(|writer| Handle(Arc::clone(&writer.queue)))
    }

    /// Takes up settings: the log is begun, changed or ended; its file is opened again, for who has moved it away.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn apply(&self, settings: Option<&Settings>) -> io::Result<()> {
        let mut kept = self.lock();
        match (settings, kept.writer.take()) {
            (Some(settings), Some(writer)) => {
                writer.configure(settings);
                kept.writer = Some(writer);
            }
            (Some(settings), None) => kept.writer = Some(Writer::start(settings)?),
            (None, Some(mut writer)) => {
                let figures = writer.stop();
                kept.before.written += figures.written;
                kept.before.lost += figures.lost;
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// What is counted.
    pub fn figures(&self) -> Figures {
        let kept = self.lock();
        let mut figures = kept.before.clone();
        if let Some(writer) = &kept.writer {
            let state = writer.queue.lock();
            figures.written += state.figures.written;
            figures.lost += state.figures.lost;
            figures.queue = state.lines.len();
            figures.last_error.clone_from(&state.figures.last_error);
        }
        figures
    }

    /// Writes what waits, and ends.
    pub fn stop(&self) {
        if let Some(mut writer) = self.lock().writer.take() {
            writer.stop();
        }
    }
}

/// Whether the file can be written to, which a start and a reload find out before anything is changed.
///
/// # Errors
/// Why not.
pub fn verify(settings: &Settings) -> Result<(), String> {
    let path = path_of(settings);
    Appender::new(settings.file.clone())
        .open(&path)
        .map_err(|error| format!("the audit log {}: {error}", path.display()))
}

fn path_of(settings: &Settings) -> PathBuf {
    PathBuf::from(settings.file.path.before_places())
}

impl Writer {
    fn start(settings: &Settings) -> io::Result<Writer> {
        let queue = Arc::new(Queue::default());
        let writer = Writer {
            queue: Arc::clone(&queue),
            thread: None,
        };
        writer.configure(settings);
        let first = settings.clone();
        let thread = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || run(&queue, &first))?;
        Ok(Writer {
            thread: Some(thread),
            ..writer
        })
    }

    fn configure(&self, settings: &Settings) {
        let mut state = self.queue.lock();
        state.queue_max = settings.queue_max;
        state.waits = settings.when_full == WhenFull::Wait;
        state.change = Some(settings.clone());
        state.reopen = true;
        self.queue.work.notify_one();
        self.queue.room.notify_all();
    }

    fn stop(&mut self) -> Figures {
        let until = Instant::now() + END_MAX;
        let mut state = self.queue.lock();
        state.stopping = true;
        self.queue.work.notify_one();
        self.queue.room.notify_all();
        while !state.ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Stuck in a disk: it is not waited for.
                tracing::error!(
                    lines = state.lines.len(),
                    "the end of the audit log could not be written"
                );
                state.ended = true;
                return state.figures.clone();
            }
            let waited = self.queue.room.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let figures = state.figures.clone();
        drop(state);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        figures
    }
}

/// The thread.
fn run(queue: &Queue, first: &Settings) {
    let mut file = Appender::new(first.file.clone());
    let mut path = path_of(first);
    let mut text = Vec::new();
    let mut state = queue.lock();
    loop {
        if let Some(settings) = state.change.take()
            && settings.file != *file.plan()
        {
            path = path_of(&settings);
            file = Appender::new(settings.file);
        }
        if std::mem::take(&mut state.reopen) {
            file.reopen();
        }
        if state.lines.is_empty() {
            if state.stopping {
                break;
            }
            state = queue.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let count = state.lines.len().min(BATCH_MAX);
        text.clear();
        let untold = state.untold;
        if untold > 0 {
            record::lost(&mut text, untold);
        }
        for line in state.lines.drain(..count) {
            text.extend_from_slice(&line);
        }
        queue.room.notify_all();
        drop(state);
        let written = file.append(&path, &text);
        state = queue.lock();
        match written {
            Ok(()) => {
                state.figures.written += count as u64;
                state.figures.last_error = None;
                state.untold -= untold;
            }
            Err(error) => {
                file.forget(&path);
                state.figures.lost += count as u64;
                state.untold += count as u64;
                let why = format!("{}: {error}", path.display());
                if state.figures.last_error.as_deref() != Some(why.as_str()) {
                    tracing::error!(why, "the audit log cannot be written");
                }
                state.figures.last_error = Some(why);
                if !state.stopping {
                    let waited = queue.work.wait_timeout(state, PAUSE);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
    state.ended = true;
    queue.room.notify_all();
}
