//! Why a call has no answer: the codes of an error frame.

/// Why a call has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorCode {
    /// No service has this name.
    UnknownService,
    /// The service's queue is full. Sent nowhere; may be tried again.
    QueueFull,
    /// Waited in the queue as long as the service allows. Sent nowhere; may be tried again.
    QueueTimeout,
    /// The deadline passed.
    Deadline,
    /// The helper ended while it had the call.
    Crashed {
        /// Its exit status, 0 to 255; or minus the number of the signal that ended it.
        status: i32,
    },
    /// The service has no helper that runs. Sent nowhere; may be tried again.
    Unavailable,
    /// The daemon is stopping. Sent nowhere; may be tried again.
    ShuttingDown,
    /// The caller canceled it.
    Canceled,
    /// The request or the reply is larger than allowed.
    TooLarge,
    /// A frame was malformed or out of place.
    Protocol,
    /// The helper itself says that there is no answer, and why.
    Failed {
        /// Its own code, 0 to 65,535.
        code: i32,
    },
    /// The listener asks for a token, and it was missing or wrong. Sent nowhere.
    Denied,
    /// A code that this version does not know.
    Other(u16),
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::UnknownService => 1,
            Self::QueueFull => 2,
            Self::QueueTimeout => 3,
            Self::Deadline => 4,
            Self::Crashed { .. } => 5,
            Self::Unavailable => 6,
            Self::ShuttingDown => 7,
            Self::Canceled => 8,
            Self::TooLarge => 9,
            Self::Protocol => 10,
            Self::Failed { .. } => 11,
            Self::Denied => 12,
            Self::Other(number) => number,
        }
    }

    /// The name in logs and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownService => "unknown-service",
            Self::QueueFull => "queue-full",
            Self::QueueTimeout => "queue-timeout",
            Self::Deadline => "deadline",
            Self::Crashed { .. } => "crashed",
            Self::Unavailable => "unavailable",
            Self::ShuttingDown => "shutting-down",
            Self::Canceled => "canceled",
            Self::TooLarge => "too-large",
            Self::Protocol => "protocol",
            Self::Failed { .. } => "failed",
            Self::Denied => "denied",
            Self::Other(_) => "other",
        }
    }

    /// Whether the call certainly reached no helper, so that trying it again cannot do it twice.
    #[must_use]
    pub fn reached_nobody(self) -> bool {
        matches!(
            self,
            Self::UnknownService
                | Self::QueueFull
                | Self::QueueTimeout
                | Self::Unavailable
                | Self::ShuttingDown
                | Self::Denied
        )
    }

    /// What is written beside the number: an exit status, minus a signal, a helper's own code; 0 where there is nothing to say.
    #[must_use]
    pub fn detail(self) -> i32 {
        match self {
            Self::Crashed { status } => status,
            Self::Failed { code } => code,
            _ => 0,
        }
    }

    pub(super) fn from_numbers(number: u16, detail: i32) -> Self {
        match number {
            1 => Self::UnknownService,
            2 => Self::QueueFull,
            3 => Self::QueueTimeout,
            4 => Self::Deadline,
            5 => Self::Crashed { status: detail },
            6 => Self::Unavailable,
            7 => Self::ShuttingDown,
            8 => Self::Canceled,
            9 => Self::TooLarge,
            10 => Self::Protocol,
            11 => Self::Failed { code: detail },
            12 => Self::Denied,
            other => Self::Other(other),
        }
    }
}
