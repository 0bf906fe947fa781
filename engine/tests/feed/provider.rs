//! A provider that behaves like OpenLDAP's syncprov: what it sends in a refresh and afterwards, in its own odd ways.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::core::rng::Rng;
use engine::feed::event::Uuid;
use wire::ldap::sync::cookie::OpenLdap;
use wire::ldap::sync::{Mode, State, SyncRequest};

use crate::directory::{Change, Directory, csn_text};
use crate::messages;

/// One search with the Sync Request control.
pub(crate) struct Session {
    pub(crate) queue: VecDeque<Vec<u8>>,
    mode: Mode,
}

pub(crate) struct Provider {
    pub(crate) is_filtered: bool,
    /// The last changes: the session log.
    pub(crate) log: VecDeque<Change>,
    pub(crate) log_max: usize,
}

type Csns = BTreeMap<u16, u64>;

impl Provider {
    pub(crate) fn note(&mut self, change: &Change) {
        self.log.push_back(change.clone());
        if self.log.len() > self.log_max {
            self.log.pop_front();
        }
    }

    pub(crate) fn begin(&self, directory: &Directory, request: &SyncRequest<'_>, rng: &mut Rng) -> Session {
        let known = request.cookie.map(csns);
        let mut session = Session {
            queue: VecDeque::new(),
            mode: request.mode,
        };
        let cookie = cookie(&directory.csns, 1);
        match known {
            None => self.full(&mut session, directory, &cookie, rng),
            Some(known) if known == directory.csns => session.end(None, true),
            Some(_) if request.reload_hint && rng.chance(1, 12) => {
                session.queue.push_back(messages::done(4096, "", None))
            }
            Some(_) if rng.chance(1, 30) => {
                let text = "consumer state is newer than provider!";
                session.queue.push_back(messages::done(53, text, None));
            }
            Some(known) if self.has_logged(&known, directory) => {
                self.deletes(&mut session, directory, &known, &cookie, rng)
            }
            Some(known) => self.presents(&mut session, directory, &known, &cookie, rng),
        }
        session
    }

    fn shuffled(&self, directory: &Directory, rng: &mut Rng) -> Vec<Uuid> {
        let mut all: Vec<Uuid> = directory.content(self.is_filtered).into_keys().collect();
        for place in (1..all.len()).rev() {
            all.swap(place, rng.index(place + 1));
        }
        all
    }

    fn full(&self, session: &mut Session, directory: &Directory, cookie: &str, rng: &mut Rng) {
        for uuid in self.shuffled(directory, rng) {
            session.queue.push_back(whole(State::Add, directory, &uuid, None, rng));
        }
        // The RFC says FALSE; OpenLDAP says TRUE, and means what was sent all the same.
        session.end(Some(cookie), rng.chance(3, 4));
    }

    fn has_logged(&self, known: &Csns, directory: &Directory) -> bool {
        let oldest = self.log.front().map_or(directory.csn, |change| change.csn);
        known.values().all(|csn| *csn + 1 >= oldest)
    }

    fn deletes(&self, session: &mut Session, directory: &Directory, known: &Csns, cookie: &str, rng: &mut Rng) {
        let content = directory.content(self.is_filtered);
        let logged: BTreeSet<Uuid> = self
            .log
            .iter()
            .filter(|change| is_new(known, change.server, change.csn))
            .map(|change| change.uuid)
            .collect();
        for uuid in logged.iter().filter(|uuid| !content.contains_key(*uuid)) {
            session.queue.push_back(messages::id_set(true, &[*uuid], None));
        }
        for uuid in self.shuffled(directory, rng) {
            let entry = &directory.entries[&uuid];
            if is_new(known, entry.server, entry.csn) {
                session.queue.push_back(whole(State::Add, directory, &uuid, None, rng));
            }
        }
        session.end(Some(cookie), true);
    }

