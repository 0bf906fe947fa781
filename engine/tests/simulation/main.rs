//! Seeded simulation of whole pools: random requests, cancels, deaths, stalls, strays, drains, clock jumps and reloads, with
//! the law and every bound judged after each call, from inside (`check_invariants`) and from outside (`world`).
//!
//! `USHERD_SIM_SEEDS=1000000 cargo test -p usherd-engine --release --test simulation` runs that many seeds instead of
//! 10,000; `USHERD_SIM_SEED=17` plays one and prints what happens. A failing seed is printed with its events shrunk to
//! those that are needed.
//!
//! It must be able to fail. Each of these faults, put into the pool by hand, is caught within 10,000 seeds, most of them by the
//! first ten; try some of them again when the simulator has been changed: a reply from any upstream is delivered; a failure is
//! told twice; a write is sent again; a read is sent again without end, or after a part of its answer; a sent request has no
//! deadline timer; one request too many on an upstream; one upstream too many; a queue one too long; a helper is killed without
//! its grace; one that was told to close is forgotten before it is gone; a recycled one is closed before its call is over, or
//! is kept for good; a pool at rest has an upstream too many or too few, or goes on asking to be woken; a drain leaves interrupted helpers; an abandoned request is not abandoned upstream; a pinned request goes
//! elsewhere; a connection that leaves counts as if it stayed, or who waits for its stand-in is refused.
//!
//! What it does not cover: fairness between clients, the quality of the policies' choices (their own tests do), and time spent
//! in real input and output.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]
#![allow(clippy::print_stdout, unreachable_pub, missing_docs, reason = "a test")]

mod scenario;
mod world;

use scenario::{Event, Scenario};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Seen, World};

const SEEDS: u64 = 10_000;
/// Failing seeds that are enough to look at.
const FAILURES_MAX: u32 = 300;
/// Trials that shrinking one failure may take.
const TRIALS_MAX: u32 = 5_000;

#[test]
fn the_law_and_every_bound_hold_whatever_happens() {
    quiet_panics();
    if let Some(seed) = number_from_environment("USHERD_SIM_SEED") {
        let scenario = Scenario::new(seed);
        println!("{}", story(&scenario));
        if let Err(wrong) = play(&scenario, &mut Seen::new()) {
            panic!("{}", report(&scenario, &wrong, 1));
        }
        return;
    }
    let (mut seen, mut failed, mut failures) = (Seen::new(), 0, BTreeMap::new());
    for seed in 0..number_from_environment("USHERD_SIM_SEEDS").unwrap_or(SEEDS) {
        let scenario = Scenario::new(seed);
        if let Err(wrong) = play(&scenario, &mut seen) {
            failed += 1;
            failures.entry(kind(&wrong)).or_insert((scenario, wrong, 0)).2 += 1;
        }
        if failed == FAILURES_MAX {
            break;
        }
    }
    let reports: Vec<_> = failures
        .values()
        .map(|(scenario, wrong, times)| report(scenario, wrong, *times))
        .collect();
    assert!(
        reports.is_empty(),
        "{} kinds of failure\n{}",
        reports.len(),
        reports.join("\n\n")
    );
    println!("{seen:#?}");
    for what in EVERYTHING {
        assert!(
            seen.get(*what).is_some_and(|times| *times >= 20),
            "hardly ever: {what}, in {seen:#?}"
        );
    }
}

/// What the seeds must have brought about between them, or they prove nothing.
const EVERYTHING: &[&str] = &[
    "Canceled",
    "Deadline",
    "QueueFull",
    "QueueTimeout",
    "ShuttingDown",
    "Unavailable",
    "UpstreamLost { delivered: false }",
    "UpstreamLost { delivered: true }",
    "abandon",
    "answered",
    "at rest",
    "check",
    "close",
    "crash",
    "ejection",
    "asked on",
    "finished",
    "kept",
    "interrupt",
    "kill",
    "lingers",
    "open",
    "part",
    "probe",
    "recycle",
    "rest",
    "saturation",
    "sent",
    "sent after waiting",
    "sent again",
    "set aside",
    "stand-in",
    "stray reply dropped",
];

#[test]
fn a_run_is_the_same_every_time() {
    for seed in 0..20 {
        let scenario = Scenario::new(seed);
        assert_eq!(story(&scenario), story(&scenario));
    }
}

fn play(scenario: &Scenario, seen: &mut Seen) -> Result<(), String> {
    let played = quietly(|| {
        let mut world = World::new(scenario);
        let outcome = world.play(&scenario.events);
        outcome.map(|()| world.seen)
    });
    for (what, times) in played?? {
        *seen.entry(what).or_default() += times;
    }
    Ok(())
}

/// Everything that happens in a run, up to what is wrong.
fn story(scenario: &Scenario) -> String {
    let mut world = World::new(scenario);
    world.log = Some(Vec::new());
    let outcome = quietly(|| world.play(&scenario.events));
    let log = world.log.unwrap_or_default().join("\n");
    format!("{log}\n{outcome:?}")
}

fn report(scenario: &Scenario, wrong: &str, times: u32) -> String {
    let small = shrink(scenario.clone(), &kind(wrong));
    format!(
        "seed {} (the first of {times}): {wrong}\n{} of {} events are needed (USHERD_SIM_SEED={} plays them all):\n{}",
        scenario.seed,
        small.events.len(),
        scenario.events.len(),
        scenario.seed,
        story(&small)
    )
}

/// What is wrong, without the numbers and names.
fn kind(wrong: &str) -> String {
    let text = wrong.split_once(" (at ").map_or(wrong, |(text, _)| text);
    let text = text.split_once(", by ").map_or_else(
        || text.to_owned(),
        |(what, by)| format!("{what} by {}", by.split(' ').next().unwrap_or_default()),
    );
    text.replace(|c: char| c.is_ascii_digit() || c == '.', "")
        .chars()
        .take(60)
        .collect()
}

/// Delta debugging: leaves out ever smaller runs of events as long as the same thing stays wrong.
fn shrink(mut scenario: Scenario, same: &str) -> Scenario {
    let mut trials = 0;
    let mut chunk = scenario.events.len().div_ceil(2);
    while chunk > 0 && trials < TRIALS_MAX {
        let mut shorter = false;
        let mut start = 0;
        while start < scenario.events.len() && trials < TRIALS_MAX {
            let end = (start + chunk).min(scenario.events.len());
            let left: Vec<Event> = [&scenario.events[..start], &scenario.events[end..]].concat();
            let without = Scenario {
                events: left,
                ..scenario.clone()
            };
            trials += 1;
            if play(&without, &mut Seen::new()).is_err_and(|wrong| kind(&wrong) == same) {
                scenario = without;
                shorter = true;
            } else {
                start = end;
            }
        }
        chunk = if shorter && chunk == 1 { 1 } else { chunk / 2 };
    }
    scenario
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A panic inside is an error like any other, and is not printed for each trial.
fn quietly<R>(run: impl FnOnce() -> R) -> Result<R, String> {
    QUIET.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    QUIET.set(false);
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_else(|| "a panic".into())
    })
}

fn quiet_panics() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            default(info);
        }
    }));
}

fn number_from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value}: a number is needed")),
    )
}
