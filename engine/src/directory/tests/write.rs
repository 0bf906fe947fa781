//! Writes: what each does, what each is refused for, and random ones beside a model.

use wire::ldap::control;
use wire::ldap::grammar::Scope;
use wire::ldap::message::{self, ChangeSpec, oid};
use wire::ldap::result::{code, read_result};

use super::super::write::{Moment, Writing};
use super::super::{Directory, LocalSession, Outcome};
use super::write_model::check;
use super::{ADA, BASE, Client, GRACE, PEOPLE, attribute_names, directory, messages};

pub(super) const ADMIN: &str = GRACE;

/// What everybody may not and the administrator may.
pub(super) fn writable(mut directory: Directory) -> Directory {
    let writing = Writing {
        admins: vec![ADMIN.to_owned()],
        entries_max: 40,
        bytes_max: 1 << 20,
        changes_max: 64,
    };
    directory.make_writable(&writing).unwrap();
    directory
}

/// A client that has bound as the administrator, and a clock.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) micros: u64,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self::of(writable(directory()))
    }

    pub(super) fn of(directory: Directory) -> Self {
        let mut client = Client::of(directory);
        assert_eq!(client.bind(ADMIN, "secret"), 0);
        Self {
            client,
            micros: 1_795_233_601_000_000,
        }
    }

    /// Of what [`small`] made, at this time.
    pub(super) fn of_small(directory: Directory, micros: u64) -> Self {
        let mut client = Client::of(directory);
        assert_eq!(client.bind(BASE, "secret"), 0);
        Self { client, micros }
    }

    /// Code and matched DN.
    pub(super) fn ask(&mut self, frame: &[u8]) -> (u32, String) {
        let (code, matched, _) = self.ask_all(frame);
        (code, matched)
    }

    fn ask_all(&mut self, frame: &[u8]) -> (u32, String, Option<Vec<u8>>) {
        self.micros += 1;
        let (outcome, mut out) = self.client.ask(frame);
        if outcome == Outcome::Write {
            let mut random = [0; 48];
            for (at, octet) in random.iter_mut().enumerate() {
                *octet = u8::try_from((self.micros + at as u64) * 31 % 251).unwrap();
            }
            let moment = Moment {
                unix_micros: self.micros,
                random,
            };
            let mut next = self.client.directory.clone();
            let outcome = next.write(&mut self.client.session, frame, &mut out, &self.client.bounds, &moment);
            if outcome == (Outcome::Answered { code: 0 }) {
                self.client.directory = next;
            }
        }
        let last = messages(&out).pop().expect("a response");
        let result = read_result(last.1).unwrap();
        (
            result.code,
            String::from_utf8_lossy(result.matched_dn).into_owned(),
            result.value.map(<[u8]>::to_vec),
        )
    }

    pub(super) fn add(&mut self, dn: &str, attributes: &[(&str, &[&str])]) -> (u32, String) {
        let values: Vec<Vec<&[u8]>> = attributes
            .iter()
            .map(|(_, values)| values.iter().map(|value| value.as_bytes()).collect())
            .collect();
        let attributes: Vec<(&[u8], &[&[u8]])> = attributes
            .iter()
            .zip(&values)
            .map(|((name, _), values)| (name.as_bytes(), values.as_slice()))
            .collect();
        let mut frame = Vec::new();
        message::write_add(&mut frame, 5, dn.as_bytes(), &attributes);
        self.ask(&frame)
    }

    pub(super) fn add_unit(&mut self, dn: &str) -> (u32, String) {
        let ou = dn.split(['=', ',']).nth(1).unwrap();
        self.add(dn, &[("objectClass", &["organizationalUnit"]), ("ou", &[ou])])
    }

    pub(super) fn modify(&mut self, dn: &str, changes: &[(i32, &str, &[&str])]) -> u32 {
        let values: Vec<Vec<&[u8]>> = changes
            .iter()
            .map(|(_, _, values)| values.iter().map(|value| value.as_bytes()).collect())
            .collect();
        let changes: Vec<ChangeSpec<'_>> = changes
            .iter()
            .zip(&values)
            .map(|((operation, name, _), values)| ChangeSpec {
                operation: *operation,
                name: name.as_bytes(),
                values,
            })
            .collect();
        let mut frame = Vec::new();
        message::write_modify(&mut frame, 5, dn.as_bytes(), &changes);
        self.ask(&frame).0
    }

    pub(super) fn delete(&mut self, dn: &str) -> (u32, String) {
        let mut frame = Vec::new();
        message::write_delete(&mut frame, 5, dn.as_bytes());
        self.ask(&frame)
    }

    pub(super) fn rename(&mut self, dn: &str, rdn: &str, delete_old: bool, superior: Option<&str>) -> u32 {
        let mut frame = Vec::new();
        let superior = superior.map(str::as_bytes);
        message::write_modify_dn(&mut frame, 5, dn.as_bytes(), rdn.as_bytes(), delete_old, superior);
        self.ask(&frame).0
    }

    fn password(&mut self, user: Option<&str>, old: Option<&str>, new: Option<&str>) -> (u32, Option<Vec<u8>>) {
        let mut frame = Vec::new();
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let (user, old, new) = (bytes(user), bytes(old), bytes(new));
        message::write_password_modify(&mut frame, 5, user.as_deref(), old.as_deref(), new.as_deref());
        let (code, _, value) = self.ask_all(&frame);
        (code, value)
    }

    fn values(&mut self, dn: &str, attribute: &str) -> Vec<String> {
        let (_, found) = self.client.search(dn, Scope::Base, "(objectClass=*)", &[attribute]);
        let attributes = found.into_iter().flat_map(|(_, attributes)| attributes);
        attributes.flat_map(|(_, values)| values).collect()
    }
}

