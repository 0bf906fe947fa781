//! Services as a client program sees them: frames over a socket, pipelined, canceled, dropped.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use wire::frame::Step;
use wire::rpc::{self, ErrorCode, Kind};

use crate::proc::{alone, wait_for};
use crate::usherd::{Setup, Usherd};

pub(crate) const MIB: usize = 1 << 20;

/// Services by name, program and further lines, behind one unix socket.
fn services(list: &[(&str, &[&str], &str)]) -> Usherd {
    let mut setup = Setup::new().listen("rpc", "unix:rpc", "");
    for (name, program, lines) in list {
        setup = setup.section(&format!(
            "[service.{name}]\nhelper = \"exec\"\nprogram = {program:?}\n{lines}\n"
        ));
    }
    setup.start()
}

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Answer(Vec<u8>),
    /// It has not: it asks its caller.
    Asked(Vec<u8>),
    Error(ErrorCode, String),
}

impl Ended {
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            Ended::Answer(_) | Ended::Asked(_) => None,
            Ended::Error(code, _) => Some(*code),
        }
    }
}

/// A connection to the daemon; it checks that every call ends once.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    unread: Vec<u8>,
    /// Parts of answers so far, by call.
    pub(crate) open: HashMap<u32, Vec<u8>>,
}

impl Client {
    pub(crate) fn connect(usherd: &Usherd) -> Self {
        Self::over(UnixStream::connect(usherd.unix("rpc")).expect("the rpc listener"))
    }

    /// The same over a stream that is there.
    pub(crate) fn over(stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        stream
            .set_write_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        Self {
            stream,
            unread: Vec::new(),
            open: HashMap::new(),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the daemon reads");
    }

    pub(crate) fn call(&mut self, id: u32, service: &str, payload: &[u8]) {
        self.call_within(id, service, payload, 0);
    }

    pub(crate) fn call_within(&mut self, id: u32, service: &str, payload: &[u8], deadline_ms: u32) {
        let mut frame = Vec::new();
        rpc::write_call(&mut frame, id, deadline_ms, service, payload).expect("a call");
        assert!(self.open.insert(id, Vec::new()).is_none(), "the test uses an id twice");
        self.send(&frame);
    }

    pub(crate) fn cancel(&mut self, id: u32) {
        let mut frame = Vec::new();
        rpc::write_cancel(&mut frame, id).expect("a cancel");
        self.send(&frame);
    }

    /// The next call that ends; call 0 is the connection.
    pub(crate) fn next(&mut self) -> (u32, Ended) {
        self.next_or_end().expect("the daemon closed the connection")
    }

    pub(crate) fn next_or_end(&mut self) -> Option<(u32, Ended)> {
        loop {
            if let Step::Frame { len } = rpc::split(&self.unread, rpc::FRAME_BYTES_MAX) {
                let bytes: Vec<u8> = self.unread.drain(..len).collect();
                let frame = rpc::peek(&bytes).expect("a frame");
                if frame.kind == Kind::Error && frame.call == 0 {
                    let (code, text) = rpc::read_error(frame.payload).expect("an error");
                    return Some((0, Ended::Error(code, text.to_owned())));
                }
                let so_far = self
                    .open
                    .get_mut(&frame.call)
                    .expect("a call that is open: no end comes twice");
                so_far.extend_from_slice(frame.payload);
                let ended = match frame.kind {
                    Kind::ReplyPart => continue,
                    Kind::Ask => return Some((frame.call, Ended::Asked(std::mem::take(so_far)))),
                    Kind::ReplyDone => Ended::Answer(std::mem::take(so_far)),
                    Kind::Error => {
                        let (code, text) = rpc::read_error(frame.payload).expect("an error");
                        Ended::Error(code, text.to_owned())
                    }
                    other => panic!("a server does not say {other:?}"),
                };
                self.open.remove(&frame.call);
                return Some((frame.call, ended));
            }
            let mut piece = vec![0; 64 * 1024];
            match self.stream.read(&mut piece).expect("the daemon answers") {
                0 => return None,
                read => self.unread.extend_from_slice(&piece[..read]),
            }
        }
    }

    /// One call and its end.
    pub(crate) fn ask(&mut self, service: &str, payload: &[u8]) -> Ended {
        self.call(1, service, payload);
        let (id, ended) = self.next();
        assert_eq!(id, 1);
        ended
    }
}

/// Processes that the daemon started, zombies included.
pub(crate) fn children(usherd: &Usherd) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", usherd.process.pid())).expect("it runs");
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.flatten().map(|task| of(task).split_whitespace().count()).sum()
}

