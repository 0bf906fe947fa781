//! How things stand, for whoever asks: nothing here changes anything.

use super::*;

impl<T: Copy> Pool<T> {
    /// Nothing pending and no upstream left.
    pub fn is_gone(&self) -> bool {
        self.tickets.len() == 0 && self.upstreams.len() == 0
    }

    /// Requests that have not ended.
    pub fn pending(&self) -> usize {
        self.tickets.len()
    }

    /// Requests that wait for an upstream.
    pub fn queued(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting() as usize).sum()
    }

    /// How long ago the oldest of the requests that wait was submitted; none waits: none.
    pub fn oldest_wait(&self, now: Instant) -> Option<Span> {
        let heads = self
            .lanes
            .iter()
            .flat_map(|lane| [lane.queue.front(), lane.picky.front()])
            .flatten();
        let since = heads
            .filter_map(|head| Some(self.tickets.get(head)?.submitted_at))
            .min()?;
        Some(now.since(since))
    }

    /// Whether a request could be sent now, or an upstream be opened for it: some server is usable.
    pub fn is_ready(&self) -> bool {
        self.servers.iter().flatten().any(Server::usable)
    }

    /// Whether every server has its minimum up, or had: since it was configured, or since it last had nothing at all left
    /// after crashes. What is replaced now and then does not change it.
    pub fn is_populated(&self) -> bool {
        let mut servers = self.servers.iter().flatten().filter(|server| !server.retiring);
        servers.all(|server| server.populated)
    }

    /// Requests wait for upstreams of which there are as many as may be.
    pub fn is_saturated(&self) -> bool {
        self.lanes.iter().any(|lane| lane.saturated)
    }

    /// What its upstreams do, all servers and lanes together.
    pub fn census(&self) -> Census {
        let fleets = self.servers.iter().flatten().flat_map(|server| &server.fleets);
        fleets.fold(Census::default(), |mut sum, fleet| {
            let one = fleet.census(0);
            sum.starting += one.starting;
            sum.idle += one.idle;
            sum.busy += one.busy;
            sum.leaving += one.leaving;
            sum
        })
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// How long requests waited before they were first sent, those that did not wait included. What was never sent is
    /// counted by its reason instead.
    pub fn queue_wait(&self) -> &Histogram {
        &self.queue_wait
    }

    /// How long answers took, from the last time that the request was sent.
    pub fn service_time(&self) -> &Histogram {
        &self.service_time
    }

    /// What can be said of each server.
    pub fn report(&self, now: Instant) -> Vec<ServerReport> {
        let servers = self.servers.iter().enumerate();
        servers
            .filter_map(|(index, server)| Some((index, server.as_ref().filter(|server| !server.retiring)?)))
            .map(|(index, server)| ServerReport {
                key: server.config.key,
                tier: server.tier,
                health: server.health,
                score: self.score(index, now),
                ready: server.fleets.iter().map(|fleet| fleet.ready).collect(),
                upstreams: server.fleets.iter().map(|fleet| fleet.census(0)).collect(),
                retry_at: server.retry_at,
                in_flight: server.in_flight,
                answered: server.answered,
                failures: server.failures,
                latency: server.service_time.estimate(server.sampled_at),
            })
            .collect()
    }
}

impl Failures {
    pub(super) fn count(&mut self, reason: Reason) {
        let count = match reason {
            Reason::Canceled => &mut self.canceled,
            Reason::Deadline => &mut self.deadline,
            Reason::QueueTimeout => &mut self.queue_timeout,
            Reason::QueueFull => &mut self.queue_full,
            Reason::Unavailable => &mut self.unavailable,
            Reason::UpstreamLost { .. } => &mut self.lost,
            Reason::ShuttingDown => &mut self.shutting_down,
        };
        *count += 1;
    }
}
