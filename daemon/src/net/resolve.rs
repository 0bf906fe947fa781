//! Names to addresses, on threads of their own: a worker never waits for them.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

use arc_swap::ArcSwapOption;

use super::dns::{Counts, Dns};

/// Look-ups that wait, at most.
const WAITING_MAX: usize = 1024;

/// Called with what was found.
pub type Then = Box<dyn FnOnce(Result<Vec<SocketAddr>, String>) + Send>;

/// The system's resolver, which blocks a thread; the thread ends with its last handle.
#[derive(Clone)]
pub struct System {
    questions: SyncSender<(String, u16, Then)>,
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("System")
    }
}

impl System {
    /// Starts the thread.
    fn start() -> std::io::Result<System> {
        let (questions, incoming) = sync_channel::<(String, u16, Then)>(WAITING_MAX);
        std::thread::Builder::new().name("resolver".into()).spawn(move || {
            for (host, port, then) in incoming {
                then(addresses(&host, port));
            }
        })?;
        Ok(System { questions })
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

/// Waits for the system's answer.
fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match (host, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
        Ok(addresses) if addresses.is_empty() => Err(format!("{host} has no address")),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(format!("{host}: {error}")),
    }
}

/// Asks for look-ups, of the system or of the DNS servers that the configuration names.
#[derive(Clone, Debug)]
pub struct Resolver {
    system: System,
    dns: Arc<ArcSwapOption<Dns>>,
    counts: Arc<Counts>,
}

impl Resolver {
    /// Starts the thread of the system's.
    pub fn start() -> std::io::Result<Resolver> {
        Ok(Resolver {
            system: System::start()?,
            dns: Arc::default(),
            counts: Arc::default(),
        })
    }

    /// The system's.
    pub fn system(&self) -> &System {
        &self.system
    }

    /// What is counted.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// From now on these are asked; none: the system.
    pub fn ask(&self, dns: Option<Dns>) {
        self.dns.store(dns.filter(Dns::is_for_addresses).map(Arc::new));
    }

    /// An address literal needs no look-up.
    pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
        host.parse::<IpAddr>()
            .ok()
            .map(|address| SocketAddr::new(address, port))
    }

    /// Looks a name up and calls `then` on another thread.
    pub fn look_up(&self, host: &str, port: u16, then: Then) {
        if let Some(dns) = &*self.dns.load() {
            return dns.look_up(host, port, then);
        }
        let counts = Arc::clone(&self.counts);
        let counted = move |found: Result<Vec<SocketAddr>, String>| {
            counts.address(found.is_ok());
            then(found);
        };
        self.system.look_up(host, port, Box::new(counted));
    }
}
