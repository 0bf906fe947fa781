//! Requests that come twice (RFC 5080 section 2.2.2): one table for each peer and port, 256 places, one for each identifier.
//!
//! A place is *free*, *working* (its request is being answered: what comes again is dropped) or *answered* (what comes again
//! gets the same octets, until [`Settings::cleanup_delay`] has passed). Another request under the same identifier takes the
//! place over, and the old one is cancelled: nothing that is decided for it later finds the place. Two requests are the same
//! when their octets are; they are compared by their authenticators and a keyed hash of everything else, because a client
//! that draws its authenticators badly must not get somebody else's answer.
//!
//! Invariants: a working place is never thrown out; a mark names one request for good; what is held never exceeds
//! [`Settings::bytes_max`]. In steady state nothing is allocated: tables, places and the room of answers are used again.

use std::collections::HashMap;
use std::hash::BuildHasher as _;

use foldhash::quality::FixedState;
use wire::radius::Packet;

use super::Path;
use crate::core::time::{Instant, Span};

/// Bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How long an answer is kept for a client that asks again.
    pub cleanup_delay: Span,
    /// Peers (address and port) at most; the one that has been idle for longest goes.
    pub peers_max: u32,
    /// Octets of everything that is kept, at most; the oldest answer goes.
    pub bytes_max: usize,
}

impl Default for Settings {
    /// 5 s, 8,192 peers, 8 MiB.
    fn default() -> Self {
        Settings {
            cleanup_delay: Span::from_secs(5),
            peers_max: 8_192,
            bytes_max: 8 << 20,
        }
    }
}

/// Names one request for good.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mark {
    at: u32,
    generation: u32,
}

impl Mark {
    /// A small number that no other request has now, for tables beside it.
    #[must_use]
    pub fn index(self) -> usize {
        self.at as usize
    }
}

/// What is known of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen<'a> {
    /// Nothing: its request is to be verified and begun.
    New,
    /// It is being answered: drop the packet.
    Working,
    /// It was answered: send these octets again.
    Answered(&'a [u8]),
}

/// A request that has its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begun {
    /// Its name.
    pub mark: Mark,
    /// The request that had the identifier before and was not answered yet: to be cancelled.
    pub replaced: Option<Mark>,
}

/// What was seen, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Requests that were new.
    pub begun: u64,
    /// Packets of requests that were being answered.
    pub working: u64,
    /// Answers that were sent again.
    pub resent: u64,
    /// Requests whose identifier was taken by another one.
    pub replaced: u64,
    /// Answers and peers that were thrown out before their time, for want of room.
    pub evicted: u64,
    /// Requests that were refused for want of room.
    pub full: u64,
    /// Peers now.
    pub peers: u32,
    /// Octets kept now.
    pub bytes: usize,
}

const NONE: u32 = u32::MAX;
const ENTRY_BYTES: usize = size_of::<Entry>();
const TABLE_BYTES: usize = size_of::<Table>() + 256 * size_of::<u32>();
/// Room for an answer that is kept when its place becomes free.
const SPARE_BYTES_MAX: usize = 512;
/// Answers whose time is over that are cleared away with each new request.
const SWEEP: usize = 4;

/// See the module. One for each listener and worker: packets and their duplicates must meet in it.
#[derive(Debug)]
pub struct Duplicates {
    settings: Settings,
    hasher: FixedState,
    peers: HashMap<Path, u32, FixedState>,
    tables: Vec<Table>,
    /// Of the last request that was begun: packets of one peer come in a row.
    latest: u32,
    tables_free: Vec<u32>,
    entries: Vec<Entry>,
    entries_free: Vec<u32>,
    /// Answered places, oldest first.
    answered: Ends,
    /// Tables without a working place, longest idle first.
    idle: Ends,
    /// Octets of the room of answers.
    room: usize,
    figures: Figures,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    oldest: u32,
    newest: u32,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    older: u32,
    newer: u32,
}

const UNLINKED: Links = Links {
    older: NONE,
    newer: NONE,
};

