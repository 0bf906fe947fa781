//! What stands behind one RADIUS listener on one worker: packets in, answers and questions out.
//!
//! A packet is judged in this order: its client, its form, the client's rate, whether it came before, whether it is protected as
//! its client must protect it. Then its request is *asking* (a chain of directories and services), *recording* (an accounting
//! record is being written) or *held back* (a reject that is decided). A request ends in exactly one of three ways: an answer, silence, or
//! cancelled because its client has asked something else under the same identifier; after that nothing is sent for it.
//!
//! No Access-Accept without a back end that said yes, and what cannot be asked is no verdict: a wrong password is never
//! "unavailable", and unavailable is never a wrong password.
//!
//! Calling order: after each call the owner takes what is to be done ([`Front::effect`]) until there is nothing, and calls
//! [`Front::tick`] at [`Front::wake_at`].

mod asking;
mod effect;
pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use wire::radius::{Code, Packet, Writer};
use zeroize::Zeroizing;

use crate::ask::Event;
use crate::core::arena::{Arena, Handle};
use crate::core::time::Instant;
use crate::radius::clients::ClientId;
use crate::radius::duplicates::{Duplicates, Mark, Seen};
use crate::radius::{Dropped, Path};
use asking::{Asking, Step};
pub use effect::{Effect, RequestId};
use plan::{Accounting, Plan, Port};

/// See the module.
#[derive(Debug)]
pub struct Front {
    plan: Arc<Plan>,
    duplicates: Duplicates,
    requests: Arena<Running>,
    /// In the order of their moments: when a request is given up, and when a reject is sent.
    deadlines: VecDeque<(Instant, RequestId)>,
    held_back: VecDeque<(Instant, RequestId)>,
    /// Whose request a mark is, at the mark's place.
    owners: Vec<Option<RequestId>>,
    effects: VecDeque<Effect>,
}

/// A request that waits.
#[derive(Debug)]
struct Running {
    plan: Arc<Plan>,
    client: ClientId,
    path: Path,
    mark: Mark,
    deadline: Instant,
    packet: Zeroizing<Vec<u8>>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Asking(Box<Asking>),
    Recording,
    HeldBack,
}

/// How a request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Accept,
    Reject,
    Recorded,
    Silence(Dropped),
}

/// An accounting request that is to be written.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The packet.
    pub packet: Packet<'a>,
    /// The client's name.
    pub client: &'a str,
    /// Where it came from.
    pub path: Path,
}

impl Front {
    /// Nothing has come yet. `seed`: chance, for the table of duplicates.
    #[must_use]
    pub fn new(plan: Arc<Plan>, seed: u64) -> Front {
        Front {
            duplicates: Duplicates::new(plan.settings.duplicates, seed),
            plan,
            requests: Arena::new(),
            deadlines: VecDeque::new(),
            held_back: VecDeque::new(),
            owners: Vec::new(),
            effects: VecDeque::new(),
        }
    }

    /// Other settings, for requests from now on; those that wait end by the plan that they were begun with.
    pub fn configure(&mut self, plan: Arc<Plan>) {
        self.duplicates.configure(plan.settings.duplicates);
        self.plan = plan;
    }

    /// What is to be done next.
    pub fn effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// The table of duplicates' figures.
    #[must_use]
    pub fn duplicates(&self) -> crate::radius::duplicates::Figures {
        self.duplicates.figures()
    }

