//! Listeners for the NSS and PAM modules and for saslauthd's clients: who answers, and how a directory is read.

use std::sync::Arc;

use engine::ask::template::Template;
use engine::session::nss_pam::maps::{AUTHORIZE_PLACES, Maps, Names, Schema, Sid, parse_sid};
use engine::session::{nss_pam, saslauthd};
use wire::ldap::grammar::Scope;
use wire::nslcd::Map;

use super::check::named;
use super::diagnostic::{At, Problems};
use super::plan::{Behind, Face};
use super::raw::{Listen, Protocol, Raw};
use super::raw_nss;

/// The largest answer unless something else is written.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Settings that only these listeners have.
pub(super) fn refuse(p: &mut Problems, listen: &Listen) {
    let written = [
        ("service", listen.service.as_ref().map(|at| &at.place)),
        ("base", listen.base.as_ref().map(|at| &at.place)),
        ("filter", listen.filter.as_ref().map(|at| &at.place)),
        ("map", listen.map.as_ref().map(|map| &map.place)),
        ("answer_bytes_max", listen.answer_bytes_max.as_ref().map(|at| &at.place)),
        (
            "password_prohibited",
            listen.password_prohibited.as_ref().map(|at| &at.place),
        ),
    ];
    for (key, place) in written {
        if let Some(place) = place {
            p.error(place, format!("`{key}` is for nslcd and saslauthd listeners"))
                .help("remove it");
        }
    }
}

/// The face of an nslcd or saslauthd listener.
pub(super) fn face(p: &mut Problems, raw: &Raw, listen: &Listen, protocol: Protocol) -> Option<Face> {
    let behind = behind(p, raw, listen)?;
    if protocol == Protocol::Nslcd {
        nslcd(p, raw, listen, behind)
    } else {
        sasl(p, raw, listen, behind)
    }
}

fn behind(p: &mut Problems, raw: &Raw, listen: &Listen) -> Option<Behind> {
    match (&listen.directory, &listen.service) {
        (Some(directory), Some(service)) => {
            p.error(&service.place, "a directory and a service cannot both answer")
                .label("second here")
                .also(&directory.place, "first here")
                .help("keep one; for both, write two listeners");
            None
        }
        (Some(directory), None) => {
            let names: Vec<&str> = raw.directories.iter().map(|(name, _)| name.value.as_str()).collect();
            named(p, "directory", &names, directory).then(|| Behind::Directory(directory.value.clone()))
        }
        (None, Some(service)) => {
            let names: Vec<&str> = raw.services.iter().map(|(name, _)| name.value.as_str()).collect();
            named(p, "service", &names, service).then(|| Behind::Service(service.value.clone()))
        }
        (None, None) => {
            if p.absent(&listen.place, "directory") {
                p.error(&listen.place, "[[listen]] without anybody who answers")
                    .help("add directory = \"NAME\" or service = \"NAME\"");
            }
            None
        }
    }
}

/// The bases of a listener: its own, else its directory's.
fn bases(p: &mut Problems, raw: &Raw, listen: &Listen, directory: &str) -> Option<Vec<String>> {
    if let Some(written) = &listen.base {
        return names_of_bases(p, written);
    }
    let found = raw.directories.iter().find(|(name, _)| name.value == directory);
    let base = found.and_then(|(_, directory)| directory.base.as_ref());
    if base.is_none() && p.absent(&listen.place, "base") {
        p.error(&listen.place, "it is not known below which entry to search")
            .help("add base = [\"dc=example,dc=com\"] here, or `base` to the directory");
    }
    base.map(|base| vec![base.value.clone()])
}

