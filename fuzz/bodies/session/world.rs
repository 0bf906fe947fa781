//! What couples sessions, a pool and connections, as a worker does it, without sockets.

#[path = "naming.rs"]
mod naming;
#[path = "pool_side.rs"]
mod pool_side;
#[path = "servers.rs"]
mod servers;

use super::Seen;
use super::model::{Model, identity_of, says_who};
use engine::core::pool::TICK;
use engine::core::time::{Instant, Span};
use engine::core::{Drain, Effect, Pool, Reason, Request, Settlement, Ticket, UpstreamId};
use engine::session::ldap::{Bound, Ended, Next, Session, Settings, Submit, anonymous_control, lane};
use engine::upstream::ldap::Ask;
use servers::{Line, config};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use wire::frame::Step;
use wire::ldap::envelope::{self, Envelope, peek, tag};
use wire::ldap::sasl::Mechanisms;
use wire::ldap::{grammar, result};

pub(crate) use servers::Reply;

/// More wake-ups than a pool of this size has a reason for in one wait.
const WAKE_UPS_MAX: u32 = 10_000;

/// So long nobody asks who a client is that does nothing.
const NAMES_WAIT: Span = Span::from_millis(250);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Caller {
    client: usize,
    generation: u32,
    id: i32,
    tag: u8,
}

#[derive(Debug)]
struct Client {
    session: Session,
    model: Model,
    out: Vec<u8>,
    /// Said, and not taken yet.
    inbox: VecDeque<Vec<u8>>,
    held: bool,
    closed: bool,
    generation: u32,
    last_id: i32,
}

#[derive(Debug)]
struct Flight {
    caller: Caller,
    frame: Vec<u8>,
    wire_id: i32,
    answer: Vec<u8>,
    /// Its client has the answer, and the server is still to say who that is.
    told: bool,
    /// Who its client was when it was taken.
    as_whom: Vec<u8>,
}

pub(crate) struct World {
    settings: Settings,
    /// Servers are asked who somebody is before that one has its answer.
    asks_first: bool,
    pool: Pool<Caller>,
    effects: Vec<Effect<Caller>>,
    busy: bool,
    now: Instant,
    clients: Vec<Client>,
    flights: HashMap<Ticket, Flight>,
    lines: BTreeMap<UpstreamId, Line>,
    /// Whom servers said a name is.
    known: HashMap<Vec<u8>, Vec<u8>>,
    again: BTreeSet<usize>,
    tokens: u64,
    pub(crate) seen: Seen,
}

/// Told from outside.
impl World {
    pub(crate) fn new(flags: u8, clients: usize) -> Self {
        let settings = Settings {
            proxied: flags & 1 == 0,
            allow_unauthenticated_bind: flags & 2 != 0,
            // The model knows simple binds; whose a SASL bind is, and its steps, are the session's own tests.
            sasl: Mechanisms::NONE,
            starttls: flags & 4 == 0,
            pending_max: if flags & 8 == 0 { 4 } else { 0 },
            ..Settings::default()
        };
        let mut world = World {
            settings,
            asks_first: flags & 96 == 96,
            pool: Pool::new(u64::from(flags)),
            effects: Vec::new(),
            busy: false,
            now: Instant::from_secs(1_000),
            clients: (0..clients).map(|_| Client::new(0)).collect(),
            flights: HashMap::new(),
            lines: BTreeMap::new(),
            known: HashMap::new(),
            again: BTreeSet::new(),
            tokens: 0,
            seen: Seen::new(),
        };
        world.pool.configure(config(), world.now, &mut world.effects);
        world.carry_out();
        // Most runs begin with servers that are there.
        (0..4).filter(|_| flags & 16 == 0).for_each(|_| world.comes_up(0, true));
        world
    }

    /// A client that has left is followed by another one.
    pub(crate) fn connect(&mut self, client: usize) {
        let before = &self.clients[client];
        if before.closed {
            self.clients[client] = Client::new(before.generation + 1);
        }
    }

    pub(crate) fn fresh_id(&mut self, client: usize) -> i32 {
        self.clients[client].last_id += 1;
        self.clients[client].last_id
    }

