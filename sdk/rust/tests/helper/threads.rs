//! Several calls at once, in this process.

use std::collections::BTreeSet;
use std::io::Read;
use std::num::NonZeroU32;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::thread::JoinHandle;

use usherd_sdk::helper::{Call, Error, Failure, Helper};

use crate::harness::{Said, Usherd, pair};

fn crew(
    threads: u32,
    shared_bytes: u32,
    handler: fn(&mut Call<'_>) -> Result<Vec<u8>, Failure>,
) -> (Usherd, JoinHandle<Result<(), Error>>) {
    let (near, far) = pair();
    let threads = NonZeroU32::new(threads).unwrap();
    let helper = std::thread::spawn(move || Helper::over(far)?.serve_threads("crew/1", threads, |_| Ok(handler)));
    let mut usherd = Usherd::welcoming(near, shared_bytes);
    assert_eq!(usherd.hear(), Said::Ready(threads.get(), "crew/1".to_string()));
    (usherd, helper)
}

/// Blocks in a system call until it is interrupted.
fn stuck(call: &mut Call<'_>) -> Result<Vec<u8>, Failure> {
    let (mut near, _far) = UnixStream::pair()?;
    loop {
        match near.read(&mut [0; 8]) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => call.check()?,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn as_many_calls_as_threads_run_at_once() {
    static ALL: Barrier = Barrier::new(4);
    let (mut usherd, helper) = crew(4, 0, |call| {
        ALL.wait();
        Ok(call.payload().to_ascii_uppercase())
    });
    for round in 0..20 {
        for call in 1..=4 {
            usherd.call(round * 4 + call, b"x");
        }
        let heard: BTreeSet<u32> = (0..4)
            .map(|_| match usherd.hear() {
                Said::Done(call, answer) if answer == b"X" => call,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(heard, (round * 4 + 1..=round * 4 + 4).collect());
    }
    usherd.goodbye();
    assert_eq!(usherd.hear(), Said::End);
    assert!(helper.join().unwrap().is_ok());
}

#[test]
fn a_stuck_call_is_interrupted_and_its_neighbour_is_not() {
    let (mut usherd, helper) = crew(2, 0, |call| match call.payload() {
        b"stuck" => stuck(call),
        other => Ok(other.to_vec()),
    });
    usherd.call(1, b"stuck");
    usherd.call(2, b"beside");
    assert_eq!(usherd.hear(), Said::Done(2, b"beside".to_vec()));
    usherd.interrupt(2);
    assert_eq!(usherd.hear(), Said::Interrupted(2));
    usherd.interrupt(1);
    assert!(matches!(usherd.hear(), Said::Error(1, 1, _)));
    assert_eq!(usherd.hear(), Said::Interrupted(1));
    usherd.call(3, b"next");
    usherd.goodbye();
    assert_eq!(usherd.hear(), Said::Done(3, b"next".to_vec()));
    assert!(helper.join().unwrap().is_ok());
}

#[test]
fn calls_ask_each_for_itself() {
    let (mut usherd, _helper) = crew(2, 0, |call| {
        let question = call.payload().to_vec();
        Ok(call.ask(&question)?.to_vec())
    });
    usherd.call(1, b"one?");
    usherd.call(2, b"two?");
    let asked = [usherd.hear(), usherd.hear()];
    assert!(asked.contains(&Said::Ask(1, b"one?".to_vec())) && asked.contains(&Said::Ask(2, b"two?".to_vec())));
    usherd.input(2, b"second");
    assert_eq!(usherd.hear(), Said::Done(2, b"second".to_vec()));
    usherd.interrupt(1);
    assert!(matches!(usherd.hear(), Said::Error(1, 1, _)));
    assert_eq!(usherd.hear(), Said::Interrupted(1));
}

#[test]
fn a_helper_whose_usherd_has_gone_ends_whatever_its_threads_wait_for() {
    let (usherd, helper) = crew(2, 0, |call| match call.payload() {
        b"stuck" => stuck(call),
        _ => Ok(call.ask(b"well?")?.to_vec()),
    });
    usherd.call(1, b"stuck");
    usherd.call(2, b"ask");
    drop(usherd);
    assert!(helper.join().unwrap().is_ok());
}

#[test]
fn too_many_calls_or_one_id_twice_end_the_helper() {
    // The last of them ends it.
    for calls in [&[1, 2, 3][..], &[1, 1]] {
        let (usherd, helper) = crew(2, 0, stuck);
        calls.iter().for_each(|call| usherd.call(*call, b""));
        assert!(matches!(helper.join().unwrap(), Err(Error::Protocol(_))), "{calls:?}");
    }
}

#[test]
fn a_thread_that_panics_takes_the_helper_with_it() {
    let (mut usherd, helper) = crew(2, 0, |_| panic!("on purpose"));
    usherd.call(1, b"");
    assert_eq!(usherd.hear(), Said::End);
    assert!(helper.join().is_err());
}

#[test]
fn a_handler_that_cannot_be_made_ends_the_helper_before_it_is_ready() {
    let (near, far) = pair();
    let made = |thread: u32| {
        let no = Failure::new(1, "no database");
        if thread == 1 {
            Err(no)
        } else {
            Ok(|call: &mut Call<'_>| Ok(call.payload().to_vec()))
        }
    };
    let helper = std::thread::spawn(move || Helper::over(far)?.serve_threads("x", NonZeroU32::new(2).unwrap(), made));
    let mut usherd = Usherd::welcoming(near, 0);
    assert_eq!(usherd.hear(), Said::Unable("no database".to_string()));
    assert_eq!(usherd.hear(), Said::End);
    let error = helper.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "cannot take calls: no database");
}
