//! The content in memory: for tests, and for whoever needs no disk. A transaction is a clone that is kept or dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Bound;

use super::event::{Event, Uuid};
use super::store::{Content, Facts, Id, NewRow, Place, Row};

/// Rows, facts and an outbox.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    rows: BTreeMap<Id, Row>,
    uuids: BTreeMap<Uuid, Id>,
    names: BTreeSet<(Id, i64, Id)>,
    facts: Facts,
    last_seq: u64,
    /// Events in their binary form, by sequence number; whoever delivers them takes them out.
    pub outbox: BTreeMap<u64, Vec<u8>>,
    /// How often it was written to, facts aside.
    pub writes: u64,
}

impl Memory {
    /// All rows, by id.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    fn write(&mut self, id: Id, change: impl FnOnce(&mut Row)) {
        self.writes += 1;
        if let Some(row) = self.rows.get_mut(&id) {
            let (uuid, place) = (row.uuid, (row.parent, row.name, id));
            change(row);
            let now = (row.parent, row.name, id);
            let is = row.uuid;
            self.names.remove(&place);
            self.names.insert(now);
            if let Some(uuid) = uuid {
                self.uuids.remove(&uuid);
            }
            if let Some(uuid) = is {
                self.uuids.insert(uuid, id);
            }
        }
    }
}

impl Content for Memory {
    type Error = Infallible;

    fn find(&mut self, uuid: &Uuid) -> Result<Option<Id>, Infallible> {
        Ok(self.uuids.get(uuid).copied())
    }

    fn by_uuid(&mut self, uuid: &Uuid, row: &mut Row) -> Result<bool, Infallible> {
        match self.uuids.get(uuid).copied() {
            Some(id) => self.by_id(id, row),
            None => Ok(false),
        }
    }

    fn by_id(&mut self, id: Id, row: &mut Row) -> Result<bool, Infallible> {
        let found = self.rows.get(&id);
        if let Some(found) = found {
            row.clone_from(found);
        }
        Ok(found.is_some())
    }

    fn place(&mut self, id: Id, row: &mut Row) -> Result<bool, Infallible> {
        self.by_id(id, row)
    }

    fn by_name(&mut self, parent: Id, name: i64, found: &mut Vec<Id>) -> Result<(), Infallible> {
        let all = self
            .names
            .range((parent, name, Id(i64::MIN))..=(parent, name, Id(i64::MAX)));
        found.extend(all.map(|(_, _, id)| *id));
        Ok(())
    }

    fn children(&mut self, parent: Id, after: Place, max: usize, found: &mut Vec<Place>) -> Result<(), Infallible> {
        let from = Bound::Excluded((parent, after.name, after.id));
        let to = Bound::Included((parent, i64::MAX, Id(i64::MAX)));
        let all = self.names.range((from, to));
        found.extend(all.take(max).map(|(_, name, id)| Place { name: *name, id: *id }));
        Ok(())
    }

    fn entries(&mut self, after: Option<Uuid>, max: usize, found: &mut Vec<(Uuid, Id)>) -> Result<(), Infallible> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let all = self.uuids.range((from, Bound::Unbounded));
        found.extend(all.take(max).map(|(uuid, id)| (*uuid, *id)));
        Ok(())
    }

    fn glue(&mut self, after: Id, max: usize, found: &mut Vec<(Id, Id, i64)>) -> Result<(), Infallible> {
        let all = self.rows.range((Bound::Excluded(after), Bound::Unbounded));
        let glue = all.filter(|(_, row)| row.uuid.is_none());
        found.extend(glue.take(max).map(|(id, row)| (*id, row.parent, row.name)));
        Ok(())
    }

    fn insert(&mut self, row: &NewRow<'_>) -> Result<Id, Infallible> {
        self.writes += 1;
        // As SQLite does, so that an id may be given again.
        let id = Id(self.rows.last_key_value().map_or(0, |(last, _)| last.0) + 1);
        let kept = Row {
            id,
            uuid: row.uuid.copied(),
            parent: row.parent,
            name: row.name,
            rdn: row.rdn.to_vec(),
            attributes: row.attributes.to_vec(),
        };
        self.names.insert((row.parent, row.name, id));
        if let Some(uuid) = row.uuid {
            self.uuids.insert(*uuid, id);
        }
        self.rows.insert(id, kept);
        Ok(id)
    }

    fn set_attributes(&mut self, id: Id, attributes: &[u8]) -> Result<(), Infallible> {
        self.write(id, |row| row.attributes = attributes.to_vec());
        Ok(())
    }

    fn set_place(&mut self, id: Id, parent: Id, name: i64, rdn: &[u8]) -> Result<(), Infallible> {
        self.write(id, |row| (row.parent, row.name, row.rdn) = (parent, name, rdn.to_vec()));
        Ok(())
    }

    fn set_entry(&mut self, id: Id, uuid: Option<&Uuid>, attributes: &[u8]) -> Result<(), Infallible> {
        self.write(id, |row| {
            (row.uuid, row.attributes) = (uuid.copied(), attributes.to_vec());
        });
        Ok(())
    }

    fn remove(&mut self, id: Id) -> Result<(), Infallible> {
        self.writes += 1;
        if let Some(row) = self.rows.remove(&id) {
            self.names.remove(&(row.parent, row.name, id));
            if let Some(uuid) = row.uuid {
                self.uuids.remove(&uuid);
            }
        }
        Ok(())
    }

    fn emit(&mut self, event: &Event<'_>) -> Result<u64, Infallible> {
        self.writes += 1;
        self.last_seq += 1;
        let mut encoded = Vec::new();
        event.encode(&mut encoded);
        self.outbox.insert(self.last_seq, encoded);
        Ok(self.last_seq)
    }

    fn facts(&mut self) -> Result<Facts, Infallible> {
        Ok(self.facts.clone())
    }

    fn set_facts(&mut self, facts: &Facts) -> Result<(), Infallible> {
        self.facts.clone_from(facts);
        Ok(())
    }
}
