//! What a feed is told once, when it is made.

use wire::ldap::sync::Mode;

use super::shape::Shape;

/// How a provider is taken, where providers differ from RFC 4533 and from each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// RFC 4533, and OpenLDAP.
    #[default]
    Standard,
    /// 389 Directory Server: refreshOnly always ends with `refreshDeletes` FALSE, though with a cookie only what changed
    /// was sent; and an entry that leaves the base takes its descendants along without a word, under its old name.
    Ds389,
}

/// Past which number of deletes a refresh is held for an operator. Each bound counts where it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MaxDeletes {
    /// Entries.
    pub count: Option<u64>,
    /// Per cent of the entries that there were when the refresh began, 0 to 100.
    pub percent: Option<u8>,
}

impl MaxDeletes {
    /// Whether deleting `deletes` of `entries` is too much.
    #[must_use]
    pub fn is_passed(&self, deletes: u64, entries: u64) -> bool {
        let by_count = self.count.is_some_and(|count| deletes > count);
        let by_percent = self
            .percent
            .is_some_and(|percent| u128::from(deletes) * 100 > u128::from(entries) * u128::from(percent));
        by_count || by_percent
    }
}

/// What a consumer is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The base of the search, as written.
    pub base: String,
    /// Whether to stay after the refresh.
    pub mode: Mode,
    /// How the provider is taken.
    pub profile: Profile,
    /// Whether the filter is true of every entry (`(objectClass=*)`). Then a container that goes takes its descendants
    /// with it; with another filter it may just not match any more.
    pub whole: bool,
    /// In how many shards events are delivered, at least 1; fixed for good, for it decides an entry's shard.
    pub shards: u16,
    /// Whether events carry old values.
    pub before: bool,
    /// Whether the very first refresh emits its entries, or only its end.
    pub initial: bool,
    /// The guard against a refresh that deletes too much.
    pub max_deletes: MaxDeletes,
    /// Of all that decides what the content is ([`super::shape::fingerprint`]). Another than the kept one makes the next
    /// refresh a full comparison.
    pub fingerprint: [u8; 16],
    /// What is made of the attributes that the server sends.
    pub shape: Shape,
}
