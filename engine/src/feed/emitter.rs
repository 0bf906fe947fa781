//! From what happened to an event in the outbox: its shard is found, it is counted, and not emitted where it is not wanted.

use super::event::{Attributes, Counts, Event, Names, Op};
use super::shards::shard_of;
use super::store::Content;

#[derive(Debug)]
pub(super) struct Emitter {
    /// In how many shards.
    pub(super) shards: u16,
    /// Whether old values are told.
    pub(super) before: bool,
    /// Whether events about entries are only counted: the first content, where it is not wanted.
    pub(super) silent: bool,
    /// Since this refresh began.
    pub(super) counts: Counts,
}

impl Emitter {
    /// Emits an event about an entry.
    pub(super) fn emit<C: Content>(&mut self, content: &mut C, event: &Event<'_>) -> Result<(), C::Error> {
        let counter = match event.op {
            Op::Add => &mut self.counts.added,
            Op::Modify => &mut self.counts.modified,
            Op::Move => &mut self.counts.moved,
            Op::Delete => &mut self.counts.deleted,
            Op::RefreshDone | Op::Heartbeat => return self.put(content, event),
        };
        *counter += 1;
        if self.silent {
            return Ok(());
        }
        let shard = shard_of(&event.uuid, self.shards);
        self.put(content, &Event { shard, ..*event })
    }

    fn put<C: Content>(&self, content: &mut C, event: &Event<'_>) -> Result<(), C::Error> {
        content.emit(event).map(|_| ())
    }

    /// The old values for an event, where they are wanted.
    pub(super) fn before<'a>(&self, encoded: &'a [u8]) -> Option<Attributes<'a>> {
        self.before.then(|| attributes(encoded))
    }
}

/// Kept attributes. They were whole when they were kept; were a damaged store to give back others, they are none.
pub(super) fn attributes(encoded: &[u8]) -> Attributes<'_> {
    Attributes::new(encoded).unwrap_or_default()
}

/// As [`attributes`], for names.
pub(super) fn names(encoded: &[u8]) -> Names<'_> {
    Names::new(encoded).unwrap_or_default()
}
