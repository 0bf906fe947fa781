//! Who the names stand for under which clients bind, as the servers have said (Who am I?, RFC 4532).
//!
//! Asked for with every bind, and with tens of thousands of names larger than a CPU's caches, so what is looked at is kept
//! small: a name is known by 128 bits of a keyed hash and is not kept itself, and an identity only where it is another than the
//! name as typed. The keys are this table's own and never leave it: nobody can look for two names that meet.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use engine::core::time::{Instant, Span};

/// Names that are kept.
const NAMES_MAX: usize = 50_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Names {
    keys: [RandomState; 2],
    known: HashMap<[u64; 2], Known, foldhash::fast::FixedState>,
}

#[derive(Debug)]
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
    pub fn get(&self, name: &[u8], now: Instant) -> Option<Identity<'_>> {
        let known = self.known.get(&self.key(name)).filter(|known| now < known.until)?;
        Some(match &known.identity {
            None => Identity::AsTyped,
            Some(identity) => Identity::As(identity),
        })
    }

    /// Keeps what a server said for so long.
    pub fn learn(&mut self, name: &[u8], identity: &[u8], now: Instant, keep: Span) {
        if keep.is_zero() {
            return;
        }
        if self.known.len() >= NAMES_MAX {
            self.make_room(now);
        }
        let typed = identity.strip_prefix(b"dn:") == Some(name);
        let known = Known {
            until: now + keep,
            identity: (!typed).then(|| identity.into()),
        };
        self.known.insert(self.key(name), known);
    }

    fn make_room(&mut self, now: Instant) {
        self.known.retain(|_, known| now < known.until);
        if self.known.len() >= NAMES_MAX {
            // Any half will do: who is asked for again is learned again.
            let mut keep = false;
            self.known.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
    }

    fn key(&self, name: &[u8]) -> [u64; 2] {
        let [one, other] = &self.keys;
        [one.hash_one(name), other.hash_one(name)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Span = Span::from_millis(1000);

    #[test]
    fn a_name_is_known_until_its_time_is_over() {
        let (mut names, now) = (Names::default(), Instant::ZERO);
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
        let (mut names, now) = (Names::default(), Instant::ZERO);
        names.learn(b"cn=a", b"dn:cn=a", now, KEEP);
        names.learn(b"cn=a", b"u:other", now, KEEP);
        assert_eq!(names.get(b"cn=a", now), Some(Identity::As(b"u:other")));
    }

    #[test]
    fn it_holds_so_many_names_and_the_newest_is_among_them() {
        let (mut names, now) = (Names::default(), Instant::ZERO);
        for number in 0..NAMES_MAX + 10 {
            let name = number.to_string();
            names.learn(name.as_bytes(), b"u:x", now, KEEP);
            assert_eq!(names.get(name.as_bytes(), now), Some(Identity::As(b"u:x")));
            assert!(names.known.len() <= NAMES_MAX);
        }
        assert!(names.known.len() >= NAMES_MAX / 2);
    }
}
