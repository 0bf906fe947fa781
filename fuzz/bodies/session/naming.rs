//! Clients that are bound, and of whom only a server knows who they are.

use super::*;

impl World {
    pub(super) fn is_told(&self, ticket: Ticket) -> bool {
        self.flights.get(&ticket).is_some_and(|flight| flight.told)
    }

    /// A bind is a success; its client has its answer, or had it before.
    pub(super) fn bind_kept(&mut self, upstream: UpstreamId, ticket: Ticket, env: &Envelope<'_>) {
        let until = self.now + NAMES_WAIT;
        let Some(caller) = self.pool.keep(ticket, upstream, until, self.now, &mut self.effects) else {
            return self.see("late");
        };
        let flight = self.flights.get_mut(&ticket).expect("what is answered is in flight");
        if std::mem::replace(&mut flight.told, true) {
            self.see("bound again for the name");
            return self.ask_name(ticket);
        }
        self.see("kept");
        let Some(Client { session, out, .. }) = self.client_of(caller) else {
            return self.end_kept(ticket);
        };
        if session.answered(caller.id, caller.tag) == Ended::Drop {
            self.see("dropped");
            return self.end_kept(ticket);
        }
        session.bound_unnamed(ticket);
        envelope::write(out, caller.id, env.op, env.controls, b"");
        let next = session.after_end(out);
        if self.pool.is_short(lane::BIND) {
            self.see("asked for others' sake");
            self.ask_name(ticket);
        }
        self.after(caller.client, next);
        self.resume(caller.client);
    }

    pub(super) fn ask_for(&mut self, client: usize, tag: u8) {
        if let Some(ticket) = self.clients[client].session.waits_for_name(tag) {
            self.ask_name(ticket);
        }
    }

    /// Their time is over.
    pub(super) fn ask_for_all(&mut self) {
        for client in 0..self.clients.len() {
            if let Some(ticket) = self.clients[client].session.unnamed() {
                self.ask_name(ticket);
            }
        }
    }

    /// A bind waits, and there are as many connections as may be.
    pub(super) fn make_way(&mut self) {
        let mut kept: Vec<Ticket> = self
            .flights
            .keys()
            .copied()
            .filter(|ticket| self.pool.is_kept(*ticket))
            .collect();
        kept.sort_unstable();
        if let Some(ticket) = kept.first().filter(|_| self.pool.is_short(lane::BIND)) {
            self.see("asked for others' sake");
            self.ask_name(*ticket);
        }
    }

    fn ask_name(&mut self, ticket: Ticket) {
        let deadline = self.now + self.settings.operation_timeout;
        let Some(upstream) = self.pool.ask_on(ticket, deadline, self.now) else {
            return;
        };
        self.see("asked later");
        let line = self.lines.get_mut(&upstream).expect("what is kept is open");
        line.machine.ask_whoami(ticket, &mut line.out);
        line.hears();
        self.carry_out();
    }

    pub(super) fn end_kept(&mut self, ticket: Ticket) {
        let upstream = self.pool.upstream_of(ticket);
        if self.pool.finish(ticket, self.now, &mut self.effects) {
            self.flights.remove(&ticket);
            self.see("never asked");
        } else if upstream.is_none() {
            self.pool.cancel(ticket, self.now, &mut self.effects);
        } else {
            self.pool.leave_be(ticket);
        }
        self.carry_out();
    }

    pub(super) fn name_told(&mut self, ticket: Ticket, caller: Caller, known: bool, env: &Envelope<'_>) {
        self.flights.remove(&ticket);
        let identity = result::read_result(env.op).ok().and_then(|result| result.value);
        let identity = identity.filter(|_| known);
        let Some(Client { session, .. }) = self.client_of(caller) else {
            return;
        };
        let name = session.bind_name().to_vec();
        if session.named_as(ticket, identity.map_or(Bound::AsTyped, Bound::As)) {
            if let Some(identity) = identity {
                self.known.insert(name, identity.to_vec());
            }
            self.see("named");
            self.resume(caller.client);
        }
    }

    /// Only a bind that was sent a second time can be refused when its client has been told of its success.
    pub(super) fn name_refused(&mut self, ticket: Ticket, caller: Caller, last: bool) {
        if last {
            self.flights.remove(&ticket);
            self.name_lost(ticket, caller);
        }
    }

    pub(super) fn name_lost(&mut self, ticket: Ticket, caller: Caller) {
        if let Some(Client { session, out, .. }) = self.client_of(caller) {
            let next = session.name_lost(ticket, out);
            if next != Next::Done {
                self.see("name lost");
            }
            self.after(caller.client, next);
        }
    }
}
