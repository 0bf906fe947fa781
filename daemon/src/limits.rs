//! Limits of LDAP clients, by address and by name, for all workers together: tables for each listener that has them, kept over
//! reloads.
//!
//! A table is looked into when a client connects, binds or leaves. What it keeps is held by its clients ([`Holder`]), so an operation
//! looks at its own two entries only, each behind a lock of its own, which only clients of the same address or name share.

mod search;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use engine::core::limits::{Entry, Quota, Refused, Table};
use engine::core::time::{Instant, Span};
use engine::radius::clients::Network;

use crate::config::plan::Plan;
use crate::drive::conn::ConnRef;
use crate::drive::{Job, listener_id};
use crate::lockouts::{normal, show};
use crate::shared::Clock;
use crate::worker::Inbox;
pub use search::{SearchCaps, SearchOverride, SearchPlan};

/// Between two lines in the log about one listener's refusals.
const SILENCE: Span = Span::from_secs(1);
/// What an authorization identity that is a name begins with (RFC 4513 section 5.2.1.8).
const DN: &[u8] = b"dn:";

/// `limits` of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsPlan {
    /// Of each address.
    pub address: Quota,
    /// Of each name.
    pub name: Quota,
    /// Of each search.
    pub search: SearchPlan,
    /// What becomes of operations beyond them.
    pub over: Over,
    /// An operation is held back for so long at most.
    pub delay_max: Duration,
    /// Who comes from here has no limits.
    pub exempt: Vec<Network>,
    /// Of each address of a network, the smallest first.
    pub networks: Vec<(Network, Quota)>,
    /// Of some names, as they are compared.
    pub names: BTreeMap<Vec<u8>, Quota>,
    /// Addresses that are remembered, and names.
    pub entries_max: usize,
    /// How many bits of an address of IPv4 count.
    pub prefix_v4: u8,
    /// Of IPv6.
    pub prefix_v6: u8,
}

/// What becomes of an operation beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its client is not read for a while.
    Delay,
    /// It is answered 51 busy.
    Busy,
}

impl LimitsPlan {
    fn is_exempt(&self, ip: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(ip))
    }

    fn limits_names(&self) -> bool {
        !self.name.is_unlimited()
            || !self.search.is_unlimited()
            || self.names.values().any(|quota| !quota.is_unlimited())
    }

    fn quota(&self, key: &Key) -> Quota {
        match key {
            Key::Address(ip) => {
                let own = self.networks.iter().find(|(network, _)| network.contains(*ip));
                own.map_or(self.address, |(_, quota)| *quota)
            }
            Key::Name(name) => self.names.get(&**name).copied().unwrap_or(self.name),
        }
    }

    /// What an address counts as: the first one of its network.
    fn key(&self, ip: IpAddr) -> Key {
        let prefix = if ip.is_ipv4() { self.prefix_v4 } else { self.prefix_v6 };
        Key::Address(Network::around(ip, prefix).map_or(ip, Network::address))
    }
}

/// Whom an entry counts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// An address, or the network that counts as one.
    Address(IpAddr),
    /// A name.
    Name(Box<[u8]>),
}

/// Who waits until operations of others have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// On which worker.
    pub worker: usize,
    /// Its connection.
    pub conn: ConnRef,
    /// Which of its operations.
    pub number: u32,
}

/// An entry, and whose.
#[derive(Debug)]
pub struct Cell {
    key: Key,
    entry: Mutex<Entry<Waiter>>,
}

impl Cell {
    /// The entry.
    pub fn entry(&self) -> MutexGuard<'_, Entry<Waiter>> {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// There are too many of the address, or they come too fast.
    Away(Refused),
    /// There is no room to remember it.
    NoRoom,
}

impl Turned {
    /// What the client is told.
    pub fn words(self) -> &'static str {
        match self {
            Turned::Away(Refused::Connections) => "too many connections from this address",
            Turned::Away(Refused::Rate) => "connections from this address come too fast",
            Turned::NoRoom => "too many addresses are being counted",
        }
    }
}

/// How a client is limited that has been let in.
#[derive(Debug)]
pub struct Guest {
    /// Where it is counted.
    pub limits: Arc<Limits>,
    /// Its address, where it has one.
    pub address: Option<Holder>,
}

/// Somebody who is counted: while it lives, the entry stays.
#[derive(Debug)]
pub struct Holder {
    limits: Arc<Limits>,
    /// The entry.
    pub cell: Arc<Cell>,
    /// It is a connection that is counted.
    connected: bool,
}

