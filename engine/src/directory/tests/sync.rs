//! Consumers of RFC 4533 beside the directory that they follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use wire::frame::Step as Frame;
use wire::ldap::envelope;
use wire::ldap::filter;
use wire::ldap::grammar::Scope;
use wire::ldap::message::{self, SearchSpec};
use wire::ldap::result::code;
use wire::ldap::sync::{Mode, State, SyncInfo, SyncMessage, SyncRequest, read_message};

use super::super::{Directory, Fed, Follow, Outcome};
use super::write::Writer;
use super::write_model::{Step, act, small_writer, step};
use super::{BASE, Client, with_control};

/// What a consumer has, by UUID: name and attributes.
type Content = BTreeMap<[u8; 16], (String, Vec<(String, Vec<String>)>)>;

/// A consumer that believes everything it is told.
#[derive(Default)]
struct Consumer {
    content: Content,
    cookie: Option<Vec<u8>>,
    mentioned: BTreeSet<[u8; 16]>,
    refreshed: bool,
    follow: Option<Follow>,
    /// Entries that were sent, UUIDs that were named, entries that were deleted.
    sent: usize,
    named: usize,
    deleted: usize,
    ended: Option<u32>,
    /// What it was told before a restart may have been lost.
    restarted: bool,
}

const FILTER: &str = "(|(ou=a)(title=x)(ou=b))";

impl Consumer {
    fn request(&self, base: &str, mode: Mode, hint: bool) -> Vec<u8> {
        let filter = filter::parse(FILTER).unwrap();
        let mut frame = Vec::new();
        let spec = SearchSpec {
            base: base.as_bytes(),
            scope: Scope::Subtree,
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
            filter: &filter,
            attributes: &["ou", "title"],
        };
        message::write_search(&mut frame, 77, &spec);
        let mut control = Vec::new();
        SyncRequest {
            mode,
            cookie: self.cookie.as_deref(),
            reload_hint: hint,
        }
        .write_control(&mut control, true);
        with_control(&frame, &control)
    }

    fn begin(&mut self, directory: &Directory, mode: Mode, hint: bool) {
        let frame = self.request(BASE, mode, hint);
        let mut client = Client::of(directory.clone());
        assert_eq!(client.ask(&frame), (Outcome::Follow, Vec::new()));
        (self.sent, self.named, self.deleted) = (0, 0, 0);
        (self.refreshed, self.ended) = (false, None);
        self.mentioned.clear();
        let mut out = Vec::new();
        self.follow = Follow::begin(&Arc::new(directory.clone()), &frame, &mut out);
        self.take(&out);
    }

    /// Is told everything there is, in small pieces.
    fn feed(&mut self, directory: &Directory) {
        while let Some(follow) = &mut self.follow {
            let mut out = Vec::new();
            let fed = follow.feed(directory, &mut out, 100);
            if fed != Fed::Behind {
                self.take(&out);
            }
            match fed {
                Fed::Behind => {
                    assert!(!out.is_empty());
                    self.take(&out);
                }
                Fed::Waiting => break,
                Fed::Ended => self.follow = None,
            }
        }
    }

    fn take(&mut self, mut out: &[u8]) {
        while let Frame::Frame { len } = envelope::split(out, 1 << 30) {
            let (frame, rest) = out.split_at(len);
            out = rest;
            let envelope = envelope::peek(frame).unwrap();
            assert_eq!(envelope.id, 77);
            self.message(read_message(&envelope).unwrap());
        }
        assert!(out.is_empty());
    }

    fn message(&mut self, message: SyncMessage<'_>) {
        match message {
            SyncMessage::Entry { state, entry } => {
                self.keep(state.cookie);
                self.mentioned.insert(state.uuid);
                let dn = String::from_utf8(entry.dn.to_vec()).unwrap();
                if state.state == State::Delete {
                    self.deleted += 1;
                    assert!(self.content.remove(&state.uuid).is_some() || !self.refreshed);
                    return;
                }
                self.sent += 1;
                let known = self.content.contains_key(&state.uuid);
                if self.refreshed {
                    assert_eq!(known, state.state == State::Modify);
                }
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let attributes = entry.attributes.map(|a| (text(a.name), a.values.map(text).collect()));
                self.content.insert(state.uuid, (dn, attributes.collect()));
            }
            SyncMessage::Info(SyncInfo::NewCookie(cookie)) => self.keep(Some(cookie)),
            SyncMessage::Info(SyncInfo::RefreshDelete(end)) => {
                self.keep(end.cookie);
                self.refreshed = true;
            }
            SyncMessage::Info(SyncInfo::RefreshPresent(end)) => {
                self.keep(end.cookie);
                self.sweep();
            }
            SyncMessage::Info(SyncInfo::SyncIdSet(set)) => {
                assert!(!set.refresh_deletes);
                for uuid in set.uuids {
                    self.named += 1;
                    assert!(
                        self.content.contains_key(&uuid),
                        "what is named is what the consumer has"
                    );
                    self.mentioned.insert(uuid);
                }
            }
            SyncMessage::Done { result, done } => {
                self.ended = Some(result.code);
                if let Some(done) = done {
                    self.keep(done.cookie);
                    if !done.refresh_deletes {
                        self.sweep();
                    }
                    self.refreshed = true;
                }
            }
            SyncMessage::Reference { .. } | SyncMessage::Other => panic!("nothing of the kind is sent"),
        }
    }

