use super::*;
use crate::core::arena::Handle;
use proptest::prelude::*;
use wire::frame::Step;

const SETTINGS: Settings = Settings {
    calls_max: 3,
    payload_bytes_max: 100,
    software: "usherd/test",
};

fn ticket(index: u32) -> Ticket {
    Ticket(Handle { index, generation: 1 })
}

fn call(id: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    rpc::write_call(&mut frame, id, 250, "upper", payload).unwrap();
    frame
}

fn cancel(id: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    rpc::write_cancel(&mut frame, id).unwrap();
    frame
}

fn hello(bytes: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    rpc::write_hello(&mut frame, bytes, "client");
    frame
}

/// What a client reads: kind, call id, and the payload or the error's code.
#[derive(Debug, PartialEq)]
enum Said {
    Hello(u32),
    Part(u32, Vec<u8>),
    Done(u32, Vec<u8>),
    Error(u32, ErrorCode),
    Ask(u32, Vec<u8>),
}

fn said(mut out: &[u8]) -> Vec<Said> {
    let mut all = Vec::new();
    while let Step::Frame { len } = rpc::split(out, rpc::FRAME_BYTES_MAX) {
        let (frame, rest) = out.split_at(len);
        out = rest;
        let frame = rpc::peek(frame).unwrap();
        all.push(match frame.kind {
            Kind::Hello => Said::Hello(rpc::read_hello(frame.payload).unwrap().0),
            Kind::ReplyPart => Said::Part(frame.call, frame.payload.to_vec()),
            Kind::ReplyDone => Said::Done(frame.call, frame.payload.to_vec()),
            Kind::Ask => Said::Ask(frame.call, frame.payload.to_vec()),
            Kind::Error => Said::Error(frame.call, rpc::read_error(frame.payload).unwrap().0),
            other => panic!("a server does not say {other:?}"),
        });
    }
    assert!(out.is_empty(), "whole frames only");
    all
}

/// Takes a frame, submitting calls as ticket `id` of pool 7.
fn take(session: &mut Session, frame: &[u8], out: &mut Vec<u8>) -> &'static str {
    let frame = rpc::peek(frame).unwrap();
    match session.receive(&frame, &SETTINGS, out) {
        Next::Done => "done",
        Next::Call(call) => {
            session.submitted(call.id, 7, ticket(call.id));
            "call"
        }
        Next::Cancel(_) => "cancel",
        Next::Input(..) => "input",
        Next::Close => "close",
        Next::Later => "later",
    }
}

#[test]
fn a_call_is_handed_on_and_its_answer_told() {
    let (mut session, mut out) = (Session::new(None), Vec::new());
    let bytes = call(9, b"hello");
    let next = session.receive(&rpc::peek(&bytes).unwrap(), &SETTINGS, &mut out);
    let expected = Call {
        id: 9,
        service: "upper",
        timeout: Some(Span::from_millis(250)),
        payload: b"hello",
        direct: false,
    };
    assert_eq!(next, Next::Call(expected));
    session.submitted(9, 7, ticket(1));
    assert_eq!(session.pending(), 1);
    assert!(session.answered(9, b"HELLO", &mut out));
    assert!(!session.answered(9, b"AGAIN", &mut out), "one final frame");
    assert!(!session.failed(9, Reason::Deadline, true, &mut out), "one final frame");
    assert_eq!(said(&out), [Said::Done(9, b"HELLO".to_vec())]);
}

