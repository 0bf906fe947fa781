//! The place that a daemon takes: a free one, or that of a process that hands it over.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::names::Names;
use super::snapshot::Reporter;
use super::verify;
use crate::admin;
use crate::config::plan::{Plan, Target};
use crate::config::{self, render};
use crate::drive::Job;
use crate::upgrade::taking::Taken;

/// How long servers may take to be connected before clients are accepted even so: the other process serves meanwhile.
const CONNECTING_MAX: Duration = Duration::from_secs(5);
/// Between two looks whether they are.
const LOOK: Duration = Duration::from_millis(5);
/// How long what the other process has let go of may take to be free.
const FREE_MAX: Duration = Duration::from_secs(5);

/// See the module.
pub(super) enum Place {
    Free,
    Taken(Taken),
    /// Nobody else has it any more.
    Ours,
}

impl Place {
    pub(super) fn is_free(&self) -> bool {
        matches!(self, Place::Free)
    }

    pub(super) fn taken(&mut self) -> Option<&mut Taken> {
        match self {
            Place::Taken(taken) => Some(taken),
            Place::Free | Place::Ours => None,
        }
    }

    /// What cannot change from one process to the next stays.
    pub(super) fn fit(&self, plan: &mut Plan) {
        if let Place::Taken(taken) = self
            && let Some(workers) = taken.workers()
            && workers != plan.server.workers
        {
            tracing::warn!(
                workers,
                "[server] workers changes with the next start only: radius sockets were handed over"
            );
            plan.server.workers = workers;
        }
    }

    pub(super) fn admin(&mut self, plan: &Plan) -> Result<admin::Bound, String> {
        let (control, http) = (&plan.server.control, plan.server.admin);
        match self {
            Place::Taken(taken) => admin::Bound::beside(control, http, taken),
            Place::Free | Place::Ours => admin::Bound::bind(control, http),
        }
    }

    /// The workers get their plan, and the other process lets go of what only one can have.
    ///
    /// # Errors
    /// It has given up; or the configuration is wrong now.
    pub(super) fn take(
        &self,
        plan: &mut Arc<Plan>,
        source: Option<&Path>,
        reporter: &Reporter,
        names: &mut Names,
    ) -> Result<(), Vec<String>> {
        let Place::Taken(taken) = self else {
            tell(reporter, plan);
            return Ok(());
        };
        let written = writes_files(plan);
        if !written {
            tell(reporter, plan);
            until_connected(reporter);
        }
        taken.prepared().map_err(|why| vec![why])?;
        if written {
            // Their files have been written for the last time just now.
            if let Some(source) = source {
                let mut again = config::load(source).map_err(|found| vec![render(&found, false)])?.0;
                self.fit(&mut again);
                verify(&again)?;
                if again.listeners != plan.listeners || again.server != plan.server {
                    return Err(vec!["the configuration changes while it is being read".to_owned()]);
                }
                *plan = names.begin(again).map_err(|why| vec![why])?;
                let mut state = reporter.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.plan = Arc::clone(plan);
            }
            tell(reporter, plan);
            until_connected(reporter);
        }
        Ok(())
    }

    /// All is there.
    ///
    /// # Errors
    /// The other process has given up.
    pub(super) fn ready(&mut self, control: Option<PathBuf>) -> Result<(), String> {
        match std::mem::replace(self, Place::Ours) {
            Place::Taken(taken) => taken.ready(control),
            Place::Free | Place::Ours => Ok(()),
        }
    }
}

fn tell(reporter: &Reporter, plan: &Arc<Plan>) {
    for inbox in &reporter.inboxes {
        inbox.push_always(Job::Plan(Arc::clone(plan)));
    }
}

fn until_connected(reporter: &Reporter) {
    let until = Instant::now() + CONNECTING_MAX;
    while !reporter.can_answer() && Instant::now() < until {
        std::thread::sleep(LOOK);
    }
}

/// Whether local directories are written back to their files.
fn writes_files(plan: &Plan) -> bool {
    let tiers = plan.directories.values().flat_map(|directory| &directory.tiers);
    let mut targets = tiers.flat_map(|tier| &tier.servers).map(|server| &server.target);
    targets.any(|target| matches!(target, Target::Local(file) if file.write_back))
}

/// Tries again for a while: what another process has let go of may not be free at once.
pub(super) fn patiently<T>(mut what: impl FnMut() -> Result<T, Vec<String>>) -> Result<T, Vec<String>> {
    let until = Instant::now() + FREE_MAX;
    loop {
        match what() {
            Err(_) if Instant::now() < until => std::thread::sleep(LOOK),
            done => return done,
        }
    }
}
