//! Records that the sink did not take, in one SQLite file of a folder of their own.
//!
//! One thread has it, and nobody else opens it (a lock file sees to that). A transaction for each batch, synced with its
//! commit: what was committed is there after `kill -9` or a power cut.
//!
//! ```text
//! waiting(seq, received, client, source, destination, packet)   in the order in which they came
//! refused(the same)                                             what the service will not have; waiting again after a start
//! ```

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rusqlite::{Connection, Row, params};

use super::moment::micros;
use super::plan::SpoolPlan;
use super::state::Settled;
use super::{Item, Outcome, Record, Ticket};
use crate::feed::Lock;

/// The version of the tables, in `user_version`.
const VERSION: i64 = 1;
/// "usha": the file is a spool of accounting.
const APPLICATION: i64 = 0x7573_6861;
const FILE: &str = "spool.db";
/// What a row takes beside its packet, about.
const ROW_BYTES: u64 = 128;
const TABLES: &str = "
    CREATE TABLE waiting(seq INTEGER PRIMARY KEY, received INTEGER NOT NULL, client TEXT NOT NULL, source TEXT NOT NULL,
                         destination TEXT, packet BLOB NOT NULL);
    CREATE TABLE refused(seq INTEGER PRIMARY KEY, received INTEGER NOT NULL, client TEXT NOT NULL, source TEXT NOT NULL,
                         destination TEXT, packet BLOB NOT NULL);
";
/// A larger write-ahead log is cut when it is empty, bytes.
const LOG_BYTES_KEPT: i64 = 4 << 20;

/// See the module.
pub(super) struct Spool {
    connection: Connection,
    _lock: Lock,
    pub(super) bytes_max: u64,
    rows: u64,
    next: u64,
}

/// Why records were not kept.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There are as many bytes as may be.
    Full(u64),
    Sql(rusqlite::Error),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Full(most) => write!(f, "the spool has reached its {most} bytes (spool_max_bytes)"),
            Trouble::Sql(error) => write!(f, "the spool: {error}"),
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Trouble::Sql(error)
    }
}

impl Spool {
    /// Opens the spool, and makes it where there is none.
    ///
    /// # Errors
    /// The folder or the file cannot be used.
    pub(super) fn open(plan: &SpoolPlan) -> io::Result<Spool> {
        let lock = Lock::take(&plan.folder).map_err(io::Error::other)?;
        let path = plan.folder.join(FILE);
        // Its mode is the daemon's alone, and SQLite gives its log the same.
        fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        let sql = |error: rusqlite::Error| io::Error::other(format!("{}: {error}", path.display()));
        let connection = Connection::open(&path).map_err(sql)?;
        connection
            .execute_batch(&format!(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                 PRAGMA journal_size_limit = {LOG_BYTES_KEPT}; PRAGMA temp_store = MEMORY"
            ))
            .map_err(sql)?;
        let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(sql);
        match (number("PRAGMA application_id")?, number("PRAGMA user_version")?) {
            (0, 0) => connection
                .execute_batch(&format!(
                    "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION}; \
                     PRAGMA user_version = {VERSION}; COMMIT"
                ))
                .map_err(sql)?,
            (APPLICATION, VERSION) => {}
            (APPLICATION, newer) => {
                let shown = path.display();
                return Err(io::Error::other(format!(
                    "{shown} has version {newer}, and this usherd reads {VERSION}: run the newer usherd"
                )));
            }
            _ => {
                return Err(io::Error::other(format!(
                    "{} is no spool of accounting",
                    path.display()
                )));
            }
        }
        connection
            .execute_batch(
                "BEGIN IMMEDIATE; INSERT OR IGNORE INTO waiting SELECT * FROM refused; DELETE FROM refused; COMMIT",
            )
            .map_err(sql)?;
        let rows = number("SELECT count(*) FROM waiting")?.cast_unsigned();
        let next = number("SELECT coalesce(max(seq), 0) + 1 FROM waiting")?.cast_unsigned();
        Ok(Spool {
            connection,
            _lock: lock,
            bytes_max: plan.bytes_max,
            rows,
            next,
        })
    }

