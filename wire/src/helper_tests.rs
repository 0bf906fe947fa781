use super::header::MAGIC;
use super::*;
use proptest::prelude::*;

const SHARED_BYTES: u32 = 131_072;

/// What is told in the examples of the page, in their order.
fn examples() -> Vec<Vec<u8>> {
    let mut written: [Vec<u8>; 8] = Default::default();
    let [welcome, ready, call, done, shared, interrupt, error, interrupted] = &mut written;
    write_welcome(
        welcome,
        &Welcome {
            message_bytes_max: 131_072,
            shared_bytes: SHARED_BYTES,
            call_bytes_max: 16 << 20,
            answer_bytes_max: 16 << 20,
            service: "upper",
        },
    )
    .unwrap();
    write_ready(ready, 1, "upper/1").unwrap();
    let hello = Call {
        call: 7,
        deadline_ms: 2000,
        whole_bytes: 5,
        more: false,
        descriptor: false,
        payload: Payload::Inline(b"hello"),
    };
    write_call(call, &hello).unwrap();
    write_done(done, 7, Payload::Inline(b"HELLO")).unwrap();
    let large = Call {
        call: 8,
        whole_bytes: 5000,
        payload: Payload::Shared { offset: 0, bytes: 5000 },
        ..hello
    };
    write_call(shared, &large).unwrap();
    write_interrupt(interrupt, 8).unwrap();
    write_error(error, 8, 1, "stopped").unwrap();
    write_interrupted(interrupted, 8).unwrap();
    written.to_vec()
}

/// The blocks of the page that are nothing but octets in hex.
fn shown() -> Vec<Vec<u8>> {
    let page = include_str!("../../docs/helper-protocol.md");
    let blocks = page.split("```").skip(1).step_by(2);
    blocks
        .filter_map(|block| {
            let octets = block.split_whitespace();
            octets
                .map(|octet| u8::from_str_radix(octet, 16))
                .collect::<Result<_, _>>()
                .ok()
        })
        .collect()
}

#[test]
fn messages_are_as_documented() {
    assert_eq!(shown(), examples());
}

#[test]
fn both_sides_read_what_the_other_writes() {
    let examples = examples();
    let usherd = |at: usize| from_usherd(&examples[at], SHARED_BYTES).unwrap();
    let FromUsherd::Welcome(welcome) = usherd(0) else {
        panic!("{:?}", usherd(0));
    };
    assert_eq!((welcome.service, welcome.shared_bytes), ("upper", SHARED_BYTES));
    assert_eq!((welcome.message_bytes_max, welcome.call_bytes_max), (131_072, 16 << 20));
    let FromUsherd::Call(call) = usherd(2) else {
        panic!("{:?}", usherd(2));
    };
    assert_eq!(
        (call.call, call.deadline_ms, call.payload),
        (7, 2000, Payload::Inline(b"hello"))
    );
    assert_eq!(usherd(5), FromUsherd::Interrupt { call: 8 });
    let helper = |at: usize| from_helper(&examples[at], SHARED_BYTES).unwrap();
    let ready = FromHelper::Ready {
        concurrency: 1,
        software: "upper/1",
    };
    assert_eq!(helper(1), ready);
    let FromHelper::Error {
        call: 8,
        payload: Payload::Inline(error),
    } = helper(6)
    else {
        panic!("{:?}", helper(6));
    };
    assert_eq!(read_error(error), Ok((1, "stopped")));
    assert_eq!(helper(7), FromHelper::Interrupted { call: 8 });

    let mut out = Vec::new();
    write_input(&mut out, 9, b"123456").unwrap();
    let input = FromUsherd::Input {
        call: 9,
        payload: b"123456",
    };
    assert_eq!(from_usherd(&out, 0), Ok(input));
    out.clear();
    write_goodbye(&mut out);
    assert_eq!(from_usherd(&out, 0), Ok(FromUsherd::Goodbye));
}

#[test]
fn nobody_may_say_what_is_the_others() {
    let examples = examples();
    for at in [0, 2, 4, 5] {
        assert_eq!(from_helper(&examples[at], SHARED_BYTES), Err(Malformed::BadOperation));
    }
    for at in [1, 3, 6, 7] {
        assert_eq!(from_usherd(&examples[at], SHARED_BYTES), Err(Malformed::BadOperation));
    }
}

#[test]
fn a_later_kind_is_passed_over_by_helpers_and_refused_by_usherd() {
    let mut later = examples().swap_remove(5);
    for kind in [6, 15, 23, 255] {
        later[2] = kind;
        later[3] = 0xF0;
        assert_eq!(from_usherd(&later, 0), Ok(FromUsherd::Unknown { kind }));
        assert_eq!(from_helper(&later, 0), Err(Malformed::BadOperation));
    }
}

