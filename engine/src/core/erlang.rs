//! How many helpers are enough: the queue M/M/c, Erlang's second formula (Erlang C).
//!
//! Requests come at random (Poisson), at a rate; each takes a time, exponentially distributed; `c` helpers take them in the
//! order in which they came, and nobody gives up. Then, with the load a = rate x time in Erlangs and a < c:
//!
//! - B, the part that finds all busy where nobody waits (Erlang B): B(0) = 1, B(n) = a B(n-1) / (n + a B(n-1));
//! - C, the part that has to wait (Erlang C): B / (1 - (a/c)(1 - B));
//! - the mean wait: C x time / (c - a);
//! - the part that waits longer than t: C exp(-(c - a) t / time).
//!
//! With times that vary less than exponentially the waits are shorter: by half where every request takes equally long. With a
//! at or above c the queue grows without end, and only its bound ends it. (A. K. Erlang, 1917; L. Kleinrock, Queueing
//! Systems, volume 1, 3.5.)

use super::time::Span;

/// More helpers than anybody has, and more than are looked at.
pub const HELPERS_MAX: u32 = 10_000;

/// Busier than this is not recommended: what is left is little for a load that is not quite as thought.
const UTILISATION_MAX: f64 = 0.85;

/// What is asked of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Requests per second.
    pub rate: f64,
    /// Seconds that one request takes its helper.
    pub time: f64,
}

/// How so many helpers would do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// How many.
    pub helpers: u32,
    /// The part of the time that each is busy; 1 and above: there are too few.
    pub utilisation: f64,
    /// Where there are enough.
    pub waiting: Option<Waiting>,
}

/// How long requests wait for a helper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Waiting {
    /// The part of the requests that find no free helper.
    pub probability: f64,
    /// Mean wait of all requests, those that do not wait included, seconds.
    pub mean: f64,
    /// 99 of 100 requests wait no longer, seconds.
    pub p99: f64,
}

impl Load {
    /// Mean number of requests being worked on: the load in Erlangs.
    pub fn erlangs(&self) -> f64 {
        self.rate * self.time
    }

    /// How `helpers` would do.
    pub fn row(&self, helpers: u32) -> Row {
        let (load, count) = (self.erlangs(), f64::from(helpers));
        let utilisation = if helpers == 0 { f64::INFINITY } else { load / count };
        let waiting = (utilisation < 1.0).then(|| {
            let lost = (1..=helpers).fold(1.0, |lost, n| load * lost / (f64::from(n) + load * lost));
            let probability = lost / (1.0 - utilisation * (1.0 - lost));
            // The waits of those that wait are exponential, with this mean.
            let mean_of_waits = self.time / (count - load);
            Waiting {
                probability,
                mean: probability * mean_of_waits,
                p99: (probability / 0.01).ln().max(0.0) * mean_of_waits,
            }
        });
        Row {
            helpers,
            utilisation,
            waiting,
        }
    }

    /// The fewest helpers that are enough: no busier than 85 %, and 99 of 100 requests wait no longer than `wait_max`. None
    /// where not even [`HELPERS_MAX`] are.
    pub fn enough(&self, wait_max: Span) -> Option<u32> {
        let most = seconds(wait_max);
        let fits =
            |row: &Row| row.utilisation <= UTILISATION_MAX && row.waiting.is_some_and(|waiting| waiting.p99 <= most);
        // Both only fall with more helpers.
        let (mut too_few, mut enough) = (0, HELPERS_MAX);
        if !fits(&self.row(enough)) {
            return None;
        }
        while enough - too_few > 1 {
            let middle = too_few + (enough - too_few) / 2;
            if fits(&self.row(middle)) {
                enough = middle;
            } else {
                too_few = middle;
            }
        }
        Some(enough)
    }

    /// The fewest helpers with which the queue does not grow without end; more than [`HELPERS_MAX`] count as that many.
    pub fn stable(&self) -> u32 {
        let mut helpers = 1;
        while helpers < HELPERS_MAX && f64::from(helpers) <= self.erlangs() {
            helpers += 1;
        }
        helpers
    }
}

