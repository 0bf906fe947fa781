//! Directs a run: threads, phases, progress, and the measured process read at both ends of the window.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use mio::Waker;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::LdapArgs;
use super::load::Load;
use super::plan::{Mode, Plan};
use super::process::{Usage, usage};
use super::report::{ProcessReport, Report};
use super::shared::{Counters, Event, Phase, Shared};
use super::tally::Tally;

/// Runs the load that the flags describe, and prints what it found.
///
/// # Errors
/// A sentence: a wrong flag, a server that cannot be reached or refuses to bind, a process that does not exist.
pub(super) fn run(args: &LdapArgs) -> Result<ExitCode, String> {
    let plan = Plan::new(args)?;
    let (events, received) = channel();
    let signals = watch_signals(events.clone())?;
    let measured = measure(args, &plan, &events, &received);
    signals.close();
    let (tally, window) = measured?;
    let report = Report::new(args, &plan, &tally, &window);
    let text = if args.json { report.json() } else { report.text() };
    writeln!(io::stdout().lock(), "{text}").map_err(|error| format!("standard output: {error}"))?;
    let something = plan.mode == Mode::Idle || tally.latency.len() > 0;
    Ok(if something && tally.is_faultless() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Makes the load and gives what was counted; an `Interrupted` in the channel ends it early.
///
/// # Errors
/// As [`run`].
pub(super) fn measure(
    args: &LdapArgs,
    plan: &Plan,
    events: &Sender<Event>,
    received: &Receiver<Event>,
) -> Result<(Tally, Window), String> {
    for pid in &args.pid {
        usage(*pid)?;
    }
    raise_descriptors(plan.connections)?;
    let shared = Shared::new(plan.threads);
    let mut loads = Vec::new();
    let mut wakers = Vec::new();
    for thread in 0..plan.threads {
        let (load, waker) =
            Load::new(plan, &shared, events.clone(), thread).map_err(|error| format!("no event loop: {error}"))?;
        loads.push(load);
        wakers.push(waker);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = loads.into_iter().map(|load| scope.spawn(move || load.run())).collect();
        let director = Director {
            args,
            plan,
            shared: &shared,
            wakers: &wakers,
            received,
        };
        let window = director.direct();
        // Whatever has happened, the threads end by this.
        director.enter(Phase::Drain);
        let mut tally = Tally::new();
        let mut whole = true;
        for thread in threads {
            match thread.join() {
                Ok(counted) => tally.add(&counted),
                Err(_) => whole = false,
            }
        }
        let window = window?;
        if whole {
            Ok((tally, window))
        } else {
            Err("a thread of the load has failed".to_owned())
        }
    })
}

/// What was seen of the processes over the measured window.
pub(super) struct Window {
    /// How long it was.
    pub(super) elapsed: Duration,
    /// It ended by the user's wish.
    pub(super) interrupted: bool,
    /// Connections ready at its end.
    pub(super) ready: u64,
    /// The processes named by --pid.
    pub(super) processes: Vec<ProcessReport>,
    /// The load generator itself.
    pub(super) own: ProcessReport,
}

struct Director<'a> {
    args: &'a LdapArgs,
    plan: &'a Plan,
    shared: &'a Shared,
    wakers: &'a [Waker],
    received: &'a Receiver<Event>,
}

/// Why waiting ended.
#[derive(PartialEq, Eq)]
enum Waited {
    Elapsed,
    Counted,
    Interrupted,
}

