//! Why a call has no answer, or a connection was not made.

use std::{fmt, io};

use wire::rpc::ErrorCode;

/// Why a call has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallError {
    /// usherd, or the helper through it, says so.
    Refused {
        /// Why.
        code: ErrorCode,
        /// For people.
        text: String,
    },
    /// The connection ended while the call was open. A helper may have had it.
    Lost(String),
    /// The call was not sent, or not whole, so that no helper had it.
    NotSent(String),
    /// usherd has not ended the call at its deadline.
    Unanswered,
    /// The service asked for something that the caller did not say.
    NeedsInput,
    /// The request, or its answer, has more bytes than this.
    TooLarge(usize),
}

impl CallError {
    /// Whether certainly no helper had the call, so that trying it again cannot do it twice.
    #[must_use]
    pub fn retry_is_safe(&self) -> bool {
        match self {
            Self::Refused { code, .. } => code.reached_nobody(),
            Self::NotSent(_) => true,
            Self::Lost(_) | Self::Unanswered | Self::NeedsInput | Self::TooLarge(_) => false,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, text } if text.is_empty() => f.write_str(code.name()),
            Self::Refused { code, text } => write!(f, "{}: {text}", code.name()),
            Self::Lost(why) => write!(f, "the connection ended: {why}"),
            Self::NotSent(why) => write!(f, "the call was not sent: {why}"),
            Self::Unanswered => f.write_str("usherd has not answered by the deadline"),
            Self::NeedsInput => f.write_str("the service asks for input, and the call brings none"),
            Self::TooLarge(bytes) => write!(f, "larger than {bytes} bytes"),
        }
    }
}

impl std::error::Error for CallError {}

/// Why a connection was not made.
#[derive(Debug)]
pub enum ConnectError {
    /// The address, or what goes with it, is not right; the text says what would be.
    Address(String),
    /// Nobody listens there, or the connection broke.
    Io(io::Error),
    /// The listener refuses us, or is no listener of usherd.
    Refused(CallError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(why) => f.write_str(why),
            Self::Io(error) => write!(f, "cannot connect: {error}"),
            Self::Refused(error) => write!(f, "cannot connect: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Address(_) => None,
            Self::Io(error) => Some(error),
            Self::Refused(error) => Some(error),
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
