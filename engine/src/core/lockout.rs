//! Lockout after failed attempts: who may try now, who waits until another attempt is decided, who is refused.
//!
//! A *key* is whatever attempts are counted by (a name, an address, both); one attempt has several, and may go on only where all
//! of them let it. Nothing here knows what a key means.
//!
//! **Exact.** An attempt that goes on is *reserved* under its keys until its outcome is known. A key with `failures` failures and
//! `reserved` reservations lets another one in only while `failures + reserved < failures_max`; else the attempt waits. So however
//! many try at once, no more than `failures_max` of them can fail before the key is locked, and who tries the right password on a
//! hundred connections at once waits a little and succeeds on all of them: a success gives its reservation back, and forgets
//! failures.
//!
//! Invariants: `failures + reserved <= failures_max` for every key that is not locked; a locked key has no waiter; a
//! waiter is in the queue of exactly one key, the first that holds it up; who is woken tries again from the beginning.
//!
//! **Bounded.** At most `entries_max` keys; the one that was used least recently goes first, but never one that is locked, has a
//! reservation or a waiter. Where none can go, the attempt is not judged ([`Answer::Full`]).

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::time::{Instant, Span};

/// What is counted, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Failures that lock a key; at least 1.
    pub failures_max: usize,
    /// A failure counts for so long.
    pub window: Span,
    /// How long a key is locked.
    pub duration: Span,
    /// Keys that are remembered; at least 1.
    pub entries_max: usize,
}

/// What attempts are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its octets.
    pub octets: Box<[u8]>,
    /// Whether a success forgets its failures. One that many share is not forgiven by the success of one.
    pub forgives: bool,
}

/// Whether an attempt may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is reserved; [`Table::settle`] must be told its outcome.
    Go,
    /// Later: its waiter is woken when it may try again. One that gives up says so by [`Table::leave`].
    Wait,
    /// A key is locked until then.
    Locked(Instant),
    /// Too many keys are held; it cannot be judged.
    Full,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was right.
    Right,
    /// It was wrong.
    Wrong,
    /// Nobody knows, or it says nothing: the reservation is given back and nothing is counted.
    Unknown,
}

/// A locked key, for who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The key's octets.
    pub octets: Box<[u8]>,
    /// Until when.
    pub until: Instant,
}

#[derive(Debug)]
struct Entry<W> {
    /// When each failure was, oldest first; at most `failures_max`.
    failures: VecDeque<Instant>,
    reserved: usize,
    until: Option<Instant>,
    waiting: VecDeque<W>,
    /// Its place in the order of use.
    used: u64,
}

impl<W> Entry<W> {
    fn is_held(&self, now: Instant) -> bool {
        self.reserved > 0 || !self.waiting.is_empty() || self.until.is_some_and(|until| now < until)
    }

    /// Forgets what is over.
    fn age(&mut self, settings: &Settings, now: Instant) {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
            self.failures.clear();
        }
        while self
            .failures
            .front()
            .is_some_and(|at| now.since(*at) >= settings.window)
        {
            self.failures.pop_front();
        }
    }

    fn room(&self, settings: &Settings) -> usize {
        settings
            .failures_max
            .saturating_sub(self.failures.len() + self.reserved)
    }
}

/// See the module. `W`: who waits, as its owner calls it.
#[derive(Debug)]
pub struct Table<W> {
    settings: Settings,
    entries: HashMap<Box<[u8]>, Entry<W>>,
    /// Keys in the order of use.
    order: BTreeMap<u64, Box<[u8]>>,
    clock: u64,
}

