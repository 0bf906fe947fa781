//! Who the names stand for under which clients bind, as the servers have said (Who am I?, RFC 4532).
//!
//! Asked for with every bind, and with tens of thousands of names larger than a CPU's caches, so what is looked at is kept
//! small: a name is known by 128 bits of a keyed hash and is not kept itself, and an identity only where it is another than the
//! name as typed. The keys never leave here: nobody can look for two names that meet.
//!
//! Each worker has a table of its own, into which it looks without a lock. Behind those is one that all have in common: what
//! one worker was told no other asks.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use engine::core::time::{Instant, Span};

/// Names that are kept, by each worker and by all together.
const NAMES_MAX: usize = 50_000;

/// What all workers know, by directory, for as long as any of them has it.
#[derive(Debug, Default)]
pub struct AllNames(Mutex<HashMap<String, Weak<Common>>>);

impl AllNames {
    /// A worker's table for a directory.
    pub fn of(&self, directory: &str) -> Names {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let common = all.get(directory).and_then(Weak::upgrade).unwrap_or_else(|| {
            all.retain(|_, common| common.strong_count() > 0);
            let new = Arc::default();
            all.insert(directory.to_owned(), Arc::downgrade(&new));
            new
        });
        Names {
            own: Table::default(),
            common,
        }
    }
}

/// What all workers know of one directory.
#[derive(Debug, Default)]
struct Common {
    keys: [RandomState; 2],
    table: Mutex<Table>,
    /// Something has been learned. Clients that only have passwords checked are never asked about: then there is nothing to look into.
    any: AtomicBool,
}

impl Common {
    fn key(&self, name: &[u8]) -> Key {
        let [one, other] = &self.keys;
        [one.hash_one(name), other.hash_one(name)]
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Names {
    own: Table,
    common: Arc<Common>,
}

#[derive(Debug, Default)]
struct Table(HashMap<Key, Known, foldhash::fast::FixedState>);

type Key = [u64; 2];

#[derive(Clone, Debug)]
struct Known {
    until: Instant,
    /// None: the name as typed.
    identity: Option<Box<[u8]>>,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity<'a> {
    /// Itself: `dn:` and the name as typed.
    AsTyped,
    /// This authorization identity (RFC 4513 section 5.2.1.8).
    As(&'a [u8]),
}

impl Names {
    /// What is known of a name, and not too old.
    pub fn get(&mut self, name: &[u8], now: Instant) -> Option<Identity<'_>> {
        if self.own.0.is_empty() && !self.common.any.load(Ordering::Acquire) {
            return None;
        }
        let key = self.common.key(name);
        if !self.own.knows(&key, now) {
            let known = self
                .common
                .table()
                .0
                .get(&key)
                .filter(|known| now < known.until)
                .cloned()?;
            self.own.put(key, known, now);
        }
        Some(match &self.own.0.get(&key)?.identity {
            None => Identity::AsTyped,
            Some(identity) => Identity::As(identity),
        })
    }

    /// Keeps what a server said for so long.
    pub fn learn(&mut self, name: &[u8], identity: &[u8], now: Instant, keep: Span) {
        if keep.is_zero() {
            return;
        }
        let typed = identity.strip_prefix(b"dn:") == Some(name);
        let known = Known {
            until: now + keep,
            identity: (!typed).then(|| identity.into()),
        };
        let key = self.common.key(name);
        self.common.table().put(key, known.clone(), now);
        self.common.any.store(true, Ordering::Release);
        self.own.put(key, known, now);
    }
}

impl Table {
    fn knows(&self, key: &Key, now: Instant) -> bool {
        self.0.get(key).is_some_and(|known| now < known.until)
    }

    fn put(&mut self, key: Key, known: Known, now: Instant) {
        if self.0.len() >= NAMES_MAX {
            self.make_room(now);
        }
        self.0.insert(key, known);
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, known| now < known.until);
        if self.0.len() >= NAMES_MAX {
            // Any half will do: who is asked for again is learned again.
            let mut keep = false;
            self.0.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Span = Span::from_millis(1000);

    #[test]
    fn a_name_is_known_until_its_time_is_over() {
        let (mut names, now) = (AllNames::default().of("a"), Instant::ZERO);
        names.learn(b"cn=a", b"dn:uid=a,dc=x", now, KEEP);
        names.learn(b"cn=b", b"dn:cn=b", now, KEEP);
        names.learn(b"cn=c", b"", now, KEEP);
        names.learn(b"cn=d", b"dn:cn=d", now, Span::ZERO);
        assert_eq!(names.get(b"cn=a", now), Some(Identity::As(b"dn:uid=a,dc=x")));
        assert_eq!(names.get(b"cn=b", now), Some(Identity::AsTyped));
        assert_eq!(names.get(b"cn=c", now), Some(Identity::As(b"")));
        for unknown in [&b"cn=d"[..], b"cn=A", b"", b"cn=a "] {
            assert_eq!(names.get(unknown, now), None);
        }
        assert_eq!(names.get(b"cn=a", now + KEEP), None);
    }

    #[test]
    fn what_is_learned_anew_replaces_what_was_known() {
        let (mut names, now) = (AllNames::default().of("a"), Instant::ZERO);
        names.learn(b"cn=a", b"dn:cn=a", now, KEEP);
        names.learn(b"cn=a", b"u:other", now, KEEP);
        assert_eq!(names.get(b"cn=a", now), Some(Identity::As(b"u:other")));
    }

    #[test]
    fn it_holds_so_many_names_and_the_newest_is_among_them() {
        let (mut names, now) = (AllNames::default().of("a"), Instant::ZERO);
        for number in 0..NAMES_MAX + 10 {
            let name = number.to_string();
            names.learn(name.as_bytes(), b"u:x", now, KEEP);
            assert_eq!(names.get(name.as_bytes(), now), Some(Identity::As(b"u:x")));
            assert!(names.own.0.len() <= NAMES_MAX);
        }
        assert!(names.own.0.len() >= NAMES_MAX / 2);
    }

    #[test]
    fn what_one_worker_was_told_all_know_of_the_same_directory_while_any_has_it() {
        let (all, now) = (AllNames::default(), Instant::ZERO);
        let (mut one, mut other, mut elsewhere) = (all.of("a"), all.of("a"), all.of("b"));
        one.learn(b"cn=a", b"u:a", now, KEEP);
        assert_eq!(other.get(b"cn=a", now), Some(Identity::As(b"u:a")));
        assert_eq!(elsewhere.get(b"cn=a", now), None);
        assert_eq!(other.get(b"cn=a", now + KEEP), None, "as long as for who was told");
        one.learn(b"cn=a", b"u:b", now + KEEP, KEEP);
        assert_eq!(other.get(b"cn=a", now + KEEP), Some(Identity::As(b"u:b")));
        drop((one, other));
        assert_eq!(all.of("a").get(b"cn=a", now), None, "a new directory of that name");
        assert_eq!(all.0.lock().unwrap().len(), 2);
    }
}
