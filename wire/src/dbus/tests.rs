use proptest::prelude::*;

use super::auth::{self, Progress, Server};
use super::*;

const GUID: &str = "0123456789abcdef0123456789abcdef";
const OURS: Method<'_> = Method {
    path: "/org/usherd/Helper1",
    interface: "org.usherd.Helper1",
    member: "Call",
};

fn call(serial: u32, method: &Method<'_>, argument: Argument, payload: &[u8]) -> Vec<u8> {
    let mut around = Around::default();
    write_call(&mut around, serial, method, argument, payload.len()).unwrap();
    [&around.head, payload, around.tail.as_bytes()].concat()
}

fn written(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(&mut out, message).unwrap();
    out
}

/// The examples in docs/helper-dbus.md, one line each: all that is in the block behind its name.
fn documented(name: &str) -> Vec<u8> {
    let text = include_str!("../../../docs/helper-dbus.md");
    let (_, behind) = text.split_once(&format!("<!-- {name} -->")).unwrap();
    let block = behind.split("```").nth(1).unwrap();
    let byte = |word| u8::from_str_radix(word, 16).unwrap();
    block.split_whitespace().map(byte).collect()
}

#[test]
fn the_messages_of_the_documentation_are_what_is_written_and_read() {
    let found = call(16384, &OURS, Argument::BytesAndMilliseconds(2000), b"hello");
    assert_eq!(found, documented("call"), "{found:02x?}");
    let answer = Message {
        reply_serial: Some(16384),
        signature: "ay",
        body: b"\x05\0\0\0HELLO",
        ..Message::new(Kind::Return, 3)
    };
    assert_eq!(read(&documented("answer")), Ok(answer));
    assert_eq!(read(&documented("ready")).unwrap().ready(), Ok((1, "upper/1", false)));
}

#[test]
fn what_is_around_a_payload_fits_every_length() {
    for len in 0..20 {
        let payload = vec![7; len];
        let bytes = call(16384, &OURS, Argument::BytesAndMilliseconds(0x0102_0304), &payload);
        let message = read(&bytes).unwrap();
        assert_eq!(
            (message.kind, message.serial, message.no_reply),
            (Kind::Call, 16384, false)
        );
        assert_eq!(
            (message.path, message.interface),
            (Some(OURS.path), Some(OURS.interface))
        );
        assert_eq!((message.member, message.signature), (Some("Call"), "ayu"));
        let mut cursor = Cursor::new(message.body, true);
        assert_eq!(cursor.array().unwrap(), payload);
        assert_eq!(cursor.number(), Ok(0x0102_0304));
        assert_eq!(cursor.end(), Ok(()));

        let bytes = call(1, &OURS, Argument::Bytes, &payload);
        assert_eq!(read(&bytes).unwrap().bytes(), Ok(&payload[..]));
        let text = "t".repeat(len);
        let bytes = call(1, &OURS, Argument::Text, text.as_bytes());
        assert_eq!(read(&bytes).unwrap().text(), Ok(&*text));
    }
    let mut around = Around::default();
    for (serial, len, fault) in [(0, 1, Malformed::BadId), (1, ARRAY_BYTES_MAX + 1, Malformed::TooLarge)] {
        assert_eq!(write_call(&mut around, serial, &OURS, Argument::Bytes, len), Err(fault));
    }
}

/// A return of a big-endian peer, written by hand, with a field of a later version: code 10, of the type `a(sv)`.
const BIG: &[u8] = b"B\x02\x01\x01\0\0\0\x07\0\0\0\x09\0\0\0\x30\
    \x0a\x05a(sv)\0\0\0\0\x10\0\0\0\0\0\0\0\x01x\0\x01u\0\0\0\0\0\0\0\0\
    \x05\x01u\0\0\0\x40\0\x08\x01g\0\x02ay\0\
    \0\0\0\x03abc";

#[test]
fn either_order_of_bytes_is_read_and_fields_of_later_versions_are_passed_over() {
    let message = read(BIG).unwrap();
    assert_eq!(
        (message.kind, message.serial, message.reply_serial),
        (Kind::Return, 9, Some(16384))
    );
    assert!(message.no_reply && !message.little_endian);
    assert_eq!(message.bytes(), Ok(&b"abc"[..]));
    assert!(message.text().is_err());
}

