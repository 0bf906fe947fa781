//! Starts what a plan describes.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::Demo;
use crate::config::Plan;

/// Runs a plan until it is told to stop; `source` is the file that a reload reads again.
pub fn run(plan: Plan, source: Option<PathBuf>) -> ExitCode {
    drop((plan, source));
    tracing::error!("not linked yet");
    ExitCode::FAILURE
}

/// Runs the demo.
pub fn demo(args: &Demo) -> ExitCode {
    tracing::error!(?args, "not linked yet");
    ExitCode::FAILURE
}
