//! Services from afar and in one line: TLS, tokens, descriptors that travel with calls, `usherd service run`.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Output;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use wire::frame::Step;
use wire::rpc::{self, ErrorCode, Kind};

use crate::certificates::certificates;
use crate::proc::{Folder, Process, run, shown, wait_for};
use crate::usherd::{BINARY, Setup, Usherd, listener_tls, restrict};

const TOKEN: &str = "a token of thirty-two characters";
const UPPER: &str = "[service.upper]\nhelper = \"exec\"\nprogram = [\"/usr/bin/tr\", \"a-z\", \"A-Z\"]\n";

fn guarded(lines: &str) -> Usherd {
    let setup = Setup::new();
    let token = setup.folder.write("token", format!("{TOKEN}\n"));
    restrict(&token);
    let wrong = setup.folder.write("wrong", "another token of as many letters\n");
    restrict(&wrong);
    setup
        .listen(
            "rpc",
            "127.0.0.1:0",
            &format!("{}\ntoken_file = \"token\"\n{lines}", listener_tls()),
        )
        .listen("rpc", "127.0.0.1:0", &format!("token_file = \"token\"\n{lines}"))
        .section(UPPER)
        .start()
}

fn call(connect: &str, args: &[&str]) -> Output {
    run(
        BINARY,
        &[&["call", "--connect", connect], args, &["upper", "hello"]].concat(),
        Duration::from_secs(30),
    )
}

fn refused(output: &Output, said: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", shown(output));
    assert!(output.stdout.is_empty(), "{}", shown(output));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(said), "no {said:?} in {}", shown(output));
}

#[test]
fn over_tls_whoever_has_the_token_is_answered_and_nobody_else() {
    let usherd = guarded("");
    let ca = certificates().ca();
    let ca = ca.to_str().expect("a path");
    let other = certificates().other_ca();
    let (token, wrong) = (usherd.folder.file("token"), usherd.folder.file("wrong"));
    let tls = format!("tls://localhost:{}", usherd.port(0));
    let output = call(&tls, &["--ca-file", ca, "--token-file", &token]);
    assert_eq!(output.stdout, b"HELLO", "{}", shown(&output));
    refused(&call(&tls, &["--ca-file", ca, "--token-file", &wrong]), "denied");
    refused(&call(&tls, &["--ca-file", ca]), "denied");
    refused(
        &call(
            &tls,
            &["--ca-file", other.to_str().expect("a path"), "--token-file", &token],
        ),
        "certificate",
    );
    let plain = format!("tcp://127.0.0.1:{}", usherd.port(1));
    let output = call(&plain, &["--token-file", &token]);
    assert_eq!(output.stdout, b"HELLO", "{}", shown(&output));
    refused(&call(&plain, &["--token-file", &wrong]), "denied");
    refused(&call(&plain, &[]), "denied");
    assert!(!usherd.process.output().contains(TOKEN), "the token is in the log");
}

/// 16 MiB there and back under TLS, and many calls at once over one connection.
#[test]
fn over_tls_payloads_of_all_sizes_come_back_whole() {
    let setup = Setup::new()
        .listen("rpc", "127.0.0.1:0", &listener_tls())
        .section("[service.cat]\nhelper = \"exec\"\nprogram = [\"/bin/cat\"]\n");
    let usherd = setup.start();
    let ca = certificates().ca();
    let tls = format!("tls://localhost:{}", usherd.port(0));
    for size in [0, 1, 100, 65_536, 1 << 20, 16 << 20] {
        let request: Vec<u8> = (0_u8..251).cycle().take(size).collect();
        let input = usherd.folder.write("input", &request);
        let output = crate::proc::run_reading(
            BINARY,
            &[
                "call",
                "--connect",
                &tls,
                "--ca-file",
                ca.to_str().expect("a path"),
                "cat",
            ],
            &[],
            std::path::Path::new(&input),
            Duration::from_secs(60),
        );
        assert!(output.status.success(), "{}", shown(&output));
        assert!(
            output.stdout == request,
            "{size} bytes came back as {}",
            output.stdout.len()
        );
    }
}

