//! The daemon's own bind by GSSAPI at a server that has no key, or stands between the daemon and one that has: it is not bound, it
//! says why, and no client's operation goes there.

#![cfg(feature = "gssapi")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::ber::{elements, int, seq, take, text, tlv, value};
use crate::client::{Client, Target, message};
use crate::kerberos::Realm;
use crate::ops;
use crate::own_bind_gssapi::{by, probe, slapd};
use crate::proc::{shown, wait_for};
use crate::slapd::BASE;
use crate::usherd::{Setup, server};

const IN_PROGRESS: i64 = 14;
const KERBEROS: &str = "Kerberos: ";
const NOT_PROVED: &str = "the server says success before GSSAPI is at its end: it has not proved who it is";

/// What the server does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// It has no such mechanism.
    Ignorant,
    /// Success at once.
    Hasty,
    /// A token of noise.
    Garbage,
    /// The list of layers in place of the token that proves who it is.
    Skipping,
    /// An answer without a token.
    Empty,
    /// A token that is too long.
    Long,
    /// What we said.
    Echo,
    /// Passes on to the right server until that has proved itself, and then says success itself.
    Between,
    /// Passes on, and changes a bit in the list of layers.
    Changing,
    /// Passes on, and repeats the proof in place of the layers.
    Repeating,
}

const WAYS: [(Way, &str); 10] = [
    (Way::Ignorant, "authMethodNotSupported (7)"),
    (Way::Hasty, NOT_PROVED),
    (Way::Garbage, KERBEROS),
    (Way::Skipping, KERBEROS),
    (Way::Empty, "the server's answer has no GSSAPI token in it"),
    (
        Way::Long,
        "the server's GSSAPI token is longer than gssapi_token_bytes_max (64KiB)",
    ),
    (Way::Echo, KERBEROS),
    (Way::Between, NOT_PROVED),
    (Way::Changing, KERBEROS),
    (Way::Repeating, KERBEROS),
];

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    others: AtomicUsize,
}

fn start(way: Way, right: u16) -> (String, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            let seen = Arc::clone(&shared);
            std::thread::spawn(move || serve(stream, way, right, &seen));
        }
    });
    (format!("ldap://127.0.0.1:{port}"), seen)
}

/// The next message, whole.
fn next(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut chunk = [0; 4096];
    loop {
        if let Some((_, _, used)) = take(inbox) {
            return Some(inbox.drain(..used).collect());
        }
        match stream.read(&mut chunk) {
            Ok(read @ 1..) => inbox.extend_from_slice(&chunk[..read]),
            _ => return None,
        }
    }
}

fn serve(mut stream: TcpStream, way: Way, right: u16, seen: &Seen) {
    let mut behind = TcpStream::connect(("127.0.0.1", right)).expect("slapd is there");
    let (mut inbox, mut inbox_behind) = (Vec::new(), Vec::new());
    let (mut step, mut proof) = (0, Vec::new());
    while let Some(request) = next(&mut stream, &mut inbox) {
        let (_, content, _) = take(&request).expect("it is whole");
        let parts = elements(content);
        let (id, (tag, op)) = (value(parts[0].1), parts[1]);
        let answer = if tag == 0x60 {
            step += 1;
            let sasl = elements(op)[2].1;
            let said = elements(sasl).get(1).map_or(&b""[..], |found| found.1);
            match alone(way, said) {
                Some((code, said)) => bound(id, code, said.as_deref()),
                None => {
                    behind.write_all(&request).expect("slapd takes it");
                    let answer = next(&mut behind, &mut inbox_behind).expect("slapd answers");
                    between(way, step, id, &answer, &mut proof)
                }
            }
        } else {
            seen.others.fetch_add(usize::from(tag != 0x42), Ordering::SeqCst);
            message(id, &seq(ops::SEARCH_DONE, &[int(0x0A, 0), text(""), text("")]))
        };
        if tag != 0x42 && stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Of a server that asks nobody: its code, and what it says.
fn alone(way: Way, said: &[u8]) -> Option<(i64, Option<Vec<u8>>)> {
    Some(match way {
        Way::Ignorant => (7, None),
        Way::Hasty => (0, None),
        Way::Garbage => (IN_PROGRESS, Some(vec![0x60; 300])),
        Way::Skipping => (IN_PROGRESS, Some(vec![1, 0, 0, 0])),
        Way::Empty => (IN_PROGRESS, None),
        Way::Long => (IN_PROGRESS, Some(vec![0x60; 65_537])),
        Way::Echo => (IN_PROGRESS, Some(said.to_vec())),
        Way::Between | Way::Changing | Way::Repeating => return None,
    })
}

/// Of one that stands between.
fn between(way: Way, step: usize, id: i64, answer: &[u8], proof: &mut Vec<u8>) -> Vec<u8> {
    let (_, content, _) = take(answer).expect("it is whole");
    let parts = elements(elements(content)[1].1);
    let mut said = parts
        .iter()
        .find(|(tag, _)| *tag == 0x87)
        .map_or(Vec::new(), |(_, said)| said.to_vec());
    if step == 1 {
        proof.clone_from(&said);
        return answer.to_vec();
    }
    match way {
        Way::Between => bound(id, 0, None),
        Way::Repeating => bound(id, IN_PROGRESS, Some(proof)),
        _ => {
            // The message is protected by a checksum, not hidden: four octets of it are the list itself.
            let last = said.len() - 1;
            said[last] ^= 1;
            bound(id, IN_PROGRESS, Some(&said))
        }
    }
}

fn bound(id: i64, code: i64, said: Option<&[u8]>) -> Vec<u8> {
    let mut parts = vec![int(0x0A, code), text(""), text("")];
    parts.extend(said.map(|said| tlv(0x87, said)));
    message(id, &seq(ops::BIND_RESPONSE, &parts))
}

fn port_of(target: &Target) -> u16 {
    match target {
        Target::Plain(address) => address.port(),
        _ => panic!("it is asked for a plain one"),
    }
}

#[test]
fn a_gssapi_server_that_lies_is_not_bound_to_and_gets_nothing() {
    let realm = Realm::start("USHERD.TEST");
    let slapd = slapd(&realm, "none");
    for (way, why) in WAYS {
        let (url, seen) = start(way, port_of(&slapd.plain()));
        let setup =
            || Setup::corp(&by(&realm, "usherd.keytab"), &[server(&url, "")]).under(&["/usr/bin/env", &realm.client()]);
        let usherd = setup().launch();
        // It is tried again and again, and is never used.
        wait_for(why, Duration::from_secs(20), || {
            std::thread::sleep(Duration::from_millis(20));
            let tried = seen.connections.load(Ordering::SeqCst) > 4;
            (tried && usherd.process.output().contains(why)).then_some(())
        });
        let mut client = Client::connect(&usherd.plain(0));
        let search = ops::search(BASE, ops::BASE, &ops::present("objectClass"), &["1.1"]);
        assert_eq!(client.one(&search).code(), 52, "{way:?}");
        assert_ne!(usherd.server_state(0), "up", "{way:?}");
        usherd.stop();
        let output = probe(setup(), &realm);
        assert_eq!(output.status.code(), Some(1), "{way:?}: {}", shown(&output));
        assert!(shown(&output).contains(why), "{way:?}: {}", shown(&output));
        // A probe asks for mechanisms where the bind was refused.
        let others = seen.others.load(Ordering::SeqCst);
        assert!(others == 0 || way == Way::Ignorant, "{way:?}: an operation went there");
    }
}
