//! Services of the kind `exec`: a program run for each request, the request on its standard input, the answer on its
//! standard output.
//!
//! A run is *asked for* (the spawner starts it), *working* (its input is written, its output read), and *ended*: reaped,
//! what was left in its pipes read, its answer told. From the moment it is asked for until it has ended it occupies one
//! of the service's places; whatever becomes of its caller, the place is free only when the process is gone. The caller
//! is told by the pool: by its deadline at the latest.

mod programs;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;

use engine::core::{Cause, Reason, Settlement, Ticket, UpstreamId, Verdict};
use engine::session::rpc::say;
use mio::unix::pipe;
use wire::rpc::ErrorCode;
use zeroize::Zeroize;

use super::Drive;
use super::calls::Answer;
use super::pools::Place;
use super::service::{Service, outcome};
use crate::spawner::{For, Program};
pub use programs::{End, Programs, Run, RunRef, WIPED_BYTES_MAX, Wish, wipe};

/// Reads or writes of one pipe in one turn, of [`super::SCRATCH_BYTES`] each: others have their turn then.
const ROUNDS: usize = 16;
/// Kept of what a program writes to its standard error, twice over.
const ERRORS_BYTES: usize = 4096;
/// What of that is told to the caller.
const ERRORS_TOLD_BYTES: usize = 1000;

/// A program was started, or could not be.
#[derive(Debug)]
pub struct Spawned {
    /// For which run.
    pub run: RunRef,
    /// The program, or why there is none.
    pub program: Result<Box<Program>, String>,
}

/// What a pipe gave.
#[derive(PartialEq, Eq)]
enum Piped {
    /// No more just now.
    Blocked,
    /// No more ever.
    End,
    /// There may be more: others have their turn first.
    More,
}

impl Drive {
    /// The pool has sent a request to a free place: a program is asked for.
    pub(super) fn start_program(&mut self, index: usize, ticket: Ticket, upstream: UpstreamId) {
        let Some(state) = self.pool(index) else { return };
        let input = state
            .flight(ticket)
            .map(|flight| {
                // It answers through its standard output, and there alone.
                flight.direct = None;
                let mut bytes = std::mem::take(&mut flight.bytes);
                bytes.drain(..std::mem::take(&mut flight.skip));
                bytes
            })
            .unwrap_or_default();
        let Some(service) = state.service() else { return };
        service.figures.starts += 1;
        let plan = Arc::clone(&service.plan);
        let run = self
            .programs
            .insert(Run::new(index, upstream, ticket, input, plan.reply_bytes_max));
        if let Some(state) = self.pool(index) {
            state.set_place(upstream, Place::Runner(Some(run)));
        }
        if let Err(why) = self.ask_spawner(For::Run(run), plan) {
            self.not_started(run, why);
        }
    }

    /// The spawner has started a program, or could not.
    pub(super) fn spawned(&mut self, spawned: Spawned) {
        let Spawned { run, program } = spawned;
        let tokens = self.programs.tokens(run);
        match program {
            Ok(mut program) => {
                let Some(found) = self.programs.get_mut(run) else {
                    return;
                };
                if let Err(error) = program.register(self.poll.registry(), tokens) {
                    program.kill();
                    program.deregister(self.poll.registry());
                    return self.not_started(run, &error.to_string());
                }
                if found.wish != Wish::Work {
                    // It has been given nothing yet, and nobody waits for it any more.
                    program.kill();
                }
                found.program = Some(program);
                self.feed(run);
            }
            Err(why) => self.not_started(run, &why),
        }
    }

    fn not_started(&mut self, run: RunRef, why: &str) {
        let Some(run) = self.programs.remove(run) else { return };
        let text = self
            .service_of(&run)
            .map(|service| {
                let program = service.plan.program.first().map_or("the program", String::as_str);
                tracing::warn!(
                    service = service.plan.name,
                    program,
                    why,
                    "a program could not be started"
                );
                format!("{program} could not be started: {why}")
            })
            .unwrap_or_default();
        let answer = Answer::Failed {
            code: ErrorCode::Unavailable,
            text: &text,
        };
        self.place_free(&run, &answer);
    }

    /// Something can be done with one of a program's descriptors, or it is looked at again.
    pub(super) fn program_event(&mut self, token: usize) {
        let Some((run, end)) = self.programs.of_token(token) else {
            return;
        };
        match end {
            End::Stdin => self.feed(run),
            End::Stdout | End::Stderr => {
                if let Some(found) = self.programs.get_mut(run) {
                    found.again = false;
                }
                if self.collect(run) {
                    self.look_at_program_again(run, end);
                }
            }
            End::Exit => self.ended(run),
        }
    }

    fn look_at_program_again(&mut self, run: RunRef, end: End) {
        if let Some(found) = self.programs.get_mut(run)
            && !found.again
        {
            found.again = true;
            self.again.push(self.programs.token(run, end));
        }
    }