#[test]
fn what_is_no_message_is_refused() {
    let good = written(&Message {
        reply_serial: Some(5),
        ..Message::new(Kind::Return, 3)
    });
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        read(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, b'x'), Malformed::BadMagic);
    assert_eq!(changed(1, 0), Malformed::BadOperation);
    assert_eq!(changed(3, 2), Malformed::BadVersion);
    assert_eq!(changed(4, 1), Malformed::Truncated);
    assert_eq!(changed(8, 0), Malformed::BadId);
    assert_eq!(changed(14, 1), Malformed::TooLarge, "fields of 64 KiB");
    assert_eq!(changed(16, 0), Malformed::BadTag);
    assert_eq!(changed(18, b'i'), Malformed::BadTag, "a field of another type");
    assert!(matches!(changed(20, 0), Malformed::BadValue(_)), "an answer to nothing");
    assert_eq!(read(&[&good[..], b"x"].concat()), Err(Malformed::TrailingBytes));
    for (kind, what) in [(Kind::Call, "path"), (Kind::Error, "name"), (Kind::Signal, "interface")] {
        let message = Message {
            reply_serial: Some(1),
            ..Message::new(kind, 1)
        };
        assert!(read(&written(&message)).is_err(), "without its {what}");
    }
    // A type that nests without end.
    let deep = [&b"\x0a\xff"[..], &[b'a'; 255], b"\0"].concat();
    let mut bytes = b"l\x02\0\x01\0\0\0\0\x01\0\0\0\x02\x01\0\0".to_vec();
    bytes.extend_from_slice(&deep);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    assert_eq!(read(&bytes), Err(Malformed::TooDeep));
}

#[test]
fn the_end_of_a_message_is_known_by_its_header_and_one_too_large_says_whose_answer_it_is() {
    let answer = written(&Message {
        reply_serial: Some(16384),
        signature: "ay",
        body: b"\x05\0\0\0HELLO",
        ..Message::new(Kind::Return, 3)
    });
    let len = answer.len();
    for cut in 0..len {
        let expected = if cut < 16 { None } else { Some(len) };
        assert_eq!(split(&answer[..cut], 100), Step::NeedMore { total: expected });
        assert_eq!(read(&answer[..cut]).map(|_| ()), Err(Malformed::Truncated));
    }
    assert_eq!(split(&[&answer[..], b"more"].concat(), 9), Step::Frame { len });
    assert_eq!(split(&answer[..len - 10], 8), Step::NeedMore { total: None });
    assert_eq!(split(&answer[..len - 9], 8), Step::Malformed(Malformed::TooLarge));
    let header = peek(&answer[..len - 9]).unwrap().unwrap();
    assert_eq!((header.reply_serial, header.body), (Some(16384), &b""[..]));
}

#[test]
fn the_arguments_of_our_own_interface_are_read_strictly() {
    let signal = |signature: &'static str, body: &'static [u8]| Message {
        path: Some(OURS.path),
        interface: Some(OURS.interface),
        member: Some("Ready"),
        signature,
        body,
        ..Message::new(Kind::Signal, 2)
    };
    let good = signal("usb", b"\x04\0\0\0\x03\0\0\0a/1\0\x01\0\0\0");
    assert_eq!(good.ready(), Ok((4, "a/1", true)));
    assert_eq!(read(&written(&good)).unwrap().ready(), Ok((4, "a/1", true)));
    assert!(signal("us", b"\x04\0\0\0\x03\0\0\0a/1\0").ready().is_err());
    assert!(signal("usb", b"\0\0\0\0\x03\0\0\0a/1\0\x01\0\0\0").ready().is_err());
    assert!(signal("usb", b"\x04\0\0\0\x03\0\0\0a/1\0\x02\0\0\0").ready().is_err());
    assert!(signal("usb", b"\x04\0\0\0\x03\0\0\0a/1\0\x01\0\0\0\0").ready().is_err());
    assert_eq!(signal("si", b"\x03\0\0\0why\0\x01\0\0\0").first_text(), Some("why"));
    assert_eq!(signal("is", b"\x03\0\0\0").first_text(), None);
    assert_eq!(signal("s", b"\x03\0\0\0wh\0\0").first_text(), None);
}

#[test]
fn names_are_what_the_specification_allows() {
    assert!(is_path("/") && is_path("/a/b_1") && !is_path("") && !is_path("/a/") && !is_path("a") && !is_path("/a-b"));
    assert!(is_interface("a.b") && !is_interface("a") && !is_interface("a..b") && !is_interface("a.1b"));
    assert!(is_member("Call") && !is_member("") && !is_member("a.b") && !is_member("1a"));
    assert!(!is_path(&format!("/{}", "a".repeat(255))) && !is_member(&"a".repeat(256)));
}

