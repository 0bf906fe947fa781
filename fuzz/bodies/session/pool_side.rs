//! The pool's side: what it wants done is done here.

use super::*;

impl World {
    pub(super) fn carry_out(&mut self) {
        if std::mem::replace(&mut self.busy, true) {
            return;
        }
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                self.effect(effect);
            }
        }
        self.busy = false;
    }

    fn effect(&mut self, effect: Effect<Caller>) {
        match effect {
            Effect::Open { upstream, lane, .. } => {
                let before = self.lines.insert(upstream, Line::new(lane));
                assert!(before.is_none(), "{upstream:?} opened twice");
            }
            Effect::Send { ticket, upstream } => self.send(ticket, upstream),
            Effect::Abandon { ticket, upstream } => {
                let wire_id = self.flights.get(&ticket).map(|flight| flight.wire_id);
                if let (Some(line), Some(wire_id)) = (self.lines.get_mut(&upstream), wire_id)
                    && line.machine.stands_for(wire_id, ticket)
                {
                    line.machine.abandon(wire_id, &mut line.out);
                    line.hears();
                }
            }
            Effect::Close { upstream } => {
                self.lines.remove(&upstream).expect("what is closed was open");
            }
            Effect::Probe { upstream } => {
                let line = self.lines.get_mut(&upstream).expect("what is probed is open");
                line.machine.probe(&mut line.out);
                line.hears();
            }
            Effect::Failed {
                ticket, user, reason, ..
            } => self.failed(ticket, user, reason),
            Effect::Interrupt { .. } | Effect::Kill { .. } => panic!("{effect:?}: connections are no programs"),
            Effect::Check { .. } => panic!("{effect:?}: no server is checked"),
        }
    }

    fn send(&mut self, ticket: Ticket, upstream: UpstreamId) {
        if self.pool.upstream_of(ticket) != Some(upstream) {
            return;
        }
        let flight = self.flights.get_mut(&ticket).expect("what is sent is in flight");
        let (caller, frame) = (flight.caller, flight.frame.clone());
        let env = peek(&frame).expect("it was taken");
        let client = &mut self.clients[caller.client];
        assert_eq!(client.generation, caller.generation, "sent for somebody who has left");
        let line = self.lines.get_mut(&upstream).expect("what is sent to is open");
        assert!(line.up);
        let mut extra = Vec::new();
        match line.lane {
            lane::SHARED | lane::APART if self.settings.proxied => match client.session.control() {
                Some(control) => extra.extend_from_slice(control),
                None => extra = anonymous_control(),
            },
            lane::PINNED => client.session.pinned(upstream),
            _ => {}
        }
        if client.session.minds()
            && let Some((server, marks)) = self.pool.server_behind(upstream)
        {
            client
                .session
                .sent_to(caller.id, upstream, server, marks, Instant::ZERO);
        }
        let owner = (caller.client, caller.generation);
        flight.wire_id = if caller.tag == tag::BIND_REQUEST {
            let bind = grammar::bind(env.op).expect("it was taken");
            let anonymous = bind.name.is_empty() || bind.auth == grammar::Auth::Simple(b"");
            let ask = match line.lane == lane::BIND && !anonymous {
                true if flight.told => Ask::Later,
                true if self.known.contains_key(bind.name) => Ask::Never,
                true if self.asks_first => Ask::First,
                true => Ask::Later,
                false => Ask::Never,
            };
            line.machine.send_bind(ticket, &env, ask, &[], &mut line.out)
        } else {
            line.machine.send(ticket, &env, &extra, &mut line.out)
        };
        line.told(owner, &flight.as_whom, self.settings.proxied);
        self.see("sent");
    }

    fn failed(&mut self, ticket: Ticket, caller: Caller, reason: Reason) {
        self.see(match reason {
            Reason::Canceled => "canceled",
            Reason::Deadline => "deadline",
            Reason::QueueTimeout => "queue timeout",
            Reason::QueueFull => "queue full",
            Reason::Unavailable => "unavailable",
            Reason::UpstreamLost { .. } => "lost",
            Reason::ShuttingDown => "shutting down",
        });
        if self.is_told(ticket) {
            self.flights.remove(&ticket);
            return self.name_lost(ticket, caller);
        }
        let Some(Client { session, out, .. }) = self.client_of(caller) else {
            self.flights.remove(&ticket);
            return;
        };
        let pinned_bind = caller.tag == tag::BIND_REQUEST && session.pin().is_some();
        session.failed(caller.id, caller.tag, reason, out);
        let next = if pinned_bind && reason == Reason::Deadline {
            session.pin_lost(out)
        } else {
            session.after_end(out)
        };
        self.after(caller.client, next);
        self.let_go(caller.client);
        self.resume(caller.client);
    }
}
