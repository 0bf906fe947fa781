//! What a feed keeps: content, outgoing events, cookie, in one SQLite file of its state folder.
//!
//! One thread owns it, and nobody else opens it (a lock file sees to that): exclusive locking, a write-ahead log, and a
//! sync with each commit, so that whatever was committed is there after `kill -9` or a power cut, and nothing else is.
//!
//! ```text
//! content(id, uuid, parent, name, rdn, attributes, last)   rows of the tree; indexes by uuid, and by (parent, name);
//!                                                    last: the number of the entry's last event
//! gone(seq, uuid, dn)                                entries that were deleted, by the number of that event
//! outbox(key, event)                                 key = shard << 48 | sequence number
//! dead(key, why, time, event)                        events that a sink refused for good
//! shard(shard, acked)                                up to where each shard's sink has them
//! meta(key, value)                                   facts, head (next number, rows, bytes), partitions, from which
//!                                                    number on changes and deletes are known, and
//!                                                    stream (how far the stream of a shared feed is read)
//! ```
//!
//! An outgoing event lies at the end of its shard's part of one table, so that an insert appends, and what a sink has taken
//! is one range to delete. Statements are prepared once, for as long as the file is open.

mod content;
mod following;
mod fresh;
mod history;
mod outbox;

use std::fmt;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use engine::feed::event::Damaged;
use rusqlite::{Connection, OptionalExtension, Statement};

pub use content::Kept;
pub use fresh::Batch;
pub use outbox::Dead;

/// The version of the tables, in `user_version`.
const VERSION: i64 = 2;
/// "ushf": the file is a feed's.
const APPLICATION: i64 = 0x7573_6866;
/// The file in its folder.
const FILE: &str = "feed.db";
/// Memory for pages, KiB.
const CACHE_KIB: i64 = 18 * 1024;
/// Bytes of a page, of a file that is made now; one that is there keeps its own. A refresh writes rows of half a kilobyte in
/// order, for which a larger page is less work; a single change writes whole pages, for which it is more.
const PAGE_BYTES: i64 = 8192;
/// Pages of the write-ahead log after which it is written into the file: 32 MiB.
const CHECKPOINT_PAGES: i64 = 4096;
/// Longest write-ahead log that is kept when it is empty, bytes.
const LOG_BYTES_KEPT: i64 = 64 << 20;

