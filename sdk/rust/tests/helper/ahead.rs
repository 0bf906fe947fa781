//! Calls taken ahead by one thread, in this process.

use std::num::NonZeroU32;
use std::thread::JoinHandle;
use std::time::Duration;

use usherd_sdk::helper::{Call, Error, Failure, Helper};

use crate::harness::{Said, Usherd, pair};

fn serving(
    calls: u32,
    handler: impl FnMut(&mut Call<'_>) -> Result<Vec<u8>, Failure> + Send + 'static,
) -> (Usherd, JoinHandle<Result<(), Error>>) {
    let (near, far) = pair();
    let calls = NonZeroU32::new(calls).unwrap();
    let helper = std::thread::spawn(move || Helper::over(far)?.serve_ahead("ahead/1", calls, handler));
    let mut usherd = Usherd::welcoming(near, 0);
    assert_eq!(usherd.hear(), Said::Ready(calls.get(), "ahead/1".to_string()));
    (usherd, helper)
}

/// Called with `look`, looks into the socket until it is interrupted.
fn looking(call: &mut Call<'_>) -> Result<Vec<u8>, Failure> {
    while call.payload() == b"look" {
        call.check()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(call.payload().to_ascii_uppercase())
}

#[test]
fn what_lies_ready_is_answered_in_its_order() {
    let (mut usherd, helper) = serving(8, looking);
    for call in 1..=8 {
        usherd.call(call, &[b'a' + u8::try_from(call).unwrap()]);
    }
    for call in 1..=8 {
        assert_eq!(
            usherd.hear(),
            Said::Done(call, vec![b'A' + u8::try_from(call).unwrap()])
        );
    }
    usherd.call(9, b"last");
    usherd.goodbye();
    assert_eq!(usherd.hear(), Said::Done(9, b"LAST".to_vec()));
    assert_eq!(usherd.hear(), Said::End);
    assert!(helper.join().unwrap().is_ok());
}

#[test]
fn one_that_waits_is_given_up_without_being_begun_and_the_others_are_served() {
    let (mut usherd, helper) = serving(4, looking);
    usherd.call(1, b"look");
    for call in 2..=4 {
        usherd.call(call, b"wait");
    }
    usherd.interrupt(3);
    assert!(matches!(usherd.hear(), Said::Error(3, 1, text) if text == "interrupted before it was begun"));
    assert_eq!(usherd.hear(), Said::Interrupted(3));
    usherd.interrupt(1);
    assert!(matches!(usherd.hear(), Said::Error(1, 1, _)));
    assert_eq!(usherd.hear(), Said::Interrupted(1));
    for call in [2, 4] {
        assert_eq!(usherd.hear(), Said::Done(call, b"WAIT".to_vec()));
    }
    usherd.interrupt(4);
    assert_eq!(usherd.hear(), Said::Interrupted(4));
    usherd.goodbye();
    assert_eq!(usherd.hear(), Said::End);
    assert!(helper.join().unwrap().is_ok());
}

#[test]
fn after_goodbye_what_waits_is_still_answered() {
    let (mut usherd, helper) = serving(3, looking);
    usherd.call(1, b"look");
    usherd.call(2, b"wait");
    usherd.goodbye();
    usherd.interrupt(1);
    assert!(matches!(usherd.hear(), Said::Error(1, 1, _)));
    assert_eq!(usherd.hear(), Said::Interrupted(1));
    assert_eq!(usherd.hear(), Said::Done(2, b"WAIT".to_vec()));
    assert_eq!(usherd.hear(), Said::End);
    assert!(helper.join().unwrap().is_ok());
}

#[test]
fn more_than_was_declared_breaks_the_protocol() {
    let (mut usherd, helper) = serving(2, looking);
    usherd.call(1, b"look");
    usherd.call(2, b"wait");
    usherd.call(3, b"too many");
    while usherd.hear() != Said::End {}
    assert!(matches!(helper.join().unwrap(), Err(Error::Protocol(_))));
}
