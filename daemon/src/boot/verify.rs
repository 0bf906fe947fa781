//! A worker and a directory, for a comparison with what a feed that does not run has kept. Nothing listens.

use std::sync::Arc;

use super::INBOX_MAX;
use crate::config::plan::Plan;
use crate::drive::{Drive, Job};
use crate::feed;
use crate::feed::verify::{Options, Source};
use crate::net::resolve::Resolver;
use crate::shared::Shared;
use crate::worker::{Kill, Worker};
use engine::feed::verify::Report;

/// Compares; `plan` has one feed.
///
/// # Errors
/// It could not be told, and why.
pub fn stopped(plan: Plan, options: Options) -> Result<Report, String> {
    // Whoever linked another provider: ours is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    super::verify(&plan).map_err(|why| why.join("; "))?;
    let plan = Arc::new(plan);
    let one = plan.feeds.values().next().ok_or("there is no feed")?;
    if !one.state.is_dir() {
        return Err(format!("the state folder {} is not there", one.state.display()));
    }
    let lock = feed::Lock::take(&one.state)
        .map_err(|why| format!("{why}; one that runs is compared without a URL: usherd feed verify --state DIR"))?;
    let shared = Arc::new(Shared::new(1, plan.server.outbox_bytes_total));
    let resolver = Resolver::start().map_err(|error| format!("no thread for look-ups: {error}"))?;
    let build = move |poll, inbox| Drive::new(0, poll, inbox, shared, resolver);
    let mut worker =
        Worker::create(0, INBOX_MAX, build).map_err(|error| format!("no thread for the connection: {error}"))?;
    worker.inbox().push_always(Job::Plan(Arc::clone(&plan)));
    let source = Source::new(Arc::clone(one), 0, worker.inbox());
    let done = source.stopped(&lock, &feed::identity(&plan, one), options);
    worker.kill(Kill::Now);
    done
}
