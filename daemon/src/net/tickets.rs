//! With what clients come back to a TLS session: tickets that any worker can read.
//!
//! A worker alone would know only the sessions that it began itself, and a client does not choose its worker. Each listener has
//! keys of its own, new ones with each change of its TLS, so that a ticket is good only where, and under what, it was given.
//! They are changed every six hours. Where clients show certificates there are none, and only the worker that began a session knows
//! it, a few of them: whoever comes back is not looked at again, so that is to be rare.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;

use crate::config::plan::{ClientCert, TlsServer};

/// By listener. Listeners that are gone leave some bytes behind.
#[derive(Default)]
pub struct Tickets(Mutex<HashMap<u64, Keys>>);

struct Keys {
    plan: TlsServer,
    of: Arc<dyn ProducesTickets>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// What a listener with this TLS gives and takes; none: no tickets.
    pub fn of(&self, listener: u64, plan: &TlsServer) -> Option<Arc<dyn ProducesTickets>> {
        if plan.client_cert != ClientCert::Never {
            return None;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = all.get(&listener)
            && keys.plan == *plan
        {
            return Some(Arc::clone(&keys.of));
        }
        let of = Ticketer::new()
            .inspect_err(|error| tracing::warn!(%error, "a listener gives no TLS tickets"))
            .ok()?;
        let keys = Keys {
            plan: plan.clone(),
            of: Arc::clone(&of),
        };
        all.insert(listener, keys);
        Some(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(stamp: u64, client_cert: ClientCert) -> TlsServer {
        TlsServer {
            cert_file: "a.crt".into(),
            key_file: "a.key".into(),
            client_ca_file: None,
            client_cert,
            client_crl: None,
            stamp,
        }
    }

    #[test]
    fn a_ticket_is_good_at_its_listener_under_its_certificate_and_nowhere_else() {
        let tickets = Tickets::default();
        let (first, renewed) = (plan(1, ClientCert::Never), plan(2, ClientCert::Never));
        let ticket = tickets.of(7, &first).unwrap().encrypt(b"session").unwrap();
        let read = |listener, plan| tickets.of(listener, plan).unwrap().decrypt(&ticket);
        assert_eq!(read(7, &first).as_deref(), Some(&b"session"[..]));
        assert_eq!(read(8, &first), None, "another listener");
        assert_eq!(read(7, &renewed), None, "another certificate");
        assert_eq!(read(7, &first), None, "the same once more, after another");
        for shown in [ClientCert::Request, ClientCert::Require] {
            assert!(tickets.of(7, &plan(1, shown)).is_none(), "{shown:?}");
        }
    }
}
