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

const ALL: [&str; 22] = [
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
];

fn drawn(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..400).map(|_| rng.next_u64().to_le_bytes()[0]).collect()
}