#[test]
fn an_answer_goes_in_parts_that_the_client_takes() {
    let (mut session, mut out) = (Session::new(None), Vec::new());
    assert_eq!(take(&mut session, &hello(64), &mut out), "done");
    for (id, length, parts) in [(1, 0, 0), (2, 44, 0), (3, 45, 1), (4, 88, 1), (5, 89, 2)] {
        out.clear();
        take(&mut session, &call(id, b""), &mut out);
        let answer: Vec<u8> = (0..length).collect();
        session.answered(id, &answer, &mut out);
        let said = said(&out);
        assert_eq!(said.len(), parts + 1, "{length} bytes");
        let mut joined = Vec::new();
        for frame in &said {
            match frame {
                Said::Part(of, bytes) | Said::Done(of, bytes) if *of == id && bytes.len() <= 44 => {
                    joined.extend_from_slice(bytes);
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(joined, answer);
        assert!(matches!(said.last(), Some(Said::Done(..))));
    }
    out.clear();
    take(&mut session, &call(6, b""), &mut out);
    session.ended(6, ErrorCode::Crashed { status: 3 }, &"é".repeat(100), &mut out);
    assert!(out.len() <= 64, "an error fits too: {}", out.len());
    assert_eq!(said(&out), [Said::Error(6, ErrorCode::Crashed { status: 3 })]);
}

#[test]
fn an_answer_that_is_written_past_the_outbox_ends_its_call_once() {
    let (mut session, mut out) = (Session::default(), Vec::new());
    take(&mut session, &hello(100), &mut out);
    take(&mut session, &call(7, b"x"), &mut out);
    session.submitted(7, 0, ticket(7));
    out.clear();
    assert_eq!(
        session.answer_header(7, true, 81),
        None,
        "the client takes no such frame"
    );
    assert_eq!(session.answer_header(8, true, 1), None, "not open");
    for (last, bytes) in [(false, 80), (true, 3)] {
        out.extend_from_slice(&session.answer_header(7, last, bytes).unwrap());
        out.extend_from_slice(&vec![b'a'; bytes]);
    }
    assert_eq!(
        said(&out),
        [Said::Part(7, vec![b'a'; 80]), Said::Done(7, vec![b'a'; 3])]
    );
    assert_eq!(session.answer_header(7, true, 1), None, "it has ended");
    assert!(!session.answered(7, b"again", &mut out));
}

#[test]
fn the_hello_tells_our_bound_and_comes_first_and_once() {
    let (mut session, mut out) = (Session::new(None), Vec::new());
    take(&mut session, &hello(1 << 20), &mut out);
    assert_eq!(said(&out), [Said::Hello(20 + 255 + 4096 + 100)]);
    for frames in [
        vec![hello(4096), hello(4096)],
        vec![call(1, b""), hello(4096)],
        vec![hello(63)],
    ] {
        let (mut session, mut out) = (Session::new(None), Vec::new());
        let last = frames.iter().map(|frame| take(&mut session, frame, &mut out)).last();
        assert_eq!(last, Some("close"));
        assert_eq!(said(&out).last(), Some(&Said::Error(0, ErrorCode::Protocol)));
    }
}

#[test]
fn beyond_the_bound_calls_wait_and_cancels_do_not() {
    let (mut session, mut out) = (Session::new(None), Vec::new());
    for id in 1..=3 {
        assert_eq!(take(&mut session, &call(id, b""), &mut out), "call");
    }
    assert_eq!(take(&mut session, &call(4, b""), &mut out), "later");
    assert_eq!(take(&mut session, &cancel(2), &mut out), "cancel");
    assert_eq!(take(&mut session, &cancel(99), &mut out), "done", "passed over");
    assert!(session.failed(2, Reason::Canceled, true, &mut out));
    assert_eq!(take(&mut session, &call(4, b""), &mut out), "call");
    assert_eq!(said(&out), [Said::Error(2, ErrorCode::Canceled)]);
}

#[test]
fn what_breaks_the_rules_ends_the_connection() {
    let mut option = call(1, b"");
    // An option of type 200 and no bytes, which nobody knows.
    option[15] = 3;
    option.extend_from_slice(&[200, 0, 0]);
    let mut reply = Vec::new();
    rpc::write_reply_done(&mut reply, 1, b"").unwrap();
    for frames in [vec![call(1, b""), call(1, b"")], vec![option], vec![reply]] {
        let (mut session, mut out) = (Session::new(None), Vec::new());
        let last = frames.iter().map(|frame| take(&mut session, frame, &mut out)).last();
        assert_eq!(last, Some("close"));
        assert_eq!(said(&out), [Said::Error(0, ErrorCode::Protocol)]);
        assert_eq!(
            take(&mut session, &call(5, b""), &mut out),
            "done",
            "nothing more is taken"
        );
        assert_eq!(session.leave().len(), frames.len() - 1, "what is open is canceled");
    }
    let (mut session, mut out) = (Session::new(None), Vec::new());
    assert_eq!(session.poisoned(Malformed::TooLarge, &mut out), Next::Close);
    assert_eq!(said(&out), [Said::Error(0, ErrorCode::TooLarge)]);
}

#[test]
fn parts_and_asks_come_before_the_end_and_input_finds_its_call() {
    let (mut session, mut out) = (Session::new(None), Vec::new());
    take(&mut session, &hello(64), &mut out);
    take(&mut session, &call(1, b""), &mut out);
    out.clear();
    let part: Vec<u8> = (0..45).collect();
    assert!(session.part(1, &part, &mut out));
    assert_eq!(session.ask(1, b"who?", &mut out), Ok(true));
    assert!(session.ask(1, &part, &mut out).is_err(), "larger than its frames");
    let mut input = Vec::new();
    rpc::write_input(&mut input, 1, b"me").unwrap();
    let open = Open {
        pool: 7,
        ticket: ticket(1),
    };
    let next = session.receive(&rpc::peek(&input).unwrap(), &SETTINGS, &mut out);
    assert_eq!(next, Next::Input(open, b"me"));
    let mut stray = Vec::new();
    rpc::write_input(&mut stray, 2, b"me").unwrap();
    assert_eq!(take(&mut session, &stray, &mut out), "done", "passed over");
    assert!(session.answered(1, b"you", &mut out));
    assert!(!session.part(1, b"late", &mut out));
    assert_eq!(session.ask(1, b"late", &mut out), Ok(false));
    let expected = [
        Said::Part(1, part[..44].to_vec()),
        Said::Part(1, part[44..].to_vec()),
        Said::Ask(1, b"who?".to_vec()),
        Said::Done(1, b"you".to_vec()),
    ];
    assert_eq!(said(&out), expected);
    take(&mut session, &call(3, b""), &mut out);
    out.clear();
    let mut large = Vec::new();
    rpc::write_input(&mut large, 3, &[0; 101]).unwrap();
    assert_eq!(take(&mut session, &large, &mut out), "close");
    assert_eq!(said(&out), [Said::Error(0, ErrorCode::TooLarge)]);
}

#[test]
fn a_stranger_shows_the_token_first() {
    let token = || Some(Arc::new(Zeroizing::new(b"sesame".to_vec())));
    let with = |token: &[u8]| {
        let mut frame = Vec::new();
        rpc::write_hello_token(&mut frame, 4096, "client", token).unwrap();
        frame
    };
    for wrong in [
        with(b"sesamf"),
        with(b"sesam"),
        with(b""),
        hello(4096),
        call(1, b"x"),
        cancel(1),
    ] {
        let (mut session, mut out) = (Session::new(token()), Vec::new());
        assert_eq!(session.takes_bytes_max(&SETTINGS), rpc::HELLO_BYTES_MAX);
        assert_eq!(take(&mut session, &wrong, &mut out), "close");
        assert_eq!(said(&out), [Said::Error(0, ErrorCode::Denied)]);
        assert_eq!(take(&mut session, &with(b"sesame"), &mut out), "done", "once");
        assert!(session.is_stranger());
    }
    let (mut session, mut out) = (Session::new(token()), Vec::new());
    assert_eq!(take(&mut session, &with(b"sesame"), &mut out), "done");
    assert!(!session.is_stranger());
    assert_eq!(session.takes_bytes_max(&SETTINGS), SETTINGS.frame_bytes_max());
    assert_eq!(take(&mut session, &call(1, b"x"), &mut out), "call");
    let (mut open, mut out) = (Session::new(None), Vec::new());
    assert_eq!(take(&mut open, &with(b"whatever"), &mut out), "done", "nobody asked");
}

#[test]
fn a_call_may_bring_a_descriptor() {
    let (mut session, mut out) = (Session::new(None), Vec::new());
    let mut frame = Vec::new();
    rpc::write_call_direct(&mut frame, 1, 0, "dump", b"").unwrap();
    let next = session.receive(&rpc::peek(&frame).unwrap(), &SETTINGS, &mut out);
    assert!(matches!(next, Next::Call(Call { direct: true, .. })), "{next:?}");
}

#[test]
fn a_request_that_is_too_large_ends_alone() {
    let (mut session, mut out) = (Session::new(None), Vec::new());
    assert_eq!(take(&mut session, &call(1, &[0; 101]), &mut out), "done");
    assert_eq!(take(&mut session, &call(2, &[0; 100]), &mut out), "call");
    assert_eq!(said(&out), [Said::Error(1, ErrorCode::TooLarge)]);
}

#[test]
fn a_drain_waits_for_what_is_open() {
    let (mut session, mut out) = (Session::new(None), Vec::new());
    take(&mut session, &call(1, b""), &mut out);
    assert_eq!(session.drain(), Next::Done);
    assert_eq!(take(&mut session, &call(2, b""), &mut out), "done");
    assert!(session.answered(1, b"x", &mut out));
    assert_eq!(session.after_end(), Next::Close);
    let expected = [Said::Error(2, ErrorCode::ShuttingDown), Said::Done(1, b"x".to_vec())];
    assert_eq!(said(&out), expected);
}

#[test]
fn a_call_that_a_program_had_is_never_told_to_try_again() {
    for (reason, code) in [
        (Reason::Canceled, ErrorCode::Canceled),
        (Reason::Deadline, ErrorCode::Deadline),
        (Reason::ShuttingDown, ErrorCode::Crashed { status: -2 }),
        (
            Reason::UpstreamLost { delivered: false },
            ErrorCode::Crashed { status: -2 },
        ),
    ] {
        assert_eq!(say(reason, true).0, code);
        assert!(!code.reached_nobody());
    }
    for reason in [
        Reason::QueueFull,
        Reason::QueueTimeout,
        Reason::Unavailable,
        Reason::ShuttingDown,
    ] {
        assert!(say(reason, false).0.reached_nobody(), "{reason:?}");
    }
}

#[derive(Clone, Debug)]
enum Event {
    Call(u32),
    Cancel(u32),
    Answer(u32),
    Fail(u32),
    Drain,
    Leave,
}

fn event() -> impl Strategy<Value = Event> {
    let id = 1_u32..6;
    prop_oneof![
        4 => id.clone().prop_map(Event::Call),
        2 => id.clone().prop_map(Event::Cancel),
        4 => id.clone().prop_map(Event::Answer),
        2 => id.prop_map(Event::Fail),
        1 => Just(Event::Drain),
        1 => Just(Event::Leave),
    ]
}

proptest! {
    /// Whatever happens in whatever order: one final frame for each call that was taken and not left behind.
    #[test]
    fn every_call_ends_once(steps in prop::collection::vec(event(), 0..80)) {
        let (mut session, mut out) = (Session::new(None), Vec::new());
        let mut open: HashMap<u32, usize> = HashMap::new();
        let (mut taken, mut refused, mut closed) = (0, 0, false);
        for step in steps {
            match step {
                Event::Call(id) => match take(&mut session, &call(id, b"x"), &mut out) {
                    "call" => {
                        prop_assert!(!closed && open.insert(id, taken).is_none() && open.len() <= 3);
                        taken += 1;
                    }
                    "close" => {
                        prop_assert!(open.contains_key(&id) && !closed);
                        closed = true;
                    }
                    "later" => prop_assert_eq!(open.len(), 3),
                    _ if closed => {}
                    _ => refused += 1,
                },
                Event::Cancel(id) => {
                    let expected = if open.contains_key(&id) && !closed { "cancel" } else { "done" };
                    prop_assert_eq!(take(&mut session, &cancel(id), &mut out), expected);
                }
                Event::Answer(id) => {
                    let told = session.answered(id, b"y", &mut out);
                    prop_assert_eq!(told, open.remove(&id).is_some() && !closed);
                }
                Event::Fail(id) => {
                    let told = session.failed(id, Reason::Deadline, true, &mut out);
                    prop_assert_eq!(told, open.remove(&id).is_some() && !closed);
                }
                Event::Drain => {
                    session.drain();
                }
                Event::Leave => {
                    prop_assert_eq!(session.leave().len(), open.len());
                    open.clear();
                    closed = true;
                }
            }
            prop_assert_eq!(session.pending(), open.len());
        }
        let finals = said(&out).iter().filter(|said| matches!(said, Said::Done(id, _) | Said::Error(id, _) if *id != 0)).count();
        prop_assert!(finals <= taken + refused);
        if !closed {
            prop_assert_eq!(finals, taken + refused - open.len());
        }
    }
}
