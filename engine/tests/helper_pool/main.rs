//! Pools of helpers, told and read from outside: what a person who writes `[service.NAME]` is promised, one promise at a time,
//! and, in `model`, random lives of a pool beside a model of a few lines.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    missing_docs,
    reason = "a test"
)]

mod model;
mod steady;
mod tested;

use engine::core::time::Span;
use engine::core::{Cause, Drain, Reason};
use tested::{Settings, Tested};

#[test]
fn a_request_whose_starting_helper_dies_gets_the_next_one() {
    let mut pool = Tested::new(Settings::default());
    assert_eq!(pool.opened(), 1, "populated to the minimum");
    pool.submit();
    for _ in 0..3 {
        pool.down(pool.starting()[0], Cause::OpenFailed);
        assert_eq!(
            (pool.opened(), pool.failed().len()),
            (1, 0),
            "another, at once, and nobody is told anything"
        );
    }
    pool.up_all();
    assert_eq!(pool.sent().len(), 1);
    assert_eq!(pool.pool.stats().crashes, 3);
}

#[test]
fn after_too_many_crashes_who_waits_is_told_and_who_comes_is_told_at_once_until_the_rest_is_over() {
    let mut pool = Tested::new(Settings {
        crash_max: 3,
        ..Settings::default()
    });
    pool.submit();
    for _ in 0..3 {
        assert!(pool.failed().is_empty());
        pool.down(pool.starting()[0], Cause::OpenFailed);
    }
    assert_eq!(pool.failed(), [(Reason::Unavailable, false)]);
    assert_eq!(pool.starting().len(), 0, "it rests");
    pool.submit();
    assert_eq!(pool.failed().len(), 2);
    assert_eq!(
        (pool.pool.stats().rests, pool.pool.is_populated(), pool.pool.is_ready()),
        (1, false, false)
    );
    pool.wait(Span::from_secs(2));
    assert_eq!(pool.starting().len(), 1, "it is tried again by itself");
    pool.submit();
    assert_eq!(pool.failed().len(), 2, "and waited for");
    // One more is too many at once.
    pool.down(pool.starting()[0], Cause::OpenFailed);
    assert_eq!((pool.failed().len(), pool.starting().len()), (3, 0));
    pool.wait(Span::from_secs(10));
    pool.up_all();
    pool.submit();
    assert_eq!((pool.sent().len(), pool.pool.is_populated()), (1, true));
}

#[test]
fn a_crash_ends_the_calls_of_that_helper_alone_and_it_is_replaced_at_once() {
    let mut pool = Tested::new(Settings {
        min: 3,
        ..Settings::default()
    });
    pool.up_all();
    pool.submit();
    pool.submit();
    let (_, helper) = pool.sent()[0];
    pool.opened();
    pool.down(helper, Cause::Lost);
    assert_eq!(pool.failed(), [(Reason::UpstreamLost { delivered: false }, true)]);
    assert_eq!((pool.opened(), pool.sent().len()), (1, 1));
    assert!(
        pool.pool.is_populated(),
        "what is replaced now and then does not make it unready"
    );
}

#[test]
fn helpers_that_are_left_serve_while_the_others_rest() {
    let mut pool = Tested::new(Settings {
        min: 3,
        crash_max: 2,
        ..Settings::default()
    });
    pool.up_all();
    for _ in 0..2 {
        let helper = pool.ready()[0];
        pool.down(helper, Cause::Lost);
    }
    assert_eq!((pool.ready().len(), pool.pool.stats().rests), (1, 1));
    for _ in 0..5 {
        pool.submit();
        pool.answer_all();
    }
    assert_eq!((pool.failed().len(), pool.answered), (0, 5));
}

#[test]
fn a_killed_helper_is_no_crash_and_is_replaced_before_it_is_gone_where_there_is_room() {
    let mut pool = Tested::new(Settings {
        min: 1,
        max: 2,
        ..Settings::default()
    });
    pool.up_all();
    pool.opened();
    let call = pool.submit();
    pool.cancel(call);
    assert_eq!((pool.interrupted.len(), pool.opened()), (1, 0), "it may come back");
    pool.wait(Span::from_secs(1));
    assert_eq!((pool.killed.len(), pool.opened()), (1, 1));
    let killed = pool.killed[0];
    pool.down(killed, Cause::Lost);
    assert_eq!((pool.pool.stats().crashes, pool.opened()), (0, 0));
}

#[test]
fn an_interrupted_helper_that_comes_back_serves_though_all_others_have_died() {
    let mut pool = Tested::new(Settings {
        min: 2,
        max: 2,
        ..Settings::default()
    });
    pool.up_all();
    let call = pool.submit();
    let (_, helper) = pool.sent()[0];
    pool.cancel(call);
    let other = pool.ready().into_iter().find(|one| *one != helper).unwrap();
    pool.down(other, Cause::Lost);
    pool.acknowledge(call, helper);
    pool.submit();
    assert_eq!(pool.sent().len(), 1);
    assert_eq!(pool.failed(), [(Reason::Canceled, true)]);
}

