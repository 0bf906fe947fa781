//! In proportion to the weights, by smooth weighted round-robin: at each choice everybody on offer gains credit by its
//! weight, the richest is chosen and pays what was handed out. Weights 5, 1, 1 give a a b a c a a, not a a a a a b c.
//!
//! Credits sum to zero; who is away keeps its credit and neither gains nor pays.

use super::{Candidate, Offer};

#[derive(Debug, Clone)]
pub(super) struct Weighted {
    credits: Vec<i64>,
}

impl Weighted {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            credits: vec![0; servers],
        }
    }

    pub(super) fn resize(&mut self, servers: usize) {
        self.credits.resize(servers, 0);
    }

    pub(super) fn choose(&mut self, offer: &Offer<'_>) -> Option<usize> {
        let mut handed_out = 0i64;
        let mut richest: Option<(usize, &Candidate, i64)> = None;
        for (position, candidate) in offer.eligible() {
            let gain = i64::from(offer.weight(candidate));
            handed_out = handed_out.saturating_add(gain);
            let credit = self.pay(candidate, gain);
            if richest.is_none_or(|(_, _, most)| credit > most) {
                richest = Some((position, candidate, credit));
            }
        }
        let (position, chosen, _) = richest?;
        self.pay(chosen, -handed_out);
        Some(position)
    }

    /// The credit of `candidate` after gaining (or paying) `amount`. One that was never announced has none to remember.
    fn pay(&mut self, candidate: &Candidate, amount: i64) -> i64 {
        let Some(credit) = self.credits.get_mut(candidate.index) else {
            return amount;
        };
        *credit = credit.saturating_add(amount);
        *credit
    }
}
