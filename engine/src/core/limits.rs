//! Limits of who asks: how often, how much at once, from how many connections.
//!
//! An [`Entry`] counts for one asker, whatever that is (an address, a name); a [`Table`] keeps entries while somebody holds them, and
//! idle ones as long as there is room. Nothing here knows what a key means, and time is passed in.
//!
//! **Rates.** A [`Bucket`] gives each operation the earliest moment at which it may go (a virtual scheduling algorithm, as in ITU-T
//! I.371): of any span of time, no more than `burst + span * rate` fall into it. Whoever comes too early may be given a moment in the
//! future, which is then its own: it waits until then and asks nobody again. So many that wait cost one look each, and leave in the
//! order in which they came. A moment that is not used (its owner has left) is lost.
//!
//! **What is pending.** [`Entry::begin`] takes a place, [`Entry::end`] gives it back, to the one that has waited longest where one does.
//!
//! Invariants: while somebody waits, as many are pending as may be; a waiter is in one queue, once.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

use super::time::Instant;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MICRO: u64 = 1_000;

/// How often something may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval_ns: u64,
    burst: u64,
}

impl Rate {
    /// In a second, over time, and at once; each at least 1.
    pub fn new(per_second: u32, burst: u32) -> Rate {
        Rate {
            interval_ns: NANOS_PER_SECOND / u64::from(per_second.max(1)),
            burst: u64::from(burst.max(1)),
        }
    }
}

/// What of a rate has been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When nothing of it is used any more.
    full_at_ns: u64,
}

impl Bucket {
    /// The earliest moment, `now` or later, at which one more may be; it is taken. None, and nothing is taken, where that is after
    /// `until`.
    pub fn take(&mut self, rate: Rate, now: Instant, until: Instant) -> Option<Instant> {
        let now_ns = now.as_micros().saturating_mul(NANOS_PER_MICRO);
        let full_at_ns = self.full_at_ns.max(now_ns).saturating_add(rate.interval_ns);
        let whole_ns = rate.interval_ns.saturating_mul(rate.burst);
        let at_ns = full_at_ns.saturating_sub(whole_ns).max(now_ns);
        let at = Instant::from_micros(at_ns.div_ceil(NANOS_PER_MICRO));
        if at > until {
            return None;
        }
        self.full_at_ns = full_at_ns;
        Some(at)
    }

    /// Whether nothing of it is used.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at_ns <= now.as_micros().saturating_mul(NANOS_PER_MICRO)
    }
}

/// What one asker may; what is none or 0 has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Connections at once.
    pub connections_max: usize,
    /// New connections.
    pub connects: Option<Rate>,
    /// Operations.
    pub operations: Option<Rate>,
    /// Operations at once.
    pub pending_max: usize,
}

impl Quota {
    /// Whether it limits nothing.
    pub fn is_unlimited(&self) -> bool {
        *self == Quota::default()
    }
}

/// Why a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There are as many as there may be.
    Connections,
    /// They come too fast.
    Rate,
}

/// Whether an operation has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It has: [`Entry::end`] gives it back.
    Go,
    /// It waits for one: [`Entry::end`] says when it has it. One that gives up says so by [`Entry::leave`].
    Wait,
    /// There is none, and it does not wait.
    Full,
}

/// One asker. `W`: who waits, as the entry's owner calls it.
#[derive(Debug)]
pub struct Entry<W> {
    quota: Quota,
    connections: usize,
    connects: Bucket,
    operations: Bucket,
    pending: usize,
    waiting: VecDeque<W>,
}

