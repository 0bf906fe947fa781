//! What a front has done, and how long its back ends take now: they are clocked by their own answers (seed 004).
//!
//! What a back end will take is foretold from two things: the moving mean of what its answers took, and its silence: how long it
//! has owed an answer without giving any. A stopped back end gives no samples, but its silence grows.

use super::Method;
use super::plan::Plan;
use crate::core::Histogram;
use crate::core::service_time::ServiceTime;
use crate::core::time::{Instant, Span};
use crate::radius::Dropped;

/// While requests are shed, one in so long is let through, so that it is seen when their back end has recovered.
const PROBE_EVERY: Span = Span::from_millis(500);

/// How often yes and no were said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verdicts {
    /// Accepts.
    pub accepts: u64,
    /// Rejects.
    pub rejects: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    methods: [Verdicts; Method::ALL.len()],
    dropped: [u64; Dropped::ALL.len()],
    /// Access-Challenges.
    pub challenges: u64,
    /// Accounting requests that were acknowledged.
    pub recorded: u64,
    /// Status-Servers that were answered.
    pub statuses: u64,
    /// Accepts that became rejects because their attributes did not fit a packet.
    pub unwritable: u64,
    /// From the receipt of a request to its answer.
    pub took: Histogram,
    /// What an answer takes now, from the receipt of its request.
    pub service_time: ServiceTime,
    /// Each back end.
    pub backends: Vec<BackendFigures>,
}

/// One back end.
#[derive(Clone, Debug, Default)]
pub struct BackendFigures {
    /// Its name.
    pub name: String,
    /// Users that it let in.
    pub yes: u64,
    /// Users that it did not let in.
    pub no: u64,
    /// Users that it did not know, or could not judge.
    pub not_found: u64,
    /// Times that it could not be asked.
    pub unavailable: u64,
    /// Users that it is being asked about.
    pub in_flight: u32,
    /// What its answers take now.
    pub service_time: ServiceTime,
    silent_since: Instant,
    probed_at: Instant,
}

impl BackendFigures {
    /// How long it has owed an answer and given none.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Span {
        if self.in_flight == 0 {
            return Span::ZERO;
        }
        now.since(self.silent_since)
    }

    /// How long it will take to answer what is asked now.
    #[must_use]
    pub fn predicted(&self, now: Instant) -> Span {
        self.service_time.estimate(now).max(self.silence(now))
    }
}

/// What a back end did with a question about a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    Yes,
    No,
    NotFound,
    Unavailable,
}

impl Figures {
    /// What became of requests of this method.
    #[must_use]
    pub fn method(&self, method: Method) -> Verdicts {
        let at = Method::ALL.iter().position(|known| *known == method);
        at.and_then(|at| self.methods.get(at)).copied().unwrap_or_default()
    }

    /// Packets that got no answer for this reason.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        let at = Dropped::ALL.iter().position(|known| *known == why);
        at.and_then(|at| self.dropped.get(at)).copied().unwrap_or_default()
    }

    /// The back ends of another plan. Those of the same name keep their figures.
    pub(super) fn configure(&mut self, plan: &Plan) {
        let named = |name: &str| self.backends.iter().find(|known| known.name == name).cloned();
        let of = |name: &str| {
            named(name).unwrap_or_else(|| BackendFigures {
                name: name.to_owned(),
                ..BackendFigures::default()
            })
        };
        self.backends = plan.backends.iter().map(|backend| of(&backend.name)).collect();
    }

    pub(super) fn verdict(&mut self, method: Method, accept: bool) {
        let at = Method::ALL.iter().position(|known| *known == method);
        if let Some(verdicts) = at.and_then(|at| self.methods.get_mut(at)) {
            verdicts.accepts += u64::from(accept);
            verdicts.rejects += u64::from(!accept);
        }
    }

    pub(super) fn drop(&mut self, why: Dropped) {
        let at = Dropped::ALL.iter().position(|known| *known == why);
        if let Some(count) = at.and_then(|at| self.dropped.get_mut(at)) {
            *count += 1;
        }
    }

    pub(super) fn answered(&mut self, received_at: Instant, now: Instant) {
        let took = now.since(received_at);
        self.took.observe(took);
        self.service_time.observe(took, now);
    }

    fn backend(&mut self, name: &str) -> Option<&mut BackendFigures> {
        self.backends.iter_mut().find(|known| known.name == name)
    }

    /// A back end in process has said so.
    pub(super) fn said(&mut self, name: &str, told: Told) {
        if let Some(backend) = self.backend(name) {
            match told {
                Told::Yes => backend.yes += 1,
                Told::No => backend.no += 1,
                Told::NotFound => backend.not_found += 1,
                Told::Unavailable => backend.unavailable += 1,
            }
        }
    }

    /// A back end is being asked.
    pub(super) fn asked(&mut self, name: &str, now: Instant) {
        if let Some(backend) = self.backend(name) {
            if backend.in_flight == 0 {
                backend.silent_since = now;
            }
            backend.in_flight += 1;
        }
    }

    /// A back end that was asked has answered, or was given up.
    pub(super) fn heard(&mut self, name: &str, asked_at: Instant, now: Instant) {
        if let Some(backend) = self.backend(name) {
            backend.in_flight = backend.in_flight.saturating_sub(1);
            backend.silent_since = now;
            backend.service_time.observe(now.since(asked_at), now);
        }
    }

    /// A back end that was asked need not answer any more; that says nothing about how long it takes.
    pub(super) fn left(&mut self, name: &str) {
        if let Some(backend) = self.backend(name) {
            backend.in_flight = backend.in_flight.saturating_sub(1);
        }
    }

    /// Whether a request that can wait no longer than `patience` is to be asked of this back end now.
    pub(super) fn admits(&mut self, name: &str, patience: Span, now: Instant) -> bool {
        let Some(backend) = self.backend(name) else { return true };
        if backend.in_flight == 0 || backend.predicted(now) < patience {
            return true;
        }
        let probes = now.since(backend.probed_at) >= PROBE_EVERY;
        if probes {
            backend.probed_at = now;
        }
        probes
    }
}
