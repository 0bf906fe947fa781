//! The servers' side: what reaches them, what they say, and that each is told who asks.

use super::super::frames;
use super::*;
use engine::core::{CancelRule, Cause, HealthConfig, LaneConfig, LaneLimits, PoolConfig, ServerConfig};
use engine::upstream::ldap::{Connection, Event, Own, Security, Step as Hello};
use wire::ldap::control::{controls, oid as control_oid};
use wire::ldap::message::{self, oid};

/// Requests on a connection that a server still answers.
const REMEMBERED: usize = 16;

/// How a server answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// For good, with this code.
    Final(u32),
    /// An entry, a reference, an intermediate response.
    Part(usize),
    /// A final answer to something else than what was asked.
    WrongKind,
    /// For good, with one bit changed.
    Broken(usize),
    /// For an id that nobody used.
    Unknown,
    /// Notice of disconnection.
    Notice,
    /// Servers ask nothing.
    Request,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: i32,
    pub(crate) tag: u8,
    pub(crate) op: Vec<u8>,
    pub(crate) answered: bool,
}

/// A connection, and its server's end of it.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) machine: Connection,
    pub(crate) lane: u8,
    pub(crate) up: bool,
    /// Written and not read by the server.
    pub(crate) out: Vec<u8>,
    asked: VecDeque<Asked>,
    owner: Option<(usize, u32)>,
    /// The name of the last bind with a password that succeeded; empty for anonymous.
    bound: Vec<u8>,
}

impl Line {
    pub(crate) fn new(lane: u8) -> Self {
        Line {
            machine: Connection::new(Security::Plain),
            lane,
            up: false,
            out: Vec::new(),
            asked: VecDeque::new(),
            owner: None,
            bound: Vec::new(),
        }
    }

