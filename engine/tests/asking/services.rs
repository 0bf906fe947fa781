//! NSS's and PAM's questions to a service: the calls that are made, and what the statuses become.

use engine::ask::Event;
use engine::session::nss_pam::{Answers, Circumstances, Next, Session, Settings};
use serde_json::{Value, json};
use wire::nslcd::{self, Key, Map, Pam, Passwd, Request, Who};

use crate::world::{TODAY, answered, group, passwd};

/// The calls that a question makes, and its answer, where the service says these things in turn.
fn ask(request: &Request<'_>, uid: u32, replies: &[&str]) -> (Vec<Value>, Vec<u8>) {
    let settings = Settings {
        answers: Answers::Service,
        password_prohibited: None,
        answer_bytes_max: 1 << 20,
    };
    let mut session = Session::new(Circumstances {
        uid: Some(uid),
        today: TODAY,
        number: 7,
    });
    let (mut frame, mut out, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    request.write(&mut frame);
    let mut next = session.receive(&frame, &settings, &mut out);
    let mut replies = replies.iter();
    while next == Next::Wait {
        let question = session.question().expect("it waits for something");
        calls.push(serde_json::from_slice(&question.bytes).expect("JSON"));
        let event = match replies.next() {
            Some(reply) => Event::Answer(reply.as_bytes()),
            None => Event::Failed,
        };
        next = session.told(question.id, &event, &settings, &mut out);
    }
    (calls, out)
}

#[test]
fn lookups_are_calls() {
    let request = passwd(Key::Name(b"alice"));
    let reply = r#"{"status":"ok","entries":[{"name":"alice","uid":100000,"gid":100001,"gecos":"Alice","dir":"/home/alice","shell":"/bin/bash"}]}"#;
    let (calls, out) = ask(&request, 1, &[reply]);
    assert_eq!(calls, [json!({"do":"passwd","name":"alice"})]);
    let alice = Passwd {
        name: b"alice",
        password: b"*",
        uid: 100_000,
        gid: 100_001,
        gecos: b"Alice",
        home: b"/home/alice",
        shell: b"/bin/bash",
    };
    assert_eq!(out, answered(&request, |out| nslcd::passwd(out, &alice)));

    let (calls, _) = ask(&passwd(Key::Id(5)), 1, &[reply]);
    assert_eq!(calls, [json!({"do":"passwd","uid":5})]);
    let (calls, _) = ask(&group(Key::Id(5)), 1, &[r#"{"status":"not-found"}"#]);
    assert_eq!(calls, [json!({"do":"group","gid":5})]);

    let request = group(Key::Member(b"alice"));
    let (calls, out) = ask(&request, 1, &[r#"{"status":"ok","gids":[7,"x",-1,8]}"#]);
    assert_eq!(calls, [json!({"do":"initgroups","name":"alice"})]);
    let expected = answered(&request, |out| {
        nslcd::group(out, b"7", b"*", 7, std::iter::empty());
        nslcd::group(out, b"8", b"*", 8, std::iter::empty());
    });
    assert_eq!(out, expected);
}

#[test]
fn lists_come_in_pieces() {
    let request = group(Key::All);
    let replies = [
        r#"{"status":"ok","entries":[{"name":"a","gid":1,"members":["x","y"]}],"cursor":[1,"k"]}"#,
        r#"{"status":"ok","entries":[{"name":"b","gid":2},{"name":"bad\n","gid":3},{"name":"c"}],"cursor":null}"#,
    ];
    let (calls, out) = ask(&request, 1, &replies);
    assert_eq!(calls, [json!({"do":"group"}), json!({"do":"group","cursor":[1,"k"]})]);
    let expected = answered(&request, |out| {
        nslcd::group(out, b"a", b"*", 1, [b"x".as_slice(), b"y"].into_iter());
        nslcd::group(out, b"b", b"*", 2, std::iter::empty());
    });
    assert_eq!(out, expected);
    let (_, out) = ask(&request, 1, &replies[..1]);
    assert!(!out.ends_with(&[0, 0, 0, 2]), "half a list has no end");
}

#[test]
fn what_cannot_be_asked_is_not_an_answer() {
    for request in [
        passwd(Key::Name(b"alice")),
        passwd(Key::All),
        group(Key::Member(b"alice")),
    ] {
        for reply in [
            r#"{"status":"unavailable"}"#,
            r#"{"status":"invalid"}"#,
            r#"{"status":"wrong-password"}"#,
            r#"{"status":7}"#,
            r#"{"status":"ok"}"#,
            r#"{"status":"ok","entries":{},"gids":7}"#,
            r#"{"status":"ok","entries":null,"gids":null}"#,
            "[]",
            "",
        ] {
            let (_, out) = ask(&request, 1, &[reply]);
            assert_eq!(out.len(), 8, "{request:?} {reply}");
        }
        assert_eq!(ask(&request, 1, &[]).1.len(), 8);
        let (_, out) = ask(&request, 1, &[r#"{"status":"not-found"}"#]);
        assert_eq!(out, answered(&request, |_| {}));
    }
}

#[test]
fn an_entry_that_cannot_be_read_is_not_an_absent_one() {
    let by_name = passwd(Key::Name(b"alice"));
    for entry in [
        "7",
        "{}",
        r#"{"name":"alice"}"#,
        r#"{"name":"alice","uid":1}"#,
        r#"{"name":"alice","uid":"1","gid":1}"#,
        r#"{"name":"alice","uid":4294967296,"gid":1}"#,
        r#"{"name":null,"uid":1,"gid":1}"#,
    ] {
        let reply = format!(r#"{{"status":"ok","entries":[{entry}]}}"#);
        assert_eq!(ask(&by_name, 1, &[&reply]).1.len(), 8, "{entry}");
    }
    let (_, out) = ask(&by_name, 1, &[r#"{"status":"ok","entries":[]}"#]);
    assert_eq!(out, answered(&by_name, |_| {}), "an empty list has no entries");
    let (_, out) = ask(&group(Key::Id(7)), 1, &[r#"{"status":"ok","entries":[{"name":"g"}]}"#]);
    assert_eq!(out.len(), 8);
}

#[test]
fn only_root_asks_for_ages() {
    let request = Request::Look {
        map: Map::Shadow,
        key: Key::Name(b"alice"),
    };
    assert_eq!(ask(&request, 1000, &[]), (vec![], answered(&request, |_| {})));
    assert_eq!(ask(&request, 0, &[]).0, [json!({"do":"passwd","name":"alice"})]);
    let hosts = Request::Look {
        map: Map::Host,
        key: Key::Name(b"gate"),
    };
    assert_eq!(ask(&hosts, 0, &[]), (vec![], answered(&hosts, |_| {})));
}

#[test]
fn every_status_of_an_authentication_has_its_meaning() {
    let who = Who {
        user: b"alice",
        service: b"login",
        rhost: b"gate",
        ..Who::default()
    };
    let request = Request::Authc { who, password: b"pw" };
    let (calls, _) = ask(&request, 1, &[]);
    assert_eq!(
        calls,
        [json!({"do":"authenticate","name":"alice","password":"pw","service":"login","host":"gate"})]
    );
    for (status, verdict) in [
        ("ok", Some((Pam::Success, Pam::Success))),
        ("wrong-password", Some((Pam::AuthError, Pam::Success))),
        ("disabled", Some((Pam::AccountExpired, Pam::AccountExpired))),
        ("expired", Some((Pam::AccountExpired, Pam::AccountExpired))),
        ("password-expired", Some((Pam::Success, Pam::NewAuthTokenRequired))),
        ("must-change", Some((Pam::Success, Pam::NewAuthTokenRequired))),
        ("locked-out", Some((Pam::MaxTries, Pam::MaxTries))),
        ("restricted", Some((Pam::PermissionDenied, Pam::PermissionDenied))),
        ("denied", Some((Pam::PermissionDenied, Pam::PermissionDenied))),
        ("unavailable", None),
        ("invalid", None),
        ("unsupported", None),
        ("new", None),
    ] {
        let reply = json!({"status": status, "message": "because", "name": "Alice"}).to_string();
        let (_, out) = ask(&request, 1, &[&reply]);
        let expected = answered(&request, |out| {
            if let Some((password, account)) = verdict {
                nslcd::authc(out, password, b"Alice", account, b"because");
            }
        });
        match verdict {
            Some(_) => assert_eq!(out, expected, "{status}"),
            None => assert_eq!(out, expected[..8], "{status}"),
        }
    }
    let (_, out) = ask(&request, 1, &[r#"{"status":"not-found"}"#]);
    assert_eq!(out, answered(&request, |_| {}), "the module says: no such user");
    let empty = Request::Authc { who, password: b"" };
    let (calls, out) = ask(&empty, 1, &[]);
    assert!(calls.is_empty());
    assert_eq!(
        out,
        answered(&empty, |out| nslcd::authc(
            out,
            Pam::AuthError,
            b"alice",
            Pam::Success,
            b""
        ))
    );
}

#[test]
fn accounts_sessions_and_changes_are_calls() {
    let who = Who {
        user: b"alice",
        tty: b"pts/0",
        ..Who::default()
    };
    let account = Request::Authz(who);
    let (calls, out) = ask(&account, 1, &[r#"{"status":"expired","message":"gone"}"#]);
    assert_eq!(calls, [json!({"do":"account","name":"alice","tty":"pts/0"})]);
    assert_eq!(
        out,
        answered(&account, |out| nslcd::verdict(out, Pam::AccountExpired, b"gone"))
    );
    let (_, out) = ask(&account, 1, &[r#"{"status":"unsupported"}"#]);
    assert_eq!(out, answered(&account, |out| nslcd::verdict(out, Pam::Success, b"")));
    assert_eq!(ask(&account, 1, &[r#"{"status":"unavailable"}"#]).1.len(), 8);

    let open = Request::SessionOpen(who);
    let (_, out) = ask(&open, 1, &[r#"{"status":"ok","session":"s1"}"#]);
    assert_eq!(out, answered(&open, |out| nslcd::text(out, b"s1")));
    let (_, out) = ask(&open, 1, &[r#"{"status":"unsupported"}"#]);
    assert_eq!(out, answered(&open, |out| nslcd::text(out, b"usherd-0000000000000007")));

    let close = Request::SessionClose { who, session: b"s1" };
    let (calls, out) = ask(&close, 1, &[r#"{"status":"ok"}"#]);
    assert_eq!(
        calls,
        [json!({"do":"close-session","name":"alice","tty":"pts/0","session":"s1"})]
    );
    assert_eq!(out, answered(&close, nslcd::nothing));
    for request in [&open, &close] {
        let (_, out) = ask(request, 1, &[r#"{"status":"not-found"}"#]);
        assert_eq!(
            out,
            answered(request, |_| {}),
            "a user that is not known has no session"
        );
        assert_eq!(ask(request, 1, &[r#"{"status":"unavailable"}"#]).1.len(), 8);
    }

    let change = Request::PasswordModify {
        who,
        as_root: false,
        old: b"old",
        new: b"new",
    };
    let (calls, out) = ask(&change, 1, &[r#"{"status":"restricted","message":"too short"}"#]);
    assert_eq!(
        calls,
        [json!({"do":"change-password","name":"alice","tty":"pts/0","old_password":"old","new_password":"new"})]
    );
    assert_eq!(
        out,
        answered(&change, |out| nslcd::verdict(out, Pam::AuthTokenError, b"too short"))
    );
    let (_, out) = ask(&change, 1, &[r#"{"status":"wrong-password"}"#]);
    let expected = answered(&change, |out| {
        nslcd::verdict(out, Pam::PermissionDenied, b"wrong-password")
    });
    assert_eq!(out, expected);
    let (_, out) = ask(&change, 1, &[r#"{"status":"ok"}"#]);
    assert_eq!(out, answered(&change, |out| nslcd::verdict(out, Pam::Success, b"")));
}
