//! What helpers say.
//!
//! A datagram is copied out of the socket before it is looked at, and what lies in the shared memory before anything else is
//! done with it. What breaks the rules of the protocol kills the helper that said it.

use engine::core::{Settlement, Ticket, Verdict};
use wire::helper::{self, FromHelper, HEADER_BYTES, Payload};
use wire::rpc::ErrorCode;
use wire::wipe::wipe;

use super::figures::Exit;
use super::{HelperRef, Phase, Speech};
use crate::drive::Drive;
use crate::drive::calls::{Answer, Heard};
use crate::drive::exec::WIPED_BYTES_MAX;
use crate::spawner::{MESSAGE_BYTES_MAX, Said};

/// Datagrams read from one helper in one turn: others have their turn then.
const ROUNDS: usize = 32;

/// What is said about a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Part,
    Done,
    Error,
    Ask,
}

impl Drive {
    /// Reads what a helper says. One that owes nothing is not read to the end of what is there, unless `all`.
    pub(super) fn hear(&mut self, from: HelperRef, all: bool) {
        let speaks_dbus = |found: &super::Helper| matches!(found.speech, Speech::Dbus(_));
        if self.helpers.get(from).is_some_and(speaks_dbus) {
            return self.hear_stream(from, all);
        }
        let mut buffer = std::mem::take(&mut self.datagram);
        buffer.resize(MESSAGE_BYTES_MAX, 0);
        for round in 0.. {
            let Some(found) = self.helpers.get(from) else { break };
            let Some(process) = found.process.as_deref() else { break };
            if found.choked && !all {
                break;
            }
            if round == ROUNDS {
                self.look_at_helper_again(from);
                break;
            }
            match process.receive(&mut buffer) {
                Said::Message(n) => {
                    let message = buffer.get_mut(..n).unwrap_or_default();
                    self.heard(from, message);
                    // It may be an answer that holds a secret, which is never large.
                    if message.len() <= HEADER_BYTES + WIPED_BYTES_MAX {
                        wipe(message);
                    }
                }
                Said::TooLarge => {
                    self.helper_broke(from, "it sent a message larger than the largest");
                    break;
                }
                Said::Nothing => break,
                Said::End => {
                    self.helper_hung_up(from);
                    break;
                }
            }
            if !all && !self.helpers.get(from).is_some_and(super::Helper::owes) {
                break;
            }
        }
        self.datagram = buffer;
    }

    fn heard(&mut self, from: HelperRef, message: &[u8]) {
        let Some(found) = self.helpers.get(from) else { return };
        if found.phase == Phase::Dying {
            return;
        }
        let starting = found.phase == Phase::Starting;
        let memory = found.process.as_ref().and_then(|process| process.memory());
        let shared_bytes = memory.map_or(0, |memory| u32::try_from(memory.len()).unwrap_or(0));
        let said = match helper::from_helper(message, shared_bytes) {
            Ok(said) => said,
            Err(fault) => return self.helper_broke(from, &format!("it sent what is no message: {fault}")),
        };
        match said {
            FromHelper::Ready { concurrency, software } if starting => self.helper_ready(from, concurrency, software),
            FromHelper::Unable { text } if starting => {
                let text = text.to_owned();
                self.helper_unable(from, text);
            }
            FromHelper::Ready { .. } | FromHelper::Unable { .. } => {
                self.helper_broke(from, "it said twice whether it is ready")
            }
            _ if starting => self.helper_broke(from, "it did not say that it is ready before anything else"),
            FromHelper::Part { call, payload } => self.helper_answers(from, call, What::Part, payload),
            FromHelper::Done { call, payload } => self.helper_answers(from, call, What::Done, payload),
            FromHelper::Error { call, payload } => self.helper_answers(from, call, What::Error, payload),
            FromHelper::Ask { call, payload } => self.helper_answers(from, call, What::Ask, payload),
            FromHelper::Interrupted { call } => self.helper_came_back(from, call),
        }
    }

    fn helper_answers(&mut self, from: HelperRef, id: u32, what: What, payload: Payload<'_>) {
        let mut copied = std::mem::take(&mut self.copied);
        match payload {
            Payload::Inline(bytes) => self.helper_said(from, id, what, bytes),
            Payload::Shared { offset, bytes } => {
                let found = self.helpers.get(from).and_then(|found| found.process.as_ref());
                let read = found
                    .and_then(|process| process.memory())
                    .is_some_and(|memory| memory.read(offset, bytes, &mut copied));
                if read {
                    self.helper_said(from, id, what, &copied);
                } else {
                    self.helper_broke(from, "what it named is not in the shared memory");
                }
            }
        }
        wipe(&mut copied);
        copied.clear();
        self.copied = copied;
    }

    /// Something about a call, all its bytes in hand.
    fn helper_said(&mut self, from: HelperRef, id: u32, what: What, bytes: &[u8]) {
        let answer = match what {
            What::Part => Answer::Part(bytes),
            What::Done => Answer::Whole(bytes),
            What::Ask => Answer::Ask(bytes),
            What::Error => match helper::read_error(bytes) {
                Ok((code, text)) => Answer::Failed {
                    code: ErrorCode::Failed { code: code.into() },
                    text,
                },
                Err(fault) => return self.helper_broke(from, &format!("its error is none: {fault}")),
            },
        };
        self.helper_answered(from, id, &answer);
    }

