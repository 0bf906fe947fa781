//! Events on their way out, by shard.
//!
//! What was just committed is kept in memory, too (`fresh.rs`), and handed on from there to a shard that keeps up; one that
//! has fallen behind reads the table until it has caught up. Nothing is handed on that is not committed, also
//! while a transaction is open: of the table no number is read that was not given when the last one was committed.

use std::collections::BTreeMap;

use engine::feed::event::Event;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement, params};

use super::StoreError;
use super::fresh::{BATCH_EVENTS_MAX, Batch, Shard, bytes_max};

/// Bits of a key that are the sequence number.
const SEQ_BITS: u32 = 48;
/// A number that no feed comes to, and far enough from any other within [`SEQ_BITS`].
const ASIDE: u64 = 1 << 46;

/// Where the outbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The number of the next event.
    pub next: u64,
    /// Events that wait.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Head {
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        for number in [self.next, self.rows, self.bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Head {
        let mut numbers = bytes
            .chunks_exact(8)
            .map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
        let mut next = || numbers.next().unwrap_or_default();
        Head {
            next: next(),
            rows: next(),
            bytes: next(),
        }
    }
}

/// An event that a sink refused for good.
#[derive(Clone, Debug)]
pub struct Dead {
    /// Its shard.
    pub shard: u16,
    /// Its number.
    pub seq: u64,
    /// What the sink said.
    pub why: String,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: i64,
    /// Its binary form.
    pub event: Vec<u8>,
}

/// See the head of this file.
pub struct Outbox<'c> {
    insert: Statement<'c>,
    read: Statement<'c>,
    oldest: Statement<'c>,
    weigh: Statement<'c>,
    delete: Statement<'c>,
    set_acked: Statement<'c>,
    lift: Statement<'c>,
    lowest: Statement<'c>,
    bury: Statement<'c>,
    take: Statement<'c>,
    graves: Statement<'c>,
    exhume: Statement<'c>,
    scratch: Vec<u8>,
    head: Head,
    committed: Head,
    moved: bool,
    /// Numbers were changed after they were given.
    renumbered: bool,
    shards: Vec<Shard>,
}

fn key(shard: u16, seq: u64) -> i64 {
    let key = u64::from(shard) << SEQ_BITS | seq & ((1 << SEQ_BITS) - 1);
    key.cast_signed()
}

fn parts(key: i64) -> (u16, u64) {
    let key = key.cast_unsigned();
    let shard = u16::try_from(key >> SEQ_BITS).unwrap_or(0);
    (shard, key & ((1 << SEQ_BITS) - 1))
}

impl<'c> Outbox<'c> {
    pub(super) fn new(connection: &'c Connection, partitions: u16) -> Result<Outbox<'c>, StoreError> {
        let prepare = |sql: &str| connection.prepare(sql);
        let mut outbox = Outbox {
            insert: prepare("INSERT INTO outbox(key, event) VALUES(?, ?)")?,
            read: prepare("SELECT key, event FROM outbox WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3")?,
            oldest: prepare("SELECT min(key) FROM outbox WHERE key > ?1 AND key < ?2")?,
            weigh: prepare("SELECT count(*), total(length(event)) FROM outbox WHERE key >= ?1 AND key <= ?2")?,
            delete: prepare("DELETE FROM outbox WHERE key >= ?1 AND key <= ?2")?,
            set_acked: prepare("INSERT INTO shard VALUES(?1, ?2) ON CONFLICT(shard) DO UPDATE SET acked = ?2")?,
            lift: prepare("UPDATE outbox SET key = key + ?1")?,
            lowest: prepare(&format!("SELECT min(key & {}) FROM outbox", (1_i64 << SEQ_BITS) - 1))?,
            bury: prepare("INSERT OR REPLACE INTO dead VALUES(?1, ?2, ?3, (SELECT event FROM outbox WHERE key = ?1))")?,
            take: prepare("SELECT event FROM outbox WHERE key = ?")?,
            graves: prepare("SELECT key, why, time, event FROM dead WHERE key >= ?1 ORDER BY key LIMIT ?2")?,
            exhume: prepare("DELETE FROM dead WHERE key = ?")?,
            scratch: Vec::new(),
            head: Head::default(),
            committed: Head::default(),
            moved: false,
            renumbered: false,
            shards: (0..partitions).map(|_| Shard::default()).collect(),
        };
        outbox.load(connection)?;
        Ok(outbox)
    }

    fn load(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let head = super::value(&mut connection.prepare("SELECT value FROM meta WHERE key = ?")?, "head")?;
        self.head = head.map_or(
            Head {
                next: 1,
                ..Head::default()
            },
            |bytes| Head::decode(&bytes),
        );
        self.committed = self.head;
        let mut acked: BTreeMap<u16, u64> = BTreeMap::new();
        let mut statement = connection.prepare("SELECT shard, acked FROM shard")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            acked.insert(row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned());
        }
        for (shard, number) in self.shards.iter_mut().zip(0_u16..) {
            shard.acked = acked.get(&number).copied().unwrap_or(0);
            shard.stand_aside();
        }
        Ok(())
    }