const TABLES: &str = "
    CREATE TABLE content(id INTEGER PRIMARY KEY, uuid BLOB, parent INTEGER NOT NULL, name INTEGER NOT NULL,
                         rdn BLOB NOT NULL, attributes BLOB NOT NULL, last INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE gone(seq INTEGER PRIMARY KEY, uuid BLOB NOT NULL, dn TEXT NOT NULL);
    CREATE UNIQUE INDEX by_uuid ON content(uuid) WHERE uuid IS NOT NULL;
    CREATE INDEX by_name ON content(parent, name);
    CREATE INDEX glue ON content(id) WHERE uuid IS NULL;
    CREATE TABLE outbox(key INTEGER PRIMARY KEY, event BLOB NOT NULL);
    CREATE TABLE dead(key INTEGER PRIMARY KEY, why TEXT NOT NULL, time INTEGER NOT NULL, event BLOB NOT NULL);
    CREATE TABLE shard(shard INTEGER PRIMARY KEY, acked INTEGER NOT NULL);
    CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
";

/// From version 1: which numbers entries had is not known, so it counts from the next one on.
const FROM_1: &str = "
    ALTER TABLE content ADD COLUMN last INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE gone(seq INTEGER PRIMARY KEY, uuid BLOB NOT NULL, dn TEXT NOT NULL);
    INSERT OR REPLACE INTO meta SELECT 'changes_from', substr(value, 1, 8) FROM meta WHERE key = 'head';
";

/// Why the store did not do it.
#[derive(Debug)]
pub enum StoreError {
    /// The disk, or SQLite.
    Sql(rusqlite::Error),
    /// What is kept cannot be read.
    Damaged(Damaged),
    /// It is for something else, or newer; trying again does not help.
    Unfit(String),
}

impl StoreError {
    /// Whether it may be better the next time.
    pub fn may_pass(&self) -> bool {
        match self {
            StoreError::Sql(rusqlite::Error::SqliteFailure(error, _)) => !matches!(
                error.code,
                rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase
            ),
            StoreError::Sql(_) => true,
            StoreError::Damaged(_) | StoreError::Unfit(_) => false,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Sql(error) => write!(f, "{error}"),
            StoreError::Damaged(damaged) => write!(f, "{damaged}"),
            StoreError::Unfit(why) => f.write_str(why),
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        StoreError::Sql(error)
    }
}

impl From<Damaged> for StoreError {
    fn from(damaged: Damaged) -> Self {
        StoreError::Damaged(damaged)
    }
}

/// An open file, and the lock on its folder.
#[derive(Debug)]
pub struct File {
    /// SQLite's.
    pub connection: Connection,
    /// In how many shards its events are.
    pub partitions: u16,
}

/// Nobody else has this folder while it lives.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
    folder: PathBuf,
}

impl Lock {
    /// Makes the folder where there is none (mode 0700), and takes it.
    ///
    /// # Errors
    /// What is in the way.
    pub fn take(folder: &Path) -> Result<Lock, String> {
        let shown = folder.display();
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| format!("the state folder {shown} cannot be made: {error}"))?;
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join("lock"))
            .map_err(|error| format!("the state folder {shown} cannot be used: {error}"))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            format!("the state folder {shown} is in use by another process: stop that one, or name another folder")
        })?;
        Ok(Lock {
            _file: file,
            folder: folder.to_owned(),
        })
    }

    /// Opens the file that is there.
    ///
    /// # Errors
    /// As [`Lock::open`]; or there is none.
    pub fn open_kept(&self) -> Result<File, StoreError> {
        let path = self.folder.join(FILE);
        if !path.exists() {
            return Err(StoreError::Unfit(format!(
                "{} is not there: no feed was run with this folder",
                path.display()
            )));
        }
        self.open(1)
    }

    /// Opens the file, and makes it where there is none. What is there keeps its number of partitions.
    ///
    /// # Errors
    /// The disk's; or the file is another program's, or a newer version's.
    pub fn open(&self, partitions: u16) -> Result<File, StoreError> {
        let path = self.folder.join(FILE);
        // Its mode is the daemon's alone, and SQLite gives its log the same: attributes may be secrets.
        fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| StoreError::Unfit(format!("{} cannot be opened: {error}", path.display())))?;
        let connection = Connection::open(&path)?;
        configure(&connection)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        match (application, version) {
            (0, 0) => {
                connection.execute_batch(&format!(
                    "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; \
                     INSERT INTO meta VALUES('partitions', {partitions}); COMMIT"
                ))?;
            }
            (APPLICATION, VERSION) => {}
            (APPLICATION, 1) => {
                connection.execute_batch(&format!(
                    "BEGIN IMMEDIATE; {FROM_1} PRAGMA user_version = {VERSION}; COMMIT"
                ))?;
            }
            (APPLICATION, version) => {
                return Err(StoreError::Unfit(format!(
                    "{} has version {version}, and this usherd reads {VERSION}: run the newer usherd",
                    path.display()
                )));
            }
            _ => {
                return Err(StoreError::Unfit(format!("{} is no feed's state", path.display())));
            }
        }
        let kept: i64 =
            connection.query_row("SELECT value FROM meta WHERE key = 'partitions'", [], |row| row.get(0))?;
        Ok(File {
            connection,
            partitions: u16::try_from(kept).unwrap_or(1).max(1),
        })
    }
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    // Exclusive before the log is begun: then its index is in this process's memory, and no file is mapped.
    connection.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES}; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA cache_size = -{CACHE_KIB}; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; \
         PRAGMA journal_size_limit = {LOG_BYTES_KEPT}; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF"
    ))?;
    Ok(())
}

/// Up to where each shard's sink has its events.
///
/// # Errors
/// The disk's.
pub fn acknowledged(file: &File) -> Result<Vec<u64>, StoreError> {
    let mut all = vec![0; usize::from(file.partitions)];
    let mut statement = file.connection.prepare("SELECT shard, acked FROM shard")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let shard: u16 = row.get(0)?;
        if let Some(place) = all.get_mut(usize::from(shard)) {
            *place = row.get::<_, i64>(1)?.cast_unsigned();
        }
    }
    Ok(all)
}

/// Begins a transaction; see [`commit`].
///
/// # Errors
/// SQLite's.
pub fn begin(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch("BEGIN IMMEDIATE")?)
}

/// Everything since [`begin`] is kept from now on.
///
/// # Errors
/// The disk's; then nothing of it is.
pub fn commit(connection: &Connection) -> Result<(), StoreError> {
    Ok(connection.execute_batch("COMMIT")?)
}

/// Nothing since [`begin`] counts.
pub fn rollback(connection: &Connection) {
    // Some errors have rolled back already.
    if !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// One value, or none.
fn value(statement: &mut Statement<'_>, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(statement.query_row([key], |row| row.get(0)).optional()?)
}
