//! What balancers of LDAP are known to get wrong, and where it is shown that usherd does not.
//!
//! Each line was reproduced with OpenLDAP's lloadd. The tests named print the figure that they reach; the variable asks for
//! the full form where the normal run has a smaller one.
//!
//! | case | elsewhere | here | test | full form |
//! |---|---|---|---|---|
//! | 100 servers killed under load (64 clients, depth 8, 2 % abandons) | 62 results twice, 9 late, 7 % failed | 0, 0, < 0.1 % | deaths::servers_killed_under_load_leave_no_duplicate_no_late_no_missing_result_and_reads_go_on | USHERD_TEST_KILLS=100 |
//! | 20 malformed requests a second for 10 s | 6,188 operations of others fail | 0 | hostile::twenty_malformed_requests_a_second_are_noticed_by_no_other_client | |
//! | one of two servers frozen for 12 s | 32 of 32 clients stalled | 0 stalled, ejected in < 2 s | deaths::a_frozen_server_keeps_nobody_waiting_is_ejected_within_two_seconds_and_comes_back_by_itself | USHERD_TEST_FREEZE_SECONDS=12 |
//! | 400 connections at 128 descriptors, then closed, 12 times | deaf until restarted, 3 of 12 times | accepts in < 1 s, servers never starved | resources::four_hundred_connections_at_128_descriptors_stop_nothing_that_is_there_and_end_within_a_second | USHERD_TEST_FLOODS=12 |
//! | 1,000 readers that do not read 10 MB each | 3.7 GB, others get nothing | <= 100 MB, others keep >= 90 % | resources::readers_that_do_not_read_cost_little_memory_and_others_go_on | USHERD_TEST_READERS=1000 |
//! | a partial request held open | never closed | closed in <= 10 s, a bound idle client stays | defects::by_default_half_a_request_is_closed_within_ten_seconds_and_an_idle_client_stays | |
//! | weights of 10 : 1 | 0 : 6000 | within 5 % | balance::weights_of_ten_to_one_are_kept_within_five_percent | |
//! | best of two, equal servers | 5999 : 1 | within 60 : 40 | balance::equal_servers_share_within_sixty_to_forty_under_every_policy | |
//! | more binders than bind connections | up to 96 % refused | 0 refused | balance::more_binders_than_bind_connections_wait_and_none_is_refused | |
//! | a DN with an empty password | passed on | refused (53) on every path | defects::a_name_with_an_empty_password_reaches_no_server_on_any_path | |
//! | Cancel | passed on as it is | right | identity::cancel_is_answered_for_itself_and_for_what_it_cancelled | |
//! | paged results | scattered | right | rules::twenty_clients_page_at_once_through_two_servers_and_each_gets_all_of_it | |
//! | transactions | scattered | right | rules::eight_clients_have_transactions_at_once_and_each_settles_its_own | |
//! | virtual list view | scattered | right | rules::sorted_pages_and_virtual_lists_of_many_clients_do_not_mix | |
//! | SIGTERM with operations pending | dropped without a result | drained | lifecycle::sigterm_lets_pending_operations_finish_tells_everyone_and_ends_with_0 | |
//! | 20 changes of the configuration | 1,248 connections, 2,560 operations lost | 0, 0 | upgrade::reloads_and_upgrades_under_load_lose_no_connection_and_no_operation | USHERD_TEST_RELOADS=100 USHERD_TEST_UPGRADES=20 |
//! | 10,000 idle connections | 17 to 19 MB | <= 30 MB | defects::ten_thousand_idle_connections_cost_less_than_thirty_megabytes | |
//! | an answer reaches the wrong client | not seen | never | deaths::every_answer_of_a_mixed_run_reaches_who_asked | USHERD_TEST_OPERATIONS=1000000 USHERD_TEST_SECONDS=600 |
//! | an operation runs as somebody else | by a second control, if a server lets it | never | identity_matrix::on_shared_connections_everything_runs_as_who_asked_and_carries_one_identity | |
//! | two in a chain: paged results, transactions | not so | as the server itself | rules_route::two_in_a_chain_page_and_transact_as_the_server_itself | |
//! | two in a chain: syncrepl | right | right | rules_route::two_in_a_chain_pass_on_a_search_that_follows_the_content | |

