//! The old process of an upgrade, as its main loop sees it (`crate::upgrade`).

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::snapshot::count;
use super::{Daemon, Event, Lifecycle};
use crate::admin::snapshot::Count;
use crate::config::plan::Plan;
use crate::drive::{Job, listener_id};
use crate::local_files;
use crate::upgrade::Purpose;
use crate::upgrade::giving::{Gift, Step, Upgrade};
use crate::upgrade::notify;
use crate::upgrade::taking::purpose;

/// How long a worker may take to do as it was told.
const ANSWER: Duration = Duration::from_secs(5);

/// The old process stays for so long at least: whoever asked for the upgrade is to have the answer, and who asks by its control
/// socket or over a bus has his.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What became of upgrades.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    begun: u64,
    failed: u64,
    handed_over: u64,
    /// This process has another's place.
    pub(super) took_over: bool,
}

impl Figures {
    pub(super) fn new(took_over: bool) -> Figures {
        Figures {
            took_over,
            ..Figures::default()
        }
    }

    pub(super) fn counts(self) -> Vec<Count> {
        vec![
            count("begun", self.begun),
            count("failed", self.failed),
            count("handed-over", self.handed_over),
        ]
    }
}

/// An upgrade that has been begun.
pub(super) struct Underway {
    upgrade: Upgrade,
    answer: Option<SyncSender<Result<(), String>>>,
    /// What only one process can have is not ours at the moment.
    let_go: bool,
}

impl Underway {
    /// The new process is ended.
    pub(super) fn give_up(&self) {
        self.upgrade.give_up();
    }
}

impl Daemon {
    /// Whether the configuration, or the program, can be changed now.
    pub(super) fn is_changeable(&self) -> Result<(), String> {
        match self.lifecycle() {
            Lifecycle::Running if self.upgrade.is_some() => Err("an upgrade is under way".to_owned()),
            Lifecycle::Running => Ok(()),
            Lifecycle::HandedOver => Err("another process has taken this one's place".to_owned()),
            Lifecycle::Draining(_) | Lifecycle::Drained => Err("the daemon is draining".to_owned()),
        }
    }

    /// Starts a new process; `answer` hears what comes of it.
    pub(super) fn begin_upgrade(&mut self, program: Option<PathBuf>, answer: Option<SyncSender<Result<(), String>>>) {
        self.note(|figures| figures.begun += 1);
        match self.start_successor(program) {
            Ok(upgrade) => {
                self.upgrade = Some(Underway {
                    upgrade,
                    answer,
                    let_go: false,
                });
            }
            Err(why) => {
                self.note(|figures| figures.failed += 1);
                tell(answer, Err(why));
            }
        }
    }

