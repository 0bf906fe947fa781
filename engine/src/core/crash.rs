//! How often the upstreams of one server may crash before it is given a rest.
//!
//! Crashes within a window are counted. As many as the budget allows are replaced at once; with the last of them the server
//! *rests*: nothing is started for a back-off. After it, each further crash means another rest, about twice as long, until
//! a whole window has passed without one (rests not counted): then the budget is whole again.
//!
//! This is for upstreams of our own making, helper processes. What cannot be dialled has a plain back-off.

use std::collections::VecDeque;

use super::backoff::Backoff;
use super::rng::Rng;
use super::time::{Instant, Span};

/// The bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashConfig {
    /// Crashes within the window that lead to a rest; at least 1.
    pub max: u32,
    /// How long a crash counts.
    pub window: Span,
    /// The first rest; it doubles, and is off by 25 % either way.
    pub rest_min: Span,
    /// The longest rest.
    pub rest_max: Span,
}

/// Counts the crashes of one server.
#[derive(Debug, Clone)]
pub struct CrashBudget {
    config: CrashConfig,
    /// Times of crashes within the window, `max` at most.
    recent: VecDeque<Instant>,
    backoff: Backoff,
    /// The end of the last rest; none while the budget is whole.
    rested_until: Option<Instant>,
    last: Instant,
}

impl CrashBudget {
    /// A whole budget.
    pub fn new(config: CrashConfig) -> Self {
        Self {
            config,
            recent: VecDeque::new(),
            backoff: Backoff::new(config.rest_min, config.rest_max),
            rested_until: None,
            last: Instant::ZERO,
        }
    }

    /// Other bounds from now on; what is counted stays counted. The same bounds change nothing.
    pub fn set_config(&mut self, config: CrashConfig) {
        if self.config != config {
            self.config = config;
            self.backoff = Backoff::new(config.rest_min, config.rest_max);
        }
    }

    /// One more crash. Until when nothing is to be started, where this one was too many.
    pub fn crashed(&mut self, now: Instant, rng: &mut Rng) -> Option<Instant> {
        let window = self.config.window;
        let quiet_since = self.rested_until.map_or(self.last, |until| until.max(self.last));
        if now.since(quiet_since) >= window {
            self.rested_until = None;
            self.backoff.reset();
        }
        // A clock that jumped back makes nothing younger than now.
        self.recent.retain(|at| *at <= now && now.since(*at) < window);
        if self.recent.len() >= self.config.max as usize {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.last = now;
        let spent = self.recent.len() >= self.config.max.max(1) as usize;
        if !spent && self.rested_until.is_none() {
            return None;
        }
        let until = now + self.backoff.next(rng);
        self.rested_until = Some(until);
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: CrashConfig = CrashConfig {
        max: 3,
        window: Span::from_secs(60),
        rest_min: Span::from_secs(1),
        rest_max: Span::from_secs(8),
    };

    fn within_a_quarter(rest: Span, nominal: u64) -> bool {
        (nominal * 750..=nominal * 1_250).contains(&rest.as_millis())
    }

    #[test]
    fn as_many_as_allowed_are_replaced_and_then_rests_double() {
        let (mut budget, mut rng) = (CrashBudget::new(CONFIG), Rng::new(1));
        let mut now = Instant::from_secs(1_000);
        assert_eq!(budget.crashed(now, &mut rng), None);
        assert_eq!(budget.crashed(now, &mut rng), None);
        for nominal in [1, 2, 4, 8, 8] {
            let until = budget.crashed(now, &mut rng).unwrap();
            assert!(within_a_quarter(until.since(now), nominal), "{nominal}: {until:?}");
            now = until;
        }
    }

    #[test]
    fn crashes_that_are_far_apart_never_lead_to_a_rest() {
        let (mut budget, mut rng) = (CrashBudget::new(CONFIG), Rng::new(1));
        for minute in 0..100 {
            let at = Instant::from_secs(1_000 + minute * 31);
            assert_eq!(budget.crashed(at, &mut rng), None, "{minute}");
        }
    }

    #[test]
    fn a_program_that_stays_broken_is_tried_no_oftener_however_long_it_rests() {
        let config = CrashConfig {
            rest_max: Span::from_secs(300),
            ..CONFIG
        };
        let (mut budget, mut rng) = (CrashBudget::new(config), Rng::new(7));
        let mut now = Instant::from_secs(1_000);
        for _ in 0..2 {
            assert_eq!(budget.crashed(now, &mut rng), None);
        }
        let mut rest = Span::ZERO;
        for _ in 0..12 {
            let until = budget.crashed(now, &mut rng).expect("each is too many");
            rest = until.since(now);
            now = until + Span::from_secs(1);
        }
        assert!(within_a_quarter(rest, 300), "{rest:?}");
    }

    #[test]
    fn a_window_without_a_crash_makes_the_budget_whole() {
        let (mut budget, mut rng) = (CrashBudget::new(CONFIG), Rng::new(1));
        let now = Instant::from_secs(1_000);
        for _ in 0..5 {
            budget.crashed(now, &mut rng);
        }
        let later = now + Span::from_secs(100);
        assert_eq!(budget.crashed(later, &mut rng), None);
        assert_eq!(budget.crashed(later, &mut rng), None);
        let until = budget.crashed(later, &mut rng).unwrap();
        assert!(within_a_quarter(until.since(later), 1));
    }

    #[test]
    fn a_clock_that_jumps_back_neither_ends_nor_extends_anything_for_ever() {
        let (mut budget, mut rng) = (CrashBudget::new(CONFIG), Rng::new(1));
        let now = Instant::from_secs(1_000_000);
        for _ in 0..5 {
            budget.crashed(now, &mut rng);
        }
        let earlier = Instant::from_secs(1_000);
        let until = budget.crashed(earlier, &mut rng).unwrap();
        assert!(until.since(earlier) <= Span::from_secs(10));
        assert!(budget.recent.len() <= 3);
    }
}
