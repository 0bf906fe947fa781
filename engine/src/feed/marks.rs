//! Sets of rows, one bit each: what a refresh has seen.
//!
//! Why in memory: a refresh that breaks off is begun anew, so nothing of it need survive, and an entry that is as kept
//! costs no write. Ids lie close together, so a directory of ten million entries takes little more than a megabyte.

use std::collections::BTreeMap;

use super::store::Id;

const WORDS: usize = 64;
/// Bits in a chunk: 512 octets of memory.
const CHUNK: i64 = 64 * 64;

/// A set of ids.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    chunks: BTreeMap<i64, [u64; WORDS]>,
    len: u64,
}

impl Marks {
    /// Puts `id` in; whether it was not in.
    pub(super) fn set(&mut self, id: Id) -> bool {
        let (chunk, word, bit) = split(id);
        let words = self.chunks.entry(chunk).or_insert([0; WORDS]);
        let Some(word) = words.get_mut(word) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        self.len += u64::from(new);
        new
    }

    /// Takes `id` out.
    pub(super) fn clear(&mut self, id: Id) {
        let (chunk, word, bit) = split(id);
        if let Some(word) = self.chunks.get_mut(&chunk).and_then(|words| words.get_mut(word)) {
            self.len -= u64::from(*word & bit != 0);
            *word &= !bit;
        }
    }

    /// Whether `id` is in.
    pub(super) fn has(&self, id: Id) -> bool {
        let (chunk, word, bit) = split(id);
        self.chunks
            .get(&chunk)
            .and_then(|words| words.get(word))
            .is_some_and(|word| word & bit != 0)
    }

    /// How many are in.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The smallest id in it above `after`.
    pub(super) fn next(&self, after: Id) -> Option<Id> {
        let first = after.0.checked_add(1)?;
        let (chunk, _, _) = split(Id(first));
        for (chunk, words) in self.chunks.range(chunk..) {
            for (place, word) in words.iter().enumerate() {
                let base = chunk * CHUNK + i64::try_from(place).ok()? * 64;
                let behind = match first - base {
                    skipped @ 0..64 => u64::MAX << skipped,
                    ..0 => u64::MAX,
                    _ => 0,
                };
                let left = word & behind;
                if left != 0 {
                    return Some(Id(base + i64::from(left.trailing_zeros())));
                }
            }
        }
        None
    }

    /// Takes all out.
    pub(super) fn reset(&mut self) {
        self.chunks.clear();
        self.len = 0;
    }
}

fn split(id: Id) -> (i64, usize, u64) {
    let within = id.0.rem_euclid(CHUNK);
    let word = usize::try_from(within / 64).unwrap_or(0);
    (id.0.div_euclid(CHUNK), word, 1 << (within % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 1i64..20_000), 0..200)) {
            let (mut marks, mut model) = (Marks::default(), BTreeSet::new());
            for (set, id) in steps {
                if set {
                    prop_assert_eq!(marks.set(Id(id)), model.insert(Id(id)));
                } else {
                    marks.clear(Id(id));
                    model.remove(&Id(id));
                }
                prop_assert_eq!(marks.has(Id(id)), set);
            }
            prop_assert_eq!(marks.len(), model.len() as u64);
            let mut listed = Vec::new();
            let mut after = Id::ROOT;
            while let Some(id) = marks.next(after) {
                listed.push(id);
                after = id;
            }
            prop_assert_eq!(listed, model.into_iter().collect::<Vec<_>>());
        }
    }
}