pub(super) fn names_of_bases(p: &mut Problems, written: &At<Vec<At<String>>>) -> Option<Vec<String>> {
    if written.value.is_empty() {
        p.error(&written.place, "`base` is empty")
            .help("write [\"dc=example,dc=com\"], or leave it out");
        return None;
    }
    let mut sound = true;
    for base in &written.value {
        let mut normal = Vec::new();
        let rules = wire::ldap::dn::CaseIgnore;
        if let Err(error) = wire::ldap::dn::normalize(base.value.as_bytes(), &rules, &mut normal) {
            sound = false;
            p.error(&base.place, "`base` is not a distinguished name")
                .label(error.to_string())
                .help("write it like \"ou=people,dc=example,dc=com\" (RFC 4514)");
        }
    }
    sound.then(|| written.value.iter().map(|base| base.value.clone()).collect())
}

fn nslcd(p: &mut Problems, raw: &Raw, listen: &Listen, behind: Behind) -> Option<Face> {
    if let Some(filter) = &listen.filter {
        p.error(&filter.place, "`filter` is for saslauthd listeners")
            .help("which entries are accounts is said by [listen.map.passwd] filter = \"(…)\"");
    }
    let answers = match &behind {
        Behind::Service(_) => {
            if let Some(map) = &listen.map {
                p.error(&map.place, "`map` says how a directory is read")
                    .label("here a service answers")
                    .help("remove it");
            }
            nss_pam::Answers::Service
        }
        Behind::Directory(directory) => {
            let bases = bases(p, raw, listen, directory)?;
            nss_pam::Answers::Directory(Arc::new(maps(p, listen.map.as_ref(), &bases)?))
        }
    };
    let settings = nss_pam::Settings {
        answers,
        password_prohibited: listen.password_prohibited.as_ref().map(|at| at.value.clone()),
        answer_bytes_max: listen.answer_bytes_max.as_ref().map_or(ANSWER_BYTES_MAX, |at| at.value),
    };
    Some(Face::Nslcd {
        behind,
        settings: Arc::new(settings),
    })
}

fn sasl(p: &mut Problems, raw: &Raw, listen: &Listen, behind: Behind) -> Option<Face> {
    for (key, place) in [
        ("map", listen.map.as_ref().map(|map| &map.place)),
        (
            "password_prohibited",
            listen.password_prohibited.as_ref().map(|at| &at.place),
        ),
        ("answer_bytes_max", listen.answer_bytes_max.as_ref().map(|at| &at.place)),
    ] {
        if let Some(place) = place {
            p.error(place, format!("`{key}` is for nslcd listeners"))
                .help("remove it; a saslauthd listener has `base` and `filter`");
        }
    }
    let answers = match &behind {
        Behind::Service(_) => {
            if let Some(filter) = &listen.filter {
                p.error(&filter.place, "`filter` finds entries of a directory")
                    .label("here a service answers")
                    .help("remove it");
            }
            saslauthd::Answers::Service
        }
        Behind::Directory(directory) => {
            let written = listen.filter.clone();
            let written = written.unwrap_or_else(|| super::files::nowhere("(uid=%u)".to_owned()));
            let filter = match Template::percents(&written.value, &saslauthd::PLACES) {
                Ok(filter) => filter,
                Err(why) => {
                    p.error(&written.place, "`filter` is not a filter")
                        .label(why)
                        .help("write it like \"(&(objectClass=person)(uid=%u))\" (RFC 4515)");
                    return None;
                }
            };
            saslauthd::Answers::Directory {
                bases: bases(p, raw, listen, directory)?,
                scope: Scope::Subtree,
                filter,
            }
        }
    };
    Some(Face::Saslauthd {
        behind,
        answers: Arc::new(answers),
    })
}

