//! A random directory: a tree of entries of which the feed follows one branch, and the operations that change it.

use std::collections::BTreeMap;

use engine::core::rng::Rng;
use engine::feed::event::Uuid;

use crate::judge::{Known, normal};
use crate::messages::Attributes;

pub(crate) const BASE: &str = "ou=base,dc=x";
const ROOT: Uuid = [0; 16];
const BASE_UUID: Uuid = [1; 16];
const OUTSIDE_UUID: Uuid = [2; 16];

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) parent: Uuid,
    pub(crate) rdn: String,
    pub(crate) mail: Option<u64>,
    pub(crate) is_person: bool,
    pub(crate) csn: u64,
    pub(crate) created: u64,
    /// The server where it was changed last.
    pub(crate) server: u16,
}

/// What one operation did, as a provider sees it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) csn: u64,
    pub(crate) server: u16,
    pub(crate) uuid: Uuid,
    /// What it was before.
    pub(crate) was: Option<Was>,
    /// Its name now, or where it is gone its last.
    pub(crate) dn: String,
}

/// An entry as it was.
#[derive(Clone, Debug)]
pub(crate) struct Was {
    pub(crate) is_person: bool,
    pub(crate) in_base: bool,
    pub(crate) dn: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) entries: BTreeMap<Uuid, Entry>,
    pub(crate) csn: u64,
    /// The largest csn of each server, by server id.
    pub(crate) csns: BTreeMap<u16, u64>,
    next: u32,
}

impl Directory {
    pub(crate) fn new() -> Self {
        let mut directory = Self {
            entries: BTreeMap::new(),
            csn: 1,
            csns: BTreeMap::from([(1, 1), (2, 1)]),
            next: 100,
        };
        for (uuid, parent, rdn) in [
            (ROOT, [9; 16], "dc=x"),
            (BASE_UUID, ROOT, "ou=base"),
            (OUTSIDE_UUID, ROOT, "ou=outside"),
        ] {
            directory.entries.insert(
                uuid,
                Entry {
                    parent,
                    rdn: rdn.to_string(),
                    mail: None,
                    is_person: false,
                    csn: 1,
                    created: 1,
                    server: 1,
                },
            );
        }
        directory
    }

    pub(crate) fn dn(&self, uuid: &Uuid) -> String {
        let entry = &self.entries[uuid];
        if *uuid == ROOT {
            return entry.rdn.clone();
        }
        format!("{},{}", entry.rdn, self.dn(&entry.parent))
    }

    pub(crate) fn is_in_base(&self, uuid: &Uuid) -> bool {
        *uuid == BASE_UUID || *uuid != ROOT && self.is_in_base(&self.entries[uuid].parent)
    }

    pub(crate) fn has_below(&self, uuid: &Uuid) -> bool {
        self.entries.values().any(|entry| entry.parent == *uuid)
    }

    /// The attributes of an entry, as sent.
    pub(crate) fn attributes(&self, uuid: &Uuid) -> Attributes {
        let entry = &self.entries[uuid];
        let mut all = plain(entry);
        let aside = |name: &str, value: String| (name.to_string(), vec![value.into_bytes()]);
        all.push(aside("entryCSN", csn_text(entry.csn, entry.server)));
        all.push(aside("createTimestamp", format!("{}Z", second(entry.created))));
        let below = if self.has_below(uuid) { "TRUE" } else { "FALSE" };
        all.push(aside("hasSubordinates", below.to_string()));
        all
    }

    /// What the feed should know.
    pub(crate) fn content(&self, is_filtered: bool) -> BTreeMap<Uuid, Known> {
        let all = self.entries.iter();
        all.filter(|(uuid, entry)| self.is_in_base(uuid) && (entry.is_person || !is_filtered))
            .map(|(uuid, entry)| {
                let known = Known {
                    dn: normal(&self.dn(uuid)),
                    attributes: sorted(plain(entry)),
                };
                (*uuid, known)
            })
            .collect()
    }

    /// One random operation; `None` when the draw gave none that is allowed.
    pub(crate) fn change(&mut self, rng: &mut Rng) -> Option<Change> {
        let uuids: Vec<Uuid> = self.entries.keys().copied().collect();
        let uuid = uuids[rng.index(uuids.len())];
        match rng.below(20) {
            0..6 => Some(self.add(rng, uuid)),
            6..9 if self.is_free(uuid) => Some(self.modify(rng, uuid)),
            9..12 if self.is_free(uuid) && !self.has_below(&uuid) => Some(self.delete(rng, uuid)),
            12..15 if self.is_free(uuid) => {
                let parent = self.entries[&uuid].parent;
                self.rename(rng, uuid, parent)
            }
            15..20 if self.is_free(uuid) => {
                let parent = uuids[rng.index(uuids.len())];
                self.rename(rng, uuid, parent)
            }
            _ => None,
        }
    }

