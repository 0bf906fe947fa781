//! A service on its home: its plan and its figures.

use std::sync::Arc;

use wire::rpc::ErrorCode;

use super::calls::Answer;
use super::helper::figures::{Figures, Outcome};
use crate::config::plan;

/// See the module.
#[derive(Debug)]
pub struct Service {
    /// As configured.
    pub plan: Arc<plan::Service>,
    /// What is counted.
    pub figures: Figures,
    /// Calls interrupted.
    pub interrupted: u64,
    /// Helpers, or programs, killed.
    pub killed: u64,
    /// Why the last attempt at a helper failed; none: it did not.
    pub last_error: Option<String>,
    /// Of the helper whose end is being told just now.
    pub last_words: Option<LastWords>,
}

/// How a helper ended.
#[derive(Clone, Debug, Default)]
pub struct LastWords {
    /// 0 to 255, or minus the signal.
    pub status: i32,
    /// What it did wrong; none: it ended by itself.
    pub text: Option<String>,
}

impl Service {
    /// Nothing runs yet.
    pub fn new(plan: Arc<plan::Service>) -> Self {
        Service {
            plan,
            figures: Figures::default(),
            interrupted: 0,
            killed: 0,
            last_error: None,
            last_words: None,
        }
    }

    /// A call has ended with this.
    pub fn count(&mut self, answer: &Answer<'_>) {
        self.figures.ended(match answer {
            Answer::Part(_) | Answer::Ask(_) => return,
            Answer::Whole(_) => Outcome::Answered,
            Answer::Failed { code, .. } => outcome(*code),
        });
    }
}

/// How a call ended, by what its caller is told.
pub fn outcome(code: ErrorCode) -> Outcome {
    match code {
        ErrorCode::Failed { .. } => Outcome::Error,
        ErrorCode::Crashed { .. } => Outcome::Crashed,
        ErrorCode::Deadline => Outcome::Deadline,
        ErrorCode::Canceled => Outcome::Canceled,
        ErrorCode::QueueFull => Outcome::QueueFull,
        ErrorCode::QueueTimeout => Outcome::QueueTimeout,
        ErrorCode::TooLarge => Outcome::TooLarge,
        ErrorCode::ShuttingDown => Outcome::ShuttingDown,
        _ => Outcome::Unavailable,
    }
}
