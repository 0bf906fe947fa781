//! Who a client is, and how it comes to be somebody.

use super::*;

fn who(client: &Client) -> &[u8] {
    client.session.authzid()
}

/// The control is what the other servers are told.
fn assert_is(client: &Client, authzid: &[u8]) {
    assert_eq!(who(client), authzid);
    match client.session.control() {
        None => assert!(authzid.is_empty()),
        Some(control) => {
            assert!(!authzid.is_empty());
            assert_eq!(control, written(|out| control::proxied_authorization(out, authzid)));
        }
    }
}

#[test]
fn nobody_is_somebody_before_a_bind() {
    assert_is(&Client::new(), b"");
    let anonymous = anonymous_control();
    let control = control::controls(&anonymous).next().unwrap().unwrap();
    assert_eq!((control.value, control.critical), (Some(&b""[..]), true));
}

#[test]
fn a_bind_makes_the_client_whom_the_server_says_or_what_was_typed() {
    let mut client = Client::new();
    client.says(&bind(1, "CN=Ada, DC=Example", "secret"));
    assert_eq!(client.session.bind_name(), b"CN=Ada, DC=Example");
    assert_is(&client, b"");
    client.session.answered(1, tag::BIND_REQUEST);
    client.session.bound(Bound::AsTyped);
    assert_is(&client, b"dn:CN=Ada, DC=Example");
    client.bind_as(2, "cn=ada", "u:ada");
    assert_is(&client, b"u:ada");
    // A server may take somebody for nobody.
    client.bind_as(3, "cn=ada", "");
    assert_is(&client, b"");
}

#[test]
fn a_failed_bind_leaves_the_client_anonymous() {
    let mut client = Client::new();
    client.bind_as(1, "cn=ada", "u:ada");
    client.says(&bind(2, "cn=ada", "wrong"));
    assert_is(&client, b"");
    // Answered, with another code than success: `bound` is not told.
    client.session.answered(2, tag::BIND_REQUEST);
    assert_is(&client, b"");
    client.bind_as(3, "cn=ada", "u:ada");
    client.says(&bind(4, "cn=ada", "secret"));
    client
        .session
        .failed(4, tag::BIND_REQUEST, Reason::Deadline, &mut client.out);
    assert_eq!(client.answer(), (4, code::ADMIN_LIMIT_EXCEEDED));
    assert_is(&client, b"");
    assert!(client.session.takes(&client.settings));
}

#[test]
fn an_anonymous_bind_is_passed_on_and_stays_anonymous() {
    let mut client = Client::new();
    client.bind_as(1, "cn=ada", "u:ada");
    assert!(matches!(client.says(&bind(2, "", "")), Next::Submit(s) if s.bind));
    client.session.answered(2, tag::BIND_REQUEST);
    client.session.bound(Bound::AsTyped);
    assert_is(&client, b"");
}

#[test]
fn a_name_without_a_password_is_refused_unless_it_is_allowed_and_is_nobody_then() {
    let mut client = Client::new();
    client.bind_as(1, "cn=ada", "u:ada");
    assert_eq!(client.says(&bind(2, "cn=ada", "")), Next::Done);
    assert_eq!(client.answer(), (2, code::UNWILLING_TO_PERFORM));
    assert_is(&client, b"");

    let mut client = Client::with(Settings {
        allow_unauthenticated_bind: true,
        ..Settings::default()
    });
    client.bind_as(1, "cn=ada", "u:ada");
    assert!(matches!(client.says(&bind(2, "cn=ada", "")), Next::Submit(_)));
    assert_eq!(client.session.bind_name(), b"");
    client.session.answered(2, tag::BIND_REQUEST);
    client.session.bound(Bound::AsTyped);
    assert_is(&client, b"");
}

#[test]
fn sasl_and_other_ways_to_bind_are_not_offered() {
    let sasl = written(|out| message::write_sasl_bind(out, 2, b"", "GSSAPI", Some(b"x")));
    // sicilyPackageDiscovery, as Windows asks.
    let sicily = written(|out| {
        let op = written(|op| {
            ber::nest(op, tag::BIND_REQUEST, |op| {
                ber::write_integer(op, ber::tag::INTEGER, 3);
                ber::write_bytes(op, ber::tag::OCTET_STRING, b"");
                ber::write_bytes(op, 0x89, b"");
            });
        });
        envelope::write(out, 2, &op, b"", b"");
    });
    for frame in [sasl, sicily] {
        let mut client = Client::new();
        client.bind_as(1, "cn=ada", "u:ada");
        assert_eq!(client.says(&frame), Next::Done);
        assert_eq!(
            client.hears(),
            [(2, tag::BIND_RESPONSE, Some(code::AUTH_METHOD_NOT_SUPPORTED))]
        );
        assert_is(&client, b"");
    }
}

