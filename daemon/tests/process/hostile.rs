//! Clients that send what they should not, or half of it: only they feel it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::ber::{boolean, int, seq, text, tlv};
use crate::certificates::certificates;
use crate::client::{Client, Message, Target, message, with_controls};
use crate::load::Load;
use crate::ops::{self, equal, present};
use crate::proc::{alone, setting};
use crate::slapd::{BASE, Slapd, password, user};
use crate::usherd::{Setup, Usherd, listener_tls, server};

fn front(lines: &str) -> (Slapd, Usherd) {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]);
    let tls = listener_tls();
    let usherd = usherd.listen(
        "ldap",
        "127.0.0.1:0",
        &format!("directory = \"corp\"\nstarttls = true\n{tls}\n{lines}"),
    );
    (slapd, usherd.start())
}

/// A name for people, and octets.
type Kind = (&'static str, Vec<u8>);

/// Requests that are not what RFC 4511 allows, each complete as BER elements go (or never to be).
fn malformed() -> Vec<Kind> {
    [envelopes(), lengths(), searches(), filters(), controls(), others()].concat()
}

fn some_search() -> Vec<u8> {
    ops::search(BASE, ops::SUB, &present("cn"), &[])
}

fn envelopes() -> Vec<Kind> {
    let search = some_search();
    vec![
        (
            "no LDAPMessage at all",
            b"GET / HTTP/1.1\r\nHost: ldap\r\n\r\n".to_vec(),
        ),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(8)),
        ("an empty message", tlv(0x30, &[])),
        ("no operation", seq(0x30, &[int(0x02, 2)])),
        ("an id of nine octets", seq(0x30, &[tlv(0x02, &[1; 9]), search.clone()])),
        ("an empty id", seq(0x30, &[tlv(0x02, &[]), search.clone()])),
        ("a negative id", message(-5, &search)),
        ("id 0", message(0, &search)),
        ("an id above 2^31 - 1", message(1 << 31, &search)),
        ("an id that is a string", seq(0x30, &[text("2"), search])),
        ("an unknown operation", message(2, &tlv(0x7E, &[]))),
        (
            "a response",
            message(2, &seq(0x65, &[int(0x0A, 0), text(""), text("")])),
        ),
        ("a notice", message(0, &seq(0x78, &[int(0x0A, 2), text(""), text("")]))),
    ]
}

fn lengths() -> Vec<Kind> {
    let search = some_search();
    let mut shorter = ops::search(BASE, ops::SUB, &equal("cn", "x"), &[]);
    shorter.truncate(shorter.len() - 2);
    shorter[1] -= 2;
    let longer = [&search[2..], &[4, 0][..]].concat();
    vec![
        ("indefinite length", vec![0x30, 0x80, 0x02, 0x01, 0x02, 0x00, 0x00]),
        (
            "a length of 4 GiB",
            vec![0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF, 0x02, 0x01],
        ),
        (
            "eight octets of length",
            vec![0x30, 0x88, 0, 0, 0, 0, 0, 0, 0, 5, 2, 1, 2, 0x42, 0],
        ),
        (
            "a tag of several octets",
            vec![0x3F, 0x81, 0x01, 0x03, 0x02, 0x01, 0x02],
        ),
        ("a search cut short", message(2, &shorter)),
        ("a search with more behind", message(2, &tlv(0x63, &longer))),
        (
            "inner beyond outer",
            message(2, &[0x63, 0x05, 0x04, 0x20, b'd', b'c', b'=']),
        ),
    ]
}

fn searches() -> Vec<Kind> {
    let any = present("cn");
    let normal = ops::Search::default();
    let dereference = ops::Search {
        dereference: 7,
        ..normal
    };
    let size_limit = ops::Search {
        size_limit: -1,
        ..normal
    };
    vec![
        ("a scope that is none", message(2, &ops::search(BASE, 9, &any, &[]))),
        (
            "dereferencing that is none",
            message(2, &dereference.op(BASE, 0, &any, &[])),
        ),
        ("a negative size limit", message(2, &size_limit.op(BASE, 0, &any, &[]))),
    ]
}

