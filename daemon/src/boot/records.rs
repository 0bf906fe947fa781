//! Where accounting records of RADIUS listeners go: a writer for each listener that keeps them, and one for all those that
//! write to the same file, so that no two write to one.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::session::radius::RequestId;

use crate::accounting::{self, Handle, Parts, Ticket, Writer};
use crate::admin::snapshot::RadiusRecords;
use crate::config::plan::{Face, Plan, Radius};
use crate::drive::{Job, SERVICES_HOME, chance, listener_id};
use crate::worker::Inbox;

/// How long what waits at the end may take to be written, or to reach the spool.
const END_MAX: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Records {
    /// By listener; who reports has it, too.
    writers: Writers,
    inboxes: Vec<Arc<Inbox>>,
}

/// The writers that there are, by listener.
pub(super) type Writers = Arc<Mutex<Kept>>;

type Kept = HashMap<u64, Keeping>;

/// Where one listener's records go.
#[derive(Clone)]
pub(super) struct Keeping {
    writer: Arc<Writer>,
    /// Of those that share the writer this one tells how it stands.
    tells: bool,
}

impl Records {
    /// None yet.
    pub(super) fn none(inboxes: Vec<Arc<Inbox>>) -> Records {
        Records {
            writers: Writers::default(),
            inboxes,
        }
    }

    /// Opens what the plan names.
    ///
    /// # Errors
    /// Which spool cannot be used.
    pub(super) fn begin(&mut self, plan: &Plan) -> Result<(), Vec<String>> {
        let kept = self.prepare(plan)?;
        *self.all() = kept;
        tell_of_others(plan);
        Ok(())
    }

