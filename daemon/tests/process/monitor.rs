//! The daemon's figures as LDAP clients read them: the same as in `/metrics`, for whom they are meant and for nobody else.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::Duration;

use crate::client::Client;
use crate::commands::get;
use crate::ops;
use crate::proc::{free_port, require, run, shown};
use crate::slapd::{Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

const LDAPSEARCH: &str = "/usr/bin/ldapsearch";
const BASE: &str = "cn=usherd,cn=monitor";

/// A daemon before one slapd: its first listener has two readers, its second none; and the port of its HTTP.
fn start(slapd: &Slapd) -> (Usherd, u16) {
    let admin = free_port();
    let readers = format!("monitor = [\"dn:{}\", \"dn:{}\"]", user(1), user(2));
    let usherd = Setup::new()
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("ldap", "127.0.0.1:0", &format!("directory = \"corp\"\n{readers}"))
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"")
        .server(&format!("admin = \"127.0.0.1:{admin}\""))
        .start();
    (usherd, admin)
}

fn search(usherd: &Usherd, listener: usize, who: Option<usize>, args: &[&str]) -> Output {
    require(LDAPSEARCH);
    let url = format!("ldap://127.0.0.1:{}", usherd.port(listener));
    let (dn, secret) = who.map_or_else(Default::default, |who| (user(who), password(who)));
    let bind: &[&str] = if who.is_some() {
        &["-D", &dn, "-w", &secret]
    } else {
        &[]
    };
    let all = [&["-x", "-LLL", "-o", "ldif-wrap=no", "-H", &url], bind, args].concat();
    run(LDAPSEARCH, &all, Duration::from_secs(20))
}