#[test]
fn one_that_was_told_to_end_counts_until_it_is_gone_and_is_killed_after_the_grace() {
    let mut pool = Tested::new(Settings {
        min: 0,
        max: 1,
        idle: Span::from_secs(60),
        ..Settings::default()
    });
    pool.submit();
    pool.up_all();
    pool.answer_all();
    pool.wait(Span::from_secs(60));
    assert_eq!((pool.closed.len(), pool.killed.len()), (1, 0));
    pool.opened();
    pool.submit();
    assert_eq!(
        (pool.opened(), pool.failed().len()),
        (0, 0),
        "there is no room yet: it waits"
    );
    pool.wait(Span::from_secs(1));
    assert_eq!(pool.killed, pool.closed);
    pool.down(pool.killed[0], Cause::Lost);
    assert_eq!((pool.opened(), pool.pool.stats().crashes), (1, 0));
    pool.up_all();
    assert_eq!(pool.sent().len(), 1);
}

#[test]
fn no_more_than_allowed_start_at_the_same_time() {
    let mut pool = Tested::new(Settings {
        min: 10,
        starting_max: 3,
        ..Settings::default()
    });
    let mut ready = 0;
    while ready < 10 {
        assert!((1..=3).contains(&pool.starting().len()), "{} of 10 are ready", ready);
        pool.up(pool.starting()[0], 1);
        ready += 1;
        assert_eq!(pool.pool.is_populated(), ready == 10);
    }
    assert_eq!(pool.starting().len(), 0);
    for _ in 0..16 {
        pool.submit();
    }
    assert_eq!(pool.starting().len(), 3, "for those that wait, too");
}

#[test]
fn helpers_that_take_several_calls_get_the_least_busy_first_and_no_more_than_they_declare() {
    let mut pool = Tested::new(Settings {
        min: 2,
        max: 2,
        concurrency: 4,
        ..Settings::default()
    });
    let starting = pool.starting();
    pool.up(starting[0], 2);
    pool.up(starting[1], 100);
    let mut has = [0, 0];
    for call in 0..7 {
        pool.submit();
        let (_, helper) = *pool.sent().last().unwrap();
        if call < 6 {
            has[usize::from(helper == starting[1])] += 1;
        }
        if call == 1 {
            assert_eq!(has, [1, 1], "the idle one first");
        }
    }
    assert_eq!(
        (has, pool.pool.queued()),
        ([2, 4], 1),
        "two as declared, four as allowed"
    );
}

#[test]
fn a_rolling_restart_opens_first_where_there_is_room_and_never_has_fewer_than_before() {
    let mut pool = Tested::new(Settings {
        min: 4,
        max: 6,
        ..Settings::default()
    });
    pool.up_all();
    let old = pool.ready();
    pool.recycle_all();
    let mut steps = 0;
    while pool.ready().iter().any(|one| old.contains(one)) {
        assert!(pool.ready().len() >= 4, "{} ready", pool.ready().len());
        pool.submit();
        pool.answer_all();
        pool.settle_one();
        steps += 1;
        assert!(steps < 100, "it does not come to an end");
    }
    pool.settle_all();
    assert_eq!((pool.ready().len(), pool.failed().len(), pool.answered), (4, 0, steps));
}

#[test]
fn a_rolling_restart_at_the_maximum_goes_a_few_at_a_time_and_refuses_nobody() {
    let mut pool = Tested::new(Settings {
        min: 8,
        max: 8,
        ..Settings::default()
    });
    pool.up_all();
    let old = pool.ready();
    for _ in 0..20 {
        pool.submit();
    }
    pool.recycle_all();
    let mut steps = 0;
    while pool.ready().iter().any(|one| old.contains(one)) {
        assert!(
            pool.pool.census().leaving + pool.pool.census().starting <= 2,
            "a quarter"
        );
        pool.answer_one();
        pool.submit();
        pool.settle_one();
        steps += 1;
        assert!(steps < 200, "it does not come to an end");
    }
    assert_eq!(pool.failed().len(), 0);
}

#[test]
fn a_new_program_that_does_not_start_leaves_the_old_helpers_at_work() {
    let mut pool = Tested::new(Settings {
        min: 4,
        max: 8,
        crash_max: 3,
        ..Settings::default()
    });
    pool.up_all();
    pool.recycle_all();
    for _ in 0..50 {
        if let Some(starting) = pool.starting().first() {
            pool.down(*starting, Cause::OpenFailed);
        }
        pool.submit();
        pool.answer_all();
        pool.wait(Span::from_secs(1));
    }
    assert_eq!((pool.ready().len(), pool.failed().len(), pool.answered), (4, 0, 50));
    assert!(pool.opened() < 20, "and is tried at the pace of the back-off");
}