    fn was(&self, uuid: &Uuid) -> Was {
        Was {
            is_person: self.entries[uuid].is_person,
            in_base: self.is_in_base(uuid),
            dn: self.dn(uuid),
        }
    }

    fn is_free(&self, uuid: Uuid) -> bool {
        ![ROOT, BASE_UUID, OUTSIDE_UUID].contains(&uuid)
    }

    fn stamp(&mut self, rng: &mut Rng) -> (u64, u16) {
        self.csn += 1;
        let server = 1 + u16::from(rng.chance(1, 3));
        self.csns.insert(server, self.csn);
        (self.csn, server)
    }

    fn changed(&mut self, rng: &mut Rng, uuid: Uuid, was: Option<Was>) -> Change {
        let (csn, server) = self.stamp(rng);
        if let Some(entry) = self.entries.get_mut(&uuid) {
            (entry.csn, entry.server) = (csn, server);
            if was.is_none() {
                entry.created = csn;
            }
        }
        let dn = match (&was, self.entries.contains_key(&uuid)) {
            (Some(was), false) => was.dn.clone(),
            _ => self.dn(&uuid),
        };
        Change {
            csn,
            server,
            uuid,
            was,
            dn,
        }
    }

    fn add(&mut self, rng: &mut Rng, parent: Uuid) -> Change {
        self.next += 1;
        let mut uuid = [7; 16];
        uuid[8..12].copy_from_slice(&self.next.to_be_bytes());
        uuid[0] = rng.next_u64().to_le_bytes()[0];
        let rdn = self.free_rdn(rng, parent);
        let entry = Entry {
            parent,
            rdn,
            mail: rng.chance(1, 2).then(|| rng.below(5)),
            is_person: rng.chance(1, 2),
            csn: 0,
            created: 0,
            server: 0,
        };
        self.entries.insert(uuid, entry);
        self.changed(rng, uuid, None)
    }

    fn modify(&mut self, rng: &mut Rng, uuid: Uuid) -> Change {
        let was = self.was(&uuid);
        let entry = self.entries.get_mut(&uuid).unwrap();
        if rng.chance(1, 4) {
            entry.is_person = !entry.is_person;
        } else {
            entry.mail = rng.chance(3, 4).then(|| rng.below(5));
        }
        self.changed(rng, uuid, Some(was))
    }

    fn delete(&mut self, rng: &mut Rng, uuid: Uuid) -> Change {
        let was = self.was(&uuid);
        self.entries.remove(&uuid);
        self.changed(rng, uuid, Some(was))
    }

    fn rename(&mut self, rng: &mut Rng, uuid: Uuid, parent: Uuid) -> Option<Change> {
        let mut above = parent;
        while above != ROOT {
            if above == uuid {
                return None;
            }
            above = self.entries[&above].parent;
        }
        let was = self.was(&uuid);
        let rdn = self.free_rdn(rng, parent);
        let entry = self.entries.get_mut(&uuid).unwrap();
        (entry.rdn, entry.parent) = (rdn, parent);
        Some(self.changed(rng, uuid, Some(was)))
    }

    /// One of a few names, so that names are taken again and again, and swapped.
    fn free_rdn(&self, rng: &mut Rng, parent: Uuid) -> String {
        const NAMES: [&str; 6] = ["ou=a", "ou=B", "cn=c\\, d", "cn=e+sn=f", "uid=Ü", "ou=a b"];
        loop {
            let rdn = match rng.below(9) {
                few @ 0..6 => NAMES[usize::try_from(few).unwrap()].to_string(),
                _ => format!("uid={}", rng.below(1000)),
            };
            let is_taken = self
                .entries
                .values()
                .any(|entry| entry.parent == parent && entry.rdn == rdn);
            if !is_taken {
                return rdn;
            }
        }
    }
}

fn sorted(mut all: Attributes) -> BTreeMap<String, Vec<Vec<u8>>> {
    all.iter_mut().for_each(|(_, values)| values.sort());
    all.into_iter().collect()
}

fn plain(entry: &Entry) -> Attributes {
    let kind = if entry.is_person { "person" } else { "unit" };
    let mut all = vec![
        ("name".to_string(), vec![entry.rdn.clone().into_bytes()]),
        (
            "objectClass".to_string(),
            vec![kind.as_bytes().to_vec(), b"top".to_vec()],
        ),
    ];
    if let Some(mail) = entry.mail {
        all.push(("mail".to_string(), vec![mail.to_string().into_bytes()]));
    }
    all
}

/// Operations of one second: what was made and what was moved in it are not told apart by seconds.
const PER_SECOND: u64 = 30;

fn second(csn: u64) -> String {
    format!("{}", 20_260_000_000_000 + csn / PER_SECOND)
}

pub(crate) fn csn_text(csn: u64, server: u16) -> String {
    format!("{}.{:06}Z#000000#{server:03x}#000000", second(csn), csn % PER_SECOND)
}
