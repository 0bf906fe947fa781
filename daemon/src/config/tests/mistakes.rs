//! One mistake at a time: its exact place and its words, and nothing else.

use super::{DIRECTORY, Fixture, LISTEN};

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

/// Several, each in the same surroundings.
#[track_caller]
fn each(fixture: &Fixture, around: impl Fn(&str) -> String, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        one(fixture, &around(text), expected);
    }
}

#[test]
fn mistakes_of_the_server_section() {
    let fixture = Fixture::new("server");
    let cpus = std::thread::available_parallelism().unwrap();
    let with = |line: &str| format!("{DIRECTORY}{LISTEN}[server]\n{line}\n");
    each(
        &fixture,
        with,
        &[
            ("workers = 4000", "8:11 `workers` is out of bounds in [server]"),
            ("workers = \"4\"", "8:11 `workers` in [server] must be a whole number"),
            (
                "workers = -1000",
                &format!("8:11 warning: `workers` leaves none of {cpus} CPUs"),
            ),
            ("control = 3", "8:11 `control` in [server] must be text in quotes"),
            (
                "admin = \"unix:/run/x\"",
                "8:9 `admin` in [server] is an address for HTTP",
            ),
            (
                "admin = \"0.0.0.0:9389\"",
                "8:9 warning: the admin side listens beyond this machine",
            ),
            ("admin = \"127.0.0.1:1389\"", "5:11 127.0.0.1:1389 is listened on twice"),
            ("drain_firm = \"2h\"", "8:14 `drain_firm` is out of bounds in [server]"),
            (
                "upgrade_timeout = \"0s\"",
                "8:19 `upgrade_timeout` is out of bounds in [server]",
            ),
            (
                "upgrade_linger = true",
                "8:18 `upgrade_linger` in [server] must be a duration",
            ),
            ("drain_firm = \"2\"", "8:14 `drain_firm` cannot be read in [server]"),
            ("drain_firm = true", "8:14 `drain_firm` in [server] must be a duration"),
            (
                "outbox_bytes_total = \"1kib\"",
                "8:22 `outbox_bytes_total` cannot be read in [server]",
            ),
            (
                "outbox_bytes_total = 1",
                "8:22 `outbox_bytes_total` is out of bounds in [server]",
            ),
            ("state_dir = 5", "8:13 `state_dir` in [server] must be text in quotes"),
            ("search_timeout = 3", "8:1 unknown setting `search_timeout` in [server]"),
        ],
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
        &format!(
            "[feed.x]\nbase = \"dc=x\"\ndirectory = \"corp\"\nmode = \"polled\"\nsink = {{ type = \"ndjson\" }}\n{DIRECTORY}{LISTEN}"
        ),
        "4:8 unknown mode \"polled\" in [feed.x]",
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
    each(
        &fixture,
        with,
        &[
            ("", "5:12 the directory `corp` has no server"),
            (
                "server = { url = \"ldap://x\" }",
                "6:10 `server` in [directory.corp] must be a list of tables",
            ),
        ],
    );
    each(
        &fixture,
        and,
        &[
            ("base = \"example.com\"", "6:8 `base` is not a distinguished name"),
            (
                "identity = \"proxied\"",
                "6:12 identity \"proxied\" needs a bind of the daemon's own",
            ),
            ("bind_dn = \"cn=x\"", "6:11 `bind_dn` without `bind_password_file`"),
            (
                "bind_password_file = \"secret\"",
                "6:22 `bind_password_file` without `bind_dn`",
            ),
            (
                "bind_dn = \"usherd\"\nbind_password_file = \"secret\"",
                "6:11 `bind_dn` is not a distinguished name",
            ),
            (
                "bind_dn = \"cn=x\"\nbind_password_file = \"none\"",
                "7:22 the password file FOLDER/none cannot be read",
            ),
            (
                "bind_dn = \"cn=x\"\nbind_password_file = \"empty-secret\"",
                "7:22 the password file is empty",
            ),
            (
                "bind_dn = \"cn=x\"\nbind_password_file = \"open-secret\"",
                "7:22 warning: everyone on this machine may read FOLDER/open-secret",
            ),
            (
                "bind_password = \"x\"",
                "6:1 `bind_password` in [directory.corp]: a secret does not stand in this file",
            ),
            (
                "retry_min = \"1h\"",
                "6:13 `retry_min` is longer than `retry_max` in [directory.corp]",
            ),
            (
                "probe_interval = \"100ms\"",
                "6:18 `probe_suspect_interval` is longer than `probe_interval` in [directory.corp]",
            ),
            (
                "eject_after = 0",
                "6:15 `eject_after` is out of bounds in [directory.corp]",
            ),
            (
                "allow_unauthenticated_bind = true",
                "6:30 warning: binds with a DN and an empty password are passed on",
            ),
            (
                "allow_unauthenticated_bind = \"no\"",
                "6:30 `allow_unauthenticated_bind` in [directory.corp] must be true or false",
            ),
            ("tls = 1", "6:7 `tls` in [directory.corp] must be a table"),
            ("timeout = 1", "6:1 unknown setting `timeout` in [directory.corp]"),
        ],
    );
}

#[test]
fn mistakes_of_who_may_assert_an_identity() {
    let fixture = Fixture::new("directory");
    let with = |line: &str| format!("{LISTEN}[directory.corp]\n{line}\n");
    each(
        &fixture,
        with,
        &[
            (
                "allow_own_assertion = true\nserver = [{ url = \"ldap://localhost\" }]",
                "6:23 `allow_own_assertion` has no meaning with identity = \"pinned\"",
            ),
            (
                "bind_dn = \"cn=x\"\nbind_password_file = \"secret\"\nallow_own_assertion = true\n\
                 server = [{ url = \"ldapi://%2Fx\", bind_mechanism = \"EXTERNAL\" }]",
                "8:23 `allow_own_assertion` needs one bind of the daemon's own for every server",
            ),
        ],
    );
}

#[test]
fn more_mistakes_of_a_directory() {
    let fixture = Fixture::new("directory");
    let with = |line: &str| format!("{LISTEN}[directory.corp]\n{line}\n");
    let server = "server = [{ url = \"ldap://localhost\" }]";
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
    let nameless = format!("[directory]\nbase = 1\n{DIRECTORY}{LISTEN}");
    one(&fixture, &nameless, "2:1 `base` stands directly in [directory]");
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
    each(
        &fixture,
        with,
        &[
            ("weight = 1", "6:11 a server without an address"),
            ("url = \"http://x\"", "6:19 `url` of a server is not an LDAP URL"),
        ],
    );
    one(
        &fixture,
        &ldap("ldif = \"people.ldif\""),
        "6:46 a server has a `url` or an `ldif`, not both",
    );
    each(
        &fixture,
        with,
        &[
            (
                "ldif = \"people.ldif\", connections = 2",
                "6:49 `connections` has no meaning for an LDIF file",
            ),
            ("ldif = \".\"", "6:20 the LDIF file FOLDER/. cannot be read"),
            ("ldif = \"broken.ldif\"", "6:20 the LDIF file cannot be served"),
        ],
    );
    each(
        &fixture,
        ldap,
        &[
            (
                "connections = 5, connections_max = 4",
                "6:53 `connections` is more than `connections_max`",
            ),
            ("weight = 0", "6:48 every weight of this tier is 0"),
            (
                "tls = { ca_file = \"a.crt\" }",
                "6:45 `tls` on a plain ldap:// server is never used",
            ),
            (
                "starttls = \"always\"",
                "6:50 unknown starttls \"always\" in a server of [directory.corp]",
            ),
            (
                "starttls = true",
                "6:50 `starttls` in a server of [directory.corp] must be one of \"required\", \"tried\"",
            ),
            (
                "bind_connections = 4",
                "6:39 `bind_connections` is not part of this version",
            ),
            (
                "ca_file = \"a.crt\"",
                "6:39 unknown setting `ca_file` in a server of [directory.corp]",
            ),
        ],
    );
}

#[test]
fn more_mistakes_of_a_server() {
    let fixture = Fixture::new("upstream-more");
    let with = |entry: &str| format!("{LISTEN}[directory.corp]\nserver = [{{ {entry} }}]\n");
    each(
        &fixture,
        with,
        &[
            (
                "url = \"ldaps://x\", starttls = \"tried\"",
                "6:43 `starttls` is for ldap://",
            ),
            (
                "url = \"ldapi://%2Fx\", starttls = \"tried\"",
                "6:46 `starttls` is for ldap://",
            ),
        ],
    );
    let tls = |entry: &str| with(&format!("url = \"ldaps://x\", tls = {{ {entry} }}"));
    each(
        &fixture,
        tls,
        &[
            (
                "verify = false",
                "6:49 warning: the server's certificate is not verified",
            ),
            (
                "ca_file = \"none\"",
                "6:50 the certificate file FOLDER/none cannot be read",
            ),
            ("ca_file = \"secret\"", "6:50 no certificate in FOLDER/secret"),
            (
                "cert_file = \"a.crt\"",
                "6:52 a certificate and its key come together: `key_file` is missing",
            ),
            (
                "cert_file = \"a.crt\", key_file = \"b.key\"",
                "6:72 the key does not belong to the certificate",
            ),
            ("server_name = \"not a name\"", "6:54 `server_name` is not a host name"),
        ],
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
    each(
        &fixture,
        with,
        &[
            ("protocol = \"ldap\"", "3:1 [[listen]] without an address"),
            ("address = \"127.0.0.1:1389\"", "3:1 [[listen]] without a protocol"),
            (
                "protocol = \"ldap\"\naddress = \"example.com:389\"",
                "5:11 `address` in [[listen]] is not an address",
            ),
            (
                "protocol = \"ldap\"\naddress = \"ldaps://:636\"",
                "4:12 `protocol` and `address` contradict each other",
            ),
            (
                "protocol = \"radsec\"\naddress = \"[::]:2083\"",
                "4:12 protocol \"radsec\" is not part of this version",
            ),
        ],
    );
    each(
        &fixture,
        ldap,
        &[
            ("directory = \"crop\"", "6:13 there is no directory `crop`"),
            ("mode = \"0600\"", "6:8 `mode` is for unix sockets"),
            ("starttls = true", "6:12 StartTLS without a certificate"),
            (
                "tls = { cert_file = \"a.crt\", key_file = \"a.key\" }",
                "6:7 `tls` on a plain ldap listener is never used",
            ),
            (
                "starttls = true\ntls = { cert_file = \"a.crt\" }",
                "7:7 `tls` of a listener without `key_file`",
            ),
            (
                "starttls = true\ntls = { cert_file = \"a.crt\", key_file = \"secret\" }",
                "7:41 no private key in FOLDER/secret",
            ),
            (
                "starttls = true\ntls = { cert_file = \"a.crt\", key_file = \"b.key\" }",
                "7:41 the key does not belong to the certificate",
            ),
            (
                "starttls = true\ntls = { cert_file = \"a.crt\", key_file = \"a.key\", client_cert = \"require\" }",
                "7:64 client certificates cannot be verified without `client_ca_file`",
            ),
            (
                "starttls = true\ntls = { cert_file = \"a.crt\", key_file = \"a.key\", client_ca_file = \"b.crt\" }",
                "7:67 warning: `client_ca_file` is never used",
            ),
            (
                "payload_bytes_max = \"1MiB\"",
                "6:21 `payload_bytes_max` is for rpc listeners",
            ),
            ("token_file = \"token\"", "6:14 `token_file` is for rpc listeners"),
        ],
    );
}

#[test]
fn more_mistakes_of_a_listener() {
    let fixture = Fixture::new("listen");
    let with = |lines: &str| format!("{DIRECTORY}[[listen]]\n{lines}\n");
    each(
        &fixture,
        with,
        &[
            (
                "protocol = \"ldaps\"\naddress = \"[::]:636\"",
                "3:1 an ldaps listener without a certificate",
            ),
            (
                "protocol = \"ldap\"\naddress = \"unix:l\"\nmode = \"999\"",
                "6:8 `mode` in [[listen]] must be a file mode",
            ),
        ],
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
fn who_may_read_figures_is_named_as_who_am_i_says_it_and_where_ldap_is_spoken() {
    let fixture = Fixture::new("listen-monitor");
    let with = |lines: &str| format!("{DIRECTORY}[[listen]]\n{lines}\n");
    let ldap = |lines: &str| with(&format!("protocol = \"ldap\"\naddress = \"127.0.0.1:1389\"\n{lines}"));
    let many = format!("monitor = [{}]", "\"u:a\", ".repeat(65));
    each(
        &fixture,
        ldap,
        &[
            (
                "monitor = [\"u:a\", \"uid=admin,dc=example\"]",
                "6:19 `monitor` is a list of authorization identities",
            ),
            (
                "monitor = [\"dn:\"]",
                "6:12 `monitor` is a list of authorization identities",
            ),
            (&many, "6:11 `monitor` names too many"),
        ],
    );
    let rpc = "protocol = \"rpc\"\naddress = \"unix:rpc\"\nmonitor = [\"u:a\"]";
    one(&fixture, &with(rpc), "6:11 `monitor` is for ldap and ldaps listeners");
    assert_eq!(fixture.found(&ldap("monitor = []")), Vec::<String>::new());
}

#[test]
fn mistakes_of_a_dbus_listener() {
    let fixture = Fixture::new("listen-dbus");
    let dbus = |lines: &str| format!("{DIRECTORY}{LISTEN}[[listen]]\nprotocol = \"dbus\"\n{lines}\n");
    each(
        &fixture,
        dbus,
        &[
            (
                "address = \"127.0.0.1:4000\"",
                "9:11 a dbus listener listens on a unix socket",
            ),
            (
                "address = \"unix:d\"\nbus = \"system\"",
                "9:11 a dbus listener has a `bus` or an `address`",
            ),
            ("bus = \"the big red one\"", "9:7 `bus` is not a bus"),
            (
                "bus = \"system\"\ndirectory = \"corp\"",
                "10:13 a dbus listener serves services, not a directory",
            ),
            (
                "address = \"unix:d\"\ntoken_file = \"token\"",
                "10:14 `token_file` is for rpc listeners",
            ),
            (
                "bus = \"system\"\n[[listen]]\nprotocol = \"dbus\"\nbus = \"system\"",
                "12:7 the bus system is used twice",
            ),
        ],
    );
    one(
        &fixture,
        &format!("{DIRECTORY}{LISTEN}bus = \"session\"\n"),
        "7:7 `bus` is for dbus listeners",
    );
}

#[test]
fn mistakes_of_an_rpc_listener() {
    let fixture = Fixture::new("listen-rpc");
    let rpc = |lines: &str| format!("{DIRECTORY}{LISTEN}[[listen]]\nprotocol = \"rpc\"\n{lines}\n");
    each(
        &fixture,
        rpc,
        &[
            (
                "address = \"unix:r\"\ndirectory = \"corp\"",
                "10:13 an rpc listener serves services, not a directory",
            ),
            (
                "address = \"unix:r\"\nstarttls = true",
                "10:12 `starttls` is for protocol \"ldap\"",
            ),
            (
                "address = \"unix:r\"\ntls = { cert_file = \"a.crt\" }",
                "10:7 `tls` of a listener without `key_file`",
            ),
            (
                "address = \"0.0.0.0:4000\"",
                "9:11 the rpc listener is open to everyone beyond this machine",
            ),
            (
                "address = \"0.0.0.0:4000\"\ntls = { cert_file = \"a.crt\", key_file = \"a.key\" }",
                "9:11 the rpc listener is open to everyone beyond this machine",
            ),
            (
                "address = \"0.0.0.0:4000\"\ntoken_file = \"token\"",
                "10:14 warning: the token travels in plain text",
            ),
            (
                "address = \"127.0.0.1:4000\"\ntoken_file = \"open-token\"",
                "10:14 warning: everyone on this machine may read FOLDER/open-token",
            ),
            (
                "address = \"127.0.0.1:4000\"\ntoken_file = \"secret\"",
                "10:14 a token has 16 to 1,024 bytes",
            ),
            (
                "address = \"127.0.0.1:4000\"\ntoken_file = \"nothing\"",
                "10:14 the token file FOLDER/nothing cannot be read",
            ),
        ],
    );
}