    pub(crate) fn some_id(&self, client: usize, n: usize) -> i32 {
        self.clients[client].model.nth_open(n).unwrap_or(1)
    }

    pub(crate) fn fresh_token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    pub(crate) fn says(&mut self, client: usize, frame: Vec<u8>) {
        self.clients[client].inbox.push_back(frame);
        self.read(client);
    }

    pub(crate) fn too_slow(&mut self, client: usize, n: usize) {
        let mut tickets: Vec<Ticket> = self.clients[client].session.tickets().collect();
        tickets.sort_unstable();
        let Some(ticket) = n.checked_rem(tickets.len()).map(|n| tickets[n]) else {
            return;
        };
        let caller = self.flights[&ticket].caller;
        let Client { session, out, .. } = &mut self.clients[client];
        session.too_slow(caller.id, caller.tag, out);
        self.see("too slow");
        self.pool.cancel(ticket, self.now, &mut self.effects);
        self.carry_out();
    }

    pub(crate) fn set_aside(&mut self, n: usize) {
        let sent = |ticket: &Ticket| Some((*ticket, self.pool.upstream_of(*ticket)?));
        let mut shared: Vec<(Ticket, UpstreamId)> = self.flights.keys().filter_map(sent).collect();
        shared.retain(|(_, upstream)| {
            self.lines
                .get(upstream)
                .is_some_and(|line| line.up && line.lane == lane::SHARED)
        });
        shared.sort_unstable();
        if let Some(&(ticket, upstream)) = n.checked_rem(shared.len()).and_then(|n| shared.get(n)) {
            self.pool.set_aside(upstream, ticket, self.now, &mut self.effects);
            self.carry_out();
        }
    }

    pub(crate) fn drain_client(&mut self, client: usize, level: Drain) {
        if self.clients[client].closed {
            return;
        }
        let Client {
            session, model, out, ..
        } = &mut self.clients[client];
        model.drains();
        let next = session.drain(level, out);
        self.after(client, next);
    }

    pub(crate) fn drain_pool(&mut self) {
        self.pool.drain(Drain::Gentle, self.now, &mut self.effects);
        self.carry_out();
    }

    /// Keeps every wake-up until `span` has passed.
    pub(crate) fn advance(&mut self, span: Span) {
        let until = self.now + span;
        if span >= NAMES_WAIT {
            self.ask_for_all();
        }
        for _ in 0..WAKE_UPS_MAX {
            let at = self.pool.wake_at().filter(|at| *at <= until);
            self.now = self.now.max(at.unwrap_or(until));
            self.pool.turn();
            self.pool.tick(self.now, &mut self.effects);
            self.carry_out();
            self.settle();
            if at.is_none() {
                return;
            }
        }
        panic!("{WAKE_UPS_MAX} wake-ups in {span:?}");
    }

    /// The end of a turn: what was held back goes on, and everybody reads.
    pub(crate) fn settle(&mut self) {
        self.pool.turn();
        while let Some(client) = self.again.pop_first() {
            self.read(client);
        }
        (0..self.clients.len()).for_each(|client| self.listen(client));
    }

    pub(crate) fn check(&self) {
        self.pool.check_invariants().expect("the pool's invariants");
        for client in &self.clients {
            client.model.is_in_time(self.now, TICK * 2);
            if !client.closed {
                assert_eq!(client.session.pending(), client.model.waits_for());
                let bound = client.session.authzid();
                let is = match client.session.unnamed() {
                    // Who it is is not known here, and it may do nothing.
                    Some(_) => b"",
                    None => &*client.model.identity,
                };
                assert_eq!(bound, is, "who the client is");
            }
        }
    }

    /// Whoever has not left has an answer to everything in the end.
    pub(crate) fn end(&mut self) {
        self.advance(Span::from_secs(62));
        self.check();
        self.pool.drain(Drain::Firm, self.now, &mut self.effects);
        self.carry_out();
        self.settle();
        self.check();
        for client in &self.clients {
            assert_eq!(client.model.waits_for(), 0, "never answered: {client:?}");
            assert!(client.closed || client.inbox.is_empty(), "never taken: {client:?}");
        }
        assert_eq!(self.pool.pending(), 0);
        assert!(self.lines.is_empty(), "{:?} are left", self.lines);
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }
}