fn maps(p: &mut Problems, raw: Option<&raw_nss::Map>, bases: &[String]) -> Option<Maps> {
    let schema = raw
        .and_then(|map| map.schema.as_ref())
        .map_or(Schema::Rfc2307, |at| at.value);
    let mut maps = Maps::new(schema, "");
    for (_, place) in &mut maps.places {
        place.bases = bases.to_vec();
    }
    maps.hostname = hostname();
    let Some(raw) = raw else { return Some(maps) };
    sid(p, raw, &mut maps);
    for (slot, written) in fields(&mut maps.names).into_iter().zip(&raw.attributes) {
        if let Some(written) = written {
            attribute(p, written);
            slot.clone_from(&written.value);
        }
    }
    for (map, written) in Map::ALL.into_iter().zip(&raw.places) {
        let place = maps.places.iter_mut().find(|(of, _)| *of == map);
        if let (Some((_, place)), Some(written)) = (place, written) {
            check_place(p, written, place);
        }
    }
    let number = |at: &Option<At<usize>>| at.as_ref().and_then(|at| u32::try_from(at.value).ok()).unwrap_or(0);
    let truth = |at: &Option<At<bool>>, default| at.as_ref().map_or(default, |at| at.value);
    maps.nested = truth(&raw.nested, false);
    maps.ignore_case = truth(&raw.ignore_case, maps.ignore_case);
    maps.enumerate = truth(&raw.enumerate, true);
    maps.root_changes_passwords = truth(&raw.root_changes_passwords, false);
    (maps.uid_min, maps.gid_min) = (number(&raw.uid_min), number(&raw.gid_min));
    for (slot, written) in [
        (&mut maps.home_template, &raw.home),
        (&mut maps.shell_default, &raw.shell),
    ] {
        if let Some(written) = written {
            slot.clone_from(&written.value);
        }
    }
    for written in raw.authorize.iter().flat_map(|at| &at.value) {
        match Template::dollars(&written.value, &AUTHORIZE_PLACES) {
            Ok(filter) => maps.authorize.push(filter),
            Err(why) => {
                p.error(&written.place, "`authorize` has something that is not a filter")
                    .label(why)
                    .help("write it like \"(&(uid=$username)(host=$hostname))\" (RFC 4515)");
            }
        }
    }
    (!p.has_errors()).then_some(maps)
}

fn sid(p: &mut Problems, raw: &raw_nss::Map, maps: &mut Maps) {
    let Some(written) = &raw.domain_sid else {
        if let Some(offset) = &raw.id_offset {
            p.error(&offset.place, "`id_offset` without `domain_sid`")
                .help("add domain_sid = \"S-1-5-21-…\", or remove it");
        }
        return;
    };
    let Some(domain) = parse_sid(&written.value) else {
        p.error(&written.place, "`domain_sid` is not a security identifier")
            .label(format!("found \"{}\"", written.value))
            .help("write the domain's, like \"S-1-5-21-1004336348-1177238915-682003330\"");
        return;
    };
    let offset = raw.id_offset.as_ref().map_or(0, |at| at.value);
    maps.set_sid(Sid {
        domain,
        offset: u32::try_from(offset).unwrap_or(0),
    });
}

/// In the order of [`raw_nss::ATTRIBUTES`].
fn fields(names: &mut Names) -> [&mut String; 10] {
    [
        &mut names.user,
        &mut names.uid,
        &mut names.user_gid,
        &mut names.gecos,
        &mut names.home,
        &mut names.shell,
        &mut names.group,
        &mut names.gid,
        &mut names.member_name,
        &mut names.member,
    ]
}

fn attribute(p: &mut Problems, written: &At<String>) {
    let right = |c: char| c.is_ascii_alphanumeric() || "-.;".contains(c);
    if !written.value.chars().all(right) {
        p.error(&written.place, "this is not the name of an attribute")
            .label(format!("found \"{}\"", written.value))
            .help("write it like \"uidNumber\"; \"\" where there is none");
    }
}

fn check_place(p: &mut Problems, written: &raw_nss::Where, place: &mut nss_pam::maps::Where) {
    if let Some(base) = &written.base
        && let Some(bases) = names_of_bases(p, base)
    {
        place.bases = bases;
    }
    if let Some(scope) = &written.scope {
        place.scope = scope.value;
    }
    if let Some(filter) = &written.filter {
        match wire::ldap::filter::parse(&filter.value) {
            Ok(encoded) => place.filter = encoded,
            Err(error) => {
                p.error(&filter.place, "`filter` is not a filter")
                    .label(error.to_string())
                    .help("write it like \"(objectClass=posixAccount)\" (RFC 4515)");
            }
        }
    }
}

pub(super) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
