//! SASL binds through an LDAP listener (RFC 4513 section 5.2), against slapd with Cyrus SASL and by OpenLDAP's own tools.

use std::process::Output;
use std::time::{Duration, Instant};

use crate::ber::{elements, int, seq, text, tlv};
use crate::certificates::certificates;
use crate::client::{Client, Message, PATIENCE};
use crate::ops;
use crate::proc::{run_with, shown};
use crate::slapd::{BASE, Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

/// slapd looks the users of SASL up below `ou=people`, and takes whoever runs these tests for user1.
pub(crate) fn slapd() -> Slapd {
    let lines = format!(
        "sasl-secprops none\n\
         authz-regexp \"uid=([^,]*),cn=[^,]*,cn=auth\" \"uid=$1,ou=people,{BASE}\"\n\
         authz-regexp \"gidNumber=[0-9]*\\\\+uidNumber=[0-9]*,cn=peercred,cn=external,cn=auth\" \"{}\"\n\
         authz-regexp \"^cn=localhost$\" \"{}\"\n\
         TLSVerifyClient try\n",
        user(1),
        user(2)
    );
    Slapd::with(&lines)
}

fn front(lines: &str, settings: &str) -> (Slapd, Usherd) {
    let slapd = slapd();
    let usherd = Setup::corp(lines, &[server(&slapd.url(), settings)]).start();
    (slapd, usherd)
}

fn whoami(url: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
    let all = [&["-Q", "-O", "none", "-H", url][..], args].concat();
    run_with("/usr/bin/ldapwhoami", &all, env, PATIENCE)
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", shown(output));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn step(mechanism: &str, credentials: Option<&[u8]>) -> Vec<u8> {
    let mut parts = vec![text(mechanism)];
    parts.extend(credentials.map(|credentials| tlv(0x04, credentials)));
    seq(0x60, &[int(0x02, 3), text(""), seq(0xA3, &parts)])
}

/// The first message of SCRAM, which is answered by a challenge.
fn first(mechanism: &str, number: usize) -> Vec<u8> {
    step(mechanism, Some(format!("n,,n=user{number},r=abcdefgh").as_bytes()))
}

fn challenge(answer: &Message) -> Vec<u8> {
    let found = elements(&answer.content).into_iter().find(|(tag, _)| *tag == 0x87);
    found.map(|(_, creds)| creds.to_vec()).unwrap_or_default()
}

fn url(usherd: &Usherd) -> String {
    format!("ldap://127.0.0.1:{}", usherd.port(0))
}

#[test]
fn every_usual_mechanism_binds_and_the_server_says_who_that_is() {
    for identity in ["", "identity = \"pinned\""] {
        let (_slapd, usherd) = front(identity, "");
        for mechanism in [
            "PLAIN",
            "LOGIN",
            "CRAM-MD5",
            "SCRAM-SHA-1",
            "SCRAM-SHA-256",
            "SCRAM-SHA-512",
        ] {
            let right = ["-Y", mechanism, "-U", "user3", "-w", "password-3"];
            assert_eq!(
                said(&whoami(&url(&usherd), &right, &[])),
                format!("dn:{}", user(3)),
                "{mechanism}"
            );
            let wrong = ["-Y", mechanism, "-U", "user3", "-w", "password-4"];
            assert_eq!(
                whoami(&url(&usherd), &wrong, &[]).status.code(),
                Some(49),
                "{mechanism}"
            );
        }
        usherd.stop();
    }
}

#[test]
fn many_binds_of_several_steps_share_two_connections_and_nobody_is_another() {
    let (_slapd, usherd) = front("", "bind_connections_max = 2");
    let url = url(&usherd);
    std::thread::scope(|scope| {
        for number in 1..=12 {
            let url = &url;
            scope.spawn(move || {
                for _ in 0..4 {
                    let (name, secret) = (format!("user{number}"), password(number));
                    let args = ["-Y", "SCRAM-SHA-256", "-U", &name, "-w", &secret];
                    assert_eq!(said(&whoami(url, &args, &[])), format!("dn:{}", user(number)));
                }
            });
        }
    });
    usherd.stop();
}

#[test]
fn the_servers_challenge_comes_byte_for_byte_and_between_two_steps_nothing_else_goes_on() {
    let (slapd, usherd) = front("", "");
    let (mut direct, mut client) = (Client::connect(&slapd.plain()), Client::connect(&usherd.plain(0)));
    for one in [&mut direct, &mut client] {
        // Without a word from the client the server has to ask for one.
        let answer = one.one(&step("CRAM-MD5", None));
        assert_eq!(answer.code(), 14, "{answer:?}");
        assert!(challenge(&answer).starts_with(b"<"), "{answer:?}");
        let search = ops::search(BASE, ops::BASE, &ops::present("objectClass"), &["1.1"]);
        assert_eq!(one.one(&search).code(), 1, "an operation between two steps");
    }
    // Another mechanism begins anew, and a simple bind ends it all.
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256"] {
        let answer = client.one(&first(mechanism, 1));
        assert_eq!(answer.code(), 14, "{answer:?}");
    }
    client.bind(&user(2), &password(2));
    assert_eq!(client.whoami(), format!("dn:{}", user(2)));
    assert_eq!(client.one(&first("SCRAM-SHA-256", 1)).code(), 14);
    assert_eq!(client.one(&step("", None)).code(), 7);
    assert_eq!(client.whoami(), "");
    usherd.stop();
}

