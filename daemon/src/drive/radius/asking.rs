//! What fronts ask: of pools of this worker, or of those of another one, which is asked through its inbox.
//!
//! A directory lives on some workers, a service on one; a front lives on all. A question goes to the pool of this worker
//! where there is one, else to a worker that has one, and what comes of it comes back the same way. An answer whose request
//! is over meets nobody: requests are named for good.

use std::collections::HashMap;

use engine::ask::{Event, Question, To};
use engine::core::Ticket;
use engine::core::time::Instant;
use engine::session::radius::RequestId;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::message;

use super::super::ask::end_of;
use super::super::calls::{Answer, Heard, NewCall};
use super::super::conn::ConnRef;
use super::super::places::{PlaceRef, Places};
use super::super::pools::Caller;
use super::super::{Drive, Job, SERVICES_HOME, hosts};
use crate::config::plan::Behind;

/// No descriptor of these is in a poll: a bit that nobody else has.
const TOKEN_BIT: u32 = 4;
/// A service's answer in parts, altogether.
const PARTS_BYTES_MAX: usize = 1 << 20;

/// Whose question it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Owner {
    worker: usize,
    listener: u64,
    request: RequestId,
}

/// A question that was submitted here.
#[derive(Debug)]
struct Open {
    owner: Owner,
    question: u32,
    pool: usize,
    ticket: Option<Ticket>,
    /// What a service has said so far.
    parts: Vec<u8>,
}

/// The questions that are asked of this worker's pools.
#[derive(Debug)]
pub(super) struct Asking {
    open: Places<Open>,
    of: HashMap<Owner, Vec<PlaceRef>, foldhash::fast::RandomState>,
}

impl Default for Asking {
    fn default() -> Self {
        Asking {
            open: Places::new(TOKEN_BIT),
            of: HashMap::default(),
        }
    }
}

impl Asking {
    pub(super) fn turn(&mut self) {
        self.open.turn();
    }

    fn find(&mut self, caller: Caller) -> Option<(PlaceRef, &mut Open)> {
        let handle = PlaceRef::from_parts(caller.id.cast_unsigned(), caller.conn.generation);
        Some((handle, self.open.get_mut(handle)?))
    }

    fn insert(&mut self, open: Open) -> PlaceRef {
        let owner = open.owner;
        let handle = self.open.insert(open);
        self.of.entry(owner).or_default().push(handle);
        handle
    }

    fn remove(&mut self, handle: PlaceRef) -> Option<Open> {
        let open = self.open.remove(handle)?;
        if let Some(others) = self.of.get_mut(&open.owner) {
            others.retain(|other| *other != handle);
            if others.is_empty() {
                self.of.remove(&open.owner);
            }
        }
        Some(open)
    }
}

/// A question for another worker.
#[derive(Debug)]
pub struct RadiusAsk {
    owner: Owner,
    target: Behind,
    deadline: Instant,
    question: Question,
}

/// What came of one.
#[derive(Debug)]
pub struct RadiusTold {
    owner: Owner,
    question: u32,
    word: Word,
}

#[derive(Debug)]
enum Word {
    /// An LDAP message, whole; whether it is the last.
    Message(Vec<u8>, bool),
    Answer(Vec<u8>),
    Failed,
}

fn caller_of(handle: PlaceRef, tag: u8) -> Caller {
    let (at, generation) = handle.parts();
    Caller {
        conn: ConnRef {
            at: ConnRef::RADIUS_AT,
            generation,
        },
        id: at.cast_signed(),
        tag,
    }
}

impl Drive {
    pub(super) fn radius_ask(
        &mut self,
        listener: u64,
        request: RequestId,
        target: usize,
        deadline: Instant,
        question: Question,
    ) {
        let owner = Owner {
            worker: self.number,
            listener,
            request,
        };
        let id = question.id;
        let found = self
            .radius
            .of(listener)
            .and_then(|one| one.face.targets.get(target).cloned());
        let Some(target) = found else {
            return self.radius_told(owner, id, &Event::Failed);
        };
        let ask = RadiusAsk {
            owner,
            target,
            deadline,
            question,
        };
        if self.radius_pool(&ask.target).is_some() {
            return self.radius_asked(&ask);
        }
        let host = self.radius_host(&ask.target, request);
        let taken = host
            .and_then(|host| self.shared.inbox(host))
            .is_some_and(|inbox| inbox.push(Job::RadiusAsk(Box::new(ask))).is_ok());
        if !taken {
            self.radius_told(owner, id, &Event::Failed);
        }
    }