fn filters() -> Vec<Kind> {
    let with = |filter: &[u8]| message(2, &ops::search(BASE, ops::SUB, filter, &[]));
    let deep = |depth: usize| (0..depth).fold(present("cn"), |filter, _| tlv(0xA2, &filter));
    let pieces = |pieces: &[u8]| seq(0xA4, &[text("cn"), tlv(0x30, pieces)]);
    vec![
        ("a filter that is none", with(&tlv(0xAF, b"x"))),
        ("a not of nothing", with(&tlv(0xA2, &[]))),
        ("a not of two", with(&tlv(0xA2, &present("cn").repeat(2)))),
        ("substrings of nothing", with(&pieces(&[]))),
        ("two initial substrings", with(&pieces(&tlv(0x80, b"a").repeat(2)))),
        ("an empty extensible match", with(&tlv(0xA9, &[]))),
        ("a filter 2,000 deep", with(&deep(2_000))),
        ("a filter 100,000 deep", with(&deep(100_000))),
    ]
}

fn controls() -> Vec<Kind> {
    let with = |inner: &[u8]| message(2, &[some_search(), tlv(0xA0, inner)].concat());
    let longer = seq(0x30, &[text("1.2.3"), boolean(true), text("x"), text("y")]);
    vec![
        ("controls that are no sequence", with(&text("x"))),
        ("a control without an OID", with(&seq(0x30, &[boolean(true)]))),
        ("a control with more behind", with(&longer)),
        (
            "bytes behind the controls",
            message(2, &[some_search(), tlv(0xA0, &[]), vec![4, 0]].concat()),
        ),
    ]
}

fn others() -> Vec<Kind> {
    let cancel = |value: &[u8]| message(2, &ops::extended(ops::OID_CANCEL, Some(value)));
    let password = ops::extended(ops::OID_PASSWORD_MODIFY, Some(b"\x30\x7f\x80"));
    let renames = |flag: &[u8]| message(2, &tlv(0x6C, &[text(BASE), text("dc=x"), flag.to_vec()].concat()));
    let bind = |parts: &[Vec<u8>]| message(2, &seq(0x60, parts));
    vec![
        ("a boolean of two octets", renames(&tlv(0x01, &[1, 1]))),
        ("a rename without its flag", renames(&[])),
        ("a compare without its assertion", message(2, &seq(0x6E, &[text(BASE)]))),
        ("an add without attributes", message(2, &seq(0x68, &[text(BASE)]))),
        ("an add without values", message(2, &ops::add("cn=x", &[("cn", &[])]))),
        (
            "a change of an unknown kind",
            message(2, &ops::modify(BASE, &[(9, "cn", &["x"])])),
        ),
        ("an unbind with content", message(2, &tlv(0x42, b"x"))),
        ("an abandon of nine octets", message(2, &tlv(0x50, &[1; 9]))),
        ("a bind without a version", bind(&[text(""), tlv(0x80, b"")])),
        (
            "a bind by an unknown way",
            bind(&[int(0x02, 3), text(""), tlv(0x8F, b"")]),
        ),
        ("an extended request without an OID", message(2, &tlv(0x77, &[]))),
        ("a Cancel of nothing", cancel(b"")),
        ("a Cancel of nonsense", cancel(b"\x30\x03\x04\x01x")),
        ("a password change of nonsense", message(2, &password)),
    ]
}

