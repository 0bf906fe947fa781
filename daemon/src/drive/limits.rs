//! Clients' limits: who is let in, and which operation goes on, is held back, or is answered 51.
//!
//! An operation passes four gates, one after the other: the rate of its client's name, that of its address, then the places of
//! both. What is held back at one is a [`Turn`]; its frame stays unread, and with it everything behind it on the same connection. A
//! turn is woken by its own timer, or by whoever ends an operation; nothing is looked at meanwhile, and without turns no timer
//! runs. A gate that is passed is not passed again when the frame is given again, also not where something else held it back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::core::limits::Begun;
use engine::core::time::{Instant, Span};
use engine::core::wheel::TimerId;
use wire::ldap::envelope::{Envelope, tag};
use wire::ldap::result::code;

use super::Drive;
use super::conn::{Conn, ConnRef, Kind};
use super::search_caps::Searches;
use super::timers::span;
use crate::limits::{Guest, Holder, Limits, Over, Permit, Waiter};

/// How coarse the moments are at which operations that were held back go on.
pub(super) const TICK: Span = Span::from_millis(1);

const ADDRESS_BUSY: &str = "too many operations from this address";
const NAME_BUSY: &str = "too many operations by this name";
const NO_ROOM: &str = "too many names are being counted";

/// How an LDAP client is limited.
#[derive(Debug)]
pub struct Limited {
    guest: Guest,
    /// Who it was when its name was looked up, and the name's entry where it has limits.
    name: Option<(Box<[u8]>, Option<Holder>)>,
    /// Of the operation that is looked at, or was held back.
    turn: Option<Turn>,
    /// Of the next one that waits for a place.
    number: u32,
    /// What its searches may cost.
    pub(super) searches: Searches,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    NameRate,
    AddressRate,
    NamePlace,
    AddressPlace,
    Passed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    No,
    /// Until its moment has come.
    Until(Instant),
    /// Until somebody's operation has ended: who it waits as.
    Queued(Waiter),
}

/// See the module.
#[derive(Debug)]
struct Turn {
    gate: Gate,
    held: Held,
    /// It is given up then.
    until: Instant,
    timer: Option<TimerId>,
    permit: Permit,
}

impl Limited {
    /// A client that has been let in.
    pub fn new(guest: Guest) -> Limited {
        Limited {
            guest,
            name: None,
            turn: None,
            number: 0,
            searches: Searches::default(),
        }
    }

    /// Where it is counted.
    pub(super) fn limits(&self) -> &Arc<Limits> {
        &self.guest.limits
    }

    /// Whether an operation of its is held back.
    pub fn is_holding(&self) -> bool {
        self.turn.as_ref().is_some_and(|turn| turn.held != Held::No)
    }

    /// Whoever waits for a place waits no more. Whether it had been given one.
    fn leave(&self, who: Waiter, gate: Gate) -> bool {
        let holder = match gate {
            Gate::NamePlace => self.name.as_ref().and_then(|(_, holder)| holder.as_ref()),
            _ => self.guest.address.as_ref(),
        };
        holder.is_some_and(|holder| !holder.cell.entry().leave(who))
    }

    /// Its client has gone: its timer is to be canceled.
    pub fn leave_for_good(mut self) -> Option<TimerId> {
        self.end_turn()
    }

    /// Ends the turn; its timer is to be canceled. What it has is given back.
    fn end_turn(&mut self) -> Option<TimerId> {
        let mut turn = self.turn.take()?;
        if let Held::Queued(who) = turn.held
            && self.leave(who, turn.gate)
        {
            turn.take_place(self);
        }
        turn.timer
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // The timer, which names this connection, finds nobody.
        let _ = self.end_turn();
    }
}

impl Turn {
    /// It has a place at this gate.
    fn take_place(&mut self, limited: &Limited) {
        match self.gate {
            Gate::NamePlace => {
                let holder = limited.name.as_ref().and_then(|(_, holder)| holder.as_ref());
                self.permit.name = holder.map(|holder| Arc::clone(&holder.cell));
            }
            _ => {
                let holder = limited.guest.address.as_ref();
                self.permit.address = holder.map(|holder| Arc::clone(&holder.cell));
            }
        }
    }
}