impl Drop for Holder {
    fn drop(&mut self) {
        if self.connected {
            self.cell.entry().disconnect();
        }
        self.limits.release(&self.cell);
    }
}

/// An operation's places; dropped, they are given back.
#[derive(Debug)]
pub struct Permit {
    limits: Arc<Limits>,
    /// Among those of its name,
    pub name: Option<Arc<Cell>>,
    /// and of its address.
    pub address: Option<Arc<Cell>>,
}

impl Permit {
    /// Without a place yet.
    pub fn new(limits: &Arc<Limits>) -> Permit {
        Permit {
            limits: Arc::clone(limits),
            name: None,
            address: None,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for cell in [self.name.take(), self.address.take()].into_iter().flatten() {
            self.limits.give_back(&cell);
        }
    }
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections beyond the limit.
    pub connections: AtomicU64,
    /// Connections that came too fast.
    pub connects: AtomicU64,
    /// Connections of addresses that nothing could be remembered of.
    pub no_room: AtomicU64,
    /// Operations held back.
    pub delayed: AtomicU64,
    /// Operations answered 51.
    pub refused: AtomicU64,
    /// Searches ended because they brought more entries than they may.
    pub too_large: AtomicU64,
    /// Searches ended because they took longer than they may.
    pub too_long: AtomicU64,
}

/// What is counted of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The listener.
    pub listener: String,
    /// See [`Counts`].
    pub connections: u64,
    /// See [`Counts`].
    pub connects: u64,
    /// See [`Counts`].
    pub no_room: u64,
    /// See [`Counts`].
    pub delayed: u64,
    /// See [`Counts`].
    pub refused: u64,
    /// See [`Counts`].
    pub too_large: u64,
    /// See [`Counts`].
    pub too_long: u64,
    /// Addresses that are remembered now.
    pub addresses: usize,
    /// Names.
    pub names: usize,
}

type Cells = Mutex<Table<Key, Arc<Cell>>>;
type Inboxes = Arc<OnceLock<Vec<Arc<Inbox>>>>;