#[test]
fn twenty_malformed_requests_a_second_are_noticed_by_no_other_client() {
    let _machine = alone();
    let (_slapd, usherd) = front("");
    let load = Load {
        abandoned: 10,
        ..Load::new(&[usherd.plain(0), usherd.plain(1)], 16, 4)
    };
    let load = Load {
        rest: Duration::from_millis(2),
        ..load
    };
    let stop = AtomicBool::new(false);
    let target = usherd.plain(1);
    let kinds = malformed();
    let bad = setting("USHERD_TEST_MALFORMED", 200);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| load.run(u64::MAX, &stop));
        let mut client = Client::connect(&target);
        for (_, bytes) in kinds.iter().cycle().take(bad) {
            // It stays on one connection as long as it is let, as an attacker would.
            if client.send_raw(bytes).is_err() {
                client = Client::connect(&target);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        let tally = running.join().expect("the load ran");
        tally.assert_untroubled();
        assert!(tally.operations > 1_000, "{tally:#?}");
        eprintln!(
            "beside {bad} malformed requests {} operations of others, 0 failed",
            tally.operations
        );
    });
    usherd.stop();
}

#[test]
fn each_malformed_request_is_answered_or_its_sender_closed_within_two_seconds() {
    let (_slapd, usherd) = front("partial_timeout = \"1s\"");
    let mut victim = Client::bound(&usherd.plain(1), &user(1), &password(1));
    let mut wrong = Vec::new();
    for (name, bytes) in malformed() {
        let mut client = Client::bound(&usherd.plain(1), &user(3), &password(3));
        let _ = client.send_raw(&bytes);
        let end = Instant::now() + Duration::from_secs(3);
        let said = client.receive(end.saturating_duration_since(Instant::now()));
        let fine = match &said {
            // An answer of its own, or a notice of disconnection; never a success.
            Ok(answer) => answer.is_final() && answer.code() != 0,
            Err(gone) => *gone == crate::client::Gone::Closed,
        };
        if !fine {
            wrong.push(format!("{name}: {said:?}"));
        }
        assert_eq!(victim.whoami(), format!("dn:{}", user(1)), "after {name}");
        let found = victim.call(&ops::search(&user(2), ops::BASE, &present("uid"), &["description"]));
        assert_eq!(found[0].values("description"), ["token-2"], "after {name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    usherd.stop();
}

#[test]
fn malformed_controls_are_refused_on_every_operation() {
    let (_slapd, usherd) = front("");
    let paged = |value: Option<Vec<u8>>| {
        [
            (ops::OID_PROXIED, true, value),
            ("1.2.840.113556.1.4.319", true, Some(b"\x30\x7f".to_vec())),
        ]
    };
    for op in [
        ops::search(&user(1), ops::BASE, &present("uid"), &[]),
        ops::compare(&user(1), "cn", "x"),
        ops::delete(&user(1)),
        ops::modify(&user(1), &[(ops::REPLACE, "title", &["x"])]),
        ops::whoami(),
    ] {
        let mut client = Client::bound(&usherd.plain(0), &user(3), &password(3));
        match client.try_call(&with_controls(&op, &paged(None))) {
            Ok(answer) => assert!(matches!(answer.last().map(Message::code), Some(2 | 53)), "{answer:?}"),
            Err(gone) => assert_eq!(gone, crate::client::Gone::Closed),
        }
    }
    usherd.stop();
}

#[test]
fn a_request_too_large_closes_its_sender_and_one_just_small_enough_is_served() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("request_bytes_max = \"256KiB\"", &[server(&slapd.url(), "")]).start();
    let compare = |bytes: usize| ops::compare(&user(1), "description", &"x".repeat(bytes));
    let mut client = Client::connect(&usherd.plain(0));
    assert_eq!(client.one(&compare(200 * 1024)).code(), 5);
    let _ = client.send_raw(&message(9, &compare(300 * 1024)));
    client.until_closed(Duration::from_secs(5));
    usherd.stop();
}

#[test]
fn a_partial_request_is_closed_after_its_time_and_an_idle_bound_client_stays() {
    let (_slapd, usherd) = front("partial_timeout = \"1s\"");
    let mut idle = Client::bound(&usherd.plain(1), &user(1), &password(1));
    let start = Instant::now();
    let mut partial = Client::connect(&usherd.plain(1));
    let bytes = message(1, &ops::bind(&user(1), &password(1)));
    partial.send_raw(&bytes[..5]).expect("sent");
    partial.until_closed(Duration::from_secs(4));
    assert!(
        start.elapsed() >= Duration::from_millis(800),
        "closed too early: {:?}",
        start.elapsed()
    );
    // One octet now and then does not keep it open for ever.
    let start = Instant::now();
    let mut trickle = TcpStream::connect(("127.0.0.1", usherd.port(1))).expect("connected");
    trickle
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    let closed = bytes.iter().any(|octet| {
        let sent = trickle.write_all(&[*octet]).is_ok();
        let read = trickle.read(&mut [0; 64]);
        !sent || matches!(read, Ok(0)) || read.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
    });
    assert!(
        closed && start.elapsed() < Duration::from_secs(4),
        "trickled on for {:?}",
        start.elapsed()
    );
    // A TLS handshake that does not go on, likewise.
    let mut hello = Client::connect(&usherd.plain(1));
    hello.send_raw(&message(1, &ops::start_tls())).expect("sent");
    assert_eq!(hello.receive(Duration::from_secs(2)).map(|answer| answer.code()), Ok(0));
    hello.until_closed(Duration::from_secs(4));
    assert_eq!(idle.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}

#[test]
fn plain_text_behind_starttls_is_never_taken_for_what_came_inside() {
    let (_slapd, usherd) = front("");
    let injected = message(2, &ops::bind(&user(5), &password(5)));
    let mut client = Client::connect(&usherd.plain(1));
    client
        .send_raw(&[message(1, &ops::start_tls()), injected].concat())
        .expect("sent");
    match client.receive(Duration::from_secs(5)) {
        // Agreed: then the injected bytes must spoil the handshake, not become a request.
        Ok(answer) if answer.id == 1 && answer.code() == 0 => {
            let protected = client.protect(&certificates().ca());
            assert!(
                protected.is_err(),
                "the handshake went on although plain text came before it"
            );
        }
        Ok(answer) => assert_ne!(answer.code(), 0, "{answer:?}"),
        Err(gone) => assert_eq!(gone, crate::client::Gone::Closed),
    }
    usherd.stop();
}

#[test]
fn starttls_is_refused_when_it_cannot_be() {
    let (_slapd, usherd) = front("");
    let Target::StartTls(_, ca) = usherd.start_tls(1) else {
        panic!("StartTLS")
    };
    let mut plain = Client::connect(&usherd.plain(0));
    assert_eq!(plain.one(&ops::start_tls()).code(), 52, "this listener has none");
    let mut twice = Client::connect(&usherd.start_tls(1));
    assert_eq!(twice.one(&ops::start_tls()).code(), 1, "TLS is there already");
    assert_eq!(twice.whoami(), "");
    let mut busy = Client::connect(&usherd.plain(1));
    let slow = busy.send(&ops::search(
        &crate::slapd::code_dn("slow1"),
        ops::BASE,
        &present("cn"),
        &[],
    ));
    let asked = busy.send(&ops::start_tls());
    let answer = busy.receive(Duration::from_secs(5)).expect("an answer");
    assert_eq!((answer.id, answer.code()), (asked, 1), "operations are pending");
    assert_eq!(
        busy.collect(slow, Duration::from_secs(5))
            .map(|all| all.last().map(Message::code)),
        Ok(Some(0))
    );
    busy.start_tls(&ca).expect("now it may be");
    busy.bind(&user(1), &password(1));
    usherd.stop();
}

#[test]
fn starttls_leaves_no_identity_from_before_it_that_slapd_would_not() {
    let (slapd, usherd) = front("");
    let ca = certificates().ca();
    let identity_after = |target: &Target| {
        let mut client = Client::bound(target, &user(1), &password(1));
        client.start_tls(&ca).expect("StartTLS");
        client.whoami()
    };
    assert_eq!(identity_after(&usherd.plain(1)), identity_after(&slapd.plain()));
    usherd.stop();
}
