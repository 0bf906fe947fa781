//! Helpers that stay: calls of all sizes, how many of them run, and what becomes of those that do wrong.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use wire::rpc::{self, ErrorCode};

use crate::calls::{Client, Ended, MIB, service};
use crate::proc::{alone, setting, wait_for};
use crate::usherd::{Setup, Usherd};

/// The helper of the tests, with arguments.
pub(crate) fn program(arguments: &[&str]) -> String {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/helper.py");
    let words = [&["/usr/bin/python3", script.to_str().expect("UTF-8")], arguments].concat();
    format!("program = {words:?}")
}

/// Sections of services by name, arguments of the helper, and further lines.
pub(crate) fn sections(list: &[(&str, &[&str], &str)]) -> String {
    let section = |(name, arguments, lines): &(&str, &[&str], &str)| {
        format!("[service.{name}]\n{}\n{lines}\n\n", program(arguments))
    };
    list.iter().map(section).collect()
}

/// A daemon with these services behind one unix socket.
pub(crate) fn helpers(list: &[(&str, &[&str], &str)]) -> Usherd {
    Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&sections(list))
        .start()
}

/// Waits until a service's line in the status is as wanted.
pub(crate) fn until(usherd: &Usherd, name: &str, what: &str, mut wanted: impl FnMut(&serde_json::Value) -> bool) {
    usherd.until(what, |status| {
        let all = status["services"].as_array().expect("services");
        all.iter().any(|one| one["name"] == name && wanted(one))
    });
}

