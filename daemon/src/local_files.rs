//! The local directory's files: read once, shared by all workers, and written back where that is asked for.
//!
//! A file that is served is a [`Store`]. It stays the same one over reloads as long as the file is as it was loaded or as we
//! wrote it ourselves; what a person has put into the file takes its place.

mod store;
mod write_back;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use engine::directory::Directory;

use crate::config::files::Stamp;
use crate::config::plan::{LocalFile, Target};

pub use store::{Store, Told};

/// What is served now.
struct Registry {
    all: Vec<Weak<Store>>,
    /// Those that are written back: they are kept until that is done.
    kept: Vec<Arc<Store>>,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    all: Vec::new(),
    kept: Vec::new(),
});

/// The figures of one served file.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The file.
    pub file: String,
    /// Entries now.
    pub entries: u64,
    /// Changes since it was loaded.
    pub changes: u64,
    /// Changes that are not in the file yet, where they are to be.
    pub unsaved: u64,
    /// How often the file was written.
    pub writes: u64,
    /// How often that failed.
    pub failures: u64,
}

/// Microseconds since 1970.
fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The store of a local target: the one that is there where the file is the same, else a new one. The error names file and
/// line.
pub fn load(target: &Target) -> Result<Arc<Store>, String> {
    let Target::Local(target) = target else {
        return Err("not a local directory".into());
    };
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    let before = registry
        .of(&target.file)
        .find(|store| store.target().base == target.base);
    let new = match &before {
        Some(store) if store.target() == target => return Ok(Arc::clone(store)),
        // Only what may be done with it is different.
        Some(store) if store.target().stamp == target.stamp => {
            store.retire(false);
            Store::after(store, target)?
        }
        Some(store) => {
            let new = Store::new(target, read(target)?)?;
            store.retire(true);
            new
        }
        None => Store::new(target, read(target)?)?,
    };
    let new = Arc::new(new);
    registry.all.retain(|store| store.strong_count() > 0);
    registry.kept.retain(|store| !store.is_retired());
    registry.all.push(Arc::downgrade(&new));
    if target.write_back {
        registry.kept.push(Arc::clone(&new));
    }
    Ok(new)
}

/// A file's content, as bytes and as a directory.
struct Read {
    bytes: Vec<u8>,
    directory: Directory,
}

fn read(target: &LocalFile) -> Result<Read, String> {
    let name = target.file.display().to_string();
    let bytes = match &target.text {
        Some(text) => text.as_bytes().to_vec(),
        None => std::fs::read(&target.file).map_err(|error| format!("{name}: {error}"))?,
    };
    let loaded = Directory::load(&bytes, &name, target.base.as_deref(), unix_micros());
    let directory = loaded.map_err(|error| error.to_string())?;
    Ok(Read { bytes, directory })
}

/// Whether a local target can be served; nothing is kept.
pub fn check(target: &LocalFile) -> Result<(), String> {
    let mut read = read(target)?;
    store::allow(&mut read.directory, target)
}

/// A file's identity: what we wrote ourselves is still the file that was loaded.
pub fn identity(file: &Path, stamp: Stamp) -> Stamp {
    let registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    let own = registry.of(file).find(|store| store.wrote(stamp));
    own.map_or(stamp, |store| store.target().stamp)
}

/// Another process is to have the files: what was changed is in them when this returns, and nothing more is taken, until
/// [`resume`].
pub fn hold() {
    for store in kept() {
        store.hold();
    }
}

/// The files are this process's again.
pub fn resume() {
    for store in kept() {
        store.resume();
    }
}

fn kept() -> Vec<Arc<Store>> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).kept.clone()
}

/// The last writes, before the daemon ends. All workers have ended.
pub fn finish() {
    let kept = std::mem::take(&mut REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).kept);
    for store in kept {
        store.finish();
    }
}

/// Of everything that is served.
pub fn figures() -> Vec<Figures> {
    let registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    let live = registry.all.iter().filter_map(Weak::upgrade);
    live.filter(|store| !store.is_retired())
        .map(|store| store.figures())
        .collect()
}

impl Registry {
    fn of(&self, file: &Path) -> impl Iterator<Item = Arc<Store>> {
        let live = self.all.iter().filter_map(Weak::upgrade);
        live.filter(move |store| store.target().file == file && !store.is_retired())
    }
}
