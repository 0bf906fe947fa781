//! Helpers over D-Bus without a bus, with GDBus, zbus, sd-bus and bare sockets at the other end.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use wire::rpc::ErrorCode;

use crate::calls::{Client, Ended, MIB, children, descriptors, service};
use crate::helpers::{answer, bytes, count, until};
use crate::proc::{Folder, alone, run, setting, shown};
use crate::usherd::{Setup, Usherd};

const PYTHON: &str = "/usr/bin/python3";

/// The helper of these tests, with arguments.
pub(crate) fn gdbus(arguments: &[&str]) -> Vec<String> {
    let output = run(
        PYTHON,
        &["-c", "from gi.repository import Gio"],
        Duration::from_secs(20),
    );
    assert!(
        output.status.success(),
        "these tests need GDBus for Python (apt-get install python3-gi): {}",
        shown(&output)
    );
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/helper_dbus.py");
    let words = [&[PYTHON, script.to_str().expect("UTF-8")], arguments].concat();
    words.into_iter().map(str::to_owned).collect()
}

/// The Rust library's example with zbus, which takes four calls at once.
fn zbus() -> Vec<String> {
    let test = std::env::current_exe().expect("this test");
    let folder = test.ancestors().nth(2).expect("a folder");
    let program = folder.join("examples/helper_dbus");
    assert!(
        program.exists(),
        "the Rust library's examples are missing: cargo build -p usherd-sdk --examples"
    );
    vec![program.display().to_string()]
}

/// The helper with sd-bus, built anew into this folder.
fn sd_bus(folder: &Folder) -> Vec<String> {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process/helper_dbus.c");
    let program = folder.file("helper_dbus");
    let source = source.to_str().expect("UTF-8");
    let words = ["-Wall", "-Wextra", "-Werror", "-o", &program, source, "-lsystemd"];
    let output = run("/usr/bin/cc", &words, Duration::from_secs(60));
    assert!(
        output.status.success(),
        "these tests need a C compiler and sd-bus (apt-get install gcc libc6-dev libsystemd-dev): {}",
        shown(&output)
    );
    vec![program]
}

/// A helper that shakes hands by itself and then says what its bytes are, for what no library would say.
fn bare(python: &str) -> Vec<String> {
    const BEGIN: &str = "
import os, time, socket
s = socket.socket(fileno=0)
s.sendall(b'\\0AUTH EXTERNAL\\r\\nDATA\\r\\nNEGOTIATE_UNIX_FD\\r\\nBEGIN\\r\\n')
got = b''
while got.count(b'\\n') < 3: got += s.recv(1000)
assert got.startswith(b'DATA\\r\\nOK ') and b'\\nERROR ' in got, got
";
    vec![PYTHON.to_owned(), "-c".to_owned(), format!("{BEGIN}{python}")]
}

fn sections(list: &[(&str, Vec<String>, &str)]) -> String {
    let section = |(name, program, lines): &(&str, Vec<String>, &str)| {
        format!("[service.{name}]\nprogram = {program:?}\ntransport = \"dbus\"\n{lines}\n\n")
    };
    list.iter().map(section).collect()
}

fn helpers(list: &[(&str, Vec<String>, &str)]) -> Usherd {
    Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&sections(list))
        .start()
}

#[test]
fn payloads_of_every_size_come_back_whole_from_gdbus_and_zbus() {
    let usherd = helpers(&[
        ("gdbus", gdbus(&[]), "max = 1"),
        ("several", gdbus(&["4"]), "max = 1\nconcurrency = 4"),
        ("zbus", zbus(), "max = 1\nconcurrency = 4"),
    ]);
    let mut client = Client::connect(&usherd);
    for name in ["gdbus", "several", "zbus"] {
        for size in [0, 1, 2, 3, 4, 4096, 65_531, 131_072, 200_000, MIB, 5 * MIB + 1] {
            let payload = bytes(size);
            let ended = client.ask(name, &[b"echo:", &payload[..]].concat());
            assert!(
                ended == Ended::Answer(payload),
                "{name}: {size} bytes came back changed"
            );
        }
        let payload = bytes(16 * MIB - 5);
        assert!(client.ask(name, &[b"echo:", &payload[..]].concat()) == Ended::Answer(payload));
        assert_eq!(service(&usherd, name)["starts"], 1, "one and the same helper");
    }
    let left: u32 = answer(client.ask("gdbus", b"deadline")).parse().expect("milliseconds");
    assert!((29_000..=30_000).contains(&left), "{left}");
    assert_eq!(service(&usherd, "gdbus")["helpers"][0]["software"], "helper_dbus.py/1");
    usherd.stop();
}