pub(crate) fn answer(ended: Ended) -> String {
    match ended {
        Ended::Answer(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => panic!("no answer: {other:?}"),
    }
}

pub(crate) fn count(service: &serde_json::Value, list: &str, label: &str) -> u64 {
    let all = service[list].as_array().expect("counts");
    let found = all.iter().find(|one| one["label"] == label);
    found.and_then(|one| one["count"].as_u64()).expect("a count")
}

pub(crate) fn bytes(count: usize) -> Vec<u8> {
    let byte = |n: u32| n.wrapping_mul(2_654_435_761).to_be_bytes()[0];
    (0..).map(byte).take(count).collect()
}

#[test]
fn payloads_of_every_size_come_back_whole_through_memory_and_messages() {
    let usherd = helpers(&[
        ("shared", &[], "max = 1"),
        ("plain", &[], "max = 1\nshared_memory = 0"),
        ("several", &["concurrent", "4"], "max = 1\nconcurrency = 4"),
    ]);
    let mut client = Client::connect(&usherd);
    let sizes = [
        0, 1, 4091, 4092, 4096, 65_530, 65_531, 65_532, 131_043, 131_044, 131_048, 131_072, MIB,
    ];
    for name in ["shared", "plain", "several"] {
        for size in sizes {
            let payload = bytes(size);
            let request = [b"echo:", &payload[..]].concat();
            let ended = client.ask(name, &request);
            assert!(
                ended == Ended::Answer(payload),
                "{name}: {size} bytes came back changed"
            );
        }
    }
    let payload = bytes(16 * MIB - 5);
    let request = [b"echo:", &payload[..]].concat();
    assert!(client.ask("shared", &request) == Ended::Answer(payload));
    assert_eq!(service(&usherd, "shared")["starts"], 1, "one and the same helper");
    usherd.stop();
}

#[test]
fn pipelined_calls_are_spread_over_helpers_up_to_the_maximum_and_each_answered_once() {
    let usherd = helpers(&[("many", &[], "min = 1\nmax = 3\nmin_spare = 1\nidle_timeout = \"300ms\"")]);
    until(&usherd, "many", "its minimum and a spare", |one| {
        one["idle"] == 1 && one["running"] == 1
    });
    let mut client = Client::connect(&usherd);
    for id in 1..=99 {
        client.call(id, "many", format!("echo:{id}").as_bytes());
    }
    for _ in 1..=99 {
        let (id, ended) = client.next();
        assert_eq!(ended, Ended::Answer(id.to_string().into_bytes()));
    }
    for id in 1..=5 {
        client.call(id, "many", b"sleep 0.4");
    }
    until(&usherd, "many", "all at work and two waiting", |one| {
        one["busy"] == 3 && one["queued"] == 2
    });
    let status = service(&usherd, "many");
    assert!(status["running"] == 3 && status["starts"] == 3, "{status:#}");
    for _ in 1..=5 {
        assert_eq!(client.next().1, Ended::Answer(b"rested".to_vec()));
    }
    until(&usherd, "many", "back to what is needed", |one| one["running"] == 1);
    assert_eq!(count(&service(&usherd, "many"), "exits", "idle"), 2);
    usherd.stop();
}

#[test]
fn on_demand_none_runs_before_the_first_call_nor_long_after_the_last() {
    let usherd = helpers(&[("rare", &[], "min = 0\nidle_timeout = \"200ms\"")]);
    assert_eq!(service(&usherd, "rare")["starts"], 0);
    let mut client = Client::connect(&usherd);
    for _ in 0..2 {
        assert_eq!(client.ask("rare", b"echo:there"), Ended::Answer(b"there".to_vec()));
        until(&usherd, "rare", "gone again", |one| one["running"] == 0);
    }
    assert_eq!(service(&usherd, "rare")["starts"], 2);
    usherd.stop();
}

#[test]
fn parts_are_handed_on_as_they_come_and_what_is_not_read_holds_its_helper_and_no_other() {
    let usherd = helpers(&[("stream", &[], "min = 2\nmax = 2\nreply_bytes_max = \"64MiB\"")]);
    let mut client = Client::connect(&usherd);
    assert_eq!(answer(client.ask("stream", b"parts 300")).len(), 300_003);
    // 40 MB for a client that does not read.
    let before = usherd.process.memory_kib("VmRSS");
    let mut lazy = Client::connect(&usherd);
    lazy.call(1, "stream", b"flood 400");
    until(&usherd, "stream", "at work", |one| one["busy"] == 1);
    for _ in 0..20 {
        assert_eq!(client.ask("stream", b"echo:beside"), Ended::Answer(b"beside".to_vec()));
    }
    std::thread::sleep(Duration::from_millis(300));
    let grown = usherd.process.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB wait for one client");
    assert_eq!(service(&usherd, "stream")["busy"], 1, "its helper waits");
    assert_eq!(answer(lazy.next().1).len(), 40_000_000);
    usherd.stop();
}

#[test]
fn what_a_helper_does_wrong_is_its_own_calls_end_and_nobody_elses() {
    let usherd = helpers(&[(
        "bad",
        &[],
        "min = 2\nmax = 2\ncrash_max = 1000\nreply_bytes_max = \"1MiB\"",
    )]);
    let mut client = Client::connect(&usherd);
    let mut other = Client::connect(&usherd);
    let mut ends = |request: &str, status: i32, said: &str| {
        client.call(1, "bad", request.as_bytes());
        assert_eq!(
            other.ask("bad", b"echo:x"),
            Ended::Answer(b"x".to_vec()),
            "beside {request}"
        );
        let (_, ended) = client.next();
        let Ended::Error(code, text) = ended else {
            panic!("{request}: {ended:?}")
        };
        assert_eq!(code, ErrorCode::Crashed { status }, "{request}: {text}");
        assert!(text.contains(said), "{request}: {text}");
    };
    ends("exit 3", 3, "ended");
    ends("exit 0", 0, "ended");
    ends("kill", -9, "ended");
    ends("garbage", -9, "no message");
    ends("liar", -9, "half");
    ends("beyond", -9, "half");
    ends("half", 4, "ended");
    assert_eq!(client.ask("bad", b"flood 20").code(), Some(ErrorCode::TooLarge));
    // What is said about calls that are not open is passed over, and so is a descriptor that nobody asked for.
    for (request, said) in [("stranger", "for you"), ("twice", "first"), ("rights", "ok")] {
        assert_eq!(answer(client.ask("bad", request.as_bytes())), said);
    }
    assert_eq!(
        client.ask("bad", b"fail"),
        Ended::Error(ErrorCode::Failed { code: 7 }, "of its own".to_owned())
    );
    let status = service(&usherd, "bad");
    assert_eq!(count(&status, "exits", "crash"), 8, "{status:#}");
    assert_eq!(count(&status, "outcomes", "crashed"), 7, "{status:#}");
    assert_eq!(count(&status, "outcomes", "error"), 1, "{status:#}");
    usherd.stop();
}

#[test]
fn a_call_that_hangs_is_interrupted_and_its_helper_goes_on_or_is_killed_and_replaced() {
    let _machine = alone();
    let lines = "max = 1\nrequest_timeout = \"400ms\"\ngrace = \"300ms\"";
    let usherd = helpers(&[("hang", &[], lines), ("beside", &[], "")]);
    let mut client = Client::connect(&usherd);
    let first = answer(client.ask("hang", b"pid"));
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(client.ask("hang", b"hang").code(), Some(ErrorCode::Deadline));
        let took = start.elapsed();
        assert!(
            took > Duration::from_millis(350) && took < Duration::from_millis(900),
            "{took:?}"
        );
        assert_eq!(
            answer(client.ask("hang", b"pid")),
            first,
            "it came back from the interrupt"
        );
    }
    // It answers after the deadline and before the grace has passed: too late for the caller, but it lives.
    assert_eq!(client.ask("hang", b"late 0.5").code(), Some(ErrorCode::Deadline));
    assert_eq!(answer(client.ask("hang", b"pid")), first, "it acknowledged late");
    assert_eq!(client.ask("hang", b"deaf").code(), Some(ErrorCode::Deadline));
    client.call(1, "beside", b"echo:other");
    assert_eq!(client.next().1, Ended::Answer(b"other".to_vec()));
    // The next one is there when it is.
    let second = loop {
        match client.ask("hang", b"pid") {
            Ended::Error(ErrorCode::QueueTimeout, _) => {}
            ended => break answer(ended),
        }
    };
    assert_ne!(second, first, "it was killed and replaced");
    let status = service(&usherd, "hang");
    assert_eq!(
        (&status["killed"], count(&status, "exits", "timeout")),
        (&1.into(), 1),
        "{status:#}"
    );
    // A cancel is an interrupt too.
    client.call(1, "hang", b"hang");
    until(&usherd, "hang", "at work", |one| one["busy"] == 1);
    client.cancel(1);
    assert_eq!(client.next().1.code(), Some(ErrorCode::Canceled));
    assert_eq!(answer(client.ask("hang", b"pid")), second);
    usherd.stop();
}

