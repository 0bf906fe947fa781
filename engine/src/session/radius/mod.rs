//! What stands behind one RADIUS listener on one worker: packets in, answers and questions out.
//!
//! A packet is judged in this order: its client, its form, the client's rate, whether it came before, whether it is protected as
//! its client must protect it. Then its request is *asking* (a chain of directories and services), *recording* (an accounting
//! record is being written) or *held back* (a reject that is decided). A request ends in exactly one of three ways: an answer, silence, or
//! cancelled because its client has asked something else under the same identifier; after that nothing is sent for it. What can be answered
//! at once (by a list of users, or accounting that is thrown away) never waits and leaves nothing behind but its answer.
//!
//! No Access-Accept without a back end that said yes, and what cannot be asked is no verdict: a wrong password is never
//! "unavailable", and unavailable is never a wrong password.
//!
//! Calling order: after each call the owner takes what is to be done ([`Front::effect`]) until there is nothing, and calls
//! [`Front::tick`] at [`Front::wake_at`].

mod answer;
mod asking;
mod chance;
mod change;
mod directory;
mod effect;
pub mod figures;
mod groups;
mod mac;
mod method;
pub mod plan;
mod reply;
mod rules;
mod service;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use wire::radius::{Code, Packet};
use zeroize::Zeroizing;

use crate::ask::Event;
use crate::core::arena::{Arena, Handle};
use crate::core::time::Instant;
use crate::password::Verdict;
use crate::radius::clients::{Client, ClientId};
use crate::radius::duplicates::{Duplicates, Mark, Seen};
use crate::radius::policy::Moment;
use crate::radius::{Dropped, Path};
use asking::{Asking, Cx, Step};
use chance::Chance;
pub use effect::{Effect, RequestId};
pub use figures::Figures;
pub use method::Method;
use method::Offer;
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
    chance: Chance,
    figures: Figures,
    /// Requests that were traced.
    traced: u64,
    moment: Moment,
}

/// A request that waits.
#[derive(Debug)]
struct Running {
    plan: Arc<Plan>,
    client: ClientId,
    path: Path,
    received_at: Instant,
    mark: Mark,
    deadline: Instant,
    packet: Zeroizing<Vec<u8>>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Asking(Box<Asking>),
    Recording,
    HeldBack(Box<Asking>),
}

/// One packet's circumstances.
#[derive(Clone, Copy)]
struct Came<'a> {
    plan: &'a Arc<Plan>,
    client: ClientId,
    path: &'a Path,
    received_at: Instant,
}

/// How a request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Accept,
    Reject,
    Recorded,
    /// To a Status-Server.
    Alive,
    Silence(Dropped),
}

