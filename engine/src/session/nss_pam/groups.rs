//! Groups with their members, and the groups of a user.
//!
//! A group that names its members' entries (RFC 2307bis) has each of them looked up for the user's name, unless the entry's
//! own name begins with it. With `nested`, an entry that is no user may be a group, whose members count as well, however
//! deep; each entry is looked at once, so that a circle ends. Everything is bounded: what is beyond ends the answer as
//! unavailable rather than as a group with some members missing.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use wire::ber::Strings;
use wire::nslcd::{self, Key, Map};

use super::entries::{self, values, wanted};
use super::lookup::{condition, is_whole, search};
use super::maps::{Maps, is_name};
use super::{Context, Step};
use crate::ask::filter::{self, and, equal, or};
use crate::ask::{Entry, Event, OPEN_MAX, Scope, Search, name_parts};

/// Entries that are looked up for one answer, at most.
const MEMBERS_MAX: usize = 50_000;
/// Names of groups in one filter.
const NAMES_PER_FILTER: usize = 32;

type Dn = Box<[u8]>;

/// Groups by name or number, or all of them, with their members.
#[derive(Debug)]
pub(super) struct Groups {
    filter: Vec<u8>,
    base: usize,
    searching: Option<u32>,
    list: Vec<Group>,
    people: People,
}

#[derive(Debug)]
struct Group {
    names: Vec<Dn>,
    gid: u32,
    /// Its members are among what is known of this entry.
    entry: Dn,
}

#[derive(Debug, Default)]
struct Members {
    names: Vec<Dn>,
    entries: Vec<Dn>,
    /// The server has told some of the entries only; the next has this number ([MS-ADTS] 3.1.1.3.1.3.3).
    more: Option<u32>,
}

/// What is known of entries that are members.
#[derive(Debug, Default)]
struct People {
    known: HashMap<Dn, Known>,
    waiting: VecDeque<(Dn, Wanted)>,
    asked: HashMap<u32, (Dn, Wanted)>,
}

/// What an entry is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanted {
    /// Whether it is a user.
    User,
    /// Whether it is a group.
    Group,
    /// Its members from this number on.
    More(u32),
}

#[derive(Debug)]
enum Known {
    Asked,
    User(Dn),
    Group(Members),
    Nobody,
}

impl Groups {
    pub(super) fn begin(key: &Key<'_>, cx: &mut Context<'_>) -> Result<Groups, Step> {
        let condition = condition(cx.maps, Map::Group, key).ok_or(Step::Whole)?;
        let mut groups = Groups {
            filter: cx.maps.filter(Map::Group, &condition),
            base: 0,
            searching: None,
            list: Vec::new(),
            people: People::default(),
        };
        match groups.search(cx) {
            Step::Wait => Ok(groups),
            over => Err(over),
        }
    }

    fn search(&mut self, cx: &mut Context<'_>) -> Step {
        let wanted = entries::attributes(cx.maps, Map::Group);
        self.searching = search(cx.asks, cx.maps, Map::Group, self.base, &self.filter, &wanted);
        self.go_on(cx)
    }

    pub(super) fn told(&mut self, id: u32, key: &Key<'_>, event: &Event<'_>, cx: &mut Context<'_>) -> Step {
        if self.searching != Some(id) {
            return match self.people.told(id, event, cx.maps) {
                Ok(()) => self.go_on(cx),
                Err(()) => Step::Broken,
            };
        }
        match event {
            Event::Entry(entry) => {
                self.found(key, entry, cx.maps);
                if self.people.known.len() > MEMBERS_MAX {
                    return Step::Broken;
                }
                Step::Wait
            }
            Event::Done(end) if is_whole(end) => {
                self.base += 1;
                if !self.list.is_empty() && !matches!(key, Key::All) {
                    self.searching = None;
                    return self.go_on(cx);
                }
                self.search(cx)
            }
            _ => Step::Broken,
        }
    }