    /// Where it stands, what is not committed included.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Up to where each shard's sink has them.
    pub fn acked(&self) -> impl Iterator<Item = u64> {
        self.shards.iter().map(|shard| shard.acked)
    }

    pub(super) fn emit(&mut self, event: &Event<'_>) -> Result<u64, StoreError> {
        let seq = self.head.next;
        self.scratch.clear();
        event.encode(&mut self.scratch);
        let shard = event.shard;
        self.insert.execute(params![key(shard, seq), self.scratch])?;
        self.head.next += 1;
        self.head.rows += 1;
        self.head.bytes += self.scratch.len() as u64;
        self.moved = true;
        let bytes_max = bytes_max(self.shards.len());
        if let Some(shard) = self.shards.get_mut(usize::from(shard)) {
            shard.stage(seq, &self.scratch, event.op.is_feed_wide(), bytes_max);
        }
        Ok(seq)
    }

    pub(super) fn take_head(&mut self) -> Option<Head> {
        std::mem::take(&mut self.moved).then_some(self.head)
    }

    pub(super) fn take_renumbered(&mut self) -> bool {
        std::mem::take(&mut self.renumbered)
    }

    pub(super) fn committed(&mut self) {
        self.committed = self.head;
        self.shards.iter_mut().for_each(Shard::committed);
    }

    pub(super) fn rolled_back(&mut self) {
        self.head = self.committed;
        (self.moved, self.renumbered) = (false, false);
        let next = self.head.next;
        self.shards.iter_mut().for_each(|shard| shard.rolled_back(next));
    }

    /// A sink has everything of a shard up to this number.
    pub fn acknowledge(&mut self, shard: u16, upto: u64) {
        if let Some(shard) = self.shards.get_mut(usize::from(shard))
            && upto > shard.acked
        {
            shard.acked = upto;
            shard.undeleted = true;
        }
    }

    /// Whether something may be deleted.
    pub fn has_acknowledged(&self) -> bool {
        self.shards.iter().any(|shard| shard.undeleted)
    }

    /// Inside a transaction: deletes what sinks have.
    ///
    /// # Errors
    /// The disk's.
    pub fn clear(&mut self) -> Result<(), StoreError> {
        let (mut rows, mut bytes) = (0, 0.0);
        for (shard, number) in self.shards.iter().zip(0_u16..).filter(|(shard, _)| shard.undeleted) {
            let range = [key(number, 0), key(number, shard.acked)];
            let (more, heavier): (i64, f64) = self.weigh.query_row(range, |row| Ok((row.get(0)?, row.get(1)?)))?;
            self.delete.execute(range)?;
            self.set_acked.execute(params![number, shard.acked.cast_signed()])?;
            (rows, bytes) = (rows + more, bytes + heavier);
        }
        if self.has_acknowledged() {
            self.lighten(rows, bytes);
        }
        Ok(())
    }

    /// The next committed events of a shard behind a number; empty where there is none, or where the next one has to wait
    /// for other shards. Not inside a transaction in which numbers were changed, or anything but what is acknowledged was
    /// taken out.
    ///
    /// # Errors
    /// The disk's.
    pub fn next(&mut self, number: u16, after: u64) -> Result<Batch, StoreError> {
        let mut batch = Batch::default();
        if self.shards.get(usize::from(number)).is_some_and(|shard| shard.behind) {
            batch = self.read(number, after)?;
        }
        // The table may have nothing more before what is in memory.
        if let Some(shard) = self.shards.get_mut(usize::from(number))
            && batch.is_empty()
            && !shard.behind
        {
            batch = shard.take();
        }
        let Some((at, seq)) = batch.barrier() else {
            return Ok(batch);
        };
        if self.shards.len() > 1 {
            let cut = if at > 0 {
                at
            } else if self.is_passed(seq)? {
                1
            } else {
                0
            };
            let rest = batch.split(cut);
            if let Some(shard) = self.shards.get_mut(usize::from(number)) {
                // Of a shard that is behind it is read anew from the table, which has it.
                shard.put_back(rest);
            }
        }
        Ok(batch)
    }

    fn read(&mut self, number: u16, after: u64) -> Result<Batch, StoreError> {
        let mut batch = Batch::default();
        let Some(shard) = self.shards.get_mut(usize::from(number)) else {
            return Ok(batch);
        };
        let end = self.committed.next.min(shard.from.unwrap_or(u64::MAX));
        let mut full = false;
        let limit = i64::try_from(BATCH_EVENTS_MAX).unwrap_or(i64::MAX);
        let mut rows = self.read.query(params![key(number, after), key(number, end), limit])?;
        while let Some(row) = rows.next()? {
            let (_, seq) = parts(row.get(0)?);
            if let ValueRef::Blob(event) = row.get_ref(1)? {
                batch.push(seq, event, Event::op_of(event)?.is_feed_wide());
            }
            if batch.is_full() {
                full = true;
                break;
            }
        }
        let is_open = self.head.next > self.committed.next;
        let is_more = match shard.from {
            // What an open transaction has is in the table alone.
            None => is_open,
            Some(from) => end < from,
        };
        // Cut at a barrier, the rest is read once more; that is rare.
        shard.behind = full || batch.barrier().is_some() || is_more;
        Ok(batch)
    }

