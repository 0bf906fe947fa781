//! Clients of the services, in our own protocol.

use engine::core::{Reason, Ticket};

use super::Drive;
use super::pools::Caller;

/// A client of the services.
#[derive(Debug)]
pub struct RpcClient {
    /// The listener it came through.
    pub listener: u64,
    /// Calls that have not ended: its own number, the pool, the ticket.
    pub calls: Vec<(u32, usize, Ticket)>,
    /// No new calls.
    pub draining: bool,
}

impl RpcClient {
    /// Just connected.
    pub fn new(listener: u64) -> Self {
        RpcClient {
            listener,
            calls: Vec::new(),
            draining: false,
        }
    }
}

impl Drive {
    pub(super) fn rpc_readable(&mut self, _at: usize) {}
    pub(super) fn rpc_gone(&mut self, _at: usize) {}
    pub(super) fn call_failed(&mut self, _caller: Caller, _reason: Reason) {}
}
