//! Names: from a DN to the row above it, and from a row to its DN.
//!
//! The kept content has no index of names. A row is found below its parent by the hash of its RDN in normal form, so a
//! whole name is a walk from the base downwards; as entries that come together mostly have one parent, the last parents
//! seen are remembered by their names as written, and the walk is rare.
//!
//! Without a schema, names are compared without regard to case ([`CaseIgnore`]). Where two siblings differ in case alone
//! the one that is written exactly so is preferred, so that this decides wrongly only for a name that is written unlike
//! the entry it names, next to another that differs in case alone.
//!
//! Invariants: the memory of names holds no row that was moved or removed since, nor a name that another row has taken
//! since; `glue` is exactly the glue there is. A row is never its own ancestor.

use std::collections::{HashMap, HashSet};

use wire::ldap::dn::{self, CaseIgnore};

use super::event::Uuid;
use super::marks::Marks;
use super::store::{Content, Id, NewRow, Place, Row};
use crate::core::rng::mix;

/// Names remembered, at most.
const NAMES_MAX: usize = 4096;
/// RDNs of a name below which its parents are kept as rows; a longer one is kept whole, as if it had none.
const RDNS_MAX: usize = 256;
/// Rows on a way upwards, at most: above what can be made, so that a damaged store cannot make it endless.
const WAY_ROWS_MAX: usize = 1 << 16;
/// Rows in a page of children.
pub(super) const PAGE_ROWS: usize = 256;
/// Rows of glue in a page.
const GLUE_ROWS: usize = 4096;

/// The hash by which a row is found below its parent: of its RDN in the normal form of [`CaseIgnore`] (directly below the
/// root of its whole name). FNV-1a of 64 bits, then the finaliser of SplitMix64. It is kept on disk, and so fixed for good.
#[must_use]
pub fn name_hash(normal: &[u8]) -> i64 {
    let fnv = normal.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv).cast_signed()
}

/// Where an entry belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spot<'a> {
    /// The row above it.
    pub(super) parent: Id,
    /// Its RDN, or directly below the root its whole name.
    pub(super) rdn: &'a [u8],
}

/// Whom a name means where several rows bear it.
#[derive(Clone, Copy)]
pub(super) struct Who<'m> {
    /// Never this one: it is the one that is being placed.
    pub(super) not: Option<Id>,
    /// Rather one whose name was said in this refresh.
    pub(super) named: &'m Marks,
    /// Rather none that goes.
    pub(super) doomed: &'m Marks,
}

/// The children of one row, page by page.
#[derive(Debug)]
pub(super) struct Children {
    parent: Id,
    page: std::vec::IntoIter<Place>,
    after: Place,
    more: bool,
}

impl Children {
    pub(super) fn new(parent: Id) -> Self {
        Self {
            parent,
            page: Vec::new().into_iter(),
            after: Place::default(),
            more: true,
        }
    }

    pub(super) fn next<C: Content>(&mut self, content: &mut C) -> Result<Option<Id>, C::Error> {
        if self.page.as_slice().is_empty() && self.more {
            let mut page = Vec::new();
            content.children(self.parent, self.after, PAGE_ROWS, &mut page)?;
            self.more = page.len() >= PAGE_ROWS;
            self.page = page.into_iter();
        }
        Ok(self.page.next().map(|place| {
            self.after = place;
            place.id
        }))
    }
}

/// What is known about names beside the rows.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// The base in normal form, and its RDNs.
    base: Vec<u8>,
    base_rdns: usize,
    known: HashMap<Box<[u8]>, Id>,
    known_rows: HashSet<Id>,
    known_names: HashSet<(Id, i64)>,
    glue: HashSet<(Id, i64)>,
    /// The whole name of the row that was last asked about as a parent.
    last: Option<(Id, Vec<u8>)>,
    row: Row,
    found: Vec<Id>,
    normal: Vec<u8>,
    other: Vec<u8>,
}

