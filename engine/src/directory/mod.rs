//! The local directory: an LDIF file held in memory that answers LDAP requests in process.
//!
//! It serves demos, tests and accounts for an emergency, and measures the balancer in front of it, because it costs
//! next to nothing. It is a function of the file, the session's bind and the request: no clock, no socket, no change
//! after [`Directory::load`], so workers share one by reference.
//!
//! What it does not do, and says so where a client would notice:
//! - There is no access control. Everybody, anonymous clients too, reads every entry, except `userPassword`: that is
//!   never returned, a filter on it is Undefined, and compare answers by the hash.
//! - It is read-only: writes are answered with unwillingToPerform.
//! - Aliases are not dereferenced, referral objects are plain entries, SASL binds are refused.
//! - A search's time limit is counted in steps ([`Bounds::steps_max`]), because there is no clock; the client's own time
//!   limit is not looked at.
//!
//! ```text
//!   LDIF ─ load ─→ entries (encoded attributes + normal forms) + names + equality index
//!   frame ─→ answer ─→ search:  place → program (compiled filter) → candidates or walk → test → write
//!                  └→ bind, compare, Who am I?, refusals
//! ```

mod answer;
mod entry;
mod evaluate;
mod index;
mod load;
pub mod password;
pub mod people;
mod program;
mod root;
mod rules;
mod schema;
mod search;
mod time;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

pub use load::LoadError;
pub use root::SUBSCHEMA_DN;

use entry::{Entry, EntryId};
use foldhash::fast::FixedState;
use index::Index;
use schema::Schema;
use search::Scratch;

/// A directory in memory.
#[derive(Debug)]
pub struct Directory {
    schema: Schema,
    /// By [`EntryId`], in the order of the file.
    entries: Vec<Entry>,
    /// By name in normal form.
    by_dn: HashMap<Box<[u8]>, EntryId, FixedState>,
    index: Index,
    root_dse: Entry,
    subschema: Entry,
    unknown_passwords: AtomicU64,
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
}

impl Directory {
    /// Reads an LDIF file. `file_name` is for messages; `base` is the name that the tree must begin with, or else it
    /// begins with the entry that has the shortest name; `loaded_at_unix` (seconds) becomes the entries' timestamps.
    ///
    /// # Errors
    /// The first thing in the file that is wrong, with its line.
    pub fn load(ldif: &[u8], file_name: &str, base: Option<&str>, loaded_at_unix: u64) -> Result<Directory, LoadError> {
        load::load(ldif, file_name, base, loaded_at_unix)
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// How often a stored password could not be checked because its scheme is unknown or it is malformed.
    #[must_use]
    pub fn unknown_passwords(&self) -> u64 {
        self.unknown_passwords.load(Ordering::Relaxed)
    }

    fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.entries.get(id.index())
    }
}
