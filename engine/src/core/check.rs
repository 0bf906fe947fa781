//! Checks: a question that is put to a server again and again, and whose answers decide whether it is used.
//!
//! A probe sees that a server is alive; a check sees that it does its work. What is asked, and which answer is right, is not
//! known here. `fall` wrong answers in a row put a server aside, `rise` right ones bring it back. A server that has just
//! been connected has proven nothing: until its first right answer a single wrong one is enough.

use super::time::{Instant, Span};

/// How often a server is checked, and what its answers lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckConfig {
    /// From the beginning of one check to that of the next; not zero.
    pub interval: Span,
    /// A check that has not ended after so long has failed.
    pub timeout: Span,
    /// Successes in a row that bring a server back; 0 counts as 1.
    pub rise: u32,
    /// Failures in a row that put it aside; 0 counts as 1.
    pub fall: u32,
}

/// What a check's end leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Nothing changes.
    Same,
    /// The server is to be put aside.
    Fell,
    /// The server may be used again.
    Rose,
}

/// The checks of one server.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Its number, and when it has failed unless it ended before.
    under_way: Option<(u32, Instant)>,
    /// When the next one begins.
    next_at: Option<Instant>,
    /// Of the last one begun.
    number: u32,
    /// Answers in a row that speak against how things stand.
    against: u32,
    /// Its checks have put it aside.
    fallen: bool,
    /// One has succeeded since the server was connected.
    proven: bool,
}

impl Checks {
    /// Whether its checks keep the server aside.
    pub(crate) fn is_fallen(&self) -> bool {
        self.fallen
    }

    /// Whether the last one failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.fallen || self.against > 0
    }

    /// The server has been connected: it is checked at once.
    pub(crate) fn connected(&mut self, now: Instant) {
        self.proven = false;
        self.next_at = Some(now);
    }

    /// Nothing is connected: there is nothing to check until something is. What is under way does not count.
    pub(crate) fn disconnected(&mut self) {
        self.next_at = None;
        self.under_way = None;
    }

    /// There are no checks any more.
    pub(crate) fn forget(&mut self) {
        *self = Checks {
            number: self.number,
            ..Checks::default()
        };
    }

    /// When it must be looked at.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.under_way.map(|(_, due)| due).or(self.next_at)
    }

    /// Whether the one under way has taken too long, and has thereby ended.
    pub(crate) fn is_late(&self, now: Instant) -> Option<u32> {
        self.under_way.filter(|(_, due)| *due <= now).map(|(number, _)| number)
    }

    /// Begins one, if it is time; its number.
    pub(crate) fn begin(&mut self, config: &CheckConfig, now: Instant) -> Option<u32> {
        if self.under_way.is_some() || self.next_at.is_none_or(|at| at > now) {
            return None;
        }
        self.number = self.number.wrapping_add(1);
        self.under_way = Some((self.number, now + config.timeout));
        self.next_at = Some(now + config.interval);
        Some(self.number)
    }

    /// One has ended; another than the one under way says nothing.
    pub(crate) fn ended(&mut self, number: u32, well: bool, config: &CheckConfig) -> Turn {
        if self.under_way.is_none_or(|(of, _)| of != number) {
            return Turn::Same;
        }
        self.under_way = None;
        if well != self.fallen {
            self.against = 0;
            self.proven |= well;
            return Turn::Same;
        }
        self.against += 1;
        let enough = match (well, self.proven) {
            (true, _) => config.rise,
            (false, true) => config.fall,
            (false, false) => 1,
        };
        if self.against < enough.max(1) {
            return Turn::Same;
        }
        self.against = 0;
        self.fallen = !well;
        self.proven = well;
        if well { Turn::Rose } else { Turn::Fell }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: CheckConfig = CheckConfig {
        interval: Span::from_secs(5),
        timeout: Span::from_secs(2),
        rise: 2,
        fall: 3,
    };

    /// What a row of answers, one each interval, leads to.
    fn turns(checks: &mut Checks, now: &mut Instant, answers: &[bool]) -> Vec<Turn> {
        let mut turns = Vec::new();
        for well in answers {
            let number = checks.begin(&CONFIG, *now).unwrap();
            turns.push(checks.ended(number, *well, &CONFIG));
            *now += CONFIG.interval;
        }
        turns
    }

    #[test]
    fn it_falls_after_so_many_failures_in_a_row_and_rises_after_so_many_successes() {
        use Turn::{Fell, Rose, Same};
        let (mut checks, mut now) = (Checks::default(), Instant::from_secs(1));
        checks.connected(now);
        let row = [
            true, false, false, true, false, false, false, false, true, false, true, true, true,
        ];
        let said = [
            Same, Same, Same, Same, Same, Same, Fell, Same, Same, Same, Same, Rose, Same,
        ];
        assert_eq!(turns(&mut checks, &mut now, &row), said);
        assert!(!checks.is_fallen() && !checks.is_failing());
    }

    #[test]
    fn one_failure_is_enough_until_something_was_right() {
        let (mut checks, mut now) = (Checks::default(), Instant::from_secs(1));
        checks.connected(now);
        assert_eq!(turns(&mut checks, &mut now, &[false]), [Turn::Fell]);
        assert_eq!(turns(&mut checks, &mut now, &[true, true]), [Turn::Same, Turn::Rose]);
        // Having risen it has proven something,
        assert_eq!(turns(&mut checks, &mut now, &[false]), [Turn::Same]);
        // and connected anew nothing.
        checks.connected(now);
        assert_eq!(turns(&mut checks, &mut now, &[true, false]), [Turn::Same, Turn::Same]);
        checks.connected(now);
        assert_eq!(turns(&mut checks, &mut now, &[false]), [Turn::Fell]);
    }

    #[test]
    fn what_is_late_or_of_another_check_says_nothing() {
        let (mut checks, now) = (Checks::default(), Instant::from_secs(1));
        assert_eq!(checks.begin(&CONFIG, now), None);
        checks.connected(now);
        let first = checks.begin(&CONFIG, now).unwrap();
        assert_eq!(checks.begin(&CONFIG, now + CONFIG.interval), None);
        assert_eq!(checks.is_late(now), None);
        assert_eq!(checks.wake_at(), Some(now + CONFIG.timeout));
        assert_eq!(checks.is_late(now + CONFIG.timeout), Some(first));
        assert_eq!(checks.ended(first, false, &CONFIG), Turn::Fell);
        assert_eq!(checks.ended(first, true, &CONFIG), Turn::Same);
        checks.disconnected();
        assert!(checks.is_fallen());
        assert_eq!(checks.wake_at(), None);
    }
}
