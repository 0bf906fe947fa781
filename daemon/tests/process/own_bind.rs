//! The daemon's own bind by SASL, against slapd with Cyrus SASL: every mechanism, under which clients are let act; what goes
//! wrong is told apart; a reload; `check --probe`.

use std::time::Duration;

use crate::certificates::certificates;
use crate::client::Client;
use crate::ops;
use crate::proc::{run, shown};
use crate::slapd::{ADMIN, BASE, Slapd, USHERD, password, user};
use crate::usherd::{BINARY, Setup, Usherd, restrict, server};

/// slapd takes the name usherd of SASL, the certificate of the tests, and whoever runs them for `cn=usherd`; other names it
/// looks up below `ou=people`.
pub(crate) fn slapd(properties: &str) -> Slapd {
    let own = USHERD.0;
    let lines = format!(
        "sasl-secprops {properties}\n\
         authz-regexp \"uid=usherd,cn=[^,]*,cn=auth\" \"{own}\"\n\
         authz-regexp \"uid=([^,]*),cn=[^,]*,cn=auth\" \"uid=$1,ou=people,{BASE}\"\n\
         authz-regexp \"gidNumber=[0-9]*\\\\+uidNumber=[0-9]*,cn=peercred,cn=external,cn=auth\" \"{own}\"\n\
         authz-regexp \"^cn=localhost$\" \"{own}\"\n\
         TLSVerifyClient try\n",
    );
    Slapd::with(&lines)
}

/// A bind by this mechanism, or by these in a list, with the right name and password.
fn by(mechanism: &str) -> String {
    let mechanism = if mechanism.starts_with('[') {
        mechanism.to_owned()
    } else {
        format!("\"{mechanism}\"")
    };
    format!("bind_mechanism = {mechanism}\nbind_authcid = \"usherd\"\nbind_password_file = \"usherd.secret\"\n")
}

fn proxied(bind: &str) -> String {
    format!("identity = \"proxied\"\n{bind}")
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

fn is_told(usherd: &Usherd, why: &str) {
    crate::proc::wait_for(why, Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(20));
        usherd.process.output().contains(why).then_some(())
    });
}

#[test]
fn each_mechanism_binds_the_daemon_and_it_acts_for_its_clients() {
    let slapd = slapd("none");
    for mechanism in [
        "SCRAM-SHA-256",
        "SCRAM-SHA-1",
        "PLAIN",
        "[\"SCRAM-SHA-256\", \"SCRAM-SHA-1\"]",
    ] {
        let usherd = Setup::corp(&proxied(&by(mechanism)), &[server(&slapd.url(), "")]).start();
        acts_for_clients(&usherd);
        usherd.stop();
    }
}

#[test]
fn external_is_the_user_of_the_process_or_the_certificate() {
    let slapd = slapd("none");
    let external = proxied("bind_mechanism = \"EXTERNAL\"\n");
    let usherd = Setup::corp(&external, &[server(&slapd.ldapi_url(), "")]).start();
    acts_for_clients(&usherd);
    usherd.stop();
    let (certificate, key) = certificates().server();
    let tls = format!(
        "tls = {{ ca_file = \"{}\", cert_file = \"{}\", key_file = \"{}\" }}",
        certificates().ca().display(),
        certificate.display(),
        key.display()
    );
    for server in [
        server(&slapd.ldaps_url(), &tls),
        server(&slapd.named_url(), &format!("starttls = \"required\", {tls}")),
    ] {
        let usherd = Setup::corp(&external, &[server]).start();
        acts_for_clients(&usherd);
        usherd.stop();
    }
}

#[test]
fn the_daemon_acts_as_its_authorization_identity() {
    let slapd = slapd("none");
    let mut admin = Client::bound(&slapd.plain(), ADMIN.0, ADMIN.1);
    let may = format!("dn.exact:{}", USHERD.0);
    assert_eq!(
        admin
            .one(&ops::modify(&user(7), &[(0, "authzTo", &[may.as_str()])]))
            .code(),
        0
    );
    for mechanism in ["SCRAM-SHA-256", "PLAIN"] {
        let lines = |authzid: &str| {
            proxied(&format!(
                "bind_mechanism = \"{mechanism}\"\nbind_authcid = \"user7\"\nbind_password_file = \"user7.secret\"\n\
                 bind_authzid = \"{authzid}\""
            ))
        };
        let start = |authzid: &str| {
            let setup = Setup::corp(&lines(authzid), &[server(&slapd.url(), "")]);
            restrict(&setup.folder.write("user7.secret", password(7)));
            setup
        };
        let usherd = start(&format!("dn:{}", USHERD.0)).start();
        acts_for_clients(&usherd);
        usherd.stop();
        // As whom it may not act it is not bound.
        let usherd = start(&format!("dn:{}", user(8))).launch();
        is_told(&usherd, &format!("the server refused our bind with {mechanism}"));
        assert_ne!(usherd.server_state(0), "up");
        usherd.stop();
    }
}