    /// The number of the next record, and how many wait.
    pub(super) fn begun(&self) -> (u64, u64) {
        (self.next, self.rows)
    }

    /// Records that wait.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes that are used.
    pub(super) fn bytes(&self) -> Result<u64, Trouble> {
        let number = |query: &str| self.connection.query_row(query, [], |row| row.get::<_, i64>(0));
        let pages = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
        Ok(pages.saturating_mul(number("PRAGMA page_size")?).cast_unsigned())
    }

    /// Keeps records, all or none. Those that it has already stay as they are.
    ///
    /// # Errors
    /// They do not fit, or the disk's; then none of them is kept.
    pub(super) fn append(&mut self, items: &[Item]) -> Result<(), Trouble> {
        let more: u64 = items
            .iter()
            .map(|item| item.record.packet.len() as u64 + ROW_BYTES)
            .sum();
        if self.bytes()?.saturating_add(more) > self.bytes_max {
            return Err(Trouble::Full(self.bytes_max));
        }
        let transaction = self.connection.transaction()?;
        let mut kept = 0;
        {
            let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO waiting VALUES(?, ?, ?, ?, ?, ?)")?;
            for Item { seq, record, .. } in items {
                kept += insert.execute(params![
                    seq.cast_signed(),
                    micros(record.received),
                    record.client,
                    record.from.to_string(),
                    record.to.map(|to| to.to_string()),
                    record.packet,
                ])?;
            }
        }
        transaction.commit()?;
        self.rows += kept as u64;
        Ok(())
    }

    /// The oldest records, in order.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn oldest(&self, most: usize) -> Result<Vec<Item>, Trouble> {
        let mut select = self
            .connection
            .prepare_cached("SELECT * FROM waiting ORDER BY seq LIMIT ?")?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = select.query_map([most], item)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Forgets what the sink has, and sets aside what it refused. How many those are.
    ///
    /// # Errors
    /// The disk's; then all is as it was, and the sink gets some again.
    pub(super) fn settle(&mut self, all: &[Settled]) -> Result<u64, Trouble> {
        let transaction = self.connection.transaction()?;
        let (mut gone, mut refused) = (0, 0);
        {
            let mut delete = transaction.prepare_cached("DELETE FROM waiting WHERE seq = ?")?;
            let mut keep =
                transaction.prepare_cached("INSERT OR REPLACE INTO refused SELECT * FROM waiting WHERE seq = ?")?;
            for Settled { items, outcomes, .. } in all {
                for (item, outcome) in items.iter().zip(outcomes) {
                    let seq = item.seq.cast_signed();
                    match outcome {
                        Outcome::Later => continue,
                        Outcome::Refused => refused += keep.execute([seq])?,
                        Outcome::Done => {}
                    }
                    gone += delete.execute([seq])?;
                }
            }
        }
        transaction.commit()?;
        self.rows = self.rows.saturating_sub(gone as u64);
        Ok(refused as u64)
    }
}

/// Records that wait in a spool that is nobody's; 0 where there is none, or it is somebody's.
pub(super) fn left_in(folder: &Path) -> u64 {
    let plan = SpoolPlan {
        folder: folder.to_owned(),
        bytes_max: 0,
        after: Duration::ZERO,
    };
    let is_there = folder.join(FILE).is_file();
    let spool = is_there.then(|| Spool::open(&plan).ok()).flatten();
    spool.map_or(0, |spool| spool.rows())
}

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let received: i64 = row.get(1)?;
    let since = Duration::from_micros(received.unsigned_abs());
    let (source, destination): (String, Option<String>) = (row.get(3)?, row.get(4)?);
    let record = Record {
        // Whoever waited for it was told.
        ticket: Ticket {
            worker: 0,
            listener: 0,
            request: 0,
        },
        packet: row.get(5)?,
        client: row.get(2)?,
        from: source.parse().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0))),
        to: destination.and_then(|to| to.parse::<IpAddr>().ok()),
        received: if received < 0 {
            UNIX_EPOCH - since
        } else {
            UNIX_EPOCH + since
        },
    };
    Ok(Item {
        seq: row.get::<_, i64>(0)?.cast_unsigned(),
        at: Instant::now(),
        record,
    })
}