    fn keep(&mut self, cookie: Option<&[u8]>) {
        if let Some(cookie) = cookie {
            assert!(
                self.restarted || self.cookie.as_deref().is_none_or(|before| before <= cookie),
                "cookies grow"
            );
            self.cookie = Some(cookie.to_vec());
        }
    }

    /// The present phase is over: what was not mentioned is gone.
    fn sweep(&mut self) {
        let mentioned = std::mem::take(&mut self.mentioned);
        self.content.retain(|uuid, _| mentioned.contains(uuid));
        self.refreshed = true;
    }

    fn shown(&self) -> BTreeMap<String, Vec<(String, Vec<String>)>> {
        let shown: BTreeMap<_, _> = self.content.values().cloned().collect();
        assert_eq!(shown.len(), self.content.len(), "no name twice");
        shown
    }
}

fn shown(directory: &Directory) -> BTreeMap<String, Vec<(String, Vec<String>)>> {
    let mut client = Client::of(directory.clone());
    let (code, found) = client.search(BASE, Scope::Subtree, FILTER, &["ou", "title"]);
    assert_eq!(code, 0);
    found.into_iter().collect()
}

fn grown() -> Writer {
    let mut writer = small_writer();
    for name in ["ou=a", "ou=b", "ou=a,ou=a", "ou=c", "ou=a,ou=c"] {
        assert_eq!(act(&mut writer, &Step::Add(format!("{name},{BASE}"))), 0);
    }
    writer
}

#[test]
fn a_consumer_that_was_away_is_told_what_it_missed_and_no_more() {
    let mut writer = grown();
    let mut consumer = Consumer::default();
    consumer.begin(&writer.client.directory, Mode::RefreshOnly, false);
    consumer.feed(&writer.client.directory);
    assert_eq!((consumer.sent, consumer.ended), (4, Some(0)));
    act(&mut writer, &Step::Delete(format!("ou=a,ou=a,{BASE}")));
    act(&mut writer, &Step::Title(format!("ou=b,{BASE}"), Some("x".into())));
    act(&mut writer, &Step::Title(format!("ou=c,{BASE}"), Some("y".into())));
    consumer.begin(&writer.client.directory, Mode::RefreshOnly, true);
    consumer.feed(&writer.client.directory);
    assert_eq!((consumer.sent, consumer.named, consumer.deleted), (1, 0, 1));
    assert_eq!(consumer.shown(), shown(&writer.client.directory));
    consumer.begin(&writer.client.directory, Mode::RefreshOnly, true);
    consumer.feed(&writer.client.directory);
    assert_eq!(
        (consumer.sent, consumer.named, consumer.deleted, consumer.ended),
        (0, 0, 0, Some(0))
    );
}

#[test]
fn one_that_was_away_for_too_long_is_told_who_is_still_there() {
    let mut writer = grown();
    let mut consumer = Consumer::default();
    consumer.begin(&writer.client.directory, Mode::RefreshAndPersist, false);
    consumer.feed(&writer.client.directory);
    consumer.follow = None;
    act(&mut writer, &Step::Delete(format!("ou=a,ou=a,{BASE}")));
    for number in 0..50 {
        act(
            &mut writer,
            &Step::Title(format!("ou=b,{BASE}"), Some(number.to_string())),
        );
    }
    consumer.begin(&writer.client.directory, Mode::RefreshAndPersist, true);
    consumer.feed(&writer.client.directory);
    assert_eq!(
        (consumer.sent, consumer.named, consumer.deleted, consumer.ended),
        (1, 2, 0, None)
    );
    assert_eq!(consumer.shown(), shown(&writer.client.directory));
}

#[test]
fn one_that_is_too_slow_is_sent_away_and_comes_back() {
    let mut writer = grown();
    let mut consumer = Consumer::default();
    consumer.begin(&writer.client.directory, Mode::RefreshAndPersist, false);
    consumer.feed(&writer.client.directory);
    for number in 0..50 {
        act(
            &mut writer,
            &Step::Title(format!("ou=b,{BASE}"), Some(number.to_string())),
        );
    }
    consumer.feed(&writer.client.directory);
    assert_eq!(consumer.ended, Some(code::SYNC_REFRESH_REQUIRED));
    consumer.begin(&writer.client.directory, Mode::RefreshAndPersist, true);
    consumer.feed(&writer.client.directory);
    assert_eq!(consumer.shown(), shown(&writer.client.directory));
}

