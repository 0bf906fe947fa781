//! Limits of clients: exact over all workers, harmless to everybody else.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use crate::ber::{elements, int, seq, take, text, value};
use crate::client::{Client, Gone, PATIENCE, Target, message};
use crate::ops::{self, present};
use crate::proc::wait_for;
use crate::usherd::{Setup, Usherd, listener_tls, server};

const HERE: [u8; 4] = [127, 0, 0, 1];
const THERE: [u8; 4] = [127, 0, 0, 2];
/// Clients of which some are on each of the two workers.
const MANY: usize = 48;
/// A search below this is not answered until its client abandons it.
const SLOW: &str = "cn=slow";

/// A server that lets everybody in, answers searches at once, but for slow ones, and counts.
struct Counter {
    port: u16,
    searches: Arc<AtomicUsize>,
}

impl Counter {
    fn start() -> Counter {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let searches = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&searches);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let searches = Arc::clone(&counted);
                std::thread::spawn(move || answer(stream, &searches));
            }
        });
        Counter { port, searches }
    }

    fn searches(&self) -> usize {
        self.searches.load(Ordering::SeqCst)
    }

    fn setup(&self, lines: &str) -> Setup {
        let url = format!("ldap://127.0.0.1:{}", self.port);
        Setup::new()
            .directory("corp", "identity = \"pinned\"\nprobe_interval = 0", &[server(&url, "")])
            .listen("ldap", "127.0.0.1:0", lines)
    }

    /// Behind a listener with these limits.
    fn behind(&self, limits: &str) -> Usherd {
        self.setup(&limited(limits)).start()
    }
}

fn limited(limits: &str) -> String {
    format!("directory = \"corp\"\n[listen.limits]\n{limits}")
}

fn answer(mut stream: TcpStream, searches: &AtomicUsize) {
    let (mut inbox, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        inbox.extend_from_slice(&chunk[..read]);
        while let Some((_, content, used)) = take(&inbox) {
            let parts = elements(content);
            let (id, (tag, op)) = (value(parts[0].1), parts[1]);
            let answer = match tag {
                0x60 => Some((ops::BIND_RESPONSE, 0)),
                0x63 => {
                    searches.fetch_add(1, Ordering::SeqCst);
                    let slow = elements(op)[0].1.starts_with(SLOW.as_bytes());
                    (!slow).then_some((ops::SEARCH_DONE, 0))
                }
                0x77 => Some((ops::EXTENDED_RESPONSE, 2)),
                _ => None,
            };
            if let Some((tag, code)) = answer {
                let result = seq(tag, &[int(0x0A, code), text(""), text("")]);
                if stream.write_all(&message(id, &result)).is_err() {
                    return;
                }
            }
            inbox.drain(..used);
        }
    }
}

fn search(base: &str) -> Vec<u8> {
    ops::search(base, ops::BASE, &present("objectClass"), &["1.1"])
}

fn ask(client: &mut Client) -> i64 {
    client.one(&search("")).code()
}

/// Whether somebody new is let in.
fn is_let_in(address: [u8; 4], port: u16) -> bool {
    let mut client = Client::from(address, port);
    matches!(client.try_call(&search("")), Ok(answer) if answer[0].code() == 0)
}

fn until_let_in(address: [u8; 4], port: u16) {
    wait_for("there is room for one more", Duration::from_secs(10), || {
        is_let_in(address, port).then_some(())
    });
}

/// So many clients connect at the same time and ask; those that are let in, and how many had a notice of disconnection.
fn storm(target: &Target, count: usize, header: &[u8]) -> (Vec<Client>, usize) {
    let start = Arc::new(Barrier::new(count));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let (start, target, header) = (Arc::clone(&start), target.clone(), header.to_vec());
            std::thread::spawn(move || {
                start.wait();
                let mut client = Client::connect(&target);
                if !header.is_empty() {
                    let _ = client.send_raw(&header);
                }
                match client.receive(Duration::from_secs(1)) {
                    Ok(told) => {
                        assert!(told.is_disconnection(), "{told:?}");
                        assert_eq!((told.code(), told.diagnostic().as_str()), (51, TOO_MANY));
                        Err(1)
                    }
                    Err(Gone::Closed) => Err(0),
                    Err(Gone::Timeout) => match client.try_call(&search("")) {
                        Ok(answer) if answer[0].code() == 0 => Ok(client),
                        _ => Err(0),
                    },
                }
            })
        })
        .collect();
    let (mut clients, mut told) = (Vec::new(), 0);
    for thread in threads {
        match thread.join().expect("it asks") {
            Ok(client) => clients.push(client),
            Err(notice) => told += notice,
        }
    }
    (clients, told)
}

const TOO_MANY: &str = "too many connections from this address";

