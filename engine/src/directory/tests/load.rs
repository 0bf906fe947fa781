//! What becomes of a file.

use wire::ldap::grammar::Scope;

use super::super::Directory;
use super::{BASE, Client, FILE};

#[test]
fn a_uuid_stays_and_differs() {
    let uuids = || {
        let (_, found) = Client::new().search(BASE, Scope::Subtree, "(&)", &["entryUUID"]);
        found
            .into_iter()
            .map(|(_, attributes)| attributes[0].1[0].clone())
            .collect::<Vec<_>>()
    };
    let first = uuids();
    assert_eq!(first, uuids());
    let different: std::collections::HashSet<_> = first.iter().collect();
    assert_eq!(different.len(), 5);
}

fn broken(file: &str) -> String {
    Directory::load(file.as_bytes(), "people.ldif", None, 0)
        .expect_err("an error")
        .to_string()
}

#[test]
fn a_broken_file_is_refused_with_its_line() {
    let head = "dn: dc=x\nobjectClass: domain\ndc: x\n\n";
    for (rest, expected) in [
        (
            "dn: ou=a,ou=b,dc=x\nobjectClass: top\nou: a\n",
            "people.ldif:5: found `ou=a,ou=b,dc=x`, whose parent is not in the file; expected an entry `dn: ou=b,dc=x`",
        ),
        (
            "dn: DC=X\nobjectClass: domain\ndc: x\n",
            "people.ldif:5: found `DC=X` again, first in line 1",
        ),
        (
            "dn: dc=y\nobjectClass: domain\ndc: y\n",
            "people.ldif:5: found `dc=y`; expected a name below `dc=x`",
        ),
        (
            "dn: ou=a,dc=x\nou: a\n",
            "people.ldif:5: found `ou=a,dc=x` without objectClass",
        ),
        (
            "dn: ou=a,dc=x\nobjectClass: top\nou: b\n",
            "people.ldif:5: found `ou=a,dc=x` without the attribute that names it; expected a line `ou: a`",
        ),
        (
            "dn: uid=a,dc=x\nobjectClass: top\nuid: a\nuidNumber: many\n",
            "people.ldif:8: found `uidNumber: many`; expected an integer",
        ),
        (
            "dn: uid=a,dc=x\nobjectClass: top\nuid: a\nuidNumber: 1\nuidNumber: 2\n",
            "people.ldif:9: found a second value of `uidNumber`",
        ),
        (
            "dn: uid=a,dc=x\nobjectClass: top\nuid: a\nuid: A\n",
            "people.ldif:8: found `uid: A` a second time",
        ),
        (
            "dn: uid=a,dc=x\nobjectClass: top\nuid: a\nmanager: me\n",
            "people.ldif:8: found `manager: me`; expected a distinguished name",
        ),
        (
            "dn: rubbish\nobjectClass: top\n",
            "people.ldif:5: found `dn: rubbish`, which is no name: at byte 7",
        ),
        (
            "dn: dc=x\nchangetype: delete\n",
            "people.ldif:5: found a change of `dc=x`",
        ),
        ("rubbish\n", "people.ldif:5: found `rubbish`"),
    ] {
        let message = broken(&format!("{head}{rest}"));
        assert!(message.starts_with(expected), "{message}");
    }
    assert!(broken("").starts_with("people.ldif: found no entries"));
    let base = Directory::load(head.as_bytes(), "people.ldif", Some("dc=y"), 0)
        .unwrap_err()
        .to_string();
    assert!(base.starts_with("people.ldif:1: found `dc=x` as the shortest name, and no entry for the base `dc=y`"));
}

#[test]
fn entries_may_come_in_any_order() {
    let mut blocks: Vec<_> = FILE.trim_end().split("\n\n").collect();
    blocks.reverse();
    let directory = Directory::load(blocks.join("\n\n").as_bytes(), "x", None, 0).unwrap();
    assert_eq!(Client::of(directory).names("(uid=ada)"), ["ada"]);
}