#[test]
fn a_wrong_password_and_a_missing_mechanism_are_told_apart_and_a_reload_mends_them() {
    let slapd = slapd("noplain");
    let setup = Setup::corp(
        &proxied(&by("SCRAM-SHA-256").replace("usherd.secret", "wrong.secret")),
        &[server(&slapd.url(), "")],
    );
    restrict(&setup.folder.write("wrong.secret", "canary-wrong"));
    let usherd = setup.launch();
    is_told(
        &usherd,
        "the server refused our bind with SCRAM-SHA-256: invalidCredentials (49)",
    );
    usherd.until("it is down, and dialled again", |status| {
        status["directories"][0]["servers"][0]["state"] == "down"
    });
    let mut client = Client::connect(&usherd.plain(0));
    let search = ops::search(BASE, ops::BASE, &ops::present("objectClass"), &["1.1"]);
    assert_eq!(client.one(&search).code(), 52);
    let reload = |bind: &str| {
        usherd.rewrite(&format!(
            "[directory.corp]\nbase = \"{BASE}\"\n{}\nserver = [{}]\n\n[[listen]]\nprotocol = \"ldap\"\n\
             address = \"127.0.0.1:0\"\ndirectory = \"corp\"\n",
            proxied(bind),
            server(&slapd.url(), ""),
        ));
        let output = usherd.command(&["reload"]);
        assert!(output.status.success(), "{}", shown(&output));
    };
    let up = |what: &str| {
        usherd.until(what, |status| status["directories"][0]["servers"][0]["state"] == "up");
        acts_for_clients(&usherd);
    };
    reload(&by("PLAIN"));
    is_told(
        &usherd,
        "the server refused our bind with PLAIN: inappropriateAuthentication (48)",
    );
    // The next one is tried where the server does not have the first.
    reload(&by("[\"PLAIN\", \"SCRAM-SHA-1\"]"));
    up("by the second mechanism");
    let simple = format!("bind_dn = \"{}\"\nbind_password_file = \"usherd.secret\"", USHERD.0);
    reload(&simple);
    up("by name and password");
    reload(&by("SCRAM-SHA-256"));
    up("by SASL again");
    // Whoever was connected all the while goes on.
    client.bind(&user(3), &password(3));
    assert_eq!(client.whoami(), format!("dn:{}", user(3)));
    let output = usherd.process.output();
    assert!(
        !output.contains("canary-wrong") && !output.contains(USHERD.1),
        "{output}"
    );
    usherd.stop();
}

#[test]
fn each_server_has_the_bind_that_it_says_itself() {
    let (with, without) = (slapd("none"), Slapd::start());
    let simple = format!("bind_dn = \"{}\", bind_password_file = \"usherd.secret\"", USHERD.0);
    // The second knows no name of SASL; the third is the first by another mechanism.
    let servers = [
        server(&with.url(), ""),
        server(&without.url(), &simple),
        server(&with.ldapi_url(), "bind_mechanism = \"EXTERNAL\""),
    ];
    let usherd = Setup::corp(&proxied(&by("SCRAM-SHA-256")), &servers).start();
    usherd.until("all of them are up", |status| {
        (0..3).all(|index| status["directories"][0]["servers"][index]["state"] == "up")
    });
    acts_for_clients(&usherd);
    usherd.stop();
    // The other way round, and nobody else's is used in its place.
    let lines = proxied(&simple.replace(", ", "\n"));
    let own = by("SCRAM-SHA-256").trim_end().replace('\n', ", ");
    let servers = [server(&with.url(), &own), server(&without.url(), &own)];
    let usherd = Setup::corp(&lines, &servers).launch();
    is_told(&usherd, "invalidCredentials (49)");
    usherd.until("only the one that knows the name", |status| {
        let state = |index: usize| status["directories"][0]["servers"][index]["state"].clone();
        state(0) == "up" && state(1) == "down"
    });
    usherd.stop();
}

