//! The open calls of a connection: what the reading thread puts in, and the callers take out.
//!
//! A call is in the table from before it is written until its last frame has been taken by its caller; one whose caller has
//! left stays, without keeping anything, until its last frame has come.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wire::frame::Malformed;
use wire::rpc::{self, ErrorCode, Frame, Kind};

use super::Said;
use super::error::{CallError, ConnectError};

/// What has come and was not taken yet, of all calls together: beyond it nothing is read, unless somebody waits.
const UNREAD_BYTES_MAX: usize = 64 << 20;

pub(super) struct Table {
    state: Mutex<State>,
    /// Something has come, or the connection has ended.
    came: Condvar,
    /// Something was taken, or somebody waits.
    taken: Condvar,
}

struct State {
    open: HashMap<u32, Open>,
    next: u32,
    /// The server's hello has come.
    greeted: bool,
    frame_bytes_max: usize,
    ended: Option<CallError>,
    unread_bytes: usize,
    waiting: usize,
}

#[derive(Default)]
struct Open {
    said: VecDeque<Result<Said, CallError>>,
    left: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                open: HashMap::new(),
                next: 1,
                greeted: false,
                frame_bytes_max: rpc::FRAME_BYTES_MAX,
                ended: None,
                unread_bytes: 0,
                waiting: 0,
            }),
            came: Condvar::new(),
            taken: Condvar::new(),
        }
    }

    /// Waits for the server's hello.
    pub(super) fn greeted(&self, ends: Instant) -> Result<(), ConnectError> {
        let mut state = self.lock();
        loop {
            if let Some(error) = &state.ended {
                return Err(ConnectError::Refused(error.clone()));
            }
            if state.greeted {
                return Ok(());
            }
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ConnectError::Refused(CallError::Unanswered));
            }
            state = self
                .came
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Makes room for a call, and gives it an id.
    pub(super) fn open(&self, service: &str, payload: &[u8]) -> Result<u32, CallError> {
        let mut state = self.lock();
        if let Some(error) = &state.ended {
            return Err(CallError::NotSent(error.to_string()));
        }
        // With the options of a call that brings a descriptor.
        let bytes = rpc::HEADER_BYTES + service.len() + 3 + payload.len();
        if bytes > state.frame_bytes_max {
            return Err(CallError::TooLarge(state.frame_bytes_max));
        }
        let mut call = state.next;
        // Fewer calls are open than there are ids: each costs memory.
        while state.open.contains_key(&call) {
            call = after(call);
        }
        state.next = after(call);
        state.open.insert(call, Open::default());
        Ok(call)
    }

    /// Waits for what comes next for a call.
    pub(super) fn next(&self, call: u32, ends: Option<Instant>) -> Result<Said, CallError> {
        let mut state = self.lock();
        state.waiting += 1;
        self.taken.notify_all();
        let said = loop {
            let Some(open) = state.open.get_mut(&call) else {
                break Err(CallError::Lost("the call is over".to_string()));
            };
            if let Some(said) = open.said.pop_front() {
                break said;
            }
            if let Some(error) = &state.ended {
                break Err(lost(error));
            }
            let left = ends.map(|ends| ends.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.came.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => break Err(CallError::Unanswered),
                Some(left) => {
                    self.came
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        };
        state.waiting -= 1;
        state.unread_bytes = state.unread_bytes.saturating_sub(weight(&said));
        if !matches!(said, Ok(Said::Part(_) | Said::Ask(_)) | Err(CallError::Unanswered)) {
            state.open.remove(&call);
        }
        self.taken.notify_all();
        said
    }

    /// Its caller has left; whether the call is still to be canceled.
    pub(super) fn leave(&self, call: u32) -> bool {
        let mut state = self.lock();
        let Some(open) = state.open.get_mut(&call) else {
            return false;
        };
        let bytes: usize = open.said.iter().map(weight).sum();
        let over = open.said.iter().any(is_last);
        open.said.clear();
        open.left = true;
        state.unread_bytes = state.unread_bytes.saturating_sub(bytes);
        if over {
            state.open.remove(&call);
        }
        self.taken.notify_all();
        !over && state.ended.is_none()
    }

    /// A call that was not sent.
    pub(super) fn forget(&self, call: u32) {
        self.lock().open.remove(&call);
    }

    /// Nothing more comes.
    pub(super) fn end(&self, error: &CallError) {
        self.lock().ended.get_or_insert_with(|| error.clone());
        self.came.notify_all();
        self.taken.notify_all();
    }

    /// Takes one frame from the server; waits while too much is unread.
    pub(super) fn receive(&self, frame: &Frame<'_>) -> Result<(), CallError> {
        let malformed = |malformed: Malformed| refused(ErrorCode::Protocol, malformed.to_string());
        if frame.options.must_know(&[]).is_some() {
            return Err(refused(ErrorCode::Protocol, "an option that must be known and is not"));
        }
        let payload = || frame.payload.to_vec();
        let said = match frame.kind {
            Kind::Hello => {
                let (frame_bytes_max, _) = rpc::read_hello(frame.payload).map_err(malformed)?;
                let mut state = self.lock();
                state.greeted = true;
                state.frame_bytes_max = usize::try_from(frame_bytes_max)
                    .unwrap_or(usize::MAX)
                    .min(rpc::FRAME_BYTES_MAX);
                self.came.notify_all();
                return Ok(());
            }
            Kind::Error => {
                let (code, text) = rpc::read_error(frame.payload).map_err(malformed)?;
                if frame.call == 0 {
                    return Err(refused(code, text));
                }
                Err(refused(code, text))
            }
            Kind::ReplyPart => Ok(Said::Part(payload())),
            Kind::ReplyDone => Ok(Said::Done(payload())),
            Kind::Ask => Ok(Said::Ask(payload())),
            Kind::Call | Kind::Cancel | Kind::Input => {
                return Err(refused(ErrorCode::Protocol, "a frame that no server may send"));
            }
        };
        self.keep(frame.call, said)
    }

    fn keep(&self, call: u32, said: Result<Said, CallError>) -> Result<(), CallError> {
        let mut state = self.lock();
        while state.unread_bytes > UNREAD_BYTES_MAX && state.waiting == 0 && state.ended.is_none() {
            state = self.taken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(open) = state.open.get_mut(&call) else {
            return Err(refused(ErrorCode::Protocol, "an answer to a call that is not open"));
        };
        if open.said.back().is_some_and(is_last) {
            return Err(refused(ErrorCode::Protocol, "two ends of one call"));
        }
        if open.left {
            if is_last(&said) {
                state.open.remove(&call);
            }
            return Ok(());
        }
        let bytes = weight(&said);
        open.said.push_back(said);
        state.unread_bytes += bytes;
        self.came.notify_all();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn refused(code: ErrorCode, text: impl Into<String>) -> CallError {
    CallError::Refused {
        code,
        text: text.into(),
    }
}

/// What an open call is told when the connection ends: an error about the connection never says that nobody had the call.
fn lost(error: &CallError) -> CallError {
    match error {
        CallError::Lost(_) => error.clone(),
        CallError::Refused { code, .. } if !code.reached_nobody() => error.clone(),
        other => CallError::Lost(other.to_string()),
    }
}

fn is_last(said: &Result<Said, CallError>) -> bool {
    matches!(said, Err(_) | Ok(Said::Done(_)))
}

fn weight(said: &Result<Said, CallError>) -> usize {
    match said {
        Ok(Said::Part(bytes) | Said::Done(bytes) | Said::Ask(bytes)) => bytes.len(),
        Err(_) => 0,
    }
}

/// Ids go from 1 to the largest and begin anew.
fn after(call: u32) -> u32 {
    call.checked_add(1).unwrap_or(1)
}
