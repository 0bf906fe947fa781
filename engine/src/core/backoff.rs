//! How long to wait before another try at something that failed: doubling, bounded, never in step with others.

use super::rng::Rng;
use super::time::Span;

/// How far from the nominal wait an actual one may be, so that many who failed together do not return together.
const JITTER_PERCENT: u64 = 25;

/// The waits between tries of one thing. The first is about `base`, each further one twice the one before, up to
/// about `max`; every one of them is off by up to 25 % either way.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Span,
    max: Span,
    nominal: Span,
}

impl Backoff {
    /// A `max` below `base` counts as `base`.
    pub fn new(base: Span, max: Span) -> Self {
        Self {
            base,
            max: max.max(base),
            nominal: base,
        }
    }

    /// The wait after one more failure.
    pub fn next(&mut self, rng: &mut Rng) -> Span {
        let wait = self.nominal;
        self.nominal = (wait * 2).min(self.max);
        rng.jitter(wait, JITTER_PERCENT)
    }

    /// It worked: the next failure waits `base` again.
    pub fn reset(&mut self) {
        self.nominal = self.base;
    }
}

/// For a server: 0.5 s doubling to 30 s.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Span::from_millis(500), Span::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within_a_quarter(wait: Span, nominal_ms: u64) -> bool {
        (nominal_ms * 3 / 4..=nominal_ms * 5 / 4).contains(&wait.as_millis())
    }

    #[test]
    fn waits_double_up_to_the_bound_and_start_over_after_a_success() {
        let (mut backoff, mut rng) = (Backoff::default(), Rng::new(1));
        for nominal_ms in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000] {
            let wait = backoff.next(&mut rng);
            assert!(within_a_quarter(wait, nominal_ms), "{wait:?} for {nominal_ms} ms");
        }
        backoff.reset();
        assert!(within_a_quarter(backoff.next(&mut rng), 500));
    }

    #[test]
    fn two_who_fail_together_do_not_return_together() {
        let mut waits: Vec<_> = (0..100)
            .map(|seed| Backoff::default().next(&mut Rng::new(seed)))
            .collect();
        waits.sort();
        waits.dedup();
        assert!(waits.len() > 90, "{} different waits of 100", waits.len());
    }

    #[test]
    fn extreme_bounds_are_harmless() {
        let mut rng = Rng::new(1);
        assert_eq!(Backoff::new(Span::ZERO, Span::ZERO).next(&mut rng), Span::ZERO);
        let mut endless = Backoff::new(Span::MAX, Span::ZERO);
        assert!(endless.next(&mut rng) > Span::ZERO);
        assert!(endless.next(&mut rng) > Span::ZERO);
    }
}