    fn found(&mut self, key: &Key<'_>, entry: &Entry<'_>, maps: &Maps) {
        let Some(gid) = gid(maps, entry) else { return };
        let names = wanted(maps, key, entry, &maps.names.group);
        let names: Vec<Dn> = names.into_iter().filter(|name| is_name(name)).map(Dn::from).collect();
        if names.is_empty() {
            return;
        }
        self.people.learn(entry.dn.into(), Members::of(entry, maps), maps);
        let entry = entry.dn.into();
        self.list.push(Group { names, gid, entry });
    }

    /// Looks up what is not known yet; once all is known, the answer is written.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Step {
        self.people.ask(cx);
        if self.searching.is_some() || !self.people.is_done() {
            return Step::Wait;
        }
        for group in &self.list {
            let members = self.people.names(&group.entry, cx.maps.nested);
            for name in &group.names {
                let members = members.iter().copied();
                nslcd::group(cx.out, name, b"*", group.gid, members.collect::<Vec<_>>().into_iter());
            }
            if cx.out.len() > cx.answer_bytes_max {
                return Step::Broken;
            }
        }
        Step::Whole
    }
}

impl Members {
    fn of(entry: &Entry<'_>, maps: &Maps) -> Members {
        let names = values(entry, &maps.names.member_name).into_iter().flatten();
        let attribute = &maps.names.member;
        let (entries, more) = match values(entry, attribute) {
            Some(entries) => (Some(entries), None),
            None => ranged(entry, attribute).map_or((None, None), |(entries, more)| (Some(entries), more)),
        };
        Members {
            names: names.filter(|name| is_name(name)).map(Dn::from).collect(),
            entries: entries.into_iter().flatten().map(Dn::from).collect(),
            more,
        }
    }
}

impl People {
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// Members of the group that this entry is, perhaps not all of them.
    fn learn(&mut self, name: Dn, mut members: Members, maps: &Maps) {
        self.want(&members, maps);
        if let Some(from) = members.more.take() {
            self.waiting.push_back((name.clone(), Wanted::More(from)));
        }
        match self.known.get_mut(&name) {
            Some(Known::Group(known)) => {
                known.names.append(&mut members.names);
                known.entries.append(&mut members.entries);
            }
            _ => {
                self.known.insert(name, Known::Group(members));
            }
        }
    }

    fn want(&mut self, members: &Members, maps: &Maps) {
        for name in &members.entries {
            if self.known.contains_key(name) {
                continue;
            }
            let known = match own_name(name, &maps.names.user) {
                Some(user) if is_name(&user) => Known::User(user),
                _ => {
                    self.waiting.push_back((name.clone(), Wanted::User));
                    Known::Asked
                }
            };
            self.known.insert(name.clone(), known);
        }
    }

    fn ask(&mut self, cx: &mut Context<'_>) {
        while self.asked.len() < OPEN_MAX
            && let Some((name, wanted)) = self.waiting.pop_front()
        {
            let filter = |map| cx.maps.place(map).map_or(filter::ANY, |place| &place.filter);
            let range;
            let (filter, attributes) = match wanted {
                Wanted::User => (filter(Map::Passwd), entries::attributes(cx.maps, Map::Passwd)),
                Wanted::Group => (filter(Map::Group), entries::attributes(cx.maps, Map::Group)),
                Wanted::More(from) => {
                    range = format!("{};range={from}-*", cx.maps.names.member);
                    (filter::ANY, vec![range.as_str()])
                }
            };
            let id = cx.asks.search(&Search {
                base: &name,
                scope: Scope::Base,
                filter,
                attributes: &attributes,
                size_limit: 0,
            });
            self.asked.insert(id, (name, wanted));
        }
    }

