//! Services of the kind `exec`: a program run for each request, the request on its standard input, the answer on its
//! standard output.

use std::sync::Arc;

use engine::core::{Pool, Ticket, UpstreamId};

use super::Drive;
use super::conn::ConnRef;
use super::pools::Caller;
use super::report::ServiceReport;
use crate::config::plan;

/// A service on its home.
#[derive(Debug)]
pub struct Service {
    /// As configured.
    pub plan: Arc<plan::Service>,
}

/// A program that runs.
#[derive(Debug)]
pub struct Run {}

/// A program was started, or could not be.
#[derive(Debug)]
pub struct Spawned {}

impl Service {
    /// Nothing runs yet.
    pub fn new(plan: Arc<plan::Service>) -> Self {
        Service { plan }
    }

    /// How it stands.
    pub fn report(&self, pool: &Pool<Caller>) -> ServiceReport {
        ServiceReport {
            name: self.plan.name.clone(),
            running: 0,
            max: self.plan.max,
            queued: pool.queued(),
            stats: pool.stats(),
            answered: 0,
            failed: 0,
            interrupted: 0,
            killed: 0,
        }
    }
}

impl Drive {
    pub(super) fn start_program(&mut self, _index: usize, _ticket: Ticket, _on: UpstreamId, _payload: Option<&[u8]>) {}
    pub(super) fn spawned(&mut self, _spawned: Spawned) {}
    pub(super) fn stop_program(&mut self, _index: usize, _upstream: UpstreamId, _kill: bool) {}
    pub(super) fn kill_program(&mut self, _run: ConnRef) {}
    pub(super) fn program_readable(&mut self, _at: usize) {}
}
