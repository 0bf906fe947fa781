//! The libraries for others, in their own words: the Python tests, and its callers against a daemon of ours.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use usherd_sdk::client::{CallError, Client, ConnectError, ErrorCode};

use crate::certificates::certificates;
use crate::proc::{run_with, shown};
use crate::usherd::{Setup, Usherd, listener_tls, restrict};

const TOKEN: &str = "a token for tests alone, and long enough";

/// Services that answer, fail and hang, behind a unix socket, TCP, and TLS with a token.
fn daemon() -> Usherd {
    let setup = Setup::new();
    restrict(&setup.folder.write("token", format!("{TOKEN}\n")));
    let tls = format!("{}\ntoken_file = \"token\"", listener_tls());
    let mut setup = setup
        .listen("rpc", "unix:rpc", "")
        .listen("rpc", "127.0.0.1:0", "")
        .listen("rpc", "127.0.0.1:0", &tls);
    for (name, program) in [
        ("upper", "[\"/usr/bin/tr\", \"a-z\", \"A-Z\"]"),
        ("cat", "[\"/bin/cat\"]"),
        ("seven", "[\"/bin/sh\", \"-c\", \"exit 7\"]"),
        ("hang", "[\"/bin/sleep\", \"100\"]"),
    ] {
        let lines = "max = 8\ngrace = \"200ms\"";
        setup = setup.section(&format!(
            "[service.{name}]\nhelper = \"exec\"\nprogram = {program}\n{lines}\n"
        ));
    }
    for (name, program, lines) in helpers() {
        let environment = format!("environment = {{ PYTHONPATH = \"{}/src\" }}", package().display());
        setup = setup.section(&format!(
            "[service.{name}]\nprogram = {program:?}\n{environment}\n{lines}\n"
        ));
    }
    setup.start()
}

/// The examples that do everything a call can do: in Rust and in Python, one call at a time and several.
fn helpers() -> [(&'static str, Vec<String>, &'static str); 3] {
    let rust = example("follow");
    let python = package().join("examples/follow.py").display().to_string();
    let python = ["/usr/bin/python3".to_owned(), python];
    let several = [&python[..], &["4".to_owned()]].concat();
    let one = "max = 1";
    [
        ("rust", vec![rust.display().to_string()], one),
        ("python", python.to_vec(), one),
        ("several", several, "max = 1\nconcurrency = 4"),
    ]
}

/// An example of the Rust library.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let found = test
        .ancestors()
        .nth(2)
        .map(|folder| folder.join("examples").join(name))
        .expect("a folder");
    assert!(
        found.exists(),
        "the Rust library's examples are missing: cargo build -p usherd-sdk --examples"
    );
    found
}

fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/python")
}

