use super::*;
use proptest::prelude::*;

/// The page's examples are what is written here.
#[test]
fn frames_are_as_documented() {
    let page = include_str!("../../docs/rpc-protocol.md");
    let mut written: [Vec<u8>; 11] = Default::default();
    let [
        hello,
        call,
        part,
        done,
        error,
        cancel,
        token,
        ask,
        input,
        direct,
        failed,
    ] = &mut written;
    write_hello(hello, 1 << 20, "demo/1");
    write_call(call, 1, 2000, "upper", b"hello").unwrap();
    write_reply_part(part, 1, b"HEL").unwrap();
    write_reply_done(done, 1, b"LO").unwrap();
    write_error(error, 2, ErrorCode::Crashed { status: -9 }, "helper ended");
    write_cancel(cancel, 3).unwrap();
    write_hello_token(token, 1 << 20, "demo/1", b"open sesame").unwrap();
    write_ask(ask, 4, b"{\"prompts\":[]}").unwrap();
    write_input(input, 4, b"{\"answers\":[]}").unwrap();
    write_call_direct(direct, 5, 0, "dump", b"all").unwrap();
    write_error(failed, 6, ErrorCode::Failed { code: 1 }, "no such table");
    for frame in &written {
        let shown = frame.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
        let shown = shown
            .chunks(16)
            .map(|line| line.join(" "))
            .collect::<Vec<_>>()
            .join("\n");
        assert!(page.contains(&shown), "not in docs/rpc-protocol.md:\n{shown}");
    }
}

/// Header and payload in one vectored write are the frame that is appended elsewhere.
#[test]
fn a_reply_s_header_is_its_frame_s() {
    let payload = [7; 300];
    for last in [false, true] {
        let mut frame = Vec::new();
        let write = if last { write_reply_done } else { write_reply_part };
        write(&mut frame, 0x0102_0304, &payload).unwrap();
        let header = reply_header(0x0102_0304, last, payload.len()).unwrap();
        assert_eq!([&header[..], &payload].concat(), frame);
    }
    assert!(matches!(reply_header(0, true, 1), Err(Malformed::BadId)));
    assert!(matches!(
        reply_header(1, true, PAYLOAD_BYTES_MAX + 1),
        Err(Malformed::TooLarge)
    ));
}

#[test]
fn errors_and_hellos_are_read_back() {
    for number in 0..20 {
        let code = ErrorCode::from_numbers(number, -11);
        let mut out = Vec::new();
        write_error(&mut out, 7, code, "why");
        let frame = peek(&out).unwrap();
        assert_eq!((frame.kind, frame.call), (Kind::Error, 7));
        assert_eq!(read_error(frame.payload), Ok((code, "why")));
        assert_eq!(code.number(), number);
    }
    let mut out = Vec::new();
    write_hello(&mut out, 99, &"é".repeat(2000));
    let (bytes, software) = read_hello(peek(&out).unwrap().payload).unwrap();
    assert_eq!((bytes, software.len()), (99, 1024));
    assert_eq!(read_error(b"\0\x01\0\0\0"), Err(Malformed::Truncated));
    assert_eq!(read_hello(b"\0\0\0"), Err(Malformed::Truncated));
}

#[test]
fn tokens_and_direct_answers_are_options() {
    let mut out = Vec::new();
    write_hello_token(&mut out, 99, "x", b"secret").unwrap();
    let hello = peek(&out).unwrap();
    assert_eq!(hello.options.find_type(option::TOKEN), Some(&b"secret"[..]));
    assert_eq!(read_hello(hello.payload), Ok((99, "x")));
    assert_eq!(
        hello.options.must_know(&[]),
        None,
        "who asks for no token passes over it"
    );
    assert!(out.len() <= HELLO_BYTES_MAX);
    assert!(write_hello_token(&mut Vec::new(), 9, "x", &[0; TOKEN_BYTES_MAX + 1]).is_err());
    out.clear();
    write_call_direct(&mut out, 1, 0, "s", b"payload").unwrap();
    let call = peek(&out).unwrap();
    assert_eq!(call.options.find_type(option::DIRECT), Some(&[][..]));
    assert_eq!(call.options.must_know(&[]), Some(option::DIRECT));
    assert_eq!((call.service, call.payload), ("s", &b"payload"[..]));
}

#[test]
fn a_header_alone_decides() {
    assert_eq!(split(b"", 100), Step::NeedMore { total: None });
    assert_eq!(split(b"G", 100), Step::Malformed(Malformed::BadMagic));
    assert_eq!(split(b"\xd5", 100), Step::NeedMore { total: None });
    assert_eq!(split(b"\xd5\x02", 100), Step::Malformed(Malformed::BadVersion));
    let mut out = Vec::new();
    write_call(&mut out, 1, 0, "s", &[0; 100]).unwrap();
    assert_eq!(split(&out[..19], 1000), Step::NeedMore { total: None });
    assert_eq!(split(&out[..20], 1000), Step::NeedMore { total: Some(121) });
    assert_eq!(split(&out[..20], 120), Step::Malformed(Malformed::TooLarge));
    out[16] = 0xFF;
    assert_eq!(split(&out, usize::MAX), Step::Malformed(Malformed::TooLarge));
    out[16] = 0;
    out[12] = 0xFF;
    assert_eq!(split(&out, usize::MAX), Step::Malformed(Malformed::TooLarge));
}