    fn told(&mut self, id: u32, event: &Event<'_>, maps: &Maps) -> Result<(), ()> {
        let Some((name, wanted)) = self.asked.get(&id) else {
            return Ok(());
        };
        match event {
            Event::Entry(entry) if *wanted == Wanted::User => {
                let user = entries::first(entry, &maps.names.user).filter(|user| is_name(user));
                if let (Some(user), Some(_)) = (user, entries::uid(maps, entry))
                    && let Some(known @ Known::Asked) = self.known.get_mut(name)
                {
                    *known = Known::User(user.into());
                }
            }
            Event::Entry(entry) => {
                let members = Members::of(entry, maps);
                // A server that does not go on would be asked for ever.
                let stuck = matches!((wanted, members.more), (Wanted::More(before), Some(next)) if next <= *before);
                let name = name.clone();
                self.learn(name, members, maps);
                if stuck || self.known.len() > MEMBERS_MAX {
                    return Err(());
                }
            }
            Event::Done(end) if is_whole(end) => {
                if let Some((name, wanted)) = self.asked.remove(&id)
                    && let Some(known @ Known::Asked) = self.known.get_mut(&name)
                {
                    if wanted == Wanted::User && maps.nested {
                        self.waiting.push_back((name, Wanted::Group));
                    } else {
                        *known = Known::Nobody;
                    }
                }
            }
            _ => return Err(()),
        }
        Ok(())
    }

    /// The users among the members of this group; with `nested` also those in the groups among them.
    fn names<'p>(&'p self, group: &Dn, nested: bool) -> BTreeSet<&'p [u8]> {
        let mut found: BTreeSet<&[u8]> = BTreeSet::new();
        let mut seen: HashSet<&[u8]> = HashSet::new();
        let mut open = Vec::new();
        if let Some(Known::Group(members)) = self.known.get(group) {
            open.push(members);
        }
        while let Some(members) = open.pop() {
            found.extend(members.names.iter().map(AsRef::as_ref));
            for name in &members.entries {
                if !seen.insert(name) {
                    continue;
                }
                match self.known.get(name) {
                    Some(Known::User(user)) => {
                        found.insert(user);
                    }
                    Some(Known::Group(inner)) if nested => open.push(inner),
                    Some(Known::Group(_) | Known::Asked | Known::Nobody) | None => {}
                }
            }
        }
        found
    }
}

/// Values of which Active Directory tells a range at a time, and the number of the next one: `member;range=0-1499`.
fn ranged<'a>(entry: &Entry<'a>, name: &str) -> Option<(Strings<'a>, Option<u32>)> {
    if name.is_empty() {
        return None;
    }
    let prefix = format!("{name};range=").to_ascii_lowercase();
    let mut attributes = entry.attributes;
    attributes.find_map(|attribute| {
        let described = String::from_utf8_lossy(attribute.name).to_ascii_lowercase();
        let (_, last) = described.strip_prefix(&prefix)?.split_once('-')?;
        let next = match last {
            "*" => None,
            last => Some(last.parse::<u32>().ok()?.checked_add(1)?),
        };
        Some((attribute.values, next))
    })
}

/// The value of this attribute where an entry's name begins with it.
fn own_name(name: &[u8], attribute: &str) -> Option<Dn> {
    let ava = name_parts(name).next()?.ok()?;
    ava.attribute
        .eq_ignore_ascii_case(attribute.as_bytes())
        .then(|| ava.value.bytes().as_ref().into())
}

fn gid(maps: &Maps, entry: &Entry<'_>) -> Option<u32> {
    entries::number(maps, entry, &maps.names.gid).filter(|gid| *gid >= maps.gid_min)
}

/// The groups of a user.
#[derive(Debug)]
pub(super) struct Memberships {
    state: Finding,
    base: usize,
    user: Option<Dn>,
    /// Groups whose own groups have not been asked for yet.
    open: Vec<Dn>,
    filter: Vec<u8>,
    seen: HashSet<Dn>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Finding {
    User,
    Groups,
}

impl Memberships {
    pub(super) fn begin(member: &[u8], cx: &mut Context<'_>) -> Result<Memberships, Step> {
        if !is_name(member) {
            return Err(Step::Whole);
        }
        let maps = cx.maps;
        let mut memberships = Memberships {
            state: Finding::User,
            base: 0,
            user: None,
            open: Vec::new(),
            filter: maps.filter(Map::Passwd, &equal(&maps.names.user, member)),
            seen: HashSet::new(),
        };
        let step = if maps.names.member.is_empty() {
            memberships.ask_groups(member, cx)
        } else {
            memberships.search(member, cx)
        };
        match step {
            Step::Wait => Ok(memberships),
            over => Err(over),
        }
    }

