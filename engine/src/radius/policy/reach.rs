//! Rules that are never reached, or never hold: whoever wrote them meant something else.
//!
//! Only what is certain is said: conditions are compared as they are written, and no more is known of requests.

use super::{Action, Policy, Round, Rule};

/// A rule, or one of its two parts, that never does anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Idle {
    /// Which, from 0.
    pub rule: usize,
    /// Why.
    pub why: Why,
}

/// See [`Idle`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// A rule before it holds whenever it does, and ends this round.
    Behind {
        /// Which, from 0.
        rule: usize,
        /// The round.
        round: Round,
    },
    /// It asks for what it refuses.
    Contradicts,
}

impl Policy {
    /// All rules that are of no use; each once.
    #[must_use]
    pub fn idle(&self) -> Vec<Idle> {
        let rules = self.rules.iter().enumerate();
        rules
            .filter_map(|(at, rule)| {
                let why = if contradicts(rule) {
                    Some(Why::Contradicts)
                } else {
                    self.behind(at, rule)
                };
                Some(Idle { rule: at, why: why? })
            })
            .collect()
    }

    fn behind(&self, at: usize, rule: &Rule) -> Option<Why> {
        for round in [Round::Before, Round::After] {
            let mut others = self.rules.iter().enumerate().take(at);
            let ends = |other: &Rule| other.acts(round) && !other.continues && covers(other, rule);
            if rule.acts(round)
                && let Some((rule, _)) = others.find(|(_, other)| ends(other))
            {
                return Some(Why::Behind { rule, round });
            }
        }
        // Who is rejected in the first round has no second one; only a rule that ends the first one can keep a request from that.
        let is_reject = |rule: &Rule| matches!(rule.action, Action::Reject(_));
        let first = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| rule.acts(Round::Before));
        let mut rejects = first.take_while(|(_, rule)| is_reject(rule) || rule.continues);
        let (found, _) = rejects.find(|(_, other)| is_reject(other) && covers(other, rule))?;
        let is_later = rule.acts(Round::After) && !rule.acts(Round::Before);
        is_later.then_some(Why::Behind {
            rule: found,
            round: Round::Before,
        })
    }
}

fn contradicts(rule: &Rule) -> bool {
    let refused = |wanted| {
        rule.refused
            .iter()
            .any(|refused| super::Condition::covers(refused, wanted))
    };
    rule.wanted.iter().any(refused)
}

/// Whether the one holds whenever the other does.
fn covers(one: &Rule, other: &Rule) -> bool {
    let patterns = |own: &[super::Pattern], others: &[super::Pattern]| {
        let known = |other| own.iter().any(|own| own.covers(other));
        own.is_empty() || (!others.is_empty() && others.iter().all(known))
    };
    let groups = one.groups.is_empty()
        || (!other.groups.is_empty() && other.groups.iter().all(|group| one.groups.contains(group)));
    let times =
        one.times.is_empty() || one.times.is_always() || (!other.times.is_empty() && one.times.covers(&other.times));
    let wanted = |own| other.wanted.iter().any(|wanted| super::Condition::covers(own, wanted));
    let refused = |own| other.refused.iter().any(|refused| refused.covers(own));
    let not_groups = one.not_groups.iter().all(|group| other.not_groups.contains(group));
    groups
        && not_groups
        && times
        && patterns(&one.clients, &other.clients)
        && patterns(&one.tags, &other.tags)
        && patterns(&one.users, &other.users)
        && one.wanted.iter().all(wanted)
        && one.refused.iter().all(refused)
}