impl<W: Copy + PartialEq> Table<W> {
    /// Nobody has failed.
    pub fn new(settings: Settings) -> Table<W> {
        Table {
            settings,
            entries: HashMap::default(),
            order: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Other settings, from now on; locks stay as they are. Everybody who waits is to be woken.
    pub fn configure(&mut self, settings: Settings, woken: &mut Vec<W>) {
        self.settings = settings;
        for entry in self.entries.values_mut() {
            woken.extend(entry.waiting.drain(..));
            while entry.failures.len() > settings.failures_max {
                entry.failures.pop_front();
            }
        }
    }

    /// Keys that are remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An attempt, under all of its keys, which must differ. `again`: its waiter was woken, and goes before those who wait;
    /// `woken`: who may try in its stead, where it still may not.
    pub fn attempt(&mut self, keys: &[Key], waiter: W, again: bool, now: Instant, woken: &mut Vec<W>) -> Answer {
        let answer = self.judge(keys, waiter, again, now);
        if again && answer != Answer::Go {
            for key in keys {
                if let Some(entry) = self.entries.get_mut(&key.octets) {
                    wake(entry, &self.settings, woken);
                }
            }
        }
        answer
    }

    fn judge(&mut self, keys: &[Key], waiter: W, again: bool, now: Instant) -> Answer {
        for key in keys {
            if !self.touch(&key.octets, now) {
                return Answer::Full;
            }
        }
        let until = keys.iter().filter_map(|key| self.entries.get(&key.octets)?.until).max();
        if let Some(until) = until {
            return Answer::Locked(until);
        }
        for key in keys {
            if let Some(entry) = self.entries.get_mut(&key.octets)
                && (entry.room(&self.settings) == 0 || !again && !entry.waiting.is_empty())
            {
                if again {
                    entry.waiting.push_front(waiter);
                } else {
                    entry.waiting.push_back(waiter);
                }
                return Answer::Wait;
            }
        }
        for key in keys {
            if let Some(entry) = self.entries.get_mut(&key.octets) {
                entry.reserved += 1;
            }
        }
        Answer::Go
    }

    /// An attempt that was let in has ended. `woken`: who may try again. True: a key is locked from now on.
    pub fn settle(&mut self, keys: &[Key], outcome: Outcome, now: Instant, woken: &mut Vec<W>) -> bool {
        let settings = self.settings;
        let mut locked = false;
        for key in keys {
            let Some(entry) = self.entries.get_mut(&key.octets) else {
                continue;
            };
            entry.reserved = entry.reserved.saturating_sub(1);
            entry.age(&settings, now);
            match outcome {
                Outcome::Right if key.forgives => entry.failures.clear(),
                Outcome::Wrong if entry.until.is_none() => {
                    entry.failures.push_back(now);
                    if entry.failures.len() >= settings.failures_max {
                        entry.until = Some(now + settings.duration);
                        locked = true;
                    }
                }
                Outcome::Right | Outcome::Wrong | Outcome::Unknown => {}
            }
            wake(entry, &settings, woken);
        }
        locked
    }

    /// Who waited, or was woken, does not try again. `woken`: who may in its place.
    pub fn leave(&mut self, keys: &[Key], waiter: W, now: Instant, woken: &mut Vec<W>) {
        let settings = self.settings;
        for key in keys {
            if let Some(entry) = self.entries.get_mut(&key.octets) {
                entry.waiting.retain(|other| *other != waiter);
                entry.age(&settings, now);
                wake(entry, &settings, woken);
            }
        }
    }

    /// Keys that are locked now, in the order of their octets.
    pub fn locked(&self, now: Instant) -> Vec<Locked> {
        let mut locked: Vec<Locked> = self
            .entries
            .iter()
            .filter_map(|(octets, entry)| {
                let until = entry.until.filter(|until| now < *until)?;
                Some(Locked {
                    octets: octets.clone(),
                    until,
                })
            })
            .collect();
        locked.sort_by(|one, two| one.octets.cmp(&two.octets));
        locked
    }

    /// Forgets failures and locks of the keys that are meant; how many had some.
    pub fn clear(&mut self, is_meant: impl Fn(&[u8]) -> bool, woken: &mut Vec<W>) -> usize {
        let settings = self.settings;
        let mut cleared = 0;
        for (octets, entry) in &mut self.entries {
            if is_meant(octets) && (entry.until.is_some() || !entry.failures.is_empty()) {
                cleared += 1;
                entry.until = None;
                entry.failures.clear();
                wake(entry, &settings, woken);
            }
        }
        cleared
    }

    /// Makes a key's entry the one that was used last, and makes one where there is none. False: there is no room.
    fn touch(&mut self, octets: &[u8], now: Instant) -> bool {
        self.clock += 1;
        if let Some(entry) = self.entries.get_mut(octets) {
            entry.age(&self.settings, now);
            if let Some(octets) = self.order.remove(&entry.used) {
                self.order.insert(self.clock, octets);
            }
            entry.used = self.clock;
            return true;
        }
        if self.entries.len() >= self.settings.entries_max && !self.make_room(now) {
            return false;
        }
        let entry = Entry {
            failures: VecDeque::new(),
            reserved: 0,
            until: None,
            waiting: VecDeque::new(),
            used: self.clock,
        };
        self.entries.insert(octets.into(), entry);
        self.order.insert(self.clock, octets.into());
        true
    }

    fn make_room(&mut self, now: Instant) -> bool {
        let mut oldest = None;
        for (used, octets) in &self.order {
            if self.entries.get(octets).is_none_or(|entry| !entry.is_held(now)) {
                oldest = Some(*used);
                break;
            }
        }
        let Some(octets) = oldest.and_then(|used| self.order.remove(&used)) else {
            return false;
        };
        self.entries.remove(&octets);
        true
    }

    /// What must hold at any time.
    ///
    /// # Errors
    /// What does not.
    pub fn check_invariants(&self, now: Instant) -> Result<(), String> {
        let max = self.settings.failures_max;
        if self.order.len() != self.entries.len() {
            return Err("a key has no place in the order of use".to_owned());
        }
        for entry in self.entries.values() {
            let locked = entry.until.is_some_and(|until| now < until);
            if entry.until.is_none() && entry.failures.len() + entry.reserved > max {
                return Err(format!(
                    "{} failures, {} reserved",
                    entry.failures.len(),
                    entry.reserved
                ));
            }
            if locked && !entry.waiting.is_empty() {
                return Err("somebody waits for a locked key".to_owned());
            }
        }
        Ok(())
    }
}

/// Those who wait for this key, as many as it has room for; all, where it is locked.
fn wake<W>(entry: &mut Entry<W>, settings: &Settings, woken: &mut Vec<W>) {
    let count = match entry.until {
        Some(_) => entry.waiting.len(),
        None => entry.room(settings).min(entry.waiting.len()),
    };
    woken.extend(entry.waiting.drain(..count));
}

#[cfg(test)]
mod tests;
