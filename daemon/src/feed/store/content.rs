//! The content as the consumer sees it: `engine::feed::store::Content` on prepared statements.

use engine::feed::event::{Event, Uuid};
use engine::feed::store::{Content, Facts, Id, NewRow, Place, Row};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement, params};

use super::following::{Following, Stream};
use super::history::History;
use super::outbox::Outbox;
use super::{StoreError, value};
use crate::feed::sink::takeover::Published;
use engine::feed::standby::State;

/// Prepared statements of an open file.
pub struct Kept<'c> {
    find: Statement<'c>,
    by_uuid: Statement<'c>,
    by_id: Statement<'c>,
    place: Statement<'c>,
    by_name: Statement<'c>,
    children: Statement<'c>,
    entries: Statement<'c>,
    glue: Statement<'c>,
    insert: Statement<'c>,
    set_attributes: Statement<'c>,
    set_place: Statement<'c>,
    set_entry: Statement<'c>,
    remove: Statement<'c>,
    meta: Statement<'c>,
    set_meta: Statement<'c>,
    scratch: Vec<u8>,
    connection: &'c Connection,
    /// Events on their way out.
    pub outbox: Outbox<'c>,
    /// While another daemon delivers: what that one has said.
    pub following: Option<Following>,
    /// The last position at which this daemon has published itself.
    pub published: u64,
    stream: Stream,
    /// What is known of numbers that were given.
    pub history: History<'c>,
}

impl<'c> Kept<'c> {
    /// Prepares everything.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(connection: &'c Connection, partitions: u16) -> Result<Kept<'c>, StoreError> {
        let prepare = |sql: &str| connection.prepare(sql);
        Ok(Kept {
            find: prepare("SELECT id FROM content WHERE uuid = ?")?,
            by_uuid: prepare("SELECT id, uuid, parent, name, rdn, attributes FROM content WHERE uuid = ?")?,
            by_id: prepare("SELECT id, uuid, parent, name, rdn, attributes FROM content WHERE id = ?")?,
            place: prepare("SELECT id, uuid, parent, name, rdn FROM content WHERE id = ?")?,
            by_name: prepare("SELECT id FROM content WHERE parent = ? AND name = ?")?,
            children: prepare(
                "SELECT name, id FROM content WHERE parent = ?1 AND (name, id) > (?2, ?3) ORDER BY name, id LIMIT ?4",
            )?,
            entries: prepare("SELECT uuid, id FROM content WHERE uuid > ?1 ORDER BY uuid LIMIT ?2")?,
            glue: prepare("SELECT id, parent, name FROM content WHERE uuid IS NULL AND id > ?1 ORDER BY id LIMIT ?2")?,
            insert: prepare("INSERT INTO content(uuid, parent, name, rdn, attributes, last) VALUES(?, ?, ?, ?, ?, ?)")?,
            set_attributes: prepare("UPDATE content SET attributes = ?2, last = ?3 WHERE id = ?1")?,
            set_place: prepare("UPDATE content SET parent = ?2, name = ?3, rdn = ?4 WHERE id = ?1")?,
            set_entry: prepare("UPDATE content SET uuid = ?2, attributes = ?3, last = ?4 WHERE id = ?1")?,
            remove: prepare("DELETE FROM content WHERE id = ?")?,
            meta: prepare("SELECT value FROM meta WHERE key = ?")?,
            set_meta: prepare("INSERT INTO meta VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2")?,
            scratch: Vec::new(),
            connection,
            outbox: Outbox::new(connection, partitions)?,
            following: None,
            published: 0,
            stream: Stream::default(),
            history: History::new(connection)?,
        })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// SQLite's.
    pub fn begin(&mut self) -> Result<(), StoreError> {
        super::begin(self.connection)
    }

    /// Keeps what was done since [`Kept::begin`], the head of the outbox included.
    ///
    /// # Errors
    /// The disk's; then [`Kept::rollback`].
    pub fn commit(&mut self) -> Result<(), StoreError> {
        if self.outbox.take_renumbered() {
            self.history.begins_at(self.outbox.head().next)?;
        }
        self.history.trim()?;
        if let Some(head) = self.outbox.take_head() {
            self.scratch.clear();
            head.encode(&mut self.scratch);
            self.set_meta.execute(params!["head", self.scratch])?;
        }
        self.keep_stream()?;
        super::commit(self.connection)?;
        self.outbox.committed();
        Ok(())
    }

