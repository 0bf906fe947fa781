//! Every class of mistake, with its exact place and its words.

use super::*;
use std::path::PathBuf;

/// A folder with the files that configurations in these tests name; removed at the end.
struct Fixture(PathBuf);

impl Fixture {
    fn new(name: &str) -> Fixture {
        let folder = std::env::temp_dir().join(format!("usherd-config-test-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let fixture = Fixture(folder);
        fixture.file("secret", "s3cret\n", 0o600);
        fixture.file("open-secret", "s3cret\n", 0o644);
        fixture.file("empty-secret", "\n", 0o600);
        fixture.file(
            "people.ldif",
            "version: 1\n\ndn: dc=example,dc=com\nobjectClass: domain\ndc: example\n",
            0o644,
        );
        fixture.file("script", "#!/bin/sh\n", 0o644);
        for side in ["a", "b"] {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
            fixture.file(&format!("{side}.crt"), &made.cert.pem(), 0o644);
            fixture.file(&format!("{side}.key"), &made.signing_key.serialize_pem(), 0o600);
        }
        fixture
    }

    fn file(&self, name: &str, text: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self, text: &str) -> Result<(Plan, Vec<Diagnostic>), Vec<Diagnostic>> {
        from_text(text, &self.0.join("usherd.toml"))
    }

    /// Everything found, as `line:column message`, warnings marked; an error has its exact place, always.
    fn found(&self, text: &str) -> Vec<String> {
        let list = match self.read(text) {
            Ok((_, warnings)) => warnings,
            Err(found) => found,
        };
        list.iter()
            .map(|one| {
                let mark = if one.severity == Severity::Warning {
                    "warning: "
                } else {
                    ""
                };
                match one.position() {
                    Some((line, column)) => format!("{line}:{column} {mark}{}", one.message),
                    None => format!("{mark}{}", one.message),
                }
            })
            .collect()
    }

    fn plan(&self, text: &str) -> Plan {
        match self.read(text) {
            Ok((plan, _)) => plan,
            Err(found) => panic!("{}", render(&found, false)),
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Listener and directory around what a test is about.
const LISTEN: &str = "[[listen]]\nprotocol = \"ldap\"\naddress = \"127.0.0.1:1389\"\ndirectory = \"corp\"\n";
const DIRECTORY: &str = "[directory.corp]\nserver = [{ url = \"ldap://localhost\" }]\n";

#[test]
fn a_small_file_means_what_the_defaults_say() {
    let fixture = Fixture::new("small");
    let plan = fixture.plan(&format!("{DIRECTORY}{LISTEN}"));
    let corp = &plan.directories["corp"];
    assert_eq!(corp.identity, plan::Identity::Pinned, "without a bind");
    assert_eq!(corp.limits, limits::defaults());
    assert_eq!(corp.tiers.len(), 1);
    let server = &corp.tiers[0].servers[0];
    assert_eq!(
        (server.connections, server.connections_max, server.bind_connections_max),
        (4, 16, 16)
    );
    assert_eq!(
        (server.name.as_str(), server.weight, server.pending_max),
        ("ldap://localhost", 1, 0)
    );
    let expected = plan::Target::Tcp {
        host: "localhost".into(),
        port: 389,
        tls: plan::UpstreamTls::None,
    };
    assert_eq!(server.target, expected);
    assert_eq!(
        plan.listeners[0].address,
        plan::Address::Tcp("127.0.0.1:1389".parse().unwrap())
    );
    assert_eq!(plan.server.control, PathBuf::from(CONTROL_DEFAULT));
    assert!(plan.server.admin.is_none() && plan.server.workers >= 1);
    assert_eq!(
        plan,
        fixture.plan(&format!("{DIRECTORY}{LISTEN}")),
        "the same text is the same plan"
    );
}

#[test]
fn a_full_file_is_understood() {
    let fixture = Fixture::new("full");
    let plan = fixture.plan(
        r#"
[server]
workers = 3
control = "control.sock"
admin = "127.0.0.1:9389"
drain_gentle = "1m"
[directory.corp]
base = "dc=example,dc=com"
bind_dn = "cn=usherd,dc=example,dc=com"
bind_password_file = "secret"
search_timeout = 5
request_bytes_max = "1MiB"
[[directory.corp.tier]]
policy = "weighted"
server = [
    { url = "ldaps://one.example", weight = 10, tls = { ca_file = "a.crt", server_name = "dir.example" } },
    { url = "ldap://two.example:1389", starttls = "tried", connections = 2, connections_max = 3 },
]
[[directory.corp.tier]]
server = [{ ldif = "people.ldif", name = "rescue" }]
[service.upper]
helper = "exec"
program = ["tr", "a-z", "A-Z"]
environment = { LANG = "C" }
[[listen]]
protocol = "ldap"
address = "unix:ldapi"
directory = "corp"
mode = "0660"
[[listen]]
protocol = "ldaps"
address = "127.0.0.1:1636"
directory = "corp"
tls = { cert_file = "a.crt", key_file = "a.key", client_ca_file = "b.crt", client_cert = "request" }
[[listen]]
protocol = "rpc"
address = "unix:rpc.sock"
"#,
    );
    assert_eq!(plan.server.workers, 3);
    assert_eq!(plan.server.control, fixture.0.join("control.sock"));
    let corp = &plan.directories["corp"];
    assert_eq!(corp.identity, plan::Identity::Proxied, "with a bind");
    assert_eq!(
        corp.bind.as_ref().unwrap().password.as_slice(),
        b"s3cret",
        "without the newline"
    );
    assert!(!format!("{corp:?}").contains("s3cret"), "never printed");
    assert_eq!(corp.limits.search_timeout.as_secs(), 5);
    assert_eq!(corp.limits.request_bytes_max, 1 << 20);
    assert!(matches!(
        &corp.tiers[0].servers[0].target,
        plan::Target::Tcp { port: 636, tls: plan::UpstreamTls::Ldaps(tls), .. }
            if tls.server_name.as_deref() == Some("dir.example") && tls.verify && tls.stamp != 0
    ));
    assert_eq!(corp.tiers[1].servers[0].name, "rescue");
    let service = &plan.services["upper"];
    assert!(
        service.program[0].starts_with('/'),
        "found on PATH: {:?}",
        service.program
    );
    assert_eq!(service.environment["LANG"], "C");
    assert!(service.environment.contains_key("PATH"));
    assert_eq!(
        plan.listeners[0].address,
        plan::Address::Unix(fixture.0.join("ldapi"), 0o660)
    );
    assert!(plan.listeners[1].tls_first);
    assert_eq!(
        plan.listeners[2].address,
        plan::Address::Unix(fixture.0.join("rpc.sock"), 0o600)
    );
}

#[test]
fn every_mistake_is_shown_at_once() {
    let fixture = Fixture::new("all");
    let found = fixture.found(
        r#"[server]
wrokers = 2
admin = "127.0.0.1"
[directory.corp]
identity = "proxyed"
search-timeout = "10 parsecs"
server = [{ url = "ldap.example.com", weight = "2" }, { ldif = "nothing.ldif" }]
[[listen]]
protocol = "ldpa"
address = "127.0.0.1:1389"
directory = "corpp"
"#,
    );
    assert_eq!(
        found,
        [
            "2:1 unknown setting `wrokers` in [server]",
            "3:9 `admin` in [server] is not an address",
            "5:12 unknown identity \"proxyed\" in [directory.corp]",
            "6:1 unknown setting `search-timeout` in [directory.corp]",
            "7:19 `url` of a server is not an LDAP URL",
            "7:48 `weight` in a server of [directory.corp] must be a whole number",
            &format!("7:64 the LDIF file {}/nothing.ldif cannot be read", fixture.0.display()),
            "9:12 unknown protocol \"ldpa\" in [[listen]]",
        ]
    );
}

#[test]
fn what_is_shown_has_the_line_the_carets_and_the_right_spelling() {
    let fixture = Fixture::new("shown");
    let text =
        format!("{LISTEN}[directory.corp]\npolicy = \"least_busy\"\nserver = [{{ url = \"ldap://localhost\" }}]\n");
    let shown =
        render(&fixture.read(&text).unwrap_err(), false).replace(&fixture.0.display().to_string(), "/etc/usherd");
    assert_eq!(
        shown,
        "error: unknown policy \"least_busy\" in [directory.corp]\n \
         --> /etc/usherd/usherd.toml:6:10\n  |\n\
         6 | policy = \"least_busy\"\n  |          ^^^^^^^^^^^^ not one of the choices\n  |\n  \
         = help: did you mean \"least-busy\"?\n  \
         = help: it may be \"round-robin\", \"weighted\", \"best-of-two\", \"least-busy\", \"by-hash\"\n\n1 error\n"
    );
}

#[test]
fn text_that_is_not_toml() {
    let fixture = Fixture::new("toml");
    let found = fixture.found("[server\nworkers = 2\nadmin = \n");
    assert!(
        found.iter().any(|one| one.starts_with("1:8 this is not TOML")),
        "{found:?}"
    );
    assert_eq!(
        found.len(),
        1,
        "what follows may have been misread, and is not complained about: {found:?}"
    );
    let found = fixture.found("[server]\nwrokers = 2\nadmin = \n[directory.x]\nserver = [\"\n");
    assert_eq!(found[0], "2:1 unknown setting `wrokers` in [server]");
    assert!(
        found[1].starts_with("3:9 this is not TOML") && found[2].starts_with("5:"),
        "all of them: {found:?}"
    );
    assert_eq!(fixture.found(""), ["nothing listens"]);
    let found = fixture.found("[server]\nworkers = 1\nworkers = 2\n");
    assert!(found[0].starts_with("3:1 this is not TOML: duplicate key"), "{found:?}");
}

/// A text and what must be found in it, alone.
#[track_caller]
fn one(fixture: &Fixture, text: &str, expected: &str) {
    let found = fixture.found(text);
    assert_eq!(
        found,
        [expected.replace("FOLDER", &fixture.0.display().to_string())],
        "in:\n{text}"
    );
}

#[test]
fn mistakes_of_the_server_section() {
    let fixture = Fixture::new("server");
    let cpus = std::thread::available_parallelism().unwrap();
    let with = |line: &str| format!("{DIRECTORY}{LISTEN}[server]\n{line}\n");
    one(
        &fixture,
        &with("workers = 4000"),
        "8:11 `workers` is out of bounds in [server]",
    );
    one(
        &fixture,
        &with("workers = \"4\""),
        "8:11 `workers` in [server] must be a whole number",
    );
    one(
        &fixture,
        &with("workers = -1000"),
        &format!("8:11 warning: `workers` leaves none of {cpus} CPUs"),
    );
    one(
        &fixture,
        &with("control = 3"),
        "8:11 `control` in [server] must be text in quotes",
    );
    one(
        &fixture,
        &with("admin = \"unix:/run/x\""),
        "8:9 `admin` in [server] is an address for HTTP",
    );
    one(
        &fixture,
        &with("admin = \"0.0.0.0:9389\""),
        "8:9 warning: the admin side listens beyond this machine",
    );
    one(
        &fixture,
        &with("admin = \"127.0.0.1:1389\""),
        "5:11 127.0.0.1:1389 is listened on twice",
    );
    one(
        &fixture,
        &with("drain_firm = \"2h\""),
        "8:14 `drain_firm` is out of bounds in [server]",
    );
    one(
        &fixture,
        &with("drain_firm = \"2\""),
        "8:14 `drain_firm` cannot be read in [server]",
    );
    one(
        &fixture,
        &with("drain_firm = true"),
        "8:14 `drain_firm` in [server] must be a duration",
    );
    one(
        &fixture,
        &with("outbox_bytes_total = \"1kib\""),
        "8:22 `outbox_bytes_total` cannot be read in [server]",
    );
    one(
        &fixture,
        &with("outbox_bytes_total = 1"),
        "8:22 `outbox_bytes_total` is out of bounds in [server]",
    );
    one(
        &fixture,
        &with("state_dir = \"/var/lib/usherd\""),
        "8:1 `state_dir` is not part of this version",
    );
    one(
        &fixture,
        &with("search_timeout = 3"),
        "8:1 unknown setting `search_timeout` in [server]",
    );
    one(
        &fixture,
        &with(&format!("control = \"/{}\"", "x".repeat(120))),
        "8:11 the path of the unix socket is too long",
    );
    one(
        &fixture,
        &format!("[[server]]\n{DIRECTORY}{LISTEN}"),
        "1:1 `server` in the file must be one table",
    );
    one(
        &fixture,
        &format!("[feed.x]\n{DIRECTORY}{LISTEN}"),
        "1:2 `feed` is not part of this version",
    );
    one(
        &fixture,
        &format!("[sever]\n{DIRECTORY}{LISTEN}"),
        "1:2 unknown setting `sever` in the file",
    );
}

#[test]
fn mistakes_of_a_directory() {
    let fixture = Fixture::new("directory");
    let with = |line: &str| format!("{LISTEN}[directory.corp]\n{line}\n");
    let server = "server = [{ url = \"ldap://localhost\" }]";
    let and = |line: &str| with(&format!("{line}\n{server}"));
    one(&fixture, &with(""), "5:12 the directory `corp` has no server");
    one(
        &fixture,
        &with("server = { url = \"ldap://x\" }"),
        "6:10 `server` in [directory.corp] must be a list of tables",
    );
    one(
        &fixture,
        &and("base = \"example.com\""),
        "6:8 `base` is not a distinguished name",
    );
    one(
        &fixture,
        &and("identity = \"proxied\""),
        "6:12 identity \"proxied\" needs a bind of the daemon's own",
    );
    one(
        &fixture,
        &and("bind_dn = \"cn=x\""),
        "6:11 `bind_dn` without `bind_password_file`",
    );
    one(
        &fixture,
        &and("bind_password_file = \"secret\""),
        "6:22 `bind_password_file` without `bind_dn`",
    );
    one(
        &fixture,
        &and("bind_dn = \"usherd\"\nbind_password_file = \"secret\""),
        "6:11 `bind_dn` is not a distinguished name",
    );
    one(
        &fixture,
        &and("bind_dn = \"cn=x\"\nbind_password_file = \"none\""),
        "7:22 the password file FOLDER/none cannot be read",
    );
    one(
        &fixture,
        &and("bind_dn = \"cn=x\"\nbind_password_file = \"empty-secret\""),
        "7:22 the password file is empty",
    );
    one(
        &fixture,
        &and("bind_dn = \"cn=x\"\nbind_password_file = \"open-secret\""),
        "7:22 warning: everyone on this machine may read FOLDER/open-secret",
    );
    one(
        &fixture,
        &and("bind_password = \"x\""),
        "6:1 `bind_password` in [directory.corp]: a secret does not stand in this file",
    );
    one(
        &fixture,
        &and("retry_min = \"1h\""),
        "6:13 `retry_min` is longer than `retry_max` in [directory.corp]",
    );
    one(
        &fixture,
        &and("probe_interval = \"100ms\""),
        "6:18 `probe_suspect_interval` is longer than `probe_interval` in [directory.corp]",
    );
    one(
        &fixture,
        &and("eject_after = 0"),
        "6:15 `eject_after` is out of bounds in [directory.corp]",
    );
    one(
        &fixture,
        &and("allow_unauthenticated_bind = true"),
        "6:30 warning: binds with a DN and an empty password are passed on",
    );
    one(
        &fixture,
        &and("allow_unauthenticated_bind = \"no\""),
        "6:30 `allow_unauthenticated_bind` in [directory.corp] must be true or false",
    );
    one(
        &fixture,
        &and("tls = 1"),
        "6:7 `tls` in [directory.corp] must be a table",
    );
    one(
        &fixture,
        &and("timeout = 1"),
        "6:1 unknown setting `timeout` in [directory.corp]",
    );
    one(
        &fixture,
        &with("[[directory.corp.tier]]"),
        "6:1 a tier of [directory.corp] has no server",
    );
    let both = format!("{server}\n[[directory.corp.tier]]\n{server}");
    one(
        &fixture,
        &with(&both.replacen("localhost", "other", 1)),
        "6:11 [directory.corp] has both `server` and tiers",
    );
    one(
        &fixture,
        &format!("{LISTEN}[directory]\n{server}"),
        "6:1 `server` stands directly in [directory]",
    );
    one(
        &fixture,
        &format!("{DIRECTORY}{LISTEN}[directory.\"a b\"]\n{server}"),
        "7:12 `a b` cannot be the name of a directory",
    );
    one(
        &fixture,
        &format!("{DIRECTORY}{LISTEN}[directory.other]\n{server}"),
        "7:12 warning: no listener serves the directory `other`",
    );
}

#[test]
fn mistakes_of_a_server() {
    let fixture = Fixture::new("upstream");
    let with = |entry: &str| format!("{LISTEN}[directory.corp]\nserver = [{{ {entry} }}]\n");
    let ldap = |rest: &str| with(&format!("url = \"ldap://localhost\", {rest}"));
    one(&fixture, &with("weight = 1"), "6:11 a server without an address");
    one(
        &fixture,
        &with("url = \"http://x\""),
        "6:19 `url` of a server is not an LDAP URL",
    );
    one(
        &fixture,
        &ldap("ldif = \"people.ldif\""),
        "6:46 a server has a `url` or an `ldif`, not both",
    );
    one(
        &fixture,
        &with("ldif = \"people.ldif\", connections = 2"),
        "6:49 `connections` has no meaning for an LDIF file",
    );
    one(
        &fixture,
        &with("ldif = \".\""),
        "6:20 the LDIF file FOLDER/. cannot be read",
    );
    one(
        &fixture,
        &ldap("connections = 5, connections_max = 4"),
        "6:53 `connections` is more than `connections_max`",
    );
    one(&fixture, &ldap("weight = 0"), "6:48 every weight of this tier is 0");
    one(
        &fixture,
        &ldap("tls = { ca_file = \"a.crt\" }"),
        "6:45 `tls` on a plain ldap:// server is never used",
    );
    one(
        &fixture,
        &ldap("starttls = \"always\""),
        "6:50 unknown starttls \"always\" in a server of [directory.corp]",
    );
    one(
        &fixture,
        &ldap("starttls = true"),
        "6:50 `starttls` in a server of [directory.corp] must be one of \"required\", \"tried\"",
    );
    one(
        &fixture,
        &ldap("bind_connections = 4"),
        "6:39 `bind_connections` is not part of this version",
    );
    one(
        &fixture,
        &ldap("ca_file = \"a.crt\""),
        "6:39 unknown setting `ca_file` in a server of [directory.corp]",
    );
    one(
        &fixture,
        &with("url = \"ldaps://x\", starttls = \"tried\""),
        "6:43 `starttls` is for ldap://",
    );
    one(
        &fixture,
        &with("url = \"ldapi://%2Fx\", starttls = \"tried\""),
        "6:46 `starttls` is for ldap://",
    );
    let tls = |entry: &str| with(&format!("url = \"ldaps://x\", tls = {{ {entry} }}"));
    one(
        &fixture,
        &tls("verify = false"),
        "6:49 warning: the server's certificate is not verified",
    );
    one(
        &fixture,
        &tls("ca_file = \"none\""),
        "6:50 the certificate file FOLDER/none cannot be read",
    );
    one(
        &fixture,
        &tls("ca_file = \"secret\""),
        "6:50 no certificate in FOLDER/secret",
    );
    one(
        &fixture,
        &tls("cert_file = \"a.crt\""),
        "6:52 a certificate and its key come together: `key_file` is missing",
    );
    one(
        &fixture,
        &tls("cert_file = \"a.crt\", key_file = \"b.key\""),
        "6:72 the key does not belong to the certificate",
    );
    one(
        &fixture,
        &tls("server_name = \"not a name\""),
        "6:54 `server_name` is not a host name",
    );
    let two = "server = [{ url = \"ldap://a\" }, { url = \"ldap://a\" }]\n";
    one(
        &fixture,
        &format!("{LISTEN}[directory.corp]\n{two}"),
        "6:41 two servers of one directory are called `ldap://a`",
    );
    let plain = "bind_dn = \"cn=x\"\nbind_password_file = \"secret\"\nserver = [{ url = \"ldap://far.example\" }]\n";
    one(
        &fixture,
        &format!("{LISTEN}[directory.corp]\n{plain}"),
        "8:19 warning: the password of `bind_dn` travels in plain text",
    );
    let robin = "policy = \"round-robin\"\nserver = [{ url = \"ldap://a\", weight = 2 }]\n";
    one(
        &fixture,
        &format!("{LISTEN}[directory.corp]\n{robin}"),
        "7:40 warning: `weight` has no effect under round-robin",
    );
}

#[test]
fn mistakes_of_a_listener() {
    let fixture = Fixture::new("listen");
    let with = |lines: &str| format!("{DIRECTORY}[[listen]]\n{lines}\n");
    let ldap = |lines: &str| with(&format!("protocol = \"ldap\"\naddress = \"127.0.0.1:1389\"\n{lines}"));
    one(
        &fixture,
        &with("protocol = \"ldap\""),
        "3:1 [[listen]] without an address",
    );
    one(
        &fixture,
        &with("address = \"127.0.0.1:1389\""),
        "3:1 [[listen]] without a protocol",
    );
    one(
        &fixture,
        &with("protocol = \"ldap\"\naddress = \"example.com:389\""),
        "5:11 `address` in [[listen]] is not an address",
    );
    one(
        &fixture,
        &with("protocol = \"ldap\"\naddress = \"ldaps://:636\""),
        "4:12 `protocol` and `address` contradict each other",
    );
    one(
        &fixture,
        &with("protocol = \"radius\"\naddress = \"[::]:1812\""),
        "4:12 protocol \"radius\" is not part of this version",
    );
    one(
        &fixture,
        &ldap("directory = \"crop\""),
        "6:13 there is no directory `crop`",
    );
    one(&fixture, &ldap("mode = \"0600\""), "6:8 `mode` is for unix sockets");
    one(
        &fixture,
        &ldap("starttls = true"),
        "6:12 StartTLS without a certificate",
    );
    one(
        &fixture,
        &ldap("tls = { cert_file = \"a.crt\", key_file = \"a.key\" }"),
        "6:7 `tls` on a plain ldap listener is never used",
    );
    one(
        &fixture,
        &ldap("starttls = true\ntls = { cert_file = \"a.crt\" }"),
        "7:7 `tls` of a listener without `key_file`",
    );
    one(
        &fixture,
        &ldap("starttls = true\ntls = { cert_file = \"a.crt\", key_file = \"secret\" }"),
        "7:41 no private key in FOLDER/secret",
    );
    one(
        &fixture,
        &ldap("starttls = true\ntls = { cert_file = \"a.crt\", key_file = \"b.key\" }"),
        "7:41 the key does not belong to the certificate",
    );
    one(
        &fixture,
        &ldap("starttls = true\ntls = { cert_file = \"a.crt\", key_file = \"a.key\", client_cert = \"require\" }"),
        "7:64 client certificates cannot be verified without `client_ca_file`",
    );
    one(
        &fixture,
        &ldap("starttls = true\ntls = { cert_file = \"a.crt\", key_file = \"a.key\", client_ca_file = \"b.crt\" }"),
        "7:67 warning: `client_ca_file` is never used",
    );
    one(
        &fixture,
        &ldap("payload_bytes_max = \"1MiB\""),
        "6:21 `payload_bytes_max` is for rpc listeners",
    );
    one(
        &fixture,
        &with("protocol = \"ldaps\"\naddress = \"[::]:636\""),
        "3:1 an ldaps listener without a certificate",
    );
    one(
        &fixture,
        &with("protocol = \"ldap\"\naddress = \"unix:l\"\nmode = \"999\""),
        "6:8 `mode` in [[listen]] must be a file mode",
    );
    one(
        &fixture,
        &format!("{DIRECTORY}{LISTEN}{LISTEN}"),
        "9:11 127.0.0.1:1389 is listened on twice",
    );
    one(
        &fixture,
        &format!("{DIRECTORY}[listen]\naddress = \"x\""),
        "3:1 `listen` in the file must be a list of tables",
    );
    let rpc = |lines: &str| format!("{DIRECTORY}{LISTEN}[[listen]]\nprotocol = \"rpc\"\n{lines}\n");
    one(
        &fixture,
        &rpc("address = \"unix:r\"\ndirectory = \"corp\""),
        "10:13 an rpc listener serves services, not a directory",
    );
    one(
        &fixture,
        &rpc("address = \"unix:r\"\nstarttls = true"),
        "10:12 `starttls` is for protocol \"ldap\"",
    );
    one(
        &fixture,
        &rpc("address = \"unix:r\"\ntls = { cert_file = \"a.crt\", key_file = \"a.key\" }"),
        "10:7 an rpc listener has no TLS in this version",
    );
    one(
        &fixture,
        &rpc("address = \"0.0.0.0:4000\""),
        "9:11 warning: the rpc listener is open beyond this machine",
    );
    let two = format!(
        "{DIRECTORY}[directory.b]\nserver = [{{ ldif = \"people.ldif\" }}]\n[[listen]]\naddress = \"ldap://127.0.0.1:1\"\n"
    );
    one(&fixture, &two, "5:1 [[listen]] without a directory");
    let port_0 = LISTEN.replace(":1389", ":0");
    assert_eq!(
        fixture.found(&format!("{DIRECTORY}{port_0}{port_0}")),
        [""; 0],
        "the kernel chooses two ports"
    );
}

#[test]
fn mistakes_of_a_service() {
    let fixture = Fixture::new("service");
    let rpc = "[[listen]]\nprotocol = \"rpc\"\naddress = \"unix:rpc.sock\"\n";
    let with = |lines: &str| format!("{rpc}[service.upper]\n{lines}\n");
    let exec = |lines: &str| with(&format!("helper = \"exec\"\n{lines}"));
    one(
        &fixture,
        &with("program = [\"tr\"]"),
        "4:10 the service `upper` does not say what runs it",
    );
    one(
        &fixture,
        &with("helper = \"winbind\"\nprogram = [\"tr\"]"),
        "5:10 helper \"winbind\" is not part of this version",
    );
    one(&fixture, &exec(""), "4:10 the service `upper` has no program");
    one(&fixture, &exec("program = []"), "6:11 `program` is an empty list");
    one(
        &fixture,
        &exec("program = [\"no-such-program-anywhere\"]"),
        "6:12 the program `no-such-program-anywhere` is not on PATH",
    );
    one(
        &fixture,
        &exec("program = [\"./none\"]"),
        "6:12 the program FOLDER/./none cannot be found",
    );
    one(
        &fixture,
        &exec("program = [\"./script\"]"),
        "6:12 the program FOLDER/./script is not executable",
    );
    one(&fixture, &exec("program = [\"/\"]"), "6:12 the program / is not a file");
    one(
        &fixture,
        &exec("program = [\"tr a-z A-Z\"]"),
        "6:12 `program` looks like a command line",
    );
    one(
        &fixture,
        &exec("program = [\"tr\", 3]"),
        "6:18 `program` in [service.upper] must be a list of texts",
    );
    one(
        &fixture,
        &exec("program = [\"tr\"]\nmin = 2"),
        "7:1 `min` is not part of this version",
    );
    one(
        &fixture,
        &exec("program = [\"tr\"]\ndirectory = \"none\""),
        "7:13 the working directory FOLDER/none cannot be used",
    );
    one(
        &fixture,
        &exec("program = [\"tr\"]\nenvironment = { \"A=B\" = \"x\" }"),
        "7:17 `A=B` cannot be the name of a variable",
    );
    one(
        &fixture,
        &exec("program = [\"tr\"]\nqueue_timeout = \"1m\""),
        "7:17 warning: `queue_timeout` is longer than `request_timeout`",
    );
    one(
        &fixture,
        &format!("{DIRECTORY}{LISTEN}[service.x]\nhelper = \"exec\"\nprogram = [\"tr\"]\n"),
        "7:10 warning: no listener serves the services",
    );
}

#[test]
fn files_that_cannot_be_read() {
    let fixture = Fixture::new("files");
    let message = |name: &str| load(&fixture.0.join(name)).unwrap_err().remove(0).message;
    assert!(
        message("none.toml").ends_with("cannot be read: no such file or directory"),
        "{}",
        message("none.toml")
    );
    assert!(message(".").ends_with("it is a folder"));
    std::fs::write(fixture.0.join("latin1.toml"), b"[server]\n# caf\xe9\n").unwrap();
    assert!(message("latin1.toml").ends_with("line 2 is not UTF-8"));
    std::fs::write(fixture.0.join("good.toml"), format!("{DIRECTORY}{LISTEN}")).unwrap();
    assert!(load(&fixture.0.join("good.toml")).unwrap().1.is_empty());
}

#[test]
fn flags_become_a_plan_by_the_same_way() {
    let args = one_line::Ldap {
        listen: vec!["ldap://127.0.0.1:1389".into(), "127.0.0.1:1390".into()],
        server: vec!["ldap://localhost".into(), "ldapi://%2Frun%2Fslapd".into()],
        workers: Some(1),
        ..one_line::Ldap::default()
    };
    let (plan, warnings) = one_line::ldap(&args).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let directory = &plan.directories[one_line::DIRECTORY];
    assert_eq!(directory.identity, plan::Identity::Pinned);
    assert_eq!(directory.tiers[0].servers.len(), 2);
    assert_eq!(plan.listeners.len(), 2);
    assert_eq!(plan.server.admin, None);
    assert!(plan.server.control.parent().unwrap().is_dir());
    run_dir::remove(&plan.server.control);
    let wrong = one_line::Ldap {
        listen: vec!["ldap://nowhere.example".into()],
        server: vec!["localhost".into()],
        identity: Some(plan::Identity::Proxied),
        control: Some("control.sock".into()),
        ..args
    };
    let found: Vec<String> = one_line::ldap(&wrong)
        .unwrap_err()
        .iter()
        .map(|one| one.to_string())
        .collect();
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().any(|one| one.starts_with("--listen: ")), "{found:?}");
    assert!(
        found
            .iter()
            .any(|one| one.starts_with("--server: ") && one.contains("ldap://localhost")),
        "{found:?}"
    );
    assert!(found.iter().any(|one| one.starts_with("--identity: ")), "{found:?}");
}

/// `docs/configuration.md` has a heading for every kind of section and, below it, every setting in backquotes.
#[test]
fn every_setting_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let text = std::fs::read_to_string(&path).expect("docs/configuration.md");
    for kind in keys::Kind::ALL {
        let heading = format!("\n## {}\n", kind.title());
        let rest = text
            .split(&heading)
            .nth(1)
            .unwrap_or_else(|| panic!("no heading `{}`", heading.trim()));
        let section = rest.split("\n## ").next().unwrap();
        for key in kind.keys() {
            assert!(
                section.contains(&format!("| `{key}` |")),
                "`{key}` of {} is not documented",
                kind.title()
            );
        }
        let rows = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        for row in rows {
            assert!(
                kind.keys().contains(&row),
                "docs describe `{row}` of {}, which does not exist",
                kind.title()
            );
        }
    }
}

/// The examples are right, apart from files that stand on no developer's machine.
#[test]
fn the_examples_are_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut checked = 0;
    for entry in std::fs::read_dir(&folder).expect("examples/") {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "toml") {
            continue;
        }
        checked += 1;
        let found = match load(&path) {
            Ok((_, warnings)) => warnings,
            Err(found) => found,
        };
        let wrong: Vec<&Diagnostic> = found
            .iter()
            .filter(|one| !one.message.contains(" /etc/") || !one.message.contains("cannot be read"))
            .collect();
        assert!(wrong.is_empty(), "{}: {wrong:#?}", path.display());
    }
    assert!(checked >= 2, "{checked} examples found");
}