#[test]
fn a_hung_call_in_every_helper_of_one_service_is_not_noticed_by_another() {
    let _machine = alone();
    let usherd = helpers(&[
        ("hung", &[], "min = 4\nmax = 4\nslow_log = \"200ms\""),
        ("free", &[], ""),
    ]);
    let mut hanging = Client::connect(&usherd);
    for id in 1..=8 {
        hanging.call(id, "hung", b"deaf");
    }
    until(&usherd, "hung", "all hang", |one| {
        one["busy"] == 4 && one["queued"] == 4
    });
    let mut client = Client::connect(&usherd);
    for _ in 0..200 {
        let start = Instant::now();
        assert_eq!(client.ask("free", b"echo:on"), Ended::Answer(b"on".to_vec()));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    }
    // The slow log and the status say which call holds which helper, and whose it is.
    let caller = format!("pid {}", std::process::id());
    wait_for("the slow log", Duration::from_secs(5), || {
        let log = usherd.process.output();
        (log.matches("a call holds a helper").count() == 4).then_some(())
    });
    let log = usherd.process.output();
    assert!(log.contains("service=\"hung\"") && log.contains(&caller), "{log}");
    assert!(!log.contains("deaf"), "the payload is not logged");
    let status = service(&usherd, "hung");
    let line = &status["helpers"][0];
    assert!(
        line["call"].as_u64() > Some(0) && line["call_ms"].as_u64() > Some(0),
        "{line:#}"
    );
    assert!(
        line["caller"].as_str().is_some_and(|who| who.starts_with(&caller)),
        "{line:#}"
    );
    drop(hanging);
    usherd.stop();
}

