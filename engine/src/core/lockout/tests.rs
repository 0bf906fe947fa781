use std::collections::{HashSet, VecDeque};

use super::{Answer, Key, Outcome, Settings, Table};
use crate::core::rng::Rng;
use crate::core::time::{Instant, Span};

const SETTINGS: Settings = Settings {
    failures_max: 5,
    window: Span::from_secs(900),
    duration: Span::from_secs(60),
    entries_max: 100,
};

fn key(name: &str) -> Key {
    Key {
        octets: name.as_bytes().into(),
        forgives: !name.starts_with('@'),
    }
}

/// Many at once under one key; how many were let in, and how many refused.
fn all_at_once(table: &mut Table<u32>, count: u32, outcome: Outcome, now: Instant) -> (usize, usize) {
    let keys = [key("ann")];
    let (mut flying, mut woken, mut next) = (VecDeque::new(), Vec::new(), Vec::new());
    let (mut let_in, mut refused) = (0, 0);
    let mut ready: VecDeque<(u32, bool)> = (0..count).map(|who| (who, false)).collect();
    loop {
        while let Some((who, again)) = ready.pop_front() {
            match table.attempt(&keys, who, again, now, &mut woken) {
                Answer::Go => {
                    let_in += 1;
                    flying.push_back(who);
                }
                Answer::Wait => {}
                Answer::Locked(_) => refused += 1,
                Answer::Full => panic!("there is room"),
            }
            next.append(&mut woken);
        }
        let Some(_) = flying.pop_front() else { break };
        table.settle(&keys, outcome, now, &mut next);
        ready.extend(next.drain(..).map(|who| (who, true)));
    }
    table.check_invariants(now).expect("in order");
    (let_in, refused)
}

#[test]
fn of_a_hundred_wrong_attempts_at_once_five_are_let_in() {
    let (mut table, now) = (Table::new(SETTINGS), Instant::from_secs(1));
    assert_eq!(all_at_once(&mut table, 100, Outcome::Wrong, now), (5, 95));
    assert_eq!(
        all_at_once(&mut table, 3, Outcome::Right, now),
        (0, 3),
        "the right one, too"
    );
    let over = now + SETTINGS.duration;
    assert_eq!(table.locked(now).len(), 1);
    assert_eq!(table.locked(over).len(), 0);
    assert_eq!(all_at_once(&mut table, 100, Outcome::Wrong, over), (5, 95), "and again");
}

#[test]
fn a_hundred_right_ones_at_once_are_all_let_in_also_after_four_wrong_ones() {
    let (mut table, now) = (Table::new(SETTINGS), Instant::from_secs(1));
    assert_eq!(all_at_once(&mut table, 4, Outcome::Wrong, now), (4, 0));
    assert_eq!(all_at_once(&mut table, 100, Outcome::Right, now), (100, 0));
    assert_eq!(
        all_at_once(&mut table, 4, Outcome::Wrong, now),
        (4, 0),
        "a success forgets failures"
    );
    assert_eq!(
        all_at_once(&mut table, 100, Outcome::Unknown, now),
        (100, 0),
        "no outcome is no failure"
    );
    assert_eq!(
        all_at_once(&mut table, 100, Outcome::Wrong, now),
        (1, 99),
        "and forgets none"
    );
}

#[test]
fn failures_are_forgotten_when_their_window_is_over_or_somebody_clears_them() {
    let (mut table, now) = (Table::new(SETTINGS), Instant::from_secs(1));
    all_at_once(&mut table, 4, Outcome::Wrong, now);
    let later = now + SETTINGS.window;
    assert_eq!(all_at_once(&mut table, 4, Outcome::Wrong, later), (4, 0));
    assert_eq!(all_at_once(&mut table, 1, Outcome::Wrong, later), (1, 0));
    assert_eq!(table.clear(|octets| octets == b"ann", &mut Vec::new()), 1);
    assert_eq!(table.clear(|octets| octets == b"ann", &mut Vec::new()), 0);
    assert_eq!(all_at_once(&mut table, 5, Outcome::Wrong, later), (5, 0));
}

