//! A directory in memory that answers what sessions ask, until it is told to fail.

use std::sync::Arc;

use engine::ask::{Event, Final, Question, To};
use engine::directory::{Bounds, Directory, LocalSession};
use engine::session::nss_pam::maps::{Maps, Schema};
use engine::session::nss_pam::{Answers, Circumstances, Next, Session, Settings};
use wire::frame::Step;
use wire::ldap::envelope::{self, tag};
use wire::ldap::{message, result};
use wire::nslcd::{Key, Map, Request};

pub(crate) const BASE: &str = "dc=example,dc=com";
/// Days since 1970 on which the tests run.
pub(crate) const TODAY: i64 = 20_000;

const LDIF: &str = "\
dn: dc=example,dc=com
objectClass: domain
dc: example

dn: uid=alice,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
objectClass: shadowAccount
uid: alice
cn: Alice
sn: A
uidNumber: 1001
gidNumber: 2001
gecos: Alice A
homeDirectory: /home/a
loginShell: /bin/bash
userPassword: secret
shadowLastChange: 19990
shadowMax: 90

dn: cn=Bob B,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
objectClass: shadowAccount
uid: bob
uid: robert
cn: Bob B
sn: B
uidNumber: 1002
gidNumber: 2001
userPassword: builder
shadowLastChange: 19000
shadowMax: 90

dn: cn=Old,dc=example,dc=com
objectClass: inetOrgPerson
objectClass: posixAccount
objectClass: shadowAccount
uid: old
cn: Old
sn: O
uidNumber: 5
gidNumber: 2001
userPassword: older
shadowExpire: 19000

dn: cn=one,dc=example,dc=com
objectClass: posixAccount
uid: twin
uidNumber: 1010
gidNumber: 2001
cn: one
userPassword: one

dn: cn=two,dc=example,dc=com
objectClass: posixAccount
uid: twin
uidNumber: 1011
gidNumber: 2001
cn: two
userPassword: two

dn: uid=odd name:,dc=example,dc=com
objectClass: posixAccount
uid: odd name:
uidNumber: 1012
gidNumber: 2001
cn: odd

dn: uid=unfinished,dc=example,dc=com
objectClass: posixAccount
uid: unfinished
uidNumber: -3
gidNumber: 2001
cn: unfinished

dn: cn=staff,dc=example,dc=com
objectClass: posixGroup
cn: staff
gidNumber: 2001
memberUid: alice
memberUid: zoe
member: cn=Bob B,dc=example,dc=com
member: cn=gone,dc=example,dc=com
member: cn=inner,dc=example,dc=com

dn: cn=inner,dc=example,dc=com
objectClass: posixGroup
cn: inner
gidNumber: 2002
member: uid=alice,dc=example,dc=com
member: cn=staff,dc=example,dc=com
member: cn=Old,dc=example,dc=com

dn: cn=empty,dc=example,dc=com
objectClass: posixGroup
cn: empty
gidNumber: 2003
";

pub(crate) fn maps(schema: Schema) -> Maps {
    Maps::new(schema, BASE)
}

pub(crate) fn settings(maps: Maps) -> Settings {
    Settings {
        answers: Answers::Directory(Arc::new(maps)),
        password_prohibited: None,
        answer_bytes_max: 1 << 20,
    }
}

pub(crate) fn passwd<'a>(key: Key<'a>) -> Request<'a> {
    Request::Look { map: Map::Passwd, key }
}

pub(crate) fn group<'a>(key: Key<'a>) -> Request<'a> {
    Request::Look { map: Map::Group, key }
}

pub(crate) struct World {
    pub(crate) directory: Directory,
    /// What is asked with this number, from 0, is not answered.
    pub(crate) fails: Option<usize>,
    pub(crate) asked: usize,
    own: LocalSession,
}

impl World {
    pub(crate) fn new() -> World {
        World {
            directory: Directory::load(LDIF.as_bytes(), "test.ldif", None, 0).expect("an LDIF file"),
            fails: None,
            asked: 0,
            own: LocalSession::default(),
        }
    }

    /// The whole conversation about one question; all bytes of the answer.
    pub(crate) fn ask(&mut self, request: &Request<'_>, settings: &Settings, uid: u32) -> Vec<u8> {
        let mut frame = Vec::new();
        request.write(&mut frame);
        let mut session = Session::new(Circumstances {
            uid: Some(uid),
            today: TODAY,
            number: 7,
        });
        let mut out = Vec::new();
        self.asked = 0;
        let mut next = session.receive(&frame, settings, &mut out);
        while next == Next::Wait {
            let mut questions = Vec::new();
            while let Some(question) = session.question() {
                questions.push(question);
            }
            assert!(!questions.is_empty(), "it waits for nothing");
            for question in questions {
                for event in &self.answer(&question) {
                    if next == Next::Wait {
                        next = event.tell(|event| session.told(question.id, event, settings, &mut out));
                    }
                }
            }
        }
        assert!(session.question().is_none(), "it asks on after its end");
        out
    }

    /// What comes back for a question, or that nothing does.
    pub(crate) fn answer(&mut self, question: &Question) -> Vec<Told> {
        let number = self.asked;
        self.asked += 1;
        if self.fails == Some(number) {
            return vec![Told::Failed];
        }
        let mut fresh = LocalSession::default();
        let session = if question.to == To::Own {
            &mut self.own
        } else {
            &mut fresh
        };
        let mut out = Vec::new();
        let bounds = Bounds::default();
        let _ = self.directory.answer(session, &question.bytes, &mut out, &bounds);
        let mut told = Vec::new();
        let mut rest = out.as_slice();
        while let Step::Frame { len } = envelope::split(rest, usize::MAX) {
            told.push(Told::Message(rest[..len].to_vec()));
            rest = &rest[len..];
        }
        told
    }
}

/// An event that is kept.
pub(crate) enum Told {
    Message(Vec<u8>),
    Failed,
}

impl Told {
    pub(crate) fn tell<R>(&self, to: impl FnOnce(&Event<'_>) -> R) -> R {
        let Told::Message(frame) = self else {
            return to(&Event::Failed);
        };
        let env = envelope::peek(frame).expect("a message");
        if env.tag == tag::SEARCH_ENTRY {
            return to(&Event::Entry(message::read_entry(env.op).expect("an entry")));
        }
        let end = result::read_result(env.op).expect("a result");
        to(&Event::Done(Final {
            code: end.code,
            diagnostic: end.diagnostic,
            controls: env.controls,
        }))
    }
}

/// The answer that is expected: what `write` puts between beginning and end.
pub(crate) fn answered(request: &Request<'_>, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    wire::nslcd::begin(&mut out, request.action());
    write(&mut out);
    wire::nslcd::end(&mut out);
    out
}
