//! The calling side against servers that answer late, in odd order, or nonsense. (Against usherd itself:
//! `daemon/tests/process/sdk.rs`.)
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use usherd_sdk::client::{CallError, Client, ConnectError, ErrorCode, Said};
use wire::frame::Step;
use wire::rpc::{self, Kind};

/// A listener whose one client is served by `behave`, after the hellos.
struct Fake {
    path: PathBuf,
    serving: Option<JoinHandle<()>>,
}

impl Fake {
    fn new(behave: impl FnOnce(&mut Peer) + Send + 'static) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("usherd-sdk-{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let serving = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut peer = Peer {
                stream,
                buffer: Vec::new(),
            };
            assert_eq!(peer.hear().0, Kind::Hello);
            peer.say(|out| rpc::write_hello(out, 1 << 20, "fake/1"));
            behave(&mut peer);
        });
        Self {
            path,
            serving: Some(serving),
        }
    }

    fn client(&self) -> Client {
        Client::connect(&format!("unix:{}", self.path.display())).unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let served = self.serving.take().unwrap().join();
        if !std::thread::panicking() {
            served.unwrap();
        }
    }
}

struct Peer {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Peer {
    fn hear(&mut self) -> (Kind, u32, Vec<u8>) {
        loop {
            if let Step::Frame { len } = rpc::split(&self.buffer, rpc::FRAME_BYTES_MAX) {
                let frame = rpc::peek(&self.buffer[..len]).unwrap();
                let heard = (frame.kind, frame.call, frame.payload.to_vec());
                self.buffer.drain(..len);
                return heard;
            }
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).unwrap();
            assert!(read > 0, "the client has gone");
            self.buffer.extend_from_slice(&bytes[..read]);
        }
    }

    fn say(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.stream.write_all(&out).unwrap();
    }

    fn done(&mut self, call: u32, payload: &[u8]) {
        self.say(|out| rpc::write_reply_done(out, call, payload).unwrap());
    }

    fn ends(&mut self) {
        assert_eq!(self.stream.read(&mut [0; 10]).unwrap_or(0), 0, "the client closes");
    }
}

#[test]
fn answers_in_parts_and_out_of_order_find_their_calls() {
    let fake = Fake::new(|peer| {
        let calls: Vec<u32> = (0..3).map(|_| peer.hear().1).collect();
        peer.say(|out| rpc::write_reply_part(out, calls[2], b"C1").unwrap());
        peer.done(calls[0], b"A");
        peer.done(calls[2], b"C2");
        peer.done(calls[1], b"B");
        peer.ends();
    });
    let client = fake.client();
    let replies: Vec<_> = ["a", "b", "c"]
        .map(|payload| client.request("s").send(payload.as_bytes()).unwrap())
        .into_iter()
        .collect();
    let answers: Vec<Vec<u8>> = replies.into_iter().map(|reply| reply.wait().unwrap()).collect();
    assert_eq!(answers, [&b"A"[..], b"B", b"C1C2"]);
}

#[test]
fn a_question_is_answered_and_without_an_answer_the_call_is_canceled() {
    let fake = Fake::new(|peer| {
        let call = peer.hear().1;
        peer.say(|out| rpc::write_ask(out, call, b"who?").unwrap());
        assert_eq!(peer.hear(), (Kind::Input, call, b"me".to_vec()));
        peer.done(call, b"hello me");
        let call = peer.hear().1;
        peer.say(|out| rpc::write_ask(out, call, b"who?").unwrap());
        assert_eq!(peer.hear(), (Kind::Cancel, call, Vec::new()));
        peer.say(|out| rpc::write_error(out, call, ErrorCode::Canceled, ""));
        let call = peer.hear().1;
        peer.done(call, b"after");
        peer.ends();
    });
    let client = fake.client();
    let reply = client.request("s").send(b"").unwrap();
    let answer = reply.wait_answering(|question| (question == b"who?").then(|| b"me".to_vec()));
    assert_eq!(answer, Ok(b"hello me".to_vec()));
    assert_eq!(client.call("s", b""), Err(CallError::NeedsInput));
    assert_eq!(client.call("s", b""), Ok(b"after".to_vec()));
}

