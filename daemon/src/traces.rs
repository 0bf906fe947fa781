//! Traces of RADIUS requests: workers say lines, whoever has asked for them takes them from here.
//!
//! The lines are kept in a ring: who is slow loses the oldest, and is told how many. While nobody is traced nothing is said.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use engine::core::time::{Instant, Span};
use engine::radius::trace::{TRACES_MAX, Who};

use crate::config::plan::{Face, Plan};

/// Lines kept.
const LINES_MAX: usize = 4_096;
/// Lines in one answer.
const ANSWER_LINES_MAX: usize = 1_000;
/// The longest trace.
pub const SECONDS_MAX: u64 = 24 * 60 * 60;

/// See the module.
#[derive(Debug, Default)]
pub struct Lines(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<String>,
    /// The number of the first of them.
    first: u64,
}

impl Lines {
    /// One more.
    pub fn say(&self, line: String) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.lines.len() >= LINES_MAX {
            ring.lines.pop_front();
            ring.first += 1;
        }
        ring.lines.push_back(line);
    }

    /// The number that the next line will have.
    pub fn next(&self) -> u64 {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ring.first + ring.lines.len() as u64
    }

    /// Lines from a number on; how many before them are lost; the number to go on from.
    pub fn from(&self, number: u64) -> (Vec<String>, u64, u64) {
        let ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = ring.first.saturating_sub(number);
        let skip = usize::try_from(number.saturating_sub(ring.first)).unwrap_or(usize::MAX);
        let lines: Vec<String> = ring.lines.iter().skip(skip).take(ANSWER_LINES_MAX).cloned().collect();
        let next = number.max(ring.first) + lines.len() as u64;
        (lines, lost, next)
    }
}

/// What can be asked about traces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Trace somebody for so many seconds; the answer says from which line on.
    Begin(Who, u64),
    /// No longer.
    End(Who),
    /// Lines from this number on.
    From(u64),
}

/// Does it.
///
/// # Errors
/// Nothing is traced here, or too many are.
pub fn tell(plan: &Plan, lines: &Lines, now: Instant, verb: Verb) -> Result<Value, String> {
    let traces: Vec<_> = plan
        .listeners
        .iter()
        .filter_map(|listener| match &listener.face {
            Face::Radius(radius) => Some(&radius.plan.traces),
            _ => None,
        })
        .collect();
    if traces.is_empty() {
        return Err("this daemon has no RADIUS listener".to_owned());
    }
    match verb {
        Verb::From(number) => {
            let (lines, lost, next) = lines.from(number);
            Ok(json!({ "lines": lines, "lost": lost, "next": next }))
        }
        Verb::Begin(who, seconds) => {
            let until = now + Span::from_secs(seconds.clamp(1, SECONDS_MAX));
            let next = lines.next();
            if traces.iter().any(|traces| !traces.add(who.clone(), until, now)) {
                return Err(format!("{TRACES_MAX} are traced already: end one of them, or wait"));
            }
            Ok(json!({ "next": next }))
        }
        Verb::End(who) => {
            let ended = traces.iter().filter(|traces| traces.remove(&who)).count();
            Ok(json!({ "ended": ended > 0 }))
        }
    }
}

/// Traces go on over a reload.
pub fn inherit(old: &Plan, new: &Plan, now: Instant) {
    let of = |plan: &Plan| {
        plan.listeners.iter().find_map(|listener| match &listener.face {
            Face::Radius(radius) => Some(radius.plan.traces.list()),
            _ => None,
        })
    };
    for (who, until) in of(old).unwrap_or_default() {
        for listener in &new.listeners {
            if let Face::Radius(radius) = &listener.face {
                radius.plan.traces.add(who.clone(), until, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_slow_loses_the_oldest_lines_and_is_told_how_many() {
        let lines = Lines::default();
        assert_eq!(lines.from(0), (Vec::new(), 0, 0));
        for number in 0..LINES_MAX + 10 {
            lines.say(number.to_string());
        }
        assert_eq!(lines.next(), (LINES_MAX + 10) as u64);
        let (first, lost, next) = lines.from(0);
        assert_eq!((first.len(), lost, next), (ANSWER_LINES_MAX, 10, 1_010));
        assert_eq!(first.first().map(String::as_str), Some("10"));
        let (more, lost, _) = lines.from(next);
        assert_eq!((more.first().map(String::as_str), lost), (Some("1010"), 0));
        let (none, _, next) = lines.from(lines.next());
        assert!(none.is_empty());
        assert_eq!(next, lines.next());
    }
}
