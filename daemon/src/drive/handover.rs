//! What a worker does when another process takes the daemon's place.

use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;

use engine::core::Drain;

use super::Drive;
use super::conn::Kind;
use super::pools::{PoolState, Target};
use crate::config::plan;

/// A RADIUS socket for another process: of which worker and listener.
pub type Lent = (usize, u64, OwnedFd);

impl Drive {
    /// RADIUS sockets are shared with another process from now on.
    pub(super) fn lend(&self, to: &SyncSender<Lent>) {
        for (listener, socket) in self.lend_radius() {
            match socket {
                Ok(socket) => _ = to.send((self.number, listener, socket)),
                Err(error) => tracing::error!(%error, "a radius socket cannot be handed over"),
            }
        }
    }

    /// See [`super::Job::Hold`].
    pub(super) fn hold(&mut self, hold: bool, to: &SyncSender<()>) {
        self.hold_radius(hold);
        let _ = to.try_send(());
    }

    /// Clients are served until they leave, but for those of directories that are written here: there is one that counts, and
    /// it is the other process's.
    pub(super) fn leave_to_another(&mut self) {
        self.drain_radius();
        let written: Vec<bool> = self
            .pools
            .iter()
            .map(|pool| pool.as_ref().is_some_and(is_written))
            .collect();
        let is_written = |pool: usize| written.get(pool).copied().unwrap_or(false);
        let theirs = self.conns.iter().filter(|(_, conn)| match &conn.kind {
            Kind::Ldap(client) => is_written(client.pool),
            Kind::Ask(client) => is_written(client.pool),
            _ => false,
        });
        let theirs: Vec<usize> = theirs.map(|(at, _)| at).collect();
        for at in theirs {
            self.drain_client(at, Drain::Gentle);
        }
    }
}

fn is_written(pool: &PoolState) -> bool {
    let Target::Directory(directory) = &pool.target else {
        return false;
    };
    let mut targets = directory.servers.iter().map(|server| &server.plan.target);
    targets.any(|target| matches!(target, plan::Target::Local(file) if file.writing.is_some()))
}