fn turn_of(conn: &mut Conn) -> Option<&mut Turn> {
    conn.ldap()?.limited.as_mut()?.turn.as_mut()
}

/// What becomes of an operation.
pub(super) enum Judged {
    /// It goes on, with what it takes along.
    Go(Option<Permit>),
    /// It is held back and given again later.
    Hold,
    /// It is answered with this.
    Refused(u32, &'static str),
}

impl Drive {
    /// Whether an operation may go on.
    pub(super) fn judge_limits(&mut self, at: usize, env: &Envelope<'_>) -> Judged {
        if matches!(env.tag, tag::ABANDON_REQUEST | tag::UNBIND_REQUEST) {
            return Judged::Go(None);
        }
        let (now, worker) = (self.now, self.number);
        let Some(conn) = self.conns.get_mut(at) else {
            return Judged::Go(None);
        };
        let conn_ref = ConnRef {
            at: u32::try_from(at).unwrap_or(u32::MAX),
            generation: conn.generation,
        };
        let Kind::Ldap(client) = &mut conn.kind else {
            return Judged::Go(None);
        };
        let listener = self.listeners.get(&client.listener);
        let plan = listener.and_then(|listener| Some((listener, listener.plan.limits.as_ref()?)));
        let (Some(limited), Some((listener, plan))) = (&mut client.limited, plan) else {
            return Judged::Go(None);
        };
        if !client.session.takes_now(env.tag, &listener.settings) {
            // It says so itself, and the frame comes again.
            return Judged::Go(None);
        }
        let is_bind = env.tag == tag::BIND_REQUEST;
        if !is_bind && !limited.know(client.session.authzid()) {
            limited.limits().counts.refused.fetch_add(1, Ordering::Relaxed);
            return Judged::Refused(code::BUSY, NO_ROOM);
        }
        let delays = plan.over == Over::Delay;
        let turn = limited.turn.take().unwrap_or_else(|| Turn {
            gate: if is_bind { Gate::AddressRate } else { Gate::NameRate },
            held: Held::No,
            until: if delays { now + span(plan.delay_max) } else { now },
            timer: None,
            permit: Permit::new(limited.limits()),
        });
        let waiter = Waiter {
            worker,
            conn: conn_ref,
            number: limited.number,
        };
        match limited.pass(turn, now, waiter, delays, is_bind) {
            Passed::Go(permit) => Judged::Go(Some(permit)),
            Passed::Refused(why) => {
                limited.limits().counts.refused.fetch_add(1, Ordering::Relaxed);
                Judged::Refused(code::BUSY, why)
            }
            Passed::Held(newly) => {
                if newly {
                    limited.limits().counts.delayed.fetch_add(1, Ordering::Relaxed);
                }
                self.arm_turn(at);
                Judged::Hold
            }
        }
    }

    /// Wakes a turn when its moment has come, or when it is given up.
    fn arm_turn(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let generation = conn.generation;
        let Some(turn) = turn_of(conn) else { return };
        let due = match turn.held {
            Held::Until(due) => due,
            _ => turn.until,
        };
        if let Some(timer) = turn.timer.take() {
            self.turns.cancel(timer);
        }
        turn.timer = Some(self.turns.arm(due, u64::from(generation) << 32 | at as u64));
    }

    /// What an operation that went through was to take along, where it has to wait for something else: it need not ask again.
    pub(super) fn keep_permit(&mut self, at: usize, permit: Option<Permit>) {
        let now = self.now;
        if let Some(permit) = permit
            && let Some(client) = self.conns.get_mut(at).and_then(|conn| conn.ldap())
            && let Some(limited) = &mut client.limited
        {
            limited.turn = Some(Turn {
                gate: Gate::Passed,
                held: Held::No,
                until: now,
                timer: None,
                permit,
            });
        }
    }