#[test]
fn helpers_are_replaced_after_their_calls_their_time_and_their_growth_without_a_refusal() {
    let usherd = helpers(&[
        ("calls", &[], "min = 2\nmax = 2\nrequests_max = 20"),
        ("time", &[], "min = 1\nmax = 2\nlifetime = \"300ms\""),
        ("size", &[], "min = 1\nmax = 2\nmemory_max = \"64MiB\""),
    ]);
    let mut client = Client::connect(&usherd);
    let mut calls = 0;
    while calls < 100 || count(&service(&usherd, "calls"), "exits", "recycled") < 3 {
        assert_eq!(
            client.ask("calls", b"echo:x"),
            Ended::Answer(b"x".to_vec()),
            "call {calls}"
        );
        calls += 1;
    }
    let recycled = count(&service(&usherd, "calls"), "exits", "recycled");
    assert!(
        recycled <= calls / 18,
        "{recycled} of at least 18 calls each, after {calls}"
    );
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1000) {
        assert_eq!(client.ask("time", b"echo:x"), Ended::Answer(b"x".to_vec()));
    }
    until(&usherd, "time", "recycled", |one| count(one, "exits", "recycled") >= 2);
    let small = answer(client.ask("size", b"pid"));
    assert_eq!(answer(client.ask("size", b"grow 100")), "grown");
    until(&usherd, "size", "replaced", |one| count(one, "exits", "memory") == 1);
    assert_ne!(answer(client.ask("size", b"pid")), small);
    for name in ["calls", "time", "size"] {
        assert_eq!(service(&usherd, name)["failed"], 0, "{name}");
    }
    usherd.stop();
}