#[test]
fn what_is_not_missed_is_not_replaced() {
    let mut pool = Tested::new(Settings {
        min: 0,
        max: 4,
        ..Settings::default()
    });
    pool.submit();
    pool.up_all();
    pool.recycle_all();
    assert_eq!(pool.closed.len(), 0, "its call is finished first");
    pool.opened();
    pool.answer_all();
    assert_eq!((pool.closed.len(), pool.opened()), (1, 0));
}

#[test]
fn lower_bounds_are_taken_up_without_a_refused_call() {
    let mut pool = Tested::new(Settings {
        min: 6,
        max: 8,
        ..Settings::default()
    });
    pool.up_all();
    for _ in 0..12 {
        pool.submit();
    }
    pool.up_all();
    pool.configure(Settings {
        min: 1,
        max: 2,
        queue_max: 1,
        ..Settings::default()
    });
    for _ in 0..40 {
        pool.answer_one();
        pool.settle_one();
    }
    assert_eq!((pool.failed().len(), pool.answered, pool.ready().len()), (0, 12, 2));
    pool.configure(Settings {
        min: 5,
        max: 8,
        ..Settings::default()
    });
    pool.up_all();
    assert_eq!(pool.ready().len(), 5);
}

#[test]
fn to_wait_for_a_helper_that_starts_is_not_to_have_reached_the_maximum() {
    let mut pool = Tested::new(Settings {
        min: 0,
        max: 1,
        ..Settings::default()
    });
    pool.submit();
    assert!(!pool.pool.is_saturated());
    assert_eq!(pool.pool.stats().saturations, 0);
    pool.submit();
    assert!(pool.pool.is_saturated(), "one more is wanted than there may be");
    assert_eq!(pool.pool.stats().saturations, 1);
}

#[test]
fn reaching_the_maximum_is_counted_once_for_each_queue() {
    let mut pool = Tested::new(Settings {
        max: 1,
        ..Settings::default()
    });
    pool.up_all();
    for round in 1..=3 {
        for _ in 0..4 {
            pool.submit();
        }
        assert!(pool.pool.is_saturated());
        assert_eq!(pool.pool.stats().saturations, round);
        pool.answer_all();
        assert!(!pool.pool.is_saturated());
    }
}

#[test]
fn waits_and_times_are_measured_and_reasons_counted() {
    let mut pool = Tested::new(Settings {
        max: 1,
        queue_max: 1,
        queue_wait_max: Span::from_secs(2),
        ..Settings::default()
    });
    pool.up_all();
    pool.submit();
    pool.submit();
    pool.submit();
    assert_eq!(pool.failed(), [(Reason::QueueFull, false)]);
    pool.wait(Span::from_secs(1));
    assert_eq!(pool.pool.oldest_wait(pool.now), Some(Span::from_secs(1)));
    pool.answer_one();
    assert_eq!(pool.pool.oldest_wait(pool.now), None);
    pool.submit();
    pool.wait(Span::from_secs(3));
    assert_eq!(pool.failed().last(), Some(&(Reason::QueueTimeout, false)));
    pool.answer_one();
    let (waits, times) = (pool.pool.queue_wait(), pool.pool.service_time());
    assert_eq!((waits.count, waits.sum_us), (2, 1_000_000));
    assert_eq!((times.count, times.sum_us), (2, 4_000_000));
    let stats = pool.pool.stats();
    assert_eq!((stats.failures.queue_full, stats.failures.queue_timeout), (1, 1));
    assert_eq!((stats.failed, stats.failed_sent), (2, 0));
}

#[test]
fn a_drain_finishes_what_is_open_says_goodbye_and_waits_until_all_are_gone() {
    let mut pool = Tested::new(Settings {
        min: 3,
        ..Settings::default()
    });
    pool.up_all();
    let call = pool.submit();
    let (_, helper) = pool.sent()[0];
    pool.drain(Drain::Gentle);
    pool.submit();
    assert_eq!(pool.failed(), [(Reason::ShuttingDown, false)]);
    pool.drain(Drain::Firm);
    assert_eq!(pool.failed()[1], (Reason::ShuttingDown, true));
    assert_eq!((pool.closed.len(), pool.interrupted.len()), (2, 1));
    pool.acknowledge(call, helper);
    assert_eq!(pool.closed.len(), 3, "once it has come back");
    assert!(!pool.pool.is_gone());
    for helper in pool.closed.clone() {
        pool.down(helper, Cause::Ended);
    }
    assert!(pool.pool.is_gone());
}
