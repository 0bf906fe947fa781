//! Files that grow and are put away: `FILE`, `FILE.1`, `FILE.2`, …, and what a crash leaves at their ends.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// `PATH`, `PATH.1`, `PATH.2`, …
pub fn older(path: &Path, place: usize) -> PathBuf {
    if place == 0 {
        return path.to_owned();
    }
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{place}"));
    PathBuf::from(name)
}

/// Puts a file away, and those that were put away before it one place further; the last of `keep` goes.
///
/// # Errors
/// A file cannot be renamed.
pub fn put_away(path: &Path, keep: usize) -> io::Result<()> {
    if keep == 0 {
        return fs::remove_file(path);
    }
    for place in (0..keep).rev() {
        match fs::rename(older(path, place), older(path, place + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// That a file has this name, and none of those before, is on the disk.
///
/// # Errors
/// The disk's.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// What was written is on the disk; a device or a pipe, which has none (EINVAL), keeps what it keeps.
///
/// # Errors
/// The disk's.
pub fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

/// How many bytes of a file there are up to the last `end`, looked for from the file's end, but not further than
/// `back_max` bytes. None: it is not there.
///
/// # Errors
/// The file cannot be read.
pub fn whole(file: &mut File, end: &[u8], back_max: u64) -> io::Result<Option<u64>> {
    const PIECE: u64 = 64 << 10;
    let length = file.metadata()?.len();
    let overlap = end.len().saturating_sub(1) as u64;
    let mut upto = length;
    let mut piece = Vec::new();
    while upto > 0 && length - upto < back_max {
        let start = upto.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        // An end may lie across two pieces.
        Read::by_ref(file)
            .take(upto - start + overlap)
            .read_to_end(&mut piece)?;
        if let Some(at) = piece.windows(end.len()).rposition(|window| window == end) {
            return Ok(Some(start + at as u64 + end.len() as u64));
        }
        upto = start;
    }
    Ok(None)
}