/// What a request is asked about next.
#[derive(Clone, Copy)]
enum Told<'e> {
    Begin,
    Event(u32, &'e Event<'e>),
    Compared(Verdict),
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
    /// Nothing has come yet. `seed`: chance of the operating system's, for the table of duplicates, challenges and salts.
    #[must_use]
    pub fn new(plan: Arc<Plan>, seed: u64) -> Front {
        let mut figures = Figures::default();
        figures.configure(&plan);
        Front {
            duplicates: Duplicates::new(plan.settings.duplicates, seed),
            plan,
            requests: Arena::new(),
            deadlines: VecDeque::new(),
            held_back: VecDeque::new(),
            owners: Vec::new(),
            effects: VecDeque::new(),
            chance: Chance::new(seed),
            figures,
            traced: 0,
            moment: Moment::MONDAY,
        }
    }

    /// Other settings, for requests from now on; those that wait end by the plan that they were begun with.
    pub fn configure(&mut self, plan: Arc<Plan>) {
        self.duplicates.configure(plan.settings.duplicates);
        self.figures.configure(&plan);
        self.plan = plan;
    }

    /// The local time, for rules that ask for it: to be told at the start and with each minute, where the plan's
    /// policy [`needs_time`](crate::radius::policy::Policy::needs_time).
    pub fn local_time(&mut self, moment: Moment) {
        self.moment = moment;
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

    /// What was done, and how long answers take.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
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
        let Some(client) = plan.clients.find(path.from.ip()) else {
            return self.dropped(None, *path, Dropped::UnknownClient);
        };
        let came = Came {
            plan: &plan,
            client,
            path,
            received_at,
        };
        if let Err(why) = self.admit(came, datagram, now, out) {
            self.dropped(Some(client), *path, why);
        }
    }

    fn admit(&mut self, came: Came<'_>, datagram: &[u8], now: Instant, out: &mut Vec<u8>) -> Result<(), Dropped> {
        let (plan, path) = (came.plan, came.path);
        let client = plan.clients.get(came.client).ok_or(Dropped::UnknownClient)?;
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
        if now.since(came.received_at) >= plan.settings.patience {
            return Err(Dropped::Stale);
        }
        let begun = self.duplicates.begin(path, &packet, now).ok_or(Dropped::Full)?;
        if let Some(old) = begun.replaced.and_then(|old| self.owner(old)) {
            self.cancelled(old);
        }
        match packet.code() {
            Code::ACCESS_REQUEST => self.authenticate(came, client, begun.mark, &packet, now, out),
            Code::ACCOUNTING_REQUEST if plan.accounting == Accounting::Write => {
                self.record_it(came, begun.mark, &packet)
            }
            Code::ACCOUNTING_REQUEST => self.answer(came, begun.mark, &packet, Outcome::Recorded, None, now, out),
            _ => self.answer(came, begun.mark, &packet, Outcome::Alive, None, now, out),
        }
        Ok(())
    }

    /// Looks at an Access-Request: many are answered here and now.
    fn authenticate(
        &mut self,
        came: Came<'_>,
        client: &Client,
        mark: Mark,
        packet: &Packet<'_>,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let mut asking = Asking::default();
        if came.plan.traces.wants(packet, &client.name, now) {
            self.traced += 1;
            asking.trace = Some((self.traced, Vec::new()));
            asking.note(|| {
                let shown = reply::shown(packet, &came.plan.dictionary);
                format!(
                    "{} from client {} at {}: {shown}",
                    packet.code(),
                    client.name,
                    came.path.from
                )
            });
        }
        let step = self.step(&mut asking, Told::Begin, packet, client, came, now);
        if let Some(outcome) = self.outcome(step, &asking, came.plan) {
            return self.answer(came, mark, packet, outcome, Some(&mut asking), now, out);
        }
        self.wait(came, mark, packet, Work::Asking(Box::new(asking)), step, now);
    }

    fn record_it(&mut self, came: Came<'_>, mark: Mark, packet: &Packet<'_>) {
        if let Some(request) = self.keep(came, mark, packet, Work::Recording) {
            self.effects.push_back(Effect::Record { request });
        }
    }

    /// Keeps a request that cannot be answered yet. None: there is no room, and it was dropped.
    fn keep(&mut self, came: Came<'_>, mark: Mark, packet: &Packet<'_>, work: Work) -> Option<RequestId> {
        let deadline = came.received_at + came.plan.settings.request_timeout;
        let running = Running {
            plan: Arc::clone(came.plan),
            client: came.client,
            path: *came.path,
            received_at: came.received_at,
            mark,
            deadline,
            packet: Zeroizing::new(packet.as_bytes().to_vec()),
            work,
        };
        let has_room = self.requests.len() < came.plan.settings.requests_max;
        let Some(handle) = has_room.then(|| self.requests.insert(running)).flatten() else {
            self.duplicates.forget(mark);
            self.dropped(Some(came.client), *came.path, Dropped::Full);
            return None;
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
        Some(request)
    }

    /// Keeps an Access-Request that waits for what it asks, or as a reject that is held back.
    fn wait(&mut self, came: Came<'_>, mark: Mark, packet: &Packet<'_>, work: Work, step: Step, now: Instant) {
        if self.requests.len() >= came.plan.settings.requests_max
            && let Work::Asking(mut asking) = work
        {
            asking.left(came.plan, &mut self.figures, None);
            self.duplicates.forget(mark);
            return self.dropped(Some(came.client), *came.path, Dropped::Full);
        }
        let Some(request) = self.keep(came, mark, packet, work) else {
            return;
        };
        if step == Step::Reject {
            self.hold_back(request, now);
        }
        self.say(request);
    }

    /// What came of a question.
    pub fn told(&mut self, request: RequestId, question: u32, event: &Event<'_>, now: Instant, out: &mut Vec<u8>) {
        self.go_on(request, Told::Event(question, event), now, out);
    }

    /// What a comparison ([`Effect::Compare`]) told.
    pub fn compared(&mut self, request: RequestId, verdict: Verdict, now: Instant, out: &mut Vec<u8>) {
        self.go_on(request, Told::Compared(verdict), now, out);
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
            if running.is_some_and(|running| !matches!(running.work, Work::HeldBack(_))) {
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
    fn go_on(&mut self, request: RequestId, told: Told<'_>, now: Instant, out: &mut Vec<u8>) {
        self.requests.turn();
        let handle = Handle::from_bits(request.0);
        let Some(running) = self.requests.get_mut(handle) else {
            return;
        };
        let Work::Asking(asking) = &mut running.work else {
            return;
        };
        // Out of the arena for as long as it is looked at.
        let mut asking = std::mem::take(asking);
        let (plan, packet) = (Arc::clone(&running.plan), std::mem::take(&mut running.packet));
        let (path, client) = (running.path, plan.clients.get(running.client));
        let came = Came {
            plan: &plan,
            client: running.client,
            path: &path,
            received_at: running.received_at,
        };
        let step = match (Packet::parse(&packet), client) {
            (Ok(packet), Some(client)) => self.step(&mut asking, told, &packet, client, came, now),
            _ => Step::Silence,
        };
        let outcome = self.outcome(step, &asking, &plan);
        if let Some(running) = self.requests.get_mut(handle) {
            (running.packet, running.work) = (packet, Work::Asking(asking));
        }
        if let Some(outcome) = outcome {
            return self.finish(request, outcome, now, out);
        }
        if step == Step::Reject {
            self.hold_back(request, now);
        }
        self.say(request);
    }

    fn step(
        &mut self,
        asking: &mut Asking,
        told: Told<'_>,
        packet: &Packet<'_>,
        client: &Client,
        came: Came<'_>,
        now: Instant,
    ) -> Step {
        let offer = match Offer::read(packet, &client.secret) {
            Ok(offer) => offer,
            Err(refused) => return asking.refused(&refused),
        };
        let mut cx = Cx {
            packet,
            client,
            plan: came.plan,
            offer: &offer,
            now,
            patience: came.plan.settings.patience - now.since(came.received_at),
            moment: self.moment,
            figures: &mut self.figures,
        };
        match told {
            Told::Begin => asking.begin(&mut cx),
            Told::Event(question, event) => asking.told(question, event, &mut cx),
            Told::Compared(verdict) => asking.compared(verdict, &mut cx),
        }
    }

    /// How a request ends now; none: it goes on, or its reject is held back.
    fn outcome(&self, step: Step, asking: &Asking, plan: &Plan) -> Option<Outcome> {
        match step {
            Step::Wait => None,
            Step::Accept => Some(Outcome::Accept),
            Step::Silence if asking.shed => Some(Outcome::Silence(Dropped::Stale)),
            Step::Silence => Some(Outcome::Silence(Dropped::Unavailable)),
            Step::Reject => {
                let settings = &plan.settings;
                let has_room =
                    self.held_back.len() < settings.delayed_max && self.requests.len() < settings.requests_max;
                let at_once = settings.reject_delay.is_zero() || !has_room;
                at_once.then_some(Outcome::Reject)
            }
        }
    }

    fn hold_back(&mut self, request: RequestId, now: Instant) {
        let Some(running) = self.requests.get_mut(Handle::from_bits(request.0)) else {
            return;
        };
        if let Work::Asking(asking) = &mut running.work {
            running.work = Work::HeldBack(std::mem::take(asking));
        }
        let at = now + running.plan.settings.reject_delay;
        let last = self.held_back.back().map_or(at, |(last, _)| at.max(*last));
        self.held_back.push_back((last, request));
    }

    /// Emits what a request asks, wants compared, and has to say to whoever traces it.
    fn say(&mut self, request: RequestId) {
        let Some(running) = self.requests.get_mut(Handle::from_bits(request.0)) else {
            return;
        };
        let deadline = running.deadline;
        let (Work::Asking(asking) | Work::HeldBack(asking)) = &mut running.work else {
            return;
        };
        while let Some((pool, question)) = asking.question() {
            self.effects.push_back(Effect::Ask {
                request,
                pool,
                deadline,
                question,
            });
        }
        if let Some(check) = asking.comparison() {
            self.effects.push_back(Effect::Compare { request, check });
        }
        Front::traced(&mut self.effects, asking);
    }

    fn traced(effects: &mut VecDeque<Effect>, asking: &mut Asking) {
        if let Some((trace, lines)) = &mut asking.trace {
            effects.extend(lines.drain(..).map(|line| Effect::Trace { trace: *trace, line }));
        }
    }

    /// The client has asked something else under the same identifier.
    fn cancelled(&mut self, request: RequestId) {
        if let Some(mut running) = self.requests.remove(Handle::from_bits(request.0)) {
            self.disown(running.mark);
            if let Work::Asking(asking) = &mut running.work {
                asking.left(&running.plan, &mut self.figures, None);
            }
            self.effects.push_back(Effect::Cancel { request });
            self.dropped(Some(running.client), running.path, Dropped::Cancelled);
        }
    }

    fn dropped(&mut self, client: Option<ClientId>, path: Path, why: Dropped) {
        self.figures.drop(why);
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
