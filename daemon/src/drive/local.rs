//! The local directory as an upstream: it answers in place, in the turn in which it is asked.

use std::sync::Arc;

use engine::core::{Settlement, Ticket, UpstreamId, Verdict};
use engine::directory::{Bounds, Directory, LocalSession};
use engine::session::ldap::lane;
use wire::frame::Step;
use wire::ldap::envelope;

use super::Drive;
use super::pools::{Place, PoolState};

/// Largest answer to one search; beyond it the search ends with adminLimitExceeded.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One "connection" to a local directory.
#[derive(Debug)]
pub struct LocalUpstream {
    /// The directory.
    pub directory: Arc<Directory>,
    /// Who is bound on it.
    pub session: LocalSession,
    /// Its lane.
    pub lane: u8,
    /// Its server within the configured directory.
    pub server: usize,
}

/// Answers one whole request; the messages are appended to `out`.
pub(super) fn answer(state: &mut PoolState, upstream: UpstreamId, request: &[u8], out: &mut Vec<u8>) {
    // On shared connections the control is ours; on any other it is the client's own word.
    let ours = state.directory().is_some_and(|directory| directory.is_proxied());
    let Some(Place::Local(local)) = state.place(upstream) else {
        return;
    };
    let bounds = Bounds {
        trusted_proxy: ours && local.lane == lane::SHARED,
        out_bytes_max: ANSWER_BYTES_MAX,
        ..Bounds::default()
    };
    let _ = local.directory.answer(&mut local.session, request, out, &bounds);
}

impl Drive {
    /// Hands the messages of a local answer to its caller, as if they had come over a connection.
    pub(super) fn deliver_local(&mut self, index: usize, ticket: Ticket, upstream: UpstreamId, mut answer: &[u8]) {
        let now = self.now;
        while let Step::Frame { len } = envelope::split(answer, usize::MAX) {
            let Some((frame, rest)) = answer.split_at_checked(len) else {
                break;
            };
            answer = rest;
            let Ok(env) = envelope::peek(frame) else { break };
            let settlement = if envelope::is_final_response(env.tag) {
                Settlement::Done(Verdict::Well)
            } else {
                Settlement::Part
            };
            let Some(state) = self.pool(index) else { return };
            if let Some(caller) = state.pool.reply(ticket, upstream, settlement, now, &mut state.effects) {
                self.deliver(index, ticket, caller, &env, settlement);
            }
        }
    }

    /// The demo takes a local server away, or gives it back.
    pub(super) fn set_alive(&mut self, directory: &str, server: &str, alive: bool) {
        let now = self.now;
        for index in 0..self.pools.len() {
            let Some(state) = self.pool(index) else { continue };
            let Some(found) = state.directory().filter(|found| found.plan.name == directory) else {
                continue;
            };
            let Some(number) = found.set_alive(server, alive) else {
                continue;
            };
            if alive {
                continue;
            }
            let gone: Vec<UpstreamId> = state
                .places
                .iter()
                .filter(|(_, place)| matches!(place, Place::Local(local) if local.server == number))
                .filter_map(|(id, _)| *id)
                .collect();
            for id in gone {
                state.take_place(id);
                state
                    .pool
                    .upstream_down(id, engine::core::Cause::Lost, now, &mut state.effects);
            }
            self.carry_out(index, None);
        }
    }
}