#[test]
fn the_python_library_passes_its_own_tests_and_calls_a_daemon() {
    let usherd = daemon();
    let package = package();
    let folder = package.to_str().expect("a path in UTF-8");
    let environment = [
        ("PYTHONPATH", format!("{folder}/src")),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ("USHERD_TEST_UNIX", format!("unix:{}", usherd.unix("rpc").display())),
        ("USHERD_TEST_TCP", format!("127.0.0.1:{}", usherd.port(1))),
        ("USHERD_TEST_TLS", format!("localhost:{}", usherd.port(2))),
        ("USHERD_TEST_CA", certificates().ca().display().to_string()),
        ("USHERD_TEST_TOKEN", TOKEN.to_owned()),
    ];
    let environment: Vec<(&str, &str)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let args = ["-m", "unittest", "discover", "-s", folder, "-t", folder];
    let output = run_with("/usr/bin/python3", &args, &environment, Duration::from_secs(120));
    assert!(output.status.success(), "{}", shown(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("\nOK\n"), "all of them ran, none was skipped: {said}");
    usherd.stop();
}

/// Trusts the authority of our tests.
fn trusting() -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(certificates().ca()).expect("the authority's file") {
        roots
            .add(certificate.expect("a certificate"))
            .expect("a certificate of an authority");
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

#[test]
fn the_rust_library_calls_over_unix_tcp_and_tls() {
    let usherd = daemon();
    let unix = format!("unix:{}", usherd.unix("rpc").display());
    let tls = format!("localhost:{}", usherd.port(2));
    let payload: Vec<u8> = (0..3_000_000u32).map(|place| place.to_be_bytes()[2]).collect();
    for client in [
        Client::connect(&unix).expect("unix"),
        Client::connect(&format!("127.0.0.1:{}", usherd.port(1))).expect("TCP"),
        Client::builder()
            .tls(trusting())
            .token(TOKEN.as_bytes())
            .connect(&tls)
            .expect("TLS"),
    ] {
        assert_eq!(client.call("upper", b"hello"), Ok(b"HELLO".to_vec()));
        assert!(client.call("cat", &payload).as_ref() == Ok(&payload));
        let replies: Vec<_> = (0..100u8)
            .map(|number| client.request("cat").send(&[number]).expect("sent"))
            .collect();
        for (number, reply) in (0..100u8).zip(replies) {
            assert_eq!(reply.wait(), Ok(vec![number]));
        }
    }
    let denied = Client::builder()
        .tls(trusting())
        .token(b"wrong")
        .connect(&tls)
        .map(drop);
    assert!(
        matches!(
            &denied,
            Err(ConnectError::Refused(CallError::Refused {
                code: ErrorCode::Denied,
                ..
            }))
        ),
        "{denied:?}"
    );
    let stranger = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
    let refused = Client::builder()
        .tls(Arc::new(stranger.with_no_client_auth()))
        .connect(&tls)
        .map(drop);
    assert!(matches!(refused, Err(ConnectError::Io(_))), "{refused:?}");
    usherd.until("all callers have gone", |status| {
        status["listeners"]
            .as_array()
            .is_some_and(|all| all.iter().all(|one| one["clients"] == 0))
    });
    usherd.stop();
}

#[test]
fn the_rust_library_tells_errors_apart_and_cancels() {
    let usherd = daemon();
    let client = Client::connect(&format!("unix:{}", usherd.unix("rpc").display())).expect("unix");
    let code = |result: Result<Vec<u8>, CallError>| match result {
        Err(CallError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(client.call("nobody", b"")), ErrorCode::UnknownService);
    assert_eq!(code(client.call("seven", b"")), ErrorCode::Crashed { status: 7 });
    let start = Instant::now();
    let hang = client.request("hang").deadline(Duration::from_millis(300)).send(b"");
    assert_eq!(code(hang.expect("sent").wait()), ErrorCode::Deadline);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let hang = client.request("hang").send(b"").expect("sent");
    hang.cancel();
    assert_eq!(code(hang.wait()), ErrorCode::Canceled);
    drop(client.request("hang").send(b"").expect("sent"));
    assert_eq!(client.call("upper", b"after"), Ok(b"AFTER".to_vec()));
    // A program that is started for each call does not care for a descriptor, which is closed.
    let (mut read, write) = std::io::pipe().expect("a pipe");
    let direct = client.request("upper").reply_to(OwnedFd::from(write).into());
    assert_eq!(direct.send(b"both").expect("sent").wait(), Ok(b"BOTH".to_vec()));
    let mut straight = Vec::new();
    read.read_to_end(&mut straight).expect("nobody holds the other end");
    assert_eq!(straight, b"");
    // Many threads, one connection.
    std::thread::scope(|scope| {
        for number in 0..8u8 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..20 {
                    assert_eq!(client.call("cat", &[number, round]), Ok(vec![number, round]));
                }
            });
        }
    });
    usherd.stop();
}

#[test]
fn calls_taken_ahead_lie_with_a_helper_and_die_with_it_each_answered_once() {
    let python = "from usherd import helper; helper.serve(lambda one: one.payload, ahead=16)";
    let echo = example("echo").display().to_string();
    let programs = [
        vec![echo, "16".to_owned()],
        ["/usr/bin/python3", "-c", python].map(str::to_owned).to_vec(),
    ];
    let mut setup = Setup::new().listen("rpc", "unix:rpc", "");
    for (name, program) in ["rust", "python"].iter().zip(programs) {
        setup = setup.section(&format!(
            "[service.{name}]\nprogram = {program:?}\nenvironment = {{ PYTHONPATH = \"{}/src\" }}\n\
             min = 1\nmax = 1\nconcurrency = 32\n",
            package().display()
        ));
    }
    let usherd = setup.start();
    let client = Client::connect(&format!("unix:{}", usherd.unix("rpc").display())).expect("unix");
    let send = |service: &str, number: u32| client.request(service).send(&number.to_be_bytes()).expect("sent");
    for service in ["rust", "python"] {
        for _ in 0..20 {
            let replies: Vec<_> = (0..100).map(|number| send(service, number)).collect();
            for (number, reply) in (0..100u32).zip(replies) {
                assert_eq!(reply.wait(), Ok(number.to_be_bytes().to_vec()), "{service}");
            }
        }
        // Held up, it has as many as it declared; killed, it takes those with it, and what waits goes to the next.
        let pid = helper_of(&usherd, service);
        signal(pid, "-STOP");
        let replies: Vec<_> = (0..40).map(|number| send(service, number)).collect();
        usherd.until("sixteen lie with it, the others wait", |status| {
            let one = named(status, service);
            one["busy"] == 1 && one["queued"] == 24
        });
        signal(pid, "-KILL");
        let ended: Vec<_> = replies.into_iter().map(usherd_sdk::client::Reply::wait).collect();
        let (dead, alive) = ended.split_at(16);
        let crashed = |one: &Result<Vec<u8>, CallError>| {
            matches!(
                one,
                Err(CallError::Refused {
                    code: ErrorCode::Crashed { .. },
                    ..
                })
            )
        };
        assert!(dead.iter().all(crashed), "{service}: {dead:?}");
        for (number, answer) in (16u32..).zip(alive) {
            assert_eq!(answer, &Ok(number.to_be_bytes().to_vec()), "{service}");
        }
    }
    usherd.stop();
}

