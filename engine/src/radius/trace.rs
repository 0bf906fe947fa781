//! Who is traced now: requests of a user, of a device or of a client are told step by step, for as long as somebody has asked for.
//!
//! Shared by all workers. While nobody is traced, a request costs one relaxed read.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};

use wire::radius::{Packet, number};

use crate::core::time::Instant;

/// At a time.
pub const TRACES_MAX: usize = 16;

/// Whose requests are traced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// Of this User-Name, upper or lower case.
    User(String),
    /// With this Calling-Station-Id: a MAC address in any form.
    Station([u8; 6]),
    /// Of this client.
    Client(String),
}

#[derive(Clone, Debug)]
struct Trace {
    who: Who,
    until: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Traces {
    count: AtomicUsize,
    all: RwLock<Vec<Trace>>,
}

impl Traces {
    /// Traces somebody until a moment; whoever is traced already is traced until then. False: there are [`TRACES_MAX`].
    pub fn add(&self, who: Who, until: Instant, now: Instant) -> bool {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|trace| trace.until > now && trace.who != who);
        let fits = all.len() < TRACES_MAX;
        if fits {
            all.push(Trace { who, until });
        }
        self.count.store(all.len(), Relaxed);
        fits
    }

    /// Traces nobody of this name any more. False: nobody was traced so.
    pub fn remove(&self, who: &Who) -> bool {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let before = all.len();
        all.retain(|trace| trace.who != *who);
        self.count.store(all.len(), Relaxed);
        all.len() < before
    }

    /// Who is traced, and until when.
    #[must_use]
    pub fn list(&self) -> Vec<(Who, Instant)> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|trace| (trace.who.clone(), trace.until)).collect()
    }

    /// Whether this request is traced.
    #[must_use]
    pub fn wants(&self, packet: &Packet<'_>, client: &str, now: Instant) -> bool {
        if self.count.load(Relaxed) == 0 {
            return false;
        }
        let user = packet.find(number::USER_NAME).unwrap_or_default();
        let station = packet.find(number::CALLING_STATION_ID).and_then(super::mac::parse);
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .filter(|trace| trace.until > now)
            .any(|trace| match &trace.who {
                Who::User(name) => name.as_bytes().eq_ignore_ascii_case(user),
                Who::Station(octets) => station == Some(*octets),
                Who::Client(name) => name == client,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Span;
    use wire::radius::{Code, Secret, Writer};

    #[test]
    fn who_is_traced_is_found_by_name_device_or_client_until_the_time_is_over() {
        let mut out = Vec::new();
        let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 1, &[1; 16]);
        writer.attribute(number::USER_NAME, b"Bob").unwrap();
        writer
            .attribute(number::CALLING_STATION_ID, b"00-1A-2B-3C-4D-5E")
            .unwrap();
        writer.finish(&Secret::new(b"s")).unwrap();
        let packet = Packet::parse(&out).unwrap();
        let (now, until) = (Instant::from_secs(1), Instant::from_secs(9));
        for (who, found) in [
            (Who::User("bob".into()), true),
            (Who::User("bo".into()), false),
            (Who::Station([0, 0x1a, 0x2b, 0x3c, 0x4d, 0x5e]), true),
            (Who::Station([0; 6]), false),
            (Who::Client("wlan".into()), true),
            (Who::Client("vpn".into()), false),
        ] {
            let traces = Traces::default();
            assert!(!traces.wants(&packet, "wlan", now));
            assert!(traces.add(who.clone(), until, now));
            assert_eq!(traces.wants(&packet, "wlan", now), found, "{who:?}");
            assert!(!traces.wants(&packet, "wlan", until), "its time is over");
            assert!(traces.remove(&who) && !traces.remove(&who));
            assert!(!traces.wants(&packet, "wlan", now));
        }
    }

    #[test]
    fn only_so_many_are_traced_and_those_that_are_over_make_room() {
        let traces = Traces::default();
        let now = Instant::from_secs(1);
        for at in 0..TRACES_MAX {
            assert!(traces.add(Who::User(at.to_string()), now + Span::from_secs(1), now));
        }
        assert!(!traces.add(Who::User("more".into()), now + Span::from_secs(1), now));
        assert_eq!(traces.list().len(), TRACES_MAX);
        assert!(traces.add(
            Who::User("later".into()),
            now + Span::from_secs(9),
            now + Span::from_secs(1)
        ));
        assert_eq!(traces.list().len(), 1);
    }
}
