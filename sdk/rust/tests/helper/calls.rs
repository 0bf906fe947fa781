//! One call at a time, in this process.

use std::io::Read;
use std::sync::mpsc;
use std::time::Duration;

use usherd_sdk::helper::{CODE_ANSWER_TOO_LARGE, CODE_FAILED, Failure, Helper, Stop};
use wire::helper as codec;

use crate::harness::{ANSWER_BYTES_MAX, MESSAGE_BYTES, SHARED_BYTES, Said, Usherd, inline, pair, serving};

fn noise(bytes: usize) -> Vec<u8> {
    let number = |place: usize| u32::try_from(place).unwrap().wrapping_mul(2_654_435_761);
    (0..bytes).map(|place| number(place).to_be_bytes()[0]).collect()
}

#[test]
fn calls_are_answered_one_after_the_other_until_goodbye() {
    let (mut usherd, helper) = serving(0, |call| {
        assert_eq!(call.service(), "test");
        assert!(call.remaining().is_some_and(|left| left > Duration::from_secs(50)));
        Ok(call.payload().to_ascii_uppercase())
    });
    usherd.call(1, b"hello");
    assert_eq!(usherd.hear(), Said::Done(1, b"HELLO".to_vec()));
    usherd.call(2, b"");
    assert_eq!(usherd.hear(), Said::Done(2, b"".to_vec()));
    // What usherd says in advance waits its turn.
    usherd.call(3, b"last");
    usherd.goodbye();
    assert_eq!(usherd.hear(), Said::Done(3, b"LAST".to_vec()));
    assert_eq!(usherd.hear(), Said::End);
    assert!(helper.join().unwrap().is_ok());
}

#[test]
fn payloads_of_every_size_come_and_go_by_every_way() {
    for shared_bytes in [0, SHARED_BYTES] {
        let (mut usherd, helper) = serving(shared_bytes, |call| Ok(call.payload().to_vec()));
        let half = usize::try_from(SHARED_BYTES / 2).unwrap();
        let piece = usize::try_from(MESSAGE_BYTES).unwrap() - codec::HEADER_BYTES;
        for (call, bytes) in (1..).zip([0, 1, 4096, 4097, half, half + 1, piece, piece + 1, 700_000, 1 << 20]) {
            let payload = noise(bytes);
            if shared_bytes > 0 && (4097..=half).contains(&bytes) {
                usherd.call_shared(call, &payload);
                assert_eq!(usherd.hear(), Said::Shared(call, payload), "{bytes}");
                continue;
            }
            let mut rest = payload.as_slice();
            while rest.len() > piece {
                usherd.say(&inline(call, &rest[..piece], bytes, true));
                rest = &rest[piece..];
            }
            usherd.say(&inline(call, rest, bytes, false));
            let mut answer = Vec::new();
            loop {
                match usherd.hear() {
                    Said::Part(number, part) if number == call => answer.extend(part),
                    Said::Done(number, part) if number == call => break answer.extend(part),
                    other => panic!("{other:?}"),
                }
            }
            assert!(answer == payload, "{bytes} came back as {}", answer.len());
        }
        usherd.goodbye();
        assert!(helper.join().unwrap().is_ok());
    }
}

#[test]
fn failures_have_their_code_and_any_error_becomes_one() {
    let (mut usherd, _helper) = serving(0, |call| match call.payload() {
        b"own" => Err(Failure::new(7, "no such colour")),
        b"utf-8" => Ok(String::from_utf8(vec![0xFF])?),
        b"large" => Ok("x".repeat(usize::try_from(ANSWER_BYTES_MAX).unwrap() + 1)),
        b"large in parts" => {
            call.part(&noise(1 << 20))?;
            call.part(b"x")?;
            Ok(String::new())
        }
        _ => Err(Failure::new(1, "é".repeat(2000))),
    });
    usherd.call(1, b"own");
    assert_eq!(usherd.hear(), Said::Error(1, 7, "no such colour".to_string()));
    usherd.call(2, b"utf-8");
    assert!(matches!(usherd.hear(), Said::Error(2, CODE_FAILED, text) if text.contains("utf-8")));
    usherd.call(3, b"large");
    assert!(matches!(usherd.hear(), Said::Error(3, CODE_ANSWER_TOO_LARGE, _)));
    usherd.call(4, b"large in parts");
    let last = loop {
        match usherd.hear() {
            Said::Part(4, _) => {}
            last => break last,
        }
    };
    assert!(matches!(last, Said::Error(4, CODE_FAILED, text) if text == Stop::TooLarge.to_string()));
    usherd.call(5, b"long");
    assert!(matches!(usherd.hear(), Said::Error(5, 1, text) if text.len() == 1024));
}