    fn radius_pool(&self, target: &Behind) -> Option<usize> {
        match target {
            Behind::Directory(name) => self.find_directory(name),
            Behind::Service(name) => self.find_service(name),
        }
    }

    /// A worker that has this pool.
    fn radius_host(&self, target: &Behind, request: RequestId) -> Option<usize> {
        match target {
            Behind::Service(_) => Some(SERVICES_HOME),
            Behind::Directory(name) => {
                let plan = self.plan.as_ref()?;
                let hosts = hosts(plan.directories.get(name)?, plan.server.workers);
                let turn = usize::try_from(request.to_bits() % hosts.len().max(1) as u64).unwrap_or(0);
                hosts.get(turn).copied()
            }
        }
        .filter(|host| *host != self.number)
    }

    /// A question for a pool of this worker.
    pub(crate) fn radius_asked(&mut self, ask: &RadiusAsk) {
        let (owner, id) = (ask.owner, ask.question.id);
        let Some(pool) = self.radius_pool(&ask.target) else {
            return self.radius_told(owner, id, &Event::Failed);
        };
        let question = &ask.question;
        let open = Open {
            owner,
            question: id,
            pool,
            ticket: None,
            parts: Vec::new(),
        };
        let handle = self.radius.asking.insert(open);
        let submitted = if question.to == To::Service {
            let call = NewCall {
                payload: &question.bytes,
                given: false,
                timeout: Some(ask.deadline.since(self.now)),
                direct: None,
            };
            self.submit_call(pool, caller_of(handle, 0), call).ok()
        } else {
            let tag = envelope::peek(&question.bytes).map_or(0, |env| env.tag);
            self.submit_ldap_question(pool, caller_of(handle, tag), question, None)
        };
        match (submitted, self.radius.asking.open.get_mut(handle)) {
            (Some(ticket), Some(open)) => {
                open.ticket = Some(ticket);
                self.carry_out(pool, None);
                self.make_way(pool);
            }
            _ => self.radius_end(handle, &Event::Failed),
        }
    }

    /// A message of a server's.
    pub(in crate::drive) fn radius_replied(&mut self, caller: Caller, env: &Envelope<'_>, last: bool) {
        let Some((handle, open)) = self.radius.asking.find(caller) else {
            return;
        };
        let (owner, question) = (open.owner, open.question);
        if last {
            self.radius.asking.remove(handle);
        }
        if owner.worker == self.number {
            return self.radius_message(owner, question, env, last);
        }
        let mut bytes = Vec::new();
        envelope::write(&mut bytes, 1, env.op, env.controls, &[]);
        self.radius_tell(owner, question, Word::Message(bytes, last));
    }

    fn radius_message(&mut self, owner: Owner, question: u32, env: &Envelope<'_>, last: bool) {
        if last {
            return self.radius_told(owner, question, &end_of(env));
        }
        if env.tag == tag::SEARCH_ENTRY
            && let Ok(entry) = message::read_entry(env.op)
        {
            self.radius_told(owner, question, &Event::Entry(entry));
        }
    }

    /// A service has said something.
    pub(in crate::drive) fn radius_answered(&mut self, caller: Caller, answer: &Answer<'_>) -> Heard {
        let Some((handle, open)) = self.radius.asking.find(caller) else {
            return Heard::Gone;
        };
        match answer {
            Answer::Ask(_) => return Heard::Unasked,
            Answer::Part(bytes) => {
                // What is longer than any answer is none; the call ends by its deadline.
                if open.parts.len() + bytes.len() <= PARTS_BYTES_MAX {
                    open.parts.extend_from_slice(bytes);
                }
            }
            Answer::Whole(bytes) if open.parts.is_empty() => self.radius_end(handle, &Event::Answer(bytes)),
            Answer::Whole(bytes) => {
                let mut parts = std::mem::take(&mut open.parts);
                parts.extend_from_slice(bytes);
                self.radius_end(handle, &Event::Answer(&parts));
            }
            Answer::Failed { code, text } => {
                tracing::debug!(?code, text, "a service has not answered a RADIUS request");
                self.radius_end(handle, &Event::Failed);
            }
        }
        Heard::Taken
    }

