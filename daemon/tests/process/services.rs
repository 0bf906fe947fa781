//! `usherd call`: programs behind the rpc listener that answer, fail, hang, or say too much.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::proc::{alone, run_reading, shown, wait_for};
use crate::usherd::{BINARY, Setup, Usherd};

/// Services by name, program and further lines, behind one unix socket.
fn services(list: &[(&str, &[&str], &str)]) -> Usherd {
    let mut setup = Setup::new()
        .listen("rpc", "unix:rpc", "")
        .listen("rpc", "127.0.0.1:0", "");
    for (name, program, lines) in list {
        setup = setup.section(&format!(
            "[service.{name}]\nhelper = \"exec\"\nprogram = {program:?}\n{lines}\n"
        ));
    }
    setup.start()
}

fn call(usherd: &Usherd, args: &[&str]) -> Output {
    call_with(usherd, args, b"")
}

fn call_with(usherd: &Usherd, args: &[&str], input: &[u8]) -> Output {
    let folder = crate::proc::Folder::new("input");
    let input = folder.write("input", input);
    let socket = format!("unix:{}", usherd.unix("rpc").display());
    run_reading(
        BINARY,
        &[&["call", "--connect", &socket], args].concat(),
        &[],
        Path::new(&input),
        Duration::from_secs(30),
    )
}

/// Processes that the daemon started and that still run.
fn children(usherd: &Usherd) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", usherd.process.pid())).expect("it runs");
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.flatten().map(|task| of(task).split_whitespace().count()).sum()
}

fn none_left(usherd: &Usherd) {
    wait_for("no program of a service is left", Duration::from_secs(5), || {
        (children(usherd) == 0).then_some(())
    });
}

fn failed(output: &Output, said: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", shown(output));
    assert!(
        output.stdout.is_empty(),
        "a failed call prints no answer: {}",
        shown(output)
    );
    let error = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(error.contains(said), "no {said:?} in {}", shown(output));
}

#[test]
fn a_call_is_answered_by_its_program() {
    let usherd = services(&[
        ("upper", &["/usr/bin/tr", "a-z", "A-Z"], ""),
        ("cat", &["/bin/cat"], ""),
    ]);
    let output = call(&usherd, &["upper", "hello"]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), b"HELLO".as_slice()),
        "{}",
        shown(&output)
    );
    let output = call_with(&usherd, &["upper"], b"from standard input\n");
    assert_eq!(output.stdout, b"FROM STANDARD INPUT\n", "{}", shown(&output));
    let odd = b"\0\n-x --help $(id) \xff\xfe 'quoted'";
    assert_eq!(call_with(&usherd, &["cat", "-"], odd).stdout, odd, "a payload is data");
    assert_eq!(
        call_with(&usherd, &["cat"], b"").stdout,
        b"",
        "nothing is a payload too"
    );
    failed(&call(&usherd, &["nothing", "x"]), "nothing");
    let address = format!("127.0.0.1:{}", usherd.port(1));
    let output = crate::proc::run(
        BINARY,
        &["call", "--connect", &address, "upper", "tcp"],
        Duration::from_secs(10),
    );
    assert_eq!(output.stdout, b"TCP", "{}", shown(&output));
    none_left(&usherd);
    usherd.stop();
}

#[test]
fn large_payloads_come_back_whole() {
    let usherd = services(&[("cat", &["/bin/cat"], ""), ("count", &["/usr/bin/wc", "-c"], "")]);
    for bytes in [1, 4_095, 65_536, 65_537, 1_000_000, 15 << 20] {
        let payload: Vec<u8> = (0..bytes)
            .map(|place: u32| place.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        let output = call_with(&usherd, &["cat"], &payload);
        assert!(
            output.status.success(),
            "{bytes}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            output.stdout == payload,
            "{bytes} octets came back changed, as {}",
            output.stdout.len()
        );
        let output = call_with(&usherd, &["count"], &payload);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), bytes.to_string());
    }
    usherd.stop();
}

