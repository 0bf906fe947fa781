//! Who a client is, from its first bind to its last, and what its own message ids mean (RFC 4511 4.2, 4.11; RFC 3909).

use std::time::{Duration, Instant};

use crate::client::{Client, PATIENCE, message, with_controls};
use crate::ops::{self, present};
use crate::slapd::{BASE, EDITOR, PEOPLE, Slapd, code_dn, password, user};
use crate::usherd::{Setup, Usherd, server};

fn front() -> (Slapd, Usherd) {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]).start();
    (slapd, usherd)
}

/// A search that slapd answers after so many seconds.
fn slow(seconds: u32) -> Vec<u8> {
    ops::search(
        &code_dn(&format!("slow{seconds}")),
        ops::BASE,
        &present("objectClass"),
        &[],
    )
}

fn quick() -> Vec<u8> {
    ops::search(&user(9), ops::BASE, &present("uid"), &["description"])
}

#[test]
fn the_identity_is_that_of_the_last_answered_bind() {
    let (_slapd, usherd) = front();
    let mut client = Client::connect(&usherd.plain(0));
    assert_eq!(client.whoami(), "");
    client.bind(&user(1), &password(1));
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    client.bind(&user(2), &password(2));
    assert_eq!(client.whoami(), format!("dn:{}", user(2)));
    assert_eq!(client.one(&ops::bind(&user(1), "wrong")).code(), 49);
    assert_eq!(client.whoami(), "", "a failed bind leaves nobody");
    let secret = ops::search(&format!("ou=secret,{BASE}"), ops::BASE, &present("ou"), &[]);
    assert_eq!(client.call(&secret).len(), 1, "nobody reads the secret");
    client.bind(&user(1), &password(1));
    assert_eq!(client.call(&secret).len(), 2, "user1 does");
    client.bind("", "");
    assert_eq!(client.whoami(), "");
    assert_eq!(client.call(&secret).len(), 1);
    usherd.stop();
}

#[test]
fn a_name_in_other_letters_gets_the_identity_that_the_server_gives_it() {
    let (slapd, usherd) = front();
    let odd = "UID=User7 ,  ou=PEOPLE,dc=Example,dc=COM";
    let mut direct = Client::bound(&slapd.plain(), odd, &password(7));
    let mut client = Client::bound(&usherd.plain(0), odd, &password(7));
    assert_eq!(client.whoami(), direct.whoami());
    assert_eq!(client.whoami(), format!("dn:{}", user(7)));
    usherd.stop();
}

#[test]
fn an_empty_password_is_refused_and_leaves_nobody() {
    let (_slapd, usherd) = front();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let answer = client.one(&ops::bind(&user(1), ""));
    assert_eq!(answer.code(), 53, "{answer:?}");
    assert_eq!(client.whoami(), "");
    assert_eq!(client.one(&ops::bind(&format!("uid=nobody,{PEOPLE}"), "")).code(), 53);
    usherd.stop();
}

#[test]
fn a_client_may_not_bring_its_own_proxied_authorization() {
    let (_slapd, usherd) = front();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    for claim in [
        format!("dn:{}", user(2)),
        String::new(),
        format!("dn:{}", EDITOR.0),
        "u:admin".to_owned(),
    ] {
        for critical in [true, false] {
            let control = [(ops::OID_PROXIED, critical, Some(claim.clone().into_bytes()))];
            let asked = [
                ops::whoami(),
                quick(),
                ops::compare(&user(1), "cn", "x"),
                ops::modify(&user(2), &[(ops::REPLACE, "title", &["x"])]),
                ops::delete(&user(2)),
                ops::rename(&user(2), "uid=x", true, None),
                ops::add(&format!("cn=x,{BASE}"), &[("objectClass", &["device"])]),
                ops::password_modify(Some(&user(2)), None, Some("stolen")),
                ops::bind(&user(1), &password(1)),
            ];
            for op in asked {
                let answer = client.call(&with_controls(&op, &control));
                assert_eq!(
                    answer.last().map(crate::client::Message::code),
                    Some(53),
                    "{claim:?} {answer:?}"
                );
            }
            client.bind(&user(1), &password(1));
        }
    }
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}

