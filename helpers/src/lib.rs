//! The helpers that come with usherd: blocking code, one call at a time, each in a process of its own (`usherd helper NAME`).
//!
//! A helper has a pure part (a request in, an answer out, tested without what it stands for) and one module `ffi`, the only
//! place with `unsafe`, which asks the foreign library. The daemon never calls any of this in its own process: a stuck
//! library holds its helper and nothing else, and an interrupt, or a kill, frees the place.
//!
//! `winbind` and `pam` answer the identity calls (docs/identity-calls.md), which [`identity`] reads and writes; [`sql`] has calls of
//! its own.

#![warn(
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc,
    unsafe_op_in_unsafe_fn
)]

pub mod identity;
pub mod pam;
pub mod sql;
pub mod winbind;

/// Whoever waits for the answer to a call.
pub trait Caller {
    /// Hands `payload` to the caller and waits for its input.
    ///
    /// # Errors
    ///
    /// The caller has gone, the call is no longer wanted, or nobody is there who could be asked.
    fn ask(&mut self, payload: &[u8]) -> Result<Vec<u8>, CannotAsk>;

    /// Whether the call is no longer wanted: what a library answers after that is no verdict.
    fn interrupted(&mut self) -> bool;
}

/// Why a caller gave no input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CannotAsk {
    /// Its way of calling has no questions.
    Unable,
    /// It has gone, or the deadline has passed.
    Gone,
}

/// What a helper makes of a call.
pub enum Reply {
    /// An answer.
    Answer(zeroize::Zeroizing<Vec<u8>>),
    /// The call was interrupted: whatever could be said is no answer.
    Interrupted,
}

/// A helper that could not start, for people; usherd logs it and tries again within the service's crash budget.
#[derive(Debug)]
pub struct CannotStart(pub String);

impl std::fmt::Display for CannotStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CannotStart {}
