//! Two daemons, a directory and a stream, with leaders killed at any moment: what the stream's readers believe is the
//! directory in the end, and nobody is told a thing twice.

use std::collections::BTreeMap;

use super::event::{Attributes, Uuid};
use super::standby::{Said, Standby, State};

/// A small generator: the tests depend on nothing but their seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// The directory after so many changes: name and CSN of each entry.
type Content = BTreeMap<Uuid, (String, String)>;

fn state(content: &Content, uuid: &Uuid) -> State {
    content.get(uuid).map_or(State::Gone, |(dn, csn)| {
        State::kept(&format!("{dn} {csn}"), Attributes::default())
    })
}

struct Message {
    uuid: Uuid,
    said: Said,
    cookie: usize,
}

struct Waiting {
    seq: u64,
    uuid: Uuid,
    dn: String,
    state: State,
    cookie: usize,
}

#[derive(Default)]
struct Daemon {
    /// How many changes of the directory it has seen.
    cookie: usize,
    kept: Content,
    waiting: Vec<Waiting>,
    standby: Standby,
    read: u64,
    next: u64,
}

impl Daemon {
    /// Comes to this state of the directory, in one step, as after a refresh.
    fn come_to(&mut self, directory: &[Content], cookie: usize) {
        let new = &directory[cookie];
        let mut uuids: Vec<Uuid> = self.kept.keys().chain(new.keys()).copied().collect();
        uuids.sort_unstable();
        uuids.dedup();
        for uuid in uuids {
            let now = state(new, &uuid);
            if now == state(&self.kept, &uuid) {
                continue;
            }
            let dn = new.get(&uuid).or(self.kept.get(&uuid)).unwrap().0.clone();
            if self.standby.produced(&uuid, now) {
                self.waiting.retain(|event| event.uuid != uuid);
            } else {
                self.wait(uuid, dn, now, cookie);
            }
        }
        (self.kept, self.cookie) = (new.clone(), cookie);
    }

    fn wait(&mut self, uuid: Uuid, dn: String, state: State, cookie: usize) {
        self.next += 1;
        let seq = self.next;
        self.waiting.push(Waiting {
            seq,
            uuid,
            dn,
            state,
            cookie,
        });
    }

    fn read(&mut self, stream: &[Message], upto: usize) {
        for message in &stream[usize::try_from(self.read).unwrap().min(upto)..upto] {
            let of_entry = self.waiting.iter().filter(|event| event.uuid == message.uuid);
            let waiting: Vec<(u64, State)> = of_entry.map(|event| (event.seq, event.state)).collect();
            let kept = state(&self.kept, &message.uuid);
            if let Some(said) = self.standby.seen(message.uuid, message.said.clone(), &waiting, kept) {
                self.waiting
                    .retain(|event| event.uuid != message.uuid || event.seq > said);
            }
        }
        self.read = self.read.max(upto as u64);
    }

    fn take_over(&mut self, directory: &[Content], stream: &[Message]) {
        self.read(stream, stream.len());
        let newest = stream.iter().map(|message| message.cookie).max().unwrap_or(0);
        if self.cookie < newest {
            self.come_to(directory, newest);
        }
        let differing: Vec<(Uuid, String)> = self
            .standby
            .differing()
            .map(|(uuid, said)| (*uuid, said.dn.clone()))
            .collect();
        self.standby = Standby::default();
        for (uuid, dn) in differing {
            let now = state(&self.kept, &uuid);
            if self.waiting.iter().all(|event| event.uuid != uuid) {
                self.wait(uuid, dn, now, self.cookie);
            }
        }
    }

    /// Publishes one; `crashed`: it is in the stream, and we do not know.
    fn publish(&mut self, stream: &mut Vec<Message>, crashed: bool) {
        let Some(event) = self.waiting.first() else { return };
        let said = Said {
            position: stream.len() as u64 + 1,
            dn: event.dn.clone(),
            state: event.state,
        };
        stream.push(Message {
            uuid: event.uuid,
            said,
            cookie: event.cookie,
        });
        if !crashed {
            self.waiting.remove(0);
            self.read = stream.len() as u64;
        }
    }
}

