//! A provider that says what a test has it say, and what the feed made of it.

use engine::feed::consumer::{Consumer, Step};
use engine::feed::event::{Counts, Event, Op, Uuid};
use engine::feed::memory::Memory;
use engine::feed::settings::{MaxDeletes, Profile, Settings};
use engine::feed::shape::Shape;
use wire::ldap::envelope::peek;
use wire::ldap::sync::{Mode, State, read_message};

use crate::judge::SHARDS;
use crate::messages::{self, Attributes};

pub(crate) const C1: &str = "rid=000,sid=001,csn=20260101000001.000000Z#000000#001#000000";
pub(crate) const C2: &str = "rid=000,sid=001,csn=20260101000002.000000Z#000000#001#000000";
pub(crate) const K1: &str = "rid=000,csn=20260101000001.000000Z#000000#001#000000";
pub(crate) const K2: &str = "rid=000,csn=20260101000002.000000Z#000000#001#000000";

pub(crate) struct Script {
    pub(crate) settings: Settings,
    pub(crate) memory: Memory,
    pub(crate) consumer: Consumer,
    kept: Memory,
}

/// An event, told in a line: `op dn` or `move old > new`.
pub(crate) fn told(event: &Event<'_>) -> String {
    match (event.op, event.old_dn) {
        (Op::RefreshDone, _) => {
            let counts = event.counts.unwrap();
            format!("refresh-done {}", counts.entries)
        }
        (op, Some(old)) => format!("{} {old} > {}", op.name(), event.dn),
        (op, None) => format!("{} {}", op.name(), event.dn),
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        base: "dc=x".to_string(),
        mode: Mode::RefreshAndPersist,
        profile: Profile::Standard,
        whole: true,
        shards: SHARDS,
        before: false,
        initial: true,
        max_deletes: MaxDeletes::default(),
        fingerprint: [1; 16],
        shape: Shape::new(&[], &[], &[]).unwrap(),
    }
}

pub(crate) fn uuid(number: u8) -> Uuid {
    [number; 16]
}

impl Script {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut memory = Memory::default();
        let consumer = Consumer::new(settings.clone(), &mut memory).unwrap();
        Self {
            settings,
            kept: memory.clone(),
            memory,
            consumer,
        }
    }

    /// With these entries, numbered from 1, known up to [`C1`].
    pub(crate) fn with(settings: Settings, names: &[&str]) -> Self {
        let mut script = Self::new(settings);
        script.begin();
        for (number, dn) in (1..).zip(names) {
            script.add(number, dn);
        }
        assert_eq!(script.end(C1), Step::Refreshed);
        script.events();
        script
    }

    /// A session begins; the cookie that it asks with.
    pub(crate) fn begin(&mut self) -> Option<String> {
        let request = self.consumer.begin();
        assert_eq!(request.reload_hint, request.cookie.is_some());
        request.cookie.map(|cookie| String::from_utf8(cookie.to_vec()).unwrap())
    }

    pub(crate) fn tell(&mut self, bytes: &[u8]) -> Step {
        let message = read_message(&peek(bytes).unwrap()).unwrap();
        self.consumer.message(&mut self.memory, &message, 1000).unwrap()
    }

    pub(crate) fn add(&mut self, number: u8, dn: &str) -> Step {
        self.say(State::Add, number, dn, &[("cn", "1")], None)
    }

    pub(crate) fn say(
        &mut self,
        state: State,
        number: u8,
        dn: &str,
        attributes: &[(&str, &str)],
        cookie: Option<&str>,
    ) -> Step {
        let attributes: Attributes = attributes
            .iter()
            .map(|(name, value)| ((*name).to_string(), vec![value.as_bytes().to_vec()]))
            .collect();
        self.tell(&messages::entry(state, uuid(number), dn, &attributes, cookie))
    }

    pub(crate) fn gone(&mut self, number: u8, dn: &str) -> Step {
        self.say(State::Delete, number, dn, &[], None)
    }

    /// A delete phase ends, and with it the refresh.
    pub(crate) fn end(&mut self, cookie: &str) -> Step {
        self.tell(&messages::refresh_delete(Some(cookie), true))
    }

    /// A present phase ends, and with it the refresh.
    pub(crate) fn end_present(&mut self, cookie: &str) -> Step {
        self.tell(&messages::refresh_present(Some(cookie), true))
    }

    /// Commits; what was told since.
    pub(crate) fn events(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        self.each(|event| all.push(told(event)));
        all
    }

    /// As [`Script::events`], without an order.
    pub(crate) fn sorted_events(&mut self) -> Vec<String> {
        let mut all = self.events();
        all.sort();
        all
    }

    pub(crate) fn each(&mut self, mut each: impl FnMut(&Event<'_>)) {
        self.consumer.save(&mut self.memory).unwrap();
        for (seq, bytes) in std::mem::take(&mut self.memory.outbox) {
            each(&Event::decode(seq, &bytes).unwrap());
        }
        self.kept = self.memory.clone();
    }

    /// usherd ends and begins anew with what was committed.
    pub(crate) fn crash(&mut self) {
        self.memory = self.kept.clone();
        self.consumer = Consumer::new(self.settings.clone(), &mut self.memory).unwrap();
    }

    pub(crate) fn cookie(&self) -> String {
        String::from_utf8(self.consumer.facts().cookie.clone()).unwrap()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.consumer.facts().last
    }
}
