//! Lockout after failed binds, for all workers together: a table for each listener that has one, kept over reloads.
//!
//! One lock for a whole table, held for a few look-ups per bind: an attempt is counted by up to three keys at once, and exact
//! only if they are looked at together. Operations other than binds never come here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::core::lockout::{Answer, Key, Outcome, Settings, Table};
use engine::core::time::{Instant, Span};
use engine::radius::clients::Network;
use serde_json::{Value, json};
use wire::ldap::dn::{self, CaseIgnore};

use crate::config::plan::{Address, Plan};
use crate::drive::conn::ConnRef;
use crate::drive::listener_id;

/// Longest name that is kept; of longer ones only so much is compared.
const NAME_BYTES_MAX: usize = 1024;
/// Locks in one answer to an operator.
const LIST_MAX: usize = 10_000;
const ADDRESS: &[u8] = b"address:";
const DN: &[u8] = b"dn:";

/// `lockout` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockoutPlan {
    /// Failed binds that lock.
    pub failures: usize,
    /// A failure counts for so long.
    pub window: Duration,
    /// A lock lasts so long.
    pub duration: Duration,
    /// What failures are counted by; at least one.
    pub by: Vec<By>,
    /// Names and addresses that are remembered.
    pub entries_max: usize,
    /// How many bits of an address of IPv4 count.
    pub prefix_v4: u8,
    /// Of IPv6.
    pub prefix_v6: u8,
}

/// What failures are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The name, from wherever it is tried.
    Dn,
    /// The address, whatever names are tried.
    Address,
    /// The name, from this address.
    DnAndAddress,
}

/// Who waits for an attempt of somebody else to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// On which worker.
    pub worker: usize,
    /// Its connection.
    pub conn: ConnRef,
}

/// One listener's.
#[derive(Debug)]
pub struct Lockout {
    listener: String,
    plan: Mutex<LockoutPlan>,
    table: Mutex<Table<Waiter>>,
    locks: AtomicU64,
    refused: AtomicU64,
}

/// What is counted of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The listener.
    pub listener: String,
    /// Locks since the start.
    pub locks: u64,
    /// Binds refused.
    pub refused: u64,
    /// Names and addresses that are remembered now.
    pub entries: usize,
    /// Of them, locked now.
    pub locked: usize,
}