    /// As [`Records::begin`], after [`Records::stop`].
    ///
    /// # Errors
    /// Which spool cannot be used.
    pub(super) fn resume(&mut self, plan: &Plan) -> Result<(), Vec<String>> {
        let kept = self.prepare(plan)?;
        self.apply(plan, &kept);
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, Kept> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writers of a (new) plan: those that are here already, and new ones.
    ///
    /// # Errors
    /// Which spool cannot be used; nothing is changed.
    pub(super) fn prepare(&self, plan: &Plan) -> Result<Kept, Vec<String>> {
        let (mut kept, mut wrong) = (Kept::new(), Vec::new());
        let before = self.all().clone();
        for group in groups(plan) {
            let is_free =
                |writer: &Arc<Writer>| !kept.values().any(|taken: &Keeping| Arc::ptr_eq(&taken.writer, writer));
            let mut known = group.iter().filter_map(|(id, _)| before.get(id));
            let writer = match known.find(|known| is_free(&known.writer)) {
                Some(known) => Ok(Arc::clone(&known.writer)),
                None => self.start(&group).map(Arc::new),
            };
            match writer {
                Ok(writer) => kept.extend(group.iter().enumerate().map(|(at, (id, _))| {
                    let writer = Arc::clone(&writer);
                    (*id, Keeping { writer, tells: at == 0 })
                })),
                Err(why) => wrong.push(why),
            }
        }
        if wrong.is_empty() { Ok(kept) } else { Err(wrong) }
    }

    fn start(&self, group: &[(u64, &Radius)]) -> Result<Writer, String> {
        let (_, radius) = group.first().ok_or("nobody keeps records")?;
        let cannot = |why: &dyn std::fmt::Display| format!("accounting of {}: {why}", radius.plan.listener);
        let settings = radius.accounting.clone().ok_or_else(|| cannot(&"it is thrown away"))?;
        let home = self
            .inboxes
            .get(SERVICES_HOME)
            .ok_or_else(|| cannot(&"there is no worker"))?;
        let inboxes = self.inboxes.clone();
        let parts = Parts {
            dictionary: Arc::clone(&radius.plan.dictionary),
            call: accounting::calls(Arc::clone(home)),
            tell: Box::new(move |told| tell(&inboxes, told)),
            seed: chance().ok_or_else(|| cannot(&"the system gives no random numbers"))?,
        };
        Writer::start(settings, parts).map_err(|error| cannot(&error))
    }

    /// Takes up a new plan: `kept` is what [`Records::prepare`] gave.
    pub(super) fn apply(&self, plan: &Plan, kept: &Kept) {
        for group in groups(plan) {
            if let Some((id, radius)) = group.first()
                && let (Some(keeping), Some(settings)) = (kept.get(id), &radius.accounting)
            {
                let dictionary = Arc::clone(&radius.plan.dictionary);
                keeping.writer.configure(settings.clone(), dictionary);
                // Who rotates files himself says so by a reload.
                keeping.writer.reopen();
            }
        }
        let before = std::mem::replace(&mut *self.all(), kept.clone());
        let listeners: HashSet<&u64> = before.keys().chain(kept.keys()).collect();
        for listener in listeners {
            let records = kept.get(listener).map(|keeping| keeping.writer.handle());
            for inbox in &self.inboxes {
                inbox.push_always(Job::RadiusRecords {
                    listener: *listener,
                    records: records.clone(),
                });
            }
        }
        for (_, keeping) in before {
            if !kept.values().any(|other| Arc::ptr_eq(&other.writer, &keeping.writer)) {
                end(keeping.writer);
            }
        }
    }

    /// Where a listener's records are left.
    pub(super) fn handle(&self, listener: u64) -> Option<Handle> {
        self.all().get(&listener).map(|keeping| keeping.writer.handle())
    }

    /// The writers, to ask how they stand.
    pub(super) fn writers(&self) -> Writers {
        Arc::clone(&self.writers)
    }

    /// Ends all, once what waits is written or in a spool.
    pub(super) fn stop(&self) {
        let kept = std::mem::take(&mut *self.all());
        for keeping in kept.values().filter(|keeping| keeping.tells) {
            if !keeping.writer.stop(END_MAX) {
                tracing::error!(
                    "accounting records that were not acknowledged are given up: their clients send them again"
                );
            }
        }
    }
}

/// A writer that nobody has any more.
fn end(writer: Arc<Writer>) {
    // Not here: a stuck disk would hold the reload.
    let ending = std::thread::Builder::new().name("accounting-end".into());
    let _ = ending.spawn(move || {
        writer.stop(END_MAX);
        let left = writer.figures().spool_records;
        if left > 0 {
            tracing::warn!(records = left, "{LEFT}");
        }
    });
}

const LEFT: &str = "accounting records wait in a spool whose listener keeps none any more: they are delivered when it is \
                    written again as it was, and the daemon started";

/// Spools with records whose listeners are gone, or have another address.
fn tell_of_others(plan: &Plan) {
    let folders =
        keeping(plan).filter_map(|(_, radius)| Some(radius.accounting.as_ref()?.spool.as_ref()?.folder.clone()));
    let own: HashSet<PathBuf> = folders.collect();
    let parents: HashSet<&Path> = own.iter().filter_map(|folder| folder.parent()).collect();
    for parent in parents {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        for folder in entries.map(|entry| entry.path()).filter(|folder| !own.contains(folder)) {
            let left = accounting::left_in(&folder);
            if left > 0 {
                tracing::warn!(folder = %folder.display(), records = left, "{LEFT}");
            }
        }
    }
}

/// Listeners whose records are kept.
fn keeping(plan: &Plan) -> impl Iterator<Item = (u64, &Radius)> {
    plan.listeners.iter().filter_map(|listener| match &listener.face {
        Face::Radius(radius) if radius.accounting.is_some() => Some((listener_id(listener), &**radius)),
        _ => None,
    })
}

/// Those that share a writer; whose spool it has is first, whatever the order of the file.
fn groups(plan: &Plan) -> Vec<Vec<(u64, &Radius)>> {
    let mut all: Vec<(u64, &Radius)> = keeping(plan).collect();
    all.sort_by(|(_, one), (_, two)| one.plan.listener.cmp(&two.plan.listener));
    let mut groups: Vec<Vec<(u64, &Radius)>> = Vec::new();
    for (id, radius) in all {
        let is_same = |other: &Radius| match (&radius.accounting, &other.accounting) {
            (Some(one), Some(two)) => one.is_same_file(two),
            _ => false,
        };
        let mut known = groups.iter_mut();
        match known.find(|group| group.first().is_some_and(|(_, other)| is_same(other))) {
            Some(group) => group.push((id, radius)),
            None => groups.push(vec![(id, radius)]),
        }
    }
    groups
}

/// The ends of records go to the workers and listeners that wait for them.
fn tell(inboxes: &[Arc<Inbox>], told: Vec<(Ticket, bool)>) {
    let mut each: HashMap<(u64, u64), Vec<(RequestId, bool)>> = HashMap::new();
    for (ticket, done) in told {
        let mine = each.entry((ticket.worker, ticket.listener)).or_default();
        mine.push((RequestId::from_bits(ticket.request), done));
    }
    for ((worker, listener), written) in each {
        let inbox = usize::try_from(worker).ok().and_then(|worker| inboxes.get(worker));
        if let Some(inbox) = inbox {
            inbox.push_always(Job::RadiusWritten { listener, written });
        }
    }
}

/// How a listener's writer stands; none: its records are thrown away, or another listener tells, which writes to the same file.
pub(super) fn snapshot(writers: &Writers, listener: u64) -> Option<RadiusRecords> {
    let keeping = writers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&listener)
        .cloned();
    let figures = keeping.filter(|keeping| keeping.tells)?.writer.figures();
    Some(RadiusRecords {
        written: figures.written,
        spooled: figures.spooled,
        replayed: figures.replayed,
        refused: figures.refused,
        set_aside: figures.set_aside,
        queue: figures.queue as u64,
        spool_records: figures.spool_records,
        spool_bytes: figures.spool_bytes,
        last_error: figures.last_error.or(figures.spool_error).unwrap_or_default(),
    })
}
