//! The open loop: calls are sent when they are due, whatever has become of the others, and their latency counts from
//! then. One thread sends, another takes the answers.

use std::io::Write;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::pace::{Random, gap};
use super::Plan;
use super::link::{Answer, Inbox, Socket};
use super::tally::Tally;

/// How long the reader waits at most before it looks whether the load is over.
const LOOK: Duration = Duration::from_millis(50);

/// The calls that are open, shared by the two threads: when each was due, in nanoseconds since the start, plus 1; 0 is a
/// free place. A place belongs to the sender until it is set, and to the reader until it is cleared.
struct Open {
    due: Vec<AtomicU64>,
    pending: AtomicU64,
    over: AtomicBool,
}

impl Open {
    /// Ids go round: 1 to the number of places.
    fn place(&self, call: u32) -> Option<&AtomicU64> {
        self.due.get(usize::try_from(call.checked_sub(1)?).ok()?)
    }
}

/// Loads one connection until the end, and waits for what is open then.
pub(super) fn run(plan: &Plan, rate: f64, number: u32) -> Result<Tally, String> {
    let told = |error: std::io::Error| format!("the connection broke: {error}");
    let socket = plan.address.connect()?;
    let reader = socket.try_clone().map_err(told)?;
    reader.set_read_timeout(LOOK).map_err(told)?;
    let open = Open {
        due: (0..plan.depth).map(|_| AtomicU64::new(0)).collect(),
        pending: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read(plan, reader, start, &open));
        let sent = send(plan, socket, start, &open, rate, number);
        open.over.store(true, Ordering::Release);
        let mut tally = reading.join().map_err(|_| "a reader has failed".to_owned())??;
        tally.add(&sent?);
        Ok(tally)
    })
}

fn send(plan: &Plan, mut socket: Socket, start: Instant, open: &Open, rate: f64, number: u32) -> Result<Tally, String> {
    // Timers of this thread are exact to the nanosecond instead of 50 µs; where that is refused it is a little late.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let (mut template, mut tally) = (plan.template.clone(), Tally::new());
    let mut random = Random::new(plan.seed, number);
    let mean = Duration::from_secs_f64(1.0 / rate);
    let mut due = start + gap(&mut random, mean, plan.poisson);
    let mut call = 0_u32;
    let mut out = Vec::new();
    while due < plan.end {
        let now = Instant::now();
        if let Some(left) = due.checked_duration_since(now).filter(|left| !left.is_zero()) {
            std::thread::sleep(left);
        }
        let now = Instant::now();
        while due <= now && due < plan.end {
            call = if call >= plan.depth { 1 } else { call + 1 };
            let measured = due >= plan.measured_from;
            match open.place(call) {
                Some(place) if place.load(Ordering::Acquire) == 0 => {
                    place.store(nanos(due.duration_since(start)).saturating_add(1), Ordering::Release);
                    open.pending.fetch_add(1, Ordering::AcqRel);
                    out.extend_from_slice(template.frame(call));
                    tally.sent += u64::from(measured);
                }
                _ => tally.not_sent += u64::from(measured),
            }
            due += gap(&mut random, mean, plan.poisson);
        }
        socket
            .write_all(&out)
            .map_err(|error| format!("the connection broke: {error}"))?;
        out.clear();
    }
    Ok(tally)
}

fn read(plan: &Plan, mut socket: Socket, start: Instant, open: &Open) -> Result<Tally, String> {
    let (mut inbox, mut tally) = (Inbox::new(plan.template.needs_all()), Tally::new());
    loop {
        if open.over.load(Ordering::Acquire) {
            let pending = open.pending.load(Ordering::Acquire);
            if pending == 0 {
                return Ok(tally);
            }
            if Instant::now() >= plan.end + plan.grace {
                tally.lost += pending;
                return Ok(tally);
            }
        }
        if !inbox.read(&mut socket)? {
            continue;
        }
        let now = nanos(start.elapsed());
        let measured_from = nanos(plan.measured_from.saturating_duration_since(start));
        inbox.answers(|call, answer| {
            let due = open.place(call).map_or(0, |place| place.swap(0, Ordering::AcqRel));
            let Some(due) = due.checked_sub(1) else {
                tally.unasked += 1;
                return;
            };
            open.pending.fetch_sub(1, Ordering::AcqRel);
            match answer {
                Answer::Done(reply) if !plan.template.is_right(call, &reply) => tally.wrong += 1,
                Answer::Done(_) if due >= measured_from => tally.answered(now.saturating_sub(due)),
                Answer::Done(_) => tally.answered_before += 1,
                Answer::Error(code) => *tally.errors.entry(code.name()).or_default() += 1,
            }
        })?;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
