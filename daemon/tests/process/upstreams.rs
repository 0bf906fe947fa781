//! How servers are reached: plain, StartTLS required or tried, ldaps, ldapi; and that a wrong certificate is not.

use std::time::Duration;

use crate::certificates::certificates;
use crate::client::Client;
use crate::ops::{self, present};
use crate::slapd::{Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

/// `tls = …` of a server, trusting the test authority.
fn trusting() -> String {
    format!("tls = {{ ca_file = \"{}\" }},", certificates().ca().display())
}

/// `tls = …` of a server, trusting an authority that did not sign.
fn mistrusting() -> String {
    format!("tls = {{ ca_file = \"{}\" }},", certificates().other_ca().display())
}

fn serves(usherd: &Usherd) {
    let mut client = Client::bound(&usherd.plain(0), &user(6), &password(6));
    assert_eq!(client.whoami(), format!("dn:{}", user(6)));
    let found = client.call(&ops::search(&user(8), ops::BASE, &present("uid"), &["description"]));
    assert_eq!(found[0].values("description"), ["token-8"]);
    assert_eq!(
        client
            .one(&ops::modify(&user(6), &[(ops::REPLACE, "title", &["x"])]))
            .code(),
        0
    );
}

fn serves_through(entry: String) {
    let usherd = Setup::corp("", &[entry]).start();
    serves(&usherd);
    usherd.stop();
}

/// Nothing behind: clients are told so at once, the daemon goes on.
fn refuses_through(entry: String, said: &str) {
    let usherd = Setup::corp("connect_timeout = \"2s\"\nretry_max = \"500ms\"", &[entry]).launch();
    std::thread::sleep(Duration::from_millis(800));
    assert_ne!(usherd.server_state(0), "up");
    let mut client = Client::connect(&usherd.plain(0));
    let answer = client.call(&ops::search(&user(8), ops::BASE, &present("uid"), &[]));
    assert_eq!(answer.last().map(crate::client::Message::code), Some(52), "{answer:?}");
    assert_eq!(client.one(&ops::bind(&user(6), &password(6))).code(), 52);
    let log = usherd.process.output();
    assert!(
        log.to_lowercase().contains(said),
        "the log does not say {said:?}:\n{log}"
    );
    usherd.stop();
}

#[test]
fn servers_are_reached_plainly_and_through_a_unix_socket() {
    let slapd = Slapd::start();
    serves_through(server(&slapd.url(), ""));
    serves_through(server(&slapd.ldapi_url(), ""));
}

#[test]
fn servers_are_reached_with_tls_when_they_take_nothing_else() {
    let slapd = Slapd::with("security tls=1\n");
    serves_through(server(&slapd.ldaps_url(), &trusting()));
    serves_through(server(
        &slapd.named_url(),
        &format!("starttls = \"required\", {}", trusting()),
    ));
    serves_through(server(
        &slapd.named_url(),
        &format!("starttls = \"tried\", {}", trusting()),
    ));
    // The certificate names the address too.
    serves_through(server(
        &slapd.url(),
        &format!("starttls = \"required\", {}", trusting()),
    ));
}

#[test]
fn a_server_with_a_certificate_of_another_authority_is_refused() {
    let slapd = Slapd::start();
    refuses_through(server(&slapd.ldaps_url(), &mistrusting()), "certificate");
    refuses_through(
        server(
            &slapd.named_url(),
            &format!("starttls = \"required\", {}", mistrusting()),
        ),
        "certificate",
    );
}

#[test]
fn a_server_with_a_certificate_of_another_name_is_refused() {
    let slapd = Slapd::start();
    let tls = format!(
        "tls = {{ ca_file = \"{}\", server_name = \"ldap.example.net\" }},",
        certificates().ca().display()
    );
    refuses_through(server(&slapd.ldaps_url(), &tls), "certificate");
}

#[test]
fn a_server_without_tls_is_refused_where_starttls_is_required_and_used_where_it_is_tried() {
    let slapd = Slapd::without_tls();
    refuses_through(
        server(&slapd.named_url(), &format!("starttls = \"required\", {}", trusting())),
        "starttls",
    );
    serves_through(server(
        &slapd.named_url(),
        &format!("starttls = \"tried\", {}", trusting()),
    ));
}

#[test]
fn a_wrong_password_of_usherds_own_is_no_service_and_said_in_the_log() {
    let slapd = Slapd::start();
    let setup = Setup::corp(
        "connect_timeout = \"2s\"\nretry_max = \"500ms\"",
        &[server(&slapd.url(), "")],
    );
    let secret = setup.folder.write("usherd.secret", "canary-wrong-password\n");
    crate::usherd::restrict(&secret);
    let usherd = setup.launch();
    std::thread::sleep(Duration::from_millis(800));
    assert_ne!(usherd.server_state(0), "up");
    let mut client = Client::connect(&usherd.plain(0));
    let answer = client.call(&ops::search(&user(8), ops::BASE, &present("uid"), &[]));
    assert_eq!(answer.last().map(crate::client::Message::code), Some(52), "{answer:?}");
    let log = usherd.process.output();
    assert!(log.contains("refused our bind"), "{log}");
    assert!(!log.contains("canary"), "a password in the log:\n{log}");
    usherd.stop();
}

#[test]
fn the_second_tier_is_used_only_while_the_first_is_away() {
    let (mut first, second) = (Slapd::start(), Slapd::start());
    let tier = |slapd: &Slapd| format!("[[directory.corp.tier]]\nserver = [{}]\n", server(&slapd.url(), ""));
    let section = format!(
        "[directory.corp]\nidentity = \"proxied\"\nbind_dn = \"{}\"\nbind_password_file = \"usherd.secret\"\nretry_max = \"500ms\"\n{}{}",
        crate::slapd::USHERD.0,
        tier(&first),
        tier(&second),
    );
    let usherd = Setup::new()
        .section(&section)
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"")
        .start();
    usherd.until("both are up", |status| {
        let servers = &status["directories"][0]["servers"];
        servers[0]["state"] == "up" && servers[1]["state"] == "up"
    });
    let which = || {
        let mut client = Client::connect(&usherd.plain(0));
        client
            .one(&ops::compare(&crate::slapd::code_dn("which"), "cn", "x"))
            .diagnostic()
    };
    let port = |slapd: &Slapd| slapd.url().rsplit(':').next().unwrap_or_default().to_owned();
    (0..20).for_each(|_| assert_eq!(which(), port(&first)));
    first.kill();
    usherd.until("the first is down", |status| {
        status["directories"][0]["servers"][0]["state"] != "up"
    });
    (0..20).for_each(|_| assert_eq!(which(), port(&second)));
    first.revive();
    usherd.until("the first is back", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    (0..20).for_each(|_| assert_eq!(which(), port(&first)));
    usherd.stop();
}
