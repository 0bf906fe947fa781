//! The last changes of a directory, in their order: what consumers that were away, or are behind, are told from.
//!
//! Bounded by a number of changes and by [`BYTES_MAX`]; the oldest go. Each change is kept with the entry before and
//! after it, so that what it means can be told for any base, scope and filter.

use std::sync::Arc;

use super::csn::Csn;
use super::entry::Entry;
use super::layers::Layers;

/// More octets of entries, before and after their changes, are not kept.
const BYTES_MAX: usize = 64 << 20;

/// One entry changed.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) csn: Csn,
    /// What it was; `None` for a new entry.
    pub(super) old: Option<Arc<Entry>>,
    /// What it is; `None` for a deleted entry.
    pub(super) new: Option<Arc<Entry>>,
}

impl Change {
    fn bytes(&self) -> usize {
        let bytes = |entry: &Option<Arc<Entry>>| entry.as_ref().map_or(0, |entry| entry.bytes());
        bytes(&self.old) + bytes(&self.new)
    }
}

/// See the module. Changes are named by numbers from 0 that only grow.
#[derive(Clone, Debug)]
pub(super) struct Log {
    /// Change `n` is at `n % max`.
    ring: Layers<Option<Arc<Change>>>,
    max: usize,
    first: u64,
    next: u64,
    bytes: usize,
    /// The newest change that is not kept any more.
    forgotten: Csn,
    /// The newest of all.
    newest: Csn,
}

impl Log {
    /// An empty one, of a directory in which everything up to `newest` has been done.
    pub(super) fn new(newest: Csn, changes_max: usize) -> Self {
        Self {
            ring: Layers::default(),
            max: changes_max.max(1),
            first: 0,
            next: 0,
            bytes: 0,
            forgotten: newest,
            newest,
        }
    }

    /// The same, with room for another number of changes. It keeps the newest.
    pub(super) fn resized(&self, changes_max: usize) -> Self {
        let mut log = Self::new(self.forgotten, changes_max);
        (log.first, log.next) = (self.first, self.first);
        for change in (self.first..self.next).filter_map(|number| self.get(number)) {
            log.append(Arc::clone(change));
        }
        log.newest = self.newest;
        log
    }

    pub(super) fn push(&mut self, change: Change) {
        self.append(Arc::new(change));
    }

    fn append(&mut self, change: Arc<Change>) {
        self.newest = change.csn;
        self.bytes += change.bytes();
        while self.next - self.first >= self.max as u64 {
            self.forget();
        }
        let slot = self.slot(self.next);
        while self.ring.len() <= slot {
            self.ring.push(None);
        }
        if let Some(place) = self.ring.get_mut(slot) {
            *place = Some(change);
        }
        self.next += 1;
        while self.bytes > BYTES_MAX && self.first < self.next {
            self.forget();
        }
    }

    fn forget(&mut self) {
        let slot = self.slot(self.first);
        if let Some(change) = self.ring.get_mut(slot).and_then(Option::take) {
            self.bytes -= change.bytes();
            self.forgotten = change.csn;
        }
        self.first += 1;
    }

    fn slot(&self, number: u64) -> usize {
        usize::try_from(number % self.max as u64).unwrap_or(0)
    }

    /// The number that the next change will have.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The newest change of all.
    pub(super) fn newest(&self) -> Csn {
        self.newest
    }

    /// The change with this number; `None` when it is not kept any more, or has not been made.
    pub(super) fn get(&self, number: u64) -> Option<&Arc<Change>> {
        if !(self.first..self.next).contains(&number) {
            return None;
        }
        self.ring.get(self.slot(number))?.as_ref()
    }

    /// The number of the first change after `csn`; `None` when changes after it are not kept any more.
    pub(super) fn after(&self, csn: Csn) -> Option<u64> {
        if csn < self.forgotten {
            return None;
        }
        let (mut low, mut high) = (self.first, self.next);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(|change| change.csn <= csn) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_it_is_known_which_are_missing() {
        let csn = |micros| Csn::at(micros);
        let mut log = Log::new(csn(5), 3);
        assert_eq!((log.after(csn(5)), log.after(csn(4))), (Some(0), None));
        for micros in [10, 20, 30, 40, 50] {
            log.push(Change {
                csn: csn(micros),
                old: None,
                new: None,
            });
        }
        assert_eq!((log.next(), log.newest()), (5, csn(50)));
        assert!(log.get(1).is_none() && log.get(5).is_none());
        assert_eq!(log.get(2).map(|change| change.csn), Some(csn(30)));
        assert_eq!(log.after(csn(19)), None, "20 is not there any more");
        assert_eq!(log.after(csn(20)), Some(2));
        assert_eq!(log.after(csn(45)), Some(4));
        assert_eq!(log.after(csn(50)), Some(5));
        for max in [2, 10] {
            let mut other = log.resized(max);
            assert_eq!((other.next(), other.newest()), (5, csn(50)));
            assert_eq!(other.get(4).map(|change| change.csn), Some(csn(50)));
            assert_eq!(other.after(csn(25)), (max == 10).then_some(2));
            other.push(Change {
                csn: csn(60),
                old: None,
                new: None,
            });
            assert_eq!(other.get(5).map(|change| change.csn), Some(csn(60)));
        }
    }
}
