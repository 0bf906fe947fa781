//! Self-clocked service time (seed 004): each request's own timestamps say how long an answer takes.
//!
//! An estimate is a moving mean in which the past loses force twice over: with every sample, and with time. So it follows
//! a server that changes whether it is asked ten times a minute or ten thousand times a second.

use super::time::{Instant, Span};

/// Time in which what was known loses half its force.
pub const HALF_LIFE: Span = Span::from_secs(2);

/// A sample's share in the mean is never below one in this many, however fast they come.
const WINDOW: u32 = 16;

/// An estimate without a sample for this long is no estimate.
const FORGOTTEN_AFTER: Span = Span::from_secs(32);

/// 1.0 in the fixed-point weights used here.
const ONE: u64 = 1 << 16;

/// The mean is kept in 1/256 µs, so that small steps are not lost to rounding.
const FRACTION_BITS: u32 = 8;

/// How long one server, upstream or worker takes to answer.
#[derive(Debug, Clone, Default)]
pub struct ServiceTime {
    mean: u64,
    samples: u32,
    sampled_at: Instant,
}

impl ServiceTime {
    /// One answer took `sample`. Anything below a microsecond counts as one.
    pub fn observe(&mut self, sample: Span, now: Instant) {
        let sample = sample.as_micros().clamp(1, u64::MAX >> FRACTION_BITS) << FRACTION_BITS;
        if self.forgotten(now) {
            *self = Self {
                mean: sample,
                samples: 1,
                sampled_at: now,
            };
            return;
        }
        self.samples = (self.samples + 1).min(WINDOW);
        let by_count = ONE / u64::from(self.samples);
        let by_age = ONE - force(now.since(self.sampled_at));
        self.mean = blend(self.mean, sample, by_count.max(by_age));
        self.sampled_at = now;
    }

    /// The mean time of an answer; zero if nothing is known (any more).
    pub fn estimate(&self, now: Instant) -> Span {
        if self.forgotten(now) { Span::ZERO } else { self.mean() }
    }

    /// How long a request would take that is sent behind `in_flight` others, if they are answered one after the other;
    /// zero if nothing was ever known.
    pub fn predicted(&self, in_flight: u32) -> Span {
        self.mean() * (u64::from(in_flight) + 1)
    }

    /// When the last sample came; [`Instant::ZERO`] if none did.
    pub fn sampled_at(&self) -> Instant {
        self.sampled_at
    }

    fn mean(&self) -> Span {
        Span::from_micros(self.mean >> FRACTION_BITS)
    }

    fn forgotten(&self, now: Instant) -> bool {
        self.samples == 0 || now.since(self.sampled_at) >= FORGOTTEN_AFTER
    }
}

/// What is left of a figure's force after `age`, of [`ONE`]: a half for each [`HALF_LIFE`], straight lines in between
/// (6 % above the true curve at most), so that the result is the same on every machine.
pub(crate) fn force(age: Span) -> u64 {
    let half_lives = age.as_micros() / HALF_LIFE.as_micros();
    let rest = age.as_micros() % HALF_LIFE.as_micros();
    let line = ONE - rest * (ONE / 2) / HALF_LIFE.as_micros();
    if half_lives >= 16 { 0 } else { line >> half_lives }
}

/// `old` moved towards `new` by `weight` of [`ONE`].
pub(crate) fn blend(old: u64, new: u64, weight: u64) -> u64 {
    let weight = u128::from(weight.min(ONE));
    let sum = u128::from(old) * (u128::from(ONE) - weight) + u128::from(new) * weight;
    u64::try_from(sum / u128::from(ONE)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fed(samples_ms: &[u64], every: Span) -> (ServiceTime, Instant) {
        let (mut time, mut now) = (ServiceTime::default(), Instant::from_secs(1));
        for &ms in samples_ms {
            now += every;
            time.observe(Span::from_millis(ms), now);
        }
        (time, now)
    }

    #[test]
    fn nothing_is_known_before_the_first_sample_and_long_after_the_last() {
        assert_eq!(ServiceTime::default().estimate(Instant::from_secs(1)), Span::ZERO);
        let (time, now) = fed(&[5], Span::ZERO);
        assert_eq!(time.estimate(now), Span::from_millis(5));
        assert_eq!(time.estimate(now + Span::from_secs(200)), Span::ZERO);
    }

    #[test]
    fn the_first_samples_count_alike_and_one_outlier_does_not_rule() {
        let (time, now) = fed(&[2, 4, 6], Span::from_millis(1));
        assert!((3_990..=4_010).contains(&time.estimate(now).as_micros()), "{time:?}");
        let mut many = vec![1; 100];
        many.push(100);
        let (time, now) = fed(&many, Span::from_millis(1));
        assert!(time.estimate(now).as_millis() <= 8, "{time:?}");
    }

    #[test]
    fn a_change_is_followed_at_any_rate() {
        let mut samples = vec![1; 50];
        samples.extend([100; 50]);
        let (fast, now) = fed(&samples, Span::from_millis(1));
        assert!(fast.estimate(now).as_millis() > 90, "{fast:?}");
        let (slow, now) = fed(&[1, 1, 1, 100, 100], Span::from_secs(10));
        assert!(slow.estimate(now).as_millis() > 90, "{slow:?}");
    }

    #[test]
    fn predicted_is_longer_behind_others() {
        let (time, _) = fed(&[3], Span::ZERO);
        assert_eq!(time.predicted(0), Span::from_millis(3));
        assert_eq!(time.predicted(4), Span::from_millis(15));
        assert_eq!(ServiceTime::default().predicted(4), Span::ZERO);
    }

    #[test]
    fn force_halves_with_each_half_life() {
        assert_eq!(force(Span::ZERO), ONE);
        assert_eq!(force(HALF_LIFE), ONE / 2);
        assert_eq!(force(HALF_LIFE * 3), ONE / 8);
        assert_eq!(force(HALF_LIFE / 2), ONE * 3 / 4);
        assert_eq!(force(Span::MAX), 0);
    }

    proptest! {
        #[test]
        fn the_estimate_stays_between_the_extremes(samples in prop::collection::vec((any::<u64>(), any::<u64>()), 1..40)) {
            let mut time = ServiceTime::default();
            for &(sample, at) in &samples {
                time.observe(Span::from_micros(sample), Instant::from_micros(at));
            }
            let clamped = samples.iter().map(|&(s, _)| s.clamp(1, u64::MAX >> FRACTION_BITS));
            let (low, high) = (clamped.clone().min().unwrap(), clamped.max().unwrap());
            let estimate = time.estimate(time.sampled_at()).as_micros();
            prop_assert!(estimate + 1 >= low && estimate <= high);
        }
    }
}
