//! What the consumer needs of the kept content, inside one transaction.
//!
//! The content is a tree of *rows*. A row is an entry (it has a uuid), or *glue*: a name that is not in the content itself
//! (not yet, or not at all, as with a filter) and only holds up the rows below it. A row's name is its RDN and its
//! parent; the whole name of an entry is kept nowhere, so that renaming a container is one write. Rows directly below
//! [`Id::ROOT`] have their whole name in place of the RDN: the base, and what lies outside of it.
//!
//! **For whoever keeps it in a database**: one table with an integer key, an index of uuids (unique where there is one), and
//! one index of (parent, name), *not* unique: while a refresh runs two rows may bear the same name. Nothing else is looked up.
//! A refresh costs one look-up by uuid for each entry, and for a new one an insert and an event; an entry that is as kept
//! is not written. All of a transaction is kept, or nothing.

use super::codec::{Decoder, put_bytes};
use super::event::{Counts, Damaged, Event, Uuid};

/// The name of a row: given by the store, above 0, for good. It may be given again after its row was removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Id(pub i64);

impl Id {
    /// The parent of whatever has no parent. No row has it.
    pub const ROOT: Self = Self(0);
}

/// A row, in buffers that are used again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    /// Its key.
    pub id: Id,
    /// The entry's uuid; `None` is glue.
    pub uuid: Option<Uuid>,
    /// The row above.
    pub parent: Id,
    /// The hash of its normalised RDN (`tree::name_hash`), by which it is found below its parent.
    pub name: i64,
    /// Its RDN as the server writes it; directly below the root the whole name.
    pub rdn: Vec<u8>,
    /// Its attributes, in the form of [`super::event::Attributes`]; empty for glue.
    pub attributes: Vec<u8>,
}

/// A row that is to be kept, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct NewRow<'a> {
    /// As [`Row::uuid`].
    pub uuid: Option<&'a Uuid>,
    /// As [`Row::parent`].
    pub parent: Id,
    /// As [`Row::name`].
    pub name: i64,
    /// As [`Row::rdn`].
    pub rdn: &'a [u8],
    /// As [`Row::attributes`].
    pub attributes: &'a [u8],
}

/// Where a page of children ended: the next begins behind it. The default is before all.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The name of the last child seen.
    pub name: i64,
    /// Its id: names may repeat.
    pub id: Id,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            name: i64::MIN,
            id: Id::ROOT,
        }
    }
}

/// The kept content, inside a transaction that is its owner's business.
///
/// Lists are appended to buffers of the caller. After an error nothing that was done since the transaction began counts:
/// its owner rolls back and begins a new consumer.
pub trait Content {
    /// Why the store did not do it.
    type Error;

    /// The row of this entry, if there is one.
    ///
    /// # Errors
    /// The store's.
    fn find(&mut self, uuid: &Uuid) -> Result<Option<Id>, Self::Error>;

    /// Reads the whole row of this entry; whether there is one.
    ///
    /// # Errors
    /// The store's.
    fn by_uuid(&mut self, uuid: &Uuid, row: &mut Row) -> Result<bool, Self::Error>;

    /// Reads the whole row with this id; whether there is one.
    ///
    /// # Errors
    /// The store's.
    fn by_id(&mut self, id: Id, row: &mut Row) -> Result<bool, Self::Error>;

    /// As [`Content::by_id`], but `row.attributes` may be left as it is: names are read more often than entries.
    ///
    /// # Errors
    /// The store's.
    fn place(&mut self, id: Id, row: &mut Row) -> Result<bool, Self::Error>;

    /// The rows below `parent` with this name: mostly one, all of them where there are several (different names may
    /// have one hash).
    ///
    /// # Errors
    /// The store's.
    fn by_name(&mut self, parent: Id, name: i64, found: &mut Vec<Id>) -> Result<(), Self::Error>;

    /// The next children of `parent` behind `after`, at most `max`, by name and then id.
    ///
    /// # Errors
    /// The store's.
    fn children(&mut self, parent: Id, after: Place, max: usize, found: &mut Vec<Place>) -> Result<(), Self::Error>;

    /// The next entries (not glue) behind `after` by uuid, at most `max`.
    ///
    /// # Errors
    /// The store's.
    fn entries(&mut self, after: Option<Uuid>, max: usize, found: &mut Vec<(Uuid, Id)>) -> Result<(), Self::Error>;

