//! How operations are spread, how long they may take, and how many may wait.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::client::{Client, Message, PATIENCE};
use crate::load::Load;
use crate::ops::{self, present};
use crate::proc::alone;
use crate::slapd::{Slapd, code_dn, password, user};
use crate::usherd::{Setup, Usherd, server};

/// How many of `asked` operations each of the two servers answered, told by the servers themselves.
fn shares(usherd: &Usherd, pair: &[Slapd; 2], clients: usize, asked: usize) -> [usize; 2] {
    let ports = [&pair[0], &pair[1]].map(|slapd| slapd.url().rsplit(':').next().unwrap_or_default().to_owned());
    let target = usherd.plain(0);
    let count = || {
        let mut client = Client::connect(&target);
        let mut counts = [0, 0];
        for _ in 0..asked / clients {
            let said = client.one(&ops::compare(&code_dn("which"), "cn", "x")).diagnostic();
            let index = ports
                .iter()
                .position(|port| *port == said)
                .unwrap_or_else(|| panic!("neither server says {said:?}"));
            counts[index] += 1;
        }
        counts
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(count)).collect();
        let counts = clients.into_iter().map(|client| client.join().expect("a client"));
        counts.fold([0, 0], |sum, more| [sum[0] + more[0], sum[1] + more[1]])
    })
}

fn both_up(usherd: &Usherd) {
    usherd.until("both servers are up", |status| {
        let servers = &status["directories"][0]["servers"];
        servers[0]["state"] == "up" && servers[1]["state"] == "up"
    });
}

#[test]
fn weights_of_ten_to_one_are_kept_within_five_percent() {
    let pair = [Slapd::start(), Slapd::start()];
    let servers = [
        server(&pair[0].url(), "weight = 10,"),
        server(&pair[1].url(), "weight = 1,"),
    ];
    let usherd = Setup::corp("policy = \"weighted\"", &servers).start();
    both_up(&usherd);
    let [heavy, light] = shares(&usherd, &pair, 8, 4_400);
    assert!(
        heavy.abs_diff(4_000) <= 200 && light.abs_diff(400) <= 20,
        "{heavy} : {light}"
    );
    eprintln!("10 : 1 of 4,400 is {heavy} : {light}");
    usherd.stop();
}

#[test]
fn equal_servers_share_within_sixty_to_forty_under_every_policy() {
    let _machine = alone();
    let pair = [Slapd::start(), Slapd::start()];
    for policy in ["least-busy", "round-robin", "best-of-two"] {
        let servers = [server(&pair[0].url(), ""), server(&pair[1].url(), "")];
        let usherd = Setup::corp(&format!("policy = \"{policy}\""), &servers).start();
        both_up(&usherd);
        let [first, second] = shares(&usherd, &pair, 16, 3_200);
        assert!(
            first.min(second) * 10 >= (first + second) * 4,
            "{policy}: {first} : {second}"
        );
        eprintln!("{policy}: {first} : {second}");
        usherd.stop();
    }
}

#[test]
fn more_binders_than_bind_connections_wait_and_none_is_refused() {
    let _machine = alone();
    let slapd = Slapd::start();
    let usherd = Setup::corp("", &[server(&slapd.url(), "bind_connections_max = 2,")]).start();
    let load = Load {
        rebinds: 1_000,
        ..Load::new(&[usherd.plain(0)], 48, 1)
    };
    let tally = load.run(3_000, &AtomicBool::new(false));
    tally.assert_untroubled();
    assert_eq!(tally.busy, 0, "{tally:#?}");
    assert!(tally.binds > 2_900, "{tally:#?}");
    let status = usherd.status();
    let binds = status["directories"][0]["servers"][0]["bind_connections"].as_u64();
    assert!(binds <= Some(2), "{status:#}");
    eprintln!(
        "{} binds of 48 clients over 2 connections: {} refused",
        tally.binds, tally.busy
    );
    usherd.stop();
}

