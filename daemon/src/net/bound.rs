//! Sockets that listen: made, or taken over from another process.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::net::{TcpListener, UnixListener};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::plan::Address;

const BACKLOG: i32 = 4096;

/// A bound socket, not yet accepting.
#[derive(Debug)]
pub struct Bound {
    /// The socket.
    pub socket: Sock,
    /// Where it listens; the port is the kernel's choice where 0 was asked for.
    pub address: Address,
}

/// A socket that clients come to.
#[derive(Debug)]
pub enum Sock {
    /// Over TCP.
    Tcp(TcpListener),
    /// Over a unix socket.
    Unix {
        /// It.
        listener: UnixListener,
        /// The file goes with the listener.
        cleanup: Cleanup,
    },
}

impl Sock {
    /// What a poll watches.
    pub fn source(&mut self) -> &mut dyn mio::event::Source {
        match self {
            Sock::Tcp(listener) => listener,
            Sock::Unix { listener, .. } => listener,
        }
    }

    /// The same socket once more.
    pub fn again(&self) -> io::Result<OwnedFd> {
        match self {
            Sock::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Sock::Unix { listener, .. } => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// Its file, if it is among these, is another's.
    pub fn leave(&self, files: &[PathBuf]) {
        if let Sock::Unix { cleanup, .. } = self
            && files.contains(&cleanup.file)
        {
            cleanup.ours.store(false, Ordering::Release);
        }
    }
}

/// Removes a unix socket's file, where that is this process's.
#[derive(Debug)]
pub struct Cleanup {
    file: PathBuf,
    ours: Arc<AtomicBool>,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if self.ours.load(Ordering::Acquire) {
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

/// Binds a listener's socket. The error says what to do about it.
pub fn bind(address: &Address) -> Result<Bound, String> {
    match address {
        Address::Tcp(at) => {
            let listener = bind_tcp(*at).map_err(|error| explain(&at.to_string(), &error))?;
            let at = listener.local_addr().map_err(|error| error.to_string())?;
            Ok(Bound {
                socket: Sock::Tcp(listener),
                address: Address::Tcp(at),
            })
        }
        Address::Udp(at) => Err(format!("{at} is for datagrams, which are not accepted")),
        Address::Unix(path, mode) => {
            let listener = bind_unix(path, *mode).map_err(|error| explain(&path.display().to_string(), &error))?;
            Ok(Bound {
                socket: Sock::Unix {
                    listener,
                    cleanup: Cleanup {
                        file: path.clone(),
                        ours: Arc::new(AtomicBool::new(true)),
                    },
                },
                address: address.clone(),
            })
        }
    }
}

/// A socket that another process has made and listens on; its file, if it has one, is this process's once `ours` says so.
pub fn adopt(address: &Address, socket: OwnedFd, ours: Arc<AtomicBool>) -> Result<Bound, String> {
    let wrong = |error: io::Error| format!("a socket that was handed over cannot be used: {error}");
    rustix::io::ioctl_fionbio(&socket, true).map_err(|error| wrong(error.into()))?;
    match address {
        Address::Tcp(_) => {
            let listener = TcpListener::from_std(std::net::TcpListener::from(socket));
            let at = listener.local_addr().map_err(wrong)?;
            Ok(Bound {
                socket: Sock::Tcp(listener),
                address: Address::Tcp(at),
            })
        }
        Address::Udp(at) => Err(format!("{at} is for datagrams, which are not accepted")),
        Address::Unix(path, mode) => {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode)).map_err(wrong)?;
            let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket));
            let file = path.clone();
            Ok(Bound {
                socket: Sock::Unix {
                    listener,
                    cleanup: Cleanup { file, ours },
                },
                address: address.clone(),
            })
        }
    }
}

/// What to do about it.
pub fn explain(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another program; stop it, or choose another address")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{address}: not permitted; ports below 1024 want CAP_NET_BIND_SERVICE, sockets a writable folder")
        }
        io::ErrorKind::AddrNotAvailable => format!("{address} is no address of this machine"),
        _ => format!("{address}: {error}"),
    }
}

fn bind_tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        // `[::]` serves v4 as well, as everybody expects.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(at))?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    if path.exists() {
        // Left behind by one that was killed, unless somebody answers.
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}
