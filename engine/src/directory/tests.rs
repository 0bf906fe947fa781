//! The directory as a client sees it: requests in, decoded responses out.

use wire::ber;
use wire::ldap::envelope::{self, tag};
use wire::ldap::filter;
use wire::ldap::grammar::Scope;
use wire::ldap::message::{self, SearchSpec, oid};
use wire::ldap::result::{code, read_result};
use wire::ldap::{control, dn};

use super::{Bounds, Directory, LocalSession, Outcome, people};

mod model;

const FILE: &str = "\
dn: dc=example,dc=com
objectClass: organization
objectClass: dcObject
o: Example
dc: example

dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: uid=ada,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
uid: ada
commonName: Ada  Lovelace
cn;lang-de: Ada von Lovelace
sn: Lovelace
mail: Ada@Example.com
uidNumber: 1000
gidNumber: 100
homeDirectory: /home/ada
telephoneNumber: +44 20-7946 0000
description: mathematician
description;lang-de: Mathematikerin
userPassword: {SSHA}s2jpx7SoYFKKoWZ8EYKwhNwxzGNOYUNsNTY3OA==
entryUUID: 597ae2f6-16a6-1027-98f4-d28b5365dc14
manager: UID=Grace , OU=People,dc=example,dc=com

dn: uid=grace,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
uid: grace
cn: Grace Hopper
sn: Hopper
uidNumber: 999
gidNumber: 100
homeDirectory: /home/grace
userPassword: secret
favouriteNumber: 42

dn: cn=nested\\2C comma,uid=grace,ou=people,dc=example,dc=com
objectClass: device
cn: nested, comma
";

const ADA: &str = "uid=ada,ou=people,dc=example,dc=com";
const GRACE: &str = "uid=grace,ou=people,dc=example,dc=com";
const PEOPLE: &str = "ou=people,dc=example,dc=com";
const BASE: &str = "dc=example,dc=com";

fn directory() -> Directory {
    // The password is made here so that the file shows what it stands for.
    let hash = super::password::ssha(b"analytical", *b"NaCl5678");
    let file = FILE.replace("{SSHA}s2jpx7SoYFKKoWZ8EYKwhNwxzGNOYUNsNTY3OA==", &hash);
    Directory::load(file.as_bytes(), "test.ldif", None, 1_795_233_600).unwrap_or_else(|e| panic!("{e}"))
}

/// An entry as it came back: its name, and its attributes with their values.
type Found = (String, Vec<(String, Vec<String>)>);

struct Client {
    directory: Directory,
    session: LocalSession,
    bounds: Bounds,
}

impl Client {
    fn new() -> Self {
        Self::of(directory())
    }

    fn of(directory: Directory) -> Self {
        Self {
            directory,
            session: LocalSession::default(),
            bounds: Bounds::default(),
        }
    }

    fn ask(&mut self, frame: &[u8]) -> (Outcome, Vec<u8>) {
        let mut out = Vec::new();
        let outcome = self.directory.answer(&mut self.session, frame, &mut out, &self.bounds);
        (outcome, out)
    }

    fn code(&mut self, frame: &[u8]) -> u32 {
        let (outcome, out) = self.ask(frame);
        let last = messages(&out).pop().expect("a response");
        let result = read_result(last.1).expect("a result");
        assert_eq!(outcome, Outcome::Answered { code: result.code });
        result.code
    }

    fn bind(&mut self, dn: &str, password: &str) -> u32 {
        let mut frame = Vec::new();
        message::write_simple_bind(&mut frame, 1, dn.as_bytes(), password.as_bytes());
        self.code(&frame)
    }

    fn who(&mut self, control: &[u8]) -> (u32, String) {
        let mut frame = Vec::new();
        message::write_extended_request(&mut frame, 3, oid::WHO_AM_I, None);
        let (_, out) = self.ask(&with_control(&frame, control));
        let result = read_result(messages(&out)[0].1).unwrap();
        (
            result.code,
            String::from_utf8_lossy(result.value.unwrap_or_default()).into_owned(),
        )
    }

    fn compare(&mut self, dn: &str, attribute: &str, value: &str) -> u32 {
        let mut frame = Vec::new();
        message::write_compare(&mut frame, 4, dn.as_bytes(), attribute.as_bytes(), value.as_bytes());
        self.code(&frame)
    }

