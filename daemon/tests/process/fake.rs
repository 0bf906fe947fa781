//! A server that breaks the law on purpose: the load must notice, or what it says of usherd is worth nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::ber::{elements, int, seq, take, text, tlv, value};
use crate::client::{Target, message};
use crate::load::{Load, Tally};
use crate::ops;

/// What the server does wrong, with every fiftieth search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The result comes twice.
    Duplicate,
    /// The answer is somebody else's.
    Astray,
    /// The answer is that of another kind of operation.
    WrongKind,
    /// An abandoned operation is answered after a later one.
    Late,
    /// There is no answer.
    Silent,
    /// The connection is closed.
    Severed,
    /// The server says busy.
    Busy,
}

/// Runs a small load against a server with this fault.
fn tally(fault: Fault) -> Tally {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream, fault));
        }
    });
    let abandoned = if fault == Fault::Late { 200 } else { 0 };
    let patience = Duration::from_millis(700);
    let load = Load {
        abandoned,
        patience,
        ..Load::new(&[Target::plain(port)], 2, 4)
    };
    load.run(1_000, &AtomicBool::new(false))
}

fn serve(mut stream: TcpStream, fault: Fault) {
    let (mut inbox, mut chunk) = (Vec::new(), [0; 4096]);
    let (mut who, mut searches) = (String::new(), 0);
    let mut owed: Vec<Vec<u8>> = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        inbox.extend_from_slice(&chunk[..read]);
        while let Some((_, content, used)) = take(&inbox) {
            let parts = elements(content);
            let (id, (tag, op)) = (value(parts[0].1), parts[1]);
            let mut answer = answer(id, tag, op, &mut who);
            if tag == 0x63 {
                searches += 1;
                answer = spoil(answer, id, if searches % 50 == 0 { fault } else { Fault::None });
                if searches % 50 == 0 && fault == Fault::Severed {
                    return;
                }
            }
            if tag == 0x50 && fault == Fault::Late {
                let named = value(op);
                owed.push(result(named, ops::SEARCH_DONE, 0, ""));
            } else if tag != 0x42 && !answer.is_empty() {
                let late = if tag == 0x50 {
                    Vec::new()
                } else {
                    owed.drain(..).flatten().collect()
                };
                if stream.write_all(&[answer, late].concat()).is_err() {
                    return;
                }
            }
            inbox.drain(..used);
        }
    }
}

fn spoil(answer: Vec<u8>, id: i64, fault: Fault) -> Vec<u8> {
    match fault {
        Fault::None | Fault::Late => answer,
        Fault::Duplicate => [answer, result(id, ops::SEARCH_DONE, 0, "")].concat(),
        Fault::Astray => [entry(id, "user0"), result(id, ops::SEARCH_DONE, 0, "")].concat(),
        Fault::WrongKind => result(id, 0x6B, 0, ""),
        Fault::Silent | Fault::Severed => Vec::new(),
        Fault::Busy => result(id, ops::SEARCH_DONE, 51, ""),
    }
}

pub(crate) fn result(id: i64, tag: u8, code: i64, matched: &str) -> Vec<u8> {
    message(id, &seq(tag, &[int(0x0A, code), text(matched), text("")]))
}

pub(crate) fn entry(id: i64, user: &str) -> Vec<u8> {
    let token = user.replace("user", "token-");
    let attribute = seq(0x30, &[text("description"), seq(0x31, &[text(token)])]);
    message(id, &seq(ops::SEARCH_ENTRY, &[text("uid=x"), seq(0x30, &[attribute])]))
}

/// As slapd would answer what the load asks.
pub(crate) fn answer(id: i64, tag: u8, op: &[u8], who: &mut String) -> Vec<u8> {
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match tag {
        0x60 => {
            *who = said(elements(op)[1].1);
            result(id, ops::BIND_RESPONSE, 0, "")
        }
        0x63 => {
            let user = said(elements(elements(op)[6].1)[1].1);
            [entry(id, &user), result(id, ops::SEARCH_DONE, 0, "")].concat()
        }
        0x6E => {
            let (dn, assertion) = (said(elements(op)[0].1), said(elements(elements(op)[1].1)[1].1));
            let token = dn.split(',').next().unwrap_or_default().replace("uid=user", "token-");
            result(id, 0x6F, if token == assertion { 6 } else { 5 }, "")
        }
        0x77 => {
            let identity = tlv(0x8B, format!("dn:{who}").as_bytes());
            message(
                id,
                &seq(ops::EXTENDED_RESPONSE, &[int(0x0A, 0), text(""), text(""), identity]),
            )
        }
        _ => Vec::new(),
    }
}

#[test]
fn the_load_notices_every_kind_of_fault_and_only_faults() {
    tally(Fault::None).assert_untroubled();
    let found = |fault| {
        let tally = tally(fault);
        let law = [tally.duplicate > 0, tally.misdelivered > 0, tally.unanswered > 0];
        (law, tally.read_errors > 0, tally.disconnections > 0, tally.busy > 0)
    };
    // What comes once too often may also meet an id that is in use again, and is then somebody else's.
    assert!(matches!(found(Fault::Duplicate).0, [true, _, false]));
    assert!(matches!(found(Fault::Late).0, [true, _, false]));
    assert_eq!(found(Fault::Astray).0, [false, true, false]);
    assert_eq!(found(Fault::WrongKind).0, [false, true, false]);
    assert_eq!(found(Fault::Silent).0, [false, false, true]);
    assert_eq!(found(Fault::Severed), ([false; 3], true, true, false));
    assert_eq!(found(Fault::Busy), ([false; 3], true, false, true));
}