impl Tree {
    /// For the content below `base`.
    pub(super) fn new<C: Content>(base: &str, content: &mut C) -> Result<Self, C::Error> {
        let mut tree = Self::default();
        if dn::normalize(base.as_bytes(), &CaseIgnore, &mut tree.base).is_err() {
            tree.base.extend_from_slice(base.as_bytes());
        }
        tree.base_rdns = dn::normal_depth(&tree.base);
        let (mut page, mut after) = (Vec::new(), Id::ROOT);
        loop {
            content.glue(after, GLUE_ROWS, &mut page)?;
            let full = page.len() >= GLUE_ROWS;
            for (id, parent, name) in page.drain(..) {
                after = id;
                tree.glue.insert((parent, name));
            }
            if !full {
                return Ok(tree);
            }
        }
    }

    /// How much glue there is; not counting the base, which a search below it does not give.
    pub(super) fn glue(&self) -> u64 {
        self.glue.iter().filter(|(parent, _)| *parent != Id::ROOT).count() as u64
    }

    /// Whether this name lies in the base.
    pub(super) fn is_within(&mut self, dn: &[u8]) -> bool {
        self.normal.clear();
        dn::normalize(dn, &CaseIgnore, &mut self.normal).is_ok() && dn::is_within(&self.normal, &self.base)
    }

    /// Whether both are one name.
    pub(super) fn is_same(&mut self, a: &[u8], b: &[u8]) -> bool {
        if a == b {
            return true;
        }
        self.normal.clear();
        self.other.clear();
        let read = dn::normalize(a, &CaseIgnore, &mut self.normal).is_ok()
            && dn::normalize(b, &CaseIgnore, &mut self.other).is_ok();
        read && self.normal == self.other
    }

    /// The hash of this RDN (or whole name).
    pub(super) fn hash(&mut self, rdn: &[u8]) -> i64 {
        self.normal.clear();
        normalize(rdn, &mut self.normal);
        name_hash(&self.normal)
    }