#[test]
fn a_kind_allows_only_what_is_its_own() {
    let edited = |at: usize, value: u8, kind: Kind| {
        let mut out = Vec::new();
        match kind {
            Kind::Call => write_call(&mut out, 1, 5, "s", b"x").unwrap(),
            Kind::Hello => write_hello(&mut out, 9, "x"),
            _ => write(&mut out, &Head::new(kind, 1), b"x").unwrap(),
        }
        out[at] = value;
        peek(&out).map(drop)
    };
    assert_eq!(edited(0, 0xD5, Kind::Call), Ok(()));
    assert_eq!(edited(2, 0, Kind::Call), Err(Malformed::BadOperation));
    assert_eq!(edited(2, 9, Kind::Call), Err(Malformed::BadOperation));
    assert!(edited(2, 7, Kind::Call).is_err(), "an ask names no service");
    assert!(edited(3, 1, Kind::Call).is_err());
    assert_eq!(edited(7, 0, Kind::Call), Err(Malformed::BadId));
    assert!(edited(20, 0xFF, Kind::Call).is_err());
    assert!(edited(2, 4, Kind::Call).is_err());
    assert_eq!(edited(7, 1, Kind::Hello), Err(Malformed::BadId));
    assert_eq!(edited(7, 0, Kind::ReplyDone), Err(Malformed::BadId));
    assert!(edited(11, 1, Kind::ReplyDone).is_err());
    assert!(edited(2, 2, Kind::ReplyDone).is_err());
    assert_eq!(edited(2, 6, Kind::ReplyDone), Err(Malformed::TrailingBytes));
    for bad in [
        write_call(&mut Vec::new(), 0, 0, "s", b""),
        write_call(&mut Vec::new(), 1, 0, "", b""),
    ] {
        assert!(bad.is_err());
    }
    assert_eq!(
        write_reply_done(&mut Vec::new(), 1, &vec![0; PAYLOAD_BYTES_MAX + 1]),
        Err(Malformed::TooLarge)
    );
}

#[test]
fn options_are_walked_and_those_that_matter_found() {
    let mut out = Vec::new();
    write_call(&mut out, 1, 0, "s", b"x").unwrap();
    let options = b"\x01\x00\x02ab\x80\x00\x00";
    out.splice(21..21, options.iter().copied());
    out[15] = 8;
    let seen = peek(&out).unwrap();
    assert_eq!(seen.options.collect::<Vec<_>>(), [(1, &b"ab"[..]), (128, b"")]);
    assert_eq!(
        (seen.options.must_know(&[]), seen.options.must_know(&[128])),
        (Some(128), None)
    );
    assert_eq!(seen.payload, b"x");
    out[23] = 0xFF;
    assert_eq!(peek(&out), Err(Malformed::Truncated));
}

proptest! {
    #[test]
    fn what_is_written_is_seen(
        call in 1..=u32::MAX, deadline_ms: u32, service in "[a-zé]{1,60}",
        payload in prop::collection::vec(any::<u8>(), 0..300), behind in prop::collection::vec(any::<u8>(), 0..9),
    ) {
        let mut out = Vec::new();
        write_call(&mut out, call, deadline_ms, &service, &payload).unwrap();
        let seen = peek(&out).unwrap();
        prop_assert_eq!((seen.kind, seen.call, seen.deadline_ms), (Kind::Call, call, deadline_ms));
        prop_assert_eq!((seen.service, seen.payload), (&service[..], &payload[..]));
        let len = out.len();
        for cut in 0..len {
            let total = (cut >= HEADER_BYTES).then_some(len);
            prop_assert_eq!(split(&out[..cut], len), Step::NeedMore { total });
            prop_assert!(peek(&out[..cut]).is_err());
        }
        out.extend_from_slice(&behind);
        prop_assert_eq!(split(&out, len), Step::Frame { len });
    }

    #[test]
    fn any_bytes_are_answered(mut bytes in prop::collection::vec(any::<u8>(), 0..64), like_a_frame: bool) {
        if like_a_frame {
            bytes.splice(..0, [MAGIC, VERSION, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0, 7, 0, 0, 0, 9]);
        }
        if let Ok(frame) = peek(&bytes) {
            let _ = (read_error(frame.payload), read_hello(frame.payload), frame.options.count());
        }
    }
}