use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::ber::elements;
use crate::client::{Client, Target, message};
use crate::fake;
use crate::ops;
use crate::proc::{alone, run, setting};
use crate::recorder::scripted;
use crate::slapd::{Slapd, password, user};
use crate::usherd::{Setup, listener_tls, server};

#[test]
fn every_line_of_the_table_names_a_test_that_is_there() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process");
    let main = std::fs::read_to_string(folder.join("main.rs")).expect("the tests' main file");
    let mut lines = 0;
    for line in include_str!("defects.rs")
        .lines()
        .filter(|line| line.starts_with("//! | "))
    {
        let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [_, _, _, _, test, long] = columns[..] else {
            panic!("a line of five columns: {line}")
        };
        let Some((module, name)) = test.split_once("::") else {
            assert_eq!(test, "test", "{line}");
            continue;
        };
        let text = std::fs::read_to_string(folder.join(format!("{module}.rs"))).expect(module);
        assert!(text.contains(&format!("#[test]\nfn {name}() {{")), "{test} is no test");
        assert!(
            main.contains(&format!("mod {module};")),
            "{module} is not part of the tests"
        );
        for variable in long.trim_end_matches('|').split_whitespace() {
            let name = variable.split('=').next().unwrap_or_default();
            assert!(
                text.contains(&format!("setting(\"{name}\"")),
                "{test} does not know {name}"
            );
        }
        lines += 1;
    }
    assert!(lines > 18, "{lines}");
}

#[test]
fn by_default_half_a_request_is_closed_within_ten_seconds_and_an_idle_client_stays() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]).start();
    let mut idle = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let bind = message(1, &ops::bind(&user(2), &password(2)));
    let start = Instant::now();
    let mut halves: Vec<Client> = [1, 2, bind.len() / 2, bind.len() - 1]
        .iter()
        .map(|octets| {
            let mut client = Client::connect(&usherd.plain(0));
            client.send_raw(&bind[..*octets]).expect("sent");
            client
        })
        .collect();
    for half in &mut halves {
        half.until_closed(Duration::from_secs(20));
    }
    let took = start.elapsed();
    // A wheel's turn and a busy machine on top of what is configured.
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!(idle.whoami(), format!("dn:{}", user(1)));
    eprintln!("half a request: closed after {took:?}");
    usherd.stop();
}

/// A server that takes every bind and keeps the names that came without a password.
fn gullible(passwordless: &Arc<Mutex<Vec<String>>>) -> String {
    let passwordless = Arc::clone(passwordless);
    scripted(String::new, move |who, id, tag, op, _| {
        if tag == 0x60 {
            let parts = elements(op);
            *who = String::from_utf8_lossy(parts[1].1).into_owned();
            if parts[2] == (0x80, b"") && !who.is_empty() {
                passwordless.lock().expect("no panic").push(who.clone());
            }
            return fake::result(id, ops::BIND_RESPONSE, 0, "");
        }
        if tag == 0x63 {
            // Whoever looks for a user finds one.
            let found = fake::entry(id, "user1");
            return [found, fake::result(id, ops::SEARCH_DONE, 0, "")].concat();
        }
        fake::answer(id, tag, op, who)
    })
}