impl<W: Copy + PartialEq> Entry<W> {
    /// Of whom nothing is known.
    pub fn new(quota: Quota) -> Entry<W> {
        Entry {
            quota,
            connections: 0,
            connects: Bucket::default(),
            operations: Bucket::default(),
            pending: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Other limits, from now on. What is there stays, also where it is more than may be by now. `woken`: who has a place now.
    pub fn configure(&mut self, quota: Quota, woken: &mut Vec<W>) {
        self.quota = quota;
        while self.has_place() {
            let Some(next) = self.waiting.pop_front() else { break };
            self.pending += 1;
            woken.push(next);
        }
    }

    /// A connection.
    ///
    /// # Errors
    /// It is not let in, and not counted.
    pub fn connect(&mut self, now: Instant) -> Result<(), Refused> {
        let max = self.quota.connections_max;
        if max > 0 && self.connections >= max {
            return Err(Refused::Connections);
        }
        if let Some(rate) = self.quota.connects
            && self.connects.take(rate, now, now).is_none()
        {
            return Err(Refused::Rate);
        }
        self.connections += 1;
        Ok(())
    }

    /// A connection that is there already.
    pub fn enrol(&mut self) {
        self.connections += 1;
    }

    /// A connection has gone.
    pub fn disconnect(&mut self) {
        self.connections = self.connections.saturating_sub(1);
    }

    /// When an operation may go, as [`Bucket::take`].
    pub fn operate(&mut self, now: Instant, until: Instant) -> Option<Instant> {
        match self.quota.operations {
            Some(rate) => self.operations.take(rate, now, until),
            None => Some(now),
        }
    }

    /// An operation begins, or waits as `waiter` until it may.
    pub fn begin(&mut self, waiter: Option<W>) -> Begun {
        if self.waiting.is_empty() && self.has_place() {
            self.pending += 1;
            return Begun::Go;
        }
        match waiter {
            Some(waiter) => {
                self.waiting.push_back(waiter);
                Begun::Wait
            }
            None => Begun::Full,
        }
    }

    /// An operation has ended. Who has its place now.
    pub fn end(&mut self) -> Option<W> {
        self.pending = self.pending.saturating_sub(1);
        if !self.has_place() {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.pending += 1;
        Some(next)
    }

    /// Whoever waits gives up. False: it does not wait, and so has been given a place.
    pub fn leave(&mut self, waiter: W) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|other| *other != waiter);
        self.waiting.len() < before
    }

    /// Whether it says no more than a new one would.
    pub fn is_forgettable(&self, now: Instant) -> bool {
        self.connections == 0 && self.pending == 0 && self.connects.is_full(now) && self.operations.is_full(now)
    }

    /// Connections.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Operations that have a place.
    pub fn pending(&self) -> usize {
        self.pending
    }

    fn has_place(&self) -> bool {
        self.quota.pending_max == 0 || self.pending < self.quota.pending_max
    }

    /// What must hold at any time.
    ///
    /// # Errors
    /// What does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        if !self.waiting.is_empty() && self.has_place() {
            return Err(format!("{} wait, {} are pending", self.waiting.len(), self.pending));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Place<V> {
    value: V,
    holders: usize,
    /// Where it stands among those that nobody holds.
    idle: Option<u64>,
}

/// Entries by key, at most `entries_max`: those that are held, and of the others those that were held last.
#[derive(Debug)]
pub struct Table<K, V> {
    entries_max: usize,
    places: HashMap<K, Place<V>>,
    idle: BTreeMap<u64, K>,
    clock: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Table<K, V> {
    /// An empty one.
    pub fn new(entries_max: usize) -> Table<K, V> {
        Table {
            entries_max,
            places: HashMap::new(),
            idle: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Another bound; what is held stays.
    pub fn set_entries_max(&mut self, entries_max: usize) {
        self.entries_max = entries_max;
        while self.places.len() > entries_max && self.make_room() {}
    }

    /// The key's entry, held once more until [`Table::release`], a new one where there is none. None: all others are held.
    pub fn hold(&mut self, key: &K, make: impl FnOnce() -> V) -> Option<V> {
        if let Some(place) = self.places.get_mut(key) {
            place.holders += 1;
            if let Some(at) = place.idle.take() {
                self.idle.remove(&at);
            }
            return Some(place.value.clone());
        }
        if self.places.len() >= self.entries_max && !self.make_room() {
            return None;
        }
        let value = make();
        let place = Place {
            value: value.clone(),
            holders: 1,
            idle: None,
        };
        self.places.insert(key.clone(), place);
        Some(value)
    }

    /// Held once less. Once nobody holds it, it goes if it is `forgettable`, else it stays while there is room.
    pub fn release(&mut self, key: &K, forgettable: impl FnOnce(&V) -> bool) {
        let Some(place) = self.places.get_mut(key) else { return };
        place.holders = place.holders.saturating_sub(1);
        if place.holders > 0 {
            return;
        }
        if forgettable(&place.value) || self.places.len() > self.entries_max {
            self.places.remove(key);
            return;
        }
        self.clock += 1;
        if let Some(place) = self.places.get_mut(key) {
            place.idle = Some(self.clock);
        }
        self.idle.insert(self.clock, key.clone());
    }

    /// Entries that there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.places.iter().map(|(key, place)| (key, &place.value))
    }

    fn make_room(&mut self) -> bool {
        let Some((_, key)) = self.idle.pop_first() else {
            return false;
        };
        self.places.remove(&key);
        true
    }

    /// What must hold at any time.
    ///
    /// # Errors
    /// What does not.
    pub fn check_invariants(&self) -> Result<(), String> {
        let idle = self.places.values().filter(|place| place.holders == 0).count();
        if idle != self.idle.len() {
            return Err(format!("{idle} are not held, {} are listed so", self.idle.len()));
        }
        for (at, key) in &self.idle {
            if self.places.get(key).is_none_or(|place| place.idle != Some(*at)) {
                return Err("an idle entry is not where it is listed".to_owned());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
