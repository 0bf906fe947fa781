//! The programs that run for this worker, and their tokens in its poll.
//!
//! A run has four descriptors in the poll. Their tokens are above every connection's: the high bit, the run's place, and
//! which of the four. A place that was left is taken again only in a later turn, so that an event for the old inhabitant
//! does not reach the new one.

use engine::core::{Ticket, UpstreamId};
use mio::Token;
use zeroize::Zeroize;

use crate::spawner::Program;

/// What is larger than this holds no password, and is not wiped.
pub const WIPED_BYTES_MAX: usize = 64 * 1024;
const PROGRAM: usize = 1 << (usize::BITS - 2);

/// Names a run for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunRef {
    at: usize,
    generation: u32,
}

/// Which of a run's descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Its standard input can be written.
    Stdin,
    /// Its standard output can be read.
    Stdout,
    /// Its standard error can be read.
    Stderr,
    /// The process has ended.
    Exit,
}

/// What was wished of a program before it had been started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Wish {
    /// That it does its work.
    Work,
    /// That it stops: the pool has interrupted it.
    Interrupt,
    /// That it is no more: the pool has killed it.
    Kill,
}

/// One program for one request, from the moment it is asked for until it is reaped.
#[derive(Debug)]
pub struct Run {
    generation: u32,
    /// Its service's pool.
    pub pool: usize,
    /// Its place there.
    pub upstream: UpstreamId,
    /// The request.
    pub ticket: Ticket,
    /// What is written to its standard input.
    pub input: Vec<u8>,
    /// How much of it has been written.
    pub written: usize,
    /// What it has written to its standard output.
    pub output: Vec<u8>,
    /// Its bound, in bytes.
    pub output_max: usize,
    /// It wrote more than that, and was killed.
    pub excess: bool,
    /// The last of what it has written to its standard error.
    pub errors: Vec<u8>,
    /// None: it is being started.
    pub program: Option<Box<Program>>,
    /// See [`Wish`].
    pub wish: Wish,
    /// Its pool knows nothing of it any more.
    pub forgotten: bool,
    /// It is in the list of those to be looked at again.
    pub again: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Programs {
    places: Vec<Option<Run>>,
    free: Vec<usize>,
    left: Vec<usize>,
    generation: u32,
}

impl Run {
    /// A request that a program is asked for.
    pub fn new(pool: usize, upstream: UpstreamId, ticket: Ticket, input: Vec<u8>, output_max: usize) -> Self {
        Run {
            generation: 0,
            pool,
            upstream,
            ticket,
            input,
            written: 0,
            output: Vec::new(),
            output_max,
            excess: false,
            errors: Vec::new(),
            program: None,
            wish: Wish::Work,
            forgotten: false,
            again: false,
        }
    }
}

impl Drop for Run {
    /// Requests and answers may hold secrets.
    fn drop(&mut self) {
        wipe(&mut self.input);
        wipe(&mut self.output);
    }
}

/// Empties a buffer that may hold a secret.
pub fn wipe(bytes: &mut Vec<u8>) {
    if bytes.len() <= WIPED_BYTES_MAX {
        bytes.zeroize();
    }
    *bytes = Vec::new();
}

impl Programs {
    /// A new turn: places left before now can be taken.
    pub fn turn(&mut self) {
        self.free.append(&mut self.left);
    }

    /// Takes a place.
    pub fn insert(&mut self, mut run: Run) -> RunRef {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        run.generation = generation;
        let at = self.free.pop().unwrap_or(self.places.len());
        match self.places.get_mut(at) {
            Some(place) => *place = Some(run),
            None => self.places.push(Some(run)),
        }
        RunRef { at, generation }
    }

    /// The run, if it has not ended.
    pub fn get_mut(&mut self, run: RunRef) -> Option<&mut Run> {
        self.places
            .get_mut(run.at)?
            .as_mut()
            .filter(|found| found.generation == run.generation)
    }

    /// It has ended.
    pub fn remove(&mut self, run: RunRef) -> Option<Run> {
        self.get_mut(run)?;
        self.left.push(run.at);
        self.places.get_mut(run.at)?.take()
    }