#[test]
fn a_kind_allows_only_what_is_its_own() {
    let examples = examples();
    let edited = |example: usize, at: usize, value: u8| {
        let mut bytes = examples[example].clone();
        bytes[at] = value;
        match bytes[2] {
            ..16 => from_usherd(&bytes, SHARED_BYTES).map(drop),
            _ => from_helper(&bytes, SHARED_BYTES).map(drop),
        }
    };
    for example in 0..8 {
        assert_eq!(edited(example, 0, 0xD6), Ok(()), "{example}");
        assert_eq!(edited(example, 0, 0xD5), Err(Malformed::BadMagic));
        assert_eq!(edited(example, 1, 2), Err(Malformed::BadVersion));
        assert!(edited(example, 3, 8).is_err(), "no such flag, {example}");
        assert!(
            edited(example, 23, 1).is_err(),
            "an offset without the flag, or outside, {example}"
        );
        let id = if matches!(example, 0 | 1) { 1 } else { 0 };
        assert_eq!(edited(example, 7, id), Err(Malformed::BadId), "{example}");
        if !matches!(example, 2 | 4) {
            assert!(edited(example, 11, 1).is_err(), "a deadline, {example}");
            assert!(edited(example, 19, 1).is_err(), "a whole length, {example}");
        }
    }
    assert!(edited(0, 3, 0).is_err(), "memory without a descriptor");
    assert!(edited(0, 29, 0).is_err(), "a descriptor without memory");
    assert!(edited(0, 25, 0).is_err(), "the largest message is too small");
    assert!(edited(0, 44, 0xFF).is_err() && edited(1, 30, 0xFF).is_err() && edited(6, 30, 0xFF).is_err());
    assert!(edited(1, 27, 0).is_err(), "no call at once");
    assert!(edited(2, 3, 2).is_err(), "all of it is here, and more follows");
    assert!(edited(2, 19, 6).is_ok(), "the last piece of six bytes");
    assert!(edited(2, 19, 4).is_err(), "a piece longer than the whole");
    assert!(edited(4, 19, 0x89).is_err(), "a part of a request is never shared");
    assert!(edited(4, 3, 3).is_err(), "nor does a shared one go on");
    assert_eq!(edited(4, 3, 5), Ok(()));
    for (example, at) in [(0, 15), (1, 15), (2, 15), (3, 15), (5, 15), (6, 15), (7, 15)] {
        assert!(edited(example, at, 0x7F).is_err(), "longer than it is, {example}");
        assert!(edited(example, at - 1, 0x7F).is_err(), "longer than it is, {example}");
    }
}

#[test]
fn the_shared_memory_is_two_halves() {
    let call = |bytes: u32| {
        let mut out = Vec::new();
        let call = Call {
            call: 1,
            deadline_ms: 0,
            whole_bytes: bytes,
            more: false,
            descriptor: false,
            payload: Payload::Shared { offset: 0, bytes },
        };
        write_call(&mut out, &call).map(|()| out)
    };
    for (bytes, memory, fits) in [(500, 1000, true), (501, 1000, false), (500, 0, false), (0, 0, true)] {
        let read = from_usherd(&call(bytes).unwrap(), memory).is_ok();
        assert_eq!(read, fits, "{bytes} of {memory}");
    }
    let done = |offset: u32, bytes: u32, memory: u32| {
        let mut out = Vec::new();
        write_done(&mut out, 1, Payload::Shared { offset, bytes }).unwrap();
        from_helper(&out, memory).is_ok()
    };
    assert!(done(500, 500, 1000) && done(999, 1, 1000) && done(1000, 0, 1000));
    assert!(!done(499, 1, 1000) && !done(500, 501, 1000) && !done(1001, 0, 1000) && !done(0, 0, 1000));
    assert!(!done(u32::MAX, u32::MAX, u32::MAX) && !done(500, 500, 0));
}