const ADD: i32 = 0;
const DELETE: i32 = 1;
pub(super) const REPLACE: i32 = 2;
const INCREMENT: i32 = 3;

#[test]
fn an_entry_comes_and_goes() {
    let mut writer = Writer::new();
    let x = "uid=x,ou=people,dc=example,dc=com";
    let entry: &[(&str, &[&str])] = &[
        ("objectClass", &["account", "simpleSecurityObject"]),
        ("uid", &["x"]),
        ("userPassword", &["geheim"]),
    ];
    assert_eq!(
        writer.add("UID = x , OU=People,dc=example,dc=com", entry),
        (0, String::new())
    );
    assert_eq!(writer.add(x, entry).0, code::ENTRY_ALREADY_EXISTS);
    let (_, found) = writer.client.search(BASE, Scope::Subtree, "(uid=X)", &["*", "+"]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "UID=x,ou=people,dc=example,dc=com");
    for name in [
        "entryUUID",
        "entryCSN",
        "createTimestamp",
        "creatorsName",
        "modifiersName",
        "entryDN",
    ] {
        assert!(attribute_names(&found[0]).contains(&name), "{name}");
    }
    assert!(!attribute_names(&found[0]).contains(&"userPassword"));
    assert_eq!(writer.values(x, "creatorsName"), [ADMIN]);
    assert_eq!(writer.values(x, "modifyTimestamp"), ["20261121040001Z"]);
    assert_eq!(
        writer.values(x, "entryCSN"),
        ["20261121040001.000001Z#000000#000#000000"]
    );
    assert_eq!(writer.values(PEOPLE, "hasSubordinates"), ["TRUE"]);
    assert_eq!(Client::of(writer.client.directory.clone()).bind(x, "geheim"), 0);
    assert_eq!(writer.delete(x), (0, String::new()));
    assert_eq!(writer.delete(x), (code::NO_SUCH_OBJECT, PEOPLE.to_owned()));
    assert!(writer.client.names("(uid=x)").is_empty());
    assert_eq!(writer.client.directory.entries(), 5);
    check(&writer.client.directory);
}