    /// The server reads what was written, keeping what it will answer.
    pub(crate) fn hears(&mut self) {
        let bytes = std::mem::take(&mut self.out);
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let Step::Frame { len } = envelope::split(rest, 1 << 20) else {
                panic!("{rest:02x?} is no message")
            };
            let env = peek(&rest[..len]).expect("what is written is a message");
            assert_eq!(grammar::check_request(&env, &grammar::Limits::default()), Ok(()));
            if envelope::response_tag(env.tag).is_some() {
                assert!(self.asked.iter().all(|asked| asked.id != env.id), "an id used twice");
                self.asked.push_back(Asked {
                    id: env.id,
                    tag: env.tag,
                    op: env.op.to_vec(),
                    answered: false,
                });
            }
            if env.tag == tag::BIND_REQUEST {
                self.bound.clear();
            }
            rest = &rest[len..];
        }
        while self.asked.len() > REMEMBERED && self.asked.front().is_some_and(|asked| asked.answered) {
            self.asked.pop_front();
        }
    }

    /// A client's request was written last. It says who asks, or the connection does.
    pub(crate) fn told(&mut self, owner: (usize, u32), as_whom: &[u8], proxied: bool) {
        let bytes = self.out.clone();
        let before = self.bound.clone();
        self.hears();
        let env = peek(&bytes).expect("one message");
        let mut authorization = controls(env.controls).flatten().filter(|control| {
            [
                control_oid::PROXIED_AUTHORIZATION,
                control_oid::PROXIED_AUTHORIZATION_V1,
            ]
            .iter()
            .any(|oid| oid.as_bytes() == control.oid)
        });
        match self.lane {
            lane::SHARED | lane::APART => {
                assert_ne!(env.tag, tag::BIND_REQUEST);
                let control = authorization.next();
                assert!(authorization.next().is_none());
                match control {
                    Some(control) => assert_eq!((control.value, proxied), (Some(as_whom), true)),
                    None => assert!(!proxied && as_whom.is_empty(), "{as_whom:?} sent as nobody"),
                }
            }
            lane::BIND => assert_eq!((env.tag, authorization.count()), (tag::BIND_REQUEST, 0)),
            _ => {
                assert_eq!(*self.owner.get_or_insert(owner), owner, "somebody else's connection");
                if env.tag != tag::BIND_REQUEST {
                    assert_eq!(
                        identity_of(&before, false),
                        as_whom,
                        "the connection is bound as somebody else"
                    );
                }
            }
        }
    }

    /// What a server says to its `request`th request; none where it has none.
    fn reply(&mut self, request: usize, late: bool, reply: Reply) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match reply {
            Reply::Notice => result::write_notice_of_disconnection(&mut out, 52, ""),
            Reply::Unknown => result::write_result(&mut out, 1_000_000, tag::SEARCH_DONE, 0, b"", ""),
            Reply::Request => message::write_unbind(&mut out, 1_000_000),
            _ => {
                let open: Vec<usize> = (0..self.asked.len())
                    .filter(|at| late || !self.asked[*at].answered)
                    .collect();
                let at = open[request.checked_rem(open.len())?];
                let asked = self.asked[at].clone();
                self.asked[at].answered = asked.answered || !matches!(reply, Reply::Part(_));
                self.answer(&asked, reply, &mut out);
                self.bound_by(&asked, &out);
            }
        }
        Some(out)
    }

    fn answer(&self, asked: &Asked, reply: Reply, out: &mut Vec<u8>) {
        let kind = envelope::response_tag(asked.tag).expect("what is asked has an answer");
        let token = frames::token(asked.tag, &asked.op);
        let extended = grammar::extended(&asked.op).ok();
        if extended.is_some_and(|extended| extended.oid == oid::WHO_AM_I.as_bytes()) {
            // The truth, and nothing else. On the clients' own connections it is the name as typed.
            let (code, who) = match (self.lane, says_who(&self.bound)) {
                (lane::PINNED, _) => (0, identity_of(&self.bound, false)),
                (_, Some(who)) => (0, who),
                _ => (2, Vec::new()),
            };
            return result::write_extended(out, asked.id, code, "", None, (code == 0).then_some(&who));
        }
        match reply {
            Reply::Part(0) => message::write_entry_with(out, asked.id, &token, |_| {}),
            Reply::Part(1) => message::write_search_reference(out, asked.id, [&b"ldap://x/"[..]]),
            Reply::Part(_) => message::write_intermediate(out, asked.id, None, None),
            Reply::WrongKind if kind == tag::ADD_RESPONSE => {
                result::write_result(out, asked.id, tag::SEARCH_DONE, 0, b"", "");
            }
            Reply::WrongKind => result::write_result(out, asked.id, tag::ADD_RESPONSE, 0, b"", ""),
            Reply::Broken(at) => {
                let mut whole = Vec::new();
                result::write_result(&mut whole, asked.id, kind, 0, b"", "");
                let op = frames::broken(peek(&whole).expect("a message").op, at);
                envelope::write(out, asked.id, &op, b"", b"");
            }
            Reply::Final(code) if kind == tag::EXTENDED_RESPONSE => {
                result::write_extended(out, asked.id, code, "", None, Some(&token));
            }
            Reply::Final(code) => result::write_result(out, asked.id, kind, code, &token, ""),
            Reply::Notice | Reply::Unknown | Reply::Request => {}
        }
    }

    /// A bind that is answered with success is one; the first answer counts.
    fn bound_by(&mut self, asked: &Asked, answer: &[u8]) {
        let (Ok(bind), Ok(env)) = (grammar::bind(&asked.op), peek(answer)) else {
            return;
        };
        let success = env.tag == tag::BIND_RESPONSE && result::result_code(env.op) == Some(0);
        if success && !asked.answered && bind.auth != grammar::Auth::Simple(b"") {
            self.bound = bind.name.to_vec();
        }
    }
}

