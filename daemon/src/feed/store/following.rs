//! What waits while another daemon delivers: what the stream confirms is taken out of the outbox again.
//!
//! The index of what waits, by entry, is in memory, and never larger than the outbox, which has its bounds. It is made
//! from the table whenever this daemon begins to follow, so that nothing of it need be kept.

use std::collections::HashMap;

use engine::feed::event::{Event, Op, Uuid};
use engine::feed::standby::{Said, Standby, State};
use wire::ldap::sync::cookie;

use super::StoreError;
use super::outbox::Outbox;
use crate::feed::sink::takeover::Published;

/// Feed-wide events are about this entry.
const FEED: Uuid = [0; 16];

/// What waits of one entry.
#[derive(Debug, Default)]
struct Waiting {
    shard: u16,
    /// The first of them brings it into the content: for the readers it is not there.
    is_new: bool,
    /// Number, and the state it leads to.
    events: Vec<(u64, State)>,
}

/// How far the stream is read, and up to which cookie of the directory its messages tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// To be read from behind here.
    pub position: u64,
    /// All cookies of its messages, merged.
    pub cookie: Vec<u8>,
}

impl Stream {
    pub(super) fn encode(&self) -> Vec<u8> {
        [&self.position.to_le_bytes()[..], &self.cookie].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Stream {
        let Some((position, cookie)) = bytes.split_first_chunk() else {
            return Stream::default();
        };
        Stream {
            position: u64::from_le_bytes(*position),
            cookie: cookie.to_vec(),
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Following {
    standby: Standby,
    waiting: HashMap<Uuid, Waiting>,
    read: u64,
    cookie: Vec<u8>,
    /// The stream has said that a content was complete: it need not be said once more.
    is_done_said: bool,
}

impl Following {
    pub(super) fn begin(stream: &Stream, outbox: &mut Outbox<'_>) -> Result<Following, StoreError> {
        let mut following = Following {
            standby: Standby::default(),
            waiting: HashMap::new(),
            read: stream.position,
            cookie: stream.cookie.clone(),
            is_done_said: false,
        };
        outbox.each(|shard, event| following.waits(shard, event))?;
        following.forget_who_never_was(outbox)?;
        Ok(following)
    }

    /// Entries that came and went while nobody was told: as the daemon that delivers may not have seen them at all, it
    /// would never say so.
    fn forget_who_never_was(&mut self, outbox: &mut Outbox<'_>) -> Result<(), StoreError> {
        let ended =
            |waiting: &Waiting| waiting.is_new && waiting.events.last().is_some_and(|(_, to)| *to == State::Gone);
        let all = self.waiting.iter().filter(|(_, waiting)| ended(waiting));
        let all: Vec<Uuid> = all.map(|(uuid, _)| *uuid).collect();
        all.iter().try_for_each(|uuid| self.forget(outbox, uuid, u64::MAX))
    }

    fn waits(&mut self, shard: u16, event: &Event<'_>) {
        let waiting = self.waiting.entry(event.uuid).or_default();
        if waiting.events.is_empty() {
            (waiting.shard, waiting.is_new) = (shard, event.is_new);
        }
        waiting.events.push((event.seq, State::of(event)));
    }

    pub(super) fn emit(&mut self, outbox: &mut Outbox<'_>, event: &Event<'_>) -> Result<u64, StoreError> {
        let is_said = if event.op.is_feed_wide() {
            self.forget(outbox, &FEED, u64::MAX)?;
            self.is_done_said
        } else {
            self.standby.produced(&event.uuid, State::of(event)) || self.never_was(event)
        };
        if is_said {
            self.forget(outbox, &event.uuid, u64::MAX)?;
            return Ok(outbox.head().next.saturating_sub(1));
        }
        let seq = outbox.emit(event)?;
        self.waits(event.shard, &Event { seq, ..*event });
        Ok(seq)
    }

    pub(super) fn seen(
        &mut self,
        outbox: &mut Outbox<'_>,
        published: &Published,
        kept: State,
    ) -> Result<(), StoreError> {
        self.read = self.read.max(published.position);
        if let Some(merged) = cookie::merge(&self.cookie, &published.cookie) {
            self.cookie = merged;
        }
        if published.is_done {
            self.is_done_said = true;
            self.forget(outbox, &FEED, u64::MAX)?;
        }
        if let Some((uuid, said)) = &published.entry {
            let waiting = self.waiting.get(uuid).map_or(&[][..], |waiting| &waiting.events);
            if let Some(upto) = self.standby.seen(*uuid, said.clone(), waiting, kept) {
                self.forget(outbox, uuid, upto)?;
            }
        }
        Ok(())
    }

    /// Whether this is the end of an entry of which no reader knows: see above.
    fn never_was(&self, event: &Event<'_>) -> bool {
        event.op == Op::Delete
            && !self.standby.has(&event.uuid)
            && self.waiting.get(&event.uuid).is_some_and(|waiting| waiting.is_new)
    }

    /// What waits of an entry is said, up to this number.
    fn forget(&mut self, outbox: &mut Outbox<'_>, uuid: &Uuid, upto: u64) -> Result<(), StoreError> {
        let Some(waiting) = self.waiting.get_mut(uuid) else {
            return Ok(());
        };
        let shard = waiting.shard;
        for (seq, _) in waiting.events.extract_if(.., |(seq, _)| *seq <= upto) {
            outbox.remove(shard, seq)?;
        }
        waiting.is_new = false;
        if waiting.events.is_empty() {
            self.waiting.remove(uuid);
        }
        Ok(())
    }

    /// From where to read after a restart.
    pub(super) fn stream(&self) -> Stream {
        Stream {
            position: self.standby.position(self.read),
            cookie: self.cookie.clone(),
        }
    }

    /// The last position that was read.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// Entries about which the stream says something else than is kept here.
    pub fn noted(&self) -> usize {
        self.standby.len()
    }

    /// Whether a content with this cookie is as new as every message that was read.
    pub fn is_covered_by(&self, cookie: &[u8]) -> bool {
        cookie::merge(cookie, &self.cookie).is_none()
    }

    /// At the take-over: the entries of which the stream says something else than is kept here, and what it said last of
    /// each. What waits of them leads there from another state, perhaps an older one than was said: it is taken out, and the
    /// present state is to be said in its place, in the same transaction.
    pub fn settle(&mut self, outbox: &mut Outbox<'_>) -> Result<Vec<(Uuid, Said)>, StoreError> {
        let all = self.standby.differing().map(|(uuid, said)| (*uuid, said.clone()));
        let all: Vec<_> = all.collect();
        for (uuid, _) in &all {
            self.forget(outbox, uuid, u64::MAX)?;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use engine::feed::store::Content;

    use super::super::{Kept, Lock};
    use super::*;
    use crate::feed::sink::tests::Folder;

    fn event(byte: u8, dn: &'static str) -> Event<'static> {
        Event {
            shard: u16::from(byte % 2),
            ..Event::new(Op::Add, [byte; 16], dn, 0)
        }
    }

    fn said(position: u64, event: &Event<'_>) -> Published {
        Published {
            position,
            seq: position,
            cookie: Vec::new(),
            entry: Some((
                event.uuid,
                Said {
                    position,
                    dn: event.dn.to_owned(),
                    state: State::of(event),
                },
            )),
            is_done: false,
        }
    }

    #[test]
    fn what_the_stream_says_leaves_and_the_rest_is_numbered_above_it() {
        let folder = Folder::new("following");
        let file = Lock::take(&folder.path("state")).unwrap().open(2).unwrap();
        let mut kept = Kept::new(&file.connection, 2).unwrap();
        kept.follow(u64::MAX).unwrap();
        let events: Vec<_> = (1..=6).map(|byte| event(byte, "cn=a")).collect();
        kept.begin().unwrap();
        for event in &events {
            kept.emit(event).unwrap();
        }
        kept.commit().unwrap();

        kept.begin().unwrap();
        kept.seen(&said(7, &events[1]), State::Gone).unwrap();
        // The other one is ahead: what comes to the same is not delivered, and nothing of this entry before it.
        let ahead = event(3, "cn=b");
        kept.seen(&said(8, &ahead), State::of(&events[2])).unwrap();
        kept.emit(&ahead).unwrap();
        kept.commit().unwrap();
        assert_eq!(kept.outbox.head().rows, 4);

        // Who came and went before the other one looked was never said, and will not be.
        let shortly = Event {
            is_new: true,
            ..event(8, "cn=shortly")
        };
        kept.begin().unwrap();
        kept.emit(&shortly).unwrap();
        kept.emit(&Event {
            op: Op::Modify,
            ..shortly
        })
        .unwrap();
        kept.emit(&Event {
            op: Op::Delete,
            ..shortly
        })
        .unwrap();
        kept.commit().unwrap();
        assert_eq!(kept.outbox.head().rows, 4);
        // Nor who came and went while this daemon still believed that it leads.
        kept.following = None;
        kept.begin().unwrap();
        kept.emit(&shortly).unwrap();
        kept.emit(&Event {
            op: Op::Delete,
            ..shortly
        })
        .unwrap();
        kept.commit().unwrap();
        assert_eq!(kept.outbox.head().rows, 6);

        // Begun anew, it goes on behind what was read; then it leads.
        kept.begin().unwrap();
        kept.follow(u64::MAX).unwrap();
        kept.commit().unwrap();
        assert_eq!(kept.outbox.head().rows, 4);
        let following = kept.following.take().unwrap();
        assert_eq!((following.read(), following.noted()), (8, 0));
        kept.begin().unwrap();
        kept.outbox.above(100).unwrap();
        kept.emit(&event(9, "cn=a")).unwrap();
        kept.commit().unwrap();
        let numbers = |kept: &mut Kept<'_>, shard| {
            let batch = kept.outbox.next(shard, 0).unwrap();
            batch.iter().map(|(seq, _)| seq).collect::<Vec<_>>()
        };
        assert_eq!(
            (numbers(&mut kept, 0), numbers(&mut kept, 1)),
            (vec![104, 106], vec![101, 105, 111])
        );
    }
}