    fn search(&mut self, base: &str, scope: Scope, filter: &str, attributes: &[&str]) -> (u32, Vec<Found>) {
        let filter = filter::parse(filter).unwrap();
        self.search_spec(&SearchSpec {
            base: base.as_bytes(),
            scope,
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
            filter: &filter,
            attributes,
        })
    }

    fn search_spec(&mut self, spec: &SearchSpec<'_>) -> (u32, Vec<Found>) {
        let mut frame = Vec::new();
        message::write_search(&mut frame, 77, spec);
        let (_, out) = self.ask(&frame);
        found(&out)
    }

    /// The names, without their base, of what matches below the base, in the file's order.
    fn names(&mut self, filter: &str) -> Vec<String> {
        let (code, found) = self.search(BASE, Scope::Subtree, filter, &["1.1"]);
        assert_eq!(code, 0, "{filter}");
        let first_value = |dn: String| {
            let ava = dn::avas(dn.as_bytes()).next().unwrap().unwrap();
            String::from_utf8(ava.value.bytes().into_owned()).unwrap()
        };
        found.into_iter().map(|(dn, _)| first_value(dn)).collect()
    }
}

/// Ids and operations of the messages in `out`.
fn messages(mut out: &[u8]) -> Vec<(i32, &[u8])> {
    let mut all = Vec::new();
    while let wire::frame::Step::Frame { len } = envelope::split(out, 1 << 30) {
        let envelope = envelope::peek(&out[..len]).unwrap();
        all.push((envelope.id, envelope.op));
        out = &out[len..];
    }
    assert!(out.is_empty(), "whole messages only");
    all
}

fn found(out: &[u8]) -> (u32, Vec<Found>) {
    let mut all = messages(out);
    let (_, last) = all.pop().expect("a result");
    assert_eq!(last[0], tag::SEARCH_DONE);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let entries = all
        .into_iter()
        .map(|(id, op)| {
            assert_eq!(id, 77);
            let entry = message::read_entry(op).unwrap();
            let attributes = entry
                .attributes
                .map(|a| (text(a.name), a.values.map(text).collect()))
                .collect();
            (text(entry.dn), attributes)
        })
        .collect();
    (read_result(last).unwrap().code, entries)
}

fn with_control(frame: &[u8], control: &[u8]) -> Vec<u8> {
    let envelope = envelope::peek(frame).unwrap();
    let mut out = Vec::new();
    envelope::write(&mut out, envelope.id, envelope.op, control, b"");
    out
}