#[test]
fn ldap_version_2_is_refused_with_protocol_error() {
    let (_slapd, usherd) = front();
    let mut client = Client::connect(&usherd.plain(0));
    let answer = client.one(&ops::bind_version(2, &user(1), &password(1)));
    assert_eq!(answer.code(), 2, "{answer:?}");
    client.until_closed(Duration::from_secs(5));
    usherd.stop();
}

#[test]
fn a_reused_message_id_harms_only_its_sender() {
    let (_slapd, usherd) = front();
    let mut other = Client::bound(&usherd.plain(0), &user(2), &password(2));
    let waiting = other.send(&slow(1));
    for op in [slow(1), ops::bind(&user(3), &password(3)), ops::whoami()] {
        let mut client = Client::connect(&usherd.plain(0));
        client
            .send_raw(&[message(5, &slow(2)), message(5, &op)].concat())
            .expect("sent");
        let said = client.until_closed(Duration::from_secs(5));
        assert!(
            said.iter().any(crate::client::Message::is_disconnection),
            "no notice of disconnection: {said:?}"
        );
    }
    let mut client = Client::connect(&usherd.plain(0));
    let bind = ops::bind(&user(3), &password(3));
    client
        .send_raw(&[message(1, &bind), message(1, &bind)].concat())
        .expect("sent");
    // The second is a reuse in time when it is looked at only after the first was answered: then both are binds.
    match client.collect(1, PATIENCE) {
        Ok(first) => assert_eq!(first[0].code(), 0, "{first:?}"),
        Err(gone) => assert_eq!(gone, crate::client::Gone::Closed),
    }
    assert_eq!(
        other
            .collect(waiting, PATIENCE)
            .map(|all| all.last().map(crate::client::Message::code)),
        Ok(Some(0))
    );
    assert_eq!(other.whoami(), format!("dn:{}", user(2)));
    usherd.stop();
}

#[test]
fn a_message_id_may_be_reused_as_soon_as_its_operation_is_answered() {
    let (_slapd, usherd) = front();
    let mut client = Client::bound(&usherd.plain(0), &user(2), &password(2));
    for number in 1..300 {
        let op = ops::search(&user(number), ops::BASE, &present("uid"), &["description"]);
        client.send_raw(&message(77, &op)).expect("sent");
        let found = client.collect(77, PATIENCE).expect("an answer");
        assert_eq!(found[0].values("description"), [format!("token-{number}")]);
    }
    client.send_raw(&message(i64::from(i32::MAX), &quick())).expect("sent");
    assert_eq!(
        client.collect(i64::from(i32::MAX), PATIENCE).map(|all| all.len()),
        Ok(2),
        "the greatest id (RFC 4511 4.1.1.1)"
    );
    usherd.stop();
}

#[test]
fn an_operation_during_a_bind_is_answered_after_it_and_as_its_identity() {
    let (_slapd, usherd) = front();
    for _ in 0..20 {
        let mut client = Client::connect(&usherd.plain(0));
        let bytes = [
            message(1, &ops::bind(&user(4), &password(4))),
            message(2, &ops::whoami()),
            message(3, &quick()),
        ];
        client.send_raw(&bytes.concat()).expect("sent");
        assert_eq!(
            client.receive(PATIENCE).map(|answer| (answer.id, answer.code())),
            Ok((1, 0))
        );
        let mut later: Vec<_> = (0..3).map(|_| client.receive(PATIENCE).expect("an answer")).collect();
        later.sort_by_key(|message| message.id);
        assert_eq!(
            later[0].response_value().as_deref(),
            Some(format!("dn:{}", user(4)).as_bytes()),
            "{later:?}"
        );
        assert_eq!(later[1].values("description"), ["token-9"]);
    }
    usherd.stop();
}

