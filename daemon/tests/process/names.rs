//! Names: servers that DNS names, and names of servers with several addresses, by a DNS server that says what the test wants.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::client::{Client, Message};
use crate::ops::{self, present};
use crate::proc::{run, wait_for};
use crate::rules::{all_pages, page};
use crate::slapd::{BASE, EDITOR, Slapd, USHERD, code_dn, password, user};
use crate::usherd::{BINARY, Setup, Usherd, server};

const SERVICE: &str = "_ldap._tcp.example.com";
const A: u16 = 1;
const SRV: u16 = 33;
const NO_SUCH_NAME: u8 = 3;

type Records = HashMap<(String, u16), Vec<Vec<u8>>>;

/// Answers what it was told, anything else with NXDOMAIN, or nothing at all.
struct Dns {
    port: u16,
    records: Arc<Mutex<Records>>,
    silent: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    fn start() -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let dns = Dns {
            port: socket.local_addr().expect("an address").port(),
            records: Arc::default(),
            silent: Arc::default(),
            asked: Arc::default(),
        };
        let (records, silent, asked) = (
            Arc::clone(&dns.records),
            Arc::clone(&dns.silent),
            Arc::clone(&dns.asked),
        );
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::SeqCst);
                if !silent.load(Ordering::SeqCst) {
                    let answer = answer(&buffer[..length], &records.lock().expect("nobody panics"));
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        dns
    }

    /// Servers of the service: priority, weight, port, host.
    fn serves(&self, servers: &[(u16, u16, u16, &str)]) {
        let record = |(priority, weight, port, host): &(u16, u16, u16, &str)| {
            let numbers = [*priority, *weight, *port].map(u16::to_be_bytes).concat();
            [numbers, name(host)].concat()
        };
        self.set(SERVICE, SRV, servers.iter().map(record).collect());
    }

    fn has_addresses(&self, host: &str, addresses: &[[u8; 4]]) {
        self.set(host, A, addresses.iter().map(|address| address.to_vec()).collect());
    }

    fn set(&self, name: &str, kind: u16, data: Vec<Vec<u8>>) {
        let mut records = self.records.lock().expect("nobody panics");
        records.insert((name.to_owned(), kind), data);
    }

    fn forget(&self, name: &str, kind: u16) {
        self.records
            .lock()
            .expect("nobody panics")
            .remove(&(name.to_owned(), kind));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits until it was asked so often again.
    fn until_asked(&self, more: usize) {
        let wanted = self.asked() + more;
        wait_for("DNS is asked again", Duration::from_secs(20), || {
            (self.asked() >= wanted).then_some(())
        });
    }

    fn server(&self) -> String {
        format!("dns_servers = [\"127.0.0.1:{}\"]\ndns_timeout = \"300ms\"", self.port)
    }
}

fn port(slapd: &Slapd) -> u16 {
    let url = slapd.url();
    let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
    port.expect("a port")
}

fn name(text: &str) -> Vec<u8> {
    let labels = text.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).expect("a short label");
        std::iter::once(length).chain(label.bytes())
    });
    labels.chain([0]).collect()
}