#[derive(Debug)]
struct Table {
    path: Path,
    places: Box<[u32]>,
    live: u16,
    working: u16,
    links: Links,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Working,
    Answered,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    table: u32,
    authenticator: [u8; 16],
    hash: u64,
    kept_until: Instant,
    reply: Vec<u8>,
    links: Links,
    identifier: u8,
    state: State,
}

impl Duplicates {
    /// Empty. `seed`: chance, so that nobody can choose peers or packets that collide.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Duplicates {
            settings,
            hasher: hasher.clone(),
            peers: HashMap::with_hasher(hasher),
            tables: Vec::new(),
            latest: NONE,
            tables_free: Vec::new(),
            entries: Vec::new(),
            entries_free: Vec::new(),
            answered: Ends::EMPTY,
            idle: Ends::EMPTY,
            room: 0,
            figures: Figures::default(),
        }
    }

    /// Other bounds, from now on.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// What is known of a packet. Costs no verification: octets that came before were verified before.
    pub fn look(&mut self, path: &Path, packet: &Packet<'_>, now: Instant) -> Seen<'_> {
        let Some(at) = self.place(path, packet.identifier()) else {
            return Seen::New;
        };
        let Some(entry) = self.entries.get(at as usize) else {
            return Seen::New;
        };
        let same = entry.authenticator == *packet.authenticator();
        if !same || entry.hash != self.hasher.hash_one(packet.as_bytes()) {
            return Seen::New;
        }
        match entry.state {
            State::Working => {
                self.figures.working += 1;
                Seen::Working
            }
            State::Answered if now < entry.kept_until => {
                self.figures.resent += 1;
                Seen::Answered(&entry.reply)
            }
            _ => Seen::New,
        }
    }

    /// Gives a new request its place. It must have been looked for, and verified: who has the identifier loses it.
    ///
    /// None: there is no room, because too much is being answered; the packet is dropped.
    pub fn begin(&mut self, path: &Path, packet: &Packet<'_>, now: Instant) -> Option<Begun> {
        self.sweep(now, SWEEP);
        let identifier = packet.identifier();
        let mut replaced = None;
        if let Some(at) = self.place(path, identifier) {
            replaced = self.mark(at, State::Working);
            self.figures.replaced += u64::from(replaced.is_some());
            self.free(at, false);
        }
        let Some(at) = self.make_room().then(|| self.table(path)).flatten() else {
            self.figures.full += 1;
            return None;
        };
        self.latest = at;
        let entry = self.entry()?;
        let generation = match self.entries.get_mut(entry as usize) {
            Some(place) => {
                place.table = at;
                place.identifier = identifier;
                place.authenticator = *packet.authenticator();
                place.hash = self.hasher.hash_one(packet.as_bytes());
                place.state = State::Working;
                place.generation
            }
            None => return None,
        };
        self.figures.begun += 1;
        self.take_place(at, entry, identifier);
        let mark = Mark { at: entry, generation };
        Some(Begun { mark, replaced })
    }

    /// The request was answered so, and the answer is to be sent. False: it was cancelled meanwhile, nothing may be sent.
    #[must_use]
    pub fn answered(&mut self, mark: Mark, reply: &[u8], now: Instant) -> bool {
        let Some(entry) = self.working(mark) else { return false };
        entry.state = State::Answered;
        let before = entry.reply.capacity();
        entry.reply.clear();
        entry.reply.extend_from_slice(reply);
        let (after, table) = (entry.reply.capacity(), entry.table);
        self.room = (self.room + after).saturating_sub(before);
        if let Some(entry) = self.entries.get_mut(mark.at as usize) {
            entry.kept_until = now + self.settings.cleanup_delay;
        }
        Ends::push(&mut self.answered, &mut self.entries, mark.at);
        self.rests(table);
        while self.bytes() > self.settings.bytes_max && self.evict_answer() {}
        true
    }

    /// The request will not be answered: what comes again is new. False: it was cancelled meanwhile.
    pub fn forget(&mut self, mark: Mark) -> bool {
        let known = self.working(mark).is_some();
        if known {
            self.free(mark.at, false);
        }
        known
    }

    /// Clears away what is not kept any longer.
    pub fn tick(&mut self, now: Instant) {
        self.sweep(now, usize::MAX);
    }

    /// When [`Duplicates::tick`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let oldest = self.entries.get(self.answered.oldest as usize)?;
        Some(oldest.kept_until)
    }

    /// What was seen.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            peers: u32::try_from(self.peers.len()).unwrap_or(u32::MAX),
            bytes: self.bytes(),
            ..self.figures
        }
    }

    fn bytes(&self) -> usize {
        let entries = self.entries.len().saturating_sub(self.entries_free.len());
        self.peers.len() * TABLE_BYTES + entries * ENTRY_BYTES + self.room
    }

    /// The table that a peer has.
    fn known(&self, path: &Path) -> Option<u32> {
        // A table that nobody has any more has no place that lives.
        let latest = self.tables.get(self.latest as usize);
        if latest.is_some_and(|table| table.live > 0 && table.path == *path) {
            return Some(self.latest);
        }
        self.peers.get(path).copied()
    }

    fn place(&self, path: &Path, identifier: u8) -> Option<u32> {
        let table = self.tables.get(self.known(path)? as usize)?;
        let at = *table.places.get(usize::from(identifier))?;
        (at != NONE).then_some(at)
    }

    fn mark(&self, at: u32, state: State) -> Option<Mark> {
        let entry = self.entries.get(at as usize)?;
        (entry.state == state).then_some(Mark {
            at,
            generation: entry.generation,
        })
    }

    fn working(&mut self, mark: Mark) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(mark.at as usize)?;
        (entry.generation == mark.generation && entry.state == State::Working).then_some(entry)
    }

    /// Room for one place more, and a table if need be. False: everything that is kept is being worked on.
    fn make_room(&mut self) -> bool {
        let needed = ENTRY_BYTES + TABLE_BYTES;
        while self.bytes() + needed > self.settings.bytes_max {
            if !self.evict_answer() && !self.drop_spare_room() {
                return false;
            }
        }
        true
    }

    /// The table of a peer, a new one if it has none.
    fn table(&mut self, path: &Path) -> Option<u32> {
        if let Some(at) = self.known(path) {
            return Some(at);
        }
        if self.peers.len() >= self.settings.peers_max as usize && !self.evict_peer() {
            return None;
        }
        let at = match self.tables_free.pop() {
            Some(at) => at,
            None => {
                let at = u32::try_from(self.tables.len()).ok()?;
                self.tables.push(Table {
                    path: *path,
                    places: vec![NONE; 256].into_boxed_slice(),
                    live: 0,
                    working: 0,
                    links: UNLINKED,
                });
                at
            }
        };
        let table = self.tables.get_mut(at as usize)?;
        table.path = *path;
        self.peers.insert(*path, at);
        Ends::push(&mut self.idle, &mut self.tables, at);
        Some(at)
    }

    fn entry(&mut self) -> Option<u32> {
        if let Some(at) = self.entries_free.pop() {
            return Some(at);
        }
        let at = u32::try_from(self.entries.len()).ok()?;
        self.entries.push(Entry {
            generation: 0,
            table: NONE,
            authenticator: [0; 16],
            hash: 0,
            kept_until: Instant::ZERO,
            reply: Vec::new(),
            links: UNLINKED,
            identifier: 0,
            state: State::Free,
        });
        Some(at)
    }

    fn take_place(&mut self, table: u32, entry: u32, identifier: u8) {
        let Some(found) = self.tables.get_mut(table as usize) else {
            return;
        };
        if let Some(place) = found.places.get_mut(usize::from(identifier)) {
            *place = entry;
        }
        found.live += 1;
        found.working += 1;
        if found.working == 1 {
            Ends::unlink(&mut self.idle, &mut self.tables, table);
        }
    }

    /// One place less of this table is being worked on.
    fn rests(&mut self, table: u32) {
        let Some(found) = self.tables.get_mut(table as usize) else {
            return;
        };
        found.working = found.working.saturating_sub(1);
        if found.working == 0 {
            Ends::push(&mut self.idle, &mut self.tables, table);
        }
    }

    /// Frees a place, and its table with the last one.
    fn free(&mut self, at: u32, wanted: bool) {
        let Some(entry) = self.entries.get_mut(at as usize) else {
            return;
        };
        let (state, table, identifier) = (entry.state, entry.table, entry.identifier);
        if state == State::Free {
            return;
        }
        entry.state = State::Free;
        entry.generation = entry.generation.wrapping_add(1);
        if wanted || entry.reply.capacity() > SPARE_BYTES_MAX {
            self.room = self.room.saturating_sub(entry.reply.capacity());
            entry.reply = Vec::new();
        }
        if state == State::Answered {
            Ends::unlink(&mut self.answered, &mut self.entries, at);
        } else {
            self.rests(table);
        }
        self.entries_free.push(at);
        let Some(found) = self.tables.get_mut(table as usize) else {
            return;
        };
        if let Some(place) = found.places.get_mut(usize::from(identifier)) {
            *place = NONE;
        }
        found.live = found.live.saturating_sub(1);
        if found.live == 0 {
            self.peers.remove(&found.path);
            Ends::unlink(&mut self.idle, &mut self.tables, table);
            self.tables_free.push(table);
        }
    }

    fn sweep(&mut self, now: Instant, at_most: usize) {
        for _ in 0..at_most {
            let oldest = self.answered.oldest;
            match self.entries.get(oldest as usize) {
                Some(entry) if entry.kept_until <= now => self.free(oldest, false),
                _ => break,
            }
        }
    }

    fn evict_answer(&mut self) -> bool {
        let oldest = self.answered.oldest;
        if oldest == NONE {
            return false;
        }
        self.figures.evicted += 1;
        self.free(oldest, true);
        true
    }

    /// The peer that has been idle for longest goes with all its answers.
    fn evict_peer(&mut self) -> bool {
        let Some(table) = self.tables.get(self.idle.oldest as usize) else {
            return false;
        };
        let path = table.path;
        for identifier in 0..=u8::MAX {
            if let Some(at) = self.place(&path, identifier) {
                self.free(at, false);
            }
        }
        self.figures.evicted += 1;
        true
    }

    /// Gives back the room that free places keep. False: there is none.
    fn drop_spare_room(&mut self) -> bool {
        let before = self.room;
        for at in &self.entries_free {
            if let Some(entry) = self.entries.get_mut(*at as usize) {
                self.room = self.room.saturating_sub(entry.reply.capacity());
                entry.reply = Vec::new();
            }
        }
        self.room < before
    }
}

/// What stands in a list.
trait Linked {
    fn links(&mut self) -> &mut Links;
}

impl Linked for Table {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Linked for Entry {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

impl Ends {
    const EMPTY: Ends = Ends {
        oldest: NONE,
        newest: NONE,
    };

    fn push<L: Linked>(&mut self, all: &mut [L], at: u32) {
        let newest = self.newest;
        if let Some(item) = all.get_mut(at as usize) {
            *item.links() = Links {
                older: newest,
                newer: NONE,
            };
        }
        match all.get_mut(newest as usize) {
            Some(before) => before.links().newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn unlink<L: Linked>(&mut self, all: &mut [L], at: u32) {
        let Some(item) = all.get_mut(at as usize) else { return };
        let Links { older, newer } = std::mem::replace(item.links(), UNLINKED);
        match all.get_mut(older as usize) {
            Some(older) => older.links().newer = newer,
            None if self.oldest == at => self.oldest = newer,
            None => {}
        }
        match all.get_mut(newer as usize) {
            Some(newer) => newer.links().older = older,
            None if self.newest == at => self.newest = older,
            None => {}
        }
    }
}

#[cfg(test)]
#[path = "duplicates_tests.rs"]
mod tests;