    /// A datagram that was received at `received_at`, as the kernel says, or now. Answers are appended to `out`.
    pub fn received(&mut self, datagram: &[u8], path: &Path, received_at: Instant, now: Instant, out: &mut Vec<u8>) {
        self.requests.turn();
        let plan = Arc::clone(&self.plan);
        let Some(id) = plan.clients.find(path.from.ip()) else {
            return self.dropped(None, *path, Dropped::UnknownClient);
        };
        if let Err(why) = self.admit(&plan, id, datagram, path, received_at, now, out) {
            self.dropped(Some(id), *path, why);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one packet's circumstances, in one place")]
    fn admit(
        &mut self,
        plan: &Arc<Plan>,
        id: ClientId,
        datagram: &[u8],
        path: &Path,
        received_at: Instant,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Dropped> {
        let client = plan.clients.get(id).ok_or(Dropped::UnknownClient)?;
        let packet = Packet::parse(datagram).map_err(|_| Dropped::Malformed)?;
        let answered = match packet.code() {
            Code::ACCESS_REQUEST => plan.port != Port::Accounting,
            Code::ACCOUNTING_REQUEST => plan.port != Port::Authentication,
            code => code == Code::STATUS_SERVER,
        };
        if !answered {
            return Err(Dropped::UnexpectedCode);
        }
        if !client.admits(now) {
            return Err(Dropped::RateLimited);
        }
        match self.duplicates.look(path, &packet, now) {
            Seen::Working => return Err(Dropped::Duplicate),
            Seen::Answered(reply) => {
                let start = out.len();
                out.extend_from_slice(reply);
                let bytes = start..out.len();
                self.effects.push_back(Effect::Send { path: *path, bytes });
                return Ok(());
            }
            Seen::New => {}
        }
        client.verify(&packet)?;
        if now.since(received_at) >= plan.settings.patience {
            return Err(Dropped::Stale);
        }
        let begun = self.duplicates.begin(path, &packet, now).ok_or(Dropped::Full)?;
        if let Some(old) = begun.replaced.and_then(|old| self.owner(old)) {
            self.cancelled(old);
        }
        let over = match packet.code() {
            Code::STATUS_SERVER => Some(Outcome::Accept),
            Code::ACCOUNTING_REQUEST if plan.accounting == Accounting::Discard => Some(Outcome::Recorded),
            _ => None,
        };
        if let Some(outcome) = over {
            self.answer(plan, id, path, begun.mark, &packet, outcome, now, out);
            return Ok(());
        }
        if self.requests.len() >= plan.settings.requests_max {
            self.duplicates.forget(begun.mark);
            return Err(Dropped::Full);
        }
        self.begin(plan, id, path, begun.mark, &packet, received_at, now, out);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what a waiting request keeps")]
    fn begin(
        &mut self,
        plan: &Arc<Plan>,
        client: ClientId,
        path: &Path,
        mark: Mark,
        packet: &Packet<'_>,
        received_at: Instant,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let accounting = packet.code() == Code::ACCOUNTING_REQUEST;
        let deadline = received_at + plan.settings.request_timeout;
        let running = Running {
            plan: Arc::clone(plan),
            client,
            path: *path,
            mark,
            deadline,
            packet: Zeroizing::new(packet.as_bytes().to_vec()),
            work: if accounting {
                Work::Recording
            } else {
                Work::Asking(Box::default())
            },
        };
        let Some(handle) = self.requests.insert(running) else {
            self.duplicates.forget(mark);
            return self.dropped(Some(client), *path, Dropped::Full);
        };
        let request = RequestId(handle.to_bits());
        self.own(mark, request);
        // Datagrams come nearly in order; one that is looked at late is given up no earlier than those before it.
        let last = self.deadlines.back().map_or(deadline, |(last, _)| deadline.max(*last));
        // Those that have ended are not kept until their moment.
        while let Some((_, ended)) = self.deadlines.front()
            && self.requests.get(Handle::from_bits(ended.0)).is_none()
        {
            self.deadlines.pop_front();
        }
        self.deadlines.push_back((last, request));
        if accounting {
            self.effects.push_back(Effect::Record { request });
            return;
        }
        self.go_on(request, None, now, out);
    }

    /// What came of a question.
    pub fn told(&mut self, request: RequestId, question: u32, event: &Event<'_>, now: Instant, out: &mut Vec<u8>) {
        self.requests.turn();
        self.go_on(request, Some((question, event)), now, out);
    }

    /// The record that is to be written; none: nobody waits for it any more.
    #[must_use]
    pub fn record(&self, request: RequestId) -> Option<Record<'_>> {
        let running = self.requests.get(Handle::from_bits(request.0))?;
        Some(Record {
            packet: Packet::parse(&running.packet).ok()?,
            client: &running.plan.clients.get(running.client)?.name,
            path: running.path,
        })
    }

    /// A record was written, durably; or it was not.
    pub fn written(&mut self, request: RequestId, done: bool, now: Instant, out: &mut Vec<u8>) {
        self.requests.turn();
        let running = self.requests.get(Handle::from_bits(request.0));
        if running.is_some_and(|running| matches!(running.work, Work::Recording)) {
            let outcome = if done {
                Outcome::Recorded
            } else {
                Outcome::Silence(Dropped::NotWritten)
            };
            self.finish(request, outcome, now, out);
        }
    }

    /// Gives up what has waited too long, and sends rejects that were held back.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.requests.turn();
        self.duplicates.tick(now);
        while let Some((_, request)) = self.held_back.pop_front_if(|(at, _)| *at <= now) {
            self.finish(request, Outcome::Reject, now, out);
        }
        while let Some((_, request)) = self.deadlines.pop_front_if(|(at, _)| *at <= now) {
            let running = self.requests.get(Handle::from_bits(request.0));
            if running.is_some_and(|running| !matches!(running.work, Work::HeldBack)) {
                self.effects.push_back(Effect::Cancel { request });
                self.finish(request, Outcome::Silence(Dropped::Unavailable), now, out);
            }
        }
    }

    /// When [`Front::tick`] has something to do.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        let first = |list: &VecDeque<(Instant, RequestId)>| list.front().map(|(at, _)| *at);
        let moments = [
            first(&self.held_back),
            first(&self.deadlines),
            self.duplicates.wake_at(),
        ];
        moments.into_iter().flatten().min()
    }

    /// Lets a request say what it has to ask, or how it ended.
    fn go_on(&mut self, request: RequestId, told: Option<(u32, &Event<'_>)>, now: Instant, out: &mut Vec<u8>) {
        let Some(running) = self.requests.get_mut(Handle::from_bits(request.0)) else {
            return;
        };
        let (plan, deadline) = (Arc::clone(&running.plan), running.deadline);
        let Work::Asking(asking) = &mut running.work else {
            return;
        };
        let (Ok(packet), Some(client)) = (Packet::parse(&running.packet), plan.clients.get(running.client)) else {
            return;
        };
        let step = match told {
            None => asking.begin(&packet, client, &plan),
            Some((question, event)) => asking.told(question, event, &packet, client, &plan),
        };
        while let Some((pool, question)) = asking.question() {
            self.effects.push_back(Effect::Ask {
                request,
                pool,
                deadline,
                question,
            });
        }
        match step {
            Step::Wait => {}
            Step::Accept => self.finish(request, Outcome::Accept, now, out),
            Step::Silence => self.finish(request, Outcome::Silence(Dropped::Unavailable), now, out),
            Step::Reject => {
                let settings = plan.settings;
                if settings.reject_delay.is_zero() || self.held_back.len() >= settings.delayed_max {
                    return self.finish(request, Outcome::Reject, now, out);
                }
                running.work = Work::HeldBack;
                let at = now + settings.reject_delay;
                let last = self.held_back.back().map_or(at, |(last, _)| at.max(*last));
                self.held_back.push_back((last, request));
            }
        }
    }

    fn finish(&mut self, request: RequestId, outcome: Outcome, now: Instant, out: &mut Vec<u8>) {
        let Some(running) = self.requests.remove(Handle::from_bits(request.0)) else {
            return;
        };
        self.disown(running.mark);
        let Ok(packet) = Packet::parse(&running.packet) else {
            return;
        };
        let (plan, mark) = (&running.plan, running.mark);
        self.answer(plan, running.client, &running.path, mark, &packet, outcome, now, out);
    }

    #[expect(clippy::too_many_arguments, reason = "one packet's circumstances, in one place")]
    fn answer(
        &mut self,
        plan: &Plan,
        id: ClientId,
        path: &Path,
        mark: Mark,
        packet: &Packet<'_>,
        outcome: Outcome,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let code = match (outcome, packet.code()) {
            (Outcome::Silence(why), _) => {
                self.duplicates.forget(mark);
                return self.dropped(Some(id), *path, why);
            }
            (Outcome::Reject, _) => Code::ACCESS_REJECT,
            (Outcome::Recorded, _) => Code::ACCOUNTING_RESPONSE,
            // RFC 5997 section 3: as the port answers.
            (Outcome::Accept, Code::STATUS_SERVER) if plan.port == Port::Accounting => Code::ACCOUNTING_RESPONSE,
            (Outcome::Accept, _) => Code::ACCESS_ACCEPT,
        };
        let start = out.len();
        let Some(client) = plan.clients.get(id) else { return };
        let mut writer = Writer::reply(out, code, packet);
        let whole = writer.proxy_states(packet).is_ok();
        let whole = writer.finish(&client.secret).is_ok() && whole;
        let written = out.get(start..).unwrap_or_default();
        if !whole || !self.duplicates.answered(mark, written, now) {
            out.truncate(start);
            self.duplicates.forget(mark);
            return self.dropped(Some(id), *path, Dropped::Cancelled);
        }
        let bytes = start..out.len();
        self.effects.push_back(Effect::Send { path: *path, bytes });
    }

    /// The client has asked something else under the same identifier.
    fn cancelled(&mut self, request: RequestId) {
        if let Some(running) = self.requests.remove(Handle::from_bits(request.0)) {
            self.disown(running.mark);
            self.effects.push_back(Effect::Cancel { request });
            self.dropped(Some(running.client), running.path, Dropped::Cancelled);
        }
    }

    fn dropped(&mut self, client: Option<ClientId>, path: Path, why: Dropped) {
        self.effects.push_back(Effect::Dropped { client, path, why });
    }

    fn own(&mut self, mark: Mark, request: RequestId) {
        if self.owners.len() <= mark.index() {
            self.owners.resize(mark.index() + 1, None);
        }
        if let Some(owner) = self.owners.get_mut(mark.index()) {
            *owner = Some(request);
        }
    }

    fn disown(&mut self, mark: Mark) {
        if let Some(owner) = self.owners.get_mut(mark.index()) {
            *owner = None;
        }
    }

    fn owner(&self, mark: Mark) -> Option<RequestId> {
        let request = (*self.owners.get(mark.index())?)?;
        let running = self.requests.get(Handle::from_bits(request.0))?;
        (running.mark == mark).then_some(request)
    }
}