impl Director<'_> {
    fn direct(&self) -> Result<Window, String> {
        let mut progress = Progress::new(self.args.quiet);
        // As long as connections go on becoming ready, their number is no reason to give up.
        let mut waited = self.wait(None, Event::is_ready, &mut progress)?;
        if waited != Waited::Interrupted && !self.plan.warmup.is_zero() {
            self.enter(Phase::Warm);
            waited = self.wait(Some(self.plan.warmup), |_| false, &mut progress)?;
        }
        let before = self.usages()?;
        let start = Instant::now();
        if waited != Waited::Interrupted {
            self.enter(Phase::Measure);
            let time = self.plan.operations.is_none().then_some(self.plan.duration);
            waited = self.wait(time, Event::is_quota, &mut progress)?;
        }
        let elapsed = start.elapsed();
        let after = self.usages();
        let ready = sum(self.shared, |counters| &counters.ready);
        self.enter(Phase::Drain);
        let after = after?;
        let mut reports = before
            .iter()
            .zip(&after)
            .map(|((pid, before), (_, after))| ProcessReport::new(*pid, before, after));
        let own = reports.next().ok_or("no process to report")?;
        Ok(Window {
            elapsed,
            interrupted: waited == Waited::Interrupted,
            ready,
            processes: reports.collect(),
            own,
        })
    }

    fn enter(&self, phase: Phase) {
        self.shared.enter(phase);
        for waker in self.wakers {
            // A thread that is not woken looks again within a second by itself.
            let _ = waker.wake();
        }
    }

    /// Waits until `time` is over or every thread has sent an event that `counts`.
    fn wait(
        &self,
        time: Option<Duration>,
        counts: fn(&Event) -> bool,
        progress: &mut Progress,
    ) -> Result<Waited, String> {
        let end = time.map(|time| Instant::now() + time);
        let mut missing = self.plan.threads;
        loop {
            let now = Instant::now();
            if end.is_some_and(|end| end <= now) {
                return Ok(Waited::Elapsed);
            }
            let until = end.map_or(progress.next, |end| end.min(progress.next));
            match self.received.recv_timeout(until.saturating_duration_since(now)) {
                Ok(Event::Failed(why)) => return Err(why),
                Ok(Event::Interrupted) => return Ok(Waited::Interrupted),
                Ok(event) if counts(&event) => {
                    missing = missing.saturating_sub(1);
                    if missing == 0 {
                        return Ok(Waited::Counted);
                    }
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => progress.show(self.shared, self.plan.connections),
                Err(RecvTimeoutError::Disconnected) => return Err("the load has ended by itself".to_owned()),
            }
        }
    }

    /// This process first, then those named.
    fn usages(&self) -> Result<Vec<(u32, Usage)>, String> {
        std::iter::once(std::process::id())
            .chain(self.args.pid.iter().copied())
            .map(|pid| Ok((pid, usage(pid)?)))
            .collect()
    }
}

impl Event {
    fn is_ready(&self) -> bool {
        matches!(self, Event::Ready)
    }

    fn is_quota(&self) -> bool {
        matches!(self, Event::QuotaReached)
    }
}

/// A line each second on standard error.
struct Progress {
    quiet: bool,
    start: Instant,
    next: Instant,
    answered: u64,
}

const SECOND: Duration = Duration::from_secs(1);

impl Progress {
    fn new(quiet: bool) -> Self {
        let start = Instant::now();
        Progress {
            quiet,
            start,
            next: start + SECOND,
            answered: 0,
        }
    }

    fn show(&mut self, shared: &Shared, connections: u32) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let answered = sum(shared, |counters| &counters.answered);
        let seconds = (now + SECOND).saturating_duration_since(self.next).as_secs_f64();
        #[allow(clippy::cast_precision_loss)]
        let rate = answered.saturating_sub(self.answered) as f64 / seconds;
        self.answered = answered;
        self.next = now + SECOND;
        if self.quiet {
            return;
        }
        let (ready, failed) = (
            sum(shared, |counters| &counters.ready),
            sum(shared, |counters| &counters.failed),
        );
        let lost = sum(shared, |counters| &counters.lost);
        let phase = match shared.phase() {
            Phase::Open => "connecting",
            Phase::Warm => "warming up",
            Phase::Measure => "measuring",
            Phase::Drain => "draining",
        };
        let elapsed = self.start.elapsed().as_secs();
        let mut error = io::stderr().lock();
        // On a terminal each line takes the place of the one before.
        let (before, after) = if error.is_terminal() {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        let _ = write!(
            error,
            "{before}{elapsed:>4} s  {phase:<10}  {rate:>9.0} op/s  {ready} of {connections} connections  \
             {failed} failed  {lost} lost{after}"
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let mut error = io::stderr().lock();
        if !self.quiet && error.is_terminal() {
            let _ = write!(error, "\r\x1b[K");
        }
    }
}

fn sum(shared: &Shared, counter: fn(&Counters) -> &AtomicU64) -> u64 {
    shared
        .counters()
        .iter()
        .map(|counters| counter(counters).load(Ordering::Relaxed))
        .sum()
}

/// Each interrupt becomes an event; the second one ends the program as if nothing had watched.
fn watch_signals(events: Sender<Event>) -> Result<signal_hook::iterator::Handle, String> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("signals: {error}"))?;
    let handle = signals.handle();
    std::thread::spawn(move || {
        for (seen, signal) in signals.forever().enumerate() {
            if seen > 0 || events.send(Event::Interrupted).is_err() {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    });
    Ok(handle)
}

/// Descriptors beyond one per connection.
const DESCRIPTORS_BESIDE: u64 = 64;

fn raise_descriptors(connections: u32) -> Result<(), String> {
    let needed = u64::from(connections) + DESCRIPTORS_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        let maximum = limit.maximum.unwrap_or(0);
        return Err(format!(
            "--connections {connections} needs {needed} descriptors, and the hard limit here is {maximum} (ulimit -Hn)"
        ));
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(needed),
            maximum: limit.maximum,
        },
    )
    .map_err(|error| format!("cannot raise the limit of descriptors to {needed}: {error}"))
}