#[test]
fn parts_are_handed_on_at_once_and_a_question_waits_for_its_input() {
    let (mut usherd, _helper) = serving(SHARED_BYTES, |call| {
        call.part(b"first ")?;
        let answer = call.ask(b"and then?")?;
        Ok([b"then ", answer.as_slice()].concat())
    });
    usherd.call(9, b"");
    assert_eq!(usherd.hear(), Said::Part(9, b"first ".to_vec()));
    assert_eq!(usherd.hear(), Said::Ask(9, b"and then?".to_vec()));
    usherd.input(8, b"of another call");
    usherd.input(9, b"the second");
    assert_eq!(usherd.hear(), Said::Done(9, b"then the second".to_vec()));
    // An input that nobody asked for is no answer to the next question.
    usherd.input(10, b"too early");
    usherd.call(10, b"");
    assert_eq!(usherd.hear(), Said::Part(10, b"first ".to_vec()));
    assert_eq!(usherd.hear(), Said::Ask(10, b"and then?".to_vec()));
    usherd.interrupt(10);
    assert!(matches!(usherd.hear(), Said::Error(10, CODE_FAILED, text) if text == Stop::Interrupted.to_string()));
    assert_eq!(usherd.hear(), Said::Interrupted(10));
}

#[test]
fn an_interrupt_is_acknowledged_after_the_end_of_its_call_and_at_once_if_that_is_over() {
    let (go, going) = mpsc::channel::<()>();
    let (mut usherd, _helper) = serving(0, move |call| {
        going.recv().unwrap();
        let first = call.interrupted();
        assert_eq!(call.interrupted(), first, "it stays so");
        assert_eq!(call.check().is_err(), first);
        Ok(if first { "stopped" } else { "went on" })
    });
    usherd.call(1, b"");
    usherd.interrupt(1);
    go.send(()).unwrap();
    assert_eq!(usherd.hear(), Said::Done(1, b"stopped".to_vec()));
    assert_eq!(usherd.hear(), Said::Interrupted(1));
    // Of a call that is over: at once, and the next call does not hear of it.
    usherd.interrupt(1);
    assert_eq!(usherd.hear(), Said::Interrupted(1));
    usherd.call(2, b"");
    usherd.interrupt(1);
    go.send(()).unwrap();
    assert_eq!(usherd.hear(), Said::Interrupted(1));
    assert_eq!(usherd.hear(), Said::Done(2, b"went on".to_vec()));
}

#[test]
fn an_interrupt_ends_a_call_of_which_not_all_has_come() {
    let (mut usherd, _helper) = serving(0, |call| Ok(call.payload().to_vec()));
    usherd.say(&inline(1, b"half", 8, true));
    usherd.interrupt(1);
    assert!(matches!(usherd.hear(), Said::Error(1, CODE_FAILED, _)));
    assert_eq!(usherd.hear(), Said::Interrupted(1));
    usherd.call(2, b"next");
    assert_eq!(usherd.hear(), Said::Done(2, b"next".to_vec()));
}

#[test]
fn a_descriptor_is_written_to_or_closed() {
    let (mut usherd, _helper) = serving(0, |call| {
        let take = call.payload() == b"take";
        match call.reply_to().filter(|_| take) {
            Some(mut file) => {
                assert!(call.reply_to().is_none());
                std::io::Write::write_all(&mut file, b"straight")?;
                Ok(Vec::new())
            }
            None => Ok(b"the usual way".to_vec()),
        }
    });
    for (number, payload, straight, usual) in [(1, "take", "straight", ""), (2, "leave", "", "the usual way")] {
        let (mut read, write) = std::io::pipe().unwrap();
        let mut message = inline(number, payload.as_bytes(), payload.len(), false);
        message[3] = 4;
        usherd.say_with(&message, Some(&write.into()));
        assert_eq!(usherd.hear(), Said::Done(number, usual.as_bytes().to_vec()));
        let mut direct = String::new();
        read.read_to_string(&mut direct).expect("the helper has closed its end");
        assert_eq!(direct, straight);
    }
}

#[test]
fn a_later_kind_is_passed_over() {
    let (mut usherd, _helper) = serving(0, |call| Ok(call.payload().to_vec()));
    let mut later = inline(1, b"later", 5, false);
    later[2] = 99;
    usherd.say(&later);
    usherd.call(2, b"now");
    assert_eq!(usherd.hear(), Said::Done(2, b"now".to_vec()));
}

#[test]
fn a_helper_ends_when_usherd_has_gone() {
    let (usherd, helper) = serving(0, |call| Ok(call.payload().to_vec()));
    drop(usherd);
    assert!(helper.join().unwrap().is_ok());
}

#[test]
fn a_helper_that_cannot_take_calls_says_why() {
    let (near, far) = pair();
    let helper = std::thread::spawn(move || Helper::over(far).map(|helper| helper.unable("no database")));
    let mut usherd = Usherd::welcoming(near, 0);
    assert_eq!(usherd.hear(), Said::Unable("no database".to_string()));
    assert_eq!(usherd.hear(), Said::End);
    let error = helper.join().unwrap().unwrap();
    assert_eq!(error.to_string(), "cannot take calls: no database");
}