fn seconds(span: Span) -> f64 {
    span.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() <= expected.abs() * 1e-4
    }

    /// The part that waits, from printed tables of the formula.
    #[test]
    fn known_values_of_the_formula() {
        for (erlangs, helpers, probability) in [
            (0.5, 1, 0.5),
            (1.0, 2, 1.0 / 3.0),
            (2.0, 3, 4.0 / 9.0),
            (5.0, 6, 0.587_52),
            (9.0, 10, 0.668_731),
            (10.0, 14, 0.174_132),
            (20.0, 25, 0.209_103),
        ] {
            let load = Load {
                rate: erlangs,
                time: 1.0,
            };
            let found = load.row(helpers).waiting.unwrap();
            let direct = direct(erlangs, helpers);
            assert!(
                close(found.probability, direct),
                "{erlangs} {helpers}: {found:?}, {direct}"
            );
            assert!(
                close(found.probability, probability),
                "{erlangs} {helpers}: {found:?}, {probability}"
            );
        }
    }

    /// The formula as it is printed: (a^c / c!) (c / (c - a)) / (sum of a^k / k! below c, and that).
    fn direct(load: f64, helpers: u32) -> f64 {
        let mut term = 1.0;
        let mut sum = 0.0;
        for k in 0..helpers {
            sum += term;
            term *= load / f64::from(k + 1);
        }
        let last = term * f64::from(helpers) / (f64::from(helpers) - load);
        last / (sum + last)
    }

    /// One helper is M/M/1: the mean wait is rho / (1 - rho) times the time.
    #[test]
    fn one_helper_is_the_simple_queue() {
        for utilisation in [0.1, 0.5, 0.9, 0.99] {
            let load = Load {
                rate: utilisation * 100.0,
                time: 0.01,
            };
            let waiting = load.row(1).waiting.unwrap();
            assert!(close(waiting.probability, utilisation));
            assert!(close(waiting.mean, 0.01 * utilisation / (1.0 - utilisation)));
            let p99 = (utilisation * 100.0).ln() * 0.01 / (1.0 - utilisation);
            assert!(close(waiting.p99, p99), "{waiting:?}");
        }
    }

    /// The example of the documentation: 3,000 a second of 3 ms.
    #[test]
    fn three_thousand_a_second_of_three_milliseconds() {
        let load = Load {
            rate: 3_000.0,
            time: 0.003,
        };
        assert_eq!(load.stable(), 10, "with 9 all are always busy and the queue grows");
        assert_eq!(load.row(9).waiting, None);
        assert_eq!(load.row(0).waiting, None);
        let ten = load.row(10).waiting.unwrap();
        assert!(close(ten.mean, 0.668_731 * 0.003), "{ten:?}");
        let twelve = load.row(12).waiting.unwrap();
        assert!((0.000_2..0.000_3).contains(&twelve.mean), "{twelve:?}");
        let enough = load.enough(Span::from_millis(3)).unwrap();
        assert!((12..=16).contains(&enough), "{enough}");
    }

    proptest! {
        #[test]
        fn more_helpers_are_never_worse_and_enough_is_the_fewest(
            rate in 0.001f64..100_000.0, time in 0.000_01f64..1.0, wait_us in 0u64..10_000_000,
        ) {
            let load = Load { rate, time };
            let first = load.stable();
            let mut before = f64::INFINITY;
            for helpers in (first..HELPERS_MAX).take(50) {
                let Some(waiting) = load.row(helpers).waiting else {
                    prop_assert!(load.erlangs() >= f64::from(helpers));
                    continue;
                };
                prop_assert!((0.0..=1.0).contains(&waiting.probability), "{waiting:?}");
                prop_assert!(waiting.mean >= 0.0 && waiting.mean <= before);
                before = waiting.mean;
            }
            let wait_max = Span::from_micros(wait_us);
            if let Some(enough) = load.enough(wait_max) {
                let fits = |helpers| {
                    let row = load.row(helpers);
                    row.utilisation <= UTILISATION_MAX
                        && row.waiting.is_some_and(|waiting| waiting.p99 <= seconds(wait_max))
                };
                prop_assert!(fits(enough));
                prop_assert!(enough == 1 || !fits(enough - 1));
            }
        }
    }
}
