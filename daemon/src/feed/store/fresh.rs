//! What of each shard's events is kept in memory beside the table: whoever keeps up is given it from here, batch by batch.
//!
//! It is always the last of what there is. Where it grows too large it is dropped and begun anew with the next event; the
//! table has it all, and is read up to where memory begins.

use std::collections::VecDeque;

/// Events of one batch, at most.
pub(super) const BATCH_EVENTS_MAX: usize = 512;
/// Bytes of one batch, beyond which no further event is added.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Bytes that are kept in memory for all shards, each of which has an equal part of it, but this much at least.
pub(super) const FRESH_BYTES_MAX: usize = 6 << 20;
const FRESH_BYTES_MIN: usize = 32 * 1024;

/// Events of one shard, in order, in their binary form.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Number, end in `bytes`, whether it concerns the whole feed.
    events: Vec<(u64, usize, bool)>,
}

impl Batch {
    /// How many.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The number of the last.
    pub fn last(&self) -> Option<u64> {
        self.events.last().map(|(seq, _, _)| *seq)
    }

    /// Number and binary form of each.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut from = 0;
        self.events.iter().map(move |(seq, end, _)| {
            let event = self.bytes.get(from..*end).unwrap_or_default();
            from = *end;
            (*seq, event)
        })
    }

    pub(super) fn push(&mut self, seq: u64, event: &[u8], feed_wide: bool) {
        self.bytes.extend_from_slice(event);
        self.events.push((seq, self.bytes.len(), feed_wide));
    }

    pub(super) fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS_MAX || self.bytes.len() >= BATCH_BYTES_MAX
    }

    fn has_room_for(&self, other: &Batch) -> bool {
        self.events.len() + other.events.len() <= BATCH_EVENTS_MAX
            && self.bytes.len() + other.bytes.len() <= BATCH_BYTES_MAX
    }

    fn append(&mut self, mut other: Batch) {
        let base = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        let events = other.events.into_iter();
        self.events
            .extend(events.map(|(seq, end, wide)| (seq, base + end, wide)));
    }

    /// Cuts it before the event at this place; the rest.
    pub(super) fn split(&mut self, at: usize) -> Batch {
        let end = at
            .checked_sub(1)
            .and_then(|last| self.events.get(last))
            .map_or(0, |(_, end, _)| *end);
        let mut rest = Batch {
            bytes: self.bytes.split_off(end),
            events: self.events.split_off(at),
        };
        for event in &mut rest.events {
            event.1 -= end;
        }
        rest
    }

    /// Where the first event is that concerns the whole feed.
    pub(super) fn barrier(&self) -> Option<(usize, u64)> {
        let found = self.events.iter().enumerate().find(|(_, (_, _, wide))| *wide);
        found.map(|(at, (seq, _, _))| (at, *seq))
    }
}

/// Where one shard stands.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// The sink has everything up to here.
    pub(super) acked: u64,
    /// Of that, this is not deleted yet.
    pub(super) undeleted: bool,
    /// Committed, and not handed on.
    pub(super) fresh: VecDeque<Batch>,
    /// Not committed yet.
    pub(super) staged: VecDeque<Batch>,
    /// Bytes in both.
    pub(super) bytes: usize,
    /// `fresh` is not all there is: before `from` the table is read.
    pub(super) behind: bool,
    /// While it is behind: the first number that is in memory. Where there is none, none is kept until it has caught up.
    pub(super) from: Option<u64>,
}

impl Shard {
    /// An event that was just put into the table; at most `bytes_max` are kept.
    pub(super) fn stage(&mut self, seq: u64, event: &[u8], feed_wide: bool, bytes_max: usize) {
        if self.behind && self.from.is_none() {
            return;
        }
        if self.bytes + event.len() > bytes_max {
            // From here on anew: the sooner it has caught up.
            self.stand_aside();
            self.from = Some(seq + 1);
            return;
        }
        self.bytes += event.len();
        match self.staged.back_mut() {
            Some(batch) if !batch.is_full() => batch.push(seq, event, feed_wide),
            _ => {
                let mut batch = Batch::default();
                batch.push(seq, event, feed_wide);
                self.staged.push_back(batch);
            }
        }
    }

    /// What waits is in the table alone.
    pub(super) fn stand_aside(&mut self) {
        (self.behind, self.from) = (true, None);
        (self.fresh, self.staged, self.bytes) = (VecDeque::new(), VecDeque::new(), 0);
    }

    pub(super) fn committed(&mut self) {
        self.undeleted = false;
        let Some(first) = self.staged.pop_front() else { return };
        // Single changes come together in one batch while nobody takes them.
        match self.fresh.back_mut() {
            Some(last) if last.has_room_for(&first) => last.append(first),
            _ => self.fresh.push_back(first),
        }
        self.fresh.append(&mut self.staged);
    }

    /// The number after the last one that was committed will be given next.
    pub(super) fn rolled_back(&mut self, next: u64) {
        self.from = self.from.map(|from| from.min(next));
        self.bytes -= self.staged.iter().map(|batch| batch.bytes.len()).sum::<usize>();
        self.staged.clear();
        // What was to be deleted is there still.
        self.undeleted = true;
    }

    /// The next of what was committed and is kept in memory.
    pub(super) fn take(&mut self) -> Batch {
        let batch = self.fresh.pop_front().unwrap_or_default();
        self.bytes -= batch.bytes.len();
        batch
    }

    pub(super) fn put_back(&mut self, batch: Batch) {
        if !batch.is_empty() && !self.behind {
            self.bytes += batch.bytes.len();
            self.fresh.push_front(batch);
        }
    }
}

/// How much of one shard's events is kept, where there are so many shards.
pub(super) fn bytes_max(shards: usize) -> usize {
    FRESH_BYTES_MIN.max(FRESH_BYTES_MAX / shards.max(1))
}