    /// Operations whose moment has come go on.
    pub(super) fn wake_turns(&mut self) {
        let mut expired = std::mem::take(&mut self.expired);
        self.turns.expire(self.now, |key| expired.push(key));
        for key in expired.drain(..) {
            let (at, generation) = (key & u64::from(u32::MAX), key >> 32);
            let Ok(at) = usize::try_from(at) else { continue };
            let conn = self.conns.get_mut(at);
            if let Some(turn) = conn
                .filter(|conn| u64::from(conn.generation) == generation)
                .and_then(turn_of)
            {
                turn.timer = None;
                self.resume(at);
            }
        }
        self.expired = expired;
    }

    /// Somebody's operation has ended, and this one has its place.
    pub(super) fn limit_granted(&mut self, who: ConnRef, number: u32) {
        let Some(client) = self.conn(who).and_then(|conn| conn.ldap()) else {
            return;
        };
        let Some(limited) = &mut client.limited else { return };
        let Some(mut turn) = limited.turn.take() else { return };
        let is_this = matches!(turn.held, Held::Queued(waiter) if waiter.number == number);
        if is_this {
            turn.take_place(limited);
            turn.held = Held::No;
            turn.gate = turn.gate.next();
        }
        limited.turn = Some(turn);
        if is_this {
            self.resume(who.at as usize);
        }
    }

    /// A client leaves, or has no limits any more.
    pub(super) fn unlimit(&mut self, at: usize) {
        let limited = self.conns.get_mut(at).and_then(|conn| conn.ldap()?.limited.take());
        if let Some(mut limited) = limited {
            if let Some(timer) = limited.end_turn() {
                self.turns.cancel(timer);
            }
            self.resume(at);
        }
    }

    /// Nothing more is taken from a client: what it was to have goes to others.
    pub(super) fn end_turn(&mut self, at: usize) {
        let client = self.conns.get_mut(at).and_then(|conn| conn.ldap());
        if let Some(timer) = client.and_then(|client| client.limited.as_mut()?.end_turn()) {
            self.turns.cancel(timer);
        }
    }

    /// The listeners' limits may be others: who is connected is counted by them from now on.
    pub(super) fn limit_again(&mut self) {
        let clients: Vec<usize> = self
            .conns
            .iter()
            .filter(|(_, conn)| matches!(conn.kind, Kind::Ldap(_)) && conn.preface.is_none())
            .map(|(at, _)| at)
            .collect();
        for at in clients {
            let Some(conn) = self.conns.get_mut(at) else { continue };
            let peer = conn.peer;
            let Some(client) = conn.ldap() else { continue };
            let limits = self
                .listeners
                .get(&client.listener)
                .and_then(|listener| listener.limits.clone());
            let limits = limits.filter(|limits| limits.is_for(peer));
            let same = client
                .limited
                .as_ref()
                .zip(limits.as_ref())
                .is_some_and(|(limited, limits)| Arc::ptr_eq(limited.limits(), limits));
            if same {
                // Its name is looked up anew: it may have limits by now.
                if let Some(limited) = &mut client.limited {
                    limited.forget_name();
                }
                continue;
            }
            self.unlimit(at);
            if let Some(client) = self.conns.get_mut(at).and_then(|conn| conn.ldap()) {
                let guest = limits.and_then(|limits| limits.enrol(peer));
                client.limited = guest.map(Limited::new).map(Box::new);
            }
        }
    }

