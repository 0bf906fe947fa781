//! What an operator can say to a feed.

use std::sync::mpsc::SyncSender;

use serde_json::Value;

use super::verify::Options;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// The held refresh may delete.
    Confirm,
    /// It may not.
    Reject,
    /// Forget the content and the cookie, and begin anew. Sequence numbers go on.
    Reset,
    /// Deliver nothing.
    Pause,
    /// Deliver again.
    Resume,
    /// Tell again, under new numbers, what entries are now: of every entry whose events had this number or a later one, or
    /// of all where that is not known any more.
    Replay {
        /// From which number.
        from: u64,
    },
    /// Tell again what the entries of dead letters are now, and forget the letters.
    ReplayDead {
        /// One of them; none: all.
        seq: Option<u64>,
    },
    /// Say which dead letters there are.
    Dead,
    /// Compare what is kept with what the directory has.
    Verify(Options),
}

/// A command and where its answer goes.
#[derive(Debug)]
pub struct Command {
    /// What is to be done.
    pub verb: Verb,
    /// What came of it.
    pub answer: SyncSender<Result<Value, String>>,
}
