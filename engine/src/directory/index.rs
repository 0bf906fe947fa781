//! The equality index: from an attribute type and a value's normal form to the entries that may have it; and from a name
//! to its entry.
//!
//! Why hashes instead of keys: every candidate is tested against the whole filter anyway, so the index may name an
//! entry too many (two values with one hash) but never one too few. That keeps it at some 20 bytes per value.
//!
//! It is cut into shards, so that a changed copy of it shares all but a few with what it was copied from.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::entry::{Entry, EntryId};
use super::layers::Layers;
use super::schema::TypeId;

type Shard = HashMap<u64, Place, BuildHasherDefault<AsItIs>>;

/// Shards of an index that begins small; they are copied when something in them changes, so they are to stay small.
const SHARDS_MIN: usize = 4096;
const SHARDS_MAX: usize = 1 << 16;
/// How many values are meant to be in a shard.
const SHARD_VALUES: usize = 64;

/// The index of one directory.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// A power of two of them.
    shards: Layers<Arc<Shard>>,
}

#[derive(Clone, Debug)]
enum Place {
    One(EntryId),
    /// Two entries or more, ascending.
    Many(Arc<Vec<EntryId>>),
}

impl Index {
    /// An empty one that is right for about so many values.
    pub(super) fn new(values: usize) -> Self {
        let shards = (values / SHARD_VALUES)
            .clamp(SHARDS_MIN, SHARDS_MAX)
            .next_power_of_two();
        Self {
            shards: Layers::filled(&Arc::default(), shards),
        }
    }

    /// Takes in all values of an entry.
    pub(super) fn add(&mut self, id: EntryId, entry: &Entry) {
        for key in keys(entry) {
            self.add_one(key, id);
        }
    }

    /// An entry becomes another at the same place; `None` is none.
    pub(super) fn replace(&mut self, id: EntryId, old: Option<&Entry>, new: Option<&Entry>) {
        let sorted = |entry: Option<&Entry>| {
            let mut all: Vec<u64> = entry.into_iter().flat_map(keys).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let (old, new) = (sorted(old), sorted(new));
        for key in old.iter().filter(|key| new.binary_search(key).is_err()) {
            self.remove_one(*key, id);
        }
        for key in new.iter().filter(|key| old.binary_search(key).is_err()) {
            self.add_one(*key, id);
        }
    }

    /// The entries that may have this value, ascending and without repetition.
    pub(super) fn find(&self, kind: TypeId, form: &[u8]) -> &[EntryId] {
        self.find_key(key(kind.number(), form))
    }

    /// The entries that may have this name, in normal form.
    pub(super) fn find_name(&self, normal_dn: &[u8]) -> &[EntryId] {
        self.find_key(key(NAME, normal_dn))
    }

    fn find_key(&self, key: u64) -> &[EntryId] {
        match self.shards.get(self.shard(key)).and_then(|shard| shard.get(&key)) {
            None => &[],
            Some(Place::One(id)) => std::slice::from_ref(id),
            Some(Place::Many(list)) => list,
        }
    }

    /// Neither the top nor the low bits: a hash table uses those within a shard.
    fn shard(&self, key: u64) -> usize {
        usize::try_from((key >> 32) & (self.shards.len() as u64).wrapping_sub(1)).unwrap_or(0)
    }

    fn add_one(&mut self, key: u64, id: EntryId) {
        let Some(shard) = self.shards.get_mut(self.shard(key)) else {
            return;
        };
        match Arc::make_mut(shard).entry(key) {
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Place::One(id));
            }
            std::collections::hash_map::Entry::Occupied(mut place) => match place.get_mut() {
                Place::One(first) if *first == id => {}
                Place::One(first) => {
                    let both = vec![(*first).min(id), (*first).max(id)];
                    place.insert(Place::Many(Arc::new(both)));
                }
                Place::Many(list) => {
                    if let Err(at) = list.binary_search(&id) {
                        Arc::make_mut(list).insert(at, id);
                    }
                }
            },
        }
    }

    fn remove_one(&mut self, key: u64, id: EntryId) {
        let Some(shard) = self.shards.get_mut(self.shard(key)) else {
            return;
        };
        let shard = Arc::make_mut(shard);
        match shard.get_mut(&key) {
            Some(Place::One(only)) if *only == id => {
                shard.remove(&key);
            }
            Some(Place::Many(list)) => {
                if let Ok(at) = list.binary_search(&id) {
                    Arc::make_mut(list).remove(at);
                }
                if let [only] = list.as_slice() {
                    let only = *only;
                    shard.insert(key, Place::One(only));
                }
            }
            _ => {}
        }
    }

    /// How many pairs of key and entry there are (for the tests' invariants).
    #[cfg(test)]
    pub(super) fn pairs(&self) -> usize {
        let in_shard = |shard: &Arc<Shard>| -> usize {
            let len = |place: &Place| match place {
                Place::One(_) => 1,
                Place::Many(list) => list.len(),
            };
            shard.values().map(len).sum()
        };
        self.shards.iter().map(in_shard).sum()
    }
}

/// In place of an attribute type's number: the entry's name.
const NAME: u32 = u32::MAX;

/// What an entry is found by.
pub(super) fn keys(entry: &Entry) -> impl Iterator<Item = u64> {
    let values = entry
        .attributes()
        .iter()
        .flat_map(|attribute| entry.forms(attribute).map(|form| key(attribute.kind.number(), form)));
    values.chain([key(NAME, &entry.normal_dn)])
}

// Not keyed: a client's assertion can at most hit a list that is tested anyway, and who may write may also fill memory.
fn key(kind: u32, form: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write_u32(kind);
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
