use std::collections::{HashMap, VecDeque};

use super::{Begun, Bucket, Entry, Quota, Rate, Refused, Table};
use crate::core::rng::Rng;
use crate::core::time::{Instant, Span};

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

fn small(rng: &mut Rng, bound: u32) -> u32 {
    u32::try_from(rng.below(bound.into())).expect("below it")
}

/// The earliest moment that keeps the law, found by looking at every one before: of any span, at most `burst + span * rate`.
#[derive(Default)]
struct Law {
    moments_ns: Vec<u64>,
}

impl Law {
    fn next_ns(&self, interval_ns: u64, burst: u64, now_ns: u64) -> u64 {
        let count = self.moments_ns.len() as u64;
        let bounds = self.moments_ns.iter().enumerate().map(|(place, moment)| {
            let among = count - place as u64 + 1;
            moment + among.saturating_sub(burst) * interval_ns
        });
        bounds.max().unwrap_or(0).max(now_ns)
    }
}

#[test]
fn each_is_given_the_earliest_moment_that_keeps_the_law() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let (per_second, burst) = (1 + small(&mut rng, 2_000), 1 + small(&mut rng, 20));
        let (rate, interval_ns) = (Rate::new(per_second, burst), 1_000_000_000 / u64::from(per_second));
        let (mut bucket, mut law) = (Bucket::default(), Law::default());
        let mut now = at(rng.below(1_000_000));
        for _ in 0..200 {
            if rng.below(3) == 0 {
                now += Span::from_micros(rng.below(3 * interval_ns / 1000 + 2));
            }
            let due_ns = law.next_ns(interval_ns, u64::from(burst), now.as_micros() * 1000);
            let due = at(due_ns.div_ceil(1000));
            let until = now + Span::from_micros(rng.below(20_000));
            let taken = bucket.take(rate, now, until);
            assert_eq!(taken, (due <= until).then_some(due), "seed {seed}");
            if taken.is_some() {
                law.moments_ns.push(due_ns);
            }
        }
    }
}

#[test]
fn a_burst_then_the_rate_then_a_burst_again() {
    let (rate, mut bucket) = (Rate::new(10, 3), Bucket::default());
    let mut take = |now: u64| bucket.take(rate, at(now), Instant::MAX).map(Instant::as_micros);
    assert_eq!([take(5), take(5), take(5)], [Some(5); 3]);
    assert_eq!([take(5), take(6)], [Some(100_005), Some(200_005)]);
    assert_eq!(
        [take(2_000_000), take(2_000_000), take(2_000_000)],
        [Some(2_000_000); 3]
    );
    assert_eq!(take(2_000_000), Some(2_100_000));
    assert!(!bucket.is_full(at(2_399_999)));
    assert!(bucket.is_full(at(2_400_000)));
}

#[test]
fn what_is_not_given_costs_nothing_and_no_clock_does_harm() {
    let (rate, mut bucket) = (Rate::new(1, 1), Bucket::default());
    assert_eq!(bucket.take(rate, at(0), at(0)), Some(at(0)));
    for _ in 0..100 {
        assert_eq!(bucket.take(rate, at(10), at(999_999)), None);
    }
    assert_eq!(bucket.take(rate, at(10), at(1_000_000)), Some(at(1_000_000)));
    assert!(bucket.take(rate, Instant::MAX, Instant::MAX).is_some());
    assert_eq!(bucket.take(rate, at(0), at(1)), None);
}

fn connections(connections_max: usize, connects: Option<Rate>) -> Entry<u32> {
    Entry::new(Quota {
        connections_max,
        connects,
        ..Quota::default()
    })
}

#[test]
fn so_many_connections_and_no_more_and_so_many_in_a_second() {
    let mut entry = connections(2, None);
    assert_eq!([entry.connect(at(0)), entry.connect(at(0))], [Ok(()), Ok(())]);
    assert_eq!(entry.connect(at(0)), Err(Refused::Connections));
    entry.disconnect();
    assert_eq!(entry.connect(at(0)), Ok(()));
    let mut entry = connections(0, Some(Rate::new(1, 2)));
    assert_eq!([entry.connect(at(0)), entry.connect(at(0))], [Ok(()), Ok(())]);
    assert_eq!(entry.connect(at(0)), Err(Refused::Rate));
    assert_eq!(entry.connections(), 2);
    assert_eq!(entry.connect(at(1_000_000)), Ok(()));
    for _ in 0..3 {
        entry.disconnect();
    }
    assert!(!entry.is_forgettable(at(1_000_000)), "what it has used is remembered");
    assert!(entry.is_forgettable(at(3_000_000)));
}

