//! What the admin thread may ask of the daemon.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use super::signals::tell_main;
use super::{Event, snapshot};
use crate::drive::Job;
use crate::lockouts::Waiter;
use crate::shared::Shared;
use crate::{admin, feed, traces};

/// See the module.
pub(super) fn handle(
    reporter: &Arc<snapshot::Reporter>,
    to_main: Sender<Event>,
    feeds: &Arc<Mutex<Vec<feed::Line>>>,
) -> admin::Handle {
    let (own, asked, tracing) = (Arc::clone(reporter), Arc::clone(feeds), Arc::clone(reporter));
    let locking = Arc::clone(reporter);
    admin::Handle {
        snapshot: Box::new(move || own.snapshot()),
        command: Box::new(move |command| tell_main(&to_main, command)),
        feed: Box::new(move |name, verb| feed::tell(&asked, name, verb)),
        trace: Box::new(move |verb| {
            let shared = &tracing.shared;
            let plan = Arc::clone(&tracing.state.lock().unwrap_or_else(PoisonError::into_inner).plan);
            traces::tell(&plan, &shared.traces, shared.clock.now(), verb)
        }),
        lockout: Box::new(move |clear| {
            let shared = &locking.shared;
            match clear {
                None => shared.lockouts.list(shared.clock.now()),
                Some(who) => {
                    let (cleared, woken) = shared.lockouts.clear(who);
                    wake_bids(shared, &woken);
                    serde_json::json!({ "cleared": cleared })
                }
            }
        }),
    }
}

/// Binds that a lockout held back may try again.
pub(super) fn wake_bids(shared: &Shared, woken: &[Waiter]) {
    for who in woken {
        if let Some(inbox) = shared.inbox(who.worker) {
            inbox.push_always(Job::BidWoken(who.conn));
        }
    }
}
