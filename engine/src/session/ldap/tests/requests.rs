//! What is taken, how it is passed on, and what is refused.

use super::*;

#[test]
fn reads_may_be_asked_again_and_writes_may_not() {
    for (number, frame) in operations(1).iter().enumerate() {
        let mut client = Client::new();
        let Next::Submit(submit) = client.says(frame) else {
            panic!("operation {number} was not passed on")
        };
        let tag = peek(frame).unwrap().tag;
        let is_bind = tag == tag::BIND_REQUEST;
        let reads = matches!(tag, tag::SEARCH_REQUEST | tag::COMPARE_REQUEST | tag::BIND_REQUEST);
        assert_eq!(submit.class.retry, reads, "operation {number}");
        let lane = if is_bind { lane::BIND } else { lane::SHARED };
        assert_eq!((submit.class.lane, submit.bind, submit.pin), (lane, is_bind, None));
        let timeout = if tag == tag::SEARCH_REQUEST { 60 } else { 30 };
        assert_eq!(submit.timeout, Some(Span::from_secs(timeout)), "operation {number}");
        assert_eq!(submit.queue_wait_max, Span::from_secs(timeout));
        assert_eq!((client.hears(), client.session.pending()), (vec![], 1));
    }
}

#[test]
fn a_client_with_a_connection_of_its_own_is_served_there() {
    let mut client = Client::pinned();
    assert!(matches!(client.says(&search(1)), Next::Submit(s) if s.class.lane == lane::SHARED && s.pin.is_none()));
    assert!(matches!(client.says(&bind(2, "cn=x", "secret")),
        Next::Submit(s) if s.class.lane == lane::PINNED && s.class.retry && s.pin.is_none()));
    let mut client = Client::pinned();
    let own = client.bind_on(1, "cn=x", 7);
    for frame in operations(2) {
        let bind = answers(&frame) == tag::BIND_RESPONSE;
        let Next::Submit(submit) = client.says(&frame) else {
            panic!("{frame:02x?} was not passed on")
        };
        assert_eq!((submit.class.lane, submit.pin), (lane::PINNED, Some(own)));
        // What has been said on that connection before cannot be repeated on another.
        assert!(!(bind && submit.class.retry));
        client.session.answered(2, peek(&frame).unwrap().tag);
    }
}

#[test]
fn searches_that_stay_have_no_deadline_but_a_bounded_wait() {
    let endless = [
        control_oid::PERSISTENT_SEARCH,
        control_oid::SYNC_REQUEST,
        control_oid::CHANGE_NOTIFICATION,
    ];
    for oid in endless {
        let mut client = Client::new();
        let next = client.says(&controlled(&search(1), oid));
        assert!(matches!(next, Next::Submit(s) if s.timeout.is_none() && s.queue_wait_max == Span::from_secs(60)));
        // On a write such a control means nothing.
        let next = client.says(&controlled(&delete(2), oid));
        assert!(matches!(next, Next::Submit(s) if s.timeout == Some(Span::from_secs(30))));
    }
}

#[test]
fn a_malformed_request_is_told_and_ends_the_connection() {
    let no_filter = b"\x30\x0c\x02\x01\x01\x63\x07\x04\x00\x0a\x01\x02\x0a\x00";
    let a_response = written(|out| result::write_result(out, 1, tag::SEARCH_DONE, 0, b"", ""));
    let unknown = b"\x30\x05\x02\x01\x01\x5e\x00";
    for frame in [&no_filter[..], &a_response, unknown] {
        let mut client = Client::new();
        client.says(&search(5));
        assert_eq!(client.says(frame), Next::Close);
        assert_eq!(client.hears(), [NOTICE]);
        // The notice is the last thing that it hears.
        assert_eq!(client.says(&search(6)), Next::Done);
        assert_eq!(client.says(frame), Next::Done);
        assert_eq!(
            client.session.poisoned(wire::frame::Malformed::BadId, &mut client.out),
            Next::Close
        );
        client.session.drain(Drain::Now, &mut client.out);
        assert_eq!(client.hears(), []);
    }
}

#[test]
fn malformed_controls_are_answered_with_protocol_error_whatever_the_operation() {
    let broken: [&[u8]; 3] = [b"\x30\x05", b"\x30\x05\x04\x03abc", b"\x31\x00"];
    let crowd = written(|out| (0..65).for_each(|_| write_control(out, "1.1", false, None)));
    for controls in broken.into_iter().chain([&*crowd]) {
        for frame in operations(3)
            .iter()
            .chain([&extended(3, oid::WHO_AM_I, None), &extended(3, oid::START_TLS, None)])
        {
            let mut client = Client::new();
            let next = client.says(&with_controls(frame, controls));
            assert_eq!(next, Next::Done);
            assert_eq!(client.hears(), [(3, answers(frame), Some(code::PROTOCOL_ERROR))]);
            assert!(client.session.takes(&client.settings));
        }
        // What has no response cannot be refused; it is done (RFC 4511 4.1.11).
        let mut client = Client::new();
        client.says(&search(1));
        let of = client.ticket();
        assert_eq!(client.says(&with_controls(&abandon(2, 1), controls)), Next::Abandon(of));
        let unbind = written(|out| message::write_unbind(out, 3));
        assert_eq!(client.says(&with_controls(&unbind, controls)), Next::Unbind);
        assert_eq!(client.hears(), []);
    }
}