#[test]
fn nothing_is_written_that_would_not_be_read() {
    let mut out = Vec::new();
    let inline = Payload::Inline(b"abc");
    let call = Call {
        call: 1,
        deadline_ms: 0,
        whole_bytes: 3,
        more: false,
        descriptor: false,
        payload: inline,
    };
    let welcome = Welcome {
        message_bytes_max: MESSAGE_BYTES_MIN,
        shared_bytes: 0,
        call_bytes_max: 0,
        answer_bytes_max: 0,
        service: "s",
    };
    let small = MESSAGE_BYTES_MIN - 1;
    let long = "s".repeat(256);
    for written in [
        write_call(&mut out, &Call { call: 0, ..call }),
        write_call(&mut out, &Call { more: true, ..call }),
        write_call(&mut out, &Call { whole_bytes: 2, ..call }),
        write_welcome(
            &mut out,
            &Welcome {
                message_bytes_max: small,
                ..welcome
            },
        ),
        write_welcome(&mut out, &Welcome { service: "", ..welcome }),
        write_welcome(
            &mut out,
            &Welcome {
                service: &long,
                ..welcome
            },
        ),
        write_interrupt(&mut out, 0),
        write_input(&mut out, 0, b""),
        write_ready(&mut out, 0, "x"),
        write_part(&mut out, 0, inline),
        write_done(&mut out, 0, inline),
        write_error(&mut out, 0, 1, ""),
        write_interrupted(&mut out, 0),
        write_ask(&mut out, 0, inline),
    ] {
        assert!(written.is_err());
    }
    assert_eq!(out, b"");
    write_error(&mut out, 1, 1, &"é".repeat(2000)).unwrap();
    assert_eq!(out.len(), HEADER_BYTES + 2 + TEXT_BYTES_MAX);
    assert!(from_helper(&out, 0).is_ok());
    out.push(b'x');
    out[15] += 1;
    assert_eq!(from_helper(&out, 0), Err(Malformed::TooLarge));
}

fn payload() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..100))
}

proptest! {
    #[test]
    fn what_a_helper_writes_is_read(
        call in 1..=u32::MAX, bytes in payload(), offset in 500..1000u32, concurrency in 1..=u32::MAX,
        code: u16, text in "\\PC{0,40}", which in 0..7,
    ) {
        let payload = match &bytes {
            Some(bytes) => Payload::Inline(bytes),
            None => Payload::Shared { offset, bytes: 1000 - offset },
        };
        let mut out = Vec::new();
        let expected = match which {
            0 => {
                write_ready(&mut out, concurrency, &text).unwrap();
                FromHelper::Ready { concurrency, software: &text }
            }
            1 => {
                write_part(&mut out, call, payload).unwrap();
                FromHelper::Part { call, payload }
            }
            2 => {
                write_done(&mut out, call, payload).unwrap();
                FromHelper::Done { call, payload }
            }
            3 => {
                write_ask(&mut out, call, payload).unwrap();
                prop_assert_eq!(&answer_header(Answer::Ask, call, payload).unwrap(), &out[..HEADER_BYTES]);
                FromHelper::Ask { call, payload }
            }
            4 => {
                write_interrupted(&mut out, call).unwrap();
                FromHelper::Interrupted { call }
            }
            5 => {
                write_unable(&mut out, &text);
                FromHelper::Unable { text: &text }
            }
            _ => {
                write_error(&mut out, call, code, &text).unwrap();
                prop_assert_eq!(read_error(&out[HEADER_BYTES..]), Ok((code, &text[..])));
                from_helper(&out, 0).unwrap()
            }
        };
        prop_assert_eq!(from_helper(&out, 1000), Ok(expected));
        for cut in 0..out.len() {
            prop_assert!(from_helper(&out[..cut], 1000).is_err());
        }
        out.push(0);
        prop_assert!(from_helper(&out, 1000).is_err());
    }

    #[test]
    fn a_call_in_pieces_is_read(
        id in 1..=u32::MAX, deadline_ms: u32, descriptor: bool, piece in prop::collection::vec(any::<u8>(), 1..100),
        behind in 0..1000u32,
    ) {
        let bytes = u32::try_from(piece.len()).unwrap();
        let call = Call {
            call: id,
            deadline_ms,
            whole_bytes: bytes + behind,
            more: behind > 0,
            descriptor,
            payload: Payload::Inline(&piece),
        };
        let mut out = Vec::new();
        write_call(&mut out, &call).unwrap();
        prop_assert_eq!(from_usherd(&out, 0), Ok(FromUsherd::Call(call)));
        prop_assert_eq!(&call_header(&call).unwrap(), &out[..HEADER_BYTES]);
        for cut in 0..out.len() {
            prop_assert!(from_usherd(&out[..cut], 0).is_err());
        }
    }

    #[test]
    fn any_bytes_are_answered(
        mut bytes in prop::collection::vec(any::<u8>(), 0..64), kind in 0..25u8, flags in 0..8u8, shared_bytes: u32,
        like_a_message: bool,
    ) {
        if like_a_message {
            bytes.splice(..0, [MAGIC, VERSION, kind, flags, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]);
        }
        let _ = (from_usherd(&bytes, shared_bytes), from_helper(&bytes, shared_bytes), read_error(&bytes));
    }
}
