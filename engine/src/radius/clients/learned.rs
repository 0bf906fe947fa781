//! What is learnt of one client, in atomic numbers that all workers share: any worker may see its next packet.
//!
//! Each number stands for itself; none is read together with another, so no order between them is needed.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use super::Rate;
use crate::core::time::{Instant, Span};

const PROTECTED: u8 = 1;
/// The first Access-Request has come, and had no Proxy-State without Message-Authenticator.
const LIMITED: u8 = 2;
/// The first Access-Request has come, and had.
const UNLIMITED: u8 = 4;

/// See the module.
#[derive(Debug, Default)]
pub struct Learned {
    seen: AtomicU8,
    /// When the bucket is full again, in microseconds: the theoretical arrival time of the generic cell rate algorithm.
    full_at: AtomicU64,
}

impl Learned {
    /// A valid Message-Authenticator was seen in an Access-Request.
    pub(super) fn protected(&self) {
        if self.seen.load(Relaxed) & PROTECTED == 0 {
            self.seen.fetch_or(PROTECTED, Relaxed);
        }
    }

    /// Whether one was ever seen.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.seen.load(Relaxed) & PROTECTED != 0
    }

    /// Whether a Proxy-State is refused in an Access-Request without Message-Authenticator; the first request decides, and a
    /// valid Message-Authenticator at any time.
    pub(super) fn limits_proxy_state(&self, proxied: bool) -> bool {
        let seen = self.seen.load(Relaxed);
        if seen & PROTECTED != 0 {
            return true;
        }
        if seen & (LIMITED | UNLIMITED) == 0 {
            self.seen.fetch_or(if proxied { UNLIMITED } else { LIMITED }, Relaxed);
            return !proxied;
        }
        // Two workers that saw the first packet at once may have said both: then the safe one holds.
        seen & LIMITED != 0
    }

    /// A token bucket: `burst` packets at once, `per_sec` over time.
    pub(super) fn admits(&self, rate: Rate, now: Instant) -> bool {
        let each = (Span::from_secs(1) / u64::from(rate.per_sec.max(1))).as_micros().max(1);
        let room = each.saturating_mul(u64::from(rate.burst.max(1)));
        let now = now.as_micros();
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            let next = full_at.max(now).saturating_add(each);
            (next.saturating_sub(now) <= room).then_some(next)
        });
        taken.is_ok()
    }

    pub(super) fn inherit(&self, old: &Learned) {
        self.seen.store(old.seen.load(Relaxed), Relaxed);
        self.full_at.store(old.full_at.load(Relaxed), Relaxed);
    }
}