#[test]
fn a_helper_with_sd_bus_answers_fails_is_interrupted_and_ends_when_told() {
    let setup = Setup::new();
    let program = sd_bus(&setup.folder);
    let lines = "max = 1\nrequest_timeout = \"400ms\"\ngrace = \"10s\"\nlimits = { core = 0 }";
    let mut usherd = setup
        .listen("rpc", "unix:rpc", "")
        .section(&sections(&[("sd", program, lines)]))
        .start();
    let mut client = Client::connect(&usherd);
    for size in [0, 1, 4096, 300_000, 5 * MIB] {
        let payload = bytes(size);
        assert!(client.ask("sd", &payload) == Ended::Answer(payload), "{size} bytes");
    }
    let failed = Ended::Error(ErrorCode::Failed { code: 9 }, "as asked".to_owned());
    assert_eq!(client.ask("sd", b"fail"), failed);
    for _ in 0..3 {
        assert_eq!(client.ask("sd", b"sleep 60").code(), Some(ErrorCode::Deadline));
        assert_eq!(answer(client.ask("sd", b"awake")), "awake");
    }
    let status = service(&usherd, "sd");
    assert_eq!(
        (&status["starts"], &status["killed"]),
        (&1.into(), &0.into()),
        "{status:#}"
    );
    assert_eq!(status["helpers"][0]["software"], "helper_dbus.c/1");
    drop(client);
    // Its grace is longer than is waited for: it ends because it is told.
    usherd.terminate();
    assert_eq!(usherd.process.wait(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn pipelined_calls_of_one_dbus_helper_are_kept_apart() {
    let usherd = helpers(&[
        ("gdbus", gdbus(&["8"]), "max = 1\nconcurrency = 8"),
        ("zbus", zbus(), "max = 1\nconcurrency = 8"),
        ("one", gdbus(&[]), "max = 2"),
    ]);
    let mut client = Client::connect(&usherd);
    let calls = u32::try_from(setting("USHERD_TEST_OPERATIONS", 100))
        .expect("a number")
        .min(99);
    for name in ["gdbus", "zbus", "one"] {
        for id in 1..=calls {
            client.call(id, name, format!("echo:{id}").as_bytes());
        }
        for _ in 1..=calls {
            let (id, ended) = client.next();
            assert_eq!(ended, Ended::Answer(id.to_string().into_bytes()), "{name}");
        }
        // Large ones among small ones, more than a socket takes at once: nothing comes between the pieces of one.
        let size = |id: u32| if id.is_multiple_of(4) { 400_000 } else { 10 };
        for id in 1..=8 {
            client.call(id, name, &[b"echo:", &bytes(size(id))[..]].concat());
        }
        for _ in 1..=8 {
            let (id, ended) = client.next();
            assert!(ended == Ended::Answer(bytes(size(id))), "{name}: {id}");
        }
    }
    // As many as it declared, and no more.
    for id in 1..=6 {
        client.call(id, "zbus", b"sleep 0.4");
    }
    until(&usherd, "zbus", "four at work", |one| one["queued"] == 2);
    for _ in 1..=6 {
        assert_eq!(client.next().1, Ended::Answer(b"rested".to_vec()));
    }
    usherd.stop();
}

#[test]
fn a_dbus_call_that_hangs_is_interrupted_by_message_and_signal_and_else_its_helper_is_replaced() {
    let _machine = alone();
    let lines = "max = 1\nrequest_timeout = \"400ms\"\ngrace = \"300ms\"";
    let several = format!("{lines}\nconcurrency = 4");
    let usherd = helpers(&[
        ("hang", gdbus(&[]), lines),
        ("several", gdbus(&["4"]), &several),
        ("zbus", zbus(), &several),
    ]);
    let mut client = Client::connect(&usherd);
    // One call at a time, SIGINT wanted; several, told by the message alone.
    for (name, hang) in [("hang", "sleep 60"), ("several", "wait"), ("zbus", "sleep 60")] {
        let first = answer(client.ask(name, b"pid"));
        for _ in 0..3 {
            let start = Instant::now();
            assert_eq!(client.ask(name, hang.as_bytes()).code(), Some(ErrorCode::Deadline));
            let took = start.elapsed();
            assert!(
                took > Duration::from_millis(350) && took < Duration::from_millis(900),
                "{took:?}"
            );
            assert_eq!(answer(client.ask(name, b"pid")), first, "{name}: it came back");
        }
        client.call(1, name, hang.as_bytes());
        until(&usherd, name, "at work", |one| one["busy"] == 1);
        client.cancel(1);
        assert_eq!(client.next().1.code(), Some(ErrorCode::Canceled));
        assert_eq!(
            answer(client.ask(name, b"pid")),
            first,
            "{name}: a cancel is an interrupt too"
        );
        assert_eq!(service(&usherd, name)["killed"], 0, "{name}");
    }
    let first = answer(client.ask("hang", b"pid"));
    assert_eq!(client.ask("hang", b"deaf").code(), Some(ErrorCode::Deadline));
    let second = loop {
        match client.ask("hang", b"pid") {
            Ended::Error(ErrorCode::QueueTimeout | ErrorCode::Deadline, _) => {}
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
    assert_eq!(count(&status, "exits", "crash"), 0, "{status:#}");
    usherd.stop();
}

#[test]
fn errors_over_dbus_are_told_in_the_helpers_own_words_and_what_is_no_dbus_harms_its_own_call() {
    let usherd = helpers(&[(
        "bad",
        gdbus(&[]),
        "min = 2\nmax = 2\ncrash_max = 1000\nreply_bytes_max = \"1MiB\"",
    )]);
    let mut client = Client::connect(&usherd);
    for (request, code, text) in [
        ("fail org.usherd.Error.Failed no luck", 1, "no luck"),
        ("fail org.usherd.Error.Failed.Code7 of its own", 7, "of its own"),
        (
            "fail com.example.Error.Tired not now",
            1,
            "com.example.Error.Tired: not now",
        ),
    ] {
        let expected = Ended::Error(ErrorCode::Failed { code }, text.to_owned());
        assert_eq!(client.ask("bad", request.as_bytes()), expected);
    }
    assert_eq!(service(&usherd, "bad")["starts"], 2, "errors end no helper");
    let mut other = Client::connect(&usherd);
    for (request, status, said) in [
        ("exit 3", 3, "ended"),
        ("kill", -9, "ended"),
        // No message; one of version 2; one with the serial 0; an error that answers nothing; fields of a gigabyte.
        (&*format!("write {}", "78".repeat(20)), -9, "no message of D-Bus"),
        ("write 6c020002000000000100000000000000", -9, "version"),
        ("write 6c020001000000000000000000000000", -9, "message id"),
        ("write 6c030001000000000100000000000000", -9, "header fields"),
        ("write 6c020001000000000100000000000040", -9, "larger"),
        // A return of 1 GiB for no call that there is.
        ("write 6c0200010000004001000000080000000501750001000000", -9, "larger"),
    ] {
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
    }
    // A return and a signal for nobody are passed over.
    client.call(1, "bad", b"write 6c0200010000000001000000080000000501750001000000");
    until(&usherd, "bad", "at work", |one| one["busy"] == 1);
    client.cancel(1);
    assert_eq!(client.next().1.code(), Some(ErrorCode::Canceled));
    let fits = client.ask("bad", format!("size {MIB}").as_bytes());
    assert!(fits == Ended::Answer(vec![b'x'; MIB]));
    let ended = client.ask("bad", format!("size {}", MIB + 1).as_bytes());
    assert_eq!(ended.code(), Some(ErrorCode::TooLarge), "{ended:?}");
    let ended = client.ask("bad", format!("size {}", 3 * MIB).as_bytes());
    assert_eq!(ended.code(), Some(ErrorCode::TooLarge), "{ended:?}");
    until(&usherd, "bad", "ten crashes", |one| count(one, "exits", "crash") == 10);
    let status = service(&usherd, "bad");
    assert_eq!(count(&status, "outcomes", "error"), 3, "{status:#}");
    assert_eq!(count(&status, "outcomes", "crashed"), 8, "{status:#}");
    usherd.stop();
}

#[test]
fn a_dbus_helper_that_does_not_begin_tells_its_callers_why() {
    let late = "min = 0\nqueue_timeout = \"5s\"\nstart_timeout = \"1s\"";
    let other = "min = 0\nqueue_timeout = \"5s\"";
    let jail = format!("{other}\nlimits = {{ core = 0 }}");
    let setup = Setup::new();
    let script = setup.folder.write("script", "#!/no/such/interpreter\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let cases = [
        ("mute", gdbus(&["mute"]), late, "not ready within 1s"),
        ("silent", gdbus(&["silent"]), late, "not ready within 1s"),
        ("garbage", gdbus(&["garbage"]), other, "its handshake is none of D-Bus"),
        ("unable", gdbus(&["unable"]), other, "no database"),
        (
            "early",
            bare("s.sendall(b'x' * 40)\ntime.sleep(60)"),
            other,
            "no message of D-Bus",
        ),
        (
            "gone",
            bare("os._exit(4)"),
            other,
            "it ended with 4 before it was ready",
        ),
        // What is between start and program says why there is none.
        ("jailed", vec![script], &jail, "script: No such file"),
    ];
    let list = cases.clone().map(|(name, program, lines, _)| (name, program, lines));
    let usherd = setup.listen("rpc", "unix:rpc", "").section(&sections(&list)).start();
    let mut client = Client::connect(&usherd);
    for (name, _, _, said) in &cases {
        let ended = client.ask(name, b"echo:x");
        let Ended::Error(ErrorCode::Unavailable, text) = &ended else {
            panic!("{name}: {ended:?}")
        };
        assert!(text.contains(said), "{name}: {text}");
    }
    usherd.stop();
}

#[test]
fn a_program_with_a_method_of_its_own_is_called_as_it_is() {
    let own = |method: &str, payload: &str| {
        format!(
            "max = 1\nrequest_timeout = \"400ms\"\ngrace = \"2s\"\n\
             dbus = {{ path = \"/com/example/Upper\", interface = \"com.example.Upper\", method = \"{method}\", payload = \"{payload}\" }}"
        )
    };
    let (text, octets, missing) = (own("Text", "text"), own("Bytes", "bytes"), own("Absent", "bytes"));
    let mixed = own("Text", "text").replace("Text", "Bytes");
    let usherd = helpers(&[
        ("text", gdbus(&["own"]), &text),
        ("bytes", gdbus(&["own"]), &octets),
        ("missing", gdbus(&["own"]), &missing),
        ("mixed", gdbus(&["own"]), &mixed),
    ]);
    let mut client = Client::connect(&usherd);
    assert_eq!(answer(client.ask("text", "grün".as_bytes())), "GRÜN");
    assert_eq!(answer(client.ask("text", b"")), "");
    assert!(client.ask("bytes", &[b'a'; 300_000]) == Ended::Answer(vec![b'A'; 300_000]));
    for payload in [&b"\xff"[..], b"a\0b"] {
        let ended = client.ask("text", payload);
        assert_eq!(ended.code(), Some(ErrorCode::Failed { code: 1 }), "{ended:?}");
    }
    for (name, said) in [("missing", "UnknownMethod"), ("mixed", "org.freedesktop.DBus.Error.")] {
        let Ended::Error(code, text) = client.ask(name, b"x") else {
            panic!("{name}")
        };
        assert_eq!(code, ErrorCode::Failed { code: 1 });
        assert!(text.contains(said), "{name}: {text}");
        assert_eq!(service(&usherd, name)["starts"], 1);
    }
    // Not told of the deadline, it comes back in the grace, and is asked nothing meanwhile.
    let ended = client.ask("text", b"sleep");
    assert_eq!(ended.code(), Some(ErrorCode::Deadline), "{ended:?}");
    until(&usherd, "text", "back", |one| one["idle"] == 1);
    assert_eq!(answer(client.ask("text", b"next")), "NEXT");
    assert_eq!(
        (&service(&usherd, "text")["killed"], &service(&usherd, "text")["starts"]),
        (&0.into(), &1.into())
    );
    assert_eq!(client.ask("text", b"hang").code(), Some(ErrorCode::Deadline));
    until(&usherd, "text", "replaced", |one| {
        one["killed"] == 1 && one["idle"] == 1
    });
    usherd.stop();
}

#[test]
fn a_new_program_over_dbus_is_taken_up_without_a_refusal() {
    let first = [("roll", gdbus(&["1", "first"]), "min = 3\nmax = 4")];
    let second = [("roll", zbus(), "min = 3\nmax = 4")];
    let usherd = helpers(&first);
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
    let status = service(&usherd, "roll");
    assert_eq!(
        (&status["failed"], &status["killed"]),
        (&0.into(), &0.into()),
        "{status:#}"
    );
    assert_eq!(status["helpers"][0]["software"], "helper_dbus.rs/1");
    let mut usherd = usherd;
    let mut client = Client::connect(&usherd);
    client.call(1, "roll", b"sleep 0.7");
    until(&usherd, "roll", "at work", |one| one["busy"] == 1);
    usherd.terminate();
    assert_eq!(
        client.next(),
        (1, Ended::Answer(b"rested".to_vec())),
        "a drain lets it finish"
    );
    assert_eq!(usherd.process.wait(Duration::from_secs(5)).code(), Some(0));
    let log = usherd.process.output();
    assert!(!log.contains("a helper has crashed"), "{log}");
}

#[test]
fn dbus_helpers_die_by_the_dozen_and_nothing_is_left_behind() {
    let _machine = alone();
    let crashes = u32::try_from(setting("USHERD_TEST_CRASHES", 100) / 5).expect("a number");
    let lines = "min = 2\nmax = 2\ncrash_max = 10000\nspawn_rate = 1000\nqueue_timeout = \"30s\"";
    let usherd = helpers(&[("mortal", gdbus(&[]), lines)]);
    until(&usherd, "mortal", "populated", |one| one["idle"] == 2);
    let mut client = Client::connect(&usherd);
    assert_eq!(answer(client.ask("mortal", b"echo:x")), "x");
    let before = (children(&usherd), descriptors(&usherd));
    for crash in 1..=crashes {
        let deadly = ["kill", "exit 5", "write 78787878", "sleep 9"];
        let how = deadly[crash as usize % deadly.len()];
        client.call(1, "mortal", how.as_bytes());
        client.call(2, "mortal", b"echo:beside");
        if how == "sleep 9" {
            client.cancel(1);
        }
        let mut ends = [client.next(), client.next()];
        ends.sort_by_key(|(id, _)| *id);
        let [(1, first), (2, Ended::Answer(second))] = ends else {
            panic!("{how}: {ends:?}")
        };
        assert_eq!(second, b"beside");
        let right = match how {
            "sleep 9" => first.code() == Some(ErrorCode::Canceled),
            _ => matches!(first.code(), Some(ErrorCode::Crashed { .. })),
        };
        assert!(right, "{how}: {first:?}");
    }
    until(&usherd, "mortal", "as before", |one| {
        one["idle"] == 2 && one["running"] == 2
    });
    let start = Instant::now();
    while (children(&usherd), descriptors(&usherd)) != before {
        let now = (children(&usherd), descriptors(&usherd));
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{before:?} before, {now:?} now"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    usherd.stop();
}
