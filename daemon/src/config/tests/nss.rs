//! Listeners of nslcd and saslauthd: what the settings mean, and one mistake at a time.

use engine::session::nss_pam::Answers;
use engine::session::nss_pam::maps::Schema;
use engine::session::saslauthd;
use wire::ldap::filter;
use wire::ldap::grammar::Scope;
use wire::nslcd::Map;

use super::*;
use crate::config::plan::{Behind, Face};

const SERVICE: &str = "[service.upper]\nprogram = [\"tr\"]\n";

/// The settings stand from line 6 on.
fn nslcd(lines: &str) -> String {
    format!("{DIRECTORY}[[listen]]\nprotocol = \"nslcd\"\naddress = \"unix:socket\"\n{lines}\n")
}

fn saslauthd(lines: &str) -> String {
    nslcd(lines).replace("nslcd", "saslauthd")
}

const CORP: &str = "directory = \"corp\"\nbase = [\"dc=x\"]\n";

#[track_caller]
fn each(fixture: &Fixture, around: impl Fn(&str) -> String, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let text = around(text);
        assert_eq!(fixture.found(&text), [*expected], "in:\n{text}");
    }
}

#[test]
fn a_map_s_defaults_and_what_is_written_over_them() {
    let fixture = Fixture::new("nss-plan");
    let plan = fixture.plan(&nslcd(CORP));
    let Face::Nslcd { behind, settings } = &plan.listeners[0].face else {
        panic!("{:?}", plan.listeners[0].face)
    };
    assert_eq!(*behind, Behind::Directory("corp".to_owned()));
    assert_eq!(
        plan.listeners[0].address,
        plan::Address::Unix(fixture.0.join("socket"), 0o666)
    );
    let Answers::Directory(maps) = &settings.answers else {
        panic!("{settings:?}")
    };
    assert_eq!((maps.schema, maps.uid_min, maps.nested), (Schema::Rfc2307, 0, false));
    assert_eq!(maps.names.member, "");
    assert!(!maps.hostname.is_empty());

    let written = format!(
        "{CORP}answer_bytes_max = \"1MiB\"\npassword_prohibited = \"no\"\n[listen.map]\nschema = \"ad\"\nuid_min = 1000\nnested = true\n\
         domain_sid = \"S-1-5-21-1-2-3\"\nid_offset = 500\nauthorize = [\"(uid=$username)\"]\nattributes = {{ shell = \"sh\", member = \"m\" }}\n\
         [listen.map.group]\nbase = [\"ou=g,dc=x\", \"ou=h,dc=x\"]\nscope = \"one\"\nfilter = \"(objectClass=x)\"\n"
    );
    let plan = fixture.plan(&nslcd(&written));
    let Face::Nslcd { settings, .. } = &plan.listeners[0].face else {
        panic!()
    };
    assert_eq!(settings.answer_bytes_max, 1 << 20);
    assert_eq!(settings.password_prohibited.as_deref(), Some("no"));
    let Answers::Directory(maps) = &settings.answers else {
        panic!()
    };
    assert_eq!(
        (maps.schema, maps.uid_min, maps.nested),
        (Schema::ActiveDirectory, 1000, true)
    );
    assert_eq!(
        (maps.names.uid.as_str(), maps.names.shell.as_str()),
        ("objectSid", "sh")
    );
    assert_eq!(
        (maps.names.member.as_str(), maps.names.user.as_str()),
        ("m", "sAMAccountName")
    );
    assert_eq!(maps.sid.as_ref().map(|sid| sid.offset), Some(500));
    assert_eq!(maps.authorize.len(), 1);
    let group = maps.place(Map::Group).unwrap();
    assert_eq!((group.bases.len(), group.scope), (2, Scope::One));
    assert_eq!(filter::to_string(&group.filter).unwrap(), "(objectClass=x)");
    let passwd = maps.place(Map::Passwd).unwrap();
    assert_eq!(
        (passwd.bases.as_slice(), passwd.scope),
        (["dc=x".to_owned()].as_slice(), Scope::Subtree)
    );
}

