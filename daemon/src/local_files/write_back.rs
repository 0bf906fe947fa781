//! Changes go back to the LDIF file: on a thread of its own, several at once, whole or not at all.
//!
//! The new content is written to a file beside the old one, forced to the disk, and renamed over it: whoever reads the file,
//! and whoever pulls the plug, finds the old or the new one. A file that is not as we loaded or wrote it last was changed
//! by somebody else, and is left alone: what is in memory then goes to `FILE.unsaved` until a reload has settled what counts.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::directory::Directory;

use super::Figures;
use crate::config::files::{self, Stamp};
use crate::config::plan::LocalFile;

/// Changes within this time are written together.
const TOGETHER: Duration = Duration::from_millis(200);
/// After a write that took long, so many times as long is waited: writing takes a sixth of one processor at most.
const REST: u32 = 5;
/// How long a failed write is waited with: this, doubling to the other.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How many of our own last files are recognised.
const OWN_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct WriteBack {
    file: PathBuf,
    /// The comments that the file begins with.
    heading: Vec<u8>,
    state: Mutex<State>,
    wake: Condvar,
    /// Held while the file is written.
    disk: Mutex<()>,
    writes: AtomicU64,
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    /// What is to be written.
    newest: Option<Arc<Directory>>,
    /// How many of the directory's changes are in the file.
    saved: u64,
    changes: u64,
    /// Stamps of the file that are ours, the newest last.
    own: VecDeque<Stamp>,
    running: bool,
    ended: bool,
    /// The file is another process's for now.
    held: bool,
    /// Somebody else has changed the file; this was said.
    foreign: bool,
}

/// Why nothing was written.
enum Trouble {
    /// The file is not as we left it.
    Foreign,
    Disk(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Disk(error)
    }
}