#[test]
fn a_program_that_fails_is_reported_with_its_exit_status_or_signal() {
    let usherd = services(&[
        (
            "seven",
            &["/bin/sh", "-c", "cat >/dev/null; echo half an answer; exit 7"],
            "",
        ),
        ("killed", &["/bin/sh", "-c", "kill -9 $$"], ""),
        ("deaf", &["/bin/true"], ""),
    ]);
    failed(&call(&usherd, &["seven", "x"]), "7");
    let killed = call(&usherd, &["killed", "x"]);
    failed(&killed, "9");
    let large = vec![b'x'; 1 << 20];
    let output = call_with(&usherd, &["deaf"], &large);
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(0), 0),
        "a program need not read: {}",
        shown(&output)
    );
    none_left(&usherd);
    usherd.stop();
}

#[test]
fn a_program_that_hangs_is_interrupted_then_killed_and_replaced_and_its_caller_told_on_time() {
    let _machine = alone();
    let lines = "max = 1\nrequest_timeout = \"700ms\"\ngrace = \"400ms\"";
    let stubborn =
        "trap '' INT TERM; if read -r word && [ \"$word\" = hang ]; then while :; do sleep 1; done; fi; echo fine";
    let usherd = services(&[
        ("polite", &["/bin/sh", "-c", "exec sleep 100"], lines),
        ("stubborn", &["/bin/sh", "-c", stubborn], lines),
        ("upper", &["/usr/bin/tr", "a-z", "A-Z"], ""),
    ]);
    for (name, payload) in [("polite", "x"), ("stubborn", "hang\n")] {
        let start = Instant::now();
        failed(&call(&usherd, &[name, payload]), "deadline");
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(650) && took < Duration::from_millis(1_500),
            "{name}: {took:?}"
        );
        none_left(&usherd);
        assert!(
            start.elapsed() < Duration::from_millis(2_500),
            "{name} lived on for {:?}",
            start.elapsed()
        );
    }
    let output = call(&usherd, &["stubborn", "work\n"]);
    assert_eq!(
        output.stdout,
        b"fine\n",
        "the next call has a program of its own: {}",
        shown(&output)
    );
    // The caller may ask for less than the service allows.
    let start = Instant::now();
    failed(&call(&usherd, &["--timeout", "200ms", "polite", "x"]), "deadline");
    assert!(start.elapsed() < Duration::from_millis(650), "{:?}", start.elapsed());
    usherd.stop();
}

#[test]
fn ten_programs_that_hang_stop_neither_the_service_afterwards_nor_another_meanwhile() {
    let _machine = alone();
    let lines = "max = 4\nqueue_timeout = \"5s\"\nrequest_timeout = \"1s\"\ngrace = \"200ms\"";
    let hang = "if read -r word && [ \"$word\" = hang ]; then exec sleep 100; fi; echo fine";
    let usherd = services(&[
        ("hang", &["/bin/sh", "-c", hang], lines),
        ("upper", &["/usr/bin/tr", "a-z", "A-Z"], ""),
    ]);
    std::thread::scope(|scope| {
        let hanging: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| call(&usherd, &["hang", "hang\n"])))
            .collect();
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..5 {
            let start = Instant::now();
            assert_eq!(call(&usherd, &["upper", "beside"]).stdout, b"BESIDE");
            assert!(
                start.elapsed() < Duration::from_millis(700),
                "another service waited: {:?}",
                start.elapsed()
            );
        }
        for one in hanging {
            assert_eq!(one.join().expect("a call").status.code(), Some(1));
        }
    });
    none_left(&usherd);
    assert_eq!(call(&usherd, &["hang", "work\n"]).stdout, b"fine\n");
    let status = usherd.status();
    let service = status["services"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "hang").cloned());
    assert_eq!(service.map(|one| one["failed"].as_u64()), Some(Some(10)), "{status:#}");
    usherd.stop();
}