    /// The number that a row is written with: its event's, which comes next; glue has none.
    fn last(&mut self, is_entry: bool) -> i64 {
        if is_entry {
            self.history.stamps(self.outbox.head().next)
        } else {
            0
        }
    }

    fn keep_stream(&mut self) -> Result<(), StoreError> {
        let stream = match &self.following {
            Some(following) => following.stream(),
            // Nothing waits, so everything up to there is said and written down.
            None if self.outbox.head().rows == 0 && self.published > self.stream.position => Stream {
                position: self.published,
                cookie: std::mem::take(&mut self.stream.cookie),
            },
            None => return Ok(()),
        };
        if stream != self.stream || self.following.is_none() {
            self.set_meta.execute(params!["stream", stream.encode()])?;
            self.stream = stream;
        }
        Ok(())
    }

    /// Inside a transaction that has nothing yet: another daemon delivers from now on, or may. What it says is read from
    /// behind the kept position, or from behind `at_most`.
    ///
    /// # Errors
    /// The disk's.
    pub fn follow(&mut self, at_most: u64) -> Result<(), StoreError> {
        let kept = value(&mut self.meta, "stream")?;
        self.stream = kept.map_or(Stream::default(), |bytes| Stream::decode(&bytes));
        self.stream.position = self.stream.position.min(at_most);
        self.published = 0;
        self.outbox.stand_aside();
        self.following = Some(Following::begin(&self.stream, &mut self.outbox)?);
        Ok(())
    }

    /// Inside a transaction: another daemon has published this; `kept` is how its entry is kept here.
    ///
    /// # Errors
    /// The disk's.
    pub fn seen(&mut self, published: &Published, kept: State) -> Result<(), StoreError> {
        match &mut self.following {
            Some(following) => following.seen(&mut self.outbox, published, kept),
            None => Ok(()),
        }
    }

    /// What was said by [`Kept::set_flag`]; false when nothing was.
    ///
    /// # Errors
    /// The disk's.
    pub fn flag(&mut self, name: &str) -> Result<bool, StoreError> {
        Ok(value(&mut self.meta, name)?.is_some_and(|bytes| bytes == [1]))
    }

    /// Inside a transaction: keeps a yes or a no.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_flag(&mut self, name: &str, is_set: bool) -> Result<(), StoreError> {
        self.set_meta.execute(params![name, [u8::from(is_set)]])?;
        Ok(())
    }

    /// Inside a transaction: forgets the content, the facts and what waits. Sequence numbers go on.
    ///
    /// # Errors
    /// The disk's.
    pub fn reset(&mut self) -> Result<(), StoreError> {
        self.connection.execute_batch(
            "DELETE FROM content; DELETE FROM gone; DELETE FROM outbox; DELETE FROM dead; DELETE FROM meta WHERE key IN ('facts', 'stream')",
        )?;
        self.history.begins_at(self.outbox.head().next)?;
        self.outbox.reset();
        Ok(())
    }

    /// Nothing since [`Kept::begin`] counts.
    pub fn rollback(&mut self) {
        super::rollback(self.connection);
        self.outbox.rolled_back();
        self.history.rolled_back();
    }
}

fn read(statement: &mut Statement<'_>, key: impl rusqlite::ToSql, row: &mut Row) -> Result<bool, StoreError> {
    let mut rows = statement.query([key])?;
    let Some(found) = rows.next()? else { return Ok(false) };
    row.id = Id(found.get(0)?);
    row.uuid = match found.get_ref(1)? {
        ValueRef::Blob(bytes) => bytes.try_into().ok(),
        _ => None,
    };
    row.parent = Id(found.get(2)?);
    row.name = found.get(3)?;
    copy(found.get_ref(4)?, &mut row.rdn);
    if found.as_ref().column_count() > 5 {
        copy(found.get_ref(5)?, &mut row.attributes);
    }
    Ok(true)
}

fn copy(from: ValueRef<'_>, to: &mut Vec<u8>) {
    to.clear();
    if let ValueRef::Blob(bytes) = from {
        to.extend_from_slice(bytes);
    }
}

pub(super) fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