/// What servers do.
impl World {
    pub(crate) fn comes_up(&mut self, n: usize, well: bool) {
        let Some(upstream) = self.nth_line(n, |line| !line.up) else {
            return;
        };
        let own = self.settings.proxied.then_some(Own::Simple {
            dn: b"cn=usherd",
            password: b"x",
        });
        let line = self.lines.get_mut(&upstream).expect("just found");
        let own = own.filter(|_| matches!(line.lane, lane::SHARED | lane::APART));
        let mut step = line.machine.connected(own, &mut line.out);
        if step == Hello::Wait {
            let asked = peek(&line.out).expect("a bind").id;
            let (mut answer, code) = (Vec::new(), if well { 0 } else { 49 });
            result::write_result(&mut answer, asked, tag::BIND_RESPONSE, code, b"", "");
            line.out.clear();
            let env = peek(&answer).expect("a message");
            step = line.machine.handshake(&env, own, &mut line.out);
        }
        if step == Hello::Ready && well {
            assert!(line.machine.is_ready());
            line.up = true;
            self.pool.upstream_up(upstream, self.now, &mut self.effects);
            self.carry_out();
        } else {
            self.lost(upstream, Cause::OpenFailed);
        }
    }

    pub(crate) fn dies(&mut self, n: usize) {
        if let Some(upstream) = self.nth_line(n, |line| line.up) {
            self.lost(upstream, Cause::Lost);
        }
    }

    pub(crate) fn answer_probe(&mut self, n: usize) {
        let is_probe = |asked: &Asked| !asked.answered && grammar::search(&asked.op).is_ok_and(|s| s.base.is_empty());
        let Some(upstream) = self.nth_line(n, |line| line.up && line.asked.iter().any(is_probe)) else {
            return;
        };
        let line = self.lines.get_mut(&upstream).expect("just found");
        let asked = line.asked.iter_mut().find(|asked| is_probe(asked)).expect("just found");
        asked.answered = true;
        let mut out = Vec::new();
        result::write_result(&mut out, asked.id, tag::SEARCH_DONE, 0, b"", "");
        self.see("probe");
        self.upstream_says(upstream, &out);
    }

    pub(crate) fn answers(&mut self, n: usize, request: usize, late: bool, reply: Reply) {
        let pending = |line: &Line| line.up && line.asked.iter().any(|asked| late || !asked.answered);
        let Some(upstream) = self.nth_line(n, pending) else {
            return;
        };
        let said = self
            .lines
            .get_mut(&upstream)
            .and_then(|line| line.reply(request, late, reply));
        if let Some(said) = said {
            self.upstream_says(upstream, &said);
        }
    }

    /// One message of a server's, as the worker takes it.
    fn upstream_says(&mut self, upstream: UpstreamId, frame: &[u8]) {
        self.pool.heard(upstream, self.now);
        let line = self.lines.get_mut(&upstream).expect("who speaks is there");
        let event = peek(frame).and_then(|env| Ok((env, line.machine.receive(&env, &mut line.out)?)));
        line.hears();
        match event {
            Err(_) => {
                self.see("protocol broken");
                return self.lost(upstream, Cause::Lost);
            }
            Ok((env, Event::Reply { ticket, settlement })) => {
                match self
                    .pool
                    .reply(ticket, upstream, settlement, self.now, &mut self.effects)
                {
                    Some(caller) => self.deliver(ticket, caller, &env, settlement),
                    None => self.see("late"),
                }
            }
            Ok((env, Event::BindKept { ticket })) => self.bind_kept(upstream, ticket, &env),
            Ok((env, Event::BindHeld { ticket })) => {
                self.see("who?");
                if let Some(flight) = self.flights.get_mut(&ticket) {
                    flight.answer.clear();
                    envelope::write(&mut flight.answer, 0, env.op, env.controls, b"");
                }
            }
            Ok((_, Event::BindStep { .. })) => panic!("no mechanism is offered"),
            Ok((env, Event::BindIdentity { ticket, known })) => self.bind_identity(upstream, ticket, known, &env),
            Ok((_, Event::Probe)) => self.pool.probe_answered(upstream, self.now, &mut self.effects),
            Ok((_, Event::Disconnection)) => self.pool.upstream_draining(upstream, self.now, &mut self.effects),
            Ok((_, Event::Nothing)) => self.see("nothing"),
        }
        self.carry_out();
    }