    /// Where an entry with this name belongs; rows of glue are made for parents that are not there.
    pub(super) fn resolve<'d, C: Content>(
        &mut self,
        content: &mut C,
        dn: &'d [u8],
        who: &Who<'_>,
    ) -> Result<Spot<'d>, C::Error> {
        if who.not.is_none()
            && let Some((rdn, above)) = split(dn)
            && let Some(parent) = self.known.get(above)
        {
            return Ok(Spot { parent: *parent, rdn });
        }
        self.normal.clear();
        let readable = dn::normalize(dn, &CaseIgnore, &mut self.normal).is_ok();
        let rdns = rdns(dn);
        let below_base = rdns.len().saturating_sub(self.base_rdns);
        if !readable || !dn::is_within(&self.normal, &self.base) || !(1..=RDNS_MAX).contains(&below_base) {
            return Ok(Spot {
                parent: Id::ROOT,
                rdn: dn,
            });
        }
        if self.known.len() + RDNS_MAX + 1 > NAMES_MAX {
            self.forget_names();
        }
        let mut parent = Id::ROOT;
        if let Some((start, _)) = rdns.get(below_base) {
            let base = dn.get(*start..).unwrap_or_default();
            parent = self.step(content, parent, base, base, who)?;
        }
        for (start, end) in rdns.iter().take(below_base).skip(1).rev() {
            let rdn = dn.get(*start..*end).unwrap_or_default();
            let name = dn.get(*start..).unwrap_or_default();
            parent = self.step(content, parent, rdn, name, who)?;
        }
        let end = rdns.first().map_or(0, |(_, end)| *end);
        let rdn = dn.get(..end).unwrap_or_default();
        Ok(Spot { parent, rdn })
    }

    /// The row of `rdn` below `parent`, whose whole name is `name`: found, or made as glue; remembered.
    fn step<C: Content>(
        &mut self,
        content: &mut C,
        parent: Id,
        rdn: &[u8],
        name: &[u8],
        who: &Who<'_>,
    ) -> Result<Id, C::Error> {
        if who.not.is_none()
            && let Some(id) = self.known.get(name)
        {
            return Ok(*id);
        }
        let id = self.find_or_glue(content, parent, rdn, who)?;
        let hash = self.hash(rdn);
        self.known.insert(name.into(), id);
        self.known_rows.insert(id);
        self.known_names.insert((parent, hash));
        Ok(id)
    }

    /// The row with this RDN below `parent`; glue where there is none.
    pub(super) fn find_or_glue<C: Content>(
        &mut self,
        content: &mut C,
        parent: Id,
        rdn: &[u8],
        who: &Who<'_>,
    ) -> Result<Id, C::Error> {
        let name = self.hash(rdn);
        if let Some(id) = self.find(content, parent, rdn, who)? {
            return Ok(id);
        }
        self.glue.insert((parent, name));
        content.insert(&NewRow {
            uuid: None,
            parent,
            name,
            rdn,
            attributes: &[],
        })
    }

    /// The row with this RDN below `parent`, the likeliest where there are several.
    pub(super) fn find<C: Content>(
        &mut self,
        content: &mut C,
        parent: Id,
        rdn: &[u8],
        who: &Who<'_>,
    ) -> Result<Option<Id>, C::Error> {
        let mut best: Option<(u8, Id)> = None;
        self.look_up(content, parent, rdn, |row| {
            if Some(row.id) == who.not {
                return;
            }
            let likely = u8::from(!who.doomed.has(row.id)) << 3
                | u8::from(who.named.has(row.id)) << 2
                | u8::from(row.rdn == rdn) << 1
                | u8::from(row.uuid.is_some());
            if best.is_none_or(|(most, _)| likely > most) {
                best = Some((likely, row.id));
            }
        })?;
        Ok(best.map(|(_, id)| id))
    }

    /// Whether there may be glue with this name below `parent`.
    pub(super) fn has_glue(&self, parent: Id, name: i64) -> bool {
        self.glue.contains(&(parent, name))
    }

    /// The glue with this RDN below `parent`.
    pub(super) fn find_glue<C: Content>(
        &mut self,
        content: &mut C,
        parent: Id,
        name: i64,
        rdn: &[u8],
    ) -> Result<Option<Id>, C::Error> {
        if !self.glue.contains(&(parent, name)) {
            return Ok(None);
        }
        let mut glue = None;
        self.look_up(content, parent, rdn, |row| {
            if row.uuid.is_none() {
                glue = Some(row.id);
            }
        })?;
        Ok(glue)
    }

    /// Tells of every row with this RDN below `parent`.
    fn look_up<C: Content>(
        &mut self,
        content: &mut C,
        parent: Id,
        rdn: &[u8],
        mut each: impl FnMut(&Row),
    ) -> Result<(), C::Error> {
        self.normal.clear();
        normalize(rdn, &mut self.normal);
        self.found.clear();
        content.by_name(parent, name_hash(&self.normal), &mut self.found)?;
        for id in &self.found {
            if !content.place(*id, &mut self.row)? {
                continue;
            }
            self.other.clear();
            normalize(&self.row.rdn, &mut self.other);
            if self.other == self.normal {
                each(&self.row);
            }
        }
        Ok(())
    }

    /// Writes the whole name of a row to `out`: its RDN, and what is above.
    pub(super) fn name<C: Content>(
        &mut self,
        content: &mut C,
        parent: Id,
        rdn: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), C::Error> {
        out.clear();
        out.extend_from_slice(rdn);
        if parent == Id::ROOT {
            return Ok(());
        }
        out.push(b',');
        if let Some((id, name)) = &self.last
            && *id == parent
        {
            out.extend_from_slice(name);
            return Ok(());
        }
        let start = out.len();
        let mut id = parent;
        for _ in 0..WAY_ROWS_MAX {
            if !content.place(id, &mut self.row)? {
                break;
            }
            if out.len() > start {
                out.push(b',');
            }
            out.extend_from_slice(&self.row.rdn);
            id = self.row.parent;
            if id == Id::ROOT {
                break;
            }
        }
        let name = out.get(start..).unwrap_or_default().to_vec();
        self.last = Some((parent, name));
        Ok(())
    }

    /// Whether `id` is `of` or above it.
    pub(super) fn is_above<C: Content>(&mut self, content: &mut C, id: Id, of: Id) -> Result<bool, C::Error> {
        let mut at = of;
        for _ in 0..WAY_ROWS_MAX {
            if at == id {
                return Ok(true);
            }
            if at == Id::ROOT || !content.place(at, &mut self.row)? {
                return Ok(false);
            }
            at = self.row.parent;
        }
        Ok(false)
    }

    /// Makes a new entry's row: the glue that holds its place, or another.
    pub(super) fn enter<C: Content>(
        &mut self,
        content: &mut C,
        uuid: &Uuid,
        spot: Spot<'_>,
        attributes: &[u8],
    ) -> Result<Id, C::Error> {
        let name = self.hash(spot.rdn);
        if let Some(glue) = self.find_glue(content, spot.parent, name, spot.rdn)? {
            self.glue.remove(&(spot.parent, name));
            content.set_entry(glue, Some(uuid), attributes)?;
            content.set_place(glue, spot.parent, name, spot.rdn)?;
            self.last = None;
            return Ok(glue);
        }
        self.take_name(spot.parent, name);
        content.insert(&NewRow {
            uuid: Some(uuid),
            parent: spot.parent,
            name,
            rdn: spot.rdn,
            attributes,
        })
    }

    /// Puts a row elsewhere, with all below it.
    pub(super) fn put<C: Content>(&mut self, content: &mut C, row: &Row, spot: Spot<'_>) -> Result<(), C::Error> {
        let name = self.hash(spot.rdn);
        if row.uuid.is_none() {
            self.glue.remove(&(row.parent, row.name));
            self.glue.insert((spot.parent, name));
        }
        self.take_name(spot.parent, name);
        self.moves(row.id);
        content.set_place(row.id, spot.parent, name, spot.rdn)
    }

    /// Makes the glue that held an entry's place one with the entry.
    pub(super) fn absorb<C: Content>(&mut self, content: &mut C, id: Id, spot: Spot<'_>) -> Result<(), C::Error> {
        let name = self.hash(spot.rdn);
        match self.find_glue(content, spot.parent, name, spot.rdn)? {
            Some(glue) => self.merge(content, glue, id),
            None => Ok(()),
        }
    }

    /// Removes a row that has no children.
    pub(super) fn remove<C: Content>(&mut self, content: &mut C, row: &Row) -> Result<(), C::Error> {
        if row.uuid.is_none() {
            self.glue.remove(&(row.parent, row.name));
        }
        self.goes(row.id);
        content.remove(row.id)
    }

    /// Makes an entry that has children glue; where another row bears its name, the children go there.
    pub(super) fn demote<C: Content>(&mut self, content: &mut C, row: &Row, who: &Who<'_>) -> Result<(), C::Error> {
        content.set_entry(row.id, None, &[])?;
        self.glue.insert((row.parent, row.name));
        let not_itself = Who {
            not: Some(row.id),
            ..*who
        };
        if let Some(other) = self.find(content, row.parent, &row.rdn, &not_itself)? {
            self.merge(content, row.id, other)?;
        }
        Ok(())
    }

    /// Removes glue that nothing is below, and so on upwards.
    pub(super) fn prune<C: Content>(&mut self, content: &mut C, from: Id) -> Result<(), C::Error> {
        let mut id = from;
        let mut child = Vec::new();
        while id != Id::ROOT && content.place(id, &mut self.row)? && self.row.uuid.is_none() {
            content.children(id, Place::default(), 1, &mut child)?;
            if !child.is_empty() {
                break;
            }
            let parent = self.row.parent;
            self.glue.remove(&(parent, self.row.name));
            self.goes(id);
            content.remove(id)?;
            id = parent;
        }
        Ok(())
    }

    /// Puts everything below the glue `from` below `to`, which bears the same name, and removes `from`. What meets a
    /// namesake there that is glue, or is glue itself, becomes one with it in turn.
    fn merge<C: Content>(&mut self, content: &mut C, from: Id, to: Id) -> Result<(), C::Error> {
        self.forget_names();
        let mut pairs = vec![(from, to)];
        while let Some((from, to)) = pairs.pop() {
            let mut children = Children::new(from);
            while let Some(child) = children.next(content)? {
                let mut row = Row::default();
                if !content.place(child, &mut row)? {
                    continue;
                }
                let mut namesakes = Vec::new();
                self.look_up(content, to, &row.rdn, |other| {
                    namesakes.push((other.id, other.uuid.is_none()));
                })?;
                content.set_place(child, to, row.name, &row.rdn)?;
                let is_glue = row.uuid.is_none();
                if is_glue {
                    self.glue.remove(&(from, row.name));
                    self.glue.insert((to, row.name));
                }
                match namesakes.first() {
                    Some((other, _)) if is_glue => pairs.push((child, *other)),
                    Some((other, true)) => pairs.push((*other, child)),
                    _ => {}
                }
            }
            let mut row = Row::default();
            if content.place(from, &mut row)? {
                self.glue.remove(&(row.parent, row.name));
                content.remove(from)?;
                self.note_glue(content, &row)?;
            }
        }
        Ok(())
    }

    /// Glue may be left with the name of the glue `gone`, which was just taken out of `glue`.
    fn note_glue<C: Content>(&mut self, content: &mut C, gone: &Row) -> Result<(), C::Error> {
        let mut is_there = false;
        self.look_up(content, gone.parent, &gone.rdn, |row| is_there |= row.uuid.is_none())?;
        if is_there {
            self.glue.insert((gone.parent, gone.name));
        }
        Ok(())
    }

    /// A row takes this name: a name that is remembered may mean it from now on.
    fn take_name(&mut self, parent: Id, name: i64) {
        if self.known_names.contains(&(parent, name)) {
            self.forget_names();
        }
    }

    /// A row moves: names that lead over it mean nothing any more.
    fn moves(&mut self, id: Id) {
        self.last = None;
        if self.known_rows.contains(&id) {
            self.forget_names();
        }
    }

    /// A row goes; nothing is below it.
    fn goes(&mut self, id: Id) {
        if self.known_rows.contains(&id) {
            self.forget_names();
        }
        if self.last.as_ref().is_some_and(|(last, _)| *last == id) {
            self.last = None;
        }
    }

    /// Names are found anew from here on.
    pub(super) fn forget_names(&mut self) {
        self.last = None;
        self.known.clear();
        self.known_rows.clear();
        self.known_names.clear();
    }
}

/// The normal form of a name; of what is none, its bytes.
fn normalize(name: &[u8], out: &mut Vec<u8>) {
    if dn::normalize(name, &CaseIgnore, out).is_err() {
        out.extend_from_slice(name);
    }
}

/// The first RDN of a name and what follows its comma; `None` where there is no comma.
fn split(dn: &[u8]) -> Option<(&[u8], &[u8])> {
    let comma = commas(dn).next()?;
    Some((dn.get(..comma)?, dn.get(comma + 1..)?.trim_ascii_start()))
}

/// Where the RDNs of a name begin and end.
fn rdns(dn: &[u8]) -> Vec<(usize, usize)> {
    if dn.is_empty() {
        return Vec::new();
    }
    let mut start = 0;
    let mut found = Vec::new();
    for end in commas(dn).chain([dn.len()]) {
        found.push((start, end));
        let behind = dn.get(end + 1..).unwrap_or_default();
        start = end + 1 + behind.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }
    found
}

/// Where the commas are that separate.
fn commas(dn: &[u8]) -> impl Iterator<Item = usize> {
    let mut escaped = false;
    dn.iter().enumerate().filter_map(move |(at, byte)| {
        let separates = *byte == b',' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        separates.then_some(at)
    })
}