/// Only user1 reads `ou=secret`: clients of a pinned directory are nobody, and checks and feeds are the daemon.
#[test]
fn checks_and_feeds_bind_so_too() {
    let slapd = slapd("none");
    let lines = |check: &str| {
        format!(
            "identity = \"pinned\"\nbind_mechanism = \"SCRAM-SHA-256\"\nbind_authcid = \"user1\"\n\
             bind_password_file = \"user1.secret\"\n\
             check = {{ interval = \"200ms\", timeout = \"200ms\", rise = 1, fall = 1, base = \"ou=secret,{BASE}\"{check} }}"
        )
    };
    let feed = format!(
        "[feed.secret]\ndirectory = \"corp\"\nbase = \"ou=secret,{BASE}\"\nstate = \"state\"\nsink = {{ type = \"file\", path = \"out\" }}\n"
    );
    let start = |check: &str| {
        let setup = Setup::corp(&lines(check), &[server(&slapd.url(), "")]).extra(&feed);
        for number in [1, 2] {
            restrict(&setup.folder.write(&format!("user{number}.secret"), password(number)));
        }
        setup.launch()
    };
    let usherd = start("");
    usherd.until("checked as user1", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    let out = usherd.unix("out");
    crate::proc::wait_for("the feed has what only user1 sees", Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_millis(20));
        let text = std::fs::read_to_string(&out).unwrap_or_default();
        text.contains(&format!("ou=secret,{BASE}")).then_some(())
    });
    let secret = ops::search(&format!("ou=secret,{BASE}"), ops::BASE, &ops::present("ou"), &[]);
    let mut client = Client::connect(&usherd.plain(0));
    assert_eq!(client.call(&secret).len(), 1, "a client has nothing of it");
    usherd.stop();
    let own = ", bind_mechanism = \"SCRAM-SHA-1\", bind_authcid = \"user2\", bind_password_file = \"user2.secret\"";
    let usherd = start(own);
    usherd.until("checked as user2, who sees nothing", |status| {
        status["directories"][0]["servers"][0]["state"] == "ejected"
    });
    usherd.stop();
}

#[test]
fn probe_really_binds_and_explains_what_went_wrong() {
    let slapd = slapd("noplain");
    let probe = |bind: &str, url: &str, code: i32| {
        let setup = Setup::corp(&proxied(bind), &[server(url, "")]);
        restrict(&setup.folder.write("wrong.secret", "canary-wrong"));
        let (_folder, file) = setup.written();
        let output = run(BINARY, &["check", "-c", &file, "--probe"], Duration::from_secs(20));
        assert_eq!(output.status.code(), Some(code), "{}", shown(&output));
        let said = shown(&output);
        assert!(!said.contains("canary-wrong") && !said.contains(USHERD.1), "{said}");
        said
    };
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1", "[\"PLAIN\", \"SCRAM-SHA-256\"]"] {
        let said = probe(&by(mechanism), &slapd.url(), 0);
        let by = mechanism.trim_start_matches("[\"PLAIN\", \"").trim_end_matches("\"]");
        assert!(said.contains(&format!("bound as dn:{} by {by}", USHERD.0)), "{said}");
    }
    let said = probe("bind_mechanism = \"EXTERNAL\"\n", &slapd.ldapi_url(), 0);
    assert!(
        said.contains(&format!("bound as dn:{} by EXTERNAL", USHERD.0)),
        "{said}"
    );
    let wrong = by("SCRAM-SHA-256").replace("usherd.secret", "wrong.secret");
    let said = probe(&wrong, &slapd.url(), 1);
    assert!(
        said.contains("bind as usherd by SCRAM-SHA-256: invalidCredentials (49)")
            && said.contains("the name or the password is wrong"),
        "{said}"
    );
    let said = probe(&by("PLAIN"), &slapd.url(), 1);
    assert!(
        said.contains("inappropriateAuthentication (48)")
            && said.contains("the server offers ")
            && said.contains("SCRAM-SHA-1"),
        "{said}"
    );
}