/// Entries by name, with their attributes.
fn entries(output: &Output) -> BTreeMap<String, BTreeMap<String, String>> {
    assert!(output.status.success(), "{}", shown(output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let of = |record: &str| {
        let mut pairs = record.lines().filter_map(|line| line.split_once(": "));
        let (_, dn) = pairs.next()?;
        let attributes = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some((dn.to_owned(), attributes.collect()))
    };
    text.split("\n\n").filter_map(of).collect()
}

/// What `/metrics` says of this figure, up to the value.
fn figure(page: &str, begins: &str) -> String {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(begins)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{begins} in {page}")).to_owned()
}

/// Whose figure it is.
enum Whose {
    Daemon,
    Directory,
    Server,
}

/// Attributes, and what they are called in `/metrics`.
const SAME: [(Whose, &str, &str); 9] = [
    (Whose::Daemon, "usherdWorkers", "usherd_workers"),
    (
        Whose::Daemon,
        "usherdClientsAcceptedTotal",
        "usherd_clients_accepted_total",
    ),
    (
        Whose::Daemon,
        "usherdReloadsTotalApplied",
        "usherd_reloads_total{outcome=\"applied\"}",
    ),
    (
        Whose::Directory,
        "usherdOperationsTotalBindSuccess",
        "usherd_operations_total{directory=\"corp\",class=\"bind\",result=\"success\"}",
    ),
    (
        Whose::Directory,
        "usherdOperationSecondsCount",
        "usherd_operation_seconds_count{directory=\"corp\"}",
    ),
    (
        Whose::Directory,
        "usherdOperationMicrosecondsBucketLeInf",
        "usherd_operation_seconds_bucket{directory=\"corp\",le=\"+Inf\"}",
    ),
    (
        Whose::Server,
        "usherdUpstreamWeight",
        "usherd_upstream_weight{directory=\"corp\",server=\"SERVER\",tier=\"1\"}",
    ),
    (
        Whose::Server,
        "usherdUpstreamConnections",
        "usherd_upstream_connections{directory=\"corp\",server=\"SERVER\",tier=\"1\"}",
    ),
    (
        Whose::Server,
        "usherdUpstreamStateUp",
        "usherd_upstream_state{directory=\"corp\",server=\"SERVER\",state=\"up\"}",
    ),
];

#[test]
fn a_reader_finds_the_figures_of_metrics() {
    let slapd = Slapd::start();
    let (usherd, admin) = start(&slapd);
    let all = entries(&search(&usherd, 0, Some(1), &["-b", BASE]));
    let (_, page) = get(admin, "/metrics").expect("it is served");
    let of = |dn: &str, attribute: &str| {
        let entry = all.get(dn).unwrap_or_else(|| panic!("{dn} in {all:#?}"));
        entry
            .get(attribute)
            .unwrap_or_else(|| panic!("{attribute} of {dn} in {entry:#?}"))
            .clone()
    };
    let directory = format!("cn=corp,cn=directories,{BASE}");
    let (name, _) = page
        .lines()
        .find_map(|line| {
            line.strip_prefix("usherd_upstream_weight{directory=\"corp\",server=\"")?
                .split_once('"')
        })
        .expect("a server");
    let named = name.to_lowercase();
    let above = |dn: &String| dn.ends_with(&format!(",{directory}"));
    let server = all
        .keys()
        .find(|dn| above(dn))
        .unwrap_or_else(|| panic!("{named} in {all:#?}"));
    // The bind of ldapsearch is in both; the search itself is in neither.
    for (whose, attribute, metric) in SAME {
        let dn = match whose {
            Whose::Daemon => BASE,
            Whose::Directory => directory.as_str(),
            Whose::Server => server.as_str(),
        };
        let metric = metric.replace("SERVER", name);
        assert_eq!(of(dn, attribute), figure(&page, &metric), "{attribute} of {dn}");
    }
    assert_eq!(of(&directory, "usherdOperationsTotalBindSuccess"), "1");
    let seconds = figure(&page, "usherd_operation_seconds_sum{directory=\"corp\"}");
    let micros: f64 = of(&directory, "usherdOperationMicrosecondsSum")
        .parse()
        .expect("a number");
    let seconds: f64 = seconds.parse().expect("a number");
    assert!((micros / 1e6 - seconds).abs() < 1e-9, "{micros} µs, {seconds} s");
    assert_eq!(of(BASE, "usherdVersion"), env!("CARGO_PKG_VERSION"));
    for worker in ["0", "1"] {
        of(&format!("cn={worker},cn=workers,{BASE}"), "usherdWorkerClients");
    }
    assert_eq!(
        all.keys()
            .filter(|dn| dn.ends_with(&format!(",cn=listeners,{BASE}")))
            .count(),
        2
    );
    usherd.stop();
}

#[test]
fn a_search_of_figures_has_its_scope_its_filter_and_its_limit() {
    let slapd = Slapd::start();
    let (usherd, _) = start(&slapd);
    let names = |args: &[&str]| -> Vec<String> {
        let args = [&["-b", BASE][..], args, &["1.1"]].concat();
        entries(&search(&usherd, 0, Some(2), &args)).into_keys().collect()
    };
    assert_eq!(names(&["-s", "base"]), [BASE]);
    let one = names(&["-s", "one"]);
    assert!(
        one.len() >= 3
            && one
                .iter()
                .all(|dn| dn.ends_with(&format!(",{BASE}")) && dn.matches(',').count() == 2),
        "{one:?}"
    );
    // Numbers are compared as numbers.
    assert_eq!(
        names(&["-s", "base", "(&(usherdWorkers>=2)(!(usherdWorkers>=10)))"]),
        [BASE]
    );
    let servers = names(&["(usherdUpstreamWeight=*)"]);
    assert!(
        servers.len() == 1 && servers[0].ends_with(&format!(",cn=corp,cn=directories,{BASE}")),
        "{servers:?}"
    );
    let few = search(&usherd, 0, Some(1), &["-b", BASE, "-z", "2", "1.1"]);
    assert_eq!(few.status.code(), Some(4), "sizeLimitExceeded: {}", shown(&few));
    assert_eq!(String::from_utf8_lossy(&few.stdout).matches("dn: ").count(), 2);
    let gone = search(&usherd, 0, Some(1), &["-b", &format!("cn=nobody,{BASE}")]);
    assert_eq!(gone.status.code(), Some(32), "{}", shown(&gone));
    usherd.stop();
}

#[test]
fn others_are_refused_strangers_find_nothing_and_without_readers_it_is_a_servers_business() {
    let slapd = Slapd::start();
    let (usherd, _) = start(&slapd);
    for (listener, who, code) in [(0, Some(3), 50), (0, None, 32), (1, Some(1), 32), (1, None, 32)] {
        for base in [BASE, "CN=corp, cn=directories,cn = USHERD,cn=monitor"] {
            let output = search(&usherd, listener, who, &["-b", base]);
            assert_eq!(
                output.status.code(),
                Some(code),
                "{listener}, {who:?}, {base}: {}",
                shown(&output)
            );
            assert_eq!(output.stdout, b"", "{listener}, {who:?}, {base}");
        }
    }
    // Who bound as a reader and then as somebody else is somebody else.
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let ask = ops::search(BASE, ops::BASE, &ops::present("objectClass"), &[]);
    let code = |client: &mut Client| client.call(&ask).last().map(|message| message.code());
    assert_eq!(code(&mut client), Some(0));
    client.bind(&user(3), &password(3));
    assert_eq!(code(&mut client), Some(50));
    usherd.stop();
}

#[test]
fn many_that_ask_at_once_are_all_answered_and_a_reload_says_who_may() {
    let slapd = Slapd::start();
    let (usherd, _) = start(&slapd);
    let target = usherd.plain(0);
    let ask = ops::search(BASE, ops::SUB, &ops::present("objectClass"), &["1.1"]);
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let (target, ask) = (target.clone(), ask.clone());
            std::thread::spawn(move || {
                let mut client = Client::bound(&target, &user(1), &password(1));
                for _ in 0..25 {
                    let messages = client.call(&ask);
                    assert_eq!(messages.last().map(|message| message.code()), Some(0));
                    assert!(messages.len() > 5, "{} messages", messages.len());
                }
            })
        })
        .collect();
    for one in asking {
        one.join().expect("all answers");
    }
    let mut client = Client::bound(&target, &user(1), &password(1));
    let text = std::fs::read_to_string(usherd.unix("usherd.toml")).expect("the configuration");
    usherd.folder.write("usherd.toml", text.replace(&user(1), &user(5)));
    let output = usherd.command(&["reload"]);
    assert!(output.status.success(), "{}", shown(&output));
    assert_eq!(client.call(&ask).last().map(|message| message.code()), Some(50));
    usherd.stop();
}
