//! Checks that bind and search, slow start, locations: which server gets what clients ask, beside servers whose health is
//! the test's to say.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::ber::{elements, int, seq, take, text, value};
use crate::client::{Client, message};
use crate::ops::{self, present};
use crate::slapd::{BASE, Slapd, USHERD, password, user};
use crate::usherd::{Setup, Usherd, restrict, server};

/// What a fake directory does.
#[derive(Default)]
struct Ways {
    /// Its root DSE and binds are answered, and searches elsewhere with `other` and no entry.
    broken: AtomicBool,
    /// The value of isSynchronized in its root DSE.
    synchronized: AtomicBool,
    /// Searches of clients.
    asked: AtomicU64,
    /// Names that were bound with a password.
    bound: Mutex<Vec<String>>,
    /// Connections that are open.
    streams: Mutex<Vec<TcpStream>>,
    /// Connections are closed as they come.
    away: AtomicBool,
}

struct Fake {
    port: u16,
    ways: Arc<Ways>,
}

impl Fake {
    fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let ways = Arc::new(Ways::default());
        let shared = Arc::clone(&ways);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.away.load(Ordering::SeqCst) {
                    continue;
                }
                let ways = Arc::clone(&shared);
                let kept = stream.try_clone().expect("a descriptor");
                ways.streams.lock().expect("no panic").push(kept);
                std::thread::spawn(move || serve(stream, &ways));
            }
        });
        Fake { port, ways }
    }

    fn url(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    fn set_broken(&self, broken: bool) {
        self.ways.broken.store(broken, Ordering::SeqCst);
    }

    /// Its connections are lost, and new ones too, until it is back.
    fn set_away(&self, away: bool) {
        self.ways.away.store(away, Ordering::SeqCst);
        if away {
            for stream in self.ways.streams.lock().expect("no panic").drain(..) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// How many searches of clients it had since the last time.
    fn asked(&self) -> u64 {
        self.ways.asked.swap(0, Ordering::SeqCst)
    }
}

fn result(id: i64, tag: u8, code: i64) -> Vec<u8> {
    message(id, &seq(tag, &[int(0x0A, code), text(""), text("")]))
}

fn entry(id: i64, name: &str, attributes: &[(&str, &str)]) -> Vec<u8> {
    let attributes: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(name, value)| seq(0x30, &[text(name), seq(0x31, &[text(value)])]))
        .collect();
    message(id, &seq(ops::SEARCH_ENTRY, &[text(name), seq(0x30, &attributes)]))
}

fn serve(mut stream: TcpStream, ways: &Ways) {
    let (mut inbox, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        inbox.extend_from_slice(&chunk[..read]);
        while let Some((_, content, used)) = take(&inbox) {
            let parts = elements(content);
            let (id, (tag, op)) = (value(parts[0].1), parts[1]);
            let answer = answer(id, tag, op, ways);
            if !answer.is_empty() && stream.write_all(&answer).is_err() {
                return;
            }
            inbox.drain(..used);
        }
    }
}

fn answer(id: i64, tag: u8, op: &[u8], ways: &Ways) -> Vec<u8> {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match tag {
        0x60 => {
            let name = said(elements(op)[1].1);
            ways.bound.lock().expect("no panic").push(name);
            result(id, ops::BIND_RESPONSE, 0)
        }
        0x63 => {
            let base = said(elements(op)[0].1);
            let done = result(id, ops::SEARCH_DONE, 0);
            if base.is_empty() {
                let word = if ways.synchronized.load(Ordering::SeqCst) {
                    "TRUE"
                } else {
                    "FALSE"
                };
                return [entry(id, "", &[("isSynchronized", word)]), done].concat();
            }
            if base.starts_with("cn=asked") {
                ways.asked.fetch_add(1, Ordering::SeqCst);
            }
            if ways.broken.load(Ordering::SeqCst) {
                return result(id, ops::SEARCH_DONE, 80);
            }
            [entry(id, &base, &[]), done].concat()
        }
        0x77 => message(id, &seq(ops::EXTENDED_RESPONSE, &[int(0x0A, 53), text(""), text("")])),
        _ => Vec::new(),
    }
}

/// So many searches, one after the other.
fn ask(client: &mut Client, times: usize) {
    for _ in 0..times {
        let answer = client.call(&ops::search("cn=asked", ops::BASE, &present("objectClass"), &[]));
        assert!(
            answer.last().is_some_and(crate::client::Message::is_final),
            "{answer:?}"
        );
    }
}

fn of<'a>(status: &'a Value, index: usize, figure: &str) -> &'a str {
    status["directories"][0]["servers"][index][figure]
        .as_str()
        .unwrap_or("?")
}

