//! The daemon's own bind by GSSAPI, against slapd with Cyrus SASL and a KDC of MIT's: keys and tickets that are right, wrong, absent
//! and out of date; a KDC that falls silent; servers that are not who they should be.

#![cfg(feature = "gssapi")]

use std::process::Output;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::kerberos::Realm;
use crate::ops;
use crate::proc::{run_with, shown, wait_for};
use crate::slapd::{BASE, Slapd, USHERD, password, user};
use crate::usherd::{BINARY, Setup, Usherd, server};

/// slapd takes the principal usherd for `cn=usherd`.
pub(crate) fn slapd(realm: &Realm, properties: &str) -> Slapd {
    let lines = format!(
        "sasl-secprops {properties}\nauthz-regexp \"uid=usherd,(cn=[^,]*,)?cn=gssapi,cn=auth\" \"{}\"\n",
        USHERD.0
    );
    Slapd::of_realm(realm, &lines)
}

/// A bind with this keytab of the realm's.
pub(crate) fn by(realm: &Realm, keytab: &str) -> String {
    format!(
        "identity = \"proxied\"\nbind_mechanism = \"GSSAPI\"\nbind_principal = \"usherd\"\nbind_keytab = \"{}\"\n\
         retry_min = \"100ms\"\nretry_max = \"200ms\"\n",
        realm.folder.file(keytab)
    )
}

fn setup(realm: &Realm, lines: &str, url: &str) -> Setup {
    Setup::corp(lines, &[server(url, "")]).under(&["/usr/bin/env", &realm.client()])
}

/// user1 reads what only user1 may read, user2 does not, and each is who it is: the daemon acts for them.
fn acts_for_clients(usherd: &Usherd) {
    let secret = ops::search(&format!("ou=secret,{BASE}"), ops::BASE, &ops::present("ou"), &[]);
    for (number, messages) in [(1, 2), (2, 1)] {
        let mut client = Client::bound(&usherd.plain(0), &user(number), &password(number));
        assert_eq!(client.call(&secret).len(), messages, "user{number}");
        assert_eq!(client.whoami(), format!("dn:{}", user(number)));
    }
}

pub(crate) fn is_told(usherd: &Usherd, why: &str) {
    wait_for(why, Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(20));
        usherd.process.output().contains(why).then_some(())
    });
}

fn until_up(usherd: &Usherd) {
    usherd.until("up", |status| status["directories"][0]["servers"][0]["state"] == "up");
}

pub(crate) fn probe(setup: Setup, realm: &Realm) -> Output {
    let (_folder, file) = setup.written();
    let client = realm.client();
    let (key, value) = client.split_once('=').expect("a variable");
    run_with(
        BINARY,
        &["check", "-c", &file, "--probe"],
        &[(key, value)],
        Duration::from_secs(30),
    )
}

#[test]
fn a_keytab_binds_the_daemon_and_it_acts_for_its_clients() {
    let realm = Realm::start("USHERD.TEST");
    let slapd = slapd(&realm, "none");
    let usherd = setup(&realm, &by(&realm, "usherd.keytab"), &slapd.url()).start();
    acts_for_clients(&usherd);
    let answered = usherd.status()["gssapi"]["answered"].as_u64().expect("a figure");
    assert!(answered >= 4, "two tokens, the layers and the choice: {answered}");
    usherd.stop();
    // The first of the keytab; under TLS; as an authorization identity.
    let lines = by(&realm, "usherd.keytab").replace("bind_principal = \"usherd\"\n", "")
        + &format!(
            "bind_service = \"ldap@127.0.0.1\"\nbind_authzid = \"dn:{}\"\n",
            USHERD.0
        );
    let tls = format!(
        "tls = {{ ca_file = \"{}\" }}",
        crate::certificates::certificates().ca().display()
    );
    let usherd = Setup::corp(&lines, &[server(&slapd.ldaps_url(), &tls)])
        .under(&["/usr/bin/env", &realm.client()])
        .start();
    acts_for_clients(&usherd);
    usherd.stop();
    let output = probe(setup(&realm, &by(&realm, "usherd.keytab"), &slapd.url()), &realm);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let bound = format!("bound as dn:{} by GSSAPI", USHERD.0);
    assert!(shown(&output).contains(&bound), "{}", shown(&output));
}