#[test]
fn a_service_may_answer_and_a_filter_has_a_default() {
    let fixture = Fixture::new("nss-service");
    let plan = fixture.plan(&format!("{SERVICE}{}", nslcd("service = \"upper\"")));
    let Face::Nslcd { behind, settings } = &plan.listeners[0].face else {
        panic!()
    };
    assert_eq!(
        (behind, &settings.answers),
        (&Behind::Service("upper".to_owned()), &Answers::Service)
    );
    let plan = fixture.plan(&saslauthd(CORP));
    let Face::Saslauthd { answers, .. } = &plan.listeners[0].face else {
        panic!()
    };
    let saslauthd::Answers::Directory {
        filter: found, bases, ..
    } = &**answers
    else {
        panic!()
    };
    assert_eq!(bases, &["dc=x"]);
    let filled = found.fill(|place| if place == "u" { b"ada" } else { b"" }).unwrap();
    assert_eq!(filter::to_string(&filled).unwrap(), "(uid=ada)");
}

#[test]
fn mistakes_of_an_nslcd_listener() {
    let fixture = Fixture::new("nss");
    each(
        &fixture,
        nslcd,
        &[
            ("", "3:1 [[listen]] without anybody who answers"),
            ("directory = \"crop\"", "6:13 there is no directory `crop`"),
            ("service = \"upper\"", "6:11 there is no service `upper`"),
            (
                "directory = \"corp\"",
                "3:1 it is not known below which entry to search",
            ),
            ("directory = \"corp\"\nbase = []", "7:8 `base` is empty"),
            (
                "directory = \"corp\"\nbase = [\"x\"]",
                "7:9 `base` is not a distinguished name",
            ),
        ],
    );
    each(
        &fixture,
        |lines| nslcd(&format!("{CORP}{lines}")),
        &[
            ("filter = \"(uid=%u)\"", "8:10 `filter` is for saslauthd listeners"),
            (
                "payload_bytes_max = \"1MiB\"",
                "8:21 `payload_bytes_max` is for rpc listeners",
            ),
            ("starttls = true", "8:12 `starttls` is for protocol \"ldap\""),
            (
                "map = { schema = \"rfc\" }",
                "8:18 unknown schema \"rfc\" in `map` of [[listen]]",
            ),
            (
                "map = { domain_sid = \"S-1\" }",
                "8:22 `domain_sid` is not a security identifier",
            ),
            ("map = { id_offset = 5 }", "8:21 `id_offset` without `domain_sid`"),
            (
                "map = { authorize = [\"(uid=$user)\"] }",
                "8:22 `authorize` has something that is not a filter",
            ),
            (
                "map = { attributes = { uid = \"a b\" } }",
                "8:30 this is not the name of an attribute",
            ),
            (
                "map = { passwd = { filter = \"uid=x\" } }",
                "8:29 `filter` is not a filter",
            ),
        ],
    );
    let tcp = nslcd(CORP).replace("unix:socket", "127.0.0.1:5");
    assert_eq!(
        fixture.found(&tcp),
        ["5:11 nslcd and saslauthd are spoken over unix sockets only"]
    );
    let both = format!("{SERVICE}{}", nslcd("directory = \"corp\"\nservice = \"upper\""));
    assert_eq!(
        fixture.found(&both),
        ["9:11 a directory and a service cannot both answer"]
    );
    let map = format!("{SERVICE}{}", nslcd("service = \"upper\"\nmap = { nested = true }"));
    assert_eq!(fixture.found(&map), ["9:7 `map` says how a directory is read"]);
    let ldap = format!("{DIRECTORY}{LISTEN}map = {{ nested = true }}\n");
    assert_eq!(fixture.found(&ldap), ["7:7 `map` is for nslcd and saslauthd listeners"]);
}

#[test]
fn mistakes_of_a_saslauthd_listener() {
    let fixture = Fixture::new("sasl");
    each(
        &fixture,
        |lines| saslauthd(&format!("{CORP}{lines}")),
        &[
            ("map = { nested = true }", "8:7 `map` is for nslcd listeners"),
            (
                "password_prohibited = \"x\"",
                "8:23 `password_prohibited` is for nslcd listeners",
            ),
            ("filter = \"(uid=%x)\"", "8:10 `filter` is not a filter"),
            ("filter = \"uid=%u\"", "8:10 `filter` is not a filter"),
        ],
    );
    let service = format!("{SERVICE}{}", saslauthd("service = \"upper\"\nfilter = \"(uid=%u)\""));
    assert_eq!(fixture.found(&service), ["9:10 `filter` finds entries of a directory"]);
}
