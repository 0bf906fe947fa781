//! The rules by which helpers come and go, seen on a daemon with real processes: readiness, the rest after too many crashes, and
//! bounds that change under load. The rules themselves are proved in the engine (`engine/tests/helper_pool/`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wire::rpc::ErrorCode;

use crate::calls::{Client, Ended, service};
use crate::helpers::{answer, helpers, sections, until};
use crate::usherd::Setup;

#[test]
fn a_service_is_ready_with_its_minimum_and_stays_so_when_one_is_replaced() {
    let slow: &[(&str, &[&str], &str)] = &[("slow", &["slow-start", "1"], "min = 3\nstarting_max = 2")];
    let usherd = Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&sections(slow))
        .launch();
    let mut most = 0;
    let status = usherd.until("ready", |status| {
        let ready = status["lifecycle"] == "ready";
        let one = &status["services"][0];
        let up = one["idle"].as_u64().unwrap_or(0);
        most = most.max(one["starting"].as_u64().unwrap_or(0));
        assert!(!ready || up == 3, "ready with {up} of 3");
        ready
    });
    assert_eq!(status["services"][0]["idle"], 3);
    assert!((1..=2).contains(&most), "{most} were starting at the same time");
    let mut client = Client::connect(&usherd);
    let Ended::Error(ErrorCode::Crashed { .. }, _) = client.ask("slow", b"kill") else {
        panic!("a helper that is killed crashes")
    };
    let status = usherd.until("one is being replaced", |status| status["services"][0]["starting"] == 1);
    assert_eq!(status["lifecycle"], "ready");
    assert_eq!(answer(client.ask("slow", b"echo:x")), "x", "the others serve meanwhile");
    until(&usherd, "slow", "three again", |one| one["idle"] == 3);
    usherd.stop();
}

#[test]
fn a_program_that_does_not_start_is_tried_at_the_pace_of_the_back_off_and_its_callers_are_told_at_once() {
    let broken: &[(&str, &[&str], &str)] = &[
        (
            "broken",
            &["broken"],
            "crash_max = 3\nretry_min = \"1s\"\nretry_max = \"1s\"",
        ),
        ("well", &[], ""),
    ];
    let usherd = Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&sections(broken))
        .launch();
    until(&usherd, "broken", "given up for now", |one| {
        one["starts"].as_u64() >= Some(3)
    });
    let mut client = Client::connect(&usherd);
    let began = Instant::now();
    let (mut told, mut slowest) = (0, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        match client.ask("broken", b"echo:x") {
            Ended::Error(ErrorCode::Unavailable, _) => told += 1,
            other => panic!("{other:?}"),
        }
        slowest = slowest.max(asked.elapsed());
        assert_eq!(answer(client.ask("well", b"echo:y")), "y");
        std::thread::sleep(Duration::from_millis(5));
    }
    let starts = service(&usherd, "broken")["starts"].as_u64().expect("a count");
    assert!(
        (4..=9).contains(&starts),
        "{starts} starts in some three seconds, one a second after the first three"
    );
    assert!(
        told > 20 && slowest < Duration::from_secs(2),
        "{told} told, {slowest:?} at the slowest"
    );
    assert_ne!(usherd.status()["lifecycle"], "ready", "one of its services has nothing");
    usherd.stop();
}

#[test]
fn bounds_that_change_under_load_refuse_nobody() {
    let with = |lines: &str| sections(&[("pool", &[] as &[&str], lines)]);
    let usherd = helpers(&[("pool", &[], "min = 2\nmax = 6\nmin_spare = 1")]);
    let socket = usherd.unix("rpc");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(&usherd);
                    let mut calls = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        let ended = client.ask("pool", b"sleep 0.002");
                        assert!(matches!(ended, Ended::Answer(_)), "{ended:?}");
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for (lines, min, max) in [
            ("min = 1\nmax = 1", 1, 1),
            ("min = 5\nmax = 5", 5, 5),
            ("min = 2\nmax = 3\nmin_spare = 2", 2, 3),
            ("min = 6\nmax = 8", 6, 8),
        ] {
            usherd.rewrite(&format!(
                "[[listen]]\nprotocol = \"rpc\"\naddress = \"unix:{}\"\n{}",
                socket.display(),
                with(lines)
            ));
            let output = usherd.command(&["reload"]);
            assert!(output.status.success(), "{output:?}");
            until(&usherd, "pool", lines, |one| {
                let count = |what: &str| one[what].as_u64().expect("a count");
                let serving = count("idle") + count("busy");
                (min..=max).contains(&serving) && count("stopping") == 0
            });
        }
        stop.store(true, Ordering::Relaxed);
        for one in load {
            assert!(one.join().expect("no call was refused") > 0);
        }
    });
    let one = service(&usherd, "pool");
    assert_eq!(one["failed"], 0, "{one:#}");
    usherd.stop();
}