#[test]
fn what_is_wrong_is_told_and_mended_without_a_restart() {
    let realm = Realm::start("USHERD.TEST");
    let slapd = slapd(&realm, "none");
    let keytab = std::path::PathBuf::from(realm.folder.file("changing.keytab"));
    let put = |from: &str| std::fs::copy(realm.folder.path().join(from), &keytab).expect("a copy");
    put("old.keytab");
    let usherd = setup(&realm, &by(&realm, "changing.keytab"), &slapd.url()).launch();
    is_told(&usherd, "why=\"Kerberos: ");
    assert_ne!(usherd.server_state(0), "up");
    std::fs::remove_file(&keytab).expect("it is there");
    is_told(&usherd, "changing.keytab cannot be read: No such file or directory");
    // Each bind looks at the file.
    put("usherd.keytab");
    until_up(&usherd);
    acts_for_clients(&usherd);
    usherd.stop();
    for (lines, why) in [
        (by(&realm, "old.keytab"), "Kerberos: "),
        (
            by(&realm, "usherd.keytab") + "bind_service = \"ldap@nowhere\"\n",
            "Server ldap/nowhere@USHERD.TEST not found in Kerberos database",
        ),
        (
            by(&realm, "usherd.keytab").replace("= \"usherd\"", "= \"nobody\""),
            "Kerberos: ",
        ),
    ] {
        let usherd = setup(&realm, &lines, &slapd.url()).launch();
        is_told(&usherd, why);
        assert_ne!(usherd.server_state(0), "up");
        usherd.stop();
        let output = probe(setup(&realm, &lines, &slapd.url()), &realm);
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        assert!(shown(&output).contains(why), "{}", shown(&output));
    }
}

#[test]
fn a_server_that_wants_a_security_layer_is_told_apart_unless_there_is_tls() {
    let realm = Realm::start("USHERD.TEST");
    let slapd = slapd(&realm, "minssf=56");
    let why = "the server insists on a security layer of SASL";
    let usherd = setup(&realm, &by(&realm, "usherd.keytab"), &slapd.url()).launch();
    is_told(&usherd, why);
    assert_ne!(usherd.server_state(0), "up");
    usherd.stop();
    let output = probe(setup(&realm, &by(&realm, "usherd.keytab"), &slapd.url()), &realm);
    assert!(shown(&output).contains(why), "{}", shown(&output));
    // TLS counts as one.
    let tls = format!(
        "tls = {{ ca_file = \"{}\" }}, bind_service = \"ldap@127.0.0.1\"",
        crate::certificates::certificates().ca().display()
    );
    let tls = by(&realm, "usherd.keytab").trim_end().lines().fold(tls, |all, line| {
        if line.starts_with("bind_") {
            format!("{all}, {line}")
        } else {
            all
        }
    });
    let usherd = Setup::corp("identity = \"proxied\"\n", &[server(&slapd.ldaps_url(), &tls)])
        .under(&["/usr/bin/env", &realm.client()])
        .start();
    acts_for_clients(&usherd);
    usherd.stop();
}

/// Tickets live for three seconds here.
#[test]
fn tickets_run_out_and_new_connections_get_new_ones() {
    let realm = Realm::start("USHERD.TEST");
    realm.admin("modprinc -maxlife \"3 seconds\" usherd");
    let mut slapd = slapd(&realm, "none");
    let usherd = setup(&realm, &by(&realm, "usherd.keytab"), &slapd.url()).start();
    let cached = by(&realm, "x")
        .replace("bind_keytab", "bind_ccache")
        .replace("/x\"", "/tickets\"");
    realm.kinit("tickets", "3s");
    let beside = setup(&realm, &cached, &slapd.url()).start();
    let began = Instant::now();
    acts_for_clients(&beside);
    std::thread::sleep(Duration::from_secs(5).saturating_sub(began.elapsed()));
    // What is connected stays so.
    acts_for_clients(&usherd);
    slapd.end();
    usherd.until("down", |status| status["directories"][0]["servers"][0]["state"] != "up");
    slapd.revive();
    until_up(&usherd);
    acts_for_clients(&usherd);
    usherd.stop();
    // A cache is somebody else's to renew.
    is_told(&beside, "Kerberos: ");
    assert_ne!(beside.server_state(0), "up");
    realm.kinit("tickets", "3s");
    until_up(&beside);
    acts_for_clients(&beside);
    beside.stop();
}