#[test]
fn of_a_hundred_and_twenty_that_connect_at_once_exactly_as_many_as_may_are_let_in() {
    let counter = Counter::start();
    let usherd = counter.behind("connections_max = 48");
    let (clients, told) = storm(&usherd.plain(0), 120, b"");
    assert_eq!((clients.len(), told), (MANY, 72));
    let status = usherd.status();
    assert_eq!(status["clients"], 48, "nobody else costs a worker anything");
    assert_eq!(status["limits"][0]["refused_connections"][0]["count"], 72);
    assert!(is_let_in(THERE, usherd.port(0)), "another address");
    assert!(!is_let_in(HERE, usherd.port(0)));
    drop(clients);
    until_let_in(HERE, usherd.port(0));
    usherd.stop();
}

#[test]
fn what_a_proxy_header_says_is_the_address_that_counts() {
    let counter = Counter::start();
    let lines = format!(
        "proxy_protocol = \"any\"\nproxy_from = [\"127.0.0.1\"]\n{}",
        limited("connections_max = 48")
    );
    let usherd = counter.setup(&lines).start();
    let from = |host: u8| format!("PROXY TCP4 192.0.2.{host} 192.0.2.1 49152 389\r\n").into_bytes();
    let (clients, told) = storm(&usherd.plain(0), 120, &from(7));
    assert_eq!((clients.len(), told), (MANY, 72));
    let (others, _) = storm(&usherd.plain(0), 10, &from(8));
    assert_eq!(others.len(), 10, "another client of the same balancer");
    let (none, told) = storm(&usherd.plain(0), 3, &from(7));
    assert_eq!((none.len(), told), (0, 3));
    usherd.stop();
}

#[test]
fn over_tls_who_is_one_too_many_is_closed_without_a_word() {
    let counter = Counter::start();
    let url = format!("ldap://127.0.0.1:{}", counter.port);
    let lines = format!(
        "{}\n{}",
        listener_tls(),
        "directory = \"corp\"\nlimits = { connections_max = 1 }"
    );
    let usherd = Setup::new()
        .directory("corp", "identity = \"pinned\"\nprobe_interval = 0", &[server(&url, "")])
        .listen("ldaps", "127.0.0.1:0", &lines)
        .start();
    let mut first = Client::connect(&usherd.ldaps(0));
    assert_eq!(ask(&mut first), 0);
    let mut second = Client::connect(&usherd.plain(0));
    // Sooner than a handshake that does not come is given up.
    assert!(second.until_closed(Duration::from_secs(5)).is_empty());
    assert_eq!(ask(&mut first), 0);
    usherd.stop();
}

#[test]
fn so_many_connections_in_a_second_and_trusted_networks_as_many_as_they_want() {
    let counter = Counter::start();
    let usherd = counter.behind(
        "connect_rate = 1\nconnect_burst = 5\nconnections_max = 5\nexempt = [\"127.0.0.2\"]\n\
         [[listen.limits.override]]\nnetwork = \"127.0.0.3\"\nconnect_rate = 0\nconnections_max = 9",
    );
    let port = usherd.port(0);
    let begun = Instant::now();
    let let_in = (0..30).filter(|_| is_let_in(HERE, port)).count();
    let most = 5 + usize::try_from(begun.elapsed().as_secs()).expect("a few") + 1;
    assert!((5..=most).contains(&let_in), "{let_in} of 30 in {:?}", begun.elapsed());
    let trusted: Vec<Client> = (0..30).map(|_| Client::from(THERE, port)).collect();
    for mut client in trusted {
        assert_eq!(ask(&mut client), 0);
    }
    let known: Vec<bool> = {
        let mut clients: Vec<Client> = (0..12).map(|_| Client::from([127, 0, 0, 3], port)).collect();
        clients
            .iter_mut()
            .map(|client| client.try_call(&search("")).is_ok())
            .collect()
    };
    assert_eq!(known.iter().filter(|let_in| **let_in).count(), 9);
    usherd.stop();
}

/// Clients that ask as fast as they are answered, several requests at a time, until they are told to stop.
struct Flood {
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<HashMap<i64, usize>>>,
}

