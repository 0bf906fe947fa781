//! What is counted of a service.

/// Why a helper ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// Nobody needed it.
    Idle,
    /// It has served its calls, or its time.
    Recycled,
    /// It did not come back from an interrupt, or was not ready in time.
    Timeout,
    /// By itself, or it broke the protocol.
    Crash,
    /// It had grown too large.
    Memory,
    /// The configuration has changed.
    Reload,
}

impl Exit {
    /// All of them, in the order of their figures.
    pub const ALL: [Exit; 6] = [
        Exit::Idle,
        Exit::Recycled,
        Exit::Timeout,
        Exit::Crash,
        Exit::Memory,
        Exit::Reload,
    ];

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Exit::Idle => "idle",
            Exit::Recycled => "recycled",
            Exit::Timeout => "timeout",
            Exit::Crash => "crash",
            Exit::Memory => "memory",
            Exit::Reload => "reload",
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// With an answer.
    Answered,
    /// With the helper's own error.
    Error,
    /// Its helper, or program, crashed.
    Crashed,
    /// Its deadline passed.
    Deadline,
    /// Its caller gave it up.
    Canceled,
    /// Too many waited.
    QueueFull,
    /// It waited too long.
    QueueTimeout,
    /// No helper, or program, could be had.
    Unavailable,
    /// Request or answer were too large.
    TooLarge,
    /// The service stops.
    ShuttingDown,
}

impl Outcome {
    /// All of them, in the order of their figures.
    pub const ALL: [Outcome; 10] = [
        Outcome::Answered,
        Outcome::Error,
        Outcome::Crashed,
        Outcome::Deadline,
        Outcome::Canceled,
        Outcome::QueueFull,
        Outcome::QueueTimeout,
        Outcome::Unavailable,
        Outcome::TooLarge,
        Outcome::ShuttingDown,
    ];

    /// Whether no helper had the call.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Outcome::QueueFull | Outcome::QueueTimeout | Outcome::Unavailable | Outcome::ShuttingDown
        )
    }

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::Error => "error",
            Outcome::Crashed => "crashed",
            Outcome::Deadline => "deadline",
            Outcome::Canceled => "canceled",
            Outcome::QueueFull => "queue-full",
            Outcome::QueueTimeout => "queue-timeout",
            Outcome::Unavailable => "unavailable",
            Outcome::TooLarge => "too-large",
            Outcome::ShuttingDown => "shutting-down",
        }
    }
}

/// Figures of one service; they only grow.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Helpers, or programs, asked for.
    pub starts: u64,
    /// Helpers that have ended, in the order of [`Exit::ALL`].
    pub exits: [u64; Exit::ALL.len()],
    /// Calls that have ended, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
}

impl Figures {
    /// One more helper has ended.
    pub fn exited(&mut self, exit: Exit) {
        if let Some(count) = self.exits.get_mut(exit as usize) {
            *count += 1;
        }
    }

    /// One more call has ended.
    pub fn ended(&mut self, outcome: Outcome) {
        if let Some(count) = self.outcomes.get_mut(outcome as usize) {
            *count += 1;
        }
    }
}