#[test]
fn what_a_client_itself_says_of_whom_it_acts_for_is_refused_on_every_operation() {
    for oid in [
        control_oid::PROXIED_AUTHORIZATION,
        control_oid::PROXIED_AUTHORIZATION_V1,
        control_oid::GROUP_AUTHORIZATION,
        control_oid::RETAIN_IDENTITY,
    ] {
        for frame in operations(4)
            .iter()
            .chain([&extended(4, oid::WHO_AM_I, None), &extended(4, oid::START_TLS, None)])
        {
            for mut client in [Client::new(), Client::pinned()] {
                client.says(&controlled(frame, oid));
                assert_eq!(client.hears(), [(4, answers(frame), Some(code::UNWILLING_TO_PERFORM))]);
                assert_eq!(client.session.pending(), 0);
            }
        }
        // Behind another control too.
        let mut controls = written(|out| write_control(out, control_oid::MANAGE_DSA_IT, false, None));
        write_control(&mut controls, oid, false, Some(b"dn:cn=other"));
        let mut client = Client::new();
        assert_eq!(client.says(&with_controls(&search(1), &controls)), Next::Done);
        assert_eq!(client.answer(), (1, code::UNWILLING_TO_PERFORM));
        // On a connection of the client's own the server judges it.
        let mut client = Client::pinned();
        client.bind_on(1, "cn=x", 7);
        assert!(matches!(client.says(&controlled(&search(2), oid)), Next::Submit(_)));
    }
}

#[test]
fn an_id_of_zero_or_one_in_use_ends_the_connection() {
    for frame in operations(0) {
        let mut client = Client::new();
        assert_eq!(client.says(&frame), Next::Close);
        assert_eq!(client.hears(), [NOTICE]);
    }
    for frame in operations(9) {
        let mut client = Client::new();
        client.says(&search(9));
        assert_eq!(client.says(&frame), Next::Close);
        assert_eq!(client.hears(), [NOTICE]);
    }
}

#[test]
fn an_id_is_free_again_once_its_request_has_ended() {
    let mut client = Client::new();
    client.says(&search(9));
    assert_eq!(client.session.answered(9, tag::SEARCH_REQUEST), Ended::Deliver);
    assert!(matches!(client.says(&delete(9)), Next::Submit(_)));
    client.says(&abandon(10, 9));
    assert!(matches!(client.says(&delete(9)), Next::Submit(_)));
    client
        .session
        .failed(9, tag::DELETE_REQUEST, Reason::Unavailable, &mut client.out);
    assert!(matches!(client.says(&delete(9)), Next::Submit(_)));
}

#[test]
fn while_a_bind_is_in_flight_nothing_else_is_taken_but_leave() {
    let mut client = Client::new();
    client.says(&bind(1, "cn=x", "secret"));
    let waiting = operations(2).into_iter().chain([
        abandon(2, 1),
        extended(2, oid::WHO_AM_I, None),
        // Not even looked at: it may be what it says only afterwards.
        b"\x30\x05\x02\x01\x01\x5e\x00".to_vec(),
    ]);
    for frame in waiting {
        assert_eq!(client.says(&frame), Next::Later);
    }
    assert_eq!(client.hears(), []);
    assert!(!client.session.takes(&client.settings));
    client.session.answered(1, tag::BIND_REQUEST);
    assert!(client.session.takes(&client.settings));
    assert!(matches!(client.says(&search(2)), Next::Submit(_)));
    client.says(&bind(3, "cn=x", "secret"));
    assert_eq!(client.says(&written(|out| message::write_unbind(out, 4))), Next::Unbind);
}

#[test]
fn a_full_client_waits_with_what_would_add_to_it_and_no_other() {
    let settings = Settings {
        pending_max: 2,
        ..Settings::default()
    };
    let mut client = Client::with(settings.clone());
    client.says(&search(1));
    assert!(client.session.takes(&settings));
    client.says(&search(2));
    assert!(!client.session.takes(&settings));
    for frame in operations(3).iter().take(7) {
        assert_eq!(client.says(frame), Next::Later);
    }
    assert!(matches!(client.says(&abandon(3, 1)), Next::Abandon(_)));
    assert!(matches!(client.says(&search(3)), Next::Submit(_)));
    assert_eq!(client.says(&search(4)), Next::Later);
    assert!(matches!(client.says(&bind(4, "cn=x", "secret")), Next::Submit(s) if s.bind));
    assert_eq!(client.session.pending(), 1);

    let mut client = Client::with(settings.clone());
    (1..=2).for_each(|id| assert!(matches!(client.says(&search(id)), Next::Submit(_))));
    assert_eq!(client.says(&written(|out| message::write_unbind(out, 3))), Next::Unbind);

    let mut client = Client::with(Settings {
        pending_max: 0,
        ..settings
    });
    (1..=5000).for_each(|id| assert!(matches!(client.says(&search(id)), Next::Submit(_))));
}

