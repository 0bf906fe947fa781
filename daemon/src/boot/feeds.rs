//! The daemon's feeds, from its start to its end.

use std::collections::BTreeMap;
use std::sync::mpsc::{Sender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::Event;
use crate::admin::Command;
use crate::config::plan::Plan;
use crate::feed::{Feeds, Line, Lock};
use crate::worker::Inbox;

/// Where the admin side finds them.
pub(super) type Lines = Arc<Mutex<Vec<Line>>>;

/// The running feeds.
pub(super) struct Followed {
    feeds: Feeds,
    lines: Lines,
}

impl Followed {
    /// Begins those of a plan, whose state folders are taken.
    ///
    /// # Errors
    /// What cannot be begun, and why.
    pub(super) fn begin(
        plan: &Plan,
        locks: BTreeMap<String, Lock>,
        workers: Vec<Arc<Inbox>>,
        ended: Arc<dyn Fn() + Send + Sync>,
        lines: &Lines,
    ) -> Result<Followed, Vec<String>> {
        let mut followed = Followed {
            feeds: Feeds::new(workers, ended),
            lines: Arc::clone(lines),
        };
        followed.feeds.apply(plan, locks)?;
        followed.tell();
        Ok(followed)
    }

    /// Takes the state folders that a new plan needs, and opens what is in them. Nothing of what runs is touched.
    ///
    /// # Errors
    /// What cannot be used, and why.
    pub(super) fn prepare(&self, plan: &Plan) -> Result<BTreeMap<String, Lock>, String> {
        self.feeds.prepare(plan).map_err(|why| why.join("; "))
    }

    /// What differs in a new plan is done, with the folders that were prepared for it.
    ///
    /// # Errors
    /// What cannot be begun, and why; everything else is done.
    pub(super) fn apply(&mut self, plan: &Plan, locks: BTreeMap<String, Lock>) -> Result<(), String> {
        let begun = self.feeds.apply(plan, locks);
        self.tell();
        begun.map_err(|why| why.join("; "))
    }

    fn tell(&self) {
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = self.feeds.lines();
    }

    /// What can be asked how they stand.
    pub(super) fn lines(&self) -> Vec<Line> {
        self.feeds.lines()
    }

    /// All stop: sources first, then shards and sinks, then the writers.
    pub(super) fn stop(&mut self) {
        self.feeds.stop();
    }
}

/// What is done when a sink has ended for good: what was started for that feed alone ends, too.
pub(super) fn when_ended(to_main: &Sender<Event>, alone: bool) -> Arc<dyn Fn() + Send + Sync> {
    let to_main = Mutex::new(to_main.clone());
    Arc::new(move || {
        if alone {
            let (answer, _) = sync_channel(1);
            let to_main = to_main.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = to_main.send(Event::Command(Command::Stop, answer));
        }
    })
}