#[test]
fn a_cookie_of_another_world_is_answered_with_everything() {
    let writer = grown();
    for cookie in [
        "rid=001,sid=000,csn=20200101000000.000000Z#000000#000#000000",
        "rid=001,sid=000,csn=20990101000000.000000Z#000000#000#000000",
    ] {
        let mut consumer = Consumer {
            content: [([7; 16], (String::new(), Vec::new()))].into(),
            ..Consumer::default()
        };
        let frame = Consumer {
            cookie: Some(cookie.as_bytes().to_vec()),
            ..Consumer::default()
        }
        .request(BASE, Mode::RefreshOnly, true);
        consumer.follow = Follow::begin(&Arc::new(writer.client.directory.clone()), &frame, &mut Vec::new());
        consumer.feed(&writer.client.directory);
        assert_eq!(consumer.shown(), shown(&writer.client.directory));
        assert!(consumer.cookie.unwrap().starts_with(b"rid=001,sid=000,csn=2026"));
    }
    let mut garbage = Consumer {
        cookie: Some(b"garbage".to_vec()),
        ..Consumer::default()
    };
    let frame = garbage.request(BASE, Mode::RefreshOnly, true);
    garbage.cookie = None;
    garbage.follow = Follow::begin(&Arc::new(writer.client.directory.clone()), &frame, &mut Vec::new());
    garbage.feed(&writer.client.directory);
    assert_eq!(garbage.shown(), shown(&writer.client.directory));
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let directory = Arc::new(grown().client.directory);
    for (base, expected) in [
        ("", code::UNWILLING_TO_PERFORM),
        ("cn=Subschema", code::UNWILLING_TO_PERFORM),
        ("ou=nobody,dc=example,dc=com", code::NO_SUCH_OBJECT),
        ("rubbish", code::INVALID_DN_SYNTAX),
    ] {
        let mut consumer = Consumer::default();
        let frame = consumer.request(base, Mode::RefreshOnly, false);
        let mut out = Vec::new();
        assert!(Follow::begin(&directory, &frame, &mut out).is_none());
        consumer.take(&out);
        assert_eq!(consumer.ended, Some(expected), "{base}");
    }
}

/// Writes, and what consumers do between them.
#[derive(Clone, Debug)]
enum Event {
    Write(Step),
    /// Consumer 0 or 1 goes away, and comes back in this mode.
    Leave(usize),
    Come(usize, bool),
    Feed(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        10 => step().prop_map(Event::Write),
        1 => (0usize..2).prop_map(Event::Leave),
        1 => (0usize..2, any::<bool>()).prop_map(|(who, persist)| Event::Come(who, persist)),
        3 => (0usize..2).prop_map(Event::Feed),
    ]
}

proptest! {
    /// Whatever is written, and whenever consumers come and go: what each has in the end is the content.
    #[test]
    fn consumers_converge(events in proptest::collection::vec(event(), 1..120)) {
        let mut writer = small_writer();
        let mut consumers = [Consumer::default(), Consumer::default()];
        for event in events {
            match event {
                Event::Write(step) => {
                    act(&mut writer, &step);
                }
                Event::Leave(who) => consumers[who].follow = None,
                Event::Come(who, persist) => {
                    let mode = if persist { Mode::RefreshAndPersist } else { Mode::RefreshOnly };
                    consumers[who].begin(&writer.client.directory, mode, false);
                }
                Event::Feed(who) => consumers[who].feed(&writer.client.directory),
            }
        }
        for consumer in &mut consumers {
            consumer.feed(&writer.client.directory);
            if consumer.follow.is_none() {
                consumer.begin(&writer.client.directory, Mode::RefreshAndPersist, false);
                consumer.feed(&writer.client.directory);
            }
            prop_assert_eq!(consumer.shown(), shown(&writer.client.directory));
        }
    }

    /// The same over restarts: the file is written in order or not, and changes may be lost.
    #[test]
    fn consumers_converge_over_restarts(
        runs in proptest::collection::vec((proptest::collection::vec(step(), 0..12), any::<bool>(), any::<bool>()), 1..5),
    ) {
        let mut writer = small_writer();
        let mut consumer = Consumer { restarted: true, ..Consumer::default() };
        let mut file = Vec::new();
        writer.client.directory.export(b"", true, &mut file);
        for (steps, clean, flushed) in runs {
            for step in &steps {
                act(&mut writer, step);
            }
            consumer.begin(&writer.client.directory, Mode::RefreshOnly, false);
            consumer.feed(&writer.client.directory);
            prop_assert_eq!(consumer.shown(), shown(&writer.client.directory));
            if clean || flushed {
                file.clear();
                writer.client.directory.export(b"", clean, &mut file);
            }
            writer.micros += 1_000_000;
            let mut directory = Directory::load(&file, "again", None, writer.micros).unwrap();
            let writing = super::super::Writing {
                admins: vec![BASE.to_owned()],
                entries_max: 1000,
                bytes_max: 1 << 24,
                changes_max: 40,
            };
            directory.make_writable(&writing).unwrap();
            let micros = writer.micros;
            writer = Writer::of_small(directory, micros);
        }
        consumer.begin(&writer.client.directory, Mode::RefreshOnly, false);
        consumer.feed(&writer.client.directory);
        prop_assert_eq!(consumer.shown(), shown(&writer.client.directory));
    }
}