#[test]
fn a_bind_abandons_what_was_under_way() {
    let (_slapd, usherd) = front();
    let mut client = Client::bound(&usherd.plain(0), &user(4), &password(4));
    client.send(&slow(2));
    client.send(&slow(1));
    client.bind(&user(5), &password(5));
    client.expect_silence(Duration::from_millis(2_500));
    assert_eq!(client.whoami(), format!("dn:{}", user(5)));
    usherd.stop();
}

#[test]
fn an_abandoned_bind_leaves_nobody_and_the_next_one_counts() {
    let (_slapd, usherd) = front();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let bind = client.send(&ops::bind(&code_dn("slow1"), "x"));
    client.send(&ops::abandon(bind));
    // A bind cannot be abandoned (RFC 4511 4.11): it is answered, or was never done; either way nobody keeps user1.
    let end = Instant::now() + Duration::from_secs(4);
    let who = client.send(&ops::whoami());
    loop {
        let answer = client
            .receive(end.saturating_duration_since(Instant::now()))
            .expect("who am I? is answered");
        if answer.id == who {
            assert_ne!(
                answer.response_value(),
                Some(format!("dn:{}", user(1)).into_bytes()),
                "{answer:?}"
            );
            break;
        }
        assert_eq!(answer.id, bind, "{answer:?}");
    }
    client.bind(&user(2), &password(2));
    assert_eq!(client.whoami(), format!("dn:{}", user(2)));
    usherd.stop();
}

#[test]
fn abandons_are_silent_and_harmless_whatever_they_name() {
    let (_slapd, usherd) = front();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let slow_one = client.send(&slow(1));
    for named in [0, -1, 4_711, i64::from(i32::MAX), i64::from(i32::MIN)] {
        client.send(&ops::abandon(named));
    }
    let own = client.id();
    client.send_raw(&message(own, &ops::abandon(own))).expect("sent");
    let abandoned = client.send(&slow(2));
    client.send(&ops::abandon(abandoned));
    client.send(&ops::abandon(abandoned));
    assert_eq!(
        client
            .collect(slow_one, PATIENCE)
            .map(|all| all.last().map(crate::client::Message::code)),
        Ok(Some(0))
    );
    client.expect_silence(Duration::from_millis(2_000));
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}

#[test]
fn cancel_is_answered_for_itself_and_for_what_it_cancelled() {
    let (_slapd, usherd) = front();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let start = Instant::now();
    let victim = client.send(&slow(6));
    std::thread::sleep(Duration::from_millis(200));
    let cancel = client.send(&ops::cancel(victim));
    let mut answers = [
        client.receive(PATIENCE).expect("one"),
        client.receive(PATIENCE).expect("the other"),
    ];
    answers.sort_by_key(|message| message.id);
    assert_eq!(
        (answers[0].id, answers[0].code()),
        (victim, 118),
        "canceled: {answers:?}"
    );
    assert_eq!((answers[1].id, answers[1].code()), (cancel, 0), "{answers:?}");
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "not before the operation's own end: {:?}",
        start.elapsed()
    );
    assert_eq!(
        client.one(&ops::cancel(victim)).code(),
        119,
        "noSuchOperation, for it is over"
    );
    assert_eq!(client.one(&ops::cancel(4_711)).code(), 119);
    let own = client.id();
    client.send_raw(&message(own, &ops::cancel(own))).expect("sent");
    let answer = client.receive(PATIENCE).expect("an answer");
    assert!(matches!(answer.code(), 119 | 121), "a Cancel of itself: {answer:?}");
    usherd.stop();
}