impl Flood {
    fn of(clients: Vec<Client>) -> Flood {
        let (answered, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let threads = clients
            .into_iter()
            .map(|mut client| {
                let (answered, over) = (Arc::clone(&answered), Arc::clone(&over));
                std::thread::spawn(move || {
                    let mut codes = HashMap::new();
                    for _ in 0..4 {
                        client.send(&search(""));
                    }
                    while !over.load(Ordering::Relaxed) {
                        let code = client.receive(PATIENCE).expect("an answer").code();
                        *codes.entry(code).or_default() += 1;
                        answered.fetch_add(1, Ordering::Relaxed);
                        client.send(&search(""));
                    }
                    codes
                })
            })
            .collect();
        Flood {
            answered,
            over,
            threads,
        }
    }

    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// How often each code was answered.
    fn stop(self) -> HashMap<i64, usize> {
        self.over.store(true, Ordering::Relaxed);
        let mut codes = HashMap::new();
        for thread in self.threads {
            for (code, count) in thread.join().expect("it is answered") {
                *codes.entry(code).or_default() += count;
            }
        }
        codes
    }
}

/// How many were answered in each second, of so many, once the burst is over.
fn rate(flood: &Flood, seconds: u32) -> f64 {
    std::thread::sleep(Duration::from_secs(1));
    let (before, begun) = (flood.answered(), Instant::now());
    std::thread::sleep(Duration::from_secs(seconds.into()));
    let count = flood.answered() - before;
    f64::from(u32::try_from(count).expect("not that many")) / begun.elapsed().as_secs_f64()
}

fn assert_near(rate: f64, wanted: f64) {
    assert!(
        (wanted * 0.94..wanted * 1.03).contains(&rate),
        "{rate} in a second, not {wanted}"
    );
}

#[test]
fn the_rate_of_an_address_is_held_over_all_its_connections_and_nobody_else_waits() {
    let counter = Counter::start();
    let usherd = counter.behind("address_rate = 200\naddress_burst = 40");
    let port = usherd.port(0);
    let flood = Flood::of((0..MANY).map(|_| Client::from(HERE, port)).collect());
    let held = rate(&flood, 3);
    // On both workers.
    let mut others: Vec<Client> = (0..MANY).map(|_| Client::from(THERE, port)).collect();
    let begun = Instant::now();
    for client in others.iter_mut().take(40) {
        assert_eq!(ask(client), 0);
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let codes = flood.stop();
    assert_near(held, 200.0);
    assert_eq!(
        codes.keys().copied().collect::<Vec<i64>>(),
        [0],
        "held back, not refused"
    );
    let status = usherd.status();
    assert_eq!(status["limits"][0]["refused"], 0);
    assert!(status["limits"][0]["delayed"].as_u64() > Some(400), "{status:#}");
    usherd.stop();
}

#[test]
fn the_rate_of_a_name_is_held_wherever_it_comes_from_and_others_have_their_own() {
    let counter = Counter::start();
    let usherd = counter.behind(
        "dn_rate = 100\ndn_burst = 10\n\
         [[listen.limits.override]]\ndn = \"CN=App, DC=x\"\nrate = 300",
    );
    let port = usherd.port(0);
    let bound = |address, name: &str| {
        let mut client = Client::from(address, port);
        client.bind(name, "secret");
        client
    };
    let ann = Flood::of(
        (0..20)
            .map(|at| bound([HERE, THERE][at % 2], ["uid=ann,dc=x", "UID=Ann , DC=x"][at % 2]))
            .collect(),
    );
    let bob = Flood::of((0..4).map(|_| bound(HERE, "uid=bob,dc=x")).collect());
    let app = Flood::of((0..8).map(|_| bound(HERE, "cn=app,dc=x")).collect());
    let mut nobody = Client::from(HERE, port);
    for _ in 0..300 {
        assert_eq!(ask(&mut nobody), 0);
    }
    std::thread::sleep(Duration::from_secs(1));
    let floods = [&ann, &bob, &app];
    let (before, begun) = (floods.map(Flood::answered), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let (after, seconds) = (floods.map(Flood::answered), begun.elapsed().as_secs_f64());
    for (at, wanted) in [100.0, 100.0, 300.0].into_iter().enumerate() {
        let count = f64::from(u32::try_from(after[at] - before[at]).expect("not that many"));
        assert_near(count / seconds, wanted);
    }
    for flood in [ann, bob, app] {
        assert_eq!(flood.stop().keys().copied().collect::<Vec<i64>>(), [0]);
    }
    usherd.stop();
}

#[test]
fn where_it_is_wanted_so_what_is_too_much_is_answered_busy_and_the_audit_log_says_so() {
    let counter = Counter::start();
    let lines = limited("address_rate = 1\naddress_burst = 3\nover = \"busy\"");
    let usherd = counter
        .setup(&lines)
        .extra("[audit]\nfile = \"audit.jsonl\"\noperations = [\"all\"]\n")
        .start();
    let mut client = Client::connect(&usherd.plain(0));
    let begun = Instant::now();
    let answers: Vec<_> = (0..12).map(|_| client.one(&search(""))).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.code() == 51).collect();
    let most = 3 + usize::try_from(begun.elapsed().as_secs()).expect("a few") + 1;
    let well = answers.len() - refused.len();
    assert!((3..=most).contains(&well), "{well} in {:?}", begun.elapsed());
    assert_eq!(refused[0].diagnostic(), "too many operations from this address");
    assert_eq!(counter.searches(), well, "no server is asked");
    let log = wait_for("the audit log has all", Duration::from_secs(10), || {
        let log = fs::read_to_string(usherd.folder.path().join("audit.jsonl")).ok()?;
        (log.lines().count() == 12).then_some(log)
    });
    let told = log
        .lines()
        .filter(|line| line.contains("\"refused\"") && line.contains("\"busy\""));
    assert_eq!(told.count(), refused.len(), "{log}");
    // A bind counts, too, and makes the client anonymous all the same.
    assert_eq!(client.one(&ops::bind("uid=ann,dc=x", "secret")).code(), 51);
    usherd.stop();
}

#[test]
fn so_many_are_pending_at_a_time_and_who_abandons_or_leaves_makes_room() {
    let counter = Counter::start();
    let usherd = counter.behind("address_pending_max = 3\ndelay_max = \"20s\"");
    let port = usherd.port(0);
    let mut clients: Vec<Client> = (0..MANY).map(|_| Client::from(HERE, port)).collect();
    let sent: Vec<i64> = clients.iter_mut().map(|client| client.send(&search(SLOW))).collect();
    let reached = |count: usize| {
        wait_for(
            &format!("{count} searches at the server"),
            Duration::from_secs(10),
            || (counter.searches() == count).then_some(()),
        );
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(counter.searches(), count);
    };
    reached(3);
    let mut other = Client::from(THERE, port);
    assert_eq!(ask(&mut other), 0);
    reached(4);
    // Whichever they were: all abandon, and those that wait come in their place, three at a time.
    for (client, id) in clients.iter_mut().zip(&sent) {
        client.send(&ops::abandon(*id));
    }
    reached(MANY + 1);
    // All gone: everything is given back.
    for client in clients.iter_mut().take(10) {
        client.send(&search(SLOW));
    }
    reached(MANY + 4);
    drop(clients);
    wait_for("the address has room again", Duration::from_secs(10), || {
        let mut client = Client::from(HERE, port);
        (ask(&mut client) == 0).then_some(())
    });
    usherd.stop();
}

#[test]
fn who_waits_too_long_is_answered_busy_and_abandon_is_never_refused() {
    let counter = Counter::start();
    let usherd = counter.behind("dn_pending_max = 1\ndelay_max = \"300ms\"\nover = \"delay\"");
    let mut client = Client::connect(&usherd.plain(0));
    client.bind("uid=ann,dc=x", "secret");
    let first = client.send(&search(SLOW));
    let begun = Instant::now();
    let late = client.one(&search(""));
    assert_eq!(
        (late.code(), late.diagnostic().as_str()),
        (51, "too many operations by this name")
    );
    assert!(begun.elapsed() >= Duration::from_millis(300));
    client.send(&ops::abandon(first));
    assert_eq!(ask(&mut client), 0);
    usherd.stop();
}

#[test]
fn a_reload_takes_up_other_limits_and_keeps_count() {
    let counter = Counter::start();
    let usherd = counter.behind("connections_max = 2");
    let port = usherd.port(0);
    let rewrite = |limits: &str| {
        let file = fs::read_to_string(usherd.folder.path().join("usherd.toml")).expect("its file");
        let before = file.split("[listen.limits]").next().expect("a listener");
        fs::write(usherd.folder.path().join("usherd.toml"), format!("{before}{limits}\n")).expect("its file");
        assert!(usherd.command(&["reload"]).status.success());
    };
    let mut clients: Vec<Client> = (0..2).map(|_| Client::from(HERE, port)).collect();
    for client in &mut clients {
        assert_eq!(ask(client), 0);
    }
    assert!(!is_let_in(HERE, port));
    rewrite("[listen.limits]\nconnections_max = 3");
    let mut third = Client::from(HERE, port);
    assert_eq!(ask(&mut third), 0);
    assert!(!is_let_in(HERE, port), "the two from before are counted");
    rewrite("[listen.limits]\nconnections_max = 3\naddress_rate = 1\naddress_burst = 1\nover = \"busy\"");
    let codes: Vec<i64> = (0..5).map(|_| ask(&mut clients[0])).collect();
    assert!(
        codes.contains(&51),
        "those who are connected have the new limits: {codes:?}"
    );
    rewrite("");
    let free: Vec<i64> = (0..5).map(|_| ask(&mut clients[0])).collect();
    assert_eq!(free, [0; 5]);
    until_let_in(HERE, port);
    rewrite("[listen.limits]\nconnections_max = 3");
    wait_for(
        "who came without limits is counted by them",
        Duration::from_secs(10),
        || (!is_let_in(HERE, port)).then_some(()),
    );
    drop(third);
    until_let_in(HERE, port);
    usherd.stop();
}