#[test]
fn a_reply_that_is_dropped_cancels_its_call_and_what_still_comes_is_thrown_away() {
    let fake = Fake::new(|peer| {
        let call = peer.hear().1;
        peer.say(|out| rpc::write_reply_part(out, call, b"first").unwrap());
        assert_eq!(peer.hear(), (Kind::Cancel, call, Vec::new()));
        peer.say(|out| rpc::write_reply_part(out, call, b"late").unwrap());
        peer.done(call, b"later");
        let call = peer.hear().1;
        peer.done(call, b"after");
        peer.ends();
    });
    let client = fake.client();
    let mut reply = client.request("s").send(b"").unwrap();
    assert_eq!(reply.next(), Ok(Said::Part(b"first".to_vec())));
    drop(reply);
    assert_eq!(client.call("s", b""), Ok(b"after".to_vec()));
}

#[test]
fn a_silent_server_misses_the_deadline_and_a_connection_that_ends_ends_its_calls() {
    let fake = Fake::new(|peer| {
        let call = peer.hear().1;
        assert_eq!(peer.hear(), (Kind::Cancel, call, Vec::new()));
        assert_eq!(peer.hear().0, Kind::Call);
    });
    let client = fake.client();
    let start = Instant::now();
    let reply = client
        .request("s")
        .deadline(Duration::from_millis(50))
        .send(b"")
        .unwrap();
    assert_eq!(reply.wait(), Err(CallError::Unanswered));
    assert!(start.elapsed() < Duration::from_secs(5));
    let lost = client.call("s", b"").unwrap_err();
    assert!(matches!(lost, CallError::Lost(_)) && !lost.retry_is_safe(), "{lost}");
    let unsent = client.call("s", b"").unwrap_err();
    assert!(
        matches!(unsent, CallError::NotSent(_)) && unsent.retry_is_safe(),
        "{unsent}"
    );
}

#[test]
fn nonsense_ends_the_connection() {
    let mut odd = Vec::new();
    rpc::write_call(&mut odd, 1, 0, "s", b"").unwrap();
    let mut twice = Vec::new();
    rpc::write_reply_done(&mut twice, 1, b"").unwrap();
    let mut strange = twice.clone();
    strange[7] = 77;
    twice.extend_from_slice(&twice.clone());
    for nonsense in [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), odd, strange] {
        let fake = Fake::new(move |peer| {
            peer.hear();
            peer.stream.write_all(&nonsense).unwrap();
            peer.ends();
        });
        let error = fake.client().call("s", b"").unwrap_err();
        let protocol = matches!(
            &error,
            CallError::Refused {
                code: ErrorCode::Protocol,
                ..
            }
        );
        assert!(protocol, "{error}");
    }
}

#[test]
fn a_listener_that_refuses_us_says_why_and_wrong_addresses_what_would_be_right() {
    let fake = Fake::new(|peer| peer.say(|out| rpc::write_error(out, 0, ErrorCode::Denied, "wrong token")));
    // It comes right behind the hello: perhaps before we have connected, perhaps after.
    let error = match Client::connect(&format!("unix:{}", fake.path.display())) {
        Ok(client) => client.call("s", b"").unwrap_err(),
        Err(ConnectError::Refused(error)) => error,
        Err(other) => panic!("{other}"),
    };
    // Or the call met a closed socket before we had read why.
    let unsent = matches!(&error, CallError::NotSent(why) if why.contains("pipe"));
    assert!(unsent || error.to_string().contains("wrong token"), "{error}");
    for address in ["", "rpc.sock", "host:", "host:99999", ":1"] {
        let Err(ConnectError::Address(why)) = Client::connect(address) else {
            panic!("{address:?}");
        };
        assert!(why.contains("host:port"), "{why}");
    }
    assert!(matches!(
        Client::connect("unix:/nowhere/at/all"),
        Err(ConnectError::Io(_))
    ));
}

#[test]
fn what_is_too_large_is_refused_on_both_ways() {
    let fake = Fake::new(|peer| {
        let call = peer.hear().1;
        peer.say(|out| rpc::write_reply_part(out, call, &[0; 600]).unwrap());
        peer.say(|out| rpc::write_reply_part(out, call, &[0; 600]).unwrap());
        assert_eq!(peer.hear(), (Kind::Cancel, call, Vec::new()));
        peer.ends();
    });
    let address = format!("unix:{}", fake.path.display());
    let client = Client::builder().answer_bytes_max(1000).connect(&address).unwrap();
    assert_eq!(client.call("s", &vec![0; 1 << 20]), Err(CallError::TooLarge(1 << 20)));
    assert_eq!(client.call("s", b""), Err(CallError::TooLarge(1000)));
}
