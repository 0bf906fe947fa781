//! An entry of a directory as a line of a map: names checked, numbers read, defaults filled in. What an entry lacks makes it
//! invisible, never half an answer.

use wire::ber::Strings;
use wire::nslcd::{self, Key, Map, Passwd, Shadow};

use super::maps::{Maps, is_name};
use crate::ask::Entry;

/// The names of shadow's attributes, in the order of [`Aging`].
pub(super) const SHADOW: [&str; 6] = [
    "shadowLastChange",
    "shadowMin",
    "shadowMax",
    "shadowWarning",
    "shadowInactive",
    "shadowExpire",
];
/// Bits of Active Directory's `userAccountControl`: disabled; the password never expires.
const DISABLED: i64 = 0x0002;
/// 100-nanosecond intervals from 1601 to 1970.
const EPOCH_1601: i64 = 116_444_736_000_000_000;
const INTERVALS_PER_DAY: i64 = 864_000_000_000;

/// How old a password is and may become, in days; -1: not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Aging {
    pub(super) last_change: i32,
    pub(super) min: i32,
    pub(super) max: i32,
    pub(super) warn: i32,
    pub(super) inactive: i32,
    pub(super) expire: i32,
    /// The account is switched off.
    pub(super) disabled: bool,
}

/// An entry's values of an attribute, whatever the case of its name. Options (`;lang-en`) are another attribute.
pub(super) fn values<'a>(entry: &Entry<'a>, name: &str) -> Option<Strings<'a>> {
    if name.is_empty() {
        return None;
    }
    let mut attributes = entry.attributes;
    attributes
        .find(|attribute| attribute.name.eq_ignore_ascii_case(name.as_bytes()))
        .map(|attribute| attribute.values)
        .filter(|values| !values.is_empty())
}

pub(super) fn first<'a>(entry: &Entry<'a>, name: &str) -> Option<&'a [u8]> {
    values(entry, name)?.next()
}

/// What a search for this map asks of an entry.
pub(super) fn attributes(maps: &Maps, map: Map) -> Vec<&str> {
    let names = &maps.names;
    let all: Vec<&str> = match map {
        Map::Passwd => vec![
            &names.user,
            &names.uid,
            &names.user_gid,
            &names.gecos,
            "cn",
            &names.home,
            &names.shell,
        ],
        Map::Group => vec![&names.group, &names.gid, &names.member_name, &names.member],
        Map::Shadow => [
            names.user.as_str(),
            "userAccountControl",
            "accountExpires",
            "pwdLastSet",
        ]
        .into_iter()
        .chain(SHADOW)
        .collect(),
        Map::Alias => vec!["cn", "rfc822MailMember"],
        Map::Ether => vec!["cn", "macAddress"],
        Map::Host => vec!["cn", "ipHostNumber"],
        Map::Netgroup => vec!["cn", "nisNetgroupTriple", "memberNisNetgroup"],
        Map::Network => vec!["cn", "ipNetworkNumber"],
        Map::Protocol => vec!["cn", "ipProtocolNumber"],
        Map::Rpc => vec!["cn", "oncRpcNumber"],
        Map::Service => vec!["cn", "ipServicePort", "ipServiceProtocol"],
    };
    all.into_iter().filter(|name| !name.is_empty()).collect()
}

/// Whether a name that was found is the one that was asked for.
pub(super) fn is_same(maps: &Maps, asked: &[u8], found: &[u8]) -> bool {
    asked == found || (maps.ignore_case && asked.eq_ignore_ascii_case(found))
}

/// The names of an entry that answer this key.
pub(super) fn wanted<'a>(maps: &Maps, key: &Key<'_>, entry: &Entry<'a>, attribute: &str) -> Vec<&'a [u8]> {
    let all = values(entry, attribute).into_iter().flatten();
    all.filter(|name| match key {
        Key::Name(asked) | Key::ServiceName(asked, _) => is_same(maps, asked, name),
        _ => true,
    })
    .collect()
}

