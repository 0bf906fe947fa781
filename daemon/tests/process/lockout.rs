//! Lockout after failed binds: exact, however many try at once, and harmless to whoever knows the password.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::ber::{elements, int, seq, take, text, value};
use crate::client::{Client, Gone, Target, message};
use crate::ops;
use crate::proc::wait_for;
use crate::slapd::{PEOPLE, Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

/// A server that takes its time for binds, knows one password for everybody, and counts.
struct Judge {
    port: u16,
    wrong: Arc<AtomicUsize>,
    right: Arc<AtomicUsize>,
}

/// What it answers to names that begin so, whatever the password.
const SICK: &str = "cn=sick";

impl Judge {
    fn start() -> Judge {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let judge = Judge {
            port: listener.local_addr().expect("an address").port(),
            wrong: Arc::default(),
            right: Arc::default(),
        };
        let (wrong, right) = (Arc::clone(&judge.wrong), Arc::clone(&judge.right));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (wrong, right) = (Arc::clone(&wrong), Arc::clone(&right));
                std::thread::spawn(move || judge_binds(stream, &wrong, &right));
            }
        });
        judge
    }

    fn counts(&self) -> (usize, usize) {
        (self.wrong.load(Ordering::SeqCst), self.right.load(Ordering::SeqCst))
    }

    fn behind(&self, lockout: &str) -> Usherd {
        let url = format!("ldap://127.0.0.1:{}", self.port);
        Setup::new()
            .directory("corp", "identity = \"pinned\"\nprobe_interval = 0", &[server(&url, "")])
            .listen(
                "ldap",
                "127.0.0.1:0",
                &format!("directory = \"corp\"\nlockout = {{ {lockout} }}"),
            )
            .start()
    }
}

fn judge_binds(mut stream: TcpStream, wrong: &AtomicUsize, right: &AtomicUsize) {
    let (mut inbox, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        inbox.extend_from_slice(&chunk[..read]);
        while let Some((_, content, used)) = take(&inbox) {
            let parts = elements(content);
            let (id, (tag, op)) = (value(parts[0].1), parts[1]);
            let (answer, code) = match tag {
                0x60 => {
                    std::thread::sleep(Duration::from_millis(20));
                    let bind = elements(op);
                    let sick = bind[1].1.starts_with(SICK.as_bytes());
                    let anonymous = bind[2].1.is_empty();
                    let good = anonymous || bind[2].1 == b"right";
                    if !anonymous {
                        if good { right } else { wrong }.fetch_add(1, Ordering::SeqCst);
                    }
                    (
                        ops::BIND_RESPONSE,
                        if sick {
                            52
                        } else if good {
                            0
                        } else {
                            49
                        },
                    )
                }
                0x63 => (ops::SEARCH_DONE, 0),
                _ => (ops::EXTENDED_RESPONSE, 2),
            };
            let result = seq(answer, &[int(0x0A, code), text(""), text("")]);
            if stream.write_all(&message(id, &result)).is_err() {
                return;
            }
            inbox.drain(..used);
        }
    }
}

/// So many clients bind at once; how often each code was answered.
fn at_once(target: &Target, count: usize, dn: &str, password: &str) -> Vec<(i64, usize)> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(target)).collect();
    for client in &mut clients {
        client.send(&ops::bind(dn, password));
    }
    let mut codes: Vec<(i64, usize)> = Vec::new();
    for client in &mut clients {
        let code = client.receive(crate::client::PATIENCE).expect("an answer").code();
        match codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, times)) => *times += 1,
            None => codes.push((code, 1)),
        }
    }
    codes.sort_unstable();
    codes
}

fn bind(target: &Target, dn: &str, password: &str) -> i64 {
    Client::connect(target).one(&ops::bind(dn, password)).code()
}

/// A client that comes from this address.
fn bind_from(address: [u8; 4], port: u16, dn: &str, password: &str) -> i64 {
    Client::from(address, port).one(&ops::bind(dn, password)).code()
}

