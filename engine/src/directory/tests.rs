//! The directory as a client sees it: requests in, decoded responses out.

use proptest::prelude::*;
use wire::ldap::envelope::{self, tag};
use wire::ldap::filter;
use wire::ldap::grammar::Scope;
use wire::ldap::message::{self, SearchSpec, oid};
use wire::ldap::result::{code, read_result};
use wire::ldap::{control, dn};

use super::{Bounds, Directory, LocalSession, Outcome, people};

mod load;
mod model;
mod search;
mod sync;
mod write;
mod write_model;

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
    let hash = crate::password::ssha(b"analytical", *b"NaCl5678");
    let file = FILE.replace("{SSHA}s2jpx7SoYFKKoWZ8EYKwhNwxzGNOYUNsNTY3OA==", &hash);
    Directory::load(file.as_bytes(), "test.ldif", None, 1_795_233_600_000_000).unwrap_or_else(|e| panic!("{e}"))
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
fn compares() {
    let mut client = Client::new();
    assert_eq!(client.compare(ADA, "sn", "LOVELACE"), code::COMPARE_TRUE);
    assert_eq!(client.compare(ADA, "sn", "Hopper"), code::COMPARE_FALSE);
    assert_eq!(client.compare(ADA, "name", "Lovelace"), code::COMPARE_TRUE);
    assert_eq!(client.compare(ADA, "title", "x"), code::NO_SUCH_ATTRIBUTE);
    assert_eq!(client.compare(ADA, "jpegPhoto", "x"), code::INAPPROPRIATE_MATCHING);
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

proptest! {
    /// Requests that were changed at random: every answer is whole messages, with the request's id or a notice's.
    #[test]
    fn whatever_is_asked_the_answer_is_whole(
        flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        which in 0usize..6,
        noise in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut client = Client::new();
        client.bounds.trusted_proxy = true;
        let text = "(&(objectClass=person)(!(cn=*a*b))(|(uidNumber>=3)(:dn:caseIgnoreMatch:=x)))";
        let filter = filter::parse(text).unwrap();
        let spec = SearchSpec {
            base: PEOPLE.as_bytes(),
            scope: Scope::Subtree,
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
            filter: &filter,
            attributes: &["cn", "+", "description;lang-de"],
        };
        let mut frame = Vec::new();
        match which {
            0 => message::write_simple_bind(&mut frame, 77, ADA.as_bytes(), b"analytical"),
            1 => message::write_compare(&mut frame, 77, ADA.as_bytes(), b"cn", b"Ada"),
            2 => message::write_extended_request(&mut frame, 77, oid::WHO_AM_I, None),
            3 => frame.clone_from(&noise),
            _ => message::write_search(&mut frame, 77, &spec),
        }
        let length = frame.len().max(1);
        for (at, bits) in flips {
            if let Some(byte) = frame.get_mut(at % length) {
                *byte ^= bits;
            }
        }
        let id = envelope::peek(&frame).map(|envelope| envelope.id);
        let (outcome, out) = client.ask(&frame);
        let all = messages(&out);
        prop_assert_eq!(all.is_empty(), outcome == Outcome::NoAnswer);
        for (answered, op) in &all {
            prop_assert!(Ok(*answered) == id || (*answered == 0 && op[0] == tag::EXTENDED_RESPONSE));
        }
    }
}
