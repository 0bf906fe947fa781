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
