//! The local directory's files: read once, shared by all workers.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use engine::directory::Directory;

use crate::config::plan::Target;

type Key = (PathBuf, (u64, u64));

static LOADED: Mutex<Option<HashMap<Key, Weak<Directory>>>> = Mutex::new(None);

/// The directory of a local target, from memory where another worker has it already. The error names file and line.
pub fn load(target: &Target) -> Result<Arc<Directory>, String> {
    let Target::Local {
        file,
        stamp,
        base,
        text,
    } = target
    else {
        return Err("not a local directory".into());
    };
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default();
    let key = (file.clone(), *stamp);
    if let Some(found) = loaded.get(&key).and_then(Weak::upgrade) {
        return Ok(found);
    }
    let name = file.display().to_string();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let read;
    let bytes: &[u8] = match text {
        Some(text) => text.as_bytes(),
        None => {
            read = std::fs::read(file).map_err(|error| format!("{name}: {error}"))?;
            &read
        }
    };
    let directory = Arc::new(Directory::load(bytes, &name, base.as_deref(), now).map_err(|error| error.to_string())?);
    loaded.retain(|_, directory| directory.strong_count() > 0);
    loaded.insert(key, Arc::downgrade(&directory));
    Ok(directory)
}

/// Whether a local target can be loaded.
pub fn check(target: &Target) -> Result<(), String> {
    load(target).map(|_| ())
}
