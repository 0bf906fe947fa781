//! What is known of numbers that were given: of each entry the last event's (column `last` of `content`), and which entries
//! were deleted, so that a replay can tell what changed since a number.
//!
//! The number goes into a row with the write that the change makes anyway; only where a change writes no row (what is below
//! a renamed container, a replay) is it one more. Deleted entries are kept by number, the oldest forgotten beyond a bound.
//! Whenever numbers are changed after they were given (a take-over, a sink that knew a higher one) everything before the
//! change counts as unknown.

use engine::feed::event::{Event, Op, Uuid};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement, params};

use super::StoreError;

/// So many more than the bound are kept before the oldest are forgotten together.
const SLACK: u64 = 1024;

/// From which number on something is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Which entries changed.
    pub changes: u64,
    /// Which were deleted.
    pub deletes: u64,
}

/// See the head of this file.
pub struct History<'c> {
    stamp: Statement<'c>,
    bury: Statement<'c>,
    changed: Statement<'c>,
    gone: Statement<'c>,
    oldest: Statement<'c>,
    forget: Statement<'c>,
    count: Statement<'c>,
    get: Statement<'c>,
    set: Statement<'c>,
    /// The number that was put into a row with the write of a change whose event comes next.
    stamped: u64,
    /// How many deletes are kept; unknown after a failure.
    deletes: Option<u64>,
    deletes_max: u64,
}

