//! The daemon's own bind by SASL: what is written is what is done, and every mistake has its place.

use engine::upstream::sasl::Mechanism;

use super::*;

/// A directory with these lines, which begin in line 6, and a server.
fn with(lines: &str, server: &str) -> String {
    format!("{LISTEN}[directory.corp]\n{lines}\nserver = [{{ {server} }}]\n")
}

const SCRAM: &str = "bind_mechanism = \"SCRAM-SHA-256\"\nbind_authcid = \"usherd\"\nbind_password_file = \"secret\"";
const NEAR: &str = "url = \"ldap://localhost\"";

fn sasl(bind: Option<&plan::Bind>) -> &plan::Sasl {
    match bind {
        Some(plan::Bind::Sasl(sasl)) => sasl,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_what_is_done() {
    let fixture = Fixture::new("binds");
    let corp = &fixture.plan(&with(SCRAM, NEAR)).directories["corp"];
    assert_eq!(corp.identity, plan::Identity::Proxied, "there is a bind");
    let own = sasl(corp.bind.as_ref());
    assert_eq!(own.account.mechanisms().collect::<Vec<_>>(), [Mechanism::ScramSha256]);
    assert_eq!(own.account.who().authcid, "usherd");
    assert!(!own.in_clear && !format!("{corp:?}").contains("s3cret"));
    assert_eq!(corp.bind.as_ref().unwrap().name(), "usherd by SCRAM-SHA-256");

    let all = "bind_mechanism = [\"scram-sha-1\", \"PLAIN\"]\nbind_authcid = \"usherd\"\nbind_password_file = \"secret\"\n\
               bind_authzid = \"dn:cn=usherd,dc=x\"\nbind_in_clear = true\nbind_iterations_max = 5000";
    let server = "url = \"ldap://localhost\", bind_mechanism = \"EXTERNAL\", bind_authzid = \"u:other\", \
                  check = { base = \"dc=x\", bind_dn = \"cn=x\", bind_password_file = \"secret\" }";
    let server = server.replace("ldap://localhost", "ldapi://%2Frun%2Fldapi");
    let corp = &fixture.plan(&with(all, &server)).directories["corp"];
    let own = sasl(corp.bind.as_ref());
    assert_eq!(
        own.account.mechanisms().collect::<Vec<_>>(),
        [Mechanism::ScramSha1, Mechanism::Plain]
    );
    assert!(own.in_clear);
    let one = &corp.tiers[0].servers[0];
    let of_server = sasl(one.bind.as_ref());
    assert_eq!(
        of_server.account.mechanisms().collect::<Vec<_>>(),
        [Mechanism::External]
    );
    assert_eq!(of_server.account.who().authzid, "u:other");
    let check = one.check.as_ref().unwrap().bind.as_ref().unwrap();
    assert_eq!(check.simple().unwrap().dn, "cn=x");

    // A reload keeps connections where nothing differs, and only there.
    let plan = |lines: &str| fixture.plan(&with(lines, NEAR)).directories["corp"].bind.clone();
    assert_eq!(plan(SCRAM), plan(SCRAM));
    for other in [
        SCRAM.replace("SHA-256", "SHA-1"),
        SCRAM.replace("usherd", "other"),
        format!("{SCRAM}\nbind_authzid = \"u:x\""),
        format!("{SCRAM}\nbind_iterations_max = 4096"),
    ] {
        assert_ne!(plan(SCRAM), plan(&other), "{other}");
    }
}

#[test]
fn mistakes_have_their_place() {
    let fixture = Fixture::new("binds-mistakes");
    fixture.file("strange", "pass\u{7}word\n", 0o600);
    fixture.file("latin", "secret", 0o600);
    std::fs::write(fixture.0.join("latin"), b"\xe9\n").unwrap();
    let scram = |line: &str| format!("{line}\n{SCRAM}");
    for (lines, expected) in [
        (
            "bind_mechanism = \"GSS-SPNEGO\"".into(),
            "6:18 the daemon cannot bind with the SASL mechanism \"GSS-SPNEGO\"",
        ),
        (scram("bind_keytab = \"key\""), "6:15 `bind_keytab` is for GSSAPI"),
        ("bind_principal = \"x\"".into(), "6:18 `bind_principal` without `bind_mechanism`"),
        (
            "bind_mechanism = [\"PLAIN\", \"SCRAM-SHA-256-PLUS\"]\nbind_authcid = \"x\"\nbind_password_file = \"secret\"".into(),
            "6:28 the daemon cannot bind with the SASL mechanism \"SCRAM-SHA-256-PLUS\"",
        ),
        ("bind_mechanism = 3".into(), "6:18 `bind_mechanism` in [directory.corp] must be a list of texts"),
        ("bind_mechanism = []".into(), "6:18 `bind_mechanism` names no mechanism"),
        (
            "bind_mechanism = [\"PLAIN\", \"plain\"]\nbind_authcid = \"x\"\nbind_password_file = \"secret\"".into(),
            "6:28 `bind_mechanism` names PLAIN twice",
        ),
        (
            "bind_mechanism = \"PLAIN\"\nbind_password_file = \"secret\"".into(),
            "6:18 `bind_mechanism` without `bind_authcid`",
        ),
        (
            "bind_mechanism = \"PLAIN\"\nbind_authcid = \"x\"".into(),
            "6:18 `bind_mechanism` without `bind_password_file`",
        ),
        (scram("bind_dn = \"cn=x\""), "6:11 `bind_dn` and `bind_mechanism` exclude each other"),
        (scram("bind_authzid = \"usherd\""), "6:16 `bind_authzid` is not an authorization identity"),
        (scram("bind_authzid = \"dn:usherd\""), "6:16 `bind_authzid` is not a distinguished name"),
        (scram("bind_in_clear = true"), "6:17 `bind_in_clear` is for PLAIN"),
        (
            scram("bind_iterations_max = 4095"),
            "6:23 `bind_iterations_max` is out of bounds in [directory.corp]",
        ),
        (
            scram("allow_own_assertion = true"),
            "6:23 `allow_own_assertion` needs to know who the daemon is",
        ),
        (scram("bind_realm = \"x\""), "6:1 `bind_realm` is not part of this version"),
        (SCRAM.replace("usherd", "a\\u0007b"), "7:16 `bind_authcid` cannot be used"),
        (SCRAM.replace("\"secret\"", "\"strange\""), "8:22 the password cannot be used with SASL"),
        (SCRAM.replace("\"secret\"", "\"latin\""), "8:22 the password cannot be used with SASL"),
        (
            "bind_authcid = \"x\"".into(),
            "6:16 `bind_authcid` without `bind_mechanism`",
        ),
    ] {
        assert_eq!(fixture.found(&with(&lines, NEAR)), [expected], "in:\n{lines}");
    }
}

#[test]
fn what_a_mechanism_or_a_server_has_no_use_for_is_a_mistake() {
    let fixture = Fixture::new("binds-useless");
    let external = |line: &str| format!("bind_mechanism = \"EXTERNAL\"\n{line}");
    let here = "url = \"ldapi://%2Frun%2Fldapi\"";
    for (lines, expected) in [
        (
            external("bind_authcid = \"x\""),
            "7:16 `bind_authcid` has no meaning with EXTERNAL",
        ),
        (
            external("bind_password_file = \"secret\""),
            "7:22 `bind_password_file` has no meaning with EXTERNAL",
        ),
        (
            external("bind_iterations_max = 5000"),
            "7:23 `bind_iterations_max` is for SCRAM",
        ),
    ] {
        assert_eq!(fixture.found(&with(&lines, here)), [expected], "in:\n{lines}");
    }
    let local = format!("ldif = \"people.ldif\", {}", SCRAM.replace('\n', ", "));
    assert_eq!(
        fixture.found(&with("", &local)),
        [
            "7:52 `bind_mechanism` has no meaning for an LDIF file",
            "7:84 `bind_authcid` has no meaning for an LDIF file",
            "7:115 `bind_password_file` has no meaning for an LDIF file",
        ]
    );
}

#[test]
fn a_password_in_clear_and_a_connection_that_says_nobody_are_refused() {
    let fixture = Fixture::new("binds-connections");
    let plain = SCRAM.replace("SCRAM-SHA-256", "PLAIN");
    let clear = "PLAIN would send the password in plain text";
    let far = "url = \"ldap://far.example\"";
    let found = |lines: &str, server: &str| fixture.found(&with(lines, server));
    assert_eq!(found(&plain, far), [format!("9:19 {clear}")]);
    assert_eq!(found(SCRAM, far), Vec::<String>::new(), "SCRAM sends none");
    for server in [
        "url = \"ldaps://far.example\"",
        "url = \"ldap://far.example\", starttls = \"required\"",
        "url = \"ldap://127.0.0.1\"",
        "url = \"ldapi://%2Frun%2Fldapi\"",
    ] {
        assert_eq!(found(&plain, server), Vec::<String>::new(), "{server}");
    }
    assert_eq!(
        found(&format!("{plain}\nbind_in_clear = true"), far),
        ["10:19 warning: the password of `bind_authcid` travels in plain text"]
    );
    // What a server or a check says itself goes before what the directory says.
    let own = format!("{far}, {}", plain.replace('\n', ", "));
    assert_eq!(found(SCRAM, &own), [format!("9:19 {clear}")]);
    let check = format!("{far}, check = {{ {} }}", plain.replace('\n', ", "));
    assert_eq!(found(SCRAM, &check), [format!("9:19 {clear}")]);
    let own = format!("{far}, {}", SCRAM.replace('\n', ", "));
    assert_eq!(found(&plain, &own), Vec::<String>::new());

    // A name and password of the directory's do not travel to a server that has a bind of its own.
    let simple = "bind_dn = \"cn=x\"\nbind_password_file = \"secret\"";
    assert_eq!(found(simple, &own), Vec::<String>::new());
    assert_eq!(
        found(simple, far),
        ["8:19 warning: the password of `bind_dn` travels in plain text"]
    );

    let external = "bind_mechanism = \"EXTERNAL\"";
    let nobody = "7:19 EXTERNAL needs a connection that says who the daemon is";
    for server in [
        "url = \"ldap://localhost\"",
        "url = \"ldaps://localhost\"",
        "url = \"ldap://localhost\", starttls = \"required\", tls = { ca_file = \"a.crt\" }",
    ] {
        assert_eq!(found(external, server), [nobody], "{server}");
    }
    for server in [
        "url = \"ldapi://%2Frun%2Fldapi\"",
        "url = \"ldaps://localhost\", tls = { cert_file = \"a.crt\", key_file = \"a.key\" }",
    ] {
        assert_eq!(found(external, server), Vec::<String>::new(), "{server}");
    }
}

const GSSAPI: &str = "bind_mechanism = \"GSSAPI\"";

#[cfg(feature = "gssapi")]
#[test]
fn gssapi_has_a_key_or_tickets_and_a_name_of_the_server() {
    let fixture = Fixture::new("binds-gssapi");
    std::fs::write(fixture.0.join("key"), b"\x05\x02rest").unwrap();
    let named = "url = \"ldap://ldap1.example.com\"";
    let all = format!(
        "{GSSAPI}\nbind_principal = \"usherd@EXAMPLE.COM\"\nbind_keytab = \"key\"\nbind_service = \"ldap@dir.example.com\""
    );
    let plan = |lines: &str| fixture.plan(&with(lines, named)).directories["corp"].bind.clone();
    let bind = plan(&all).unwrap();
    let kerberos = bind.kerberos().unwrap();
    assert_eq!(kerberos.keytab, Some(fixture.0.join("key")));
    assert_eq!(kerberos.principal.as_deref(), Some("usherd@EXAMPLE.COM"));
    assert_eq!(kerberos.server.as_ref().unwrap().host, "dir.example.com");
    assert_eq!(bind.name(), "usherd@EXAMPLE.COM by GSSAPI");
    assert_eq!(bind.identity(), "sasl:usherd@EXAMPLE.COM");
    assert_eq!(plan(GSSAPI).unwrap().identity(), "sasl:GSSAPI");
    assert_eq!(plan(&all), plan(&all));
    assert_ne!(plan(&all), plan(&all.replace("dir.", "other.")));
    assert_ne!(plan(&all), plan(GSSAPI));
    let two = format!(
        "{}\nbind_keytab = \"key\"",
        SCRAM.replace("\"SCRAM-SHA-256\"", "[\"GSSAPI\", \"SCRAM-SHA-256\"]")
    );
    assert!(plan(&two).unwrap().kerberos().is_some());
}

#[cfg(feature = "gssapi")]
#[test]
fn mistakes_of_gssapi_have_their_place() {
    let fixture = Fixture::new("binds-gssapi-mistakes");
    std::fs::write(fixture.0.join("key"), b"\x05\x02rest").unwrap();
    fixture.file("nokey", "BEGIN", 0o600);
    let named = "url = \"ldap://ldap1.example.com\"";
    let one = |line: &str| format!("{GSSAPI}\n{line}");
    for (lines, expected) in [
        (
            one("bind_keytab = \"absent\""),
            "7:15 the keytab FOLDER/absent cannot be read",
        ),
        (one("bind_keytab = \"nokey\""), "7:15 FOLDER/nokey is not a keytab"),
        (
            one("bind_keytab = \"key\"\nbind_ccache = \"tickets\""),
            "8:15 `bind_ccache` and `bind_keytab` exclude each other",
        ),
        (
            one("bind_principal = \"\""),
            "7:18 `bind_principal` is not the name of a principal",
        ),
        (
            one("bind_principal = \"a b\""),
            "7:18 `bind_principal` is not the name of a principal",
        ),
        (
            one("bind_service = \"ldap\""),
            "7:16 `bind_service` is not the name of a service",
        ),
        (
            one("bind_service = \"@host\""),
            "7:16 `bind_service` is not the name of a service",
        ),
        (
            one("bind_service = \"ldap@\""),
            "7:16 `bind_service` is not the name of a service",
        ),
        (
            one("bind_service = \"ldap/host@REALM\""),
            "7:16 `bind_service` is not the name of a service",
        ),
        (
            one("bind_authcid = \"x\""),
            "7:16 `bind_authcid` has no meaning with GSSAPI",
        ),
        (one("bind_in_clear = true"), "7:17 `bind_in_clear` is for PLAIN"),
    ] {
        let expected = expected.replace("FOLDER", &fixture.0.display().to_string());
        let found: Vec<String> = fixture.found(&with(&lines, named));
        let found: Vec<&String> = found
            .iter()
            .filter(|one| !one.contains("everyone on this machine"))
            .collect();
        assert_eq!(found, [&expected], "in:\n{lines}");
    }
    assert_eq!(fixture.found(&with(GSSAPI, named)), Vec::<String>::new());
    assert_eq!(
        fixture.found(&with(GSSAPI, "url = \"ldapi://%2Frun%2Fldapi\"")),
        ["7:19 GSSAPI needs the server's name, and this address has none"]
    );
    assert_eq!(
        fixture.found(&with(GSSAPI, "url = \"ldap://192.0.2.1\"")),
        ["7:19 warning: GSSAPI asks for a ticket for an address"]
    );
    let said = one("bind_service = \"ldap@host\"");
    for url in ["ldapi://%2Frun%2Fldapi", "ldap://192.0.2.1"] {
        assert_eq!(
            fixture.found(&with(&said, &format!("url = \"{url}\""))),
            Vec::<String>::new()
        );
    }
}

#[cfg(not(feature = "gssapi"))]
#[test]
fn a_build_without_gssapi_says_so() {
    let fixture = Fixture::new("binds-gssapi");
    assert_eq!(
        fixture.found(&with(GSSAPI, NEAR)),
        ["6:18 the daemon cannot bind with GSSAPI"]
    );
}

#[test]
fn how_much_is_asked_of_kerberos_is_said_in_server() {
    let fixture = Fixture::new("gssapi-bounds");
    let server = |lines: &str| format!("[server]\n{lines}\n{DIRECTORY}{LISTEN}");
    let bounds = |lines| fixture.plan(&server(lines)).server.gssapi;
    assert_eq!(bounds(""), crate::gssapi::Bounds::default());
    let (threads_max, waiting_max, token_bytes_max) = (7, 8, 9 << 10);
    let written = "gssapi_threads = 7\ngssapi_waiting_max = 8\ngssapi_token_bytes_max = \"9KiB\"";
    assert_eq!(
        bounds(written),
        crate::gssapi::Bounds {
            threads_max,
            waiting_max,
            token_bytes_max
        }
    );
    for (line, mistake) in [
        (
            "gssapi_waiting_max = 0",
            "2:22 `gssapi_waiting_max` is out of bounds in [server]",
        ),
        (
            "gssapi_token_bytes_max = \"1B\"",
            "2:26 `gssapi_token_bytes_max` is out of bounds in [server]",
        ),
        (
            "gssapi_token_bytes_max = \"64MiB\"",
            "2:26 `gssapi_token_bytes_max` is out of bounds in [server]",
        ),
    ] {
        assert_eq!(fixture.found(&server(line)), [mistake], "{line}");
    }
}