/// The clients' side.
impl World {
    fn read(&mut self, client: usize) {
        // What it was told before it says more comes first.
        self.listen(client);
        while let Client {
            held: false,
            closed: false,
            inbox,
            ..
        } = &mut self.clients[client]
            && let Some(mut frame) = inbox.pop_front()
        {
            let fault = match envelope::split(&frame, 1 << 20) {
                // The rest never comes.
                Step::NeedMore { .. } => continue,
                Step::Malformed(fault) => Some(fault),
                Step::Frame { len } => {
                    let behind = frame.split_off(len);
                    if !behind.is_empty() {
                        inbox.push_front(behind);
                    }
                    match peek(&frame) {
                        Ok(env) => {
                            self.take(client, &frame, &env);
                            None
                        }
                        Err(fault) => Some(fault),
                    }
                }
            };
            if let Some(fault) = fault {
                let Client {
                    session, model, out, ..
                } = &mut self.clients[client];
                model.outlawed();
                let next = session.poisoned(fault, out);
                self.after(client, next);
                self.see("poisoned");
            }
        }
    }

    fn take(&mut self, client: usize, frame: &[u8], env: &Envelope<'_>) {
        let Client {
            session,
            model,
            out,
            inbox,
            held,
            ..
        } = &mut self.clients[client];
        let pinned = session.pin().is_some();
        let pool = &self.pool;
        let next = session.receive(env, &self.settings, |ticket| pool.is_sent(ticket) == Some(true), out);
        if next == Next::Later {
            *held = true;
            inbox.push_front(frame.to_vec());
            self.see("held");
            return self.ask_for(client, env.tag);
        }
        model.takes(env, &self.settings, pinned, self.now);
        match next {
            Next::Done | Next::Later => {}
            Next::Submit(submit) => self.submit(client, submit, frame, env),
            Next::Step(_) => panic!("no mechanism is offered"),
            Next::Monitor => panic!("nobody may read figures"),
            Next::Abandon(ticket) => {
                self.pool.cancel(ticket, self.now, &mut self.effects);
                self.carry_out();
                self.let_go(client);
                self.see("abandoned");
            }
            Next::StartOver(own) => self.start_over(client, own),
            Next::Unbind => self.close(client),
            Next::StartTls => {
                session.tls_started();
                self.see("StartTLS");
            }
            Next::Close => self.close(client),
        }
        self.listen(client);
    }

    fn submit(&mut self, client: usize, submit: Submit, frame: &[u8], env: &Envelope<'_>) {
        let Client { session, .. } = &mut self.clients[client];
        let mut others = Vec::new();
        if submit.bind {
            session.forget_others(env.id, &mut others);
        }
        let held = if submit.bind { session.drop_hold() } else { None };
        let unnamed = if submit.bind { session.give_up_name() } else { None };
        if let Some(ticket) = unnamed {
            self.end_kept(ticket);
        }
        let Client {
            session,
            model,
            generation,
            ..
        } = &mut self.clients[client];
        for ticket in others {
            self.pool.cancel(ticket, self.now, &mut self.effects);
        }
        if let Some(held) = held {
            self.pool.release(held, self.now, &mut self.effects);
        }
        let caller = Caller {
            client,
            generation: *generation,
            id: env.id,
            tag: env.tag,
        };
        let request = Request {
            class: submit.class,
            deadline: submit.timeout.map_or(Instant::MAX, |timeout| self.now + timeout),
            queue_wait_max: Some(submit.queue_wait_max),
            affinity: Some(client as u64),
            pin: submit.pin,
            route: submit.route,
        };
        let ticket = self
            .pool
            .submit(request, caller, self.now, &mut self.effects)
            .expect("a ticket");
        session.submitted(env.id, env.tag, ticket);
        let flight = Flight {
            caller,
            frame: frame.to_vec(),
            wire_id: 0,
            answer: Vec::new(),
            told: false,
            as_whom: model.identity.clone(),
        };
        assert!(
            self.flights.insert(ticket, flight).is_none(),
            "a ticket given out twice"
        );
        self.carry_out();
        self.make_way();
    }