impl<'c> History<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<History<'c>, StoreError> {
        let prepare = |sql: &str| connection.prepare(sql);
        Ok(History {
            stamp: prepare("UPDATE content SET last = ?2 WHERE uuid = ?1")?,
            bury: prepare("INSERT OR REPLACE INTO gone VALUES(?1, ?2, ?3)")?,
            changed: prepare(
                "SELECT uuid FROM content WHERE uuid > ?1 AND last >= ?2 AND last < ?3 ORDER BY uuid LIMIT ?4",
            )?,
            gone: prepare(
                "SELECT seq, uuid, dn FROM gone WHERE seq > ?1 AND seq < ?2 AND NOT EXISTS \
                 (SELECT 1 FROM content WHERE content.uuid = gone.uuid) ORDER BY seq LIMIT ?3",
            )?,
            oldest: prepare("SELECT seq FROM gone ORDER BY seq LIMIT 1 OFFSET ?1")?,
            forget: prepare("DELETE FROM gone WHERE seq >= ?1 AND seq <= ?2")?,
            count: prepare("SELECT count(*) FROM gone")?,
            get: prepare("SELECT value FROM meta WHERE key = ?")?,
            set: prepare("INSERT INTO meta VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2")?,
            stamped: 0,
            deletes: None,
            deletes_max: u64::MAX,
        })
    }

    /// How many deletes are kept, at most.
    pub fn bound(&mut self, deletes_max: u64) {
        self.deletes_max = deletes_max;
    }

    /// A row is written with this number: the event about it comes next.
    pub(super) fn stamps(&mut self, seq: u64) -> i64 {
        self.stamped = seq;
        seq.cast_signed()
    }

    /// Inside a transaction: an event gets this number.
    pub(super) fn emits(&mut self, seq: u64, event: &Event<'_>) -> Result<(), StoreError> {
        let is_stamped = std::mem::take(&mut self.stamped) == seq;
        match event.op {
            Op::Add | Op::Modify | Op::Move if is_stamped => {}
            Op::Add | Op::Modify | Op::Move => {
                self.stamp.execute(params![&event.uuid[..], seq.cast_signed()])?;
            }
            Op::Delete => {
                self.bury
                    .execute(params![seq.cast_signed(), &event.uuid[..], event.dn])?;
                self.deletes = self.deletes.map(|deletes| deletes + 1);
            }
            Op::RefreshDone | Op::Heartbeat => {}
        }
        Ok(())
    }

    /// Inside a transaction: the oldest deletes beyond the bound are forgotten.
    pub(super) fn trim(&mut self) -> Result<(), StoreError> {
        let deletes = self.deletes()?;
        if deletes <= self.deletes_max.saturating_add(SLACK) {
            return Ok(());
        }
        let surplus = deletes - self.deletes_max;
        let last: i64 = self.oldest.query_row([surplus.cast_signed() - 1], |row| row.get(0))?;
        self.forget.execute([0, last])?;
        self.deletes = Some(self.deletes_max);
        self.keep("deletes_from", last.cast_unsigned() + 1)
    }

    /// How many deletes are kept.
    ///
    /// # Errors
    /// The disk's.
    pub fn deletes(&mut self) -> Result<u64, StoreError> {
        if let Some(deletes) = self.deletes {
            return Ok(deletes);
        }
        let deletes: i64 = self.count.query_row([], |row| row.get(0))?;
        self.deletes = Some(deletes.cast_unsigned());
        Ok(deletes.cast_unsigned())
    }

    pub(super) fn rolled_back(&mut self) {
        (self.stamped, self.deletes) = (0, None);
    }

    /// Inside a transaction: numbers below this say nothing any more.
    pub(super) fn begins_at(&mut self, next: u64) -> Result<(), StoreError> {
        self.forget.execute([0, i64::MAX])?;
        (self.stamped, self.deletes) = (0, Some(0));
        self.keep("changes_from", next)?;
        self.keep("deletes_from", next)
    }

    fn keep(&mut self, key: &str, number: u64) -> Result<(), StoreError> {
        self.set.execute(params![key, number.to_le_bytes()])?;
        Ok(())
    }

    /// From which numbers on what is known.
    ///
    /// # Errors
    /// The disk's.
    pub fn known(&mut self) -> Result<Known, StoreError> {
        let mut number = |key| -> Result<u64, StoreError> {
            let kept = super::value(&mut self.get, key)?;
            let octets = kept.as_deref().and_then(<[u8]>::first_chunk);
            Ok(octets.map_or(1, |octets| u64::from_le_bytes(*octets)))
        };
        let changes = number("changes_from")?;
        Ok(Known {
            changes,
            deletes: number("deletes_from")?.max(changes),
        })
    }

    /// The next entries behind `after` by uuid whose last event has a number in this range, at most `max`.
    ///
    /// # Errors
    /// The disk's.
    pub fn changed(
        &mut self,
        after: Option<Uuid>,
        from: u64,
        before: u64,
        max: usize,
    ) -> Result<Vec<Uuid>, StoreError> {
        // The empty blob is before all.
        let after: &[u8] = after.as_ref().map_or(&[], |after| after);
        let (from, before) = (from.cast_signed(), before.cast_signed());
        let mut rows = self
            .changed
            .query(params![after, from, before, super::content::limit(max)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.extend(uuid(row.get_ref(0)?));
        }
        Ok(found)
    }

    /// The next entries that were deleted with numbers above `after` and below `before`, and are gone still, at most `max`: number,
    /// uuid, and the name they had.
    ///
    /// # Errors
    /// The disk's.
    pub fn gone(&mut self, after: u64, before: u64, max: usize) -> Result<Vec<(u64, Uuid, String)>, StoreError> {
        let (after, before) = (after.cast_signed(), before.cast_signed());
        let mut rows = self.gone.query(params![after, before, super::content::limit(max)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if let Some(uuid) = uuid(row.get_ref(1)?) {
                found.push((row.get::<_, i64>(0)?.cast_unsigned(), uuid, row.get(2)?));
            }
        }
        Ok(found)
    }

    /// Inside a transaction: these deletes were told again under other numbers.
    ///
    /// # Errors
    /// The disk's.
    pub fn told_again(&mut self, from: u64, upto: u64) -> Result<(), StoreError> {
        let forgotten = self.forget.execute([from.cast_signed(), upto.cast_signed()])?;
        self.deletes = self.deletes.map(|deletes| deletes.saturating_sub(forgotten as u64));
        Ok(())
    }
}

fn uuid(value: ValueRef<'_>) -> Option<Uuid> {
    match value {
        ValueRef::Blob(octets) => octets.try_into().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::sink::tests::Folder;
    use crate::feed::store::{Kept, Lock};
    use engine::feed::store::Content;

    fn delete(number: u64) -> Event<'static> {
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&number.to_be_bytes());
        Event::new(Op::Delete, uuid, "cn=gone,dc=x", 1)
    }

    #[test]
    fn the_oldest_deletes_are_forgotten_and_from_where_they_are_known_is_said() {
        let folder = Folder::new("history");
        let file = Lock::take(&folder.path("state")).unwrap().open(1).unwrap();
        let mut kept = Kept::new(&file.connection, 1).unwrap();
        kept.history.bound(10);
        kept.begin().unwrap();
        for number in 1..=SLACK + 10 {
            kept.emit(&delete(number)).unwrap();
        }
        kept.commit().unwrap();
        assert_eq!(
            kept.history.deletes().unwrap(),
            SLACK + 10,
            "together, and not one by one"
        );
        assert_eq!(kept.history.known().unwrap(), Known { changes: 1, deletes: 1 });
        kept.begin().unwrap();
        kept.emit(&delete(SLACK + 11)).unwrap();
        kept.rollback();
        assert_eq!(
            kept.history.deletes().unwrap(),
            SLACK + 10,
            "what was rolled back is not counted"
        );
        kept.begin().unwrap();
        kept.emit(&delete(SLACK + 11)).unwrap();
        kept.commit().unwrap();
        assert_eq!(kept.history.deletes().unwrap(), 10);
        let deletes = SLACK + 2;
        assert_eq!(kept.history.known().unwrap(), Known { changes: 1, deletes });
        let gone = kept.history.gone(0, u64::MAX >> 1, 3).unwrap();
        let numbers: Vec<u64> = gone.iter().map(|(seq, ..)| *seq).collect();
        assert_eq!(numbers, [deletes, deletes + 1, deletes + 2]);
    }

    #[test]
    fn numbers_that_were_changed_say_nothing_any_more() {
        let folder = Folder::new("renumbered");
        let file = Lock::take(&folder.path("state")).unwrap().open(1).unwrap();
        let mut kept = Kept::new(&file.connection, 1).unwrap();
        kept.begin().unwrap();
        kept.emit(&delete(1)).unwrap();
        kept.commit().unwrap();
        kept.begin().unwrap();
        kept.outbox.raise(500).unwrap();
        kept.commit().unwrap();
        let next = kept.outbox.head().next;
        assert_eq!(next, 502);
        let known = Known {
            changes: next,
            deletes: next,
        };
        assert_eq!(kept.history.known().unwrap(), known);
        assert!(kept.history.gone(0, u64::MAX >> 1, 3).unwrap().is_empty());
    }

    #[test]
    fn a_state_of_the_first_version_goes_on_and_knows_from_its_next_number() {
        let folder = Folder::new("first-version");
        let lock = Lock::take(&folder.path("state")).unwrap();
        let mut head = Vec::new();
        for number in [42_u64, 0, 0] {
            head.extend_from_slice(&number.to_le_bytes());
        }
        let file = lock.open(4).unwrap();
        file.connection
            .execute_batch(
                "DROP TABLE gone; ALTER TABLE content DROP COLUMN last; PRAGMA user_version = 1;
                 INSERT INTO content(uuid, parent, name, rdn, attributes) VALUES(x'00112233445566778899aabbccddeeff', 0, 1, x'41', x'')",
            )
            .unwrap();
        file.connection
            .execute("INSERT INTO meta VALUES('head', ?)", [head])
            .unwrap();
        drop(file);
        let file = lock.open(1).unwrap();
        assert_eq!(file.partitions, 4);
        let mut kept = Kept::new(&file.connection, 4).unwrap();
        assert_eq!(kept.outbox.head().next, 42);
        let known = Known {
            changes: 42,
            deletes: 42,
        };
        assert_eq!(kept.history.known().unwrap(), known);
        assert_eq!(kept.history.changed(None, 0, 42, 9).unwrap().len(), 1);
    }
}
