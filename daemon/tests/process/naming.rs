//! Who a client is that has bound is asked of the server when it matters (Who am I?, RFC 4532), and not at all where the client
//! leaves or binds again before.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::ber::elements;
use crate::client::{Client, PATIENCE, message, with_controls};
use crate::fake;
use crate::identity_hostile::extended;
use crate::ops::{self, present};
use crate::radius;
use crate::recorder::scripted;
use crate::slapd::{BASE, Slapd, USHERD, password, user};
use crate::usherd::{Setup, Usherd, server};

const NEVER: &str = "whoami_wait = \"10s\"";

/// A server that takes every bind, and says of `cn=…` that it is `u:cn=…`.
#[derive(Clone, Default)]
struct Server(Arc<State>);

#[derive(Default)]
struct State {
    binds: AtomicUsize,
    asked: AtomicUsize,
    /// Base and asserted identity of each search.
    searches: Mutex<Vec<(String, String)>>,
    /// It refuses every bind but the daemon's own.
    refuses: AtomicBool,
    /// It answers no Who am I? and ends the connection instead.
    hangs_up: AtomicBool,
    /// It answers none at all.
    is_mute: AtomicBool,
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Server {
    fn url(&self) -> String {
        let state = Arc::clone(&self.0);
        scripted(String::new, move |who, id, tag, op, controls| match tag {
            0x60 => {
                *who = said(elements(op)[1].1);
                let own = who == USHERD.0;
                if !own {
                    state.binds.fetch_add(1, Ordering::SeqCst);
                }
                let code = if state.refuses.load(Ordering::SeqCst) && !own {
                    49
                } else {
                    0
                };
                fake::result(id, ops::BIND_RESPONSE, code, "")
            }
            0x77 => {
                state.asked.fetch_add(1, Ordering::SeqCst);
                if state.hangs_up.load(Ordering::SeqCst) {
                    // No LDAP message: the daemon ends the connection.
                    return vec![0xFF; 8];
                }
                if state.is_mute.load(Ordering::SeqCst) {
                    return Vec::new();
                }
                extended(id, 0, Some(format!("u:{who}").as_bytes()))
            }
            0x63 => {
                let claims = elements(controls).into_iter().map(|(_, control)| elements(control));
                let claims = claims.filter(|parts| parts[0].1 == ops::OID_PROXIED.as_bytes());
                let claims: Vec<String> = claims.map(|parts| said(parts[2].1)).collect();
                let base = said(elements(op)[0].1);
                // Probes are the daemon's own.
                if !base.is_empty() {
                    let mut searches = state.searches.lock().expect("no panic");
                    searches.push((base, claims.join("|")));
                }
                fake::result(id, ops::SEARCH_DONE, 0, "")
            }
            _ => Vec::new(),
        })
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }

    fn binds(&self) -> usize {
        self.0.binds.load(Ordering::SeqCst)
    }

    fn searches(&self) -> Vec<(String, String)> {
        self.0.searches.lock().expect("no panic").clone()
    }
}

fn front(lines: &str) -> (Server, Usherd) {
    let one = Server::default();
    let usherd = Setup::corp(lines, &[server(&one.url(), "")]).start();
    (one, usherd)
}

/// One directory with these tiers, each the entries of `server`.
fn tiers(lines: &str, tiers: &[&str]) -> Setup {
    let tiers: String = tiers
        .iter()
        .map(|tier| format!("[[directory.corp.tier]]\nserver = [{tier}]\n"))
        .collect();
    let section = format!(
        "[directory.corp]\nbase = \"{BASE}\"\nidentity = \"proxied\"\nbind_dn = \"{}\"\nbind_password_file = \
         \"usherd.secret\"\n{lines}\n{tiers}",
        USHERD.0
    );
    Setup::new()
        .section(&section)
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"")
        .server("workers = 1")
}

fn about(name: &str) -> Vec<u8> {
    ops::search(name, ops::BASE, &present("cn"), &[])
}

/// The daemon's figures: binds after which was asked, and after which that was spared.
fn figures(usherd: &Usherd) -> (u64, u64) {
    let status = usherd.status();
    let figure = |name: &str| status["directories"][0][name].as_u64().expect("a figure");
    (figure("names_asked"), figure("names_spared"))
}

