//! The closed loop: each answer is followed by a call.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Plan;
use super::link::{Answer, Inbox, Socket, Template};
use super::tally::Tally;

/// Loads one connection until the end, and waits for what is open then.
pub(super) fn run(plan: &Plan, _number: u32) -> Result<Tally, String> {
    let mut socket = plan.address.connect()?;
    let told = |error: std::io::Error| format!("the connection broke: {error}");
    if plan.depth > 1 {
        socket.set_nonblocking().map_err(told)?;
    } else {
        socket.set_read_timeout(Duration::from_millis(100)).map_err(told)?;
    }
    let mut template = plan.template.clone();
    let mut calls = Calls {
        begun: vec![None; usize::try_from(plan.depth).unwrap_or(1)],
        free: (1..=plan.depth).collect(),
    };
    let (mut inbox, mut tally) = (Inbox::new(template.needs_all()), Tally::new());
    let mut out = Vec::new();
    loop {
        let now = Instant::now();
        if now >= plan.end && calls.open() == 0 {
            return Ok(tally);
        }
        if now >= plan.end + plan.grace {
            tally.lost += calls.open();
            return Ok(tally);
        }
        if now < plan.end {
            let begun = calls.begin(plan, now, &mut template, &mut out, &mut tally);
            if let (1, Some(call)) = (plan.depth, begun) {
                socket.write_all(template.frame(call)).map_err(told)?;
            }
        }
        send(&mut socket, &mut out).map_err(told)?;
        if plan.depth > 1 {
            wait(&socket, !out.is_empty());
        }
        if inbox.read(&mut socket)? {
            inbox.answers(|call, answer| calls.end(plan, call, answer, &template, &mut tally))?;
        }
    }
}

/// The calls of one connection, by id: 1 to depth, each used again when it is over.
struct Calls {
    begun: Vec<Option<Instant>>,
    free: Vec<u32>,
}

impl Calls {
    fn open(&self) -> u64 {
        (self.begun.len() - self.free.len()) as u64
    }

    fn place(&mut self, call: u32) -> Option<&mut Option<Instant>> {
        self.begun.get_mut(usize::try_from(call.checked_sub(1)?).ok()?)
    }

    /// Begins as many as may be open, of several the frames are appended to `out`; the last of them.
    fn begin(
        &mut self,
        plan: &Plan,
        now: Instant,
        template: &mut Template,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Option<u32> {
        let mut last = None;
        while let Some(call) = self.free.pop() {
            last = Some(call);
            if let Some(place) = self.place(call) {
                *place = Some(now);
            }
            if plan.depth > 1 {
                out.extend_from_slice(template.frame(call));
            }
            tally.sent += u64::from(now >= plan.measured_from);
        }
        last
    }

    fn end(&mut self, plan: &Plan, call: u32, answer: Answer<'_>, template: &Template, tally: &mut Tally) {
        let Some(begun) = self.place(call).and_then(Option::take) else {
            tally.unasked += 1;
            return;
        };
        self.free.push(call);
        match answer {
            Answer::Done(reply) if !template.is_right(call, &reply) => tally.wrong += 1,
            Answer::Done(_) if begun >= plan.measured_from => {
                tally.answered(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            Answer::Done(_) => tally.answered_before += 1,
            Answer::Error(code) => *tally.errors.entry(code.name()).or_default() += 1,
        }
    }
}

fn send(socket: &mut Socket, out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut sent = 0;
    while let Some(rest) = out.get(sent..).filter(|rest| !rest.is_empty()) {
        match socket.write(rest) {
            Ok(bytes) => sent += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    out.drain(..sent);
    Ok(())
}

fn wait(socket: &Socket, writing: bool) {
    let flags = if writing {
        PollFlags::IN | PollFlags::OUT
    } else {
        PollFlags::IN
    };
    let limit = Timespec {
        tv_sec: 0,
        tv_nsec: 100_000_000,
    };
    // A failure shows in the read that follows.
    let _ = poll(&mut [PollFd::new(socket, flags)], Some(&limit));
}
