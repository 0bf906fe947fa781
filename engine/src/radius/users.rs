//! Who is known by a list: a user's password and what an answer to the user carries. Found by the name, octet for octet; a
//! listener may have ten thousands of them.
//!
//! A list is a row of entries, each for one name or for everybody. A request takes the first entry of its user whose conditions
//! all hold, and those behind it for as long as entries fall through. A user of whom no entry knows a password is rejected,
//! unless an entry says what becomes of the request ([`Fixed`]).

mod condition;
pub mod freeradius;
mod stored;

use std::collections::HashMap;

use foldhash::quality::RandomState;
use wire::radius::{Dictionary, Item, Packet};
use zeroize::Zeroizing;

pub use condition::{Condition, Test};
pub use stored::with_scheme;

/// A user of the list.
#[derive(Default, PartialEq, Eq)]
pub struct User {
    /// The password or a hash of it, as [`crate::password`] reads them; none: the list cannot judge, and unless another back
    /// end can the user is rejected whatever is offered.
    pub password: Option<Zeroizing<Vec<u8>>>,
    /// What an accept carries.
    pub reply: Vec<Item>,
    /// Groups that rules can name; a list of FreeRADIUS's has none.
    pub groups: Box<[Box<str>]>,
}

impl std::fmt::Debug for User {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("reply", &self.reply)
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

/// What becomes of a request whatever password it offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fixed {
    /// It is accepted.
    Accept,
    /// It is rejected.
    Reject,
}

/// How an attribute of an entry meets those of the entries before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It is added, unless one of its kind is there (`=`).
    IfAbsent,
    /// It takes their place (`:=`).
    Replace,
    /// It is added (`+=`).
    Add,
}

/// One entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// Password and attributes.
    pub user: User,
    /// How each of the attributes is put; what is missing here is [`Put::IfAbsent`].
    pub puts: Vec<Put>,
    /// What becomes of the request.
    pub fixed: Option<Fixed>,
    /// Whether the entries behind it are looked at as well.
    pub falls_through: bool,
}

impl Entry {
    /// Whether nothing of this name that stands behind it is ever reached.
    fn ends_all(&self) -> bool {
        self.conditions.is_empty() && !self.falls_through
    }
}

/// What a list says about one request.
#[derive(Default)]
pub struct Found<'u> {
    /// What the password is compared with.
    pub password: Option<&'u [u8]>,
    /// What becomes of it anyhow.
    pub fixed: Option<Fixed>,
    /// What an accept carries; a reject carries only what is meant for a person.
    pub reply: Vec<&'u Item>,
    /// The groups of all entries that were taken.
    pub groups: Vec<&'u str>,
}

impl std::fmt::Debug for Found<'_> {
    /// Without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found")
            .field("fixed", &self.fixed)
            .field("reply", &self.reply)
            .field("groups", &self.groups)
            .finish_non_exhaustive()
    }
}

const NONE: u32 = u32::MAX;

/// The entries of one name, in the order of the list.
#[derive(Clone, Copy, Debug)]
struct Row {
    first: u32,
    last: u32,
}

#[derive(Debug)]
struct Place {
    entry: Entry,
    /// The next entry of the same name.
    next: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Users {
    all: Vec<Place>,
    names: HashMap<Box<[u8]>, Row, RandomState>,
    everybody: Row,
}

impl Default for Users {
    fn default() -> Self {
        Users {
            all: Vec::new(),
            names: HashMap::default(),
            everybody: Row {
                first: NONE,
                last: NONE,
            },
        }
    }
}

impl Users {
    /// Adds a user; false, and nothing is changed: there is one of this name.
    pub fn add(&mut self, name: &[u8], user: User) -> bool {
        if self.names.contains_key(name) {
            return false;
        }
        self.append(
            Some(name),
            Entry {
                user,
                ..Entry::default()
            },
        );
        true
    }

    /// Adds an entry at the end; without a name it is for everybody. False: an entry before it ends the list for this name, and
    /// this one is never reached.
    pub fn append(&mut self, name: Option<&[u8]>, entry: Entry) -> bool {
        let Ok(at) = u32::try_from(self.all.len()) else {
            return false;
        };
        let reached = !self.ended(name);
        self.all.push(Place { entry, next: NONE });
        let new = Row { first: at, last: at };
        let row = match name {
            None => &mut self.everybody,
            Some(name) => self.names.entry(name.into()).or_insert(new),
        };
        if row.first == NONE {
            *row = new;
        } else if row.last != at {
            if let Some(place) = self.all.get_mut(row.last as usize) {
                place.next = at;
            }
            row.last = at;
        }
        reached
    }

    /// Whether the last entry of this name, or of everybody, ends the list for it.
    fn ended(&self, name: Option<&[u8]>) -> bool {
        let named = name.and_then(|name| self.names.get(name)).map(|row| row.last);
        let ends = |at: u32| self.all.get(at as usize).is_some_and(|place| place.entry.ends_all());
        ends(self.everybody.last) || named.is_some_and(ends)
    }

    /// What the list says about a request of a user of this name; none: no entry is for it.
    #[must_use]
    pub fn find(&self, name: &[u8], packet: &Packet<'_>, dictionary: &Dictionary) -> Option<Found<'_>> {
        let mut named = self.names.get(name).map_or(NONE, |row| row.first);
        let mut everybody = self.everybody.first;
        let mut found: Option<Found<'_>> = None;
        loop {
            // What is not there is the highest number.
            let next = if named < everybody { &mut named } else { &mut everybody };
            let Some(place) = self.all.get(*next as usize) else {
                return found;
            };
            *next = place.next;
            let entry = &place.entry;
            if !entry.conditions.iter().all(|one| one.holds(packet, dictionary)) {
                continue;
            }
            found.get_or_insert_default().take(entry);
            if !entry.falls_through {
                return found;
            }
        }
    }

    /// All entries, in the order of the list.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.all.iter().map(|place| &place.entry)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl<'u> Found<'u> {
    /// One entry more. Its own attributes do not meet each other.
    fn take(&mut self, entry: &'u Entry) {
        if let Some(password) = &entry.user.password {
            self.password = Some(password);
        }
        self.fixed = entry.fixed.or(self.fixed);
        self.groups.extend(entry.user.groups.iter().map(|group| &**group));
        let mut before = self.reply.len();
        for (at, item) in entry.user.reply.iter().enumerate() {
            let same = |other: &&Item| other.path == item.path && other.tag == item.tag;
            match entry.puts.get(at).copied().unwrap_or(Put::IfAbsent) {
                Put::IfAbsent if self.reply.iter().take(before).any(same) => continue,
                Put::IfAbsent | Put::Add => {}
                Put::Replace => {
                    let mut index = 0;
                    let mut kept = 0;
                    self.reply.retain(|other| {
                        let keep = index >= before || !same(other);
                        kept += usize::from(keep && index < before);
                        index += 1;
                        keep
                    });
                    before = kept;
                }
            }
            self.reply.push(item);
        }
    }
}

#[cfg(test)]
mod tests;
