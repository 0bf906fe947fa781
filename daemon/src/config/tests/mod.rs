//! Every class of mistake, with its exact place and its words.

mod accounting;
mod binds;
mod client_limits;
mod mistakes;
mod names;
mod nss;
mod proxy;
mod radius;
mod radius_policy;
mod rules;
mod services;
mod sinks;
mod sql;

use super::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder with the files that configurations in these tests name; removed at the end.
struct Fixture(PathBuf);

impl Fixture {
    fn new(name: &str) -> Fixture {
        // Each has its own, whatever others are called: they run at the same time.
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (process, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("usherd-config-test-{process}-{number}-{name}"));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let fixture = Fixture(folder);
        fixture.file("secret", "s3cret\n", 0o600);
        fixture.file("open-secret", "s3cret\n", 0o644);
        fixture.file("empty-secret", "\n", 0o600);
        fixture.file("token", "0123456789abcdef\n", 0o600);
        fixture.file("open-token", "0123456789abcdef\n", 0o644);
        fixture.file(
            "people.ldif",
            "version: 1\n\ndn: dc=example,dc=com\nobjectClass: domain\ndc: example\n",
            0o644,
        );
        fixture.file("broken.ldif", "dn: dc=example,dc=com\nobjectClass domain\n", 0o644);
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
        (4, 16, 256)
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
        corp.bind.as_ref().unwrap().simple().unwrap().password.as_slice(),
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
[feed.people]
directory = "crop"
sink = { type = "ndjson" }
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
            "11:13 there is no directory `corpp`",
            "13:13 there is no directory `crop`",
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