    /// The client reads all that was written to it.
    fn listen(&mut self, client: usize) {
        let Client { model, out, .. } = &mut self.clients[client];
        let bytes = std::mem::take(out);
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let Step::Frame { len } = envelope::split(rest, 1 << 20) else {
                panic!("{rest:02x?} is no message")
            };
            model.hears(&peek(&rest[..len]).expect("what is written is a message"));
            rest = &rest[len..];
        }
    }

    fn after(&mut self, client: usize, next: Next) {
        if next == Next::Close {
            self.close(client);
        }
    }

    fn close(&mut self, client: usize) {
        if self.clients[client].closed {
            return;
        }
        self.listen(client);
        let Client {
            session, model, closed, ..
        } = &mut self.clients[client];
        *closed = true;
        model.closed();
        let (mut tickets, pin) = (Vec::new(), session.pin());
        session.forget_others(-1, &mut tickets);
        let (held, unnamed) = (session.drop_hold(), session.give_up_name());
        for ticket in tickets {
            self.pool.cancel(ticket, self.now, &mut self.effects);
        }
        if let Some(ticket) = unnamed {
            self.end_kept(ticket);
        }
        if let Some(held) = held {
            self.pool.release(held, self.now, &mut self.effects);
        }
        if let Some(pin) = pin {
            self.pool.release(pin, self.now, &mut self.effects);
        }
        self.see("closed");
        self.carry_out();
    }

    fn start_over(&mut self, client: usize, own: Option<UpstreamId>) {
        let mut tickets = Vec::new();
        self.clients[client].session.forget_others(-1, &mut tickets);
        for ticket in tickets {
            self.pool.cancel(ticket, self.now, &mut self.effects);
        }
        if let Some(ticket) = self.clients[client].session.give_up_name() {
            self.end_kept(ticket);
        }
        if let Some(held) = self.clients[client].session.drop_hold() {
            self.pool.release(held, self.now, &mut self.effects);
        }
        if let Some(own) = own {
            self.pool.release(own, self.now, &mut self.effects);
        }
        self.see("started over");
        self.carry_out();
    }

    fn client_of(&mut self, caller: Caller) -> Option<&mut Client> {
        let client = &mut self.clients[caller.client];
        (client.generation == caller.generation).then_some(client)
    }

    fn deliver(&mut self, ticket: Ticket, caller: Caller, env: &Envelope<'_>, settlement: Settlement) {
        let last = settlement != Settlement::Part;
        if self.is_told(ticket) {
            return self.name_refused(ticket, caller, last);
        }
        if last {
            self.flights.remove(&ticket);
        }
        self.see(if last { "answered" } else { "part" });
        let name = self.client_of(caller).map(|client| client.session.bind_name().to_vec());
        let known = name.and_then(|name| self.known.get(&name)).cloned();
        let Some(Client { session, out, .. }) = self.client_of(caller) else {
            return;
        };
        if last {
            session.answer_seen(caller.id, env, Instant::ZERO);
        }
        if last && session.answered(caller.id, caller.tag) == Ended::Drop {
            return self.see("dropped");
        }
        envelope::write(out, caller.id, env.op, env.controls, b"");
        if !last {
            return;
        }
        if caller.tag == tag::BIND_REQUEST && result::result_code(env.op) == Some(0) {
            session.bound(known.as_deref().map_or(Bound::AsTyped, Bound::As));
        }
        let next = session.after_end(out);
        self.after(caller.client, next);
        self.let_go(caller.client);
        self.resume(caller.client);
    }

    fn resume(&mut self, client: usize) {
        if std::mem::take(&mut self.clients[client].held) {
            self.again.insert(client);
        }
    }
}

impl Client {
    fn new(generation: u32) -> Self {
        Client {
            session: Session::new(false),
            model: Model::default(),
            out: Vec::new(),
            inbox: VecDeque::new(),
            held: false,
            closed: false,
            generation,
            last_id: 0,
        }
    }
}