    /// Writes the request as far as the program takes it. A program need not read it.
    fn feed(&mut self, run: RunRef) {
        let Some(found) = self.programs.get_mut(run) else {
            return;
        };
        let Some(program) = found.program.as_mut() else { return };
        let Some(stdin) = program.stdin.as_mut() else { return };
        let done = loop {
            let Some(rest) = found.input.get(found.written..).filter(|rest| !rest.is_empty()) else {
                break true;
            };
            match stdin.write(rest) {
                Ok(n) => found.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // It has closed its standard input, or has ended: what it answers is its answer.
                Err(_) => break true,
            }
        };
        if done {
            program.close_stdin(self.poll.registry());
            wipe(&mut found.input);
            found.written = 0;
        }
    }

    /// Reads what the program has written; true: there may be more.
    fn collect(&mut self, run: RunRef) -> bool {
        let Some(found) = self.programs.get_mut(run) else {
            return false;
        };
        let Some(program) = found.program.as_mut() else {
            return false;
        };
        let registry = self.poll.registry();
        let mut scratch = std::mem::take(&mut self.scratch);
        let (output, most) = (&mut found.output, found.output_max);
        let mut excess = found.excess;
        let mut largest = 0;
        let out = read_pipe(&mut program.stdout, &mut scratch, |bytes| {
            largest = largest.max(bytes.len());
            excess |= output.len() + bytes.len() > most;
            if !excess {
                output.extend_from_slice(bytes);
            }
        });
        let errors = &mut found.errors;
        let err = read_pipe(&mut program.stderr, &mut scratch, |bytes| keep_tail(errors, bytes));
        if excess && !found.excess {
            found.excess = true;
            wipe(&mut found.output);
            program.kill();
        }
        for (pipe, piped) in [(&mut program.stdout, &out), (&mut program.stderr, &err)] {
            if *piped == Piped::End
                && let Some(mut pipe) = pipe.take()
            {
                let _ = registry.deregister(&mut pipe);
            }
        }
        if largest < scratch.len() {
            scratch.get_mut(..largest).unwrap_or_default().zeroize();
        }
        self.scratch = scratch;
        out == Piped::More || err == Piped::More
    }

    /// The process has ended. What is left in its pipes is read once more; what it has started may hold them open for
    /// ever, and is not waited for.
    fn ended(&mut self, run: RunRef) {
        let Some(found) = self.programs.get_mut(run) else {
            return;
        };
        let unwanted = found.wish != Wish::Work || found.excess;
        let Some(program) = found.program.as_mut() else { return };
        if unwanted {
            // Before it is reaped: afterwards its group's number may be somebody else's.
            program.kill();
        }
        let Some(status) = program.reap() else { return };
        self.collect(run);
        let Some(mut run) = self.programs.remove(run) else {
            return;
        };
        if let Some(program) = &mut run.program {
            program.deregister(self.poll.registry());
        }
        let text = tail(&run.errors);
        let never_run = run.program.as_ref().and_then(|program| program.never_run(&text));
        let most;
        let answer = if let Some(why) = never_run {
            Answer::Failed {
                code: ErrorCode::Unavailable,
                text: why,
            }
        } else if run.excess {
            most = format!("the answer is larger than the {} bytes allowed", run.output_max);
            Answer::Failed {
                code: ErrorCode::TooLarge,
                text: &most,
            }
        } else if status.success() {
            Answer::Whole(&run.output)
        } else {
            Answer::Failed {
                code: ErrorCode::Crashed {
                    status: code_of(status),
                },
                text: &text,
            }
        };
        self.place_free(&run, &answer);
    }

    /// A run has ended: its place is free, and its caller is answered if it still waits.
    fn place_free(&mut self, run: &Run, answer: &Answer<'_>) {
        if run.forgotten {
            return;
        }
        let (index, upstream, now) = (run.pool, run.upstream, self.now);
        let Some(state) = self.pool(index) else { return };
        if run.wish == Wish::Kill {
            state.take_place(upstream);
            state
                .pool
                .upstream_down(upstream, Cause::Ended, now, &mut state.effects);
        } else {
            state.set_place(upstream, Place::Runner(None));
            let done = Settlement::Done(Verdict::Well);
            if let Some(caller) = state.pool.reply(run.ticket, upstream, done, now, &mut state.effects) {
                state.land(run.ticket);
                if let Some(service) = state.service() {
                    service.count(answer);
                }
                self.answer_call(caller, answer);
            }
        }
        self.carry_out(index, None);
        self.forget_left(index);
    }

