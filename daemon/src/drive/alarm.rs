//! When a worker wakes for what is due: an alarm that is set once and left, where each wait would set a timer and cancel it again
//! (4 % of a lone RADIUS request).
//!
//! What was due when it was set may be done with by then, or due later: so a worker is woken for nothing once in a while, and
//! at rest once at most, since the alarm is only set anew where something is due.

use std::time::Duration;

use engine::core::time::{Instant, Span};
use mio::Registry;

/// For what is due sooner a wait is ended in time itself.
const SOON: Span = Span::from_millis(20);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: Option<std::os::fd::OwnedFd>,
    /// When it goes off.
    at: Instant,
}

impl Alarm {
    /// One that wakes who waits at `registry`, as the inbox does. Where the system gives none, each wait has its own end.
    #[cfg(target_os = "linux")]
    pub(super) fn new(registry: &Registry) -> Alarm {
        use rustix::event::epoll::{EventData, EventFlags, add};
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).and_then(|timer| {
            let token = EventData::new_u64(crate::worker::INBOX.0 as u64);
            // Each time that it is set makes an edge: nobody reads it.
            add(registry, &timer, token, EventFlags::IN | EventFlags::ET).map(|()| timer)
        });
        if let Err(error) = &timer {
            tracing::debug!(%error, "no timer for a worker");
        }
        Alarm {
            timer: timer.ok(),
            at: Instant::ZERO,
        }
    }

    /// Elsewhere each wait has its own end.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn new(_: &Registry) -> Alarm {
        Alarm::default()
    }

    /// How long to wait at most, at `now`, where something is due at `due`.
    pub(super) fn timeout(&mut self, due: Instant, now: Instant) -> Option<Duration> {
        let wait = due.since(now);
        let goes_off = self.at > now && self.at <= due;
        if wait > SOON && (goes_off || self.set(due, wait)) {
            return None;
        }
        Some(Duration::from_micros(wait.as_micros()))
    }

    #[cfg(target_os = "linux")]
    fn set(&mut self, due: Instant, wait: Span) -> bool {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Ok(it_value) = Timespec::try_from(Duration::from_micros(wait.as_micros())) else {
            return false;
        };
        let value = Itimerspec {
            it_interval: zero,
            it_value,
        };
        let timer = self.timer.as_ref();
        let set = timer.is_some_and(|timer| timerfd_settime(timer, TimerfdTimerFlags::empty(), &value).is_ok());
        self.at = if set { due } else { Instant::ZERO };
        set
    }

    #[cfg(not(target_os = "linux"))]
    fn set(&mut self, _: Instant, _: Span) -> bool {
        false
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use mio::{Events, Poll};

    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Span::from_millis(millis)
    }

    #[test]
    fn it_is_set_once_for_all_that_is_due_later() {
        let poll = Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry());
        assert_eq!(alarm.timeout(at(5), at(1)), Some(Duration::from_millis(4)), "soon");
        assert_eq!(alarm.timeout(at(1000), at(1)), None);
        assert_eq!(alarm.at, at(1000));
        assert_eq!(alarm.timeout(at(3000), at(500)), None);
        assert_eq!(alarm.at, at(1000), "it goes off before, which is enough");
        assert_eq!(alarm.timeout(at(900), at(500)), None);
        assert_eq!(alarm.at, at(900), "set to what is due sooner");
        assert_eq!(alarm.timeout(at(3000), at(900)), None);
        assert_eq!(alarm.at, at(3000), "set anew when it has gone off");
        assert_eq!(
            alarm.timeout(at(3000), at(2990)),
            Some(Duration::from_millis(10)),
            "soon again"
        );
    }

    #[test]
    fn it_ends_a_wait_each_time() {
        let mut poll = Poll::new().unwrap();
        let mut alarm = Alarm::new(poll.registry());
        let mut events = Events::with_capacity(4);
        for round in 1..=3_u64 {
            let began = std::time::Instant::now();
            assert_eq!(alarm.timeout(at(round * 1000 + 60), at(round * 1000)), None);
            poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
            let waited = began.elapsed();
            assert!(waited >= Duration::from_millis(60), "round {round}: {waited:?}");
            assert!(waited < Duration::from_secs(20), "round {round}: {waited:?}");
            assert_eq!(
                events.iter().map(|event| event.token()).collect::<Vec<_>>(),
                [crate::worker::INBOX]
            );
        }
    }

    #[test]
    fn without_a_timer_each_wait_has_its_own_end() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.timeout(at(1000), at(1)), Some(Duration::from_millis(999)));
        assert_eq!(alarm.timeout(at(1000), at(2)), Some(Duration::from_millis(998)));
    }
}
