//! `usherd service …`: what concerns one service.

pub mod size;

use clap::Subcommand;

/// `usherd service …`.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// How many helpers a load needs, and how long its calls would wait
    Size(size::Size),
}