#[test]
fn a_changed_service_is_taken_up_by_a_rolling_restart_under_load_without_a_refusal() {
    let first = [("roll", &["first"] as &[&str], "min = 3\nmax = 4"), ("stay", &[], "")];
    let second = [
        ("roll", &["second"] as &[&str], "min = 3\nmax = 4"),
        ("stay", &[], "max = 3\nslow_log = 0"),
    ];
    let usherd = helpers(&first);
    let mut client = Client::connect(&usherd);
    let stays = answer(client.ask("stay", b"pid"));
    let socket = usherd.unix("rpc");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(&usherd);
                    let mut calls = 0_u64;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        assert_eq!(client.ask("roll", b"echo:load"), Ended::Answer(b"load".to_vec()));
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        usherd.rewrite(&format!(
            "[[listen]]\nprotocol = \"rpc\"\naddress = \"unix:{}\"\n{}",
            socket.display(),
            sections(&second)
        ));
        let output = usherd.command(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        until(&usherd, "roll", "all replaced", |one| {
            count(one, "exits", "reload") >= 3 && one["stopping"] == 0
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for one in load {
            assert!(one.join().expect("no call was refused") > 0);
        }
    });
    for _ in 0..4 {
        assert!(answer(client.ask("roll", b"says")).contains("'argv': ['second']"));
    }
    assert_eq!(answer(client.ask("stay", b"pid")), stays, "what did not change goes on");
    usherd.stop();
}

#[test]
fn a_helper_that_cannot_start_tells_its_callers_why() {
    let usherd = helpers(&[
        ("unable", &["unable"], "min = 0\nqueue_timeout = \"1s\""),
        ("broken", &["broken"], "min = 0\nqueue_timeout = \"1s\""),
        (
            "mute",
            &["mute"],
            "min = 0\nqueue_timeout = \"2s\"\nstart_timeout = \"300ms\"",
        ),
    ]);
    let mut client = Client::connect(&usherd);
    for (name, said) in [
        ("unable", "the back end has no door"),
        ("broken", "it ended with 3 before it was ready"),
        ("mute", "not ready within 300ms"),
    ] {
        let ended = client.ask(name, b"echo:x");
        let Ended::Error(ErrorCode::Unavailable, text) = &ended else {
            panic!("{name}: {ended:?}")
        };
        assert!(text.contains(said), "{name}: {text}");
        let status = service(&usherd, name);
        assert!(
            status["last_error"].as_str().is_some_and(|text| text.contains(said)),
            "{status:#}"
        );
    }
    usherd.stop();
}

#[test]
fn a_helper_asks_its_caller_and_gets_the_answer() {
    let usherd = helpers(&[("ask", &[], "max = 1")]);
    let mut client = Client::connect(&usherd);
    client.call(1, "ask", b"ask Your code?");
    assert_eq!(client.next(), (1, Ended::Asked(b"Your code?".to_vec())));
    let mut frame = Vec::new();
    rpc::write_input(&mut frame, 1, b"4711").expect("an input");
    client.send(&frame);
    assert_eq!(client.next(), (1, Ended::Answer(b"heard 4711".to_vec())));
    usherd.stop();
}

#[test]
fn an_answer_goes_directly_to_the_descriptor_that_its_caller_gave() {
    let usherd = helpers(&[("direct", &[], "max = 1")]);
    let mut client = Client::connect(&usherd);
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    let mut frame = Vec::new();
    rpc::write_call_direct(&mut frame, 1, 0, "direct", b"echo:past the daemon").expect("a call");
    send_with(&client, &frame, theirs.as_fd());
    client.open.insert(1, Vec::new());
    drop(theirs);
    assert_eq!(client.next(), (1, Ended::Answer(Vec::new())));
    let mut said = String::new();
    ours.read_to_string(&mut said).expect("the helper closes it");
    assert_eq!(said, "past the daemon");
    usherd.stop();
}

/// Bytes with a descriptor beside them.
fn send_with(client: &Client, bytes: &[u8], descriptor: std::os::fd::BorrowedFd<'_>) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let one = [descriptor];
    assert!(beside.push(SendAncillaryMessage::ScmRights(&one)));
    let parts = [std::io::IoSlice::new(bytes)];
    let sent = sendmsg(&client.stream, &parts, &mut beside, SendFlags::empty()).expect("the daemon reads");
    assert_eq!(sent, bytes.len());
}

#[test]
fn several_calls_at_once_in_one_helper_are_kept_apart() {
    let calls = u32::try_from(setting("USHERD_TEST_OPERATIONS", 100) / 2)
        .expect("a number")
        .min(99);
    let usherd = helpers(&[("several", &["concurrent", "8"], "min = 1\nmax = 1\nconcurrency = 8")]);
    let mut client = Client::connect(&usherd);
    for round in 0..5 {
        for id in 1..=calls {
            client.call(id, "several", format!("echo:{round}.{id}").as_bytes());
        }
        for _ in 1..=calls {
            let (id, ended) = client.next();
            assert_eq!(ended, Ended::Answer(format!("{round}.{id}").into_bytes()));
        }
    }
    assert_eq!(service(&usherd, "several")["starts"], 1);
    usherd.stop();
}

#[test]
fn a_drain_lets_calls_finish_and_says_goodbye_to_helpers() {
    let mut usherd = helpers(&[("drain", &[], "min = 2\nmax = 2")]);
    let mut client = Client::connect(&usherd);
    client.call(1, "drain", b"sleep 0.7");
    until(&usherd, "drain", "at work", |one| one["busy"] == 1);
    usherd.terminate();
    assert_eq!(client.next(), (1, Ended::Answer(b"rested".to_vec())));
    assert_eq!(usherd.process.wait(Duration::from_secs(5)).code(), Some(0));
    let log = usherd.process.output();
    assert!(!log.contains("a helper has crashed"), "{log}");
}
