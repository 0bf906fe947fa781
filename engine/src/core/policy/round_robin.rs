//! One after the other. Where servers come and go, the next is the one whose index follows the last chosen one's, so a
//! gap does not make its neighbour take two turns.

use super::Offer;

#[derive(Debug, Clone, Default)]
pub(super) struct RoundRobin {
    /// The first index whose turn it is.
    next: usize,
}

impl RoundRobin {
    pub(super) fn choose(&mut self, offer: &Offer<'_>) -> Option<usize> {
        let (position, chosen) = offer
            .eligible()
            .find(|(_, c)| c.index >= self.next)
            .or_else(|| offer.eligible().next())?;
        self.next = chosen.index.saturating_add(1);
        Some(position)
    }
}