impl WriteBack {
    pub(super) fn new(target: &LocalFile, content: &[u8]) -> Self {
        let state = State {
            own: VecDeque::from([target.stamp]),
            ..State::default()
        };
        WriteBack {
            // What is renamed over a link would leave the file it leads to behind.
            file: std::fs::canonicalize(&target.file).unwrap_or_else(|_| target.file.clone()),
            heading: engine::directory::heading(content),
            state: Mutex::new(state),
            wake: Condvar::new(),
            disk: Mutex::new(()),
            writes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// The file says from now on that there may be changes that are not in it.
    pub(super) fn begin(&self, directory: &Directory) {
        if let Err(trouble) = self.write(directory, false) {
            self.failed(&trouble, directory);
        }
    }

    /// The same file, for a store that goes on with what this one has.
    pub(super) fn taken_over(&self) -> Self {
        let state = self.lock();
        let state = State {
            own: state.own.clone(),
            saved: state.saved,
            changes: state.changes,
            foreign: state.foreign,
            ..State::default()
        };
        WriteBack {
            file: self.file.clone(),
            heading: self.heading.clone(),
            state: Mutex::new(state),
            wake: Condvar::new(),
            disk: Mutex::new(()),
            writes: AtomicU64::new(self.writes.load(Ordering::Relaxed)),
            failures: AtomicU64::new(self.failures.load(Ordering::Relaxed)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory is another now.
    pub(super) fn changed(self: &Arc<Self>, directory: Arc<Directory>) {
        let mut state = self.lock();
        state.changes = directory.changes();
        state.newest = Some(directory);
        if !state.running {
            let own = Arc::clone(self);
            match std::thread::Builder::new()
                .name("write-back".into())
                .spawn(move || own.run())
            {
                Ok(_) => state.running = true,
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%error, file = %self.file.display(), "no thread that writes changes to the file");
                }
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    fn run(&self) {
        let mut retry = RETRY_MIN;
        loop {
            let mut state = self.lock();
            while state.newest.is_none() && !state.ended {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.ended {
                return;
            }
            drop(state);
            // Until here changes are gathered.
            if self.rest(TOGETHER) {
                return;
            }
            let Some(directory) = self.lock().newest.take() else {
                continue;
            };
            let began = Instant::now();
            let rest = match self.write(&directory, false) {
                Ok(()) => {
                    retry = RETRY_MIN;
                    began.elapsed() * REST
                }
                Err(trouble) => {
                    self.failed(&trouble, &directory);
                    // What came meanwhile is newer.
                    self.lock().newest.get_or_insert(directory);
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    wait
                }
            };
            if self.rest(rest) {
                return;
            }
        }
    }

    /// Waits; true: it is over.
    fn rest(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.wake.wait_timeout_while(state, time, |state| !state.ended);
        waited.map_or(true, |(state, _)| state.ended)
    }

    fn write(&self, directory: &Directory, last: bool) -> Result<(), Trouble> {
        let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if !last && self.lock().held {
            return Ok(());
        }
        let there = std::fs::metadata(&self.file);
        let is_own = there.as_ref().is_ok_and(|there| self.wrote(files::stamp_of(there)));
        if !is_own {
            return Err(Trouble::Foreign);
        }
        let mut content = Vec::new();
        directory.export(&self.heading, last, &mut content);
        let beside = beside(&self.file, ".new");
        let new = write_whole(&beside, &content, there.ok().as_ref())?;
        {
            let mut state = self.lock();
            if state.own.len() == OWN_MAX {
                state.own.pop_front();
            }
            state.own.push_back(new);
        }
        std::fs::rename(&beside, &self.file)?;
        if let Some(folder) = self.file.parent() {
            File::open(folder)?.sync_all()?;
        }
        let mut state = self.lock();
        state.saved = state.saved.max(directory.changes());
        state.foreign = false;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn failed(&self, trouble: &Trouble, directory: &Directory) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let file = self.file.display();
        match trouble {
            Trouble::Disk(error) => {
                tracing::error!(%file, %error, "changes could not be written to the file; they are kept, and it is tried again");
            }
            Trouble::Foreign => {
                let unsaved = self.save_aside(directory);
                if !std::mem::replace(&mut self.lock().foreign, true) {
                    tracing::error!(
                        %file, %unsaved,
                        "somebody else has changed the file: it is not overwritten, and changes go elsewhere until a reload"
                    );
                }
            }
        }
    }

    /// What is in memory, beside the file that somebody else has changed. Says where, or why not.
    fn save_aside(&self, directory: &Directory) -> String {
        let mut content = Vec::new();
        directory.export(&self.heading, false, &mut content);
        let (unsaved, beside) = (beside(&self.file, ".unsaved"), beside(&self.file, ".new"));
        let like = std::fs::metadata(&self.file).ok();
        let saved = write_whole(&beside, &content, like.as_ref()).and_then(|_| std::fs::rename(&beside, &unsaved));
        match saved {
            Ok(()) => unsaved.display().to_string(),
            Err(error) => format!("nowhere: {error}"),
        }
    }

    /// Another store serves the file now: with what is in this one, or, if it was `replaced`, with the file's own content.
    pub(super) fn end(&self, directory: &Directory, replaced: bool) {
        let mut state = self.lock();
        state.ended = true;
        let unsaved = state.changes.saturating_sub(state.saved);
        drop(state);
        self.wake.notify_all();
        if unsaved == 0 {
            return;
        }
        if replaced {
            // The thread may be writing.
            let _disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
            let file = self.save_aside(directory);
            tracing::warn!(unsaved, %file, "the file was loaded anew; changes that were not in it are kept in another");
        } else if let Err(trouble) = self.write(directory, false) {
            self.failed(&trouble, directory);
        }
    }

    /// The daemon ends: everything is written, and the file says that nothing is missing.
    pub(super) fn finish(&self, directory: &Directory) {
        let mut state = self.lock();
        state.ended = true;
        let changed = state.changes > 0 || self.writes.load(Ordering::Relaxed) > 0;
        drop(state);
        self.wake.notify_all();
        if changed && let Err(trouble) = self.write(directory, true) {
            self.failed(&trouble, directory);
        }
    }

    /// Everything is written, the file says that nothing is missing, and it is let alone until [`Self::resume`].
    pub(super) fn hold(&self, directory: &Directory) {
        let mut state = self.lock();
        state.held = true;
        state.newest = None;
        let changed = state.changes > 0 || self.writes.load(Ordering::Relaxed) > 0;
        drop(state);
        if changed && let Err(trouble) = self.write(directory, true) {
            self.failed(&trouble, directory);
        }
    }

    /// The file is this process's again.
    pub(super) fn resume(&self, directory: &Directory) {
        self.lock().held = false;
        self.begin(directory);
    }

    /// Whether the file with this stamp is of our own making, or the one that was loaded.
    pub(super) fn wrote(&self, stamp: Stamp) -> bool {
        self.lock().own.contains(&stamp)
    }

    pub(super) fn figures(&self, figures: &mut Figures) {
        let state = self.lock();
        figures.unsaved = state.changes.saturating_sub(state.saved);
        figures.writes = self.writes.load(Ordering::Relaxed);
        figures.failures = self.failures.load(Ordering::Relaxed);
    }
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Writes a file to the disk, with the rights of another; its stamp. There are passwords in it.
fn write_whole(file: &Path, content: &[u8], like: Option<&std::fs::Metadata>) -> io::Result<Stamp> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    if let Some(like) = like {
        // Who may not give it away keeps it.
        let _ = std::os::unix::fs::fchown(&new, Some(like.uid()), Some(like.gid()));
        new.set_permissions(std::fs::Permissions::from_mode(like.mode() & 0o7777))?;
    }
    new.write_all(content)?;
    new.sync_all()?;
    Ok(files::stamp_of(&new.metadata()?))
}