    /// A client's address is known by its PROXY header only now. False: it was not let in, and has been told.
    pub(super) fn limit_late(&mut self, at: usize, in_clear: bool) -> bool {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else {
            return false;
        };
        let peer = conn.peer;
        let Some(client) = conn.ldap() else { return true };
        let limits = self
            .listeners
            .get(&client.listener)
            .and_then(|listener| listener.limits.as_ref());
        match limits.map(|limits| limits.admit(peer, now)) {
            None | Some(Ok(None)) => true,
            Some(Ok(Some(guest))) => {
                client.limited = Some(Box::new(Limited::new(guest)));
                true
            }
            Some(Err(why)) => {
                if in_clear {
                    let out = conn.stream.outbox(&mut self.spares);
                    if let Kind::Ldap(client) = &mut conn.kind {
                        client.session.disconnect(code::BUSY, why.words(), out);
                    }
                    self.close_when_written(at);
                } else {
                    self.close(at);
                }
                false
            }
        }
    }
}

/// What a turn has come to.
enum Passed {
    Go(Permit),
    /// `true`: not before.
    Held(bool),
    Refused(&'static str),
}

impl Gate {
    fn next(self) -> Gate {
        match self {
            Gate::NameRate => Gate::AddressRate,
            Gate::AddressRate => Gate::NamePlace,
            Gate::NamePlace => Gate::AddressPlace,
            Gate::AddressPlace | Gate::Passed => Gate::Passed,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Gate::NameRate | Gate::NamePlace => NAME_BUSY,
            _ => ADDRESS_BUSY,
        }
    }
}

impl Limited {
    /// Knows the entry of who the client is. False: there is no room for one.
    fn know(&mut self, authzid: &[u8]) -> bool {
        if self.name.as_ref().is_some_and(|(known, _)| **known == *authzid) {
            return true;
        }
        if self.turn.is_some() {
            // Who waits as one name does not go on as another: nothing that changes it goes on before.
            return true;
        }
        self.name = None;
        match self.guest.limits.name(authzid) {
            Ok(holder) => {
                self.name = Some((authzid.into(), holder));
                true
            }
            Err(_) => false,
        }
    }

    fn forget_name(&mut self) {
        self.searches.forget_caps();
        if self.turn.is_none() {
            self.name = None;
        }
    }

    fn pass(&mut self, mut turn: Turn, now: Instant, waiter: Waiter, delays: bool, is_bind: bool) -> Passed {
        let fresh = turn.held == Held::No && turn.timer.is_none() && turn.gate != Gate::Passed;
        match turn.held {
            Held::No => {}
            Held::Until(due) if now < due => {
                self.turn = Some(turn);
                return Passed::Held(false);
            }
            Held::Until(_) => {
                turn.held = Held::No;
                turn.gate = turn.gate.next();
            }
            Held::Queued(_) if now < turn.until => {
                self.turn = Some(turn);
                return Passed::Held(false);
            }
            Held::Queued(who) => {
                if !self.leave(who, turn.gate) {
                    return Passed::Refused(turn.gate.words());
                }
                // It has just been given one.
                turn.take_place(self);
                turn.held = Held::No;
                turn.gate = turn.gate.next();
            }
        }
        while turn.gate != Gate::Passed {
            let holder = match turn.gate {
                Gate::NameRate | Gate::NamePlace if is_bind => None,
                Gate::NameRate | Gate::NamePlace => self.name.as_ref().and_then(|(_, holder)| holder.as_ref()),
                _ => self.guest.address.as_ref(),
            };
            if let Some(holder) = holder {
                let mut entry = holder.cell.entry();
                if matches!(turn.gate, Gate::NameRate | Gate::AddressRate) {
                    match entry.operate(now, turn.until.max(now)) {
                        None => return Passed::Refused(turn.gate.words()),
                        Some(due) if due > now => turn.held = Held::Until(due),
                        Some(_) => {}
                    }
                } else {
                    match entry.begin(delays.then_some(waiter)) {
                        Begun::Full => return Passed::Refused(turn.gate.words()),
                        Begun::Wait => turn.held = Held::Queued(waiter),
                        Begun::Go => {
                            drop(entry);
                            turn.take_place(self);
                        }
                    }
                }
            }
            if turn.held != Held::No {
                self.number = self.number.wrapping_add(1);
                self.turn = Some(turn);
                return Passed::Held(fresh);
            }
            turn.gate = turn.gate.next();
        }
        Passed::Go(turn.permit)
    }
}