    fn bind_identity(&mut self, upstream: UpstreamId, ticket: Ticket, known: bool, env: &Envelope<'_>) {
        let settlement = Settlement::Done(engine::core::Verdict::Well);
        let answer = self.flights.get(&ticket).map(|flight| flight.answer.clone());
        let Some(caller) = self
            .pool
            .reply(ticket, upstream, settlement, self.now, &mut self.effects)
        else {
            return self.see("late");
        };
        if self.is_told(ticket) {
            return self.name_told(ticket, caller, known, env);
        }
        let name = self.client_of(caller).map(|client| client.session.bind_name().to_vec());
        let identity = result::read_result(env.op).ok().and_then(|result| result.value);
        if let (true, Some(name), Some(identity)) = (known, name, identity) {
            self.known.insert(name, identity.to_vec());
        }
        let answer = answer.expect("kept since the bind was answered");
        self.deliver(ticket, caller, &peek(&answer).expect("a message"), settlement);
    }

    /// A connection that a client kept apart is another's.
    pub(super) fn let_go(&mut self, client: usize) {
        if let Some(given) = self.clients[client].session.let_go() {
            if given.in_order {
                self.pool.give_back(given.upstream, self.now, &mut self.effects);
                self.see("given back");
            } else {
                self.pool.release(given.upstream, self.now, &mut self.effects);
            }
            self.carry_out();
        }
    }

    fn lost(&mut self, upstream: UpstreamId, cause: Cause) {
        let line = self.lines.remove(&upstream).expect("what is lost was there");
        self.see("upstream lost");
        self.pool.upstream_down(upstream, cause, self.now, &mut self.effects);
        self.carry_out();
        if line.lane != lane::PINNED {
            return;
        }
        let mine = |client: &Client| !client.closed && client.session.pin() == Some(upstream);
        if let Some(client) = self.clients.iter().position(mine) {
            let Client { session, out, .. } = &mut self.clients[client];
            let next = session.pin_lost(out);
            self.after(client, next);
            self.see("own connection lost");
        }
    }

    fn nth_line(&self, n: usize, pass: impl Fn(&Line) -> bool) -> Option<UpstreamId> {
        let all: Vec<UpstreamId> = self
            .lines
            .iter()
            .filter(|(_, line)| pass(line))
            .map(|(id, _)| *id)
            .collect();
        all.get(n.checked_rem(all.len())?).copied()
    }
}

/// Two servers; bounds so low that everything runs out.
pub(crate) fn config() -> PoolConfig {
    let shared = LaneConfig {
        slots: 0,
        cancel: CancelRule::Abandon,
        owned: false,
        probes: true,
        idle_timeout: Some(Span::from_secs(60)),
        pack: 4,
        spawn_rate_max: 4,
        opening_max: 0,
        lingers: None,
    };
    let bind = LaneConfig {
        slots: 1,
        cancel: CancelRule::CloseReopen,
        probes: false,
        pack: 1,
        ..shared
    };
    let own = LaneConfig {
        owned: true,
        probes: false,
        idle_timeout: None,
        ..shared
    };
    let limits = |min, max, min_spare| LaneLimits {
        min,
        max,
        min_spare,
        upstream_pending_max: 6,
    };
    let server = |key| ServerConfig {
        key,
        weight: 1,
        pending_max: 0,
        marks: 0,
        lanes: vec![
            limits(1, 2, 0),
            limits(0, 1, 0),
            limits(0, 2, 0),
            limits(0, 1, 0),
            limits(0, 2, 1),
        ],
        check: None,
        slow_start: Span::ZERO,
    };
    PoolConfig {
        lanes: vec![shared, bind, own, own, own],
        tiers: vec![(engine::core::policy::Kind::RoundRobin, vec![server(1), server(2)])],
        queue_max: 4,
        health: HealthConfig::default(),
    }
}
