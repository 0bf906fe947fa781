//! A directory user's groups: what the user's entry says, what is found by a search, and the groups of groups as far as is asked for.
//!
//! Each group is looked at once, so that a circle ends; what is beyond a bound ends as "cannot be asked", never as a user in
//! too few groups.

use std::collections::{HashSet, VecDeque};

use super::plan::USER_NAME_PLACE;
use crate::ask::template::Template;
use crate::ask::{Asks, Entry, Final, Scope, Search, code, filter, name_parts};

/// The place of a group search's filter in which the DN stands whose groups are wanted.
pub const DN_PLACE: &str = "dn";

/// Where a user's groups are found.
#[derive(Clone, Debug)]
pub struct Groups {
    /// An attribute of the user's entry (and of groups' entries): a value is a group's DN or its name.
    pub attribute: Option<String>,
    /// A search for the groups that have the user.
    pub search: Option<GroupSearch>,
    /// How deep groups in groups count; 0: only those that have the user itself.
    pub nested: u8,
    /// Groups of one user at most; whoever has more cannot be judged.
    pub groups_max: usize,
}

/// A search for the groups that have a user.
#[derive(Clone, Debug)]
pub struct GroupSearch {
    /// Where, in this order.
    pub bases: Vec<String>,
    /// How far below.
    pub scope: Scope,
    /// What finds them. Places: `{dn}` ([`DN_PLACE`]), the DN of the user or, for nested ones, of the group; `{User-Name}`
    /// ([`USER_NAME_PLACE`]), empty for nested ones.
    pub filter: Template,
    /// The attribute that holds a group's name.
    pub name: String,
}

/// Names by which a user's groups are known: whole values, and the value of a DN's first part.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    names: Vec<Box<[u8]>>,
}

impl Memberships {
    pub(super) fn has(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name.as_bytes()))
    }

    pub(super) fn add(&mut self, name: &[u8]) {
        self.names.push(name.into());
    }

    pub(super) fn append(&mut self, other: &mut Memberships) {
        self.names.append(&mut other.names);
    }
}

/// Looking for one user's groups.
#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) found: Memberships,
    seen: HashSet<Box<[u8]>>,
    waiting: VecDeque<(Box<[u8]>, u8)>,
    /// Whose groups are looked for, and how deep that is.
    whose: Box<[u8]>,
    depth: u8,
    place: Place,
    too_many: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Entry,
    Base(usize),
}

impl Default for Place {
    /// What the user's own entry says is known by then.
    fn default() -> Self {
        Place::Base(0)
    }
}

impl Finding {
    /// A value of the user's own entry.
    pub(super) fn own(&mut self, groups: &Groups, value: &[u8]) {
        self.group(groups, value);
    }

    pub(super) fn begin(&mut self, dn: &[u8]) {
        self.whose = dn.into();
    }

    /// Asks on. None: all groups are known.
    pub(super) fn ask(&mut self, groups: &Groups, user: &[u8], asks: &mut Asks) -> Option<u32> {
        loop {
            match (self.place, &groups.attribute, &groups.search) {
                (Place::Entry, Some(attribute), _) => {
                    return Some(asks.search(&Search {
                        base: &self.whose,
                        scope: Scope::Base,
                        filter: filter::ANY,
                        attributes: &[attribute],
                        size_limit: 1,
                    }));
                }
                (Place::Entry, None, _) => self.place = Place::Base(0),
                (Place::Base(at), _, Some(search)) if at < search.bases.len() => {
                    let user = if self.depth == 0 { user } else { &[] };
                    let filled = search
                        .filter
                        .fill(|place| if place == USER_NAME_PLACE { user } else { &self.whose });
                    if let (Some(filter), Some(base)) = (filled, search.bases.get(at)) {
                        return Some(asks.search(&Search {
                            base: base.as_bytes(),
                            scope: search.scope,
                            filter: &filter,
                            attributes: &[&search.name],
                            size_limit: 0,
                        }));
                    }
                    self.place = Place::Base(at + 1);
                }
                (Place::Base(_), _, _) => {
                    (self.whose, self.depth) = self.waiting.pop_front()?;
                    self.place = Place::Entry;
                }
            }
        }
    }

    pub(super) fn entry(&mut self, groups: &Groups, entry: &Entry<'_>) {
        match (self.place, &groups.attribute, &groups.search) {
            (Place::Entry, Some(attribute), _) => {
                for value in values(entry, attribute) {
                    self.group(groups, value);
                }
            }
            (Place::Base(_), _, Some(search)) => {
                self.group(groups, entry.dn);
                for name in values(entry, &search.name) {
                    self.found.add(name);
                }
            }
            _ => {}
        }
    }

    /// A question has ended. Err: the groups cannot be known.
    pub(super) fn ended(&mut self, end: &Final<'_>) -> Result<(), &'static str> {
        if self.too_many {
            return Err("the user has more groups than groups_max");
        }
        if !matches!(end.code, code::SUCCESS | code::NO_SUCH_OBJECT) {
            return Err("the groups could not be searched");
        }
        self.place = match self.place {
            Place::Entry => Place::Base(0),
            Place::Base(at) => Place::Base(at + 1),
        };
        Ok(())
    }

    /// One group more, by its DN or its name.
    fn group(&mut self, groups: &Groups, value: &[u8]) {
        if self.seen.len() >= groups.groups_max {
            self.too_many |= !self.seen.contains(value.to_ascii_lowercase().as_slice());
            return;
        }
        if !self.seen.insert(value.to_ascii_lowercase().into()) {
            return;
        }
        self.found.add(value);
        if let Some(Ok(first)) = name_parts(value).next() {
            self.found.add(&first.value.bytes());
            if self.depth < groups.nested {
                self.waiting.push_back((value.into(), self.depth + 1));
            }
        }
    }
}

/// An entry's values of an attribute, whatever the case of its name.
pub(super) fn values<'a>(entry: &Entry<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let mut attributes = entry.attributes;
    let found = attributes.find(|attribute| attribute.name.eq_ignore_ascii_case(name.as_bytes()));
    found.into_iter().flat_map(|attribute| attribute.values)
}
