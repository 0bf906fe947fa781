//! The programs people have, asked to do through usherd what they do with slapd directly: the same output, the same code.

use std::process::Output;
use std::time::Duration;

use crate::certificates::certificates;
use crate::proc::{run_with, setting, shown};
use crate::slapd::{ADMIN, BASE, EDITOR, PEOPLE, Slapd, password, user};
use crate::usherd::{Setup, Usherd, listener_tls, server};

/// A tool of ldap-utils against a URL, bound as somebody; `-ZZ` among `args` demands StartTLS.
fn tool(name: &str, url: &str, who: (&str, &str), args: &[&str]) -> Output {
    let ca = certificates().ca().display().to_string();
    let env = [("LDAPTLS_CACERT", ca.as_str()), ("LDAPTLS_REQCERT", "demand")];
    let bind = ["-x", "-H", url, "-D", who.0, "-w", who.1];
    let path = format!("/usr/bin/{name}");
    run_with(&path, &[&bind[..], args].concat(), &env, Duration::from_secs(30))
}

/// Each transport: URL of slapd, URL of usherd, and the option that demands StartTLS.
fn urls(slapd: &Slapd, usherd: &Usherd) -> [(String, String, Option<&'static str>); 4] {
    let socket = usherd.unix("ldapi").display().to_string().replace('/', "%2F");
    // libldap takes "localhost" for the host's own name when it looks at a certificate; the address is in it too.
    let at = |scheme: &str, listener: usize| format!("{scheme}://127.0.0.1:{}", usherd.port(listener));
    [
        (slapd.url(), at("ldap", 0), None),
        (slapd.url(), at("ldap", 1), Some("-ZZ")),
        (
            slapd.ldaps_url().replace("localhost", "127.0.0.1"),
            at("ldaps", 2),
            None,
        ),
        (slapd.ldapi_url(), format!("ldapi://{socket}"), None),
    ]
}

fn fronts(servers: &[String]) -> Usherd {
    let tls = listener_tls();
    Setup::corp("", servers)
        .listen(
            "ldap",
            "127.0.0.1:0",
            &format!("directory = \"corp\"\nstarttls = true\n{tls}"),
        )
        .listen("ldaps", "127.0.0.1:0", &format!("directory = \"corp\"\n{tls}"))
        .listen("ldap", "unix:ldapi", "directory = \"corp\"")
        .start()
}

fn same(direct: &Output, through: &Output, what: &str) {
    let equal = direct.status.code() == through.status.code()
        && direct.stdout == through.stdout
        && direct.stderr == through.stderr;
    assert!(
        equal,
        "{what}\n=== slapd: {}\n=== usherd: {}",
        shown(direct),
        shown(through)
    );
}

#[test]
fn reading_tools_say_through_usherd_what_they_say_directly() {
    let slapd = Slapd::start();
    let usherd = fronts(&[server(&slapd.url(), "")]);
    let one = user(1);
    let secret = password(1);
    let cases: &[(&str, &[&str], i32)] = &[
        ("ldapsearch", &["-LLL", "-b", PEOPLE, "(uid=user1*7)"], 0),
        ("ldapsearch", &["-LLL", "-b", BASE, "-s", "one", "*", "+"], 0),
        (
            "ldapsearch",
            &["-LLL", "-b", BASE, "-z", "5", "(objectClass=person)", "uid"],
            4,
        ),
        (
            "ldapsearch",
            &["-LLL", "-b", "uid=nobody,ou=people,dc=example,dc=com"],
            32,
        ),
        ("ldapsearch", &["-LLL", "-b", "cn=nothing,dc=example,dc=org"], 32),
        (
            "ldapsearch",
            &["-LLL", "-b", "ou=secret,dc=example,dc=com", "description"],
            0,
        ),
        ("ldapwhoami", &[], 0),
        ("ldapcompare", &[&one, "description:token-1"], 6),
        ("ldapcompare", &[&one, "description:token-2"], 5),
        ("ldapcompare", &[&one, "title:none"], 16),
    ];
    for (direct, through, tls) in urls(&slapd, &usherd) {
        for (name, args, code) in cases {
            let args = [tls.as_slice(), args].concat();
            let wanted = tool(name, &direct, (&one, &secret), &args);
            assert_eq!(
                wanted.status.code(),
                Some(*code),
                "the case itself: {name} {args:?} {}",
                shown(&wanted)
            );
            same(
                &wanted,
                &tool(name, &through, (&one, &secret), &args),
                &format!("{name} {args:?} at {through}"),
            );
        }
        let wanted = tool("ldapwhoami", &direct, (&one, "wrong"), tls.as_slice());
        assert_eq!(wanted.status.code(), Some(49), "{}", shown(&wanted));
        same(
            &wanted,
            &tool("ldapwhoami", &through, (&one, "wrong"), tls.as_slice()),
            &through,
        );
    }
    usherd.stop();
}

#[test]
fn writing_tools_do_through_usherd_what_they_do_directly() {
    let (behind, twin) = (Slapd::start(), Slapd::start());
    let usherd = fronts(&[server(&behind.url(), "")]);
    let file = |name: &str, text: &str| usherd.folder.write(name, text);
    for (front, ((direct, _, tls), (_, through, _))) in
        urls(&twin, &usherd).into_iter().zip(urls(&behind, &usherd)).enumerate()
    {
        let dn = format!("uid=new{front},ou=scratch,{BASE}");
        let moved = format!("uid=moved{front},ou=groups,{BASE}");
        let add = file(
            "add.ldif",
            &format!("dn: {dn}\nobjectClass: inetOrgPerson\nuid: new{front}\ncn: New\nsn: New\n"),
        );
        let change = file(
            "change.ldif",
            &format!("dn: {dn}\nchangetype: modify\nreplace: title\ntitle: Reader\n-\nadd: sn\nsn: Newer\n-\n"),
        );
        let broken = file(
            "broken.ldif",
            &format!("dn: {dn}\nchangetype: modify\nadd: nosuchattribute\nnosuchattribute: x\n-\n"),
        );
        let (rdn, parent) = (format!("uid=moved{front}"), format!("ou=groups,{BASE}"));
        let steps: &[(&str, &[&str], i32)] = &[
            ("ldapadd", &["-f", &add], 0),
            ("ldapadd", &["-f", &add], 68),
            ("ldapmodify", &["-f", &change], 0),
            ("ldapmodify", &["-f", &broken], 17),
            ("ldappasswd", &["-s", "first", &dn], 0),
            ("ldapmodrdn", &["-r", "-s", &parent, &dn, &rdn], 0),
            ("ldapsearch", &["-LLL", "-b", &moved, "*", "modifiersName"], 0),
            ("ldapdelete", &[&moved], 0),
            ("ldapdelete", &[&moved], 32),
        ];
        for (name, args, code) in steps {
            let args = [tls.as_slice(), args].concat();
            let wanted = tool(name, &direct, EDITOR, &args);
            assert_eq!(
                wanted.status.code(),
                Some(*code),
                "the case itself: {name} {args:?} {}",
                shown(&wanted)
            );
            same(
                &wanted,
                &tool(name, &through, EDITOR, &args),
                &format!("{name} {args:?} at {through}"),
            );
        }
        let number = 40 + front;
        let passwords = ["-a", &password(number), "-s", "changed"];
        let output = tool(
            "ldappasswd",
            &through,
            (&user(number), &password(number)),
            &[tls.as_slice(), &passwords].concat(),
        );
        assert!(output.status.success(), "{}", shown(&output));
        let new = tool("ldapwhoami", &behind.url(), (&user(number), "changed"), &[]);
        assert!(
            new.status.success(),
            "the password was not changed on the server: {}",
            shown(&new)
        );
    }
    usherd.stop();
}

#[test]
fn the_administrator_of_a_server_is_itself_through_usherd_too() {
    let slapd = Slapd::start();
    let usherd = fronts(&[server(&slapd.url(), "")]);
    let url = format!("ldap://127.0.0.1:{}", usherd.port(0));
    let said = tool("ldapwhoami", &url, ADMIN, &[]);
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        format!("dn:{}\n", ADMIN.0),
        "{}",
        shown(&said)
    );
    usherd.stop();
}