pub(crate) fn none_left(usherd: &Usherd) {
    wait_for("no program of a service is left", Duration::from_secs(10), || {
        (children(usherd) == 0).then_some(())
    });
}

pub(crate) fn descriptors(usherd: &Usherd) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", usherd.process.pid()))
        .expect("it runs")
        .count()
}

pub(crate) fn service(usherd: &Usherd, name: &str) -> serde_json::Value {
    let status = usherd.status();
    let all = status["services"].as_array().expect("services");
    all.iter().find(|one| one["name"] == name).expect("the service").clone()
}

#[test]
fn two_hundred_pipelined_calls_are_each_answered_once_by_four_programs_and_leave_nothing_behind() {
    let usherd = services(&[("upper", &["/usr/bin/tr", "a-z", "A-Z"], "max = 4")]);
    let mut client = Client::connect(&usherd);
    assert_eq!(client.ask("upper", b"warm"), Ended::Answer(b"WARM".to_vec()));
    none_left(&usherd);
    let before = descriptors(&usherd);
    let mut most = 0;
    for round in 0..2 {
        for id in 1..=200 {
            client.call(id, "upper", format!("call {round}.{id}").as_bytes());
        }
        for _ in 0..200 {
            let (id, ended) = client.next();
            assert_eq!(ended, Ended::Answer(format!("CALL {round}.{id}").into_bytes()));
            most = most.max(children(&usherd));
        }
        assert!(client.open.is_empty());
    }
    assert!((1..=4).contains(&most), "{most} programs at once");
    none_left(&usherd);
    wait_for("no descriptor is left", Duration::from_secs(5), || {
        (descriptors(&usherd) == before).then_some(())
    });
    assert_eq!(service(&usherd, "upper")["calls"], 401);
    usherd.stop();
}

#[test]
fn a_cancel_is_answered_and_ends_the_program_or_the_wait() {
    let usherd = services(&[("hang", &["/bin/sleep", "100"], "max = 1\ngrace = \"200ms\"")]);
    let mut client = Client::connect(&usherd);
    client.call(1, "hang", b"");
    client.call(2, "hang", b"");
    client.call(3, "hang", b"");
    wait_for("the program runs", Duration::from_secs(5), || {
        (children(&usherd) == 1).then_some(())
    });
    for id in [2, 1] {
        client.cancel(id);
        client.cancel(99);
        let (of, ended) = client.next();
        assert_eq!((of, ended.code()), (id, Some(ErrorCode::Canceled)));
    }
    wait_for("the third has the place", Duration::from_secs(5), || {
        let status = service(&usherd, "hang");
        (status["running"] == 1 && status["queued"] == 0).then_some(())
    });
    client.cancel(3);
    assert_eq!(client.next().1.code(), Some(ErrorCode::Canceled));
    none_left(&usherd);
    usherd.stop();
}

#[test]
fn a_client_that_leaves_ends_its_programs_even_while_it_is_not_read() {
    let usherd = services(&[("hang", &["/bin/sleep", "100"], "max = 8\ngrace = \"200ms\"")]);
    let mut client = Client::connect(&usherd);
    // More than may be open on one connection: from the 101st on it is not read.
    for id in 1..=150 {
        client.call(id, "hang", b"");
    }
    wait_for("the programs run", Duration::from_secs(5), || {
        (children(&usherd) == 8).then_some(())
    });
    drop(client);
    none_left(&usherd);
    let status = service(&usherd, "hang");
    assert_eq!(
        (&status["queued"], &status["running"]),
        (&0.into(), &0.into()),
        "{status:#}"
    );
    usherd.stop();
}

