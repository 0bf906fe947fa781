//! A small seeded source of chance for choices that no adversary gains from predicting: which of two servers, how much jitter.
//!
//! The seed comes from outside, so a run can be replayed exactly. Never use it for secrets.

use super::time::Span;

/// SplitMix64 (Steele, Lea, Flood 2014): one add and one mix per draw, a period of 2^64, and every seed is a good one.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The same seed gives the same draws.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 uniform bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `0..bound`, with a bias below `bound / 2^64`; 0 if `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        let wide = self.next_u64() as u128 * bound as u128;
        // The high half of a product of two u64 always fits.
        (wide >> 64) as u64
    }

    /// [`below`](Self::below) for positions in a slice.
    #[expect(clippy::cast_possible_truncation, reason = "the draw is below a usize")]
    pub const fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True with probability `numerator / denominator`; never if the denominator is 0.
    pub const fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator && denominator > 0
    }

    /// `span`, made up to `percent` per cent (at most 100) longer or shorter, uniformly.
    pub fn jitter(&mut self, span: Span, percent: u64) -> Span {
        let reach = (span / 100) * percent.min(100);
        let width = reach.as_micros().saturating_mul(2).saturating_add(1);
        span - reach + Span::from_micros(self.below(width))
    }
}

/// The finaliser of SplitMix64: a bijection in which every input bit reaches every output bit.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_sequence_comes_out() {
        // From the authors' published C program, seed 1234567.
        let mut rng = Rng::new(1_234_567);
        let drawn = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut rng = Rng::new(7);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[rng.index(10)] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1_200).contains(&n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
    }

    #[test]
    fn chance_keeps_its_probability() {
        let mut rng = Rng::new(7);
        let hits = (0..10_000).filter(|_| rng.chance(1, 4)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert!(!rng.chance(1, 0));
        assert!(!rng.chance(0, 4));
        assert!(rng.chance(4, 4));
    }

    #[test]
    fn jitter_stays_within_its_reach_on_both_sides() {
        let mut rng = Rng::new(7);
        let span = Span::from_millis(1_000);
        let drawn: Vec<_> = (0..1_000).map(|_| rng.jitter(span, 25)).collect();
        assert!(drawn.iter().all(|d| (750..=1_250).contains(&d.as_millis())));
        assert!(drawn.iter().any(|d| d.as_millis() < 800));
        assert!(drawn.iter().any(|d| d.as_millis() > 1_200));
        assert_eq!(rng.jitter(Span::ZERO, 25), Span::ZERO);
        assert!(rng.jitter(Span::MAX, 100) > Span::ZERO);
    }
}
