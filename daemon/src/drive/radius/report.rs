//! How RADIUS stands on a worker, for whoever asks.

use engine::radius::duplicates;
use engine::session::radius::Figures;

use super::super::Drive;

/// One listener as one worker sees it.
#[derive(Clone, Debug)]
pub struct RadiusReport {
    /// Which.
    pub listener: u64,
    /// What its front has done.
    pub figures: Figures,
    /// What an answer takes now, in microseconds.
    pub service_time_us: u64,
    /// What each back end's answer takes now, by place in the figures.
    pub backends_us: Vec<u64>,
    /// Of repeated requests.
    pub duplicates: duplicates::Figures,
    /// Requests that are being answered.
    pub waiting: usize,
    /// Packets dropped, by the client's name (none: nobody's) and reason.
    pub dropped: Vec<(Option<String>, &'static str, u64)>,
    /// Datagrams that the kernel had no room for.
    pub kernel_drops: u64,
    /// Answers that the kernel did not take.
    pub unsent: u64,
}

impl Drive {
    pub(in crate::drive) fn radius_reports(&self) -> Vec<RadiusReport> {
        let report = |one: &super::Listener| {
            let figures = one.front.figures().clone();
            RadiusReport {
                listener: one.id,
                service_time_us: figures.service_time.estimate(self.now).as_micros(),
                backends_us: figures
                    .backends
                    .iter()
                    .map(|backend| backend.predicted(self.now).as_micros())
                    .collect(),
                figures,
                duplicates: one.front.duplicates(),
                waiting: one.front.waiting(),
                dropped: one.drops.counts(&one.face.plan.clients),
                kernel_drops: one.socket.kernel_drops(),
                unsent: one.unsent,
            }
        };
        self.radius.listeners.iter().flatten().map(report).collect()
    }
}