#[test]
fn every_reason_has_an_error_of_its_own() {
    let copy = crate::proc::Folder::new("program");
    let program = copy.file("program");
    std::fs::copy("/bin/cat", &program).expect("a copy of /bin/cat");
    let usherd = services(&[
        ("gone", &[&program], ""),
        (
            "full",
            &["/bin/sleep", "100"],
            "max = 1\nqueue_max = 1\nrequest_timeout = \"2s\"\nqueue_timeout = \"300ms\"",
        ),
        (
            "three",
            &["/bin/sh", "-c", "echo first >&2; echo second >&2; exit 3"],
            "",
        ),
        ("signal", &["/bin/sh", "-c", "kill -SEGV $$"], ""),
        ("much", &["/bin/cat", "/dev/zero"], "reply_bytes_max = \"64KiB\""),
    ]);
    let mut client = Client::connect(&usherd);
    assert_eq!(client.ask("gone", b"here"), Ended::Answer(b"here".to_vec()));
    std::fs::remove_file(&program).expect("our own file");
    let Ended::Error(ErrorCode::Unavailable, text) = client.ask("gone", b"here") else {
        panic!("it is gone")
    };
    assert!(
        text.contains(&program) && text.contains("could not be started"),
        "{text}"
    );
    assert_eq!(client.ask("nobody", b"").code(), Some(ErrorCode::UnknownService));
    assert_eq!(
        client.ask("three", b""),
        Ended::Error(ErrorCode::Crashed { status: 3 }, "first\nsecond".to_owned())
    );
    assert_eq!(
        client.ask("signal", b"").code(),
        Some(ErrorCode::Crashed { status: -11 })
    );
    assert_eq!(client.ask("much", b"").code(), Some(ErrorCode::TooLarge));
    for id in 1..=3 {
        client.call(id, "full", b"");
    }
    let ends: Vec<(u32, Option<ErrorCode>)> = (0..3)
        .map(|_| client.next())
        .map(|(id, end)| (id, end.code()))
        .collect();
    let expected = [
        (3, ErrorCode::QueueFull),
        (2, ErrorCode::QueueTimeout),
        (1, ErrorCode::Deadline),
    ];
    assert_eq!(ends, expected.map(|(id, code)| (id, Some(code))));
    none_left(&usherd);
    usherd.stop();
}

#[test]
fn the_largest_payload_passes_and_a_larger_one_is_refused() {
    let usherd = services(&[("cat", &["/bin/cat"], "")]);
    let mut client = Client::connect(&usherd);
    for bytes in [0, 1, 16 * MIB] {
        let payload: Vec<u8> = (0_u32..)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .take(bytes)
            .collect();
        assert!(
            client.ask("cat", &payload) == Ended::Answer(payload),
            "{bytes} bytes came back changed"
        );
    }
    // A header that announces more than any frame has.
    let mut frame = Vec::new();
    rpc::write_call(&mut frame, 1, 0, "cat", b"").expect("a call");
    frame[16..20].copy_from_slice(&(17_u32 << 20).to_be_bytes());
    client.send(&frame);
    let (id, ended) = client.next();
    assert_eq!((id, ended.code()), (0, Some(ErrorCode::TooLarge)));
    assert_eq!(client.next_or_end(), None, "and the connection is closed");
    usherd.stop();
}

#[test]
fn large_calls_come_whole_however_they_are_cut_and_one_that_stalls_is_closed() {
    let usherd = Setup::new()
        .listen("rpc", "unix:rpc", "partial_timeout = \"1s\"")
        .section("[service.cat]\nhelper = \"exec\"\nprogram = [\"/bin/cat\"]\n")
        .start();
    let pattern = |bytes: u32| -> Vec<u8> {
        (0..bytes)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect()
    };
    let mut client = Client::connect(&usherd);
    // A large call, a small one and another large one, all behind each other, with a pause somewhere.
    for cut in [10, 1000, 16_384, 20_000, 65_536, 199_999, 200_030, 250_000] {
        let payloads = [pattern(200_000), b"small".to_vec(), pattern(70_000)];
        let mut bytes = Vec::new();
        for (id, payload) in (1..).zip(&payloads) {
            rpc::write_call(&mut bytes, id, 0, "cat", payload).expect("a call");
            client.open.insert(id, Vec::new());
        }
        let (first, rest) = bytes.split_at(cut);
        client.send(first);
        std::thread::sleep(Duration::from_millis(20));
        client.send(rest);
        let answers: HashMap<u32, Ended> = (0..3).map(|_| client.next()).collect();
        for (id, payload) in (1..).zip(payloads) {
            assert!(
                answers[&id] == Ended::Answer(payload),
                "call {id}, cut at {cut}, came back changed"
            );
        }
    }
    let mut stalled = Client::connect(&usherd);
    let mut bytes = Vec::new();
    rpc::write_call(&mut bytes, 1, 0, "cat", &pattern(1 << 20)).expect("a call");
    let begun = Instant::now();
    stalled.send(&bytes[..MIB / 2]);
    assert_eq!(client.ask("cat", b"others"), Ended::Answer(b"others".to_vec()));
    assert_eq!(stalled.next_or_end(), None, "closed when its time is over");
    let took = begun.elapsed();
    assert!((1..4).contains(&took.as_secs()), "after {took:?}");
    usherd.stop();
}