/// A stranger is heard for so long, and for no more than a hello.
#[test]
fn a_stranger_cannot_stay_and_cannot_fill_memory() {
    let usherd = guarded("partial_timeout = \"1s\"");
    let mut silent = TcpStream::connect(("127.0.0.1", usherd.port(1))).expect("the listener");
    silent
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    let mut rest = Vec::new();
    assert!(
        matches!(silent.read_to_end(&mut rest), Ok(0)),
        "who says nothing is closed: {rest:?}"
    );
    let mut loud = TcpStream::connect(("127.0.0.1", usherd.port(1))).expect("the listener");
    loud.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut frame = Vec::new();
    rpc::write_call(&mut frame, 1, 0, "upper", &vec![0; 1 << 20]).expect("a call");
    loud.write_all(&frame[..100]).expect("the daemon reads");
    let mut answer = Vec::new();
    let _ = loud.read_to_end(&mut answer);
    let said = rpc::peek(&answer).expect("a frame");
    assert_eq!(
        rpc::read_error(said.payload).expect("an error").0,
        ErrorCode::TooLarge,
        "its megabyte is not waited for"
    );
}

/// Sends bytes and these descriptors with the first of them.
fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    let sent = sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).expect("the daemon reads");
    assert_eq!(sent, bytes.len());
}

/// The next frame: kind, call, and the answer or the error's text.
fn next(stream: &mut UnixStream, unread: &mut Vec<u8>) -> (Kind, u32, Vec<u8>) {
    loop {
        if let Step::Frame { len } = rpc::split(unread, rpc::FRAME_BYTES_MAX) {
            let bytes: Vec<u8> = unread.drain(..len).collect();
            let frame = rpc::peek(&bytes).expect("a frame");
            return (frame.kind, frame.call, frame.payload.to_vec());
        }
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).expect("the daemon answers");
        assert!(n > 0, "the daemon closed the connection");
        unread.extend_from_slice(&piece[..n]);
    }
}

fn descriptors_of(usherd: &Usherd) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", usherd.process.pid()))
        .expect("it runs")
        .count()
}

/// Their number once it stays: whoever asked whether the daemon is ready has hung up.
fn settled_descriptors_of(usherd: &Usherd) -> usize {
    let mut last = [0; 5];
    wait_for("the daemon is at rest", Duration::from_secs(10), || {
        last.rotate_left(1);
        last[4] = descriptors_of(usherd);
        std::thread::sleep(Duration::from_millis(50));
        last.iter().all(|one| *one == last[0]).then_some(last[0])
    })
}

fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    (reader.into(), writer)
}

/// Everything that was written, once nobody has the other end any more.
fn closed(mut reader: File) -> Vec<u8> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all).expect("a pipe");
    all
}

#[test]
fn a_descriptor_that_comes_with_a_call_is_taken_or_closed_and_never_kept() {
    let usherd = Setup::new().listen("rpc", "unix:rpc", "").section(UPPER).start();
    let before = settled_descriptors_of(&usherd);
    let mut stream = UnixStream::connect(usherd.unix("rpc")).expect("the listener");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    let mut unread = Vec::new();
    // Programs of the kind exec answer as always; the descriptor is closed.
    for id in 1..=50 {
        let (reader, writer) = pipe();
        let mut frame = Vec::new();
        rpc::write_call_direct(&mut frame, id, 0, "upper", b"direct").expect("a call");
        // Every other one in two pieces: the descriptor comes with the first.
        if id % 2 == 0 {
            send(&stream, &frame[..9], &[writer.as_fd()]);
            send(&stream, &frame[9..], &[]);
        } else {
            send(&stream, &frame, &[writer.as_fd()]);
        }
        drop(writer);
        assert_eq!(
            next(&mut stream, &mut unread),
            (Kind::ReplyDone, id, b"DIRECT".to_vec())
        );
        assert_eq!(closed(reader), b"");
    }
    // One that nobody has asked for.
    for id in 51..=60 {
        let (reader, writer) = pipe();
        let mut frame = Vec::new();
        rpc::write_call(&mut frame, id, 0, "upper", b"plain").expect("a call");
        send(&stream, &frame, &[writer.as_fd()]);
        drop(writer);
        assert_eq!(closed(reader), b"", "closed before the answer or with it");
        assert_eq!(next(&mut stream, &mut unread), (Kind::ReplyDone, id, b"PLAIN".to_vec()));
    }
    // A service that is not there, a call that is canceled with its connection.
    let (reader, writer) = pipe();
    let mut frame = Vec::new();
    rpc::write_call_direct(&mut frame, 70, 0, "nobody", b"").expect("a call");
    send(&stream, &frame, &[writer.as_fd()]);
    drop(writer);
    assert_eq!(next(&mut stream, &mut unread).0, Kind::Error);
    assert_eq!(closed(reader), b"");
    drop(stream);
    wait_for("no descriptor is left", Duration::from_secs(5), || {
        (descriptors_of(&usherd) == before).then_some(())
    });
}

