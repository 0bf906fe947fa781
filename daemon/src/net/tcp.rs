//! What a TCP connection does when the other side falls silent, or does not read.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::stream::Raw;

/// When the kernel asks whether the other side of a connection at rest is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// After so long without anything.
    pub idle: Duration,
    /// Between two questions.
    pub interval: Duration,
    /// Questions without an answer that end the connection.
    pub count: u32,
}

/// Options of a connection; what is none is the system's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// See there.
    pub keepalive: Option<Keepalive>,
    /// What was sent and not acknowledged for so long ends the connection (TCP_USER_TIMEOUT).
    pub user_timeout: Option<Duration>,
    /// Bytes that the kernel holds of what could not be sent yet, beyond which it takes no more (TCP_NOTSENT_LOWAT). Left to
    /// itself it takes up to 4 MiB for each connection whose other side does not read; a thousand of those exhaust what it has for
    /// all of TCP (tcp_mem), and it then narrows the windows of everybody on the machine, servers included.
    pub unsent_bytes_max: Option<u32>,
}

/// Whether the system gives a connection the options of the socket through which it came, at the moment in which it comes: not
/// when it is accepted.
pub const INHERITED: bool = cfg!(target_os = "linux");

impl TcpOptions {
    /// Sets them. A unix socket has none; what the system refuses is said in the log, for the connection works without.
    pub fn apply(&self, raw: &Raw) {
        let Raw::Tcp(stream) = raw else { return };
        if let Err(error) = self.set(&SockRef::from(&stream.as_fd())) {
            tracing::debug!(%error, "options of TCP could not be set");
        }
    }

    /// Sets all that clients' connections have, TCP_NODELAY, too, in place of what this socket has: of a connection, or of a
    /// socket that listens, from which each connection has it by inheritance ([`INHERITED`]). As [`TcpOptions::apply`], what is
    /// refused is said in the log.
    pub fn renew(&self, socket: &impl AsFd) {
        if let Err(error) = self.reset(&SockRef::from(&socket.as_fd())) {
            tracing::debug!(%error, "options of TCP could not be set");
        }
    }

    fn reset(&self, socket: &SockRef<'_>) -> std::io::Result<()> {
        // Messages are small and answers are waited for.
        socket.set_tcp_nodelay(true)?;
        socket.set_keepalive(false)?;
        socket.set_tcp_user_timeout(None)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(0)?;
        self.set(socket)
    }

    fn set(&self, socket: &SockRef<'_>) -> std::io::Result<()> {
        if let Some(keepalive) = self.keepalive {
            let options = TcpKeepalive::new()
                .with_time(keepalive.idle)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.count);
            socket.set_tcp_keepalive(&options)?;
        }
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        #[cfg(target_os = "linux")]
        if let Some(bytes) = self.unsent_bytes_max {
            socket.set_tcp_notsent_lowat(bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_the_socket_has() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let raw = Raw::connect_tcp(listener.local_addr().unwrap()).unwrap();
        let Raw::Tcp(stream) = &raw else { panic!("{raw:?}") };
        let socket = SockRef::from(stream);
        assert!(!socket.keepalive().unwrap());
        TcpOptions::default().apply(&raw);
        assert!(!socket.keepalive().unwrap() && socket.tcp_user_timeout().unwrap().is_none());
        let options = TcpOptions {
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(42),
                interval: Duration::from_secs(7),
                count: 5,
            }),
            user_timeout: Some(Duration::from_millis(12_300)),
            unsent_bytes_max: Some(70_000),
        };
        options.apply(&raw);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(42));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 5);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(12_300)));
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 70_000);
    }
}
