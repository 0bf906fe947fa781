//! The daemon's own bind by SASL at a server that lies, replays, asks for too much, or has no end: it is not bound, it says why,
//! and no client's operation goes there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::ber::{elements, int, seq, take, text, tlv, value};
use crate::client::{Client, message};
use crate::ops;
use crate::proc::{run, shown, wait_for};
use crate::slapd::BASE;
use crate::usherd::{BINARY, Setup, server};

const IN_PROGRESS: i64 = 14;

/// What the server does with a bind by SCRAM-SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// It has no such mechanism.
    Ignorant,
    /// All is well but for the signature.
    Forged,
    /// Success in the end, and no signature at all.
    Unsigned,
    /// Success at once.
    Hasty,
    /// A challenge for somebody else.
    Astray,
    /// Four thousand million iterations.
    Dear,
    /// One iteration.
    Cheap,
    /// The step is followed by another one, and that by another.
    Endless,
    /// What is no message of SCRAM.
    Rubbish,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    binds: AtomicUsize,
    others: AtomicUsize,
}

fn start(way: Way) -> (String, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            let seen = Arc::clone(&shared);
            std::thread::spawn(move || serve(stream, way, &seen));
        }
    });
    (format!("ldap://127.0.0.1:{port}"), seen)
}

fn serve(mut stream: TcpStream, way: Way, seen: &Seen) {
    let (mut inbox, mut chunk) = (Vec::new(), [0; 4096]);
    let mut step = 0;
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        inbox.extend_from_slice(&chunk[..read]);
        while let Some((_, content, used)) = take(&inbox) {
            let parts = elements(content);
            let (id, (tag, op)) = (value(parts[0].1), parts[1]);
            let answer = if tag == 0x60 {
                seen.binds.fetch_add(1, Ordering::SeqCst);
                step += 1;
                let sasl = elements(op)[2].1;
                let said = elements(sasl).get(1).map_or(&b""[..], |found| found.1);
                let (code, said) = bind(way, step, said);
                bound(id, code, said.as_deref())
            } else {
                seen.others.fetch_add(1, Ordering::SeqCst);
                message(id, &seq(ops::SEARCH_DONE, &[int(0x0A, 0), text(""), text("")]))
            };
            if tag != 0x42 && stream.write_all(&answer).is_err() {
                return;
            }
            inbox.drain(..used);
        }
    }
}

fn bound(id: i64, code: i64, said: Option<&[u8]>) -> Vec<u8> {
    let mut parts = vec![int(0x0A, code), text(""), text("")];
    parts.extend(said.map(|said| tlv(0x87, said)));
    message(id, &seq(ops::BIND_RESPONSE, &parts))
}

fn bind(way: Way, step: usize, said: &[u8]) -> (i64, Option<Vec<u8>>) {
    let text = String::from_utf8_lossy(said).into_owned();
    let nonce = text.rsplit_once("r=").map_or("", |(_, nonce)| nonce);
    let challenge = |nonce: &str, iterations: &str| {
        let text = format!("r={nonce},s=c2FsdHNhbHQ=,i={iterations}");
        (IN_PROGRESS, Some(text.into_bytes()))
    };
    let forged = b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_vec();
    match (way, step) {
        (Way::Ignorant, _) => (7, None),
        (Way::Hasty, 1) => (0, None),
        (Way::Astray, 1) => challenge("abcdefghijklmnopqrstuvwxyz", "4096"),
        (Way::Dear, 1) => challenge(&format!("{nonce}x"), "4000000000"),
        (Way::Cheap, 1) => challenge(&format!("{nonce}x"), "1"),
        (Way::Rubbish, 1) => (IN_PROGRESS, Some(vec![0xFF; 3000])),
        (_, 1) => challenge(&format!("{nonce}x"), "4096"),
        (Way::Forged, 2) => (0, Some(forged)),
        (Way::Endless, _) => (IN_PROGRESS, None),
        _ => (0, None),
    }
}

const WAYS: [(Way, usize, &str); 9] = [
    (Way::Ignorant, 1, "authMethodNotSupported (7)"),
    (Way::Forged, 2, "the server could not prove that it knows the password"),
    (Way::Unsigned, 2, "without having proved that it knows the password"),
    (Way::Hasty, 1, "without having proved that it knows the password"),
    (Way::Astray, 1, "the server's nonce does not extend ours"),
    (Way::Dear, 1, "number of SCRAM iterations is out of bounds"),
    (Way::Cheap, 1, "number of SCRAM iterations is out of bounds"),
    (Way::Endless, 2, "more steps than the mechanism has"),
    (Way::Rubbish, 1, "the server's SCRAM message is malformed"),
];

fn setup(url: &str) -> Setup {
    let lines = "identity = \"proxied\"\nbind_mechanism = \"SCRAM-SHA-256\"\nbind_authcid = \"usherd\"\n\
                 bind_password_file = \"usherd.secret\"\nretry_min = \"100ms\"\nretry_max = \"200ms\"";
    Setup::corp(lines, &[server(url, "")])
}

#[test]
fn a_server_that_lies_is_not_bound_to_and_gets_nothing() {
    for (way, steps, why) in WAYS {
        let (url, seen) = start(way);
        let usherd = setup(&url).launch();
        // It is tried again and again, and is never used.
        wait_for(why, Duration::from_secs(20), || {
            std::thread::sleep(Duration::from_millis(20));
            let tried = seen.connections.load(Ordering::SeqCst) > 6;
            (tried && usherd.process.output().contains(why)).then_some(())
        });
        let mut client = Client::connect(&usherd.plain(0));
        let search = ops::search(BASE, ops::BASE, &ops::present("objectClass"), &["1.1"]);
        assert_eq!(client.one(&search).code(), 52, "{way:?}");
        assert_ne!(usherd.server_state(0), "up", "{way:?}");
        let [connections, binds, others] =
            [&seen.connections, &seen.binds, &seen.others].map(|count| count.load(Ordering::SeqCst));
        assert!(
            binds <= connections * steps,
            "{way:?}: {binds} binds on {connections} connections"
        );
        assert_eq!(others, 0, "{way:?}: a client's operation went there");
        usherd.stop();
    }
}

#[test]
fn probe_says_of_such_a_server_what_it_did() {
    for (way, _, why) in WAYS {
        let (url, _) = start(way);
        let (_folder, file) = setup(&url).written();
        let begun = Instant::now();
        let output = run(BINARY, &["check", "-c", &file, "--probe"], Duration::from_secs(60));
        assert_eq!(output.status.code(), Some(1), "{way:?}: {}", shown(&output));
        assert!(shown(&output).contains(why), "{way:?}: {}", shown(&output));
        assert!(begun.elapsed() < Duration::from_secs(50), "{way:?}");
    }
}