#[test]
fn an_add_is_refused_with_what_slapd_says() {
    let mut writer = Writer::new();
    let unit: &[(&str, &[&str])] = &[("objectClass", &["organizationalUnit"]), ("ou", &["x"])];
    let x = "ou=x,dc=example,dc=com";
    let mut with = |more: (&'static str, &'static [&'static str])| {
        let mut all = unit.to_vec();
        all.push(more);
        writer.add(x, &all).0
    };
    assert_eq!(with(("nosuch", &["x"])), code::UNDEFINED_ATTRIBUTE_TYPE);
    assert_eq!(with(("uidNumber", &["many"])), code::INVALID_ATTRIBUTE_SYNTAX);
    assert_eq!(
        with(("entryUUID", &["597ae2f6-16a6-1027-98f4-d28b5365dc14"])),
        code::CONSTRAINT_VIOLATION
    );
    assert_eq!(with(("uidNumber", &["1", "2"])), code::CONSTRAINT_VIOLATION);
    assert_eq!(with(("description", &["a", "A"])), code::ATTRIBUTE_OR_VALUE_EXISTS);
    assert_eq!(with(("objectClass", &["device"])), code::ATTRIBUTE_OR_VALUE_EXISTS);
    assert_eq!(writer.add("rubbish", unit).0, code::INVALID_DN_SYNTAX);
    assert_eq!(
        writer.add("nosuch=y,dc=example,dc=com", unit).0,
        code::INVALID_DN_SYNTAX
    );
    assert_eq!(writer.add(x, &[("ou", &["x"])]).0, code::OBJECT_CLASS_VIOLATION);
    assert_eq!(
        writer.add(x, &[("ou", &["x"]), ("objectClass", &["top"])]).0,
        code::OBJECT_CLASS_VIOLATION
    );
    let two: &[&str] = &["person", "organizationalUnit"];
    assert_eq!(
        writer.add(x, &[("ou", &["x"]), ("objectClass", two)]).0,
        code::OBJECT_CLASS_VIOLATION
    );
    let chain: &[&str] = &["organizationalPerson", "inetOrgPerson", "person", "posixAccount"];
    assert_eq!(writer.add(x, &[("ou", &["x"]), ("objectClass", chain)]).0, 0);
    assert_eq!(
        writer.add_unit("ou=a,ou=b,ou=people,dc=example,dc=com"),
        (code::NO_SUCH_OBJECT, PEOPLE.to_owned())
    );
    assert_eq!(writer.add_unit("ou=a,dc=example,dc=org").0, code::UNWILLING_TO_PERFORM);
    assert_eq!(writer.add_unit("ou=a,ou=people,dc=example,dc=com").0, 0);
}

#[test]
fn a_modify_does_all_or_nothing() {
    let mut writer = Writer::new();
    let before = writer.values(ADA, "entryCSN");
    let all: &[(i32, &str, &[&str])] = &[
        (ADD, "description", &["poet's daughter"]),
        (DELETE, "mail", &[]),
        (DELETE, "description", &["MATHEMATICIAN"]),
        (REPLACE, "title", &["Countess"]),
        (INCREMENT, "uidNumber", &["-7"]),
    ];
    assert_eq!(writer.modify(ADA, all), 0);
    assert_eq!(writer.values(ADA, "description"), ["poet's daughter", "Mathematikerin"]);
    assert_eq!(writer.values(ADA, "uidNumber"), ["993"]);
    assert_eq!(writer.values(ADA, "modifiersName"), [ADMIN]);
    assert!(writer.values(ADA, "mail").is_empty());
    assert_eq!(writer.client.names("(uidNumber=993)"), ["ada"]);
    assert!(writer.client.names("(uidNumber=1000)").is_empty());
    assert!(writer.values(ADA, "entryCSN") > before);
    // The first change is right, the second is not.
    assert_eq!(
        writer.modify(ADA, &[(REPLACE, "title", &["Lady"]), (DELETE, "mail", &[])]),
        code::NO_SUCH_ATTRIBUTE
    );
    assert_eq!(writer.values(ADA, "title"), ["Countess"]);
    check(&writer.client.directory);
}

#[test]
fn a_modify_is_refused_with_what_slapd_says() {
    let mut writer = Writer::new();
    for (change, expected) in [
        (
            (ADD, "cn", ["ada LOVELACE"].as_slice()),
            code::ATTRIBUTE_OR_VALUE_EXISTS,
        ),
        ((DELETE, "cn", &["nobody"]), code::NO_SUCH_ATTRIBUTE),
        ((DELETE, "title", &[]), code::NO_SUCH_ATTRIBUTE),
        ((DELETE, "uid", &["ada"]), code::NAMING_VIOLATION),
        ((REPLACE, "uid", &["eve"]), code::NAMING_VIOLATION),
        ((DELETE, "objectClass", &[]), code::OBJECT_CLASS_VIOLATION),
        (
            (REPLACE, "objectClass", &["device"]),
            code::OBJECT_CLASS_MODS_PROHIBITED,
        ),
        ((ADD, "objectClass", &["device"]), code::OBJECT_CLASS_VIOLATION),
        ((ADD, "objectClass", &["nosuch"]), code::INVALID_ATTRIBUTE_SYNTAX),
        ((ADD, "uidNumber", &["7"]), code::CONSTRAINT_VIOLATION),
        ((REPLACE, "uidNumber", &["seven"]), code::INVALID_ATTRIBUTE_SYNTAX),
        (
            (REPLACE, "createTimestamp", &["20200101000000Z"]),
            code::CONSTRAINT_VIOLATION,
        ),
        ((REPLACE, "nosuch", &["x"]), code::UNDEFINED_ATTRIBUTE_TYPE),
        ((ADD, "title", &[]), code::PROTOCOL_ERROR),
        (
            (INCREMENT, "uidNumber", &["9223372036854775807"]),
            code::CONSTRAINT_VIOLATION,
        ),
        ((DELETE, "jpegPhoto", &["x"]), code::INAPPROPRIATE_MATCHING),
    ] {
        assert_eq!(writer.modify(ADA, &[change]), expected, "{change:?}");
    }
    assert_eq!(
        writer.modify("uid=eve,ou=people,dc=example,dc=com", &[]),
        code::NO_SUCH_OBJECT
    );
    assert_eq!(writer.modify("", &[]), code::UNWILLING_TO_PERFORM);
    assert_eq!(writer.client.directory.changes(), 0);
}

#[test]
fn a_subtree_moves_with_its_entry() {
    let mut writer = Writer::new();
    assert_eq!(writer.add_unit("ou=new,dc=example,dc=com").0, 0);
    assert_eq!(
        writer.rename(GRACE, "uid=amazing", true, Some("ou=new,dc=example,dc=com")),
        0
    );
    let moved = "cn=nested\\2C comma,uid=amazing,ou=new,dc=example,dc=com";
    let (_, found) = writer
        .client
        .search(moved, Scope::Base, "(objectClass=*)", &["entryDN"]);
    assert_eq!(found[0].0, moved);
    assert_eq!(found[0].1[0].1, [moved]);
    assert_eq!(writer.client.names("(uid=amazing)"), ["amazing"]);
    assert!(writer.client.names("(uid=grace)").is_empty());
    assert_eq!(writer.values("ou=new,dc=example,dc=com", "hasSubordinates"), ["TRUE"]);
    let (_, below) = writer.client.search(
        "ou=new,dc=example,dc=com",
        Scope::Subordinate,
        "(objectClass=*)",
        &["1.1"],
    );
    assert_eq!(below.len(), 2);
    check(&writer.client.directory);
}

#[test]
fn a_rename_keeps_old_values_when_asked_and_is_refused_as_slapd_does() {
    let mut writer = Writer::new();
    let eve = "uid=eve,ou=people,dc=example,dc=com";
    assert_eq!(writer.rename(ADA, "uid=eve", false, None), 0);
    assert_eq!(writer.values(eve, "uid"), ["ada", "eve"]);
    assert_eq!(writer.rename(eve, "UID=Eve+cn=Ada", true, None), 0);
    let both = "UID=Eve+cn=Ada,ou=people,dc=example,dc=com";
    assert_eq!(writer.values(both, "uid"), ["ada", "eve"]);
    assert_eq!(writer.rename(both, "uid=grace", true, None), code::ENTRY_ALREADY_EXISTS);
    assert_eq!(writer.rename(both, "uid=a,ou=b", true, None), code::INVALID_DN_SYNTAX);
    assert_eq!(writer.rename(both, "nosuch=x", true, None), code::INVALID_DN_SYNTAX);
    assert_eq!(writer.rename(ADA, "uid=x", true, None), code::NO_SUCH_OBJECT);
    assert_eq!(
        writer.rename(both, "uid=x", true, Some("ou=nowhere,dc=example,dc=com")),
        code::NO_SUCH_OBJECT
    );
    assert_eq!(
        writer.rename(PEOPLE, "ou=p", true, Some(GRACE)),
        code::UNWILLING_TO_PERFORM
    );
    assert_eq!(writer.rename(BASE, "dc=x", true, None), code::UNWILLING_TO_PERFORM);
    assert_eq!(writer.delete(PEOPLE).0, code::NOT_ALLOWED_ON_NON_LEAF);
    assert_eq!(
        writer.rename(GRACE, "uid=GRACE", true, None),
        0,
        "to what it is called already"
    );
    check(&writer.client.directory);
}

#[test]
fn passwords_are_changed_by_who_may() {
    let mut writer = Writer::new();
    assert_eq!(writer.password(Some(ADA), None, Some("first")).0, 0);
    assert_eq!(writer.client.bind(ADA, "first"), 0);
    assert_eq!(
        writer.password(None, Some("wrong"), Some("x")).0,
        code::UNWILLING_TO_PERFORM
    );
    assert_eq!(writer.password(None, Some("first"), Some("second")).0, 0);
    assert_eq!(writer.client.bind(ADA, "second"), 0);
    assert_eq!(
        writer.password(Some(GRACE), None, Some("x")).0,
        code::INSUFFICIENT_ACCESS_RIGHTS
    );
    assert_eq!(writer.password(None, None, Some("")).0, code::UNWILLING_TO_PERFORM);
    let (code, value) = writer.password(Some(&format!("dn:{ADA}")), None, None);
    assert_eq!(code, 0);
    let value = value.expect("a generated password");
    assert_eq!(value[..4], [0x30, 18, 0x80, 16]);
    let made = String::from_utf8(value[4..].to_vec()).unwrap();
    assert_eq!(writer.client.bind(ADA, &made), 0);
    assert_eq!(writer.values(ADA, "modifiersName"), [ADA]);
    let mut exported = Vec::new();
    writer.client.directory.export(b"", true, &mut exported);
    assert!(String::from_utf8_lossy(&exported).contains("\nuserPassword: {SSHA512}"));
}

#[test]
fn others_may_not_and_nobody_may_where_nothing_is_written() {
    let mut writer = Writer::new();
    assert_eq!(writer.client.bind(ADA, "analytical"), 0);
    assert_eq!(
        writer.modify(ADA, &[(REPLACE, "title", &["x"])]),
        code::INSUFFICIENT_ACCESS_RIGHTS
    );
    assert_eq!(
        writer.add_unit("ou=x,dc=example,dc=com").0,
        code::INSUFFICIENT_ACCESS_RIGHTS
    );
    assert_eq!(writer.delete(ADA).0, code::INSUFFICIENT_ACCESS_RIGHTS);
    assert_eq!(
        writer.rename(ADA, "uid=x", true, None),
        code::INSUFFICIENT_ACCESS_RIGHTS
    );
    writer.client.session = LocalSession::default();
    assert_eq!(writer.delete(ADA).0, code::STRONGER_AUTH_REQUIRED);
    assert_eq!(
        writer.password(Some(ADA), None, Some("x")).0,
        code::STRONGER_AUTH_REQUIRED
    );
    // On a shared connection the control says who asks.
    writer.client.bounds.trusted_proxy = true;
    let mut frame = Vec::new();
    message::write_delete(&mut frame, 5, ADA.as_bytes());
    let mut as_admin = Vec::new();
    control::proxied_authorization(&mut as_admin, format!("dn:{ADMIN}").as_bytes());
    assert_eq!(writer.ask(&super::with_control(&frame, &as_admin)).0, 0);
    let mut unknown = Vec::new();
    control::write_control(&mut unknown, "1.2.3", true, None);
    assert_eq!(
        writer.ask(&super::with_control(&frame, &unknown)).0,
        code::UNAVAILABLE_CRITICAL_EXTENSION
    );
    assert_eq!(Writer::of(directory()).delete(ADA).0, code::UNWILLING_TO_PERFORM);
    assert!(
        directory()
            .make_writable(&Writing {
                admins: vec!["rubbish".into()],
                entries_max: 1,
                bytes_max: 1,
                changes_max: 1
            })
            .is_err()
    );
}

#[test]
fn the_root_tells_of_writes_only_where_there_are_some() {
    for (directory, told) in [(directory(), false), (writable(directory()), true)] {
        let (_, found) = Client::of(directory).search(
            "",
            Scope::Base,
            "(objectClass=*)",
            &["supportedExtension", "supportedFeatures"],
        );
        let values: Vec<&String> = found[0].1.iter().flat_map(|(_, values)| values).collect();
        assert_eq!(values.iter().any(|v| *v == oid::PASSWORD_MODIFY), told);
        assert_eq!(values.iter().any(|v| *v == "1.3.6.1.1.14"), told);
    }
}

#[test]
fn memory_is_bounded() {
    let mut writer = Writer::new();
    let codes: Vec<u32> = (0..40)
        .map(|n| writer.add_unit(&format!("ou=u{n},dc=example,dc=com")).0)
        .collect();
    assert!(codes[..35].iter().all(|code| *code == 0));
    assert!(codes[35..].iter().all(|code| *code == code::ADMIN_LIMIT_EXCEEDED));
    let large = "x".repeat(1 << 20);
    assert_eq!(
        writer.modify(ADA, &[(REPLACE, "description", &[&large])]),
        code::ADMIN_LIMIT_EXCEEDED
    );
}

#[test]
fn what_is_written_loads_again_and_is_the_same() {
    let mut writer = Writer::new();
    assert_eq!(
        writer.modify(ADA, &[(REPLACE, "description", &[" a", "b\nc", "ü", ":", "<", "z "])]),
        0
    );
    assert_eq!(writer.add_unit("ou=a\\2Cb,dc=example,dc=com").0, 0);
    assert_eq!(
        writer
            .delete("cn=nested\\2C comma,uid=grace,ou=people,dc=example,dc=com")
            .0,
        0
    );
    assert_eq!(writer.rename(GRACE, "uid=g", true, None), 0);
    let written = |directory: &Directory, clean| {
        let mut out = Vec::new();
        directory.export(b"# mine\n\n", clean, &mut out);
        out
    };
    let first = written(&writer.client.directory, true);
    assert!(first.starts_with(b"# mine\n\n# usherd: newest="));
    assert_eq!(super::super::export::heading(&first), b"# mine\n\n");
    let again = Directory::load(&first, "x", None, 5).unwrap();
    assert_eq!(written(&again, true), first, "nothing was lost");
    assert_eq!(again.log.newest(), writer.client.directory.log.newest());
    // After anything but an end in order, or by another hand, no cookie of before is believed.
    let newest = again.log.newest();
    assert!(again.trust.believes(newest, newest));
    for text in [
        written(&writer.client.directory, false),
        [&first, b"\n# by hand\n".as_slice()].concat(),
    ] {
        let again = Directory::load(&text, "x", None, 1_795_233_700_000_000).unwrap();
        assert!(again.trust.start > newest);
        assert!(!again.trust.believes(newest, again.log.newest()));
    }
}
