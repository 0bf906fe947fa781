//! SASL binds: steps, what ends them, and EXTERNAL.

use super::*;

fn step(id: i32, mechanism: &str, credentials: Option<&[u8]>) -> Vec<u8> {
    written(|out| message::write_sasl_bind(out, id, b"", mechanism, credentials))
}

/// A client whose bind the server has asked for another step.
fn half_way() -> (Client, Ticket) {
    let mut client = Client::new();
    assert!(
        matches!(client.says(&step(1, "SCRAM-SHA-1", Some(b"x"))), Next::Submit(s) if s.bind && s.class.lane == lane::BIND)
    );
    let ticket = client.ticket();
    assert!(client.session.is_sasl());
    assert_eq!(client.session.stepped(1, ticket), Ended::Deliver);
    (client, ticket)
}

#[test]
fn the_steps_of_a_bind_have_one_ticket() {
    let (mut client, ticket) = half_way();
    assert_eq!(client.says(&search(2)), Next::Done);
    assert_eq!(client.answer(), (2, code::OPERATIONS_ERROR));
    assert_eq!(client.says(&step(3, "scram-sha-1", Some(b"y"))), Next::Step(ticket));
    client.session.submitted(3, tag::BIND_REQUEST, ticket);
    assert_eq!(client.says(&search(4)), Next::Later, "a bind is in flight");
    assert_eq!(client.session.stepped(3, ticket), Ended::Deliver);
    assert_eq!(client.says(&step(3, "SCRAM-SHA-1", None)), Next::Step(ticket));
    client.session.submitted(3, tag::BIND_REQUEST, ticket);
    assert_eq!(client.session.answered(3, tag::BIND_REQUEST), Ended::Deliver);
    client.session.bound(Bound::As(b"dn:cn=ada"));
    assert_eq!(client.session.authzid(), b"dn:cn=ada");
    assert!(!client.session.is_sasl());
    assert!(matches!(client.says(&search(5)), Next::Submit(_)));
}

#[test]
fn another_bind_gives_the_ticket_up_once() {
    let others = [
        step(2, "PLAIN", Some(b"x")),
        step(2, "", None),
        step(2, "GSSAPI", None),
        bind(2, "cn=x", "secret"),
        bind(2, "cn=x", ""),
        controlled(&step(2, "SCRAM-SHA-1", None), control_oid::PROXIED_AUTHORIZATION),
    ];
    for other in others {
        let (mut client, ticket) = half_way();
        let next = client
            .session
            .receive(&peek(&other).unwrap(), &client.settings, |_| false, &mut client.out);
        assert!(
            matches!(next, Next::Submit(s) if s.bind) || next == Next::StartOver(None),
            "{next:?}"
        );
        let mut tickets = Vec::new();
        client.session.forget_others(2, &mut tickets);
        assert_eq!(tickets, [ticket]);
        client.session.forget_others(-1, &mut tickets);
        assert_eq!(tickets, [ticket], "handed out once");
    }
}

#[test]
fn what_is_given_up_does_not_end_the_request_that_has_its_id_now() {
    let (mut client, ticket) = half_way();
    client.says(&bind(1, "cn=x", "secret"));
    assert!(client.session.held_failed(1, ticket));
    assert!(!client.session.held_failed(1, client.ticket()));
    assert_eq!(client.session.answered(1, tag::BIND_REQUEST), Ended::Deliver);
}

#[test]
fn a_bind_that_is_lost_between_two_steps_is_told_to_the_next() {
    let (mut client, ticket) = half_way();
    assert!(client.session.held_failed(1, ticket));
    assert!(client.hears().is_empty());
    assert_eq!(client.says(&step(2, "SCRAM-SHA-1", None)), Next::Done);
    assert_eq!(client.answer(), (2, code::OTHER));
    assert!(
        matches!(client.says(&step(3, "SCRAM-SHA-1", None)), Next::Submit(_)),
        "then it begins anew"
    );
    let lost = Reason::UpstreamLost { delivered: true };
    client.session.failed(3, tag::BIND_REQUEST, lost, &mut client.out);
    assert_eq!(client.answer(), (3, code::OTHER));
    assert!(matches!(client.says(&search(4)), Next::Submit(_)));
}

#[test]
fn a_client_that_drains_between_two_steps_goes() {
    let (mut client, ticket) = half_way();
    assert_eq!(client.session.drain(Drain::Gentle, &mut client.out), Next::Close);
    assert_eq!(client.hears(), [GOODBYE]);
    let mut tickets = Vec::new();
    client.session.forget_others(-1, &mut tickets);
    assert_eq!(tickets, [ticket]);
}

#[test]
fn on_a_connection_of_its_own_each_step_is_a_bind() {
    let mut client = Client::pinned();
    for id in 1..4 {
        assert!(
            matches!(client.says(&step(id, "SCRAM-SHA-1", None)), Next::Submit(s) if s.bind && s.class.lane == lane::PINNED)
        );
        client.session.answered(id, tag::BIND_REQUEST);
        assert!(!client.session.is_sasl());
    }
    client.session.known_externally(Some(b"dn:cn=ada"));
    assert_eq!(client.says(&step(9, "EXTERNAL", None)), Next::Done);
    assert_eq!(client.answer(), (9, code::AUTH_METHOD_NOT_SUPPORTED));
}

#[test]
fn external_is_who_the_connection_says() {
    let mut client = Client::new();
    client.bind_as(1, "cn=x", "dn:cn=x");
    client.says(&search(2));
    assert_eq!(client.says(&step(3, "EXTERNAL", None)), Next::StartOver(None));
    assert_eq!(client.answer(), (3, code::INVALID_CREDENTIALS));
    assert_eq!(client.session.authzid(), b"");
    client.session.forget_others(-1, &mut Vec::new());
    client.session.known_externally(Some(b"dn:cn=ada"));
    for (credentials, answer, who) in [
        (None, code::SUCCESS, &b"dn:cn=ada"[..]),
        (Some(&b"dn:cn=x"[..]), code::UNWILLING_TO_PERFORM, b""),
        (Some(b""), code::SUCCESS, b"dn:cn=ada"),
        (Some(b"dn:cn=ada"), code::SUCCESS, b"dn:cn=ada"),
    ] {
        assert_eq!(client.says(&step(4, "EXTERNAL", credentials)), Next::Done);
        assert_eq!(client.answer(), (4, answer));
        assert_eq!(client.session.authzid(), who);
    }
    assert!(client.session.offers_external(&client.settings));
    // Whom the servers take that for, they say.
    assert!(matches!(
        client.says(&extended(5, oid::WHO_AM_I, None)),
        Next::Submit(_)
    ));
}
