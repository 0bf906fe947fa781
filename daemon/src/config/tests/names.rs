//! Services of DNS, and whom to ask.

use std::time::Duration;

use super::*;
use crate::config::srv::{Answers, expand, services};
use crate::net::dns::Found;

const SERVICE: &str = "_ldap._tcp.example.com";

/// A directory with this list of servers, in line 2, and a listener.
fn corp(servers: &str) -> String {
    format!("[directory.corp]\nserver = [{servers}]\n{LISTEN}")
}

fn found(priority: u16, weight: u16, host: &str, port: u16) -> Found {
    Found {
        priority,
        weight,
        host: host.to_owned(),
        port,
    }
}

/// Each tier: its priority, and name and weight of its servers.
fn tiers(plan: &Plan) -> Vec<(usize, Vec<(String, u32)>)> {
    let tiers = plan.directories["corp"].tiers.iter();
    tiers
        .map(|tier| {
            let servers = tier.servers.iter().map(|one| (one.name.clone(), one.weight));
            (tier.priority, servers.collect())
        })
        .collect()
}

#[test]
fn a_service_stands_for_the_servers_that_are_found() {
    let fixture = Fixture::new("names");
    let plan = fixture.plan(&corp(
        "{ srv = \"_LDAP._tcp.Example.com.\", connections = 2 }, { url = \"ldap://last\", priority = 30 }, { url = \"ldap://one\", priority = 20 }",
    ));
    let directory = &plan.directories["corp"];
    assert_eq!(services(directory).into_iter().collect::<Vec<_>>(), [SERVICE]);
    assert_eq!(directory.resolve_interval, Duration::from_secs(60));
    assert_eq!(directory.service_connections, Some(2));
    let single = |name: &str, weight| vec![(name.to_owned(), weight)];
    let written = [(20, single("ldap://one", 1)), (30, single("ldap://last", 1))];
    assert_eq!(
        tiers(&expand(&plan, &Answers::new())),
        written,
        "nothing is known of it yet"
    );
    let answers = Answers::from([(
        SERVICE.to_owned(),
        vec![
            found(10, 0, "two", 389),
            found(10, 70, "three", 3890),
            found(20, 5, "one", 389),
            found(20, 6, "four", 389),
            found(40, 5, "two", 389),
        ],
    )]);
    let expanded = expand(&plan, &answers);
    let named = |one: (&str, u32), two: (&str, u32)| vec![(one.0.to_owned(), one.1), (two.0.to_owned(), two.1)];
    let expected = [
        (10, named(("ldap://two", 1), ("ldap://three:3890", 70))),
        (20, named(("ldap://one", 1), ("ldap://four", 6))),
        (30, single("ldap://last", 1)),
    ];
    assert_eq!(tiers(&expanded), expected, "who is there already is not there twice");
    let server = &expanded.directories["corp"].tiers[0].servers[1];
    assert_eq!(server.connections, 2);
    let target = plan::Target::Tcp {
        host: "three".into(),
        port: 3890,
        tls: plan::UpstreamTls::None,
    };
    assert_eq!(server.target, target);
    assert_eq!(
        expand(&expanded, &Answers::new()),
        expanded,
        "there is nothing left to expand"
    );
}

#[test]
fn a_service_with_tls_and_whom_to_ask() {
    let fixture = Fixture::new("names-tls");
    let server = "[server]\ndns_servers = [\"192.0.2.53\", \"[2001:db8::53]:5353\"]\ndns_timeout = \"1s\"\n";
    let plan = fixture.plan(&format!("{server}{}", corp("{ srv = \"_ldaps._tcp.example.com\" }")));
    let asked: Vec<String> = plan.server.dns.servers.iter().map(ToString::to_string).collect();
    assert_eq!(asked, ["192.0.2.53:53", "[2001:db8::53]:5353"]);
    assert_eq!(plan.server.dns.timeout, Duration::from_secs(1));
    let answers = Answers::from([("_ldaps._tcp.example.com".to_owned(), vec![found(0, 0, "dc", 636)])]);
    let expanded = expand(&plan, &answers);
    let server = &expanded.directories["corp"].tiers[0].servers[0];
    assert_eq!(server.name, "ldaps://dc");
    assert!(matches!(
        &server.target,
        plan::Target::Tcp {
            tls: plan::UpstreamTls::Ldaps(_),
            ..
        }
    ));
    let plain = fixture.plan(&format!("{DIRECTORY}{LISTEN}"));
    assert!(plain.directories["corp"].resolve_interval.is_zero());
    assert!(plain.server.dns.servers.is_empty());
}

#[test]
fn mistakes_about_names_have_their_place() {
    let fixture = Fixture::new("names-mistakes");
    for (text, expected) in [
        (
            corp("{ srv = \"ldap.example.com\" }"),
            "2:19 `srv` is not the name of a service",
        ),
        (
            corp("{ srv = \"_ldap._udp.example.com\" }"),
            "2:19 `srv` is not the name of a service",
        ),
        (
            corp("{ srv = \"_ldap._tcp.example.com\", weight = 2 }"),
            "2:54 `weight` beside `srv`",
        ),
        (
            corp("{ srv = \"_ldap._tcp.example.com\", url = \"ldap://x\" }"),
            "2:19 a server has a `srv`, a `url` or an `ldif`, not more than one",
        ),
        (
            corp("{ srv = \"_ldaps._tcp.example.com\", starttls = \"required\" }"),
            "2:57 `starttls` is for ldap://",
        ),
        (
            format!("[directory.corp]\n[[directory.corp.tier]]\nserver = [{{ srv = \"_ldap._tcp.x\" }}]\n{LISTEN}"),
            "3:19 `srv` has no meaning within a tier",
        ),
        (
            format!("[server]\ndns_servers = [\"ns1\"]\n{DIRECTORY}{LISTEN}"),
            "2:16 `dns_servers` is a list of addresses",
        ),
        (
            format!("[directory.corp]\nresolve_interval = \"10ms\"\nserver = [{{ srv = \"{SERVICE}\" }}]\n{LISTEN}"),
            "2:20 `resolve_interval` is too short",
        ),
        (
            format!("[server]\ndns_servers = []\n{DIRECTORY}{LISTEN}"),
            "2:15 `dns_servers` has 0 addresses",
        ),
    ] {
        assert_eq!(fixture.found(&text), [expected], "{text}");
    }
}
