//! Servers killed and frozen under load: each operation gets exactly one result, its own, and reads do not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Message};
use crate::load::{Load, Tally};
use crate::ops::{self, present};
use crate::proc::{alone, setting};
use crate::slapd::{Slapd, password, user};
use crate::usherd::{Setup, Usherd, server};

fn up(usherd: &Usherd, index: usize) {
    usherd.until("the server is up", |status| {
        status["directories"][0]["servers"][index]["state"] == "up"
    });
}

fn front(pair: &[Slapd; 2], lines: &str) -> Usherd {
    let usherd = Setup::corp(lines, &[server(&pair[0].url(), ""), server(&pair[1].url(), "")]).start();
    (0..2).for_each(|index| up(&usherd, index));
    usherd
}

/// Kills one server and then the other, each again when both are up, so many times, while the load runs.
fn kill_in_turn(pair: &mut [Slapd; 2], usherd: &Usherd, kills: usize) {
    for kill in 0..kills {
        let victim = kill % 2;
        std::thread::sleep(Duration::from_millis(300));
        pair[victim].kill();
        std::thread::sleep(Duration::from_millis(u64::try_from(kill % 5).expect("small") * 60));
        pair[victim].revive();
        up(usherd, victim);
    }
    std::thread::sleep(Duration::from_millis(300));
}

fn under_kills(load: &Load, pair: &mut [Slapd; 2], usherd: &Usherd, kills: usize) -> Tally {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| load.run(u64::MAX, &stop));
        // Also when a kill panics, the load must end, or the test would hang.
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| kill_in_turn(pair, usherd, kills)));
        stop.store(true, Ordering::Relaxed);
        let tally = running.join().expect("the load ran");
        if let Err(panic) = killed {
            std::panic::resume_unwind(panic);
        }
        tally
    })
}

#[test]
fn servers_killed_under_load_leave_no_duplicate_no_late_no_missing_result_and_reads_go_on() {
    let _machine = alone();
    let mut pair = Slapd::mirror();
    let usherd = front(&pair, "retry_max = \"1s\"");
    let kills = setting("USHERD_TEST_KILLS", 10);
    let load = Load {
        abandoned: 20,
        ..Load::new(&[usherd.plain(0)], 64, 8)
    };
    let tally = under_kills(&load, &mut pair, &usherd, kills);
    tally.assert_lawful();
    assert_eq!(
        tally.disconnections, 0,
        "clients are not closed when a server dies: {tally:#?}"
    );
    assert!(
        tally.reads > 1_000 * kills as u64,
        "too few to say anything: {tally:#?}"
    );
    assert!(tally.read_errors * 1_000 < tally.reads, "0.1 % of reads: {tally:#?}");
    eprintln!(
        "{kills} kills: {} operations, {} abandoned, {} read errors, slowest {:?}",
        tally.operations, tally.abandoned, tally.read_errors, tally.slowest
    );
    usherd.stop();
}

#[test]
fn every_answer_of_a_mixed_run_reaches_who_asked() {
    let _machine = alone();
    let mut pair = Slapd::mirror();
    let usherd = front(&pair, "retry_max = \"1s\"");
    let operations = setting("USHERD_TEST_OPERATIONS", 40_000) as u64;
    let span = Duration::from_secs(setting("USHERD_TEST_SECONDS", 0) as u64);
    let load = Load {
        abandoned: 30,
        cancelled: 20,
        rebinds: 20,
        writes: 100,
        ..Load::new(&[usherd.plain(0)], 32, 8)
    };
    let start = Instant::now();
    let mut total = load.run(operations / 4, &AtomicBool::new(false));
    total.assert_untroubled();
    assert!(total.binds > operations / 400, "{total:#?}");
    // From here on clients come and go as well, and servers are killed.
    let load = Load { leaves: 2, ..load };
    let mut kills = 0;
    while total.operations < operations || start.elapsed() < span {
        let tally = under_kills(&load, &mut pair, &usherd, 4);
        tally.assert_lawful();
        total.merge(tally);
        kills += 4;
    }
    assert!(
        total.left > 0 && total.cancelled > 0 && total.abandoned > 0,
        "{total:#?}"
    );
    eprintln!(
        "{} operations in {:?}, {kills} kills of servers: {} binds, {} abandoned, {} cancelled, {} clients left amid theirs; \
         duplicate, late, unanswered, misdelivered: 0; read errors {} of {}; slowest {:?}",
        total.operations,
        start.elapsed(),
        total.binds,
        total.abandoned,
        total.cancelled,
        total.left,
        total.read_errors,
        total.reads,
        total.slowest
    );
    usherd.stop();
}

#[test]
fn with_identity_pinned_too_nothing_is_misdelivered_when_servers_die() {
    let _machine = alone();
    let mut pair = Slapd::mirror();
    let usherd = front(&pair, "identity = \"pinned\"\nretry_max = \"1s\"");
    let load = Load {
        abandoned: 20,
        rebinds: 10,
        writes: 50,
        ..Load::new(&[usherd.plain(0)], 16, 8)
    };
    load.run(2_000, &AtomicBool::new(false)).assert_untroubled();
    let tally = under_kills(&load, &mut pair, &usherd, 4);
    tally.assert_lawful();
    usherd.stop();
}

