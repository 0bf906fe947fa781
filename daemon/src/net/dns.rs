//! Look-ups by DNS: of services (SRV, RFC 2782), and of addresses where the configuration names DNS servers. All of it happens on
//! one thread of its own, which sleeps while nothing is asked and nothing is to be asked again.
//!
//! Nothing is kept from one look-up to the next: whoever asks again wants to know what is true now.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::resolve::{System, Then};

/// Servers of one service that are taken.
pub const SERVERS_MAX: usize = 64;
/// Addresses of one name that are taken.
pub const ADDRESSES_MAX: usize = 64;
/// Look-ups under way at most.
const UNDER_WAY_MAX: usize = 1024;
const PORT: u16 = 53;
/// What the system asks.
const SYSTEM: &str = "/etc/resolv.conf";
/// As many of those as the system takes.
const SYSTEM_SERVERS_MAX: usize = 3;
/// Each look-up is sent so often at most.
const ATTEMPTS: usize = 2;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsPlan {
    /// DNS servers; none: those of the system, and addresses are looked up as the system does.
    pub servers: Vec<SocketAddr>,
    /// How long one of them may take to answer.
    pub timeout: Duration,
}

impl DnsPlan {
    /// A look-up takes no longer.
    pub fn longest(&self) -> Duration {
        // Over UDP and, where the answer is too long for that, over TCP.
        self.timeout * 2 * u32::try_from(ATTEMPTS).unwrap_or(1)
    }
}

/// A server of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The smallest is used first.
    pub priority: u16,
    /// Its share among those of the same priority.
    pub weight: u16,
    /// Its name, without the dot at its end.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Look-ups since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Of services, with an answer,
    pub services: AtomicU64,
    /// and without.
    pub services_failed: AtomicU64,
    /// Of addresses, with an answer,
    pub addresses: AtomicU64,
    /// and without.
    pub addresses_failed: AtomicU64,
}

impl Counts {
    fn count(which: (&AtomicU64, &AtomicU64), well: bool) {
        let counter = if well { which.0 } else { which.1 };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A look-up of a service has ended.
    pub fn service(&self, well: bool) {
        Counts::count((&self.services, &self.services_failed), well);
    }

    /// A look-up of addresses has ended.
    pub fn address(&self, well: bool) {
        Counts::count((&self.addresses, &self.addresses_failed), well);
    }
}

/// Asks; the thread ends with its last handle.
#[derive(Clone, Debug)]
pub struct Dns {
    handle: Handle,
    /// Whether addresses are looked up by DNS; else the system does.
    by_dns: bool,
    system: System,
    resolver: Result<Arc<TokioResolver>, String>,
    under_way: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    longest: Duration,
    /// Dropped with the last handle, which ends the thread.
    _alive: Arc<oneshot::Sender<()>>,
}

impl Dns {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(plan: &DnsPlan, system: System, counts: Arc<Counts>) -> Result<Dns, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no thread for DNS: {error}"))?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("dns".into())
            .spawn(move || {
                // Nothing is sent: the other end goes away.
                let _ = runtime.block_on(ended);
            })
            .map_err(|error| format!("no thread for DNS: {error}"))?;
        Ok(Dns {
            handle,
            by_dns: !plan.servers.is_empty(),
            system,
            resolver: resolver(plan).map(Arc::new),
            under_way: Arc::default(),
            counts,
            longest: plan.longest(),
            _alive: Arc::new(alive),
        })
    }

    /// Where tasks that ask can run.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// For whoever waits: does it on the thread, and gives what comes of it. Each look-up ends in its time.
    pub fn begin<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> Receiver<T> {
        let (to, from) = sync_channel(1);
        self.handle.spawn(async move {
            let _ = to.try_send(what.await);
        });
        from
    }

    /// Whether addresses are looked up by DNS, too.
    pub fn is_for_addresses(&self) -> bool {
        self.by_dns
    }

    /// The servers of a service (`_ldap._tcp.example.com`), in their order; those that are too many are left out.
    ///
    /// # Errors
    /// Why there is no answer. An answer without servers is one, too: the service is not offered (RFC 2782).
    pub async fn service(&self, name: &str) -> Result<Vec<Found>, String> {
        let found = match &self.resolver {
            Err(why) => Err(format!("{name}: {why}")),
            Ok(resolver) => self.ask_service(resolver, name).await,
        };
        self.counts.service(found.is_ok());
        found
    }

