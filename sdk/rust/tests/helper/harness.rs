//! Plays usherd over a socket pair: says what it is told to, and hears what the helper says.

use std::ffi::CString;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use usherd_sdk::helper::{Call, Error, Failure, Helper};
use wire::helper::{self as codec, FromHelper, Payload, Welcome};

pub(crate) const SHARED_BYTES: u32 = 131_072;
pub(crate) const MESSAGE_BYTES: u32 = 131_072;
pub(crate) const ANSWER_BYTES_MAX: u32 = 1 << 20;

pub(crate) struct Usherd {
    pub(crate) socket: OwnedFd,
    memory: Option<OwnedFd>,
    buffer: Vec<u8>,
}

/// What a helper said, owned; a shared payload has been fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready(u32, String),
    Part(u32, Vec<u8>),
    Done(u32, Vec<u8>),
    Shared(u32, Vec<u8>),
    Error(u32, u16, String),
    Unable(String),
    Interrupted(u32),
    Ask(u32, Vec<u8>),
    End,
}

/// A pair of sockets as usherd makes them.
pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    let (near, far) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    rustix::net::sockopt::set_socket_timeout(
        &near,
        rustix::net::sockopt::Timeout::Recv,
        Some(Duration::from_secs(10)),
    )
    .unwrap();
    (near, far)
}

impl Usherd {
    /// Over this end of a pair, with the welcome said.
    pub(crate) fn welcoming(socket: OwnedFd, shared_bytes: u32) -> Self {
        let memory = (shared_bytes > 0).then(|| {
            let name = CString::new("test").unwrap();
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = rustix::fs::memfd_create(&name, flags).unwrap();
            rustix::fs::ftruncate(&file, shared_bytes.into()).unwrap();
            rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
            file
        });
        let usherd = Self {
            socket,
            memory,
            buffer: vec![0; 1 << 18],
        };
        let mut welcome = Vec::new();
        let said = Welcome {
            message_bytes_max: MESSAGE_BYTES,
            shared_bytes,
            call_bytes_max: 1 << 20,
            answer_bytes_max: ANSWER_BYTES_MAX,
            service: "test",
        };
        codec::write_welcome(&mut welcome, &said).unwrap();
        usherd.say_with(&welcome, usherd.memory.as_ref());
        usherd
    }

    pub(crate) fn say(&self, message: &[u8]) {
        self.say_with(message, None);
    }

    pub(crate) fn say_with(&self, message: &[u8], descriptor: Option<&OwnedFd>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor.map_or(self.socket.as_fd(), AsFd::as_fd)];
        if descriptor.is_some() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        rustix::net::sendmsg(
            &self.socket,
            &[IoSlice::new(message)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .unwrap();
    }

    /// A call in one inline message.
    pub(crate) fn call(&self, call: u32, payload: &[u8]) {
        self.say(&inline(call, payload, payload.len(), false));
    }

    /// A call through the shared memory.
    pub(crate) fn call_shared(&self, call: u32, payload: &[u8]) {
        assert_eq!(
            rustix::io::pwrite(self.memory.as_ref().unwrap(), payload, 0).unwrap(),
            payload.len()
        );
        let bytes = u32::try_from(payload.len()).unwrap();
        let said = codec::Call {
            call,
            deadline_ms: 0,
            whole_bytes: bytes,
            more: false,
            descriptor: false,
            payload: Payload::Shared { offset: 0, bytes },
        };
        let mut message = Vec::new();
        codec::write_call(&mut message, &said).unwrap();
        self.say(&message);
    }

    pub(crate) fn interrupt(&self, call: u32) {
        let mut message = Vec::new();
        codec::write_interrupt(&mut message, call).unwrap();
        self.say(&message);
    }

    pub(crate) fn input(&self, call: u32, payload: &[u8]) {
        let mut message = Vec::new();
        codec::write_input(&mut message, call, payload).unwrap();
        self.say(&message);
    }

    pub(crate) fn goodbye(&self) {
        let mut message = Vec::new();
        codec::write_goodbye(&mut message);
        self.say(&message);
    }

    /// What the helper says next; it has ten seconds.
    pub(crate) fn hear(&mut self) -> Said {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut self.buffer)];
        let received = rustix::net::recvmsg(&self.socket, slices, &mut control, RecvFlags::empty());
        let bytes = match received {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(errno) => panic!("nothing was heard: {errno}"),
        };
        if bytes == 0 {
            return Said::End;
        }
        let shared_bytes = if self.memory.is_some() { SHARED_BYTES } else { 0 };
        let said = codec::from_helper(&self.buffer[..bytes], shared_bytes).expect("helpers keep the protocol");
        let fetch = |payload: Payload<'_>| match payload {
            Payload::Inline(bytes) => bytes.to_vec(),
            Payload::Shared { offset, bytes } => {
                let mut fetched = vec![0; usize::try_from(bytes).unwrap()];
                rustix::io::pread(self.memory.as_ref().unwrap(), &mut fetched, offset.into()).unwrap();
                fetched
            }
        };
        match said {
            FromHelper::Ready { concurrency, software } => Said::Ready(concurrency, software.to_string()),
            FromHelper::Part { call, payload } => Said::Part(call, fetch(payload)),
            FromHelper::Done {
                call,
                payload: payload @ Payload::Shared { .. },
            } => Said::Shared(call, fetch(payload)),
            FromHelper::Done { call, payload } => Said::Done(call, fetch(payload)),
            FromHelper::Error { call, payload } => {
                let payload = fetch(payload);
                let (code, text) = codec::read_error(&payload).unwrap();
                Said::Error(call, code, text.to_string())
            }
            FromHelper::Unable { text } => Said::Unable(text.to_string()),
            FromHelper::Interrupted { call } => Said::Interrupted(call),
            FromHelper::Ask { call, payload } => Said::Ask(call, fetch(payload)),
        }
    }
}

pub(crate) fn inline(call: u32, payload: &[u8], whole_bytes: usize, more: bool) -> Vec<u8> {
    let said = codec::Call {
        call,
        deadline_ms: 60_000,
        whole_bytes: u32::try_from(whole_bytes).unwrap(),
        more,
        descriptor: false,
        payload: Payload::Inline(payload),
    };
    let mut message = Vec::new();
    codec::write_call(&mut message, &said).unwrap();
    message
}

/// A helper on a thread of this process, welcomed, ready, and serving one call at a time.
pub(crate) fn serving<R: AsRef<[u8]>>(
    shared_bytes: u32,
    handler: impl FnMut(&mut Call<'_>) -> Result<R, Failure> + Send + 'static,
) -> (Usherd, JoinHandle<Result<(), Error>>) {
    let (near, far) = pair();
    let helper = std::thread::spawn(move || Helper::over(far)?.serve("test/1", handler));
    let mut usherd = Usherd::welcoming(near, shared_bytes);
    assert_eq!(usherd.hear(), Said::Ready(1, "test/1".to_string()));
    (usherd, helper)
}
