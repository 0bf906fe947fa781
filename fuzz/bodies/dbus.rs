//! Any bytes as what a helper says over D-Bus: first as its handshake, whose answers do not depend on how the bytes are cut;
//! then as messages, each of which says the same when it is written again.

use wire::dbus::auth::{Progress, Server};
use wire::dbus::{self, Message};
use wire::frame::Step;

const GUID: &str = "0123456789abcdef0123456789abcdef";
const BODY_BYTES_MAX: usize = 1000;

pub(crate) fn run(data: &[u8]) {
    shake(data);
    let mut rest = data;
    loop {
        match dbus::split(rest, BODY_BYTES_MAX) {
            Step::NeedMore { total } => {
                assert!(total.is_none_or(|total| total > rest.len()));
                return;
            }
            Step::Malformed(_) => {
                let _ = dbus::peek(rest);
                return;
            }
            Step::Frame { len } => {
                let (frame, behind) = rest.split_at(len);
                if let Ok(message) = dbus::read(frame) {
                    again(&message);
                }
                rest = behind;
            }
        }
    }
}

fn again(message: &Message<'_>) {
    let _ = (message.bytes(), message.text(), message.first_text(), message.ready());
    let mut out = Vec::new();
    dbus::write_message(&mut out, message).expect("it was one");
    let second = dbus::read(&out).expect("it was one");
    let first = Message {
        little_endian: true,
        ..*message
    };
    assert_eq!(second, first);
}

fn shake(data: &[u8]) {
    let (mut whole, mut said) = (Server::default(), Vec::new());
    let at_once = whole.receive(data, GUID, &mut said);
    let (mut server, mut answered, mut kept) = (Server::default(), Vec::new(), Vec::new());
    let mut passed = 0;
    for byte in data {
        kept.push(*byte);
        match server.receive(&kept, GUID, &mut answered) {
            Ok(Progress::More { used }) => {
                kept.drain(..used);
                passed += used;
            }
            Ok(Progress::Begun { used }) => {
                assert_eq!(at_once, Ok(Progress::Begun { used: passed + used }));
                break;
            }
            Ok(Progress::Unable(text)) => {
                assert_eq!(at_once, Ok(Progress::Unable(text)));
                break;
            }
            Err(fault) => {
                assert_eq!(at_once, Err(fault));
                break;
            }
        }
    }
    assert_eq!(said, answered);
    assert!(said.len() <= 128 * 32);
}