    fn note(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).upgrades);
    }

    fn start_successor(&self, program: Option<PathBuf>) -> Result<Upgrade, String> {
        self.is_changeable()?;
        if self.source.is_none() {
            return Err("this daemon was not started from a file (`usherd run`)".to_owned());
        }
        let program = program
            .or_else(|| self.program.clone())
            .ok_or("where this program lies is not known: name it with --program")?;
        let plan = self.plan();
        let to_main = self.to_main.clone();
        let gift = Gift {
            program,
            arguments: std::env::args_os().skip(1).collect(),
            control: plan.server.control.clone(),
            workers: self.workers.len(),
            sockets: self.sockets(&plan),
            patience: plan.server.upgrade_timeout,
        };
        Upgrade::begin(gift, move |step| _ = to_main.send(Event::Upgrade(step)))
    }

    fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).plan)
    }

    /// All listening sockets once more.
    fn sockets(&self, plan: &Plan) -> Vec<(Purpose, Vec<OwnedFd>)> {
        let mut lent: BTreeMap<u64, Vec<OwnedFd>> = BTreeMap::new();
        for (listener, socket) in self.acceptor.lend() {
            lent.entry(listener).or_default().push(socket);
        }
        let (to, from) = sync_channel(LENT_AT_ONCE);
        for worker in &self.workers {
            worker.inbox().push_always(Job::Lend(to.clone()));
        }
        drop(to);
        let mut datagrams = Vec::new();
        while let Ok(one) = from.recv_timeout(ANSWER) {
            datagrams.push(one);
        }
        datagrams.sort_by_key(|(worker, listener, _)| (*listener, *worker));
        for (_, listener, socket) in datagrams {
            lent.entry(listener).or_default().push(socket);
        }
        let each = plan.listeners.iter().filter_map(|listener| {
            let sockets = lent.remove(&listener_id(listener))?;
            Some((purpose(listener), sockets))
        });
        let mut all: Vec<_> = each.collect();
        if let (Some(at), Some(socket)) = (plan.server.admin, self.admin.lend()) {
            let address = at.to_string();
            all.push((Purpose::Http { address }, vec![socket]));
        }
        all
    }

    /// The new process has come further, or has not.
    pub(super) fn go_on_upgrading(&mut self, step: Step) {
        match step {
            Step::Prepared if self.stopping => {}
            Step::Prepared => {
                self.hold(true);
                self.feeds.stop();
                self.records.stop();
                local_files::hold();
                if let Some(upgrade) = &mut self.upgrade {
                    upgrade.let_go = true;
                    upgrade.upgrade.let_go();
                }
            }
            Step::Ready { pid, control, files } => {
                self.leave(pid, control, files);
                let new = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
                // Told to stop meanwhile, the daemon stops, whichever process it is.
                if let (true, Some(new)) = (self.stopping, new) {
                    let _ = rustix::process::kill_process(new, rustix::process::Signal::TERM);
                }
            }
            Step::Failed(why) => self.resume(&why),
        }
    }

    /// RADIUS requests whose accounting is kept wait in the kernel, or are read again.
    fn hold(&self, hold: bool) {
        let (to, from) = sync_channel(self.workers.len());
        for worker in &self.workers {
            let to = to.clone();
            worker.inbox().push_always(Job::Hold { hold, to });
        }
        drop(to);
        for _ in &self.workers {
            if from.recv_timeout(ANSWER).is_err() {
                return;
            }
        }
    }

    /// The other process serves.
    fn leave(&mut self, pid: u32, control: Option<PathBuf>, files: Vec<PathBuf>) {
        notify::succeeded_by(pid);
        self.note(|figures| figures.handed_over += 1);
        self.acceptor.leave(files);
        for worker in &self.workers {
            worker.inbox().push_always(Job::Leave);
        }
        let shown = control.as_ref().map(|path| path.display().to_string());
        self.admin.leave(control);
        self.handed_over = Some(Instant::now());
        if !self.stopping {
            self.set_lifecycle(Lifecycle::HandedOver);
        }
        tracing::info!(
            pid,
            clients = self.shared.clients_total(),
            control = shown,
            "another process has taken this one's place; this one serves its clients until they leave"
        );
        if let Some(upgrade) = self.upgrade.take() {
            tell(upgrade.answer, Ok(()));
        }
    }

    /// The other process is gone; this one goes on as before.
    fn resume(&mut self, why: &str) {
        let Some(upgrade) = self.upgrade.take() else { return };
        self.note(|figures| figures.failed += 1);
        let mut told = format!("not upgraded, this process goes on: {why}");
        self.admin.stay();
        self.tell_acceptor(&self.plan());
        if upgrade.let_go && !self.stopping {
            let plan = self.plan();
            local_files::resume();
            if let Err(more) = self.records.resume(&plan) {
                told = format!("{told}; {}", more.join("; "));
            }
            self.hold(false);
            if let Err(more) = self.feeds.apply(&plan, BTreeMap::new()) {
                told = format!("{told}; {more}");
            }
            self.offer_dbus(&plan);
        }
        tell(upgrade.answer, Err(told));
    }

    /// Ends with the last client that was left to this process, or drains them when their time is over.
    pub(super) fn look_at_those_left(&mut self) {
        let (Some(since), Lifecycle::HandedOver) = (self.handed_over, self.lifecycle()) else {
            return;
        };
        let is_told = since.elapsed() >= LAST_WORDS;
        if is_told && self.shared.clients_total() == 0 && self.shared.sockets() == 0 {
            self.stopping = true;
            return self.set_lifecycle(Lifecycle::Drained);
        }
        if since.elapsed() >= self.plan().server.upgrade_linger {
            self.stop();
        }
    }
}

/// Where this program lies, by the name it was started with: behind a link there may be another file the next time.
pub(super) fn own_path() -> Option<PathBuf> {
    let name = std::env::args_os().next().map(PathBuf::from);
    match name.filter(|name| name.components().count() > 1) {
        Some(name) => std::path::absolute(name).ok(),
        None => std::env::current_exe().ok(),
    }
}

/// Sockets of workers that wait to be taken from them.
const LENT_AT_ONCE: usize = 256;

fn tell(answer: Option<SyncSender<Result<(), String>>>, what: Result<(), String>) {
    match &what {
        Ok(()) => {}
        Err(why) => tracing::error!("{why}"),
    }
    if let Some(answer) = answer {
        let _ = answer.try_send(what);
    }
}
