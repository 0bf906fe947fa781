//! Two daemons, one stream: what the one that follows makes of what the other has published.
//!
//! Both keep the directory's content for themselves; one delivers. The other must know, at any moment, what the stream's
//! readers believe of each entry, or it could not go on where the first was killed. Numbers do not tell: each daemon has
//! its own, and a change that one saw alone the other may have seen together with the next. What both see is the entry:
//! its [`State`] is a digest of name and attributes, and every message bears it.
//!
//! The events that wait here are by construction what leads from the readers' belief to our content. Three rules keep
//! that true while the other one publishes:
//!
//! 1. A message with the state of an event that waits here: that event and those of the same entry before it are said.
//! 2. A message with a state that is neither waiting here nor kept: the other one is ahead, or saw what we did not. It is
//!    noted. When we come to the same state, what we have is said ([`Standby::produced`]).
//! 3. At the take-over, with our content as new as the cookies of all messages, what is still noted differs for good: the
//!    entry's present state is to be said again ([`Standby::differing`]), in place of the events of it that wait: they may
//!    lead through states older than what the readers have.
//!
//! Invariant: an entry that is not noted, and of which no event waits, is believed by the readers to be as it is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::event::{Attributes, Event, Op, Uuid};

/// How an entry is, in a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is not there.
    Gone,
    /// It is there, like this.
    There([u8; 16]),
}

impl State {
    /// The state that an event leads to. Feed-wide events lead to none and are [`State::Gone`].
    #[must_use]
    pub fn of(event: &Event<'_>) -> State {
        match event.op {
            Op::Add | Op::Modify | Op::Move => State::kept(event.dn, event.attributes),
            Op::Delete | Op::RefreshDone | Op::Heartbeat => State::Gone,
        }
    }

    /// The state of an entry: its name and its attributes as they are kept. The change's number is no part of it, because
    /// not every way to a state tells it (what is below a renamed container is not sent). The order of attributes and of values, which servers choose, does not matter.
    #[must_use]
    pub fn kept(dn: &str, attributes: Attributes<'_>) -> State {
        let mut parts: Vec<(Vec<u8>, u8, &[u8])> = Vec::new();
        for attribute in attributes {
            let name = attribute.name.to_ascii_lowercase();
            match attribute.redacted {
                Some(digest) => parts.push((name, 1, digest)),
                None => parts.extend(attribute.values.map(|value| (name.clone(), 0, value))),
            }
        }
        parts.sort_unstable();
        let mut hash = Sha256::new();
        put(&mut hash, dn.as_bytes());
        for (name, kind, value) in &parts {
            put(&mut hash, name);
            hash.update([*kind]);
            put(&mut hash, value);
        }
        State::There(hash.finalize().first_chunk().copied().unwrap_or_default())
    }
}

/// A length before each part, or two parts could be cut elsewhere and be the same.
fn put(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_le_bytes());
    hash.update(part);
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Gone => f.write_str("gone"),
            State::There(digest) => digest.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<State, ()> {
        if text == "gone" {
            return Ok(State::Gone);
        }
        match u128::from_str_radix(text, 16) {
            Ok(number) if text.len() == 32 => Ok(State::There(number.to_be_bytes())),
            _ => Err(()),
        }
    }
}

/// What a message of the stream says of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// The message's number in the stream.
    pub position: u64,
    /// The entry's name in it.
    pub dn: String,
    /// What the readers believe after it.
    pub state: State,
}

/// The entries of which the stream's readers believe what is neither kept nor waiting here.
#[derive(Default, Debug)]
pub struct Standby {
    noted: BTreeMap<Uuid, Said>,
}

impl Standby {
    /// Another daemon's message about an entry. `waiting`: the events of this entry that wait here, in order, each with
    /// its number. `kept`: the entry as it is kept here.
    ///
    /// Answers up to which number this entry's waiting events are said, and need not be delivered.
    pub fn seen(&mut self, uuid: Uuid, said: Said, waiting: &[(u64, State)], kept: State) -> Option<u64> {
        let found = waiting.iter().rev().find(|(_, state)| *state == said.state);
        if let Some((seq, _)) = found {
            self.noted.remove(&uuid);
            return Some(*seq);
        }
        if waiting.is_empty() && said.state == kept {
            self.noted.remove(&uuid);
        } else {
            self.noted.insert(uuid, said);
        }
        None
    }

    /// Whether the readers believe of this entry what is neither kept nor waiting here.
    #[must_use]
    pub fn has(&self, uuid: &Uuid) -> bool {
        self.noted.contains_key(uuid)
    }

    /// How many entries are noted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.noted.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// An event was made here that leads an entry to this state. True: the stream has said so already; neither it nor what
    /// waits of this entry before it is to be delivered.
    pub fn produced(&mut self, uuid: &Uuid, state: State) -> bool {
        let said = self.noted.get(uuid).is_some_and(|said| said.state == state);
        if said {
            self.noted.remove(uuid);
        }
        said
    }

    /// After a restart the stream is to be read from behind this message; `read`: the last one that was read.
    #[must_use]
    pub fn position(&self, read: u64) -> u64 {
        let oldest = self.noted.values().map(|said| said.position).min();
        oldest.map_or(read, |oldest| read.min(oldest.saturating_sub(1)))
    }

    /// At the take-over: the entries whose present state is to be said in place of what waits of them: as a modify, or as a
    /// delete of this name where the entry is not kept.
    pub fn differing(&self) -> impl Iterator<Item = (&Uuid, &Said)> {
        self.noted.iter()
    }
}
