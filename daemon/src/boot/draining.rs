//! How the daemon drains, level by level, and stops.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use engine::core::Drain;

use super::{Daemon, Lifecycle};
use crate::drive::listener_id;
use crate::upgrade::notify;
use crate::worker::Signal;

impl Daemon {
    /// Drains gently, then ends; told again, harder.
    pub(super) fn stop(&mut self) {
        let level = match (self.lifecycle(), self.stopping) {
            (Lifecycle::Running | Lifecycle::HandedOver | Lifecycle::Drained, _) | (_, false) => Drain::Gentle,
            (Lifecycle::Draining(Drain::Gentle), true) => Drain::Firm,
            (Lifecycle::Draining(_), true) => Drain::Now,
        };
        self.stopping = true;
        if let Some(upgrade) = &self.upgrade {
            upgrade.give_up();
        }
        if self.handed_over.is_none() {
            notify::stopping();
        }
        self.drain(level);
    }

    pub(super) fn drain(&mut self, level: Drain) {
        let level = match self.lifecycle() {
            Lifecycle::Draining(before) if before >= level => return,
            Lifecycle::Drained => return,
            _ => level,
        };
        tracing::info!(?level, clients = self.shared.clients_total(), "draining");
        if self.drain_started.is_none() {
            let plan = Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).plan);
            for listener in &plan.listeners {
                self.acceptor.remove(listener_id(listener));
            }
        }
        if let Some(dbus) = &self.dbus {
            dbus.drain();
        }
        self.drain_started = Some(Instant::now());
        self.set_lifecycle(Lifecycle::Draining(level));
        for worker in &self.workers {
            worker.signal(Signal::Drain(level));
        }
    }

    /// Raises the level of a drain that takes too long; notes one that is done.
    pub(super) fn look_at_drain(&mut self) {
        let (Some(started), Lifecycle::Draining(level)) = (self.drain_started, self.lifecycle()) else {
            return;
        };
        if self.shared.clients_total() == 0 && self.shared.sockets() == 0 {
            tracing::info!("drained");
            self.drain_started = None;
            return self.set_lifecycle(Lifecycle::Drained);
        }
        let server = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .plan
            .server
            .clone();
        match level {
            Drain::Gentle if started.elapsed() >= server.drain_gentle => {
                self.late = self.stopping;
                self.drain(Drain::Firm);
            }
            Drain::Firm if started.elapsed() >= server.drain_firm => {
                self.late = self.stopping;
                self.drain(Drain::Now);
            }
            _ => {}
        }
    }
}
