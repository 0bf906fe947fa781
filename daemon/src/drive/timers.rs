//! Deadlines of connections: handshakes, partial messages, stalled writes, idle clients; and when the worker must wake.

use std::time::Duration;

use engine::core::time::{Instant, Span};

use super::Drive;
use super::conn::{Conn, Kind};
use super::slow::PATIENCE;
use engine::session::ldap::lane;

/// How long the end of a closed connection is awaited.
pub(super) const LINGER: Span = Span::from_millis(500);

/// A configured duration in the engine's measure.
pub fn span(duration: Duration) -> Span {
    Span::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

impl Drive {
    /// When something is due, at the latest.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let pools = self.pools.iter().flatten().filter_map(|state| state.pool.wake_at());
        pools
            .chain(self.wheel.next())
            .chain(self.turns.next())
            .chain(self.helpers_due)
            .chain(self.radius.wake_at())
            .min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        let now = self.now;
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(now, |key| expired.push(key));
        for key in expired.drain(..) {
            let (at, generation) = (key & u64::from(u32::MAX), key >> 32);
            let Ok(at) = usize::try_from(at) else { continue };
            if let Some(conn) = self
                .conns
                .get_mut(at)
                .filter(|conn| u64::from(conn.generation) == generation)
            {
                conn.timer = None;
                self.due(at);
            }
        }
        self.expired = expired;
        self.wake_turns();
        self.watch_helpers();
        self.tick_radius();
        for index in 0..self.pools.len() {
            if let Some(state) = self.pool(index)
                && state.pool.wake_at().is_some_and(|at| at <= now)
            {
                state.pool.tick(now, &mut state.effects);
                self.carry_out(index, None);
            }
            self.forget_left(index);
        }
    }

    /// Looks at a connection after `after` at the latest.
    pub(super) fn arm(&mut self, at: usize, after: Span) {
        let due = self.now + after;
        let Some(conn) = self.conns.get_mut(at) else { return };
        if let Some((timer, before)) = conn.timer {
            if before <= due {
                return;
            }
            self.wheel.cancel(timer);
        }
        let key = u64::from(conn.generation) << 32 | at as u64;
        conn.timer = Some((self.wheel.arm(due, key), due));
    }

    /// Nothing of this connection is due.
    pub(super) fn disarm(&mut self, at: usize) {
        if let Some((timer, _)) = self.conns.get_mut(at).and_then(|conn| conn.timer.take()) {
            self.wheel.cancel(timer);
        }
    }

    /// Arms what a client's state asks for; a client at rest has no timer.
    pub(super) fn arm_client(&mut self, at: usize) {
        match self.client_due(at) {
            Some(due) => {
                let before = self.conns.get(at).and_then(|conn| conn.timer).map(|(_, before)| before);
                if before != Some(due) {
                    self.disarm(at);
                    self.arm(at, due.since(self.now));
                }
            }
            None => self.disarm(at),
        }
    }

    fn client_due(&self, at: usize) -> Option<Instant> {
        let conn = self.conns.get(at)?;
        if conn.lingering {
            return conn.timer.map(|(_, due)| due);
        }
        let (listener, choking, pending) = match &conn.kind {
            Kind::Ldap(client) => (client.listener, self.is_waited_for(conn), client.session.pending()),
            Kind::Rpc(client) => (client.listener, false, client.session.pending()),
            Kind::Ask(client) => (client.listener, self.is_waited_for(conn), client.pending()),
            _ => return None,
        };
        let plan = &self.listeners.get(&listener)?.plan;
        let partial = conn.partial_since.map(|since| since + span(plan.partial_timeout));
        let stalled = conn.stalled_since.map(|since| since + span(plan.write_timeout));
        let impatient = conn.stalled_since.filter(|_| choking).map(|since| since + PATIENCE);
        let idle = plan
            .idle_timeout
            .filter(|_| pending == 0 && !conn.is_held_back())
            .map(|timeout| conn.active_at + span(timeout));
        let rests = self.rest_ends(at);
        let bid = match &conn.kind {
            Kind::Ldap(client) => client.bid.as_ref().and_then(|bid| bid.due()),
            _ => None,
        };
        [partial, stalled, impatient, idle, rests, bid]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether others wait while this client does not read: its answers come over shared connections, and its outbox is
    /// beyond its bound or keeps one of them from being read.
    fn is_waited_for(&self, conn: &Conn) -> bool {
        let (listener, choking) = match &conn.kind {
            Kind::Ldap(client) => (client.listener, &client.choking),
            Kind::Ask(client) => (client.listener, &client.choking),
            _ => return false,
        };
        let bound = self
            .listeners
            .get(&listener)
            .map_or(usize::MAX, |listener| listener.plan.outbox_bytes_max);
        let waits = !choking.is_empty() || conn.stream.waiting() > bound;
        waits
            && choking
                .iter()
                .all(|to| !matches!(self.lane_of(*to), Some(lane::PINNED | lane::APART)))
    }

    /// A connection's timer has come.
    fn due(&mut self, at: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get(at) else { return };
        if conn.lingering {
            return self.close(at);
        }
        let (listener, choking, pending) = match &conn.kind {
            Kind::Upstream(upstream) if upstream.machine.is_ready() => return self.upstream_due(at),
            Kind::Upstream(_) if conn.awaits_gss() => return self.upstream_lost(at, super::gss::LATE),
            Kind::Check(_) if conn.awaits_gss() => return self.check_ends(at, Err(super::gss::LATE.into())),
            Kind::Upstream(_) => return self.upstream_lost(at, "it took too long to connect"),
            Kind::Check(_) => return self.check_ends(at, Err("it took too long".into())),
            Kind::Ldap(client) => (client.listener, self.is_waited_for(conn), client.session.pending()),
            Kind::Rpc(client) => (client.listener, false, client.session.pending()),
            Kind::Ask(client) => (client.listener, self.is_waited_for(conn), client.pending()),
        };
        let Some(plan) = self
            .listeners
            .get(&listener)
            .map(|listener| std::sync::Arc::clone(&listener.plan))
        else {
            return self.close(at);
        };
        let over = |since: Option<Instant>, timeout: Duration| since.is_some_and(|since| now >= since + span(timeout));
        if conn.preface.is_some() && over(conn.partial_since, plan.partial_timeout) {
            return self.preface_late(at);
        }
        if over(conn.partial_since, plan.partial_timeout) || over(conn.stalled_since, plan.write_timeout) {
            tracing::debug!("a client that holds a partial request, or reads nothing, is closed");
            return self.close(at);
        }
        if choking && conn.stalled_since.is_some_and(|since| now >= since + PATIENCE) {
            self.lose_patience(at);
        }
        if self.rest_ends(at).is_some_and(|until| now >= until) {
            self.drop_hold(at);
        }
        if let Some(Kind::Ldap(client)) = self.conns.get(at).map(|conn| &conn.kind)
            && over(client.bid.as_ref().and_then(|bid| bid.due()), Duration::ZERO)
        {
            self.bid_late(at);
        }
        if pending == 0
            && !self.conns.get(at).is_some_and(Conn::is_held_back)
            && plan
                .idle_timeout
                .is_some_and(|timeout| over(Some(conn_active(self, at)), timeout))
        {
            return self.say_goodbye(at, "idle for too long");
        }
        self.rearm(at);
    }

    /// The state goes on: its next deadline. Clients that may idle away always have one.
    fn rearm(&mut self, at: usize) {
        let idle = self.conns.get(at).and_then(|conn| match &conn.kind {
            Kind::Ldap(client) => self.listeners.get(&client.listener)?.plan.idle_timeout,
            Kind::Rpc(client) => self.listeners.get(&client.listener)?.plan.idle_timeout,
            Kind::Ask(client) => self.listeners.get(&client.listener)?.plan.idle_timeout,
            _ => None,
        });
        match self.client_due(at) {
            Some(due) => self.arm(at, due.since(self.now)),
            None => {
                if let Some(idle) = idle {
                    self.arm(at, span(idle));
                }
            }
        }
    }
}

fn conn_active(drive: &Drive, at: usize) -> Instant {
    drive.conns.get(at).map_or(Instant::MAX, |conn| conn.active_at)
}
