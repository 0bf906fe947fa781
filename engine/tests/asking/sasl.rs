//! SASL's question to a directory and to a service.

use engine::ask::template::Template;
use engine::ask::{Event, To};
use engine::session::saslauthd::{Answers, Next, PLACES, Session};
use wire::ldap::grammar::Scope;
use wire::saslauthd::{Request, write_answer};

use crate::world::{BASE, World};

fn directory(filter: &str) -> Answers {
    Answers::Directory {
        bases: vec!["ou=nowhere,dc=example,dc=com".to_owned(), BASE.to_owned()],
        scope: Scope::Subtree,
        filter: Template::percents(filter, &PLACES).unwrap(),
    }
}

fn ask(world: &mut World, login: &str, password: &str, realm: &str, answers: &Answers) -> Vec<u8> {
    let request = Request {
        login: login.as_bytes(),
        password: password.as_bytes(),
        service: b"imap",
        realm: realm.as_bytes(),
    };
    let mut frame = Vec::new();
    request.write(&mut frame);
    let (mut session, mut out) = (Session::default(), Vec::new());
    world.asked = 0;
    let mut next = session.receive(&frame, answers, &mut out);
    while next == Next::Wait {
        let question = session.question().expect("it waits for something");
        for event in &world.answer(&question) {
            next = event.tell(|event| session.told(event, answers, &mut out));
        }
    }
    out
}

fn said(right: bool, why: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_answer(&mut out, right, why);
    out
}

#[test]
fn a_directory_says_yes_or_no_or_nothing() {
    let answers = directory("(uid=%u)");
    for (login, password, right, why) in [
        ("alice", "secret", true, ""),
        ("alice", "wrong", false, "wrong password"),
        ("alice", "", false, "a name or password is missing"),
        ("", "secret", false, "a name or password is missing"),
        ("nobody", "secret", false, "no such user"),
        ("*", "secret", false, "no such user"),
        ("twin", "one", false, "more than one entry has this name"),
    ] {
        let mut world = World::new();
        assert_eq!(
            ask(&mut world, login, password, "", &answers),
            said(right, why),
            "{login}"
        );
        for number in 0..world.asked {
            let mut world = World::new();
            world.fails = Some(number);
            assert!(
                ask(&mut world, login, password, "", &answers).is_empty(),
                "{login}, {number}"
            );
        }
    }
}

#[test]
fn the_filter_has_the_name_and_its_parts() {
    let mut world = World::new();
    let answers = directory("(&(uid=%U)(|(homeDirectory=/home/a)(cn=%d))(!(sn=%r)))");
    assert_eq!(ask(&mut world, "alice@x", "secret", "r", &answers), said(true, ""));
    assert_eq!(ask(&mut world, "bob@Bob B", "builder", "r", &answers), said(true, ""));
    assert_eq!(
        ask(&mut world, "bob@Bob B", "builder", "B", &answers),
        said(false, "no such user")
    );
}

#[test]
fn a_service_says_yes_or_no_or_nothing() {
    for (answer, expected) in [
        (r#"{"status":"ok"}"#, Some((true, ""))),
        (r#"{"status":"wrong-password"}"#, Some((false, "wrong password"))),
        (r#"{"status":"not-found"}"#, Some((false, "no such user"))),
        (r#"{"status":"must-change"}"#, Some((false, "must-change"))),
        (r#"{"status":"locked-out"}"#, Some((false, "locked-out"))),
        (r#"{"status":"unavailable"}"#, None),
        (r#"{"status":"invalid"}"#, None),
        (r#"{"status":"something new"}"#, None),
        ("garbage", None),
        ("", None),
    ] {
        let request = Request {
            login: b"al\"ice",
            password: b"se\\cret",
            service: b"imap",
            realm: b"example.com",
        };
        let mut frame = Vec::new();
        request.write(&mut frame);
        let (mut session, mut out) = (Session::default(), Vec::new());
        assert_eq!(session.receive(&frame, &Answers::Service, &mut out), Next::Wait);
        let question = session.question().expect("a call");
        assert_eq!(question.to, To::Service);
        let call: serde_json::Value = serde_json::from_slice(&question.bytes).expect("JSON");
        let expected_call = serde_json::json!({
            "do": "authenticate", "name": "al\"ice@example.com", "password": "se\\cret", "service": "imap"
        });
        assert_eq!(call, expected_call);
        let next = session.told(&Event::Answer(answer.as_bytes()), &Answers::Service, &mut out);
        assert_eq!(next, Next::Close);
        let expected = expected.map(|(right, why)| said(right, why)).unwrap_or_default();
        assert_eq!(out, expected, "{answer}");
    }
}
