//! The channel between the two processes: a socket pair that keeps messages apart, with descriptors beside them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown, socketpair,
};

use super::Message;

/// Longest message, bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Descriptors beside one message; the kernel takes 253.
pub(super) const DESCRIPTORS_MAX: usize = 200;

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel(ours), theirs))
    }

    /// An end that was inherited.
    ///
    /// # Errors
    /// It is no such socket.
    pub(super) fn inherited(socket: OwnedFd) -> io::Result<Channel> {
        let domain = rustix::net::sockopt::socket_domain(&socket)?;
        let kind = rustix::net::sockopt::socket_type(&socket)?;
        if domain == AddressFamily::UNIX && kind == SocketType::SEQPACKET {
            Ok(Channel(socket))
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    /// The same end once more, to close it from elsewhere.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(super) fn again(&self) -> io::Result<Channel> {
        self.0.try_clone().map(Channel)
    }

    /// Nothing is said or heard any more, on either end.
    pub(super) fn close(&self) {
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    /// Says something.
    ///
    /// # Errors
    /// The other is gone, or does not read.
    pub(super) fn say(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors in one message"));
        }
        sendmsg(self.0.as_fd(), &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Hears the next message, and the descriptors beside it.
    ///
    /// # Errors
    /// `UnexpectedEof`: the other has gone. `TimedOut`. `InvalidData`: not a message of ours.
    pub(super) fn hear(&self, until: Instant) -> io::Result<(Message, Vec<OwnedFd>)> {
        self.wait(until)?;
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            self.0.as_fd(),
            &mut [IoSliceMut::new(&mut bytes)],
            &mut beside,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(found) = message {
                descriptors.extend(found);
            }
        }
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if got.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is cut short"));
        }
        let message = serde_json::from_slice(bytes.get(..got.bytes).unwrap_or_default())?;
        Ok((message, descriptors))
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // A little later rather than a little too early.
            let left = (left + Duration::from_millis(1)).try_into().ok();
            let mut wanted = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut wanted, left.as_ref()) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;

    use super::*;
    use crate::upgrade::Purpose;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn sockets_travel_and_are_the_same_ones() {
        let (old, new) = Channel::pair().unwrap();
        let new = Channel::inherited(new).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let purpose = Purpose::Http {
            address: "127.0.0.1:0".into(),
        };
        old.say(
            &Message::Sockets {
                purpose: purpose.clone(),
            },
            &[listener.as_fd()],
        )
        .unwrap();
        let (message, mut sockets) = new.hear(soon()).unwrap();
        assert!(matches!(message, Message::Sockets { purpose: said } if said == purpose));
        let taken = TcpListener::from(sockets.pop().unwrap());
        assert!(sockets.is_empty());
        assert_eq!(taken.local_addr().unwrap(), listener.local_addr().unwrap());
    }

    #[test]
    fn what_is_no_message_and_who_is_gone_are_errors() {
        let (old, new) = Channel::pair().unwrap();
        let new = Channel::inherited(new).unwrap();
        assert_eq!(new.hear(Instant::now()).unwrap_err().kind(), ErrorKind::TimedOut);
        rustix::net::send(&old.0, b"{\"Yours\":", SendFlags::empty()).unwrap();
        assert!(new.hear(soon()).is_err());
        drop(old);
        assert_eq!(new.hear(soon()).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        let (stream, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Channel::inherited(stream.into()).is_err(), "a stream is no channel");
        assert!(Channel::inherited(std::fs::File::open("/dev/null").unwrap().into()).is_err());
    }
}