    /// The addresses of a name.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = match &self.resolver {
            _ if !self.by_dns => self.ask_system(host, port).await,
            Err(why) => Err(format!("{host}: {why}")),
            Ok(resolver) => self.ask_addresses(resolver, host, port).await,
        };
        self.counts.address(found.is_ok());
        found
    }

    async fn ask_service(&self, resolver: &TokioResolver, name: &str) -> Result<Vec<Found>, String> {
        let absolute = format!("{}.", name.trim_end_matches('.'));
        let asked = tokio::time::timeout(self.longest, resolver.lookup(absolute, RecordType::SRV));
        let lookup = asked
            .await
            .map_err(|_| format!("{name}: no DNS server answers"))?
            .map_err(|error| format!("{name}: {error}"))?;
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Found {
                priority: srv.priority,
                weight: srv.weight,
                host: srv.target.to_utf8().trim_end_matches('.').to_ascii_lowercase(),
                port: srv.port,
            }),
            _ => None,
        });
        let mut found: Vec<Found> = records.filter(|found| !found.host.is_empty()).collect();
        found.sort();
        found.truncate(SERVERS_MAX);
        if found.is_empty() {
            return Err(format!("{name}: it names no server"));
        }
        Ok(found)
    }

    async fn ask_addresses(&self, resolver: &TokioResolver, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let asked = tokio::time::timeout(self.longest, resolver.lookup_ip(host));
        let lookup = asked
            .await
            .map_err(|_| format!("{host}: no DNS server answers"))?
            .map_err(|error| format!("{host}: {error}"))?;
        let addresses = lookup.iter().take(ADDRESSES_MAX);
        let found: Vec<SocketAddr> = addresses.map(|ip| SocketAddr::new(ip, port)).collect();
        if found.is_empty() {
            return Err(format!("{host} has no address"));
        }
        Ok(found)
    }

    async fn ask_system(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let (to, from) = oneshot::channel();
        let then = move |found| {
            let _ = to.send(found);
        };
        self.system.look_up(host, port, Box::new(then));
        let mut found = from.await.map_err(|_| format!("{host}: it could not be looked up"))??;
        found.truncate(ADDRESSES_MAX);
        Ok(found)
    }

    /// As [`Dns::addresses`], for whoever does not wait: calls `then` on the thread.
    pub fn look_up(&self, host: &str, port: u16, then: Then) {
        if self.under_way.fetch_add(1, Ordering::Relaxed) >= UNDER_WAY_MAX {
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            return then(Err(format!("{host}: too many look-ups are waiting")));
        }
        let (own, host) = (self.clone(), host.to_owned());
        self.handle.spawn(async move {
            let found = own.addresses(&host, port).await;
            own.under_way.fetch_sub(1, Ordering::Relaxed);
            then(found);
        });
    }
}

fn resolver(plan: &DnsPlan) -> Result<TokioResolver, String> {
    let servers = if plan.servers.is_empty() {
        of_the_system()?
    } else {
        plan.servers.clone()
    };
    let server = |address: &SocketAddr| {
        let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        for connection in &mut connections {
            connection.port = address.port();
        }
        NameServerConfig::new(address.ip(), true, connections.into())
    };
    let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = plan.timeout;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().map_err(|error| format!("DNS: {error}"))
}

/// The DNS servers that the system has.
fn of_the_system() -> Result<Vec<SocketAddr>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{SYSTEM}: {error}");
    let text = std::fs::read(SYSTEM).map_err(|error| wrong(&error))?;
    let read = resolv_conf::Config::parse(text).map_err(|error| wrong(&error))?;
    let servers = read.nameservers.iter().take(SYSTEM_SERVERS_MAX);
    let servers: Vec<SocketAddr> = servers.map(|ip| SocketAddr::new(ip.into(), PORT)).collect();
    if servers.is_empty() {
        return Err(wrong(&"it names no DNS server"));
    }
    Ok(servers)
}