fn until(usherd: &Usherd, index: usize, state: &str) {
    usherd.until(&format!("server {index} is {state}"), |status| {
        of(status, index, "state") == state
    });
}

fn two(lines: &str, fakes: &[Fake; 2]) -> Usherd {
    let servers = [server(&fakes[0].url(), ""), server(&fakes[1].url(), "")];
    Setup::corp(&format!("policy = \"round-robin\"\n{lines}"), &servers)
        .server("workers = 1")
        .start()
}

#[test]
fn a_server_that_lives_but_does_not_do_its_work_is_put_aside_and_comes_back() {
    let fakes = [Fake::start(), Fake::start()];
    let check = "check = { interval = \"100ms\", timeout = \"100ms\", rise = 2, fall = 2, base = \"cn=data\" }";
    let usherd = two(check, &fakes);
    (0..2).for_each(|index| until(&usherd, index, "up"));
    let mut client = Client::connect(&usherd.plain(0));
    ask(&mut client, 20);
    assert_eq!((fakes[0].asked(), fakes[1].asked()), (10, 10));
    fakes[0].set_broken(true);
    until(&usherd, 0, "ejected");
    let status = usherd.status();
    assert_eq!(of(&status, 0, "score"), "down");
    assert_eq!(of(&status, 1, "score"), "available");
    assert!(of(&status, 0, "check_error").contains("other (80)"), "{status:#}");
    ask(&mut client, 20);
    assert_eq!((fakes[0].asked(), fakes[1].asked()), (0, 20));
    // Its probes are answered all the while.
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(usherd.server_state(0), "ejected");
    fakes[0].set_broken(false);
    until(&usherd, 0, "up");
    ask(&mut client, 20);
    assert_eq!((fakes[0].asked(), fakes[1].asked()), (10, 10));
    usherd.stop();
}

#[test]
fn a_domain_controller_is_used_once_it_says_that_it_is_synchronized() {
    let fakes = [Fake::start(), Fake::start()];
    fakes[1].ways.synchronized.store(true, Ordering::SeqCst);
    let check = "check = { interval = \"100ms\", timeout = \"100ms\", rise = 1, expect = \"isSynchronized=true\" }";
    let usherd = two(check, &fakes);
    // It has proven nothing yet: one failure is enough.
    until(&usherd, 0, "ejected");
    until(&usherd, 1, "up");
    let mut client = Client::connect(&usherd.plain(0));
    let _ = fakes.each_ref().map(Fake::asked);
    ask(&mut client, 10);
    assert_eq!((fakes[0].asked(), fakes[1].asked()), (0, 10));
    fakes[0].ways.synchronized.store(true, Ordering::SeqCst);
    until(&usherd, 0, "up");
    ask(&mut client, 10);
    assert_eq!((fakes[0].asked(), fakes[1].asked()), (5, 5));
    usherd.stop();
}