impl Content for Kept<'_> {
    type Error = StoreError;

    fn find(&mut self, uuid: &Uuid) -> Result<Option<Id>, StoreError> {
        let mut rows = self.find.query([&uuid[..]])?;
        Ok(match rows.next()? {
            Some(row) => Some(Id(row.get(0)?)),
            None => None,
        })
    }

    fn by_uuid(&mut self, uuid: &Uuid, row: &mut Row) -> Result<bool, StoreError> {
        read(&mut self.by_uuid, &uuid[..], row)
    }

    fn by_id(&mut self, id: Id, row: &mut Row) -> Result<bool, StoreError> {
        read(&mut self.by_id, id.0, row)
    }

    fn place(&mut self, id: Id, row: &mut Row) -> Result<bool, StoreError> {
        read(&mut self.place, id.0, row)
    }

    fn by_name(&mut self, parent: Id, name: i64, found: &mut Vec<Id>) -> Result<(), StoreError> {
        let mut rows = self.by_name.query([parent.0, name])?;
        while let Some(row) = rows.next()? {
            found.push(Id(row.get(0)?));
        }
        Ok(())
    }

    fn children(&mut self, parent: Id, after: Place, max: usize, found: &mut Vec<Place>) -> Result<(), StoreError> {
        let mut rows = self
            .children
            .query(params![parent.0, after.name, after.id.0, limit(max)])?;
        while let Some(row) = rows.next()? {
            found.push(Place {
                name: row.get(0)?,
                id: Id(row.get(1)?),
            });
        }
        Ok(())
    }

    fn entries(&mut self, after: Option<Uuid>, max: usize, found: &mut Vec<(Uuid, Id)>) -> Result<(), StoreError> {
        // The empty blob is before all.
        let after: &[u8] = after.as_ref().map_or(&[], |after| after);
        let mut rows = self.entries.query(params![after, limit(max)])?;
        while let Some(row) = rows.next()? {
            if let ValueRef::Blob(bytes) = row.get_ref(0)?
                && let Ok(uuid) = bytes.try_into()
            {
                found.push((uuid, Id(row.get(1)?)));
            }
        }
        Ok(())
    }

    fn glue(&mut self, after: Id, max: usize, found: &mut Vec<(Id, Id, i64)>) -> Result<(), StoreError> {
        let mut rows = self.glue.query(params![after.0, limit(max)])?;
        while let Some(row) = rows.next()? {
            found.push((Id(row.get(0)?), Id(row.get(1)?), row.get(2)?));
        }
        Ok(())
    }

    fn insert(&mut self, row: &NewRow<'_>) -> Result<Id, StoreError> {
        let uuid = row.uuid.map(|uuid| &uuid[..]);
        let last = self.last(uuid.is_some());
        let id = self
            .insert
            .insert(params![uuid, row.parent.0, row.name, row.rdn, row.attributes, last])?;
        Ok(Id(id))
    }

    fn set_attributes(&mut self, id: Id, attributes: &[u8]) -> Result<(), StoreError> {
        let last = self.last(true);
        self.set_attributes.execute(params![id.0, attributes, last])?;
        Ok(())
    }

    fn set_place(&mut self, id: Id, parent: Id, name: i64, rdn: &[u8]) -> Result<(), StoreError> {
        self.set_place.execute(params![id.0, parent.0, name, rdn])?;
        Ok(())
    }

    fn set_entry(&mut self, id: Id, uuid: Option<&Uuid>, attributes: &[u8]) -> Result<(), StoreError> {
        let uuid = uuid.map(|uuid| &uuid[..]);
        let last = self.last(uuid.is_some());
        self.set_entry.execute(params![id.0, uuid, attributes, last])?;
        Ok(())
    }

    fn remove(&mut self, id: Id) -> Result<(), StoreError> {
        self.remove.execute([id.0])?;
        Ok(())
    }

    fn emit(&mut self, event: &Event<'_>) -> Result<u64, StoreError> {
        self.history.emits(self.outbox.head().next, event)?;
        match &mut self.following {
            Some(following) => following.emit(&mut self.outbox, event),
            None => self.outbox.emit(event),
        }
    }

    fn facts(&mut self) -> Result<Facts, StoreError> {
        match value(&mut self.meta, "facts")? {
            Some(bytes) => Ok(Facts::decode(&bytes)?),
            None => Ok(Facts::default()),
        }
    }

    fn set_facts(&mut self, facts: &Facts) -> Result<(), StoreError> {
        self.scratch.clear();
        facts.encode(&mut self.scratch);
        self.set_meta.execute(params!["facts", self.scratch])?;
        Ok(())
    }
}