#[test]
fn python_ldap_keeps_hundreds_of_operations_outstanding_and_abandons_some() {
    let pair = Slapd::mirror();
    let usherd = fronts(&[server(&pair[0].url(), ""), server(&pair[1].url(), "")]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/outstanding.py");
    let operations = setting("USHERD_TEST_OPERATIONS", 20_000) / 8;
    let ca = certificates().ca().display().to_string();
    for (_, url, tls) in urls(&pair[0], &usherd) {
        if tls.is_some() {
            continue;
        }
        // At most 100 operations per client are taken at once by default (client_pending_max).
        for outstanding in ["100", "400"] {
            let args = [
                script,
                &url,
                &user(3),
                &password(3),
                &operations.to_string(),
                outstanding,
            ];
            let env = [("LDAPTLS_CACERT", ca.as_str()), ("PYTHONDONTWRITEBYTECODE", "1")];
            let output = run_with("/usr/bin/python3", &args, &env, Duration::from_secs(120));
            let missing = String::from_utf8_lossy(&output.stderr).contains("No module named 'ldap'");
            assert!(!missing, "these tests need python-ldap: apt-get install python3-ldap");
            assert!(output.status.success(), "{url}: {}", shown(&output));
            let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
            assert_eq!(said["wrong"].as_array().map(Vec::len), Some(0), "{said:#}");
            assert_eq!(said["identity"], format!("dn:{}", user(3)), "{said:#}");
            assert_eq!(said["most"].to_string(), outstanding, "{said:#}");
            assert!(said["abandoned"].as_u64() > Some(10), "{said:#}");
        }
    }
    usherd.stop();
}