impl Lockout {
    fn new(listener: String, plan: LockoutPlan) -> Lockout {
        let table = Table::new(settings(&plan));
        Lockout {
            listener,
            plan: Mutex::new(plan),
            table: Mutex::new(table),
            locks: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table<Waiter>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(&self) -> MutexGuard<'_, LockoutPlan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an attempt is counted by; a name where the way of binding shows one. A client without an address has only its name.
    pub fn keys(&self, name: Option<&[u8]>, peer: Option<SocketAddr>) -> Vec<Key> {
        let plan = self.plan();
        let name = name.map(normal);
        let address = peer.and_then(|peer| network(&plan, peer));
        let mut keys: Vec<Key> = Vec::with_capacity(plan.by.len());
        for by in &plan.by {
            let (octets, forgives) = match (by, &name, &address) {
                (By::Dn, Some(name), _) => ([DN, name].concat(), true),
                (By::Address, _, Some(address)) => ([ADDRESS, address.as_bytes()].concat(), false),
                (By::DnAndAddress, Some(name), Some(address)) => {
                    ([DN, name, b" ", ADDRESS, address.as_bytes()].concat(), true)
                }
                (By::DnAndAddress, Some(name), None) => ([DN, name, b" ", ADDRESS].concat(), true),
                _ => continue,
            };
            let octets = octets.into_boxed_slice();
            if !keys.iter().any(|other| other.octets == octets) {
                keys.push(Key { octets, forgives });
            }
        }
        keys
    }

    /// See [`Table::attempt`].
    pub fn attempt(&self, keys: &[Key], who: Waiter, again: bool, now: Instant, woken: &mut Vec<Waiter>) -> Answer {
        let answer = self.table().attempt(keys, who, again, now, woken);
        if matches!(answer, Answer::Locked(_) | Answer::Full) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// See [`Table::settle`].
    pub fn settle(&self, keys: &[Key], outcome: Outcome, now: Instant, woken: &mut Vec<Waiter>) {
        if self.table().settle(keys, outcome, now, woken) {
            self.locks.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(listener = self.listener, "locked out after failed binds");
        }
    }

    /// See [`Table::leave`].
    pub fn leave(&self, keys: &[Key], who: Waiter, now: Instant, woken: &mut Vec<Waiter>) {
        self.table().leave(keys, who, now, woken);
    }

    fn figures(&self, now: Instant) -> Figures {
        let table = self.table();
        Figures {
            listener: self.listener.clone(),
            locks: self.locks.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            entries: table.len(),
            locked: table.locked(now).len(),
        }
    }
}

/// All of the daemon's.
#[derive(Debug, Default)]
pub struct Lockouts(Mutex<HashMap<u64, Arc<Lockout>>>);

impl Lockouts {
    fn all(&self) -> MutexGuard<'_, HashMap<u64, Arc<Lockout>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up a (new) plan; what is locked stays locked. Who waits is to be woken: the settings may be others.
    pub fn apply(&self, plan: &Plan) -> Vec<Waiter> {
        let mut woken = Vec::new();
        let mut all = self.all();
        let before = std::mem::take(&mut *all);
        for listener in &plan.listeners {
            let Some(wanted) = &listener.lockout else { continue };
            let id = listener_id(listener);
            let lockout = match before.get(&id) {
                Some(known) => Arc::clone(known),
                None => Arc::new(Lockout::new(show(&listener.address), wanted.clone())),
            };
            if *lockout.plan() != *wanted {
                *lockout.plan() = wanted.clone();
                lockout.table().configure(settings(wanted), &mut woken);
            }
            all.insert(id, lockout);
        }
        woken
    }

    /// A listener's.
    pub fn get(&self, listener: u64) -> Option<Arc<Lockout>> {
        self.all().get(&listener).cloned()
    }

    /// What is counted, by listener.
    pub fn figures(&self, now: Instant) -> Vec<Figures> {
        let mut figures: Vec<Figures> = self.all().values().map(|one| one.figures(now)).collect();
        figures.sort_by(|one, two| one.listener.cmp(&two.listener));
        figures
    }

    /// What is locked now.
    pub fn list(&self, now: Instant) -> Value {
        let mut locks = Vec::new();
        for one in self.all().values() {
            let found = one.table().locked(now);
            locks.extend(found.into_iter().take(LIST_MAX).map(|lock| {
                let seconds = lock.until.since(now).as_micros().div_ceil(1_000_000);
                json!({
                    "listener": one.listener,
                    "who": String::from_utf8_lossy(&lock.octets),
                    "seconds": seconds,
                })
            }));
        }
        json!({ "locks": locks })
    }

    /// Forgets failures and locks of a DN or an address, from wherever and whatever name; how many there were.
    pub fn clear(&self, who: &str) -> (usize, Vec<Waiter>) {
        let mut woken = Vec::new();
        let mut cleared = 0;
        let name = [DN, &normal(who.as_bytes())].concat();
        for one in self.all().values() {
            let network = who
                .parse()
                .ok()
                .and_then(|ip| network(&one.plan(), SocketAddr::new(ip, 0)));
            let network = network.unwrap_or_else(|| who.to_owned());
            let address = [ADDRESS, network.as_bytes()].concat();
            let is_meant = |octets: &[u8]| {
                let of_address = octets.strip_suffix(&*address);
                let of_name = octets.strip_prefix(&*name);
                of_address.is_some_and(|before| before.is_empty() || before.ends_with(b" "))
                    || of_name.is_some_and(|rest| rest.is_empty() || rest.starts_with(&[b" ", ADDRESS].concat()))
            };
            cleared += one.table().clear(is_meant, &mut woken);
        }
        (cleared, woken)
    }
}

fn settings(plan: &LockoutPlan) -> Settings {
    let span = |length: Duration| Span::from_micros(u64::try_from(length.as_micros()).unwrap_or(u64::MAX));
    Settings {
        failures_max: plan.failures,
        window: span(plan.window),
        duration: span(plan.duration),
        entries_max: plan.entries_max,
    }
}

/// A name without regard to case and spaces, or as far as it can be read: what is no DN (`user@example.com`) in lower case.
pub fn normal(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    if dn::normalize(name, &CaseIgnore, &mut out).is_err() {
        out = name.trim_ascii().to_ascii_lowercase();
    }
    out.truncate(NAME_BYTES_MAX);
    out
}

fn network(plan: &LockoutPlan, peer: SocketAddr) -> Option<String> {
    let ip = peer.ip().to_canonical();
    let prefix = if ip.is_ipv4() { plan.prefix_v4 } else { plan.prefix_v6 };
    Network::around(ip, prefix).map(|network| network.to_string())
}

/// An address as it is written in configurations.
pub fn show(address: &Address) -> String {
    match address {
        Address::Tcp(at) | Address::Udp(at) => at.to_string(),
        Address::Unix(path, _) => format!("unix:{}", path.display()),
    }
}