/// Restarted: what was only in memory is gone, and the stream is read again from where it tells.
fn restart(daemon: &mut Daemon) {
    daemon.read = daemon.standby.position(daemon.read);
    daemon.standby = Standby::default();
}

fn one_run(seed: u64) {
    let mut random = Random(seed * 2 + 1);
    let mut directory: Vec<Content> = vec![Content::new()];
    let mut stream = Vec::new();
    let mut daemons = [Daemon::default(), Daemon::default()];
    let mut leader = 0;
    for step in 0..200 {
        match random.below(6) {
            0 | 1 => {
                let mut content = directory.last().unwrap().clone();
                let uuid = [u8::try_from(random.below(6)).unwrap(); 16];
                if content.contains_key(&uuid) && random.below(3) == 0 {
                    content.remove(&uuid);
                } else {
                    // A rename above an entry leaves its CSN as it was.
                    let csn = match content.get(&uuid) {
                        Some((_, csn)) if random.below(3) == 0 => csn.clone(),
                        _ => format!("{step}"),
                    };
                    content.insert(uuid, (format!("cn={step}"), csn));
                }
                directory.push(content);
            }
            2 => {
                let one = &mut daemons[random.below(2)];
                let ahead = directory.len() - one.cookie;
                let cookie = one.cookie + random.below(ahead);
                one.come_to(&directory, cookie);
            }
            3 => daemons[leader].publish(&mut stream, false),
            4 => {
                let follower = &mut daemons[1 - leader];
                let unread = stream.len() - usize::try_from(follower.read).unwrap();
                let upto = stream.len() - random.below(unread + 1);
                follower.read(&stream, upto);
            }
            _ if random.below(4) == 0 => {
                // kill -9 of the leader, perhaps between publishing and knowing it.
                let crashed = random.below(2) == 0;
                if crashed {
                    daemons[leader].publish(&mut stream, true);
                }
                restart(&mut daemons[leader]);
                leader = 1 - leader;
                daemons[leader].take_over(&directory, &stream);
            }
            _ => restart(&mut daemons[1 - leader]),
        }
    }
    let last = directory.len() - 1;
    daemons[leader].come_to(&directory, last);
    while !daemons[leader].waiting.is_empty() {
        daemons[leader].publish(&mut stream, false);
    }
    let mut believed: BTreeMap<Uuid, State> = BTreeMap::new();
    for message in &stream {
        let before = believed.insert(message.uuid, message.said.state).unwrap_or(State::Gone);
        assert_ne!(before, message.said.state, "seed {seed}: said twice");
    }
    for uuid in (0..6).map(|byte| [byte; 16]) {
        let believed = believed.get(&uuid).copied().unwrap_or(State::Gone);
        assert_eq!(believed, state(&directory[last], &uuid), "seed {seed}: {uuid:?}");
    }
}

#[test]
fn leaders_change_at_any_moment_without_gaps_and_without_duplicates() {
    for seed in 0..2000 {
        one_run(seed);
    }
}

#[test]
fn a_state_does_not_depend_on_the_order_of_attributes_and_values() {
    // cn: a, b; sn: c, as two servers might send it.
    let one = b"\x30\x0c\x04\x02cn\x31\x06\x04\x01a\x04\x01b\x30\x09\x04\x02sn\x31\x03\x04\x01c";
    let other = b"\x30\x09\x04\x02SN\x31\x03\x04\x01c\x30\x0c\x04\x02cn\x31\x06\x04\x01b\x04\x01a";
    let state = |dn, bytes: &'static [u8]| State::kept(dn, Attributes::new(bytes).unwrap());
    assert_eq!(state("cn=a", one), state("cn=a", other));
    assert_ne!(state("cn=a", one), state("cn=b", one));
    let there = state("cn=a", one);
    assert_eq!(there.to_string().parse(), Ok(there));
    assert_eq!("gone".parse(), Ok(State::Gone));
    assert_eq!("abc".parse::<State>(), Err(()));
}
