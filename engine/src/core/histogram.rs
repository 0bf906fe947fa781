//! How long things took: counts by powers of two, in a fixed space.

use super::time::Span;

/// The first bucket ends here (64 µs).
const FIRST_BITS: u32 = 6;
/// The last bucket with an end: 2^27 µs, some 134 s. What took longer is only in the total.
const BUCKETS: usize = 22;

/// Durations counted in buckets, each twice as wide as the one before.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    /// How many there were.
    pub count: u64,
    /// All of them together, microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// One more.
    #[inline]
    pub fn observe(&mut self, took: Span) {
        let us = took.as_micros();
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        if let Some(count) = self.counts.get_mut(bucket(us)) {
            *count += 1;
        }
    }

    /// The end of each bucket in microseconds, and how many took at most that long (cumulative, as Prometheus has it). The
    /// bucket without an end is `count`.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let ends = (FIRST_BITS..).map(|bits| 1_u64 << bits);
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        ends.zip(sums)
    }

    /// Those of another one as well.
    pub fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// The mean; zero of nothing.
    pub fn mean(&self) -> Span {
        Span::from_micros(self.sum_us.checked_div(self.count).unwrap_or(0))
    }
}

/// The bucket of so many microseconds: the ends belong to what they end.
fn bucket(us: u64) -> usize {
    let bits = u64::BITS - us.saturating_sub(1).leading_zeros();
    bits.saturating_sub(FIRST_BITS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_in_the_bucket_that_ends_at_or_after_it() {
        for us in [
            0,
            1,
            63,
            64,
            65,
            128,
            129,
            1_000,
            1_000_000,
            134_217_728,
            134_217_729,
            u64::MAX,
        ] {
            let mut histogram = Histogram::default();
            histogram.observe(Span::from_micros(us));
            assert_eq!((histogram.count, histogram.sum_us), (1, us));
            for (end, sum) in histogram.buckets() {
                assert_eq!(sum, u64::from(us <= end), "{us} in the bucket up to {end}");
            }
        }
    }

    #[test]
    fn ends_double_from_64_us_to_134_s() {
        let ends: Vec<u64> = Histogram::default().buckets().map(|(end, _)| end).collect();
        assert_eq!((ends[0], ends[21], ends.len()), (64, 134_217_728, 22));
        assert!(ends.windows(2).all(|two| two[1] == 2 * two[0]));
    }

    #[test]
    fn the_mean_is_the_sum_divided_and_nothing_has_none() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.mean(), Span::ZERO);
        histogram.observe(Span::from_millis(1));
        histogram.observe(Span::from_millis(3));
        assert_eq!(histogram.mean(), Span::from_millis(2));
    }
}
