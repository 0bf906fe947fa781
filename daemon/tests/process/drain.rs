//! The three levels of a drain: what each does, and what clients and servers are told (RFC 4511 section 4.4.1).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::ber::{elements, int, seq, take, text, value};
use crate::client::{Client, Message, message};
use crate::ops;
use crate::proc::{shown, wait_for};
use crate::slapd::BASE;
use crate::usherd::{Setup, Usherd, server};

const ABANDON: u8 = 0x50;
const UNBIND: u8 = 0x42;

/// A server that answers everything at once but searches of `cn=late`, and keeps the kinds of all that it is sent.
fn patient() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ldap://{}", listener.local_addr().expect("an address"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let record = Arc::clone(&record);
            std::thread::spawn(move || serve(stream, &record));
        }
    });
    (url, seen)
}

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<u8>>) {
    let (mut inbox, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        inbox.extend_from_slice(&chunk[..read]);
        while let Some((_, content, used)) = take(&inbox) {
            let parts = elements(content);
            let (id, (tag, op)) = (value(parts[0].1), parts[1]);
            seen.lock().expect("no panic").push(tag);
            let is_late = op.windows(7).any(|some| some == b"cn=late");
            let code = seq_of(tag).filter(|_| !is_late);
            if let Some(response) = code {
                let result = seq(response, &[int(0x0A, 0), text(""), text("")]);
                let _ = stream.write_all(&message(id, &result));
            }
            inbox.drain(..used);
        }
    }
}

/// The response that a request has.
fn seq_of(tag: u8) -> Option<u8> {
    match tag {
        0x60 => Some(ops::BIND_RESPONSE),
        0x63 => Some(ops::SEARCH_DONE),
        0x77 => Some(ops::EXTENDED_RESPONSE),
        _ => None,
    }
}

fn late() -> Vec<u8> {
    ops::search(&format!("cn=late,{BASE}"), ops::BASE, &ops::present("objectClass"), &[])
}

/// A daemon with a client at rest and one with an operation under way.
struct Scene {
    usherd: Usherd,
    idle: Client,
    busy: Client,
    pending: i64,
    seen: Arc<Mutex<Vec<u8>>>,
}

fn scene(lines: &str) -> Scene {
    let (url, seen) = patient();
    let usherd = Setup::corp("", &[server(&url, "")]).server(lines).start();
    let target = usherd.plain(0);
    let (idle, mut busy) = (Client::connect(&target), Client::connect(&target));
    let pending = busy.send(&late());
    wait_for(
        "both are there, and the operation at the server",
        Duration::from_secs(5),
        || {
            let status = usherd.status();
            let asked = seen.lock().expect("no panic").contains(&0x63);
            (status["clients"] == 2 && asked && status["directories"][0]["servers"][0]["pending"] == 1).then_some(())
        },
    );
    seen.lock().expect("no panic").clear();
    Scene {
        usherd,
        idle,
        busy,
        pending,
        seen,
    }
}

fn drain(usherd: &Usherd, level: &str) {
    let output = usherd.command(&["drain", level]);
    assert!(output.status.success(), "{}", shown(&output));
}

fn is_only_a_notice(said: &[Message]) -> bool {
    matches!(said, [notice] if notice.is_disconnection())
}

#[test]
fn gentle_tells_who_is_idle_refuses_what_is_new_and_waits_for_what_is_under_way() {
    let mut scene = scene("");
    drain(&scene.usherd, "gentle");
    assert!(is_only_a_notice(&scene.idle.until_closed(Duration::from_secs(2))));
    let answer = scene.busy.one(&ops::whoami());
    assert_eq!(answer.code(), 52, "{answer:?}");
    scene.busy.expect_silence(Duration::from_millis(500));
    let seen = scene.seen.lock().expect("no panic").clone();
    assert!(!seen.contains(&ABANDON) && !seen.contains(&UNBIND), "{seen:?}");
    // An Abandon is no new operation: the last one is over with it.
    scene
        .busy
        .send_raw(&message(
            77,
            &[&[ABANDON, 1][..], &[u8::try_from(scene.pending).expect("small")]].concat(),
        ))
        .expect("sent");
    assert!(is_only_a_notice(&scene.busy.until_closed(Duration::from_secs(2))));
    scene.usherd.until("drained", |status| status["lifecycle"] == "drained");
    drop(scene.idle);
    scene.usherd.stop();
}

#[test]
fn firm_gives_everything_a_result_abandons_it_unbinds_and_tells_everyone() {
    let mut scene = scene("");
    drain(&scene.usherd, "firm");
    assert!(is_only_a_notice(&scene.idle.until_closed(Duration::from_secs(2))));
    let said = scene.busy.until_closed(Duration::from_secs(2));
    let [result, notice] = said.as_slice() else {
        panic!("a result and a notice: {said:?}")
    };
    assert!(result.id == scene.pending && result.code() == 52, "{said:?}");
    assert!(notice.is_disconnection() && notice.code() == 52, "{said:?}");
    wait_for("the server is told", Duration::from_secs(2), || {
        let seen = scene.seen.lock().expect("no panic");
        (seen.contains(&ABANDON) && seen.contains(&UNBIND)).then_some(())
    });
    scene.usherd.stop();
}

#[test]
fn now_closes_everything_at_once() {
    let mut scene = scene("drain_gentle = \"1h\"\ndrain_firm = \"1h\"");
    let start = Instant::now();
    drain(&scene.usherd, "now");
    scene.idle.until_closed(Duration::from_secs(1));
    scene.busy.until_closed(Duration::from_secs(1));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    scene.usherd.until("drained", |status| status["lifecycle"] == "drained");
    scene.usherd.stop();
}

#[test]
fn the_levels_follow_each_other_when_their_time_is_over() {
    let mut scene = scene("drain_gentle = \"700ms\"\ndrain_firm = \"300ms\"");
    scene.usherd.expect_end();
    let start = Instant::now();
    scene.usherd.terminate();
    assert!(is_only_a_notice(&scene.idle.until_closed(Duration::from_secs(2))));
    assert!(
        start.elapsed() < Duration::from_millis(600),
        "gentle comes at once: {:?}",
        start.elapsed()
    );
    let said = scene.busy.until_closed(Duration::from_secs(3));
    assert!(
        start.elapsed() >= Duration::from_millis(700),
        "firm comes after `drain_gentle`: {:?}",
        start.elapsed()
    );
    assert!(
        said.first()
            .is_some_and(|result| result.id == scene.pending && result.code() == 52),
        "{said:?}"
    );
    assert!(said.last().is_some_and(Message::is_disconnection), "{said:?}");
    let status = scene.usherd.process.wait(Duration::from_secs(3));
    assert_eq!(status.code(), Some(3), "{}", scene.usherd.process.output());
}
