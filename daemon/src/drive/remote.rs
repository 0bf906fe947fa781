//! Calls that come from another thread of the daemon, which speaks a protocol of its own (D-Bus): submitted as those of
//! connections are, answered through a channel. Who calls so bounds how many are open.
//!
//! Invariant: a call that was taken is answered once; one whose channel is dropped was never taken.

use std::collections::HashMap;
use std::time::Duration;

use engine::session::rpc::Open;
use tokio::sync::oneshot;
use wire::rpc::ErrorCode;
use zeroize::Zeroize;

use super::Drive;
use super::calls::{Answer, Heard, NewCall};
use super::conn::ConnRef;
use super::pools::Caller;
use super::timers::span;

/// An answer, or why there is none.
pub type RemoteAnswer = Result<Vec<u8>, (ErrorCode, String)>;

/// One call.
#[derive(Debug)]
pub struct RemoteCall {
    /// The caller's name for it, unique among its open ones.
    pub key: u32,
    /// The service.
    pub service: String,
    /// The request.
    pub payload: Vec<u8>,
    /// How long the caller waits; none: as long as the service allows.
    pub timeout: Option<Duration>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<RemoteAnswer>,
}

/// The calls that have not ended.
#[derive(Debug, Default)]
pub struct Remote {
    open: HashMap<u32, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    open: Open,
    /// Parts of the answer.
    so_far: Vec<u8>,
    answer: oneshot::Sender<RemoteAnswer>,
}

impl Drive {
    /// A call has come from another thread.
    pub(super) fn remote_call(&mut self, mut call: RemoteCall) {
        let caller = Caller {
            conn: ConnRef::ELSEWHERE,
            id: call.key.cast_signed(),
            tag: 0,
        };
        let Some(index) = self.find_service(&call.service) else {
            let text = format!("no service has the name {:?}", call.service);
            let _ = call.answer.send(Err((ErrorCode::UnknownService, text)));
            return;
        };
        let new = NewCall {
            payload: &call.payload,
            given: false,
            timeout: call.timeout.map(span),
            direct: None,
        };
        match self.submit_call(index, caller, new) {
            Err((code, text)) => {
                let _ = call.answer.send(Err((code, text.to_owned())));
            }
            Ok(ticket) => {
                let open = Open { pool: index, ticket };
                let answer = call.answer;
                let waiting = Waiting {
                    open,
                    so_far: Vec::new(),
                    answer,
                };
                self.remote.open.insert(call.key, waiting);
                self.carry_out(index, None);
            }
        }
        call.payload.zeroize();
    }

    /// The caller no longer waits.
    pub(super) fn cancel_remote(&mut self, key: u32) {
        if let Some(waiting) = self.remote.open.get(&key) {
            self.cancel_call(waiting.open);
        }
    }

    /// Something is said to the caller of a remote call.
    pub(super) fn remote_answer(&mut self, caller: Caller, answer: &Answer<'_>) -> Heard {
        let key = caller.id.cast_unsigned();
        let answer = match answer {
            Answer::Part(bytes) => {
                // Bounded by the service's `reply_bytes_max`, as the whole is.
                return match self.remote.open.get_mut(&key) {
                    Some(waiting) => {
                        waiting.so_far.extend_from_slice(bytes);
                        Heard::Taken
                    }
                    None => Heard::Gone,
                };
            }
            Answer::Ask(_) => return Heard::Unasked,
            Answer::Whole(bytes) => Ok(*bytes),
            Answer::Failed { code, text } => Err((*code, (*text).to_owned())),
        };
        let Some(mut waiting) = self.remote.open.remove(&key) else {
            return Heard::Gone;
        };
        let answer = answer.map(|rest| {
            waiting.so_far.extend_from_slice(rest);
            waiting.so_far
        });
        match waiting.answer.send(answer) {
            Ok(()) => Heard::Taken,
            Err(_) => Heard::Gone,
        }
    }

    /// Whoever wants to hear of it is told when a service reaches its maximum with calls that wait, and when none waits.
    pub(super) fn note_saturation(&mut self, index: usize) {
        if !self.shared.door.is_watched() {
            return;
        }
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let saturated = state.pool.is_saturated();
        if saturated != std::mem::replace(&mut state.saturated, saturated)
            && let Some(service) = state.service()
        {
            self.shared.door.tell(&service.plan.name, saturated);
        }
    }
}
