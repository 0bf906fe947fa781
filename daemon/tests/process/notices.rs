//! Servers that say that they close a connection (notice of disconnection, RFC 4511 4.4.1): its operations are finished, and
//! what comes meanwhile waits for the next connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::ber::{elements, int, seq, take, text, tlv, value};
use crate::client::{Client, message};
use crate::fake::{answer, entry, result};
use crate::ops;
use crate::proc::wait_for;
use crate::slapd::user;
use crate::usherd::{Setup, Usherd, server};

/// Searches for this one are answered only when the server is told to.
const HELD: &str = "held";
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Seen {
    /// Every connection that is open, and those that have been told that it ends.
    open: Mutex<Vec<(TcpStream, bool)>>,
    /// Answers that are held back, with their connection.
    held: Mutex<Vec<(TcpStream, Vec<u8>)>>,
    /// New connections have to wait for their first answer.
    closed: AtomicBool,
}

impl Seen {
    /// What a server says that is about to close, on all its connections.
    fn say_goodbye(&self) -> usize {
        let oid = tlv(0x8A, b"1.3.6.1.4.1.1466.20036");
        let notice = message(0, &seq(0x78, &[int(0x0A, 52), text(""), text("going"), oid]));
        let mut open = self.open.lock().expect("not poisoned");
        let told = open.iter_mut().filter(|(_, told)| !told);
        told.map(|(stream, told)| {
            *told = true;
            stream.write_all(&notice).expect("usherd reads");
        })
        .count()
    }

    fn there(&self) -> usize {
        self.open.lock().expect("not poisoned").len()
    }

    fn answer_held(&self) {
        for (mut stream, answer) in self.held.lock().expect("not poisoned").drain(..) {
            let _ = stream.write_all(&answer);
        }
    }
}

fn fake() -> (u16, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let seen = Arc::new(Seen::default());
    let all = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&all);
            std::thread::spawn(move || serve(stream, &seen));
        }
    });
    (port, seen)
}

fn serve(mut stream: TcpStream, seen: &Seen) {
    let again = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
    let ours = stream.peer_addr().expect("connected");
    seen.open.lock().expect("not poisoned").push((again(&stream), false));
    let (mut inbox, mut chunk, mut who) = (Vec::new(), [0; 4096], String::new());
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        inbox.extend_from_slice(&chunk[..read]);
        while let Some((_, content, used)) = take(&inbox) {
            let parts = elements(content);
            let (id, (tag, op)) = (value(parts[0].1), parts[1]);
            let held = tag == 0x63 && String::from_utf8_lossy(op).contains(HELD);
            while seen.closed.load(Ordering::SeqCst) && tag == 0x60 {
                std::thread::sleep(Duration::from_millis(5));
            }
            if held {
                let late = [entry(id, "user1"), result(id, ops::SEARCH_DONE, 0, "")].concat();
                seen.held.lock().expect("not poisoned").push((again(&stream), late));
            } else if tag == 0x63 && elements(op)[6].0 != 0xA3 {
                // A probe.
                let _ = stream.write_all(&result(id, ops::SEARCH_DONE, 0, ""));
            } else if tag != 0x42 && stream.write_all(&answer(id, tag, op, &mut who)).is_err() {
                break;
            }
            inbox.drain(..used);
        }
    }
    let mut open = seen.open.lock().expect("not poisoned");
    open.retain(|(other, _)| other.peer_addr().is_ok_and(|peer| peer != ours));
}

fn search(uid: &str) -> Vec<u8> {
    ops::search(&user(1), ops::BASE, &ops::equal("uid", uid), &["description"])
}

fn before(port: u16, settings: &str) -> Usherd {
    let entry = server(&format!("ldap://127.0.0.1:{port}"), settings);
    let usherd = Setup::corp("", &[entry]).server("workers = 1").start();
    usherd.until("it is connected", |status| {
        status["directories"][0]["servers"][0]["state"] == "up"
    });
    usherd
}

fn is_answered(client: &mut Client, id: i64) {
    let said = client.collect(id, PATIENCE).expect("it stays connected");
    let codes: Vec<i64> = said.last().map(|last| last.code()).into_iter().collect();
    assert_eq!((said.len(), codes), (2, vec![0]), "{said:?}");
}

#[test]
fn the_only_connection_is_to_be_closed_and_the_next_is_there_before_its_last_answer() {
    let (port, seen) = fake();
    let usherd = before(port, "connections = 1, connections_max = 1, bind_connections_max = 1,");
    let mut client = Client::connect(&usherd.plain(0));
    let first = client.send(&search(HELD));
    wait_for("the server has it", PATIENCE, || {
        (seen.held.lock().expect("not poisoned").len() == 1).then_some(())
    });
    assert!(seen.say_goodbye() >= 1);
    for number in 1..20 {
        let id = client.send(&search(&format!("user{number}")));
        is_answered(&mut client, id);
    }
    seen.answer_held();
    is_answered(&mut client, first);
    usherd.stop();
}

#[test]
fn all_connections_are_to_be_closed_at_once_and_operations_wait_for_the_next() {
    let (port, seen) = fake();
    let usherd = before(port, "connections = 2, connections_max = 2,");
    let mut client = Client::connect(&usherd.plain(0));
    let id = client.send(&search("user7"));
    is_answered(&mut client, id);
    seen.closed.store(true, Ordering::SeqCst);
    assert!(seen.say_goodbye() >= 2);
    wait_for("those are closed, and others opened", PATIENCE, || {
        let open = seen.open.lock().expect("not poisoned");
        (open.len() >= 2 && open.iter().all(|(_, told)| !told)).then_some(())
    });
    let ids: Vec<i64> = (1..10)
        .map(|number| client.send(&search(&format!("user{number}"))))
        .collect();
    let early = client.receive(Duration::from_millis(200));
    assert!(early.is_err(), "{early:?}");
    seen.closed.store(false, Ordering::SeqCst);
    for id in ids {
        is_answered(&mut client, id);
    }
    usherd.stop();
}

#[test]
fn a_server_that_says_so_again_and_again_has_twice_as_many_connections_and_no_more() {
    let (port, seen) = fake();
    let usherd = before(port, "connections = 2, connections_max = 2, bind_connections_max = 1,");
    let usual = seen.there();
    let mut client = Client::connect(&usherd.plain(0));
    let mut most = 0;
    for _ in 0..30 {
        client.send(&search(HELD));
        std::thread::sleep(Duration::from_millis(20));
        seen.say_goodbye();
        most = most.max(seen.there());
    }
    assert!(most > usual, "{most} of {usual}: some are replaced");
    assert!(
        most <= 2 * 2 + 2,
        "two, two in their stead, one for binds and its own: {most}"
    );
    drop(client);
    usherd.stop();
}