#[test]
fn ldap_2_is_told_so_and_closed_without_a_notice() {
    let mut client = Client::new();
    let mut frame = bind(1, "cn=x", "secret");
    // The version is the first field.
    let at = frame.windows(3).rposition(|three| three == [2, 1, 3]).unwrap();
    frame[at + 2] = 2;
    assert_eq!(client.says(&frame), Next::Close);
    assert_eq!(client.hears(), [(1, tag::BIND_RESPONSE, Some(code::PROTOCOL_ERROR))]);
    assert_eq!(client.says(&search(2)), Next::Done);
    assert_eq!(client.hears(), []);
}

#[test]
fn a_bind_ends_what_came_before_it() {
    let mut client = Client::new();
    client.says(&search(1));
    client.says(&delete(2));
    client.says(&bind(3, "cn=ada", "secret"));
    assert_eq!(client.session.pending(), 1);
    assert_eq!(client.session.answered(1, tag::SEARCH_REQUEST), Ended::Drop);
    client
        .session
        .failed(2, tag::DELETE_REQUEST, Reason::Canceled, &mut client.out);
    assert_eq!(client.session.answered(3, tag::BIND_REQUEST), Ended::Deliver);
    assert_eq!(client.hears(), []);
}

/// Four binds that go no further than here.
fn refused(id: i32) -> [Vec<u8>; 4] {
    [
        bind(id, "cn=ada", ""),
        written(|out| message::write_sasl_bind(out, id, b"", "GSSAPI", None)),
        controlled(&bind(id, "cn=ada", "secret"), control_oid::PROXIED_AUTHORIZATION),
        with_controls(&bind(id, "cn=ada", "secret"), b"\x30\x05"),
    ]
}

#[test]
fn a_bind_that_is_refused_here_leaves_an_idle_client_anonymous_and_connected() {
    for frame in refused(3) {
        let mut client = Client::new();
        client.bind_as(1, "cn=ada", "u:ada");
        assert_eq!(client.says(&frame), Next::Done);
        assert_eq!(client.hears().len(), 1);
        assert_is(&client, b"");
        assert!(matches!(client.says(&search(4)), Next::Submit(_)));
    }
}

/// What waits would otherwise be sent under another identity than it was asked under.
#[test]
fn a_bind_that_is_refused_here_ends_the_operations_that_are_pending() {
    for frame in refused(3) {
        let mut client = Client::new();
        client.bind_as(1, "cn=ada", "u:ada");
        client.says(&search(2));
        assert_eq!(client.says(&frame), Next::StartOver(None));
        let heard = client.hears();
        assert_eq!((heard.len(), heard[0].0, heard[0].1), (1, 3, tag::BIND_RESPONSE));
        let mut tickets = Vec::new();
        client.session.forget_others(-1, &mut tickets);
        assert_eq!((tickets.len(), client.session.pending()), (1, 0));
        assert_is(&client, b"");
        assert!(matches!(client.says(&search(4)), Next::Submit(_)));
    }
}

/// Else it would go on as somebody it is no more, on a connection that is still bound.
#[test]
fn a_bind_that_is_refused_here_takes_the_client_s_own_connection_from_it() {
    let [no_password, sasl, _, malformed] = refused(2);
    for frame in [no_password, sasl, malformed] {
        let mut client = Client::pinned();
        let own = client.bind_on(1, "cn=ada", 7);
        assert_eq!(client.says(&frame), Next::StartOver(Some(own)));
        assert_eq!(client.session.pin(), None);
        assert_is(&client, b"");
        let Next::Submit(submit) = client.says(&search(3)) else {
            panic!("the client goes on, as nobody");
        };
        assert_eq!((submit.pin, submit.class.lane), (None, lane::SHARED));
    }
}

#[test]
fn starttls_makes_the_client_anonymous() {
    let settings = Settings {
        starttls: true,
        ..Settings::default()
    };
    let mut client = Client::with(settings);
    client.bind_as(1, "cn=ada", "u:ada");
    assert_eq!(client.says(&extended(2, oid::START_TLS, None)), Next::StartTls);
    assert_is(&client, b"");
}

#[test]
fn starttls_is_refused_on_a_connection_of_the_client_s_own_which_would_stay_bound() {
    let settings = Settings {
        starttls: true,
        proxied: false,
        ..Settings::default()
    };
    let mut client = Client::with(settings);
    client.bind_on(1, "cn=ada", 7);
    assert_eq!(client.says(&extended(2, oid::START_TLS, None)), Next::Done);
    assert_eq!(client.answer(), (2, code::OPERATIONS_ERROR));
    assert_is(&client, b"dn:cn=ada");
}