/// One listener's.
#[derive(Debug)]
pub struct Limits {
    listener: String,
    plan: Mutex<LimitsPlan>,
    addresses: Cells,
    names: Cells,
    /// Of whoever is limited here.
    pub counts: Counts,
    said_at: AtomicU64,
    inboxes: Inboxes,
    clock: Clock,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Limits {
    fn new(listener: String, plan: LimitsPlan, inboxes: Inboxes, clock: Clock) -> Limits {
        Limits {
            listener,
            addresses: Mutex::new(Table::new(plan.entries_max)),
            names: Mutex::new(Table::new(plan.entries_max)),
            plan: Mutex::new(plan),
            counts: Counts::default(),
            said_at: AtomicU64::new(0),
            inboxes,
            clock,
        }
    }

    /// Somebody connects. Ok of none: it has no limits.
    ///
    /// # Errors
    /// It is not let in.
    pub fn admit(self: &Arc<Self>, peer: Option<SocketAddr>, now: Instant) -> Result<Option<Guest>, Turned> {
        let guest = match self.guest(peer) {
            Ok(Some(mut guest)) => match &mut guest.address {
                None => Ok(Some(guest)),
                Some(holder) => {
                    let connected = holder.cell.entry().connect(now);
                    holder.connected = connected.is_ok();
                    connected.map(|()| Some(guest)).map_err(Turned::Away)
                }
            },
            other => other,
        };
        if let Err(why) = &guest {
            self.count(*why, peer, now);
        }
        guest
    }

    /// Somebody who is connected already. None: it has no limits.
    pub fn enrol(self: &Arc<Self>, peer: Option<SocketAddr>) -> Option<Guest> {
        let mut guest = self.guest(peer).ok().flatten()?;
        if let Some(holder) = &mut guest.address {
            holder.cell.entry().enrol();
            holder.connected = true;
        }
        Some(guest)
    }

    /// Whether somebody who comes from there has limits.
    pub fn is_for(&self, peer: Option<SocketAddr>) -> bool {
        let plan = lock(&self.plan);
        match peer {
            Some(peer) => !plan.is_exempt(peer.ip().to_canonical()),
            None => plan.limits_names(),
        }
    }

    fn guest(self: &Arc<Self>, peer: Option<SocketAddr>) -> Result<Option<Guest>, Turned> {
        if !self.is_for(peer) {
            return Ok(None);
        }
        let key = peer.map(|peer| lock(&self.plan).key(peer.ip().to_canonical()));
        let address = match key {
            Some(key) => Some(self.hold(&key).ok_or(Turned::NoRoom)?),
            None => None,
        };
        Ok(Some(Guest {
            limits: Arc::clone(self),
            address,
        }))
    }

    /// Who asks by this authorization identity is counted. Ok of none: by such names nothing is.
    ///
    /// # Errors
    /// There is no room to remember it.
    pub fn name(self: &Arc<Self>, authzid: &[u8]) -> Result<Option<Holder>, Turned> {
        if authzid.is_empty() {
            return Ok(None);
        }
        let name = normal(authzid.strip_prefix(DN).unwrap_or(authzid));
        let key = Key::Name(name.into_boxed_slice());
        if lock(&self.plan).quota(&key).is_unlimited() {
            return Ok(None);
        }
        self.hold(&key).map(Some).ok_or(Turned::NoRoom)
    }

    fn cells(&self, key: &Key) -> &Cells {
        match key {
            Key::Address(_) => &self.addresses,
            Key::Name(_) => &self.names,
        }
    }

    fn hold(self: &Arc<Self>, key: &Key) -> Option<Holder> {
        let make = || {
            let quota = lock(&self.plan).quota(key);
            Arc::new(Cell {
                key: key.clone(),
                entry: Mutex::new(Entry::new(quota)),
            })
        };
        let cell = lock(self.cells(key)).hold(key, make)?;
        Some(Holder {
            limits: Arc::clone(self),
            cell,
            connected: false,
        })
    }

    fn release(&self, cell: &Cell) {
        let now = self.clock.now();
        lock(self.cells(&cell.key)).release(&cell.key, |cell| cell.entry().is_forgettable(now));
    }

    /// An operation's place is given back, or to whoever waits for it.
    pub fn give_back(&self, cell: &Cell) {
        let next = cell.entry().end();
        self.wake(next.as_slice());
    }

    fn wake(&self, woken: &[Waiter]) {
        for who in woken {
            let inbox = self.inboxes.get().and_then(|inboxes| inboxes.get(who.worker));
            if let Some(inbox) = inbox {
                inbox.push_always(Job::LimitGranted(who.conn, who.number));
            }
        }
    }

    /// Counted, and said in at most one line per [`SILENCE`].
    fn count(&self, why: Turned, peer: Option<SocketAddr>, now: Instant) {
        let count = match why {
            Turned::Away(Refused::Connections) => &self.counts.connections,
            Turned::Away(Refused::Rate) => &self.counts.connects,
            Turned::NoRoom => &self.counts.no_room,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let before = self.said_at.load(Ordering::Relaxed);
        if before == 0 || now.since(Instant::from_micros(before)) >= SILENCE {
            self.said_at.store(now.as_micros().max(1), Ordering::Relaxed);
            let peer = peer.map_or_else(|| "?".to_owned(), |peer| peer.ip().to_string());
            tracing::warn!(
                listener = self.listener,
                peer,
                why = why.words(),
                "a connection was refused"
            );
        }
    }

    fn configure(&self, plan: &LimitsPlan) {
        {
            let mut current = lock(&self.plan);
            if *current == *plan {
                return;
            }
            *current = plan.clone();
        }
        let mut woken = Vec::new();
        for cells in [&self.addresses, &self.names] {
            let mut table = lock(cells);
            table.set_entries_max(plan.entries_max);
            for (key, cell) in table.iter() {
                cell.entry().configure(plan.quota(key), &mut woken);
            }
        }
        self.wake(&woken);
    }

    fn figures(&self) -> Figures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            listener: self.listener.clone(),
            connections: of(&self.counts.connections),
            connects: of(&self.counts.connects),
            no_room: of(&self.counts.no_room),
            delayed: of(&self.counts.delayed),
            refused: of(&self.counts.refused),
            too_large: of(&self.counts.too_large),
            too_long: of(&self.counts.too_long),
            addresses: lock(&self.addresses).len(),
            names: lock(&self.names).len(),
        }
    }
}

/// All of the daemon's.
#[derive(Debug)]
pub struct AllLimits {
    all: Mutex<HashMap<u64, Arc<Limits>>>,
    inboxes: Inboxes,
    clock: Clock,
}

impl AllLimits {
    /// None yet; `inboxes`: the workers', once they are known.
    pub fn new(inboxes: Inboxes, clock: Clock) -> AllLimits {
        AllLimits {
            all: Mutex::default(),
            inboxes,
            clock,
        }
    }

