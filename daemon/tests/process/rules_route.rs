//! Which server takes what: reads and writes apart, reads after writes, the same clients at the same server; and two daemons
//! in a chain, which behave as the server behind them.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::ber::{int, seq};
use crate::client::{Client, PATIENCE, with_controls};
use crate::ops::{self, present};
use crate::rules::{all_pages, title, transact};
use crate::slapd::{EDITOR, PEOPLE, Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

const SYNC_REQUEST: &str = "1.3.6.1.4.1.4203.1.9.1.1";

pub(crate) fn set_title(client: &mut Client, number: usize, value: &str) -> i64 {
    client
        .one(&ops::modify(&user(number), &[(ops::REPLACE, "title", &[value])]))
        .code()
}

/// Waits until a question has this answer.
fn until<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, mut ask: impl FnMut() -> T) {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = ask();
        if found == *wanted {
            return;
        }
        assert!(Instant::now() < end, "{what}: {found:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn title_or_code(client: &mut Client, number: usize) -> Result<Option<String>, i64> {
    let op = ops::search(&user(number), ops::BASE, &present("uid"), &["title"]);
    let messages = client.call(&op);
    match messages.last().map_or(0, crate::client::Message::code) {
        0 => Ok(messages[0].values("title").into_iter().next()),
        code => Err(code),
    }
}

#[test]
fn writes_go_to_the_primary_alone_and_reads_to_the_replica_while_it_is_up() {
    // Two that know nothing of each other: each says which it is.
    let (mut primary, mut replica) = (Slapd::start(), Slapd::start());
    let direct = |slapd: &Slapd| Client::bound(&slapd.plain(), EDITOR.0, EDITOR.1);
    for (slapd, name) in [(&primary, "primary"), (&replica, "replica")] {
        assert_eq!(set_title(&mut direct(slapd), 1, name), 0);
    }
    let servers = [
        server(&primary.url(), "role = \"primary\", "),
        server(&replica.url(), "role = \"replica\", "),
    ];
    let usherd = Setup::corp("reads = \"replicas\"\nwrites = \"primary\"", &servers).start();
    let mut client = Client::bound(&usherd.plain(0), EDITOR.0, EDITOR.1);
    until("the replica is read", &Ok(Some("replica".to_owned())), || {
        title_or_code(&mut client, 1)
    });
    for n in 2..52 {
        assert_eq!(set_title(&mut client, n, "written"), 0);
        assert_eq!(title_or_code(&mut client, 1), Ok(Some("replica".to_owned())));
    }
    assert_eq!(
        client
            .one(&ops::password_modify(Some(&user(60)), None, Some("other")))
            .code(),
        0
    );
    transact(&mut client, 40, "settled", true);
    for n in (2..52).chain([80, 81]) {
        assert!(title(&mut direct(&primary), n).is_some(), "user{n} at the primary");
        assert_eq!(title(&mut direct(&replica), n), None, "user{n} at the replica");
    }
    let bind = |slapd: &Slapd, password: &str| {
        Client::connect(&slapd.plain())
            .one(&ops::bind(&user(60), password))
            .code()
    };
    assert_eq!((bind(&primary, "other"), bind(&replica, "other")), (0, 49));
    // Without a replica the primary is read; without a primary nothing is written.
    replica.kill();
    until("the primary is read", &Ok(Some("primary".to_owned())), || {
        title_or_code(&mut client, 1)
    });
    assert_eq!(set_title(&mut client, 3, "again"), 0);
    replica.revive();
    until("the replica is read", &Ok(Some("replica".to_owned())), || {
        title_or_code(&mut client, 1)
    });
    primary.kill();
    until("nothing is written", &52, || set_title(&mut client, 4, "never"));
    assert_eq!(title_or_code(&mut client, 1), Ok(Some("replica".to_owned())));
    assert_eq!(title(&mut direct(&replica), 4), None);
    usherd.stop();
}

#[test]
fn a_read_after_a_write_sees_it_a_thousand_times() {
    let slapds = [Slapd::start(), Slapd::start()];
    let servers: Vec<String> = slapds.iter().map(|slapd| server(&slapd.url(), "")).collect();
    let usherd = Setup::corp("write_coherence = \"5s\"\npolicy = \"round-robin\"", &servers).start();
    let clients: Vec<_> = (0..4)
        .map(|n| {
            let target = usherd.plain(0);
            thread::spawn(move || {
                let mut client = Client::bound(&target, EDITOR.0, EDITOR.1);
                for round in 0..250 {
                    let wanted = format!("title {n} {round}");
                    assert_eq!(set_title(&mut client, n + 1, &wanted), 0);
                    assert_eq!(title(&mut client, n + 1), Some(wanted));
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("each sees what it wrote");
    }
    usherd.stop();
}

#[test]
fn clients_with_affinity_keep_to_a_server_and_move_only_while_it_is_down() {
    for (affinity, settles_by) in [("connection", 1), ("bind-dn", 2)] {
        let mut slapds = [Slapd::start(), Slapd::start()];
        for (n, slapd) in slapds.iter().enumerate() {
            let mut direct = Client::bound(&slapd.plain(), EDITOR.0, EDITOR.1);
            assert_eq!(set_title(&mut direct, 1, &format!("server {n}")), 0);
        }
        let servers: Vec<String> = slapds.iter().map(|slapd| server(&slapd.url(), "")).collect();
        let usherd = Setup::corp(&format!("affinity = \"{affinity}\""), &servers).start();
        usherd.until("both are up", |status| {
            let servers = status["directories"][0]["servers"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            servers.len() == 2 && servers.iter().all(|server| server["state"] == "up")
        });
        let target = usherd.plain(0);
        let mut seen = BTreeSet::new();
        for n in 1..17 {
            let mut client = Client::bound(&target, &user(n), &password(n));
            let first = title(&mut client, 1).expect("a title");
            for _ in 0..20 {
                assert_eq!(title(&mut client, 1).as_ref(), Some(&first), "{affinity}");
            }
            if settles_by == 2 {
                let mut again = Client::bound(&target, &user(n), &password(n));
                assert_eq!(
                    title(&mut again, 1).as_ref(),
                    Some(&first),
                    "{affinity}, connected anew"
                );
            }
            seen.insert(first);
        }
        assert_eq!(seen.len(), 2, "both have their share");
        slapds[0].kill();
        let mut client = Client::bound(&target, &user(1), &password(1));
        until("the other one answers", &Ok(Some("server 1".to_owned())), || {
            title_or_code(&mut client, 1)
        });
        usherd.stop();
    }
}

/// A client's daemon in front, which asks another as it would ask slapd.
fn chain(slapd: &Slapd) -> (Usherd, Usherd) {
    let back = Setup::corp("identity = \"pinned\"", &[server(&slapd.url(), "")]).start();
    let url = format!("ldap://127.0.0.1:{}", back.port(0));
    let front = Setup::corp("isolated_max = 4", &[server(&url, "")]).start();
    (back, front)
}

#[test]
fn two_in_a_chain_page_and_transact_as_the_server_itself() {
    let slapd = Slapd::start();
    let (back, front) = chain(&slapd);
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let (direct, chained) = (slapd.plain(), front.plain(0));
            thread::spawn(move || {
                let mut direct = Client::bound(&direct, EDITOR.0, EDITOR.1);
                let mut chained = Client::bound(&chained, EDITOR.0, EDITOR.1);
                let filter = ops::pieces("uid", &format!("user{}*", 20 + n));
                let expected = all_pages(&mut direct, 6, &filter);
                assert!(expected.0 >= 19);
                for _ in 0..5 {
                    assert_eq!(all_pages(&mut chained, 6, &filter), expected);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("as the server itself");
    }
    let mut direct = Client::bound(&slapd.plain(), EDITOR.0, EDITOR.1);
    for n in 1..9 {
        let mut chained = Client::bound(&front.plain(0), EDITOR.0, EDITOR.1);
        transact(&mut chained, n, "settled", true);
        assert_eq!(title(&mut direct, 2 * n).as_deref(), Some("settled"));
        transact(&mut chained, n, "not so", false);
        assert_eq!(title(&mut direct, 2 * n + 1).as_deref(), Some("settled"));
    }
    front.stop();
    back.stop();
}

#[test]
fn two_in_a_chain_pass_on_a_search_that_follows_the_content() {
    let slapd = Slapd::start();
    let (back, front) = chain(&slapd);
    let mut client = Client::bound(&front.plain(0), EDITOR.0, EDITOR.1);
    let follow = with_controls(
        &ops::search(PEOPLE, ops::ONE, &ops::pieces("uid", "user77*"), &["uid", "title"]),
        &[(SYNC_REQUEST, true, Some(seq(0x30, &[int(0x0A, 3)])))],
    );
    let id = client.send(&follow);
    let mut names = BTreeSet::new();
    loop {
        let message = client.receive(PATIENCE).expect("the content");
        assert_eq!(message.id, id);
        match message.tag {
            ops::SEARCH_ENTRY => assert!(names.insert(message.values("uid").remove(0))),
            ops::INTERMEDIATE => break,
            _ => panic!("{message:?}"),
        }
    }
    assert_eq!(names.len(), 111);
    // Pages and transactions of others, and our own, go on beside it.
    let mut other = Client::bound(&front.plain(0), EDITOR.0, EDITOR.1);
    for round in 0..3 {
        let name = format!("followed {round}");
        assert_eq!(set_title(&mut other, 77, &name), 0);
        let change = client.receive(PATIENCE).expect("the change");
        assert_eq!((change.id, change.values("title")), (id, vec![name]));
        assert_eq!(all_pages(&mut other, 10, &ops::pieces("uid", "user12*")).1.len(), 111);
    }
    client
        .send_raw(&crate::client::message(900, &ops::abandon(id)))
        .expect("open");
    assert_eq!(set_title(&mut other, 77, "unseen"), 0);
    client.expect_silence(Duration::from_millis(300));
    assert_eq!(client.whoami(), format!("dn:{}", EDITOR.0));
    front.stop();
    back.stop();
}
