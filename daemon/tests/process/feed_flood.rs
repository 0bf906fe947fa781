//! A provider that sends faster than a feed can keep: it waits, and the feed's memory does not grow by what it sends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::ber::{elements, int, seq, take, text, tlv, value};
use crate::client::message;
use crate::ops;
use crate::proc::{Folder, Process};
use crate::usherd::BINARY;

const LIMIT: Duration = Duration::from_secs(120);
const ENTRIES: u32 = 16_000;
const VALUE_BYTES: usize = 6_000;
/// Messages that wait, pages of the store, batches on their way: far below the 96 MB that are sent.
const GROWTH_KIB_MAX: u64 = 40 << 10;

/// An entry of some kilobytes, as added.
fn entry(id: i64, number: u32) -> Vec<u8> {
    let attribute = seq(
        0x30,
        &[text("description"), seq(0x31, &[text("x".repeat(VALUE_BYTES))])],
    );
    let dn = format!("uid=user{number},dc=example,dc=com");
    let found = seq(ops::SEARCH_ENTRY, &[text(dn), seq(0x30, &[attribute])]);
    let mut uuid = [7; 16];
    uuid[..4].copy_from_slice(&number.to_be_bytes());
    let state = seq(0x30, &[int(0x0A, 1), tlv(0x04, &uuid)]);
    let control = seq(0x30, &[text("1.3.6.1.4.1.4203.1.9.1.2"), tlv(0x04, &state)]);
    seq(0x30, &[int(0x02, id), found, seq(0xA0, &[control])])
}

/// Answers binds and extended requests with success. A search with a control is the feed's: that is told, and when it is
/// let, everything is sent.
fn serve(mut stream: TcpStream, asked: &Sender<()>, go: &Mutex<Receiver<()>>, sent: &Sender<()>) {
    let (mut inbox, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        inbox.extend_from_slice(&chunk[..read]);
        while let Some((_, content, used)) = take(&inbox) {
            let parts = elements(content);
            let (id, tag) = (value(parts[0].1), parts[1].0);
            let success = |tag| message(id, &seq(tag, &[int(0x0A, 0), text(""), text("")]));
            let answer = match tag {
                0x60 => success(ops::BIND_RESPONSE),
                0x63 if parts.len() == 2 => success(ops::SEARCH_DONE),
                0x63 => {
                    asked.send(()).expect("a test that waits");
                    go.lock().expect("one that waits").recv().expect("a test that says so");
                    for number in 0..ENTRIES {
                        stream
                            .write_all(&entry(id, number))
                            .expect("a feed that reads in the end");
                    }
                    sent.send(()).expect("a test that waits");
                    Vec::new()
                }
                0x77 => success(ops::EXTENDED_RESPONSE),
                _ => Vec::new(),
            };
            inbox.drain(..used);
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }
}

#[test]
fn a_provider_that_is_faster_than_the_disk_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let ((asked, was_asked), (go, may_go), (sent, was_sent)) = (channel(), channel(), channel());
    let may_go = Arc::new(Mutex::new(may_go));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (asked, may_go, sent) = (asked.clone(), may_go.clone(), sent.clone());
            std::thread::spawn(move || serve(stream, &asked, &may_go, &sent));
        }
    });
    let folder = Folder::new("feed-flood");
    let (state, url) = (folder.file("state"), format!("ldap://127.0.0.1:{port}"));
    let args = [
        "feed",
        "run",
        &url,
        "--state",
        &state,
        "--base",
        "dc=example,dc=com",
        "--sink",
        "file:/dev/null",
    ];
    let process = Process::start(BINARY, &args, &folder.path().join("log"));
    was_asked.recv_timeout(LIMIT).expect("a session of the feed");
    let before = process.memory_kib("VmHWM");
    go.send(()).expect("a provider");
    was_sent.recv_timeout(LIMIT).expect("all is sent");
    let grown = process.memory_kib("VmHWM") - before;
    assert!(
        grown <= GROWTH_KIB_MAX,
        "{grown} KiB more for {ENTRIES} entries of {VALUE_BYTES} bytes"
    );
}