#[test]
fn mechanisms_that_cannot_work_are_refused_and_leave_nobody() {
    let (_slapd, usherd) = front("sasl = [\"PLAIN\", \"SCRAM-SHA-1\"]", "");
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    for mechanism in [
        "GSSAPI",
        "GSS-SPNEGO",
        "DIGEST-MD5",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256",
        "EXTERNAL",
        "X",
    ] {
        client.bind(&user(1), &password(1));
        assert_eq!(client.one(&step(mechanism, Some(b"x"))).code(), 7, "{mechanism}");
        assert_eq!(client.whoami(), "", "{mechanism}");
    }
    assert_eq!(client.one(&step("PLAIN", Some(b"\0user5\0password-5"))).code(), 0);
    assert_eq!(client.whoami(), format!("dn:{}", user(5)));
    usherd.stop();
}

#[test]
fn a_bind_half_way_keeps_its_connection_until_its_client_goes_or_its_time_is_over() {
    let (_slapd, usherd) = front("sasl_timeout = \"1500ms\"", "bind_connections_max = 1");
    let mut other = Client::connect(&usherd.plain(0));
    let mut half = Client::connect(&usherd.plain(0));
    assert_eq!(half.one(&first("SCRAM-SHA-256", 1)).code(), 14);
    let begun = Instant::now();
    let id = other.send(&ops::bind(&user(2), &password(2)));
    assert!(
        other.receive(Duration::from_millis(300)).is_err(),
        "the only connection is another's"
    );
    drop(half);
    assert_eq!(other.collect(id, PATIENCE).expect("an answer")[0].code(), 0);
    assert!(begun.elapsed() < Duration::from_millis(1400), "{:?}", begun.elapsed());
    assert_eq!(other.whoami(), format!("dn:{}", user(2)));

    let mut slow = Client::connect(&usherd.plain(0));
    assert_eq!(slow.one(&first("SCRAM-SHA-256", 1)).code(), 14);
    let begun = Instant::now();
    assert_eq!(other.one(&ops::bind(&user(3), &password(3))).code(), 0);
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!(other.whoami(), format!("dn:{}", user(3)));
    let late = slow.one(&step("SCRAM-SHA-256", Some(b"c=biws,r=abcdefghx,p=AAAA")));
    assert_eq!(late.code(), 80, "{late:?}");
    slow.bind(&user(4), &password(4));
    assert_eq!(slow.whoami(), format!("dn:{}", user(4)));
    usherd.stop();
}

#[test]
fn a_connection_lost_between_two_steps_is_told_by_80() {
    let (mut slapd, usherd) = front("", "");
    let mut client = Client::connect(&usherd.plain(0));
    assert_eq!(client.one(&first("SCRAM-SHA-256", 1)).code(), 14);
    slapd.kill();
    usherd.until("the server is gone", |status| {
        status["directories"][0]["servers"][0]["state"] == "down"
    });
    let answer = client.one(&step("SCRAM-SHA-256", Some(b"c=biws,r=abcdefghx,p=AAAA")));
    assert_eq!(answer.code(), 80, "{answer:?}");
    slapd.revive();
    usherd.until("the server is back", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    client.bind(&user(1), &password(1));
    usherd.stop();
}

#[test]
fn external_over_a_unix_socket_is_who_the_kernel_says() {
    let slapd = slapd();
    let usherd = Setup::new()
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("ldap", "unix:ldapi", "directory = \"corp\"")
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"")
        .start();
    let path = usherd.unix("ldapi");
    let url = format!("ldapi://{}", path.display().to_string().replace('/', "%2F"));
    let who = said(&whoami(&url, &["-Y", "EXTERNAL"], &[]));
    assert_eq!(who, format!("dn:{}", user(1)), "whom slapd takes that for");
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let own = format!("dn:gidNumber={gid}+uidNumber={uid},cn=peercred,cn=external,cn=auth");
    let mut client = Client::connect(&crate::client::Target::Unix(path));
    let secret = ops::search(&format!("ou=secret,{BASE}"), ops::BASE, &ops::present("ou"), &[]);
    assert_eq!(client.call(&secret).len(), 1, "nobody reads the secret");
    assert_eq!(client.one(&step("EXTERNAL", Some(b""))).code(), 0);
    assert_eq!(client.call(&secret).len(), 2, "whom the server takes for user1 does");
    assert_eq!(client.one(&step("EXTERNAL", Some(user(2).as_bytes()))).code(), 53);
    assert_eq!(client.whoami(), "");
    assert_eq!(client.one(&step("EXTERNAL", Some(own.as_bytes()))).code(), 0);
    assert_eq!(client.whoami(), who);
    let mut tcp = Client::connect(&usherd.plain(1));
    assert_eq!(tcp.one(&step("EXTERNAL", None)).code(), 49, "nothing says who that is");
    usherd.stop();
}