    /// The pool has given a call up: interrupt its program, or after the grace kill it.
    pub(super) fn stop_program(&mut self, index: usize, upstream: UpstreamId, ticket: Option<Ticket>) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let Some(Place::Runner(run)) = state.place(upstream) else {
            return;
        };
        let Some(run) = *run else {
            // The call ended before a program was asked for.
            let done = Settlement::Done(Verdict::Well);
            match ticket {
                Some(ticket) => state.pool.reply(ticket, upstream, done, now, &mut state.effects),
                None => {
                    state.take_place(upstream);
                    state
                        .pool
                        .upstream_down(upstream, Cause::Ended, now, &mut state.effects);
                    None
                }
            };
            return;
        };
        if let Some(service) = state.service() {
            match ticket {
                Some(_) => service.interrupted += 1,
                None => service.killed += 1,
            }
        }
        let Some(found) = self.programs.get_mut(run) else {
            return;
        };
        found.wish = if ticket.is_some() { Wish::Interrupt } else { Wish::Kill };
        match &found.program {
            Some(program) if ticket.is_some() => program.interrupt(),
            Some(program) => program.kill(),
            None => {}
        }
    }

    /// The pool has forgotten the place in which this program runs.
    pub(super) fn kill_program(&mut self, run: RunRef) {
        let Some(found) = self.programs.get_mut(run) else {
            return;
        };
        found.forgotten = true;
        found.wish = Wish::Kill;
        if let Some(program) = &found.program {
            program.kill();
        }
    }

    /// Something about this program has made us panic: it is killed, and its call ends by its deadline.
    pub(super) fn program_panicked(&mut self, token: usize) {
        if let Some((run, _)) = self.programs.of_token(token)
            && let Some(found) = self.programs.get_mut(run)
            && let Some(program) = &found.program
        {
            program.kill();
        }
    }

    /// Programs that run, or are being started, for a pool.
    pub(super) fn running(&self, index: usize) -> usize {
        let mine = |run: &&Run| run.pool == index && !run.forgotten;
        self.programs.iter().filter(mine).count()
    }

    /// The pool has ended a call of this service.
    pub(super) fn count_failed_call(&mut self, index: usize, reason: Reason) {
        if let Some(service) = self.pool(index).and_then(|state| state.service()) {
            service.figures.ended(outcome(say(reason, false).0));
            tracing::debug!(
                service = service.plan.name,
                ?reason,
                "a call has ended without an answer"
            );
        }
    }

    fn service_of(&mut self, run: &Run) -> Option<&mut Service> {
        if run.forgotten {
            return None;
        }
        self.pool(run.pool)?.service()
    }
}

/// Reads until nothing is there, a bounded number of times.
fn read_pipe(pipe: &mut Option<pipe::Receiver>, scratch: &mut [u8], mut take: impl FnMut(&[u8])) -> Piped {
    let Some(pipe) = pipe else { return Piped::Blocked };
    for _ in 0..ROUNDS {
        match pipe.read(scratch) {
            Ok(0) => return Piped::End,
            Ok(n) => take(scratch.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Piped::Blocked,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Piped::End,
        }
    }
    Piped::More
}

/// Keeps the last of what was written, in bounded memory.
fn keep_tail(kept: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = bytes.get(bytes.len().saturating_sub(ERRORS_BYTES)..).unwrap_or(bytes);
    kept.extend_from_slice(bytes);
    if kept.len() > 2 * ERRORS_BYTES {
        kept.drain(..kept.len() - ERRORS_BYTES);
    }
}

/// The last lines of what was written to standard error, as text.
fn tail(errors: &[u8]) -> String {
    let text = String::from_utf8_lossy(errors);
    let text = text.trim();
    let from = text.ceil_char_boundary(text.len().saturating_sub(ERRORS_TOLD_BYTES));
    let last = text.get(from..).unwrap_or_default();
    match last.split_once('\n') {
        // Begins with a whole line where there is one.
        Some((_, rest)) if from > 0 => rest.to_owned(),
        _ => last.to_owned(),
    }
}

/// 0 to 255, or minus the signal.
pub(super) fn code_of(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| -signal))
        .unwrap_or(-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_standard_error_the_last_whole_lines_are_told() {
        assert_eq!(tail(b"  one\ntwo\n"), "one\ntwo");
        assert_eq!(tail(b""), "");
        assert_eq!(tail(b"\xff\n"), "\u{fffd}");
        let mut kept = Vec::new();
        for number in 0..10_000 {
            keep_tail(&mut kept, format!("line {number}\n").as_bytes());
            assert!(kept.len() <= 2 * ERRORS_BYTES);
        }
        let told = tail(&kept);
        assert!(told.len() <= ERRORS_TOLD_BYTES && told.len() > ERRORS_TOLD_BYTES - 20);
        assert!(told.starts_with("line ") && told.ends_with("line 9999"), "{told}");
        keep_tail(&mut kept, &"é".repeat(100_000).into_bytes());
        let told = tail(&kept);
        assert!(
            told.len() <= ERRORS_TOLD_BYTES && told.chars().all(|c| c == 'é'),
            "{told}"
        );
    }

    #[test]
    fn an_end_is_a_status_or_a_signal() {
        assert_eq!(code_of(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(code_of(ExitStatus::from_raw(9)), -9);
    }
}