#[test]
fn a_descriptor_too_many_or_too_few_ends_the_connection_alone() {
    let usherd = Setup::new().listen("rpc", "unix:rpc", "").section(UPPER).start();
    let before = descriptors_of(&usherd);
    let mut direct = Vec::new();
    rpc::write_call_direct(&mut direct, 1, 0, "upper", b"x").expect("a call");
    for count in [0, 2, 4] {
        let mut stream = UnixStream::connect(usherd.unix("rpc")).expect("the listener");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        let pipes: Vec<_> = (0..count).map(|_| pipe()).collect();
        let writers: Vec<_> = pipes.iter().map(|(_, writer)| writer.as_fd()).collect();
        send(&stream, &direct, &writers);
        let (kind, id, payload) = next(&mut stream, &mut Vec::new());
        assert_eq!((kind, id), (Kind::Error, 0), "{count} descriptors");
        assert_eq!(rpc::read_error(&payload).expect("an error").0, ErrorCode::Protocol);
        for (reader, writer) in pipes {
            drop(writer);
            assert_eq!(closed(reader), b"");
        }
    }
    // Many, with bytes that never make a call.
    let stream = UnixStream::connect(usherd.unix("rpc")).expect("the listener");
    let (_reader, writer) = pipe();
    for byte in &direct[..20] {
        if sendmsg_one(&stream, *byte, &writer).is_err() {
            break;
        }
    }
    wait_for("no descriptor is left", Duration::from_secs(5), || {
        (descriptors_of(&usherd) <= before).then_some(())
    });
    drop(stream);
}

fn sendmsg_one(stream: &UnixStream, byte: u8, descriptor: &OwnedFd) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [descriptor.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(stream, &[IoSlice::new(&[byte])], &mut control, SendFlags::NOSIGNAL)
}

/// A client that says nothing but what is passed over makes the daemon keep nothing.
#[test]
fn frames_that_are_passed_over_are_not_collected() {
    let usherd = Setup::new().listen("rpc", "unix:rpc", "").section(UPPER).start();
    let mut stream = UnixStream::connect(usherd.unix("rpc")).expect("the listener");
    let mut cancels = Vec::new();
    for _ in 0..3000 {
        rpc::write_cancel(&mut cancels, 9).expect("a cancel");
    }
    let before = resident(&usherd);
    for _ in 0..400 {
        stream.write_all(&cancels).expect("the daemon reads");
    }
    let mut call = Vec::new();
    rpc::write_call(&mut call, 1, 0, "upper", b"still here").expect("a call");
    stream.write_all(&call).expect("the daemon reads");
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    assert_eq!(next(&mut stream, &mut Vec::new()).2, b"STILL HERE");
    let grown = resident(&usherd).saturating_sub(before);
    assert!(grown < 8 << 20, "24 MB of nothing left {grown} bytes behind");
}

fn resident(usherd: &Usherd) -> usize {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", usherd.process.pid())).expect("it runs");
    let pages: usize = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    pages * 4096
}

/// What a line of the announcement says to type, typed.
fn typed(line: &str) -> Output {
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    run(BINARY, &words, Duration::from_secs(30))
}

fn announced(process: &mut Process, begins: &str) -> Vec<String> {
    let begins = begins.to_owned();
    wait_for("it says how to call it", Duration::from_secs(20), || {
        if let Some(status) = process.ended() {
            panic!("it ended: {status}\n{}", process.output());
        }
        let output = process.output();
        output.contains("Ctrl-C").then(|| {
            let lines = output.lines().map(str::trim);
            lines
                .filter(|line| line.starts_with(&begins))
                .map(str::to_owned)
                .collect()
        })
    })
}