#[test]
fn a_silent_kdc_hinders_nobody_else_and_is_found_again() {
    let (realm, other) = (Realm::start("USHERD.TEST"), Realm::start("OTHER.TEST"));
    let (own, second) = (slapd(&realm, "none"), slapd(&other, "none"));
    let lines = by(&realm, "usherd.keytab") + "connect_timeout = \"1s\"\n";
    let others = by(&other, "usherd.keytab").replace("= \"usherd\"", "= \"usherd@OTHER.TEST\"")
        + "bind_service = \"ldap@127.0.0.1\"\n";
    let both = realm.beside(&other);
    realm.freeze();
    let begun = Instant::now();
    let usherd = Setup::new()
        .directory("corp", &lines, &[server(&own.url(), "connections = 8")])
        .directory("other", &others, &[server(&second.url(), "")])
        .directory("simple", "", &[server(&second.url(), "")])
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"")
        .listen("ldap", "127.0.0.1:0", "directory = \"other\"")
        .listen("ldap", "127.0.0.1:0", "directory = \"simple\"")
        .under(&["/usr/bin/env", &both])
        .launch();
    is_told(&usherd, "Kerberos has not answered in time");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // Those of another realm, and without any, are served all the while, and quickly.
    let search = ops::search(BASE, ops::BASE, &ops::present("objectClass"), &["1.1"]);
    for _ in 0..20 {
        for listener in [2, 1] {
            let begun = Instant::now();
            let mut client = Client::bound(&usherd.plain(listener), &user(1), &password(1));
            assert_eq!(client.call(&search).len(), 2, "listener {listener}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut waiting = Client::connect(&usherd.plain(0));
    assert_ne!(waiting.one(&search).code(), 0);
    assert_ne!(usherd.server_state(0), "up");
    realm.thaw();
    until_up(&usherd);
    acts_for_clients(&usherd);
    // What is connected does not need it.
    realm.freeze();
    acts_for_clients(&usherd);
    let probe = probe(setup(&realm, &lines, &own.url()), &realm);
    assert_eq!(probe.status.code(), Some(1));
    assert!(
        shown(&probe).contains("Kerberos has not answered within connect_timeout"),
        "{}",
        shown(&probe)
    );
    realm.thaw();
    usherd.stop();
}

#[test]
fn checks_bind_so_too_and_so_does_the_system_s_own_key() {
    let realm = Realm::start("USHERD.TEST");
    let slapd = slapd(&realm, "none");
    let check = "check = { interval = \"200ms\", timeout = \"200ms\", rise = 1, fall = 1 }\n";
    let lines = format!("identity = \"pinned\"\nbind_mechanism = \"GSSAPI\"\n{check}");
    let key = |keytab: &str| {
        let variable = |name: &str, file: &str| format!("{name}=FILE:{}", realm.folder.file(file));
        let words = [
            "/usr/bin/env".to_owned(),
            realm.client(),
            variable("KRB5_CLIENT_KTNAME", keytab),
            variable("KRB5CCNAME", &format!("cache-of-{keytab}")),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Setup::corp(&lines, &[server(&slapd.url(), "")]).under(&words).launch()
    };
    let usherd = key("usherd.keytab");
    // A server is up before its first check, too.
    usherd.until("checked with the system's key", |status| {
        let bound = status["gssapi"]["answered"].as_u64() >= Some(8);
        bound && status["directories"][0]["servers"][0]["state"] == "up"
    });
    usherd.stop();
    let usherd = key("old.keytab");
    usherd.until("checked without a key", |status| {
        status["directories"][0]["servers"][0]["state"] == "ejected"
    });
    is_told(&usherd, "a check failed");
    usherd.stop();
}