#[test]
fn calls_beyond_the_programs_wait_their_turn_and_no_longer_than_the_queue_timeout() {
    let _machine = alone();
    let short = "max = 2\nqueue_timeout = \"400ms\"\nrequest_timeout = \"10s\"";
    let usherd = services(&[
        ("nap", &["/bin/sleep", "0.1"], "max = 2"),
        ("long", &["/bin/sleep", "1.5"], short),
    ]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| call(&usherd, &["nap", "x"]))).collect();
        all.into_iter()
            .for_each(|one| assert!(one.join().expect("a call").status.success()));
    });
    assert!(
        start.elapsed() > Duration::from_millis(900),
        "more than two at once: {:?}",
        start.elapsed()
    );
    let results: Vec<Output> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..3).map(|_| scope.spawn(|| call(&usherd, &["long", "x"]))).collect();
        all.into_iter().map(|one| one.join().expect("a call")).collect()
    });
    let refused: Vec<&Output> = results.iter().filter(|output| !output.status.success()).collect();
    assert_eq!(refused.len(), 1, "{results:?}");
    failed(refused[0], "queue");
    usherd.stop();
}

#[test]
fn an_answer_too_large_is_an_error_and_not_a_cut_answer() {
    let usherd = services(&[(
        "zeros",
        &["/usr/bin/head", "-c", "1000000", "/dev/zero"],
        "reply_bytes_max = \"64KiB\"",
    )]);
    failed(&call(&usherd, &["zeros", "x"]), "large");
    none_left(&usherd);
    usherd.stop();
}

#[test]
fn a_caller_that_goes_away_takes_its_program_with_it() {
    let usherd = services(&[("hang", &["/bin/sleep", "100"], "grace = \"200ms\"")]);
    let socket = format!("unix:{}", usherd.unix("rpc").display());
    let log = usherd.folder.path().join("caller");
    let mut caller = crate::proc::Process::start(BINARY, &["call", "--connect", &socket, "hang", "x"], &log);
    wait_for("the program runs", Duration::from_secs(5), || {
        (children(&usherd) == 1).then_some(())
    });
    caller.kill();
    none_left(&usherd);
    usherd.stop();
}

#[test]
fn a_drain_waits_for_calls_that_run() {
    let mut usherd = services(&[("nap", &["/bin/sh", "-c", "sleep 1; echo rested"], "")]);
    std::thread::scope(|scope| {
        let socket = format!("unix:{}", usherd.unix("rpc").display());
        let running = scope.spawn(move || {
            crate::proc::run(
                BINARY,
                &["call", "--connect", &socket, "nap", "x"],
                Duration::from_secs(10),
            )
        });
        wait_for("the program runs", Duration::from_secs(5), || {
            (children(&usherd) == 1).then_some(())
        });
        usherd.terminate();
        let output = running.join().expect("a call");
        assert_eq!(output.stdout, b"rested\n", "{}", shown(&output));
    });
    assert_eq!(
        usherd.process.wait(Duration::from_secs(5)).code(),
        Some(0),
        "{}",
        usherd.process.output()
    );
}

#[test]
fn signals_that_the_daemon_was_started_without_are_there_in_its_programs() {
    let all = "ALRM,CHLD,HUP,INT,PIPE,QUIT,TERM,USR1,USR2";
    let mask = ["/bin/grep", "-E", "^Sig(Ign|Blk):", "/proc/self/status"];
    let service =
        |name: &str, lines: &str| format!("[service.{name}]\nhelper = \"exec\"\nprogram = {mask:?}\n{lines}\n");
    let usherd = Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&service("plain", ""))
        .section(&service("bounded", "limits = { nofile = 64 }"))
        .under(&[
            "/usr/bin/env",
            &format!("--ignore-signal={all}"),
            "--block-signal=QUIT,USR1",
        ])
        .start();
    for name in ["plain", "bounded"] {
        let output = call(&usherd, &[name, ""]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.lines().count(), 2, "{}", shown(&output));
        for line in said.lines() {
            let bits = line.split_whitespace().last().expect("a mask");
            // Beyond these are glibc's own.
            let bits = u64::from_str_radix(bits, 16).map(|bits| bits & ((1 << 31) - 1));
            assert_eq!(bits, Ok(0), "{name}: {said}");
        }
    }
    usherd.stop();
}
