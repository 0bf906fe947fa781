//! Several files that get their names together: none is there before all are whole on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::config::files::plain;

/// Files beside their places. What did not get its name is removed when this is dropped.
pub struct Files<'f> {
    folder: &'f Path,
    replaces: bool,
    /// Beside, and its name.
    all: Vec<(PathBuf, PathBuf)>,
}

impl<'f> Files<'f> {
    /// Files of this folder, which is made if it is not there. `replaces`: also those that are there.
    pub fn new(folder: &'f Path, replaces: bool) -> Result<Files<'f>, String> {
        fs::create_dir_all(folder).map_err(|error| cannot(folder, &error))?;
        Ok(Files {
            folder,
            replaces,
            all: Vec::new(),
        })
    }

    /// Writes a file that only its owner may read; where it is until [`Files::finish`].
    pub fn put(&mut self, name: &str, content: &[u8]) -> Result<PathBuf, String> {
        let target = self.folder.join(name);
        if !self.replaces && target.symlink_metadata().is_ok() {
            return Err(there(&target));
        }
        let beside = self.folder.join(format!(".{}-{name}", std::process::id()));
        let written = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?;
            file.write_all(content)?;
            file.sync_all()
        };
        let done = written();
        // Also what is half-written is removed.
        if !matches!(&done, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
            self.all.push((beside.clone(), target));
        }
        done.map_err(|error| cannot(&beside, &error))?;
        std::path::absolute(&beside).map_err(|error| cannot(&beside, &error))
    }

    /// Gives all of them their names; in the end all have them, or none.
    pub fn finish(mut self) -> Result<Vec<PathBuf>, String> {
        let mut named: Vec<PathBuf> = Vec::with_capacity(self.all.len());
        for (beside, target) in &self.all {
            let done = if self.replaces {
                fs::rename(beside, target)
            } else {
                // A link never takes another file's place.
                fs::hard_link(beside, target)
            };
            if let Err(error) = done {
                if !self.replaces {
                    named.iter().for_each(|path| drop(fs::remove_file(path)));
                }
                return Err(match error.kind() {
                    io::ErrorKind::AlreadyExists => there(target),
                    _ => cannot(target, &error),
                });
            }
            named.push(target.clone());
        }
        self.clear();
        let folder = File::open(self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(|error| cannot(self.folder, &error))?;
        Ok(named)
    }

    fn clear(&mut self) {
        for (beside, _) in self.all.drain(..) {
            // With its name it is gone from here already.
            drop(fs::remove_file(beside));
        }
    }
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}

fn there(path: &Path) -> String {
    format!(
        "{} is there already; another folder, or --force to replace it",
        path.display()
    )
}

fn cannot(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be written: {}", path.display(), plain(error))
}