#[test]
fn what_is_no_frame_ends_its_own_connection_and_its_calls_and_nobody_elses() {
    let usherd = services(&[
        ("hang", &["/bin/sleep", "100"], "grace = \"200ms\""),
        ("cat", &["/bin/cat"], ""),
    ]);
    let mut other = Client::connect(&usherd);
    for rubbish in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        &[0xd5, 9],
        &[0xd5, 1, 77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut client = Client::connect(&usherd);
        client.call(1, "hang", b"");
        wait_for("the program runs", Duration::from_secs(5), || {
            (children(&usherd) == 1).then_some(())
        });
        client.send(rubbish);
        let (id, ended) = client.next();
        assert_eq!((id, ended.code()), (0, Some(ErrorCode::Protocol)));
        assert_eq!(client.next_or_end(), None, "and the connection is closed");
        none_left(&usherd);
        assert_eq!(other.ask("cat", b"still here"), Ended::Answer(b"still here".to_vec()));
    }
    usherd.stop();
}

#[test]
fn a_child_that_holds_the_output_open_is_not_waited_for() {
    let usherd = services(&[("parent", &["/bin/sh", "-c", "sleep 5 & echo done"], "")]);
    let mut client = Client::connect(&usherd);
    let start = Instant::now();
    assert_eq!(client.ask("parent", b""), Ended::Answer(b"done\n".to_vec()));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    usherd.stop();
}

#[test]
fn what_an_interrupted_program_has_started_ends_with_it() {
    let folder = crate::proc::Folder::new("pid");
    let file = folder.file("pid");
    let script = format!("trap 'exit 1' INT; (trap '' INT; exec sleep 100) & echo $! > {file}; wait");
    let usherd = services(&[(
        "parent",
        &["/bin/sh", "-c", &script],
        "request_timeout = \"600ms\"\ngrace = \"5s\"",
    )]);
    let mut client = Client::connect(&usherd);
    assert_eq!(client.ask("parent", b"").code(), Some(ErrorCode::Deadline));
    none_left(&usherd);
    let pid = std::fs::read_to_string(&file).expect("the program wrote it");
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    wait_for("its child is gone", Duration::from_secs(3), || {
        let state = state();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
    usherd.stop();
}

#[test]
fn answers_wait_for_a_client_that_reads_late() {
    let usherd = services(&[("much", &["/usr/bin/head", "-c", "1000000", "/dev/zero"], "max = 8")]);
    let mut client = Client::connect(&usherd);
    for id in 1..=60 {
        client.call(id, "much", b"");
    }
    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..60 {
        let (_, ended) = client.next();
        assert!(
            matches!(&ended, Ended::Answer(answer) if answer.len() == 1_000_000),
            "{:?}",
            ended.code()
        );
    }
    usherd.stop();
}

#[test]
fn programs_that_die_under_load_never_cost_an_answer_or_give_two() {
    let _machine = alone();
    let usherd = services(&[(
        "dies",
        &[
            "/bin/sh",
            "-c",
            "read -r word; [ \"$word\" = die ] && kill -9 $$; echo $word",
        ],
        "max = 4",
    )]);
    let mut client = Client::connect(&usherd);
    let calls = 300_u32;
    for id in 1..=calls {
        client.call(
            id,
            "dies",
            if id % 3 == 0 {
                b"die\n".to_vec()
            } else {
                format!("{id}\n").into_bytes()
            }
            .as_slice(),
        );
    }
    for _ in 0..calls {
        let (id, ended) = client.next();
        if id % 3 == 0 {
            assert_eq!(ended.code(), Some(ErrorCode::Crashed { status: -9 }), "{id}");
        } else {
            assert_eq!(ended, Ended::Answer(format!("{id}\n").into_bytes()));
        }
    }
    none_left(&usherd);
    usherd.stop();
}

#[test]
fn a_firm_drain_tells_whom_a_program_had_from_whom_it_did_not() {
    let mut usherd = services(&[("hang", &["/bin/sleep", "100"], "max = 1\ngrace = \"200ms\"")]);
    let mut client = Client::connect(&usherd);
    client.call(1, "hang", b"");
    client.call(2, "hang", b"");
    wait_for("the program runs", Duration::from_secs(5), || {
        (children(&usherd) == 1).then_some(())
    });
    wait_for("the other waits", Duration::from_secs(5), || {
        (service(&usherd, "hang")["queued"] == 1).then_some(())
    });
    usherd.command(&["drain", "firm"]);
    let mut ends: Vec<(u32, Option<ErrorCode>)> = (0..2)
        .map(|_| client.next())
        .map(|(id, end)| (id, end.code()))
        .collect();
    ends.sort_by_key(|(id, _)| *id);
    assert_eq!(
        ends,
        [
            (1, Some(ErrorCode::Crashed { status: -2 })),
            (2, Some(ErrorCode::ShuttingDown))
        ]
    );
    none_left(&usherd);
    usherd.expect_end();
}
