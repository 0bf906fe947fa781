//! Whatever usherd may say, in whatever order, to the helper end of the Rust library: it answers, or ends with an error; it
//! never panics and never waits for what cannot come; and what it says keeps the protocol.

use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown,
    SocketFlags, SocketType,
};
use usherd_sdk::helper::{Call, Failure, Helper};
use wire::helper::{self as codec, FromHelper, Payload, Welcome};

const SHARED_BYTES: u32 = 16_384;
/// So that nothing fills a socket: both ends are on this thread.
const MESSAGES_MAX: usize = 16;

pub(crate) fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let shared_bytes = if first & 1 == 0 { 0 } else { SHARED_BYTES };
    let (near, far) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .expect("a pair");
    welcome(&near, shared_bytes);
    // How often each of four ids was called, and interrupted.
    let (mut calls, mut interrupts) = ([0; 4], [0; 4]);
    let mut rest = rest;
    for _ in 0..MESSAGES_MAX {
        let Some((message, left)) = message(rest) else { break };
        rest = left;
        let id = usize::from(message.bytes.get(7).copied().unwrap_or(0) & 3);
        match message.bytes.get(2) {
            Some(2) => calls[id] += 1,
            Some(3) => interrupts[id] += 1,
            _ => {}
        }
        send(&near, &message.bytes, message.descriptor.then_some(&near));
    }
    rustix::net::shutdown(&near, Shutdown::Write).expect("a socket");
    if let Ok(helper) = Helper::over(far) {
        let _ = helper.serve("fuzz/1", answer);
    }
    heard(&near, shared_bytes, calls, interrupts);
}

fn answer(call: &mut Call<'_>) -> Result<Vec<u8>, Failure> {
    match call.payload().first().map(|byte| byte % 7) {
        Some(0) => call.part(b"part")?,
        Some(1) => return Ok(call.ask(b"well?")?.to_vec()),
        Some(2) => call.check()?,
        Some(3) => return Err(Failure::new(9, "on purpose")),
        Some(4) => return Ok(vec![b'x'; 5000]),
        Some(5) => drop(call.reply_to()),
        _ => {}
    }
    Ok(call.payload().to_vec())
}

struct Message {
    bytes: Vec<u8>,
    descriptor: bool,
}

/// One message: a byte that says which and about which call, a byte of length, and so many bytes.
fn message(data: &[u8]) -> Option<(Message, &[u8])> {
    let [which, len, rest @ ..] = data else { return None };
    let (bytes, rest) = rest.split_at(rest.len().min((*len).into()));
    let call = u32::from(which >> 3 & 3);
    let whole = u32::try_from(bytes.len()).ok()?;
    let said = codec::Call {
        call,
        deadline_ms: 0,
        whole_bytes: whole,
        more: false,
        descriptor: false,
        payload: Payload::Inline(bytes),
    };
    let mut out = Vec::new();
    let written = match which & 7 {
        0 => codec::write_call(&mut out, &said),
        1 => codec::write_call(
            &mut out,
            &codec::Call {
                whole_bytes: 9,
                more: true,
                ..said
            },
        ),
        2 => codec::write_interrupt(&mut out, call),
        3 => codec::write_input(&mut out, call, bytes),
        4 => codec::write_call(&mut out, &codec::Call { whole_bytes: 9, ..said }),
        5 => {
            let payload = Payload::Shared {
                offset: 0,
                bytes: whole * 50,
            };
            codec::write_call(
                &mut out,
                &codec::Call {
                    whole_bytes: whole * 50,
                    payload,
                    ..said
                },
            )
        }
        6 => codec::write_call(
            &mut out,
            &codec::Call {
                descriptor: true,
                ..said
            },
        ),
        _ => Ok(()),
    };
    // What cannot be written is said as it is; so is everything of the last kind.
    if written.is_err() || out.is_empty() {
        out.clear();
        out.extend_from_slice(bytes);
        if out.is_empty() {
            codec::write_goodbye(&mut out);
        }
    }
    let descriptor = which & 7 == 6 || which & 0x80 != 0;
    Some((Message { bytes: out, descriptor }, rest))
}

fn welcome(socket: &OwnedFd, shared_bytes: u32) {
    let memory = (shared_bytes > 0).then(|| {
        let name = CString::new("fuzz").expect("no zero");
        let file = rustix::fs::memfd_create(&name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
        rustix::fs::ftruncate(&file, shared_bytes.into()).expect("memory");
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).expect("a seal");
        file
    });
    let mut message = Vec::new();
    let said = Welcome {
        message_bytes_max: codec::MESSAGE_BYTES_MIN,
        shared_bytes,
        call_bytes_max: 100_000,
        answer_bytes_max: 6000,
        service: "fuzz",
    };
    codec::write_welcome(&mut message, &said).expect("it is in bounds");
    send(socket, &message, memory.as_ref());
}

fn send(socket: &OwnedFd, message: &[u8], descriptor: Option<&OwnedFd>) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.unwrap_or(socket).as_fd()];
    if descriptor.is_some() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL).expect("room");
}

/// Everything that was said keeps the protocol, no call ended more often than it began, and no interrupt was acknowledged
/// that was not said.
fn heard(socket: &OwnedFd, shared_bytes: u32, mut calls: [u32; 4], mut interrupts: [u32; 4]) {
    let mut buffer = vec![0; 16_384];
    loop {
        let mut control = RecvAncillaryBuffer::default();
        let slices = &mut [IoSliceMut::new(&mut buffer)];
        let bytes = match rustix::net::recvmsg(socket, slices, &mut control, RecvFlags::DONTWAIT) {
            Ok(received) if received.bytes > 0 => received.bytes,
            _ => return,
        };
        let said = codec::from_helper(&buffer[..bytes], shared_bytes).expect("helpers keep the protocol");
        let (call, left) = match said {
            FromHelper::Done { call, .. } | FromHelper::Error { call, .. } => (call, &mut calls),
            FromHelper::Interrupted { call } => (call, &mut interrupts),
            _ => continue,
        };
        let left = &mut left[usize::try_from(call & 3).expect("two bits")];
        assert!(*left > 0, "call {call} ended, or was acknowledged, too often");
        *left -= 1;
    }
}