#[test]
fn a_service_in_one_line_says_how_it_is_called_and_ends_cleanly() {
    let folder = Folder::new("one-line");
    let log = folder.path().join("log");
    let unix = format!("unix:{}", folder.path().join("s").display());
    let token = folder.write("token", TOKEN);
    restrict(&token);
    let (cert, key) = certificates().server();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let mut process = Process::start(
        BINARY,
        &[
            "service",
            "run",
            "upper",
            "--listen",
            "127.0.0.1:0",
            "--listen",
            &unix,
            "--max",
            "2",
            "--request-timeout",
            "5s",
            "--token-file",
            &token,
            "--cert-file",
            &cert,
            "--key-file",
            &key,
            "--",
            "tr",
            "a-z",
            "A-Z",
        ],
        &log,
    );
    let calls = announced(&mut process, "usherd call");
    assert_eq!(calls.len(), 2, "{}", process.output());
    assert!(
        calls[0].contains("--connect tls://127.0.0.1:") && !calls[0].contains(":0 "),
        "{calls:?}"
    );
    for line in &calls {
        let line = line.replace("call ", &format!("call --ca-file {} ", certificates().ca().display()));
        let output = typed(&line);
        assert_eq!(output.stdout, b"HELLO", "{line}\n{}", shown(&output));
    }
    let status = announced(&mut process, "usherd status");
    let control = status[0].rsplit(' ').next().expect("a path").to_owned();
    let output = typed(&status[0]);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("upper"),
        "{}",
        shown(&output)
    );
    process.signal("INT");
    assert_eq!(
        process.wait(Duration::from_secs(10)).code(),
        Some(0),
        "{}",
        process.output()
    );
    assert!(!std::path::Path::new(&control).exists() && !folder.path().join("s").exists());
    assert!(!std::path::Path::new(&control).parent().expect("a folder").exists());
}

#[test]
fn a_service_in_one_line_runs_where_it_was_typed_with_the_variables_that_were_named() {
    let folder = Folder::new("typed");
    let (sock, log) = (folder.file("s"), folder.path().join("log"));
    folder.write("word", "from the folder ");
    let line = format!(
        "cd {} && SAID=handed-on KEPT=back exec {BINARY} service run words --listen unix:{sock} --pass SAID -- \
         /bin/sh -c 'cat word; env'",
        folder.path().display()
    );
    let mut process = Process::start("/bin/sh", &["-c", &line], &log);
    let calls = announced(&mut process, "usherd call");
    let output = typed(&calls[0]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("from the folder "), "{}", shown(&output));
    assert!(
        said.contains("SAID=handed-on") && !said.contains("KEPT"),
        "{}",
        shown(&output)
    );
    process.signal("INT");
    assert_eq!(process.wait(Duration::from_secs(10)).code(), Some(0));
}

#[test]
fn a_service_in_one_line_has_helpers_that_speak_dbus() {
    let folder = Folder::new("dbus-line");
    let program = crate::helpers_dbus::gdbus(&[]);
    let control = folder.file("control");
    let mut args = vec![
        "service",
        "run",
        "words",
        "--dbus",
        "--max",
        "2",
        "--control",
        &control,
        "--",
    ];
    args.extend(program.iter().map(String::as_str));
    let mut process = Process::start(BINARY, &args, &folder.path().join("log"));
    let calls = announced(&mut process, "usherd call");
    for word in ["echo:one", "echo:two"] {
        let output = typed(&calls[0].replace("hello", word));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.trim_end(), &word[5..], "{}", shown(&output));
    }
    let output = run(
        BINARY,
        &["status", "--json", "--control", &control],
        Duration::from_secs(10),
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("helper_dbus.py/1"), "{}", shown(&output));
    process.signal("INT");
    assert_eq!(process.wait(Duration::from_secs(20)).code(), Some(0));
}

#[test]
fn mistakes_of_a_service_in_one_line_are_told() {
    for (args, said) in [
        (&["x", "--min", "2", "--", "tr"][..], "`min` is for helpers that stay"),
        (&["x", "--dbus", "--helper", "--", "tr"], "cannot be used with"),
        (&["x", "--", "no-such-program-anywhere"], "no-such-program-anywhere"),
        (&["x", "--listen", "0.0.0.0:0", "--", "tr"], "open to everyone"),
        (&["x", "--listen", "nonsense", "--", "tr"], "`address`"),
    ] {
        let output = run(BINARY, &[&["service", "run"], args].concat(), Duration::from_secs(10));
        assert_eq!(output.status.code(), Some(2), "{args:?} {}", shown(&output));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(said), "{args:?}: no {said:?} in {error}");
    }
}