/// A user's or group's number.
pub(super) fn number(maps: &Maps, entry: &Entry<'_>, attribute: &str) -> Option<u32> {
    let value = first(entry, attribute)?;
    match &maps.sid {
        Some(sid) if attribute == "objectSid" => sid.number(value),
        Some(sid) if attribute == "primaryGroupID" => decimal(value)?.checked_add(sid.offset),
        _ => decimal(value),
    }
}

fn decimal(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// An account's number, of those that are seen.
pub(super) fn uid(maps: &Maps, entry: &Entry<'_>) -> Option<u32> {
    number(maps, entry, &maps.names.uid).filter(|uid| *uid >= maps.uid_min)
}

/// Appends what an entry is in this map; true: it is something.
pub(super) fn write(maps: &Maps, map: Map, key: &Key<'_>, entry: &Entry<'_>, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    match map {
        Map::Passwd => drop(passwd(maps, key, entry, out)),
        Map::Shadow => shadow(maps, key, entry, out),
        // Groups may have to ask for their members first.
        Map::Group => {}
        _ => super::network::write(maps, map, key, entry, out),
    }
    out.len() > before
}

fn passwd(maps: &Maps, key: &Key<'_>, entry: &Entry<'_>, out: &mut Vec<u8>) -> Option<()> {
    let names = &maps.names;
    let uid = uid(maps, entry)?;
    let gid = number(maps, entry, &names.user_gid)?;
    let gecos = first(entry, &names.gecos)
        .or_else(|| first(entry, "cn"))
        .unwrap_or_default();
    for name in wanted(maps, key, entry, &names.user) {
        if !is_name(name) {
            continue;
        }
        let home = first(entry, &names.home).map_or_else(|| maps.home(name, uid), <[u8]>::to_vec);
        let line = Passwd {
            name,
            password: b"*",
            uid,
            gid,
            gecos: one_line(gecos),
            home: one_line(&home),
            shell: one_line(first(entry, &names.shell).unwrap_or(maps.shell_default.as_bytes())),
        };
        nslcd::passwd(out, &line);
    }
    Some(())
}

/// What would begin another field or line in `getent`'s output ends a field.
fn one_line(field: &[u8]) -> &[u8] {
    let end = field
        .iter()
        .position(|byte| b":\n\0".contains(byte))
        .unwrap_or(field.len());
    field.get(..end).unwrap_or(field)
}

fn shadow(maps: &Maps, key: &Key<'_>, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let aging = aging(entry);
    for name in wanted(maps, key, entry, &maps.names.user) {
        if is_name(name) {
            let line = Shadow {
                name,
                // A hash is nobody's business: passwords are checked by the directory.
                password: b"*",
                last_change: aging.last_change,
                min: aging.min,
                max: aging.max,
                warn: aging.warn,
                inactive: aging.inactive,
                expire: aging.expire,
                flag: -1,
            };
            nslcd::shadow(out, &line);
        }
    }
}

/// What an entry says of its password's age: shadow's attributes, or Active Directory's.
pub(super) fn aging(entry: &Entry<'_>) -> Aging {
    let signed = |name: &str| -> Option<i64> { std::str::from_utf8(first(entry, name)?).ok()?.parse().ok() };
    let days = |name: &str| signed(name).and_then(|days| i32::try_from(days).ok()).unwrap_or(-1);
    let windows_day = |name: &str| {
        let time = signed(name).filter(|time| *time > EPOCH_1601 && *time != i64::MAX)?;
        i32::try_from((time - EPOCH_1601) / INTERVALS_PER_DAY).ok()
    };
    let [last_change, min, max, warn, inactive, expire] = SHADOW.map(days);
    let or = |days: i32, other: Option<i32>| if days == -1 { other.unwrap_or(-1) } else { days };
    let never_set = signed("pwdLastSet").filter(|time| *time == 0).map(|_| 0);
    Aging {
        last_change: or(last_change, never_set.or_else(|| windows_day("pwdLastSet"))),
        min,
        max,
        warn,
        inactive,
        expire: or(expire, windows_day("accountExpires")),
        disabled: signed("userAccountControl").is_some_and(|bits| bits & DISABLED != 0),
    }
}
