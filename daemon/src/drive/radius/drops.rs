//! What was dropped: counted by client and reason, and logged once in a while.

use std::collections::HashMap;

use engine::core::time::{Instant, Span};
use engine::radius::clients::{ClientId, Clients};
use engine::radius::{Dropped, Path};

/// The same is logged again after so long.
const AGAIN_AFTER: Span = Span::from_secs(600);
/// Rows of the table at most: clients beyond are counted as unknown.
const CLIENTS_MAX: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Drops {
    /// By client and reason; those of nobody's have no client.
    counts: HashMap<(Option<ClientId>, Dropped), Count>,
    /// Of clients that were there before a reload, by reason.
    before: HashMap<Dropped, u64>,
}

#[derive(Debug, Default)]
struct Count {
    total: u64,
    /// When it was logged last, and how many there were by then.
    logged: Option<(Instant, u64)>,
}

impl Drops {
    /// Clients have other numbers from now on.
    pub fn clients_changed(&mut self) {
        for ((_, why), count) in self.counts.drain() {
            *self.before.entry(why).or_default() += count.total;
        }
    }

    /// One more.
    pub fn dropped(&mut self, client: Option<ClientId>, name: Option<&str>, path: Path, why: Dropped, now: Instant) {
        let client = client.filter(|_| self.counts.len() < CLIENTS_MAX * Dropped::ALL.len());
        let count = self.counts.entry((client, why)).or_default();
        count.total += 1;
        let Some(advice) = why.advice() else { return };
        let due = count.logged.is_none_or(|(at, _)| now.since(at) >= AGAIN_AFTER);
        if !due {
            return;
        }
        let more = count.total - count.logged.map_or(0, |(_, then)| then);
        count.logged = Some((now, count.total));
        tracing::warn!(
            client = name.unwrap_or("unknown"),
            from = %path.from,
            reason = why.label(),
            packets = more,
            "a RADIUS packet was dropped: {advice}"
        );
    }

    /// By the client's name and reason; what was counted before a reload has no client.
    pub fn counts(&self, clients: &Clients) -> Vec<(Option<String>, &'static str, u64)> {
        let name = |client: Option<ClientId>| client.and_then(|id| clients.get(id)).map(|client| client.name.clone());
        let now = self
            .counts
            .iter()
            .map(|((client, why), count)| (name(*client), why.label(), count.total));
        let before = self.before.iter().map(|(why, count)| (None, why.label(), *count));
        now.chain(before).collect()
    }
}