#[test]
fn a_bind_cannot_be_cancelled() {
    let (_slapd, usherd) = front();
    let mut client = Client::connect(&usherd.plain(0));
    let bind = client.send(&ops::bind(&code_dn("slowbad"), "x"));
    let cancel = client.send(&ops::cancel(bind));
    let mut answers = [
        client.receive(PATIENCE).expect("one"),
        client.receive(PATIENCE).expect("the other"),
    ];
    answers.sort_by_key(|message| message.id);
    assert_eq!((answers[0].id, answers[0].code()), (bind, 49), "{answers:?}");
    // Known to be uncancellable while it runs (121); a request behind a bind is served after it, when it is over (119).
    assert_eq!(answers[1].id, cancel);
    assert!(matches!(answers[1].code(), 121 | 119), "{answers:?}");
    usherd.stop();
}

#[test]
fn an_unbind_closes_and_its_operations_are_given_up() {
    let (_slapd, usherd) = front();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    client.send(&slow(6));
    client.send(&ops::unbind());
    let said = client.until_closed(Duration::from_secs(2));
    assert!(said.is_empty(), "an unbind has no answer: {said:?}");
    usherd.until("the server has nothing pending", |status| {
        status["directories"][0]["servers"][0]["pending"] == 0
    });
    usherd.stop();
}

#[test]
fn with_identity_pinned_a_bind_belongs_to_its_client() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("identity = \"pinned\"", &[server(&slapd.url(), "")]).start();
    let mut clients: Vec<Client> = (1..=10)
        .map(|n| Client::bound(&usherd.plain(0), &user(n), &password(n)))
        .collect();
    for _ in 0..3 {
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.whoami(), format!("dn:{}", user(index + 1)));
        }
    }
    let answer = clients[4].one(&ops::modify(&user(5), &[(ops::REPLACE, "title", &["Pinned"])]));
    assert_eq!(answer.code(), 0, "{answer:?}");
    assert_eq!(
        clients[4]
            .one(&ops::modify(&user(6), &[(ops::REPLACE, "title", &["x"])]))
            .code(),
        50
    );
    let found = clients[5].call(&ops::search(&user(5), ops::BASE, &present("uid"), &["modifiersName"]));
    assert_eq!(found[0].values("modifiersName"), [user(5)]);
    assert_eq!(clients[0].one(&ops::bind(&user(1), "wrong")).code(), 49);
    assert_eq!(clients[0].whoami(), "");
    assert_eq!(clients[1].whoami(), format!("dn:{}", user(2)));
    let control = [(ops::OID_PROXIED, true, Some(format!("dn:{}", user(3)).into_bytes()))];
    let answer = clients[1].one(&with_controls(&ops::whoami(), &control));
    assert_eq!(answer.code(), 123, "passed on, and refused by the server: {answer:?}");
    let mut nobody = Client::connect(&usherd.plain(0));
    assert_eq!(nobody.whoami(), "");
    assert_eq!(nobody.call(&quick()).len(), 2);
    // A bind that is refused on the way ends what was before it, not the client.
    assert_eq!(clients[2].one(&ops::bind(&user(3), "")).code(), 53);
    assert_eq!(clients[2].whoami(), "");
    assert_eq!(clients[2].call(&quick()).len(), 2);
    clients[2].bind(&user(4), &password(4));
    assert_eq!(clients[2].whoami(), format!("dn:{}", user(4)));
    usherd.stop();
}

#[test]
fn with_identity_pinned_a_lost_server_is_never_replaced_by_another_identity() {
    let mut slapd = Slapd::start();
    let usherd = Setup::corp(
        "identity = \"pinned\"\nretry_max = \"500ms\"",
        &[server(&slapd.url(), "")],
    )
    .start();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    slapd.revive();
    usherd.until("the server is up again", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    // Closed, or told that the bind is gone; but never served as nobody or as somebody else without being told.
    if let Ok(answer) = client.try_call(&ops::whoami()) {
        assert_ne!(answer[0].code(), 0, "served on as {:?}", answer[0].response_value());
    }
    let mut again = Client::bound(&usherd.plain(0), &user(1), &password(1));
    assert_eq!(again.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}