    /// Whether every shard's sink has everything before this number.
    fn is_passed(&mut self, seq: u64) -> Result<bool, StoreError> {
        for (shard, number) in self.shards.iter().zip(0_u16..) {
            let range = [key(number, shard.acked), key(number + 1, 0)];
            let oldest: Option<i64> = self.oldest.query_row(range, |row| row.get(0))?;
            if oldest.is_some_and(|oldest| parts(oldest).1 < seq) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Inside a transaction: takes one event out, which need not be delivered.
    pub(super) fn remove(&mut self, shard: u16, seq: u64) -> Result<(), StoreError> {
        let range = [key(shard, seq), key(shard, seq)];
        let (rows, bytes): (i64, f64) = self.weigh.query_row(range, |row| Ok((row.get(0)?, row.get(1)?)))?;
        self.delete.execute(range)?;
        self.lighten(rows, bytes);
        Ok(())
    }

    /// So much was deleted.
    fn lighten(&mut self, rows: i64, bytes: f64) {
        self.head.rows = self.head.rows.saturating_sub(rows.cast_unsigned());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of bytes, not negative"
        )]
        let bytes = bytes as u64;
        self.head.bytes = self.head.bytes.saturating_sub(bytes);
        self.moved = true;
    }

    /// Nothing is handed on: what waits is in the table alone.
    pub(super) fn stand_aside(&mut self) {
        self.shards.iter_mut().for_each(Shard::stand_aside);
    }

    /// Goes through all that waits, shard by shard in order.
    pub(super) fn each(&mut self, mut what: impl FnMut(u16, &Event<'_>)) -> Result<(), StoreError> {
        let mut rows = self.read.query(params![-1, i64::MAX, -1])?;
        while let Some(row) = rows.next()? {
            let (shard, seq) = parts(row.get(0)?);
            if let ValueRef::Blob(event) = row.get_ref(1)? {
                what(shard, &Event::decode(seq, event)?);
            }
        }
        Ok(())
    }

    /// Inside a transaction: what waits, and what comes, is numbered above this.
    ///
    /// # Errors
    /// The disk's.
    pub fn above(&mut self, last: u64) -> Result<(), StoreError> {
        let lowest: Option<i64> = self.lowest.query_row([], |row| row.get(0))?;
        let lowest = lowest.map_or(self.head.next, i64::cast_unsigned);
        let step = (last + 1).saturating_sub(lowest);
        if step > 0 {
            // By way of numbers that nobody has, so that no row meets another.
            self.lift.execute([ASIDE.cast_signed()])?;
            self.lift.execute([step.cast_signed() - ASIDE.cast_signed()])?;
            self.head.next += step;
            self.moved = true;
        }
        // What another daemon has told bears its numbers.
        self.renumbered = true;
        self.stand_aside();
        Ok(())
    }

    /// Everything that waited was deleted.
    pub(super) fn reset(&mut self) {
        (self.head.rows, self.head.bytes, self.moved) = (0, 0, true);
        self.stand_aside();
    }

    /// Inside a transaction: numbers go on above this one, and what waits gets such numbers, too.
    ///
    /// # Errors
    /// The disk's.
    pub fn raise(&mut self, last: u64) -> Result<(), StoreError> {
        // Every number that was given is lower, so that no row meets another on its way.
        self.lift.execute([last.cast_signed()])?;
        self.head.next += last;
        (self.moved, self.renumbered) = (true, true);
        self.stand_aside();
        Ok(())
    }

    /// Inside a transaction: puts an event among the dead. It is acknowledged by that.
    ///
    /// # Errors
    /// The disk's.
    pub fn bury(&mut self, shard: u16, seq: u64, why: &str, time_ms: i64) -> Result<(), StoreError> {
        let there: Option<Vec<u8>> = {
            use rusqlite::OptionalExtension;
            self.take.query_row([key(shard, seq)], |row| row.get(0)).optional()?
        };
        if there.is_some() {
            self.bury.execute(params![key(shard, seq), why, time_ms])?;
        }
        Ok(())
    }

    /// Dead letters, at most so many.
    ///
    /// # Errors
    /// The disk's.
    pub fn dead(&mut self, max: usize) -> Result<Vec<Dead>, StoreError> {
        let mut rows = self.graves.query(params![0, i64::try_from(max).unwrap_or(i64::MAX)])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (shard, seq) = parts(row.get(0)?);
            found.push(Dead {
                shard,
                seq,
                why: row.get(1)?,
                time_ms: row.get(2)?,
                event: row.get(3)?,
            });
        }
        Ok(found)
    }

    /// Inside a transaction: forgets a dead letter.
    ///
    /// # Errors
    /// The disk's.
    pub fn forget(&mut self, dead: &Dead) -> Result<(), StoreError> {
        self.exhume.execute([key(dead.shard, dead.seq)])?;
        Ok(())
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
