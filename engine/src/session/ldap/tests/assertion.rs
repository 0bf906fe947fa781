//! Clients that say as whom to act, where those may who are bound as the daemon itself.

use super::*;
use crate::session::ldap::identities::Identities;
use wire::ldap::control;

const OWN: &str = "dn:cn=usherd,dc=example";

fn own() -> Arc<Identities> {
    Arc::new(Identities::new([OWN]).unwrap().unwrap())
}

fn client() -> Client {
    Client::with(Settings {
        assertions: Some(own()),
        ..Settings::default()
    })
}

fn as_ada(frame: &[u8]) -> Vec<u8> {
    let ada = written(|out| control::proxied_authorization(out, b"u:ada"));
    with_controls(frame, &ada)
}

/// Whether its control would travel.
fn asserts(client: &Client, frame: &[u8]) -> bool {
    client.session.asserts(peek(frame).unwrap().controls, &own())
}

#[test]
fn who_is_bound_as_the_daemon_may_say_as_whom_to_act() {
    let mut client = client();
    client.bind_as(1, "cn=usherd", OWN);
    for (at, id) in (10..17).enumerate() {
        let frame = as_ada(&operations(id)[at]);
        assert!(
            matches!(client.says(&frame), Next::Submit(submit) if !submit.bind),
            "{id}"
        );
        assert!(asserts(&client, &frame));
        assert!(!asserts(&client, &search(id)));
    }
    // Who that is then is the server's to say; without it, ours.
    let asked = as_ada(&extended(20, oid::WHO_AM_I, None));
    assert!(matches!(client.says(&asked), Next::Submit(_)));
    assert_eq!(client.says(&extended(21, oid::WHO_AM_I, None)), Next::Done);
    assert_eq!(client.answer(), (21, code::SUCCESS));
}

#[test]
fn nobody_else_may_and_hears_what_slapd_says_to_two_such_controls() {
    for (dn, authzid) in [
        ("", ""),
        ("cn=ada", "dn:cn=ada,dc=example"),
        ("cn=USHERD", "dn:cn=USHERD,dc=example"),
        ("cn=usherd", "u:usherd"),
    ] {
        for (at, frame) in operations(4)[..7].iter().enumerate() {
            let mut client = client();
            if !dn.is_empty() {
                client.bind_as(1, dn, authzid);
            }
            let frame = as_ada(frame);
            assert_eq!(client.says(&frame), Next::Done, "{authzid} {at}");
            assert_eq!(client.hears(), [(4, answers(&frame), Some(code::PROTOCOL_ERROR))]);
            assert!(!asserts(&client, &frame));
        }
    }
}

#[test]
fn a_name_that_only_a_certificate_says_is_not_the_daemons() {
    let mut client = client();
    client.session.known_externally(Some(OWN.as_bytes()));
    client.says(&written(|out| {
        message::write_sasl_bind(out, 1, b"", "EXTERNAL", None);
    }));
    assert_eq!(client.answer(), (1, code::SUCCESS));
    assert_eq!(client.session.authzid(), OWN.as_bytes());
    assert_eq!(client.says(&as_ada(&search(2))), Next::Done);
    assert_eq!(client.answer(), (2, code::PROTOCOL_ERROR));
    assert!(!asserts(&client, &as_ada(&search(3))));
}

#[test]
fn a_bind_says_nothing_of_the_kind_and_takes_the_right_away() {
    let mut client = client();
    client.bind_as(1, "cn=usherd", OWN);
    assert_eq!(client.says(&as_ada(&bind(2, "cn=usherd", "secret"))), Next::Done);
    assert_eq!(client.answer(), (2, code::UNWILLING_TO_PERFORM));
    assert_eq!(client.says(&as_ada(&search(3))), Next::Done);
    assert_eq!(client.answer(), (3, code::PROTOCOL_ERROR));
}

#[test]
fn what_rfc_4370_does_not_know_is_passed_on_for_nobody() {
    let one = written(|out| control::proxied_authorization(out, b"u:ada"));
    let another = |oid: &str| written(|out| write_control(out, oid, true, Some(b"cn=x")));
    let unsound = [
        written(|out| write_control(out, control_oid::PROXIED_AUTHORIZATION, false, Some(b"u:ada"))),
        written(|out| write_control(out, control_oid::PROXIED_AUTHORIZATION, true, None)),
        [&one[..], &one].concat(),
        [&one[..], &another(control_oid::PROXIED_AUTHORIZATION_V1)].concat(),
        [&another(control_oid::GROUP_AUTHORIZATION)[..], &one].concat(),
        another(control_oid::PROXIED_AUTHORIZATION_V1),
        another(control_oid::RETAIN_IDENTITY),
    ];
    for controls in unsound {
        let mut client = client();
        client.bind_as(1, "cn=usherd", OWN);
        let frame = with_controls(&search(2), &controls);
        assert_eq!(client.says(&frame), Next::Done, "{controls:02x?}");
        assert_eq!(client.answer(), (2, code::UNWILLING_TO_PERFORM));
        assert!(!asserts(&client, &frame));
    }
}

#[test]
fn the_figures_are_not_told_to_whom_somebody_acts_as() {
    let mut client = client();
    client.settings.monitor = Some(own());
    client.bind_as(1, "cn=usherd", OWN);
    let figures = |id| written(|out| message::write_compare(out, id, monitor::BASE.as_bytes(), b"cn", b"usherd"));
    assert_eq!(client.says(&figures(2)), Next::Monitor);
    assert!(matches!(client.says(&as_ada(&figures(3))), Next::Submit(_)));
}