#[test]
fn a_client_that_only_has_passwords_checked_is_never_asked_about() {
    let (one, usherd) = front(NEVER);
    let mut client = Client::connect(&usherd.plain(0));
    for number in 0..50 {
        client.bind(&format!("cn=a{number}"), "x");
    }
    for number in 0..50 {
        let mut client = Client::bound(&usherd.plain(0), &format!("cn=b{number}"), "x");
        if number % 2 == 0 {
            client.send(&ops::unbind());
        }
    }
    drop(client);
    usherd.until("all are let go", |status| {
        status["directories"][0]["names_spared"] == 100
    });
    assert_eq!((one.binds(), one.asked()), (100, 0));
    assert_eq!(figures(&usherd), (0, 100));
    usherd.stop();
}

#[test]
fn a_client_s_first_operation_is_done_as_whom_the_server_says() {
    let (one, usherd) = front(NEVER);
    for number in 0..20 {
        let mut client = Client::connect(&usherd.plain(0));
        let name = format!("cn=a{number}");
        // All at once, and the bind's answer comes first.
        let all = [
            message(1, &ops::bind(&name, "x")),
            message(2, &about(&format!("{name},o=1"))),
            message(3, &about(&format!("{name},o=2"))),
        ];
        client.send_raw(&all.concat()).expect("it is there");
        let ids: Vec<i64> = (0..3)
            .map(|_| client.receive(PATIENCE).expect("an answer").id)
            .collect();
        assert_eq!(ids[0], 1);
        assert_eq!(client.whoami(), format!("u:{name}"));
    }
    let mut seen = one.searches();
    seen.sort();
    let mut expected: Vec<(String, String)> = (0..20)
        .flat_map(|n| [1, 2].map(|o| (format!("cn=a{n},o={o}"), format!("u:cn=a{n}"))))
        .collect();
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!((one.binds(), one.asked()), (20, 20));
    // What was learned is not asked again.
    let mut again = Client::bound(&usherd.plain(0), "cn=a3", "x");
    assert_eq!(again.whoami(), "u:cn=a3");
    assert_eq!(one.asked(), 20);
    usherd.stop();
}

#[test]
fn between_two_binds_nothing_is_done_as_the_first() {
    let (one, usherd) = front(NEVER);
    let mut client = Client::connect(&usherd.plain(0));
    client.bind("cn=first", "x");
    client.bind("cn=second", "x");
    client.call(&about("o=as second"));
    client.bind("cn=third", "x");
    client.bind("", "");
    client.call(&about("o=as nobody"));
    assert_eq!(
        one.searches(),
        [
            ("o=as second".to_owned(), "u:cn=second".to_owned()),
            ("o=as nobody".to_owned(), String::new())
        ]
    );
    assert_eq!(one.asked(), 1);
    usherd.stop();
}

#[test]
fn a_refused_bind_leaves_nobody_of_the_one_before() {
    let (one, usherd) = front(NEVER);
    let mut client = Client::connect(&usherd.plain(0));
    client.bind("cn=first", "x");
    assert_eq!(client.one(&ops::bind("cn=first", "")).code(), 53, "refused here");
    assert_eq!(client.whoami(), "");
    client.bind("cn=second", "x");
    one.0.refuses.store(true, Ordering::SeqCst);
    assert_eq!(client.one(&ops::bind("cn=second", "y")).code(), 49, "refused there");
    assert_eq!(client.whoami(), "");
    client.call(&about("o=as nobody"));
    assert_eq!(one.searches(), [("o=as nobody".to_owned(), String::new())]);
    assert_eq!(one.asked(), 0);
    usherd.stop();
}

#[test]
fn after_a_while_the_server_is_asked_all_the_same() {
    let (one, usherd) = front("whoami_wait = \"100ms\"");
    let mut client = Client::bound(&usherd.plain(0), "cn=quiet", "x");
    assert_eq!(one.asked(), 0);
    usherd.until("it is asked", |status| status["directories"][0]["names_asked"] == 1);
    client.expect_silence(Duration::from_millis(300));
    assert_eq!((one.asked(), client.whoami()), (1, "u:cn=quiet".to_owned()));
    assert_eq!(figures(&usherd), (1, 0));
    usherd.stop();
}