#[test]
fn a_search_past_its_deadline_gets_3_and_everything_else_11_on_time() {
    let slapd = Slapd::start();
    let lines = "search_timeout = \"1s\"\noperation_timeout = \"1500ms\"";
    let usherd = Setup::corp(lines, &[server(&slapd.url(), "")]).start();
    let slow = code_dn("slow3");
    let cases = [
        (ops::search(&slow, ops::BASE, &present("cn"), &[]), 3, 1_000),
        (ops::compare(&slow, "cn", "x"), 11, 1_500),
        (ops::modify(&slow, &[(ops::REPLACE, "cn", &["x"])]), 11, 1_500),
        (ops::delete(&slow), 11, 1_500),
        (ops::bind(&slow, "x"), 11, 1_500),
    ];
    let target = usherd.plain(0);
    std::thread::scope(|scope| {
        for (op, code, after) in &cases {
            let target = &target;
            scope.spawn(move || {
                let mut client = Client::bound(target, &user(3), &password(3));
                let start = Instant::now();
                let answer = client.call(op);
                let took = start.elapsed();
                assert_eq!(answer.last().map(Message::code), Some(*code), "{answer:?}");
                let (least, most) = (Duration::from_millis(*after - 20), Duration::from_millis(*after + 400));
                assert!(
                    took >= least && took <= most,
                    "{took:?} instead of {after} ms: {answer:?}"
                );
                // The late answer of the server, which comes at 3 s, must reach nobody.
                client.expect_silence(Duration::from_millis(2_500));
                let who = if op[0] == 0x60 {
                    String::new()
                } else {
                    format!("dn:{}", user(3))
                };
                assert_eq!(client.whoami(), who);
            });
        }
    });
    usherd.stop();
}

#[test]
fn what_cannot_be_sent_by_its_deadline_gets_51_and_the_rest_is_served() {
    let slapd = Slapd::start();
    let lines = "search_timeout = \"1200ms\"";
    let entry = server(
        &slapd.url(),
        "connections = 1, connections_max = 1, connection_pending_max = 1,",
    );
    let usherd = Setup::corp(lines, &[entry]).server("workers = 1").start();
    let mut first = Client::connect(&usherd.plain(0));
    let mut second = Client::connect(&usherd.plain(0));
    let quick = ops::search(&user(1), ops::BASE, &present("uid"), &["description"]);
    let holding = first.send(&ops::search(&code_dn("slow1"), ops::BASE, &present("cn"), &[]));
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    assert_eq!(second.call(&quick).len(), 2, "it waits, then is served");
    assert!(
        start.elapsed() > Duration::from_millis(500),
        "it cannot have waited: {:?}",
        start.elapsed()
    );
    assert_eq!(
        first
            .collect(holding, PATIENCE)
            .map(|all| all.last().map(Message::code)),
        Ok(Some(0))
    );
    let holding = first.send(&ops::compare(&code_dn("slow6"), "cn", "x"));
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    let answer = second.call(&quick);
    assert_eq!(answer.last().map(Message::code), Some(51), "{answer:?}");
    assert!(start.elapsed() < Duration::from_millis(1_700), "{:?}", start.elapsed());
    first.send(&ops::abandon(holding));
    usherd.stop();
}

#[test]
fn a_client_with_more_pending_than_it_may_is_slowed_and_not_refused() {
    let slapd = Slapd::start();
    let usherd = Setup::corp("client_pending_max = 10", &[server(&slapd.url(), "")]).start();
    let mut client = Client::connect(&usherd.plain(0));
    let op = ops::search(&user(1), ops::BASE, &present("uid"), &["description"]);
    let ids: Vec<i64> = (0..500).map(|_| client.send(&op)).collect();
    let mut done = 0;
    while done < ids.len() {
        let message = client.receive(PATIENCE).expect("an answer");
        if message.is_final() {
            assert_eq!(message.code(), 0, "{message:?}");
            done += 1;
        }
    }
    usherd.stop();
}