#[test]
fn an_abandoned_operation_is_heard_of_no_more() {
    let mut client = Client::new();
    client.says(&search(1));
    let of = client.ticket();
    assert_eq!(client.says(&abandon(2, 1)), Next::Abandon(of));
    client
        .session
        .failed(1, tag::SEARCH_REQUEST, Reason::Canceled, &mut client.out);
    assert_eq!(client.session.answered(1, tag::SEARCH_REQUEST), Ended::Drop);
    assert_eq!((client.hears(), client.session.pending()), (vec![], 0));
}

#[test]
fn abandons_of_nothing_are_ignored() {
    let mut client = Client::new();
    client.says(&search(1));
    for target in [-1, i32::MIN, 0, 2, 7, i32::MAX] {
        assert_eq!(client.says(&abandon(7, target)), Next::Done, "{target}");
    }
    // An abandon may bear any id, in use or not: nothing answers it.
    assert_eq!(client.says(&abandon(1, 5)), Next::Done);
    assert_eq!(client.says(&abandon(0, 5)), Next::Done);
    assert_eq!((client.hears(), client.session.pending()), (vec![], 1));
}

#[test]
fn an_unbind_is_the_last_that_is_taken() {
    let mut client = Client::new();
    client.says(&search(1));
    assert_eq!(client.says(&written(|out| message::write_unbind(out, 2))), Next::Unbind);
    assert_eq!(client.session.tickets().count(), 1);
    assert_eq!(client.says(&search(3)), Next::Done);
    assert_eq!(client.session.after_end(&mut client.out), Next::Done);
    assert_eq!(client.hears(), []);
}

#[test]
fn questions_about_figures_go_to_no_pool_and_only_readers_are_answered() {
    let readers = identities::Identities::new(["dn:uid=admin,dc=example"])
        .unwrap()
        .unwrap();
    let mut client = Client::with(Settings {
        monitor: Some(Arc::new(readers)),
        ..Settings::default()
    });
    let ask = |id: i32, base: &str| {
        let spec = SearchSpec {
            base: base.as_bytes(),
            scope: wire::ldap::grammar::Scope::Base,
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
            filter: message::FILTER_ANY_ENTRY,
            attributes: &[],
        };
        written(|out| message::write_search(out, id, &spec))
    };
    let below = "cn=x,CN=Usherd , cn=monitor";
    assert_eq!(client.says(&ask(1, below)), Next::Done);
    assert_eq!(client.answer(), (1, code::NO_SUCH_OBJECT), "a stranger");
    client.bind_as(2, "uid=other", "dn:uid=other,dc=example");
    assert_eq!(client.says(&ask(3, below)), Next::Done);
    assert_eq!(client.answer(), (3, code::INSUFFICIENT_ACCESS_RIGHTS), "somebody else");
    client.bind_as(4, "uid=admin", "dn:uid=admin,dc=example");
    for (id, elsewhere) in [(5, "cn=monitor"), (6, "cn=usherd,cn=monitor,dc=example"), (7, "")] {
        assert!(
            matches!(client.says(&ask(id, elsewhere)), Next::Submit(_)),
            "{elsewhere}"
        );
        client.session.answered(id, tag::SEARCH_REQUEST);
    }
    assert_eq!(client.says(&ask(8, monitor::BASE)), Next::Monitor);
    assert_eq!((client.hears(), client.session.pending()), (vec![], 1));
    // It is pending as all others are: its id is taken, it can be given up, and a bind is the end of it.
    assert_eq!(client.session.answered(8, tag::SEARCH_REQUEST), Ended::Deliver);
    assert_eq!(client.says(&ask(9, monitor::BASE)), Next::Monitor);
    assert_eq!(
        client.says(&written(|out| message::write_abandon(out, 10, 9))),
        Next::Abandon(Ticket::NONE)
    );
    assert_eq!(client.session.answered(9, tag::SEARCH_REQUEST), Ended::Drop);
    assert_eq!(client.says(&ask(11, monitor::BASE)), Next::Monitor);
    assert_eq!(client.says(&ask(11, monitor::BASE)), Next::Close, "the same id again");
    assert!(
        matches!(Client::new().says(&ask(1, monitor::BASE)), Next::Submit(_)),
        "where nobody may, it is a server's business"
    );
}
