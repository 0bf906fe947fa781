//! One served file: the directory as it is now, and how it becomes another.
//!
//! Readers take the directory as it is and go on with that; nobody waits for them, and they wait for nobody. A write makes a
//! changed copy, which is cheap because it shares what is the same, and puts it in the directory's place; writers wait for
//! each other, some 100 microseconds each. Workers that have searches which follow the content (RFC 4533) are told that
//! something changed, once until they have looked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use engine::directory::{Bounds, Directory, LocalSession, Moment, Outcome};
use wire::ldap::envelope;
use wire::ldap::result::{self, code};

use super::write_back::WriteBack;
use super::{Figures, Read};
use crate::config::files::Stamp;
use crate::config::plan::LocalFile;
use crate::drive::Job;
use crate::worker::Inbox;

/// Set while a worker has been told of a change and has not looked yet.
pub type Told = Arc<AtomicBool>;

/// A worker that wants to be told.
#[derive(Debug)]
struct Watcher {
    worker: usize,
    inbox: Arc<Inbox>,
    told: Told,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    target: LocalFile,
    current: ArcSwap<Directory>,
    /// Held by who writes; true once another store, or process, serves the file.
    writing: Mutex<bool>,
    retired: AtomicBool,
    watchers: Mutex<Vec<Watcher>>,
    write_back: Option<Arc<WriteBack>>,
}

/// Lets the directory be written to as the target says.
pub(super) fn allow(directory: &mut Directory, target: &LocalFile) -> Result<(), String> {
    match &target.writing {
        Some(writing) => directory.make_writable(writing).map_err(|name| {
            format!(
                "{}: `{name}` among `admins` is no distinguished name",
                target.file.display()
            )
        }),
        None => Ok(()),
    }
}

impl Store {
    /// Of a file that was read.
    pub(super) fn new(target: &LocalFile, read: Read) -> Result<Self, String> {
        let mut directory = read.directory;
        allow(&mut directory, target)?;
        let write_back = target.write_back.then(|| Arc::new(WriteBack::new(target, &read.bytes)));
        // Before anything is changed the file must no longer say that nothing is missing.
        if let Some(write_back) = &write_back
            && directory.is_from_an_end_in_order()
        {
            write_back.begin(&directory);
        }
        Ok(Self::of(target, directory, write_back))
    }

    /// In place of `before`, with what that has now.
    pub(super) fn after(before: &Store, target: &LocalFile) -> Result<Self, String> {
        let mut directory = Directory::clone(&before.current.load());
        directory.make_read_only();
        allow(&mut directory, target)?;
        let write_back = match &before.write_back {
            Some(write_back) => target.write_back.then(|| Arc::new(write_back.taken_over())),
            None => target.write_back.then(|| Arc::new(WriteBack::new(target, b""))),
        };
        Ok(Self::of(target, directory, write_back))
    }

    fn of(target: &LocalFile, directory: Directory, write_back: Option<Arc<WriteBack>>) -> Self {
        Store {
            target: target.clone(),
            current: ArcSwap::from_pointee(directory),
            writing: Mutex::new(false),
            retired: AtomicBool::new(false),
            watchers: Mutex::default(),
            write_back,
        }
    }

    /// What it serves.
    pub fn target(&self) -> &LocalFile {
        &self.target
    }

    /// The directory as it is now.
    #[inline]
    pub fn read(&self) -> Guard<Arc<Directory>> {
        self.current.load()
    }

    /// Carries out one write; the answer is appended to `out`.
    pub fn write(&self, session: &mut LocalSession, request: &[u8], out: &mut Vec<u8>, bounds: &Bounds) {
        let retired = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if *retired {
            return refuse(request, out, code::BUSY, "the directory is being loaded anew");
        }
        let Some(moment) = moment() else {
            return refuse(request, out, code::OTHER, "the system gives no random numbers");
        };
        let mut next = Directory::clone(&self.current.load());
        let outcome = next.write(session, request, out, bounds, &moment);
        if outcome != (Outcome::Answered { code: code::SUCCESS }) {
            return;
        }
        let next = Arc::new(next);
        self.current.store(Arc::clone(&next));
        if let Some(write_back) = &self.write_back {
            write_back.changed(next);
        }
        drop(retired);
        self.tell();
    }

    /// This worker is told of changes from now on.
    pub fn watch(&self, worker: usize, inbox: &Arc<Inbox>) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if watchers.iter().all(|watcher| watcher.worker != worker) {
            watchers.push(Watcher {
                worker,
                inbox: Arc::clone(inbox),
                told: Told::default(),
            });
        }
    }

    fn tell(&self) {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        for watcher in watchers.iter() {
            if !watcher.told.swap(true, Ordering::AcqRel) {
                // One for each worker and store at most, so the queue stays bounded.
                watcher.inbox.push_always(Job::Changed(Arc::clone(&watcher.told)));
            }
        }
    }

    /// Takes no writes for now, and has written what there was.
    pub(super) fn hold(&self) {
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = true;
        if let Some(write_back) = &self.write_back {
            write_back.hold(&self.current.load_full());
        }
    }

    /// Takes writes again.
    pub(super) fn resume(&self) {
        let mut held = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_retired() {
            return;
        }
        if let Some(write_back) = &self.write_back {
            write_back.resume(&self.current.load_full());
        }
        *held = false;
    }

    /// Another store serves the file from now on. `replaced`: with what a person put into the file, so that what is not saved
    /// is not going to be.
    pub(super) fn retire(&self, replaced: bool) {
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.retired.store(true, Ordering::Release);
        if let Some(write_back) = &self.write_back {
            write_back.end(&self.current.load(), replaced);
        }
        self.tell();
    }

    /// Whether another serves the file.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Whether the file with this stamp is of our own making.
    pub(super) fn wrote(&self, stamp: Stamp) -> bool {
        self.write_back
            .as_ref()
            .is_some_and(|write_back| write_back.wrote(stamp))
    }

    /// The last write of the file.
    pub(super) fn finish(&self) {
        if let Some(write_back) = &self.write_back {
            write_back.finish(&self.current.load_full());
        }
    }

    pub(super) fn figures(&self) -> Figures {
        let directory = self.current.load();
        let mut figures = Figures {
            file: self.target.file.display().to_string(),
            entries: directory.entries() as u64,
            changes: directory.changes(),
            ..Figures::default()
        };
        if let Some(write_back) = &self.write_back {
            write_back.figures(&mut figures);
        }
        figures
    }
}

fn refuse(request: &[u8], out: &mut Vec<u8>, code: u32, why: &str) {
    if let Ok(envelope) = envelope::peek(request)
        && let Some(response) = envelope::response_tag(envelope.tag)
    {
        result::write_result(out, envelope.id, response, code, b"", why);
    }
}

/// Now, and something random.
fn moment() -> Option<Moment> {
    let provider = rustls::crypto::CryptoProvider::get_default()?;
    let mut random = [0; 48];
    provider.secure_random.fill(&mut random).ok()?;
    Some(Moment {
        unix_micros: super::unix_micros(),
        random,
    })
}