#[test]
fn external_over_tls_is_the_subject_of_the_clients_certificate() {
    let slapd = slapd();
    let (certificate, key) = certificates().server();
    let (certificate, key, ca) = (
        certificate.display().to_string(),
        key.display().to_string(),
        certificates().ca(),
    );
    let ca = ca.display().to_string();
    let tls = format!(
        "directory = \"corp\"\ntls = {{ cert_file = \"{certificate}\", key_file = \"{key}\", client_ca_file = \"{ca}\", \
         client_cert = \"request\" }}"
    );
    let usherd = Setup::new()
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("ldap", "127.0.0.1:0", &format!("{tls}\nstarttls = true"))
        .start();
    let trust = ("LDAPTLS_CACERT", ca.as_str());
    let shown = [
        trust,
        ("LDAPTLS_CERT", certificate.as_str()),
        ("LDAPTLS_KEY", key.as_str()),
    ];
    let args = ["-ZZ", "-Y", "EXTERNAL"];
    let through = url(&usherd);
    let direct = said(&whoami(&slapd.url(), &args, &shown));
    assert_eq!(direct, format!("dn:{}", user(2)));
    assert_eq!(said(&whoami(&through, &args, &shown)), direct);
    let mut plain = Client::connect(&usherd.start_tls(0));
    assert_eq!(
        plain.one(&step("EXTERNAL", None)).code(),
        49,
        "no certificate was shown"
    );
    usherd.stop();
}

#[test]
fn external_cannot_be_carried_on_where_connections_belong_to_clients() {
    let slapd = slapd();
    let usherd = Setup::new()
        .directory("corp", "identity = \"pinned\"", &[server(&slapd.url(), "")])
        .listen("ldap", "unix:ldapi", "directory = \"corp\"")
        .start();
    let mut client = Client::connect(&crate::client::Target::Unix(usherd.unix("ldapi")));
    assert_eq!(client.one(&step("EXTERNAL", None)).code(), 7);
    usherd.stop();
}

fn root_dse(client: &mut Client, attributes: &[&str]) -> Message {
    let op = ops::search("", ops::BASE, &ops::present("objectClass"), attributes);
    let answer = client.call(&op);
    assert_eq!(answer.len(), 2, "{answer:?}");
    answer[0].clone()
}

#[test]
fn the_root_dse_names_what_works_here_and_nothing_else() {
    let slapd = slapd();
    let setup = |lines: &str| {
        Setup::new()
            .directory("corp", lines, &[server(&slapd.url(), "")])
            .listen("ldap", "127.0.0.1:0", "directory = \"corp\"")
            .listen("ldap", "unix:ldapi", "directory = \"corp\"")
            .start()
    };
    let usherd = setup("");
    let mut direct = root_dse(&mut Client::connect(&slapd.plain()), &["*", "+"]);
    let (mechanisms, extensions, controls) = ("supportedSASLMechanisms", "supportedExtension", "supportedControl");
    assert!(
        direct.values(mechanisms).contains(&"DIGEST-MD5".to_owned()),
        "{direct:?}"
    );
    assert!(direct.values(extensions).contains(&ops::OID_START_TLS.to_owned()));
    assert!(direct.values(controls).contains(&ops::OID_PROXIED.to_owned()));
    let seen = root_dse(&mut Client::connect(&usherd.plain(0)), &["*", "+"]);
    assert!(
        seen.values(mechanisms).contains(&"SCRAM-SHA-256".to_owned()),
        "{seen:?}"
    );
    for name in ["DIGEST-MD5", "NTLM", "GSSAPI", "EXTERNAL"] {
        assert!(!seen.values(mechanisms).contains(&name.to_owned()), "{name}: {seen:?}");
    }
    assert!(
        !seen.values(extensions).contains(&ops::OID_START_TLS.to_owned()),
        "no certificate here"
    );
    assert!(seen.values(extensions).contains(&ops::OID_PASSWORD_MODIFY.to_owned()));
    assert!(!seen.values(controls).contains(&ops::OID_PROXIED.to_owned()));
    assert_eq!(seen.values("namingContexts"), direct.values("namingContexts"));
    let mut local = Client::connect(&crate::client::Target::Unix(usherd.unix("ldapi")));
    let seen = root_dse(&mut local, &[mechanisms]);
    assert!(seen.values(mechanisms).contains(&"EXTERNAL".to_owned()), "{seen:?}");
    usherd.stop();
    let usherd = setup("root_dse = \"pass\"");
    let seen = root_dse(&mut Client::connect(&usherd.plain(0)), &["*", "+"]);
    direct.id = seen.id;
    assert_eq!(seen.content, direct.content, "byte for byte");
    usherd.stop();
}