    /// Takes up a (new) plan; what is counted goes on.
    pub fn apply(&self, plan: &Plan) {
        let mut all = lock(&self.all);
        let before = std::mem::take(&mut *all);
        for listener in &plan.listeners {
            let Some(wanted) = &listener.limits else { continue };
            let id = listener_id(listener);
            let limits = match before.get(&id) {
                Some(known) => Arc::clone(known),
                None => Arc::new(Limits::new(
                    show(&listener.address),
                    (**wanted).clone(),
                    Arc::clone(&self.inboxes),
                    self.clock,
                )),
            };
            limits.configure(wanted);
            all.insert(id, limits);
        }
    }

    /// A listener's.
    pub fn get(&self, listener: u64) -> Option<Arc<Limits>> {
        lock(&self.all).get(&listener).cloned()
    }

    /// What is counted, by listener.
    pub fn figures(&self) -> Vec<Figures> {
        let mut figures: Vec<Figures> = lock(&self.all).values().map(|one| one.figures()).collect();
        figures.sort_by(|one, two| one.listener.cmp(&two.listener));
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> LimitsPlan {
        LimitsPlan {
            address: Quota {
                connections_max: 1,
                ..Quota::default()
            },
            name: Quota::default(),
            search: SearchPlan::default(),
            over: Over::Delay,
            delay_max: Duration::from_secs(1),
            exempt: vec![Network::read("192.0.2.0/24").unwrap()],
            networks: Vec::new(),
            names: BTreeMap::new(),
            entries_max: 16,
            prefix_v4: 32,
            prefix_v6: 64,
        }
    }

    fn limits(plan: LimitsPlan) -> Arc<Limits> {
        Arc::new(Limits::new("here".into(), plan, Arc::default(), Clock::start()))
    }

    fn admit(limits: &Arc<Limits>, peer: &str) -> Result<Option<Guest>, Turned> {
        limits.admit(Some(peer.parse().unwrap()), Instant::from_secs(1))
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_ipv4_is_itself_however_it_comes() {
        let limits = limits(plan());
        let first = admit(&limits, "[2001:db8::1]:1")
            .expect("the first")
            .expect("it is limited");
        assert!(admit(&limits, "[2001:db8::2]:1").is_err(), "of the same /64");
        assert!(admit(&limits, "[2001:db8:0:1::1]:1").is_ok());
        drop(first);
        assert!(admit(&limits, "[2001:db8::2]:1").is_ok());
        let first = admit(&limits, "198.51.100.1:1").expect("the first");
        assert!(admit(&limits, "[::ffff:198.51.100.1]:2").is_err());
        assert!(admit(&limits, "198.51.100.2:1").is_ok());
        drop(first);
        assert_eq!(limits.figures().addresses, 0, "nothing need be remembered");
    }

    #[test]
    fn trusted_networks_and_unix_sockets_are_not_counted_unless_names_are() {
        let counted = limits(plan());
        assert!(admit(&counted, "192.0.2.7:1").expect("trusted").is_none());
        assert!(counted.admit(None, Instant::ZERO).expect("a unix socket").is_none());
        let name = Quota {
            pending_max: 1,
            ..Quota::default()
        };
        let of_names = limits(LimitsPlan { name, ..plan() });
        let guest = of_names.admit(None, Instant::ZERO).expect("it is let in");
        assert!(guest.is_some_and(|guest| guest.address.is_none()));
        let named = |authzid: &[u8]| {
            of_names
                .name(authzid)
                .expect("there is room")
                .map(|holder| holder.cell.key.clone())
        };
        assert_eq!(named(b"dn:CN=a, DC=x"), named(b"dn:cn=A,dc=x"));
        assert!(named(b"u:ann").is_some());
        assert_eq!(named(b""), None);
    }

    #[test]
    fn when_all_that_are_remembered_are_there_nobody_new_is_let_in() {
        let limits = limits(plan());
        let peer = |host: usize| format!("198.51.100.{host}:1");
        let mut guests: Vec<_> = (0..16)
            .map(|host| admit(&limits, &peer(host)).expect("there is room"))
            .collect();
        assert_eq!(admit(&limits, &peer(16)).err(), Some(Turned::NoRoom));
        guests.pop();
        assert!(admit(&limits, &peer(16)).is_ok());
        assert_eq!(limits.figures().no_room, 1);
    }
}
