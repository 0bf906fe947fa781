//! Requests that consist of several messages, between which their upstream waits for whoever asks.

use super::*;

impl<T: Copy> Pool<T> {
    /// What was said for this ticket was a part, and its caller has the next word: until then nothing is owed. The ticket keeps its
    /// place and its deadline.
    pub fn hold(&mut self, ticket: Ticket) {
        if let Some(upstream) = self.sole(ticket) {
            upstream.quiet_since = None;
        }
    }

    /// The caller has said it, under this note: the upstream to send it on, which owes an answer from now on. None: the ticket
    /// has ended.
    pub fn go_on(&mut self, ticket: Ticket, user: T, now: Instant) -> Option<UpstreamId> {
        let entry = self.tickets.get_mut(ticket.0)?;
        let State::Sent(handle) = entry.state else { return None };
        entry.user = user;
        // What its caller took between is no service time.
        entry.sent_at = now;
        let check = now + self.health.suspect_after;
        let upstream = self.upstreams.get_mut(handle)?;
        upstream.quiet_since.get_or_insert(now);
        let server = upstream.server;
        if let Some(Some(server)) = self.servers.get_mut(server)
            && server.check_at.is_none_or(|at| at > check)
        {
            server.check_at = Some(check);
        }
        Some(UpstreamId(handle))
    }

    /// The final answer has come, and is delivered; the caller may have a last question to whoever gave it. Until it asks
    /// (`ask_on`) or has none (`finish`) the ticket keeps its place, nothing is owed, and nothing but its deadline ends it, which
    /// is not before `until` from now on. Where its upstream is lost meanwhile, it is sent once more if it may be. The caller's
    /// note, as [`Pool::reply`] gives it.
    pub fn keep(
        &mut self,
        ticket: Ticket,
        upstream: UpstreamId,
        until: Instant,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) -> Option<T> {
        let entry = self.tickets.get_mut(ticket.0);
        let Some(entry) = entry.filter(|entry| entry.state == State::Sent(upstream.0) && !entry.kept) else {
            self.stats.late += 1;
            return None;
        };
        entry.kept = true;
        entry.observed = true;
        let (user, sent_at, deadline) = (entry.user, entry.sent_at, entry.request.deadline);
        if deadline < until {
            self.put_off(ticket, until);
        }
        self.heard(upstream, now);
        self.service_time.observe(now.since(sent_at));
        self.note_answer(upstream.0, Verdict::Well, sent_at, now, effects);
        self.hold(ticket);
        if let Some(upstream) = self.upstreams.get_mut(upstream.0) {
            upstream.kept += 1;
        }
        // It is no load, but for the place that it has.
        if let Some(server) = self.server_of(upstream.0) {
            server.in_flight = server.in_flight.saturating_sub(1);
        }
        if let Some(server) = self.upstreams.get(upstream.0).map(|upstream| upstream.server) {
            self.less_pending(server, now, effects);
        }
        Some(user)
    }

    /// The last question to the upstream that is kept: where to send it. An answer is owed from now on, and due at `deadline`.
    /// None: nothing is kept for this ticket.
    pub fn ask_on(&mut self, ticket: Ticket, deadline: Instant, now: Instant) -> Option<UpstreamId> {
        let entry = self.tickets.get_mut(ticket.0).filter(|entry| entry.kept)?;
        entry.kept = false;
        let user = entry.user;
        self.put_off(ticket, deadline);
        let upstream = self.go_on(ticket, user, now)?;
        if let Some(upstream) = self.upstreams.get_mut(upstream.0) {
            upstream.kept = upstream.kept.saturating_sub(1);
        }
        if let Some(server) = self.server_of(upstream.0) {
            server.in_flight += 1;
        }
        Some(upstream)
    }

    /// A ticket that has been sent has another deadline.
    fn put_off(&mut self, ticket: Ticket, deadline: Instant) {
        let Some(entry) = self.tickets.get_mut(ticket.0) else {
            return;
        };
        entry.request.deadline = deadline;
        if let Some(timer) = entry.timer.take() {
            self.wheel.cancel(timer);
        }
        if deadline != Instant::MAX {
            entry.timer = Some(self.wheel.arm(deadline, ticket.0.to_bits()));
        }
    }

    /// There is no question: the ticket ends, answered, and its upstream is free. False: nothing is kept for it.
    pub fn finish(&mut self, ticket: Ticket, now: Instant, effects: &mut Vec<Effect<T>>) -> bool {
        let entry = self.tickets.get(ticket.0).filter(|entry| entry.kept);
        let Some(State::Sent(upstream)) = entry.map(|entry| entry.state) else {
            return false;
        };
        self.unlink(ticket.0);
        if self.remove(ticket.0).is_some() {
            self.stats.answered += 1;
        }
        self.upstream_freed(upstream, now, effects);
        true
    }

    /// Its caller has left, and the answer that is owed is of no use but to free the upstream: it is not sent again.
    pub fn leave_be(&mut self, ticket: Ticket) {
        if let Some(entry) = self.tickets.get_mut(ticket.0) {
            entry.request.class.retry = false;
        }
    }

    /// Whether this ticket's upstream is kept for its caller's last question.
    pub fn is_kept(&self, ticket: Ticket) -> bool {
        self.tickets.get(ticket.0).is_some_and(|entry| entry.kept)
    }

    /// Whether requests wait in a lane for which no upstreams are on their way.
    #[inline]
    pub fn is_short(&self, lane: u8) -> bool {
        let Some(of) = self.lanes.get(lane as usize).filter(|lane| lane.waiting() > 0) else {
            return false;
        };
        let opening = |server: &Server| server.fleets.get(lane as usize).map_or(0, |fleet| fleet.opening);
        let coming: u32 = self.servers.iter().flatten().map(opening).sum();
        of.waiting() > coming.saturating_mul(of.config.slots)
    }

    /// The upstream that has this ticket and no other.
    fn sole(&mut self, ticket: Ticket) -> Option<&mut Upstream> {
        let State::Sent(handle) = self.tickets.get(ticket.0)?.state else {
            return None;
        };
        self.upstreams
            .get_mut(handle)
            .filter(|upstream| upstream.tickets.len() == 1)
    }
}
