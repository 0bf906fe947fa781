//! Delivery.

use super::event::Uuid;
use crate::core::rng::mix;

/// The shard, of `shards` of them, that an entry's events are on.
///
/// The two halves of the uuid, as big-endian numbers, each go through the finaliser of SplitMix64; the hash is scaled
/// to the number of shards by its high bits. Fixed for good: an entry that changed its shard would have its events
/// reordered. (By entryUUID, because a name changes: by DN up to a fifth of the entries end up wrong after renames.)
#[must_use]
pub fn shard_of(uuid: &Uuid, shards: u16) -> u16 {
    let whole = u128::from_be_bytes(*uuid);
    let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
    let hash = mix(half(whole >> 64).wrapping_add(mix(half(whole).wrapping_add(SHARD_KEY))));
    u16::try_from((u128::from(hash) * u128::from(shards)) >> 64).unwrap_or(0)
}

/// The golden ratio's fraction, as SplitMix64 uses it: so that a uuid of zeros is not hashed to zero.
const SHARD_KEY: u64 = 0x9e37_79b9_7f4a_7c15;