    /// A pool has ended a question without an answer.
    pub(in crate::drive) fn radius_failed(&mut self, caller: Caller) {
        if let Some((handle, _)) = self.radius.asking.find(caller) {
            self.radius_end(handle, &Event::Failed);
        }
    }

    /// The last word on a question.
    fn radius_end(&mut self, handle: PlaceRef, event: &Event<'_>) {
        let Some(open) = self.radius.asking.remove(handle) else {
            return;
        };
        if open.owner.worker == self.number {
            return self.radius_told(open.owner, open.question, event);
        }
        let word = match event {
            Event::Answer(bytes) => Word::Answer(bytes.to_vec()),
            _ => Word::Failed,
        };
        self.radius_tell(open.owner, open.question, word);
    }

    fn radius_tell(&self, owner: Owner, question: u32, word: Word) {
        let told = RadiusTold { owner, question, word };
        if let Some(inbox) = self.shared.inbox(owner.worker)
            && inbox.push(Job::RadiusTold(Box::new(told))).is_err()
        {
            tracing::warn!(
                worker = owner.worker,
                "a worker's inbox is full: a RADIUS request will not be answered"
            );
        }
    }

    /// Another worker says what came of a question.
    pub(in crate::drive) fn radius_hears(&mut self, told: &RadiusTold) {
        match &told.word {
            Word::Message(bytes, last) => match envelope::peek(bytes) {
                Ok(env) => self.radius_message(told.owner, told.question, &env, *last),
                Err(_) => self.radius_told(told.owner, told.question, &Event::Failed),
            },
            Word::Answer(bytes) => self.radius_told(told.owner, told.question, &Event::Answer(bytes)),
            Word::Failed => self.radius_told(told.owner, told.question, &Event::Failed),
        }
    }

    fn radius_told(&mut self, owner: Owner, question: u32, event: &Event<'_>) {
        if owner.worker != self.number {
            let word = match event {
                Event::Answer(bytes) => Word::Answer(bytes.to_vec()),
                _ => Word::Failed,
            };
            return self.radius_tell(owner, question, word);
        }
        let now = self.now;
        let Some(index) = self.radius.position(owner.listener) else {
            return;
        };
        if let Some(listener) = self.radius.at(index) {
            listener
                .front
                .told(owner.request, question, event, now, &mut listener.out);
            self.radius_effects(index);
        }
    }

    /// Nobody waits for a request's questions any more.
    pub(super) fn radius_cancel(&mut self, listener: u64, request: RequestId) {
        let owner = Owner {
            worker: self.number,
            listener,
            request,
        };
        self.radius_canceled(owner);
        let targets = self.radius.of(listener).map(|one| one.face.targets.clone());
        for target in targets.unwrap_or_default() {
            if self.radius_pool(&target).is_none()
                && let Some(inbox) = self
                    .radius_host(&target, request)
                    .and_then(|host| self.shared.inbox(host))
            {
                // Without room there it ends by its deadline.
                let _ = inbox.push(Job::RadiusCancel(CanceledRequest(owner)));
            }
        }
    }

    /// Another worker says that nobody waits for a request's questions any more.
    pub(in crate::drive) fn radius_hears_cancel(&mut self, canceled: CanceledRequest) {
        self.radius_canceled(canceled.0);
    }

    fn radius_canceled(&mut self, owner: Owner) {
        let now = self.now;
        for handle in self.radius.asking.of.remove(&owner).unwrap_or_default() {
            let Some(open) = self.radius.asking.open.remove(handle) else {
                continue;
            };
            if let Some(ticket) = open.ticket
                && let Some(state) = self.pool(open.pool)
            {
                state.pool.cancel(ticket, now, &mut state.effects);
                self.carry_out(open.pool, None);
            }
        }
    }

    /// A listener is closed: nothing is asked for it any more.
    pub(super) fn radius_cancel_all(&mut self, listener: u64) {
        let number = self.number;
        let is = |owner: &&Owner| owner.worker == number && owner.listener == listener;
        let owners: Vec<Owner> = self.radius.asking.of.keys().filter(is).copied().collect();
        for owner in owners {
            self.radius_canceled(owner);
        }
    }
}

/// A request of another worker's that nobody waits for any more.
#[derive(Clone, Copy, Debug)]
pub struct CanceledRequest(Owner);