#[test]
fn of_a_hundred_wrong_passwords_at_once_exactly_five_reach_a_server() {
    let judge = Judge::start();
    let usherd = judge.behind("failures = 5, duration = \"3s\", by = [\"dn\"]");
    let target = usherd.plain(0);
    assert_eq!(at_once(&target, 100, "uid=ann,dc=x", "wrong"), [(49, 100)]);
    assert_eq!(judge.counts(), (5, 0));
    let locked = Instant::now();
    assert_eq!(bind(&target, "UID=Ann , dc=X", "right"), 49, "in whatever letters");
    assert_eq!(judge.counts(), (5, 0), "no server was asked");
    assert_eq!(bind(&target, "uid=bob,dc=x", "right"), 0, "others go on");
    wait_for("the lock is over", Duration::from_secs(10), || {
        (bind(&target, "uid=ann,dc=x", "right") == 0).then_some(())
    });
    assert!(locked.elapsed() > Duration::from_secs(2));
    let figures = usherd.status();
    assert_eq!(
        (&figures["lockouts"][0]["locks"], &figures["lockouts"][0]["locked"]),
        (&1.into(), &0.into())
    );
    usherd.stop();
}

#[test]
fn a_hundred_right_ones_at_once_all_succeed() {
    let judge = Judge::start();
    let usherd = judge.behind("failures = 5, by = [\"dn\"]");
    let target = usherd.plain(0);
    for _ in 0..4 {
        assert_eq!(bind(&target, "uid=ann,dc=x", "wrong"), 49);
    }
    assert_eq!(at_once(&target, 100, "uid=ann,dc=x", "right"), [(0, 100)]);
    assert_eq!(judge.counts(), (4, 100));
    for _ in 0..4 {
        assert_eq!(bind(&target, "uid=ann,dc=x", "wrong"), 49);
    }
    assert_eq!(bind(&target, "uid=ann,dc=x", "right"), 0, "a success forgets failures");
    usherd.stop();
}

#[test]
fn what_is_no_wrong_password_does_not_lock_and_who_leaves_gives_room() {
    let judge = Judge::start();
    let usherd = judge.behind("failures = 2, by = [\"dn\"]");
    let target = usherd.plain(0);
    let sick = format!("{SICK},dc=x");
    assert_eq!(at_once(&target, 10, &sick, "wrong"), [(52, 10)]);
    assert_eq!(bind(&target, "", ""), 0, "anonymous binds are not counted");
    let mut clients: Vec<Client> = (0..40).map(|_| Client::connect(&target)).collect();
    for client in &mut clients {
        client.send(&ops::bind("uid=ann,dc=x", "right"));
    }
    // Some that wait go away; those behind them come through.
    let rest = clients.split_off(20);
    drop(clients);
    for mut client in rest {
        assert_eq!(
            client.receive(crate::client::PATIENCE).map(|answer| answer.code()),
            Ok::<i64, Gone>(0)
        );
    }
    usherd.stop();
}

#[test]
fn a_lock_of_an_address_is_not_one_of_another_and_a_reload_forgets_none() {
    let slapd = Slapd::start();
    let lockout = "directory = \"corp\"\nlockout = { failures = 3, by = [\"address\", \"dn+address\"] }";
    let usherd = Setup::new()
        .directory("corp", "", &[server(&slapd.url(), "")])
        .listen("ldap", "127.0.0.1:0", lockout)
        .start();
    let (target, port) = (usherd.plain(0), usherd.port(0));
    for number in 1..4 {
        assert_eq!(bind(&target, &user(number), "wrong"), 49);
    }
    assert_eq!(bind(&target, &user(5), &password(5)), 49, "the address is locked");
    assert_eq!(bind_from([127, 0, 0, 2], port, &user(5), &password(5)), 0);
    assert!(usherd.command(&["reload"]).status.success());
    assert_eq!(bind(&target, &user(5), &password(5)), 49, "still");
    let list = usherd.command(&["lockout", "list"]);
    let shown = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(shown.contains("address:127.0.0.1"), "{shown}");
    assert!(!usherd.command(&["lockout", "clear", "127.0.0.9"]).status.success());
    assert!(usherd.command(&["lockout", "clear", "127.0.0.1"]).status.success());
    assert_eq!(bind(&target, &user(5), &password(5)), 0);
    for _ in 0..3 {
        assert_eq!(
            bind_from([127, 0, 0, 2], port, &format!("uid=nobody,{PEOPLE}"), "wrong"),
            49
        );
    }
    assert_eq!(bind_from([127, 0, 0, 2], port, &user(5), &password(5)), 49);
    assert_eq!(bind(&target, &user(5), &password(5)), 0);
    usherd.stop();
}