/// The answer to one question (RFC 1035 section 4).
fn answer(question: &[u8], records: &Records) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] > 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..=at + length]).to_ascii_lowercase());
        at += length + 1;
    }
    let kind = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    let asked = labels.join(".");
    let found = records.get(&(asked.clone(), kind));
    let known = records.keys().any(|(name, _)| *name == asked);
    let count = u16::try_from(found.map_or(0, Vec::len)).expect("a few");
    let mut out = question[..2].to_vec();
    out.extend_from_slice(&[0x81, if known { 0x80 } else { 0x80 | NO_SUCH_NAME }, 0, 1]);
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 0]);
    out.extend_from_slice(&question[12..at + 5]);
    for data in found.into_iter().flatten() {
        out.extend_from_slice(&[0xC0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
        out.extend_from_slice(&u16::try_from(data.len()).expect("short").to_be_bytes());
        out.extend_from_slice(data);
    }
    out
}

/// A directory whose servers DNS names.
fn by_service(dns: &Dns, lines: &str) -> Setup {
    let entry = format!("{{ srv = \"{SERVICE}\" }}");
    Setup::corp(&format!("policy = \"weighted\"\n{lines}"), &[entry]).server(&dns.server())
}

/// Its servers as the status has them: name, tier, weight.
fn servers(usherd: &Usherd) -> Vec<(String, u64, u64)> {
    let status = usherd.status();
    let servers = status["directories"][0]["servers"].as_array().expect("a list").clone();
    let number = |value: &serde_json::Value| value.as_u64().unwrap_or_default();
    servers
        .iter()
        .map(|one| {
            let name = one["name"].as_str().unwrap_or_default().to_owned();
            (name, number(&one["tier"]), number(&one["weight"]))
        })
        .collect()
}

fn named(port: u16, host: &str) -> String {
    format!("ldap://{host}.example.com:{port}")
}

fn search(client: &mut Client) {
    let found = client.call(&ops::search(&user(1), ops::BASE, &present("uid"), &["uid"]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[1].code(), 0);
}

#[test]
fn priorities_are_tiers_and_weights_are_weights() {
    let (one, two, three) = (Slapd::start(), Slapd::start(), Slapd::start());
    let dns = Dns::start();
    for host in ["one", "two", "three"] {
        dns.has_addresses(&format!("{host}.example.com"), &[[127, 0, 0, 1]]);
    }
    dns.serves(&[
        (10, 30, port(&one), "one.example.com"),
        (10, 10, port(&two), "two.example.com"),
        (20, 0, port(&three), "three.example.com"),
    ]);
    let usherd = by_service(&dns, "").start();
    let mut expected = vec![
        (named(port(&one), "one"), 1, 30),
        (named(port(&two), "two"), 1, 10),
        (named(port(&three), "three"), 2, 1),
    ];
    let mut found = servers(&usherd);
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    usherd.until("all are up", |status| {
        let servers = status["directories"][0]["servers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        servers.len() == 3 && servers.iter().all(|one| one["state"] == "up")
    });
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    for _ in 0..80 {
        search(&mut client);
    }
    let status = usherd.status();
    let operations = |port: u16, host: &str| {
        let servers = status["directories"][0]["servers"].as_array().expect("a list");
        let found = servers.iter().find(|one| one["name"] == named(port, host).as_str());
        found.and_then(|one| one["operations"].as_u64()).expect("a figure")
    };
    let (often, seldom) = (operations(port(&one), "one"), operations(port(&two), "two"));
    assert!(often > 2 * seldom && seldom > 10, "{often} and {seldom}");
    assert_eq!(operations(port(&three), "three"), 0, "it is of the second tier");
    usherd.stop();
}

#[test]
fn servers_come_and_go_with_dns_and_no_client_is_lost() {
    let (one, two) = (Slapd::start(), Slapd::start());
    let dns = Dns::start();
    for host in ["one", "two"] {
        dns.has_addresses(&format!("{host}.example.com"), &[[127, 0, 0, 1]]);
    }
    dns.serves(&[(0, 1, port(&one), "one.example.com")]);
    let usherd = by_service(&dns, "resolve_interval = \"1s\"").start();
    let target = usherd.plain(0);
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (target, over) = (target.clone(), Arc::clone(&over));
            std::thread::spawn(move || {
                let (mut client, mut count) = (Client::bound(&target, &user(1), &password(1)), 0);
                while !over.load(Ordering::Relaxed) {
                    search(&mut client);
                    count += 1;
                }
                count
            })
        })
        .collect();
    let until = |what: &str, expected: &[(u16, &str)]| {
        let mut expected: Vec<String> = expected.iter().map(|(port, host)| named(*port, host)).collect();
        expected.sort();
        usherd.until(what, |_| {
            let mut found: Vec<String> = servers(&usherd).into_iter().map(|(name, _, _)| name).collect();
            found.sort();
            found == expected
        });
    };
    dns.serves(&[
        (0, 1, port(&one), "one.example.com"),
        (0, 1, port(&two), "two.example.com"),
    ]);
    until("the new server is there", &[(port(&one), "one"), (port(&two), "two")]);
    usherd.until("it is used", |status| {
        let servers = status["directories"][0]["servers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        servers.iter().all(|one| one["operations"].as_u64() > Some(20))
    });
    dns.serves(&[(0, 1, port(&two), "two.example.com")]);
    until("the old server has gone", &[(port(&two), "two")]);
    std::thread::sleep(Duration::from_millis(300));
    over.store(true, Ordering::Relaxed);
    for client in clients {
        let count = client.join().expect("every search is answered");
        assert!(count > 20, "{count}");
    }
    drop(one);
    let mut client = Client::bound(&target, &user(1), &password(1));
    search(&mut client);
    usherd.stop();
}

#[test]
fn a_look_up_that_fails_changes_nothing_and_one_that_never_succeeded_is_tried_again() {
    let slapd = Slapd::start();
    let dns = Dns::start();
    dns.has_addresses("one.example.com", &[[127, 0, 0, 1]]);
    let usherd = by_service(&dns, "resolve_interval = \"1s\"").launch();
    assert_eq!(servers(&usherd), []);
    let mut early = Client::connect(&usherd.plain(0));
    let nobody = early.call(&ops::search(BASE, ops::BASE, &present("objectClass"), &["1.1"]));
    assert_eq!(nobody[0].code(), 52, "there is no server");
    dns.serves(&[(0, 1, port(&slapd), "one.example.com")]);
    usherd.until("ready", |status| status["lifecycle"] == "ready");
    let expected = vec![(named(port(&slapd), "one"), 1, 1)];
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let still_there = |why: &str, client: &mut Client| {
        dns.until_asked(3);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(servers(&usherd), expected, "{why}");
        search(client);
    };
    dns.forget(SERVICE, SRV);
    still_there("NXDOMAIN", &mut client);
    dns.serves(&[]);
    still_there("no record", &mut client);
    dns.silent.store(true, Ordering::SeqCst);
    still_there("silence", &mut client);
    assert!(usherd.command(&["reload"]).status.success());
    assert_eq!(servers(&usherd), expected, "a reload looks up nothing that is known");
    let status = usherd.status();
    assert!(status["lookups"]["services_failed"].as_u64() > Some(2), "{status:#}");
    usherd.stop();
}

#[test]
fn of_a_name_with_dead_addresses_the_other_one_is_used() {
    let slapd = Slapd::start();
    // At these other addresses nobody listens, or somebody takes connections and says nothing.
    let refused = [[127, 0, 0, 2], [127, 0, 0, 3]];
    let mute = [[127, 0, 0, 4], [127, 0, 0, 5]];
    let listeners = mute.map(|address| TcpListener::bind((Ipv4Addr::from(address), port(&slapd))).expect("a port"));
    let dns = Dns::start();
    for (host, dead) in [("refused", refused), ("mute", mute)] {
        let name = format!("{host}.example.com");
        dns.has_addresses(&name, &[dead[0], dead[1], [127, 0, 0, 1]]);
        let url = format!("ldap://{name}:{}", port(&slapd));
        // One connection, which begins with a dead address; a server that was given up would not be tried again in time.
        let lines = "connect_timeout = \"3s\"\nretry_min = \"30s\"";
        let usherd = Setup::corp(lines, &[server(&url, "connections = 1,")])
            .server(&format!("workers = 1\n{}", dns.server()))
            .start();
        for _ in 0..3 {
            let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
            search(&mut client);
        }
        usherd.stop();
    }
    drop(listeners);
}

/// The same server at another address, 127.0.0.2: whoever connects there is passed on. How many are.
fn at_another_address(port: u16) -> Arc<AtomicUsize> {
    let other = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)).expect("a port of another address");
    let open = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&open);
    std::thread::spawn(move || {
        for stream in other.incoming().flatten() {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let server = std::net::TcpStream::connect(("127.0.0.1", port)).expect("slapd listens");
                counted.fetch_add(1, Ordering::SeqCst);
                let (mut from, mut to) = (
                    stream.try_clone().expect("a stream"),
                    server.try_clone().expect("a stream"),
                );
                let back = std::thread::spawn(move || {
                    let (mut from, mut to) = (server, stream);
                    let _ = std::io::copy(&mut from, &mut to);
                });
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
                let _ = back.join();
                counted.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    open
}

/// slapd, its URL by a name that leads to another address at first, how many are connected to that, and who knows the name.
fn elsewhere() -> (Slapd, String, Arc<AtomicUsize>, Dns) {
    let slapd = Slapd::start();
    let port = port(&slapd);
    let open = at_another_address(port);
    let dns = Dns::start();
    dns.has_addresses("ldap.example.com", &[[127, 0, 0, 2]]);
    (slapd, format!("ldap://ldap.example.com:{port}"), open, dns)
}

#[test]
fn connections_leave_an_address_that_the_name_has_no_more() {
    let (_slapd, url, open, dns) = elsewhere();
    let usherd = Setup::corp("resolve_interval = \"1s\"", &[server(&url, "")])
        .server(&dns.server())
        .start();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    search(&mut client);
    assert!(open.load(Ordering::SeqCst) > 0);
    dns.has_addresses("ldap.example.com", &[[127, 0, 0, 1]]);
    wait_for(
        "nobody is connected to the old address",
        Duration::from_secs(30),
        || {
            search(&mut client);
            (open.load(Ordering::SeqCst) == 0).then_some(())
        },
    );
    search(&mut client);
    usherd.stop();
}

/// Nobody is connected to the address that was left, within so long.
fn left(open: &AtomicUsize, limit: Duration) {
    wait_for("nobody is connected to the old address", limit, || {
        (open.load(Ordering::SeqCst) == 0).then_some(())
    });
}

#[test]
fn connections_of_one_client_leave_it_when_their_client_has_nothing_pending_and_at_the_latest_after_the_drain_time() {
    let (_slapd, url, open, dns) = elsewhere();
    let usherd = Setup::corp("resolve_interval = \"1s\"\nidentity = \"pinned\"", &[server(&url, "")])
        .server(&format!("drain_gentle = \"3s\"\n{}", dns.server()))
        .start();
    let bound = || Client::bound(&usherd.plain(0), &user(1), &password(1));
    let (mut idle, mut busy, mut endless) = (bound(), bound(), bound());
    let slow = |client: &mut Client, seconds: u32| {
        client.send(&ops::search(
            &code_dn(&format!("slow{seconds}")),
            ops::BASE,
            &present("cn"),
            &[],
        ))
    };
    dns.until_asked(2);
    dns.has_addresses("ldap.example.com", &[[127, 0, 0, 1]]);
    // Three look-ups, each a second after the other, have to say so.
    std::thread::sleep(Duration::from_millis(1_500));
    let asked = Instant::now();
    let busy_id = slow(&mut busy, 3);
    slow(&mut endless, 6);
    let goodbye = |client: &mut Client, limit: u64| {
        let said = client.until_closed(Duration::from_secs(limit));
        assert!(said.last().is_some_and(Message::is_disconnection), "{said:?}");
        said
    };
    goodbye(&mut idle, 5);
    let said = goodbye(&mut busy, 5);
    assert!(
        said.iter().any(|message| message.id == busy_id && message.is_final()),
        "{said:?}"
    );
    goodbye(&mut endless, 5);
    assert!(asked.elapsed() < Duration::from_millis(5_800), "{:?}", asked.elapsed());
    left(&open, Duration::from_secs(5));
    search(&mut bound());
    assert_eq!(open.load(Ordering::SeqCst), 0);
    usherd.stop();
}

/// The first of many pages of five, on a connection that the client keeps for the next.
fn first_page(client: &mut Client) -> Vec<u8> {
    let (entries, code, cookie) = page(client, 5, b"", &ops::pieces("uid", "user11*"), &[]);
    assert_eq!((entries.len(), code), (5, 0));
    cookie
}

#[test]
fn connections_kept_apart_leave_it_when_their_client_lets_go_of_them_and_at_the_latest_after_the_drain_time() {
    let (_slapd, url, open, dns) = elsewhere();
    let usherd = Setup::corp("resolve_interval = \"1s\"\nisolated_max = 4", &[server(&url, "")])
        .server(&format!("workers = 1\ndrain_gentle = \"6s\"\n{}", dns.server()))
        .start();
    let bound = || Client::bound(&usherd.plain(0), &user(1), &password(1));
    let still = |wanted: usize, why: &str| {
        wait_for(why, Duration::from_secs(20), || {
            (open.load(Ordering::SeqCst) == wanted).then_some(())
        });
    };
    let (mut pages, mut rests, mut gone) = (bound(), bound(), bound());
    let cookie = first_page(&mut pages);
    let forgotten = first_page(&mut rests);
    // This one lets go of its connection, which is kept for the next client.
    all_pages(&mut gone, 50, &ops::pieces("uid", "user11*"));
    dns.has_addresses("ldap.example.com", &[[127, 0, 0, 1]]);
    still(2, "only those with whom clients are not done are there");
    let left_at = Instant::now();
    let mut cookie = cookie;
    while !cookie.is_empty() {
        let (_, code, next) = page(&mut pages, 50, &cookie, &ops::pieces("uid", "user11*"), &[]);
        assert_eq!(code, 0, "its connection has the cookie");
        cookie = next;
    }
    still(1, "it is done, and nobody else gets its connection");
    all_pages(&mut gone, 50, &ops::pieces("uid", "user11*"));
    assert_eq!(open.load(Ordering::SeqCst), 1, "others page at the new address");
    assert!(left_at.elapsed() < Duration::from_secs(5), "{:?}", left_at.elapsed());
    still(0, "its time is over");
    let (_, code, _) = page(&mut rests, 5, &forgotten, &ops::pieces("uid", "user11*"), &[]);
    assert_ne!(code, 0, "its connection is gone, and with it what the server knew");
    all_pages(&mut rests, 50, &ops::pieces("uid", "user11*"));
    usherd.stop();
}

#[test]
fn a_feed_leaves_it_and_goes_on_from_its_cookie() {
    let slapd = Slapd::start();
    let port = port(&slapd);
    let open = at_another_address(port);
    let dns = Dns::start();
    dns.has_addresses("ldap.example.com", &[[127, 0, 0, 2]]);
    let setup = Setup::corp(
        "resolve_interval = \"1s\"",
        &[server(&format!("ldap://ldap.example.com:{port}"), "")],
    );
    let told = setup.folder.file("told");
    let usherd = setup
        .server(&format!("state_dir = \"state\"\n{}", dns.server()))
        .extra(&format!(
            "[feed.people]\ndirectory = \"corp\"\nfilter = \"(uid=user1)\"\nsink = {{ type = \"file\", path = \"{told}\" }}\n"
        ))
        .start();
    let lines = || std::fs::read_to_string(&told).unwrap_or_default();
    let until_told = |word: &str| {
        wait_for(word, Duration::from_secs(30), || lines().contains(word).then_some(()));
    };
    until_told("refresh-done");
    assert!(open.load(Ordering::SeqCst) > 0);
    dns.has_addresses("ldap.example.com", &[[127, 0, 0, 1]]);
    left(&open, Duration::from_secs(30));
    let mut editor = Client::bound(&slapd.plain(), EDITOR.0, EDITOR.1);
    let change = ops::modify(&user(1), &[(ops::REPLACE, "description", &["after the move"])]);
    assert_eq!(editor.one(&change).code(), 0);
    until_told("after the move");
    assert_eq!(
        lines().matches("token-1").count(),
        1,
        "nothing is told twice: {}",
        lines()
    );
    assert_eq!(open.load(Ordering::SeqCst), 0);
    usherd.stop();
}

#[test]
fn the_probe_says_what_a_service_has_and_whether_it_answers() {
    let slapd = Slapd::start();
    let dns = Dns::start();
    dns.has_addresses("one.example.com", &[[127, 0, 0, 1]]);
    dns.serves(&[(0, 1, port(&slapd), "one.example.com"), (5, 1, 1, "two.example.com")]);
    let (folder, file) = by_service(&dns, "").written();
    let probed = run(BINARY, &["check", "-c", &file, "--probe"], Duration::from_secs(30));
    let text = String::from_utf8_lossy(&probed.stdout).into_owned();
    assert!(!probed.status.success(), "{text}");
    for expected in [
        format!("ok      corp  {SERVICE}  "),
        format!("ok      corp  {}  ", named(port(&slapd), "one")),
        "FAILED  corp  ldap://two.example.com:1  ".to_owned(),
        format!("bound as {}", USHERD.0),
    ] {
        assert!(text.contains(&expected), "{expected} in\n{text}");
    }
    drop(folder);
}