#[test]
fn what_many_share_is_not_forgiven_by_one() {
    let (mut table, now) = (Table::<u32>::new(SETTINGS), Instant::from_secs(1));
    let mut woken = Vec::new();
    let mut attempt = |name: &str, outcome| {
        let keys = [key(name), key("@198.51.100.1")];
        match table.attempt(&keys, 1, false, now, &mut woken) {
            Answer::Go => table.settle(&keys, outcome, now, &mut woken),
            other => panic!("{other:?}"),
        }
    };
    for name in ["a", "b", "c", "d"] {
        assert!(!attempt(name, Outcome::Wrong));
        assert!(!attempt("me", Outcome::Right));
    }
    assert!(attempt("e", Outcome::Wrong), "the address is locked");
}

#[test]
fn the_least_recently_used_goes_and_never_a_lock() {
    let settings = Settings {
        entries_max: 2,
        ..SETTINGS
    };
    let (mut table, now) = (Table::<u32>::new(settings), Instant::from_secs(1));
    all_at_once(&mut table, 5, Outcome::Wrong, now);
    let mut woken = Vec::new();
    for name in ["b", "c", "d"] {
        let keys = [key(name)];
        assert_eq!(table.attempt(&keys, 1, false, now, &mut woken), Answer::Go);
        assert_eq!(table.attempt(&[key("other")], 2, false, now, &mut woken), Answer::Full);
        table.settle(&keys, Outcome::Unknown, now, &mut woken);
        assert_eq!(table.len(), 2);
    }
    assert!(matches!(
        table.attempt(&[key("ann")], 1, false, now, &mut woken),
        Answer::Locked(_)
    ));
}

/// Random attempts under two keys each, beside what must hold: no key has more failures than allowed, whatever overlaps, and
/// nobody waits for ever.
fn life(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut pick = |bound: usize| usize::try_from(rng.below(bound as u64)).expect("below it");
    let settings = Settings {
        failures_max: 1 + pick(4),
        entries_max: 64,
        ..SETTINGS
    };
    let mut table = Table::<u32>::new(settings);
    let mut now = Instant::from_secs(1);
    let (mut flying, mut waiting, mut ready) = (Vec::new(), HashSet::new(), VecDeque::new());
    let mut owners: Vec<[Key; 2]> = Vec::new();
    let mut woken = Vec::new();
    for step in 0..400 {
        let begin = step < 200 && pick(2) == 0;
        if begin {
            let (name, address) = (pick(4), pick(3));
            ready.push_back((u32::try_from(owners.len()).expect("a few"), false));
            owners.push([key(&format!("n{name}")), key(&format!("@{address}"))]);
        } else if step < 200 && pick(8) == 0 {
            // Somebody who waits, or was woken, gives up.
            let gone = waiting.iter().chain(ready.iter().map(|(who, _)| who)).copied().min();
            if let Some(who) = gone {
                waiting.remove(&who);
                ready.retain(|(other, _)| *other != who);
                table.leave(&owners[who as usize], who, now, &mut woken);
            }
        } else if !flying.is_empty() {
            let who: u32 = flying.swap_remove(pick(flying.len()));
            let outcome = [Outcome::Wrong, Outcome::Right, Outcome::Unknown][pick(3)];
            table.settle(&owners[who as usize], outcome, now, &mut woken);
        } else if pick(4) == 0 {
            now += Span::from_secs(pick(90) as u64);
        }
        loop {
            for who in woken.drain(..) {
                assert!(waiting.remove(&who), "seed {seed}: {who} did not wait");
                ready.push_back((who, true));
            }
            if ready.is_empty() || pick(3) == 0 && step < 390 {
                break;
            }
            let (who, again) = ready.pop_front().expect("somebody");
            match table.attempt(&owners[who as usize], who, again, now, &mut woken) {
                Answer::Go => flying.push(who),
                Answer::Wait => assert!(waiting.insert(who)),
                Answer::Locked(until) => assert!(until > now),
                Answer::Full => panic!("seed {seed}: there is room"),
            }
        }
        table
            .check_invariants(now)
            .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(
            step < 390 || !flying.is_empty() || waiting.is_empty(),
            "seed {seed}: nobody will wake {waiting:?}"
        );
    }
}

#[test]
fn random_lives_keep_the_invariants_and_nobody_waits_for_ever() {
    for seed in 0..2_000 {
        life(seed);
    }
}
