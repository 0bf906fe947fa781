//! Limits of clients.

use engine::core::limits::{Quota, Rate};

use super::*;
use crate::limits::Over;

/// A listener whose limits begin in line 6.
fn limited(limits: &str) -> String {
    format!("{LISTEN}[listen.limits]\n{limits}\n{DIRECTORY}")
}

#[test]
fn what_is_written_is_what_is_done_and_an_override_changes_only_what_it_says() {
    let fixture = Fixture::new("limits");
    let plan = fixture.plan(&limited(
        r#"
connections_max = 10
connect_rate = 5
address_rate = 100
address_burst = 7
address_pending_max = 4
dn_rate = 20
over = "busy"
delay_max = "1s"
exempt = ["192.0.2.0/24", "2001:db8::1"]
[[listen.limits.override]]
network = "10.0.0.0/8"
connections_max = 0
rate = 300
[[listen.limits.override]]
network = "10.1.0.0/16"
pending_max = 9
[[listen.limits.override]]
dn = "CN=App, DC=Example"
rate = 0
pending_max = 5
"#,
    ));
    let limits = plan.listeners[0].limits.as_ref().expect("there are some");
    let general = Quota {
        connections_max: 10,
        connects: Some(Rate::new(5, 5)),
        operations: Some(Rate::new(100, 7)),
        pending_max: 4,
    };
    assert_eq!(limits.address, general);
    let name = Quota {
        operations: Some(Rate::new(20, 20)),
        ..Quota::default()
    };
    assert_eq!(limits.name, name);
    let networks: Vec<(String, Quota)> = limits
        .networks
        .iter()
        .map(|(network, quota)| (network.to_string(), *quota))
        .collect();
    let wide = Quota {
        connections_max: 0,
        operations: Some(Rate::new(300, 300)),
        ..general
    };
    let narrow = Quota {
        pending_max: 9,
        ..general
    };
    assert_eq!(
        networks,
        [("10.1.0.0/16".to_owned(), narrow), ("10.0.0.0/8".to_owned(), wide)],
        "the smallest first"
    );
    let app = Quota {
        operations: None,
        pending_max: 5,
        ..name
    };
    assert_eq!(limits.names[b"cn=app,dc=example".as_slice()], app);
    assert_eq!((limits.over, limits.delay_max.as_secs()), (Over::Busy, 1));
    assert_eq!(
        (
            limits.exempt.len(),
            limits.prefix_v4,
            limits.prefix_v6,
            limits.entries_max
        ),
        (2, 32, 64, 100_000)
    );
    assert_eq!(fixture.plan(&format!("{LISTEN}{DIRECTORY}")).listeners[0].limits, None);
}

#[test]
fn mistakes_in_limits_have_their_place() {
    let fixture = Fixture::new("limits-mistakes");
    let over = "address_rate = 5\n[[listen.limits.override]]\n";
    for (limits, expected) in [
        (String::new(), "5:1 warning: [listen.limits] limits nothing"),
        (
            "address_burst = 5\ndn_rate = 1".into(),
            "6:17 `address_burst` without `address_rate`",
        ),
        (
            "over = \"wait\"\ndn_rate = 1".into(),
            "6:8 unknown over \"wait\" in [listen.limits]",
        ),
        (
            "dn_rate = 1\nexempt = [\"here\"]".into(),
            "7:11 `exempt` is a list of networks",
        ),
        (
            "dn_rate = 1\nsearch_time_max = \"2h\"".into(),
            "7:19 `search_time_max` is out of bounds in [listen.limits]",
        ),
        (
            "dn_rate = 1\nsearch_entries_max = -1".into(),
            "7:22 `search_entries_max` is out of bounds in [listen.limits]",
        ),
        (
            "search_entries_max = 0".into(),
            "5:1 warning: [listen.limits] limits nothing",
        ),
        (
            "dn_rate = 1\nrates = 1".into(),
            "7:1 unknown setting `rates` in [listen.limits]",
        ),
        (format!("{over}rate = 1"), "7:1 an override of nobody"),
        (
            format!("{over}network = \"10.0.0.0/8\"\ndn = \"cn=a\""),
            "9:6 an override is of a `network` or of a `dn`, not of both",
        ),
        (format!("{over}network = \"ten\""), "8:11 `network` is no network"),
        (
            format!("prefix_v6 = 48\n{over}network = \"2001:db8::/64\""),
            "9:11 `network` is smaller than what counts as one address",
        ),
        (
            format!("{over}network = \"10.0.0.0/8\"\n[[listen.limits.override]]\nnetwork = \"10.0.0.0/8\""),
            "10:11 this network has an override already",
        ),
        (
            format!("{over}dn = \"cn=a,dc=x\"\n[[listen.limits.override]]\ndn = \"CN=A, dc=X\""),
            "10:6 this name has an override already",
        ),
        (format!("{over}dn = \"\""), "8:6 `dn` is empty"),
        (
            format!("{over}dn = \"cn=a\"\nconnections_max = 5"),
            "9:19 connections are counted by address, not by name",
        ),
    ] {
        assert_eq!(fixture.found(&limited(&limits)), [expected], "{limits}");
    }
    let rpc = "[[listen]]\nprotocol = \"rpc\"\naddress = \"unix:/run/x\"\nlimits = { dn_rate = 1 }\n[service.x]\nprogram = [\"/bin/true\"]\n";
    assert_eq!(fixture.found(rpc), ["4:10 `limits` is for ldap and ldaps listeners"]);
}
