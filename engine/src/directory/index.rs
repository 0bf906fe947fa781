//! The equality index: from an attribute type and a value's normal form to the entries that may have it.
//!
//! Why hashes instead of keys: every candidate is tested against the whole filter anyway, so the index may name an
//! entry too many (two values with one hash) but never one too few. That keeps it at some 20 bytes per value.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};

use foldhash::fast::FixedState;

use super::entry::{Entry, EntryId};
use super::schema::TypeId;

/// The index of one directory.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: HashMap<u64, Place, BuildHasherDefault<AsItIs>>,
    lists: Vec<Vec<EntryId>>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    One(EntryId),
    /// A place in `lists`: two entries or more, ascending.
    Many(u32),
}

impl Index {
    /// Takes in all values of an entry. Entries come in ascending order.
    pub(super) fn add(&mut self, id: EntryId, entry: &Entry) {
        for attribute in entry.attributes() {
            for form in entry.forms(attribute) {
                self.add_one(key(attribute.kind, form), id);
            }
        }
    }

    /// The entries that may have this value, ascending and without repetition.
    pub(super) fn find(&self, kind: TypeId, form: &[u8]) -> &[EntryId] {
        match self.places.get(&key(kind, form)) {
            None => &[],
            Some(Place::One(id)) => std::slice::from_ref(id),
            Some(Place::Many(at)) => self.lists.get(*at as usize).map(Vec::as_slice).unwrap_or_default(),
        }
    }

    fn add_one(&mut self, key: u64, id: EntryId) {
        match self.places.get_mut(&key) {
            None => {
                self.places.insert(key, Place::One(id));
            }
            Some(Place::One(first)) if *first == id => {}
            Some(place) => match *place {
                Place::One(first) => {
                    // There are at most as many lists as values, and those have offsets of 32 bits.
                    *place = Place::Many(u32::try_from(self.lists.len()).unwrap_or(u32::MAX));
                    self.lists.push(vec![first, id]);
                }
                Place::Many(at) => {
                    if let Some(list) = self.lists.get_mut(at as usize)
                        && list.last() != Some(&id)
                    {
                        list.push(id);
                    }
                }
            },
        }
    }
}

// Not keyed: what is stored comes from the file, and a client's assertion can at most hit a list that is tested anyway.
fn key(kind: TypeId, form: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write_u32(kind.number());
    hasher.write(form);
    hasher.finish()
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        debug_assert!(false, "keys are u64");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}
