//! The thread that writes: the one place that may be stuck in a disk or wait for a service.

use std::sync::Arc;

use wire::radius::Dictionary;

use super::file::Files;
use super::plan::SinkPlan;
use super::service::{Call, Service};
use super::state::{BATCH_MAX, Shared, Work};
use super::{Item, Outcome};

/// Where records go.
enum Sink {
    Files(Files),
    Service(Service),
}

impl Sink {
    fn new(plan: SinkPlan, dictionary: Arc<Dictionary>, call: &Call) -> Sink {
        match plan {
            SinkPlan::File(plan) => Sink::Files(Files::new(plan, dictionary)),
            SinkPlan::Service(plan) => Sink::Service(Service::new(plan, dictionary, Arc::clone(call))),
        }
    }

    /// What becomes of each record, and what went wrong.
    fn write(&mut self, batch: &[Item]) -> (Vec<Outcome>, Option<String>) {
        match self {
            Sink::Files(files) => files.write(batch),
            Sink::Service(service) => service.write(batch),
        }
    }

    fn batch_max(&self) -> usize {
        match self {
            Sink::Files(_) => BATCH_MAX,
            Sink::Service(service) => service.batch_max(),
        }
    }
}

/// Writes until the writer is stopped.
pub(super) fn run(shared: &Shared, plan: SinkPlan, dictionary: Arc<Dictionary>, call: &Call) {
    let mut sink = Sink::new(plan, dictionary, call);
    loop {
        match shared.work(sink.batch_max()) {
            Work::Write(items, replayed) => {
                let (outcomes, wrong) = sink.write(&items);
                shared.settle(&items, outcomes, wrong, replayed);
            }
            Work::Configure(plan, dictionary) => sink = Sink::new(plan, dictionary, call),
            Work::Reopen => {
                if let Sink::Files(files) = &mut sink {
                    files.reopen();
                }
            }
            Work::End => break,
        }
    }
    shared.end();
}