    /// The next rows of glue with an id above `after`, at most `max`: id, parent, name.
    ///
    /// # Errors
    /// The store's.
    fn glue(&mut self, after: Id, max: usize, found: &mut Vec<(Id, Id, i64)>) -> Result<(), Self::Error>;

    /// Keeps a new row. The uuid is not kept yet.
    ///
    /// # Errors
    /// The store's.
    fn insert(&mut self, row: &NewRow<'_>) -> Result<Id, Self::Error>;

    /// Gives a row other attributes.
    ///
    /// # Errors
    /// The store's.
    fn set_attributes(&mut self, id: Id, attributes: &[u8]) -> Result<(), Self::Error>;

    /// Puts a row elsewhere, under another name or both.
    ///
    /// # Errors
    /// The store's.
    fn set_place(&mut self, id: Id, parent: Id, name: i64, rdn: &[u8]) -> Result<(), Self::Error>;

    /// Makes glue an entry, or an entry glue.
    ///
    /// # Errors
    /// The store's.
    fn set_entry(&mut self, id: Id, uuid: Option<&Uuid>, attributes: &[u8]) -> Result<(), Self::Error>;

    /// Forgets a row. It has no children.
    ///
    /// # Errors
    /// The store's.
    fn remove(&mut self, id: Id) -> Result<(), Self::Error>;

    /// Puts an event into the outbox under the next sequence number, and returns that.
    ///
    /// # Errors
    /// The store's.
    fn emit(&mut self, event: &Event<'_>) -> Result<u64, Self::Error>;

    /// What was kept by [`Content::set_facts`]; the default when nothing was.
    ///
    /// # Errors
    /// The store's.
    fn facts(&mut self) -> Result<Facts, Self::Error>;

    /// Keeps what is known beside the rows.
    ///
    /// # Errors
    /// The store's.
    fn set_facts(&mut self, facts: &Facts) -> Result<(), Self::Error>;
}

/// What is known beside the rows. Kept in the same transaction as they.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Up to where the content is the provider's; empty is none.
    pub cookie: Vec<u8>,
    /// Of the settings the content was made with .
    pub fingerprint: [u8; 16],
    /// Entries, not counting glue.
    pub entries: u64,
    /// Refreshes that were completed, ever. The content was complete once when this is above 0.
    pub refreshes: u64,
    /// Rows of glue that were left at the end of a refresh.
    pub glue: u64,
    /// What the last completed refresh came to.
    pub last: Counts,
    /// A refresh that would delete too much, and waits for an operator.
    pub held: Option<Held>,
    /// An operator's leave to delete this many entries, for the next refresh to complete.
    pub may_delete: u64,
}

/// A refresh that waits for an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// Entries it would delete.
    pub deletes: u64,
    /// Entries there are.
    pub entries: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z at which it was held.
    pub since_ms: i64,
}

const FACTS_VERSION: u8 = 1;

impl Facts {
    /// Appends a binary form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[FACTS_VERSION, u8::from(self.held.is_some())]);
        put_bytes(out, &self.cookie);
        out.extend_from_slice(&self.fingerprint);
        for number in [self.entries, self.refreshes, self.may_delete, self.glue] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        self.last.encode(out);
        if let Some(held) = &self.held {
            out.extend_from_slice(&held.deletes.to_le_bytes());
            out.extend_from_slice(&held.entries.to_le_bytes());
            out.extend_from_slice(&held.since_ms.to_le_bytes());
        }
    }

    /// Reads what [`Facts::encode`] wrote.
    ///
    /// # Errors
    /// It is not whole, or of a version that is not read here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut from = Decoder::new(bytes);
        let [version, held] = from.array::<2>()?;
        if version != FACTS_VERSION {
            return Err(Damaged("the facts are of a version that is not read here"));
        }
        let facts = Self {
            cookie: from.bytes()?.to_vec(),
            fingerprint: from.array()?,
            entries: from.number()?,
            refreshes: from.number()?,
            may_delete: from.number()?,
            glue: from.number()?,
            last: Counts::decode(&mut from)?,
            held: from.optional(held != 0, |from| {
                Ok(Held {
                    deletes: from.number()?,
                    entries: from.number()?,
                    since_ms: i64::from_le_bytes(from.array()?),
                })
            })?,
        };
        from.finish()?;
        Ok(facts)
    }
}