fn named<'a>(status: &'a serde_json::Value, service: &str) -> &'a serde_json::Value {
    let services = status["services"].as_array().expect("services");
    services.iter().find(|one| one["name"] == service).expect("the service")
}

/// The process of a service's only helper.
fn helper_of(usherd: &Usherd, service: &str) -> u64 {
    named(&usherd.status(), service)["helpers"][0]["pid"]
        .as_u64()
        .expect("a process")
}

fn signal(pid: u64, signal: &str) {
    let output = run_with("/bin/kill", &[signal, &pid.to_string()], &[], Duration::from_secs(5));
    assert!(output.status.success(), "{}", shown(&output));
}

/// What everything is called by, and where it runs now.
fn helper_processes(usherd: &Usherd) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", usherd.process.pid())).expect("it runs");
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let mut found: Vec<String> = tasks
        .flatten()
        .flat_map(|task| of(task).split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    found.sort();
    found
}

#[test]
fn helpers_of_both_libraries_do_everything_that_a_call_can_do() {
    let usherd = daemon();
    let client = Client::connect(&format!("unix:{}", usherd.unix("rpc").display())).expect("unix");
    for service in ["rust", "python", "several"] {
        let call = |payload: &str| client.call(service, payload.as_bytes());
        assert_eq!(call("words one two"), Ok(b"one\ntwo\n".to_vec()), "{service}");
        assert_eq!(
            call("bytes 1000000").map(|answer| answer.len()),
            Ok(1_000_000),
            "{service}"
        );
        let failed = call("what is this");
        let Err(CallError::Refused {
            code: ErrorCode::Failed { code: 2 },
            text,
        }) = failed
        else {
            panic!("{service}: {failed:?}");
        };
        assert!(text.contains("no such word"), "{service}: {text}");
        let asked = client.request(service).send(b"ask who?").expect("sent");
        let answered = asked.wait_answering(|question| (question == b"who?").then(|| b"me".to_vec()));
        assert_eq!(answered, Ok(b"you said me".to_vec()), "{service}");
        let (mut read, write) = std::io::pipe().expect("a pipe");
        let direct = client.request(service).reply_to(OwnedFd::from(write).into());
        assert_eq!(
            direct.send(b"direct straight").expect("sent").wait(),
            Ok(Vec::new()),
            "{service}"
        );
        let mut straight = String::new();
        read.read_to_string(&mut straight).expect("nobody holds the other end");
        assert_eq!(straight, "straight", "{service}");
        for bytes in [4096, 4097, 60_000, 70_000, 3_000_000] {
            let words = format!("words {}", "x".repeat(bytes));
            assert_eq!(call(&words).map(|answer| answer.len()), Ok(bytes + 1), "{service}");
        }
    }
    usherd.stop();
}

#[test]
fn an_interrupt_frees_a_helper_of_either_library_and_a_crash_replaces_it() {
    let usherd = daemon();
    let client = Client::connect(&format!("unix:{}", usherd.unix("rpc").display())).expect("unix");
    for service in ["rust", "python"] {
        assert_eq!(client.call(service, b"words a"), Ok(b"a\n".to_vec()));
    }
    let before = helper_processes(&usherd);
    for service in ["rust", "python"] {
        for _ in 0..5 {
            let wait = client.request(service).deadline(Duration::from_millis(150));
            let error = wait.send(b"wait").expect("sent").wait();
            assert!(
                matches!(
                    &error,
                    Err(CallError::Refused {
                        code: ErrorCode::Deadline,
                        ..
                    })
                ),
                "{error:?}"
            );
            assert_eq!(
                client.call(service, b"words b"),
                Ok(b"b\n".to_vec()),
                "{service} is free again"
            );
        }
    }
    assert_eq!(
        helper_processes(&usherd),
        before,
        "they came back by themselves: none was killed"
    );
    for service in ["rust", "python"] {
        let crashed = client.call(service, b"exit 3");
        let status = matches!(
            &crashed,
            Err(CallError::Refused {
                code: ErrorCode::Crashed { status: 3 },
                ..
            })
        );
        assert!(status, "{service}: {crashed:?}");
        assert_eq!(
            client.call(service, b"words c"),
            Ok(b"c\n".to_vec()),
            "{service} has another"
        );
    }
    usherd.stop();
}