    /// An answer of a call, or something on the way to one. Passed over where the call is not open.
    pub(super) fn helper_answered(&mut self, from: HelperRef, id: u32, answer: &Answer<'_>) {
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        let most = found.plan.reply_bytes_max;
        let Some(call) = found.calls.get_mut(id).filter(|call| !call.over) else {
            return;
        };
        if let Answer::Part(bytes) | Answer::Whole(bytes) = answer {
            call.answer_bytes = call.answer_bytes.saturating_add(bytes.len());
        }
        if call.answer_bytes > most {
            return self.answer_too_large(from, id);
        }
        let ticket = call.ticket;
        let over = matches!(answer, Answer::Whole(_) | Answer::Failed { .. });
        if over {
            self.call_ended(from, id);
        }
        self.hand_on(from, ticket, over, answer);
    }

    /// Gives something to whoever waits for it.
    fn hand_on(&mut self, from: HelperRef, ticket: Ticket, over: bool, answer: &Answer<'_>) {
        let now = self.now;
        let Some(found) = self.helpers.get(from) else { return };
        let (index, Some(upstream)) = (found.pool, found.upstream) else {
            return;
        };
        let alone = found.concurrency == 1;
        let Some(state) = self.pool(index) else { return };
        if state.pool.upstream_of(ticket) != Some(upstream) {
            // The pool has ended it; an interrupt is under way, and its acknowledgement is what counts.
            return;
        }
        let settlement = if over {
            Settlement::Done(Verdict::Well)
        } else {
            Settlement::Part
        };
        let Some(caller) = state.pool.reply(ticket, upstream, settlement, now, &mut state.effects) else {
            return self.carry_out(index, None);
        };
        if over {
            state.land(ticket);
            if let Some(service) = state.service() {
                service.count(answer);
            }
        }
        match self.answer_call(caller, answer) {
            // A client that does not read what a helper streams to it holds that helper up, and nobody else.
            Heard::Full if alone && !over => {
                if let Some(found) = self.helpers.get_mut(from) {
                    found.choked = true;
                }
                self.wait_for_caller(caller, index, upstream);
            }
            Heard::Unasked => {
                self.program_input(index, ticket, &[]);
            }
            Heard::Full | Heard::Taken | Heard::Gone => {}
        }
        self.carry_out(index, None);
    }

    /// The helper has ended a call: its figures, and whether it has served long enough.
    fn call_ended(&mut self, from: HelperRef, id: u32) {
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        let Some(call) = found.calls.get_mut(id).copied() else {
            return;
        };
        let waited_for = found.calls.end(id);
        found.requests += 1;

        let worn = found.requests_max.is_some_and(|most| found.requests >= most);
        if let Some(ticket) = waited_for {
            self.helper_is_back(from, ticket);
        }
        if call.slow {
            self.log_slow(from, &call, true);
        }

        if worn {
            self.recycle_helper(from, Exit::Recycled);
        } else {
            self.weigh_helper(from);
        }
    }

    pub(super) fn answer_too_large(&mut self, from: HelperRef, id: u32) {
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        let most = found.plan.reply_bytes_max;
        let Some(ticket) = found
            .calls
            .get_mut(id)
            .filter(|call| !call.over)
            .map(|call| call.ticket)
        else {
            return self.helper_broke(from, "a message larger than allowed");
        };
        let text = format!("the answer is larger than the {most} bytes allowed");
        let answer = Answer::Failed {
            code: ErrorCode::TooLarge,
            text: &text,
        };
        self.set_aside_helper(from);
        if let Some(found) = self.helpers.get_mut(from) {
            found.why = Some(Exit::Crash);
            found.calls.end(id);
        }
        self.hand_on(from, ticket, true, &answer);
        self.helper_broke(from, "an answer larger than allowed");
    }

    /// It gets nothing new from now on.
    pub(super) fn set_aside_helper(&mut self, helper: HelperRef) {
        let now = self.now;
        let Some(found) = self.helpers.get(helper) else { return };
        let (index, Some(upstream)) = (found.pool, found.upstream) else {
            return;
        };
        if let Some(state) = self.pool(index) {
            state.pool.upstream_draining(upstream, now, &mut state.effects);
        }
        self.carry_out(index, None);
    }

    fn helper_came_back(&mut self, from: HelperRef, id: u32) {
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        let Some(call) = found.calls.get_mut(id).filter(|call| call.interrupted) else {
            return;
        };
        if !call.over {
            return self.helper_broke(from, "it acknowledged the interrupt of a call that it has not ended");
        }
        if let Some(ticket) = found.calls.acknowledged(id) {
            self.helper_is_back(from, ticket);
        }
    }

    /// The helper is free of a call that was given up.
    pub(super) fn helper_is_back(&mut self, from: HelperRef, ticket: Ticket) {
        let now = self.now;
        let Some(found) = self.helpers.get(from) else { return };
        let (index, Some(upstream)) = (found.pool, found.upstream) else {
            return;
        };
        if let Some(state) = self.pool(index) {
            let done = Settlement::Done(Verdict::Well);
            state.pool.reply(ticket, upstream, done, now, &mut state.effects);
        }
        self.carry_out(index, None);
    }

    /// The client that it waited for has read, or is gone.
    pub(in crate::drive) fn unchoke_helper(&mut self, helper: HelperRef) {
        if let Some(found) = self.helpers.get_mut(helper) {
            found.choked = false;
            self.look_at_helper_again(helper);
        }
    }
}
