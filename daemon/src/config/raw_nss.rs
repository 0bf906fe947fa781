//! `map` of a listener as written: what attributes are called, and where entries are.

use super::diagnostic::{At, Place, Problems};
use super::keys::Kind;
use super::reader::Section;
use engine::session::nss_pam::maps::Schema;
use wire::ldap::grammar::Scope;

/// The words of `schema`.
pub const SCHEMAS: [(&str, Schema); 3] = [
    ("rfc2307", Schema::Rfc2307),
    ("rfc2307bis", Schema::Rfc2307bis),
    ("ad", Schema::ActiveDirectory),
];

/// The words of `scope`.
pub const SCOPES: [(&str, Scope); 3] = [("sub", Scope::Subtree), ("one", Scope::One), ("base", Scope::Base)];

/// The tables of `map` that say where entries are, in the order of `wire::nslcd::Map::ALL`.
pub const PLACES: [&str; 11] = [
    "alias", "ether", "group", "host", "netgroup", "network", "passwd", "protocol", "rpc", "service", "shadow",
];

/// What `attributes` may rename, in the order of the fields of `Names`.
pub const ATTRIBUTES: [&str; 10] = [
    "user",
    "uid",
    "user_gid",
    "gecos",
    "home",
    "shell",
    "group",
    "gid",
    "member_name",
    "member",
];

/// `map`.
#[derive(Debug)]
pub struct Map {
    /// The table.
    pub place: Place,
    /// `schema`.
    pub schema: Option<At<Schema>>,
    /// See `Maps`.
    pub nested: Option<At<bool>>,
    /// See `Maps`.
    pub ignore_case: Option<At<bool>>,
    /// See `Maps`.
    pub uid_min: Option<At<usize>>,
    /// See `Maps`.
    pub gid_min: Option<At<usize>>,
    /// See `Maps`.
    pub home: Option<At<String>>,
    /// See `Maps`.
    pub shell: Option<At<String>>,
    /// See `Maps`.
    pub enumerate: Option<At<bool>>,
    /// See `Maps`.
    pub authorize: Option<At<Vec<At<String>>>>,
    /// See `Maps`.
    pub root_changes_passwords: Option<At<bool>>,
    /// See `Sid`.
    pub domain_sid: Option<At<String>>,
    /// See `Sid`.
    pub id_offset: Option<At<usize>>,
    /// `attributes`, in the order of [`ATTRIBUTES`].
    pub attributes: Vec<Option<At<String>>>,
    /// Where entries are, in the order of [`PLACES`].
    pub places: Vec<Option<Where>>,
}

/// `map.passwd` and its like.
#[derive(Debug)]
pub struct Where {
    /// `base`.
    pub base: Option<At<Vec<At<String>>>>,
    /// `scope`.
    pub scope: Option<At<Scope>>,
    /// `filter`.
    pub filter: Option<At<String>>,
}

/// Reads `map`.
pub fn read(p: &mut Problems, mut section: Section<'_>) -> Map {
    let attributes = section.section(p, "attributes", Kind::MapAttributes);
    let attributes = attributes.map_or_else(Vec::new, |section| read_attributes(p, section));
    let mut places = Vec::with_capacity(PLACES.len());
    for name in PLACES {
        let found = section.section(p, name, Kind::MapPlace);
        places.push(found.map(|section| read_where(p, section)));
    }
    let map = Map {
        place: section.place.clone(),
        schema: section.choice(p, "schema", &SCHEMAS, &[]),
        nested: section.boolean(p, "nested"),
        ignore_case: section.boolean(p, "ignore_case"),
        uid_min: section.count(p, "uid_min", 0, u32::MAX as usize),
        gid_min: section.count(p, "gid_min", 0, u32::MAX as usize),
        home: section.string(p, "home"),
        shell: section.string(p, "shell"),
        enumerate: section.boolean(p, "enumerate"),
        authorize: section.strings(p, "authorize"),
        root_changes_passwords: section.boolean(p, "root_changes_passwords"),
        domain_sid: section.string(p, "domain_sid"),
        id_offset: section.count(p, "id_offset", 0, u32::MAX as usize),
        attributes,
        places,
    };
    section.finish(p);
    map
}

fn read_attributes(p: &mut Problems, mut section: Section<'_>) -> Vec<Option<At<String>>> {
    let names = ATTRIBUTES.map(|key| section.string(p, key)).to_vec();
    section.finish(p);
    names
}

fn read_where(p: &mut Problems, mut section: Section<'_>) -> Where {
    let found = Where {
        base: section.strings(p, "base"),
        scope: section.choice(p, "scope", &SCOPES, &[]),
        filter: section.string(p, "filter"),
    };
    section.finish(p);
    found
}