#[test]
fn asked_first_means_before_the_bind_is_answered() {
    let (one, usherd) = front("whoami_wait = \"0s\"");
    for number in 1..20 {
        let _client = Client::bound(&usherd.plain(0), &format!("cn=a{number}"), "x");
        assert_eq!(one.asked(), number);
    }
    usherd.stop();
}

/// One connection for binds, a client that sits on it, and a server with room that is not used.
#[test]
fn who_waits_for_a_connection_does_not_wait_for_others_idleness() {
    let one = Server::default();
    let standby = Server::default();
    let only = server(&one.url(), "bind_connections_max = 1");
    let usherd = tiers(NEVER, &[&only, &server(&standby.url(), "")]).start();
    let mut sitting = Client::bound(&usherd.plain(0), "cn=sits", "x");
    let started = Instant::now();
    for number in 0..20 {
        let mut client = Client::bound(&usherd.plain(0), &format!("cn=a{number}"), "x");
        if number % 2 == 0 {
            assert_eq!(client.whoami(), format!("u:cn=a{number}"));
        }
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(sitting.whoami(), "u:cn=sits");
    sitting.call(&about("o=sits"));
    assert_eq!(one.searches(), [("o=sits".to_owned(), "u:cn=sits".to_owned())]);
    usherd.stop();
}

/// Two servers, of which one took the bind of a client with this number and goes when it is asked who that is.
fn at_one_that_goes() -> (Server, Server, Usherd, usize, Client) {
    let (one, other) = (Server::default(), Server::default());
    one.0.hangs_up.store(true, Ordering::SeqCst);
    let servers = [server(&one.url(), ""), server(&other.url(), "")];
    let usherd = Setup::corp(NEVER, &servers).server("workers = 1").start();
    let at_one = |number: usize| {
        let before = one.binds();
        let client = Client::bound(&usherd.plain(0), &format!("cn=a{number}"), "x");
        (one.binds() > before).then_some((number, client))
    };
    let (number, client) = (0..200).find_map(at_one).expect("the first is chosen, too");
    (one, other, usherd, number, client)
}

#[test]
fn a_server_that_goes_before_it_says_who_that_is_is_stood_in_for() {
    let (one, other, usherd, number, mut client) = at_one_that_goes();
    let before = other.binds();
    assert_eq!(client.whoami(), format!("u:cn=a{number}"), "the other has said it");
    assert_eq!(other.binds(), before + 1);
    client.call(&about("o=as before"));
    let seen = [one.searches(), other.searches()].concat();
    assert_eq!(seen, [("o=as before".to_owned(), format!("u:cn=a{number}"))]);
    usherd.stop();
}

#[test]
fn where_nobody_can_say_any_more_who_a_client_is_it_is_told_and_does_nothing() {
    let (one, other, usherd, _, mut client) = at_one_that_goes();
    other.0.refuses.store(true, Ordering::SeqCst);
    client.send(&about("o=as whom?"));
    let last = client.until_closed(PATIENCE);
    assert!(last.iter().any(|message| message.is_disconnection()), "{last:?}");
    assert_eq!(last.len(), 1, "and nothing else: {last:?}");
    assert_eq!((one.searches(), other.searches()), (vec![], vec![]));
    usherd.stop();
}

#[test]
fn a_server_that_never_says_who_that_is_holds_nobody_up_beyond_the_deadline() {
    let (one, usherd) = front("whoami_wait = \"10s\"\noperation_timeout = \"1s\"");
    one.0.is_mute.store(true, Ordering::SeqCst);
    let mut client = Client::bound(&usherd.plain(0), "cn=a", "x");
    let started = Instant::now();
    client.send(&about("o=as whom?"));
    let last = client.until_closed(PATIENCE);
    assert!(last.len() == 1 && last[0].is_disconnection(), "{last:?}");
    let took = started.elapsed();
    assert!((0.9..3.0).contains(&took.as_secs_f64()), "{took:?}");
    assert_eq!(one.searches(), []);
    usherd.stop();
}

/// What it abandons, and that it leaves, needs no name.
#[test]
fn a_client_without_a_name_may_abandon_bind_and_leave() {
    let (one, usherd) = front(NEVER);
    let mut client = Client::bound(&usherd.plain(0), "cn=a", "x");
    client.send(&ops::abandon(77));
    client.bind("cn=b", "x");
    client.send(&ops::unbind());
    assert_eq!(client.until_closed(PATIENCE).len(), 0);
    assert_eq!((one.binds(), one.asked()), (2, 0));
    // And whoever asserts an identity is refused as ever, after it was asked who it is.
    let mut client = Client::bound(&usherd.plain(0), "cn=c", "x");
    let control = [(ops::OID_PROXIED, true, Some(b"dn:cn=root".to_vec()))];
    let refused = client.one(&with_controls(&about("o=x"), &control));
    assert_eq!(refused.code(), 53);
    assert_eq!(one.searches(), []);
    usherd.stop();
}

/// That binds take long, or may not take long, is no reason to wait for less.
#[test]
fn a_client_is_waited_for_longer_than_its_bind_may_take() {
    let (one, usherd) = front("whoami_wait = \"1s\"\noperation_timeout = \"200ms\"");
    let mut client = Client::bound(&usherd.plain(0), "cn=a", "x");
    client.expect_silence(Duration::from_millis(600));
    assert_eq!(one.asked(), 0);
    client.expect_silence(Duration::from_millis(1000));
    assert_eq!((one.asked(), client.whoami()), (1, "u:cn=a".to_owned()));
    usherd.stop();
}

/// The last tier is a file, which knows names as they are typed.
#[test]
fn a_rescue_directory_stands_in_for_servers_that_are_gone_before_they_said_who_that_is() {
    let mut slapd = Slapd::start();
    let setup = tiers(
        "whoami_wait = \"10s\"\nretry_max = \"500ms\"",
        &[&server(&slapd.url(), ""), "{ ldif = \"rescue.ldif\" }"],
    );
    let people = format!(
        "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Rescue\n\ndn: ou=people,{BASE}\n\
         objectClass: organizationalUnit\nou: people\n\ndn: {}\nobjectClass: inetOrgPerson\nuid: user1\ncn: a\nsn: b\n\
         userPassword: {}\n",
        user(1),
        password(1)
    );
    setup.folder.write("rescue.ldif", people);
    let usherd = setup.start();
    usherd.until("the server is up", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    slapd.kill();
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    let found = client.call(&ops::search(BASE, ops::BASE, &present("o"), &["o"]));
    assert_eq!(found[0].values("o"), ["Rescue"]);
    usherd.stop();
}

/// Its deadline is short, and its operation is waiting for its name for longer than it may be idle.
#[test]
fn who_waits_for_its_name_is_not_idle() {
    let one = Server::default();
    one.0.is_mute.store(true, Ordering::SeqCst);
    let usherd = Setup::new()
        .directory(
            "corp",
            "whoami_wait = \"10s\"\noperation_timeout = \"3s\"",
            &[server(&one.url(), "")],
        )
        .listen("ldap", "127.0.0.1:0", "directory = \"corp\"\nidle_timeout = \"1s\"")
        .start();
    let mut client = Client::bound(&usherd.plain(0), "cn=a", "x");
    let started = Instant::now();
    client.send(&about("o=as whom?"));
    let last = client.until_closed(PATIENCE);
    assert!(last.len() == 1 && last[0].is_disconnection(), "{last:?}");
    assert!(!last[0].diagnostic().contains("idle"), "{last:?}");
    assert!(
        started.elapsed() > Duration::from_millis(2500),
        "{:?}",
        started.elapsed()
    );
    usherd.stop();
}

/// A question of another face waits for a bind connection that an idle client has.
#[test]
fn radius_does_not_wait_for_idle_ldap_clients() {
    let slapd = Slapd::start();
    let setup = tiers(NEVER, &[&server(&slapd.url(), "bind_connections_max = 1")]);
    let usherd = radius::before(
        setup,
        "authenticate = { directory = \"corp\", user = \"(uid={User-Name})\" }",
    );
    let mut sitting = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let attributes = format!("User-Name = user7, User-Password = \"{}\"", password(7));
    let started = Instant::now();
    let at = format!("127.0.0.1:{}", usherd.port(1));
    let output = radius::radclient_to(&at, radius::SECRET, "auth", &attributes, &["-r", "1", "-t", "8"]);
    radius::got(&output, "Access-Accept");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(sitting.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}