    /// Who is meant by a token; none where it is not a program's.
    pub fn of_token(&self, token: usize) -> Option<(RunRef, End)> {
        let below = token.checked_sub(PROGRAM)?;
        let at = below >> 2;
        let generation = self.places.get(at)?.as_ref()?.generation;
        let end = match below & 3 {
            0 => End::Stdin,
            1 => End::Stdout,
            2 => End::Stderr,
            _ => End::Exit,
        };
        Some((RunRef { at, generation }, end))
    }

    /// Everybody.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.places.iter().flatten()
    }
}

impl RunRef {
    /// A run's token for one of its descriptors.
    pub fn token(self, end: End) -> usize {
        let which = match end {
            End::Stdin => 0,
            End::Stdout => 1,
            End::Stderr => 2,
            End::Exit => 3,
        };
        PROGRAM | self.at << 2 | which
    }

    /// Its four tokens.
    pub fn tokens(self) -> [Token; 4] {
        [End::Stdin, End::Stdout, End::Stderr, End::Exit].map(|end| Token(self.token(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some ticket and upstream: only a pool makes them.
    fn names() -> (UpstreamId, Ticket) {
        use engine::core::policy::Kind;
        use engine::core::time::Instant;
        use engine::core::*;
        let lane = LaneConfig {
            slots: 1,
            cancel: CancelRule::Immediate,
            owned: false,
            probes: false,
            idle_timeout: None,
            spawn_rate_max: 0,
            opening_max: 0,
            lingers: None,
            pack: 1,
        };
        let limits = LaneLimits {
            min: 1,
            max: 1,
            min_spare: 0,
            upstream_pending_max: 0,
        };
        let server = ServerConfig {
            key: 0,
            weight: 1,
            pending_max: 0,
            lanes: vec![limits],
        };
        let config = PoolConfig {
            lanes: vec![lane],
            tiers: vec![(Kind::LeastBusy, vec![server])],
            queue_max: 1,
            health: HealthConfig::default(),
        };
        let (mut pool, mut effects, now) = (Pool::new(1), Vec::new(), Instant::ZERO);
        pool.configure(config, now, &mut effects);
        let Some(Effect::Open { upstream, .. }) = effects.first().copied() else {
            panic!("{effects:?}")
        };
        let request = Request {
            class: Class { lane: 0, retry: false },
            deadline: Instant::MAX,
            queue_wait_max: None,
            affinity: None,
            pin: None,
        };
        (upstream, pool.submit(request, 0, now, &mut effects).unwrap())
    }

    #[test]
    fn a_place_is_not_taken_again_in_the_turn_in_which_it_was_left() {
        let mut programs = Programs::default();
        let (upstream, ticket) = names();
        let run = || Run::new(0, upstream, ticket, Vec::new(), 1);
        let first = programs.insert(run());
        let token = first.token(End::Exit);
        assert_eq!(programs.of_token(token), Some((first, End::Exit)));
        assert!(programs.remove(first).is_some());
        let second = programs.insert(run());
        assert_eq!(programs.of_token(token), None, "an event for the first reaches nobody");
        assert!(programs.get_mut(first).is_none() && programs.get_mut(second).is_some());
        programs.turn();
        let third = programs.insert(run());
        assert_eq!(programs.of_token(token), Some((third, End::Exit)));
        assert!(programs.get_mut(first).is_none(), "the same place, another run");
        assert_eq!(programs.iter().count(), 2);
    }

    #[test]
    fn tokens_are_told_apart() {
        let mut programs = Programs::default();
        let (upstream, ticket) = names();
        let all: Vec<RunRef> = (0..3)
            .map(|_| programs.insert(Run::new(0, upstream, ticket, Vec::new(), 1)))
            .collect();
        let mut tokens: Vec<usize> = all.iter().flat_map(|run| run.tokens()).map(|token| token.0).collect();
        assert!(
            tokens
                .iter()
                .all(|token| *token != crate::worker::INBOX.0 && *token > 1 << 40)
        );
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 12);
        assert_eq!(programs.of_token(5), None, "a connection's");
        assert_eq!(programs.of_token(crate::worker::INBOX.0), None);
    }
}
