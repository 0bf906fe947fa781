//! The programs that run for this worker, each with four descriptors in its poll.

use engine::core::{Ticket, UpstreamId};
use mio::Token;

use crate::drive::places::{PlaceRef, Places};
use crate::spawner::Program;

/// What is larger than this holds no password, and is not wiped.
pub const WIPED_BYTES_MAX: usize = 64 * 1024;
/// See [`Places::new`].
const TOKEN_BIT: u32 = 1;

/// Names a run for good.
pub type RunRef = PlaceRef;

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

impl End {
    /// In the order of their tokens.
    const ALL: [End; 4] = [End::Stdin, End::Stdout, End::Stderr, End::Exit];
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
#[derive(Debug)]
pub struct Programs(Places<Run>);

impl Default for Programs {
    fn default() -> Self {
        Programs(Places::new(TOKEN_BIT))
    }
}

impl Run {
    /// A request that a program is asked for.
    pub fn new(pool: usize, upstream: UpstreamId, ticket: Ticket, input: Vec<u8>, output_max: usize) -> Self {
        Run {
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
        wire::wipe::wipe(bytes);
    }
    *bytes = Vec::new();
}

impl Programs {
    /// A new turn: places left before now can be taken.
    pub fn turn(&mut self) {
        self.0.turn();
    }

    /// Takes a place.
    pub fn insert(&mut self, run: Run) -> RunRef {
        self.0.insert(run)
    }

    /// The run, if it has not ended.
    pub fn get_mut(&mut self, run: RunRef) -> Option<&mut Run> {
        self.0.get_mut(run)
    }

    /// It has ended.
    pub fn remove(&mut self, run: RunRef) -> Option<Run> {
        self.0.remove(run)
    }

    /// Who is meant by a token; none where it is not a program's.
    pub fn of_token(&self, token: usize) -> Option<(RunRef, End)> {
        let (run, which) = self.0.of_token(token)?;
        Some((run, *End::ALL.get(which)?))
    }

    /// Everybody.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.0.iter()
    }

    /// A run's token for one of its descriptors.
    pub fn token(&self, run: RunRef, end: End) -> usize {
        self.0.token(run, end as usize).0
    }

    /// Its four tokens.
    pub fn tokens(&self, run: RunRef) -> [Token; 4] {
        End::ALL.map(|end| self.0.token(run, end as usize))
    }
}
