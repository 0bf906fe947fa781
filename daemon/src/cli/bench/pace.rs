//! When operations are due, and what they are about: the schedule of a fixed rate, and the draws.

use std::time::Duration;

/// When operations are due at a fixed rate: the k-th at start + k x threads / rate, whatever has become of the others.
/// A latency is counted from there, so that a stalled server is charged for the operations it kept from being sent.
pub(super) struct Schedule {
    start_ns: u64,
    rate: u64,
    threads: u32,
    /// Operations sent.
    pub(super) taken: u64,
}

impl Schedule {
    /// For one of `threads` threads, from `now` on.
    pub(super) fn new(now: u64, rate: u64, threads: u32, thread: u32) -> Self {
        // Threads take turns.
        let start_ns = now.saturating_add(u64::from(thread) * 1_000_000_000 / rate.max(1));
        Schedule {
            start_ns,
            rate: rate.max(1),
            threads,
            taken: 0,
        }
    }

    /// When the next operation is due.
    pub(super) fn next_ns(&self) -> u64 {
        let offset = u128::from(self.taken) * 1_000_000_000 * u128::from(self.threads) / u128::from(self.rate);
        self.start_ns.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
    }

    /// Operations that should have been sent by `now`, and were not.
    pub(super) fn due_and_not_taken(&self, now: u64) -> u64 {
        let Some(elapsed) = now.checked_sub(self.start_ns) else {
            return 0;
        };
        let due = u128::from(elapsed) * u128::from(self.rate) / (1_000_000_000 * u128::from(self.threads.max(1))) + 1;
        u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(self.taken)
    }
}

/// SplitMix64: one multiplication chain per number, and the same numbers for the same seed.
pub(super) struct Random(u64);

impl Random {
    /// The sequence of a seed, another for each thread.
    pub(super) fn new(seed: u64, thread: u32) -> Self {
        Random(seed ^ u64::from(thread).wrapping_mul(0xA076_1D64_78BD_642F))
    }

    /// The next number, all 64 bits of it.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0; evenly, but for 2^-32 of it.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        let wide = (self.next() >> 32) * u64::from(bound);
        u32::try_from(wide >> 32).unwrap_or(0)
    }
}

/// Until the next operation, `mean` apart on average: always the same, or exponentially distributed (a Poisson process).
pub(super) fn gap(random: &mut Random, mean: Duration, poisson: bool) -> Duration {
    if !poisson {
        return mean;
    }
    // 53 bits, never 0: the logarithm is finite, at most 36.7 times the mean.
    #[allow(clippy::cast_precision_loss)]
    let uniform = ((random.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    mean.mul_f64(-uniform.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_at_the_rate_whatever_was_taken_when() {
        let mut schedule = Schedule::new(1_000, 3, 1, 0);
        let mut due = Vec::new();
        for _ in 0..4 {
            due.push(schedule.next_ns());
            schedule.taken += 1;
        }
        assert_eq!(due, [1_000, 333_334_333, 666_667_666, 1_000_001_000]);
        assert_eq!(schedule.due_and_not_taken(1_000_001_000), 0);
        assert_eq!(schedule.due_and_not_taken(3_000_001_000), 6);
        assert_eq!(schedule.due_and_not_taken(0), 0);
    }

    #[test]
    fn threads_take_turns() {
        let due: Vec<u64> = (0..2)
            .map(|thread| Schedule::new(0, 1000, 2, thread).next_ns())
            .collect();
        assert_eq!(due, [0, 1_000_000]);
    }

    #[test]
    fn draws_are_even_and_repeatable() {
        let mut random = Random::new(7, 0);
        let mut counts = [0_u32; 10];
        for _ in 0..100_000 {
            counts[random.below(10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(Random::new(7, 0).next(), Random::new(7, 0).next());
        assert_ne!(Random::new(7, 0).next(), Random::new(7, 1).next());
    }

    #[test]
    fn gaps_are_even_or_as_those_of_a_poisson_process() {
        let (mut random, mean) = (Random::new(7, 0), Duration::from_millis(1));
        assert_eq!(gap(&mut random, mean, false), mean);
        let gaps: Vec<f64> = (0..100_000)
            .map(|_| gap(&mut random, mean, true).as_secs_f64() * 1000.0)
            .collect();
        let average = gaps.iter().sum::<f64>() / 100_000.0;
        // Of an exponential distribution 1/e is above the mean.
        let above = gaps.iter().filter(|gap| **gap > 1.0).count();
        assert!((0.98..1.02).contains(&average), "{average}");
        assert!((36_000..37_500).contains(&above), "{above}");
    }
}
