//! Events on their way out, by shard.
//!
//! What was just committed is kept in memory, too, for a shard that keeps up, and handed on from there; a shard that has
//! fallen behind reads the table until it has caught up. Nothing is handed on that is not committed.

use std::collections::BTreeMap;

use engine::feed::event::Event;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement, params};

use super::StoreError;

/// Events of one batch, at most.
const BATCH_EVENTS_MAX: usize = 512;
/// Bytes of one batch, beyond which no further event is added.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Bytes that are kept in memory for one shard.
const FRESH_BYTES_MAX: usize = 1 << 20;
/// Bits of a key that are the sequence number.
const SEQ_BITS: u32 = 48;
/// A number that no feed comes to, and far enough from any other within [`SEQ_BITS`].
const ASIDE: u64 = 1 << 46;

/// Events of one shard, in order, in their binary form.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Number, end in `bytes`, whether it concerns the whole feed.
    events: Vec<(u64, usize, bool)>,
}

impl Batch {
    /// How many.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The number of the last.
    pub fn last(&self) -> Option<u64> {
        self.events.last().map(|(seq, _, _)| *seq)
    }

    /// Number and binary form of each.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut from = 0;
        self.events.iter().map(move |(seq, end, _)| {
            let event = self.bytes.get(from..*end).unwrap_or_default();
            from = *end;
            (*seq, event)
        })
    }

    fn push(&mut self, seq: u64, event: &[u8], feed_wide: bool) {
        self.bytes.extend_from_slice(event);
        self.events.push((seq, self.bytes.len(), feed_wide));
    }

    fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS_MAX || self.bytes.len() >= BATCH_BYTES_MAX
    }

    /// Cuts it before the event at this place; the rest.
    fn split(&mut self, at: usize) -> Batch {
        let end = at
            .checked_sub(1)
            .and_then(|last| self.events.get(last))
            .map_or(0, |(_, end, _)| *end);
        let mut rest = Batch {
            bytes: self.bytes.split_off(end),
            events: self.events.split_off(at),
        };
        for event in &mut rest.events {
            event.1 -= end;
        }
        rest
    }

    /// Where the first event is that concerns the whole feed.
    fn barrier(&self) -> Option<(usize, u64)> {
        let found = self.events.iter().enumerate().find(|(_, (_, _, wide))| *wide);
        found.map(|(at, (seq, _, _))| (at, *seq))
    }
}

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

#[derive(Debug, Default)]
struct Shard {
    /// The sink has everything up to here.
    acked: u64,
    /// Of that, this is not deleted yet.
    undeleted: bool,
    /// Committed, and not handed on.
    fresh: Batch,
    /// Not committed yet.
    staged: Batch,
    /// `fresh` is not all there is.
    behind: bool,
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
            shard.behind = true;
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
        if let Some(shard) = self.shards.get_mut(usize::from(shard))
            && !shard.behind
        {
            shard.staged.push(seq, &self.scratch, event.op.is_feed_wide());
            if shard.staged.bytes.len() + shard.fresh.bytes.len() > FRESH_BYTES_MAX {
                shard.behind = true;
                shard.staged = Batch::default();
                shard.fresh = Batch::default();
            }
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
        for shard in &mut self.shards {
            shard.undeleted = false;
            if shard.staged.is_empty() {
                continue;
            }
            if shard.fresh.is_empty() {
                std::mem::swap(&mut shard.fresh, &mut shard.staged);
            } else {
                let base = shard.fresh.bytes.len();
                shard.fresh.bytes.append(&mut shard.staged.bytes);
                let events = shard.staged.events.drain(..);
                shard
                    .fresh
                    .events
                    .extend(events.map(|(seq, end, wide)| (seq, base + end, wide)));
            }
        }
    }

    pub(super) fn rolled_back(&mut self) {
        self.head = self.committed;
        (self.moved, self.renumbered) = (false, false);
        for shard in &mut self.shards {
            shard.staged = Batch::default();
            // What was to be deleted is there still.
            shard.undeleted = true;
        }
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

    /// Outside of a transaction: the next events of a shard behind a number; empty where there is none, or where the next
    /// one has to wait for other shards.
    ///
    /// # Errors
    /// The disk's.
    pub fn next(&mut self, number: u16, after: u64) -> Result<Batch, StoreError> {
        let Some(shard) = self.shards.get_mut(usize::from(number)) else {
            return Ok(Batch::default());
        };
        let mut batch = if shard.behind {
            self.read(number, after)?
        } else {
            std::mem::take(&mut shard.fresh)
        };
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
            self.put_back(number, rest);
        }
        Ok(batch)
    }

    fn put_back(&mut self, number: u16, rest: Batch) {
        if let Some(shard) = self.shards.get_mut(usize::from(number))
            && !rest.is_empty()
            && !shard.behind
        {
            // Read anew from the table, which has it.
            shard.fresh = rest;
        }
    }

    fn read(&mut self, number: u16, after: u64) -> Result<Batch, StoreError> {
        let mut batch = Batch::default();
        let mut full = false;
        {
            let limit = i64::try_from(BATCH_EVENTS_MAX).unwrap_or(i64::MAX);
            let mut rows = self
                .read
                .query(params![key(number, after), key(number + 1, 0), limit])?;
            while let Some(row) = rows.next()? {
                let (_, seq) = parts(row.get(0)?);
                if let ValueRef::Blob(event) = row.get_ref(1)? {
                    let wide = Event::decode(seq, event)?.op.is_feed_wide();
                    batch.push(seq, event, wide);
                }
                if batch.is_full() {
                    full = true;
                    break;
                }
            }
        }
        if let Some(shard) = self.shards.get_mut(usize::from(number)) {
            // Cut at a barrier, the rest is read once more; that is rare.
            shard.behind = full || batch.barrier().is_some();
        }
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
        for shard in &mut self.shards {
            shard.behind = true;
            shard.fresh = Batch::default();
            shard.staged = Batch::default();
        }
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