/// Operations that come, wait, give up and end at random, beside a queue of the plainest kind; the limit changes now and then.
#[test]
fn places_are_never_too_many_and_go_to_those_who_waited_longest() {
    for seed in 0..1_000 {
        let mut rng = Rng::new(seed);
        let mut pick = |bound: u64| usize::try_from(rng.below(bound)).expect("below it");
        let quota = |pending_max| Quota {
            pending_max,
            ..Quota::default()
        };
        let mut max = 1 + pick(4);
        let mut entry = Entry::new(quota(max));
        let (mut going, mut queue) = (0_usize, VecDeque::new());
        for who in 0..300_u32 {
            match pick(10) {
                0..4 => {
                    let waits = pick(4) > 0;
                    let expected = match (going < max && queue.is_empty(), waits) {
                        (true, _) => Begun::Go,
                        (false, true) => Begun::Wait,
                        (false, false) => Begun::Full,
                    };
                    assert_eq!(entry.begin(waits.then_some(who)), expected, "seed {seed}");
                    match expected {
                        Begun::Go => going += 1,
                        Begun::Wait => queue.push_back(who),
                        Begun::Full => {}
                    }
                }
                4..8 if going > 0 => {
                    going -= 1;
                    let next = if going < max { queue.pop_front() } else { None };
                    assert_eq!(entry.end(), next, "seed {seed}");
                    going += usize::from(next.is_some());
                }
                8 if !queue.is_empty() => {
                    let who = queue.remove(pick(queue.len() as u64)).expect("one of them");
                    assert!(entry.leave(who));
                    assert!(!entry.leave(who), "it does not wait any more");
                }
                _ => {
                    max = 1 + pick(4);
                    let (mut woken, mut expected) = (Vec::new(), Vec::new());
                    entry.configure(quota(max), &mut woken);
                    while going < max {
                        let Some(next) = queue.pop_front() else { break };
                        expected.push(next);
                        going += 1;
                    }
                    assert_eq!(woken, expected, "seed {seed}");
                }
            }
            assert_eq!(entry.pending(), going, "seed {seed}");
            entry
                .check_invariants()
                .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        }
    }
}

#[test]
fn what_is_held_stays_and_of_the_rest_what_was_held_last() {
    let mut table: Table<u32, u32> = Table::new(2);
    assert_eq!(table.hold(&1, || 10), Some(10));
    assert_eq!(table.hold(&2, || 20), Some(20));
    assert_eq!(table.hold(&3, || 30), None, "both are held");
    table.release(&2, |_| false);
    table.release(&1, |_| false);
    assert_eq!(table.hold(&3, || 30), Some(30), "2 was let go of first");
    assert_eq!(table.hold(&1, || 11), Some(10), "it is remembered");
    table.release(&1, |_| true);
    assert_eq!(table.hold(&1, || 12), Some(12), "it had nothing to remember");
}

#[test]
fn random_holders_keep_the_table_in_order() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let mut table: Table<u64, ()> = Table::new(8);
        let mut held: HashMap<u64, usize> = HashMap::new();
        for _ in 0..300 {
            let key = rng.below(12);
            if rng.below(2) == 0 {
                let may = held.contains_key(&key) || held.len() < 8;
                assert_eq!(table.hold(&key, || ()).is_some(), may, "seed {seed}");
                if may {
                    *held.entry(key).or_default() += 1;
                }
            } else if let Some(count) = held.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    held.remove(&key);
                }
                let forgettable = rng.below(2) == 0;
                table.release(&key, |()| forgettable);
            }
            assert!(table.len() <= 8 && table.len() >= held.len());
            table
                .check_invariants()
                .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        }
        table.set_entries_max(0);
        assert_eq!(table.len(), held.len(), "seed {seed}: what is held stays");
    }
}