/// What is answered to the lines of one peer, and whether messages begin.
fn shake(bytes: &[u8]) -> (Result<usize, Malformed>, String) {
    let mut out = Vec::new();
    let ended = match Server::default().receive(bytes, GUID, &mut out) {
        Ok(Progress::Begun { used }) => Ok(used),
        Ok(_) => Ok(0),
        Err(fault) => Err(fault),
    };
    (ended, String::from_utf8(out).unwrap())
}

#[test]
fn the_handshakes_of_the_libraries_are_understood() {
    let ok = format!("OK {GUID}\r\n");
    let no = "ERROR \"not supported\"\r\n";
    let rejected = "REJECTED EXTERNAL ANONYMOUS\r\n";
    let cases: [(&str, String); 5] = [
        // zbus and libdbus
        (
            "\0AUTH EXTERNAL 31303030\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n",
            format!("{ok}{no}"),
        ),
        // sd-bus
        (
            "\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n",
            format!("DATA\r\n{ok}{no}"),
        ),
        // GDBus
        ("\0AUTH\r\nAUTH EXTERNAL 30\r\nBEGIN\r\n", format!("{rejected}{ok}")),
        ("\0AUTH ANONYMOUS 74726163\r\nBEGIN\r\n", ok.clone()),
        (
            "\0AUTH DBUS_COOKIE_SHA1 30\r\nAUTH ANONYMOUS\r\nBEGIN\r\n",
            format!("{rejected}{ok}"),
        ),
    ];
    for (said, answered) in cases {
        let bytes = [said.as_bytes(), b"l\x01"].concat();
        assert_eq!(shake(&bytes), (Ok(said.len()), answered), "{said:?}");
        // The same, byte by byte.
        let (mut server, mut out, mut kept, mut begun) = (Server::default(), Vec::new(), Vec::new(), None);
        for byte in said.bytes() {
            kept.push(byte);
            match server.receive(&kept, GUID, &mut out).unwrap() {
                Progress::More { used } => drop(kept.drain(..used)),
                Progress::Begun { used } => begun = Some(used),
                Progress::Unable(why) => panic!("{why}"),
            }
        }
        assert_eq!(begun, Some(kept.len()), "{said:?}");
    }
}

#[test]
fn a_handshake_that_is_none_comes_to_an_end() {
    for (said, fault) in [
        ("AUTH EXTERNAL 30\r\n".to_owned(), Malformed::BadMagic),
        ("\0BEGIN\r\n".to_owned(), Malformed::BadValue("BEGIN behind OK alone")),
        (format!("\0{}", "x".repeat(auth::LINE_BYTES_MAX)), Malformed::TooLarge),
        (format!("\0{}", "AUTH\r\n".repeat(40)), Malformed::TooDeep),
        (
            "\0AUTH\n".to_owned(),
            Malformed::BadValue("a line of text that ends with CR and LF"),
        ),
    ] {
        assert_eq!(shake(said.as_bytes()).0, Err(fault), "{said:?}");
    }
    let mut out = Vec::new();
    let said = Server::default().receive(b"\0ERROR no such user\r\n", GUID, &mut out);
    assert_eq!((said, out), (Ok(Progress::Unable("no such user")), Vec::new()));
    let rejected = "REJECTED EXTERNAL ANONYMOUS\r\n";
    assert_eq!(
        shake(b"\0AUTH EXTERNAL xyz\r\n").1,
        rejected,
        "an identity that is no hexadecimal number"
    );
    assert_eq!(shake(b"\0AUTH EXTERNAL\r\nCANCEL\r\n").1, format!("DATA\r\n{rejected}"));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        kind in prop_oneof![Just(Kind::Call), Just(Kind::Return), Just(Kind::Error), Just(Kind::Signal), Just(Kind::Other(9))],
        serial in 1..=u32::MAX,
        reply in 1..=u32::MAX,
        no_reply: bool,
        path in "/[a-z_]{1,9}",
        interface in "[a-z]{1,9}\\.[A-Z]{1,9}",
        member in "[A-Za-z]{1,9}",
        signature in "[a-z]{0,9}",
        body in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let message = Message {
            no_reply,
            reply_serial: Some(reply),
            path: Some(&path),
            interface: Some(&interface),
            member: Some(&member),
            error: Some(&interface),
            signature: &signature,
            body: &body,
            ..Message::new(kind, serial)
        };
        let bytes = written(&message);
        prop_assert_eq!(read(&bytes), Ok(message));
        prop_assert_eq!(split(&bytes, body.len()), Step::Frame { len: bytes.len() });
        // Whatever comes, there is an answer.
        for cut in 0..bytes.len() {
            prop_assert!(read(&bytes[..cut]).is_err());
        }
    }
}
