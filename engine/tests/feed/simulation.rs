//! Random lives of a feed: the directory changes, sessions end anywhere, usherd crashes at any message; what was told, applied
//! to an empty map, is the directory whenever the feed says that it is.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::env;

use engine::core::rng::Rng;
use engine::feed::consumer::{Confirmed, Consumer, Over, Phase, Step};
use engine::feed::memory::Memory;
use engine::feed::settings::{MaxDeletes, Profile, Settings};
use engine::feed::shape::Shape;
use wire::ldap::envelope::peek;
use wire::ldap::sync::{Mode, read_message};

use crate::directory::{BASE, Directory};
use crate::judge::{Judge, SHARDS};
use crate::provider::{Provider, Session};

const SEEDS: u64 = 2_000;
const STEPS: u64 = 60;

#[test]
fn what_is_told_is_the_directory_whatever_happens() {
    if let Some(seed) = env::var("USHERD_FEED_SEED").ok().and_then(|seed| seed.parse().ok()) {
        World::new(seed, true).live();
        return;
    }
    let seeds = env::var("USHERD_FEED_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(SEEDS);
    let mut seen = BTreeMap::new();
    for seed in 0..seeds {
        let lived = std::panic::catch_unwind(|| World::new(seed, false).live());
        match lived {
            Ok(lived) => {
                for (what, times) in lived {
                    *seen.entry(what).or_insert(0) += times;
                }
            }
            Err(_) => panic!("seed {seed} fails: USHERD_FEED_SEED={seed} tells how"),
        }
    }
    // Nothing is proved by lives in which nothing happens.
    for what in [
        "add",
        "modify",
        "move",
        "delete",
        "refresh-done",
        "crash",
        "lost",
        "held",
        "again",
        "quiet",
        "resumed",
    ] {
        let times = seen.get(what).copied().unwrap_or(0);
        assert!(times >= seeds / 5, "{what}: {times} times in {seeds} lives; {seen:?}");
    }
}

struct World {
    rng: Rng,
    directory: Directory,
    provider: Provider,
    settings: Settings,
    kept: Memory,
    working: Memory,
    consumer: Consumer,
    session: Option<Session>,
    judge: Judge,
    seen: BTreeMap<&'static str, u64>,
    is_loud: bool,
    time_ms: i64,
}

impl World {
    fn new(seed: u64, is_loud: bool) -> Self {
        let mut rng = Rng::new(seed);
        let is_filtered = rng.chance(1, 3);
        let settings = Settings {
            base: BASE.to_string(),
            mode: if rng.chance(1, 4) {
                Mode::RefreshOnly
            } else {
                Mode::RefreshAndPersist
            },
            profile: Profile::Standard,
            whole: !is_filtered,
            shards: SHARDS,
            before: true,
            initial: true,
            max_deletes: MaxDeletes {
                count: rng.chance(1, 4).then_some(2),
                percent: rng.chance(1, 8).then_some(30),
            },
            fingerprint: [1; 16],
            shape: Shape::new(&[], &[], &[]).unwrap(),
        };
        let mut kept = Memory::default();
        let consumer = Consumer::new(settings.clone(), &mut kept).unwrap();
        let mut directory = Directory::new();
        for _ in 0..rng.below(30) {
            directory.change(&mut rng);
        }
        Self {
            provider: Provider {
                is_filtered,
                log: VecDeque::new(),
                log_max: rng.index(40),
            },
            directory,
            settings,
            working: kept.clone(),
            kept,
            consumer,
            session: None,
            judge: Judge::default(),
            seen: BTreeMap::new(),
            is_loud,
            time_ms: 0,
            rng,
        }
    }

    fn live(mut self) -> BTreeMap<&'static str, u64> {
        for _ in 0..STEPS {
            match self.rng.below(20) {
                0..8 => self.change(),
                8..17 => {
                    let messages = 1 + self.rng.below(8);
                    self.deliver(messages);
                    if !self.rng.chance(1, 10) {
                        self.commit();
                    }
                }
                17 => self.crash(),
                18 => self.lose(),
                _ => self.decide(),
            }
        }
        self.settle();
        let mut seen = self.seen;
        for (what, times) in self.judge.seen {
            *seen.entry(what).or_default() += times;
        }
        seen
    }

    fn say(&self, what: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{}", what());
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn change(&mut self) {
        for _ in 0..=self.rng.below(6) {
            let Some(change) = self.directory.change(&mut self.rng) else {
                continue;
            };
            self.say(|| format!("change {change:?}"));
            self.provider.note(&change);
            if let Some(session) = &mut self.session {
                self.provider.tell(session, &self.directory, &change, &mut self.rng);
            }
        }
    }

    fn begin(&mut self) {
        let request = self.consumer.begin();
        let resumed = request.cookie.is_some();
        let session = self.provider.begin(&self.directory, &request, &mut self.rng);
        self.session = Some(session);
        self.say(|| format!("begin, resumed {resumed}"));
        if resumed {
            self.count("resumed");
        }
    }

    /// Delivers some messages; whether the content is complete and a refreshOnly session over.
    fn deliver(&mut self, messages: u64) -> bool {
        for _ in 0..messages {
            if self.session.is_none() {
                self.begin();
            }
            let Some(bytes) = self.session.as_mut().and_then(|session| session.queue.pop_front()) else {
                return false;
            };
            let message = read_message(&peek(&bytes).unwrap()).unwrap();
            self.say(|| format!("message {}", shown(&message)));
            self.time_ms += 1;
            let step = self
                .consumer
                .message(&mut self.working, &message, self.time_ms)
                .unwrap();
            self.say(|| format!("  {step:?}"));
            match step {
                Step::Continue | Step::Refreshed => {}
                Step::Held => self.count("held"),
                Step::Over(over) => {
                    self.session = None;
                    match over {
                        Over::Again(_) => self.count("again"),
                        Over::Held => self.count("held"),
                        Over::Refreshed => return true,
                        Over::Ended | Over::Failed { .. } => panic!("{over:?}"),
                    }
                    return false;
                }
            }
        }
        false
    }

    fn commit(&mut self) {
        self.consumer.save(&mut self.working).unwrap();
        for (seq, event) in std::mem::take(&mut self.working.outbox) {
            self.say(|| {
                format!(
                    "event {:?}",
                    engine::feed::event::Event::decode(seq, &event).map(|e| (e.op, e.dn, e.old_dn))
                )
            });
            self.judge.apply(seq, &event);
        }
        self.kept = self.working.clone();
        check_rows(&self.kept);
    }

    fn crash(&mut self) {
        self.say(|| "crash".to_string());
        self.count("crash");
        self.session = None;
        self.working = self.kept.clone();
        self.consumer = Consumer::new(self.settings.clone(), &mut self.working).unwrap();
    }

    fn lose(&mut self) {
        self.say(|| "lost".to_string());
        if self.session.take().is_some() {
            self.count("lost");
            self.consumer.lost();
        }
    }

    fn decide(&mut self) {
        if self.consumer.held().is_none() {
            return;
        }
        self.say(|| "an operator decides".to_string());
        if self.rng.chance(1, 4) {
            self.consumer.reject();
            self.session = None;
        } else {
            let confirmed = self.consumer.confirm(&mut self.working, self.time_ms).unwrap();
            self.say(|| format!("{confirmed:?}"));
            if matches!(confirmed, Confirmed::Now(Step::Over(_))) {
                self.session = None;
            }
        }
        self.commit();
    }

    /// No more changes: the feed comes to rest, and what it told is the directory.
    fn settle(&mut self) {
        self.say(|| "settle".to_string());
        if self.provider.is_filtered || self.settings.mode == Mode::RefreshOnly {
            // Names above a filter change silently: only a full comparison tells.
            self.lose();
            self.consumer.lost();
            if self.provider.is_filtered {
                self.consumer.reload();
            }
        }
        for _ in 0..2_000 {
            let is_over = self.deliver(1);
            self.commit();
            if self.consumer.held().is_some() {
                let confirmed = self.consumer.confirm(&mut self.working, self.time_ms).unwrap();
                self.say(|| format!("{confirmed:?}"));
                if matches!(confirmed, Confirmed::Now(Step::Over(_))) {
                    self.session = None;
                }
                self.commit();
                continue;
            }
            let is_quiet = self.consumer.phase() == Phase::Persist
                && self.session.as_ref().is_some_and(|session| session.queue.is_empty());
            if is_over || is_quiet {
                self.compare();
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn compare(&mut self) {
        let content = self.directory.content(self.provider.is_filtered);
        for (uuid, known) in &content {
            assert_eq!(self.judge.content.get(uuid), Some(known), "{uuid:?}");
        }
        assert_eq!(self.judge.content.len(), content.len(), "{:?}", self.judge.content);
        assert_eq!(self.consumer.facts().entries, content.len() as u64);
        self.count("quiet");
    }
}

/// What must always hold of kept rows: a row's parent is there, above it there is an end, and glue holds something up.
fn check_rows(kept: &Memory) {
    let rows: BTreeMap<_, _> = kept.rows().map(|row| (row.id, row)).collect();
    for row in rows.values() {
        let mut above = row.parent;
        let mut steps = 0;
        while let Some(next) = rows.get(&above) {
            above = next.parent;
            steps += 1;
            assert!(steps <= rows.len(), "a row is its own ancestor: {row:?}");
        }
        assert_eq!(above.0, 0, "a parent is missing: {row:?}");
        let is_parent = rows.values().any(|other| other.parent == row.id);
        assert!(row.uuid.is_some() || is_parent, "glue for nothing: {row:?}");
    }
}

fn shown(message: &wire::ldap::sync::SyncMessage<'_>) -> String {
    use wire::ldap::sync::SyncMessage;
    match message {
        SyncMessage::Entry { state, entry } => format!(
            "{:?} {:02x?} {}",
            state.state,
            state.uuid,
            String::from_utf8_lossy(entry.dn)
        ),
        other => format!("{other:?}"),
    }
}
