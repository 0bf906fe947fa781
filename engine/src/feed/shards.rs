//! Which shard an entry belongs to. How shards deliver is the business of whoever runs the feed.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Rng;

    #[test]
    fn an_entrys_shard_is_fixed_for_good() {
        let uuid = |text: &str| -> Uuid {
            let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
            let mut uuid = [0; 16];
            for (octet, pair) in uuid.iter_mut().zip(digits.chunks(2)) {
                *octet = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            }
            uuid
        };
        for (text, of_8, of_64, of_1000) in VECTORS {
            let uuid = uuid(text);
            assert_eq!(
                (shard_of(&uuid, 8), shard_of(&uuid, 64), shard_of(&uuid, 1000)),
                (of_8, of_64, of_1000),
                "{text}"
            );
            assert_eq!(shard_of(&uuid, 1), 0);
            assert_eq!(shard_of(&uuid, 0), 0);
        }
    }

    const VECTORS: [(&str, u16, u16, u16); 4] = [
        ("00000000-0000-0000-0000-000000000000", 2, 18, 281),
        ("00000000-0000-0000-0000-000000000001", 6, 55, 862),
        ("6ba7b810-9dad-11d1-80b4-00c04fd430c8", 6, 55, 872),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", 7, 58, 909),
    ];

    #[test]
    fn uuids_of_time_and_of_chance_are_spread_evenly() {
        let mut rng = Rng::new(1);
        for by_time in [false, true] {
            let mut counts = [0_u32; 16];
            for number in 0..16_000_u64 {
                let mut uuid = *b"\0\0\0\0\x9d\xad\x11\xd1\x80\xb4\x00\xc0\x4f\xd4\x30\xc8";
                if by_time {
                    uuid[..8].copy_from_slice(&(number * 10_000).to_be_bytes());
                } else {
                    uuid[..8].copy_from_slice(&rng.next_u64().to_be_bytes());
                }
                counts[usize::from(shard_of(&uuid, 16))] += 1;
            }
            assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
        }
    }
}