#[test]
fn a_write_is_never_done_twice_and_never_lost_when_it_was_confirmed() {
    let _machine = alone();
    let mut slapd = Slapd::start();
    let usherd = Setup::corp("retry_max = \"500ms\"", &[server(&slapd.url(), "")]).start();
    let target = usherd.plain(0);
    let stop = AtomicBool::new(false);
    // Each writer adds values to its own entry; adding one a second time would be answered 20 (attributeOrValueExists).
    let write = |number: usize| {
        let mut client = Client::bound(&target, &user(number), &password(number));
        let (mut done, mut doubtful) = (Vec::new(), Vec::new());
        for value in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let value = format!("value {value}");
            let answer = client.one(&ops::modify(&user(number), &[(ops::ADD, "title", &[&value])]));
            match answer.code() {
                0 => done.push(value),
                80 => doubtful.push(value),
                52 => std::thread::sleep(Duration::from_millis(10)),
                _ => panic!("{value}: {answer:?}"),
            }
        }
        (number, done, doubtful)
    };
    let written: Vec<_> = std::thread::scope(|scope| {
        let writers: Vec<_> = (101..=108).map(|number| scope.spawn(move || write(number))).collect();
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(300));
            slapd.revive();
            up(&usherd, 0);
        }
        stop.store(true, Ordering::Relaxed);
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .collect()
    });
    let mut direct = Client::connect(&slapd.plain());
    let mut total = 0;
    for (number, done, doubtful) in written {
        let found = direct.call(&ops::search(&user(number), ops::BASE, &present("uid"), &["title"]));
        let there = found[0].values("title");
        let lost: Vec<_> = done.iter().filter(|value| !there.contains(value)).collect();
        assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
        let refused: Vec<_> = there
            .iter()
            .filter(|value| !done.contains(value) && !doubtful.contains(value))
            .collect();
        assert!(refused.is_empty(), "answered 52 (not done) and yet done: {refused:?}");
        total += done.len();
    }
    assert!(total > 40, "too few writes to say anything: {total}");
    usherd.stop();
}

#[test]
fn a_frozen_server_keeps_nobody_waiting_is_ejected_within_two_seconds_and_comes_back_by_itself() {
    let _machine = alone();
    let pair = Slapd::mirror();
    let usherd = front(
        &pair,
        "search_timeout = \"4s\"\noperation_timeout = \"4s\"\nretry_max = \"1s\"",
    );
    let seconds = setting("USHERD_TEST_FREEZE_SECONDS", 6) as u64;
    let load = Load {
        rest: Duration::from_millis(5),
        ..Load::new(&[usherd.plain(0)], 32, 4)
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| load.run(u64::MAX, &stop));
        std::thread::sleep(Duration::from_millis(700));
        pair[0].freeze();
        let frozen = Instant::now();
        let mut out = None;
        while frozen.elapsed() < Duration::from_secs(seconds) {
            if out.is_none() && usherd.server_state(0) != "up" && usherd.server_state(0) != "suspect" {
                out = Some(frozen.elapsed());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        pair[0].thaw();
        let thawed = Instant::now();
        let back = loop {
            if usherd.server_state(0) == "up" {
                break Some(thawed.elapsed());
            }
            if thawed.elapsed() > Duration::from_secs(10) {
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        let tally = running.join().expect("the load ran");
        tally.assert_lawful();
        assert!(
            out.is_some_and(|out| out < Duration::from_secs(2)),
            "ejected after {out:?} {tally:#?}"
        );
        assert!(back.is_some(), "never came back by itself {tally:#?}");
        assert!(
            tally.slowest < Duration::from_millis(4_700),
            "someone waited beyond the operation timeout: {tally:#?}"
        );
        assert_eq!((tally.disconnections, tally.busy), (0, 0), "{tally:#?}");
        eprintln!(
            "frozen for {seconds} s: out after {out:?}, back after {back:?}, slowest {:?}, read errors {}",
            tally.slowest, tally.read_errors
        );
    });
    usherd.stop();
}

#[test]
fn without_any_server_clients_are_told_at_once_and_served_again_when_one_is_back() {
    let mut slapd = Slapd::start();
    let usherd = Setup::corp("retry_max = \"500ms\"", &[server(&slapd.url(), "")]).start();
    let mut client = Client::bound(&usherd.plain(0), &user(1), &password(1));
    let op = ops::search(&user(2), ops::BASE, &present("uid"), &["description"]);
    assert_eq!(client.call(&op).len(), 2);
    slapd.kill();
    usherd.until("it is down", |status| {
        status["directories"][0]["servers"][0]["state"] != "up"
    });
    let start = Instant::now();
    let answer = client.call(&op);
    assert_eq!(answer.last().map(Message::code), Some(52), "{answer:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    slapd.revive();
    up(&usherd, 0);
    assert_eq!(client.call(&op).len(), 2, "the same client, still bound");
    assert_eq!(client.whoami(), format!("dn:{}", user(1)));
    usherd.stop();
}

#[test]
fn the_daemon_starts_while_its_servers_are_down_and_serves_when_they_come() {
    let mut slapd = Slapd::start();
    slapd.kill();
    let usherd = Setup::corp("retry_max = \"500ms\"", &[server(&slapd.url(), "")]).launch();
    let mut client = Client::connect(&usherd.plain(0));
    assert_eq!(client.one(&ops::bind(&user(1), &password(1))).code(), 52);
    slapd.revive();
    usherd.until("ready", |status| status["lifecycle"] == "ready");
    up(&usherd, 0);
    client.bind(&user(1), &password(1));
    usherd.stop();
}