#[test]
fn a_name_with_an_empty_password_reaches_no_server_on_any_path() {
    let passwordless = Arc::default();
    let url = gullible(&passwordless);
    let tls = listener_tls();
    let header = "proxy_protocol = \"v1\"\nproxy_from = [\"127.0.0.1\"]";
    let of = |directory: &str, lines: &str| format!("directory = \"{directory}\"\n{lines}");
    let setup = Setup::new();
    setup.folder.write("local.ldif", "dn: dc=example,dc=com\nobjectClass: domain\ndc: example\n\ndn: uid=user1,dc=example,dc=com\nobjectClass: account\nuid: user1\nuserPassword: x\n");
    let usherd = setup
        .directory("proxied", "", &[server(&url, "")])
        .directory("pinned", "identity = \"pinned\"", &[server(&url, "")])
        .section("[directory.local]\nbase = \"dc=example,dc=com\"\nserver = [{ ldif = \"local.ldif\" }]\n")
        .listen(
            "ldap",
            "127.0.0.1:0",
            &of("proxied", &format!("starttls = true\n{tls}")),
        )
        .listen("ldaps", "127.0.0.1:0", &of("proxied", &tls))
        .listen("ldap", "unix:ldapi", &of("proxied", ""))
        .listen("ldap", "127.0.0.1:0", &of("proxied", header))
        .listen("ldap", "127.0.0.1:0", &of("proxied", "[listen.lockout]\nfailures = 5"))
        .listen("ldap", "127.0.0.1:0", &of("pinned", ""))
        .listen("ldap", "127.0.0.1:0", &of("local", ""))
        .listen("saslauthd", "unix:mux", &of("proxied", "filter = \"(uid=%u)\""))
        .start();
    let paths = [
        usherd.plain(0),
        usherd.start_tls(0),
        usherd.ldaps(1),
        Target::Unix(usherd.unix("ldapi")),
        usherd.plain(3),
        usherd.plain(4),
        usherd.plain(5),
        usherd.plain(6),
    ];
    for (at, path) in paths.iter().enumerate() {
        let mut client = Client::connect(path);
        if at == 4 {
            client
                .send_raw(b"PROXY TCP4 192.0.2.7 192.0.2.1 49152 389\r\n")
                .expect("sent");
        }
        // As the first request, after a bind, and after another name.
        for name in ["uid=user1,dc=example,dc=com", "uid=user1,dc=example,dc=com", " ", "x"] {
            assert_eq!(client.one(&ops::bind(name, "")).code(), 53, "{path:?}");
            assert_eq!(client.whoami(), "", "{path:?}");
            let _ = client.one(&ops::bind("uid=user1,dc=example,dc=com", "x")).code();
        }
    }
    let mux = usherd.unix("mux").display().to_string();
    let args = ["-f", &mux, "-u", "user1", "-p", "", "-s", "imap"];
    let said = run("/usr/sbin/testsaslauthd", &args, Duration::from_secs(20));
    assert!(!String::from_utf8_lossy(&said.stdout).contains("OK"), "{said:?}");
    assert_eq!(*passwordless.lock().expect("no panic"), Vec::<String>::new());
    eprintln!("{} paths, none passes an empty password on", paths.len() + 1);
    usherd.stop();
}

/// Room for so many descriptors in this process and those that it starts; how many there are.
fn room_for(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|now| now < wanted) {
        let most = limit.maximum.map_or(wanted, |most| most.min(wanted));
        let raised = Rlimit {
            current: Some(most),
            ..limit
        };
        let _ = setrlimit(Resource::Nofile, raised);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(wanted)
}

#[test]
fn ten_thousand_idle_connections_cost_less_than_thirty_megabytes() {
    let _machine = alone();
    let wanted = setting("USHERD_TEST_IDLE", 10_000);
    let room = usize::try_from(room_for(wanted as u64 * 5 / 4 + 500)).expect("so many");
    // A tenth of the daemon's descriptors is not for clients.
    let connections = wanted.min((room - 200) * 8 / 10);
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "")]).start();
    let address = ("127.0.0.1", usherd.port(0));
    let start = Instant::now();
    let idle: Vec<TcpStream> = (0..connections)
        .map(|number| TcpStream::connect(address).unwrap_or_else(|error| panic!("connection {number}: {error}")))
        .collect();
    usherd.until("all are there", |status| {
        status["clients"].as_u64() >= Some(connections as u64)
    });
    // Each has said something once: what it needed for that is given back.
    let mut spoken: Vec<Client> = idle.into_iter().map(Client::over).collect();
    for client in &mut spoken {
        assert_eq!(client.whoami(), "");
    }
    let memory = |field| usherd.process.memory_kib(field);
    // What the kernel keeps of the program's file is larger by half where it was built without optimisation.
    let (own, file) = (memory("RssAnon"), memory("RssFile"));
    let most = own + file.min(15 * 1024);
    eprintln!(
        "{connections} idle connections after {:?}: {own} KiB, and {file} KiB of the program's file",
        start.elapsed()
    );
    assert!(most <= 30_000_000 / 1024, "{own} KiB and {file} KiB for {connections}");
    drop(spoken);
    usherd.until("all are gone", |status| status["clients"] == 0);
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}
