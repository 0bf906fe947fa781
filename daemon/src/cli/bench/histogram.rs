//! Latencies, counted in buckets whose width grows with their value.
//!
//! A sorted list of samples would grow with the run and cost the measured machine memory traffic; equal buckets would
//! either lose the fast or the slow. Here every power of two is cut into [`STEPS`] equal steps, so that a value read
//! back is at most 1/64 (1.6 %) above the one recorded, from 1 ns to 18 minutes, in 18 KiB. Recording allocates
//! nothing. Values beyond the last bucket are counted in it; the greatest one is kept exactly.

use std::time::Duration;

/// Steps per power of two, as a power of two itself.
const STEP_BITS: u32 = 6;
const STEPS: u64 = 1 << STEP_BITS;
/// The last value with a bucket of its own, in nanoseconds: 2^40 ns are 18 minutes.
const VALUE_BITS: u32 = 40;
const BUCKETS: usize = ((VALUE_BITS - STEP_BITS + 1) << STEP_BITS) as usize;

/// How often each latency was seen.
#[derive(Clone)]
pub(super) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max_ns: u64,
}

impl Histogram {
    /// An empty histogram.
    pub(super) fn new() -> Self {
        Histogram {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
            max_ns: 0,
        }
    }

    /// Counts one latency, in nanoseconds.
    pub(super) fn record(&mut self, value_ns: u64) {
        if let Some(count) = self.counts.get_mut(bucket_of(value_ns)) {
            *count += 1;
        }
        self.total += 1;
        self.max_ns = self.max_ns.max(value_ns);
    }

    /// Adds everything that `other` has counted.
    pub(super) fn add(&mut self, other: &Histogram) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine += theirs;
        }
        self.total += other.total;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many values were counted.
    pub(super) fn len(&self) -> u64 {
        self.total
    }

    /// The greatest value counted, exactly; zero when there is none.
    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The latency that `per_mille` of 1,000 values do not exceed (nearest rank, upper edge of its bucket, so never
    /// too good); zero when nothing was counted.
    pub(super) fn quantile(&self, per_mille: u64) -> Duration {
        let rank = (u128::from(self.total) * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut seen: u128 = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= rank {
                return Duration::from_nanos(upper_edge(bucket).min(self.max_ns));
            }
        }
        Duration::ZERO
    }
}

/// Values below two rounds of steps have a bucket each; above, the top seven bits choose.
fn bucket_of(value: u64) -> usize {
    let value = value.min((1 << VALUE_BITS) - 1);
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEP_BITS + 1);
    usize::try_from((u64::from(shift) << STEP_BITS) + (value >> shift)).unwrap_or(BUCKETS - 1)
}

/// The greatest value that falls into a bucket.
fn upper_edge(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = (bucket >> STEP_BITS) - 1;
    let step = bucket - (shift << STEP_BITS);
    ((step + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_a_bucket_whose_edge_is_at_most_a_64th_above_it() {
        let mut value = 1_u64;
        while value < 1 << VALUE_BITS {
            for near in [value - 1, value, value + 1, value + value / 3] {
                let near = near.min((1 << VALUE_BITS) - 1);
                let edge = upper_edge(bucket_of(near));
                assert!(edge >= near && edge - near <= near / 64, "{near} read back as {edge}");
            }
            value *= 2;
        }
    }

    #[test]
    fn quantiles_are_the_nearest_rank_of_the_sorted_values() {
        let mut histogram = Histogram::new();
        for value in (1..=100_000).rev() {
            histogram.record(value * 1000);
        }
        for (per_mille, exact) in [
            (500, 50_000_000),
            (990, 99_000_000),
            (999, 99_900_000),
            (1000, 100_000_000),
        ] {
            let read = u64::try_from(histogram.quantile(per_mille).as_nanos()).unwrap();
            assert!(
                read >= exact && read - exact <= exact / 64,
                "{per_mille}: {read} instead of {exact}"
            );
        }
        assert_eq!(histogram.max(), Duration::from_millis(100));
        assert_eq!(histogram.len(), 100_000);
    }

    #[test]
    fn what_is_added_counts_as_if_recorded_here() {
        let (mut left, mut right, mut both) = (Histogram::new(), Histogram::new(), Histogram::new());
        for value in 0..1000_u64 {
            let half = if value % 2 == 0 { &mut left } else { &mut right };
            half.record(value * value);
            both.record(value * value);
        }
        left.add(&right);
        assert_eq!(left.counts, both.counts);
        assert_eq!((left.len(), left.max()), (both.len(), both.max()));
    }

    #[test]
    fn nothing_counted_gives_zero_and_too_much_is_kept_as_the_maximum() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(999), Duration::ZERO);
        histogram.record(u64::MAX);
        assert_eq!(histogram.max(), Duration::from_nanos(u64::MAX));
        assert_eq!(histogram.len(), 1);
    }
}