    fn search(&mut self, member: &[u8], cx: &mut Context<'_>) -> Step {
        let names = &cx.maps.names;
        let (map, wanted) = match self.state {
            Finding::User => (Map::Passwd, [names.user.as_str(), names.uid.as_str()]),
            Finding::Groups => (Map::Group, [names.group.as_str(), names.gid.as_str()]),
        };
        if search(cx.asks, cx.maps, map, self.base, &self.filter, &wanted).is_some() {
            return Step::Wait;
        }
        match self.state {
            Finding::User => self.ask_groups(member, cx),
            Finding::Groups => self.ask_outer(member, cx),
        }
    }

    fn ask_groups(&mut self, member: &[u8], cx: &mut Context<'_>) -> Step {
        let names = &cx.maps.names;
        let mut ways = Vec::new();
        if !names.member_name.is_empty() {
            ways.push(equal(&names.member_name, member));
        }
        if let Some(user) = &self.user {
            ways.push(equal(&names.member, user));
        }
        if ways.is_empty() {
            return Step::Whole;
        }
        let any = or(ways.iter().map(Vec::as_slice));
        self.filter = cx.maps.filter(Map::Group, &any);
        (self.state, self.base) = (Finding::Groups, 0);
        self.search(member, cx)
    }

    /// The groups that these groups are members of.
    fn ask_outer(&mut self, member: &[u8], cx: &mut Context<'_>) -> Step {
        if !cx.maps.nested || cx.maps.names.member.is_empty() || self.open.is_empty() {
            return Step::Whole;
        }
        let names = self.open.split_off(self.open.len().saturating_sub(NAMES_PER_FILTER));
        let ways: Vec<Vec<u8>> = names.iter().map(|name| equal(&cx.maps.names.member, name)).collect();
        let any = or(ways.iter().map(Vec::as_slice));
        self.filter = cx.maps.filter(Map::Group, &and([any.as_slice()]));
        self.base = 0;
        self.search(member, cx)
    }

    pub(super) fn told(&mut self, member: &[u8], event: &Event<'_>, cx: &mut Context<'_>) -> Step {
        match event {
            Event::Entry(entry) => {
                match self.state {
                    Finding::User => self.found_user(member, entry, cx.maps),
                    Finding::Groups => self.found_group(entry, cx),
                }
                if self.seen.len() > MEMBERS_MAX {
                    return Step::Broken;
                }
                Step::Wait
            }
            Event::Done(end) if is_whole(end) => {
                self.base += 1;
                self.search(member, cx)
            }
            _ => Step::Broken,
        }
    }

    fn found_user(&mut self, member: &[u8], entry: &Entry<'_>, maps: &Maps) {
        let key = Key::Name(member);
        let same = !wanted(maps, &key, entry, &maps.names.user).is_empty();
        if same && entries::uid(maps, entry).is_some() && self.user.is_none() {
            self.user = Some(entry.dn.into());
        }
    }

    fn found_group(&mut self, entry: &Entry<'_>, cx: &mut Context<'_>) {
        if !self.seen.insert(entry.dn.into()) {
            return;
        }
        self.open.push(entry.dn.into());
        let names = wanted(cx.maps, &Key::All, entry, &cx.maps.names.group);
        if let (Some(gid), Some(name)) = (gid(cx.maps, entry), names.into_iter().find(|name| is_name(name))) {
            nslcd::group(cx.out, name, b"*", gid, std::iter::empty());
        }
    }
}
