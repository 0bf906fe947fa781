//! Lists of revoked certificates: of servers and of clients, and a reload that brings new ones.

use std::time::Duration;

use crate::certificates::certificates;
use crate::client::Client;
use crate::ops::{self, present};
use crate::proc::run;
use crate::slapd::{BASE, Slapd, USHERD, user};
use crate::usherd::{Setup, Usherd, server};

fn search(usherd: &Usherd) -> i64 {
    let mut client = Client::connect(&usherd.plain(0));
    let answer = client.call(&ops::search(&user(8), ops::BASE, &present("uid"), &[]));
    answer.last().map_or(-1, crate::client::Message::code)
}

#[test]
fn a_server_whose_certificate_is_revoked_is_refused_from_the_next_reload_on() {
    let slapd = Slapd::start();
    let entry = |check: &str| {
        let tls = format!(
            "tls = {{ ca_file = \"{}\", crl_file = \"crl.pem\"{check} }},",
            certificates().ca().display()
        );
        server(&slapd.ldaps_url(), &tls)
    };
    let setup = Setup::corp("retry_max = \"500ms\"", &[entry("")]);
    let mut lists = certificates().lists("of-servers");
    setup.folder.write("crl.pem", lists.text());
    let usherd = setup.start();
    usherd.until("it is up", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    assert_eq!(search(&usherd), 0);
    lists.revoke(&certificates().server().0);
    usherd.folder.write("crl.pem", lists.text());
    for (check, expected) in [("", 52), (", crl_check = \"peer\"", 52)] {
        usherd.rewrite(&format!(
            "[directory.corp]\nbase = \"{BASE}\"\nidentity = \"proxied\"\nbind_dn = \"{}\"\nretry_max = \"500ms\"\n\
             bind_password_file = \"usherd.secret\"\nserver = [{}]\n\
             [[listen]]\nprotocol = \"ldap\"\naddress = \"127.0.0.1:0\"\ndirectory = \"corp\"\n",
            USHERD.0,
            entry(check)
        ));
        let output = usherd.command(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        usherd.until("it is refused", |status| {
            let server = &status["directories"][0]["servers"][0];
            server["last_error"]
                .as_str()
                .is_some_and(|why| why.to_lowercase().contains("revoked"))
        });
        assert_eq!(search(&usherd), expected);
    }
    usherd.stop();
}

#[test]
fn a_client_whose_certificate_is_revoked_is_refused() {
    let slapd = Slapd::start();
    let (cert, key) = certificates().server();
    let ca = certificates().ca();
    let tls = format!(
        "tls = {{ cert_file = \"{}\", key_file = \"{}\", client_ca_file = \"{}\", client_cert = \"require\", \
         client_crl_file = \"crl.pem\" }}",
        cert.display(),
        key.display(),
        ca.display()
    );
    let setup = Setup::new().directory("corp", "", &[server(&slapd.url(), "")]).listen(
        "ldaps",
        "127.0.0.1:0",
        &format!("directory = \"corp\"\n{tls}"),
    );
    let mut lists = certificates().lists("of-clients");
    lists.revoke(&certificates().renewed().0);
    setup.folder.write("crl.pem", lists.text());
    let usherd = setup.start();
    let shakes_hands = |(cert, key): (std::path::PathBuf, std::path::PathBuf)| {
        let [cert, key, ca] = [cert, key, ca.clone()].map(|path| path.display().to_string());
        let port = format!("127.0.0.1:{}", usherd.port(0));
        let args = [
            "s_client", "-tls1_2", "-connect", &port, "-cert", &cert, "-key", &key, "-CAfile", &ca,
        ];
        run("/usr/bin/openssl", &args, Duration::from_secs(20)).status.success()
    };
    assert!(shakes_hands(certificates().server()));
    assert!(!shakes_hands(certificates().renewed()));
    usherd.stop();
}
