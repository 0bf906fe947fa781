//! PROXY headers, of listeners and to servers.

use wire::proxy_header::{Accepted, Version};

use super::*;

/// A listener with these lines, which begin in line 6, beside other sections.
fn listen(protocol: &str, address: &str, lines: &str) -> String {
    format!("[[listen]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\n\n\n{lines}\n{DIRECTORY}")
}

fn ldap(lines: &str) -> String {
    listen("ldap", "127.0.0.1:1389", lines)
}

#[test]
fn what_is_written_is_what_is_done() {
    let fixture = Fixture::new("proxy");
    for (word, accepted) in [
        ("v1", Accepted::Only(Version::V1)),
        ("v2", Accepted::Only(Version::V2)),
        ("any", Accepted::Any),
    ] {
        let lines = format!("proxy_protocol = \"{word}\"\nproxy_from = [\"192.0.2.0/24\", \"2001:db8::1\"]");
        let plan = fixture.plan(&ldap(&lines));
        let proxy = plan.listeners[0].proxy.as_ref().expect("headers are awaited");
        assert_eq!(proxy.accepted, accepted);
        for (peer, trusted) in [
            ("192.0.2.77:1", true),
            ("[::ffff:192.0.2.77]:1", true),
            ("192.0.3.1:1", false),
            ("[2001:db8::1]:1", true),
            ("[2001:db8::2]:1", false),
        ] {
            assert_eq!(proxy.trust(Some(peer.parse().unwrap())), trusted, "{peer}");
        }
        assert!(!proxy.trust(None));
    }
    let plan = fixture.plan(&ldap(""));
    assert_eq!(plan.listeners[0].proxy, None);
    assert_eq!(plan.directories["corp"].tiers[0].servers[0].proxy_protocol, None);
    let server = "server = [{ url = \"ldap://localhost\", proxy_protocol = \"v2\" }]";
    let plan = fixture.plan(&format!("[directory.corp]\n{server}\n{LISTEN}"));
    let found = plan.directories["corp"].tiers[0].servers[0].proxy_protocol;
    assert_eq!(found, Some(Version::V2));
}

#[test]
fn mistakes_have_their_place() {
    let fixture = Fixture::new("proxy-mistakes");
    let any = "proxy_protocol = \"any\"\n";
    let from = "proxy_from = [\"192.0.2.1\"]\n";
    for (text, expected) in [
        (ldap(any), "6:18 `proxy_protocol` without `proxy_from`"),
        (ldap(from), "6:14 `proxy_from` without `proxy_protocol`"),
        (
            ldap("proxy_protocol = \"v3\"\nproxy_from = [\"192.0.2.1\"]"),
            "6:18 unknown proxy_protocol \"v3\" in [[listen]]",
        ),
        (ldap(&format!("{any}proxy_from = []")), "7:14 `proxy_from` is empty"),
        (
            ldap(&format!("{any}proxy_from = [\"192.0.2.1\", \"192.0.2.1/24\"]")),
            "7:28 `proxy_from` is a list of networks",
        ),
        (
            ldap(&format!("{any}proxy_from = [\"balancer\"]")),
            "7:15 `proxy_from` is a list of networks",
        ),
        (
            ldap(&format!("{any}proxy_from = [\"::ffff:192.0.2.0/120\"]")),
            "7:15 `proxy_from` is a list of networks",
        ),
        (
            ldap(&format!("{any}proxy_from = [\"0.0.0.0/0\"]")),
            "7:15 warning: `proxy_from` believes everybody",
        ),
        (
            listen("ldap", "unix:/run/ldapi", &format!("{any}{from}")),
            "6:18 `proxy_protocol` is for listeners over TCP",
        ),
        (
            format!(
                "[directory.corp]\nserver = [{{ url = \"ldapi://%2Frun%2Fx\", proxy_protocol = \"v1\" }}]\n{LISTEN}"
            ),
            "2:58 `proxy_protocol` has no meaning on a unix socket",
        ),
        (
            format!("[directory.corp]\nserver = [{{ ldif = \"people.ldif\", proxy_protocol = \"v1\" }}]\n{LISTEN}"),
            "2:52 `proxy_protocol` has no meaning for an LDIF file",
        ),
    ] {
        assert_eq!(fixture.found(&text), [expected], "{text}");
    }
    let bus = listen("ldap", "127.0.0.1:1389", "")
        + &format!("[[listen]]\nprotocol = \"dbus\"\nbus = \"session\"\n{any}{from}")
        + "[service.x]\nprogram = [\"/bin/true\"]\n";
    let found = fixture.found(&bus);
    assert!(
        found
            .iter()
            .any(|one| one.contains("`proxy_protocol` is for ldap, ldaps and rpc listeners")),
        "{found:?}"
    );
}