fn attribute_names(found: &Found) -> Vec<&str> {
    found.1.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn binds() {
    let mut client = Client::new();
    assert_eq!(client.bind("", ""), code::SUCCESS);
    assert_eq!(client.bind(ADA, "analytical"), code::SUCCESS);
    assert_eq!(client.session.bound_dn, ADA.as_bytes());
    assert_eq!(client.who(b""), (0, format!("dn:{ADA}")));
    assert_eq!(
        client.bind("UID=Grace, OU=PEOPLE,dc=example,dc=com", "secret"),
        code::SUCCESS
    );
    assert_eq!(client.who(b""), (0, format!("dn:{GRACE}")));
    assert_eq!(client.bind(ADA, "wrong"), code::INVALID_CREDENTIALS);
    assert!(client.session.bound_dn.is_empty(), "a failed bind leaves nobody bound");
    assert_eq!(client.who(b""), (0, String::new()));
    assert_eq!(
        client.bind("uid=nobody,dc=example,dc=com", "x"),
        code::INVALID_CREDENTIALS
    );
    assert_eq!(client.bind(PEOPLE, "x"), code::INVALID_CREDENTIALS);
    assert_eq!(client.bind(ADA, ""), code::UNWILLING_TO_PERFORM);
    assert_eq!(client.bind("", "x"), code::INVALID_CREDENTIALS);
    assert_eq!(client.bind("rubbish", "x"), code::INVALID_DN_SYNTAX);
    let mut sasl = Vec::new();
    message::write_sasl_bind(&mut sasl, 1, b"", "PLAIN", Some(b"\0ada\0x"));
    assert_eq!(client.code(&sasl), code::AUTH_METHOD_NOT_SUPPORTED);
}

#[test]
fn a_password_of_unknown_scheme_is_counted() {
    let file = FILE.replace("userPassword: secret", "userPassword: {ARGON2}$argon2id$x");
    let mut client = Client::of(Directory::load(file.as_bytes(), "x", None, 0).unwrap());
    assert_eq!(client.bind(GRACE, "{ARGON2}$argon2id$x"), code::INVALID_CREDENTIALS);
    assert_eq!(client.directory.unknown_passwords(), 1);
}

#[test]
fn filters_of_every_kind() {
    let mut client = Client::new();
    for (filter, expected) in [
        ("(uid=ADA)", vec!["ada"]),
        ("(0.9.2342.19200300.100.1.1=ada)", vec!["ada"]),
        ("(userid=ada)", vec!["ada"]),
        ("(cn=ada lovelace)", vec!["ada"]),
        ("(cn=  ada   LOVELACE )", vec!["ada"]),
        ("(name=hopper)", vec!["grace"]),
        ("(cn;lang-de=*)", vec!["ada"]),
        ("(cn;lang-fr=*)", vec![]),
        ("(cn=Ada von Lovelace)", vec!["ada"]),
        ("(objectClass=person)", vec!["ada", "grace"]),
        ("(objectClass=2.5.6.6)", vec!["ada", "grace"]),
        (
            "(objectClass=*)",
            vec!["example", "people", "ada", "grace", "nested, comma"],
        ),
        ("(mail=ada@example.com)", vec!["ada"]),
        ("(telephoneNumber=+442079460000)", vec!["ada"]),
        ("(telephoneNumber=*7946*)", vec!["ada"]),
        ("(uidNumber>=1000)", vec!["ada"]),
        ("(uidNumber<=999)", vec!["grace"]),
        ("(uidNumber=01000)", vec!["ada"]),
        ("(uidNumber=abc)", vec![]),
        ("(!(uidNumber=abc))", vec![]),
        ("(!(uidNumber=999))", vec!["example", "people", "ada", "nested, comma"]),
        ("(!(nosuch=x))", vec![]),
        ("(|(nosuch=x)(uid=ada))", vec!["ada"]),
        ("(&(nosuch=x)(uid=ada))", vec![]),
        (
            "(!(&(nosuch=x)(uid=ada)))",
            vec!["example", "people", "grace", "nested, comma"],
        ),
        ("(sn=*o*e*)", vec!["ada", "grace"]),
        ("(sn=h*r)", vec!["grace"]),
        ("(sn=*ce)", vec!["ada"]),
        ("(cn=ada *)", vec!["ada"]),
        ("(uid=*a*a*)", vec!["ada"]),
        ("(uid=a*ada)", vec![]),
        ("(cn~=GRACE hopper)", vec!["grace"]),
        ("(manager=uid=grace,ou=people,dc=example,dc=com)", vec!["ada"]),
        ("(cn=nested\\2c comma)", vec!["nested, comma"]),
        ("(favouriteNumber=42)", vec!["grace"]),
        ("(&)", vec!["example", "people", "ada", "grace", "nested, comma"]),
        ("(|)", vec![]),
        ("(cn:caseExactMatch:=Grace Hopper)", vec!["grace"]),
        ("(cn:caseExactMatch:=grace hopper)", vec![]),
        ("(cn:=grace hopper)", vec!["grace"]),
        ("(:caseIgnoreMatch:=hopper)", vec!["grace"]),
        ("(ou:dn:=people)", vec!["people", "ada", "grace", "nested, comma"]),
        ("(:dn:caseIgnoreMatch:=grace)", vec!["grace", "nested, comma"]),
        ("(uidNumber:1.2.840.113556.1.4.803:=8)", vec!["ada"]),
        ("(uidNumber:nosuchMatch:=8)", vec![]),
        ("(uidNumber:caseExactMatch:=1000)", vec![]),
        (
            "(entryDN:dnSubtreeMatch:=uid=grace,ou=people,dc=example,dc=com)",
            vec!["grace", "nested, comma"],
        ),
        ("(entryUUID=597AE2F6-16A6-1027-98F4-D28B5365DC14)", vec!["ada"]),
        ("(hasSubordinates=TRUE)", vec!["example", "people", "grace"]),
        (
            "(createTimestamp>=20261121040000Z)",
            vec!["example", "people", "ada", "grace", "nested, comma"],
        ),
        ("(createTimestamp>=20261121040001Z)", vec![]),
        ("(entryDN=uid=ADA,ou=people,dc=example,dc=com)", vec!["ada"]),
        ("(userPassword=*)", vec![]),
        ("(!(userPassword=*))", vec![]),
        ("(userPassword=secret)", vec![]),
        ("(homeDirectory=/HOME/ada)", vec![]),
        (
            "(&(objectClass=person)(|(uid=ada)(uid=grace))(!(uid=ada)))",
            vec!["grace"],
        ),
    ] {
        assert_eq!(client.names(filter), expected, "{filter}");
    }
}

#[test]
fn scopes() {
    let mut client = Client::new();
    let mut names = |base: &str, scope, filter: &str| {
        let (code, found) = client.search(base, scope, filter, &["1.1"]);
        assert_eq!(code, 0);
        found.len()
    };
    // The first filter is answered by walking, the second by the index.
    for filter in ["(cn=*)", "(|(objectClass=person)(objectClass=device))"] {
        assert_eq!(names(PEOPLE, Scope::Base, filter), 0);
        assert_eq!(names(PEOPLE, Scope::One, filter), 2);
        assert_eq!(names(PEOPLE, Scope::Subtree, filter), 3);
        assert_eq!(names(GRACE, Scope::Subtree, filter), 2);
        assert_eq!(names(GRACE, Scope::Subordinate, filter), 1);
        assert_eq!(names(ADA, Scope::Subtree, filter), 1);
        assert_eq!(names(ADA, Scope::One, filter), 0);
    }
}

#[test]
fn the_attributes_asked_for() {
    let mut client = Client::new();
    let mut asked = |attributes: &[&str]| {
        let (_, mut found) = client.search(ADA, Scope::Base, "(objectClass=*)", attributes);
        found.pop().unwrap()
    };
    let all = asked(&[]);
    assert!(attribute_names(&all).contains(&"cn") && attribute_names(&all).contains(&"description;lang-de"));
    assert!(!attribute_names(&all).contains(&"entryUUID") && !attribute_names(&all).contains(&"userPassword"));
    assert_eq!(asked(&["*"]), all);
    let plus = asked(&["+"]);
    assert!(attribute_names(&plus).contains(&"entryUUID") && !attribute_names(&plus).contains(&"cn"));
    assert_eq!(asked(&["*", "+"]).1.len(), all.1.len() + plus.1.len());
    assert!(asked(&["1.1"]).1.is_empty());
    assert_eq!(attribute_names(&asked(&["1.1", "sn"])), ["sn"]);
    assert_eq!(attribute_names(&asked(&["SN", "nosuch", "sn", "userPassword"])), ["sn"]);
    assert_eq!(
        attribute_names(&asked(&["description"])),
        ["description", "description;lang-de"]
    );
    assert_eq!(
        attribute_names(&asked(&["description;lang-de"])),
        ["description;lang-de"]
    );
    assert_eq!(attribute_names(&asked(&["name"])), ["cn", "cn;lang-de", "sn"]);
    assert_eq!(
        attribute_names(&asked(&["2.5.4.3", "entryUUID"])),
        ["cn", "cn;lang-de", "entryUUID"]
    );
    let cn = asked(&["commonName"]);
    assert_eq!(
        cn.1[0],
        ("cn".to_owned(), vec!["Ada  Lovelace".to_owned()]),
        "values come back as they were written"
    );
    let spec = SearchSpec {
        base: ADA.as_bytes(),
        scope: Scope::Base,
        deref: 0,
        size_limit: 0,
        time_limit: 0,
        types_only: true,
        filter: &filter::parse("(uid=*)").unwrap(),
        attributes: &["sn", "cn"],
    };
    let (_, found) = client.search_spec(&spec);
    assert_eq!(attribute_names(&found[0]), ["cn", "cn;lang-de", "sn"]);
    assert!(found[0].1.iter().all(|(_, values)| values.is_empty()));
}

#[test]
fn limits() {
    let mut client = Client::new();
    let filter = filter::parse("(objectClass=*)").unwrap();
    let spec = |size_limit| SearchSpec {
        base: BASE.as_bytes(),
        scope: Scope::Subtree,
        deref: 0,
        size_limit,
        time_limit: 0,
        types_only: false,
        filter: &filter,
        attributes: &[],
    };
    let mut outcome = |bounds: Bounds, size_limit| {
        client.bounds = bounds;
        let (code, found) = client.search_spec(&spec(size_limit));
        (code, found.len())
    };
    let free = Bounds::default();
    assert_eq!(outcome(free, 0), (code::SUCCESS, 5));
    assert_eq!(outcome(free, 5), (code::SUCCESS, 5));
    assert_eq!(outcome(free, 4), (code::SIZE_LIMIT_EXCEEDED, 4));
    assert_eq!(
        outcome(Bounds { entries_max: 2, ..free }, 4),
        (code::SIZE_LIMIT_EXCEEDED, 2)
    );
    assert_eq!(
        outcome(Bounds { entries_max: 4, ..free }, 2),
        (code::SIZE_LIMIT_EXCEEDED, 2)
    );
    assert_eq!(outcome(Bounds { steps_max: 2, ..free }, 0).0, code::TIME_LIMIT_EXCEEDED);
    let (code, count) = outcome(
        Bounds {
            out_bytes_max: 300,
            ..free
        },
        0,
    );
    assert_eq!(code, code::ADMIN_LIMIT_EXCEEDED);
    assert!((1..5).contains(&count));
}

#[test]
fn names_that_lead_nowhere() {
    let mut client = Client::new();
    let mut matched = |base: &str| {
        let mut frame = Vec::new();
        let filter = filter::parse("(a=*)").unwrap();
        let spec = SearchSpec {
            base: base.as_bytes(),
            scope: Scope::Subtree,
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
            filter: &filter,
            attributes: &[],
        };
        message::write_search(&mut frame, 77, &spec);
        let (_, out) = client.ask(&frame);
        let result = read_result(messages(&out)[0].1).unwrap();
        (result.code, String::from_utf8_lossy(result.matched_dn).into_owned())
    };
    assert_eq!(matched("a=1,b=2,ou=people,dc=example,dc=com"), (32, PEOPLE.to_owned()));
    assert_eq!(matched("uid=nobody,dc=example,dc=com"), (32, BASE.to_owned()));
    assert_eq!(matched("dc=com"), (32, String::new()));
    assert_eq!(matched("dc=elsewhere"), (32, String::new()));
    assert_eq!(matched(""), (32, String::new()));
    assert_eq!(matched("rubbish").0, code::INVALID_DN_SYNTAX);
}

#[test]
fn compares() {
    let mut client = Client::new();
    assert_eq!(client.compare(ADA, "sn", "LOVELACE"), code::COMPARE_TRUE);
    assert_eq!(client.compare(ADA, "sn", "Hopper"), code::COMPARE_FALSE);
    assert_eq!(client.compare(ADA, "name", "Lovelace"), code::COMPARE_TRUE);
    assert_eq!(client.compare(ADA, "title", "x"), code::NO_SUCH_ATTRIBUTE);
    assert_eq!(client.compare(ADA, "nosuch", "x"), code::UNDEFINED_ATTRIBUTE_TYPE);
    assert_eq!(client.compare(ADA, "uidNumber", "x"), code::INVALID_ATTRIBUTE_SYNTAX);
    assert_eq!(
        client.compare("uid=nobody,dc=example,dc=com", "sn", "x"),
        code::NO_SUCH_OBJECT
    );
    assert_eq!(client.compare(ADA, "userPassword", "analytical"), code::COMPARE_TRUE);
    assert_eq!(client.compare(ADA, "userPassword", "wrong"), code::COMPARE_FALSE);
    assert_eq!(client.compare(PEOPLE, "userPassword", "x"), code::NO_SUCH_ATTRIBUTE);
}

#[test]
fn the_root_dse_and_the_subschema() {
    let mut client = Client::new();
    let (code, found) = client.search("", Scope::Base, "(objectClass=*)", &["+"]);
    assert_eq!((code, found.len()), (0, 1));
    let value = |name: &str| {
        found[0]
            .1
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
            .unwrap_or_default()
    };
    assert_eq!(value("namingContexts"), [BASE]);
    assert_eq!(value("supportedLDAPVersion"), ["3"]);
    assert!(value("supportedControl").contains(&control::oid::PROXIED_AUTHORIZATION.to_owned()));
    assert!(value("supportedFeatures").contains(&"1.3.6.1.4.1.4203.1.5.1".to_owned()));
    let subschema = value("subschemaSubentry")[0].clone();
    let (code, found) = client.search(&subschema, Scope::Base, "(objectClass=subschema)", &["attributeTypes"]);
    assert_eq!((code, found.len()), (0, 1));
    assert!(
        found[0].1[0]
            .1
            .iter()
            .any(|text| text.contains("NAME ( 'cn' 'commonName' ) SUP name"))
    );
    assert_eq!(client.search("", Scope::Base, "(objectClass=nothing)", &[]).1.len(), 0);
}

#[test]
fn writes_are_refused() {
    let mut client = Client::new();
    let mut frames = vec![Vec::new(); 5];
    message::write_add(&mut frames[0], 5, b"uid=x,dc=example,dc=com", &[(b"uid", &[b"x"])]);
    message::write_modify(&mut frames[1], 5, ADA.as_bytes(), &[]);
    message::write_delete(&mut frames[2], 5, ADA.as_bytes());
    message::write_modify_dn(&mut frames[3], 5, ADA.as_bytes(), b"uid=x", true, None);
    message::write_extended_request(&mut frames[4], 5, oid::PASSWORD_MODIFY, None);
    for frame in frames {
        assert_eq!(client.code(&frame), code::UNWILLING_TO_PERFORM);
    }
    let mut unknown = Vec::new();
    message::write_extended_request(&mut unknown, 5, "1.2.3.4", None);
    assert_eq!(client.code(&unknown), code::PROTOCOL_ERROR);
}

#[test]
fn proxied_authorization_is_for_trusted_proxies() {
    let mut client = Client::new();
    let control = |authzid: &str| {
        let mut out = Vec::new();
        control::proxied_authorization(&mut out, authzid.as_bytes());
        out
    };
    assert_eq!(client.who(&control("dn:cn=x")).0, code::UNWILLING_TO_PERFORM);
    client.bounds.trusted_proxy = true;
    assert_eq!(
        client.who(&control("dn:cn=X,o=elsewhere")),
        (0, "dn:cn=X,o=elsewhere".to_owned())
    );
    assert_eq!(client.who(&control("")), (0, String::new()));
    assert_eq!(client.who(&control("u:ADA")), (0, format!("dn:{ADA}")));
    assert_eq!(client.who(&control("u:nobody")).0, code::AUTHORIZATION_DENIED);
    assert_eq!(client.who(&control("dn:rubbish")).0, code::AUTHORIZATION_DENIED);
    assert_eq!(
        client.who(&[control("u:ada"), control("u:ada")].concat()).0,
        code::PROTOCOL_ERROR
    );
    let mut plain = Vec::new();
    control::write_control(&mut plain, control::oid::PROXIED_AUTHORIZATION, false, Some(b"u:ada"));
    assert_eq!(client.who(&plain).0, code::PROTOCOL_ERROR);
}

#[test]
fn controls_that_nobody_knows() {
    let mut client = Client::new();
    let control = |oid: &str, critical| {
        let mut out = Vec::new();
        control::write_control(&mut out, oid, critical, None);
        out
    };
    assert_eq!(
        client.who(&control("1.2.3", true)).0,
        code::UNAVAILABLE_CRITICAL_EXTENSION
    );
    assert_eq!(client.who(&control("1.2.3", false)).0, code::SUCCESS);
    assert_eq!(client.who(&control(control::oid::MANAGE_DSA_IT, true)).0, code::SUCCESS);
}

#[test]
fn what_needs_no_answer_and_what_deserves_none() {
    let mut client = Client::new();
    let mut frame = Vec::new();
    message::write_unbind(&mut frame, 1);
    assert_eq!(client.ask(&frame), (Outcome::NoAnswer, Vec::new()));
    frame.clear();
    message::write_abandon(&mut frame, 2, 1);
    assert_eq!(client.ask(&frame), (Outcome::NoAnswer, Vec::new()));
    let (_, out) = client.ask(b"rubbish");
    assert_eq!(messages(&out)[0].0, 0, "a notice of disconnection");
    // A search whose filter is no filter.
    frame.clear();
    let spec = SearchSpec {
        base: BASE.as_bytes(),
        scope: Scope::Subtree,
        deref: 0,
        size_limit: 0,
        time_limit: 0,
        types_only: false,
        filter: b"\xa3\x02\x04\x00",
        attributes: &[],
    };
    message::write_search(&mut frame, 9, &spec);
    assert_eq!(client.code(&frame), code::PROTOCOL_ERROR);
}

#[test]
fn a_deep_filter_is_answered_without_recursion() {
    let mut client = Client::new();
    let mut filter = filter::parse("(uid=ada)").unwrap();
    for _ in 0..2000 {
        let mut outer = Vec::new();
        ber::write_bytes(&mut outer, 0xa2, &filter);
        filter = outer;
    }
    let spec = SearchSpec {
        base: BASE.as_bytes(),
        scope: Scope::Subtree,
        deref: 0,
        size_limit: 0,
        time_limit: 0,
        types_only: false,
        filter: &filter,
        attributes: &["1.1"],
    };
    let (code, found) = client.search_spec(&spec);
    assert_eq!((code, found.len()), (0, 1));
}

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

#[test]
fn everybody_of_the_demo_can_bind() {
    let text = people::people(50, BASE, 3);
    let mut client = Client::of(Directory::load(text.as_bytes(), "demo", Some(BASE), 0).unwrap());
    let (_, found) = client.search(BASE, Scope::Subtree, "(objectClass=person)", &["uid"]);
    assert_eq!(found.len(), 50);
    for (dn, attributes) in found {
        assert_eq!(
            client.bind(&dn, &format!("{}-demo", attributes[0].1[0])),
            code::SUCCESS,
            "{dn}"
        );
    }
    assert_eq!(
        client.bind("cn=usherd,ou=services,dc=example,dc=com", "usherd-demo"),
        code::SUCCESS
    );
    let (_, groups) = client.search(BASE, Scope::Subtree, "(objectClass=groupOfNames)", &["member"]);
    let member = groups[0].1[0].1[0].clone();
    assert!(
        !client
            .names(&format!(
                "(&(objectClass=groupOfNames)(member={}))",
                filter::escape(member.as_bytes())
            ))
            .is_empty()
    );
}

/// How long one-entry searches take among 10,000: `cargo test --release -p usherd-engine -- --ignored --nocapture search_speed`
#[test]
#[ignore = "a measurement, for release builds"]
fn search_speed() {
    let text = people::people(10_000, BASE, 3);
    let loading = std::time::Instant::now();
    let directory = Directory::load(text.as_bytes(), "demo", Some(BASE), 0).unwrap();
    println!("loaded {} entries in {:?}", directory.entries(), loading.elapsed());
    let mut client = Client::of(directory);
    let (_, found) = client.search(BASE, Scope::Subtree, "(objectClass=person)", &["uid"]);
    let uids: Vec<_> = found.into_iter().map(|(_, a)| a[0].1[0].clone()).collect();
    for (what, make, attributes) in [
        (
            "uid, all attributes",
            (|uid| format!("(uid={uid})")) as fn(&str) -> String,
            &[] as &[&str],
        ),
        (
            "class and uid, three attributes",
            |uid| format!("(&(objectClass=person)(uid={uid}))"),
            &["cn", "mail", "uid"],
        ),
        (
            "substring of cn",
            |uid| format!("(cn=*{}*)", uid.get(1..4).unwrap()),
            &["1.1"],
        ),
    ] {
        let frames: Vec<_> = uids
            .iter()
            .step_by(if what.contains("substring") { 100 } else { 1 })
            .map(|uid| {
                let filter = filter::parse(&make(uid)).unwrap();
                let mut frame = Vec::new();
                let spec = SearchSpec {
                    base: BASE.as_bytes(),
                    scope: Scope::Subtree,
                    deref: 0,
                    size_limit: 0,
                    time_limit: 0,
                    types_only: false,
                    filter: &filter,
                    attributes,
                };
                message::write_search(&mut frame, 7, &spec);
                frame
            })
            .collect();
        let mut out = Vec::with_capacity(1 << 20);
        let started = std::time::Instant::now();
        for frame in &frames {
            out.clear();
            client
                .directory
                .answer(&mut client.session, frame, &mut out, &client.bounds);
        }
        println!(
            "{what}: {:?} each",
            started.elapsed() / u32::try_from(frames.len()).unwrap()
        );
    }
}