#[test]
fn checks_bind_as_they_are_told_against_slapd_and_a_reload_takes_up_their_settings() {
    let slapd = Slapd::start();
    let check = |secret: &str, base: &str| {
        format!(
            "check = {{ interval = \"200ms\", timeout = \"200ms\", fall = 1, rise = 1, bind_dn = \"{}\", \
             bind_password_file = \"{secret}\", base = \"{base}\" }}",
            user(3)
        )
    };
    let setup = Setup::corp(&check("check.secret", &user(3)), &[server(&slapd.url(), "")]);
    for (name, content) in [("check.secret", password(3)), ("wrong.secret", "canary-wrong".into())] {
        restrict(&setup.folder.write(name, content));
    }
    let usherd = setup.start();
    usherd.until("it is checked and well", |status| of(status, 0, "state") == "up");
    let reload = |check: &str| {
        usherd.rewrite(&format!(
            "[directory.corp]\nbase = \"{BASE}\"\nidentity = \"proxied\"\nbind_dn = \"{}\"\n\
             bind_password_file = \"usherd.secret\"\n{check}\nserver = [{}]\n\
             [[listen]]\nprotocol = \"ldap\"\naddress = \"127.0.0.1:0\"\ndirectory = \"corp\"\n",
            USHERD.0,
            server(&slapd.url(), ""),
        ));
        let output = usherd.command(&["reload"]);
        assert!(output.status.success(), "{output:?}");
    };
    for (settings, why) in [
        (
            check("wrong.secret", &user(3)),
            "refused our bind: invalidCredentials (49)",
        ),
        (check("check.secret", &format!("cn=nobody,{BASE}")), "noSuchObject (32)"),
    ] {
        reload(&settings);
        usherd.until(why, |status| {
            of(status, 0, "state") == "ejected" && of(status, 0, "check_error").contains(why)
        });
        reload(&check("check.secret", &user(3)));
        usherd.until("it is well again", |status| of(status, 0, "state") == "up");
    }
    assert!(!usherd.process.output().contains("canary"), "a password in the log");
    // A server that is stopped answers no check either, and clients are not left waiting for good.
    slapd.freeze();
    until(&usherd, 0, "ejected");
    slapd.thaw();
    until(&usherd, 0, "up");
    usherd.stop();
}

#[test]
fn a_server_that_came_back_begins_with_little() {
    let fakes = [Fake::start(), Fake::start()];
    let usherd = two("retry_max = \"500ms\"\nslow_start = \"1h\"", &fakes);
    (0..2).for_each(|index| until(&usherd, index, "up"));
    let mut client = Client::connect(&usherd.plain(0));
    ask(&mut client, 400);
    assert_eq!((fakes[0].asked(), fakes[1].asked()), (200, 200));
    fakes[0].set_away(true);
    usherd.until("it is away", |status| of(status, 0, "state") != "up");
    fakes[0].set_away(false);
    until(&usherd, 0, "up");
    assert_eq!(of(&usherd.status(), 0, "score"), "degraded");
    ask(&mut client, 400);
    // A twentieth of a half, drawn by lot.
    let (few, most) = (fakes[0].asked(), fakes[1].asked());
    assert!((1..30).contains(&few) && few + most == 400, "{few} and {most}");
    usherd.stop();
}

#[test]
fn servers_of_the_same_place_come_first_and_priorities_make_tiers() {
    let fakes = [Fake::start(), Fake::start(), Fake::start()];
    let servers = [
        server(&fakes[0].url(), "location = \"paris\", priority = 1"),
        server(&fakes[1].url(), "location = \"berlin\", priority = 1"),
        server(&fakes[2].url(), "priority = 2"),
    ];
    let usherd = Setup::corp("retry_max = \"500ms\"", &servers)
        .server("workers = 1\nlocation = \"berlin\"")
        .start();
    (0..3).for_each(|index| until(&usherd, index, "up"));
    let status = usherd.status();
    let tiers: Vec<_> = (0..3)
        .map(|index| status["directories"][0]["servers"][index]["tier"].as_u64())
        .collect();
    assert_eq!(tiers, [Some(1), Some(1), Some(2)]);
    let mut client = Client::connect(&usherd.plain(0));
    for (away, expected) in [(None, [0, 10, 0]), (Some(1), [10, 0, 0]), (Some(0), [0, 0, 10])] {
        if let Some(away) = away {
            fakes[away].set_away(true);
            usherd.until("it is away", |status| of(status, away, "state") == "down");
        }
        let _ = fakes.each_ref().map(Fake::asked);
        ask(&mut client, 10);
        assert_eq!([0, 1, 2].map(|index| fakes[index].asked()), expected);
    }
    usherd.stop();
}