    fn presents(&self, session: &mut Session, directory: &Directory, known: &Csns, cookie: &str, rng: &mut Rng) {
        let mut batch = Vec::new();
        for uuid in self.shuffled(directory, rng) {
            let entry = &directory.entries[&uuid];
            if is_new(known, entry.server, entry.csn) {
                session.queue.push_back(whole(State::Add, directory, &uuid, None, rng));
            } else if rng.chance(1, 3) {
                let dn = directory.dn(&uuid);
                session
                    .queue
                    .push_back(messages::entry(State::Present, uuid, &dn, &Vec::new(), None));
            } else {
                batch.push(uuid);
                if batch.len() >= 3 {
                    session.queue.push_back(messages::id_set(false, &batch, None));
                    batch.clear();
                }
            }
        }
        if !batch.is_empty() {
            session.queue.push_back(messages::id_set(false, &batch, None));
        }
        session.end(Some(cookie), false);
    }

    /// Tells an open session of a change, as it is now.
    pub(crate) fn tell(&self, session: &mut Session, directory: &Directory, change: &Change, rng: &mut Rng) {
        if session.mode == Mode::RefreshOnly {
            return;
        }
        let uuid = change.uuid;
        let was_there = change
            .was
            .as_ref()
            .is_some_and(|was| was.in_base && (was.is_person || !self.is_filtered));
        let is_there = directory
            .entries
            .get(&uuid)
            .is_some_and(|entry| directory.is_in_base(&uuid) && (entry.is_person || !self.is_filtered));
        let newest = cookie(&BTreeMap::from([(change.server, change.csn)]), change.server);
        let said = match rng.below(12) {
            0 => None,
            1 => Some("rid=000"),
            _ => Some(newest.as_str()),
        };
        let message = match (was_there, is_there) {
            (false, true) => whole(State::Add, directory, &uuid, said, rng),
            (true, true) => whole(State::Modify, directory, &uuid, said, rng),
            (true, false) if rng.chance(1, 10) => messages::id_set(true, &[uuid], said),
            (true, false) => messages::entry(State::Delete, uuid, &change.dn, &Vec::new(), said),
            (false, false) => messages::new_cookie(&newest),
        };
        session.queue.push_back(message);
    }
}

impl Session {
    fn end(&mut self, cookie: Option<&str>, deletes: bool) {
        self.queue.push_back(match (self.mode, deletes) {
            (Mode::RefreshOnly, _) => messages::done(0, "", Some((cookie, deletes))),
            (Mode::RefreshAndPersist, true) => messages::refresh_delete(cookie, true),
            (Mode::RefreshAndPersist, false) => messages::refresh_present(cookie, true),
        });
    }
}

/// An entry in full; attributes and values in any order.
fn whole(state: State, directory: &Directory, uuid: &Uuid, cookie: Option<&str>, rng: &mut Rng) -> Vec<u8> {
    let mut attributes = directory.attributes(uuid);
    let turn = rng.index(attributes.len());
    attributes.rotate_left(turn);
    attributes.iter_mut().for_each(|(_, values)| values.reverse());
    messages::entry(state, *uuid, &directory.dn(uuid), &attributes, cookie)
}

fn is_new(known: &Csns, server: u16, csn: u64) -> bool {
    known.get(&server).is_none_or(|known| csn > *known)
}

fn cookie(csns: &Csns, server: u16) -> String {
    let all: Vec<String> = csns.iter().map(|(server, csn)| csn_text(*csn, *server)).collect();
    format!("rid=000,sid={server:03x},csn={}", all.join(";"))
}

fn csns(cookie: &[u8]) -> Csns {
    let parsed = OpenLdap::parse(cookie).expect("a cookie of ours");
    assert!(
        !String::from_utf8_lossy(cookie).contains("sid="),
        "it would hide that server's changes"
    );
    let number = |text: &str| text[..14].parse::<u64>().unwrap() - 20_260_000_000_000;
    parsed.csns().iter().map(|csn| (csn.server, number(csn.text))).collect()
}
