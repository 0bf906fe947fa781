//! A usherd that breaks the protocol gets an error, never a panic, a hang or a broken memory.

use std::ffi::CString;

use rustix::fs::MemfdFlags;
use usherd_sdk::helper::{Error, Helper};
use wire::helper::{self as codec, Payload, Welcome};

use crate::harness::{SHARED_BYTES, Usherd, inline, pair, serving};

/// After these messages the helper ends with a protocol error.
fn refused(shared_bytes: u32, messages: &[Vec<u8>]) -> String {
    let (usherd, helper) = serving(shared_bytes, |call| Ok(call.payload().to_vec()));
    messages.iter().for_each(|message| usherd.say(message));
    match helper.join().expect("no panic") {
        Err(Error::Protocol(what)) => what,
        other => panic!("{messages:02x?}: {other:?}"),
    }
}

#[test]
fn what_breaks_the_protocol_ends_the_helper() {
    let mut welcome = Vec::new();
    let said = Welcome {
        message_bytes_max: 131_072,
        shared_bytes: 0,
        call_bytes_max: 1,
        answer_bytes_max: 1,
        service: "again",
    };
    codec::write_welcome(&mut welcome, &said).unwrap();
    refused(0, &[welcome]);
    refused(0, &[b"G".to_vec()]);
    refused(0, &[vec![0xD6; 24]]);
    refused(0, &[inline(1, b"x", 2, false)]);
    refused(0, &[inline(1, b"x", 2 << 20, true)]);
    refused(0, &[inline(1, b"x", 3, true), inline(2, b"y", 3, true)]);
    refused(0, &[inline(1, b"x", 3, true), inline(1, b"yy", 4, false)]);
    refused(0, &[inline(1, b"x", 3, true), inline(1, b"yyy", 3, false)]);
    refused(0, &[inline(1, b"x", 3, true), inline(1, b"y", 3, false)]);
    let mut announced = inline(1, b"x", 1, false);
    announced[3] = 4;
    refused(0, &[announced]);
    let mut shared = Vec::new();
    let whole_bytes = SHARED_BYTES / 2 + 1;
    let call = codec::Call {
        call: 1,
        deadline_ms: 0,
        whole_bytes,
        more: false,
        descriptor: false,
        payload: Payload::Shared {
            offset: 0,
            bytes: whole_bytes,
        },
    };
    codec::write_call(&mut shared, &call).unwrap();
    refused(SHARED_BYTES, &[shared.clone()]);
    refused(0, &[shared]);
}

#[test]
fn a_second_call_amid_the_first_ends_the_helper() {
    let (usherd, helper) = serving(0, |call| {
        while !call.interrupted() {
            std::thread::yield_now();
        }
        Ok("")
    });
    usherd.call(1, b"");
    usherd.call(2, b"");
    assert!(matches!(helper.join().unwrap(), Err(Error::Protocol(_))));
}

#[test]
fn a_welcome_that_is_none_is_refused() {
    let welcome = |message: &[u8], file: Option<&std::os::fd::OwnedFd>| {
        let (near, far) = pair();
        let usherd = Usherd::welcoming(near, 0);
        let mut buffer = [0; 1000];
        rustix::net::recv(&far, &mut buffer, rustix::net::RecvFlags::empty()).unwrap();
        usherd.say_with(message, file);
        Helper::over(far).map(drop)
    };
    let mut said = Vec::new();
    let bounds = Welcome {
        message_bytes_max: u32::MAX,
        shared_bytes: 1 << 20,
        call_bytes_max: u32::MAX,
        answer_bytes_max: u32::MAX,
        service: "test",
    };
    codec::write_welcome(&mut said, &bounds).unwrap();
    let name = CString::new("test").unwrap();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(&name, flags).unwrap();
    assert!(matches!(
        welcome(&inline(1, b"", 0, false), None),
        Err(Error::Protocol(_))
    ));
    assert!(matches!(welcome(&said, None), Err(Error::Protocol(_))));
    assert!(matches!(welcome(&said, Some(&file)), Err(Error::Io(_))), "it is empty");
    rustix::fs::ftruncate(&file, 1 << 20).unwrap();
    assert!(
        matches!(welcome(&said, Some(&file)), Err(Error::Io(_))),
        "it could shrink"
    );
    rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::SHRINK).unwrap();
    assert!(
        welcome(&said, Some(&file)).is_ok(),
        "large bounds are taken as what the kernel carries"
    );
}
