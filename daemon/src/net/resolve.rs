//! Names to addresses, on a thread of its own: the system's resolver blocks, and a worker never does.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

/// Look-ups that wait, at most.
const WAITING_MAX: usize = 1024;

/// Called with what was found.
type Then = Box<dyn FnOnce(Result<Vec<SocketAddr>, String>) + Send>;

/// Asks for look-ups; the thread ends with its last handle.
#[derive(Clone)]
pub struct Resolver {
    questions: SyncSender<(String, u16, Then)>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Resolver> {
        let (questions, incoming) = sync_channel::<(String, u16, Then)>(WAITING_MAX);
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            for (host, port, then) in incoming {
                let found = (host.as_str(), port).to_socket_addrs();
                then(match found.map(Iterator::collect::<Vec<_>>) {
                    Ok(addresses) if addresses.is_empty() => Err(format!("{host} has no address")),
                    Ok(addresses) => Ok(addresses),
                    Err(error) => Err(format!("{host}: {error}")),
                });
            }
        })?;
        Ok(Resolver { questions })
    }

    /// An address literal needs no look-up.
    pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
        host.parse::<IpAddr>()
            .ok()
            .map(|address| SocketAddr::new(address, port))
    }

    /// Looks a name up and calls `then` on the resolver's thread.
    pub fn look_up(&self, host: &str, port: u16, then: Then) {
        match self.questions.try_send((host.to_owned(), port, then)) {
            Ok(()) => {}
            Err(TrySendError::Full((host, _, then)) | TrySendError::Disconnected((host, _, then))) => {
                then(Err(format!("{host}: too many look-ups are waiting")));
            }
        }
    }
}
