//! Plays runs of events on LDAP sessions: those of the fuzzing corpus, through the fuzz target's own body, and random
//! ones.
//!
//! The files named `seed-*` are drawn by our own source of chance: `USHERD_WRITE_SEEDS=1 cargo test -p usherd-engine
//! --test corpus` writes them anew. All others were found by fuzzing, or once broke something; they stay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::cell::RefCell;
use std::path::PathBuf;
use std::{env, fs};

use engine::core::rng::Rng;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use wire::ldap::message::write_attribute;

#[path = "../../fuzz/bodies/feed_event.rs"]
mod feed_event_body;
#[path = "../../fuzz/bodies/own_bind.rs"]
mod own_bind_body;
#[path = "../../fuzz/bodies/radius_files.rs"]
mod radius_files_body;
#[path = "../../fuzz/bodies/session.rs"]
mod session_body;

const SEEDS: u64 = 8;
const EVENTS_BYTES_MAX: usize = 500;
const CASES: u32 = 2_000;

#[test]
fn session() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/session");
    for seed in 0..SEEDS {
        let path = folder.join(format!("seed-{seed:02}"));
        let drawn = drawn(seed);
        if env::var_os("USHERD_WRITE_SEEDS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &drawn).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(
            kept,
            drawn,
            "{} is not what is drawn today; see the head of this file",
            path.display()
        );
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let mut bytes = fs::read(entry.unwrap().path()).unwrap();
        session_body::run(&bytes);
        // Every event that is another one makes another run; a few of them cost little.
        for at in (0..bytes.len()).step_by(7) {
            session_body::run(&bytes[..at]);
            bytes[at] ^= 1 << (at % 8);
            session_body::run(&bytes);
            bytes[at] ^= 1 << (at % 8);
        }
    }
}

#[test]
fn own_bind() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/own_bind");
    let mut played = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let mut bytes = fs::read(entry.unwrap().path()).unwrap();
        own_bind_body::run(&bytes);
        for at in 0..bytes.len() {
            own_bind_body::run(&bytes[..at]);
            bytes[at] ^= 1 << (at % 8);
            own_bind_body::run(&bytes);
            bytes[at] ^= 1 << (at % 8);
        }
        played += 1;
    }
    assert!(played >= 16, "the corpus is not there");
}

#[test]
fn radius_files() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/radius_files");
    let mut played = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let mut bytes = fs::read(entry.unwrap().path()).unwrap();
        radius_files_body::run(&bytes);
        for at in (0..bytes.len()).step_by(5) {
            radius_files_body::run(&bytes[..at]);
            bytes[at] ^= 1 << (at % 8);
            radius_files_body::run(&bytes);
            bytes[at] ^= 1 << (at % 8);
        }
        played += 1;
    }
    assert!(played >= 4, "the corpus is not there");
}

#[test]
fn feed_event() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/feed_event");
    for (number, seed) in feed_records().iter().enumerate() {
        let path = folder.join(format!("seed-{number:02}"));
        if env::var_os("USHERD_WRITE_SEEDS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, seed).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(&kept, seed, "{}: see the head of this file", path.display());
    }
    for entry in fs::read_dir(&folder).unwrap() {
        let mut bytes = fs::read(entry.unwrap().path()).unwrap();
        feed_event_body::run(&bytes);
        for at in 0..bytes.len() {
            feed_event_body::run(&bytes[..at]);
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                feed_event_body::run(&bytes);
                bytes[at] ^= 1 << bit;
            }
        }
    }
}

fn feed_records() -> Vec<Vec<u8>> {
    use engine::feed::event::{Attributes, Counts, Event, Names, Op};
    use engine::feed::store::{Facts, Held};
    let mut attributes = Vec::new();
    write_attribute(&mut attributes, b"cn", [&b"Ada"[..], b"\"quoted\"", b""]);
    write_attribute(&mut attributes, b"jpegPhoto", [&b"\0\xff\xd8"[..]]);
    let redacted = b"\x30\x16\x04\x02pw\x80\x10................";
    attributes.extend_from_slice(redacted);
    let of_feed = Event::new(Op::RefreshDone, [0; 16], "", 1_700_000_000_000);
    let events = [
        Event {
            shard: 3,
            attributes: Attributes::new(&attributes).unwrap(),
            csn: Some("20261126192216.123456Z#000000#001#000000"),
            ..Event::new(Op::Add, [7; 16], "cn=Ada,dc=x", 1)
        },
        Event {
            old_dn: Some("cn=Ada,dc=x"),
            changed: Names::new(b"\x04\x02cn").unwrap(),
            before: Some(Attributes::new(redacted).unwrap()),
            ..Event::new(Op::Move, [7; 16], "cn=Countess,dc=x", -1)
        },
        Event::new(Op::Delete, [7; 16], "cn=\u{e9},dc=x", i64::MAX),
        Event {
            counts: Some(Counts {
                entries: 5,
                ..Counts::default()
            }),
            ..of_feed
        },
    ];
    let facts = Facts {
        cookie: b"rid=000".to_vec(),
        entries: 9,
        held: Some(Held {
            deletes: 4,
            entries: 9,
            since_ms: 1,
        }),
        ..Facts::default()
    };
    let encoded = events.map(|event| {
        let mut out = Vec::new();
        event.encode(&mut out);
        out
    });
    let mut all = encoded.to_vec();
    for facts in [Facts::default(), facts] {
        let mut out = Vec::new();
        facts.encode(&mut out);
        all.push(out);
    }
    all
}

/// Whatever happens, each client hears one end of each request, nothing of anybody else's, and is whom it is.
#[test]
fn any_run_of_events_keeps_the_law() {
    let seen = RefCell::new(session_body::Seen::new());
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&prop::collection::vec(any::<u8>(), 0..EVENTS_BYTES_MAX), |bytes| {
            for (what, times) in session_body::play(&bytes) {
                *seen.borrow_mut().entry(what).or_default() += times;
            }
            Ok(())
        })
        .unwrap();
    // Nothing is proved by runs in which nothing happens.
    let seen = seen.into_inner();
    for what in ALL {
        let times = seen.get(what).copied().unwrap_or(0);
        assert!(times >= 20, "{what}: {times} times in {CASES} runs; {seen:?}");
    }
}

const ALL: [&str; 24] = [
    "StartTLS",
    "abandoned",
    "answered",
    "canceled",
    "closed",
    "deadline",
    "held",
    "lost",
    "nothing",
    "own connection lost",
    "part",
    "poisoned",
    "probe",
    "protocol broken",
    "queue full",
    "queue timeout",
    "sent",
    "shutting down",
    "too slow",
    "unavailable",
    "upstream lost",
    "who?",
    "kept",
    "asked later",
];

fn drawn(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..400).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
}
