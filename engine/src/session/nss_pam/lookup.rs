//! Looking entries of a map up, base after base. Groups and their members are in [`super::groups`].

use wire::nslcd::{Key, Map};

use super::entries;
use super::maps::{Maps, is_name};
use super::network;
use super::{Context, Step};
use crate::ask::filter::{self, equal};
use crate::ask::{Asks, Event, Final, Search, code};

/// A search of one map, base after base.
#[derive(Debug)]
pub(super) struct Lookup {
    map: Map,
    filter: Vec<u8>,
    base: usize,
    id: u32,
    found: bool,
}

impl Lookup {
    pub(super) fn begin(map: Map, key: &Key<'_>, cx: &mut Context<'_>) -> Result<Lookup, Step> {
        let condition = condition(cx.maps, map, key).ok_or(Step::Whole)?;
        let mut lookup = Lookup {
            map,
            filter: cx.maps.filter(map, &condition),
            base: 0,
            id: 0,
            found: false,
        };
        match lookup.search(cx) {
            Step::Wait => Ok(lookup),
            over => Err(over),
        }
    }

    fn search(&mut self, cx: &mut Context<'_>) -> Step {
        let wanted = entries::attributes(cx.maps, self.map);
        match search(cx.asks, cx.maps, self.map, self.base, &self.filter, &wanted) {
            Some(id) => {
                self.id = id;
                Step::Wait
            }
            None => Step::Whole,
        }
    }

    pub(super) fn told(&mut self, key: &Key<'_>, event: &Event<'_>, cx: &mut Context<'_>) -> Step {
        match event {
            Event::Entry(entry) => {
                self.found |= entries::write(cx.maps, self.map, key, entry, cx.out);
                Step::Wait
            }
            Event::Done(end) if is_whole(end) => {
                self.base += 1;
                if self.found && !matches!(key, Key::All) {
                    return Step::Whole;
                }
                self.search(cx)
            }
            _ => Step::Broken,
        }
    }
}

/// Asks for entries of a map below one of its bases; none: there are no more bases.
pub(super) fn search(
    asks: &mut Asks,
    maps: &Maps,
    map: Map,
    base: usize,
    filter: &[u8],
    wanted: &[&str],
) -> Option<u32> {
    let place = maps.place(map)?;
    let base = place.bases.get(base)?;
    Some(asks.search(&Search {
        base: base.as_bytes(),
        scope: place.scope,
        filter,
        attributes: wanted,
        size_limit: 0,
    }))
}

/// Whether a search has said all there is: a base that does not exist holds nothing.
pub(super) fn is_whole(end: &Final<'_>) -> bool {
    matches!(end.code, code::SUCCESS | code::NO_SUCH_OBJECT)
}

/// What finds the entries that a key asks for; none: nothing can.
pub(super) fn condition(maps: &Maps, map: Map, key: &Key<'_>) -> Option<Vec<u8>> {
    let names = &maps.names;
    let (name, number, least) = match map {
        Map::Passwd | Map::Shadow => (&names.user, &names.uid, maps.uid_min),
        Map::Group => (&names.group, &names.gid, maps.gid_min),
        _ => return network::condition(map, key),
    };
    match key {
        Key::All => maps.enumerate.then(|| filter::ANY.to_vec()),
        Key::Name(asked) => is_name(asked).then(|| equal(name, asked)),
        Key::Id(id) if *id < least => None,
        Key::Id(id) => match &maps.sid {
            Some(sid) => sid.identifier(*id).map(|sid| equal(number, &sid)),
            None => Some(equal(number, id.to_string().as_bytes())),
        },
        _ => None,
    }
}
