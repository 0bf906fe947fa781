//! How requests end that no server answers, and how clients do.

use super::*;

/// Code by reason, for a search, a compare or bind, and anything that may have changed something.
const CODES: [(Reason, u32, u32, u32); 8] = [
    (Reason::Deadline, 3, 11, 11),
    (Reason::QueueTimeout, 51, 51, 51),
    (Reason::QueueFull, 51, 51, 51),
    (Reason::Unavailable, 52, 52, 52),
    (Reason::UpstreamLost { delivered: false }, 52, 52, 80),
    (Reason::UpstreamLost { delivered: true }, 52, 52, 80),
    (Reason::ShuttingDown, 52, 52, 52),
    (Reason::Canceled, 0, 0, 0),
];

#[test]
fn every_reason_has_its_code_for_every_operation() {
    for (reason, of_search, of_read, of_write) in CODES {
        for frame in operations(4) {
            let mut client = Client::new();
            client.says(&frame);
            let tag = peek(&frame).unwrap().tag;
            client.session.failed(4, tag, reason, &mut client.out);
            let code = match tag {
                tag::SEARCH_REQUEST => of_search,
                tag::COMPARE_REQUEST | tag::BIND_REQUEST => of_read,
                _ => of_write,
            };
            let told = (reason != Reason::Canceled).then_some((4, answers(&frame), Some(code)));
            assert_eq!(client.hears(), Vec::from_iter(told), "{reason:?} of {tag:#x}");
            // Once and for all.
            client.session.failed(4, tag, reason, &mut client.out);
            assert_eq!(client.session.answered(4, tag), Ended::Drop);
            assert_eq!((client.hears(), client.session.pending()), (vec![], 0));
            assert!(client.session.takes(&client.settings));
        }
    }
}

#[test]
fn a_client_that_reads_too_slowly_loses_its_operation_and_goes_on() {
    for frame in operations(4) {
        let mut client = Client::new();
        client.says(&frame);
        let tag = peek(&frame).unwrap().tag;
        client.session.too_slow(4, tag, &mut client.out);
        client.session.too_slow(4, tag, &mut client.out);
        assert_eq!(client.hears(), [(4, answers(&frame), Some(code::ADMIN_LIMIT_EXCEEDED))]);
        // A bind that is given up holds nothing back any more.
        assert!(matches!(client.says(&search(5)), Next::Submit(_)));
    }
}

#[test]
fn an_idle_client_is_told_goodbye_by_a_drain_of_any_level() {
    for level in [Drain::Gentle, Drain::Firm, Drain::Now] {
        let mut client = Client::new();
        assert_eq!(client.session.drain(level, &mut client.out), Next::Close);
        assert_eq!(client.hears(), [GOODBYE]);
        assert_eq!(client.says(&search(1)), Next::Done);
        assert_eq!(client.hears(), []);
    }
}

#[test]
fn a_busy_client_that_drains_gets_what_it_waits_for_and_nothing_new() {
    for level in [Drain::Gentle, Drain::Firm, Drain::Now] {
        let mut client = Client::new();
        client.says(&search(1));
        client.says(&delete(2));
        assert_eq!(client.session.drain(level, &mut client.out), Next::Done);
        for frame in operations(3) {
            assert_eq!(client.says(&frame), Next::Done);
            assert_eq!(client.hears(), [(3, answers(&frame), Some(code::UNAVAILABLE))]);
        }
        assert_eq!(client.session.answered(1, tag::SEARCH_REQUEST), Ended::Deliver);
        assert_eq!(client.session.after_end(&mut client.out), Next::Done);
        assert!(matches!(client.says(&abandon(4, 2)), Next::Abandon(_)));
        assert_eq!(client.session.after_end(&mut client.out), Next::Close);
        assert_eq!(client.hears(), [GOODBYE]);
        assert_eq!(client.session.after_end(&mut client.out), Next::Done);
        assert_eq!(client.hears(), []);
    }
}

#[test]
fn a_bind_that_is_in_flight_when_the_drain_begins_is_answered() {
    let mut client = Client::new();
    client.says(&bind(1, "cn=x", "secret"));
    assert_eq!(client.session.drain(Drain::Gentle, &mut client.out), Next::Done);
    assert_eq!(client.says(&search(2)), Next::Later);
    client.session.answered(1, tag::BIND_REQUEST);
    assert_eq!(client.session.after_end(&mut client.out), Next::Close);
    assert_eq!(client.hears(), [GOODBYE]);
}

#[test]
fn a_client_whose_own_connection_is_lost_hears_each_end_and_then_the_notice() {
    let mut client = Client::pinned();
    client.bind_on(1, "cn=x", 7);
    client.says(&search(2));
    client.says(&delete(3));
    let lost = Reason::UpstreamLost { delivered: false };
    client.session.failed(2, tag::SEARCH_REQUEST, lost, &mut client.out);
    assert_eq!(client.session.after_end(&mut client.out), Next::Done);
    client.session.failed(3, tag::DELETE_REQUEST, lost, &mut client.out);
    assert_eq!(client.session.after_end(&mut client.out), Next::Close);
    let (search, delete) = ((2, tag::SEARCH_DONE, Some(52)), (3, tag::DELETE_RESPONSE, Some(80)));
    assert_eq!(client.hears(), [search, delete, GOODBYE]);
    assert_eq!(client.session.pin_lost(&mut client.out), Next::Close);
    assert_eq!(client.hears(), []);
}

#[test]
fn an_idle_client_whose_own_connection_is_lost_is_told() {
    let mut client = Client::pinned();
    let own = client.bind_on(1, "cn=x", 7);
    assert_eq!(client.session.pin_lost(&mut client.out), Next::Close);
    assert_eq!(client.hears(), [GOODBYE]);
    // It is still to be released: that it is lost to the client does not say that it is gone.
    assert_eq!(client.session.pin(), Some(own));
}

/// The upstream may or may not have heard the bind, so who it is there nobody knows.
#[test]
fn a_bind_given_up_on_a_connection_of_its_own_ends_the_client() {
    let mut client = Client::pinned();
    client.bind_on(1, "cn=x", 7);
    client.says(&bind(2, "cn=y", "secret"));
    client.session.too_slow(2, tag::BIND_REQUEST, &mut client.out);
    client
        .session
        .failed(2, tag::BIND_REQUEST, Reason::Canceled, &mut client.out);
    assert_eq!(client.session.after_end(&mut client.out), Next::Close);
    assert_eq!(client.hears(), [(2, tag::BIND_RESPONSE, Some(11)), GOODBYE]);
}

#[test]
fn what_fails_on_shared_connections_ends_no_client() {
    for mut client in [Client::new(), Client::pinned()] {
        client.says(&search(1));
        let lost = Reason::UpstreamLost { delivered: true };
        client.session.failed(1, tag::SEARCH_REQUEST, lost, &mut client.out);
        assert_eq!(client.session.after_end(&mut client.out), Next::Done);
        assert_eq!(client.answer(), (1, code::UNAVAILABLE));
    }
}
