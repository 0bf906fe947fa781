//! The local directory: an LDIF file held in memory that answers LDAP requests in process.
//!
//! It serves demos, tests and accounts for an emergency, and measures the balancer in front of it, because it costs
//! next to nothing. It is a function of the file, the session's bind and the request: no clock, no socket. What reads does
//! not change it, so workers share one by reference; a write makes another, which shares with it what is the same in both.
//!
//! What it does not do, and says so where a client would notice:
//! - There is no access control. Everybody, anonymous clients too, reads every entry, except `userPassword`: that is
//!   never returned, a filter on it is Undefined, and compare answers by the hash.
//! - It is read-only unless [`Directory::make_writable`] says who may write.
//! - Aliases are not dereferenced, referral objects are plain entries, SASL binds are refused.
//! - A search's time limit is counted in steps ([`Bounds::steps_max`]), because there is no clock; the client's own time
//!   limit is not looked at.
//!
//! ```text
//!   LDIF ─ load ─→ entries (encoded attributes + normal forms) + names + equality index
//!   frame ─→ answer ─→ search:  place → program (compiled filter) → candidates or walk → test → write
//!         │        └→ bind, compare, Who am I?, refusals
//!         ├─ write ──→ work (an entry taken apart) → put → index, tree, log of changes
//!         └─ follow ─→ feed: the content, or what became of it; then each change
//! ```

mod answer;
mod csn;
mod entry;
mod evaluate;
mod export;
mod index;
mod layers;
mod load;
mod log;
pub mod people;
mod program;
mod root;
mod rules;
mod schema;
mod search;
mod sync;
mod time;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use export::heading;
pub use load::LoadError;
pub use root::SUBSCHEMA_DN;
pub use sync::{Fed, Follow};
pub use write::{Moment, Writing};

use csn::Csn;
use entry::{Entry, EntryId};
use index::Index;
use layers::Layers;
use log::Log;
use schema::Schema;
use search::Scratch;

/// Changes that are kept for consumers, unless [`Directory::make_writable`] says otherwise.
const CHANGES_MAX: usize = 10_000;

/// A directory in memory. A copy is cheap: it shares with the original whatever is the same in both.
#[derive(Clone, Debug)]
pub struct Directory {
    schema: Arc<Schema>,
    /// By [`EntryId`], in the order of the file; what was deleted left a gap.
    nodes: Layers<Option<Node>>,
    /// The gaps.
    free: Arc<Vec<EntryId>>,
    entries: usize,
    /// Octets that the entries take, about.
    bytes: usize,
    suffix: EntryId,
    index: Index,
    root_dse: Arc<Entry>,
    subschema: Arc<Entry>,
    unknown_passwords: Arc<AtomicU64>,
    /// Who may write, and how much; `None`: nobody.
    writing: Option<Arc<Writing>>,
    log: Log,
    trust: Trust,
}

/// Which cookies of consumers (RFC 4533) tell what the consumer has.
///
/// Others may stand for changes that were made and lost, because the daemon was killed before it wrote them to the file, or
/// because somebody edited the file since.
#[derive(Clone, Copy, Debug)]
struct Trust {
    /// Those of changes up to the end of the run before, oldest and newest, where it ended in order.
    before: Option<(Csn, Csn)>,
    /// No change of this run is older.
    start: Csn,
}

impl Trust {
    fn believes(&self, cookie: Csn, newest: Csn) -> bool {
        let before = self
            .before
            .is_some_and(|(first, last)| (first..=last).contains(&cookie));
        before || (self.start..=newest).contains(&cookie)
    }
}

/// An entry and its place in the tree.
#[derive(Clone, Debug)]
struct Node {
    entry: Arc<Entry>,
    parent: Option<EntryId>,
    /// How many there are stands beside the pointer: who has none costs no look at memory elsewhere.
    children: Arc<[EntryId]>,
}

/// What one session with the local directory has.
#[derive(Debug, Default)]
pub struct LocalSession {
    /// The name of the last successful bind in normal form; empty is anonymous.
    pub bound_dn: Vec<u8>,
    scratch: Scratch,
}

/// What one request may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Entries that one search returns; 0 is no limit. Beyond it the search ends with sizeLimitExceeded (4).
    pub entries_max: u32,
    /// Steps that one search takes: one for each part of the filter tested on an entry, and one more for each 16 values
    /// the entry has. Beyond it the search ends with timeLimitExceeded (3). A million are 50 to 300 ms.
    pub steps_max: u64,
    /// Bytes of entries that one search returns. Beyond it the search ends with adminLimitExceeded (11).
    pub out_bytes_max: usize,
    /// Whether proxied authorization (RFC 4370) is accepted: whoever asks is a balancer that has seen the client's bind.
    pub trusted_proxy: bool,
}

impl Default for Bounds {
    /// No limit on entries, 2 million steps (at most half a second), 64 MiB, and no proxied authorization.
    fn default() -> Self {
        Self {
            entries_max: 0,
            steps_max: 2_000_000,
            out_bytes_max: 64 << 20,
            trusted_proxy: false,
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The answer is complete.
    Answered {
        /// The result code of the final response.
        code: u32,
    },
    /// The request has no answer (unbind, abandon).
    NoAnswer,
    /// It is a write, for [`Directory::write`] on a copy that takes this one's place.
    Write,
    /// It is a search that follows the content (RFC 4533), for [`Follow::begin`].
    Follow,
}

impl Directory {
    /// Reads an LDIF file. `file_name` is for messages; `base` is the name that the tree must begin with, or else it
    /// begins with the entry that has the shortest name; `loaded_at_micros` (since 1970) becomes the entries' timestamps
    /// and change numbers.
    ///
    /// # Errors
    /// The first thing in the file that is wrong, with its line.
    pub fn load(
        ldif: &[u8],
        file_name: &str,
        base: Option<&str>,
        loaded_at_micros: u64,
    ) -> Result<Directory, LoadError> {
        load::load(ldif, file_name, base, loaded_at_micros, |_| false)
    }

    /// The same of what a program wrote, which knows which attribute types that are not built in are integers.
    ///
    /// # Errors
    /// As [`Directory::load`].
    pub fn of_figures(
        ldif: &[u8],
        base: &str,
        made_at_micros: u64,
        is_number: fn(&str) -> bool,
    ) -> Result<Directory, LoadError> {
        load::load(ldif, base, Some(base), made_at_micros, is_number)
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// How often a stored password could not be checked because its scheme is unknown or it is malformed.
    #[must_use]
    pub fn unknown_passwords(&self) -> u64 {
        self.unknown_passwords.load(Ordering::Relaxed)
    }

    fn node(&self, id: EntryId) -> Option<&Node> {
        self.nodes.get(id.index())?.as_ref()
    }

    fn entry(&self, id: EntryId) -> Option<&Entry> {
        Some(&self.node(id)?.entry)
    }

    /// The entry with this name in normal form.
    fn find(&self, normal_dn: &[u8]) -> Option<(EntryId, &Node)> {
        let named = self.index.find_name(normal_dn).iter();
        named
            .filter_map(|id| Some((*id, self.node(*id)?)))
            .find(|(_, node)| *node.entry.normal_dn == *normal_dn)
    }
}
