//! The helper side against a harness that plays usherd: in this process, and with the examples as processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod ahead;
mod calls;
mod harness;
mod hostile;
mod processes;
mod threads;
