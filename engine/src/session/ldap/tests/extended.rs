//! What is answered here: StartTLS, Cancel, Who am I?.

use super::*;

fn cancel(id: i32, target: i32) -> Vec<u8> {
    written(|out| message::write_cancel(out, id, target))
}

#[test]
fn starttls_is_answered_by_what_stands_in_its_way() {
    let with_tls = Settings {
        starttls: true,
        ..Settings::default()
    };
    let start = extended(5, oid::START_TLS, None);
    let mut client = Client::with(with_tls.clone());
    assert_eq!(client.says(&start), Next::StartTls);
    let out = std::mem::take(&mut client.out);
    let answer = result::read_result(peek(&out).unwrap().op).unwrap();
    assert_eq!(
        (answer.code, answer.name),
        (code::SUCCESS, Some(oid::START_TLS.as_bytes()))
    );

    client.session.tls_started();
    assert_eq!(client.says(&start), Next::Done);
    assert_eq!(client.answer(), (5, code::OPERATIONS_ERROR));

    let mut client = Client::with(with_tls.clone());
    client.says(&search(1));
    assert_eq!(client.says(&start), Next::Done);
    assert_eq!(client.answer(), (5, code::OPERATIONS_ERROR));
    client.says(&abandon(6, 1));
    assert_eq!(client.says(&start), Next::StartTls);

    let mut client = Client::new();
    assert_eq!(client.says(&start), Next::Done);
    assert_eq!(client.answer(), (5, code::UNAVAILABLE));

    let mut client = Client::with(with_tls.clone());
    assert_eq!(client.says(&extended(5, oid::START_TLS, Some(b""))), Next::Done);
    assert_eq!(client.answer(), (5, code::PROTOCOL_ERROR));
    // Over ldaps from the first byte.
    let mut client = Client::with(with_tls);
    client.session = Session::new(true);
    client.says(&start);
    assert_eq!(client.answer(), (5, code::OPERATIONS_ERROR));
}

#[test]
fn a_read_is_cancelled_at_once_wherever_it_is() {
    for sent in [false, true] {
        let compare = &operations(1)[1];
        for frame in [&search(1), compare] {
            let mut client = Client::new();
            client.says(frame);
            let of = client.ticket();
            if sent {
                client.sent.insert(of);
            }
            assert_eq!(client.says(&cancel(2, 1)), Next::Abandon(of));
            let ended = (1, answers(frame), Some(code::CANCELED));
            assert_eq!(
                client.hears(),
                [ended, (2, tag::EXTENDED_RESPONSE, Some(code::SUCCESS))]
            );
            assert_eq!(client.session.pending(), 0);
            client
                .session
                .failed(1, tag::SEARCH_REQUEST, Reason::Canceled, &mut client.out);
            assert_eq!(client.hears(), []);
        }
    }
}

#[test]
fn a_write_is_cancelled_until_it_is_sent() {
    for frame in operations(1).iter().take(7).skip(2) {
        let mut client = Client::new();
        client.says(frame);
        let of = client.ticket();
        client.sent.insert(of);
        assert_eq!(client.says(&cancel(2, 1)), Next::Done);
        assert_eq!((client.answer(), client.session.pending()), ((2, code::TOO_LATE), 1));
        client.sent.clear();
        assert_eq!(client.says(&cancel(2, 1)), Next::Abandon(of));
        let ended = (1, answers(frame), Some(code::CANCELED));
        assert_eq!(
            client.hears(),
            [ended, (2, tag::EXTENDED_RESPONSE, Some(code::SUCCESS))]
        );
    }
}

#[test]
fn a_cancel_of_nothing_says_so() {
    let mut client = Client::new();
    client.says(&search(1));
    // The third is the Cancel itself.
    for target in [0, 2, 3, i32::MAX] {
        assert_eq!(client.says(&cancel(3, target)), Next::Done);
        assert_eq!(client.answer(), (3, code::NO_SUCH_OPERATION));
    }
    for value in [
        None,
        Some(&b""[..]),
        Some(b"\x30\x00"),
        Some(b"\x30\x03\x02\x01\xff"),
        Some(b"\x02\x01\x01"),
    ] {
        assert_eq!(client.says(&extended(3, oid::CANCEL, value)), Next::Done);
        assert_eq!(client.answer(), (3, code::PROTOCOL_ERROR));
    }
    assert_eq!(client.session.pending(), 1);
}

/// A bind holds everything back, so this is asked only where the order of reading changes one day.
#[test]
fn a_bind_cannot_be_cancelled_nor_abandoned() {
    let mut client = Client::new();
    client
        .session
        .submitted(1, tag::BIND_REQUEST, Ticket(Handle::from_bits(1)));
    assert_eq!(client.says(&cancel(2, 1)), Next::Done);
    assert_eq!(client.answer(), (2, code::CANNOT_CANCEL));
    assert_eq!(client.says(&abandon(2, 1)), Next::Done);
    assert_eq!((client.hears(), client.session.pending()), (vec![], 1));
}

#[test]
fn who_am_i_is_answered_here_or_by_the_client_s_own_server() {
    let value = |client: &mut Client| {
        let out = std::mem::take(&mut client.out);
        let env = peek(&out).unwrap();
        let result = result::read_result(env.op).unwrap();
        assert_eq!((env.id, result.code, result.name), (3, code::SUCCESS, None));
        result.value.map(<[u8]>::to_vec)
    };
    let ask = extended(3, oid::WHO_AM_I, None);
    let mut client = Client::new();
    assert_eq!(client.says(&ask), Next::Done);
    // Anonymous is an empty answer, not none (RFC 4532 2.2).
    assert_eq!(value(&mut client).as_deref(), Some(&b""[..]));
    client.bind_as(1, "cn=ada", "u:ada");
    assert_eq!(client.says(&ask), Next::Done);
    assert_eq!(value(&mut client).as_deref(), Some(&b"u:ada"[..]));
    client.says(&extended(3, oid::WHO_AM_I, Some(b"")));
    assert_eq!(client.answer(), (3, code::PROTOCOL_ERROR));

    let mut client = Client::pinned();
    assert_eq!(client.says(&ask), Next::Done);
    assert_eq!(value(&mut client).as_deref(), Some(&b""[..]));
    client.bind_on(1, "cn=ada", 7);
    assert!(matches!(client.says(&ask), Next::Submit(s) if s.class.lane == lane::PINNED));
}

#[test]
fn extended_operations_that_are_not_ours_are_passed_on_and_never_repeated() {
    for oid in [oid::PASSWORD_MODIFY, oid::VERIFY_CREDENTIALS, "1.2.3.4"] {
        let mut client = Client::new();
        let next = client.says(&extended(1, oid, Some(b"x")));
        assert!(matches!(next, Next::Submit(s) if !s.class.retry && s.class.lane == lane::SHARED));
    }
}

#[test]
fn what_changes_whose_a_connection_is_travels_on_none_that_is_shared() {
    for oid in [oid::TURN, oid::FAST_BIND] {
        for mut client in [Client::new(), Client::pinned()] {
            assert_eq!(client.says(&extended(5, oid, Some(b"x"))), Next::Done);
            assert_eq!(client.answer(), (5, code::UNWILLING_TO_PERFORM));
        }
        let mut client = Client::pinned();
        client.bind_on(1, "cn=x", 7);
        let next = client.says(&extended(5, oid, Some(b"x")));
        assert!(matches!(next, Next::Submit(submit) if submit.pin.is_some()), "{next:?}");
    }
}
