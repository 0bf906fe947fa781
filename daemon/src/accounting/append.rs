//! Text appended to files that are put away when they are large or old; who moves a file away is noticed before the next
//! write.
//!
//! What cannot be written whole is taken back, and a record that a crash has torn is cut off when the file is opened again, so
//! that there are whole records only. A file in the detail format is locked while it is written to, as FreeRADIUS does, so that
//! its reader takes it away between two writes and never within one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::detail;
use super::plan::{FilePlan, Format};
use crate::rotation;

/// Files that are open at once; the one that was not written to for longest is closed.
const OPEN_MAX: usize = 64;
/// A torn record is looked for so far from the end of a file: no record is as long.
const RECORD_BYTES_MAX: u64 = 256 << 10;
/// How often a lock is tried, and how long is waited before it is tried again.
const LOCK_TRIES: usize = 20;
const LOCK_WAIT: Duration = Duration::from_millis(5);

/// See the module.
pub(crate) struct Appender {
    plan: FilePlan,
    open: Vec<Open>,
    /// Counts writes.
    turn: u64,
}

struct Open {
    path: PathBuf,
    file: File,
    inode: u64,
    regular: bool,
    since: SystemTime,
    used: u64,
}

impl Appender {
    /// Nothing is opened yet.
    pub(crate) fn new(plan: FilePlan) -> Appender {
        Appender {
            plan,
            open: Vec::new(),
            turn: 0,
        }
    }

    /// As configured.
    pub(crate) fn plan(&self) -> &FilePlan {
        &self.plan
    }

    /// Closes all files; each is opened again when there is something for it.
    pub(crate) fn reopen(&mut self) {
        self.open.clear();
    }

    /// Closes one file.
    pub(crate) fn forget(&mut self, path: &Path) {
        self.open.retain(|open| open.path != path);
    }

    /// Opens a file before there is something for it.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open(&mut self, path: &Path) -> io::Result<()> {
        self.ready(path).map(|_| ())
    }

    /// Writes whole records behind what a file has.
    ///
    /// # Errors
    /// The file cannot be opened, put away or written; nothing of the text is in it.
    pub(crate) fn append(&mut self, path: &Path, text: &[u8]) -> io::Result<()> {
        self.rotate_if_due(path)?;
        let (sync, locks) = (self.plan.sync, self.plan.format == Format::Detail);
        for _ in 0..LOCK_TRIES {
            let open = self.ready(path)?;
            if locks && open.regular && !open.lock()? {
                // Its reader has it: by now under another name, or soon.
                std::thread::sleep(LOCK_WAIT);
                continue;
            }
            let bytes = match fs::metadata(path) {
                Ok(found) if found.ino() == open.inode => found.len(),
                // Moved away since it was looked at.
                _ => continue,
            };
            let mut written = (&open.file).write_all(text);
            if written.is_ok() && sync {
                written = rotation::sync(&open.file);
            }
            if written.is_err() && open.regular {
                // A full disk: what was written of it is taken back now, or else when the file is opened again.
                let _ = open.file.set_len(bytes);
            }
            if locks && open.regular {
                let _ = fcntl_lock(&open.file, FlockOperation::Unlock);
            }
            return written;
        }
        Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            "another process has it locked",
        ))
    }

    /// The file of this name, opened.
    fn ready(&mut self, path: &Path) -> io::Result<&mut Open> {
        self.turn += 1;
        let same = |open: &Open| fs::metadata(path).is_ok_and(|found| found.ino() == open.inode);
        let place = self.open.iter().position(|open| open.path == path);
        let place = match place {
            Some(place) if self.open.get(place).is_some_and(same) => place,
            found => {
                if let Some(place) = found {
                    self.open.swap_remove(place);
                }
                if self.open.len() >= OPEN_MAX {
                    let oldest = self.open.iter().enumerate().min_by_key(|(_, open)| open.used);
                    if let Some(at) = oldest.map(|(at, _)| at) {
                        self.open.swap_remove(at);
                    }
                }
                self.open.push(Open::new(path, &self.plan)?);
                self.open.len() - 1
            }
        };
        let open = self.open.get_mut(place).ok_or(io::ErrorKind::NotFound)?;
        open.used = self.turn;
        Ok(open)
    }

    fn rotate_if_due(&mut self, path: &Path) -> io::Result<()> {
        let (size, age, keep) = (self.plan.rotate_bytes, self.plan.rotate_every, self.plan.keep);
        if size == 0 && age.is_zero() {
            return Ok(());
        }
        let open = self.ready(path)?;
        let bytes = open.file.metadata()?.len();
        let old = !age.is_zero() && open.since.elapsed().is_ok_and(|since| since >= age);
        let due = open.regular && bytes > 0 && (old || size > 0 && bytes >= size);
        if !due {
            return Ok(());
        }
        open.file.sync_data()?;
        self.open.retain(|open| open.path != path);
        rotation::put_away(path, keep)?;
        self.ready(path)?;
        rotation::sync_folder(path)
    }
}

/// Whether a file without an end of a record has the beginning of one: what else it has is not ours to cut.
fn begins_a_record(file: &mut File, format: Format) -> io::Result<bool> {
    let mut first = [0];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut first)?;
    let [first] = first;
    Ok(match format {
        Format::Json => first == b'{',
        Format::Detail => first.is_ascii_uppercase(),
    })
}

impl Open {
    fn new(path: &Path, plan: &FilePlan) -> io::Result<Open> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(plan.mode);
        let mut file = match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !plan.path.is_plain() => {
                let folder = path.parent().unwrap_or(Path::new("/"));
                // Who may read the files may look for them.
                let mode = plan.mode | (plan.mode & 0o444) >> 2;
                DirBuilder::new().recursive(true).mode(mode).create(folder)?;
                options.open(path)?
            }
            opened => opened?,
        };
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.len() > 0 {
            let end = match plan.format {
                Format::Json => b"\n",
                Format::Detail => detail::END,
            };
            let whole = match rotation::whole(&mut file, end, RECORD_BYTES_MAX)? {
                Some(whole) => whole,
                None if metadata.len() < RECORD_BYTES_MAX && begins_a_record(&mut file, plan.format)? => 0,
                None => {
                    return Err(io::Error::other(
                        "its end is no record of the format that is to be written",
                    ));
                }
            };
            if whole < metadata.len() {
                tracing::warn!(
                    file = %path.display(),
                    bytes = metadata.len() - whole,
                    "a record that was not written whole is cut off"
                );
                file.set_len(whole)?;
            }
        }
        let since = metadata.created().or_else(|_| metadata.modified());
        if metadata.len() == 0 && plan.sync {
            // A new name is on the disk, too.
            let _ = rotation::sync_folder(path);
        }
        Ok(Open {
            path: path.to_owned(),
            inode: metadata.ino(),
            regular: metadata.is_file(),
            since: since.unwrap_or_else(|_| SystemTime::now()),
            used: 0,
            file,
        })
    }

    /// Whether this process has the file's lock now.
    fn lock(&self) -> io::Result<bool> {
        match fcntl_lock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
